/*
 * The connector: which NAT relay, which session, in which state a link over NATs is. Rounds of
 * punching are in punch.c, who may be sent how much in budget.c. (docs/protocol.md §14)
 *
 * A called node learns of a session by NatIncoming, before the caller's first packet comes through
 * the NAT relay; what comes to ids that no NAT relay has told us of is an ordinary first packet.
 * Threats: a NAT relay that gives ids that are ours already (left out), many sessions (bounded; the
 * oldest without a link goes), one that names addresses (budget.c).
 */
#include "network/p2p/connector.h"

#include <stdlib.h>

#include "base/assert.h"
#include "network/p2p/connection.h"
#include "wire/circuit.h"

/* One NAT relay's time to answer, its link included; then the next is tried. */
#define STEP_TIME MVPN_MS(3500)
/* A session whose link has ended can be used again before the NAT relay's 120 s are over. */
#define CALL_KEPT MVPN_S(100)
/* A session of which we were told, until a link comes. */
#define CALL_AWAITED MVPN_S(150)
#define STANDBY_PING MVPN_S(50)
#define MORE_PAUSE MVPN_S(30)
/* Both sides' word that an address has changed, and the NAT relay's new proof, take a moment. */
#define CHANGED_PAUSE MVPN_S(1)
/* After a fall-back: whatever broke the path may still be there. */
#define FALLBACK_PAUSE MVPN_S(3)
#define ROUNDS_PER_S 1
#define ROUNDS_BURST 4

/* ---- the whole ---- */

int mvpn_connector_new(const mvpn_connector_config *config, mvpn_time now, mvpn_connector **ret)
{
    (void)now;
    mvpn_connector *c = calloc(1, sizeof(*c));
    if (c == NULL) {
        return MVPN_E_NOMEM;
    }
    c->config = *config;
    mvpn_list_init(&c->connections);
    mvpn_list_init(&c->calls);
    mvpn_rng_bytes(config->rng, c->sip.b, sizeof(c->sip.b));
    if (mvpn_timers_init(&c->timers, CONNECTIONS_MAX + CALLS_MAX + MVPN_CONNECTOR_BINDINGS) != 0) {
        free(c);
        return MVPN_E_NOMEM;
    }
    c->next_request = mvpn_rng_u32(config->rng);
    config->links->connector = c;
    *ret = c;
    return 0;
}

static void connection_free(struct connection *conn, mvpn_time now);

void mvpn_connector_free(mvpn_connector *c)
{
    if (c == NULL) {
        return;
    }
    mvpn_time now = c->config.links->now;
    while (!mvpn_list_is_empty(&c->connections)) {
        connection_free(MVPN_CONTAINER_OF(c->connections.next, struct connection, in_connections),
                        now);
    }
    while (!mvpn_list_is_empty(&c->calls)) {
        call_free(c, MVPN_CONTAINER_OF(c->calls.next, struct nat_call, in_calls), now);
    }
    for (size_t i = 0; i < c->binding_count; i++) {
        if (c->binding[i].link != NULL) {
            mvpn_link_release(c->binding[i].link, now);
        }
    }
    c->config.links->connector = NULL;
    mvpn_timers_done(&c->timers);
    mvpn_wipe(c, sizeof(*c));
    free(c);
}

/* ---- states ---- */

enum mvpn_connection_type connection_type_of(enum mvpn_connection_state state)
{
    switch (state) {
    case MVPN_CONNECTION_ESTABLISHED:
        return MVPN_CONNECTION_DIRECT;
    case MVPN_CONNECTION_FAILED_STATE:
        return MVPN_CONNECTION_FAILED;
    case MVPN_CONNECTION_INIT:
    case MVPN_CONNECTION_STUN:
    case MVPN_CONNECTION_RELAYED:
    case MVPN_CONNECTION_HOLE_PUNCH:
    case MVPN_CONNECTION_UPGRADE:
    case MVPN_CONNECTION_MIGRATE:
        break;
    }
    return MVPN_CONNECTION_RELAY;
}

