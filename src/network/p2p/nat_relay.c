/*
 * Tables of a NAT relay: guests (links that use it), sessions, ids. (docs/protocol.md §14)
 *
 *   id -> session, side -> guest -> link -> proven address
 *
 * Nothing about an address is kept here: it is read from the link at each datagram, so a session
 * follows its sides when their links roam, and only then (§4.6). Threats: a stranger that saw a
 * datagram (it must come from the other side's address, or it goes nowhere), a caller that fills
 * the tables (bounds per link, per block of addresses, per rendezvous id; sessions that nobody
 * answered give way), one that floods (buckets).
 */
#include "network/p2p/nat_relay.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/bucket.h"
#include "base/hash.h"
#include "base/timer.h"
#include "crypto/hash.h"
#include "wire/circuit.h"
#include "wire/handshake.h"
#include "wire/natmsg.h"

/* §14.2 */
#define SESSIONS_MAX 10000
#define SESSIONS_PER_CALLER 64
#define SESSIONS_PER_RENDEZVOUS 256
#define SESSION_BYTES_S 2000000
#define TOTAL_BYTES_S 125000000
#define IDLE_AFTER MVPN_S(120)
#define OPENS_PER_S 5
#define OPENS_BURST 20
/* What all callers together may put upon one guest: a NatIncoming each. */
#define CALLS_PER_S 20
#define CALLS_BURST SESSIONS_PER_RENDEZVOUS
/* Callers of one /24 or /48 have at most this share of a guest's sessions and of all, and call, in
 * all, at this share of the rate that one guest takes: relays are but few in a block. */
#define BLOCK_SHARE 4
/* Block counts by keyed hash: blocks that meet in one are counted as one. */
#define BLOCKS 4096
/* An honest link is answered within a round trip: after so long without, a session gives way. */
#define ANSWERED_WITHIN MVPN_S(5)
/* Ids of a side that are good at once. A link uses one and holds four spares; both sides may want
 * eight more in the same moment, and what is in use then must stay good until the new ones are. */
#define IDS_KEPT 32
/* The largest datagram of a link: message, transport header and tag. (§4.1, §4.7) */
#define LINK_DATAGRAM_MAX (MVPN_MESSAGE_MAX + 13 + MVPN_AEAD_TAG)
/* Worth a line in the log: honest nodes are refused a few times, and send a little too long to a
 * session that has ended. */
#define FLOOD_REFUSED 1000
#define FLOOD_DROPPED 100000
#define FLOOD_TOLD_EVERY MVPN_S(3600)
#define LIFETIME_MIN_S 60
#define LIFETIME_MAX_S 3600

enum side_of {
    CALLER,
    CALLED,
    SIDES,
};

enum timer_kind {
    TIMER_SESSION,
    TIMER_RENDEZVOUS,
};

struct guest {
    mvpn_hash_node by_link;
    mvpn_link *link;
    bool is_holding;
    mvpn_list sessions[SIDES]; /* as caller, as called; oldest first */
    size_t session_count[SIDES];
    mvpn_bucket opens;
    mvpn_bucket calls;
    mvpn_nat_id rendezvous;
    mvpn_hash_node by_rendezvous;
    bool is_registered;
    mvpn_timer timer;
};

/* A connection id that we gave to one side of a session. */
struct assigned_id {
    mvpn_hash_node node; /* in relay->ids while live */
    struct nat_session *session;
    mvpn_connection_id id;
    uint8_t side; /* who receives at it */
    bool is_live;
};

struct nat_side {
    struct nat_session *session;
    struct guest *guest;
    mvpn_list in_guest;
    struct assigned_id ids[IDS_KEPT];
    size_t next; /* the oldest: its place is taken by the next one */
};

struct nat_session {
    mvpn_nat_id id;
    mvpn_hash_node by_id;
    struct nat_side side[SIDES];
    uint32_t block; /* of the caller's address when it opened */
    mvpn_list in_unanswered;
    mvpn_time opened;
    mvpn_time last; /* datagram forwarded */
    mvpn_bucket bytes;
    mvpn_timer timer;
};

struct mvpn_nat_relay {
    mvpn_nat_relay_config config;
    mvpn_siphash_key sip;
    mvpn_hash guests; /* by link */
    mvpn_hash rendezvous;
    mvpn_hash sessions;
    mvpn_hash ids;
    mvpn_list unanswered; /* sessions in which the called side has sent nothing, oldest first */
    uint32_t by_block[BLOCKS];
    mvpn_bucket block_calls[BLOCKS];
    mvpn_timers timers;
    mvpn_bucket bytes;
    mvpn_packet_queue out;
    mvpn_nat_relay_counters counters;
};

