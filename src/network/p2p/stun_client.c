#include "network/p2p/stun_client.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/error.h"

/* Transactions have fixed places: the place is the test. */
enum place {
    T_BASE, /* 2 * server + socket */
    T_FILTER_BOTH = T_BASE + 2 * MVPN_STUN_SERVERS_MAX,
    T_FILTER_PORT,
    T_MAP_A1P2,
    T_MAP_A2P1,
    T_MAP_A2P2,
    T_HAIRPIN0,
    T_HAIRPIN1,
    TRANSACTIONS,
};

enum state { IDLE, WAITING, ANSWERED, REFUSED, SILENT };

enum phase { BASE, BEHAVE, HAIRPIN, DONE };

/* A larger distance between two ports is no step that could be predicted. */
#define STEP_MAX 32

struct transaction {
    enum state state;
    unsigned socket;
    mvpn_addr to;
    mvpn_addr from; /* whence the answer must come */
    bool change_ip, change_port;
    uint8_t id[MVPN_STUN_TRANSACTION_LEN];
    unsigned sent;
    bool is_due; /* to be pulled */
    mvpn_time sent_at;
    mvpn_time next;
    mvpn_addr mapped;
    mvpn_addr other;
};

struct mvpn_stun_client {
    mvpn_stun_client_config config;
    mvpn_rng *rng;
    enum phase phase;
    struct transaction t[TRANSACTIONS];
    mvpn_addr other; /* A2:P2 of the chosen server; family 0: none */
    mvpn_stun_result result;
};

/* ---- transactions ---- */

static void start(mvpn_stun_client *c, enum place place, unsigned socket, const mvpn_addr *to,
                  mvpn_time now)
{
    struct transaction *t = &c->t[place];
    *t = (struct transaction){
        .state = WAITING, .socket = socket, .to = *to, .from = *to, .next = now};
    mvpn_rng_bytes(c->rng, t->id, sizeof(t->id));
}

static bool has_answer(const mvpn_stun_client *c, enum place place)
{
    return c->t[place].state == ANSWERED;
}

/* RFC 8489 §6.2.1: send, wait RTO, send, wait twice as long, ..., and after the last Rm * RTO. */
static void send_or_give_up(const mvpn_stun_client *c, struct transaction *t, mvpn_time now)
{
    const mvpn_stun_client_config *g = &c->config;
    if (t->sent == g->rc) {
        t->state = SILENT;
        t->is_due = false;
        return;
    }
    t->sent++;
    t->is_due = true;
    t->sent_at = now;
    t->next = now + (t->sent == g->rc ? g->rto * g->rm : g->rto << (t->sent - 1));
}

static bool is_over(const mvpn_stun_client *c, enum place from, enum place to)
{
    for (unsigned i = from; i < to; i++) {
        if (c->t[i].state == WAITING) {
            return false;
        }
    }
    return true;
}

static void cancel(mvpn_stun_client *c, enum place from, enum place to)
{
    for (unsigned i = from; i < to; i++) {
        if (c->t[i].state == WAITING) {
            c->t[i].state = IDLE;
            c->t[i].is_due = false;
        }
    }
}

/* ---- what was measured ---- */

static const mvpn_addr *mapping_at(const mvpn_stun_client *c, enum place place)
{
    return has_answer(c, place) ? &c->t[place].mapped : NULL;
}

static bool same(const mvpn_addr *a, const mvpn_addr *b)
{
    return a != NULL && b != NULL && mvpn_addr_eq(a, b);
}

static bool differ(const mvpn_addr *a, const mvpn_addr *b)
{
    return a != NULL && b != NULL && !mvpn_addr_eq(a, b);
}

/* Several servers, each with one address: what they saw of socket 0. */
static enum mvpn_stun_mapping mapping_by_observers(const mvpn_stun_client *c)
{
    enum mvpn_stun_mapping found = MVPN_STUN_MAPPING_UNKNOWN;
    const struct transaction *first = NULL;
    for (size_t i = 0; i < c->config.server_count; i++) {
        const struct transaction *t = &c->t[T_BASE + 2 * i];
        if (t->state != ANSWERED) {
            continue;
        }
        if (first == NULL) {
            first = t;
        } else if (!mvpn_addr_eq(&first->mapped, &t->mapped)) {
            return MVPN_STUN_MAPPING_ADDRESS_AND_PORT_DEPENDENT; /* at the worst */
        } else if (!mvpn_addr_ip_eq(&first->to, &t->to)) {
            found = MVPN_STUN_MAPPING_ENDPOINT_INDEPENDENT;
        }
    }
    return found;
}

