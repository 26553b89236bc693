#include "io/host_dns.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "io/host_dns_file.h"
#include "io/host_dns_program.h"
#include "io/host_dns_resolved.h"
#include "io/sandbox.h"
#include "network/ip/inner.h"

/* The bus may be slow to greet. */
#define START_MS 10000
#define SET_MS 500
#define END_MS 6000
/* Changes of which nothing tells: what another program does is found within a second. */
#define TICK_MS 700
/* Two programs that both want the last word. */
#define REPAIR_PAUSE_MS 200
#define FD 3

enum op { OP_SET = 1, OP_END };

/* Both ends are this program. */
struct request {
    enum op op;
    uint32_t index;
    mvpn_addr gateway_v4;
    char tun[MVPN_RESOLV_CONF_TUN_MAX + 1];
};
struct reply {
    int code;
    mvpn_fault fault;
};

struct mvpn_host_dns {
    int fd;
    bool is_told, is_gone;
};

/* ---- the process ---- */

struct keeper {
    const mvpn_config_client *config;
    mvpn_host_dns_report *report;
    enum mvpn_dns_manager manager;
    mvpn_dns_file *file;
    mvpn_dns_resolved *resolved;
    const char *path; /* of resolvconf */
    mvpn_dns_program program;
    bool is_told;    /* OP_SET came: it is to be so from now on */
    bool has_failed; /* and is not; said once */
};

static void say(const char *level, const char *text)
{
    char line[640];
    int n = snprintf(line, sizeof(line), "%s: names: %s\n", level, text);
    (void)!write(STDERR_FILENO, line, (size_t)MVPN_MIN(n, (int)sizeof(line) - 1));
}

static size_t read_conf(char *out, size_t size, char real[static PATH_MAX])
{
    FILE *file = fopen("/etc/resolv.conf", "re");
    size_t n = 0;
    if (file != NULL) {
        n = fread(out, 1, size, file);
        (void)fclose(file);
    }
    if (realpath("/etc/resolv.conf", real) == NULL) {
        real[0] = '\0';
    }
    return n;
}

/* The bus is asked only where its answer would count. */
static void choose(struct keeper *k)
{
    char real[PATH_MAX];
    char *text = k->program.seen;
    size_t n = read_conf(text, sizeof(k->program.seen), real);
    mvpn_dns_facts facts = {.text = mvpn_bytes_of(text, n),
                            .path = real,
                            .has_resolved = true,
                            .has_resolvconf = k->path != NULL};
    if (mvpn_dns_choose(&facts) == MVPN_DNS_RESOLVED) {
        facts.has_resolved = mvpn_dns_resolved_open(&k->resolved, NULL) == 0;
    }
    k->manager = mvpn_dns_choose(&facts);
}

static int open_manager(struct keeper *k, mvpn_fault *fault)
{
    k->path = mvpn_dns_program_find();
    k->manager = k->config->dns;
    int r = 0;
    if (k->manager == MVPN_DNS_AUTO) {
        choose(k);
    } else if (k->manager == MVPN_DNS_RESOLVED) {
        r = mvpn_dns_resolved_open(&k->resolved, fault);
    }
    atomic_store(&k->report->manager, k->manager);
    if (k->manager == MVPN_DNS_FILE) {
        r = mvpn_dns_file_open(MVPN_DNS_FILE_DIR, &k->file, fault);
    } else if (k->manager == MVPN_DNS_RESOLVCONF && k->path == NULL) {
        r = mvpn_fault_set(fault, MVPN_E_CONFIG,
                           "dns = resolvconf, but there is no program resolvconf: install it, or "
                           "set dns = auto");
    }
    return r;
}

static int enter_sandbox(const struct keeper *k, mvpn_fault *fault)
{
    mvpn_sandbox_state state;
    mvpn_sandbox_options options = {.role = k->manager == MVPN_DNS_FILE ? MVPN_SANDBOX_FILES
                                            : k->manager == MVPN_DNS_RESOLVED
                                                ? MVPN_SANDBOX_BUS
                                                : MVPN_SANDBOX_PROGRAM};
    if (k->manager == MVPN_DNS_FILE) {
        options.edit_dirs[0] = MVPN_DNS_FILE_DIR;
    } else if (k->manager == MVPN_DNS_RESOLVCONF) {
        /* Its scripts write there, and tell servers of this host to read it. */
        options.edit_dirs[0] = MVPN_DNS_FILE_DIR;
        options.edit_dirs[1] = "/run";
        options.edit_dirs[2] = "/tmp";
        options.edit_dirs[3] = "/dev";
    }
    return mvpn_sandbox_enter(&options, &state, fault);
}

