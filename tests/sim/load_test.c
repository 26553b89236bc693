/*
 * Load on one relay whose rate is what is short, in exact time: who gets how much, and how long it
 * takes. The flows are those of the load generator (bench/load/flow.h): bulk behaves as TCP does,
 * roughly. (docs/protocol.md §6.5)
 *
 *   clients -- guard (RATE, all directions together) -- exit -- echo server
 */
#include "scenario.h"
#include "sim.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "bench/load/flow.h"
#include "network/ip/ip.h"

#define CLIENTS_MAX 400
#define SERVER_PORT 4001
#define IP_LEN 20
#define HEADERS (IP_LEN + 8)
#define TICK MVPN_MS(1)
/* 1,200 bytes of payload are so many on the wire. */
#define CELL 1452.0

typedef struct user {
    sim_node *node;
    load_flow flow[2]; /* of one client, in one circuit */
    unsigned flow_count;
    load_histogram rtts[2];
} user;

typedef struct world {
    sim *w;
    sim_node *guard, *exit;
    size_t count;
    user *users;
    bool is_over;
} world;

static struct {
    uint8_t tos;               /* of what the server sends */
    uint64_t marked, received; /* by clients, from the server; marked: CE */
} ecn;

static const uint8_t server[4] = {93, 184, 7, 34};

/* The server: what the payload asks for goes back. */
static bool serve(sim *w, sim_node *exit, const uint8_t *packet, size_t len)
{
    uint8_t reply[LOAD_PAYLOAD_MAX + HEADERS] = {0};
    size_t n = len > HEADERS ? load_reply_len(packet + HEADERS, len - HEADERS) : 0;
    if (n == 0 || packet[0] != 0x45 || packet[9] != 17) {
        return true;
    }
    memcpy(reply, packet, HEADERS);
    reply[1] = ecn.tos;
    mvpn_store16(reply + 2, (uint16_t)(HEADERS + n));
    memcpy(reply + 12, packet + 16, 4);
    memcpy(reply + 16, packet + 12, 4);
    mvpn_store16(reply + 10, 0);
    uint32_t sum = 0;
    for (size_t i = 0; i < IP_LEN; i += 2) {
        sum += mvpn_load16(reply + i);
    }
    sum = (sum & 0xffff) + (sum >> 16);
    mvpn_store16(reply + 10, (uint16_t) ~(sum + (sum >> 16)));
    memcpy(reply + IP_LEN, packet + IP_LEN + 2, 2);
    memcpy(reply + IP_LEN + 2, packet + IP_LEN, 2);
    mvpn_store16(reply + IP_LEN + 4, (uint16_t)(8 + n));
    memset(reply + IP_LEN + 6, 0, 2);
    memcpy(reply + HEADERS, packet + HEADERS, LOAD_PAYLOAD_MIN);
    sim_tun_in(exit, reply, HEADERS + n, w->inet_delay);
    return true;
}

static void pump(user *u, mvpn_time now)
{
    for (unsigned i = 0; i < u->flow_count; i++) {
        uint8_t packet[LOAD_PAYLOAD_MAX + HEADERS];
        size_t n;
        while (load_flow_deadline(&u->flow[i]) <= now &&
               (n = load_flow_pull(&u->flow[i], packet, now)) > 0) {
            sim_tun_in(u->node, packet, n, 0);
        }
    }
}

static void on_tun(sim_node *node, const uint8_t *packet, size_t len)
{
    user *u = node->user;
    mvpn_ip ip;
    CHECK(mvpn_ip_parse(packet, len, &ip) == 0); /* the header's checksum, too */
    ecn.received++;
    ecn.marked += (packet[1] & 3) == 3;
    if (len < HEADERS + LOAD_PAYLOAD_MIN) {
        return;
    }
    uint32_t who = mvpn_load32(packet + HEADERS + 4) & 1;
    if (who < u->flow_count) {
        load_flow_receive(&u->flow[who], packet, len, node->world->now);
        pump(u, node->world->now);
    }
}

static void tick(sim *w, void *arg)
{
    world *t = arg;
    for (size_t i = 0; i < t->count; i++) {
        pump(&t->users[i], w->now);
    }
    if (!t->is_over) {
        sim_call(w, TICK, tick, t);
    }
}

static bool all_connected(sim *w, void *arg)
{
    world *t = arg;
    (void)w;
    for (size_t i = 0; i < t->count; i++) {
        if (t->users[i].node->connected == 0) {
            return false;
        }
    }
    return true;
}

