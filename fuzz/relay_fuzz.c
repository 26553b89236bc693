/*
 * A real relay with an exit, among a client and two relays that do what the input says: ([op 1]
 * ...)*. Tickets that the exit hands out are shown again, as they are or not.
 */
#include "core/relay_internal.h"
#include "core/testlab.h"
#include "fuzz/fuzz.h"

#define CIRCUITS 4
#define TICKETS 4

struct run {
    lab *l;
    mvpn_link *link[LAB_PEERS]; /* theirs to the relay */
    lab_circuit circuit[CIRCUITS];
    bool is_open[CIRCUITS];
    mvpn_link *next_link[CIRCUITS]; /* the relay's to the next hop */
    mvpn_circuit_id back[CIRCUITS]; /* what the next hop calls the circuit */
    mvpn_layer_tx backward[CIRCUITS];
    bool is_extended[CIRCUITS];
    uint8_t ticket[TICKETS][MVPN_TICKET_LEN]; /* the latest that came */
    size_t tickets;
    uint32_t request_id;
};

static bool is_usable(const mvpn_link *link)
{
    return link != NULL && mvpn_link_is_open(link);
}

/* A message with a header of the fuzzer's, on any link, in any circuit. */
static void message(struct run *r, mvpn_reader *in)
{
    uint8_t which = mvpn_read8(in);
    size_t peer = which % LAB_PEERS, at = which >> 2 & 3;
    mvpn_header h = {.command = mvpn_read16(in), .counter = mvpn_read32(in)};
    uint16_t live = mvpn_read16(in);
    mvpn_bytes body = fuzz_chunk(in, MVPN_BODY_MAX);
    static uint8_t cell[MVPN_BODY_MAX];
    h.circuit = which & 0x40 ? r->back[at] : r->circuit[at].out;
    mvpn_link *link = which & 0x40 ? r->next_link[at] : r->link[peer];
    if (which & 0x40) {
        peer = 1;
    }
    if (!is_usable(link)) {
        return;
    }
    h.length = (uint16_t)body.n;
    if (mvpn_command_is_relay(h.command)) { /* else the link itself drops it */
        h.size_class = which >> 4 & 3;
        h.length = (uint16_t)(24 + live % (MVPN_BODY_MAX - 24));
        size_t len = mvpn_cell_body_len(h.size_class, h.length);
        if (len == 0) {
            return;
        }
        memset(cell, 0, sizeof(cell));
        memcpy(cell, body.n > 0 ? body.p : cell, MVPN_MIN(body.n, len));
        body = mvpn_bytes_of(cell, len);
    } else {
        h.counter = 0;
    }
    MVPN_IGNORE(lab_send(r->l, peer, link, &h, body, which & 0x80)); /* whatever comes of it */
}

static void create(struct run *r, uint8_t which)
{
    size_t at = which & 3, peer = which >> 2 & 1;
    if (is_usable(r->link[peer])) {
        lab_message m;
        while (lab_next(r->l, peer, &m)) {
        }
        r->is_extended[at] = false;
        r->is_open[at] = lab_circuit_open(r->l, &r->circuit[at], peer, r->link[peer]);
    }
}

static void cell(struct run *r, mvpn_reader *in)
{
    uint8_t which = mvpn_read8(in);
    uint16_t command = mvpn_read16(in) & 0x3fff;
    mvpn_bytes data = fuzz_chunk(in, MVPN_ROOM_PROFILE0);
    lab_circuit *c = &r->circuit[which & 3];
    if (r->is_open[which & 3] && is_usable(c->link)) {
        lab_cell(r->l, c, command, which & 4, data);
    }
}

