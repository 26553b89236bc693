#include "dht/storage.h"

#include <stdlib.h>

#define SIZE_MIN 8

void mvpn_dht_storage_init(mvpn_dht_storage *s, const mvpn_dht_id *self, size_t count_max,
                           size_t bytes_max)
{
    *s = (mvpn_dht_storage){
        .self = *self,
        .count_max = count_max != 0 ? count_max : MVPN_DHT_RECORDS_MAX,
        .bytes_max = bytes_max != 0 ? bytes_max : MVPN_DHT_RECORDS_BYTES,
    };
}

void mvpn_dht_storage_done(mvpn_dht_storage *s)
{
    for (size_t i = 0; i < s->count; i++) {
        free(s->records[i]);
    }
    free(s->records);
    *s = (mvpn_dht_storage){0};
}

size_t mvpn_dht_storage_memory(const mvpn_dht_storage *s)
{
    return s->size * sizeof(*s->records) + s->count * sizeof(mvpn_dht_record) + s->bytes;
}

/* The first place whose key is not below. */
static size_t lower_bound(const mvpn_dht_storage *s, const uint8_t *key)
{
    size_t from = 0, to = s->count;
    while (from < to) {
        size_t middle = from + (to - from) / 2;
        if (memcmp(s->records[middle]->key.b, key, MVPN_DHT_ID_LEN) < 0) {
            from = middle + 1;
        } else {
            to = middle;
        }
    }
    return from;
}

static mvpn_dht_record *at_key(const mvpn_dht_storage *s, size_t at, const mvpn_dht_id *key)
{
    return at < s->count && mvpn_dht_id_eq(&s->records[at]->key, key) ? s->records[at] : NULL;
}

static void take_out(mvpn_dht_storage *s, size_t at)
{
    s->bytes -= s->records[at]->len;
    free(s->records[at]);
    s->count--;
    memmove(&s->records[at], &s->records[at + 1], (s->count - at) * sizeof(*s->records));
}

/* The keys are sorted, so each bit splits a range in two: keep to the side that differs from the
 * own id. */
static size_t farthest(const mvpn_dht_storage *s)
{
    size_t from = 0, to = s->count;
    mvpn_dht_id edge = s->records[0]->key;
    for (unsigned bit = 0; bit < MVPN_DHT_ID_BITS && to - from > 1; bit++) {
        uint8_t mask = (uint8_t)(0x80 >> bit % 8);
        edge = s->records[from]->key;
        edge.b[bit / 8] = (uint8_t)((edge.b[bit / 8] | mask) & ~(mask - 1));
        memset(edge.b + bit / 8 + 1, 0, MVPN_DHT_ID_LEN - bit / 8 - 1);
        size_t split = lower_bound(s, edge.b); /* the first with this bit set */
        bool wants_ones = !(s->self.b[bit / 8] & mask);
        if (wants_ones && split < to) {
            from = MVPN_MAX(split, from);
        } else if (!wants_ones && split > from) {
            to = MVPN_MIN(split, to);
        }
    }
    return from;
}

static bool is_full(const mvpn_dht_storage *s, size_t len)
{
    return s->count >= s->count_max || s->bytes + len > s->bytes_max;
}

static bool make_room(mvpn_dht_storage *s, const mvpn_dht_id *key, size_t len)
{
    while (is_full(s, len)) {
        size_t at = s->count > 0 ? farthest(s) : 0;
        if (s->count == 0 || mvpn_dht_compare(&s->self, key, &s->records[at]->key) >= 0) {
            return false;
        }
        take_out(s, at);
        s->evicted++;
    }
    if (s->count == s->size) {
        size_t size = MVPN_MAX(s->size * 2, (size_t)SIZE_MIN);
        mvpn_dht_record **records = realloc(s->records, size * sizeof(*records));
        if (records == NULL) {
            return false;
        }
        s->records = records;
        s->size = size;
    }
    return true;
}

