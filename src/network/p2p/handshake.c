/*
 * Handshakes: our attempts, the peer's first packets, confirmation. (docs/protocol.md §4.2)
 *
 * A responder checks in this order, and each step before the next costs: size and version, mac1,
 * replay, load (mac2), Noise, certificates. Nothing is allocated and nothing remembered before the
 * last, and a stranger gets no answer to anything. A first packet of an unsure clock, whose mac1
 * any later time would take, needs a cookie always and passes a narrow rate.
 *
 * Two relays that open to each other at once: the lower identity does not answer while its own
 * attempt is young; the higher one answers and keeps its own attempt only until the other is
 * confirmed.
 */
#include <stdlib.h>

#include "base/assert.h"
#include "network/p2p/internal.h"

/*
 * The n-th first packet of a link is good for n seconds, in which it is sent three times, as often
 * as it is answered: at once, and after these shares of its life (percent).
 */
static const uint8_t resend_percent[MVPN_REPLIES_MAX - 1] = {15, 40};
#define FIRST_LIFE MVPN_S(1)
/* While its own attempt is so young, or its success so fresh, the lower identity answers no attempt
 * of the higher. */
#define PREFERENCE_ATTEMPT MVPN_S(5)
#define PREFERENCE_OPEN MVPN_S(10)
#define COOKIE_LIFE MVPN_S(120)
/* A cookie makes the initiator send at once; so often per first packet. */
#define COOKIES_MAX 3
/* Who finds no room is told so often, for so long. */
#define BUSY_ANSWERS 8
#define BUSY_TOLD MVPN_S(2)
/* No clock shows a later time (36,000 years); in microseconds it still fits 63 bits. */
#define UNIX_MAX (UINT64_C(1) << 40)
/* First packets of a link (1 s and 2 s) before one that names no hour. */
#define UNSURE_AFTER 2
/* More than message 2 holds and than message 1 holds. */
#define PAYLOAD_MAX MVPN_HANDSHAKE_LEN

static void set_timer(struct session *s, mvpn_time at)
{
    mvpn_timer_set(&s->links->timers, &s->timers[TIMER_HANDSHAKE], at);
}

struct session *session_new(mvpn_links *links, mvpn_time now)
{
    size_t timers = (links->session_count + 1) * TIMER_COUNT + links->acked_unused;
    if (mvpn_timers_reserve(&links->timers, timers) != 0) {
        return NULL;
    }
    struct session *s = calloc(1, sizeof(*s));
    struct handshake *hs = calloc(1, sizeof(*hs));
    if (s == NULL || hs == NULL) {
        free(s);
        free(hs);
        return NULL;
    }
    s->links = links;
    s->hs = hs;
    s->route = &s->routes[ROUTE_DIRECT];
    s->began = now;
    s->last_recv = now;
    for (int i = 0; i < TIMER_COUNT; i++) {
        s->timers[i].kind = i;
    }
    links->session_count++;
    return s;
}

static uint64_t ephemeral_hash(const mvpn_links *links, const uint8_t *ephemeral)
{
    return mvpn_siphash(&links->sip, ephemeral, 32);
}

/* The handshake is over, one way or the other. */
static void handshake_free(struct session *s)
{
    struct handshake *hs = s->hs;
    if (hs == NULL) {
        return;
    }
    if (mvpn_list_is_linked(&hs->in_half_open)) {
        mvpn_list_remove(&hs->in_half_open);
        mvpn_hash_remove(&s->links->by_ephemeral, &hs->by_ephemeral);
        s->links->half_open_count--;
    }
    mvpn_wipe(hs, sizeof(*hs));
    free(hs);
    s->hs = NULL;
}

