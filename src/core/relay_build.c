/*
 * Relay: building circuits. Create is queued and answered a few per turn; Extend opens or reuses a
 * link to the relay named and asks it with Create. (docs/protocol.md §6)
 */
#include "core/relay_internal.h"

#include <stdlib.h>
#include <string.h>

#include "core/target.h"

/* Parts of our answers in a layer fit every profile; parts on a link fit a cell. */
#define EXTENDED_PART_MAX (MVPN_ROOM_PROFILE1 - MVPN_EXTENDED_FIXED)
#define CREATED_PART_MAX (MVPN_BODY_MAX - MVPN_CREATED_FIXED)
#define CREATE_PART_MAX (MVPN_BODY_MAX - MVPN_CREATE_FIXED)

static answer *answer_new(uint32_t request_id, const uint8_t *bytes, size_t n)
{
    answer *a = malloc(sizeof(*a) + n);
    if (a != NULL) {
        a->request_id = request_id;
        a->len = (uint16_t)n;
        memcpy(a->bytes, bytes, n);
    }
    return a;
}

static void send_created(mvpn_relay *relay, relay_circuit *c, mvpn_time now)
{
    const answer *a = c->created;
    for (size_t at = 0; at < a->len; at += CREATED_PART_MAX) {
        mvpn_packet *p = mvpn_packet_new(relay->cfg.pool);
        if (p == NULL) {
            return; /* the client asks again or gives up */
        }
        mvpn_created m = {
            .request_id = a->request_id,
            .part = {a->len, (uint16_t)at,
                     mvpn_bytes_of(a->bytes + at, MVPN_MIN(a->len - at, (size_t)CREATED_PART_MAX))},
        };
        p->len = (uint32_t)mvpn_created_encode(p->data, MVPN_BODY_MAX, &m);
        mvpn_header h = {.command = MVPN_CMD_CREATED, .length = (uint16_t)p->len};
        relay_send(relay, &c->prev, &h, p, true, now);
    }
}

static relay_circuit *circuit_new(mvpn_relay *relay, mvpn_link *link, const mvpn_circuit_id *in,
                                  const mvpn_create *m, mvpn_time now)
{
    relay_circuit *c = calloc(1, sizeof(*c));
    if (c == NULL) {
        return NULL;
    }
    if (mvpn_timers_reserve(&relay->timers, relay->circuit_count + 1) != 0 ||
        relay_end_open(relay, c, &c->prev, link, in, &m->back, now) != 0) {
        free(c);
        return NULL;
    }
    c->state = CIRCUIT_CREATING;
    c->early_left = MVPN_EARLY_MAX;
    c->back_acked_left = BACK_ACKED;
    mvpn_bucket_init(&c->directory, DIRECTORY_RATE, DIRECTORY_BURST, now);
    c->suite = m->suite;
    c->key_id = m->key_id;
    c->create_request = m->request_id;
    mvpn_list_append(&relay->circuits, &c->all);
    relay->circuit_count++;
    mvpn_timer_set(&relay->timers, &c->timer, now + MVPN_ASSEMBLY_TIME);
    return c;
}

/* Put a whole Create into the queue; takes the packet if the message lies in it. */
static bool enqueue(mvpn_relay *relay, relay_circuit *c, mvpn_bytes message, mvpn_packet *packet,
                    mvpn_time now)
{
    bool in_packet = c->assembly == NULL || message.p != c->assembly->bytes;
    c->waiting_message = message;
    c->waiting_since = now;
    c->waiting = in_packet ? packet : NULL;
    mvpn_list_append(&relay->create_queue, &c->queue);
    relay->create_waiting++;
    return in_packet;
}

static void refuse(mvpn_relay *relay, link_state *ls, const mvpn_circuit_id *back,
                   enum mvpn_reason reason, mvpn_time now)
{
    relay->counters.refused++;
    if (mvpn_bucket_take(&ls->refusals, 1, now)) {
        relay_send_destroy(relay, ls->link, back, reason, now);
    }
}

