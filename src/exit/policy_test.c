#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/error.h"
#include "exit/policy.h"
#include "network/ip/testing.h"

static mvpn_ip packet_to(const char *dst, uint8_t protocol, uint16_t port)
{
    mvpn_addr a;
    mvpn_ip ip = {.has_l4 = true, .protocol = protocol, .dst_port = port};
    if (mvpn_addr_parse(dst, &a) != 0) {
        fail_msg("bad address in test: %s", dst);
    }
    ip.version = a.family;
    memcpy(ip.dst, a.ip, 16);
    return ip;
}

static void defaults(void **state)
{
    (void)state;
    static const struct {
        const char *dst;
        uint8_t protocol;
        uint16_t port;
        bool ok;
    } rows[] = {
        {"11.1.2.3", 6, 443, true},
        {"11.1.2.3", 17, 443, true},
        {"11.1.2.3", 1, 0, true},
        {"11.1.2.3", 58, 0, false}, /* ICMPv6 in IPv4 */
        {"11.1.2.3", 47, 0, false},
        {"11.1.2.3", 132, 0, false},
        {"11.1.2.3", 6, 25, false},
        {"11.1.2.3", 17, 25, true},
        {"11.1.2.3", 6, 465, true},
        {"11.1.2.3", 6, 587, true},
        {"0.1.2.3", 6, 80, false},
        {"10.1.2.3", 6, 80, false},
        {"9.255.255.255", 6, 80, true},
        {"100.63.255.255", 6, 80, true},
        {"100.64.0.0", 6, 80, false},
        {"100.100.100.200", 6, 80, false},
        {"100.127.255.255", 6, 80, false},
        {"100.128.0.0", 6, 80, true},
        {"127.0.0.1", 6, 80, false},
        {"169.254.169.254", 6, 80, false},
        {"168.63.129.16", 6, 80, false},
        {"168.63.129.17", 6, 80, true},
        {"172.15.255.255", 6, 80, true},
        {"172.16.0.0", 6, 80, false},
        {"172.31.255.255", 6, 80, false},
        {"172.32.0.0", 6, 80, true},
        {"192.0.0.192", 6, 80, false},
        {"192.168.1.1", 6, 80, false},
        {"198.19.0.1", 6, 80, false},
        {"223.255.255.255", 6, 80, true},
        {"224.0.0.251", 17, 5353, false},
        {"240.0.0.1", 6, 80, false},
        {"255.255.255.255", 17, 67, false},
        {"2a10::1", 6, 443, true},
        {"2a10::1", 58, 0, true},
        {"2a10::1", 1, 0, false}, /* ICMPv4 in IPv6 */
        {"2a10::1", 6, 25, false},
        {"::", 6, 80, false},
        {"::1", 6, 80, false},
        {"fe80::1", 6, 80, false},
        {"fd00:ec2::254", 6, 80, false},
        {"ff02::fb", 17, 5353, false},
        {"2001::1", 6, 80, false},
        {"2001:1ff::1", 6, 80, false},
        {"2001:200::1", 6, 80, true},
        {"2001:db8::1", 6, 80, false},
        {"3fff:fff::1", 6, 80, false},
        {"3ffe::1", 6, 80, true},
        {"4000::1", 6, 80, false},
        {"::ffff:127.0.0.1", 6, 80, false},
        {"::ffff:11.0.0.1", 6, 80, true},
        {"2002:7f00:1::1", 6, 80, false},
        {"2002:a00:1::1", 6, 80, false},
        {"2002:b00:1::1", 6, 80, true},
        {"64:ff9b::10.0.0.1", 6, 80, false},
        {"64:ff9b::11.0.0.1", 6, 80, true},
        {"64:ff9b:1::11.0.0.1", 6, 80, false}, /* local-use NAT64, RFC 8215 */
        {"::11.0.0.1", 6, 80, false},          /* IPv4-compatible, deprecated */
        {"2001:0:b00:1::", 6, 80, false},      /* Teredo */
        {"2a10::5efe:11.0.0.1", 6, 80, true},  /* ISATAP */
        {"2a10::5efe:10.0.0.1", 6, 80, false},
        {"2a10::200:5efe:192.168.1.1", 6, 80, false},
        {"fd00::5efe:11.0.0.1", 6, 80, false},
    };
    mvpn_policy *policy = mvpn_policy_new();
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        mvpn_ip ip = packet_to(rows[i].dst, rows[i].protocol, rows[i].port);
        if (mvpn_policy_allows(policy, &ip) != rows[i].ok) {
            fail_msg("%s proto %u port %u", rows[i].dst, rows[i].protocol, rows[i].port);
        }
        /* All of base's idea of a public address holds here, too. */
        mvpn_addr a = mvpn_ip_dst_addr(&ip);
        assert_true(!rows[i].ok || mvpn_addr_is_public(&a));
    }
    mvpn_policy_free(policy);
}

