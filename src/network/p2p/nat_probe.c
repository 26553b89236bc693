#include "network/p2p/nat_probe.h"

#include <stdlib.h>

#include "base/assert.h"
#include "wire/circuit.h"

/* Tries of each exchange: of 5 % loss each way one silence in 1,000 is loss. */
#define TRIES 3
/* The message first: what comes before it is not known there. */
#define PROBE_AFTER MVPN_MS(20)
/* Between tries, twice the round trip; after the last, three times, until silence is believed. */
#define SPACING_MIN MVPN_MS(250)
#define WAIT_MIN MVPN_MS(400)
#define WAIT_MAX MVPN_S(1)
/* With one observer alone a measurement has half its use: wait so long for a second. */
#define ALONE_FOR MVPN_S(5)
/* Links have to prove their new paths first, and the second socket must be a new one. */
#define CHANGE_WAIT MVPN_S(1)
#define AGAIN_AFTER MVPN_S(30 * 60)
#define AGAIN_JITTER 20
/* When it did not succeed; doubled each time. */
#define RETRY_FIRST MVPN_S(10)
#define RETRY_MAX MVPN_S(600)
/* Links that are looked at in search of observers. */
#define CANDIDATES_MAX 64

/*
 * Lifetimes that are tried (seconds): a little less than those that are common (20, 30, 45, 60, 90,
 * 120 and 180 s), as the answer travels too.
 */
static const uint8_t lifetimes[] = {13, 18, 28, 43, 58, 88, 118, 178};
/* A NAT may keep what was answered, and lives for more than 2 s, longer than a first packet (Linux
 * does): first an exchange without delay, as a link's packets would be. */
#define LIFETIME_PAUSE MVPN_S(3)
#define LIFETIME_STRIKES 2
#define LIFETIME_RETRY MVPN_S(60)
#define LIFETIME_FAILURES 5
#define LIFETIME_AGAIN MVPN_S(6 * 3600)

enum exchange_state {
    IDLE,
    WAITING,
    ANSWERED, /* heard; or told, if that is all that was wanted */
    SILENT,   /* told that it was sent (or there is nobody to tell), and not heard */
    FAILED,   /* refused, or the one asked does not answer, or spoilt */
};

/* An exchange has a fixed place: the place is the test. */
enum place {
    MAIN_PORT, /* main socket, an observer each: from its other port */
    SECOND_PORT = MAIN_PORT + MVPN_NAT_OBSERVERS, /* second socket, first observer */
    SECOND_RELAY,
    FILTER_END,
    STEPS = FILTER_END, /* second socket: first observer's other port, second, its other, third */
    MAIN_RELAY = STEPS + MVPN_NAT_SECOND_MAX - 1, /* if the main socket is let in specially */
    HAIRPIN,
    PORTS_END,
    LIFETIME = PORTS_END,
    EXCHANGES,
};

struct exchange {
    enum exchange_state state;
    mvpn_link *link; /* to whom NatProbe goes; NULL: nobody (hairpin) */
    mvpn_addr to;    /* of the probe */
    mvpn_addr peer;  /* of the link */
    uint16_t local;
    bool is_told_enough; /* where it was seen is all that is wanted */
    bool is_told;        /* NatProbed came: it was sent, and this is where we were seen */
    bool is_heard;       /* the answer came */
    bool is_spoilt;      /* an answer came from where we have spoken to: neither yes nor no */
    mvpn_nat_probe_ask ask;
    unsigned tries;
    bool is_probe_due; /* at `next` the probe, else the message or the end */
    mvpn_time next;
    mvpn_time spacing, wait;
    mvpn_addr seen;
    uint16_t other_port;
};

struct observer {
    mvpn_link *link; /* NULL: closed since */
    mvpn_addr addr;
};

enum phase { PHASE_IDLE, PHASE_FILTER, PHASE_PORTS };

enum lifetime_state { LIFETIME_OFF, LIFETIME_WARM, LIFETIME_REST, LIFETIME_LONG };

struct mvpn_nat_probe {
    mvpn_nat_probe_config config;
    mvpn_nat_observer *observer; /* of a relay */
    mvpn_packet_queue out;
    enum phase phase;
    struct observer observers[MVPN_NAT_OBSERVERS];
    size_t observer_count;
    struct exchange x[EXCHANGES];
    size_t waiting; /* exchanges */
    mvpn_time next_at, not_before, alone_until, retry;
    bool is_doubted; /* two observers differ: a symmetric NAT, or a liar */
    struct {
        enum lifetime_state state;
        mvpn_time at; /* OFF: of the next; REST: its end */
        mvpn_link *link;
        size_t step;
        unsigned strikes, failures;
        uint32_t best_s;
    } lifetime;
    mvpn_nat_class class;
    bool is_changed;
    uint64_t measurements, forged, unexpected;
};

/* ---- the whole ---- */

