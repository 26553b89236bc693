/*
 * Datagrams in: which session, and what its messages mean. Everything here was verified by the
 * link's keys, but the peer itself may be hostile: what breaks the protocol closes the link.
 * (docs/protocol.md §4, §9)
 */
#include "base/assert.h"
#include "network/p2p/internal.h"

#define CLOSE_PROTOCOL 1 /* §6.4 */
#define DHT_FIRST 0x10
#define DHT_LAST 0x1f
#define LINK_FIRST 0x30
#define LINK_LAST 0x3f

enum place {
    PLACE_LINK,  /* handled here */
    PLACE_OWNER, /* circuits, DHT and NAT relays */
    PLACE_LAYER, /* only inside a layer */
    PLACE_UNKNOWN,
};

static enum place place_of(unsigned command)
{
    if (command >= LINK_FIRST && command <= LINK_LAST) {
        return command <= MVPN_CMD_LINK_RELAY_IDS ? PLACE_LINK : PLACE_UNKNOWN;
    }
    if (command >= DHT_FIRST && command <= DHT_LAST) {
        return PLACE_OWNER;
    }
    switch (command) {
    case MVPN_CMD_CREATE:
    case MVPN_CMD_CREATED:
    case MVPN_CMD_DESTROY:
    case MVPN_CMD_RELAY:
    case MVPN_CMD_RELAY_EARLY:
    case MVPN_CMD_NAT_REGISTER:
    case MVPN_CMD_NAT_REGISTERED:
    case MVPN_CMD_NAT_OPEN:
    case MVPN_CMD_NAT_OPENED:
    case MVPN_CMD_NAT_INCOMING:
    case MVPN_CMD_NAT_MORE:
    case MVPN_CMD_NAT_CLOSE:
    case MVPN_CMD_NAT_ADDRESS:
    case MVPN_CMD_NAT_ADDRESSED:
    case MVPN_CMD_NAT_PROBE:
    case MVPN_CMD_NAT_PROBE_FOR:
    case MVPN_CMD_NAT_PROBED:
        return PLACE_OWNER;
    case MVPN_CMD_EXTEND:
    case MVPN_CMD_EXTENDED:
    case MVPN_CMD_RELAY_DATA:
    case MVPN_CMD_RELAY_BEGIN:
    case MVPN_CMD_RELAY_END:
    case MVPN_CMD_RELAY_CONNECTED:
    case MVPN_CMD_RELAY_DROP:
    case MVPN_CMD_RELAY_PING:
    case MVPN_CMD_RELAY_PONG:
        return PLACE_LAYER;
    default:
        return PLACE_UNKNOWN;
    }
}

static int on_ack(mvpn_link *link, mvpn_bytes body, mvpn_time now)
{
    uint32_t seqs[MVPN_LINK_ACK_MAX];
    size_t count;
    int err = mvpn_link_ack_decode(seqs, &count, body);
    for (size_t i = 0; err == 0 && i < count; i++) {
        reliable_acknowledged(link, seqs[i], now);
    }
    return err;
}

static int on_new_ids(struct session *s, enum route_kind kind, mvpn_bytes body)
{
    mvpn_connection_id ids[MVPN_HANDSHAKE_IDS_MAX];
    size_t count;
    int err = mvpn_link_new_ids_decode(ids, &count, body);
    if (err == 0) {
        connid_add_spares(&s->routes[kind], ids, count);
    }
    return err;
}

static int on_pong(mvpn_link *link, mvpn_bytes body, mvpn_time now)
{
    uint64_t token;
    int err = mvpn_link_token_decode(&token, body);
    if (err == 0 && link->ping_at != 0 && token == link->ping_token) {
        link_measured(link, now - link->ping_at);
        link->pong_rtt = MVPN_MAX(now - link->ping_at, (mvpn_time)1);
        link->ping_at = 0;
    }
    return err;
}

