/* meshvpn-bootstrap add-node and renew: the directory of a node. */
#include "bin/bootstrap.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/error.h"
#include "bin/node_conf.h"
#include "crypto/x25519.h"
#include "io/clock.h"
#include "io/config.h"
#include "io/file.h"
#include "io/random.h"

/* Certificates and descriptor of a node: long enough that a small group's network does not fall
 * asleep. */
#define DAYS_DEFAULT 365
/* A clock behind ours shall not refuse what was just made. */
#define BACKDATE_S 3600u
#define DESCRIPTOR_FILE "node.desc"
#define POLICY_FILE "policy.conf" /* installed as configurations are */

/* An exit is a guard too: of circuits that leave elsewhere, and of those of one hop. What carries
 * people's traffic serves the DHT as well; entry and discovery nodes carry none. */
#define ROLES_RELAY (MVPN_ROLE_GUARD | MVPN_ROLE_MIDDLE | MVPN_ROLE_DHT_SERVER)
const kind_info node_kinds[NODE_KINDS] = {
    [NODE_RELAY] = {"relay", "meshvpn-relay", "meshvpn-relay.service", "relay", ROLES_RELAY},
    [NODE_EXIT] = {"exit", "meshvpn-exit-node", "meshvpn-exit-node.service", "exit",
                   ROLES_RELAY | MVPN_ROLE_EXIT},
    [NODE_BOOTSTRAP] = {"bootstrap", "meshvpn-dht-bootstrap", "meshvpn-dht-bootstrap.service",
                        "bootstrap node", MVPN_ROLE_DHT_SERVER},
    [NODE_DISCOVERY] = {"discovery", "meshvpn-discovery", "meshvpn-discovery.service",
                        "discovery node", MVPN_ROLE_DHT_SERVER | MVPN_ROLE_DISCOVERY},
};

/* --- reading --- */

static int load_kind(mesh_node *n, mvpn_fault *fault)
{
    for (unsigned kind = 0; kind < NODE_KINDS; kind++) {
        if (path_exists(path_of("%s/%s.conf", n->dir.text, node_kinds[kind].name).text)) {
            n->kind = (enum node_kind)kind;
            return 0;
        }
    }
    return mvpn_fault_set(fault, MVPN_E_CONFIG,
                          "%s has no configuration (relay.conf, exit.conf, bootstrap.conf or "
                          "discovery.conf). Bring it back from a backup",
                          n->dir.text);
}

/* Networks made before this file was kept list all their nodes. */
static int load_listed_descriptor(mesh_node *n, mvpn_fault *fault)
{
    mvpn_network_file f;
    int rc = mvpn_network_file_load(path_of("%s/network.conf", n->dir.text).text, 0, &f, fault);
    if (rc != 0) {
        return rc;
    }
    const mvpn_descriptor *d = mvpn_network_file_find(&f, n->name);
    if (d != NULL) {
        n->descriptor = *d;
    } else {
        rc = mvpn_fault_set(fault, MVPN_E_CONFIG,
                            "%s/" DESCRIPTOR_FILE " is missing. Bring it back from a backup, or "
                            "add the node anew under another name",
                            n->dir.text);
    }
    mvpn_network_file_done(&f);
    return rc;
}

static int load_descriptor(mesh_node *n, mvpn_fault *fault)
{
    path file = path_of("%s/" DESCRIPTOR_FILE, n->dir.text);
    uint8_t *content = NULL, bytes[MVPN_DESCRIPTOR_MAX];
    size_t size = 0, len = 0;
    int rc = mvpn_file_read(file.text, 2 * sizeof(bytes), false, &content, &size, fault);
    if (rc == MVPN_E_UNKNOWN) {
        return load_listed_descriptor(n, fault);
    }
    if (rc != 0) {
        return rc;
    }
    content[strcspn((char *)content, "\n")] = '\0';
    if (mvpn_base64_decode((const char *)content, bytes, sizeof(bytes), &len) != 0 ||
        mvpn_descriptor_decode(&n->descriptor, mvpn_bytes_of(bytes, len)) != 0) {
        rc = mvpn_fault_set(fault, MVPN_E_CONFIG, "%s is damaged. Bring it back from a backup",
                            file.text);
    }
    mvpn_file_free(content, size);
    return rc;
}

