/*
 * Hostile peers, NAT relays and strangers around links over NATs: nobody is flooded through us,
 * nobody's link suffers. (docs/protocol.md §4.6, §14)
 *
 *   a (behind a NAT) --calls--> b (behind another), by the NAT relays r0, r1; m a relay like any
 */
#include "scenario.h"
#include "sim.h"

#include <string.h>

#include "network/p2p/internal.h"
#include "wire/natmsg.h"
#include "wire/natprobe.h"

#define PUNCHES 20  /* an hour and block, to an address that does not answer */
#define PROBES 1024 /* of a birthday */

typedef struct lab {
    sim *w;
    sim_node *relay[2], *a, *b, *m;
    mvpn_link *link; /* a's with b */
} lab;

/* ---- what is watched, and what the hostile do ---- */

enum { WATCHED = 8, SPOKE = 64, TAPE = 512 };

static struct {
    sim_node *hostile; /* its candidates are `candidates` */
    mvpn_candidate candidates[MVPN_CANDIDATES_MAX];
    size_t candidate_count;
    uint8_t mapping, filtering;
    int16_t port_step;
    /* NAT relays tell this one instead of the other side's, if not empty; with `lie_step` each
     * answer tells another. */
    mvpn_addr lie;
    unsigned lie_step;
    /* Datagrams to these (of this node, if not NULL), by node; lost. */
    const sim_node *watched_from;
    mvpn_addr watched[WATCHED];
    unsigned bits;
    size_t watched_count;
    uint64_t to_watched[SIM_NODES];
    /* Whoever has sent to `watched_from` from a watched address: it gets answers. */
    mvpn_addr spoke[SPOKE];
    size_t spoke_count;
    size_t largest;
    /* The next packet between these is copied, or taken away and sent by the stranger instead. */
    mvpn_addr stranger;
    const sim_node *from, *to;
    bool is_lost;
    unsigned copies;
    sim_datagram copy;
    /* All that is sent while it runs, to be played again. */
    bool is_taping;
    size_t tape_count;
    sim_datagram tape[TAPE];
} foe;

size_t __real_mvpn_link_candidates_encode(uint8_t *out, const mvpn_link_candidates *in);
size_t __wrap_mvpn_link_candidates_encode(uint8_t *out, const mvpn_link_candidates *in);
void __real_mvpn_nat_addressed_encode(uint8_t *out, const mvpn_nat_addressed *in);
void __wrap_mvpn_nat_addressed_encode(uint8_t *out, const mvpn_nat_addressed *in);

size_t __wrap_mvpn_link_candidates_encode(uint8_t *out, const mvpn_link_candidates *in)
{
    mvpn_link_candidates m = *in;
    if (foe.hostile != NULL && sim_current == foe.hostile) {
        memcpy(m.candidates, foe.candidates, sizeof(m.candidates));
        m.candidate_count = (uint8_t)foe.candidate_count;
        m.mapping = foe.mapping;
        m.filtering = foe.filtering;
        m.port_step = foe.port_step;
    }
    return __real_mvpn_link_candidates_encode(out, &m);
}

void __wrap_mvpn_nat_addressed_encode(uint8_t *out, const mvpn_nat_addressed *in)
{
    mvpn_nat_addressed m = *in;
    if (foe.lie.family != 0) {
        m.status = 0;
        m.addr = foe.lie;
        foe.lie.ip[3] = (uint8_t)(foe.lie.ip[3] + foe.lie_step);
        foe.lie.port = (uint16_t)(foe.lie.port + foe.lie_step);
    }
    __real_mvpn_nat_addressed_encode(out, &m);
}

static bool is_watched(const mvpn_addr *to)
{
    for (size_t i = 0; i < foe.watched_count; i++) {
        if (to->family == foe.watched[i].family &&
            memcmp(to->ip, foe.watched[i].ip, foe.bits / 8) == 0) {
            return true;
        }
    }
    return false;
}

static bool has_spoken(const mvpn_addr *addr)
{
    for (size_t i = 0; i < foe.spoke_count; i++) {
        if (mvpn_addr_eq(&foe.spoke[i], addr)) {
            return true;
        }
    }
    return false;
}

/* The copy, in the stranger's name. */
static void spread(sim *w, mvpn_time delay)
{
    sim_datagram d = foe.copy;
    d.from = foe.stranger;
    for (unsigned i = 0; i < 5; i++) {
        sim_inject(w, &d, delay + i * 100);
    }
    for (size_t i = 0; i < 2; i++) { /* the NAT relays */
        d.to = w->node[i]->addr[0];
        sim_inject(w, &d, delay);
    }
}

