/*
 * What the world sees of us and how the NATs before us behave, learnt inside links; and the other
 * side: relays that answer the probes of others (nat_observer). Sans-IO. (docs/protocol.md §14.6)
 *
 *   asker --NatProbe: token, kind--> X          (link)
 *   asker --probe: token-----------> X          (from the socket that is to be judged)
 *   asker <--------------------probe-- X's other port, another relay, or X: at once or later
 *   asker <--NatProbed: where it came from-- X  (link)
 *
 *   IDLE --two observers--> FILTER (1 s) --> PORTS (1 s) --> IDLE; then, in the background,
 * LIFETIME
 *
 *   FILTER  the main socket at up to three observers; a second one, that has never spoken, at the
 *           first of them alone: which probes get in, where each was seen
 *   PORTS   the second socket at further addresses at one instant: the ports that it gets; a probe
 *           of its to our own seen address (hairpin)
 *
 * It uses the direct links that are there and opens none. Evidence, not proof: who relies on it
 * proves each path. What arrives proves itself; silence, and what is told, counts if two observers
 * at different ips say so. Threats: a peer that lies (outvoted, or told apart by a second one),
 * that sends us to a victim (three probes to an address only if two name its ip), forged probes
 * (64-bit tokens, each good from one place and to one socket).
 */
#ifndef MVPN_NETWORK_P2P_NAT_PROBE_H
#define MVPN_NETWORK_P2P_NAT_PROBE_H

#include "network/p2p/link.h"
#include "network/p2p/nat_class.h"
#include "network/p2p/nat_observer.h"

typedef struct mvpn_nat_probe mvpn_nat_probe;

typedef struct mvpn_nat_probe_config {
    mvpn_rng *rng; /* borrowed, as all pointers here */
    mvpn_packet_pool *pool;
    mvpn_links *links;
    bool is_relay;      /* probes for others */
    bool allow_private; /* of a test network */
    /* The host's own addresses (port: the main socket's), to tell "no NAT"; may be empty. */
    mvpn_addr own[MVPN_NAT_OWN_MAX];
    size_t own_count;
    bool measures_lifetime; /* in the background: takes up to ten minutes */
} mvpn_nat_probe_config;

MVPN_WUR int mvpn_nat_probe_new(const mvpn_nat_probe_config *config, mvpn_time now,
                                mvpn_nat_probe **ret);
/** Before the links are freed. NULL is allowed. */
void mvpn_nat_probe_free(mvpn_nat_probe *probe);

/** NatProbe, NatProbeFor, NatProbed of a link; `body` is borrowed. False: none of these. A body
 * that does not decode closes the link. */
bool mvpn_nat_probe_message(mvpn_nat_probe *probe, mvpn_link *link, const mvpn_header *header,
                            mvpn_bytes body, mvpn_time now);
/** Offer a datagram before the links see it. True: it was a probe for us, the packet was taken.
 * Constant time; where nothing is awaited, two comparisons. */
bool mvpn_nat_probe_datagram(mvpn_nat_probe *probe, mvpn_packet *packet, mvpn_time now);
void mvpn_nat_probe_link_opened(mvpn_nat_probe *probe, mvpn_link *link, mvpn_time now);
void mvpn_nat_probe_link_closed(mvpn_nat_probe *probe, mvpn_link *link, mvpn_time now);
/** Forget and, a second later, measure anew: the network has changed. */
void mvpn_nat_probe_network_changed(mvpn_nat_probe *probe, mvpn_time now);
/** The host's addresses; more than MVPN_NAT_OWN_MAX are left out. */
void mvpn_nat_probe_set_own(mvpn_nat_probe *probe, const mvpn_addr *own, size_t count);
/** A lifetime measured earlier on this network: it is taken for measured now. 0: none. */
void mvpn_nat_probe_set_lifetime(mvpn_nat_probe *probe, uint32_t lifetime_s, mvpn_time now);

void mvpn_nat_probe_tick(mvpn_nat_probe *probe, mvpn_time now);
mvpn_time mvpn_nat_probe_deadline(const mvpn_nat_probe *probe);
/** Datagrams to be sent (`remote` and `local` set); the caller drains the queue after each of the
 * calls above. */
mvpn_packet_queue *mvpn_nat_probe_out(mvpn_nat_probe *probe);

/** The result so far. */
const mvpn_nat_class *mvpn_nat_probe_class(const mvpn_nat_probe *probe);
/** True once after each change of the result. */
bool mvpn_nat_probe_take_change(mvpn_nat_probe *probe);
/** Is MVPN_LOCAL_PROBE needed? If not it must be closed: a measurement begins with a socket that
 * has spoken to nobody. */
bool mvpn_nat_probe_uses_socket(const mvpn_nat_probe *probe);

typedef struct mvpn_nat_probe_counters {
    uint64_t measurements;
    uint64_t forged;     /* probes with a token of ours from where none was to come */
    uint64_t unexpected; /* NatProbed of nothing that was asked; messages to a node that is no relay
                          */
    mvpn_nat_observer_counters observer; /* of a relay */
} mvpn_nat_probe_counters;
void mvpn_nat_probe_get_counters(const mvpn_nat_probe *probe, mvpn_nat_probe_counters *ret);

#endif
