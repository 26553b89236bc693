/*
 * Sessions of an exit, over circuits that come and go: who keeps a session, and what the exit does
 * for those who only try. (docs/protocol.md §7.1)
 */
#include "core/testing.h"

#include "core/relay_internal.h"
#include "core/testlab.h"
#include "network/ip/inner.h"
#include "network/ip/testing.h"

static lab *l;
static mvpn_link *link_of[2]; /* the owner's, and that of somebody else */

static void start(void (*tune)(mvpn_engine_config *config))
{
    l = lab_new(LAB_EXIT, 1, tune);
    link_of[0] = lab_join(l, 0);
    link_of[1] = lab_join(l, 1);
}

static int setup(void **state)
{
    (void)state;
    start(NULL);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    return lab_free(l) ? 0 : -1;
}

static void restart(void (*tune)(mvpn_engine_config *config))
{
    assert_true(lab_free(l));
    start(tune);
}

static mvpn_exit *the_exit(void)
{
    return mvpn_engine_exit(l->engine);
}

static size_t circuits(void)
{
    return mvpn_relay_circuit_count(mvpn_engine_relay(l->engine));
}

static lab_circuit circuit_by(size_t peer)
{
    lab_circuit c;
    if (l->peer[peer].closed > 0) { /* nobody used it for minutes */
        l->peer[peer].closed = 0;
        link_of[peer] = lab_join(l, peer);
    }
    assert_true(lab_circuit_open(l, &c, peer, link_of[peer]));
    return c;
}

static bool circuit_is(const lab_circuit *c, const lab_message *m)
{
    return memcmp(m->header.circuit.b, c->in.b, sizeof(c->in.b)) == 0;
}

/* The next cell that comes to the circuit's owner, which must be of that circuit. */
static int next_cell(lab_circuit *c, uint8_t *out, size_t *ret_len)
{
    lab_message m;
    assert_true(lab_next(l, c->peer, &m));
    assert_true(circuit_is(c, &m));
    assert_int_equal(m.header.command, MVPN_CMD_RELAY);
    return lab_open(l, c, &m, out, ret_len);
}

static void assert_silence(void)
{
    lab_for(l, MVPN_MS(20));
    assert_int_equal(l->peer[0].inbox_count, 0);
    assert_int_equal(l->peer[1].inbox_count, 0);
}

static void assert_destroyed(const lab_circuit *c, unsigned reason)
{
    lab_message m;
    lab_for(l, MVPN_MS(5));
    assert_true(lab_next(l, c->peer, &m));
    assert_true(circuit_is(c, &m));
    assert_int_equal(m.header.command, MVPN_CMD_DESTROY);
    assert_int_equal(m.bytes[0], reason);
}

typedef struct ticket {
    uint8_t b[MVPN_TICKET_LEN];
} ticket;

static uint32_t request_id = 1000;

static void send_begin(lab_circuit *c, const mvpn_begin *m)
{
    uint8_t body[64];
    size_t n = mvpn_begin_encode(body, sizeof(body), m);
    assert_true(n > 0);
    lab_cell(l, c, MVPN_CMD_RELAY_BEGIN, false, mvpn_bytes_of(body, n));
    lab_for(l, MVPN_MS(2));
}

/* The Connected that answers request_id; its ticket goes to `*t` if it is good. */
static unsigned connected(lab_circuit *c, ticket *t, unsigned *ret_flags)
{
    uint8_t out[MVPN_BODY_MAX];
    size_t n;
    mvpn_connected m;
    assert_int_equal(next_cell(c, out, &n), MVPN_CMD_RELAY_CONNECTED);
    assert_int_equal(mvpn_connected_decode(&m, mvpn_bytes_of(out, n)), 0);
    assert_int_equal(m.request_id, request_id);
    if (m.status == 0) {
        memcpy(t->b, m.ticket.p, sizeof(t->b));
        *ret_flags = m.flags;
    }
    return m.status;
}

static unsigned begin_with(lab_circuit *c, ticket *t, uint32_t epoch)
{
    unsigned flags;
    mvpn_begin m = {
        .request_id = ++request_id,
        .flags = MVPN_BEGIN_IPV6,
        .epoch = epoch,
        .ticket = epoch == 0 ? MVPN_BYTES_NONE : MVPN_BYTES_ARRAY(t->b),
    };
    send_begin(c, &m);
    return connected(c, t, &flags);
}

static ticket open_session(lab_circuit *c)
{
    ticket t = {{0}};
    assert_int_equal(begin_with(c, &t, 0), MVPN_REASON_NONE);
    return t;
}

