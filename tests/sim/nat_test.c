/*
 * NATs in the simulator: each type is asked what tests/netns/nat_types.sh asks the kernel's, a
 * plain puncher goes through the pairs of tests/netns/nat_punch.sh, and clients behind all of them
 * build circuits whose links outlive their mappings. (RFC 4787, RFC 5780)
 */
#include "inet.h"
#include "scenario.h"

#include <string.h>

#include "base/bytes.h"

/* ---- observers: two addresses, two ports; and one who asks them ---- */

#define PORT 3478
#define OTHER_PORT 3479
#define CHANGE_PORT 1
#define CHANGE_ADDRESS 2
#define ANSWER_WITHIN MVPN_MS(300)

typedef struct question {
    uint32_t id;
    uint8_t change;
    mvpn_addr tell; /* this one instead of the asker, if not empty */
} question;

typedef struct answer {
    uint32_t id;
    mvpn_addr seen;
} answer;

typedef struct lab {
    sim *w;
    sim_node *observer[2];
    uint32_t last_id;
} lab;

typedef struct inbox {
    answer last;
    mvpn_addr from;
    mvpn_addr to;
    unsigned count;
} inbox;

static void observe(sim_node *host, const mvpn_addr *from, const mvpn_addr *to,
                    const uint8_t *bytes, size_t len)
{
    lab *l = host->user;
    question q;
    if (len != sizeof(q)) {
        return;
    }
    memcpy(&q, bytes, sizeof(q));
    const answer a = {.id = q.id, .seen = *from};
    sim_node *speaker = l->observer[(host == l->observer[1]) ^ ((q.change & CHANGE_ADDRESS) != 0)];
    uint16_t port = (q.change & CHANGE_PORT) ? (uint16_t)(PORT + OTHER_PORT - to->port) : to->port;
    sim_host_send(speaker, port, q.tell.family != 0 ? &q.tell : from, (const uint8_t *)&a,
                  sizeof(a));
}

static void hear(sim_node *host, const mvpn_addr *from, const mvpn_addr *to, const uint8_t *bytes,
                 size_t len)
{
    inbox *in = host->user;
    if (len == sizeof(in->last)) {
        memcpy(&in->last, bytes, len);
        in->from = *from;
        in->to = *to;
        in->count++;
    }
}

static void lab_init(lab *l, uint64_t seed)
{
    *l = (lab){.w = sim_new(seed)};
    for (size_t i = 0; i < 2; i++) {
        l->observer[i] = sim_add(l->w, SIM_HOST);
        l->observer[i]->on_datagram = observe;
        l->observer[i]->user = l;
    }
}

static sim_node *lab_host(lab *l, nat_box *box, inbox *in)
{
    sim_node *host = sim_add(l->w, SIM_HOST);
    host->on_datagram = hear;
    host->user = in;
    *in = (inbox){0};
    if (box != NULL) {
        sim_put_behind(host, box);
    }
    return host;
}

static mvpn_addr observer_at(const lab *l, const sim_node *host, size_t which, uint16_t port)
{
    mvpn_addr a = l->observer[which]->addr[host->addr[0].family == 6];
    a.port = port;
    return a;
}

/* Did an answer come, and what was seen? */
static bool ask(lab *l, sim_node *host, uint16_t own_port, mvpn_addr to, uint8_t change,
                mvpn_addr *ret_seen)
{
    inbox *in = host->user;
    const question q = {.id = ++l->last_id, .change = change};
    sim_host_send(host, own_port, &to, (const uint8_t *)&q, sizeof(q));
    sim_for(l->w, ANSWER_WITHIN);
    if (in->last.id != q.id || in->to.port != own_port) {
        return false;
    }
    if (ret_seen != NULL) {
        *ret_seen = in->last.seen;
    }
    return true;
}

/* Does this arrive at `place`? The observer that spoke to it before sends it, asked by another
 * port. */
