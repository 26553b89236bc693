/* The DNS forwarder: ([op 1] [length 2] [payload])*: queries, answers, time. */
#include "exit/dns.h"
#include "fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const mvpn_addr upstream[2] = {{4, 53, {9, 9, 9, 9}}, {6, 53, {0x2a, 0x10}}};
    uint8_t last[1500] = {0};
    uint32_t last_len = 0;
    mvpn_dns_session sessions[2];
    mvpn_addr asked = upstream[0];
    mvpn_time now = 0;
    mvpn_dns *dns;
    mvpn_rng rng;
    mvpn_dns_client client;
    mvpn_reader in = mvpn_reader_init(mvpn_bytes_of(data, size));
    mvpn_rng_init_test(&rng, 1);
    mvpn_dns_session_init(&sessions[0]);
    mvpn_dns_session_init(&sessions[1]);
    if (mvpn_dns_new(upstream, 2, &dns) != 0) {
        return 0;
    }
    for (unsigned steps = 0; fuzz_more(&in) && steps < 64; steps++) {
        uint8_t op = mvpn_read8(&in), payload[1500];
        mvpn_bytes chunk = fuzz_chunk(&in, sizeof(payload));
        uint32_t len = (uint32_t)chunk.n;
        if (len > 0) {
            memcpy(payload, chunk.p, len);
        }
        switch (op & 3) {
        case 0: {
            client = (mvpn_dns_client){op >> 7, 4000, op & 0x40 ? 6 : 4, op & 0x20};
            int r = mvpn_dns_query(dns, &rng, &client, &sessions[op >> 7], op & 0x10, payload, &len,
                                   sizeof(payload), now, &asked);
            FUZZ_CHECK(r != MVPN_DNS_ANSWERED || (len >= 17 && payload[2] & 0x80));
            if (r == 0) {
                FUZZ_CHECK(len <= chunk.n);
                memcpy(last, payload, len);
                last_len = len;
            }
            break;
        }
        case 1: /* the query come back as its answer, with some bytes behind it */
            if (last_len + len <= sizeof(last)) {
                memmove(payload + last_len, payload, len);
                memcpy(payload, last, last_len);
                payload[2] |= last_len > 0 ? 0x80 : 0;
                payload[7] = op >> 6;
                len += last_len;
                MVPN_IGNORE(mvpn_dns_answer(dns, &asked, op & 0x20, payload, &len, now, &client));
            }
            break;
        case 2:
            MVPN_IGNORE(
                mvpn_dns_answer(dns, &upstream[op >> 7], op & 0x20, payload, &len, now, &client));
            break;
        default:
            now += MVPN_MS(op) * 20;
            while (mvpn_dns_pull_expired(dns, now, &client)) {
                FUZZ_CHECK(client.session <= 1);
            }
            if (op & 0x80) {
                mvpn_dns_forget(dns, &sessions[op >> 6 & 1]);
            }
            break;
        }
        for (unsigned i = 0; i < 2; i++) {
            FUZZ_CHECK(sessions[i].open_count <= MVPN_DNS_SESSION_MAX);
            FUZZ_CHECK(sessions[i].cached_count <= MVPN_DNS_CACHE_SESSION_MAX);
        }
        FUZZ_CHECK(mvpn_dns_open_count(dns) <= MVPN_DNS_OPEN_MAX);
    }
    mvpn_dns_free(dns);
    return 0;
}