static mvpn_dht_record *make_record(unsigned type, const mvpn_record_info *info, mvpn_bytes bytes,
                                    mvpn_time now)
{
    mvpn_dht_record *r = malloc(sizeof(*r) + bytes.n);
    if (r != NULL) {
        *r = (mvpn_dht_record){.key = info->key,
                               .sequence = info->sequence,
                               .expires = info->expires,
                               .stored = now,
                               .republish_at = MVPN_TIME_NEVER,
                               .type = (uint8_t)type,
                               .len = (uint16_t)bytes.n};
        memcpy(r->bytes, bytes.p, bytes.n);
    }
    return r;
}

enum mvpn_dht_stored mvpn_dht_storage_put(mvpn_dht_storage *s, unsigned type,
                                          const mvpn_record_info *info, mvpn_bytes record,
                                          mvpn_time now, mvpn_dht_record **ret_record)
{
    mvpn_dht_record *old = at_key(s, lower_bound(s, info->key.b), &info->key);
    *ret_record = old;
    if (old != NULL && old->sequence >= info->sequence) {
        if (old->sequence == info->sequence) { /* the first seen stays, and lives on */
            old->stored = now;
        }
        return MVPN_DHT_STORED_OLD;
    }
    if (record.n == 0 || record.n > MVPN_DHT_RECORD_MAX) {
        return MVPN_DHT_STORED_REFUSED;
    }
    mvpn_dht_record *fresh = make_record(type, info, record, now);
    if (fresh == NULL) {
        return MVPN_DHT_STORED_FULL;
    }
    if (old != NULL) {
        take_out(s, lower_bound(s, info->key.b));
        *ret_record = NULL;
    }
    if (!make_room(s, &info->key, record.n)) {
        free(fresh);
        return MVPN_DHT_STORED_FULL;
    }
    size_t at = lower_bound(s, info->key.b);
    memmove(&s->records[at + 1], &s->records[at], (s->count - at) * sizeof(*s->records));
    s->records[at] = fresh;
    s->count++;
    s->bytes += fresh->len;
    *ret_record = fresh;
    return MVPN_DHT_STORED;
}

mvpn_dht_record *mvpn_dht_storage_get(const mvpn_dht_storage *s, const mvpn_dht_id *key,
                                      uint64_t unix_now)
{
    mvpn_dht_record *r = at_key(s, lower_bound(s, key->b), key);
    return r != NULL && r->expires > unix_now ? r : NULL;
}

size_t mvpn_dht_storage_list(const mvpn_dht_storage *s, const mvpn_dht_id *cursor, unsigned bits,
                             uint64_t unix_now, mvpn_dht_listed *ret, size_t max, bool *ret_more)
{
    size_t n = 0;
    *ret_more = false;
    for (size_t at = lower_bound(s, cursor->b); at < s->count; at++) {
        const mvpn_dht_record *r = s->records[at];
        if (mvpn_dht_common_bits(&r->key, cursor) < bits) {
            break;
        }
        if (r->expires <= unix_now) {
            continue;
        }
        if (n == max) {
            *ret_more = true;
            break;
        }
        ret[n++] = (mvpn_dht_listed){r->key, r->sequence};
    }
    return n;
}

bool mvpn_dht_record_is_over(const mvpn_dht_record *record, mvpn_time now, uint64_t unix_now)
{
    mvpn_time keep =
        record->type == MVPN_RECORD_REVOCATIONS ? MVPN_DHT_KEEP_REVOCATIONS : MVPN_DHT_KEEP;
    return record->expires <= unix_now || now >= record->stored + keep;
}

void mvpn_dht_storage_sweep(mvpn_dht_storage *s,
                            bool (*drop)(void *ctx, const mvpn_dht_record *record), void *ctx)
{
    size_t kept = 0;
    for (size_t i = 0; i < s->count; i++) {
        mvpn_dht_record *r = s->records[i];
        if (drop(ctx, r)) {
            s->bytes -= r->len;
            free(r);
        } else {
            s->records[kept++] = r;
        }
    }
    s->count = kept;
}
