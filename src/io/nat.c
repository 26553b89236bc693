#include "io/nat.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "io/file.h"
#include "io/nft.h"

/* Two switches, and accept_ra of each interface that is configured by router advertisements. */
#define SWITCHES_MAX 64
#define SWITCH_PATH 96
/* Connections to the name service of one session, half-open ones too: io serves four of them, the
 * rest is room for those that end. */
#define NAMES_MAX 256u
#define STATE_HEAD "meshvpn-nat 1\n"
#define STATE_MAX (SWITCHES_MAX * (SWITCH_PATH + 32) + 64)

typedef struct change {
    char path[SWITCH_PATH]; /* below /proc/sys */
    int before;
    int after;
} change;

typedef struct changes {
    change rows[SWITCHES_MAX];
    unsigned count;
} changes;

static int check_names(const char *instance, mvpn_fault *fault)
{
    if (!mvpn_nft_is_name(instance)) {
        return mvpn_fault_set(fault, MVPN_E_INVAL,
                              "instance name \"%s\": use 1 to 32 small letters, digits or _",
                              instance);
    }
    return 0;
}

static int state_path(const char *instance, const char *run_dir, char out[static PATH_MAX],
                      mvpn_fault *fault)
{
    int n = snprintf(out, PATH_MAX, "%s/nat_%s.state", run_dir, instance);
    if (n < 0 || n >= PATH_MAX) {
        return mvpn_fault_set(fault, MVPN_E_INVAL, "the run directory's name is too long");
    }
    return 0;
}

/* ---- kernel switches ---- */

static int switch_open(const char *path, int flags)
{
    char full[SWITCH_PATH + 16];
    (void)snprintf(full, sizeof(full), "/proc/sys/%s", path);
    return open(full, flags | O_CLOEXEC);
}

static int switch_read(const char *path, int *ret)
{
    char text[16] = {0};
    int fd = switch_open(path, O_RDONLY);
    if (fd < 0) {
        return -1;
    }
    ssize_t n = read(fd, text, sizeof(text) - 1);
    (void)close(fd);
    return n > 0 && sscanf(text, "%d", ret) == 1 ? 0 : -1;
}

static int switch_write(const char *path, int value)
{
    char text[16];
    int len = snprintf(text, sizeof(text), "%d\n", value);
    int fd = switch_open(path, O_WRONLY);
    if (fd < 0) {
        return -1;
    }
    ssize_t n = write(fd, text, (size_t)len);
    int err = errno;
    (void)close(fd);
    errno = err;
    return n == len ? 0 : -1;
}

static int plan(changes *c, const char *path, int wanted, mvpn_fault *fault)
{
    int now = 0;
    if (switch_read(path, &now) != 0) {
        return mvpn_fault_errno(fault, MVPN_E_SYSTEM, errno, "cannot read kernel switch %s", path);
    }
    if (now == wanted) {
        return 0;
    }
    if (c->count == SWITCHES_MAX) {
        return mvpn_fault_set(fault, MVPN_E_SYSTEM, "more than %d kernel switches to change",
                              SWITCHES_MAX);
    }
    change *row = &c->rows[c->count++];
    (void)snprintf(row->path, sizeof(row->path), "%s", path);
    row->before = now;
    row->after = wanted;
    return 0;
}

/*
 * A forwarding IPv6 host ignores router advertisements unless accept_ra is 2 (ip-sysctl): without
 * this a server that gets its default route so would fall off the network when forwarding is
 * switched on.
 */
