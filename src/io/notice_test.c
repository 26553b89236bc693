/*
 * What an exit tells: rounded counters that hold no more than they should, and its notice page.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/error.h"
#include "io/metrics.h"
#include "io/notice.h"
#include "network/ip/inner.h"
#include "network/ip/testing.h"

static mvpn_packet_pool pool;
static mvpn_rng rng;
static mvpn_exit *ex;

static int setup(void **state)
{
    (void)state;
    mvpn_policy_error error;
    mvpn_addr dns = {.family = 4, .port = 53, .ip = {11, 1, 1, 1}};
    mvpn_exit_config c = {.packets = &pool,
                          .rng = &rng,
                          .pool_v4 = {.family = 4, .ip = {10, 64}},
                          .pool_v4_bits = 24,
                          .pool_v6 = {.family = 6, .ip = {0xfd}},
                          .dns = &dns,
                          .dns_count = 1,
                          .sessions_max = 20};
    mvpn_rng_init_test(&rng, 1);
    return mvpn_packet_pool_init(&pool, 64) != 0 || mvpn_exit_new(&c, &ex, &error) != 0;
}

static int teardown(void **state)
{
    (void)state;
    mvpn_exit_free(ex);
    mvpn_packet_pool_done(&pool);
    return 0;
}

static long long value(const char *text, const char *name)
{
    const char *at = strstr(text, name);
    assert_non_null(at);
    return atoll(at + strlen(name));
}

static void counters_are_rounded(void **state)
{
    (void)state;
    static const uint8_t far[4] = {11, 1, 2, 3};
    char text[MVPN_METRICS_SIZE], before[MVPN_METRICS_SIZE];
    uint32_t id = 0;
    size_t n = mvpn_metrics_write(ex, text);
    assert_int_equal(strlen(text), n);
    assert_string_equal(text + n - 6, "# EOF\n");
    assert_int_equal(value(text, "\nmeshvpn_exit_sessions "), 0);
    assert_int_equal(mvpn_exit_session_open(ex, 1289, false, 0, &id), 0);
    (void)mvpn_metrics_write(ex, before);
    assert_int_equal(value(before, "\nmeshvpn_exit_sessions "), 8);
    /* A thousand packets of a thousand bytes show nothing; some more, and steps are seen. */
    for (int i = 0; i < 3000; i++) {
        mvpn_packet *p = mvpn_packet_new(&pool), *q;
        p->len = (uint32_t)build_udp(p->data, 4, mvpn_inner_client(4), 1, far, 2, 972);
        assert_int_equal(mvpn_exit_from_session(ex, id, p, 0), 0);
        while ((q = mvpn_packet_queue_pop(mvpn_exit_tun_out(ex))) != NULL) {
            mvpn_packet_free(&pool, q);
        }
        if (i == 999) {
            (void)mvpn_metrics_write(ex, text);
            assert_string_equal(text, before);
        }
    }
    (void)mvpn_metrics_write(ex, text);
    assert_int_equal(value(text, "bytes_total{direction=\"out\"} "), 2 << 20);
    assert_int_equal(value(text, "packets_total{direction=\"out\"} "), 2048);
    assert_int_equal(value(text, "bytes_total{direction=\"in\"} "), 0);
    json_t *o = json_object();
    mvpn_metrics_report(ex, o);
    json_t *e = json_object_get(o, "exit");
    assert_int_equal(json_integer_value(json_object_get(e, "bytes_out")), 2 << 20);
    assert_int_equal(json_integer_value(json_object_get(e, "sessions")), 8);
    assert_int_equal(json_integer_value(json_object_get(e, "sessions_detached")), 0);
    json_decref(o);
    mvpn_exit_session_detach(ex, id);
    (void)mvpn_metrics_write(ex, text);
    assert_int_equal(value(text, "\nmeshvpn_exit_sessions_detached "), 8);
    for (int i = 0; i < 64; i++) {
        assert_int_equal(value(text, "\nmeshvpn_exit_sessions_moved_total "), 0);
        assert_int_equal(mvpn_exit_session_attach(ex, id, 1289), 0);
        (void)mvpn_metrics_write(ex, text);
    }
    assert_int_equal(value(text, "\nmeshvpn_exit_sessions_moved_total "), 64);
    assert_int_equal(value(text, "\nmeshvpn_exit_sessions_detached "), 0);
}