void connection_enter(struct connection *conn, enum mvpn_connection_state state,
                      enum mvpn_connection_reason reason, mvpn_time now)
{
    mvpn_connector *c = conn->connector;
    const mvpn_ed25519_pub *identity = mvpn_link_peer_identity(conn->link);
    conn->state = state;
    conn->reason = reason;
    conn->since = now;
    mvpn_connection_event *e = &c->history[c->history_count % MVPN_CONNECTOR_HISTORY];
    *e = (mvpn_connection_event){
        .at = now, .type = connection_type_of(state), .state = state, .reason = reason};
    if (identity != NULL) {
        e->has_identity = true;
        e->identity = *identity;
    }
    c->history_count++;
    if (c->history_count - c->history_told > MVPN_CONNECTOR_HISTORY) {
        c->history_told = c->history_count - MVPN_CONNECTOR_HISTORY;
    }
}

void connection_wake(struct connection *conn, mvpn_time at)
{
    if (!mvpn_timer_is_set(&conn->timer) || at < conn->timer.at) {
        mvpn_timer_set(&conn->connector->timers, &conn->timer, at);
    }
}

static struct connection *connection_new(mvpn_connector *c, mvpn_link *link, mvpn_time now)
{
    struct connection *conn =
        c->connection_count < CONNECTIONS_MAX ? calloc(1, sizeof(*conn)) : NULL;
    if (conn == NULL) {
        return NULL;
    }
    conn->connector = c;
    conn->link = link;
    conn->timer.kind = TIMER_CONNECTION;
    conn->began = now;
    conn->next_round = conn->standby_at = MVPN_TIME_NEVER;
    mvpn_bucket_init(&conn->asked, ROUNDS_PER_S, ROUNDS_BURST, now);
    mvpn_list_append(&c->connections, &conn->in_connections);
    c->connection_count++;
    link->connection = conn;
    return conn;
}

static void leave_relay(struct connection *conn, mvpn_time now)
{
    if (conn->relay != NULL) {
        mvpn_link_release(conn->relay, now);
        conn->relay = NULL;
    }
    conn->request = 0;
}

static void leave_call(struct connection *conn, mvpn_time now)
{
    struct nat_call *call = conn->call;
    if (call != NULL) {
        call->connection = NULL;
        conn->call = NULL;
        mvpn_timer_set(&conn->connector->timers, &call->timer, now + CALL_KEPT);
    }
}

static void connection_free(struct connection *conn, mvpn_time now)
{
    mvpn_connector *c = conn->connector;
    leave_relay(conn, now);
    leave_call(conn, now);
    if (c->birthday == conn) {
        c->birthday = NULL;
    }
    for (size_t i = 0; i < MVPN_ARRAY_LEN(c->socket_users); i++) {
        c->socket_users[i] = c->socket_users[i] != conn ? c->socket_users[i] : NULL;
    }
    conn->link->connection = NULL;
    mvpn_timer_clear(&c->timers, &conn->timer);
    mvpn_list_remove(&conn->in_connections);
    c->connection_count--;
    mvpn_wipe(conn, sizeof(*conn));
    free(conn);
}

static void connection_fail(struct connection *conn, int error, mvpn_time now)
{
    mvpn_link *link = conn->link;
    connection_enter(conn, MVPN_CONNECTION_FAILED_STATE, MVPN_CONNECTION_NO_RELAY, now);
    connection_free(conn, now);
    link_fail(link, error);
}

/* ---- messages to NAT relays ---- */

void connector_send(mvpn_connector *c, mvpn_link *link, unsigned command, const uint8_t *body,
                    size_t n, mvpn_time now)
{
    mvpn_packet *packet = mvpn_packet_new(c->config.pool);
    if (packet == NULL) {
        return; /* as if lost: each step has its own time */
    }
    memcpy(mvpn_packet_append(packet, (uint32_t)n), body, n);
    const mvpn_header header = {.command = (uint16_t)command, .length = (uint16_t)n};
    MVPN_IGNORE(mvpn_link_send(link, packet, &header, true, now));
}

/* ---- calling ---- */

