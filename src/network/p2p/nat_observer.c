#include "network/p2p/nat_observer.h"

#include <stdlib.h>

#include "base/bucket.h"
#include "base/hash.h"
#include "crypto/hash.h"
#include "wire/circuit.h"

/* §14.6. A measurement takes up to 18, a lifetime two each half minute. */
#define ASKS_PER_S 1
#define ASKS_BURST 24
/* Probes of one link that are awaited at once: a measurement has six under way. */
#define AWAITED_PER_LINK 8
/* A probe follows its message by 20 ms; the rest is loss and repetition of the message. */
#define AWAITED_FOR MVPN_S(3)
/* Each waits for up to 250 s; a node measures one lifetime at a time. */
#define LATER_MAX 256
#define LATER_PER_LINK 2
/* Relays to choose from when another one is to answer: more make no better choice. */
#define RELAYS_MAX 64
/* What is taken on the word of another relay: from each, for each target ip, in all. A measurement
 * takes up to 6 for one ip. */
#define FOR_PER_S 1
#define FOR_BURST 8
#define FOR_TARGET_S 60
#define FOR_TARGET_BURST 8
#define FOR_ALL_PER_S 20
#define FOR_ALL_BURST 40
/* By keyed hash: targets that meet in one are counted as one. */
#define TARGETS 1024
#define SOCKET_FOR MVPN_S(60)
#define SELF_EVERY MVPN_S(1)

struct awaited {
    mvpn_hash_node node;
    mvpn_list in_order;
    struct asker *asker;
    mvpn_time until;
    mvpn_nat_probe_ask ask;
};

/* A link that has asked. */
struct asker {
    mvpn_hash_node by_link;
    mvpn_link *link;
    mvpn_bucket asks, refusals, fors;
    size_t next; /* the oldest: its place is taken by the next one */
    size_t later_count;
    struct awaited awaited[AWAITED_PER_LINK];
};

struct later {
    struct asker *asker; /* NULL: free */
    mvpn_time at;
    mvpn_addr to;
    mvpn_probe_token token;
};

struct relay {
    mvpn_link *link;
    mvpn_bucket asks; /* as it will count them, so that it need not drop ours */
};

struct mvpn_nat_observer {
    mvpn_nat_observer_config config;
    mvpn_siphash_key sip;
    mvpn_hash askers, tokens;
    mvpn_list order; /* of awaited probes: the first to end first */
    struct later later[LATER_MAX];
    mvpn_time later_at; /* of the first; NEVER */
    struct relay relays[RELAYS_MAX];
    size_t relay_count;
    mvpn_bucket targets[TARGETS], all;
    /* Our other port, by a probe to ourselves. */
    mvpn_addr own;
    mvpn_probe_token self;
    bool is_self_awaited;
    mvpn_time self_at;
    uint16_t other_port; /* 0: not known */
    mvpn_time socket_until;
    bool uses_socket;
    mvpn_nat_observer_counters counters;
};

int mvpn_nat_observer_new(const mvpn_nat_observer_config *config, mvpn_time now,
                          mvpn_nat_observer **ret)
{
    mvpn_nat_observer *o = calloc(1, sizeof(*o));
    if (o == NULL) {
        return MVPN_E_NOMEM;
    }
    o->config = *config;
    o->later_at = MVPN_TIME_NEVER;
    mvpn_list_init(&o->order);
    mvpn_rng_bytes(config->rng, o->sip.b, sizeof(o->sip.b));
    mvpn_bucket_init(&o->all, FOR_ALL_PER_S, FOR_ALL_BURST, now);
    for (size_t i = 0; i < TARGETS; i++) { /* a probe costs FOR_TARGET_S tokens */
        mvpn_bucket_init(&o->targets[i], 1, (uint64_t)FOR_TARGET_BURST * FOR_TARGET_S, now);
    }
    if (mvpn_hash_init(&o->askers, 16) != 0 || mvpn_hash_init(&o->tokens, 16) != 0) {
        mvpn_nat_observer_free(o);
        return MVPN_E_NOMEM;
    }
    *ret = o;
    return 0;
}