/* ---- the whole ---- */

static void config_defaults(mvpn_nat_relay_config *c)
{
    c->sessions_max = c->sessions_max != 0 ? c->sessions_max : SESSIONS_MAX;
    c->session_bytes_s = c->session_bytes_s != 0 ? c->session_bytes_s : SESSION_BYTES_S;
    c->total_bytes_s = c->total_bytes_s != 0 ? c->total_bytes_s : TOTAL_BYTES_S;
    c->idle_after = c->idle_after != 0 ? c->idle_after : IDLE_AFTER;
}

int mvpn_nat_relay_new(const mvpn_nat_relay_config *config, mvpn_time now, mvpn_nat_relay **ret)
{
    mvpn_nat_relay *relay = calloc(1, sizeof(*relay));
    if (relay == NULL) {
        return MVPN_E_NOMEM;
    }
    relay->config = *config;
    config_defaults(&relay->config);
    mvpn_list_init(&relay->unanswered);
    mvpn_packet_queue_init(&relay->out);
    mvpn_rng_bytes(config->rng, relay->sip.b, sizeof(relay->sip.b));
    if (mvpn_ct_is_zero(config->id_key.b, sizeof(config->id_key.b))) {
        mvpn_rng_bytes(config->rng, relay->config.id_key.b, sizeof(relay->config.id_key.b));
    }
    uint64_t rate = relay->config.total_bytes_s;
    mvpn_bucket_init(&relay->bytes, rate, MVPN_MAX(rate / 10, (uint64_t)MVPN_NAT_DATAGRAM_MAX),
                     now);
    for (size_t i = 0; i < BLOCKS; i++) {
        mvpn_bucket_init(&relay->block_calls[i], CALLS_PER_S / BLOCK_SHARE,
                         CALLS_BURST / BLOCK_SHARE, now);
    }
    if (mvpn_hash_init(&relay->guests, 64) != 0 || mvpn_hash_init(&relay->rendezvous, 64) != 0 ||
        mvpn_hash_init(&relay->sessions, 64) != 0 || mvpn_hash_init(&relay->ids, 64) != 0 ||
        mvpn_timers_init(&relay->timers, 64) != 0) {
        mvpn_nat_relay_free(relay);
        return MVPN_E_NOMEM;
    }
    *ret = relay;
    return 0;
}

static void session_free(mvpn_nat_relay *relay, struct nat_session *s);

void mvpn_nat_relay_free(mvpn_nat_relay *relay)
{
    if (relay == NULL) {
        return;
    }
    for (size_t i = 0; relay->guests.buckets != NULL && i <= relay->guests.mask; i++) {
        mvpn_hash_node *next;
        for (mvpn_hash_node *n = relay->guests.buckets[i]; n != NULL; n = next) {
            struct guest *g = MVPN_CONTAINER_OF(n, struct guest, by_link);
            next = n->next;
            for (unsigned side = 0; side < SIDES; side++) {
                while (!mvpn_list_is_empty(&g->sessions[side])) {
                    struct nat_side *s =
                        MVPN_CONTAINER_OF(g->sessions[side].next, struct nat_side, in_guest);
                    session_free(relay, s->session);
                }
            }
            mvpn_timer_clear(&relay->timers, &g->timer);
            free(g);
        }
    }
    mvpn_packet_queue_clear(&relay->out, relay->config.pool);
    mvpn_timers_done(&relay->timers);
    mvpn_hash_done(&relay->guests);
    mvpn_hash_done(&relay->rendezvous);
    mvpn_hash_done(&relay->sessions);
    mvpn_hash_done(&relay->ids);
    mvpn_wipe(relay, sizeof(*relay));
    free(relay);
}

/* ---- finding ---- */

static uint64_t hash_of(const mvpn_nat_relay *relay, const void *key, size_t n)
{
    return mvpn_siphash(&relay->sip, key, n);
}

static struct assigned_id *find_id(const mvpn_nat_relay *relay, const uint8_t *id)
{
    mvpn_hash_node *n = mvpn_hash_first(&relay->ids, hash_of(relay, id, MVPN_CONNECTION_ID_LEN));
    for (; n != NULL; n = mvpn_hash_next(n)) {
        struct assigned_id *a = MVPN_CONTAINER_OF(n, struct assigned_id, node);
        if (memcmp(a->id.b, id, MVPN_CONNECTION_ID_LEN) == 0) {
            return a;
        }
    }
    return NULL;
}

