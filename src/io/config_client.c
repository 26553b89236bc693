#include "io/config_values.h"

#include <pwd.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

#define WEEK_MINUTES (7 * 24 * 60)

static int set_exit_country(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    if (mvpn_path_countries_parse(v->text, &((mvpn_config *)target)->client.exit_countries) != 0) {
        return mvpn_fault_set(
            why, MVPN_E_CONFIG,
            "'%.60s' names no countries. Write two upper-case letters each: CH, or "
            "CH,SE, or !US,GB for any but these",
            v->text);
    }
    return 0;
}

static int set_exit_port(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    mvpn_config_client *c = &((mvpn_config *)target)->client;
    char *end = NULL;
    unsigned long port = strtoul(v->text, &end, 10);
    bool is_any = strcmp(v->text, "any") == 0;
    bool is_number = v->text[0] >= '0' && v->text[0] <= '9' && *end == '\0';
    if (!is_any && (!is_number || port < 1 || port > UINT16_MAX)) {
        return mvpn_fault_set(why, MVPN_E_CONFIG,
                              "'%.40s' is not a port. Write a number from 1 to 65535, or any",
                              v->text);
    }
    if (c->any_exit_port || (is_any && c->exit_port_count > 0)) {
        return mvpn_config_bad(why, "'any' stands alone. Remove it, or the ports");
    }
    if (c->exit_port_count == MVPN_PATH_PORTS_MAX) {
        return mvpn_fault_set(why, MVPN_E_CONFIG, "at most %d ports are possible",
                              MVPN_PATH_PORTS_MAX);
    }
    c->any_exit_port = is_any;
    if (!is_any) {
        c->exit_ports[c->exit_port_count++] = (uint16_t)port;
    }
    return 0;
}

static int set_geoip_dir(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    mvpn_config_client *c = &((mvpn_config *)target)->client;
    if (v->text[0] == '\0') {
        c->geoip_dir[0] = '\0';
        return 0;
    }
    return mvpn_config_set_path(c->geoip_dir, sizeof(c->geoip_dir), v, why);
}

static int set_hops(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    uint32_t hops = 0;
    int rc = mvpn_config_set_number(&hops, v, 1, MVPN_HOPS_MAX, why);
    if (rc == 0) {
        ((mvpn_config *)target)->client.hops = hops;
    }
    return rc;
}

static int set_path_hop(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    mvpn_config_client *c = &((mvpn_config *)target)->client;
    size_t len = strlen(v->text);
    if (!mvpn_name_is_valid(v->text) && len != MVPN_CONFIG_RELAY_REF_MAX) {
        return mvpn_fault_set(
            why, MVPN_E_CONFIG,
            "'%.60s' is neither a relay's name nor its identity (44 characters of "
            "base64). See them with meshvpn-bootstrap show",
            v->text);
    }
    if (c->path_count == MVPN_HOPS_MAX) {
        return mvpn_fault_set(why, MVPN_E_CONFIG, "at most %d relays are possible", MVPN_HOPS_MAX);
    }
    for (unsigned i = 0; i < c->path_count; i++) {
        if (strcmp(c->path[i], v->text) == 0) {
            return mvpn_fault_set(why, MVPN_E_CONFIG,
                                  "'%.60s' is in the path twice. Name different relays", v->text);
        }
    }
    memcpy(c->path[c->path_count++], v->text, len + 1);
    return 0;
}

static int set_size_policy(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    static const mvpn_config_word words[] = {{"exact", MVPN_SIZE_EXACT},
                                             {"classes", MVPN_SIZE_CLASSES},
                                             {"full", MVPN_SIZE_FULL},
                                             {NULL, 0}};
    int value = 0;
    int rc = mvpn_config_set_word(&value, words, v, why);
    if (rc == 0) {
        ((mvpn_config *)target)->client.size_policy = (enum mvpn_size_policy)value;
    }
    return rc;
}

NUMBER_SETTER(set_rotate_mb, client.rotate_mb, 1, 1000000)
NUMBER_SETTER(set_rotate_pause, client.rotate_pause_s, 0, 3600)
NUMBER_SETTER(set_renew_minutes, client.renew_minutes, 1, WEEK_MINUTES)
NUMBER_SETTER(set_exit_lifetime, client.exit_lifetime_minutes, 1, WEEK_MINUTES)

static int set_routes(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    static const mvpn_config_word words[] = {{"all", true}, {"none", false}, {NULL, 0}};
    int value = 0;
    int rc = mvpn_config_set_word(&value, words, v, why);
    if (rc == 0) {
        ((mvpn_config *)target)->client.routes_all = value != 0;
    }
    return rc;
}