/* RFC 5780 §4.3, with A1:P2 asked too. */
static enum mvpn_stun_mapping classify_mapping(const mvpn_stun_client *c)
{
    const mvpn_addr *m11 = c->result.mapped[1].family != 0 ? &c->result.mapped[1] : NULL;
    const mvpn_addr *m12 = mapping_at(c, T_MAP_A1P2), *m21 = mapping_at(c, T_MAP_A2P1),
                    *m22 = mapping_at(c, T_MAP_A2P2);
    if (differ(m11, m12) || differ(m21, m22)) {
        return MVPN_STUN_MAPPING_ADDRESS_AND_PORT_DEPENDENT;
    }
    if (same(m11, m21) && same(m11, m22)) {
        return MVPN_STUN_MAPPING_ENDPOINT_INDEPENDENT;
    }
    if (differ(m11, m21) || differ(m11, m22)) {
        return same(m21, m22) && m12 != NULL ? MVPN_STUN_MAPPING_ADDRESS_DEPENDENT
                                             : MVPN_STUN_MAPPING_ADDRESS_AND_PORT_DEPENDENT;
    }
    return mapping_by_observers(c);
}

/* RFC 5780 §4.4. Silence is a filter's only if the address that was silent answers others: A2:P2
 * is asked last, after A1:P2 has answered. */
static enum mvpn_stun_filtering classify_filtering(const mvpn_stun_client *c)
{
    bool both_silent = c->t[T_FILTER_BOTH].state == SILENT && has_answer(c, T_MAP_A2P2);
    bool port_silent = c->t[T_FILTER_PORT].state == SILENT;
    if (has_answer(c, T_FILTER_BOTH)) {
        return MVPN_STUN_FILTERING_ENDPOINT_INDEPENDENT;
    }
    if (both_silent && has_answer(c, T_FILTER_PORT)) {
        return MVPN_STUN_FILTERING_ADDRESS_DEPENDENT;
    }
    return both_silent && port_silent ? MVPN_STUN_FILTERING_ADDRESS_AND_PORT_DEPENDENT
                                      : MVPN_STUN_FILTERING_UNKNOWN;
}

static bool is_preserving(const mvpn_stun_client *c)
{
    const mvpn_stun_result *r = &c->result;
    for (unsigned i = 0; i < MVPN_STUN_CLIENT_SOCKETS; i++) {
        if (r->mapped[i].family == 0 || r->mapped[i].port != c->config.local[i].port) {
            return false;
        }
    }
    return r->mapping == MVPN_STUN_MAPPING_ENDPOINT_INDEPENDENT;
}

/* The ports of the mappings that socket 1 got one after the other. */
static void classify_ports(mvpn_stun_client *c)
{
    static const enum place order[] = {T_MAP_A1P2, T_MAP_A2P1, T_MAP_A2P2};
    mvpn_stun_result *r = &c->result;
    int last = r->mapped[1].port, step = 0;
    unsigned steps = 0;
    if (is_preserving(c)) {
        r->ports = MVPN_STUN_PORTS_PRESERVING;
        return;
    }
    if (r->mapped[1].family == 0) {
        return;
    }
    for (size_t i = 0; i < MVPN_ARRAY_LEN(order); i++) {
        const mvpn_addr *m = mapping_at(c, order[i]);
        if (m == NULL || m->port == last) {
            continue;
        }
        int d = m->port - last;
        last = m->port;
        if (abs(d) > STEP_MAX || (steps > 0 && (d > 0) != (step > 0))) {
            r->ports = MVPN_STUN_PORTS_RANDOM;
            return;
        }
        step = steps == 0 || abs(d) < abs(step) ? d : step;
        steps++;
    }
    if (steps >= 2) { /* one alone may be chance */
        r->ports = MVPN_STUN_PORTS_SEQUENTIAL;
        r->port_step = step;
    }
}

