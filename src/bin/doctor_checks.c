#include "bin/doctor_checks.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/macros.h"
#include "core/clock.h"
#include "io/host_client.h"

#define TABLE_MAIN 254u

typedef void check_fn(const doctor_facts *f, doctor_verdict *v);

static void say(doctor_verdict *v, enum doctor_mark mark, const char *fmt, ...) MVPN_PRINTF(3, 4);
static void say(doctor_verdict *v, enum doctor_mark mark, const char *fmt, ...)
{
    va_list ap;
    v->mark = mark;
    va_start(ap, fmt);
    (void)vsnprintf(v->text, sizeof(v->text), fmt, ap);
    va_end(ap);
}

static void repair(doctor_verdict *v, const char *fmt, ...) MVPN_PRINTF(2, 3);
static void repair(doctor_verdict *v, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(v->repair, sizeof(v->repair), fmt, ap);
    va_end(ap);
}

static bool needs_tun(const doctor_facts *f)
{
    return f->role != DOCTOR_RELAY;
}

/* A daemon that is not there, as far as can be seen. */
static bool is_down(const doctor_facts *f)
{
    return f->daemon == DOCTOR_DAEMON_NONE || f->daemon == DOCTOR_DAEMON_DEAD;
}

/* How the program is started here. */
static void repair_by_start(const doctor_facts *f, doctor_verdict *v)
{
    if (f->role == DOCTOR_CLIENT) {
        repair(v, "sudo meshvpn up");
    } else if (f->has_systemd && f->has_unit) {
        repair(v, "sudo systemctl start %s", f->unit);
    } else {
        repair(v, "sudo %s --config %s", f->program, f->config_file);
    }
}

/* ---- configuration ---- */

static void check_config(const doctor_facts *f, doctor_verdict *v)
{
    if (f->is_config_good) {
        say(v, DOCTOR_GOOD, "%s is good", f->config_file);
    } else if (!f->has_config) {
        say(v, DOCTOR_BROKEN, "%s is missing: this computer is no member of a network yet",
            f->config_file);
        repair(v, "sudo meshvpn join LINK");
    } else {
        say(v, DOCTOR_BROKEN, "%s", f->config_fault);
        repair(v, "sudoedit %s", f->config_file);
    }
}

static void check_network(const doctor_facts *f, doctor_verdict *v)
{
    if (f->network_file[0] == '\0') {
        say(v, DOCTOR_UNSURE, "which network file is meant stands in the configuration");
    } else if (!f->is_network_there) {
        say(v, DOCTOR_BROKEN, "%s is missing: this computer is no member of a network",
            f->network_file);
        repair(v, "sudo meshvpn join LINK");
    } else if (!f->is_network_good) {
        bool may_see = f->is_root;
        say(v, may_see ? DOCTOR_BROKEN : DOCTOR_UNSURE, "%s", f->network_fault);
        repair(v, may_see ? "sudo meshvpn join --force LINK" : "sudo meshvpn doctor");
    } else if (f->network_relays + f->network_entries == 0) {
        say(v, DOCTOR_BROKEN, "%s names nobody to begin with%s: ask for a new invitation",
            f->network_file, f->network_expired > 0 ? " whose time is not over" : "");
        repair(v, "sudo meshvpn join --force LINK");
    } else if (f->network_expired > 0) {
        say(v, DOCTOR_UNSURE,
            "network \"%s\": %lu of its relays are outside their time, and %lu are left. Whoever "
            "runs the network renews them",
            f->network_name, f->network_expired, f->network_relays + f->network_entries);
        repair(v, "meshvpn-bootstrap renew DIR NODE");
    } else {
        say(v, DOCTOR_GOOD, "network \"%s\", %lu ways to begin", f->network_name,
            f->network_relays + f->network_entries);
    }
}

/* ---- rights ---- */

