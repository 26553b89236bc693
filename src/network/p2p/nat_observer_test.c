/* The relay that answers probes: whom it answers, from where, how much at most. The links under it
 * are put in by the linker. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "network/p2p/nat_observer.h"
#include "wire/circuit.h"

#define POOL 1024
#define FAKES 200

struct fake {
    mvpn_addr addr;
    bool has_identity, is_closed, is_relayed, refuses;
    bool has_called; /* it opened the link */
    mvpn_ed25519_pub identity;
    size_t probed_count, for_count;
    mvpn_nat_probed probed; /* the latest told */
    mvpn_nat_probe_for asked_for;
};

struct world {
    mvpn_rng rng;
    mvpn_packet_pool pool;
    mvpn_packet_queue out;
    mvpn_nat_observer *o;
    mvpn_time now;
    struct fake fake[FAKES];
    mvpn_connection_id used; /* by a link */
    uint64_t tokens;
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
bool __wrap_mvpn_link_is_initiator(const mvpn_link *link);
bool __wrap_mvpn_link_is_relayed(const mvpn_link *link);
bool __wrap_mvpn_links_has_id(mvpn_links *links, const mvpn_connection_id *id);

int __wrap_mvpn_link_send(mvpn_link *link, mvpn_packet *packet, const mvpn_header *header,
                          bool acked, mvpn_time now)
{
    struct fake *f = fake_of(link);
    mvpn_bytes body = mvpn_bytes_of(packet->data, packet->len);
    (void)now;
    assert_true(acked);
    assert_false(f->is_closed);
    assert_int_equal(header->length, packet->len);
    if (header->command == MVPN_CMD_NAT_PROBED) {
        assert_int_equal(mvpn_nat_probed_decode(&f->probed, body), 0);
        f->probed_count++;
    } else {
        assert_int_equal(header->command, MVPN_CMD_NAT_PROBE_FOR);
        assert_int_equal(mvpn_nat_probe_for_decode(&f->asked_for, body), 0);
        f->for_count++;
    }
    mvpn_packet_free(&w->pool, packet);
    return f->refuses ? MVPN_E_LIMIT : 0;
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

bool __wrap_mvpn_link_is_initiator(const mvpn_link *link)
{
    return !fake_of(link)->has_called;
}

bool __wrap_mvpn_link_is_relayed(const mvpn_link *link)
{
    return fake_of(link)->is_relayed;
}

bool __wrap_mvpn_links_has_id(mvpn_links *links, const mvpn_connection_id *id)
{
    (void)links;
    return memcmp(id->b, w->used.b, sizeof(id->b)) == 0;
}

static const mvpn_addr own = {.family = 4, .port = 443, .ip = {45, 1, 1, 1}};

static mvpn_addr addr_of(size_t i)
{
    return (mvpn_addr){.family = 4, .port = 5000, .ip = {46, 2, (uint8_t)(i >> 8), (uint8_t)i}};
}

static int setup(void **state)
{
    (void)state;
    w = calloc(1, sizeof(*w));
    assert_non_null(w);
    mvpn_rng_init_test(&w->rng, 7);
    assert_int_equal(mvpn_packet_pool_init(&w->pool, POOL), 0);
    mvpn_packet_queue_init(&w->out);
    w->now = MVPN_S(1000);
    const mvpn_nat_observer_config c = {.rng = &w->rng, .pool = &w->pool, .out = &w->out};
    assert_int_equal(mvpn_nat_observer_new(&c, w->now, &w->o), 0);
    for (size_t i = 0; i < FAKES; i++) {
        w->fake[i].addr = addr_of(i + 1);
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mvpn_nat_observer_free(w->o);
    mvpn_packet_queue_clear(&w->out, &w->pool);
    assert_int_equal(w->pool.free_count, POOL); /* no packet was lost */
    mvpn_packet_pool_done(&w->pool);
    free(w);
    return 0;
}

static mvpn_probe_token new_token(void)
{
    mvpn_probe_token t = {{0x77}};
    mvpn_store32(t.b + 4, (uint32_t)++w->tokens);
    return t;
}

static mvpn_probe_token ask(struct fake *f, unsigned kind, unsigned delay_s)
{
    uint8_t body[MVPN_NAT_PROBE_LEN];
    const mvpn_nat_probe_ask m = {new_token(), (uint8_t)kind, (uint8_t)delay_s};
    mvpn_nat_probe_encode(body, &m);
    assert_int_equal(
        mvpn_nat_observer_ask(w->o, link_of(f), mvpn_bytes_of(body, sizeof(body)), w->now), 0);
    return m.token;
}

static void ask_for(struct fake *f, const mvpn_addr *to)
{
    uint8_t body[MVPN_NAT_PROBE_FOR_LEN];
    const mvpn_nat_probe_for m = {new_token(), *to};
    mvpn_nat_probe_for_encode(body, &m);
    assert_int_equal(
        mvpn_nat_observer_ask_for(w->o, link_of(f), mvpn_bytes_of(body, sizeof(body)), w->now), 0);
}

/* Is it taken for one that was awaited? */
static bool arrives(const mvpn_addr *from, const mvpn_probe_token *token)
{
    mvpn_packet *p = mvpn_packet_new(&w->pool);
    assert_non_null(p);
    (void)mvpn_packet_append(p, MVPN_PROBE_LEN);
    p->remote = *from;
    bool is_taken = mvpn_nat_observer_datagram(w->o, p, token, w->now);
    mvpn_packet_free(&w->pool, p);
    return is_taken;
}

/* The only probe that goes out: where to, from which socket (`local`), with that token. */
static mvpn_addr goes_out(const mvpn_probe_token *token, uint16_t local)
{
    mvpn_probe_token got;
    mvpn_packet *p = mvpn_packet_queue_pop(&w->out);
    assert_non_null(p);
    assert_int_equal(w->out.count, 0);
    assert_int_equal(mvpn_probe_decode(&got, mvpn_bytes_of(p->data, p->len)), 0);
    assert_memory_equal(got.b, token->b, sizeof(got.b));
    assert_int_equal(p->local, local);
    mvpn_addr to = p->remote;
    mvpn_packet_free(&w->pool, p);
    return to;
}

/* How many go out, at most. */
static size_t outs(void)
{
    size_t n = w->out.count;
    mvpn_packet_queue_clear(&w->out, &w->pool);
    return n;
}

static void pass(mvpn_time span)
{
    w->now += span;
    mvpn_nat_observer_tick(w->o, w->now);
}

static void make_relay(struct fake *f, size_t i)
{
    f->has_identity = true;
    f->identity.b[0] = (uint8_t)i;
    mvpn_nat_observer_link_opened(w->o, link_of(f), w->now);
}

static const mvpn_nat_observer_counters *counters(void)
{
    return mvpn_nat_observer_get_counters(w->o);
}

/* Only to where the probe came from, only if that is the link's ip, and once. */
static void test_other_port(void **state)
{
    (void)state;
    struct fake *f = &w->fake[0];
    mvpn_addr from = f->addr, stranger = addr_of(99);
    mvpn_probe_token t = ask(f, MVPN_PROBE_OTHER_PORT, 0);
    assert_int_equal(outs(), 0); /* nothing at the message's word */
    assert_false(arrives(&stranger, &t));
    assert_int_equal(counters()->dropped_source, 1);
    assert_int_equal(outs() + f->probed_count, 0);
    from.port = 61000;
    assert_true(arrives(&from, &t));
    mvpn_addr to = goes_out(&t, MVPN_LOCAL_PROBE);
    assert_true(mvpn_addr_eq(&to, &from));
    assert_int_equal(f->probed_count, 1);
    assert_int_equal(f->probed.status, 0);
    assert_memory_equal(f->probed.token.b, t.b, sizeof(t.b));
    assert_true(mvpn_addr_eq(&f->probed.seen, &from));
    for (unsigned i = 0; i < 100; i++) { /* a flood of the same */
        assert_false(arrives(&from, &t));
    }
    assert_int_equal(outs(), 0);
    assert_int_equal(f->probed_count, 1);
}

static void test_unknown_and_late(void **state)
{
    (void)state;
    struct fake *f = &w->fake[0];
    mvpn_probe_token forged = new_token(), t = ask(f, MVPN_PROBE_OTHER_PORT, 0);
    assert_true(mvpn_nat_observer_is_awaiting(w->o));
    assert_false(arrives(&f->addr, &forged));
    assert_int_equal(mvpn_nat_observer_deadline(w->o), w->now + MVPN_S(3));
    pass(MVPN_S(3));
    assert_false(mvpn_nat_observer_is_awaiting(w->o));
    assert_false(arrives(&f->addr, &t));
    assert_int_equal(outs(), 0);
    assert_int_equal(mvpn_nat_observer_deadline(w->o), MVPN_TIME_NEVER);
}

/* The same token at two links: each is answered by its own ip. */
static void test_same_token(void **state)
{
    (void)state;
    mvpn_probe_token t = ask(&w->fake[0], MVPN_PROBE_OTHER_PORT, 0);
    w->tokens--;
    assert_memory_equal(ask(&w->fake[1], MVPN_PROBE_OTHER_PORT, 0).b, t.b, sizeof(t.b));
    assert_true(arrives(&w->fake[0].addr, &t));
    assert_int_equal(w->fake[0].probed_count, 1);
    assert_int_equal(w->fake[1].probed_count, 0);
    assert_true(arrives(&w->fake[1].addr, &t));
    assert_int_equal(w->fake[1].probed_count, 1);
    assert_int_equal(outs(), 2);
}

static void test_garbage(void **state)
{
    (void)state;
    static const uint8_t body[40] = {[8] = 9};
    for (size_t n = 0; n <= sizeof(body); n++) {
        mvpn_bytes b = mvpn_bytes_of(body, n);
        assert_int_equal(mvpn_nat_observer_ask(w->o, link_of(&w->fake[0]), b, w->now),
                         MVPN_E_FORMAT);
        assert_int_equal(mvpn_nat_observer_ask_for(w->o, link_of(&w->fake[0]), b, w->now),
                         MVPN_E_FORMAT);
    }
    assert_int_equal(counters()->asked, 0);
}

/* A link's id as token would take that link's packets away. */
static void test_connection_id(void **state)
{
    (void)state;
    struct fake *f = &w->fake[0];
    mvpn_probe_token next = new_token();
    memcpy(w->used.b, next.b, sizeof(next.b));
    w->tokens--;
    mvpn_probe_token t = ask(f, MVPN_PROBE_OTHER_PORT, 0);
    assert_memory_equal(t.b, next.b, sizeof(t.b));
    assert_int_equal(f->probed.status, MVPN_REASON_REFUSED);
    assert_false(arrives(&f->addr, &t));
    assert_false(mvpn_nat_observer_is_awaiting(w->o));
}

/* A flood of questions: few are awaited, few are answered, few refusals are told. */
static void test_flood(void **state)
{
    (void)state;
    struct fake *f = &w->fake[0];
    mvpn_probe_token t[1000];
    size_t answered = 0;
    for (size_t i = 0; i < 1000; i++) {
        t[i] = ask(f, MVPN_PROBE_OTHER_PORT, 0);
    }
    assert_int_equal(outs(), 0);
    assert_int_equal(counters()->asked, 1000);
    assert_int_equal(counters()->dropped_limit, 1000 - 24);
    assert_int_equal(f->probed_count, 24);
    assert_int_equal(f->probed.status, MVPN_REASON_BUSY);
    for (size_t i = 0; i < 1000; i++) {
        answered += arrives(&f->addr, &t[i]);
    }
    assert_int_equal(answered, 8);
    assert_int_equal(outs(), 8);
    /* Another link is served all the same; this one again after a second. */
    mvpn_probe_token other = ask(&w->fake[1], MVPN_PROBE_OTHER_PORT, 0);
    assert_true(arrives(&w->fake[1].addr, &other));
    assert_int_equal(w->fake[1].probed.status, 0);
    pass(MVPN_S(1));
    other = ask(f, MVPN_PROBE_OTHER_PORT, 0);
    assert_true(arrives(&f->addr, &other));
    /* Never more out than came in. */
    assert_int_equal(outs(), 2);
}

static void test_later(void **state)
{
    (void)state;
    struct fake *f = &w->fake[0];
    mvpn_addr from = f->addr;
    mvpn_probe_token t = ask(f, MVPN_PROBE_SAME_PORT, 0);
    assert_true(arrives(&from, &t));
    (void)goes_out(&t, MVPN_LOCAL_MAIN); /* without delay: at once */
    t = ask(f, MVPN_PROBE_SAME_PORT, 20);
    from.port = 777;
    assert_true(arrives(&from, &t));
    assert_int_equal(f->probed.status, 0);
    assert_int_equal(outs(), 0);
    pass(MVPN_S(20) - 1);
    assert_int_equal(outs(), 0);
    assert_int_equal(mvpn_nat_observer_deadline(w->o), w->now + 1);
    pass(1);
    mvpn_addr to = goes_out(&t, MVPN_LOCAL_MAIN);
    assert_true(mvpn_addr_eq(&to, &from));
    pass(MVPN_S(500));
    assert_int_equal(outs(), 0); /* once */
    t = ask(f, MVPN_PROBE_SAME_PORT, 20);
    assert_true(arrives(&from, &t));
    pass(MVPN_S(20));
    assert_int_equal(outs(), 1); /* not the former with it */
}

/* Two of a link, 256 of all; a link that closes gives its places back. */
static void test_later_exhausted(void **state)
{
    (void)state;
    mvpn_probe_token t;
    for (size_t i = 0; i < 130; i++) {
        for (size_t k = 0; k < 3; k++) {
            t = ask(&w->fake[i], MVPN_PROBE_SAME_PORT, 250);
            assert_true(arrives(&w->fake[i].addr, &t));
            unsigned want = k < 2 && i < 128 ? 0 : MVPN_REASON_BUSY;
            assert_int_equal(w->fake[i].probed.status, want);
        }
    }
    w->fake[5].is_closed = true;
    mvpn_nat_observer_link_closed(w->o, link_of(&w->fake[5]));
    for (size_t k = 0; k < 2; k++) {
        t = ask(&w->fake[129], MVPN_PROBE_SAME_PORT, 250);
        assert_true(arrives(&w->fake[129].addr, &t));
        assert_int_equal(w->fake[129].probed.status, 0);
    }
    assert_int_equal(outs(), 0);
    pass(MVPN_S(250));
    assert_int_equal(outs(), 256);
}

/* A link that closes leaves nothing behind. */
static void test_link_closed(void **state)
{
    (void)state;
    struct fake *f = &w->fake[0];
    make_relay(f, 1);
    mvpn_probe_token later = ask(f, MVPN_PROBE_SAME_PORT, 9), t;
    assert_true(arrives(&f->addr, &later));
    t = ask(f, MVPN_PROBE_OTHER_PORT, 0);
    f->is_closed = true;
    mvpn_nat_observer_link_closed(w->o, link_of(f));
    assert_false(mvpn_nat_observer_is_awaiting(w->o));
    assert_false(arrives(&f->addr, &t));
    pass(MVPN_S(10));
    assert_int_equal(outs(), 0);
    mvpn_nat_observer_link_closed(w->o, link_of(f)); /* of one that never asked */
    t = ask(&w->fake[1], MVPN_PROBE_OTHER_RELAY, 0);
    assert_true(arrives(&w->fake[1].addr, &t));
    assert_int_equal(w->fake[1].probed.status, MVPN_REASON_UNREACHABLE);
}

/* Another relay: not the asker, nobody at its ip, none of another family or that is not reached
 * directly, and no client. */
static void test_other_relay(void **state)
{
    (void)state;
    struct fake *f = &w->fake[0];
    for (size_t i = 0; i < 6; i++) {
        w->fake[i].is_relayed = i == 4;
        if (i < 5) {
            make_relay(&w->fake[i], i);
        } else {
            mvpn_nat_observer_link_opened(w->o, link_of(&w->fake[i]), w->now);
        }
    }
    w->fake[1].addr.family = 6;
    memcpy(w->fake[2].addr.ip, f->addr.ip, sizeof(f->addr.ip));
    w->fake[3].is_closed = true;
    mvpn_probe_token t = ask(f, MVPN_PROBE_OTHER_RELAY, 0);
    assert_true(arrives(&f->addr, &t));
    assert_int_equal(f->probed.status, MVPN_REASON_UNREACHABLE);
    w->fake[3].is_closed = false;
    t = ask(f, MVPN_PROBE_OTHER_RELAY, 0);
    assert_true(arrives(&f->addr, &t));
    assert_int_equal(f->probed.status, 0);
    assert_int_equal(w->fake[3].for_count, 1);
    assert_memory_equal(w->fake[3].asked_for.token.b, t.b, sizeof(t.b));
    assert_true(mvpn_addr_eq(&w->fake[3].asked_for.to, &f->addr));
    assert_int_equal(outs(), 0); /* not we */
    w->fake[3].refuses = true;
    t = ask(f, MVPN_PROBE_OTHER_RELAY, 0);
    assert_true(arrives(&f->addr, &t));
    assert_int_equal(f->probed.status, MVPN_REASON_UNREACHABLE);
    w->fake[3].refuses = false;
    for (size_t i = 0; i < 12; i++) { /* no more than it takes: it would say nothing */
        t = ask(f, MVPN_PROBE_OTHER_RELAY, 0);
        assert_true(arrives(&f->addr, &t));
    }
    assert_int_equal(w->fake[3].for_count, 8);
    assert_int_equal(f->probed.status, MVPN_REASON_UNREACHABLE);
}

/* One that we reached is sure to reach others; one that called us is better than none. */
static void test_reached_first(void **state)
{
    (void)state;
    struct fake *f = &w->fake[0];
    for (size_t i = 1; i <= 20; i++) {
        w->fake[i].has_called = i != 13;
        make_relay(&w->fake[i], i);
    }
    for (size_t i = 0; i < 10; i++) {
        mvpn_probe_token t = ask(f, MVPN_PROBE_OTHER_RELAY, 0);
        assert_true(arrives(&f->addr, &t));
        assert_int_equal(f->probed.status, 0);
        assert_int_equal(w->fake[13].for_count, i < 8 ? i + 1 : 8);
    }
}

/* All relays are drawn. */
static void test_relays_drawn(void **state)
{
    (void)state;
    size_t total = 0;
    for (size_t i = 1; i <= 100; i++) {
        make_relay(&w->fake[i], i);
    }
    for (size_t i = 0; i < 1000; i++) {
        struct fake *f = &w->fake[150];
        mvpn_probe_token t = ask(f, MVPN_PROBE_OTHER_RELAY, 0);
        assert_true(arrives(&f->addr, &t));
        pass(MVPN_S(1));
    }
    for (size_t i = 1; i <= 100; i++) {
        assert_true((w->fake[i].for_count > 0) == (i <= 64));
        total += w->fake[i].for_count;
    }
    assert_int_equal(total, 1000);
}

static void test_for(void **state)
{
    (void)state;
    mvpn_addr victim = addr_of(150), private = {.family = 4, .port = 9, .ip = {10, 0, 0, 1}};
    mvpn_addr self = own;
    mvpn_nat_observer_set_own(w->o, &own);
    ask_for(&w->fake[0], &victim); /* a client's word */
    assert_int_equal(outs(), 0);
    make_relay(&w->fake[0], 0);
    ask_for(&w->fake[0], &private);
    ask_for(&w->fake[0], &self);
    self.port = 9;
    ask_for(&w->fake[0], &self);
    assert_int_equal(outs(), 0);
    assert_int_equal(counters()->dropped_limit, 4);
    pass(MVPN_S(10));
    ask_for(&w->fake[0], &victim);
    mvpn_probe_token t = {{0x77}};
    mvpn_store32(t.b + 4, (uint32_t)w->tokens);
    mvpn_addr to = goes_out(&t, MVPN_LOCAL_PROBE); /* not where links are */
    assert_true(mvpn_addr_eq(&to, &victim));
    assert_int_equal(counters()->sent_for, 1);
}

/* A relay has 8 at once and one a second, whomever it names. */
static void test_for_link(void **state)
{
    (void)state;
    make_relay(&w->fake[0], 0);
    for (size_t i = 0; i < 100; i++) {
        mvpn_addr to = addr_of(1000 + i);
        ask_for(&w->fake[0], &to);
    }
    assert_int_equal(outs(), 8);
    pass(MVPN_S(1));
    for (size_t i = 0; i < 100; i++) {
        mvpn_addr to = addr_of(2000 + i);
        ask_for(&w->fake[0], &to);
    }
    assert_int_equal(outs(), 1);
}

/* Many relays that name one victim: 8 at once and one a minute, at whatever port, or in its /48. */
static void test_for_victim(void **state)
{
    (void)state;
    for (unsigned family = 4; family <= 6; family += 2) {
        for (size_t i = 0; i < 30; i++) {
            mvpn_addr to = {.family = (uint8_t)family, .port = (uint16_t)(1 + i), .ip = {46, 1, 2}};
            to.ip[3] = (uint8_t)(family == 6 ? 4 : 9);
            to.ip[family == 6 ? 6 : 3] |= (uint8_t)(family == 6 ? i : 0);
            make_relay(&w->fake[i], i);
            ask_for(&w->fake[i], &to);
        }
        assert_int_equal(outs(), 8);
        pass(MVPN_S(60));
        for (size_t i = 0; i < 30; i++) {
            mvpn_addr to = {
                .family = (uint8_t)family, .port = (uint16_t)(99 + i), .ip = {46, 1, 2}};
            to.ip[3] = (uint8_t)(family == 6 ? 4 : 9);
            ask_for(&w->fake[i], &to);
        }
        assert_int_equal(outs(), 1);
        pass(MVPN_S(60));
    }
}

/* Many relays and many victims: 40 at once, 20 a second. */
static void test_for_all(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 2; round++) {
        for (size_t i = 0; i < FAKES; i++) {
            mvpn_addr to = addr_of(4000 + 500 * round + i);
            if (round == 0) {
                make_relay(&w->fake[i], i);
            }
            ask_for(&w->fake[i], &to);
        }
        assert_int_equal(outs(), round == 0 ? 40 : 20);
        pass(MVPN_S(1));
    }
}

/* The port of the other socket is learnt by a probe to ourselves, told to askers, forgotten with
 * the socket. */
static void test_own_port(void **state)
{
    (void)state;
    struct fake *f = &w->fake[0];
    mvpn_probe_token self, t;
    mvpn_addr other = own, liar = addr_of(7);
    mvpn_nat_observer_set_own(w->o, &own);
    t = ask(f, MVPN_PROBE_OTHER_PORT, 0);
    mvpn_packet *p = mvpn_packet_queue_pop(&w->out);
    assert_non_null(p);
    assert_true(mvpn_addr_eq(&p->remote, &own));
    assert_int_equal(p->local, MVPN_LOCAL_PROBE);
    assert_int_equal(mvpn_probe_decode(&self, mvpn_bytes_of(p->data, p->len)), 0);
    mvpn_packet_free(&w->pool, p);
    assert_false(arrives(&liar, &self));
    other.port = 40404;
    assert_true(arrives(&other, &self));
    assert_false(arrives(&other, &self));
    assert_true(arrives(&f->addr, &t));
    assert_int_equal(f->probed.other_port, 40404);
    assert_int_equal(outs(), 1);
    (void)ask(f, MVPN_PROBE_OTHER_PORT, 0);
    assert_int_equal(outs(), 0); /* it is known */
    assert_true(mvpn_nat_observer_uses_socket(w->o));
    pass(MVPN_S(60));
    assert_false(mvpn_nat_observer_uses_socket(w->o));
    t = ask(f, MVPN_PROBE_SAME_PORT, 0);
    assert_int_equal(outs(), 1); /* to be learnt anew */
    assert_true(arrives(&f->addr, &t));
    assert_int_equal(f->probed.other_port, 0);
    for (size_t i = 0; i < 10; i++) { /* once a second where it cannot be */
        (void)ask(f, MVPN_PROBE_SAME_PORT, 0);
    }
    assert_int_equal(outs(), 1); /* the answer to the probe before */
}

/* No packets left: nothing goes out, nothing breaks. */
static void test_no_packets(void **state)
{
    (void)state;
    mvpn_packet_queue all;
    struct fake *f = &w->fake[0];
    make_relay(&w->fake[1], 1);
    mvpn_probe_token t[3];
    for (unsigned kind = 1; kind <= 3; kind++) {
        t[kind - 1] = ask(f, kind, 0);
    }
    mvpn_packet *p = mvpn_packet_new(&w->pool), *other;
    mvpn_packet_queue_init(&all);
    while ((other = mvpn_packet_new(&w->pool)) != NULL) {
        mvpn_packet_queue_push(&all, other);
    }
    p->remote = f->addr;
    for (unsigned i = 0; i < 3; i++) {
        assert_true(mvpn_nat_observer_datagram(w->o, p, &t[i], w->now));
    }
    assert_int_equal(outs() + f->probed_count, 0);
    mvpn_packet_free(&w->pool, p);
    mvpn_packet_queue_clear(&all, &w->pool);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_other_port),
        T(test_unknown_and_late),
        T(test_same_token),
        T(test_garbage),
        T(test_connection_id),
        T(test_flood),
        T(test_later),
        T(test_link_closed),
        T(test_later_exhausted),
        T(test_other_relay),
        T(test_for),
        T(test_relays_drawn),
        T(test_reached_first),
        T(test_for_link),
        T(test_for_victim),
        T(test_for_all),
        T(test_own_port),
        T(test_no_packets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
