#include "network/ip/ecn.h"

#include "base/bytes.h"
#include "network/ip/checksum.h"
#include "network/ip/ip.h"

/* The two lowest bits of IPv4's second byte, and of IPv6's traffic class. (RFC 3168 §5) */
#define ECN_NOT_ECT 0
#define ECN_CE 3
/* Where IPv4 has its header checksum, in which those bits count. */
#define IPV4_CHECKSUM_AT 10

static unsigned ecn_of(const uint8_t *packet, size_t n)
{
    if (n >= MVPN_IPV4_HEADER && packet[0] >> 4 == 4) {
        return packet[1] & ECN_CE;
    }
    if (n >= MVPN_IPV6_HEADER && packet[0] >> 4 == 6) {
        return (packet[1] >> 4) & ECN_CE;
    }
    return ECN_NOT_ECT;
}

bool mvpn_ecn_is_capable(const uint8_t *packet, size_t n)
{
    return ecn_of(packet, n) != ECN_NOT_ECT;
}

void mvpn_ecn_mark(uint8_t *packet, size_t n)
{
    if (!mvpn_ecn_is_capable(packet, n)) {
        return;
    }
    if (packet[0] >> 4 == 6) {
        packet[1] |= ECN_CE << 4;
        return;
    }
    uint16_t old = mvpn_load16(packet);
    packet[1] |= ECN_CE;
    mvpn_store16(
        packet + IPV4_CHECKSUM_AT,
        mvpn_csum_update16(mvpn_load16(packet + IPV4_CHECKSUM_AT), old, mvpn_load16(packet)));
}
