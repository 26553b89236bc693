#include "bin/relay_main.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "bin/cli.h"
#include "io/clock.h"
#include "io/connection_log.h"
#include "io/describe.h"
#include "io/families.h"
#include "io/host_exit.h"
#include "io/keyfile.h"
#include "io/nat_memory.h"
#include "io/ping.h"
#include "io/portmapper.h"
#include "io/random.h"
#include "io/source_lan.h"
#include "io/statefile.h"
#include "io/silence.h"
#include "io/status.h"
#include "io/stun_service.h"
#include "io/view_state.h"

#define EXIT_SESSIONS 4096
#define MBIT 125000 /* bytes */
#define ONION_KEY_AGE_S (7 * 24 * 3600)
#define ONION_KEY_CHECK_MS (3600 * 1000)
#define VIEW_SAVE_MS (120 * 1000)
#define FLOOD_LOOK_MS (60 * 1000)
#define NAT_LOOK_MS (3 * 1000)

typedef struct relay_program {
    cli cli;
    mvpn_node_keys keys;
    mvpn_loop *loop;
    mvpn_node *node;
    mvpn_tun *tun;              /* exit */
    mvpn_addr *relay_addresses; /* of all relays known: an exit refuses them as destinations */
    size_t relay_address_count;
    mvpn_engine_config engine;
    mvpn_exit_config exit;
    mvpn_descriptor descriptor; /* template of what is published */
    mvpn_time started;
    mvpn_connection_log connections;
    mvpn_lan_server *lan;
    mvpn_portmapper *portmapper; /* NULL: none is wanted */
    mvpn_nat_relay_flood flood;
    mvpn_nat_memory nat_memory;
    mvpn_addr refused; /* external address that the exit refuses as a destination */
    mvpn_stun_service *stun;
    bool told_release;
    bool has_state;           /* the state directory can be written */
    const relay_extra *extra; /* NULL: none */
} relay_program;

/* Answer who asks on the local network, if the configuration says so. */
static void announce_on_lan(relay_program *p)
{
    mvpn_fault why = {.text = ""};
    mvpn_key token;
    const mvpn_engine_config *e = &p->engine;
    if (!p->cli.config.relay.lan_announce) {
        return;
    }
    int r;
    if (e->is_dht_server && e->own_address_count > 0) {
        mvpn_dht_contact self = {.link_key = e->link_key.pub, .addr = e->own_addresses[0]};
        mvpn_dht_node_id(&self.id, &e->identity, &self.addr);
        mvpn_network_token(&token, &p->cli.network.network_id,
                           e->closed ? &p->cli.network.network_secret : NULL);
        r = mvpn_lan_server_new(p->loop, &token, &self, 1, &p->lan, &why);
        mvpn_wipe(&token, sizeof(token));
    } else {
        r = mvpn_fault_set(&why, MVPN_E_CONFIG, "the configuration names no 'address'");
    }
    if (r != 0) {
        mvpn_logf(&p->cli.log, MVPN_LOG_WARN, "nothing is announced on the local network: %s",
                  why.text);
    }
}

/* What was asked for must be there: an operator would not notice that nobody is answered. */
static int serve_stun(relay_program *p, mvpn_fault *fault)
{
    const mvpn_config_relay *c = &p->cli.config.relay;
    if (c->stun_count == 0) {
        return 0;
    }
    return mvpn_stun_service_new(p->loop, c->stun_listen, c->stun_count, c->stun_strict, &p->stun,
                                 fault);
}

static void report_stun(const relay_program *p, json_t *reply)
{
    if (p->stun == NULL) {
        return;
    }
    mvpn_stun_server_stats s = mvpn_stun_service_get_stats(p->stun);
    json_object_set_new(reply, "stun",
                        json_pack("{s:I, s:I, s:I, s:I, s:I}", "answered", (json_int_t)s.answered,
                                  "refused", (json_int_t)s.refused, "malformed",
                                  (json_int_t)s.malformed, "too_short", (json_int_t)s.too_short,
                                  "limited", (json_int_t)s.limited));
}