/* Show a ticket, which stays as it is. */
static unsigned show(lab_circuit *c, const ticket *t, uint32_t epoch)
{
    ticket copy = *t;
    return begin_with(c, &copy, epoch);
}

static void send_empty_data(lab_circuit *c)
{
    lab_cell(l, c, MVPN_CMD_RELAY_DATA, false, MVPN_BYTES_NONE);
    lab_for(l, MVPN_MS(2));
}

static void send_ping_from(lab_circuit *c, const uint8_t *source)
{
    uint8_t body[200];
    size_t n = build_icmp(body + 2, 4, source, mvpn_inner_gateway(4), 8, 0, 20);
    mvpn_store16(body, (uint16_t)n);
    lab_cell(l, c, MVPN_CMD_RELAY_DATA, false, mvpn_bytes_of(body, n + 2));
    lab_for(l, MVPN_MS(2));
}

static void send_ping(lab_circuit *c)
{
    send_ping_from(c, mvpn_inner_client(4));
}

static void assert_pong(lab_circuit *c)
{
    uint8_t out[MVPN_BODY_MAX];
    size_t n;
    assert_int_equal(next_cell(c, out, &n), MVPN_CMD_RELAY_DATA);
    assert_int_equal(out[2 + 20], 0); /* echo reply */
}

/* The circuit carries the session, both ways. */
static void assert_carries(lab_circuit *c)
{
    send_ping(c);
    assert_pong(c);
    assert_silence();
}

static void assert_carries_nothing(lab_circuit *c)
{
    send_ping(c);
    assert_silence();
}

static void send_end(lab_circuit *c)
{
    lab_cell(l, c, MVPN_CMD_RELAY_END, false, MVPN_BYTES_LITERAL("\6"));
    lab_for(l, MVPN_MS(2));
}

static void destroy(lab_circuit *c)
{
    mvpn_header h = {.circuit = c->out, .command = MVPN_CMD_DESTROY, .length = 1};
    assert_int_equal(lab_send(l, c->peer, c->link, &h, MVPN_BYTES_LITERAL("\6"), true), 0);
    lab_for(l, MVPN_MS(2));
}

static uint32_t sessions(void)
{
    return mvpn_exit_session_count(the_exit());
}

static uint32_t detached(void)
{
    return mvpn_exit_session_detached_count(the_exit());
}

/* ---- take-over ---- */

static void test_a_session_moves_with_its_ticket(void **state)
{
    (void)state;
    lab_circuit c[6];
    c[0] = circuit_by(0);
    ticket t = open_session(&c[0]), before;
    assert_carries(&c[0]);
    for (uint32_t i = 1; i < MVPN_ARRAY_LEN(c); i++) {
        c[i] = circuit_by(0);
        before = t;
        assert_int_equal(begin_with(&c[i], &t, i), 0);
        assert_memory_not_equal(t.b, before.b, sizeof(t.b));
        assert_carries(&c[i]);
        send_ping(&c[i - 1]); /* was under way: the answer goes by the new one alone */
        assert_pong(&c[i]);
        assert_silence();
    }
    assert_int_equal(sessions(), 1);
    assert_int_equal(mvpn_exit_get_counters(the_exit())->sessions_opened, 1);
    assert_int_equal(mvpn_exit_get_counters(the_exit())->sessions_moved, 5);
}

static void test_the_circuit_before_drains(void **state)
{
    (void)state;
    lab_circuit a = circuit_by(0), b = circuit_by(0);
    ticket t = open_session(&a);
    assert_carries(&a);
    assert_int_equal(begin_with(&b, &t, 1), 0);
    lab_for(l, MVPN_SESSION_DRAIN_TIME - MVPN_MS(200));
    send_ping(&a);
    assert_pong(&b);
    lab_for(l, MVPN_MS(200));
    assert_carries_nothing(&a);
    assert_carries(&b);
    assert_int_equal(circuits(), 2);
    lab_for(l, IDLE_TIME - MVPN_S(1)); /* from its last cell: it leads nowhere now */
    assert_int_equal(circuits(), 2);
    lab_for(l, MVPN_S(2));
    assert_destroyed(&a, MVPN_REASON_TIMEOUT);
    assert_carries(&b);
    a = circuit_by(0);
    assert_int_equal(begin_with(&a, &t, 2), 0);
    lab_for(l, IDLE_TIME + MVPN_S(1)); /* also when it is silent */
    assert_destroyed(&b, MVPN_REASON_TIMEOUT);
    assert_carries(&a);
}

