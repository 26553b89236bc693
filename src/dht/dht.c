#include <stdlib.h>

#include "base/error.h"
#include "dht/internal.h"
#include "wire/message.h"

/* §11.4: per source block 20 requests a second, bursts of 100, 1,024 blocks; without a valid token
 * 500 a second in all. */
#define SOURCE_COST MVPN_MS(50)
#define SOURCE_BURST MVPN_S(5)
#define SOURCE_BLOCKS 1024
#define UNPROVEN_RATE 500
#define UNPROVEN_BURST 500

#define CHECK_FIRST MVPN_S(300) /* adapts to how often contacts fail */
#define ANSWER_MAX (4 + MVPN_DHT_RECORD_MAX)

/* ---- life ---- */

static int init_parts(mvpn_dht *dht, mvpn_time now)
{
    int r = mvpn_timers_init(&dht->timers, 16);
    if (r == 0) {
        r = mvpn_dht_requests_init(&dht->requests, &dht->timers, MVPN_DHT_TIMER_REQUEST,
                                   dht->config.rng);
    }
    if (r == 0) {
        mvpn_timer_set(&dht->timers, &dht->maintain, now + MVPN_S(1));
    }
    return r;
}

int mvpn_dht_new(const mvpn_dht_config *config, mvpn_time now, mvpn_dht **ret)
{
    if (config->rng == NULL || config->verify == NULL) {
        return MVPN_E_INVAL;
    }
    mvpn_dht *dht = calloc(1, sizeof(*dht));
    if (dht == NULL) {
        return MVPN_E_NOMEM;
    }
    dht->config = *config;
    dht->now = now;
    if (!config->is_server) { /* it has no place; any will do to sort contacts by */
        mvpn_rng_bytes(config->rng, dht->config.self.id.b, MVPN_DHT_ID_LEN);
    }
    mvpn_list_init(&dht->ops);
    mvpn_list_init(&dht->events);
    mvpn_dht_routing_init(&dht->routing, &dht->config.self.id);
    dht->routing.is_relaxed = config->relax_blocks;
    mvpn_dht_storage_init(&dht->storage, &dht->config.self.id, config->records_max,
                          config->records_bytes);
    mvpn_dht_limits_init(&dht->sources, config->rng, SOURCE_COST, SOURCE_BURST, SOURCE_BLOCKS,
                         false);
    mvpn_dht_limits_init(&dht->proofs, config->rng, MVPN_DHT_PROOF_EVERY, MVPN_DHT_PROOF_EVERY,
                         MVPN_DHT_PROOF_BLOCKS_MAX, true);
    mvpn_bucket_init(&dht->unproven, UNPROVEN_RATE, UNPROVEN_BURST, now);
    dht->maintain.kind = MVPN_DHT_TIMER_MAINTAIN;
    dht->walk_timer.kind = MVPN_DHT_TIMER_WALK;
    dht->check_every = CHECK_FIRST;
    dht->refresh_due = MVPN_TIME_NEVER; /* from the join on */
    dht->sweep_due = now + MVPN_S(60);
    if (init_parts(dht, now) != 0) {
        mvpn_dht_free(dht);
        return MVPN_E_NOMEM;
    }
    *ret = dht;
    return 0;
}

void mvpn_dht_free(mvpn_dht *dht)
{
    if (dht == NULL) {
        return;
    }
    while (!mvpn_list_is_empty(&dht->ops)) {
        mvpn_dht_op_free(dht, MVPN_CONTAINER_OF(dht->ops.next, mvpn_dht_op, link));
    }
    mvpn_dht_events_done(dht);
    mvpn_dht_requests_done(&dht->requests);
    mvpn_timers_done(&dht->timers);
    mvpn_dht_routing_done(&dht->routing);
    mvpn_dht_storage_done(&dht->storage);
    mvpn_dht_limits_done(&dht->sources);
    mvpn_dht_limits_done(&dht->proofs);
    mvpn_dht_publish_done(&dht->publish);
    mvpn_dht_walk_done(&dht->walk);
    free(dht->seeds);
    free(dht->answer);
    free(dht->shunned);
    free(dht);
}

void mvpn_dht_set_unix_offset(mvpn_dht *dht, int64_t unix_offset_us)
{
    dht->config.unix_offset_us = unix_offset_us;
}