static struct nat_session *find_session(const mvpn_nat_relay *relay, const mvpn_nat_id *id)
{
    mvpn_hash_node *n = mvpn_hash_first(&relay->sessions, hash_of(relay, id->b, sizeof(id->b)));
    for (; n != NULL; n = mvpn_hash_next(n)) {
        struct nat_session *s = MVPN_CONTAINER_OF(n, struct nat_session, by_id);
        if (memcmp(s->id.b, id->b, sizeof(id->b)) == 0) {
            return s;
        }
    }
    return NULL;
}

/* Whoever is registered under that id. */
static struct guest *find_registered(const mvpn_nat_relay *relay, const mvpn_nat_id *id)
{
    mvpn_hash_node *n = mvpn_hash_first(&relay->rendezvous, hash_of(relay, id->b, sizeof(id->b)));
    for (; n != NULL; n = mvpn_hash_next(n)) {
        struct guest *g = MVPN_CONTAINER_OF(n, struct guest, by_rendezvous);
        if (memcmp(g->rendezvous.b, id->b, sizeof(id->b)) == 0) {
            return g;
        }
    }
    return NULL;
}

static struct guest *find_guest(const mvpn_nat_relay *relay, const mvpn_link *link)
{
    mvpn_hash_node *n = mvpn_hash_first(&relay->guests, hash_of(relay, &link, sizeof(link)));
    for (; n != NULL; n = mvpn_hash_next(n)) {
        struct guest *g = MVPN_CONTAINER_OF(n, struct guest, by_link);
        if (g->link == link) {
            return g;
        }
    }
    return NULL;
}

/* ---- guests ---- */

static int reserve_timers(mvpn_nat_relay *relay)
{
    return mvpn_timers_reserve(&relay->timers, relay->guests.count + relay->sessions.count + 1);
}

/* The link's guest, made if need be; it lives as long as the link, for its buckets' sake. NULL
 * without memory. */
static struct guest *guest_of(mvpn_nat_relay *relay, mvpn_link *link, mvpn_time now)
{
    struct guest *g = find_guest(relay, link);
    if (g != NULL) {
        return g;
    }
    g = reserve_timers(relay) == 0 ? calloc(1, sizeof(*g)) : NULL;
    if (g == NULL) {
        return NULL;
    }
    g->link = link;
    g->timer.kind = TIMER_RENDEZVOUS;
    mvpn_list_init(&g->sessions[CALLER]);
    mvpn_list_init(&g->sessions[CALLED]);
    mvpn_bucket_init(&g->opens, OPENS_PER_S, OPENS_BURST, now);
    mvpn_bucket_init(&g->calls, CALLS_PER_S, CALLS_BURST, now);
    mvpn_hash_insert(&relay->guests, &g->by_link, hash_of(relay, &link, sizeof(link)));
    return g;
}

/* A link that is registered or has sessions is kept alive, so that its death is noticed. */
static void guest_hold(struct guest *g, mvpn_time now)
{
    bool is_used = g->is_registered || g->session_count[CALLER] > 0 || g->session_count[CALLED] > 0;
    if (is_used && !g->is_holding) {
        mvpn_link_hold(g->link);
    } else if (!is_used && g->is_holding) {
        mvpn_link_release(g->link, now);
    }
    g->is_holding = is_used;
}

static void unregister(mvpn_nat_relay *relay, struct guest *g)
{
    if (g->is_registered) {
        g->is_registered = false;
        mvpn_hash_remove(&relay->rendezvous, &g->by_rendezvous);
        mvpn_timer_clear(&relay->timers, &g->timer);
    }
}

/* Callers of one /24 or /48 share a count. */
static uint32_t block_of(const mvpn_nat_relay *relay, const mvpn_addr *addr)
{
    return (uint32_t)(hash_of(relay, addr->ip, addr->family == 4 ? 3 : 6) % BLOCKS);
}

/* ---- messages out ---- */

static int send(mvpn_nat_relay *relay, mvpn_link *link, unsigned command, const uint8_t *body,
                size_t n, mvpn_time now)
{
    mvpn_packet *packet = mvpn_packet_new(relay->config.pool);
    if (packet == NULL) {
        return MVPN_E_NOMEM;
    }
    memcpy(mvpn_packet_append(packet, (uint32_t)n), body, n);
    const mvpn_header header = {.command = (uint16_t)command, .length = (uint16_t)n};
    return mvpn_link_send(link, packet, &header, true, now);
}

/* What does not get out is as if lost: the asker's own time-out does the rest. */
static void send_refusal(mvpn_nat_relay *relay, mvpn_link *link, uint32_t request,
                         const mvpn_nat_id *session, enum mvpn_reason reason, mvpn_time now)
{
    uint8_t body[MVPN_NAT_OPENED_LEN_MAX];
    mvpn_nat_opened m = {.request = request, .status = (uint8_t)reason};
    if (session != NULL) {
        m.ids.session = *session;
    }
    relay->counters.refused++;
    (void)send(relay, link, MVPN_CMD_NAT_OPENED, body, mvpn_nat_opened_encode(body, &m), now);
}

