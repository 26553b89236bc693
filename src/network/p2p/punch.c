/*
 * Rounds of hole punching. (docs/protocol.md §14.5)
 *
 *   caller                         NAT relay                        called
 *     | LinkCandidates (ask) ----------(link through it)----------->  |
 *     | NatAddress --->|                              |<--- NatAddress |
 *     | <-------------------------------------------- LinkCandidates  |
 *     | now: punches ---->                          <---- half an RTT later: punches
 *
 * What comes through is a PathChallenge like any: path.c challenges the address it came from, and
 * the answer moves the link. So nothing here is trusted; a wrong candidate costs a packet, and only
 * ports of the ip that the NAT relay saw are ever tried.
 */
#include "network/p2p/connection.h"

static const mvpn_time steps[] = {
    0, MVPN_MS(60), MVPN_MS(150), MVPN_MS(300), MVPN_MS(600), MVPN_MS(1000)};
/* After the last punch; a round trip on top. */
#define ROUND_PATIENCE MVPN_MS(800)
/* Both sides' candidates and addresses: as long as a message may take that is lost twice. */
#define ROUND_PREPARATION MVPN_MS(2500)
/* Rounds that failed: when the next one begins. */
static const mvpn_time pauses[] = {MVPN_S(5), MVPN_S(60), MVPN_S(600)};
/* One of which nothing was sent, as a word of the peer or of the NAT relay was missing. */
#define UNPREPARED_PAUSE MVPN_MS(500)
#define UNPREPARED_MAX 3
#define PORTS_GUESSED 11
/* With ports in sequence, after so many steps: the peer's NAT has made mappings since the NAT relay
 * saw it, so that the guesses go on from there. */
#define STEPS_OF_SEQUENCE 3
/* At most so many host addresses of one home, and told ports. */
#define TOLD_MAX 3
/* 400 birthday probes a second. */
#define PROBE_PAUSE ((mvpn_time)2500)
/* Ports are tried when most of the other side's sockets are there. */
#define SOCKETS_FIRST MVPN_MS(500)
#define PORT_FIRST 1024u
#define PORTS (65536u - PORT_FIRST)

/* ---- what we say ---- */

static bool is_private(const mvpn_addr *a)
{
    return a->family == 4 && !mvpn_addr_is_public(a);
}

static void add_candidate(mvpn_link_candidates *m, uint8_t kind, const mvpn_addr *addr)
{
    for (size_t i = 0; i < m->candidate_count; i++) {
        if (mvpn_addr_eq(&m->candidates[i].addr, addr)) {
            return;
        }
    }
    if (m->candidate_count < MVPN_CANDIDATES_MAX && addr->family != 0 && addr->port != 0) {
        m->candidates[m->candidate_count++] = (mvpn_candidate){kind, *addr};
    }
}

static bool is_hard(unsigned mapping, int port_step)
{
    return mapping >= MVPN_NAT_DEPENDS_ADDRESS && port_step == 0;
}

static void send_candidates(struct connection *conn, uint8_t number, uint8_t flags, mvpn_time now)
{
    const mvpn_connector *c = conn->connector;
    const mvpn_nat_class *nat = &c->nat;
    /* What STUN's names and ours count alike. (wire/linkmsg.h) */
    mvpn_link_candidates m = {.round = number,
                              .flags = flags,
                              .mapping = (uint8_t)nat->mapping,
                              .filtering = (uint8_t)nat->filtering,
                              .port_step = (int16_t)nat->port_step};
    m.id_count = (uint8_t)connid_unused(conn->link->session, m.ids);
    if (m.id_count == 0) {
        return; /* all are on their way out: the next round */
    }
    if (is_hard(m.mapping, m.port_step)) {
        m.flags |= MVPN_CANDIDATES_SOCKETS;
    }
    for (size_t i = 0; i < nat->seen_count; i++) {
        add_candidate(&m, MVPN_CANDIDATE_REFLEXIVE, &nat->seen[i]);
    }
    for (size_t i = 0; i < c->mapped_count; i++) {
        add_candidate(&m, MVPN_CANDIDATE_MAPPED, &c->mapped[i]);
    }
    for (size_t i = 0; c->config.tells_host_addresses && i < c->config.own_count; i++) {
        if (is_private(&c->config.own[i])) {
            add_candidate(&m, MVPN_CANDIDATE_HOST, &c->config.own[i]);
        }
    }
    uint8_t body[MVPN_LINK_CANDIDATES_LEN_MAX];
    size_t n = mvpn_link_candidates_encode(body, &m);
    /* What does not get out is as if the round had failed. */
    MVPN_IGNORE(
        reliable_command(conn->link, MVPN_CMD_LINK_CANDIDATES, mvpn_bytes_of(body, n), now));
}

