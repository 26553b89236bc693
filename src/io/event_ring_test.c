/* The last lines of a log: in order, bounded, printable, and passed on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "io/event_ring.h"

static char passed_on[2 * MVPN_EVENT_TEXT_MAX];
static unsigned passed_count;

static void take(void *ctx, enum mvpn_log_level level, const char *line)
{
    (void)ctx;
    (void)level;
    passed_count++;
    (void)snprintf(passed_on, sizeof(passed_on), "%s", line);
}

static json_t *tell(const mvpn_event_ring *ring, json_int_t since)
{
    json_t *request = json_pack("{s:I}", "since", since), *reply = json_object();
    assert_int_equal(mvpn_event_ring_tell(ring, request, reply), 0);
    json_decref(request);
    return reply;
}

static const char *text_at(const json_t *reply, size_t i)
{
    return json_string_value(
        json_object_get(json_array_get(json_object_get(reply, "events"), i), "text"));
}

static void check(const mvpn_event_ring *ring, json_int_t since, size_t count, unsigned first)
{
    char text[32];
    json_t *reply = tell(ring, since);
    assert_int_equal(json_array_size(json_object_get(reply, "events")), count);
    assert_int_equal(json_integer_value(json_object_get(reply, "last")), ring->count);
    for (size_t i = 0; i < count; i++) {
        (void)snprintf(text, sizeof(text), "line %zu", first + i);
        assert_string_equal(text_at(reply, i), text);
    }
    json_decref(reply);
}

static void test_ring(void **state)
{
    static mvpn_event_ring ring;
    mvpn_log log = {.write = take, .level = MVPN_LOG_INFO};
    (void)state;
    ring = (mvpn_event_ring){.count = 0};
    mvpn_event_ring_attach(&ring, &log);
    check(&ring, 0, 0, 0);
    for (unsigned i = 1; i <= 300; i++) {
        mvpn_logf(&log, MVPN_LOG_INFO, "line %u", i);
        mvpn_logf(&log, MVPN_LOG_DEBUG, "not at this level");
        assert_int_equal(passed_count, i);
    }
    check(&ring, 0, MVPN_EVENT_RING_MAX, 300 - MVPN_EVENT_RING_MAX + 1);
    check(&ring, 298, 2, 299);
    check(&ring, 300, 0, 0);
    check(&ring, 1000000, 0, 0); /* of a daemon that was there before */
}

static void test_text(void **state)
{
    static mvpn_event_ring ring;
    mvpn_log log = {.write = take, .level = MVPN_LOG_INFO};
    char line[MVPN_EVENT_TEXT_MAX + 50];
    (void)state;
    ring = (mvpn_event_ring){.count = 0};
    mvpn_event_ring_attach(&ring, &log);
    mvpn_logf(&log, MVPN_LOG_WARN, "a\033[31m\xff\n");
    assert_string_equal(passed_on, "a\033[31m\xff\n"); /* the log has rules of its own */
    memset(line, 'x', sizeof(line));
    line[sizeof(line) - 1] = '\0';
    mvpn_logf(&log, MVPN_LOG_ERROR, "%s", line);
    json_t *reply = tell(&ring, 0);
    assert_string_equal(text_at(reply, 0), "a?[31m??");
    assert_int_equal(strlen(text_at(reply, 1)), MVPN_EVENT_TEXT_MAX);
    const json_t *first = json_array_get(json_object_get(reply, "events"), 0);
    assert_string_equal(json_string_value(json_object_get(first, "level")), "warning");
    assert_true(json_integer_value(json_object_get(first, "time")) > 1700000000);
    json_decref(reply);
}

static void test_requests(void **state)
{
    static const char *const bad[] = {"{\"since\":-1}", "{\"since\":\"1\"}", "{\"since\":1.5}"};
    static mvpn_event_ring ring;
    (void)state;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(bad); i++) {
        json_t *request = json_loads(bad[i], 0, NULL), *reply = json_object();
        assert_int_equal(mvpn_event_ring_tell(&ring, request, reply), MVPN_E_INVAL);
        assert_true(json_is_string(json_object_get(reply, "error")));
        json_decref(request);
        json_decref(reply);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ring),
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_requests),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
