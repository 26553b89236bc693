#include "network/tun/offload.h"

#include <string.h>

#include "base/error.h"
#include "network/ip/checksum.h"
#include "network/ip/ip.h"

static uint16_t native16(const uint8_t *p)
{
    uint16_t v;
    memcpy(&v, p, 2);
    return v;
}

mvpn_vnet mvpn_vnet_decode(const uint8_t in[static MVPN_VNET_HEADER])
{
    return (mvpn_vnet){
        .flags = in[0],
        .gso_type = in[1],
        .hdr_len = native16(in + 2),
        .gso_size = native16(in + 4),
        .csum_start = native16(in + 6),
        .csum_offset = native16(in + 8),
    };
}

void mvpn_vnet_encode(const mvpn_vnet *h, uint8_t out[static MVPN_VNET_HEADER])
{
    out[0] = h->flags;
    out[1] = h->gso_type;
    memcpy(out + 2, &h->hdr_len, 2);
    memcpy(out + 4, &h->gso_size, 2);
    memcpy(out + 6, &h->csum_start, 2);
    memcpy(out + 8, &h->csum_offset, 2);
}

/* --- split --- */

/*
 * Finish a checksum that the kernel left to the device: the field holds the pseudo header's sum,
 * and everything from csum_start on is still to be added. (virtio 1.2 §5.1.6.2)
 */
static int complete_checksum(uint8_t *p, size_t n, const mvpn_vnet *h, bool udp)
{
    size_t field = (size_t)h->csum_start + h->csum_offset;
    if (h->csum_start >= n || field + 2 > n) {
        return MVPN_E_FORMAT;
    }
    uint16_t check = mvpn_csum_finish(mvpn_csum_add(0, p + h->csum_start, n - h->csum_start));
    mvpn_store16(p + field, check == 0 && udp ? 0xffff : check);
    return 0;
}

static int split_single(mvpn_packet_pool *pool, const uint8_t *in, size_t n, const mvpn_vnet *h,
                        mvpn_packet_queue *queue, uint32_t *ret_dropped)
{
    mvpn_ip ip;
    if (mvpn_ip_parse(in, n, &ip) != 0) {
        return MVPN_E_FORMAT;
    }
    if (n > MVPN_PACKET_ROOM) {
        return MVPN_E_TOO_BIG;
    }
    mvpn_packet *packet = mvpn_packet_new(pool);
    if (packet == NULL) {
        *ret_dropped = 1;
        return 0;
    }
    memcpy(mvpn_packet_append(packet, (uint32_t)n), in, n);
    if ((h->flags & MVPN_VNET_NEEDS_CSUM) != 0 &&
        complete_checksum(packet->data, n, h, ip.protocol == MVPN_IP_UDP) != 0) {
        mvpn_packet_free(pool, packet);
        return MVPN_E_FORMAT;
    }
    if ((h->flags & (MVPN_VNET_NEEDS_CSUM | MVPN_VNET_DATA_VALID)) != 0) {
        packet->flags |= MVPN_PACKET_CSUM_OK;
    }
    mvpn_packet_queue_push(queue, packet);
    return 0;
}

/* The vnet header says TCP or UDP of this version, and the packet is of that kind. */
static int check_super(const uint8_t *p, const mvpn_ip *ip, const mvpn_vnet *h, size_t header_len)
{
    uint8_t type = h->gso_type & (uint8_t)~MVPN_VNET_GSO_ECN;
    uint8_t tcp = ip->version == 4 ? MVPN_VNET_GSO_TCPV4 : MVPN_VNET_GSO_TCPV6;
    bool is_tcp = ip->protocol == MVPN_IP_TCP;
    if (is_tcp ? type != tcp : ip->protocol != MVPN_IP_UDP || type != MVPN_VNET_GSO_UDP_L4) {
        return MVPN_E_FORMAT;
    }
    if (ip->fragment || ip->frag_header != 0 || h->gso_size == 0 || ip->total_len <= header_len) {
        return MVPN_E_FORMAT;
    }
    if (is_tcp && (p[ip->l4 + 13] & (MVPN_TCP_SYN | MVPN_TCP_RST)) != 0) {
        return MVPN_E_FORMAT;
    }
    if ((h->flags & MVPN_VNET_NEEDS_CSUM) != 0 &&
        (h->csum_start != ip->l4 || h->csum_offset != mvpn_csum_l4_at(ip->version, ip->protocol))) {
        return MVPN_E_FORMAT;
    }
    return 0;
}

/* Headers of segment `i`, which is `len` bytes long and holds all from payload offset i * gso_size.
 */
