#include "inet.h"

#include <stdlib.h>
#include <string.h>

#include "network/ip/inner.h"
#include "network/ip/testing.h"

#define PORT_ECHO 7
#define PORT_CHUNKS 9000
#define PORT_CLIENT 40000
#define PACKET_MAX 1500
#define OP_GET 1
#define OP_PUT 2
#define OP_DATA 3
#define OP_ACK 4
#define CHUNK_HEADER 8
#define TRANSFER_TICK MVPN_MS(50)

static const uint8_t server_v4[4] = INET_SERVER_V4;
static const uint8_t server_v6[16] = INET_SERVER_V6;

static const uint8_t *server(unsigned version)
{
    return version == 4 ? server_v4 : server_v6;
}

/* Fragments of IP are for routers: what is larger than a cell has no DF here. */
static size_t build(uint8_t *out, unsigned version, uint8_t protocol, const uint8_t *src,
                    const uint8_t *dst, const uint8_t *l4, size_t len)
{
    size_t at = build_ip(out, version, protocol, src, dst, len);
    if (version == 4 && at + len > 1280) {
        out[6] = 0;
    }
    memcpy(out + at, l4, len);
    slow_fix(out, at + len);
    return at + len;
}

static size_t build_udp_with(uint8_t *out, unsigned version, const uint8_t *src, uint16_t sport,
                             const uint8_t *dst, uint16_t dport, const uint8_t *payload, size_t len)
{
    uint8_t l4[PACKET_MAX];
    mvpn_store16(l4, sport);
    mvpn_store16(l4 + 2, dport);
    mvpn_store16(l4 + 4, (uint16_t)(8 + len));
    mvpn_store16(l4 + 6, 0);
    memcpy(l4 + 8, payload, len);
    return build(out, version, MVPN_IP_UDP, src, dst, l4, 8 + len);
}

/* ---- the file ---- */

static void chunk_fill(uint8_t *out, uint32_t chunk)
{
    uint64_t x = 0x9e3779b97f4a7c15u * (chunk + 1);
    for (size_t i = 0; i < INET_CHUNK; i += 8) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        mvpn_store64(out + i, x);
    }
}

static bool chunk_is_right(const uint8_t *data, size_t len, uint32_t chunk)
{
    uint8_t want[INET_CHUNK];
    chunk_fill(want, chunk);
    return len == INET_CHUNK && memcmp(data, want, INET_CHUNK) == 0;
}

/* ---- servers ---- */

typedef struct seen {
    mvpn_ip ip;
    const uint8_t *l4;
    size_t len;
} seen;

static bool parse(const uint8_t *packet, size_t len, seen *ret)
{
    if (mvpn_ip_parse(packet, len, &ret->ip) != 0 || !slow_ok(packet, len)) {
        return false;
    }
    ret->l4 = packet + ret->ip.l4;
    ret->len = ret->ip.l4_len;
    return true;
}

static void reply_udp(sim_node *exit, const seen *s, const uint8_t *payload, size_t len)
{
    uint8_t out[PACKET_MAX];
    size_t n = build_udp_with(out, s->ip.version, s->ip.dst, s->ip.dst_port, s->ip.src,
                              s->ip.src_port, payload, len);
    sim_tun_in(exit, out, n, 2 * exit->world->inet_delay);
}

static void serve_chunk(sim_node *exit, const seen *s)
{
    uint8_t answer[CHUNK_HEADER + INET_CHUNK] = {0};
    const uint8_t *in = s->l4 + 8;
    size_t len = s->len - 8;
    if (len < CHUNK_HEADER) {
        exit->world->inet_altered++;
        return;
    }
    uint32_t chunk = mvpn_load32(in + 4);
    mvpn_store32(answer + 4, chunk);
    if (in[0] == OP_GET && len == CHUNK_HEADER) {
        answer[0] = OP_DATA;
        chunk_fill(answer + CHUNK_HEADER, chunk);
        reply_udp(exit, s, answer, sizeof(answer));
    } else if (in[0] == OP_PUT && chunk_is_right(in + CHUNK_HEADER, len - CHUNK_HEADER, chunk)) {
        answer[0] = OP_ACK;
        reply_udp(exit, s, answer, CHUNK_HEADER);
    } else {
        exit->world->inet_altered++;
    }
}