static bool reaches(lab *l, sim_node *host, const mvpn_addr *place)
{
    inbox *in = host->user;
    const question q = {.id = ++l->last_id, .tell = *place};
    mvpn_addr to = observer_at(l, host, 0, PORT);
    sim_host_send(host, 9, &to, (const uint8_t *)&q, sizeof(q));
    sim_for(l->w, ANSWER_WITHIN);
    return in->last.id == q.id;
}

typedef struct findings {
    bool has_udp, is_natted, keeps_port, has_hairpin;
    enum nat_dependence mapping, filtering;
    int step;
} findings;

static findings probe(lab *l, sim_node *host)
{
    findings f = {0};
    mvpn_addr seen[3];
    const mvpn_addr at[3] = {observer_at(l, host, 0, PORT), observer_at(l, host, 0, OTHER_PORT),
                             observer_at(l, host, 1, PORT)};
    for (size_t i = 0; i < 3; i++) {
        if (!ask(l, host, 5000, at[i], 0, &seen[i])) {
            return f;
        }
    }
    f.has_udp = true;
    f.keeps_port = seen[0].port == 5000;
    f.is_natted = !f.keeps_port || !mvpn_addr_ip_eq(&seen[0], &host->addr[0]);
    f.mapping = !mvpn_addr_eq(&seen[0], &seen[1])   ? NAT_ADDRESS_PORT
                : !mvpn_addr_eq(&seen[0], &seen[2]) ? NAT_ADDRESS
                                                    : NAT_ENDPOINT;
    if (f.mapping == NAT_ADDRESS_PORT &&
        seen[2].port - seen[1].port == seen[1].port - seen[0].port) {
        f.step = seen[1].port - seen[0].port;
    }
    (void)ask(l, host, 5001, at[0], 0, NULL);
    f.filtering = ask(l, host, 5001, at[0], CHANGE_ADDRESS | CHANGE_PORT, NULL) ? NAT_ENDPOINT
                  : ask(l, host, 5001, at[0], CHANGE_PORT, NULL)                ? NAT_ADDRESS
                                                                                : NAT_ADDRESS_PORT;
    mvpn_addr first;
    if (f.is_natted && ask(l, host, 5002, at[0], 0, &first) && ask(l, host, 5003, at[0], 0, NULL)) {
        const answer hello = {.id = ++l->last_id};
        const inbox *in = host->user;
        sim_host_send(host, 5003, &first, (const uint8_t *)&hello, sizeof(hello));
        sim_for(l->w, ANSWER_WITHIN);
        f.has_hairpin =
            in->last.id == hello.id && in->to.port == 5002 && mvpn_addr_ip_eq(&in->from, &first);
    }
    return f;
}

/* ---- the types ---- */

static const struct {
    const char *name;
    findings want;
} expected[] = {
#define ROW(...)                                                                                   \
    {                                                                                              \
        true, __VA_ARGS__                                                                          \
    }
    /* UDP; a NAT, keeps the port, hairpin; mapping; filtering; step */
    {"public", ROW(false, true, false, NAT_ENDPOINT, NAT_ENDPOINT, 0)},
    {"full", ROW(true, false, false, NAT_ENDPOINT, NAT_ENDPOINT, 0)},
    {"addr", ROW(true, false, false, NAT_ENDPOINT, NAT_ADDRESS, 0)},
    {"port", ROW(true, false, false, NAT_ENDPOINT, NAT_ADDRESS_PORT, 0)},
    {"linux", ROW(true, true, false, NAT_ENDPOINT, NAT_ADDRESS_PORT, 0)},
    {"addrmap", ROW(true, false, false, NAT_ADDRESS, NAT_ADDRESS_PORT, 0)},
    {"sym", ROW(true, false, false, NAT_ADDRESS_PORT, NAT_ADDRESS_PORT, 0)},
    {"symseq", ROW(true, false, false, NAT_ADDRESS_PORT, NAT_ADDRESS_PORT, 1)},
    {"double", ROW(true, false, false, NAT_ENDPOINT, NAT_ADDRESS_PORT, 0)},
    {"doublesym", ROW(true, false, false, NAT_ADDRESS_PORT, NAT_ADDRESS_PORT, 0)},
    {"v6only", ROW(false, true, false, NAT_ENDPOINT, NAT_ADDRESS_PORT, 0)},
    {"blocked", {0}},
#undef ROW
};

