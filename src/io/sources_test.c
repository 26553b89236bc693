/*
 * All sources of a client at once, against a DNS server and a web server in the same loop: what
 * they bring, what is said when they fail, how often they are asked, and silence after stop.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cursor.h"
#include "base/error.h"
#include "io/clock.h"
#include "io/sockaddr.h"
#include "io/source_dns.h"
#include "io/sources.h"

#define NAME "entries.example.org"
#define RECORDS 500
#define ASKED_MAX 64

struct world;

struct connection {
    struct world *world;
    mvpn_loop_watch *watch; /* NULL: free */
    int fd;
};

struct world {
    mvpn_loop *loop;
    mvpn_loop_timer *timer;
    mvpn_sources *sources;
    mvpn_network_file network;
    mvpn_log log;
    int dns_fd, http_fd;
    mvpn_addr dns_addr;
    mvpn_loop_watch *dns_watch, *http_watch;
    /* how the servers behave */
    bool dns_is_silent;
    const char *http_status;
    bool http_is_silent;
    uint8_t *bundle;
    size_t bundle_len;
    struct connection connections[32];
    /* what was asked */
    unsigned dns_questions, http_requests, hung_up;
    mvpn_time asked_at[ASKED_MAX];
    /* what came */
    unsigned entries[MVPN_SOURCE_KINDS];
    char origin[MVPN_SOURCE_KINDS][64];
    unsigned records, snapshots, bundles, dates;
    unsigned lines, warnings;
    char last_line[512];
    bool stops_at_entry;
    unsigned retry_ms, timeout_ms;
};

static mvpn_dht_contact contact(unsigned i)
{
    char text[MVPN_ADDR_STRLEN];
    mvpn_dht_contact c = {.link_key = {{(uint8_t)i}}};
    mvpn_ed25519_pub identity = {{(uint8_t)i, 1}};
    (void)snprintf(text, sizeof(text), "192.0.2.%u:7000", i + 1);
    assert_int_equal(mvpn_addr_parse(text, &c.addr), 0);
    mvpn_dht_node_id(&c.id, &identity, &c.addr);
    return c;
}

/* ---- servers ---- */

static void serve_dns(void *ctx, unsigned events)
{
    struct world *w = ctx;
    uint8_t q[512], a[512];
    char text[MVPN_SOURCE_DNS_TEXT_SIZE];
    struct sockaddr_storage from;
    socklen_t from_len = sizeof(from);
    (void)events;
    ssize_t n = recvfrom(w->dns_fd, q, sizeof(q), 0, (struct sockaddr *)&from, &from_len);
    assert_true(n > 12);
    w->dns_questions++;
    if (w->dns_is_silent) {
        return;
    }
    mvpn_dht_contact c = contact(1);
    mvpn_writer out = mvpn_writer_init(a, sizeof(a));
    mvpn_write_bytes(&out, q, (size_t)n);
    mvpn_store16(a + 2, 0x8180);
    mvpn_store16(a + 6, 1);
    mvpn_write_bytes(&out, "\xc0\x0c\0\x10\0\1\0\0\0\x3c\0", 11);
    size_t len = strlen(mvpn_source_dns_format(text, &c));
    mvpn_write8(&out, (uint8_t)(len + 1));
    mvpn_write8(&out, (uint8_t)len);
    mvpn_write_bytes(&out, text, len);
    assert_false(out.failed);
    len = mvpn_writer_len(&out);
    assert_true(sendto(w->dns_fd, a, len, 0, (struct sockaddr *)&from, from_len) == (ssize_t)len);
}

static void answer_http(void *ctx, unsigned events)
{
    struct connection *c = ctx;
    struct world *w = c->world;
    char request[1024], head[256];
    (void)events;
    ssize_t n = read(c->fd, request, sizeof(request) - 1); /* it comes in one piece */
    if (n > 0) {
        request[n] = '\0';
        assert_int_equal(strncmp(request, "GET /net/v1/bundle HTTP/1.1\r\n", 29), 0);
        assert_true(w->http_requests < ASKED_MAX);
        w->asked_at[w->http_requests++] = mvpn_clock_now();
        if (w->http_is_silent) {
            return;
        }
        int len = snprintf(head, sizeof(head),
                           "HTTP/1.1 %s\r\nDate: Sun, 22 Nov 2026 12:00:00 GMT\r\n"
                           "Content-Length: %zu\r\nConnection: close\r\n\r\n",
                           w->http_status, w->bundle_len);
        /* Both fit the socket's buffer; the client may be gone. */
        (void)!send(c->fd, head, (size_t)len, MSG_NOSIGNAL);
        (void)!send(c->fd, w->bundle, w->bundle_len, MSG_NOSIGNAL);
    } else {
        w->hung_up++;
    }
    mvpn_loop_unwatch(c->watch);
    (void)close(c->fd);
    *c = (struct connection){0};
}

