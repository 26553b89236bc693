#include "exit/policy.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"

#define PORT_SMTP 25
#define TOKEN_MAX 64

/* A network as two masked 64-bit words; IPv4 in the upper half of the first. */
typedef struct net {
    uint64_t hi, lo;
    uint64_t mask_hi, mask_lo;
    uint8_t family; /* 4, 6; 0 matches any */
} net;

typedef struct rule {
    net dst;
    uint16_t port_low, port_high;
    uint16_t line;
    uint8_t protocol; /* 0 any */
    bool any_port;
    bool accept;
} rule;

typedef struct blocked {
    net dst;
    unsigned line;
} blocked;

typedef struct endpoint {
    uint8_t b[19]; /* family, address, port: compared as bytes */
} endpoint;

struct mvpn_policy {
    rule rules[MVPN_POLICY_RULES_MAX];
    size_t rule_count;
    net own[MVPN_POLICY_OWN_MAX];
    size_t own_count;
    blocked blocked[MVPN_POLICY_BLOCKED_MAX];
    size_t blocked_count;
    mvpn_port_range ports[MVPN_POLICY_PORTS_MAX]; /* allowed ones; none: all are */
    size_t port_count;
    endpoint *relays; /* sorted */
    size_t relay_count;
};

/* What a packet's destination is compared as: itself, and the IPv4 address that it carries. */
typedef struct target {
    uint64_t hi, lo;
    uint64_t v4; /* IPv4 address in the upper half, own or carried */
    uint8_t version;
    bool has_v4;
    bool is_v4; /* it means nothing but that IPv4 address */
} target;

static target target_of(unsigned version, const uint8_t *addr)
{
    target t = {.version = (uint8_t)version};
    if (version == 4) {
        t.v4 = (uint64_t)mvpn_load32(addr) << 32;
        t.has_v4 = t.is_v4 = true;
        return t;
    }
    t.hi = mvpn_load64(addr);
    t.lo = mvpn_load64(addr + 8);
    if (t.hi >> 48 == 0x2002) { /* 6to4, RFC 3056 */
        t.v4 = t.hi << 16 & 0xffffffff00000000u;
        t.has_v4 = t.is_v4 = true;
    } else if ((t.hi == 0 && t.lo >> 32 == 0xffff) ||              /* mapped, RFC 4291 §2.5.5.2 */
               (t.hi == 0x0064ff9b00000000u && t.lo >> 32 == 0)) { /* NAT64, RFC 6052 */
        t.v4 = t.lo << 32;
        t.has_v4 = t.is_v4 = true;
    } else if ((t.lo >> 32 & 0xfdffffff) == 0x00005efe) { /* ISATAP, RFC 5214 §6.1 */
        t.v4 = t.lo << 32;
        t.has_v4 = true;
    }
    return t;
}

static bool net_has(const net *n, const target *t)
{
    if (n->family == 0) {
        return true;
    }
    if (n->family == 4) {
        return t->has_v4 && ((t->v4 ^ n->hi) & n->mask_hi) == 0;
    }
    return t->version == 6 && ((t->hi ^ n->hi) & n->mask_hi) == 0 &&
           ((t->lo ^ n->lo) & n->mask_lo) == 0;
}

static net make_net(const mvpn_addr *a, unsigned bits)
{
    net n = {.family = a->family};
    n.mask_hi = bits == 0 ? 0 : bits >= 64 ? UINT64_MAX : UINT64_MAX << (64 - bits);
    n.mask_lo = bits <= 64 ? 0 : bits >= 128 ? UINT64_MAX : UINT64_MAX << (128 - bits);
    n.hi = mvpn_load64(a->ip) & n.mask_hi;
    n.lo = mvpn_load64(a->ip + 8) & n.mask_lo;
    return n;
}