int node_load(const char *dir, const char *name, mesh_node *ret, mvpn_fault *fault)
{
    *ret = (mesh_node){.dir = path_of("%s/nodes/%s", dir, name)};
    (void)snprintf(ret->name, sizeof(ret->name), "%s", name);
    if (!path_exists(ret->dir.text)) {
        return mvpn_fault_set(fault, MVPN_E_UNKNOWN,
                              "%s has no node %s. See its nodes with meshvpn-bootstrap show %s",
                              dir, name, dir);
    }
    int rc = load_kind(ret, fault);
    return rc == 0 ? load_descriptor(ret, fault) : rc;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const node_name *)a)->text, ((const node_name *)b)->text);
}

int node_list(const char *dir, node_name **ret, size_t *ret_count, mvpn_fault *fault)
{
    path nodes = path_of("%s/nodes", dir);
    node_name *list = NULL;
    size_t count = 0;
    DIR *d = opendir(nodes.text);
    *ret = NULL;
    *ret_count = 0;
    if (d == NULL) {
        /* A member's directory has a network file and no nodes. */
        return errno == ENOENT
                   ? 0
                   : mvpn_fault_errno(fault, MVPN_E_SYSTEM, errno, "cannot read %s", nodes.text);
    }
    for (const struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
        if (!mvpn_name_is_valid(e->d_name) ||
            !path_exists(path_of("%s/%s/link.cert", nodes.text, e->d_name).text)) {
            continue;
        }
        node_name *grown = reallocarray(list, count + 1, sizeof(*list));
        if (grown == NULL) {
            free(list);
            (void)closedir(d);
            return mvpn_fault_set(fault, MVPN_E_NOMEM, "no memory to read %s", nodes.text);
        }
        list = grown;
        memcpy(list[count++].text, e->d_name, strlen(e->d_name) + 1); /* valid: it fits */
    }
    (void)closedir(d);
    if (count > 0) {
        qsort(list, count, sizeof(*list), compare_names);
    }
    *ret = list;
    *ret_count = count;
    return 0;
}

unsigned node_contacts(const mvpn_descriptor *d,
                       mvpn_dht_contact ret[static MVPN_DESCRIPTOR_ADDRESSES_MAX])
{
    unsigned count = 0;
    for (unsigned i = 0; i < d->address_count; i++) {
        if (d->addresses[i].carrier == MVPN_CARRIER_PLAIN) {
            mvpn_dht_contact *c = &ret[count++];
            *c = (mvpn_dht_contact){.link_key = d->link_key, .addr = d->addresses[i].addr};
            mvpn_dht_node_id(&c->id, &d->identity, &c->addr);
        }
    }
    return count;
}

uint64_t node_serial(const mvpn_descriptor *d)
{
    const size_t at = 32 + 2 + 8 + 8; /* docs/protocol.md §8.2 */
    return d->has_membership ? mvpn_load64(d->membership + at) : 0;
}

unsigned node_files(const mesh_node *n, const mvpn_network_file *net, char conf[static 32],
                    node_file ret[static NODE_FILES_MAX])
{
    const node_file all[NODE_FILES_MAX] = {
        {conf, false},
        {"network.conf", net->is_closed},
        {"identity.key", true}, /* may be kept offline */
        {"link.key", true},
        {"onion.key", true},
        {"link.cert", false},
        {"membership.cert", false}, /* closed networks */
        {node_kinds[n->kind].unit, false},
        {POLICY_FILE, false}, /* exits with --policy */
    };
    unsigned count = 0;
    (void)snprintf(conf, 32, "%s.conf", node_kinds[n->kind].name);
    for (size_t i = 0; i < NODE_FILES_MAX && all[i].name != NULL; i++) {
        if (path_exists(path_of("%s/%s", n->dir.text, all[i].name).text)) {
            ret[count++] = all[i];
        }
    }
    return count;
}

/* --- making --- */

