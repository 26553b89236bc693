/*
 * Relay: tables of circuits and the cells that pass through. Nothing of a received cell but
 * authenticated fields and the live bytes that we open or seal ourselves goes on. (docs/protocol.md
 * §5.3)
 */
#include "core/relay_internal.h"

#include <stdlib.h>
#include <string.h>

#include "network/ip/ecn.h"
#include "wire/circuit.h"

uint64_t relay_unix_now(const mvpn_relay *relay, mvpn_time now)
{
    return (uint64_t)(((int64_t)now + relay->cfg.unix_offset_us) / (int64_t)MVPN_US_PER_S);
}

static uint64_t end_hash(const mvpn_relay *relay, const mvpn_link *link, const mvpn_circuit_id *in)
{
    struct {
        const mvpn_link *link;
        mvpn_circuit_id in;
    } key = {link, *in};
    return mvpn_siphash(&relay->hash_key, &key, sizeof(key));
}

circuit_end *relay_end_find(mvpn_relay *relay, mvpn_link *link, const mvpn_circuit_id *in)
{
    mvpn_hash_node *n = mvpn_hash_first(&relay->ends, end_hash(relay, link, in));
    for (; n != NULL; n = mvpn_hash_next(n)) {
        circuit_end *end = MVPN_CONTAINER_OF(n, circuit_end, node);
        if (end->link == link && memcmp(end->in.b, in->b, sizeof(in->b)) == 0) {
            return end;
        }
    }
    return NULL;
}

/* A relay of the view, and the link has proven that it is that one. */
static bool is_known_relay(const mvpn_relay *relay, const mvpn_link *link, mvpn_time now)
{
    const mvpn_ed25519_pub *identity = mvpn_link_peer_identity(link);
    const mvpn_descriptor *d = identity == NULL ? NULL : mvpn_view_find(relay->cfg.view, identity);
    return d != NULL && mvpn_validity_holds(d->published, d->expires, relay_unix_now(relay, now));
}

bool relay_link_take(mvpn_relay *relay, link_state *ls, mvpn_bucket *bucket, mvpn_time now)
{
    if (mvpn_bucket_take(bucket, 1, now)) {
        return true;
    }
    if (ls->is_relay || !is_known_relay(relay, ls->link, now)) {
        return false;
    }
    ls->is_relay = true;
    mvpn_bucket_init(&ls->create, RELAY_CREATE_RATE, RELAY_CREATE_BURST, now);
    mvpn_bucket_init(&ls->sessions, RELAY_SESSION_RATE, RELAY_SESSION_BURST, now);
    mvpn_bucket_init(&ls->refusals, RELAY_CREATE_RATE, RELAY_CREATE_BURST, now);
    return mvpn_bucket_take(bucket, 1, now);
}

link_state *relay_link_state(mvpn_relay *relay, mvpn_link *link, mvpn_time now)
{
    link_state *ls = mvpn_link_user(link);
    if (ls == NULL) {
        ls = calloc(1, sizeof(*ls));
        if (ls == NULL) {
            return NULL;
        }
        mvpn_list_init(&ls->ends);
        mvpn_bucket_init(&ls->create, CREATE_RATE, CREATE_BURST, now);
        mvpn_bucket_init(&ls->sessions, SESSION_RATE, SESSION_BURST, now);
        mvpn_bucket_init(&ls->refusals, REFUSAL_RATE, REFUSAL_BURST, now);
        mvpn_bucket_init(&ls->directory, DIRECTORY_LINK_RATE, DIRECTORY_LINK_BURST, now);
        ls->link = link;
        mvpn_list_append(&relay->link_states, &ls->all);
        mvpn_link_set_user(link, ls);
    }
    return ls;
}

int relay_end_open(mvpn_relay *relay, relay_circuit *c, circuit_end *end, mvpn_link *link,
                   const mvpn_circuit_id *in, const mvpn_circuit_id *out, mvpn_time now)
{
    link_state *ls = relay_link_state(relay, link, now);
    if (ls == NULL) {
        return MVPN_E_NOMEM;
    }
    if (ls->circuits >= CIRCUITS_PER_LINK_MAX) {
        return MVPN_E_LIMIT;
    }
    end->link = link;
    end->in = *in;
    end->out = *out;
    end->circuit = c;
    ls->circuits++;
    mvpn_list_append(&ls->ends, &end->on_link);
    mvpn_hash_insert(&relay->ends, &end->node, end_hash(relay, link, in));
    mvpn_link_hold(link);
    return 0;
}