static int plan_accept_ra(changes *c, mvpn_fault *fault)
{
    DIR *dir = opendir("/proc/sys/net/ipv6/conf");
    int rc = 0;
    if (dir == NULL) {
        return mvpn_fault_errno(fault, MVPN_E_SYSTEM, errno, "cannot list IPv6 interfaces");
    }
    for (struct dirent *e = readdir(dir); e != NULL && rc == 0; e = readdir(dir)) {
        char path[SWITCH_PATH];
        int now = 0;
        int n = snprintf(path, sizeof(path), "net/ipv6/conf/%.64s/accept_ra", e->d_name);
        if (e->d_name[0] == '.' || strcmp(e->d_name, "all") == 0 || n < 0 ||
            n >= (int)sizeof(path)) {
            continue;
        }
        if (switch_read(path, &now) == 0 && now == 1) {
            rc = plan(c, path, 2, fault);
        }
    }
    (void)closedir(dir);
    return rc;
}

static int plan_all(const mvpn_nat_options *options, changes *c, mvpn_fault *fault)
{
    int rc = 0;
    if (options->pool_v4.addr.family == 4) {
        rc = plan(c, "net/ipv4/ip_forward", 1, fault);
    }
    if (rc == 0 && options->pool_v6.addr.family == 6) {
        int now = 0;
        if (switch_read("net/ipv6/conf/all/forwarding", &now) == 0 && now == 0) {
            rc = plan_accept_ra(c, fault);
        }
        if (rc == 0) {
            rc = plan(c, "net/ipv6/conf/all/forwarding", 1, fault);
        }
    }
    return rc;
}

/* ---- state file ---- */

static int save(const char *path, const changes *c, mvpn_fault *fault)
{
    char text[STATE_MAX];
    size_t used = (size_t)snprintf(text, sizeof(text), "%s", STATE_HEAD);
    for (unsigned i = 0; i < c->count; i++) {
        used += (size_t)snprintf(text + used, sizeof(text) - used, "%s %d %d\n", c->rows[i].path,
                                 c->rows[i].before, c->rows[i].after);
    }
    return mvpn_file_write(path, text, used, 0600, fault);
}

static bool is_switch_of_ours(const char *path)
{
    return strcmp(path, "net/ipv4/ip_forward") == 0 ||
           (strncmp(path, "net/ipv6/conf/", 14) == 0 && strstr(path, "..") == NULL);
}

/* The changes noted in the state file; none if there is no file. */
static int load(const char *path, changes *c, mvpn_fault *fault)
{
    uint8_t *content = NULL;
    size_t size = 0;
    c->count = 0;
    int rc = mvpn_file_read(path, STATE_MAX, true, &content, &size, fault);
    if (rc != 0) {
        return rc == MVPN_E_UNKNOWN ? 0 : rc;
    }
    const char *line = (const char *)content;
    if (strncmp(line, STATE_HEAD, strlen(STATE_HEAD)) != 0) {
        rc = mvpn_fault_set(fault, MVPN_E_CONFIG, "%s is not a state file of this version", path);
    }
    while (rc == 0 && (line = strchr(line, '\n')) != NULL && *++line != '\0') {
        change row = {{0}, 0, 0};
        if (c->count == SWITCHES_MAX ||
            sscanf(line, "%95s %d %d", row.path, &row.before, &row.after) != 3 ||
            !is_switch_of_ours(row.path)) {
            rc = mvpn_fault_set(fault, MVPN_E_CONFIG, "%s is damaged", path);
            break;
        }
        c->rows[c->count++] = row;
    }
    mvpn_file_free(content, size);
    return rc;
}

/* ---- rules ---- */

static void pool_text(const mvpn_prefix *pool, char *out, size_t size)
{
    char host[MVPN_ADDR_STRLEN];
    mvpn_addr bare = pool->addr;
    bare.port = 0;
    (void)snprintf(out, size, "%s/%u", mvpn_addr_format(&bare, host), (unsigned)pool->bits);
}

/* One connection more than a session may have is refused before it is tracked: a reset for TCP.
 * (The kernel no longer counts those of TCP that have ended and wait for their time-out.) */
