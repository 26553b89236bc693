/*
 * A relay pings its neighbours: round trips as they are, links opened for it and let go in time,
 * and nothing held of a link that has ended. (src/core/pinger.h)
 */
#include "scenario.h"
#include "sim.h"

#include <string.h>

#include "base/error.h"
#include "core/pinger.h"

typedef struct world {
    sim *w;
    sim_node *relay, *peer;
    mvpn_pinger *pinger;
} world;

static void on_turn(sim_node *n)
{
    mvpn_pinger_turn(n->user, n->world->now);
}

static void world_begin(world *t, uint64_t seed, size_t relays)
{
    t->w = sim_standard(seed, relays, 1, 3);
    t->relay = t->w->node[0];
    t->peer = t->w->node[1];
    CHECK(mvpn_pinger_new(mvpn_engine_links(t->relay->engine), &t->pinger) == 0);
    t->relay->user = t->pinger;
    t->relay->on_turn = on_turn;
    sim_for(t->w, MVPN_MS(100));
}

static void world_end(world *t)
{
    t->relay->on_turn = NULL;
    mvpn_pinger_free(t->pinger);
    sim_free(t->w);
}

static mvpn_link *link_with(const world *t, const sim_node *peer)
{
    return mvpn_links_find(mvpn_engine_links(t->relay->engine), &peer->config.identity);
}

static int ping(world *t, const sim_node *peer, uint32_t *ret_seq)
{
    const mvpn_link_target to = {.identity = peer->config.identity,
                                 .link_key = peer->config.link_key.pub,
                                 .addr = peer->addr[0]};
    int r = mvpn_pinger_ping(t->pinger, &to, t->w->now, ret_seq);
    sim_touch(t->relay);
    return r;
}

static mvpn_pinger_result result_of(const world *t, const sim_node *peer)
{
    mvpn_pinger_result r = {.seq = 0};
    CHECK(mvpn_pinger_get(t->pinger, &peer->config.identity, &r));
    return r;
}

/* The path takes 10 ms each way. */
static void round_trips(uint64_t seed)
{
    world t;
    uint32_t seq = 0;
    world_begin(&t, seed, 2);
    CHECK(link_with(&t, t.peer) == NULL);
    CHECK(ping(&t, t.peer, &seq) == 0 && seq == 1);
    CHECK(!result_of(&t, t.peer).is_done);
    sim_for(t.w, MVPN_MS(200)); /* the handshake, too */
    mvpn_pinger_result r = result_of(&t, t.peer);
    CHECK(r.is_done && r.seq == 1 && r.rtt >= MVPN_MS(20) && r.rtt < MVPN_MS(25));
    sim_path_between(t.w, t.relay, t.peer)->delay = MVPN_MS(100);
    CHECK(ping(&t, t.peer, &seq) == 0 && seq == 2);
    CHECK(!result_of(&t, t.peer).is_done && result_of(&t, t.peer).rtt == 0);
    sim_for(t.w, MVPN_MS(105));
    CHECK(!result_of(&t, t.peer).is_done);
    sim_for(t.w, MVPN_MS(10));
    r = result_of(&t, t.peer);
    CHECK(r.is_done && r.seq == 2 && r.rtt >= MVPN_MS(110) && r.rtt < MVPN_MS(115));
    world_end(&t);
}

static void held_and_let_go(uint64_t seed)
{
    world t;
    uint32_t seq;
    world_begin(&t, seed, 2);
    for (unsigned i = 0; i < 3; i++) {
        CHECK(ping(&t, t.peer, &seq) == 0);
        sim_for(t.w, MVPN_S(9));
        CHECK(mvpn_link_is_held(link_with(&t, t.peer)));
    }
    CHECK(mvpn_pinger_deadline(t.pinger) == t.w->now + MVPN_S(1));
    sim_for(t.w, MVPN_S(2));
    sim_touch(t.relay);
    sim_for(t.w, MVPN_S(1));
    mvpn_pinger_result r;
    CHECK(!mvpn_pinger_get(t.pinger, &t.peer->config.identity, &r));
    CHECK(mvpn_pinger_deadline(t.pinger) == MVPN_TIME_NEVER);
    CHECK(!mvpn_link_is_held(link_with(&t, t.peer)));
    world_end(&t);
}

/* Closed by us, by the peer, by silence; each time another link takes its place. */
static void links_that_end(uint64_t seed)
{
    world t;
    uint32_t seq;
    world_begin(&t, seed, 2);
    for (unsigned i = 0; i < 3; i++) {
        check_context("round %u", i);
        CHECK(ping(&t, t.peer, &seq) == 0);
        sim_for(t.w, MVPN_S(1));
        CHECK(result_of(&t, t.peer).rtt != 0);
        if (i == 2) {
            sim_cut(t.w, t.relay, t.peer, true);
        }
        CHECK(ping(&t, t.peer, &seq) == 0);
        if (i == 0) {
            mvpn_link_close(link_with(&t, t.peer), MVPN_REASON_FINISHED, t.w->now);
        } else if (i == 1) {
            sim_stop(t.peer, true);
        } else {
            sim_for(t.w, MVPN_S(5));
            CHECK(result_of(&t, t.peer).rtt == 0); /* the link may have been suspected, and ended */
            CHECK(ping(&t, t.peer, &seq) == 0);    /* so that it stays held until it fails */
            for (unsigned k = 0; k < 30 && link_with(&t, t.peer) != NULL; k++) {
                CHECK(ping(&t, t.peer, &seq) == 0);
                sim_for(t.w, MVPN_S(5));
            }
            CHECK(mvpn_links_get_counters(mvpn_engine_links(t.relay->engine))->handshakes >= 3);
            sim_cut(t.w, t.relay, t.peer, false);
        }
        sim_for(t.w, MVPN_S(1));
        mvpn_pinger_result r = result_of(&t, t.peer);
        CHECK(i == 2 || (r.is_done && r.rtt == 0 && r.link == NULL));
        if (i == 1) {
            sim_start(t.peer);
        }
    }
    world_end(&t);
}

static void many(uint64_t seed)
{
    world t;
    uint32_t seq;
    world_begin(&t, seed, MVPN_PINGER_TARGETS + 2);
    for (size_t i = 1; i <= MVPN_PINGER_TARGETS; i++) {
        CHECK(ping(&t, t.w->node[i], &seq) == 0);
    }
    const sim_node *more = t.w->node[MVPN_PINGER_TARGETS + 1];
    CHECK(ping(&t, more, &seq) == MVPN_E_LIMIT);
    CHECK(link_with(&t, more) == NULL); /* nothing was opened for it */
    CHECK(ping(&t, t.peer, &seq) == 0 && seq == 2);
    sim_for(t.w, MVPN_S(1));
    for (size_t i = 1; i <= MVPN_PINGER_TARGETS; i++) {
        CHECK(result_of(&t, t.w->node[i]).rtt != 0);
    }
    sim_for(t.w, MVPN_S(11));
    sim_touch(t.relay);
    sim_for(t.w, MVPN_S(1));
    CHECK(ping(&t, more, &seq) == 0 && seq == 1);
    world_end(&t);
}

int main(int argc, char **argv)
{
    static const scenario scenarios[] = {
        {"round_trips", round_trips},
        {"held_and_let_go", held_and_let_go},
        {"links_that_end", links_that_end},
        {"many", many},
    };
    return scenario_main(argc, argv, scenarios, MVPN_ARRAY_LEN(scenarios));
}
