/* The asking side on real links: what it believes of whom, what it sends at most, when. The kinds
 * of NAT are in tests/sim/natprobe_test.c. */
#include "network/p2p/probenet.h"
#include "wire/circuit.h"

/* Links that are said to be relayed. */
static const mvpn_link *relayed;

bool __wrap_mvpn_link_is_relayed(const mvpn_link *link);

bool __wrap_mvpn_link_is_relayed(const mvpn_link *link)
{
    return link == relayed;
}

/* The next id that is asked for is a link's. */
static bool takes_id;
static mvpn_connection_id taken_id;

bool __wrap_mvpn_links_has_id(mvpn_links *links, const mvpn_connection_id *id);

bool __wrap_mvpn_links_has_id(mvpn_links *links, const mvpn_connection_id *id)
{
    (void)links;
    if (takes_id) {
        takes_id = false;
        taken_id = *id;
        return true;
    }
    return false;
}

static const mvpn_addr victim = {.family = 4, .port = 53, .ip = {198, 51, 100, 53}};

/* What tests want of the way: what a relay's probes are worth, who is hit, the asker's tokens. */
struct way {
    struct probenet w;
    bool drops_answers; /* the asker hears no probe */
    size_t to_victim, to_asker;
    bool spoken_to[NET_NODES];  /* by the second socket */
    mvpn_probe_token token[64]; /* the asker's, as they leave */
    uint16_t token_from[64];
    size_t token_count;
};

static bool watch(struct probenet *w, struct net_datagram *d)
{
    struct way *v = w->ctx;
    mvpn_probe_token t;
    const mvpn_addr *asker = &w->net->node[ASKER].addr;
    bool is_probe = mvpn_probe_decode(&t, mvpn_bytes_of(d->bytes, d->len)) == 0;
    v->to_victim += mvpn_addr_ip_eq(&d->to, &victim);
    if (is_probe && mvpn_addr_ip_eq(&d->from, asker) && v->token_count < 64) {
        v->token_from[v->token_count] = d->from.port;
        v->token[v->token_count++] = t;
    }
    if (is_probe && mvpn_addr_ip_eq(&d->to, asker)) {
        v->to_asker++;
        return !v->drops_answers;
    }
    return true;
}

static void start(struct way *v, uint64_t seed, size_t relays)
{
    const struct probenet_config c = {.seed = seed};
    relayed = NULL;
    *v = (struct way){0};
    probenet_start(&v->w, &c);
    v->w.way = watch;
    v->w.ctx = v;
    probenet_join_relays(&v->w);
    for (size_t i = FIRST_RELAY; i < FIRST_RELAY + relays; i++) {
        probenet_open(&v->w, i);
    }
}

static void stop(struct way *v)
{
    probenet_stop(&v->w);
}

static void counters(const struct way *v, size_t node, mvpn_nat_probe_counters *ret)
{
    mvpn_nat_probe_get_counters(v->w.probe[node], ret);
}

static uint64_t measurements(const struct way *v)
{
    mvpn_nat_probe_counters c;
    counters(v, ASKER, &c);
    return c.measurements;
}

static void test_public(void **state)
{
    (void)state;
    struct way v;
    start(&v, 1, 2);
    mvpn_time took = probenet_measure(&v.w);
    const mvpn_nat_class *c = probenet_class(&v.w);
    assert_true(took < MVPN_S(1));
    assert_int_equal(mvpn_nat_class_name(c), MVPN_STUN_NAT_NONE);
    assert_true(c->is_known && c->is_public);
    assert_int_equal(c->filtering, MVPN_STUN_FILTERING_ENDPOINT_INDEPENDENT);
    assert_int_equal(c->seen_count, 1);
    assert_true(mvpn_addr_eq(&c->seen[0], &v.w.net->node[ASKER].addr));
    assert_int_equal(v.w.changes, 2); /* the address, the rest */
    assert_true(v.w.probes[ASKER] <= 12);
    stop(&v);
}

/* Again every half hour, ± 20 %; where nothing has changed that is no change. */
static void test_again(void **state)
{
    (void)state;
    struct way v;
    start(&v, 2, 2);
    net_for(v.w.net, MVPN_S(20));
    assert_int_equal(measurements(&v), 1);
    net_for(v.w.net, MVPN_S(23 * 60));
    assert_int_equal(measurements(&v), 1);
    net_for(v.w.net, MVPN_S(14 * 60));
    assert_int_equal(measurements(&v), 2);
    net_for(v.w.net, MVPN_S(4 * 3600 - 38 * 60));
    assert_in_range(measurements(&v), 7, 11);
    assert_int_equal(v.w.changes, 2);
    stop(&v);
}