void relay_end_close(mvpn_relay *relay, circuit_end *end, mvpn_time now)
{
    if (end->link == NULL) {
        return;
    }
    link_state *ls = mvpn_link_user(end->link);
    ls->circuits--;
    mvpn_list_remove(&end->on_link);
    mvpn_hash_remove(&relay->ends, &end->node);
    mvpn_link_release(end->link, now);
    end->link = NULL;
}

void relay_circuit_free(mvpn_relay *relay, relay_circuit *c, mvpn_time now)
{
    relay_session_leave(relay, c, now);
    relay_end_close(relay, &c->prev, now);
    relay_end_close(relay, &c->next, now);
    if (mvpn_list_is_linked(&c->queue)) {
        mvpn_list_remove(&c->queue);
        relay->create_waiting--;
    }
    mvpn_packet_free(relay->cfg.pool, c->waiting);
    mvpn_flow_clear(&relay->scheduler, &c->to_exit);
    mvpn_flow_clear(&relay->scheduler, &c->to_client);
    mvpn_assembly_free(&c->assembly);
    free(c->created);
    free(c->extended);
    mvpn_timer_clear(&relay->timers, &c->timer);
    mvpn_list_remove(&c->all);
    relay->circuit_count--;
    relay->counters.destroyed++;
    mvpn_wipe(c, sizeof(*c));
    free(c);
}

void relay_send(mvpn_relay *relay, circuit_end *end, mvpn_header *header, mvpn_packet *packet,
                bool acked, mvpn_time now)
{
    header->circuit = end->out;
    if (mvpn_link_send(end->link, packet, header, acked, now) != 0) {
        relay->counters.cells_dropped++;
    }
}

void relay_send_destroy(mvpn_relay *relay, mvpn_link *link, const mvpn_circuit_id *id,
                        enum mvpn_reason reason, mvpn_time now)
{
    mvpn_packet *p = mvpn_packet_new(relay->cfg.pool);
    if (p == NULL) {
        return;
    }
    *mvpn_packet_append(p, 1) = (uint8_t)reason;
    mvpn_header h = {.circuit = *id, .command = MVPN_CMD_DESTROY, .length = 1};
    MVPN_IGNORE(
        mvpn_link_send(link, p, &h, true, now)); /* a link that cannot send tells nobody anyway */
}

void relay_circuit_destroy(mvpn_relay *relay, relay_circuit *c, enum mvpn_reason reason,
                           mvpn_time now)
{
    if (c->prev.link != NULL) {
        relay_send_destroy(relay, c->prev.link, &c->prev.out, reason, now);
    }
    if (c->next.link != NULL) {
        relay_send_destroy(relay, c->next.link, &c->next.out, MVPN_REASON_NONE, now);
    }
    relay_circuit_free(relay, c, now);
}

/* ---- cells that wait (§6.5) ---- */

enum way {
    WAY_TO_EXIT,   /* received, layer not yet opened */
    WAY_TO_CLIENT, /* received, layer not yet sealed */
    WAY_ANSWER,    /* our own data for the client, not yet sealed */
};

/* What is to be remembered of a cell in a flow; stands before its bytes. */
typedef struct note {
    uint64_t counter;
    uint16_t command;
    uint16_t length;
    uint8_t size_class;
    uint8_t way;
    uint8_t profile; /* of answers, as the next */
    uint8_t policy;
} note;

static uint32_t wire_cost(size_t body)
{
    return (uint32_t)body + CELL_OVERHEAD;
}

static void wait_in(mvpn_relay *relay, mvpn_flow *flow, const note *n, mvpn_packet *packet,
                    uint32_t cost, mvpn_time now)
{
    memcpy(mvpn_packet_push(packet, sizeof(*n)), n, sizeof(*n));
    mvpn_scheduler_put(&relay->scheduler, flow, packet, cost, now);
    relay->arrived++;
}

/* The first cells that go back are acknowledged on the link; those must not be lost here. */
static bool back_is_acked(relay_circuit *c)
{
    if (c->back_acked_left == 0) {
        return false;
    }
    c->back_acked_left--;
    return true;
}

