/* The NAT relay's tables and limits. The links under it are put in by the linker: what matters here
 * is their proven address, and what they are told. */
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "network/p2p/nat_relay.h"
#include "wire/circuit.h"
#include "wire/natmsg.h"

#define POOL 64

struct fake {
    mvpn_addr addr;
    bool has_identity, is_closed, refuses;
    mvpn_ed25519_pub identity;
    size_t holds;
    /* What was sent to it, the latest of each. */
    mvpn_nat_registered registered;
    mvpn_nat_opened opened;
    mvpn_nat_ids incoming;
    mvpn_nat_addressed addressed;
    size_t registered_count, opened_count, incoming_count, addressed_count, close_count;
};

struct world {
    mvpn_rng rng;
    mvpn_packet_pool pool;
    mvpn_nat_relay *relay;
    mvpn_time now;
    struct fake home, caller, stranger;
    mvpn_nat_ids ids; /* as the caller sees them */
};

static struct world *w;

static struct fake *fake_of(const mvpn_link *link)
{
    return (struct fake *)(uintptr_t)link;
}

static mvpn_link *link_of(struct fake *f)
{
    return (mvpn_link *)(uintptr_t)f;
}

int __wrap_mvpn_link_send(mvpn_link *link, mvpn_packet *packet, const mvpn_header *header,
                          bool acked, mvpn_time now);
const mvpn_addr *__wrap_mvpn_link_peer_addr(const mvpn_link *link);
const mvpn_ed25519_pub *__wrap_mvpn_link_peer_identity(const mvpn_link *link);
bool __wrap_mvpn_link_is_open(const mvpn_link *link);
void __wrap_mvpn_link_hold(mvpn_link *link);
void __wrap_mvpn_link_release(mvpn_link *link, mvpn_time now);
void __wrap_mvpn_link_close(mvpn_link *link, uint8_t reason, mvpn_time now);

int __wrap_mvpn_link_send(mvpn_link *link, mvpn_packet *packet, const mvpn_header *header,
                          bool acked, mvpn_time now)
{
    struct fake *f = fake_of(link);
    mvpn_bytes body = mvpn_bytes_of(packet->data, packet->len);
    mvpn_nat_id id;
    (void)now;
    assert_true(acked);
    assert_int_equal(header->length, packet->len);
    if (f->refuses) {
        mvpn_packet_free(&w->pool, packet);
        return MVPN_E_LIMIT;
    }
    switch (header->command) {
    case MVPN_CMD_NAT_REGISTERED:
        assert_int_equal(mvpn_nat_registered_decode(&f->registered, body), 0);
        f->registered_count++;
        break;
    case MVPN_CMD_NAT_OPENED:
        assert_int_equal(mvpn_nat_opened_decode(&f->opened, body), 0);
        f->opened_count++;
        break;
    case MVPN_CMD_NAT_INCOMING:
        assert_int_equal(mvpn_nat_incoming_decode(&f->incoming, body), 0);
        f->incoming_count++;
        break;
    case MVPN_CMD_NAT_ADDRESSED:
        assert_int_equal(mvpn_nat_addressed_decode(&f->addressed, body), 0);
        f->addressed_count++;
        break;
    default:
        assert_int_equal(header->command, MVPN_CMD_NAT_CLOSE);
        assert_int_equal(mvpn_nat_close_decode(&id, body), 0);
        f->close_count++;
    }
    mvpn_packet_free(&w->pool, packet);
    return 0;
}

const mvpn_addr *__wrap_mvpn_link_peer_addr(const mvpn_link *link)
{
    return &fake_of(link)->addr;
}

const mvpn_ed25519_pub *__wrap_mvpn_link_peer_identity(const mvpn_link *link)
{
    return fake_of(link)->has_identity ? &fake_of(link)->identity : NULL;
}

bool __wrap_mvpn_link_is_open(const mvpn_link *link)
{
    return !fake_of(link)->is_closed;
}

void __wrap_mvpn_link_hold(mvpn_link *link)
{
    fake_of(link)->holds++;
}

void __wrap_mvpn_link_release(mvpn_link *link, mvpn_time now)
{
    (void)now;
    assert_true(fake_of(link)->holds > 0);
    fake_of(link)->holds--;
}

void __wrap_mvpn_link_close(mvpn_link *link, uint8_t reason, mvpn_time now)
{
    (void)now;
    assert_int_equal(reason, MVPN_REASON_PROTOCOL);
    fake_of(link)->is_closed = true;
}

static mvpn_addr addr(unsigned block, unsigned host)
{
    return (mvpn_addr){.family = 4,
                       .port = 5000,
                       .ip = {11, (uint8_t)(block >> 8), (uint8_t)block, (uint8_t)host}};
}

static void start(const mvpn_nat_relay_config *limits)
{
    w = calloc(1, sizeof(*w));
    assert_non_null(w);
    mvpn_rng_init_test(&w->rng, 7);
    assert_int_equal(mvpn_packet_pool_init(&w->pool, POOL), 0);
    w->now = MVPN_S(1000);
    mvpn_nat_relay_config c = *limits;
    c.rng = &w->rng;
    c.pool = &w->pool;
    assert_int_equal(mvpn_nat_relay_new(&c, w->now, &w->relay), 0);
    w->home = (struct fake){.addr = addr(1, 1), .has_identity = true, .identity = {{1}}};
    w->caller = (struct fake){.addr = addr(2, 2)};
    w->stranger = (struct fake){.addr = addr(3, 3), .has_identity = true, .identity = {{3}}};
}

static int setup(void **state)
{
    static const mvpn_nat_relay_config defaults;
    (void)state;
    start(&defaults);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mvpn_nat_relay_free(w->relay);
    assert_int_equal(w->pool.free_count, POOL); /* no packet was lost */
    mvpn_packet_pool_done(&w->pool);
    free(w);
    return 0;
}

static bool message(struct fake *f, unsigned command, const uint8_t *body, size_t n)
{
    const mvpn_header header = {.command = (uint16_t)command, .length = (uint16_t)n, .link_seq = 1};
    return mvpn_nat_relay_message(w->relay, link_of(f), &header, mvpn_bytes_of(body, n), w->now);
}

static void do_register(struct fake *f, uint16_t lifetime_s)
{
    uint8_t body[MVPN_NAT_REGISTER_LEN];
    mvpn_nat_register_encode(body, lifetime_s);
    assert_true(message(f, MVPN_CMD_NAT_REGISTER, body, sizeof(body)));
}