static void edit_segment(uint8_t *p, size_t len, const mvpn_ip *super, uint32_t i, uint32_t offset,
                         bool last)
{
    uint8_t *l4 = p + super->l4;
    if (super->version == 4) {
        mvpn_store16(p + 2, (uint16_t)len);
        mvpn_store16(p + 4, (uint16_t)(mvpn_load16(p + 4) + i));
        mvpn_csum_ipv4_set(p);
    } else {
        mvpn_store16(p + 4, (uint16_t)(len - MVPN_IPV6_HEADER));
    }
    if (super->protocol == MVPN_IP_TCP) {
        mvpn_store32(l4 + 4, mvpn_load32(l4 + 4) + offset);
        if (!last) {
            l4[13] &= (uint8_t) ~(MVPN_TCP_FIN | MVPN_TCP_PSH);
        }
        if (i > 0) {
            l4[13] &= (uint8_t)~MVPN_TCP_CWR;
        }
    } else {
        mvpn_store16(l4 + 4, (uint16_t)(len - super->l4));
    }
    mvpn_ip segment = {.version = super->version, .protocol = super->protocol, .l4 = super->l4};
    segment.l4_len = (uint16_t)(len - super->l4);
    mvpn_csum_transport_set(p, &segment);
}

static int split_super(mvpn_packet_pool *pool, const uint8_t *in, size_t n, const mvpn_vnet *h,
                       mvpn_packet_queue *queue, uint32_t *ret_dropped)
{
    mvpn_ip ip;
    if (mvpn_ip_parse(in, n, &ip) != 0) {
        return MVPN_E_FORMAT;
    }
    size_t header_len = (size_t)ip.l4 + MVPN_UDP_HEADER;
    if (ip.protocol == MVPN_IP_TCP && ip.has_l4) {
        header_len = (size_t)ip.l4 + (size_t)(in[ip.l4 + 12] >> 4) * 4;
    }
    if (check_super(in, &ip, h, header_len) != 0) {
        return MVPN_E_FORMAT;
    }
    uint32_t payload = (uint32_t)(n - header_len);
    if (header_len + MVPN_MIN((uint32_t)h->gso_size, payload) > MVPN_PACKET_ROOM) {
        return MVPN_E_TOO_BIG;
    }
    uint32_t count = (payload + h->gso_size - 1) / h->gso_size;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t offset = i * h->gso_size;
        uint32_t part = MVPN_MIN(payload - offset, (uint32_t)h->gso_size);
        mvpn_packet *packet = mvpn_packet_new(pool);
        if (packet == NULL) {
            *ret_dropped = count - i;
            return 0;
        }
        memcpy(mvpn_packet_append(packet, (uint32_t)header_len), in, header_len);
        memcpy(mvpn_packet_append(packet, part), in + header_len + offset, part);
        edit_segment(packet->data, packet->len, &ip, i, offset, i + 1 == count);
        packet->flags |= MVPN_PACKET_CSUM_OK;
        mvpn_packet_queue_push(queue, packet);
    }
    return 0;
}

int mvpn_tun_split(mvpn_packet_pool *pool, const uint8_t *in, size_t n, mvpn_packet_queue *queue,
                   uint32_t *ret_dropped)
{
    if (n <= MVPN_VNET_HEADER) {
        return MVPN_E_FORMAT;
    }
    uint32_t dropped = 0;
    mvpn_vnet h = mvpn_vnet_decode(in);
    in += MVPN_VNET_HEADER;
    n -= MVPN_VNET_HEADER;
    int r = h.gso_type == MVPN_VNET_GSO_NONE ? split_single(pool, in, n, &h, queue, &dropped)
                                             : split_super(pool, in, n, &h, queue, &dropped);
    if (r == 0) {
        *ret_dropped = dropped;
    }
    return r;
}

/* --- coalesce --- */

/* A flow whose last group may still grow; one whose group may not is not kept. */
typedef struct flow {
    mvpn_tun_group *group; /* NULL: unused */
    const uint8_t *first;  /* the group's first packet */
    uint32_t next_seq;     /* TCP */
} flow;

typedef struct candidate {
    const uint8_t *p;
    mvpn_ip ip;
    uint16_t header_len;
    uint16_t payload_len;
    bool joins; /* may be part of a super-packet at all */
} candidate;

static bool tcp_may_join(const candidate *c)
{
    uint8_t flags = c->ip.tcp_flags;
    /* SYN, RST, URG and CWR mean something at their own place in the stream. */
    return (flags & MVPN_TCP_ACK) != 0 &&
           (flags & (MVPN_TCP_SYN | MVPN_TCP_RST | MVPN_TCP_URG | MVPN_TCP_CWR)) == 0;
}

