#include "core/circuit.h"

#include <string.h>

#include "base/error.h"
#include "core/target.h"
#include "wire/dht.h"

#define CREATE_PART_MAX (MVPN_BODY_MAX - MVPN_CREATE_FIXED)
#define EXTEND_BODY_MAX MVPN_ASSEMBLY_MAX

static void circuit_reset(mvpn_circuit *c)
{
    if (c->noise_live) {
        mvpn_noise_done(&c->noise);
        c->noise_live = false;
    }
    mvpn_assembly_free(&c->assembly);
    mvpn_packer_done(&c->packer, c->env->pool);
    mvpn_unpacker_done(&c->unpacker, c->env->pool);
    mvpn_packet_free(c->env->pool, c->dht_answer);
    c->dht_answer = NULL;
    mvpn_onion_done(&c->onion);
    mvpn_wipe(c->begin_ticket, sizeof(c->begin_ticket));
    mvpn_wipe(c->ticket, sizeof(c->ticket));
}

static void send_destroy(mvpn_circuit *c, mvpn_time now)
{
    mvpn_packet *p = mvpn_packet_new(c->env->pool);
    if (p == NULL) {
        return;
    }
    *mvpn_packet_append(p, 1) = MVPN_REASON_FINISHED;
    mvpn_header h = {.circuit = c->out, .command = MVPN_CMD_DESTROY, .length = 1};
    MVPN_IGNORE(
        mvpn_link_send(c->link, p, &h, true, now)); /* the guard's own timers end it otherwise */
}

static void close_with(mvpn_circuit *c, int error, enum mvpn_reason reason, unsigned failed_hop,
                       mvpn_time now, bool tell)
{
    if (c->state == MVPN_CIRCUIT_CLOSED) {
        return;
    }
    c->error = error;
    c->reason = (uint8_t)reason;
    c->failed_hop = failed_hop;
    if (c->link != NULL) {
        if (tell) {
            send_destroy(c, now);
        }
        mvpn_link_release(c->link, now);
        c->link = NULL;
    }
    circuit_reset(c);
    c->state = MVPN_CIRCUIT_CLOSED;
}

void mvpn_circuit_close(mvpn_circuit *c, int error, enum mvpn_reason reason, unsigned failed_hop,
                        mvpn_time now)
{
    close_with(c, error, reason, failed_hop, now, true);
}

void mvpn_circuit_link_closed(mvpn_circuit *c, mvpn_time now)
{
    bool is_busy = c->link != NULL && mvpn_link_close_error(c->link) == MVPN_E_BUSY;
    close_with(c, is_busy ? MVPN_E_BUSY : MVPN_E_TIMEOUT,
               is_busy ? MVPN_REASON_BUSY : MVPN_REASON_UNREACHABLE, 1, now, false);
}

static void protocol_error(mvpn_circuit *c, unsigned hop, mvpn_time now)
{
    close_with(c, MVPN_E_PROTOCOL, MVPN_REASON_PROTOCOL, hop, now, true);
}

/* Begin the handshake with hop `index` (0 = guard) and write its message 1. */
static int begin_handshake(mvpn_circuit *c, const mvpn_descriptor *relay,
                           uint8_t out[static MVPN_HANDSHAKE_MAX], size_t *ret_len)
{
    mvpn_onion_target target = {relay->identity, relay->onion_keys[0].key, c->env->suite};
    int r = mvpn_handshake_begin(&c->noise, c->env->aead, c->env->rng, &c->env->realm, &target, out,
                                 ret_len);
    c->noise_live = r == 0;
    c->request_id = mvpn_rng_u32(c->env->rng);
    return r;
}