/* What the world sees is what the host has. */
static bool is_without_nat(const mvpn_stun_client *c)
{
    bool found = false;
    for (unsigned i = 0; i < MVPN_STUN_CLIENT_SOCKETS; i++) {
        const mvpn_addr *m = &c->result.mapped[i];
        if (m->family != 0 && !mvpn_addr_eq(m, &c->config.local[i])) {
            return false;
        }
        found |= m->family != 0;
    }
    return found;
}

static enum mvpn_stun_nat verdict(const mvpn_stun_client *c)
{
    const mvpn_stun_result *r = &c->result;
    if (!r->has_address) {
        for (unsigned i = 0; i < TRANSACTIONS; i++) {
            if (c->t[i].state == REFUSED) {
                return MVPN_STUN_NAT_UNKNOWN; /* somebody did answer */
            }
        }
        return MVPN_STUN_NAT_UDP_BLOCKED;
    }
    if (is_without_nat(c)) {
        return MVPN_STUN_NAT_NONE;
    }
    switch (r->mapping) {
    case MVPN_STUN_MAPPING_ADDRESS_DEPENDENT:
    case MVPN_STUN_MAPPING_ADDRESS_AND_PORT_DEPENDENT:
        return MVPN_STUN_NAT_SYMMETRIC;
    case MVPN_STUN_MAPPING_ENDPOINT_INDEPENDENT:
        return r->filtering == MVPN_STUN_FILTERING_ENDPOINT_INDEPENDENT ? MVPN_STUN_NAT_FULL_CONE
               : r->filtering == MVPN_STUN_FILTERING_ADDRESS_DEPENDENT
                   ? MVPN_STUN_NAT_RESTRICTED
                   : MVPN_STUN_NAT_PORT_RESTRICTED;
    case MVPN_STUN_MAPPING_UNKNOWN:
        break;
    }
    return MVPN_STUN_NAT_UNKNOWN;
}

static void finish(mvpn_stun_client *c)
{
    mvpn_stun_result *r = &c->result;
    cancel(c, T_BASE, TRANSACTIONS);
    c->phase = DONE;
    r->mapping = classify_mapping(c);
    r->filtering = classify_filtering(c);
    classify_ports(c);
    r->nat = verdict(c);
}

/* ---- the phases ---- */

/* A server that says where else it is directs our next packets: never at ourselves, never from the
 * public internet into a local network. (RFC 5780 §7.4: another address and another port) */
static bool is_alternate(const mvpn_stun_client *c, const mvpn_addr *server, const mvpn_addr *other)
{
    if (other->family != server->family || other->port == 0 || other->port == server->port ||
        mvpn_addr_ip_eq(other, server) ||
        (mvpn_addr_is_public(server) && !mvpn_addr_is_public(other))) {
        return false;
    }
    for (unsigned i = 0; i < MVPN_STUN_CLIENT_SOCKETS; i++) {
        if (mvpn_addr_ip_eq(other, &c->config.local[i])) {
            return false;
        }
    }
    for (unsigned i = T_BASE; i < T_FILTER_BOTH; i++) {
        if (c->t[i].state == ANSWERED && mvpn_addr_ip_eq(other, &c->t[i].mapped)) {
            return false;
        }
    }
    return true;
}

/* 0: did not answer; 3: answered both sockets; 4 more if it has an alternate. */
static unsigned worth(const mvpn_stun_client *c, size_t server)
{
    const struct transaction *t = &c->t[T_BASE + 2 * server];
    unsigned value = (t[0].state == ANSWERED ? 2u : 0) + (t[1].state == ANSWERED ? 1u : 0);
    return value + (value == 3 && is_alternate(c, &t[0].to, &t[0].other) ? 4 : 0);
}

/* Take over what this server saw. */
static void choose(mvpn_stun_client *c, size_t server)
{
    mvpn_stun_result *r = &c->result;
    const struct transaction *t = &c->t[T_BASE + 2 * server];
    r->server = t[0].to;
    r->has_address = true;
    for (unsigned i = 0; i < MVPN_STUN_CLIENT_SOCKETS; i++) {
        r->mapped[i] = t[i].mapped;
    }
    if (worth(c, server) > 3) {
        c->other = t[0].other;
    }
}

