/*
 * Relays that die, refuse, restart or are overloaded: the client goes on through others, and
 * nothing is left behind in those that live. (docs/protocol.md §6.4)
 */
#include "inet.h"
#include "scenario.h"

#include <string.h>

#include "core/relay_internal.h"

typedef struct world {
    sim *w;
    sim_node *client;
    inet_host host;
} world;

static bool world_new(world *ret, uint64_t seed, size_t relays, size_t exits, unsigned hops)
{
    ret->w = sim_standard(seed, relays, exits, hops);
    ret->client = sim_client(ret->w);
    inet_host_attach(&ret->host, ret->client);
    sim_start(ret->client);
    bool is_there = sim_connect(ret->client, MVPN_S(10));
    CHECK(is_there);
    sim_for(ret->w, MVPN_S(5));
    return is_there;
}

static void world_free(world *t)
{
    inet_host_done(&t->host);
    sim_free(t->w);
}

/* Echo by echo until one comes back: how long applications feel the failure. */
static mvpn_time outage(world *t, mvpn_time span)
{
    mvpn_time from = t->w->now;
    while (t->w->now - from < span) {
        if (inet_echo(t->client, 4, 100, MVPN_MS(250))) {
            return t->w->now - from;
        }
    }
    return MVPN_TIME_NEVER;
}

/* The power of one hop fails: the spare circuit takes over. */
static void killed(uint64_t seed, unsigned hop, const char *name, mvpn_time bound)
{
    mvpn_time longest = 0, shortest = MVPN_TIME_NEVER;
    size_t count = scenario_count(20, 4);
    for (size_t i = 0; i < count; i++) {
        world t;
        check_context("%s, world %zu", name, i);
        if (!world_new(&t, seed * 100 + i, 6, 3, 3)) {
            world_free(&t);
            continue;
        }
        mvpn_client_status before, after;
        sim_status(t.client, &before);
        CHECK(before.has_spare);
        CHECK(memcmp(before.spare_path.hop[0].b, before.path.hop[0].b, 32) != 0);
        sim_stop(sim_hop(t.client, hop), false);
        mvpn_time out = outage(&t, MVPN_S(60));
        CHECK(out < bound);
        sim_status(t.client, &after);
        CHECK(after.switches > before.switches);
        longest = out > longest ? out : longest;
        shortest = out < shortest ? out : shortest;
        sim_for(t.w, MVPN_S(20));
        CHECK(inet_echo(t.client, 4, 100, MVPN_S(2)));
        sim_status(t.client, &after);
        CHECK(after.has_spare); /* and the next one is there */
        world_free(&t);
    }
    say("%s killed: traffic again after %.1f to %.1f s", name, (double)shortest / 1e6,
        (double)longest / 1e6);
}

static void hop_killed(uint64_t seed)
{
    killed(seed, 1, "guard", MVPN_S(15));
    killed(seed, 2, "middle", MVPN_S(15));
    killed(seed, 3, "exit", MVPN_S(25)); /* the spare circuit ends there too: a new one is built */
}

/* An orderly stop is told, not found out. */
static void stopped(uint64_t seed)
{
    for (unsigned hop = 1; hop <= 3; hop++) {
        world t;
        check_context("hop %u", hop);
        if (world_new(&t, seed + hop, 6, 3, 3)) {
            sim_stop(sim_hop(t.client, hop), true);
            mvpn_time out = outage(&t, MVPN_S(30));
            say("hop %u stopped: traffic again after %.2f s", hop, (double)out / 1e6);
            /* Behind the exit there is no spare, and no hop to blame: one attempt fails first. */
            CHECK(out < (hop == 3 ? MVPN_S(8) : MVPN_S(3)));
        }
        world_free(&t);
    }
}