static void prepare(struct connection *conn, uint8_t number, mvpn_time now)
{
    conn->round = (struct round){.phase = ROUND_PREPARING, .number = number};
    path_try_again(conn->link->session);
    conn->last_round = number;
    conn->next_punch = now + ROUND_PREPARATION;
    conn->rounds++;
    connection_enter(conn, MVPN_CONNECTION_HOLE_PUNCH, MVPN_CONNECTION_ROUND, now);
    call_send(conn->call, MVPN_CMD_NAT_ADDRESS, conn->call->id.b, sizeof(conn->call->id.b), now);
    connection_wake(conn, conn->next_punch);
}

void punch_begin(struct connection *conn, mvpn_time now)
{
    prepare(conn, (uint8_t)(conn->last_round + 1), now);
    send_candidates(conn, conn->round.number, MVPN_CANDIDATES_ASK, now);
}

void punch_tell_given_up(struct connection *conn, mvpn_time now)
{
    send_candidates(conn, conn->last_round, MVPN_CANDIDATES_GAVE_UP, now);
}

/* ---- what the peer says ---- */

static void add_target(struct round *r, const mvpn_addr *addr, bool is_guessed)
{
    for (size_t i = 0; i < r->target_count; i++) {
        if (mvpn_addr_eq(&r->target[i].addr, addr)) {
            return;
        }
    }
    if (r->target_count < PUNCH_TARGETS) {
        r->target[r->target_count++] =
            (struct punch_target){.addr = *addr, .is_guessed = is_guessed};
    }
}

static bool is_own(const mvpn_connector *c, const mvpn_addr *addr)
{
    for (size_t i = 0; i < c->config.own_count; i++) {
        if (mvpn_addr_ip_eq(&c->config.own[i], addr)) {
            return true;
        }
    }
    return false;
}

/* Are both seen at one ip, so that a host address may be of our own network? */
static bool is_same_home(const struct connection *conn, const mvpn_addr *seen)
{
    const mvpn_connector *c = conn->connector;
    const mvpn_addr *observed = mvpn_link_observed_addr(conn->call->relay);
    bool is_same = observed->family != 0 && mvpn_addr_ip_eq(observed, seen);
    for (size_t i = 0; i < c->nat.seen_count; i++) {
        is_same = is_same || mvpn_addr_ip_eq(&c->nat.seen[i], seen);
    }
    return is_same;
}

static bool is_sequential(const mvpn_link_candidates *m)
{
    return m->mapping >= MVPN_NAT_DEPENDS_ADDRESS && m->port_step != 0;
}

static void choose_targets(struct connection *conn)
{
    struct round *r = &conn->round;
    bool is_home = is_same_home(conn, &r->seen);
    size_t told = 0;
    add_target(r, &r->seen, false);
    for (size_t i = 0; i < r->theirs.candidate_count && told < TOLD_MAX; i++) {
        const mvpn_candidate *m = &r->theirs.candidates[i];
        bool is_host = m->kind == MVPN_CANDIDATE_HOST && is_home && is_private(&m->addr) &&
                       !is_own(conn->connector, &m->addr);
        /* Ports may differ; an ip that nobody has proven is a victim's. */
        if (is_host || mvpn_addr_ip_eq(&m->addr, &r->seen)) {
            add_target(r, &m->addr, m->kind != MVPN_CANDIDATE_HOST);
            told++;
        }
    }
    if (is_sequential(&r->theirs)) {
        int port = r->seen.port;
        for (int i = 0; i < PORTS_GUESSED; i++) {
            port += r->theirs.port_step;
            mvpn_addr guess = r->seen;
            guess.port = (uint16_t)port;
            if (port > 0 && port <= UINT16_MAX) {
                add_target(r, &guess, true);
            }
        }
    }
}

static void start_if_ready(struct connection *conn, mvpn_time now)
{
    struct round *r = &conn->round;
    if (r->phase != ROUND_PREPARING || !r->has_theirs || !r->has_seen) {
        return;
    }
    if (!budget_may_begin(conn->connector, &r->seen, &conn->relay_identity, now)) {
        punch_end(conn, false, now);
        return;
    }
    choose_targets(conn);
    r->phase = ROUND_PUNCHING;
    r->start = MVPN_MAX(r->start, now);
    conn->next_punch = r->start;
    connection_wake(conn, r->start);
}