static int send_create(mvpn_circuit *c, const mvpn_descriptor *guard, mvpn_time now)
{
    uint8_t message[MVPN_HANDSHAKE_MAX];
    size_t n = 0;
    int r = begin_handshake(c, guard, message, &n);
    for (size_t at = 0; r == 0 && at < n; at += CREATE_PART_MAX) {
        mvpn_packet *p = mvpn_packet_new(c->env->pool);
        if (p == NULL) {
            return MVPN_E_NOMEM;
        }
        mvpn_create m = {
            .back = c->in,
            .request_id = c->request_id,
            .suite = c->env->suite,
            .key_id = guard->onion_keys[0].id,
            .part = {(uint16_t)n, (uint16_t)at,
                     mvpn_bytes_of(message + at, MVPN_MIN(n - at, (size_t)CREATE_PART_MAX))},
        };
        p->len = (uint32_t)mvpn_create_encode(p->data, MVPN_BODY_MAX, &m);
        mvpn_header h = {.circuit = c->out, .command = MVPN_CMD_CREATE, .length = (uint16_t)p->len};
        r = mvpn_link_send(c->link, p, &h, true, now);
    }
    return r;
}

int mvpn_circuit_start(mvpn_circuit *c, const mvpn_circuit_env *env, const mvpn_path *path,
                       mvpn_time now)
{
    *c = (mvpn_circuit){
        .env = env,
        .path = *path,
        .early_left = MVPN_EARLY_MAX,
        .profile = (uint8_t)mvpn_profile_for_hops(path->count),
        .began = now,
        .last_in = now,
    };
    mvpn_packer_init(&c->packer, c->profile);
    const mvpn_descriptor *guard = mvpn_view_find(env->view, &path->hop[0]);
    mvpn_link_target target;
    /* Which addresses may be sent to was judged when the path was drawn. */
    const mvpn_target_rules rules = {
        .has_ipv4 = env->family != 6,
        .has_ipv6 = env->family != 4,
        .allow_private = true,
        .self = env->self,
    };
    bool is_known = guard != NULL && mvpn_target_make(env->view, guard, &rules, &target) == 0;
    int r = is_known ? 0 : MVPN_E_UNKNOWN;
    if (r == 0) {
        mvpn_link *link;
        r = mvpn_links_open(env->links, &target, now, &link);
        if (r == 0) {
            c->link = link;
            mvpn_link_hold(link);
        }
    }
    if (r == 0) {
        mvpn_rng_bytes(env->rng, c->in.b, sizeof(c->in.b));
        mvpn_rng_bytes(env->rng, c->out.b, sizeof(c->out.b));
        r = send_create(c, guard, now);
    }
    if (r != 0) {
        close_with(c, r, MVPN_REASON_NONE, 1, now, false);
    }
    return r;
}

/* Seal `packet` for a hop and send it; control cells are RelayEarly, and so acknowledged, while
 * that lasts. */
static int send_sized(mvpn_circuit *c, unsigned hop, unsigned command, enum mvpn_size_policy policy,
                      bool early, mvpn_packet *packet, mvpn_time now)
{
    mvpn_cell_kind kind = {(uint16_t)command, c->profile, policy};
    mvpn_header h;
    int r = mvpn_onion_seal(&c->onion, c->env->aead, hop, &kind, early, packet, &h);
    if (r != 0) {
        mvpn_packet_free(c->env->pool, packet);
        return r;
    }
    h.circuit = c->out;
    if (early) {
        c->early_left--;
    }
    c->cells_out++;
    c->bytes += packet->len;
    return mvpn_link_send(c->link, packet, &h, early, now);
}

static int send_cell(mvpn_circuit *c, unsigned hop, unsigned command, bool early,
                     mvpn_packet *packet, mvpn_time now)
{
    return send_sized(c, hop, command, c->env->size_policy, early, packet, now);
}

int mvpn_circuit_probe(mvpn_circuit *c, unsigned hop, uint64_t token, mvpn_time now)
{
    if (c->state == MVPN_CIRCUIT_CLOSED || hop == 0 || hop > c->onion.count) {
        return MVPN_E_STATE;
    }
    mvpn_packet *p = mvpn_packet_new(c->env->pool);
    if (p == NULL) {
        return MVPN_E_NOMEM;
    }
    if (token != 0) {
        mvpn_store64(mvpn_packet_append(p, 8), token);
    }
    unsigned command = token != 0 ? MVPN_CMD_RELAY_PING : MVPN_CMD_RELAY_DROP;
    return send_sized(c, hop, command, MVPN_SIZE_FULL, false, p, now);
}