static void check_tun(const doctor_facts *f, doctor_verdict *v)
{
    if (!needs_tun(f)) {
        say(v, DOCTOR_GOOD, "a relay needs none");
    } else if (f->tun_errno == 0) {
        say(v, DOCTOR_GOOD, "/dev/net/tun opens");
    } else if (f->tun_errno == ENOENT) {
        say(v, DOCTOR_BROKEN, "/dev/net/tun is missing: no tunnel can be made");
        repair(v, "sudo modprobe tun");
    } else if (f->tun_errno == EACCES && !f->is_root) {
        say(v, DOCTOR_UNSURE, "/dev/net/tun opens for root alone");
        repair(v, "sudo meshvpn doctor");
    } else if (f->tun_errno == ENODEV || f->tun_errno == ENXIO) {
        say(v, DOCTOR_BROKEN, "/dev/net/tun is there, and this kernel has no TUN devices");
        repair(v, "sudo modprobe tun");
    } else {
        say(v, DOCTOR_BROKEN,
            "/dev/net/tun does not open (%s): a container must be given that device. Without it "
            "there is the proxy",
            strerror(f->tun_errno));
        repair(v, "meshvpn proxy");
    }
}

static void check_rights(const doctor_facts *f, doctor_verdict *v)
{
    if (!needs_tun(f)) {
        say(v, DOCTOR_GOOD, "a relay needs none, but for ports below 1024");
    } else if (!f->is_root) {
        say(v, DOCTOR_UNSURE, "not root: this can be seen as root alone");
        repair(v, "sudo meshvpn doctor");
    } else if (f->has_net_admin == DOCTOR_NO) {
        say(v, DOCTOR_BROKEN,
            "root without CAP_NET_ADMIN, as in a container: no tunnel can be "
            "set up. Give it that capability, or use the proxy");
        repair(v, "meshvpn proxy");
    } else {
        say(v, DOCTOR_GOOD, "root, with CAP_NET_ADMIN");
    }
}

static void check_user(const doctor_facts *f, doctor_verdict *v)
{
    if (!f->has_user) {
        say(v, DOCTOR_UNSURE,
            "there is no user meshvpn: the program becomes a number that nobody has");
        repair(v, "sudo useradd --system --user-group --no-create-home --shell /usr/sbin/nologin "
                  "meshvpn");
    } else if (!f->has_group) {
        say(v, DOCTOR_UNSURE, "there is no group meshvpn: only root may ask the daemon");
        repair(v, "sudo groupadd --system meshvpn");
    } else if (!f->is_root && !f->is_in_group) {
        say(v, DOCTOR_UNSURE,
            "you are not in the group meshvpn, which may ask the daemon; it "
            "holds from your next login");
        repair(v, "sudo usermod -aG meshvpn %s", f->person[0] != '\0' ? f->person : "YOU");
    } else {
        say(v, DOCTOR_GOOD, "user and group meshvpn are there");
    }
}

/* ---- others on this host ---- */

static const mvpn_host_tunnel *tunnel_of_table(const doctor_facts *f, uint32_t table)
{
    for (unsigned i = 0; i < f->host.tunnel_count; i++) {
        const mvpn_host_tunnel *t = &f->host.tunnels[i];
        for (unsigned k = 0; k < t->table_count; k++) {
            if (t->tables[k] == table && t->is_up && strcmp(t->name, f->tun_name) != 0) {
                return t;
            }
        }
    }
    return NULL;
}

static bool is_ours(const doctor_facts *f, const mvpn_host_rule *rule)
{
    return rule->priority >= MVPN_HOST_RULES_FIRST && rule->priority <= MVPN_HOST_RULES_LAST &&
           (rule->table == f->table || rule->table == TABLE_MAIN);
}

