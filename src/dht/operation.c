#include <stdlib.h>

#include "base/error.h"
#include "dht/internal.h"
#include "wire/message.h"

/* Records handed over to one node at once. */
#define HANDOVER_AT_ONCE 4
/* Tried in a row without an answer: it is gone again. */
#define HANDOVER_FAILURES 2
/* A glance into a bucket asks so many; their answers name its contacts. */
#define REFRESH_ASKS 3

int mvpn_dht_op_new(mvpn_dht *dht, enum mvpn_dht_op_type type, const mvpn_dht_id *target,
                    mvpn_time now, mvpn_dht_op **ret)
{
    bool is_inner = type > MVPN_DHT_OP_FETCH;
    if (is_inner ? dht->inner_count >= MVPN_DHT_INNER_OPS_MAX
                 : dht->op_count + dht->op_event_count >= MVPN_DHT_OPS_MAX) {
        return MVPN_E_LIMIT;
    }
    mvpn_dht_op *op = calloc(1, sizeof(*op));
    if (op == NULL) {
        return MVPN_E_NOMEM;
    }
    op->type = type;
    op->target = *target;
    op->began = now;
    mvpn_list_init(&op->requests);
    mvpn_list_append(&dht->ops, &op->link);
    if (is_inner) {
        dht->inner_count++;
    } else {
        dht->op_count++;
        dht->op_number += dht->op_number == UINT32_MAX ? 2u : 1u; /* 0 is nobody's */
        op->number = dht->op_number;
    }
    *ret = op;
    return 0;
}

void mvpn_dht_op_free(mvpn_dht *dht, mvpn_dht_op *op)
{
    mvpn_list *link;
    while ((link = mvpn_list_pop(&op->requests)) != NULL) {
        MVPN_CONTAINER_OF(link, mvpn_dht_pending, op_link)->op = NULL;
    }
    mvpn_list_remove(&op->link);
    if (op->number == 0) {
        dht->inner_count--;
    } else {
        dht->op_count--;
    }
    free(op->lookup);
    free(op->record);
    free(op->keys);
    free(op);
}

int mvpn_dht_op_set_record(mvpn_dht_op *op, unsigned type, mvpn_bytes record)
{
    if (op->record == NULL) {
        op->record = malloc(MVPN_DHT_RECORD_MAX);
        if (op->record == NULL) {
            return MVPN_E_NOMEM;
        }
    }
    memcpy(op->record, record.p, record.n);
    op->record_type = (uint8_t)type;
    op->record_len = (uint16_t)record.n;
    return 0;
}

/* ---- lookups ---- */

/* Each path begins with somebody anywhere, too. */
static void send_scouts(mvpn_dht *dht, mvpn_dht_op *op)
{
    mvpn_dht_contact scouts[MVPN_DHT_PATHS];
    size_t n = mvpn_dht_sample_contacts(dht, scouts, MVPN_DHT_PATHS);
    /* Those that we began with may be in a part of the network that ours has lost. */
    if (op->type == MVPN_DHT_OP_JOIN && n > 0 && dht->seed_count > 0) {
        scouts[n - 1] = dht->seeds[mvpn_rng_below(dht->config.rng, (uint32_t)dht->seed_count)];
    }
    for (size_t i = 0; i < n; i++) {
        mvpn_dht_shortlist_scout(op->lookup, (unsigned)i, &scouts[i]);
    }
}

/* Deal the closest that we know; those that failed last count when there are few others. */
static void deal(mvpn_dht *dht, mvpn_dht_op *op)
{
    const mvpn_dht_peer *near[MVPN_DHT_K];
    size_t n = mvpn_dht_routing_closest(&dht->routing, &op->target, NULL, true, MVPN_DHT_K, near);
    if (n < MVPN_DHT_SURE) {
        n = mvpn_dht_routing_closest(&dht->routing, &op->target, NULL, false, MVPN_DHT_K, near);
    }
    for (size_t i = 0; i < n; i++) {
        mvpn_dht_shortlist_deal(op->lookup, &near[i]->contact);
    }
    if (op->type != MVPN_DHT_OP_REFRESH && dht->routing.count > MVPN_DHT_K) {
        send_scouts(dht, op);
    }
}