static void take_call(struct connection *conn, struct nat_call *call, mvpn_time now)
{
    mvpn_connector *c = conn->connector;
    conn->call = call;
    call->connection = conn;
    conn->relay_identity = *mvpn_link_peer_identity(call->relay);
    mvpn_timer_clear(&c->timers, &call->timer);
    leave_relay(conn, now);
}

static void dial(struct connection *conn, struct nat_call *call, mvpn_time now)
{
    take_call(conn, call, now);
    connection_enter(conn, MVPN_CONNECTION_STUN, MVPN_CONNECTION_RELAY_READY, now);
    conn->step_until = MVPN_TIME_NEVER; /* the handshake has its own time */
    int err = handshake_begin(conn->link, now);
    if (err != 0) {
        connection_fail(conn, err, now);
    }
}

static void ask_for_session(struct connection *conn, mvpn_time now)
{
    mvpn_connector *c = conn->connector;
    uint8_t body[MVPN_NAT_OPEN_LEN];
    c->next_request = c->next_request == UINT32_MAX ? 1 : c->next_request + 1;
    conn->request = c->next_request;
    const mvpn_nat_open m = {.request = conn->request,
                             .rendezvous = conn->link->target->via[conn->via].rendezvous,
                             .count = MVPN_NAT_IDS_MAX};
    mvpn_nat_open_encode(body, &m);
    connection_enter(conn, MVPN_CONNECTION_STUN, MVPN_CONNECTION_RELAY_READY, now);
    connector_send(c, conn->relay, MVPN_CMD_NAT_OPEN, body, sizeof(body), now);
}

/* Begin with the NAT relay at `conn->via`, or the first after it that can be tried. */
static void call_via(struct connection *conn, mvpn_time now)
{
    mvpn_connector *c = conn->connector;
    const mvpn_link_target *t = conn->link->target;
    leave_relay(conn, now);
    if (conn->link->state == LINK_CLOSED) {
        return; /* given up meanwhile: its event follows */
    }
    for (; conn->via < t->via_count; conn->via++) {
        const mvpn_link_via *via = &t->via[conn->via];
        struct nat_call *kept = call_kept(c, &t->identity, &via->identity);
        if (kept != NULL) {
            dial(conn, kept, now);
            return;
        }
        const mvpn_link_target relay = {.identity = via->identity,
                                        .link_key = via->link_key,
                                        .addr = via->addr,
                                        .serial = via->serial};
        if (mvpn_links_open(c->config.links, &relay, now, &conn->relay) != 0) {
            conn->relay = NULL;
            continue;
        }
        mvpn_link_hold(conn->relay);
        conn->step_until = now + STEP_TIME;
        connection_wake(conn, conn->step_until);
        if (mvpn_link_is_open(conn->relay)) {
            ask_for_session(conn, now);
        }
        return;
    }
    connection_fail(conn, MVPN_E_TIMEOUT, now);
}

static void next_via(struct connection *conn, mvpn_time now)
{
    conn->via++;
    call_via(conn, now);
}

int connector_wanted(mvpn_link *link, mvpn_time now)
{
    mvpn_connector *c = link->links->connector;
    if (c == NULL) {
        return MVPN_E_STATE;
    }
    struct connection *conn = connection_new(c, link, now);
    if (conn == NULL) {
        return MVPN_E_LIMIT;
    }
    conn->is_caller = true;
    connection_enter(conn, MVPN_CONNECTION_INIT, MVPN_CONNECTION_CALLING, now);
    conn->step_until = now; /* at the next tick: our caller holds the link by then */
    connection_wake(conn, now);
    return 0;
}

/* The route of a session through its NAT relay; handshake.c sets the rest. */
static void use_call(struct session *s, const struct nat_call *call)
{
    s->route = &s->routes[ROUTE_RELAYED];
    s->nat_session = call->id;
    s->assigned_count = 0;
    connid_assign(s, &call->own[1], call->own_count - 1);
}

void connector_calling(struct session *s)
{
    const struct nat_call *call = s->link->connection->call;
    MVPN_ASSERT(call != NULL); /* else no attempt was begun */
    use_call(s, call);
    s->route->live = true;
    s->route->addr = *mvpn_link_peer_addr(call->relay);
    s->route->remote = call->peer[0];
    s->route->has_remote = true;
}