/* A third circuit: the first has had its time. */
static void test_one_circuit_drains(void **state)
{
    (void)state;
    lab_circuit a = circuit_by(0), b = circuit_by(0), d = circuit_by(0);
    ticket t = open_session(&a);
    assert_int_equal(begin_with(&b, &t, 1), 0);
    send_empty_data(&b);
    assert_int_equal(begin_with(&d, &t, 2), 0);
    assert_carries_nothing(&a);
    send_ping(&b);
    assert_pong(&d);
    assert_int_equal(begin_with(&b, &t, 3), 0); /* and back */
    send_ping(&d);
    assert_pong(&b);
    destroy(&d);
    destroy(&a);
    assert_carries(&b);
    assert_int_equal(sessions(), 1);
    assert_int_equal(detached(), 0);
}

/* What drains may begin something of its own; its data is of that then. */
static void test_a_circuit_that_drains_may_begin_anew(void **state)
{
    (void)state;
    lab_circuit a = circuit_by(0), b = circuit_by(0);
    ticket t = open_session(&a), other;
    assert_int_equal(begin_with(&b, &t, 1), 0);
    other = open_session(&a);
    assert_int_equal(sessions(), 2);
    assert_carries(&a);
    assert_carries(&b);
    lab_for(l, 2 * MVPN_SESSION_DRAIN_TIME);
    assert_carries(&a);
    assert_carries(&b);
    destroy(&a);
    assert_int_equal(detached(), 1);
    assert_carries(&b);
    a = circuit_by(0);
    assert_int_equal(show(&a, &other, 1), 0);
    assert_carries(&a);
}

static void test_a_take_over_brings_its_profile(void **state)
{
    (void)state;
    static const uint8_t far[4] = {9, 8, 7, 6};
    uint8_t body[200], out[MVPN_BODY_MAX];
    lab_circuit a = circuit_by(0), b = circuit_by(0);
    unsigned flags = 0;
    ticket t = {{0}};
    mvpn_begin m = {.request_id = ++request_id, .profile = 0}; /* no IPv6 wanted */
    send_begin(&a, &m);
    assert_int_equal(connected(&a, &t, &flags), 0);
    assert_int_equal(flags, MVPN_CONNECTED_IPV4);
    m = (mvpn_begin){++request_id, 1, MVPN_BEGIN_IPV6, 1, MVPN_BYTES_ARRAY(t.b)};
    send_begin(&b, &m);
    assert_int_equal(connected(&b, &t, &flags), 0);
    assert_int_equal(flags, MVPN_CONNECTED_IPV4); /* as it was opened */
    size_t n = build_syn(body + 2, 4, mvpn_inner_client(4), 5000, far, 80, 2, 1460, 0);
    mvpn_store16(body, (uint16_t)n);
    lab_cell(l, &b, MVPN_CMD_RELAY_DATA, false, mvpn_bytes_of(body, n + 2));
    lab_for(l, MVPN_MS(2));
    mvpn_packet *p = mvpn_packet_queue_pop(mvpn_engine_tun_out(l->engine));
    assert_non_null(p);
    assert_int_equal(mvpn_load16(p->data + 42), 1241 - 40);
    mvpn_packet_free(mvpn_engine_pool(l->engine), p);
    send_ping(&b);
    size_t len;
    lab_message cell;
    assert_true(lab_next(l, 0, &cell));
    assert_int_equal(lab_open(l, &b, &cell, out, &len), MVPN_CMD_RELAY_DATA);
}

/* An answer of the network to the only session. */
static void from_tun(unsigned tag, size_t payload)
{
    static const uint8_t far[4] = {9, 8, 7, 6};
    mvpn_addr v4 = {.family = 4}, v6;
    for (uint32_t i = 0; i < 100; i++) {
        if (mvpn_exit_session_addrs(the_exit(), 0x10000 + i, &v4, &v6) == 0) {
            break;
        }
    }
    mvpn_packet_queue q;
    mvpn_packet *p = mvpn_packet_new(mvpn_engine_pool(l->engine));
    assert_non_null(p);
    mvpn_packet_queue_init(&q);
    p->len = (uint32_t)build_udp(p->data, 4, far, 53, v4.ip, (uint16_t)(2000 + tag), payload);
    p->data[6] = 0; /* may be fragmented */
    slow_fix(p->data, p->len);
    mvpn_packet_queue_push(&q, p);
    mvpn_engine_tun_in(l->engine, &q, l->now);
    lab_settle(l);
}

