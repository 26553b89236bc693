/*
 * Acknowledged messages: resent until acknowledged, handled once. (docs/protocol.md §4.5)
 */
#include "base/assert.h"
#include "network/p2p/internal.h"

#define SENDINGS_MAX 8
#define TIMEOUT_FLOOR MVPN_MS(50)
#define INTERVAL_MAX MVPN_S(20)
/* No packet of the pool was free: try again soon. */
#define RETRY MVPN_MS(50)
/* A large message lost so often: perhaps the path no longer takes its size. */
#define SUSPECT_AFTER 3
/* Sendings of one message to a relay, without a sound from it, until we ask whether it lives. */
#define SILENT_AFTER 3

static uint64_t seq_hash(const mvpn_link *link, uint32_t seq)
{
    /* Both numbers are ours; the peer only names those that exist. */
    uint64_t v = (uint64_t)link->number << 32 | seq;
    return (v ^ v >> 29) * UINT64_C(0x9e3779b97f4a7c15) >> 16;
}

static struct acked *node_new(mvpn_links *links)
{
    mvpn_list *l = mvpn_list_pop(&links->acked_free);
    if (l != NULL) {
        return MVPN_CONTAINER_OF(l, struct acked, in_link);
    }
    if (links->acked_unused == ACKED_PER_NODE ||
        mvpn_timers_reserve(&links->timers,
                            links->session_count * TIMER_COUNT + links->acked_unused + 1) != 0) {
        return NULL;
    }
    return &links->acked_nodes[links->acked_unused++];
}

static void node_free(struct acked *node)
{
    mvpn_link *link = node->link;
    mvpn_links *links = link->links;
    mvpn_list_remove(&node->in_link);
    link->acked_count--;
    room_changed(link);
    mvpn_hash_remove(&links->by_seq, &node->by_seq);
    mvpn_timer_clear(&links->timers, &node->timer);
    mvpn_packet_free(links->config.pool, node->packet);
    node->packet = NULL;
    mvpn_list_append(&links->acked_free, &node->in_link);
}

void reliable_clear(mvpn_link *link, bool only_commands)
{
    MVPN_LIST_FOREACH_SAFE(it, next, &link->acked)
    {
        struct acked *node = MVPN_CONTAINER_OF(it, struct acked, in_link);
        if (!only_commands || (node->header.command & 0xfff0) == MVPN_CMD_LINK_PAD) {
            node_free(node);
        }
    }
}

/* A relay that was killed and began anew knows nothing of the link and says nothing: its circuits
 * should not wait for a keepalive. Clients are absent for seconds when they change networks. */
static bool is_silent(const struct acked *node)
{
    const mvpn_link *link = node->link;
    return node->sends >= SILENT_AFTER && link->has_identity && link->links->config.is_relay &&
           link->connection == NULL && link->session->last_recv <= node->first_sent;
}

static int node_send(struct acked *node, mvpn_time now)
{
    mvpn_link *link = node->link;
    mvpn_links *links = link->links;
    struct session *s = link->session;
    mvpn_packet *copy = mvpn_packet_new(links->config.pool);
    if (copy == NULL) {
        mvpn_timer_set(&links->timers, &node->timer, now + RETRY);
        return 0;
    }
    memcpy(mvpn_packet_append(copy, node->packet->len), node->packet->data, node->packet->len);
    if (node->sends == 0) {
        node->first_sent = now;
        node->interval = link_timeout(link, TIMEOUT_FLOOR);
    } else {
        node->interval = MVPN_MIN(node->interval * 2, INTERVAL_MAX);
        links->counters.resent++;
    }
    node->sends++;
    mvpn_timer_set(&links->timers, &node->timer, now + node->interval);
    if (is_silent(node)) {
        mvpn_link_suspect(link, now);
    }
    bool is_large = node->packet->len + TRANSPORT_OVERHEAD > PACKET_SAFE;
    if (is_large && s->is_full_size && node->sends > SUSPECT_AFTER) {
        pmtu_suspect(s, now);
    }
    if (is_large && !s->is_full_size) {
        return split_send(s, copy, &node->header, now);
    }
    return transport_send(s, copy, &node->header, s->route, now);
}

/* Per link, when less than a quarter, or an eighth, of the pool is free. */
#define SHARE_TIGHT 16
#define SHARE_LOW 4

static bool has_room(const mvpn_link *link)
{
    const mvpn_packet_pool *pool = link->links->config.pool;
    size_t limit = link->state == LINK_OPENING ? WAITING_PER_LINK : ACKED_PER_LINK;
    /* Each holds a packet of the node: peers that acknowledge nothing must not take them all. */
    if (pool->free_count < pool->size / 8) {
        limit = SHARE_LOW;
    } else if (pool->free_count < pool->size / 4) {
        limit = MVPN_MIN(limit, (size_t)SHARE_TIGHT);
    }
    if (link->acked_count >= limit || link->next_seq == 0) {
        return false;
    }
    if (mvpn_list_is_empty(&link->acked)) {
        return true;
    }
    /* The receiver tells repetitions within its window only. */
    const struct acked *oldest = MVPN_CONTAINER_OF(link->acked.next, struct acked, in_link);
    return link->next_seq - oldest->header.link_seq < DEDUPE_WINDOW;
}

