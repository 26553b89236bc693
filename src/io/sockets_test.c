/*
 * Further sockets over loopback: each number of the engine's has a port of its own, many are opened
 * without holding up a turn, and what the system refuses is dropped, counted and said once.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/error.h"
#include "io/clock.h"
#include "io/sockets.h"

#define POOL 4096
#define CELL 1424u
#define LOCALS 400

struct world {
    mvpn_loop *loop;
    mvpn_udp *main, *peer;
    mvpn_sockets *sockets;
    mvpn_packet_pool pool;
    mvpn_packet_queue out, in;
    bool is_used[LOCALS];
    unsigned turns, warnings;
    uint32_t want; /* received packets that end the loop; 0: the first idle turn does */
    size_t opened_most;
    mvpn_log log;
};

static bool is_used(void *ctx, uint16_t local)
{
    struct world *w = ctx;
    return w->is_used[local];
}

static void too_big(void *ctx, const mvpn_addr *remote)
{
    (void)ctx;
    (void)remote;
    fail();
}

static void count_warning(void *ctx, enum mvpn_log_level level, const char *line)
{
    struct world *w = ctx;
    assert_int_equal(level, MVPN_LOG_WARN);
    assert_non_null(strstr(line, "no further UDP socket"));
    w->warnings++;
}

static void turn(void *ctx)
{
    struct world *w = ctx;
    mvpn_time now = mvpn_clock_now();
    uint64_t before = mvpn_sockets_get_stats(w->sockets)->opened;
    mvpn_sockets_turn(w->sockets, now);
    uint64_t opened = mvpn_sockets_get_stats(w->sockets)->opened - before;
    w->opened_most = MVPN_MAX(w->opened_most, (size_t)opened);
    w->turns++;
    assert_true(w->turns < 10000);
    if (w->out.count == 0 && w->in.count >= w->want) {
        mvpn_loop_stop(w->loop);
    }
    mvpn_loop_set_deadline(
        w->loop, mvpn_time_min(mvpn_sockets_deadline(w->sockets, now), now + MVPN_MS(20)));
}

/* Turns until all is sent and so much has come. */
static void run(struct world *w, uint32_t want)
{
    w->want = want;
    w->turns = 0;
    mvpn_loop_set_deadline(w->loop, 1);
    assert_int_equal(mvpn_loop_run(w->loop), 0);
}

static int setup(void **state)
{
    static struct world w;
    static const mvpn_addr home[2] = {{.family = 4, .ip = {127, 0, 0, 1}},
                                      {.family = 6, .ip = {[15] = 1}}};
    memset(&w, 0, sizeof(w));
    *state = &w;
    w.log = (mvpn_log){.write = count_warning, .ctx = &w, .level = MVPN_LOG_WARN};
    mvpn_packet_queue_init(&w.out);
    mvpn_packet_queue_init(&w.in);
    const mvpn_udp_options options = {.others = &w.out};
    if (mvpn_loop_new(&w.loop) != 0 || mvpn_packet_pool_init(&w.pool, POOL) != 0 ||
        mvpn_udp_open(&w.main, home, 2, &options, NULL) != 0 ||
        mvpn_udp_open(&w.peer, home, 2, NULL, NULL) != 0) {
        return -1;
    }
    const mvpn_sockets_options so = {
        .loop = w.loop,
        .main = w.main,
        .pool = &w.pool,
        .out = &w.out,
        .in = &w.in,
        .budget = 64,
        .is_used = is_used,
        .too_big = too_big,
        .ctx = &w,
        .log = &w.log,
    };
    mvpn_loop_on_turn(w.loop, turn, &w);
    return mvpn_sockets_new(&so, &w.sockets);
}

static int teardown(void **state)
{
    struct world *w = *state;
    mvpn_sockets_free(w->sockets);
    mvpn_packet_queue_clear(&w->in, &w->pool);
    assert_int_equal(w->pool.free_count, POOL); /* no packet was lost */
    mvpn_udp_free(w->main);
    mvpn_udp_free(w->peer);
    mvpn_loop_free(w->loop);
    mvpn_packet_pool_done(&w->pool);
    return 0;
}