NUMBER_SETTER(set_mark, client.mark, 1, UINT32_MAX)

static int set_table(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    /* 253 to 255 are default, main and local. */
    if (v->number >= 253 && v->number <= 255) {
        return mvpn_config_bad(
            why, "253 to 255 are the system's own routing tables. Take another number, such "
                 "as 19798");
    }
    return mvpn_config_set_number(&((mvpn_config *)target)->client.table, v, 1, UINT32_MAX, why);
}

static int set_dns(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    static const mvpn_config_word words[] = {{"auto", MVPN_DNS_AUTO},
                                             {"resolved", MVPN_DNS_RESOLVED},
                                             {"resolvconf", MVPN_DNS_RESOLVCONF},
                                             {"file", MVPN_DNS_FILE},
                                             {"none", MVPN_DNS_NONE},
                                             {NULL, 0}};
    int value = 0;
    int rc = mvpn_config_set_word(&value, words, v, why);
    if (rc == 0) {
        ((mvpn_config *)target)->client.dns = (enum mvpn_dns_manager)value;
    }
    return rc;
}

FLAG_SETTER(set_kill_switch, client.kill_switch)
FLAG_SETTER(set_lockdown, client.lockdown)
FLAG_SETTER(set_allow_lan, client.allow_lan)

/* Looked up at once: a name that nobody has is a mistake of this line. */
static int set_operator(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    mvpn_config_client *c = &((mvpn_config *)target)->client;
    size_t len = strlen(v->text);
    const struct passwd *user = len <= MVPN_CONFIG_USER_MAX ? getpwnam(v->text) : NULL;
    if (user == NULL) {
        return mvpn_fault_set(why, MVPN_E_CONFIG,
                              "there is no user '%.60s' here. Name users of this computer, as "
                              "getent passwd lists them",
                              v->text);
    }
    if (c->operator_count == MVPN_CONFIG_OPERATORS_MAX) {
        return mvpn_fault_set(why, MVPN_E_CONFIG, "at most %d are possible",
                              MVPN_CONFIG_OPERATORS_MAX);
    }
    c->operators[c->operator_count].uid = user->pw_uid;
    memcpy(c->operators[c->operator_count++].name, v->text, len + 1);
    return 0;
}

static int set_split_network(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    return mvpn_config_split_network(&((mvpn_config *)target)->client.split, v, why);
}

static int set_split_domain(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    return mvpn_config_split_domain(&((mvpn_config *)target)->client.split, v, why);
}

static int set_split_user(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    return mvpn_config_split_user(&((mvpn_config *)target)->client.split, v, why);
}

static int set_split_cgroup(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    return mvpn_config_split_cgroup(&((mvpn_config *)target)->client.split, v, why);
}

/* --- the table --- */

#define TEXT MVPN_SETTING_TEXT
#define LIST MVPN_SETTING_LIST
#define NUMBER MVPN_SETTING_NUMBER
#define BOOL MVPN_SETTING_BOOL