int mvpn_dht_set_self(mvpn_dht *dht, const mvpn_dht_contact *self, mvpn_time now)
{
    if (!dht->config.is_server) {
        return MVPN_E_STATE; /* it has no place */
    }
    dht->now = now;
    dht->config.self = *self;
    dht->storage.self = self->id;
    mvpn_dht_routing_set_self(&dht->routing, &self->id, now);
    for (size_t i = 0; i < MVPN_DHT_PUBLISH_MAX; i++) {
        dht->publish.own[i].due = now;
    }
    if (dht->routing.count > 0) {
        mvpn_dht_start_join(dht, now);
    }
    return 0;
}

/* ---- records ---- */

int mvpn_dht_judge(mvpn_dht *dht, unsigned type, mvpn_bytes record, const mvpn_dht_id *key,
                   mvpn_time now, mvpn_record_info *ret)
{
    mvpn_record_info info;
    uint64_t unix_now = mvpn_dht_unix(dht, now);
    if (record.n == 0 || record.n > MVPN_DHT_RECORD_MAX) {
        return MVPN_E_FORMAT;
    }
    int r = dht->config.verify(dht->config.verify_ctx, type, record, unix_now, &info);
    if (r != 0) {
        return r;
    }
    if (key != NULL && !mvpn_dht_id_eq(key, &info.key)) {
        return MVPN_E_AUTH;
    }
    if (info.expires <= unix_now) {
        return MVPN_E_EXPIRED;
    }
    *ret = info;
    return 0;
}

enum mvpn_dht_stored mvpn_dht_keep(mvpn_dht *dht, unsigned type, const mvpn_record_info *info,
                                   mvpn_bytes record, mvpn_time now)
{
    mvpn_dht_record *held;
    enum mvpn_dht_stored stored =
        mvpn_dht_storage_put(&dht->storage, type, info, record, now, &held);
    if (held != NULL && held->stored == now) {
        held->republish_at = mvpn_dht_republish_time(dht, now);
    }
    if (stored == MVPN_DHT_STORED && dht->config.reports_kept) {
        mvpn_dht_event e = {
            .type = MVPN_DHT_EVENT_KEPT,
            .key = info->key,
            .sequence = info->sequence,
            .record_type = (uint8_t)type,
            .record_len = (uint16_t)record.n,
        };
        memcpy(e.record, record.p, record.n);
        mvpn_dht_event_push(dht, &e);
    }
    return stored;
}

struct recheck {
    mvpn_dht *dht;
    mvpn_time now;
};

static bool is_refused(void *ctx, const mvpn_dht_record *record)
{
    const struct recheck *c = ctx;
    mvpn_record_info info;
    return mvpn_dht_judge(c->dht, record->type, mvpn_bytes_of(record->bytes, record->len),
                          &record->key, c->now, &info) != 0;
}

void mvpn_dht_recheck(mvpn_dht *dht, mvpn_time now)
{
    struct recheck ctx = {dht, now};
    mvpn_dht_storage_sweep(&dht->storage, is_refused, &ctx);
}

bool mvpn_dht_stored(const mvpn_dht *dht, const mvpn_dht_id *key, uint8_t *ret_type,
                     mvpn_bytes *ret_record)
{
    const mvpn_dht_record *r =
        mvpn_dht_storage_get(&dht->storage, key, mvpn_dht_unix(dht, dht->now));
    if (r == NULL) {
        return false;
    }
    *ret_type = r->type;
    *ret_record = mvpn_bytes_of(r->bytes, r->len);
    return true;
}

/* ---- operations ---- */

int mvpn_dht_find_node(mvpn_dht *dht, const mvpn_dht_id *target, mvpn_time now, uint32_t *ret_op)
{
    mvpn_dht_op *op;
    int r = mvpn_dht_op_new(dht, MVPN_DHT_OP_NODES, target, now, &op);
    if (r == 0) {
        uint32_t number = op->number;
        r = mvpn_dht_op_begin(dht, op, now);
        if (r == 0) {
            *ret_op = number;
        }
    }
    return r;
}

int mvpn_dht_lookup(mvpn_dht *dht, const mvpn_dht_id *key, mvpn_time now, uint32_t *ret_op)
{
    mvpn_dht_op *op;
    int r = mvpn_dht_op_new(dht, MVPN_DHT_OP_VALUE, key, now, &op);
    if (r == 0) {
        uint32_t number = op->number;
        r = mvpn_dht_op_begin(dht, op, now);
        if (r == 0) {
            *ret_op = number;
        }
    }
    return r;
}

