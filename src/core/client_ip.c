#include "core/client_ip.h"

#include <string.h>

#include "network/ip/icmp.h"
#include "network/ip/inner.h"
#include "network/ip/ip.h"
#include "network/ip/rewrite.h"
#include "wire/cell.h"
#include "wire/circuit.h"

void client_ip_init(client_ip *ip, mvpn_packet_pool *pool, const mvpn_addr *tun_v4,
                    const mvpn_addr *tun_v6, const mvpn_addr *gateway_v4)
{
    *ip = (client_ip){.pool = pool};
    ip->inner_v4 = mvpn_inner_client_addr(4);
    ip->inner_v6 = mvpn_inner_client_addr(6);
    ip->inner_gateway_v4 = mvpn_inner_gateway_addr(4);
    ip->gateway_v6 = mvpn_inner_gateway_addr(6);
    ip->tun_v4 = tun_v4->family == 4 ? *tun_v4 : ip->inner_v4;
    ip->tun_v6 = tun_v6->family == 6 ? *tun_v6 : ip->inner_v6;
    ip->tun_gateway_v4 = gateway_v4->family == 4 ? *gateway_v4 : ip->inner_gateway_v4;
    client_ip_set_session(ip, 0, true);
}

void client_ip_set_session(client_ip *ip, unsigned profile, bool has_v6)
{
    ip->cell_mtu = (uint32_t)mvpn_cell_room(MVPN_CLASS_FULL, profile) - MVPN_DATA_ITEM_FIXED;
    ip->has_v6 = has_v6;
}

static bool is_addr(const uint8_t *ip, const mvpn_addr *addr)
{
    return memcmp(ip, addr->ip, mvpn_addr_ip_len(addr)) == 0;
}

/* From our address, and to one host: multicast names and link-local chatter never leave (design
 * §8). */
static bool may_leave(const client_ip *ip, const mvpn_ip *p)
{
    if (!is_addr(p->src, p->version == 4 ? &ip->tun_v4 : &ip->tun_v6) ||
        mvpn_ip_is_multicast(p->version, p->dst)) {
        return false;
    }
    if (p->version == 6) {
        return !(p->dst[0] == 0xfe && (p->dst[1] & 0xc0) == 0x80);
    }
    /* In the TUN's own /24 there is the gateway alone; its broadcasts are NetBIOS and the like. */
    if (memcmp(p->dst, ip->tun_v4.ip, 3) == 0 && !is_addr(p->dst, &ip->tun_gateway_v4)) {
        return false;
    }
    return !(p->dst[0] == 169 && p->dst[1] == 254) && p->dst[0] != 127 && p->dst[0] != 0;
}

/* What an exit may bring: never what seems to come from this host or its link. */
static bool may_arrive(const client_ip *ip, const mvpn_ip *p)
{
    if (p->version == 6) {
        static const uint8_t loopback[16] = {[15] = 1};
        return is_addr(p->dst, &ip->inner_v6) && !is_addr(p->src, &ip->inner_v6) &&
               memcmp(p->src, loopback, 16) != 0 &&
               !(p->src[0] == 0xfe && (p->src[1] & 0xc0) == 0x80);
    }
    return is_addr(p->dst, &ip->inner_v4) && !is_addr(p->src, &ip->inner_v4) && p->src[0] != 127 &&
           p->src[0] != 0 && !(p->src[0] == 169 && p->src[1] == 254);
}

static void answer(client_ip *ip, int result, mvpn_packet *out, mvpn_packet_queue *answers)
{
    if (result == 0) {
        mvpn_packet_queue_push(answers, out);
    } else {
        mvpn_packet_free(ip->pool, out);
    }
}

/* What fits neither a cell nor may be cut is answered; IPv6 hosts may always send 1280 bytes. */
static bool fits(client_ip *ip, const mvpn_ip *p, mvpn_packet *packet, mvpn_packet_queue *answers)
{
    uint32_t limit = MVPN_MAX(ip->cell_mtu, (uint32_t)MVPN_IPV6_MIN_MTU);
    if (packet->len <= limit || !p->df) {
        return true;
    }
    mvpn_packet *out = mvpn_packet_new(ip->pool);
    if (out != NULL) {
        const uint8_t *from = p->version == 4 ? ip->tun_gateway_v4.ip : ip->gateway_v6.ip;
        answer(ip, mvpn_icmp_too_big(out, packet, p, from, limit), out, answers);
    }
    return false;
}

bool client_ip_from_tun(client_ip *ip, mvpn_packet *packet, mvpn_packet_queue *answers)
{
    mvpn_ip p;
    if (mvpn_ip_parse(packet->data, packet->len, &p) != 0 || !may_leave(ip, &p) ||
        !fits(ip, &p, packet, answers)) {
        goto drop;
    }
    if (p.version == 6 && !ip->has_v6) {
        mvpn_packet *out = mvpn_packet_new(ip->pool);
        if (out != NULL) { /* applications fall back to IPv4 at once */
            answer(ip,
                   mvpn_icmp_unreachable(out, packet, &p, ip->gateway_v6.ip, MVPN_ICMPV6_NO_ROUTE),
                   out, answers);
        }
        goto drop;
    }
    (void)mvpn_ip_clamp_mss(packet->data, &p, ip->cell_mtu);
    if (p.version == 4 && !mvpn_addr_ip_eq(&ip->tun_v4, &ip->inner_v4)) {
        if (mvpn_ip_rewrite_src(packet->data, &p, ip->inner_v4.ip) != 0 ||
            (is_addr(p.dst, &ip->tun_gateway_v4) &&
             mvpn_ip_rewrite_dst(packet->data, &p, ip->inner_gateway_v4.ip) != 0)) {
            goto drop;
        }
    }
    if (p.version == 6 && !mvpn_addr_ip_eq(&ip->tun_v6, &ip->inner_v6) &&
        mvpn_ip_rewrite_src(packet->data, &p, ip->inner_v6.ip) != 0) {
        goto drop;
    }
    return true;
drop:
    mvpn_packet_free(ip->pool, packet);
    return false;
}

void client_ip_to_tun(client_ip *ip, mvpn_packet *packet, mvpn_packet_queue *tun_out)
{
    mvpn_ip p;
    if (mvpn_ip_parse(packet->data, packet->len, &p) != 0 || !may_arrive(ip, &p)) {
        goto drop;
    }
    (void)mvpn_ip_clamp_mss(packet->data, &p, ip->cell_mtu);
    if (p.version == 4 && !mvpn_addr_ip_eq(&ip->tun_v4, &ip->inner_v4)) {
        if (mvpn_ip_rewrite_dst(packet->data, &p, ip->tun_v4.ip) != 0 ||
            (is_addr(p.src, &ip->inner_gateway_v4) &&
             mvpn_ip_rewrite_src(packet->data, &p, ip->tun_gateway_v4.ip) != 0)) {
            goto drop;
        }
    }
    if (p.version == 6 && !mvpn_addr_ip_eq(&ip->tun_v6, &ip->inner_v6) &&
        mvpn_ip_rewrite_dst(packet->data, &p, ip->tun_v6.ip) != 0) {
        goto drop;
    }
    mvpn_packet_queue_push(tun_out, packet);
    return;
drop:
    mvpn_packet_free(ip->pool, packet);
}