/* The status told. */
static unsigned do_open(struct fake *from, const struct fake *to, unsigned count)
{
    static uint32_t request;
    uint8_t body[MVPN_NAT_OPEN_LEN];
    mvpn_nat_open m = {++request, to->registered.rendezvous, (uint8_t)count};
    size_t answers = from->opened_count;
    mvpn_nat_open_encode(body, &m);
    assert_true(message(from, MVPN_CMD_NAT_OPEN, body, sizeof(body)));
    assert_int_equal(from->opened_count, answers + 1);
    assert_int_equal(from->opened.request, request);
    return from->opened.status;
}

static unsigned do_more(struct fake *f, const mvpn_nat_id *session, unsigned count)
{
    uint8_t body[MVPN_NAT_MORE_LEN];
    mvpn_nat_more m = {*session, (uint8_t)count};
    mvpn_nat_more_encode(body, &m);
    assert_true(message(f, MVPN_CMD_NAT_MORE, body, sizeof(body)));
    assert_int_equal(f->opened.request, 0);
    return f->opened.status;
}

/* The status told. */
static unsigned ask_address(struct fake *f, const mvpn_nat_id *session)
{
    size_t answers = f->addressed_count;
    assert_true(message(f, MVPN_CMD_NAT_ADDRESS, session->b, sizeof(session->b)));
    assert_int_equal(f->addressed_count, answers + 1);
    assert_memory_equal(f->addressed.session.b, session->b, sizeof(session->b));
    return f->addressed.status;
}

static void join(void)
{
    do_register(&w->home, 600);
    assert_int_equal(do_open(&w->caller, &w->home, 8), 0);
    w->ids = w->caller.opened.ids;
}

/* A datagram to that id; where it went, family 0: nowhere. `*ret_ours` false: not taken. */
static mvpn_addr send_from(const mvpn_addr *from, const mvpn_connection_id *id, size_t len,
                           bool is_handshake, bool *ret_ours)
{
    mvpn_addr to = {0};
    mvpn_packet *p = mvpn_packet_new(&w->pool), *out;
    assert_non_null(p);
    uint8_t *b = mvpn_packet_append(p, (uint32_t)len), before[1536];
    memset(b, 0xd7, len);
    b[0] = is_handshake ? 0xc5 : 0x45;
    b[5] = is_handshake ? 8 : b[5];
    memcpy(b + (is_handshake ? 6 : 1), id->b, sizeof(id->b));
    memcpy(before, b, len);
    p->remote = *from;
    p->local = MVPN_LOCAL_PROBE; /* by whatever socket it came, */
    *ret_ours = mvpn_nat_relay_forward(w->relay, p, w->now);
    out = mvpn_packet_queue_pop(mvpn_nat_relay_out(w->relay));
    if (out != NULL) {
        assert_ptr_equal(out, p); /* in place */
        assert_ptr_equal(out->data, b);
        assert_int_equal(out->len, len);
        assert_memory_equal(b, before, len);
        to = out->remote;
        assert_int_equal(out->local, MVPN_LOCAL_MAIN); /* it leaves by the one that links use */
        assert_int_equal(out->flags == MVPN_PACKET_PROBE, len > 1424);
    }
    if (out != NULL || !*ret_ours) {
        mvpn_packet_free(&w->pool, p);
    }
    return to;
}

static bool goes(const mvpn_addr *from, const mvpn_connection_id *id, const mvpn_addr *to)
{
    bool is_ours, first = true;
    for (unsigned kind = 0; kind < 2; kind++) {
        mvpn_addr at = send_from(from, id, kind == 0 ? 1424 : 1232, kind == 1, &is_ours);
        bool goes = mvpn_addr_eq(&at, to);
        assert_true(goes || at.family == 0); /* there or nowhere */
        first = kind == 0 ? goes : first;
        assert_int_equal(goes, first);
    }
    return first;
}

static void test_register(void **state)
{
    (void)state;
    do_register(&w->caller, 600); /* a client */
    assert_int_equal(w->caller.registered.status, MVPN_REASON_REFUSED);
    assert_int_equal(w->caller.holds, 0);
    do_register(&w->home, 600);
    assert_int_equal(w->home.registered.status, 0);
    assert_int_equal(w->home.registered.lifetime_s, 600);
    assert_int_equal(w->home.holds, 1);
    mvpn_nat_id id = w->home.registered.rendezvous;
    w->now += MVPN_S(500);
    do_register(&w->home, 1);
    assert_memory_equal(id.b, w->home.registered.rendezvous.b, sizeof(id.b));
    assert_int_equal(w->home.registered.lifetime_s, 60);
    do_register(&w->stranger, 65535);
    assert_int_equal(w->stranger.registered.lifetime_s, 3600);
    assert_memory_not_equal(id.b, w->stranger.registered.rendezvous.b, sizeof(id.b));
    assert_int_equal(mvpn_nat_relay_deadline(w->relay), w->now + MVPN_S(60));
    w->now += MVPN_S(60);
    mvpn_nat_relay_tick(w->relay, w->now);
    assert_int_equal(w->home.holds, 0);
    assert_int_equal(do_open(&w->caller, &w->home, 2), MVPN_REASON_UNREACHABLE);
    assert_int_equal(do_open(&w->caller, &w->stranger, 2), 0);
    assert_int_equal(do_open(&w->stranger, &w->stranger, 2), MVPN_REASON_REFUSED);
}

static struct fake relay_at(unsigned block, unsigned identity)
{
    return (struct fake){.addr = addr(block, 1),
                         .has_identity = true,
                         .identity = {{(uint8_t)identity, (uint8_t)(identity >> 8), 9}}};
}

/* Descriptors name it: it must not depend on the link, nor on this relay's having run all along. */
static void test_rendezvous_ids_stay(void **state)
{
    (void)state;
    static const mvpn_nat_relay_config keyed = {.id_key = {{1, 2, 3}}};
    static const mvpn_nat_relay_config other = {.id_key = {{1, 2, 4}}}, random;
    static const mvpn_nat_relay_config *const configs[] = {&keyed, &keyed, &other, &random};
    mvpn_nat_id home[4], stranger[4];
    for (unsigned i = 0; i < 4; i++) {
        start(configs[i]);
        w->home.addr = addr(50 + i, 1);
        if (i == 1) {
            do_register(&w->stranger, 600); /* nor on the order */
        }
        do_register(&w->home, 600);
        do_register(&w->stranger, 600);
        home[i] = w->home.registered.rendezvous;
        stranger[i] = w->stranger.registered.rendezvous;
        assert_memory_not_equal(home[i].b, stranger[i].b, sizeof(home[i].b));
        (void)teardown(NULL);
    }
    assert_memory_equal(home[0].b, home[1].b, sizeof(home[0].b));
    assert_memory_equal(stranger[0].b, stranger[1].b, sizeof(home[0].b));
    assert_memory_not_equal(home[0].b, home[2].b, sizeof(home[0].b));
    assert_memory_not_equal(home[0].b, home[3].b, sizeof(home[0].b));
    /* A zero key is none: what it would give is not what is given. */
    static const mvpn_siphash_key zero;
    uint8_t guess[8];
    mvpn_store64(guess, mvpn_siphash(&zero, (uint8_t[32]){1}, 32));
    assert_memory_not_equal(home[3].b, guess, sizeof(guess));
}

