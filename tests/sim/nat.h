/*
 * A NAT between simulated networks: mapping and filtering of UDP as RFC 4787 names them, each on
 * its own. Sans everything: addresses and time in, addresses out; sim.c puts boxes between nodes.
 *
 *     inside 192.168.1.x --nat_out--> box's outside address:port --> internet, or a carrier's
 * inside
 *                        <--nat_in---
 *
 * The named types are those of tests/netns/nat.sh, and are asked the same questions (nat_test.c).
 */
#ifndef MVPN_SIM_NAT_H
#define MVPN_SIM_NAT_H

#include "base/addr.h"
#include "base/time.h"

/** Of what of the peer a mapping, or a filter, depends. */
enum nat_dependence {
    NAT_ENDPOINT,     /* of nothing: one mapping for all; everybody may send */
    NAT_ADDRESS,      /* its address */
    NAT_ADDRESS_PORT, /* its address and port */
};

enum nat_ports {
    NAT_PORTS_RANDOM,
    NAT_PORTS_SEQUENTIAL, /* each mapping's one above the last one's */
    NAT_PORTS_PRESERVED,  /* the inside port, random if another host has it */
};

typedef struct nat_config {
    enum nat_dependence mapping, filtering;
    enum nat_ports ports;
    bool hairpin;            /* the inside reaches mappings by their outside address, unfiltered */
    bool is_blocked;         /* no UDP passes */
    bool is_firewall;        /* filters only, translates nothing: a home's IPv6 */
    bool is_kept_by_inbound; /* what comes in prolongs a mapping, too (RFC 4787 REQ-6) */
    mvpn_time lifetime;      /* of a mapping without use; 0: NAT_LIFETIME */
    size_t mappings_max;     /* more are refused; 0: NAT_MAPPINGS */
} nat_config;

#define NAT_LIFETIME MVPN_S(120)
/* A home router's table; birthday probing takes hundreds of one. */
#define NAT_MAPPINGS 4096

typedef struct nat_box nat_box;

/** `outside` is its address (the port is ignored), `outer` the box it stands behind or NULL. */
nat_box *nat_new(const nat_config *config, const mvpn_addr *outside, nat_box *outer, uint64_t seed);
void nat_free(nat_box *box);
/** The configuration of a type by its name in tests/netns/nat.sh: full, addr, port, linux, addrmap,
 * sym, symseq, blocked, v6only (the firewall); NULL for others (double ones are two boxes). */
const nat_config *nat_type(const char *name);

const nat_config *nat_config_of(const nat_box *box);
nat_box *nat_outer(const nat_box *box);
const mvpn_addr *nat_outside(const nat_box *box);

/** A datagram goes out: make or prolong its mapping, note whom it went to. False: it is dropped. */
bool nat_out(nat_box *box, const mvpn_addr *from, const mvpn_addr *to, mvpn_time now,
             mvpn_addr *ret_from);
/** A datagram comes in: whose it is. False: there is no mapping, or its filter refuses. */
bool nat_in(nat_box *box, const mvpn_addr *from, const mvpn_addr *to, mvpn_time now,
            mvpn_addr *ret_to);
/** Who has the mapping `to`, whatever the filter says; nothing changes. */
bool nat_holder(const nat_box *box, const mvpn_addr *to, mvpn_time now, mvpn_addr *ret_to);

/** Switched off and on: no mapping is left. */
void nat_forget(nat_box *box);
/** From now on. Mappings that exist keep their time. */
void nat_set_lifetime(nat_box *box, mvpn_time lifetime);
void nat_set_hairpin(nat_box *box, bool hairpin);
void nat_set_blocked(nat_box *box, bool is_blocked);
size_t nat_mappings(const nat_box *box, mvpn_time now);

#endif