/* clang-format off */
static const mvpn_setting settings[] = {
    {"hops", NUMBER, CLIENT, set_hops, "3",
     "Relays in a circuit, 1 to 5. With 1 the exit sees who you are; with 2 no relay stands between guard and exit."},
    {"path", LIST, CLIENT, set_path_hop, "{} (drawn at random)",
     "A fixed path, guard first: names or identities. For tests: it takes away what random paths protect."},
    {"exit_country", TEXT, CLIENT, set_exit_country, "any", "Country of the exit, two upper-case letters; or several (CH,SE), or any but some (!US,GB). What `meshvpn exit use` chose goes before it, until `meshvpn exit use auto`; what `meshvpn exit block` blocked is left out besides."},
    {"exit_ports", LIST, CLIENT, set_exit_port, "{443}",
     "TCP ports that the exit must let out, at most 8; `any`: take exits whatever they let out."},
    {"geoip_dir", TEXT, CLIENT, set_geoip_dir, "/usr/share/tor",
     "Where the tables of the recommended package tor-geoipdb are: an exit whose address lies elsewhere is in no wanted country. Empty: not checked."},
    {"size_policy", TEXT, CLIENT, set_size_policy, "classes",
     "Sizes of cells: exact (shows packet sizes), classes (three sizes), full (one size, most traffic)."},
    {"rotate_mb", NUMBER, CLIENT, set_rotate_mb, "1024",
     "MiB that a circuit carries, 25 % more or less, before a fresh one over the same relays takes over; connections stay."},
    {"rotate_pause_s", NUMBER, CLIENT, set_rotate_pause, "30; 0 if rotate_mb is below 1024",
     "Seconds that a circuit is used at least, however much it carries; at most 3600."},
    {"renew_minutes", NUMBER, CLIENT, set_renew_minutes, "60",
     "Minutes until a circuit over other middle relays takes over; connections stay."},
    {"exit_lifetime_minutes", NUMBER, CLIENT, set_exit_lifetime, "480",
     "Minutes, 25 % more or less, until new connections leave by another exit and address; open ones keep theirs. `meshvpn circuit new` does the same at once."},
    {"routes", TEXT, CLIENT, set_routes, "all",
     "all: everything goes into the tunnel; none: the program sets no routes."},
    {"mark", NUMBER, CLIENT, set_mark, "0x4d56",
     "Firewall mark of packets to the guard; only they use the main routing table."},
    {"table", NUMBER, CLIENT, set_table, "19798", "Routing table that holds the tunnel's default route."},
    {"kill_switch", BOOL, CLIENT, set_kill_switch, "true",
     "With `routes = all`: nothing leaves this host outside the tunnel from the start of the client until it is stopped, also while it connects and after it crashed. `meshvpn-client --cleanup` ends that."},
    {"lockdown", BOOL, CLIENT, set_lockdown, "false",
     "The kill switch stays in force when the client is stopped."},
    {"allow_lan", BOOL, CLIENT, set_allow_lan, "false",
     "The kill switch lets packets to private addresses and local multicast pass; not what asks for names: ports 53, 853, 137 (NetBIOS), 5353 (mDNS) and 5355 (LLMNR)."},
    {"operators", LIST, CLIENT, set_operator, "{}",
     "Users who may change what the client does (`meshvpn down`, `reconnect`, `circuit new`, ..), besides root and whoever started it; at most 16. They need to be able to open `control_socket`: be in its group."},
    {"outside_networks", LIST, CLIENT, set_split_network, "{}",
     "Networks and addresses that are reached outside the tunnel, seen by whoever watches the line; never their name servers (ports 53 and 853). At most 32. (docs/split-tunnelling.md)"},
    {"outside_domains", LIST, CLIENT, set_split_domain, "{}",
     "Domains whose names, and all below them, are reached outside the tunnel: the addresses that the tunnel's resolver gives for them, for an hour each; at most 32."},
    {"outside_users", LIST, CLIENT, set_split_user, "{}",
     "Users of this computer, by name or number, all of whose connections go outside the tunnel; at most 16."},
    {"outside_cgroups", LIST, CLIENT, set_split_cgroup, "{}",
     "Directories of cgroups (of net_cls, or of the unified hierarchy) all of whose processes go outside the tunnel; with `kill_switch`. One of the unified hierarchy may come, or be made anew, while the client runs; one of net_cls must be there when it starts. At most 7."},
    {"inside_networks", LIST, CLIENT, set_split_network, "{}",
     "The other direction: only what goes to these networks and addresses (and what `inside_users` send) goes into the tunnel, and never another way with `kill_switch`; all else goes as without a VPN, names too. Not together with outside_*. At most 32. (docs/split-tunnelling.md)"},
    {"inside_cgroups", LIST, CLIENT, set_split_cgroup, "{}",
     "Directories of cgroups, as `outside_cgroups`, all of whose processes go into the tunnel. They must be there when the client starts; one of the unified hierarchy may be made anew meanwhile."},
    {"inside_domains", LIST, CLIENT, set_split_domain, "{}",
     "Domains whose names, and all below them, are reached through the tunnel alone: the addresses that the tunnel's resolver gives for them, which everybody asks then, and nobody else; at most 32. With `kill_switch`, and not `dns = none`."},
    {"inside_users", LIST, CLIENT, set_split_user, "{}",
     "Users of this computer, by name or number, whose connections go into the tunnel, and of the others only those to `inside_networks`; at most 16."},
    {"dns", TEXT, CLIENT, set_dns, "auto",
     "With `routes = all`: who is told that names are asked through the tunnel, and asked to forget it at the end. resolved (systemd-resolved, by D-Bus), resolvconf (the program), file (/etc/resolv.conf is exchanged for one of ours, kept so, and put back), auto (the one of them that looks after this host's names; with inside_* other than `inside_domains`: none), none (names stay as they are)."},
};
/* clang-format on */

const mvpn_config_table mvpn_config_client_table = {settings, MVPN_ARRAY_LEN(settings)};