static void send_close(mvpn_nat_relay *relay, const struct nat_session *s, enum side_of to,
                       mvpn_time now)
{
    (void)send(relay, s->side[to].guest->link, MVPN_CMD_NAT_CLOSE, s->id.b, sizeof(s->id.b), now);
}

/* ---- sessions ---- */

static void session_free(mvpn_nat_relay *relay, struct nat_session *s)
{
    for (unsigned side = 0; side < SIDES; side++) {
        for (size_t i = 0; i < IDS_KEPT; i++) {
            if (s->side[side].ids[i].is_live) {
                mvpn_hash_remove(&relay->ids, &s->side[side].ids[i].node);
            }
        }
        mvpn_list_remove(&s->side[side].in_guest);
        s->side[side].guest->session_count[side]--;
    }
    mvpn_hash_remove(&relay->sessions, &s->by_id);
    mvpn_list_remove(&s->in_unanswered);
    mvpn_timer_clear(&relay->timers, &s->timer);
    relay->by_block[s->block]--;
    relay->counters.closed++;
    free(s);
}

static void session_end(mvpn_nat_relay *relay, struct nat_session *s, bool tell_caller,
                        bool tell_called, mvpn_time now)
{
    struct guest *guests[SIDES] = {s->side[CALLER].guest, s->side[CALLED].guest};
    if (tell_caller) {
        send_close(relay, s, CALLER, now);
    }
    if (tell_called) {
        send_close(relay, s, CALLED, now);
    }
    session_free(relay, s);
    guest_hold(guests[CALLER], now);
    guest_hold(guests[CALLED], now);
}

static void draw_session_id(mvpn_nat_relay *relay, mvpn_nat_id *ret)
{
    do {
        mvpn_rng_bytes(relay->config.rng, ret->b, sizeof(ret->b));
    } while (mvpn_load64(ret->b) == 0 || find_session(relay, ret) != NULL);
}

/*
 * Give one side an id; the oldest beyond IDS_KEPT ends. It is none of ours nor, now, one of the
 * node's links. That a link draws one of these later has a chance of about 2^-45 each; that link
 * then hears nothing and is made anew.
 */
static void give_id(mvpn_nat_relay *relay, struct nat_session *s, enum side_of side,
                    mvpn_connection_id *ret)
{
    struct nat_side *of = &s->side[side];
    struct assigned_id *a = &of->ids[of->next];
    of->next = (of->next + 1) % IDS_KEPT;
    if (a->is_live) {
        mvpn_hash_remove(&relay->ids, &a->node);
    }
    do {
        mvpn_rng_bytes(relay->config.rng, ret->b, sizeof(ret->b));
    } while (find_id(relay, ret->b) != NULL ||
             (relay->config.links != NULL && mvpn_links_has_id(relay->config.links, ret)));
    a->id = *ret;
    a->session = s;
    a->side = (uint8_t)side;
    a->is_live = true;
    mvpn_hash_insert(&relay->ids, &a->node, hash_of(relay, a->id.b, sizeof(a->id.b)));
}

/* The other side's view of the same ids. */
static void swap_ids(const mvpn_nat_ids *in, mvpn_nat_ids *ret)
{
    *ret = *in;
    memcpy(ret->own, in->peer, sizeof(ret->own));
    memcpy(ret->peer, in->own, sizeof(ret->peer));
}

/* Give both sides `count` ids and tell them. MVPN_E_LIMIT, MVPN_E_NOMEM, ...: one of them was not
 * reached, the session is of no use. */
static int give_ids(mvpn_nat_relay *relay, struct nat_session *s, enum side_of asker,
                    uint32_t request, uint8_t count, mvpn_time now)
{
    uint8_t body[MVPN_NAT_OPENED_LEN_MAX];
    mvpn_nat_opened opened = {.request = request, .ids = {.session = s->id, .count = count}};
    enum side_of other = asker == CALLER ? CALLED : CALLER;
    mvpn_nat_ids incoming;
    for (unsigned i = 0; i < count; i++) {
        give_id(relay, s, asker, &opened.ids.own[i]);
        give_id(relay, s, other, &opened.ids.peer[i]);
    }
    swap_ids(&opened.ids, &incoming);
    int err = send(relay, s->side[other].guest->link, MVPN_CMD_NAT_INCOMING, body,
                   mvpn_nat_incoming_encode(body, &incoming), now);
    if (err == 0) {
        err = send(relay, s->side[asker].guest->link, MVPN_CMD_NAT_OPENED, body,
                   mvpn_nat_opened_encode(body, &opened), now);
    }
    return err;
}