/* One observer is no witness of the mapping; a second one is asked as soon as it is there. */
static void test_alone(void **state)
{
    (void)state;
    struct way v;
    start(&v, 3, 1);
    const mvpn_nat_class *c = probenet_class(&v.w);
    assert_int_equal(c->seen_count, 1); /* at once, by the link */
    net_for(v.w.net, MVPN_S(4));
    assert_int_equal(measurements(&v), 0);
    net_for(v.w.net, MVPN_S(8));
    assert_int_equal(measurements(&v), 1);
    assert_false(c->is_known);
    assert_true(c->is_public);
    probenet_open(&v.w, 2);
    net_for(v.w.net, MVPN_S(2));
    assert_int_equal(measurements(&v), 2);
    assert_true(c->is_known);
    stop(&v);
}

/* Two that are one: at one ip. */
static void test_same_ip(void **state)
{
    (void)state;
    struct way v;
    start(&v, 4, 1);
    struct net_node *n = v.w.net->node;
    n[2].addr.port = n[2].target.addr.port = 9000;
    memcpy(n[2].addr.ip, n[1].addr.ip, sizeof(n[1].addr.ip));
    n[2].target.addr = n[2].addr;
    probenet_open(&v.w, 2);
    net_for(v.w.net, MVPN_S(20));
    assert_true(measurements(&v) >= 1);
    assert_false(probenet_class(&v.w)->is_known);
    probenet_open(&v.w, 3);
    net_for(v.w.net, MVPN_S(8));
    assert_true(probenet_class(&v.w)->is_known);
    stop(&v);
}

/* A link over a NAT relay is seen from there, not from its end. */
static void test_relayed(void **state)
{
    (void)state;
    struct way v;
    start(&v, 5, 0);
    probenet_open(&v.w, 1);
    relayed = v.w.link[1];
    probenet_open(&v.w, 2);
    net_for(v.w.net, MVPN_S(20));
    assert_true(measurements(&v) == 1 && !probenet_class(&v.w)->is_known);
    stop(&v);
}

/* Links that others opened, and those of clients, show nothing of us. */
static void test_called(void **state)
{
    (void)state;
    const struct probenet_config c = {.seed = 6, .is_relay = true};
    struct probenet w;
    mvpn_nat_probe_counters n;
    relayed = NULL;
    probenet_start(&w, &c);
    for (size_t i = 1; i < NET_NODES; i++) {
        mvpn_link_hold(net_open(w.net, i, ASKER));
    }
    net_for(w.net, MVPN_S(30));
    mvpn_nat_probe_get_counters(w.probe[ASKER], &n);
    assert_int_equal(n.measurements, 0);
    assert_int_equal(probenet_class(&w)->seen_count, 0);
    probenet_stop(&w);
}

/* On the internet a peer at a private address is no observer, nor is a private address ours. */
static void test_private(void **state)
{
    (void)state;
    const struct probenet_config c = {.seed = 7, .is_public = true};
    struct probenet w;
    probenet_start(&w, &c); /* 192.0.2.x is for documentation */
    probenet_open(&w, 1);
    probenet_open(&w, 2);
    net_for(w.net, MVPN_S(30));
    assert_int_equal(w.probes[ASKER], 0);
    assert_int_equal(probenet_class(&w)->seen_count, 0);
    probenet_stop(&w);
}

/* ---- lies ---- */

/* Node 1 tells each asker that it was seen at the victim, and sends nothing. */
static bool tell_victim(struct probenet *w, size_t node, mvpn_link *link, const mvpn_header *header,
                        mvpn_bytes body)
{
    mvpn_nat_probe_ask ask;
    uint8_t answer[MVPN_NAT_PROBED_LEN];
    if (header->command != MVPN_CMD_NAT_PROBE || mvpn_nat_probe_decode(&ask, body) != 0) {
        return false;
    }
    const mvpn_nat_probed m = {.token = ask.token, .other_port = 53, .seen = victim};
    mvpn_nat_probed_encode(answer, &m);
    probenet_send(w, node, link, MVPN_CMD_NAT_PROBED, answer, sizeof(answer));
    return true;
}

