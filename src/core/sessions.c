#include "core/sessions.h"

#include <string.h>

#include "base/assert.h"
#include "base/error.h"

/* Hashed with a secret key: as many bytes as cannot be guessed. */
#define HASHED_LEN 16

static const mvpn_time lifetime[2] = {MVPN_SESSION_UNUSED_TIME, MVPN_SESSION_DETACHED_TIME};

/* --- tickets --- */

static uint64_t ticket_hash(const mvpn_sessions *table, const uint8_t *ticket)
{
    return mvpn_siphash(&table->hash_key, ticket, HASHED_LEN);
}

static void ticket_set(mvpn_sessions *table, mvpn_session_ticket *t, mvpn_session *s)
{
    t->session = s;
    mvpn_hash_insert(&table->tickets, &t->node, ticket_hash(table, t->bytes));
}

static void ticket_wipe(mvpn_sessions *table, mvpn_session_ticket *t)
{
    if (t->session != NULL) {
        mvpn_hash_remove(&table->tickets, &t->node);
        t->session = NULL;
        mvpn_wipe(t->bytes, sizeof(t->bytes));
    }
}

static void draw_next(mvpn_sessions *table, mvpn_session *s)
{
    ticket_wipe(table, &s->next);
    mvpn_rng_bytes(table->rng, s->next.bytes, sizeof(s->next.bytes));
    ticket_set(table, &s->next, s);
}

static mvpn_session *find_ticket(const mvpn_sessions *table, const uint8_t *ticket)
{
    mvpn_hash_node *n = mvpn_hash_first(&table->tickets, ticket_hash(table, ticket));
    for (; n != NULL; n = mvpn_hash_next(n)) {
        const mvpn_session_ticket *t = MVPN_CONTAINER_OF(n, mvpn_session_ticket, node);
        if (mvpn_ct_equal(t->bytes, ticket, sizeof(t->bytes))) {
            return t->session;
        }
    }
    return NULL;
}

/* --- life --- */

int mvpn_sessions_init(mvpn_sessions *table, mvpn_rng *rng, mvpn_packet_pool *pool,
                       uint32_t sessions_max)
{
    *table = (mvpn_sessions){
        .rng = rng,
        .pool = pool,
        .detached_max = MVPN_MAX(sessions_max / MVPN_SESSION_DETACHED_SHARE, 1u),
    };
    mvpn_rng_bytes(rng, table->hash_key.b, sizeof(table->hash_key.b));
    mvpn_list_init(&table->detached[false]);
    mvpn_list_init(&table->detached[true]);
    mvpn_list_init(&table->draining);
    mvpn_list_init(&table->waiting);
    return mvpn_hash_init(&table->tickets, 64);
}

void mvpn_sessions_done(mvpn_sessions *table)
{
    MVPN_ASSERT(table->count == 0 && table->tickets.count == 0);
    mvpn_hash_done(&table->tickets);
    mvpn_wipe(&table->hash_key, sizeof(table->hash_key));
}

void mvpn_session_open(mvpn_sessions *table, mvpn_session *s, struct relay_circuit *circuit,
                       mvpn_time now)
{
    *s = (mvpn_session){.circuit = circuit};
    mvpn_packet_queue_init(&s->waiting);
    mvpn_bucket_init(&s->take_overs, MVPN_SESSION_TAKE_OVER_RATE, MVPN_SESSION_TAKE_OVER_BURST,
                     now);
    draw_next(table, s);
    table->count++;
}

/* It has a circuit again, or ends. */
static void leave_detached(mvpn_sessions *table, mvpn_session *s)
{
    if (mvpn_list_is_linked(&s->on_detached)) {
        mvpn_list_remove(&s->on_detached);
        table->detached_count--;
    }
}

void mvpn_session_close(mvpn_sessions *table, mvpn_session *s)
{
    mvpn_packet *p;
    ticket_wipe(table, &s->next);
    ticket_wipe(table, &s->last);
    leave_detached(table, s);
    mvpn_session_stop_draining(s);
    while ((p = mvpn_session_pull_waiting(table, s)) != NULL) {
        mvpn_packet_free(table->pool, p);
    }
    s->circuit = NULL;
    table->count--;
}

/* --- take-over --- */

int mvpn_sessions_find(mvpn_sessions *table, const uint8_t ticket[static MVPN_TICKET_LEN],
                       uint32_t epoch, mvpn_time now, mvpn_session **ret)
{
    mvpn_session *s = find_ticket(table, ticket);
    if (s == NULL || epoch <= s->epoch) {
        return MVPN_E_UNKNOWN;
    }
    if (!mvpn_bucket_take(&s->take_overs, 1, now)) {
        return MVPN_E_LIMIT;
    }
    *ret = s;
    return 0;
}

