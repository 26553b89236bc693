#include "bin/doctor_look.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>

#include "base/error.h"
#include "bin/programs.h"
#include "io/control.h"
#include "io/file.h"
#include "io/kill_switch.h"
#include "io/network_file.h"
#include "io/resolv_conf.h"
#include "io/sandbox.h"
#include "io/statefile.h"
#include "network/ip/inner.h"

/* A daemon that lives answers within milliseconds; the whole has 2 s. */
#define ASK_TIMEOUT_MS 1000
#define RESOLV_CONF "/etc/resolv.conf"
#define GROUPS_MAX 256

static void copy(char *out, size_t size, const char *text)
{
    (void)snprintf(out, size, "%s", text);
}

static bool is_there(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0;
}

/* ---- configuration ---- */

static void look_at_program(enum mvpn_config_kind kind, doctor_facts *f)
{
    const program_info *p = program_of(kind);
    f->role = kind == MVPN_CONFIG_CLIENT ? DOCTOR_CLIENT
              : kind == MVPN_CONFIG_EXIT ? DOCTOR_EXIT
                                         : DOCTOR_RELAY;
    copy(f->kind, sizeof(f->kind), mvpn_config_kind_name(kind));
    copy(f->program, sizeof(f->program), p->name);
    copy(f->unit, sizeof(f->unit), p->unit);
}

static void look_at_network(doctor_facts *f)
{
    mvpn_network_file *network = malloc(sizeof(*network));
    mvpn_fault fault = {""};
    if (network == NULL) {
        return;
    }
    int rc = mvpn_network_file_load(f->network_file, (uint64_t)time(NULL), network, &fault);
    f->is_network_there = rc != MVPN_E_UNKNOWN;
    f->is_network_good = rc == 0;
    copy(f->network_fault, sizeof(f->network_fault), fault.text);
    if (rc == 0) {
        copy(f->network_name, sizeof(f->network_name), network->name);
        f->network_relays = network->relay_count;
        f->network_expired = network->expired_count;
        f->network_entries = network->entry_count + network->discovery_count +
                             (network->dns[0] != '\0') + network->lan_discovery;
        mvpn_network_file_done(network);
    }
    free(network);
}

static void look_at_config(enum mvpn_config_kind kind, const char *file, mvpn_config *config,
                           doctor_facts *f)
{
    mvpn_fault fault = {""};
    int rc = mvpn_config_load(file, kind, config, &fault);
    copy(f->config_file, sizeof(f->config_file), file);
    f->has_config = rc != MVPN_E_UNKNOWN;
    f->is_config_good = rc == 0;
    copy(f->config_fault, sizeof(f->config_fault), fault.text);
    if (rc != 0) {
        mvpn_config_init(config, kind);
    }
    if (rc == 0 || rc == MVPN_E_UNKNOWN) {
        copy(f->network_file, sizeof(f->network_file), config->network_file);
        look_at_network(f);
    }
    f->routes_all = config->client.routes_all;
    f->is_part = config->client.split.is_inside;
    f->kill_switch = config->client.kill_switch && config->client.routes_all;
    f->lockdown = config->client.lockdown;
    f->table = config->client.table;
    copy(f->tun_name, sizeof(f->tun_name),
         kind == MVPN_CONFIG_EXIT ? config->exit.tun_name : config->client.tun_name);
    copy(f->state_dir, sizeof(f->state_dir), config->state_dir);
    copy(f->control_socket, sizeof(f->control_socket), config->control_socket);
}

/* ---- rights ---- */

static bool is_member(gid_t gid)
{
    gid_t groups[GROUPS_MAX];
    int count = getgroups(GROUPS_MAX, groups);
    for (int i = 0; i < count; i++) {
        if (groups[i] == gid) {
            return true;
        }
    }
    return getegid() == gid;
}

static void look_at_rights(doctor_facts *f)
{
    const struct passwd *person = getpwuid(getuid());
    cap_flag_value_t has = CAP_CLEAR;
    cap_t caps = cap_get_proc();
    f->is_root = geteuid() == 0;
    copy(f->person, sizeof(f->person), person != NULL ? person->pw_name : "");
    if (caps != NULL && cap_get_flag(caps, CAP_NET_ADMIN, CAP_EFFECTIVE, &has) == 0) {
        f->has_net_admin = has == CAP_SET ? DOCTOR_YES : DOCTOR_NO;
    }
    if (caps != NULL) {
        (void)cap_free(caps);
    }
    f->has_user = getpwnam(MVPN_SANDBOX_USER) != NULL;
    const struct group *group = getgrnam(MVPN_SANDBOX_USER);
    f->has_group = group != NULL;
    f->is_in_group = group != NULL && is_member(group->gr_gid);
    /* Opening it makes no device: that takes an ioctl. */
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    f->tun_errno = fd < 0 ? errno : 0;
    if (fd >= 0) {
        (void)close(fd);
    }
}