/* IANA special-purpose registries (RFC 6890 and updates), multicast, reserved; cloud metadata. */
static bool is_special_v4(uint32_t a)
{
    static const struct {
        uint32_t net, mask;
    } table[] = {
        {0x00000000, 0xff000000}, /* this network */
        {0x0a000000, 0xff000000}, /* private */
        {0x64400000, 0xffc00000}, /* shared, RFC 6598; Alibaba's metadata */
        {0x7f000000, 0xff000000}, /* loopback */
        {0xa9fe0000, 0xffff0000}, /* link-local; the usual metadata */
        {0xac100000, 0xfff00000}, /* private */
        {0xc0000000, 0xffffff00}, /* IETF assignments; Oracle's metadata */
        {0xc0000200, 0xffffff00}, /* documentation */
        {0xc0586300, 0xffffff00}, /* 6to4 relay anycast */
        {0xc0a80000, 0xffff0000}, /* private */
        {0xc6120000, 0xfffe0000}, /* benchmark */
        {0xc6336400, 0xffffff00}, /* documentation */
        {0xcb007100, 0xffffff00}, /* documentation */
        {0xa83f8110,
         0xffffffff}, /* Azure's metadata and agent: public range, answers from inside */
        {0xe0000000, 0xe0000000}, /* multicast, reserved, broadcast */
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(table); i++) {
        if ((a & table[i].mask) == table[i].net) {
            return true;
        }
    }
    return false;
}

static bool is_special(const target *t)
{
    if (t->has_v4 && (t->is_v4 || is_special_v4((uint32_t)(t->v4 >> 32)))) {
        return is_special_v4((uint32_t)(t->v4 >> 32));
    }
    return t->hi >> 61 != 1 || /* outside 2000::/3: ULA, link-local, multicast, … */
           t->hi >> 41 == 0x20010000u >> 9 || /* 2001::/23, Teredo among them */
           t->hi >> 32 == 0x20010db8 ||       /* documentation */
           t->hi >> 44 == 0x3fff0;            /* documentation, RFC 9637 */
}

static int compare_endpoints(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(endpoint));
}

/* Without its port, which sorts last. */
static int compare_hosts(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(endpoint) - 2);
}

/* Of a later fragment: whatever the port. */
static bool is_relay(const mvpn_policy *policy, unsigned family, uint64_t hi, uint64_t lo,
                     const mvpn_ip *ip)
{
    endpoint key;
    key.b[0] = (uint8_t)family;
    mvpn_store64(key.b + 1, hi);
    mvpn_store64(key.b + 9, lo);
    mvpn_store16(key.b + 17, ip->dst_port);
    return policy->relay_count > 0 &&
           bsearch(&key, policy->relays, policy->relay_count, sizeof(endpoint),
                   ip->has_l4 ? compare_endpoints : compare_hosts) != NULL;
}

/* TCP, UDP, or ICMP of the packet's version as 1; 0 for all others. */
static uint8_t protocol_of(const mvpn_ip *ip)
{
    if (ip->protocol == MVPN_IP_TCP || ip->protocol == MVPN_IP_UDP) {
        return ip->protocol;
    }
    return ip->protocol == (ip->version == 4 ? MVPN_IP_ICMP : MVPN_IP_ICMPV6) ? MVPN_IP_ICMP : 0;
}

static bool ports_allow(const mvpn_policy *policy, unsigned port)
{
    for (size_t i = 0; i < policy->port_count; i++) {
        if (port >= policy->ports[i].first && port <= policy->ports[i].last) {
            return true;
        }
    }
    return policy->port_count == 0;
}

/* The steps that ask for the address alone; MVPN_POLICY_BY_NOTHING if none refuses it. */
static enum mvpn_policy_step refuse_address(const mvpn_policy *policy, const target *t,
                                            uint8_t protocol)
{
    if (protocol == 0) {
        return MVPN_POLICY_BY_PROTOCOL;
    }
    if (is_special(t)) {
        return MVPN_POLICY_BY_SPECIAL;
    }
    for (size_t i = 0; i < policy->own_count; i++) {
        if (net_has(&policy->own[i], t)) {
            return MVPN_POLICY_BY_OWN;
        }
    }
    return MVPN_POLICY_BY_NOTHING;
}

/* Steps 4 and 5. For a later fragment: if one of its ports would be refused. */
static enum mvpn_policy_step refuse_port(const mvpn_policy *policy, const target *t,
                                         const mvpn_ip *ip, uint8_t protocol)
{
    if ((t->has_v4 && is_relay(policy, 4, t->v4, 0, ip)) ||
        (t->version == 6 && is_relay(policy, 6, t->hi, t->lo, ip))) {
        return MVPN_POLICY_BY_RELAY;
    }
    if (protocol == MVPN_IP_TCP && (!ip->has_l4 || ip->dst_port == PORT_SMTP)) {
        return MVPN_POLICY_BY_SMTP;
    }
    return MVPN_POLICY_BY_NOTHING;
}

