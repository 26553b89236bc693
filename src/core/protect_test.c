#include "core/protect.h"

#include "base/macros.h"
#include "core/protect_rules.h"
#include "core/testing.h"

#define OWN_MARK 0x4d56u
#define ANSWER_MARK 0x24d56u

/* ---- states ---- */

static void test_every_transition(void **state)
{
#define D MVPN_PROTECT_DISCONNECTED
#define C MVPN_PROTECT_CONNECTING
#define T MVPN_PROTECT_CONNECTED
#define S MVPN_PROTECT_DISCONNECTING
#define E MVPN_PROTECT_ERROR
    static const enum mvpn_protect_state after[MVPN_PROTECT_STATES][MVPN_PROTECT_EVENTS] = {
        /*       UP ESTABLISHED LOST DOWN STOPPED FAILED */
        [D] = {C, D, D, D, D, D}, [C] = {C, T, C, S, C, E}, [T] = {C, T, C, S, T, E},
        [S] = {C, S, S, S, D, E}, [E] = {C, E, E, S, E, E},
    };
#undef D
#undef C
#undef T
#undef S
#undef E
    (void)state;
    for (unsigned s = 0; s < MVPN_PROTECT_STATES; s++) {
        for (unsigned e = 0; e < MVPN_PROTECT_EVENTS; e++) {
            assert_int_equal(mvpn_protect_next(s, e), after[s][e]);
        }
    }
}

/* The protection ends in one way only: somebody asks for it, and it is done. */
static void test_no_event_opens_by_itself(void **state)
{
    (void)state;
    for (unsigned s = 1; s < MVPN_PROTECT_STATES; s++) {
        for (unsigned e = 0; e < MVPN_PROTECT_EVENTS; e++) {
            bool opens = !mvpn_protect_policy_of(mvpn_protect_next(s, e), false).is_in_force;
            assert_true(opens == (s == MVPN_PROTECT_DISCONNECTING && e == MVPN_PROTECT_STOPPED));
            assert_true(mvpn_protect_policy_of(mvpn_protect_next(s, e), true).is_in_force);
        }
    }
    assert_false(mvpn_protect_policy_of(MVPN_PROTECT_DISCONNECTED, false).is_in_force);
    assert_true(mvpn_protect_policy_of(MVPN_PROTECT_DISCONNECTED, true).is_in_force);
}

static void test_texts(void **state)
{
    (void)state;
    for (unsigned s = 0; s < MVPN_PROTECT_STATES; s++) {
        assert_string_not_equal(mvpn_protect_state_text(s), "unknown");
    }
    assert_string_equal(mvpn_protect_state_text(MVPN_PROTECT_STATES), "unknown");
}

/* ---- packets ---- */

typedef struct packet {
    const char *in, *out; /* interfaces; "" = none */
    uint32_t mark;
    uint8_t protocol, icmp_type;
    mvpn_addr source, target;
    uint16_t from, to;
    /* Of its socket and connection; 0: it has none (or root, whom nobody sends outside here). */
    uint32_t user, class_id, ct_mark;
    uint64_t group;
    /* Of what arrives, for the second list: the interface, and who would get it. */
    uint32_t index_in, socket_mark;
    bool is_local;
} packet;

static bool same_bits(const uint8_t *a, const uint8_t *b, unsigned bits)
{
    for (unsigned i = 0; i < bits; i++) {
        if (((a[i / 8] ^ b[i / 8]) >> (7 - i % 8) & 1) != 0) {
            return false;
        }
    }
    return true;
}

/* As the kernel decides, after nf_tables' documentation. */
static bool holds(const mvpn_protect_match *m, const packet *p)
{
    char name[MVPN_PROTECT_NAME] = "";
    uint8_t port[2];
    switch (m->field) {
    case MVPN_PROTECT_NAME_OUT:
    case MVPN_PROTECT_NAME_IN:
        (void)strncpy(name, m->field == MVPN_PROTECT_NAME_OUT ? p->out : p->in, sizeof(name) - 1);
        return (memcmp(name, m->value, sizeof(name)) == 0) != m->is_not;
    case MVPN_PROTECT_MARK:
        return memcmp(m->value, &p->mark, sizeof(p->mark)) == 0;
    case MVPN_PROTECT_FAMILY:
        return m->value[0] == p->target.family;
    case MVPN_PROTECT_PROTOCOL:
        return m->value[0] == p->protocol;
    case MVPN_PROTECT_SOURCE:
        assert_int_equal(m->len, mvpn_addr_ip_len(&p->source)); /* the family was asked before */
        return same_bits(m->value, p->source.ip, m->bits) != m->is_not;
    case MVPN_PROTECT_TARGET:
        assert_int_equal(m->len, mvpn_addr_ip_len(&p->target));
        return same_bits(m->value, p->target.ip, m->bits);
    case MVPN_PROTECT_PORT_FROM:
    case MVPN_PROTECT_PORT_TO:
        assert_true(p->protocol == 6 || p->protocol == 17);
        mvpn_store16(port, m->field == MVPN_PROTECT_PORT_FROM ? p->from : p->to);
        return memcmp(port, m->value, sizeof(port)) == 0;
    case MVPN_PROTECT_ICMP_TYPE:
        assert_int_equal(p->protocol, 58);
        return m->value[0] == p->icmp_type;
    case MVPN_PROTECT_ARP_SENDER:
        return memcmp(p->source.ip, m->value, 4) == 0;
    case MVPN_PROTECT_USER:
        return p->user != 0 && (memcmp(&p->user, m->value, sizeof(p->user)) == 0) != m->is_not;
    case MVPN_PROTECT_CLASS:
        return memcmp(&p->class_id, m->value, sizeof(p->class_id)) == 0;
    case MVPN_PROTECT_CGROUP:
        assert_int_equal(m->bits, 2);
        return memcmp(&p->group, m->value, sizeof(p->group)) == 0;
    case MVPN_PROTECT_CT_MARK:
        return memcmp(&p->ct_mark, m->value, sizeof(p->ct_mark)) == 0;
    case MVPN_PROTECT_INDEX_IN:
        return memcmp(&p->index_in, m->value, sizeof(p->index_in)) == 0;
    case MVPN_PROTECT_SOCKET:
        return memcmp(&p->socket_mark, m->value, sizeof(p->socket_mark)) == 0;
    case MVPN_PROTECT_KIND:
        return memcmp(&(uint32_t){p->is_local ? MVPN_PROTECT_LOCAL : 1}, m->value, 4) == 0;
    }
    fail();
    return false;
}