static void serve_icmp(sim_node *exit, const seen *s)
{
    uint8_t l4[PACKET_MAX], out[PACKET_MAX];
    uint8_t request = s->ip.version == 4 ? 8 : 128, answer = s->ip.version == 4 ? 0 : 129;
    if (s->l4[0] != request) {
        return;
    }
    memcpy(l4, s->l4, s->len);
    l4[0] = answer;
    size_t n = build(out, s->ip.version, s->ip.protocol, s->ip.dst, s->ip.src, l4, s->len);
    sim_tun_in(exit, out, n, 2 * exit->world->inet_delay);
}

void inet_from_exit(sim_node *exit, const uint8_t *packet, size_t len)
{
    sim *w = exit->world;
    seen s;
    w->inet_packets++;
    if (w->internet != NULL && w->internet(w, exit, packet, len)) {
        return;
    }
    if (!parse(packet, len, &s)) {
        w->inet_altered++;
        return;
    }
    memcpy(w->inet_src, s.ip.src, sizeof(w->inet_src));
    if (s.ip.protocol == MVPN_IP_ICMP || s.ip.protocol == MVPN_IP_ICMPV6) {
        serve_icmp(exit, &s);
    } else if (s.ip.protocol == MVPN_IP_UDP && s.ip.dst_port == PORT_ECHO) {
        reply_udp(exit, &s, s.l4 + 8, s.len - 8);
    } else if (s.ip.protocol == MVPN_IP_UDP && s.ip.dst_port == PORT_CHUNKS) {
        serve_chunk(exit, &s);
    }
}

/* A resolver that knows one answer: one A record for whatever is asked. */
void inet_from_resolver_socket(sim_node *exit, const mvpn_addr *resolver, const uint8_t *query,
                               size_t len)
{
    static const uint8_t record[16] = {0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 93, 184, 7, 34};
    uint8_t out[PACKET_MAX];
    size_t end = 12;
    if (len < 17) {
        return;
    }
    while (end < len && query[end] != 0) {
        end += (size_t)query[end] + 1;
    }
    end += 5; /* the root label, type, class */
    if (end > len) {
        return;
    }
    memcpy(out, query, end);
    mvpn_store16(out + 2, 0x8180);
    mvpn_store16(out + 6, 1);
    mvpn_store16(out + 8, 0);
    mvpn_store16(out + 10, 0);
    memcpy(out + end, record, sizeof(record));
    sim_dns_in(exit, resolver, out, end + sizeof(record), exit->world->inet_delay);
}

/* ---- the client's host ---- */

static inet_host *host_of(const sim_node *client)
{
    return client->user;
}

static void chunk_done(sim_node *client, uint32_t chunk);

static void host_chunk(sim_node *client, const seen *s)
{
    inet_host *h = host_of(client);
    const uint8_t *in = s->l4 + 8;
    size_t len = s->len - 8;
    if (len < CHUNK_HEADER) {
        h->altered++;
        return;
    }
    uint32_t chunk = mvpn_load32(in + 4);
    bool is_ack = in[0] == OP_ACK && len == CHUNK_HEADER;
    bool is_data = in[0] == OP_DATA && chunk_is_right(in + CHUNK_HEADER, len - CHUNK_HEADER, chunk);
    if (!is_ack && !is_data) {
        h->altered++;
    } else if (chunk < h->transfer.chunks) {
        chunk_done(client, chunk);
    }
}

static void host_icmp(inet_host *h, const seen *s)
{
    bool is_reply = s->l4[0] == (s->ip.version == 4 ? 0 : 129);
    bool is_too_big = s->ip.version == 4 ? s->l4[0] == 3 && s->l4[1] == 4 : s->l4[0] == 2;
    if (is_reply && s->len >= 12 && mvpn_load32(s->l4 + 8) == h->token) {
        h->has_echo = true;
        h->echo_len = s->ip.total_len;
    } else if (!is_reply) {
        h->icmp_errors++;
        h->has_too_big = h->has_too_big || is_too_big;
    }
}