static void tell_observer_own(mvpn_nat_probe *p)
{
    static const mvpn_addr none;
    if (p->observer != NULL) {
        mvpn_nat_observer_set_own(p->observer, p->config.own_count > 0 ? &p->config.own[0] : &none);
    }
}

int mvpn_nat_probe_new(const mvpn_nat_probe_config *config, mvpn_time now, mvpn_nat_probe **ret)
{
    MVPN_ASSERT(config->own_count <= MVPN_NAT_OWN_MAX);
    mvpn_nat_probe *p = calloc(1, sizeof(*p));
    if (p == NULL) {
        return MVPN_E_NOMEM;
    }
    p->config = *config;
    mvpn_packet_queue_init(&p->out);
    p->next_at = MVPN_TIME_NEVER;
    p->alone_until = MVPN_TIME_NEVER;
    p->retry = RETRY_FIRST;
    p->lifetime.at = now;
    const mvpn_nat_observer_config c = {config->rng, config->pool, config->links, &p->out,
                                        config->allow_private};
    if (config->is_relay && mvpn_nat_observer_new(&c, now, &p->observer) != 0) {
        mvpn_nat_probe_free(p);
        return MVPN_E_NOMEM;
    }
    tell_observer_own(p);
    *ret = p;
    return 0;
}

void mvpn_nat_probe_free(mvpn_nat_probe *p)
{
    if (p != NULL) {
        mvpn_nat_observer_free(p->observer);
        mvpn_packet_queue_clear(&p->out, p->config.pool);
        free(p);
    }
}

/* ---- exchanges ---- */

static void exchange_end(mvpn_nat_probe *p, struct exchange *x, enum exchange_state state)
{
    if (x->state == WAITING) {
        p->waiting--;
    }
    x->state = state;
}

static void cancel(mvpn_nat_probe *p, size_t first, size_t end)
{
    for (size_t i = first; i < end; i++) {
        exchange_end(p, &p->x[i], IDLE);
        p->x[i] = (struct exchange){0};
    }
}

/* None of a link's ids, or that link's packets would be ours. */
static void draw_token(mvpn_nat_probe *p, mvpn_probe_token *ret)
{
    mvpn_connection_id id;
    do {
        mvpn_rng_bytes(p->config.rng, ret->b, sizeof(ret->b));
        memcpy(id.b, ret->b, sizeof(id.b));
    } while (mvpn_links_has_id(p->config.links, &id));
}

static struct exchange *exchange_begin(mvpn_nat_probe *p, size_t place, mvpn_link *link,
                                       const mvpn_addr *to, uint16_t local,
                                       enum mvpn_probe_kind kind, mvpn_time now)
{
    struct exchange *x = &p->x[place];
    mvpn_time rtt = link != NULL ? mvpn_link_rtt_us(link) : 0;
    exchange_end(p, x, IDLE);
    *x = (struct exchange){.state = WAITING, .link = link, .to = *to, .local = local, .next = now};
    x->peer = link != NULL ? *mvpn_link_peer_addr(link) : *to;
    x->ask.kind = (uint8_t)kind;
    x->spacing = mvpn_time_min(MVPN_MAX(2 * rtt, SPACING_MIN), WAIT_MAX);
    x->wait = mvpn_time_min(MVPN_MAX(3 * rtt, WAIT_MIN), WAIT_MAX);
    draw_token(p, &x->ask.token);
    p->waiting++;
    return x;
}

/* What does not get out is a lost try. */
static void send_ask(mvpn_nat_probe *p, const struct exchange *x, mvpn_time now)
{
    mvpn_packet *packet = x->link != NULL ? mvpn_packet_new(p->config.pool) : NULL;
    if (packet == NULL) {
        return;
    }
    mvpn_nat_probe_encode(mvpn_packet_append(packet, MVPN_NAT_PROBE_LEN), &x->ask);
    const mvpn_header header = {.command = MVPN_CMD_NAT_PROBE, .length = MVPN_NAT_PROBE_LEN};
    int err = mvpn_link_send(x->link, packet, &header, true, now);
    (void)err;
}

static void send_probe(mvpn_nat_probe *p, const struct exchange *x)
{
    mvpn_packet *packet = mvpn_packet_new(p->config.pool);
    if (packet == NULL) {
        return;
    }
    uint8_t *b = mvpn_packet_append(packet, MVPN_PROBE_LEN);
    mvpn_rng_bytes(p->config.rng, b, MVPN_PROBE_LEN);
    mvpn_probe_encode(b, &x->ask.token, b);
    packet->remote = x->to;
    packet->local = x->local;
    mvpn_packet_queue_push(&p->out, packet);
}

