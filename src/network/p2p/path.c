/*
 * Paths: a new address of the peer is proven before data goes there; the size of packets that a
 * path takes is proven before they are used. (docs/protocol.md §4.6, §4.7)
 *
 * Threat: whoever copies one packet of a link and sends it from a victim's address must not turn
 * the link's traffic on the victim. Until the victim's address answers a challenge it gets at most
 * three packets, and at most three times the bytes that came from it.
 */
#include <stdlib.h>

#include "base/assert.h"
#include "network/p2p/internal.h"

#define CHALLENGES_MAX 3
#define UNPROVEN_PACKETS_MAX 3
/* Both punch, so what comes calls for an answer each time; the bytes stay bounded. (§14.5) */
#define PUNCHED_PACKETS_MAX 12
#define UNPROVEN_FACTOR 3
#define CHALLENGE_FLOOR MVPN_MS(200)
#define FAILED_FOR MVPN_S(30)

#define PROBES_MAX 3
#define PROBE_AGAIN MVPN_S(600)

static void set_timer(struct session *s, enum session_timer t, mvpn_time at)
{
    mvpn_timer_set(&s->links->timers, &s->timers[t], at);
}

/* Send to the address under check, within its allowance. */
static bool send_unproven(struct session *s, unsigned command, uint64_t token, mvpn_time now)
{
    struct path_check *c = &s->check;
    const size_t len = TRANSPORT_OVERHEAD + MVPN_LINK_TOKEN_LEN;
    unsigned most = s->link->connection != NULL ? PUNCHED_PACKETS_MAX : UNPROVEN_PACKETS_MAX;
    if (c->packets_out >= most || c->bytes_out + len > UNPROVEN_FACTOR * c->bytes_in) {
        return false;
    }
    mvpn_packet *packet = mvpn_packet_new(s->links->config.pool);
    if (packet == NULL) {
        return false;
    }
    mvpn_store64(mvpn_packet_append(packet, MVPN_LINK_TOKEN_LEN), token);
    const mvpn_header header = {.command = (uint16_t)command, .length = MVPN_LINK_TOKEN_LEN};
    struct route there = s->routes[ROUTE_DIRECT];
    there.addr = c->addr;
    there.socket = c->local;
    if (transport_send(s, packet, &header, &there, now) != 0) {
        return false;
    }
    c->packets_out++;
    c->bytes_out += len;
    return true;
}

static void challenge(struct session *s, mvpn_time now)
{
    struct path_check *c = &s->check;
    mvpn_time wait = link_timeout(s->link, CHALLENGE_FLOOR) << c->sent;
    (void)send_unproven(s, MVPN_CMD_PATH_CHALLENGE, c->token, now); /* refused counts as sent */
    c->sent++;
    set_timer(s, TIMER_PATH, now + wait);
}

static bool has_failed_lately(const struct session *s, const mvpn_addr *addr, mvpn_time now)
{
    for (size_t i = 0; s->failed != NULL && i < FAILED_PATHS; i++) {
        if (s->failed[i].until > now && mvpn_addr_eq(&s->failed[i].addr, addr)) {
            return true;
        }
    }
    return false;
}

struct route *path_route_of(struct session *s, const mvpn_packet *packet)
{
    if (MVPN_LIKELY(mvpn_addr_eq(&packet->remote, &s->route->addr))) {
        return s->route;
    }
    for (size_t i = 0; i < ROUTES; i++) {
        if (s->routes[i].live && mvpn_addr_eq(&packet->remote, &s->routes[i].addr)) {
            return &s->routes[i];
        }
    }
    return NULL;
}

void path_use(struct session *s, enum route_kind kind, mvpn_time now)
{
    s->route = &s->routes[kind];
    s->route->last_recv = now;
    s->link->srtt_us = 0; /* another path, another round trip */
    s->is_full_size = false;
    pmtu_restart(s, now);
    alive_again(s, now);
    connid_replenish(s, kind, now);
}

void path_try_again(struct session *s)
{
    free(s->failed);
    s->failed = NULL;
}

void path_give_up_direct(struct session *s, mvpn_time now)
{
    s->routes[ROUTE_DIRECT].live = false;
    s->check = (struct path_check){0};
    set_timer(s, TIMER_PATH, MVPN_TIME_NEVER);
    path_try_again(s);
    if (s->route == &s->routes[ROUTE_DIRECT]) {
        path_use(s, ROUTE_RELAYED, now);
    }
}

void path_punch(struct session *s, const mvpn_addr *to, uint16_t socket, mvpn_time now)
{
    struct route there = s->routes[ROUTE_DIRECT];
    there.addr = *to;
    there.socket = socket;
    /* What answers it begins a check of its own, whose token nobody else has seen. */
    (void)transport_token(s, MVPN_CMD_PATH_CHALLENGE, mvpn_rng_u64(s->links->config.rng), &there,
                          now);
}