void relay_create(mvpn_relay *relay, mvpn_link *link, const mvpn_header *header,
                  mvpn_packet *packet, mvpn_time now)
{
    mvpn_create m;
    mvpn_bytes message;
    link_state *ls = relay_link_state(relay, link, now);
    if (ls == NULL || mvpn_create_decode(&m, mvpn_bytes_of(packet->data, packet->len)) != 0) {
        goto out;
    }
    circuit_end *end = relay_end_find(relay, link, &header->circuit);
    relay_circuit *c = end == NULL ? NULL : end->circuit;
    if (c != NULL && (end != &c->prev || c->create_request != m.request_id)) {
        goto out; /* the id is taken */
    }
    if (c != NULL && c->created != NULL) {
        send_created(relay, c, now);
    }
    if (c != NULL && (c->state != CIRCUIT_CREATING || mvpn_list_is_linked(&c->queue))) {
        goto out;
    }
    if (c == NULL && relay->cfg.no_circuits) {
        refuse(relay, ls, &m.back, MVPN_REASON_REFUSED, now);
        goto out;
    }
    if (c == NULL) {
        if (!relay_link_take(relay, ls, &ls->create, now) ||
            relay->create_waiting >= CREATE_QUEUE_MAX ||
            relay->circuit_count >= relay->cfg.circuits_max || relay_is_overloaded(relay, now)) {
            refuse(relay, ls, &m.back, MVPN_REASON_BUSY, now);
            goto out;
        }
        c = circuit_new(relay, link, &header->circuit, &m, now);
        if (c == NULL) {
            refuse(relay, ls, &m.back, MVPN_REASON_BUSY, now);
            goto out;
        }
    }
    int r = mvpn_assembly_add(&c->assembly, m.request_id, &m.part, now, &message);
    if (r == 0 && enqueue(relay, c, message, packet, now)) {
        return;
    }
    if (r != 0 && r != MVPN_E_AGAIN) {
        relay_circuit_destroy(relay, c, MVPN_REASON_PROTOCOL, now);
    }
out:
    mvpn_packet_free(relay->cfg.pool, packet);
}

static const mvpn_x25519_pair *find_onion_key(const mvpn_relay *relay, uint8_t id)
{
    for (size_t i = 0; i < relay->cfg.onion_key_count; i++) {
        if (relay->cfg.onion_keys[i].id == id) {
            return &relay->cfg.onion_keys[i].pair;
        }
    }
    return NULL;
}

/* Answer one queued Create. */
static void answer_create(mvpn_relay *relay, relay_circuit *c, mvpn_time now)
{
    uint8_t out[MVPN_HANDSHAKE_MAX];
    size_t n = 0;
    mvpn_hop_keys keys;
    const mvpn_x25519_pair *pair = find_onion_key(relay, c->key_id);
    if (pair == NULL) {
        relay_circuit_destroy(relay, c, MVPN_REASON_KEY_UNKNOWN, now);
        return;
    }
    mvpn_onion_target self = {relay->cfg.identity, pair->pub, c->suite};
    int r = mvpn_handshake_answer(relay->cfg.aead, relay->cfg.rng, &relay->cfg.realm, &self, pair,
                                  c->waiting_message, out, &n, &keys);
    mvpn_packet_free(relay->cfg.pool, c->waiting);
    c->waiting = NULL;
    mvpn_assembly_free(&c->assembly);
    c->created = r == 0 ? answer_new(c->create_request, out, n) : NULL;
    if (c->created == NULL) {
        relay_circuit_destroy(relay, c, MVPN_REASON_PROTOCOL, now);
        return;
    }
    mvpn_layer_rx_init(&c->forward, &keys.forward);
    mvpn_layer_tx_init(&c->backward, &keys.backward);
    mvpn_wipe(&keys, sizeof(keys));
    c->state = CIRCUIT_OPEN;
    mvpn_timer_set(&relay->timers, &c->timer, now + HALF_BUILT_TIME); /* until the first cell */
    relay->counters.created++;
    send_created(relay, c, now);
}

void relay_create_turn(mvpn_relay *relay, mvpn_time now)
{
    for (unsigned left = relay->create_waiting == 0 ? 0 : relay_creates_now(relay); left > 0;
         left--) {
        mvpn_list *node = mvpn_list_pop(&relay->create_queue);
        if (node == NULL) {
            return;
        }
        relay_circuit *c = MVPN_CONTAINER_OF(node, relay_circuit, queue);
        relay->create_waiting--;
        if (now - c->waiting_since > CREATE_QUEUE_TIME) {
            relay->counters.refused++;
            relay_circuit_destroy(relay, c, MVPN_REASON_BUSY, now);
            left++; /* costs nothing */
            continue;
        }
        answer_create(relay, c, now);
    }
}