static size_t servers_of(const struct request *m, mvpn_addr ret[static 2])
{
    ret[0] = m->gateway_v4;
    ret[1] = mvpn_inner_gateway_addr(6);
    return 2;
}

static int set(struct keeper *k, const struct request *m, mvpn_fault *fault)
{
    mvpn_addr servers[2];
    size_t count = servers_of(m, servers);
    if (k->manager == MVPN_DNS_FILE) {
        return mvpn_dns_file_set(k->file, m->tun, servers, count, fault);
    }
    if (k->manager == MVPN_DNS_RESOLVED) {
        return mvpn_dns_resolved_set(k->resolved, m->index, servers, count, fault);
    }
    mvpn_dns_program_init(&k->program, k->path, m->tun);
    return mvpn_dns_program_set(&k->program, servers, count, fault);
}

static int tend(struct keeper *k, bool *ret_repaired, mvpn_fault *fault)
{
    return k->manager == MVPN_DNS_FILE ? mvpn_dns_file_tend(k->file, ret_repaired, fault)
           : k->manager == MVPN_DNS_RESOLVED
               ? mvpn_dns_resolved_tend(k->resolved, ret_repaired, fault)
               : mvpn_dns_program_tend(&k->program, ret_repaired, fault);
}

static int restore(struct keeper *k, mvpn_fault *fault)
{
    return k->manager == MVPN_DNS_FILE       ? mvpn_dns_file_restore(k->file, fault)
           : k->manager == MVPN_DNS_RESOLVED ? mvpn_dns_resolved_restore(k->resolved, fault)
                                             : mvpn_dns_program_restore(&k->program, fault);
}

static void note(struct keeper *k, int code, const mvpn_fault *fault)
{
    if (code != 0 && !k->has_failed) {
        say("error", fault->text);
    } else if (code == 0 && k->has_failed) {
        say("info", "asked through the tunnel again");
    }
    k->has_failed = code != 0;
    atomic_store(&k->report->is_set, code == 0);
}

static void keep(struct keeper *k)
{
    const struct timespec pause = {0, REPAIR_PAUSE_MS * 1000000L};
    mvpn_fault fault = {.text = ""};
    bool is_repaired = false;
    bool had_failed = k->has_failed;
    int r = tend(k, &is_repaired, &fault);
    note(k, r, &fault);
    if (is_repaired && !had_failed) {
        uint32_t times = atomic_fetch_add(&k->report->repaired, 1);
        if ((times & (times + 1)) == 0) { /* the 1st, 2nd, 4th ... : somebody may do it all day */
            say("warning", "another program changed the name servers: they are the tunnel's again");
        }
        (void)nanosleep(&pause, NULL);
    }
}

static void give_back(struct keeper *k)
{
    mvpn_fault fault = {.text = ""};
    if (k->is_told) {
        int r = restore(k, &fault);
        if (r != 0) {
            say(r == MVPN_E_STATE ? "warning" : "error", fault.text);
        }
    }
    k->is_told = false;
    atomic_store(&k->report->is_set, 0);
}