/* Halves of a packet that came by the circuit before do not fit those that come by the next. */
static void test_fragments_keep_their_numbers(void **state)
{
    (void)state;
    uint8_t out[MVPN_BODY_MAX];
    uint16_t id[2][2];
    size_t n;
    lab_circuit c[2] = {circuit_by(0), circuit_by(0)};
    ticket t = open_session(&c[0]);
    for (unsigned i = 0; i < 2; i++) {
        if (i == 1) {
            assert_int_equal(begin_with(&c[1], &t, 1), 0);
        }
        from_tun(i, 1370);
        for (unsigned half = 0; half < 2; half++) {
            assert_int_equal(next_cell(&c[i], out, &n), MVPN_CMD_RELAY_DATA);
            assert_true(out[0] & 0x80);
            id[i][half] = mvpn_load16(out + 2);
        }
        assert_int_equal(id[i][0], id[i][1]);
    }
    assert_int_not_equal(id[0][0], id[1][0]);
}

static bool is_in_pool(const ticket *t)
{
    const mvpn_packet_pool *pool = mvpn_engine_pool(l->engine);
    const uint8_t *at = pool->memory, *end = at + pool->size * sizeof(mvpn_packet);
    while ((at = memchr(at, t->b[0], (size_t)(end - at) - sizeof(t->b))) != NULL) {
        if (memcmp(at, t->b, sizeof(t->b)) == 0) {
            return true;
        }
        at++;
    }
    return false;
}

/* Whoever reads the exit's memory finds no ticket in its packet buffers. */
static void test_no_ticket_stays_in_the_buffers(void **state)
{
    (void)state;
    lab_circuit a = circuit_by(0), b = circuit_by(0), d = circuit_by(0);
    ticket t = open_session(&a), used = t, wrong = t;
    assert_false(is_in_pool(&t));
    assert_int_equal(begin_with(&b, &t, 1), 0);
    assert_false(is_in_pool(&used));
    assert_false(is_in_pool(&t));
    wrong.b[3] ^= 1;
    assert_int_equal(show(&d, &wrong, 2), MVPN_REASON_SESSION_UNKNOWN);
    assert_false(is_in_pool(&wrong));
}

static void test_a_repeated_begin_is_answered_with_the_same_words(void **state)
{
    (void)state;
    lab_circuit a = circuit_by(0), b = circuit_by(0);
    ticket t = open_session(&a), used = t, again;
    unsigned flags;
    mvpn_begin m = {++request_id, 0, 0, 1, MVPN_BYTES_ARRAY(used.b)};
    send_begin(&b, &m);
    assert_int_equal(connected(&b, &t, &flags), 0);
    for (unsigned i = 0; i < 4; i++) {
        send_begin(&b, &m);
        assert_int_equal(connected(&b, &again, &flags), 0);
        assert_memory_equal(again.b, t.b, sizeof(t.b));
        send_empty_data(&b); /* also when it is confirmed */
    }
    m.request_id = ++request_id; /* one session a circuit */
    send_begin(&b, &m);
    assert_silence();
    /* A refusal too, and it counts once. */
    lab_circuit d = circuit_by(0);
    m.request_id = ++request_id;
    for (unsigned i = 0; i < 3 * TAKE_OVERS_REFUSED_MAX; i++) {
        send_begin(&d, &m);
        assert_int_equal(connected(&d, &again, &flags), MVPN_REASON_SESSION_UNKNOWN);
    }
    assert_int_equal(circuits(), 3);
    /* What the circuit before asked for is over: nothing goes down it. */
    m = (mvpn_begin){++request_id, 0, 0, 2, MVPN_BYTES_ARRAY(t.b)};
    send_begin(&d, &m);
    assert_int_equal(connected(&d, &again, &flags), 0);
    m = (mvpn_begin){request_id - 3, 0, 0, 1, MVPN_BYTES_ARRAY(used.b)};
    send_begin(&b, &m);
    assert_silence();
    assert_carries(&d);
}

/* ---- tickets in wrong hands ---- */

static void test_a_replayed_ticket(void **state)
{
    (void)state;
    lab_circuit a = circuit_by(0), b = circuit_by(0), d = circuit_by(0);
    ticket first = open_session(&a), t = first;
    assert_int_equal(begin_with(&b, &t, 1), 0);
    send_empty_data(&b);
    for (uint32_t epoch = 1; epoch < 5; epoch++) {
        assert_int_equal(show(&d, &first, epoch), MVPN_REASON_SESSION_UNKNOWN);
    }
    assert_carries(&b);
    assert_carries_nothing(&d);
    assert_int_equal(begin_with(&d, &t, 2), 0); /* the owner goes on */
    assert_carries(&d);
}