static void send_extended(mvpn_relay *relay, relay_circuit *c, mvpn_time now)
{
    static const mvpn_cell_kind kind = {MVPN_CMD_EXTENDED, 1, MVPN_SIZE_CLASSES};
    const answer *a = c->extended;
    for (size_t at = 0; at < a->len; at += EXTENDED_PART_MAX) {
        mvpn_packet *p = mvpn_packet_new(relay->cfg.pool);
        if (p == NULL) {
            return;
        }
        mvpn_extended m = {
            .request_id = a->request_id,
            .part = {a->len, (uint16_t)at,
                     mvpn_bytes_of(a->bytes + at,
                                   MVPN_MIN(a->len - at, (size_t)EXTENDED_PART_MAX))},
        };
        p->len = (uint32_t)mvpn_extended_encode(p->data, MVPN_ROOM_PROFILE1, &m);
        relay_answer(relay, c, &kind, p, now);
    }
}

void relay_extend_failed(mvpn_relay *relay, relay_circuit *c, enum mvpn_reason reason,
                         mvpn_time now)
{
    static const mvpn_cell_kind kind = {MVPN_CMD_EXTENDED, 1, MVPN_SIZE_CLASSES};
    c->state = CIRCUIT_OPEN;
    relay->counters.extend_failed++;
    mvpn_assembly_free(&c->assembly);
    mvpn_timer_set(&relay->timers, &c->timer, now + HALF_BUILT_TIME);
    mvpn_packet *p = mvpn_packet_new(relay->cfg.pool);
    if (p == NULL) {
        return;
    }
    mvpn_extended m = {.request_id = c->extend_request, .status = (uint8_t)reason};
    p->len = (uint32_t)mvpn_extended_encode(p->data, MVPN_ROOM_PROFILE1, &m);
    relay_answer(relay, c, &kind, p, now);
}

static bool same_identity(const mvpn_ed25519_pub *a, const mvpn_ed25519_pub *b)
{
    return a != NULL && memcmp(a->b, b->b, sizeof(a->b)) == 0;
}

/* A descriptor that came with an Extend: is it that relay's, and good? */
static int verify_sent(mvpn_relay *relay, const mvpn_ed25519_pub *identity,
                       const mvpn_descriptor *sent, mvpn_time now)
{
    const mvpn_realm *realm = &relay->cfg.realm;
    if (!same_identity(&sent->identity, identity)) {
        return MVPN_E_AUTH;
    }
    int r =
        mvpn_descriptor_verify(sent, &realm->network_id, realm->closed ? &realm->network_pub : NULL,
                               relay_unix_now(relay, now));
    if (r == 0 && relay->cfg.trust != NULL && sent->has_membership &&
        mvpn_revocations_has(&relay->cfg.trust->revocations, mvpn_descriptor_serial(sent))) {
        r = MVPN_E_POLICY;
    }
    return r;
}

/*
 * The descriptor of the relay named: ours, or the one sent if it verifies and is the later one (a
 * relay behind a NAT may have other NAT relays by now).
 */
static int find_target(mvpn_relay *relay, const mvpn_extend_body *body, mvpn_descriptor *scratch,
                       const mvpn_descriptor **ret, mvpn_time now)
{
    const mvpn_descriptor *held = mvpn_view_find(relay->cfg.view, &body->identity);
    if (held != NULL &&
        !mvpn_validity_holds(held->published, held->expires, relay_unix_now(relay, now))) {
        held = NULL;
    }
    int r = mvpn_descriptor_decode(scratch, body->descriptor);
    bool is_later = r == 0 && (held == NULL || scratch->sequence > held->sequence);
    if (is_later) {
        r = verify_sent(relay, &body->identity, scratch, now);
    }
    if (is_later && r == 0) {
        *ret = scratch;
        return 0;
    }
    *ret = held != NULL ? held : *ret;
    return held != NULL ? 0 : r;
}

/* Identities, addresses and blocks share the table: their lengths tell them apart. */
bool relay_bucket_take(mvpn_relay *relay, mvpn_bytes name, uint64_t rate, uint64_t burst,
                       mvpn_time now)
{
    uint64_t hash = mvpn_siphash(&relay->hash_key, name.p, name.n) | 1;
    size_t i = (hash >> 8) % EXTEND_TABLE;
    if (relay->extend_buckets[i].hash != hash) {
        relay->extend_buckets[i].hash = hash;
        mvpn_bucket_init(&relay->extend_buckets[i].bucket, rate, burst, now);
    }
    return mvpn_bucket_take(&relay->extend_buckets[i].bucket, 1, now);
}