static bool tap(sim *w, sim_node *from, sim_node *to, sim_datagram *d)
{
    (void)w;
    if ((foe.watched_from == NULL || from == foe.watched_from) && is_watched(&d->to)) {
        foe.to_watched[from->index] += !has_spoken(&d->to);
        foe.largest = MVPN_MAX(foe.largest, d->len);
        return false;
    }
    if (foe.watched_from != NULL && to == foe.watched_from && is_watched(&d->from) &&
        !has_spoken(&d->from) && foe.spoke_count < SPOKE) {
        foe.spoke[foe.spoke_count++] = d->from;
    }
    if (foe.is_taping && foe.tape_count < TAPE) {
        foe.tape[foe.tape_count++] = *d;
    }
    if (foe.copies > 0 && from == foe.from && to == foe.to && d->bytes[0] >> 6 == 1) {
        foe.copy = *d;
        foe.copies--;
        spread(w, foe.is_lost ? MVPN_MS(1) : MVPN_MS(500));
        return !foe.is_lost;
    }
    return true;
}

static void watch(const mvpn_addr *addr, unsigned bits)
{
    foe.bits = bits;
    foe.watched[foe.watched_count++] = *addr;
}

static uint64_t watched_in_all(const sim *w)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < w->node_count; i++) {
        sum += foe.to_watched[i];
    }
    return sum;
}

/* ---- the lab ---- */

static mvpn_connector *connector_of(const sim_node *n)
{
    return mvpn_engine_connector(n->engine);
}

static void target_of(const sim_node *n, mvpn_link_target *ret)
{
    *ret = (mvpn_link_target){.identity = n->config.identity,
                              .link_key = n->config.link_key.pub,
                              .addr = n->addr[0],
                              .serial = mvpn_descriptor_serial(&n->descriptor)};
}

static sim_node *home(sim *w, const char *type)
{
    sim_node *n = sim_add(w, SIM_RELAY);
    sim_put_behind(n, sim_add_home(w, type));
    n->config.is_guest = true;
    return n;
}

static void bind_home(const lab *l, sim_node *n)
{
    mvpn_link_target relays[2];
    target_of(l->relay[0], &relays[0]);
    target_of(l->relay[1], &relays[1]);
    mvpn_connector_register(connector_of(n), relays, 2, l->w->now);
    sim_touch(n);
}

static bool call(lab *l)
{
    mvpn_connector_binding binding[MVPN_CONNECTOR_BINDINGS];
    mvpn_link_target target;
    size_t n = mvpn_connector_bindings(connector_of(l->b), binding);
    target_of(l->b, &target);
    target.addr = (mvpn_addr){0};
    for (size_t i = 0; i < n; i++) {
        mvpn_link_target relay;
        target_of(l->relay[i], &relay);
        REQUIRE(binding[i].is_registered, return false);
        target.via[target.via_count++] = (mvpn_link_via){.identity = relay.identity,
                                                         .link_key = relay.link_key,
                                                         .addr = relay.addr,
                                                         .serial = relay.serial,
                                                         .rendezvous = binding[i].rendezvous};
    }
    REQUIRE(target.via_count > 0 &&
                mvpn_links_open(mvpn_engine_links(l->a->engine), &target, l->w->now, &l->link) == 0,
            return false);
    mvpn_link_hold(l->link);
    sim_touch(l->a);
    return true;
}

/* All but the call. */
static lab *lab_new(uint64_t seed, const char *a, const char *b)
{
    static lab l;
    l = (lab){.w = sim_new(seed)};
    memset(&foe, 0, sizeof(foe));
    l.w->path.delay = MVPN_MS(20);
    l.w->tap = tap;
    for (size_t i = 0; i < 2; i++) {
        l.relay[i] = sim_add(l.w, SIM_RELAY);
        l.relay[i]->config.is_nat_relay = true;
    }
    l.m = sim_add(l.w, SIM_RELAY);
    l.a = home(l.w, a);
    l.b = home(l.w, b);
    for (size_t i = 0; i < l.w->node_count; i++) {
        sim_start(l.w->node[i]);
    }
    bind_home(&l, l.a);
    bind_home(&l, l.b);
    sim_for(l.w, MVPN_S(8));
    return &l;
}

static bool is_open(sim *w, void *arg)
{
    const lab *l = arg;
    (void)w;
    return mvpn_link_is_open(l->link);
}

static bool is_direct(sim *w, void *arg)
{
    const lab *l = arg;
    mvpn_connection_info i;
    (void)w;
    mvpn_connector_info(connector_of(l->a), l->link, &i);
    return i.state == MVPN_CONNECTION_ESTABLISHED;
}

