/*
 * A STUN client among liars: a script of time steps and answers. What must hold: it ends in its
 * time, sends no more than its tests need, and nothing to addresses that nobody named.
 *
 *   [servers] then steps: [op] ...
 *   op & 3: 0 [2: ms] time passes; 1 [1: which] [chunk] an answer of these attributes to one of the
 *   last requests, from whom it was sent to; 2 the same from another address; 3 [chunk] anything
 */
#include "base/error.h"
#include "fuzz/fuzz.h"
#include "network/p2p/stun_client.h"

#define ASKED 8
/* 4 servers x 2 sockets, 2 filters, 3 mappings, 2 hairpins */
#define TESTS_MAX 15

static struct run {
    mvpn_stun_client *client;
    mvpn_rng rng;
    mvpn_time now;
    mvpn_stun_datagram asked[ASKED];
    size_t asked_count; /* in all */
} r;

static void drain(void)
{
    mvpn_stun_datagram d;
    while (mvpn_stun_client_pull(r.client, &d)) {
        FUZZ_CHECK(d.length == MVPN_STUN_REQUEST_LEN && d.socket < MVPN_STUN_CLIENT_SOCKETS);
        FUZZ_CHECK(mvpn_addr_ip_len(&d.to) > 0 && d.to.port != 0);
        FUZZ_CHECK(d.to.family == 4); /* that of the servers */
        r.asked[r.asked_count++ % ASKED] = d;
    }
    FUZZ_CHECK(r.asked_count <= TESTS_MAX * MVPN_STUN_QUICK_RC);
}

static mvpn_addr server(unsigned i)
{
    return (mvpn_addr){.family = 4, .port = 3478, .ip = {11, (uint8_t)i, 0, 1}};
}

static void begin(unsigned servers)
{
    mvpn_stun_client_config c = {.server_count = 1 + servers % MVPN_STUN_SERVERS_MAX,
                                 .rto = MVPN_STUN_QUICK_RTO,
                                 .rc = MVPN_STUN_QUICK_RC,
                                 .rm = MVPN_STUN_QUICK_RM};
    for (unsigned i = 0; i < c.server_count; i++) {
        c.servers[i] = server(i);
    }
    for (unsigned i = 0; i < MVPN_STUN_CLIENT_SOCKETS; i++) {
        c.local[i] = (mvpn_addr){.family = 4, .port = (uint16_t)(5000 + i), .ip = {192, 168, 1, 2}};
    }
    r.now = 0;
    r.asked_count = 0;
    mvpn_rng_init_test(&r.rng, 1);
    FUZZ_CHECK(mvpn_stun_client_new(&r.client, &c, &r.rng, r.now) == 0);
    drain();
}

static void deliver(unsigned socket, const mvpn_addr *from, mvpn_bytes in)
{
    mvpn_stun_result before = *mvpn_stun_client_result(r.client);
    bool was_done = mvpn_stun_client_is_done(r.client);
    int err = mvpn_stun_client_recv(r.client, socket, from, in, r.now);
    const mvpn_stun_result *after = mvpn_stun_client_result(r.client);
    FUZZ_CHECK(err == 0 || err == MVPN_E_FORMAT || err == MVPN_E_STATE);
    /* What is refused changes nothing but the count. */
    before.forged = after->forged;
    FUZZ_CHECK(err == 0 || (before.nat == after->nat && before.mapping == after->mapping &&
                            before.has_address == after->has_address &&
                            was_done == mvpn_stun_client_is_done(r.client)));
    drain();
}

static void answer(mvpn_reader *in, bool from_elsewhere)
{
    uint8_t packet[MVPN_STUN_HEADER_LEN + 256];
    unsigned which = mvpn_read8(in);
    mvpn_bytes attributes = fuzz_chunk(in, 256);
    const mvpn_stun_datagram *d = &r.asked[which % MVPN_MIN(r.asked_count, ASKED)];
    mvpn_addr from = d->to;
    if (from_elsewhere) {
        from.ip[3] ^= 3;
        from.port ^= (uint16_t)(which >> 4);
    }
    memcpy(packet, d->bytes, MVPN_STUN_HEADER_LEN);
    mvpn_store16(packet, which & 0x10 ? 0x0111 : which & 0x20 ? 0x0001 : 0x0101);
    mvpn_store16(packet + 2, (uint16_t)attributes.n);
    if (attributes.n > 0) {
        memcpy(packet + MVPN_STUN_HEADER_LEN, attributes.p, attributes.n);
    }
    deliver(which >> 7 ^ d->socket, &from,
            mvpn_bytes_of(packet, MVPN_STUN_HEADER_LEN + attributes.n));
}

static void step(mvpn_reader *in)
{
    mvpn_addr stranger = server(0);
    unsigned op = mvpn_read8(in) & 3;
    switch (op) {
    case 0:
        r.now += MVPN_MS(mvpn_read16(in) % 1000);
        mvpn_stun_client_tick(r.client, r.now);
        drain();
        break;
    case 1:
    case 2:
        answer(in, op == 2);
        break;
    default:
        deliver(0, &stranger, fuzz_chunk(in, MVPN_STUN_MAX));
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    mvpn_reader in = mvpn_reader_init(mvpn_bytes_of(data, size));
    begin(mvpn_read8(&in));
    while (fuzz_more(&in)) {
        step(&in);
    }
    for (unsigned turns = 0; !mvpn_stun_client_is_done(r.client); turns++) {
        mvpn_time next = mvpn_stun_client_deadline(r.client);
        FUZZ_CHECK(turns < 200 && next != MVPN_TIME_NEVER);
        r.now = MVPN_MAX(r.now, next);
        mvpn_stun_client_tick(r.client, r.now);
        drain();
    }
    FUZZ_CHECK(mvpn_stun_client_deadline(r.client) == MVPN_TIME_NEVER);
    mvpn_stun_client_free(r.client);
    return 0;
}
