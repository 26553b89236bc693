/*
 * How links run, and what has changed, for status and the log. (docs/protocol.md §14.4)
 */
#include "network/p2p/connection.h"

const char *mvpn_connection_type_text(enum mvpn_connection_type type)
{
    static const char *const texts[] = {"direct", "relay", "failed"};
    return texts[type];
}

const char *mvpn_connection_state_text(enum mvpn_connection_state state)
{
    static const char *const texts[] = {"init",    "stun",        "relay",   "hole punch",
                                        "upgrade", "established", "migrate", "failed"};
    return texts[state];
}

const char *mvpn_connection_reason_text(enum mvpn_connection_reason why)
{
    static const char *const texts[] = {
        [MVPN_CONNECTION_CALLED] = "the peer called",
        [MVPN_CONNECTION_CALLING] = "calling",
        [MVPN_CONNECTION_RELAY_READY] = "the NAT relay answers",
        [MVPN_CONNECTION_LINK_OPEN] = "the link through the NAT relay is made",
        [MVPN_CONNECTION_ROUND] = "a round of hole punching begins",
        [MVPN_CONNECTION_BIRTHDAY] = "many ports are tried",
        [MVPN_CONNECTION_HEARD] = "the peer was heard directly",
        [MVPN_CONNECTION_PROVEN] = "the direct path is proven",
        [MVPN_CONNECTION_ROUND_FAILED] = "nothing came through directly",
        [MVPN_CONNECTION_SILENT] = "the direct path went silent",
        [MVPN_CONNECTION_PEER_GAVE_UP] = "the peer no longer hears us directly",
        [MVPN_CONNECTION_NETWORK_CHANGED] = "our network has changed",
        [MVPN_CONNECTION_NO_RELAY] = "no NAT relay could help",
        [MVPN_CONNECTION_LINK_CLOSED] = "the link has ended",
        [MVPN_CONNECTION_REACHABLE] = "the peer can be reached as it stands",
    };
    return texts[why];
}

size_t mvpn_connector_history(const mvpn_connector *c,
                              mvpn_connection_event ret[static MVPN_CONNECTOR_HISTORY])
{
    size_t count = (size_t)MVPN_MIN(c->history_count, (uint64_t)MVPN_CONNECTOR_HISTORY);
    for (size_t i = 0; i < count; i++) {
        ret[i] = c->history[(c->history_count - count + i) % MVPN_CONNECTOR_HISTORY];
    }
    return count;
}

bool mvpn_connector_pull_event(mvpn_connector *c, mvpn_connection_event *ret)
{
    if (c->history_told == c->history_count) {
        return false;
    }
    *ret = c->history[c->history_told++ % MVPN_CONNECTOR_HISTORY];
    return true;
}

void mvpn_connector_info(const mvpn_connector *c, const mvpn_link *link, mvpn_connection_info *ret)
{
    const struct connection *conn = link->connection;
    (void)c;
    if (conn == NULL) {
        bool is_open = link->state == LINK_OPEN;
        *ret = (mvpn_connection_info){
            .type = MVPN_CONNECTION_DIRECT,
            .state = is_open ? MVPN_CONNECTION_ESTABLISHED : MVPN_CONNECTION_INIT,
            .reason = MVPN_CONNECTION_REACHABLE,
            .since = link->session != NULL ? link->session->opened : link->opening_since,
            .is_caller = mvpn_link_is_initiator(link)};
        return;
    }
    bool is_direct =
        link->session != NULL && link->session->route == &link->session->routes[ROUTE_DIRECT];
    *ret = (mvpn_connection_info){
        .type = conn->opened != 0 && is_direct ? MVPN_CONNECTION_DIRECT
                                               : connection_type_of(conn->state),
        .state = conn->state,
        .reason = conn->reason,
        .since = conn->since,
        .is_over_nat = true,
        .is_caller = conn->is_caller,
        .relay = conn->relay_identity,
        .opened_after = conn->is_caller && conn->opened != 0 ? conn->opened - conn->began : 0,
        .direct_after = conn->direct != 0 ? conn->direct - conn->opened : 0,
        .rounds = conn->rounds,
        .upgrades = conn->upgrades,
        .fallbacks = conn->fallbacks,
    };
}

static bool uses(const struct connection *conn, uint16_t local)
{
    const struct session *s = conn->link->session;
    if (conn->has_sockets) {
        return true;
    }
    return s != NULL &&
           ((s->routes[ROUTE_DIRECT].live && s->routes[ROUTE_DIRECT].socket == local) ||
            (s->check.active && s->check.local == local));
}

bool mvpn_connector_uses_socket(mvpn_connector *c, uint16_t local)
{
    if (local >= MVPN_ARRAY_LEN(c->socket_users)) {
        return false;
    }
    /* Asked for each socket each few turns: whoever used it last most likely does still. */
    struct connection **user = &c->socket_users[local];
    if (*user != NULL && uses(*user, local)) {
        return true;
    }
    *user = NULL;
    MVPN_LIST_FOREACH(it, &c->connections)
    {
        struct connection *conn = MVPN_CONTAINER_OF(it, struct connection, in_connections);
        if (uses(conn, local)) {
            *user = conn;
            return true;
        }
    }
    return false;
}
