/*
 * What the files of the link layer share. Private to src/network/p2p and its tests.
 *
 * A *session* is one set of keys with its connection ids and path; a *link* is what the owner sees:
 * the acknowledged messages, the events, the owner's pointer. A session begins as our attempt (with
 * a link from the start) or as half-open (the peer's; it gets its link when its first packet
 * verifies).
 *
 *   ATTEMPT --reply verified--> OPEN          HALF_OPEN --first packet verified--> OPEN
 *      |10 s                                      |10 s, or evicted
 *      v                                          v
 *   link CLOSED (time-out)                    forgotten without a trace
 */
#ifndef MVPN_NETWORK_P2P_INTERNAL_H
#define MVPN_NETWORK_P2P_INTERNAL_H

#include "base/hash.h"
#include "base/list.h"
#include "base/timer.h"
#include "crypto/hash.h"
#include "crypto/noise.h"
#include "crypto/replay.h"
#include "network/p2p/admission.h"
#include "network/p2p/connector.h"
#include "network/p2p/link.h"
#include "wire/certificate.h"
#include "wire/handshake.h"
#include "wire/linkmsg.h"

/* Transport packets. (§4.1) */
#define TRANSPORT_HEADER_LEN 13
#define TRANSPORT_TAG_AT_CELL (TRANSPORT_HEADER_LEN + MVPN_HEADER_LEN)
/* What the link adds to a body. */
#define TRANSPORT_OVERHEAD (TRANSPORT_HEADER_LEN + MVPN_HEADER_LEN + MVPN_AEAD_TAG)
/* Passes every path we use; larger ones only after a probe. (§4.7) */
#define PACKET_SAFE MVPN_HANDSHAKE_LEN
#define PACKET_FULL (TRANSPORT_OVERHEAD + MVPN_BODY_MAX)

/* Limits of §10. */
/* 36 MB if all are idle: 10,000 clients of a guard and their circuits' next hops. */
#define LINKS_MAX 16384
/* Unused for so long, a link may be closed for a new one. */
#define GIVE_WAY_AFTER MVPN_S(5)
#define HALF_OPEN_MAX 1024
#define LOAD_HALF_OPEN 64
#define LOAD_FIRST_PER_S 100
#define ACKED_PER_LINK 512
/* Messages that wait for a link to open. */
#define WAITING_PER_LINK 64
/* All links' messages awaiting acknowledgement: each holds a packet of the pool. */
#define ACKED_PER_NODE 8192
/* A sequence is handled once within so many. (§4.5) */
#define DEDUPE_WINDOW 1024
#define ACKS_REPEATED 16
/* Sequences to acknowledge at the end of the turn; the link that has more of them borrows the
 * node's one array for the rest, and the next such link sends what it has. */
#define ACKS_OWN 16
#define REPLAY_WINDOW 8192
/* While no more than 64 packets come in a second: an idle link gets a dozen in an epoch, and there
 * may be thousands of such. */
#define REPLAY_SMALL 256
/* Messages of which one half has come. (§4.7) */
#define PARTS_PER_LINK 32
/* Each holds a packet of the pool for up to a second: so many for all links. */
#define PARTS_PER_NODE 512

#define REKEY_PACKETS (UINT64_C(1) << 31)
#define EXHAUST_PACKETS UINT64_C(0xffffffff)
#define REKEY_AFTER MVPN_S(120)
#define EPOCH_OVERLAP MVPN_S(10)
#define OPEN_TIMEOUT MVPN_S(10)
#define HALF_OPEN_TIMEOUT MVPN_S(10)
#define REPLY_KEPT MVPN_S(5)
#define ID_OVERLAP MVPN_S(10)
#define IDLE_CLOSE MVPN_S(300)
#define KEEPALIVE_AFTER MVPN_S(15)
/* While the peer has sent nothing in this epoch. */
#define UNPROVEN_PING MVPN_MS(250)
#define CLOSE_BUSY 2 /* §6.4 */
#define CLOSE_FINISHED 6
/* Before a measurement. */
#define RTT_ASSUMED_US 100000u