static candidate examine(const mvpn_packet *packet, bool uso)
{
    candidate c = {.p = packet->data};
    const mvpn_ip *ip = &c.ip;
    if (mvpn_ip_parse(packet->data, packet->len, &c.ip) != 0 || ip->fragment || ip->options ||
        ip->frag_header != 0) {
        return c;
    }
    if (ip->protocol == MVPN_IP_TCP) {
        c.header_len = (uint16_t)(ip->l4 + (c.p[ip->l4 + 12] >> 4) * 4);
        c.joins = tcp_may_join(&c);
    } else if (ip->protocol == MVPN_IP_UDP) {
        c.header_len = (uint16_t)(ip->l4 + MVPN_UDP_HEADER);
        /* Segments of a super-packet get checksums: not what a sender without them meant. */
        c.joins = uso && mvpn_load16(c.p + ip->l4 + 6) != 0;
    } else {
        return c;
    }
    c.payload_len = (uint16_t)(packet->len - c.header_len);
    c.joins = c.joins && c.payload_len > 0 &&
              ((packet->flags & MVPN_PACKET_CSUM_OK) != 0 || mvpn_csum_transport_ok(c.p, ip));
    return c;
}

/* Same protocol, addresses and ports. */
static bool is_same_flow(const flow *f, const candidate *c)
{
    const mvpn_tun_group *g = f->group;
    if (g == NULL || g->version != c->ip.version || g->protocol != c->ip.protocol) {
        return false;
    }
    size_t at = mvpn_ip_src_at(&c->ip), n = mvpn_ip_addr_len(&c->ip) * 2;
    return memcmp(f->first + at, c->p + at, n) == 0 &&
           memcmp(f->first + g->l4, c->p + c->ip.l4, 4) == 0;
}

/* The IP headers differ in nothing that a cut super-packet would not restore. */
static bool ip_headers_match(const flow *f, const candidate *c)
{
    const uint8_t *a = f->first, *b = c->p;
    if (c->ip.version == 6) {
        return mvpn_load32(a) == mvpn_load32(b) && a[7] == b[7]; /* class, label; hop limit */
    }
    if (a[1] != b[1] || a[8] != b[8] || mvpn_load16(a + 6) != mvpn_load16(b + 6)) {
        return false;
    }
    /* Without DF the id matters to a later fragmentation; the kernel will count it up. */
    uint16_t expect = (uint16_t)(mvpn_load16(a + 4) + f->group->packets.count);
    return c->ip.df || mvpn_load16(b + 4) == expect;
}

static bool tcp_headers_match(const flow *f, const candidate *c)
{
    const uint8_t *a = f->first + f->group->l4, *b = c->p + c->ip.l4;
    const uint8_t last_only = MVPN_TCP_FIN | MVPN_TCP_PSH;
    return mvpn_load32(b + 4) == f->next_seq && mvpn_load32(a + 8) == mvpn_load32(b + 8) &&
           a[12] == b[12] && ((a[13] ^ b[13]) & ~last_only) == 0 &&
           mvpn_load16(a + 14) == mvpn_load16(b + 14) && /* window */
           memcmp(a + MVPN_TCP_HEADER, b + MVPN_TCP_HEADER,
                  (size_t)f->group->header_len - f->group->l4 - MVPN_TCP_HEADER) == 0;
}

static bool can_join(const flow *f, const candidate *c)
{
    const mvpn_tun_group *g = f->group;
    return c->joins && g->header_len == c->header_len && c->payload_len <= g->gso_size &&
           g->packets.count < MVPN_TUN_GROUP_PACKETS &&
           g->len + c->payload_len <= MVPN_TUN_GROUP_BYTES && ip_headers_match(f, c) &&
           (c->ip.protocol == MVPN_IP_UDP || tcp_headers_match(f, c));
}

static void add_range(mvpn_tun_group *g, const uint8_t *p, size_t n)
{
    g->ranges[g->range_count++] = mvpn_bytes_of(p, n);
}

static void start_group(mvpn_tun_group *g, mvpn_packet *packet, const candidate *c)
{
    mvpn_packet_queue_init(&g->packets);
    g->len = packet->len;
    g->range_count = 0;
    g->l4 = c->ip.l4;
    g->header_len = c->header_len;
    g->gso_size = c->payload_len;
    g->version = c->ip.version;
    g->protocol = c->ip.protocol;
    g->tcp_flags = c->ip.tcp_flags;
    memset(g->vnet, 0, sizeof(g->vnet));
    add_range(g, g->vnet, sizeof(g->vnet));
    add_range(g, packet->data, packet->len);
    mvpn_packet_queue_push(&g->packets, packet);
}

/* The packet just added is the last: it is short, or asks to be delivered at once. */
static bool ends_group(const mvpn_tun_group *g, const candidate *c)
{
    return !c->joins || c->payload_len < g->gso_size ||
           (c->ip.tcp_flags & (MVPN_TCP_FIN | MVPN_TCP_PSH)) != 0;
}

