/*
 * Sessions that outlive circuits, seen from both ends: numbered packets each way and a TCP
 * connection run through whatever happens, a server on the internet watches from which address of
 * which exit they come. (docs/protocol.md §7.1, §7.2)
 */
#include "scenario.h"
#include "sim.h"

#include <stdlib.h>
#include <string.h>

#include "core/flows.h"
#include "network/ip/inner.h"
#include "network/ip/testing.h"

/* One way between any two: 48 ms of round trip to the exit, 50 to the server. */
#define HOP_DELAY MVPN_MS(8)
#define INET_DELAY MVPN_MS(1)
#define PACE MVPN_MS(25)
#define STREAM_MAX 40000
#define STREAMS 3
#define STREAM_BYTES 120
#define STREAM_PORT 9100
#define TCP_PORT 9200
#define TCPS 16
#define TCP_BYTES 100
#define TCP_PACE MVPN_MS(50)
#define TCP_AGAIN MVPN_MS(400)
#define WORLDS_MAX 200
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

static const uint8_t server_ip[4] = {93, 184, 7, 34};

/* Where a packet comes from, as the internet sees it: a session has an address of its own. */
typedef struct origin {
    sim_node *exit;
    uint8_t pool[4];
} origin;

typedef struct direction {
    uint32_t sent, came, twice;
    mvpn_time last, gap; /* between two that came */
    bool has[STREAM_MAX];
} direction;

/* Numbered packets, both ways at the same pace. */
typedef struct stream {
    uint16_t port;
    size_t bytes;
    mvpn_time pace;
    bool is_on, is_known; /* to the server */
    origin from;
    unsigned moves; /* of the origin */
    direction up, down;
} stream;

/* A host's connection: it sends a piece, the server sends one back, then the next. */
typedef struct tcp {
    uint16_t port;
    bool is_on, is_open, is_reset;
    uint32_t begin, server_begin;
    uint32_t snd, rcv; /* next byte to send, next byte awaited */
    mvpn_time sent;
    unsigned rounds;
    unsigned resets, bad_resets;
    origin from;
    bool is_known;
    unsigned strays; /* from elsewhere than it began */
} tcp;

typedef struct world {
    sim *w;
    sim_node *client;
    stream stream[STREAMS];
    tcp tcp[TCPS];
    const sim_node *silent; /* nothing from it or to it */
    const sim_node *flapping;
    const sim_node *stalled;
    mvpn_time stalled_until;
    bool has_spare; /* there can be a spare circuit */
    uint64_t bad;   /* packets that are none */
} world;

static world one;

/* ---- packets ---- */

static size_t make_udp(uint8_t *p, const uint8_t *src, uint16_t sport, const uint8_t *dst,
                       uint16_t dport, uint32_t number, size_t bytes)
{
    size_t n = build_udp(p, 4, src, sport, dst, dport, bytes - 28);
    mvpn_store32(p + 28, number);
    slow_fix(p, n);
    return n;
}

static size_t make_tcp(uint8_t *p, const uint8_t *src, uint16_t sport, const uint8_t *dst,
                       uint16_t dport, uint8_t flags, uint32_t seq, uint32_t ack, size_t bytes)
{
    size_t n = build_tcp(p, 4, src, sport, dst, dport, flags, seq, bytes);
    mvpn_store32(p + 28, ack);
    slow_fix(p, n);
    return n;
}

static void note(direction *d, uint32_t number, mvpn_time now)
{
    if (number >= d->sent || d->has[number]) {
        d->twice++;
        return;
    }
    d->has[number] = true;
    d->came++;
    d->gap = MVPN_MAX(d->gap, now - d->last);
    d->last = now;
}

static bool origin_is(const origin *o, const sim_node *exit, const uint8_t *pool)
{
    return o->exit == exit && memcmp(o->pool, pool, sizeof(o->pool)) == 0;
}