/* What the gateway maps to us, or nothing (NULL): who calls us must know, and an exit must not let
 * its users at the gateway from inside. */
static void set_mapped(relay_program *p, const mvpn_addr *mapped)
{
    static const mvpn_addr none;
    mvpn_engine *engine = mvpn_node_engine(p->node);
    mvpn_finder *finder = mvpn_engine_finder(engine);
    mvpn_exit *ex = mvpn_engine_exit(engine);
    if (finder != NULL) {
        mvpn_finder_set_mapped(finder, mapped, mvpn_clock_now());
    }
    mvpn_engine_set_mapped(engine, mapped != NULL ? mapped : &none, mapped != NULL);
    if (ex == NULL || mapped == NULL || mvpn_addr_ip_eq(mapped, &p->refused)) {
        return;
    }
    p->refused = *mapped;
    if (mvpn_policy_add_own(mvpn_exit_policy(ex), mapped, 32) != 0) {
        mvpn_logf(&p->cli.log, MVPN_LOG_WARN,
                  "port mapping: the exit cannot refuse one more address of its gateway");
    }
}

static void on_mapping(void *ctx, const mvpn_portmap_event *event)
{
    relay_program *p = ctx;
    char text[MVPN_ADDR_STRLEN];
    const char *protocol = mvpn_portmap_protocol_name(event->mapping.protocol);
    switch (event->type) {
    case MVPN_PORTMAP_MAPPED:
    case MVPN_PORTMAP_CHANGED:
        set_mapped(p, &event->mapping.external);
        mvpn_logf(&p->cli.log, MVPN_LOG_INFO, "port mapping: reachable at %s (%s)",
                  mvpn_addr_format(&event->mapping.external, text), protocol);
        break;
    case MVPN_PORTMAP_LOST:
        set_mapped(p, NULL);
        mvpn_logf(&p->cli.log, MVPN_LOG_WARN, "port mapping: lost %s (%s): %s",
                  mvpn_addr_format(&event->mapping.external, text), protocol, event->why);
        break;
    case MVPN_PORTMAP_FAILED:
        mvpn_logf(&p->cli.log, MVPN_LOG_WARN, "port mapping: none: %s; asked again later",
                  event->why);
        break;
    }
}

static int map_port(relay_program *p, mvpn_fault *fault)
{
    const mvpn_config *c = &p->cli.config;
    mvpn_portmapper_options options = {.loop = p->loop, .fn = on_mapping, .ctx = p};
    for (unsigned i = 0; i < c->listen_count; i++) {
        if (c->listen[i].family == 4) {
            options.internal_port = c->listen[i].port;
        }
    }
    if (!c->relay.port_mapping) {
        return 0;
    }
    if (options.internal_port == 0) {
        return mvpn_fault_set(fault, MVPN_E_CONFIG,
                              "port_mapping needs an IPv4 address in 'listen'");
    }
    return mvpn_portmapper_new(&options, &p->portmapper, fault);
}

static void report_mapping(const relay_program *p, json_t *reply)
{
    char text[MVPN_ADDR_STRLEN];
    mvpn_portmap_mapping m;
    if (p->portmapper == NULL) {
        return;
    }
    (void)json_object_set_new(reply, "port_mapping",
                              mvpn_portmapper_get(p->portmapper, &m)
                                  ? json_pack("{s:s, s:s, s:i}", "protocol",
                                              mvpn_portmap_protocol_name(m.protocol), "address",
                                              mvpn_addr_format(&m.external, text), "lifetime_s",
                                              (int)m.lifetime_s)
                                  : json_null());
}

/* Where others see it. */
static json_t *seen_addresses(const relay_program *p)
{
    const mvpn_nat_class *nat = mvpn_engine_nat_class(mvpn_node_engine(p->node));
    json_t *list = json_array();
    char text[MVPN_ADDR_STRLEN];
    for (unsigned i = 0; nat != NULL && i < nat->seen_count; i++) {
        (void)json_array_append_new(list, json_string(mvpn_addr_format(&nat->seen[i], text)));
    }
    return list;
}