struct epoch {
    bool live;
    uint32_t number;
    mvpn_key send_key;
    mvpn_key recv_key;
    mvpn_key send_filler;
    mvpn_key recv_filler;
    uint64_t send_pn;
    mvpn_replay replay;
    uint64_t small[MVPN_REPLAY_WORDS(REPLAY_SMALL)];
    uint64_t *large; /* in its place, of REPLAY_WINDOW; NULL: not needed yet */
    uint64_t mark;   /* the number at which the pace was last looked at */
    mvpn_time mark_at;
};

/* While keys change and until those before are forgotten. */
struct rotation {
    struct epoch prev, next; /* next: keys only, until the first packet of it verifies */
    mvpn_noise noise;        /* initiator, while is_rekeying */
};

/* Of each route 1 in use, 4 spares, and as many on their way out; a peer that moves faster has to
 * wait. */
#define LOCAL_IDS 20
/* Of an ordinary link that is idle: 1 in use, 3 spares, 1 on its way out. */
#define LOCAL_IDS_FEW 6
/* Spares that we want the peer to hold. */
#define SPARES_WANTED 3

/* How packets get to the peer. Ordinary links have a direct route only. (§14.4) */
enum route_kind {
    ROUTE_DIRECT,
    ROUTE_RELAYED, /* through a NAT relay */
    ROUTES,
};

struct route {
    bool live;      /* the address is proven */
    mvpn_addr addr; /* the peer's, or the NAT relay's */
    uint16_t socket;
    bool has_remote;
    mvpn_connection_id remote; /* at which the peer receives there */
    mvpn_connection_id spares[MVPN_HANDSHAKE_IDS_MAX];
    size_t spare_count;
    mvpn_time last_recv;
    mvpn_time last_sent;
};

/* Ids that a NAT relay gave us for one session: two lots of NatMore. */
#define ASSIGNED_IDS (2 * MVPN_NAT_IDS_MAX)

struct local_id {
    mvpn_hash_node node; /* in links->ids while live */
    struct session *session;
    mvpn_connection_id id;
    mvpn_time retire_at;
    uint32_t order; /* ids of a route are used in the order given */
    uint8_t kind;   /* of the route: enum route_kind */
    bool live;
};

/* Addresses whose check failed lately. */
#define FAILED_PATHS 4

struct path_check {
    bool active;
    mvpn_addr addr;
    uint16_t local;
    uint64_t token;
    unsigned sent; /* challenges */
    /* All that was sent there before it is proven, and what came from there. (§4.6) */
    unsigned packets_out;
    uint64_t bytes_out;
    uint64_t bytes_in;
};

struct failed_path {
    mvpn_addr addr;
    mvpn_time until;
};

struct part_slot {
    mvpn_packet *packet; /* data and len are the part's bytes; NULL: slot is free */
    mvpn_time until;
    uint16_t id;
    uint8_t index;
};

struct parts {
    mvpn_time used_at;
    struct part_slot slot[PARTS_PER_LINK];
};

enum session_state {
    SESSION_ATTEMPT,
    SESSION_HALF_OPEN,
    SESSION_OPEN,
};

enum session_timer {
    TIMER_HANDSHAKE, /* resend, give up, forget */
    TIMER_REKEY,
    TIMER_EPOCH, /* wipe the previous epoch */
    TIMER_IDS,
    TIMER_PATH,
    TIMER_PMTU,
    TIMER_PARTS,
    TIMER_ALIVE,
    TIMER_COUNT,
    TIMER_RESEND = TIMER_COUNT, /* of an acked message, not of a session */
};