void session_free(struct session *s)
{
    if (s == NULL) {
        return;
    }
    mvpn_links *links = s->links;
    handshake_free(s);
    connid_remove_all(s);
    split_clear(s);
    rekey_forget(s);
    epoch_wipe(&s->cur);
    path_try_again(s);
    free(s->assigned);
    for (size_t i = 0; i < TIMER_COUNT; i++) {
        mvpn_timer_clear(&links->timers, &s->timers[i]);
    }
    links->session_count--;
    mvpn_wipe(s, sizeof(*s));
    free(s);
}

static void noise_init(const mvpn_links *links, mvpn_noise *hs, bool is_ik,
                       const mvpn_link_target *target)
{
    const mvpn_links_config *c = &links->config;
    bool is_initiator = target != NULL;
    uint8_t prologue[MVPN_PROLOGUE_LEN];
    mvpn_prologue_encode(prologue, MVPN_SUITE_X25519, MVPN_PURPOSE_LINK, &c->network_id,
                         is_initiator ? &target->identity : &c->identity,
                         is_initiator ? &target->link_key : &c->link_key.pub);
    const mvpn_noise_config config = {
        .pattern = is_ik ? (c->closed ? MVPN_NOISE_IK_PSK0 : MVPN_NOISE_IK)
                         : (c->closed ? MVPN_NOISE_NK_PSK0 : MVPN_NOISE_NK),
        .role = is_initiator ? MVPN_NOISE_INITIATOR : MVPN_NOISE_RESPONDER,
        .prologue = MVPN_BYTES_ARRAY(prologue),
        .s = is_ik || !is_initiator ? &c->link_key : NULL,
        .rs = is_initiator ? &target->link_key : NULL,
        .psk = c->closed ? &links->psk : NULL,
    };
    mvpn_noise_init(hs, c->aead, &config);
}

/* Our ids: the source id of the packet and the spares of the payload. MVPN_E_LIMIT: the NAT relay
 * has assigned none that is free. */
static int give_ids(struct session *s, mvpn_handshake_payload *payload)
{
    enum route_kind kind = s->route == &s->routes[ROUTE_RELAYED] ? ROUTE_RELAYED : ROUTE_DIRECT;
    int err = connid_give(s, kind, &s->hs->source);
    payload->id_count = 0;
    for (size_t i = 0; err == 0 && i < SPARES_WANTED; i++) {
        if (connid_give(s, kind, &payload->ids[i]) == 0) {
            payload->id_count++;
        }
    }
    return err;
}

static bool queue_packet(mvpn_links *links, mvpn_packet *packet, const uint8_t *bytes,
                         const mvpn_addr *to, uint16_t socket)
{
    if (packet == NULL) {
        return false;
    }
    if (bytes != NULL) {
        packet->len = 0;
        memcpy(mvpn_packet_append(packet, MVPN_HANDSHAKE_LEN), bytes, MVPN_HANDSHAKE_LEN);
    }
    packet->remote = *to;
    packet->local = socket;
    links->counters.packets_out++;
    links->counters.bytes_out += packet->len;
    mvpn_packet_queue_push(&links->out, packet);
    return true;
}

/* ---- initiator ---- */

static void set_mac2(mvpn_link *link, struct handshake *hs, mvpn_time now)
{
    uint8_t *at = hs->packet + MVPN_HANDSHAKE_MAC2_AT;
    if (link->has_cookie && now - link->cookie_at < COOKIE_LIFE) {
        mvpn_mac2(at, link->cookie, hs->packet);
    } else {
        mvpn_rng_bytes(link->links->config.rng, at, MVPN_HANDSHAKE_MAC_LEN);
    }
}

