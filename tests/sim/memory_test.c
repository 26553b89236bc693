/*
 * Memory: none is allocated on the packet path, an idle circuit takes little, and no flood takes
 * more than its bound. Allocations of our code are counted by --wrap, those of libcrypto by its own
 * hooks, each to the node that runs.
 */
#include "inet.h"
#include "puppet.h"
#include "scenario.h"

#include <malloc.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/relay_internal.h"
#include "network/ip/inner.h"
#include "network/ip/testing.h"

/* ---- counting ---- */

static bool is_counting;
static uint64_t calls[SIM_NODES]; /* while counting */
static int64_t bytes[SIM_NODES];  /* held, always */

void *__real_malloc(size_t n);
void *__real_calloc(size_t count, size_t n);
void *__real_realloc(void *p, size_t n);
void __real_free(void *p);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t count, size_t n);
void *__wrap_realloc(void *p, size_t n);
void __wrap_free(void *p);

static void account(void *p, int sign)
{
    if (p != NULL && sim_current != NULL) {
        bytes[sim_current->index] += sign * (int64_t)malloc_usable_size(p);
        calls[sim_current->index] += is_counting;
    }
}

void *__wrap_malloc(size_t n)
{
    void *p = __real_malloc(n);
    account(p, 1);
    return p;
}

void *__wrap_calloc(size_t count, size_t n)
{
    void *p = __real_calloc(count, n);
    account(p, 1);
    return p;
}

void *__wrap_realloc(void *p, size_t n)
{
    account(p, -1);
    p = __real_realloc(p, n);
    account(p, 1);
    return p;
}

void __wrap_free(void *p)
{
    account(p, -1);
    __real_free(p);
}

static void *crypto_malloc(size_t n, const char *file, int line)
{
    (void)file;
    (void)line;
    return __wrap_malloc(n);
}

static void *crypto_realloc(void *p, size_t n, const char *file, int line)
{
    (void)file;
    (void)line;
    return __wrap_realloc(p, n);
}

static void crypto_free(void *p, const char *file, int line)
{
    (void)file;
    (void)line;
    __wrap_free(p);
}

/* ---- the packet path ---- */

static void count_transfer(uint64_t seed, unsigned hops, enum mvpn_aead_backend backend)
{
    sim *w = sim_new(seed);
    inet_host host;
    check_context("%u hops, backend %d", hops, (int)backend);
    for (size_t i = 0; i < 7; i++) {
        sim_add(w, i < 5 ? SIM_RELAY : i < 6 ? SIM_EXIT : SIM_CLIENT)->config.backend = backend;
    }
    for (size_t i = 0; i < 7; i++) {
        if (w->node[i]->kind == SIM_CLIENT) {
            w->node[i]->client.hops = hops;
        }
        sim_start(w->node[i]);
    }
    w->path.loss = 5000;
    w->path.reorder = 20000;
    w->path.reorder_delay = MVPN_MS(15);
    sim_node *client = sim_client(w);
    inet_host_attach(&host, client);
    CHECK(sim_connect(client, MVPN_S(30)));
    sim_for(w, MVPN_S(5)); /* the spare circuit is there too */
    /* Warm: tables that grow once, the table for fragments. */
    CHECK(inet_transfer_run(client, INET_DOWN, 1000000, 128, MVPN_S(60)));
    CHECK(inet_transfer_run(client, INET_UP, 1000000, 128, MVPN_S(60)));
    (void)inet_echo(client, 4, 1420, MVPN_S(2)); /* one may be lost */
    (void)inet_echo(client, 4, 1420, MVPN_S(2));
    memset(calls, 0, sizeof(calls));
    uint64_t datagrams = w->datagrams;
    is_counting = true;
    CHECK(inet_transfer_run(client, INET_DOWN, scenario_count(4000000, 500000), 128, MVPN_S(40)));
    CHECK(inet_transfer_run(client, INET_UP, scenario_count(4000000, 500000), 128, MVPN_S(40)));
    for (unsigned i = 0; i < 20; i++) {
        (void)inet_echo(client, i % 2 == 0 ? 4 : 6, i % 2 == 0 ? 1420 : 1280, MVPN_S(1));
        (void)inet_ping(client, 4, 84, MVPN_S(1));
        (void)inet_resolve(client, MVPN_S(1));
    }
    is_counting = false;
    uint64_t total = 0;
    for (size_t i = 0; i < w->node_count; i++) {
        total += calls[i];
        if (calls[i] != 0) {
            say("%s: %llu", w->node[i]->name, (unsigned long long)calls[i]);
        }
    }
    say("%u hops: %llu allocations in %llu datagrams", hops, (unsigned long long)total,
        (unsigned long long)(w->datagrams - datagrams));
    CHECK(total == 0);
    CHECK(w->datagrams - datagrams > 1000);
    inet_host_done(&host);
    sim_free(w);
}