/* The spare circuit is used at once when the one in use ends. */
static void spare_switch(uint64_t seed)
{
    world t;
    if (world_new(&t, seed, 6, 3, 3)) {
        mvpn_client_status before, after;
        sim_status(t.client, &before);
        sim_stop(sim_hop(t.client, 1), true);
        mvpn_time from = t.w->now;
        sim_for(t.w, MVPN_MS(15)); /* the guard's word is there */
        CHECK(sim_connect(t.client, MVPN_S(5)));
        CHECK(inet_echo(t.client, 4, 100, MVPN_S(2)));
        sim_status(t.client, &after);
        CHECK(memcmp(&after.path, &before.spare_path, sizeof(after.path)) == 0);
        say("switched; first echo after %.0f ms", (double)(t.w->now - from) / 1000);
    }
    world_free(&t);
}

/* Two relays of the network refuse every circuit: others are found. */
static void refusing_relays(uint64_t seed)
{
    size_t count = scenario_count(20, 4);
    for (size_t i = 0; i < count; i++) {
        sim *w = sim_new(seed * 100 + i);
        inet_host host;
        check_context("world %zu", i);
        for (size_t j = 0; j < 9; j++) {
            sim_node *n = sim_add(w, j < 6 ? SIM_RELAY : SIM_EXIT);
            if (j == 0 || j == 1 || j == 6) { /* they hold another onion key than they say */
                n->config.onion_keys[0].id = 9;
            }
        }
        for (size_t j = 0; j < 9; j++) {
            sim_start(w->node[j]);
        }
        sim_node *client = sim_add(w, SIM_CLIENT);
        inet_host_attach(&host, client);
        sim_start(client);
        CHECK(sim_connect(client, MVPN_S(20)));
        CHECK(inet_echo(client, 4, 100, MVPN_S(2)));
        sim_free(w);
    }
}

/* Every relay of a small network failed once: they are tried again, not given up for a minute. */
static void small_network(uint64_t seed)
{
    sim *w = sim_standard(seed, 2, 1, 3);
    sim_node *client = sim_client(w);
    w->path.is_cut = true;
    sim_start(client);
    sim_for(w, MVPN_S(15));
    CHECK(client->build_failed > 0);
    w->path.is_cut = false;
    mvpn_time from = w->now;
    CHECK(sim_connect(client, MVPN_S(20)));
    say("connected %.1f s after the path came back", (double)(w->now - from) / 1e6);
    sim_free(w);
}

/* The guards of both circuits die, and the exit is blamed for the second one's silence: a session
 * through it ends the blame, and a spare circuit is built again. */
static void blame_ends(uint64_t seed)
{
    size_t count = scenario_count(10, 3);
    for (size_t i = 0; i < count; i++) {
        world t;
        mvpn_client_status s;
        check_context("world %zu", i);
        if (world_new(&t, seed * 100 + i, 8, 1, 3)) {
            sim_status(t.client, &s);
            CHECK(s.has_spare);
            sim_stop(sim_hop(t.client, 1), false);
            sim_stop(sim_find_identity(t.w, &s.spare_path.hop[0]), false);
            CHECK(outage(&t, MVPN_S(60)) < MVPN_S(30));
            sim_for(t.w, MVPN_S(25));
            sim_status(t.client, &s);
            CHECK(s.state == MVPN_CLIENT_CONNECTED && s.has_spare);
        }
        world_free(&t);
    }
}

/* A relay starts anew with the same keys, in the middle of everything: links and circuits come
 * back. */
static void restarts(uint64_t seed)
{
    world t;
    sim_node *nodes[3];
    t.w = sim_standard(seed, 2, 1, 3);
    t.client = sim_client(t.w);
    for (size_t i = 0; i < 3; i++) {
        nodes[i] = t.w->node[i];
    }
    sim_fix_path(t.client, nodes, 3); /* no way around */
    inet_host_attach(&t.host, t.client);
    sim_start(t.client);
    CHECK(sim_connect(t.client, MVPN_S(10)));
    for (unsigned hop = 1; hop <= 3; hop++) {
        check_context("hop %u", hop);
        sim_stop(nodes[hop - 1], false);
        sim_for(t.w, MVPN_MS(500));
        sim_start(nodes[hop - 1]);
        mvpn_time out = outage(&t, MVPN_S(60));
        say("hop %u started anew: traffic again after %.1f s", hop, (double)out / 1e6);
        CHECK(out < MVPN_S(30));
    }
    world_free(&t);
}

