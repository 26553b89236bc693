/*
 * Entries from DNS: the parser against all that a network may answer; the resolver against a small
 * server on loopback, in the same loop, and against dnsmasq where it is installed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cursor.h"
#include "base/error.h"
#include "io/source_dns.h"
#include "io/sockaddr.h"

#define NAME "entries.example.org"

static mvpn_dht_contact contact(unsigned i, bool is_v6)
{
    char text[MVPN_ADDR_STRLEN];
    mvpn_dht_contact c = {.link_key = {{(uint8_t)i}}};
    mvpn_ed25519_pub identity = {{(uint8_t)i, 1}};
    (void)snprintf(text, sizeof(text), is_v6 ? "[2001:db8::%u]:7000" : "192.0.2.%u:7000", i + 1);
    assert_int_equal(mvpn_addr_parse(text, &c.addr), 0);
    mvpn_dht_node_id(&c.id, &identity, &c.addr);
    return c;
}

static void write_name(mvpn_writer *w)
{
    mvpn_write_bytes(w, "\7entries\7example\3org", sizeof("\7entries\7example\3org"));
}

static void write_head(mvpn_writer *w, uint16_t id, uint16_t flags, uint16_t answers)
{
    mvpn_write16(w, id);
    mvpn_write16(w, flags);
    mvpn_write16(w, 1);
    mvpn_write16(w, answers);
    mvpn_write32(w, 0);
    write_name(w);
    mvpn_write16(w, 16);
    mvpn_write16(w, 1);
}

/* A TXT record; its text in strings of `chunk` characters. */
static void write_txt(mvpn_writer *w, uint16_t type, const char *text, size_t chunk)
{
    size_t n = strlen(text), strings = (n + chunk - 1) / chunk;
    mvpn_write16(w, 0xc00c);
    mvpn_write16(w, type);
    mvpn_write16(w, 1);
    mvpn_write32(w, 60);
    mvpn_write16(w, (uint16_t)(n + strings));
    for (size_t at = 0; at < n; at += chunk) {
        size_t len = MVPN_MIN(chunk, n - at);
        mvpn_write8(w, (uint8_t)len);
        mvpn_write_bytes(w, text + at, len);
    }
}

/* Two entries, among records that are none if there is room (in 512 bytes there is not). */
static size_t response(uint8_t *out, size_t size, uint16_t id)
{
    char text[MVPN_SOURCE_DNS_TEXT_SIZE];
    mvpn_writer w = mvpn_writer_init(out, size);
    mvpn_dht_contact a = contact(1, false), b = contact(2, true), bad = contact(3, false);
    bad.id.b[0] ^= 1; /* does not fit its address */
    write_head(&w, id, 0x8180, size > 512 ? 7 : 5);
    write_txt(&w, 16, "v=spf1 -all", 255);
    write_txt(&w, 16, mvpn_source_dns_format(text, &a), 255);
    if (size > 512) {
        write_txt(&w, 16, mvpn_source_dns_format(text, &bad), 255);
        write_txt(&w, 5, mvpn_source_dns_format(text, &a), 255); /* another type */
    }
    write_txt(&w, 16, "meshvpn1 not base64", 255);
    write_txt(&w, 16, "meshvpn1 AAAA", 255);
    write_txt(&w, 16, mvpn_source_dns_format(text, &b), 50); /* in three strings */
    assert_false(w.failed);
    return mvpn_writer_len(&w);
}

static void assert_both(const mvpn_dht_contact *entries, size_t count)
{
    mvpn_dht_contact a = contact(1, false), b = contact(2, true);
    assert_int_equal(count, 2);
    assert_memory_equal(&entries[0].id, &a.id, sizeof(a.id));
    assert_true(mvpn_addr_eq(&entries[0].addr, &a.addr));
    assert_memory_equal(&entries[1].link_key, &b.link_key, sizeof(b.link_key));
    assert_true(mvpn_addr_eq(&entries[1].addr, &b.addr));
}

