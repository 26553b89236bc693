#include "io/host_dns_program.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"

#define RUN_MS 10000
#define LOOK_MS 10
#define CONF "/etc/resolv.conf"
/* Debian's resolvconf lists the records of these first of all that are no loopback; openresolv is
 * told by -m 0 -x, which Debian's does not read. */
#define ORDER "/etc/resolvconf/interface-order"
#define FIRST "tun."

const char *mvpn_dns_program_find(void)
{
    static const char *const paths[] = {"/usr/sbin/resolvconf", "/sbin/resolvconf",
                                        "/usr/bin/resolvconf", "/usr/local/sbin/resolvconf"};
    char real[PATH_MAX];
    for (size_t i = 0; i < MVPN_ARRAY_LEN(paths); i++) {
        if (access(paths[i], X_OK) == 0 && realpath(paths[i], real) != NULL) {
            return strstr(real, "resolvectl") == NULL ? paths[i] : NULL;
        }
    }
    return NULL;
}

static void set_record(char *out, size_t size, const char *tun)
{
    (void)snprintf(out, size, "%s%s", access(ORDER, F_OK) == 0 ? FIRST : "", tun);
}

void mvpn_dns_program_init(mvpn_dns_program *p, const char *path, const char *tun)
{
    p->path = path;
    p->count = 0;
    set_record(p->record, sizeof(p->record), tun);
}

/* ---- running it ---- */

_Noreturn static void become(const char *path, char *const *arguments, int input)
{
    static char *const environment[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", NULL};
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    (void)signal(SIGPIPE, SIG_DFL);
    (void)signal(SIGTERM, SIG_DFL);
    (void)dup2(input, STDIN_FILENO);
    if (null >= 0) {
        (void)dup2(null, STDOUT_FILENO);
    }
    (void)execve(path, arguments, environment);
    _exit(127);
}

/* -1: it had to be killed. */
static int wait_for(pid_t pid)
{
    const struct timespec pause = {0, LOOK_MS * 1000000L};
    int status = 0;
    for (int ms = 0; ms < RUN_MS; ms += LOOK_MS) {
        pid_t r = waitpid(pid, &status, WNOHANG);
        if (r == pid) {
            return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
        }
        if (r < 0 && errno != EINTR) {
            return 128;
        }
        (void)nanosleep(&pause, NULL);
    }
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, &status, 0);
    return -1;
}

/* `text`, which a pipe takes whole, on its standard input. */
static int run(const char *path, char *const *arguments, const char *text, mvpn_fault *fault)
{
    int fds[2];
    size_t n = strlen(text);
    if (pipe2(fds, O_CLOEXEC) != 0) {
        return mvpn_fault_errno(fault, MVPN_E_SYSTEM, errno, "cannot run %s", path);
    }
    pid_t pid = fork();
    if (pid == 0) {
        become(path, arguments, fds[0]);
    }
    int err = errno;
    (void)close(fds[0]);
    if (pid >= 0) {
        (void)!write(fds[1], text, n);
    }
    (void)close(fds[1]);
    if (pid < 0) {
        return mvpn_fault_errno(fault, MVPN_E_SYSTEM, err, "cannot run %s", path);
    }
    int status = wait_for(pid);
    if (status == 0) {
        return 0;
    }
    return status < 0 ? mvpn_fault_set(fault, MVPN_E_SYSTEM, "%s %s did not end within %d s", path,
                                       arguments[1], RUN_MS / 1000)
                      : mvpn_fault_set(fault, MVPN_E_SYSTEM, "%s %s failed (exit status %d)", path,
                                       arguments[1], status);
}

static int add(mvpn_dns_program *p, mvpn_fault *fault)
{
    char *const arguments[] = {"resolvconf", "-a", p->record, "-m", "0", "-x", NULL};
    char text[4 * MVPN_ADDR_STRLEN] = "", server[MVPN_ADDR_STRLEN];
    size_t at = 0;
    for (size_t i = 0; i < p->count; i++) {
        at += (size_t)snprintf(text + at, sizeof(text) - at, "nameserver %s\n",
                               mvpn_addr_format(&p->servers[i], server));
    }
    return run(p->path, arguments, text, fault);
}

static int take(const char *path, char *record, mvpn_fault *fault)
{
    char *const arguments[] = {"resolvconf", "-d", record, NULL};
    return run(path, arguments, "", fault);
}

/* ---- what came of it ---- */

/* A name server of this host's own (dnsmasq, unbound) may stand between: it asks whom resolvconf
 * names. */
static bool is_us_first(mvpn_dns_program *p)
{
    static const mvpn_addr local[] = {{.family = 4, .ip = {127, 0, 0, 1}},
                                      {.family = 6, .ip = {[15] = 1}}};
    FILE *file = fopen(CONF, "re");
    if (file == NULL) {
        return false;
    }
    size_t n = fread(p->seen, 1, sizeof(p->seen), file);
    (void)fclose(file);
    mvpn_bytes text = mvpn_bytes_of(p->seen, n);
    return mvpn_resolv_conf_asks(text, p->servers, p->count, true) ||
           mvpn_resolv_conf_asks(text, local, MVPN_ARRAY_LEN(local), true);
}

static int say(mvpn_dns_program *p, mvpn_fault *fault)
{
    int r = add(p, fault);
    if (r != 0 || is_us_first(p)) {
        return r;
    }
    /* What it has from us it takes for told: it writes the file only when something is new. */
    MVPN_IGNORE(take(p->path, p->record, NULL));
    r = add(p, fault);
    return r != 0 || is_us_first(p)
               ? r
               : mvpn_fault_set(fault, MVPN_E_STATE,
                                "resolvconf does not put the tunnel's name server first in " CONF
                                " (was that replaced by a plain file? set dns = file)");
}

int mvpn_dns_program_set(mvpn_dns_program *p, const mvpn_addr *servers, size_t count,
                         mvpn_fault *fault)
{
    p->count = MVPN_MIN(count, MVPN_ARRAY_LEN(p->servers));
    memcpy(p->servers, servers, p->count * sizeof(p->servers[0]));
    return say(p, fault);
}

int mvpn_dns_program_tend(mvpn_dns_program *p, bool *ret_repaired, mvpn_fault *fault)
{
    *ret_repaired = false;
    if (is_us_first(p)) {
        return 0;
    }
    int r = say(p, fault);
    *ret_repaired = r == 0;
    return r;
}

int mvpn_dns_program_restore(mvpn_dns_program *p, mvpn_fault *fault)
{
    return take(p->path, p->record, fault);
}

int mvpn_dns_program_mend(const char *tun, mvpn_fault *fault)
{
    /* Debian's, openresolv's. */
    static const char *const dirs[] = {"/run/resolvconf/interface", "/run/resolvconf/interfaces"};
    const char *path = mvpn_dns_program_find();
    char record[MVPN_RESOLV_CONF_TUN_MAX + 8], file[PATH_MAX];
    set_record(record, sizeof(record), tun);
    for (size_t i = 0; path != NULL && i < MVPN_ARRAY_LEN(dirs); i++) {
        (void)snprintf(file, sizeof(file), "%s/%s", dirs[i], record);
        if (access(file, F_OK) == 0) {
            return take(path, record, fault);
        }
    }
    return 0;
}
