/* Sessions of an exit: who may take which over, and when one is given up. (docs/protocol.md §7.1)
 */
#include "core/testing.h"

#include <string.h>

#include "base/error.h"
#include "core/sessions.h"

#define POOL 4096
#define SESSIONS 64

struct relay_circuit {
    int unused;
};

static mvpn_rng rng;
static mvpn_packet_pool pool;
static mvpn_sessions table;
static mvpn_session session[SESSIONS];
static struct relay_circuit circuit[8];
static struct relay_circuit *const a = &circuit[0], *const b = &circuit[1], *const d = &circuit[2];
static const mvpn_time t0 = MVPN_S(5000);

typedef struct ticket {
    uint8_t b[MVPN_TICKET_LEN];
} ticket;

static int setup(void **state)
{
    (void)state;
    mvpn_rng_init_test(&rng, 7);
    memset(session, 0, sizeof(session));
    return mvpn_packet_pool_init(&pool, POOL) != 0 ||
           mvpn_sessions_init(&table, &rng, &pool, SESSIONS) != 0;
}

static int teardown(void **state)
{
    (void)state;
    for (size_t i = 0; i < SESSIONS; i++) {
        if (session[i].next.session != NULL) {
            mvpn_session_close(&table, &session[i]);
        }
    }
    mvpn_sessions_done(&table);
    bool is_whole = pool.free_count == pool.size;
    mvpn_packet_pool_done(&pool);
    return is_whole ? 0 : -1;
}

static ticket next_of(const mvpn_session *s)
{
    ticket t;
    memcpy(t.b, s->next.bytes, sizeof(t.b));
    return t;
}

static ticket open_session(mvpn_session *s, struct relay_circuit *c)
{
    mvpn_session_open(&table, s, c, t0);
    return next_of(s);
}

static int find(const ticket *t, uint32_t epoch)
{
    mvpn_session *s;
    return mvpn_sessions_find(&table, t->b, epoch, t0, &s);
}

/* Show a ticket; 0 and `*t` becomes the next one. */
static int show(ticket *t, uint32_t epoch, struct relay_circuit *c, mvpn_time now)
{
    mvpn_session *s;
    int r = mvpn_sessions_find(&table, t->b, epoch, now, &s);
    if (r == 0) {
        (void)mvpn_session_take_over(&table, s, t->b, epoch, c, now);
        *t = next_of(s);
    }
    return r;
}

static void assert_refused(const ticket *t, uint32_t epoch)
{
    assert_int_equal(find(t, epoch), MVPN_E_UNKNOWN);
}

static void test_a_ticket_opens_it_once_more(void **state)
{
    (void)state;
    mvpn_session *s = &session[0];
    ticket t = open_session(s, a), first = t;
    for (uint32_t epoch = 1; epoch <= 10; epoch++) {
        ticket used = t;
        struct relay_circuit *to = epoch % 2 ? b : a, *from = epoch % 2 ? a : b;
        assert_int_equal(show(&t, epoch, to, t0), 0);
        assert_ptr_equal(s->circuit, to);
        assert_ptr_equal(s->draining, from);
        assert_int_equal(s->epoch, epoch);
        assert_memory_not_equal(t.b, used.b, sizeof(t.b));
        assert_int_equal(find(&used, epoch + 1), 0); /* its Connected may be lost */
        mvpn_session_confirm(&table, s);
        assert_refused(&used, epoch + 1);
        assert_refused(&used, UINT32_MAX);
        assert_refused(&first, UINT32_MAX);
    }
}

static void test_guessed(void **state)
{
    (void)state;
    ticket right = open_session(&session[0], a), t;
    for (size_t i = 0; i < 8 * sizeof(t.b); i++) { /* also those that hash alike */
        t = right;
        t.b[i / 8] ^= (uint8_t)(1u << i % 8);
        assert_refused(&t, 1);
    }
    memset(t.b, 0, sizeof(t.b)); /* what a wiped one looks like */
    assert_refused(&t, 1);
    assert_int_equal(find(&right, 1), 0);
}

