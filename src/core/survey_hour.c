#include <stdlib.h>
#include <string.h>

#include "base/cursor.h"
#include "base/error.h"
#include "core/survey_internal.h"

/* A snapshot is made only while somebody answers us... */
#define FRESH_TIME MVPN_S(300)
/* ... and after each relay was checked, or so long after the start. */
#define FIRST_ROUND_TIME MVPN_S(600)

/* ---- snapshots ---- */

static int compare_entries(const void *a, const void *b)
{
    const mvpn_snapshot_entry *x = a, *y = b;
    return memcmp(x->key.b, y->key.b, sizeof(x->key.b));
}

static uint8_t log2_of(uint32_t kbit)
{
    uint8_t n = 0;
    if (kbit == 0) {
        return MVPN_SNAPSHOT_UNMEASURED;
    }
    while (kbit >>= 1) {
        n++;
    }
    return n;
}

static void describe(const mvpn_survey *s, const mvpn_descriptor *d, uint64_t unix_now,
                     mvpn_snapshot_entry *ret)
{
    mvpn_key digest;
    *ret = (mvpn_snapshot_entry){.bandwidth_log2 = MVPN_SNAPSHOT_UNMEASURED};
    mvpn_record_key(ret->key.b, &s->cfg.env.realm.network_id, &d->identity);
    mvpn_descriptor_digest(&digest, d);
    memcpy(ret->digest, digest.b, sizeof(ret->digest));
    const survey_entry *e = survey_find(s, &d->identity);
    if (e != NULL) {
        ret->bandwidth_log2 = log2_of(mvpn_survey_relay_kbit(&e->relay));
        ret->flags = (e->relay.up_since != 0 ? MVPN_SNAPSHOT_ALIVE : 0) |
                     (e->relay.country_wrong ? MVPN_SNAPSHOT_COUNTRY_WRONG : 0);
        ret->uptime_h = mvpn_survey_relay_uptime_h(&e->relay, unix_now);
    } else if (survey_is_self(s, &d->identity)) {
        ret->flags = MVPN_SNAPSHOT_ALIVE;
    }
}

/* All relays of the view, ascending; owned by the caller. NULL without memory. */
static mvpn_snapshot_entry *collect(const mvpn_survey *s, uint64_t unix_now, size_t *ret_count)
{
    const mvpn_view *view = s->cfg.env.view;
    size_t max = MVPN_MIN(mvpn_view_count(view), (size_t)MVPN_SNAPSHOT_ENTRIES_MAX);
    size_t count = 0;
    mvpn_snapshot_entry *list = calloc(max + 1, sizeof(*list));
    for (size_t i = 0; list != NULL && i < mvpn_view_count(view) && count < max; i++) {
        const mvpn_descriptor *d = mvpn_view_at(view, i);
        if (d->roles != 0 && d->expires > unix_now) {
            describe(s, d, unix_now, &list[count++]);
        }
    }
    if (list != NULL) {
        qsort(list, count, sizeof(*list), compare_entries);
    }
    *ret_count = count;
    return list;
}

static void snapshot_drop(survey_snapshot *sn)
{
    free(sn->bytes);
    *sn = (survey_snapshot){.bytes = NULL};
}

static int snapshot_make(const mvpn_survey *s, uint64_t hour, uint64_t unix_now,
                         survey_snapshot *ret)
{
    size_t count;
    mvpn_snapshot_entry *list = collect(s, unix_now, &count);
    size_t size = MVPN_SNAPSHOT_FIXED + count * MVPN_SNAPSHOT_ENTRY_LEN;
    uint8_t *bytes = list == NULL ? NULL : malloc(size);
    if (bytes == NULL) {
        free(list);
        return MVPN_E_NOMEM;
    }
    mvpn_snapshot_begin(bytes, &s->cfg.identity, hour, (uint32_t)count);
    for (size_t i = 0; i < count; i++) {
        mvpn_snapshot_entry_encode(bytes + MVPN_SNAPSHOT_FIXED + i * MVPN_SNAPSHOT_ENTRY_LEN,
                                   &list[i]);
    }
    free(list);
    *ret = (survey_snapshot){
        .bytes = bytes,
        .head = {.identity = s->cfg.identity,
                 .hour = hour,
                 .entries = (uint32_t)count,
                 .size = (uint32_t)size,
                 .has_membership = s->cfg.has_membership},
    };
    memcpy(ret->head.membership, s->cfg.membership, sizeof(ret->head.membership));
    mvpn_snapshot_digest(&ret->head.digest, mvpn_bytes_of(bytes, size));
    int r = mvpn_snapshot_head_sign(&ret->head, &s->cfg.secret, &s->cfg.env.realm.network_id);
    if (r != 0) {
        snapshot_drop(ret);
    }
    return r;
}

