#include "base/error.h"
#include "dht/internal.h"
#include "wire/message.h"

/* Contacts tried for one prefix before it is left for the next pass. */
#define TRIES_MAX 5
/* The owner does not pull events, or there is nobody to ask. */
#define WALK_WAIT MVPN_S(1)

static void arm(mvpn_dht *dht, mvpn_time at)
{
    mvpn_timer_set(&dht->timers, &dht->walk_timer, at);
}

/* The prefix is done, well or not. */
static void step_over(mvpn_dht *dht, mvpn_time now)
{
    mvpn_dht_walk *w = &dht->walk;
    w->is_busy = false;
    w->at++;
    arm(dht, MVPN_MAX(now, w->step_began + mvpn_rng_jitter(dht->config.rng, w->interval, 10)));
}

static void send_list(mvpn_dht *dht, const mvpn_dht_contact *to, mvpn_time now)
{
    mvpn_dht_pending *p = mvpn_dht_send(dht, MVPN_DHT_FOR_WALK_LIST, to, NULL, now);
    if (p == NULL) {
        step_over(dht, now);
        return;
    }
    p->key = dht->walk.cursor;
}

static void send_find(mvpn_dht *dht, const mvpn_dht_contact *to, mvpn_time now)
{
    mvpn_dht_pending *p = mvpn_dht_send(dht, MVPN_DHT_FOR_WALK_FIND, to, NULL, now);
    if (p == NULL) {
        step_over(dht, now);
        return;
    }
    mvpn_dht_walk_prefix(&dht->walk, &p->key);
    mvpn_dht_id_random(&p->key, dht->config.rng, &p->key, dht->walk.bits, false);
}

/* Ask whoever is known under the prefix; else look for somebody there. */
static void try_prefix(mvpn_dht *dht, mvpn_time now)
{
    mvpn_dht_walk *w = &dht->walk;
    const mvpn_dht_peer *near[MVPN_DHT_K];
    mvpn_dht_contact c;
    if (w->tries++ >= TRIES_MAX) {
        step_over(dht, now);
        return;
    }
    if (mvpn_dht_walk_choose(w, &c)) {
        send_list(dht, &c, now);
        return;
    }
    size_t n = mvpn_dht_routing_closest(&dht->routing, &w->cursor, NULL, true, MVPN_DHT_K, near);
    if (n == 0) {
        step_over(dht, now);
        return;
    }
    bool has_any = false;
    for (size_t i = 0; i < n; i++) {
        if (mvpn_dht_walk_has_prefix(w, &near[i]->contact.id)) {
            mvpn_dht_walk_learn(w, &near[i]->contact);
            has_any = true;
        }
    }
    if (has_any && mvpn_dht_walk_choose(w, &c)) {
        send_list(dht, &c, now);
    } else if (w->tries >= TRIES_MAX - 1 || w->bits == 0) {
        send_list(dht, &near[0]->contact, now); /* nobody has this prefix; its neighbours keep it */
    } else {
        send_find(dht, &near[(w->tries - 1) % n]->contact, now);
    }
}

void mvpn_dht_walk_tick(mvpn_dht *dht, mvpn_time now)
{
    mvpn_dht_walk *w = &dht->walk;
    if (w->is_busy && !w->is_paused) {
        return; /* its answer or time-out comes */
    }
    if (!mvpn_dht_events_have_room(dht) || dht->routing.count == 0) {
        arm(dht, now + WALK_WAIT);
        return;
    }
    if (w->is_paused) {
        w->is_paused = false;
        try_prefix(dht, now);
        return;
    }
    if (w->known == NULL || mvpn_dht_walk_is_round(w)) {
        if (w->known != NULL) {
            mvpn_dht_event e;
            memset(&e, 0, sizeof(e));
            e.type = MVPN_DHT_EVENT_WALK_DONE;
            e.count = (size_t)1 << w->bits;
            e.nodes = mvpn_dht_nodes(dht);
            w->pass++;
            mvpn_dht_event_push(dht, &e);
        }
        if (mvpn_dht_walk_begin(w, mvpn_dht_nodes(dht), dht->config.rng) != 0) {
            arm(dht, now + WALK_WAIT);
            return;
        }
    }
    w->is_busy = true;
    w->tries = 0;
    w->pages = 0;
    w->step_began = now;
    mvpn_dht_walk_prefix(w, &w->cursor);
    try_prefix(dht, now);
}

