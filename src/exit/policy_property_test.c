/*
 * Generated packets against the whole exit: whatever comes out is read again from its raw bytes and
 * judged by a slow matcher that shares nothing with the policy: text of networks, inet_pton, bit
 * loops. Nothing may leave that the rules forbid; and plain packets that they allow do leave.
 *
 *     policy_property_test [PACKETS [SEED]]
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "exit/exit.h"
#include "network/ip/inner.h"
#include "network/ip/testing.h"

#define PACKETS 100000
#define PACKETS_PER_POLICY 1000
#define RULES 10
#define BLOCKED 3
#define RANGES 3
#define FIRSTS 4096
#define POOL 64

#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (!(x)) {                                                                                \
            (void)fprintf(stderr, "line %d: %s\n", __LINE__, #x);                                  \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

/* ---- the slow matcher ---- */

struct snet {
    int family; /* AF_INET, AF_INET6; 0: any */
    int bits;
    uint8_t addr[16];
};

struct srule {
    bool accept;
    int protocol; /* 0: any; 1: ICMP of both versions */
    struct snet net;
    int low, high; /* -1: any */
};

/* RFC 6890 and its registries, metadata services; as an operator would write them. */
static const char *const special_text[] = {
    "0.0.0.0/8",      "10.0.0.0/8",       "100.64.0.0/10", "127.0.0.0/8",
    "169.254.0.0/16", "172.16.0.0/12",    "192.0.0.0/24",  "192.0.2.0/24",
    "192.88.99.0/24", "192.168.0.0/16",   "198.18.0.0/15", "198.51.100.0/24",
    "203.0.113.0/24", "168.63.129.16/32", "224.0.0.0/4",   "240.0.0.0/4",
    "::/3",           "4000::/2",         "8000::/1",      "2001::/23",
    "2001:db8::/32",  "3fff::/20",
};
#define SPECIALS (sizeof(special_text) / sizeof(special_text[0]))
static struct snet specials[SPECIALS];

static struct srule rules[RULES];
static int rule_count;
static struct snet blocked[BLOCKED];
static int blocked_count;
static int ranges[RANGES][2];
static int range_count;
static struct snet own[4];
static struct {
    struct snet host;
    int port;
} relays[2];

static struct snet parse_net(const char *text)
{
    struct snet n = {.family = strchr(text, ':') != NULL ? AF_INET6 : AF_INET};
    char host[64];
    const char *slash = strchr(text, '/');
    n.bits = slash != NULL ? atoi(slash + 1) : n.family == AF_INET ? 32 : 128;
    (void)snprintf(host, sizeof(host), "%.*s", (int)(slash ? slash - text : 63), text);
    CHECK(inet_pton(n.family, host, n.addr) == 1);
    return n;
}

static bool bit(const uint8_t *a, int i)
{
    return (a[i / 8] >> (7 - i % 8)) & 1;
}

static bool in_net(const struct snet *n, int family, const uint8_t *addr)
{
    if (n->family == 0) {
        return true;
    }
    if (n->family != family) {
        return false;
    }
    for (int i = 0; i < n->bits; i++) {
        if (bit(n->addr, i) != bit(addr, i)) {
            return false;
        }
    }
    return true;
}

/* The IPv4 address that an IPv6 address carries; `*ret_only`: it is nothing else. */
static bool carried(const uint8_t *a, uint8_t out[4], bool *ret_only)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff}, nat64[12] = {0, 0x64, 0xff, 0x9b};
    *ret_only = true;
    if (a[0] == 0x20 && a[1] == 0x02) {
        memcpy(out, a + 2, 4);
        return true;
    }
    if (memcmp(a, mapped, 12) == 0 || memcmp(a, nat64, 12) == 0) {
        memcpy(out, a + 12, 4);
        return true;
    }
    *ret_only = false;
    if ((a[8] == 0 || a[8] == 2) && a[9] == 0 && a[10] == 0x5e && a[11] == 0xfe) {
        memcpy(out, a + 12, 4);
        return true;
    }
    return false;
}

static bool hits(const struct snet *n, int family, const uint8_t *dst, const uint8_t *v4)
{
    return in_net(n, family, dst) || (v4 != NULL && in_net(n, AF_INET, v4));
}