/* A Relay or RelayEarly cell of a neighbour: nothing is opened or sealed before its turn. */
static void receive_cell(mvpn_relay *relay, circuit_end *end, const mvpn_header *header,
                         mvpn_packet *packet, mvpn_time now)
{
    relay_circuit *c = end->circuit;
    bool is_forward = end == &c->prev;
    note n = {
        .counter = header->counter,
        .command = header->command,
        .length = header->length,
        .size_class = header->size_class,
        .way = is_forward ? WAY_TO_EXIT : WAY_TO_CLIENT,
    };
    bool is_kept = is_forward ? header->command == MVPN_CMD_RELAY_EARLY : back_is_acked(c);
    packet->flags = is_kept ? MVPN_PACKET_KEEP : 0;
    wait_in(relay, is_forward ? &c->to_exit : &c->to_client, &n, packet, wire_cost(packet->len),
            now);
}

/* The IP packets in a RelayData body; each is marked. True if there is one that can be. */
static bool mark_body(mvpn_packet *body, bool is_to_be_done)
{
    mvpn_bytes rest = {body->data, body->len};
    mvpn_data_item item;
    bool is_first = true, any = false;
    for (; mvpn_data_next(&rest, is_first, &item) == 0; is_first = false) {
        if (item.is_fragment && item.offset > 0) {
            break; /* the header is in the other part */
        }
        if (mvpn_ecn_is_capable(item.bytes.p, item.bytes.n)) {
            any = true;
            if (is_to_be_done) {
                mvpn_ecn_mark(body->data + (item.bytes.p - body->data), item.bytes.n);
            }
        }
    }
    return any;
}

static void send_answer(mvpn_relay *relay, relay_circuit *c, const mvpn_cell_kind *kind,
                        mvpn_packet *packet, bool is_acked, mvpn_time now)
{
    mvpn_header h;
    if (mvpn_onion_answer(&c->backward, relay->cfg.aead, kind, packet, &h) != 0) {
        relay->counters.cells_dropped++;
        mvpn_packet_free(relay->cfg.pool, packet);
        return;
    }
    relay_send(relay, &c->prev, &h, packet, is_acked, now);
}

void relay_answer(mvpn_relay *relay, relay_circuit *c, const mvpn_cell_kind *kind,
                  mvpn_packet *packet, mvpn_time now)
{
    unsigned size_class = mvpn_cell_class_for(kind->policy, packet->len, kind->profile);
    uint32_t cost = wire_cost(mvpn_cell_body_len(size_class, packet->len));
    bool is_data = kind->command == MVPN_CMD_RELAY_DATA;
    bool is_acked = back_is_acked(c);
    if (!is_data && kind->command != MVPN_CMD_RELAY_DHT) {
        mvpn_scheduler_charge(&relay->scheduler, cost);
        send_answer(relay, c, kind, packet, is_acked, now);
        return;
    }
    note n = {
        .command = kind->command,
        .way = WAY_ANSWER,
        .profile = kind->profile,
        .policy = (uint8_t)kind->policy,
    };
    packet->flags = is_acked                              ? MVPN_PACKET_KEEP
                    : is_data && mark_body(packet, false) ? MVPN_PACKET_ECT
                                                          : 0;
    wait_in(relay, &c->to_client, &n, packet, cost, now);
}

/* A command for this hop. Takes the packet: its data. The circuit may be gone afterwards. */
static void handle_command(mvpn_relay *relay, relay_circuit *c, const mvpn_layer_header *layer,
                           bool was_early, mvpn_packet *packet, mvpn_time now)
{
    mvpn_bytes data = {packet->data, packet->len};
    switch (layer->command) {
    case MVPN_CMD_RELAY_DATA:
        relay_session_data(relay, c, packet, now);
        return;
    case MVPN_CMD_EXTEND:
        if (was_early) {
            relay_extend(relay, c, data, now);
        } else {
            relay_circuit_destroy(relay, c, MVPN_REASON_PROTOCOL, now);
        }
        break;
    case MVPN_CMD_RELAY_BEGIN:
        relay_session_begin(relay, c, packet, now);
        break;
    case MVPN_CMD_RELAY_END:
        relay_session_end(relay, c, now);
        break;
    case MVPN_CMD_RELAY_DHT:
        relay_dht_in_circuit(relay, c, data, now);
        break;
    case MVPN_CMD_RELAY_PING:
        if (packet->len == 8) {
            mvpn_cell_kind pong = {MVPN_CMD_RELAY_PONG, 1, MVPN_SIZE_CLASSES};
            relay_answer(relay, c, &pong, packet, now);
            return;
        }
        break;
    default:
        break; /* Drop, and what we do not know: ignored (§7) */
    }
    mvpn_packet_free(relay->cfg.pool, packet);
}

