#include "sim.h"

#include <stdlib.h>
#include <string.h>

#include "crypto/hash.h"
#include "crypto/x25519.h"
#include "inet.h"

/* A node that has work at one instant again and again is broken. */
#define TURNS_AT_ONCE 100000
/* Enough for the windows in use; a world of many nodes stays small. */
#define PACKETS 1536

enum event_kind {
    EVENT_DATAGRAM,
    EVENT_TUN,
    EVENT_DNS,
    EVENT_CALL,
};

struct sim_event {
    mvpn_time due;
    uint64_t order;
    enum event_kind kind;
    sim_node *node; /* TUN, DNS */
    uint16_t lane;  /* TUN */
    void (*fn)(sim *w, void *arg);
    void *arg;
    mvpn_addr from, to;
    nat_box *realm; /* in whose inside the datagram is under way; NULL: the internet */
    size_t len;
    uint8_t bytes[];
};

sim_node *sim_current;
mvpn_time sim_current_time;

static void must(int r)
{
    MVPN_ASSERT(r == 0);
}

/* ---- events ---- */

static bool is_before(const struct sim_event *a, const struct sim_event *b)
{
    return a->due != b->due ? a->due < b->due : a->order < b->order;
}

static void heap_push(sim *w, struct sim_event *e)
{
    if (w->heap_count == w->heap_size) {
        w->heap_size = w->heap_size == 0 ? 1024 : w->heap_size * 2;
        w->heap = realloc(w->heap, w->heap_size * sizeof(struct sim_event *));
        MVPN_ASSERT(w->heap != NULL);
    }
    size_t i = w->heap_count++;
    for (; i > 0 && is_before(e, w->heap[(i - 1) / 2]); i = (i - 1) / 2) {
        w->heap[i] = w->heap[(i - 1) / 2];
    }
    w->heap[i] = e;
}

static struct sim_event *heap_pop(sim *w)
{
    struct sim_event *top = w->heap[0];
    struct sim_event *last = w->heap[--w->heap_count];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= w->heap_count) {
            break;
        }
        if (child + 1 < w->heap_count && is_before(w->heap[child + 1], w->heap[child])) {
            child++;
        }
        if (!is_before(w->heap[child], last)) {
            break;
        }
        w->heap[i] = w->heap[child];
        i = child;
    }
    w->heap[i] = last;
    return top;
}

static struct sim_event *event_new(sim *w, enum event_kind kind, mvpn_time delay, size_t len)
{
    struct sim_event *e = calloc(1, sizeof(*e) + len);
    MVPN_ASSERT(e != NULL);
    e->kind = kind;
    e->due = w->now + delay;
    e->order = w->order++;
    e->len = len;
    return e;
}

static void post(sim *w, const sim_datagram *d, nat_box *realm, mvpn_time delay)
{
    struct sim_event *e = event_new(w, EVENT_DATAGRAM, delay, d->len);
    e->from = d->from;
    e->to = d->to;
    e->realm = realm;
    memcpy(e->bytes, d->bytes, d->len);
    heap_push(w, e);
}

void sim_inject(sim *w, const sim_datagram *d, mvpn_time delay)
{
    post(w, d, NULL, delay);
}

void sim_tun_in(sim_node *n, const uint8_t *packet, size_t len, mvpn_time delay)
{
    sim_lane_in(n, 0, packet, len, delay);
}

void sim_lane_in(sim_node *n, unsigned lane, const uint8_t *packet, size_t len, mvpn_time delay)
{
    struct sim_event *e = event_new(n->world, EVENT_TUN, delay, len);
    e->node = n;
    e->lane = (uint16_t)lane;
    memcpy(e->bytes, packet, len);
    heap_push(n->world, e);
}

void sim_dns_in(sim_node *n, const mvpn_addr *from, const uint8_t *bytes, size_t len,
                mvpn_time delay)
{
    struct sim_event *e = event_new(n->world, EVENT_DNS, delay, len);
    e->node = n;
    e->from = *from;
    memcpy(e->bytes, bytes, len);
    heap_push(n->world, e);
}

void sim_call(sim *w, mvpn_time delay, void (*fn)(sim *w, void *arg), void *arg)
{
    struct sim_event *e = event_new(w, EVENT_CALL, delay, 0);
    e->fn = fn;
    e->arg = arg;
    heap_push(w, e);
}

/* ---- paths ---- */

sim_path *sim_path_between(sim *w, const sim_node *from, const sim_node *to)
{
    sim_path **p = &w->own_path[from->index * SIM_NODES + to->index];
    if (*p == NULL) {
        *p = malloc(sizeof(**p));
        MVPN_ASSERT(*p != NULL);
        **p = w->path;
    }
    return *p;
}

void sim_cut(sim *w, const sim_node *a, const sim_node *b, bool is_cut)
{
    sim_path_between(w, a, b)->is_cut = is_cut;
    sim_path_between(w, b, a)->is_cut = is_cut;
}