/* So many clients, all with a session, none with traffic. */
static bool world_begin_at(world *t, uint64_t seed, size_t clients, uint64_t rate,
                           uint64_t exit_rate)
{
    *t = (world){.w = sim_new(seed), .count = clients};
    t->users = calloc(clients, sizeof(*t->users));
    MVPN_ASSERT(t->users != NULL && clients <= CLIENTS_MAX);
    t->w->internet = serve;
    t->w->path.delay = MVPN_MS(2);
    t->w->inet_delay = MVPN_MS(2);
    t->guard = sim_add(t->w, SIM_RELAY);
    t->guard->config.relay_rate = rate;
    t->exit = sim_add(t->w, SIM_EXIT);
    t->exit->config.relay_rate = exit_rate;
    sim_start(t->guard);
    sim_start(t->exit);
    for (size_t i = 0; i < clients; i++) {
        sim_node *n = sim_add(t->w, SIM_CLIENT);
        n->config.packet_count = 256;
        n->user = &t->users[i];
        n->on_tun = on_tun;
        t->users[i].node = n;
        sim_fix_path(n, (sim_node *[]){t->guard, t->exit}, 2);
        sim_start(n);
        sim_for(t->w, MVPN_MS(10));
    }
    return sim_run_until(t->w, all_connected, t, MVPN_S(30));
}

static bool world_begin(world *t, uint64_t seed, size_t clients, uint64_t rate)
{
    return world_begin_at(t, seed, clients, rate, 0);
}

static void world_free(world *t)
{
    t->is_over = true;
    sim_free(t->w);
    free(t->users);
}

static load_flow *add_flow(world *t, size_t i, enum load_kind kind, enum load_direction direction,
                           unsigned kbit)
{
    user *u = &t->users[i];
    load_flow_config c = {
        .kind = kind,
        .direction = direction,
        .client = (uint32_t)i << 1 | u->flow_count,
        .server = {.family = 4, .port = SERVER_PORT},
        .size = LOAD_PAYLOAD_MAX,
        .kbit = kbit,
    };
    memcpy(c.server.ip, server, 4);
    load_flow *f = &u->flow[u->flow_count];
    load_flow_init(f, &c, &u->rtts[u->flow_count]);
    u->flow_count++;
    return f;
}

/* All flows begin; after the warm-up they are counted for so long. */
static void run(world *t, mvpn_time warm_up, mvpn_time span)
{
    for (size_t i = 0; i < t->count; i++) {
        for (unsigned k = 0; k < t->users[i].flow_count; k++) {
            load_flow_start(&t->users[i].flow[k], (double)i / (double)t->count, t->w->now);
        }
    }
    sim_call(t->w, TICK, tick, t);
    sim_for(t->w, warm_up);
    for (size_t i = 0; i < t->count; i++) {
        for (unsigned k = 0; k < t->users[i].flow_count; k++) {
            load_flow_begin_count(&t->users[i].flow[k]);
            t->users[i].rtts[k] = (load_histogram){0};
        }
    }
    sim_for(t->w, span);
}

/* Bytes of the bulk flows, one each; their sum. */
static uint64_t bulk_shares(const world *t, uint64_t *shares, size_t *ret_count)
{
    uint64_t sum = 0;
    *ret_count = 0;
    for (size_t i = 0; i < t->count; i++) {
        if (t->users[i].flow_count > 0 && t->users[i].flow[0].config.kind == LOAD_BULK) {
            shares[*ret_count] = t->users[i].flow[0].counts.bytes;
            sum += shares[(*ret_count)++];
        }
    }
    return sum;
}

static const mvpn_scheduler_counters *drops(const world *t)
{
    return mvpn_relay_get_queue_counters(mvpn_engine_relay(t->guard->engine));
}

/* Circuits that clients gave up, though all nodes live. */
static unsigned lost_circuits(const world *t)
{
    unsigned n = 0;
    for (size_t i = 0; i < t->count; i++) {
        n += t->users[i].node->disconnected + t->users[i].node->build_failed;
    }
    return n;
}

static double ms(uint64_t us)
{
    return (double)us / 1000;
}

/* ---- scenarios ---- */

/* Every client sends, or is sent to, as much as it can: equal shares, and the whole rate is used.
 */
