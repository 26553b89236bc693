#include "dht/walk.h"

#include <stdlib.h>

#include "base/error.h"

/* So many servers per prefix or fewer; half of it or more. */
#define PER_PREFIX 12

void mvpn_dht_walk_done(mvpn_dht_walk *w)
{
    free(w->known);
    *w = (mvpn_dht_walk){0};
}

size_t mvpn_dht_walk_memory(const mvpn_dht_walk *w)
{
    return w->known != NULL ? sizeof(*w->known) << w->bits : 0;
}

static uint32_t index_of(const mvpn_dht_walk *w, const mvpn_dht_id *id)
{
    return w->bits > 0 ? mvpn_load32(id->b) >> (32 - w->bits) : 0;
}

int mvpn_dht_walk_begin(mvpn_dht_walk *w, uint64_t nodes, mvpn_rng *rng)
{
    unsigned bits = 0;
    while (bits < MVPN_DHT_WALK_BITS_MAX && nodes >> bits >= PER_PREFIX) {
        bits++;
    }
    if (w->known == NULL || bits != w->bits) {
        mvpn_dht_walk old = *w;
        w->known = calloc((size_t)1 << bits, sizeof(*w->known));
        if (w->known == NULL) {
            w->known = old.known;
            return MVPN_E_NOMEM;
        }
        w->bits = bits;
        for (size_t i = 0; old.known != NULL && i >> old.bits == 0; i++) {
            for (size_t k = 0; k < MVPN_DHT_WALK_CONTACTS; k++) {
                if (old.known[i][k].addr.family != 0) {
                    mvpn_dht_walk_learn(w, &old.known[i][k]);
                }
            }
        }
        free(old.known);
    }
    w->at = 0;
    w->mask = mvpn_rng_below(rng, 1u << bits);
    w->is_busy = w->is_paused = false;
    if (w->pass == 0) {
        w->interval = MVPN_DHT_WALK_FIRST_STEP;
    } else {
        w->interval = MVPN_MAX(MVPN_DHT_WALK_STEP, MVPN_DHT_WALK_PASS_MIN >> bits);
    }
    return 0;
}

void mvpn_dht_walk_prefix(const mvpn_dht_walk *w, mvpn_dht_id *ret)
{
    *ret = (mvpn_dht_id){{0}};
    if (w->bits > 0) {
        mvpn_store32(ret->b, (w->at ^ w->mask) << (32 - w->bits));
    }
}

bool mvpn_dht_walk_has_prefix(const mvpn_dht_walk *w, const mvpn_dht_id *id)
{
    return index_of(w, id) == (w->at ^ w->mask);
}

void mvpn_dht_walk_learn(mvpn_dht_walk *w, const mvpn_dht_contact *c)
{
    mvpn_dht_contact *place = NULL;
    for (size_t k = 0; k < MVPN_DHT_WALK_CONTACTS; k++) {
        mvpn_dht_contact *known = &w->known[index_of(w, &c->id)][k];
        if (known->addr.family == 0) {
            place = place == NULL ? known : place;
        } else if (mvpn_dht_same_block(&known->addr, &c->addr)) {
            return; /* the other one shall belong to somebody else */
        }
    }
    if (place != NULL) {
        *place = *c;
    }
}

bool mvpn_dht_walk_choose(const mvpn_dht_walk *w, mvpn_dht_contact *ret)
{
    for (size_t k = 0; k < MVPN_DHT_WALK_CONTACTS; k++) {
        const mvpn_dht_contact *c =
            &w->known[w->at ^ w->mask][(k + w->pass) % MVPN_DHT_WALK_CONTACTS];
        if (c->addr.family != 0) {
            *ret = *c;
            return true;
        }
    }
    return false;
}

void mvpn_dht_walk_forget(mvpn_dht_walk *w, const mvpn_dht_id *id)
{
    for (size_t k = 0; w->known != NULL && k < MVPN_DHT_WALK_CONTACTS; k++) {
        mvpn_dht_contact *c = &w->known[index_of(w, id)][k];
        if (mvpn_dht_id_eq(&c->id, id)) {
            *c = (mvpn_dht_contact){.addr = {.family = 0}};
        }
    }
}