/* As the text format wants it: each family's type once, before its samples. */
static void text_is_well_formed(void **state)
{
    (void)state;
    char text[MVPN_METRICS_SIZE], family[64] = "-", name[64];
    (void)mvpn_metrics_write(ex, text);
    unsigned samples = 0;
    char *save = NULL;
    for (char *line = strtok_r(text, "\n", &save); line != NULL;
         line = strtok_r(NULL, "\n", &save)) {
        if (sscanf(line, "# TYPE %63s", family) == 1 || strncmp(line, "# ", 2) == 0) {
            continue;
        }
        assert_int_equal(sscanf(line, "%63[a-z0-9_]", name), 1);
        assert_memory_equal(name, family, strlen(family));
        assert_true(strcmp(name + strlen(family), "_total") == 0 ||
                    strcmp(name, "meshvpn_exit_sessions") == 0 ||
                    strcmp(name, "meshvpn_exit_sessions_detached") == 0);
        samples++;
    }
    assert_in_range(samples, 15, 40);
}

static void requests(void **state)
{
    (void)state;
    mvpn_notice n = {.exit = ex, .host = "127.0.0.1"};
    n.page = mvpn_http_blob_copy("hello", 5);
    static const struct {
        bool metrics;
        const char *method, *target, *host;
        unsigned status;
    } rows[] = {
        {true, "GET", "/metrics", "127.0.0.1:9464", 200},
        {true, "GET", "/metrics", "localhost", 200},
        {true, "HEAD", "/metrics", "localhost", 200},
        {true, "POST", "/metrics", "localhost", 405},
        {true, "GET", "/", "localhost", 404},
        {true, "GET", "/metrics", "evil.example", 421},
        {true, "GET", "/metrics", NULL, 421},
        {false, "GET", "/", "11.2.3.4", 200},
        {false, "GET", "/", NULL, 200},
        {false, "GET", "/metrics", "localhost", 404},
        {false, "PUT", "/", "localhost", 405},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        mvpn_http_request q = {rows[i].method, rows[i].target, rows[i].host, NULL};
        mvpn_http_response r = {.status = 0};
        (rows[i].metrics ? mvpn_notice_on_metrics : mvpn_notice_on_page)(&n, &q, &r);
        if (r.status != rows[i].status || r.type == NULL || r.body == NULL) {
            fail_msg("row %zu: %u", i, r.status);
        }
        mvpn_http_blob_release(r.body);
    }
    mvpn_http_blob_release(n.page);
}

static void bad_options(void **state)
{
    (void)state;
    mvpn_notice n;
    mvpn_fault fault = {.text = ""};
    mvpn_loop *loop = NULL;
    assert_int_equal(mvpn_loop_new(&loop), 0);
    mvpn_notice_options o = {.loop = loop, .exit = ex, .page = "/nowhere/page.html"};
    assert_int_equal(mvpn_notice_open(&n, &o, &fault), MVPN_E_CONFIG);
    assert_non_null(strstr(fault.text, "/nowhere/page.html"));
    mvpn_notice_close(&n);
    o.page = "default";
    assert_int_equal(mvpn_notice_open(&n, &o, &fault), MVPN_E_CONFIG);
    assert_non_null(strstr(fault.text, "address"));
    mvpn_notice_close(&n);
    o.page = "";
    assert_int_equal(mvpn_notice_open(&n, &o, &fault), 0);
    mvpn_notice_close(&n);
    mvpn_loop_free(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(counters_are_rounded, setup, teardown),
        cmocka_unit_test_setup_teardown(text_is_well_formed, setup, teardown),
        cmocka_unit_test_setup_teardown(requests, setup, teardown),
        cmocka_unit_test_setup_teardown(bad_options, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