static void publish(mvpn_survey *s)
{
    snapshot_drop(&s->published[MVPN_SURVEY_SNAPSHOTS - 1]);
    memmove(&s->published[1], &s->published[0], sizeof(s->published) - sizeof(s->published[0]));
    s->published[0] = s->made;
    s->made = (survey_snapshot){.bytes = NULL};
    s->is_new = true;
    s->counters.snapshots++;
}

static bool first_round_is_over(const mvpn_survey *s, mvpn_time now)
{
    if (now - s->started >= FIRST_ROUND_TIME) {
        return true;
    }
    MVPN_LIST_FOREACH(it, &s->entries)
    {
        const survey_entry *e = MVPN_CONTAINER_OF(it, survey_entry, link);
        if (e->is_listed && e->relay.last_checked < survey_unix(s, s->started)) {
            return false;
        }
    }
    return s->listed > 0;
}

/* Once an hour; what was shown for an hour is never replaced. */
void survey_make_snapshot(mvpn_survey *s, mvpn_time now)
{
    uint64_t unix_now = survey_unix(s, now);
    uint64_t hour = unix_now / 3600;
    bool is_fresh = s->last_answer != 0 && now - s->last_answer < FRESH_TIME;
    if (hour <= s->last_hour || !is_fresh || !first_round_is_over(s, now)) {
        return;
    }
    snapshot_drop(&s->made); /* of an hour that passed before it could be saved */
    if (snapshot_make(s, hour, unix_now, &s->made) != 0) {
        return; /* tried again at the next step */
    }
    s->last_hour = hour;
    if (!s->cfg.must_save) {
        publish(s);
    }
}

bool mvpn_survey_wants_saving(const mvpn_survey *s)
{
    return s->made.bytes != NULL;
}

void mvpn_survey_saved(mvpn_survey *s)
{
    if (s->made.bytes != NULL) {
        publish(s);
    }
}

const mvpn_snapshot_head *mvpn_survey_head(const mvpn_survey *s, size_t index)
{
    return index < MVPN_SURVEY_SNAPSHOTS && s->published[index].bytes != NULL
               ? &s->published[index].head
               : NULL;
}

mvpn_bytes mvpn_survey_snapshot(const mvpn_survey *s, size_t index)
{
    const mvpn_snapshot_head *head = mvpn_survey_head(s, index);
    return head == NULL ? MVPN_BYTES_NONE : mvpn_bytes_of(s->published[index].bytes, head->size);
}

bool mvpn_survey_take_new(mvpn_survey *s)
{
    bool is_new = s->is_new;
    s->is_new = false;
    return is_new;
}

void survey_drop_snapshots(mvpn_survey *s)
{
    snapshot_drop(&s->made);
    for (size_t i = 0; i < MVPN_SURVEY_SNAPSHOTS; i++) {
        snapshot_drop(&s->published[i]);
    }
}

/* ---- the file ---- */

/*
 * [magic 8] [hour of the latest snapshot 8] [check 8], the snapshot: [head length 2] [snapshot
 * length 4] [check 8] [head] [snapshot], relays: [RELAY_LEN bytes, the last 8 a check] each.
 * Checks are SipHash with a fixed key: against damage, not against who may write the file.
 */
#define MAGIC "mvpnsv01"
#define FIXED_LEN 24
#define SNAPSHOT_FIXED_LEN 14
#define RELAY_LEN (32 + 5 * 8 + 3 * 4 + 1 + 4 * MVPN_SURVEY_SAMPLES + 8)

static uint64_t check_of(const uint8_t *p, size_t n)
{
    static const mvpn_siphash_key key = {"mvpn survey file"};
    return mvpn_siphash(&key, p, n);
}

/* The one that is on its way, else the one published last. */
static const survey_snapshot *latest(const mvpn_survey *s)
{
    return s->made.bytes != NULL ? &s->made : &s->published[0];
}

size_t mvpn_survey_save_size(const mvpn_survey *s)
{
    const survey_snapshot *sn = latest(s);
    return FIXED_LEN + SNAPSHOT_FIXED_LEN + sn->head.encoded_len + sn->head.size +
           s->table.count * RELAY_LEN;
}

static void write_relay(mvpn_writer *w, const mvpn_survey_relay *r)
{
    uint8_t *start = w->p;
    mvpn_write_bytes(w, r->identity.b, sizeof(r->identity.b));
    mvpn_write64(w, r->first_seen);
    mvpn_write64(w, r->last_checked);
    mvpn_write64(w, r->last_answered);
    mvpn_write64(w, r->up_since);
    mvpn_write64(w, r->measured);
    mvpn_write32(w, r->checks);
    mvpn_write32(w, r->answers);
    mvpn_write32(w, r->rtt_us);
    mvpn_write8(w, r->samples);
    for (size_t i = 0; i < MVPN_SURVEY_SAMPLES; i++) {
        mvpn_write32(w, i < r->samples ? r->kbit[i] : 0);
    }
    mvpn_write64(w, check_of(start, RELAY_LEN - 8));
}