static bool chance(sim *w, uint32_t ppm)
{
    return ppm > 0 && mvpn_rng_below(&w->rng, 1000000) < ppm;
}

static void travel(sim *w, const sim_path *path, sim_datagram *d, nat_box *realm)
{
    if (path->is_cut || (path->mtu > 0 && d->len > path->mtu) || chance(w, path->loss)) {
        w->lost++;
        return;
    }
    unsigned copies = chance(w, path->duplicate) ? 2 : 1;
    for (unsigned i = 0; i < copies; i++) {
        sim_datagram altered;
        const sim_datagram *sent = d;
        mvpn_time delay = path->delay;
        if (path->jitter > 0) {
            delay += mvpn_rng_below(&w->rng, (uint32_t)path->jitter);
        }
        if (chance(w, path->reorder)) {
            delay += path->reorder_delay;
        }
        if (chance(w, path->corrupt)) {
            altered = *d;
            altered.bytes[mvpn_rng_below(&w->rng, (uint32_t)d->len)] ^=
                (uint8_t)(1u << mvpn_rng_below(&w->rng, 8));
            sent = &altered;
        }
        post(w, sent, realm, delay);
    }
}

static void trace_add(sim *w, const sim_datagram *d)
{
    static const mvpn_siphash_key key = {{1}};
    uint8_t in[32 + 2 * 19];
    mvpn_store64(in, w->trace);
    mvpn_store64(in + 8, w->now);
    mvpn_store64(in + 16, d->len);
    mvpn_store64(in + 24, mvpn_siphash(&key, d->bytes, d->len));
    for (size_t i = 0; i < 2; i++) {
        const mvpn_addr *a = i == 0 ? &d->from : &d->to;
        in[32 + i * 19] = a->family;
        mvpn_store16(in + 33 + i * 19, a->port);
        memcpy(in + 35 + i * 19, a->ip, sizeof(a->ip));
    }
    w->trace = mvpn_siphash(&key, in, sizeof(in));
}

/* ---- nodes ---- */

/* Which further socket of the node has this address; 0: none. */
static uint16_t further_socket(const sim_node *n, const mvpn_addr *addr)
{
    uint16_t local = 0;
    if (n->socket_count == 0) {
        return 0;
    }
    if (addr->port == n->probe_port) {
        local = MVPN_LOCAL_PROBE;
    } else if (addr->port >= SIM_FURTHER_PORT + MVPN_LOCAL_PUNCH &&
               addr->port < SIM_FURTHER_PORT + SIM_LOCALS) {
        local = (uint16_t)(addr->port - SIM_FURTHER_PORT);
    }
    for (size_t i = 0; local != 0 && n->has_socket[local] && i < n->addr_count; i++) {
        if (mvpn_addr_ip_eq(&n->addr[i], addr)) {
            return local;
        }
    }
    return 0;
}

static void open_socket(sim_node *n, uint16_t local)
{
    MVPN_ASSERT(local >= MVPN_LOCAL_PROBE && local < SIM_LOCALS);
    if (local == MVPN_LOCAL_PROBE && !n->has_socket[local]) {
        /* Of the system's choice: NATs know nothing of it yet. */
        n->probe_port = (uint16_t)(SIM_PROBE_PORT + (n->probe_port + 1) % 10000);
    }
    n->socket_count += !n->has_socket[local];
    n->has_socket[local] = true;
}

static bool is_socket_used(const sim_node *n, uint16_t local)
{
    return n->engine == NULL || mvpn_engine_socket_is_used(n->engine, local);
}

static void close_sockets(sim_node *n, bool all)
{
    for (uint16_t i = MVPN_LOCAL_PROBE; n->socket_count > 0 && i < SIM_LOCALS; i++) {
        if (n->has_socket[i] && (all || !is_socket_used(n, i))) {
            n->has_socket[i] = false;
            n->socket_count--;
        }
    }
}

static bool has_address(const sim_node *n, const mvpn_addr *addr)
{
    for (size_t i = 0; i < n->addr_count; i++) {
        if (n->kind == SIM_HOST ? mvpn_addr_ip_eq(&n->addr[i], addr)
                                : mvpn_addr_eq(&n->addr[i], addr)) {
            return true;
        }
    }
    return further_socket(n, addr) != 0;
}

static sim_node *find_in(const sim *w, const nat_box *realm, const mvpn_addr *addr)
{
    for (size_t i = 0; i < w->node_count; i++) {
        if (w->node[i]->nat == realm && has_address(w->node[i], addr)) {
            return w->node[i];
        }
    }
    return NULL;
}

sim_node *sim_find(const sim *w, const mvpn_addr *addr)
{
    return find_in(w, NULL, addr);
}

/* ---- NATs ---- */