/* Answers that find no packet are lost like any datagram. */
static int on_token(struct session *s, const mvpn_packet *packet, unsigned command, mvpn_bytes body,
                    mvpn_time now)
{
    uint64_t token;
    int err = command == MVPN_CMD_LINK_PROBE ? mvpn_link_probe_decode(&token, body)
                                             : mvpn_link_token_decode(&token, body);
    if (err != 0) {
        return err;
    }
    struct route *route = path_route_of(s, packet);
    route = route != NULL ? route : s->route;
    if (command == MVPN_CMD_LINK_PING) {
        room_used(s->link, now); /* the peer holds the link: a client keeps its guard's (§4.8) */
        (void)transport_token(s, MVPN_CMD_LINK_PONG, token, route, now);
    } else if (command == MVPN_CMD_LINK_PROBE) {
        (void)transport_token(s, MVPN_CMD_LINK_PROBE_ACK, token, route, now);
    } else if (command == MVPN_CMD_LINK_PROBE_ACK) {
        pmtu_answered(s, token, now);
    } else if (command == MVPN_CMD_PATH_CHALLENGE) {
        path_challenged(s, packet, token, now);
    } else {
        path_response(s, packet, token, now);
    }
    return 0;
}

/* A link command with its body in `packet`. MVPN_E_REFUSED, MVPN_E_BUSY: the peer closed the link.
 */
static int on_command(struct session *s, const mvpn_packet *packet, const mvpn_header *header,
                      mvpn_time now)
{
    mvpn_bytes body = mvpn_bytes_of(packet->data, packet->len);
    bool is_acked = header->link_seq != 0;
    uint8_t reason;
    switch (header->command) {
    case MVPN_CMD_LINK_PAD:
    case MVPN_CMD_VERSION_LIST:
        return 0;
    case MVPN_CMD_LINK_PONG:
        return on_pong(s->link, body, now);
    case MVPN_CMD_LINK_ACK:
        return on_ack(s->link, body, now);
    case MVPN_CMD_LINK_NEW_IDS:
        return is_acked ? on_new_ids(s, ROUTE_DIRECT, body) : MVPN_E_FORMAT;
    case MVPN_CMD_LINK_RELAY_IDS:
        return is_acked ? on_new_ids(s, ROUTE_RELAYED, body) : MVPN_E_FORMAT;
    case MVPN_CMD_LINK_CANDIDATES:
        return is_acked ? connector_candidates(s, body, now) : MVPN_E_FORMAT;
    case MVPN_CMD_LINK_REKEY:
        return is_acked ? rekey_request(s, body, now) : MVPN_E_FORMAT;
    case MVPN_CMD_LINK_REKEYED:
        return is_acked ? rekey_answer(s, body, now) : MVPN_E_FORMAT;
    case MVPN_CMD_LINK_CLOSE:
        if (mvpn_link_close_decode(&reason, body) != 0) {
            return MVPN_E_FORMAT;
        }
        return reason == CLOSE_BUSY ? MVPN_E_BUSY : MVPN_E_REFUSED;
    default:
        return on_token(s, packet, header->command, body, now);
    }
}

void mvpn_link_answer_unknown(mvpn_link *link, mvpn_time now)
{
    uint8_t body[2];
    if (link->state == LINK_OPEN && !link->has_sent_versions) {
        link->has_sent_versions = true;
        mvpn_store16(body, MVPN_LINK_VERSION);
        (void)transport_command(link->session, MVPN_CMD_VERSION_LIST, MVPN_BYTES_ARRAY(body), now);
    }
}

/* One message whose body is in `packet`: 1 if it is the owner's; else the caller keeps the packet
 * and the code tells. */
