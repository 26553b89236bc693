/* Transport packets: altered and repeated ones, epochs, rekey, the counter's end. */
#include "network/p2p/testnet.h"

#include <malloc.h>
#include <stdlib.h>

#include "crypto/mask.h"
#include "crypto/x25519.h"
#include "wire/cell.h"

/* Keep the latest datagram of node 0 and hold it back. */
static struct net_datagram kept;
static bool keep(struct net *net, struct net_datagram *d)
{
    if (mvpn_addr_eq(&d->from, &net->node[0].addr)) {
        kept = *d;
        return false;
    }
    return true;
}

static void flip_all(unsigned command, size_t body, size_t protected_bytes)
{
    struct net *net = net_standard(command, false);
    mvpn_link *other, *link = net_joined(net, 0, 1, &other);
    net->filter = keep;
    assert_int_equal(net_send(net, 0, link, command, body, 5, false), 0);
    net_for(net, 0);
    size_t n = protected_bytes != 0 ? protected_bytes : kept.len;
    struct session before = *other->session;
    for (size_t bit = 0; bit < 8 * n; bit++) {
        struct net_datagram d = kept;
        d.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_true(net_inject(net, &d) < 0);
    }
    for (size_t len = 0; len < kept.len; len++) {
        struct net_datagram d = kept;
        d.len = len;
        assert_true(net_inject(net, &d) < 0);
    }
    assert_memory_equal(&before, other->session, sizeof(before)); /* nothing was believed */
    assert_int_equal(mvpn_links_out(net->node[1].links)->count, 0);
    assert_int_equal(net_inject(net, &kept), 1);
    assert_int_equal(net_inject(net, &kept), MVPN_E_REPLAY);
    net_free(net);
}

static void test_no_altered_packet_is_accepted(void **state)
{
    (void)state;
    flip_all(MVPN_CMD_CREATE, 100, 0);
    /* The link protects a cell's header and size, its layers protect the body. */
    flip_all(MVPN_CMD_RELAY, 208, TRANSPORT_OVERHEAD);
}

/* A cell of class small with so many live bytes. */
static int send_cell(struct net *net, mvpn_link *link, size_t live, bool acked)
{
    mvpn_packet *p = mvpn_packet_new(&net->node[0].pool);
    assert_non_null(p);
    memset(mvpn_packet_append(p, MVPN_CELL_SMALL), 0xa5, MVPN_CELL_SMALL);
    mvpn_header h = {.circuit = {{1}},
                     .command = MVPN_CMD_RELAY,
                     .length = (uint16_t)live,
                     .size_class = MVPN_CLASS_SMALL,
                     .counter = 7};
    return mvpn_link_send(link, p, &h, acked, net->now);
}

/* Filler is what both ends can make: any other is refused, and its number stays free. (§4.1) */
static void test_altered_filler_is_refused(void **state)
{
    (void)state;
    const size_t lives[] = {24, 100, MVPN_CELL_SMALL - 1};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(lives); i++) {
        struct net *net = net_standard(i, false);
        mvpn_link *other, *link = net_joined(net, 0, 1, &other);
        net->filter = keep;
        assert_int_equal(send_cell(net, link, lives[i], false), 0);
        net_for(net, 0);
        assert_int_equal(kept.len, TRANSPORT_OVERHEAD + MVPN_CELL_SMALL);
        struct session before = *other->session;
        for (size_t bit = 8 * (TRANSPORT_OVERHEAD + lives[i]); bit < 8 * kept.len; bit++) {
            struct net_datagram d = kept;
            d.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
            assert_int_equal(net_inject(net, &d), MVPN_E_AUTH);
        }
        assert_memory_equal(&before, other->session, sizeof(before));
        assert_int_equal(net_inject(net, &kept), 1);
        assert_int_equal(net_inject(net, &kept), MVPN_E_REPLAY);
        net_free(net);
    }
}

/* The masked bits of the first byte. (§4.1) */
static bool says_header_only(const struct session *sender, const struct net_datagram *d)
{
    uint8_t mask[MVPN_MASK_LEN];
    mvpn_header_mask(mask, &sender->send_mask, d->bytes + TRANSPORT_HEADER_LEN);
    return ((d->bytes[0] ^ mask[0]) & 1) != 0;
}

static struct net_datagram sendings[8];
static size_t sendings_count;
static bool keep_sendings(struct net *net, struct net_datagram *d)
{
    if (mvpn_addr_eq(&d->from, &net->node[0].addr) &&
        d->len == TRANSPORT_OVERHEAD + MVPN_CELL_SMALL) {
        assert_true(sendings_count < MVPN_ARRAY_LEN(sendings));
        sendings[sendings_count++] = *d;
        return false;
    }
    return true;
}