static size_t packets_in_use(const sim *w)
{
    size_t count = 0;
    for (size_t i = 0; i < w->node_count; i++) {
        count += sim_packets_in_use(w->node[i]);
    }
    return count;
}

/* The client goes: circuits and sessions end everywhere, all packet buffers come home. */
static void teardown(uint64_t seed)
{
    for (unsigned orderly = 0; orderly <= 1; orderly++) {
        world t;
        check_context(orderly ? "orderly" : "power failed");
        if (world_new(&t, seed, 6, 2, 3)) {
            CHECK(inet_transfer_run(t.client, INET_DOWN, 200000, 64, MVPN_S(30)));
            CHECK(inet_echo(t.client, 4, 1420, MVPN_S(2)));
            CHECK(sim_circuits_total(t.w) >= 6);
            sim_stop(t.client, orderly);
            sim_for(t.w, orderly ? MVPN_S(3) : MVPN_S(40));
            CHECK(sim_circuits_total(t.w) == 0);
            if (!orderly) { /* the session waits for its owner (§7.1) */
                sim_for(t.w, MVPN_SESSION_DETACHED_TIME);
            }
            for (size_t i = 6; i < 8; i++) {
                CHECK(mvpn_exit_session_count(mvpn_engine_exit(t.w->node[i]->engine)) == 0);
            }
            CHECK(packets_in_use(t.w) == 0);
        }
        world_free(&t);
    }
}

/* ---- reasons ---- */

#define DESTROYS_MAX 64
static struct {
    const sim_node *from;
    uint8_t reason;
} destroys[DESTROYS_MAX];
static size_t destroy_count;

/* Linked with --wrap: every message that any node seals passes here. */
int __real_mvpn_link_send(mvpn_link *link, mvpn_packet *packet, const mvpn_header *header,
                          bool acked, mvpn_time now);
int __wrap_mvpn_link_send(mvpn_link *link, mvpn_packet *packet, const mvpn_header *header,
                          bool acked, mvpn_time now);
int __wrap_mvpn_link_send(mvpn_link *link, mvpn_packet *packet, const mvpn_header *header,
                          bool acked, mvpn_time now)
{
    if (header->command == MVPN_CMD_DESTROY && destroy_count < DESTROYS_MAX) {
        destroys[destroy_count].from = sim_current;
        destroys[destroy_count++].reason = packet->data[0];
    }
    return __real_mvpn_link_send(link, packet, header, acked, now);
}

/* The exit ends a circuit for a reason: its neighbour hears it, the guard and the client do not. */
static void reasons_do_not_cross(uint64_t seed)
{
    static const enum mvpn_reason reasons[] = {MVPN_REASON_PROTOCOL, MVPN_REASON_BUSY,
                                               MVPN_REASON_TIMEOUT, MVPN_REASON_KEY_UNKNOWN};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(reasons); i++) {
        world t;
        check_context("reason %d", (int)reasons[i]);
        if (world_new(&t, seed + i, 6, 2, 3)) {
            sim_node *guard = sim_hop(t.client, 1), *middle = sim_hop(t.client, 2);
            sim_node *exit = sim_hop(t.client, 3);
            mvpn_relay *relay = (mvpn_relay *)(uintptr_t)mvpn_engine_relay(exit->engine);
            relay_circuit *c = NULL;
            MVPN_LIST_FOREACH(it, &relay->circuits)
            {
                relay_circuit *at = MVPN_CONTAINER_OF(it, relay_circuit, all);
                c = relay_session_is_open(at) ? at : c;
            }
            REQUIRE(c != NULL, world_free(&t); return );
            destroy_count = 0;
            sim_current = exit;
            relay_circuit_destroy(relay, c, reasons[i], t.w->now);
            sim_current = NULL;
            sim_touch(exit);
            sim_for(t.w, MVPN_S(1));
            size_t from_exit = 0, from_middle = 0, from_guard = 0;
            for (size_t j = 0; j < destroy_count; j++) {
                from_exit += destroys[j].from == exit && destroys[j].reason == reasons[i];
                from_middle += destroys[j].from == middle;
                from_guard += destroys[j].from == guard;
                CHECK(destroys[j].from == exit || destroys[j].from == t.client ||
                      destroys[j].reason == MVPN_REASON_NONE);
            }
            CHECK(from_exit == 1 && from_middle >= 1 && from_guard >= 1);
        }
        world_free(&t);
    }
}

