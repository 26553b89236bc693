#include "base/addr.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

bool mvpn_addr_ip_eq(const mvpn_addr *a, const mvpn_addr *b)
{
    return a->family == b->family && memcmp(a->ip, b->ip, mvpn_addr_ip_len(a)) == 0;
}

bool mvpn_addr_eq(const mvpn_addr *a, const mvpn_addr *b)
{
    return a->port == b->port && mvpn_addr_ip_eq(a, b);
}

static int parse_port(const char *text, uint16_t *ret)
{
    if (text[0] < '0' || text[0] > '9' || strlen(text) > 5) {
        return MVPN_E_FORMAT;
    }
    char *end = NULL;
    unsigned long v = strtoul(text, &end, 10);
    if (*end != '\0' || v > 65535) {
        return MVPN_E_FORMAT;
    }
    *ret = (uint16_t)v;
    return 0;
}

int mvpn_addr_parse(const char *text, mvpn_addr *ret)
{
    mvpn_addr a = {0};
    char host[INET6_ADDRSTRLEN + 1];
    const char *port = NULL;
    size_t host_len;
    bool is_v6;

    if (text[0] == '[') {
        const char *close = strchr(text, ']');
        if (close == NULL || close[1] != ':') {
            return MVPN_E_FORMAT;
        }
        text++;
        host_len = (size_t)(close - text);
        port = close + 2;
        is_v6 = true;
    } else {
        const char *colon = strchr(text, ':');
        is_v6 = colon != NULL && strchr(colon + 1, ':') != NULL;
        host_len = is_v6 || colon == NULL ? strlen(text) : (size_t)(colon - text);
        port = is_v6 || colon == NULL ? NULL : colon + 1;
    }
    if (host_len >= sizeof(host)) {
        return MVPN_E_FORMAT;
    }
    memcpy(host, text, host_len);
    host[host_len] = '\0';
    a.family = is_v6 ? 6 : 4;
    if (inet_pton(is_v6 ? AF_INET6 : AF_INET, host, a.ip) != 1) {
        return MVPN_E_FORMAT;
    }
    if (port != NULL && parse_port(port, &a.port) != 0) {
        return MVPN_E_FORMAT;
    }
    *ret = a;
    return 0;
}

const char *mvpn_addr_format(const mvpn_addr *a, char out[static MVPN_ADDR_STRLEN])
{
    char host[INET6_ADDRSTRLEN] = "?";
    if (a->family == 0) {
        (void)snprintf(out, MVPN_ADDR_STRLEN, "none");
        return out;
    }
    (void)inet_ntop(a->family == 6 ? AF_INET6 : AF_INET, a->ip, host, sizeof(host));
    if (a->port == 0) {
        (void)snprintf(out, MVPN_ADDR_STRLEN, "%s", host);
    } else if (a->family == 6) {
        (void)snprintf(out, MVPN_ADDR_STRLEN, "[%s]:%u", host, (unsigned)a->port);
    } else {
        (void)snprintf(out, MVPN_ADDR_STRLEN, "%s:%u", host, (unsigned)a->port);
    }
    return out;
}

const char *mvpn_addr_scrub(const mvpn_addr *a)
{
    return a->family == 4 ? "[IPv4 address]" : a->family == 6 ? "[IPv6 address]" : "[no address]";
}

bool mvpn_ip_in_prefix(const uint8_t *ip, const uint8_t *net, size_t ip_len, unsigned bits)
{
    size_t whole = bits / 8;
    unsigned rest = bits % 8;
    if (whole > ip_len || (whole == ip_len && rest > 0) || memcmp(ip, net, whole) != 0) {
        return false;
    }
    return rest == 0 || ((ip[whole] ^ net[whole]) >> (8 - rest)) == 0;
}

struct prefix {
    uint8_t net[16];
    uint8_t bits;
};

/* IANA IPv4 special-purpose registry (RFC 6890 and updates), and multicast and reserved space. */
static const struct prefix special_v4[] = {
    {{0}, 8},
    {{10}, 8},
    {{100, 64}, 10},
    {{127}, 8},
    {{169, 254}, 16},
    {{172, 16}, 12},
    {{192, 0, 0}, 24},
    {{192, 0, 2}, 24},
    {{192, 88, 99}, 24},
    {{192, 168}, 16},
    {{198, 18}, 15},
    {{198, 51, 100}, 24},
    {{203, 0, 113}, 24},
    {{224}, 4},
    {{240}, 4},
};

static bool v4_is_public(const uint8_t ip[static 4])
{
    for (size_t i = 0; i < MVPN_ARRAY_LEN(special_v4); i++) {
        if (mvpn_ip_in_prefix(ip, special_v4[i].net, 4, special_v4[i].bits)) {
            return false;
        }
    }
    return true;
}

/* Inside 2000::/3: what is not routable; and forms that embed an IPv4 address. */
static const struct prefix special_v6[] = {
    {{0x20, 0x01, 0x00, 0x00}, 23}, /* IETF protocol assignments, Teredo among them */
    {{0x20, 0x01, 0x0d, 0xb8}, 32}, /* documentation */
    {{0x3f, 0xff, 0x00}, 20},       /* documentation (RFC 9637) */
};

static const uint8_t mapped_prefix[12] = {[10] = 0xff, [11] = 0xff};

static bool v6_is_public(const uint8_t ip[static 16])
{
    static const uint8_t nat64[12] = {0x00, 0x64, 0xff, 0x9b};
    if (memcmp(ip, mapped_prefix, 12) == 0 || memcmp(ip, nat64, 12) == 0) {
        return v4_is_public(ip + 12);
    }
    if ((ip[0] & 0xe0) != 0x20) {
        return false;
    }
    if (ip[0] == 0x20 && ip[1] == 0x02) { /* 6to4 */
        return v4_is_public(ip + 2);
    }
    for (size_t i = 0; i < MVPN_ARRAY_LEN(special_v6); i++) {
        if (mvpn_ip_in_prefix(ip, special_v6[i].net, 16, special_v6[i].bits)) {
            return false;
        }
    }
    return true;
}

bool mvpn_addr_is_public(const mvpn_addr *a)
{
    return a->family == 4 ? v4_is_public(a->ip) : a->family == 6 && v6_is_public(a->ip);
}

bool mvpn_addr_is_mapped(const mvpn_addr *a)
{
    return a->family == 6 && memcmp(a->ip, mapped_prefix, sizeof(mapped_prefix)) == 0;
}

bool mvpn_addr_same_block(const mvpn_addr *a, const mvpn_addr *b)
{
    if (a->family != b->family || a->family == 0) {
        return false;
    }
    return memcmp(a->ip, b->ip, a->family == 4 ? 2 : 4) == 0;
}
