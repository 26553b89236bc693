/*
 * meshvpn-bootstrap: makes a network and its nodes' directories.
 *
 *     DIR/keys/network.key     signs memberships; stays here and is backed up
 *     DIR/network.conf         the network file, for everybody
 *     DIR/client.conf          an example for clients
 *     DIR/nodes/NAME/          all that a node needs: copied to its server as it is
 *
 * Each add-node renews the network file, here and in all nodes' directories.
 */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/error.h"
#include "core/path.h"
#include "crypto/x25519.h"
#include "io/clock.h"
#include "io/file.h"
#include "io/keyfile.h"
#include "io/network_file.h"
#include "io/random.h"

#define DAY_S 86400u
/* Certificates and descriptor of a node: long enough that a small group's network does not fall
 * asleep, short enough that a lost key does not stay a member for ever. */
#define DAYS_DEFAULT 365
#define DAYS_MAX 3650
/* A clock behind ours shall not refuse what was just made. */
#define BACKDATE_S 3600u

enum {
    EXIT_USAGE = 2,
};

static const char usage[] =
    "meshvpn-bootstrap makes a network and the directories of its nodes.\n"
    "\n"
    "  meshvpn-bootstrap init DIR [--name NAME] [--open] [--allow-private]\n"
    "                             [--relax same-16|same-provider|same-family]...\n"
    "      Make a new network: its keys, DIR/network.conf and DIR/client.conf.\n"
    "      --open           without a secret and without membership certificates\n"
    "      --allow-private  its nodes may have private addresses\n"
    "      --relax RULE     a path may break this rule (may be given several times)\n"
    "\n"
    "  meshvpn-bootstrap add-node DIR NAME --address IP:PORT [--address [V6]:PORT]...\n"
    "                             [--exit] [--country CC] [--bandwidth-mbit N]\n"
    "                             [--provider P] [--days N]\n"
    "      Make DIR/nodes/NAME, ready to be copied to its server, and list it in network.conf.\n"
    "      --exit           an exit as well; otherwise a relay (guard and middle)\n"
    "      --days N         how long its certificates hold (365)\n"
    "\n"
    "  meshvpn-bootstrap renew DIR NAME [--days N]\n"
    "      Sign a node's certificates and descriptor anew, with the same keys.\n"
    "\n"
    "  meshvpn-bootstrap show DIR\n"
    "      Print the network and its nodes.\n"
    "\n"
    "  meshvpn-bootstrap help | --version\n"
    "\n"
    "Exit status: 0 done, 1 failed, 2 wrong usage.\n";

static int fail(const mvpn_fault *fault)
{
    (void)fprintf(stderr, "meshvpn-bootstrap: %s\n", fault->text);
    return EXIT_FAILURE;
}

static MVPN_PRINTF(1, 2) int fail_usage(const char *fmt, ...)
{
    va_list ap;
    (void)fputs("meshvpn-bootstrap: ", stderr);
    va_start(ap, fmt);
    (void)vfprintf(stderr, fmt, ap);
    va_end(ap);
    (void)fputs("\nTry 'meshvpn-bootstrap help'.\n", stderr);
    return EXIT_USAGE;
}

/* --- arguments --- */

typedef struct arguments {
    const char *dir;
    const char *node; /* NULL if the command takes none */
    const char *name;
    bool is_open;
    bool allow_private;
    unsigned relax;
    bool is_exit;
    unsigned address_count;
    mvpn_addr addresses[MVPN_DESCRIPTOR_ADDRESSES_MAX];
    const char *country;
    const char *provider;
    unsigned long bandwidth_mbit;
    unsigned long days;
} arguments;

static int parse_number(const char *option, const char *text, unsigned long max, unsigned long *ret)
{
    char *end = NULL;
    errno = 0;
    unsigned long v = strtoul(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || v == 0 || v > max) {
        return fail_usage("%s %s: a number from 1 to %lu is expected", option, text, max);
    }
    *ret = v;
    return 0;
}