static int send_extend(mvpn_circuit *c, mvpn_bytes body, mvpn_time now)
{
    const size_t part_max = mvpn_cell_room(MVPN_CLASS_FULL, c->profile) - MVPN_EXTEND_FIXED;
    int r = 0;
    for (size_t at = 0; r == 0 && at < body.n; at += part_max) {
        mvpn_packet *p = mvpn_packet_new(c->env->pool);
        if (p == NULL || c->early_left == 0) {
            mvpn_packet_free(c->env->pool, p);
            return MVPN_E_LIMIT;
        }
        mvpn_extend m = {
            .request_id = c->request_id,
            .part = {(uint16_t)body.n, (uint16_t)at,
                     mvpn_bytes_of(body.p + at, MVPN_MIN(body.n - at, part_max))},
        };
        p->len = (uint32_t)mvpn_extend_encode(p->data, MVPN_BODY_MAX, &m);
        r = send_cell(c, c->onion.count, MVPN_CMD_EXTEND, true, p, now);
    }
    return r;
}

/*
 * The descriptor is sent along while there is room for it in the RelayEarly cells: the relay then
 * needs none of its own. A handshake of hybrid size leaves no room.
 */
static int extend_next(mvpn_circuit *c, mvpn_time now)
{
    uint8_t message[MVPN_HANDSHAKE_MAX];
    uint8_t buf[EXTEND_BODY_MAX];
    size_t n = 0;
    const mvpn_descriptor *relay = mvpn_view_find(c->env->view, &c->path.hop[c->onion.count]);
    if (relay == NULL) {
        return MVPN_E_UNKNOWN;
    }
    int r = begin_handshake(c, relay, message, &n);
    if (r != 0) {
        return r;
    }
    mvpn_extend_body body = {
        .identity = relay->identity,
        .suite = c->env->suite,
        .key_id = relay->onion_keys[0].id,
        .handshake = mvpn_bytes_of(message, n),
        .descriptor = n <= 64 ? mvpn_bytes_of(relay->encoded, relay->encoded_len) : MVPN_BYTES_NONE,
    };
    size_t len = mvpn_extend_body_encode(buf, sizeof(buf), &body);
    return len == 0 ? MVPN_E_TOO_BIG : send_extend(c, mvpn_bytes_of(buf, len), now);
}

/* One hop more is there: go on to the next, or be ready. */
static void hop_done(mvpn_circuit *c, mvpn_bytes message2, mvpn_time now)
{
    mvpn_hop_keys keys;
    unsigned hop = c->onion.count + 1;
    int r = mvpn_handshake_finish(&c->noise, message2, &keys);
    c->noise_live = false;
    mvpn_assembly_free(&c->assembly);
    if (r != 0) {
        protocol_error(c, hop, now);
        return;
    }
    mvpn_onion_add(&c->onion, &keys.forward, &keys.backward);
    mvpn_wipe(&keys, sizeof(keys));
    if (c->onion.count == c->path.count) {
        c->state = MVPN_CIRCUIT_READY;
        c->built = now;
        return;
    }
    c->state = MVPN_CIRCUIT_EXTEND;
    r = extend_next(c, now);
    if (r != 0) {
        mvpn_circuit_close(c, r, MVPN_REASON_NONE, c->onion.count + 1, now);
    }
}

/* Join the parts of message 2, then take the hop. `from` is who may be blamed. */
static void handle_part(mvpn_circuit *c, uint32_t request_id, const mvpn_part *part, unsigned from,
                        mvpn_time now)
{
    mvpn_bytes message;
    if (request_id != c->request_id) {
        protocol_error(c, from, now);
        return;
    }
    int r = mvpn_assembly_add(&c->assembly, request_id, part, now, &message);
    if (r == 0) {
        hop_done(c, message, now);
    } else if (r != MVPN_E_AGAIN) {
        protocol_error(c, from, now);
    }
}