static void own_and_relays(void **state)
{
    (void)state;
    mvpn_policy *policy = mvpn_policy_new();
    mvpn_addr own4, own6, relays[3];
    assert_int_equal(mvpn_addr_parse("11.0.0.9", &own4), 0);
    assert_int_equal(mvpn_addr_parse("2a10:5::", &own6), 0);
    assert_int_equal(mvpn_addr_parse("12.0.0.1:443", &relays[0]), 0);
    assert_int_equal(mvpn_addr_parse("[2a10:6::1]:7000", &relays[1]), 0);
    assert_int_equal(mvpn_addr_parse("11.5.5.5:1", &relays[2]), 0);
    assert_int_equal(mvpn_policy_add_own(policy, &own4, 32), 0);
    assert_int_equal(mvpn_policy_add_own(policy, &own6, 64), 0);
    assert_int_equal(mvpn_policy_add_own(policy, &own4, 33), MVPN_E_INVAL);
    assert_int_equal(mvpn_policy_set_relays(policy, relays, 3), 0);
    static const struct {
        const char *dst;
        uint8_t protocol;
        uint16_t port;
        bool ok;
    } rows[] = {
        {"11.0.0.9", 6, 80, false},     {"11.0.0.8", 6, 80, true},
        {"2002:b00:9::", 6, 80, false}, {"64:ff9b::11.0.0.9", 6, 80, false},
        {"2a10:5::77", 17, 80, false},  {"2a10:5:0:1::", 17, 80, true},
        {"12.0.0.1", 17, 443, false},   {"12.0.0.1", 6, 443, false},
        {"12.0.0.1", 17, 444, true},    {"12.0.0.1", 1, 0, true},
        {"12.0.0.2", 17, 443, true},    {"2002:c00:1::", 17, 443, false},
        {"2a10:6::1", 17, 7000, false}, {"2a10:6::1", 17, 7001, true},
        {"2a10:6::2", 17, 7000, true},  {"11.5.5.5", 6, 1, false},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        mvpn_ip ip = packet_to(rows[i].dst, rows[i].protocol, rows[i].port);
        if (mvpn_policy_allows(policy, &ip) != rows[i].ok) {
            fail_msg("%s port %u", rows[i].dst, rows[i].port);
        }
    }
    assert_int_equal(mvpn_policy_set_relays(policy, NULL, 0), 0);
    mvpn_ip ip = packet_to("12.0.0.1", 17, 443);
    assert_true(mvpn_policy_allows(policy, &ip));
    assert_int_equal(mvpn_policy_set_relays(policy, relays, MVPN_POLICY_RELAYS_MAX + 1),
                     MVPN_E_LIMIT);
    for (int i = 0; i < MVPN_POLICY_OWN_MAX - 2; i++) {
        assert_int_equal(mvpn_policy_add_own(policy, &own4, 32), 0);
    }
    assert_int_equal(mvpn_policy_add_own(policy, &own4, 32), MVPN_E_LIMIT);
    mvpn_policy_free(policy);
}

