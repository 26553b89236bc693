/*
 * Who may begin a handshake with us: mac1, the filter of replayed first packets, cookies under
 * load. (docs/protocol.md §4.2, §10). Nothing here is allocated per packet.
 */
#ifndef MVPN_NETWORK_P2P_ADMISSION_H
#define MVPN_NETWORK_P2P_ADMISSION_H

#include "base/addr.h"
#include "base/packet.h"
#include "base/time.h"
#include "base/assert.h"
#include "crypto/aead.h"
#include "crypto/hash.h"
#include "crypto/keys.h"
#include "crypto/rng.h"
#include "wire/handshake.h"

typedef struct mvpn_admission mvpn_admission;

/* What one first packet, sent again and again by whomever, is answered with at most. */
#define MVPN_REPLIES_MAX 3

/** Key of cookie replies. */
void mvpn_cookie_key(mvpn_key *ret, const mvpn_key *link_key, const mvpn_key *token);
/** mac1 of a first packet; mac2 if `cookie` is not NULL. */
void mvpn_mac1(uint8_t out[static MVPN_HANDSHAKE_MAC_LEN], const mvpn_key *key,
               const uint8_t packet[static MVPN_HANDSHAKE_LEN]);
void mvpn_mac2(uint8_t out[static MVPN_HANDSHAKE_MAC_LEN],
               const uint8_t cookie[static MVPN_COOKIE_LEN],
               const uint8_t packet[static MVPN_HANDSHAKE_LEN]);

/** MVPN_E_NOMEM. `link_key` is our public link key. */
MVPN_WUR int mvpn_admission_new(mvpn_admission **ret, const mvpn_key *link_key,
                                const mvpn_key *token, uint32_t load_first_per_s, mvpn_rng *rng);
void mvpn_admission_free(mvpn_admission *a);

/**
 * Check mac1 for both patterns, three hours and MVPN_HOUR_UNSURE. MVPN_E_AUTH: say nothing.
 */
MVPN_WUR int mvpn_admission_check(mvpn_admission *a,
                                  const uint8_t packet[static MVPN_HANDSHAKE_LEN],
                                  uint64_t unix_now, enum mvpn_handshake_pattern *ret_pattern,
                                  uint64_t *ret_hour);
/** Count a first packet whose mac1 is right; true if there are too many of them. */
bool mvpn_admission_count(mvpn_admission *a, mvpn_time now);

/** Was this ephemeral key accepted in a first packet of that hour (unsure: among the last 4096)? */
bool mvpn_admission_is_seen(const mvpn_admission *a, uint64_t hour,
                            const uint8_t ephemeral[static 32]);
/** Remember it. False if the hour is full: then cookies, which bind address and time, take its
 * place. */
bool mvpn_admission_remember(mvpn_admission *a, uint64_t hour, const uint8_t ephemeral[static 32]);
bool mvpn_admission_is_full(const mvpn_admission *a, uint64_t hour);
/** May one more first packet of an unsure clock be answered? Ask after mac2: this counts it. */
bool mvpn_admission_take_unsure(mvpn_admission *a, mvpn_time now);

/** Does mac2 prove that the sender got our cookie at this address? */
bool mvpn_admission_has_cookie(mvpn_admission *a, const mvpn_addr *from,
                               const uint8_t packet[static MVPN_HANDSHAKE_LEN], mvpn_time now);
/**
 * May this first packet be answered with a cookie? Copies of one packet bring its supposed sender
 * at most MVPN_REPLIES_MAX of them. (§4.2)
 */
bool mvpn_admission_may_tell(mvpn_admission *a, const uint8_t packet[static MVPN_HANDSHAKE_LEN]);
/** Turn a first packet into its cookie reply, in place and of the same size. */
void mvpn_admission_cookie_reply(mvpn_admission *a, const mvpn_addr *from,
                                 uint8_t packet[static MVPN_HANDSHAKE_LEN], mvpn_time now);

#endif