struct relay_circuit *mvpn_session_take_over(mvpn_sessions *table, mvpn_session *s,
                                             const uint8_t ticket[static MVPN_TICKET_LEN],
                                             uint32_t epoch, struct relay_circuit *circuit,
                                             mvpn_time now)
{
    struct relay_circuit *before = s->draining;
    MVPN_ASSERT(circuit != s->circuit && epoch > s->epoch);
    if (mvpn_ct_equal(ticket, s->next.bytes, sizeof(s->next.bytes))) {
        ticket_wipe(table, &s->last);
        memcpy(s->last.bytes, s->next.bytes, sizeof(s->last.bytes));
        ticket_set(table, &s->last, s);
    }
    draw_next(table, s);
    s->epoch = epoch;
    leave_detached(table, s);
    /* Without a circuit before, one that drains still may bring what was under way. */
    if (s->circuit != NULL || before == circuit) {
        mvpn_session_stop_draining(s);
    }
    if (s->circuit != NULL) {
        s->draining = s->circuit;
        s->drain_until = now + MVPN_SESSION_DRAIN_TIME;
        mvpn_list_append(&table->draining, &s->on_draining);
    }
    s->circuit = circuit;
    return before != NULL && before != s->draining && before != circuit ? before : NULL;
}

void mvpn_session_confirm(mvpn_sessions *table, mvpn_session *s)
{
    ticket_wipe(table, &s->last);
}

void mvpn_session_detach(mvpn_sessions *table, mvpn_session *s, mvpn_time now)
{
    MVPN_ASSERT(s->circuit != NULL);
    s->circuit = NULL;
    s->detached_since = now;
    mvpn_list_append(&table->detached[s->has_passed], &s->on_detached);
    table->detached_count++;
}

void mvpn_session_stop_draining(mvpn_session *s)
{
    mvpn_list_remove(&s->on_draining);
    s->draining = NULL;
}

/* --- packets that wait --- */

mvpn_packet *mvpn_session_pull_waiting(mvpn_sessions *table, mvpn_session *s)
{
    mvpn_packet *p = mvpn_packet_queue_pop(&s->waiting);
    if (p != NULL) {
        table->waiting_count--;
    }
    if (s->waiting.count == 0) {
        mvpn_list_remove(&s->on_waiting);
    }
    return p;
}

/* The sessions give way in turn: who has many packets here does not keep others from having some.
 */
static void make_room(mvpn_sessions *table)
{
    mvpn_list *node = mvpn_list_pop(&table->waiting);
    MVPN_ASSERT(node != NULL);
    mvpn_session *s = MVPN_CONTAINER_OF(node, mvpn_session, on_waiting);
    mvpn_list_append(&table->waiting, &s->on_waiting);
    mvpn_packet_free(table->pool, mvpn_session_pull_waiting(table, s));
}

void mvpn_session_wait(mvpn_sessions *table, mvpn_session *s, mvpn_packet *packet)
{
    const mvpn_packet_pool *pool = table->pool;
    if (s->waiting.count == MVPN_SESSION_WAITING_MAX) {
        mvpn_packet_free(table->pool, mvpn_session_pull_waiting(table, s));
    } else if (table->waiting_count == MVPN_SESSION_WAITING_TOTAL ||
               pool->free_count < pool->size / 2) {
        /* The pool is that of the packets under way: those go first. */
        if (table->waiting_count == 0) {
            mvpn_packet_free(table->pool, packet);
            return;
        }
        make_room(table);
    }
    mvpn_packet_queue_push(&s->waiting, packet);
    table->waiting_count++;
    if (!mvpn_list_is_linked(&s->on_waiting)) {
        mvpn_list_append(&table->waiting, &s->on_waiting);
    }
}

/* --- who gives way, and when --- */

static mvpn_session *first_of(const mvpn_list *detached)
{
    return mvpn_list_is_empty(detached)
               ? NULL
               : MVPN_CONTAINER_OF(detached->next, mvpn_session, on_detached);
}

static mvpn_session *first_draining(const mvpn_sessions *table)
{
    return mvpn_list_is_empty(&table->draining)
               ? NULL
               : MVPN_CONTAINER_OF(table->draining.next, mvpn_session, on_draining);
}

mvpn_session *mvpn_sessions_oldest_detached(const mvpn_sessions *table)
{
    mvpn_session *unused = first_of(&table->detached[false]);
    return unused != NULL ? unused : first_of(&table->detached[true]);
}

mvpn_session *mvpn_sessions_surplus(const mvpn_sessions *table)
{
    return table->detached_count > table->detached_max ? mvpn_sessions_oldest_detached(table)
                                                       : NULL;
}

mvpn_session *mvpn_sessions_expired(const mvpn_sessions *table, mvpn_time now)
{
    for (size_t i = 0; i < MVPN_ARRAY_LEN(table->detached); i++) {
        mvpn_session *s = first_of(&table->detached[i]);
        if (s != NULL && now >= s->detached_since + lifetime[i]) {
            return s;
        }
    }
    return NULL;
}

mvpn_session *mvpn_sessions_drained(const mvpn_sessions *table, mvpn_time now)
{
    mvpn_session *s = first_draining(table);
    return s != NULL && now >= s->drain_until ? s : NULL;
}

mvpn_time mvpn_sessions_deadline(const mvpn_sessions *table)
{
    const mvpn_session *s = first_draining(table);
    mvpn_time at = s == NULL ? MVPN_TIME_NEVER : s->drain_until;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(table->detached); i++) {
        if ((s = first_of(&table->detached[i])) != NULL) {
            at = mvpn_time_min(at, s->detached_since + lifetime[i]);
        }
    }
    return at;
}
