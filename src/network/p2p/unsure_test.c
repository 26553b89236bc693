/* Clocks that are wrong: first packets without an hour, and what keeps them rare. (docs/protocol.md
 * §4.2, "Unsure clocks") */
#include "network/p2p/testnet.h"

#define HOUR_S INT64_C(3600)
#define DAY_S (24 * HOUR_S)

/* What a hostile responder says the time is. */
static const mvpn_links *timeless;
uint64_t __real_links_unix(const mvpn_links *links, mvpn_time now);
uint64_t __wrap_links_unix(const mvpn_links *links, mvpn_time now);
uint64_t __wrap_links_unix(const mvpn_links *links, mvpn_time now)
{
    return links == timeless ? 0 : __real_links_unix(links, now);
}

/* Handshake packets of both sides as they passed. */
#define KEPT 32
static struct net_datagram first[KEPT], reply[KEPT];
static size_t first_count, reply_count;
static bool drops_reply;
static bool watch(struct net *net, struct net_datagram *d)
{
    if (!mvpn_is_handshake_flags(d->bytes[0])) {
        return true;
    }
    assert_int_equal(d->len, MVPN_HANDSHAKE_LEN);
    if (mvpn_addr_eq(&d->from, &net->node[1].addr)) {
        assert_true(reply_count < KEPT);
        reply[reply_count++] = *d;
        return !drops_reply;
    }
    assert_true(first_count < KEPT);
    first[first_count++] = *d;
    return true;
}

/* Node 0 is a client, or a relay, whose clock is `off_s` ahead. */
static struct net *net_off(uint64_t seed, bool is_relay, bool closed, int64_t off_s, bool is_unsure)
{
    struct net *net = net_new(seed);
    net->filter = watch;
    first_count = reply_count = 0;
    drops_reply = false;
    timeless = NULL;
    net_start(net, 0, is_relay, closed, NULL);
    net_start(net, 1, true, closed, NULL);
    mvpn_links_set_unix_offset(net->node[0].links,
                               net->node[0].config.unix_offset_us + off_s * 1000000);
    mvpn_links_set_clock_unsure(net->node[0].links, is_unsure);
    return net;
}

static bool names_hour(struct net *net, const struct net_datagram *d, uint64_t hour)
{
    uint8_t mac[MVPN_HANDSHAKE_MAC_LEN];
    mvpn_key key;
    mvpn_mac1_key(&key, &net->node[1].target.link_key, &net->node[1].links->token, MVPN_PATTERN_NK,
                  hour);
    mvpn_mac1(mac, &key, d->bytes);
    return memcmp(mac, d->bytes + MVPN_HANDSHAKE_MAC1_AT, sizeof(mac)) == 0;
}

static void test_wrong_clocks_connect(void **state)
{
    (void)state;
    const int64_t off[] = {3 * HOUR_S, -3 * HOUR_S, DAY_S, -DAY_S, 366 * DAY_S, -366 * DAY_S};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(off); i++) {
        for (unsigned mode = 0; mode < 4; mode++) {
            bool is_relay = mode & 1, closed = mode & 2;
            struct net *net = net_off(i, is_relay, closed, off[i], true);
            if (is_relay) { /* its certificates hold by the responder's clock */
                assert_true(net->node[0].config.link_certificate.n > 0);
            }
            mvpn_link *link = net_open(net, 0, 1);
            assert_true(net_until_open(net, link, MVPN_MS(3100)));
            assert_int_equal(mvpn_link_clock_offset_s(link), -off[i]);
            int64_t right = (int64_t)NET_UNIX * 1000000 - (int64_t)MVPN_S(1000);
            assert_in_range(mvpn_link_unix_offset_us(link) - right + 1000000, 0, 1000000);
            net_for(net, MVPN_S(1));
            assert_non_null(net_event(&net->node[1], MVPN_LINK_OPENED));
            assert_int_equal(net->node[1].links->counters.cookies, 1);
            net_free(net);

            net = net_off(i, is_relay, closed, off[i], false);
            link = net_open(net, 0, 1);
            assert_false(net_until_open(net, link, MVPN_S(11)));
            assert_int_equal(reply_count, 0);
            net_free(net);
        }
    }
}

/* An hour is named as long as there is hope, and for good once a peer knew it. */
static void test_hour_is_named_first(void **state)
{
    (void)state;
    struct net *net = net_off(1, false, false, DAY_S, true);
    uint64_t ours = (uint64_t)(NET_UNIX + DAY_S) / 3600;
    (void)net_open(net, 0, 1);
    net_for(net, MVPN_MS(2999));
    assert_int_equal(first_count, 6);
    for (size_t i = 0; i < first_count; i++) {
        assert_true(names_hour(net, &first[i], ours));
    }
    net_for(net, MVPN_MS(1));
    assert_int_equal(first_count, 7);
    assert_true(names_hour(net, &first[6], MVPN_HOUR_UNSURE));
    net_free(net);

    net = net_off(2, false, false, 0, true);
    net->node[1].links->config.load_half_open = 0; /* cookies for everybody */
    mvpn_link *link = net_open(net, 0, 1);
    net_for(net, MVPN_MS(15));
    assert_int_equal(reply_count, 1); /* a cookie: our hour is right */
    net->loss = 100;
    net_for(net, MVPN_S(6));
    assert_false(mvpn_link_is_open(link));
    for (size_t i = 0; i < first_count; i++) {
        assert_false(names_hour(net, &first[i], MVPN_HOUR_UNSURE));
    }
    net_free(net);
}