static void test_a_newer_link_takes_over(void **state)
{
    (void)state;
    join();
    struct fake again = w->home;
    again.addr = addr(9, 1);
    again.holds = 0;
    again.incoming_count = 0;
    do_register(&again, 600);
    assert_memory_equal(again.registered.rendezvous.b, w->home.registered.rendezvous.b, 8);
    assert_int_equal(again.holds, 1);
    assert_int_equal(mvpn_nat_relay_get_counters(w->relay)->moved, 1);
    /* What is under way on the older link goes on, */
    assert_true(goes(&w->caller.addr, &w->ids.peer[0], &w->home.addr));
    assert_int_equal(w->home.holds, 1);
    /* but calls go to the newer one, also when the older one's time is over. */
    w->now += MVPN_S(590);
    do_register(&again, 600);
    w->now += MVPN_S(11);
    assert_true(goes(&w->caller.addr, &w->ids.peer[0], &w->home.addr));
    assert_int_equal(do_open(&w->caller, &again, 2), 0);
    assert_int_equal(again.incoming_count, 1);
    assert_int_equal(w->home.incoming_count, 1);
    mvpn_nat_ids late = w->caller.opened.ids;
    w->home.holds = 0;
    mvpn_nat_relay_link_closed(w->relay, link_of(&w->home), w->now);
    assert_true(goes(&w->caller.addr, &late.peer[0], &again.addr));
    assert_int_equal(do_open(&w->caller, &again, 2), 0);
    /* The other link, if it lives after all, has only to ask. */
    do_register(&w->home, 600);
    assert_int_equal(do_open(&w->caller, &w->home, 2), 0);
    assert_int_equal(w->home.incoming_count, 2);
    assert_int_equal(again.holds, 1); /* two sessions */
}

/* Of a relay that has restarted nothing is left on the older link: it is held no longer. */
static void test_an_older_link_is_let_go(void **state)
{
    (void)state;
    do_register(&w->home, 600);
    struct fake again = w->home;
    again.holds = 0;
    w->now += MVPN_S(60);
    do_register(&again, 600);
    assert_int_equal(w->home.holds, 0);
    assert_int_equal(again.holds, 1);
    assert_int_equal(mvpn_nat_relay_deadline(w->relay), w->now + MVPN_S(600));
    w->now += MVPN_S(540); /* the older one's time */
    mvpn_nat_relay_tick(w->relay, w->now);
    assert_int_equal(do_open(&w->caller, &again, 2), 0);
    mvpn_nat_relay_link_closed(w->relay, link_of(&w->home), w->now);
    assert_int_equal(do_open(&w->caller, &again, 2), 0);
    assert_int_equal(mvpn_nat_relay_get_counters(w->relay)->registered, 2);
}

static void test_registrations_are_bounded(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 25; i++) {
        do_register(&w->home, 600);
        assert_int_equal(w->home.registered.status, i < 20 ? 0 : MVPN_REASON_BUSY);
    }
    assert_int_equal(mvpn_nat_relay_get_counters(w->relay)->refused, 5);
    w->now += MVPN_S(1);
    do_register(&w->home, 600);
    assert_int_equal(w->home.registered.status, 0);
    assert_int_equal(mvpn_nat_relay_get_counters(w->relay)->registered, 1);
    do_register(&w->caller, 600);
    assert_int_equal(mvpn_nat_relay_get_counters(w->relay)->refused, 6);
}

static void test_address_of_the_other_side(void **state)
{
    (void)state;
    join();
    const mvpn_nat_id session = w->ids.session;
    assert_int_equal(ask_address(&w->caller, &session), 0);
    assert_true(mvpn_addr_eq(&w->caller.addressed.addr, &w->home.addr));
    assert_int_equal(ask_address(&w->home, &session), 0);
    assert_true(mvpn_addr_eq(&w->home.addressed.addr, &w->caller.addr));
    w->home.addr = addr(9, 9); /* as of now */
    assert_int_equal(ask_address(&w->caller, &session), 0);
    assert_true(mvpn_addr_eq(&w->caller.addressed.addr, &w->home.addr));
    /* Nobody else learns where a relay or its caller is. */
    assert_int_equal(ask_address(&w->stranger, &session), MVPN_REASON_UNREACHABLE);
    assert_int_equal(mvpn_nat_relay_get_counters(w->relay)->refused, 1);
    assert_int_equal(w->stranger.addressed.addr.family, 0);
    for (unsigned i = 0; i < 17; i++) { /* 20 with the open and those above */
        assert_int_equal(ask_address(&w->caller, &session), 0);
    }
    assert_int_equal(ask_address(&w->caller, &session), MVPN_REASON_BUSY);
    assert_int_equal(w->caller.addressed.addr.family, 0);
    assert_int_equal(ask_address(&w->home, &session), 0);
    w->now += MVPN_MS(200);
    assert_int_equal(ask_address(&w->caller, &session), 0);
    assert_int_equal(do_open(&w->caller, &w->home, 2), MVPN_REASON_BUSY);
    assert_true(message(&w->home, MVPN_CMD_NAT_CLOSE, session.b, 8));
    w->now += MVPN_S(1);
    assert_int_equal(ask_address(&w->caller, &session), MVPN_REASON_UNREACHABLE);
}

static void test_forwards_both_ways(void **state)
{
    (void)state;
    join();
    const mvpn_addr *home = &w->home.addr, *caller = &w->caller.addr;
    assert_int_equal(w->home.incoming_count, 1);
    assert_int_equal(w->ids.count, 8);
    assert_int_equal(w->home.incoming.count, 8);
    assert_memory_equal(w->home.incoming.own, w->ids.peer, sizeof(w->ids.peer));
    assert_memory_equal(w->home.incoming.peer, w->ids.own, sizeof(w->ids.own));
    assert_int_equal(w->caller.holds, 1);
    for (unsigned i = 0; i < 8; i++) {
        assert_true(goes(caller, &w->ids.peer[i], home));
        assert_true(goes(home, &w->ids.own[i], caller));
    }
    const mvpn_nat_relay_counters *c = mvpn_nat_relay_get_counters(w->relay);
    assert_int_equal(c->forwarded, 32);
    assert_int_equal(c->forwarded_bytes, 16 * (1424 + 1232));
    assert_int_equal(c->dropped_source + c->dropped_limit, 0);
}