/* Two circuits show the same ticket: the higher epoch wins, whichever comes first. */
static void test_raced(void **state)
{
    (void)state;
    static const struct {
        uint32_t first, second;
        int result;
    } rows[] = {
        {1, 2, 0},
        {2, 1, MVPN_E_UNKNOWN},
        {1, 1, MVPN_E_UNKNOWN},
        {7, 8, 0},
        {UINT32_MAX, UINT32_MAX, MVPN_E_UNKNOWN},
        {UINT32_MAX - 1, UINT32_MAX, 0},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        mvpn_session *s = &session[i];
        ticket t = open_session(s, a), by_first = t, by_second = t;
        assert_int_equal(show(&by_first, rows[i].first, b, t0), 0);
        assert_int_equal(show(&by_second, rows[i].second, d, t0), rows[i].result);
        bool is_second = rows[i].result == 0;
        assert_ptr_equal(s->circuit, is_second ? d : b);
        assert_ptr_equal(s->draining, is_second ? b : a);
        mvpn_session_confirm(&table, s);
        assert_refused(&t, UINT32_MAX);
        if (is_second) { /* what the loser got is good for nothing */
            assert_refused(&by_first, UINT32_MAX);
        }
        assert_memory_equal(s->next.bytes, is_second ? by_second.b : by_first.b,
                            sizeof(s->next.bytes));
    }
}

/* The epoch counts for the next ticket too. */
static void test_a_lower_epoch_is_refused(void **state)
{
    (void)state;
    ticket t = open_session(&session[0], a);
    assert_refused(&t, 0);
    assert_int_equal(show(&t, 5, b, t0), 0);
    mvpn_session_confirm(&table, &session[0]);
    for (uint32_t epoch = 0; epoch <= 5; epoch++) {
        assert_refused(&t, epoch);
    }
    assert_int_equal(find(&t, 6), 0);
}

/* Connected is lost with its circuit, again and again: the same ticket until one is confirmed. */
static void test_lost_connected(void **state)
{
    (void)state;
    mvpn_session *s = &session[0];
    ticket t = open_session(s, a), unheard[3];
    for (uint32_t i = 0; i < 3; i++) {
        unheard[i] = t;
        assert_int_equal(show(&unheard[i], i + 1, i % 2 ? a : b, t0), 0);
        mvpn_session_detach(&table, s, t0);
    }
    for (uint32_t i = 0; i < 2; i++) { /* those that nobody heard of are void */
        assert_refused(&unheard[i], 9);
    }
    assert_int_equal(show(&t, 4, d, t0), 0);
    mvpn_session_confirm(&table, s);
    assert_int_equal(show(&t, 5, a, t0), 0);
}

static bool is_in_table(const ticket *t)
{
    const uint8_t *memory = (const uint8_t *)session;
    for (size_t i = 0; i + sizeof(t->b) <= sizeof(session); i++) {
        if (memcmp(memory + i, t->b, sizeof(t->b)) == 0) {
            return true;
        }
    }
    return false;
}

static void test_tickets_are_wiped(void **state)
{
    (void)state;
    mvpn_session *s = &session[0];
    ticket first = open_session(s, a), second = first, third;
    assert_int_equal(show(&second, 1, b, t0), 0);
    assert_true(is_in_table(&first) && is_in_table(&second));
    third = first; /* shown again: what was handed out meanwhile is void */
    assert_int_equal(show(&third, 2, a, t0), 0);
    assert_false(is_in_table(&second));
    mvpn_session_confirm(&table, s);
    assert_false(is_in_table(&first));
    assert_true(is_in_table(&third));
    mvpn_session_close(&table, s);
    assert_false(is_in_table(&third));
    assert_int_equal(table.tickets.count, 0);
}

static void test_who_drains(void **state)
{
    (void)state;
    mvpn_session *s = &session[0], *found;
    ticket t = open_session(s, a);
    assert_int_equal(mvpn_sessions_deadline(&table), MVPN_TIME_NEVER);
    assert_int_equal(show(&t, 1, b, t0), 0);
    assert_int_equal(mvpn_sessions_deadline(&table), t0 + MVPN_SESSION_DRAIN_TIME);
    assert_int_equal(mvpn_sessions_find(&table, t.b, 2, t0 + MVPN_S(4), &found), 0);
    /* A third circuit: the first no longer drains. */
    assert_ptr_equal(mvpn_session_take_over(&table, s, t.b, 2, d, t0 + MVPN_S(4)), a);
    assert_ptr_equal(s->draining, b);
    assert_null(mvpn_sessions_drained(&table, t0 + MVPN_S(14) - 1));
    assert_ptr_equal(mvpn_sessions_drained(&table, t0 + MVPN_S(14)), s);
    mvpn_session_stop_draining(s);
    assert_null(mvpn_sessions_drained(&table, t0 + MVPN_S(99)));
    assert_null(s->draining);
    /* Back to one that drains: it carries again, and the other drains. */
    t = next_of(s);
    assert_int_equal(show(&t, 3, a, t0), 0);
    assert_int_equal(mvpn_sessions_find(&table, t.b, 4, t0, &found), 0);
    assert_null(mvpn_session_take_over(&table, s, t.b, 4, d, t0));
    assert_ptr_equal(s->circuit, d);
    assert_ptr_equal(s->draining, a);
    /* The one that carries ends: what is under way in the other may still come. */
    mvpn_session_detach(&table, s, t0 + MVPN_S(1));
    assert_ptr_equal(s->draining, a);
    t = next_of(s);
    assert_int_equal(show(&t, 5, b, t0 + MVPN_S(2)), 0);
    assert_ptr_equal(s->draining, a);
    assert_ptr_equal(mvpn_sessions_drained(&table, t0 + MVPN_S(10)), s);
    /* Detached, then taken by the one that drains. */
    mvpn_session_detach(&table, s, t0 + MVPN_S(3));
    t = next_of(s);
    assert_int_equal(show(&t, 6, a, t0 + MVPN_S(4)), 0);
    assert_ptr_equal(s->circuit, a);
    assert_null(s->draining);
    assert_null(mvpn_sessions_drained(&table, t0 + MVPN_S(99)));
}