/* An acknowledged cell is sealed whole: nothing damaged is acknowledged, and who sees two sendings
 * cannot tell that they are of one cell. */
static void test_an_acked_cell_is_sealed_whole(void **state)
{
    (void)state;
    struct net *net = net_standard(4, false);
    mvpn_link *other, *link = net_joined(net, 0, 1, &other);
    net->filter = keep_sendings;
    sendings_count = 0;
    assert_int_equal(send_cell(net, link, 100, false), 0);
    net_for(net, 0);
    assert_int_equal(sendings_count, 1);
    assert_true(says_header_only(link->session, &sendings[0]));
    sendings_count = 0;
    assert_int_equal(send_cell(net, link, 100, true), 0);
    net_for(net, MVPN_MS(200));
    assert_true(sendings_count >= 2);
    for (size_t i = 0; i < 2; i++) {
        size_t equal = 0;
        assert_false(says_header_only(link->session, &sendings[i]));
        for (size_t k = TRANSPORT_HEADER_LEN; k < sendings[i].len; k++) {
            equal += sendings[0].bytes[k] == sendings[1].bytes[k];
        }
        assert_true(i == 1 || equal < 10); /* one in 256 by chance */
    }
    struct session before = *other->session;
    const mvpn_link link_before = *other;
    for (size_t bit = 0; bit < 8 * sendings[0].len; bit++) {
        struct net_datagram d = sendings[0];
        d.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_true(net_inject(net, &d) < 0);
    }
    assert_memory_equal(&before, other->session, sizeof(before));
    assert_int_equal(other->ack_count, link_before.ack_count);
    assert_int_equal(net_inject(net, &sendings[1]), 1);
    assert_int_equal(net_inject(net, &sendings[0]), 0); /* the same cell: acknowledged alone */
    net_free(net);
}

/* A packet of node 0 made by hand, with its keys: sealed whole, or its header alone. */
static struct net_datagram craft(const struct net *net, struct session *s,
                                 const mvpn_header *header, size_t body, bool header_only)
{
    struct net_datagram d = {
        .from = net->node[0].addr, .to = net->node[1].addr, .len = TRANSPORT_OVERHEAD + body};
    uint8_t *message = d.bytes + TRANSPORT_HEADER_LEN;
    uint8_t mask[MVPN_MASK_LEN];
    const uint64_t number = s->cur.send_pn++;
    const size_t n = MVPN_HEADER_LEN + (header_only ? 0 : body);
    d.bytes[0] = (uint8_t)(0x40 | (s->cur.number & 3) << 1 | header_only);
    memcpy(d.bytes + 1, s->route->remote.b, MVPN_CONNECTION_ID_LEN);
    mvpn_store32(d.bytes + 9, (uint32_t)number);
    mvpn_header_encode(message, header);
    mvpn_aead_seal(net->aead, message, message + n, &s->cur.send_key, number,
                   mvpn_bytes_of(d.bytes, TRANSPORT_HEADER_LEN), mvpn_bytes_of(message, n));
    mvpn_header_mask(mask, &s->send_mask, message);
    d.bytes[0] ^= mask[0] & 0x3f;
    for (size_t i = 0; i < 4; i++) {
        d.bytes[9 + i] ^= mask[1 + i];
    }
    return d;
}

/* One way of sealing for each kind of message: a liar finds no second one. (§4.1) */
static void test_the_kind_decides_what_is_sealed(void **state)
{
    (void)state;
    static const struct {
        uint16_t command;
        uint32_t link_seq;
        bool header_only;
    } rows[] = {
        {MVPN_CMD_RELAY, 0, true},      {MVPN_CMD_RELAY_EARLY, 0, true},
        {MVPN_CMD_RELAY, 1000, false},  {MVPN_CMD_RELAY_EARLY, 1001, false},
        {MVPN_CMD_CREATE, 1002, false}, {MVPN_CMD_DESTROY, 0, false},
    };
    struct net *net = net_standard(4, false);
    mvpn_link *other, *link = net_joined(net, 0, 1, &other);
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        bool is_relay = mvpn_command_is_relay(rows[i].command);
        mvpn_header h = {.circuit = {{1}},
                         .command = rows[i].command,
                         .length = MVPN_CELL_SMALL,
                         .size_class = is_relay ? MVPN_CLASS_EXACT : 0,
                         .link_seq = rows[i].link_seq};
        struct net_datagram wrong =
            craft(net, link->session, &h, MVPN_CELL_SMALL, !rows[i].header_only);
        struct session before = *other->session;
        assert_int_equal(net_inject(net, &wrong), MVPN_E_FORMAT);
        assert_memory_equal(&before, other->session, sizeof(before));
        struct net_datagram right =
            craft(net, link->session, &h, MVPN_CELL_SMALL, rows[i].header_only);
        assert_int_equal(net_inject(net, &right), 1);
    }
    net_free(net);
}