static void host_tun(sim_node *client, const uint8_t *packet, size_t len)
{
    inet_host *h = host_of(client);
    seen s;
    h->packets++;
    if (!parse(packet, len, &s)) {
        h->altered++;
        return;
    }
    if (s.ip.protocol == MVPN_IP_ICMP || s.ip.protocol == MVPN_IP_ICMPV6) {
        host_icmp(h, &s);
    } else if (s.ip.protocol == MVPN_IP_UDP && s.ip.src_port == PORT_CHUNKS) {
        host_chunk(client, &s);
    } else if (s.ip.protocol == MVPN_IP_UDP && s.ip.src_port == PORT_ECHO && s.len >= 12 &&
               mvpn_load32(s.l4 + 8) == h->token) {
        h->has_echo = true;
        h->echo_len = len;
    } else if (s.ip.protocol == MVPN_IP_UDP && s.ip.src_port == 53 && s.len > 12 + 4 + 8) {
        memcpy(h->dns_answer, packet + len - 4, 4);
        h->has_dns = true;
    }
}

void inet_host_attach(inet_host *host, sim_node *client)
{
    *host = (inet_host){0};
    client->user = host;
    client->on_tun = host_tun;
}

void inet_host_done(inet_host *host)
{
    free(host->transfer.asked);
    free(host->transfer.has);
    host->transfer = (inet_transfer){0};
}

static bool has_echo(sim *w, void *arg)
{
    (void)w;
    return host_of(arg)->has_echo;
}

static bool has_dns(sim *w, void *arg)
{
    (void)w;
    return host_of(arg)->has_dns;
}

static void payload_fill(uint8_t *out, size_t len, uint32_t token)
{
    for (size_t i = 0; i < len; i++) {
        out[i] = (uint8_t)(token * 7 + i * 13 + (i >> 8));
    }
    mvpn_store32(out, token);
}

void inet_echo_send(sim_node *client, unsigned version, size_t size, uint32_t token)
{
    uint8_t payload[PACKET_MAX], out[PACKET_MAX];
    size_t len = size - (version == 4 ? 20 : 40) - 8;
    inet_host *h = host_of(client);
    h->token = token;
    h->has_echo = false;
    payload_fill(payload, len, token);
    size_t n = build_udp_with(out, version, mvpn_inner_client(version), PORT_CLIENT,
                              server(version), PORT_ECHO, payload, len);
    sim_tun_in(client, out, n, 0);
}

bool inet_echo(sim_node *client, unsigned version, size_t size, mvpn_time span)
{
    inet_host *h = host_of(client);
    inet_echo_send(client, version, size, h->token + 1);
    return sim_run_until(client->world, has_echo, client, span) && h->echo_len == size;
}

bool inet_ping(sim_node *client, unsigned version, size_t size, mvpn_time span)
{
    uint8_t l4[PACKET_MAX], out[PACKET_MAX];
    size_t len = size - (version == 4 ? 20 : 40);
    inet_host *h = host_of(client);
    h->token++;
    h->has_echo = false;
    memset(l4, 0, 8);
    l4[0] = version == 4 ? 8 : 128;
    mvpn_store32(l4 + 4, 0x00070001);
    payload_fill(l4 + 8, len - 8, h->token);
    size_t n = build(out, version, version == 4 ? MVPN_IP_ICMP : MVPN_IP_ICMPV6,
                     mvpn_inner_client(version), server(version), l4, len);
    sim_tun_in(client, out, n, 0);
    return sim_run_until(client->world, has_echo, client, span) && h->echo_len == size;
}

