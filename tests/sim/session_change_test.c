/*
 * Sessions whose circuits change by intent: rotation, renewal, another number of hops; and another
 * session by intent: a new identity, an exit whose lifetime ends. (docs/protocol.md §7.2)
 */
#include "session_world.h"
#include "core/flows.h"

#define ROTATE_BYTES (64 * 1024)

/* A stream of 240 KB/s each way, and what rotation makes of it. */
static world *rotation_new(uint64_t seed, uint64_t bytes, mvpn_time pause, mvpn_time renew)
{
    world *t = world_make(seed, 6, 2, 3);
    t->client->client.rotate_bytes = bytes;
    t->client->client.rotate_pause = pause;
    t->client->client.renew_time = renew;
    world_run(t);
    stream_start(t, 1200, MVPN_MS(5));
    sim_for(t->w, MVPN_S(1));
    return t;
}

/* Whatever was sent until a second ago has come. */
static uint32_t stream_lost(const direction *d, mvpn_time pace)
{
    uint32_t lost = 0, until = d->sent - (uint32_t)(MVPN_S(1) / pace);
    for (uint32_t i = 0; i < until; i++) {
        lost += !d->has[i];
    }
    return lost;
}

static void check_untouched(world *t, const origin *before)
{
    for (size_t i = 0; i < STREAMS; i++) {
        const stream *s = &t->stream[i];
        if (s->port != 0) {
            CHECK(stream_lost(&s->up, s->pace) == 0 && stream_lost(&s->down, s->pace) == 0);
            CHECK(s->moves == 0 && origin_is(&s->from, before->exit, before->pool));
        }
    }
    mvpn_client_status s = status_of(t);
    CHECK(s.switches == 0 && s.sessions_lost == 0 && t->tcp[0].resets == 0);
    CHECK(s.takeovers == s.rotations && t->client->disconnected == 0);
}

static void rotation(uint64_t seed)
{
    size_t count = scenario_count(2, 1);
    for (size_t i = 0; i < count; i++) {
        check_context("world %zu", i);
        world *t = rotation_new(seed * 1000 + i, ROTATE_BYTES, 0, MVPN_S(3600));
        origin before = t->stream[1].from;
        mvpn_client_status from = status_of(t);
        size_t most = 0;
        stream_mark(t);
        for (unsigned k = 0; k < 100; k++) {
            sim_for(t->w, MVPN_MS(200));
            size_t circuits = sim_circuits_total(t->w);
            most = MVPN_MAX(most, circuits);
        }
        mvpn_client_status s = status_of(t);
        mvpn_time gap = stream_gap(t, &t->stream[1]);
        say("%u rotations in 20 s, no more than %zu circuits at relays, gap %.0f ms",
            (unsigned)(s.rotations - from.rotations), most, to_ms(gap));
        /* A cell is more than its packet: at least so many, with 25 % of jitter. */
        CHECK(s.rotations - from.rotations >= 2 * 240000 * 20 / (ROTATE_BYTES * 5 / 2));
        CHECK(memcmp(&s.path, &from.path, sizeof(s.path)) == 0); /* the same relays, fresh keys */
        CHECK(gap <= MVPN_MS(10));
        CHECK(most <= 3 * 10);
        check_untouched(t, &before);
        sim_for(t->w, MVPN_MS(10));
        CHECK(sessions_at(before.exit) == 1);
        world_free(t);
    }
}

static void rotation_pause(uint64_t seed)
{
    world *t = rotation_new(seed, ROTATE_BYTES, MVPN_S(5), MVPN_S(3600));
    origin before = t->stream[1].from;
    mvpn_client_status from = status_of(t);
    sim_for(t->w, MVPN_S(21));
    mvpn_client_status s = status_of(t);
    CHECK(s.rotations - from.rotations >= 3 && s.rotations - from.rotations <= 5);
    check_untouched(t, &before);
    world_free(t);
}