static struct net_datagram series[8500];
static size_t series_count;
static bool keep_series(struct net *net, struct net_datagram *d)
{
    if (!mvpn_addr_eq(&d->from, &net->node[0].addr)) {
        return true;
    }
    assert_true(series_count < MVPN_ARRAY_LEN(series));
    series[series_count++] = *d;
    return false;
}

static mvpn_link *make_series(struct net *net, size_t count)
{
    mvpn_link *other, *link = net_joined(net, 0, 1, &other);
    net->filter = keep_series;
    series_count = 0;
    for (uint64_t i = 0; i < count; i++) {
        assert_int_equal(net_send(net, 0, link, MVPN_CMD_RELAY, 208, i, false), 0);
        net_for(net, 0);
    }
    return other;
}

static void test_replay_window(void **state)
{
    (void)state;
    enum { WARM = 200, LAST = WARM + 8199 };
    struct net *net = net_standard(1, false);
    mvpn_link *other = make_series(net, LAST + 1);
    for (size_t i = 0; i < WARM; i++) {
        assert_int_equal(net_inject(net, &series[i]), 1);
    }
    assert_non_null(other->session->cur.large);
    assert_int_equal(net_inject(net, &series[LAST]), 1);
    assert_int_equal(net_inject(net, &series[LAST - 8192]), 1);
    assert_int_equal(net_inject(net, &series[LAST - 8192]), MVPN_E_REPLAY);
    assert_int_equal(net_inject(net, &series[LAST - 8193]), MVPN_E_REPLAY);
    assert_int_equal(net_inject(net, &series[4000]), 1);
    assert_int_equal(net_inject(net, &series[4000]), MVPN_E_REPLAY);
    net_free(net);
}

/* The linker leads malloc() here. */
void *__real_malloc(size_t n);
void *__wrap_malloc(size_t n);
static size_t refused_size;
void *__wrap_malloc(size_t n)
{
    return n == refused_size ? NULL : __real_malloc(n);
}

/* Until packets come fast a small window does. Nothing that was accepted before it grew is accepted
 * after, nor what was too old then. */
static void test_replay_window_grows(void **state)
{
    (void)state;
    enum { SLOW = 400, FAST = 1000, TOO_LATE = 10, LATE = SLOW - 100 };
    for (unsigned no_memory = 0; no_memory < 2; no_memory++) {
        struct net *net = net_standard(1, false);
        mvpn_link *other = make_series(net, FAST);
        const struct epoch *e = &other->session->cur;
        refused_size = no_memory ? 8 * MVPN_REPLAY_WORDS(8192) : 0;
        for (size_t i = 0; i < SLOW; i++) {
            assert_int_equal(i == TOO_LATE || i == LATE ? 1 : net_inject(net, &series[i]), 1);
            net->now += MVPN_MS(16);
        }
        assert_null(e->large);
        for (size_t i = 0; i < SLOW; i++) {
            assert_int_equal(i == LATE ? MVPN_E_REPLAY : net_inject(net, &series[i]),
                             MVPN_E_REPLAY);
        }
        size_t at = SLOW;
        for (; at < SLOW + 128; at++) {
            assert_int_equal(net_inject(net, &series[at]), 1);
        }
        assert_int_equal(e->large != NULL, !no_memory);
        for (size_t i = 0; i < at; i++) {
            assert_int_equal(i == LATE ? MVPN_E_REPLAY : net_inject(net, &series[i]),
                             MVPN_E_REPLAY);
        }
        assert_int_equal(net_inject(net, &series[LATE]), 1);
        assert_int_equal(net_inject(net, &series[LATE]), MVPN_E_REPLAY);
        assert_int_equal(net_inject(net, &series[FAST - 1]), 1);
        assert_int_equal(net_inject(net, &series[at]), no_memory ? MVPN_E_REPLAY : 1);
        for (size_t i = 0; i <= at; i++) {
            assert_int_equal(net_inject(net, &series[i]), MVPN_E_REPLAY);
        }
        refused_size = 0;
        net_free(net);
    }
}