/* The link between a and b as b has it. */
static mvpn_link *other_end(const lab *l)
{
    return mvpn_links_find(mvpn_engine_links(l->b->engine), &l->a->config.identity);
}

/* a calls b: open at both ends. */
static bool joined(lab *l)
{
    REQUIRE(call(l) && sim_run_until(l->w, is_open, l, MVPN_S(5)), return false);
    sim_for(l->w, MVPN_MS(100));
    REQUIRE(other_end(l) != NULL, return false);
    mvpn_link_hold(other_end(l)); /* as a circuit does */
    return true;
}

static void say_on(sim_node *n, mvpn_link *link, unsigned command, const uint8_t *body, size_t len)
{
    mvpn_packet *p = mvpn_packet_new(mvpn_engine_pool(n->engine));
    const mvpn_header header = {.command = (uint16_t)command, .length = (uint16_t)len};
    CHECK(p != NULL);
    if (p != NULL) {
        memcpy(mvpn_packet_append(p, (uint32_t)len), body, len);
        MVPN_IGNORE(mvpn_link_send(link, p, &header, true, n->world->now)); /* too many: fewer */
        sim_touch(n);
    }
}

static void say_candidates(sim_node *n, mvpn_link *link, unsigned round, unsigned flags)
{
    static const mvpn_link_candidates blank = {.id_count = 1, .ids = {{{7, 7, 7}}}};
    uint8_t body[MVPN_LINK_CANDIDATES_LEN_MAX];
    mvpn_link_candidates m = blank;
    m.round = (uint8_t)round;
    m.flags = (uint8_t)flags;
    sim_current = n;
    say_on(n, link, MVPN_CMD_LINK_CANDIDATES, body, __wrap_mvpn_link_candidates_encode(body, &m));
}

/* A message gets across, acknowledged, in both directions. */
static bool works(lab *l)
{
    mvpn_link *b = other_end(l);
    uint64_t before[2] = {l->a->received, l->b->received};
    if (!mvpn_link_is_open(l->link) || b == NULL || mvpn_link_ping(l->link, l->w->now) != 0 ||
        mvpn_link_ping(b, l->w->now) != 0) {
        return false;
    }
    sim_touch(l->a);
    sim_touch(l->b);
    sim_for(l->w, MVPN_S(2));
    return l->a->received > before[0] && l->b->received > before[1] && mvpn_link_is_open(l->link) &&
           other_end(l) == b;
}

static void candidate(uint8_t kind, const mvpn_addr *addr)
{
    foe.candidates[foe.candidate_count++] = (mvpn_candidate){kind, *addr};
}

/* What a hostile peer may do in a link: ask for rounds all the time, with any number and flags. */
static void ask_all_the_time(lab *l, sim_node *hostile, mvpn_link *link, mvpn_time span)
{
    mvpn_time until = l->w->now + span;
    for (unsigned i = 0; l->w->now < until; i++) {
        static const unsigned flags[] = {MVPN_CANDIDATES_ASK, 0,
                                         MVPN_CANDIDATES_ASK | MVPN_CANDIDATES_SOCKETS,
                                         MVPN_CANDIDATES_GAVE_UP};
        say_candidates(hostile, link, i % 7 == 0 ? 1 : i, flags[i % MVPN_ARRAY_LEN(flags)]);
        sim_for(l->w, MVPN_MS(1500));
    }
}

/* ---- who is named by a peer ---- */

/* Neither the caller nor the called can send us to an address that it names. */
static void named_victims(uint64_t seed)
{
    static const mvpn_addr victims[] = {
        {.family = 4, .port = 53, .ip = {77, 7, 7, 7}},
        {.family = 4, .port = 443, .ip = {77, 8, 8, 8}},
        {.family = 4, .port = 80, .ip = {192, 168, 1, 254}},
        {.family = 4, .port = 80, .ip = {127, 0, 0, 1}},
        {.family = 6, .port = 80, .ip = {0x2a, 7, 7, [15] = 7}},
    };
    for (unsigned is_called = 0; is_called < 2; is_called++) {
        lab *l = lab_new(seed + is_called, "sym", "sym");
        check_context("hostile %s", is_called ? "called" : "caller");
        for (size_t i = 0; i < MVPN_ARRAY_LEN(victims); i++) {
            watch(&victims[i], 32);
            candidate((uint8_t)(1 + i % 3), &victims[i]);
        }
        foe.hostile = is_called ? l->b : l->a;
        REQUIRE(joined(l), sim_free(l->w); return );
        ask_all_the_time(l, foe.hostile, is_called ? other_end(l) : l->link, MVPN_S(300));
        mvpn_connection_info i, later;
        mvpn_connector_info(connector_of(l->a), l->link, &i);
        CHECK(i.rounds >= 2);
        /* At once, too: a round a second, after four. */
        mvpn_connector_info(connector_of(l->b), other_end(l), &i);
        for (unsigned k = 0; !is_called && k < 30; k++) {
            say_candidates(l->a, l->link, 100 + k, MVPN_CANDIDATES_ASK);
            sim_for(l->w, MVPN_MS(20));
        }
        sim_for(l->w, MVPN_S(1));
        mvpn_connector_info(connector_of(l->b), other_end(l), &later);
        CHECK(is_called || (later.rounds > i.rounds && later.rounds <= i.rounds + 6));
        CHECK(watched_in_all(l->w) == 0);
        CHECK(works(l));
        sim_free(l->w);
    }
}

