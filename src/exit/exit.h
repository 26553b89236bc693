/*
 * The exit: where sessions' packets leave the network and answers come back. Sans-IO: io reads and
 * writes the TUN device and the resolver's sockets, masquerades the pool, and deletes connection
 * tracking; the circuit layer brings and takes the sessions' packets. The exit knows a session by a
 * number only, never the client's address.
 *
 *   circuits -> from_session -> [source, policy, normalise, pool address] -> tun_out  -> kernel
 *                          \--> gateway address: echo, DNS -> dns_out (by TCP: -> tun_out, to
 *                               io's listener at the device's address), else ICMP error
 *   circuits <- pull_to_session <- [inner address, size] <- from_tun <- kernel
 *                              \-- answers <- from_dns <- resolver
 *
 * One exit serves one worker. Nothing is allocated after mvpn_exit_new but by setters of the
 * policy.
 */
#ifndef MVPN_EXIT_EXIT_H
#define MVPN_EXIT_EXIT_H

#include <stdbool.h>

#include "base/addr.h"
#include "base/macros.h"
#include "base/packet.h"
#include "base/time.h"
#include "crypto/rng.h"
#include "exit/policy.h"

/* A session number holds an index of 16 bits. */
#define MVPN_EXIT_SESSIONS_MAX 65535
/* Waiting packets of each output: io drains them every turn, and a turn feeds at most one batch of
 * a few hundred. More waiting than this would be delay, not throughput. */
#define MVPN_EXIT_QUEUE_MAX 1024
/* ICMP errors of one session, each second and at once (RFC 4443 §2.4 f asks for a limit). */
#define MVPN_EXIT_ICMP_RATE 20
#define MVPN_EXIT_ICMP_BURST 20
/* Initial TTL of all that leaves: the commonest one. */
#define MVPN_EXIT_TTL 64
/* `local` of a packet in dns_out, and of the datagrams that answer it. */
#define MVPN_EXIT_LOCAL_DNS MVPN_LOCAL_DNS

typedef struct mvpn_exit mvpn_exit;

typedef struct mvpn_exit_config {
    mvpn_packet_pool *packets;      /* borrowed for the exit's life */
    mvpn_rng *rng;                  /* borrowed for the exit's life */
    mvpn_addr pool_v4;              /* e.g. 10.64.0.0 */
    unsigned pool_v4_bits;          /* 16 to 29 */
    mvpn_addr pool_v6;              /* /64 of a ULA */
    bool uplink_v6;                 /* the machine has IPv6; else sessions get "no route" */
    const char *policy;             /* operator's rules (exit/policy.h); NULL or "" for none */
    const mvpn_policy_net *blocked; /* blocked_ips */
    size_t blocked_count;
    const mvpn_port_range *ports; /* allowed_ports; none: all */
    size_t port_count;
    const mvpn_addr *own; /* the machine's addresses, refused as destinations */
    size_t own_count;
    const mvpn_addr *relays; /* relays' addresses with ports, refused as destinations */
    size_t relay_count;
    const mvpn_addr *dns; /* upstream resolvers */
    size_t dns_count;
    bool dns_stream;        /* io listens for DNS by TCP at the device's address */
    uint32_t sessions_max;  /* 1 to MVPN_EXIT_SESSIONS_MAX */
    uint64_t session_rate;  /* bytes/s of one session and direction; 0: no limit */
    uint64_t session_burst; /* bytes; 0: what session_rate gives in a second; at least 64 KiB */
    uint64_t total_rate;    /* bytes/s of all sessions and both directions; 0: no limit */
    uint64_t total_burst;   /* as session_burst, of total_rate */
} mvpn_exit_config;

/** Counters of packets; nothing in them names a session or an address. */
typedef struct mvpn_exit_counters {
    uint64_t out_packets, out_bytes; /* sessions to TUN */
    uint64_t in_packets, in_bytes;   /* TUN to sessions */
    uint64_t refused_source;         /* inner source other than the constant one */
    uint64_t refused_policy;
    uint64_t refused_format; /* malformed, IP options, forged ICMP errors */
    uint64_t refused_no_v6;
    uint64_t refused_rate;
    uint64_t refused_quota;
    uint64_t unknown_session; /* session number or pool address of no session */
    uint64_t too_big;         /* answered with ICMP too-big */
    uint64_t icmp_sent;
    uint64_t echo_answered;
    uint64_t dns_queries, dns_answers, dns_refused, dns_expired;
    uint64_t dns_local;   /* answered from the session's cache, or known to be empty */
    uint64_t dns_private; /* answers emptied since they named private addresses */
    uint64_t queue_full;  /* an output or the packet pool was full */
    uint64_t sessions_opened, sessions_closed;
    uint64_t sessions_moved; /* to another circuit */
} mvpn_exit_counters;

/**
 * A session ended: io deletes the connection-tracking entries of its pool addresses. The addresses
 * are not given out again before this was pulled and 5 minutes have passed.
 */
typedef struct mvpn_exit_event {
    mvpn_addr pool_v4;
    mvpn_addr pool_v6;
} mvpn_exit_event;

/**
 * Returns 0; MVPN_E_INVAL (config out of range), MVPN_E_CONFIG (policy text; `*ret_error` tells
 * where), MVPN_E_LIMIT (too many own, relay or blocked addresses, or ports), MVPN_E_NOMEM.
 */
MVPN_WUR int mvpn_exit_new(const mvpn_exit_config *config, mvpn_exit **ret_exit,
                           mvpn_policy_error *ret_error);
/** Gives all waiting packets back to the pool. */
void mvpn_exit_free(mvpn_exit *exit);