static int write_first(struct session *s, mvpn_link *link, mvpn_time now)
{
    mvpn_links *links = s->links;
    const mvpn_links_config *c = &links->config;
    struct handshake *hs = s->hs;
    mvpn_handshake_payload payload = {.time = links_unix(links, now), .max_datagram = PACKET_FULL};
    int err = give_ids(s, &payload);
    if (err != 0) {
        return err;
    }
    if (s->is_ik) {
        payload.link_certificate = c->link_certificate;
        payload.membership_certificate = c->membership_certificate;
    }
    mvpn_handshake_header header = {.source = hs->source};
    mvpn_rng_bytes(c->rng, &header.random, 1);
    if (s->route->has_remote) {
        header.destination = s->route->remote; /* where the NAT relay forwards first packets */
    } else {
        mvpn_rng_bytes(c->rng, header.destination.b, sizeof(header.destination.b));
    }
    mvpn_handshake_header_encode(hs->packet, &header);

    noise_init(links, &hs->noise, s->is_ik, link->target);
    uint8_t body[PAYLOAD_MAX];
    size_t size = MVPN_HANDSHAKE_NOISE1_LEN - mvpn_noise_overhead(&hs->noise);
    size_t n = 0;
    err = mvpn_handshake_payload_encode(body, size, false, hs->packet, &payload);
    if (err == 0) {
        err = mvpn_noise_write(&hs->noise, hs->packet + MVPN_HANDSHAKE_HEADER_LEN,
                               MVPN_HANDSHAKE_NOISE1_LEN, &n, mvpn_bytes_of(body, size), c->rng);
    }
    if (err != 0) {
        return err;
    }
    hs->is_unsure = c->clock_is_unsure && link->attempts >= UNSURE_AFTER && !link->hour_is_right;
    mvpn_key key;
    mvpn_mac1_key(&key, &link->target->link_key, &links->token,
                  s->is_ik ? MVPN_PATTERN_IK : MVPN_PATTERN_NK,
                  hs->is_unsure ? MVPN_HOUR_UNSURE : links_unix(links, now) / 3600);
    mvpn_mac1(hs->mac1, &key, hs->packet);
    memcpy(hs->packet + MVPN_HANDSHAKE_MAC1_AT, hs->mac1, sizeof(hs->mac1));
    mvpn_wipe(&key, sizeof(key));
    set_mac2(link, hs, now);
    return 0;
}

static void send_first(struct session *s, mvpn_time now)
{
    struct handshake *hs = s->hs;
    /* Without a free packet it is as if lost. */
    (void)queue_packet(s->links, mvpn_packet_new(s->links->config.pool), hs->packet,
                       &s->route->addr, s->route->socket);
    size_t next = hs->sends++;
    mvpn_time life = s->link->attempts * FIRST_LIFE;
    mvpn_time at =
        s->began +
        (next < MVPN_ARRAY_LEN(resend_percent) ? life * resend_percent[next] / 100 : life);
    if (at <= now) {
        at = now + MVPN_MS(100); /* we were not called in time */
    }
    set_timer(s, mvpn_time_min(at, s->link->opening_since + OPEN_TIMEOUT));
}

int handshake_begin(mvpn_link *link, mvpn_time now)
{
    struct session *s = session_new(link->links, now);
    if (s == NULL) {
        return MVPN_E_NOMEM;
    }
    s->state = SESSION_ATTEMPT;
    s->is_initiator = true;
    s->is_ik = link->links->config.is_relay;
    s->has_peer_identity = true;
    s->peer_identity = link->target->identity;
    s->peer_key = link->target->link_key;
    s->link = link;
    if (link->connection != NULL) {
        connector_calling(s);
    } else {
        s->route->live = true;
        s->route->addr = link->target->addr;
    }
    int err = write_first(s, link, now);
    if (err != 0) {
        session_free(s);
        return err;
    }
    session_free(link->session);
    link->session = s;
    link->attempts++;
    send_first(s, now);
    return 0;
}

void handshake_timer(struct session *s, mvpn_time now)
{
    if (s->state == SESSION_HALF_OPEN) {
        session_free(s); /* never confirmed: nobody is told, nobody knew */
        return;
    }
    mvpn_link *link = s->link;
    if (now - link->opening_since >= OPEN_TIMEOUT) {
        link_fail(link, MVPN_E_TIMEOUT);
    } else if (s->hs->sends <= MVPN_ARRAY_LEN(resend_percent)) {
        send_first(s, now);
    } else {
        int err = handshake_begin(link, now);
        if (err != 0) {
            link_fail(link, err);
        }
    }
}