static int parse_address(arguments *args, const char *text)
{
    mvpn_addr a;
    if (mvpn_addr_parse(text, &a) != 0 || a.port == 0) {
        return fail_usage(
            "--address %s: an address with a port is expected, such as 198.51.100.7:443 "
            "or [2001:db8::7]:443",
            text);
    }
    if (args->address_count == MVPN_DESCRIPTOR_ADDRESSES_MAX) {
        return fail_usage("--address: at most %d are possible", MVPN_DESCRIPTOR_ADDRESSES_MAX);
    }
    for (unsigned i = 0; i < args->address_count; i++) {
        if (mvpn_addr_eq(&args->addresses[i], &a)) {
            return fail_usage("--address %s: given twice", text);
        }
    }
    args->addresses[args->address_count++] = a;
    return 0;
}

static int parse_relax(arguments *args, const char *text)
{
    if (strcmp(text, "same-16") == 0) {
        args->relax |= MVPN_RELAX_BLOCK;
    } else if (strcmp(text, "same-provider") == 0) {
        args->relax |= MVPN_RELAX_PROVIDER;
    } else if (strcmp(text, "same-family") == 0) {
        args->relax |= MVPN_RELAX_FAMILY;
    } else {
        return fail_usage("--relax %s: same-16, same-provider or same-family is expected", text);
    }
    return 0;
}

/* Options without a value; false if it is none of these. */
static bool parse_flag(arguments *args, const char *command, const char *option)
{
    if (strcmp(command, "init") == 0 && strcmp(option, "--open") == 0) {
        args->is_open = true;
    } else if (strcmp(command, "init") == 0 && strcmp(option, "--allow-private") == 0) {
        args->allow_private = true;
    } else if (strcmp(command, "add-node") == 0 && strcmp(option, "--exit") == 0) {
        args->is_exit = true;
    } else {
        return false;
    }
    return true;
}

static bool takes_value(const char *command, const char *option)
{
    static const struct {
        const char *command;
        const char *option;
    } rows[] = {
        {"init", "--name"},        {"init", "--relax"},        {"add-node", "--address"},
        {"add-node", "--country"}, {"add-node", "--days"},     {"add-node", "--bandwidth-mbit"},
        {"renew", "--days"},       {"add-node", "--provider"},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        if (strcmp(rows[i].command, command) == 0 && strcmp(rows[i].option, option) == 0) {
            return true;
        }
    }
    return false;
}

static int parse_value(arguments *args, const char *option, const char *value)
{
    if (strcmp(option, "--address") == 0) {
        return parse_address(args, value);
    }
    if (strcmp(option, "--relax") == 0) {
        return parse_relax(args, value);
    }
    if (strcmp(option, "--days") == 0) {
        return parse_number(option, value, DAYS_MAX, &args->days);
    }
    if (strcmp(option, "--bandwidth-mbit") == 0) {
        return parse_number(option, value, 4000000, &args->bandwidth_mbit);
    }
    if (strcmp(option, "--country") == 0) {
        args->country = value;
        return mvpn_country_is_valid(value)
                   ? 0
                   : fail_usage("--country %s: two upper-case letters are expected, such as CH",
                                value);
    }
    if (strcmp(option, "--provider") == 0) {
        args->provider = value;
        return mvpn_provider_is_valid(value)
                   ? 0
                   : fail_usage("--provider: 1 to %d printable ASCII characters are expected",
                                MVPN_PROVIDER_MAX);
    }
    args->name = value;
    return value[0] != '\0' && strlen(value) <= MVPN_NETWORK_NAME_MAX &&
                   strpbrk(value, "\"\\$\n\r") == NULL
               ? 0
               : fail_usage("--name: 1 to %d characters without \" \\ $ are expected",
                            MVPN_NETWORK_NAME_MAX);
}