/* Deliver to node 1 and let its answer show, but not arrive. */
static int offer(struct net *net, const struct net_datagram *d)
{
    drops_reply = true;
    int err = net_inject(net, d);
    net_for(net, 0);
    return err;
}

/* The first packet of an unsure clock, without and with its cookie; node 1 accepted it. */
static struct net *opened(struct net_datagram *ret_without, struct net_datagram *ret_with)
{
    struct net *net = net_off(3, false, false, DAY_S, true);
    mvpn_link *link = net_open(net, 0, 1);
    assert_true(net_until_open(net, link, MVPN_S(4)));
    assert_int_equal(first_count, 8);
    *ret_without = first[6];
    *ret_with = first[7];
    assert_memory_equal(ret_without->bytes, ret_with->bytes, MVPN_HANDSHAKE_MAC2_AT);
    net_for(net, MVPN_S(1));
    return net;
}

static void test_replays_hear_nothing(void **state)
{
    (void)state;
    struct net_datagram without, with;
    struct net *net = opened(&without, &with);
    const mvpn_links *links = net->node[1].links;
    for (unsigned i = 0; i < 3; i++) {
        size_t before = reply_count, ids = links->ids.count;
        assert_int_equal(offer(net, &with), MVPN_E_REPLAY); /* its cookie is still right */
        assert_int_equal(offer(net, &without), MVPN_E_REPLAY);
        with.from.port = without.from.port = (uint16_t)(7000 + i);
        assert_int_equal(offer(net, &with), MVPN_E_REPLAY);
        assert_int_equal(reply_count, before);
        assert_int_equal(links->ids.count, ids);
        assert_int_equal(links->half_open_count, 0);
        with.from.port = without.from.port = 7000;
        net_for(net, i == 0 ? MVPN_S(60) : MVPN_S(24 * 3600)); /* no hour ends it */
    }
    net_free(net);
}

static void test_without_cookie_there_is_only_a_cookie(void **state)
{
    (void)state;
    struct net *net = net_off(4, false, false, DAY_S, true);
    const mvpn_links *links = net->node[1].links;
    drops_reply = true;
    (void)net_open(net, 0, 1);
    net_for(net, MVPN_MS(3020));
    assert_int_equal(reply_count, 1);
    assert_int_equal(links->counters.cookies, 1);
    assert_int_equal(links->counters.handshakes, 0);
    assert_int_equal(links->ids.count, 0);
    struct net_datagram d = first[6];
    for (unsigned i = 0; i < 50; i++) { /* three copies are answered, with no more than they are */
        d.from.port = (uint16_t)(7000 + i);
        MVPN_IGNORE(offer(net, &d));
    }
    assert_int_equal(reply_count, MVPN_REPLIES_MAX);
    assert_int_equal(links->counters.cookies, MVPN_REPLIES_MAX);
    assert_int_equal(links->half_open_count, 0);
    assert_int_equal(links->session_count, 0);

    /* A cookie that is not for this address is none. */
    drops_reply = false;
    net_for(net, MVPN_MS(1300)); /* resent at 40 %: too many copies already */
    assert_int_equal(links->counters.handshakes, 0);
    net_for(net, MVPN_S(3)); /* the next first packet gets its cookie */
    assert_int_equal(links->counters.handshakes, 1);
    d = first[first_count - 1];
    d.bytes[30] ^= 1; /* another ephemeral key, under a mac1 of its own */
    mvpn_key key;
    mvpn_mac1_key(&key, &net->node[1].target.link_key, &links->token, MVPN_PATTERN_NK,
                  MVPN_HOUR_UNSURE);
    uint64_t cookies = links->counters.cookies;
    mvpn_mac1(d.bytes + MVPN_HANDSHAKE_MAC1_AT, &key, d.bytes);
    assert_int_equal(offer(net, &d), 0);
    assert_int_equal(links->counters.cookies, cookies + 1);
    assert_int_equal(links->counters.handshakes, 1);
    net_free(net);
}