/* Certificates and descriptor; what `d` says of itself is set. */
static int sign_node(const char *dir, const network *net, mvpn_node_keys *keys, mvpn_descriptor *d,
                     unsigned long days, mvpn_rng *rng, mvpn_fault *fault)
{
    const mvpn_key *id = &net->file.network_id;
    uint64_t now = mvpn_clock_unix(), not_before = now - BACKDATE_S;
    uint64_t not_after = now + (days > 0 ? days : DAYS_DEFAULT) * BOOTSTRAP_DAY_S;
    mvpn_link_certificate_make(keys->link_certificate, &keys->identity_secret, &keys->identity,
                               &keys->link.pub, not_before, not_after, id);
    d->identity = keys->identity;
    memcpy(d->link_certificate, keys->link_certificate, sizeof(d->link_certificate));
    d->link_key = keys->link.pub;
    /* Milliseconds, as relays count. A clock that went back must not make it the older one. */
    d->sequence = MVPN_MAX(d->sequence + 1, now * 1000);
    d->published = not_before;
    d->expires = not_after;
    d->onion_key_count = keys->onion_count;
    for (unsigned i = 0; i < keys->onion_count; i++) {
        d->onion_keys[i] = (mvpn_onion_key){keys->onion[i].id, keys->onion[i].pair.pub};
    }
    keys->has_membership = d->has_membership = net->file.is_closed;
    if (net->file.is_closed) {
        /* Drawn: two nodes made in one second must not be revoked together. */
        issued certificate = {.not_after = not_after};
        while (certificate.serial == 0) {
            mvpn_rng_bytes(rng, (uint8_t *)&certificate.serial, sizeof(certificate.serial));
        }
        memcpy(certificate.node, d->name, sizeof(certificate.node));
        int rc = issued_add(dir, &certificate, fault);
        if (rc != 0) {
            return rc;
        }
        mvpn_membership_make(keys->membership, &net->secret_key, &keys->identity, d->roles,
                             not_before, not_after, certificate.serial, id);
        memcpy(d->membership, keys->membership, sizeof(d->membership));
    }
    if (mvpn_descriptor_sign(d, &keys->identity_secret, id) != 0) {
        return mvpn_fault_set(fault, MVPN_E_INVAL, "the descriptor cannot be made");
    }
    return mvpn_descriptor_verify(d, id, mvpn_network_file_closed_pub(&net->file), now) == 0
               ? 0
               : mvpn_fault_set(fault, MVPN_E_INVAL, "the descriptor does not verify");
}

/* A descriptor must name an address, and a node at home has none before it runs: what is kept of it
 * here names those at which it listens, which nobody sends to. */
static void describe_home(mvpn_descriptor *d)
{
    const mvpn_addr any[] = {{.family = 4, .port = NODE_HOME_PORT},
                             {.family = 6, .port = NODE_HOME_PORT}};
    d->roles &= (uint16_t) ~(MVPN_ROLE_GUARD | MVPN_ROLE_DHT_SERVER); /* §14.3 */
    for (size_t i = 0; i < MVPN_ARRAY_LEN(any); i++) {
        d->addresses[d->address_count++] = (mvpn_descriptor_address){MVPN_CARRIER_PLAIN, any[i]};
    }
}

bool node_is_at_home(const mvpn_descriptor *d)
{
    static const uint8_t zero[16];
    return d->address_count > 0 && memcmp(d->addresses[0].addr.ip, zero, sizeof(zero)) == 0;
}

/* What clients choose exits by, as the exit itself will say it. IPv6 is promised only by a node
 * that has an address of that kind. */
static int describe_policy(const mvpn_config_exit *config, mvpn_descriptor *d, mvpn_fault *fault)
{
    mvpn_policy *policy = NULL;
    bool has_v6 = false;
    int rc = mvpn_config_policy(config, &policy, fault);
    if (rc != 0) {
        return rc;
    }
    for (unsigned i = 0; i < d->address_count; i++) {
        has_v6 = has_v6 || d->addresses[i].addr.family == 6;
    }
    d->has_policy = true;
    d->policy_range_count = (uint8_t)mvpn_policy_summary(
        policy, has_v6, &d->policy_flags, d->policy_ranges, MVPN_DESCRIPTOR_POLICY_RANGES_MAX);
    mvpn_policy_free(policy);
    return 0;
}