/* What the node says of itself to others. */
static void report_offer(const relay_program *p, json_t *reply)
{
    const mvpn_config_relay *r = &p->cli.config.relay;
    json_t *offer = json_object(), *addresses = json_array();
    char text[MVPN_ADDR_STRLEN];
    mvpn_portmap_mapping m;
    for (unsigned i = 0; i < r->address_count; i++) {
        (void)json_array_append_new(addresses,
                                    json_string(mvpn_addr_format(&r->addresses[i], text)));
    }
    if (p->portmapper != NULL && mvpn_portmapper_get(p->portmapper, &m)) {
        (void)json_array_append_new(addresses, json_string(mvpn_addr_format(&m.external, text)));
    }
    (void)json_object_set_new(offer, "name", json_string(r->name));
    (void)json_object_set_new(offer, "addresses", addresses);
    (void)json_object_set_new(offer, "seen", seen_addresses(p));
    (void)json_object_set_new(offer, "behind_nat", json_boolean(r->behind_nat));
    (void)json_object_set_new(offer, "limit_mbit",
                              r->limit_mbit != 0 ? json_integer(r->limit_mbit) : json_null());
    (void)json_object_set_new(reply, "offer", offer);
}

/* Once a week; the previous key is kept for another week. (docs/protocol.md §1) */
static void rotate_onion_key(void *ctx)
{
    relay_program *p = ctx;
    mvpn_fault fault = {.text = ""};
    mvpn_relay_onion_key keys[MVPN_DESCRIPTOR_ONION_KEYS_MAX];
    mvpn_rng rng;
    if (p->engine.publish == NULL || mvpn_random_seed(&rng) != 0) {
        return; /* nobody would learn of a new one */
    }
    int r = mvpn_node_keys_rotate_onion(p->cli.config.key_dir, &p->keys, ONION_KEY_AGE_S,
                                        mvpn_clock_unix(), &rng, &fault);
    mvpn_rng_done(&rng);
    if (r == MVPN_E_AGAIN) {
        return;
    }
    if (r != 0) {
        mvpn_logf(&p->cli.log, MVPN_LOG_WARN, "the onion key is due for renewal, but: %s",
                  fault.text);
        return;
    }
    for (size_t i = 0; i < p->keys.onion_count; i++) {
        keys[i] = (mvpn_relay_onion_key){p->keys.onion[i].id, p->keys.onion[i].pair};
    }
    mvpn_engine_set_onion_keys(mvpn_node_engine(p->node), keys, p->keys.onion_count,
                               mvpn_clock_now());
    mvpn_wipe(keys, sizeof(keys));
    mvpn_logf(&p->cli.log, MVPN_LOG_INFO, "the onion key was renewed");
}

static void save_view(void *ctx)
{
    relay_program *p = ctx;
    if (p->has_state && p->node != NULL) {
        mvpn_view_state_save(p->cli.config.state_dir, mvpn_node_engine(p->node), &p->cli.log);
    }
}

static void look_for_flood(void *ctx)
{
    relay_program *p = ctx;
    const mvpn_nat_relay *nat = mvpn_engine_nat_relay(mvpn_node_engine(p->node));
    if (nat != NULL && mvpn_nat_relay_flood_look(&p->flood, nat, mvpn_clock_now())) {
        mvpn_logf(&p->cli.log, MVPN_LOG_WARN,
                  "as a NAT relay this node refused %" PRIu64 " requests and dropped %" PRIu64
                  " datagrams: somebody asks for more than it gives (told once an hour)",
                  p->flood.refused, p->flood.dropped);
    }
}

/* How long the NAT before us keeps a mapping: from earlier runs here, and for later ones. */
static void look_at_nat(void *ctx)
{
    relay_program *p = ctx;
    mvpn_engine *engine = mvpn_node_engine(p->node);
    const mvpn_nat_class *nat = mvpn_engine_nat_class(engine);
    mvpn_nat_network network;
    mvpn_time now = mvpn_clock_now();
    bool is_seen = nat != NULL && nat->seen_count > 0;
    if (is_seen) {
        mvpn_nat_network_read(&network, &nat->seen[0]);
    }
    uint32_t lifetime_s =
        mvpn_nat_memory_look(&p->nat_memory, is_seen ? &network : NULL,
                             is_seen ? nat->lifetime_s : 0, mvpn_clock_unix(), now);
    if (lifetime_s != 0) {
        mvpn_engine_set_mapping_lifetime(engine, lifetime_s, now);
        mvpn_loop_set_deadline(p->loop, now); /* the keepalive follows */
    }
}

