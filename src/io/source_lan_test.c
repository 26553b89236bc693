/*
 * Questions and answers by multicast, IPv4 and IPv6, in a network namespace of the test's own.
 * Needs root.
 *
 *   asker -- v0 (192.0.2.1/24, fe80::) ~ relay, fake relay: all in one namespace
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"
#include "io/source_lan.h"

static const mvpn_key token = {{1, 2, 3}}, other_token = {{4}};

struct world {
    mvpn_loop *loop;
    mvpn_source_lan *lan;
    mvpn_lan_server *server;
    mvpn_loop_timer *timer;
    unsigned answers[2]; /* IPv4, IPv6 */
    mvpn_dht_contact last;
};

static int group_setup(void **state)
{
    (void)state;
    if (unshare(CLONE_NEWNET) != 0) {
        print_error("this test needs root: it makes a network namespace\n");
        return -1;
    }
    return system("ip link set lo up && ip link add v0 type veth peer name v1 &&"
                  "echo 1 > /proc/sys/net/ipv6/conf/v1/disable_ipv6 &&"
                  "ip link set v1 up && ip link set v0 up && ip addr add 192.0.2.1/24 dev v0 &&"
                  "ip addr add 2001:db8::1/64 dev v0 nodad && ip -6 addr flush dev v0 scope link &&"
                  "ip addr add fe80::1/64 dev v0 nodad");
}

static mvpn_dht_contact contact(const char *addr)
{
    mvpn_dht_contact c = {.link_key = {{9}}};
    mvpn_ed25519_pub identity = {{5}};
    assert_int_equal(mvpn_addr_parse(addr, &c.addr), 0);
    mvpn_dht_node_id(&c.id, &identity, &c.addr);
    return c;
}

static void answered(void *ctx, const mvpn_dht_contact *entry)
{
    struct world *w = ctx;
    w->answers[entry->addr.family == 6]++;
    w->last = *entry;
}

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

static int setup(void **state)
{
    static struct world w;
    memset(&w, 0, sizeof(w));
    *state = &w;
    mvpn_dht_contact entries[2] = {contact("192.0.2.1:7000"), contact("[2001:db8::1]:7000")};
    return mvpn_loop_new(&w.loop) != 0 ||
           mvpn_loop_timer_new(w.loop, time_is_up, &w, &w.timer) != 0 ||
           mvpn_source_lan_new(w.loop, NULL, &token, &(mvpn_marker){.mark = 0x4d56}, answered, &w,
                               &w.lan, NULL) != 0 ||
           mvpn_lan_server_new(w.loop, &token, entries, 2, &w.server, NULL) != 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    mvpn_source_lan_free(w->lan);
    mvpn_lan_server_free(w->server);
    mvpn_loop_timer_free(w->timer);
    mvpn_loop_free(w->loop);
    return 0;
}

static void test_both_families(void **state)
{
    struct world *w = *state;
    assert_true(mvpn_source_lan_ask(w->lan) >= 2);
    run_for(w, 100);
    assert_true(w->answers[0] >= 1);
    assert_true(w->answers[1] >= 1);
    assert_true(mvpn_lan_server_get_stats(w->server)->answered >= 2);
}

/* A relay with one address names that, whoever asks; two relays of one host both answer. */
static void test_more_servers(void **state)
{
    struct world *w = *state;
    mvpn_lan_server *second;
    mvpn_dht_contact entry = contact("[2001:db8:1::1]:7001");
    assert_int_equal(mvpn_lan_server_new(w->loop, &token, &entry, 1, &second, NULL), 0);
    (void)mvpn_source_lan_ask(w->lan);
    run_for(w, 100);
    assert_true(mvpn_lan_server_get_stats(w->server)->answered >= 2);
    assert_true(mvpn_lan_server_get_stats(second)->answered >= 2);
    mvpn_lan_server_free(second);
}

static void test_strangers_hear_nothing(void **state)
{
    struct world *w = *state;
    mvpn_source_lan *stranger;
    assert_int_equal(
        mvpn_source_lan_new(w->loop, NULL, &other_token, 0, answered, w, &stranger, NULL), 0);
    assert_true(mvpn_source_lan_ask(stranger) >= 2);
    run_for(w, 50);
    assert_int_equal(mvpn_lan_server_get_stats(w->server)->answered, 0);
    assert_true(mvpn_lan_server_get_stats(w->server)->dropped >= 2);
    assert_int_equal(w->answers[0] + w->answers[1], 0);
    mvpn_source_lan_free(stranger);
}

/* A datagram to `to`, `copies` times; how many answers come within 50 ms. */
static unsigned offer(struct world *w, const char *to, const uint8_t *bytes, size_t n,
                      unsigned copies)
{
    struct sockaddr_in6 sa = {.sin6_family = AF_INET6,
                              .sin6_port = htons(MVPN_LAN_PORT),
                              .sin6_scope_id = if_nametoindex("v0")};
    assert_int_equal(inet_pton(AF_INET6, to, &sa.sin6_addr), 1);
    int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    uint8_t answer[200];
    unsigned count = 0;
    for (unsigned i = 0; i < copies; i++) {
        assert_true(sendto(fd, bytes, n, 0, (struct sockaddr *)&sa, sizeof(sa)) == (ssize_t)n);
    }
    run_for(w, 50);
    ssize_t len;
    while ((len = recv(fd, answer, sizeof(answer), 0)) > 0) {
        assert_true((size_t)len <= n); /* no amplifier */
        count++;
    }
    (void)close(fd);
    return count;
}

