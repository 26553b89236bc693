/* The exit: ([op 1] [length 2] [packet])*: from sessions, TUN and resolver, sessions that come and
 * go, time. */
#include "exit/exit.h"
#include "fuzz/fuzz.h"
#include "network/ip/checksum.h"
#include "network/ip/inner.h"

#define POOL 256
#define SESSIONS 4

static void drain(mvpn_exit *exit, mvpn_packet_pool *pool)
{
    mvpn_packet *p;
    uint32_t id;
    mvpn_exit_event event;
    while ((p = mvpn_packet_queue_pop(mvpn_exit_tun_out(exit))) != NULL) {
        mvpn_ip ip;
        FUZZ_CHECK(mvpn_ip_parse(p->data, p->len, &ip) == 0);
        mvpn_addr dst = mvpn_ip_dst_addr(&ip);
        FUZZ_CHECK(ip.ttl == MVPN_EXIT_TTL && mvpn_addr_is_public(&dst));
        mvpn_packet_free(pool, p);
    }
    while ((p = mvpn_packet_queue_pop(mvpn_exit_dns_out(exit))) != NULL) {
        FUZZ_CHECK(p->remote.port == 53 && p->local == MVPN_EXIT_LOCAL_DNS);
        mvpn_packet_free(pool, p);
    }
    while (mvpn_exit_pull_to_session(exit, &id, &p)) {
        mvpn_ip ip;
        FUZZ_CHECK(mvpn_ip_parse(p->data, p->len, &ip) == 0);
        FUZZ_CHECK(memcmp(ip.dst, mvpn_inner_client(ip.version), mvpn_ip_addr_len(&ip)) == 0);
        mvpn_packet_free(pool, p);
    }
    while (mvpn_exit_pull_event(exit, &event)) {
    }
}

/* So that packets are more than noise: checksums are made right, and addresses ours. */
static void mend(mvpn_packet *p, const uint8_t *src, const uint8_t *dst, unsigned version)
{
    mvpn_ip ip;
    size_t n = version == 4 ? 4 : 16, at = version == 4 ? 12 : 8;
    if (p->len < at + 2 * n || p->data[0] >> 4 != version) {
        return;
    }
    if (src != NULL) {
        memcpy(p->data + at, src, n);
    }
    if (dst != NULL) {
        memcpy(p->data + at + n, dst, n);
    }
    if (version == 4 && p->data[0] == 0x45) {
        mvpn_csum_ipv4_set(p->data);
    }
    if (mvpn_ip_parse(p->data, p->len, &ip) == 0 && !ip.fragment) {
        mvpn_csum_transport_set(p->data, &ip);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const mvpn_addr dns = {4, 53, {9, 9, 9, 9}};
    mvpn_packet_pool pool;
    mvpn_rng rng;
    mvpn_policy_error error;
    mvpn_exit *exit = NULL;
    uint32_t ids[SESSIONS] = {0};
    mvpn_time now = 0;
    mvpn_reader in = mvpn_reader_init(mvpn_bytes_of(data, size));
    mvpn_rng_init_test(&rng, 1);
    if (mvpn_packet_pool_init(&pool, POOL) != 0) {
        return 0;
    }
    mvpn_exit_config c = {.packets = &pool,
                          .rng = &rng,
                          .pool_v4 = {4, 0, {10, 64, 0, 0}},
                          .pool_v4_bits = 29,
                          .pool_v6 = {6, 0, {0xfd, 1}},
                          .uplink_v6 = true,
                          .policy = "reject udp * 9999",
                          .dns = &dns,
                          .dns_count = 1,
                          .sessions_max = SESSIONS,
                          .session_rate = 100000};
    FUZZ_CHECK(mvpn_exit_new(&c, &exit, &error) == 0);
    for (unsigned i = 0; i < 2; i++) {
        FUZZ_CHECK(mvpn_exit_session_open(exit, 1289, i == 0, now, &ids[i]) == 0);
    }
    for (unsigned steps = 0; fuzz_more(&in) && steps < 100; steps++) {
        uint8_t op = mvpn_read8(&in);
        unsigned s = op >> 3 & 3;
        mvpn_bytes chunk = fuzz_chunk(&in, 1420);
        mvpn_addr pool4 = {0}, pool6 = {0};
        mvpn_packet *p = mvpn_packet_new(&pool);
        FUZZ_CHECK(p != NULL);
        if (chunk.n > 0) {
            memcpy(mvpn_packet_append(p, (uint32_t)chunk.n), chunk.p, chunk.n);
        }
        unsigned version = chunk.n > 0 && chunk.p[0] >> 4 == 6 ? 6 : 4;
        switch (op & 7) {
        case 0: /* from a session; or to its gateway */
        case 1:
            mend(p, mvpn_inner_client(version), op & 1 ? mvpn_inner_gateway(version) : NULL,
                 version);
            (void)mvpn_exit_from_session(exit, ids[s], p, now);
            break;
        case 2:
            (void)mvpn_exit_from_session(exit, ids[s], p, now);
            break;
        case 3:
            MVPN_IGNORE(mvpn_exit_session_addrs(exit, ids[s], &pool4, &pool6)); /* zeros if not */
            mend(p, NULL, version == 4 ? pool4.ip : pool6.ip, version);
            (void)mvpn_exit_from_tun(exit, p, now);
            break;
        case 4:
            (void)mvpn_exit_from_tun(exit, p, now);
            break;
        case 5:
            p->remote = dns;
            p->local = MVPN_EXIT_LOCAL_DNS;
            (void)mvpn_exit_from_dns(exit, p, now);
            break;
        case 6:
            mvpn_packet_free(&pool, p);
            mvpn_exit_session_close(exit, ids[s], now);
            if (op & 0x80) {
                MVPN_IGNORE(mvpn_exit_session_open(exit, op & 0x40 ? 1289 : 1241, op & 0x20, now,
                                                   &ids[s])); /* addresses may be used up */
            }
            break;
        default:
            mvpn_packet_free(&pool, p);
            now += MVPN_MS(op) * (op & 0x80 ? 3000 : 10);
            mvpn_exit_tick(exit, now);
            break;
        }
        if (op & 0x80 || steps % 8 == 7) {
            drain(exit, &pool);
        }
    }
    drain(exit, &pool);
    mvpn_exit_free(exit);
    FUZZ_CHECK(pool.free_count == POOL);
    mvpn_packet_pool_done(&pool);
    return 0;
}
