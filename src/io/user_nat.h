/*
 * An exit without root: what leaves the network is carried on by ordinary sockets of this process,
 * in place of a TUN device, the kernel's forwarding and its NAT. Packets of sessions come here when
 * the exit's policy has let them pass (exit/policy.h).
 *
 *   TCP   SYN -> connect() -> the stack answers (io/netstack.h), bytes are passed on both ways
 *                         \-> ICMP unreachable, by what connect() says
 *   UDP   a connected socket for each pair of ends; datagrams of one packet, unfragmented; "port
 *         unreachable" is passed on
 *   echo  (ICMP, ICMPv6) a ping socket for each client's identifier and destination, where
 *         net.ipv4.ping_group_range admits this process
 *   all else, and what is too much: dropped, or "prohibited"
 *
 * The kernel would not let a forwarded packet at this host's own services: they are refused here by
 * the host's addresses, as they were at the start.
 */
#ifndef MVPN_IO_USER_NAT_H
#define MVPN_IO_USER_NAT_H

#include "io/config.h"
#include "io/fault.h"
#include "io/loop.h"
#include "io/netstack.h"

typedef struct mvpn_user_nat mvpn_user_nat;

/* Each is a descriptor: what a process gets without asking (ulimit -n: 1024 of a soft limit, raised
 * to the hard one) also holds the rest. */
#define MVPN_USER_NAT_FLOWS_MAX 2048
/* Of one session: one client cannot take all. */
#define MVPN_USER_NAT_SESSION_MAX 512
typedef struct mvpn_user_nat_options {
    mvpn_loop *loop;
    mvpn_packet_pool *pool; /* the engine's */
    const mvpn_addr *bind;  /* where sockets leave from, ports not looked at; one of a family, or
                               none: the kernel's choice */
    size_t bind_count;
    const mvpn_config_nat_map *map; /* copied */
    size_t map_count;
} mvpn_user_nat_options;

typedef struct mvpn_user_nat_stats {
    unsigned flows; /* now */
    uint64_t opened, failed, refused;
} mvpn_user_nat_stats;

/** MVPN_E_STATE: there is an IP stack in this process already; MVPN_E_NOMEM, MVPN_E_SYSTEM. */
MVPN_WUR int mvpn_user_nat_new(const mvpn_user_nat_options *options, mvpn_user_nat **ret,
                               mvpn_fault *fault);
/** Connections are reset. NULL is allowed. */
void mvpn_user_nat_free(mvpn_user_nat *nat);

/** As a node's stack (io/node.h). */
void mvpn_user_nat_exchange(void *nat, mvpn_packet_queue *in, mvpn_packet_queue *out,
                            mvpn_time now);
mvpn_time mvpn_user_nat_deadline(void *nat, mvpn_time now);

/** True if this process, as it is now, gets ping sockets; else false with errno: EACCES if its
 * group is not in net.ipv4.ping_group_range. Echoes are then answered by "prohibited". */
bool mvpn_user_nat_may_ping(void);

/** A session has ended: its connections do, before another one has its address. */
void mvpn_user_nat_release(mvpn_user_nat *nat, const mvpn_addr *client);

mvpn_user_nat_stats mvpn_user_nat_get_stats(const mvpn_user_nat *nat);
/** Bytes in the stack. */
size_t mvpn_user_nat_memory(const mvpn_user_nat *nat);

#endif