/* Of the hour, here 10 s: other middles, the same guard. */
static void renewal(uint64_t seed)
{
    world *t = rotation_new(seed, UINT64_C(1) << 30, 0, MVPN_S(10));
    origin before = t->stream[1].from;
    mvpn_client_status last = status_of(t);
    unsigned renewals = 0;
    stream_mark(t);
    for (unsigned k = 0; k < 400; k++) {
        sim_for(t->w, MVPN_MS(100));
        mvpn_client_status s = status_of(t);
        CHECK(s.rotations - last.rotations <= 1);
        if (s.rotations != last.rotations) {
            renewals++;
            CHECK(same_relay(&s.path.hop[0], &last.path.hop[0]));
            CHECK(!same_relay(&s.path.hop[1], &last.path.hop[1]));
            CHECK(same_relay(&s.path.hop[2], &last.path.hop[2]));
        }
        last = s;
    }
    CHECK(renewals >= 3 && renewals <= 5);
    CHECK(stream_gap(t, &t->stream[1]) <= MVPN_MS(10));
    check_untouched(t, &before);
    world_free(t);
}

static bool is_not_draining(sim *w, void *arg)
{
    return !is_draining(w, arg);
}

/* New flows go by the new session, the open ones by the old one until they are quiet. */
static void check_change(world *t, size_t exits)
{
    stream *old = &t->stream[0];
    origin before = old->from;
    stream *new = stream_start(t, STREAM_BYTES, PACE);
    tcp *c = tcp_start(t);
    sim_for(t->w, MVPN_S(2));
    CHECK(is_same_session(t, &before) && t->tcp[0].resets == 0);
    CHECK(new->is_known && !origin_is(&new->from, before.exit, before.pool));
    CHECK((new->from.exit != before.exit) == (exits > 1));
    CHECK(c->is_known && origin_is(&c->from, new->from.exit, new->from.pool));
    CHECK(sessions_total(t->w) == 2);
    mvpn_client_status s = status_of(t);
    CHECK(s.is_draining && s.draining_flows == 2 && s.flows == 2 && s.sessions_lost == 0);
    /* The old ones keep quiet: a connection holds a session longest. */
    old->is_on = false;
    t->tcp[0].is_on = false;
    c->is_on = false;
    new->is_on = false;
    sim_for(t->w, MVPN_FLOWS_TCP_HOLD - MVPN_S(20));
    CHECK(is_draining(t->w, t) && sessions_total(t->w) == 2);
    CHECK(sim_run_until(t->w, is_not_draining, t, MVPN_S(30)));
    sim_for(t->w, MVPN_S(1));
    CHECK(sessions_total(t->w) == 1); /* it was told, not left to time */
    CHECK(sessions_at(new->from.exit) == 1);
    /* The host's end of a connection that was quiet for so long is told that it is over. */
    CHECK(t->tcp[0].is_reset && t->tcp[0].resets == 1);
}

static void new_identity(uint64_t seed)
{
    size_t count = scenario_count(3, 1);
    for (size_t exits = 1; exits <= 2; exits++) {
        for (size_t i = 0; i < count; i++) {
            check_context("%zu exits, world %zu", exits, i);
            world *t = world_new(seed * 1000 + i, 6, exits, 3);
            stream_mark(t);
            sim_current = t->client;
            mvpn_engine_new_identity(t->client->engine, t->w->now);
            sim_current = NULL;
            sim_touch(t->client);
            CHECK(sim_run_until(t->w, is_draining, t, MVPN_S(3)));
            CHECK(stream_gap(t, &t->stream[0]) <= PACE);
            check_change(t, exits);
            world_free(t);
        }
    }
}

/* Everything anew, and nobody notices. */
static void reconnect(uint64_t seed)
{
    size_t count = scenario_count(3, 1);
    for (size_t i = 0; i < count; i++) {
        check_context("world %zu", i);
        world *t = world_new(seed * 1000 + i, 8, 2, 3);
        mvpn_client_status before = status_of(t);
        stream_mark(t);
        sim_current = t->client;
        mvpn_engine_reconnect(t->client->engine, t->w->now);
        sim_current = NULL;
        sim_touch(t->client);
        sim_run(t->w, t->w->now + MVPN_S(3));
        mvpn_client_status after = status_of(t);
        CHECK(stream_gap(t, &t->stream[0]) <= PACE);
        CHECK(after.state == MVPN_CLIENT_CONNECTED && after.sessions_lost == 0);
        CHECK(after.rotations == before.rotations + 1 && after.has_spare);
        CHECK(after.session_since == before.session_since);
        CHECK(memcmp(&after.path.hop[2], &before.path.hop[2], sizeof(after.path.hop[2])) == 0);
        CHECK(memcmp(&after.path.hop[1], &before.path.hop[1], sizeof(after.path.hop[1])) != 0);
        world_free(t);
    }
}