void mvpn_nat_observer_free(mvpn_nat_observer *o)
{
    if (o == NULL) {
        return;
    }
    for (size_t i = 0; o->askers.buckets != NULL && i <= o->askers.mask; i++) {
        mvpn_hash_node *next;
        for (mvpn_hash_node *n = o->askers.buckets[i]; n != NULL; n = next) {
            next = n->next;
            free(MVPN_CONTAINER_OF(n, struct asker, by_link));
        }
    }
    mvpn_hash_done(&o->askers);
    mvpn_hash_done(&o->tokens);
    free(o);
}

void mvpn_nat_observer_set_own(mvpn_nat_observer *o, const mvpn_addr *own)
{
    if (!mvpn_addr_eq(&o->own, own)) {
        o->own = *own;
        o->other_port = 0;
        o->is_self_awaited = false;
    }
}

/* ---- sending ---- */

static void send_probe(mvpn_nat_observer *o, uint16_t local, const mvpn_addr *to,
                       const mvpn_probe_token *token, mvpn_time now)
{
    mvpn_packet *p = mvpn_packet_new(o->config.pool);
    if (p == NULL) {
        return;
    }
    uint8_t *b = mvpn_packet_append(p, MVPN_PROBE_LEN);
    mvpn_rng_bytes(o->config.rng, b, MVPN_PROBE_LEN);
    mvpn_probe_encode(b, token, b);
    p->remote = *to;
    p->local = local;
    mvpn_packet_queue_push(o->config.out, p);
    if (local == MVPN_LOCAL_PROBE) {
        o->uses_socket = true;
        o->socket_until = now + SOCKET_FOR;
    }
}

static int send_message(mvpn_nat_observer *o, mvpn_link *link, unsigned command,
                        const uint8_t *body, size_t n, mvpn_time now)
{
    mvpn_packet *p = mvpn_packet_new(o->config.pool);
    if (p == NULL) {
        return MVPN_E_NOMEM;
    }
    memcpy(mvpn_packet_append(p, (uint32_t)n), body, n);
    const mvpn_header header = {.command = (uint16_t)command, .length = (uint16_t)n};
    return mvpn_link_send(link, p, &header, true, now);
}

static void send_probed(mvpn_nat_observer *o, const struct asker *a, const mvpn_nat_probed *m,
                        mvpn_time now)
{
    uint8_t body[MVPN_NAT_PROBED_LEN];
    mvpn_nat_probed_encode(body, m);
    /* What does not get out is as if lost: the asker repeats. */
    (void)send_message(o, a->link, MVPN_CMD_NAT_PROBED, body, sizeof(body), now);
}

/* As many are told as would be served. */
static void refuse(mvpn_nat_observer *o, struct asker *a, const mvpn_probe_token *token,
                   enum mvpn_reason reason, mvpn_time now)
{
    o->counters.refused++;
    if (mvpn_bucket_take(&a->refusals, 1, now)) {
        const mvpn_nat_probed m = {.token = *token, .status = (uint8_t)reason};
        send_probed(o, a, &m, now);
    }
}

/* The other socket shows its port to the main one: no router on the way need let it in. */
static void ask_self(mvpn_nat_observer *o, mvpn_time now)
{
    if (o->other_port != 0 || o->own.family == 0 || now < o->self_at) {
        return;
    }
    o->self_at = now + SELF_EVERY;
    o->is_self_awaited = true;
    mvpn_rng_bytes(o->config.rng, o->self.b, sizeof(o->self.b));
    send_probe(o, MVPN_LOCAL_PROBE, &o->own, &o->self, now);
}

/* ---- askers ---- */

static uint64_t hash_of(const mvpn_nat_observer *o, const void *key, size_t n)
{
    return mvpn_siphash(&o->sip, key, n);
}

static struct asker *find_asker(const mvpn_nat_observer *o, const mvpn_link *link)
{
    mvpn_hash_node *n = mvpn_hash_first(&o->askers, hash_of(o, &link, sizeof(link)));
    for (; n != NULL; n = mvpn_hash_next(n)) {
        struct asker *a = MVPN_CONTAINER_OF(n, struct asker, by_link);
        if (a->link == link) {
            return a;
        }
    }
    return NULL;
}

