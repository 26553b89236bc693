/*
 * Sessions and their exit: it dies, restarts, hiccups, is the only one, is chosen by the user.
 * (docs/protocol.md §7.1, §7.2)
 */
#include "session_world.h"

static bool is_tcp_open(sim *w, void *arg)
{
    (void)w;
    return ((const tcp *)arg)->rounds > 0;
}

/* Its connections were reset as hosts understand it, at once, and the next one works. */
static void check_reset(world *t, mvpn_time span)
{
    /* A segment that waited for a session is answered too. */
    CHECK(t->tcp[0].is_reset && t->tcp[0].resets <= 3);
    tcp *next = tcp_start(t);
    CHECK(sim_run_until(t->w, is_tcp_open, next, span));
    CHECK(next->resets == 0);
}

/* A host that tries: the first connection that the new session carries. */
static mvpn_time until_usable(world *t, mvpn_time span)
{
    mvpn_time from = t->w->now;
    for (mvpn_time at = 0; at < span; at += MVPN_MS(50)) {
        if (at % MVPN_MS(250) == 0) {
            (void)tcp_start(t);
        }
        sim_for(t->w, MVPN_MS(50));
        for (size_t i = 1; i < TCPS; i++) {
            if (t->tcp[i].rounds > 0) {
                return t->w->now - from;
            }
        }
    }
    return MVPN_TIME_NEVER;
}

static void exit_killed(uint64_t seed)
{
    mvpn_time gap[WORLDS_MAX], usable[WORLDS_MAX];
    size_t count = scenario_count(50, 3);
    for (size_t i = 0; i < count; i++) {
        check_context("world %zu", i);
        world *t = world_new(seed * 1000 + i, 5, 3, 3);
        stream *s = &t->stream[0];
        origin before = s->from;
        mvpn_time from = t->w->now;
        stream_mark(t);
        sim_stop(before.exit, false);
        usable[i] = until_usable(t, MVPN_S(3));
        sim_run(t->w, from + MVPN_S(4));
        gap[i] = stream_gap(t, s);
        CHECK(s->moves == 1 && s->from.exit != before.exit);
        check_reset(t, MVPN_S(1));
        CHECK(status_of(t).sessions_lost == 0); /* it drained when it was given up */
        world_free(t);
    }
    check_times("exit killed: usable", usable, count, MVPN_S(2), MVPN_S(3));
    check_times("exit killed: open flows", gap, count, MVPN_S(3), MVPN_S(3));
}

/* It forgets all within 300 ms: the ticket is refused, and a session begun anew. */
static void exit_restarted(uint64_t seed)
{
    mvpn_time gap[WORLDS_MAX];
    size_t count = scenario_count(10, 2);
    for (size_t i = 0; i < count; i++) {
        check_context("world %zu", i);
        world *t = world_new(seed * 1000 + i, 6, 3, 3);
        stream *s = &t->stream[0];
        origin before = s->from;
        stream_mark(t);
        sim_stop(before.exit, false);
        sim_for(t->w, MVPN_MS(300));
        sim_start(before.exit);
        sim_for(t->w, MVPN_S(6));
        gap[i] = stream_gap(t, s);
        CHECK(s->moves == 1 || s->from.exit == before.exit); /* the first address again, maybe */
        check_reset(t, MVPN_S(1));
        world_free(t);
    }
    check_times("exit restarted", gap, count, MVPN_S(3), MVPN_S(3));
}

/* It stops for a second, and all that came is taken then: nobody is reset. */
static void exit_hiccup(uint64_t seed)
{
    size_t count = scenario_count(10, 3);
    unsigned moved = 0;
    for (size_t i = 0; i < count; i++) {
        check_context("world %zu", i);
        world *t = world_new(seed * 1000 + i, 6, 3, 3);
        origin before = t->stream[0].from;
        t->stalled = before.exit;
        t->stalled_until = t->w->now + MVPN_S(1);
        unsigned rounds = t->tcp[0].rounds;
        sim_for(t->w, MVPN_S(6));
        CHECK(is_same_session(t, &before));
        CHECK(t->tcp[0].resets == 0 && t->tcp[0].rounds > rounds + 10);
        mvpn_client_status s = status_of(t);
        CHECK(s.sessions_lost == 0);
        moved += s.is_draining;
        world_free(t);
    }
    say("new flows went elsewhere in %u of %zu", moved, count);
}

