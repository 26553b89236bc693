#include "dht/kbucket.h"

#include <stdlib.h>

/* Peers come in steps, so that a node in a small network is small. */
#define GROW 5

void mvpn_dht_kbucket_done(mvpn_dht_kbucket *b)
{
    free(b->peers);
    free(b->waiting);
    *b = (mvpn_dht_kbucket){0};
}

size_t mvpn_dht_kbucket_memory(const mvpn_dht_kbucket *b)
{
    return sizeof(*b) +
           (b->size + (b->waiting != NULL ? MVPN_DHT_WAITING_MAX : 0u)) * sizeof(mvpn_dht_peer);
}

static mvpn_dht_peer *find_in(mvpn_dht_peer *peers, size_t count, const mvpn_dht_id *id)
{
    for (size_t i = 0; i < count; i++) {
        if (mvpn_dht_id_eq(&peers[i].contact.id, id)) {
            return &peers[i];
        }
    }
    return NULL;
}

mvpn_dht_peer *mvpn_dht_kbucket_find(const mvpn_dht_kbucket *b, const mvpn_dht_id *id)
{
    return find_in(b->peers, b->count, id);
}

mvpn_dht_peer *mvpn_dht_kbucket_add(mvpn_dht_kbucket *b, const mvpn_dht_contact *c, mvpn_time now)
{
    if (b->count >= MVPN_DHT_K) {
        return NULL;
    }
    if (b->count == b->size) {
        mvpn_dht_peer *peers = realloc(b->peers, (b->size + GROW) * sizeof(*peers));
        if (peers == NULL) {
            return NULL;
        }
        b->peers = peers;
        b->size += GROW;
    }
    mvpn_dht_peer *peer = &b->peers[b->count++];
    *peer = (mvpn_dht_peer){.contact = *c, .heard = now, .is_proven = true};
    return peer;
}

void mvpn_dht_kbucket_remove(mvpn_dht_kbucket *b, mvpn_dht_peer *peer)
{
    size_t at = (size_t)(peer - b->peers);
    memmove(peer, peer + 1, (b->count - at - 1) * sizeof(*peer));
    b->count--;
}

static void waiting_remove(mvpn_dht_kbucket *b, size_t at)
{
    b->waiting_count--;
    memmove(&b->waiting[at], &b->waiting[at + 1], (b->waiting_count - at) * sizeof(*b->waiting));
}

void mvpn_dht_kbucket_forget_waiting(mvpn_dht_kbucket *b, const mvpn_dht_id *id)
{
    mvpn_dht_peer *peer = find_in(b->waiting, b->waiting_count, id);
    if (peer != NULL) {
        waiting_remove(b, (size_t)(peer - b->waiting));
    }
}

/* Whose place a newcomer takes: an unproven one's, else the oldest's; none if it is unproven itself
 * and all others are proven. */
static size_t waiting_victim(const mvpn_dht_kbucket *b, bool is_proven)
{
    for (size_t i = 0; i < b->waiting_count; i++) {
        if (!b->waiting[i].is_proven) {
            return i;
        }
    }
    return is_proven ? 0 : MVPN_DHT_WAITING_MAX;
}

void mvpn_dht_kbucket_wait(mvpn_dht_kbucket *b, const mvpn_dht_contact *c, bool is_proven,
                           uint16_t rtt_ms, mvpn_time now)
{
    if (b->waiting == NULL) {
        b->waiting = calloc(MVPN_DHT_WAITING_MAX, sizeof(*b->waiting));
        if (b->waiting == NULL) {
            return;
        }
    }
    for (size_t i = 0; i < b->waiting_count; i++) {
        mvpn_dht_peer *other = &b->waiting[i];
        if (!mvpn_dht_same_block(&other->contact.addr, &c->addr)) {
            continue;
        }
        if (other->is_proven && !is_proven) {
            return;
        }
        waiting_remove(b, i);
        break;
    }
    if (b->waiting_count == MVPN_DHT_WAITING_MAX) {
        size_t at = waiting_victim(b, is_proven);
        if (at == MVPN_DHT_WAITING_MAX) {
            return;
        }
        waiting_remove(b, at);
    }
    b->waiting[b->waiting_count++] =
        (mvpn_dht_peer){.contact = *c, .heard = now, .is_proven = is_proven, .rtt_ms = rtt_ms};
}

static bool is_better(const mvpn_dht_peer *a, const mvpn_dht_peer *b)
{
    if (a->is_proven != b->is_proven) {
        return a->is_proven;
    }
    if (a->rtt_ms != b->rtt_ms) {
        return b->rtt_ms == 0 || (a->rtt_ms != 0 && a->rtt_ms < b->rtt_ms);
    }
    return a->heard >= b->heard;
}

bool mvpn_dht_kbucket_take_waiting(mvpn_dht_kbucket *b, mvpn_dht_contact *ret)
{
    size_t best = 0;
    if (b->waiting_count == 0) {
        return false;
    }
    for (size_t i = 1; i < b->waiting_count; i++) {
        if (is_better(&b->waiting[i], &b->waiting[best])) {
            best = i;
        }
    }
    *ret = b->waiting[best].contact;
    waiting_remove(b, best);
    return true;
}

void mvpn_dht_peer_answered(mvpn_dht_peer *peer, mvpn_time rtt, mvpn_time now)
{
    unsigned ms = (unsigned)MVPN_MIN(rtt / MVPN_US_PER_MS + 1, 10000u);
    if (peer->rtt_ms == 0) {
        peer->rtt_ms = (uint16_t)ms;
        peer->deviation_ms = (uint16_t)(ms / 2);
    } else {
        unsigned off = ms > peer->rtt_ms ? ms - peer->rtt_ms : peer->rtt_ms - ms;
        peer->deviation_ms = (uint16_t)((3u * peer->deviation_ms + off) / 4);
        peer->rtt_ms = (uint16_t)((7u * peer->rtt_ms + ms + 4) / 8);
    }
    peer->heard = now;
    peer->failures = 0;
}
