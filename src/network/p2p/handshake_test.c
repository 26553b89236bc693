/* Handshakes against strangers, replays, floods, loss, and two sides that begin at once. */
#include "network/p2p/testnet.h"

#include "crypto/x25519.h"

static bool is_handshake(const struct net_datagram *d)
{
    return mvpn_is_handshake_flags(d->bytes[0]);
}

static bool is_from(const struct net *net, const struct net_datagram *d, size_t i)
{
    return mvpn_addr_eq(&d->from, &net->node[i].addr);
}

/* Keep handshake packets of both sides; let them pass or not. */
static struct net_datagram first, reply;
static bool drops_first, drops_reply, drops_transport;
static unsigned replies;
static bool watch(struct net *net, struct net_datagram *d)
{
    if (!is_handshake(d)) {
        return !drops_transport;
    }
    assert_int_equal(d->len, 1232);
    if (is_from(net, d, 1)) {
        reply = *d;
        replies++;
        return !drops_reply;
    }
    first = *d;
    return !drops_first;
}

static struct net *watched(uint64_t seed, bool closed)
{
    struct net *net = net_standard(seed, closed);
    net->filter = watch;
    drops_first = drops_reply = drops_transport = false;
    replies = 0;
    return net;
}

/* Node 1 answers `d` with nothing and remembers nothing. */
static void assert_silent(struct net *net, const struct net_datagram *d)
{
    mvpn_links *links = net->node[1].links;
    size_t ids = links->ids.count, half = links->half_open_count,
           free_count = net->node[1].pool.free_count;
    assert_true(net_inject(net, d) < 0);
    assert_int_equal(mvpn_links_out(links)->count, 0);
    assert_int_equal(links->ids.count, ids);
    assert_int_equal(links->half_open_count, half);
    assert_int_equal(net->node[1].pool.free_count, free_count);
}

static void test_strangers_hear_nothing(void **state)
{
    (void)state;
    struct net *net = watched(1, false);
    drops_first = true;
    (void)net_open(net, 0, 1);
    net_for(net, 0);
    struct net_datagram d = first;
    for (d.len = 0; d.len < first.len; d.len++) {
        assert_silent(net, &d);
    }
    d.len = first.len + 1;
    assert_silent(net, &d);
    for (unsigned i = 0; i < 1000; i++) {
        d.len = 1 + mvpn_rng_below(&net->rng, 1400);
        mvpn_rng_bytes(&net->rng, d.bytes, d.len);
        assert_silent(net, &d);
        d.len = MVPN_HANDSHAKE_LEN;
        memcpy(d.bytes, first.bytes, 23);
        assert_silent(net, &d);
    }
    d = first;
    memset(d.bytes + MVPN_HANDSHAKE_MAC1_AT, 0, 16);
    assert_silent(net, &d);
    d = first; /* mac1 for another relay */
    d.to = net->node[2].addr;
    assert_true(net_inject(net, &d) < 0);
    assert_int_equal(mvpn_links_out(net->node[2].links)->count, 0);
    d.to = net->node[0].addr; /* a client answers nobody */
    assert_true(net_inject(net, &d) < 0);
    net_free(net);
}

static void test_no_altered_handshake_is_accepted(void **state)
{
    (void)state;
    for (size_t from = 0; from < 3; from += 2) {
        struct net *net = watched(2 + from, true);
        drops_first = drops_reply = true;
        mvpn_link *link = net_open(net, from, 1);
        net_for(net, 0);
        for (size_t bit = 0; bit < 8 * MVPN_HANDSHAKE_MAC2_AT; bit++) {
            struct net_datagram d = first;
            d.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
            assert_silent(net, &d);
        }
        assert_int_equal(net_inject(net, &first), 0);
        net_for(net, 0);
        for (size_t bit = 0; bit < 8 * MVPN_HANDSHAKE_LEN; bit++) {
            struct net_datagram d = reply;
            d.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
            assert_true(net_inject(net, &d) < 0);
            assert_false(mvpn_link_is_open(link));
        }
        assert_int_equal(net_inject(net, &reply), 0);
        assert_true(mvpn_link_is_open(link));
        net_free(net);
    }
}

/* An on-path attacker knows mac1's key of an open network: it changes the source id and makes mac1
 * anew. */