/* One step of an exchange that is due: message, probe, message, probe, ..., end. */
static void exchange_step(mvpn_nat_probe *p, struct exchange *x, mvpn_time now)
{
    bool is_one_answer = x->is_told && x->ask.delay_s > 0;
    if (x->is_probe_due) {
        send_probe(p, x);
        x->is_probe_due = false;
        x->next = now + (x->tries < TRIES ? x->spacing : x->wait);
    } else if (x->tries < TRIES && !is_one_answer) {
        x->tries++;
        x->is_probe_due = true;
        send_ask(p, x, now);
        x->next = now + PROBE_AFTER;
    } else {
        bool is_silent = (x->is_told || x->link == NULL) && !x->is_spoilt;
        exchange_end(p, x, x->is_heard ? ANSWERED : is_silent ? SILENT : FAILED);
    }
}

static bool is_observers_ip(const mvpn_nat_probe *p, const mvpn_addr *addr)
{
    for (size_t i = 0; i < p->observer_count; i++) {
        if (mvpn_addr_ip_eq(&p->observers[i].addr, addr)) {
            return true;
        }
    }
    return false;
}

enum answer_from { RIGHT, WRONG, SPOILT };

/* Could the answer come from there, and to this socket? */
static enum answer_from is_plausible(const mvpn_nat_probe *p, size_t place,
                                     const mvpn_packet *packet)
{
    const struct exchange *x = &p->x[place];
    const mvpn_addr *from = &packet->remote;
    bool is_right;
    if (packet->local != (place == HAIRPIN ? MVPN_LOCAL_MAIN : x->local)) {
        return WRONG;
    }
    switch (place == HAIRPIN ? 0 : x->ask.kind) {
    case 0: /* from what our NAT makes of us */
        is_right = true;
        break;
    case MVPN_PROBE_OTHER_PORT:
        is_right = mvpn_addr_ip_eq(from, &x->peer) && from->port != x->peer.port;
        break;
    case MVPN_PROBE_OTHER_RELAY:
        if (mvpn_addr_ip_eq(from, &x->peer)) {
            return WRONG;
        }
        /* To our other observers the second socket has not yet spoken when it asks the first. */
        return place != SECOND_RELAY && is_observers_ip(p, from) ? SPOILT : RIGHT;
    default:
        is_right = mvpn_addr_eq(from, &x->to);
    }
    return is_right ? RIGHT : WRONG;
}

static bool is_answer(mvpn_nat_probe *p, const mvpn_packet *packet, const mvpn_probe_token *token)
{
    for (size_t i = 0; i < EXCHANGES; i++) {
        struct exchange *x = &p->x[i];
        if (x->state != WAITING || memcmp(x->ask.token.b, token->b, sizeof(token->b)) != 0) {
            continue;
        }
        switch (is_plausible(p, i, packet)) {
        case WRONG:
            p->forged++;
            break;
        case SPOILT:
            x->is_spoilt = true;
            break;
        case RIGHT:
            x->is_heard = true;
            if (x->ask.kind == MVPN_PROBE_OTHER_PORT) {
                x->other_port = packet->remote.port;
            }
            if ((x->is_told || x->link == NULL) && !x->is_told_enough) {
                exchange_end(p, x, ANSWERED);
            }
        }
        return true;
    }
    return false;
}

bool mvpn_nat_probe_datagram(mvpn_nat_probe *p, mvpn_packet *packet, mvpn_time now)
{
    mvpn_probe_token token;
    bool is_awaiting =
        p->waiting > 0 || (p->observer != NULL && mvpn_nat_observer_is_awaiting(p->observer));
    if (packet->len != MVPN_PROBE_LEN || !is_awaiting ||
        mvpn_probe_decode(&token, mvpn_bytes_of(packet->data, packet->len)) != 0) {
        return false;
    }
    if ((p->waiting > 0 && is_answer(p, packet, &token)) ||
        (p->observer != NULL && mvpn_nat_observer_datagram(p->observer, packet, &token, now))) {
        mvpn_packet_free(p->config.pool, packet);
        return true;
    }
    return false;
}

/* What an observer may have seen: no inside of a home, no other family. */
static bool is_seen_allowed(const mvpn_nat_probe *p, const struct exchange *x,
                            const mvpn_addr *seen)
{
    return seen->family == x->peer.family && (mvpn_addr_is_public(seen) || p->config.allow_private);
}

static void told(mvpn_nat_probe *p, struct exchange *x, const mvpn_nat_probed *m, mvpn_time now)
{
    if (m->status != 0 || !is_seen_allowed(p, x, &m->seen)) {
        exchange_end(p, x, x->is_heard ? ANSWERED : FAILED);
        return;
    }
    x->is_told = true;
    x->seen = m->seen;
    x->other_port = x->other_port != 0 ? x->other_port : m->other_port;
    if (x->is_told_enough || x->is_heard) {
        exchange_end(p, x, ANSWERED);
    } else if (x->ask.delay_s > 0) { /* not a word more until then: it would refresh */
        x->is_probe_due = false;
        x->next = now + MVPN_S(x->ask.delay_s) + x->wait;
    }
}

