/*
 * A thousand nodes with the real Kademlia core: what churn and loss leave of lookups and what they
 * cost, how hops grow, partitions, withdrawals, slow nodes. (docs/protocol.md §11)
 */
#include <math.h>
#include <string.h>

#include "dht_world.h"
#include "scenario.h"

/* Enough lookups for a share of 99.9 % to mean something: 3 failures are allowed. */
#define LOOKUPS 4000
#define NODES 1000

static void report(const dht_world *w, const dht_figures *f)
{
    const dht_stats *s = &w->stats;
    say("%zu nodes: %llu lookups, %.2f %% found (%llu old, %llu none, %llu askers left), hops %.2f",
        w->alive, (unsigned long long)s->lookups, 100 * f->success, (unsigned long long)s->stale,
        (unsigned long long)s->missing, (unsigned long long)s->gone, f->hops_mean);
    say("latency %.0f ms median, %.0f ms at 95 %%; a node sends %.0f bytes/s and %.0f a lookup",
        f->latency_ms_p50, f->latency_ms_p95, f->upkeep_per_node_s, f->bytes_per_lookup);
    say("and holds %.0f KiB", f->memory_per_node / 1024);
    check_context("success %.5f, median %.0f ms, %.0f bytes/s and %.0f a lookup", f->success,
                  f->latency_ms_p50, f->upkeep_per_node_s, f->bytes_per_lookup);
}

static void churn(uint64_t seed, double session_min, double success, double bytes)
{
    dht_world_config c;
    dht_figures f;
    dht_world_defaults(&c);
    c.seed = seed;
    c.nodes = scenario_count(NODES, 150);
    c.session_min = session_min;
    c.loss = 0.1;
    dht_world *w = dht_world_new(&c, 0);
    dht_world_start(w);
    dht_world_lookups(w, scenario_count(LOOKUPS, 300), MVPN_S(400));
    dht_world_figures(w, &f);
    report(w, &f);
    CHECK(w->stats.lookups - w->stats.gone >= scenario_count(3000, 200));
    CHECK(f.success >= success);
    CHECK(f.latency_ms_p50 <= 500);
    /* A node that looks up a record every 10 min. */
    CHECK(f.upkeep_per_node_s + f.bytes_per_lookup / 600 <= bytes);
    dht_world_free(w);
}

static void sessions_of_60_min(uint64_t seed)
{
    churn(seed, 60, 0.999, 1000);
}

static void sessions_of_20_min(uint64_t seed)
{
    churn(seed, 20, 0.995, 2500);
}

static void sessions_of_5_min(uint64_t seed)
{
    churn(seed, 5, 0.99, 2500);
}

static void hops_grow_slowly(uint64_t seed)
{
    static const size_t sizes[] = {100, 300, 1000};
    double x[3], y[3], mx = 0, my = 0, up = 0, down = 0;
    size_t count = scenario_count(3, 2);
    for (size_t i = 0; i < count; i++) {
        dht_world_config c;
        dht_figures f;
        dht_world_defaults(&c);
        c.seed = seed + i;
        c.nodes = sizes[i];
        c.warm = MVPN_S(120);
        dht_world *w = dht_world_new(&c, 0);
        dht_world_start(w);
        dht_world_lookups(w, 500, MVPN_S(60));
        dht_world_figures(w, &f);
        say("%zu nodes: %.2f hops, %.2f %% found", sizes[i], f.hops_mean, 100 * f.success);
        CHECK(f.success >= 0.99);
        x[i] = log2((double)sizes[i]);
        y[i] = f.hops_mean;
        mx += x[i] / (double)count;
        my += y[i] / (double)count;
        dht_world_free(w);
    }
    for (size_t i = 0; i < count; i++) {
        up += (x[i] - mx) * (y[i] - my);
        down += (x[i] - mx) * (x[i] - mx);
        CHECK(y[i] <= x[i]);
    }
    say("slope %.3f of log2 N", up / down);
    CHECK(up / down <= 0.5);
}