static void packet_path(uint64_t seed)
{
    count_transfer(seed, 3, MVPN_AEAD_AUTO);
    count_transfer(seed, 3, MVPN_AEAD_OPENSSL);
    count_transfer(seed, 5, MVPN_AEAD_AUTO);
}

/* ---- idle circuits ---- */

/* As a client does with its spare circuit: a relay forgets those that stay silent for two minutes.
 */
static void ping_all(puppet *p)
{
    for (size_t i = 0; i < p->count; i++) {
        puppet_send(p, &p->circuit[i], 2, MVPN_CMD_RELAY_PING, false, (const uint8_t *)"12345678",
                    8);
        if (i % 64 == 63) {
            sim_for(p->node->world, MVPN_MS(20));
        }
    }
    sim_for(p->node->world, MVPN_MS(100));
}

static void idle_circuits(uint64_t seed)
{
    size_t count = scenario_count(1000, 200), built = 0;
    sim *w = sim_standard(seed, 2, 0, 2);
    sim_node *guard = w->node[0], *middle = w->node[1];
    puppet *p = puppet_new(w);
    for (unsigned i = 0; i < 3; i++) { /* the link, and tables' first size */
        puppet_circuit *c = puppet_build(p, w->node, 2);
        REQUIRE(c != NULL, puppet_free(p); sim_free(w); return );
        puppet_send(p, c, 2, MVPN_CMD_RELAY_PING, false, (const uint8_t *)"12345678", 8);
    }
    sim_for(w, MVPN_S(5));
    int64_t before[2] = {bytes[guard->index], bytes[middle->index]};
    size_t packets = sim_packets_in_use(guard) + sim_packets_in_use(middle);
    for (size_t i = 0; i < count; i++) { /* within 20 a second */
        puppet_circuit *c = puppet_build(p, w->node, 2);
        built += c != NULL;
        if (c == NULL) {
            break;
        }
        if (i % 200 == 199) {
            ping_all(p);
        }
        sim_for(w, MVPN_MS(60));
    }
    ping_all(p);
    sim_for(w, MVPN_S(60));
    CHECK(built == count);
    CHECK(sim_circuits(guard) == count + 3 && sim_circuits(middle) == count + 3);
    int64_t each[2] = {(bytes[guard->index] - before[0]) / (int64_t)count,
                       (bytes[middle->index] - before[1]) / (int64_t)count};
    say("%zu circuits: %lld bytes each at the guard, %lld at the last hop (struct %zu)", count,
        (long long)each[0], (long long)each[1], mvpn_relay_circuit_size());
    CHECK(each[0] > 0 && each[0] <= 4096);
    CHECK(each[1] > 0 && each[1] <= 4096);
    CHECK(sim_packets_in_use(guard) + sim_packets_in_use(middle) <= packets);
    puppet_free(p);
    sim_for(w, MVPN_S(5));
    CHECK(sim_circuits_total(w) == 0);
    /* All of it comes back but what the tables keep. */
    CHECK(bytes[guard->index] - before[0] < (int64_t)count * 128 + 65536);
    sim_free(w);
}