static void order_and_fragments(void **state)
{
    (void)state;
    mvpn_policy *policy = mvpn_policy_new();
    mvpn_policy_error error;
    const char *text = "# mail to our own server only\n"
                       "accept tcp 11.0.0.5 465,587 ; reject tcp * 465,587\n"
                       "\taccept * 10.0.0.0/8 *   # has no effect: private\n"
                       "accept tcp * 25           # nor this\n"
                       "reject udp *4 1000-2000\r\n"
                       "reject icmp *6\n"
                       "accept udp 12.0.0.0/8 53\n"
                       "reject udp 12.0.0.0/8";
    assert_int_equal(mvpn_policy_parse(policy, text, &error), 0);
    enum { NO = MVPN_POLICY_REJECT, YES = MVPN_POLICY_ACCEPT, PORT = MVPN_POLICY_DEPENDS };
    static const struct {
        const char *dst;
        uint8_t protocol;
        uint16_t port;
        bool ok;
        unsigned fragment, line;
    } rows[] = {
        {"11.0.0.5", 6, 587, true, PORT, 2},        {"11.0.0.6", 6, 587, false, PORT, 2},
        {"11.0.0.6", 6, 465, false, PORT, 2},       {"11.0.0.6", 6, 466, true, PORT, 0},
        {"10.0.0.1", 6, 80, false, NO, 0},          {"11.0.0.5", 6, 25, false, PORT, 0},
        {"11.0.0.5", 17, 999, true, PORT, 0},       {"11.0.0.5", 17, 1000, false, PORT, 5},
        {"11.0.0.5", 17, 2000, false, PORT, 5},     {"11.0.0.5", 17, 2001, true, PORT, 0},
        {"2a10::1", 17, 1500, true, YES, 0},        {"2a10::1", 58, 0, false, NO, 6},
        {"2002:b00:1::", 17, 1500, false, PORT, 5}, {"11.0.0.5", 1, 0, true, YES, 0},
        {"12.0.0.1", 17, 53, true, PORT, 7},        {"12.0.0.1", 17, 54, false, PORT, 8},
        {"2a10::1", 6, 80, true, PORT, 0},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        mvpn_ip ip = packet_to(rows[i].dst, rows[i].protocol, rows[i].port);
        mvpn_policy_verdict v = mvpn_policy_judge(policy, &ip);
        if (mvpn_policy_allows(policy, &ip) != rows[i].ok || v.line != rows[i].line) {
            fail_msg("%s proto %u port %u by line %u", rows[i].dst, rows[i].protocol, rows[i].port,
                     v.line);
        }
        ip.has_l4 = false;
        ip.fragment = true;
        ip.dst_port = 0;
        unsigned result = mvpn_policy_judge(policy, &ip).result;
        if (result != rows[i].fragment) {
            fail_msg("fragment to %s proto %u: %u", rows[i].dst, rows[i].protocol, result);
        }
    }
    /* Wrong text leaves the rules in force; empty text removes them. */
    mvpn_ip ip = packet_to("11.0.0.6", 6, 587);
    assert_int_equal(mvpn_policy_parse(policy, "accept", &error), MVPN_E_CONFIG);
    assert_false(mvpn_policy_allows(policy, &ip));
    assert_int_equal(mvpn_policy_parse(policy, "", &error), 0);
    assert_true(mvpn_policy_allows(policy, &ip));
    mvpn_policy_free(policy);
}