int mvpn_dht_op_begin(mvpn_dht *dht, mvpn_dht_op *op, mvpn_time now)
{
    const mvpn_dht_record *own;
    op->lookup = malloc(sizeof(*op->lookup));
    if (op->lookup == NULL) {
        mvpn_dht_op_free(dht, op);
        return MVPN_E_NOMEM;
    }
    mvpn_dht_shortlist_init(op->lookup, &op->target, op->type == MVPN_DHT_OP_VALUE,
                            op->type == MVPN_DHT_OP_REFRESH ? 1 : MVPN_DHT_PATHS);
    op->lookup->is_relaxed = dht->config.relax_blocks;
    if (op->type == MVPN_DHT_OP_REFRESH) {
        op->lookup->asks_max = REFRESH_ASKS;
    }
    own = op->type == MVPN_DHT_OP_VALUE
              ? mvpn_dht_storage_get(&dht->storage, &op->target, mvpn_dht_unix(dht, now))
              : NULL;
    if (own != NULL &&
        mvpn_dht_op_set_record(op, own->type, mvpn_bytes_of(own->bytes, own->len)) == 0) {
        op->sequence = own->sequence;
    }
    deal(dht, op);
    mvpn_dht_op_step(dht, op, now);
    return 0;
}

static void push_found(mvpn_dht *dht, mvpn_dht_op *op, mvpn_time now)
{
    mvpn_dht_event e;
    memset(&e, 0, offsetof(mvpn_dht_event, contacts));
    e.type = op->record_len > 0 ? MVPN_DHT_EVENT_VALUE : MVPN_DHT_EVENT_NOT_FOUND;
    e.op = op->number;
    e.took = now - op->began;
    e.hops = op->hops;
    e.from = op->from;
    e.key = op->target;
    e.sequence = op->sequence;
    e.nodes = 0;
    e.record_type = op->record_type;
    e.record_len = op->record_len;
    if (op->record_len > 0) {
        memcpy(e.record, op->record, op->record_len);
    }
    dht->counters.lookups_failed += op->record_len == 0;
    mvpn_dht_event_push(dht, &e);
}

static void push_nodes(mvpn_dht *dht, mvpn_dht_op *op, const mvpn_dht_candidate *const *near,
                       size_t count, mvpn_time now)
{
    mvpn_dht_event e;
    memset(&e, 0, sizeof(e));
    e.type = MVPN_DHT_EVENT_NODES;
    e.op = op->number;
    e.took = now - op->began;
    e.hops = count > 0 ? near[0]->depth : 0;
    e.count = count;
    e.key = op->target;
    for (size_t i = 0; i < count; i++) {
        e.contacts[i] = near[i]->contact;
    }
    dht->counters.lookups_failed += count == 0;
    mvpn_dht_event_push(dht, &e);
}

/* The K closest are known: we among them, if we are a server and near enough. */
static void choose_targets(mvpn_dht *dht, mvpn_dht_op *op, const mvpn_dht_candidate *const *near,
                           size_t count, mvpn_time now)
{
    mvpn_record_info info;
    mvpn_bytes record = mvpn_bytes_of(op->record, op->record_len);
    bool is_near = count < MVPN_DHT_K || mvpn_dht_compare(&op->target, &dht->routing.self,
                                                          &near[count - 1]->contact.id) < 0;
    for (size_t i = 0; i < count; i++) {
        op->targets[i] = near[i]->contact;
    }
    op->target_count = count;
    if (dht->config.is_server && is_near &&
        mvpn_dht_judge(dht, op->record_type, record, &op->target, now, &info) == 0) {
        enum mvpn_dht_stored stored = mvpn_dht_keep(dht, op->record_type, &info, record, now);
        op->kept_here = stored == MVPN_DHT_STORED || stored == MVPN_DHT_STORED_OLD;
    }
}

