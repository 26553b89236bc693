/* What a relay remembers of its NAT: told once on each arrival, written when it changes, not often.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <unistd.h>

#include "io/nat_memory.h"

#define TODAY (UINT64_C(20000) * 86400)
#define NOW MVPN_S(1000)

static char dir[64];
static const mvpn_nat_network home = {
    .gateway = {.family = 4, .ip = {192, 168, 1, 1}},
    .seen = {.family = 4, .ip = {12, 3, 140, 9}},
};
static const mvpn_nat_network cafe = {
    .gateway = {.family = 4, .ip = {192, 168, 1, 1}},
    .seen = {.family = 4, .ip = {77, 3, 140, 9}},
};

static int setup(void **state)
{
    (void)state;
    (void)snprintf(dir, sizeof(dir), "/tmp/mvpn-nat-memory-test.XXXXXX");
    return mkdtemp(dir) == NULL ? -1 : 0;
}

static int teardown(void **state)
{
    char path[96];
    (void)state;
    (void)snprintf(path, sizeof(path), "%s/nat", dir);
    (void)unlink(path);
    return rmdir(dir);
}

static uint32_t look(mvpn_nat_memory *m, const mvpn_nat_network *n, uint32_t lifetime_s,
                     mvpn_time now)
{
    return mvpn_nat_memory_look(m, n, lifetime_s, TODAY, now);
}

/* What the file says of a network. */
static uint32_t kept(const mvpn_nat_network *n)
{
    mvpn_nat_cache cache;
    assert_int_equal(mvpn_nat_cache_load(dir, &cache), 0);
    return mvpn_nat_cache_get(&cache, n, TODAY);
}

static void test_next_run_knows(void **state)
{
    (void)state;
    mvpn_nat_memory m;
    mvpn_nat_memory_init(&m, dir);
    assert_int_equal(look(&m, NULL, 0, NOW), 0);
    assert_int_equal(look(&m, &home, 0, NOW), 0); /* the first time here */
    assert_int_equal(look(&m, &home, 58, NOW), 0);
    assert_int_equal(kept(&home), 58);
    assert_int_equal(kept(&cafe), 0);

    mvpn_nat_memory_init(&m, dir); /* a restart */
    assert_int_equal(look(&m, NULL, 0, NOW), 0);
    assert_int_equal(look(&m, &home, 0, NOW), 58);
    assert_int_equal(look(&m, &home, 58, NOW), 0);
    assert_int_equal(look(&m, NULL, 0, NOW), 0); /* carried elsewhere, and back */
    assert_int_equal(look(&m, &cafe, 0, NOW), 0);
    assert_int_equal(look(&m, NULL, 0, NOW), 0);
    assert_int_equal(look(&m, &home, 0, NOW), 58);
    assert_int_equal(look(&m, &home, 0, NOW), 0); /* it has measured otherwise: not told again */
}

static void test_written_seldom(void **state)
{
    (void)state;
    mvpn_nat_memory m;
    mvpn_nat_memory_init(&m, dir);
    assert_int_equal(look(&m, &home, 13, NOW), 0);
    assert_int_equal(look(&m, &home, 18, NOW + MVPN_S(20)), 0);
    assert_int_equal(look(&m, &home, 28, NOW + MVPN_S(119)), 0);
    assert_int_equal(kept(&home), 13);
    assert_int_equal(look(&m, &home, 43, NOW + MVPN_S(120)), 0);
    assert_int_equal(kept(&home), 43);
    char path[96];
    (void)snprintf(path, sizeof(path), "%s/nat", dir);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(look(&m, &home, 43, NOW + MVPN_S(900)), 0); /* nothing new: not written */
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(look(&m, &home, 28, NOW + MVPN_S(901)), 0); /* less counts too */
    assert_int_equal(kept(&home), 28);
}

static void test_without_a_directory(void **state)
{
    (void)state;
    mvpn_nat_memory m;
    mvpn_nat_memory_init(&m, NULL);
    assert_int_equal(look(&m, &home, 58, NOW), 0);
    assert_int_equal(look(&m, &home, 0, NOW), 0);
    mvpn_nat_memory_init(&m, "/nowhere");
    assert_int_equal(look(&m, &home, 58, NOW), 0); /* cannot be written, still known in this run */
    assert_int_equal(look(&m, NULL, 0, NOW), 0);
    assert_int_equal(look(&m, &home, 0, NOW), 58);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_next_run_knows, setup, teardown),
        cmocka_unit_test_setup_teardown(test_written_seldom, setup, teardown),
        cmocka_unit_test(test_without_a_directory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