/* Whom we knew when we ended: so that a restart needs no bootstrap node. */
static void load_view(relay_program *p)
{
    mvpn_fault why = {.text = ""};
    p->has_state = mvpn_statefile_prepare(p->cli.config.state_dir, &why) == 0;
    if (p->has_state) {
        (void)mvpn_view_state_load(p->cli.config.state_dir, mvpn_node_engine(p->node), &p->cli.log);
    } else {
        mvpn_logf(&p->cli.log, MVPN_LOG_WARN, "nothing is remembered for the next start: %s",
                  why.text);
    }
}

static void on_event(void *ctx, const mvpn_engine_event *event)
{
    relay_program *p = ctx;
    if (event->type == MVPN_ENGINE_EXIT_RELEASED) {
        if (p->cli.helper == NULL) {
            if (p->extra != NULL && p->extra->released != NULL) {
                p->extra->released(p->extra->ctx, &event->released);
            }
        } else if (mvpn_helper_release(p->cli.helper, &event->released.pool_v4,
                                       &event->released.pool_v6) != 0 &&
                   !p->told_release) {
            mvpn_logf(&p->cli.log, MVPN_LOG_ERROR,
                      "the helper process is too slow: connections of ended sessions stay in this "
                      "host's connection tracking until they time out");
            p->told_release = true;
        }
    } else if (event->type == MVPN_ENGINE_CONNECTION) {
        mvpn_connection_log_event(&p->connections, mvpn_engine_view(mvpn_node_engine(p->node)),
                                  &event->connection);
    }
}

static int ping(relay_program *p, const json_t *request, json_t *reply)
{
    const mvpn_engine_config *e = &p->engine;
    mvpn_time now = mvpn_clock_now();
    const mvpn_target_rules rules = {
        .has_ipv4 = e->has_ipv4,
        .has_ipv6 = e->has_ipv6,
        .allow_private = e->allow_private,
        .own = e->own_addresses,
        .own_count = e->own_address_count,
        .self = &e->identity,
        .unix_now = mvpn_engine_unix(mvpn_node_engine(p->node), now),
    };
    return mvpn_ping_request(p->node, &rules, request, now, reply);
}

static int on_control(void *ctx, const json_t *request, uid_t uid, json_t *reply)
{
    relay_program *p = ctx;
    const char *cmd = json_string_value(json_object_get(request, "cmd"));
    if (strcmp(cmd, "ping") == 0) {
        return ping(p, request, reply);
    }
    if (strcmp(cmd, "link_close") == 0) {
        return mvpn_ping_close_request(p->node, request, uid, mvpn_clock_now(), reply);
    }
    if (strcmp(cmd, "status") != 0) {
        return MVPN_E_UNKNOWN;
    }
    mvpn_status_relay(reply, mvpn_node_engine(p->node), p->started, mvpn_clock_now());
    report_stun(p, reply);
    report_mapping(p, reply);
    report_offer(p, reply);
    if (mvpn_node_is_unheard(p->node)) {
        (void)json_object_set_new(reply, "blocked_by", json_string(mvpn_silence_text()));
    }
    if (p->extra != NULL && p->extra->status != NULL) {
        p->extra->status(p->extra->ctx, reply);
    }
    return 0;
}

