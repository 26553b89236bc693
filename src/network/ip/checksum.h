/*
 * Internet checksums (RFC 1071), their incremental update (RFC 1624), and the transport checksums
 * with pseudo headers. A running sum is an opaque 64-bit value in the machine's byte order: start
 * with 0, add byte ranges (all but the last of even length), fold at the end.
 */
#ifndef MVPN_NETWORK_IP_CHECKSUM_H
#define MVPN_NETWORK_IP_CHECKSUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mvpn_ip;

/** Add `n` bytes to a running sum. An odd byte at the end counts as if a zero followed. */
uint64_t mvpn_csum_add(uint64_t sum, const uint8_t *p, size_t n);

/** Add one 16-bit value in host order. */
uint64_t mvpn_csum_add16(uint64_t sum, uint16_t v);

/** The 16-bit one's complement sum in host order, not yet complemented. */
uint16_t mvpn_csum_fold(uint64_t sum);

/** The checksum field, host order: complement of the folded sum. */
static inline uint16_t mvpn_csum_finish(uint64_t sum)
{
    return (uint16_t)~mvpn_csum_fold(sum);
}

/**
 * What checksum field `check` becomes when `n` bytes (even, at an even offset of the covered range)
 * change from `old` to `new`: HC' = ~(~HC + ~m + m'). (RFC 1624 §3, eqn. 3)
 */
uint16_t mvpn_csum_update(uint16_t check, const uint8_t *old, const uint8_t *new, size_t n);
/** The same for one 16-bit field in host order. */
uint16_t mvpn_csum_update16(uint16_t check, uint16_t old, uint16_t new);

/**
 * Sum of the pseudo header: `addrs` are source and destination as they stand in the packet (8 or 32
 * bytes by `version`). (RFC 9293 §3.1, RFC 8200 §8.1)
 */
uint64_t mvpn_csum_pseudo(unsigned version, const uint8_t *addrs, uint8_t protocol,
                          uint32_t l4_len);

/** Where the transport checksum stands, relative to the transport header; 0 if there is none known.
 */
size_t mvpn_csum_l4_at(unsigned version, uint8_t protocol);

/**
 * True if the transport checksum of a whole (unfragmented) packet is right. UDP over IPv4 without a
 * checksum is right, over IPv6 it is wrong. Protocols without a known checksum, and fragments, are
 * right: nothing can be said against them.
 */
bool mvpn_csum_transport_ok(const uint8_t *packet, const struct mvpn_ip *ip);

/** Compute and store the transport checksum of a whole packet; nothing for other protocols. */
void mvpn_csum_transport_set(uint8_t *packet, const struct mvpn_ip *ip);

/** Compute and store the checksum of the IPv4 header at `packet`. */
void mvpn_csum_ipv4_set(uint8_t *packet);

#endif
