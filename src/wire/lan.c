#include "wire/lan.h"

#include <string.h>

#include "base/assert.h"
#include "base/error.h"
#include "crypto/hash.h"

#define MAGIC_LEN 5
#define MAC_AT (MAGIC_LEN + MVPN_LAN_NONCE_LEN)

static const char question_magic[] = "MVPN?";
static const char answer_magic[] = "MVPN!";

/* Of everything but the mac: what is before it, then what is behind. */
static void mac_of(uint8_t out[static MVPN_LAN_MAC_LEN], const mvpn_key *token, mvpn_bytes packet)
{
    uint8_t covered[MVPN_LAN_QUESTION_LEN];
    size_t rest = packet.n - MAC_AT - MVPN_LAN_MAC_LEN;
    MVPN_ASSERT(packet.n <= sizeof(covered));
    memcpy(covered, packet.p, MAC_AT);
    memcpy(covered + MAC_AT, packet.p + MAC_AT + MVPN_LAN_MAC_LEN, rest);
    mvpn_blake3_keyed(out, MVPN_LAN_MAC_LEN, token, mvpn_bytes_of(covered, MAC_AT + rest));
}

static int check(const char *magic, const mvpn_key *token, mvpn_bytes in)
{
    uint8_t mac[MVPN_LAN_MAC_LEN];
    if (memcmp(in.p, magic, MAGIC_LEN) != 0) {
        return MVPN_E_FORMAT;
    }
    mac_of(mac, token, in);
    return mvpn_ct_equal(mac, in.p + MAC_AT, sizeof(mac)) ? 0 : MVPN_E_AUTH;
}

void mvpn_lan_question_encode(uint8_t out[static MVPN_LAN_QUESTION_LEN], const mvpn_key *token,
                              const uint8_t nonce[static MVPN_LAN_NONCE_LEN])
{
    memset(out, 0, MVPN_LAN_QUESTION_LEN);
    memcpy(out, question_magic, MAGIC_LEN);
    memcpy(out + MAGIC_LEN, nonce, MVPN_LAN_NONCE_LEN);
    mac_of(out + MAC_AT, token, mvpn_bytes_of(out, MVPN_LAN_QUESTION_LEN));
}

int mvpn_lan_question_decode(uint8_t ret_nonce[static MVPN_LAN_NONCE_LEN], const mvpn_key *token,
                             mvpn_bytes in)
{
    if (in.n != MVPN_LAN_QUESTION_LEN ||
        !mvpn_ct_is_zero(in.p + MVPN_LAN_ANSWER_FIXED, in.n - MVPN_LAN_ANSWER_FIXED)) {
        return MVPN_E_FORMAT;
    }
    int err = check(question_magic, token, in);
    if (err == 0) {
        memcpy(ret_nonce, in.p + MAGIC_LEN, MVPN_LAN_NONCE_LEN);
    }
    return err;
}

size_t mvpn_lan_answer_encode(uint8_t out[static MVPN_LAN_ANSWER_MAX], const mvpn_key *token,
                              const uint8_t nonce[static MVPN_LAN_NONCE_LEN],
                              const mvpn_dht_contact *entry)
{
    memcpy(out, answer_magic, MAGIC_LEN);
    memcpy(out + MAGIC_LEN, nonce, MVPN_LAN_NONCE_LEN);
    size_t len = MVPN_LAN_ANSWER_FIXED +
                 mvpn_dht_contact_encode(out + MVPN_LAN_ANSWER_FIXED, MVPN_DHT_CONTACT6_LEN, entry);
    mac_of(out + MAC_AT, token, mvpn_bytes_of(out, len));
    return len;
}

int mvpn_lan_answer_decode(mvpn_dht_contact *ret, const mvpn_key *token,
                           const uint8_t nonce[static MVPN_LAN_NONCE_LEN], mvpn_bytes in)
{
    if (in.n != MVPN_LAN_ANSWER_FIXED + MVPN_DHT_CONTACT4_LEN && in.n != MVPN_LAN_ANSWER_MAX) {
        return MVPN_E_FORMAT;
    }
    int err = check(answer_magic, token, in);
    if (err == 0 && memcmp(in.p + MAGIC_LEN, nonce, MVPN_LAN_NONCE_LEN) != 0) {
        err = MVPN_E_AUTH;
    }
    if (err == 0) {
        err = mvpn_dht_contact_decode(
            ret, mvpn_bytes_of(in.p + MVPN_LAN_ANSWER_FIXED, in.n - MVPN_LAN_ANSWER_FIXED));
    }
    return err;
}
