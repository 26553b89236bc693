/* The client's flows: packets, time, sessions that come and go: ([op 1] [chunk or argument])*. */
#include "core/flows.h"
#include "fuzz/fuzz.h"
#include "network/ip/checksum.h"
#include "network/ip/ip.h"

#define FLOWS 8
#define POOL 4
#define PACKET_MAX 400

struct world {
    mvpn_flows *flows;
    mvpn_packet_pool pool;
    mvpn_packet_queue out;
    bool is_open[256]; /* session numbers */
    mvpn_time now;
};

static size_t take_packet(mvpn_reader *in, uint8_t *p)
{
    mvpn_bytes chunk = fuzz_chunk(in, PACKET_MAX);
    if (chunk.n > 0) {
        memcpy(p, chunk.p, chunk.n);
    }
    if (chunk.n >= 20 && p[0] == 0x45) {
        mvpn_csum_ipv4_set(p); /* a fuzzer does not find it */
    }
    return chunk.n;
}

static void swap(uint8_t *a, uint8_t *b, size_t n)
{
    uint8_t t[16];
    memcpy(t, a, n);
    memcpy(a, b, n);
    memcpy(b, t, n);
}

/* The answer to what went out comes in by the same session and by no other. */
static void answer(struct world *w, uint8_t *p, size_t n, uint32_t session)
{
    mvpn_ip ip;
    if (mvpn_ip_parse(p, n, &ip) != 0 || ip.fragment || (ip.tcp_flags & MVPN_TCP_RST) != 0 ||
        (ip.protocol != MVPN_IP_TCP && ip.protocol != MVPN_IP_UDP)) {
        return;
    }
    size_t len = mvpn_ip_addr_len(&ip), src = mvpn_ip_src_at(&ip);
    swap(p + src, p + src + len, len);
    swap(p + ip.l4, p + ip.l4 + 2, 2);
    for (uint32_t s = 1; s < 256; s++) {
        FUZZ_CHECK(mvpn_flows_in(w->flows, p, n, s, w->now) == (s == session));
    }
}

static void check_resets(struct world *w)
{
    mvpn_packet *p;
    while ((p = mvpn_packet_queue_pop(&w->out)) != NULL) {
        mvpn_ip ip;
        FUZZ_CHECK(mvpn_ip_parse(p->data, p->len, &ip) == 0);
        FUZZ_CHECK(ip.protocol == MVPN_IP_TCP && (ip.tcp_flags & MVPN_TCP_RST) != 0);
        FUZZ_CHECK(mvpn_csum_transport_ok(p->data, &ip));
        for (uint32_t s = 1; s < 256; s++) { /* nobody has what is reset */
            FUZZ_CHECK(!w->is_open[s] || !mvpn_flows_in(w->flows, p->data, p->len, s, w->now));
        }
        mvpn_packet_free(&w->pool, p);
    }
}

static void step(struct world *w, unsigned op, mvpn_reader *in)
{
    uint8_t p[PACKET_MAX];
    uint32_t session = mvpn_read8(in);
    switch (op & 7) {
    case 0:
    case 1: {
        mvpn_ip ip;
        size_t n = take_packet(in, p);
        if (mvpn_ip_parse(p, n, &ip) == 0 && mvpn_ip_is_multicast(ip.version, ip.dst)) {
            break; /* client_ip lets none pass */
        }
        uint32_t by = mvpn_flows_out(w->flows, p, n, session, w->now);
        FUZZ_CHECK(by == 0 || (by < 256 && w->is_open[by]));
        if (by != 0 && (op & 1) != 0) {
            answer(w, p, n, by);
        }
        break;
    }
    case 2: {
        size_t n = take_packet(in, p);
        bool in_is = mvpn_flows_in(w->flows, p, n, session, w->now);
        FUZZ_CHECK(!in_is || w->is_open[session]);
        break;
    }
    case 3:
        if (mvpn_flows_open_session(w->flows, session) == 0) {
            w->is_open[session] = true;
        }
        break;
    case 4:
        w->is_open[session] = false;
        while (mvpn_flows_end_session(w->flows, session, &w->pool, &w->out) > 0 && (op & 8) != 0) {
            check_resets(w);
        }
        check_resets(w);
        FUZZ_CHECK(mvpn_flows_count(w->flows, session, w->now) == 0);
        break;
    case 5:
        MVPN_IGNORE((int)mvpn_flows_resets(w->flows, &w->pool, &w->out));
        check_resets(w);
        break;
    case 6:
        FUZZ_CHECK(mvpn_flows_count(w->flows, session, w->now) <= mvpn_flows_size(w->flows));
        break;
    default:
        w->now += MVPN_MS(10) * session * session;
    }
    FUZZ_CHECK(mvpn_flows_size(w->flows) <= FLOWS);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct world w = {.now = MVPN_S(1)};
    mvpn_rng rng;
    mvpn_reader in = mvpn_reader_init(mvpn_bytes_of(data, size));
    mvpn_rng_init_test(&rng, 1);
    mvpn_packet_queue_init(&w.out);
    if (mvpn_packet_pool_init(&w.pool, POOL) != 0) {
        return 0;
    }
    if (mvpn_flows_new(FLOWS, &rng, &w.flows) == 0) {
        while (fuzz_more(&in)) {
            step(&w, mvpn_read8(&in), &in);
        }
    }
    mvpn_flows_free(w.flows);
    FUZZ_CHECK(w.pool.free_count == POOL);
    mvpn_packet_pool_done(&w.pool);
    return 0;
}