static void start_behave(mvpn_stun_client *c, mvpn_time now)
{
    struct transaction *t = c->t;
    const mvpn_addr *a1 = &c->result.server, *a2 = &c->other;
    mvpn_addr a1p2 = *a1;
    a1p2.port = a2->port;
    start(c, T_FILTER_BOTH, 0, a1, now);
    t[T_FILTER_BOTH].change_ip = t[T_FILTER_BOTH].change_port = true;
    t[T_FILTER_BOTH].from = *a2;
    start(c, T_FILTER_PORT, 0, a1, now);
    t[T_FILTER_PORT].change_port = true;
    t[T_FILTER_PORT].from = a1p2;
    start(c, T_MAP_A1P2, 1, &a1p2, now);
    c->phase = BEHAVE;
}

/* The next address for socket 1 as soon as one has answered: mappings in a known order. */
static bool go_on_mapping(mvpn_stun_client *c, mvpn_time now)
{
    mvpn_addr to = c->other;
    if (has_answer(c, T_MAP_A1P2) && c->t[T_MAP_A2P1].state == IDLE) {
        to.port = c->result.server.port;
        start(c, T_MAP_A2P1, 1, &to, now);
        return true;
    }
    if (has_answer(c, T_MAP_A2P1) && c->t[T_MAP_A2P2].state == IDLE) {
        start(c, T_MAP_A2P2, 1, &to, now);
        return true;
    }
    return false;
}

/* Packets go to the address that servers say is ours: only if all say the same. */
static bool may_hairpin(const mvpn_stun_client *c)
{
    const mvpn_addr *m = c->result.mapped;
    if (m[0].family == 0 || m[1].family == 0 || is_without_nat(c)) {
        return false;
    }
    for (unsigned i = T_BASE; i < T_HAIRPIN0; i++) {
        if (c->t[i].state == ANSWERED && !mvpn_addr_ip_eq(&c->t[i].mapped, &m[0])) {
            return false;
        }
    }
    return true;
}

static void start_hairpin(mvpn_stun_client *c, mvpn_time now)
{
    if (!may_hairpin(c)) {
        finish(c);
        return;
    }
    start(c, T_HAIRPIN0, 0, &c->result.mapped[1], now);
    start(c, T_HAIRPIN1, 1, &c->result.mapped[0], now);
    c->phase = HAIRPIN;
}

static void end_base(mvpn_stun_client *c, mvpn_time now)
{
    size_t best = 0;
    for (size_t i = 1; i < c->config.server_count; i++) {
        best = worth(c, i) > worth(c, best) ? i : best;
    }
    if (worth(c, best) < 7 && !is_over(c, T_BASE, T_FILTER_BOTH)) {
        return;
    }
    cancel(c, T_BASE, T_FILTER_BOTH);
    if (worth(c, best) > 0) {
        choose(c, best);
    }
    if (worth(c, best) == 0 || c->config.address_only) {
        finish(c);
    } else if (c->other.family != 0) {
        start_behave(c, now);
    } else {
        start_hairpin(c, now);
    }
}

static void advance(mvpn_stun_client *c, mvpn_time now)
{
    switch (c->phase) {
    case BASE:
        end_base(c, now);
        break;
    case BEHAVE:
        if (!go_on_mapping(c, now) && is_over(c, T_FILTER_BOTH, T_HAIRPIN0)) {
            start_hairpin(c, now);
        }
        break;
    case HAIRPIN:
        if (c->result.hairpin == MVPN_STUN_HAIRPIN_YES) {
            finish(c);
        } else if (is_over(c, T_HAIRPIN0, TRANSACTIONS)) {
            c->result.hairpin = MVPN_STUN_HAIRPIN_NO;
            finish(c);
        }
        break;
    case DONE:
        break;
    }
}

static void run_timers(mvpn_stun_client *c, mvpn_time now)
{
    for (unsigned i = 0; i < TRANSACTIONS; i++) {
        struct transaction *t = &c->t[i];
        if (t->state == WAITING && t->next <= now) {
            send_or_give_up(c, t, now);
        }
    }
}

