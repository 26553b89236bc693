/*
 * DIR/relay.conf or exit.conf, and DIR/relay/ with the keys, which becomes the user's that the
 * relay runs as: nothing else of DIR does, so a client may live in it too. In a closed network the
 * first call also leaves DIR/relay/request, and a second one brings what the network's operator
 * made of it (bin/relay_request.h).
 */
#include "bin/relay_enable.h"

#include <errno.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "bin/child.h"
#include "bin/node_conf.h"
#include "bin/programs.h"
#include "bin/relay_request.h"
#include "io/config.h"
#include "io/file.h"
#include "io/netlink.h"
#include "io/network_file.h"
#include "io/random.h"
#include "io/sandbox.h"

#define DAYS 365
#define DAY_S 86400u
#define BACKDATE_S 3600u
#define DEFAULT_PORT 443
#define MBIT_MAX 4000000ul
#define GB_MAX 4000000ul
#define ROLES_RELAY (MVPN_ROLE_GUARD | MVPN_ROLE_MIDDLE | MVPN_ROLE_DHT_SERVER)
#define ROLES_HOME MVPN_ROLE_MIDDLE

typedef struct enabling {
    const options_given *given;
    char dir[PATH_MAX - 64];  /* of the network file and the configuration */
    char keys[PATH_MAX - 32]; /* DIR/relay */
    bool is_exit;
    bool is_made; /* it was enabled before */
    enum mvpn_config_kind kind;
    char conf_file[PATH_MAX];
    mvpn_network_file network;
    mvpn_node_keys node;
    node_conf conf;
    char name[MVPN_NAME_MAX + 1];
    mvpn_addr addresses[MVPN_DESCRIPTOR_ADDRESSES_MAX];
} enabling;

/* ---- words ---- */

static bool parse_unit(const char *text, const char *const *units, const unsigned long *factors,
                       size_t count, unsigned long max, unsigned long *ret)
{
    char *end = NULL;
    if (text[0] < '0' || text[0] > '9') {
        return false;
    }
    errno = 0;
    unsigned long n = strtoul(text, &end, 10);
    for (size_t i = 0; errno == 0 && i < count; i++) {
        if (strcasecmp(end, units[i]) == 0 && n > 0 && n <= max / factors[i]) {
            *ret = n * factors[i];
            return true;
        }
    }
    return false;
}

bool relay_parse_rate(const char *text, unsigned long *ret_mbit)
{
    static const char *const units[] = {"", "mbit", "mbit/s", "gbit", "gbit/s"};
    static const unsigned long factors[] = {1, 1, 1, 1000, 1000};
    return parse_unit(text, units, factors, MVPN_ARRAY_LEN(units), MBIT_MAX, ret_mbit);
}

bool relay_parse_quota(const char *text, unsigned long *ret_gb)
{
    static const char *const units[] = {"",        "g",        "gb",      "t",       "tb",
                                        "g/month", "gb/month", "t/month", "tb/month"};
    static const unsigned long factors[] = {1, 1, 1, 1000, 1000, 1, 1, 1000, 1000};
    return parse_unit(text, units, factors, MVPN_ARRAY_LEN(units), GB_MAX, ret_gb);
}

/* ---- what is there ---- */

static int file_in(const char *dir, const char *name, char out[static PATH_MAX])
{
    int n = snprintf(out, PATH_MAX, "%s/%s", dir, name);
    return n > 0 && n < PATH_MAX ? 0 : MVPN_E_CONFIG;
}

static bool is_there(const char *dir, const char *name)
{
    char path[PATH_MAX];
    return file_in(dir, name, path) == 0 && access(path, F_OK) == 0;
}

static int load_network(enabling *e, mvpn_fault *fault)
{
    char path[PATH_MAX];
    int rc = file_in(e->dir, "network.conf", path);
    rc = rc != 0 ? rc : mvpn_network_file_load(path, (uint64_t)time(NULL), &e->network, fault);
    return rc != MVPN_E_UNKNOWN
               ? rc
               : mvpn_fault_set(fault, rc,
                                "%s is missing: become a member of a network first, with sudo "
                                "meshvpn join LINK",
                                path);
}