void punch_candidates(struct connection *conn, const mvpn_link_candidates *m, mvpn_time now)
{
    struct session *s = conn->link->session;
    struct route *direct = &s->routes[ROUTE_DIRECT];
    if (conn->connector->config.is_relayed_only) {
        return; /* without ids of a direct route none is ever checked */
    }
    if (!direct->live) {
        direct->remote = m->ids[0];
        direct->has_remote = true;
        direct->spare_count = 0;
        connid_add_spares(direct, &m->ids[1], m->id_count - 1u);
    }
    if ((m->flags & MVPN_CANDIDATES_GAVE_UP) != 0 || conn->call == NULL) {
        return;
    }
    if ((m->flags & MVPN_CANDIDATES_ASK) != 0) {
        if (conn->is_caller || direct->live || !mvpn_bucket_take(&conn->asked, 1, now)) {
            return;
        }
        prepare(conn, m->round, now);
        send_candidates(conn, m->round, 0, now);
        /* The caller begins when this has reached it. */
        conn->round.start = now + conn->link->srtt_us / 2;
    } else if (conn->round.phase != ROUND_PREPARING || m->round != conn->round.number) {
        return;
    }
    conn->round.theirs = *m;
    conn->round.has_theirs = true;
    start_if_ready(conn, now);
}

/* A NAT relay on the internet sees nobody at an address that is not of it: it would lead us to what
 * is behind our own NAT. */
static bool is_plausible(const struct connection *conn, const mvpn_addr *seen)
{
    return mvpn_addr_is_public(seen) ||
           !mvpn_addr_is_public(mvpn_link_peer_addr(conn->call->relay));
}

void punch_seen(struct connection *conn, const mvpn_addr *seen, mvpn_time now)
{
    if (conn->round.phase == ROUND_PREPARING && !conn->round.has_seen && is_plausible(conn, seen)) {
        conn->round.seen = *seen;
        conn->round.has_seen = true;
        start_if_ready(conn, now);
    }
}

/* ---- what is sent ---- */

static void punch_step(struct connection *conn, mvpn_time now)
{
    struct round *r = &conn->round;
    for (size_t i = 0; i < r->target_count; i++) {
        struct punch_target *t = &r->target[i];
        bool is_due = r->step == 0 || !t->is_guessed;
        if (is_due && budget_take(conn->connector, &t->addr, false, now)) {
            t->sent++;
            path_punch(conn->link->session, &t->addr, MVPN_LOCAL_MAIN, now);
        }
    }
    r->step++;
}

static bool filters_by_port(unsigned filtering)
{
    return filtering == MVPN_NAT_DEPENDS_UNKNOWN || filtering == MVPN_NAT_DEPENDS_PORT;
}

/* Plain punches did not get through: is it a birthday's case, and whose part is ours? */
static enum round_phase after_steps(struct connection *conn, mvpn_time now)
{
    mvpn_connector *c = conn->connector;
    struct round *r = &conn->round;
    const mvpn_link_candidates *m = &r->theirs;
    bool we_are_hard = is_hard((unsigned)c->nat.mapping, c->nat.port_step);
    bool they_are_hard = is_hard(m->mapping, m->port_step);
    bool we_are_easy = c->nat.mapping == MVPN_STUN_MAPPING_ENDPOINT_INDEPENDENT;
    bool they_are_easy = m->mapping == MVPN_NAT_DEPENDS_NOT;
    if (we_are_hard && they_are_easy && filters_by_port(m->filtering)) {
        bool is_free = c->birthday == NULL || c->birthday == conn;
        return is_free && budget_has_probes(c, &r->seen, now) ? ROUND_MANY_SOCKETS : ROUND_WAITING;
    }
    if ((they_are_hard || is_sequential(m)) && we_are_easy &&
        filters_by_port((unsigned)c->nat.filtering)) {
        return budget_has_probes(c, &r->seen, now) ? ROUND_MANY_PORTS : ROUND_WAITING;
    }
    return ROUND_WAITING;
}

static uint32_t gcd(uint32_t a, uint32_t b)
{
    return b == 0 ? a : gcd(b, a % b);
}

static void birthday_begin(struct connection *conn, enum round_phase phase, mvpn_time now)
{
    mvpn_connector *c = conn->connector;
    struct round *r = &conn->round;
    r->phase = phase;
    if (is_sequential(&r->theirs)) {
        uint32_t step = (uint32_t)((int)PORTS + r->theirs.port_step) % PORTS;
        r->port_step = step;
        r->port_at = (r->seen.port + PORTS - PORT_FIRST + (PORTS_GUESSED + 1) * step) % PORTS;
    } else {
        r->port_at = mvpn_rng_below(c->config.rng, PORTS);
        do {
            r->port_step = 1 + mvpn_rng_below(c->config.rng, PORTS - 1);
        } while (gcd(r->port_step, PORTS) != 1);
    }
    if (phase == ROUND_MANY_SOCKETS) {
        c->birthday = conn;
        conn->has_sockets = true;
        conn->sockets_until = MVPN_TIME_NEVER;
    }
    connection_enter(conn, MVPN_CONNECTION_HOLE_PUNCH, MVPN_CONNECTION_BIRTHDAY, now);
}

/* Each is due PROBE_PAUSE after the one before; a late call sends several. False: it was the last.
 */
