#include "core/sweep.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "core/directory.h"
#include "wire/message.h"

/* Requests under way at once; List goes by as many parts of the key space. */
#define SLOTS 4
#define LIST_BITS 2
/* Keys asked for in one Fetch: what a directory packs in the replies of one request. */
#define FETCH_KEYS 24
/* A directory that lists more than this holds more than anybody could want of it. */
#define WANTED_MAX 20000
/* Pages of one part of the key space: beyond, a list has no end. */
#define PAGES_MAX 1000
#define REPLY_TIME MVPN_MS(1500)
#define TRIES 4
/* A sweep as a whole: whoever drips its answers is left. */
#define SWEEP_TIME_MAX MVPN_S(120)

enum phase {
    PHASE_LIST,
    PHASE_FETCH,
    PHASE_BLOB,
    PHASE_DONE,
};

typedef struct wanted {
    mvpn_dht_id key;
    uint64_t sequence;
} wanted;

typedef struct slot {
    bool is_open;  /* it has something to do in this phase */
    bool is_asked; /* a request is under way */
    uint32_t id;
    uint8_t tries;
    uint8_t replies; /* to this request */
    unsigned pages;  /* LIST */
    mvpn_time sent;
    mvpn_dht_id cursor;      /* LIST */
    size_t count;            /* FETCH: keys of this request */
    wanted keys[FETCH_KEYS]; /* FETCH */
    uint32_t offset;         /* BLOB */
} slot;

struct sweep {
    sweep_env env;
    mvpn_view_source source;
    enum phase phase;
    bool has_failed;
    mvpn_time began;
    uint64_t unix_now; /* at the last reply */
    slot slots[SLOTS];
    wanted *wanted;
    size_t wanted_count, wanted_size, wanted_next;
    size_t records;
    mvpn_snapshot_head head; /* BLOB */
    uint8_t *blob;
    uint32_t blob_next, blob_done, blob_step;
};

sweep *sweep_new(const sweep_env *env, mvpn_view_source source, mvpn_time now)
{
    sweep *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return NULL;
    }
    s->env = *env;
    s->source = source;
    s->began = now;
    for (unsigned i = 0; i < SLOTS; i++) {
        s->slots[i].is_open = true;
        s->slots[i].cursor.b[0] = (uint8_t)(i << (8 - LIST_BITS));
    }
    return s;
}

void sweep_free(sweep *s)
{
    if (s == NULL) {
        return;
    }
    free(s->wanted);
    free(s->blob);
    free(s);
}

size_t sweep_records(const sweep *s)
{
    return s->records;
}

enum sweep_result sweep_result_of(const sweep *s, mvpn_time now)
{
    if (s->has_failed) {
        return SWEEP_FAILED;
    }
    if (s->phase == PHASE_DONE) {
        return SWEEP_DONE;
    }
    return now - s->began > SWEEP_TIME_MAX ? SWEEP_FAILED : SWEEP_GOING;
}

/* ---- what is asked ---- */

static void want(sweep *s, const mvpn_dht_listed *item)
{
    if (s->wanted_count == s->wanted_size) {
        size_t size = s->wanted_size == 0 ? 64 : s->wanted_size * 2;
        wanted *more = size > 2 * WANTED_MAX ? NULL : realloc(s->wanted, size * sizeof(*more));
        if (more == NULL) {
            return;
        }
        s->wanted = more;
        s->wanted_size = size;
    }
    if (s->wanted_count < WANTED_MAX) {
        s->wanted[s->wanted_count++] = (wanted){item->key, item->sequence};
    }
}

/* Give an idle slot its next keys, or its next piece of the snapshot. */
static void slot_fill(sweep *s, slot *t)
{
    if (s->phase == PHASE_FETCH && s->wanted_next < s->wanted_count) {
        t->is_open = true;
        t->tries = 0;
        t->count = MVPN_MIN(s->wanted_count - s->wanted_next, (size_t)FETCH_KEYS);
        memcpy(t->keys, s->wanted + s->wanted_next, t->count * sizeof(t->keys[0]));
        s->wanted_next += t->count;
    } else if (s->phase == PHASE_BLOB && s->blob_next < s->head.size &&
               (s->blob_next == 0 || s->blob_step > 0)) {
        /* The first answer tells how long the pieces are. */
        t->is_open = true;
        t->tries = 0;
        t->offset = s->blob_next;
        s->blob_next += s->blob_step > 0 ? s->blob_step : 1;
    }
}