static origin origin_of(sim_node *exit, const uint8_t *packet)
{
    origin o = {.exit = exit};
    memcpy(o.pool, packet + 12, sizeof(o.pool));
    return o;
}

/* ---- the server ---- */

static stream *find_stream(world *t, uint16_t port)
{
    for (size_t i = 0; i < STREAMS; i++) {
        if (port != 0 && t->stream[i].port == port) {
            return &t->stream[i];
        }
    }
    return NULL;
}

static tcp *find_tcp(world *t, uint16_t port)
{
    for (size_t i = 0; i < TCPS; i++) {
        if (port != 0 && t->tcp[i].port == port) {
            return &t->tcp[i];
        }
    }
    return NULL;
}

static void serve_stream(world *t, sim_node *exit, const uint8_t *p)
{
    stream *s = find_stream(t, mvpn_load16(p + 20));
    if (s == NULL) {
        t->bad++;
        return;
    }
    if (!s->is_known || !origin_is(&s->from, exit, p + 12)) {
        s->moves += s->is_known;
        s->from = origin_of(exit, p);
        s->is_known = true;
    }
    note(&s->up, mvpn_load32(p + 28), t->w->now);
}

/* Each piece is answered by as much, at the same place of the other direction. */
static void serve_tcp(world *t, sim_node *exit, const uint8_t *p, size_t len)
{
    uint8_t out[1500];
    tcp *c = find_tcp(t, mvpn_load16(p + 20));
    uint8_t flags = p[33];
    uint32_t seq = mvpn_load32(p + 24);
    if (c == NULL) {
        t->bad++;
        return;
    }
    if (!c->is_known) {
        c->from = origin_of(exit, p);
        c->is_known = true;
    }
    if (!origin_is(&c->from, exit, p + 12)) {
        c->strays++;
        return;
    }
    bool is_syn = (flags & TCP_SYN) != 0;
    size_t piece = len - 20 - (size_t)(p[32] >> 4) * 4;
    if (!is_syn && piece == 0) {
        return;
    }
    uint32_t answer = c->server_begin + (is_syn ? 0 : seq - c->begin);
    size_t n =
        make_tcp(out, p + 16, TCP_PORT, p + 12, c->port, is_syn ? TCP_SYN | TCP_ACK : TCP_ACK,
                 answer, seq + (is_syn ? 1 : (uint32_t)piece), piece);
    sim_tun_in(exit, out, n, 2 * INET_DELAY);
}

static bool internet(sim *w, sim_node *exit, const uint8_t *packet, size_t len)
{
    world *t = w->user;
    if (len < 40 || packet[0] != 0x45 || !slow_ok(packet, len)) {
        t->bad++;
    } else if (packet[9] == 17 && mvpn_load16(packet + 22) == STREAM_PORT) {
        serve_stream(t, exit, packet);
    } else if (packet[9] == 6 && mvpn_load16(packet + 22) == TCP_PORT) {
        serve_tcp(t, exit, packet, len);
    } else {
        t->bad++;
    }
    return true;
}

/* ---- the host ---- */

static void tcp_send(world *t, tcp *c, uint8_t flags, size_t bytes)
{
    uint8_t out[1500];
    size_t n = make_tcp(out, mvpn_inner_client(4), c->port, server_ip, TCP_PORT, flags, c->snd,
                        (flags & TCP_ACK) != 0 ? c->rcv : 0, bytes);
    c->sent = t->w->now;
    sim_tun_in(t->client, out, n, 0);
}