static void test_others_go_nowhere(void **state)
{
    (void)state;
    join();
    bool is_ours;
    mvpn_addr same_ip = w->caller.addr, none;
    same_ip.port++; /* whoever stands behind the same NAT */
    const mvpn_addr *strangers[] = {&w->stranger.addr, &same_ip, &w->home.addr};
    for (unsigned i = 0; i < MVPN_ARRAY_LEN(strangers); i++) {
        /* the last: a side cannot send to its own ids either */
        assert_false(goes(strangers[i], &w->ids.peer[3], &w->home.addr));
    }
    assert_false(goes(&w->stranger.addr, &w->ids.own[0], &w->caller.addr));
    assert_int_equal(mvpn_nat_relay_get_counters(w->relay)->dropped_source, 8);
    mvpn_connection_id unknown = w->ids.peer[0];
    unknown.b[7] ^= 1;
    none = send_from(&w->caller.addr, &unknown, 1424, false, &is_ours);
    assert_int_equal(none.family, 0);
    assert_false(is_ours);
    /* Too short for a destination, or of another kind. */
    for (uint32_t len = 0; len < 15; len++) {
        for (unsigned first = 0; first < 256; first += 0x15) {
            mvpn_packet *p = mvpn_packet_new(&w->pool);
            uint8_t *b = mvpn_packet_append(p, 14);
            memset(b, 0, 14);
            b[0] = (uint8_t)first;
            memcpy(b + 1, w->ids.peer[0].b, 8);
            p->len = len;
            p->remote = w->caller.addr;
            bool is_transport = first >> 6 == 1 && len == 14;
            assert_int_equal(mvpn_nat_relay_forward(w->relay, p, w->now), is_transport);
            if (!is_transport) {
                mvpn_packet_free(&w->pool, p);
            }
        }
    }
    mvpn_packet_queue_clear(mvpn_nat_relay_out(w->relay), &w->pool);
    /* What is no first packet, but has an id where one would. */
    for (unsigned first = 0; first < 256; first++) {
        mvpn_packet *p = mvpn_packet_new(&w->pool);
        uint8_t *b = mvpn_packet_append(p, 1232);
        memset(b, 0xc5, 1232);
        b[0] = (uint8_t)first;
        b[5] = 8;
        memcpy(b + 6, w->ids.peer[0].b, 8);
        p->remote = w->caller.addr;
        bool is_taken = mvpn_nat_relay_forward(w->relay, p, w->now);
        assert_int_equal(is_taken, mvpn_is_handshake_flags((uint8_t)first));
        if (!is_taken) {
            mvpn_packet_free(&w->pool, p);
        }
    }
    mvpn_packet_queue_clear(mvpn_nat_relay_out(w->relay), &w->pool);
}

static void test_follows_the_proven_address(void **state)
{
    (void)state;
    join();
    mvpn_addr old = w->home.addr, new_addr = addr(9, 9);
    assert_false(goes(&new_addr, &w->ids.own[0], &w->caller.addr));
    w->home.addr = new_addr; /* the link has proven it */
    assert_true(goes(&w->caller.addr, &w->ids.peer[0], &new_addr));
    assert_true(goes(&new_addr, &w->ids.own[0], &w->caller.addr));
    assert_false(goes(&old, &w->ids.own[0], &w->caller.addr));
    w->home.is_closed = true; /* failed, and its event not yet pulled */
    assert_false(goes(&w->caller.addr, &w->ids.peer[0], &new_addr));
}

static void test_more_ids(void **state)
{
    (void)state;
    join();
    mvpn_nat_ids before = w->ids;
    assert_int_equal(do_more(&w->caller, &before.session, 8), 0);
    assert_int_equal(w->caller.opened.ids.count, 8);
    assert_memory_equal(w->home.incoming.peer, w->caller.opened.ids.own, 64);
    mvpn_nat_ids more = w->caller.opened.ids;
    assert_true(goes(&w->caller.addr, &before.peer[0], &w->home.addr));
    assert_true(goes(&w->caller.addr, &more.peer[7], &w->home.addr));
    /* Both at once, twice: what was in use before is good yet. */
    assert_int_equal(do_more(&w->home, &before.session, 8), 0);
    assert_int_equal(do_more(&w->caller, &before.session, 8), 0);
    assert_true(goes(&w->caller.addr, &before.peer[0], &w->home.addr));
    assert_true(goes(&w->home.addr, &before.own[0], &w->caller.addr));
    assert_int_equal(do_more(&w->home, &before.session, 3), 0); /* by the other side: 35 */
    assert_int_equal(w->caller.incoming.count, 3);
    assert_true(goes(&w->caller.addr, &w->caller.incoming.peer[2], &w->home.addr));
    for (unsigned i = 0; i < 8; i++) { /* the three oldest have ended */
        bool is_ours;
        mvpn_addr at = send_from(&w->caller.addr, &before.peer[i], 100, false, &is_ours);
        assert_int_equal(is_ours, i >= 3);
        assert_int_equal(at.family != 0, i >= 3);
    }
    size_t told = w->home.incoming_count;
    assert_int_equal(do_more(&w->stranger, &before.session, 8), MVPN_REASON_UNREACHABLE);
    assert_int_equal(w->stranger.opened.ids.count, 0);
    assert_memory_equal(w->stranger.opened.ids.session.b, before.session.b, 8);
    assert_int_equal(mvpn_nat_relay_get_counters(w->relay)->refused, 1);
    assert_int_equal(w->home.incoming_count, told);
    for (unsigned i = 0; i < 17; i++) { /* 20 with the open and those above */
        assert_int_equal(do_more(&w->caller, &before.session, 1), 0);
    }
    assert_int_equal(do_more(&w->caller, &before.session, 1), MVPN_REASON_BUSY);
    w->home.refuses = true;
    w->now += MVPN_S(1);
    uint8_t body[MVPN_NAT_MORE_LEN];
    mvpn_nat_more_encode(body, &(mvpn_nat_more){before.session, 1});
    assert_true(message(&w->caller, MVPN_CMD_NAT_MORE, body, sizeof(body)));
    assert_int_equal(w->caller.close_count, 1); /* half told is of no use */
    assert_int_equal(mvpn_nat_relay_session_count(w->relay), 0);
}

static void test_close(void **state)
{
    (void)state;
    join();
    assert_false(message(&w->stranger, MVPN_CMD_NAT_CLOSE, w->ids.session.b, 8));
    assert_true(goes(&w->caller.addr, &w->ids.peer[0], &w->home.addr));
    assert_true(message(&w->home, MVPN_CMD_NAT_CLOSE, w->ids.session.b, 8));
    assert_int_equal(w->caller.close_count, 1);
    assert_int_equal(w->home.close_count, 0);
    assert_int_equal(w->caller.holds, 0);
    assert_int_equal(w->home.holds, 1); /* still registered */
    assert_false(goes(&w->caller.addr, &w->ids.peer[0], &w->home.addr));
    assert_false(message(&w->home, MVPN_CMD_NAT_CLOSE, w->ids.session.b, 8));
    assert_int_equal(mvpn_nat_relay_get_counters(w->relay)->opened, 1);
    assert_int_equal(mvpn_nat_relay_get_counters(w->relay)->closed, 1);
}