/* The box that takes what is sent to `addr` in this realm. */
static nat_box *box_in(const sim *w, const nat_box *realm, const mvpn_addr *addr)
{
    for (size_t i = 0; i < w->nat_count; i++) {
        nat_box *box = w->nat[i];
        if (nat_outer(box) == realm &&
            (nat_config_of(box)->is_firewall ? find_in(w, box, addr) != NULL
                                             : mvpn_addr_ip_eq(nat_outside(box), addr))) {
            return box;
        }
    }
    return NULL;
}

/* Out through the boxes until the datagram is in a realm that knows its destination, or on the
 * internet. False: a box keeps it. */
static bool leave_home(const sim *w, nat_box **realm, sim_datagram *d)
{
    while (*realm != NULL) {
        nat_box *box = *realm;
        bool is_hairpin = mvpn_addr_ip_eq(nat_outside(box), &d->to);
        if (find_in(w, box, &d->to) != NULL || box_in(w, box, &d->to) != NULL) {
            return true;
        }
        if ((is_hairpin && !nat_config_of(box)->hairpin) ||
            !nat_out(box, &d->from, &d->to, w->now, &d->from)) {
            return false;
        }
        *realm = nat_outer(box); /* a hairpin turns there */
    }
    return true;
}

/* In through the boxes; `*to` is translated on the way. With `is_asking` nothing changes and no
 * filter is heard: whose it is. */
static sim_node *come_home(const sim *w, nat_box *realm, const mvpn_addr *from, mvpn_addr *to,
                           bool is_asking)
{
    for (;;) {
        sim_node *n = find_in(w, realm, to);
        nat_box *box = n == NULL ? box_in(w, realm, to) : NULL;
        if (box == NULL) {
            return n;
        }
        if (!(is_asking ? nat_holder(box, to, w->now, to) : nat_in(box, from, to, w->now, to))) {
            return NULL;
        }
        realm = box;
    }
}

sim_node *sim_find_identity(const sim *w, const mvpn_ed25519_pub *identity)
{
    for (size_t i = 0; i < w->node_count; i++) {
        sim_node *n = w->node[i];
        if ((n->kind == SIM_RELAY || n->kind == SIM_EXIT) &&
            memcmp(n->config.identity.b, identity->b, sizeof(identity->b)) == 0) {
            return n;
        }
    }
    return NULL;
}

static mvpn_packet_pool *node_pool(sim_node *n)
{
    return n->engine != NULL ? mvpn_engine_pool(n->engine) : &n->pool;
}

static mvpn_links *node_links(const sim_node *n)
{
    return n->engine != NULL ? mvpn_engine_links(n->engine) : n->links;
}

static bool is_running(const sim_node *n)
{
    return n->engine != NULL || n->links != NULL;
}

static void enter(sim_node *n)
{
    sim_current = n;
    sim_current_time = n->world->now;
}

static void leave(void)
{
    sim_current = NULL;
}

static void make_addresses(sim_node *n)
{
    uint8_t hi = (uint8_t)(n->index >> 7), lo = (uint8_t)(n->index & 127);
    n->addr[0] = (mvpn_addr){.family = 4,
                             .port = 443,
                             .ip = {(uint8_t)(45 + hi), (uint8_t)(10 + lo), 7, (uint8_t)(1 + lo)}};
    n->addr_count = 1;
    if (n->kind != SIM_CLIENT && n->kind != SIM_PUPPET) {
        n->addr[1] = (mvpn_addr){
            .family = 6, .port = 443, .ip = {0x2a, 0x10, hi, (uint8_t)(10 + lo), [15] = 1}};
        n->addr_count = 2;
    }
}

static void make_descriptor(sim_node *n)
{
    sim *w = n->world;
    mvpn_engine_config *c = &n->config;
    mvpn_descriptor *d = &n->descriptor;
    uint16_t roles = MVPN_ROLE_GUARD | MVPN_ROLE_MIDDLE | MVPN_ROLE_DHT_SERVER;
    if (n->kind == SIM_EXIT) {
        roles |= MVPN_ROLE_EXIT;
    }
    if (n->kind == SIM_BOOTSTRAP) {
        roles = MVPN_ROLE_DHT_SERVER;
        c->no_circuits = true;
    }
    c->is_dht_server = true;
    mvpn_ed25519_generate(&c->identity, &n->secret, &w->rng);
    mvpn_x25519_generate(&c->link_key, &w->rng);
    mvpn_x25519_generate(&c->onion_keys[0].pair, &w->rng);
    c->onion_keys[0].id = 1;
    c->onion_key_count = 1;
    mvpn_link_certificate_make(c->link_certificate, &n->secret, &c->identity, &c->link_key.pub,
                               SIM_UNIX - 1000, SIM_UNIX + 1000000, &w->network_id);
    c->has_membership = w->is_closed;
    mvpn_membership_make(c->membership, &w->network_secret_key, &c->identity, roles,
                         SIM_UNIX - 1000, SIM_UNIX + 1000000, n->index + 1, &w->network_id);
    *d = (mvpn_descriptor){
        .identity = c->identity,
        .sequence = 1,
        .published = SIM_UNIX - 100,
        .expires = SIM_UNIX + 1000000,
        .onion_key_count = 1,
        .onion_keys = {{1, c->onion_keys[0].pair.pub}},
        .address_count = (uint8_t)n->addr_count,
        .roles = roles,
        .has_membership = w->is_closed,
    };
    for (size_t i = 0; i < n->addr_count; i++) {
        d->addresses[i] = (mvpn_descriptor_address){MVPN_CARRIER_PLAIN, n->addr[i]};
        c->own_addresses[i] = n->addr[i];
    }
    c->own_address_count = n->addr_count;
    memcpy(d->link_certificate, c->link_certificate, sizeof(d->link_certificate));
    memcpy(d->membership, c->membership, sizeof(d->membership));
    memcpy(d->name, n->name, sizeof(d->name));
    must(mvpn_descriptor_sign(d, &n->secret, &w->network_id));
    d->link_key = c->link_key.pub;
}

