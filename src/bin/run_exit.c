/*
 *   meshvpn run ── the command, in a network namespace of its own: a TUN device and nothing else
 *       │  ^  <── the device's descriptor
 *       └──────── meshvpn-client, in the host's namespace, carries that device; its state
 *                 directory is its own, with the guards of the host's client: no more of them
 *
 * The client ends when its standard input does, whatever becomes of us; the command is told.
 */
#include "bin/run_exit.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "bin/beside.h"
#include "bin/child.h"
#include "bin/run.h"
#include "bin/run_space.h"
#include "io/clock.h"
#include "io/config.h"
#include "io/control.h"
#include "io/file.h"
#include "io/statefile.h"
#include "network/ip/inner.h"

#define EXIT_NOT_CONNECTED 3
#define CLIENT_CONF "/etc/meshvpn/client.conf"
#define DIR_PREFIX "run-"
/* A cold start over a bad line. */
#define CONNECT_S 60
#define POLL_MS 100
#define END_MS 5000

typedef struct second {
    mvpn_config config;
    const char *config_path, *exit;
    char dir[PATH_MAX + 32], control[PATH_MAX + 64], log[PATH_MAX + 64], names[PATH_MAX + 64];
    int sync; /* to the command's process */
    int life; /* the client ends with it */
    pid_t command, client;
    bool had_guards;
} second;

static int fail(const mvpn_fault *fault)
{
    (void)fprintf(stderr, "meshvpn: %s\n", fault->text);
    return EXIT_FAILURE;
}

/* ---- the directory ---- */

static void remove_dir(const char *path)
{
    DIR *dir = opendir(path);
    const struct dirent *e;
    while (dir != NULL && (e = readdir(dir)) != NULL) {
        (void)unlinkat(dirfd(dir), e->d_name, 0);
    }
    if (dir != NULL) {
        (void)closedir(dir);
    }
    (void)rmdir(path);
}

/* Of runs that were killed. */
static void sweep(const char *run_dir)
{
    DIR *dir = opendir(run_dir);
    const struct dirent *e;
    char path[PATH_MAX];
    while (dir != NULL && (e = readdir(dir)) != NULL) {
        long pid = strncmp(e->d_name, DIR_PREFIX, strlen(DIR_PREFIX)) == 0
                       ? strtol(e->d_name + strlen(DIR_PREFIX), NULL, 10)
                       : 0;
        if (pid > 1 && kill((pid_t)pid, 0) != 0 && errno == ESRCH &&
            snprintf(path, sizeof(path), "%s/%s", run_dir, e->d_name) < (int)sizeof(path)) {
            remove_dir(path);
        }
    }
    if (dir != NULL) {
        (void)closedir(dir);
    }
}

static bool copy_state(const char *from, const char *to, enum mvpn_statefile which)
{
    uint8_t *bytes = NULL;
    size_t size = 0;
    bool is_whole = false;
    bool ok = mvpn_statefile_load(from, which, &bytes, &size, &is_whole, NULL) == 0 && is_whole &&
              mvpn_statefile_save(to, which, mvpn_bytes_of(bytes, size), NULL) == 0;
    mvpn_file_free(bytes, size);
    return ok;
}

static int write_names(const second *s, mvpn_fault *fault)
{
    char text[64], gateway[MVPN_ADDR_STRLEN];
    const mvpn_addr addr = mvpn_inner_gateway_addr(4);
    int n = snprintf(text, sizeof(text), "nameserver %s\n", mvpn_addr_format(&addr, gateway));
    int fd = open(s->names, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    bool ok = fd >= 0 && fchmod(fd, 0644) == 0 && write(fd, text, (size_t)n) == n;
    int err = errno;
    (void)(fd >= 0 && close(fd));
    return ok ? 0 : mvpn_fault_errno(fault, MVPN_E_SYSTEM, err, "cannot write %s", s->names);
}

static int prepare(second *s, mvpn_fault *fault)
{
    static const enum mvpn_statefile shared[] = {MVPN_STATE_VIEW, MVPN_STATE_ENTRIES,
                                                 MVPN_STATE_KEY, MVPN_STATE_CLOCK};
    const mvpn_config *c = &s->config;
    if (strlen(c->run_dir) > sizeof(s->config.control_socket) - 40) {
        return mvpn_fault_set(fault, MVPN_E_CONFIG, "run_dir %s is too long", c->run_dir);
    }
    (void)mkdir(c->run_dir, 0755);
    sweep(c->run_dir);
    (void)snprintf(s->dir, sizeof(s->dir), "%s/" DIR_PREFIX "%ld", c->run_dir, (long)getpid());
    (void)snprintf(s->control, sizeof(s->control), "%s/control.sock", s->dir);
    (void)snprintf(s->log, sizeof(s->log), "%s/client.log", s->dir);
    (void)snprintf(s->names, sizeof(s->names), "%s/resolv.conf", s->dir);
    int r = mvpn_statefile_prepare(s->dir, fault);
    for (size_t i = 0; r == 0 && i < MVPN_ARRAY_LEN(shared); i++) {
        (void)copy_state(c->state_dir, s->dir, shared[i]);
    }
    s->had_guards = r == 0 && copy_state(c->state_dir, s->dir, MVPN_STATE_GUARDS);
    return r != 0 ? r : write_names(s, fault);
}

/* ---- the command's process ---- */

static int send_tun(int sync, int tun)
{
    char byte = 0, control[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8))) = {0};
    struct iovec iov = {&byte, 1};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control,
                         .msg_controllen = sizeof(control)};
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &tun, sizeof(tun));
    return sendmsg(sync, &msg, MSG_NOSIGNAL) == 1 ? 0 : -1;
}