/* Send the layer's data on as a cell of our own making (§5.3). */
static int pass_on(mvpn_relay *relay, relay_circuit *c, const mvpn_header *header,
                   const mvpn_layer_header *layer, mvpn_packet *packet, mvpn_time now)
{
    if (layer->command != header->command || c->state != CIRCUIT_EXTENDED ||
        packet->len < MVPN_LAYER_OVERHEAD ||
        mvpn_cell_body_len(layer->size_class, packet->len) == 0) {
        return MVPN_E_STATE;
    }
    mvpn_header out = {
        .command = layer->command,
        .length = layer->length,
        .size_class = layer->size_class,
        .counter = layer->next_counter,
    };
    free(c->extended); /* the client uses the next hop: it has our answer */
    c->extended = NULL;
    mvpn_onion_fill(packet, layer->size_class);
    relay->counters.cells_forward++;
    relay_send(relay, &c->next, &out, packet, layer->command == MVPN_CMD_RELAY_EARLY, now);
    return 0;
}

static void handle_forward(mvpn_relay *relay, relay_circuit *c, const mvpn_header *header,
                           mvpn_packet *packet, mvpn_time now)
{
    mvpn_layer_header layer;
    bool is_early = header->command == MVPN_CMD_RELAY_EARLY;
    if (c->state == CIRCUIT_CREATING) {
        goto drop;
    }
    if (mvpn_layer_open(relay->cfg.aead, &c->forward, packet, header->length, header->counter,
                        &layer) != 0 ||
        layer.size_class != header->size_class) {
        goto drop;
    }
    if (is_early && c->early_left-- == 0) {
        mvpn_packet_free(relay->cfg.pool, packet);
        relay_circuit_destroy(relay, c, MVPN_REASON_PROTOCOL, now);
        return;
    }
    if (c->created != NULL) { /* first cell: the client has our Created */
        free(c->created);
        c->created = NULL;
    }
    if (c->state == CIRCUIT_OPEN && !relay_session_is_open(c)) {
        /* Leads nowhere yet: a spare one is pinged, others are forgotten. */
        mvpn_timer_set(&relay->timers, &c->timer, now + IDLE_TIME);
    }
    if (!mvpn_command_is_relay(layer.command)) {
        handle_command(relay, c, &layer, is_early, packet, now);
        return;
    }
    if (pass_on(relay, c, header, &layer, packet, now) == 0) {
        return;
    }
drop:
    relay->counters.cells_dropped++;
    mvpn_packet_free(relay->cfg.pool, packet);
}

/*
 * On the way back a live length says how many hops have sealed, and nothing else: any other length
 * would be a signal from a hostile exit to a hostile guard. Class exact, in which any length is
 * possible, is for the way out. (§5.3)
 */
static bool length_is_honest(const mvpn_header *header)
{
    size_t size = mvpn_cell_body_len(header->size_class, header->length);
    return header->size_class != MVPN_CLASS_EXACT &&
           (size - header->length) % MVPN_LAYER_OVERHEAD == 0;
}

static void handle_backward(mvpn_relay *relay, relay_circuit *c, const mvpn_header *header,
                            mvpn_packet *packet, bool is_acked, mvpn_time now)
{
    mvpn_layer_header layer = {
        .size_class = header->size_class,
        .command = MVPN_CMD_RELAY,
        .length = header->length,
        .next_counter = (uint32_t)header->counter,
    };
    mvpn_header out = {.command = MVPN_CMD_RELAY, .size_class = header->size_class};
    if (header->command != MVPN_CMD_RELAY) { /* RelayEarly goes forward only (§6.2) */
        mvpn_packet_free(relay->cfg.pool, packet);
        relay_circuit_destroy(relay, c, MVPN_REASON_PROTOCOL, now);
        return;
    }
    if (c->state != CIRCUIT_EXTENDED || header->counter > UINT32_MAX || !length_is_honest(header) ||
        mvpn_cell_body_len(header->size_class, (size_t)header->length + MVPN_LAYER_OVERHEAD) == 0) {
        goto drop;
    }
    mvpn_packet_truncate(packet, header->length);
    if (mvpn_layer_seal(relay->cfg.aead, &c->backward, packet, &layer, &out.counter) != 0) {
        goto drop;
    }
    out.length = (uint16_t)packet->len;
    mvpn_onion_fill(packet, header->size_class);
    relay->counters.cells_backward++;
    relay_send(relay, &c->prev, &out, packet, is_acked, now);
    return;
drop:
    relay->counters.cells_dropped++;
    mvpn_packet_free(relay->cfg.pool, packet);
}