/* Which counters were sealed: by node, epoch and number. */
#define SEALED_MAX 400000
static uint64_t *sealed;
static size_t sealed_count;

static const struct session *only_session(const struct net_node *n)
{
    const mvpn_list *l = n->links->links.next;
    return MVPN_CONTAINER_OF(l, const mvpn_link, in_links)->session;
}

static bool note_sealed(struct net *net, struct net_datagram *d)
{
    if (d->bytes[0] >> 6 != 1) {
        return true;
    }
    size_t i = mvpn_addr_eq(&d->from, &net->node[0].addr) ? 0 : 1;
    const struct session *s = only_session(&net->node[i]);
    uint8_t mask[MVPN_MASK_LEN];
    mvpn_header_mask(mask, &s->send_mask, d->bytes + TRANSPORT_HEADER_LEN);
    unsigned low = (d->bytes[0] ^ mask[0]) >> 1 & 3;
    uint32_t epoch = s->cur.number;
    while ((epoch & 3) != low) {
        epoch--; /* sealed before this step's switch */
    }
    uint64_t number = mvpn_load32(d->bytes + 9) ^ mvpn_load32(mask + 1);
    assert_true(sealed_count < SEALED_MAX);
    sealed[sealed_count++] = (uint64_t)i << 63 | (uint64_t)epoch << 32 | number;
    return true;
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void rekey_soon(mvpn_links_config *c)
{
    c->rekey_after = MVPN_S(3);
}

static void rekey_often(mvpn_links_config *c)
{
    c->rekey_packets = 1500;
    c->exhaust_packets = 4000;
}

/* Traffic both ways for `seconds`: nothing lost, no counter twice under one key. */
static void rekey_run(void (*tune)(mvpn_links_config *), size_t from, unsigned seconds,
                      uint64_t min_rekeys)
{
    struct net *net = net_new(seconds);
    net_start(net, 0, from == 0 ? false : true, true, tune);
    net_start(net, 1, true, true, tune);
    sealed_count = 0;
    sealed = calloc(SEALED_MAX, sizeof(*sealed));
    mvpn_link *other, *link = net_joined(net, from, 1 - from, &other);
    net->filter = note_sealed;
    uint64_t sent = 0;
    for (mvpn_time end = net->now + MVPN_S(seconds); net->now < end; net_for(net, MVPN_MS(5))) {
        assert_int_equal(net_send(net, from, link, MVPN_CMD_RELAY, 208, sent, false), 0);
        assert_int_equal(net_send(net, 1 - from, other, MVPN_CMD_RELAY, 208, sent, false), 0);
        sent++;
        /* No epoch outlives its successor's first ten seconds. */
        const struct session *s = link->session;
        if (rekey_overlaps(s)) {
            assert_true(mvpn_timer_is_set(&s->timers[TIMER_EPOCH]));
            assert_true(s->timers[TIMER_EPOCH].at <= net->now + EPOCH_OVERLAP);
        } else {
            assert_true(s->rotation == NULL || s->is_rekeying || !s->is_initiator);
        }
    }
    net_for(net, MVPN_S(11));
    assert_int_equal(net->node[0].messages, sent);
    assert_int_equal(net->node[1].messages, sent);
    assert_true(net->node[0].links->counters.rekeys >= min_rekeys);
    assert_int_equal(link->session->cur.number, other->session->cur.number);
    qsort(sealed, sealed_count, sizeof(*sealed), compare);
    for (size_t i = 1; i < sealed_count; i++) {
        assert_true(sealed[i] != sealed[i - 1]);
    }
    free(sealed);
    net_free(net);
}

static void test_rekey_by_time_loses_nothing(void **state)
{
    (void)state;
    rekey_run(rekey_soon, 0, 60, 4);
    rekey_run(rekey_soon, 1, 60, 4);
}

static void test_rekey_by_packets_loses_nothing(void **state)
{
    (void)state;
    rekey_run(rekey_often, 0, 60, 5);
}

static void test_idle_rekey_under_loss(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct net *net = net_new(seed);
        net_start(net, 0, false, false, rekey_soon);
        net_start(net, 1, true, false, rekey_soon);
        mvpn_link *other, *link = net_joined(net, 0, 1, &other);
        mvpn_link_hold(link);
        mvpn_link_hold(other);
        net->loss = 20;
        net_for(net, MVPN_S(60));
        net->loss = 0;
        net_for(net, MVPN_S(5));
        assert_true(mvpn_link_is_open(link));
        assert_true(link->session->cur.number >= 3);
        assert_int_equal(net_send(net, 0, link, MVPN_CMD_RELAY, 208, 1, false), 0);
        assert_int_equal(net_send(net, 1, other, MVPN_CMD_RELAY, 208, 1, false), 0);
        net_for(net, MVPN_S(1));
        assert_int_equal(net->node[0].messages, 1);
        assert_int_equal(net->node[1].messages, 1);
        net_free(net);
    }
}