static int parse_arguments(arguments *args, const char *command, int argc, char **argv,
                           bool wants_node)
{
    *args = (arguments){.name = "meshvpn", .days = DAYS_DEFAULT};
    for (int i = 0; i < argc; i++) {
        const char *arg = argv[i];
        if (strncmp(arg, "--", 2) == 0) {
            if (parse_flag(args, command, arg)) {
                continue;
            }
            if (!takes_value(command, arg)) {
                return fail_usage("%s has no option %s", command, arg);
            }
            if (i + 1 == argc) {
                return fail_usage("%s needs a value", arg);
            }
            int rc = parse_value(args, arg, argv[++i]);
            if (rc != 0) {
                return rc;
            }
        } else if (args->dir == NULL) {
            args->dir = arg;
        } else if (wants_node && args->node == NULL) {
            args->node = arg;
        } else {
            return fail_usage("'%s' is one argument too many", arg);
        }
    }
    if (args->dir == NULL || (wants_node && args->node == NULL)) {
        return fail_usage("%s needs %s", command, wants_node ? "DIR and NAME" : "DIR");
    }
    if (args->node != NULL && !mvpn_name_is_valid(args->node)) {
        return fail_usage("'%s' is not a name: use 1 to %d of a-z, 0-9 and -", args->node,
                          MVPN_NAME_MAX);
    }
    return 0;
}

/* --- files --- */

typedef struct path {
    char text[PATH_MAX];
} path;

static MVPN_PRINTF(1, 2) path path_of(const char *fmt, ...)
{
    path p;
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(p.text, sizeof(p.text), fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= sizeof(p.text)) {
        (void)fputs("meshvpn-bootstrap: the path is too long\n", stderr);
        exit(EXIT_FAILURE);
    }
    return p;
}

static bool exists(const char *file)
{
    struct stat st;
    return lstat(file, &st) == 0;
}

static int write_text(const char *file, mode_t mode, mvpn_fault *fault, const char *fmt, ...)
    MVPN_PRINTF(4, 5);

static int write_text(const char *file, mode_t mode, mvpn_fault *fault, const char *fmt, ...)
{
    char *text = NULL;
    va_list ap;
    va_start(ap, fmt);
    int n = vasprintf(&text, fmt, ap);
    va_end(ap);
    if (n < 0) {
        return mvpn_fault_set(fault, MVPN_E_NOMEM, "no memory to write %s", file);
    }
    int rc = mvpn_file_write(file, text, (size_t)n, mode, fault);
    free(text);
    return rc;
}

/* The network's signing key and file, opened together. */
typedef struct network {
    mvpn_ed25519_pub pub;
    mvpn_ed25519_secret secret_key;
    mvpn_network_file file;
} network;

static void network_done(network *net)
{
    mvpn_network_file_done(&net->file);
    mvpn_wipe(net, sizeof(*net));
}

static int network_open(const char *dir, network *ret, mvpn_fault *fault)
{
    uint8_t seed[32];
    size_t lines;
    *ret = (network){0};
    int rc = mvpn_keyfile_read(path_of("%s/keys/network.key", dir).text, MVPN_KEYFILE_NETWORK, true,
                               seed, sizeof(seed), 1, &lines, fault);
    if (rc == MVPN_E_UNKNOWN) {
        return mvpn_fault_set(fault, rc,
                              "%s holds no network (keys/network.key is missing). Make one with "
                              "meshvpn-bootstrap init %s",
                              dir, dir);
    }
    if (rc != 0) {
        return rc;
    }
    mvpn_ed25519_from_seed(&ret->pub, &ret->secret_key, seed);
    mvpn_wipe(seed, sizeof(seed));
    /* Time 0: expired nodes stay in the file, so that they can be renewed. */
    rc = mvpn_network_file_load(path_of("%s/network.conf", dir).text, 0, &ret->file, fault);
    if (rc == 0 && memcmp(ret->file.network_pub.b, ret->pub.b, sizeof(ret->pub.b)) != 0) {
        rc = mvpn_fault_set(fault, MVPN_E_CONFIG,
                            "%s/network.conf is not of the network whose key is in %s/keys", dir,
                            dir);
    }
    if (rc != 0) {
        network_done(ret);
    }
    return rc;
}