static const mvpn_addr resolver = {.family = 4, .port = 53, .ip = {9, 9, 9, 9}};

static void configure(sim_node *n)
{
    sim *w = n->world;
    mvpn_engine_config *c = &n->config;
    c->backend = MVPN_AEAD_AUTO;
    c->packet_count = PACKETS;
    c->unix_offset_us = (int64_t)SIM_UNIX * 1000000 - (int64_t)SIM_START;
    c->network_pub = w->network_pub;
    c->closed = w->is_closed;
    c->network_secret = w->network_secret;
    if (n->kind == SIM_CLIENT) {
        n->client = (mvpn_client_config){.hops = 3};
        n->client.env.size_policy = MVPN_SIZE_CLASSES;
        n->client.env.family = 4;
        return;
    }
    if (n->kind == SIM_PUPPET || n->kind == SIM_HOST) {
        return;
    }
    c->is_relay = true;
    c->has_ipv4 = true;
    c->has_ipv6 = true;
    c->circuits_max = 0;
    make_descriptor(n);
    n->exit = (mvpn_exit_config){
        .pool_v4 = {.family = 4, .ip = {10, 64, 0, 0}},
        .pool_v4_bits = 20,
        .pool_v6 = {.family = 6, .ip = {0xfd, 0x64, (uint8_t)n->index}},
        .uplink_v6 = true,
        .own = n->addr,
        .own_count = n->addr_count,
        .dns = &resolver,
        .dns_count = 1,
        .sessions_max = 1024,
    };
}

sim_node *sim_add(sim *w, enum sim_kind kind)
{
    static const char *const names[] = {"relay", "exit", "client", "puppet", "bootstrap", "host"};
    MVPN_ASSERT(w->node_count < SIM_NODES);
    sim_node *n = calloc(1, sizeof(*n));
    MVPN_ASSERT(n != NULL);
    n->world = w;
    n->kind = kind;
    n->index = w->node_count;
    size_t len = strlen(names[kind]);
    memcpy(n->name, names[kind], len);
    n->name[len] = '-';
    n->name[len + 1] = (char)('0' + n->index / 100 % 10);
    n->name[len + 2] = (char)('0' + n->index / 10 % 10);
    n->name[len + 3] = (char)('0' + n->index % 10);
    make_addresses(n);
    configure(n);
    w->node[w->node_count++] = n;
    return n;
}

static void fill_view(sim_node *n, mvpn_view *view)
{
    for (size_t i = 0; i < n->world->node_count; i++) {
        const sim_node *other = n->world->node[i];
        if (other->kind == SIM_RELAY || other->kind == SIM_EXIT) {
            must(mvpn_view_add(view, &other->descriptor));
        }
    }
}

static void start_puppet(sim_node *n)
{
    mvpn_links_config lc = n->config.link_limits;
    must(mvpn_packet_pool_init(&n->pool, n->config.packet_count));
    must(mvpn_aead_new(n->config.backend, &n->aead));
    n->trust.network_id = n->world->network_id;
    n->trust.network_pub = n->config.network_pub;
    n->trust.closed = n->config.closed;
    const mvpn_view_config vc = {.trust = &n->trust};
    must(mvpn_view_new(&vc, &n->view));
    mvpn_rng_init(&n->rng, n->config.seed);
    lc.aead = n->aead;
    lc.rng = &n->rng;
    lc.pool = &n->pool;
    lc.network_id = n->world->network_id;
    lc.closed = n->config.closed;
    lc.network_secret = n->config.network_secret;
    lc.network_pub = n->config.network_pub;
    lc.unix_offset_us = n->config.unix_offset_us;
    must(mvpn_links_new(&lc, n->world->now, &n->links));
    fill_view(n, n->view);
}