int mvpn_dht_store(mvpn_dht *dht, unsigned type, mvpn_bytes record, mvpn_time now, uint32_t *ret_op)
{
    mvpn_record_info info;
    mvpn_dht_op *op;
    int r = mvpn_dht_judge(dht, type, record, NULL, now, &info);
    if (r == 0) {
        r = mvpn_dht_op_new(dht, MVPN_DHT_OP_STORE, &info.key, now, &op);
    }
    if (r != 0) {
        return r;
    }
    uint32_t number = op->number;
    r = mvpn_dht_op_set_record(op, type, record);
    if (r != 0) {
        mvpn_dht_op_free(dht, op);
        return r;
    }
    r = mvpn_dht_op_begin(dht, op, now);
    if (r == 0) {
        *ret_op = number;
    }
    return r;
}

int mvpn_dht_fetch(mvpn_dht *dht, const mvpn_dht_contact *from, const mvpn_dht_id *key,
                   mvpn_time now, uint32_t *ret_op)
{
    mvpn_dht_op *op;
    if (!mvpn_dht_contact_is_usable(from, dht->config.family, dht->config.allow_private)) {
        return MVPN_E_POLICY;
    }
    int r = mvpn_dht_op_new(dht, MVPN_DHT_OP_FETCH, key, now, &op);
    if (r == 0) {
        *ret_op = op->number;
        op->targets[0] = *from;
        mvpn_dht_op_step(dht, op, now);
    }
    return r;
}

int mvpn_dht_publish(mvpn_dht *dht, unsigned type, mvpn_bytes record, mvpn_time now)
{
    mvpn_record_info info;
    int r = mvpn_dht_judge(dht, type, record, NULL, now, &info);
    if (r == 0) {
        r = mvpn_dht_publish_set(&dht->publish, type, &info.key, record, now);
    }
    if (r == 0) {
        mvpn_dht_publish_due(dht, now);
    }
    return r;
}

void mvpn_dht_add_contact(mvpn_dht *dht, const mvpn_dht_contact *contact, mvpn_time now)
{
    size_t at = 0;
    if (!mvpn_dht_contact_is_usable(contact, dht->config.family, dht->config.allow_private) ||
        !mvpn_dht_id_fits(&contact->id, &contact->addr) || mvpn_dht_is_self(dht, contact)) {
        return;
    }
    if (dht->seeds == NULL) {
        dht->seeds = calloc(MVPN_DHT_SEEDS_MAX, sizeof(*dht->seeds));
        if (dht->seeds == NULL) {
            return;
        }
    }
    while (at < dht->seed_count && !mvpn_dht_id_eq(&dht->seeds[at].id, &contact->id)) {
        at++;
    }
    if (at == dht->seed_count) {
        if (dht->seed_count < MVPN_DHT_SEEDS_MAX) {
            dht->seed_count++;
        } else {
            at = dht->seed_next++ % MVPN_DHT_SEEDS_MAX; /* the oldest gives way */
        }
    }
    dht->seeds[at] = *contact;
    if (dht->routing.count < MVPN_DHT_K) {
        mvpn_dht_ask_proof(dht, contact, true, now);
    } else {
        (void)mvpn_dht_consider(dht, contact, false, now);
    }
}

/* ---- requests of others ---- */

static void answer_nodes(mvpn_dht *dht, const mvpn_dht_asker *asker,
                         const mvpn_dht_request *request, mvpn_dht_reply *ret)
{
    const mvpn_dht_peer *near[MVPN_DHT_K];
    size_t n = mvpn_dht_routing_closest(&dht->routing, &request->target,
                                        asker->has_claim ? &asker->claim.id : NULL, true,
                                        MVPN_DHT_K, near);
    ret->command = MVPN_CMD_DHT_NODES;
    ret->contact_count = n;
    for (size_t i = 0; i < n; i++) {
        ret->contacts[i] = near[i]->contact;
    }
}

static void answer_error(mvpn_dht_reply *ret, enum mvpn_dht_error reason)
{
    ret->command = MVPN_CMD_DHT_ERROR;
    ret->status = (uint8_t)reason;
}

static void answer_store(mvpn_dht *dht, const mvpn_dht_asker *asker,
                         const mvpn_dht_request *request, mvpn_time now, mvpn_dht_reply *ret)
{
    mvpn_record_info info;
    if (!asker->is_proven) {
        answer_error(ret, MVPN_DHT_ERROR_TOKEN);
        return;
    }
    dht->counters.stores_in++;
    ret->command = MVPN_CMD_DHT_STORED;
    ret->status = mvpn_dht_judge(dht, request->type, request->record, NULL, now, &info) == 0
                      ? (uint8_t)mvpn_dht_keep(dht, request->type, &info, request->record, now)
                      : MVPN_DHT_STORED_REFUSED;
    dht->counters.stores_refused += ret->status >= MVPN_DHT_STORED_REFUSED;
}