/* `policy`: of an exit. */
static int describe(const arguments *args, const mvpn_config_exit *policy, mvpn_descriptor *d,
                    mvpn_fault *fault)
{
    *d = (mvpn_descriptor){.roles = node_kinds[args->kind].roles};
    if (args->is_nat_relay) {
        d->roles |= MVPN_ROLE_NAT_RELAY;
    }
    for (unsigned i = 0; i < args->address_count; i++) {
        d->addresses[i] = (mvpn_descriptor_address){MVPN_CARRIER_PLAIN, args->addresses[i]};
    }
    d->address_count = (uint8_t)args->address_count;
    if (args->kind == NODE_EXIT) {
        int rc = describe_policy(policy, d, fault);
        if (rc != 0) {
            return rc;
        }
    }
    if (args->is_at_home) {
        describe_home(d);
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
    return 0;
}

/* The name under which a discovery node is asked: the host of its URL, in lower case; "" if it has
 * none. */
static void find_http_name(const arguments *args, char name[static 256])
{
    const char *host = args->url == NULL ? NULL : strstr(args->url, "://");
    name[0] = '\0';
    if (args->kind != NODE_DISCOVERY || host == NULL) {
        return;
    }
    host += 3;
    size_t n = host[0] == '[' ? strcspn(host, "]/") + 1 : strcspn(host, ":/");
    if (n == 0 || n >= 256) {
        return;
    }
    for (size_t i = 0; i < n; i++) {
        name[i] = (char)(host[i] >= 'A' && host[i] <= 'Z' ? host[i] - 'A' + 'a' : host[i]);
    }
    name[n] = '\0';
}

static int write_node_conf(const char *dir, const arguments *args, mvpn_fault *fault)
{
    const kind_info *kind = &node_kinds[args->kind];
    char head[512], http_name[256];
    find_http_name(args, http_name);
    (void)snprintf(head, sizeof(head),
                   "# The %s \"%s\" of this network. This directory is all that its server needs:\n"
                   "# meshvpn-bootstrap deploy installs it, or copy it to /etc/meshvpn and start\n"
                   "# %s --config /etc/meshvpn/%s.conf\n"
                   "# Every key is optional; see docs/configuration.md.\n",
                   kind->text, args->node, kind->program, kind->name);
    const node_conf conf = {
        .head = head,
        .network_file = "network.conf",
        .key_dir = ".",
        .control_name = args->node,
        .name = args->node,
        .address_count = args->address_count,
        .addresses = args->addresses,
        .is_at_home = args->is_at_home,
        .country = args->country,
        .provider = args->provider,
        .policy_file = args->policy != NULL ? POLICY_FILE : NULL,
        .bandwidth_mbit = args->bandwidth_mbit,
        .is_nat_relay = args->is_nat_relay,
        .http_name = http_name[0] != '\0' ? http_name : NULL,
    };
    char *text = node_conf_text(&conf);
    int rc = text == NULL ? mvpn_fault_set(fault, MVPN_E_NOMEM, "no memory to write %s", dir)
                          : mvpn_file_write(path_of("%s/%s.conf", dir, kind->name).text, text,
                                            strlen(text), 0644, fault);
    free(text);
    return rc;
}

/* What is kept of a node here: its descriptor, its unit. */
static int save_node(const mesh_node *n, mvpn_fault *fault)
{
    char base64[MVPN_BASE64_LEN(MVPN_DESCRIPTOR_MAX)];
    const mvpn_descriptor *d = &n->descriptor;
    int rc = write_text(
        path_of("%s/" DESCRIPTOR_FILE, n->dir.text).text, 0644, fault, "%s\n",
        mvpn_base64_encode(base64, sizeof(base64), mvpn_bytes_of(d->encoded, d->encoded_len)));
    if (rc != 0) {
        return rc;
    }
    char *unit = node_unit(n);
    if (unit == NULL) {
        return mvpn_fault_set(fault, MVPN_E_NOMEM, "no memory to write %s", n->dir.text);
    }
    rc = mvpn_file_write(path_of("%s/%s", n->dir.text, node_kinds[n->kind].unit).text, unit,
                         strlen(unit), 0644, fault);
    free(unit);
    return rc;
}

/* --- whether the network takes such a node --- */

static int check_address_free(const mvpn_descriptor *d, const mvpn_addr *a, mvpn_fault *fault)
{
    char text[MVPN_ADDR_STRLEN];
    for (unsigned k = 0; k < d->address_count; k++) {
        if (mvpn_addr_eq(&d->addresses[k].addr, a)) {
            return mvpn_fault_set(fault, MVPN_E_POLICY,
                                  "%s is the address of node %s already. Give each node its own "
                                  "address or port",
                                  mvpn_addr_format(a, text), d->name);
        }
    }
    return 0;
}

static int check_addresses(const network *net, const arguments *args, mvpn_fault *fault)
{
    char text[MVPN_ADDR_STRLEN];
    node_name *names = NULL;
    size_t count = 0;
    int rc = 0;
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
    }
    rc = node_list(args->dir, &names, &count, fault);
    for (size_t j = 0; rc == 0 && j < count; j++) {
        mesh_node other;
        rc = node_load(args->dir, names[j].text, &other, fault);
        for (unsigned i = 0; rc == 0 && i < args->address_count; i++) {
            rc = check_address_free(&other.descriptor, &args->addresses[i], fault);
        }
    }
    free(names);
    return rc;
}

