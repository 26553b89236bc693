#include "core/client_names.h"

#include <string.h>

#include "base/bytes.h"
#include "network/ip/checksum.h"
#include "network/ip/inner.h"
#include "network/ip/ip.h"

#define DNS_PORT 53
#define DNS_HEADER 12 /* RFC 1035 §4.1.1 */
#define DNS_QR 0x8000
#define DNS_RD 0x0100
#define DNS_RCODE 0x000f
#define DNS_SERVFAIL 2
#define TYPE_SOA 6
#define CLASS_IN 1
/* The name "" and what is asked of it. */
#define QUESTION 5
/* Above what Linux takes by default (net.ipv4.ip_local_port_range): no packet of the host's own. */
#define PORT_FIRST 61000
/* Resolvers of exits ask elsewhere: the first answer takes longest. */
#define PAUSE_FIRST MVPN_MS(750)
#define PAUSE_MAX MVPN_S(30)
/* So many unanswered: after more than two seconds. */
#define TRIES_ENOUGH 3

void client_names_start(client_names *names, mvpn_rng *rng, mvpn_time now)
{
    *names = (client_names){
        .is_asking = true,
        .port = (uint16_t)(PORT_FIRST + mvpn_rng_below(rng, 65536 - PORT_FIRST)),
        .id = (uint16_t)mvpn_rng_u32(rng),
        .next = now,
    };
}

bool client_names_ask(client_names *names, const mvpn_addr *from, const mvpn_addr *to,
                      mvpn_packet *packet, mvpn_time now)
{
    const uint32_t udp = MVPN_UDP_HEADER + DNS_HEADER + QUESTION;
    mvpn_ip ip;
    if (!names->is_asking || now < names->next) {
        return false;
    }
    mvpn_time pause = PAUSE_FIRST << MVPN_MIN(names->tries, 6u);
    names->tries++;
    names->next = now + MVPN_MIN(pause, PAUSE_MAX);
    uint8_t *p = mvpn_packet_append(packet, MVPN_IPV4_HEADER + udp);
    memset(p, 0, packet->len);
    p[0] = 0x45;
    mvpn_store16(p + 2, (uint16_t)packet->len);
    p[8] = 64;
    p[9] = MVPN_IP_UDP;
    memcpy(p + 12, from->ip, 4);
    memcpy(p + 16, to->ip, 4);
    mvpn_csum_ipv4_set(p);
    p += MVPN_IPV4_HEADER;
    mvpn_store16(p, names->port);
    mvpn_store16(p + 2, DNS_PORT);
    mvpn_store16(p + 4, (uint16_t)udp);
    p += MVPN_UDP_HEADER;
    mvpn_store16(p, names->id);
    mvpn_store16(p + 2, DNS_RD);
    mvpn_store16(p + 4, 1);
    mvpn_store16(p + DNS_HEADER + 1, TYPE_SOA);
    mvpn_store16(p + DNS_HEADER + 3, CLASS_IN);
    if (mvpn_ip_parse(packet->data, packet->len, &ip) == 0) {
        mvpn_csum_transport_set(packet->data, &ip);
    }
    return true;
}

bool client_names_is_unanswered(const client_names *names)
{
    return names->is_asking && names->tries > TRIES_ENOUGH;
}

enum client_names_verdict client_names_look(client_names *names, const mvpn_packet *packet)
{
    mvpn_ip ip;
    if (!names->is_asking || mvpn_ip_parse(packet->data, packet->len, &ip) != 0 ||
        ip.version != 4 || ip.protocol != MVPN_IP_UDP || !ip.has_l4 || ip.fragment ||
        ip.dst_port != names->port || ip.src_port != DNS_PORT ||
        ip.l4_len < MVPN_UDP_HEADER + DNS_HEADER || memcmp(ip.src, mvpn_inner_gateway(4), 4) != 0) {
        return CLIENT_NAMES_OTHER;
    }
    const uint8_t *p = packet->data + ip.l4 + MVPN_UDP_HEADER;
    uint16_t flags = mvpn_load16(p + 2);
    if (mvpn_load16(p) != names->id || (flags & DNS_QR) == 0) {
        return CLIENT_NAMES_OTHER;
    }
    if ((flags & DNS_RCODE) == DNS_SERVFAIL) {
        return CLIENT_NAMES_FAIL;
    }
    names->is_asking = false;
    return CLIENT_NAMES_RESOLVE;
}