/* Destroy from a neighbour: from the client's side all ends; from the other, the client hears no
 * reason. */
static void end_circuit(mvpn_relay *relay, circuit_end *end, mvpn_bytes body, mvpn_time now)
{
    relay_circuit *c = end->circuit;
    uint8_t reason;
    if (mvpn_reason_decode(&reason, body) != 0) {
        return;
    }
    relay_end_close(relay, end, now);
    if (end == &c->next && c->state == CIRCUIT_EXTENDING) {
        relay_extend_failed(relay, c,
                            reason == MVPN_REASON_KEY_UNKNOWN ? reason : MVPN_REASON_REFUSED, now);
        return;
    }
    relay_circuit_destroy(relay, c, MVPN_REASON_NONE, now);
}

/* What came before it is handled before it: a last word may wait for its turn. */
static void handle_destroy(mvpn_relay *relay, circuit_end *end, mvpn_packet *packet, mvpn_time now)
{
    relay_circuit *c = end->circuit;
    bool is_forward = end == &c->prev;
    mvpn_flow *flow = is_forward ? &c->to_exit : &c->to_client;
    /* Nobody hears the answers any more. Nor may data hold up the end where turns are rare: when
     * many circuits are given up at once, their queues would keep the new ones waiting. */
    mvpn_flow_drop_large(&relay->scheduler, is_forward ? &c->to_client : &c->to_exit);
    if (mvpn_scheduler_round(&relay->scheduler, now) > LAST_DATA_ROUND) {
        mvpn_flow_drop_large(&relay->scheduler, flow);
    }
    if (flow->count == 0) {
        end_circuit(relay, end, (mvpn_bytes){packet->data, packet->len}, now);
        mvpn_packet_free(relay->cfg.pool, packet);
        return;
    }
    note n = {.command = MVPN_CMD_DESTROY, .way = is_forward ? WAY_TO_EXIT : WAY_TO_CLIENT};
    packet->flags = MVPN_PACKET_KEEP;
    mvpn_timer_set(&relay->timers, &c->timer, now + LAST_WORDS_TIME); /* whatever becomes of it */
    wait_in(relay, flow, &n, packet, wire_cost(packet->len), now);
}

/* A flow's turn has come. */
static void handle_waiting(mvpn_relay *relay, mvpn_flow *flow, mvpn_packet *packet, bool is_marked,
                           mvpn_time now)
{
    note n;
    memcpy(&n, packet->data, sizeof(n));
    mvpn_packet_pull(packet, sizeof(n));
    bool is_kept = (packet->flags & MVPN_PACKET_KEEP) != 0;
    packet->flags = 0;
    if (n.command == MVPN_CMD_DESTROY) {
        circuit_end *end = n.way == WAY_TO_EXIT
                               ? &MVPN_CONTAINER_OF(flow, relay_circuit, to_exit)->prev
                               : &MVPN_CONTAINER_OF(flow, relay_circuit, to_client)->next;
        end_circuit(relay, end, (mvpn_bytes){packet->data, packet->len}, now);
        mvpn_packet_free(relay->cfg.pool, packet);
        return;
    }
    if (n.way == WAY_ANSWER) {
        mvpn_cell_kind kind = {n.command, n.profile, (enum mvpn_size_policy)n.policy};
        if (is_marked) {
            (void)mark_body(packet, true);
        }
        send_answer(relay, MVPN_CONTAINER_OF(flow, relay_circuit, to_client), &kind, packet,
                    is_kept, now);
        return;
    }
    mvpn_header header = {
        .command = n.command,
        .length = n.length,
        .size_class = n.size_class,
        .counter = n.counter,
    };
    if (n.way == WAY_TO_EXIT) {
        handle_forward(relay, MVPN_CONTAINER_OF(flow, relay_circuit, to_exit), &header, packet,
                       now);
    } else {
        handle_backward(relay, MVPN_CONTAINER_OF(flow, relay_circuit, to_client), &header, packet,
                        is_kept, now);
    }
}