void sim_add_entry(sim *w, const sim_node *n)
{
    MVPN_ASSERT(w->entry_count < MVPN_ARRAY_LEN(w->entries));
    mvpn_dht_contact *c = &w->entries[w->entry_count++];
    *c = (mvpn_dht_contact){.link_key = n->config.link_key.pub, .addr = n->addr[0]};
    mvpn_dht_node_id(&c->id, &n->config.identity, &n->addr[0]);
}

void sim_start(sim_node *n)
{
    sim *w = n->world;
    mvpn_policy_error error;
    MVPN_ASSERT(!is_running(n));
    mvpn_rng_bytes(&w->rng, n->config.seed, sizeof(n->config.seed));
    n->starts++;
    enter(n);
    if (n->kind == SIM_PUPPET) {
        start_puppet(n);
    } else {
        n->config.client = n->kind == SIM_CLIENT ? &n->client : NULL;
        n->config.exit = n->kind == SIM_EXIT ? &n->exit : NULL;
        n->config.host_address_count = n->addr_count;
        memcpy(n->config.host_addresses, n->addr, sizeof(n->addr));
        if (w->finds) {
            n->config.finds = true;
            n->config.entries = w->entries;
            n->config.entry_count = w->entry_count;
            n->config.publish = n->config.is_relay ? &n->descriptor : NULL;
            n->config.identity_secret = n->secret;
        }
        must(mvpn_engine_new(&n->config, w->now, &n->engine, &error));
        if (!w->finds) {
            fill_view(n, mvpn_engine_view(n->engine));
        }
    }
    leave();
    sim_touch(n);
}

/* ---- what nodes send ---- */

/* From a node's own address to the wire: through its NATs, then what can be seen of it. */
static void emit(sim_node *n, sim_datagram *d)
{
    sim *w = n->world;
    nat_box *realm = n->nat;
    n->sent++;
    n->sent_bytes += d->len;
    if (!leave_home(w, &realm, d)) {
        w->kept_in++;
        return;
    }
    w->datagrams++;
    trace_add(w, d);
    mvpn_addr inside = d->to;
    sim_node *to = come_home(w, realm, &d->from, &inside, true);
    if (w->tap != NULL && !w->tap(w, n, to, d)) {
        w->lost++;
        return;
    }
    const sim_path *own = to == NULL ? NULL : w->own_path[n->index * SIM_NODES + to->index];
    travel(w, own == NULL ? &w->path : own, d, realm);
}

static void send_datagram(sim_node *n, const mvpn_packet *p)
{
    sim_datagram d = {.from = n->addr[0], .to = p->remote, .flags = p->flags, .len = p->len};
    MVPN_ASSERT(p->len <= sizeof(d.bytes));
    if (p->remote.family == 6 && n->addr_count > 1) {
        d.from = n->addr[1];
    }
    if (p->local != MVPN_LOCAL_MAIN) {
        open_socket(n, p->local);
        d.from.port =
            p->local == MVPN_LOCAL_PROBE ? n->probe_port : (uint16_t)(SIM_FURTHER_PORT + p->local);
    }
    memcpy(d.bytes, p->data, p->len);
    emit(n, &d);
}

void sim_host_send(sim_node *host, uint16_t port, const mvpn_addr *to, const uint8_t *bytes,
                   size_t len)
{
    sim_datagram d = {.from = host->addr[0], .to = *to, .len = len};
    MVPN_ASSERT(host->kind == SIM_HOST && len <= sizeof(d.bytes));
    if (to->family == 6 && host->addr_count > 1) {
        d.from = host->addr[1];
    }
    d.from.port = port;
    memcpy(d.bytes, bytes, len);
    emit(host, &d);
}

static void collect_tun(sim_node *n, mvpn_packet_queue *out)
{
    mvpn_packet *p;
    while ((p = mvpn_packet_queue_pop(out)) != NULL) {
        if (n->kind == SIM_EXIT) {
            inet_from_exit(n, p->data, p->len);
        } else if (n->on_tun != NULL) {
            n->on_tun(n, p->data, p->len);
        }
        mvpn_packet_free(node_pool(n), p);
    }
}

static void note_event(sim_node *n, const mvpn_client_event *e)
{
    switch (e->type) {
    case MVPN_CLIENT_EVENT_CONNECTED:
        n->connected++;
        n->connected_at = n->world->now;
        break;
    case MVPN_CLIENT_EVENT_DISCONNECTED:
        n->disconnected++;
        break;
    case MVPN_CLIENT_EVENT_BUILD_FAILED:
        n->build_failed++;
        n->last_failure = *e;
        break;
    case MVPN_CLIENT_EVENT_BLOCKED:
        n->blocked++;
        break;
    case MVPN_CLIENT_EVENT_SWITCHED:
        n->switched++;
        n->switched_hop = e->hop;
        break;
    case MVPN_CLIENT_EVENT_STAGE:
        break;
    case MVPN_CLIENT_EVENT_SESSION_LOST:
        n->sessions_lost++;
        break;
    }
}