/* Whose names led nowhere, again and again, is of no use; nor is who does not answer lookups. */
static void blame_namers(mvpn_dht *dht, const mvpn_dht_shortlist *l, mvpn_time now)
{
    for (size_t i = 0; i < l->count; i++) {
        const mvpn_dht_candidate *c = &l->candidates[i];
        if ((c->state == MVPN_DHT_CANDIDATE_ANSWERED && c->named_bad > MVPN_DHT_DOUBT &&
             c->named_good == 0) ||
            c->state == MVPN_DHT_CANDIDATE_FAILED) {
            mvpn_dht_was_useful(dht, &c->contact.id, false, now);
        }
    }
}

static void lookup_over(mvpn_dht *dht, mvpn_dht_op *op, mvpn_time now)
{
    const mvpn_dht_candidate *near[MVPN_DHT_K];
    size_t count = mvpn_dht_shortlist_closest(op->lookup, near);
    blame_namers(dht, op->lookup, now);
    if (count == MVPN_DHT_K && op->type != MVPN_DHT_OP_REFRESH && op->type != MVPN_DHT_OP_VALUE) {
        mvpn_dht_measure(dht, &op->target, &near[count - 1]->contact.id, count);
    }
    dht->counters.lookups += op->number != 0;
    switch (op->type) {
    case MVPN_DHT_OP_VALUE:
        push_found(dht, op, now);
        break;
    case MVPN_DHT_OP_NODES:
        push_nodes(dht, op, near, count, now);
        break;
    case MVPN_DHT_OP_STORE:
    case MVPN_DHT_OP_PUBLISH:
    case MVPN_DHT_OP_REPUBLISH:
        choose_targets(dht, op, near, count, now);
        mvpn_dht_op_begin_storing(dht, op, now);
        return;
    case MVPN_DHT_OP_JOIN:
        dht->is_joining = false;
        if (!dht->is_joined && count > 0) {
            mvpn_dht_event e = {.type = MVPN_DHT_EVENT_JOINED, .count = dht->routing.count};
            dht->is_joined = true;
            mvpn_dht_event_push(dht, &e);
            mvpn_dht_publish_due(dht, now);
        }
        break;
    case MVPN_DHT_OP_REFRESH:
        dht->is_refreshing = false;
        break;
    case MVPN_DHT_OP_FETCH:
    case MVPN_DHT_OP_HANDOVER:
        break; /* have no lookup */
    }
    mvpn_dht_op_free(dht, op);
}

static void step_lookup(mvpn_dht *dht, mvpn_dht_op *op, mvpn_time now)
{
    mvpn_dht_shortlist *l = op->lookup;
    for (;;) {
        if (mvpn_dht_shortlist_is_done(l)) {
            if (op->number == 0 || l->paths != MVPN_DHT_PATHS || !mvpn_dht_shortlist_disagrees(l)) {
                lookup_over(dht, op, now);
                return;
            }
            mvpn_dht_shortlist_widen(l);
            continue;
        }
        mvpn_dht_candidate *c = mvpn_dht_shortlist_next(l);
        if (c == NULL) {
            return;
        }
        mvpn_dht_pending *p = mvpn_dht_send(dht, MVPN_DHT_FOR_LOOKUP, &c->contact, op, now);
        if (p == NULL) {
            mvpn_dht_shortlist_unask(l, c);
            return;
        }
        p->slot = (uint8_t)(c - l->candidates);
        p->wants_certificate =
            mvpn_dht_routing_room(&dht->routing, &c->contact) == MVPN_DHT_ROOM_FREE;
    }
}