static const mvpn_protect_rule *first_rule(const mvpn_protect_rules *rules,
                                           enum mvpn_protect_chain chain, const packet *p)
{
    for (unsigned i = 0; i < rules->count; i++) {
        const mvpn_protect_rule *rule = &rules->rule[i];
        unsigned k = 0;
        while (rule->chain == chain && k < rule->count && holds(&rule->match[k], p)) {
            k++;
        }
        if (rule->chain == chain && k == rule->count) {
            return rule;
        }
    }
    return NULL;
}

static bool passes(const mvpn_protect_rules *rules, enum mvpn_protect_chain chain, const packet *p)
{
    const mvpn_protect_rule *rule = first_rule(rules, chain, p);
    if (rule != NULL) {
        assert_true(rule->action == MVPN_PROTECT_ACCEPT || rule->action == MVPN_PROTECT_DROP);
        return rule->action == MVPN_PROTECT_ACCEPT;
    }
    /* What leaves is never left to a chain's policy, which comes too late when tables change. */
    assert_true(rules->count == 0 ||
                (chain != MVPN_PROTECT_OUTPUT && chain != MVPN_PROTECT_FORWARD));
    return true;
}

/* As it is after the chain that marks. */
static packet marked(const mvpn_protect_rules *rules, const packet *p)
{
    const mvpn_protect_rule *rule = first_rule(rules, MVPN_PROTECT_SPLIT, p);
    packet after = *p;
    if (rule != NULL && rule->action == MVPN_PROTECT_SET_MARK) {
        after.mark = after.ct_mark = rule->mark;
    }
    return after;
}

/* As it is after the chain that mends its source: `masqueraded` is where it leaves. */
static packet mended(const mvpn_protect_rules *rules, const packet *p, const mvpn_addr *masqueraded)
{
    const mvpn_protect_rule *rule = first_rule(rules, MVPN_PROTECT_NAT, p);
    packet after = *p;
    assert_true(rule == NULL || rule->action == MVPN_PROTECT_MASQUERADE);
    after.source = rule != NULL ? *masqueraded : p->source;
    return after;
}

/* clang-format off */
static const mvpn_addr addresses[] = {
    {.family = 4, .ip = {10, 8, 0, 2}},                          /* tunnel, own */
    {.family = 4, .ip = {10, 8, 0, 1}},                          /* its gateway */
    {.family = 4, .ip = {11, 1, 2, 3}},                          /* a guard, or a LAN that claims to be it */
    {.family = 4, .ip = {192, 168, 1, 7}},
    {.family = 4, .ip = {192, 169, 1, 7}},
    {.family = 4, .ip = {224, 0, 0, 251}},
    {.family = 4, .ip = {255, 255, 255, 255}},
    {.family = 6, .ip = {0xfd, 0x6d, 0x76, 0x70, 0x6e, [15] = 2}},
    {.family = 6, .ip = {0xfd, 0x6d, 0x76, 0x70, 0x6e, [15] = 1}},
    {.family = 6, .ip = {0x2a, 0x10, [15] = 9}},
    {.family = 6, .ip = {0xfd, 1, [15] = 7}},
    {.family = 6, .ip = {0xfe, 0x80, [15] = 7}},
    {.family = 6, .ip = {0xff, 2, [15] = 0xfb}},
    {.family = 6, .ip = {0xff, 2, [13] = 1, [15] = 2}},
};
/* clang-format on */
/* The host's, where masquerading leaves. */
static const mvpn_addr *host_addr(uint8_t family)
{
    static const mvpn_addr v4 = {.family = 4, .ip = {11, 9, 9, 9}};
    static const mvpn_addr v6 = {.family = 6, .ip = {0x2a, 0x11, [15] = 9}};
    return family == 4 ? &v4 : &v6;
}

static const char *const names[] = {"lo", "mvpn0", "eth0", "mvpn00"};
static const uint32_t marks[] = {0, OWN_MARK, ANSWER_MARK}; /* the last one is as any other's */
static const uint8_t protocols[] = {1, 6, 17, 58, 132};
static const uint16_t ports[] = {53, 67, 68, 443, 546, 547, 853, 5353};
static const uint8_t types[] = {8, 128, 133, 134, 135, 136, 137, 143};

static bool is_one(uint16_t port, uint16_t a, uint16_t b)
{
    return port == a || port == b;
}

static bool is_listed(const packet *p)
{
    const uint8_t *to = p->target.ip;
    bool is_v6 = p->target.family == 6;
    bool is_near = to[0] == 0xfe || (to[0] == 0xff && to[13] == 1);
    return (p->protocol == 17 && !is_v6 && p->from == 68 && p->to == 67) ||
           (p->protocol == 17 && is_v6 && p->from == 546 && p->to == 547 && is_near) ||
           (p->protocol == 58 &&
            (p->icmp_type == 133 || p->icmp_type == 135 || p->icmp_type == 136));
}

static bool is_lan(const mvpn_addr *a)
{
    return a->family == 4
               ? a->ip[0] == 224 || a->ip[0] == 255 || (a->ip[0] == 192 && a->ip[1] == 168)
               : a->ip[0] == 0xff || a->ip[0] == 0xfe || (a->ip[0] == 0xfd && a->ip[1] == 1);
}

static bool is_local_name(const packet *p)
{
    return (p->protocol == 6 || p->protocol == 17) &&
           (is_one(p->to, 53, 853) || is_one(p->to, 5353, 5355) || p->to == 137);
}