static bool may_send_to(mvpn_relay *relay, const mvpn_ed25519_pub *identity, const mvpn_addr *addr,
                        mvpn_time now)
{
    return mvpn_links_find(relay->cfg.links, identity) != NULL ||
           relay_bucket_take(relay, mvpn_bytes_of(addr->ip, mvpn_addr_ip_len(addr)), OPEN_RATE,
                             OPEN_BURST, now);
}

/* May the link be opened now? NAT relays that may not be sent to are struck off. */
static bool may_open(mvpn_relay *relay, mvpn_link_target *target, mvpn_time now)
{
    if (target->via_count == 0 || mvpn_links_find(relay->cfg.links, &target->identity) != NULL) {
        return may_send_to(relay, &target->identity, &target->addr, now);
    }
    size_t kept = 0;
    for (size_t i = 0; i < target->via_count; i++) {
        const mvpn_link_via via = target->via[i];
        if (may_send_to(relay, &via.identity, &via.addr, now)) {
            target->via[kept++] = via;
        }
    }
    target->via_count = kept;
    return kept > 0;
}

/* We, or the hop before us, forward for it: one node would be two neighbours of a path. (§14.3) */
static bool is_guest_of_ours(const mvpn_relay *relay, const relay_circuit *c,
                             const mvpn_descriptor *target)
{
    for (size_t i = 0; i < target->nat_relay_count; i++) {
        const mvpn_ed25519_pub *nat_relay = &target->nat_relays[i].identity;
        if (same_identity(&relay->cfg.identity, nat_relay) ||
            same_identity(mvpn_link_peer_identity(c->prev.link), nat_relay)) {
            return true;
        }
    }
    return false;
}

static int choose_target(const mvpn_relay *relay, const mvpn_descriptor *d, mvpn_link_target *ret,
                         mvpn_time now)
{
    const mvpn_target_rules rules = {
        .has_ipv4 = relay->cfg.has_ipv4,
        .has_ipv6 = relay->cfg.has_ipv6,
        .allow_private = relay->cfg.allow_private,
        .own = relay->cfg.own_addresses,
        .own_count = relay->cfg.own_address_count,
        .self = &relay->cfg.identity,
        .unix_now = relay_unix_now(relay, now),
    };
    return mvpn_target_make(relay->cfg.view, d, &rules, ret);
}

static int send_create(mvpn_relay *relay, relay_circuit *c, const mvpn_extend_body *body,
                       const mvpn_circuit_id *back, mvpn_time now)
{
    for (size_t at = 0; at < body->handshake.n; at += CREATE_PART_MAX) {
        mvpn_packet *p = mvpn_packet_new(relay->cfg.pool);
        if (p == NULL) {
            return MVPN_E_NOMEM;
        }
        mvpn_create m = {
            .back = *back,
            .request_id = c->extend_request,
            .suite = body->suite,
            .key_id = body->key_id,
            .part = {(uint16_t)body->handshake.n, (uint16_t)at,
                     mvpn_bytes_of(body->handshake.p + at,
                                   MVPN_MIN(body->handshake.n - at, (size_t)CREATE_PART_MAX))},
        };
        p->len = (uint32_t)mvpn_create_encode(p->data, MVPN_BODY_MAX, &m);
        mvpn_header h = {
            .circuit = c->next.out,
            .command = MVPN_CMD_CREATE,
            .length = (uint16_t)p->len,
        };
        int r = mvpn_link_send(c->next.link, p, &h, true, now);
        if (r != 0) {
            return r;
        }
    }
    return 0;
}