/* Which node this computer is already, if any. */
static int look_around(enabling *e, mvpn_fault *fault)
{
    static const struct {
        const char *file;
        enum mvpn_config_kind kind;
    } rows[] = {{"relay.conf", MVPN_CONFIG_RELAY}, {"exit.conf", MVPN_CONFIG_EXIT}};
    e->kind = e->is_exit ? MVPN_CONFIG_EXIT : MVPN_CONFIG_RELAY;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        if (!is_there(e->dir, rows[i].file)) {
            continue;
        }
        if (!is_there(e->keys, "link.cert")) {
            return mvpn_fault_set(
                fault, MVPN_E_POLICY,
                "this computer has %s/%s already, which was not made here: change "
                "it with meshvpn config set %s",
                e->dir, rows[i].file, mvpn_config_kind_name(rows[i].kind));
        }
        if (e->is_exit && rows[i].kind != MVPN_CONFIG_EXIT) {
            return mvpn_fault_set(
                fault, MVPN_E_POLICY,
                "this computer is a relay already. To make it an exit, move %s/%s "
                "and %s away first",
                e->dir, rows[i].file, e->keys);
        }
        e->kind = rows[i].kind;
        e->is_exit = rows[i].kind == MVPN_CONFIG_EXIT;
        e->is_made = true;
    }
    return file_in(e->dir, e->is_exit ? "exit.conf" : "relay.conf", e->conf_file);
}

/* ---- what is wanted ---- */

static int take_addresses(enabling *e)
{
    e->conf.addresses = e->addresses;
    for (size_t i = 0; i < e->given->count; i++) {
        if (strcmp(e->given->items[i].option->name, "--address") != 0) {
            continue;
        }
        mvpn_addr *a = &e->addresses[e->conf.address_count];
        if (mvpn_addr_parse(e->given->items[i].value, a) != 0 || a->port == 0) {
            return options_fail(e->given,
                                "--address %s: an address with a port is expected, such as "
                                "198.51.100.7:443 or [2001:db8::7]:443",
                                e->given->items[i].value);
        }
        if (!e->network.allow_private && !mvpn_addr_is_public(a)) {
            return options_fail(e->given,
                                "--address %s: not reachable from the public internet. Without "
                                "--address this becomes a relay behind a NAT",
                                e->given->items[i].value);
        }
        e->conf.address_count++;
    }
    return 0;
}

/* The addresses by which this host reaches others, if others can reach it by them. */
static void find_addresses(enabling *e)
{
    static mvpn_config client; /* 50 KB */
    mvpn_netlink *nl = NULL;
    if (mvpn_netlink_open(&nl, NULL) != 0) {
        return;
    }
    mvpn_config_init(&client, MVPN_CONFIG_CLIENT);
    for (unsigned family = 4; family <= 6; family += 2) {
        mvpn_netlink_way way;
        /* With the mark of a client of this host: its tunnel is not asked. */
        if (mvpn_netlink_way_out(nl, family, client.client.mark, &way, NULL) == 0 &&
            way.source.family != 0 &&
            (mvpn_addr_is_public(&way.source) || e->network.allow_private)) {
            mvpn_addr *a = &e->addresses[e->conf.address_count++];
            *a = way.source;
            a->port = DEFAULT_PORT;
        }
    }
    mvpn_netlink_close(nl);
}

static int take_limits(enabling *e)
{
    const char *rate = options_text(e->given, "--rate"), *quota = options_text(e->given, "--quota");
    if (rate != NULL && !relay_parse_rate(rate, &e->conf.limit_mbit)) {
        return options_fail(e->given, "--rate %s: write 50mbit or 1gbit", rate);
    }
    if (quota != NULL && !relay_parse_quota(quota, &e->conf.quota_gb)) {
        return options_fail(e->given, "--quota %s: write 1T/month or 500G/month", quota);
    }
    if (quota != NULL && !e->is_exit) {
        return options_fail(e->given, "--quota is kept by exits: bound a relay by --rate. 3mbit in "
                                      "each direction is about 2T a month");
    }
    return 0;
}

/* A name that tells nothing of this computer, unless one is wanted. */
static int take_name(enabling *e)
{
    const char *name = options_text(e->given, "--name");
    if (name != NULL && !mvpn_name_is_valid(name)) {
        return options_fail(e->given, "--name %s: use 1 to %d of a-z, 0-9 and -", name,
                            MVPN_NAME_MAX);
    }
    if (name != NULL) {
        memcpy(e->name, name, strlen(name) + 1);
    } else {
        (void)snprintf(e->name, sizeof(e->name), "relay-%02x%02x%02x", e->node.identity.b[0],
                       e->node.identity.b[1], e->node.identity.b[2]);
    }
    e->conf.name = e->name;
    e->conf.control_name = e->is_exit ? "exit" : "relay";
    return 0;
}