static relay_circuit *circuit_of_flow(mvpn_flow *flow)
{
    note n;
    memcpy(&n, mvpn_flow_oldest(flow)->data, sizeof(n));
    return n.way == WAY_TO_EXIT ? MVPN_CONTAINER_OF(flow, relay_circuit, to_exit)
                                : MVPN_CONTAINER_OF(flow, relay_circuit, to_client);
}

void mvpn_relay_message(mvpn_relay *relay, mvpn_link *link, const mvpn_header *header,
                        mvpn_packet *packet, mvpn_time now)
{
    circuit_end *end;
    if (mvpn_command_is_relay(header->command)) {
        end = relay_end_find(relay, link, &header->circuit);
        if (end == NULL) {
            relay->counters.cells_dropped++;
            mvpn_packet_free(relay->cfg.pool, packet);
        } else {
            receive_cell(relay, end, header, packet, now);
        }
        return;
    }
    mvpn_bytes body = {packet->data, packet->len};
    switch (header->command) {
    case MVPN_CMD_CREATE:
        relay_create(relay, link, header, packet, now); /* takes the packet */
        return;
    case MVPN_CMD_CREATED:
        end = relay_end_find(relay, link, &header->circuit);
        if (end != NULL && end == &end->circuit->next) {
            relay_created(relay, end->circuit, body, now);
        }
        break;
    case MVPN_CMD_DESTROY:
        end = relay_end_find(relay, link, &header->circuit);
        if (end != NULL) {
            handle_destroy(relay, end, packet, now); /* takes the packet */
            return;
        }
        break;
    case MVPN_CMD_DHT_FIND_VALUE:
    case MVPN_CMD_DHT_LIST:
    case MVPN_CMD_DHT_FETCH:
    case MVPN_CMD_DHT_BLOB:
        relay_dht_on_link(relay, link, header, body, now);
        break;
    default:
        mvpn_link_answer_unknown(link, now); /* the link itself refuses all else (§9) */
        break;
    }
    mvpn_packet_free(relay->cfg.pool, packet);
}

/* The link of this end is gone: of what came by it, the control cells are handled now, since their
 * turn will not come. True: the circuit is still there. */
static bool hear_last_words(mvpn_relay *relay, circuit_end *end, mvpn_time now)
{
    relay_circuit *c = end->circuit;
    mvpn_flow *flow = end == &c->prev ? &c->to_exit : &c->to_client;
    mvpn_packet *packet;
    uint64_t destroyed = relay->counters.destroyed;
    while (relay->counters.destroyed == destroyed &&
           (packet = mvpn_flow_take(&relay->scheduler, flow)) != NULL) {
        if ((packet->flags & MVPN_PACKET_KEEP) != 0) {
            handle_waiting(relay, flow, packet, false, now);
        } else {
            mvpn_packet_free(relay->cfg.pool, packet);
        }
    }
    return relay->counters.destroyed == destroyed;
}

void mvpn_relay_link_closed(mvpn_relay *relay, mvpn_link *link, mvpn_time now)
{
    link_state *ls = mvpn_link_user(link);
    if (ls == NULL) {
        return;
    }
    while (!mvpn_list_is_empty(&ls->ends)) {
        circuit_end *end = MVPN_CONTAINER_OF(ls->ends.next, circuit_end, on_link);
        relay_circuit *c = end->circuit;
        if (!hear_last_words(relay, end, now)) {
            continue;
        }
        relay_end_close(relay, end, now);
        if (end == &c->next && c->state == CIRCUIT_EXTENDING) {
            relay_extend_failed(relay, c, MVPN_REASON_UNREACHABLE, now);
        } else {
            relay_circuit_destroy(relay, c, MVPN_REASON_NONE, now);
        }
    }
    mvpn_link_set_user(link, NULL);
    mvpn_list_remove(&ls->all);
    free(ls);
}

