/*
 * Lines about connections: names, no more of them than the limit, and what was left out is said.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "io/connection_log.h"

static unsigned lines;
static char last[2][256]; /* the latest line, and the one before */

static void keep(void *ctx, enum mvpn_log_level level, const char *line)
{
    (void)ctx;
    assert_int_equal(level, MVPN_LOG_INFO);
    lines++;
    memcpy(last[1], last[0], sizeof(last[0]));
    (void)snprintf(last[0], sizeof(last[0]), "%s", line);
}

static void test_lines(void **state)
{
    (void)state;
    const mvpn_log log = {.write = keep, .level = MVPN_LOG_INFO};
    mvpn_trust trust = {.closed = false};
    const mvpn_view_config config = {.trust = &trust};
    mvpn_view *view;
    mvpn_connection_log c;
    mvpn_connection_event e = {
        .at = MVPN_S(5),
        .has_identity = true,
        .identity = {{0xab, 0xcd}},
        .type = MVPN_CONNECTION_RELAY,
        .state = MVPN_CONNECTION_HOLE_PUNCH,
        .reason = MVPN_CONNECTION_ROUND,
    };
    assert_int_equal(mvpn_view_new(&config, &view), 0);
    mvpn_connection_log_init(&c, &log, MVPN_S(5));
    mvpn_connection_log_event(&c, view, &e);
    assert_string_equal(last[0], "connection with abcd000000000000: relay, hole punch (a round of "
                                 "hole punching begins)");
    e.has_identity = false;
    mvpn_connection_log_event(&c, view, &e);
    assert_string_equal(last[0],
                        "connection with a client: relay, hole punch (a round of hole punching "
                        "begins)");
    for (unsigned i = 0; i < 1000; i++) {
        mvpn_connection_log_event(&c, view, &e);
    }
    assert_in_range(lines, 10, 40);
    unsigned before = lines;
    e.at += MVPN_S(1);
    mvpn_connection_log_event(&c, view, &e);
    assert_int_equal(lines, before + 2);
    char wanted[64];
    (void)snprintf(wanted, sizeof(wanted), "connections: %u changes were not logged",
                   1002 - before);
    assert_string_equal(last[1], wanted);
    mvpn_view_free(view);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_lines)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