/* ---- called ---- */

void connector_called(struct session *s, const uint8_t destination[static MVPN_CONNECTION_ID_LEN],
                      const mvpn_addr *from)
{
    const mvpn_connector *c = s->links->connector;
    const struct nat_call *call = c != NULL ? call_expected(c, destination, from) : NULL;
    if (call == NULL) {
        return;
    }
    /* One first packet after another: the ids of the one before are needed. */
    MVPN_LIST_FOREACH_SAFE(it, next, &s->links->half_open)
    {
        struct handshake *hs = MVPN_CONTAINER_OF(it, struct handshake, in_half_open);
        struct session *other = connid_find(s->links, hs->source.b)->session;
        if (other->routes[ROUTE_RELAYED].live &&
            mvpn_addr_eq(&other->routes[ROUTE_RELAYED].addr, from) &&
            memcmp(other->nat_session.b, call->id.b, sizeof(call->id.b)) == 0) {
            session_free(other);
        }
    }
    use_call(s, call);
}

/* ---- a link over NATs is open ---- */

static void schedule(struct connection *conn, mvpn_time now)
{
    mvpn_connector *c = conn->connector;
    if (conn->is_caller) {
        conn->standby_at = now + mvpn_rng_jitter(c->config.rng, STANDBY_PING, 20);
        conn->next_round = c->config.is_relayed_only ? MVPN_TIME_NEVER : now;
    }
    connection_wake(conn, now);
}

static void opened(struct connection *conn, mvpn_time now)
{
    conn->opened = now;
    connection_enter(conn, MVPN_CONNECTION_RELAYED, MVPN_CONNECTION_LINK_OPEN, now);
    conn->link->session->doubt_after = 0;
    schedule(conn, now);
}

/* A link was made through a NAT relay by us or by the peer, or directly while we were calling. */
void connector_opened(mvpn_link *link, mvpn_time now)
{
    mvpn_connector *c = link->links->connector;
    struct session *s = link->session;
    struct connection *conn = link->connection;
    if (c == NULL) {
        return;
    }
    if (!s->routes[ROUTE_RELAYED].live) {
        if (conn != NULL) {
            connection_free(conn, now); /* the peer came first, and directly */
        }
        return;
    }
    if (s->is_initiator) {
        if (conn != NULL) {
            opened(conn, now);
        }
        return;
    }
    struct nat_call *call = NULL;
    MVPN_LIST_FOREACH(it, &c->calls)
    {
        struct nat_call *k = MVPN_CONTAINER_OF(it, struct nat_call, in_calls);
        bool is_it = !k->is_caller && memcmp(k->id.b, s->nat_session.b, sizeof(k->id.b)) == 0 &&
                     mvpn_addr_eq(mvpn_link_peer_addr(k->relay), &s->routes[ROUTE_RELAYED].addr);
        call = is_it ? k : call;
    }
    if (conn == NULL) {
        conn = connection_new(c, link, now);
    } else { /* both called, the peer was first */
        leave_relay(conn, now);
        leave_call(conn, now);
        conn->is_caller = false;
    }
    if (conn == NULL) {
        return; /* there is no room: it stays as it is */
    }
    if (call != NULL && call->connection != NULL) {
        leave_call(call->connection, now); /* the peer has lost its older link */
    }
    if (call != NULL) { /* else the session has ended meanwhile */
        take_call(conn, call, now);
    }
    connection_enter(conn, MVPN_CONNECTION_RELAYED, MVPN_CONNECTION_CALLED, now);
    opened(conn, now);
}

void mvpn_connector_link_opened(mvpn_connector *c, mvpn_link *link, mvpn_time now)
{
    if (!mvpn_link_is_open(link)) {
        return; /* and closed again */
    }
    for (size_t i = 0; i < c->binding_count; i++) {
        if (c->binding[i].link == link) {
            binding_register(c, &c->binding[i], now);
        }
    }
    MVPN_LIST_FOREACH_SAFE(it, next, &c->connections)
    {
        struct connection *conn = MVPN_CONTAINER_OF(it, struct connection, in_connections);
        if (conn->relay == link && conn->request == 0) {
            ask_for_session(conn, now);
        }
    }
}