/* Our own addresses: what we say of ourselves, in the configuration and in the network file. */
static void collect_own(relay_program *p)
{
    mvpn_engine_config *e = &p->engine;
    const size_t max = MVPN_ARRAY_LEN(e->own_addresses);
    for (unsigned i = 0; i < p->cli.config.relay.address_count && e->own_address_count < max; i++) {
        e->own_addresses[e->own_address_count++] = p->cli.config.relay.addresses[i];
    }
    for (size_t i = 0; i < p->cli.network.relay_count; i++) {
        const mvpn_descriptor *d = &p->cli.network.relays[i];
        if (memcmp(d->identity.b, p->keys.identity.b, sizeof(d->identity.b)) != 0) {
            continue;
        }
        for (size_t k = 0; k < d->address_count && e->own_address_count < max; k++) {
            e->own_addresses[e->own_address_count++] = d->addresses[k].addr;
        }
    }
}

static int collect_relays(relay_program *p)
{
    size_t n = p->cli.network.relay_count * MVPN_DESCRIPTOR_ADDRESSES_MAX;
    p->relay_addresses = calloc(n > 0 ? n : 1, sizeof(*p->relay_addresses));
    if (p->relay_addresses == NULL) {
        return MVPN_E_NOMEM;
    }
    for (size_t i = 0; i < p->cli.network.relay_count; i++) {
        const mvpn_descriptor *d = &p->cli.network.relays[i];
        for (size_t k = 0; k < d->address_count; k++) {
            p->relay_addresses[p->relay_address_count++] = d->addresses[k].addr;
        }
    }
    return 0;
}

static void fill_engine(relay_program *p)
{
    const mvpn_config *c = &p->cli.config;
    mvpn_engine_config *e = &p->engine;
    cli_fill_network(&p->cli, e);
    e->is_relay = true;
    e->no_circuits =
        p->cli.config.kind == MVPN_CONFIG_BOOTSTRAP || p->cli.config.kind == MVPN_CONFIG_DISCOVERY;
    e->identity = p->keys.identity;
    e->link_key = p->keys.link;
    memcpy(e->link_certificate, p->keys.link_certificate, sizeof(e->link_certificate));
    e->has_membership = p->keys.has_membership;
    memcpy(e->membership, p->keys.membership, sizeof(e->membership));
    for (size_t i = 0; i < p->keys.onion_count; i++) {
        e->onion_keys[i] = (mvpn_relay_onion_key){p->keys.onion[i].id, p->keys.onion[i].pair};
    }
    e->onion_key_count = p->keys.onion_count;
    e->relay_rate = (uint64_t)c->relay.limit_mbit * (1000000 / 8);
    for (unsigned i = 0; i < c->listen_count; i++) {
        e->has_ipv4 |= c->listen[i].family == 4;
        e->has_ipv6 |= c->listen[i].family == 6;
    }
    /* At home a socket for IPv6 does not mean that anybody is reached by it. */
    e->has_ipv6 = e->has_ipv6 && (!c->relay.behind_nat || mvpn_host_has_ipv6(NULL));
    e->has_ipv4 =
        e->has_ipv4 && !(e->has_ipv6 && c->relay.behind_nat && mvpn_host_lacks_ipv4(NULL));
    collect_own(p);
}

static int fill_exit(relay_program *p, mvpn_fault *fault)
{
    const mvpn_config_exit *c = &p->cli.config.exit;
    if (collect_relays(p) != 0) {
        return mvpn_fault_set(fault, MVPN_E_NOMEM, "out of memory");
    }
    if (c->dns_count == 0) {
        return mvpn_fault_set(
            fault, MVPN_E_CONFIG,
            "no name server is known: set dns_upstream, or name one in /etc/resolv.conf");
    }
    p->exit = (mvpn_exit_config){
        .pool_v4 = c->pool_v4.addr,
        .pool_v4_bits = c->pool_v4.bits,
        .pool_v6 = c->pool_v6.addr,
        .uplink_v6 =
            c->ipv6 == MVPN_IPV6_YES || (c->ipv6 == MVPN_IPV6_AUTO && mvpn_host_has_ipv6(NULL)),
        .policy = c->policy,
        .blocked = c->blocked,
        .blocked_count = c->blocked_count,
        .ports = c->ports,
        .port_count = c->port_count,
        .own = p->engine.own_addresses,
        .own_count = p->engine.own_address_count,
        .relays = p->relay_addresses,
        .relay_count = p->relay_address_count,
        .dns = c->dns_upstream,
        .dns_count = c->dns_count,
        .dns_stream = !c->user_nat, /* it listens at the TUN's address */
        .sessions_max = EXIT_SESSIONS,
        .session_rate = (uint64_t)c->session_limit * MBIT,
        .session_burst = (uint64_t)c->session_burst * 1024,
        .total_rate = (uint64_t)c->bandwidth_limit * MBIT,
        .total_burst = (uint64_t)c->bandwidth_burst * 1024,
    };
    p->engine.exit = &p->exit;
    return 0;
}

