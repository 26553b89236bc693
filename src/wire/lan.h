/*
 * Finding an entry on the local network: one multicast question, one answer. (docs/protocol.md
 * §13.4) An answer is never longer than its question. Both prove that their sender knows the
 * network token: in a closed network strangers can neither ask nor answer.
 */
#ifndef MVPN_WIRE_LAN_H
#define MVPN_WIRE_LAN_H

#include "wire/dht.h"

#define MVPN_LAN_NONCE_LEN 8
#define MVPN_LAN_MAC_LEN 16
#define MVPN_LAN_ANSWER_FIXED (5 + MVPN_LAN_NONCE_LEN + MVPN_LAN_MAC_LEN)
#define MVPN_LAN_ANSWER_MAX (MVPN_LAN_ANSWER_FIXED + MVPN_DHT_CONTACT6_LEN)
/* As long as the longest answer, by padding. */
#define MVPN_LAN_QUESTION_LEN MVPN_LAN_ANSWER_MAX

#define MVPN_LAN_PORT 4956
#define MVPN_LAN_GROUP4 "239.255.77.86"
#define MVPN_LAN_GROUP6 "ff02::4d56"

void mvpn_lan_question_encode(uint8_t out[static MVPN_LAN_QUESTION_LEN], const mvpn_key *token,
                              const uint8_t nonce[static MVPN_LAN_NONCE_LEN]);
/** MVPN_E_FORMAT (also: another length, padding that is not zero); MVPN_E_AUTH: another network. */
MVPN_WUR int mvpn_lan_question_decode(uint8_t ret_nonce[static MVPN_LAN_NONCE_LEN],
                                      const mvpn_key *token, mvpn_bytes in);

/** Returns the length: 87 or 99. */
size_t mvpn_lan_answer_encode(uint8_t out[static MVPN_LAN_ANSWER_MAX], const mvpn_key *token,
                              const uint8_t nonce[static MVPN_LAN_NONCE_LEN],
                              const mvpn_dht_contact *entry);
/** MVPN_E_FORMAT; MVPN_E_AUTH: another network, or not to the question with this nonce;
 * MVPN_E_POLICY: the entry's id does not fit its address. */
MVPN_WUR int mvpn_lan_answer_decode(mvpn_dht_contact *ret, const mvpn_key *token,
                                    const uint8_t nonce[static MVPN_LAN_NONCE_LEN], mvpn_bytes in);

#endif