size_t mvpn_survey_save(const mvpn_survey *s, uint8_t *out, size_t size)
{
    const survey_snapshot *sn = latest(s);
    if (size < mvpn_survey_save_size(s)) {
        return 0;
    }
    mvpn_writer w = mvpn_writer_init(out, size);
    mvpn_write_bytes(&w, MAGIC, 8);
    mvpn_write64(&w, s->last_hour);
    mvpn_write64(&w, check_of(out, 16));
    mvpn_write16(&w, sn->head.encoded_len);
    mvpn_write32(&w, sn->head.size);
    mvpn_write64(&w, check_of(w.p - 6, 6));
    mvpn_write_bytes(&w, sn->head.encoded, sn->head.encoded_len);
    mvpn_write_bytes(&w, sn->bytes, sn->head.size);
    MVPN_LIST_FOREACH(it, &s->entries)
    {
        write_relay(&w, &MVPN_CONTAINER_OF(it, survey_entry, link)->relay);
    }
    return mvpn_writer_len(&w);
}

static void take_snapshot(mvpn_survey *s, mvpn_bytes head_bytes, mvpn_bytes bytes,
                          uint64_t unix_now)
{
    mvpn_snapshot_head head;
    bool is_ours =
        mvpn_snapshot_head_decode(&head, head_bytes, &s->cfg.env.realm.network_id) == 0 &&
        survey_is_self(s, &head.identity) && head.hour <= unix_now / 3600 &&
        mvpn_snapshot_check(bytes, &head) == 0;
    uint8_t *copy = is_ours ? malloc(bytes.n) : NULL;
    if (copy == NULL) {
        return;
    }
    memcpy(copy, bytes.p, bytes.n);
    snapshot_drop(&s->published[0]);
    s->published[0] = (survey_snapshot){.head = head, .bytes = copy};
    s->is_new = true; /* the DHT and the view have to hear of it again */
}

static bool take_relay(mvpn_survey *s, const uint8_t *p, uint64_t unix_now)
{
    mvpn_survey_relay r = {.first_seen = 0};
    mvpn_reader in = mvpn_reader_init(mvpn_bytes_of(p, RELAY_LEN));
    mvpn_read_copy(&in, r.identity.b, sizeof(r.identity.b));
    r.first_seen = mvpn_read64(&in);
    r.last_checked = mvpn_read64(&in);
    r.last_answered = mvpn_read64(&in);
    r.up_since = mvpn_read64(&in);
    r.measured = mvpn_read64(&in);
    r.checks = mvpn_read32(&in);
    r.answers = mvpn_read32(&in);
    r.rtt_us = mvpn_read32(&in);
    r.samples = mvpn_read8(&in);
    for (size_t i = 0; i < MVPN_SURVEY_SAMPLES; i++) {
        r.kbit[i] = mvpn_read32(&in);
    }
    if (mvpn_read64(&in) != check_of(p, RELAY_LEN - 8) || r.samples > MVPN_SURVEY_SAMPLES ||
        survey_find(s, &r.identity) != NULL) {
        return false;
    }
    survey_entry *e = survey_add(s, &r.identity);
    if (e == NULL) {
        return false;
    }
    e->relay = r;
    e->last_listed = MVPN_MIN(r.last_checked, unix_now);
    s->alive += r.up_since != 0;
    return true;
}

size_t mvpn_survey_load(mvpn_survey *s, mvpn_bytes saved, mvpn_time now)
{
    size_t count = 0;
    mvpn_reader r = mvpn_reader_init(saved);
    mvpn_bytes fixed = mvpn_read_bytes(&r, FIXED_LEN);
    mvpn_bytes lengths = mvpn_read_bytes(&r, SNAPSHOT_FIXED_LEN);
    uint64_t unix_now = survey_unix(s, now);
    if (fixed.n == FIXED_LEN && memcmp(fixed.p, MAGIC, 8) == 0 &&
        mvpn_load64(fixed.p + 16) == check_of(fixed.p, 16)) {
        /* A file from the future (the clock was wrong) must not silence us for ever. */
        s->last_hour = MVPN_MIN(mvpn_load64(fixed.p + 8), unix_now / 3600);
    } else {
        return 0;
    }
    if (lengths.n != SNAPSHOT_FIXED_LEN || mvpn_load64(lengths.p + 6) != check_of(lengths.p, 6)) {
        return 0;
    }
    mvpn_bytes head = mvpn_read_bytes(&r, mvpn_load16(lengths.p));
    mvpn_bytes bytes = mvpn_read_bytes(&r, mvpn_load32(lengths.p + 2));
    if (head.n > 0 && bytes.n > 0) {
        take_snapshot(s, head, bytes, unix_now);
    }
    for (;;) {
        const uint8_t *p = mvpn_read_raw(&r, RELAY_LEN);
        if (p == NULL) {
            return count;
        }
        count += take_relay(s, p, unix_now);
    }
}