static int load_keys(relay_program *p, mvpn_fault *fault)
{
    const mvpn_network_file *n = &p->cli.network;
    return mvpn_node_keys_load(p->cli.config.key_dir, &n->network_id,
                               mvpn_network_file_closed_pub(n), mvpn_clock_unix(), &p->keys, fault);
}

/* What we say of ourselves in the DHT. A node that cannot sign it, or that says no address, is
 * found by those alone whose network file lists it. */
static int fill_descriptor(relay_program *p, mvpn_fault *fault)
{
    mvpn_engine_config *e = &p->engine;
    bool has_v6 = p->engine.exit != NULL && p->exit.uplink_v6;
    int r = mvpn_describe(&p->cli.config, &p->keys, has_v6, &p->descriptor, fault);
    if (r != 0) {
        return r;
    }
    e->is_nat_relay = (p->descriptor.roles & MVPN_ROLE_NAT_RELAY) != 0;
    if (p->cli.config.relay.nat_relay && !e->is_nat_relay) {
        mvpn_logf(&p->cli.log, MVPN_LOG_WARN,
                  "this node forwards for nobody: nat_relay is set, but its membership certificate "
                  "does not say so (meshvpn-bootstrap add-node --nat-relay)");
    }
    e->is_guest = p->cli.config.relay.behind_nat;
    if (p->descriptor.address_count == 0 && (p->cli.config.relay.port_mapping || e->is_guest)) {
        /* Published once the gateway gave it an address, or it has a NAT relay; the DHT's own id
         * needs an address from the start. */
        p->descriptor.roles &= (uint16_t)~MVPN_ROLE_DHT_SERVER;
    } else if (p->descriptor.address_count == 0) {
        mvpn_logf(&p->cli.log, MVPN_LOG_WARN,
                  "the configuration names no 'address' of this node: it is not published, and "
                  "nobody finds it who does not know it");
        return 0;
    }
    e->is_dht_server = (p->descriptor.roles & MVPN_ROLE_DHT_SERVER) != 0;
    if (!p->keys.has_identity_secret) {
        mvpn_logf(&p->cli.log, MVPN_LOG_WARN,
                  "the identity key is not in %s: this node cannot publish its descriptor",
                  p->cli.config.key_dir);
        return 0;
    }
    e->publish = &p->descriptor;
    e->identity_secret = p->keys.identity_secret;
    return 0;
}