static void check_findings(const findings *f, const findings *want)
{
    CHECK(f->has_udp == want->has_udp);
    CHECK(f->is_natted == want->is_natted);
    CHECK(f->keeps_port == want->keeps_port);
    CHECK(f->has_hairpin == want->has_hairpin);
    CHECK(f->mapping == want->mapping);
    CHECK(f->filtering == want->filtering);
    CHECK(f->step == want->step);
}

static void types(uint64_t seed)
{
    for (size_t i = 0; i < MVPN_ARRAY_LEN(expected); i++) {
        lab l;
        inbox in;
        check_context("%s", expected[i].name);
        lab_init(&l, seed + i);
        nat_box *box = sim_add_home(l.w, expected[i].name);
        sim_node *host = lab_host(&l, box, &in);
        findings f = probe(&l, host), want = expected[i].want;
        check_findings(&f, &want);
        if (box != NULL && f.mapping == NAT_ENDPOINT && f.is_natted && nat_outer(box) == NULL) {
            check_context("%s, hairpin", expected[i].name);
            nat_set_hairpin(box, true);
            f = probe(&l, host);
            want.has_hairpin = true;
            check_findings(&f, &want);
        }
        sim_free(l.w);
    }
}

/* Idle for `idle`: does the mapping still let the observer in? */
static bool lives(lab *l, sim_node *host, uint16_t port, mvpn_time idle)
{
    mvpn_addr place;
    if (!ask(l, host, port, observer_at(l, host, 0, PORT), 0, &place)) {
        return false;
    }
    sim_for(l->w, idle - 2 * ANSWER_WITHIN);
    return reaches(l, host, &place);
}

static void lifetimes(uint64_t seed)
{
    static const char *const names[] = {"full", "addr", "port", "linux", "sym", "v6only"};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(names); i++) {
        lab l;
        inbox in;
        check_context("%s", names[i]);
        lab_init(&l, seed + i);
        nat_box *box = sim_add_home(l.w, names[i]);
        sim_node *host = lab_host(&l, box, &in);
        CHECK(lives(&l, host, 6000, NAT_LIFETIME - MVPN_S(1)));
        CHECK(!lives(&l, host, 6001, NAT_LIFETIME + MVPN_S(1)));
        nat_set_lifetime(box, MVPN_S(20));
        CHECK(lives(&l, host, 6002, MVPN_S(19)));
        CHECK(!lives(&l, host, 6003, MVPN_S(21)));
        /* What goes out prolongs it, what comes in does not. */
        mvpn_addr place;
        CHECK(ask(&l, host, 6004, observer_at(&l, host, 0, PORT), 0, &place));
        sim_for(l.w, MVPN_S(15));
        CHECK(lives(&l, host, 6004, MVPN_S(15)));
        CHECK(lives(&l, host, 6005, MVPN_S(15)) && in.last.seen.family != 0);
        sim_for(l.w, MVPN_S(8));
        CHECK(nat_mappings(box, l.w->now) <= 1); /* of the port that asks for others */
        /* Switched off and on. */
        CHECK(ask(&l, host, 6006, observer_at(&l, host, 0, PORT), 0, &place));
        nat_forget(box);
        CHECK(!reaches(&l, host, &place));
        sim_free(l.w);
    }
}

static void kept_by_inbound(uint64_t seed)
{
    for (size_t kept = 0; kept < 2; kept++) {
        lab l;
        inbox in;
        mvpn_addr place;
        nat_config c = *nat_type("port");
        c.is_kept_by_inbound = kept == 1;
        c.lifetime = MVPN_S(20);
        lab_init(&l, seed);
        sim_node *host = lab_host(&l, sim_add_nat(l.w, &c, NULL), &in);
        CHECK(ask(&l, host, 7000, observer_at(&l, host, 0, PORT), 0, &place));
        sim_for(l.w, MVPN_S(12));
        CHECK(reaches(&l, host, &place));
        sim_for(l.w, MVPN_S(12));
        CHECK(reaches(&l, host, &place) == (kept == 1));
        sim_free(l.w);
    }
}