/* Present until the session is open. */
struct handshake {
    mvpn_noise noise;                   /* initiator */
    uint8_t packet[MVPN_HANDSHAKE_LEN]; /* first packet, or the reply */
    uint8_t mac1[MVPN_HANDSHAKE_MAC_LEN];
    mvpn_connection_id source; /* ours */
    unsigned sends;            /* of our first packet, or of our reply to the peer's */
    unsigned cookies;
    bool is_unsure; /* initiator: our clock may be wrong, so mac1 names no hour (§4.2) */
    /* responder */
    mvpn_hash_node by_ephemeral;
    mvpn_list in_half_open; /* links->half_open, oldest first */
    uint8_t ephemeral[32];
};

/* A node has thousands, most of them idle: what few need, or for a short time, is apart and comes
 * into being when it is needed. */
struct session {
    mvpn_links *links;
    mvpn_link *link; /* NULL while half-open */
    enum session_state state;
    bool is_initiator;
    bool is_ik;
    bool is_exhausted; /* nothing may be sealed any more; the link is about to close */
    struct handshake *hs;
    mvpn_time began;
    mvpn_time opened;
    mvpn_timer timers[TIMER_COUNT];

    /* Who the peer is: with IK, or as initiator. */
    bool has_peer_identity;
    mvpn_ed25519_pub peer_identity;
    uint64_t peer_serial;    /* of the membership certificate it sent; 0: none */
    mvpn_key peer_key;       /* its static key, where there is one */
    mvpn_key handshake_hash; /* of the latest handshake */

    mvpn_key send_mask;
    mvpn_key recv_mask;
    struct epoch cur;
    struct rotation *rotation; /* NULL: there are no other keys */
    bool is_rekeying;
    bool is_rekey_due;

    struct local_id few[LOCAL_IDS_FEW];
    struct local_id *more;          /* the other LOCAL_IDS; NULL: never needed */
    uint32_t local_next;            /* order of the next id given */
    uint32_t local_highest[ROUTES]; /* highest order that the peer has used */
    bool is_giving_ids[ROUTES];     /* a LinkNewIds is under way: one at a time keeps the order */

    struct route *route; /* the one in use, of these */
    struct route routes[ROUTES];
    /* Not yet given to the peer, of a relayed link. */
    mvpn_connection_id *assigned; /* ASSIGNED_IDS; NULL: none ever */
    size_t assigned_count;
    mvpn_nat_id nat_session; /* at the NAT relay, of a relayed link */
    struct path_check check;
    struct failed_path *failed; /* FAILED_PATHS; NULL: none ever */
    size_t failed_next;

    uint16_t peer_max_datagram;
    bool is_full_size;
    uint64_t probe_token;
    unsigned probes; /* sent in this series */

    struct parts *parts; /* NULL: none came lately */
    uint16_t part_next_id;

    mvpn_time last_recv;
    bool has_received;
    bool has_received_epoch; /* anything in the current epoch */
    mvpn_time alive_after;   /* this keepalive's 15 s, jittered */
    mvpn_time doubt_after;   /* silence that is asked about (§14.4) */
    mvpn_time asked_at;      /* the first ping on account of silence; of a suspicion the latest */
    mvpn_time suspected_at;  /* nothing has come since then; 0: no suspicion */
    bool is_calm;            /* it has grown, for want of data */
    unsigned doubts;         /* pings since then that the route in use has not answered */
    unsigned pings;          /* unanswered, of an ordinary link */
};

enum link_state {
    LINK_OPENING,
    LINK_OPEN,
    LINK_CLOSED,
};

struct mvpn_link {
    mvpn_links *links;
    enum link_state state;
    struct session *session;       /* NULL when closed */
    mvpn_link_target *target;      /* of ours; NULL: the peer's */
    struct connection *connection; /* how it goes over NATs, the connector's; NULL: ordinary */
    bool has_identity;
    mvpn_ed25519_pub identity;
    mvpn_hash_node by_identity;
    mvpn_list in_links;
    mvpn_list in_idle;   /* while it could give way to another */
    mvpn_list in_block;  /* likewise, a client's */
    struct block *block; /* NULL: no client's */
    uint32_t number;     /* distinguishes links in the table of acked messages */
    mvpn_time opening_since;
    unsigned attempts; /* first packets made since then */
    mvpn_time last_use;
    mvpn_time last_data; /* sent or received: not pings and the like */
    uint8_t cookie[MVPN_COOKIE_LEN];
    mvpn_time cookie_at;
    bool has_cookie;
    bool hour_is_right; /* the peer answered a first packet of our hour */