/* A session outlives the registration, and its end lets go of both links. */
static void test_close_after_registration(void **state)
{
    (void)state;
    join();
    for (unsigned i = 0; i < 6; i++) {
        w->now += MVPN_S(100);
        assert_true(goes(&w->caller.addr, &w->ids.peer[0], &w->home.addr));
        mvpn_nat_relay_tick(w->relay, w->now);
    }
    assert_int_equal(do_open(&w->stranger, &w->home, 2), MVPN_REASON_UNREACHABLE);
    assert_int_equal(w->home.holds, 1);
    assert_true(message(&w->caller, MVPN_CMD_NAT_CLOSE, w->ids.session.b, 8));
    assert_int_equal(w->home.holds, 0);
    assert_int_equal(w->caller.holds, 0);
}

/* One who cannot be told of a call cannot be called. */
static void test_called_is_deaf(void **state)
{
    (void)state;
    do_register(&w->home, 600);
    w->home.refuses = true;
    assert_int_equal(do_open(&w->caller, &w->home, 2), MVPN_REASON_UNREACHABLE);
    assert_int_equal(mvpn_nat_relay_session_count(w->relay), 0);
    assert_int_equal(w->caller.close_count, 0);
    assert_int_equal(w->caller.holds, 0);
    w->home.refuses = false;
    assert_int_equal(do_open(&w->caller, &w->home, 2), 0);
}

static void test_link_closed(void **state)
{
    (void)state;
    for (unsigned who = 0; who < 2; who++) {
        join();
        struct fake *gone = who == 0 ? &w->caller : &w->home;
        struct fake *left = who == 0 ? &w->home : &w->caller;
        size_t closes = left->close_count;
        gone->holds = 0; /* the link is no more */
        mvpn_nat_relay_link_closed(w->relay, link_of(gone), w->now);
        assert_int_equal(left->close_count, closes + 1);
        assert_int_equal(mvpn_nat_relay_session_count(w->relay), 0);
        assert_false(goes(&w->caller.addr, &w->ids.peer[0], &w->home.addr));
        assert_false(goes(&w->home.addr, &w->ids.own[0], &w->caller.addr));
        assert_int_equal(left->holds, who == 0 ? 1 : 0);
    }
    assert_int_equal(do_open(&w->caller, &w->home, 2), MVPN_REASON_UNREACHABLE);
    mvpn_nat_relay_link_closed(w->relay, link_of(&w->stranger), w->now);
}

static void test_idle(void **state)
{
    (void)state;
    join();
    w->now += MVPN_S(100);
    assert_true(goes(&w->caller.addr, &w->ids.peer[0], &w->home.addr));
    assert_false(goes(&w->stranger.addr, &w->ids.peer[0], &w->home.addr));
    w->now += MVPN_S(119);
    mvpn_nat_relay_tick(w->relay, w->now);
    assert_int_equal(mvpn_nat_relay_session_count(w->relay), 1);
    assert_int_equal(mvpn_nat_relay_deadline(w->relay), w->now + MVPN_S(1));
    /* What a stranger sends keeps nothing open. */
    assert_false(goes(&w->stranger.addr, &w->ids.peer[0], &w->home.addr));
    w->now += MVPN_S(1);
    mvpn_nat_relay_tick(w->relay, w->now);
    assert_int_equal(mvpn_nat_relay_session_count(w->relay), 0);
    assert_int_equal(w->home.close_count, 1);
    assert_int_equal(w->caller.close_count, 1);
}

static void test_malformed_closes_the_link(void **state)
{
    (void)state;
    static const unsigned commands[] = {MVPN_CMD_NAT_REGISTER, MVPN_CMD_NAT_OPEN, MVPN_CMD_NAT_MORE,
                                        MVPN_CMD_NAT_CLOSE, MVPN_CMD_NAT_ADDRESS};
    static const uint8_t zeros[64];
    for (unsigned i = 0; i < MVPN_ARRAY_LEN(commands); i++) {
        w->stranger.is_closed = false;
        assert_true(message(&w->stranger, commands[i], zeros, sizeof(zeros)));
        assert_true(w->stranger.is_closed);
    }
    /* What a NAT relay says is for the node as another one's guest. */
    static const unsigned others[] = {MVPN_CMD_NAT_REGISTERED, MVPN_CMD_NAT_OPENED,
                                      MVPN_CMD_NAT_INCOMING, MVPN_CMD_NAT_ADDRESSED,
                                      MVPN_CMD_CREATE};
    for (unsigned i = 0; i < MVPN_ARRAY_LEN(others); i++) {
        assert_false(message(&w->caller, others[i], zeros, 1));
    }
    assert_false(w->caller.is_closed);
}

static void test_opens_of_one_link(void **state)
{
    (void)state;
    do_register(&w->home, 3600);
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(do_open(&w->caller, &w->home, 2), 0);
    }
    assert_int_equal(do_open(&w->caller, &w->home, 2), MVPN_REASON_BUSY);
    assert_int_equal(w->home.incoming_count, 20); /* the one called hears of no more */
    for (unsigned i = 20; i < 64; i++) {
        w->now += MVPN_MS(200);
        assert_int_equal(do_open(&w->caller, &w->home, 2), 0);
        /* All are answered: none gives way. */
        assert_true(goes(&w->home.addr, &w->caller.opened.ids.own[0], &w->caller.addr));
    }
    w->now += MVPN_S(1);
    assert_int_equal(do_open(&w->caller, &w->home, 2), MVPN_REASON_BUSY);
    /* A new guest at once after a closed link begins anew, but it is a new link too. */
    assert_int_equal(do_open(&w->stranger, &w->home, 2), 0);
}

/* `count` links of one block, each with as many sessions to home as it gets, all answered or not.
 * Returns the sessions. */
static size_t flood(struct fake *links, unsigned count, unsigned block, bool is_answered)
{
    size_t opened = 0;
    for (unsigned i = 0; i < count; i++) {
        links[i] = (struct fake){.addr = addr(block, i + 1)};
        for (unsigned k = 0; k < 20; k++) {
            w->now += MVPN_MS(50); /* the one called takes 20 a second */
            if (do_open(&links[i], &w->home, 2) != 0) {
                continue;
            }
            opened++;
            if (is_answered) {
                (void)goes(&w->home.addr, &links[i].opened.ids.own[0], &links[i].addr);
            }
        }
    }
    return opened;
}