static void check_vpn(const doctor_facts *f, doctor_verdict *v)
{
    const mvpn_host_tunnel *other = NULL;
    if (!f->host.has_routing) {
        say(v, DOCTOR_UNSURE, "the routes cannot be read");
        return;
    }
    for (unsigned i = 0; i < f->host.rule_count; i++) {
        const mvpn_host_rule *rule = &f->host.rules[i];
        other = tunnel_of_table(f, rule->table);
        if (other != NULL && !is_ours(f, rule) && rule->priority < MVPN_HOST_RULES_FIRST) {
            say(v, DOCTOR_BROKEN,
                "another VPN takes packets before MeshVPN: %s, by the policy rule of priority "
                "%" PRIu32 ". End it first",
                other->name, rule->priority);
            repair(v, "sudo ip link set %s down", other->name);
            return;
        }
    }
    for (unsigned i = 0; i < f->host.rule_count && other == NULL; i++) {
        const mvpn_host_rule *rule = &f->host.rules[i];
        other = is_ours(f, rule) ? NULL : tunnel_of_table(f, rule->table);
    }
    other = other != NULL ? other : tunnel_of_table(f, TABLE_MAIN);
    if (other != NULL) {
        say(v, DOCTOR_UNSURE,
            "another VPN is the way out: MeshVPN would run inside %s. If you do not want that, "
            "end it",
            other->name);
        repair(v, "sudo ip link set %s down", other->name);
        return;
    }
    for (unsigned i = 0; i < f->host.rule_count; i++) {
        const mvpn_host_rule *rule = &f->host.rules[i];
        if (!is_ours(f, rule) && rule->priority < MVPN_HOST_RULES_FIRST && !rule->only_specific) {
            say(v, DOCTOR_UNSURE,
                "a policy rule of another program is asked before MeshVPN's: priority %" PRIu32
                ", table %" PRIu32 ". What it takes does not enter the tunnel",
                rule->priority, rule->table);
            repair(v, "ip rule show");
            return;
        }
    }
    say(v, DOCTOR_GOOD, "no other VPN is in the way");
}

static void check_answers(const doctor_facts *f, doctor_verdict *v)
{
    if (f->role != DOCTOR_CLIENT || !f->routes_all) {
        say(v, DOCTOR_GOOD, "may come any way: no routes are set here");
    } else if (f->strict_interface[0] == '\0') {
        say(v, DOCTOR_GOOD, "no strict reverse path filter drops them");
    } else if (is_down(f)) {
        say(v, DOCTOR_GOOD,
            "%s filters by reverse path strictly (rp_filter = 1): the client sees to that",
            f->strict_interface);
    } else {
        say(v, DOCTOR_BROKEN,
            "what guards answer is dropped at %s: strict reverse path filtering (rp_filter = 1), "
            "and no mark counts there (src_valid_mark = 0)",
            f->strict_interface);
        repair(v, "sudo sysctl net.ipv4.conf.all.rp_filter=2");
    }
}

static const char *resolver_name(enum doctor_resolver resolver)
{
    switch (resolver) {
    case DOCTOR_RESOLV_MISSING:
        break;
    case DOCTOR_RESOLV_FILE:
        return "/etc/resolv.conf is a plain file";
    case DOCTOR_RESOLV_RESOLVED:
        return "systemd-resolved manages names";
    case DOCTOR_RESOLV_RESOLVCONF:
        return "resolvconf manages names";
    case DOCTOR_RESOLV_NETWORK_MANAGER:
        return "NetworkManager manages names";
    }
    return "/etc/resolv.conf is missing";
}

static void check_resolver(const doctor_facts *f, doctor_verdict *v)
{
    const char *name = resolver_name(f->resolver);
    if (is_down(f) && f->role == DOCTOR_CLIENT &&
        (f->names_our_resolver || f->has_resolver_backup)) {
        say(v, DOCTOR_BROKEN, "%s, and a client that fell left its own name server there", name);
        repair(v, "sudo meshvpn-client --cleanup");
    } else if (f->names_our_resolver) {
        say(v, DOCTOR_GOOD, "%s; while connected it asks through the tunnel", name);
    } else if (f->resolver == DOCTOR_RESOLV_MISSING || f->name_servers == 0) {
        say(v, DOCTOR_UNSURE,
            "%s: no name server is known, so names are not found outside the tunnel",
            f->resolver == DOCTOR_RESOLV_MISSING ? name : "/etc/resolv.conf names none");
        repair(v, "cat /etc/resolv.conf");
    } else {
        say(v, DOCTOR_GOOD, "%s, %u name server%s", name, f->name_servers,
            f->name_servers == 1 ? "" : "s");
    }
}