/* Written down a second time, by what is wanted and not by how it is done. */
static bool may_leave(const packet *p, const mvpn_protect_setup *setup, enum mvpn_protect_state s)
{
    bool runs = s == MVPN_PROTECT_CONNECTING || s == MVPN_PROTECT_CONNECTED;
    bool is_name = is_local_name(p);
    bool is_own =
        mvpn_addr_ip_eq(&p->source, p->source.family == 4 ? &setup->tun_v4 : &setup->tun_v6);
    if (s == MVPN_PROTECT_DISCONNECTED && !setup->lockdown) {
        return true;
    }
    if (strcmp(p->out, "lo") == 0) {
        return true;
    }
    if (strcmp(p->out, "mvpn0") == 0) {
        /* What the client sends itself would be sent again by it. */
        return runs && is_own && p->mark != OWN_MARK;
    }
    if (is_own) {
        return false; /* it was on its way into the tunnel */
    }
    if (p->mark == OWN_MARK && (s == MVPN_PROTECT_CONNECTING ||
                                ((runs || s == MVPN_PROTECT_DISCONNECTING) && p->protocol == 17))) {
        return true;
    }
    return is_listed(p) || (setup->allow_lan && is_lan(&p->target) && !is_name);
}

/* Every protocol with what it has: ports, types, or neither. */
static void for_contents(packet *p, void (*fn)(const packet *p, const void *ctx), const void *ctx)
{
    for (size_t k = 0; k < MVPN_ARRAY_LEN(protocols); k++) {
        p->protocol = protocols[k];
        bool has_ports = p->protocol == 6 || p->protocol == 17;
        bool has_type = p->protocol == 1 || p->protocol == 58;
        for (size_t i = 0; i < (has_ports || has_type ? MVPN_ARRAY_LEN(ports) : 1); i++) {
            p->from = ports[i];
            p->icmp_type = types[i];
            for (size_t j = 0; j < (has_ports ? MVPN_ARRAY_LEN(ports) : 1); j++) {
                p->to = ports[j];
                fn(p, ctx);
            }
        }
    }
}

/* Every packet of the model. */
static void for_packets(void (*fn)(const packet *p, const void *ctx), const void *ctx)
{
    const size_t count = MVPN_ARRAY_LEN(addresses);
    for (size_t i = 0; i < MVPN_ARRAY_LEN(names) * MVPN_ARRAY_LEN(marks) * count * count; i++) {
        size_t rest = i / MVPN_ARRAY_LEN(names) / MVPN_ARRAY_LEN(marks);
        packet p = {
            .in = names[i % MVPN_ARRAY_LEN(names)],
            .out = names[i % MVPN_ARRAY_LEN(names)],
            .mark = marks[i / MVPN_ARRAY_LEN(names) % MVPN_ARRAY_LEN(marks)],
            .source = addresses[rest % count],
            .target = addresses[rest / count],
        };
        if (p.source.family == p.target.family) {
            for_contents(&p, fn, ctx);
        }
    }
}

struct situation {
    mvpn_protect_setup setup;
    enum mvpn_protect_state state;
    mvpn_protect_rules rules;
};

static void for_situations(void (*fn)(const packet *p, const void *ctx))
{
    struct situation s = {.setup = {.mark = OWN_MARK, .tun_name = "mvpn0"}};
    s.setup.tun_v4 = addresses[0];
    s.setup.tun_v6 = addresses[7];
    for (unsigned i = 0; i < MVPN_PROTECT_STATES * 4; i++) {
        s.state = i / 4;
        s.setup.lockdown = (i & 1) != 0;
        s.setup.allow_lan = (i & 2) != 0;
        mvpn_protect_rules_make(&s.setup, s.state, &s.rules);
        for_packets(fn, &s);
    }
}

static void check_output(const packet *p, const void *ctx)
{
    const struct situation *s = ctx;
    bool passed =
        passes(&s->rules, MVPN_PROTECT_OUTPUT, p) && passes(&s->rules, MVPN_PROTECT_LEAVING, p);
    if (passed != may_leave(p, &s->setup, s->state)) {
        char from[MVPN_ADDR_STRLEN], to[MVPN_ADDR_STRLEN];
        fail_msg("state %d lockdown %d lan %d: %s mark %x protocol %u type %u %s:%u -> %s:%u: %s",
                 (int)s->state, s->setup.lockdown, s->setup.allow_lan, p->out, (unsigned)p->mark,
                 p->protocol, p->icmp_type, mvpn_addr_format(&p->source, from), p->from,
                 mvpn_addr_format(&p->target, to), p->to, passed ? "passes" : "does not");
    }
}

static void test_what_leaves(void **state)
{
    (void)state;
    for_situations(check_output);
}

/* The one sentence that all this is for. `out` is not the tunnel and not loopback. */
static void check_leak(const packet *p, const void *ctx)
{
    const struct situation *s = ctx;
    bool is_inside = strcmp(p->out, "lo") == 0 || strcmp(p->out, "mvpn0") == 0;
    bool is_off = s->state == MVPN_PROTECT_DISCONNECTED && !s->setup.lockdown;
    bool is_ours = p->mark == OWN_MARK || is_listed(p);
    if (!is_inside && !is_off && !is_ours && !s->setup.allow_lan) {
        assert_false(passes(&s->rules, MVPN_PROTECT_OUTPUT, p));
    }
}

/* Before anybody's address translation: behind it the tunnel's address may be the host's. */
static void test_own_address_is_held_before_translation(void **state)
{
    const mvpn_addr *const own[] = {&addresses[0], &addresses[7]};
    struct situation s = {.setup = {.mark = OWN_MARK, .tun_name = "mvpn0", .lockdown = true}};
    (void)state;
    s.setup.tun_v4 = *own[0];
    s.setup.tun_v6 = *own[1];
    for (unsigned i = 0; i < 2 * 2 * MVPN_PROTECT_STATES; i++) {
        s.setup.split.is_inside = i % 4 >= 2;
        mvpn_protect_rules_make(&s.setup, i / 4, &s.rules);
        packet p = {.in = "", .out = "eth0", .source = *own[i % 2], .target = *own[i % 2]};
        assert_false(passes(&s.rules, MVPN_PROTECT_ROUTED, &p));
        p.out = i % 3 == 0 ? "lo" : "mvpn0";
        assert_true(passes(&s.rules, MVPN_PROTECT_ROUTED, &p));
        p.out = "eth0";
        p.source = *host_addr(p.source.family);
        assert_true(passes(&s.rules, MVPN_PROTECT_ROUTED, &p));
    }
}