static void test_header_is_bound_to_the_handshake(void **state)
{
    (void)state;
    struct net *net = watched(2, false);
    drops_first = true;
    (void)net_open(net, 0, 1);
    net_for(net, 0);
    struct net_datagram d = first;
    d.bytes[20] ^= 1;
    mvpn_key key;
    mvpn_mac1_key(&key, &net->node[1].target.link_key, &net->node[1].links->token, MVPN_PATTERN_NK,
                  links_unix(net->node[1].links, net->now) / 3600);
    mvpn_mac1(d.bytes + MVPN_HANDSHAKE_MAC1_AT, &key, d.bytes);
    assert_silent(net, &d);
    net_free(net);
}

static void test_repeated_first_packet(void **state)
{
    (void)state;
    struct net *net = watched(3, false);
    drops_reply = true;
    drops_first = true;
    (void)net_open(net, 0, 1);
    net_for(net, 0);
    struct net_datagram original = first;
    mvpn_links *links = net->node[1].links;
    assert_int_equal(net_inject(net, &original), 0);
    net_for(net, 0);
    struct net_datagram answer = reply;
    assert_int_equal(replies, 1);

    struct net_datagram stolen = original; /* the copy from elsewhere */
    stolen.from = net->node[3].addr;
    assert_silent(net, &stolen);
    stolen = original; /* another packet with the same ephemeral key */
    stolen.bytes[100] ^= 1;
    assert_silent(net, &stolen);

    assert_int_equal(net_inject(net, &original), 0);
    net_for(net, 0);
    assert_memory_equal(reply.bytes, answer.bytes, MVPN_HANDSHAKE_LEN);
    assert_int_equal(replies, 2);
    assert_int_equal(links->half_open_count, 1);
    net_for(net, MVPN_MS(5001));
    assert_silent(net, &original);
    net_for(net, MVPN_S(10));
    assert_int_equal(links->half_open_count, 0); /* never confirmed */
    assert_silent(net, &original);
    net_for(net, MVPN_S(3500)); /* mac1 still holds an hour later */
    assert_silent(net, &original);
    net_free(net);
}

static void soon_busy(mvpn_links_config *c)
{
    c->load_half_open = 1;
}

/* A first packet that overtook its owner: whoever it seems to come from gets three packets and no
 * more. */
static void test_copies_bring_three_replies(void **state)
{
    (void)state;
    for (unsigned under_load = 0; under_load < 2; under_load++) {
        struct net *net = net_new(13 + under_load);
        net->filter = watch;
        drops_first = drops_reply = true;
        drops_transport = false;
        replies = 0;
        net_start(net, 0, false, false, NULL);
        net_start(net, 1, true, false, under_load ? soon_busy : NULL);
        net_start(net, 2, false, false, NULL);
        (void)net_open(net, 2, 1);
        net_for(net, 0);
        if (under_load) {
            (void)net_inject(net, &first); /* half-open from now on: the next ones get cookies */
        }
        (void)net_open(net, 0, 1);
        net_for(net, 0);
        struct net_datagram copy = first;
        copy.from = net->node[3].addr;
        net->node[1].sent = 0;
        for (unsigned i = 0; i < 50; i++) {
            (void)net_inject(net, &copy);
            net_for(net, MVPN_MS(20));
        }
        assert_int_equal(net->node[1].sent, MVPN_REPLIES_MAX);
        assert_int_equal(net->node[1].links->counters.cookies, under_load ? MVPN_REPLIES_MAX : 0);
        net_free(net);
    }
}

static void test_repeated_after_confirmation(void **state)
{
    (void)state;
    struct net *net = watched(3, false);
    mvpn_link *link = net_open(net, 0, 1);
    assert_true(net_until_open(net, link, MVPN_S(1)));
    net_for(net, MVPN_MS(50));
    assert_silent(net, &first);
    net_free(net);
}

static void test_lost_reply_is_repeated(void **state)
{
    (void)state;
    struct net *net = watched(4, false);
    drops_reply = true;
    mvpn_link *link = net_open(net, 0, 1);
    net_for(net, MVPN_MS(90));
    assert_int_equal(replies, 1);
    struct net_datagram before = first;
    drops_reply = false;
    assert_true(net_until_open(net, link, MVPN_MS(110))); /* resent at 150 ms */
    assert_memory_equal(before.bytes, first.bytes, MVPN_HANDSHAKE_LEN);
    assert_int_equal(net->node[1].links->counters.handshakes, 1);
    net_free(net);
}