static void answer(int code, const mvpn_fault *fault)
{
    struct reply reply = {.code = code, .fault = *fault};
    (void)!send(FD, &reply, sizeof(reply), MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* False: that was all. */
static bool serve(struct keeper *k)
{
    mvpn_fault fault = {.text = ""};
    struct request m;
    ssize_t n = recv(FD, &m, sizeof(m), 0);
    if (n < 0 && errno == EINTR) {
        return true;
    }
    if (n != (ssize_t)sizeof(m) || m.op != OP_SET) {
        give_back(k);
        answer(0, &fault);
        return false;
    }
    k->is_told = true;
    int r = set(k, &m, &fault);
    note(k, r, &fault);
    answer(r, &fault);
    return true;
}

static int wait_ms(const struct keeper *k)
{
    bool is_blind = k->manager != MVPN_DNS_FILE || mvpn_dns_file_is_blind(k->file);
    return k->is_told && (is_blind || k->has_failed) ? TICK_MS : -1;
}

static void serve_all(struct keeper *k)
{
    bool goes_on = true;
    while (goes_on) {
        struct pollfd p[2] = {{.fd = FD, .events = POLLIN}, {.fd = -1, .events = POLLIN}};
        if (k->is_told) {
            p[1].fd = k->manager == MVPN_DNS_FILE       ? mvpn_dns_file_fd(k->file)
                      : k->manager == MVPN_DNS_RESOLVED ? mvpn_dns_resolved_fd(k->resolved)
                                                        : -1;
        }
        if (poll(p, 2, wait_ms(k)) < 0 && errno != EINTR) {
            break;
        }
        if (p[0].revents != 0) {
            goes_on = serve(k);
        } else if (k->is_told) {
            keep(k);
        }
    }
    give_back(k);
}

/* Nothing of the helper's comes along: not its socket to the worker, whose end tells of its own. */
static void leave_helper(int fd)
{
    if (fd != FD) {
        (void)dup2(fd, FD);
    }
    (void)close_range(FD + 1, UINT_MAX, 0);
    (void)fcntl(FD, F_SETFD, FD_CLOEXEC);
    (void)signal(SIGCHLD, SIG_DFL);
    (void)prctl(PR_SET_NAME, "mvpn-dns", 0, 0, 0);
}

_Noreturn static void run(const mvpn_config_client *config, bool sandbox,
                          mvpn_host_dns_report *report, int fd)
{
    mvpn_fault fault = {.text = ""};
    leave_helper(fd);
    struct keeper *k = calloc(1, sizeof(*k));
    if (k == NULL) {
        _exit(1);
    }
    k->config = config;
    k->report = report;
    int r = open_manager(k, &fault);
    r = r == 0 && sandbox ? enter_sandbox(k, &fault) : r;
    answer(r, &fault);
    if (r == 0) {
        serve_all(k);
    }
    _exit(0);
}

/* ---- the helper's side ---- */

/* MVPN_E_TIMEOUT, MVPN_E_CLOSED, or what it says. */
static int take_reply(mvpn_host_dns *dns, int ms, mvpn_fault *fault)
{
    struct pollfd p = {.fd = dns->fd, .events = POLLIN};
    struct reply reply;
    int r = 0;
    do {
        r = poll(&p, 1, ms);
    } while (r < 0 && errno == EINTR);
    if (r == 0) {
        return MVPN_E_TIMEOUT;
    }
    if (recv(dns->fd, &reply, sizeof(reply), MSG_DONTWAIT) != (ssize_t)sizeof(reply)) {
        dns->is_gone = true;
        return mvpn_fault_set(fault, MVPN_E_CLOSED, "the process for names ended");
    }
    reply.fault.text[sizeof(reply.fault.text) - 1] = '\0';
    return reply.code == 0 ? 0 : mvpn_fault_set(fault, reply.code, "%s", reply.fault.text);
}

static bool is_same(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* In a network namespace that has no /etc of its own (ip netns without /etc/netns), the file tells
 * other networks' programs whom to ask. Who may not look at process 1 is no such case. */
static bool is_of_other_network(void)
{
    struct stat st;
    return stat("/proc/1/ns/net", &st) == 0 && !is_same("/proc/1/ns/net", "/proc/self/ns/net") &&
           is_same("/proc/1/root/etc/resolv.conf", "/etc/resolv.conf");
}

/* What another program wrote meanwhile stays, and is no failure. */
static int mend(const mvpn_config_client *config, mvpn_fault *fault)
{
    mvpn_fault why = {.text = ""};
    int file = mvpn_dns_file_mend(MVPN_DNS_FILE_DIR, &why);
    if (file == MVPN_E_STATE) {
        say("warning", why.text);
        file = 0;
    }
    int program = mvpn_dns_program_mend(config->tun_name, fault);
    return file != 0 ? mvpn_fault_set(fault, file, "%s", why.text) : program;
}

static int fork_process(const mvpn_config_client *config, bool sandbox,
                        mvpn_host_dns_report *report, mvpn_host_dns *dns, mvpn_fault *fault)
{
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) != 0) {
        return mvpn_fault_errno(fault, MVPN_E_SYSTEM, errno, "cannot start the process for names");
    }
    (void)signal(SIGCHLD, SIG_IGN); /* who is sealed cannot wait for it */
    pid_t pid = fork();
    if (pid == 0) {
        run(config, sandbox, report, fds[1]);
    }
    int err = errno;
    (void)close(fds[1]);
    if (pid < 0) {
        (void)close(fds[0]);
        return mvpn_fault_errno(fault, MVPN_E_SYSTEM, err, "cannot start the process for names");
    }
    dns->fd = fds[0];
    int r = take_reply(dns, START_MS, fault);
    if (r == MVPN_E_TIMEOUT) {
        (void)kill(pid, SIGKILL);
        r = mvpn_fault_set(fault, r,
                           "who looks after this host's names does not answer: restart "
                           "systemd-resolved, or set dns = file or none");
    }
    return r;
}

int mvpn_host_dns_start(const mvpn_config_client *config, bool sandbox,
                        mvpn_host_dns_report *report, mvpn_host_dns **ret, mvpn_fault *fault)
{
    *ret = NULL;
    if (!config->routes_all || config->dns == MVPN_DNS_NONE) {
        return 0;
    }
    if (config->dns == MVPN_DNS_AUTO && is_of_other_network()) {
        say("warning", "/etc/resolv.conf belongs to the machine, this network is another: it stays "
                       "(dns = file would change it)");
        return 0;
    }
    int r = mend(config, fault);
    if (r != 0) {
        return r;
    }
    if (config->dns == MVPN_DNS_AUTO && config->split.is_inside &&
        config->split.domains.count == 0) {
        say("info", "only what inside_* lists goes into the tunnel: name servers stay as they are "
                    "(dns = file would ask all names through the tunnel)");
        return 0;
    }
    mvpn_host_dns *dns = calloc(1, sizeof(*dns));
    if (dns == NULL) {
        return mvpn_fault_set(fault, MVPN_E_NOMEM, "no memory for the name servers");
    }
    dns->fd = -1;
    r = fork_process(config, sandbox, report, dns, fault);
    if (r != 0) {
        mvpn_host_dns_end(dns);
        return r;
    }
    *ret = dns;
    return 0;
}

void mvpn_host_dns_set(mvpn_host_dns *dns, const char *tun, uint32_t index,
                       const mvpn_addr *gateway_v4)
{
    struct request m = {.op = OP_SET, .index = index, .gateway_v4 = *gateway_v4};
    if (dns == NULL || dns->is_told) {
        return;
    }
    (void)snprintf(m.tun, sizeof(m.tun), "%s", tun);
    dns->is_told = true;
    if (send(dns->fd, &m, sizeof(m), MSG_NOSIGNAL) == (ssize_t)sizeof(m)) {
        MVPN_IGNORE(take_reply(dns, SET_MS, NULL)); /* it says itself what failed */
    }
}

int mvpn_host_dns_fd(const mvpn_host_dns *dns)
{
    return dns != NULL ? dns->fd : -1;
}

bool mvpn_host_dns_is_alive(mvpn_host_dns *dns)
{
    if (dns != NULL && !dns->is_gone) {
        MVPN_IGNORE(take_reply(dns, 0, NULL));
    }
    return dns == NULL || !dns->is_gone;
}

void mvpn_host_dns_end(mvpn_host_dns *dns)
{
    const struct request m = {.op = OP_END};
    if (dns == NULL) {
        return;
    }
    /* A late answer to something else may come before its end. */
    if (dns->fd >= 0 && send(dns->fd, &m, sizeof(m), MSG_NOSIGNAL) == (ssize_t)sizeof(m)) {
        while (!dns->is_gone && take_reply(dns, END_MS, NULL) != MVPN_E_TIMEOUT) {
        }
    }
    if (dns->fd >= 0) {
        (void)close(dns->fd);
    }
    free(dns);
}

int mvpn_host_dns_cleanup(const mvpn_config_client *config, mvpn_fault *fault)
{
    int r = is_of_other_network() ? 0 : mend(config, fault);
    return r == MVPN_E_BUSY ? 0 : r; /* not what this configuration's client left */
}