/* With several to call, too. */
static void test_sessions_of_one_caller(void **state)
{
    (void)state;
    struct fake second = {.addr = addr(8, 8), .has_identity = true, .identity = {{8}}};
    size_t opened = 0;
    do_register(&w->home, 3600);
    do_register(&second, 3600);
    for (unsigned i = 0; i < 80; i++) {
        w->now += MVPN_MS(200);
        opened += do_open(&w->caller, i % 2 == 0 ? &w->home : &second, 2) == 0;
    }
    assert_int_equal(opened, 64);
    assert_int_equal(mvpn_nat_relay_session_count(w->relay), 64);
}

/* Many callers who open and close at once: the one called hears of 256, then of 20 a second. */
static void test_calls_are_bounded(void **state)
{
    (void)state;
    static struct fake links[20];
    join();
    size_t first = w->home.incoming_count;
    w->now += MVPN_S(1);
    for (unsigned second = 0; second < 2; second++) {
        for (unsigned i = 0; i < 20; i++) {
            if (second == 0) {
                links[i] = (struct fake){.addr = addr(300 + i, 1)};
            }
            for (unsigned k = 0; k < 20; k++) {
                if (do_open(&links[i], &w->home, 2) == 0) {
                    const mvpn_nat_id id = links[i].opened.ids.session;
                    assert_true(message(&links[i], MVPN_CMD_NAT_CLOSE, id.b, sizeof(id.b)));
                }
            }
        }
        assert_int_equal(w->home.incoming_count - first, second == 0 ? 256 : 276);
        /* The one called may ask for itself all the time. */
        assert_int_equal(do_more(&w->home, &w->ids.session, 1), 0);
        w->now += MVPN_S(1);
    }
}

/* Callers of one block, of many links, cannot use up what the one called listens to: neither by
 * calling nor by asking for ids. */
static void test_calls_of_one_block(void **state)
{
    (void)state;
    static struct fake links[20];
    size_t opened = 0, before = 0;
    do_register(&w->home, 3600);
    for (unsigned i = 0; i < 20; i++) {
        links[i] = (struct fake){.addr = addr(300, i)};
        for (unsigned k = 0; k < 20; k++) {
            if (do_open(&links[i], &w->home, 2) == 0) {
                const mvpn_nat_id id = links[i].opened.ids.session;
                assert_true(message(&links[i], MVPN_CMD_NAT_CLOSE, id.b, sizeof(id.b)));
                opened++;
            }
        }
    }
    assert_int_equal(opened, 64);
    w->now += MVPN_S(1);
    for (unsigned i = 0; i < 20; i++) {
        opened += do_open(&links[i], &w->home, 2) == 0;
    }
    assert_int_equal(opened, 69);
    /* Others are served. */
    before = w->home.incoming_count;
    join();
    for (unsigned i = 0; i < 19; i++) {
        assert_int_equal(do_more(&w->caller, &w->ids.session, 1), 0);
    }
    assert_int_equal(w->home.incoming_count, before + 20);
    w->now += MVPN_S(60);
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(do_open(&links[i], &w->home, 2), 0);
    }
    size_t more = 20;
    for (unsigned i = 0; i < 20; i++) {
        const mvpn_nat_id id = links[i].opened.ids.session;
        for (unsigned k = 0; k < 19; k++) {
            more += do_more(&links[i], &id, 1) == 0;
        }
    }
    assert_int_equal(more, 64);
}

static void test_a_block_cannot_take_all(void **state)
{
    (void)state;
    struct fake links[6];
    do_register(&w->home, 3600);
    assert_int_equal(flood(links, 6, 77, true), 64); /* a quarter of 256 */
    assert_int_equal(do_open(&w->caller, &w->home, 2), 0);
    /* What ends makes room. */
    const mvpn_nat_id id = links[0].opened.ids.session;
    w->now += MVPN_S(1);
    assert_int_equal(do_open(&links[1], &w->home, 2), MVPN_REASON_BUSY);
    assert_true(message(&links[0], MVPN_CMD_NAT_CLOSE, id.b, sizeof(id.b)));
    assert_int_equal(do_open(&links[1], &w->home, 2), 0);
}

/* Of IPv6 a block is a /48: whoever rents one has 65,536 networks. */
static void test_a_block_of_v6(void **state)
{
    (void)state;
    mvpn_nat_relay_config limits = {.sessions_max = 8};
    struct fake links[4];
    start(&limits);
    do_register(&w->home, 3600);
    for (unsigned i = 0; i < 4; i++) {
        links[i] = (struct fake){.addr = {.family = 6, .port = 1, .ip = {0x2a, 1, 2, 3, 4, 5}}};
        links[i].addr.ip[i < 3 ? 6 : 5] = (uint8_t)(i + 1);
        assert_int_equal(do_open(&links[i], &w->home, 2), i == 2 ? MVPN_REASON_BUSY : 0);
    }
    /* It makes room when it ends, also in all. */
    const mvpn_nat_id id = links[0].opened.ids.session;
    assert_true(message(&links[0], MVPN_CMD_NAT_CLOSE, id.b, sizeof(id.b)));
    assert_int_equal(do_open(&links[2], &w->home, 2), 0);
    (void)teardown(NULL);
}

static void test_a_rendezvous_is_bounded(void **state)
{
    (void)state;
    static struct fake links[5][4];
    size_t sum = 0;
    do_register(&w->home, 3600);
    for (unsigned i = 0; i < 5; i++) {
        sum += flood(links[i], 4, 100 + i, true);
    }
    assert_int_equal(sum, 256);
    assert_int_equal(mvpn_nat_relay_session_count(w->relay), 256);
    w->now += MVPN_S(10);
    assert_int_equal(do_open(&w->caller, &w->home, 2), MVPN_REASON_BUSY);
}

/* Sessions opened for nothing do not keep out a caller who comes later. */
static void test_the_unanswered_give_way(void **state)
{
    (void)state;
    static struct fake links[5][4];
    do_register(&w->home, 3600);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(flood(links[i], 4, 100 + i, false), 64);
    }
    size_t count = mvpn_nat_relay_session_count(w->relay);
    assert_int_equal(count, 256);
    w->now += MVPN_S(6);
    assert_int_equal(do_open(&w->caller, &w->home, 2), 0);
    assert_int_equal(mvpn_nat_relay_session_count(w->relay), count);
    assert_int_equal(links[0][0].close_count, 1); /* the oldest, and it is told */
}