static void limits(uint64_t seed)
{
    lab l;
    inbox in;
    nat_config c = *nat_type("sym");
    c.mappings_max = 10;
    lab_init(&l, seed);
    nat_box *box = sim_add_nat(l.w, &c, NULL);
    sim_node *host = lab_host(&l, box, &in);
    for (uint16_t i = 0; i < 20; i++) {
        bool is_answered =
            ask(&l, host, (uint16_t)(8000 + i), observer_at(&l, host, 0, PORT), 0, NULL);
        CHECK(is_answered == (i < 10));
    }
    CHECK(nat_mappings(box, l.w->now) == 10);
    sim_for(l.w, NAT_LIFETIME);
    CHECK(nat_mappings(box, l.w->now) == 0);
    CHECK(ask(&l, host, 9000, observer_at(&l, host, 0, PORT), 0, NULL));
    sim_free(l.w);
}

/* Two of one LAN meet by their inside addresses, two of different LANs with equal ones do not; two
 * homes of one carrier have one address and different ports. */
static void neighbours(uint64_t seed)
{
    lab l;
    inbox in[4];
    lab_init(&l, seed);
    nat_box *carrier = sim_add_nat(l.w, nat_type("port"), NULL);
    nat_box *left = sim_add_nat(l.w, nat_type("linux"), carrier);
    nat_box *right = sim_add_nat(l.w, nat_type("linux"), carrier);
    sim_node *a = lab_host(&l, left, &in[0]), *b = lab_host(&l, left, &in[1]);
    sim_node *c = lab_host(&l, right, &in[2]), *d = lab_host(&l, right, &in[3]);
    CHECK(mvpn_addr_ip_eq(&a->addr[0], &c->addr[0]) && mvpn_addr_ip_eq(&b->addr[0], &d->addr[0]));
    const answer hello = {.id = 77};
    mvpn_addr to = b->addr[0], seen[2];
    to.port = 600;
    sim_host_send(a, 500, &to, (const uint8_t *)&hello, sizeof(hello));
    sim_for(l.w, MVPN_S(1));
    CHECK(in[1].count == 1 && in[3].count == 0 && in[1].to.port == 600);
    CHECK(mvpn_addr_ip_eq(&in[1].from, &a->addr[0]) && in[1].from.port == 500);
    CHECK(ask(&l, a, 500, observer_at(&l, a, 0, PORT), 0, &seen[0]));
    CHECK(ask(&l, c, 500, observer_at(&l, c, 0, PORT), 0, &seen[1]));
    CHECK(mvpn_addr_ip_eq(&seen[0], &seen[1]) && seen[0].port != seen[1].port);
    CHECK(mvpn_addr_ip_eq(&seen[0], nat_outside(carrier)));
    /* Two that want one port to be preserved. */
    CHECK(ask(&l, b, 500, observer_at(&l, b, 0, PORT), 0, &seen[1]));
    CHECK(mvpn_addr_ip_eq(&seen[0], &seen[1]) && seen[0].port != seen[1].port);
    sim_free(l.w);
}

/* ---- a plain puncher ---- */

#define PUNCH_PORT 5000
#define PUNCH_EVERY MVPN_MS(50)
#define PREDICTED 11

typedef struct puncher {
    sim_node *host;
    mvpn_addr target; /* where the peer was seen last */
    int step;         /* the peer's */
    unsigned predicted;
    mvpn_addr heard_at; /* whence the peer's word came */
    mvpn_time done;     /* when its answer to ours came */
} puncher;

static void punch_send(puncher *p, const mvpn_addr *to, bool is_answer)
{
    const uint8_t bytes[1] = {is_answer};
    sim_host_send(p->host, PUNCH_PORT, to, bytes, sizeof(bytes));
}

static void punch_hear(sim_node *host, const mvpn_addr *from, const mvpn_addr *to,
                       const uint8_t *bytes, size_t len)
{
    puncher *p = host->user;
    if (len == 1 && to->port == PUNCH_PORT) {
        p->heard_at = *from;
        if (bytes[0] == 1 && p->done == 0) {
            p->done = host->world->now;
        }
        if (bytes[0] == 0) {
            punch_send(p, from, true);
        }
    }
}