/* Behind the peer's own NAT address others may live: 20 packets an hour for all of them, or a
 * birthday's 1,024, however often and by whatever link it is asked for. */
static void behind_the_peers_address(uint64_t seed)
{
    static const struct {
        const char *what;
        uint8_t mapping;
        int16_t port_step;
        unsigned probes;
    } rows[] = {
        {"named ports", MVPN_NAT_DEPENDS_NOT, 0, 0},
        {"a birthday", MVPN_NAT_DEPENDS_PORT, 0, PROBES},
        {"ports in sequence", MVPN_NAT_DEPENDS_PORT, 3, PROBES},
    };
    for (size_t r = 0; r < MVPN_ARRAY_LEN(rows); r++) {
        lab *l = lab_new(seed, "port", "port");
        const mvpn_addr seen = *nat_outside(l->a->nat);
        check_context("%s", rows[r].what);
        watch(&seen, 24);
        foe.watched_from = l->b; /* the NAT relays must reach it */
        for (uint16_t i = 0; i < MVPN_CANDIDATES_MAX; i++) {
            mvpn_addr other = seen;
            other.ip[3] = (uint8_t)(i < 4 ? seen.ip[3] : 200 + i);
            other.port = (uint16_t)(1000 + i);
            candidate((uint8_t)(1 + i % 3), &other);
        }
        foe.hostile = l->a;
        foe.mapping = rows[r].mapping;
        foe.filtering = MVPN_NAT_DEPENDS_PORT;
        foe.port_step = rows[r].port_step;
        for (unsigned k = 0; k < 4; k++) {
            REQUIRE(joined(l), sim_free(l->w); return );
            ask_all_the_time(l, l->a, l->link, MVPN_S(60));
            mvpn_link_close(l->link, MVPN_REASON_FINISHED, l->w->now);
            sim_touch(l->a);
            sim_for(l->w, MVPN_S(5));
        }
        uint64_t got = foe.to_watched[l->b->index];
        say("behind its own address, %s: %llu packets of at most %zu bytes", rows[r].what,
            (unsigned long long)got, foe.largest);
        CHECK(got > (rows[r].probes > 0 ? PUNCHES : 0) && got <= PUNCHES + rows[r].probes);
        sim_free(l->w);
    }
}

/* ---- NAT relays that lie ---- */

/* It tells a victim's address as the peer's: 20 packets an hour from each side for the whole /24,
 * whatever it tells next. */
static void lying_relay(uint64_t seed)
{
    static const mvpn_addr victim = {.family = 4, .port = 53, .ip = {77, 7, 7, 1}};
    lab *l = lab_new(seed, "port", "port");
    watch(&victim, 24);
    foe.lie = victim;
    foe.lie_step = 1;
    REQUIRE(joined(l), sim_free(l->w); return );
    ask_all_the_time(l, l->a, l->link, MVPN_S(300));
    for (unsigned i = 0; i < 5; i++) {
        mvpn_link_close(l->link, MVPN_REASON_FINISHED, l->w->now);
        sim_touch(l->a);
        sim_for(l->w, MVPN_S(5));
        REQUIRE(joined(l), sim_free(l->w); return );
        sim_for(l->w, MVPN_S(30));
    }
    say("told another's address: %llu packets of the caller, %llu of the called, of at most %zu "
        "bytes",
        (unsigned long long)foe.to_watched[l->a->index],
        (unsigned long long)foe.to_watched[l->b->index], foe.largest);
    CHECK(foe.to_watched[l->a->index] > 0 && foe.to_watched[l->a->index] <= PUNCHES);
    CHECK(foe.to_watched[l->b->index] > 0 && foe.to_watched[l->b->index] <= PUNCHES);
    CHECK(works(l));
    sim_free(l->w);
}

