#include "network/p2p/testrelay.h"

#define POOL 64

struct world *w;

static struct fake *fake_of(const mvpn_link *link)
{
    return (struct fake *)(uintptr_t)link;
}

mvpn_link *link_of(struct fake *f)
{
    return (mvpn_link *)(uintptr_t)f;
}

int __wrap_mvpn_link_send(mvpn_link *link, mvpn_packet *packet, const mvpn_header *header,
                          bool acked, mvpn_time now);
const mvpn_addr *__wrap_mvpn_link_peer_addr(const mvpn_link *link);
const mvpn_ed25519_pub *__wrap_mvpn_link_peer_identity(const mvpn_link *link);
bool __wrap_mvpn_link_is_open(const mvpn_link *link);
void __wrap_mvpn_link_hold(mvpn_link *link);
void __wrap_mvpn_link_release(mvpn_link *link, mvpn_time now);
void __wrap_mvpn_link_close(mvpn_link *link, uint8_t reason, mvpn_time now);

int __wrap_mvpn_link_send(mvpn_link *link, mvpn_packet *packet, const mvpn_header *header,
                          bool acked, mvpn_time now)
{
    struct fake *f = fake_of(link);
    mvpn_bytes body = mvpn_bytes_of(packet->data, packet->len);
    mvpn_nat_id id;
    (void)now;
    assert_true(acked);
    assert_int_equal(header->length, packet->len);
    if (f->refuses) {
        mvpn_packet_free(&w->pool, packet);
        return MVPN_E_LIMIT;
    }
    switch (header->command) {
    case MVPN_CMD_NAT_REGISTERED:
        assert_int_equal(mvpn_nat_registered_decode(&f->registered, body), 0);
        f->registered_count++;
        break;
    case MVPN_CMD_NAT_OPENED:
        assert_int_equal(mvpn_nat_opened_decode(&f->opened, body), 0);
        f->opened_count++;
        break;
    case MVPN_CMD_NAT_INCOMING:
        assert_int_equal(mvpn_nat_incoming_decode(&f->incoming, body), 0);
        f->incoming_count++;
        break;
    case MVPN_CMD_NAT_ADDRESSED:
        assert_int_equal(mvpn_nat_addressed_decode(&f->addressed, body), 0);
        f->addressed_count++;
        break;
    default:
        assert_int_equal(header->command, MVPN_CMD_NAT_CLOSE);
        assert_int_equal(mvpn_nat_close_decode(&id, body), 0);
        f->close_count++;
    }
    mvpn_packet_free(&w->pool, packet);
    return 0;
}

const mvpn_addr *__wrap_mvpn_link_peer_addr(const mvpn_link *link)
{
    return &fake_of(link)->addr;
}

const mvpn_ed25519_pub *__wrap_mvpn_link_peer_identity(const mvpn_link *link)
{
    return fake_of(link)->has_identity ? &fake_of(link)->identity : NULL;
}

bool __wrap_mvpn_link_is_open(const mvpn_link *link)
{
    return !fake_of(link)->is_closed;
}

void __wrap_mvpn_link_hold(mvpn_link *link)
{
    fake_of(link)->holds++;
}

void __wrap_mvpn_link_release(mvpn_link *link, mvpn_time now)
{
    (void)now;
    assert_true(fake_of(link)->holds > 0);
    fake_of(link)->holds--;
}

void __wrap_mvpn_link_close(mvpn_link *link, uint8_t reason, mvpn_time now)
{
    (void)now;
    assert_int_equal(reason, MVPN_REASON_PROTOCOL);
    fake_of(link)->is_closed = true;
}

mvpn_addr addr(unsigned block, unsigned host)
{
    return (mvpn_addr){.family = 4,
                       .port = 5000,
                       .ip = {11, (uint8_t)(block >> 8), (uint8_t)block, (uint8_t)host}};
}

void relay_start(const mvpn_nat_relay_config *limits)
{
    w = calloc(1, sizeof(*w));
    assert_non_null(w);
    mvpn_rng_init_test(&w->rng, 7);
    assert_int_equal(mvpn_packet_pool_init(&w->pool, POOL), 0);
    w->now = MVPN_S(1000);
    mvpn_nat_relay_config c = *limits;
    c.rng = &w->rng;
    c.pool = &w->pool;
    assert_int_equal(mvpn_nat_relay_new(&c, w->now, &w->relay), 0);
    w->home = (struct fake){.addr = addr(1, 1), .has_identity = true, .identity = {{1}}};
    w->caller = (struct fake){.addr = addr(2, 2)};
    w->stranger = (struct fake){.addr = addr(3, 3), .has_identity = true, .identity = {{3}}};
}