static void test_all_sessions_are_bounded(void **state)
{
    (void)state;
    mvpn_nat_relay_config limits = {.sessions_max = 8};
    mvpn_connection_id opened[2];
    struct fake a = {.addr = addr(50, 1)}, b[4] = {[3] = {.addr = addr(70, 1)}};
    start(&limits);
    do_register(&w->home, 3600);
    assert_int_equal(do_open(&a, &w->home, 2), 0);
    assert_int_equal(do_open(&a, &w->home, 2), 0);
    assert_int_equal(do_open(&a, &w->home, 2), MVPN_REASON_BUSY); /* a quarter, of one block */
    for (unsigned i = 0; i < 6; i++) {
        b[i % 3] = i < 3 ? (struct fake){.addr = addr(60 + i, 1)} : b[i % 3];
        assert_int_equal(do_open(&b[i % 3], &w->home, 2), 0);
        assert_true(goes(&w->home.addr, &b[i % 3].opened.ids.own[0], &b[i % 3].addr));
    }
    assert_int_equal(do_open(&w->caller, &w->home, 2), MVPN_REASON_BUSY);
    assert_int_equal(mvpn_nat_relay_session_count(w->relay), 8);
    w->now += MVPN_S(4);
    assert_int_equal(do_open(&w->caller, &w->home, 2), MVPN_REASON_BUSY);
    w->now += MVPN_S(2); /* two were never answered */
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(do_open(&b[3], &w->home, 2), i < 2 ? 0 : MVPN_REASON_BUSY);
        if (i < 2) {
            opened[i] = b[3].opened.ids.own[0];
        }
    }
    assert_int_equal(a.close_count, 2);
    for (unsigned i = 0; i < 2; i++) {
        assert_true(goes(&w->home.addr, &opened[i], &b[3].addr));
    }
    assert_int_equal(mvpn_nat_relay_session_count(w->relay), 8);
    w->now += MVPN_S(6); /* they are in use */
    assert_int_equal(do_open(&w->caller, &w->home, 2), MVPN_REASON_BUSY);
    (void)teardown(NULL);
}

static void test_bytes_are_bounded(void **state)
{
    (void)state;
    mvpn_nat_relay_config limits = {.session_bytes_s = 10000, .total_bytes_s = 250000};
    bool is_ours;
    start(&limits);
    join();
    mvpn_nat_ids first = w->ids;
    assert_int_equal(do_open(&w->stranger, &w->home, 2), 0);
    mvpn_nat_ids second = w->stranger.opened.ids;
    size_t through = 0;
    for (unsigned i = 0; i < 100; i++) { /* twice the rate at once */
        through += send_from(&w->caller.addr, &first.peer[0], 1000, false, &is_ours).family != 0;
    }
    assert_int_equal(through, 20);
    /* The other session has its own share, and both keep within all: 25,000 at once. */
    for (unsigned i = 0; i < 100; i++) {
        through += send_from(&w->home.addr, &second.own[0], 1000, false, &is_ours).family != 0;
    }
    assert_int_equal(through, 25);
    w->now += MVPN_S(1);
    through = 0;
    for (unsigned i = 0; i < 100; i++) {
        through += send_from(&w->caller.addr, &first.peer[0], 1000, false, &is_ours).family != 0;
    }
    assert_int_equal(through, 10);
    w->now += MVPN_S(10);
    uint64_t before = mvpn_nat_relay_get_counters(w->relay)->dropped_limit;
    assert_int_equal(before, 80 + 95 + 90);
    assert_int_equal(send_from(&w->caller.addr, &first.peer[0], 1473, false, &is_ours).family, 0);
    assert_int_equal(mvpn_nat_relay_get_counters(w->relay)->dropped_limit, before + 1);
    assert_int_equal(send_from(&w->caller.addr, &first.peer[0], 1472, false, &is_ours).family, 4);
    (void)teardown(NULL);
}

/* Unless configured otherwise: 4 MB of a session at once, a tenth of 1 Gbit of all. (§14.2) */
static void test_bytes_by_default(void **state)
{
    (void)state;
    size_t through = 0;
    do_register(&w->home, 3600);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(do_open(&w->caller, &w->home, 2), 0);
        size_t before = through;
        bool is_ours;
        for (unsigned k = 0; k < 3000; k++) {
            through +=
                send_from(&w->caller.addr, &w->caller.opened.ids.peer[0], 1472, false, &is_ours)
                    .family != 0;
        }
        assert_true(i == 3 || through - before == 4000000 / 1472);
    }
    assert_int_equal(through, 12500000 / 1472);
}

/* 10,000 sessions with 32 + 32 ids in 64 MB, each of them usable. */
static void test_memory(void **state)
{
    (void)state;
    enum { HOMES = 50, LINKS = 200, EACH = 50, ROUNDS = 4 };
    static struct fake homes[HOMES], links[LINKS];
    static mvpn_connection_id to[LINKS * EACH];
    static mvpn_nat_id sessions[LINKS * EACH];
    size_t before = mallinfo2().uordblks + mallinfo2().hblkhd;
    for (unsigned i = 0; i < HOMES; i++) {
        homes[i] = relay_at(1000 + i, i);
        do_register(&homes[i], 3600);
    }
    for (unsigned i = 0; i < LINKS; i++) {
        links[i] = (struct fake){.addr = addr(2000 + i, 1)};
    }
    for (unsigned k = 0; k < EACH; k++) {
        w->now += MVPN_MS(1500); /* each home takes 20 a second, and 4 links ask it */
        for (unsigned i = 0; i < LINKS; i++) {
            assert_int_equal(do_open(&links[i], &homes[i % HOMES], 8), 0);
            to[k * LINKS + i] = links[i].opened.ids.peer[7];
            sessions[k * LINKS + i] = links[i].opened.ids.session;
        }
        mvpn_nat_relay_tick(w->relay, w->now);
    }
    for (unsigned k = 0; k < EACH * (ROUNDS - 1); k++) {
        w->now += MVPN_MS(450);
        for (unsigned i = 0; i < LINKS; i++) {
            assert_int_equal(do_more(&links[i], &sessions[k % EACH * LINKS + i], 8), 0);
        }
    }
    assert_int_equal(mvpn_nat_relay_session_count(w->relay), 10000);
    size_t used = mallinfo2().uordblks + mallinfo2().hblkhd - before;
    print_message("10,000 sessions: %zu KiB\n", used >> 10);
    assert_true(used <= (64u << 20));
    for (unsigned i = 0; i < LINKS * EACH; i++) {
        bool is_ours;
        const struct fake *from = &links[i % LINKS], *home = &homes[i % LINKS % HOMES];
        w->now += MVPN_MS(1);
        mvpn_addr at = send_from(&from->addr, &to[i], 100, false, &is_ours);
        assert_true(mvpn_addr_eq(&at, &home->addr));
    }
    w->now += MVPN_S(130);
    mvpn_nat_relay_tick(w->relay, w->now);
    assert_int_equal(mvpn_nat_relay_session_count(w->relay), 0);
    assert_int_equal(links[3].holds, 0);
    assert_int_equal(links[3].close_count, EACH);
}