/* Each half has the newer records of its own members alone; then both are one network again. */
static void a_partition_heals(uint64_t seed)
{
    dht_world_config c;
    dht_figures f;
    dht_world_defaults(&c);
    c.seed = seed;
    c.nodes = scenario_count(300, 100);
    c.session_min = 0;
    dht_world *w = dht_world_new(&c, 0);
    dht_world_start(w);
    for (size_t i = 0; i < w->alive; i++) {
        w->node[i].side = i % 2 == 0;
    }
    dht_world_split(w, true);
    dht_world_for(w, MVPN_S(1200));
    for (size_t i = 0; i < w->alive; i++) {
        dht_world_publish(&w->node[i]);
        dht_world_for(w, MVPN_S(1));
    }
    dht_world_for(w, MVPN_S(60));
    dht_world_reset(w);
    dht_world_lookups(w, 300, MVPN_S(60));
    dht_world_figures(w, &f);
    say("parted: %.1f %% of the newest records found, half of them by the other half",
        100 * f.success);
    CHECK(f.success >= 0.4 && f.success <= 0.6);
    dht_world_split(w, false);
    dht_world_for(w, MVPN_S(600));
    dht_world_reset(w);
    dht_world_lookups(w, 600, MVPN_S(60));
    dht_world_figures(w, &f);
    say("10 min after it healed:");
    report(w, &f);
    CHECK(f.success >= 0.998);
    dht_world_free(w);
}

/* A newer record (what a withdrawal is) takes the place of the old one for everybody at once. */
static void a_withdrawal_is_found(uint64_t seed)
{
    dht_world_config c;
    dht_figures f;
    dht_world_defaults(&c);
    c.seed = seed;
    c.nodes = scenario_count(300, 100);
    c.loss = 0.1;
    dht_world *w = dht_world_new(&c, 0);
    dht_world_start(w);
    dht_node *owner = &w->node[0];
    for (size_t i = 0; i < 20; i++) {
        dht_world_publish(owner);
        dht_world_for(w, MVPN_S(5));
        owner->published -= DHT_PUBLISHED_AGO; /* judged as settled at once */
        for (size_t j = 0; j < 10; j++) {
            dht_node *asker = dht_world_pick(w, false);
            REQUIRE(asker != NULL, break);
            CHECK(dht_world_lookup(w, asker, owner));
        }
        dht_world_for(w, MVPN_S(10));
    }
    dht_world_figures(w, &f);
    report(w, &f);
    CHECK(f.success >= 0.99);
    dht_world_free(w);
}

/* A fifth of the nodes answers after a second: that costs others one such wait and no record. */
static void slow_nodes_cost_one_wait(uint64_t seed)
{
    dht_world_config c;
    dht_figures f;
    dht_world_defaults(&c);
    c.seed = seed;
    c.nodes = scenario_count(500, 100);
    c.lagging = 0.2;
    c.lag = MVPN_MS(500);
    c.warm = MVPN_S(120);
    dht_world *w = dht_world_new(&c, 0);
    dht_world_start(w);
    for (size_t asked = 0; asked < scenario_count(1000, 150);) {
        dht_node *asker = dht_world_pick(w, false);
        const dht_node *owner = dht_world_pick(w, true);
        REQUIRE(asker != NULL && owner != NULL, break);
        if (asker->lag == 0 && asker != owner) {
            CHECK(dht_world_lookup(w, asker, owner));
            asked++;
        }
        dht_world_for(w, MVPN_MS(100));
    }
    dht_world_for(w, MVPN_S(20));
    dht_world_figures(w, &f);
    report(w, &f);
    CHECK(f.success >= 0.995);
    CHECK(f.latency_ms_p50 <= 1200);
    dht_world_free(w);
}

static uint64_t run_once(uint64_t seed)
{
    dht_world_config c;
    dht_world_defaults(&c);
    c.seed = seed;
    c.nodes = 60;
    c.loss = 0.1;
    c.session_min = 5;
    c.hostile = 0.1;
    dht_world *w = dht_world_new(&c, 0);
    dht_world_start(w);
    dht_world_lookups(w, 50, MVPN_S(60));
    const dht_stats *s = &w->stats;
    uint64_t sum = dht_random(w) ^ s->bytes ^ s->events << 20 ^ s->succeeded << 40;
    dht_world_free(w);
    return sum;
}

static void a_seed_repeats_itself(uint64_t seed)
{
    uint64_t first = run_once(seed);
    CHECK(first == run_once(seed));
    CHECK(first != run_once(seed + 1));
}

static const scenario scenarios[] = {
    {"sessions_of_60_min", sessions_of_60_min},
    {"sessions_of_20_min", sessions_of_20_min},
    {"sessions_of_5_min", sessions_of_5_min},
    {"hops_grow_slowly", hops_grow_slowly},
    {"a_partition_heals", a_partition_heals},
    {"a_withdrawal_is_found", a_withdrawal_is_found},
    {"slow_nodes_cost_one_wait", slow_nodes_cost_one_wait},
    {"a_seed_repeats_itself", a_seed_repeats_itself},
};

int main(int argc, char **argv)
{
    return scenario_main(argc, argv, scenarios, MVPN_ARRAY_LEN(scenarios));
}