int relay_setup(void **state)
{
    static const mvpn_nat_relay_config defaults;
    (void)state;
    relay_start(&defaults);
    return 0;
}

int relay_teardown(void **state)
{
    (void)state;
    mvpn_nat_relay_free(w->relay);
    assert_int_equal(w->pool.free_count, POOL); /* no packet was lost */
    mvpn_packet_pool_done(&w->pool);
    free(w);
    return 0;
}

bool message(struct fake *f, unsigned command, const uint8_t *body, size_t n)
{
    const mvpn_header header = {.command = (uint16_t)command, .length = (uint16_t)n, .link_seq = 1};
    return mvpn_nat_relay_message(w->relay, link_of(f), &header, mvpn_bytes_of(body, n), w->now);
}

void do_register(struct fake *f, uint16_t lifetime_s)
{
    uint8_t body[MVPN_NAT_REGISTER_LEN];
    mvpn_nat_register_encode(body, lifetime_s);
    assert_true(message(f, MVPN_CMD_NAT_REGISTER, body, sizeof(body)));
}

unsigned do_open(struct fake *from, const struct fake *to, unsigned count)
{
    static uint32_t request;
    uint8_t body[MVPN_NAT_OPEN_LEN];
    mvpn_nat_open m = {++request, to->registered.rendezvous, (uint8_t)count};
    size_t answers = from->opened_count;
    mvpn_nat_open_encode(body, &m);
    assert_true(message(from, MVPN_CMD_NAT_OPEN, body, sizeof(body)));
    assert_int_equal(from->opened_count, answers + 1);
    assert_int_equal(from->opened.request, request);
    return from->opened.status;
}

unsigned do_more(struct fake *f, const mvpn_nat_id *session, unsigned count)
{
    uint8_t body[MVPN_NAT_MORE_LEN];
    mvpn_nat_more m = {*session, (uint8_t)count};
    mvpn_nat_more_encode(body, &m);
    assert_true(message(f, MVPN_CMD_NAT_MORE, body, sizeof(body)));
    assert_int_equal(f->opened.request, 0);
    return f->opened.status;
}

unsigned ask_address(struct fake *f, const mvpn_nat_id *session)
{
    size_t answers = f->addressed_count;
    assert_true(message(f, MVPN_CMD_NAT_ADDRESS, session->b, sizeof(session->b)));
    assert_int_equal(f->addressed_count, answers + 1);
    assert_memory_equal(f->addressed.session.b, session->b, sizeof(session->b));
    return f->addressed.status;
}

void join(void)
{
    do_register(&w->home, 600);
    assert_int_equal(do_open(&w->caller, &w->home, 8), 0);
    w->ids = w->caller.opened.ids;
}

mvpn_addr send_from(const mvpn_addr *from, const mvpn_connection_id *id, size_t len,
                    bool is_handshake, bool *ret_ours)
{
    mvpn_addr to = {0};
    mvpn_packet *p = mvpn_packet_new(&w->pool), *out;
    assert_non_null(p);
    uint8_t *b = mvpn_packet_append(p, (uint32_t)len), before[1536];
    memset(b, 0xd7, len);
    b[0] = is_handshake ? 0xc5 : 0x45;
    b[5] = is_handshake ? 8 : b[5];
    memcpy(b + (is_handshake ? 6 : 1), id->b, sizeof(id->b));
    memcpy(before, b, len);
    p->remote = *from;
    p->local = MVPN_LOCAL_PROBE; /* by whatever socket it came, */
    *ret_ours = mvpn_nat_relay_forward(w->relay, p, w->now);
    out = mvpn_packet_queue_pop(mvpn_nat_relay_out(w->relay));
    if (out != NULL) {
        assert_ptr_equal(out, p); /* in place */
        assert_ptr_equal(out->data, b);
        assert_int_equal(out->len, len);
        assert_memory_equal(b, before, len);
        to = out->remote;
        assert_int_equal(out->local, MVPN_LOCAL_MAIN); /* it leaves by the one that links use */
        assert_int_equal(out->flags == MVPN_PACKET_PROBE, len > 1424);
    }
    if (out != NULL || !*ret_ours) {
        mvpn_packet_free(&w->pool, p);
    }
    return to;
}

bool goes(const mvpn_addr *from, const mvpn_connection_id *id, const mvpn_addr *to)
{
    bool is_ours, first = true;
    for (unsigned kind = 0; kind < 2; kind++) {
        mvpn_addr at = send_from(from, id, kind == 0 ? 1424 : 1232, kind == 1, &is_ours);
        bool goes = mvpn_addr_eq(&at, to);
        assert_true(goes || at.family == 0); /* there or nowhere */
        first = kind == 0 ? goes : first;
        assert_int_equal(goes, first);
    }
    return first;
}