static int check_node(const network *net, const arguments *args, mvpn_fault *fault)
{
    path dir = path_of("%s/nodes/%s", args->dir, args->node);
    if (path_exists(path_of("%s/link.cert", dir.text).text)) {
        return mvpn_fault_set(fault, MVPN_E_POLICY,
                              "%s has a node %s already: nothing was changed. Take another name, "
                              "or renew it with meshvpn-bootstrap renew %s %s",
                              args->dir, args->node, args->dir, args->node);
    }
    if (path_exists(dir.text)) {
        return mvpn_fault_set(fault, MVPN_E_POLICY,
                              "%s exists: nothing was changed. Remove it if it is a left-over, or "
                              "take another name",
                              dir.text);
    }
    return check_addresses(net, args, fault);
}

/* --- what everybody is told of it --- */

static int list_anchor(mvpn_network_file *f, const mvpn_ed25519_pub *identity)
{
    for (size_t i = 0; i < f->anchor_count; i++) {
        if (memcmp(f->anchors[i].b, identity->b, sizeof(identity->b)) == 0) {
            return 0;
        }
    }
    if (f->anchor_count == MVPN_NETWORK_ANCHORS_MAX) {
        return MVPN_E_LIMIT;
    }
    f->anchors[f->anchor_count++] = *identity;
    return 0;
}

static int list_url(mvpn_network_file *f, const char *url)
{
    for (size_t i = 0; i < f->discovery_count; i++) {
        if (strcmp(f->discovery[i], url) == 0) {
            return 0;
        }
    }
    if (f->discovery_count == MVPN_NETWORK_DISCOVERY_MAX) {
        return MVPN_E_LIMIT;
    }
    (void)snprintf(f->discovery[f->discovery_count++], sizeof(f->discovery[0]), "%s", url);
    return 0;
}

/* In an open network nothing but the file itself vouches for these nodes. */
static int list_node(network *net, const mesh_node *n, bool is_listed, const char *url,
                     mvpn_fault *fault)
{
    mvpn_network_file *f = &net->file;
    mvpn_dht_contact contacts[MVPN_DESCRIPTOR_ADDRESSES_MAX];
    int rc = is_listed ? mvpn_network_file_put(f, &n->descriptor) : 0;
    if (rc == 0 && n->kind == NODE_BOOTSTRAP) {
        unsigned count = node_contacts(&n->descriptor, contacts);
        for (unsigned i = 0; rc == 0 && i < count; i++) {
            rc = mvpn_network_file_put_entry(f, &contacts[i]);
        }
    }
    if (rc == 0 && !f->is_closed && (n->kind == NODE_BOOTSTRAP || n->kind == NODE_DISCOVERY)) {
        rc = list_anchor(f, &n->descriptor.identity);
    }
    if (rc == 0 && url != NULL) {
        rc = list_url(f, url);
    }
    return rc == 0 ? 0
                   : mvpn_fault_set(fault, rc,
                                    "the network file is full: at most %d relays, %d entries, %d "
                                    "anchors and %d discovery URLs",
                                    MVPN_NETWORK_RELAYS_MAX, MVPN_NETWORK_ENTRIES_MAX,
                                    MVPN_NETWORK_ANCHORS_MAX, MVPN_NETWORK_DISCOVERY_MAX);
}