/* With a birthday, which one side alone has to believe in. */
static void lying_relay_birthday(uint64_t seed)
{
    static const mvpn_addr victim = {.family = 4, .port = 53, .ip = {77, 7, 7, 1}};
    for (unsigned is_swapped = 0; is_swapped < 2; is_swapped++) {
        lab *l = lab_new(seed, is_swapped ? "port" : "sym", is_swapped ? "sym" : "port");
        check_context("%s", is_swapped ? "port calls sym" : "sym calls port");
        sim_for(l->w, MVPN_S(30)); /* they know their NATs */
        watch(&victim, 24);
        foe.lie = victim;
        REQUIRE(joined(l), sim_free(l->w); return );
        sim_for(l->w, MVPN_S(1200));
        for (unsigned i = 0; i < 2; i++) {
            uint64_t got = foe.to_watched[(i == 0 ? l->a : l->b)->index];
            say("%s sends %llu", i == 0 ? "a" : "b", (unsigned long long)got);
            CHECK(got > PUNCHES && got <= PUNCHES + PROBES);
        }
        CHECK(works(l));
        sim_free(l->w);
    }
}

/* Nor can it lead us to what is behind our own NAT, or to many at once. */
static void lying_relay_inside(uint64_t seed)
{
    static const mvpn_addr inside[] = {
        {.family = 4, .port = 80, .ip = {192, 168, 1, 254}},
        {.family = 4, .port = 80, .ip = {10, 0, 0, 1}},
        {.family = 4, .port = 80, .ip = {127, 0, 0, 1}},
        {.family = 4, .port = 80, .ip = {224, 0, 0, 1}},
        {.family = 4, .port = 80, .ip = {255, 255, 255, 255}},
        {.family = 6, .port = 80, .ip = {0xfe, 0x80, [15] = 1}},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(inside); i++) {
        char text[MVPN_ADDR_STRLEN];
        lab *l = lab_new(seed, "port", "port");
        check_context("%s", mvpn_addr_format(&inside[i], text));
        watch(&inside[i], 32);
        foe.lie = inside[i];
        REQUIRE(joined(l), sim_free(l->w); return );
        sim_for(l->w, MVPN_S(20));
        CHECK(watched_in_all(l->w) == 0);
        CHECK(works(l));
        sim_free(l->w);
    }
}

/* ---- strangers ---- */

/* Copy the next packet from one node to another. */
static void copy_next(const sim_node *from, const sim_node *to, bool is_lost)
{
    foe.from = from;
    foe.to = to;
    foe.is_lost = is_lost;
    foe.copies = 1;
    foe.copy.len = 0;
}

typedef struct state_of {
    mvpn_addr at_relay[2]; /* where the NAT relays have a and b */
    const void *route[2];
    mvpn_addr direct[2];
} state_of;

static void look(const lab *l, const sim_node *relay, state_of *ret)
{
    sim_node *const ends[2] = {l->a, l->b};
    const mvpn_link *links[2] = {l->link, other_end(l)};
    *ret = (state_of){.route = {NULL}};
    for (size_t i = 0; i < 2; i++) {
        mvpn_links *at = mvpn_engine_links(relay->engine);
        const mvpn_link *link = mvpn_links_find(at, &ends[i]->config.identity);
        if (link != NULL && links[i] != NULL) {
            const struct session *s = links[i]->session;
            ret->at_relay[i] = *mvpn_link_peer_addr(link);
            ret->route[i] = s->route;
            ret->direct[i] = s->routes[ROUTE_DIRECT].addr;
        }
    }
}

/* Something goes from one to the other: in their own link, or in the one between a and b. */
static void stir(lab *l, sim_node *from, const sim_node *to, bool is_own)
{
    mvpn_link *own = mvpn_links_find(mvpn_engine_links(from->engine), &to->config.identity);
    if (is_own && own != NULL) {
        MVPN_IGNORE(mvpn_link_ping(own, l->w->now));
        sim_touch(from);
        sim_for(l->w, MVPN_S(1));
    }
    CHECK(works(l));
}

/*
 * A stranger who saw, or took, one packet of any of the links takes over nothing: not the binding
 * of the one at home, not the session at the NAT relay, not the relayed route, not the direct one.
 * It gets at most the challenges of §4.6 for each, no larger than it sent.
 */