static const blocked *find_blocked(const mvpn_policy *policy, const target *t)
{
    for (size_t i = 0; i < policy->blocked_count; i++) {
        if (net_has(&policy->blocked[i].dst, t)) {
            return &policy->blocked[i];
        }
    }
    return NULL;
}

/* `*ret_depends`: it matches if the first fragment's port does. */
static bool rule_matches(const rule *r, const target *t, const mvpn_ip *ip, uint8_t protocol,
                         bool *ret_depends)
{
    *ret_depends = false;
    if ((r->protocol != 0 && r->protocol != protocol) || !net_has(&r->dst, t)) {
        return false;
    }
    if (r->any_port) {
        return true;
    }
    if (protocol == MVPN_IP_ICMP) {
        return false;
    }
    *ret_depends = !ip->has_l4;
    return !ip->has_l4 || (ip->dst_port >= r->port_low && ip->dst_port <= r->port_high);
}

/* The first rule that decides; on the way `may` collects what rules with ports might have said. */
static mvpn_policy_verdict judge_rules(const mvpn_policy *policy, const target *t,
                                       const mvpn_ip *ip, uint8_t protocol, bool may[static 2])
{
    for (size_t i = 0; i < policy->rule_count; i++) {
        const rule *r = &policy->rules[i];
        bool depends;
        if (!rule_matches(r, t, ip, protocol, &depends)) {
            continue;
        }
        if (!depends) {
            return (mvpn_policy_verdict){r->accept ? MVPN_POLICY_ACCEPT : MVPN_POLICY_REJECT,
                                         MVPN_POLICY_BY_RULE, r->line};
        }
        may[r->accept] = true;
    }
    return (mvpn_policy_verdict){MVPN_POLICY_ACCEPT, MVPN_POLICY_BY_NOTHING, 0};
}

mvpn_policy_verdict mvpn_policy_judge(const mvpn_policy *policy, const mvpn_ip *ip)
{
    target t = target_of(ip->version, ip->dst);
    uint8_t protocol = protocol_of(ip);
    bool may[2] = {false, false}; /* reject, accept: by a port that is not seen */
    enum mvpn_policy_step step = refuse_address(policy, &t, protocol);
    if (step != MVPN_POLICY_BY_NOTHING) {
        return (mvpn_policy_verdict){MVPN_POLICY_REJECT, step, 0};
    }
    bool has_ports = protocol != MVPN_IP_ICMP;
    step = has_ports ? refuse_port(policy, &t, ip, protocol) : MVPN_POLICY_BY_NOTHING;
    if (step != MVPN_POLICY_BY_NOTHING && ip->has_l4) {
        return (mvpn_policy_verdict){MVPN_POLICY_REJECT, step, 0};
    }
    may[0] = step != MVPN_POLICY_BY_NOTHING;
    const blocked *b = find_blocked(policy, &t);
    if (b != NULL) {
        return (mvpn_policy_verdict){MVPN_POLICY_REJECT, MVPN_POLICY_BY_BLOCKED, b->line};
    }
    if (has_ports && policy->port_count > 0) {
        if (ip->has_l4 && !ports_allow(policy, ip->dst_port)) {
            return (mvpn_policy_verdict){MVPN_POLICY_REJECT, MVPN_POLICY_BY_PORTS, 0};
        }
        may[0] |= !ip->has_l4;
    }
    mvpn_policy_verdict v = judge_rules(policy, &t, ip, protocol, may);
    if (may[v.result == MVPN_POLICY_REJECT]) {
        v.result = MVPN_POLICY_DEPENDS;
    }
    return v;
}

bool mvpn_policy_allows(const mvpn_policy *policy, const mvpn_ip *ip)
{
    return mvpn_policy_judge(policy, ip).result == MVPN_POLICY_ACCEPT;
}

bool mvpn_policy_is_public(unsigned version, const uint8_t *addr)
{
    target t = target_of(version, addr);
    return !is_special(&t);
}

const char *mvpn_policy_step_text(enum mvpn_policy_step step)
{
    switch (step) {
    case MVPN_POLICY_BY_PROTOCOL:
        return "only TCP, UDP and ICMP leave here";
    case MVPN_POLICY_BY_SPECIAL:
        return "not an address of the public internet";
    case MVPN_POLICY_BY_OWN:
        return "an address of this exit itself";
    case MVPN_POLICY_BY_RELAY:
        return "a relay of the network";
    case MVPN_POLICY_BY_SMTP:
        return "TCP port 25, mail between servers";
    case MVPN_POLICY_BY_BLOCKED:
        return "blocked_ips";
    case MVPN_POLICY_BY_PORTS:
        return "allowed_ports does not name the port";
    case MVPN_POLICY_BY_RULE:
        return "a rule of the policy";
    case MVPN_POLICY_BY_NOTHING:
        break;
    }
    return "nothing refuses it";
}