int reliable_send(mvpn_link *link, mvpn_packet *packet, const mvpn_header *header, mvpn_time now)
{
    mvpn_links *links = link->links;
    struct acked *node = has_room(link) ? node_new(links) : NULL;
    if (node == NULL) {
        mvpn_packet_free(links->config.pool, packet);
        return MVPN_E_LIMIT;
    }
    *node = (struct acked){.link = link, .packet = packet, .header = *header};
    node->timer.kind = TIMER_RESEND;
    node->header.link_seq = link->next_seq++;
    mvpn_hash_insert(&links->by_seq, &node->by_seq, seq_hash(link, node->header.link_seq));
    mvpn_list_append(&link->acked, &node->in_link);
    link->acked_count++;
    room_changed(link);
    return link->state == LINK_OPEN ? node_send(node, now) : 0;
}

int reliable_command(mvpn_link *link, unsigned command, mvpn_bytes body, mvpn_time now)
{
    mvpn_packet *packet = mvpn_packet_new(link->links->config.pool);
    if (packet == NULL) {
        return MVPN_E_NOMEM;
    }
    memcpy(mvpn_packet_append(packet, (uint32_t)body.n), body.p, body.n);
    const mvpn_header header = {.command = (uint16_t)command, .length = (uint16_t)body.n};
    return reliable_send(link, packet, &header, now);
}

void reliable_start(mvpn_link *link, mvpn_time now)
{
    MVPN_LIST_FOREACH(it, &link->acked)
    {
        struct acked *node = MVPN_CONTAINER_OF(it, struct acked, in_link);
        if (node->sends == 0 && node_send(node, now) != 0) {
            return; /* exhausted: the link is about to close */
        }
    }
}

void reliable_timer(struct acked *node, mvpn_time now)
{
    if (node->sends >= SENDINGS_MAX) {
        link_fail(node->link, MVPN_E_TIMEOUT);
        return;
    }
    (void)node_send(node, now); /* if exhausted, the link closes by its own timer */
}

void reliable_acknowledged(mvpn_link *link, uint32_t seq, mvpn_time now)
{
    mvpn_hash_node *n = mvpn_hash_first(&link->links->by_seq, seq_hash(link, seq));
    for (; n != NULL; n = mvpn_hash_next(n)) {
        struct acked *node = MVPN_CONTAINER_OF(n, struct acked, by_seq);
        if (node->link != link || node->header.link_seq != seq || node->sends == 0) {
            continue;
        }
        if (node->sends == 1) {
            link_measured(link, now - node->first_sent); /* Karn: first sendings only */
        }
        unsigned command = node->header.command;
        node_free(node);
        if (command == MVPN_CMD_LINK_NEW_IDS || command == MVPN_CMD_LINK_RELAY_IDS) {
            enum route_kind kind = command == MVPN_CMD_LINK_NEW_IDS ? ROUTE_DIRECT : ROUTE_RELAYED;
            link->session->is_giving_ids[kind] = false;
            connid_replenish(link->session, kind, now);
        }
        return;
    }
}

bool reliable_is_repeated(const mvpn_link *link, uint32_t seq)
{
    return mvpn_replay_check(&link->dedupe, link->dedupe_words, MVPN_ARRAY_LEN(link->dedupe_words),
                             seq) != 0;
}

void reliable_note(mvpn_link *link, uint32_t seq, mvpn_time now)
{
    mvpn_replay_commit(&link->dedupe, link->dedupe_words, MVPN_ARRAY_LEN(link->dedupe_words), seq);
    mvpn_links *links = link->links;
    if (link->ack_count == ACKS_OWN && links->more_acks_of == NULL) {
        links->more_acks_of = link;
    }
    if (link->ack_count == ACKS_OWN && links->more_acks_of != link) {
        reliable_flush_acks(link, now);
    }
    *(link->ack_count < ACKS_OWN ? &link->acks[link->ack_count]
                                 : &links->more_acks[link->ack_count - ACKS_OWN]) = seq;
    link->ack_count++;
    if (!mvpn_list_is_linked(&link->in_acks)) {
        mvpn_list_append(&links->acks, &link->in_acks);
    }
    if (link->ack_count == MVPN_LINK_ACK_MAX) {
        reliable_flush_acks(link, now);
    }
}

void reliable_forget_acks(mvpn_link *link)
{
    mvpn_list_remove(&link->in_acks);
    link->ack_count = 0;
    if (link->links->more_acks_of == link) {
        link->links->more_acks_of = NULL;
    }
}

void reliable_flush_acks(mvpn_link *link, mvpn_time now)
{
    uint32_t seqs[MVPN_LINK_ACK_MAX];
    size_t fresh = link->ack_count, count = fresh;
    size_t own = MVPN_MIN(fresh, (size_t)ACKS_OWN);
    memcpy(seqs, link->acks, own * sizeof(*seqs));
    memcpy(seqs + own, link->links->more_acks, (fresh - own) * sizeof(*seqs));
    reliable_forget_acks(link);
    if (fresh == 0 || link->session == NULL) {
        return;
    }
    uint8_t body[MVPN_LINK_ACK_LEN_MAX];
    for (size_t i = 0; i < ACKS_REPEATED && count < MVPN_LINK_ACK_MAX; i++) {
        if (link->acked_lately[i] != 0) {
            seqs[count++] = link->acked_lately[i];
        }
    }
    for (size_t i = 0; i < fresh; i++) {
        link->acked_lately[link->acked_lately_next++ % ACKS_REPEATED] = seqs[i];
    }
    size_t n = mvpn_link_ack_encode(body, seqs, count);
    /* Lost for want of a packet: the peer sends again and is acknowledged then. */
    (void)transport_command(link->session, MVPN_CMD_LINK_ACK, mvpn_bytes_of(body, n), now);
}