static void test_nothing_leaks(void **state)
{
    (void)state;
    for_situations(check_leak);
}

/* Containers: through the tunnel, or to the local network where that is open; marks mean nothing.
 */
static void check_forward(const packet *p, const void *ctx)
{
    const struct situation *s = ctx;
    bool is_off = s->state == MVPN_PROTECT_DISCONNECTED && !s->setup.lockdown;
    bool runs = s->state == MVPN_PROTECT_CONNECTING || s->state == MVPN_PROTECT_CONNECTED;
    bool is_name = is_local_name(p);
    bool is_multicast = p->target.ip[0] == 224 || p->target.ip[0] == 255 || p->target.ip[0] == 0xff;
    bool is_tun = strcmp(p->out, "mvpn0") == 0; /* "in" is the same in this model */
    bool may =
        is_off ||
        (is_tun ? runs : s->setup.allow_lan && is_lan(&p->target) && !is_multicast && !is_name);
    assert_int_equal(passes(&s->rules, MVPN_PROTECT_FORWARD, p), may);
}

static void test_what_is_passed_on(void **state)
{
    (void)state;
    for_situations(check_forward);
}

static void check_arrival(const packet *p, const void *ctx)
{
    const struct situation *s = ctx;
    bool is_off = s->state == MVPN_PROTECT_DISCONNECTED && !s->setup.lockdown;
    bool is_inside = strcmp(p->in, "lo") == 0 || strcmp(p->in, "mvpn0") == 0;
    const mvpn_addr *own = p->target.family == 4 ? &s->setup.tun_v4 : &s->setup.tun_v6;
    bool is_spoofed = mvpn_addr_ip_eq(&p->target, own) || mvpn_addr_ip_eq(&p->source, own);
    assert_int_equal(passes(&s->rules, MVPN_PROTECT_PREROUTING, p),
                     is_off || is_inside || !is_spoofed);
    if (p->source.family == 4) {
        assert_int_equal(passes(&s->rules, MVPN_PROTECT_ARP, p),
                         is_off || !mvpn_addr_ip_eq(&p->source, &s->setup.tun_v4));
    }
}

static void test_nobody_reaches_the_tunnel_from_outside(void **state)
{
    (void)state;
    for_situations(check_arrival);
}

/* ---- what goes outside ---- */

#define OUTSIDE_USER 1000
#define OUTSIDE_CLASS 0x4d560001u
#define OUTSIDE_GROUP 4711
#define OUTSIDE_MARK 0x14d56u

static const struct sender {
    uint32_t user, class_id, ct_mark;
    uint64_t group;
    bool is_outside;
} senders[] = {
    {0, 0, 0, 0, false},
    {OUTSIDE_USER + 1, 1, 1, 1, false},
    {OUTSIDE_USER, 0, 0, 0, true},
    {0, OUTSIDE_CLASS, 0, 0, true},
    {0, 0, 0, OUTSIDE_GROUP, true},
    {0, 0, OUTSIDE_MARK, 0, true}, /* the end of a connection, whose socket is closed */
};

/* As it is after the chain that marks. */
static packet sent_by(const struct sender *from, const mvpn_protect_rules *rules, const packet *p)
{
    packet q = *p;
    q.user = from->user;
    q.class_id = from->class_id;
    q.ct_mark = from->ct_mark;
    q.group = from->group;
    return marked(rules, &q);
}

/* 192.169.0.0/16 and one address; and all that the tunnel has, which must not open it. */
static bool is_target(const packet *p)
{
    const uint8_t *to = p->target.ip;
    bool is_name = is_local_name(p);
    return !is_name && ((p->target.family == 4 && to[0] == 192 && to[1] == 169) ||
                        (p->target.family == 6 && to[0] == 0x2a));
}

static void check_split(const packet *p, const void *ctx)
{
    const struct situation *s = ctx;
    const uint8_t last = p->source.ip[mvpn_addr_ip_len(&p->source) - 1];
    if ((last != 2 && last != 3 && last != 9) || p->protocol == 132 || p->from > 68) {
        return; /* an own address and another's are enough of each family; and few ports */
    }
    for (size_t i = 0; i < MVPN_ARRAY_LEN(senders); i++) {
        const struct sender *from = &senders[i];
        bool is_tun = strcmp(p->out, "mvpn0") == 0, is_lo = strcmp(p->out, "lo") == 0;
        packet q = sent_by(from, &s->rules, p);
        bool is_on = s->rules.count > 0;
        bool is_outside = is_on && from->is_outside && p->mark != OWN_MARK;
        assert_int_equal(q.mark, is_outside ? OUTSIDE_MARK : p->mark);
        /* Into the tunnel with an own source, as everybody; else where it wants to. */
        const mvpn_addr *own = p->source.family == 4 ? &s->setup.tun_v4 : &s->setup.tun_v6;
        bool is_own = mvpn_addr_ip_eq(&p->source, own);
        bool may = may_leave(p, &s->setup, s->state) ||
                   (!is_tun && (is_outside || (is_target(p) && !is_own)));
        packet sent = mended(&s->rules, &q, host_addr(p->source.family));
        assert_int_equal(!mvpn_addr_ip_eq(&sent.source, &p->source),
                         is_outside && !is_tun && !is_lo && is_own);
        assert_int_equal(passes(&s->rules, MVPN_PROTECT_OUTPUT, &q) &&
                             passes(&s->rules, MVPN_PROTECT_ROUTED, &q) &&
                             passes(&s->rules, MVPN_PROTECT_LEAVING, &sent),
                         may);
    }
    bool is_inside = strcmp(p->out, "lo") == 0 || strcmp(p->out, "mvpn0") == 0;
    if (!is_inside && is_target(p)) { /* containers too */
        assert_true(passes(&s->rules, MVPN_PROTECT_FORWARD, p));
    }
}