static int on_message(struct session *s, const mvpn_packet *packet, const mvpn_header *header,
                      mvpn_time now)
{
    mvpn_link *link = s->link;
    uint32_t seq = header->link_seq;
    if (seq != 0 && reliable_is_repeated(link, seq)) {
        reliable_note(link, seq, now);
        return 0;
    }
    int err = 0;
    switch (place_of(header->command)) {
    case PLACE_LINK:
        err = on_command(s, packet, header, now);
        break;
    case PLACE_OWNER:
        room_used(link, now);
        alive_data(s, now);
        err = 1;
        break;
    case PLACE_LAYER:
        err = MVPN_E_PROTOCOL;
        break;
    case PLACE_UNKNOWN:
        mvpn_link_answer_unknown(link, now);
        break;
    }
    if (err == MVPN_E_PROTOCOL) {
        const uint8_t reason = CLOSE_PROTOCOL;
        (void)transport_command(s, MVPN_CMD_LINK_CLOSE, mvpn_bytes_of(&reason, 1), now);
        link_fail(link, err);
    } else if (err == MVPN_E_REFUSED || err == MVPN_E_BUSY) {
        link_fail(link, err);
        err = 0;
    } else if (seq != 0 && err >= 0) {
        reliable_note(link, seq, now); /* what failed for want of memory is sent again */
    }
    return err;
}

/* A part; if it completes a message, that is now in `packet`. Sets `*packet` NULL if it was taken.
 */
static int on_part(struct session *s, mvpn_packet **packet, mvpn_header *ret_header, mvpn_time now)
{
    int err = split_recv(s, *packet, now);
    if (err <= 0) {
        *packet = NULL;
        return err;
    }
    mvpn_header h;
    err = mvpn_header_decode(&h, (*packet)->data, (*packet)->len - MVPN_HEADER_LEN);
    if (err != 0) {
        return err;
    }
    if (place_of(h.command) == PLACE_LINK) {
        return MVPN_E_FORMAT; /* they are small and are never split */
    }
    mvpn_packet_pull(*packet, MVPN_HEADER_LEN);
    *ret_header = h;
    return on_message(s, *packet, ret_header, now);
}

/* Sets `*packet` NULL if it was taken. */
static int recv_transport(mvpn_links *links, mvpn_packet **packet, mvpn_time now,
                          mvpn_link **ret_link, mvpn_header *ret_header)
{
    struct session *s = NULL;
    struct local_id *id;
    bool is_newest;
    size_t len = (*packet)->len;
    int err = transport_open(links, *packet, now, &s, ret_header, &is_newest, &id);
    if (err != 0) {
        return err;
    }
    if (s->state == SESSION_HALF_OPEN) {
        int confirmed = handshake_confirm(s, now);
        if (confirmed != 0) {
            return confirmed;
        }
    }
    mvpn_link *link = s->link;
    bool is_fresh = connid_used(s, id, now);
    path_received(s, *packet, len, is_newest, is_fresh, now);
    err = ret_header->command == MVPN_CMD_LINK_PART ? on_part(s, packet, ret_header, now)
                                                    : on_message(s, *packet, ret_header, now);
    *ret_link = link;
    return err;
}

static void count_drop(mvpn_links_counters *c, int code)
{
    uint64_t *at = code == MVPN_E_AUTH      ? &c->dropped_auth
                   : code == MVPN_E_REPLAY  ? &c->dropped_replay
                   : code == MVPN_E_UNKNOWN ? &c->dropped_unknown
                   : code == MVPN_E_LIMIT   ? &c->dropped_limit
                                            : &c->dropped_format;
    (*at)++;
}

int mvpn_links_recv(mvpn_links *links, mvpn_packet *packet, mvpn_time now, mvpn_link **ret_link,
                    mvpn_header *ret_header)
{
    links->now = now;
    links->counters.packets_in++;
    links->counters.bytes_in += packet->len;
    int err = MVPN_E_FORMAT;
    if (packet->len > 0 && mvpn_is_handshake_flags(packet->data[0])) {
        err = handshake_recv(links, packet, now);
        packet = NULL;
    } else if (packet->len > 0 && packet->data[0] >> 6 == 1) {
        err = recv_transport(links, &packet, now, ret_link, ret_header);
    }
    if (err == 1) {
        return 1;
    }
    mvpn_packet_free(links->config.pool, packet);
    if (err < 0) {
        count_drop(&links->counters, err);
    }
    return err;
}