/* The only exit goes for a while: it is found again, as one that knows nothing. */
static void only_exit(uint64_t seed)
{
    static const mvpn_time away[] = {MVPN_MS(300), MVPN_S(2), MVPN_S(20)};
    for (size_t k = 0; k < MVPN_ARRAY_LEN(away); k++) {
        mvpn_time back[WORLDS_MAX];
        size_t count = scenario_count(5, 1);
        for (size_t i = 0; i < count; i++) {
            check_context("away for %.1f s, world %zu", to_ms(away[k]) / 1000, i);
            world *t = world_new(seed * 1000 + i, 6, 1, 3);
            sim_node *exit = t->stream[0].from.exit;
            sim_stop(exit, false);
            sim_for(t->w, away[k]);
            sim_start(exit);
            mvpn_time from = t->w->now;
            uint32_t came = t->stream[0].down.came;
            sim_for(t->w, MVPN_S(8));
            CHECK(t->stream[0].down.came > came);
            back[i] = stream_gap(t, &t->stream[0]);
            back[i] = back[i] < t->w->now - from + away[k] ? back[i] : MVPN_TIME_NEVER;
            back[i] = back[i] - MVPN_MIN(back[i], away[k]);
            check_reset(t, MVPN_S(1));
            CHECK(status_of(t).sessions_lost == 1);
            world_free(t);
        }
        char what[64];
        snprintf(what, sizeof(what), "only exit away for %.1f s: back", to_ms(away[k]) / 1000);
        check_times(what, back, count, MVPN_S(3), MVPN_S(5));
    }
}

static enum mvpn_path_block choose(world *t, const mvpn_exit_choice *choice)
{
    sim_current = t->client;
    enum mvpn_path_block block = mvpn_engine_set_exit_choice(t->client->engine, choice, t->w->now);
    sim_current = NULL;
    sim_touch(t->client);
    return block;
}

static void add_blocked(mvpn_exit_choice *choice, const sim_node *exit)
{
    choice->blocked[choice->blocked_count++] = exit->config.identity;
}

/* The exit by which a new connection leaves; NULL: it waits. */
static sim_node *new_exit(world *t, mvpn_time patience)
{
    tcp *c = tcp_start(t);
    sim_for(t->w, patience);
    sim_node *exit = c->is_known ? c->from.exit : NULL;
    CHECK((exit != NULL) == c->is_open);
    c->is_on = exit != NULL;
    return exit;
}

/* Any exit but this one; of two, the other. */
static sim_node *exit_but(const world *t, const sim_node *a, const sim_node *b)
{
    for (size_t i = 0; i < t->w->node_count; i++) {
        sim_node *n = t->w->node[i];
        if (n->kind == SIM_EXIT && n != a && n != b) {
            return n;
        }
    }
    return NULL;
}

/* Open connections stay where they are, and none of it is noticed. */
static void check_first_stays(const world *t, const origin *first)
{
    CHECK(is_same_session(t, first) && t->tcp[0].resets == 0);
    CHECK(stream_gap(t, &t->stream[0]) <= 2 * PACE);
}

/* The first relay of the circuit that carries a session which only drains. */
static sim_node *draining_guard(const world *t)
{
    mvpn_client_circuit circuits[MVPN_CLIENT_CIRCUITS_MAX];
    size_t n = mvpn_client_circuits(mvpn_engine_client(t->client->engine), circuits);
    for (size_t i = 0; i < n; i++) {
        if (circuits[i].role == MVPN_CLIENT_CIRCUIT_CARRIES && !circuits[i].is_current) {
            return sim_find_identity(t->w, &circuits[i].path.hop[0]);
        }
    }
    return NULL;
}

static void exit_chosen(uint64_t seed)
{
    size_t count = scenario_count(8, 2);
    for (size_t i = 0; i < count; i++) {
        check_context("world %zu", i);
        unsigned hops = 1 + (unsigned)i % 4;
        world *t = world_new(seed * 1000 + i, hops == 1 ? 0 : 6, 3, hops);
        origin first = t->stream[0].from;
        sim_node *second = exit_but(t, first.exit, NULL);
        sim_node *third = exit_but(t, first.exit, second);
        stream_mark(t);
        mvpn_exit_choice choice = {.has_exit = true, .exit = first.exit->config.identity};
        CHECK(choose(t, &choice) == MVPN_PATH_OK);
        sim_for(t->w, MVPN_S(1));
        CHECK(!status_of(t).is_draining && sessions_total(t->w) == 1); /* it fits as it is */

        choice.exit = second->config.identity;
        CHECK(choose(t, &choice) == MVPN_PATH_OK && status_of(t).is_leaving);
        CHECK(sim_run_until(t->w, is_draining, t, MVPN_S(3)));
        CHECK(!status_of(t).is_leaving && new_exit(t, MVPN_S(1)) == second);
        check_first_stays(t, &first);

        sim_node *guard = hops < 3 ? NULL : draining_guard(t);
        if (guard != NULL && guard != first.exit && guard != second &&
            guard != third) { /* what is open there is carried on all the same */
            sim_stop(guard, false);
            sim_for(t->w, MVPN_S(4));
            unsigned rounds = t->tcp[0].rounds;
            sim_for(t->w, MVPN_S(1));
            CHECK(is_same_session(t, &first) && t->tcp[0].resets == 0);
            CHECK(t->tcp[0].rounds > rounds);
        }

        mvpn_exit_choice blocked = {.blocked_count = 0}; /* the one in use; auto otherwise */
        add_blocked(&blocked, second);
        add_blocked(&blocked, first.exit);
        CHECK(choose(t, &blocked) == MVPN_PATH_OK);
        CHECK(new_exit(t, MVPN_S(2)) != NULL); /* either, until there is another */
        CHECK(new_exit(t, MVPN_S(1)) == third);
        world_free(t);
    }
}