static void test_what_goes_outside(void **state)
{
    struct situation s = {.setup = {.mark = OWN_MARK, .tun_name = "mvpn0", .lockdown = true}};
    mvpn_split *split = &s.setup.split;
    (void)state;
    assert_int_equal(mvpn_split_mark(OWN_MARK), OUTSIDE_MARK);
    assert_int_equal(mvpn_split_mark(1u << 16), 1u << 17);
    s.setup.tun_v4 = addresses[0];
    s.setup.tun_v6 = addresses[7];
    split->targets[0] = (mvpn_split_range){addresses[4], 16};
    split->targets[1] = (mvpn_split_range){{.family = 4, .ip = {10, 8, 0, 9}}, 29};
    split->targets[2] = (mvpn_split_range){addresses[9], 128};
    split->targets[3] = (mvpn_split_range){{.family = 6, .ip = {0xfd, 0x6d}}, 16};
    split->target_count = 4;
    split->users[split->user_count++] = OUTSIDE_USER;
    split->cgroups[0] = (mvpn_split_cgroup){.class_id = OUTSIDE_CLASS};
    split->cgroups[1] = (mvpn_split_cgroup){.level = 2, .id = OUTSIDE_GROUP};
    split->cgroup_count = 2;
    for (unsigned i = 0; i < MVPN_PROTECT_STATES; i += 2) {
        s.state = i; /* disconnected with lockdown, connected, error */
        s.setup.allow_lan = i == MVPN_PROTECT_ERROR;
        mvpn_protect_rules_make(&s.setup, s.state, &s.rules);
        for_packets(check_split, &s);
    }
}

/* The kernel remembers a connection for a while; what has no socket any more is of it, and not
 * what another's socket with the same port sends. */
static void test_a_port_is_not_inherited(void **state)
{
    struct situation s = {.setup = {.mark = OWN_MARK, .tun_name = "mvpn0"}};
    packet p = {.in = "", .out = "mvpn0", .protocol = 17, .ct_mark = OUTSIDE_MARK};
    (void)state;
    s.setup.split.cgroups[0] = (mvpn_split_cgroup){.level = 2, .id = OUTSIDE_GROUP};
    s.setup.split.cgroup_count = 1;
    for (unsigned i = 0; i < 2; i++) {
        s.setup.split.is_inside = i == 1;
        mvpn_protect_rules_make(&s.setup, MVPN_PROTECT_CONNECTED, &s.rules);
        p.user = 0;
        assert_int_equal(marked(&s.rules, &p).mark, OUTSIDE_MARK);
        p.user = OUTSIDE_USER; /* inside there is no harm in it */
        assert_int_equal(marked(&s.rules, &p).mark, i == 1 ? OUTSIDE_MARK : 0);
        p.group = OUTSIDE_GROUP;
        assert_int_equal(marked(&s.rules, &p).mark, OUTSIDE_MARK);
        p.group = 0;
    }
}

/* ---- what alone goes inside ---- */

static bool is_tunnel_range(const mvpn_addr *a)
{
    const mvpn_addr *own = a->family == 4 ? &addresses[0] : &addresses[7];
    return same_bits(a->ip, own->ip, a->family == 4 ? 24 : 64);
}

/* 192.169.0.0/16 and one address; for them ports mean nothing. */
static bool is_inside_target(const mvpn_addr *a)
{
    return (a->family == 4 && a->ip[0] == 192 && a->ip[1] == 169) ||
           (a->family == 6 && a->ip[0] == 0x2a) || is_tunnel_range(a);
}

/* Where names go inside, only answers by UDP that come through the tunnel are seen. */
static bool is_unseen_question(const packet *p, bool is_tun)
{
    bool is_udp = p->protocol == 17;
    return (is_udp || p->protocol == 6) && is_one(p->to, 53, 853) &&
           !(is_tun && is_udp && p->to == 53);
}

/* Into the tunnel as ever; past it everything but this. */
static bool may_leave_inside(const packet *p, const struct situation *s, bool is_sender)
{
    const mvpn_addr *own = p->source.family == 4 ? &s->setup.tun_v4 : &s->setup.tun_v6;
    bool is_tun = strcmp(p->out, "mvpn0") == 0, is_lo = strcmp(p->out, "lo") == 0;
    mvpn_protect_setup closed = s->setup; /* what passes although it would be held */
    closed.allow_lan = false;
    if (s->rules.count > 0 && s->setup.split.holds_names && is_unseen_question(p, is_tun)) {
        /* Nobody's but the client's own; loopback is no way out. */
        return is_lo || (!is_tun && !is_sender && may_leave(p, &closed, s->state));
    }
    bool may = may_leave(p, &closed, s->state);
    if (is_tun || is_lo || (may && !is_sender)) {
        return may;
    }
    if (mvpn_addr_ip_eq(&p->source, own) || (is_inside_target(&p->target) && !is_listed(p))) {
        return false;
    }
    /* The tunnel's range is a private one, for what the way into it does not hold: DHCP. */
    bool is_private = is_lan(&p->target) || is_tunnel_range(&p->target);
    return !is_sender || (s->setup.allow_lan && is_private && !is_local_name(p));
}

/*
 * A cgroup's packets were given the host's address, and OUTPUT the host's interface, before their
 * mark sent them into the tunnel: the exit must not learn that address.
 */
