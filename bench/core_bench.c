/*
 * What the steps of the packet path and of building cost, in one process, without sockets.
 *
 *     core_bench [--json]
 *
 * Each figure is the median of RUNS runs that take turns, so that a slow second of the machine does
 * not fall on one figure alone. Relay, exit and client are the real engines, connected through the
 * simulator and then fed directly.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/handshake.h"
#include "crypto/x25519.h"
#include "network/ip/inner.h"
#include "network/p2p/nat_relay.h"
#include "network/p2p/testnet.h"
#include "sim.h"
#include "wire/natmsg.h"

#define RUNS 9
#define BATCH 64
#define BATCHES 150
#define PACKET_LEN 1289 /* one full cell */
#define SMALL_LEN 52    /* a TCP acknowledgement */
#define OPS 3000

enum figure {
    SEAL_MB,
    OPEN_MB,
    SEAL_OPENSSL,
    OPEN_OPENSSL,
    HEADER_MB,
    HANDSHAKE,
    HANDSHAKE_RELAY,
    CLIENT_CELL,
    RELAY_CELL,
    RELAY_SMALL,
    EXIT_CELL,
    NAT_FORWARD,
    PATH_SELECT,
    FIGURES,
};

static const char *const name[FIGURES] = {
    "layer_seal_ns",         "layer_open_ns",
    "layer_seal_openssl_ns", "layer_open_openssl_ns",
    "link_header_seal_ns",   "noise_nk_us",
    "noise_nk_relay_us",     "client_cell_3_layers_ns",
    "relay_cell_ns",         "relay_small_cell_ns",
    "exit_cell_ns",          "nat_forward_ns",
    "path_select_5000_us",
};

static double runs[FIGURES][RUNS];

static double now_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(enum figure f)
{
    double sorted[RUNS];
    memcpy(sorted, runs[f], sizeof(sorted));
    qsort(sorted, RUNS, sizeof(sorted[0]), compare);
    return sorted[RUNS / 2];
}

static void need(bool ok, const char *what)
{
    if (!ok) {
        (void)fprintf(stderr, "core_bench: %s\n", what);
        exit(1);
    }
}

/* ---- AEAD and handshakes ---- */

static void bench_aead(enum mvpn_aead_backend backend, size_t len, enum figure seal,
                       enum figure open, unsigned run)
{
    static uint8_t buf[2048];
    uint8_t tag[MVPN_AEAD_TAG];
    mvpn_key key = {.b = {1}};
    mvpn_aead *aead;
    if (mvpn_aead_new(backend, &aead) != 0) {
        return; /* not on this machine: the figure stays 0 */
    }
    mvpn_bytes data = {buf, len};
    double from = now_ns();
    for (unsigned i = 0; i < OPS; i++) {
        mvpn_aead_seal(aead, buf, tag, &key, i, MVPN_BYTES_NONE, data);
    }
    runs[seal][run] = (now_ns() - from) / OPS;
    if (open != FIGURES) {
        double spent = 0;
        for (unsigned i = 0; i < OPS; i++) {
            mvpn_aead_seal(aead, buf, tag, &key, i, MVPN_BYTES_NONE, data);
            from = now_ns();
            need(mvpn_aead_open(aead, buf, &key, i, MVPN_BYTES_NONE, data, tag) == 0,
                 "open failed");
            spent += now_ns() - from;
        }
        runs[open][run] = spent / OPS;
    }
    mvpn_aead_free(aead);
}

static void bench_handshake(unsigned run)
{
    enum { COUNT = 100 };
    mvpn_aead *aead;
    mvpn_rng rng;
    mvpn_x25519_pair onion;
    mvpn_realm realm = {.closed = true};
    uint8_t m1[MVPN_HANDSHAKE_MAX], m2[MVPN_HANDSHAKE_MAX];
    mvpn_hop_keys a, b;
    mvpn_noise hs;
    size_t n1, n2;
    double relay = 0;
    mvpn_rng_init_test(&rng, run);
    mvpn_x25519_generate(&onion, &rng);
    need(mvpn_aead_new(MVPN_AEAD_AUTO, &aead) == 0, "no AEAD");
    mvpn_onion_target target = {.onion_key = onion.pub, .suite = MVPN_SUITE_X25519};
    double from = now_ns();
    for (unsigned i = 0; i < COUNT; i++) {
        need(mvpn_handshake_begin(&hs, aead, &rng, &realm, &target, m1, &n1) == 0, "handshake");
        double at = now_ns();
        need(mvpn_handshake_answer(aead, &rng, &realm, &target, &onion, mvpn_bytes_of(m1, n1), m2,
                                   &n2, &a) == 0,
             "handshake");
        relay += now_ns() - at;
        need(mvpn_handshake_finish(&hs, mvpn_bytes_of(m2, n2), &b) == 0, "handshake");
    }
    runs[HANDSHAKE][run] = (now_ns() - from) / COUNT / 1000;
    runs[HANDSHAKE_RELAY][run] = relay / COUNT / 1000;
    mvpn_aead_free(aead);
}