static void handle_extended(mvpn_circuit *c, mvpn_bytes data, mvpn_time now)
{
    mvpn_extended m;
    unsigned from = c->onion.count;
    if (mvpn_extended_decode(&m, data) != 0) {
        protocol_error(c, from, now);
    } else if (m.status != 0) {
        mvpn_circuit_close(c, MVPN_E_REFUSED, m.status, from + 1, now);
    } else {
        handle_part(c, m.request_id, &m.part, from, now);
    }
}

/* RelayData without packets: the exit sees that we have its ticket. (§7.1) */
static void confirm(mvpn_circuit *c, mvpn_time now)
{
    mvpn_packet *p = mvpn_packet_new(c->env->pool);
    if (p == NULL) {
        return; /* the first packets say as much */
    }
    int r = send_cell(c, c->onion.count, MVPN_CMD_RELAY_DATA, c->early_left > 0, p, now);
    if (mvpn_error_is_close(r)) {
        mvpn_circuit_close(c, r, MVPN_REASON_NONE, 0, now);
    }
}

static void handle_connected(mvpn_circuit *c, mvpn_bytes data, mvpn_time now)
{
    mvpn_connected m;
    if (mvpn_connected_decode(&m, data) != 0 || m.request_id != c->request_id) {
        protocol_error(c, c->onion.count, now);
        return;
    }
    if (c->state == MVPN_CIRCUIT_RELAY) {
        return; /* the answer to a repeated Begin */
    }
    if (m.status == MVPN_REASON_SESSION_UNKNOWN && c->begin_epoch != 0) {
        mvpn_wipe(c->begin_ticket, sizeof(c->begin_ticket));
        c->session_end = MVPN_SESSION_UNKNOWN;
        c->state = MVPN_CIRCUIT_READY;
        return;
    }
    if (m.status != 0) {
        /* Who has a session there cannot go elsewhere: it is not blamed. */
        unsigned hop = c->begin_epoch != 0 ? 0 : c->onion.count;
        mvpn_circuit_close(c, MVPN_E_REFUSED, m.status, hop, now);
        return;
    }
    mvpn_wipe(c->begin_ticket, sizeof(c->begin_ticket));
    memcpy(c->ticket, m.ticket.p, sizeof(c->ticket));
    c->connected_flags = m.flags;
    c->state = MVPN_CIRCUIT_RELAY;
    confirm(c, now);
}

/* As RFC 6298 §2 does. */
static void note_rtt(mvpn_circuit *c, uint32_t rtt)
{
    if (c->rtt_us == 0) {
        c->rtt_us = rtt;
        c->rtt_var_us = rtt / 2;
        return;
    }
    uint32_t off = c->rtt_us > rtt ? c->rtt_us - rtt : rtt - c->rtt_us;
    c->rtt_var_us = (uint32_t)(((uint64_t)c->rtt_var_us * 3 + off) / 4);
    c->rtt_us = (uint32_t)(((uint64_t)c->rtt_us * 7 + rtt) / 8);
}

static void handle_pong(mvpn_circuit *c, unsigned hop, mvpn_bytes data, mvpn_time now)
{
    if (data.n != 8) {
        return;
    }
    uint64_t token = mvpn_load64(data.p);
    mvpn_circuit_ping_out *ping = NULL;
    for (size_t i = 0; i < MVPN_CIRCUIT_PINGS && ping == NULL; i++) {
        ping = token != 0 && c->pings[i].token == token ? &c->pings[i] : NULL;
    }
    if (ping == NULL) {
        c->probe_pong = token; /* or a late answer to a ping given up */
        return;
    }
    if (hop != ping->hop) {
        protocol_error(c, hop, now);
        return;
    }
    ping->token = 0;
    c->pings_out--;
    if (hop == c->onion.count) {
        note_rtt(c, (uint32_t)MVPN_MIN(now - ping->sent, (mvpn_time)UINT32_MAX));
    }
}