/* ---- keys ---- */

static void certify_link(enabling *e)
{
    uint64_t now = (uint64_t)time(NULL);
    mvpn_link_certificate_make(e->node.link_certificate, &e->node.identity_secret,
                               &e->node.identity, &e->node.link.pub, now - BACKDATE_S,
                               now + DAYS * DAY_S, &e->network.network_id);
}

static int make_keys(enabling *e, mvpn_fault *fault)
{
    mvpn_rng rng;
    if (mvpn_random_seed(&rng) != 0) {
        return mvpn_fault_set(fault, MVPN_E_SYSTEM, "the system gives no random numbers");
    }
    mvpn_node_keys_generate(&e->node, &rng);
    mvpn_rng_done(&rng);
    certify_link(e);
    int rc = mvpn_file_make_dir(e->keys, 0700, fault);
    return rc != 0 ? rc : mvpn_node_keys_save(e->keys, &e->node, fault);
}

/* Of a relay that was enabled before: its link certificate is made anew, for a year. */
static int load_keys(enabling *e, mvpn_fault *fault)
{
    int rc = mvpn_node_keys_load(e->keys, &e->network.network_id, NULL, 0, &e->node, fault);
    if (rc == 0 && !e->node.has_identity_secret) {
        rc = mvpn_fault_set(fault, MVPN_E_UNKNOWN,
                            "%s/identity.key is missing. Bring it back from a backup", e->keys);
    }
    if (rc == 0) {
        certify_link(e);
        rc = mvpn_node_keys_save(e->keys, &e->node, fault);
    }
    return rc;
}

/* The program's user gets what is below DIR/relay, and nothing else. */
static int give_keys(const enabling *e, mvpn_fault *fault)
{
    const struct passwd *user = getpwnam(MVPN_SANDBOX_USER);
    mvpn_sandbox_user owner = {.changes = true};
    if (user == NULL || geteuid() != 0) {
        return 0; /* without that user it stays root's, who then starts it */
    }
    owner.uid = user->pw_uid;
    owner.gid = user->pw_gid;
    return mvpn_sandbox_give_dir(e->keys, &owner, fault);
}

/* ---- files ---- */

static int write_policy(const enabling *e, const char *policy, mvpn_fault *fault)
{
    char path[PATH_MAX];
    static mvpn_config_exit rules; /* 20 KB */
    if (strcmp(policy, "default") == 0) {
        return 0;
    }
    int rc = mvpn_config_read_policy(&rules, policy, fault);
    rc = rc != 0 ? rc : file_in(e->dir, "policy.conf", path);
    return rc != 0 ? rc : mvpn_file_write(path, rules.policy, strlen(rules.policy), 0644, fault);
}

static int write_conf(enabling *e, mvpn_fault *fault)
{
    static mvpn_config config; /* 50 KB */
    e->conf.head = "# Made by meshvpn relay enable. Every key is optional; see\n"
                   "# docs/configuration.md, or change one with meshvpn config set.\n";
    e->conf.network_file = e->network.is_closed ? "relay/network.conf" : "network.conf";
    e->conf.key_dir = "relay";
    char *text = node_conf_text(&e->conf);
    if (text == NULL) {
        return mvpn_fault_set(fault, MVPN_E_NOMEM, "out of memory");
    }
    int rc = mvpn_config_parse(e->conf_file, text, strlen(text), e->kind, &config, fault);
    rc = rc != 0 ? rc : mvpn_file_write(e->conf_file, text, strlen(text), 0644, fault);
    free(text);
    return rc;
}

/* A closed network's file is a secret of its owner's, and the relay runs as another. */
static int copy_network(const enabling *e, mvpn_fault *fault)
{
    char path[PATH_MAX];
    int rc = file_in(e->keys, "network.conf", path);
    return rc != 0 || !e->network.is_closed ? rc : mvpn_network_file_save(path, &e->network, fault);
}

/* ---- membership ---- */

static uint16_t roles_of(const enabling *e)
{
    return (uint16_t)((e->conf.is_at_home ? ROLES_HOME : ROLES_RELAY) |
                      (e->is_exit ? MVPN_ROLE_EXIT : 0));
}

