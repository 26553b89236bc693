/*
 * The STUN service and the probe on one loop, over loopback.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"
#include "io/clock.h"
#include "io/stun_probe.h"
#include "io/stun_service.h"
#include "io/stun_socket.h"

static struct world {
    mvpn_loop *loop;
    mvpn_stun_service *service;
    mvpn_stun_probe *probe;
    unsigned port; /* and the one above */
    unsigned calls;
    mvpn_stun_result result;
} w;

static mvpn_addr addr(const char *format, unsigned port)
{
    char text[MVPN_ADDR_STRLEN];
    mvpn_addr a;
    (void)snprintf(text, sizeof(text), format, port);
    assert_int_equal(mvpn_addr_parse(text, &a), 0);
    return a;
}

static int setup(void **state)
{
    (void)state;
    w = (struct world){.port = 20000 + 2 * ((unsigned)getpid() % 10000)};
    return mvpn_loop_new(&w.loop);
}

static int teardown(void **state)
{
    (void)state;
    mvpn_stun_probe_free(w.probe);
    mvpn_stun_service_free(w.service);
    mvpn_loop_free(w.loop);
    return 0;
}

static void serve(const char *primary, const char *alternate)
{
    mvpn_fault why;
    for (unsigned tries = 0; tries < 50; tries++, w.port += 2) {
        mvpn_addr listen[2] = {addr(primary, w.port)};
        if (alternate != NULL) {
            listen[1] = addr(alternate, w.port + 1);
        }
        if (mvpn_stun_service_new(w.loop, listen, alternate != NULL ? 2 : 1, true, &w.service,
                                  &why) == 0) {
            return;
        }
    }
    fail_msg("%s", why.text);
}

/* Frees the probe from within: that is allowed. */
static void ended(void *ctx, const mvpn_stun_result *result)
{
    (void)ctx;
    w.calls++;
    w.result = *result;
    mvpn_stun_probe_free(w.probe);
    w.probe = NULL;
    mvpn_loop_stop(w.loop);
}

static void probe(mvpn_addr server)
{
    mvpn_fault why;
    mvpn_stun_probe_options o = {.servers = &server, .server_count = 1};
    assert_int_equal(mvpn_stun_probe_new(w.loop, &o, ended, NULL, &w.probe, &why), 0);
    assert_int_equal(mvpn_loop_run(w.loop), 0);
    assert_int_equal(w.calls, 1);
}

static void test_discovery(void **state)
{
    (void)state;
    serve("127.0.0.1:%u", "127.0.0.2:%u");
    mvpn_time from = mvpn_clock_now();
    probe(addr("127.0.0.1:%u", w.port));
    assert_int_equal(w.result.nat, MVPN_STUN_NAT_NONE);
    assert_int_equal(w.result.mapping, MVPN_STUN_MAPPING_ENDPOINT_INDEPENDENT);
    assert_int_equal(w.result.filtering, MVPN_STUN_FILTERING_ENDPOINT_INDEPENDENT);
    assert_int_equal(w.result.ports, MVPN_STUN_PORTS_PRESERVING);
    assert_int_equal(w.result.forged, 0);
    assert_true(w.result.rtt > 0);
    assert_true(mvpn_clock_now() - from < MVPN_MS(800)); /* nothing was waited for */
    mvpn_stun_server_stats s = mvpn_stun_service_get_stats(w.service);
    assert_int_equal(s.answered, 7); /* 2 + 2 + 3 */
    assert_int_equal(s.malformed + s.too_short + s.limited + s.refused, 0);
}

static void test_ipv6(void **state)
{
    (void)state;
    mvpn_addr one = addr("[::1]:%u", 1);
    if (mvpn_stun_socket_source(&one, 0).family == 0) {
        skip();
    }
    serve("[::1]:%u", NULL);
    probe(addr("[::1]:%u", w.port));
    assert_int_equal(w.result.nat, MVPN_STUN_NAT_NONE);
    assert_int_equal(w.result.mapped[0].family, 6);
    assert_int_equal(w.result.filtering, MVPN_STUN_FILTERING_UNKNOWN);
}