/* True if it was one: then the first packet is sent again with its mac2. */
static bool take_cookie(struct session *s, const uint8_t *packet, mvpn_time now)
{
    struct handshake *hs = s->hs;
    mvpn_link *link = s->link;
    uint8_t plain[MVPN_COOKIE_BOX_LEN - MVPN_AEAD_TAG];
    mvpn_key key;
    mvpn_cookie_key(&key, &link->target->link_key, &s->links->token);
    const uint8_t *nonce = packet + MVPN_HANDSHAKE_HEADER_LEN;
    int err = mvpn_xaead_open(plain, &key, nonce, MVPN_BYTES_ARRAY(hs->mac1),
                              mvpn_bytes_of(nonce + MVPN_COOKIE_NONCE_LEN, MVPN_COOKIE_BOX_LEN));
    mvpn_wipe(&key, sizeof(key));
    if (err != 0) {
        return false;
    }
    if (hs->cookies < COOKIES_MAX) {
        hs->cookies++;
        memcpy(link->cookie, plain, MVPN_COOKIE_LEN);
        link->cookie_at = now;
        link->has_cookie = true;
        link->hour_is_right = link->hour_is_right || !hs->is_unsure;
        set_mac2(link, hs, now);
        (void)queue_packet(s->links, mvpn_packet_new(s->links->config.pool), hs->packet,
                           &s->route->addr, s->route->socket); /* lost: resent by the timer */
    }
    return true;
}

/* The certificate must bind the static key to the identity, at `unix_now` (not 0). */
static int check_link_certificate(const mvpn_links *links, mvpn_bytes cert, const mvpn_key *key,
                                  uint64_t unix_now, mvpn_ed25519_pub *ret_identity)
{
    mvpn_link_certificate c;
    int err = mvpn_link_certificate_verify(cert, &links->config.network_id, unix_now, &c);
    if (err != 0) {
        return err;
    }
    if (!mvpn_key_eq(&c.link_key, key)) {
        return MVPN_E_AUTH;
    }
    *ret_identity = c.identity;
    return 0;
}

static int read_reply(struct session *s, mvpn_noise *noise, const uint8_t *packet, uint8_t *body,
                      mvpn_handshake_payload *ret, mvpn_time now)
{
    size_t n = 0;
    int err = mvpn_noise_read(
        noise, body, PAYLOAD_MAX, &n,
        mvpn_bytes_of(packet + MVPN_HANDSHAKE_HEADER_LEN, MVPN_HANDSHAKE_NOISE2_LEN));
    if (err == 0) {
        err = mvpn_handshake_payload_decode(ret, mvpn_bytes_of(body, n), true, packet);
    }
    mvpn_ed25519_pub identity;
    if (err == 0) {
        /* Without a clock of our own, by the time of the peer: it holds the static key we look for.
         */
        uint64_t at = s->hs->is_unsure ? MVPN_MAX(ret->time, 1u) : links_unix(s->links, now);
        err = check_link_certificate(s->links, ret->link_certificate, &s->peer_key, at, &identity);
    }
    if (err == 0 && memcmp(identity.b, s->peer_identity.b, sizeof(identity.b)) != 0) {
        err = MVPN_E_AUTH;
    }
    return err;
}

