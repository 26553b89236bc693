/*
 * TUN offloads: a device opened with IFF_VNET_HDR hands over and takes super-packets of up to 64
 * KiB, each behind a virtio_net_hdr that tells how to cut it (virtio 1.2 §5.1.6; Linux uapi
 * linux/virtio_net.h). One system call then moves some 45 packets.
 *
 *   read  -> mvpn_tun_split    -> single packets with complete checksums
 *   write <- mvpn_tun_coalesce <- single packets; payloads are gathered, never copied
 */
#ifndef MVPN_NETWORK_TUN_OFFLOAD_H
#define MVPN_NETWORK_TUN_OFFLOAD_H

#include <stdbool.h>

#include "base/bytes.h"
#include "base/packet.h"

/* virtio_net_hdr without num_buffers; the kernel's own byte order, as TUN uses by default. */
#define MVPN_VNET_HEADER 10

#define MVPN_VNET_NEEDS_CSUM 1
#define MVPN_VNET_DATA_VALID 2

#define MVPN_VNET_GSO_NONE 0
#define MVPN_VNET_GSO_TCPV4 1
#define MVPN_VNET_GSO_TCPV6 4
#define MVPN_VNET_GSO_UDP_L4 5
#define MVPN_VNET_GSO_ECN 0x80

typedef struct mvpn_vnet {
    uint8_t flags;    /* MVPN_VNET_NEEDS_CSUM, MVPN_VNET_DATA_VALID */
    uint8_t gso_type; /* MVPN_VNET_GSO_* */
    uint16_t hdr_len; /* bytes before the payload; a hint only */
    uint16_t gso_size;
    uint16_t csum_start;  /* from the IP header */
    uint16_t csum_offset; /* from csum_start */
} mvpn_vnet;

mvpn_vnet mvpn_vnet_decode(const uint8_t in[static MVPN_VNET_HEADER]);
void mvpn_vnet_encode(const mvpn_vnet *h, uint8_t out[static MVPN_VNET_HEADER]);

/**
 * Cut what one read() from the TUN device gave (`n` bytes: vnet header and packet) into IP packets
 * of `pool`, appended to `queue`: lengths, IPv4 id (counted up), TCP sequence and flags (FIN and
 * PSH only on the last, CWR only on the first) and all checksums as the kernel's own segmentation
 * makes them.
 *
 * `ret_dropped` is set to the number of packets lost because the pool was used up (the first ones
 * are in the queue). Returns 0, or with nothing emitted: MVPN_E_FORMAT (drop), MVPN_E_TOO_BIG
 * (drop: a segment is larger than MVPN_PACKET_ROOM).
 */
MVPN_WUR int mvpn_tun_split(mvpn_packet_pool *pool, const uint8_t *in, size_t n,
                            mvpn_packet_queue *queue, uint32_t *ret_dropped);

/* What one write carries: 64 packets of 1 KB fill the 64 KiB that IP can count. */
#define MVPN_TUN_GROUP_PACKETS 64
#define MVPN_TUN_GROUP_BYTES 65535
/* Flows that are gathered at a time: a batch of a few hundred packets holds few bulk flows. */
#define MVPN_TUN_FLOWS 8

/** One write: the byte ranges in order are vnet header and IP packet. */
typedef struct mvpn_tun_group {
    mvpn_packet_queue packets; /* the group owns them: the ranges point into them */
    uint32_t len;              /* IP bytes */
    uint32_t range_count;
    mvpn_bytes ranges[1 + MVPN_TUN_GROUP_PACKETS]; /* the first points to `vnet` */
    uint8_t vnet[MVPN_VNET_HEADER];
    /* Internal: what the super-packet's headers are made from. */
    uint16_t l4, header_len, gso_size;
    uint8_t version, protocol, tcp_flags;
} mvpn_tun_group;

/**
 * Take IP packets from `in` and gather those of one TCP flow (and of one UDP flow if `uso`: the
 * kernel takes TUN_F_USO4 and TUN_F_USO6) into groups, by the rules of the kernel's own GRO: same
 * addresses, ports, TTL, TOS, DF; TCP: next sequence number, same acknowledgement, window, flags
 * and options; payloads of one size but for the last. Transport checksums are verified first,
 * unless the packet has MVPN_PACKET_CSUM_OK; what is not known to be right is passed on alone and
 * unchanged. The first packet's headers are edited in place. Packets of one flow never change their
 * order.
 *
 * Stops when `in` is empty or `max` groups are in use; what is left stays in `in`. A group may not
 * be moved in memory while it is in use. Returns the number of groups; free each with
 * mvpn_tun_group_done.
 */
size_t mvpn_tun_coalesce(mvpn_packet_queue *in, bool uso, mvpn_tun_group *groups, size_t max);

/** Give the group's packets back after the write. */
void mvpn_tun_group_done(mvpn_tun_group *group, mvpn_packet_pool *pool);

#endif
