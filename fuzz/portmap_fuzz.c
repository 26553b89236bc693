/*
 * What a gateway (or somebody who pretends to be it) answers: first byte: 0 the decoders alone,
 * else the machine that asks, which hears the chunks as answers while time passes.
 */
#include "base/error.h"
#include "fuzz/fuzz.h"
#include "network/p2p/portmap.h"

static void decode(mvpn_bytes in)
{
    mvpn_natpmp_answer n;
    mvpn_pcp_answer p;
    bool is_natpmp = mvpn_natpmp_decode(&n, in) == 0;
    bool is_pcp = mvpn_pcp_decode(&p, in) == 0;
    FUZZ_CHECK(!is_natpmp || !is_pcp);
    if (is_natpmp && n.result == 0 && n.opcode == MVPN_NATPMP_MAP_UDP) {
        uint8_t again[MVPN_NATPMP_MAP_LEN];
        mvpn_natpmp_map_encode(again, &n.map);
        fuzz_same(again + 4, 8, mvpn_bytes_of(in.p + 8, 8));
    }
    if (is_pcp && p.has_map) {
        uint8_t again[MVPN_PCP_MAP_LEN];
        mvpn_pcp_map_encode(again, &p.map.external, p.lifetime_s, &p.map);
        fuzz_same(again + 24, 13, mvpn_bytes_of(in.p + 24, 13));
        fuzz_same(again + 40, 20, mvpn_bytes_of(in.p + 40, 20));
    }
}

/* Answers that fit the last request are what a fuzzer would not guess: the nonce is put in. */
static void machine(mvpn_reader *in)
{
    static mvpn_portmap m;
    static mvpn_rng rng;
    mvpn_time now = MVPN_S(100);
    mvpn_portmap_config config = {.rng = &rng,
                                  .gateway = {.family = 4, .ip = {192, 168, 1, 1}},
                                  .client = {.family = 4, .ip = {192, 168, 1, 2}},
                                  .internal_port = 4242};
    mvpn_addr from = config.gateway;
    uint8_t out[MVPN_PORTMAP_REQUEST_MAX], answer[MVPN_PORTMAP_MAX], nonce[12] = {0};
    from.port = MVPN_PORTMAP_PORT;
    mvpn_rng_init_test(&rng, 1);
    mvpn_portmap_init(&m, &config, now);
    for (unsigned i = 0; i < 100 && fuzz_more(in); i++) {
        unsigned what = mvpn_read8(in);
        size_t len;
        now += MVPN_MS(mvpn_read16(in)) * 16;
        if (what == 255) {
            mvpn_portmap_close(&m, now);
        }
        mvpn_portmap_tick(&m, now);
        unsigned sent = 0;
        while ((len = mvpn_portmap_pull_packet(&m, out)) > 0) {
            FUZZ_CHECK(++sent < 4);
            if (len == MVPN_PCP_MAP_LEN) {
                memcpy(nonce, out + 24, sizeof(nonce));
            }
        }
        mvpn_bytes chunk = fuzz_chunk(in, sizeof(answer));
        if (chunk.n > 0) {
            memcpy(answer, chunk.p, chunk.n);
        }
        if ((what & 1) != 0 && chunk.n >= 36) {
            memcpy(answer + 24, nonce, sizeof(nonce));
        }
        int r = mvpn_portmap_recv(&m, &from, mvpn_bytes_of(answer, chunk.n), now);
        FUZZ_CHECK(r == 0 || (r <= -1 && r >= -19));
        mvpn_portmap_event event;
        while (mvpn_portmap_pull_event(&m, &event)) {
            if (event.type == MVPN_PORTMAP_MAPPED) {
                FUZZ_CHECK(mvpn_addr_is_public(&event.mapping.external));
                FUZZ_CHECK(event.mapping.external.port != 0);
                FUZZ_CHECK(event.mapping.lifetime_s <= MVPN_PORTMAP_LIFETIME_MAX_S);
            }
        }
        FUZZ_CHECK(mvpn_portmap_deadline(&m) > 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    mvpn_reader in = mvpn_reader_init(mvpn_bytes_of(data, size));
    if (mvpn_read8(&in) == 0) {
        decode(mvpn_read_rest(&in));
    } else {
        machine(&in);
    }
    return 0;
}