/* ---- links end ---- */

static void relay_lost(mvpn_connector *c, const mvpn_link *link, mvpn_time now)
{
    MVPN_LIST_FOREACH_SAFE(it, next, &c->calls)
    {
        struct nat_call *call = MVPN_CONTAINER_OF(it, struct nat_call, in_calls);
        if (call->relay != link) {
            continue;
        }
        struct connection *conn = call->connection;
        call_free(c, call, now);
        if (conn == NULL || conn->link->state == LINK_CLOSED) {
            continue;
        }
        if (conn->state == MVPN_CONNECTION_ESTABLISHED) {
            conn->link->session->routes[ROUTE_RELAYED].live = false; /* it goes on without */
            punch_end(conn, true, now);
        } else {
            connection_fail(conn, MVPN_E_CLOSED, now);
        }
    }
}

void mvpn_connector_link_closed(mvpn_connector *c, mvpn_link *link, mvpn_time now)
{
    if (link->connection != NULL) {
        if (link->connection->state != MVPN_CONNECTION_FAILED_STATE) {
            connection_enter(link->connection, MVPN_CONNECTION_FAILED_STATE,
                             MVPN_CONNECTION_LINK_CLOSED, now);
        }
        connection_free(link->connection, now);
    }
    for (size_t i = 0; i < c->binding_count; i++) {
        if (c->binding[i].link == link) {
            mvpn_link_release(link, now);
            c->binding[i].link = NULL;
            binding_lost(c, &c->binding[i], now);
        }
    }
    relay_lost(c, link, now);
    /* The list may change under our hands: each failure begins anew. */
    bool is_again = true;
    while (is_again) {
        is_again = false;
        MVPN_LIST_FOREACH(it, &c->connections)
        {
            struct connection *conn = MVPN_CONTAINER_OF(it, struct connection, in_connections);
            if (conn->relay == link) {
                next_via(conn, now);
                is_again = true;
                break;
            }
        }
    }
}

void connector_forget(mvpn_link *link)
{
    if (link->connection != NULL) {
        connection_free(link->connection, link->links->now);
    }
}

/* ---- messages of NAT relays ---- */

static void more_ids(struct nat_call *call, const mvpn_nat_ids *ids, mvpn_time now)
{
    struct connection *conn = call->connection;
    call->is_worn = true;
    if (conn != NULL && conn->link->session != NULL) {
        connid_assign(conn->link->session, ids->own, ids->count);
        connid_replenish(conn->link->session, ROUTE_RELAYED, now);
    }
}

static void on_opened(mvpn_connector *c, mvpn_link *link, const mvpn_nat_opened *m, mvpn_time now)
{
    if (m->request == 0) {
        struct nat_call *call = call_find(c, link, &m->ids.session);
        if (call != NULL && m->status == 0) {
            more_ids(call, &m->ids, now);
        }
        return;
    }
    MVPN_LIST_FOREACH(it, &c->connections)
    {
        struct connection *conn = MVPN_CONTAINER_OF(it, struct connection, in_connections);
        if (conn->relay != link || conn->request != m->request ||
            conn->link->state == LINK_CLOSED) {
            continue;
        }
        struct nat_call *call = m->status == 0 && call_find(c, link, &m->ids.session) == NULL
                                    ? call_new(c, link, &m->ids, now)
                                    : NULL;
        if (call == NULL) {
            next_via(conn, now);
            return;
        }
        call->is_caller = true;
        call->called = conn->link->target->identity;
        dial(conn, call, now);
        return;
    }
}

static void on_incoming(mvpn_connector *c, mvpn_link *link, const mvpn_nat_ids *ids, mvpn_time now)
{
    struct nat_call *call = call_find(c, link, &ids->session);
    if (call != NULL) {
        more_ids(call, ids, now);
        return;
    }
    if (!binding_is_at(c, link)) {
        return; /* of a NAT relay that we have not asked to be reached through */
    }
    call = call_new(c, link, ids, now);
    if (call != NULL) {
        mvpn_timer_set(&c->timers, &call->timer, now + CALL_AWAITED);
    }
}