static void tcp_came(world *t, tcp *c, const uint8_t *p, size_t len)
{
    uint8_t flags = p[33];
    uint32_t seq = mvpn_load32(p + 24), ack = mvpn_load32(p + 28);
    size_t bytes = len - 40;
    if ((flags & TCP_RST) != 0) {
        c->resets++;
        /* A host takes the next byte that it awaits and nothing else. (RFC 5961 §3.2) */
        bool is_good = c->is_open ? seq == c->rcv : (flags & TCP_ACK) != 0 && ack == c->begin + 1;
        is_good = is_good && bytes == 0 && (p[32] >> 4) == 5;
        c->bad_resets += !is_good;
        c->is_reset = c->is_reset || is_good;
        return;
    }
    if (!c->is_open && (flags & TCP_SYN) != 0 && ack == c->begin + 1) {
        c->is_open = true;
        c->snd = c->begin + 1;
        c->rcv = seq + 1;
        tcp_send(t, c, TCP_ACK, 0);
    } else if (c->is_open && bytes > 0 && seq == c->rcv && ack == c->snd + TCP_BYTES) {
        c->snd += TCP_BYTES;
        c->rcv += TCP_BYTES;
        c->rounds++;
        tcp_send(t, c, TCP_ACK, 0);
        c->sent = 0; /* the next piece */
    }
}

static void host(sim_node *client, const uint8_t *packet, size_t len)
{
    world *t = client->world->user;
    stream *s;
    tcp *c;
    if (len < 40 || packet[0] != 0x45 || !slow_ok(packet, len) ||
        memcmp(packet + 12, server_ip, 4) != 0 ||
        memcmp(packet + 16, mvpn_inner_client(4), 4) != 0) {
        t->bad++;
    } else if (packet[9] == 17 && (s = find_stream(t, mvpn_load16(packet + 22))) != NULL) {
        note(&s->down, mvpn_load32(packet + 28), t->w->now);
    } else if (packet[9] == 6 && (c = find_tcp(t, mvpn_load16(packet + 22))) != NULL) {
        tcp_came(t, c, packet, len);
    } else {
        t->bad++;
    }
}

static void stream_step(sim *w, void *arg)
{
    world *t = w->user;
    stream *s = arg;
    uint8_t out[1500];
    if (!s->is_on || s->up.sent == STREAM_MAX || s->down.sent == STREAM_MAX) {
        return;
    }
    size_t n = make_udp(out, mvpn_inner_client(4), s->port, server_ip, STREAM_PORT, s->up.sent++,
                        s->bytes);
    sim_tun_in(t->client, out, n, 0);
    if (s->is_known) {
        n = make_udp(out, server_ip, STREAM_PORT, s->from.pool, s->port, s->down.sent++, s->bytes);
        sim_tun_in(s->from.exit, out, n, 2 * INET_DELAY);
    }
    sim_call(w, s->pace, stream_step, s);
}

static stream *stream_start(world *t, size_t bytes, mvpn_time pace)
{
    size_t i = 0;
    while (t->stream[i].port != 0) {
        i++;
    }
    MVPN_ASSERT(i < STREAMS);
    stream *s = &t->stream[i];
    s->port = (uint16_t)(41000 + i);
    s->bytes = bytes;
    s->pace = pace;
    s->is_on = true;
    s->up.last = s->down.last = t->w->now;
    stream_step(t->w, s);
    return s;
}

static void tcp_step(sim *w, void *arg)
{
    world *t = w->user;
    tcp *c = arg;
    if (!c->is_on || c->is_reset) {
        return;
    }
    if (w->now - c->sent >= TCP_AGAIN) {
        tcp_send(t, c, c->is_open ? TCP_ACK : TCP_SYN, c->is_open ? TCP_BYTES : 0);
    }
    sim_call(w, TCP_PACE, tcp_step, c);
}

static tcp *tcp_start(world *t)
{
    size_t i = 0;
    while (t->tcp[i].port != 0) {
        i++;
    }
    MVPN_ASSERT(i < TCPS);
    tcp *c = &t->tcp[i];
    *c = (tcp){.port = (uint16_t)(42000 + i), .is_on = true};
    c->begin = c->snd = 0xfffffe00u + (uint32_t)i; /* past the end of the numbers, soon */
    c->server_begin = 0x7fffff00u + (uint32_t)i;
    tcp_step(t->w, c);
    return c;
}