/* blocked_ips and allowed_ports take away before the rules can say anything. */
static void blocked_and_allowed_ports(void **state)
{
    (void)state;
    static const struct {
        const char *dst;
        uint8_t protocol;
        uint16_t port;
        unsigned step;
    } rows[] = {
        {"11.0.0.1", 6, 443, MVPN_POLICY_BY_NOTHING},
        {"11.0.0.1", 17, 8050, MVPN_POLICY_BY_NOTHING},
        {"11.0.0.1", 6, 80, MVPN_POLICY_BY_PORTS},
        {"11.0.0.1", 17, 8101, MVPN_POLICY_BY_PORTS},
        {"11.0.0.1", 1, 0, MVPN_POLICY_BY_NOTHING},
        {"12.0.0.1", 6, 443, MVPN_POLICY_BY_BLOCKED},
        {"12.0.0.1", 6, 80, MVPN_POLICY_BY_BLOCKED},
        {"12.0.0.1", 1, 0, MVPN_POLICY_BY_BLOCKED},
        {"12.0.0.2", 6, 443, MVPN_POLICY_BY_NOTHING},
        {"2002:c00:1::1", 6, 443, MVPN_POLICY_BY_BLOCKED},
        {"64:ff9b::12.0.0.1", 6, 443, MVPN_POLICY_BY_BLOCKED},
        {"2a10:5::1", 17, 443, MVPN_POLICY_BY_BLOCKED},
        {"2a10:6::1", 17, 443, MVPN_POLICY_BY_NOTHING},
        {"10.0.0.1", 6, 443, MVPN_POLICY_BY_SPECIAL},
        {"11.0.0.1", 6, 25, MVPN_POLICY_BY_SMTP},
        {"11.0.0.1", 6, 8000, MVPN_POLICY_BY_RULE},
        {"11.0.0.1", 47, 0, MVPN_POLICY_BY_PROTOCOL},
    };
    mvpn_policy *policy = mvpn_policy_new();
    mvpn_policy_error e;
    mvpn_policy_net four = {.bits = 32, .line = 17}, six = {.bits = 32, .line = 18};
    mvpn_port_range ranges[4];
    uint8_t flags = 0;
    assert_int_equal(mvpn_policy_parse(policy, "reject tcp * 8000; accept any * 25,80", &e), 0);
    assert_int_equal(mvpn_addr_parse("12.0.0.1", &four.addr), 0);
    assert_int_equal(mvpn_addr_parse("2a10:5::", &six.addr), 0);
    assert_int_equal(mvpn_policy_block(policy, &four), 0);
    assert_int_equal(mvpn_policy_block(policy, &six), 0);
    four.bits = 33;
    assert_int_equal(mvpn_policy_block(policy, &four), MVPN_E_INVAL);
    four.bits = 32;
    assert_int_equal(mvpn_policy_allow_ports(policy, 25, 25), 0);
    assert_int_equal(mvpn_policy_allow_ports(policy, 443, 443), 0);
    assert_int_equal(mvpn_policy_allow_ports(policy, 8000, 8100), 0);
    assert_int_equal(mvpn_policy_allow_ports(policy, 2, 1), MVPN_E_INVAL);
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        mvpn_ip ip = packet_to(rows[i].dst, rows[i].protocol, rows[i].port);
        if (ip.version == 6 && ip.protocol == 1) {
            ip.protocol = 58;
        }
        mvpn_policy_verdict v = mvpn_policy_judge(policy, &ip);
        bool ok = rows[i].step == MVPN_POLICY_BY_NOTHING;
        if (v.step != rows[i].step || mvpn_policy_allows(policy, &ip) != ok ||
            mvpn_policy_step_text(v.step)[0] == '\0') {
            fail_msg("%s proto %u port %u: step %u", rows[i].dst, rows[i].protocol, rows[i].port,
                     v.step);
        }
        if (v.step == MVPN_POLICY_BY_BLOCKED) {
            assert_int_equal(v.line, rows[i].dst[4] == ':' && rows[i].dst[5] == '5' ? 18 : 17);
        }
    }
    assert_int_equal(mvpn_policy_summary(policy, true, &flags, ranges, 4), 2);
    assert_int_equal(ranges[0].first, 443);
    assert_int_equal(ranges[0].last, 443);
    assert_int_equal(ranges[1].first, 8001);
    assert_int_equal(ranges[1].last, 8100);
    assert_int_equal(flags, MVPN_EXIT_IPV4 | MVPN_EXIT_IPV6);
    /* Half of a family is much of the internet. */
    mvpn_policy_net half = {.addr = {.family = 4, .ip = {128}}, .bits = 1};
    assert_int_equal(mvpn_policy_block(policy, &half), 0);
    assert_int_equal(mvpn_policy_summary(policy, true, &flags, ranges, 4), 2);
    assert_int_equal(flags, MVPN_EXIT_IPV6);
    for (int i = 3; i < MVPN_POLICY_PORTS_MAX; i++) {
        assert_int_equal(mvpn_policy_allow_ports(policy, 1, 2), 0);
    }
    assert_int_equal(mvpn_policy_allow_ports(policy, 1, 2), MVPN_E_LIMIT);
    for (int i = 3; i < MVPN_POLICY_BLOCKED_MAX; i++) {
        assert_int_equal(mvpn_policy_block(policy, &four), 0);
    }
    assert_int_equal(mvpn_policy_block(policy, &four), MVPN_E_LIMIT);
    mvpn_policy_free(policy);
}