bool mvpn_connector_message(mvpn_connector *c, mvpn_link *link, const mvpn_header *header,
                            mvpn_bytes body, mvpn_time now)
{
    mvpn_nat_registered registered;
    mvpn_nat_opened open;
    mvpn_nat_ids ids;
    mvpn_nat_id id;
    mvpn_nat_addressed addressed;
    struct nat_call *call;
    int err = 0;
    if (header->command == MVPN_CMD_NAT_REGISTERED) {
        err = mvpn_nat_registered_decode(&registered, body);
        if (err == 0) {
            binding_registered(c, link, &registered, now);
        }
    } else if (header->command == MVPN_CMD_NAT_OPENED) {
        err = mvpn_nat_opened_decode(&open, body);
        if (err == 0) {
            on_opened(c, link, &open, now);
        }
    } else if (header->command == MVPN_CMD_NAT_INCOMING) {
        err = mvpn_nat_incoming_decode(&ids, body);
        if (err == 0) {
            on_incoming(c, link, &ids, now);
        }
    } else if (header->command == MVPN_CMD_NAT_CLOSE) {
        err = mvpn_nat_close_decode(&id, body);
        call = err == 0 ? call_find(c, link, &id) : NULL;
        if (call != NULL && call->connection == NULL) {
            call_free(c, call, now);
        } else if (call != NULL) {
            call->is_worn = true; /* the link goes on as long as a route answers */
        }
    } else if (header->command == MVPN_CMD_NAT_ADDRESSED) {
        err = mvpn_nat_addressed_decode(&addressed, body);
        call = err == 0 ? call_find(c, link, &addressed.session) : NULL;
        if (call != NULL && call->connection != NULL && addressed.status == 0) {
            punch_seen(call->connection, &addressed.addr, now);
        }
    } else {
        return false;
    }
    if (err != 0) {
        mvpn_link_close(link, MVPN_REASON_PROTOCOL, now);
    }
    return true;
}

/* ---- what links tell ---- */

void connector_heard(struct session *s, mvpn_time now)
{
    struct connection *conn = s->link->connection;
    if (conn != NULL && s->route == &s->routes[ROUTE_RELAYED]) {
        connection_enter(conn, MVPN_CONNECTION_UPGRADE, MVPN_CONNECTION_HEARD, now);
    } else if (conn != NULL) {
        connection_enter(conn, MVPN_CONNECTION_MIGRATE, MVPN_CONNECTION_HEARD, now);
    }
}

void connector_unheard(struct session *s, mvpn_time now)
{
    struct connection *conn = s->link->connection;
    if (conn == NULL) {
        return;
    }
    if (conn->state == MVPN_CONNECTION_UPGRADE) {
        bool is_punching = conn->round.phase != ROUND_NONE;
        connection_enter(conn, is_punching ? MVPN_CONNECTION_HOLE_PUNCH : MVPN_CONNECTION_RELAYED,
                         MVPN_CONNECTION_ROUND_FAILED, now);
    } else if (conn->state == MVPN_CONNECTION_MIGRATE && s->routes[ROUTE_DIRECT].live) {
        connection_enter(conn, MVPN_CONNECTION_ESTABLISHED, MVPN_CONNECTION_ROUND_FAILED, now);
    }
}

void connector_proven(struct session *s, mvpn_time now)
{
    struct connection *conn = s->link->connection;
    if (conn == NULL) {
        return;
    }
    conn->direct = conn->direct != 0 ? conn->direct : now;
    conn->upgrades += conn->state != MVPN_CONNECTION_MIGRATE;
    connection_enter(conn, MVPN_CONNECTION_ESTABLISHED, MVPN_CONNECTION_PROVEN, now);
    punch_end(conn, true, now);
}

