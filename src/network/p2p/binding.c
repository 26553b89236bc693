/*
 * To be reachable: the NAT relays at which this node is registered. (docs/protocol.md §14.1)
 *
 *   link opened --NatRegister--> NatRegistered --half of its lifetime--> NatRegister ...
 *        ^                                          |
 *        +------------- pause, doubling ------------+ refused, silent, or the link has ended
 */
#include "network/p2p/connection.h"

#define REGISTER_S 3600
#define REGISTER_PATIENCE MVPN_S(5)
#define RETRY_FIRST MVPN_S(1)
#define RETRY_MAX MVPN_S(60)

void binding_register(mvpn_connector *c, struct binding *b, mvpn_time now)
{
    uint8_t body[MVPN_NAT_REGISTER_LEN];
    mvpn_nat_register_encode(body, REGISTER_S);
    connector_send(c, b->link, MVPN_CMD_NAT_REGISTER, body, sizeof(body), now);
    mvpn_timer_set(&c->timers, &b->timer, now + REGISTER_PATIENCE);
}

void binding_lost(mvpn_connector *c, struct binding *b, mvpn_time now)
{
    c->bindings_changed = c->bindings_changed || b->is_registered;
    b->is_registered = false;
    b->failing_since = b->failing_since != 0 ? b->failing_since : now;
    b->pause = b->pause == 0 ? RETRY_FIRST : MVPN_MIN(2 * b->pause, RETRY_MAX);
    mvpn_timer_set(&c->timers, &b->timer, now + mvpn_rng_jitter(c->config.rng, b->pause, 20));
}

bool binding_is_at(const mvpn_connector *c, const mvpn_link *link)
{
    for (size_t i = 0; i < c->binding_count; i++) {
        if (c->binding[i].link == link && c->binding[i].is_registered) {
            return true;
        }
    }
    return false;
}

void binding_registered(mvpn_connector *c, const mvpn_link *link, const mvpn_nat_registered *m,
                        mvpn_time now)
{
    for (size_t i = 0; i < c->binding_count; i++) {
        struct binding *b = &c->binding[i];
        if (b->link != link) {
            continue;
        }
        if (m->status != 0) {
            binding_lost(c, b, now);
            return;
        }
        bool is_same = b->is_registered &&
                       memcmp(b->rendezvous.b, m->rendezvous.b, sizeof(m->rendezvous.b)) == 0;
        c->bindings_changed = c->bindings_changed || !is_same;
        b->is_registered = true;
        b->rendezvous = m->rendezvous;
        b->seen = *mvpn_link_observed_addr(link);
        b->failing_since = 0;
        b->pause = 0;
        mvpn_timer_set(&c->timers, &b->timer, now + (mvpn_time)m->lifetime_s * MVPN_US_PER_S / 2);
    }
}

void binding_tick(mvpn_connector *c, struct binding *b, mvpn_time now)
{
    if (b->link == NULL) {
        if (mvpn_links_open(c->config.links, &b->target, now, &b->link) != 0) {
            b->link = NULL;
            binding_lost(c, b, now);
            return;
        }
        mvpn_link_hold(b->link);
        b->failing_since = b->failing_since != 0 ? b->failing_since : now;
        if (!mvpn_link_is_open(b->link)) {
            return; /* its events tell */
        }
    }
    binding_register(c, b, now);
}

void mvpn_connector_register(mvpn_connector *c, const mvpn_link_target *relays, size_t count,
                             mvpn_time now)
{
    struct binding old[MVPN_CONNECTOR_BINDINGS];
    size_t old_count = c->binding_count;
    memcpy(old, c->binding, sizeof(old));
    for (size_t i = 0; i < old_count; i++) {
        mvpn_timer_clear(&c->timers, &c->binding[i].timer);
    }
    c->binding_count = MVPN_MIN(count, MVPN_ARRAY_LEN(c->binding));
    memset(c->binding, 0, sizeof(c->binding));
    for (size_t i = 0; i < c->binding_count; i++) {
        struct binding *b = &c->binding[i];
        mvpn_time at = now;
        for (size_t k = 0; k < old_count; k++) {
            if (same_identity(&old[k].target.identity, &relays[i].identity)) {
                *b = old[k];
                at = old[k].timer.at;
                old[k].link = NULL;
                old[k].is_registered = false;
            }
        }
        b->target = relays[i];
        b->target.via_count = 0;
        b->timer = (mvpn_timer){.kind = TIMER_BINDING};
        mvpn_timer_set(&c->timers, &b->timer, at);
    }
    for (size_t k = 0; k < old_count; k++) {
        c->bindings_changed = c->bindings_changed || old[k].is_registered;
        if (old[k].link != NULL) {
            mvpn_link_release(old[k].link, now);
        }
    }
}

size_t mvpn_connector_bindings(const mvpn_connector *c,
                               mvpn_connector_binding ret[static MVPN_CONNECTOR_BINDINGS])
{
    for (size_t i = 0; i < c->binding_count; i++) {
        const struct binding *b = &c->binding[i];
        ret[i] = (mvpn_connector_binding){.identity = b->target.identity,
                                          .relay = b->target.addr,
                                          .is_registered = b->is_registered,
                                          .rendezvous = b->rendezvous,
                                          .seen = b->seen,
                                          .failing_since = b->failing_since};
    }
    return c->binding_count;
}

bool mvpn_connector_take_binding_change(mvpn_connector *c)
{
    bool is_changed = c->bindings_changed;
    c->bindings_changed = false;
    return is_changed;
}