static bool tells_victim(struct probenet *w, size_t node, mvpn_link *link,
                         const mvpn_header *header, mvpn_bytes body)
{
    return node == 1 && tell_victim(w, node, link, header, body);
}

static void test_liar(void **state)
{
    (void)state;
    for (uint64_t seed = 10; seed < 16; seed++) { /* in whatever order they are asked */
        for (size_t relays = 2; relays <= 3; relays++) {
            struct way v;
            start(&v, seed, 0);
            v.w.message = tells_victim;
            for (size_t i = 1; i <= relays; i++) {
                probenet_open(&v.w, i);
            }
            net_for(v.w.net, MVPN_S(10));
            const mvpn_nat_class *c = probenet_class(&v.w);
            if (relays == 3) { /* outvoted, as soon as it is there */
                assert_int_equal(c->mapping, MVPN_STUN_MAPPING_ENDPOINT_INDEPENDENT);
                assert_true(c->is_public);
            } else { /* they differ: the worse is taken for true */
                assert_int_equal(mvpn_nat_class_name(c), MVPN_STUN_NAT_SYMMETRIC);
                assert_false(c->is_public);
            }
            /* What comes proves itself: by the one that does not lie. */
            assert_int_not_equal(c->filtering, MVPN_STUN_FILTERING_ADDRESS_AND_PORT_DEPENDENT);
            assert_int_equal(v.to_victim, 0);
            stop(&v);
        }
    }
}

/* Two liars can name a victim: it is hit by three probes, every half hour. */
static bool both_tell_victim(struct probenet *w, size_t node, mvpn_link *link,
                             const mvpn_header *header, mvpn_bytes body)
{
    return node != ASKER && tell_victim(w, node, link, header, body);
}

static void test_two_liars(void **state)
{
    (void)state;
    struct way v;
    start(&v, 20, 0);
    v.w.message = both_tell_victim;
    probenet_open(&v.w, 1);
    probenet_open(&v.w, 2);
    net_for(v.w.net, MVPN_S(20 * 60));
    assert_in_range(v.to_victim, 1, 3);
    stop(&v);
}

/* Relays that answer kind 2 themselves, from their other port: the address filter before us, which
 * knows them, lets that in; it does not become an open one by it. */
static bool answers_itself(struct probenet *w, size_t node, mvpn_link *link,
                           const mvpn_header *header, mvpn_bytes body)
{
    mvpn_nat_probe_ask ask;
    uint8_t other[MVPN_NAT_PROBE_LEN];
    if (node == ASKER || header->command != MVPN_CMD_NAT_PROBE ||
        mvpn_nat_probe_decode(&ask, body) != 0 || ask.kind != MVPN_PROBE_OTHER_RELAY) {
        return false;
    }
    ask.kind = MVPN_PROBE_OTHER_PORT;
    mvpn_nat_probe_encode(other, &ask);
    return mvpn_nat_probe_message(w->probe[node], link, header, mvpn_bytes_of(other, sizeof(other)),
                                  w->net->now);
}

/* An address filter before the asker's second socket. */
static bool filters(struct probenet *w, struct net_datagram *d)
{
    struct way *v = w->ctx;
    mvpn_addr second = net_local(&w->net->node[ASKER], MVPN_LOCAL_PROBE);
    for (size_t i = 1; i < NET_NODES; i++) {
        bool is_its = mvpn_addr_ip_eq(&w->net->node[i].addr, &d->from);
        v->spoken_to[i] |=
            mvpn_addr_eq(&d->from, &second) && mvpn_addr_ip_eq(&w->net->node[i].addr, &d->to);
        if (is_its && mvpn_addr_eq(&d->to, &second) && !v->spoken_to[i]) {
            return false;
        }
    }
    return true;
}

static void test_wrong_kind(void **state)
{
    (void)state;
    for (uint64_t seed = 40; seed < 44; seed++) {
        struct way v;
        start(&v, seed, 0);
        v.w.way = filters;
        v.w.message = answers_itself;
        probenet_open(&v.w, 1);
        probenet_open(&v.w, 2);
        net_for(v.w.net, MVPN_S(5));
        assert_int_equal(probenet_class(&v.w)->filtering, MVPN_STUN_FILTERING_ADDRESS_DEPENDENT);
        stop(&v);
    }
}