/* May this command come from this hop in this state? Anything else means that a hop lies (§7). */
static bool command_is_expected(const mvpn_circuit *c, unsigned command, unsigned hop)
{
    bool from_last = hop == c->onion.count;
    /* After a take-over the exit sends this way at once; its Connected may come later. */
    bool in_session =
        c->state == MVPN_CIRCUIT_RELAY || (c->state == MVPN_CIRCUIT_BEGIN && c->begin_epoch != 0);
    switch (command) {
    case MVPN_CMD_EXTENDED:
        return from_last && c->state == MVPN_CIRCUIT_EXTEND;
    case MVPN_CMD_RELAY_CONNECTED:
        return from_last && (in_session || c->state == MVPN_CIRCUIT_BEGIN);
    case MVPN_CMD_RELAY_DATA:
        return from_last && (in_session || c->session_end == MVPN_SESSION_CLOSED);
    case MVPN_CMD_RELAY_END:
        return from_last && c->state == MVPN_CIRCUIT_RELAY;
    case MVPN_CMD_RELAY_DHT:
        return (c->dht_asked & 1u << (hop - 1)) != 0;
    case MVPN_CMD_CREATE:
    case MVPN_CMD_CREATED:
    case MVPN_CMD_EXTEND:
    case MVPN_CMD_DESTROY:
    case MVPN_CMD_RELAY_EARLY:
    case MVPN_CMD_RELAY_BEGIN:
    case MVPN_CMD_RELAY_PING:
        return false;
    default:
        return true; /* Drop, Pong, and what we do not know */
    }
}

/* Takes the packet. */
static void handle_relay(mvpn_circuit *c, const mvpn_header *header, mvpn_packet *packet,
                         mvpn_time now, mvpn_packet_queue *to_tun)
{
    mvpn_layer_header layer;
    unsigned hop;
    if (mvpn_onion_open(&c->onion, c->env->aead, packet, header, &hop, &layer) != 0) {
        c->cells_dropped++;
        mvpn_packet_free(c->env->pool, packet);
        return;
    }
    c->cells_in++;
    c->bytes += packet->len;
    for (unsigned i = 0; i < hop; i++) {
        c->hop_in[i] = now; /* what this one says has passed those before it */
    }
    if (hop == c->onion.count) {
        c->last_in = now; /* a hop in between must not pass a dead circuit off as alive */
        c->unanswered = 0;
    }
    mvpn_bytes data = {packet->data, packet->len};
    if (!command_is_expected(c, layer.command, hop)) {
        protocol_error(c, hop, now);
    } else if (layer.command == MVPN_CMD_RELAY_DATA && c->session_end == MVPN_SESSION_NOT_ENDED) {
        if (mvpn_unpacker_take(&c->unpacker, c->env->pool, packet, now, to_tun) != 0) {
            c->cells_dropped++;
        }
        return;
    } else if (layer.command == MVPN_CMD_EXTENDED) {
        handle_extended(c, data, now);
    } else if (layer.command == MVPN_CMD_RELAY_CONNECTED) {
        handle_connected(c, data, now);
    } else if (layer.command == MVPN_CMD_RELAY_PONG) {
        handle_pong(c, hop, data, now);
    } else if (layer.command == MVPN_CMD_RELAY_DHT && packet->len >= MVPN_RELAY_DHT_FIXED) {
        mvpn_packet_free(c->env->pool, c->dht_answer); /* nobody took the last one */
        c->dht_answer = packet;
        c->dht_hop = hop;
        return;
    } else if (layer.command == MVPN_CMD_RELAY_END) {
        c->session_end = MVPN_SESSION_CLOSED;
        c->state = MVPN_CIRCUIT_READY;
        mvpn_wipe(c->ticket, sizeof(c->ticket));
    }
    mvpn_packet_free(c->env->pool, packet);
}