/* Its first circuit is built, and asks the exit for a session. */
static bool is_opening(sim *w, void *arg)
{
    mvpn_stage_report stages[MVPN_STAGES];
    const mvpn_engine *engine = ((const world *)arg)->client->engine;
    (void)mvpn_client_stages(mvpn_engine_client(engine), w->now, stages);
    return stages[MVPN_STAGE_CIRCUIT].state == MVPN_STAGE_DONE &&
           stages[MVPN_STAGE_EXIT].state != MVPN_STAGE_DONE;
}

/* Also of the session that is being opened just then. */
static void hops_change_early(uint64_t seed)
{
    world *t = world_make(seed, 8, 2, 3);
    sim_start(t->client);
    CHECK(sim_run_until(t->w, is_opening, t, MVPN_S(10)));
    sim_current = t->client;
    CHECK(mvpn_engine_set_hops(t->client->engine, 2, t->w->now) == 0);
    sim_current = NULL;
    sim_touch(t->client);
    sim_for(t->w, MVPN_S(3));
    mvpn_client_status s = status_of(t);
    CHECK(s.state == MVPN_CLIENT_CONNECTED && s.path.count == 2);
    world_free(t);
}

/* Other lengths of path, from now on. */
static void hops_change(uint64_t seed)
{
    static const unsigned lengths[] = {5, 2, 1};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(lengths); i++) {
        check_context("%u hops", lengths[i]);
        world *t = world_new(seed * 1000 + i, 8, 2, 3);
        stream_mark(t);
        sim_current = t->client;
        CHECK(mvpn_engine_set_hops(t->client->engine, lengths[i], t->w->now) == 0);
        CHECK(mvpn_engine_set_hops(t->client->engine, 6, t->w->now) == MVPN_E_INVAL);
        sim_current = NULL;
        sim_touch(t->client);
        sim_run(t->w, t->w->now + MVPN_S(3));
        mvpn_client_status s = status_of(t);
        CHECK(s.state == MVPN_CLIENT_CONNECTED && s.path.count == lengths[i]);
        CHECK(s.sessions_lost == 0 && stream_gap(t, &t->stream[0]) <= PACE);
        world_free(t);
    }
}

static void exit_lifetime(uint64_t seed)
{
    size_t count = scenario_count(2, 1);
    for (size_t i = 0; i < count; i++) {
        check_context("world %zu", i);
        world *t = world_make(seed * 1000 + i, 6, 2, 3);
        t->client->client.exit_lifetime = MVPN_S(400);
        world_run(t);
        mvpn_client_status s = status_of(t);
        CHECK(s.session_expires - s.session_since >= MVPN_S(300));
        CHECK(s.session_expires - s.session_since <= MVPN_S(500));
        set_talking(t, false);
        sim_run(t->w, s.session_expires - MVPN_S(2));
        set_talking(t, true);
        sim_run(t->w, s.session_expires - MVPN_MS(10));
        CHECK(sessions_total(t->w) == 1 && !is_draining(t->w, t));
        stream_mark(t);
        CHECK(sim_run_until(t->w, is_draining, t, MVPN_S(3)));
        CHECK(stream_gap(t, &t->stream[0]) <= PACE);
        check_change(t, 2);
        world_free(t);
    }
}

int main(int argc, char **argv)
{
    static const scenario all[] = {
        {"rotation", rotation},
        {"rotation_pause", rotation_pause},
        {"renewal", renewal},
        {"new_identity", new_identity},
        {"reconnect", reconnect},
        {"hops_change", hops_change},
        {"hops_change_early", hops_change_early},
        {"exit_lifetime", exit_lifetime},
    };
    return scenario_main(argc, argv, all, MVPN_ARRAY_LEN(all));
}