/* ---- turns ---- */

static bool socket_takes_more(const mvpn_relay *relay)
{
    return mvpn_links_out(relay->cfg.links)->count < OUT_MAX;
}

/* Is the processor what is short? Then reading goes before sending, and the queues are ours. */
static void look_at_arrivals(mvpn_relay *relay, mvpn_time now)
{
    if (relay->arrived < CROWDED_ARRIVALS) {
        relay->crowded_since = 0;
    } else if (relay->crowded_since == 0) {
        relay->crowded_since = now;
    } else if (now - relay->crowded_since >= CROWDED_TIME) {
        relay->is_crowded = true;
    }
    relay->arrived = 0;
}

static void look_at_load(mvpn_relay *relay, mvpn_time now)
{
    if (mvpn_scheduler_round(&relay->scheduler, now) <= OVERLOAD_ROUND) {
        relay->overloaded_since = 0;
    } else if (relay->overloaded_since == 0) {
        relay->overloaded_since = now;
    }
}

bool relay_is_overloaded(const mvpn_relay *relay, mvpn_time now)
{
    return relay->overloaded_since != 0 && now - relay->overloaded_since >= OVERLOAD_TIME;
}

/* Send on what waits, in the order of turns. */
static unsigned send_waiting(mvpn_relay *relay, unsigned budget, mvpn_time now)
{
    unsigned n = 0;
    mvpn_flow *flow;
    mvpn_packet *packet;
    bool is_marked;
    while (n < budget && socket_takes_more(relay) &&
           mvpn_scheduler_pull(&relay->scheduler, now, &flow, &packet, &is_marked)) {
        handle_waiting(relay, flow, packet, is_marked, now);
        n++;
    }
    return n;
}

/*
 * The pool runs low: the circuit with the oldest cell goes. Who fills queues that do not drain has
 * the oldest cells; new and light circuits have none that are old.
 */
static void relieve_memory(mvpn_relay *relay, mvpn_time now)
{
    const mvpn_packet_pool *pool = relay->cfg.pool;
    mvpn_flow *flow;
    while (pool->free_count < pool->size / RESERVE_PART &&
           (flow = mvpn_scheduler_oldest(&relay->scheduler)) != NULL) {
        relay->counters.killed++;
        relay_circuit_destroy(relay, circuit_of_flow(flow), MVPN_REASON_BUSY, now);
    }
}

void mvpn_relay_flush(mvpn_relay *relay, mvpn_time now)
{
    look_at_arrivals(relay, now);
    unsigned budget = relay->is_crowded ? CROWDED_CELLS : CELLS_PER_TURN;
    unsigned sent = send_waiting(relay, budget, now);
    relay_session_flush(relay, now); /* what those made, too */
    sent += send_waiting(relay, budget - sent, now);
    if (relay->is_crowded) {
        relay->create_credit = MVPN_MIN(relay->create_credit + sent, CREATE_CREDIT_MAX);
        /* Less than it might: nothing waits, or for the rate and not for the processor. */
        relay->is_crowded = sent >= budget;
    }
    look_at_load(relay, now);
    relieve_memory(relay, now);
}

unsigned relay_creates_now(mvpn_relay *relay)
{
    if (!relay->is_crowded) {
        return CREATE_PER_TURN;
    }
    unsigned n = relay->create_credit / CREATE_COST_CELLS;
    relay->create_credit -= n * CREATE_COST_CELLS;
    return n;
}

void mvpn_relay_tick(mvpn_relay *relay, mvpn_time now)
{
    mvpn_timer *t;
    relay_create_turn(relay, now);
    relay_session_tick(relay, now);
    while ((t = mvpn_timers_pop(&relay->timers, now)) != NULL) {
        relay_circuit *c = MVPN_CONTAINER_OF(t, relay_circuit, timer);
        if (c->state == CIRCUIT_EXTENDING) {
            circuit_end *next = &c->next;
            if (next->link != NULL) {
                relay_send_destroy(relay, next->link, &next->out, MVPN_REASON_NONE, now);
                relay_end_close(relay, next, now);
            }
            relay_extend_failed(relay, c, MVPN_REASON_TIMEOUT, now);
        } else {
            relay_circuit_destroy(relay, c, MVPN_REASON_TIMEOUT, now);
        }
    }
}