static void test_only_questions_to_the_group(void **state)
{
    struct world *w = *state;
    uint8_t q[MVPN_LAN_QUESTION_LEN + 1] = {0};
    const uint8_t nonce[MVPN_LAN_NONCE_LEN] = {1};
    mvpn_lan_question_encode(q, &token, nonce);
    assert_int_equal(offer(w, MVPN_LAN_GROUP6, q, MVPN_LAN_QUESTION_LEN, 1), 1);
    assert_int_equal(offer(w, "2001:db8::1", q, MVPN_LAN_QUESTION_LEN, 1), 0);
    assert_int_equal(offer(w, "fe80::1", q, MVPN_LAN_QUESTION_LEN, 1), 0);
    assert_int_equal(offer(w, MVPN_LAN_GROUP6, q, 13, 1), 0); /* not padded */
    assert_int_equal(offer(w, MVPN_LAN_GROUP6, q, MVPN_LAN_QUESTION_LEN + 1, 1), 0);
    assert_int_equal(mvpn_lan_server_get_stats(w->server)->answered, 1);
}

static void test_rate(void **state)
{
    struct world *w = *state;
    uint8_t q[MVPN_LAN_QUESTION_LEN];
    const uint8_t nonce[MVPN_LAN_NONCE_LEN] = {2};
    mvpn_lan_question_encode(q, &token, nonce);
    assert_in_range(offer(w, MVPN_LAN_GROUP6, q, sizeof(q), 100), 20, 23);
}

/* ---- somebody who answers what it likes ---- */

static int fake_fd;
static enum { FAKE_MANY, FAKE_OTHER_NONCE, FAKE_OTHER_NETWORK, FAKE_NOISE } fake_how;

static void fake_answers(void *ctx, unsigned events)
{
    uint8_t q[200], a[MVPN_LAN_ANSWER_MAX], nonce[MVPN_LAN_NONCE_LEN];
    struct sockaddr_storage from;
    socklen_t from_len = sizeof(from);
    (void)ctx;
    (void)events;
    ssize_t n = recvfrom(fake_fd, q, sizeof(q), 0, (struct sockaddr *)&from, &from_len);
    assert_int_equal(
        mvpn_lan_question_decode(nonce, &token, mvpn_bytes_of(q, (size_t)MVPN_MAX(n, 0))), 0);
    mvpn_dht_contact entry = contact("192.0.2.66:1");
    nonce[0] ^= fake_how == FAKE_OTHER_NONCE;
    size_t len = mvpn_lan_answer_encode(a, fake_how == FAKE_OTHER_NETWORK ? &other_token : &token,
                                        nonce, &entry);
    memset(a, fake_how == FAKE_NOISE ? 0x55 : a[0], fake_how == FAKE_NOISE ? len : 1);
    for (unsigned i = 0; i < 50; i++) {
        assert_true(sendto(fake_fd, a, len, 0, (struct sockaddr *)&from, from_len) == (ssize_t)len);
    }
}

static void test_hostile_answers(void **state)
{
    struct world *w = *state;
    mvpn_lan_server_free(w->server);
    w->server = NULL;
    int on = 1;
    mvpn_loop_watch *watch;
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(MVPN_LAN_PORT)};
    struct ip_mreqn m = {.imr_ifindex = (int)if_nametoindex("v0")};
    assert_int_equal(inet_pton(AF_INET, MVPN_LAN_GROUP4, &m.imr_multiaddr), 1);
    sa.sin_addr = m.imr_multiaddr;
    fake_fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    assert_int_equal(setsockopt(fake_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), 0);
    assert_int_equal(bind(fake_fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    assert_int_equal(setsockopt(fake_fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &m, sizeof(m)), 0);
    assert_int_equal(
        mvpn_loop_watch_fd(w->loop, fake_fd, MVPN_LOOP_READABLE, fake_answers, w, &watch), 0);
    for (fake_how = FAKE_MANY; fake_how <= FAKE_NOISE; fake_how++) {
        w->answers[0] = 0;
        (void)mvpn_source_lan_ask(w->lan);
        run_for(w, 50);
        assert_int_equal(w->answers[0], fake_how == FAKE_MANY ? MVPN_LAN_ANSWERS_MAX : 0);
    }
    mvpn_loop_unwatch(watch);
    (void)close(fake_fd);
}

/* Last: it takes the interface away. */
static void test_no_network(void **state)
{
    struct world *w = *state;
    assert_int_equal(system("ip link del v0"), 0);
    assert_int_equal(mvpn_source_lan_ask(w->lan), 0);
}

int main(void)
{
    const struct CMUnitTest all[] = {
        cmocka_unit_test_setup_teardown(test_both_families, setup, teardown),
        cmocka_unit_test_setup_teardown(test_more_servers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_strangers_hear_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_only_questions_to_the_group, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rate, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hostile_answers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_network, setup, teardown),
    };
    return cmocka_run_group_tests(all, group_setup, NULL);
}