/* ---- paths ---- */

/* A path of three among 5,000 relays, with an exit's country wished for. */
static void bench_path(unsigned run)
{
    enum { COUNT = 50 };
    static mvpn_view *view;
    static const mvpn_trust trust;
    const mvpn_view_config config = {.trust = &trust};
    mvpn_rng rng;
    mvpn_path path;
    mvpn_path_constraints wish = {.hops = 3, .unix_now = 1500};
    if (view == NULL) {
        need(mvpn_view_new(&config, &view) == 0, "no view");
        for (unsigned i = 0; i < MVPN_VIEW_MAX; i++) {
            mvpn_descriptor d = {.sequence = 1, .published = 1000, .expires = 9000};
            d.identity = (mvpn_ed25519_pub){{0xd0, (uint8_t)(i >> 8), (uint8_t)i}};
            d.roles = MVPN_ROLE_GUARD | MVPN_ROLE_MIDDLE | MVPN_ROLE_EXIT;
            memcpy(d.country, i % 10 == 0 ? "CH" : "SE", 3);
            d.has_bandwidth = true;
            d.bandwidth_kbit = 10000 * (1 + i % 100);
            d.address_count = 1;
            d.addresses[0] = (mvpn_descriptor_address){
                MVPN_CARRIER_PLAIN,
                {.family = 4, .port = 443, .ip = {(uint8_t)(11 + i / 256), (uint8_t)i, 1, 1}}};
            need(mvpn_view_add(view, &d) == 0, "the view takes no relay");
        }
    }
    need(mvpn_path_countries_parse("CH", &wish.exit_countries) == 0, "no country");
    mvpn_rng_init_test(&rng, run);
    double from = now_ns();
    for (unsigned i = 0; i < COUNT; i++) {
        need(mvpn_path_select(view, &wish, &rng, &path) == MVPN_PATH_OK, "no path");
    }
    runs[PATH_SELECT][run] = (now_ns() - from) / COUNT / 1000;
    if (run + 1 == RUNS) {
        mvpn_view_free(view);
        view = NULL;
    }
}

/* ---- the NAT relay ---- */

/* What NatRegistered and NatIncoming tell the relay behind the NAT. */
static mvpn_nat_registered nat_registered;
static mvpn_nat_ids nat_ids;

static void nat_told(struct net *net, struct net_node *node, mvpn_link *link,
                     const mvpn_header *header, const mvpn_packet *packet)
{
    (void)net;
    (void)node;
    (void)link;
    mvpn_bytes body = mvpn_bytes_of(packet->data, packet->len);
    if (header->command == MVPN_CMD_NAT_REGISTERED) {
        need(mvpn_nat_registered_decode(&nat_registered, body) == 0, "NatRegistered");
    } else if (header->command == MVPN_CMD_NAT_INCOMING) {
        need(mvpn_nat_incoming_decode(&nat_ids, body) == 0, "NatIncoming");
    }
}

static void nat_tell(mvpn_nat_relay *relay, struct net *net, mvpn_link *link, unsigned command,
                     mvpn_bytes body)
{
    const mvpn_header header = {.command = (uint16_t)command, .length = (uint16_t)body.n};
    need(mvpn_nat_relay_message(relay, link, &header, body, net->now), "a NAT message");
    net_for(net, MVPN_S(1));
}

