/*
 * Sessions at NAT relays: who may call whom with which ids. (docs/protocol.md §14.1)
 *
 * A session is made by NatOpened (we call) or NatIncoming (we are called), and ends with the link
 * to its NAT relay. Its first id is where first packets go; a link takes the others as its own.
 */
#include <stdlib.h>

#include "network/p2p/connection.h"

void call_send(struct nat_call *call, unsigned command, const uint8_t *body, size_t n,
               mvpn_time now)
{
    connector_send(call->relay->links->connector, call->relay, command, body, n, now);
}

struct nat_call *call_find(const mvpn_connector *c, const mvpn_link *relay, const mvpn_nat_id *id)
{
    MVPN_LIST_FOREACH(it, &c->calls)
    {
        struct nat_call *call = MVPN_CONTAINER_OF(it, struct nat_call, in_calls);
        if (call->relay == relay && memcmp(call->id.b, id->b, sizeof(id->b)) == 0) {
            return call;
        }
    }
    return NULL;
}

void call_free(mvpn_connector *c, struct nat_call *call, mvpn_time now)
{
    if (call->connection != NULL) {
        call->connection->call = NULL;
    }
    mvpn_link_release(call->relay, now);
    mvpn_timer_clear(&c->timers, &call->timer);
    mvpn_list_remove(&call->in_calls);
    c->call_count--;
    mvpn_wipe(call, sizeof(*call));
    free(call);
}

/* The oldest without a link gives way: sessions that nobody came for cost a guest nothing more. */
static bool make_room(mvpn_connector *c, mvpn_time now)
{
    if (c->call_count < CALLS_MAX) {
        return true;
    }
    MVPN_LIST_FOREACH(it, &c->calls)
    {
        struct nat_call *call = MVPN_CONTAINER_OF(it, struct nat_call, in_calls);
        if (call->connection == NULL) {
            call_free(c, call, now);
            return true;
        }
    }
    return false;
}

struct nat_call *call_new(mvpn_connector *c, mvpn_link *relay, const mvpn_nat_ids *ids,
                          mvpn_time now)
{
    struct nat_call *call = make_room(c, now) ? calloc(1, sizeof(*call)) : NULL;
    if (call == NULL) {
        return NULL;
    }
    call->id = ids->session;
    call->relay = relay;
    call->own_count = call->peer_count = ids->count;
    memcpy(call->own, ids->own, sizeof(call->own));
    memcpy(call->peer, ids->peer, sizeof(call->peer));
    call->timer.kind = TIMER_CALL;
    mvpn_link_hold(relay);
    mvpn_list_append(&c->calls, &call->in_calls);
    c->call_count++;
    return call;
}

void call_end(mvpn_connector *c, struct nat_call *call, mvpn_time now)
{
    call_send(call, MVPN_CMD_NAT_CLOSE, call->id.b, sizeof(call->id.b), now);
    call_free(c, call, now);
}

/* What its session still has for us: either an unused one, or one whose link has ended. */
struct nat_call *call_kept(mvpn_connector *c, const mvpn_ed25519_pub *peer,
                           const mvpn_ed25519_pub *relay)
{
    MVPN_LIST_FOREACH(it, &c->calls)
    {
        struct nat_call *call = MVPN_CONTAINER_OF(it, struct nat_call, in_calls);
        if (call->is_caller && call->connection == NULL && !call->is_worn &&
            same_identity(&call->called, peer) && mvpn_link_is_open(call->relay) &&
            same_identity(mvpn_link_peer_identity(call->relay), relay)) {
            return call;
        }
    }
    return NULL;
}

/* The session in which a first packet to this id comes from there; NULL: none. */
const struct nat_call *call_expected(const mvpn_connector *c,
                                     const uint8_t id[static MVPN_CONNECTION_ID_LEN],
                                     const mvpn_addr *from)
{
    MVPN_LIST_FOREACH(it, &c->calls)
    {
        const struct nat_call *k = MVPN_CONTAINER_OF(it, struct nat_call, in_calls);
        if (!k->is_caller && memcmp(k->own[0].b, id, MVPN_CONNECTION_ID_LEN) == 0 &&
            mvpn_addr_eq(mvpn_link_peer_addr(k->relay), from)) {
            return k;
        }
    }
    return NULL;
}

bool connector_admits(const mvpn_links *links,
                      const uint8_t destination[static MVPN_CONNECTION_ID_LEN],
                      const mvpn_addr *from)
{
    const mvpn_connector *c = links->connector;
    for (size_t i = 0; c != NULL && i < c->binding_count; i++) {
        const struct binding *b = &c->binding[i];
        if (b->is_registered && mvpn_addr_eq(mvpn_link_peer_addr(b->link), from)) {
            return call_expected(c, destination, from) != NULL;
        }
    }
    return true;
}