static void check_sent_inside(const packet *q, const struct situation *s)
{
    const mvpn_addr *own = q->source.family == 4 ? &s->setup.tun_v4 : &s->setup.tun_v6;
    bool is_own = mvpn_addr_ip_eq(&q->source, own);
    packet late = *q;
    late.out = "mvpn0";
    packet last = mended(&s->rules, &late, own);
    assert_true(mvpn_addr_ip_eq(&last.source, own));
    assert_int_equal(passes(&s->rules, MVPN_PROTECT_LEAVING, &last),
                     mvpn_protect_policy_of(s->state, s->setup.lockdown).pass_tunnel);
    assert_true(is_own || !passes(&s->rules, MVPN_PROTECT_LEAVING, &late));
    /* The same where another program has given it another mark since, or it has no connection. */
    packet other = last, lost = last;
    other.mark = ANSWER_MARK;
    lost.ct_mark = 0;
    assert_int_equal(passes(&s->rules, MVPN_PROTECT_LEAVING, &other),
                     passes(&s->rules, MVPN_PROTECT_LEAVING, &last));
    assert_int_equal(passes(&s->rules, MVPN_PROTECT_LEAVING, &lost),
                     passes(&s->rules, MVPN_PROTECT_LEAVING, &last));
    other = lost = *q;
    other.mark = ANSWER_MARK;
    lost.ct_mark = 0;
    assert_int_equal(passes(&s->rules, MVPN_PROTECT_LEAVING, &other),
                     passes(&s->rules, MVPN_PROTECT_LEAVING, q));
    assert_false(passes(&s->rules, MVPN_PROTECT_LEAVING, &lost));
    other.out = "mvpn0";
    last = mended(&s->rules, &other, own);
    assert_true(mvpn_addr_ip_eq(&last.source, own));
    bool is_unseen = s->setup.split.holds_names && is_unseen_question(q, false);
    assert_true(is_own || is_unseen || is_inside_target(&q->target) ||
                passes(&s->rules, MVPN_PROTECT_OUTPUT, q));
}

static void check_inside(const packet *p, const void *ctx)
{
    const struct situation *s = ctx;
    const uint8_t last = p->source.ip[mvpn_addr_ip_len(&p->source) - 1];
    bool is_lo = strcmp(p->out, "lo") == 0, is_tun = strcmp(p->out, "mvpn0") == 0;
    bool runs = s->state == MVPN_PROTECT_CONNECTING || s->state == MVPN_PROTECT_CONNECTED;
    bool is_like_another = p->mark == ANSWER_MARK || strcmp(p->out, "mvpn00") == 0;
    bool is_same_without_names =
        s->setup.split.holds_names && p->to != 53 && p->to != 853 && p->to != 443;
    if ((last != 2 && last != 3 && last != 9) || p->protocol == 132 || p->from > 68 ||
        is_like_another || is_same_without_names) {
        return; /* as check_split, and it takes its time */
    }
    for (size_t i = 0; i < MVPN_ARRAY_LEN(senders); i++) {
        const struct sender *from = &senders[i];
        packet q = sent_by(from, &s->rules, p);
        bool is_sender = from->is_outside && p->mark != OWN_MARK && s->rules.count > 0;
        assert_int_equal(q.mark, is_sender ? OUTSIDE_MARK : p->mark);
        assert_int_equal(passes(&s->rules, MVPN_PROTECT_OUTPUT, &q) &&
                             passes(&s->rules, MVPN_PROTECT_LEAVING, &q),
                         may_leave_inside(p, s, is_sender));
        if (is_sender && !is_tun && !is_lo) {
            check_sent_inside(&q, s);
        }
    }
    bool may = s->rules.count == 0 || (is_tun ? runs : is_lo || !is_inside_target(&p->target));
    if (s->rules.count > 0 && s->setup.split.holds_names && is_unseen_question(p, is_tun)) {
        may = false;
    }
    if (!is_lo) { /* nothing is passed on to it */
        assert_int_equal(passes(&s->rules, MVPN_PROTECT_FORWARD, p), may);
    }
}

/* In each state, also those that nobody wants: what is listed goes inside or nowhere. */
static void test_what_alone_goes_inside(void **state)
{
    struct situation s = {.setup = {.mark = OWN_MARK, .tun_name = "mvpn0"}};
    mvpn_split *split = &s.setup.split;
    (void)state;
    s.setup.tun_v4 = addresses[0];
    s.setup.tun_v6 = addresses[7];
    split->is_inside = true;
    split->targets[0] = (mvpn_split_range){addresses[4], 16};
    split->targets[1] = (mvpn_split_range){addresses[9], 128};
    split->target_count = 2;
    split->users[split->user_count++] = OUTSIDE_USER;
    split->cgroups[0] = (mvpn_split_cgroup){.class_id = OUTSIDE_CLASS};
    split->cgroups[1] = (mvpn_split_cgroup){.level = 2, .id = OUTSIDE_GROUP};
    split->cgroup_count = 2;
    for (unsigned i = 0; i < 2 * MVPN_PROTECT_STATES; i++) {
        s.state = i % MVPN_PROTECT_STATES;
        split->holds_names = i >= MVPN_PROTECT_STATES;
        s.setup.lockdown = s.state % 2 == 0;
        s.setup.allow_lan = s.state == MVPN_PROTECT_CONNECTING || s.state == MVPN_PROTECT_ERROR;
        mvpn_protect_rules_make(&s.setup, s.state, &s.rules);
        for_packets(check_inside, &s);
    }
}

/* Who answers a new connection is no socket of the cgroup's yet. */
static void test_servers_inside_answer_nobody(void **state)
{
    struct situation s = {.setup = {.mark = OWN_MARK, .tun_name = "mvpn0"}};
    mvpn_split *split = &s.setup.split;
    (void)state;
    split->is_inside = true;
    split->cgroups[0] = (mvpn_split_cgroup){.class_id = OUTSIDE_CLASS};
    split->cgroups[1] = (mvpn_split_cgroup){.level = 2, .id = OUTSIDE_GROUP};
    split->cgroup_count = 2;
    for (unsigned i = 1; i < MVPN_PROTECT_STATES; i++) {
        packet p = {.in = "eth0", .out = "", .protocol = 6, .group = OUTSIDE_GROUP};
        mvpn_protect_rules_make(&s.setup, i, &s.rules);
        const mvpn_protect_rule *rule = first_rule(&s.rules, MVPN_PROTECT_ARRIVING, &p);
        assert_true(rule != NULL && rule->action == MVPN_PROTECT_SET_MARK);
        assert_int_equal(rule->mark, OUTSIDE_MARK);
        p.in = i % 2 == 0 ? "lo" : "mvpn0";
        assert_null(first_rule(&s.rules, MVPN_PROTECT_ARRIVING, &p));
        p.in = "eth0";
        p.group = OUTSIDE_GROUP + 1;
        assert_null(first_rule(&s.rules, MVPN_PROTECT_ARRIVING, &p));
    }
}

