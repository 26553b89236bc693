/*
 * The links of a node: the public calls, timers, events, liveness. What datagrams and link
 * commands mean is in dispatch.c and the files of their nouns (see internal.h). (docs/protocol.md
 * §4)
 */
#include "network/p2p/link.h"

#include <stdlib.h>

#include "base/assert.h"
#include "network/p2p/internal.h"

/* A peer sets what we measure, and with it how long we keep what it does not acknowledge. */
#define RTT_MAX MVPN_S(4)

/* ---- the set of links ---- */

static void config_defaults(mvpn_links_config *c)
{
    c->links_max = c->links_max != 0 ? c->links_max : LINKS_MAX;
    c->half_open_max = c->half_open_max != 0 ? c->half_open_max : HALF_OPEN_MAX;
    c->load_half_open = c->load_half_open != 0 ? c->load_half_open : LOAD_HALF_OPEN;
    c->load_first_per_s = c->load_first_per_s != 0 ? c->load_first_per_s : LOAD_FIRST_PER_S;
    c->rekey_packets = c->rekey_packets != 0 ? c->rekey_packets : REKEY_PACKETS;
    c->exhaust_packets = c->exhaust_packets != 0 ? c->exhaust_packets : EXHAUST_PACKETS;
    c->rekey_after = c->rekey_after != 0 ? c->rekey_after : REKEY_AFTER;
}

static int init_tables(mvpn_links *links)
{
    mvpn_hash *tables[] = {&links->ids, &links->by_identity, &links->by_ephemeral, &links->by_seq,
                           &links->blocks};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(tables); i++) {
        if (mvpn_hash_init(tables[i], 64) != 0) {
            return MVPN_E_NOMEM;
        }
    }
    links->acked_nodes = calloc(ACKED_PER_NODE, sizeof(*links->acked_nodes));
    if (links->acked_nodes == NULL || mvpn_timers_init(&links->timers, TIMER_COUNT) != 0) {
        return MVPN_E_NOMEM;
    }
    return 0;
}

int mvpn_links_new(const mvpn_links_config *config, mvpn_time now, mvpn_links **ret)
{
    mvpn_links *links = calloc(1, sizeof(*links));
    if (links == NULL) {
        return MVPN_E_NOMEM;
    }
    links->config = *config;
    config_defaults(&links->config);
    links->now = now;
    links->keepalive = KEEPALIVE_AFTER;
    mvpn_list_init(&links->links);
    mvpn_list_init(&links->idle);
    mvpn_list_init(&links->half_open);
    mvpn_list_init(&links->events);
    mvpn_list_init(&links->acks);
    mvpn_list_init(&links->graveyard);
    mvpn_list_init(&links->acked_free);
    mvpn_packet_queue_init(&links->out);
    mvpn_rng_bytes(config->rng, links->sip.b, sizeof(links->sip.b));
    mvpn_network_token(&links->token, &config->network_id,
                       config->closed ? &config->network_secret : NULL);
    if (config->closed) {
        mvpn_network_psk(&links->psk, &config->network_secret);
    }
    int err = init_tables(links);
    if (err == 0 && config->is_relay) {
        err = mvpn_admission_new(&links->admission, &config->link_key.pub, &links->token,
                                 links->config.load_first_per_s, config->rng);
    }
    if (err != 0) {
        mvpn_links_free(links);
        return err;
    }
    *ret = links;
    return 0;
}

static void link_free(mvpn_link *link)
{
    connector_forget(link);
    link->links->link_count--;
    mvpn_list_remove(&link->in_links);
    free(link->target);
    mvpn_wipe(link, sizeof(*link));
    free(link);
}

static void bury(mvpn_links *links)
{
    mvpn_list *l;
    while ((l = mvpn_list_pop(&links->graveyard)) != NULL) {
        link_free(MVPN_CONTAINER_OF(l, mvpn_link, in_events));
    }
}