static void errors_tell_where(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        unsigned line, column;
    } rows[] = {
        {"allow tcp * 80", 1, 1},
        {"\n\n  drop", 3, 3},
        {"accept", 1, 7},
        {"accept sctp *", 1, 8},
        {"accept tcp", 1, 11},
        {"accept tcp host 80", 1, 12},
        {"accept tcp 1.2.3.4:80 80", 1, 12},
        {"accept tcp [2a10::1]:80", 1, 12},
        {"accept tcp 1.2.3.0/33 80", 1, 20},
        {"accept tcp 1.2.3.0/ 80", 1, 20},
        {"accept tcp 1.2.3.0/24x 80", 1, 20},
        {"accept tcp 1.2.3.4/24 80", 1, 12},
        {"accept tcp 2a10::1/64 80", 1, 12},
        {"accept tcp 2a10::/129 80", 1, 19},
        {"accept tcp * 65536", 1, 14},
        {"accept tcp * 80-79", 1, 14},
        {"accept tcp * 80-", 1, 14},
        {"accept tcp * 80,x", 1, 17},
        {"accept tcp * 80;reject udp * 1 2", 1, 32},
        {"accept tcp * 80,81!", 1, 19},
        {"accept icmp * 8", 1, 15},
        {"accept tcp * 80\nreject tcp * port", 2, 14},
        {"accept tcp * *4", 1, 14},
        {"accept aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 1,
         8},
    };
    mvpn_policy *policy = mvpn_policy_new();
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        mvpn_policy_error e = {0};
        int r = mvpn_policy_parse(policy, rows[i].text, &e);
        if (r != MVPN_E_CONFIG || e.line != rows[i].line || e.column != rows[i].column ||
            e.what == NULL) {
            fail_msg("\"%s\": %d at %u:%u %s", rows[i].text, r, e.line, e.column,
                     e.what ? e.what : "");
        }
    }
    mvpn_policy_free(policy);
}

static void rules_are_bounded(void **state)
{
    (void)state;
    static char text[MVPN_POLICY_RULES_MAX * 16 + 64];
    mvpn_policy *policy = mvpn_policy_new();
    mvpn_policy_error e;
    for (int i = 0; i < MVPN_POLICY_RULES_MAX; i++) {
        strcat(text, "reject tcp * 7\n");
    }
    assert_int_equal(mvpn_policy_parse(policy, text, &e), 0);
    strcat(text, "reject tcp * 7");
    assert_int_equal(mvpn_policy_parse(policy, text, &e), MVPN_E_CONFIG);
    assert_int_equal(e.line, MVPN_POLICY_RULES_MAX + 1);
    mvpn_policy_free(policy);
}

/* --- an independent, slow reading of the same rules: addresses as strings of '0' and '1' --- */

struct slow_rule {
    bool accept;
    int protocol;   /* 0 any */
    char bits[129]; /* prefix; "" any */
    int family;     /* 0 any */
    int low, high;  /* -1 any */
};

static void to_bits(const uint8_t *p, int n, char *out)
{
    for (int i = 0; i < n * 8; i++) {
        out[i] = (p[i / 8] >> (7 - i % 8)) & 1 ? '1' : '0';
    }
    out[n * 8] = '\0';
}