/* Everything up to the running node; what was done is taken back by relay_stop. */
static int relay_start(relay_program *p, mvpn_fault *fault)
{
    bool is_exit = p->cli.config.kind == MVPN_CONFIG_EXIT;
    mvpn_engine_config *e = &p->engine;
    fill_engine(p);
    int r = is_exit ? fill_exit(p, fault) : 0;
    r = r != 0 ? r : fill_descriptor(p, fault);
    if (r == 0 && p->extra != NULL && p->extra->prepare != NULL) {
        r = p->extra->prepare(p->extra->ctx, &p->cli, e, fault);
    }
    if (r != 0 || p->cli.check) {
        return r;
    }
    if (mvpn_loop_new(&p->loop) != 0) {
        return mvpn_fault_set(fault, MVPN_E_SYSTEM, "cannot make an event loop");
    }
    (void)mkdir(p->cli.config.run_dir, 0755); /* whoever uses it says if it is missing */
    if (is_exit && !p->cli.config.exit.user_nat) {
        mvpn_helper_host host;
        r = mvpn_helper_setup(p->cli.helper, &host, fault);
        p->tun = r == 0 ? host.tun : NULL;
    }
    mvpn_node_options options = {
        .loop = p->loop,
        .engine = e,
        .network = &p->cli.network,
        .listen = p->cli.config.listen,
        .listen_count = p->cli.config.listen_count,
        .tun = p->tun,
        .has_dns = is_exit,
        .on_event = on_event,
        .ctx = p,
        .log = &p->cli.log,
    };
    r = r != 0 ? r : mvpn_node_new(&options, &p->node, fault);
    r = r != 0 ? r : serve_stun(p, fault);
    if (r == 0) {
        rotate_onion_key(p);
        load_view(p);
        announce_on_lan(p);
        r = map_port(p, fault);
        r = r != 0 ? r : mvpn_loop_every(p->loop, ONION_KEY_CHECK_MS, rotate_onion_key, p);
        r = r != 0 ? r : mvpn_loop_every(p->loop, VIEW_SAVE_MS, save_view, p);
        r = r != 0 ? r : mvpn_loop_every(p->loop, FLOOD_LOOK_MS, look_for_flood, p);
        if (e->is_guest) { /* nobody else measures it */
            mvpn_nat_memory_init(&p->nat_memory, p->has_state ? p->cli.config.state_dir : NULL);
            r = r != 0 ? r : mvpn_loop_every(p->loop, NAT_LOOK_MS, look_at_nat, p);
        }
    }
    if (r == 0 && p->extra != NULL && p->extra->start != NULL) {
        r = p->extra->start(p->extra->ctx, p->loop, p->node, fault);
    }
    return r;
}

static void relay_stop(relay_program *p)
{
    if (p->extra != NULL && p->extra->stop != NULL) {
        p->extra->stop(p->extra->ctx, p->node);
    }
    save_view(p);
    mvpn_portmapper_free(p->portmapper);
    mvpn_lan_server_free(p->lan);
    mvpn_stun_service_free(p->stun);
    mvpn_node_free(p->node);
    mvpn_tun_close(p->tun);
    cli_end_helper(&p->cli);
    mvpn_loop_free(p->loop);
    mvpn_node_keys_done(&p->keys);
    free(p->relay_addresses);
    mvpn_wipe(&p->engine, sizeof(p->engine));
}

int relay_main(int argc, char **argv, enum mvpn_config_kind kind, const option_program *program,
               const relay_extra *extra)
{
    mvpn_fault fault = {.text = ""};
    relay_program *p = calloc(1, sizeof(*p));
    if (p == NULL) {
        return CLI_FAILED;
    }
    p->extra = extra;
    int code = cli_start(&p->cli, argc, argv, kind, program);
    if (code == -1 && p->cli.cleanup) {
        const mvpn_config *c = &p->cli.config;
        code = mvpn_host_exit_cleanup(&c->exit, c->run_dir, &fault) == 0
                   ? 0
                   : cli_fail(&p->cli, &fault);
    }
    if (code == -1 && extra != NULL && extra->instead != NULL) {
        code = extra->instead(extra->ctx, &p->cli);
    }
    code = code == -1 ? cli_start_helper(&p->cli) : code;
    cli_lock(&p->cli, &p->keys, sizeof(p->keys));
    cli_lock(&p->cli, &p->engine, sizeof(p->engine));
    if (code == -1 && load_keys(p, &fault) != 0) {
        (void)cli_fail(&p->cli, &fault);
        code = CLI_USAGE;
    }
    if (code == -1) {
        p->started = mvpn_clock_now();
        mvpn_connection_log_init(&p->connections, &p->cli.log, p->started);
        if (relay_start(p, &fault) != 0) {
            code = cli_fail(&p->cli, &fault);
        } else if (p->cli.check) {
            (void)printf("%s: configuration, keys and network file are in order\n", p->cli.program);
            code = 0;
        } else {
            code = cli_run(&p->cli, p->loop, p->node, on_control, p);
        }
    }
    relay_stop(p);
    cli_done(&p->cli);
    free(p);
    return code;
}