static void punch_tick(sim *w, void *arg)
{
    puncher *p = arg;
    mvpn_addr to = p->target;
    punch_send(p, &to, false);
    for (unsigned i = 0; i < p->predicted && p->step != 0; i++) {
        to.port = (uint16_t)(to.port + p->step);
        punch_send(p, &to, false);
    }
    if (p->heard_at.family != 0) {
        punch_send(p, &p->heard_at, false);
    }
    sim_call(w, PUNCH_EVERY, punch_tick, p);
}

static bool punch_over(sim *w, void *arg)
{
    const puncher *p = arg;
    (void)w;
    return p[0].done != 0 && p[1].done != 0;
}

/* How long until both knew; MVPN_TIME_NEVER: never. */
static mvpn_time punch(lab *l, sim_node *const host[2], unsigned predicted, mvpn_time span)
{
    puncher p[2] = {{.host = host[0]}, {.host = host[1]}};
    for (size_t i = 0; i < 2; i++) {
        mvpn_addr seen[2] = {{0}};
        for (unsigned j = 0; j < 12 && seen[1].family == 0; j++) { /* paths may lose */
            (void)(ask(l, host[i], PUNCH_PORT, observer_at(l, host[i], 0, PORT), 0, &seen[0]) &&
                   ask(l, host[i], PUNCH_PORT, observer_at(l, host[i], 1, PORT), 0, &seen[1]));
        }
        int step = seen[1].port - seen[0].port;
        p[1 - i].target = seen[1];
        p[1 - i].step = step >= -10 && step <= 10 ? step : 0;
        p[1 - i].predicted = predicted;
    }
    mvpn_time from = l->w->now, latest;
    for (size_t i = 0; i < 2; i++) {
        host[i]->user = &p[i];
        host[i]->on_datagram = punch_hear;
        sim_call(l->w, 0, punch_tick, &p[i]);
    }
    if (!sim_run_until(l->w, punch_over, p, span)) {
        return MVPN_TIME_NEVER;
    }
    latest = p[0].done > p[1].done ? p[0].done : p[1].done;
    return latest - from;
}

/* The rule behind the table: a next port that nobody knows against a filter that asks for it. */
static bool is_hard(const char *type, bool is_predicted)
{
    return strcmp(type, "addrmap") == 0 || strcmp(type, "sym") == 0 ||
           strcmp(type, "doublesym") == 0 || (strcmp(type, "symseq") == 0 && !is_predicted);
}

static bool filters_by_port(const char *type)
{
    return strcmp(type, "public") != 0 && strcmp(type, "full") != 0 && strcmp(type, "addr") != 0;
}

static void punch_all(uint64_t seed, unsigned predicted, const sim_path *path, mvpn_time bound)
{
    static const char *const names[] = {"public",  "full", "addr",   "port",   "linux",
                                        "addrmap", "sym",  "symseq", "double", "doublesym"};
    mvpn_time longest = 0;
    unsigned direct = 0, pairs = 0;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(names); i++) {
        for (size_t j = i; j < MVPN_ARRAY_LEN(names); j++) {
            const char *a = names[i], *b = names[j];
            bool is_luck = strcmp(a, "symseq") == 0 && strcmp(b, "symseq") == 0 && predicted > 0;
            bool is_possible = !(is_hard(a, predicted > 0) && filters_by_port(b)) &&
                               !(is_hard(b, predicted > 0) && filters_by_port(a));
            lab l;
            inbox in[2];
            check_context("%s and %s", a, b);
            lab_init(&l, seed + i * 100 + j);
            l.w->path = *path;
            sim_node *const host[2] = {lab_host(&l, sim_add_home(l.w, a), &in[0]),
                                       lab_host(&l, sim_add_home(l.w, b), &in[1])};
            mvpn_time took = punch(&l, host, predicted, MVPN_S(3));
            bool is_direct = took != MVPN_TIME_NEVER;
            CHECK(is_luck || is_direct == is_possible);
            CHECK(!is_direct || took <= bound);
            longest = is_direct && took > longest ? took : longest;
            direct += is_direct;
            pairs++;
            sim_free(l.w);
        }
    }
    say("%u of %u pairs direct, the last after %.0f ms", direct, pairs, (double)longest / 1000);
}

