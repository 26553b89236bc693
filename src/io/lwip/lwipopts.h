/*
 * How lwIP is built for io/netstack.c (its documentation: opt.h). One thread, no operating system
 * interface, no link layer: packets go to the engine and come from it.
 */
#ifndef MVPN_IO_LWIP_LWIPOPTS_H
#define MVPN_IO_LWIP_LWIPOPTS_H

#include <stddef.h>
#include <stdint.h>

/* In io/netstack.c: malloc(3) with a limit to all of it, our checksum, our randomness. */
void *mvpn_netstack_alloc(size_t n);
void *mvpn_netstack_calloc(size_t count, size_t n);
void mvpn_netstack_free_memory(void *p);
uint16_t mvpn_netstack_checksum(const void *p, int n);
uint32_t mvpn_netstack_random(void);

#define NO_SYS 1
#define SYS_LIGHTWEIGHT_PROT 0
#define LWIP_NETCONN 0
#define LWIP_SOCKET 0
#define LWIP_STATS 0

/* No pools: one of the wrong size corrupts memory without a word, malloc(3) does not. */
#define MEM_LIBC_MALLOC 1
#define MEMP_MEM_MALLOC 1
#define MEM_ALIGNMENT 8
#define mem_clib_malloc mvpn_netstack_alloc
#define mem_clib_calloc mvpn_netstack_calloc
#define mem_clib_free mvpn_netstack_free_memory

#define LWIP_ARP 0
#define LWIP_ETHERNET 0
#define LWIP_IPV4 1
#define LWIP_IPV6 1
#define LWIP_ICMP 1
#define LWIP_RAW 0
#define LWIP_DHCP 0
#define LWIP_AUTOIP 0
#define LWIP_IGMP 0
#define LWIP_DNS 0
#define LWIP_HAVE_LOOPIF 0
#define LWIP_NETIF_LOOPBACK 0
#define IP_FORWARD 0

/* Nobody but the gateway is on the link, and it sends no advertisements. */
#define LWIP_IPV6_MLD 0
#define LWIP_IPV6_AUTOCONFIG 0
#define LWIP_IPV6_SEND_ROUTER_SOLICIT 0
#define LWIP_IPV6_DUP_DETECT_ATTEMPTS 0
#define LWIP_IPV6_DHCP6 0
#define LWIP_IPV6_SCOPES 0
#define LWIP_ND6_QUEUEING 0

/* Datagrams longer than a packet: a few at a time. A pointer does not fit into an IPv6 Fragment
 * header. */
#define IP_REASSEMBLY 1
#define IP_FRAG 1
#define IP_REASS_MAX_PBUFS 64
#define LWIP_IPV6_FRAG 1
#define LWIP_IPV6_REASS 1
#define IPV6_FRAG_COPYHEADER 1

/*
 * A window of 2 MiB fills 100 Mbit/s at 160 ms. Segments: the client lowers what is said in SYNs to
 * what fits a cell, as it does for the kernel's connections (core/client_ip.h).
 */
#define LWIP_TCP 1
#define TCP_MSS 1360
#define LWIP_WND_SCALE 1
#define TCP_RCV_SCALE 7
#define TCP_WND (2u << 20)
#define TCP_SND_BUF (1u << 20)
#define TCP_SND_QUEUELEN 8192
#define TCP_SNDLOWAT (32 * 1024)
#define TCP_SNDQUEUELOWAT 4096
#define TCP_OVERSIZE TCP_MSS
#define TCP_QUEUE_OOSEQ 1
#define LWIP_TCP_SACK_OUT 1
#define LWIP_TCP_MAX_SACK_NUM 4
#define LWIP_TCP_RTO_TIME 1000
#define TCP_TMR_INTERVAL 100 /* half of what its timeouts count in */
#define TCP_SYNMAXRTX 5
#define TCP_MAXRTX 10
#define TCP_LISTEN_BACKLOG 0
/* The tunnel does not keep packets longer: a minute would only fill tables. */
#define TCP_MSL 5000
#define LWIP_UDP 1

#define LWIP_CHKSUM mvpn_netstack_checksum
#define LWIP_HOOK_FILENAME "lwipopts.h"
#define LWIP_HOOK_TCP_ISN(local, local_port, remote, remote_port) mvpn_netstack_random()

#define LWIP_NETIF_API 0
#define LWIP_DONT_PROVIDE_BYTEORDER_FUNCTIONS 1

#endif
