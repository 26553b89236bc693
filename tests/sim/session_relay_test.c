/*
 * Sessions over relays that die, fall silent or start anew: another circuit takes each session
 * over, and the host sees a gap, no more. (docs/protocol.md §7.1, §7.2)
 */
#include "session_world.h"

enum harm { KILLED, SILENCED, RESTARTED };

static mvpn_time harmed(uint64_t seed, unsigned hop, enum harm harm, uint32_t loss)
{
    world *t = world_new(seed, 5, 1, 3);
    origin before = t->stream[0].from;
    t->w->path.loss = loss;
    sim_for(t->w, MVPN_MS(300));
    sim_node *victim = sim_hop(t->client, hop);
    unsigned rounds = t->tcp[0].rounds;
    stream_mark(t);
    if (harm == SILENCED) {
        t->silent = victim;
    } else {
        sim_stop(victim, false);
    }
    if (harm == RESTARTED) {
        sim_start(victim);
    }
    sim_for(t->w, MVPN_S(3));
    mvpn_time gap = stream_gap(t, &t->stream[0]);
    CHECK(is_same_session(t, &before));
    CHECK(t->tcp[0].resets == 0 && t->tcp[0].rounds > rounds);
    mvpn_client_status s = status_of(t);
    CHECK(s.sessions_lost == 0 && s.takeovers >= 1);
    world_free(t);
    return gap;
}

static void relay_harmed(uint64_t seed, unsigned hop, enum harm harm, uint32_t loss,
                         const char *what)
{
    mvpn_time gap[WORLDS_MAX];
    size_t count = scenario_count(loss == 0 ? 25 : 50, 3);
    for (size_t i = 0; i < count; i++) {
        check_context("%s, world %zu", what, i);
        gap[i] = harmed(seed * 1000 + i, hop, harm, loss);
    }
    check_times(what, gap, count, MVPN_S(1), MVPN_S(3));
}

static void guard_killed(uint64_t seed)
{
    relay_harmed(seed, 1, KILLED, 0, "guard killed");
    relay_harmed(seed, 1, KILLED, 50000, "guard killed, 5 % loss");
}

static void guard_silenced(uint64_t seed)
{
    relay_harmed(seed, 1, SILENCED, 0, "guard silenced");
    relay_harmed(seed, 1, SILENCED, 50000, "guard silenced, 5 % loss");
}

static void middle_killed(uint64_t seed)
{
    relay_harmed(seed, 2, KILLED, 0, "middle killed");
    relay_harmed(seed, 2, KILLED, 50000, "middle killed, 5 % loss");
}

static void middle_silenced(uint64_t seed)
{
    relay_harmed(seed, 2, SILENCED, 0, "middle silenced");
    relay_harmed(seed, 2, SILENCED, 50000, "middle silenced, 5 % loss");
}

static bool passes_by(const mvpn_path *path, const mvpn_ed25519_pub *relay)
{
    for (unsigned i = 0; i < path->count; i++) {
        if (same_relay(&path->hop[i], relay)) {
            return true;
        }
    }
    return false;
}

static bool serves(sim *w, void *arg)
{
    const mvpn_ed25519_pub *relay = &((const sim_node *)arg)->config.identity;
    mvpn_client_status s = status_of(w->user);
    return passes_by(&s.path, relay) || (s.has_spare && passes_by(&s.spare_path, relay));
}

/* A guard that starts anew knows nothing of us. Others serve meanwhile; when all of these go, it
 * serves again at once. */