static void collect(sim_node *n)
{
    mvpn_packet *p;
    mvpn_packet_queue *out =
        n->engine != NULL ? mvpn_engine_datagrams_out(n->engine) : mvpn_links_out(n->links);
    while ((p = mvpn_packet_queue_pop(out)) != NULL) {
        send_datagram(n, p);
        mvpn_packet_free(node_pool(n), p);
    }
    if (n->engine == NULL) {
        return;
    }
    mvpn_engine_event e;
    while (mvpn_engine_pull_event(n->engine, &e)) {
        if (e.type == MVPN_ENGINE_CLIENT) {
            note_event(n, &e.client);
        }
    }
    out = mvpn_engine_tun_out(n->engine);
    if (out != NULL) {
        collect_tun(n, out);
    }
    out = mvpn_engine_dns_out(n->engine);
    while (out != NULL && (p = mvpn_packet_queue_pop(out)) != NULL) {
        inet_from_resolver_socket(n, &p->remote, p->data, p->len);
        mvpn_packet_free(node_pool(n), p);
    }
}

static void turn_puppet(sim_node *n)
{
    mvpn_link_event e;
    mvpn_links_tick(n->links, n->world->now);
    while (mvpn_links_pull_event(n->links, &e)) {
        if (e.type == MVPN_LINK_CLOSED && n->on_closed != NULL) {
            n->on_closed(n, e.link);
        }
    }
    n->deadline = mvpn_links_deadline(n->links);
}

static void turn(sim_node *n)
{
    enter(n);
    if (n->engine == NULL) {
        turn_puppet(n);
    } else {
        mvpn_engine_turn(n->engine, n->world->now);
        if (n->on_turn != NULL) {
            n->on_turn(n);
        }
    }
    leave();
    collect(n);
    close_sockets(n, false);
    if (n->engine != NULL) {
        n->deadline = mvpn_engine_deadline(n->engine);
    }
    n->is_due = false;
}

void sim_touch(sim_node *n)
{
    n->is_due = true;
}

void sim_stop(sim_node *n, bool is_orderly)
{
    if (!is_running(n)) {
        return;
    }
    enter(n);
    if (n->engine != NULL && is_orderly) {
        mvpn_engine_shutdown(n->engine, n->world->now);
        collect(n);
    }
    if (n->links != NULL) {
        mvpn_links_free(n->links);
        mvpn_view_free(n->view);
        mvpn_aead_free(n->aead);
        mvpn_packet_pool_done(&n->pool);
    }
    mvpn_engine_free(n->engine);
    leave();
    close_sockets(n, true);
    n->engine = NULL;
    n->links = NULL;
    n->view = NULL;
    n->aead = NULL;
    n->deadline = MVPN_TIME_NEVER;
    n->is_due = false;
}

void sim_move(sim_node *n, const mvpn_addr *addr)
{
    n->addr[0] = *addr;
    n->nat = NULL;
}

void sim_network_changed(sim_node *n)
{
    MVPN_ASSERT(is_running(n));
    enter(n);
    if (n->engine != NULL) {
        mvpn_engine_network_changed(n->engine, n->addr, n->addr_count, n->world->now);
    } else {
        mvpn_links_local_changed(n->links, n->world->now);
    }
    leave();
    sim_touch(n);
}

nat_box *sim_add_nat(sim *w, const nat_config *config, nat_box *outer)
{
    MVPN_ASSERT(w->nat_count < SIM_NATS);
    size_t k = w->nat_count;
    uint8_t hi = (uint8_t)(k >> 7), lo = (uint8_t)(k & 127);
    mvpn_addr outside = {.family = 4,
                         .ip = {(uint8_t)(90 + hi), (uint8_t)(10 + lo), 9, (uint8_t)(1 + lo)}};
    if (config->is_firewall) {
        outside = (mvpn_addr){.family = 6, .ip = {0x2a, 0x11, hi, (uint8_t)(10 + lo), [15] = 9}};
    } else if (outer != NULL) {
        /* Unique in all carriers' insides, for simplicity. */
        outside = (mvpn_addr){.family = 4, .ip = {100, 64, hi, (uint8_t)(2 + lo)}};
    }
    w->nat[k] = nat_new(config, &outside, outer, w->seed * SIM_NATS + k);
    w->nat_count++;
    return w->nat[k];
}

nat_box *sim_add_home(sim *w, const char *type)
{
    if (strcmp(type, "public") == 0) {
        return NULL;
    }
    if (strcmp(type, "double") == 0 || strcmp(type, "doublesym") == 0) {
        const char *carrier = strcmp(type, "double") == 0 ? "port" : "sym";
        return sim_add_nat(w, nat_type("port"), sim_add_nat(w, nat_type(carrier), NULL));
    }
    MVPN_ASSERT(nat_type(type) != NULL);
    return sim_add_nat(w, nat_type(type), NULL);
}