/* It lives as long as the link, for its buckets' sake. NULL without memory. */
static struct asker *asker_of(mvpn_nat_observer *o, const mvpn_link *link, mvpn_time now)
{
    struct asker *a = find_asker(o, link);
    if (a != NULL) {
        return a;
    }
    a = calloc(1, sizeof(*a));
    if (a == NULL) {
        return NULL;
    }
    a->link = (mvpn_link *)(uintptr_t)link;
    mvpn_bucket_init(&a->asks, ASKS_PER_S, ASKS_BURST, now);
    mvpn_bucket_init(&a->refusals, ASKS_PER_S, ASKS_BURST, now);
    mvpn_bucket_init(&a->fors, FOR_PER_S, FOR_BURST, now);
    for (size_t i = 0; i < AWAITED_PER_LINK; i++) {
        a->awaited[i].asker = a;
    }
    mvpn_hash_insert(&o->askers, &a->by_link, hash_of(o, &link, sizeof(link)));
    return a;
}

static bool is_awaited(const struct awaited *w)
{
    return mvpn_list_is_linked(&w->in_order);
}

static void await_end(mvpn_nat_observer *o, struct awaited *w)
{
    if (is_awaited(w)) {
        mvpn_list_remove(&w->in_order);
        mvpn_hash_remove(&o->tokens, &w->node);
    }
}

/* The place of that token, or the oldest one. */
static struct awaited *place_of(struct asker *a, const mvpn_probe_token *token)
{
    for (size_t i = 0; i < AWAITED_PER_LINK; i++) {
        struct awaited *w = &a->awaited[i];
        if (is_awaited(w) && memcmp(w->ask.token.b, token->b, sizeof(token->b)) == 0) {
            return w;
        }
    }
    struct awaited *w = &a->awaited[a->next];
    a->next = (a->next + 1) % AWAITED_PER_LINK;
    return w;
}

int mvpn_nat_observer_ask(mvpn_nat_observer *o, mvpn_link *link, mvpn_bytes body, mvpn_time now)
{
    mvpn_nat_probe_ask ask;
    mvpn_connection_id id;
    int err = mvpn_nat_probe_decode(&ask, body);
    struct asker *a = err == 0 ? asker_of(o, link, now) : NULL;
    if (a == NULL) {
        return err;
    }
    o->counters.asked++;
    if (!mvpn_bucket_take(&a->asks, 1, now)) {
        o->counters.dropped_limit++;
        refuse(o, a, &ask.token, MVPN_REASON_BUSY, now);
        return 0;
    }
    memcpy(id.b, ask.token.b, sizeof(id.b));
    if (mvpn_links_has_id(o->config.links, &id)) { /* a link's packets are not to be had */
        refuse(o, a, &ask.token, MVPN_REASON_REFUSED, now);
        return 0;
    }
    struct awaited *w = place_of(a, &ask.token);
    await_end(o, w);
    w->ask = ask;
    w->until = now + AWAITED_FOR;
    mvpn_list_append(&o->order, &w->in_order);
    mvpn_hash_insert(&o->tokens, &w->node, hash_of(o, ask.token.b, sizeof(ask.token.b)));
    ask_self(o, now);
    return 0;
}

/* ---- probes ---- */

bool mvpn_nat_observer_is_awaiting(const mvpn_nat_observer *o)
{
    return o->tokens.count > 0 || o->is_self_awaited;
}

/* Another relay, at random: one that sends from an address of that family, and not the target's
 * (nor, with that, the asker).
 * Those whom we reached before those who reached us: these may stand behind a NAT themselves. */
static struct relay *choose_relay(mvpn_nat_observer *o, const mvpn_addr *to, mvpn_time now)
{
    size_t first = o->relay_count > 0 ? mvpn_rng_below(o->config.rng, (uint32_t)o->relay_count) : 0;
    for (size_t i = 0; i < 2 * o->relay_count; i++) {
        struct relay *r = &o->relays[(first + i) % o->relay_count];
        bool wants_reached = i < o->relay_count;
        const mvpn_addr *at = mvpn_link_peer_addr(r->link);
        if (mvpn_link_is_open(r->link) && mvpn_link_is_initiator(r->link) == wants_reached &&
            at->family == to->family && !mvpn_addr_ip_eq(at, to) &&
            mvpn_bucket_take(&r->asks, 1, now)) {
            return r;
        }
    }
    return NULL;
}