void mvpn_links_free(mvpn_links *links)
{
    if (links == NULL) {
        return;
    }
    MVPN_LIST_FOREACH_SAFE(it, next, &links->links)
    {
        mvpn_link *link = MVPN_CONTAINER_OF(it, mvpn_link, in_links);
        link_fail(link, 0);
        mvpn_list_remove(&link->in_events);
        link_free(link);
    }
    while (!mvpn_list_is_empty(&links->half_open)) {
        struct handshake *hs =
            MVPN_CONTAINER_OF(links->half_open.next, struct handshake, in_half_open);
        session_free(connid_find(links, hs->source.b)->session);
    }
    mvpn_packet_queue_clear(&links->out, links->config.pool);
    mvpn_admission_free(links->admission);
    free(links->acked_nodes);
    mvpn_timers_done(&links->timers);
    mvpn_hash_done(&links->ids);
    mvpn_hash_done(&links->by_identity);
    mvpn_hash_done(&links->by_ephemeral);
    mvpn_hash_done(&links->by_seq);
    mvpn_hash_done(&links->blocks);
    mvpn_wipe(links, sizeof(*links));
    free(links);
}

uint64_t links_unix(const mvpn_links *links, mvpn_time now)
{
    int64_t us = (int64_t)now + links->config.unix_offset_us;
    return us >= (int64_t)MVPN_US_PER_S ? (uint64_t)us / MVPN_US_PER_S : 1;
}

void mvpn_links_set_unix_offset(mvpn_links *links, int64_t unix_offset_us)
{
    links->config.unix_offset_us = unix_offset_us;
}

void mvpn_links_set_keepalive(mvpn_links *links, mvpn_time keepalive)
{
    links->keepalive = keepalive;
}

void mvpn_links_set_clock_unsure(mvpn_links *links, bool is_unsure)
{
    links->config.clock_is_unsure = is_unsure;
}

/* ---- one link ---- */

static uint64_t identity_hash(const mvpn_links *links, const mvpn_ed25519_pub *identity)
{
    return mvpn_siphash(&links->sip, identity->b, sizeof(identity->b));
}

mvpn_link *link_by_identity(mvpn_links *links, const mvpn_ed25519_pub *identity)
{
    mvpn_hash_node *n = mvpn_hash_first(&links->by_identity, identity_hash(links, identity));
    for (; n != NULL; n = mvpn_hash_next(n)) {
        mvpn_link *link = MVPN_CONTAINER_OF(n, mvpn_link, by_identity);
        if (memcmp(link->identity.b, identity->b, sizeof(identity->b)) == 0) {
            return link;
        }
    }
    return NULL;
}

mvpn_link *link_new(mvpn_links *links, const mvpn_ed25519_pub *identity, const mvpn_addr *client)
{
    mvpn_link *link = calloc(1, sizeof(*link));
    if (link == NULL) {
        return NULL;
    }
    link->links = links;
    if (room_enter(link, client) != 0) {
        free(link);
        return NULL;
    }
    link->state = LINK_OPENING;
    link->number = links->link_next_number++;
    link->next_seq = 1;
    mvpn_list_init(&link->acked);
    mvpn_list_append(&links->links, &link->in_links);
    links->link_count++;
    if (identity != NULL) {
        link->has_identity = true;
        link->identity = *identity;
        mvpn_hash_insert(&links->by_identity, &link->by_identity, identity_hash(links, identity));
    }
    return link;
}

int mvpn_links_open(mvpn_links *links, const mvpn_link_target *target, mvpn_time now,
                    mvpn_link **ret)
{
    links->now = now;
    mvpn_link *link = link_by_identity(links, &target->identity);
    if (link != NULL) {
        *ret = link;
        return 0;
    }
    const mvpn_links_config *c = &links->config;
    if (c->is_relay && memcmp(c->identity.b, target->identity.b, sizeof(c->identity.b)) == 0) {
        return MVPN_E_INVAL;
    }
    if (!room_make(links, NULL, now)) {
        return MVPN_E_LIMIT;
    }
    link = link_new(links, &target->identity, NULL);
    if (link == NULL) {
        return MVPN_E_NOMEM;
    }
    link->target = malloc(sizeof(*target));
    link->opening_since = now;
    int err = MVPN_E_NOMEM;
    if (link->target != NULL) {
        *link->target = *target;
        err = target->via_count > 0 ? connector_wanted(link, now) : handshake_begin(link, now);
    }
    if (err != 0) {
        mvpn_hash_remove(&links->by_identity, &link->by_identity);
        room_leave(link);
        link_free(link);
        return err;
    }
    *ret = link;
    return 0;
}