/* The network file, for everybody and in each node's directory. */
static int network_publish(const char *dir, const network *net, mvpn_fault *fault)
{
    path nodes = path_of("%s/nodes", dir);
    int rc = mvpn_network_file_save(path_of("%s/network.conf", dir).text, &net->file, fault);
    DIR *list = rc == 0 ? opendir(nodes.text) : NULL;
    if (list == NULL) {
        return rc != 0
                   ? rc
                   : mvpn_fault_errno(fault, MVPN_E_SYSTEM, errno, "cannot read %s", nodes.text);
    }
    for (const struct dirent *e = readdir(list); rc == 0 && e != NULL; e = readdir(list)) {
        path link_cert = path_of("%s/%s/link.cert", nodes.text, e->d_name);
        if (e->d_name[0] != '.' && exists(link_cert.text)) {
            rc = mvpn_network_file_save(path_of("%s/%s/network.conf", nodes.text, e->d_name).text,
                                        &net->file, fault);
        }
    }
    (void)closedir(list);
    return rc;
}

/* --- init --- */

static int write_client_conf(const char *dir, mvpn_fault *fault)
{
    return write_text(
        path_of("%s/client.conf", dir).text, 0644, fault,
        "# A client of this network: give it this file and network.conf, side by side.\n"
        "# Start it with: meshvpn-client --config client.conf\n"
        "network_file = \"network.conf\"\n"
        "\n"
        "# Every key is optional; see docs/configuration.md.\n"
        "# hops = 3\n"
        "# exit_country = CH\n");
}

static int make_network(const arguments *args, mvpn_rng *rng, mvpn_fault *fault)
{
    network net = {0};
    mvpn_network_file *f = &net.file;
    mvpn_ed25519_generate(&net.pub, &net.secret_key, rng);
    (void)snprintf(f->name, sizeof(f->name), "%s", args->name);
    f->is_closed = !args->is_open;
    f->network_pub = net.pub;
    f->allow_private = args->allow_private;
    f->relax = args->relax;
    if (f->is_closed) {
        mvpn_rng_bytes(rng, f->network_secret.b, sizeof(f->network_secret.b));
    }
    int rc = mvpn_file_make_dir(args->dir, 0700, fault);
    if (rc == 0) {
        rc = mvpn_file_make_dir(path_of("%s/keys", args->dir).text, 0700, fault);
    }
    if (rc == 0) {
        rc = mvpn_file_make_dir(path_of("%s/nodes", args->dir).text, 0700, fault);
    }
    if (rc == 0) {
        rc = write_client_conf(args->dir, fault);
    }
    if (rc == 0) {
        rc = network_publish(args->dir, &net, fault);
    }
    /* Last: with this file the network exists. */
    if (rc == 0) {
        rc = mvpn_keyfile_write(path_of("%s/keys/network.key", args->dir).text,
                                MVPN_KEYFILE_NETWORK, true, net.secret_key.b, 32, 1, fault);
    }
    network_done(&net);
    return rc;
}

static int command_init(int argc, char **argv)
{
    arguments args;
    mvpn_fault fault;
    mvpn_rng rng;
    int rc = parse_arguments(&args, "init", argc, argv, false);
    if (rc != 0) {
        return rc;
    }
    static const char *const ours[] = {"keys/network.key", "network.conf"};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(ours); i++) {
        path p = path_of("%s/%s", args.dir, ours[i]);
        if (exists(p.text)) {
            (void)mvpn_fault_set(&fault, 0,
                                 "%s exists: nothing was changed. A network is made once; take "
                                 "another directory, or add nodes with meshvpn-bootstrap add-node",
                                 p.text);
            return fail(&fault);
        }
    }
    if (mvpn_random_seed(&rng) != 0) {
        (void)mvpn_fault_set(&fault, 0, "the system gives no random numbers");
        return fail(&fault);
    }
    rc = make_network(&args, &rng, &fault);
    mvpn_rng_done(&rng);
    if (rc != 0) {
        return fail(&fault);
    }
    (void)printf("Network \"%s\" (%s) is in %s.\n"
                 "Back up %s/keys and keep it private: who has it can admit nodes.\n"
                 "Next: meshvpn-bootstrap add-node %s NAME --address IP:PORT\n",
                 args.name, args.is_open ? "open" : "closed", args.dir, args.dir, args.dir);
    return EXIT_SUCCESS;
}

/* --- add-node, renew --- */

