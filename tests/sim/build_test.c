/*
 * Circuits of one to five hops, and all that goes through them: IPv4 and IPv6, small packets packed
 * and large ones cut, DNS, a transfer. (docs/protocol.md §6, §7)
 */
#include "inet.h"
#include "scenario.h"

#include "crypto/aead.h"

static void check_traffic(sim_node *client, unsigned hops)
{
    inet_host *h = client->user;
    CHECK(inet_echo(client, 4, 60, MVPN_S(2)));
    CHECK(inet_echo(client, 6, 80, MVPN_S(2)));
    CHECK(inet_ping(client, 4, 84, MVPN_S(2)));
    CHECK(inet_ping(client, 6, 104, MVPN_S(2)));
    CHECK(inet_resolve(client, MVPN_S(2)));
    /* One packet, one cell; two cells; the TUN's MTU. */
    CHECK(inet_echo(client, 4, 1241, MVPN_S(2)));
    CHECK(inet_echo(client, 4, 1289, MVPN_S(2)));
    CHECK(inet_echo(client, 4, 1420, MVPN_S(2)));
    CHECK(inet_ping(client, 4, 1420, MVPN_S(2)));
    CHECK(inet_echo(client, 6, 1280, MVPN_S(2)));
    /* IPv6 is never cut on the way: the host is told. */
    h->has_too_big = false;
    CHECK(!inet_echo(client, 6, 1400, MVPN_S(1)));
    CHECK(h->has_too_big);
    CHECK(inet_transfer_run(client, INET_DOWN, 200000, 64, MVPN_S(30)));
    CHECK(inet_transfer_run(client, INET_UP, 200000, 64, MVPN_S(30)));
    CHECK(h->altered == 0);
    mvpn_client_status s;
    sim_status(client, &s);
    CHECK(s.path.count == hops);
    CHECK(s.build_us > 0 && s.build_us < MVPN_S(1));
    say("%u hops: built in %.1f ms, round trip %.1f ms", hops, (double)s.build_us / 1000,
        (double)s.rtt_us / 1000);
}

static void hops_each(uint64_t seed)
{
    for (unsigned hops = 1; hops <= 5; hops++) {
        sim *w = sim_standard(seed * 10 + hops, 6, 2, hops);
        sim_node *client = sim_client(w);
        inet_host host;
        check_context("%u hops", hops);
        inet_host_attach(&host, client);
        sim_start(client);
        CHECK(sim_connect(client, MVPN_S(5)));
        check_traffic(client, hops);
        CHECK(client->build_failed == 0 && client->disconnected == 0);
        inet_host_done(&host);
        sim_free(w);
    }
}

/* Handshakes of the size of a hybrid ML-KEM: every message in parts. (§6.3) */
static void suite_hybrid(uint64_t seed)
{
    for (unsigned hops = 1; hops <= 5; hops++) {
        for (uint32_t loss = 0; loss <= 50000; loss += 50000) {
            sim *w = sim_new(seed * 10 + hops);
            sim_node *client;
            inet_host host;
            check_context("%u hops, loss %u ppm", hops, loss);
            for (size_t i = 0; i < 8; i++) {
                sim_add(w, i < 6 ? SIM_RELAY : SIM_EXIT)->config.allow_test_suite = true;
            }
            for (size_t i = 0; i < 8; i++) {
                sim_start(w->node[i]);
            }
            w->path.loss = loss;
            client = sim_add(w, SIM_CLIENT);
            client->client.hops = hops;
            client->client.env.suite = MVPN_SUITE_TEST;
            client->config.allow_test_suite = true;
            inet_host_attach(&host, client);
            sim_start(client);
            CHECK(sim_connect(client, MVPN_S(20)));
            CHECK(inet_transfer_run(client, INET_DOWN, 100000, 32, MVPN_S(60)));
            inet_host_done(&host);
            sim_free(w);
        }
    }
}

/* A relay that does not allow the test suite refuses it. */
static void suite_refused(uint64_t seed)
{
    sim *w = sim_standard(seed, 6, 2, 3);
    sim_node *client = sim_client(w);
    client->client.env.suite = MVPN_SUITE_TEST;
    client->config.allow_test_suite = true;
    sim_start(client);
    CHECK(!sim_connect(client, MVPN_S(5)));
    CHECK(client->build_failed > 0);
    sim_free(w);
}