static void punching(uint64_t seed)
{
    const sim_path path = {.delay = MVPN_MS(10)};
    punch_all(seed, PREDICTED, &path, MVPN_MS(200));
    punch_all(seed, 0, &path, MVPN_MS(200));
}

static void punching_bad_paths(uint64_t seed)
{
    const sim_path path = {.delay = MVPN_MS(100), .loss = 50000};
    punch_all(seed, PREDICTED, &path, MVPN_S(1));
}

/* Two homes of one carrier see one address: only its hairpin joins them. */
static void punching_hairpin(uint64_t seed)
{
    for (size_t on = 0; on < 2; on++) {
        lab l;
        inbox in[2];
        check_context("hairpin %zu", on);
        lab_init(&l, seed);
        nat_box *carrier = sim_add_nat(l.w, nat_type("port"), NULL);
        nat_set_hairpin(carrier, on == 1);
        sim_node *const host[2] = {
            lab_host(&l, sim_add_nat(l.w, nat_type("port"), carrier), &in[0]),
            lab_host(&l, sim_add_nat(l.w, nat_type("port"), carrier), &in[1])};
        CHECK((punch(&l, host, 0, MVPN_S(3)) != MVPN_TIME_NEVER) == (on == 1));
        sim_free(l.w);
    }
}

/* ---- further sockets ---- */

typedef struct arrival {
    mvpn_addr remote;
    uint16_t local;
    unsigned count;
} arrival;

static void note_arrival(sim_node *n, const mvpn_packet *packet)
{
    arrival *a = n->user;
    *a = (arrival){.remote = packet->remote, .local = packet->local, .count = a->count + 1};
}

static void send_back(sim_node *host, const mvpn_addr *from, const mvpn_addr *to,
                      const uint8_t *bytes, size_t len)
{
    inbox *in = host->user;
    in->from = *from;
    in->count++;
    sim_host_send(host, to->port, from, bytes, len);
}

/* As the engine does; the answer means nothing to a node, which drops it. */
static void send_by(sim_node *n, uint16_t local, const mvpn_addr *to)
{
    static const uint8_t bytes[72] = {1};
    mvpn_packet *p = mvpn_packet_new(n->engine != NULL ? mvpn_engine_pool(n->engine) : &n->pool);
    memcpy(mvpn_packet_append(p, sizeof(bytes)), bytes, sizeof(bytes));
    p->local = local;
    p->remote = *to;
    mvpn_packet_queue_push(
        n->engine != NULL ? mvpn_engine_datagrams_out(n->engine) : mvpn_links_out(n->links), p);
    sim_touch(n);
}

/* Each number is a port of its own, before the NAT and behind it, there and back; an engine that
 * does not use it hears nothing there. */