    mvpn_list in_events;
    bool ev_opened;
    bool ev_closed;
    int close_error;

    uint32_t srtt_us;
    uint64_t ping_token;
    mvpn_time ping_at;  /* 0: none outstanding */
    mvpn_time pong_rtt; /* of the latest answer; 0: taken, or none yet */
    mvpn_addr observed;
    int64_t clock_offset_s;
    int64_t unix_offset_us; /* by the peer's clock */
    bool has_sent_versions;

    void *user;
    size_t holds;

    /* Acknowledged messages (§4.5). */
    uint32_t next_seq; /* 0: used up */
    mvpn_list acked;   /* of struct acked, by sequence */
    size_t acked_count;
    mvpn_replay dedupe;
    uint64_t dedupe_words[MVPN_REPLAY_WORDS(DEDUPE_WINDOW)];
    uint32_t acks[ACKS_OWN];
    size_t ack_count; /* with those in links->more_acks, if that is ours */
    /* Acknowledged lately: told again with the next, which makes up for one that was lost. */
    uint32_t acked_lately[ACKS_REPEATED];
    size_t acked_lately_next;
    mvpn_list in_acks;
};

/* A message that is sent until it is acknowledged. */
struct acked {
    mvpn_list in_link;
    mvpn_hash_node by_seq;
    mvpn_timer timer; /* kind TIMER_RESEND */
    mvpn_link *link;
    mvpn_packet *packet; /* the body, never sent itself */
    mvpn_header header;
    unsigned sends;
    mvpn_time first_sent;
    mvpn_time interval;
};

struct mvpn_links {
    mvpn_links_config config;
    mvpn_key token;
    mvpn_key psk;
    mvpn_siphash_key sip;
    mvpn_admission *admission; /* NULL if we answer nobody */
    mvpn_timers timers;
    mvpn_hash ids;
    mvpn_hash by_identity;
    mvpn_hash by_ephemeral;
    mvpn_hash by_seq;
    mvpn_hash blocks; /* of clients' links */
    mvpn_list links;
    mvpn_list idle;    /* links that could give way: the least used first */
    size_t link_count; /* with those that have ended and were not yet told */
    size_t live_count;
    uint32_t link_next_number;
    size_t session_count;
    mvpn_list half_open;
    size_t half_open_count;
    mvpn_list events;
    mvpn_list acks;          /* links with acknowledgements to send */
    mvpn_link *more_acks_of; /* NULL: nobody's */
    uint32_t more_acks[MVPN_LINK_ACK_MAX - ACKS_OWN];
    mvpn_list graveyard; /* links whose CLOSED event has been pulled: freed at the next call */
    mvpn_packet_queue out;
    struct acked *acked_nodes;
    size_t acked_unused; /* nodes from here on were never in use */
    mvpn_list acked_free;
    size_t part_count;
    mvpn_connector *connector; /* NULL: no link goes through NAT relays */
    mvpn_time keepalive;       /* before jitter */
    mvpn_links_counters counters;
    mvpn_time now; /* of the latest call; for deadline() alone */
};

/* link.c */
/** Unix seconds; never 0. */
uint64_t links_unix(const mvpn_links *links, mvpn_time now);
/** 0 is no serial. */
bool serial_is_revoked(const mvpn_links *links, uint64_t serial);
/** A new link object for which there is room; `client` is its address if it comes from somebody
 * without an identity. NULL: no memory. */
