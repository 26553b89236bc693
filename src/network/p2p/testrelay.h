/* The NAT relay that the tests of nat_relay.c share. The links under it are put in by the linker:
 * what matters here is their proven address, and what they are told. */
#ifndef MVPN_NETWORK_P2P_TESTRELAY_H
#define MVPN_NETWORK_P2P_TESTRELAY_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "network/p2p/nat_relay.h"
#include "wire/circuit.h"
#include "wire/natmsg.h"

struct fake {
    mvpn_addr addr;
    bool has_identity, is_closed, refuses;
    mvpn_ed25519_pub identity;
    size_t holds;
    /* What was sent to it, the latest of each. */
    mvpn_nat_registered registered;
    mvpn_nat_opened opened;
    mvpn_nat_ids incoming;
    mvpn_nat_addressed addressed;
    size_t registered_count, opened_count, incoming_count, addressed_count, close_count;
};

struct world {
    mvpn_rng rng;
    mvpn_packet_pool pool;
    mvpn_nat_relay *relay;
    mvpn_time now;
    struct fake home, caller, stranger;
    mvpn_nat_ids ids; /* as the caller sees them */
};

extern struct world *w;

/** What the relay takes for the link. */
mvpn_link *link_of(struct fake *f);
/** An address in a /24 of that number. */
mvpn_addr addr(unsigned block, unsigned host);
/** A relay with these limits; teardown ends it. */
void relay_start(const mvpn_nat_relay_config *limits);
/** One by default. */
int relay_setup(void **state);
int relay_teardown(void **state);
/** A message of a link comes; false if it is none of the relay's. */
bool message(struct fake *f, unsigned command, const uint8_t *body, size_t n);
/** What it told is in `f->registered`. */
void do_register(struct fake *f, uint16_t lifetime_s);
/** The status told. */
unsigned do_open(struct fake *from, const struct fake *to, unsigned count);
/** The status told. */
unsigned do_more(struct fake *f, const mvpn_nat_id *session, unsigned count);
/** The status told. */
unsigned ask_address(struct fake *f, const mvpn_nat_id *session);
/** The caller has a session with home. */
void join(void);
/** A datagram to that id; where it went, family 0: nowhere. `*ret_ours` false: not taken. */
mvpn_addr send_from(const mvpn_addr *from, const mvpn_connection_id *id, size_t len,
                    bool is_handshake, bool *ret_ours);
/** Does a datagram to that id arrive there, a handshake as well as data? */
bool goes(const mvpn_addr *from, const mvpn_connection_id *id, const mvpn_addr *to);

#endif
