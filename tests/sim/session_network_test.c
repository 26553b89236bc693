/*
 * Sessions while the client's own network fails or is bad: offline, roaming, asleep, lossy, and
 * nobody there at all. (docs/protocol.md §7.2)
 */
#include "session_world.h"

typedef struct fresh {
    const stream *s;
    uint32_t up, down;
} fresh;

static bool has_fresh(sim *w, void *arg)
{
    const fresh *f = arg;
    (void)w;
    return f->s->up.came > f->up && f->s->down.came > f->down;
}

/* How long until packets come again, both ways. */
static mvpn_time until_back(world *t, mvpn_time span)
{
    const stream *s = &t->stream[0];
    fresh f = {s, s->up.came, s->down.came};
    mvpn_time from = t->w->now;
    bool is_back = sim_run_until(t->w, has_fresh, &f, span);
    CHECK(is_back);
    return t->w->now - from;
}

/* No guard is blamed for what was our own network. */
static void check_guards(const world *t, const mvpn_guards *before, bool is_told)
{
    mvpn_guards after = guards_of(t);
    /* Else others may have been tried, as many as an hour allows. */
    CHECK(!is_told || after.count == before->count);
    for (size_t i = 0; i < before->count; i++) {
        const mvpn_guard *g = mvpn_guards_find(&after, &before->guard[i].identity);
        CHECK(g != NULL && g->reach != MVPN_GUARD_NO && g->failing == 0);
        CHECK(!is_told || (g != NULL && g->is_primary == before->guard[i].is_primary));
    }
}

static void no_network(world *t)
{
    sim_current = t->client;
    mvpn_engine_network_changed(t->client->engine, NULL, 0, t->w->now);
    sim_current = NULL;
    sim_touch(t->client);
}

static void offline(uint64_t seed, mvpn_time span, bool is_told, const char *what)
{
    mvpn_time back[WORLDS_MAX];
    size_t count = scenario_count(span == MVPN_S(30) && !is_told ? 15 : 5, 2);
    for (size_t i = 0; i < count; i++) {
        check_context("%s, world %zu", what, i);
        world *t = world_new(seed * 1000 + i, 6, 2, 3);
        origin before = t->stream[0].from;
        mvpn_guards guards = guards_of(t);
        unsigned rounds = t->tcp[0].rounds;
        t->silent = t->client;
        if (is_told) {
            no_network(t);
        }
        sim_for(t->w, span + MVPN_MS(370) * i); /* anywhere between two attempts */
        t->silent = NULL;
        if (is_told) {
            sim_network_changed(t->client);
        }
        back[i] = until_back(t, MVPN_S(30));
        sim_for(t->w, MVPN_S(2));
        CHECK(is_same_session(t, &before));
        CHECK(t->tcp[0].resets == 0 && t->tcp[0].rounds > rounds);
        CHECK(status_of(t).sessions_lost == 0);
        check_guards(t, &guards, is_told);
        world_free(t);
    }
    check_times(what, back, count, MVPN_S(2), MVPN_S(2));
}

static void offline_told(uint64_t seed)
{
    offline(seed, MVPN_S(30), true, "offline 30 s, told: back");
    offline(seed, MVPN_S(60), true, "offline 60 s, told: back");
}

static void offline_untold(uint64_t seed)
{
    offline(seed, MVPN_S(30), false, "offline 30 s, not told: back");
    offline(seed, MVPN_S(60), false, "offline 60 s, not told: back");
}

static void roam(uint64_t seed, bool is_told, const char *what)
{
    mvpn_time gap[WORLDS_MAX];
    size_t count = scenario_count(6, 2);
    for (size_t i = 0; i < count; i++) {
        check_context("%s, world %zu", what, i);
        world *t = world_new(seed * 1000 + i, 6, 2, 3);
        origin before = t->stream[0].from;
        mvpn_guards guards = guards_of(t);
        mvpn_addr addr = t->client->addr[0];
        stream_mark(t);
        for (uint8_t k = 0; k < 3; k++) {
            addr.ip[0] = (uint8_t)(80 + k);
            sim_move(t->client, &addr);
            if (is_told) {
                sim_network_changed(t->client);
            }
            sim_for(t->w, MVPN_S(4));
        }
        gap[i] = stream_gap(t, &t->stream[0]);
        CHECK(is_same_session(t, &before) && t->tcp[0].resets == 0);
        CHECK(status_of(t).sessions_lost == 0);
        check_guards(t, &guards, true);
        world_free(t);
    }
    check_times(what, gap, count, MVPN_S(1), MVPN_S(2));
}

static void roaming(uint64_t seed)
{
    roam(seed, true, "another address, told: gap");
    roam(seed, false, "another address, not told: gap");
}

/* The host is suspended: no ticks, no packets, and time goes on. */
static void sleep_for(world *t, mvpn_time span)
{
    set_talking(t, false);
    sim_for(t->w, MVPN_MS(200));
    t->silent = t->client;
    sim_for(t->w, MVPN_MS(100));
    t->client->deadline = MVPN_TIME_NEVER;
    t->client->is_due = false;
    sim_for(t->w, span);
    t->silent = NULL;
    sim_touch(t->client);
    set_talking(t, true);
}