static void serve_http(void *ctx, unsigned events)
{
    struct world *w = ctx;
    (void)events;
    int fd = accept4(w->http_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
        return; /* it has thought better of it */
    }
    struct connection *c = w->connections;
    while (c->watch != NULL) {
        c++;
        assert_true(c < w->connections + MVPN_ARRAY_LEN(w->connections));
    }
    *c = (struct connection){.world = w, .fd = fd};
    assert_int_equal(mvpn_loop_watch_fd(w->loop, fd, MVPN_LOOP_READABLE, answer_http, c, &c->watch),
                     0);
}

static int open_server(int type, mvpn_addr *ret)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct sockaddr_storage bound = {0};
    socklen_t len = sizeof(bound);
    int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&bound, &len), 0);
    *ret = mvpn_sockaddr_to_addr(&bound);
    return fd;
}

/* ---- what comes ---- */

static void entry_came(void *ctx, enum mvpn_source_kind kind, const char *origin,
                       const mvpn_dht_contact *entry)
{
    struct world *w = ctx;
    assert_true(mvpn_dht_id_fits(&entry->id, &entry->addr));
    w->entries[kind]++;
    (void)snprintf(w->origin[kind], sizeof(w->origin[kind]), "%s", origin != NULL ? origin : "");
    if (w->stops_at_entry) {
        mvpn_sources_stop(w->sources);
    }
}

static void record_came(void *ctx, const char *origin, unsigned type, mvpn_bytes record)
{
    struct world *w = ctx;
    assert_non_null(origin);
    assert_true(record.n > 0);
    w->records += type != MVPN_BUNDLE_SNAPSHOT;
    w->snapshots += type == MVPN_BUNDLE_SNAPSHOT;
}

static void bundle_ended(void *ctx, const char *origin)
{
    struct world *w = ctx;
    assert_non_null(origin);
    w->bundles++;
}

static void date_came(void *ctx, const char *origin, uint64_t unix_time)
{
    struct world *w = ctx;
    assert_non_null(origin);
    w->dates += unix_time == 1795348800;
}

static void line_came(void *ctx, enum mvpn_log_level level, const char *line)
{
    struct world *w = ctx;
    w->lines++;
    w->warnings += level <= MVPN_LOG_WARN;
    (void)snprintf(w->last_line, sizeof(w->last_line), "%s", line);
    assert_null(strstr(line, "192.0.2.")); /* no address of anybody */
}

/* ---- the world ---- */

static void time_is_up(void *ctx)
{
    struct world *w = ctx;
    mvpn_loop_stop(w->loop);
}

static void run_for(struct world *w, unsigned ms)
{
    mvpn_loop_timer_set(w->timer, ms);
    assert_int_equal(mvpn_loop_run(w->loop), 0);
}

/* Run until a counter is there; a loaded machine takes its time. */
static void wait_for(struct world *w, const unsigned *counter, unsigned least)
{
    for (unsigned i = 0; i < 1000 && *counter < least; i++) {
        run_for(w, 4);
    }
    assert_true(*counter >= least);
}