static void test_lifetimes(void **state)
{
    (void)state;
    mvpn_session *unused = &session[0], *used = &session[1];
    ticket t = open_session(used, a);
    (void)open_session(unused, b);
    used->has_passed = true;
    mvpn_session_detach(&table, used, t0);
    mvpn_session_detach(&table, unused, t0);
    unused->has_passed = true; /* what still came: too late */
    assert_int_equal(mvpn_sessions_deadline(&table), t0 + MVPN_SESSION_UNUSED_TIME);
    assert_null(mvpn_sessions_expired(&table, t0 + MVPN_SESSION_UNUSED_TIME - 1));
    assert_ptr_equal(mvpn_sessions_expired(&table, t0 + MVPN_SESSION_UNUSED_TIME), unused);
    mvpn_session_close(&table, unused);
    assert_int_equal(mvpn_sessions_deadline(&table), t0 + MVPN_SESSION_DETACHED_TIME);
    assert_null(mvpn_sessions_expired(&table, t0 + MVPN_SESSION_DETACHED_TIME - 1));
    assert_ptr_equal(mvpn_sessions_expired(&table, t0 + MVPN_SESSION_DETACHED_TIME), used);
    /* Taken over in time: it lives, and its next time begins anew. */
    assert_int_equal(show(&t, 1, b, t0 + MVPN_S(800)), 0);
    assert_null(mvpn_sessions_expired(&table, t0 + MVPN_S(99999)));
    assert_int_equal(mvpn_sessions_deadline(&table), MVPN_TIME_NEVER);
    mvpn_session_detach(&table, used, t0 + MVPN_S(1000));
    assert_int_equal(mvpn_sessions_deadline(&table), t0 + MVPN_S(1900));
}

static void test_a_quarter_may_be_detached(void **state)
{
    (void)state;
    const unsigned max = SESSIONS / MVPN_SESSION_DETACHED_SHARE;
    for (unsigned i = 0; i < max; i++) {
        (void)open_session(&session[i], a);
        if (i != 5) {
            session[i].has_passed = true;
        }
        mvpn_session_detach(&table, &session[i], t0 + i);
        assert_null(mvpn_sessions_surplus(&table));
    }
    /* First the one in which nothing passed, then the oldest. */
    static const unsigned order[] = {5, 0, 1, 2};
    for (unsigned i = 0; i < MVPN_ARRAY_LEN(order); i++) {
        (void)open_session(&session[max + i], a);
        session[max + i].has_passed = true;
        mvpn_session_detach(&table, &session[max + i], t0 + max + i);
        assert_ptr_equal(mvpn_sessions_surplus(&table), &session[order[i]]);
        mvpn_session_close(&table, &session[order[i]]);
        assert_null(mvpn_sessions_surplus(&table));
    }
    assert_int_equal(table.detached_count, max);
    assert_ptr_equal(mvpn_sessions_oldest_detached(&table), &session[3]);
    ticket t = next_of(&session[3]);
    assert_int_equal(show(&t, 1, b, t0), 0); /* those with a circuit never give way */
    assert_ptr_equal(mvpn_sessions_oldest_detached(&table), &session[4]);
}

static void wait_for(mvpn_session *s, unsigned value)
{
    mvpn_packet *p = mvpn_packet_new(&pool);
    assert_non_null(p);
    mvpn_store16(mvpn_packet_append(p, 2), (uint16_t)value);
    mvpn_session_wait(&table, s, p);
}