/* Full-size datagrams through each of many sessions in turn: what one costs beside the sockets. */
static void bench_nat(unsigned run)
{
    enum { LEN = 1424, SESSIONS = 60, TURNS = 40000, AT_ONCE = 60 };
    mvpn_connection_id ids[SESSIONS];
    mvpn_link *caller, *home;
    mvpn_nat_relay *relay;
    uint8_t body[MVPN_NAT_OPEN_LEN];
    struct net *net = net_standard(run + 1, false);
    struct net_node *node = &net->node[1];
    net->message = nat_told;
    (void)net_joined(net, 0, 1, &caller);
    (void)net_joined(net, 2, 1, &home);
    const mvpn_nat_relay_config config = {.rng = &node->rng,
                                          .pool = &node->pool,
                                          .links = node->links,
                                          .session_bytes_s = 1u << 30,
                                          .total_bytes_s = UINT64_C(1) << 36};
    need(mvpn_nat_relay_new(&config, net->now, &relay) == 0, "no NAT relay");
    mvpn_nat_register_encode(body, 3600);
    nat_tell(relay, net, home, MVPN_CMD_NAT_REGISTER, mvpn_bytes_of(body, MVPN_NAT_REGISTER_LEN));
    mvpn_nat_open_encode(body, &(mvpn_nat_open){1, nat_registered.rendezvous, 8});
    for (unsigned i = 0; i < SESSIONS; i++) {
        nat_tell(relay, net, caller, MVPN_CMD_NAT_OPEN, MVPN_BYTES_ARRAY(body));
        ids[i] = nat_ids.own[0];
    }
    double spent = 0;
    mvpn_packet *p[AT_ONCE];
    for (unsigned t = 0; t < TURNS; t += AT_ONCE) {
        net->now += MVPN_MS(1);
        for (unsigned i = 0; i < AT_ONCE; i++) {
            p[i] = mvpn_packet_new(&node->pool);
            need(p[i] != NULL, "the NAT relay's packet pool is empty");
            uint8_t *b = mvpn_packet_append(p[i], LEN);
            b[0] = 0x45;
            memcpy(b + 1, ids[i % SESSIONS].b, sizeof(ids[0].b));
            p[i]->remote = net_addr(0);
        }
        double from = now_ns();
        for (unsigned i = 0; i < AT_ONCE; i++) {
            need(mvpn_nat_relay_forward(relay, p[i], net->now), "not forwarded");
        }
        spent += now_ns() - from;
        mvpn_packet_queue_clear(mvpn_nat_relay_out(relay), &node->pool);
    }
    need(mvpn_nat_relay_get_counters(relay)->forwarded >= TURNS, "datagrams were dropped");
    runs[NAT_FORWARD][run] = spent / TURNS;
    mvpn_nat_relay_free(relay);
    net_free(net);
}

/* ---- engines ---- */

/* Move datagrams from one engine's output to another's input, as the wire would. */
static void carry(mvpn_engine *from, const mvpn_addr *from_addr, mvpn_engine *to,
                  mvpn_packet_queue *in)
{
    mvpn_packet *p;
    while ((p = mvpn_packet_queue_pop(mvpn_engine_datagrams_out(from))) != NULL) {
        mvpn_packet *copy = mvpn_packet_new(mvpn_engine_pool(to));
        need(copy != NULL, "a packet pool is empty");
        memcpy(mvpn_packet_append(copy, p->len), p->data, p->len);
        copy->remote = *from_addr;
        mvpn_packet_queue_push(in, copy);
        mvpn_packet_free(mvpn_engine_pool(from), p);
    }
}

static void drop(mvpn_packet_queue *q, mvpn_engine *e)
{
    mvpn_packet_queue_clear(q, mvpn_engine_pool(e));
}

/* A UDP packet to a public address. */
static void make_packet(mvpn_packet *p, size_t len)
{
    static const uint8_t to[4] = {11, 200, 0, 1};
    uint8_t *b = mvpn_packet_append(p, (uint32_t)len);
    memset(b, 0, len);
    b[0] = 0x45;
    mvpn_store16(b + 2, (uint16_t)len);
    b[8] = 64;
    b[9] = 17;
    memcpy(b + 12, mvpn_inner_client(4), 4);
    memcpy(b + 16, to, 4);
    uint32_t sum = 0;
    for (size_t i = 0; i < 20; i += 2) {
        sum += mvpn_load16(b + i);
    }
    sum = (sum & 0xffff) + (sum >> 16);
    mvpn_store16(b + 10, (uint16_t) ~(sum + (sum >> 16)));
    mvpn_store16(b + 20, 4000);
    mvpn_store16(b + 22, 4000);
    mvpn_store16(b + 24, (uint16_t)(len - 20)); /* checksum 0: none */
}

struct chain {
    sim_node *client, *guard, *middle, *exit;
};

static struct chain chain_of(sim *w)
{
    sim_node *c = sim_client(w);
    return (struct chain){c, sim_hop(c, 1), sim_hop(c, 2), sim_hop(c, 3)};
}

/* BATCH packets into the client's TUN; small ones a turn each, so that they do not share cells. */
static double feed_client(sim *w, mvpn_engine *e, size_t len)
{
    mvpn_packet_queue q;
    double spent = 0;
    mvpn_packet_queue_init(&q);
    for (unsigned i = 0; i < BATCH; i++) {
        mvpn_packet *p = mvpn_packet_new(mvpn_engine_pool(e));
        need(p != NULL, "the client's packet pool is empty");
        make_packet(p, len);
        mvpn_packet_queue_push(&q, p);
        if (len == SMALL_LEN || i + 1 == BATCH) {
            double from = now_ns();
            mvpn_engine_tun_in(e, &q, w->now);
            mvpn_engine_turn(e, w->now);
            spent += now_ns() - from;
        }
    }
    return spent;
}