/* ---- worlds ---- */

static bool tap(sim *w, sim_node *from, sim_node *to, sim_datagram *d)
{
    world *t = w->user;
    if (t->silent != NULL && (from == t->silent || to == t->silent)) {
        return false;
    }
    if (t->flapping != NULL && (from == t->flapping || to == t->flapping)) {
        return w->now % MVPN_S(2) >= MVPN_MS(300);
    }
    if (t->stalled != NULL && w->now < t->stalled_until &&
        (from == t->stalled || to == t->stalled)) {
        sim_inject(w, d, t->stalled_until - w->now + w->path.delay);
        return false;
    }
    return true;
}

static world *world_make(uint64_t seed, size_t relays, size_t exits, unsigned hops)
{
    world *t = &one;
    memset(t, 0, sizeof(*t));
    t->w = sim_standard(seed, relays, exits, hops);
    t->w->user = t;
    t->w->path.delay = HOP_DELAY;
    t->w->inet_delay = INET_DELAY;
    t->w->internet = internet;
    t->w->tap = tap;
    t->client = sim_client(t->w);
    t->client->on_tun = host;
    t->has_spare = hops > 1 && relays > 1;
    return t;
}

static bool has_spare(sim *w, void *arg)
{
    mvpn_client_status s;
    (void)w;
    sim_status(((const world *)arg)->client, &s);
    return s.state == MVPN_CLIENT_CONNECTED && s.has_spare && s.rtt_us != 0;
}

/* Connected, with a spare circuit where there can be one, and a stream and a connection run. */
static bool world_run(world *t)
{
    sim_start(t->client);
    bool is_there = sim_connect(t->client, MVPN_S(10)) &&
                    (!t->has_spare || sim_run_until(t->w, has_spare, t, MVPN_S(20)));
    CHECK(is_there);
    stream_start(t, STREAM_BYTES, PACE);
    tcp_start(t);
    sim_for(t->w, MVPN_S(1));
    CHECK(t->stream[0].down.came > 30 && t->tcp[0].is_open);
    return is_there;
}

static world *world_new(uint64_t seed, size_t relays, size_t exits, unsigned hops)
{
    world *t = world_make(seed, relays, exits, hops);
    world_run(t);
    return t;
}

static void world_free(world *t)
{
    for (size_t i = 0; i < STREAMS; i++) {
        CHECK(t->stream[i].up.twice == 0 && t->stream[i].down.twice == 0);
    }
    for (size_t i = 0; i < TCPS; i++) {
        CHECK(t->tcp[i].strays == 0 && t->tcp[i].bad_resets == 0);
    }
    CHECK(t->bad == 0);
    sim_free(t->w);
    t->w = NULL;
}

static mvpn_client_status status_of(const world *t)
{
    mvpn_client_status s;
    sim_status(t->client, &s);
    return s;
}

static void set_talking(world *t, bool is_on)
{
    for (size_t i = 0; i < STREAMS; i++) {
        if (t->stream[i].port != 0 && t->stream[i].is_on != is_on) {
            t->stream[i].is_on = is_on;
            stream_step(t->w, &t->stream[i]);
        }
    }
    for (size_t i = 0; i < TCPS; i++) {
        if (t->tcp[i].port != 0 && t->tcp[i].is_on != is_on) {
            t->tcp[i].is_on = is_on;
            tcp_step(t->w, &t->tcp[i]);
        }
    }
}

/* From here on the gaps count. */
static void stream_mark(world *t)
{
    for (size_t i = 0; i < STREAMS; i++) {
        stream *s = &t->stream[i];
        s->up.gap = s->down.gap = 0;
        s->up.last = s->down.last = t->w->now;
    }
}

/* The longest since the mark, the one that lasts still included. */
static mvpn_time stream_gap(const world *t, const stream *s)
{
    mvpn_time up = MVPN_MAX(s->up.gap, t->w->now - s->up.last);
    mvpn_time down = MVPN_MAX(s->down.gap, t->w->now - s->down.last);
    return MVPN_MAX(up, down);
}