static int on_probed(mvpn_nat_probe *p, const mvpn_link *link, mvpn_bytes body, mvpn_time now)
{
    mvpn_nat_probed m;
    int err = mvpn_nat_probed_decode(&m, body);
    if (err != 0) {
        return err;
    }
    for (size_t i = 0; i < EXCHANGES; i++) {
        struct exchange *x = &p->x[i];
        if (x->state == IDLE || x->link != link ||
            memcmp(x->ask.token.b, m.token.b, sizeof(m.token.b)) != 0) {
            continue;
        }
        if (x->state == WAITING && !x->is_told) {
            told(p, x, &m, now);
        }
        return 0;
    }
    p->unexpected++;
    return 0;
}

/* ---- observers ---- */

/* A link that says what the internet sees of us: to a relay at an address of the internet, opened
 * by us, on no relayed path. */
static bool is_observer(const mvpn_nat_probe *p, const mvpn_link *link)
{
    return mvpn_link_is_open(link) && mvpn_link_is_initiator(link) && !mvpn_link_is_relayed(link) &&
           mvpn_link_peer_identity(link) != NULL &&
           (mvpn_addr_is_public(mvpn_link_peer_addr(link)) || p->config.allow_private);
}

/* Observers of one family at different ips, at random, so that none can count on being asked; IPv4
 * if there is one, as that is where NATs are. Returns how many. */
static size_t choose(const mvpn_nat_probe *p, struct observer ret[static MVPN_NAT_OBSERVERS])
{
    mvpn_link *links[CANDIDATES_MAX];
    size_t n = mvpn_links_list(p->config.links, links, CANDIDATES_MAX), count = 0;
    uint8_t family = 6;
    for (size_t i = 0; i < n; i++) {
        if (is_observer(p, links[i]) && mvpn_link_peer_addr(links[i])->family == 4) {
            family = 4;
        }
    }
    for (; n > 0 && count < MVPN_NAT_OBSERVERS; n--) {
        size_t at = mvpn_rng_below(p->config.rng, (uint32_t)n);
        mvpn_link *link = links[at];
        const mvpn_addr *addr = mvpn_link_peer_addr(link);
        bool is_new = is_observer(p, link) && addr->family == family;
        links[at] = links[n - 1];
        for (size_t i = 0; i < count; i++) {
            is_new = is_new && !mvpn_addr_ip_eq(&ret[i].addr, addr);
        }
        if (is_new) {
            ret[count++] = (struct observer){link, *addr};
        }
    }
    return count;
}

/* ---- a measurement ---- */

static void start_filter(mvpn_nat_probe *p, mvpn_time now)
{
    for (size_t i = 0; i < p->observer_count; i++) {
        exchange_begin(p, MAIN_PORT + i, p->observers[i].link, &p->observers[i].addr,
                       MVPN_LOCAL_MAIN, MVPN_PROBE_OTHER_PORT, now);
    }
    const struct observer *first = &p->observers[0];
    exchange_begin(p, SECOND_PORT, first->link, &first->addr, MVPN_LOCAL_PROBE,
                   MVPN_PROBE_OTHER_PORT, now);
    exchange_begin(p, SECOND_RELAY, first->link, &first->addr, MVPN_LOCAL_PROBE,
                   MVPN_PROBE_OTHER_RELAY, now);
    p->phase = PHASE_FILTER;
}

static enum mvpn_nat_heard heard(const struct exchange *x)
{
    return x->state == ANSWERED ? MVPN_NAT_HEARD
           : x->state == SILENT ? MVPN_NAT_SILENT
                                : MVPN_NAT_NOT_ASKED;
}

static void gather(const mvpn_nat_probe *p, mvpn_nat_evidence *ret)
{
    const mvpn_nat_probe_config *c = &p->config;
    const struct exchange *second =
        p->x[SECOND_PORT].is_told ? &p->x[SECOND_PORT] : &p->x[SECOND_RELAY];
    mvpn_nat_evidence e = {.own_count = c->own_count};
    memcpy(e.own, c->own, sizeof(e.own));
    for (size_t i = 0; i < MVPN_NAT_OBSERVERS; i++) {
        e.seen[i] = p->x[MAIN_PORT + i].seen;
        e.main_port[i] = heard(&p->x[MAIN_PORT + i]);
    }
    e.second[0] = second->seen;
    for (size_t i = 1; i < MVPN_NAT_SECOND_MAX; i++) {
        e.second[i] = p->x[STEPS + i - 1].seen;
    }
    e.main_relay = heard(&p->x[MAIN_RELAY]);
    e.second_port = heard(&p->x[SECOND_PORT]);
    e.second_relay = heard(&p->x[SECOND_RELAY]);
    if (p->x[STEPS + 1].ask.kind == MVPN_PROBE_OTHER_RELAY &&
        heard(&p->x[STEPS + 1]) != MVPN_NAT_NOT_ASKED && e.second_relay != MVPN_NAT_HEARD) {
        e.second_relay = heard(&p->x[STEPS + 1]);
    }
    e.hairpin = heard(&p->x[HAIRPIN]);
    *ret = e;
}