/* What came to the owner of the circuit; a ticket is kept. */
static void take_connected(struct run *r, lab_circuit *c)
{
    lab_message m;
    uint8_t out[MVPN_BODY_MAX];
    size_t n;
    mvpn_connected connected;
    while (lab_next(r->l, c->peer, &m)) {
        if (m.header.command == MVPN_CMD_RELAY &&
            lab_open(r->l, c, &m, out, &n) == MVPN_CMD_RELAY_CONNECTED &&
            mvpn_connected_decode(&connected, mvpn_bytes_of(out, n)) == 0 &&
            connected.status == 0) {
            memcpy(r->ticket[r->tickets++ % TICKETS], connected.ticket.p, MVPN_TICKET_LEN);
        }
    }
}

/* Begin with a ticket that came once, or without. */
static void begin(struct run *r, mvpn_reader *in)
{
    uint8_t which = mvpn_read8(in), flip = mvpn_read8(in);
    uint32_t epoch = mvpn_read8(in);
    lab_circuit *c = &r->circuit[which & 3];
    uint8_t ticket[MVPN_TICKET_LEN], body[64];
    memcpy(ticket, r->ticket[which >> 2 & 3], sizeof(ticket));
    ticket[flip % sizeof(ticket)] ^= flip / sizeof(ticket);
    r->request_id += !(which & 0x10); /* else asked again */
    mvpn_begin m = {
        .request_id = r->request_id,
        .profile = which >> 5 & 1,
        .flags = which & 0x40 ? MVPN_BEGIN_IPV6 : 0,
        .epoch = epoch == 255 ? UINT32_MAX : epoch,
        .ticket = epoch == 0 ? MVPN_BYTES_NONE : MVPN_BYTES_ARRAY(ticket),
    };
    size_t n = mvpn_begin_encode(body, sizeof(body), &m);
    if (r->is_open[which & 3] && is_usable(c->link)) {
        lab_cell(r->l, c, MVPN_CMD_RELAY_BEGIN, false, mvpn_bytes_of(body, n));
        if (which & 0x80) {
            lab_for(r->l, MVPN_MS(2));
            take_connected(r, c);
        }
    }
}

/* Each session has one circuit, or is detached; each circuit knows what it does for which. */
static void check_sessions(const struct run *r)
{
    const mvpn_relay *relay = mvpn_engine_relay(r->l->engine);
    const mvpn_exit *exit = mvpn_engine_exit(r->l->engine);
    uint32_t carried = 0;
    MVPN_LIST_FOREACH(it, &relay->circuits)
    {
        const relay_circuit *c = MVPN_CONTAINER_OF(it, relay_circuit, all);
        const exit_session *s = c->session;
        if (s != NULL) {
            FUZZ_CHECK((s->entry.circuit == c) != (s->entry.draining == c));
            carried += s->entry.circuit == c;
            FUZZ_CHECK(s->entry.circuit == c || mvpn_timer_is_set(&c->timer) ||
                       c->state == CIRCUIT_EXTENDED);
        }
    }
    FUZZ_CHECK(carried + mvpn_exit_session_detached_count(exit) == mvpn_exit_session_count(exit));
}

/* Extend to peer 1 with a body that is right but for some bytes; peer 1 answers, rightly or not. */
static void extend(struct run *r, mvpn_reader *in)
{
    uint8_t which = mvpn_read8(in);
    uint16_t pos = mvpn_read16(in);
    uint8_t mask = mvpn_read8(in);
    uint8_t body[MVPN_ASSEMBLY_MAX];
    size_t at = which & 3;
    lab_circuit *c = &r->circuit[at];
    mvpn_hop_keys keys;
    lab_message m = {.header = {.command = 0}};
    if (!r->is_open[at] || !is_usable(c->link) || r->is_extended[at] || c->peer == 1) {
        return;
    }
    size_t n = lab_extend_body(r->l, c, 1, which & 4, body, sizeof(body));
    body[pos % n] ^= mask;
    lab_send_extend(r->l, c, mvpn_bytes_of(body, n));
    lab_for(r->l, MVPN_MS(5));
    while (lab_next(r->l, 1, &m) && m.header.command != MVPN_CMD_CREATE) {
    }
    if (m.header.command != MVPN_CMD_CREATE || !is_usable(m.link)) {
        return;
    }
    n = lab_answer(r->l, 1, &m, body, sizeof(body), &keys, &r->back[at]);
    if (n == 0) {
        return;
    }
    if (which & 8) {
        body[pos % n] ^= (uint8_t)(mask + 1u);
    }
    mvpn_header h = {.circuit = r->back[at], .command = MVPN_CMD_CREATED, .length = (uint16_t)n};
    MVPN_IGNORE(lab_send(r->l, 1, m.link, &h, mvpn_bytes_of(body, n), true));
    r->next_link[at] = m.link;
    r->is_extended[at] = true;
    mvpn_layer_tx_init(&r->backward[at], &keys.backward);
}

