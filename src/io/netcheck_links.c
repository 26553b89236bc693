#include "io/netcheck_links.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "dht/contact.h"
#include "dht/exchange.h"
#include "io/clock.h"
#include "io/random.h"
#include "io/udp.h"
#include "network/p2p/link.h"
#include "network/p2p/nat_probe.h"

/* Nodes known: those of a file, of the cache, and what two of them name. */
#define NODES_MAX 128
/* Of these, so many are spoken to: when some are down, others get their turn. */
#define STARTS_MAX 8
#define QUESTIONS_MAX 2
/* Who keeps us waiting for so long does not hold up the next. */
#define PATIENCE MVPN_MS(800)
/* Nobody has answered anything: nobody will. After the third sending of each first packet. */
#define SILENCE MVPN_MS(3600)
/* Probes of the full size are sent in the first 600 ms; those of the NAT follow one another. */
#define FULL_SIZE_TIME MVPN_MS(1100)
#define NAT_TIME MVPN_MS(3400)
#define TURN_TIME MVPN_MS(50)
#define PACKETS 256
#define BATCH 64
/* No honest clock is later (the year 36812): nothing that is made of it overflows. */
#define PEER_TIME_MAX (UINT64_C(1) << 40)

enum node_state {
    NODE_NEW,
    NODE_ASKED,
    NODE_LINKING,
    NODE_OPEN,
    NODE_FAILED,
};

typedef struct node {
    enum node_state state;
    mvpn_dht_contact contact; /* id: of a DHT server alone */
    bool is_known; /* who it is: its descriptor is in the network file, or the other family asked */
    bool is_pinned; /* the user's own network file names it */
    bool has_answered;
    bool was_questioned; /* whom it knows */
    mvpn_ed25519_pub identity;
    uint64_t transaction; /* ASKED */
    mvpn_link *link;      /* LINKING, OPEN; held */
    mvpn_time since;
} node;

struct mvpn_netcheck_links {
    mvpn_netcheck_links_options opt;
    mvpn_netcheck_links_fn *fn;
    void *ctx;
    mvpn_loop *loop;
    mvpn_netcheck_links *other; /* of the other family; NULL: none */
    mvpn_loop_timer *timer;
    mvpn_rng rng;
    mvpn_aead *aead;
    mvpn_packet_pool pool;
    bool has_pool;
    mvpn_trust trust;
    mvpn_udp *udp, *probe_udp; /* the second for MVPN_LOCAL_PROBE, when needed */
    mvpn_loop_watch *watch, *probe_watch;
    mvpn_links *links;
    mvpn_dht_exchange *exchange;
    mvpn_nat_probe *probe;
    mvpn_time began, last_open;
    int64_t unix_offset_us; /* of the system's clock */
    node nodes[NODES_MAX];
    size_t node_count;
    unsigned starts, questions;
    uint64_t questioned[QUESTIONS_MAX]; /* transactions of FindNode; 0: answered */
    bool is_told;
    mvpn_netcheck_links_result result;
};

static enum mvpn_udp_family udp_family(const mvpn_netcheck_links *n)
{
    return n->opt.family == 4 ? MVPN_UDP_V4 : MVPN_UDP_V6;
}

/* ---- whom to ask ---- */

static void add_node(mvpn_netcheck_links *n, const node *candidate)
{
    if (n->node_count < NODES_MAX && mvpn_dht_contact_is_usable(&candidate->contact, n->opt.family,
                                                                n->opt.network->allow_private)) {
        n->nodes[n->node_count++] = *candidate;
    }
}

/* Everybody's netcheck begins with others. */
static void shuffle(mvpn_netcheck_links *n, size_t from)
{
    for (size_t i = n->node_count; i > from + 1; i--) {
        size_t k = from + mvpn_rng_below(&n->rng, (uint32_t)(i - from));
        node swap = n->nodes[i - 1];
        n->nodes[i - 1] = n->nodes[k];
        n->nodes[k] = swap;
    }
}

static void add_relay(mvpn_netcheck_links *n, const mvpn_descriptor *d)
{
    for (size_t i = 0; d->nat_relay_count == 0 && i < d->address_count; i++) {
        if (d->addresses[i].carrier != MVPN_CARRIER_PLAIN) {
            continue;
        }
        add_node(n, &(node){.contact = {.link_key = d->link_key, .addr = d->addresses[i].addr},
                            .is_known = true,
                            .identity = d->identity});
    }
}