/* Each of a client of its own, with a link. */
static void idle_clients(uint64_t seed)
{
    enum { CLIENTS = 12 };
    sim *w = sim_standard(seed, 2, 0, 2);
    sim_node *guard = w->node[0];
    puppet *p[CLIENTS + 2];
    int64_t before = 0;
    for (size_t i = 0; i < CLIENTS + 2; i++) { /* two for the first size of tables */
        before = i == 2 ? bytes[guard->index] : before;
        p[i] = puppet_new(w);
        puppet_circuit *c = puppet_build(p[i], w->node, 2);
        CHECK(c != NULL);
        if (c != NULL) {
            puppet_send(p[i], c, 2, MVPN_CMD_RELAY_PING, false, (const uint8_t *)"12345678", 8);
        }
        sim_for(w, MVPN_MS(500));
    }
    sim_for(w, MVPN_S(60));
    int64_t each = (bytes[guard->index] - before) / CLIENTS;
    CHECK(sim_circuits(guard) == CLIENTS + 2 && sim_links(guard) >= CLIENTS + 2);
    say("%d clients: %lld bytes each at the guard", CLIENTS, (long long)each);
    CHECK(each > 0 && each <= 4096);
    for (size_t i = 0; i < CLIENTS + 2; i++) {
        puppet_free(p[i]);
    }
    sim_free(w);
}

/* ---- floods ---- */

static void create_flood(uint64_t seed)
{
    sim *w = sim_standard(seed, 2, 0, 2);
    sim_node *guard = w->node[0];
    puppet *p = puppet_new(w);
    CHECK(puppet_build(p, w->node, 1) != NULL);
    mvpn_time begin = w->now;
    int64_t before = bytes[guard->index];
    size_t started = 0, most = 0;
    for (unsigned i = 0; i < 15; i++) {
        for (unsigned j = 0; j < 100; j++) {
            started += puppet_start(p, w->node, 1) != NULL;
        }
        sim_for(w, MVPN_MS(100));
        most = sim_circuits(guard) > most ? sim_circuits(guard) : most;
    }
    double seconds = (double)(w->now - begin) / 1e6;
    say("%zu Creates in %.1f s: at most %zu circuits, %lld bytes", started, seconds, most,
        (long long)(bytes[guard->index] - before));
    CHECK(started > 500);
    CHECK((double)most <= 90 + 20 * seconds + 1);
    CHECK(bytes[guard->index] - before <= 4096 * (int64_t)(most + 1) + 65536);
    CHECK(mvpn_relay_get_counters(mvpn_engine_relay(guard->engine))->refused > 0);
    /* Unused, they go after 30 s. */
    for (size_t i = 0; i < p->count; i++) {
        p->circuit[i].is_raw = true;
    }
    sim_for(w, MVPN_S(35));
    CHECK(sim_circuits(guard) == 0);
    puppet_free(p);
    sim_free(w);
}

static sim_datagram first_packet;
static bool has_first;

static bool catch_first(sim *w, sim_node *from, sim_node *to, sim_datagram *d)
{
    (void)w;
    (void)to;
    if (from->kind == SIM_PUPPET) {
        first_packet = *d;
        has_first = true;
        return false;
    }
    return true;
}