/* What cannot be: an address of the other family. */
static bool tells_other_family(struct probenet *w, size_t node, mvpn_link *link,
                               const mvpn_header *header, mvpn_bytes body)
{
    mvpn_nat_probe_ask ask;
    uint8_t answer[MVPN_NAT_PROBED_LEN];
    if (node == ASKER || header->command != MVPN_CMD_NAT_PROBE ||
        mvpn_nat_probe_decode(&ask, body) != 0) {
        return false;
    }
    const mvpn_nat_probed m = {.token = ask.token, .seen = {6, 53, {0x2a, 1}}};
    mvpn_nat_probed_encode(answer, &m);
    probenet_send(w, node, link, MVPN_CMD_NAT_PROBED, answer, sizeof(answer));
    return true;
}

static void test_other_family(void **state)
{
    (void)state;
    struct way v;
    start(&v, 48, 0);
    v.w.message = tells_other_family;
    probenet_open(&v.w, 1);
    probenet_open(&v.w, 2);
    net_for(v.w.net, MVPN_S(5));
    assert_false(probenet_class(&v.w)->is_known);
    assert_int_equal(probenet_class(&v.w)->seen_count, 1); /* by the link */
    stop(&v);
}

/* Another relay was to probe, and nobody says that one did. */
static bool is_mute_of_relays(struct probenet *w, size_t node, mvpn_link *link,
                              const mvpn_header *header, mvpn_bytes body)
{
    mvpn_nat_probe_ask ask;
    (void)w;
    (void)link;
    return node != ASKER && header->command == MVPN_CMD_NAT_PROBE &&
           mvpn_nat_probe_decode(&ask, body) == 0 && ask.kind == MVPN_PROBE_OTHER_RELAY;
}

static void test_nobody_says(void **state)
{
    (void)state;
    struct way v;
    start(&v, 45, 0);
    v.w.way = filters;
    v.w.message = is_mute_of_relays;
    probenet_open(&v.w, 1);
    probenet_open(&v.w, 2);
    net_for(v.w.net, MVPN_S(5));
    assert_true(probenet_class(&v.w)->is_known);
    assert_int_equal(probenet_class(&v.w)->filtering, MVPN_STUN_FILTERING_UNKNOWN);
    stop(&v);
}

/* A main socket that is let in specially, and no relay that it does not know: that one of these is
 * heard says neither yes nor no. */
static bool closes_second(struct probenet *w, struct net_datagram *d)
{
    mvpn_addr second = net_local(&w->net->node[ASKER], MVPN_LOCAL_PROBE);
    return !mvpn_addr_eq(&d->to, &second);
}

static void test_spoilt(void **state)
{
    (void)state;
    for (size_t relays = 2; relays <= 3; relays++) {
        struct way v;
        start(&v, 46, 0);
        v.w.way = closes_second;
        for (size_t i = relays; i > 0; i--) {
            probenet_open(&v.w, i);
        }
        net_for(v.w.net, MVPN_S(3));
        mvpn_nat_probe_network_changed(v.w.probe[ASKER], v.w.net->now);
        net_for(v.w.net, MVPN_S(5));
        assert_int_equal(probenet_class(&v.w)->filtering,
                         relays == 2 ? MVPN_STUN_FILTERING_ENDPOINT_INDEPENDENT
                                     : MVPN_STUN_FILTERING_UNKNOWN);
        stop(&v);
    }
}

/* No token is an id of our links: their packets would be ours. */
static void test_token(void **state)
{
    (void)state;
    struct way v;
    start(&v, 47, 0);
    takes_id = true;
    probenet_open(&v.w, 1);
    probenet_open(&v.w, 2);
    net_for(v.w.net, MVPN_S(2));
    assert_true(!takes_id && v.token_count > 0);
    for (size_t i = 0; i < v.token_count; i++) {
        assert_memory_not_equal(v.token[i].b, taken_id.b, sizeof(taken_id.b));
    }
    stop(&v);
}

/* Answers to nothing: counted, without effect. */
static void test_wrong_tokens(void **state)
{
    (void)state;
    struct way v;
    mvpn_nat_probe_counters c;
    start(&v, 21, 2);
    for (unsigned i = 0; i < 400; i++) {
        uint8_t body[MVPN_NAT_PROBED_LEN];
        mvpn_nat_probed m = {.other_port = 9, .seen = victim};
        mvpn_store32(m.token.b, i);
        mvpn_nat_probed_encode(body, &m);
        probenet_send(&v.w, 1, v.w.at_relay[1], MVPN_CMD_NAT_PROBED, body, sizeof(body));
        net_for(v.w.net, MVPN_MS(4));
    }
    net_for(v.w.net, MVPN_S(3));
    counters(&v, ASKER, &c);
    assert_int_equal(c.unexpected, 400);
    assert_int_equal(mvpn_nat_class_name(probenet_class(&v.w)), MVPN_STUN_NAT_NONE);
    assert_int_equal(v.to_victim, 0);
    stop(&v);
}

