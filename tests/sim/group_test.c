/*
 * Isolation groups of the proxy, seen from the exits: each user sends numbered packets to a port of
 * his own, and a server on the internet notes from which address of which exit they come. That is
 * a session's, so whoever shares one with another is found. (docs/proxy.md "Users";
 * src/network/proxy/groups.h; src/core/client_beside.c)
 *
 *   user 0 (names none) - group 0 --\
 *   user 1              - group 1 ---+- same guards -- middles -- an exit for each -- server
 *   ...                              |
 */
#include "scenario.h"
#include "sim.h"

#include <string.h>

#include "base/error.h"
#include "core/guard.h"
#include "network/ip/inner.h"
#include "network/ip/testing.h"
#include "network/proxy/groups.h"

#define HOP_DELAY MVPN_MS(8)
#define PACE MVPN_MS(50)
#define BYTES 100
#define SERVER_PORT 9100 /* of user 0 */
#define USERS (MVPN_PROXY_GROUPS_MAX + 3)
#define ORIGINS 8
#define GROUPS (1 + MVPN_ENGINE_GROUPS_MAX)
/* One exit for each group, and relays enough for nobody to run short. */
#define EXITS (GROUPS + 2)
#define RELAYS 12

_Static_assert(MVPN_PROXY_GROUPS_MAX == MVPN_ENGINE_GROUPS_MAX, "a place for each group");

static const uint8_t server_ip[4] = {93, 184, 7, 34};

typedef struct origin {
    sim_node *exit;
    uint8_t pool[4];
} origin;

typedef struct user {
    bool is_on;
    unsigned group;
    uint16_t port;
    uint32_t sent, came, answered;
    mvpn_time last, gap; /* between answers */
    origin from[ORIGINS];
    size_t origin_count;
} user;

typedef struct world {
    sim *w;
    sim_node *client;
    mvpn_proxy_groups groups;
    user user[USERS];
    uint64_t bad; /* packets that are none, or another's */
} world;

static world one;

/* ---- the server ---- */

static void note_origin(user *u, sim_node *exit, const uint8_t *pool)
{
    for (size_t i = 0; i < u->origin_count; i++) {
        if (u->from[i].exit == exit && memcmp(u->from[i].pool, pool, 4) == 0) {
            return;
        }
    }
    MVPN_ASSERT(u->origin_count < ORIGINS);
    u->from[u->origin_count].exit = exit;
    memcpy(u->from[u->origin_count++].pool, pool, 4);
}

static bool internet(sim *w, sim_node *exit, const uint8_t *p, size_t len)
{
    world *t = w->user;
    uint8_t out[1500];
    unsigned number = len == BYTES ? mvpn_load16(p + 22) - SERVER_PORT : USERS;
    if (number >= USERS || !slow_ok(p, len)) {
        t->bad++;
        return true;
    }
    user *u = &t->user[number];
    u->came++;
    note_origin(u, exit, p + 12);
    size_t n =
        build_udp(out, 4, p + 16, mvpn_load16(p + 22), p + 12, mvpn_load16(p + 20), BYTES - 28);
    sim_tun_in(exit, out, n, MVPN_MS(2));
    return true;
}

/* ---- the users ---- */

/* What comes out of a lane is of the user who has it. */
static void host(sim_node *client, const uint8_t *p, size_t len)
{
    world *t = client->world->user;
    unsigned number = len == BYTES ? mvpn_load16(p + 20) - SERVER_PORT : USERS;
    mvpn_addr lane = {.family = 0};
    if (number < USERS) {
        lane = mvpn_inner_lane_addr(4, t->user[number].group);
    }
    if (number >= USERS || !slow_ok(p, len) || !t->user[number].is_on ||
        memcmp(p + 16, lane.ip, 4) != 0 ||
        (uint16_t)(t->user[number].port - mvpn_load16(p + 22)) > 1) {
        t->bad++;
        return;
    }
    user *u = &t->user[number];
    mvpn_time now = client->world->now;
    u->gap = u->answered > 0 ? MVPN_MAX(u->gap, now - u->last) : 0;
    u->last = now;
    u->answered++;
}

