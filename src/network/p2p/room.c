/*
 * How many links there may be, whose, and which one gives way to a new one. (docs/protocol.md §10)
 *
 * A relay has thousands of links and a new one each few milliseconds: nothing here walks them.
 * Links that could give way, open and neither held nor waiting for an acknowledgement, are in lists
 * by their latest use: in that of the node, and if they are a client's in that of the block that it
 * came from. One that has moved since still counts there.
 */
#include <stdlib.h>

#include "base/assert.h"
#include "network/p2p/internal.h"

#define PREFIX_4 3 /* /24 */
#define PREFIX_6 6 /* /48 */

/* Clients' links from one block of addresses, while there are any. */
struct block {
    mvpn_hash_node node;
    uint8_t key[1 + PREFIX_6]; /* family, prefix */
    size_t count;
    mvpn_list idle; /* the least used first */
};

static struct block *block_find(mvpn_links *links, const uint8_t key[static 1 + PREFIX_6],
                                uint64_t hash)
{
    mvpn_hash_node *n = mvpn_hash_first(&links->blocks, hash);
    for (; n != NULL; n = mvpn_hash_next(n)) {
        struct block *b = MVPN_CONTAINER_OF(n, struct block, node);
        if (memcmp(b->key, key, sizeof(b->key)) == 0) {
            return b;
        }
    }
    return NULL;
}

/* The block of this address; if there is none: a new one, or NULL. */
static struct block *block_of(mvpn_links *links, const mvpn_addr *addr, bool make)
{
    uint8_t key[1 + PREFIX_6] = {addr->family};
    memcpy(key + 1, addr->ip, addr->family == 4 ? PREFIX_4 : PREFIX_6);
    uint64_t hash = mvpn_siphash(&links->sip, key, sizeof(key));
    struct block *b = block_find(links, key, hash);
    if (b == NULL && make && (b = calloc(1, sizeof(*b))) != NULL) {
        memcpy(b->key, key, sizeof(key));
        mvpn_list_init(&b->idle);
        mvpn_hash_insert(&links->blocks, &b->node, hash);
    }
    return b;
}

/* The least used of these, if it has been so for long enough. */
static mvpn_link *give_way(const mvpn_list *idle, bool of_block, mvpn_time now)
{
    if (mvpn_list_is_empty(idle)) {
        return NULL;
    }
    mvpn_link *link = of_block ? MVPN_CONTAINER_OF(idle->next, mvpn_link, in_block)
                               : MVPN_CONTAINER_OF(idle->next, mvpn_link, in_idle);
    return now - link->last_use > GIVE_WAY_AFTER ? link : NULL;
}

bool room_make(mvpn_links *links, const mvpn_addr *client, mvpn_time now)
{
    struct block *b = client != NULL ? block_of(links, client, false) : NULL;
    bool block_is_full = b != NULL && b->count >= links->config.links_max / 4;
    if (links->live_count < links->config.links_max && !block_is_full) {
        return true;
    }
    mvpn_link *victim =
        block_is_full ? give_way(&b->idle, true, now) : give_way(&links->idle, false, now);
    if (victim == NULL) {
        return false;
    }
    mvpn_link_close(victim, CLOSE_FINISHED, now);
    return true;
}

int room_enter(mvpn_link *link, const mvpn_addr *client)
{
    if (client != NULL) {
        link->block = block_of(link->links, client, true);
        if (link->block == NULL) {
            return MVPN_E_NOMEM;
        }
        link->block->count++;
    }
    link->links->live_count++;
    return 0;
}

void room_leave(mvpn_link *link)
{
    struct block *b = link->block;
    mvpn_list_remove(&link->in_idle);
    mvpn_list_remove(&link->in_block);
    link->links->live_count--;
    link->block = NULL;
    if (b != NULL && --b->count == 0) {
        mvpn_hash_remove(&link->links->blocks, &b->node);
        free(b);
    }
}

void room_changed(mvpn_link *link)
{
    bool was_idle = mvpn_list_is_linked(&link->in_idle);
    bool is_idle = link->state == LINK_OPEN && link->holds == 0 && link->acked_count == 0;
    if (is_idle && !was_idle) {
        mvpn_list_append(&link->links->idle, &link->in_idle);
        if (link->block != NULL) {
            mvpn_list_append(&link->block->idle, &link->in_block);
        }
    } else if (!is_idle && was_idle) {
        mvpn_list_remove(&link->in_idle);
        mvpn_list_remove(&link->in_block);
    }
}

void room_used(mvpn_link *link, mvpn_time now)
{
    link->last_use = now;
    if (MVPN_UNLIKELY(mvpn_list_is_linked(&link->in_idle))) {
        mvpn_list_remove(&link->in_idle);
        mvpn_list_append(&link->links->idle, &link->in_idle);
        if (link->block != NULL) {
            mvpn_list_remove(&link->in_block);
            mvpn_list_append(&link->block->idle, &link->in_block);
        }
    }
}
