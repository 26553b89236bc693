/*
 * A DHT of any size, its churn, its losses, its foes; lookups and what they cost.
 *
 *   mvpn-dht-sim [--nodes N] [--session-min M] [--loss P] [--hostile P] [--lookups L] [--seed S]
 *                [--rtt-ms N] [--v6 P] [--warm-s N] [--window-s N] [--json]
 *
 * P in percent (a number between 0 and 1 is a share). A session of 0: nobody leaves. The lookups
 * are spread over the window; 0: so that each node looks up a record every 10 min, 5 min at least.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "dht_world.h"
#include "wire/message.h"

typedef struct option {
    const char *name;
    double value;
    double max;
} option;

enum {
    NODES,
    SESSION,
    LOSS,
    HOSTILE,
    LOOKUPS,
    SEED,
    RTT,
    V6,
    WARM,
    WINDOW,
    OPTIONS,
};

static option options[OPTIONS] = {
    [NODES] = {"--nodes", 1000, 1e6},     [SESSION] = {"--session-min", 60, 1e6},
    [LOSS] = {"--loss", 0, 100},          [HOSTILE] = {"--hostile", 0, 95},
    [LOOKUPS] = {"--lookups", 3000, 1e8}, [SEED] = {"--seed", 1, 9e15},
    [RTT] = {"--rtt-ms", 50, 1e5},        [V6] = {"--v6", 10, 100},
    [WARM] = {"--warm-s", 300, 1e6},      [WINDOW] = {"--window-s", 0, 1e6},
};
static bool is_json;

static bool parse(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        size_t o = 0;
        if (strcmp(argv[i], "--json") == 0) {
            is_json = true;
            continue;
        }
        while (o < OPTIONS && strcmp(options[o].name, argv[i]) != 0) {
            o++;
        }
        char *end = NULL;
        if (o == OPTIONS || ++i == argc) {
            return false;
        }
        options[o].value = strtod(argv[i], &end);
        if (end == argv[i] || (*end != '\0' && strcmp(end, "%") != 0) ||
            !(options[o].value >= 0 && options[o].value <= options[o].max)) {
            return false;
        }
    }
    return options[NODES].value >= 2;
}

static double share(int o)
{
    double v = options[o].value;
    return v < 1 ? v : v / 100;
}

static mvpn_time seconds(int o)
{
    return (mvpn_time)(options[o].value * 1e6);
}

#define LOOKUP_EVERY 600.0
#define WINDOW_LEAST 300.0

static mvpn_time window(void)
{
    double s = options[WINDOW].value;
    if (s <= 0) {
        s = options[LOOKUPS].value / options[NODES].value * LOOKUP_EVERY;
        s = s > WINDOW_LEAST ? s : WINDOW_LEAST;
    }
    return (mvpn_time)(s * 1e6);
}

static double real_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void print_people(const dht_world *w, const dht_figures *f)
{
    static const char *const names[32] = {
        [MVPN_CMD_DHT_PING] = "Ping",     [MVPN_CMD_DHT_FIND_NODE] = "FindNode",
        [MVPN_CMD_DHT_STORE] = "Store",   [MVPN_CMD_DHT_FIND_VALUE] = "FindValue",
        [MVPN_CMD_DHT_LIST] = "List",     [MVPN_CMD_DHT_FETCH] = "Fetch",
        [MVPN_CMD_DHT_PONG] = "Pong",     [MVPN_CMD_DHT_NODES] = "Nodes",
        [MVPN_CMD_DHT_STORED] = "Stored", [MVPN_CMD_DHT_VALUE] = "Value",
        [MVPN_CMD_DHT_LISTED] = "Listed", [MVPN_CMD_DHT_FETCHED] = "Fetched",
        [MVPN_CMD_DHT_ERROR] = "Error",
    };
    const dht_stats *s = &w->stats;
    printf("lookups: %" PRIu64 ", %.3f %% brought the newest record; %" PRIu64 " an older one, "
           "%" PRIu64 " none, %" PRIu64 " askers left\n",
           s->lookups, 100 * f->success, s->stale, s->missing, s->gone);
    printf("hops: median %u, mean %.2f; latency: median %.0f ms, 95 %% below %.0f ms\n",
           f->hops_median, f->hops_mean, f->latency_ms_p50, f->latency_ms_p95);
    printf("a node sends %.0f bytes a second, holds %.0f contacts and %.0f bytes\n",
           f->bytes_per_node_s, f->contacts_per_node, f->memory_per_node);
    printf("%.0f bytes a second without lookups, %.0f bytes a lookup\n", f->upkeep_per_node_s,
           f->bytes_per_lookup);
    printf("of the bytes:");
    for (size_t i = 0; i < 32; i++) {
        if (names[i] != NULL && s->bytes_of[i] > 0) {
            printf(" %s %.1f %%", names[i], 100.0 * (double)s->bytes_of[i] / (double)s->bytes);
        }
    }
    printf("\n%" PRIu64 " joined, %" PRIu64 " left\n", s->joins, s->leaves);
}

static void print_json(const dht_world *w, const dht_figures *f, double real)
{
    printf("{\"success\": %.6f, \"hops_median\": %u, \"latency_ms_p50\": %.1f, "
           "\"latency_ms_p95\": %.1f, \"bytes_per_node_s\": %.1f, \"memory_per_node\": %.0f, "
           "\"hops_mean\": %.4f, \"contacts_per_node\": %.1f, \"upkeep_per_node_s\": %.1f, "
           "\"bytes_per_lookup\": %.0f, ",
           f->success, f->hops_median, f->latency_ms_p50, f->latency_ms_p95, f->bytes_per_node_s,
           f->memory_per_node, f->hops_mean, f->contacts_per_node, f->upkeep_per_node_s,
           f->bytes_per_lookup);
    printf("\"nodes\": %.0f, \"session_min\": %g, \"loss\": %g, \"hostile\": %g, "
           "\"lookups\": %" PRIu64 ", \"stale\": %" PRIu64 ", \"missing\": %" PRIu64 ", "
           "\"seed\": %" PRIu64 ", \"virtual_s\": %.1f, \"real_s\": %.1f}\n",
           options[NODES].value, options[SESSION].value, share(LOSS), share(HOSTILE),
           w->stats.lookups, w->stats.stale, w->stats.missing, w->config.seed,
           (double)w->now / 1e6 - 1000, real);
}

int main(int argc, char **argv)
{
    if (!parse(argc, argv)) {
        fprintf(stderr, "usage: mvpn-dht-sim [--json]");
        for (size_t o = 0; o < OPTIONS; o++) {
            fprintf(stderr, " [%s %g]", options[o].name, options[o].value);
        }
        fprintf(stderr, "\n");
        return 2;
    }
    double began = real_s();
    dht_world_config c;
    dht_world_defaults(&c);
    c.seed = (uint64_t)options[SEED].value;
    c.nodes = (size_t)options[NODES].value;
    c.session_min = options[SESSION].value;
    c.loss = share(LOSS);
    c.hostile = share(HOSTILE);
    c.v6 = share(V6);
    c.rtt = (mvpn_time)(options[RTT].value * 1000);
    c.warm = seconds(WARM);
    dht_world *w = dht_world_new(&c, 0);
    dht_world_start(w);
    dht_world_lookups(w, (size_t)options[LOOKUPS].value, window());
    dht_figures f;
    dht_world_figures(w, &f);
    if (is_json) {
        print_json(w, &f, real_s() - began);
    } else {
        print_people(w, &f);
        printf("%.1f s of virtual time, %" PRIu64 " events, %.1f s; seed %" PRIu64 "\n",
               (double)w->now / 1e6 - 1000, w->stats.events, real_s() - began, c.seed);
    }
    dht_world_free(w);
    return 0;
}
