#include "bin/up_daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "bin/beside.h"
#include "bin/child.h"
#include "bin/programs.h"
#include "bin/up_trouble.h"
#include "io/logger.h"

#define UNIT "meshvpn.service"
/* Of what a daemon said before it died: all, as it says little. */
#define LOG_SHOWN_MAX 8192
#define LOG_MAX "4194304" /* what meshvpn log reads */

/* ---- running programs ---- */

static void exec_or_die(char *const argv[])
{
    exec_beside(argv[0], (char **)argv);
    (void)fprintf(stderr, "meshvpn: cannot run %s: %s\n", argv[0], strerror(errno));
    _exit(127);
}

int up_daemon_run(char *const argv[])
{
    (void)fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        exec_or_die(argv);
    }
    return pid < 0 ? -1 : child_wait(pid);
}

/* ---- systemd ---- */

static int start_unit(int *ret_exit, mvpn_fault *fault)
{
    static char systemctl[] = "systemctl", start[] = "start", unit[] = UNIT;
    static char journalctl[] = "journalctl", by[] = "-u", lines[] = "-n", count[] = "8",
                output[] = "-o", cat[] = "cat", plain[] = "--no-pager", quiet[] = "-q";
    char *const start_argv[] = {systemctl, start, unit, NULL};
    char *const log_argv[] = {journalctl, quiet, by, unit, lines, count, output, cat, plain, NULL};
    int code = up_daemon_run(start_argv);
    if (code == 0) {
        return 0;
    }
    if (code == 127 || code == -1) {
        return mvpn_fault_set(fault, MVPN_E_SYSTEM, "cannot run systemctl");
    }
    (void)fprintf(stderr, "meshvpn: systemd could not start " UNIT ". What it said:\n");
    (void)up_daemon_run(log_argv);
    *ret_exit = UP_FAILED;
    return MVPN_E_CLOSED;
}

/* ---- in the background ---- */

static int open_log(up_daemon *d, const mvpn_config *config, mvpn_fault *fault)
{
    (void)mkdir(config->run_dir, 0755);
    if (snprintf(d->log, sizeof(d->log), "%s/client.log", config->run_dir) >= (int)sizeof(d->log)) {
        return mvpn_fault_set(fault, MVPN_E_CONFIG, "run_dir is too long");
    }
    (void)unlink(d->log); /* not what somebody may have put there */
    int fd = open(d->log, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0640);
    if (fd < 0) {
        (void)mvpn_fault_errno(fault, MVPN_E_SYSTEM, errno, "cannot write %s", d->log);
    }
    return fd;
}

/* In the child: a session of its own, so that neither Ctrl-C nor the terminal's end reach it. */
static void become_daemon(int log, char *const argv[])
{
    sigset_t none;
    int null = open("/dev/null", O_RDWR);
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)signal(SIGINT, SIG_DFL);
    (void)setsid();
    if (chdir("/") != 0 || dup2(null, 0) < 0 || dup2(log, 1) < 0 || dup2(log, 2) < 0) {
        _exit(127);
    }
    (void)close_range(3, ~0U, 0);
    (void)unsetenv("NOTIFY_SOCKET");
    (void)setenv(MVPN_LOGGER_FILE_MAX, LOG_MAX, 1);
    exec_or_die(argv);
}

static int start_beside(up_daemon *d, const mvpn_config *config, const char *path,
                        const options_given *given, mvpn_fault *fault)
{
    static char program[] = "meshvpn-client", config_option[] = "--config", hops[] = "--hops",
                exit_option[] = "--exit";
    char file[PATH_MAX];
    char *argv[8];
    size_t n = 0;
    const char *values[] = {options_text(given, "--hops"), options_text(given, "--exit")};
    char *const names[] = {hops, exit_option};
    if (realpath(path, file) == NULL) {
        return mvpn_fault_errno(fault, MVPN_E_SYSTEM, errno, "cannot find %s", path);
    }
    argv[n++] = program;
    argv[n++] = config_option;
    argv[n++] = file;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(values); i++) {
        if (values[i] != NULL) {
            argv[n++] = names[i];
            argv[n++] = (char *)values[i]; /* execv changes nothing */
        }
    }
    argv[n] = NULL;
    int log = open_log(d, config, fault);
    if (log < 0) {
        return log;
    }
    (void)fflush(NULL);
    d->pid = fork();
    if (d->pid == 0) {
        become_daemon(log, argv);
    }
    (void)close(log);
    return d->pid > 0 ? 0 : mvpn_fault_errno(fault, MVPN_E_SYSTEM, errno, "cannot start a process");
}

int up_daemon_start(up_daemon *ret, const mvpn_config *config, const char *path, bool is_default,
                    const options_given *given, int *ret_exit, mvpn_fault *fault)
{
    *ret = (up_daemon){.pid = -1};
    return is_default && program_has_systemd() && program_has_unit(UNIT)
               ? start_unit(ret_exit, fault)
               : start_beside(ret, config, path, given, fault);
}

/* ---- its death ---- */

static void show_log(const char *path)
{
    char text[LOG_SHOWN_MAX];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof(text)) : -1;
    if (n > 0) {
        (void)fwrite(text, 1, (size_t)n, stderr);
    }
    if (fd >= 0) {
        (void)close(fd);
    }
}

bool up_daemon_has_died(up_daemon *d, int *ret_exit)
{
    int status = 0;
    if (d->pid <= 0 || waitpid(d->pid, &status, WNOHANG) != d->pid) {
        return false;
    }
    d->pid = -1;
    show_log(d->log);
    if (WIFSIGNALED(status)) {
        (void)fprintf(stderr, "meshvpn: meshvpn-client was ended by signal %d\n", WTERMSIG(status));
    } else {
        (void)fprintf(stderr, "meshvpn: meshvpn-client ended with exit status %d\n",
                      WEXITSTATUS(status));
    }
    /* What is wrong with the configuration is so here too. */
    *ret_exit = WIFEXITED(status) && WEXITSTATUS(status) == 2 ? UP_USAGE : UP_FAILED;
    return true;
}