static bool is_special(int family, const uint8_t *addr)
{
    for (size_t i = 0; i < SPECIALS; i++) {
        if (in_net(&specials[i], family, addr)) {
            return true;
        }
    }
    return false;
}

/* `protocol` as on the wire; `port` -1 for ICMP. */
static bool slow_allows(int family, const uint8_t *dst, int protocol, int port)
{
    uint8_t four[4];
    bool only = true;
    const uint8_t *v4 = NULL;
    if (family == AF_INET) {
        v4 = dst;
    } else if (carried(dst, four, &only)) {
        v4 = four;
    } else {
        only = false;
    }
    int icmp = family == AF_INET ? 1 : 58;
    if (protocol != 6 && protocol != 17 && protocol != icmp) {
        return false;
    }
    if ((v4 != NULL && is_special(AF_INET, v4)) || (!only && is_special(family, dst))) {
        return false;
    }
    for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
        if (hits(&own[i], family, dst, v4)) {
            return false;
        }
    }
    for (size_t i = 0; i < 2; i++) {
        if (port == relays[i].port && hits(&relays[i].host, family, dst, v4)) {
            return false;
        }
    }
    if (protocol == 6 && port == 25) {
        return false;
    }
    for (int i = 0; i < blocked_count; i++) {
        if (hits(&blocked[i], family, dst, v4)) {
            return false;
        }
    }
    bool listed = range_count == 0 || port < 0;
    for (int i = 0; i < range_count; i++) {
        listed |= port >= ranges[i][0] && port <= ranges[i][1];
    }
    if (!listed) {
        return false;
    }
    for (int i = 0; i < rule_count; i++) {
        const struct srule *r = &rules[i];
        bool same = r->protocol == 0 || r->protocol == (protocol == icmp ? 1 : protocol);
        bool ports = r->low < 0 || (port >= r->low && port <= r->high);
        if (same && ports && hits(&r->net, family, dst, v4)) {
            return r->accept;
        }
    }
    return true;
}

/* True if every port that could matter gives yes: then a fragment needs no first one. */
static bool slow_allows_all_ports(int family, const uint8_t *dst, int protocol)
{
    if (protocol == 1 || protocol == 58) {
        return slow_allows(family, dst, protocol, -1);
    }
    for (int port = 0; port < 400; port++) { /* rules speak of ports below 400 alone */
        if (!slow_allows(family, dst, protocol, port)) {
            return false;
        }
    }
    for (size_t i = 0; i < 2; i++) {
        if (!slow_allows(family, dst, protocol, relays[i].port)) {
            return false;
        }
    }
    return slow_allows(family, dst, protocol, 65535);
}

/* ---- generating ---- */

static uint8_t few(void)
{
    static const uint8_t bytes[] = {0,   1,   10, 11,  12,  100, 127, 129,
                                    169, 172, 16, 192, 168, 224, 9,   255};
    return bytes[random() % 16];
}

static void random_member(const struct snet *n, uint8_t *out)
{
    for (int i = 0; i < (n->family == AF_INET ? 32 : 128); i++) {
        bool b = i < n->bits ? bit(n->addr, i) : random() % 2;
        out[i / 8] = (uint8_t)((out[i / 8] & ~(0x80 >> i % 8)) | (b ? 0x80 >> i % 8 : 0));
    }
}

static const struct snet *some_net(void)
{
    switch (random() % 5) {
    case 0:
        return &specials[(size_t)random() % SPECIALS];
    case 1:
        return &own[random() % 4];
    case 2:
        return &relays[random() % 2].host;
    case 3:
        return blocked_count > 0 ? &blocked[random() % blocked_count] : &own[0];
    default:
        return rule_count > 0 && rules[0].net.family != 0 ? &rules[0].net : &own[1];
    }
}

static void random_dst4(uint8_t *a)
{
    const struct snet *n = some_net();
    if (random() % 2 && n->family == AF_INET) {
        random_member(n, a);
        return;
    }
    a[0] = random() % 3 ? 11 : (uint8_t)random();
    for (int i = 1; i < 4; i++) {
        a[i] = random() % 3 ? few() : (uint8_t)random();
    }
}