/* Somebody saw the ticket when it was used: it is worth nothing, whatever he says with it. */
static void test_a_ticket_stolen_after_use(void **state)
{
    (void)state;
    static const uint32_t epochs[] = {1, 2, 1000, UINT32_MAX};
    lab_circuit a = circuit_by(0), b = circuit_by(0), thief = circuit_by(1);
    ticket t = open_session(&a), stolen = t;
    assert_int_equal(begin_with(&b, &t, 1), 0);
    send_empty_data(&b); /* no packet in it */
    for (size_t i = 0; i < MVPN_ARRAY_LEN(epochs); i++) {
        assert_int_equal(show(&thief, &stolen, epochs[i]), MVPN_REASON_SESSION_UNKNOWN);
    }
    assert_carries_nothing(&thief);
    assert_carries(&b);
    destroy(&b); /* nor while the owner is away */
    assert_int_equal(show(&thief, &stolen, 7), MVPN_REASON_SESSION_UNKNOWN);
    b = circuit_by(0);
    assert_int_equal(begin_with(&b, &t, 2), 0);
    assert_carries(&b);
}

/* The same epoch as the owner's, before he confirmed: first come, and it is not handed on. */
static void test_a_lower_or_equal_epoch_takes_nothing(void **state)
{
    (void)state;
    lab_circuit a = circuit_by(0), b = circuit_by(0), thief = circuit_by(1);
    ticket t = open_session(&a), stolen = t;
    assert_int_equal(begin_with(&b, &t, 5), 0);
    for (uint32_t epoch = 1; epoch <= 5; epoch++) {
        assert_int_equal(show(&thief, &stolen, epoch), MVPN_REASON_SESSION_UNKNOWN);
    }
    assert_carries(&b);
}

static void test_guessed_tickets(void **state)
{
    (void)state;
    lab_circuit a = circuit_by(0);
    ticket t = open_session(&a);
    for (unsigned round = 0; round < 3; round++) {
        lab_circuit thief = circuit_by(1);
        for (unsigned i = 0; i < TAKE_OVERS_REFUSED_MAX; i++) {
            ticket guess = t;
            guess.b[(i * 5 + round) % sizeof(guess.b)] ^= 1;
            assert_int_equal(show(&thief, &guess, 1), MVPN_REASON_SESSION_UNKNOWN);
        }
        assert_destroyed(&thief, MVPN_REASON_PROTOCOL);
    }
    assert_carries(&a);
    assert_int_equal(sessions(), 1);
    lab_circuit b = circuit_by(0);
    assert_int_equal(begin_with(&b, &t, 1), 0);
    /* A refused circuit may begin anew: another request. */
    lab_circuit anew = circuit_by(1);
    for (unsigned i = 1; i < TAKE_OVERS_REFUSED_MAX; i++) {
        ticket guess = {{(uint8_t)i}};
        assert_int_equal(show(&anew, &guess, 1), MVPN_REASON_SESSION_UNKNOWN);
    }
    (void)open_session(&anew);
    assert_carries(&anew);
}

static void other_seed(mvpn_engine_config *config)
{
    config->seed[0] ^= 1;
}

/* Another exit, and this one when it has started anew, know nothing of it. */
static void test_a_ticket_at_another_exit(void **state)
{
    (void)state;
    static void (*const tune[])(mvpn_engine_config *) = {other_seed, NULL};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(tune); i++) {
        lab_circuit a = circuit_by(0);
        ticket t = open_session(&a);
        assert_carries(&a);
        restart(tune[i]);
        lab_circuit thief = circuit_by(1), b = circuit_by(0);
        assert_int_equal(show(&thief, &t, 1), MVPN_REASON_SESSION_UNKNOWN);
        (void)open_session(&b);
        assert_int_equal(sessions(), 1);
    }
}

/* ---- races, and what is lost ---- */

/* Two circuits show the same ticket: the higher epoch wins, whichever comes first. */
static void test_raced_by_two_circuits(void **state)
{
    (void)state;
    static const struct {
        uint32_t first, second;
        bool second_wins;
    } rows[] = {{1, 2, true}, {2, 1, false}, {1, 1, false}, {8, 9, true}};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        lab_circuit a = circuit_by(0), b = circuit_by(0), d = circuit_by(0);
        ticket t = open_session(&a), by_first = t, by_second = t;
        assert_int_equal(begin_with(&b, &by_first, rows[i].first), 0);
        assert_int_equal(begin_with(&d, &by_second, rows[i].second),
                         rows[i].second_wins ? MVPN_REASON_NONE : MVPN_REASON_SESSION_UNKNOWN);
        lab_circuit *winner = rows[i].second_wins ? &d : &b, *loser = rows[i].second_wins ? &b : &d;
        assert_carries(winner);
        send_ping(loser); /* it drains, or is nothing */
        if (rows[i].second_wins) {
            assert_pong(winner);
        }
        assert_silence();
        ticket *good = rows[i].second_wins ? &by_second : &by_first;
        lab_circuit next = circuit_by(0);
        if (rows[i].second_wins) {
            assert_int_equal(show(&next, &by_first, 100), MVPN_REASON_SESSION_UNKNOWN);
        }
        assert_int_equal(begin_with(&next, good, 100), 0);
        assert_carries(&next);
        send_end(&next);
        assert_int_equal(sessions(), 0);
    }
}