/* From the client's side too: the exit hears no reason of the client's. */
static void client_reason_does_not_cross(uint64_t seed)
{
    world t;
    if (world_new(&t, seed, 6, 2, 3)) {
        destroy_count = 0;
        sim_stop(t.client, true);
        sim_for(t.w, MVPN_S(1));
        CHECK(destroy_count >= 3);
        for (size_t i = 0; i < destroy_count; i++) {
            CHECK(destroys[i].from == t.client || destroys[i].reason == MVPN_REASON_NONE);
        }
    }
    world_free(&t);
}

/* Which nodes a client sends to, while all that it sends and gets is lost. */
static struct {
    sim_node *client;
    bool is_tried[SIM_NODES];
    size_t count;
} cut_off;

static bool cut_off_tap(sim *w, sim_node *from, sim_node *to, sim_datagram *d)
{
    (void)w, (void)d;
    if (from == cut_off.client && to != NULL && !cut_off.is_tried[to->index]) {
        cut_off.is_tried[to->index] = true;
        cut_off.count++;
    }
    return from != cut_off.client && to != cut_off.client;
}

/* Who can drop a client's packets must not make it try guard after guard until a hostile one
 * answers: six new ones in an hour, those of its beginning included. */
static void guards_are_kept(uint64_t seed)
{
    size_t count = scenario_count(2, 1), most = 0;
    for (size_t i = 0; i < count; i++) {
        world t;
        check_context("world %zu", i);
        if (world_new(&t, seed * 100 + i, 27, 3, 3)) {
            memset(&cut_off, 0, sizeof(cut_off));
            cut_off.client = t.client;
            t.w->tap = cut_off_tap;
            for (unsigned hour = 1; hour <= 2; hour++) {
                sim_run(t.w, SIM_START + MVPN_S(3600) * hour - MVPN_S(1));
                CHECK(cut_off.count >= 3 && cut_off.count <= 6 * hour);
            }
            most = cut_off.count > most ? cut_off.count : most;
            t.w->tap = NULL; /* and the guards that it has are enough */
            CHECK(outage(&t, MVPN_S(60)) < MVPN_S(30));
        }
        world_free(&t);
    }
    say("two hours cut off: at most %zu of 30 relays tried as guards", most);
}

/* Relays whose descriptors have run out are in no path. */
static void expired_relays(uint64_t seed)
{
    sim *w = sim_standard(seed, 4, 2, 3);
    sim_node *client = sim_client(w);
    client->config.unix_offset_us += INT64_C(5) * 365 * 86400 * 1000000;
    sim_start(client);
    CHECK(!sim_connect(client, MVPN_S(20)));
    CHECK(client->blocked > 0);
    sim_free(w);
}

int main(int argc, char **argv)
{
    static const scenario scenarios[] = {
        {"hop_killed", hop_killed},
        {"stopped", stopped},
        {"spare_switch", spare_switch},
        {"refusing_relays", refusing_relays},
        {"small_network", small_network},
        {"blame_ends", blame_ends},
        {"restarts", restarts},
        {"teardown", teardown},
        {"reasons_do_not_cross", reasons_do_not_cross},
        {"client_reason_does_not_cross", client_reason_does_not_cross},
        {"guards_are_kept", guards_are_kept},
        {"expired_relays", expired_relays},
    };
    return scenario_main(argc, argv, scenarios, MVPN_ARRAY_LEN(scenarios));
}