static enum mvpn_reason by_other_relay(mvpn_nat_observer *o, const struct awaited *w,
                                       const mvpn_addr *to, mvpn_time now)
{
    uint8_t body[MVPN_NAT_PROBE_FOR_LEN];
    const mvpn_nat_probe_for m = {w->ask.token, *to};
    const struct relay *r = choose_relay(o, to, now);
    mvpn_nat_probe_for_encode(body, &m);
    return r != NULL &&
                   send_message(o, r->link, MVPN_CMD_NAT_PROBE_FOR, body, sizeof(body), now) == 0
               ? MVPN_REASON_NONE
               : MVPN_REASON_UNREACHABLE;
}

static enum mvpn_reason send_later(mvpn_nat_observer *o, const struct awaited *w,
                                   const mvpn_addr *to, mvpn_time now)
{
    if (w->ask.delay_s == 0) {
        send_probe(o, MVPN_LOCAL_MAIN, to, &w->ask.token, now);
        return MVPN_REASON_NONE;
    }
    for (size_t i = 0; w->asker->later_count < LATER_PER_LINK && i < LATER_MAX; i++) {
        struct later *l = &o->later[i];
        if (l->asker == NULL) {
            *l = (struct later){w->asker, now + MVPN_S(w->ask.delay_s), *to, w->ask.token};
            w->asker->later_count++;
            o->later_at = mvpn_time_min(o->later_at, l->at);
            return MVPN_REASON_NONE;
        }
    }
    return MVPN_REASON_BUSY;
}

static void answer(mvpn_nat_observer *o, struct awaited *w, const mvpn_addr *from, mvpn_time now)
{
    enum mvpn_reason reason = MVPN_REASON_NONE;
    switch (w->ask.kind) {
    case MVPN_PROBE_OTHER_PORT:
        send_probe(o, MVPN_LOCAL_PROBE, from, &w->ask.token, now);
        break;
    case MVPN_PROBE_OTHER_RELAY:
        reason = by_other_relay(o, w, from, now);
        break;
    default:
        reason = send_later(o, w, from, now);
    }
    if (reason != MVPN_REASON_NONE) {
        refuse(o, w->asker, &w->ask.token, reason, now);
        return;
    }
    o->counters.answered++;
    const mvpn_nat_probed m = {.token = w->ask.token, .other_port = o->other_port, .seen = *from};
    send_probed(o, w->asker, &m, now);
}

static bool is_from_self(mvpn_nat_observer *o, const mvpn_packet *packet,
                         const mvpn_probe_token *token)
{
    if (!o->is_self_awaited || packet->local != MVPN_LOCAL_MAIN ||
        memcmp(token->b, o->self.b, sizeof(token->b)) != 0 ||
        !mvpn_addr_ip_eq(&packet->remote, &o->own)) {
        return false;
    }
    o->is_self_awaited = false;
    o->other_port = o->uses_socket ? packet->remote.port : 0;
    return true;
}

bool mvpn_nat_observer_datagram(mvpn_nat_observer *o, const mvpn_packet *packet,
                                const mvpn_probe_token *token, mvpn_time now)
{
    if (is_from_self(o, packet, token)) {
        return true;
    }
    mvpn_hash_node *n = mvpn_hash_first(&o->tokens, hash_of(o, token->b, sizeof(token->b)));
    for (; n != NULL; n = mvpn_hash_next(n)) {
        struct awaited *w = MVPN_CONTAINER_OF(n, struct awaited, node);
        if (memcmp(w->ask.token.b, token->b, sizeof(token->b)) != 0) {
            continue;
        }
        /* Two links may have named one token: it is that one's from whose ip it comes. */
        if (!mvpn_addr_ip_eq(&packet->remote, mvpn_link_peer_addr(w->asker->link))) {
            o->counters.dropped_source++;
            continue;
        }
        await_end(o, w);
        answer(o, w, &packet->remote, now);
        return true;
    }
    return false;
}

/* ---- at another relay's word ---- */

/* One of v6 has a whole /48 to hide in. */
static mvpn_bucket *target_of(mvpn_nat_observer *o, const mvpn_addr *to)
{
    return &o->targets[hash_of(o, to->ip, to->family == 4 ? 4 : 6) % TARGETS];
}