/* Certificates and descriptor; what `d` says of itself is set. */
static int sign_node(const network *net, mvpn_node_keys *keys, mvpn_descriptor *d,
                     unsigned long days, uint64_t now, mvpn_fault *fault)
{
    const mvpn_key *id = &net->file.network_id;
    uint64_t not_before = now - BACKDATE_S, not_after = now + days * DAY_S;
    mvpn_link_certificate_make(keys->link_certificate, &keys->identity_secret, &keys->identity,
                               &keys->link.pub, not_before, not_after, id);
    d->identity = keys->identity;
    memcpy(d->link_certificate, keys->link_certificate, sizeof(d->link_certificate));
    /* A clock that went back must not make the new descriptor the older one. */
    d->sequence = MVPN_MAX(d->sequence + 1, now);
    d->published = not_before;
    d->expires = not_after;
    d->onion_key_count = keys->onion_count;
    for (unsigned i = 0; i < keys->onion_count; i++) {
        d->onion_keys[i] = (mvpn_onion_key){keys->onion[i].id, keys->onion[i].pair.pub};
    }
    keys->has_membership = d->has_membership = net->file.is_closed;
    if (net->file.is_closed) {
        mvpn_membership_make(keys->membership, &net->secret_key, &keys->identity, d->roles,
                             not_before, not_after, d->sequence, id);
        memcpy(d->membership, keys->membership, sizeof(d->membership));
    }
    if (mvpn_descriptor_sign(d, &keys->identity_secret, id) != 0) {
        return mvpn_fault_set(fault, MVPN_E_INVAL, "the descriptor cannot be made");
    }
    return mvpn_descriptor_verify(d, id, mvpn_network_file_closed_pub(&net->file), now) == 0
               ? 0
               : mvpn_fault_set(fault, MVPN_E_INVAL, "the descriptor does not verify");
}

static void describe(const arguments *args, mvpn_descriptor *d)
{
    *d = (mvpn_descriptor){0};
    /* An exit is a guard too: of circuits that leave elsewhere, and of those of one hop. */
    d->roles =
        (uint16_t)(MVPN_ROLE_GUARD | MVPN_ROLE_MIDDLE | (args->is_exit ? MVPN_ROLE_EXIT : 0));
    bool has_v6 = false;
    for (unsigned i = 0; i < args->address_count; i++) {
        d->addresses[i] = (mvpn_descriptor_address){MVPN_CARRIER_PLAIN, args->addresses[i]};
        has_v6 = has_v6 || args->addresses[i].family == 6;
    }
    d->address_count = (uint8_t)args->address_count;
    if (args->is_exit) {
        /* The default policy: all but mail between servers. IPv6 is promised only by a node that
         * has an address of that kind. */
        d->has_policy = true;
        d->policy_flags = (uint8_t)(MVPN_EXIT_IPV4 | (has_v6 ? MVPN_EXIT_IPV6 : 0));
        d->policy_range_count = 2;
        d->policy_ranges[0] = (mvpn_port_range){1, 24};
        d->policy_ranges[1] = (mvpn_port_range){26, 65535};
    }
    if (args->country != NULL) {
        memcpy(d->country, args->country, 2);
    }
    if (args->provider != NULL) {
        memcpy(d->provider, args->provider, strlen(args->provider));
    }
    if (args->bandwidth_mbit != 0) {
        d->has_bandwidth = true;
        d->bandwidth_kbit = (uint32_t)args->bandwidth_mbit * 1000;
    }
    memcpy(d->name, args->node, strlen(args->node));
}