static bool starts(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

static bool slow_special_v4(const char *b)
{
    static const char *const nets[] = {"00000000",
                                       "00001010",
                                       "0110010001",
                                       "01111111",
                                       "1010100111111110",
                                       "101011000001",
                                       "110000000000000000000000",
                                       "110000000000000000000010",
                                       "110000000101100001100011",
                                       "1100000010101000",
                                       "110001100001001",
                                       "110001100011001101100100",
                                       "110010110000000001110001",
                                       "10101000001111111000000100010000",
                                       "111"};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(nets); i++) {
        if (starts(b, nets[i])) {
            return true;
        }
    }
    return false;
}

static bool slow_allows(const struct slow_rule *rules, int count, const mvpn_ip *ip)
{
    char b[129], v4[129] = "";
    int icmp = ip->version == 4 ? 1 : 58;
    int protocol = ip->protocol == icmp ? 1 : ip->protocol;
    to_bits(ip->dst, ip->version == 4 ? 4 : 16, b);
    if (ip->protocol != 6 && ip->protocol != 17 && ip->protocol != icmp) {
        return false;
    }
    if (ip->version == 4) {
        strcpy(v4, b);
    } else if (starts(b, "0010000000000010")) {
        memcpy(v4, b + 16, 32);
        v4[32] = '\0';
    } else {
        static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff},
                             nat64[12] = {0, 0x64, 0xff, 0x9b};
        if (memcmp(ip->dst, mapped, 12) == 0 || memcmp(ip->dst, nat64, 12) == 0) {
            strcpy(v4, b + 96);
        }
    }
    if (v4[0] != '\0' ? slow_special_v4(v4)
                      : !starts(b, "001") || starts(b, "00100000000000010000000") ||
                            starts(b, "00100000000000010000110110111000") ||
                            starts(b, "00111111111111110000")) {
        return false;
    }
    if (protocol == 6 && ip->dst_port == 25) {
        return false;
    }
    for (int i = 0; i < count; i++) {
        const struct slow_rule *r = &rules[i];
        bool dst = r->family == 0 || (r->family == 4 && v4[0] != '\0' && starts(v4, r->bits)) ||
                   (r->family == 6 && ip->version == 6 && starts(b, r->bits));
        bool port =
            r->low < 0 || (protocol != 1 && ip->dst_port >= r->low && ip->dst_port <= r->high);
        if ((r->protocol == 0 || r->protocol == protocol) && dst && port) {
            return r->accept;
        }
    }
    return true;
}

static uint8_t few(void)
{
    static const uint8_t bytes[] = {0,   1,   10,  11, 25,  100, 127, 128,
                                    169, 254, 172, 16, 192, 168, 224, 255};
    return bytes[random() % 16];
}

static void random_dst(mvpn_ip *ip)
{
    static const uint8_t heads[][4] = {{0x20, 0x02},
                                       {0x20, 0x01},
                                       {0x20, 0x01, 0x0d, 0xb8},
                                       {0x2a, 0x10},
                                       {0x00, 0x64, 0xff, 0x9b},
                                       {0xfd},
                                       {0x3f, 0xff}};
    memset(ip->dst, 0, 16);
    ip->version = random() % 2 ? 4 : 6;
    if (ip->version == 4) {
        for (int i = 0; i < 4; i++) {
            ip->dst[i] = random() % 4 ? few() : (uint8_t)random();
        }
        return;
    }
    long kind = random() % 9;
    if (kind < 7) {
        memcpy(ip->dst, heads[kind], 4);
        for (int i = kind == 4 || kind == 2 ? 12 : 2; i < 16; i++) {
            ip->dst[i] = few();
        }
    } else if (kind == 7) {
        ip->dst[10] = ip->dst[11] = 0xff;
        for (int i = 12; i < 16; i++) {
            ip->dst[i] = few();
        }
    } else {
        for (int i = 0; i < 16; i++) {
            ip->dst[i] = (uint8_t)random();
        }
    }
}