static void test_parse(void **state)
{
    (void)state;
    uint8_t message[1500];
    mvpn_dht_contact ret[MVPN_SOURCE_DNS_ENTRIES_MAX];
    size_t n = response(message, sizeof(message), 1);
    assert_both(ret, mvpn_source_dns_parse(mvpn_bytes_of(message, n), ret));
    for (size_t cut = 0; cut < n; cut++) {
        uint8_t *exact = malloc(cut + 1); /* so that a sanitizer sees a byte too many */
        memcpy(exact, message, cut);
        assert_true(mvpn_source_dns_parse(mvpn_bytes_of(exact, cut), ret) < 2);
        free(exact);
    }
    for (size_t bit = 0; bit < 8 * n; bit++) {
        message[bit / 8] ^= (uint8_t)(1u << bit % 8);
        size_t count = mvpn_source_dns_parse(mvpn_bytes_of(message, n), ret);
        for (size_t i = 0; i < count; i++) {
            assert_true(mvpn_dht_id_fits(&ret[i].id, &ret[i].addr));
        }
        message[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    message[2] &= 0x7f; /* a question */
    assert_int_equal(mvpn_source_dns_parse(mvpn_bytes_of(message, n), ret), 0);
    message[2] |= 0x80;
    message[3] |= 3; /* no such name */
    assert_int_equal(mvpn_source_dns_parse(mvpn_bytes_of(message, n), ret), 0);
}

/* However many records there are, so many entries at most. */
static void test_parse_is_bounded(void **state)
{
    (void)state;
    static uint8_t message[8192];
    char text[MVPN_SOURCE_DNS_TEXT_SIZE];
    mvpn_dht_contact ret[MVPN_SOURCE_DNS_ENTRIES_MAX], a = contact(1, false);
    mvpn_writer w = mvpn_writer_init(message, sizeof(message));
    write_head(&w, 1, 0x8180, 60);
    for (unsigned i = 0; i < 60; i++) {
        write_txt(&w, 16, mvpn_source_dns_format(text, &a), 255);
    }
    assert_false(w.failed);
    assert_int_equal(mvpn_source_dns_parse(mvpn_bytes_of(message, mvpn_writer_len(&w)), ret),
                     MVPN_SOURCE_DNS_ENTRIES_MAX);
}

/* ---- the resolver ---- */

enum how { HOW_WELL, HOW_NOT_AT_ALL, HOW_NO_NAME, HOW_GARBAGE, HOW_NO_ENTRY };

struct world {
    mvpn_loop *loop;
    mvpn_resolver *resolver;
    int fd; /* the server's */
    mvpn_addr server;
    mvpn_loop_watch *watch;
    enum how how;
    unsigned questions;
    /* what came of it */
    unsigned calls;
    int err;
    mvpn_dht_contact entries[MVPN_SOURCE_DNS_ENTRIES_MAX];
    size_t count;
    mvpn_addr addrs[MVPN_RESOLVER_ADDRS_MAX];
    size_t addr_count;
};

static void serve(void *ctx, unsigned events)
{
    struct world *w = ctx;
    uint8_t q[512], a[512]; /* more would go by TCP */
    struct sockaddr_storage from;
    socklen_t from_len = sizeof(from);
    (void)events;
    ssize_t n = recvfrom(w->fd, q, sizeof(q), 0, (struct sockaddr *)&from, &from_len);
    assert_true(n > 12);
    w->questions++;
    uint16_t id = mvpn_load16(q);
    size_t len = response(a, sizeof(a), id);
    mvpn_writer out = mvpn_writer_init(a, sizeof(a));
    switch (w->how) {
    case HOW_NOT_AT_ALL:
        return;
    case HOW_NO_NAME:
        write_head(&out, id, 0x8183, 0);
        len = mvpn_writer_len(&out);
        break;
    case HOW_GARBAGE:
        memset(a + 12, 0xff, len - 12);
        break;
    case HOW_NO_ENTRY:
        write_head(&out, id, 0x8180, 1);
        write_txt(&out, 16, "hello", 255);
        len = mvpn_writer_len(&out);
        break;
    case HOW_WELL:
    default:
        break;
    }
    assert_true(sendto(w->fd, a, len, 0, (struct sockaddr *)&from, from_len) == (ssize_t)len);
}

static int setup(void **state)
{
    static struct world w;
    memset(&w, 0, sizeof(w));
    *state = &w;
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct sockaddr_storage bound = {0};
    socklen_t len = sizeof(bound);
    w.fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (w.fd < 0 || bind(w.fd, (struct sockaddr *)&sa, sizeof(sa)) != 0 ||
        getsockname(w.fd, (struct sockaddr *)&bound, &len) != 0 || mvpn_loop_new(&w.loop) != 0) {
        return -1;
    }
    w.server = mvpn_sockaddr_to_addr(&bound);
    mvpn_resolver_options o = {.loop = w.loop, .server = &w.server, .timeout_ms = 100, .tries = 2};
    return mvpn_loop_watch_fd(w.loop, w.fd, MVPN_LOOP_READABLE, serve, &w, &w.watch) != 0 ||
           mvpn_resolver_new(&o, &w.resolver, NULL) != 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    mvpn_resolver_free(w->resolver);
    mvpn_loop_free(w->loop);
    (void)close(w->fd);
    return 0;
}

static void entries_came(void *ctx, int err, const char *why, const mvpn_dht_contact *entries,
                         size_t count)
{
    struct world *w = ctx;
    assert_non_null(why);
    w->calls++;
    w->err = err;
    w->count = count;
    memcpy(w->entries, entries, count * sizeof(*entries));
    mvpn_loop_stop(w->loop);
}

static void ask(struct world *w, enum how how)
{
    mvpn_source_dns source = {entries_came, w};
    w->how = how;
    w->calls = 0;
    assert_int_equal(mvpn_source_dns_ask(&source, w->resolver, NAME), 0);
    while (w->calls == 0) { /* a stop of before may end it at once */
        assert_int_equal(mvpn_loop_run(w->loop), 0);
    }
    assert_int_equal(w->calls, 1);
}

static void test_ask(void **state)
{
    struct world *w = *state;
    ask(w, HOW_WELL);
    assert_int_equal(w->err, 0);
    assert_both(w->entries, w->count);
}

static void test_failures(void **state)
{
    struct world *w = *state;
    ask(w, HOW_NO_NAME);
    assert_int_equal(w->err, MVPN_E_UNKNOWN);
    ask(w, HOW_NO_ENTRY);
    assert_int_equal(w->err, MVPN_E_FORMAT);
    w->questions = 0;
    ask(w, HOW_NOT_AT_ALL);
    assert_int_equal(w->err, MVPN_E_TIMEOUT);
    assert_int_equal(w->questions, 2);
    ask(w, HOW_GARBAGE);
    assert_true(w->err != 0);
    assert_int_equal(w->count, 0);
    ask(w, HOW_WELL); /* and none of it does lasting harm */
    assert_int_equal(w->err, 0);
}

/* What is under way when the resolver goes is told, once. */
static void test_free_while_asking(void **state)
{
    struct world *w = *state;
    mvpn_source_dns source = {entries_came, w};
    w->how = HOW_NOT_AT_ALL;
    assert_int_equal(mvpn_source_dns_ask(&source, w->resolver, NAME), 0);
    mvpn_resolver_free(w->resolver);
    w->resolver = NULL;
    assert_int_equal(w->calls, 1);
    assert_int_equal(w->err, MVPN_E_CLOSED);
}

static void host_came(void *ctx, int err, const char *why, const mvpn_addr *addrs, size_t count)
{
    struct world *w = ctx;
    (void)why;
    w->calls++;
    w->err = err;
    w->addr_count = count;
    memcpy(w->addrs, addrs, count * sizeof(*addrs));
    mvpn_loop_stop(w->loop);
}

static void test_host(void **state)
{
    struct world *w = *state;
    assert_int_equal(mvpn_resolver_host(w->resolver, "localhost", host_came, w), 0);
    while (w->calls == 0) { /* a stop of before may end it at once */
        assert_int_equal(mvpn_loop_run(w->loop), 0);
    }
    assert_int_equal(w->err, 0);
    assert_true(w->addr_count > 0);
}

/* Datagrams of the resolver carry the mark; setting one needs root. */
static void test_mark(void **state)
{
    struct world *w = *state;
    if (geteuid() != 0) {
        skip();
    }
    int mark = 0, type = 0;
    mvpn_resolver *marked;
    mvpn_resolver_options o = {.loop = w->loop,
                               .marker = &(mvpn_marker){.mark = 0x4d56},
                               .server = &w->server,
                               .timeout_ms = 100,
                               .tries = 1};
    assert_int_equal(mvpn_resolver_new(&o, &marked, NULL), 0);
    /* The receiving socket sees the sender's mark (SO_RCVMARK is newer than this kernel may be): so
     * by the socket itself, which is the next descriptor. */
    int next = dup(w->fd);
    (void)close(next);
    mvpn_source_dns source = {entries_came, w};
    w->how = HOW_WELL;
    assert_int_equal(mvpn_source_dns_ask(&source, marked, NAME), 0);
    socklen_t len = sizeof(mark);
    socklen_t type_len = sizeof(type);
    assert_int_equal(getsockopt(next, SOL_SOCKET, SO_TYPE, &type, &type_len), 0);
    assert_int_equal(getsockopt(next, SOL_SOCKET, SO_MARK, &mark, &len), 0);
    assert_int_equal(mark, 0x4d56);
    assert_int_equal(mvpn_loop_run(w->loop), 0);
    assert_int_equal(w->err, 0);
    mvpn_resolver_free(marked);
}

/* So many records that the answer comes over TCP, by a real server. */
static void test_dnsmasq(void **state)
{
    struct world *w = *state;
    if (access("/usr/sbin/dnsmasq", X_OK) != 0) {
        skip();
    }
    char port[32], txt[8][32 + sizeof(NAME) + MVPN_SOURCE_DNS_TEXT_SIZE];
    /* Free a moment ago: the kernel gives no other such port out soon. */
    (void)snprintf(port, sizeof(port), "--port=%u", w->server.port);
    mvpn_loop_unwatch(w->watch);
    (void)close(w->fd);
    w->fd = -1;
    char *argv[20] = {"dnsmasq",
                      "--keep-in-foreground",
                      "--conf-file=/dev/null",
                      "--no-resolv",
                      "--no-hosts",
                      "--listen-address=127.0.0.1",
                      "--bind-interfaces",
                      "--pid-file=",
                      "--user=root",
                      port};
    for (unsigned i = 0; i < 8; i++) {
        char text[MVPN_SOURCE_DNS_TEXT_SIZE];
        mvpn_dht_contact c = contact(i, i % 2 == 1);
        (void)snprintf(txt[i], sizeof(txt[i]), "--txt-record=" NAME ",%s",
                       mvpn_source_dns_format(text, &c));
        argv[10 + i] = txt[i];
    }
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        if (freopen("/dev/null", "w", stderr) == NULL) {
            _exit(126);
        }
        (void)execv("/usr/sbin/dnsmasq", argv);
        _exit(127);
    }
    mvpn_source_dns source = {entries_came, w};
    for (unsigned tries = 0; tries < 50 && w->count == 0; tries++) {
        (void)usleep(40000);
        w->calls = 0;
        assert_int_equal(mvpn_source_dns_ask(&source, w->resolver, NAME), 0);
        while (w->calls == 0) { /* a stop of before may end it at once */
            assert_int_equal(mvpn_loop_run(w->loop), 0);
        }
    }
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0);
    assert_int_equal(w->count, 8);
}

int main(void)
{
    const struct CMUnitTest all[] = {
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_parse_is_bounded),
        cmocka_unit_test_setup_teardown(test_ask, setup, teardown),
        cmocka_unit_test_setup_teardown(test_failures, setup, teardown),
        cmocka_unit_test_setup_teardown(test_free_while_asking, setup, teardown),
        cmocka_unit_test_setup_teardown(test_host, setup, teardown),
        cmocka_unit_test_setup_teardown(test_mark, setup, teardown),
        cmocka_unit_test_setup_teardown(test_dnsmasq, setup, teardown),
    };
    return cmocka_run_group_tests(all, NULL, NULL);
}