/* The last packets of a connection have no owner, and its source tells what it was. */
static void test_what_was_inside_stays(void **state)
{
    struct situation s = {.setup = {.mark = OWN_MARK, .tun_name = "mvpn0"}};
    const packet last = {
        .in = "", .out = "eth0", .protocol = 6, .source = addresses[0], .target = addresses[2]};
    packet other = last;
    (void)state;
    s.setup.tun_v4 = addresses[0];
    s.setup.split = (mvpn_split){.is_inside = true, .user_count = 1, .users = {OUTSIDE_USER}};
    other.source = addresses[3];
    for (unsigned i = 1; i < MVPN_PROTECT_STATES; i++) {
        mvpn_protect_rules_make(&s.setup, i, &s.rules);
        assert_false(passes(&s.rules, MVPN_PROTECT_OUTPUT, &last));
        assert_true(passes(&s.rules, MVPN_PROTECT_OUTPUT, &other));
    }
}

/* ---- answers ---- */

static const mvpn_protect_strict strict_interfaces[] = {
    {3, true, false}, {5, false, false}, {6, true, true}};

/* Of every packet that these rules can tell apart: what arrives for our sockets, or for those whose
 * packets go outside, at an interface that filters strictly. No mark but that of answers is given,
 * and with it nothing leaves (`marks` of the packets above). */
static void check_answers(const mvpn_protect_rules *rules, bool has_outside, bool needs_tunnel)
{
    static const uint32_t indices[] = {1, 3, 6, 5}, some[] = {0, OWN_MARK, 0xca6c, OUTSIDE_MARK};
    for (unsigned i = 0; i < 4 * 4 * 4 * 4 * 2; i++) {
        const packet p = {
            .in = "eth0",
            .out = "",
            .index_in = indices[i % 4],
            .socket_mark = some[i / 4 % 4],
            .ct_mark = some[i / 16 % 4],
            .mark = some[i / 64 % 4],
            .is_local = i / 256 != 0,
            .source = addresses[2],
            .target = addresses[3],
        };
        const mvpn_protect_rule *rule = first_rule(rules, MVPN_PROTECT_ANSWERS, &p);
        bool is_strict = p.index_in == 3 || p.index_in == 5;
        bool is_answer =
            (p.socket_mark == OWN_MARK && p.is_local) || (has_outside && p.ct_mark == OUTSIDE_MARK);
        bool is_inside = needs_tunnel && p.index_in == 6 && p.ct_mark == OUTSIDE_MARK;
        assert_int_equal(rule != NULL, (is_strict && is_answer) || is_inside);
        assert_true(rule == NULL || rule->mark == (is_inside ? OUTSIDE_MARK : ANSWER_MARK));
        const mvpn_protect_rule *arp = first_rule(rules, MVPN_PROTECT_ARP_IN, &p);
        assert_int_equal(arp != NULL, is_strict);
        for (unsigned k = 0; k < rules->count; k++) {
            assert_int_equal(rules->rule[k].action, MVPN_PROTECT_MARK_ONE);
            assert_true(rules->rule[k].mark == ANSWER_MARK || needs_tunnel);
        }
    }
}

static void test_which_answers_are_marked(void **state)
{
    struct situation s = {.setup = {.mark = OWN_MARK, .tun_name = "mvpn0"}};
    const unsigned count = MVPN_ARRAY_LEN(strict_interfaces);
    (void)state;
    for (unsigned i = 0; i < 16; i++) {
        bool has_kill_switch = (i & 1) != 0, has_senders = (i & 2) != 0, is_inside = (i & 4) != 0;
        bool has_group = (i & 8) != 0, needs_tunnel = has_kill_switch && is_inside && has_group;
        s.setup.split = (mvpn_split){.is_inside = is_inside,
                                     .user_count = has_senders,
                                     .users = {OUTSIDE_USER},
                                     .cgroup_count = has_group};
        mvpn_protect_answers_make(&s.setup, has_kill_switch, strict_interfaces, count, &s.rules);
        check_answers(&s.rules, has_kill_switch && (has_senders || has_group) && !is_inside,
                      needs_tunnel);
        assert_int_equal(s.rules.rule[0].note, 3);
        for (unsigned k = 0; k < s.rules.count; k++) { /* and nothing else is looked at */
            const mvpn_protect_rule *rule = &s.rules.rule[k];
            assert_int_equal(rule->match[0].field, MVPN_PROTECT_INDEX_IN);
            assert_true(rule->chain == MVPN_PROTECT_ARP_IN ? rule->count == 1
                        : rule->count == 3 ? rule->match[1].field == MVPN_PROTECT_SOCKET &&
                                                 rule->match[2].field == MVPN_PROTECT_KIND
                                           : rule->match[1].field == MVPN_PROTECT_CT_MARK);
            assert_true(k == 0 || rule->note == 0 || rule->note == 6);
        }
        mvpn_protect_answers_make(&s.setup, has_kill_switch, NULL, 0, &s.rules);
        assert_int_equal(s.rules.count, 0);
    }
}

/* Three marks that are never the same, and never none. */
static void test_marks_differ(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 32 * 32; i++) {
        uint32_t mark = 1u << i % 32 | 1u << i / 32;
        uint32_t outside = mvpn_split_mark(mark), answer = mvpn_protect_answer_mark(mark);
        assert_true(outside != 0 && answer != 0);
        assert_true(outside != mark && answer != mark && outside != answer);
    }
    assert_int_equal(mvpn_protect_answer_mark(OWN_MARK), ANSWER_MARK);
}