/* The other port of an observer, as it told or showed. */
static uint16_t other_port(const mvpn_nat_probe *p, size_t observer)
{
    uint16_t port = p->x[MAIN_PORT + observer].other_port;
    for (size_t i = SECOND_PORT; observer == 0 && port == 0 && i <= SECOND_RELAY; i++) {
        port = p->x[i].other_port;
    }
    return port;
}

static void start_step(mvpn_nat_probe *p, size_t step, size_t observer, bool is_other_port,
                       mvpn_time now)
{
    const struct observer *o = &p->observers[observer];
    mvpn_addr to = o->addr;
    if (is_other_port) {
        to.port = other_port(p, observer);
    }
    if (observer < p->observer_count && o->link != NULL && to.port != 0) {
        struct exchange *x = exchange_begin(p, STEPS + step, o->link, &to, MVPN_LOCAL_PROBE,
                                            MVPN_PROBE_SAME_PORT, now);
        x->is_told_enough = true;
    }
}

static void start_ports(mvpn_nat_probe *p, mvpn_time now)
{
    mvpn_nat_evidence e;
    const struct observer *first = &p->observers[0];
    gather(p, &e);
    start_step(p, 0, 0, true, now);
    start_step(p, 1, 1, false, now);
    start_step(p, 2, 1, true, now);
    start_step(p, 3, 2, false, now);
    /* The one observer whose word the silence is may lie: ask by the second as well. */
    if (p->x[STEPS + 1].state == WAITING && e.second_port == MVPN_NAT_HEARD &&
        e.second_relay != MVPN_NAT_HEARD) {
        p->x[STEPS + 1].ask.kind = MVPN_PROBE_OTHER_RELAY;
        p->x[STEPS + 1].is_told_enough = false;
    }
    bool is_main_heard = false;
    for (size_t i = 0; i < MVPN_NAT_OBSERVERS; i++) {
        is_main_heard |= e.main_port[i] == MVPN_NAT_HEARD;
    }
    if (is_main_heard && e.second_port != MVPN_NAT_HEARD && first->link != NULL) {
        exchange_begin(p, MAIN_RELAY, first->link, &first->addr, MVPN_LOCAL_MAIN,
                       MVPN_PROBE_OTHER_RELAY, now);
    }
    mvpn_nat_class c;
    mvpn_nat_class_judge(&c, &e);
    const mvpn_addr *seen = mvpn_nat_evidence_agreed_ip(&e);
    if (seen != NULL && !c.is_public) {
        exchange_begin(p, HAIRPIN, NULL, seen, MVPN_LOCAL_PROBE, MVPN_PROBE_SAME_PORT, now);
    }
    p->phase = PHASE_PORTS;
}

static void publish(mvpn_nat_probe *p, const mvpn_nat_class *c)
{
    p->is_changed |= !mvpn_nat_class_eq(&p->class, c);
    p->class = *c;
}

static void see(mvpn_nat_class *c, const mvpn_addr *addr)
{
    bool is_new = addr->family != 0 && c->seen_count < MVPN_NAT_SEEN_MAX;
    for (size_t i = 0; i < c->seen_count; i++) {
        is_new = is_new && !mvpn_addr_eq(&c->seen[i], addr);
    }
    if (is_new) {
        c->seen[c->seen_count++] = *addr;
    }
}

/* What this measurement left open stays as it was: the network is the same. */
static void conclude(mvpn_nat_probe *p)
{
    mvpn_nat_evidence e;
    mvpn_nat_class c;
    const mvpn_nat_class *old = &p->class;
    gather(p, &e);
    mvpn_nat_class_judge(&c, &e);
    for (size_t i = 0; i < MVPN_NAT_OBSERVERS; i++) {
        see(&c, &e.seen[i]);
    }
    if (c.seen_count == 0) {
        return;
    }
    if (!c.is_known) {
        c.is_known = old->is_known;
        c.mapping = old->mapping;
        for (size_t i = 0; i < old->seen_count; i++) {
            see(&c, &old->seen[i]);
        }
    }
    if (c.filtering == MVPN_STUN_FILTERING_UNKNOWN) {
        c.filtering = old->filtering;
    }
    if (c.hairpin == MVPN_STUN_HAIRPIN_UNKNOWN && !c.is_public) {
        c.hairpin = old->hairpin;
    }
    if (c.ports == MVPN_STUN_PORTS_UNKNOWN) {
        c.ports = old->ports;
        c.port_step = old->port_step;
    }
    c.lifetime_s = old->lifetime_s;
    publish(p, &c);
}