static void test_old_epoch_is_refused_after_its_time(void **state)
{
    (void)state;
    struct net *net = net_new(3);
    net_start(net, 0, false, false, rekey_soon);
    net_start(net, 1, true, false, rekey_soon);
    mvpn_link *other, *link = net_joined(net, 0, 1, &other);
    net->filter = keep;
    struct net_datagram old[2];
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(net_send(net, 0, link, MVPN_CMD_RELAY, 208, i, false), 0);
        net_for(net, 0);
        old[i] = kept;
    }
    net->filter = NULL;
    while (other->session->cur.number == 0) {
        net_for(net, MVPN_MS(10));
    }
    net_for(net, MVPN_S(9));
    assert_int_equal(net_inject(net, &old[0]), 1);
    net_for(net, MVPN_S(1));
    assert_false(rekey_overlaps(other->session));
    assert_true(net_inject(net, &old[1]) < 0); /* its connection id is gone as well */
    net_free(net);
}

static void exhaust_soon(mvpn_links_config *c)
{
    c->exhaust_packets = 50;
}

static void test_nothing_is_sealed_at_the_end(void **state)
{
    (void)state;
    struct net *net = net_new(3);
    net_start(net, 0, false, false, exhaust_soon);
    net_start(net, 1, true, false, exhaust_soon);
    sealed_count = 0;
    sealed = calloc(SEALED_MAX, sizeof(*sealed));
    mvpn_link *other, *link = net_joined(net, 0, 1, &other);
    net->filter = note_sealed;
    int err = 0;
    for (unsigned i = 0; i < 100 && err == 0; i++) {
        err = net_send(net, 0, link, MVPN_CMD_RELAY, 208, i, false);
    }
    assert_int_equal(err, MVPN_E_EXHAUSTED);
    assert_int_equal(link->session->cur.send_pn, 50);
    assert_int_equal(net_send(net, 0, link, MVPN_CMD_CREATE, 208, 1, true), MVPN_E_EXHAUSTED);
    net->filter = NULL;
    net_for(net, MVPN_S(1));
    assert_int_equal(net_event(&net->node[0], MVPN_LINK_CLOSED)->error, MVPN_E_EXHAUSTED);
    free(sealed);
    net_free(net);
}

static void test_unauthorised_rekey_closes(void **state)
{
    (void)state;
    for (size_t from = 0; from < 2; from++) {
        struct net *net = net_standard(5, false);
        mvpn_link *other, *link = net_joined(net, 0, 1, &other);
        link = from == 0 ? link : other;
        assert_int_equal(net_send(net, from, link, MVPN_CMD_LINK_REKEY, 48, 1, true), 0);
        net_for(net, MVPN_S(1));
        assert_int_equal(net_event(&net->node[1 - from], MVPN_LINK_CLOSED)->error, MVPN_E_PROTOCOL);
        net_free(net);
    }
}

/* In an IK link both ends are known: fresh keys are no way to become somebody else. (§4.4) */
static void test_a_rekey_keeps_the_static_keys(void **state)
{
    (void)state;
    for (size_t liar = 0; liar < 3; liar++) { /* 0: nobody; else the initiator, the responder */
        struct net *net = net_standard(5, false);
        mvpn_link *other, *link = net_joined(net, 1, 2, &other);
        assert_true(link->session->is_ik);
        if (liar != 0) {
            mvpn_x25519_generate(&net->node[liar].links->config.link_key, &net->rng);
        }
        rekey_begin(link->session, net->now);
        net_for(net, MVPN_S(1));
        assert_int_equal(net_event_count(&net->node[1], MVPN_LINK_CLOSED), liar != 0);
        assert_int_equal(net->node[2].links->counters.rekeys, liar == 0);
        if (liar != 0) {
            assert_int_equal(net_event(&net->node[2], MVPN_LINK_CLOSED)->error, MVPN_E_PROTOCOL);
            assert_int_equal(net_event(&net->node[1], MVPN_LINK_CLOSED)->error, MVPN_E_REFUSED);
        }
        net_free(net);
    }
}