static void tun_packet(struct run *r, mvpn_reader *in)
{
    mvpn_bytes bytes = fuzz_chunk(in, 1420);
    mvpn_packet_queue q;
    mvpn_packet *p = mvpn_packet_new(mvpn_engine_pool(r->l->engine));
    if (p == NULL) {
        return;
    }
    mvpn_packet_queue_init(&q);
    if (bytes.n > 0) {
        memcpy(mvpn_packet_append(p, (uint32_t)bytes.n), bytes.p, bytes.n);
    }
    mvpn_packet_queue_push(&q, p);
    mvpn_engine_tun_in(r->l->engine, &q, r->l->now);
}

/* Closed links are dead pointers after their events; the lab has seen to those. */
static void forget_closed(struct run *r, const size_t closed[LAB_PEERS])
{
    for (size_t i = 0; i < LAB_PEERS; i++) {
        if (r->l->peer[i].closed == closed[i]) {
            continue;
        }
        r->link[i] = NULL; /* one of its links; better none than a dead one */
        for (size_t at = 0; at < CIRCUITS; at++) {
            if (r->circuit[at].peer == i) {
                r->is_open[at] = false;
            }
            if (i == 1) {
                r->next_link[at] = NULL;
            }
        }
    }
}

static void step(struct run *r, mvpn_reader *in)
{
    uint8_t op = mvpn_read8(in), which;
    size_t closed[LAB_PEERS];
    for (size_t i = 0; i < LAB_PEERS; i++) {
        closed[i] = r->l->peer[i].closed;
        r->l->peer[i].inbox_count = 0;
    }
    mvpn_packet_queue_clear(mvpn_engine_tun_out(r->l->engine), mvpn_engine_pool(r->l->engine));
    mvpn_packet_queue_clear(mvpn_engine_dns_out(r->l->engine), mvpn_engine_pool(r->l->engine));
    switch (op & 7) {
    case 0:
        message(r, in);
        break;
    case 1:
        create(r, mvpn_read8(in));
        break;
    case 2:
        cell(r, in);
        break;
    case 3:
        begin(r, in);
        break;
    case 4:
        extend(r, in);
        break;
    case 5:
        tun_packet(r, in);
        break;
    case 6:
        lab_for(r->l, MVPN_MS(1) << mvpn_read8(in) % 16);
        break;
    default:
        which = mvpn_read8(in);
        if (is_usable(r->link[which % LAB_PEERS])) {
            mvpn_link_close(r->link[which % LAB_PEERS], which, r->l->now);
        }
        break;
    }
    if (op & 0x80 || (op & 7) == 7) {
        lab_settle(r->l);
    }
    forget_closed(r, closed);
    check_sessions(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct run r = {.l = lab_new(LAB_EXIT, 1, NULL)};
    mvpn_reader in = mvpn_reader_init(mvpn_bytes_of(data, size));
    r.link[0] = lab_join(r.l, 0);
    r.link[1] = lab_join(r.l, 1);
    create(&r, 0);
    for (unsigned steps = 0; fuzz_more(&in) && steps < 64; steps++) {
        step(&r, &in);
    }
    FUZZ_CHECK(lab_free(r.l));
    return 0;
}