static void test_the_newest_packets_wait(void **state)
{
    (void)state;
    mvpn_session *s = &session[0];
    (void)open_session(s, a);
    mvpn_session_detach(&table, s, t0);
    for (unsigned i = 0; i < 100; i++) {
        wait_for(s, i);
        assert_in_range(s->waiting.count, 1, MVPN_SESSION_WAITING_MAX);
    }
    for (unsigned i = 100 - MVPN_SESSION_WAITING_MAX; i < 100; i++) {
        mvpn_packet *p = mvpn_session_pull_waiting(&table, s);
        assert_non_null(p);
        assert_int_equal(mvpn_load16(p->data), i);
        mvpn_packet_free(&pool, p);
    }
    assert_null(mvpn_session_pull_waiting(&table, s));
    assert_int_equal(table.waiting_count, 0);
    wait_for(s, 1); /* given back with the session */
}

static void test_waiting_packets_are_bounded(void **state)
{
    (void)state;
    for (unsigned i = 0; i < SESSIONS; i++) {
        (void)open_session(&session[i], a);
        mvpn_session_detach(&table, &session[i], t0);
        for (unsigned k = 0; k < 40; k++) {
            wait_for(&session[i], k);
        }
        assert_in_range(table.waiting_count, 1, MVPN_SESSION_WAITING_TOTAL);
    }
    assert_int_equal(table.waiting_count, MVPN_SESSION_WAITING_TOTAL);
    assert_int_equal(pool.size - pool.free_count, MVPN_SESSION_WAITING_TOTAL);
    for (unsigned i = 0; i < SESSIONS; i++) { /* nobody went empty-handed */
        assert_true(session[i].waiting.count > 0);
    }
}

/* Packets under way come before those that wait. */
static void test_a_short_pool_is_not_kept_waiting(void **state)
{
    (void)state;
    mvpn_packet_queue under_way;
    mvpn_packet_queue_init(&under_way);
    (void)open_session(&session[0], a);
    mvpn_session_detach(&table, &session[0], t0);
    wait_for(&session[0], 1);
    while (pool.free_count > pool.size / 2) {
        mvpn_packet_queue_push(&under_way, mvpn_packet_new(&pool));
    }
    for (unsigned i = 0; i < 10; i++) {
        wait_for(&session[0], i);
        assert_int_equal(table.waiting_count, 1);
    }
    mvpn_packet_free(&pool, mvpn_session_pull_waiting(&table, &session[0]));
    mvpn_packet_queue_push(&under_way, mvpn_packet_new(&pool));
    mvpn_packet_queue_push(&under_way, mvpn_packet_new(&pool));
    wait_for(&session[0], 1);
    assert_int_equal(table.waiting_count, 0);
    mvpn_packet_queue_clear(&under_way, &pool);
}

/* A client that hands its session to and fro is slowed down; its ticket stays good. */
static void test_take_overs_of_a_session_are_limited(void **state)
{
    (void)state;
    ticket t = open_session(&session[0], a), other = open_session(&session[1], a);
    uint32_t epoch = 0;
    for (; epoch < MVPN_SESSION_TAKE_OVER_BURST; epoch++) {
        assert_int_equal(show(&t, epoch + 1, epoch % 2 ? a : b, t0), 0);
    }
    assert_int_equal(show(&t, epoch + 1, d, t0), MVPN_E_LIMIT);
    assert_int_equal(show(&other, 1, d, t0), 0);
    for (unsigned i = 0; i < MVPN_SESSION_TAKE_OVER_RATE; i++, epoch++) {
        assert_int_equal(show(&t, epoch + 1, epoch % 2 ? a : b, t0 + MVPN_S(1)), 0);
    }
    assert_int_equal(show(&t, epoch + 1, d, t0 + MVPN_S(1)), MVPN_E_LIMIT);
    ticket wrong = t; /* who does not have the ticket cannot use the rate up */
    wrong.b[20] ^= 1;
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(show(&wrong, epoch + 1, d, t0 + MVPN_S(2)), MVPN_E_UNKNOWN);
        assert_int_equal(show(&t, epoch, d, t0 + MVPN_S(2)), MVPN_E_UNKNOWN);
    }
    assert_int_equal(show(&t, epoch + 1, d, t0 + MVPN_S(2)), 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_a_ticket_opens_it_once_more),
        TEST(test_guessed),
        TEST(test_raced),
        TEST(test_a_lower_epoch_is_refused),
        TEST(test_lost_connected),
        TEST(test_tickets_are_wiped),
        TEST(test_who_drains),
        TEST(test_lifetimes),
        TEST(test_a_quarter_may_be_detached),
        TEST(test_the_newest_packets_wait),
        TEST(test_waiting_packets_are_bounded),
        TEST(test_a_short_pool_is_not_kept_waiting),
        TEST(test_take_overs_of_a_session_are_limited),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