/* Is this one, once proven, to be listened to? Ourselves and places out of reach are not. */
static bool is_candidate(const mvpn_dht *dht, const mvpn_dht_contact *c)
{
    return !mvpn_dht_is_self(dht, c) &&
           mvpn_dht_contact_is_usable(c, dht->config.family, dht->config.allow_private);
}

static void take_nodes(mvpn_dht *dht, mvpn_dht_op *op, mvpn_dht_candidate *by,
                       const mvpn_dht_reply *reply, mvpn_time now)
{
    mvpn_dht_shortlist_answered(op->lookup, by);
    for (size_t i = 0; i < reply->contact_count && i < MVPN_DHT_K; i++) {
        const mvpn_dht_contact *c = &reply->contacts[i];
        if (is_candidate(dht, c)) {
            mvpn_dht_shortlist_named(op->lookup, by, c);
        }
    }
    mvpn_dht_was_useful(dht, &by->contact.id, reply->contact_count > 0, now);
    mvpn_dht_consider_named(dht, reply, now);
}

/* A verified record that is better than what the operation has. */
static void take_better(mvpn_dht_op *op, const mvpn_dht_contact *from, unsigned type,
                        mvpn_bytes record, uint64_t sequence, unsigned depth)
{
    if (op->record_len > 0 && sequence <= op->sequence) {
        return;
    }
    if (mvpn_dht_op_set_record(op, type, record) == 0) {
        op->sequence = sequence;
        op->from = *from;
        op->hops = depth;
    }
}

static void take_value(mvpn_dht *dht, mvpn_dht_op *op, mvpn_dht_candidate *by,
                       const mvpn_dht_reply *reply, mvpn_time now)
{
    mvpn_record_info info;
    int r = mvpn_dht_judge(dht, reply->type, reply->record, &op->target, now, &info);
    if (r == MVPN_E_EXPIRED) { /* it has not swept yet */
        mvpn_dht_shortlist_answered(op->lookup, by);
        return;
    }
    if (r != 0) { /* nobody honest holds or hands out such a thing */
        mvpn_dht_shortlist_failed(op->lookup, by);
        mvpn_dht_forget(dht, &by->contact.id);
        return;
    }
    take_better(op, &by->contact, reply->type, reply->record, info.sequence, by->depth);
    mvpn_dht_shortlist_has_value(op->lookup, by, info.sequence);
}

static void lookup_reply(mvpn_dht *dht, mvpn_dht_op *op, const mvpn_dht_pending *p,
                         const mvpn_dht_reply *reply, mvpn_time now)
{
    mvpn_dht_candidate *by = &op->lookup->candidates[p->slot];
    if (by->state == MVPN_DHT_CANDIDATE_ANSWERED) {
        return; /* to the first try, late */
    }
    if (reply->command == MVPN_CMD_DHT_NODES) {
        take_nodes(dht, op, by, reply, now);
    } else if (reply->command == MVPN_CMD_DHT_VALUE && op->type == MVPN_DHT_OP_VALUE) {
        take_value(dht, op, by, reply, now);
    } else {
        mvpn_dht_shortlist_failed(op->lookup, by);
    }
    mvpn_dht_op_step(dht, op, now);
}

/* ---- storing ---- */

static void stored_over(mvpn_dht *dht, mvpn_dht_op *op, mvpn_time now)
{
    size_t count = op->kept_here;
    uint64_t radius = 0;
    for (size_t i = 0; i < op->target_count; i++) {
        if (op->target_states[i] == MVPN_DHT_TARGET_KEEPS) {
            uint64_t distance = mvpn_dht_distance64(&op->target, &op->targets[i].id);
            radius = MVPN_MAX(radius, distance);
            count++;
        }
    }
    mvpn_dht_own *own =
        op->type == MVPN_DHT_OP_PUBLISH ? mvpn_dht_publish_find(&dht->publish, &op->target) : NULL;
    if (own != NULL) {
        mvpn_dht_publish_stored(own, count, radius, dht->config.rng, now);
    }
    if (op->type != MVPN_DHT_OP_REPUBLISH) {
        mvpn_dht_event e;
        memset(&e, 0, sizeof(e));
        e.type = MVPN_DHT_EVENT_STORED;
        e.op = op->number;
        e.took = now - op->began;
        e.count = count;
        e.key = op->target;
        mvpn_dht_event_push(dht, &e);
    }
    mvpn_dht_op_free(dht, op);
}