static void join_group(flow *f, mvpn_packet *packet, const candidate *c)
{
    mvpn_tun_group *g = f->group;
    add_range(g, packet->data + c->header_len, c->payload_len);
    g->len += c->payload_len;
    g->tcp_flags |= c->ip.tcp_flags;
    mvpn_packet_queue_push(&g->packets, packet);
    f->next_seq += c->payload_len;
    if (ends_group(g, c)) {
        f->group = NULL;
    }
}

/* Turn the first packet's headers into those of the whole. */
static void finish_group(mvpn_tun_group *g)
{
    if (g->packets.count < 2) {
        return; /* goes out as it came in; the vnet header is all zero */
    }
    bool tcp = g->protocol == MVPN_IP_TCP;
    uint8_t *p = MVPN_CONTAINER_OF(g->packets.head.next, mvpn_packet, link)->data;
    uint8_t *l4 = p + g->l4;
    uint32_t l4_len = g->len - g->l4;
    if (g->version == 4) {
        mvpn_store16(p + 2, (uint16_t)g->len);
        mvpn_csum_ipv4_set(p);
    } else {
        mvpn_store16(p + 4, (uint16_t)(g->len - MVPN_IPV6_HEADER));
    }
    if (tcp) {
        l4[13] = g->tcp_flags;
    } else {
        mvpn_store16(l4 + 4, (uint16_t)l4_len);
    }
    mvpn_vnet h = {.flags = MVPN_VNET_NEEDS_CSUM,
                   .hdr_len = g->header_len,
                   .gso_size = g->gso_size,
                   .csum_start = g->l4,
                   .csum_offset = (uint16_t)mvpn_csum_l4_at(g->version, g->protocol)};
    h.gso_type = !tcp              ? MVPN_VNET_GSO_UDP_L4
                 : g->version == 4 ? MVPN_VNET_GSO_TCPV4
                                   : MVPN_VNET_GSO_TCPV6;
    mvpn_vnet_encode(&h, g->vnet);
    uint64_t pseudo =
        mvpn_csum_pseudo(g->version, p + (g->version == 4 ? 12 : 8), g->protocol, l4_len);
    mvpn_store16(l4 + h.csum_offset, mvpn_csum_fold(pseudo));
}

typedef struct flow_table {
    flow flows[MVPN_TUN_FLOWS];
    size_t next; /* place of the next new flow: that of the one kept longest */
} flow_table;

static flow *find_flow(flow_table *t, const candidate *c)
{
    for (size_t i = 0; i < MVPN_TUN_FLOWS; i++) {
        if (is_same_flow(&t->flows[i], c)) {
            return &t->flows[i];
        }
    }
    return NULL;
}

/* Keep the flow whose group has just begun, unless it cannot grow. */
static void keep_flow(flow_table *t, flow *f, mvpn_tun_group *g, const candidate *c)
{
    if (ends_group(g, c)) {
        if (f != NULL) {
            f->group = NULL;
        }
        return;
    }
    if (f == NULL) {
        f = &t->flows[t->next];
        t->next = (t->next + 1) % MVPN_TUN_FLOWS;
    }
    *f = (flow){.group = g, .first = c->p};
    if (c->ip.protocol == MVPN_IP_TCP) {
        f->next_seq = mvpn_load32(c->p + c->ip.l4 + 4) + c->payload_len;
    }
}

size_t mvpn_tun_coalesce(mvpn_packet_queue *in, bool uso, mvpn_tun_group *groups, size_t max)
{
    flow_table table = {.next = 0};
    size_t count = 0;
    /*
     * Groups leave in the order in which they began. A packet that cannot join its flow's group
     * begins a later one, and the former takes no more: so no flow is ever out of order.
     */
    while (count < max && in->count > 0) {
        mvpn_packet *packet = mvpn_packet_queue_pop(in);
        candidate c = examine(packet, uso);
        if (c.header_len == 0) {
            /* Neither whole TCP nor UDP. It may be a fragment of any flow: none may pass it. */
            table = (flow_table){.next = 0};
            start_group(&groups[count++], packet, &c);
            continue;
        }
        flow *f = find_flow(&table, &c);
        if (f != NULL && can_join(f, &c)) {
            join_group(f, packet, &c);
            continue;
        }
        mvpn_tun_group *g = &groups[count++];
        start_group(g, packet, &c);
        keep_flow(&table, f, g, &c);
    }
    for (size_t i = 0; i < count; i++) {
        finish_group(&groups[i]);
    }
    return count;
}

void mvpn_tun_group_done(mvpn_tun_group *group, mvpn_packet_pool *pool)
{
    mvpn_packet_queue_clear(&group->packets, pool);
    group->range_count = 0;
}