int mvpn_nat_observer_ask_for(mvpn_nat_observer *o, const mvpn_link *link, mvpn_bytes body,
                              mvpn_time now)
{
    mvpn_nat_probe_for m;
    int err = mvpn_nat_probe_for_decode(&m, body);
    if (err != 0) {
        return err;
    }
    struct asker *a = mvpn_link_peer_identity(link) != NULL ? asker_of(o, link, now) : NULL;
    if (a == NULL || !mvpn_bucket_take(&a->fors, 1, now) ||
        !(mvpn_addr_is_public(&m.to) || o->config.allow_private) ||
        mvpn_addr_ip_eq(&m.to, &o->own) ||
        !mvpn_bucket_take(target_of(o, &m.to), FOR_TARGET_S, now) ||
        !mvpn_bucket_take(&o->all, 1, now)) {
        o->counters.dropped_limit++;
        return 0;
    }
    o->counters.sent_for++;
    /* From the other port: the main one may have been spoken to from there. */
    send_probe(o, MVPN_LOCAL_PROBE, &m.to, &m.token, now);
    return 0;
}

/* ---- links and time ---- */

void mvpn_nat_observer_link_opened(mvpn_nat_observer *o, mvpn_link *link, mvpn_time now)
{
    if (o->relay_count < RELAYS_MAX && mvpn_link_peer_identity(link) != NULL &&
        !mvpn_link_is_relayed(link)) {
        struct relay *r = &o->relays[o->relay_count++];
        r->link = link;
        mvpn_bucket_init(&r->asks, FOR_PER_S, FOR_BURST, now);
    }
}

void mvpn_nat_observer_link_closed(mvpn_nat_observer *o, mvpn_link *link)
{
    for (size_t i = 0; i < o->relay_count; i++) {
        if (o->relays[i].link == link) {
            o->relays[i] = o->relays[--o->relay_count];
            break;
        }
    }
    struct asker *a = find_asker(o, link);
    if (a == NULL) {
        return;
    }
    for (size_t i = 0; i < AWAITED_PER_LINK; i++) {
        await_end(o, &a->awaited[i]);
    }
    for (size_t i = 0; a->later_count > 0 && i < LATER_MAX; i++) {
        if (o->later[i].asker == a) {
            o->later[i].asker = NULL;
            a->later_count--;
        }
    }
    mvpn_hash_remove(&o->askers, &a->by_link);
    free(a);
}

static void tick_later(mvpn_nat_observer *o, mvpn_time now)
{
    if (now < o->later_at) {
        return;
    }
    o->later_at = MVPN_TIME_NEVER;
    for (size_t i = 0; i < LATER_MAX; i++) {
        struct later *l = &o->later[i];
        if (l->asker != NULL && l->at <= now) {
            send_probe(o, MVPN_LOCAL_MAIN, &l->to, &l->token, now);
            l->asker->later_count--;
            l->asker = NULL;
        } else if (l->asker != NULL) {
            o->later_at = mvpn_time_min(o->later_at, l->at);
        }
    }
}

static const struct awaited *first_awaited(const mvpn_nat_observer *o)
{
    return mvpn_list_is_empty(&o->order)
               ? NULL
               : MVPN_CONTAINER_OF(o->order.next, struct awaited, in_order);
}

void mvpn_nat_observer_tick(mvpn_nat_observer *o, mvpn_time now)
{
    const struct awaited *w;
    while ((w = first_awaited(o)) != NULL && w->until <= now) {
        await_end(o, MVPN_CONTAINER_OF(o->order.next, struct awaited, in_order));
    }
    tick_later(o, now);
    if (o->uses_socket && now >= o->socket_until) {
        o->uses_socket = false; /* the next one will have another port */
        o->other_port = 0;
        o->is_self_awaited = false;
    }
}

mvpn_time mvpn_nat_observer_deadline(const mvpn_nat_observer *o)
{
    const struct awaited *w = first_awaited(o);
    mvpn_time at = mvpn_time_min(o->later_at, w != NULL ? w->until : MVPN_TIME_NEVER);
    return mvpn_time_min(at, o->uses_socket ? o->socket_until : MVPN_TIME_NEVER);
}

bool mvpn_nat_observer_uses_socket(const mvpn_nat_observer *o)
{
    return o->uses_socket;
}

const mvpn_nat_observer_counters *mvpn_nat_observer_get_counters(const mvpn_nat_observer *o)
{
    return &o->counters;
}