static void test_responder_waits_for_confirmation(void **state)
{
    (void)state;
    struct net *net = watched(5, false);
    drops_transport = true;
    mvpn_link *link = net_open(net, 0, 1);
    assert_true(net_until_open(net, link, MVPN_S(1)));
    net_for(net, MVPN_S(9));
    assert_int_equal(net->node[1].sent, 1);
    assert_null(net_event(&net->node[1], MVPN_LINK_OPENED));
    assert_int_equal(mvpn_links_count(net->node[1].links), 0);
    net_for(net, MVPN_S(2));
    assert_int_equal(net->node[1].links->session_count, 0);
    assert_int_equal(net_event(&net->node[0], MVPN_LINK_CLOSED)->error, MVPN_E_TIMEOUT);
    net_free(net);
}

static void few_half_open(mvpn_links_config *c)
{
    c->half_open_max = 8;
    c->load_half_open = 1000;
}

static void test_half_open_links_are_bounded(void **state)
{
    (void)state;
    struct net *net = net_new(6);
    net->filter = watch;
    drops_first = false;
    drops_reply = true;
    net_start(net, 0, false, false, NULL);
    net_start(net, 1, true, false, few_half_open);
    mvpn_links *links = net->node[1].links;
    for (unsigned i = 0; i < 30; i++) {
        mvpn_link *link = net_open(net, 0, 1);
        net_for(net, MVPN_MS(30));
        assert_true(links->half_open_count <= 8);
        assert_int_equal(links->session_count, links->half_open_count);
        mvpn_link_close(link, 0, net->now);
        net_for(net, 0);
    }
    assert_int_equal(links->half_open_count, 8);
    drops_reply = false;
    drops_transport = false;
    mvpn_link *link = net_open(net, 0, 1); /* an honest one gets in */
    assert_true(net_until_open(net, link, MVPN_S(1)));
    net_for(net, MVPN_S(11));
    assert_int_equal(links->half_open_count, 0);
    assert_int_equal(links->session_count, 1);
    net_free(net);
}

static void test_cookies_under_load(void **state)
{
    (void)state;
    struct net *net = net_new(7);
    net->filter = watch;
    drops_first = drops_transport = false;
    drops_reply = true;
    net_start(net, 0, false, false, NULL);
    net_start(net, 1, true, false, soon_busy);
    net_start(net, 2, true, false, NULL);
    mvpn_links *links = net->node[1].links;
    (void)net_open(net, 2, 1);
    net_for(net, MVPN_MS(50)); /* one is half-open: load */
    assert_int_equal(links->half_open_count, 1);

    drops_first = true;
    mvpn_link *link = net_open(net, 0, 1);
    net_for(net, 0);
    struct net_datagram without = first;
    size_t ids = links->ids.count;
    assert_int_equal(net_inject(net, &without), 0);
    assert_int_equal(links->counters.cookies, 1);
    assert_int_equal(links->ids.count, ids); /* nothing is remembered */
    assert_int_equal(links->session_count, 1);
    net_for(net, 0);
    struct net_datagram cookie = reply;
    assert_int_equal(cookie.len, MVPN_HANDSHAKE_LEN);

    struct net_datagram forged = cookie; /* a cookie for another packet is none */
    forged.bytes[50] ^= 1;
    assert_true(net_inject(net, &forged) < 0);
    assert_int_equal(net_inject(net, &cookie), 0);
    net_for(net, 0);
    struct net_datagram with = first;
    assert_memory_equal(with.bytes, without.bytes, MVPN_HANDSHAKE_MAC2_AT);
    assert_memory_not_equal(with.bytes + MVPN_HANDSHAKE_MAC2_AT,
                            without.bytes + MVPN_HANDSHAKE_MAC2_AT, 16);

    struct net_datagram moved = with; /* the cookie binds the address and the port */
    moved.from.port++;
    assert_int_equal(net_inject(net, &moved), 0);
    assert_int_equal(links->counters.cookies, 2);
    assert_int_equal(links->session_count, 1);
    moved = with;
    moved.bytes[MVPN_HANDSHAKE_LEN - 1] ^= 1;
    assert_int_equal(net_inject(net, &moved), 0);
    assert_int_equal(links->counters.cookies, 3);

    drops_reply = false;
    assert_int_equal(net_inject(net, &with), 0);
    assert_int_equal(links->counters.cookies, 3);
    assert_int_equal(links->session_count, 2);
    net_for(net, MVPN_MS(50));
    assert_true(mvpn_link_is_open(link));
    net_free(net);
}