static bool is_over(const mvpn_nat_probe *p, size_t first, size_t end)
{
    for (size_t i = first; i < end; i++) {
        if (p->x[i].state == WAITING) {
            return false;
        }
    }
    return true;
}

static void measurement_end(mvpn_nat_probe *p, mvpn_time now)
{
    mvpn_nat_evidence e;
    gather(p, &e);
    p->phase = PHASE_IDLE;
    size_t seen = 0;
    for (size_t i = 0; i < MVPN_NAT_OBSERVERS; i++) {
        seen += e.seen[i].family != 0;
    }
    p->is_doubted = seen == 2 && mvpn_nat_evidence_agreed(&e) == NULL;
    if (seen >= 2 || (seen == 1 && p->observer_count == 1)) {
        p->retry = RETRY_FIRST;
        p->next_at = now + mvpn_rng_jitter(p->config.rng, AGAIN_AFTER, AGAIN_JITTER);
    } else {
        p->next_at = now + mvpn_rng_jitter(p->config.rng, p->retry, AGAIN_JITTER);
        p->retry = mvpn_time_min(2 * p->retry, RETRY_MAX);
    }
    struct observer found[MVPN_NAT_OBSERVERS];
    if ((!p->class.is_known || p->is_doubted) && choose(p, found) > p->observer_count) {
        p->next_at = MVPN_MAX(now, p->not_before); /* more have come meanwhile */
    }
}

static void measurement_begin(mvpn_nat_probe *p, mvpn_time now)
{
    struct observer found[MVPN_NAT_OBSERVERS] = {{0}};
    size_t count = choose(p, found);
    if (count < 2 && now < p->alone_until) {
        p->next_at = count == 0 ? MVPN_TIME_NEVER : p->alone_until;
        return;
    }
    if (count == 0) { /* a link will open */
        p->next_at = MVPN_TIME_NEVER;
        return;
    }
    cancel(p, 0, PORTS_END);
    memcpy(p->observers, found, sizeof(p->observers));
    p->observer_count = count;
    p->not_before = now + RETRY_FIRST / 2;
    p->next_at = MVPN_TIME_NEVER;
    p->measurements++;
    start_filter(p, now);
}

static bool is_phase_over(const mvpn_nat_probe *p)
{
    return (p->phase == PHASE_FILTER && is_over(p, 0, FILTER_END)) ||
           (p->phase == PHASE_PORTS && is_over(p, 0, PORTS_END));
}

static void tick_measurement(mvpn_nat_probe *p, mvpn_time now)
{
    if (p->phase == PHASE_IDLE && now >= p->next_at && p->lifetime.state == LIFETIME_OFF) {
        measurement_begin(p, now);
    }
    if (is_phase_over(p)) {
        conclude(p);
        if (p->phase == PHASE_FILTER) {
            start_ports(p, now);
        } else {
            measurement_end(p, now);
        }
    }
}

/* ---- lifetime ---- */

static void lifetime_stop(mvpn_nat_probe *p, mvpn_time next, mvpn_time now)
{
    if (p->lifetime.link != NULL) {
        mvpn_link_release(p->lifetime.link, now);
    }
    cancel(p, LIFETIME, EXCHANGES);
    p->lifetime.link = NULL;
    p->lifetime.state = LIFETIME_OFF;
    p->lifetime.at = next;
    /* Time to close the socket: a measurement takes a new one. */
    p->next_at = MVPN_MAX(p->next_at, now + CHANGE_WAIT);
}

static void lifetime_publish(mvpn_nat_probe *p, uint32_t lifetime_s)
{
    mvpn_nat_class c = p->class;
    c.lifetime_s = lifetime_s;
    publish(p, &c);
}

static void lifetime_reset(mvpn_nat_probe *p)
{
    p->lifetime.step = 0;
    p->lifetime.strikes = 0;
    p->lifetime.failures = 0;
    p->lifetime.best_s = 0;
}

static void lifetime_done(mvpn_nat_probe *p, mvpn_time now)
{
    lifetime_publish(p, p->lifetime.best_s);
    lifetime_reset(p);
    lifetime_stop(p, now + mvpn_rng_jitter(p->config.rng, LIFETIME_AGAIN, AGAIN_JITTER), now);
}

/* Another time, with another observer. */
static void lifetime_failed(mvpn_nat_probe *p, mvpn_time now)
{
    if (++p->lifetime.failures >= LIFETIME_FAILURES) {
        lifetime_done(p, now);
    } else {
        lifetime_stop(p, now + LIFETIME_RETRY, now);
    }
}

static void lifetime_exchange(mvpn_nat_probe *p, enum lifetime_state state, mvpn_time now)
{
    struct exchange *x =
        exchange_begin(p, LIFETIME, p->lifetime.link, mvpn_link_peer_addr(p->lifetime.link),
                       MVPN_LOCAL_PROBE, MVPN_PROBE_SAME_PORT, now);
    x->ask.delay_s = state == LIFETIME_LONG ? lifetimes[p->lifetime.step] : 0;
    p->lifetime.state = state;
}