static void check_clock(const doctor_facts *f, doctor_verdict *v)
{
    int64_t off = f->has_clock_offset ? f->clock_offset_s : 0;
    bool is_wrong = off > MVPN_CLOCK_TELL_S || off < -MVPN_CLOCK_TELL_S;
    if (f->is_clock_kept == DOCTOR_YES) {
        say(v, DOCTOR_GOOD, "the clock is kept by time synchronisation");
    } else if (is_wrong) {
        say(v, DOCTOR_BROKEN, "the clock was %" PRId64 " s %s when MeshVPN last asked others",
            off < 0 ? -off : off, off < 0 ? "fast" : "slow");
        if (f->has_systemd) {
            repair(v, "sudo timedatectl set-ntp true");
        } else {
            repair(v, "sudo date -s '%+" PRId64 " seconds'", off);
        }
    } else if (f->has_clock_offset) {
        say(v, DOCTOR_GOOD, "the clock was right when MeshVPN last asked others");
    } else {
        say(v, DOCTOR_UNSURE, "nothing keeps the clock right, and it was compared with nobody yet");
        repair(v, f->has_systemd ? "sudo timedatectl set-ntp true" : "date -u");
    }
}

static void check_firewall(const doctor_facts *f, doctor_verdict *v)
{
    const mvpn_host_view *h = &f->host;
    if (!h->has_filter) {
        if (h->filter_errno == EPERM) {
            say(v, DOCTOR_UNSURE, "the packet filter is shown to root alone");
            repair(v, "sudo meshvpn doctor");
        } else {
            bool is_needed = f->role == DOCTOR_EXIT || (f->role == DOCTOR_CLIENT && f->kill_switch);
            say(v, is_needed ? DOCTOR_BROKEN : DOCTOR_UNSURE,
                "this kernel has no nf_tables (%s), which the kill switch is made of",
                strerror(h->filter_errno));
            repair(v, "sudo modprobe nf_tables");
        }
        return;
    }
    for (unsigned i = 0; i < h->chain_count; i++) {
        const mvpn_host_chain *c = &h->chains[i];
        bool concerns = c->is_output || f->role != DOCTOR_CLIENT;
        if (concerns) {
            say(v, DOCTOR_UNSURE,
                "chain %s of table %s drops what no rule of it lets %s: see that UDP is let "
                "through",
                c->chain, c->table, c->is_output ? "out" : "in");
            repair(v, "sudo nft list ruleset");
            return;
        }
    }
    say(v, DOCTOR_GOOD, "nf_tables is there, and no other table drops everything");
}

/* ---- the kernel ---- */

static void check_sandbox(const doctor_facts *f, doctor_verdict *v)
{
    if (!f->has_seccomp) {
        say(v, DOCTOR_BROKEN, "this kernel has no seccomp filters, which the sandbox is made of");
        repair(v, "sudo meshvpn config set %s sandbox off", f->kind);
    } else if (f->landlock_abi == 0) {
        say(v, DOCTOR_UNSURE,
            "this kernel has no landlock: files are protected by the user's "
            "rights alone. Boot with landlock among lsm=");
        repair(v, "cat /sys/kernel/security/lsm");
    } else {
        say(v, DOCTOR_GOOD, "seccomp and landlock (ABI %d) are there", f->landlock_abi);
    }
}

static void check_memlock(const doctor_facts *f, doctor_verdict *v)
{
    if (f->memlock_bytes >= DOCTOR_MEMLOCK_MIN) {
        say(v, DOCTOR_GOOD, "keys can be kept out of swap");
    } else {
        say(v, DOCTOR_UNSURE,
            "only %" PRIu64 " KiB may be locked in memory: keys may reach the swap device",
            f->memlock_bytes >> 10);
        repair(v, "ulimit -l %u", DOCTOR_MEMLOCK_MIN >> 10);
    }
}

static void check_udp(const doctor_facts *f, doctor_verdict *v)
{
    if (f->has_gso && f->has_gro) {
        say(v, DOCTOR_GOOD, "UDP goes in batches (GSO and GRO)");
    } else {
        say(v, DOCTOR_UNSURE,
            "this kernel has no UDP %s: packets go one by one, which is slower. "
            "Linux 5.0 or newer has both",
            !f->has_gso && !f->has_gro ? "GSO and GRO"
            : f->has_gso               ? "GRO"
                                       : "GSO");
    }
}

/* ---- ours ---- */