static int receive_tun(int sync)
{
    char byte, control[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8)));
    struct iovec iov = {&byte, 1};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control,
                         .msg_controllen = sizeof(control)};
    int tun = -1;
    ssize_t n = recvmsg(sync, &msg, MSG_CMSG_CLOEXEC);
    struct cmsghdr *c = n == 1 ? CMSG_FIRSTHDR(&msg) : NULL;
    if (c != NULL && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
        memcpy(&tun, CMSG_DATA(c), sizeof(tun));
    }
    return tun;
}

_Noreturn static void be_command(const second *s, int sync, char **command)
{
    mvpn_fault fault = {.text = ""};
    char byte;
    int tun = -1;
    (void)prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0);
    int r = run_space_enter(&tun, &fault);
    r = r != 0 ? r : run_space_names(s->names, &fault);
    if (r != 0) {
        (void)fail(&fault);
        _exit(EXIT_FAILURE);
    }
    if (send_tun(sync, tun) != 0) {
        _exit(EXIT_FAILURE);
    }
    (void)close(tun);
    if (recv(sync, &byte, 1, 0) != 1) { /* no connection: it has been said */
        _exit(EXIT_FAILURE);
    }
    _exit(run_execute(command));
}

/* ---- the client ---- */

_Noreturn static void be_client(const second *s, int tun, int life)
{
    char number[16];
    char *argv[] = {"meshvpn-client",
                    "--config",
                    (char *)(uintptr_t)s->config_path,
                    "--exit",
                    (char *)(uintptr_t)s->exit,
                    "--tun-fd",
                    number,
                    "--own-dir",
                    (char *)(uintptr_t)s->dir,
                    NULL};
    int log = open(s->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    int kept = fcntl(tun, F_DUPFD, 3);
    (void)snprintf(number, sizeof(number), "%d", kept);
    (void)setpgid(0, 0); /* the terminal's signals are the command's */
    if (log >= 0 && kept >= 0 && dup2(life, STDIN_FILENO) >= 0 && dup2(log, STDOUT_FILENO) >= 0 &&
        dup2(log, STDERR_FILENO) >= 0) {
        exec_beside("meshvpn-client", argv);
    }
    _exit(EXIT_FAILURE);
}

static bool is_connected(const second *s)
{
    mvpn_fault fault;
    json_t *request = json_pack("{s:s}", "cmd", "status"), *reply = NULL;
    bool is = request != NULL && mvpn_control_ask(s->control, request, 3000, &reply, &fault) == 0;
    const char *state = is ? json_string_value(json_object_get(reply, "state")) : NULL;
    is = state != NULL && strcmp(state, "connected") == 0;
    json_decref(request);
    json_decref(reply);
    return is;
}

static void show_log(const second *s)
{
    char text[2048], *line = text;
    FILE *log = fopen(s->log, "re");
    size_t n = log != NULL && (fseek(log, -(long)sizeof(text) + 1, SEEK_END) == 0 ||
                               fseek(log, 0, SEEK_SET) == 0)
                   ? fread(text, 1, sizeof(text) - 1, log)
                   : 0;
    text[n] = '\0';
    for (char *p = text; n > 0 && p < text + n - 1; p++) { /* the last three lines */
        unsigned lines = 0;
        for (const char *q = p; (q = strchr(q, '\n')) != NULL; q++) {
            lines++;
        }
        if (lines <= 3 && (p == text || p[-1] == '\n')) {
            line = p;
            break;
        }
    }
    (void)fprintf(stderr, "%s", line);
    (void)(log != NULL && fclose(log));
}

/* 0, or the exit status. */
static int wait_connected(second *s)
{
    static const struct timespec pause = {.tv_nsec = POLL_MS * 1000000};
    mvpn_time end = mvpn_clock_now() + MVPN_S(CONNECT_S);
    int status;
    while (mvpn_clock_now() < end) {
        if (is_connected(s)) {
            return 0;
        }
        if (waitpid(s->client, &status, WNOHANG) == s->client) {
            s->client = -1;
            (void)fprintf(stderr, "meshvpn: the second client ended:\n");
            show_log(s);
            return WIFEXITED(status) && WEXITSTATUS(status) == OPTIONS_USAGE ? OPTIONS_USAGE
                                                                             : EXIT_FAILURE;
        }
        if (waitpid(s->command, &status, WNOHANG) == s->command) {
            s->command = -1;
            return EXIT_FAILURE;
        }
        (void)nanosleep(&pause, NULL);
    }
    (void)fprintf(stderr,
                  "meshvpn: no circuit to an exit '%s' within %d s (meshvpn exit list shows those "
                  "that there are):\n",
                  s->exit, CONNECT_S);
    show_log(s);
    return EXIT_NOT_CONNECTED;
}

static void end_client(second *s)
{
    static const struct timespec pause = {.tv_nsec = 20 * 1000000};
    mvpn_time end = mvpn_clock_now() + MVPN_MS(END_MS);
    (void)close(s->life);
    while (s->client > 0 && waitpid(s->client, NULL, WNOHANG) == 0) {
        if (mvpn_clock_now() >= end) {
            (void)kill(s->client, SIGKILL);
        }
        (void)nanosleep(&pause, NULL);
    }
}

/* ---- all of it ---- */

static pid_t command_pid;

static void pass_signal(int signo)
{
    if (command_pid > 0) {
        (void)kill(command_pid, signo);
    }
}

static int wait_command(const second *s)
{
    command_pid = s->command;
    (void)signal(SIGTERM, pass_signal);
    (void)signal(SIGHUP, pass_signal);
    return child_wait(s->command);
}

static int start_command(second *s, char **command)
{
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) != 0) {
        return -1;
    }
    s->command = fork();
    if (s->command == 0) {
        (void)close(fds[0]); /* or our end would never be one */
        be_command(s, fds[1], command);
    }
    (void)close(fds[1]);
    s->sync = fds[0];
    return s->command > 0 ? receive_tun(fds[0]) : -1;
}