static void random_dst6(uint8_t *a)
{
    const struct snet *n = some_net();
    memset(a, 0, 16);
    switch (random() % 8) {
    case 0: /* 6to4 */
        a[0] = 0x20;
        a[1] = 0x02;
        random_dst4(a + 2);
        return;
    case 1: /* NAT64 */
        memcpy(a, "\x00\x64\xff\x9b", 4);
        random_dst4(a + 12);
        return;
    case 2: /* mapped, or compatible */
        a[10] = a[11] = random() % 2 ? 0xff : 0;
        random_dst4(a + 12);
        return;
    case 3: /* ISATAP */
        a[0] = 0x2a;
        a[1] = 0x10;
        a[8] = random() % 2 ? 2 : 0;
        a[10] = 0x5e;
        a[11] = 0xfe;
        random_dst4(a + 12);
        return;
    case 4: /* Teredo */
        a[0] = 0x20;
        a[1] = 0x01;
        random_dst4(a + 4);
        random_dst4(a + 12);
        return;
    case 5:
        if (n->family == AF_INET6) {
            random_member(n, a);
            return;
        }
        break;
    default:
        break;
    }
    a[0] = 0x2a;
    a[1] = 0x10;
    for (int i = 2; i < 16; i++) {
        a[i] = few();
    }
}

static void random_rule(struct srule *r, char *text, size_t size)
{
    static const char *const names[] = {"*", "tcp", "udp", "icmp", "any"};
    static const int numbers[] = {0, 6, 17, 1, 0};
    char dst[INET6_ADDRSTRLEN + 8] = "*", ports[16] = "*", host[INET6_ADDRSTRLEN];
    long k = random() % 5;
    *r = (struct srule){.accept = random() % 2, .protocol = numbers[k], .low = -1};
    if (random() % 6) {
        bool v4 = random() % 2;
        uint8_t a[16] = {0};
        r->net.family = v4 ? AF_INET : AF_INET6;
        v4 ? random_dst4(a) : random_dst6(a);
        r->net.bits = (int)(random() % (v4 ? 25 : 65));
        for (int i = 0; i < r->net.bits; i++) {
            r->net.addr[i / 8] |= (uint8_t)(bit(a, i) ? 0x80 >> i % 8 : 0);
        }
        CHECK(inet_ntop(r->net.family, r->net.addr, host, sizeof(host)) != NULL);
        (void)snprintf(dst, sizeof(dst), "%s/%d", host, r->net.bits);
    }
    if (r->protocol != 1 && random() % 2) {
        r->low = (int)(random() % 300);
        r->high = r->low + (int)(random() % 100);
        (void)snprintf(ports, sizeof(ports), "%d-%d", r->low, r->high);
    }
    (void)snprintf(text, size, "%s %s %s %s\n", r->accept ? "accept" : "reject", names[k], dst,
                   ports);
}

static mvpn_addr to_addr(const struct snet *n, int port)
{
    mvpn_addr a = {.family = n->family == AF_INET ? 4 : 6, .port = (uint16_t)port};
    memcpy(a.ip, n->addr, 16);
    return a;
}