static void check_state(const doctor_facts *f, doctor_verdict *v)
{
    if (!f->has_state_dir) {
        say(v, DOCTOR_GOOD, "%s is made at the first start", f->state_dir);
    } else if (f->is_state_dir_writable == DOCTOR_NO) {
        say(v, DOCTOR_BROKEN, "%s cannot be written by the program's user: nothing is remembered",
            f->state_dir);
        repair(v, "sudo chown -R meshvpn: %s", f->state_dir);
    } else if (f->is_state_dir_writable == DOCTOR_UNSEEN) {
        say(v, DOCTOR_UNSURE, "%s cannot be seen without root", f->state_dir);
        repair(v, "sudo meshvpn doctor");
    } else {
        say(v, DOCTOR_GOOD, "%s can be written", f->state_dir);
    }
}

static void check_disk(const doctor_facts *f, doctor_verdict *v)
{
    if (f->has_space == DOCTOR_UNSEEN) {
        say(v, DOCTOR_UNSURE, "the disk of %s cannot be asked", f->state_dir);
    } else if (f->has_space == DOCTOR_NO) {
        say(v, DOCTOR_BROKEN,
            "the disk of %s has %" PRIu64 " KiB left: what the program remembers "
            "cannot be written",
            f->state_dir, f->free_bytes >> 10);
        repair(v, "df -h %s", f->has_state_dir ? f->state_dir : "/var/lib");
    } else {
        say(v, DOCTOR_GOOD, "%" PRIu64 " MiB are free", f->free_bytes >> 20);
    }
}

static void check_port(const doctor_facts *f, doctor_verdict *v)
{
    if (f->taken_port == 0) {
        say(v, DOCTOR_GOOD, "no port of ours is in another's hands");
    } else {
        say(v, DOCTOR_BROKEN, "UDP port %u, which %s wants, is in use by another program",
            f->taken_port, f->program);
        repair(v, "sudo ss -ulpn sport = :%u", f->taken_port);
    }
}

static void check_leftovers(const doctor_facts *f, doctor_verdict *v)
{
    const char *what = NULL;
    if (f->role != DOCTOR_CLIENT || !is_down(f)) {
        say(v, DOCTOR_GOOD, "nothing is left over");
        return;
    }
    for (unsigned i = 0; i < f->host.rule_count; i++) {
        what = is_ours(f, &f->host.rules[i]) ? "policy rules" : what;
    }
    what = f->host.has_refusal ? "routes" : what;
    what = f->has_own_tun == DOCTOR_YES ? "the TUN device" : what;
    what = f->host.has_table ? "the kill switch" : what;
    if (what == NULL) {
        say(v, f->host.has_filter ? DOCTOR_GOOD : DOCTOR_UNSURE, "%s",
            f->host.has_filter ? "nothing is left over"
                               : "no routes are left over; the packet filter cannot be seen");
    } else if (f->lockdown) {
        say(v, DOCTOR_UNSURE,
            "no client runs and nothing%s leaves this host: that is what lockdown "
            "means (%s)",
            f->is_part ? " of inside_*" : "", what);
        repair(v, "sudo meshvpn up");
    } else {
        say(v, DOCTOR_BROKEN,
            "no client runs, but one that fell has left %s: nothing%s leaves this host outside a "
            "tunnel that is not there",
            what, f->is_part ? " of inside_*" : "");
        repair(v, "sudo meshvpn-client --cleanup");
    }
}

static void check_unit(const doctor_facts *f, doctor_verdict *v)
{
    if (!f->has_systemd) {
        say(v, DOCTOR_GOOD, "no systemd runs here: a command starts the program");
    } else if (!f->has_unit) {
        say(v, DOCTOR_UNSURE, "systemd does not know %s: the program ends with the session",
            f->unit);
        repair(v, "sudo apt-get install %s",
               f->role == DOCTOR_CLIENT ? "meshvpn" : "meshvpn-relay");
    } else if (f->role == DOCTOR_CLIENT && f->lockdown && !f->is_lockdown_enabled) {
        say(v, DOCTOR_BROKEN,
            "lockdown = true does not hold from boot on: " DOCTOR_LOCKDOWN_UNIT " is not enabled");
        repair(v, "sudo systemctl enable " DOCTOR_LOCKDOWN_UNIT);
    } else if (!f->is_unit_enabled) {
        say(v, DOCTOR_UNSURE, "%s is installed, and not started at boot", f->unit);
        repair(v, "sudo systemctl enable %s", f->unit);
    } else {
        say(v, DOCTOR_GOOD, "%s is started at boot", f->unit);
    }
}