/* There is something that forgets us, and the class is known, so the socket is free. */
static bool is_lifetime_wanted(const mvpn_nat_probe *p)
{
    return p->config.measures_lifetime && p->phase == PHASE_IDLE && p->class.is_known &&
           !(p->class.is_public && p->class.filtering == MVPN_STUN_FILTERING_ENDPOINT_INDEPENDENT);
}

static void lifetime_begin(mvpn_nat_probe *p, mvpn_time now)
{
    struct observer found[MVPN_NAT_OBSERVERS];
    if (choose(p, found) == 0) {
        p->lifetime.at = now + LIFETIME_RETRY;
        return;
    }
    p->lifetime.link = found[0].link;
    mvpn_link_hold(p->lifetime.link);
    lifetime_exchange(p, LIFETIME_WARM, now);
}

static void lifetime_judge(mvpn_nat_probe *p, enum exchange_state result, mvpn_time now)
{
    if (result == ANSWERED) {
        p->lifetime.best_s = lifetimes[p->lifetime.step++];
        p->lifetime.strikes = 0;
        if (p->lifetime.best_s > p->class.lifetime_s) {
            lifetime_publish(p, p->lifetime.best_s);
        }
    } else if (result == SILENT) {
        p->lifetime.strikes++;
    } else {
        lifetime_failed(p, now);
        return;
    }
    if (p->lifetime.step == MVPN_ARRAY_LEN(lifetimes) || p->lifetime.strikes == LIFETIME_STRIKES) {
        lifetime_done(p, now);
    } else {
        lifetime_exchange(p, LIFETIME_WARM, now);
    }
}

static void tick_lifetime(mvpn_nat_probe *p, mvpn_time now)
{
    enum exchange_state result = p->x[LIFETIME].state;
    switch (p->lifetime.state) {
    case LIFETIME_OFF:
        if (now >= p->lifetime.at && is_lifetime_wanted(p)) {
            lifetime_begin(p, now);
        }
        break;
    case LIFETIME_WARM:
        if (result == ANSWERED) {
            p->lifetime.state = LIFETIME_REST;
            p->lifetime.at = now + LIFETIME_PAUSE;
        } else if (result != WAITING) {
            lifetime_failed(p, now);
        }
        break;
    case LIFETIME_REST:
        if (now >= p->lifetime.at) {
            lifetime_exchange(p, LIFETIME_LONG, now);
        }
        break;
    case LIFETIME_LONG:
        if (result != WAITING) {
            lifetime_judge(p, result, now);
        }
    }
}

void mvpn_nat_probe_set_lifetime(mvpn_nat_probe *p, uint32_t lifetime_s, mvpn_time now)
{
    if (lifetime_s != 0 && p->lifetime.state == LIFETIME_OFF) {
        p->lifetime.at = now + mvpn_rng_jitter(p->config.rng, LIFETIME_AGAIN, AGAIN_JITTER);
    }
    lifetime_publish(p, lifetime_s);
}

/* ---- what happens ---- */

bool mvpn_nat_probe_message(mvpn_nat_probe *p, mvpn_link *link, const mvpn_header *header,
                            mvpn_bytes body, mvpn_time now)
{
    int err = 0;
    bool is_for_relay = header->command != MVPN_CMD_NAT_PROBED;
    if (header->command < MVPN_CMD_NAT_PROBE || header->command > MVPN_CMD_NAT_PROBED) {
        return false;
    }
    if (is_for_relay && p->observer == NULL) {
        p->unexpected++; /* silence: who asks a client learns nothing */
    } else if (header->command == MVPN_CMD_NAT_PROBE) {
        err = mvpn_nat_observer_ask(p->observer, link, body, now);
    } else if (header->command == MVPN_CMD_NAT_PROBE_FOR) {
        err = mvpn_nat_observer_ask_for(p->observer, link, body, now);
    } else {
        err = on_probed(p, link, body, now);
    }
    if (err != 0) {
        mvpn_link_close(link, MVPN_REASON_PROTOCOL, now);
    }
    return true;
}

void mvpn_nat_probe_link_opened(mvpn_nat_probe *p, mvpn_link *link, mvpn_time now)
{
    const mvpn_addr *seen = mvpn_link_observed_addr(link);
    if (p->observer != NULL) {
        mvpn_nat_observer_link_opened(p->observer, link, now);
    }
    if (!is_observer(p, link)) {
        return;
    }
    if (p->alone_until == MVPN_TIME_NEVER) {
        p->alone_until = now + ALONE_FOR;
    }
    if (p->class.seen_count == 0 && seen->family != 0 &&
        (mvpn_addr_is_public(seen) || p->config.allow_private)) {
        mvpn_nat_class c = p->class;
        see(&c, seen);
        publish(p, &c);
    }
    if ((!p->class.is_known || p->is_doubted) && p->phase == PHASE_IDLE) {
        p->next_at = mvpn_time_min(p->next_at, MVPN_MAX(now, p->not_before));
    }
}