/* A right token of node 1's told by node 2. */
static bool tells_from_two(struct probenet *w, size_t node, mvpn_link *link,
                           const mvpn_header *header, mvpn_bytes body)
{
    mvpn_nat_probe_ask ask;
    uint8_t answer[MVPN_NAT_PROBED_LEN];
    (void)link;
    if (node == 1 && header->command == MVPN_CMD_NAT_PROBE &&
        mvpn_nat_probe_decode(&ask, body) == 0) {
        const mvpn_nat_probed m = {.token = ask.token, .seen = victim};
        mvpn_nat_probed_encode(answer, &m);
        probenet_send(w, 2, w->at_relay[2], MVPN_CMD_NAT_PROBED, answer, sizeof(answer));
    }
    return false;
}

static void test_others_token(void **state)
{
    (void)state;
    struct way v;
    mvpn_nat_probe_counters c;
    start(&v, 22, 0);
    v.w.message = tells_from_two;
    probenet_open(&v.w, 2);
    probenet_open(&v.w, 1);
    net_for(v.w.net, MVPN_S(3));
    counters(&v, ASKER, &c);
    assert_true(c.unexpected > 0);
    assert_true(probenet_class(&v.w)->is_public);
    stop(&v);
}

/* Probes with the asker's own tokens (somebody on the way saw them), but from elsewhere, or to the
 * other socket: a filter does not become open by them. */
static void test_forged(void **state)
{
    (void)state;
    struct way v;
    mvpn_nat_probe_counters c;
    start(&v, 23, 0);
    v.drops_answers = true;
    probenet_open(&v.w, 1);
    probenet_open(&v.w, 2);
    for (unsigned i = 0; i < 300; i++) {
        net_for(v.w.net, MVPN_MS(10));
        for (size_t k = 0; k < v.token_count; k++) {
            const struct net_node *n = &v.w.net->node[ASKER];
            bool is_main = v.token_from[k] == n->addr.port;
            struct net_datagram d = {.len = MVPN_PROBE_LEN};
            mvpn_probe_encode(d.bytes, &v.token[k], d.bytes);
            d.from = is_main ? victim : net_addr(1); /* kind 1 never comes from the main port */
            d.to = v.token_from[k] == n->addr.port ? n->addr : net_local(n, MVPN_LOCAL_PROBE);
            if (is_main) {
                (void)net_inject(v.w.net, &d);
            }
            d.from = net_local(&v.w.net->node[1], MVPN_LOCAL_PROBE);
            d.to = is_main ? net_local(n, MVPN_LOCAL_PROBE) : n->addr;
            (void)net_inject(v.w.net, &d);
        }
    }
    counters(&v, ASKER, &c);
    assert_true(c.forged > 10);
    assert_true(probenet_class(&v.w)->is_known);
    assert_int_equal(probenet_class(&v.w)->filtering,
                     MVPN_STUN_FILTERING_ADDRESS_AND_PORT_DEPENDENT);
    stop(&v);
}

/* Nothing is awaited, or another token is: the datagram is the links'. */
static void test_not_ours(void **state)
{
    (void)state;
    struct way v;
    start(&v, 24, 0);
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned len = 60; len < 80; len++) {
            struct net_node *n = &v.w.net->node[ASKER];
            mvpn_packet *p = mvpn_packet_new(&n->pool);
            assert_non_null(p);
            memset(mvpn_packet_append(p, len), 0x55, len);
            p->remote = net_addr(1);
            assert_false(mvpn_nat_probe_datagram(v.w.probe[ASKER], p, v.w.net->now));
            mvpn_packet_free(&n->pool, p);
        }
        if (round == 0) {
            probenet_open(&v.w, 1);
            probenet_open(&v.w, 2);
            net_for(v.w.net, MVPN_MS(5));
            assert_true(mvpn_nat_probe_uses_socket(v.w.probe[ASKER]));
        }
    }
    stop(&v);
}