static void test_silence(void **state)
{
    (void)state;
    mvpn_addr any = addr("127.0.0.1:%u", 0);
    int fd = mvpn_stun_socket_open(&any, 0); /* it takes and says nothing */
    assert_true(fd >= 0);
    mvpn_time from = mvpn_clock_now();
    probe(mvpn_stun_socket_local(fd));
    assert_int_equal(w.result.nat, MVPN_STUN_NAT_UDP_BLOCKED);
    assert_in_range(mvpn_clock_now() - from, MVPN_MS(900), MVPN_S(5));
    (void)close(fd);
}

static void stop(void *ctx)
{
    (void)ctx;
    mvpn_loop_stop(w.loop);
}

/* A short request gets nothing, a long one an answer from the address that was asked. */
static void test_strict(void **state)
{
    (void)state;
    uint8_t bytes[MVPN_STUN_MAX];
    static const uint8_t id[MVPN_STUN_TRANSACTION_LEN] = {1}, spaces[1500];
    mvpn_stun_writer s;
    mvpn_addr from, any = addr("127.0.0.1:%u", 0);
    serve("127.0.0.1:%u", NULL);
    mvpn_addr to = addr("127.0.0.1:%u", w.port);
    int fd = mvpn_stun_socket_open(&any, 0);
    for (unsigned is_long = 0; is_long < 2; is_long++) {
        mvpn_stun_begin(&s, bytes, sizeof(bytes), MVPN_STUN_REQUEST, MVPN_STUN_BINDING, id);
        if (is_long) { /* as coturn's natdiscovery -P does */
            mvpn_stun_put_bytes(&s, MVPN_STUN_PADDING, MVPN_BYTES_ARRAY(spaces));
        }
        mvpn_stun_socket_send(fd, &to, bytes, mvpn_stun_end(&s));
    }
    mvpn_loop_timer *timer;
    assert_int_equal(mvpn_loop_timer_new(w.loop, stop, NULL, &timer), 0);
    mvpn_loop_timer_set(timer, 50);
    assert_int_equal(mvpn_loop_run(w.loop), 0);
    mvpn_loop_timer_free(timer);
    ssize_t n = mvpn_stun_socket_recv(fd, bytes, sizeof(bytes), &from);
    assert_int_equal(n, 56);
    assert_true(mvpn_addr_eq(&from, &to));
    assert_int_equal(mvpn_stun_socket_recv(fd, bytes, sizeof(bytes), &from), -1);
    assert_int_equal(mvpn_stun_service_get_stats(w.service).too_short, 1);
    (void)close(fd);
}

/* What cannot be served is said. */
static void test_faults(void **state)
{
    (void)state;
    mvpn_fault why = {.text = ""};
    mvpn_stun_service *second = NULL;
    serve("127.0.0.1:%u", NULL);
    mvpn_addr taken = addr("127.0.0.1:%u", w.port), foreign = addr("192.0.2.1:%u", 3478);
    assert_int_equal(mvpn_stun_service_new(w.loop, &taken, 1, true, &second, &why), MVPN_E_CONFIG);
    assert_non_null(strstr(why.text, "stun_listen"));
    assert_int_equal(mvpn_stun_service_new(w.loop, &foreign, 1, true, &second, &why),
                     MVPN_E_CONFIG);
    mvpn_addr three[3] = {addr("127.0.0.1:%u", 1), addr("127.0.0.2:%u", 2),
                          addr("127.0.0.3:%u", 3)};
    assert_int_equal(mvpn_stun_service_new(w.loop, three, 3, true, &second, &why), MVPN_E_CONFIG);
    three[1].port = 1;
    assert_int_equal(mvpn_stun_service_new(w.loop, three, 2, true, &second, &why), MVPN_E_CONFIG);
    assert_null(second);
    mvpn_stun_probe_options none = {.servers = &taken, .server_count = 0};
    assert_int_equal(mvpn_stun_probe_new(w.loop, &none, ended, NULL, &w.probe, &why), MVPN_E_INVAL);
    mvpn_addr no_port = addr("127.0.0.1:%u", 0);
    mvpn_stun_probe_options bad = {.servers = &no_port, .server_count = 1};
    assert_int_equal(mvpn_stun_probe_new(w.loop, &bad, ended, NULL, &w.probe, &why), MVPN_E_INVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_discovery, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ipv6, setup, teardown),
        cmocka_unit_test_setup_teardown(test_silence, setup, teardown),
        cmocka_unit_test_setup_teardown(test_strict, setup, teardown),
        cmocka_unit_test_setup_teardown(test_faults, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