static bool is_idle(const sweep *s)
{
    for (unsigned i = 0; i < SLOTS; i++) {
        if (s->slots[i].is_open) {
            return false;
        }
    }
    return true;
}

static void begin_blob(sweep *s)
{
    const mvpn_snapshot_head *head = mvpn_view_head_wanted(s->env.view, s->unix_now);
    if (head == NULL || head->size > MVPN_SNAPSHOT_LEN_MAX) {
        s->phase = PHASE_DONE;
        return;
    }
    s->head = *head;
    s->blob = malloc(head->size);
    s->phase = s->blob == NULL ? PHASE_DONE : PHASE_BLOB;
}

/* Go on to the next phase when this one has nothing left. */
static void advance(sweep *s)
{
    if (s->phase == PHASE_LIST && is_idle(s)) {
        s->phase = PHASE_FETCH;
    }
    if (s->phase == PHASE_FETCH && is_idle(s) && s->wanted_next == s->wanted_count) {
        begin_blob(s);
    }
    if (s->phase == PHASE_BLOB && s->blob_done >= s->head.size) {
        if (mvpn_view_put_snapshot(s->env.view, mvpn_bytes_of(s->blob, s->head.size),
                                   s->unix_now) == 0) {
            s->records++;
        }
        s->phase = PHASE_DONE;
    }
    for (unsigned i = 0; i < SLOTS; i++) {
        if (!s->slots[i].is_open) {
            slot_fill(s, &s->slots[i]);
        }
    }
}

static void slot_request(const sweep *s, const slot *t, mvpn_dht_request *q)
{
    *q = (mvpn_dht_request){.command = MVPN_CMD_DHT_LIST, .target = t->cursor, .bits = LIST_BITS};
    if (s->phase == PHASE_FETCH) {
        q->command = MVPN_CMD_DHT_FETCH;
        q->key_count = (uint8_t)t->count;
        for (size_t i = 0; i < t->count; i++) {
            q->keys[i] = t->keys[i].key;
        }
    } else if (s->phase == PHASE_BLOB) {
        q->command = MVPN_CMD_DHT_BLOB;
        q->digest = s->head.digest;
        q->offset = t->offset;
    }
}

/* It was asked often enough: a list that stays away ends the sweep, a record does not. */
static void slot_give_up(sweep *s, slot *t)
{
    if (s->phase == PHASE_LIST) {
        s->has_failed = true;
    } else if (s->phase == PHASE_BLOB) {
        s->phase = PHASE_DONE;
    }
    t->is_open = false;
    t->is_asked = false;
}

bool sweep_pull(sweep *s, mvpn_time now, sweep_request *ret)
{
    for (unsigned i = 0; i < SLOTS && s->phase != PHASE_DONE && !s->has_failed; i++) {
        slot *t = &s->slots[i];
        bool is_late = t->is_asked && now - t->sent > (REPLY_TIME << t->tries) / 2;
        if (!t->is_open || (t->is_asked && !is_late)) {
            continue;
        }
        if (t->tries == TRIES) {
            slot_give_up(s, t);
            advance(s);
            continue;
        }
        mvpn_dht_request q;
        mvpn_packet *p = mvpn_packet_new(s->env.pool);
        if (p == NULL) {
            return false;
        }
        slot_request(s, t, &q);
        p->len = (uint32_t)mvpn_dht_request_encode(p->data, MVPN_DHT_BODY_MAX, &q);
        t->id = mvpn_rng_u32(s->env.rng);
        t->is_asked = true;
        t->tries++;
        t->replies = 0;
        t->sent = now;
        *ret = (sweep_request){t->id, q.command, p};
        return true;
    }
    return false;
}

void sweep_send(sweep *s, mvpn_link *link, mvpn_time now)
{
    sweep_request q;
    while (sweep_pull(s, now, &q)) {
        mvpn_header h = {.command = (uint16_t)q.command, .length = (uint16_t)q.packet->len};
        mvpn_store32(h.circuit.b, q.id);
        mvpn_rng_bytes(s->env.rng, h.circuit.b + 4, sizeof(h.circuit.b) - 4);
        MVPN_IGNORE(mvpn_link_send(link, q.packet, &h, false, now)); /* asked again */
    }
}

/* ---- what comes ---- */

static void slot_done(slot *t)
{
    t->is_open = false;
    t->is_asked = false;
}