static void step_storing(mvpn_dht *dht, mvpn_dht_op *op, mvpn_time now)
{
    bool is_over = true;
    for (size_t i = 0; i < op->target_count; i++) {
        if (op->target_states[i] == MVPN_DHT_TARGET_WAITING) {
            mvpn_dht_pending *p = mvpn_dht_send(dht, MVPN_DHT_FOR_STORE, &op->targets[i], op, now);
            if (p == NULL) {
                return;
            }
            p->slot = (uint8_t)i;
            op->target_states[i] = MVPN_DHT_TARGET_ASKED;
        }
        is_over = is_over && op->target_states[i] != MVPN_DHT_TARGET_ASKED;
    }
    if (is_over) {
        stored_over(dht, op, now);
    }
}

void mvpn_dht_op_begin_storing(mvpn_dht *dht, mvpn_dht_op *op, mvpn_time now)
{
    mvpn_list *link;
    /* What the lookup still waits for has no say any more. */
    while ((link = mvpn_list_pop(&op->requests)) != NULL) {
        MVPN_CONTAINER_OF(link, mvpn_dht_pending, op_link)->op = NULL;
    }
    free(op->lookup);
    op->lookup = NULL;
    op->is_storing = true;
    step_storing(dht, op, now);
}

static void store_reply(mvpn_dht *dht, mvpn_dht_op *op, const mvpn_dht_pending *p,
                        const mvpn_dht_reply *reply, mvpn_time now)
{
    uint8_t *state = &op->target_states[p->slot];
    if (*state != MVPN_DHT_TARGET_ASKED) {
        return;
    }
    *state = reply->command == MVPN_CMD_DHT_STORED &&
                     (reply->status == MVPN_DHT_STORED || reply->status == MVPN_DHT_STORED_OLD)
                 ? MVPN_DHT_TARGET_KEEPS
                 : MVPN_DHT_TARGET_FAILED;
    mvpn_dht_op_step(dht, op, now);
}

/* ---- one record of one node ---- */

static void fetch_over(mvpn_dht *dht, mvpn_dht_op *op, mvpn_time now)
{
    push_found(dht, op, now);
    mvpn_dht_op_free(dht, op);
}

static void fetch_reply(mvpn_dht *dht, mvpn_dht_op *op, const mvpn_dht_pending *p,
                        const mvpn_dht_reply *reply, mvpn_time now)
{
    mvpn_bytes rest = reply->record, record;
    mvpn_record_info info;
    uint8_t type;
    if (reply->command == MVPN_CMD_DHT_FETCHED &&
        mvpn_dht_fetched_next(&rest, &type, &record) == 0 &&
        mvpn_dht_judge(dht, type, record, &op->target, now, &info) == 0) {
        take_better(op, &p->to, type, record, info.sequence, 1);
    }
    fetch_over(dht, op, now);
}

/* ---- handing over ---- */

static void step_handover(mvpn_dht *dht, mvpn_dht_op *op, mvpn_time now)
{
    while (op->key_next < op->key_count && op->key_in_flight < HANDOVER_AT_ONCE &&
           op->failures < HANDOVER_FAILURES) {
        const mvpn_dht_id *key = &op->keys[op->key_next];
        if (mvpn_dht_storage_get(&dht->storage, key, mvpn_dht_unix(dht, now)) == NULL) {
            op->key_next++;
            continue;
        }
        mvpn_dht_pending *p = mvpn_dht_send(dht, MVPN_DHT_FOR_HANDOVER, &op->targets[0], op, now);
        if (p == NULL) {
            return;
        }
        p->key = *key;
        op->key_next++;
        op->key_in_flight++;
    }
    if (op->key_in_flight == 0) {
        mvpn_dht_op_free(dht, op);
    }
}