void mvpn_stun_client_tick(mvpn_stun_client *c, mvpn_time now)
{
    run_timers(c, now);
    advance(c, now);
    run_timers(c, now); /* what advance started is sent at once */
}

mvpn_time mvpn_stun_client_deadline(const mvpn_stun_client *c)
{
    mvpn_time next = MVPN_TIME_NEVER;
    for (unsigned i = 0; i < TRANSACTIONS; i++) {
        if (c->t[i].state == WAITING) {
            next = mvpn_time_min(next, c->t[i].next);
        }
    }
    return next;
}

bool mvpn_stun_client_is_done(const mvpn_stun_client *c)
{
    return c->phase == DONE;
}

const mvpn_stun_result *mvpn_stun_client_result(const mvpn_stun_client *c)
{
    return &c->result;
}

/* ---- packets ---- */

bool mvpn_stun_client_pull(mvpn_stun_client *c, mvpn_stun_datagram *ret)
{
    /* RFC 8489 §14.14: text about the software; nobody needs to know ours. */
    static const char spaces[] = "                                                                "
                                 "                                                                ";
    for (unsigned i = 0; i < TRANSACTIONS; i++) {
        struct transaction *t = &c->t[i];
        mvpn_stun_writer w;
        if (!t->is_due) {
            continue;
        }
        t->is_due = false;
        ret->socket = t->socket;
        ret->to = t->to;
        mvpn_stun_begin(&w, ret->bytes, sizeof(ret->bytes), MVPN_STUN_REQUEST, MVPN_STUN_BINDING,
                        t->id);
        if (t->change_ip || t->change_port) {
            mvpn_stun_put_change(&w, t->change_ip, t->change_port);
        }
        mvpn_stun_put_bytes(&w, MVPN_STUN_SOFTWARE,
                            mvpn_bytes_of(spaces, sizeof(ret->bytes) - 4 - mvpn_stun_end(&w)));
        ret->length = mvpn_stun_end(&w);
        MVPN_ASSERT(ret->length == MVPN_STUN_REQUEST_LEN);
        return true;
    }
    return false;
}

static struct transaction *find(mvpn_stun_client *c, const mvpn_stun_message *m)
{
    for (unsigned i = 0; i < TRANSACTIONS; i++) {
        struct transaction *t = &c->t[i];
        if (t->sent > 0 && memcmp(t->id, m->transaction, sizeof(t->id)) == 0) {
            return t;
        }
    }
    return NULL;
}

/* A request of ours that came back from outside. */
static int recv_hairpin(mvpn_stun_client *c, const struct transaction *t, unsigned socket)
{
    if ((t != &c->t[T_HAIRPIN0] && t != &c->t[T_HAIRPIN1]) || t->socket == socket) {
        return MVPN_E_STATE;
    }
    c->result.hairpin = MVPN_STUN_HAIRPIN_YES;
    return 0;
}

static int recv_answer(mvpn_stun_client *c, struct transaction *t, unsigned socket,
                       const mvpn_addr *from, const mvpn_stun_message *m, mvpn_time now)
{
    bool is_error = m->class == MVPN_STUN_ERROR;
    /* Errors come from whom was asked: who refuses to answer from elsewhere does not do it. */
    if (t->socket != socket || !mvpn_addr_eq(from, is_error ? &t->to : &t->from) ||
        t >= &c->t[T_HAIRPIN0]) {
        return MVPN_E_STATE;
    }
    if (t->state != WAITING) {
        return MVPN_E_AGAIN; /* the answer to a retransmission */
    }
    if (is_error) {
        t->state = REFUSED;
        return 0;
    }
    /* RFC 8489 §6.3.3: an answer with something that must be understood and is not, is none. */
    if (m->unknown_count > 0 || m->xor_mapped.family != t->to.family || m->xor_mapped.port == 0) {
        return MVPN_E_FORMAT;
    }
    t->state = ANSWERED;
    t->is_due = false;
    t->mapped = m->xor_mapped;
    t->other = m->other;
    c->result.has_alg |= m->mapped.family != 0 && !mvpn_addr_eq(&m->mapped, &m->xor_mapped);
    mvpn_time rtt = now - t->sent_at;
    if (t->sent == 1 && (c->result.rtt == 0 || rtt < c->result.rtt)) {
        c->result.rtt = MVPN_MAX(rtt, 1);
    }
    return 0;
}

