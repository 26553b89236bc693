/*
 * The signed records that a server keeps for others, by key in order. Bounded in number and bytes;
 * when full, the record farthest from the own id gives way to a nearer one. (docs/protocol.md
 * §11.4) Verifying is the caller's: what comes here has been judged.
 */
#ifndef MVPN_DHT_STORAGE_H
#define MVPN_DHT_STORAGE_H

#include "base/time.h"
#include "dht/contact.h"
#include "wire/record.h"

/* §11.4: dropped so long after the last Store. */
#define MVPN_DHT_KEEP MVPN_S(2 * 3600)
#define MVPN_DHT_KEEP_REVOCATIONS MVPN_S(26 * 3600)
#define MVPN_DHT_RECORDS_MAX 16384
#define MVPN_DHT_RECORDS_BYTES (8u << 20)

typedef struct mvpn_dht_record {
    mvpn_dht_id key;
    uint64_t sequence;
    uint64_t expires;       /* Unix seconds */
    mvpn_time stored;       /* last Store */
    mvpn_time republish_at; /* by us, if nobody else has until then */
    uint8_t type;
    uint16_t len;
    uint8_t bytes[];
} mvpn_dht_record;

typedef struct mvpn_dht_storage {
    mvpn_dht_id self;
    mvpn_dht_record **records; /* ascending by key */
    size_t count, size;
    size_t bytes; /* of the records themselves */
    size_t count_max, bytes_max;
    uint64_t evicted;
} mvpn_dht_storage;

void mvpn_dht_storage_init(mvpn_dht_storage *s, const mvpn_dht_id *self, size_t count_max,
                           size_t bytes_max);
void mvpn_dht_storage_done(mvpn_dht_storage *s);
size_t mvpn_dht_storage_memory(const mvpn_dht_storage *s);

/**
 * Keep a verified record. `now` counts as its Store, also if the same is held already.
 * Returns mvpn_dht_stored; `*ret_record` the record held under the key now, or NULL.
 */
enum mvpn_dht_stored mvpn_dht_storage_put(mvpn_dht_storage *s, unsigned type,
                                          const mvpn_record_info *info, mvpn_bytes record,
                                          mvpn_time now, mvpn_dht_record **ret_record);
/** The record under a key, unless it has expired; NULL if none. */
mvpn_dht_record *mvpn_dht_storage_get(const mvpn_dht_storage *s, const mvpn_dht_id *key,
                                      uint64_t unix_now);
/** Keys from `cursor` on, ascending, that share its first `bits` bits. `*ret_more`: there were
 * more than `max`. */
size_t mvpn_dht_storage_list(const mvpn_dht_storage *s, const mvpn_dht_id *cursor, unsigned bits,
                             uint64_t unix_now, mvpn_dht_listed *ret, size_t max, bool *ret_more);
/** Is its time over? */
bool mvpn_dht_record_is_over(const mvpn_dht_record *record, mvpn_time now, uint64_t unix_now);
/** Drop all records for which `drop` holds. */
void mvpn_dht_storage_sweep(mvpn_dht_storage *s,
                            bool (*drop)(void *ctx, const mvpn_dht_record *record), void *ctx);

#endif