mvpn_link *mvpn_links_find(mvpn_links *links, const mvpn_ed25519_pub *identity)
{
    return link_by_identity(links, identity);
}

static void event_due(mvpn_link *link)
{
    if (!mvpn_list_is_linked(&link->in_events)) {
        mvpn_list_append(&link->links->events, &link->in_events);
    }
}

void link_opened(mvpn_link *link, mvpn_time now)
{
    struct session *s = link->session;
    mvpn_links *links = link->links;
    s->opened = now;
    s->last_recv = now;
    s->route->last_recv = now;
    s->alive_after = alive_pause(s);
    room_used(link, now);
    link->last_data = now;
    link->ping_at = 0;
    if (link->state != LINK_OPEN) {
        link->state = LINK_OPEN;
        link->ev_opened = true;
        event_due(link);
        room_changed(link);
    }
    if (s->is_initiator) {
        links->counters.handshakes++;
        mvpn_timer_set(&links->timers, &s->timers[TIMER_REKEY],
                       now + mvpn_rng_jitter(links->config.rng, links->config.rekey_after, 25));
    }
    connector_opened(link, now);
    /* The initiator's first packet confirms the link; the responder's ping measures. */
    link_ping(link, now);
    reliable_start(link, now);
    pmtu_restart(s, now);
    mvpn_timer_set(&links->timers, &s->timers[TIMER_ALIVE], now + UNPROVEN_PING);
}

void link_fail(mvpn_link *link, int error)
{
    mvpn_links *links = link->links;
    if (link->state == LINK_CLOSED) {
        return;
    }
    link->state = LINK_CLOSED;
    room_leave(link);
    reliable_clear(link, false);
    session_free(link->session);
    link->session = NULL;
    reliable_forget_acks(link);
    if (link->has_identity) {
        mvpn_hash_remove(&links->by_identity, &link->by_identity);
    }
    mvpn_wipe(link->cookie, sizeof(link->cookie));
    link->close_error = error;
    link->ev_closed = true;
    event_due(link);
}

void mvpn_link_close(mvpn_link *link, uint8_t reason, mvpn_time now)
{
    if (link->state == LINK_OPEN) {
        /* Sent once; the peer's own timers do the rest if it is lost. */
        (void)transport_command(link->session, MVPN_CMD_LINK_CLOSE, mvpn_bytes_of(&reason, 1), now);
    }
    link_fail(link, 0);
}

bool serial_is_revoked(const mvpn_links *links, uint64_t serial)
{
    const mvpn_revocations *list = links->config.revocations;
    return serial != 0 && list != NULL && mvpn_revocations_has(list, serial);
}

void mvpn_links_check_revocations(mvpn_links *links, mvpn_time now)
{
    if (links->config.revocations == NULL) {
        return;
    }
    MVPN_LIST_FOREACH_SAFE(node, next, &links->links)
    {
        mvpn_link *link = MVPN_CONTAINER_OF(node, mvpn_link, in_links);
        const struct session *s = link->session;
        /* The one that we looked for and the one that it showed may differ: it was renewed. */
        bool is_revoked =
            serial_is_revoked(links, link->target != NULL ? link->target->serial : 0) ||
            (s != NULL && serial_is_revoked(links, s->peer_serial));
        if (link->state != LINK_CLOSED && is_revoked) {
            mvpn_link_close(link, CLOSE_FINISHED, now);
        }
    }
}

void mvpn_links_close_all(mvpn_links *links, mvpn_time now)
{
    MVPN_LIST_FOREACH_SAFE(node, next, &links->links)
    {
        mvpn_link *link = MVPN_CONTAINER_OF(node, mvpn_link, in_links);
        if (link->state != LINK_CLOSED) {
            mvpn_link_close(link, CLOSE_FINISHED, now);
        }
    }
}