static void fall_back(struct connection *conn, enum mvpn_connection_reason reason, mvpn_time pause,
                      mvpn_time now)
{
    conn->fallbacks++;
    path_give_up_direct(conn->link->session, now);
    connection_enter(conn,
                     reason == MVPN_CONNECTION_NETWORK_CHANGED ? MVPN_CONNECTION_MIGRATE
                                                               : MVPN_CONNECTION_RELAYED,
                     reason, now);
    conn->round = (struct round){0};
    conn->failures = 0;
    if (conn->is_caller && !conn->connector->config.is_relayed_only) {
        conn->next_round = now + pause;
        connection_wake(conn, conn->next_round);
    }
}

void connector_silent(struct session *s, mvpn_time now)
{
    struct connection *conn = s->link->connection;
    if (conn == NULL || conn->call == NULL) {
        return;
    }
    /* The NAT relay's idea of where we are may be as old as the path that is silent. */
    MVPN_IGNORE(mvpn_link_ping(conn->call->relay, now));
    if (s->route == &s->routes[ROUTE_DIRECT] && s->routes[ROUTE_RELAYED].live) {
        fall_back(conn, MVPN_CONNECTION_SILENT, FALLBACK_PAUSE, now);
        punch_tell_given_up(conn, now);
    }
}

int connector_candidates(struct session *s, mvpn_bytes body, mvpn_time now)
{
    mvpn_link_candidates m;
    struct connection *conn = s->link->connection;
    int err = mvpn_link_candidates_decode(&m, body);
    if (err != 0 || conn == NULL) {
        return err;
    }
    if ((m.flags & MVPN_CANDIDATES_GAVE_UP) != 0) {
        if (s->route == &s->routes[ROUTE_DIRECT] && s->routes[ROUTE_RELAYED].live) {
            fall_back(conn, MVPN_CONNECTION_PEER_GAVE_UP, CHANGED_PAUSE, now);
        } else if (conn->is_caller && conn->round.phase == ROUND_NONE) {
            conn->next_round = mvpn_time_min(conn->next_round, now + CHANGED_PAUSE);
            connection_wake(conn, conn->next_round);
        }
    }
    punch_candidates(conn, &m, now);
    return 0;
}

/* ---- time ---- */

static void want_ids(struct connection *conn, mvpn_time now)
{
    const struct session *s = conn->link->session;
    if (s->assigned_count > 0 || now < conn->more_at || s->route != &s->routes[ROUTE_RELAYED] ||
        conn->call == NULL) {
        return;
    }
    uint8_t body[MVPN_NAT_MORE_LEN];
    const mvpn_nat_more m = {.session = conn->call->id, .count = MVPN_NAT_IDS_MAX};
    conn->more_at = now + MORE_PAUSE;
    mvpn_nat_more_encode(body, &m);
    call_send(conn->call, MVPN_CMD_NAT_MORE, body, sizeof(body), now);
}

static void close_sockets(struct connection *conn)
{
    conn->has_sockets = false;
    conn->sockets_until = 0;
    if (conn->connector->birthday == conn) {
        conn->connector->birthday = NULL;
    }
}

static void connection_tick(struct connection *conn, mvpn_time now)
{
    mvpn_connector *c = conn->connector;
    if (conn->link->state == LINK_CLOSED) {
        return; /* its event follows */
    }
    if (conn->opened == 0 || conn->link->session == NULL) {
        if (conn->step_until <= now) {
            if (conn->relay != NULL) {
                next_via(conn, now);
            } else {
                call_via(conn, now);
            }
        } else {
            connection_wake(conn, conn->step_until);
        }
        return;
    }
    struct session *s = conn->link->session;
    mvpn_time next = MVPN_TIME_NEVER;
    if (conn->call != NULL) {
        if (conn->next_round <= now && conn->round.phase == ROUND_NONE &&
            !s->routes[ROUTE_DIRECT].live) {
            conn->next_round = MVPN_TIME_NEVER;
            punch_begin(conn, now);
        }
        if (conn->standby_at <= now) {
            conn->standby_at = now + mvpn_rng_jitter(c->config.rng, STANDBY_PING, 20);
            if (s->routes[ROUTE_RELAYED].live) {
                (void)transport_token(s, MVPN_CMD_LINK_PING, mvpn_rng_u64(c->config.rng),
                                      &s->routes[ROUTE_RELAYED], now); /* a lost one is no matter */
            }
        }
        want_ids(conn, now);
        next = mvpn_time_min(conn->standby_at, punch_tick(conn, now));
        if (conn->round.phase == ROUND_NONE) {
            next = mvpn_time_min(next, MVPN_MAX(conn->next_round, now + 1));
        }
    }
    if (conn->has_sockets && conn->sockets_until <= now) {
        close_sockets(conn);
    }
    if (conn->has_sockets) {
        next = mvpn_time_min(next, conn->sockets_until);
    }
    mvpn_time more_at = now + MORE_PAUSE; /* ids are used up at rekeys */
    connection_wake(conn, mvpn_time_min(next, more_at));
}

