#include "core/pinger.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

typedef struct target {
    bool is_used;
    mvpn_ed25519_pub identity;
    mvpn_time last_asked;
    uint32_t seq;
    bool is_waiting; /* for the answer to `seq` */
    bool is_sent;
    mvpn_time rtt; /* of `seq`; 0: no answer */
    /*
     * Held by us; NULL: none. Only an open link is held, and after each turn it is made sure that
     * it is the same: links are freed in turns alone, and one that was made in the same turn
     * (perhaps at the same address) cannot be open yet.
     */
    mvpn_link *held;
} target;

struct mvpn_pinger {
    mvpn_links *links;
    size_t count;
    target targets[MVPN_PINGER_TARGETS];
};

int mvpn_pinger_new(mvpn_links *links, mvpn_pinger **ret)
{
    mvpn_pinger *p = calloc(1, sizeof(*p));
    if (p == NULL) {
        return MVPN_E_NOMEM;
    }
    p->links = links;
    *ret = p;
    return 0;
}

static target *find(const mvpn_pinger *p, const mvpn_ed25519_pub *identity)
{
    for (size_t i = 0; i < MVPN_PINGER_TARGETS; i++) {
        const target *t = &p->targets[i];
        if (t->is_used && memcmp(t->identity.b, identity->b, sizeof(identity->b)) == 0) {
            return (target *)(uintptr_t)t;
        }
    }
    return NULL;
}

static target *add(mvpn_pinger *p, const mvpn_ed25519_pub *identity)
{
    for (size_t i = 0; i < MVPN_PINGER_TARGETS; i++) {
        target *t = &p->targets[i];
        if (!t->is_used) {
            *t = (target){.is_used = true, .identity = *identity};
            p->count++;
            return t;
        }
    }
    return NULL;
}

/* Two relays may have opened a link to each other at the same time: ours is there, if not found. */
static bool is_listed(const mvpn_pinger *p, const mvpn_link *link)
{
    size_t count = mvpn_links_count(p->links);
    mvpn_link **all = calloc(count + 1, sizeof(mvpn_link *));
    bool is_there = false;
    count = all == NULL ? 0 : mvpn_links_list(p->links, all, count);
    for (size_t i = 0; i < count; i++) {
        is_there |= all[i] == link;
    }
    free(all);
    return is_there;
}

static bool still_holds(const mvpn_pinger *p, const target *t)
{
    return t->held != NULL &&
           (mvpn_links_find(p->links, &t->identity) == t->held || is_listed(p, t->held)) &&
           mvpn_link_is_open(t->held);
}

static void send_ping(target *t, mvpn_link *link, mvpn_time now)
{
    if (t->held == NULL) {
        mvpn_link_hold(link);
        t->held = link;
    }
    t->is_sent = mvpn_link_ping(link, now) == 0;
}

int mvpn_pinger_ping(mvpn_pinger *p, const mvpn_link_target *to, mvpn_time now, uint32_t *ret_seq)
{
    mvpn_link *link;
    target *t = find(p, &to->identity);
    if (t == NULL && p->count == MVPN_PINGER_TARGETS) {
        return MVPN_E_LIMIT;
    }
    int r = mvpn_links_open(p->links, to, now, &link);
    if (r != 0) {
        return r;
    }
    t = t != NULL ? t : add(p, &to->identity);
    t->last_asked = now;
    t->seq++;
    t->is_waiting = true;
    t->is_sent = false;
    t->rtt = 0;
    link = t->held != NULL ? t->held : link;
    if (mvpn_link_is_open(link)) {
        send_ping(t, link, now);
    }
    *ret_seq = t->seq;
    return 0;
}

bool mvpn_pinger_get(const mvpn_pinger *p, const mvpn_ed25519_pub *identity,
                     mvpn_pinger_result *ret)
{
    const target *t = find(p, identity);
    if (t == NULL) {
        return false;
    }
    *ret = (mvpn_pinger_result){
        .seq = t->seq,
        .is_done = !t->is_waiting,
        .rtt = t->rtt,
        .link = t->held != NULL ? t->held : mvpn_links_find(p->links, identity),
    };
    return true;
}

static void look_at(mvpn_pinger *p, target *t, mvpn_time now)
{
    mvpn_link *link = mvpn_links_find(p->links, &t->identity);
    if (t->held != NULL && !still_holds(p, t)) {
        t->held = NULL; /* it has ended, and our hold with it */
        t->is_waiting = t->is_waiting && !t->is_sent;
    }
    if (t->held != NULL && mvpn_link_take_pong(t->held, &t->rtt)) {
        t->is_waiting = false;
    }
    if (t->is_waiting && !t->is_sent) {
        if (link == NULL) {
            t->is_waiting = false; /* it could not be opened */
        } else if (mvpn_link_is_open(link)) {
            send_ping(t, link, now);
        }
    }
    if (now - t->last_asked >= MVPN_PINGER_HOLD) {
        if (t->held != NULL) {
            mvpn_link_release(t->held, now);
        }
        *t = (target){.is_used = false};
        p->count--;
    }
}

void mvpn_pinger_turn(mvpn_pinger *p, mvpn_time now)
{
    for (size_t i = 0; p->count > 0 && i < MVPN_PINGER_TARGETS; i++) {
        if (p->targets[i].is_used) {
            look_at(p, &p->targets[i], now);
        }
    }
}

mvpn_time mvpn_pinger_deadline(const mvpn_pinger *p)
{
    mvpn_time next = MVPN_TIME_NEVER;
    for (size_t i = 0; p->count > 0 && i < MVPN_PINGER_TARGETS; i++) {
        if (p->targets[i].is_used) {
            next = mvpn_time_min(next, p->targets[i].last_asked + MVPN_PINGER_HOLD);
        }
    }
    return next;
}

void mvpn_pinger_free(mvpn_pinger *p)
{
    for (size_t i = 0; p != NULL && i < MVPN_PINGER_TARGETS; i++) {
        target *t = &p->targets[i];
        if (t->is_used && still_holds(p, t)) {
            mvpn_link_release(t->held, t->last_asked);
        }
    }
    free(p);
}