int mvpn_link_send(mvpn_link *link, mvpn_packet *packet, const mvpn_header *header, bool acked,
                   mvpn_time now)
{
    mvpn_links *links = link->links;
    links->now = now;
    int err = 0;
    if (link->state == LINK_CLOSED || (link->state == LINK_OPENING && !acked)) {
        err = MVPN_E_STATE;
    } else if (packet->len > MVPN_BODY_MAX) {
        err = MVPN_E_TOO_BIG;
    }
    if (err != 0) {
        mvpn_packet_free(links->config.pool, packet);
        return err;
    }
    room_used(link, now);
    if (MVPN_LIKELY(link->state == LINK_OPEN)) {
        alive_data(link->session, now);
    }
    if (acked) {
        return reliable_send(link, packet, header, now);
    }
    struct session *s = link->session;
    mvpn_header h = *header;
    h.link_seq = 0;
    if (packet->len + TRANSPORT_OVERHEAD > PACKET_SAFE && !s->is_full_size) {
        return split_send(s, packet, &h, now);
    }
    return transport_send(s, packet, &h, s->route, now);
}

/* ---- time ---- */

void link_measured(mvpn_link *link, mvpn_time rtt)
{
    uint32_t us = (uint32_t)MVPN_MIN(rtt, RTT_MAX);
    us = us > 0 ? us : 1;
    link->srtt_us = link->srtt_us == 0 ? us : link->srtt_us - link->srtt_us / 8 + us / 8;
    link->srtt_us = link->srtt_us > 0 ? link->srtt_us : 1;
}

mvpn_time link_timeout(const mvpn_link *link, mvpn_time floor)
{
    mvpn_time rtt = link->srtt_us != 0 ? link->srtt_us : RTT_ASSUMED_US;
    return MVPN_MAX(floor, rtt + rtt / 2);
}

static void session_timer(struct session *s, enum session_timer kind, mvpn_time now)
{
    switch (kind) {
    case TIMER_HANDSHAKE:
        handshake_timer(s, now);
        break;
    case TIMER_REKEY:
        rekey_begin(s, now);
        break;
    case TIMER_EPOCH:
        rekey_time_is_over(s);
        break;
    case TIMER_IDS:
        connid_timer(s, now);
        break;
    case TIMER_PATH:
        path_timer(s, now);
        break;
    case TIMER_PMTU:
        pmtu_timer(s, now);
        break;
    case TIMER_PARTS:
        split_timer(s, now);
        break;
    case TIMER_ALIVE:
        alive_timer(s, now);
        break;
    case TIMER_COUNT:
        MVPN_ASSERT(kind < TIMER_COUNT);
        break;
    }
}

void mvpn_links_tick(mvpn_links *links, mvpn_time now)
{
    links->now = now;
    bury(links);
    mvpn_timer *t;
    while ((t = mvpn_timers_pop(&links->timers, now)) != NULL) {
        if (t->kind == TIMER_RESEND) {
            reliable_timer(MVPN_CONTAINER_OF(t, struct acked, timer), now);
        } else {
            mvpn_timer *first = t - t->kind;
            session_timer(MVPN_CONTAINER_OF(first, struct session, timers),
                          (enum session_timer)t->kind, now);
        }
    }
    while (!mvpn_list_is_empty(&links->acks)) {
        reliable_flush_acks(MVPN_CONTAINER_OF(links->acks.next, mvpn_link, in_acks), now);
    }
}

mvpn_time mvpn_links_deadline(const mvpn_links *links)
{
    return mvpn_list_is_empty(&links->acks) ? mvpn_timers_deadline(&links->timers) : links->now;
}

/* ---- what the owner tells and asks ---- */

mvpn_packet_queue *mvpn_links_out(mvpn_links *links)
{
    return &links->out;
}

bool mvpn_links_pull_event(mvpn_links *links, mvpn_link_event *ret)
{
    bury(links);
    if (mvpn_list_is_empty(&links->events)) {
        return false;
    }
    mvpn_link *link = MVPN_CONTAINER_OF(links->events.next, mvpn_link, in_events);
    if (link->ev_opened) {
        link->ev_opened = false;
        *ret = (mvpn_link_event){.type = MVPN_LINK_OPENED, .link = link};
        if (!link->ev_closed) {
            mvpn_list_remove(&link->in_events);
        }
        return true;
    }
    *ret = (mvpn_link_event){.type = MVPN_LINK_CLOSED, .link = link, .error = link->close_error};
    mvpn_list_remove(&link->in_events);
    mvpn_list_append(&links->graveyard, &link->in_events);
    return true;
}