void sim_put_behind(sim_node *n, nat_box *box)
{
    mvpn_addr addr = {.family = 4, .port = n->addr[0].port, .ip = {192, 168, 1, 2}};
    if (nat_config_of(box)->is_firewall) {
        addr = *nat_outside(box);
        addr.port = n->addr[0].port;
        addr.ip[7] = 1;
        addr.ip[15] = 2;
    }
    n->addr_count = 0; /* not in its own way, should it be there already */
    uint8_t *last = &addr.ip[addr.family == 4 ? 3 : 15];
    for (bool is_free = false; !is_free;) {
        is_free = true;
        for (size_t i = 0; i < n->world->node_count; i++) {
            const sim_node *other = n->world->node[i];
            if (other->nat == box && other->addr_count > 0 &&
                mvpn_addr_ip_eq(&other->addr[0], &addr)) {
                is_free = false;
            }
        }
        if (!is_free) {
            MVPN_ASSERT(*last < 254);
            (*last)++;
        }
    }
    n->addr[0] = addr;
    n->addr_count = 1;
    n->nat = box;
}

/* ---- arrivals ---- */

static void receive(sim_node *n, struct sim_event *e)
{
    mvpn_packet_queue in;
    mvpn_packet *p = mvpn_packet_new(node_pool(n));
    if (p == NULL) {
        n->world->lost++;
        return;
    }
    memcpy(mvpn_packet_append(p, (uint32_t)e->len), e->bytes, e->len);
    p->remote = e->from;
    p->local = e->kind == EVENT_DNS   ? MVPN_EXIT_LOCAL_DNS
               : e->kind == EVENT_TUN ? e->lane
                                      : further_socket(n, &e->to);
    if (n->on_arrival != NULL && e->kind == EVENT_DATAGRAM) {
        n->on_arrival(n, p);
    }
    mvpn_packet_queue_init(&in);
    enter(n);
    if (n->engine == NULL) {
        mvpn_link *link;
        mvpn_header header;
        if (mvpn_links_recv(n->links, p, n->world->now, &link, &header) == 1) {
            if (n->on_message != NULL) {
                n->on_message(n, link, &header, p);
            } else {
                mvpn_packet_free(&n->pool, p);
            }
        }
    } else {
        mvpn_packet_queue_push(&in, p);
        if (e->kind == EVENT_TUN) {
            mvpn_engine_tun_in(n->engine, &in, n->world->now);
        } else {
            mvpn_engine_datagrams_in(n->engine, &in, n->world->now);
        }
    }
    leave();
    n->is_due = true;
}

static void deliver(sim *w, struct sim_event *e)
{
    if (e->kind == EVENT_CALL) {
        e->fn(w, e->arg);
        return;
    }
    sim_node *n = e->node;
    if (e->kind == EVENT_DATAGRAM) {
        bool is_natted = box_in(w, e->realm, &e->to) != NULL;
        n = come_home(w, e->realm, &e->from, &e->to, false);
        if (n == NULL && is_natted) {
            w->kept_out++;
            return;
        }
    }
    if (n == NULL) {
        w->to_nobody++;
    } else if (n->kind == SIM_HOST) {
        n->received++;
        n->received_bytes += e->len;
        n->on_datagram(n, &e->from, &e->to, e->bytes, e->len);
    } else if (is_running(n)) {
        n->received++;
        n->received_bytes += e->len;
        receive(n, e);
    }
}

/* ---- time ---- */

static mvpn_time next_time(const sim *w)
{
    mvpn_time t = w->heap_count == 0 ? MVPN_TIME_NEVER : w->heap[0]->due;
    for (size_t i = 0; i < w->node_count; i++) {
        const sim_node *n = w->node[i];
        if (is_running(n)) {
            t = n->is_due ? w->now : mvpn_time_min(t, n->deadline);
            if (t <= w->now) {
                return w->now;
            }
        }
    }
    return t;
}

/* One instant: all that arrives, then a turn for each node that has something to do. */
static void step(sim *w)
{
    while (w->heap_count > 0 && w->heap[0]->due <= w->now) {
        struct sim_event *e = heap_pop(w);
        deliver(w, e);
        free(e);
    }
    for (size_t i = 0; i < w->node_count; i++) {
        sim_node *n = w->node[i];
        if (is_running(n) && (n->is_due || n->deadline <= w->now)) {
            turn(n);
        }
    }
    w->steps++;
}

/* The next instant, if it is not after `until`. */
static bool advance(sim *w, mvpn_time until, unsigned *at_once)
{
    mvpn_time t = next_time(w);
    if (t > until) {
        return false;
    }
    *at_once = t > w->now ? 0 : *at_once + 1;
    MVPN_ASSERT(*at_once < TURNS_AT_ONCE);
    w->now = t > w->now ? t : w->now;
    step(w);
    return true;
}