static struct nat_session *session_new(mvpn_nat_relay *relay, struct guest *caller,
                                       struct guest *called, mvpn_time now)
{
    struct nat_session *s = reserve_timers(relay) == 0 ? calloc(1, sizeof(*s)) : NULL;
    if (s == NULL) {
        return NULL;
    }
    struct guest *guests[SIDES] = {caller, called};
    for (unsigned side = 0; side < SIDES; side++) {
        s->side[side].session = s;
        s->side[side].guest = guests[side];
        mvpn_list_append(&guests[side]->sessions[side], &s->side[side].in_guest);
        guests[side]->session_count[side]++;
    }
    draw_session_id(relay, &s->id);
    mvpn_hash_insert(&relay->sessions, &s->by_id, hash_of(relay, s->id.b, sizeof(s->id.b)));
    mvpn_list_append(&relay->unanswered, &s->in_unanswered);
    s->block = block_of(relay, mvpn_link_peer_addr(caller->link));
    relay->by_block[s->block]++;
    s->opened = now;
    s->last = now;
    uint64_t rate = relay->config.session_bytes_s;
    mvpn_bucket_init(&s->bytes, rate, MVPN_MAX(2 * rate, (uint64_t)MVPN_NAT_DATAGRAM_MAX), now);
    s->timer.kind = TIMER_SESSION;
    mvpn_timer_set(&relay->timers, &s->timer, now + relay->config.idle_after);
    relay->counters.opened++;
    return s;
}

static bool may_give_way(const struct nat_session *s, mvpn_time now)
{
    return mvpn_list_is_linked(&s->in_unanswered) && now - s->opened > ANSWERED_WITHIN;
}

/* Of the one called: how many sessions come from that block, and one that may give way. */
static size_t count_calls(const struct guest *called, uint32_t block, mvpn_time now,
                          struct nat_session **ret_victim)
{
    size_t count = 0;
    *ret_victim = NULL;
    MVPN_LIST_FOREACH(node, &called->sessions[CALLED])
    {
        struct nat_session *s = MVPN_CONTAINER_OF(node, struct nat_side, in_guest)->session;
        count += s->block == block;
        if (*ret_victim == NULL && may_give_way(s, now)) {
            *ret_victim = s;
        }
    }
    return count;
}

/* Room for one more session of this caller with this guest; sessions that nobody answered give
 * way. */
static bool make_room(mvpn_nat_relay *relay, const struct guest *caller, const struct guest *called,
                      mvpn_time now)
{
    struct nat_session *victim;
    uint32_t block = block_of(relay, mvpn_link_peer_addr(caller->link));
    if (caller->session_count[CALLER] >= SESSIONS_PER_CALLER ||
        relay->by_block[block] >= MVPN_MAX(relay->config.sessions_max / BLOCK_SHARE, (size_t)1) ||
        count_calls(called, block, now, &victim) >= SESSIONS_PER_RENDEZVOUS / BLOCK_SHARE) {
        return false;
    }
    if (called->session_count[CALLED] >= SESSIONS_PER_RENDEZVOUS) {
        if (victim == NULL) {
            return false;
        }
        session_end(relay, victim, true, true, now);
    }
    if (relay->sessions.count >= relay->config.sessions_max) {
        if (mvpn_list_is_empty(&relay->unanswered)) {
            return false;
        }
        victim = MVPN_CONTAINER_OF(relay->unanswered.next, struct nat_session, in_unanswered);
        if (!may_give_way(victim, now)) {
            return false;
        }
        session_end(relay, victim, true, true, now);
    }
    return true;
}

/* ---- messages in ---- */

/* The same for a relay that comes back, or by another link: its descriptor names it. (§14.3) */
static void rendezvous_of(const mvpn_nat_relay *relay, const mvpn_ed25519_pub *identity,
                          mvpn_nat_id *ret)
{
    uint64_t id = mvpn_siphash(&relay->config.id_key, identity->b, sizeof(identity->b));
    mvpn_store64(ret->b, id != 0 ? id : 1);
}

/*
 * Put the link under its identity's id. An older link of that identity makes room: of a relay that
 * has restarted, nobody answers there any more. Its sessions stay with it; they end with it.
 */
