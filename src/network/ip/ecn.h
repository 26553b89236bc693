/*
 * Explicit congestion notification in IP packets (RFC 3168): a queue that stands marks packets of
 * flows that understand it, instead of dropping them.
 */
#ifndef MVPN_NETWORK_IP_ECN_H
#define MVPN_NETWORK_IP_ECN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** True if the IP packet, whole or its first part, is of a transport that understands marks:
 * ECT(0), ECT(1), or marked already (CE). */
bool mvpn_ecn_is_capable(const uint8_t *packet, size_t n);

/** Mark it (CE), and keep the IPv4 header checksum right. Nothing happens to a packet that is not
 * capable. (RFC 3168 §5) */
void mvpn_ecn_mark(uint8_t *packet, size_t n);

#endif