static void test_garbage(void **state)
{
    (void)state;
    static const unsigned commands[] = {MVPN_CMD_NAT_PROBE, MVPN_CMD_NAT_PROBE_FOR};
    static const uint8_t garbage[5];
    struct way v;
    start(&v, 25, 3);
    net_for(v.w.net, MVPN_S(3));
    for (size_t i = 0; i < 2; i++) {
        probenet_send(&v.w, ASKER, v.w.link[1 + i], commands[i], garbage, sizeof(garbage));
    }
    probenet_send(&v.w, 3, v.w.at_relay[3], MVPN_CMD_NAT_PROBED, garbage, sizeof(garbage));
    net_for(v.w.net, MVPN_S(1));
    assert_true(v.w.link[1] == NULL && v.w.link[2] == NULL && v.w.link[3] == NULL);
    const mvpn_header other = {.command = MVPN_CMD_NAT_ADDRESS};
    assert_false(mvpn_nat_probe_message(v.w.probe[ASKER], NULL, &other, MVPN_BYTES_NONE, 0));
    stop(&v);
}

/* Who is no relay answers nobody, and is told so by silence. */
static void test_client_is_silent(void **state)
{
    (void)state;
    struct way v;
    mvpn_nat_probe_counters c;
    uint8_t body[MVPN_NAT_PROBE_FOR_LEN];
    start(&v, 26, 2);
    net_for(v.w.net, MVPN_S(60)); /* the relays measure, too */
    size_t probes = v.w.probes[ASKER], messages = v.w.messages[1];
    mvpn_nat_probe_encode(body, &(mvpn_nat_probe_ask){{{1}}, MVPN_PROBE_OTHER_PORT, 0});
    probenet_send(&v.w, 1, v.w.at_relay[1], MVPN_CMD_NAT_PROBE, body, MVPN_NAT_PROBE_LEN);
    mvpn_nat_probe_for_encode(body, &(mvpn_nat_probe_for){{{1}}, victim});
    probenet_send(&v.w, 1, v.w.at_relay[1], MVPN_CMD_NAT_PROBE_FOR, body, sizeof(body));
    net_for(v.w.net, MVPN_S(2));
    counters(&v, ASKER, &c);
    assert_int_equal(c.unexpected, 2);
    assert_int_equal(v.w.probes[ASKER], probes);
    assert_int_equal(v.w.messages[1], messages);
    assert_int_equal(v.to_victim, 0);
    stop(&v);
}

/* Observers that answer nothing: it is tried again, later and later, and nothing is made up. */
static bool is_mute(struct probenet *w, size_t node, mvpn_link *link, const mvpn_header *header,
                    mvpn_bytes body)
{
    (void)w;
    (void)link;
    (void)body;
    return node != ASKER && header->command == MVPN_CMD_NAT_PROBE;
}

static void test_mute(void **state)
{
    (void)state;
    struct way v;
    start(&v, 27, 0);
    v.w.message = is_mute;
    probenet_open(&v.w, 1);
    probenet_open(&v.w, 2);
    net_for(v.w.net, MVPN_S(3600));
    assert_in_range(measurements(&v), 8, 16);
    assert_false(probenet_class(&v.w)->is_known);
    assert_int_equal(probenet_class(&v.w)->filtering, MVPN_STUN_FILTERING_UNKNOWN);
    v.w.message = NULL;
    net_for(v.w.net, MVPN_S(720));
    assert_true(probenet_class(&v.w)->is_known);
    stop(&v);
}

/* Links that close at any moment of a measurement. */
static void test_links_close(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 40; i++) {
        struct way v;
        start(&v, 100 + i, 0);
        v.drops_answers = i % 2 == 0;
        probenet_open(&v.w, 1);
        probenet_open(&v.w, 2);
        net_for(v.w.net, MVPN_MS(i * 50));
        mvpn_link_close(v.w.link[1 + i % 2], MVPN_REASON_FINISHED, v.w.net->now);
        net_for(v.w.net, MVPN_S(3));
        probenet_open(&v.w, 3);
        net_for(v.w.net, MVPN_S(15));
        assert_true(probenet_class(&v.w)->is_known);
        stop(&v);
    }
}