mvpn_time mvpn_relay_deadline(const mvpn_relay *relay)
{
    mvpn_time t =
        mvpn_time_min(mvpn_timers_deadline(&relay->timers), relay_session_deadline(relay));
    if (socket_takes_more(relay)) {
        t = mvpn_time_min(t, mvpn_scheduler_deadline(&relay->scheduler));
    } /* else the socket wakes us */
    return relay->create_waiting > 0 ? 0 : t;
}

int mvpn_relay_new(const mvpn_relay_config *config, mvpn_time now, mvpn_relay **ret)
{
    mvpn_relay *relay = calloc(1, sizeof(*relay));
    if (relay == NULL) {
        return MVPN_E_NOMEM;
    }
    relay->cfg = *config;
    if (relay->cfg.circuits_max == 0) {
        relay->cfg.circuits_max = CIRCUITS_MAX;
    }
    mvpn_rng_bytes(config->rng, relay->hash_key.b, sizeof(relay->hash_key.b));
    mvpn_list_init(&relay->circuits);
    mvpn_list_init(&relay->create_queue);
    mvpn_list_init(&relay->dirty);
    mvpn_list_init(&relay->assembling);
    relay->sweep_at = MVPN_TIME_NEVER;
    mvpn_list_init(&relay->link_states);
    const mvpn_scheduler_config sc = {
        .pool = config->pool,
        .rate = config->rate,
        .packets_max = (uint32_t)(config->pool->size / 2),
    };
    mvpn_scheduler_init(&relay->scheduler, &sc, now);
    if (mvpn_hash_init(&relay->ends, 256) != 0 || mvpn_timers_init(&relay->timers, 256) != 0) {
        mvpn_relay_free(relay, now);
        return MVPN_E_NOMEM;
    }
    *ret = relay;
    return 0;
}

void mvpn_relay_free(mvpn_relay *relay, mvpn_time now)
{
    if (relay == NULL) {
        return;
    }
    relay_session_free(relay, now);
    while (!mvpn_list_is_empty(&relay->circuits)) {
        relay_circuit_free(relay, MVPN_CONTAINER_OF(relay->circuits.next, relay_circuit, all), now);
    }
    mvpn_list *ls;
    while ((ls = mvpn_list_pop(&relay->link_states)) != NULL) {
        link_state *state = MVPN_CONTAINER_OF(ls, link_state, all);
        mvpn_link_set_user(state->link, NULL);
        free(state);
    }
    mvpn_hash_done(&relay->ends);
    mvpn_timers_done(&relay->timers);
    mvpn_wipe(&relay->cfg, sizeof(relay->cfg));
    free(relay);
}

void mvpn_relay_set_onion_keys(mvpn_relay *relay, const mvpn_relay_onion_key *keys, size_t count)
{
    mvpn_wipe(relay->cfg.onion_keys, sizeof(relay->cfg.onion_keys));
    relay->cfg.onion_key_count = MVPN_MIN(count, MVPN_ARRAY_LEN(relay->cfg.onion_keys));
    memcpy(relay->cfg.onion_keys, keys, relay->cfg.onion_key_count * sizeof(keys[0]));
}

void mvpn_relay_set_own_addresses(mvpn_relay *relay, const mvpn_addr *addresses, size_t count)
{
    relay->cfg.own_addresses = addresses;
    relay->cfg.own_address_count = count;
}

void mvpn_relay_set_unix_offset(mvpn_relay *relay, int64_t unix_offset_us)
{
    relay->cfg.unix_offset_us = unix_offset_us;
}

const mvpn_scheduler_counters *mvpn_relay_get_queue_counters(const mvpn_relay *relay)
{
    return &relay->scheduler.counters;
}

uint32_t mvpn_relay_waiting(const mvpn_relay *relay)
{
    return relay->scheduler.packets;
}

bool mvpn_relay_is_overloaded(const mvpn_relay *relay, mvpn_time now)
{
    return relay_is_overloaded(relay, now);
}

const mvpn_relay_counters *mvpn_relay_get_counters(const mvpn_relay *relay)
{
    return &relay->counters;
}

size_t mvpn_relay_circuit_count(const mvpn_relay *relay)
{
    return relay->circuit_count;
}

size_t mvpn_relay_circuit_size(void)
{
    return sizeof(relay_circuit);
}