static void busy_by_rate(mvpn_links_config *c)
{
    c->load_first_per_s = 5;
}

static void test_cookies_by_rate(void **state)
{
    (void)state;
    struct net *net = net_new(8);
    net_start(net, 0, false, false, NULL);
    net_start(net, 1, true, false, busy_by_rate);
    for (unsigned i = 0; i < 10; i++) {
        mvpn_link *link = net_open(net, 0, 1);
        assert_true(net_until_open(net, link, MVPN_S(1)));
        mvpn_link_close(link, 0, net->now);
        net_for(net, MVPN_MS(20));
        net->node[0].event_count = 0;
    }
    assert_int_equal(net->node[1].links->counters.handshakes, 10);
    assert_true(net->node[1].links->counters.cookies >= 5);
    net_free(net);
}

static void test_loss_of_thirty_percent(void **state)
{
    (void)state;
    unsigned opened = 0;
    for (uint64_t seed = 0; seed < 100; seed++) {
        struct net *net = net_standard(seed, seed & 1);
        net->loss = 30;
        net->jitter = MVPN_MS(30);
        size_t from = seed & 2;
        mvpn_link *link = net_open(net, from, 1);
        assert_int_equal(net_send(net, from, link, MVPN_CMD_CREATE, 100, seed, true), 0);
        mvpn_time end = net->now + MVPN_S(10);
        while (net->now < end && net->node[1].messages == 0) {
            net_for(net, MVPN_MS(10));
        }
        opened += net->node[1].messages == 1;
        net_free(net);
    }
    assert_true(opened >= 99);
}

static void test_certificates_are_checked(void **state)
{
    (void)state;
    for (unsigned what = 0; what < 6; what++) {
        struct net *net = net_standard(what, true);
        struct net_node *n = &net->node[2], *to = &net->node[1];
        const mvpn_key *id = &n->config.network_id;
        mvpn_key foreign = {{1}};
        mvpn_ed25519_pub other_network;
        mvpn_ed25519_secret other_key;
        mvpn_ed25519_generate(&other_network, &other_key, &net->rng);
        switch (what) {
        case 0: /* another key than the one certified */
            mvpn_link_certificate_make(n->certificate, &n->secret, &n->config.identity, &foreign,
                                       NET_UNIX - 1000, NET_UNIX + 1000, id);
            break;
        case 1: /* over */
            mvpn_link_certificate_make(n->certificate, &n->secret, &n->config.identity,
                                       &n->config.link_key.pub, NET_UNIX - 9000, NET_UNIX - 1000,
                                       id);
            break;
        case 2: /* none */
            n->links->config.link_certificate = MVPN_BYTES_NONE;
            break;
        case 3: /* somebody else's membership */
            n->links->config.membership_certificate = MVPN_BYTES_ARRAY(net->node[3].membership);
            break;
        case 4: /* of another network */
            mvpn_membership_make(n->membership, &other_key, &n->config.identity, MVPN_ROLE_MIDDLE,
                                 NET_UNIX - 1000, NET_UNIX + 1000, 1, id);
            break;
        default: /* the responder's own is over: we do not believe it */
            mvpn_link_certificate_make(to->certificate, &to->secret, &to->config.identity,
                                       &to->config.link_key.pub, NET_UNIX - 9000, NET_UNIX - 1000,
                                       id);
            break;
        }
        (void)net_open(net, 2, 1);
        net_for(net, MVPN_S(11));
        assert_int_equal(net_event(n, MVPN_LINK_CLOSED)->error, MVPN_E_TIMEOUT);
        assert_null(net_event(n, MVPN_LINK_OPENED));
        assert_int_equal(to->sent > 0, what == 5);
        net_free(net);
    }
}