/*
 * As many links as a node has, of 200 blocks, all with an identity, each saying all it can at
 * once, again and again: memory and what is told to others are bounded, and those who were there go
 * on, and others are served once the flood's sessions have had their time.
 */
static void test_flood(void **state)
{
    (void)state;
    enum { LINKS = 4000, ROUNDS = 4 };
    static struct fake links[LINKS];
    size_t before = mallinfo2().uordblks + mallinfo2().hblkhd, told = 0;
    join();
    assert_true(goes(&w->home.addr, &w->ids.own[0], &w->caller.addr));
    struct fake late = relay_at(900, 65000), victim = relay_at(901, 65001);
    do_register(&victim, 3600);
    for (unsigned i = 0; i < LINKS; i++) {
        links[i] = relay_at(500 + i % 200, i);
        links[i].addr.port = (uint16_t)i;
    }
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (unsigned i = 0; i < LINKS; i++) {
            do_register(&links[i], 3600);
            for (unsigned k = 0; k < 8; k++) {
                struct fake *to = k == 0 ? &victim : &links[(i * 7 + k) % (i + 1)];
                (void)do_open(&links[i], to, 8);
            }
            (void)do_more(&links[i], &links[i].opened.ids.session, 8);
            (void)do_more(&links[i], &w->ids.session, 8);
            (void)ask_address(&links[i], &links[i].opened.ids.session);
            assert_int_not_equal(ask_address(&links[i], &w->ids.session), 0);
        }
        for (unsigned i = 0; i < LINKS; i++) {
            told = MVPN_MAX(told, links[i].incoming_count);
        }
        w->now += MVPN_S(1);
        mvpn_nat_relay_tick(w->relay, w->now);
    }
    size_t used = mallinfo2().uordblks + mallinfo2().hblkhd - before;
    const mvpn_nat_relay_counters *c = mvpn_nat_relay_get_counters(w->relay);
    print_message("%d links: %zu KiB, %zu sessions, %zu refused\n", LINKS, used >> 10,
                  mvpn_nat_relay_session_count(w->relay), (size_t)c->refused);
    assert_true(used <= (64u << 20));
    assert_int_equal(mvpn_nat_relay_session_count(w->relay), 10000);
    assert_in_range(victim.incoming_count, 64, 256 + ROUNDS * 20);
    assert_in_range(told, 1, 256 + ROUNDS * 20);
    /* No harm to those who were there, */
    assert_int_equal(w->home.incoming_count, 1);
    assert_true(goes(&w->caller.addr, &w->ids.peer[0], &w->home.addr));
    assert_int_equal(do_more(&w->caller, &w->ids.session, 1), 0);
    assert_int_equal(ask_address(&w->home, &w->ids.session), 0);
    /* nor to whoever calls another, or the one they all called, a moment later. */
    w->now += MVPN_S(6);
    assert_int_equal(do_open(&late, &w->home, 2), 0);
    assert_int_equal(do_open(&late, &victim, 2), 0);
    for (unsigned i = 0; i < LINKS; i++) {
        mvpn_nat_relay_link_closed(w->relay, link_of(&links[i]), w->now);
    }
    assert_int_equal(mvpn_nat_relay_session_count(w->relay), 3);
    assert_int_equal(late.close_count + w->home.close_count, 0);
}

/* A flood is a line an hour, whatever it floods with; a few refusals are none. */
static void test_flood_is_told_once(void **state)
{
    (void)state;
    mvpn_nat_relay_flood flood = {0};
    bool is_ours;
    unsigned told = 0;
    join();
    for (unsigned i = 0; i < 999; i++) {
        (void)ask_address(&w->stranger, &w->ids.session);
        assert_false(mvpn_nat_relay_flood_look(&flood, w->relay, w->now));
    }
    for (unsigned i = 0; i < 6 * 3600; i++) {
        w->now += MVPN_MS(500);
        (void)ask_address(&w->stranger, &w->ids.session);
        if (mvpn_nat_relay_flood_look(&flood, w->relay, w->now)) {
            assert_int_equal(flood.refused, told == 0 ? 1000 : 7200);
            assert_int_equal(flood.dropped, 0);
            told++;
        }
    }
    assert_int_equal(told, 3);
    flood.refused_then = mvpn_nat_relay_get_counters(w->relay)->refused;
    assert_true(goes(&w->caller.addr, &w->ids.peer[0], &w->home.addr));
    for (unsigned i = 0; i < 100000; i++) {
        assert_false(mvpn_nat_relay_flood_look(&flood, w->relay, w->now));
        (void)send_from(i % 2 == 0 ? &w->stranger.addr : &w->caller.addr, &w->ids.peer[0],
                        i % 2 == 0 ? 100 : 1473, false, &is_ours);
    }
    assert_false(mvpn_nat_relay_flood_look(&flood, w->relay, w->now));
    w->now += MVPN_S(3600);
    assert_true(mvpn_nat_relay_flood_look(&flood, w->relay, w->now));
    assert_int_equal(flood.dropped, 100000);
    w->now += MVPN_S(3600);
    assert_false(mvpn_nat_relay_flood_look(&flood, w->relay, w->now));
}

int main(void)
{
#define UNIT(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
    const struct CMUnitTest all[] = {
        UNIT(test_register),
        cmocka_unit_test(test_rendezvous_ids_stay),
        UNIT(test_a_newer_link_takes_over),
        UNIT(test_an_older_link_is_let_go),
        UNIT(test_registrations_are_bounded),
        UNIT(test_address_of_the_other_side),
        UNIT(test_forwards_both_ways),
        UNIT(test_others_go_nowhere),
        UNIT(test_follows_the_proven_address),
        UNIT(test_more_ids),
        UNIT(test_close),
        UNIT(test_close_after_registration),
        UNIT(test_called_is_deaf),
        UNIT(test_link_closed),
        UNIT(test_idle),
        UNIT(test_malformed_closes_the_link),
        UNIT(test_opens_of_one_link),
        UNIT(test_sessions_of_one_caller),
        UNIT(test_calls_are_bounded),
        UNIT(test_calls_of_one_block),
        UNIT(test_a_block_cannot_take_all),
        cmocka_unit_test(test_a_block_of_v6),
        UNIT(test_a_rendezvous_is_bounded),
        UNIT(test_the_unanswered_give_way),
        cmocka_unit_test(test_all_sessions_are_bounded),
        cmocka_unit_test(test_bytes_are_bounded),
        UNIT(test_bytes_by_default),
        UNIT(test_memory),
        UNIT(test_flood),
        UNIT(test_flood_is_told_once),
    };
    return cmocka_run_group_tests(all, NULL, NULL);
}