/* What the node's configuration says: where to listen, and what its descriptor says of it. */
static int write_node_conf(const char *dir, const arguments *args, mvpn_fault *fault)
{
    char listen[2 * MVPN_ADDR_STRLEN] = "", address[MVPN_DESCRIPTOR_ADDRESSES_MAX * 64] = "";
    char extra[128] = "", text[MVPN_ADDR_STRLEN];
    bool has_family[7] = {false};
    size_t n = 0, m = 0, k = 0;
    for (unsigned i = 0; i < args->address_count; i++) {
        const mvpn_addr *a = &args->addresses[i];
        n += (size_t)snprintf(address + n, sizeof(address) - n, "%s\"%s\"", i > 0 ? ", " : "",
                              mvpn_addr_format(a, text));
        if (!has_family[a->family]) {
            m += (size_t)snprintf(listen + m, sizeof(listen) - m, "%s\"%s:%u\"", m > 0 ? ", " : "",
                                  a->family == 4 ? "0.0.0.0" : "[::]", (unsigned)a->port);
            has_family[a->family] = true;
        }
    }
    if (args->country != NULL) {
        k += (size_t)snprintf(extra, sizeof(extra), "country = %s\n", args->country);
    }
    if (args->bandwidth_mbit != 0) {
        (void)snprintf(extra + k, sizeof(extra) - k, "bandwidth_mbit = %lu\n",
                       args->bandwidth_mbit);
    }
    return write_text(
        path_of("%s/%s.conf", dir, args->is_exit ? "exit" : "relay").text, 0644, fault,
        "# %s \"%s\" of this network. This directory is all that its server needs; copy it\n"
        "# (to /etc/meshvpn, say) and start: meshvpn-%s --config %s.conf\n"
        "# Every key is optional; see docs/configuration.md.\n"
        "network_file = \"network.conf\"\n"
        "key_dir = \".\"\n"
        "listen = {%s}\n"
        "control_socket = \"/run/meshvpn/%s.sock\"\n"
        "name = %s\n"
        "address = {%s}\n"
        "%s",
        args->is_exit ? "Exit" : "Relay", args->node, args->is_exit ? "exit-node" : "relay",
        args->is_exit ? "exit" : "relay", listen, args->node, args->node, address, extra);
}

/* Whether the network takes such a node. */
static int check_node(const network *net, const arguments *args, mvpn_fault *fault)
{
    char text[MVPN_ADDR_STRLEN];
    for (unsigned i = 0; i < args->address_count; i++) {
        const mvpn_addr *a = &args->addresses[i];
        if (!net->file.allow_private && !mvpn_addr_is_public(a)) {
            return mvpn_fault_set(fault, MVPN_E_POLICY,
                                  "%s is not reachable from the public internet, and this network "
                                  "takes public addresses only. If it is to live in a private "
                                  "network, write allow_private = true into %s/network.conf (init "
                                  "--allow-private does it for a new one)",
                                  mvpn_addr_format(a, text), args->dir);
        }
        for (size_t j = 0; j < net->file.relay_count; j++) {
            const mvpn_descriptor *d = &net->file.relays[j];
            for (unsigned k = 0; k < d->address_count; k++) {
                if (mvpn_addr_eq(&d->addresses[k].addr, a)) {
                    return mvpn_fault_set(fault, MVPN_E_POLICY,
                                          "%s is the address of node %s already. Give each node "
                                          "its own address or port",
                                          mvpn_addr_format(a, text), d->name);
                }
            }
        }
    }
    for (size_t j = 0; j < net->file.relay_count; j++) {
        if (strcmp(net->file.relays[j].name, args->node) == 0) {
            return mvpn_fault_set(
                fault, MVPN_E_POLICY,
                "%s has a node %s already: nothing was changed. Take another name, "
                "or renew it with meshvpn-bootstrap renew %s %s",
                args->dir, args->node, args->dir, args->node);
        }
    }
    path node_dir = path_of("%s/nodes/%s", args->dir, args->node);
    if (exists(node_dir.text)) {
        return mvpn_fault_set(fault, MVPN_E_POLICY,
                              "%s exists: nothing was changed. Remove it if it is a left-over, or "
                              "take another name",
                              node_dir.text);
    }
    return 0;
}

static int add_node(network *net, const arguments *args, mvpn_rng *rng, mvpn_fault *fault)
{
    mvpn_node_keys keys;
    mvpn_descriptor d;
    path dir = path_of("%s/nodes/%s", args->dir, args->node);
    int rc = check_node(net, args, fault);
    if (rc != 0) {
        return rc;
    }
    describe(args, &d);
    mvpn_node_keys_generate(&keys, rng);
    rc = sign_node(net, &keys, &d, args->days, mvpn_clock_unix(), fault);
    if (rc == 0 && mvpn_network_file_put(&net->file, &d) != 0) {
        rc = mvpn_fault_set(fault, MVPN_E_LIMIT, "the network file is full (%d nodes)",
                            MVPN_NETWORK_RELAYS_MAX);
    }
    if (rc == 0) {
        rc = mvpn_file_make_dir(dir.text, 0700, fault);
    }
    if (rc == 0) {
        rc = write_node_conf(dir.text, args, fault);
    }
    if (rc == 0) {
        rc = mvpn_node_keys_save(dir.text, &keys, fault);
    }
    mvpn_node_keys_done(&keys);
    return rc == 0 ? network_publish(args->dir, net, fault) : rc;
}