static void random_rule(struct slow_rule *r, char *text, size_t size)
{
    static const char *const names[] = {"*", "tcp", "udp", "icmp"};
    static const int numbers[] = {0, 6, 17, 1};
    char dst[MVPN_ADDR_STRLEN + 8], ports[16];
    long k = random() % 4;
    *r = (struct slow_rule){.accept = random() % 2, .protocol = numbers[k], .low = -1};
    snprintf(dst, sizeof(dst), "*");
    snprintf(ports, sizeof(ports), "*");
    if (random() % 5) {
        mvpn_ip ip;
        mvpn_addr a;
        char name[MVPN_ADDR_STRLEN];
        random_dst(&ip);
        int len = ip.version == 4 ? 4 : 16, bits = (int)(random() % (len * 4 + 1));
        for (int i = bits; i < len * 8; i++) {
            ip.dst[i / 8] &= (uint8_t) ~(0x80 >> i % 8);
        }
        a = (mvpn_addr){.family = ip.version};
        memcpy(a.ip, ip.dst, 16);
        to_bits(a.ip, len, r->bits);
        r->bits[bits] = '\0';
        r->family = ip.version;
        snprintf(dst, sizeof(dst), "%s/%d", mvpn_addr_format(&a, name), bits);
    }
    if (r->protocol != 1 && random() % 2) {
        r->low = (int)(random() % 200);
        r->high = r->low + (int)(random() % 100);
        snprintf(ports, sizeof(ports), "%d-%d", r->low, r->high);
    }
    snprintf(text, size, "%s %s %s %s\n", r->accept ? "accept" : "reject", names[k], dst, ports);
}

static void equals_slow_matcher(void **state)
{
    (void)state;
    unsigned accepted = 0;
    srandom(7);
    for (int round = 0; round < 100; round++) {
        struct slow_rule rules[20];
        char text[20 * 128] = "";
        mvpn_policy *policy = mvpn_policy_new();
        mvpn_policy_error e;
        for (int i = 0; i < 20; i++) {
            random_rule(&rules[i], text + strlen(text), 128);
        }
        if (mvpn_policy_parse(policy, text, &e) != 0) {
            fail_msg("%u:%u %s in\n%s", e.line, e.column, e.what, text);
        }
        for (int i = 0; i < 1000; i++) {
            static const uint8_t protocols[] = {6, 17, 1, 58, 6, 17, 1, 47};
            mvpn_ip ip = {.has_l4 = true, .protocol = protocols[random() % 8]};
            random_dst(&ip);
            ip.dst_port = (uint16_t)(ip.protocol == 6 || ip.protocol == 17 ? random() % 320 : 0);
            bool fast = mvpn_policy_allows(policy, &ip);
            accepted += fast;
            if (fast != slow_allows(rules, 20, &ip)) {
                mvpn_addr a = mvpn_ip_dst_addr(&ip);
                char name[MVPN_ADDR_STRLEN];
                fail_msg("%s proto %u: %d by\n%s", mvpn_addr_format(&a, name), ip.protocol, fast,
                         text);
            }
        }
        mvpn_policy_free(policy);
    }
    assert_in_range(accepted, 10000, 90000); /* both verdicts were met often */
}