static size_t write_flow_rules(const mvpn_nat_options *options, unsigned i, const char *set,
                               uint32_t max, char *out, size_t size)
{
    char pool[MVPN_ADDR_STRLEN + 4];
    pool_text(i == 0 ? &options->pool_v4 : &options->pool_v6, pool, sizeof(pool));
    const char *family = i == 0 ? "ip" : "ip6";
    return (size_t)snprintf(out, size,
                            "    iifname \"%s\" %s saddr %s ct state new add @%s%u "
                            "{ %s saddr ct count over %u } jump full\n",
                            options->tun_name, family, pool, set, i == 0 ? 4u : 6u, family, max);
}

static const char flow_sets[] = "  set flows4 { type ipv4_addr; size 65535; flags dynamic; }\n"
                                "  set flows6 { type ipv6_addr; size 65535; flags dynamic; }\n"
                                "  set names4 { type ipv4_addr; size 65535; flags dynamic; }\n"
                                "  set names6 { type ipv6_addr; size 65535; flags dynamic; }\n"
                                "  chain full {\n"
                                "    meta l4proto tcp reject with tcp reset\n"
                                "    drop\n"
                                "  }\n";

/*
 * Creating the table before deleting it makes the deletion succeed whether it was there or not, in
 * the same transaction. Sessions do not reach each other, and nobody outside opens connections to
 * them; in the host itself they reach the name service on the device and nothing else, whatever
 * addresses the host has or gets.
 */
static void write_rules(const mvpn_nat_options *options, char *out, size_t size)
{
    const mvpn_prefix *pools[2] = {&options->pool_v4, &options->pool_v6};
    const char *tun = options->tun_name;
    size_t used = (size_t)snprintf(out, size,
                                   "table inet meshvpn_%s\n"
                                   "delete table inet meshvpn_%s\n"
                                   "table inet meshvpn_%s {\n"
                                   "%s"
                                   "  chain forward {\n"
                                   "    type filter hook forward priority filter; policy accept;\n"
                                   "    iifname \"%s\" oifname \"%s\" drop\n"
                                   "    oifname \"%s\" ct state established,related accept\n"
                                   "    oifname \"%s\" drop\n",
                                   options->instance, options->instance, options->instance,
                                   options->flows_max > 0 ? flow_sets : "", tun, tun, tun, tun);
    for (unsigned i = 0; i < 2; i++) {
        char pool[MVPN_ADDR_STRLEN + 4];
        if (pools[i]->addr.family != 0) {
            pool_text(pools[i], pool, sizeof(pool));
            if (options->flows_max > 0) {
                used += write_flow_rules(options, i, "flows", options->flows_max, out + used,
                                         size - used);
            }
            used +=
                (size_t)snprintf(out + used, size - used, "    iifname \"%s\" %s saddr %s accept\n",
                                 tun, i == 0 ? "ip" : "ip6", pool);
        }
    }
    used += (size_t)snprintf(out + used, size - used,
                             "    iifname \"%s\" drop\n"
                             "  }\n"
                             "  chain input {\n"
                             "    type filter hook input priority filter; policy accept;\n",
                             tun);
    for (unsigned i = 0; i < 2; i++) {
        if (pools[i]->addr.family != 0 && options->flows_max > 0) {
            used += write_flow_rules(options, i, "names", NAMES_MAX, out + used, size - used);
        }
    }
    used += (size_t)snprintf(out + used, size - used,
                             "    iifname \"%s\" tcp dport 53 accept\n"
                             "    iifname \"%s\" drop\n"
                             "  }\n"
                             "  chain postrouting {\n"
                             "    type nat hook postrouting priority srcnat; policy accept;\n",
                             tun, tun);
    for (unsigned i = 0; i < 2; i++) {
        char pool[MVPN_ADDR_STRLEN + 4];
        if (pools[i]->addr.family != 0) {
            pool_text(pools[i], pool, sizeof(pool));
            used += (size_t)snprintf(out + used, size - used,
                                     "    %s saddr %s oifname != \"%s\" masquerade\n",
                                     i == 0 ? "ip" : "ip6", pool, tun);
        }
    }
    (void)snprintf(out + used, size - used, "  }\n}\n");
}

/* ---- taking back ---- */