static void step(sim *w, void *arg)
{
    world *t = w->user;
    user *u = arg;
    uint8_t out[1500];
    if (!u->is_on) {
        return;
    }
    const mvpn_addr lane = mvpn_inner_lane_addr(4, u->group);
    size_t n = build_udp(out, 4, lane.ip, u->port, server_ip,
                         (uint16_t)(SERVER_PORT + (u - t->user)), BYTES - 28);
    u->sent++;
    sim_lane_in(t->client, u->group, out, n, 0);
    sim_call(w, PACE, step, u);
}

/* As io/proxy: a user's first connection. */
static int join(world *t, unsigned number)
{
    user *u = &t->user[number];
    bool begins, ends;
    mvpn_proxy_user who = {.is_set = number > 0, .name_len = 1, .name = {(uint8_t)('a' + number)}};
    int r = mvpn_proxy_groups_enter(&t->groups, &who, t->w->now, &u->group, &begins, &ends);
    if (r != 0) {
        return r;
    }
    if (ends) {
        mvpn_engine_close_group(t->client->engine, u->group, t->w->now);
    }
    if (begins) {
        r = mvpn_engine_open_group(t->client->engine, u->group, t->w->now);
        CHECK(r == 0);
    }
    sim_touch(t->client);
    u->is_on = true;
    u->port++;
    step(t->w, u);
    return r;
}

static void leave(world *t, unsigned number)
{
    t->user[number].is_on = false;
    sim_for(t->w, MVPN_S(1)); /* what is under way arrives, for nobody */
    t->bad = 0;
    mvpn_proxy_groups_leave(&t->groups, t->user[number].group, t->w->now);
}

/* ---- what holds at any time ---- */

static const mvpn_client *client_of(const world *t, unsigned group)
{
    return group == 0 ? mvpn_engine_client(t->client->engine)
                      : mvpn_engine_group(t->client->engine, group);
}

/* No two users ever came from one address of one exit. */
static void check_apart(const world *t)
{
    for (size_t a = 0; a < USERS; a++) {
        for (size_t b = a + 1; b < USERS; b++) {
            for (size_t i = 0; i < t->user[a].origin_count * t->user[b].origin_count; i++) {
                const origin *x = &t->user[a].from[i % t->user[a].origin_count];
                const origin *y = &t->user[b].from[i / t->user[a].origin_count];
                CHECK(x->exit != y->exit || memcmp(x->pool, y->pool, 4) != 0);
            }
        }
    }
    CHECK(t->bad == 0);
}

/* All circuits of all groups begin at the first client's few guards, by one link each: in place of
 * one that died there may be another. Returns how many circuits there are. */
static size_t check_guards(const world *t, size_t dead)
{
    mvpn_client_circuit circuits[MVPN_CLIENT_CIRCUITS_MAX];
    const mvpn_guards *guards = mvpn_client_guards(client_of(t, 0));
    bool is_used[MVPN_GUARDS_MAX] = {false};
    size_t total = 0, used = 0;
    for (unsigned g = 0; g < GROUPS; g++) {
        const mvpn_client *client = client_of(t, g);
        size_t count = client == NULL ? 0 : mvpn_client_circuits(client, circuits);
        for (size_t i = 0; i < count; i++) {
            const mvpn_guard *guard = mvpn_guards_find(guards, &circuits[i].path.hop[0]);
            CHECK(guard != NULL && (guard->is_primary || dead > 0));
            if (guard != NULL) {
                used += is_used[guard - guards->guard] ? 0 : 1;
                is_used[guard - guards->guard] = true;
            }
        }
        total += count;
    }
    CHECK(used <= MVPN_GUARDS_PRIMARY);
    CHECK(sim_links(t->client) <= MVPN_GUARDS_PRIMARY + dead);
    return total;
}

