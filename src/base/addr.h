/*
 * Network addresses (IPv4 or IPv6 with a port) as plain values, and the questions the cores ask of
 * them: which block they lie in, whether they are globally routable.
 */
#ifndef MVPN_BASE_ADDR_H
#define MVPN_BASE_ADDR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"

typedef struct mvpn_addr {
    uint8_t family; /* 0 none, 4 or 6 */
    uint16_t port;  /* host order */
    uint8_t ip[16]; /* network order; IPv4 in the first four bytes, the rest zero */
} mvpn_addr;

#define MVPN_ADDR_STRLEN 56

static inline size_t mvpn_addr_ip_len(const mvpn_addr *a)
{
    return a->family == 4 ? 4 : a->family == 6 ? 16 : 0;
}

bool mvpn_addr_eq(const mvpn_addr *a, const mvpn_addr *b);
bool mvpn_addr_ip_eq(const mvpn_addr *a, const mvpn_addr *b);

/**
 * Parse "1.2.3.4:443" or "[2a10::1]:443"; without ":port" (and then without brackets) the port is
 * 0. Returns MVPN_E_FORMAT on anything else; `*ret` is untouched then.
 */
MVPN_WUR int mvpn_addr_parse(const char *text, mvpn_addr *ret);

/** Write the address as mvpn_addr_parse reads it. For configuration and for relays' own addresses.
 */
const char *mvpn_addr_format(const mvpn_addr *a, char out[static MVPN_ADDR_STRLEN]);

/**
 * Write what a log may hold of an address that may be a user's: its family alone ("[IPv4
 * address]").
 */
const char *mvpn_addr_scrub(const mvpn_addr *a);

/**
 * True if the address can be reached from the public internet: not unspecified, loopback, private,
 * link-local, shared (RFC 6598), documentation, benchmark, multicast, reserved; IPv4-mapped and
 * 6to4 or NAT64 forms are judged by the IPv4 address inside. (RFC 6890 registries)
 */
bool mvpn_addr_is_public(const mvpn_addr *a);

/** True for ::ffff:a.b.c.d: an IPv4 address in disguise, which would escape rules about IPv4
 * blocks. */
bool mvpn_addr_is_mapped(const mvpn_addr *a);

/** True if both lie in one /16 (IPv4) or /32 (IPv6); false for different families. */
bool mvpn_addr_same_block(const mvpn_addr *a, const mvpn_addr *b);

/** True if the first `bits` bits of `ip` and `net` (each `ip_len` bytes) are equal. */
bool mvpn_ip_in_prefix(const uint8_t *ip, const uint8_t *net, size_t ip_len, unsigned bits);

#endif