static mvpn_exit *random_exit(mvpn_packet_pool *pool, mvpn_rng *rng)
{
    char text[RULES * 128] = "";
    mvpn_addr own_addr = to_addr(&own[0], 0), relay_addr[2], dns = to_addr(&own[1], 53);
    mvpn_policy_net nets[BLOCKED];
    mvpn_port_range ports[RANGES];
    mvpn_policy_error error = {0};
    mvpn_exit *ex = NULL;
    rule_count = (int)(random() % (RULES + 1));
    blocked_count = random() % 2 ? BLOCKED : 0;
    range_count = random() % 3 ? 0 : RANGES;
    for (int i = 0; i < rule_count; i++) {
        random_rule(&rules[i], text + strlen(text), 128);
    }
    for (int i = 0; i < blocked_count; i++) {
        blocked[i] = (struct snet){.family = i % 2 ? AF_INET6 : AF_INET};
        blocked[i].bits = i % 2 ? 24 : random() % 2 ? 32 : 12;
        i % 2 ? random_dst6(blocked[i].addr) : random_dst4(blocked[i].addr);
        nets[i] = (mvpn_policy_net){to_addr(&blocked[i], 0), (unsigned)blocked[i].bits, 0};
    }
    for (int i = 0; i < range_count; i++) {
        ranges[i][0] = (int)(random() % 300);
        ranges[i][1] = ranges[i][0] + (int)(random() % 90);
        ports[i] = (mvpn_port_range){(uint16_t)ranges[i][0], (uint16_t)ranges[i][1]};
    }
    for (int i = 0; i < 2; i++) {
        relay_addr[i] = to_addr(&relays[i].host, relays[i].port);
    }
    mvpn_exit_config c = {.packets = pool,
                          .rng = rng,
                          .pool_v4 = {4, 0, {10, 64}},
                          .pool_v4_bits = 24,
                          .pool_v6 = {6, 0, {0xfd, 1, 0, 2, 0, 3, 0, 4}},
                          .uplink_v6 = true,
                          .policy = text,
                          .blocked = nets,
                          .blocked_count = (size_t)blocked_count,
                          .ports = ports,
                          .port_count = (size_t)range_count,
                          .own = &own_addr,
                          .own_count = 1,
                          .relays = relay_addr,
                          .relay_count = 2,
                          .dns = &dns,
                          .dns_count = 1,
                          .sessions_max = 4};
    if (mvpn_exit_new(&c, &ex, &error) != 0) {
        (void)fprintf(stderr, "%u:%u %s in\n%s", error.line, error.column, error.what, text);
        abort();
    }
    return ex;
}

/* What was made, in the generator's own words. */
struct made {
    bool plain; /* honest source, no options, no fragment, not damaged */
    bool later, first;
    int family, protocol, port;
    uint32_t id;
    uint8_t dst[16];
};

static int random_port(void)
{
    static const int ports[] = {25, 53, 80, 443, 25};
    switch (random() % 4) {
    case 0:
        return ports[random() % 5];
    case 1:
        return relays[random() % 2].port;
    case 2:
        return (int)(random() % 65536);
    default:
        return (int)(random() % 400);
    }
}

static size_t make_transport(uint8_t *p, struct made *m)
{
    static const uint8_t protocols[] = {6, 17, 6, 17, 1, 58, 47, 132};
    m->protocol = protocols[random() % 8];
    if (random() % 4 && (m->protocol == 1 || m->protocol == 58)) {
        m->protocol = m->family == AF_INET ? 1 : 58;
    }
    m->port = m->protocol == 6 || m->protocol == 17 ? random_port() : -1;
    fill(p, 40, (unsigned)random());
    if (m->protocol == 6) {
        p[12] = 0x50;
        p[13] = 2;
    }
    if (m->protocol == 17) {
        mvpn_store16(p + 4, 40);
    }
    if (m->port >= 0) {
        mvpn_store16(p + 2, (uint16_t)m->port);
    } else {
        p[0] = m->protocol == 1 ? 8 : 128;
        p[1] = 0;
    }
    return 40;
}

