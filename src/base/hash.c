#include "base/hash.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/error.h"

int mvpn_hash_init(mvpn_hash *table, size_t expected)
{
    size_t n = 16;
    while (n < expected) {
        n *= 2;
    }
    mvpn_hash_node **buckets = calloc(n, sizeof(*buckets));
    if (buckets == NULL) {
        return MVPN_E_NOMEM;
    }
    *table = (mvpn_hash){.buckets = buckets, .mask = n - 1};
    return 0;
}

void mvpn_hash_done(mvpn_hash *table)
{
    free(table->buckets);
    *table = (mvpn_hash){0};
}

static void grow(mvpn_hash *table)
{
    size_t n = (table->mask + 1) * 2;
    mvpn_hash_node **buckets = calloc(n, sizeof(*buckets));
    if (buckets == NULL) {
        return;
    }
    for (size_t i = 0; i <= table->mask; i++) {
        mvpn_hash_node *node = table->buckets[i];
        while (node != NULL) {
            mvpn_hash_node *next = node->next;
            mvpn_hash_node **at = &buckets[node->hash & (n - 1)];
            node->next = *at;
            *at = node;
            node = next;
        }
    }
    free(table->buckets);
    table->buckets = buckets;
    table->mask = n - 1;
}

void mvpn_hash_insert(mvpn_hash *table, mvpn_hash_node *node, uint64_t hash)
{
    if (table->count > table->mask) {
        grow(table);
    }
    mvpn_hash_node **at = &table->buckets[hash & table->mask];
    node->hash = hash;
    node->next = *at;
    *at = node;
    table->count++;
}

void mvpn_hash_remove(mvpn_hash *table, mvpn_hash_node *node)
{
    mvpn_hash_node **at = &table->buckets[node->hash & table->mask];
    while (*at != node) {
        MVPN_ASSERT(*at != NULL);
        at = &(*at)->next;
    }
    *at = node->next;
    node->next = NULL;
    table->count--;
}