static void make_bundle(struct world *w)
{
    size_t size = RECORDS * 110 + 1000;
    uint8_t record[100] = {1}, entry[MVPN_DHT_CONTACT4_LEN], snapshot[45] = {1};
    w->bundle = malloc(size);
    w->bundle_len = 0;
    for (unsigned i = 0; i < 2; i++) {
        mvpn_dht_contact c = contact(10 + i);
        assert_int_equal(mvpn_dht_contact_encode(entry, sizeof(entry), &c), sizeof(entry));
        assert_int_equal(mvpn_bundle_append(w->bundle, size, &w->bundle_len, MVPN_BUNDLE_ENTRY,
                                            MVPN_BYTES_ARRAY(entry)),
                         0);
    }
    entry[0] ^= 1; /* one that does not fit its address: passed over */
    assert_int_equal(mvpn_bundle_append(w->bundle, size, &w->bundle_len, MVPN_BUNDLE_ENTRY,
                                        MVPN_BYTES_ARRAY(entry)),
                     0);
    for (unsigned i = 0; i < RECORDS; i++) {
        assert_int_equal(mvpn_bundle_append(w->bundle, size, &w->bundle_len, MVPN_RECORD_DESCRIPTOR,
                                            MVPN_BYTES_ARRAY(record)),
                         0);
    }
    assert_int_equal(mvpn_bundle_append(w->bundle, size, &w->bundle_len, MVPN_BUNDLE_SNAPSHOT,
                                        MVPN_BYTES_ARRAY(snapshot)),
                     0);
}

static int setup(void **state)
{
    static struct world w;
    memset(&w, 0, sizeof(w));
    *state = &w;
    mvpn_addr http;
    w.http_status = "200 OK";
    w.retry_ms = 60000; /* one round */
    w.timeout_ms = 100;
    w.dns_fd = open_server(SOCK_DGRAM | SOCK_NONBLOCK, &w.dns_addr);
    w.http_fd = open_server(SOCK_STREAM | SOCK_NONBLOCK, &http);
    assert_int_equal(listen(w.http_fd, 8), 0);
    w.log = (mvpn_log){line_came, &w, MVPN_LOG_INFO};
    (void)snprintf(w.network.dns, sizeof(w.network.dns), NAME);
    (void)snprintf(w.network.discovery[0], sizeof(w.network.discovery[0]),
                   "http://127.0.0.1:%u/net", http.port);
    w.network.discovery_count = 1;
    w.network.entries[0] = contact(20);
    w.network.entry_count = 1;
    make_bundle(&w);
    return mvpn_loop_new(&w.loop) != 0 ||
           mvpn_loop_timer_new(w.loop, time_is_up, &w, &w.timer) != 0 ||
           mvpn_loop_watch_fd(w.loop, w.dns_fd, MVPN_LOOP_READABLE, serve_dns, &w, &w.dns_watch) !=
               0 ||
           mvpn_loop_watch_fd(w.loop, w.http_fd, MVPN_LOOP_READABLE, serve_http, &w,
                              &w.http_watch) != 0;
}

static void begin(struct world *w, const mvpn_state_entries *cached)
{
    mvpn_sources_config c = {
        .loop = w->loop,
        .log = &w->log,
        .network = &w->network,
        .cached = cached,
        .calls = {entry_came, record_came, bundle_ended, date_came, w},
        .dns_server = &w->dns_addr,
        .retry_ms = w->retry_ms,
        .retry_max_ms = w->retry_ms * 4,
        .timeout_ms = w->timeout_ms,
    };
    assert_int_equal(mvpn_sources_new(&c, &w->sources, NULL), 0);
    mvpn_sources_start(w->sources);
}

static int teardown(void **state)
{
    struct world *w = *state;
    mvpn_sources_free(w->sources);
    mvpn_loop_timer_free(w->timer);
    for (size_t i = 0; i < MVPN_ARRAY_LEN(w->connections); i++) {
        if (w->connections[i].watch != NULL) {
            mvpn_loop_unwatch(w->connections[i].watch);
            (void)close(w->connections[i].fd);
        }
    }
    mvpn_loop_free(w->loop);
    (void)close(w->dns_fd);
    (void)close(w->http_fd);
    free(w->bundle);
    return 0;
}

/* ---- tests ---- */