static void open_network(uint64_t seed)
{
    sim *w = sim_new(seed);
    inet_host host;
    w->is_closed = false;
    for (size_t i = 0; i < 6; i++) {
        sim_add(w, i < 4 ? SIM_RELAY : SIM_EXIT);
    }
    for (size_t i = 0; i < 6; i++) {
        sim_start(w->node[i]);
    }
    sim_node *client = sim_add(w, SIM_CLIENT);
    inet_host_attach(&host, client);
    sim_start(client);
    CHECK(sim_connect(client, MVPN_S(5)));
    CHECK(inet_echo(client, 4, 100, MVPN_S(2)));
    sim_free(w);
}

/* Many small packets of one instant share cells: fewer datagrams than packets. */
static void packing(uint64_t seed)
{
    sim *w = sim_standard(seed, 4, 2, 3);
    sim_node *client = sim_client(w);
    inet_host host;
    inet_host_attach(&host, client);
    sim_start(client);
    REQUIRE(sim_connect(client, MVPN_S(5)), sim_free(w); return );
    sim_for(w, MVPN_S(3));
    uint64_t sent = client->sent, answers = host.packets;
    for (uint32_t i = 0; i < 100; i++) {
        inet_echo_send(client, 4, 60, i);
    }
    sim_for(w, MVPN_S(1));
    CHECK(host.packets - answers == 100);
    CHECK(client->sent - sent <= 10);
    say("100 packets of 60 bytes left in %u datagrams", (unsigned)(client->sent - sent));
    sim_free(w);
}

/* Full-size packets do not pass: cells go in two parts, and nothing else changes. (§4.7) */
static void mtu_black_hole(uint64_t seed)
{
    sim *w = sim_standard(seed, 4, 2, 3);
    sim_node *client = sim_client(w);
    inet_host host;
    w->path.mtu = 1300;
    inet_host_attach(&host, client);
    sim_start(client);
    CHECK(sim_connect(client, MVPN_S(5)));
    CHECK(inet_echo(client, 4, 1420, MVPN_S(2)));
    CHECK(inet_transfer_run(client, INET_DOWN, 500000, 64, MVPN_S(30)));
    /* It shrinks while in use: acknowledged probes notice, the transfer goes on. */
    inet_host_done(&host);
    sim_free(w);
}

/* The same seed gives the same bytes at the same times; another seed does not. */
static uint64_t trace_of(uint64_t seed, enum mvpn_aead_backend backend)
{
    sim *w = sim_new(seed);
    inet_host host;
    w->path = (sim_path){.delay = MVPN_MS(10),
                         .jitter = MVPN_MS(5),
                         .reorder_delay = MVPN_MS(20),
                         .loss = 30000,
                         .reorder = 50000,
                         .duplicate = 10000,
                         .corrupt = 10000};
    for (size_t i = 0; i < 7; i++) {
        sim_add(w, i < 4 ? SIM_RELAY : i < 6 ? SIM_EXIT : SIM_CLIENT)->config.backend = backend;
    }
    for (size_t i = 0; i < 7; i++) {
        sim_start(w->node[i]);
    }
    inet_host_attach(&host, sim_client(w));
    CHECK(sim_connect(sim_client(w), MVPN_S(30)));
    CHECK(inet_transfer_run(sim_client(w), INET_DOWN, 300000, 64, MVPN_S(120)));
    sim_stop(w->node[0], false);
    sim_for(w, MVPN_S(30));
    uint64_t trace = w->trace;
    inet_host_done(&host);
    sim_free(w);
    return trace;
}

static void determinism(uint64_t seed)
{
    uint64_t trace = trace_of(seed, MVPN_AEAD_OPENSSL);
    say("trace %016llx", (unsigned long long)trace);
    CHECK(trace == trace_of(seed, MVPN_AEAD_OPENSSL));
    CHECK(trace == trace_of(seed, MVPN_AEAD_AUTO)); /* the backend changes no byte */
    CHECK(trace != trace_of(seed + 1, MVPN_AEAD_OPENSSL));
}

int main(int argc, char **argv)
{
    static const scenario scenarios[] = {
        {"hops", hops_each},
        {"suite_hybrid", suite_hybrid},
        {"suite_refused", suite_refused},
        {"open_network", open_network},
        {"packing", packing},
        {"mtu_black_hole", mtu_black_hole},
        {"determinism", determinism},
    };
    return scenario_main(argc, argv, scenarios, MVPN_ARRAY_LEN(scenarios));
}