static void guard_restarted(uint64_t seed)
{
    mvpn_time gap[WORLDS_MAX], again[WORLDS_MAX];
    size_t count = scenario_count(10, 3), done = 0;
    for (size_t i = 0; done < count && i < 4 * count; i++) {
        check_context("world %zu", i);
        world *t = world_new(seed * 1000 + i, 8, 1, 3);
        origin before = t->stream[0].from;
        sim_node *guard = sim_hop(t->client, 1);
        mvpn_client_status s = status_of(t);
        if (passes_by(&s.spare_path, &guard->config.identity)) {
            world_free(t); /* a middle that was silent is kept out for longer */
            continue;
        }
        stream_mark(t);
        sim_stop(guard, false);
        sim_start(guard);
        sim_for(t->w, MVPN_S(12));
        gap[done] = stream_gap(t, &t->stream[0]);
        mvpn_guards guards = guards_of(t);
        mvpn_time from = t->w->now;
        for (size_t k = 0; k < guards.count; k++) {
            sim_node *other = sim_find_identity(t->w, &guards.guard[k].identity);
            if (other != guard && other != before.exit) {
                sim_stop(other, false);
            }
        }
        CHECK(sim_run_until(t->w, serves, guard, MVPN_S(20)));
        again[done++] = t->w->now - from;
        sim_for(t->w, MVPN_S(4));
        CHECK(is_same_session(t, &before) && t->tcp[0].resets == 0);
        world_free(t);
    }
    check_times("guard restarted: gap", gap, done, MVPN_S(1), MVPN_S(3));
    check_times("guard restarted: serves again", again, done, MVPN_S(8), MVPN_S(8));
}

enum trouble { MIDDLE_RESTARTS, GUARD_RESTARTS, EXIT_CUT_OFF };

static void make_trouble(world *t, enum trouble trouble)
{
    sim_node *n = sim_hop(t->client, trouble == MIDDLE_RESTARTS ? 2 : 1);
    if (trouble == EXIT_CUT_OFF) {
        t->silent = t->stream[0].from.exit;
        sim_for(t->w, MVPN_MS(1500));
        t->silent = NULL;
    } else {
        sim_stop(n, false);
        sim_for(t->w, MVPN_MS(300));
        sim_start(n);
    }
}

static void rebuilt(uint64_t seed, size_t relays, unsigned hops, bool is_fixed,
                    enum trouble trouble, const char *what)
{
    mvpn_time gap[WORLDS_MAX];
    size_t count = scenario_count(5, 1);
    for (size_t i = 0; i < count; i++) {
        check_context("%s, world %zu", what, i);
        world *t = world_make(seed * 1000 + i, relays, relays == 1 ? 1 : 2, hops);
        sim_node *const path[] = {t->w->node[0], t->w->node[1], t->w->node[relays]};
        if (is_fixed) {
            sim_fix_path(t->client, path, 3);
            t->has_spare = false;
        }
        world_run(t);
        origin before = t->stream[0].from;
        unsigned rounds = t->tcp[0].rounds;
        stream_mark(t);
        make_trouble(t, trouble);
        sim_for(t->w, MVPN_S(10));
        gap[i] = stream_gap(t, &t->stream[0]);
        CHECK(is_same_session(t, &before));
        CHECK(t->tcp[0].resets == 0 && t->tcp[0].rounds > rounds + 10);
        CHECK(status_of(t).sessions_lost == 0 && status_of(t).takeovers >= 1);
        CHECK(status_of(t).path.count == hops);
        world_free(t);
    }
    check_times(what, gap, count, MVPN_S(3), MVPN_S(5));
}

static void other_circuits(uint64_t seed)
{
    rebuilt(seed, 3, 1, false, EXIT_CUT_OFF, "1 hop, cut off 1.5 s: gap");
    rebuilt(seed, 8, 5, false, MIDDLE_RESTARTS, "5 hops, a middle restarted: gap");
    rebuilt(seed, 8, 5, false, GUARD_RESTARTS, "5 hops, the guard restarted: gap");
    rebuilt(seed, 3, 3, true, MIDDLE_RESTARTS, "fixed path, the middle restarted: gap");
    rebuilt(seed, 3, 3, true, GUARD_RESTARTS, "fixed path, the guard restarted: gap");
    rebuilt(seed, 1, 2, false, GUARD_RESTARTS, "2 hops, the only guard restarted: gap");
}

int main(int argc, char **argv)
{
    static const scenario all[] = {
        {"guard_killed", guard_killed},       {"guard_silenced", guard_silenced},
        {"middle_killed", middle_killed},     {"middle_silenced", middle_silenced},
        {"guard_restarted", guard_restarted}, {"other_circuits", other_circuits},
    };
    return scenario_main(argc, argv, all, MVPN_ARRAY_LEN(all));
}