void mvpn_circuit_message(mvpn_circuit *c, const mvpn_header *header, mvpn_packet *packet,
                          mvpn_time now, mvpn_packet_queue *to_tun)
{
    mvpn_bytes body = {packet->data, packet->len};
    mvpn_created created;
    uint8_t reason;
    if (header->command == MVPN_CMD_RELAY) {
        handle_relay(c, header, packet, now, to_tun);
        return;
    }
    if (header->command == MVPN_CMD_CREATED && c->state == MVPN_CIRCUIT_BUILD) {
        if (mvpn_created_decode(&created, body) != 0) {
            protocol_error(c, 1, now);
        } else {
            handle_part(c, created.request_id, &created.part, 1, now);
        }
    } else if (header->command == MVPN_CMD_DESTROY && mvpn_reason_decode(&reason, body) == 0) {
        /* The guard's own refusal carries a reason; what comes from behind it does not. */
        unsigned hop = c->state == MVPN_CIRCUIT_BUILD ? 1 : 0;
        close_with(c, MVPN_E_REFUSED, reason, hop, now, false);
    } else if (header->command == MVPN_CMD_RELAY_EARLY) {
        protocol_error(c, 1, now); /* forward only (§6.2) */
    }
    mvpn_packet_free(c->env->pool, packet);
}

static void send_begin(mvpn_circuit *c, bool early, mvpn_time now)
{
    mvpn_packet *p = mvpn_packet_new(c->env->pool);
    if (p == NULL) {
        return; /* it is sent again */
    }
    mvpn_begin m = {
        .request_id = c->request_id,
        .profile = c->profile,
        .flags = MVPN_BEGIN_IPV6,
        .epoch = c->begin_epoch,
        .ticket = c->begin_epoch != 0 ? MVPN_BYTES_ARRAY(c->begin_ticket) : MVPN_BYTES_NONE,
    };
    p->len = (uint32_t)mvpn_begin_encode(p->data, MVPN_BODY_MAX, &m);
    c->begin_sent = now;
    int r = send_cell(c, c->onion.count, MVPN_CMD_RELAY_BEGIN, early, p, now);
    if (r != 0) {
        mvpn_circuit_close(c, r, MVPN_REASON_NONE, 0, now);
    }
}

void mvpn_circuit_begin(mvpn_circuit *c, const uint8_t *ticket, uint32_t epoch, mvpn_time now)
{
    if (c->state != MVPN_CIRCUIT_READY) {
        return;
    }
    MVPN_ASSERT((ticket != NULL) == (epoch != 0));
    c->request_id = mvpn_rng_u32(c->env->rng);
    c->begin_epoch = epoch;
    c->session_end = MVPN_SESSION_NOT_ENDED;
    if (ticket != NULL) {
        memcpy(c->begin_ticket, ticket, sizeof(c->begin_ticket));
    }
    c->state = MVPN_CIRCUIT_BEGIN;
    send_begin(c, c->early_left > 0, now);
}

void mvpn_circuit_begin_again(mvpn_circuit *c, mvpn_time now)
{
    if (c->state == MVPN_CIRCUIT_BEGIN) {
        send_begin(c, false, now);
    }
}

void mvpn_circuit_end_session(mvpn_circuit *c, mvpn_time now)
{
    if (c->state != MVPN_CIRCUIT_RELAY) {
        return;
    }
    mvpn_wipe(c->ticket, sizeof(c->ticket));
    c->session_end = MVPN_SESSION_CLOSED;
    c->state = MVPN_CIRCUIT_READY;
    mvpn_packet *p = mvpn_packet_new(c->env->pool);
    if (p == NULL) {
        return; /* the exit's own timers end it otherwise */
    }
    *mvpn_packet_append(p, 1) = MVPN_REASON_FINISHED;
    int r = send_cell(c, c->onion.count, MVPN_CMD_RELAY_END, c->early_left > 0, p, now);
    if (mvpn_error_is_close(r)) {
        mvpn_circuit_close(c, r, MVPN_REASON_NONE, 0, now);
    }
}