/* --- add-node --- */

static int add_node(network *net, const arguments *args, mvpn_rng *rng, mvpn_fault *fault)
{
    static mvpn_config config;
    mvpn_node_keys keys;
    mesh_node n = {.kind = args->kind, .dir = path_of("%s/nodes/%s", args->dir, args->node)};
    (void)snprintf(n.name, sizeof(n.name), "%s", args->node);
    int rc = check_node(net, args, fault);
    if (rc != 0) {
        return rc;
    }
    mvpn_config_init(&config, MVPN_CONFIG_EXIT);
    if (args->policy != NULL) {
        rc = mvpn_config_read_policy(&config.exit, args->policy, fault);
    }
    rc = rc != 0 ? rc : describe(args, &config.exit, &n.descriptor, fault);
    if (rc != 0) {
        return rc;
    }
    mvpn_node_keys_generate(&keys, rng);
    rc = sign_node(args->dir, net, &keys, &n.descriptor, args->days, rng, fault);
    if (rc == 0) {
        rc = list_node(net, &n, args->is_listed, args->url, fault);
    }
    if (rc == 0) {
        rc = mvpn_file_make_dir(n.dir.text, 0700, fault);
    }
    if (rc == 0) {
        rc = write_node_conf(n.dir.text, args, fault);
    }
    if (rc == 0 && args->policy != NULL) {
        rc = mvpn_file_write(path_of("%s/" POLICY_FILE, n.dir.text).text, config.exit.policy,
                             strlen(config.exit.policy), 0644, fault);
    }
    if (rc == 0) {
        rc = save_node(&n, fault);
    }
    if (rc == 0) {
        rc = mvpn_node_keys_save(n.dir.text, &keys, fault);
    }
    mvpn_node_keys_done(&keys);
    return rc == 0 ? network_publish(args->dir, net, fault) : rc;
}

static void tell_added(const arguments *args)
{
    (void)printf("The %s %s is in %s/nodes/%s.\n"
                 "Next: meshvpn-bootstrap deploy %s %s USER@HOST, or copy the directory to its "
                 "server.\n",
                 node_kinds[args->kind].text, args->node, args->dir, args->node, args->dir,
                 args->node);
    if (args->is_at_home) {
        (void)printf("It is at home, behind a NAT: the network must have relays with --nat-relay, "
                     "by which others reach it.\n");
    }
    if (args->is_listed || args->kind == NODE_BOOTSTRAP || args->url != NULL) {
        (void)printf("%s/network.conf names it: newcomers and invitations take it from there.\n",
                     args->dir);
    } else {
        (void)printf("Its descriptor reaches everybody through the network once it runs.\n");
    }
}

/* Between opening and closing the network: `work` with a generator. */
static int with_network(const arguments *args,
                        int (*work)(network *, const arguments *, mvpn_rng *, mvpn_fault *))
{
    mvpn_fault fault;
    mvpn_rng rng;
    network net;
    if (network_open(args->dir, &net, &fault) != 0) {
        return bootstrap_fail(&fault);
    }
    int rc = mvpn_random_seed(&rng);
    if (rc != 0) {
        (void)mvpn_fault_set(&fault, 0, "the system gives no random numbers");
    } else {
        rc = work(&net, args, &rng, &fault);
        mvpn_rng_done(&rng);
    }
    network_done(&net);
    return rc == 0 ? EXIT_SUCCESS : bootstrap_fail(&fault);
}