static void handover_landed(mvpn_dht *dht, mvpn_dht_op *op, bool is_failure, mvpn_time now)
{
    if (op->key_in_flight > 0) { /* a late answer comes beside its second try's */
        op->key_in_flight--;
    }
    op->failures = is_failure ? op->failures + 1 : 0;
    mvpn_dht_op_step(dht, op, now);
}

/* ---- all ---- */

void mvpn_dht_op_step(mvpn_dht *dht, mvpn_dht_op *op, mvpn_time now)
{
    if (op->lookup != NULL) {
        step_lookup(dht, op, now);
    } else if (op->is_storing) {
        step_storing(dht, op, now);
    } else if (op->type == MVPN_DHT_OP_HANDOVER) {
        step_handover(dht, op, now);
    } else if (op->type == MVPN_DHT_OP_FETCH && mvpn_list_is_empty(&op->requests) &&
               mvpn_dht_send(dht, MVPN_DHT_FOR_FETCH, &op->targets[0], op, now) == NULL) {
        return; /* goes on when there are requests again */
    }
}

void mvpn_dht_op_reply(mvpn_dht *dht, const mvpn_dht_pending *p, const mvpn_dht_reply *reply,
                       mvpn_time now)
{
    mvpn_dht_op *op = p->op;
    if (p->purpose == MVPN_DHT_FOR_LOOKUP) {
        lookup_reply(dht, op, p, reply, now);
    } else if (p->purpose == MVPN_DHT_FOR_STORE) {
        store_reply(dht, op, p, reply, now);
    } else if (p->purpose == MVPN_DHT_FOR_FETCH) {
        fetch_reply(dht, op, p, reply, now);
    } else {
        handover_landed(dht, op, reply->command == MVPN_CMD_DHT_ERROR, now);
    }
}

void mvpn_dht_op_slow(mvpn_dht *dht, const mvpn_dht_pending *p, mvpn_time now)
{
    if (p->purpose == MVPN_DHT_FOR_LOOKUP) {
        mvpn_dht_shortlist_slow(p->op->lookup, &p->op->lookup->candidates[p->slot]);
        mvpn_dht_op_step(dht, p->op, now);
    }
}

void mvpn_dht_op_failed(mvpn_dht *dht, const mvpn_dht_pending *p, mvpn_time now)
{
    mvpn_dht_op *op = p->op;
    if (p->purpose == MVPN_DHT_FOR_LOOKUP) {
        mvpn_dht_shortlist_failed(op->lookup, &op->lookup->candidates[p->slot]);
        mvpn_dht_op_step(dht, op, now);
    } else if (p->purpose == MVPN_DHT_FOR_STORE) {
        if (op->target_states[p->slot] == MVPN_DHT_TARGET_ASKED) {
            op->target_states[p->slot] = MVPN_DHT_TARGET_FAILED;
            mvpn_dht_op_step(dht, op, now);
        }
    } else if (p->purpose == MVPN_DHT_FOR_FETCH) {
        fetch_over(dht, op, now);
    } else {
        handover_landed(dht, op, true, now);
    }
}

void mvpn_dht_ops_resume(mvpn_dht *dht, mvpn_time now)
{
    dht->is_starved = false;
    MVPN_LIST_FOREACH_SAFE(link, next, &dht->ops)
    {
        mvpn_dht_op_step(dht, MVPN_CONTAINER_OF(link, mvpn_dht_op, link), now);
        if (dht->is_starved) {
            return;
        }
    }
}