static void take_rendezvous(mvpn_nat_relay *relay, struct guest *g, mvpn_time now)
{
    rendezvous_of(relay, mvpn_link_peer_identity(g->link), &g->rendezvous);
    struct guest *older = find_registered(relay, &g->rendezvous);
    if (older == g) {
        return;
    }
    if (older != NULL) {
        unregister(relay, older);
        guest_hold(older, now);
        relay->counters.moved++;
    }
    mvpn_hash_insert(&relay->rendezvous, &g->by_rendezvous,
                     hash_of(relay, g->rendezvous.b, sizeof(g->rendezvous.b)));
    g->is_registered = true;
    relay->counters.registered++;
}

static enum mvpn_reason do_register(mvpn_nat_relay *relay, mvpn_link *link, uint16_t lifetime_s,
                                    mvpn_nat_registered *ret, mvpn_time now)
{
    if (mvpn_link_peer_identity(link) == NULL) { /* clients are called by nobody */
        return MVPN_REASON_REFUSED;
    }
    struct guest *g = guest_of(relay, link, now);
    if (g == NULL || !mvpn_bucket_take(&g->opens, 1, now)) {
        return MVPN_REASON_BUSY;
    }
    take_rendezvous(relay, g, now);
    ret->rendezvous = g->rendezvous;
    ret->lifetime_s = (uint16_t)MVPN_MIN(MVPN_MAX(lifetime_s, LIFETIME_MIN_S), LIFETIME_MAX_S);
    mvpn_timer_set(&relay->timers, &g->timer, now + MVPN_S(ret->lifetime_s));
    guest_hold(g, now);
    return MVPN_REASON_NONE;
}

static int on_register(mvpn_nat_relay *relay, mvpn_link *link, mvpn_bytes body, mvpn_time now)
{
    uint8_t out[MVPN_NAT_REGISTERED_LEN];
    uint16_t lifetime_s;
    mvpn_nat_registered answer = {0};
    int err = mvpn_nat_register_decode(&lifetime_s, body);
    if (err != 0) {
        return err;
    }
    answer.status = (uint8_t)do_register(relay, link, lifetime_s, &answer, now);
    relay->counters.refused += answer.status != MVPN_REASON_NONE;
    mvpn_nat_registered_encode(out, &answer);
    (void)send(relay, link, MVPN_CMD_NAT_REGISTERED, out, sizeof(out), now); /* asked again */
    return 0;
}

/* May this side be told of one more thing that the caller wants? (§14.2) */
static bool may_call(mvpn_nat_relay *relay, struct guest *caller, struct guest *called,
                     mvpn_time now)
{
    uint32_t block = block_of(relay, mvpn_link_peer_addr(caller->link));
    return mvpn_bucket_take(&relay->block_calls[block], 1, now) &&
           mvpn_bucket_take(&called->calls, 1, now);
}

static int on_open(mvpn_nat_relay *relay, mvpn_link *link, mvpn_bytes body, mvpn_time now)
{
    mvpn_nat_open m;
    int err = mvpn_nat_open_decode(&m, body);
    if (err != 0) {
        return err;
    }
    enum mvpn_reason reason = MVPN_REASON_NONE;
    struct guest *caller = guest_of(relay, link, now);
    struct guest *called = find_registered(relay, &m.rendezvous);
    if (caller == NULL || !mvpn_bucket_take(&caller->opens, 1, now)) {
        reason = MVPN_REASON_BUSY;
    } else if (called == NULL) {
        reason = MVPN_REASON_UNREACHABLE;
    } else if (called == caller) {
        reason = MVPN_REASON_REFUSED;
    } else if (!may_call(relay, caller, called, now) || !make_room(relay, caller, called, now)) {
        reason = MVPN_REASON_BUSY;
    }
    struct nat_session *s =
        reason == MVPN_REASON_NONE ? session_new(relay, caller, called, now) : NULL;
    if (s == NULL) {
        reason = reason == MVPN_REASON_NONE ? MVPN_REASON_BUSY : reason;
        send_refusal(relay, link, m.request, NULL, reason, now);
        return 0;
    }
    if (give_ids(relay, s, CALLER, m.request, m.count, now) != 0) {
        session_end(relay, s, false, true, now);
        send_refusal(relay, link, m.request, NULL, MVPN_REASON_UNREACHABLE, now);
        return 0;
    }
    guest_hold(caller, now); /* the other is held, being registered */
    return 0;
}

/* The session, if this link is one of its sides. */
static struct nat_session *own_session(const mvpn_nat_relay *relay, const mvpn_link *link,
                                       const mvpn_nat_id *id, enum side_of *ret_side)
{
    struct nat_session *s = find_session(relay, id);
    for (unsigned side = 0; s != NULL && side < SIDES; side++) {
        if (s->side[side].guest->link == link) {
            *ret_side = (enum side_of)side;
            return s;
        }
    }
    return NULL;
}