static uint32_t make_packet(uint8_t *p, struct made *m)
{
    uint8_t l4[40], options[24];
    size_t options_len = 0;
    bool v4 = random() % 2;
    long fragment = random() % 3 ? 0 : random() % 3; /* none, first, later */
    bool options_wanted = random() % 10 == 0, spoofed = random() % 10 == 0;
    *m = (struct made){.plain = true, .family = v4 ? AF_INET : AF_INET6};
    v4 ? random_dst4(m->dst) : random_dst6(m->dst);
    size_t n = make_transport(l4, m), at = v4 ? 20 : 40;
    uint8_t src[16];
    memcpy(src, mvpn_inner_client(v4 ? 4 : 6), v4 ? 4 : 16);
    if (spoofed) {
        src[random() % (v4 ? 4 : 16)] ^= (uint8_t)(1 << random() % 8);
    }
    m->id = (uint32_t)(random() % 4) + 100;
    m->first = fragment == 1;
    m->later = fragment == 2;
    uint16_t offset = (uint16_t)(m->later ? (random() % 2 ? 16 : 5 * 8) : 0);
    m->plain = !spoofed && !options_wanted && fragment == 0;
    uint8_t next = (uint8_t)m->protocol;
    if (options_wanted && v4) {
        static const uint8_t kinds[][4] = {
            {1, 1, 1, 1}, {131, 3, 4, 0}, {7, 3, 4, 0}, {0x94, 4, 0, 0}};
        memcpy(options, kinds[random() % 4], 4);
        options_len = 4;
    } else if (options_wanted) { /* hop-by-hop, destination or routing header */
        static const uint8_t kinds[] = {0, 60, 43};
        memset(options, 0, 8);
        options[0] = next;
        options[2] = 1;
        options[3] = 4;
        options_len = 8;
        next = kinds[random() % 3];
        if (next == 43) {
            options[3] = (uint8_t)(random() % 2);
        }
    }
    if (!v4 && fragment != 0) { /* in front of the rest */
        memmove(options + 8, options, options_len);
        options[0] = next;
        options[1] = 0;
        mvpn_store16(options + 2, (uint16_t)(offset | (m->first || random() % 2)));
        mvpn_store32(options + 4, m->id);
        options_len += 8;
        next = 44;
    }
    (void)build_ip(p, v4 ? 4 : 6, next, src, m->dst, options_len + n);
    memcpy(p + at, options, options_len);
    memcpy(p + at + options_len, l4, n);
    if (v4) {
        p[0] = (uint8_t)(0x45 + options_len / 4);
        mvpn_store16(p + 4, (uint16_t)m->id);
        mvpn_store16(p + 6, (uint16_t)(fragment == 0
                                           ? 0x4000
                                           : offset / 8 | (m->first || random() % 2 ? 0x2000 : 0)));
        mvpn_store16(p + 10, 0);
        mvpn_store16(p + 10, (uint16_t)~slow_sum(p, at + options_len, 0));
    }
    size_t total = at + options_len + n;
    if (random() % 20 == 0) {
        m->plain = false;
        p[(size_t)random() % total] ^= (uint8_t)(1 << random() % 8);
        if (v4 && random() % 2) {
            mvpn_store16(p + 10, 0);
            mvpn_store16(p + 10, (uint16_t)~slow_sum(p, at, 0));
        }
    }
    return (uint32_t)total;
}

/* ---- judging what came out ---- */

struct first {
    int family, protocol;
    uint32_t session, id;
    uint8_t dst[16];
};
static struct first firsts[FIRSTS]; /* first fragments that went out */
static unsigned first_count;

static bool first_went_out(const struct first *f)
{
    for (unsigned i = 0; i < first_count && i < FIRSTS; i++) {
        if (memcmp(&firsts[i], f, sizeof(*f)) == 0) {
            return true;
        }
    }
    return false;
}

static uint32_t raw_id(const uint8_t *p)
{
    return p[0] >> 4 == 4 ? mvpn_load16(p + 4) : mvpn_load32(p + 44);
}

/* `in`: the packet as the session sent it. */
static void judge(const uint8_t *in, const uint8_t *p, size_t n, uint32_t session,
                  const mvpn_addr *pool4, const mvpn_addr *pool6)
{
    bool v4 = p[0] >> 4 == 4;
    size_t l4 = v4 ? 20 : 40;
    uint8_t dst[16] = {0};
    CHECK(v4 ? p[0] == 0x45 : p[0] >> 4 == 6);
    CHECK(n == (v4 ? mvpn_load16(p + 2) : 40u + mvpn_load16(p + 4)));
    CHECK(memcmp(p + (v4 ? 12 : 8), v4 ? pool4->ip : pool6->ip, v4 ? 4 : 16) == 0);
    memcpy(dst, p + (v4 ? 16 : 24), v4 ? 4 : 16);
    int family = v4 ? AF_INET : AF_INET6, protocol = p[v4 ? 9 : 6];
    unsigned offset = v4 ? (mvpn_load16(p + 6) & 0x1fffu) * 8 : 0;
    bool more = v4 && (mvpn_load16(p + 6) & 0x2000);
    if (!v4 && protocol == 44) {
        protocol = p[40];
        offset = mvpn_load16(p + 42) & 0xfff8u;
        more = p[43] & 1;
        l4 = 48;
    }
    struct first f;
    memset(&f, 0, sizeof(f));
    f.family = family;
    f.protocol = protocol;
    f.session = session;
    f.id = offset != 0 || more ? raw_id(in) : 0;
    memcpy(f.dst, dst, 16);
    if (offset != 0) {
        CHECK(first_went_out(&f) || slow_allows_all_ports(family, dst, protocol));
        return;
    }
    int port = protocol == 6 || protocol == 17 ? mvpn_load16(p + l4 + 2) : -1;
    if (!slow_allows(family, dst, protocol, port)) {
        char text[INET6_ADDRSTRLEN] = "";
        (void)inet_ntop(family, dst, text, sizeof(text));
        (void)fprintf(stderr, "went out: %s protocol %d port %d\n", text, protocol, port);
        exit(1);
    }
    if (more) {
        firsts[first_count++ % FIRSTS] = f;
    }
}