static void gather(mvpn_netcheck_links *n)
{
    const mvpn_network_file *f = n->opt.network;
    for (size_t i = 0; i < f->entry_count; i++) {
        add_node(n, &(node){.contact = f->entries[i], .is_pinned = true});
    }
    shuffle(n, 0);
    size_t from = n->node_count;
    for (size_t i = 0; i < f->relay_count; i++) {
        add_relay(n, &f->relays[i]);
    }
    shuffle(n, from);
    for (size_t i = 0; n->opt.cached != NULL && i < n->opt.cached->count; i++) {
        add_node(n, &(node){.contact = n->opt.cached->at[i].contact});
    }
}

static bool is_working(const node *e, mvpn_time now)
{
    return e->state == NODE_OPEN || ((e->state == NODE_ASKED || e->state == NODE_LINKING) &&
                                     (e->has_answered || now - e->since < PATIENCE));
}

/* Two observers at one ip are one. */
static bool is_taken(const mvpn_netcheck_links *n, const node *candidate)
{
    for (size_t i = 0; i < n->node_count; i++) {
        const node *e = &n->nodes[i];
        if (e->state != NODE_NEW && e->state != NODE_FAILED &&
            mvpn_addr_ip_eq(&e->contact.addr, &candidate->contact.addr)) {
            return true;
        }
    }
    return false;
}

static void fail(mvpn_netcheck_links *n, node *e, mvpn_time now)
{
    if (e->state == NODE_ASKED) {
        mvpn_dht_exchange_forget(n->exchange, e->transaction);
    }
    e->state = NODE_FAILED;
    e->since = now;
    e->link = NULL;
}

static void open_link(mvpn_netcheck_links *n, node *e, mvpn_time now)
{
    const mvpn_link_target target = {
        .identity = e->identity, .link_key = e->contact.link_key, .addr = e->contact.addr};
    e->since = now;
    e->state = NODE_LINKING;
    if (mvpn_links_find(n->links, &e->identity) != NULL ||
        mvpn_links_open(n->links, &target, now, &e->link) != 0) {
        fail(n, e, now); /* a node with two addresses is asked by one of them */
        return;
    }
    mvpn_link_set_user(e->link, e);
    mvpn_link_hold(e->link);
}

static void start(mvpn_netcheck_links *n, node *e, mvpn_time now)
{
    const mvpn_dht_request ping = {.command = MVPN_CMD_DHT_PING};
    n->starts++;
    n->result.asked++;
    if (e->is_known) {
        open_link(n, e, now);
        return;
    }
    e->since = now;
    e->state = NODE_ASKED;
    if (mvpn_dht_exchange_ask(n->exchange, &e->contact, e->is_pinned, &ping, now,
                              &e->transaction) != 0) {
        fail(n, e, now);
    }
}

/* Too few are known: one that has proven itself names others. */
static void question(mvpn_netcheck_links *n, mvpn_time now)
{
    for (size_t i = 0; i < n->node_count && n->questions < QUESTIONS_MAX; i++) {
        node *e = &n->nodes[i];
        mvpn_dht_request find = {.command = MVPN_CMD_DHT_FIND_NODE};
        if (!e->has_answered || e->was_questioned || e->is_known || e->state == NODE_FAILED) {
            continue;
        }
        mvpn_rng_bytes(&n->rng, find.target.b, sizeof(find.target.b));
        e->was_questioned = true;
        if (mvpn_dht_exchange_ask(n->exchange, &e->contact, e->is_pinned, &find, now,
                                  &n->questioned[n->questions]) == 0) {
            n->questions++;
        }
    }
}

static void choose(mvpn_netcheck_links *n, mvpn_time now)
{
    size_t working = 0;
    for (size_t i = 0; i < n->node_count; i++) {
        working += is_working(&n->nodes[i], now);
    }
    for (size_t i = 0;
         i < n->node_count && working < MVPN_NETCHECK_LINKS_MAX && n->starts < STARTS_MAX; i++) {
        node *e = &n->nodes[i];
        if (e->state == NODE_NEW && !is_taken(n, e)) {
            start(n, e, now);
            working += is_working(e, now);
        }
    }
    if (working < MVPN_NETCHECK_LINKS_MAX && n->starts < STARTS_MAX) {
        question(n, now);
    }
}

/* ---- what comes ---- */

