/*
 * Links: authenticated, encrypted channels between neighbours over datagrams (docs/protocol.md §4).
 * One `mvpn_links` holds all links of a node: handshakes, connection ids, replay windows, rekey,
 * path checks, path MTU, acknowledged messages. Sans-IO: datagrams and time in, datagrams, messages
 * and events out. Called by the engines of src/core.
 */
#ifndef MVPN_NETWORK_P2P_LINK_H
#define MVPN_NETWORK_P2P_LINK_H

#include "base/addr.h"
#include "base/error.h"
#include "base/packet.h"
#include "base/time.h"
#include "crypto/aead.h"
#include "crypto/keys.h"
#include "crypto/rng.h"
#include "wire/handshake.h"
#include "wire/message.h"
#include "wire/natmsg.h"
#include "wire/record.h"

typedef struct mvpn_links mvpn_links;
typedef struct mvpn_link mvpn_link;

/* NAT relays that a descriptor names. (§14.3) */
#define MVPN_LINK_VIA_MAX 2

/** A NAT relay by which a relay can be reached. */
typedef struct mvpn_link_via {
    mvpn_ed25519_pub identity;
    mvpn_key link_key;
    mvpn_addr addr;
    uint64_t serial;
    mvpn_nat_id rendezvous; /* of the relay there */
} mvpn_link_via;

/** What is needed to reach a relay. */
typedef struct mvpn_link_target {
    mvpn_ed25519_pub identity;
    mvpn_key link_key;
    mvpn_addr addr;   /* family 0 if it can be reached by `via` alone */
    uint64_t serial;  /* of its membership certificate, if known; else 0 */
    size_t via_count; /* not 0: the link is made through one of these, in this order (§14) */
    mvpn_link_via via[MVPN_LINK_VIA_MAX];
} mvpn_link_target;

typedef struct mvpn_links_config {
    mvpn_aead *aead; /* borrowed, as are the next two */
    mvpn_rng *rng;
    mvpn_packet_pool *pool;
    mvpn_key network_id;
    bool closed; /* closed network: secret and membership certificates count (§2) */
    mvpn_key network_secret;
    mvpn_ed25519_pub network_pub;
    const mvpn_revocations *revocations; /* borrowed, may change; NULL: nobody is revoked */
    int64_t unix_offset_us;              /* Unix time = now + offset */
    /* Nobody vouches for that yet: a peer that answers nothing for 3 s is asked without naming the
     * hour, and then judged by its own time. (§4.2) */
    bool clock_is_unsure;
    /* A relay's own keys; a client leaves is_relay false and uses NK. */
    bool is_relay;
    mvpn_ed25519_pub identity;
    mvpn_x25519_pair link_key;
    mvpn_bytes link_certificate;       /* §8.1, borrowed for the lifetime of the links */
    mvpn_bytes membership_certificate; /* §8.2, borrowed; empty in an open network */
    /* 0 = the limits of §10; tests lower them. */
    size_t links_max;
    size_t half_open_max;
    uint32_t load_half_open;   /* cookies from so many half-open links on */
    uint32_t load_first_per_s; /* and from so many first packets a second on */
    uint64_t rekey_packets;    /* 0 = 2^31; tests lower it */
    uint64_t exhaust_packets;  /* 0 = 2^32 - 1 */
    mvpn_time rekey_after;     /* 0 = 120 s */
} mvpn_links_config;

MVPN_WUR int mvpn_links_new(const mvpn_links_config *config, mvpn_time now, mvpn_links **ret);
void mvpn_links_free(mvpn_links *links);

/**
 * Give a link to the relay `target`: the open or opening one if there is one, else a new handshake
 * is begun (IK if we are a relay, NK if not), through a NAT relay if the target has some.
 * `*ret` is valid until its CLOSED event has been pulled. MVPN_E_LIMIT, MVPN_E_NOMEM; MVPN_E_STATE:
 * it takes a NAT relay and there is no connector.
 */
MVPN_WUR int mvpn_links_open(mvpn_links *links, const mvpn_link_target *target, mvpn_time now,
                             mvpn_link **ret);

/** The open or opening link with this relay, or NULL. */
mvpn_link *mvpn_links_find(mvpn_links *links, const mvpn_ed25519_pub *identity);

/**
 * Take one datagram (`packet->data`, `packet->remote`, `packet->local`); always takes the packet
 * unless it returns 1: then `*ret_link` and `*ret_header` describe a verified message of a circuit
 * or DHT command (link commands are handled inside), `packet->data/len` is its body (Relay: the
 * whole padded body), and the packet is the caller's. Returns 0 when consumed, or a drop code for
 * the counters.
 */
MVPN_WUR int mvpn_links_recv(mvpn_links *links, mvpn_packet *packet, mvpn_time now,
                             mvpn_link **ret_link, mvpn_header *ret_header);

/** Timers due at or before `now`; and acknowledgements held back: call after each batch of recv. */
void mvpn_links_tick(mvpn_links *links, mvpn_time now);
mvpn_time mvpn_links_deadline(const mvpn_links *links);

/**
 * Send a message. `packet->data/len` is the body (taken in every case; needs 64 bytes of headroom
 * and 32 of tailroom). `header->link_seq` is ignored. With `acked` it is resent until acknowledged
 * (§4.5), and while the link is still opening it waits (at most 64 messages); unacknowledged ones
 * are refused then. The result goes to the out queue. MVPN_E_STATE, MVPN_E_LIMIT, MVPN_E_EXHAUSTED,
 * MVPN_E_NOMEM.
 */
MVPN_WUR int mvpn_link_send(mvpn_link *link, mvpn_packet *packet, const mvpn_header *header,
                            bool acked, mvpn_time now);