static void third_party_of(uint64_t seed, const char *type, bool is_to_be_direct)
{
    static const mvpn_addr stranger = {.family = 4, .port = 666, .ip = {77, 6, 6, 6}};
    lab *l = lab_new(seed, type, type);
    REQUIRE(joined(l), sim_free(l->w); return );
    CHECK(sim_run_until(l->w, is_direct, l, MVPN_S(10)) == is_to_be_direct);
    sim_for(l->w, MVPN_S(20));
    sim_node *ends[] = {l->a, l->b, l->relay[0]};
    state_of before, after;
    unsigned copied = 0;
    look(l, l->relay[0], &before);
    watch(&stranger, 32);
    foe.stranger = stranger;
    for (size_t i = 0; i < 36; i++) {
        sim_node *from = ends[i % 3], *to = ends[i / 3 % 3];
        bool is_taken = i / 9 % 2 == 1, is_own = i / 18 == 1;
        uint64_t told = watched_in_all(l->w);
        check_context("%s, %s to %s, %s, %s", type, from->name, to->name,
                      is_taken ? "taken" : "seen", is_own ? "their own link" : "the link");
        if (from == to) {
            continue;
        }
        copy_next(from, to, is_taken);
        stir(l, from, to, is_own);
        foe.copies = 0;
        copied += foe.copy.len > 0;
        sim_for(l->w, MVPN_S(3));
        CHECK(watched_in_all(l->w) - told <= 3);
        CHECK(is_taken || watched_in_all(l->w) == told); /* a copy is nothing new */
        CHECK(works(l));
        look(l, l->relay[0], &after);
        CHECK(memcmp(&before, &after, sizeof(before)) == 0);
    }
    say("%s: %u packets used, %llu packets to the stranger, of at most %zu bytes", type, copied,
        (unsigned long long)watched_in_all(l->w), foe.largest);
    CHECK(copied >= 12);
    const mvpn_nat_relay *r = mvpn_engine_nat_relay(l->relay[0]->engine);
    CHECK(is_to_be_direct || mvpn_nat_relay_get_counters(r)->dropped_source > 0);
    CHECK(watched_in_all(l->w) > 0 && foe.largest <= 100);
    sim_free(l->w);
}

static void third_party(uint64_t seed)
{
    third_party_of(seed, "port", true);
    third_party_of(seed, "sym", false);
}

/* Everything from the first word of a session on, again and again, as it was: candidates, the NAT
 * relays' answers, punches. Nothing begins anew, nothing moves, and the replies are no more than a
 * path check's. */
static void replayed(uint64_t seed)
{
    static const char *const kinds[] = {"port", "sym"};
    for (size_t k = 0; k < MVPN_ARRAY_LEN(kinds); k++) {
        lab *l = lab_new(seed, kinds[k], kinds[k]);
        mvpn_connection_info before[2], after[2];
        state_of was, is;
        check_context("%s", kinds[k]);
        foe.is_taping = true;
        REQUIRE(joined(l), sim_free(l->w); return );
        sim_for(l->w, MVPN_S(4));
        foe.is_taping = false;
        CHECK(foe.tape_count > 40 && foe.tape_count < TAPE);
        sim_for(l->w, MVPN_S(80)); /* a second round has failed, if they do: the next is far */
        uint64_t sent = l->a->sent + l->b->sent;
        sim_for(l->w, MVPN_S(30));
        uint64_t usual = l->a->sent + l->b->sent - sent;
        look(l, l->relay[0], &was);
        mvpn_connector_info(connector_of(l->a), l->link, &before[0]);
        mvpn_connector_info(connector_of(l->b), other_end(l), &before[1]);
        sent = l->a->sent + l->b->sent;
        for (unsigned turn = 0; turn < 5; turn++) {
            for (size_t i = 0; i < foe.tape_count; i++) {
                sim_inject(l->w, &foe.tape[i], MVPN_MS(1 + i));
            }
            sim_for(l->w, MVPN_S(6));
        }
        sent = l->a->sent + l->b->sent - sent;
        say("%s: %zu packets five times, %llu sent by a and b meanwhile, %llu before", kinds[k],
            foe.tape_count, (unsigned long long)sent, (unsigned long long)usual);
        CHECK(sent <= usual + 25);
        CHECK(works(l));
        look(l, l->relay[0], &is);
        mvpn_connector_info(connector_of(l->a), l->link, &after[0]);
        mvpn_connector_info(connector_of(l->b), other_end(l), &after[1]);
        CHECK(memcmp(&was, &is, sizeof(was)) == 0);
        for (size_t i = 0; i < 2; i++) {
            CHECK(before[i].rounds == after[i].rounds && before[i].since == after[i].since);
            CHECK(before[i].upgrades == after[i].upgrades);
            CHECK(before[i].fallbacks == after[i].fallbacks);
        }
        sim_free(l->w);
    }
}