static void answer_list(mvpn_dht *dht, const mvpn_dht_request *request, mvpn_time now,
                        mvpn_dht_reply *ret)
{
    ret->command = MVPN_CMD_DHT_LISTED;
    ret->total = (uint32_t)dht->storage.count;
    ret->listed_count = mvpn_dht_storage_list(&dht->storage, &request->target, request->bits,
                                              mvpn_dht_unix(dht, now), ret->listed,
                                              MVPN_DHT_LISTED_MAX, &ret->more);
}

static void answer_fetch(mvpn_dht *dht, const mvpn_dht_request *request, mvpn_time now,
                         mvpn_dht_reply *ret)
{
    size_t len = 1;
    if (dht->answer == NULL) {
        dht->answer = malloc(ANSWER_MAX);
    }
    if (request->key_count != 1 || dht->answer == NULL) {
        answer_error(ret, request->key_count != 1 ? MVPN_DHT_ERROR_MALFORMED : MVPN_DHT_ERROR_BUSY);
        return;
    }
    const mvpn_dht_record *r =
        mvpn_dht_storage_get(&dht->storage, &request->keys[0], mvpn_dht_unix(dht, now));
    if (r != NULL) { /* one record always fits */
        MVPN_IGNORE(mvpn_dht_fetched_append(dht->answer, ANSWER_MAX, &len, r->type,
                                            mvpn_bytes_of(r->bytes, r->len)));
    }
    ret->command = MVPN_CMD_DHT_FETCHED;
    ret->more = false;
    ret->record = mvpn_bytes_of(dht->answer + 1, len - 1);
}

static void answer_value(mvpn_dht *dht, const mvpn_dht_asker *asker,
                         const mvpn_dht_request *request, mvpn_time now, mvpn_dht_reply *ret)
{
    const mvpn_dht_record *r =
        mvpn_dht_storage_get(&dht->storage, &request->target, mvpn_dht_unix(dht, now));
    if (r == NULL) {
        answer_nodes(dht, asker, request, ret);
        return;
    }
    ret->command = MVPN_CMD_DHT_VALUE;
    ret->type = r->type;
    ret->record = mvpn_bytes_of(r->bytes, r->len);
}

static void answer(mvpn_dht *dht, const mvpn_dht_asker *asker, const mvpn_dht_request *request,
                   mvpn_time now, mvpn_dht_reply *ret)
{
    switch (request->command) {
    case MVPN_CMD_DHT_PING:
        ret->command = MVPN_CMD_DHT_PONG;
        ret->time = mvpn_dht_unix(dht, now);
        ret->observed = asker->addr;
        break;
    case MVPN_CMD_DHT_FIND_NODE:
        answer_nodes(dht, asker, request, ret);
        break;
    case MVPN_CMD_DHT_FIND_VALUE:
        answer_value(dht, asker, request, now, ret);
        break;
    case MVPN_CMD_DHT_STORE:
        answer_store(dht, asker, request, now, ret);
        break;
    case MVPN_CMD_DHT_LIST:
        answer_list(dht, request, now, ret);
        break;
    case MVPN_CMD_DHT_FETCH:
        answer_fetch(dht, request, now, ret);
        break;
    default:
        answer_error(ret, MVPN_DHT_ERROR_NOT_SERVED);
        break;
    }
}

/* A server asks: one that we know is alive; another may become a contact. Only at the address that
 * the token proves. (§11.2) */
static void take_claim(mvpn_dht *dht, const mvpn_dht_asker *asker, mvpn_time now)
{
    const mvpn_dht_contact *c = &asker->claim;
    if (!asker->is_proven || !asker->has_claim || !mvpn_addr_eq(&c->addr, &asker->addr) ||
        !mvpn_dht_contact_is_usable(c, dht->config.family, dht->config.allow_private)) {
        return;
    }
    mvpn_dht_peer *peer = mvpn_dht_routing_find(&dht->routing, &c->id);
    if (peer != NULL && mvpn_dht_contact_eq(&peer->contact, c)) {
        if (peer->failures == 0) { /* else it has to answer us */
            peer->heard = now;
        }
        return;
    }
    (void)mvpn_dht_consider(dht, c, true, now);
}

