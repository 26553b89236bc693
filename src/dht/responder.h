/*
 * The answering side of the DHT's datagrams: a request is checked, cheapest check first, opened,
 * put to the core, and its packet turned into the reply. Also the Noise keys that both sides share.
 * (docs/protocol.md §11.2) Part of the exchange; nobody else calls it.
 *
 *   size, form -> mac1 -> rate (by the token) -> Noise -> core -> reply
 */
#ifndef MVPN_DHT_RESPONDER_H
#define MVPN_DHT_RESPONDER_H

#include "crypto/noise.h"
#include "dht/exchange.h"

/* Requests a second: what one core answers with half its time to spare (a handshake costs about
 * 0.15 ms), and what anybody may cost us who showed no address. */
#define MVPN_DHT_PROVEN_PER_S 3000
#define MVPN_DHT_UNPROVEN_PER_S 500
/* How long we answer by a node id after its address is no longer ours. */
#define MVPN_DHT_OLD_SELF_LIFE MVPN_S(600)
/* Node ids that we answer by: of our addresses, and of the last that we had. */
#define MVPN_DHT_NAMES_MAX (MVPN_DHT_OWN_MAX + 4)

/** What every handshake of a network needs. Borrows the cipher. */
typedef struct mvpn_dht_noise_keys {
    mvpn_aead *aead;
    mvpn_key network_id;
    mvpn_key token; /* network token, for mac1 */
    mvpn_key psk;   /* closed networks */
    bool closed;
} mvpn_dht_noise_keys;

void mvpn_dht_noise_keys_init(mvpn_dht_noise_keys *ret, const mvpn_dht_exchange_config *config);
/** Begin a handshake with (initiator; `own` NULL) or as (responder) `server`. */
void mvpn_dht_noise_start(mvpn_noise *hs, const mvpn_dht_noise_keys *keys,
                          const mvpn_dht_contact *server, const mvpn_x25519_pair *own);
/** Longest datagram to an address. */
size_t mvpn_dht_datagram_max(const mvpn_addr *addr);
/** Unix seconds. */
uint64_t mvpn_dht_unix_now(mvpn_time now, int64_t unix_offset_us);

typedef struct mvpn_dht_responder mvpn_dht_responder;

/** MVPN_E_NOMEM. `config` and `keys` are copied, what they point to is borrowed. */
MVPN_WUR int mvpn_dht_responder_new(const mvpn_dht_exchange_config *config,
                                    const mvpn_dht_noise_keys *keys, mvpn_time now,
                                    mvpn_dht_responder **ret);
void mvpn_dht_responder_free(mvpn_dht_responder *r);
/** All that we are now; those that we were before are answered a while longer. */
void mvpn_dht_responder_set_own(mvpn_dht_responder *r, const mvpn_dht_contact *own, size_t count,
                                mvpn_time now);

/**
 * Turn a request into its reply, in place; drops are counted. 0: send the packet. MVPN_E_FORMAT,
 * MVPN_E_AUTH, MVPN_E_LIMIT: say nothing.
 */
MVPN_WUR int mvpn_dht_responder_answer(mvpn_dht_responder *r, mvpn_packet *packet,
                                       int64_t unix_offset_us, mvpn_time now,
                                       mvpn_dht_exchange_counters *counters);

#endif
