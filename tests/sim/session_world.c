#include "session_world.h"

#include <stdlib.h>

#include "network/ip/inner.h"
#include "network/ip/testing.h"

/* One way between any two: 48 ms of round trip to the exit, 50 to the server. */
#define HOP_DELAY MVPN_MS(8)
#define INET_DELAY MVPN_MS(1)

#define STREAM_PORT 9100
#define TCP_PORT 9200

#define TCP_BYTES 100
#define TCP_PACE MVPN_MS(50)
#define TCP_AGAIN MVPN_MS(400)

#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

static const uint8_t server_ip[4] = {93, 184, 7, 34};

static world one;

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

bool origin_is(const origin *o, const sim_node *exit, const uint8_t *pool)
{
    return o->exit == exit && memcmp(o->pool, pool, sizeof(o->pool)) == 0;
}

static origin origin_of(sim_node *exit, const uint8_t *packet)
{
    origin o = {.exit = exit};
    memcpy(o.pool, packet + 12, sizeof(o.pool));
    return o;
}

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

stream *stream_start(world *t, size_t bytes, mvpn_time pace)
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

tcp *tcp_start(world *t)
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

world *world_make(uint64_t seed, size_t relays, size_t exits, unsigned hops)
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

bool world_run(world *t)
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

world *world_new(uint64_t seed, size_t relays, size_t exits, unsigned hops)
{
    world *t = world_make(seed, relays, exits, hops);
    world_run(t);
    return t;
}

void world_free(world *t)
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

mvpn_client_status status_of(const world *t)
{
    mvpn_client_status s;
    sim_status(t->client, &s);
    return s;
}

void set_talking(world *t, bool is_on)
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

void stream_mark(world *t)
{
    for (size_t i = 0; i < STREAMS; i++) {
        stream *s = &t->stream[i];
        s->up.gap = s->down.gap = 0;
        s->up.last = s->down.last = t->w->now;
    }
}

mvpn_time stream_gap(const world *t, const stream *s)
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

double to_ms(mvpn_time t)
{
    return (double)t / 1000;
}

void check_times(const char *what, mvpn_time *times, size_t count, mvpn_time median, mvpn_time p95)
{
    qsort(times, count, sizeof(*times), compare_times);
    mvpn_time m = times[count / 2], p = times[(count * 95 + 99) / 100 - 1];
    say("%s: median %.0f ms, p95 %.0f ms, longest %.0f ms of %zu", what, to_ms(m), to_ms(p),
        to_ms(times[count - 1]), count);
    check_context("%s", what);
    CHECK(m <= median && p <= p95);
}

uint32_t sessions_at(const sim_node *exit)
{
    return mvpn_exit_session_count(mvpn_engine_exit(exit->engine));
}

bool is_same_session(const world *t, const origin *before)
{
    const stream *s = &t->stream[0];
    return s->moves == 0 && origin_is(&s->from, before->exit, before->pool);
}

mvpn_guards guards_of(const world *t)
{
    return *mvpn_client_guards(mvpn_engine_client(t->client->engine));
}

bool same_relay(const mvpn_ed25519_pub *a, const mvpn_ed25519_pub *b)
{
    return memcmp(a->b, b->b, sizeof(a->b)) == 0;
}

uint32_t sessions_total(const sim *w)
{
    uint32_t count = 0;
    for (size_t i = 0; i < w->node_count; i++) {
        if (w->node[i]->kind == SIM_EXIT && w->node[i]->engine != NULL) {
            count += sessions_at(w->node[i]);
        }
    }
    return count;
}

bool is_draining(sim *w, void *arg)
{
    (void)arg;
    return status_of(w->user).is_draining;
}