int mvpn_dht_request_in(mvpn_dht *dht, const mvpn_dht_asker *asker, const mvpn_dht_request *request,
                        mvpn_time now, mvpn_dht_reply *ret)
{
    dht->now = now;
    if (!mvpn_dht_limits_take(&dht->sources, mvpn_dht_source_block(&asker->addr), now) ||
        (!asker->is_proven && !mvpn_bucket_take(&dht->unproven, 1, now))) {
        dht->counters.requests_refused++;
        return MVPN_E_LIMIT;
    }
    dht->counters.requests_in++;
    memset(ret, 0, offsetof(mvpn_dht_reply, contacts)); /* no need to wipe the long lists */
    ret->status = 0;
    ret->type = 0;
    ret->record = MVPN_BYTES_NONE;
    ret->more = false;
    ret->total = 0;
    ret->listed_count = 0;
    ret->offset = 0;
    ret->bytes = MVPN_BYTES_NONE;
    if (!dht->config.is_server) {
        answer_error(ret, MVPN_DHT_ERROR_NOT_SERVED);
        return 0;
    }
    answer(dht, asker, request, now, ret);
    take_claim(dht, asker, now);
    return 0;
}

/* ---- requests of ours ---- */

/* How long an answer usually takes. */
static mvpn_time usual_time(const mvpn_dht *dht, const mvpn_dht_contact *to)
{
    const mvpn_dht_peer *peer = mvpn_dht_routing_find(&dht->routing, &to->id);
    if (peer != NULL && peer->rtt_ms > 0) {
        return MVPN_MS(peer->rtt_ms + 4u * peer->deviation_ms);
    }
    return dht->rtt == 0 ? MVPN_DHT_TIMEOUT_FIRST : dht->rtt + 4 * dht->rtt_deviation;
}

static mvpn_time timeout_of(mvpn_time usual, unsigned tries)
{
    mvpn_time t = MVPN_MIN(MVPN_MAX(usual, MVPN_DHT_TIMEOUT_MIN), MVPN_DHT_TIMEOUT_MAX);
    return tries > 1 ? MVPN_MIN(2 * t, MVPN_DHT_TIMEOUT_MAX) : t;
}

mvpn_dht_pending *mvpn_dht_send(mvpn_dht *dht, enum mvpn_dht_purpose purpose,
                                const mvpn_dht_contact *to, mvpn_dht_op *op, mvpn_time now)
{
    mvpn_time usual = usual_time(dht, to);
    /* A lookup looks elsewhere as soon as an answer is late; for the others it is not urgent. */
    mvpn_time wait = purpose == MVPN_DHT_FOR_LOOKUP ? MVPN_MIN(usual, MVPN_DHT_TIMEOUT_MAX)
                                                    : timeout_of(usual, 1);
    mvpn_dht_pending *p = mvpn_dht_requests_add(&dht->requests, wait, now);
    if (p == NULL) {
        dht->is_starved = true;
        return NULL;
    }
    p->purpose = (uint8_t)purpose;
    p->is_slow = wait >= MVPN_DHT_TIMEOUT_MIN;
    p->to = *to;
    p->op = op;
    if (op != NULL) {
        p->key = op->target;
        mvpn_list_append(&op->requests, &p->op_link);
    }
    return p;
}

/* Once more, under a new transaction; the first one lingers. False: not now. */
static bool send_again(mvpn_dht *dht, mvpn_dht_pending *p, mvpn_time now)
{
    const mvpn_dht_pending first = *p;
    mvpn_dht_requests_linger(&dht->requests, p, now);
    p = mvpn_dht_send(dht, (enum mvpn_dht_purpose)first.purpose, &first.to, first.op, now);
    if (p == NULL) {
        return false;
    }
    p->tries = (uint8_t)(first.tries + 1);
    p->first_sent = first.first_sent;
    p->key = first.key;
    p->slot = first.slot;
    p->wants_certificate = first.wants_certificate;
    p->is_named = first.is_named;
    p->is_slow = true;
    mvpn_timer_set(&dht->timers, &p->timer, now + timeout_of(usual_time(dht, &first.to), p->tries));
    return true;
}

/* What a reply's body can be at most: without a token the request is padded for it. */
static uint16_t reply_room(const mvpn_dht_pending *p)
{
    switch ((enum mvpn_dht_purpose)p->purpose) {
    case MVPN_DHT_FOR_CHECK:
    case MVPN_DHT_FOR_PROOF:
    case MVPN_DHT_FOR_STORE:
    case MVPN_DHT_FOR_HANDOVER:
        return 32;
    case MVPN_DHT_FOR_WALK_LIST: /* about 8 keys; `more` brings the rest */
        return 5 + 14 * 28;
    case MVPN_DHT_FOR_LOOKUP:
    case MVPN_DHT_FOR_FETCH:
    case MVPN_DHT_FOR_WALK_FIND:
        break;
    }
    return MVPN_DHT_BODY_MAX;
}