static void answered(mvpn_netcheck_links *n, node *e)
{
    n->result.answered += !e->has_answered;
    e->has_answered = true;
}

/* Somebody proved to the other who it is. */
static void learn(mvpn_netcheck_links *n, const node *proven)
{
    for (size_t i = 0; i < n->node_count; i++) {
        node *e = &n->nodes[i];
        if (!e->is_known && e->link == NULL &&
            memcmp(&e->contact.link_key, &proven->contact.link_key, sizeof(mvpn_key)) == 0) {
            if (e->state == NODE_ASKED) {
                mvpn_dht_exchange_forget(n->exchange, e->transaction);
            }
            if (e->state != NODE_NEW) {
                n->starts--;
                n->result.asked--;
            }
            e->state = NODE_NEW;
            e->is_known = true;
            e->identity = proven->identity;
            mvpn_loop_timer_set(n->timer, 0);
        }
    }
}

static void take_pong(mvpn_netcheck_links *n, node *e, const mvpn_dht_exchange_answer *a,
                      mvpn_time now)
{
    int64_t offset_us =
        (int64_t)(MVPN_MIN(a->reply.time, PEER_TIME_MAX) * MVPN_US_PER_S) - (int64_t)now;
    answered(n, e);
    if (a->is_by_its_clock || !n->result.has_clock) {
        n->result.has_clock = true;
        n->result.clock_offset_s = (offset_us - n->unix_offset_us) / (int64_t)MVPN_US_PER_S;
    }
    if (a->is_by_its_clock) { /* else its link would not come about */
        mvpn_links_set_unix_offset(n->links, offset_us);
        mvpn_dht_exchange_set_unix_offset(n->exchange, offset_us);
    }
    e->identity = a->identity;
    open_link(n, e, now);
    if (n->other != NULL) {
        learn(n->other, e);
    }
}

static void take_contacts(mvpn_netcheck_links *n, const mvpn_dht_reply *reply)
{
    size_t from = n->node_count;
    for (size_t i = 0; i < reply->contact_count; i++) {
        add_node(n, &(node){.contact = reply->contacts[i]});
    }
    shuffle(n, from);
}

static void take_answers(mvpn_netcheck_links *n, mvpn_time now)
{
    mvpn_dht_exchange_answer a;
    while (mvpn_dht_exchange_pull_answer(n->exchange, &a)) {
        for (size_t i = 0; i < n->questions; i++) {
            if (n->questioned[i] == a.transaction) {
                n->questioned[i] = 0;
                if (a.error == 0 && a.reply.command == MVPN_CMD_DHT_NODES) {
                    take_contacts(n, &a.reply);
                }
            }
        }
        for (size_t i = 0; i < n->node_count; i++) {
            node *e = &n->nodes[i];
            if (e->state != NODE_ASKED || e->transaction != a.transaction) {
                continue;
            }
            if (a.error == 0 && a.reply.command == MVPN_CMD_DHT_PONG) {
                take_pong(n, e, &a, now);
                continue;
            }
            if (a.error == MVPN_E_AUTH) { /* its answer was sealed for us: UDP passes */
                answered(n, e);
            }
            fail(n, e, now);
        }
    }
}

static void take_link_events(mvpn_netcheck_links *n, mvpn_time now)
{
    mvpn_link_event event;
    while (mvpn_links_pull_event(n->links, &event)) {
        node *e = mvpn_link_user(event.link);
        if (event.type == MVPN_LINK_OPENED) {
            mvpn_nat_probe_link_opened(n->probe, event.link, now);
            n->last_open = now;
            if (e != NULL) {
                answered(n, e);
                e->state = NODE_OPEN;
                e->since = now;
                n->result.links++;
            }
            continue;
        }
        mvpn_nat_probe_link_closed(n->probe, event.link, now);
        if (e != NULL) {
            fail(n, e, now);
        }
    }
}

/* Takes the packet. */
static void take_packet(mvpn_netcheck_links *n, mvpn_packet *p, mvpn_time now)
{
    mvpn_link *link;
    mvpn_header header;
    if (mvpn_nat_probe_datagram(n->probe, p, now)) {
        return;
    }
    if (p->local == MVPN_LOCAL_PROBE) {
        mvpn_packet_free(&n->pool, p);
    } else if (mvpn_dht_is_datagram(mvpn_bytes_of(p->data, p->len))) {
        (void)mvpn_dht_exchange_recv(n->exchange, p, now); /* what is no answer is dropped */
    } else if (mvpn_links_recv(n->links, p, now, &link, &header) == 1) {
        (void)mvpn_nat_probe_message(n->probe, link, &header, mvpn_bytes_of(p->data, p->len), now);
        mvpn_packet_free(&n->pool, p);
    }
}