/* Connected did not come, since its circuit ended: the ticket shown is still good, once. */
static void test_a_lost_connected(void **state)
{
    (void)state;
    lab_circuit a = circuit_by(0), b, d;
    ticket t = open_session(&a), lost = t;
    assert_carries(&a);
    for (uint32_t epoch = 1; epoch < 4; epoch++) {
        b = circuit_by(0);
        lost = t;
        assert_int_equal(begin_with(&b, &lost, epoch), 0);
        send_ping(&a); /* what the circuit before brings shows nothing */
        assert_pong(&b);
        destroy(&b); /* nobody heard */
        assert_int_equal(detached(), 1);
    }
    d = circuit_by(0);
    ticket last = t;
    assert_int_equal(begin_with(&d, &last, 9), 0);
    send_ping(&a); /* the very first may still bring something */
    assert_pong(&d);
    send_empty_data(&d);
    b = circuit_by(0);
    assert_int_equal(show(&b, &t, 10), MVPN_REASON_SESSION_UNKNOWN);
    assert_int_equal(show(&b, &lost, 10), MVPN_REASON_SESSION_UNKNOWN);
    assert_carries(&d);
}

/* ---- detached ---- */

static void test_detached_sessions_wait(void **state)
{
    (void)state;
    for (unsigned has_passed = 0; has_passed <= 1; has_passed++) {
        mvpn_time life = has_passed ? MVPN_SESSION_DETACHED_TIME : MVPN_SESSION_UNUSED_TIME;
        lab_circuit a = circuit_by(0), b;
        ticket t = open_session(&a);
        if (has_passed) {
            assert_carries(&a);
        } else { /* what the exit refuses has not passed */
            send_ping_from(&a, mvpn_inner_gateway(4));
        }
        destroy(&a);
        assert_int_equal(detached(), 1);
        lab_for(l, life - MVPN_MS(500));
        b = circuit_by(0);
        assert_int_equal(begin_with(&b, &t, 1), 0); /* in time */
        assert_int_equal(detached(), 0);
        destroy(&b);
        lab_for(l, life - MVPN_MS(500));
        assert_int_equal(sessions(), 1);
        lab_for(l, MVPN_MS(500));
        assert_int_equal(sessions(), 0);
        b = circuit_by(0);
        assert_int_equal(show(&b, &t, 2), MVPN_REASON_SESSION_UNKNOWN);
        destroy(&b);
    }
}

static void test_a_lost_link_detaches(void **state)
{
    (void)state;
    lab_circuit a = circuit_by(0), b;
    ticket t = open_session(&a);
    assert_carries(&a);
    mvpn_link_close(link_of[0], MVPN_REASON_FINISHED, l->now);
    lab_for(l, MVPN_MS(5));
    assert_int_equal(circuits(), 0);
    assert_int_equal(detached(), 1);
    b = circuit_by(1); /* by another link */
    assert_int_equal(begin_with(&b, &t, 1), 0);
    assert_carries(&b);
}

/* What comes while nobody is there goes out with the take-over: the newest. */
static void test_packets_wait_for_their_owner(void **state)
{
    (void)state;
    const unsigned sent = MVPN_SESSION_WAITING_MAX + 10;
    lab_circuit a = circuit_by(0), b;
    ticket t = open_session(&a);
    assert_carries(&a);
    destroy(&a);
    for (unsigned i = 0; i < sent; i++) {
        from_tun(i, 20);
    }
    b = circuit_by(0);
    assert_silence();
    assert_int_equal(begin_with(&b, &t, 1), 0); /* Connected comes first */
    unsigned expected = sent - MVPN_SESSION_WAITING_MAX;
    while (l->peer[0].inbox_count > 0) {
        uint8_t out[MVPN_BODY_MAX];
        size_t n;
        assert_int_equal(next_cell(&b, out, &n), MVPN_CMD_RELAY_DATA);
        for (size_t at = 0; at < n; at += 2u + mvpn_load16(out + at)) {
            assert_int_equal(mvpn_load16(out + at + 2 + 22), 2000 + expected);
            expected++;
        }
    }
    assert_int_equal(expected, sent);
    from_tun(7, 20);
    assert_int_equal(l->peer[0].inbox_count, 1);
}