/* As long as there are enough, no two groups leave by one exit. */
static void check_exits(const world *t)
{
    mvpn_client_status s[GROUPS];
    for (unsigned g = 0; g < GROUPS; g++) {
        s[g].path.count = 0;
        if (client_of(t, g) != NULL) {
            mvpn_client_get_status(client_of(t, g), &s[g]);
        }
        for (unsigned k = 0; k < g; k++) {
            CHECK(s[g].path.count == 0 || s[k].path.count == 0 ||
                  memcmp(&s[g].path.hop[s[g].path.count - 1], &s[k].path.hop[s[k].path.count - 1],
                         sizeof(mvpn_ed25519_pub)) != 0);
        }
    }
}

/* Each group has a circuit in use and a spare one, and nothing else. */
static bool is_settled(sim *w, void *arg)
{
    const world *t = arg;
    mvpn_client_circuit circuits[MVPN_CLIENT_CIRCUITS_MAX];
    mvpn_client_status s;
    bool is = true;
    (void)w;
    for (unsigned g = 0; g < GROUPS; g++) {
        const mvpn_client *client = client_of(t, g);
        if (client != NULL) {
            mvpn_client_get_status(client, &s);
            is = is && s.state == MVPN_CLIENT_CONNECTED && s.has_spare &&
                 mvpn_client_circuits(client, circuits) == 2;
        }
    }
    return is;
}

/* ---- worlds ---- */

static world *world_new(uint64_t seed, unsigned users)
{
    static const uint8_t key[32] = {3};
    world *t = &one;
    memset(t, 0, sizeof(*t));
    t->w = sim_standard(seed, RELAYS, EXITS, 3);
    t->w->user = t;
    t->w->path.delay = HOP_DELAY;
    t->w->internet = internet;
    t->client = sim_client(t->w);
    t->client->on_tun = host;
    mvpn_proxy_groups_init(&t->groups, key);
    for (unsigned i = 0; i < USERS; i++) {
        t->user[i].port = (uint16_t)(40000 + 100 * i);
    }
    sim_start(t->client);
    CHECK(sim_connect(t->client, MVPN_S(10)));
    for (unsigned i = 0; i < users; i++) {
        CHECK(join(t, i) == 0);
    }
    CHECK(sim_run_until(t->w, is_settled, t, MVPN_S(20)));
    sim_for(t->w, MVPN_S(2));
    return t;
}

static void world_free(world *t)
{
    check_apart(t);
    sim_free(t->w);
    t->w = NULL;
}

/* ---- scenarios ---- */

/* Eight users and who names none: all work at once, and nothing joins them but their guards. */
static void groups_apart(uint64_t seed)
{
    world *t = world_new(seed, GROUPS);
    sim_for(t->w, MVPN_S(5));
    for (unsigned i = 0; i < GROUPS; i++) {
        CHECK(t->user[i].answered >= 120 && t->user[i].origin_count == 1);
    }
    size_t circuits = check_guards(t, 0);
    check_exits(t);
    CHECK(circuits == 2 * (size_t)GROUPS);
    /* None of them is one circuit that two groups have: relays count the same. */
    CHECK(sim_circuits_total(t->w) == 3 * circuits);
    say("%u groups, %zu circuits, %zu links", GROUPS, circuits, sim_links(t->client));
    /* All become others, each for himself. */
    mvpn_engine_new_identity(t->client->engine, t->w->now);
    sim_touch(t->client);
    sim_for(t->w, MVPN_S(10));
    for (unsigned i = 0; i < GROUPS; i++) {
        t->user[i].port++; /* what is open stays where it is */
    }
    sim_for(t->w, MVPN_S(5));
    for (unsigned i = 0; i < GROUPS; i++) {
        CHECK(t->user[i].origin_count == 2);
    }
    (void)check_guards(t, 0);
    world_free(t);
}