mvpn_policy *mvpn_policy_new(void)
{
    return calloc(1, sizeof(mvpn_policy));
}

void mvpn_policy_free(mvpn_policy *policy)
{
    if (policy != NULL) {
        free(policy->relays);
        free(policy);
    }
}

int mvpn_policy_add_own(mvpn_policy *policy, const mvpn_addr *a, unsigned bits)
{
    if (policy->own_count == MVPN_POLICY_OWN_MAX) {
        return MVPN_E_LIMIT;
    }
    if (a->family == 0 || bits > mvpn_addr_ip_len(a) * 8) {
        return MVPN_E_INVAL;
    }
    policy->own[policy->own_count++] = make_net(a, bits);
    return 0;
}

int mvpn_policy_block(mvpn_policy *policy, const mvpn_policy_net *n)
{
    if (policy->blocked_count == MVPN_POLICY_BLOCKED_MAX) {
        return MVPN_E_LIMIT;
    }
    if (n->addr.family == 0 || n->bits > mvpn_addr_ip_len(&n->addr) * 8) {
        return MVPN_E_INVAL;
    }
    policy->blocked[policy->blocked_count++] = (blocked){make_net(&n->addr, n->bits), n->line};
    return 0;
}

int mvpn_policy_allow_ports(mvpn_policy *policy, uint16_t first, uint16_t last)
{
    if (last < first) {
        return MVPN_E_INVAL;
    }
    if (policy->port_count == MVPN_POLICY_PORTS_MAX) {
        return MVPN_E_LIMIT;
    }
    policy->ports[policy->port_count++] = (mvpn_port_range){first, last};
    return 0;
}

int mvpn_policy_set_relays(mvpn_policy *policy, const mvpn_addr *relays, size_t count)
{
    endpoint *all = NULL;
    if (count > MVPN_POLICY_RELAYS_MAX) {
        return MVPN_E_LIMIT;
    }
    if (count > 0) {
        all = calloc(count, sizeof(*all));
        if (all == NULL) {
            return MVPN_E_NOMEM;
        }
    }
    for (size_t i = 0; i < count; i++) {
        all[i].b[0] = relays[i].family;
        memcpy(all[i].b + 1, relays[i].ip, mvpn_addr_ip_len(&relays[i]));
        mvpn_store16(all[i].b + 17, relays[i].port);
    }
    if (count > 0) {
        qsort(all, count, sizeof(*all), compare_endpoints);
    }
    free(policy->relays);
    policy->relays = all;
    policy->relay_count = count;
    return 0;
}

/* --- text --- */

typedef struct parser {
    const char *start; /* of the line */
    const char *p;
    unsigned line;
    const char *token; /* where the last token began */
    char text[TOKEN_MAX];
    mvpn_policy_error error;
} parser;

static int fail_at(parser *ps, const char *at, const char *what)
{
    /* A ';' starts a new rule but not a new line. */
    ps->error = (mvpn_policy_error){ps->line, (unsigned)(at - ps->start) + 1, what};
    return MVPN_E_CONFIG;
}

static bool at_rule_end(const parser *ps)
{
    return *ps->p == '\0' || *ps->p == '\n' || *ps->p == ';' || *ps->p == '#';
}

static void skip_blanks(parser *ps)
{
    while (*ps->p == ' ' || *ps->p == '\t' || *ps->p == '\r') {
        ps->p++;
    }
}

/* The next word of the rule into `text`; "" at its end. */
static int next_token(parser *ps)
{
    size_t n = 0;
    skip_blanks(ps);
    ps->token = ps->p;
    while (!at_rule_end(ps) && *ps->p != ' ' && *ps->p != '\t' && *ps->p != '\r') {
        if (n + 1 == TOKEN_MAX) {
            return fail_at(ps, ps->token, "word is too long");
        }
        ps->text[n++] = *ps->p++;
    }
    ps->text[n] = '\0';
    return 0;
}