/* ---- the kernel ---- */

static void look_at_kernel(doctor_facts *f)
{
    static const int one = 1, segment = 1400;
    uint32_t action = SECCOMP_RET_ERRNO;
    struct rlimit limit;
    struct timex timex = {.modes = 0};
    int abi = (int)syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    f->landlock_abi = abi > 0 ? abi : 0;
    f->has_seccomp = syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0;
    if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0) {
        f->memlock_bytes = limit.rlim_cur == RLIM_INFINITY ? UINT64_MAX : limit.rlim_cur;
    }
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd >= 0) {
        f->has_gso = setsockopt(fd, SOL_UDP, UDP_SEGMENT, &segment, sizeof(segment)) == 0;
        f->has_gro = setsockopt(fd, SOL_UDP, UDP_GRO, &one, sizeof(one)) == 0;
        (void)close(fd);
    }
    if (adjtimex(&timex) >= 0) {
        f->is_clock_kept = (timex.status & STA_UNSYNC) == 0 ? DOCTOR_YES : DOCTOR_NO;
    }
}

/* ---- names ---- */

static bool file_begins(const char *path, const char *what)
{
    char text[512] = "";
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return false;
    }
    size_t n = fread(text, 1, sizeof(text) - 1, file);
    text[n] = '\0';
    (void)fclose(file);
    return strstr(text, what) != NULL;
}

/* Whether a client's file stands there, or one that asks the inside of a tunnel. */
static bool is_our_resolv_conf(const mvpn_addr *servers, unsigned count)
{
    char tun[MVPN_RESOLV_CONF_TUN_MAX + 1];
    const mvpn_addr inside = mvpn_inner_gateway_addr(6); /* nobody else has that one */
    uint8_t *content = NULL;
    size_t size = 0;
    bool is_ours = false;
    if (mvpn_file_read(RESOLV_CONF, MVPN_RESOLV_CONF_MAX, false, &content, &size, NULL) == 0) {
        is_ours = mvpn_resolv_conf_is_ours(mvpn_bytes_of(content, size), tun);
        mvpn_file_free(content, size);
    }
    for (unsigned i = 0; i < count; i++) {
        is_ours = is_ours || mvpn_addr_ip_eq(&servers[i], &inside);
    }
    return is_ours;
}

static void look_at_names(doctor_facts *f)
{
    mvpn_addr servers[MVPN_CONFIG_DNS_MAX];
    char target[PATH_MAX] = "";
    f->name_servers = mvpn_config_read_resolv(RESOLV_CONF, servers, MVPN_CONFIG_DNS_MAX);
    f->names_our_resolver = is_our_resolv_conf(servers, f->name_servers);
    f->has_resolver_backup = is_there(RESOLV_CONF ".meshvpn-backup"); /* io/host_dns_file */
    ssize_t n = readlink(RESOLV_CONF, target, sizeof(target) - 1);
    if (!is_there(RESOLV_CONF)) {
        f->resolver = DOCTOR_RESOLV_MISSING;
    } else if ((n > 0 && strstr(target, "systemd/resolve") != NULL) ||
               file_begins(RESOLV_CONF, "managed by man:systemd-resolved")) {
        f->resolver = DOCTOR_RESOLV_RESOLVED;
    } else if (n > 0 && strstr(target, "resolvconf") != NULL) {
        f->resolver = DOCTOR_RESOLV_RESOLVCONF;
    } else if ((n > 0 && strstr(target, "NetworkManager") != NULL) ||
               file_begins(RESOLV_CONF, "Generated by NetworkManager")) {
        f->resolver = DOCTOR_RESOLV_NETWORK_MANAGER;
    } else {
        f->resolver = DOCTOR_RESOLV_FILE;
    }
}

/* ---- ours ---- */

static void look_at_daemon(doctor_facts *f)
{
    json_t *request = json_pack("{s:s}", "cmd", "status"), *reply = NULL;
    int rc = mvpn_control_ask(f->control_socket, request, ASK_TIMEOUT_MS, &reply, NULL);
    int err = errno;
    json_decref(request);
    if (rc == 0) {
        const char *state = json_string_value(json_object_get(reply, "state"));
        f->daemon = DOCTOR_DAEMON_ANSWERS;
        copy(f->daemon_state, sizeof(f->daemon_state), state != NULL ? state : "");
        const json_t *clock = json_object_get(reply, "clock");
        f->has_clock_offset = json_integer_value(json_object_get(clock, "peers")) > 0;
        f->clock_offset_s = json_integer_value(json_object_get(clock, "offset_s"));
        json_decref(reply);
    } else if (rc == MVPN_E_CLOSED) {
        f->daemon = is_there(f->control_socket) ? DOCTOR_DAEMON_DEAD : DOCTOR_DAEMON_NONE;
    } else if (rc == MVPN_E_SYSTEM && (err == EACCES || err == EPERM)) {
        f->daemon = DOCTOR_DAEMON_DENIED;
    } else {
        f->daemon = DOCTOR_DAEMON_STUCK;
    }
}