static void test_room_for_answers(void **state)
{
    struct situation s = {.setup = {.mark = OWN_MARK, .split = {.user_count = 1}}};
    mvpn_protect_strict all[MVPN_PROTECT_STRICT_MAX] = {{1, true}};
    (void)state;
    mvpn_protect_answers_make(&s.setup, true, all, MVPN_PROTECT_STRICT_MAX, &s.rules);
    assert_true(s.rules.count <= MVPN_PROTECT_RULES);
}

/* Who has nothing outside has no chain that tracks connections. */
static void test_nothing_outside(void **state)
{
    struct situation s = {.setup = {.mark = OWN_MARK, .tun_name = "mvpn0", .allow_lan = true}};
    (void)state;
    mvpn_protect_rules_make(&s.setup, MVPN_PROTECT_CONNECTED, &s.rules);
    for (unsigned i = 0; i < s.rules.count; i++) {
        assert_true(s.rules.rule[i].chain < MVPN_PROTECT_SPLIT);
    }
}

/* The most of everything has room. */
static void test_everything_outside(void **state)
{
    struct situation s = {
        .setup = {.mark = OWN_MARK, .tun_name = "mvpn0", .allow_lan = true, .lockdown = true}};
    mvpn_split *split = &s.setup.split;
    (void)state;
    s.setup.tun_v4 = addresses[0];
    s.setup.tun_v6 = addresses[7];
    split->target_count = MVPN_SPLIT_TARGETS_MAX;
    split->user_count = MVPN_SPLIT_USERS_MAX;
    split->cgroup_count = MVPN_SPLIT_CGROUPS_MAX;
    for (unsigned i = 0; i < MVPN_SPLIT_TARGETS_MAX; i++) {
        split->targets[i] = (mvpn_split_range){addresses[2], 32};
    }
    for (unsigned i = 0; i < MVPN_SPLIT_CGROUPS_MAX; i++) {
        split->cgroups[i] = (mvpn_split_cgroup){.level = 1, .id = i + 1}; /* v2 has more rules */
    }
    for (unsigned i = 0; i < 2 * MVPN_PROTECT_STATES; i++) {
        split->is_inside = split->holds_names = i % 2 == 1;
        mvpn_protect_rules_make(&s.setup, i / 2, &s.rules);
        assert_true(s.rules.count < MVPN_PROTECT_RULES);
    }
}

/* Also before the tunnel has addresses, and all of it within its bound. */
static void test_without_addresses(void **state)
{
    struct situation s = {.setup = {.lockdown = true, .allow_lan = true, .tun_name = "mvpn0"}};
    const packet any = {.in = "", .out = "eth0", .source = addresses[2], .target = addresses[2]};
    const packet tun = {.in = "", .out = "mvpn0", .source = addresses[2], .target = addresses[2]};
    (void)state;
    for (unsigned i = 0; i < MVPN_PROTECT_STATES; i++) {
        mvpn_protect_rules_make(&s.setup, i, &s.rules);
        assert_true(s.rules.count > 0 && s.rules.count < MVPN_PROTECT_RULES);
        assert_false(passes(&s.rules, MVPN_PROTECT_OUTPUT, &tun));
        assert_int_equal(passes(&s.rules, MVPN_PROTECT_OUTPUT, &any),
                         i == MVPN_PROTECT_CONNECTING && s.setup.mark == any.mark);
    }
}

/* Also where the local network is open. */
static void test_nobody_is_asked_for_names(void **state)
{
    static const uint16_t names_of[] = {53, 853, 137, 5353, 5355};
    static const mvpn_addr targets[] = {{.family = 4, .ip = {224, 0, 0, 251}},
                                        {.family = 4, .ip = {192, 168, 0, 255}},
                                        {.family = 6, .ip = {0xff, 0x02, [15] = 0xfb}}};
    const mvpn_protect_setup setup = {.allow_lan = true, .tun_name = "mvpn0", .mark = OWN_MARK};
    mvpn_protect_rules rules;
    (void)state;
    mvpn_protect_rules_make(&setup, MVPN_PROTECT_CONNECTED, &rules);
    for (size_t i = 0; i < MVPN_ARRAY_LEN(names_of) * MVPN_ARRAY_LEN(targets) * 2; i++) {
        packet p = {.in = "", .out = "eth0", .protocol = i % 2 == 0 ? 17 : 6};
        p.target = targets[i / 2 % MVPN_ARRAY_LEN(targets)];
        p.to = names_of[i / 2 / MVPN_ARRAY_LEN(targets)];
        assert_false(passes(&rules, MVPN_PROTECT_OUTPUT, &p));
        assert_false(passes(&rules, MVPN_PROTECT_FORWARD, &p));
        p.to = 1900;
        assert_true(passes(&rules, MVPN_PROTECT_OUTPUT, &p));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nobody_is_asked_for_names),
        cmocka_unit_test(test_every_transition),
        cmocka_unit_test(test_no_event_opens_by_itself),
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_what_leaves),
        cmocka_unit_test(test_own_address_is_held_before_translation),
        cmocka_unit_test(test_nothing_leaks),
        cmocka_unit_test(test_what_is_passed_on),
        cmocka_unit_test(test_nobody_reaches_the_tunnel_from_outside),
        cmocka_unit_test(test_what_goes_outside),
        cmocka_unit_test(test_a_port_is_not_inherited),
        cmocka_unit_test(test_what_alone_goes_inside),
        cmocka_unit_test(test_servers_inside_answer_nobody),
        cmocka_unit_test(test_what_was_inside_stays),
        cmocka_unit_test(test_which_answers_are_marked),
        cmocka_unit_test(test_marks_differ),
        cmocka_unit_test(test_room_for_answers),
        cmocka_unit_test(test_nothing_outside),
        cmocka_unit_test(test_everything_outside),
        cmocka_unit_test(test_without_addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
