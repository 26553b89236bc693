/*
 * The records of our own that are kept stored, and when each is due again. (docs/protocol.md §11.4)
 */
#ifndef MVPN_DHT_PUBLISH_H
#define MVPN_DHT_PUBLISH_H

#include "base/time.h"
#include "dht/contact.h"
#include "wire/record.h"

/* Descriptor, snapshot head, revocation list, one more. */
#define MVPN_DHT_PUBLISH_MAX 4
#define MVPN_DHT_PUBLISH_EVERY MVPN_S(20 * 60)
#define MVPN_DHT_PUBLISH_RETRY MVPN_S(10) /* few keep it; doubles */
#define MVPN_DHT_PUBLISH_FEW (MVPN_DHT_K / 2)

typedef struct mvpn_dht_own {
    mvpn_dht_id key;
    uint8_t type;
    uint16_t len;
    uint8_t *bytes; /* NULL: no record */
    mvpn_time due;
    mvpn_time retry;
    bool is_busy;    /* being stored */
    uint64_t radius; /* of those that keep it, first 64 bits; 0: not stored yet */
} mvpn_dht_own;

typedef struct mvpn_dht_publish_list {
    mvpn_dht_own own[MVPN_DHT_PUBLISH_MAX];
} mvpn_dht_publish_list;

void mvpn_dht_publish_done(mvpn_dht_publish_list *p);
size_t mvpn_dht_publish_memory(const mvpn_dht_publish_list *p);
/** Take a record over, in place of an older one under its key; due now. MVPN_E_LIMIT (4 other
 * keys), MVPN_E_NOMEM, MVPN_E_INVAL (length). */
MVPN_WUR int mvpn_dht_publish_set(mvpn_dht_publish_list *p, unsigned type, const mvpn_dht_id *key,
                                  mvpn_bytes record, mvpn_time now);
/** The record under a key, or NULL. */
mvpn_dht_own *mvpn_dht_publish_find(mvpn_dht_publish_list *p, const mvpn_dht_id *key);
/** One that is due and not being stored, or NULL. */
mvpn_dht_own *mvpn_dht_publish_next(mvpn_dht_publish_list *p, mvpn_time now);
/** It was stored at `count` nodes, the farthest at `radius`. */
void mvpn_dht_publish_stored(mvpn_dht_own *own, size_t count, uint64_t radius, mvpn_rng *rng,
                             mvpn_time now);

#endif
