/*
 * Cgroups that are made anew. Directories stand in for them: what is looked at, their number, is
 * the same. That the packet filter follows is shown by tests/netns/split.sh.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "io/listed_groups.h"

#define GROUP "group"
#define OTHER "other"

static int setup(void **state)
{
    static char dir[32];
    (void)snprintf(dir, sizeof(dir), "/tmp/listed_groups.XXXXXX");
    *state = dir;
    return mkdtemp(dir) != NULL && chdir(dir) == 0 && mkdir(GROUP, 0700) == 0 ? 0 : -1;
}

static int teardown(void **state)
{
    (void)rmdir(GROUP);
    (void)unlink(GROUP);
    (void)rmdir(OTHER);
    return chdir("/") == 0 && rmdir(*state) == 0 ? 0 : -1;
}

static uint64_t number_of(const char *dir)
{
    struct stat st;
    assert_int_equal(stat(dir, &st), 0);
    return st.st_ino;
}

/* Another number, as both are there for a moment. */
static void make_anew(void)
{
    assert_int_equal(mkdir(OTHER, 0700), 0);
    assert_int_equal(rmdir(GROUP), 0);
    assert_int_equal(rename(OTHER, GROUP), 0);
}

static mvpn_listed_groups listed(const char *dir, bool is_inside)
{
    struct stat st;
    mvpn_listed_groups groups = {.count = 1, .keeps_past = is_inside};
    assert_int_equal(stat(".", &st), 0);
    assert_non_null(realpath(".", groups.at[0].dir));
    (void)snprintf(groups.at[0].dir + strlen(groups.at[0].dir), 16, "/%s", dir);
    groups.at[0].device = st.st_dev;
    groups.at[0].match.level = 2;
    return groups;
}

static unsigned fill(const mvpn_listed_groups *groups, mvpn_split *ret)
{
    mvpn_listed_groups_fill(groups, ret);
    return ret->cgroup_count;
}

static void test_waits_for_the_first(void **state)
{
    mvpn_listed_groups groups = listed(OTHER, false);
    mvpn_split split;
    (void)state;
    assert_true(mvpn_listed_groups_can_change(&groups));
    assert_false(mvpn_listed_groups_look(&groups));
    assert_int_equal(fill(&groups, &split), 0);
    assert_int_equal(mkdir(OTHER, 0700), 0);
    assert_true(mvpn_listed_groups_look(&groups));
    assert_false(mvpn_listed_groups_look(&groups));
    assert_int_equal(fill(&groups, &split), 1);
    assert_true(split.cgroups[0].id == number_of(OTHER) && split.cgroups[0].level == 2);
}

static void test_outside_is_the_new_one_alone(void **state)
{
    mvpn_listed_groups groups = listed(GROUP, false);
    mvpn_split split;
    (void)state;
    assert_true(mvpn_listed_groups_look(&groups));
    make_anew();
    assert_true(mvpn_listed_groups_look(&groups));
    assert_int_equal(fill(&groups, &split), 1);
    assert_true(split.cgroups[0].id == number_of(GROUP));
    assert_int_equal(rmdir(GROUP), 0);
    assert_false(mvpn_listed_groups_look(&groups));
    assert_int_equal(fill(&groups, &split), 1);
}

/* The last ones, however often that happens. */
static void test_inside_are_those_before_too(void **state)
{
    mvpn_listed_groups groups = listed(GROUP, true);
    uint64_t before[MVPN_SPLIT_PAST_MAX + 4];
    mvpn_split split;
    (void)state;
    assert_true(mvpn_listed_groups_look(&groups));
    for (size_t i = 0; i < MVPN_ARRAY_LEN(before); i++) {
        before[i] = number_of(GROUP);
        make_anew();
        assert_true(mvpn_listed_groups_look(&groups));
        unsigned count = fill(&groups, &split);
        assert_int_equal(count, 1 + MVPN_MIN(i + 1, (size_t)MVPN_SPLIT_PAST_MAX));
        assert_true(split.cgroups[0].id == number_of(GROUP));
        for (unsigned k = 1; k < count; k++) {
            bool is_known = false;
            for (unsigned m = 1; m < count; m++) {
                is_known |= split.cgroups[m].id == before[i + 1 - k] && split.cgroups[m].level == 2;
            }
            assert_true(is_known);
        }
    }
}

static void test_what_is_none_is_no_change(void **state)
{
    mvpn_listed_groups groups = listed(GROUP, false);
    (void)state;
    assert_true(mvpn_listed_groups_look(&groups));
    assert_int_equal(rename(GROUP, OTHER), 0);
    assert_int_equal(symlink(OTHER, GROUP), 0);
    groups.at[0].match.id = 1;
    assert_false(mvpn_listed_groups_look(&groups)); /* leads somewhere else */
    assert_int_equal(unlink(GROUP), 0);
    assert_int_equal(rename(OTHER, GROUP), 0);
    groups.at[0].device++;
    assert_false(mvpn_listed_groups_look(&groups)); /* of another hierarchy */
    groups.at[0].device--;
    assert_true(mvpn_listed_groups_look(&groups));
    groups.at[0].match = (mvpn_split_cgroup){.class_id = 1};
    assert_false(mvpn_listed_groups_look(&groups)); /* net_cls: known by its class */
    assert_false(mvpn_listed_groups_can_change(&groups));
}

/* In no hierarchy: nothing would ever come of it. */
static void test_mistakes_are_refused(void **state)
{
    static const char *const paths[] = {
        "/nowhere/at/all",
        "/proc/self/status",
        "/proc/nowhere",
        "/tmp",
    };
    (void)state;
    for (size_t i = 0; i < 2 * MVPN_ARRAY_LEN(paths); i++) {
        mvpn_listed_groups groups;
        mvpn_config_split split = {.is_inside = i % 2 == 1, .cgroup_count = 1};
        mvpn_fault fault = {.text = ""};
        (void)snprintf(split.cgroups[0], sizeof(split.cgroups[0]), "%s", paths[i / 2]);
        assert_int_equal(mvpn_listed_groups_find(&groups, &split, &fault), MVPN_E_CONFIG);
        assert_non_null(strstr(fault.text, paths[i / 2]));
        assert_int_equal(groups.count, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_waits_for_the_first, setup, teardown),
        cmocka_unit_test_setup_teardown(test_outside_is_the_new_one_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(test_inside_are_those_before_too, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_is_none_is_no_change, setup, teardown),
        cmocka_unit_test(test_mistakes_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
