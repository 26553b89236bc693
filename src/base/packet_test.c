#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

#include "base/packet.h"

#define COUNT 5

static mvpn_packet_pool pool;

static int setup(void **state)
{
    (void)state;
    return mvpn_packet_pool_init(&pool, COUNT);
}

static int teardown(void **state)
{
    (void)state;
    mvpn_packet_pool_done(&pool);
    return 0;
}

static void test_exhaustion(void **state)
{
    (void)state;
    mvpn_packet *all[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        assert_int_equal(pool.free_count, COUNT - i);
        all[i] = mvpn_packet_new(&pool);
        assert_non_null(all[i]);
        for (size_t k = 0; k < i; k++) {
            assert_ptr_not_equal(all[k], all[i]);
        }
    }
    assert_null(mvpn_packet_new(&pool));
    assert_int_equal(pool.free_count, 0);
    mvpn_packet_free(&pool, all[2]);
    assert_ptr_equal(mvpn_packet_new(&pool), all[2]);
    for (size_t i = 0; i < COUNT; i++) {
        mvpn_packet_free(&pool, all[i]);
    }
    mvpn_packet_free(&pool, NULL);
    assert_int_equal(pool.free_count, COUNT);
    /* The last one given back is the next one out. */
    assert_ptr_equal(mvpn_packet_new(&pool), all[COUNT - 1]);
    mvpn_packet_free(&pool, all[COUNT - 1]);
}

static void test_push_pull(void **state)
{
    (void)state;
    mvpn_packet *p = mvpn_packet_new(&pool);
    assert_non_null(p);
    assert_int_equal(p->len, 0);
    assert_int_equal(mvpn_packet_headroom(p), MVPN_PACKET_HEADROOM);
    assert_int_equal(mvpn_packet_tailroom(p), MVPN_PACKET_ROOM + MVPN_PACKET_TAILROOM);

    memcpy(mvpn_packet_append(p, 4), "body", 4);
    memcpy(mvpn_packet_push(p, 5), "head:", 5);
    memcpy(mvpn_packet_append(p, 4), "tail", 4);
    assert_int_equal(p->len, 13);
    assert_memory_equal(p->data, "head:bodytail", 13);
    assert_int_equal(mvpn_packet_headroom(p), MVPN_PACKET_HEADROOM - 5);
    mvpn_packet_pull(p, 5);
    assert_memory_equal(p->data, "bodytail", 8);
    mvpn_packet_truncate(p, 4);
    assert_int_equal(p->len, 4);
    assert_memory_equal(p->data, "body", 4);
    assert_int_equal(mvpn_packet_headroom(p) + p->len + mvpn_packet_tailroom(p), MVPN_PACKET_BUF);

    /* Both ends, to the last byte. */
    memset(mvpn_packet_push(p, (uint32_t)mvpn_packet_headroom(p)), 1, MVPN_PACKET_HEADROOM);
    uint32_t room = (uint32_t)mvpn_packet_tailroom(p);
    memset(mvpn_packet_append(p, room), 2, room);
    assert_int_equal(p->len, MVPN_PACKET_BUF);
    assert_ptr_equal(p->data, p->buf);
    assert_int_equal(mvpn_packet_headroom(p) + mvpn_packet_tailroom(p), 0);
    p->flags = MVPN_PACKET_PROBE;
    p->local = 3;
    mvpn_packet_free(&pool, p);

    mvpn_packet *again = mvpn_packet_new(&pool);
    assert_ptr_equal(again, p);
    assert_int_equal(again->len, 0);
    assert_int_equal(again->flags, 0);
    assert_int_equal(again->local, 0);
    assert_int_equal(mvpn_packet_headroom(again), MVPN_PACKET_HEADROOM);
    mvpn_packet_free(&pool, again);
}

static void test_queue(void **state)
{
    (void)state;
    mvpn_packet_queue q;
    mvpn_packet *all[COUNT];
    mvpn_packet_queue_init(&q);
    assert_null(mvpn_packet_queue_pop(&q));
    for (size_t i = 0; i < COUNT; i++) {
        all[i] = mvpn_packet_new(&pool);
        mvpn_packet_queue_push(&q, all[i]);
    }
    assert_int_equal(q.count, COUNT);
    assert_ptr_equal(mvpn_packet_queue_pop(&q), all[0]);
    assert_ptr_equal(mvpn_packet_queue_pop(&q), all[1]);
    mvpn_packet_queue_push(&q, all[0]);
    mvpn_packet_free(&pool, all[1]);
    assert_int_equal(q.count, COUNT - 1);
    mvpn_packet_queue_clear(&q, &pool);
    assert_int_equal(q.count, 0);
    assert_int_equal(pool.free_count, COUNT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exhaustion),
        cmocka_unit_test(test_push_pull),
        cmocka_unit_test(test_queue),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
