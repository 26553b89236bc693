/*
 * Transport packets: sealing, opening, header protection, epochs' replay windows. (docs/protocol.md
 * §4.1) The packet path: nothing here allocates but, once an epoch, the large replay window; and a
 * cell's body is neither copied nor sealed.
 */
#include <stdlib.h>

#include "base/assert.h"
#include "crypto/mask.h"
#include "network/p2p/internal.h"
#include "wire/cell.h"

#define FLAGS 0x40
#define FLAGS_FORM 0xc0
#define FLAGS_MASKED 0x3f
#define FLAGS_RESERVED 0x38
#define FLAG_CELL 0x01
#define EPOCH_SHIFT 1
#define EPOCH_MASK 3u
/* So many packets within so long call for the large replay window. */
#define PACE_PACKETS 64
#define PACE_TIME MVPN_S(1)

enum {
    AT_ID = 1,
    AT_NUMBER = 9,
};

void epoch_wipe(struct epoch *e)
{
    free(e->large);
    mvpn_wipe(e, sizeof(*e));
}

static void derive(mvpn_key *ret, const char *context, const mvpn_key *from)
{
    const mvpn_bytes in = MVPN_BYTES_ARRAY(from->b);
    mvpn_blake3_derive(ret->b, sizeof(ret->b), context, &in, 1);
}

void epoch_keys(struct epoch *e, const mvpn_key *send, const mvpn_key *recv)
{
    derive(&e->send_key, "meshvpn v1 link aead", send);
    derive(&e->recv_key, "meshvpn v1 link aead", recv);
    derive(&e->send_filler, "meshvpn v1 link filler", send);
    derive(&e->recv_filler, "meshvpn v1 link filler", recv);
}

void transport_start(struct session *s, const mvpn_noise *noise)
{
    mvpn_key send, recv;
    mvpn_noise_split(noise, &send, &recv);
    derive(&s->send_mask, "meshvpn v1 link header", &send);
    derive(&s->recv_mask, "meshvpn v1 link header", &recv);
    s->cur = (struct epoch){.live = true};
    epoch_keys(&s->cur, &send, &recv);
    s->handshake_hash = *mvpn_noise_hash(noise);
    mvpn_wipe(&send, sizeof(send));
    mvpn_wipe(&recv, sizeof(recv));
}

static void mask_header(uint8_t *p, const mvpn_key *key)
{
    uint8_t mask[MVPN_MASK_LEN];
    mvpn_header_mask(mask, key, p + TRANSPORT_HEADER_LEN);
    p[0] ^= mask[0] & FLAGS_MASKED;
    for (size_t i = 0; i < 4; i++) {
        p[AT_NUMBER + i] ^= mask[1 + i];
    }
}

/*
 * Cells whose header alone is sealed: their live bytes have a layer's tag, their filler is what
 * both ends can make. Acknowledged ones are sealed whole: so nothing damaged is acknowledged, and
 * none looks alike when it is resent.
 */
static bool is_header_only(const mvpn_header *header)
{
    return mvpn_command_is_relay(header->command) && header->link_seq == 0;
}

static void make_filler(uint8_t *out, size_t n, const mvpn_key *key, uint64_t number)
{
    uint8_t in[8];
    mvpn_store64(in, number);
    mvpn_blake3_keyed(out, n, key, MVPN_BYTES_ARRAY(in));
}

static bool filler_is_right(const uint8_t *filler, size_t n, const mvpn_key *key, uint64_t number)
{
    uint8_t want[MVPN_CELL_FULL];
    if (n == 0) {
        return true;
    }
    make_filler(want, n, key, number);
    return mvpn_ct_equal(filler, want, n);
}