static int recv_reply(struct session *s, const mvpn_handshake_header *header, const uint8_t *packet,
                      mvpn_time now)
{
    if (take_cookie(s, packet, now)) {
        return 0;
    }
    mvpn_noise noise = s->hs->noise; /* a forgery must not spoil the state for the genuine one */
    uint8_t body[PAYLOAD_MAX];
    mvpn_handshake_payload payload;
    int err = read_reply(s, &noise, packet, body, &payload, now);
    if (err == 0) {
        mvpn_link *link = s->link;
        transport_start(s, &noise);
        s->route->remote = header->source;
        s->route->has_remote = true;
        connid_add_spares(s->route, payload.ids, payload.id_count);
        s->peer_max_datagram = payload.max_datagram;
        /* Through a NAT relay the peer has seen that one's address. */
        link->observed = link->connection == NULL ? payload.observed : (mvpn_addr){0};
        uint64_t time = MVPN_MIN(payload.time, UNIX_MAX);
        link->clock_offset_s = (int64_t)time - (int64_t)links_unix(s->links, now);
        link->unix_offset_us = (int64_t)(time * MVPN_US_PER_S) - (int64_t)now;
        bool is_first = s->hs->sends == 1 && s->hs->cookies == 0;
        mvpn_time rtt = now - s->began;
        handshake_free(s);
        set_timer(s, MVPN_TIME_NEVER);
        s->state = SESSION_OPEN;
        if (is_first) {
            link_measured(link, rtt);
        }
        link_opened(link, now);
    }
    mvpn_noise_done(&noise);
    return err;
}

/* ---- responder ---- */

static struct session *half_open_by_ephemeral(mvpn_links *links, const uint8_t *ephemeral)
{
    mvpn_hash_node *n = mvpn_hash_first(&links->by_ephemeral, ephemeral_hash(links, ephemeral));
    for (; n != NULL; n = mvpn_hash_next(n)) {
        struct handshake *hs = MVPN_CONTAINER_OF(n, struct handshake, by_ephemeral);
        if (memcmp(hs->ephemeral, ephemeral, sizeof(hs->ephemeral)) == 0) {
            return connid_find(links, hs->source.b)->session;
        }
    }
    return NULL;
}

/* The same first packet again. Its sender gets the same reply for 5 s, three in all; anybody else
 * gets nothing.
 */
static int answer_again(mvpn_links *links, mvpn_packet **packet, const uint8_t *ephemeral,
                        mvpn_time now)
{
    struct session *s = half_open_by_ephemeral(links, ephemeral);
    if (s == NULL || now - s->began > REPLY_KEPT || s->hs->sends >= MVPN_REPLIES_MAX ||
        !mvpn_addr_eq(&s->route->addr, &(*packet)->remote) ||
        !mvpn_ct_equal(s->hs->mac1, (*packet)->data + MVPN_HANDSHAKE_MAC1_AT,
                       sizeof(s->hs->mac1))) {
        return MVPN_E_REPLAY;
    }
    s->hs->sends++;
    mvpn_addr to = (*packet)->remote;
    (void)queue_packet(links, *packet, s->hs->packet, &to, (*packet)->local);
    *packet = NULL;
    return 0;
}

/* What a verified first packet says about its sender. */
struct initiator {
    bool has_identity;
    mvpn_ed25519_pub identity;
    uint64_t serial; /* of its membership certificate; 0: none */
    mvpn_key key;
    mvpn_handshake_payload payload;
};

static int check_initiator(mvpn_links *links, const mvpn_noise *noise, struct initiator *in,
                           mvpn_time now)
{
    const mvpn_links_config *c = &links->config;
    in->key = *mvpn_noise_remote_static(noise);
    in->has_identity = true;
    int err = check_link_certificate(links, in->payload.link_certificate, &in->key,
                                     links_unix(links, now), &in->identity);
    if (err == 0 && c->closed) {
        mvpn_membership m;
        err = mvpn_membership_verify(in->payload.membership_certificate, &c->network_id,
                                     &c->network_pub, links_unix(links, now), &m);
        if (err == 0 && memcmp(m.identity.b, in->identity.b, sizeof(m.identity.b)) != 0) {
            err = MVPN_E_AUTH;
        } else if (err == 0 && serial_is_revoked(links, m.serial)) {
            err = MVPN_E_POLICY;
        } else if (err == 0) {
            in->serial = m.serial;
        }
    }
    if (err == 0 && memcmp(in->identity.b, c->identity.b, sizeof(c->identity.b)) == 0) {
        err = MVPN_E_AUTH; /* ourselves */
    }
    return err;
}