static mvpn_packet *make(struct world *w, uint16_t local, const mvpn_addr *to, uint32_t number,
                         uint32_t len)
{
    mvpn_packet *p = mvpn_packet_new(&w->pool);
    assert_non_null(p);
    memset(mvpn_packet_append(p, len), 7, len);
    mvpn_store32(p->data, number);
    p->remote = *to;
    p->local = local;
    return p;
}

/* As the engine does: into the queue of the main socket. */
static void send_by(struct world *w, uint16_t local, const mvpn_addr *to, uint32_t number)
{
    mvpn_packet_queue queue;
    mvpn_packet_queue_init(&queue);
    mvpn_packet_queue_push(&queue, make(w, local, to, number, 72));
    assert_int_equal(mvpn_udp_send(w->main, &queue, &w->pool), 0);
}

static void hear(struct world *w, enum mvpn_udp_family family, mvpn_packet_queue *queue,
                 uint32_t want)
{
    for (unsigned i = 0; i < 100 && queue->count < want; i++) {
        assert_true(mvpn_udp_recv(w->peer, family, &w->pool, queue, 64) >= 0);
        if (queue->count < want) {
            (void)usleep(1000);
        }
    }
    assert_int_equal(queue->count, want);
}

/* What came from one socket, and under which address; the answer goes back there. */
static mvpn_addr answer_next(struct world *w, mvpn_packet_queue *heard, uint32_t number)
{
    mvpn_packet *p = mvpn_packet_queue_pop(heard);
    mvpn_addr from = p->remote;
    mvpn_packet_queue back;
    assert_int_equal(mvpn_load32(p->data), number);
    mvpn_packet_queue_init(&back);
    p->local = 0;
    mvpn_packet_queue_push(&back, p);
    assert_int_equal(mvpn_udp_send(w->peer, &back, &w->pool), 0);
    return from;
}

static unsigned descriptors(void)
{
    unsigned n = 0;
    DIR *dir = opendir("/proc/self/fd");
    assert_non_null(dir);
    while (readdir(dir) != NULL) {
        n++;
    }
    (void)closedir(dir);
    return n;
}

static void test_ports(void **state)
{
    static const uint16_t locals[] = {MVPN_LOCAL_PROBE, MVPN_LOCAL_PUNCH,
                                      MVPN_LOCAL_PUNCH + MVPN_LOCAL_PUNCH_MAX - 1};
    struct world *w = *state;
    unsigned before = descriptors();
    for (unsigned f = 0; f < MVPN_UDP_FAMILIES; f++) {
        enum mvpn_udp_family family = (enum mvpn_udp_family)f;
        mvpn_addr to = mvpn_udp_local(w->peer, family);
        mvpn_addr from[4] = {mvpn_udp_local(w->main, family)};
        mvpn_packet_queue heard;
        mvpn_packet_queue_init(&heard);
        for (unsigned i = 0; i < 3; i++) {
            w->is_used[locals[i]] = true;
            send_by(w, locals[i], &to, i);
        }
        assert_false(mvpn_sockets_is_idle(w->sockets));
        run(w, 0);
        assert_int_equal(mvpn_sockets_count(w->sockets), 3);
        hear(w, family, &heard, 3);
        for (unsigned i = 0; i < 3; i++) {
            from[i + 1] = answer_next(w, &heard, i);
            for (unsigned k = 0; k <= i; k++) {
                assert_int_not_equal(from[k].port, from[i + 1].port);
            }
        }
        run(w, 3);
        for (bool seen[3] = {false}; w->in.count > 0;) {
            mvpn_packet *p = mvpn_packet_queue_pop(&w->in);
            uint32_t i = mvpn_load32(p->data);
            assert_false(seen[i]);
            seen[i] = true;
            assert_int_equal(p->local, locals[i]);
            assert_true(mvpn_addr_eq(&p->remote, &to));
            mvpn_packet_free(&w->pool, p);
        }
        /* The second time the ports are the same. */
        send_by(w, locals[1], &to, 9);
        run(w, 0);
        hear(w, family, &heard, 1);
        mvpn_addr again = answer_next(w, &heard, 9);
        assert_true(mvpn_addr_eq(&again, &from[2]));
        run(w, 1);
        /* One is given up, then all. */
        w->is_used[locals[1]] = false;
        run(w, 0);
        assert_int_equal(mvpn_sockets_count(w->sockets), 2);
        w->is_used[locals[0]] = w->is_used[locals[2]] = false;
        run(w, 0);
        assert_true(mvpn_sockets_is_idle(w->sockets));
        assert_int_equal(descriptors(), before);
        mvpn_packet_queue_clear(&w->in, &w->pool);
    }
    /* Numbers that are no further socket's. */
    mvpn_addr to = mvpn_udp_local(w->peer, MVPN_UDP_V4);
    send_by(w, MVPN_LOCAL_DNS, &to, 0);
    send_by(w, MVPN_LOCAL_PUNCH + MVPN_LOCAL_PUNCH_MAX, &to, 0);
    run(w, 0);
    assert_int_equal(mvpn_sockets_get_stats(w->sockets)->refused, 2);
    assert_int_equal(mvpn_sockets_get_stats(w->sockets)->opened, 6);
}