/** The policy in force, to change its rules, own addresses and relays at run time. */
mvpn_policy *mvpn_exit_policy(mvpn_exit *exit);

/**
 * Open a session. `inner_mtu`: largest packet that fits one cell of its circuit (576 to 1420):
 * TCP's MSS is clamped to it, and packets that may not be fragmented are refused above max(it,
 * 1280). MVPN_E_LIMIT if sessions or addresses are used up; MVPN_E_INVAL.
 */
MVPN_WUR int mvpn_exit_session_open(mvpn_exit *exit, uint32_t inner_mtu, bool want_v6,
                                    mvpn_time now, uint32_t *ret_id);
/** The session's circuit has ended, and it waits for another: for the count alone. */
void mvpn_exit_session_detach(mvpn_exit *exit, uint32_t id);
/**
 * Another circuit carries the session now, with cells of this size. MVPN_E_UNKNOWN, MVPN_E_INVAL.
 */
MVPN_WUR int mvpn_exit_session_attach(mvpn_exit *exit, uint32_t id, uint32_t inner_mtu);
/** Close it; what waits for it is dropped. Unknown numbers are ignored. */
void mvpn_exit_session_close(mvpn_exit *exit, uint32_t id, mvpn_time now);
uint32_t mvpn_exit_session_count(const mvpn_exit *exit);
/** How many of them are detached. */
uint32_t mvpn_exit_session_detached_count(const mvpn_exit *exit);
/** What the configuration allows; a session number's low 16 bits are below it. */
uint32_t mvpn_exit_sessions_max(const mvpn_exit *exit);
/**
 * True if a session that is closed now makes room for a newcomer: at once, if its number is what is
 * missing; later, if its address is, and no other one rests.
 */
bool mvpn_exit_wants_room(const mvpn_exit *exit);
/** True if IPv6 works for this session: both asked for and there. */
bool mvpn_exit_session_has_v6(const mvpn_exit *exit, uint32_t id);
/** A session's own addresses in the pool. MVPN_E_UNKNOWN. */
MVPN_WUR int mvpn_exit_session_addrs(const mvpn_exit *exit, uint32_t id, mvpn_addr *ret_v4,
                                     mvpn_addr *ret_v6);

/**
 * Bytes that may still pass in both directions together until the next call, `used` of them gone;
 * `limit` 0: no limit. Then packets and new sessions are refused. io keeps the count over restarts
 * and starts anew with each month.
 */
void mvpn_exit_set_quota(mvpn_exit *exit, uint64_t limit, uint64_t used);
uint64_t mvpn_exit_quota_used(const mvpn_exit *exit);

/**
 * Take one IP packet from a session. The packet is taken in any case.
 * Returns 0 if it went on (to the TUN, the resolver, or back as an answer), or why it was dropped:
 * MVPN_E_UNKNOWN (session), MVPN_E_FORMAT, MVPN_E_POLICY (source or destination refused; an ICMP
 * error may be on its way back), MVPN_E_LIMIT (rate or queue), MVPN_E_STATE (not answerable).
 */
int mvpn_exit_from_session(mvpn_exit *exit, uint32_t id, mvpn_packet *packet, mvpn_time now);

/** Take one IP packet from the TUN device. As above; MVPN_E_TOO_BIG if ICMP too-big went back. */
int mvpn_exit_from_tun(mvpn_exit *exit, mvpn_packet *packet, mvpn_time now);

/** Take one datagram of the resolver's socket; `remote` is its sender. As above. */
int mvpn_exit_from_dns(mvpn_exit *exit, mvpn_packet *packet, mvpn_time now);

/**
 * A query that came by TCP to the device's address, from a session's pool address `peer` (its port
 * is not looked at). `connection` is the caller's number for it. Otherwise as mvpn_dns_query: 0
 * (ask
 * `*ret_upstream` by TCP), MVPN_DNS_ANSWERED, MVPN_E_FORMAT, MVPN_E_LIMIT; MVPN_E_UNKNOWN: no
 * session has this address.
 */
MVPN_WUR int mvpn_exit_stream_query(mvpn_exit *exit, const mvpn_addr *peer, uint16_t connection,
                                    uint8_t *message, uint32_t *len, uint32_t size, mvpn_time now,
                                    mvpn_addr *ret_upstream);
/** The upstream's answer to such a query, and which connection it is for. MVPN_E_FORMAT,
 * MVPN_E_UNKNOWN (also if its question has expired). */
MVPN_WUR int mvpn_exit_stream_answer(mvpn_exit *exit, const mvpn_addr *upstream, uint8_t *message,
                                     uint32_t *len, mvpn_time now, uint16_t *ret_connection);

/** Outputs, drained by io. dns_out: `remote` is the resolver, `local` MVPN_EXIT_LOCAL_DNS. */
mvpn_packet_queue *mvpn_exit_tun_out(mvpn_exit *exit);
mvpn_packet_queue *mvpn_exit_dns_out(mvpn_exit *exit);
/** The next packet for a session, in order; the caller owns it then. False if there is none. */
bool mvpn_exit_pull_to_session(mvpn_exit *exit, uint32_t *ret_id, mvpn_packet **ret_packet);

void mvpn_exit_tick(mvpn_exit *exit, mvpn_time now);
mvpn_time mvpn_exit_deadline(const mvpn_exit *exit);
bool mvpn_exit_pull_event(mvpn_exit *exit, mvpn_exit_event *ret_event);

const mvpn_exit_counters *mvpn_exit_get_counters(const mvpn_exit *exit);

#endif