mvpn_link *link_new(mvpn_links *links, const mvpn_ed25519_pub *identity, const mvpn_addr *client);
mvpn_link *link_by_identity(mvpn_links *links, const mvpn_ed25519_pub *identity);
/** The link's session is ready: event, waiting messages, probes. */
void link_opened(mvpn_link *link, mvpn_time now);
/** End a link: keys are wiped now, the CLOSED event carries `error`. The session is gone
 * afterwards. */
void link_fail(mvpn_link *link, int error);
/** Note a measured round trip. */
void link_measured(mvpn_link *link, mvpn_time rtt);
/** max(floor, 1.5 RTT). */
mvpn_time link_timeout(const mvpn_link *link, mvpn_time floor);

/* room.c */
/**
 * Room for one more link; `client` is its address if it comes from somebody without an identity.
 * The idle link that was used last the longest ago gives way when the table is full. Clients of one
 * block (/24, /48) have at most a quarter of it, or one host could lock everybody out.
 */
bool room_make(mvpn_links *links, const mvpn_addr *client, mvpn_time now);
/** The link counts from now on. MVPN_E_NOMEM. */
MVPN_WUR int room_enter(mvpn_link *link, const mvpn_addr *client);
/** It has ended. */
void room_leave(mvpn_link *link);
/** Its state, holds or messages under way have changed. */
void room_changed(mvpn_link *link);
/** It is of use at this moment. */
void room_used(mvpn_link *link, mvpn_time now);

/* handshake.c */
/** The session as calloc gives it, with its timers' room; NULL without memory. */
struct session *session_new(mvpn_links *links, mvpn_time now);
/** Unlink, wipe, free; NULL is allowed. */
void session_free(struct session *s);
/** Begin (or begin anew) the attempt of an OPENING link, whose route is known. */
MVPN_WUR int handshake_begin(mvpn_link *link, mvpn_time now);
void handshake_timer(struct session *s, mvpn_time now);
/** Take a handshake packet; it is consumed. Returns 0 or a drop code. */
MVPN_WUR int handshake_recv(mvpn_links *links, mvpn_packet *packet, mvpn_time now);
/** A packet of a half-open session has verified: give it its link. MVPN_E_STATE: it lost to
 * another session with this peer and is gone. MVPN_E_LIMIT: there is no room, which the peer is
 * told; it may stay a little, to tell it again. MVPN_E_NOMEM, MVPN_E_POLICY: it is gone. */
MVPN_WUR int handshake_confirm(struct session *s, mvpn_time now);

/* transport.c */
/** First epoch's keys from the finished handshake. */
void transport_start(struct session *s, const mvpn_noise *noise);
/**
 * Seal `packet` (its body) under `header` and queue it by `route` (which may be no proven one, or a
 * copy); `last_sent` of it is set. The packet is taken in every case. MVPN_E_EXHAUSTED: the link
 * closes at the next tick; who has nothing better to do about it may ignore it.
 */
int transport_send(struct session *s, mvpn_packet *packet, const mvpn_header *header,
                   struct route *route, mvpn_time now);
/** Send an unacknowledged link command by the route in use. MVPN_E_NOMEM, MVPN_E_EXHAUSTED. */
int transport_command(struct session *s, unsigned command, mvpn_bytes body, mvpn_time now);
/** Likewise with an 8-byte token, by any route. */
int transport_token(struct session *s, unsigned command, uint64_t token, struct route *route,
                    mvpn_time now);
/**
 * Find the session, verify, commit the replay window and epochs. On success `packet->data/len` is
 * the body, `*ret_is_newest` tells whether the packet number was the highest, `*ret_id` which of
 * our ids it came by. The packet stays the caller's.
 */
MVPN_WUR int transport_open(mvpn_links *links, mvpn_packet *packet, mvpn_time now,
                            struct session **ret, mvpn_header *ret_header, bool *ret_is_newest,
                            struct local_id **ret_id);