static void fair(uint64_t seed)
{
    const size_t n = scenario_count(200, 40);
    for (int way = LOAD_UP; way <= LOAD_DOWN; way++) {
        world t;
        uint64_t shares[CLIENTS_MAX], rate = n * 6250; /* 50 kbit/s each: as 1,000 at 50 Mbit/s */
        size_t count;
        check_context(way == LOAD_UP ? "up" : "down");
        REQUIRE(world_begin(&t, seed, n, rate), world_free(&t); return );
        for (size_t i = 0; i < n; i++) {
            add_flow(&t, i, LOAD_BULK, (enum load_direction)way, 0);
        }
        run(&t, MVPN_S(5), MVPN_S(15));
        uint64_t sum = bulk_shares(&t, shares, &count), least = UINT64_MAX;
        for (size_t i = 0; i < count; i++) {
            least = MVPN_MIN(least, shares[i]);
        }
        double used = (double)sum / 15 / (double)rate * CELL / LOAD_PAYLOAD_MAX;
        say("%s: %zu clients, Jain's index %.4f, least %.2f of the mean, %.0f %% of the rate, "
            "dropped %llu + %llu, %u circuits lost, %zu built",
            way == LOAD_UP ? "up" : "down", n, load_jain(shares, count),
            (double)least * (double)n / (double)sum, used * 100,
            (unsigned long long)drops(&t)->dropped_codel,
            (unsigned long long)drops(&t)->dropped_full, lost_circuits(&t),
            (size_t)mvpn_relay_get_counters(mvpn_engine_relay(t.guard->engine))->created);
        CHECK(lost_circuits(&t) == 0);
        CHECK(count == n && load_jain(shares, count) >= 0.95);
        CHECK(least * n * 2 > sum);
        CHECK(used > 0.65); /* the answers take their part: 297 bytes for each 1,452 */
        world_free(&t);
    }
}

/* Twice the rate from one that nothing slows down, beside bulk and light traffic. */
static uint64_t flood_beside(uint64_t seed, bool with_flood, uint64_t *ret_p95, double *ret_loss)
{
    enum { BULK = 20, LIGHT = 5 };
    const uint64_t rate = 6250000 / 2; /* 25 Mbit/s */
    world t;
    uint64_t shares[CLIENTS_MAX], sum = 0, sent = 0, lost = 0;
    size_t count;
    load_histogram all = {0};
    REQUIRE(world_begin(&t, seed, BULK + LIGHT + 1, rate), world_free(&t); return 0);
    for (size_t i = 0; i < BULK; i++) {
        add_flow(&t, i, LOAD_BULK, LOAD_UP, 0);
    }
    for (size_t i = BULK; i < BULK + LIGHT; i++) {
        add_flow(&t, i, LOAD_INTERACTIVE, LOAD_UP, 0);
    }
    if (with_flood) {
        add_flow(&t, BULK + LIGHT, LOAD_FLOOD, LOAD_UP, (unsigned)(rate * 2 * 8 / 1000));
    }
    run(&t, MVPN_S(3), MVPN_S(scenario_count(10, 4)));
    sum = bulk_shares(&t, shares, &count);
    for (size_t i = BULK; i < BULK + LIGHT; i++) {
        const load_flow_counts *c = &t.users[i].flow[0].counts;
        sent += c->sent;
        lost += c->lost - c->late;
        for (size_t k = 0; k < LOAD_HISTOGRAM_CELLS; k++) {
            all.cells[k] += t.users[i].rtts[0].cells[k];
        }
        all.count += t.users[i].rtts[0].count;
    }
    *ret_p95 = load_histogram_quantile(&all, 0.95);
    *ret_loss = (double)lost / (double)MVPN_MAX(sent, (uint64_t)1);
    CHECK(sim_packets_in_use(t.guard) < MVPN_ENGINE_PACKETS / 2);
    CHECK(load_jain(shares, count) >= 0.9);
    CHECK(mvpn_relay_get_counters(mvpn_engine_relay(t.guard->engine))->killed == 0);
    world_free(&t);
    return sum;
}

static void flood(uint64_t seed)
{
    uint64_t p95;
    double loss;
    uint64_t alone = flood_beside(seed, false, &p95, &loss);
    say("alone: %.1f MB, light p95 %.1f ms, lost %.2f %%", (double)alone / 1e6, ms(p95),
        loss * 100);
    CHECK(p95 <= MVPN_MS(30));
    uint64_t beside = flood_beside(seed, true, &p95, &loss);
    double fair_part = (double)alone * 20 / 21; /* the flood's circuit has a share too */
    say("beside a flood of twice the rate: %.1f MB, %.1f %% less than the fair share, light p95 "
        "%.1f ms, lost %.2f %%",
        (double)beside / 1e6, (1 - (double)beside / fair_part) * 100, ms(p95), loss * 100);
    CHECK((double)beside > 0.95 * fair_part);
    CHECK(p95 <= MVPN_MS(30));
    CHECK(loss < 0.005);
}