/* A birthday: 256 at once; each turn opens some, and each packet has a port of its own. */
static void test_many(void **state)
{
    struct world *w = *state;
    mvpn_addr to = mvpn_udp_local(w->peer, MVPN_UDP_V4);
    mvpn_packet_queue heard;
    static bool seen[65536];
    memset(seen, 0, sizeof(seen));
    mvpn_packet_queue_init(&heard);
    for (uint16_t i = 0; i < MVPN_LOCAL_PUNCH_MAX; i++) {
        w->is_used[MVPN_LOCAL_PUNCH + i] = true;
        send_by(w, (uint16_t)(MVPN_LOCAL_PUNCH + i), &to, i);
    }
    mvpn_time began = mvpn_clock_now();
    run(w, 0);
    print_message("256 sockets in %u us, %u turns\n", (unsigned)(mvpn_clock_now() - began),
                  w->turns);
    assert_int_equal(mvpn_sockets_count(w->sockets), MVPN_LOCAL_PUNCH_MAX);
    assert_true(w->opened_most <= 32);
    hear(w, MVPN_UDP_V4, &heard, MVPN_LOCAL_PUNCH_MAX);
    for (mvpn_packet *p = NULL; (p = mvpn_packet_queue_pop(&heard)) != NULL;) {
        assert_false(seen[p->remote.port]);
        seen[p->remote.port] = true;
        mvpn_packet_free(&w->pool, p);
    }
    memset(w->is_used, 0, sizeof(w->is_used));
    for (unsigned i = 0; i < MVPN_LOCAL_PUNCH_MAX / 32; i++) {
        run(w, 0);
    }
    assert_int_equal(mvpn_sockets_count(w->sockets), 0);
    assert_int_equal(w->warnings, 0);
}

/* A burst into one: of a fresh one the kernel keeps little, of one in use all. */
static uint32_t burst(struct world *w, const mvpn_addr *to, uint32_t count)
{
    mvpn_packet_queue queue;
    mvpn_packet_queue_init(&queue);
    for (uint32_t i = 0; i < count; i++) {
        mvpn_packet_queue_push(&queue, make(w, 0, to, i, CELL));
    }
    assert_int_equal(mvpn_udp_send(w->peer, &queue, &w->pool), 0);
    uint32_t got = 0;
    for (unsigned quiet = 0; quiet < 3; quiet++) {
        mvpn_packet *p;
        run(w, 0);
        while ((p = mvpn_packet_queue_pop(&w->in)) != NULL) {
            assert_int_equal(p->local, MVPN_LOCAL_PUNCH);
            assert_int_equal(p->len, CELL);
            mvpn_packet_free(&w->pool, p);
            got++;
            quiet = 0;
        }
        (void)usleep(2000);
    }
    return got;
}