int command_add_node(const options_given *given)
{
    arguments args;
    int rc = arguments_parse(&args, given);
    if (rc != 0) {
        return rc;
    }
    MVPN_ASSERT(args.node != NULL);
    if (args.address_count == 0 && !args.is_at_home) {
        return bootstrap_fail_usage("add-node needs --address IP:PORT: where others reach the "
                                    "node (or --home, if nobody does: behind a NAT)");
    }
    if (args.is_at_home && (args.address_count > 0 || args.is_nat_relay || args.is_listed)) {
        return bootstrap_fail_usage("--home is for a node that nobody reaches as it stands: it "
                                    "takes no --address, --nat-relay or --listed");
    }
    if (args.url != NULL && args.kind != NODE_DISCOVERY) {
        return bootstrap_fail_usage("--url is the address of a discovery node: add --discovery");
    }
    if (args.policy != NULL && args.kind != NODE_EXIT) {
        return bootstrap_fail_usage("--policy says what an exit lets out: add --exit");
    }
    bool is_relay = args.kind == NODE_RELAY || args.kind == NODE_EXIT;
    if (!is_relay && (args.is_listed || args.is_nat_relay || args.is_at_home ||
                      args.country != NULL || args.provider != NULL || args.bandwidth_mbit != 0)) {
        return bootstrap_fail_usage(
            "--listed, --nat-relay, --home, --country, --provider and "
            "--bandwidth-mbit are for relays and exits: a %s is in nobody's path",
            node_kinds[args.kind].text);
    }
    rc = with_network(&args, add_node);
    if (rc == EXIT_SUCCESS) {
        tell_added(&args);
    }
    return rc;
}

/* --- renew --- */

static bool is_listed(const mvpn_network_file *f, const mvpn_ed25519_pub *identity)
{
    for (size_t i = 0; i < f->relay_count; i++) {
        if (memcmp(f->relays[i].identity.b, identity->b, sizeof(identity->b)) == 0) {
            return true;
        }
    }
    return false;
}

/* What its configuration says by now; a node at home promises no IPv6 from here. */
static int describe_again(mesh_node *n, mvpn_fault *fault)
{
    static mvpn_config config;
    path file = path_of("%s/%s.conf", n->dir.text, node_kinds[n->kind].name);
    if (n->kind != NODE_EXIT || node_is_at_home(&n->descriptor)) {
        return 0;
    }
    int rc = mvpn_config_load(file.text, MVPN_CONFIG_EXIT, &config, fault);
    return rc != 0 ? rc : describe_policy(&config.exit, &n->descriptor, fault);
}

static int renew_node(network *net, const arguments *args, mvpn_rng *rng, mvpn_fault *fault)
{
    mvpn_node_keys keys;
    mesh_node n;
    int rc = node_load(args->dir, args->node, &n, fault);
    if (rc != 0) {
        return rc;
    }
    rc = mvpn_node_keys_load(n.dir.text, &net->file.network_id,
                             mvpn_network_file_closed_pub(&net->file), 0, &keys, fault);
    if (rc != 0) {
        return rc;
    }
    if (!keys.has_identity_secret) {
        rc =
            mvpn_fault_set(fault, MVPN_E_UNKNOWN,
                           "%s/identity.key is missing. Bring it back for the renewal", n.dir.text);
    } else if (memcmp(n.descriptor.identity.b, keys.identity.b, sizeof(keys.identity.b)) != 0) {
        rc = mvpn_fault_set(fault, MVPN_E_CONFIG,
                            "%s holds the files of two nodes. Bring it back from a backup",
                            n.dir.text);
    } else {
        rc = describe_again(&n, fault);
        rc = rc != 0 ? rc : sign_node(args->dir, net, &keys, &n.descriptor, args->days, rng, fault);
    }
    if (rc == 0) {
        rc = list_node(net, &n, is_listed(&net->file, &n.descriptor.identity), NULL, fault);
    }
    if (rc == 0) {
        rc = save_node(&n, fault);
    }
    if (rc == 0) {
        rc = mvpn_node_keys_save(n.dir.text, &keys, fault);
    }
    mvpn_node_keys_done(&keys);
    return rc == 0 ? network_publish(args->dir, net, fault) : rc;
}

int command_renew(const options_given *given)
{
    arguments args;
    int rc = arguments_parse(&args, given);
    if (rc != 0) {
        return rc;
    }
    MVPN_ASSERT(args.node != NULL);
    rc = with_network(&args, renew_node);
    if (rc == EXIT_SUCCESS) {
        (void)printf("Node %s is good for %lu days. Bring it to its server with meshvpn-bootstrap "
                     "deploy, or copy link.cert, membership.cert and network.conf of "
                     "%s/nodes/%s there.\n",
                     args.node, args.days > 0 ? args.days : DAYS_DEFAULT, args.dir, args.node);
    }
    return rc;
}