/* Obey a whole Extend, or say why not. */
static enum mvpn_reason begin_extend(mvpn_relay *relay, relay_circuit *c, mvpn_bytes message,
                                     mvpn_time now)
{
    mvpn_extend_body body;
    mvpn_descriptor scratch;
    const mvpn_descriptor *target;
    mvpn_link_target link_target;
    mvpn_link *link;
    mvpn_circuit_id ids[2];
    if (mvpn_extend_body_decode(&body, message) != 0) {
        return MVPN_REASON_PROTOCOL;
    }
    if (same_identity(&relay->cfg.identity, &body.identity) ||
        same_identity(mvpn_link_peer_identity(c->prev.link), &body.identity)) {
        return MVPN_REASON_REFUSED;
    }
    if (find_target(relay, &body, &scratch, &target, now) != 0) {
        return MVPN_REASON_RELAY_UNKNOWN;
    }
    /* Only now: who names a relay without its descriptor takes nothing from others' share of it. */
    if (!relay_bucket_take(relay, MVPN_BYTES_ARRAY(body.identity.b), EXTEND_RATE, EXTEND_BURST,
                           now)) {
        return MVPN_REASON_BUSY;
    }
    if (is_guest_of_ours(relay, c, target)) {
        return MVPN_REASON_REFUSED;
    }
    int r = choose_target(relay, target, &link_target, now);
    if (r != 0) {
        return r == MVPN_E_UNKNOWN ? MVPN_REASON_UNREACHABLE : MVPN_REASON_REFUSED;
    }
    if (!may_open(relay, &link_target, now)) {
        return MVPN_REASON_BUSY;
    }
    if (mvpn_links_open(relay->cfg.links, &link_target, now, &link) != 0) {
        return MVPN_REASON_UNREACHABLE;
    }
    mvpn_rng_bytes(relay->cfg.rng, ids[0].b, sizeof(ids));
    if (relay_end_open(relay, c, &c->next, link, &ids[0], &ids[1], now) != 0) {
        return MVPN_REASON_BUSY;
    }
    c->state = CIRCUIT_EXTENDING;
    mvpn_timer_set(&relay->timers, &c->timer, now + EXTEND_TIME);
    return send_create(relay, c, &body, &ids[0], now) == 0 ? MVPN_REASON_NONE : MVPN_REASON_BUSY;
}

void relay_extend(mvpn_relay *relay, relay_circuit *c, mvpn_bytes data, mvpn_time now)
{
    mvpn_extend m;
    mvpn_bytes message;
    if (mvpn_extend_decode(&m, data) != 0) {
        relay_circuit_destroy(relay, c, MVPN_REASON_PROTOCOL, now);
        return;
    }
    if (c->state == CIRCUIT_EXTENDING && m.request_id == c->extend_request) {
        return; /* being done */
    }
    if (c->state == CIRCUIT_EXTENDED && c->extended != NULL && m.request_id == c->extend_request) {
        send_extended(relay, c, now);
        return;
    }
    if (c->state != CIRCUIT_OPEN || relay_session_is_open(c)) {
        relay_circuit_destroy(relay, c, MVPN_REASON_PROTOCOL, now);
        return;
    }
    int r = mvpn_assembly_add(&c->assembly, m.request_id, &m.part, now, &message);
    if (r == MVPN_E_AGAIN) {
        return;
    }
    if (r != 0) {
        relay_circuit_destroy(relay, c, MVPN_REASON_PROTOCOL, now);
        return;
    }
    c->extend_request = m.request_id;
    enum mvpn_reason reason = begin_extend(relay, c, message, now);
    mvpn_assembly_free(&c->assembly);
    if (reason != MVPN_REASON_NONE) {
        relay_end_close(relay, &c->next, now);
        relay_extend_failed(relay, c, reason, now);
    }
}

void relay_created(mvpn_relay *relay, relay_circuit *c, mvpn_bytes body, mvpn_time now)
{
    mvpn_created m;
    mvpn_bytes message;
    if (c->state != CIRCUIT_EXTENDING || mvpn_created_decode(&m, body) != 0 ||
        m.request_id != c->extend_request) {
        return;
    }
    int r = mvpn_assembly_add(&c->assembly, m.request_id, &m.part, now, &message);
    if (r == MVPN_E_AGAIN) {
        return;
    }
    c->extended = r == 0 ? answer_new(c->extend_request, message.p, message.n) : NULL;
    mvpn_assembly_free(&c->assembly);
    if (c->extended == NULL) {
        relay_circuit_destroy(relay, c, MVPN_REASON_PROTOCOL, now);
        return;
    }
    c->state = CIRCUIT_EXTENDED;
    mvpn_timer_clear(&relay->timers, &c->timer);
    relay->counters.extended++;
    send_extended(relay, c, now);
}
