/*
 * The monthly quota's file: over ordinary ends, crashes, months, and damage.
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

#include "base/error.h"
#include "io/quota.h"

#define NOVEMBER 1763000000u /* 2025-11-13 */
#define DECEMBER 1764600000u /* 2025-12-01 */
#define LIMIT 1000000u
#define STEP (LIMIT / MVPN_QUOTA_STEPS)

static char dir[32], path[64];
static mvpn_fault fault;

static int setup(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/meshvpn-quota.XXXXXX");
    if (mkdtemp(dir) == NULL) {
        return 1;
    }
    (void)snprintf(path, sizeof(path), "%s/quota", dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    (void)unlink(path);
    return rmdir(dir);
}

static uint64_t opened(mvpn_quota *q, uint64_t now)
{
    uint64_t used = 0;
    if (mvpn_quota_open(q, dir, LIMIT, now, &used, &fault) != 0) {
        fail_msg("%s", fault.text);
    }
    return used;
}

static void months(void **state)
{
    (void)state;
    assert_int_equal(mvpn_quota_month(0), 197001);
    assert_int_equal(mvpn_quota_month(NOVEMBER), 202511);
    assert_int_equal(mvpn_quota_month(1764547199), 202511);
    assert_int_equal(mvpn_quota_month(1764547200), 202512);
    assert_int_equal(mvpn_quota_month(DECEMBER), 202512);
}

static void exact_after_an_end(void **state)
{
    (void)state;
    mvpn_quota q;
    assert_int_equal(opened(&q, NOVEMBER), 0);
    assert_int_equal(mvpn_quota_close(&q, 123456, &fault), 0);
    assert_int_equal(opened(&q, NOVEMBER + 1000), 123456);
    assert_int_equal(mvpn_quota_close(&q, 123457, &fault), 0);
    assert_int_equal(mvpn_quota_close(&q, 7, &fault), 0); /* closed already */
    assert_int_equal(opened(&q, NOVEMBER), 123457);
    assert_int_equal(mvpn_quota_close(&q, 123457, &fault), 0);
    assert_int_equal(opened(&q, DECEMBER), 0);
}

/* A crash at any moment: never less than was used, and at most a step more. */
static void never_less_after_a_crash(void **state)
{
    (void)state;
    for (uint64_t crash = 0; crash < 5 * STEP; crash += STEP / 3) {
        mvpn_quota q;
        (void)unlink(path);
        uint64_t used = opened(&q, NOVEMBER);
        for (; used < crash; used += STEP / 11) {
            assert_int_equal(mvpn_quota_note(&q, NOVEMBER, &used, &fault), 0);
        }
        uint64_t after = opened(&q, NOVEMBER);
        assert_in_range(after, used, used + STEP + STEP / 11);
    }
}

/* Few writes: they would wear out what the file lies on. */
static void writes_are_few(void **state)
{
    (void)state;
    mvpn_quota q;
    unsigned writes = 0;
    uint64_t noted, used = opened(&q, NOVEMBER);
    noted = q.noted;
    for (; used < LIMIT / 10; used += 10) {
        assert_int_equal(mvpn_quota_note(&q, NOVEMBER, &used, &fault), 0);
        writes += q.noted != noted;
        noted = q.noted;
    }
    assert_in_range(writes, MVPN_QUOTA_STEPS / 10, MVPN_QUOTA_STEPS / 5 + 2);
}

static void a_month_begins(void **state)
{
    (void)state;
    mvpn_quota q;
    uint64_t used = opened(&q, NOVEMBER) + 999000;
    assert_int_equal(mvpn_quota_note(&q, NOVEMBER, &used, &fault), 0);
    assert_int_equal(used, 999000);
    assert_int_equal(mvpn_quota_note(&q, DECEMBER, &used, &fault), 0);
    assert_int_equal(used, 0);
    used = 500;
    assert_int_equal(mvpn_quota_note(&q, NOVEMBER, &used, &fault), 0); /* the clock went back */
    assert_int_equal(used, 500);
    assert_int_equal(mvpn_quota_close(&q, used, &fault), 0);
    assert_int_equal(opened(&q, DECEMBER), 500);
}

static void damage_is_told(void **state)
{
    (void)state;
    static const char *const texts[] = {"",
                                        "meshvpn-quota 1\n",
                                        "meshvpn-quota 1\n202511 12",
                                        "meshvpn-quota 2\n202511 12\n",
                                        "meshvpn-quota 1\n202511 12\nx",
                                        "meshvpn-quota 1\nx 12\n"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        mvpn_quota q;
        uint64_t used = 0;
        FILE *f = fopen(path, "w");
        assert_non_null(f);
        assert_true(fputs(texts[i], f) >= 0 && fclose(f) == 0);
        if (mvpn_quota_open(&q, dir, LIMIT, NOVEMBER, &used, &fault) != MVPN_E_CONFIG ||
            strstr(fault.text, path) == NULL) {
            fail_msg("%zu: %s", i, fault.text);
        }
        assert_int_equal(mvpn_quota_close(&q, 5, &fault), 0); /* leaves it alone */
    }
    (void)unlink(path);
    mvpn_quota q;
    uint64_t used = 0;
    assert_int_equal(mvpn_quota_open(&q, "/nowhere", LIMIT, NOVEMBER, &used, &fault),
                     MVPN_E_SYSTEM);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(months, setup, teardown),
        cmocka_unit_test_setup_teardown(exact_after_an_end, setup, teardown),
        cmocka_unit_test_setup_teardown(never_less_after_a_crash, setup, teardown),
        cmocka_unit_test_setup_teardown(writes_are_few, setup, teardown),
        cmocka_unit_test_setup_teardown(a_month_begins, setup, teardown),
        cmocka_unit_test_setup_teardown(damage_is_told, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