/* Right first packets from everywhere, by somebody who knows the network's secret. */
static void link_flood(uint64_t seed)
{
    sim *w = sim_standard(seed, 2, 1, 3);
    sim_node *guard = w->node[0];
    sim_node *flooder = sim_add(w, SIM_PUPPET);
    inet_host host;
    flooder->config.packet_count = 64;
    w->tap = catch_first;
    int64_t before = bytes[guard->index];
    size_t count = scenario_count(3000, 500);
    for (size_t i = 0; i < count; i++) {
        mvpn_link *link;
        mvpn_link_target target = {guard->config.identity, guard->config.link_key.pub,
                                   guard->addr[0]};
        sim_start(flooder);
        int r = mvpn_links_open(flooder->links, &target, w->now, &link);
        sim_touch(flooder);
        has_first = false;
        sim_run(w, w->now);
        sim_stop(flooder, false);
        REQUIRE(r == 0 && has_first, break);
        first_packet.from = (mvpn_addr){
            .family = 4, .port = 1, .ip = {99, (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i}};
        sim_inject(w, &first_packet, 1);
        sim_for(w, MVPN_US_PER_MS / 2);
    }
    const mvpn_links_counters *counters = mvpn_links_get_counters(mvpn_engine_links(guard->engine));
    say("%zu first packets: %llu answered, %llu cookies, %lld bytes held", count,
        (unsigned long long)counters->handshakes, (unsigned long long)counters->cookies,
        (long long)(bytes[guard->index] - before));
    CHECK(counters->cookies > count / 4);
    /* Load from 64 half-open links or 100 first packets a second on: nothing grows beyond. */
    CHECK(bytes[guard->index] - before < 300 * 16384);
    CHECK(sim_links(guard) == 0);
    /* An honest client passes through it all the same. */
    sim_node *client = sim_client(w);
    inet_host_attach(&host, client);
    sim_fix_path(client, w->node, 3);
    sim_start(client);
    CHECK(sim_connect(client, MVPN_S(5)));
    CHECK(inet_echo(client, 4, 100, MVPN_S(2)));
    sim_for(w, MVPN_S(30));
    CHECK(sim_links(guard) == 2);
    sim_free(w);
}

/* First halves of packets, never the second ones. */
static void fragment_flood(uint64_t seed)
{
    sim *w = sim_standard(seed, 1, 1, 2);
    sim_node *exit = w->node[1];
    uint8_t body[600] = {0};
    mvpn_begin begin = {.request_id = 7, .profile = 0};
    puppet *p = puppet_new(w);
    puppet_circuit *c = puppet_build(p, w->node, 2);
    REQUIRE(c != NULL, puppet_free(p); sim_free(w); return );
    size_t len = mvpn_begin_encode(body, sizeof(body), &begin);
    puppet_send(p, c, 2, MVPN_CMD_RELAY_BEGIN, true, body, len);
    sim_for(w, MVPN_MS(200));
    CHECK(c->command == MVPN_CMD_RELAY_CONNECTED);
    size_t most = 0;
    int64_t first = 0;
    for (unsigned i = 0; i < 3000; i++) {
        memset(body, 0, sizeof(body));
        mvpn_store16(body, 0x8000 + 1400);
        mvpn_store16(body + 2, (uint16_t)i);
        puppet_send(p, c, 2, MVPN_CMD_RELAY_DATA, false, body, sizeof(body));
        sim_for(w, MVPN_US_PER_MS / 5);
        most = sim_packets_in_use(exit) > most ? sim_packets_in_use(exit) : most;
        if (i == 500) {
            first = bytes[exit->index];
        }
    }
    say("at most %zu packets held", most);
    CHECK(most >= 32 && most <= 64 + 16);
    CHECK(bytes[exit->index] == first);
    /* The session goes on, and what was held is given back at its end. */
    puppet_free(p);
    sim_for(w, MVPN_S(3));
    CHECK(sim_packets_in_use(exit) == 0);
    CHECK(w->inet_packets == 0);
    sim_free(w);
}

/* ---- Begins ---- */

/* Somebody with circuits to an exit, who begins without end: guesses tickets, asks for more than
 * its share, leaves sessions lying about, hands one to and fro, repeats himself. */
typedef struct beginner {
    puppet *p;
    sim_node *exit;
    puppet_circuit *steady;        /* has a session */
    puppet_circuit *to_and_fro[2]; /* have another one in turn */
    uint8_t ticket[MVPN_TICKET_LEN];
    uint32_t epoch;
    bool is_asked;
    puppet_circuit *fresh; /* the latest */
    uint32_t request_id;
    size_t begins, circuits, moved;
} beginner;

static void send_begin(beginner *b, puppet_circuit *c, uint32_t epoch, const uint8_t *ticket)
{
    uint8_t body[64];
    mvpn_begin m = {
        .request_id = b->request_id,
        .epoch = epoch,
        .ticket = epoch == 0 ? MVPN_BYTES_NONE : mvpn_bytes_of(ticket, MVPN_TICKET_LEN),
    };
    size_t n = mvpn_begin_encode(body, sizeof(body), &m);
    puppet_send(b->p, c, 1, MVPN_CMD_RELAY_BEGIN, false, body, n);
    b->begins++;
}

static bool take_ticket(beginner *b, puppet_circuit *c)
{
    mvpn_connected m;
    bool is_one = c->command == MVPN_CMD_RELAY_CONNECTED &&
                  mvpn_connected_decode(&m, mvpn_bytes_of(c->data, c->len)) == 0 && m.status == 0;
    if (is_one) {
        memcpy(b->ticket, m.ticket.p, sizeof(b->ticket));
    }
    c->command = 0;
    return is_one;
}

/* As many circuits as are given: each tries what ends it, or leaves a session behind. */
static void use_up(beginner *b, unsigned round)
{
    puppet_circuit *c = b->fresh;
    uint8_t guess[MVPN_TICKET_LEN] = {(uint8_t)round, (uint8_t)(round >> 8), 7};
    if (c != NULL && c->c.state == MVPN_CIRCUIT_READY) {
        c->is_raw = true;
        b->circuits++;
        for (unsigned i = 0; i < 20; i++) {
            b->request_id++;
            guess[3] = (uint8_t)i;
            send_begin(b, c, round % 2 == 0 ? 1 : 0, guess);
        }
        if (round % 2 != 0) { /* a packet, which makes the session worth keeping */
            uint8_t body[64];
            size_t n =
                build_icmp(body + 2, 4, mvpn_inner_client(4), mvpn_inner_gateway(4), 8, 0, 4);
            mvpn_store16(body, (uint16_t)n);
            puppet_send(b->p, c, 1, MVPN_CMD_RELAY_DATA, false, body, n + 2);
            sim_current = b->p->node;
            mvpn_circuit_close(&c->c, 0, MVPN_REASON_FINISHED, 0, b->p->node->world->now);
            sim_current = NULL;
            sim_touch(b->p->node);
        }
        b->fresh = NULL;
    }
    if (b->fresh == NULL && b->p->count < PUPPET_CIRCUITS) {
        b->fresh = puppet_start(b->p, &b->exit, 1);
    }
}

static void begin_more(beginner *b, unsigned round)
{
    puppet_circuit *other = b->to_and_fro[1 - b->epoch % 2];
    for (unsigned i = 0; i < 96; i++) {
        send_begin(b, b->steady, 0, NULL); /* the one answered, again; others are ignored */
        b->request_id += i % 4 == 0;
    }
    if (round % 10 == 0) { /* each 50 ms: as many as a link may create */
        use_up(b, round / 10);
    }
    if (b->is_asked && take_ticket(b, other)) {
        b->epoch++;
        b->moved++;
        b->is_asked = false;
    } else if (!b->is_asked) {
        b->request_id++;
        send_begin(b, other, b->epoch + 1, b->ticket);
        other->command = 0;
        b->is_asked = true;
    }
}

static double transfer_time(sim_node *client, bool *ret_ok)
{
    mvpn_time began = client->world->now;
    *ret_ok = inet_transfer_run(client, INET_DOWN, 2000000, 64, MVPN_S(60));
    return (double)(client->world->now - began) / 1e6;
}

static void begin_flood(uint64_t seed)
{
    sim *w = sim_standard(seed, 2, 1, 3);
    inet_host host;
    beginner b = {.p = NULL, .exit = w->node[2], .request_id = 1};
    sim_node *client = sim_client(w), *exit = b.exit;
    mvpn_exit *core = mvpn_engine_exit(exit->engine);
    inet_host_attach(&host, client);
    sim_fix_path(client, w->node, 3);
    sim_start(client);
    REQUIRE(sim_connect(client, MVPN_S(10)), sim_free(w); return );
    sim_for(w, MVPN_S(5));
    bool ok[2];
    double alone = transfer_time(client, &ok[0]);
    b.p = puppet_new(w);
    puppet_circuit **mine[] = {&b.steady, &b.to_and_fro[0], &b.to_and_fro[1]};
    for (unsigned i = 0; i < MVPN_ARRAY_LEN(mine); i++) {
        *mine[i] = puppet_build(b.p, &exit, 1);
        REQUIRE(*mine[i] != NULL, puppet_free(b.p); sim_free(w); return );
    }
    send_begin(&b, b.steady, 0, NULL);
    send_begin(&b, b.to_and_fro[0], 0, NULL);
    sim_for(w, MVPN_MS(200));
    CHECK(take_ticket(&b, b.to_and_fro[0]));
    const int64_t before = bytes[exit->index];
    const uint32_t limit = mvpn_exit_sessions_max(core) / MVPN_SESSION_DETACHED_SHARE;
    const size_t count = scenario_count(1000000, 100000);
    int64_t most = 0;
    uint32_t detached = 0;
    size_t in_use = 0;
    clock_t cpu = clock();
    inet_transfer_start(client, INET_DOWN, 2000000, 64);
    mvpn_time began = w->now;
    double beside = 0;
    for (unsigned round = 0; b.begins < count; round++) {
        begin_more(&b, round);
        sim_for(w, MVPN_MS(5));
        most = bytes[exit->index] - before > most ? bytes[exit->index] - before : most;
        detached = MVPN_MAX(detached, mvpn_exit_session_detached_count(core));
        in_use = MVPN_MAX(in_use, sim_packets_in_use(exit));
        if (host.transfer.is_over && beside == 0) {
            beside = (double)(w->now - began) / 1e6;
        }
    }
    double each = (double)(clock() - cpu) / CLOCKS_PER_SEC * 1e6 / (double)b.begins;
    say("%zu Begins by %zu circuits, %zu take-overs: %.1f us each (both ends), %lld bytes, "
        "%u sessions detached, %zu packets",
        b.begins, b.circuits, b.moved, each, (long long)most, detached, in_use);
    say("a transfer beside: %.2f s, alone %.2f s", beside, alone);
    CHECK(b.moved > 10 && b.circuits > 50);
    CHECK(detached > 0 && detached <= limit);
    CHECK(scenario_is_fast() || detached == limit);
    CHECK(mvpn_exit_session_count(core) <= limit + SESSION_BURST);
    CHECK(most < 1024 * (int64_t)(limit + SESSION_BURST + CREATE_BURST));
    CHECK(in_use < limit + 64); /* an answer waits in each */
    CHECK(ok[0] && beside > 0 && beside <= 1.05 * alone);
    CHECK(client->disconnected == 0 && client->sessions_lost == 0);
    CHECK(inet_echo(client, 4, 100, MVPN_S(2)));
    CHECK(scenario_is_fast() || each < 60);
    puppet_free(b.p);
    inet_host_done(&host);
    sim_free(w);
}

/* Many clients at one exit: all of it goes with them. */
static void many_clients(uint64_t seed)
{
    size_t count = scenario_count(40, 8);
    sim *w = sim_new(seed);
    for (size_t i = 0; i < 6; i++) {
        sim_add(w, i < 5 ? SIM_RELAY : SIM_EXIT);
    }
    for (size_t i = 0; i < 6; i++) {
        sim_start(w->node[i]);
    }
    sim_node *exit = w->node[5];
    inet_host *hosts = calloc(count, sizeof(*hosts));
    MVPN_ASSERT(hosts != NULL);
    for (size_t i = 0; i < count; i++) {
        sim_node *client = sim_add(w, SIM_CLIENT);
        client->config.packet_count = 512;
        inet_host_attach(&hosts[i], client);
        sim_start(client);
    }
    sim_for(w, MVPN_S(10));
    for (size_t i = 0; i < count; i++) {
        check_context("client %zu", i);
        CHECK(inet_echo(w->node[6 + i], 4, 100, MVPN_S(2)));
    }
    CHECK(mvpn_exit_session_count(mvpn_engine_exit(exit->engine)) == count);
    for (size_t i = 0; i < count; i++) {
        sim_stop(w->node[6 + i], i % 2 == 0);
    }
    sim_for(w, MVPN_S(60));
    CHECK(sim_circuits_total(w) == 0);
    sim_for(w, MVPN_SESSION_DETACHED_TIME); /* those that went without a word */
    CHECK(mvpn_exit_session_count(mvpn_engine_exit(exit->engine)) == 0);
    for (size_t i = 0; i < 6; i++) {
        CHECK(sim_packets_in_use(w->node[i]) == 0);
    }
    free(hosts);
    sim_free(w);
}

int main(int argc, char **argv)
{
    static const scenario scenarios[] = {
        {"packet_path", packet_path},   {"idle_circuits", idle_circuits},
        {"idle_clients", idle_clients}, {"create_flood", create_flood},
        {"link_flood", link_flood},     {"fragment_flood", fragment_flood},
        {"many_clients", many_clients}, {"begin_flood", begin_flood},
    };
    if (CRYPTO_set_mem_functions(crypto_malloc, crypto_realloc, crypto_free) != 1) {
        printf("libcrypto has allocated before: its allocations are not counted\n");
        return 1;
    }
    return scenario_main(argc, argv, scenarios, MVPN_ARRAY_LEN(scenarios));
}