static bool we_are_lower(const mvpn_links *links, const mvpn_ed25519_pub *peer)
{
    return memcmp(links->config.identity.b, peer->b, sizeof(peer->b)) < 0;
}

/* Simultaneous opens: does our own attempt win over this one? */
static bool own_attempt_wins(mvpn_links *links, const mvpn_ed25519_pub *peer, mvpn_time now)
{
    const mvpn_link *link = link_by_identity(links, peer);
    if (link == NULL || link->session == NULL || !link->session->is_initiator ||
        !we_are_lower(links, peer)) {
        return false;
    }
    return link->state == LINK_OPENING ? now - link->opening_since < PREFERENCE_ATTEMPT
                                       : now - link->session->opened < PREFERENCE_OPEN;
}

static int write_reply(struct session *s, mvpn_noise *noise, const mvpn_handshake_header *first,
                       mvpn_time now)
{
    mvpn_links *links = s->links;
    struct handshake *hs = s->hs;
    mvpn_handshake_payload payload = {.time = links_unix(links, now),
                                      .max_datagram = PACKET_FULL,
                                      .observed = s->route->addr,
                                      .link_certificate = links->config.link_certificate};
    int err = give_ids(s, &payload);
    if (err != 0) {
        return err;
    }
    mvpn_handshake_header header = {.destination = first->source, .source = hs->source};
    mvpn_rng_bytes(links->config.rng, &header.random, 1);
    mvpn_handshake_header_encode(hs->packet, &header);
    uint8_t body[PAYLOAD_MAX];
    size_t size = MVPN_HANDSHAKE_NOISE2_LEN - mvpn_noise_overhead(noise);
    size_t n = 0;
    err = mvpn_handshake_payload_encode(body, size, true, hs->packet, &payload);
    if (err == 0) {
        err = mvpn_noise_write(noise, hs->packet + MVPN_HANDSHAKE_HEADER_LEN,
                               MVPN_HANDSHAKE_NOISE2_LEN, &n, mvpn_bytes_of(body, size),
                               links->config.rng);
    }
    return err;
}

/* All is verified: remember the first packet, keep a half-open session, answer. */
static int accept_first(mvpn_links *links, mvpn_packet **packet, const mvpn_handshake_header *first,
                        mvpn_noise *noise, const struct initiator *in, bool is_ik, uint64_t hour,
                        mvpn_time now)
{
    if (links->half_open_count >= links->config.half_open_max) {
        /* The oldest goes: an honest initiator confirms within a round trip, a flood never. */
        struct handshake *oldest =
            MVPN_CONTAINER_OF(links->half_open.next, struct handshake, in_half_open);
        session_free(connid_find(links, oldest->source.b)->session);
        links->counters.dropped_limit++;
    }
    struct session *s = session_new(links, now);
    if (s == NULL) {
        return MVPN_E_NOMEM;
    }
    struct handshake *hs = s->hs;
    s->state = SESSION_HALF_OPEN;
    s->is_ik = is_ik;
    s->has_peer_identity = in->has_identity;
    s->peer_identity = in->identity;
    s->peer_serial = in->serial;
    s->peer_key = in->key;
    connector_called(s, first->destination.b, &(*packet)->remote);
    s->route->live = true;
    s->route->addr = (*packet)->remote;
    s->route->socket = (*packet)->local;
    s->route->remote = first->source;
    s->route->has_remote = true;
    s->peer_max_datagram = in->payload.max_datagram;
    connid_add_spares(s->route, in->payload.ids, in->payload.id_count);
    int err = write_reply(s, noise, first, now);
    if (err != 0) {
        session_free(s);
        return err;
    }
    hs->sends = 1;
    transport_start(s, noise);
    memcpy(hs->mac1, (*packet)->data + MVPN_HANDSHAKE_MAC1_AT, sizeof(hs->mac1));
    memcpy(hs->ephemeral, (*packet)->data + MVPN_HANDSHAKE_HEADER_LEN, sizeof(hs->ephemeral));
    mvpn_hash_insert(&links->by_ephemeral, &hs->by_ephemeral, ephemeral_hash(links, hs->ephemeral));
    mvpn_list_append(&links->half_open, &hs->in_half_open);
    links->half_open_count++;
    links->counters.handshakes++;
    /* A full hour is no failure: cookies were demanded then. */
    (void)mvpn_admission_remember(links->admission, hour, hs->ephemeral);
    set_timer(s, now + HALF_OPEN_TIMEOUT);
    (void)queue_packet(links, *packet, hs->packet, &s->route->addr, s->route->socket);
    *packet = NULL;
    return 0;
}