/** Also frees its large window. */
void epoch_wipe(struct epoch *e);
/* Derive an epoch's keys from the transport keys of its handshake. (§3.3) */
void epoch_keys(struct epoch *e, const mvpn_key *send, const mvpn_key *recv);

/* rekey.c */
void rekey_schedule(struct session *s, mvpn_time now);
void rekey_begin(struct session *s, mvpn_time now);
MVPN_WUR int rekey_request(struct session *s, mvpn_bytes body, mvpn_time now);
MVPN_WUR int rekey_answer(struct session *s, mvpn_bytes body, mvpn_time now);
/** The keys before are forgotten. */
void rekey_time_is_over(struct session *s);
/** Those, and all of the next ones. */
void rekey_forget(struct session *s);
/** Are packets of the epoch before still accepted? */
bool rekey_overlaps(const struct session *s);
/** Make `next` the current epoch. */
void rekey_promote(struct session *s, mvpn_time now);

/* connid.c */
/** One of the LOCAL_IDS slots; NULL: this one and those after it were never needed. */
struct local_id *connid_at(struct session *s, size_t i);
/** Give out an id for this route and copy it. MVPN_E_LIMIT: all slots are taken, or the NAT relay
 * has assigned no more; MVPN_E_NOMEM. */
MVPN_WUR int connid_give(struct session *s, enum route_kind kind, mvpn_connection_id *ret);
/** The NAT relay assigned these; those that are not free here are left out (all, without memory).
 */
void connid_assign(struct session *s, const mvpn_connection_id *ids, size_t count);
/** Ids of the direct route that the peer has not used, topped up; at most MVPN_HANDSHAKE_IDS_MAX.
 * Returns how many. */
size_t connid_unused(struct session *s, mvpn_connection_id ret[static MVPN_HANDSHAKE_IDS_MAX]);
struct local_id *connid_find(mvpn_links *links, const uint8_t id[static MVPN_CONNECTION_ID_LEN]);
void connid_remove_all(struct session *s);
/** A verified packet came by `id`: retire the older ones, give new ones. True if it is fresh. */
bool connid_used(struct session *s, const struct local_id *id, mvpn_time now);
void connid_replenish(struct session *s, enum route_kind kind, mvpn_time now);
void connid_timer(struct session *s, mvpn_time now);
void connid_take_fresh(struct route *route);
void connid_add_spares(struct route *route, const mvpn_connection_id *ids, size_t count);

/* reliable.c */
/** Takes the packet in every case. MVPN_E_LIMIT, MVPN_E_EXHAUSTED. */
MVPN_WUR int reliable_send(mvpn_link *link, mvpn_packet *packet, const mvpn_header *header,
                           mvpn_time now);
/** Send a link command so. MVPN_E_NOMEM, MVPN_E_LIMIT, MVPN_E_EXHAUSTED. */
MVPN_WUR int reliable_command(mvpn_link *link, unsigned command, mvpn_bytes body, mvpn_time now);
/** The link opened: send what waited. */
void reliable_start(mvpn_link *link, mvpn_time now);
void reliable_timer(struct acked *node, mvpn_time now);
void reliable_acknowledged(mvpn_link *link, uint32_t seq, mvpn_time now);
/** Forget all messages, or only link commands (they belong to a session that is replaced). */
void reliable_clear(mvpn_link *link, bool only_commands);
/** Seen before? (Then it is only acknowledged.) */
bool reliable_is_repeated(const mvpn_link *link, uint32_t seq);
/** Note a sequence as handled, or as repeated, and acknowledge it soon. */
void reliable_note(mvpn_link *link, uint32_t seq, mvpn_time now);
void reliable_flush_acks(mvpn_link *link, mvpn_time now);
void reliable_forget_acks(mvpn_link *link);

