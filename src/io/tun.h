/*
 * The TUN device: IP packets of this host in and out, in batches. With a vnet header the kernel
 * hands over TCP and UDP super-packets of up to 64 KiB, which are split into packets of the pool,
 * and takes back packets of one flow joined (network/tun/offload). What this kernel can do is found
 * out when the device is opened; without any of it packets come and go one by one.
 */
#ifndef MVPN_IO_TUN_H
#define MVPN_IO_TUN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/packet.h"
#include "io/fault.h"

#define MVPN_TUN_NAME 16 /* IFNAMSIZ */

typedef struct mvpn_tun_options {
    const char *name; /* "mvpn%d" lets the kernel choose the number; NULL with a given descriptor */
    bool use_fd;      /* `fd` is an open TUN device (an embedding program's); taken on success */
    int fd;
    bool no_offload; /* open without a vnet header */
} mvpn_tun_options;

typedef struct mvpn_tun_stats {
    uint64_t read;           /* IP packets, after splitting */
    uint64_t read_calls;     /* of which each brought one packet or super-packet */
    uint64_t read_no_packet; /* lost: the pool was empty */
    uint64_t read_bad;       /* lost: could not be split, or longer than MVPN_PACKET_ROOM */
    uint64_t written;        /* IP packets, before joining */
    uint64_t write_calls;
    uint64_t write_failed; /* lost: the kernel refused them */
} mvpn_tun_stats;

typedef struct mvpn_tun mvpn_tun;

/**
 * Make or attach to a TUN device; bring it up with io/netlink. It vanishes with mvpn_tun_close.
 * MVPN_E_CONFIG (no /dev/net/tun, no rights, name in use or bad: `fault` says what to do);
 * MVPN_E_NOMEM; MVPN_E_SYSTEM.
 */
MVPN_WUR int mvpn_tun_open(mvpn_tun **ret, const mvpn_tun_options *options, mvpn_fault *fault);
void mvpn_tun_close(mvpn_tun *tun);

/** Descriptor to poll, owned by `tun`; non-blocking. */
int mvpn_tun_fd(const mvpn_tun *tun);
/** The interface's name; "" for a given descriptor that does not tell. */
const char *mvpn_tun_name(const mvpn_tun *tun);
bool mvpn_tun_has_vnet(const mvpn_tun *tun); /* vnet header in use */
bool mvpn_tun_has_tso(const mvpn_tun *tun);
bool mvpn_tun_has_uso(const mvpn_tun *tun); /* Linux 6.2 and newer */

/**
 * Read IP packets into packets of `pool` at the end of `queue`, until there are none or at least
 * `budget` were read (a super-packet's worth may come on top). Checksums are complete.
 * Returns how many; MVPN_E_SYSTEM (fatal) if the device is gone.
 */
MVPN_WUR int mvpn_tun_read(mvpn_tun *tun, mvpn_packet_pool *pool, mvpn_packet_queue *queue,
                           unsigned budget);

/**
 * Write all IP packets of `queue` to the host and give them back to `pool`; neighbours of one flow
 * are joined. The queue is empty afterwards: what the kernel refuses is lost and counted.
 * MVPN_E_SYSTEM (fatal) if the device is gone.
 */
MVPN_WUR int mvpn_tun_write(mvpn_tun *tun, mvpn_packet_queue *queue, mvpn_packet_pool *pool);

const mvpn_tun_stats *mvpn_tun_get_stats(const mvpn_tun *tun);

#endif