struct mvpn_nat_undo {
    mvpn_nlsocket nl;
    char table[48];
    char file[48]; /* the state file, in the directory `dir` */
    int dir, file_fd;
    changes c;
    int damage;            /* the state file's; the rules are taken back all the same */
    mvpn_fault why;        /* of the damage */
    int fds[SWITCHES_MAX]; /* of the switches; -1: the interface is gone */
};

static int switch_read_fd(int fd, int *ret)
{
    char text[16] = {0};
    return pread(fd, text, sizeof(text) - 1, 0) > 0 && sscanf(text, "%d", ret) == 1 ? 0 : -1;
}

static int switch_write_fd(int fd, int value)
{
    char text[16];
    int len = snprintf(text, sizeof(text), "%d\n", value);
    return pwrite(fd, text, (size_t)len, 0) == len ? 0 : -1;
}

/* Last set, first restored. A vanished interface or a value that is not ours any more is left
 * alone. */
static int restore_switches(const mvpn_nat_undo *undo, mvpn_fault *fault)
{
    int rc = 0;
    for (unsigned i = undo->c.count; i > 0; i--) {
        const change *row = &undo->c.rows[i - 1];
        int fd = undo->fds[i - 1], now = 0;
        if (fd >= 0 && switch_read_fd(fd, &now) == 0 && now == row->after &&
            switch_write_fd(fd, row->before) != 0) {
            rc = mvpn_fault_errno(fault, MVPN_E_SYSTEM, errno,
                                  "cannot set kernel switch %s back to %d", row->path, row->before);
        }
    }
    return rc;
}