/* What is said in other links than the session's, or too late, is nothing to it. */
static void forged_words(uint64_t seed)
{
    static const mvpn_addr victim = {.family = 4, .port = 53, .ip = {77, 7, 7, 7}};
    lab *l = lab_new(seed, "sym", "sym");
    mvpn_link_target target;
    mvpn_link *of_m[3];
    sim_node *const met[3] = {l->relay[0], l->relay[1], l->m};
    REQUIRE(joined(l), sim_free(l->w); return );
    watch(&victim, 32);
    /* b has links with m, who knows all that a and r0 know. */
    for (size_t i = 0; i < 2; i++) {
        target_of(met[i], &target);
        CHECK(mvpn_links_open(mvpn_engine_links(l->m->engine), &target, l->w->now, &of_m[i]) == 0);
        sim_touch(l->m);
    }
    target_of(l->m, &target);
    CHECK(mvpn_links_open(mvpn_engine_links(l->b->engine), &target, l->w->now, &of_m[2]) == 0);
    mvpn_link_hold(of_m[2]);
    sim_touch(l->b);
    sim_for(l->w, MVPN_S(2));
    of_m[2] = mvpn_links_find(mvpn_engine_links(l->m->engine), &l->b->config.identity);
    REQUIRE(of_m[2] != NULL, sim_free(l->w); return );
    foe.hostile = l->m;
    candidate(MVPN_CANDIDATE_REFLEXIVE, &victim);
    const mvpn_nat_id session = l->link->session->nat_session;
    for (unsigned i = 0; i < 100; i++) {
        uint8_t body[MVPN_NAT_ADDRESSED_LEN];
        __real_mvpn_nat_addressed_encode(body,
                                         &(mvpn_nat_addressed){.session = session, .addr = victim});
        say_on(l->m, of_m[2], MVPN_CMD_NAT_ADDRESSED, body, sizeof(body));
        say_on(l->m, of_m[2], MVPN_CMD_NAT_CLOSE, session.b, sizeof(session.b));
        say_candidates(l->m, of_m[2], i, MVPN_CANDIDATES_ASK);
        say_candidates(l->m, of_m[2], i, MVPN_CANDIDATES_GAVE_UP);
        /* At the NAT relay: a session that is not its own. */
        say_on(l->m, of_m[0], MVPN_CMD_NAT_CLOSE, session.b, sizeof(session.b));
        say_on(l->m, of_m[0], MVPN_CMD_NAT_ADDRESS, session.b, sizeof(session.b));
        sim_for(l->w, MVPN_MS(100));
    }
    CHECK(mvpn_link_is_open(of_m[2])); /* it said nothing malformed */
    /* Late: the round is over. */
    const mvpn_link *at_relay =
        mvpn_links_find(mvpn_engine_links(l->relay[0]->engine), &l->b->config.identity);
    REQUIRE(at_relay != NULL, sim_free(l->w); return );
    foe.hostile = NULL;
    unsigned late = 0;
    for (unsigned i = 0; i < 20; i++) {
        mvpn_connection_info info;
        mvpn_connector_info(connector_of(l->b), other_end(l), &info);
        uint8_t body[MVPN_NAT_ADDRESSED_LEN];
        __real_mvpn_nat_addressed_encode(body,
                                         &(mvpn_nat_addressed){.session = session, .addr = victim});
        if (info.state == MVPN_CONNECTION_RELAYED) {
            late++;
            say_on(l->relay[0], (mvpn_link *)(uintptr_t)at_relay, MVPN_CMD_NAT_ADDRESSED, body,
                   sizeof(body));
        }
        sim_for(l->w, MVPN_MS(500));
    }
    CHECK(late > 0);
    CHECK(watched_in_all(l->w) == 0);
    CHECK(works(l));
    sim_free(l->w);
}

/* A node that registers, opens, asks and closes as fast as it can, at both NAT relays: a and b go
 * on, and m is still called. */