static bool birthday_step(struct connection *conn, mvpn_time now)
{
    struct round *r = &conn->round;
    bool is_ours = r->phase == ROUND_MANY_SOCKETS;
    unsigned most = is_ours ? MVPN_LOCAL_PUNCH_MAX : BUDGET_PROBES;
    while (r->probes < most && conn->next_punch <= now) {
        mvpn_addr to = r->seen;
        uint16_t socket = MVPN_LOCAL_MAIN;
        if (is_ours) {
            socket = (uint16_t)(MVPN_LOCAL_PUNCH + r->probes);
        } else {
            to.port = (uint16_t)(PORT_FIRST + r->port_at);
            r->port_at = (r->port_at + r->port_step) % PORTS;
        }
        if (!budget_take(conn->connector, &to, true, now)) {
            return false;
        }
        path_punch(conn->link->session, &to, socket, now);
        r->probes++;
        conn->next_punch += PROBE_PAUSE;
    }
    return r->probes < most;
}

mvpn_time punch_tick(struct connection *conn, mvpn_time now)
{
    struct round *r = &conn->round;
    if (r->phase == ROUND_NONE) {
        return MVPN_TIME_NEVER;
    }
    if (conn->next_punch > now) {
        return conn->next_punch;
    }
    size_t step_count = is_sequential(&r->theirs) ? STEPS_OF_SEQUENCE : MVPN_ARRAY_LEN(steps);
    if (r->phase == ROUND_PUNCHING && r->step < step_count) {
        punch_step(conn, now);
        conn->next_punch = r->step < step_count ? r->start + steps[r->step] : now + PROBE_PAUSE;
        return MVPN_MAX(conn->next_punch, now + 1);
    }
    if (r->phase == ROUND_PUNCHING) {
        enum round_phase next = after_steps(conn, now);
        if (next != ROUND_WAITING) {
            birthday_begin(conn, next, now);
            bool is_late = next == ROUND_MANY_PORTS && !is_sequential(&r->theirs);
            conn->next_punch = now + (is_late ? SOCKETS_FIRST : PROBE_PAUSE);
            return conn->next_punch;
        }
        r->phase = ROUND_WAITING;
        conn->next_punch = now + ROUND_PATIENCE + conn->link->srtt_us;
        return conn->next_punch;
    }
    if (r->phase == ROUND_MANY_SOCKETS || r->phase == ROUND_MANY_PORTS) {
        if (birthday_step(conn, now)) {
            return conn->next_punch;
        }
        /* The side with many sockets is done first. */
        bool is_ours = r->phase == ROUND_MANY_SOCKETS;
        r->phase = ROUND_WAITING;
        conn->next_punch = now + ROUND_PATIENCE + conn->link->srtt_us +
                           (is_ours ? (BUDGET_PROBES - MVPN_LOCAL_PUNCH_MAX) * PROBE_PAUSE +
                                          SOCKETS_FIRST + MVPN_S(1)
                                    : 0);
        return conn->next_punch;
    }
    punch_end(conn, false, now);
    return MVPN_TIME_NEVER;
}

void punch_end(struct connection *conn, bool is_direct, mvpn_time now)
{
    mvpn_connector *c = conn->connector;
    struct round *r = &conn->round;
    bool was_round = r->phase != ROUND_NONE;
    bool is_unprepared = r->phase == ROUND_PREPARING && conn->rounds <= UNPREPARED_MAX;
    const struct session *s = conn->link->session;
    for (size_t i = 0; is_direct && s != NULL && i < r->target_count; i++) {
        if (mvpn_addr_eq(&r->target[i].addr, &s->routes[ROUTE_DIRECT].addr)) {
            budget_give_back(c, &r->target[i].addr, r->target[i].sent);
        }
    }
    *r = (struct round){0};
    if (conn->has_sockets) {
        /* The peer may have heard another socket than we did. */
        conn->sockets_until = now + MVPN_S(5);
        connection_wake(conn, conn->sockets_until);
    }
    if (is_direct) {
        conn->failures = 0;
        conn->next_round = MVPN_TIME_NEVER;
        return;
    }
    size_t i = MVPN_MIN((size_t)conn->failures, MVPN_ARRAY_LEN(pauses) - 1);
    conn->failures += !is_unprepared;
    mvpn_time pause = is_unprepared ? UNPREPARED_PAUSE : pauses[i];
    conn->next_round =
        conn->is_caller ? now + mvpn_rng_jitter(c->config.rng, pause, 20) : MVPN_TIME_NEVER;
    if (was_round && conn->state == MVPN_CONNECTION_HOLE_PUNCH) {
        connection_enter(conn, MVPN_CONNECTION_RELAYED, MVPN_CONNECTION_ROUND_FAILED, now);
    }
}