bool inet_resolve(sim_node *client, mvpn_time span)
{
    static const uint8_t query[] = {0x12, 0x34, 1,   0,   0,   1,   0,   0,   0,   0,
                                    0,    0,    7,   'e', 'x', 'a', 'm', 'p', 'l', 'e',
                                    3,    'o',  'r', 'g', 0,   0,   1,   0,   1};
    static const uint8_t want[4] = INET_SERVER_V4;
    uint8_t out[PACKET_MAX];
    inet_host *h = host_of(client);
    h->has_dns = false;
    size_t n = build_udp_with(out, 4, mvpn_inner_client(4), PORT_CLIENT, mvpn_inner_gateway(4), 53,
                              query, sizeof(query));
    sim_tun_in(client, out, n, 0);
    return sim_run_until(client->world, has_dns, client, span) &&
           memcmp(h->dns_answer, want, sizeof(want)) == 0;
}

/* ---- transfers ---- */

static void ask(sim_node *client, uint32_t chunk)
{
    inet_transfer *t = &host_of(client)->transfer;
    uint8_t payload[CHUNK_HEADER + INET_CHUNK] = {0}, out[PACKET_MAX];
    size_t len = CHUNK_HEADER;
    t->requests++;
    t->repeated += t->asked[chunk] != 0;
    t->asked[chunk] = client->world->now;
    payload[0] = OP_GET;
    mvpn_store32(payload + 4, chunk);
    if (t->direction == INET_UP) {
        payload[0] = OP_PUT;
        chunk_fill(payload + CHUNK_HEADER, chunk);
        len += INET_CHUNK;
    }
    size_t n = build_udp_with(out, 4, mvpn_inner_client(4), PORT_CLIENT, server_v4, PORT_CHUNKS,
                              payload, len);
    sim_tun_in(client, out, n, 0);
}

static void ask_more(sim_node *client)
{
    inet_transfer *t = &host_of(client)->transfer;
    while (t->base < t->chunks && t->has[t->base]) {
        t->base++;
    }
    /* Under way: asked and not there yet; counted from the done ones. */
    while (t->next < t->chunks && t->next - t->done < t->window) {
        ask(client, t->next++);
    }
}

static void chunk_done(sim_node *client, uint32_t chunk)
{
    inet_transfer *t = &host_of(client)->transfer;
    if (t->has == NULL || t->has[chunk]) {
        return;
    }
    t->has[chunk] = true;
    t->done++;
    if (t->done == t->chunks) {
        t->is_over = true;
        t->ended = client->world->now;
        return;
    }
    ask_more(client);
}

static void transfer_tick(sim *w, void *arg)
{
    sim_node *client = arg;
    inet_host *h = host_of(client);
    inet_transfer *t = h == NULL ? NULL : &h->transfer;
    if (t == NULL || t->has == NULL || t->is_over) {
        return;
    }
    for (uint32_t i = t->base; i < t->next; i++) {
        if (!t->has[i] && w->now - t->asked[i] >= t->again) {
            ask(client, i);
        }
    }
    sim_call(w, TRANSFER_TICK, transfer_tick, client);
}

void inet_transfer_start(sim_node *client, enum inet_direction direction, size_t bytes,
                         uint32_t window)
{
    inet_host *h = host_of(client);
    inet_host_done(h);
    inet_transfer *t = &h->transfer;
    t->direction = direction;
    t->chunks = (uint32_t)((bytes + INET_CHUNK - 1) / INET_CHUNK);
    MVPN_ASSERT(t->chunks <= INET_CHUNKS_MAX);
    t->window = window;
    t->again = MVPN_MS(600);
    t->asked = calloc(t->chunks, sizeof(*t->asked));
    t->has = calloc(t->chunks, sizeof(*t->has));
    MVPN_ASSERT(t->asked != NULL && t->has != NULL);
    t->began = client->world->now;
    ask_more(client);
    sim_call(client->world, TRANSFER_TICK, transfer_tick, client);
}

static bool transfer_over(sim *w, void *arg)
{
    (void)w;
    return host_of(arg)->transfer.is_over;
}

bool inet_transfer_run(sim_node *client, enum inet_direction direction, size_t bytes,
                       uint32_t window, mvpn_time span)
{
    inet_transfer_start(client, direction, bytes, window);
    return sim_run_until(client->world, transfer_over, client, span) &&
           host_of(client)->altered == 0 && client->world->inet_altered == 0;
}