/* A link under measurement is kept, and only then. */
static void test_lifetime_holds(void **state)
{
    (void)state;
    const struct probenet_config c = {.seed = 30, .measures_lifetime = true};
    struct way v = {.drops_answers = false};
    relayed = NULL;
    probenet_start(&v.w, &c);
    v.w.way = watch;
    v.w.ctx = &v;
    probenet_join_relays(&v.w);
    probenet_open_loose(&v.w, 1);
    probenet_open_loose(&v.w, 2);
    net_for(v.w.net, MVPN_MS(1));
    mvpn_nat_probe_set_own(v.w.probe[ASKER], &victim, 1); /* not public, so there is something */
    net_for(v.w.net, MVPN_S(560));
    assert_int_equal(probenet_class(&v.w)->lifetime_s, 118);
    assert_true((v.w.link[1] != NULL) != (v.w.link[2] != NULL));
    net_for(v.w.net, MVPN_S(400));
    assert_int_equal(probenet_class(&v.w)->lifetime_s, 178);
    assert_true(v.w.link[1] == NULL && v.w.link[2] == NULL);
    stop(&v);
}

/* The link of the measurement closes: another one goes on with it. */
static void test_lifetime_link_closes(void **state)
{
    (void)state;
    const struct probenet_config c = {.seed = 32, .measures_lifetime = true};
    struct way v = {.drops_answers = false};
    relayed = NULL;
    probenet_start(&v.w, &c);
    v.w.way = watch;
    v.w.ctx = &v;
    mvpn_nat_probe_set_own(v.w.probe[ASKER], &victim, 1);
    probenet_join_relays(&v.w);
    probenet_open_loose(&v.w, 1);
    probenet_open_loose(&v.w, 2);
    probenet_open_loose(&v.w, 3);
    net_for(v.w.net, MVPN_S(300)); /* the other two have closed */
    assert_int_equal(probenet_class(&v.w)->lifetime_s, 88);
    for (size_t i = 1; i < NET_NODES; i++) {
        if (v.w.link[i] != NULL) {
            mvpn_link_close(v.w.link[i], MVPN_REASON_FINISHED, v.w.net->now);
        }
    }
    net_for(v.w.net, MVPN_S(30));
    assert_false(v.w.used_socket);
    probenet_open_loose(&v.w, 1);
    net_for(v.w.net, MVPN_S(200));
    assert_int_equal(probenet_class(&v.w)->lifetime_s, 118);
    stop(&v);
}

/* What was measured earlier need not be measured now. */
static void test_lifetime_known(void **state)
{
    (void)state;
    const struct probenet_config c = {.seed = 31, .measures_lifetime = true};
    struct way v = {.drops_answers = false};
    probenet_start(&v.w, &c);
    v.w.way = watch;
    v.w.ctx = &v;
    mvpn_nat_probe_set_own(v.w.probe[ASKER], &victim, 1);
    mvpn_nat_probe_set_lifetime(v.w.probe[ASKER], 58, v.w.net->now);
    probenet_open(&v.w, 1);
    probenet_open(&v.w, 2);
    net_for(v.w.net, MVPN_S(60));
    assert_int_equal(probenet_class(&v.w)->lifetime_s, 58);
    assert_false(v.w.used_socket);
    mvpn_nat_probe_network_changed(v.w.probe[ASKER], v.w.net->now); /* that was another's */
    assert_int_equal(probenet_class(&v.w)->lifetime_s, 0);
    net_for(v.w.net, MVPN_S(30));
    assert_int_equal(probenet_class(&v.w)->lifetime_s, 13);
    stop(&v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_public),         cmocka_unit_test(test_again),
        cmocka_unit_test(test_alone),          cmocka_unit_test(test_same_ip),
        cmocka_unit_test(test_relayed),        cmocka_unit_test(test_called),
        cmocka_unit_test(test_private),        cmocka_unit_test(test_liar),
        cmocka_unit_test(test_two_liars),      cmocka_unit_test(test_wrong_tokens),
        cmocka_unit_test(test_others_token),   cmocka_unit_test(test_forged),
        cmocka_unit_test(test_not_ours),       cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_mute),           cmocka_unit_test(test_client_is_silent),
        cmocka_unit_test(test_links_close),    cmocka_unit_test(test_lifetime_holds),
        cmocka_unit_test(test_lifetime_known), cmocka_unit_test(test_lifetime_link_closes),
        cmocka_unit_test(test_wrong_kind),     cmocka_unit_test(test_nobody_says),
        cmocka_unit_test(test_spoilt),         cmocka_unit_test(test_token),
        cmocka_unit_test(test_other_family),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