static void test_outsiders_of_a_closed_network(void **state)
{
    (void)state;
    struct net *net = net_standard(9, true);
    /* It knows everything public, but not the secret. */
    net->node[0].links->token = net->node[0].config.network_id;
    (void)net_open(net, 0, 1);
    net_for(net, MVPN_S(11));
    assert_int_equal(net->node[1].sent, 0);
    /* Were mac1's token to leak, the psk still guards. */
    net->node[0].links->token = net->node[1].links->token;
    net->node[0].links->psk.b[0] ^= 1;
    (void)net_open(net, 0, 1);
    net_for(net, MVPN_S(11));
    assert_int_equal(net->node[1].sent, 0);
    net_free(net);
}

static void test_clocks_within_an_hour(void **state)
{
    (void)state;
    const int offsets[] = {-3500, 3500, -7300, 7300};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(offsets); i++) {
        struct net *net = net_standard(i, false);
        mvpn_links_set_unix_offset(net->node[0].links, net->node[0].config.unix_offset_us +
                                                           (int64_t)offsets[i] * 1000000);
        /* The relay's certificate must hold by the client's clock. */
        struct net_node *to = &net->node[1];
        mvpn_link_certificate_make(to->certificate, &to->secret, &to->config.identity,
                                   &to->config.link_key.pub, NET_UNIX - 90000, NET_UNIX + 90000,
                                   &to->config.network_id);
        mvpn_link *link = net_open(net, 0, 1);
        bool is_open = net_until_open(net, link, MVPN_S(1));
        assert_int_equal(is_open, i < 2);
        if (is_open) {
            assert_int_equal(mvpn_link_clock_offset_s(link), -offsets[i]);
        }
        net_free(net);
    }
}

/* What each message carried, so that "exactly once" can be seen. */
static unsigned seen[2][64];
static void count_message(struct net *net, struct net_node *node, mvpn_link *link,
                          const mvpn_header *header, const mvpn_packet *packet)
{
    (void)link;
    (void)header;
    seen[node == &net->node[1]][mvpn_load64(packet->data) & 63]++;
}

static void test_simultaneous_opens(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 300; seed++) {
        struct net *net = net_new(seed);
        memset(seen, 0, sizeof(seen));
        net_start(net, 0, true, false, NULL);
        net_start(net, 1, true, false, NULL);
        net->message = count_message;
        net->jitter = MVPN_MS(1 + 40 * (seed % 3));
        net->loss = (uint32_t)(seed % 4) * 5; /* 8 sendings do not survive much more */
        mvpn_link *link[2];
        link[0] = net_open(net, 0, 1);
        net_for(net, MVPN_MS(seed % 45));
        link[1] = net_open(net, 1, 0);
        for (unsigned i = 0; i < 64; i++) {
            assert_int_equal(net_send(net, i & 1, link[i & 1], MVPN_CMD_CREATE, 50, i, true), 0);
        }
        net_for(net, MVPN_S(20));
        for (size_t i = 0; i < 2; i++) {
            struct net_node *n = &net->node[i];
            assert_int_equal(mvpn_links_count(n->links), 1);
            assert_int_equal(n->links->session_count, 1);
            assert_true(mvpn_link_is_open(link[i]));
            assert_int_equal(net_event_count(n, MVPN_LINK_OPENED), 1);
            assert_int_equal(net_event_count(n, MVPN_LINK_CLOSED), 0);
            for (unsigned m = 0; m < 64; m++) {
                assert_int_equal(seen[i][m], (m & 1) != i);
            }
        }
        assert_int_not_equal(mvpn_link_is_initiator(link[0]), mvpn_link_is_initiator(link[1]));
        size_t low =
            memcmp(net->node[0].config.identity.b, net->node[1].config.identity.b, 32) < 0 ? 0 : 1;
        if (seed % 45 == 0 && net->loss == 0) {
            assert_true(mvpn_link_is_initiator(link[low]));
        }
        net_free(net);
    }
}

