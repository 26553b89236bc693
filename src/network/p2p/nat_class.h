/*
 * What is known of the NATs before us. (docs/protocol.md §14.6; RFC 4787 for the terms)
 * Made by nat_probe inside links; read by the connector, which decides by it how to punch.
 */
#ifndef MVPN_NETWORK_P2P_NAT_CLASS_H
#define MVPN_NETWORK_P2P_NAT_CLASS_H

#include "network/p2p/stun_client.h"

/* Addresses of ours that different observers have seen. */
#define MVPN_NAT_SEEN_MAX 4
/* Who is asked in one measurement: two would do, the third outvotes one that lies. */
#define MVPN_NAT_OBSERVERS 3
/* Addresses of one host that are looked at. */
#define MVPN_NAT_OWN_MAX 8
/* Mappings of the second socket: at the first observer, at its other port, and three more. */
#define MVPN_NAT_SECOND_MAX 5

typedef struct mvpn_nat_class {
    bool is_known;  /* mapping was measured: two observers agree or differ */
    bool is_public; /* what they see is an address of this host */
    enum mvpn_stun_mapping mapping;
    enum mvpn_stun_filtering filtering;
    enum mvpn_stun_hairpin hairpin;
    enum mvpn_stun_ports ports;
    int port_step; /* of sequential ports, else 0 */
    uint32_t
        lifetime_s; /* of a mapping, as far as measured: it lives at least so long; 0: unknown */
    size_t seen_count;
    mvpn_addr seen[MVPN_NAT_SEEN_MAX]; /* of the main socket, the latest observer first */
} mvpn_nat_class;

/** The name that is shown: none, full cone, restricted, port-restricted, symmetric, unknown. */
enum mvpn_stun_nat mvpn_nat_class_name(const mvpn_nat_class *c);
bool mvpn_nat_class_eq(const mvpn_nat_class *a, const mvpn_nat_class *b);

/* Did a probe arrive that was sent to us? */
enum mvpn_nat_heard {
    MVPN_NAT_NOT_ASKED, /* or nobody says that it was sent */
    MVPN_NAT_SILENT,
    MVPN_NAT_HEARD,
};

/* What one measurement has shown. Addresses not seen have family 0. */
typedef struct mvpn_nat_evidence {
    mvpn_addr own[MVPN_NAT_OWN_MAX]; /* of this host */
    size_t own_count;
    mvpn_addr seen[MVPN_NAT_OBSERVERS]; /* the main socket, by observers at different ips */
    /* A second socket that had spoken to nobody: at the first observer; at that one's other port;
     * then at others, in the order of sending. */
    mvpn_addr second[MVPN_NAT_SECOND_MAX];
    /* At the main socket: from another port, or from other relays, of those that it speaks to. */
    enum mvpn_nat_heard main_port[MVPN_NAT_OBSERVERS];
    enum mvpn_nat_heard main_relay;
    /* At the second one: from another port of the only host that it has spoken to; from a relay
     * that it has never spoken to. */
    enum mvpn_nat_heard second_port;
    enum mvpn_nat_heard second_relay;
    enum mvpn_nat_heard hairpin;
} mvpn_nat_evidence;

/** The address that more than half of the observers, and at least two, have seen; NULL: none. */
const mvpn_addr *mvpn_nat_evidence_agreed(const mvpn_nat_evidence *e);
/** The same of the ip alone: whatever port, that is where our NAT is. */
const mvpn_addr *mvpn_nat_evidence_agreed_ip(const mvpn_nat_evidence *e);

/** Judge: everything but lifetime and `seen`. What was not measured is unknown. */
void mvpn_nat_class_judge(mvpn_nat_class *ret, const mvpn_nat_evidence *e);

#endif