/* Whether a UDP socket of this network namespace holds `port`: proc(5), "local_address". */
static bool is_bound(const char *table, unsigned port)
{
    char line[512];
    bool found = false;
    FILE *file = fopen(table, "re");
    while (file != NULL && !found && fgets(line, sizeof(line), file) != NULL) {
        const char *colon = strchr(line, ':'); /* behind the row's number */
        const char *at = colon != NULL ? strchr(colon + 1, ':') : NULL;
        found = at != NULL && strtoul(at + 1, NULL, 16) == port;
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return found;
}

static void look_at_ports(const mvpn_config *config, doctor_facts *f)
{
    if (f->daemon != DOCTOR_DAEMON_NONE && f->daemon != DOCTOR_DAEMON_DEAD) {
        return; /* it holds them itself */
    }
    for (unsigned i = 0; i < config->listen_count && f->taken_port == 0; i++) {
        unsigned port = config->listen[i].port;
        if (port != 0 &&
            is_bound(config->listen[i].family == 4 ? "/proc/net/udp" : "/proc/net/udp6", port)) {
            f->taken_port = port;
        }
    }
}

static void look_at_state(const mvpn_config *config, doctor_facts *f)
{
    mvpn_state_clock clock;
    struct statvfs fs;
    struct stat st;
    const struct passwd *user =
        getpwnam(config->user[0] != '\0' ? config->user : MVPN_SANDBOX_USER);
    f->has_state_dir = stat(f->state_dir, &st) == 0;
    if (f->has_state_dir && f->is_root) {
        /* Systemd starts relays as that user; the others take the directory over as root. */
        bool is_foreign = f->role == DOCTOR_RELAY && f->has_systemd && f->has_unit &&
                          user != NULL && st.st_uid != user->pw_uid;
        f->is_state_dir_writable =
            access(f->state_dir, W_OK) == 0 && !is_foreign ? DOCTOR_YES : DOCTOR_NO;
    } else if (f->has_state_dir && st.st_uid == geteuid()) {
        f->is_state_dir_writable = access(f->state_dir, W_OK) == 0 ? DOCTOR_YES : DOCTOR_NO;
    }
    if (statvfs(f->has_state_dir ? f->state_dir : "/var/lib", &fs) == 0) {
        f->free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
        f->has_space = f->free_bytes >= DOCTOR_SPACE_MIN ? DOCTOR_YES : DOCTOR_NO;
    }
    /* What a daemon that runs has heard is newer. */
    if (!f->has_clock_offset && f->has_state_dir && mvpn_state_clock_load(f->state_dir, &clock)) {
        f->has_clock_offset = true;
        f->clock_offset_s = clock.offset_s;
    }
}

static void look_at_answers(doctor_facts *f)
{
    struct if_nameindex *all = if_nameindex();
    for (const struct if_nameindex *i = all; i != NULL && i->if_index != 0; i++) {
        if (strcmp(i->if_name, "lo") != 0 && strcmp(i->if_name, f->tun_name) != 0 &&
            mvpn_host_drops_answers(&f->host, i->if_name)) {
            copy(f->strict_interface, sizeof(f->strict_interface), i->if_name);
            break;
        }
    }
    if (all != NULL) {
        if_freenameindex(all);
    }
}

void doctor_look(enum mvpn_config_kind kind, const char *file, doctor_facts *ret)
{
    static mvpn_config config; /* 50 KB */
    *ret = (doctor_facts){.is_root = false};
    look_at_program(kind, ret);
    look_at_config(kind, file, &config, ret);
    look_at_rights(ret);
    look_at_kernel(ret);
    mvpn_host_look(ret->table, MVPN_KILL_SWITCH_TABLE, &ret->host);
    ret->has_own_tun = if_nametoindex(ret->tun_name) != 0 ? DOCTOR_YES : DOCTOR_NO;
    look_at_answers(ret);
    look_at_names(ret);
    look_at_daemon(ret);
    look_at_ports(&config, ret);
    ret->has_systemd = program_has_systemd();
    ret->has_unit = program_has_unit(ret->unit);
    ret->is_unit_enabled = program_unit_is_enabled(ret->unit);
    ret->is_lockdown_enabled = program_unit_is_enabled(DOCTOR_LOCKDOWN_UNIT);
    look_at_state(&config, ret);
}
