#include "dht/requests.h"

#include <stdlib.h>

#include "base/error.h"

#define SLAB 16

struct mvpn_dht_slab {
    struct mvpn_dht_slab *next;
    mvpn_dht_pending pending[SLAB];
};

int mvpn_dht_requests_init(mvpn_dht_requests *r, mvpn_timers *timers, int timer_kind, mvpn_rng *rng)
{
    *r = (mvpn_dht_requests){.timers = timers, .rng = rng, .timer_kind = timer_kind};
    mvpn_list_init(&r->queue);
    mvpn_list_init(&r->lingering);
    mvpn_list_init(&r->free);
    return mvpn_hash_init(&r->by_transaction, SLAB);
}

static void free_slabs(mvpn_dht_requests *r)
{
    while (r->slabs != NULL) {
        struct mvpn_dht_slab *next = r->slabs->next;
        free(r->slabs);
        r->slabs = next;
    }
    r->slab_count = 0;
}

void mvpn_dht_requests_done(mvpn_dht_requests *r)
{
    if (r->timers == NULL) {
        return; /* never begun */
    }
    free_slabs(r);
    mvpn_hash_done(&r->by_transaction);
}

void mvpn_dht_requests_trim(mvpn_dht_requests *r)
{
    if (r->count == 0) {
        mvpn_list_init(&r->free);
        free_slabs(r);
    }
}

size_t mvpn_dht_requests_memory(const mvpn_dht_requests *r)
{
    return r->slab_count * sizeof(struct mvpn_dht_slab) +
           (r->by_transaction.mask + 1) * sizeof(*r->by_transaction.buckets);
}

static void add_slab(mvpn_dht_requests *r)
{
    struct mvpn_dht_slab *slab =
        r->slab_count * SLAB < MVPN_DHT_REQUESTS_MAX ? calloc(1, sizeof(*slab)) : NULL;
    if (slab == NULL) {
        return;
    }
    slab->next = r->slabs;
    r->slabs = slab;
    r->slab_count++;
    for (size_t i = 0; i < SLAB; i++) {
        mvpn_list_append(&r->free, &slab->pending[i].link);
    }
}

mvpn_dht_pending *mvpn_dht_requests_add(mvpn_dht_requests *r, mvpn_time timeout, mvpn_time now)
{
    if (mvpn_list_is_empty(&r->free)) {
        add_slab(r);
    }
    if (mvpn_list_is_empty(&r->free) && !mvpn_list_is_empty(&r->lingering)) {
        mvpn_dht_requests_remove(
            r, MVPN_CONTAINER_OF(r->lingering.next, mvpn_dht_pending, link)); /* the oldest */
    }
    mvpn_list *link = mvpn_list_pop(&r->free);
    if (link == NULL) {
        return NULL;
    }
    mvpn_dht_pending *p = MVPN_CONTAINER_OF(link, mvpn_dht_pending, link);
    *p = (mvpn_dht_pending){.transaction = mvpn_rng_u64(r->rng),
                            .sent = now,
                            .first_sent = now,
                            .tries = 1,
                            .timer = {.kind = r->timer_kind}};
    mvpn_hash_insert(&r->by_transaction, &p->node, p->transaction);
    mvpn_timer_set(r->timers, &p->timer, now + timeout);
    mvpn_list_append(&r->queue, &p->link);
    r->count++;
    return p;
}

mvpn_dht_pending *mvpn_dht_requests_find(const mvpn_dht_requests *r, uint64_t transaction)
{
    mvpn_hash_node *node = mvpn_hash_first(&r->by_transaction, transaction);
    return node != NULL ? MVPN_CONTAINER_OF(node, mvpn_dht_pending, node) : NULL;
}

mvpn_dht_pending *mvpn_dht_requests_pull(mvpn_dht_requests *r)
{
    mvpn_list *link = mvpn_list_pop(&r->queue);
    if (link == NULL) {
        return NULL;
    }
    mvpn_dht_pending *p = MVPN_CONTAINER_OF(link, mvpn_dht_pending, link);
    p->state = MVPN_DHT_PENDING_SENT;
    return p;
}

void mvpn_dht_requests_linger(mvpn_dht_requests *r, mvpn_dht_pending *p, mvpn_time now)
{
    mvpn_list_remove(&p->link);
    mvpn_list_append(&r->lingering, &p->link);
    p->state = MVPN_DHT_PENDING_LINGERING;
    mvpn_timer_set(r->timers, &p->timer, now + MVPN_DHT_LINGER);
}

void mvpn_dht_requests_remove(mvpn_dht_requests *r, mvpn_dht_pending *p)
{
    mvpn_timer_clear(r->timers, &p->timer);
    mvpn_hash_remove(&r->by_transaction, &p->node);
    mvpn_list_remove(&p->link);
    mvpn_list_remove(&p->op_link);
    mvpn_list_append(&r->free, &p->link);
    r->count--;
}