/* ---- sockets ---- */

static void turn(mvpn_netcheck_links *n);

static void receive(mvpn_netcheck_links *n, mvpn_udp *udp)
{
    mvpn_packet_queue in;
    mvpn_packet *p;
    mvpn_packet_queue_init(&in);
    /* A socket that broke shows as silence. */
    MVPN_IGNORE(mvpn_udp_recv(udp, udp_family(n), &n->pool, &in, BATCH));
    mvpn_time now = mvpn_clock_now();
    while ((p = mvpn_packet_queue_pop(&in)) != NULL) {
        take_packet(n, p, now);
    }
    turn(n);
}

static void main_readable(void *ctx, unsigned events)
{
    mvpn_netcheck_links *n = ctx;
    (void)events;
    receive(n, n->udp);
}

static void probe_readable(void *ctx, unsigned events)
{
    mvpn_netcheck_links *n = ctx;
    (void)events;
    receive(n, n->probe_udp);
}

static int open_udp(mvpn_netcheck_links *n, uint16_t local, mvpn_loop_fd_fn *readable,
                    mvpn_udp **ret, mvpn_loop_watch **ret_watch, mvpn_fault *fault)
{
    const mvpn_addr any = {.family = n->opt.family};
    const mvpn_marker marker = {.mark = n->opt.mark};
    const mvpn_udp_options options = {.marker = &marker, .local = local, .no_gso = true};
    int r = mvpn_udp_open(ret, &any, 1, &options, fault);
    return r != 0 ? r
                  : mvpn_loop_watch_fd(n->loop, mvpn_udp_fd(*ret, udp_family(n)),
                                       MVPN_LOOP_READABLE, readable, n, ret_watch);
}

/* Those from the second socket go there; without one they are lost. */
static void send_probes(mvpn_netcheck_links *n, mvpn_packet_queue *out)
{
    mvpn_packet_queue mine, other;
    mvpn_packet *p;
    mvpn_packet_queue_init(&mine);
    mvpn_packet_queue_init(&other);
    while ((p = mvpn_packet_queue_pop(out)) != NULL) {
        mvpn_packet_queue_push(p->local == MVPN_LOCAL_PROBE ? &other : &mine, p);
    }
    MVPN_IGNORE(mvpn_udp_send(n->udp, &mine, &n->pool));
    if (other.count > 0 && n->probe_udp == NULL &&
        open_udp(n, MVPN_LOCAL_PROBE, probe_readable, &n->probe_udp, &n->probe_watch, NULL) != 0) {
        mvpn_udp_free(n->probe_udp);
        n->probe_udp = NULL;
    }
    if (n->probe_udp != NULL) {
        MVPN_IGNORE(mvpn_udp_send(n->probe_udp, &other, &n->pool));
    }
    mvpn_packet_queue_clear(&mine, &n->pool);
    mvpn_packet_queue_clear(&other, &n->pool);
}

static void send_all(mvpn_netcheck_links *n, mvpn_time now)
{
    mvpn_addr remote;
    /* What a full socket leaves is sent at the next turn, or again. */
    MVPN_IGNORE(mvpn_udp_send(n->udp, mvpn_links_out(n->links), &n->pool));
    MVPN_IGNORE(mvpn_udp_send(n->udp, mvpn_dht_exchange_out(n->exchange), &n->pool));
    send_probes(n, mvpn_nat_probe_out(n->probe));
    while (mvpn_udp_pull_too_big(n->udp, &remote)) {
        mvpn_links_message_too_big(n->links, &remote, now);
    }
}

/* ---- the end ---- */