static void test_a_quarter_may_be_detached(void **state)
{
    (void)state;
    ticket t[27];
    lab_circuit c[27], d = circuit_by(0);
    for (size_t i = 0; i < MVPN_ARRAY_LEN(t); i++) { /* 100 sessions in all */
        c[i] = circuit_by(0);
        t[i] = open_session(&c[i]);
        assert_carries(&c[i]);
    }
    for (size_t i = 0; i < MVPN_ARRAY_LEN(t); i++) {
        destroy(&c[i]);
        assert_int_equal(detached(), MVPN_MIN(i + 1, (size_t)25));
    }
    assert_int_equal(sessions(), 25);
    assert_int_equal(show(&d, &t[0], 1), MVPN_REASON_SESSION_UNKNOWN);
    assert_int_equal(show(&d, &t[1], 1), MVPN_REASON_SESSION_UNKNOWN);
    assert_int_equal(show(&d, &t[2], 1), 0);
}

/* ---- no room ---- */

static const mvpn_addr resolver = {.family = 4, .port = 53, .ip = {9, 9, 9, 9}};

static void small_exit(mvpn_engine_config *config)
{
    static const mvpn_exit_config c = {
        .pool_v4 = {.family = 4, .ip = {10, 64, 0, 0}},
        .pool_v4_bits = 24,
        .pool_v6 = {.family = 6, .ip = {0xfd, 1}},
        .uplink_v6 = true,
        .dns = &resolver,
        .dns_count = 1,
        .sessions_max = 8,
    };
    config->exit = &c;
}

static void few_addresses(mvpn_engine_config *config)
{
    static const mvpn_exit_config c = {
        .pool_v4 = {.family = 4, .ip = {10, 64, 0, 0}},
        .pool_v4_bits = 29, /* five */
        .pool_v6 = {.family = 6, .ip = {0xfd, 1}},
        .uplink_v6 = true,
        .dns = &resolver,
        .dns_count = 1,
        .sessions_max = 100,
    };
    config->exit = &c;
}

static unsigned try_to_open(lab_circuit *c)
{
    ticket t;
    return begin_with(c, &t, 0);
}

/* Who is there comes before who is not. */
static void test_a_new_session_takes_a_detached_ones_place(void **state)
{
    (void)state;
    restart(small_exit);
    lab_circuit c[8], d = circuit_by(0);
    ticket t[8];
    for (size_t i = 0; i < 8; i++) {
        c[i] = circuit_by(0);
        t[i] = open_session(&c[i]);
        assert_carries(&c[i]);
    }
    assert_int_equal(try_to_open(&d), MVPN_REASON_BUSY); /* nobody gives way */
    assert_int_equal(sessions(), 8);
    destroy(&c[3]);
    destroy(&c[5]);
    assert_int_equal(try_to_open(&d), 0);
    assert_int_equal(sessions(), 8);
    assert_int_equal(detached(), 1);
    lab_circuit e = circuit_by(0);
    assert_int_equal(show(&e, &t[3], 1), MVPN_REASON_SESSION_UNKNOWN);
    assert_int_equal(show(&e, &t[5], 1), 0);
    for (size_t i = 0; i < 8; i++) {
        if (i != 3 && i != 5) {
            assert_carries(&c[i]);
        }
    }
}

/* An address rests after its session: one gives way so that there will be one, not one for each who
 * asks. */
static void test_addresses_that_rest_are_waited_for(void **state)
{
    (void)state;
    restart(few_addresses);
    lab_circuit c[5], d = circuit_by(0);
    for (size_t i = 0; i < 5; i++) {
        c[i] = circuit_by(0);
        (void)open_session(&c[i]);
        assert_carries(&c[i]);
    }
    destroy(&c[0]);
    destroy(&c[1]);
    assert_int_equal(detached(), 2);
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(try_to_open(&d), MVPN_REASON_BUSY);
        assert_int_equal(detached(), 1);
    }
    mvpn_exit_event event;
    assert_true(mvpn_exit_pull_event(the_exit(), &event));
    for (unsigned i = 0; i < 5; i++) {
        lab_for(l, MVPN_S(60)); /* it is pinged meanwhile */
        lab_cell(l, &d, MVPN_CMD_RELAY_DROP, false, MVPN_BYTES_NONE);
    }
    lab_for(l, MVPN_S(1));
    assert_int_equal(try_to_open(&d), 0);
    assert_int_equal(detached(), 1);
}