/* Header and tag around the body that `packet` holds. */
static void seal(struct session *s, mvpn_packet *packet, const mvpn_header *header,
                 const mvpn_connection_id *remote)
{
    struct epoch *e = &s->cur;
    uint64_t number = e->send_pn++;
    uint8_t flags = (uint8_t)(FLAGS | (e->number & EPOCH_MASK) << EPOCH_SHIFT);
    uint8_t *p;
    uint8_t *tag;
    size_t n;
    if (is_header_only(header)) {
        flags |= FLAG_CELL;
        if (packet->len > header->length) {
            make_filler(packet->data + header->length, packet->len - header->length,
                        &e->send_filler, number);
        }
        p = mvpn_packet_push(packet, TRANSPORT_OVERHEAD);
        n = MVPN_HEADER_LEN;
        tag = p + TRANSPORT_TAG_AT_CELL;
    } else {
        n = MVPN_HEADER_LEN + packet->len;
        tag = mvpn_packet_append(packet, MVPN_AEAD_TAG);
        p = mvpn_packet_push(packet, TRANSPORT_HEADER_LEN + MVPN_HEADER_LEN);
    }
    p[0] = flags;
    memcpy(p + AT_ID, remote->b, MVPN_CONNECTION_ID_LEN);
    mvpn_store32(p + AT_NUMBER, (uint32_t)number);
    uint8_t *message = p + TRANSPORT_HEADER_LEN;
    mvpn_header_encode(message, header);
    mvpn_aead_seal(s->links->config.aead, message, tag, &e->send_key, number,
                   mvpn_bytes_of(p, TRANSPORT_HEADER_LEN), mvpn_bytes_of(message, n));
    mask_header(p, &s->send_mask);
}

int transport_send(struct session *s, mvpn_packet *packet, const mvpn_header *header,
                   struct route *route, mvpn_time now)
{
    mvpn_links *links = s->links;
    /* A number at or above the bound is never sealed: the key would end before the counter. */
    if (s->is_exhausted || s->cur.send_pn >= links->config.exhaust_packets) {
        s->is_exhausted = true;
        mvpn_timer_set(&links->timers, &s->timers[TIMER_ALIVE], now);
        mvpn_packet_free(links->config.pool, packet);
        return MVPN_E_EXHAUSTED;
    }
    seal(s, packet, header, &route->remote);
    if (MVPN_UNLIKELY(s->cur.send_pn >= links->config.rekey_packets)) {
        rekey_schedule(s, now);
    }
    packet->remote = route->addr;
    packet->local = route->socket;
    route->last_sent = now;
    links->counters.packets_out++;
    links->counters.bytes_out += packet->len;
    mvpn_packet_queue_push(&links->out, packet);
    return 0;
}

static int send_command(struct session *s, unsigned command, mvpn_bytes body, struct route *route,
                        mvpn_time now)
{
    mvpn_packet *packet = mvpn_packet_new(s->links->config.pool);
    if (packet == NULL) {
        return MVPN_E_NOMEM;
    }
    if (body.n > 0) {
        memcpy(mvpn_packet_append(packet, (uint32_t)body.n), body.p, body.n);
    }
    const mvpn_header header = {.command = (uint16_t)command, .length = (uint16_t)body.n};
    return transport_send(s, packet, &header, route, now);
}

int transport_command(struct session *s, unsigned command, mvpn_bytes body, mvpn_time now)
{
    return send_command(s, command, body, s->route, now);
}

int transport_token(struct session *s, unsigned command, uint64_t token, struct route *route,
                    mvpn_time now)
{
    uint8_t body[MVPN_LINK_TOKEN_LEN];
    mvpn_store64(body, token);
    return send_command(s, command, MVPN_BYTES_ARRAY(body), route, now);
}

/* The number with these low 32 bits that is nearest to the next one expected. (§4.1; RFC 9000 A.3)
 */
static uint64_t expand_number(uint64_t expected, uint32_t low)
{
    const uint64_t span = UINT64_C(1) << 32;
    uint64_t number = (expected & ~(span - 1)) | low;
    if (number + span / 2 <= expected && number <= UINT64_MAX - span) {
        return number + span;
    }
    if (number > expected + span / 2 && number >= span) {
        return number - span;
    }
    return number;
}

static struct epoch *epoch_of(struct session *s, uint8_t flags)
{
    unsigned low = flags >> EPOCH_SHIFT & EPOCH_MASK;
    struct rotation *r = s->rotation;
    struct epoch *all[] = {&s->cur, r != NULL ? &r->prev : NULL, r != NULL ? &r->next : NULL};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(all); i++) {
        if (all[i] != NULL && all[i]->live && (all[i]->number & EPOCH_MASK) == low) {
            return all[i];
        }
    }
    return NULL;
}

struct window {
    uint64_t *words;
    size_t count;
};

static struct window window_of(struct epoch *e)
{
    return e->large != NULL ? (struct window){e->large, MVPN_REPLAY_WORDS(REPLAY_WINDOW)}
                            : (struct window){e->small, MVPN_ARRAY_LEN(e->small)};
}

