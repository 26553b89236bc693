/*
 * Intrusive chained hash table. The caller computes the 64-bit hash (with a secret key where a
 * remote chooses the input) and compares keys itself.
 */
#ifndef MVPN_BASE_HASH_H
#define MVPN_BASE_HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"

typedef struct mvpn_hash_node {
    struct mvpn_hash_node *next;
    uint64_t hash;
} mvpn_hash_node;

typedef struct mvpn_hash {
    mvpn_hash_node **buckets;
    size_t mask; /* bucket count - 1; the count is a power of two */
    size_t count;
} mvpn_hash;

/** Make a table for about `expected` entries; it grows by itself. MVPN_E_NOMEM. */
MVPN_WUR int mvpn_hash_init(mvpn_hash *table, size_t expected);
/** Free the buckets; the entries are the caller's. */
void mvpn_hash_done(mvpn_hash *table);

/** Link `node` under `hash`. Never fails: if growing fails, chains get longer. */
void mvpn_hash_insert(mvpn_hash *table, mvpn_hash_node *node, uint64_t hash);
/** Unlink `node`, which must be in the table. */
void mvpn_hash_remove(mvpn_hash *table, mvpn_hash_node *node);

/** First node with this hash, or NULL; the caller compares the key and goes on with _next. */
static inline mvpn_hash_node *mvpn_hash_first(const mvpn_hash *table, uint64_t hash)
{
    mvpn_hash_node *n = table->buckets[hash & table->mask];
    while (n != NULL && n->hash != hash) {
        n = n->next;
    }
    return n;
}

static inline mvpn_hash_node *mvpn_hash_next(const mvpn_hash_node *node)
{
    mvpn_hash_node *n = node->next;
    while (n != NULL && n->hash != node->hash) {
        n = n->next;
    }
    return n;
}

#endif