/* What the descriptor promises: never a port that the rules refuse to most of the internet. */
static void summary_of_rules(void **state)
{
    static const struct {
        const char *rules;
        const char *summary;
        unsigned flags; /* of an exit that has IPv6 */
    } rows[] = {
        {"", "1-24 26-65535", 3},
        {"accept tcp * 80,443; reject * *", "80-80 443-443", 3},
        {"reject * *", "", 0},
        {"reject udp *", "1-24 26-65535", 3},
        {"reject tcp 11.22.0.0/16; reject tcp * 1-1023", "1024-65535", 3},
        {"reject tcp 10.0.0.0/7 22; reject tcp 13.0.0.0/9 23", "1-21 23-24 26-65535", 3},
        {"accept tcp 11.0.0.0/8 22; reject tcp * 22", "1-21 23-24 26-65535", 3},
        {"reject tcp *4 443; accept * *", "1-24 26-442 444-65535", 3},
        {"reject tcp 2000::/3 443", "1-24 26-442 444-65535", 3},
        {"accept * *4; reject * *", "1-24 26-65535", 1},
        {"reject * *6", "1-24 26-65535", 1},
        {"reject * *4", "1-24 26-65535", 2},
        {"accept tcp *4 80; accept tcp *6 443; reject * *", "80-80", 1},
        {"accept tcp *4 80-90; accept tcp *6 85-95; reject * *", "85-90", 3},
    };
    (void)state;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        mvpn_port_range ranges[4];
        mvpn_policy_error e;
        char text[128] = "";
        mvpn_policy *policy = mvpn_policy_new();
        assert_int_equal(mvpn_policy_parse(policy, rows[i].rules, &e), 0);
        uint8_t flags = 9;
        size_t n = mvpn_policy_summary(policy, true, &flags, ranges, MVPN_ARRAY_LEN(ranges));
        assert_int_equal(flags, rows[i].flags);
        for (size_t k = 0; k < n; k++) {
            (void)snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%u-%u",
                           k > 0 ? " " : "", (unsigned)ranges[k].first, (unsigned)ranges[k].last);
        }
        assert_string_equal(text, rows[i].summary);
        assert_int_equal(mvpn_policy_summary(policy, true, &flags, ranges, 1),
                         MVPN_MIN(n, (size_t)1));
        n = mvpn_policy_summary(policy, false, &flags, ranges, 1);
        assert_int_equal(flags, n > 0 ? MVPN_EXIT_IPV4 : 0);
        mvpn_policy_free(policy);
    }
}

/* A port of the summary is open towards every address that no narrow rule speaks of. */
static void summary_keeps_its_word(void **state)
{
    (void)state;
    unsigned asked = 0;
    srandom(11);
    for (int round = 0; round < 300; round++) {
        struct slow_rule rules[8];
        char text[8 * 128] = "";
        mvpn_port_range ranges[MVPN_DESCRIPTOR_POLICY_RANGES_MAX];
        uint8_t flags = 0;
        mvpn_policy *policy = mvpn_policy_new();
        mvpn_policy_error e;
        for (int i = 0; i < 8; i++) {
            random_rule(&rules[i], text + strlen(text), 128);
        }
        assert_int_equal(mvpn_policy_parse(policy, text, &e), 0);
        size_t n = mvpn_policy_summary(policy, true, &flags, ranges, MVPN_ARRAY_LEN(ranges));
        for (int i = 0; i < 200 && n > 0; i++) {
            const mvpn_port_range *r = &ranges[(size_t)random() % n];
            mvpn_ip ip = {.has_l4 = true, .protocol = MVPN_IP_TCP};
            char b[129];
            bool is_narrow = false;
            random_dst(&ip);
            if (ip.version == 6) { /* plain: what carries an IPv4 address is judged twice */
                memcpy(ip.dst, "\x2a\x10", 2);
            }
            ip.dst_port = (uint16_t)(r->first + random() % (r->last - r->first + 1));
            to_bits(ip.dst, ip.version == 4 ? 4 : 16, b);
            for (int k = 0; k < 8; k++) {
                is_narrow |= rules[k].family == ip.version &&
                             strlen(rules[k].bits) > (ip.version == 4 ? 8 : 16) &&
                             starts(b, rules[k].bits);
            }
            if (is_narrow || !mvpn_policy_is_public(ip.version, ip.dst) ||
                (flags & (ip.version == 4 ? MVPN_EXIT_IPV4 : MVPN_EXIT_IPV6)) == 0) {
                continue;
            }
            asked++;
            if (!mvpn_policy_allows(policy, &ip)) {
                fail_msg("port %u of IPv%u is promised, and refused by\n%s", ip.dst_port,
                         ip.version, text);
            }
        }
        mvpn_policy_free(policy);
    }
    assert_in_range(asked, 5000, 60000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),
        cmocka_unit_test(own_and_relays),
        cmocka_unit_test(order_and_fragments),
        cmocka_unit_test(blocked_and_allowed_ports),
        cmocka_unit_test(errors_tell_where),
        cmocka_unit_test(rules_are_bounded),
        cmocka_unit_test(equals_slow_matcher),
        cmocka_unit_test(summary_of_rules),
        cmocka_unit_test(summary_keeps_its_word),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