/* A ninth user is let in only where somebody has left long enough ago, and never to another. */
static void ninth_user(uint64_t seed)
{
    const unsigned ninth = GROUPS, tenth = GROUPS + 1;
    world *t = world_new(seed, GROUPS);
    CHECK(join(t, ninth) == MVPN_E_LIMIT);
    leave(t, 3);
    leave(t, 5);
    sim_for(t->w, MVPN_PROXY_GROUP_YIELD - MVPN_S(2));
    CHECK(join(t, ninth) == MVPN_E_LIMIT);
    sim_for(t->w, MVPN_S(3));
    CHECK(join(t, ninth) == 0 && t->user[ninth].group == t->user[3].group);
    CHECK(join(t, 3) == 0 && t->user[3].group == t->user[5].group); /* as another's, a new group */
    CHECK(join(t, 5) == MVPN_E_LIMIT && join(t, tenth) == MVPN_E_LIMIT);
    CHECK(sim_run_until(t->w, is_settled, t, MVPN_S(20)));
    sim_for(t->w, MVPN_S(3));
    CHECK(t->user[ninth].answered >= 40 && t->user[ninth].origin_count == 1);
    CHECK(t->user[3].origin_count == 2);
    size_t circuits = check_guards(t, 0);
    CHECK(circuits == 2 * (size_t)GROUPS && sim_circuits_total(t->w) == 3 * circuits);
    /* All but the first leave for good: ten minutes later nothing is left of them. */
    for (unsigned i = 1; i < USERS; i++) {
        if (t->user[i].is_on) {
            leave(t, i);
        }
    }
    sim_for(t->w, MVPN_PROXY_GROUP_IDLE);
    unsigned group, ended = 0;
    while ((group = mvpn_proxy_groups_expire(&t->groups, t->w->now)) != 0) {
        mvpn_engine_close_group(t->client->engine, group, t->w->now);
        ended++;
    }
    sim_touch(t->client);
    sim_for(t->w, MVPN_S(5));
    CHECK(ended == MVPN_PROXY_GROUPS_MAX);
    CHECK(sim_run_until(t->w, is_settled, t, MVPN_S(20)));
    CHECK(check_guards(t, 0) == 2 && sim_circuits_total(t->w) == 6);
    world_free(t);
}

/* The guard of the circuits in use dies: every user's session goes on by another guard, the same
 * for all. */
static void guard_dies(uint64_t seed)
{
    size_t worlds = scenario_count(4, 1);
    mvpn_time longest = 0;
    for (size_t i = 0; i < worlds; i++) {
        check_context("world %zu", i);
        world *t = world_new(seed * 100 + i, GROUPS);
        sim_node *guard = sim_hop(t->client, 1);
        REQUIRE(guard != NULL, return );
        sim_stop(guard, false);
        sim_for(t->w, MVPN_S(10));
        for (unsigned k = 0; k < GROUPS; k++) {
            user *u = &t->user[k];
            mvpn_client_status s;
            mvpn_client_get_status(client_of(t, k), &s);
            longest = MVPN_MAX(longest, u->gap);
            CHECK(u->origin_count == 1 && s.sessions_lost == 0);
            CHECK(u->gap <= MVPN_S(3) && t->w->now - u->last <= MVPN_S(1));
            CHECK(memcmp(&s.path.hop[0], &guard->config.identity, sizeof(s.path.hop[0])) != 0);
        }
        CHECK(sim_run_until(t->w, is_settled, t, MVPN_S(60)));
        (void)check_guards(t, 1);
        check_exits(t);
        world_free(t);
    }
    say("longest pause of a user: %.0f ms", (double)longest / 1e3);
}

int main(int argc, char **argv)
{
    static const scenario all[] = {
        {"groups_apart", groups_apart},
        {"ninth_user", ninth_user},
        {"guard_dies", guard_dies},
    };
    return scenario_main(argc, argv, all, MVPN_ARRAY_LEN(all));
}