static int start_client(second *s, int tun)
{
    int life[2];
    if (pipe2(life, O_CLOEXEC) != 0) {
        return -1;
    }
    s->client = fork();
    if (s->client == 0) {
        be_client(s, tun, life[0]);
    }
    (void)close(life[0]);
    s->life = life[1];
    return s->client > 0 ? 0 : -1;
}

static int run_both(second *s, char **command)
{
    int status = EXIT_FAILURE, tun = start_command(s, command);
    if (tun < 0) {
        (void)waitpid(s->command, NULL, 0); /* it has said why */
        return EXIT_FAILURE;
    }
    if (start_client(s, tun) == 0) {
        (void)close(tun);
        (void)signal(SIGINT, SIG_IGN); /* of the terminal: the command's to decide */
        (void)signal(SIGQUIT, SIG_IGN);
        status = wait_connected(s);
        if (status == 0 && send(s->sync, "", 1, MSG_NOSIGNAL) == 1) {
            status = wait_command(s);
            s->command = -1;
        }
        end_client(s);
    }
    (void)close(s->sync);
    if (s->command > 0) {
        (void)waitpid(s->command, NULL, 0);
    }
    return status;
}

int run_exit(const options_given *given, const char *exit)
{
    mvpn_fault fault = {.text = ""};
    const char *path = options_text(given, "--config");
    second *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return EXIT_FAILURE;
    }
    s->config_path = path != NULL ? path : CLIENT_CONF;
    s->exit = exit;
    s->sync = s->life = s->client = s->command = -1;
    int status = EXIT_FAILURE;
    if (geteuid() != 0) {
        (void)fprintf(stderr, "meshvpn: run --exit makes a network namespace: use sudo\n");
    } else if (mvpn_config_load(s->config_path, MVPN_CONFIG_CLIENT, &s->config, &fault) != 0) {
        (void)fail(&fault);
        status = OPTIONS_USAGE;
    } else if (prepare(s, &fault) != 0) {
        (void)fail(&fault);
    } else {
        status = run_both(s, given->rest);
        /* The first client ever here: the next one takes its guards. */
        if (!s->had_guards && access(s->config.state_dir, F_OK) == 0) {
            (void)copy_state(s->dir, s->config.state_dir, MVPN_STATE_GUARDS);
        }
    }
    if (s->dir[0] != '\0') {
        remove_dir(s->dir);
    }
    free(s);
    return status;
}