void path_received(struct session *s, const mvpn_packet *packet, size_t len, bool is_newest,
                   bool is_fresh_id, mvpn_time now)
{
    struct path_check *c = &s->check;
    struct route *route = path_route_of(s, packet);
    if (MVPN_LIKELY(route != NULL)) {
        route->last_recv = now;
        return;
    }
    struct route *direct = &s->routes[ROUTE_DIRECT];
    bool is_relayed = s->routes[ROUTE_RELAYED].live;
    if (!direct->has_remote || (is_relayed && s->link->connection == NULL)) {
        return; /* a relayed link whose peer has named no ids of a direct route */
    }
    if (c->active) {
        if (mvpn_addr_eq(&packet->remote, &c->addr)) {
            c->bytes_in += len;
        }
        return;
    }
    /* Of two paths the direct one may be the slower. */
    if ((!is_newest && !is_relayed) || has_failed_lately(s, &packet->remote, now)) {
        return;
    }
    *c = (struct path_check){
        .active = true, .addr = packet->remote, .local = packet->local, .bytes_in = len};
    c->token = mvpn_rng_u64(s->links->config.rng);
    s->links->counters.path_checks++;
    if (is_fresh_id && direct->live) {
        connid_take_fresh(direct); /* else our id would tie the peer's two addresses together */
    }
    connector_heard(s, now);
    challenge(s, now);
}

void path_timer(struct session *s, mvpn_time now)
{
    struct path_check *c = &s->check;
    if (c->sent < CHALLENGES_MAX) {
        challenge(s, now);
        return;
    }
    s->failed = s->failed != NULL ? s->failed : calloc(FAILED_PATHS, sizeof(*s->failed));
    if (s->failed != NULL) { /* else the next packet from there begins another check */
        s->failed[s->failed_next] = (struct failed_path){c->addr, now + FAILED_FOR};
        s->failed_next = (s->failed_next + 1) % FAILED_PATHS;
    }
    *c = (struct path_check){0};
    connector_unheard(s, now);
}

void path_challenged(struct session *s, const mvpn_packet *packet, uint64_t token, mvpn_time now)
{
    if (s->check.active && mvpn_addr_eq(&packet->remote, &s->check.addr)) {
        (void)send_unproven(s, MVPN_CMD_PATH_RESPONSE, token,
                            now); /* within the allowance or not at all */
    } else {
        struct route *route = path_route_of(s, packet);
        (void)transport_token(s, MVPN_CMD_PATH_RESPONSE, token, route != NULL ? route : s->route,
                              now); /* lost: asked again */
    }
}

void path_response(struct session *s, const mvpn_packet *packet, uint64_t token, mvpn_time now)
{
    struct path_check *c = &s->check;
    if (!c->active || token != c->token || !mvpn_addr_eq(&packet->remote, &c->addr)) {
        return;
    }
    struct route *direct = &s->routes[ROUTE_DIRECT];
    direct->live = true;
    direct->addr = c->addr;
    direct->socket = c->local;
    direct->last_recv = now;
    *c = (struct path_check){0};
    set_timer(s, TIMER_PATH, MVPN_TIME_NEVER);
    if (s->route != direct) {
        path_use(s, ROUTE_DIRECT, now);
    } else {
        s->is_full_size = false;
        pmtu_restart(s, now);
    }
    connector_proven(s, now);
}

static void probe(struct session *s, mvpn_time now)
{
    mvpn_packet *packet = mvpn_packet_new(s->links->config.pool);
    mvpn_time wait = s->probes == 0 ? MVPN_MS(200) : MVPN_MS(400) << (s->probes - 1);
    s->probes++;
    set_timer(s, TIMER_PMTU, now + wait);
    if (packet == NULL) {
        return;
    }
    uint8_t *body = mvpn_packet_append(packet, MVPN_BODY_MAX);
    memset(body, 0, MVPN_BODY_MAX);
    mvpn_store64(body, s->probe_token);
    packet->flags |= MVPN_PACKET_PROBE;
    const mvpn_header header = {.command = MVPN_CMD_LINK_PROBE, .length = MVPN_BODY_MAX};
    (void)transport_send(s, packet, &header, s->route, now); /* as good as lost */
}

void pmtu_restart(struct session *s, mvpn_time now)
{
    if (s->peer_max_datagram < PACKET_FULL) {
        return;
    }
    s->probe_token = mvpn_rng_u64(s->links->config.rng);
    s->probes = 0;
    probe(s, now);
}

void pmtu_suspect(struct session *s, mvpn_time now)
{
    if (s->is_full_size) {
        s->is_full_size = false;
        pmtu_restart(s, now);
    }
}

void pmtu_answered(struct session *s, uint64_t token, mvpn_time now)
{
    if (s->probes == 0 || token != s->probe_token) {
        return;
    }
    s->is_full_size = true;
    s->probes = 0;
    set_timer(s, TIMER_PMTU, now + PROBE_AGAIN);
}

void pmtu_timer(struct session *s, mvpn_time now)
{
    if (s->probes == 0) {
        pmtu_restart(s, now);
    } else if (s->probes < PROBES_MAX) {
        probe(s, now);
    } else {
        /* A path that swallows large packets in silence. */
        s->is_full_size = false;
        s->probes = 0;
        set_timer(s, TIMER_PMTU, now + PROBE_AGAIN);
    }
}