/* Packets come fast: some may be late by more than the small window from now on. */
static void window_pace(struct epoch *e, mvpn_time now)
{
    bool is_fast = e->mark_at != 0 && now - e->mark_at < PACE_TIME;
    e->mark = e->replay.next;
    e->mark_at = now;
    uint64_t *large = is_fast ? malloc(MVPN_REPLAY_WORDS(REPLAY_WINDOW) * sizeof(*large)) : NULL;
    if (large == NULL) {
        return; /* without memory the small one goes on: it refuses more, never less */
    }
    mvpn_replay_grow(&e->replay, large, MVPN_REPLAY_WORDS(REPLAY_WINDOW), e->small,
                     MVPN_ARRAY_LEN(e->small));
    e->large = large;
}

/* Open in place and strip what the link added; the header is decoded but nothing is committed yet.
 */
static int open_message(struct session *s, const struct epoch *e, uint64_t number,
                        mvpn_packet *packet, mvpn_header *ret_header)
{
    uint8_t *p = packet->data;
    uint8_t *message = p + TRANSPORT_HEADER_LEN;
    bool is_cell = (p[0] & FLAG_CELL) != 0;
    size_t n = is_cell ? MVPN_HEADER_LEN : packet->len - TRANSPORT_HEADER_LEN - MVPN_AEAD_TAG;
    int err = mvpn_aead_open(s->links->config.aead, message, &e->recv_key, number,
                             mvpn_bytes_of(p, TRANSPORT_HEADER_LEN), mvpn_bytes_of(message, n),
                             message + n);
    if (err != 0) {
        return err;
    }
    if (is_cell) {
        mvpn_packet_pull(packet, TRANSPORT_OVERHEAD);
    } else {
        mvpn_packet_truncate(packet, packet->len - MVPN_AEAD_TAG);
        mvpn_packet_pull(packet, TRANSPORT_HEADER_LEN + MVPN_HEADER_LEN);
    }
    err = mvpn_header_decode(ret_header, message, packet->len);
    if (err == 0 && is_header_only(ret_header) != is_cell) {
        err = MVPN_E_FORMAT;
    }
    if (err == 0 && is_cell &&
        !filler_is_right(packet->data + ret_header->length, packet->len - ret_header->length,
                         &e->recv_filler, number)) {
        err = MVPN_E_AUTH;
    }
    return err;
}

int transport_open(mvpn_links *links, mvpn_packet *packet, mvpn_time now, struct session **ret,
                   mvpn_header *ret_header, bool *ret_is_newest, struct local_id **ret_id)
{
    if (packet->len < TRANSPORT_OVERHEAD || packet->len > PACKET_FULL) {
        return MVPN_E_FORMAT;
    }
    uint8_t *p = packet->data;
    struct local_id *id = connid_find(links, p + AT_ID);
    if (id == NULL || id->session->state == SESSION_ATTEMPT) {
        return MVPN_E_UNKNOWN;
    }
    struct session *s = id->session;
    mask_header(p, &s->recv_mask);
    if ((p[0] & (FLAGS_FORM | FLAGS_RESERVED)) != FLAGS) {
        return MVPN_E_AUTH;
    }
    struct epoch *e = epoch_of(s, p[0]);
    if (e == NULL) {
        return MVPN_E_AUTH;
    }
    uint64_t number = expand_number(e->replay.next, mvpn_load32(p + AT_NUMBER));
    struct window window = window_of(e);
    if (mvpn_replay_check(&e->replay, window.words, window.count, number) != 0) {
        return MVPN_E_REPLAY;
    }
    int err = open_message(s, e, number, packet, ret_header);
    if (err != 0) {
        return err; /* also a cell cut short, whose header still verifies: the whole one may come
                       yet */
    }
    /* Verified: from here on the session's state may change. */
    if (s->rotation != NULL && e == &s->rotation->next) {
        rekey_promote(s, now);
        e = &s->cur;
        window = window_of(e);
    }
    *ret_is_newest = e == &s->cur && number >= e->replay.next;
    mvpn_replay_commit(&e->replay, window.words, window.count, number);
    if (MVPN_UNLIKELY(e->large == NULL) && e->replay.next - e->mark >= PACE_PACKETS) {
        window_pace(e, now);
    }
    if (MVPN_UNLIKELY(number + 1 >= links->config.rekey_packets && e == &s->cur)) {
        rekey_schedule(s, now);
    }
    s->last_recv = now;
    s->has_received = true;
    s->has_received_epoch = s->has_received_epoch || e == &s->cur;
    s->pings = 0;
    *ret = s;
    *ret_id = id;
    return 0;
}