void sim_run(sim *w, mvpn_time until)
{
    unsigned at_once = 0;
    while (advance(w, until, &at_once)) {
    }
    w->now = until > w->now ? until : w->now;
}

void sim_for(sim *w, mvpn_time span)
{
    sim_run(w, w->now + span);
}

bool sim_run_until(sim *w, bool (*is_done)(sim *w, void *arg), void *arg, mvpn_time span)
{
    mvpn_time until = w->now + span;
    unsigned at_once = 0;
    while (!is_done(w, arg)) {
        if (!advance(w, until, &at_once)) {
            w->now = until;
            return is_done(w, arg);
        }
    }
    return true;
}

static bool is_connected(sim *w, void *arg)
{
    mvpn_client_status s;
    (void)w;
    sim_status(arg, &s);
    return s.state == MVPN_CLIENT_CONNECTED;
}

bool sim_connect(sim_node *client, mvpn_time span)
{
    return sim_run_until(client->world, is_connected, client, span);
}

/* ---- worlds ---- */

sim *sim_new(uint64_t seed)
{
    sim *w = calloc(1, sizeof(*w));
    MVPN_ASSERT(w != NULL);
    w->seed = seed;
    w->now = SIM_START;
    w->is_closed = true;
    w->path = (sim_path){.delay = MVPN_MS(10)};
    w->inet_delay = MVPN_MS(10);
    mvpn_rng_init_test(&w->rng, seed);
    mvpn_ed25519_generate(&w->network_pub, &w->network_secret_key, &w->rng);
    mvpn_rng_bytes(&w->rng, w->network_secret.b, sizeof(w->network_secret.b));
    mvpn_network_id(&w->network_id, &w->network_pub);
    return w;
}

void sim_free(sim *w)
{
    if (w == NULL) {
        return;
    }
    for (size_t i = 0; i < w->node_count; i++) {
        sim_stop(w->node[i], false);
        free(w->node[i]);
    }
    for (size_t i = 0; i < w->heap_count; i++) {
        free(w->heap[i]);
    }
    for (size_t i = 0; i < SIM_NODES * SIM_NODES; i++) {
        free(w->own_path[i]);
    }
    for (size_t i = 0; i < w->nat_count; i++) {
        nat_free(w->nat[i]);
    }
    free(w->heap);
    free(w);
}

sim *sim_standard(uint64_t seed, size_t relays, size_t exits, unsigned hops)
{
    sim *w = sim_new(seed);
    for (size_t i = 0; i < relays + exits; i++) {
        sim_add(w, i < relays ? SIM_RELAY : SIM_EXIT);
    }
    for (size_t i = 0; i < relays + exits; i++) {
        sim_start(w->node[i]);
    }
    sim_add(w, SIM_CLIENT)->client.hops = hops;
    return w;
}

sim_node *sim_client(const sim *w)
{
    for (size_t i = 0; i < w->node_count; i++) {
        if (w->node[i]->kind == SIM_CLIENT) {
            return w->node[i];
        }
    }
    return NULL;
}

void sim_fix_path(sim_node *client, sim_node *const *hops, size_t count)
{
    client->client.hops = (unsigned)count;
    client->client.fixed_path.count = (unsigned)count;
    for (size_t i = 0; i < count; i++) {
        client->client.fixed_path.hop[i] = hops[i]->config.identity;
    }
}

void sim_status(const sim_node *client, mvpn_client_status *ret)
{
    *ret = (mvpn_client_status){.state = MVPN_CLIENT_CONNECTING};
    if (client->engine != NULL) {
        mvpn_client_get_status(mvpn_engine_client(client->engine), ret);
    }
}

sim_node *sim_hop(const sim_node *client, unsigned hop)
{
    mvpn_client_status s;
    sim_status(client, &s);
    return hop > s.path.count ? NULL : sim_find_identity(client->world, &s.path.hop[hop - 1]);
}

size_t sim_circuits(const sim_node *relay)
{
    return relay->engine == NULL ? 0 : mvpn_relay_circuit_count(mvpn_engine_relay(relay->engine));
}

size_t sim_links(const sim_node *n)
{
    return is_running(n) ? mvpn_links_count(node_links(n)) : 0;
}

size_t sim_packets_in_use(const sim_node *n)
{
    const mvpn_packet_pool *pool = n->engine == NULL ? &n->pool : mvpn_engine_pool(n->engine);
    return is_running(n) ? pool->size - pool->free_count : 0;
}

size_t sim_circuits_total(const sim *w)
{
    size_t count = 0;
    for (size_t i = 0; i < w->node_count; i++) {
        if (w->node[i]->kind == SIM_RELAY || w->node[i]->kind == SIM_EXIT) {
            count += sim_circuits(w->node[i]);
        }
    }
    return count;
}