static void test_rate(void **state)
{
    (void)state;
    struct net *net = net_off(5, false, false, DAY_S, true);
    mvpn_links *links = net->node[1].links;
    mvpn_admission *a = links->admission;
    drops_reply = true;
    (void)net_open(net, 0, 1);
    net_for(net, MVPN_MS(3020));
    struct net_datagram cookie = reply[0];
    for (unsigned i = 0; i < 16; i++) {
        assert_true(mvpn_admission_take_unsure(a, net->now));
    }
    assert_false(mvpn_admission_take_unsure(a, net->now));
    size_t before = first_count;
    assert_int_equal(net_inject(net, &cookie), 0);
    net_for(net, 0);
    assert_int_equal(first_count, before + 1);
    struct net_datagram with = first[before];
    assert_int_equal(offer(net, &with), MVPN_E_LIMIT); /* a right cookie, but one too many */
    assert_int_equal(reply_count, 1);
    assert_int_equal(links->session_count, 0);
    net_for(net, MVPN_MS(980));
    assert_int_equal(links->counters.handshakes, 0);
    net_for(net, MVPN_MS(20)); /* one a second */
    assert_int_equal(offer(net, &with), 0);
    assert_int_equal(links->counters.handshakes, 1);
    assert_false(mvpn_admission_take_unsure(a, net->now));
    net_free(net);
}

static void test_memory_is_of_4096(void **state)
{
    (void)state;
    mvpn_rng rng;
    mvpn_admission *a;
    const mvpn_key key = {{1}}, token = {{2}};
    uint8_t oldest[32], other[32];
    mvpn_rng_init_test(&rng, 6);
    assert_int_equal(mvpn_admission_new(&a, &key, &token, 100, &rng), 0);
    mvpn_rng_bytes(&rng, oldest, sizeof(oldest));
    assert_false(mvpn_admission_is_seen(a, MVPN_HOUR_UNSURE, oldest));
    assert_true(mvpn_admission_remember(a, MVPN_HOUR_UNSURE, oldest));
    assert_false(mvpn_admission_is_seen(a, UINT64_MAX / 3600, oldest)); /* a kind of its own */
    assert_false(mvpn_admission_is_seen(a, 0, oldest));
    for (unsigned i = 1; i < 4096; i++) {
        mvpn_rng_bytes(&rng, other, sizeof(other));
        assert_true(mvpn_admission_remember(a, MVPN_HOUR_UNSURE, other));
        assert_false(mvpn_admission_is_full(a, MVPN_HOUR_UNSURE));
    }
    assert_true(mvpn_admission_is_seen(a, MVPN_HOUR_UNSURE, oldest));
    mvpn_rng_bytes(&rng, other, sizeof(other));
    assert_true(mvpn_admission_remember(a, MVPN_HOUR_UNSURE, other));
    assert_false(mvpn_admission_is_seen(a, MVPN_HOUR_UNSURE, oldest));
    assert_true(mvpn_admission_is_seen(a, MVPN_HOUR_UNSURE, other));
    mvpn_admission_free(a);
}

/* Whom an unsure client believes: who holds the key it looked for, under a certificate that holds
 * by his own time. */
static void test_certificates_by_the_time_of_the_peer(void **state)
{
    (void)state;
    const struct {
        int64_t from, to;
        bool says_no_time, is_opened;
    } rows[] = {
        {-1000, 1000, false, true},  {-9000, -2000, false, false}, /* over, says its own clock */
        {5000, 9000, false, false},                                /* not yet */
        {-9000, -2000, true, false}, /* "the times are not checked" is not for peers to say */
        {-1000, 1000, true, false},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        struct net *net = net_off(7 + i, false, false, -366 * DAY_S, true);
        struct net_node *to = &net->node[1];
        mvpn_link_certificate_make(to->certificate, &to->secret, &to->config.identity,
                                   &to->config.link_key.pub, (uint64_t)(NET_UNIX + rows[i].from),
                                   (uint64_t)(NET_UNIX + rows[i].to), &to->config.network_id);
        timeless = rows[i].says_no_time ? to->links : NULL;
        mvpn_link *link = net_open(net, 0, 1);
        assert_int_equal(net_until_open(net, link, MVPN_S(11)), rows[i].is_opened);
        timeless = NULL;
        net_free(net);
    }
    /* A sure clock is not argued with: by its own time this certificate is over. */
    struct net *net = net_off(20, false, false, 0, false);
    struct net_node *to = &net->node[1];
    mvpn_links_set_unix_offset(to->links, to->config.unix_offset_us - INT64_C(3000) * 1000000);
    mvpn_link_certificate_make(to->certificate, &to->secret, &to->config.identity,
                               &to->config.link_key.pub, NET_UNIX - 9000, NET_UNIX - 2500,
                               &to->config.network_id);
    mvpn_link *link = net_open(net, 0, 1);
    assert_false(net_until_open(net, link, MVPN_S(11)));
    assert_true(reply_count > 0);
    net_free(net);
}

int main(void)
{
    const struct CMUnitTest all[] = {
        cmocka_unit_test(test_wrong_clocks_connect),
        cmocka_unit_test(test_hour_is_named_first),
        cmocka_unit_test(test_replays_hear_nothing),
        cmocka_unit_test(test_without_cookie_there_is_only_a_cookie),
        cmocka_unit_test(test_rate),
        cmocka_unit_test(test_memory_is_of_4096),
        cmocka_unit_test(test_certificates_by_the_time_of_the_peer),
    };
    return cmocka_run_group_tests(all, NULL, NULL);
}