/* One pass of BATCHES batches down the path; the time of each engine apart, per cell. */
static void pass(sim *w, size_t len, double ret[static 4])
{
    struct chain ch = chain_of(w);
    sim_node *node[4] = {ch.client, ch.guard, ch.middle, ch.exit};
    double spent[4] = {0};
    size_t cells = 0;
    mvpn_packet_queue q;
    for (unsigned b = 0; b < BATCHES; b++) {
        w->now += 100;
        spent[0] += feed_client(w, ch.client->engine, len);
        mvpn_packet_queue_init(&q);
        carry(ch.client->engine, &ch.client->addr[0], ch.guard->engine, &q);
        cells += q.count;
        for (unsigned i = 1; i < 4; i++) {
            mvpn_engine *e = node[i]->engine;
            double from = now_ns();
            mvpn_engine_datagrams_in(e, &q, w->now);
            mvpn_engine_turn(e, w->now);
            spent[i] += now_ns() - from;
            if (i < 3) {
                carry(e, &node[i]->addr[0], node[i + 1]->engine, &q);
            }
        }
        drop(mvpn_engine_tun_out(ch.exit->engine), ch.exit->engine);
        drop(mvpn_engine_datagrams_out(ch.exit->engine), ch.exit->engine);
    }
    need(cells > 0, "no cell arrived");
    for (unsigned i = 0; i < 4; i++) {
        ret[i] = spent[i] / (double)cells;
    }
}

static void bench_engines(sim *w, unsigned run)
{
    double ns[4];
    pass(w, PACKET_LEN, ns);
    runs[CLIENT_CELL][run] = ns[0];
    runs[RELAY_CELL][run] = ns[2];
    runs[EXIT_CELL][run] = ns[3];
    pass(w, SMALL_LEN, ns);
    runs[RELAY_SMALL][run] =
        ns[2]; /* several packets share a cell: this is per cell all the same */
}

int main(int argc, char **argv)
{
    bool json = argc > 1 && strcmp(argv[1], "--json") == 0;
    need(argc == 1 || json, "usage: core_bench [--json]");
    sim *w = sim_standard(1, 3, 2, 3);
    sim_start(sim_client(w));
    need(sim_connect(sim_client(w), MVPN_S(10)), "the simulated client does not connect");
    sim_for(w, MVPN_S(2)); /* full-size packets are proven by now */
    for (unsigned run = 0; run < RUNS; run++) {
        bench_aead(MVPN_AEAD_IPSEC_MB, 1299, SEAL_MB, OPEN_MB, run);
        bench_aead(MVPN_AEAD_OPENSSL, 1299, SEAL_OPENSSL, OPEN_OPENSSL, run);
        bench_aead(MVPN_AEAD_AUTO, 32, HEADER_MB, FIGURES, run);
        bench_handshake(run);
        bench_engines(w, run);
        bench_path(run);
        bench_nat(run);
    }
    sim_free(w);

    if (json) {
        (void)printf("{\"bench\": \"core\", \"runs\": %d", RUNS);
        for (unsigned f = 0; f < FIGURES; f++) {
            (void)printf(", \"%s\": %.1f", name[f], median((enum figure)f));
        }
        (void)printf(
            ", \"relay_cells_s\": %.0f, \"noise_handshakes_s\": %.0f, \"circuit_bytes\": %.0f, "
            "\"nat_packets_s\": %.0f, \"nat_mbit_s\": %.0f}\n",
            1e9 / median(RELAY_CELL), 1e6 / median(HANDSHAKE_RELAY),
            (double)mvpn_relay_circuit_size(), 1e9 / median(NAT_FORWARD),
            1424 * 8e3 / median(NAT_FORWARD));
        return 0;
    }
    (void)printf("One process, no sockets; medians of %d runs.\n", RUNS);
    for (unsigned f = 0; f < FIGURES; f++) {
        (void)printf("  %-26s %10.1f\n", name[f], median((enum figure)f));
    }
    (void)printf("  %-26s %10.0f\n  %-26s %10.0f\n  %-26s %10.0f\n", "relay_cells_s",
                 1e9 / median(RELAY_CELL), "noise_handshakes_s", 1e6 / median(HANDSHAKE_RELAY),
                 "circuit_bytes", (double)mvpn_relay_circuit_size());
    (void)printf("  %-26s %10.0f\n  %-26s %10.0f\n", "nat_packets_s", 1e9 / median(NAT_FORWARD),
                 "nat_mbit_s", 1424 * 8e3 / median(NAT_FORWARD));
    return 0;
}