static int command_add_node(int argc, char **argv)
{
    arguments args;
    mvpn_fault fault;
    mvpn_rng rng;
    network net;
    int rc = parse_arguments(&args, "add-node", argc, argv, true);
    if (rc != 0) {
        return rc;
    }
    MVPN_ASSERT(args.node != NULL);
    if (args.address_count == 0) {
        return fail_usage("add-node needs --address IP:PORT: where others reach the node");
    }
    if (network_open(args.dir, &net, &fault) != 0) {
        return fail(&fault);
    }
    rc = mvpn_random_seed(&rng);
    if (rc != 0) {
        (void)mvpn_fault_set(&fault, 0, "the system gives no random numbers");
    } else {
        rc = add_node(&net, &args, &rng, &fault);
        mvpn_rng_done(&rng);
    }
    size_t count = net.file.relay_count;
    network_done(&net);
    if (rc != 0) {
        return fail(&fault);
    }
    (void)printf(
        "Node %s is in %s/nodes/%s: copy the directory to its server, mode and all.\n"
        "%s/network.conf lists %zu node%s now; the other nodes and the clients need the new "
        "file.\n",
        args.node, args.dir, args.node, args.dir, count, count == 1 ? "" : "s");
    return EXIT_SUCCESS;
}

static int renew_node(network *net, const arguments *args, mvpn_fault *fault)
{
    mvpn_node_keys keys;
    path dir = path_of("%s/nodes/%s", args->dir, args->node);
    int rc = mvpn_node_keys_load(dir.text, &net->file.network_id,
                                 mvpn_network_file_closed_pub(&net->file), 0, &keys, fault);
    if (rc != 0) {
        return rc;
    }
    const mvpn_descriptor *old = mvpn_network_file_find(&net->file, args->node);
    if (old == NULL || memcmp(old->identity.b, keys.identity.b, sizeof(old->identity.b)) != 0) {
        rc = mvpn_fault_set(fault, MVPN_E_UNKNOWN,
                            "%s/network.conf does not list this node %s. Add it anew under another "
                            "name with meshvpn-bootstrap add-node",
                            args->dir, args->node);
    } else if (!keys.has_identity_secret) {
        rc = mvpn_fault_set(fault, MVPN_E_UNKNOWN,
                            "%s/identity.key is missing. Bring it back for the renewal", dir.text);
    } else {
        mvpn_descriptor d = *old;
        rc = sign_node(net, &keys, &d, args->days, mvpn_clock_unix(), fault);
        if (rc == 0 && mvpn_network_file_put(&net->file, &d) != 0) {
            rc = mvpn_fault_set(fault, MVPN_E_NOMEM, "no memory");
        }
    }
    if (rc == 0) {
        rc = mvpn_node_keys_save(dir.text, &keys, fault);
    }
    mvpn_node_keys_done(&keys);
    return rc == 0 ? network_publish(args->dir, net, fault) : rc;
}

static int command_renew(int argc, char **argv)
{
    arguments args;
    mvpn_fault fault;
    network net;
    int rc = parse_arguments(&args, "renew", argc, argv, true);
    if (rc != 0) {
        return rc;
    }
    MVPN_ASSERT(args.node != NULL);
    if (network_open(args.dir, &net, &fault) != 0) {
        return fail(&fault);
    }
    rc = renew_node(&net, &args, &fault);
    network_done(&net);
    if (rc != 0) {
        return fail(&fault);
    }
    (void)printf(
        "Node %s is good for %lu days. Copy link.cert, membership.cert and network.conf of "
        "%s/nodes/%s to its server.\n",
        args.node, args.days, args.dir, args.node);
    return EXIT_SUCCESS;
}