static void send_bodies(mvpn_circuit *c, mvpn_packet_queue *bodies, mvpn_time now)
{
    mvpn_packet *p;
    while ((p = mvpn_packet_queue_pop(bodies)) != NULL) {
        if (c->state != MVPN_CIRCUIT_RELAY) {
            mvpn_packet_free(c->env->pool, p);
            continue;
        }
        if (c->unanswered == 0) {
            c->unanswered = now;
        }
        int r = send_cell(c, c->onion.count, MVPN_CMD_RELAY_DATA, false, p, now);
        if (mvpn_error_is_close(r)) {
            mvpn_circuit_close(c, r, MVPN_REASON_NONE, 0, now);
        } else if (r != 0) {
            c->cells_dropped++;
        }
    }
}

void mvpn_circuit_send(mvpn_circuit *c, mvpn_packet *packet, mvpn_time now)
{
    mvpn_packet_queue bodies;
    mvpn_packet_queue_init(&bodies);
    if (c->state != MVPN_CIRCUIT_RELAY) {
        mvpn_packet_free(c->env->pool, packet);
        return;
    }
    if (mvpn_packer_add(&c->packer, c->env->pool, packet, &bodies) != 0) {
        c->cells_dropped++;
    }
    send_bodies(c, &bodies, now);
}

void mvpn_circuit_flush(mvpn_circuit *c, mvpn_time now)
{
    mvpn_packet_queue bodies;
    mvpn_packet_queue_init(&bodies);
    mvpn_packer_flush(&c->packer, &bodies);
    send_bodies(c, &bodies, now);
}

void mvpn_circuit_ping(mvpn_circuit *c, unsigned hop, mvpn_time now)
{
    mvpn_packet *p = mvpn_packet_new(c->env->pool);
    if (p == NULL) {
        return;
    }
    mvpn_circuit_ping_out *ping = &c->pings[c->ping_next++ % MVPN_CIRCUIT_PINGS];
    c->pings_out += ping->token == 0; /* else the oldest is given up */
    *ping = (mvpn_circuit_ping_out){mvpn_rng_u64(c->env->rng) | 1, now, hop};
    mvpn_store64(mvpn_packet_append(p, 8), ping->token);
    int r = send_cell(c, hop, MVPN_CMD_RELAY_PING, false, p, now);
    if (mvpn_error_is_close(r)) {
        mvpn_circuit_close(c, r, MVPN_REASON_NONE, 0, now);
    }
}

unsigned mvpn_circuit_silent_hop(const mvpn_circuit *c, mvpn_time since)
{
    for (unsigned i = 0; i < c->onion.count; i++) {
        if (c->hop_in[i] < since) {
            return i + 1;
        }
    }
    return 0;
}

int mvpn_circuit_ask(mvpn_circuit *c, unsigned hop, uint32_t request_id, unsigned command,
                     mvpn_packet *packet, mvpn_time now)
{
    bool is_ready = c->state == MVPN_CIRCUIT_READY || c->state == MVPN_CIRCUIT_BEGIN ||
                    c->state == MVPN_CIRCUIT_RELAY;
    if (!is_ready || hop == 0 || hop > c->onion.count) {
        mvpn_packet_free(c->env->pool, packet);
        return MVPN_E_STATE;
    }
    uint8_t *at = mvpn_packet_push(packet, MVPN_RELAY_DHT_FIXED);
    mvpn_store32(at, request_id);
    mvpn_store16(at + 4, (uint16_t)command);
    c->dht_asked |= (uint8_t)(1u << (hop - 1));
    return send_cell(c, hop, MVPN_CMD_RELAY_DHT, false, packet, now);
}

mvpn_packet *mvpn_circuit_take_answer(mvpn_circuit *c, unsigned *ret_hop, uint32_t *ret_request_id,
                                      unsigned *ret_command)
{
    mvpn_packet *p = c->dht_answer;
    if (p == NULL) {
        return NULL;
    }
    c->dht_answer = NULL;
    *ret_hop = c->dht_hop;
    *ret_request_id = mvpn_load32(p->data);
    *ret_command = mvpn_load16(p->data + 4);
    mvpn_packet_pull(p, MVPN_RELAY_DHT_FIXED);
    return p;
}