static int read_first(mvpn_links *links, const uint8_t *packet, bool is_ik, mvpn_noise *noise,
                      uint8_t *body, struct initiator *ret, mvpn_time now)
{
    noise_init(links, noise, is_ik, NULL);
    size_t n = 0;
    int err = mvpn_noise_read(
        noise, body, PAYLOAD_MAX, &n,
        mvpn_bytes_of(packet + MVPN_HANDSHAKE_HEADER_LEN, MVPN_HANDSHAKE_NOISE1_LEN));
    if (err == 0) {
        err = mvpn_handshake_payload_decode(&ret->payload, mvpn_bytes_of(body, n), false, packet);
    }
    if (err == 0 && is_ik) {
        err = check_initiator(links, noise, ret, now);
    }
    return err;
}

static int recv_first(mvpn_links *links, mvpn_packet **packet, const mvpn_handshake_header *first,
                      mvpn_time now)
{
    mvpn_admission *a = links->admission;
    const uint8_t *bytes = (*packet)->data;
    const uint8_t *ephemeral = bytes + MVPN_HANDSHAKE_HEADER_LEN;
    enum mvpn_handshake_pattern pattern;
    uint64_t hour;
    if (a == NULL || !connector_admits(links, first->destination.b, &(*packet)->remote)) {
        return MVPN_E_UNKNOWN;
    }
    int err = mvpn_admission_check(a, bytes, links_unix(links, now), &pattern, &hour);
    if (err != 0) {
        return err;
    }
    bool is_busy = mvpn_admission_count(a, now);
    if (half_open_by_ephemeral(links, ephemeral) != NULL ||
        mvpn_admission_is_seen(a, hour, ephemeral)) {
        return answer_again(links, packet, ephemeral, now);
    }
    bool is_unsure = hour == MVPN_HOUR_UNSURE;
    is_busy = is_busy || is_unsure || links->half_open_count >= links->config.load_half_open ||
              mvpn_admission_is_full(a, hour);
    if (is_busy && !mvpn_admission_has_cookie(a, &(*packet)->remote, bytes, now)) {
        if (!mvpn_admission_may_tell(a, (*packet)->data)) {
            return MVPN_E_LIMIT;
        }
        mvpn_admission_cookie_reply(a, &(*packet)->remote, (*packet)->data, now);
        links->counters.cookies++;
        mvpn_addr to = (*packet)->remote;
        (void)queue_packet(links, *packet, NULL, &to, (*packet)->local);
        *packet = NULL;
        return 0;
    }
    if (is_unsure && !mvpn_admission_take_unsure(a, now)) {
        links->counters.dropped_limit++;
        return MVPN_E_LIMIT;
    }
    bool is_ik = pattern == MVPN_PATTERN_IK;
    mvpn_noise noise;
    uint8_t body[PAYLOAD_MAX];
    struct initiator in = {0};
    err = read_first(links, bytes, is_ik, &noise, body, &in, now);
    if (err == 0 && in.has_identity && own_attempt_wins(links, &in.identity, now)) {
        err = MVPN_E_STATE;
    }
    if (err == 0) {
        err = accept_first(links, packet, first, &noise, &in, is_ik, hour, now);
    }
    mvpn_noise_done(&noise);
    mvpn_wipe(body, sizeof(body));
    return err;
}