/* --- show --- */

static void show_relay(const mvpn_descriptor *d, uint64_t now)
{
    char base64[MVPN_BASE64_LEN(32)], addr[MVPN_ADDR_STRLEN], date[16];
    time_t expires = (time_t)d->expires;
    struct tm tm;
    (void)strftime(date, sizeof(date), "%Y-%m-%d", gmtime_r(&expires, &tm));
    (void)printf("  %-24s %s%s%s%s%s\n", d->name[0] != '\0' ? d->name : "-",
                 (d->roles & MVPN_ROLE_GUARD) != 0 ? "guard " : "",
                 (d->roles & MVPN_ROLE_MIDDLE) != 0 ? "middle " : "",
                 (d->roles & MVPN_ROLE_EXIT) != 0 ? "exit " : "", d->country,
                 now > d->expires ? " EXPIRED" : "");
    (void)printf("    identity %s\n    address ",
                 mvpn_base64_encode(base64, sizeof(base64), MVPN_BYTES_ARRAY(d->identity.b)));
    for (unsigned i = 0; i < d->address_count; i++) {
        (void)printf(" %s", mvpn_addr_format(&d->addresses[i].addr, addr));
    }
    if (d->has_bandwidth) {
        (void)printf("\n    bandwidth %u Mbit/s", d->bandwidth_kbit / 1000);
    }
    if (d->provider[0] != '\0') {
        (void)printf("\n    provider %s", d->provider);
    }
    (void)printf("\n    valid until %s\n", date);
}

/* Works on any directory with a network file: the network's key is not needed. */
static int command_show(int argc, char **argv)
{
    arguments args;
    mvpn_fault fault;
    mvpn_network_file f;
    char base64[MVPN_BASE64_LEN(32)];
    int rc = parse_arguments(&args, "show", argc, argv, false);
    if (rc != 0) {
        return rc;
    }
    if (mvpn_network_file_load(path_of("%s/network.conf", args.dir).text, 0, &f, &fault) != 0) {
        return fail(&fault);
    }
    (void)printf("network \"%s\" (%s)\n  id %s\n", f.name, f.is_closed ? "closed" : "open",
                 mvpn_base64_encode(base64, sizeof(base64), MVPN_BYTES_ARRAY(f.network_id.b)));
    (void)printf("  private addresses %s\n", f.allow_private ? "allowed" : "refused");
    (void)printf("  relaxed rules:%s%s%s%s\n", f.relax == 0 ? " none" : "",
                 (f.relax & MVPN_RELAX_BLOCK) != 0 ? " same-16" : "",
                 (f.relax & MVPN_RELAX_PROVIDER) != 0 ? " same-provider" : "",
                 (f.relax & MVPN_RELAX_FAMILY) != 0 ? " same-family" : "");
    (void)printf("%zu node%s\n", f.relay_count, f.relay_count == 1 ? "" : "s");
    for (size_t i = 0; i < f.relay_count; i++) {
        show_relay(&f.relays[i], mvpn_clock_unix());
    }
    mvpn_network_file_done(&f);
    return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(int argc, char **argv);
    } commands[] = {
        {"init", command_init},
        {"add-node", command_add_node},
        {"renew", command_renew},
        {"show", command_show},
    };
    if (argc < 2) {
        (void)fputs(usage, stderr);
        return EXIT_USAGE;
    }
    if (strcmp(argv[1], "help") == 0 || strcmp(argv[1], "--help") == 0 ||
        strcmp(argv[1], "-h") == 0) {
        (void)fputs(usage, stdout);
        return EXIT_SUCCESS;
    }
    if (strcmp(argv[1], "--version") == 0) {
        (void)puts("meshvpn-bootstrap " MVPN_VERSION);
        return EXIT_SUCCESS;
    }
    for (size_t i = 0; i < MVPN_ARRAY_LEN(commands); i++) {
        if (strcmp(argv[1], commands[i].name) == 0) {
            return commands[i].run(argc - 2, argv + 2);
        }
    }
    return fail_usage("'%s' is no command", argv[1]);
}