/* Half of the rate is used by steady traffic: what light traffic waits longer for it. */
static void half(uint64_t seed)
{
    uint64_t p95[2];
    for (unsigned with = 0; with < 2; with++) {
        world t;
        const uint64_t rate = 3125000;
        REQUIRE(world_begin(&t, seed, 30, rate), world_free(&t); return );
        for (size_t i = 0; i < 25 && with; i++) {
            add_flow(&t, i, LOAD_BULK, LOAD_DOWN,
                     (unsigned)((double)rate * 8 / 1000 / 2 / 25 * LOAD_PAYLOAD_MAX / CELL));
        }
        for (size_t i = 25; i < 30; i++) {
            add_flow(&t, i, LOAD_INTERACTIVE, LOAD_UP, 0);
        }
        run(&t, MVPN_S(2), MVPN_S(scenario_count(10, 4)));
        load_histogram all = {0};
        for (size_t i = 25; i < 30; i++) {
            for (size_t k = 0; k < LOAD_HISTOGRAM_CELLS; k++) {
                all.cells[k] += t.users[i].rtts[0].cells[k];
            }
            all.count += t.users[i].rtts[0].count;
        }
        p95[with] = load_histogram_quantile(&all, 0.95);
        world_free(&t);
    }
    say("light p95 %.1f ms alone, %.1f ms beside half of the rate", ms(p95[0]), ms(p95[1]));
    CHECK(p95[1] <= p95[0] + MVPN_MS(10));
}

/* A transfer and a light flow in one circuit: the transfer keeps its own queue short. */
static void own_bulk(uint64_t seed)
{
    for (int way = LOAD_UP; way <= LOAD_DOWN; way++) {
        world t;
        const uint64_t rate = 1250000; /* 10 Mbit/s */
        check_context(way == LOAD_UP ? "up" : "down");
        REQUIRE(world_begin(&t, seed, 1, rate), world_free(&t); return );
        add_flow(&t, 0, LOAD_BULK, (enum load_direction)way, 0);
        add_flow(&t, 0, LOAD_INTERACTIVE, LOAD_UP, 0);
        run(&t, MVPN_S(5), MVPN_S(30));
        double used =
            (double)t.users[0].flow[0].counts.bytes / 30 / (double)rate * CELL / LOAD_PAYLOAD_MAX;
        uint64_t p50 = load_histogram_quantile(&t.users[0].rtts[1], 0.5);
        uint64_t p95 = load_histogram_quantile(&t.users[0].rtts[1], 0.95);
        say("%s: %.0f %% of the rate, light p50 %.1f ms, p95 %.1f ms, dropped %llu",
            way == LOAD_UP ? "up" : "down", used * 100, ms(p50), ms(p95),
            (unsigned long long)drops(&t)->dropped_codel);
        CHECK(used > 0.7);
        CHECK(drops(&t)->dropped_codel > 0);
        CHECK(p50 <= MVPN_MS(40) && p95 <= MVPN_MS(70)); /* 12 ms of it are the way */
        world_free(&t);
    }
}

/* An exit whose rate is short marks packets of transports that understand it, and drops others'. */
static void marks(uint64_t seed)
{
    for (unsigned capable = 0; capable < 2; capable++) {
        world t;
        check_context(capable ? "ECT(0)" : "not ECT");
        REQUIRE(world_begin_at(&t, seed, 1, 0, 1250000), world_free(&t); return );
        ecn.tos = capable ? 2 : 0;
        ecn.marked = ecn.received = 0;
        /* Steady, a little more than the rate. */
        add_flow(&t, 0, LOAD_BULK, LOAD_DOWN, 10000);
        run(&t, MVPN_S(1), MVPN_S(5));
        const mvpn_scheduler_counters *c =
            mvpn_relay_get_queue_counters(mvpn_engine_relay(t.exit->engine));
        say("%s: %llu packets, %llu marked, %llu dropped by CoDel", capable ? "ECT(0)" : "not ECT",
            (unsigned long long)ecn.received, (unsigned long long)ecn.marked,
            (unsigned long long)c->dropped_codel);
        CHECK(capable ? ecn.marked > 10 && c->dropped_codel == 0
                      : ecn.marked == 0 && c->dropped_codel > 10);
        ecn.tos = 0;
        world_free(&t);
    }
}

static const scenario scenarios[] = {
    {"marks", marks}, {"fair", fair}, {"flood", flood}, {"half", half}, {"own_bulk", own_bulk},
};

int main(int argc, char **argv)
{
    return scenario_main(argc, argv, scenarios, MVPN_ARRAY_LEN(scenarios));
}