/* A decimal number up to `max`; moves `*p` behind it. */
static bool read_number(const char **p, unsigned max, unsigned *ret)
{
    unsigned v = 0;
    const char *s = *p;
    if (*s < '0' || *s > '9') {
        return false;
    }
    while (*s >= '0' && *s <= '9') {
        v = v * 10 + (unsigned)(*s++ - '0');
        if (v > max) {
            return false;
        }
    }
    *p = s;
    *ret = v;
    return true;
}

static int parse_action(parser *ps, rule *r)
{
    if (strcmp(ps->text, "accept") == 0) {
        r->accept = true;
    } else if (strcmp(ps->text, "reject") != 0) {
        return fail_at(ps, ps->token, "expected accept or reject");
    }
    return 0;
}

static int parse_protocol(parser *ps, rule *r)
{
    static const struct {
        const char *name;
        uint8_t protocol;
    } names[] = {
        {"*", 0}, {"any", 0}, {"tcp", MVPN_IP_TCP}, {"udp", MVPN_IP_UDP}, {"icmp", MVPN_IP_ICMP}};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(names); i++) {
        if (strcmp(ps->text, names[i].name) == 0) {
            r->protocol = names[i].protocol;
            return 0;
        }
    }
    return fail_at(ps, ps->token, "expected tcp, udp, icmp or any");
}

static int parse_destination(parser *ps, rule *r)
{
    mvpn_addr a;
    unsigned bits;
    if (strcmp(ps->text, "*") == 0) {
        return 0;
    }
    if (strcmp(ps->text, "*4") == 0 || strcmp(ps->text, "*6") == 0) {
        r->dst.family = (uint8_t)(ps->text[1] - '0'); /* zero masks: all of the family */
        return 0;
    }
    char *slash = strchr(ps->text, '/');
    if (slash != NULL) {
        *slash = '\0';
    }
    if (ps->text[0] == '[' || mvpn_addr_parse(ps->text, &a) != 0 ||
        (a.family == 4 && strchr(ps->text, ':') != NULL)) {
        return fail_at(ps, ps->token, "expected an address, a network or *");
    }
    unsigned max = (unsigned)mvpn_addr_ip_len(&a) * 8;
    bits = max;
    if (slash != NULL) {
        const char *digits = slash + 1;
        if (!read_number(&digits, max, &bits) || *digits != '\0') {
            return fail_at(ps, ps->token + (slash - ps->text) + 1, "bad prefix length");
        }
    }
    r->dst = make_net(&a, bits);
    if (r->dst.hi != mvpn_load64(a.ip) || r->dst.lo != mvpn_load64(a.ip + 8)) {
        return fail_at(ps, ps->token, "bits set behind the prefix length");
    }
    return 0;
}

static int add_rule(parser *ps, mvpn_policy *policy, const rule *r)
{
    if (policy->rule_count == MVPN_POLICY_RULES_MAX) {
        return fail_at(ps, ps->token, "too many rules");
    }
    policy->rules[policy->rule_count++] = *r;
    return 0;
}

/* Each range of the list becomes a rule of its own. */
static int parse_ports(parser *ps, mvpn_policy *policy, rule *r)
{
    if (ps->text[0] == '\0' || strcmp(ps->text, "*") == 0) {
        r->any_port = true;
        return add_rule(ps, policy, r);
    }
    if (r->protocol == MVPN_IP_ICMP) {
        return fail_at(ps, ps->token, "icmp has no ports");
    }
    const char *s = ps->text;
    for (;;) {
        unsigned low, high;
        const char *at = ps->token + (s - ps->text);
        if (!read_number(&s, 65535, &low)) {
            return fail_at(ps, at, "expected a port from 0 to 65535");
        }
        high = low;
        if (*s == '-') {
            s++;
            if (!read_number(&s, 65535, &high) || high < low) {
                return fail_at(ps, at, "bad port range");
            }
        }
        r->port_low = (uint16_t)low;
        r->port_high = (uint16_t)high;
        int code = add_rule(ps, policy, r);
        if (code != 0 || *s == '\0') {
            return code;
        }
        if (*s != ',') {
            return fail_at(ps, ps->token + (s - ps->text), "unexpected character in ports");
        }
        s++;
    }
}