static int on_more(mvpn_nat_relay *relay, mvpn_link *link, mvpn_bytes body, mvpn_time now)
{
    mvpn_nat_more m;
    enum side_of side;
    int err = mvpn_nat_more_decode(&m, body);
    if (err != 0) {
        return err;
    }
    struct nat_session *s = own_session(relay, link, &m.session, &side);
    struct guest *asker = s != NULL ? s->side[side].guest : NULL;
    if (s == NULL || !mvpn_bucket_take(&asker->opens, 1, now) ||
        (side == CALLER && !may_call(relay, asker, s->side[CALLED].guest, now))) {
        send_refusal(relay, link, 0, &m.session,
                     s == NULL ? MVPN_REASON_UNREACHABLE : MVPN_REASON_BUSY, now);
    } else if (give_ids(relay, s, side, 0, m.count, now) != 0) {
        session_end(relay, s, true, true, now);
    }
    return 0;
}

/* Where the other side is seen, for whoever may send to it anyway: by us. (§14.6) */
static int on_address(mvpn_nat_relay *relay, mvpn_link *link, mvpn_bytes body, mvpn_time now)
{
    uint8_t out[MVPN_NAT_ADDRESSED_LEN];
    mvpn_nat_addressed answer = {0};
    enum side_of side;
    int err = mvpn_nat_close_decode(&answer.session, body);
    if (err != 0) {
        return err;
    }
    struct nat_session *s = own_session(relay, link, &answer.session, &side);
    if (s == NULL) {
        answer.status = MVPN_REASON_UNREACHABLE;
    } else if (!mvpn_bucket_take(&s->side[side].guest->opens, 1, now)) {
        answer.status = MVPN_REASON_BUSY;
    } else {
        answer.addr = *mvpn_link_peer_addr(s->side[side == CALLER ? CALLED : CALLER].guest->link);
    }
    relay->counters.refused += answer.status != MVPN_REASON_NONE;
    mvpn_nat_addressed_encode(out, &answer);
    (void)send(relay, link, MVPN_CMD_NAT_ADDRESSED, out, sizeof(out), now); /* asked again */
    return 0;
}

/* 1: a session of ours; 0: not. MVPN_E_FORMAT. */
static int on_close(mvpn_nat_relay *relay, mvpn_link *link, mvpn_bytes body, mvpn_time now)
{
    mvpn_nat_id id;
    enum side_of side;
    int err = mvpn_nat_close_decode(&id, body);
    if (err != 0) {
        return err;
    }
    struct nat_session *s = own_session(relay, link, &id, &side);
    if (s == NULL) {
        return 0;
    }
    session_end(relay, s, side == CALLED, side == CALLER, now);
    return 1;
}

bool mvpn_nat_relay_message(mvpn_nat_relay *relay, mvpn_link *link, const mvpn_header *header,
                            mvpn_bytes body, mvpn_time now)
{
    int err;
    bool is_ours = true;
    switch (header->command) {
    case MVPN_CMD_NAT_REGISTER:
        err = on_register(relay, link, body, now);
        break;
    case MVPN_CMD_NAT_OPEN:
        err = on_open(relay, link, body, now);
        break;
    case MVPN_CMD_NAT_MORE:
        err = on_more(relay, link, body, now);
        break;
    case MVPN_CMD_NAT_ADDRESS:
        err = on_address(relay, link, body, now);
        break;
    case MVPN_CMD_NAT_CLOSE:
        err = on_close(relay, link, body, now);
        is_ours = err != 0;
        break;
    default:
        return false;
    }
    if (err < 0) {
        mvpn_link_close(link, MVPN_REASON_PROTOCOL, now);
    }
    return is_ours;
}

void mvpn_nat_relay_link_closed(mvpn_nat_relay *relay, mvpn_link *link, mvpn_time now)
{
    struct guest *g = find_guest(relay, link);
    if (g == NULL) {
        return;
    }
    unregister(relay, g);
    for (unsigned side = 0; side < SIDES; side++) {
        while (!mvpn_list_is_empty(&g->sessions[side])) {
            struct nat_side *of =
                MVPN_CONTAINER_OF(g->sessions[side].next, struct nat_side, in_guest);
            struct nat_session *s = of->session;
            struct guest *other = s->side[side == CALLER ? CALLED : CALLER].guest;
            send_close(relay, s, side == CALLER ? CALLED : CALLER, now);
            session_free(relay, s);
            guest_hold(other, now);
        }
    }
    mvpn_hash_remove(&relay->guests, &g->by_link);
    free(g);
}

/* ---- datagrams ---- */