static int compare_offsets(const void *a, const void *b)
{
    const int64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static void sum_up(mvpn_netcheck_links *n, mvpn_time now)
{
    mvpn_netcheck_links_result *r = &n->result;
    int64_t offsets[NODES_MAX];
    size_t count = 0;
    r->is_full_size = false;
    r->rtt_us = 0;
    for (size_t i = 0; i < n->node_count; i++) {
        const node *e = &n->nodes[i];
        if (e->state != NODE_OPEN) {
            continue;
        }
        uint32_t rtt = mvpn_link_rtt_us(e->link);
        r->rtt_us = r->rtt_us == 0 || (rtt != 0 && rtt < r->rtt_us) ? rtt : r->rtt_us;
        r->is_full_size |= mvpn_link_is_full_size(e->link);
        r->is_full_size_known |= now - e->since >= FULL_SIZE_TIME;
        int64_t offset_us = mvpn_link_unix_offset_us(e->link) - n->unix_offset_us;
        offsets[count++] = offset_us / (int64_t)MVPN_US_PER_S;
    }
    r->is_full_size_known |= r->is_full_size;
    if (count > 0) {
        qsort(offsets, count, sizeof(offsets[0]), compare_offsets);
        r->has_clock = true;
        r->clock_offset_s = offsets[count / 2];
    }
    r->nat = *mvpn_nat_probe_class(n->probe);
}

static bool is_nat_known(const mvpn_nat_class *c)
{
    return c->filtering != MVPN_STUN_FILTERING_UNKNOWN &&
           (c->is_public || (c->is_known && c->hairpin != MVPN_STUN_HAIRPIN_UNKNOWN &&
                             (c->mapping == MVPN_STUN_MAPPING_ENDPOINT_INDEPENDENT ||
                              c->ports != MVPN_STUN_PORTS_UNKNOWN)));
}

/* Is nothing more to be expected? */
static bool is_over(const mvpn_netcheck_links *n, mvpn_time now)
{
    const mvpn_netcheck_links_result *r = &n->result;
    bool is_waiting = false;
    for (size_t i = 0; i < n->node_count; i++) {
        const node *e = &n->nodes[i];
        is_waiting |= e->state != NODE_OPEN && is_working(e, now);
    }
    for (size_t i = 0; i < n->questions; i++) {
        is_waiting |= n->questioned[i] != 0 && now - n->began < SILENCE;
    }
    if (r->links == 0) {
        /* Who answered and is no good will not become better. */
        return !is_waiting && (r->answered > 0 || now - n->began >= SILENCE);
    }
    return !is_waiting && r->is_full_size_known &&
           (is_nat_known(&r->nat) || now - n->last_open >= NAT_TIME);
}

static void turn(mvpn_netcheck_links *n)
{
    mvpn_time now = mvpn_clock_now();
    mvpn_dht_exchange_tick(n->exchange, now);
    mvpn_links_tick(n->links, now);
    take_answers(n, now);
    take_link_events(n, now);
    mvpn_nat_probe_tick(n->probe, now);
    choose(n, now);
    send_all(n, now);
    sum_up(n, now);
    mvpn_time next = mvpn_time_min(mvpn_links_deadline(n->links), now + TURN_TIME);
    next = mvpn_time_min(next, mvpn_dht_exchange_deadline(n->exchange));
    next = mvpn_time_min(next, mvpn_nat_probe_deadline(n->probe));
    mvpn_loop_timer_set(n->timer, next > now ? (next - now) / MVPN_US_PER_MS + 1 : 0);
}

/* Also the end: the owner is told from here alone. */
static void timer_passed(void *ctx)
{
    mvpn_netcheck_links *n = ctx;
    turn(n);
    if (!n->is_told && is_over(n, mvpn_clock_now())) {
        n->is_told = true;
        n->result.is_done = true;
        n->fn(n->ctx);
    }
}

/* ---- life ---- */

static int create_cores(mvpn_netcheck_links *n, mvpn_time now)
{
    const mvpn_network_file *f = n->opt.network;
    int64_t guessed_us = n->unix_offset_us + n->opt.clock_guess_s * (int64_t)MVPN_US_PER_S;
    mvpn_links_config lc = {
        .aead = n->aead,
        .rng = &n->rng,
        .pool = &n->pool,
        .network_id = f->network_id,
        .closed = f->is_closed,
        .network_secret = f->network_secret,
        .network_pub = f->network_pub,
        .revocations = &n->trust.revocations,
        .unix_offset_us = guessed_us,
        .clock_is_unsure = true,
    };
    mvpn_dht_exchange_config xc = {
        .aead = n->aead,
        .rng = &n->rng,
        .pool = &n->pool,
        .trust = &n->trust,
        .network_secret = f->network_secret,
        .unix_offset_us = guessed_us,
        .clock_is_unsure = true,
    };
    mvpn_nat_probe_config pc = {
        .rng = &n->rng,
        .pool = &n->pool,
        .allow_private = f->allow_private,
        .own = {n->opt.own},
        .own_count = n->opt.own.family != 0,
    };
    int r = mvpn_links_new(&lc, now, &n->links);
    r = r != 0 ? r : mvpn_dht_exchange_new(&xc, now, &n->exchange);
    pc.links = n->links;
    pc.own[0].port = mvpn_udp_local(n->udp, udp_family(n)).port;
    r = r != 0 ? r : mvpn_nat_probe_new(&pc, now, &n->probe);
    mvpn_wipe(&lc, sizeof(lc));
    mvpn_wipe(&xc, sizeof(xc));
    return r;
}

static int begin(mvpn_netcheck_links *n, mvpn_fault *fault)
{
    mvpn_time now = mvpn_clock_now();
    n->began = now;
    n->unix_offset_us = (int64_t)(mvpn_clock_unix() * MVPN_US_PER_S) - (int64_t)now;
    mvpn_network_file_trust(n->opt.network, &n->trust);
    int r = mvpn_random_seed(&n->rng);
    if (r != 0) {
        return mvpn_fault_set(fault, r, "this system gives no randomness");
    }
    gather(n);
    if (n->node_count == 0) {
        return mvpn_fault_set(fault, MVPN_E_UNKNOWN, "no node with an IPv%u address is known",
                              (unsigned)n->opt.family);
    }
    r = mvpn_packet_pool_init(&n->pool, PACKETS);
    n->has_pool = r == 0;
    r = r != 0 ? r : mvpn_aead_new(MVPN_AEAD_AUTO, &n->aead);
    r = r != 0 ? r : mvpn_loop_timer_new(n->loop, timer_passed, n, &n->timer);
    if (r != 0) {
        return mvpn_fault_set(fault, r, "no memory for links");
    }
    r = open_udp(n, MVPN_LOCAL_MAIN, main_readable, &n->udp, &n->watch, fault);
    if (r == 0) {
        r = create_cores(n, now);
        if (r != 0) {
            return mvpn_fault_set(fault, r, "no links can be made: %s", mvpn_strerror(r));
        }
        mvpn_loop_timer_set(n->timer, 0);
    }
    return r;
}

int mvpn_netcheck_links_new(mvpn_loop *loop, const mvpn_netcheck_links_options *options,
                            mvpn_netcheck_links_fn *fn, void *ctx, mvpn_netcheck_links **ret,
                            mvpn_fault *fault)
{
    mvpn_netcheck_links *n = calloc(1, sizeof(*n));
    if (n == NULL) {
        return mvpn_fault_set(fault, MVPN_E_NOMEM, "no memory for links");
    }
    n->opt = *options;
    n->loop = loop;
    n->fn = fn;
    n->ctx = ctx;
    int r = begin(n, fault);
    if (r != 0) {
        mvpn_netcheck_links_free(n);
        return r;
    }
    *ret = n;
    return 0;
}

void mvpn_netcheck_links_pair(mvpn_netcheck_links *a, mvpn_netcheck_links *b)
{
    a->other = b;
    b->other = a;
}

void mvpn_netcheck_links_free(mvpn_netcheck_links *n)
{
    if (n == NULL) {
        return;
    }
    if (n->other != NULL) {
        n->other->other = NULL;
    }
    if (n->probe != NULL) {
        mvpn_links_close_all(n->links, mvpn_clock_now());
        send_all(n, mvpn_clock_now());
    }
    mvpn_loop_unwatch(n->watch);
    mvpn_loop_unwatch(n->probe_watch);
    mvpn_nat_probe_free(n->probe);
    mvpn_dht_exchange_free(n->exchange);
    mvpn_links_free(n->links);
    mvpn_udp_free(n->udp);
    mvpn_udp_free(n->probe_udp);
    mvpn_loop_timer_free(n->timer);
    mvpn_aead_free(n->aead);
    if (n->has_pool) {
        mvpn_packet_pool_done(&n->pool);
    }
    mvpn_rng_done(&n->rng);
    mvpn_wipe(n, sizeof(*n));
    free(n);
}

const mvpn_netcheck_links_result *mvpn_netcheck_links_get(mvpn_netcheck_links *n)
{
    sum_up(n, mvpn_clock_now());
    return &n->result;
}