static int parse_rule(parser *ps, mvpn_policy *policy)
{
    rule r = {.line = (uint16_t)MVPN_MIN(ps->line, (unsigned)UINT16_MAX)};
    int code;
    if ((code = next_token(ps)) != 0) {
        return code;
    }
    if (ps->text[0] == '\0') {
        return 0; /* empty */
    }
    if ((code = parse_action(ps, &r)) != 0 || (code = next_token(ps)) != 0 ||
        (code = parse_protocol(ps, &r)) != 0 || (code = next_token(ps)) != 0 ||
        (code = parse_destination(ps, &r)) != 0 || (code = next_token(ps)) != 0 ||
        (code = parse_ports(ps, policy, &r)) != 0 || (code = next_token(ps)) != 0) {
        return code;
    }
    return ps->text[0] == '\0' ? 0 : fail_at(ps, ps->token, "unexpected word behind the rule");
}

static int parse_rules(parser *ps, mvpn_policy *policy)
{
    for (;;) {
        int code = parse_rule(ps, policy);
        if (code != 0) {
            return code;
        }
        if (*ps->p == '#') {
            ps->p += strcspn(ps->p, "\n");
        }
        if (*ps->p == '\0') {
            return 0;
        }
        if (*ps->p++ == '\n') {
            ps->line++;
            ps->start = ps->p;
        }
    }
}

int mvpn_policy_parse(mvpn_policy *policy, const char *text, mvpn_policy_error *ret_error)
{
    parser ps = {.start = text, .p = text, .line = 1};
    mvpn_policy *parsed = mvpn_policy_new();
    if (parsed == NULL) {
        *ret_error = (mvpn_policy_error){1, 1, "out of memory"};
        return MVPN_E_CONFIG;
    }
    int code = parse_rules(&ps, parsed);
    if (code == 0) {
        memcpy(policy->rules, parsed->rules, sizeof(policy->rules));
        policy->rule_count = parsed->rule_count;
    } else {
        *ret_error = ps.error;
    }
    mvpn_policy_free(parsed);
    return code;
}

/* Does the network hold so much of the family's addresses that a summary must say it? */
static bool is_broad(const net *n, unsigned family)
{
    const uint64_t narrow = UINT64_MAX << (family == 4 ? 64 - 8 : 64 - 16);
    return n->family == 0 || (n->family == family && (n->mask_hi & ~narrow) == 0);
}

/* For all of the family but what narrow rules say. */
static bool port_is_open(const mvpn_policy *policy, unsigned family, unsigned port)
{
    if (port == PORT_SMTP || !ports_allow(policy, port)) {
        return false;
    }
    for (size_t i = 0; i < policy->blocked_count; i++) {
        if (is_broad(&policy->blocked[i].dst, family)) {
            return false;
        }
    }
    for (size_t i = 0; i < policy->rule_count; i++) {
        const rule *r = &policy->rules[i];
        bool matches = (r->protocol == 0 || r->protocol == MVPN_IP_TCP) &&
                       (r->any_port || (port >= r->port_low && port <= r->port_high));
        if (!matches || !is_broad(&r->dst, family)) {
            continue;
        }
        if (!r->accept) {
            return false;
        }
        if (r->dst.family == 0 || r->dst.mask_hi == 0) {
            return true;
        }
    }
    return true;
}

static size_t summarise(const mvpn_policy *policy, unsigned flags, mvpn_port_range *ret, size_t max)
{
    size_t n = 0;
    for (unsigned port = 1; port <= UINT16_MAX; port++) {
        if (((flags & MVPN_EXIT_IPV4) && !port_is_open(policy, 4, port)) ||
            ((flags & MVPN_EXIT_IPV6) && !port_is_open(policy, 6, port))) {
            continue;
        }
        if (n > 0 && ret[n - 1].last == port - 1) {
            ret[n - 1].last = (uint16_t)port;
        } else if (n < max) {
            ret[n++] = (mvpn_port_range){(uint16_t)port, (uint16_t)port};
        } else {
            break;
        }
    }
    return n;
}

size_t mvpn_policy_summary(const mvpn_policy *policy, bool has_v6, uint8_t *ret_flags,
                           mvpn_port_range *ret, size_t max)
{
    /* Both families if they have a port in common; else IPv4, which everybody needs first. */
    static const uint8_t tries[] = {MVPN_EXIT_IPV4 | MVPN_EXIT_IPV6, MVPN_EXIT_IPV4,
                                    MVPN_EXIT_IPV6};
    for (size_t i = has_v6 ? 0 : 1; i < (has_v6 ? 3u : 2u); i++) {
        size_t n = summarise(policy, tries[i], ret, max);
        if (n > 0) {
            *ret_flags = tries[i];
            return n;
        }
    }
    *ret_flags = 0;
    return 0;
}
