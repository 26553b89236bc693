/*
 * One world by hand: a client, relays and exits, paths as asked for, one transfer each way.
 *
 *   mvpn-sim [--seed S] [--hops N] [--relays N] [--exits N] [--delay MS] [--jitter MS] [--loss %]
 *            [--reorder %] [--duplicate %] [--corrupt %] [--mtu BYTES] [--megabytes N] [--window N]
 *            [--kill HOP]
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inet.h"

typedef struct option {
    const char *name;
    double value;
} option;

enum {
    SEED,
    HOPS,
    RELAYS,
    EXITS,
    DELAY,
    JITTER,
    LOSS,
    REORDER,
    DUPLICATE,
    CORRUPT,
    MTU,
    MEGABYTES,
    WINDOW,
    KILL,
    OPTIONS,
};

static option options[OPTIONS] = {
    [SEED] = {"--seed", 1},       [HOPS] = {"--hops", 3},       [RELAYS] = {"--relays", 6},
    [EXITS] = {"--exits", 2},     [DELAY] = {"--delay", 10},    [JITTER] = {"--jitter", 0},
    [LOSS] = {"--loss", 0},       [REORDER] = {"--reorder", 0}, [DUPLICATE] = {"--duplicate", 0},
    [CORRUPT] = {"--corrupt", 0}, [MTU] = {"--mtu", 0},         [MEGABYTES] = {"--megabytes", 10},
    [WINDOW] = {"--window", 128}, [KILL] = {"--kill", 0},
};

static bool parse(int argc, char **argv)
{
    for (int i = 1; i < argc; i += 2) {
        size_t o = 0;
        while (o < OPTIONS && strcmp(options[o].name, argv[i]) != 0) {
            o++;
        }
        char *end = NULL;
        if (o == OPTIONS || i + 1 == argc) {
            return false;
        }
        options[o].value = strtod(argv[i + 1], &end);
        if (end == argv[i + 1] || *end != '\0' || options[o].value < 0) {
            return false;
        }
    }
    return options[HOPS].value >= 1 && options[HOPS].value <= MVPN_HOPS_MAX &&
           options[RELAYS].value + options[EXITS].value < SIM_NODES && options[EXITS].value >= 1 &&
           options[KILL].value <= options[HOPS].value;
}

static mvpn_time ms(int o)
{
    return (mvpn_time)(options[o].value * 1000);
}

static uint32_t ppm(int o)
{
    return (uint32_t)(options[o].value * 10000);
}

static void print_path(const sim_node *client)
{
    mvpn_client_status s;
    sim_status(client, &s);
    printf("path:");
    for (unsigned hop = 1; hop <= s.path.count; hop++) {
        printf(" %s", sim_hop(client, hop)->name);
    }
    printf(", built in %.0f ms\n", (double)s.build_us / 1000);
}

static bool transfer(sim_node *client, enum inet_direction direction)
{
    inet_host *host = client->user;
    size_t bytes = (size_t)(options[MEGABYTES].value * 1e6);
    bool ok =
        inet_transfer_run(client, direction, bytes, (uint32_t)options[WINDOW].value, MVPN_S(3600));
    double seconds = (double)(host->transfer.ended - host->transfer.began) / 1e6;
    printf("%s: %s, %.1f s, %.1f Mbit/s, %.2f %% asked for again\n",
           direction == INET_UP ? "up" : "down", ok ? "intact" : "FAILED", seconds,
           options[MEGABYTES].value * 8 / seconds,
           100.0 * (double)host->transfer.repeated / (double)host->transfer.requests);
    return ok;
}

int main(int argc, char **argv)
{
    if (!parse(argc, argv)) {
        fprintf(stderr, "usage: mvpn-sim");
        for (size_t o = 0; o < OPTIONS; o++) {
            fprintf(stderr, " [%s %g]", options[o].name, options[o].value);
        }
        fprintf(stderr, "\n");
        return 2;
    }
    inet_host host;
    uint64_t seed = (uint64_t)options[SEED].value;
    sim *w = sim_standard(seed, (size_t)options[RELAYS].value, (size_t)options[EXITS].value,
                          (unsigned)options[HOPS].value);
    sim_node *client = sim_client(w);
    w->path = (sim_path){
        .delay = ms(DELAY),
        .jitter = ms(JITTER),
        .reorder_delay = ms(DELAY) + MVPN_MS(5),
        .loss = ppm(LOSS),
        .reorder = ppm(REORDER),
        .duplicate = ppm(DUPLICATE),
        .corrupt = ppm(CORRUPT),
        .mtu = (size_t)options[MTU].value,
    };
    inet_host_attach(&host, client);
    sim_start(client);
    bool ok = sim_connect(client, MVPN_S(60));
    printf("%s after %.2f s of virtual time\n", ok ? "connected" : "NOT connected",
           (double)(w->now - SIM_START) / 1e6);
    if (ok) {
        print_path(client);
        ok = transfer(client, INET_DOWN) && transfer(client, INET_UP);
    }
    if (ok && options[KILL].value > 0) {
        sim_for(w, MVPN_S(5));
        sim_node *dead = sim_hop(client, (unsigned)options[KILL].value);
        mvpn_time from = w->now;
        sim_stop(dead, false);
        bool is_back = false;
        while (!is_back && w->now - from < MVPN_S(120)) {
            is_back = inet_echo(client, 4, 100, MVPN_MS(250));
        }
        printf("%s killed: traffic %s after %.1f s\n", dead->name, is_back ? "again" : "NOT again",
               (double)(w->now - from) / 1e6);
        print_path(client);
        ok = is_back;
    }
    printf("%" PRIu64 " datagrams, %" PRIu64 " lost, trace %016" PRIx64 ", seed %" PRIu64 "\n",
           w->datagrams, w->lost, w->trace, seed);
    inet_host_done(&host);
    sim_free(w);
    return ok ? 0 : 1;
}