/** Datagrams ready to be sent (`remote`, `local` set); the caller drains the queue. */
mvpn_packet_queue *mvpn_links_out(mvpn_links *links);

/** Sending to `remote` failed with EMSGSIZE: go back to splitting (§4.7). */
void mvpn_links_message_too_big(mvpn_links *links, const mvpn_addr *remote, mvpn_time now);
/** How long a NAT keeps a mapping lets us be silent: the keepalive before jitter. (§14.4) */
void mvpn_links_set_keepalive(mvpn_links *links, mvpn_time keepalive);
/** The node's own address or network changed: take fresh connection ids and probe all paths anew
 * (§4.3). */
void mvpn_links_local_changed(mvpn_links *links, mvpn_time now);
/** Correct the idea of Unix time. */
void mvpn_links_set_unix_offset(mvpn_links *links, int64_t unix_offset_us);
/** Change clock_is_unsure; counts for first packets made from now on. */
void mvpn_links_set_clock_unsure(mvpn_links *links, bool is_unsure);

/** Answer a command that the owner does not speak: VersionList, once a link. (§9) */
void mvpn_link_answer_unknown(mvpn_link *link, mvpn_time now);

/** Close one link (sends LinkClose); its CLOSED event follows. */
void mvpn_link_close(mvpn_link *link, uint8_t reason, mvpn_time now);

/** The revocations have changed: close the links of those revoked. */
void mvpn_links_check_revocations(mvpn_links *links, mvpn_time now);

/** Close all links: each peer is told once. */
void mvpn_links_close_all(mvpn_links *links, mvpn_time now);

enum mvpn_link_event_type {
    MVPN_LINK_OPENED, /* ours: handshake done; theirs: first packet verified */
    MVPN_LINK_CLOSED, /* pulled last: afterwards the pointer is dead */
};

typedef struct mvpn_link_event {
    enum mvpn_link_event_type type;
    mvpn_link *link;
    int error; /* CLOSED: 0 closed by us or idle, MVPN_E_TIMEOUT, _REFUSED (peer closed),
                  _BUSY (it has no room), _EXHAUSTED, ... */
} mvpn_link_event;

bool mvpn_links_pull_event(mvpn_links *links, mvpn_link_event *ret);

/* Questions. */
/** Is this one of the connection ids at which our links receive? */
bool mvpn_links_has_id(mvpn_links *links, const mvpn_connection_id *id);
bool mvpn_link_is_open(const mvpn_link *link);
bool mvpn_link_is_initiator(const mvpn_link *link);
/** Of a link that has ended: as its CLOSED event says; else 0. */
int mvpn_link_close_error(const mvpn_link *link);
/** The peer's identity, or NULL for a client. */
const mvpn_ed25519_pub *mvpn_link_peer_identity(const mvpn_link *link);
/** Where packets to the peer go: its proven address, or its NAT relay's (§14.4). */
const mvpn_addr *mvpn_link_peer_addr(const mvpn_link *link);
/** Smoothed round trip, microseconds; 0 if not measured. */
uint32_t mvpn_link_rtt_us(const mvpn_link *link);
/** Our address as the peer saw it in the handshake; family 0 if unknown. */
const mvpn_addr *mvpn_link_observed_addr(const mvpn_link *link);
/** Peer's Unix time minus ours, seconds, at the handshake (ours only). */
int64_t mvpn_link_clock_offset_s(const mvpn_link *link);
/**
 * What mvpn_links_set_unix_offset would have to be for our clock to equal the peer's, as told at
 * the handshake (ours only; else 0): independent of the offset in use then.
 */
int64_t mvpn_link_unix_offset_us(const mvpn_link *link);
/** Full-size packets pass (§4.7). */
bool mvpn_link_is_full_size(const mvpn_link *link);

/** It was made through a NAT relay (whatever it runs over at present). */
bool mvpn_link_is_relayed(const mvpn_link *link);
/** The links that are there, open or not; returns how many were written. */
size_t mvpn_links_list(mvpn_links *links, mvpn_link **ret, size_t max);
/** Ping now (one at a time: an earlier one is forgotten). MVPN_E_STATE: it is not open. */
MVPN_WUR int mvpn_link_ping(mvpn_link *link, mvpn_time now);
/** True once for each answer to a ping. */
bool mvpn_link_take_pong(mvpn_link *link, mvpn_time *ret_rtt);

/**
 * There are reasons to think that the peer is gone, or knows nothing of this link any more: ping it
 * at once and quickly. Unless something authentic comes from it within max(600 ms, 6 RTT) (over
 * NATs, once each route has been asked: about 3 s), the link fails with MVPN_E_TIMEOUT. No effect
 * on a link that is not open, or while an earlier suspicion lasts. (§4.8)
 */
void mvpn_link_suspect(mvpn_link *link, mvpn_time now);

/** The owner's pointer and circuit count: a link with circuits is kept alive (§4.8). */
void *mvpn_link_user(const mvpn_link *link);
void mvpn_link_set_user(mvpn_link *link, void *user);
void mvpn_link_hold(mvpn_link *link);
void mvpn_link_release(mvpn_link *link, mvpn_time now);
bool mvpn_link_is_held(const mvpn_link *link);

typedef struct mvpn_links_counters {
    uint64_t packets_in, packets_out, bytes_in, bytes_out;
    uint64_t dropped_auth, dropped_replay, dropped_format, dropped_unknown, dropped_limit;
    uint64_t handshakes, cookies, rekeys, resent, split, path_checks;
} mvpn_links_counters;
const mvpn_links_counters *mvpn_links_get_counters(const mvpn_links *links);
size_t mvpn_links_count(const mvpn_links *links);

#endif