static int write_request(const enabling *e, char path[static PATH_MAX], mvpn_fault *fault)
{
    uint8_t bytes[RELAY_REQUEST_LEN];
    relay_request r = {.roles = roles_of(e)};
    memcpy(r.name, e->name, sizeof(r.name));
    memcpy(r.link_certificate, e->node.link_certificate, sizeof(r.link_certificate));
    relay_request_encode(bytes, &r);
    int rc = file_in(e->keys, "request", path);
    return rc != 0 ? rc
                   : mvpn_keyfile_write(path, RELAY_REQUEST_TYPE, false, bytes, sizeof(bytes), 1,
                                        fault);
}

static int take_certificate(enabling *e, const char *file, mvpn_fault *fault)
{
    mvpn_membership m;
    size_t lines;
    char path[PATH_MAX];
    uint8_t *bytes = e->node.membership;
    int rc = mvpn_keyfile_read(file, MVPN_KEYFILE_MEMBERSHIP, false, bytes, MVPN_MEMBERSHIP_LEN, 1,
                               &lines, fault);
    if (rc != 0) {
        return rc;
    }
    rc = mvpn_membership_verify(MVPN_BYTES_ARRAY(e->node.membership), &e->network.network_id,
                                &e->network.network_pub, (uint64_t)time(NULL), &m);
    if (rc != 0 || memcmp(m.identity.b, e->node.identity.b, sizeof(m.identity.b)) != 0) {
        return mvpn_fault_set(fault, MVPN_E_AUTH,
                              "%s is no membership of this relay in network \"%s\" that holds now. "
                              "Nothing was changed",
                              file, e->network.name);
    }
    if (e->is_exit && (m.roles & MVPN_ROLE_EXIT) == 0) {
        return mvpn_fault_set(fault, MVPN_E_POLICY,
                              "%s admits a relay, and this is configured as an exit. Nothing was "
                              "changed",
                              file);
    }
    rc = file_in(e->keys, "membership.cert", path);
    return rc != 0 ? rc
                   : mvpn_keyfile_write(path, MVPN_KEYFILE_MEMBERSHIP, false, bytes,
                                        MVPN_MEMBERSHIP_LEN, 1, fault);
}

/* ---- all of it ---- */

static int begin(enabling *e, const options_given *given, mvpn_fault *fault)
{
    const char *dir = options_text(given, "--config-dir");
    *e = (enabling){.given = given, .is_exit = options_has(given, "--exit")};
    dir = dir != NULL ? dir : MVPN_CONFIG_KEY_DIR;
    if ((size_t)snprintf(e->dir, sizeof(e->dir), "%s", dir) >= sizeof(e->dir) ||
        (size_t)snprintf(e->keys, sizeof(e->keys), "%s/relay", dir) >= sizeof(e->keys)) {
        return mvpn_fault_set(fault, MVPN_E_CONFIG, "the path of --config-dir is too long");
    }
    if (access(dir, F_OK) == 0 && access(dir, W_OK) != 0) {
        return mvpn_fault_set(fault, MVPN_E_SYSTEM,
                              "you may not write to %s. Use: sudo meshvpn relay enable", dir);
    }
    int rc = load_network(e, fault);
    return rc != 0 ? rc : look_around(e, fault);
}

/* -1: `fault` says why; else the exit status of a wrong option, or 0. */
static int make(enabling *e, mvpn_fault *fault)
{
    const char *policy = options_text(e->given, "--exit");
    int status = take_addresses(e);
    status = status != 0 ? status : take_limits(e);
    if (status != 0) {
        return status;
    }
    if (e->conf.address_count == 0 && !options_has(e->given, "--home")) {
        find_addresses(e);
    }
    e->conf.is_at_home = e->conf.address_count == 0;
    e->conf.policy_file = policy != NULL && strcmp(policy, "default") != 0 ? "policy.conf" : NULL;
    if (policy != NULL && write_policy(e, policy, fault) != 0) {
        return -1;
    }
    if (is_there(e->keys, "link.cert") ? load_keys(e, fault) != 0 : make_keys(e, fault) != 0) {
        return -1;
    }
    status = take_name(e);
    return status != 0 ? status : write_conf(e, fault) != 0 ? -1 : 0;
}

