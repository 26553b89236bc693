/*
 * A real client whose only relay is the fuzzer's, which holds the right keys: ([op 1] ...)*.
 */
#include "core/testlab.h"
#include "fuzz/fuzz.h"

struct run {
    lab *l;
    mvpn_link *link; /* of the relay, to the client */
    mvpn_circuit_id back;
    mvpn_hop_keys keys;
    mvpn_layer_rx forward;
    mvpn_layer_tx backward;
    bool is_built;
    uint32_t begin; /* request id of the latest RelayBegin */
};

static void cell(struct run *r, unsigned command, mvpn_bytes data, uint8_t how)
{
    mvpn_cell_kind kind = {(uint16_t)command, 0, (enum mvpn_size_policy)(how % 3)};
    mvpn_header h;
    mvpn_packet *p = r->is_built && r->link != NULL && mvpn_link_is_open(r->link)
                         ? mvpn_packet_new(&r->l->peer[1].pool)
                         : NULL;
    if (p == NULL) {
        return;
    }
    if (data.n > 0) {
        memcpy(mvpn_packet_append(p, (uint32_t)data.n), data.p, data.n);
    }
    FUZZ_CHECK(mvpn_onion_answer(&r->backward, r->l->aead, &kind, p, &h) == 0);
    h.circuit = r->back;
    MVPN_IGNORE(mvpn_link_send(r->link, p, &h, how & 0x10, r->l->now));
}

/* See what the client sent: answer Create if `answers`, answer pings too;
 * remember what Begin asked. */
static void look(struct run *r, bool answers)
{
    lab_message m;
    uint8_t body[256];
    size_t closed = r->l->peer[1].closed;
    lab_settle(r->l);
    if (r->l->peer[1].closed != closed) {
        r->link = NULL;
    }
    while (lab_next(r->l, 1, &m)) {
        if (m.header.command == MVPN_CMD_CREATE) {
            size_t n = lab_answer(r->l, 1, &m, body, sizeof(body), &r->keys, &r->back);
            r->link = m.link;
            mvpn_layer_rx_init(&r->forward, &r->keys.forward);
            mvpn_layer_tx_init(&r->backward, &r->keys.backward);
            mvpn_header h = {
                .circuit = r->back, .command = MVPN_CMD_CREATED, .length = (uint16_t)n};
            r->is_built = answers && n > 0 &&
                          lab_send(r->l, 1, m.link, &h, mvpn_bytes_of(body, n), true) == 0;
        } else if (mvpn_command_is_relay(m.header.command)) {
            mvpn_packet p = {0};
            mvpn_layer_header layer;
            mvpn_begin begin;
            p.data = p.buf + MVPN_PACKET_HEADROOM;
            memcpy(mvpn_packet_append(&p, (uint32_t)m.len), m.bytes, m.len);
            if (mvpn_layer_open(r->l->aead, &r->forward, &p, m.header.length, m.header.counter,
                                &layer) != 0) {
                continue;
            }
            if (layer.command == MVPN_CMD_RELAY_BEGIN &&
                mvpn_begin_decode(&begin, mvpn_bytes_of(p.data, p.len)) == 0) {
                r->begin = begin.request_id;
            } else if (layer.command == MVPN_CMD_RELAY_PING && answers) {
                cell(r, MVPN_CMD_RELAY_PONG, mvpn_bytes_of(p.data, p.len), 0);
            }
        }
    }
}

static void connected(struct run *r, uint8_t flags)
{
    static const uint8_t ticket[MVPN_TICKET_LEN] = {1};
    uint8_t body[64];
    mvpn_connected m = {
        .request_id = r->begin,
        .flags = flags & 3,
        .status = flags >> 4,
        .ticket = flags >> 4 == 0 ? MVPN_BYTES_ARRAY(ticket) : MVPN_BYTES_NONE,
    };
    size_t n = mvpn_connected_encode(body, sizeof(body), &m);
    cell(r, MVPN_CMD_RELAY_CONNECTED, mvpn_bytes_of(body, n), 0);
}

static void message(struct run *r, mvpn_reader *in)
{
    mvpn_header h = {.circuit = r->back, .command = mvpn_read16(in)};
    mvpn_bytes body = fuzz_chunk(in, MVPN_BODY_MAX);
    h.length = (uint16_t)body.n;
    if (r->link == NULL || !mvpn_link_is_open(r->link) || mvpn_command_is_relay(h.command)) {
        return;
    }
    MVPN_IGNORE(lab_send(r->l, 1, r->link, &h, body, h.command & 0x100));
}

static void tun_packet(struct run *r, mvpn_bytes bytes)
{
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct run r = {.l = lab_new(LAB_CLIENT, 1, NULL)};
    mvpn_reader in = mvpn_reader_init(mvpn_bytes_of(data, size));
    mvpn_engine_event event;
    uint8_t first = mvpn_read8(&in);
    for (unsigned i = 0; i < 4; i++) { /* the link, the circuit, the session */
        look(&r, !(first & 1));
    }
    if (!(first & 2)) {
        connected(&r, first & 4 ? 1 : 3); /* without IPv6 */
        look(&r, true);
    }
    for (unsigned steps = 0; fuzz_more(&in) && steps < 64; steps++) {
        uint8_t op = mvpn_read8(&in), how;
        uint16_t command;
        size_t closed = r.l->peer[1].closed;
        switch (op & 7) {
        case 0:
            message(&r, &in);
            break;
        case 1:
        case 2:
            command = mvpn_read16(&in) & 0x3fff;
            how = mvpn_read8(&in);
            cell(&r, command, fuzz_chunk(&in, MVPN_ROOM_PROFILE0), how);
            break;
        case 3:
            how = mvpn_read8(&in);
            cell(&r, MVPN_CMD_RELAY_DATA, fuzz_chunk(&in, MVPN_ROOM_PROFILE0), how);
            break;
        case 4:
            tun_packet(&r, fuzz_chunk(&in, 1420));
            break;
        case 5:
            connected(&r, mvpn_read8(&in));
            break;
        case 6:
            lab_for(r.l, MVPN_MS(1) << mvpn_read8(&in) % 15);
            break;
        default:
            if (r.link != NULL && mvpn_link_is_open(r.link)) {
                mvpn_link_close(r.link, 6, r.l->now);
            }
            break;
        }
        if (r.l->peer[1].closed != closed) {
            r.link = NULL;
        }
        look(&r, !(op & 0x80));
        mvpn_packet_queue_clear(mvpn_engine_tun_out(r.l->engine), mvpn_engine_pool(r.l->engine));
        while (mvpn_engine_pull_event(r.l->engine, &event)) {
        }
    }
    FUZZ_CHECK(lab_free(r.l));
    return 0;
}