void mvpn_connector_tick(mvpn_connector *c, mvpn_time now)
{
    mvpn_timer *t;
    while ((t = mvpn_timers_pop(&c->timers, now)) != NULL) {
        switch ((enum timer_kind)t->kind) {
        case TIMER_CONNECTION:
            connection_tick(MVPN_CONTAINER_OF(t, struct connection, timer), now);
            break;
        case TIMER_CALL: {
            struct nat_call *call = MVPN_CONTAINER_OF(t, struct nat_call, timer);
            call_end(c, call, now);
            break;
        }
        case TIMER_BINDING:
            binding_tick(c, MVPN_CONTAINER_OF(t, struct binding, timer), now);
            break;
        }
    }
}

mvpn_time mvpn_connector_deadline(const mvpn_connector *c)
{
    return mvpn_timers_deadline(&c->timers);
}

/* ---- what the owner tells ---- */

void mvpn_connector_set_class(mvpn_connector *c, const mvpn_nat_class *nat, mvpn_time now)
{
    bool was_known = c->nat.is_known;
    c->nat = *nat;
    for (size_t i = 0; i < c->binding_count; i++) {
        struct binding *b = &c->binding[i];
        for (size_t k = 0; b->is_registered && k < nat->seen_count; k++) {
            if (nat->seen[k].family == b->target.addr.family) {
                c->bindings_changed =
                    c->bindings_changed || !mvpn_addr_ip_eq(&b->seen, &nat->seen[k]);
                b->seen = nat->seen[k];
                break;
            }
        }
    }
    if (was_known || !nat->is_known) {
        return;
    }
    /* Rounds that failed for want of that may succeed now. */
    MVPN_LIST_FOREACH(it, &c->connections)
    {
        struct connection *conn = MVPN_CONTAINER_OF(it, struct connection, in_connections);
        if (conn->is_caller && conn->opened != 0 && conn->state == MVPN_CONNECTION_RELAYED &&
            conn->failures > 0) {
            conn->next_round = now;
            connection_wake(conn, now);
        }
    }
}

void mvpn_connector_set_mapped(mvpn_connector *c, const mvpn_addr *mapped, size_t count)
{
    c->mapped_count = MVPN_MIN(count, MVPN_ARRAY_LEN(c->mapped));
    for (size_t i = 0; i < c->mapped_count; i++) {
        c->mapped[i] = mapped[i];
    }
}

void mvpn_connector_network_changed(mvpn_connector *c, const mvpn_addr *own, size_t own_count,
                                    mvpn_time now)
{
    c->config.own_count = MVPN_MIN(own_count, MVPN_ARRAY_LEN(c->config.own));
    for (size_t i = 0; i < c->config.own_count; i++) {
        c->config.own[i] = own[i]; /* none: `own` may be NULL */
    }
    MVPN_LIST_FOREACH(it, &c->connections)
    {
        struct connection *conn = MVPN_CONTAINER_OF(it, struct connection, in_connections);
        struct session *s = conn->link->session;
        if (conn->opened == 0 || s == NULL || conn->call == NULL ||
            !s->routes[ROUTE_RELAYED].live) {
            continue;
        }
        if (s->route == &s->routes[ROUTE_DIRECT]) {
            fall_back(conn, MVPN_CONNECTION_NETWORK_CHANGED, CHANGED_PAUSE, now);
        }
        punch_tell_given_up(conn, now); /* so that the peer's next round is soon, too */
    }
}