void mvpn_nat_probe_link_closed(mvpn_nat_probe *p, mvpn_link *link, mvpn_time now)
{
    if (p->observer != NULL) {
        mvpn_nat_observer_link_closed(p->observer, link);
    }
    for (size_t i = 0; i < p->observer_count; i++) {
        if (p->observers[i].link == link) {
            p->observers[i].link = NULL;
        }
    }
    for (size_t i = 0; i < EXCHANGES; i++) {
        if (p->x[i].link == link) {
            exchange_end(p, &p->x[i], p->x[i].state == WAITING ? FAILED : p->x[i].state);
            p->x[i].link = NULL;
        }
    }
    if (p->lifetime.link == link) {
        p->lifetime.link = NULL; /* gone: not to be released */
        lifetime_failed(p, now);
    }
}

void mvpn_nat_probe_network_changed(mvpn_nat_probe *p, mvpn_time now)
{
    static const mvpn_nat_class nothing;
    cancel(p, 0, EXCHANGES);
    p->phase = PHASE_IDLE;
    lifetime_reset(p);
    lifetime_stop(p, now + CHANGE_WAIT, now);
    publish(p, &nothing);
    p->is_doubted = false;
    p->retry = RETRY_FIRST;
    p->not_before = now + CHANGE_WAIT;
    p->next_at = p->not_before;
    p->alone_until = now + CHANGE_WAIT + ALONE_FOR;
}

void mvpn_nat_probe_set_own(mvpn_nat_probe *p, const mvpn_addr *own, size_t count)
{
    p->config.own_count = count < MVPN_NAT_OWN_MAX ? count : MVPN_NAT_OWN_MAX;
    memset(p->config.own, 0, sizeof(p->config.own));
    for (size_t i = 0; i < p->config.own_count; i++) {
        p->config.own[i] = own[i]; /* none: `own` may be NULL */
    }
    tell_observer_own(p);
}

void mvpn_nat_probe_tick(mvpn_nat_probe *p, mvpn_time now)
{
    for (size_t i = 0; p->waiting > 0 && i < EXCHANGES; i++) {
        if (p->x[i].state == WAITING && p->x[i].next <= now) {
            exchange_step(p, &p->x[i], now);
        }
    }
    tick_measurement(p, now);
    tick_lifetime(p, now);
    if (p->observer != NULL) {
        mvpn_nat_observer_tick(p->observer, now);
    }
}

mvpn_time mvpn_nat_probe_deadline(const mvpn_nat_probe *p)
{
    mvpn_time at = p->observer != NULL ? mvpn_nat_observer_deadline(p->observer) : MVPN_TIME_NEVER;
    for (size_t i = 0; p->waiting > 0 && i < EXCHANGES; i++) {
        at = mvpn_time_min(at, p->x[i].state == WAITING ? p->x[i].next : at);
    }
    switch (p->lifetime.state) {
    case LIFETIME_OFF:
        if (is_phase_over(p)) {
            return 0;
        }
        at = mvpn_time_min(at, p->phase == PHASE_IDLE ? p->next_at : at);
        return mvpn_time_min(at, is_lifetime_wanted(p) ? p->lifetime.at : at);
    case LIFETIME_REST:
        return mvpn_time_min(at, p->lifetime.at);
    case LIFETIME_WARM:
    case LIFETIME_LONG:
        return p->x[LIFETIME].state != WAITING ? 0 : at;
    }
    return at;
}

mvpn_packet_queue *mvpn_nat_probe_out(mvpn_nat_probe *p)
{
    return &p->out;
}

const mvpn_nat_class *mvpn_nat_probe_class(const mvpn_nat_probe *p)
{
    return &p->class;
}

bool mvpn_nat_probe_take_change(mvpn_nat_probe *p)
{
    bool is_changed = p->is_changed;
    p->is_changed = false;
    return is_changed;
}

bool mvpn_nat_probe_uses_socket(const mvpn_nat_probe *p)
{
    return p->phase != PHASE_IDLE || p->lifetime.state != LIFETIME_OFF ||
           (p->observer != NULL && mvpn_nat_observer_uses_socket(p->observer));
}

void mvpn_nat_probe_get_counters(const mvpn_nat_probe *p, mvpn_nat_probe_counters *ret)
{
    *ret = (mvpn_nat_probe_counters){p->measurements, p->forged, p->unexpected, {0}};
    if (p->observer != NULL) {
        ret->observer = *mvpn_nat_observer_get_counters(p->observer);
    }
}