static void further_sockets(uint64_t seed)
{
    static const uint16_t locals[] = {MVPN_LOCAL_PROBE, MVPN_LOCAL_MAIN, MVPN_LOCAL_PUNCH + 255};
    static const char *const types[] = {"public", "port", "sym", "double"};
    static const enum sim_kind kinds[] = {SIM_PUPPET, SIM_RELAY};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(types) * MVPN_ARRAY_LEN(kinds); i++) {
        sim *w = sim_new(seed + i);
        sim_node *n = sim_add(w, kinds[i % 2]);
        sim_node *host = sim_add(w, SIM_HOST);
        nat_box *box = sim_add_home(w, types[i / 2]);
        arrival at_node = {.count = 0};
        inbox at_host = {.count = 0};
        mvpn_addr to = host->addr[0], seen[MVPN_ARRAY_LEN(locals)];
        unsigned heard = 0;
        check_context("%s behind %s", n->name, types[i / 2]);
        if (box != NULL) {
            sim_put_behind(n, box);
        }
        to.port = PORT;
        host->on_datagram = send_back;
        host->user = &at_host;
        n->on_arrival = note_arrival;
        n->user = &at_node;
        sim_start(n);
        for (unsigned k = 0; k < MVPN_ARRAY_LEN(locals); k++) {
            send_by(n, locals[k], &to);
            sim_for(w, MVPN_MS(100));
            CHECK(at_host.count == k + 1);
            if (n->engine == NULL || locals[k] == MVPN_LOCAL_MAIN) {
                heard++;
                CHECK(at_node.local == locals[k]);
                CHECK(mvpn_addr_eq(&at_node.remote, &to));
            }
            CHECK(at_node.count == heard);
            seen[k] = at_host.from;
            for (unsigned j = 0; j < k; j++) {
                CHECK(seen[j].port != seen[k].port);
            }
        }
        if (box == NULL) {
            CHECK(seen[0].port == n->probe_port);
            CHECK(seen[1].port == n->addr[0].port);
            /* Nobody is at one that was never opened. */
            uint64_t before = w->to_nobody;
            mvpn_addr other = seen[0];
            other.port++;
            sim_host_send(host, PORT, &other, (const uint8_t *)"x", 1);
            sim_for(w, MVPN_MS(100));
            CHECK(at_node.count == heard);
            CHECK(w->to_nobody == before + 1);
        }
        sim_free(w);
    }
}

/* ---- clients behind them ---- */

static uint64_t path_checks(const sim *w)
{
    uint64_t count = 0;
    for (size_t i = 0; i < w->node_count; i++) {
        const sim_node *n = w->node[i];
        if (n->engine != NULL && n->kind != SIM_CLIENT) {
            count += mvpn_links_get_counters(mvpn_engine_links(n->engine))->path_checks;
        }
    }
    return count;
}

typedef struct home {
    sim *w;
    nat_box *box;
    sim_node *client;
    inet_host host;
} home;

/* Relays on the internet and a client behind this type, connected. */
static bool home_new(home *h, uint64_t seed, const char *type)
{
    h->w = sim_standard(seed, 4, 2, 3);
    h->client = sim_client(h->w);
    h->box = sim_add_home(h->w, type);
    if (h->box != NULL) {
        sim_put_behind(h->client, h->box);
        h->client->client.env.family = h->client->addr[0].family;
    }
    inet_host_attach(&h->host, h->client);
    sim_start(h->client);
    bool is_there = sim_connect(h->client, MVPN_S(10));
    CHECK(is_there);
    return is_there;
}

static void home_free(home *h)
{
    inet_host_done(&h->host);
    sim_free(h->w);
}

static const char *const homes[] = {"public", "full",   "addr",   "port",      "linux", "addrmap",
                                    "sym",    "symseq", "double", "doublesym", "v6only"};

static void forget_all(sim *w, void *arg)
{
    (void)arg;
    for (size_t i = 0; i < w->nat_count; i++) {
        nat_forget(w->nat[i]);
    }
}

/* The same circuit before and after. */
static bool is_unbroken(const home *h, const mvpn_client_status *before)
{
    mvpn_client_status after;
    sim_status(h->client, &after);
    return h->client->disconnected == 0 && after.switches == before->switches &&
           memcmp(&after.path, &before->path, sizeof(after.path)) == 0;
}

static void circuits(uint64_t seed)
{
    for (size_t i = 0; i < MVPN_ARRAY_LEN(homes); i++) {
        home h;
        check_context("%s", homes[i]);
        if (home_new(&h, seed + i, homes[i])) {
            CHECK(inet_echo(h.client, 4, 100, MVPN_S(2)));
            CHECK(inet_transfer_run(h.client, INET_DOWN, 300000, 32, MVPN_S(20)));
            CHECK(inet_transfer_run(h.client, INET_UP, 300000, 32, MVPN_S(20)));
            CHECK(h.host.altered == 0);
        }
        home_free(&h);
    }
}