static void sleeps(uint64_t seed)
{
    static const mvpn_time spans[] = {MVPN_S(15), MVPN_S(60), MVPN_S(600)};
    for (size_t k = 0; k < MVPN_ARRAY_LEN(spans); k++) {
        mvpn_time back[WORLDS_MAX];
        size_t count = scenario_count(5, 1);
        char what[64];
        snprintf(what, sizeof(what), "asleep for %.0f s: back", to_ms(spans[k]) / 1000);
        for (size_t i = 0; i < count; i++) {
            check_context("%s, world %zu", what, i);
            world *t = world_new(seed * 1000 + i, 6, 2, 3);
            origin before = t->stream[0].from;
            mvpn_guards guards = guards_of(t);
            sleep_for(t, spans[k]);
            back[i] = until_back(t, MVPN_S(30));
            sim_for(t->w, MVPN_S(2));
            CHECK(is_same_session(t, &before) && t->tcp[0].resets == 0);
            check_guards(t, &guards, true);
            world_free(t);
        }
        check_times(what, back, count, MVPN_S(2), MVPN_S(2));
    }
}

static void set_delay(sim *w, void *arg)
{
    static const mvpn_time delays[] = {MVPN_MS(3), MVPN_MS(133)};
    w->path.delay = delays[(uintptr_t)arg];
}

enum weather { FLAPS, LOSES, JUMPS };

static void begin_weather(world *t, enum weather weather)
{
    sim *w = t->w;
    switch (weather) {
    case FLAPS:
        t->flapping = sim_hop(t->client, 1);
        break;
    case LOSES:
        for (size_t i = 0; i < w->node_count; i++) {
            if (w->node[i] != t->client) {
                sim_path_between(w, t->client, w->node[i])->loss = 300000;
                sim_path_between(w, w->node[i], t->client)->loss = 300000;
            }
        }
        break;
    case JUMPS:
        w->path.delay = MVPN_MS(3);
        for (unsigned k = 0; k < 6; k++) {
            sim_call(w, MVPN_S(5) + MVPN_S(10) * k, set_delay, (void *)(uintptr_t)(1 - k % 2));
        }
        break;
    }
}

static void bad_network(uint64_t seed, enum weather weather, unsigned switches_max,
                        unsigned builds_max, const char *what)
{
    size_t count = scenario_count(4, 1);
    unsigned switches = 0, builds = 0;
    mvpn_time longest = 0;
    for (size_t i = 0; i < count; i++) {
        check_context("%s, world %zu", what, i);
        world *t = world_new(seed * 1000 + i, 6, 2, 3);
        origin before = t->stream[0].from;
        unsigned rounds = t->tcp[0].rounds;
        begin_weather(t, weather);
        t->stream[0].is_on = i % 2 == 0; /* else the connection asks and waits */
        sim_for(t->w, MVPN_S(1));
        mvpn_client_status from = status_of(t);
        stream_mark(t);
        sim_for(t->w, MVPN_S(60));
        mvpn_client_status s = status_of(t);
        mvpn_time gap = t->stream[0].is_on ? stream_gap(t, &t->stream[0]) : 0;
        CHECK(is_same_session(t, &before) && t->tcp[0].resets == 0);
        CHECK(t->tcp[0].rounds > rounds + 20 && s.sessions_lost == 0);
        CHECK(s.switches - from.switches <= switches_max);
        CHECK(s.builds - from.builds <= builds_max);
        CHECK(gap <= MVPN_S(4));
        switches = MVPN_MAX(switches, (unsigned)(s.switches - from.switches));
        builds = MVPN_MAX(builds, (unsigned)(s.builds - from.builds));
        longest = MVPN_MAX(longest, gap);
        world_free(t);
    }
    say("%s, a minute: at most %u switches, %u builds, gap %.0f ms", what, switches, builds,
        to_ms(longest));
}

static void guard_flaps(uint64_t seed)
{
    bad_network(seed, FLAPS, 6, 12, "guard flaps");
}

static void access_loses(uint64_t seed)
{
    bad_network(seed, LOSES, 12, 20, "30 % loss");
}

static void rtt_jumps(uint64_t seed)
{
    bad_network(seed, JUMPS, 6, 12, "round trip 20 to 800 ms and back");
}

static void all_guards_dead(uint64_t seed)
{
    mvpn_time back[WORLDS_MAX];
    size_t count = scenario_count(5, 1);
    uint64_t sent = 0, bytes = 0;
    for (size_t i = 0; i < count; i++) {
        check_context("world %zu", i);
        world *t = world_new(seed * 1000 + i, 6, 2, 3);
        origin before = t->stream[0].from;
        for (size_t k = 0; k < 8; k++) {
            if (t->w->node[k] != before.exit) {
                sim_stop(t->w->node[k], false);
            }
        }
        sim_for(t->w, MVPN_S(10));
        uint64_t sent0 = t->client->sent, bytes0 = t->client->sent_bytes;
        sim_for(t->w, MVPN_S(290) + MVPN_MS(777) * i);
        sent = MVPN_MAX(sent, t->client->sent - sent0);
        bytes = MVPN_MAX(bytes, t->client->sent_bytes - bytes0);
        for (size_t k = 0; k < 8; k++) {
            if (t->w->node[k] != before.exit) {
                sim_start(t->w->node[k]);
            }
        }
        back[i] = until_back(t, MVPN_S(60));
        sim_for(t->w, MVPN_S(3));
        CHECK(is_same_session(t, &before) && t->tcp[0].resets == 0);
        world_free(t);
    }
    say("5 minutes without anybody: at most %u datagrams, %u KB", (unsigned)sent,
        (unsigned)(bytes / 1000));
    CHECK(sent <= 1000);
    check_times("all guards dead for 5 min: back", back, count, MVPN_S(8), MVPN_S(15));
}

int main(int argc, char **argv)
{
    static const scenario all[] = {
        {"offline_told", offline_told}, {"offline_untold", offline_untold},
        {"roaming", roaming},           {"sleeps", sleeps},
        {"guard_flaps", guard_flaps},   {"access_loses", access_loses},
        {"rtt_jumps", rtt_jumps},       {"all_guards_dead", all_guards_dead},
    };
    return scenario_main(argc, argv, all, MVPN_ARRAY_LEN(all));
}
