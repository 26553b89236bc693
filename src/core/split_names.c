#include "core/split_names.h"

#include <string.h>

#include "exit/dns_message.h"
#include "exit/policy.h"
#include "network/ip/ip.h"

#define DNS_PORT 53
#define LABEL_MAX 63

static bool is_name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

bool mvpn_split_domain_read(const char *text, char ret[static MVPN_SPLIT_DOMAIN_MAX + 1])
{
    char name[MVPN_SPLIT_DOMAIN_MAX + 1];
    size_t n = strlen(text), label = 0;
    n -= n > 0 && text[n - 1] == '.';
    if (n == 0 || n > MVPN_SPLIT_DOMAIN_MAX) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        char c = text[i];
        name[i] = (char)(c >= 'A' && c <= 'Z' ? c + 32 : c);
        label = c == '.' ? 0 : label + 1;
        bool is_empty = c == '.' && (i == 0 || text[i - 1] == '.');
        if (is_empty || label > LABEL_MAX || (c != '.' && !is_name_char(name[i]))) {
            return false;
        }
    }
    name[n] = '\0';
    memcpy(ret, name, n + 1);
    return true;
}

/* As text. What no host name has becomes what no domain of ours has. */
static size_t text_of(const uint8_t *name, size_t len, char out[static MVPN_DNS_NAME_MAX + 1])
{
    size_t n = 0;
    for (size_t at = 0; at < len && name[at] != 0; at += name[at] + 1u) {
        if (n > 0) {
            out[n++] = '.';
        }
        for (size_t i = 1; i <= name[at]; i++) {
            char c = (char)name[at + i];
            out[n++] = is_name_char(c) ? c : '?';
        }
    }
    out[n] = '\0';
    return n;
}

bool mvpn_split_domains_have(const mvpn_split_domains *domains, const uint8_t *name, size_t n)
{
    char text[MVPN_DNS_NAME_MAX + 1];
    n = text_of(name, n, text);
    for (unsigned i = 0; i < domains->count; i++) {
        size_t len = strlen(domains->names[i]);
        if (n >= len && memcmp(text + n - len, domains->names[i], len) == 0 &&
            (n == len || text[n - len - 1] == '.')) {
            return true;
        }
    }
    return false;
}

static bool is_from(const mvpn_ip *ip, const mvpn_addr *resolver)
{
    return ip->version == resolver->family &&
           memcmp(ip->src, resolver->ip, mvpn_addr_ip_len(resolver)) == 0;
}

unsigned mvpn_split_names_read(const mvpn_split_domains *domains, mvpn_bytes packet,
                               const mvpn_addr *resolver_v4, const mvpn_addr *resolver_v6,
                               mvpn_addr ret[static MVPN_SPLIT_ANSWER_MAX])
{
    mvpn_ip ip;
    mvpn_dns_answer_info info;
    bool is_udp = packet.n >= MVPN_IPV4_HEADER &&
                  packet.p[packet.p[0] >> 4 == 4 ? 9 : 6] == MVPN_IP_UDP; /* most are not */
    if (!is_udp || mvpn_ip_parse(packet.p, packet.n, &ip) != 0 || ip.protocol != MVPN_IP_UDP ||
        !ip.has_l4 || ip.fragment || ip.src_port != DNS_PORT || ip.l4_len <= MVPN_UDP_HEADER ||
        !(is_from(&ip, resolver_v4) || is_from(&ip, resolver_v6))) {
        return 0;
    }
    const uint8_t *message = packet.p + ip.l4 + MVPN_UDP_HEADER;
    uint32_t len = (uint32_t)ip.l4_len - MVPN_UDP_HEADER;
    if (mvpn_dns_answer_read(message, len, &info) != 0 || (info.flags & MVPN_DNS_TC) != 0 ||
        !mvpn_split_domains_have(domains, info.question.bytes, info.question.len)) {
        return 0;
    }
    unsigned found = mvpn_dns_answer_addresses(message, len, ret, MVPN_SPLIT_ANSWER_MAX);
    unsigned kept = 0;
    for (unsigned i = 0; i < found; i++) {
        if (mvpn_policy_is_public(ret[i].family, ret[i].ip)) {
            ret[kept++] = ret[i];
        }
    }
    return kept;
}

static unsigned find_lease(const mvpn_split_leases *leases, const mvpn_addr *addr)
{
    unsigned at = 0;
    while (at < leases->count && !mvpn_addr_ip_eq(&leases->at[at].addr, addr)) {
        at++;
    }
    return at;
}

static unsigned find_first(const mvpn_split_leases *leases)
{
    unsigned first = 0;
    for (unsigned i = 1; i < leases->count; i++) {
        first = leases->at[i].until < leases->at[first].until ? i : first;
    }
    return first;
}

static void set_lease(mvpn_split_leases *leases, unsigned at, const mvpn_addr *addr,
                      mvpn_time until)
{
    leases->count += at == leases->count;
    leases->at[at].addr = *addr;
    leases->at[at].addr.port = 0;
    leases->at[at].until = until;
}

bool mvpn_split_leases_add(mvpn_split_leases *leases, const mvpn_addr *addr, mvpn_time now)
{
    unsigned at = find_lease(leases, addr);
    if (at < leases->count && leases->at[at].until > now + MVPN_SPLIT_LEASE / 2) {
        return false;
    }
    set_lease(leases, at < MVPN_SPLIT_ADDRESSES_MAX ? at : find_first(leases), addr,
              now + MVPN_SPLIT_LEASE);
    return true;
}

bool mvpn_split_leases_expire(mvpn_split_leases *leases, mvpn_time now)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < leases->count; i++) {
        if (leases->at[i].until > now) {
            leases->at[kept++] = leases->at[i];
        }
    }
    bool has_ended = kept < leases->count;
    leases->count = kept;
    return has_ended;
}

enum mvpn_split_hold mvpn_split_leases_hold(mvpn_split_leases *leases, const mvpn_addr *addr,
                                            mvpn_time now, mvpn_time step)
{
    unsigned at = find_lease(leases, addr);
    /* An answer that does not count comes a step after one that does, at most. */
    const mvpn_time hold = MVPN_SPLIT_HOLD + MVPN_SPLIT_HOLD_STEP;
    if (at < leases->count && leases->at[at].until > now + hold - step) {
        return MVPN_SPLIT_HELD;
    }
    if (at == MVPN_SPLIT_ADDRESSES_MAX) {
        at = find_first(leases);
        if (leases->at[at].until > now) {
            return MVPN_SPLIT_FULL;
        }
    }
    set_lease(leases, at, addr, now + hold);
    return MVPN_SPLIT_TAKEN;
}

void mvpn_split_leases_inherit(mvpn_split_leases *leases, const mvpn_addr *addr, mvpn_time now)
{
    unsigned at = find_lease(leases, addr);
    if (at == leases->count && at < MVPN_SPLIT_ADDRESSES_MAX) {
        set_lease(leases, at, addr, now + MVPN_SPLIT_LEASE);
    }
}
