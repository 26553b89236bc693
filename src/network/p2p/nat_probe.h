/*
 * What the world sees of us and how the NATs before us behave, learnt inside links; and the other
 * side: relays that probe for others. Sans-IO. (docs/protocol.md §14.6)
 *
 *   asker --NatProbe 1--> X: X answers from its other port (LOCAL_PROBE)
 *   asker --NatProbe 2--> X --NatProbeFor--> Y: Y sends the probe
 *   asker's LOCAL_PROBE --probe--> X ... after the delay: X --probe--> there     (lifetime)
 *   asker --probe--> its own seen address                                         (hairpin)
 *
 * It uses the direct links that are there; it opens none. Evidence, not proof: who relies on it
 * proves each path. Threats: a relay that lets others send to a victim (one probe of 72 bytes a
 * minute and ip, on the word of an identified relay), forged probes (64-bit tokens of ours).
 */
#ifndef MVPN_NETWORK_P2P_NAT_PROBE_H
#define MVPN_NETWORK_P2P_NAT_PROBE_H

#include "network/p2p/link.h"
#include "network/p2p/nat_class.h"

typedef struct mvpn_nat_probe mvpn_nat_probe;

typedef struct mvpn_nat_probe_config {
    mvpn_rng *rng; /* borrowed, as all pointers here */
    mvpn_packet_pool *pool;
    mvpn_links *links;
    bool is_relay;      /* probes for others */
    bool allow_private; /* of a test network */
    /* The host's own addresses (port: the main socket's), to tell "no NAT"; may be empty. */
    mvpn_addr own[8];
    size_t own_count;
    bool measures_lifetime; /* in the background: takes some minutes */
} mvpn_nat_probe_config;

MVPN_WUR int mvpn_nat_probe_new(const mvpn_nat_probe_config *config, mvpn_time now,
                                mvpn_nat_probe **ret);
/** NULL is allowed. */
void mvpn_nat_probe_free(mvpn_nat_probe *probe);

/** NatProbe, NatProbeFor, NatProbed of a link; `body` is borrowed. False: none of these. A body
 * that does not decode closes the link. */
bool mvpn_nat_probe_message(mvpn_nat_probe *probe, mvpn_link *link, const mvpn_header *header,
                            mvpn_bytes body, mvpn_time now);
/** Offer a datagram before the links see it. True: it was a probe for us, the packet was taken.
 * Constant time where nothing is awaited. */
bool mvpn_nat_probe_datagram(mvpn_nat_probe *probe, mvpn_packet *packet, mvpn_time now);
void mvpn_nat_probe_link_opened(mvpn_nat_probe *probe, mvpn_link *link, mvpn_time now);
void mvpn_nat_probe_link_closed(mvpn_nat_probe *probe, mvpn_link *link, mvpn_time now);
/** Measure anew: the network has changed. */
void mvpn_nat_probe_network_changed(mvpn_nat_probe *probe, mvpn_time now);
/** The host's addresses. */
void mvpn_nat_probe_set_own(mvpn_nat_probe *probe, const mvpn_addr *own, size_t count);
/** A lifetime measured earlier on this network; 0: none. */
void mvpn_nat_probe_set_lifetime(mvpn_nat_probe *probe, uint32_t lifetime_s);

void mvpn_nat_probe_tick(mvpn_nat_probe *probe, mvpn_time now);
mvpn_time mvpn_nat_probe_deadline(const mvpn_nat_probe *probe);
/** Datagrams to be sent (`remote` and `local` set); the caller drains the queue. */
mvpn_packet_queue *mvpn_nat_probe_out(mvpn_nat_probe *probe);

/** The result so far. */
const mvpn_nat_class *mvpn_nat_probe_class(const mvpn_nat_probe *probe);
/** True once after each change of the result. */
bool mvpn_nat_probe_take_change(mvpn_nat_probe *probe);
/** Is LOCAL_PROBE needed? */
bool mvpn_nat_probe_uses_socket(const mvpn_nat_probe *probe);

#endif
