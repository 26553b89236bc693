/*
 * Paths that lose, reorder, duplicate and alter: circuits are built in time all the same, and what
 * arrives is what was sent.
 */
#include "inet.h"
#include "scenario.h"

#include <stdlib.h>

#define TRANSFER 10000000

static int compare_times(const void *a, const void *b)
{
    mvpn_time x = *(const mvpn_time *)a, y = *(const mvpn_time *)b;
    return (x > y) - (x < y);
}

/* 98 of 100 have a session within 10 s of virtual time. */
static void set_up(uint64_t seed, unsigned hops, uint32_t loss, mvpn_time delay, size_t count)
{
    static mvpn_time took[1000];
    size_t in_time = 0, builds = 0;
    for (size_t i = 0; i < count; i++) {
        sim *w = sim_standard(seed * 1000 + i, 6, 2, hops);
        sim_node *client = sim_client(w);
        mvpn_client_status s;
        w->path.loss = loss;
        w->path.delay = delay;
        w->path.jitter = delay / 2;
        sim_start(client);
        bool is_there = sim_connect(client, MVPN_S(60));
        took[i] = is_there ? client->connected_at - SIM_START : MVPN_S(60);
        if (took[i] > MVPN_S(10)) {
            say("world %llu took %.1f s", (unsigned long long)(seed * 1000 + i),
                (double)took[i] / 1e6);
        }
        in_time += took[i] <= MVPN_S(10);
        sim_status(client, &s);
        builds += s.builds;
        sim_free(w);
    }
    qsort(took, count, sizeof(took[0]), compare_times);
    say("%u hops, %u %% lost, %u ms a link: %zu of %zu in 10 s; p50 %.2f s, p95 %.2f s, p98 %.2f "
        "s, "
        "max %.2f s; %.1f builds each",
        hops, loss / 10000, (unsigned)(delay / 1000), in_time, count, (double)took[count / 2] / 1e6,
        (double)took[count * 95 / 100] / 1e6, (double)took[count * 98 / 100] / 1e6,
        (double)took[count - 1] / 1e6, (double)builds / (double)count);
    CHECK(in_time * 100 >= count * 98);
}

static void set_up_30(uint64_t seed)
{
    check_context("3 hops, 10 ms");
    set_up(seed, 3, 300000, MVPN_MS(10), scenario_count(250, 40));
    check_context("3 hops, 40 ms");
    set_up(seed, 3, 300000, MVPN_MS(40), scenario_count(200, 20));
    check_context("1 hop");
    set_up(seed, 1, 300000, MVPN_MS(10), scenario_count(100, 20));
    check_context("5 hops");
    set_up(seed, 5, 300000, MVPN_MS(10), scenario_count(100, 20));
}

static void transfer_over(uint64_t seed, const sim_path *path, enum inet_direction direction,
                          size_t bytes)
{
    sim *w = sim_standard(seed, 6, 2, 3);
    sim_node *client = sim_client(w);
    inet_host host;
    w->path = *path;
    inet_host_attach(&host, client);
    sim_start(client);
    CHECK(sim_connect(client, MVPN_S(30)));
    CHECK(inet_transfer_run(client, direction, bytes, 128, MVPN_S(1200)));
    CHECK(host.altered == 0);
    CHECK(w->inet_altered == 0);
    CHECK(client->disconnected == 0);
    mvpn_client_status s;
    sim_status(client, &s);
    say("%s %.1f MB in %.1f s, %.2f %% of chunks asked for again",
        direction == INET_UP ? "up" : "down", (double)bytes / 1e6,
        (double)(host.transfer.ended - host.transfer.began) / 1e6,
        100.0 * (double)host.transfer.repeated / (double)host.transfer.requests);
    inet_host_done(&host);
    sim_free(w);
}

static void loss_and_reordering(uint64_t seed)
{
    const sim_path path = {
        .delay = MVPN_MS(10), .reorder_delay = MVPN_MS(15), .loss = 20000, .reorder = 50000};
    transfer_over(seed, &path, INET_DOWN, scenario_count(TRANSFER, TRANSFER / 10));
    transfer_over(seed, &path, INET_UP, scenario_count(TRANSFER, TRANSFER / 10));
}

static void duplication_and_corruption(uint64_t seed)
{
    const sim_path path = {
        .delay = MVPN_MS(10), .jitter = MVPN_MS(3), .duplicate = 200000, .corrupt = 20000};
    transfer_over(seed, &path, INET_DOWN, scenario_count(TRANSFER / 2, TRANSFER / 20));
    transfer_over(seed, &path, INET_UP, scenario_count(TRANSFER / 2, TRANSFER / 20));
}

/* Every packet twice: each echo comes once. */
static void duplicates_are_dropped(uint64_t seed)
{
    sim *w = sim_standard(seed, 4, 2, 3);
    sim_node *client = sim_client(w);
    inet_host host;
    w->path.duplicate = 1000000;
    w->path.jitter = MVPN_MS(5);
    inet_host_attach(&host, client);
    sim_start(client);
    REQUIRE(sim_connect(client, MVPN_S(10)), sim_free(w); return );
    uint64_t at_server = w->inet_packets, answers = host.packets;
    for (uint32_t i = 0; i < 200; i++) {
        inet_echo_send(client, 4, 400, i);
        sim_for(w, MVPN_MS(7));
    }
    sim_for(w, MVPN_S(1));
    CHECK(w->inet_packets - at_server == 200);
    CHECK(host.packets - answers == 200);
    sim_free(w);
}

/* A path that turns bad and then one-way for a while: the session comes back by itself. */
static void one_way_partition(uint64_t seed)
{
    sim *w = sim_standard(seed, 6, 2, 3);
    sim_node *client = sim_client(w);
    inet_host host;
    inet_host_attach(&host, client);
    sim_start(client);
    REQUIRE(sim_connect(client, MVPN_S(10)), sim_free(w); return );
    sim_for(w, MVPN_S(2));
    for (size_t i = 0; i < w->node_count - 1; i++) { /* the client hears nobody */
        sim_path_between(w, w->node[i], client)->is_cut = true;
    }
    CHECK(!inet_echo(client, 4, 100, MVPN_S(20)));
    for (size_t i = 0; i < w->node_count - 1; i++) {
        sim_path_between(w, w->node[i], client)->is_cut = false;
    }
    CHECK(sim_connect(client, MVPN_S(30)));
    CHECK(inet_echo(client, 4, 100, MVPN_S(2)));
    sim_free(w);
}

int main(int argc, char **argv)
{
    static const scenario scenarios[] = {
        {"set_up_30", set_up_30},
        {"loss_and_reordering", loss_and_reordering},
        {"duplication_and_corruption", duplication_and_corruption},
        {"duplicates_are_dropped", duplicates_are_dropped},
        {"one_way_partition", one_way_partition},
    };
    return scenario_main(argc, argv, scenarios, MVPN_ARRAY_LEN(scenarios));
}