static void flooded_relay(uint64_t seed)
{
    lab *l = lab_new(seed, "port", "port");
    mvpn_link *link[2];
    uint8_t body[MVPN_NAT_OPEN_LEN];
    mvpn_connector_binding binding[MVPN_CONNECTOR_BINDINGS];
    REQUIRE(joined(l), sim_free(l->w); return );
    size_t count = mvpn_connector_bindings(connector_of(l->b), binding);
    REQUIRE(count == 2, sim_free(l->w); return );
    for (size_t i = 0; i < 2; i++) {
        mvpn_link_target target;
        target_of(l->relay[i], &target);
        CHECK(mvpn_links_open(mvpn_engine_links(l->m->engine), &target, l->w->now, &link[i]) == 0);
        mvpn_link_hold(link[i]);
    }
    sim_touch(l->m);
    sim_for(l->w, MVPN_S(1));
    uint64_t b_before = l->b->received;
    for (unsigned k = 0; k < 200; k++) {
        for (size_t i = 0; i < 2; i++) {
            for (unsigned n = 0; n < 10; n++) {
                mvpn_nat_register_encode(body, 60);
                say_on(l->m, link[i], MVPN_CMD_NAT_REGISTER, body, MVPN_NAT_REGISTER_LEN);
                mvpn_nat_open_encode(body,
                                     &(mvpn_nat_open){1 + k * 10 + n, binding[i].rendezvous, 8});
                say_on(l->m, link[i], MVPN_CMD_NAT_OPEN, body, sizeof(body));
                mvpn_nat_more_encode(body, &(mvpn_nat_more){l->link->session->nat_session, 8});
                say_on(l->m, link[i], MVPN_CMD_NAT_MORE, body, MVPN_NAT_MORE_LEN);
            }
        }
        sim_for(l->w, MVPN_MS(50));
    }
    /* 20 and 5 a second, at each of them, in 10 s. */
    uint64_t heard = l->b->received - b_before;
    size_t sessions = 0;
    for (size_t i = 0; i < 2; i++) {
        const mvpn_nat_relay *r = mvpn_engine_nat_relay(l->relay[i]->engine);
        const mvpn_nat_relay_counters *c = mvpn_nat_relay_get_counters(r);
        sessions += mvpn_nat_relay_session_count(r);
        CHECK(c->refused > 1000);
        CHECK(c->opened <= 20 + 5 * 11);
        CHECK(sim_packets_in_use(l->relay[i]) < 300);
    }
    say("b heard %llu packets, %zu sessions", (unsigned long long)heard, sessions);
    CHECK(sessions <= 2 * 64 + 2);
    CHECK(heard < 2 * (20 + 5 * 12) * 3);
    CHECK(sim_packets_in_use(l->b) < 300);
    CHECK(works(l));
    mvpn_link_close(l->link, MVPN_REASON_FINISHED, l->w->now);
    sim_touch(l->a);
    sim_for(l->w, MVPN_S(6));
    CHECK(joined(l)); /* anew */
    sim_free(l->w);
}

/* A relay has others probe a victim; each sends it one small packet a minute, after eight. And
 * probes that nobody asked for are nothing. */
static void probes_for_a_victim(uint64_t seed)
{
    static const mvpn_addr victim = {.family = 4, .port = 53, .ip = {77, 7, 7, 7}};
    lab *l = lab_new(seed, "port", "port");
    mvpn_link *link[2];
    REQUIRE(joined(l), sim_free(l->w); return );
    watch(&victim, 32);
    for (size_t i = 0; i < 2; i++) {
        mvpn_link_target target;
        target_of(l->relay[i], &target);
        CHECK(mvpn_links_open(mvpn_engine_links(l->m->engine), &target, l->w->now, &link[i]) == 0);
        mvpn_link_hold(link[i]);
    }
    sim_touch(l->m);
    sim_for(l->w, MVPN_S(1));
    for (unsigned k = 0; k < 600; k++) {
        uint8_t body[MVPN_NAT_PROBE_FOR_LEN];
        mvpn_nat_probe_for m = {.to = victim};
        m.to.port = (uint16_t)(1 + k);
        mvpn_store32(m.token.b, k + 1);
        mvpn_nat_probe_for_encode(body, &m);
        for (size_t i = 0; i < 2; i++) {
            say_on(l->m, link[i], MVPN_CMD_NAT_PROBE_FOR, body, sizeof(body));
        }
        sim_datagram d = {.from = victim, .to = l->relay[k % 2]->addr[0], .len = MVPN_PROBE_LEN};
        mvpn_probe_encode(d.bytes, &m.token, d.bytes);
        sim_inject(l->w, &d, MVPN_MS(1));
        sim_for(l->w, MVPN_MS(100));
    }
    for (size_t i = 0; i < 2; i++) {
        CHECK(foe.to_watched[i] > 0 && foe.to_watched[i] <= 8 + 1);
    }
    CHECK(watched_in_all(l->w) == foe.to_watched[0] + foe.to_watched[1]);
    CHECK(foe.largest <= MVPN_PROBE_LEN);
    CHECK(works(l));
    sim_free(l->w);
}

static const scenario scenarios[] = {
    {"named_victims", named_victims},
    {"behind_the_peers_address", behind_the_peers_address},
    {"lying_relay", lying_relay},
    {"lying_relay_birthday", lying_relay_birthday},
    {"lying_relay_inside", lying_relay_inside},
    {"third_party", third_party},
    {"replayed", replayed},
    {"forged_words", forged_words},
    {"flooded_relay", flooded_relay},
    {"probes_for_a_victim", probes_for_a_victim},
};

int main(int argc, char **argv)
{
    return scenario_main(argc, argv, scenarios, MVPN_ARRAY_LEN(scenarios));
}
