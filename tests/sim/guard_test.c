/*
 * Guards in whole networks: a first run that liars answer first, guards that come back, a state
 * that is carried over a restart. (design.md §6; src/core/guard_test.c has the rules one by one)
 */
#include "scenario.h"
#include "sim.h"

#include <string.h>

#include "core/guard.h"

#define HOSTILE 8

static const mvpn_guards *guards_of(const sim_node *client)
{
    return mvpn_client_guards(mvpn_engine_client(client->engine));
}

/* A directory in a block of its own shows a relay. */
static void show(sim_node *client, const sim_node *relay, uint8_t directory)
{
    const mvpn_descriptor *d = &relay->descriptor;
    const mvpn_addr at = {.family = 4, .port = 443, .ip = {11, directory, 0, 1}};
    mvpn_view *view = mvpn_engine_view(client->engine);
    uint64_t unix_now = SIM_UNIX + (client->world->now - SIM_START) / MVPN_S(1);
    /* What is known already only counts the source. */
    int r = mvpn_view_put(view, MVPN_RECORD_DESCRIPTOR, mvpn_bytes_of(d->encoded, d->encoded_len),
                          mvpn_view_source_of(view, NULL, &at), unix_now);
    CHECK(r == 0 || r == MVPN_E_EXPIRED);
}

static size_t count_in(const mvpn_path *path, const mvpn_ed25519_pub *id)
{
    size_t count = 0;
    for (unsigned i = 0; i < path->count; i++) {
        count += memcmp(path->hop[i].b, id->b, sizeof(id->b)) == 0 ? 1 : 0;
    }
    return count;
}

/* Hostile relays that the client holds on to: its guards, and hops of its circuits. */
static size_t hostile_hops(const sim_node *client)
{
    mvpn_client_status s;
    size_t count = 0;
    sim_status(client, &s);
    for (size_t i = 0; i < HOSTILE; i++) {
        const mvpn_ed25519_pub *id = &client->world->node[1 + i]->config.identity;
        count += mvpn_guards_find(guards_of(client), id) != NULL ? 1 : 0;
        count += count_in(&s.path, id) + (s.has_spare ? count_in(&s.spare_path, id) : 0);
    }
    return count;
}

/* A local network and DNS that show hostile relays at once; honest sources 10 s later. */
static void hostile_first_run(uint64_t seed)
{
    size_t worlds = scenario_count(10, 3);
    for (size_t i = 0; i < worlds; i++) {
        sim *w = sim_new(seed * 100 + i);
        sim_node *client = sim_add(w, SIM_CLIENT);
        client->client.hops = 3;
        check_context("world %zu", i);
        sim_start(client); /* it knows nobody */
        for (size_t n = 0; n < HOSTILE + 24; n++) {
            (void)sim_add(w, n % 4 == 3 ? SIM_EXIT : SIM_RELAY);
        }
        for (size_t n = 1; n < w->node_count; n++) {
            sim_start(w->node[n]);
        }
        sim_for(w, MVPN_S(1));
        /* In every other world they mix honest ones in: a guard may be honest, an exit not. */
        for (size_t n = 1; n <= (i % 2 == 0 ? HOSTILE : HOSTILE * 2); n++) {
            show(client, w->node[n], 201);
        }
        CHECK(sim_connect(client, MVPN_S(10)));
        sim_for(w, MVPN_S(10));
        CHECK(hostile_hops(client) > 0 && guards_of(client)->guard[0].is_provisional);
        for (size_t n = HOSTILE + 1; n < w->node_count; n++) {
            show(client, w->node[n], 202);
            show(client, w->node[n], 203);
        }
        sim_for(w, MVPN_S(10));
        mvpn_client_status s;
        sim_status(client, &s);
        CHECK(s.state == MVPN_CLIENT_CONNECTED);
        CHECK(hostile_hops(client) == 0);
        CHECK(client->disconnected <= 1);
        sim_for(w, MVPN_S(60));
        CHECK(hostile_hops(client) == 0);
        sim_free(w);
    }
}

static bool is_behind_primary(const sim_node *client)
{
    mvpn_client_status s;
    sim_status(client, &s);
    const mvpn_guard *g =
        s.path.count == 0 ? NULL : mvpn_guards_find(guards_of(client), &s.path.hop[0]);
    return s.state == MVPN_CLIENT_CONNECTED && g != NULL && g->is_primary;
}

/* The primary guards go and come back: others stand in, and the client returns by itself. */
static void guards_come_back(uint64_t seed)
{
    size_t worlds = scenario_count(4, 1);
    for (size_t i = 0; i < worlds; i++) {
        sim *w = sim_standard(seed * 100 + i, 20, 3, 3);
        sim_node *client = sim_client(w), *primary[MVPN_GUARDS_PRIMARY];
        check_context("world %zu", i);
        sim_start(client);
        CHECK(sim_connect(client, MVPN_S(10)));
        sim_for(w, MVPN_S(5));
        for (size_t g = 0; g < MVPN_GUARDS_PRIMARY; g++) {
            primary[g] = sim_find_identity(w, &guards_of(client)->guard[g].identity);
            sim_stop(primary[g], false);
        }
        /* The next to answer is primary now; without it too, one is left that is not. */
        sim_for(w, MVPN_S(60));
        sim_node *fourth = sim_hop(client, 1);
        CHECK(fourth != NULL && is_behind_primary(client));
        sim_stop(fourth, false);
        sim_for(w, MVPN_S(60));
        mvpn_client_status s;
        sim_status(client, &s);
        CHECK(s.state == MVPN_CLIENT_CONNECTED && !is_behind_primary(client));
        for (size_t g = 0; g < MVPN_GUARDS_PRIMARY; g++) {
            sim_start(primary[g]);
        }
        sim_for(w, MVPN_S(14 * 60)); /* asked again every 10 minutes, and nobody uses the session */
        CHECK(is_behind_primary(client));
        CHECK(guards_of(client)->count <= MVPN_GUARDS_PER_HOUR);
        sim_free(w);
    }
}

/* What was saved is what the next run begins with. */
static void guards_are_remembered(uint64_t seed)
{
    sim *w = sim_standard(seed, 30, 3, 3);
    sim_node *client = sim_client(w);
    uint8_t saved[MVPN_GUARDS_SAVED_MAX];
    sim_start(client);
    CHECK(sim_connect(client, MVPN_S(10)));
    sim_for(w, MVPN_S(5));
    for (unsigned run = 0; run < 5; run++) {
        mvpn_guards before = *guards_of(client);
        size_t n =
            mvpn_client_guards_save(mvpn_engine_client(client->engine), saved, sizeof(saved));
        CHECK(n > 0);
        sim_stop(client, true);
        client->client.guards = mvpn_bytes_of(saved, n);
        sim_start(client);
        CHECK(sim_connect(client, MVPN_S(10)));
        sim_for(w, MVPN_S(5));
        CHECK(guards_of(client)->count == before.count);
        for (size_t g = 0; g < before.count; g++) {
            CHECK(mvpn_guards_find(guards_of(client), &before.guard[g].identity) != NULL);
        }
        CHECK(is_behind_primary(client));
    }
    sim_free(w);
}

int main(int argc, char **argv)
{
    static const scenario scenarios[] = {
        {"hostile_first_run", hostile_first_run},
        {"guards_come_back", guards_come_back},
        {"guards_are_remembered", guards_are_remembered},
    };
    return scenario_main(argc, argv, scenarios, MVPN_ARRAY_LEN(scenarios));
}