static void test_all_at_once(void **state)
{
    struct world *w = *state;
    static mvpn_state_entries cached;
    mvpn_dht_contact old = contact(30);
    mvpn_sources_status status;
    cached = (mvpn_state_entries){0};
    mvpn_state_entries_put(&cached, &old, 1800000000);
    begin(w, &cached);
    assert_int_equal(w->entries[MVPN_SOURCE_CACHE], 1); /* before anything was waited for */
    assert_int_equal(w->entries[MVPN_SOURCE_FILE], 1);
    assert_int_equal(w->entries[MVPN_SOURCE_DNS], 0);
    wait_for(w, &w->entries[MVPN_SOURCE_DNS], 1);
    wait_for(w, &w->bundles, 1);
    assert_int_equal(w->entries[MVPN_SOURCE_DNS], 1);
    assert_string_equal(w->origin[MVPN_SOURCE_DNS], NAME);
    assert_int_equal(w->entries[MVPN_SOURCE_URL], 2);
    assert_string_equal(w->origin[MVPN_SOURCE_URL], w->network.discovery[0]);
    assert_int_equal(w->records, RECORDS);
    assert_int_equal(w->snapshots, 1);
    assert_int_equal(w->bundles, 1);
    assert_int_equal(w->dates, 1);
    assert_int_equal(w->lines, 0);
    mvpn_sources_get_status(w->sources, &status);
    assert_int_equal(status.rounds, 1);
    assert_int_equal(status.kind[MVPN_SOURCE_URL].entries, 2);
    assert_int_equal(status.kind[MVPN_SOURCE_URL].failures, 0);
    assert_true(status.kind[MVPN_SOURCE_DNS].is_used);
    assert_false(status.kind[MVPN_SOURCE_LAN].is_used);
}

/* Asked again and again, ever more seldom. */
static void test_rounds_back_off(void **state)
{
    struct world *w = *state;
    w->bundle_len = 0;
    w->retry_ms = 40;
    begin(w, NULL);
    run_for(w, 700); /* about 40, 80, 160, 160, 160 ms between */
    assert_in_range(w->http_requests, 3, 9);
    for (unsigned i = 1; i < w->http_requests; i++) {
        mvpn_time least = MVPN_MS(MVPN_MIN(40u << (i - 1), 160u)) * 3 / 4;
        assert_true(w->asked_at[i] - w->asked_at[i - 1] + MVPN_MS(5) >= least);
    }
    assert_in_range(w->dns_questions, 3, 9);
    assert_in_range(w->entries[MVPN_SOURCE_FILE], 3, 9);
}

static void test_stop_is_silence(void **state)
{
    struct world *w = *state;
    w->retry_ms = 40;
    begin(w, NULL);
    wait_for(w, &w->entries[MVPN_SOURCE_DNS], 1);
    wait_for(w, &w->bundles, 1);
    mvpn_sources_stop(w->sources);
    mvpn_sources_stop(w->sources);
    assert_false(mvpn_sources_are_running(w->sources));
    unsigned questions = w->dns_questions, requests = w->http_requests;
    run_for(w, 300);
    assert_int_equal(w->dns_questions, questions);
    assert_int_equal(w->http_requests, requests);
    mvpn_dht_contact worked = contact(40);
    mvpn_sources_cache(w->sources, &worked, 1800000000);
    mvpn_sources_start(w->sources); /* and again, from the first round on */
    assert_int_equal(w->entries[MVPN_SOURCE_CACHE], 1);
    wait_for(w, &w->dns_questions, questions + 1);
    wait_for(w, &w->http_requests, requests + 1);
}

/* What is under way when the client connects is dropped: questions unanswered, half a transfer. */
static void test_stop_drops_what_is_under_way(void **state)
{
    struct world *w = *state;
    w->dns_is_silent = w->http_is_silent = true;
    w->timeout_ms = 400;
    begin(w, NULL);
    wait_for(w, &w->dns_questions, 1);
    wait_for(w, &w->http_requests, 1);
    mvpn_sources_stop(w->sources);
    run_for(w, 150); /* long before it would time out */
    assert_int_equal(w->hung_up, 1);
    run_for(w, 500);
    assert_int_equal(w->dns_questions, 1); /* not even a second try */
    assert_int_equal(w->lines, 0);
    /* Stop and start in one breath. */
    mvpn_sources_start(w->sources);
    mvpn_sources_stop(w->sources);
    mvpn_sources_start(w->sources);
    wait_for(w, &w->http_requests, 2);
}