static void test_lower_identity_does_not_answer(void **state)
{
    (void)state;
    struct net *net = net_standard(13, false);
    size_t low =
        memcmp(net->node[1].config.identity.b, net->node[2].config.identity.b, 32) < 0 ? 1 : 2;
    size_t high = 3 - low;
    net->loss = 100;
    (void)net_open(net, low, high);
    (void)net_open(net, high, low);
    net_for(net, 0);
    struct net_datagram d = {.from = net->node[high].addr, .to = net->node[low].addr};
    d.len = MVPN_HANDSHAKE_LEN;
    const mvpn_link *own = link_by_identity(net->node[high].links, &net->node[low].config.identity);
    memcpy(d.bytes, own->session->hs->packet, d.len);
    assert_int_equal(net_inject(net, &d), MVPN_E_STATE);
    assert_int_equal(mvpn_links_out(net->node[low].links)->count, 0);
    assert_int_equal(net->node[low].links->half_open_count, 0);
    net_free(net);
}

static void test_restarted_peer_replaces_its_link(void **state)
{
    (void)state;
    for (size_t again = 1; again < 3; again++) { /* either side of the first link restarts */
        struct net *net = net_standard(11, false);
        mvpn_link *other;
        (void)net_joined(net, 1, 2, &other);
        net_for(net, MVPN_S(10));
        size_t stays = 3 - again;
        net->node[stays].event_count = 0;
        net_stop(net, again);
        net_start(net, again, true, false, NULL);
        mvpn_link *link = net_open(net, again, stays);
        assert_int_equal(net_send(net, again, link, MVPN_CMD_CREATE, 50, 1, true), 0);
        net_for(net, MVPN_S(2));
        assert_int_equal(net->node[stays].event_count, 2);
        assert_int_equal(net->node[stays].events[0].type, MVPN_LINK_CLOSED);
        assert_int_equal(net->node[stays].events[0].error, MVPN_E_CLOSED);
        assert_int_equal(net->node[stays].events[1].type, MVPN_LINK_OPENED);
        assert_int_equal(net->node[stays].messages, 1);
        assert_int_equal(mvpn_links_count(net->node[stays].links), 1);
        net_free(net);
    }
}

/* A first packet from before the relay forgot its filter must not stop the relay's own attempt. */
static void test_replay_does_not_stop_an_attempt(void **state)
{
    (void)state;
    for (size_t from = 1; from < 3; from++) {
        size_t to = 3 - from;
        struct net *net = net_standard(12, false);
        net->filter = watch;
        drops_first = drops_reply = true;
        (void)net_open(net, from, to);
        net_for(net, 0);
        struct net_datagram old =
            from == 1 ? reply : first; /* watch names node 1's packets replies */
        net->filter = NULL;
        net_stop(net, from);
        net_start(net, from, true, false, NULL);
        mvpn_link *link = net_open(net, to, from);
        (void)net_inject(net, &old);
        assert_true(net_until_open(net, link, MVPN_S(6)));
        net_for(net, MVPN_S(11));
        assert_true(mvpn_link_is_open(link));
        assert_int_equal(net->node[to].links->session_count, 1);
        net_free(net);
    }
}

int main(void)
{
    const struct CMUnitTest all[] = {
        cmocka_unit_test(test_strangers_hear_nothing),
        cmocka_unit_test(test_no_altered_handshake_is_accepted),
        cmocka_unit_test(test_header_is_bound_to_the_handshake),
        cmocka_unit_test(test_repeated_first_packet),
        cmocka_unit_test(test_copies_bring_three_replies),
        cmocka_unit_test(test_repeated_after_confirmation),
        cmocka_unit_test(test_lost_reply_is_repeated),
        cmocka_unit_test(test_responder_waits_for_confirmation),
        cmocka_unit_test(test_half_open_links_are_bounded),
        cmocka_unit_test(test_cookies_under_load),
        cmocka_unit_test(test_cookies_by_rate),
        cmocka_unit_test(test_loss_of_thirty_percent),
        cmocka_unit_test(test_certificates_are_checked),
        cmocka_unit_test(test_outsiders_of_a_closed_network),
        cmocka_unit_test(test_clocks_within_an_hour),
        cmocka_unit_test(test_simultaneous_opens),
        cmocka_unit_test(test_lower_identity_does_not_answer),
        cmocka_unit_test(test_restarted_peer_replaces_its_link),
        cmocka_unit_test(test_replay_does_not_stop_an_attempt),
    };
    return cmocka_run_group_tests(all, NULL, NULL);
}