/* A peer that does nothing but rekey would cost us a handshake each time: one in ten seconds. */
static void test_a_rekey_too_early_waits(void **state)
{
    (void)state;
    struct net *net = net_standard(5, false);
    mvpn_link *other, *link = net_joined(net, 0, 1, &other);
    rekey_begin(link->session, net->now);
    net_for(net, MVPN_S(5));
    assert_int_equal(other->session->cur.number, 1);
    assert_true(rekey_overlaps(other->session));
    epoch_wipe(&link->session->rotation->prev); /* an honest one would wait for that */
    rekey_begin(link->session, net->now);
    net_for(net, MVPN_S(4));
    assert_int_equal(other->session->cur.number, 1);
    assert_false(other->session->rotation->next.live);
    assert_true(mvpn_link_is_open(link) && mvpn_link_is_open(other));
    net_for(net, MVPN_S(5)); /* it was not acknowledged, and is asked again */
    assert_int_equal(other->session->cur.number, 2);
    assert_int_equal(link->session->cur.number, 2);
    assert_int_equal(net_send(net, 0, link, MVPN_CMD_RELAY, 208, 1, false), 0);
    net_for(net, MVPN_S(1));
    assert_int_equal(net->node[1].messages, 1);
    net_free(net);
}

/* The linker leads free() here (--wrap): no memory may go back with a key in it. */
void __real_free(void *p);
void __wrap_free(void *p);
static mvpn_key secrets[6];
static bool is_searching;
static unsigned leaks, frees;
void __wrap_free(void *p)
{
    if (is_searching && p != NULL) {
        frees++;
        for (size_t i = 0; i < MVPN_ARRAY_LEN(secrets); i++) {
            leaks += memmem(p, malloc_usable_size(p), secrets[i].b, sizeof(secrets[i].b)) != NULL;
        }
    }
    __real_free(p);
}

static void test_freed_memory_holds_no_keys(void **state)
{
    (void)state;
    for (unsigned by_free = 0; by_free < 3; by_free++) {
        struct net *net = net_standard(7, true);
        mvpn_link *other, *link = net_joined(net, 0, 1, &other);
        secrets[0] = link->session->cur.send_key;
        secrets[1] = link->session->cur.recv_key;
        secrets[2] = link->session->send_mask;
        secrets[3] = link->session->recv_mask;
        secrets[4] = net->node[1].links->psk;
        secrets[5] = net->node[1].config.link_key.secret;
        leaks = frees = 0;
        is_searching = true;
        if (by_free == 0) {
            mvpn_link_close(link, 0, net->now);
            net_for(net, MVPN_S(1));
        } else if (by_free == 2) {
            rekey_begin(link->session, net->now);
            net_for(net, MVPN_S(12));
            assert_null(link->session->rotation);
        } else {
            mvpn_links_free(net->node[0].links);
            mvpn_links_free(net->node[1].links);
        }
        is_searching = false;
        assert_true(frees > 0);
        assert_int_equal(leaks, 0);
        for (size_t i = 0; by_free == 1 && i < 2; i++) {
            net->node[i].links = NULL;
            mvpn_packet_pool_done(&net->node[i].pool);
        }
        net_free(net);
    }
}

int main(void)
{
    const struct CMUnitTest all[] = {
        cmocka_unit_test(test_no_altered_packet_is_accepted),
        cmocka_unit_test(test_altered_filler_is_refused),
        cmocka_unit_test(test_an_acked_cell_is_sealed_whole),
        cmocka_unit_test(test_the_kind_decides_what_is_sealed),
        cmocka_unit_test(test_replay_window),
        cmocka_unit_test(test_replay_window_grows),
        cmocka_unit_test(test_rekey_by_time_loses_nothing),
        cmocka_unit_test(test_rekey_by_packets_loses_nothing),
        cmocka_unit_test(test_idle_rekey_under_loss),
        cmocka_unit_test(test_old_epoch_is_refused_after_its_time),
        cmocka_unit_test(test_nothing_is_sealed_at_the_end),
        cmocka_unit_test(test_unauthorised_rekey_closes),
        cmocka_unit_test(test_a_rekey_keeps_the_static_keys),
        cmocka_unit_test(test_a_rekey_too_early_waits),
        cmocka_unit_test(test_freed_memory_holds_no_keys),
    };
    return cmocka_run_group_tests(all, NULL, NULL);
}