static bool fill_store(const mvpn_dht *dht, const mvpn_dht_pending *p, mvpn_dht_outgoing *ret)
{
    mvpn_bytes bytes = mvpn_bytes_of(p->op->record, p->op->record_len);
    uint8_t type = p->op->record_type;
    if (p->purpose == MVPN_DHT_FOR_HANDOVER && !mvpn_dht_stored(dht, &p->key, &type, &bytes)) {
        return false; /* gone meanwhile; the time-out ends it */
    }
    ret->request.command = MVPN_CMD_DHT_STORE;
    ret->request.type = type;
    memcpy(ret->record, bytes.p, bytes.n);
    ret->request.record = mvpn_bytes_of(ret->record, bytes.n);
    return true;
}

static bool fill_request(const mvpn_dht *dht, const mvpn_dht_pending *p, mvpn_dht_outgoing *ret)
{
    ret->request.target = p->key;
    switch ((enum mvpn_dht_purpose)p->purpose) {
    case MVPN_DHT_FOR_CHECK:
    case MVPN_DHT_FOR_PROOF:
        ret->request.command = MVPN_CMD_DHT_PING;
        return true;
    case MVPN_DHT_FOR_LOOKUP:
        ret->request.command =
            p->op->type == MVPN_DHT_OP_VALUE ? MVPN_CMD_DHT_FIND_VALUE : MVPN_CMD_DHT_FIND_NODE;
        return true;
    case MVPN_DHT_FOR_STORE:
    case MVPN_DHT_FOR_HANDOVER:
        return fill_store(dht, p, ret);
    case MVPN_DHT_FOR_FETCH:
        ret->request.command = MVPN_CMD_DHT_FETCH;
        ret->request.key_count = 1;
        ret->request.keys[0] = p->key;
        return true;
    case MVPN_DHT_FOR_WALK_FIND:
        ret->request.command = MVPN_CMD_DHT_FIND_NODE;
        return true;
    case MVPN_DHT_FOR_WALK_LIST:
        ret->request.command = MVPN_CMD_DHT_LIST;
        ret->request.bits = (uint8_t)dht->walk.bits;
        return true;
    }
    return false;
}

static bool needs_op(const mvpn_dht_pending *p)
{
    return p->purpose == MVPN_DHT_FOR_LOOKUP || p->purpose == MVPN_DHT_FOR_STORE ||
           p->purpose == MVPN_DHT_FOR_FETCH || p->purpose == MVPN_DHT_FOR_HANDOVER;
}

bool mvpn_dht_pull_request(mvpn_dht *dht, mvpn_dht_outgoing *ret)
{
    mvpn_dht_pending *p;
    while ((p = mvpn_dht_requests_pull(&dht->requests)) != NULL) {
        if (needs_op(p) && p->op == NULL) { /* its operation ended first */
            mvpn_dht_requests_remove(&dht->requests, p);
            continue;
        }
        memset(&ret->request, 0, offsetof(mvpn_dht_request, keys));
        ret->request.record = MVPN_BYTES_NONE;
        if (!fill_request(dht, p, ret)) {
            continue;
        }
        ret->transaction = p->transaction;
        ret->to = p->to;
        ret->wants_certificate = p->wants_certificate;
        ret->has_claim = dht->config.is_server;
        ret->reply_room = reply_room(p);
        dht->counters.requests_out++;
        return true;
    }
    return false;
}

static void measure_rtt(mvpn_dht *dht, mvpn_time rtt)
{
    if (dht->rtt == 0) {
        dht->rtt = rtt + 1;
        dht->rtt_deviation = rtt / 2;
        return;
    }
    mvpn_time off = rtt > dht->rtt ? rtt - dht->rtt : dht->rtt - rtt;
    dht->rtt_deviation = (7 * dht->rtt_deviation + off) / 8;
    dht->rtt = (15 * dht->rtt + rtt + 15) / 16;
}

static void dispatch_reply(mvpn_dht *dht, const mvpn_dht_pending *p, const mvpn_dht_reply *reply,
                           mvpn_time now)
{
    if (p->purpose == MVPN_DHT_FOR_WALK_FIND || p->purpose == MVPN_DHT_FOR_WALK_LIST) {
        mvpn_dht_walk_reply(dht, p, reply, now);
    } else if (p->op != NULL) {
        mvpn_dht_op_reply(dht, p, reply, now);
    }
}