static void open_state(mvpn_nat_undo *undo, const char *path, const char *run_dir)
{
    undo->damage = load(path, &undo->c, &undo->why);
    if (undo->damage != 0) {
        undo->c.count = 0;
        return;
    }
    for (unsigned i = 0; i < undo->c.count; i++) {
        undo->fds[i] = switch_open(undo->c.rows[i].path, O_RDWR);
    }
    undo->dir = open(run_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* without it there is no file */
    if (undo->dir >= 0) {
        undo->file_fd = openat(undo->dir, undo->file, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
    }
}

int mvpn_nat_undo_open(const char *instance, const char *run_dir, mvpn_nat_undo **ret,
                       mvpn_fault *fault)
{
    char path[PATH_MAX];
    int rc = check_names(instance, fault);
    mvpn_nat_undo *undo = rc == 0 ? calloc(1, sizeof(*undo)) : NULL;
    if (undo == NULL) {
        return rc != 0 ? rc : mvpn_fault_set(fault, MVPN_E_NOMEM, "no memory for the firewall");
    }
    undo->dir = undo->file_fd = -1;
    memset(undo->fds, 0xff, sizeof(undo->fds)); /* -1 */
    (void)snprintf(undo->table, sizeof(undo->table), "meshvpn_%.32s", instance);
    (void)snprintf(undo->file, sizeof(undo->file), "nat_%.32s.state", instance);
    rc = state_path(instance, run_dir, path, fault);
    if (rc == 0 && mvpn_nlsocket_open(&undo->nl, NETLINK_NETFILTER) != 0) {
        rc = mvpn_fault_errno(fault, MVPN_E_SYSTEM, errno, "cannot open the firewall");
    }
    if (rc != 0) {
        mvpn_nat_undo_free(undo);
        return rc;
    }
    open_state(undo, path, run_dir);
    *ret = undo;
    return 0;
}

int mvpn_nat_undo_run(mvpn_nat_undo *undo, mvpn_fault *fault)
{
    int rules_rc = 0;
    /* Rules first: nothing is forwarded without them being there. */
    if (mvpn_nft_delete_table(&undo->nl, undo->table) != 0) {
        rules_rc = mvpn_fault_errno(fault, MVPN_E_SYSTEM, errno,
                                    "cannot remove the firewall table %s%s", undo->table,
                                    errno == EPERM ? " (run as root or with CAP_NET_ADMIN)" : "");
    }
    int rc = undo->damage != 0 ? mvpn_fault_set(fault, undo->damage, "%s", undo->why.text)
                               : restore_switches(undo, fault);
    if (rc == 0 && undo->file_fd >= 0 && unlinkat(undo->dir, undo->file, 0) != 0 &&
        errno != ENOENT && ftruncate(undo->file_fd, (off_t)strlen(STATE_HEAD)) != 0) {
        /* A directory that is not ours any more: a file of no changes does as well. */
        rc = mvpn_fault_errno(fault, MVPN_E_SYSTEM, errno, "cannot remove %s", undo->file);
    }
    return rc != 0 ? rc : rules_rc;
}

static void close_fd(int fd)
{
    if (fd >= 0) {
        (void)close(fd);
    }
}

void mvpn_nat_undo_free(mvpn_nat_undo *undo)
{
    if (undo == NULL) {
        return;
    }
    mvpn_nlsocket_close(&undo->nl);
    for (unsigned i = 0; i < SWITCHES_MAX; i++) {
        close_fd(undo->fds[i]);
    }
    close_fd(undo->file_fd);
    close_fd(undo->dir);
    free(undo);
}

int mvpn_nat_remove(const char *instance, const char *run_dir, mvpn_fault *fault)
{
    mvpn_nat_undo *undo;
    int rc = mvpn_nat_undo_open(instance, run_dir, &undo, fault);
    if (rc != 0) {
        return rc;
    }
    rc = mvpn_nat_undo_run(undo, fault);
    mvpn_nat_undo_free(undo);
    return rc;
}

/* ---- setting up ---- */

static int apply_switches(const changes *c, mvpn_fault *fault)
{
    for (unsigned i = 0; i < c->count; i++) {
        if (switch_write(c->rows[i].path, c->rows[i].after) != 0) {
            return mvpn_fault_errno(
                fault, MVPN_E_SYSTEM, errno,
                "cannot set kernel switch %s to %d (an exit must forward packets)", c->rows[i].path,
                c->rows[i].after);
        }
    }
    return 0;
}

/* Was it the counting of connections that the kernel refused? */
static bool knows_rules_without_flows(const mvpn_nat_options *options)
{
    char script[MVPN_NFT_SCRIPT];
    mvpn_nat_options without = *options;
    without.flows_max = 0;
    write_rules(&without, script, sizeof(script));
    return mvpn_nft_apply(script, NULL) == 0;
}

int mvpn_nat_setup(const mvpn_nat_options *options, mvpn_fault *fault)
{
    char path[PATH_MAX];
    char script[MVPN_NFT_SCRIPT];
    changes c = {.count = 0};
    if (!mvpn_nft_is_interface(options->tun_name)) {
        return mvpn_fault_set(fault, MVPN_E_INVAL, "bad interface name \"%s\"", options->tun_name);
    }
    int rc = mvpn_nat_remove(options->instance, options->run_dir, fault);
    if (rc == 0) {
        rc = state_path(options->instance, options->run_dir, path, fault);
    }
    if (rc == 0) {
        rc = plan_all(options, &c, fault);
    }
    if (rc == 0) {
        rc = save(path, &c, fault);
    }
    if (rc != 0) {
        return rc;
    }
    write_rules(options, script, sizeof(script));
    rc = apply_switches(&c, fault);
    if (rc == 0) {
        rc = mvpn_nft_apply(script, fault);
    }
    if (rc != 0 && options->flows_max > 0 && knows_rules_without_flows(options)) {
        rc = mvpn_fault_set(fault, MVPN_E_CONFIG,
                            "this kernel cannot count the connections of a session (nft_connlimit "
                            "is missing). Load the module, or set flows_max = 0");
    }
    if (rc != 0 && mvpn_nat_remove(options->instance, options->run_dir, NULL) != 0) {
        return rc; /* the first fault counts; the state file stays for the next start */
    }
    return rc;
}