int main(int argc, char **argv)
{
    unsigned long count = argc > 1 ? strtoul(argv[1], NULL, 10) : PACKETS;
    unsigned seed = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 20261122;
    unsigned long out = 0, later = 0, plain_out = 0, plain_in = 0;
    mvpn_packet_pool pool;
    mvpn_rng rng;
    mvpn_exit *ex = NULL;
    uint32_t id[2] = {0};
    mvpn_addr pool4[2], pool6[2];
    srandom(seed);
    mvpn_rng_init_test(&rng, 1);
    CHECK(mvpn_packet_pool_init(&pool, POOL) == 0);
    for (size_t i = 0; i < SPECIALS; i++) {
        specials[i] = parse_net(special_text[i]);
    }
    own[0] = parse_net("11.200.0.1");
    own[1] = parse_net("10.64.0.0/24"); /* twice: some_net picks among four */
    own[2] = parse_net("10.64.0.0/24");
    own[3] = parse_net("fd01:2:3:4::/64");
    relays[0].host = parse_net("11.1.1.1");
    relays[0].port = 4433;
    relays[1].host = parse_net("2a10::1");
    relays[1].port = 7000;
    for (unsigned long i = 0; i < count; i++) {
        if (i % PACKETS_PER_POLICY == 0) {
            mvpn_exit_free(ex);
            ex = random_exit(&pool, &rng);
            first_count = 0;
            for (int s = 0; s < 2; s++) {
                CHECK(mvpn_exit_session_open(ex, 1289, true, 0, &id[s]) == 0);
                CHECK(mvpn_exit_session_addrs(ex, id[s], &pool4[s], &pool6[s]) == 0);
            }
        }
        struct made m;
        mvpn_packet *p = mvpn_packet_new(&pool), *q;
        uint8_t in[128] = {0};
        int s = (int)(random() % 2);
        uint32_t to;
        bool went = false;
        CHECK(p != NULL);
        p->len = make_packet(p->data, &m);
        memcpy(in, p->data, p->len);
        (void)mvpn_exit_from_session(ex, id[s], p, (mvpn_time)(i % PACKETS_PER_POLICY) * 1000);
        while ((q = mvpn_packet_queue_pop(mvpn_exit_tun_out(ex))) != NULL) {
            judge(in, q->data, q->len, id[s], &pool4[s], &pool6[s]);
            CHECK(!went);
            went = true;
            later += m.later;
            out++;
            mvpn_packet_free(&pool, q);
        }
        if (m.plain && m.protocol != 47 && m.protocol != 132) {
            bool is_mapped =
                m.family == AF_INET6 && memcmp(m.dst, "\0\0\0\0\0\0\0\0\0\0\xff\xff", 12) == 0;
            bool wanted = slow_allows(m.family, m.dst, m.protocol, m.port) && !is_mapped;
            CHECK(went == wanted);
            plain_in++;
            plain_out += went;
        }
        while ((q = mvpn_packet_queue_pop(mvpn_exit_dns_out(ex))) != NULL) {
            mvpn_packet_free(&pool, q);
        }
        while (mvpn_exit_pull_to_session(ex, &to, &q)) {
            mvpn_packet_free(&pool, q);
        }
    }
    mvpn_exit_free(ex);
    CHECK(pool.free_count == POOL);
    mvpn_packet_pool_done(&pool);
    (void)printf(
        "%lu packets, seed %u: %lu went out, all allowed; of %lu plain ones %lu; %lu later "
        "fragments\n",
        count, seed, out, plain_in, plain_out, later);
    /* A test that lets nothing out would prove nothing. */
    CHECK(count < 50000 || (out > count / 20 && later > count / 1000 && plain_out < plain_in));
    return 0;
}