/* Take a request out of the books, but for what its end needs. */
static mvpn_dht_pending settle(mvpn_dht *dht, mvpn_dht_pending *p)
{
    mvpn_dht_pending copy = *p;
    mvpn_dht_requests_remove(&dht->requests, p);
    if (copy.purpose == MVPN_DHT_FOR_PROOF && copy.state != MVPN_DHT_PENDING_LINGERING) {
        dht->proofs_under_way--;
    }
    return copy;
}

static bool wants_token_retry(const mvpn_dht_pending *p, const mvpn_dht_reply *reply)
{
    return reply->command == MVPN_CMD_DHT_ERROR && reply->status == MVPN_DHT_ERROR_TOKEN &&
           p->op != NULL && !p->is_token_retry &&
           (p->purpose == MVPN_DHT_FOR_STORE || p->purpose == MVPN_DHT_FOR_HANDOVER);
}

void mvpn_dht_reply_in(mvpn_dht *dht, uint64_t transaction, const mvpn_dht_reply *reply,
                       bool is_certified, mvpn_time now)
{
    mvpn_dht_pending *found = mvpn_dht_requests_find(&dht->requests, transaction);
    dht->now = now;
    if (found == NULL || found->state == MVPN_DHT_PENDING_QUEUED) {
        return;
    }
    mvpn_dht_pending p = settle(dht, found);
    mvpn_time rtt = now - p.sent;
    dht->counters.replies_in++;
    dht->last_reply = now;
    measure_rtt(dht, rtt);
    mvpn_dht_routing_answered(&dht->routing, &p.to, rtt, now);
    if (p.purpose == MVPN_DHT_FOR_CHECK) {
        mvpn_dht_checked(dht, &p.to, true);
    }
    if (p.wants_certificate && is_certified) {
        mvpn_dht_proven(dht, &p.to, p.purpose == MVPN_DHT_FOR_LOOKUP || p.is_named, rtt, now);
    }
    if (wants_token_retry(&p, reply)) { /* the exchange has its token now */
        mvpn_dht_pending *again =
            mvpn_dht_send(dht, (enum mvpn_dht_purpose)p.purpose, &p.to, p.op, now);
        if (again != NULL) {
            again->key = p.key;
            again->slot = p.slot;
            again->is_token_retry = true;
            return;
        }
    }
    dispatch_reply(dht, &p, reply, now);
    if (dht->is_starved) {
        mvpn_dht_ops_resume(dht, now);
    }
}

static void dispatch_failed(mvpn_dht *dht, const mvpn_dht_pending *p, mvpn_time now)
{
    if (p->purpose == MVPN_DHT_FOR_WALK_FIND || p->purpose == MVPN_DHT_FOR_WALK_LIST) {
        mvpn_dht_walk_failed(dht, p, now);
    } else if (p->op != NULL) {
        mvpn_dht_op_failed(dht, p, now);
    }
    if (dht->is_starved) {
        mvpn_dht_ops_resume(dht, now);
    }
}

void mvpn_dht_reply_failed(mvpn_dht *dht, uint64_t transaction, mvpn_time now)
{
    mvpn_dht_pending *found = mvpn_dht_requests_find(&dht->requests, transaction);
    dht->now = now;
    if (found == NULL) {
        return;
    }
    bool is_late = found->state == MVPN_DHT_PENDING_LINGERING;
    mvpn_dht_pending p = settle(dht, found);
    mvpn_dht_forget(dht, &p.to.id);
    if (!is_late) {
        dispatch_failed(dht, &p, now);
    }
}