/* Nothing fits: new connections wait, and do not fall back. */
static void exit_chosen_in_vain(uint64_t seed)
{
    size_t count = scenario_count(4, 1);
    for (size_t i = 0; i < count; i++) {
        check_context("world %zu", i);
        world *t = world_new(seed * 1000 + i, 6, 2, 3);
        origin first = t->stream[0].from;
        sim_node *other = exit_but(t, first.exit, NULL);
        unsigned told = t->client->blocked;
        stream_mark(t);
        mvpn_exit_choice nowhere = {.is_open = true};
        CHECK(choose(t, &nowhere) == MVPN_PATH_NO_EXIT_CHOSEN);
        CHECK(status_of(t).block == MVPN_PATH_NO_EXIT_CHOSEN);
        CHECK(new_exit(t, MVPN_S(7)) == NULL && t->client->blocked == told + 1);
        check_first_stays(t, &first);

        mvpn_exit_choice blocked = {.blocked_count = 0};
        add_blocked(&blocked, first.exit);
        add_blocked(&blocked, other);
        CHECK(choose(t, &blocked) == MVPN_PATH_NO_EXIT_BLOCKED);
        CHECK(new_exit(t, MVPN_S(7)) == NULL && t->client->blocked == told + 2);
        check_first_stays(t, &first);

        blocked.blocked_count = 1; /* the other one is free again */
        CHECK(choose(t, &blocked) == MVPN_PATH_OK);
        CHECK(new_exit(t, MVPN_S(2)) == other && status_of(t).block == MVPN_PATH_OK);
        check_first_stays(t, &first);

        /* It does not answer: for 10 s new ones still go the old way, then they wait. */
        mvpn_exit_choice gone = {.has_exit = true, .exit = first.exit->config.identity};
        sim_stop(first.exit, false);
        sim_for(t->w, MVPN_S(4));
        (void)choose(t, &gone);
        sim_for(t->w, MVPN_S(11));
        CHECK(new_exit(t, MVPN_S(7)) == NULL && status_of(t).state == MVPN_CLIENT_CONNECTING);
        sim_start(first.exit);
        CHECK(new_exit(t, MVPN_S(15)) == first.exit);
        t->stream[0].is_on = false;
        world_free(t);
    }
}

/* One hop, and it dies: nobody else can tell whose silence that is, but another exit answers. */
static void single_exit_killed(uint64_t seed)
{
    mvpn_time gap[WORLDS_MAX];
    size_t count = scenario_count(4, 1);
    for (size_t i = 0; i < count; i++) {
        check_context("world %zu", i);
        world *t = world_new(seed * 1000 + i, 3, 3, 1);
        stream *s = &t->stream[0];
        origin before = s->from;
        stream_mark(t);
        sim_stop(before.exit, false);
        sim_for(t->w, MVPN_S(30));
        gap[i] = stream_gap(t, s);
        CHECK(s->moves == 1 && s->from.exit != before.exit);
        check_reset(t, MVPN_S(1));
        world_free(t);
    }
    check_times("1 hop, killed", gap, count, MVPN_S(10), MVPN_S(15));
}

int main(int argc, char **argv)
{
    static const scenario all[] = {
        {"exit_killed", exit_killed},
        {"exit_restarted", exit_restarted},
        {"exit_hiccup", exit_hiccup},
        {"only_exit", only_exit},
        {"exit_chosen", exit_chosen},
        {"exit_chosen_in_vain", exit_chosen_in_vain},
        {"single_exit_killed", single_exit_killed},
    };
    return scenario_main(argc, argv, all, MVPN_ARRAY_LEN(all));
}