/* Does this session, whose peer has just confirmed it, lose to the one that its link has? (see the
 * head) */
static bool loses_to(const struct session *s, const struct session *own)
{
    return own->is_initiator && we_are_lower(s->links, &s->peer_identity) &&
           (!own->has_received || s->began < own->opened);
}

static int link_for(struct session *s, mvpn_time now, mvpn_link **ret)
{
    mvpn_links *links = s->links;
    mvpn_link *link = s->has_peer_identity ? link_by_identity(links, &s->peer_identity) : NULL;
    if (link == NULL) {
        const mvpn_ed25519_pub *identity = s->has_peer_identity ? &s->peer_identity : NULL;
        const mvpn_addr *client = identity == NULL ? &s->route->addr : NULL;
        if (!room_make(links, client, now)) {
            return MVPN_E_LIMIT;
        }
        link = link_new(links, identity, client);
    } else if (link->state == LINK_OPENING) {
        /* Our attempt is forgotten, what waits for it goes this way. */
    } else if (loses_to(s, link->session)) {
        return MVPN_E_STATE;
    } else if (link->session->is_initiator && !link->session->has_received) {
        reliable_clear(link, true); /* both were answered; the peer's is the one that counts */
    } else {
        /* The peer has lost its end of the old link (a restart). */
        link_fail(link, MVPN_E_CLOSED);
        link = link_new(links, &s->peer_identity, NULL);
    }
    *ret = link;
    return link != NULL ? 0 : MVPN_E_NOMEM;
}

/* Only to who has finished a handshake at this address; the answer is smaller than what it is to.
 * The session stays to tell it again, in case that is lost. */
static void tell_busy(struct session *s, mvpn_time now)
{
    const uint8_t reason = CLOSE_BUSY;
    if (s->cur.send_pn == 0) {
        set_timer(s, now + BUSY_TOLD);
    }
    if (s->cur.send_pn < BUSY_ANSWERS) {
        (void)transport_command(s, MVPN_CMD_LINK_CLOSE, mvpn_bytes_of(&reason, 1), now);
    }
}

int handshake_confirm(struct session *s, mvpn_time now)
{
    if (serial_is_revoked(s->links, s->peer_serial)) { /* since its first packet came */
        session_free(s);
        return MVPN_E_POLICY;
    }
    mvpn_link *link = NULL;
    int err = link_for(s, now, &link);
    if (err == MVPN_E_LIMIT) {
        tell_busy(s, now);
        return err;
    }
    if (err != 0) {
        session_free(s);
        return err;
    }
    session_free(link->session);
    link->session = s;
    s->link = link;
    s->state = SESSION_OPEN;
    handshake_free(s);
    set_timer(s, MVPN_TIME_NEVER);
    link_opened(link, now);
    return 0;
}

int handshake_recv(mvpn_links *links, mvpn_packet *packet, mvpn_time now)
{
    mvpn_handshake_header header;
    int err = mvpn_handshake_header_decode(&header, mvpn_bytes_of(packet->data, packet->len));
    if (err == 0) {
        struct local_id *id = connid_find(links, header.destination.b);
        if (id == NULL) {
            err = recv_first(links, &packet, &header, now);
        } else if (id->session->state == SESSION_ATTEMPT) {
            err = recv_reply(id->session, &header, packet->data, now);
        } else {
            err = MVPN_E_UNKNOWN; /* a reply once more */
        }
    }
    mvpn_packet_free(links->config.pool, packet);
    return err;
}