/* liveness.c */
/** What the peer, or the path to it, owes us by now: keepalive, doubt, the end of the idle. */
void alive_timer(struct session *s, mvpn_time now);
/** How long this side waits before it asks whether the other lives. */
mvpn_time alive_pause(const struct session *s);
/** Data goes or comes: silence is asked about soon from here on. */
void alive_data(struct session *s, mvpn_time now);
/** The route in use is another: ask it. */
void alive_again(struct session *s, mvpn_time now);
/** Ping, to measure or to learn whether the peer lives. */
void link_ping(mvpn_link *link, mvpn_time now);

/* path.c */
/** The route by which this packet came. NULL: none that is proven. */
struct route *path_route_of(struct session *s, const mvpn_packet *packet);
/** From now on we send by this route. */
void path_use(struct session *s, enum route_kind kind, mvpn_time now);
/** The direct route is no more. */
void path_give_up_direct(struct session *s, mvpn_time now);
/** Addresses whose check failed may be tried again. */
void path_try_again(struct session *s);
/** Send a challenge to an address that nobody has proven, from this socket. (§14.5) */
void path_punch(struct session *s, const mvpn_addr *to, uint16_t socket, mvpn_time now);
/** A verified packet came from `packet->remote`. */
void path_received(struct session *s, const mvpn_packet *packet, size_t len, bool is_newest,
                   bool is_fresh_id, mvpn_time now);
void path_challenged(struct session *s, const mvpn_packet *packet, uint64_t token, mvpn_time now);
void path_response(struct session *s, const mvpn_packet *packet, uint64_t token, mvpn_time now);
void path_timer(struct session *s, mvpn_time now);
/** Begin a series of probes; splitting goes on until one is answered. */
void pmtu_restart(struct session *s, mvpn_time now);
/** Large packets seem to be lost: split and probe. */
void pmtu_suspect(struct session *s, mvpn_time now);
void pmtu_answered(struct session *s, uint64_t token, mvpn_time now);
void pmtu_timer(struct session *s, mvpn_time now);

/* connector.c: how the links tell it; all allow that there is none. */
/** A route to a link that was opened to a target with NAT relays is wanted. */
MVPN_WUR int connector_wanted(mvpn_link *link, mvpn_time now);
/** May a first packet to this id be answered? Not if it comes from a NAT relay of ours that has not
 * told us of it yet: its sender would get ids that the NAT relay does not forward. */
bool connector_admits(const mvpn_links *links,
                      const uint8_t destination[static MVPN_CONNECTION_ID_LEN],
                      const mvpn_addr *from);
/** A half-open session begins with a first packet to this id from this address: if a NAT relay told
 * us of it, the session's route is a relayed one. */
void connector_called(struct session *s, const uint8_t destination[static MVPN_CONNECTION_ID_LEN],
                      const mvpn_addr *from);
/** Make the relayed route of our attempt; its `remote` is where first packets go. */
void connector_calling(struct session *s);
/** The link's session is ready. */
void connector_opened(mvpn_link *link, mvpn_time now);
/** Something verified came from an address that is under check now. */
void connector_heard(struct session *s, mvpn_time now);
/** It did not answer. */
void connector_unheard(struct session *s, mvpn_time now);
/** The direct route is proven. */
void connector_proven(struct session *s, mvpn_time now);
/** The route in use does not answer. */
void connector_silent(struct session *s, mvpn_time now);
/** LinkCandidates. 0 or a drop code. */
MVPN_WUR int connector_candidates(struct session *s, mvpn_bytes body, mvpn_time now);
/** The link is about to be freed, or has ended. */
void connector_forget(mvpn_link *link);

/* split.c */
/** Send a message as two parts. Takes the packet. */
MVPN_WUR int split_send(struct session *s, mvpn_packet *packet, const mvpn_header *header,
                        mvpn_time now);
/**
 * Take the body of a LinkPart. Returns 1 if `packet` now holds the joined message (header
 * included); 0 or a drop code if the packet was taken: it waits for the other half, or was refused.
 */
MVPN_WUR int split_recv(struct session *s, mvpn_packet *packet, mvpn_time now);
void split_timer(struct session *s, mvpn_time now);
void split_clear(struct session *s);

#endif