void mvpn_links_message_too_big(mvpn_links *links, const mvpn_addr *remote, mvpn_time now)
{
    MVPN_LIST_FOREACH(it, &links->links)
    {
        mvpn_link *link = MVPN_CONTAINER_OF(it, mvpn_link, in_links);
        if (link->state == LINK_OPEN && mvpn_addr_eq(&link->session->route->addr, remote)) {
            pmtu_suspect(link->session, now);
        }
    }
}

void mvpn_links_local_changed(mvpn_links *links, mvpn_time now)
{
    MVPN_LIST_FOREACH(it, &links->links)
    {
        mvpn_link *link = MVPN_CONTAINER_OF(it, mvpn_link, in_links);
        if (link->state == LINK_OPEN) {
            connid_take_fresh(link->session->route);
            link->session->is_full_size = false;
            link_ping(link, now); /* shows the peer the new address */
            pmtu_restart(link->session, now);
        }
    }
}

bool mvpn_link_is_open(const mvpn_link *link)
{
    return link->state == LINK_OPEN;
}

int mvpn_link_close_error(const mvpn_link *link)
{
    return link->close_error;
}

bool mvpn_link_is_initiator(const mvpn_link *link)
{
    return link->session != NULL && link->session->is_initiator;
}

const mvpn_ed25519_pub *mvpn_link_peer_identity(const mvpn_link *link)
{
    return link->has_identity ? &link->identity : NULL;
}

const mvpn_addr *mvpn_link_peer_addr(const mvpn_link *link)
{
    static const mvpn_addr nowhere;
    if (link->session != NULL) {
        return &link->session->route->addr;
    }
    return link->target != NULL ? &link->target->addr : &nowhere;
}

uint32_t mvpn_link_rtt_us(const mvpn_link *link)
{
    return link->srtt_us;
}

const mvpn_addr *mvpn_link_observed_addr(const mvpn_link *link)
{
    return &link->observed;
}

int64_t mvpn_link_clock_offset_s(const mvpn_link *link)
{
    return link->clock_offset_s;
}

int64_t mvpn_link_unix_offset_us(const mvpn_link *link)
{
    return link->unix_offset_us;
}

bool mvpn_link_is_full_size(const mvpn_link *link)
{
    return link->session != NULL && link->session->is_full_size;
}

bool mvpn_link_is_relayed(const mvpn_link *link)
{
    return link->connection != NULL;
}

size_t mvpn_links_list(mvpn_links *links, mvpn_link **ret, size_t max)
{
    size_t count = 0;
    MVPN_LIST_FOREACH(it, &links->links)
    {
        mvpn_link *link = MVPN_CONTAINER_OF(it, mvpn_link, in_links);
        if (count < max && link->state != LINK_CLOSED) {
            ret[count++] = link;
        }
    }
    return count;
}

int mvpn_link_ping(mvpn_link *link, mvpn_time now)
{
    if (link->state != LINK_OPEN) {
        return MVPN_E_STATE;
    }
    link->pong_rtt = 0;
    link_ping(link, now);
    return 0;
}

bool mvpn_link_take_pong(mvpn_link *link, mvpn_time *ret_rtt)
{
    mvpn_time rtt = link->pong_rtt;
    link->pong_rtt = 0;
    *ret_rtt = rtt != 0 ? rtt : *ret_rtt;
    return rtt != 0;
}

void *mvpn_link_user(const mvpn_link *link)
{
    return link->user;
}

void mvpn_link_set_user(mvpn_link *link, void *user)
{
    link->user = user;
}

void mvpn_link_hold(mvpn_link *link)
{
    mvpn_links *links = link->links;
    if (link->holds++ == 0 && link->state == LINK_OPEN) {
        /* If the link has long been silent, learn at once whether it still lives. */
        mvpn_timer_set(&links->timers, &link->session->timers[TIMER_ALIVE], links->now);
    }
    room_changed(link);
}

void mvpn_link_release(mvpn_link *link, mvpn_time now)
{
    MVPN_ASSERT(link->holds > 0);
    link->holds--;
    room_used(link, now);
    room_changed(link);
}

bool mvpn_link_is_held(const mvpn_link *link)
{
    return link->holds > 0;
}

const mvpn_links_counters *mvpn_links_get_counters(const mvpn_links *links)
{
    return &links->counters;
}

size_t mvpn_links_count(const mvpn_links *links)
{
    return links->link_count;
}