/* Where a datagram says that it belongs, or NULL. (§4.1, §4.2) */
static const uint8_t *destination_of(const mvpn_packet *p)
{
    enum { TRANSPORT_AT = 1, HANDSHAKE_AT = 6 };
    if (p->len < HANDSHAKE_AT + MVPN_CONNECTION_ID_LEN) {
        return NULL;
    }
    if (p->data[0] >> 6 == 1) {
        return p->data + TRANSPORT_AT;
    }
    return mvpn_is_handshake_flags(p->data[0]) &&
                   p->data[HANDSHAKE_AT - 1] == MVPN_CONNECTION_ID_LEN
               ? p->data + HANDSHAKE_AT
               : NULL;
}

bool mvpn_nat_relay_forward(mvpn_nat_relay *relay, mvpn_packet *packet, mvpn_time now)
{
    const uint8_t *id = destination_of(packet);
    const struct assigned_id *a = id != NULL ? find_id(relay, id) : NULL;
    if (a == NULL) {
        return false;
    }
    struct nat_session *s = a->session;
    enum side_of to = (enum side_of)a->side;
    enum side_of from = to == CALLER ? CALLED : CALLER;
    /* A link that has just failed has no proven address any more. */
    const mvpn_link *target = s->side[to].guest->link;
    if (!mvpn_addr_eq(&packet->remote, mvpn_link_peer_addr(s->side[from].guest->link)) ||
        !mvpn_link_is_open(target)) {
        relay->counters.dropped_source++;
        mvpn_packet_free(relay->config.pool, packet);
        return true;
    }
    if (packet->len > MVPN_NAT_DATAGRAM_MAX || !mvpn_bucket_take(&s->bytes, packet->len, now) ||
        !mvpn_bucket_take(&relay->bytes, packet->len, now)) {
        relay->counters.dropped_limit++;
        mvpn_packet_free(relay->config.pool, packet);
        return true;
    }
    if (from == CALLED) {
        mvpn_list_remove(&s->in_unanswered);
    }
    s->last = now;
    relay->counters.forwarded++;
    relay->counters.forwarded_bytes += packet->len;
    packet->remote = *mvpn_link_peer_addr(target);
    packet->local = MVPN_LOCAL_MAIN;
    /* Larger than our own links send: that it does not fit says nothing of them. */
    packet->flags = packet->len > LINK_DATAGRAM_MAX ? MVPN_PACKET_PROBE : 0;
    mvpn_packet_queue_push(&relay->out, packet);
    return true;
}

mvpn_packet_queue *mvpn_nat_relay_out(mvpn_nat_relay *relay)
{
    return &relay->out;
}

/* ---- time, questions ---- */

void mvpn_nat_relay_tick(mvpn_nat_relay *relay, mvpn_time now)
{
    mvpn_timer *t;
    while ((t = mvpn_timers_pop(&relay->timers, now)) != NULL) {
        if (t->kind == TIMER_RENDEZVOUS) {
            struct guest *g = MVPN_CONTAINER_OF(t, struct guest, timer);
            unregister(relay, g);
            guest_hold(g, now);
            continue;
        }
        struct nat_session *s = MVPN_CONTAINER_OF(t, struct nat_session, timer);
        if (now - s->last >= relay->config.idle_after) {
            session_end(relay, s, true, true, now);
        } else {
            mvpn_timer_set(&relay->timers, t, s->last + relay->config.idle_after);
        }
    }
}

mvpn_time mvpn_nat_relay_deadline(const mvpn_nat_relay *relay)
{
    return mvpn_timers_deadline(&relay->timers);
}

const mvpn_nat_relay_counters *mvpn_nat_relay_get_counters(const mvpn_nat_relay *relay)
{
    return &relay->counters;
}

bool mvpn_nat_relay_flood_look(mvpn_nat_relay_flood *flood, const mvpn_nat_relay *relay,
                               mvpn_time now)
{
    const mvpn_nat_relay_counters *c = &relay->counters;
    uint64_t dropped = c->dropped_source + c->dropped_limit;
    flood->refused = c->refused - flood->refused_then;
    flood->dropped = dropped - flood->dropped_then;
    if ((flood->refused < FLOOD_REFUSED && flood->dropped < FLOOD_DROPPED) ||
        (flood->was_told && now - flood->told_at < FLOOD_TOLD_EVERY)) {
        return false;
    }
    flood->refused_then = c->refused;
    flood->dropped_then = dropped;
    flood->was_told = true;
    flood->told_at = now;
    return true;
}

size_t mvpn_nat_relay_session_count(const mvpn_nat_relay *relay)
{
    return relay->sessions.count;
}