/* Mappings shorter than the keepalive: each word of the client comes from a new place. */
static void mapping_expires(uint64_t seed)
{
    for (size_t i = 1; i < MVPN_ARRAY_LEN(homes); i++) {
        home h;
        mvpn_client_status before;
        check_context("%s", homes[i]);
        if (home_new(&h, seed + i, homes[i])) {
            bool is_moving = strcmp(homes[i], "linux") != 0 && strcmp(homes[i], "v6only") != 0;
            sim_for(h.w, MVPN_S(5));
            sim_status(h.client, &before);
            uint64_t checks = path_checks(h.w);
            for (size_t j = 0; j < h.w->nat_count; j++) {
                nat_set_lifetime(h.w->nat[j], MVPN_S(5));
            }
            forget_all(h.w, NULL);
            for (unsigned j = 0; j < 6; j++) {
                sim_for(h.w, MVPN_S(12));
                CHECK(inet_echo(h.client, 4, 100, MVPN_S(2)));
            }
            CHECK(is_unbroken(&h, &before));
            CHECK((path_checks(h.w) > checks) == is_moving);
        }
        home_free(&h);
    }
}

static void join_other(sim *w, void *arg)
{
    home *h = arg;
    (void)w;
    sim_put_behind(h->client, sim_add_home(h->w, "sym"));
}

/* A NAT that is restarted, and a host that is carried elsewhere, in the middle of a transfer. */
static void disturbed(uint64_t seed, void (*what)(sim *w, void *arg), const char *name)
{
    mvpn_time longest = 0;
    for (size_t i = 1; i < MVPN_ARRAY_LEN(homes); i++) {
        home h;
        mvpn_client_status before;
        if (strcmp(homes[i], "v6only") == 0 && what == join_other) {
            continue; /* there is no way from IPv6 alone to IPv4 alone */
        }
        check_context("%s, %s", homes[i], name);
        if (home_new(&h, seed + i, homes[i])) {
            sim_for(h.w, MVPN_S(5));
            sim_status(h.client, &before);
            sim_call(h.w, MVPN_MS(300), what, &h);
            CHECK(
                inet_transfer_run(h.client, i % 2 ? INET_UP : INET_DOWN, 3000000, 64, MVPN_S(30)));
            mvpn_time took = h.host.transfer.ended - h.host.transfer.began;
            longest = took > longest ? took : longest;
            CHECK(took < MVPN_S(8));
            CHECK(is_unbroken(&h, &before));
        }
        home_free(&h);
    }
    say("%s: every transfer went on, the longest %.1f s", name, (double)longest / 1e6);
}

static void forgotten(uint64_t seed)
{
    disturbed(seed, forget_all, "mappings forgotten");
}

static void moved(uint64_t seed)
{
    disturbed(seed, join_other, "moved behind another NAT");
}

/* Nothing passes, then it does. */
static void blocked(uint64_t seed)
{
    home h = {.w = sim_standard(seed, 4, 2, 3)};
    h.client = sim_client(h.w);
    h.box = sim_add_home(h.w, "blocked");
    sim_put_behind(h.client, h.box);
    inet_host_attach(&h.host, h.client);
    sim_start(h.client);
    CHECK(!sim_connect(h.client, MVPN_S(60)));
    CHECK(h.w->kept_in > 0 && h.client->received == 0);
    nat_set_blocked(h.box, false);
    CHECK(sim_connect(h.client, MVPN_S(60)));
    CHECK(inet_echo(h.client, 4, 100, MVPN_S(2)));
    home_free(&h);
}

static const scenario scenarios[] = {
    {"types", types},
    {"lifetimes", lifetimes},
    {"kept_by_inbound", kept_by_inbound},
    {"limits", limits},
    {"neighbours", neighbours},
    {"punching", punching},
    {"punching_bad_paths", punching_bad_paths},
    {"punching_hairpin", punching_hairpin},
    {"further_sockets", further_sockets},
    {"circuits", circuits},
    {"mapping_expires", mapping_expires},
    {"forgotten", forgotten},
    {"moved", moved},
    {"blocked", blocked},
};

int main(int argc, char **argv)
{
    return scenario_main(argc, argv, scenarios, MVPN_ARRAY_LEN(scenarios));
}