static void check_daemon(const doctor_facts *f, doctor_verdict *v)
{
    switch (f->daemon) {
    case DOCTOR_DAEMON_ANSWERS:
        say(v, DOCTOR_GOOD, "%s runs: %s", f->program,
            f->daemon_state[0] != '\0' ? f->daemon_state : "it answers");
        break;
    case DOCTOR_DAEMON_DENIED:
        say(v, DOCTOR_UNSURE, "you may not ask the daemon at %s", f->control_socket);
        repair(v, "sudo meshvpn doctor");
        break;
    case DOCTOR_DAEMON_STUCK:
        say(v, DOCTOR_BROKEN, "the daemon at %s does not answer", f->control_socket);
        if (f->has_systemd && f->has_unit) {
            repair(v, "sudo systemctl restart %s", f->unit);
        } else {
            repair(v, "sudo meshvpn log");
        }
        break;
    case DOCTOR_DAEMON_DEAD:
        say(v, DOCTOR_BROKEN, "%s fell: its control socket %s is there, and nobody answers",
            f->program, f->control_socket);
        repair_by_start(f, v);
        break;
    case DOCTOR_DAEMON_NONE:
        say(v, DOCTOR_UNSURE, "%s does not run", f->program);
        repair_by_start(f, v);
        break;
    }
}

/* ---- all of them ---- */

static const struct {
    const char *name;
    check_fn *check;
} checks[] = {
    {"configuration", check_config}, {"network", check_network},   {"tun", check_tun},
    {"rights", check_rights},        {"user", check_user},         {"vpn", check_vpn},
    {"answers", check_answers},      {"firewall", check_firewall}, {"leftovers", check_leftovers},
    {"resolver", check_resolver},    {"clock", check_clock},       {"ports", check_port},
    {"state", check_state},          {"disk", check_disk},         {"sandbox", check_sandbox},
    {"memory", check_memlock},       {"udp", check_udp},           {"unit", check_unit},
    {"daemon", check_daemon},
};

unsigned doctor_judge(const doctor_facts *facts, doctor_verdict ret[static DOCTOR_CHECKS_MAX])
{
    MVPN_ASSERT(MVPN_ARRAY_LEN(checks) <= DOCTOR_CHECKS_MAX);
    for (size_t i = 0; i < MVPN_ARRAY_LEN(checks); i++) {
        ret[i] = (doctor_verdict){.name = checks[i].name};
        checks[i].check(facts, &ret[i]);
    }
    return MVPN_ARRAY_LEN(checks);
}

const char *doctor_mark_name(enum doctor_mark mark)
{
    static const char *const names[] = {
        [DOCTOR_GOOD] = "good", [DOCTOR_BROKEN] = "broken", [DOCTOR_UNSURE] = "unsure"};
    return names[mark];
}

unsigned doctor_count(const doctor_verdict *verdicts, unsigned count, enum doctor_mark mark)
{
    unsigned n = 0;
    for (unsigned i = 0; i < count; i++) {
        n += verdicts[i].mark == mark;
    }
    return n;
}

json_t *doctor_json(const doctor_verdict *verdicts, unsigned count)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < count; i++) {
        const doctor_verdict *v = &verdicts[i];
        (void)json_array_append_new(list,
                                    json_pack("{s:s, s:s, s:s, s:s?}", "name", v->name, "mark",
                                              doctor_mark_name(v->mark), "text", v->text, "repair",
                                              v->repair[0] != '\0' ? v->repair : NULL));
    }
    return json_pack("{s:s, s:b, s:i, s:i, s:o}", "schema", "meshvpn.doctor/1", "is_fine",
                     doctor_count(verdicts, count, DOCTOR_BROKEN) == 0, "broken",
                     (int)doctor_count(verdicts, count, DOCTOR_BROKEN), "unsure",
                     (int)doctor_count(verdicts, count, DOCTOR_UNSURE), "checks", list);
}
