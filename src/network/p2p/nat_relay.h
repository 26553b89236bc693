/*
 * The NAT relay: forwards the datagrams of links between two neighbours that cannot reach each
 * other, as they are. Sans-IO. (docs/protocol.md §14)
 *
 *   a relay behind a NAT: NatRegister ----> rendezvous id
 *   a caller:             NatOpen --------> session: ids of both sides, told to both
 *   a datagram to an id of one side, from the proven address of the other: to the former's address
 *
 * It assigns every id that it forwards and knows both addresses from its own links with the two,
 * so nobody's address is taken on trust: what a stranger sends, from wherever, goes nowhere, and
 * where a datagram goes is an address that has answered this relay. It sees ciphertext alone.
 */
#ifndef MVPN_NETWORK_P2P_NAT_RELAY_H
#define MVPN_NETWORK_P2P_NAT_RELAY_H

#include "crypto/hash.h"
#include "network/p2p/link.h"

typedef struct mvpn_nat_relay mvpn_nat_relay;

/* Largest datagram forwarded: an Ethernet frame's UDP payload. */
#define MVPN_NAT_DATAGRAM_MAX 1472

typedef struct mvpn_nat_relay_config {
    mvpn_rng *rng; /* borrowed, as all pointers here */
    mvpn_packet_pool *pool;
    mvpn_links *links;        /* whose own ids are not given out here; NULL: not asked */
    size_t sessions_max;      /* 0 = 10,000: a few times what a home connection carries */
    uint64_t session_bytes_s; /* 0 = 2 MB/s; twice that at once */
    uint64_t total_bytes_s;   /* 0 = 125 MB/s (1 Gbit/s); a tenth of a second of it at once */
    mvpn_time idle_after;     /* 0 = 120 s without a datagram */
    /* Rendezvous ids are made of it and the identity, so that descriptors which name them stay true
     * over a restart; all zero: of a random key. */
    mvpn_siphash_key id_key;
} mvpn_nat_relay_config;

MVPN_WUR int mvpn_nat_relay_new(const mvpn_nat_relay_config *config, mvpn_time now,
                                mvpn_nat_relay **ret);
void mvpn_nat_relay_free(mvpn_nat_relay *relay);

/**
 * Take a verified message of a link; answers go out on links. False: it is not for a NAT relay, or
 * of a session unknown here (and may be meant for this node as a NAT relay's guest). A body that
 * does not decode closes the link. `body` is borrowed.
 */
bool mvpn_nat_relay_message(mvpn_nat_relay *relay, mvpn_link *link, const mvpn_header *header,
                            mvpn_bytes body, mvpn_time now);

/** A link has closed: its rendezvous id and sessions end, the other sides are told. */
void mvpn_nat_relay_link_closed(mvpn_nat_relay *relay, mvpn_link *link, mvpn_time now);

/**
 * Offer a datagram before the links see it. False: its destination id is none of ours, the packet
 * stays the caller's. True: it was taken, and is in the out queue or dropped. Constant time, no
 * allocation; its bytes are neither changed nor read beyond the destination id.
 */
bool mvpn_nat_relay_forward(mvpn_nat_relay *relay, mvpn_packet *packet, mvpn_time now);

/** Datagrams to be sent (`remote` and `local` set); the caller drains the queue. */
mvpn_packet_queue *mvpn_nat_relay_out(mvpn_nat_relay *relay);

/** Sessions and rendezvous ids whose time is over. */
void mvpn_nat_relay_tick(mvpn_nat_relay *relay, mvpn_time now);
mvpn_time mvpn_nat_relay_deadline(const mvpn_nat_relay *relay);

typedef struct mvpn_nat_relay_counters {
    uint64_t registered, opened, refused, closed;
    uint64_t moved; /* registrations that a newer link of the same relay took over */
    uint64_t forwarded, forwarded_bytes;
    uint64_t dropped_source; /* not from the other side */
    uint64_t dropped_limit;  /* more, or larger, than §14.2 allows */
} mvpn_nat_relay_counters;
const mvpn_nat_relay_counters *mvpn_nat_relay_get_counters(const mvpn_nat_relay *relay);
/* What was refused and dropped, for a log that a flood must not fill; zeros at first. */
typedef struct mvpn_nat_relay_flood {
    uint64_t refused, dropped; /* since it was told last */
    uint64_t refused_then, dropped_then;
    bool was_told;
    mvpn_time told_at;
} mvpn_nat_relay_flood;
/** Is it worth a line? True at most once an hour, with `refused` and `dropped` to tell. */
bool mvpn_nat_relay_flood_look(mvpn_nat_relay_flood *flood, const mvpn_nat_relay *relay,
                               mvpn_time now);
size_t mvpn_nat_relay_session_count(const mvpn_nat_relay *relay);

#endif
