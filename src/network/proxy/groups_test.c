#include "network/proxy/groups.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"

static const uint8_t key[32] = {7};

static mvpn_proxy_user user_of(const char *name, const char *password)
{
    mvpn_proxy_user u = {.is_set = true,
                         .name_len = (uint8_t)strlen(name),
                         .password_len = (uint8_t)strlen(password)};
    memcpy(u.name, name, u.name_len);
    memcpy(u.password, password, u.password_len);
    return u;
}

static unsigned enter(mvpn_proxy_groups *g, const char *name, const char *password, mvpn_time now)
{
    mvpn_proxy_user u = user_of(name, password);
    unsigned number = 99;
    bool begins, ends;
    assert_int_equal(mvpn_proxy_groups_enter(g, &u, now, &number, &begins, &ends), 0);
    return number;
}

static void test_who_is_who(void **state)
{
    (void)state;
    static const char *const users[][2] = {
        {"a", "b"}, {"a", "c"}, {"b", "a"}, {"ab", ""}, {"", "ab"}};
    mvpn_proxy_groups g;
    mvpn_proxy_user nobody = {.is_set = false};
    unsigned seen[MVPN_ARRAY_LEN(users)], number;
    bool begins, ends;
    mvpn_proxy_groups_init(&g, key);
    assert_int_equal(mvpn_proxy_groups_enter(&g, &nobody, 1, &number, &begins, &ends), 0);
    assert_int_equal(number, 0);
    assert_false(begins);
    for (size_t i = 0; i < MVPN_ARRAY_LEN(users); i++) {
        seen[i] = enter(&g, users[i][0], users[i][1], 1);
        assert_in_range(seen[i], 1, MVPN_PROXY_GROUPS_MAX);
        for (size_t k = 0; k < i; k++) {
            assert_int_not_equal(seen[i], seen[k]);
        }
    }
    for (size_t i = 0; i < MVPN_ARRAY_LEN(users); i++) {
        assert_int_equal(enter(&g, users[i][0], users[i][1], 2), seen[i]);
    }
}

static void fill(mvpn_proxy_groups *g, mvpn_time now)
{
    char name[2] = "A";
    for (unsigned i = 0; i < MVPN_PROXY_GROUPS_MAX; i++, name[0]++) {
        assert_int_equal(enter(g, name, "", now), i + 1);
    }
}

static void test_full(void **state)
{
    (void)state;
    mvpn_proxy_groups g;
    mvpn_proxy_user late = user_of("late", "");
    unsigned number = 99;
    bool begins, ends;
    mvpn_time now = MVPN_S(1000);
    mvpn_proxy_groups_init(&g, key);
    fill(&g, now);
    assert_int_equal(mvpn_proxy_groups_enter(&g, &late, now, &number, &begins, &ends),
                     MVPN_E_LIMIT);
    assert_int_equal(number, 99);
    /* Somebody left, but may come back at once. */
    mvpn_proxy_groups_leave(&g, 3, now);
    mvpn_proxy_groups_leave(&g, 5, now + 1);
    now += MVPN_PROXY_GROUP_YIELD - 1;
    assert_int_equal(mvpn_proxy_groups_enter(&g, &late, now, &number, &begins, &ends),
                     MVPN_E_LIMIT);
    now++;
    assert_int_equal(mvpn_proxy_groups_enter(&g, &late, now, &number, &begins, &ends), 0);
    assert_int_equal(number, 3);
    assert_true(begins && ends);
    /* Who was replaced is new. */
    mvpn_proxy_user third = user_of("C", "");
    assert_int_equal(mvpn_proxy_groups_enter(&g, &third, now + 1, &number, &begins, &ends), 0);
    assert_int_equal(number, 5);
    assert_true(begins && ends);
}

static void test_idle(void **state)
{
    (void)state;
    mvpn_proxy_groups g;
    mvpn_time now = MVPN_S(1000);
    mvpn_proxy_groups_init(&g, key);
    unsigned number = enter(&g, "a", "", now);
    assert_int_equal(enter(&g, "a", "", now), number);
    mvpn_proxy_groups_leave(&g, number, now);
    assert_int_equal(mvpn_proxy_groups_expire(&g, now + MVPN_S(100000)), 0); /* one is left */
    mvpn_proxy_groups_leave(&g, number, now);
    assert_int_equal(mvpn_proxy_groups_expire(&g, now + MVPN_PROXY_GROUP_IDLE - 1), 0);
    assert_int_equal(enter(&g, "a", "", now + MVPN_PROXY_GROUP_IDLE - 1), number);
    mvpn_proxy_groups_leave(&g, number, now + MVPN_PROXY_GROUP_IDLE);
    assert_int_equal(mvpn_proxy_groups_expire(&g, now + 2 * MVPN_PROXY_GROUP_IDLE), number);
    assert_int_equal(mvpn_proxy_groups_expire(&g, now + 2 * MVPN_PROXY_GROUP_IDLE), 0);
    assert_false(g.of[number].is_used);
    assert_true(g.of[0].is_used); /* of those without a name: for ever */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_who_is_who),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_idle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