/* What the configuration says by now, for a request made again. */
static int recall(enabling *e, mvpn_fault *fault)
{
    static mvpn_config config;
    int rc = mvpn_config_load(e->conf_file, e->kind, &config, fault);
    rc = rc != 0 ? rc : load_keys(e, fault);
    if (rc == 0) {
        memcpy(e->name, config.relay.name, sizeof(e->name));
        e->conf.is_at_home = config.relay.behind_nat;
    }
    return rc;
}

static void tell_what(const enabling *e)
{
    char text[MVPN_ADDR_STRLEN];
    if (e->is_made) {
        (void)printf("%s is as it was; its certificate holds for %d days from now.\n", e->conf_file,
                     DAYS);
        return;
    }
    (void)printf("%s is written: %s \"%s\" of network \"%s\"", e->conf_file,
                 e->is_exit ? "an exit," : "a relay,", e->name, e->network.name);
    for (unsigned i = 0; i < e->conf.address_count; i++) {
        (void)printf("%s%s", i == 0 ? ", at " : " and ", mvpn_addr_format(&e->addresses[i], text));
    }
    (void)printf("%s.\n",
                 e->conf.is_at_home
                     ? ", behind a NAT: this computer has no address that others reach. It "
                       "needs NAT relays in the network"
                     : "");
}

static int tell_request(const enabling *e, const char *request)
{
    (void)printf("The network is closed: its operator must admit this relay. Send him\n"
                 "    %s\n"
                 "which is no secret. He runs, where the network's keys are:\n"
                 "    meshvpn-bootstrap admit DIR request\n"
                 "and sends back %s.membership. Then, here:\n"
                 "    sudo meshvpn relay enable --certificate %s.membership\n",
                 request, e->name, e->name);
    return EXIT_SUCCESS;
}

static int start(const enabling *e)
{
    const program_info *p = program_of(e->kind);
    if (!program_has_systemd() || !program_has_unit(p->unit) ||
        strcmp(e->dir, MVPN_CONFIG_KEY_DIR) != 0) {
        (void)printf("Next: sudo %s --config %s\nThen: meshvpn relay status\n", p->name,
                     e->conf_file);
        return EXIT_SUCCESS;
    }
    (void)fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        (void)execlp("systemctl", "systemctl", "enable", "--now", p->unit, (char *)NULL);
        _exit(127);
    }
    if (child < 0 || child_wait(child) != 0) {
        (void)fprintf(stderr,
                      "meshvpn: systemctl enable --now %s failed: see sudo meshvpn log %s\n",
                      p->unit, mvpn_config_kind_name(e->kind));
        return EXIT_FAILURE;
    }
    (void)printf("%s runs. In a few minutes: meshvpn relay status\n", p->unit);
    return EXIT_SUCCESS;
}

static int finish(enabling *e, mvpn_fault *fault)
{
    const char *certificate = options_text(e->given, "--certificate");
    char request[PATH_MAX] = "";
    int rc = 0;
    if (certificate != NULL) {
        rc = take_certificate(e, certificate, fault);
    }
    bool is_waiting = e->network.is_closed && !is_there(e->keys, "membership.cert");
    rc = rc == 0 && is_waiting ? write_request(e, request, fault) : rc;
    rc = rc != 0 ? rc : copy_network(e, fault);
    rc = rc != 0 ? rc : give_keys(e, fault);
    if (rc != 0) {
        return -1;
    }
    tell_what(e);
    return is_waiting ? tell_request(e, request) : start(e);
}

int relay_enable_command(const options_given *given)
{
    static enabling e; /* 50 KB */
    mvpn_fault fault = {""};
    int status = begin(&e, given, &fault) == 0 ? 0 : -1;
    if (status == 0 && options_text(given, "--certificate") != NULL && !e.is_made) {
        status =
            options_fail(given, "--certificate comes after a first meshvpn relay enable, which "
                                "makes the keys it is for");
    } else if (status == 0) {
        status = e.is_made ? (recall(&e, &fault) == 0 ? 0 : -1) : make(&e, &fault);
    }
    status = status == 0 ? finish(&e, &fault) : status;
    if (status == -1) {
        (void)fprintf(stderr, "meshvpn: %s\n", fault.text);
        status = EXIT_FAILURE;
    }
    mvpn_network_file_done(&e.network);
    mvpn_node_keys_done(&e.node);
    return status;
}