static void overdue(mvpn_dht *dht, mvpn_dht_pending *p, mvpn_time now)
{
    if (p->state == MVPN_DHT_PENDING_LINGERING) {
        mvpn_dht_requests_remove(&dht->requests, p);
        if (dht->is_starved) {
            mvpn_dht_ops_resume(dht, now);
        }
        return;
    }
    if (!p->is_slow && p->op != NULL) {
        const mvpn_dht_pending copy = *p;
        p->is_slow = true;
        mvpn_timer_set(&dht->timers, &p->timer, p->sent + timeout_of(usual_time(dht, &p->to), 1));
        mvpn_dht_op_slow(dht, &copy, now);
        return;
    }
    dht->counters.timeouts++;
    if (needs_op(p) && p->op == NULL) { /* nobody waits */
        mvpn_dht_requests_linger(&dht->requests, p, now);
        return;
    }
    const mvpn_dht_pending copy = *p;
    if (copy.tries < MVPN_DHT_TRIES && send_again(dht, p, now)) {
        if (copy.op != NULL) {
            mvpn_dht_op_slow(dht, &copy, now);
        }
        return;
    }
    if (copy.tries == MVPN_DHT_TRIES) {
        mvpn_dht_requests_linger(&dht->requests, p, now);
    }
    if (copy.purpose == MVPN_DHT_FOR_PROOF) {
        dht->proofs_under_way--;
    }
    mvpn_dht_silent(dht, &copy.to, copy.purpose == MVPN_DHT_FOR_CHECK, copy.first_sent, now);
    dispatch_failed(dht, &copy, now);
}

void mvpn_dht_tick(mvpn_dht *dht, mvpn_time now)
{
    mvpn_timer *timer;
    dht->now = now;
    while ((timer = mvpn_timers_pop(&dht->timers, now)) != NULL) {
        switch ((enum mvpn_dht_timer_kind)timer->kind) {
        case MVPN_DHT_TIMER_REQUEST:
            overdue(dht, MVPN_CONTAINER_OF(timer, mvpn_dht_pending, timer), now);
            break;
        case MVPN_DHT_TIMER_MAINTAIN:
            mvpn_dht_maintain(dht, now);
            break;
        case MVPN_DHT_TIMER_WALK:
            mvpn_dht_walk_tick(dht, now);
            break;
        }
    }
}

mvpn_time mvpn_dht_deadline(const mvpn_dht *dht)
{
    return mvpn_timers_deadline(&dht->timers);
}

/* ---- questions ---- */

size_t mvpn_dht_sample_contacts(mvpn_dht *dht, mvpn_dht_contact *ret, size_t max)
{
    size_t seen = 0;
    for (size_t i = 0; i < MVPN_DHT_ID_BITS; i++) { /* a reservoir */
        const mvpn_dht_kbucket *b = dht->routing.buckets[i];
        for (size_t k = 0; b != NULL && k < b->count; k++) {
            size_t at = seen < max ? seen : mvpn_rng_below(dht->config.rng, (uint32_t)seen + 1);
            if (at < max) {
                ret[at] = b->peers[k].contact;
            }
            seen++;
        }
    }
    return MVPN_MIN(seen, max);
}

static size_t memory_of(const mvpn_dht *dht)
{
    size_t n = sizeof(*dht) + mvpn_dht_routing_memory(&dht->routing) +
               mvpn_dht_storage_memory(&dht->storage) + mvpn_dht_limits_memory(&dht->sources) +
               mvpn_dht_limits_memory(&dht->proofs) + mvpn_dht_requests_memory(&dht->requests) +
               mvpn_dht_publish_memory(&dht->publish) + mvpn_dht_walk_memory(&dht->walk) +
               dht->timers.size * sizeof(*dht->timers.heap) + mvpn_dht_events_memory(dht);
    n += dht->seeds != NULL ? MVPN_DHT_SEEDS_MAX * sizeof(*dht->seeds) : 0;
    n += dht->shunned != NULL ? MVPN_DHT_SHUNNED_MAX * sizeof(*dht->shunned) : 0;
    n += dht->answer != NULL ? ANSWER_MAX : 0;
    MVPN_LIST_FOREACH(link, &dht->ops)
    {
        const mvpn_dht_op *op = MVPN_CONTAINER_OF(link, mvpn_dht_op, link);
        n += sizeof(*op) + (op->lookup != NULL ? sizeof(*op->lookup) : 0) +
             (op->record != NULL ? MVPN_DHT_RECORD_MAX : 0) + op->key_count * sizeof(*op->keys);
    }
    return n;
}

void mvpn_dht_get_status(const mvpn_dht *dht, mvpn_dht_status *ret)
{
    *ret = dht->counters;
    ret->contacts = dht->routing.count;
    ret->buckets = 0;
    for (size_t i = 0; i < MVPN_DHT_ID_BITS; i++) {
        ret->buckets += dht->routing.buckets[i] != NULL && dht->routing.buckets[i]->count > 0;
    }
    ret->records = dht->storage.count;
    ret->record_bytes = dht->storage.bytes;
    ret->evicted = dht->storage.evicted;
    ret->nodes = mvpn_dht_nodes(dht);
    ret->memory = memory_of(dht);
}
