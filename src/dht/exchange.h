/*
 * DHT datagrams between servers: one Noise NK exchange per request, address tokens, certificates.
 * What comes in is proven here and goes to the Kademlia core; what the core wants sent is sealed
 * here. Also asks single contacts for a client that has no core. (docs/protocol.md §11.2)
 */
#ifndef MVPN_DHT_EXCHANGE_H
#define MVPN_DHT_EXCHANGE_H

#include "base/packet.h"
#include "crypto/aead.h"
#include "dht/dht.h"

typedef struct mvpn_dht_exchange mvpn_dht_exchange;

/* Requests of the core unanswered at once: more than the core has under way, late ones included
 * (dht/requests.h). With one more the oldest is given up. */
#define MVPN_DHT_PENDING_MAX 512
/* Asks at once (mvpn_dht_exchange_ask): every entry that a client knows, and some to spare. */
#define MVPN_DHT_ASKS_MAX 32
/* Addresses of one server: those of its descriptor, and as many again from its network file. */
#define MVPN_DHT_OWN_MAX 8

typedef struct mvpn_dht_exchange_config {
    mvpn_aead *aead; /* borrowed, as all pointers here */
    mvpn_rng *rng;
    mvpn_packet_pool *pool;
    mvpn_dht *dht;           /* NULL: a client that asks with mvpn_dht_exchange_ask alone */
    const mvpn_trust *trust; /* network id, keys, anchors, revocations */
    mvpn_key network_secret; /* closed networks */
    int64_t unix_offset_us;
    /* The clock may be wrong: the last sending of a Ping that is asked says so (§11.2), and its
     * answer is judged by the time in it. */
    bool clock_is_unsure;
    /* A server's own. */
    bool is_server;
    mvpn_dht_contact self;
    const mvpn_dht_contact *others; /* ourselves at our further addresses; copied */
    size_t other_count;
    mvpn_ed25519_pub identity;
    mvpn_x25519_pair link_key;
    mvpn_bytes link_certificate;       /* full form, borrowed for the lifetime */
    mvpn_bytes membership_certificate; /* empty in an open network */
} mvpn_dht_exchange_config;

/** Everything that is ever needed is allocated here. MVPN_E_NOMEM. */
MVPN_WUR int mvpn_dht_exchange_new(const mvpn_dht_exchange_config *config, mvpn_time now,
                                   mvpn_dht_exchange **ret);
void mvpn_dht_exchange_free(mvpn_dht_exchange *x);
void mvpn_dht_exchange_set_clock_unsure(mvpn_dht_exchange *x, bool is_unsure);
void mvpn_dht_exchange_set_unix_offset(mvpn_dht_exchange *x, int64_t unix_offset_us);
/**
 * Our addresses changed, and with them the node ids that others ask us by: `self` is where the core
 * stands, `others` are we at our further addresses (§11.1; more than MVPN_DHT_OWN_MAX in all are
 * left out). Those that went are still answered for 10 min.
 */
void mvpn_dht_exchange_set_self(mvpn_dht_exchange *x, const mvpn_dht_contact *self,
                                const mvpn_dht_contact *others, size_t other_count, mvpn_time now);

/**
 * Take a datagram for which mvpn_dht_is_datagram holds, and the packet with it. 0; else the drop
 * code: MVPN_E_FORMAT, MVPN_E_AUTH, MVPN_E_LIMIT, MVPN_E_UNKNOWN (a reply to nothing; or a request,
 * and we are no server).
 */
int mvpn_dht_exchange_recv(mvpn_dht_exchange *x, mvpn_packet *packet, mvpn_time now);
/** Send what the core wants sent; call after each batch and each tick of the core. */
void mvpn_dht_exchange_flush(mvpn_dht_exchange *x, mvpn_time now);
void mvpn_dht_exchange_tick(mvpn_dht_exchange *x, mvpn_time now);
mvpn_time mvpn_dht_exchange_deadline(const mvpn_dht_exchange *x);
/** Datagrams ready to be sent; the caller drains it. */
mvpn_packet_queue *mvpn_dht_exchange_out(mvpn_dht_exchange *x);

/**
 * Ask one contact without a core, certificate wanted. `is_pinned`: the user's own network file or
 * invitation names it, so that in an open network it need not be an anchor. One answer (or failure
 * after 3 s, resent at 0.5 and 1.5 s) comes from mvpn_dht_exchange_pull_answer. MVPN_E_LIMIT
 * (MVPN_DHT_ASKS_MAX, pulled answers not counted), MVPN_E_AUTH (its link key is no key).
 */
MVPN_WUR int mvpn_dht_exchange_ask(mvpn_dht_exchange *x, const mvpn_dht_contact *contact,
                                   bool is_pinned, const mvpn_dht_request *request, mvpn_time now,
                                   uint64_t *ret_transaction);

/** Nobody waits for the answer any more: it is not asked for again and does not come. */
void mvpn_dht_exchange_forget(mvpn_dht_exchange *x, uint64_t transaction);

typedef struct mvpn_dht_exchange_answer {
    uint64_t transaction;
    /* 0; MVPN_E_TIMEOUT; MVPN_E_FORMAT: it answers nonsense; MVPN_E_AUTH, _EXPIRED, _POLICY: it is
     * not vouched for. */
    int error;
    mvpn_dht_contact contact;
    mvpn_ed25519_pub identity; /* proven, and vouched for as a DHT server (an anchor, if open) */
    /* It holds only by the time in the Pong: our clock is wrong, or an old key was used. */
    bool is_by_its_clock;
    mvpn_dht_reply reply; /* what it borrows lives until the next call */
} mvpn_dht_exchange_answer;
bool mvpn_dht_exchange_pull_answer(mvpn_dht_exchange *x, mvpn_dht_exchange_answer *ret);

typedef struct mvpn_dht_exchange_counters {
    uint64_t requests_in, requests_out, replies_in, replies_out, bytes_in, bytes_out;
    uint64_t dropped_format, dropped_mac, dropped_auth, dropped_limit, dropped_unknown;
    uint64_t uncertified; /* contacts that could not prove themselves */
} mvpn_dht_exchange_counters;
const mvpn_dht_exchange_counters *mvpn_dht_exchange_get_counters(const mvpn_dht_exchange *x);

#endif
