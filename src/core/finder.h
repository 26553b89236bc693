/*
 * How a relay finds the others and is found: its DHT with the exchange below it, its view filled by
 * the walk, its descriptor published, renewed and at the end withdrawn, revocations passed on.
 * Sans-IO; owned by the engine. (docs/protocol.md §11, §12)
 */
#ifndef MVPN_CORE_FINDER_H
#define MVPN_CORE_FINDER_H

#include "core/publish.h"
#include "core/view.h"
#include "dht/dht.h"
#include "dht/exchange.h"

typedef struct mvpn_finder mvpn_finder;

typedef struct mvpn_finder_config {
    mvpn_rng *rng; /* borrowed, as all pointers here */
    mvpn_view *view;
    mvpn_trust *trust;                 /* its revocations are brought up to date here */
    mvpn_dht_exchange_config exchange; /* dht and self are filled in */
    bool is_server;
    mvpn_addr address; /* of a server: where it stands in the DHT */
    /* All of a server's, `address` among them or not: it answers by the node ids of each. Copied.
     */
    const mvpn_addr *own_addresses;
    size_t own_address_count;
    bool allow_private;
    bool relax_blocks; /* the network file permits relays in one block */
    bool has_ipv4, has_ipv6;
    int64_t unix_offset_us;
    /* Template, or NULL; without addresses: of a relay behind a NAT (see publish.h). */
    const mvpn_descriptor *publish;
    const mvpn_ed25519_secret *identity_secret;
    const mvpn_dht_contact *entries; /* copied */
    size_t entry_count;
} mvpn_finder_config;

MVPN_WUR int mvpn_finder_new(const mvpn_finder_config *config, mvpn_time now, mvpn_finder **ret);
void mvpn_finder_free(mvpn_finder *finder);
void mvpn_finder_set_unix_offset(mvpn_finder *finder, int64_t unix_offset_us);

/** A datagram of the DHT (taken). */
void mvpn_finder_datagram(mvpn_finder *finder, mvpn_packet *packet, mvpn_time now);
mvpn_packet_queue *mvpn_finder_out(mvpn_finder *finder);
void mvpn_finder_tick(mvpn_finder *finder, mvpn_time now);
mvpn_time mvpn_finder_deadline(const mvpn_finder *finder);

/**
 * A router maps this address to us, or no longer does (NULL): it takes the place of those of its
 * family that the template names; node id and descriptor follow.
 */
void mvpn_finder_set_mapped(mvpn_finder *finder, const mvpn_addr *mapped, mvpn_time now);
/** Our NAT relays changed: see mvpn_publisher_set_nat_relays. */
void mvpn_finder_set_nat_relays(mvpn_finder *finder, const mvpn_descriptor_nat_relay *relays,
                                size_t count, const mvpn_addr *seen, size_t seen_count);
/** Our onion keys changed; the first is current. */
void mvpn_finder_set_onion_keys(mvpn_finder *finder, const mvpn_onion_key *keys, size_t count);
/** Keep a record of our own (a snapshot head, a revocation list) stored in the DHT. */
MVPN_WUR int mvpn_finder_publish(mvpn_finder *finder, unsigned type, mvpn_bytes record,
                                 mvpn_time now);
/** Withdraw our descriptor. False: there is nothing to withdraw. */
bool mvpn_finder_withdraw(mvpn_finder *finder, mvpn_time now);
/** The withdrawal is stored, or nobody is there to store it. */
bool mvpn_finder_is_withdrawn(const mvpn_finder *finder);

/** Revocations that came since the last call: links of those revoked are to be closed. */
bool mvpn_finder_pull_revocations(mvpn_finder *finder);

mvpn_dht *mvpn_finder_dht(mvpn_finder *finder);
mvpn_dht_exchange *mvpn_finder_exchange(mvpn_finder *finder);
const mvpn_publisher *mvpn_finder_publisher(const mvpn_finder *finder); /* NULL: none */

#endif