static void take_nodes(mvpn_dht *dht, const mvpn_dht_reply *reply, mvpn_time now)
{
    for (size_t i = 0; i < reply->contact_count && i < MVPN_DHT_K; i++) {
        const mvpn_dht_contact *c = &reply->contacts[i];
        if (!mvpn_dht_is_self(dht, c) &&
            mvpn_dht_contact_is_usable(c, dht->config.family, dht->config.allow_private)) {
            mvpn_dht_walk_learn(&dht->walk, c);
        }
    }
    mvpn_dht_consider_named(dht, reply, now);
    try_prefix(dht, now);
}

/* The next key after `id`; false if there is none. */
static bool next_key(mvpn_dht_id *id)
{
    for (size_t i = MVPN_DHT_ID_LEN; i-- > 0;) {
        if (++id->b[i] != 0) {
            return true;
        }
    }
    return false;
}

static void take_listed(mvpn_dht *dht, const mvpn_dht_contact *from, const mvpn_dht_reply *reply,
                        mvpn_time now)
{
    mvpn_dht_walk *w = &dht->walk;
    mvpn_dht_event e;
    memset(&e, 0, sizeof(e));
    e.type = MVPN_DHT_EVENT_LISTED;
    e.from = *from;
    for (size_t i = 0; i < reply->listed_count && i < MVPN_DHT_LISTED_MAX; i++) {
        const mvpn_dht_listed *item = &reply->listed[i];
        if (memcmp(item->key.b, w->cursor.b, MVPN_DHT_ID_LEN) < 0 ||
            !mvpn_dht_walk_has_prefix(w, &item->key)) {
            mvpn_dht_walk_forget(w, &from->id); /* not what was asked for */
            break;
        }
        e.key = item->key;
        e.sequence = item->sequence;
        mvpn_dht_event_push(dht, &e);
        w->cursor = item->key;
        if (!next_key(&w->cursor)) {
            step_over(dht, now);
            return;
        }
    }
    if (!reply->more || reply->listed_count == 0 || ++w->pages >= MVPN_DHT_WALK_PAGES_MAX ||
        !mvpn_dht_walk_has_prefix(w, &w->cursor)) {
        step_over(dht, now);
    } else if (mvpn_dht_events_have_room(dht)) {
        send_list(dht, from, now);
    } else { /* the owner is behind: this prefix goes on when it has caught up */
        w->is_paused = true;
        arm(dht, now + WALK_WAIT);
    }
}

void mvpn_dht_walk_reply(mvpn_dht *dht, const mvpn_dht_pending *p, const mvpn_dht_reply *reply,
                         mvpn_time now)
{
    mvpn_dht_walk *w = &dht->walk;
    if (!w->is_busy || p->first_sent < w->step_began ||
        (p->purpose == MVPN_DHT_FOR_WALK_LIST && !mvpn_dht_id_eq(&p->key, &w->cursor))) {
        return; /* late: of a step that is over, or of a page that came already */
    }
    if (p->purpose == MVPN_DHT_FOR_WALK_FIND && reply->command == MVPN_CMD_DHT_NODES) {
        take_nodes(dht, reply, now);
    } else if (p->purpose == MVPN_DHT_FOR_WALK_LIST && reply->command == MVPN_CMD_DHT_LISTED) {
        mvpn_dht_walk_learn(w, &p->to);
        take_listed(dht, &p->to, reply, now);
    } else {
        mvpn_dht_walk_failed(dht, p, now);
    }
}

void mvpn_dht_walk_failed(mvpn_dht *dht, const mvpn_dht_pending *p, mvpn_time now)
{
    mvpn_dht_walk *w = &dht->walk;
    if (!w->is_busy || p->first_sent < w->step_began) {
        return;
    }
    mvpn_dht_walk_forget(w, &p->to.id);
    try_prefix(dht, now);
}