static void take_listed(sweep *s, slot *t, const mvpn_dht_reply *m, uint64_t unix_now)
{
    for (size_t i = 0; i < m->listed_count; i++) {
        const mvpn_dht_listed *item = &m->listed[i];
        if (mvpn_view_listed(s->env.view, &item->key, item->sequence, s->source, unix_now)) {
            want(s, item);
        }
    }
    if (!m->more || m->listed_count == 0) {
        slot_done(t);
        return;
    }
    /* On from behind the last key; a list that does not move on would never end. */
    mvpn_dht_id next = m->listed[m->listed_count - 1].key;
    unsigned k = MVPN_DHT_ID_LEN;
    while (k > 0 && ++next.b[k - 1] == 0) {
        k--;
    }
    bool is_endless = ++t->pages >= PAGES_MAX || s->wanted_count >= WANTED_MAX;
    bool same_part = next.b[0] >> (8 - LIST_BITS) == t->cursor.b[0] >> (8 - LIST_BITS);
    if (k == 0 || is_endless || !same_part || memcmp(next.b, t->cursor.b, sizeof(next.b)) <= 0) {
        slot_done(t);
        return;
    }
    t->cursor = next;
    t->is_asked = false;
    t->tries = 0;
}

static void take_fetched(sweep *s, slot *t, const mvpn_dht_reply *m, uint64_t unix_now)
{
    mvpn_bytes rest = m->record;
    mvpn_bytes record;
    uint8_t type;
    while (mvpn_dht_fetched_next(&rest, &type, &record) == 0) {
        int r = mvpn_view_put(s->env.view, type, record, s->source, unix_now);
        s->records += r == 0;
        if (r == MVPN_E_AUTH || r == MVPN_E_FORMAT) {
            s->has_failed = true; /* no honest directory holds such a record; each costs us time */
            return;
        }
    }
    if (m->more && ++t->replies < MVPN_DIRECTORY_REPLIES_MAX) {
        return;
    }
    /* Cells may have been lost: what is still wanted is asked for again. */
    size_t left = 0;
    for (size_t i = 0; i < t->count; i++) {
        if (mvpn_view_listed(s->env.view, &t->keys[i].key, t->keys[i].sequence, s->source,
                             unix_now)) {
            t->keys[left++] = t->keys[i];
        }
    }
    t->count = left;
    t->is_asked = false;
    if (left == 0) {
        slot_done(t);
    }
}

static void take_part(sweep *s, slot *t, const mvpn_dht_reply *m)
{
    if (m->total != s->head.size || m->offset != t->offset || m->bytes.n == 0 ||
        m->bytes.n > s->head.size - t->offset) {
        slot_give_up(s, t); /* it has none, or another one */
        return;
    }
    if (s->blob_step == 0) {
        s->blob_step = (uint32_t)m->bytes.n;
        s->blob_next = s->blob_step;
    }
    if (m->bytes.n != MVPN_MIN(s->blob_step, s->head.size - t->offset)) {
        slot_give_up(s, t);
        return;
    }
    memcpy(s->blob + t->offset, m->bytes.p, m->bytes.n);
    s->blob_done += (uint32_t)m->bytes.n;
    slot_done(t);
}

void sweep_reply(sweep *s, uint32_t id, unsigned command, mvpn_bytes body, uint64_t unix_now,
                 mvpn_time now)
{
    mvpn_dht_reply m;
    slot *t = NULL;
    s->unix_now = unix_now;
    for (unsigned i = 0; i < SLOTS; i++) {
        if (s->slots[i].is_asked && s->slots[i].id == id) {
            t = &s->slots[i];
        }
    }
    if (t == NULL || s->phase == PHASE_DONE || mvpn_dht_reply_decode(&m, command, body) != 0) {
        return;
    }
    if (s->phase == PHASE_LIST && command == MVPN_CMD_DHT_LISTED) {
        take_listed(s, t, &m, unix_now);
    } else if (s->phase == PHASE_FETCH && command == MVPN_CMD_DHT_FETCHED) {
        t->sent = now; /* it is at it */
        take_fetched(s, t, &m, unix_now);
    } else if (s->phase == PHASE_BLOB && command == MVPN_CMD_DHT_BLOB_PART) {
        take_part(s, t, &m);
    } else if (command == MVPN_CMD_DHT_ERROR) {
        slot_give_up(s, t);
    }
    advance(s);
}