static int recv_message(mvpn_stun_client *c, unsigned socket, const mvpn_addr *from, mvpn_bytes in,
                        mvpn_time now)
{
    mvpn_stun_message m;
    int err = mvpn_stun_decode(&m, in);
    if (err != 0) {
        return err;
    }
    struct transaction *t = find(c, &m);
    if (t == NULL || m.method != MVPN_STUN_BINDING || m.class == MVPN_STUN_INDICATION) {
        return MVPN_E_STATE;
    }
    return m.class == MVPN_STUN_REQUEST ? recv_hairpin(c, t, socket)
                                        : recv_answer(c, t, socket, from, &m, now);
}

int mvpn_stun_client_recv(mvpn_stun_client *c, unsigned socket, const mvpn_addr *from,
                          mvpn_bytes in, mvpn_time now)
{
    MVPN_ASSERT(socket < MVPN_STUN_CLIENT_SOCKETS);
    int err = recv_message(c, socket, from, in, now);
    if (err != 0) {
        c->result.forged += err != MVPN_E_AGAIN;
        return err == MVPN_E_AGAIN ? MVPN_E_STATE : err;
    }
    advance(c, now);
    run_timers(c, now);
    return 0;
}

/* ---- begin and end ---- */

static bool is_good(const mvpn_stun_client_config *g)
{
    bool good = g->server_count > 0 && g->server_count <= MVPN_STUN_SERVERS_MAX && g->rto > 0 &&
                g->rc > 0 && g->rc <= 16 && g->rm > 0;
    for (size_t i = 0; good && i < g->server_count; i++) {
        good = mvpn_addr_ip_len(&g->servers[i]) > 0 && g->servers[i].port != 0 &&
               g->servers[i].family == g->servers[0].family;
    }
    return good;
}

int mvpn_stun_client_new(mvpn_stun_client **ret, const mvpn_stun_client_config *config,
                         mvpn_rng *rng, mvpn_time now)
{
    if (!is_good(config)) {
        return MVPN_E_INVAL;
    }
    mvpn_stun_client *c = calloc(1, sizeof(*c));
    if (c == NULL) {
        return MVPN_E_NOMEM;
    }
    c->config = *config;
    c->rng = rng;
    for (size_t i = 0; i < config->server_count; i++) {
        for (unsigned k = 0; k < MVPN_STUN_CLIENT_SOCKETS; k++) {
            start(c, (enum place)(T_BASE + 2 * i + k), k, &config->servers[i], now);
        }
    }
    run_timers(c, now);
    *ret = c;
    return 0;
}

void mvpn_stun_client_free(mvpn_stun_client *c)
{
    free(c);
}

/* ---- words ---- */

#define NAME_OF(names, value) ((size_t)(value) < MVPN_ARRAY_LEN(names) ? (names)[value] : "unknown")

const char *mvpn_stun_nat_name(enum mvpn_stun_nat nat)
{
    static const char *const names[] = {"unknown",    "UDP blocked",     "no NAT",   "full cone",
                                        "restricted", "port-restricted", "symmetric"};
    return NAME_OF(names, nat);
}

static const char *const dependence[] = {"unknown", "endpoint-independent", "address-dependent",
                                         "address-and-port-dependent"};

const char *mvpn_stun_mapping_name(enum mvpn_stun_mapping mapping)
{
    return NAME_OF(dependence, mapping);
}

const char *mvpn_stun_filtering_name(enum mvpn_stun_filtering filtering)
{
    return NAME_OF(dependence, filtering);
}

const char *mvpn_stun_hairpin_name(enum mvpn_stun_hairpin hairpin)
{
    static const char *const names[] = {"unknown", "no", "yes"};
    return NAME_OF(names, hairpin);
}

const char *mvpn_stun_ports_name(enum mvpn_stun_ports ports)
{
    static const char *const names[] = {"unknown", "preserving", "sequential", "random"};
    return NAME_OF(names, ports);
}