/* Without another turn of the loop, and so that the server says no more. */
static void test_end_is_at_once(void **state)
{
    struct world *w = *state;
    char byte;
    w->dns_is_silent = w->http_is_silent = true;
    begin(w, NULL);
    wait_for(w, &w->dns_questions, 1);
    wait_for(w, &w->http_requests, 1);
    mvpn_sources_end(w->sources);
    assert_false(mvpn_sources_are_running(w->sources));
    assert_int_equal(recv(w->connections[0].fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT), -1);
    assert_int_equal(errno, ECONNRESET);
    run_for(w, 50);
    assert_int_equal(w->hung_up, 1);
    assert_int_equal(w->lines, 0);
    mvpn_sources_start(w->sources);
    wait_for(w, &w->http_requests, 2);
}

static void test_stop_from_within(void **state)
{
    struct world *w = *state;
    w->network.entry_count = 0;
    w->stops_at_entry = true;
    begin(w, NULL);
    run_for(w, 100);
    assert_int_equal(w->entries[MVPN_SOURCE_DNS] + w->entries[MVPN_SOURCE_URL] > 0, 1);
    assert_false(mvpn_sources_are_running(w->sources));
    assert_true(w->dns_questions <= 1 && w->http_requests <= 1);
}

static void test_each_failure_is_told_once(void **state)
{
    struct world *w = *state;
    mvpn_sources_status status;
    w->dns_is_silent = true;
    w->http_status = "503 Busy";
    w->retry_ms = 40;
    begin(w, NULL);
    wait_for(w, &w->warnings, 2);
    wait_for(w, &w->http_requests, 5);
    assert_int_equal(w->warnings, 2);
    mvpn_sources_get_status(w->sources, &status);
    assert_true(status.kind[MVPN_SOURCE_URL].failures >= 4);
    assert_non_null(strstr(status.kind[MVPN_SOURCE_URL].last_error, "503"));
    assert_int_equal(w->entries[MVPN_SOURCE_URL], 0);
    assert_true(w->entries[MVPN_SOURCE_FILE] > 0);
    w->http_status = "404 Gone"; /* something else: worth a line */
    w->dns_is_silent = false;
    wait_for(w, &w->entries[MVPN_SOURCE_DNS], 1); /* any one of them will do */
    wait_for(w, &w->warnings, 3);
    run_for(w, 50);
    assert_int_equal(w->warnings, 3);
    assert_non_null(strstr(w->last_line, "404"));
    assert_non_null(strstr(w->last_line, "discovery"));
}

static void test_bad_bundles(void **state)
{
    struct world *w = *state;
    w->bundle_len -= 10; /* cut off, in a transfer that is whole */
    w->network.dns[0] = '\0';
    begin(w, NULL);
    wait_for(w, &w->bundles, 1);
    assert_int_equal(w->records, RECORDS);
    assert_int_equal(w->snapshots, 0);
    assert_int_equal(w->bundles, 1);
    assert_int_equal(w->warnings, 1);
    assert_non_null(strstr(w->last_line, "malformed"));
}

static void test_nothing_to_ask(void **state)
{
    struct world *w = *state;
    w->network.entry_count = w->network.discovery_count = 0;
    w->network.dns[0] = '\0';
    begin(w, NULL);
    run_for(w, 20);
    assert_int_equal(w->warnings, 1);
    assert_non_null(strstr(w->last_line, "invitation"));
    assert_int_equal(w->dns_questions + w->http_requests, 0);
}

/* Somebody is always in the middle of something when a program ends. */
static void test_free_at_any_time(void **state)
{
    struct world *w = *state;
    for (unsigned ms = 0; ms < 12; ms++) {
        begin(w, NULL);
        run_for(w, ms);
        mvpn_sources_free(w->sources);
        w->sources = NULL;
        run_for(w, 1);
    }
    w->dns_is_silent = w->http_is_silent = true;
    begin(w, NULL);
    run_for(w, 10);
}

int main(void)
{
    const struct CMUnitTest all[] = {
        cmocka_unit_test_setup_teardown(test_all_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rounds_back_off, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stop_is_silence, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stop_drops_what_is_under_way, setup, teardown),
        cmocka_unit_test_setup_teardown(test_end_is_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stop_from_within, setup, teardown),
        cmocka_unit_test_setup_teardown(test_each_failure_is_told_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_bundles, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nothing_to_ask, setup, teardown),
        cmocka_unit_test_setup_teardown(test_free_at_any_time, setup, teardown),
    };
    return cmocka_run_group_tests(all, NULL, NULL);
}