static void test_traffic(void **state)
{
    struct world *w = *state;
    mvpn_addr to = mvpn_udp_local(w->peer, MVPN_UDP_V4);
    mvpn_packet_queue queue;
    mvpn_packet_queue_init(&queue);
    w->is_used[MVPN_LOCAL_PUNCH] = true;
    send_by(w, MVPN_LOCAL_PUNCH, &to, 0);
    run(w, 0);
    hear(w, MVPN_UDP_V4, &queue, 1);
    mvpn_addr from = answer_next(w, &queue, 0);
    run(w, 1);
    mvpn_packet_queue_clear(&w->in, &w->pool);
    assert_in_range(burst(w, &from, 1000), 1, 500);
    for (unsigned i = 0; i < 3; i++) {
        (void)burst(w, &from, 40); /* now it carries a link */
    }
    if (geteuid() == 0) {
        assert_int_equal(burst(w, &from, 1000), 1000);
    }
    /* And out: in order. */
    for (uint32_t i = 0; i < 1000; i++) {
        mvpn_packet_queue_push(&queue, make(w, MVPN_LOCAL_PUNCH, &to, i, CELL));
    }
    assert_int_equal(mvpn_udp_send(w->main, &queue, &w->pool), 0);
    assert_int_equal(w->out.count, 1000);
    run(w, 0);
    assert_int_equal(mvpn_sockets_backlog(w->sockets), 0);
    if (geteuid() == 0) {
        hear(w, MVPN_UDP_V4, &queue, 1000);
        for (uint32_t i = 0; i < 1000; i++) {
            mvpn_packet *p = mvpn_packet_queue_pop(&queue);
            assert_int_equal(mvpn_load32(p->data), i);
            assert_true(mvpn_addr_eq(&p->remote, &from));
            mvpn_packet_free(&w->pool, p);
        }
    }
    mvpn_packet_queue_clear(&queue, &w->pool);
}

static void test_limit(void **state)
{
    struct world *w = *state;
    mvpn_addr to = mvpn_udp_local(w->peer, MVPN_UDP_V4);
    struct rlimit before, tight;
    int next = dup(0);
    assert_true(next >= 0);
    (void)close(next);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    tight = before;
    tight.rlim_cur = (rlim_t)next + 64 + 5; /* 64 stay for the rest of the program */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
    for (uint16_t i = 0; i < 20; i++) {
        w->is_used[MVPN_LOCAL_PUNCH + i] = true;
        send_by(w, (uint16_t)(MVPN_LOCAL_PUNCH + i), &to, i);
    }
    run(w, 0);
    assert_int_equal(mvpn_sockets_count(w->sockets), 5);
    assert_int_equal(mvpn_sockets_get_stats(w->sockets)->refused, 15);
    send_by(w, MVPN_LOCAL_PUNCH + 19, &to, 0);
    mvpn_sockets_turn(w->sockets, mvpn_clock_now() + MVPN_S(2)); /* it is tried again */
    assert_int_equal(mvpn_sockets_count(w->sockets), 5);
    assert_int_equal(w->warnings, 1);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    send_by(w, MVPN_LOCAL_PUNCH + 19, &to, 0);
    mvpn_sockets_turn(w->sockets, mvpn_clock_now() + MVPN_S(4));
    assert_int_equal(mvpn_sockets_count(w->sockets), 6);
    assert_int_equal(mvpn_sockets_get_stats(w->sockets)->refused, 16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_ports, setup, teardown),
        cmocka_unit_test_setup_teardown(test_many, setup, teardown),
        cmocka_unit_test_setup_teardown(test_traffic, setup, teardown),
        cmocka_unit_test_setup_teardown(test_limit, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