static int compare_times(const void *a, const void *b)
{
    mvpn_time x = *(const mvpn_time *)a, y = *(const mvpn_time *)b;
    return (x > y) - (x < y);
}

static double to_ms(mvpn_time t)
{
    return (double)t / 1000;
}

/* Of many worlds, and what may be: the median and the 95th percentile. */
static void check_times(const char *what, mvpn_time *times, size_t count, mvpn_time median,
                        mvpn_time p95)
{
    qsort(times, count, sizeof(*times), compare_times);
    mvpn_time m = times[count / 2], p = times[(count * 95 + 99) / 100 - 1];
    say("%s: median %.0f ms, p95 %.0f ms, longest %.0f ms of %zu", what, to_ms(m), to_ms(p),
        to_ms(times[count - 1]), count);
    check_context("%s", what);
    CHECK(m <= median && p <= p95);
}

static uint32_t sessions_at(const sim_node *exit)
{
    return mvpn_exit_session_count(mvpn_engine_exit(exit->engine));
}

/* The session is the one that it was when the origin was noted. */
static bool is_same_session(const world *t, const origin *before)
{
    const stream *s = &t->stream[0];
    return s->moves == 0 && origin_is(&s->from, before->exit, before->pool);
}

/* ---- 1. a relay dies or falls silent ---- */

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

static mvpn_guards guards_of(const world *t)
{
    return *mvpn_client_guards(mvpn_engine_client(t->client->engine));
}

static bool same_relay(const mvpn_ed25519_pub *a, const mvpn_ed25519_pub *b)
{
    return memcmp(a->b, b->b, sizeof(a->b)) == 0;
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

/* ---- 2. rotation ---- */

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

/* ---- 3, 4. the exit ---- */

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

/* ---- 5. the client's own network ---- */

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

/* ---- 6. another session by intent ---- */

static uint32_t sessions_total(const sim *w)
{
    uint32_t count = 0;
    for (size_t i = 0; i < w->node_count; i++) {
        if (w->node[i]->kind == SIM_EXIT && w->node[i]->engine != NULL) {
            count += sessions_at(w->node[i]);
        }
    }
    return count;
}

static bool is_draining(sim *w, void *arg)
{
    (void)arg;
    return status_of(w->user).is_draining;
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

/* ---- 6a. exits that the user chooses ---- */

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

/* ---- 7. a bad network ---- */

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

/* ---- 8. other circuits ---- */

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

/* ---- 9. nobody is there ---- */

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
        {"guard_killed", guard_killed},
        {"guard_silenced", guard_silenced},
        {"middle_killed", middle_killed},
        {"middle_silenced", middle_silenced},
        {"guard_restarted", guard_restarted},
        {"rotation", rotation},
        {"rotation_pause", rotation_pause},
        {"renewal", renewal},
        {"exit_killed", exit_killed},
        {"exit_restarted", exit_restarted},
        {"exit_hiccup", exit_hiccup},
        {"only_exit", only_exit},
        {"offline_told", offline_told},
        {"offline_untold", offline_untold},
        {"roaming", roaming},
        {"sleeps", sleeps},
        {"new_identity", new_identity},
        {"reconnect", reconnect},
        {"hops_change", hops_change},
        {"hops_change_early", hops_change_early},
        {"exit_lifetime", exit_lifetime},
        {"exit_chosen", exit_chosen},
        {"exit_chosen_in_vain", exit_chosen_in_vain},
        {"guard_flaps", guard_flaps},
        {"access_loses", access_loses},
        {"rtt_jumps", rtt_jumps},
        {"other_circuits", other_circuits},
        {"single_exit_killed", single_exit_killed},
        {"all_guards_dead", all_guards_dead},
    };
    return scenario_main(argc, argv, all, MVPN_ARRAY_LEN(all));
}
