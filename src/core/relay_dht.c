/*
 * The relay as a directory: answers from the view to whoever has a link, and inside circuits to
 * clients that it does not know. (docs/protocol.md §12)
 */
#include <string.h>

#include "core/directory.h"
#include "core/relay_internal.h"

typedef struct circuit_answers {
    mvpn_relay *relay;
    relay_circuit *circuit;
    uint8_t request_id[4];
    mvpn_time now;
} circuit_answers;

/* One reply as a RelayDht cell. */
static bool emit_in_circuit(void *ctx, unsigned command, mvpn_bytes body)
{
    circuit_answers *a = ctx;
    mvpn_packet *p = mvpn_packet_new(a->relay->cfg.pool);
    if (p == NULL) {
        return false;
    }
    uint8_t *at = mvpn_packet_append(p, MVPN_RELAY_DHT_FIXED);
    memcpy(at, a->request_id, sizeof(a->request_id));
    mvpn_store16(at + 4, (uint16_t)command);
    memcpy(mvpn_packet_append(p, (uint32_t)body.n), body.p, body.n);
    mvpn_cell_kind kind = {MVPN_CMD_RELAY_DHT, 1, MVPN_SIZE_CLASSES};
    relay_answer(a->relay, a->circuit, &kind, p, a->now);
    return true;
}

void relay_dht_in_circuit(mvpn_relay *relay, relay_circuit *c, mvpn_bytes data, mvpn_time now)
{
    circuit_answers a = {relay, c, {0}, now};
    if (data.n < MVPN_RELAY_DHT_FIXED || !mvpn_bucket_take(&c->directory, 1, now)) {
        relay->counters.directory_refused++;
        return;
    }
    memcpy(a.request_id, data.p, sizeof(a.request_id));
    unsigned command = mvpn_load16(data.p + 4);
    relay->counters.directory_answered++;
    (void)mvpn_directory_answer(
        relay->cfg.view, command,
        mvpn_bytes_of(data.p + MVPN_RELAY_DHT_FIXED, data.n - MVPN_RELAY_DHT_FIXED),
        MVPN_DHT_BODY_MAX, relay_unix_now(relay, now), emit_in_circuit, &a);
}

typedef struct link_answers {
    mvpn_relay *relay;
    mvpn_link *link;
    mvpn_circuit_id request_id;
    mvpn_time now;
} link_answers;

static bool emit_on_link(void *ctx, unsigned command, mvpn_bytes body)
{
    link_answers *a = ctx;
    mvpn_packet *p = mvpn_packet_new(a->relay->cfg.pool);
    if (p == NULL) {
        return false;
    }
    memcpy(mvpn_packet_append(p, (uint32_t)body.n), body.p, body.n);
    mvpn_header h = {
        .circuit = a->request_id,
        .command = (uint16_t)command,
        .length = (uint16_t)body.n,
    };
    return mvpn_link_send(a->link, p, &h, false, a->now) == 0;
}

static bool block_allows(mvpn_relay *relay, mvpn_link *link, mvpn_time now)
{
    const mvpn_addr *addr = mvpn_link_peer_addr(link);
    uint8_t block[8] = {addr->family};
    memcpy(block + 1, addr->ip, addr->family == 4 ? 3 : 6);
    return relay_bucket_take(relay, MVPN_BYTES_ARRAY(block), DIRECTORY_BLOCK_RATE,
                             DIRECTORY_BLOCK_BURST, now);
}

void relay_dht_on_link(mvpn_relay *relay, mvpn_link *link, const mvpn_header *header,
                       mvpn_bytes body, mvpn_time now)
{
    link_answers a = {relay, link, header->circuit, now};
    link_state *ls = relay_link_state(relay, link, now);
    if (ls == NULL || !mvpn_bucket_take(&ls->directory, 1, now) ||
        !block_allows(relay, link, now)) {
        relay->counters.directory_refused++;
        return;
    }
    relay->counters.directory_answered++;
    (void)mvpn_directory_answer(relay->cfg.view, header->command, body, MVPN_DHT_BODY_MAX,
                                relay_unix_now(relay, now), emit_on_link, &a);
}