/* The month's bytes are used up: that is nobody's place to give. */
static void test_no_session_gives_way_for_the_quota(void **state)
{
    (void)state;
    lab_circuit a = circuit_by(0), d = circuit_by(0);
    ticket t = open_session(&a);
    assert_carries(&a);
    destroy(&a);
    mvpn_exit_set_quota(the_exit(), 1000, 1000);
    assert_int_equal(try_to_open(&d), MVPN_REASON_BUSY);
    assert_int_equal(detached(), 1);
    assert_int_equal(begin_with(&d, &t, 1), 0); /* whoever is in stays in */
}

/* ---- the end ---- */

static void test_relay_end(void **state)
{
    (void)state;
    lab_circuit a = circuit_by(0), b = circuit_by(0), d = circuit_by(0);
    ticket t = open_session(&a);
    assert_carries(&a);
    assert_int_equal(begin_with(&b, &t, 1), 0);
    send_end(&a); /* drains: what it says of the session is over */
    assert_carries(&b);
    send_ping(&a);
    assert_pong(&b);
    send_end(&d); /* never had one */
    assert_int_equal(sessions(), 1);
    send_end(&b);
    assert_int_equal(sessions(), 0);
    assert_carries_nothing(&b);
    assert_carries_nothing(&a);
    assert_int_equal(show(&d, &t, 2), MVPN_REASON_SESSION_UNKNOWN);
    assert_int_equal(circuits(), 3);
    (void)open_session(&b); /* and anew */
    assert_carries(&b);
}

/* The exit goes: clients hear of it, by the circuits that carry sessions and by no other. */
static void test_the_end_of_the_exit_is_told(void **state)
{
    (void)state;
    lab_circuit a = circuit_by(0), b = circuit_by(0), idle = circuit_by(0);
    ticket t = open_session(&a);
    assert_int_equal(begin_with(&b, &t, 1), 0);
    (void)idle;
    mvpn_engine_shutdown(l->engine, l->now);
    mvpn_packet *p;
    mvpn_packet_queue *out = mvpn_engine_datagrams_out(l->engine);
    unsigned told = 0;
    while ((p = mvpn_packet_queue_pop(out)) != NULL) {
        lab_message m;
        mvpn_packet *copy = test_packet_of(&l->peer[0].pool, p->data, p->len);
        copy->remote = l->self.addr;
        if (mvpn_addr_eq(&p->remote, &l->peer[0].addr) &&
            mvpn_links_recv(l->peer[0].links, copy, l->now, &m.link, &m.header) == 1) {
            uint8_t bytes[MVPN_BODY_MAX];
            size_t n;
            m.len = copy->len;
            memcpy(m.bytes, copy->data, copy->len);
            if (m.header.command == MVPN_CMD_RELAY) {
                assert_true(circuit_is(&b, &m));
                assert_int_equal(lab_open(l, &b, &m, bytes, &n), MVPN_CMD_RELAY_END);
                assert_int_equal(bytes[0], MVPN_REASON_FINISHED);
                told++;
            }
            mvpn_packet_free(&l->peer[0].pool, copy);
        } else if (!mvpn_addr_eq(&p->remote, &l->peer[0].addr)) {
            mvpn_packet_free(&l->peer[0].pool, copy);
        }
        mvpn_packet_free(mvpn_engine_pool(l->engine), p);
    }
    assert_int_equal(told, 1);
    mvpn_policy_error error;
    mvpn_engine_free(l->engine);
    assert_int_equal(mvpn_engine_new(&l->config, l->now, &l->engine, &error), 0); /* to be freed */
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_a_session_moves_with_its_ticket),
        TEST(test_the_circuit_before_drains),
        TEST(test_one_circuit_drains),
        TEST(test_a_circuit_that_drains_may_begin_anew),
        TEST(test_a_take_over_brings_its_profile),
        TEST(test_fragments_keep_their_numbers),
        TEST(test_no_ticket_stays_in_the_buffers),
        TEST(test_a_repeated_begin_is_answered_with_the_same_words),
        TEST(test_a_replayed_ticket),
        TEST(test_a_ticket_stolen_after_use),
        TEST(test_a_lower_or_equal_epoch_takes_nothing),
        TEST(test_guessed_tickets),
        TEST(test_a_ticket_at_another_exit),
        TEST(test_raced_by_two_circuits),
        TEST(test_a_lost_connected),
        TEST(test_detached_sessions_wait),
        TEST(test_a_lost_link_detaches),
        TEST(test_packets_wait_for_their_owner),
        TEST(test_a_quarter_may_be_detached),
        TEST(test_a_new_session_takes_a_detached_ones_place),
        TEST(test_addresses_that_rest_are_waited_for),
        TEST(test_no_session_gives_way_for_the_quota),
        TEST(test_relay_end),
        TEST(test_the_end_of_the_exit_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
