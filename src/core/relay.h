/*
 * The relay's side of circuits: guard, middle and, with an exit core attached, the last hop.
 * Sans-IO. (docs/protocol.md §5.3, §6, §7)
 *
 * A circuit here:  CREATING (parts, queue) -> OPEN -> EXTENDING -> EXTENDED
 *                                              |          `-> OPEN when the next relay fails
 *                                              `-> session (RelayBegin) when we are an exit
 * It knows its two neighbours on their links and nothing else.
 */
#ifndef MVPN_CORE_RELAY_H
#define MVPN_CORE_RELAY_H

#include "core/handshake.h"
#include "core/scheduler.h"
#include "core/view.h"
#include "exit/exit.h"
#include "network/p2p/link.h"

typedef struct mvpn_relay mvpn_relay;

typedef struct mvpn_relay_onion_key {
    uint8_t id;
    mvpn_x25519_pair pair;
} mvpn_relay_onion_key;

typedef struct mvpn_relay_config {
    mvpn_aead *aead; /* borrowed, as all pointers here */
    mvpn_rng *rng;
    mvpn_packet_pool *pool;
    mvpn_links *links;
    mvpn_view *view;
    mvpn_exit *exit;         /* NULL: not an exit */
    const mvpn_trust *trust; /* who is revoked; may be NULL */
    mvpn_realm realm;
    mvpn_ed25519_pub identity;
    mvpn_relay_onion_key onion_keys[2];
    size_t onion_key_count;
    const mvpn_addr *own_addresses; /* never extended to */
    size_t own_address_count;
    bool has_ipv4, has_ipv6; /* what our socket can reach */
    bool allow_private;      /* the network file permits private addresses */
    int64_t unix_offset_us;
    size_t circuits_max; /* 0 = 65,536 */
    bool no_circuits;    /* a directory alone: Create is refused */
    uint64_t rate;       /* bytes per second of all cells, as on the wire; 0: no limit */
} mvpn_relay_config;

MVPN_WUR int mvpn_relay_new(const mvpn_relay_config *config, mvpn_time now, mvpn_relay **ret);
void mvpn_relay_free(mvpn_relay *relay, mvpn_time now);

/** Take a verified message of a link (the packet is taken in every case). */
void mvpn_relay_message(mvpn_relay *relay, mvpn_link *link, const mvpn_header *header,
                        mvpn_packet *packet, mvpn_time now);
/** A link has closed: its circuits end. */
void mvpn_relay_link_closed(mvpn_relay *relay, mvpn_link *link, mvpn_time now);
/** Send the cells whose turn has come, and what the exit core has for its sessions: call after each
 * batch. */
void mvpn_relay_flush(mvpn_relay *relay, mvpn_time now);
/** Timers, and circuit handshakes waiting. */
void mvpn_relay_tick(mvpn_relay *relay, mvpn_time now);
mvpn_time mvpn_relay_deadline(const mvpn_relay *relay);

/** Onion keys from now on, the current one first; circuits that stand are not touched. */
void mvpn_relay_set_onion_keys(mvpn_relay *relay, const mvpn_relay_onion_key *keys, size_t count);
/** Our own addresses changed; borrowed as those of the configuration. */
void mvpn_relay_set_own_addresses(mvpn_relay *relay, const mvpn_addr *addresses, size_t count);
void mvpn_relay_set_unix_offset(mvpn_relay *relay, int64_t unix_offset_us);

typedef struct mvpn_relay_counters {
    uint64_t created, refused, extended, extend_failed, destroyed;
    uint64_t cells_forward, cells_backward, cells_dropped;
    uint64_t directory_answered, directory_refused;
    uint64_t killed; /* circuits, for their packets: the pool ran low */
} mvpn_relay_counters;
const mvpn_relay_counters *mvpn_relay_get_counters(const mvpn_relay *relay);
/** What queues that stand cost. */
const mvpn_scheduler_counters *mvpn_relay_get_queue_counters(const mvpn_relay *relay);
/** Cells that wait for their turn. */
uint32_t mvpn_relay_waiting(const mvpn_relay *relay);
/** New circuits are refused for now. */
bool mvpn_relay_is_overloaded(const mvpn_relay *relay, mvpn_time now);
size_t mvpn_relay_circuit_count(const mvpn_relay *relay);
/** Bytes that one idle circuit occupies. */
size_t mvpn_relay_circuit_size(void);

#endif
