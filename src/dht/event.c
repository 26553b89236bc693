#include <stdlib.h>

#include "dht/internal.h"

/* An event as it waits: as long as its kind needs. */
struct queued {
    mvpn_list link;
    enum mvpn_dht_event_type type;
    uint32_t op;
    mvpn_time took;
    unsigned hops;
    size_t count, contact_count;
    mvpn_dht_contact from;
    mvpn_dht_id key;
    uint64_t sequence, nodes;
    uint8_t record_type;
    uint16_t record_len;
    uint8_t tail[]; /* contacts, or the record */
};

bool mvpn_dht_events_have_room(const mvpn_dht *dht)
{
    return dht->event_count < MVPN_DHT_EVENTS_WALK;
}

void mvpn_dht_event_push(mvpn_dht *dht, const mvpn_dht_event *e)
{
    size_t contacts = e->type == MVPN_DHT_EVENT_NODES ? e->count : 0;
    bool has_record = e->type == MVPN_DHT_EVENT_VALUE || e->type == MVPN_DHT_EVENT_KEPT;
    size_t record = has_record ? e->record_len : 0;
    struct queued *q;
    if (e->op == 0 && dht->event_count >= MVPN_DHT_EVENTS_MAX) {
        return;
    }
    q = malloc(sizeof(*q) + contacts * sizeof(*e->contacts) + record);
    if (q == NULL) {
        return; /* as if it were lost; the owner has its own time-outs for what matters */
    }
    *q = (struct queued){.type = e->type,
                         .op = e->op,
                         .took = e->took,
                         .hops = e->hops,
                         .count = e->count,
                         .contact_count = contacts,
                         .from = e->from,
                         .key = e->key,
                         .sequence = e->sequence,
                         .nodes = e->nodes,
                         .record_type = e->record_type,
                         .record_len = (uint16_t)record};
    memcpy(q->tail, contacts > 0 ? (const void *)e->contacts : e->record,
           contacts * sizeof(*e->contacts) + record);
    mvpn_list_append(&dht->events, &q->link);
    dht->event_count++;
    dht->op_event_count += e->op != 0;
}

bool mvpn_dht_pull_event(mvpn_dht *dht, mvpn_dht_event *ret)
{
    mvpn_list *link = mvpn_list_pop(&dht->events);
    if (link == NULL) {
        return false;
    }
    struct queued *q = MVPN_CONTAINER_OF(link, struct queued, link);
    ret->type = q->type;
    ret->op = q->op;
    ret->took = q->took;
    ret->hops = q->hops;
    ret->count = q->count;
    ret->from = q->from;
    ret->key = q->key;
    ret->sequence = q->sequence;
    ret->nodes = q->nodes;
    ret->record_type = q->record_type;
    ret->record_len = q->record_len;
    memcpy(ret->contacts, q->tail, q->contact_count * sizeof(*ret->contacts));
    memcpy(ret->record, q->tail, q->record_len);
    dht->event_count--;
    dht->op_event_count -= q->op != 0;
    free(q);
    return true;
}

size_t mvpn_dht_events_memory(const mvpn_dht *dht)
{
    size_t n = 0;
    MVPN_LIST_FOREACH(link, &dht->events)
    {
        const struct queued *q = MVPN_CONTAINER_OF(link, struct queued, link);
        n += sizeof(*q) + q->contact_count * sizeof(mvpn_dht_contact) + q->record_len;
    }
    return n;
}

void mvpn_dht_events_done(mvpn_dht *dht)
{
    mvpn_list *link;
    while ((link = mvpn_list_pop(&dht->events)) != NULL) {
        free(MVPN_CONTAINER_OF(link, struct queued, link));
    }
}
