/*
 * What comes by multicast. First byte: whether the mac is made right, so that what is behind it is
 * met too.
 */
#include "crypto/hash.h"
#include "fuzz/fuzz.h"
#include "wire/lan.h"

#define MAC_AT (5 + MVPN_LAN_NONCE_LEN)

static const mvpn_key token = {{1}};

static void make_mac(uint8_t *p, size_t n)
{
    uint8_t covered[MVPN_LAN_QUESTION_LEN];
    size_t rest = n - MAC_AT - MVPN_LAN_MAC_LEN;
    memcpy(covered, p, MAC_AT);
    memcpy(covered + MAC_AT, p + MAC_AT + MVPN_LAN_MAC_LEN, rest);
    mvpn_blake3_keyed(p + MAC_AT, MVPN_LAN_MAC_LEN, &token, mvpn_bytes_of(covered, MAC_AT + rest));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t packet[MVPN_LAN_QUESTION_LEN + 1], nonce[MVPN_LAN_NONCE_LEN] = {0}, again[99];
    mvpn_dht_contact entry;
    if (size < 1) {
        return 0;
    }
    bool is_right = data[0] & 1;
    size_t n = MVPN_MIN(size - 1, sizeof(packet));
    memcpy(packet, data + 1, n);
    if (is_right && n >= MVPN_LAN_ANSWER_FIXED && n <= MVPN_LAN_QUESTION_LEN) {
        make_mac(packet, n);
    }
    if (n > MAC_AT) {
        memcpy(nonce, packet + 5, sizeof(nonce));
    }
    if (mvpn_lan_question_decode(nonce, &token, mvpn_bytes_of(packet, n)) == 0) {
        mvpn_lan_question_encode(again, &token, nonce);
        fuzz_same(again, sizeof(again), mvpn_bytes_of(packet, n));
    }
    if (mvpn_lan_answer_decode(&entry, &token, nonce, mvpn_bytes_of(packet, n)) == 0) {
        FUZZ_CHECK(mvpn_dht_id_fits(&entry.id, &entry.addr));
        fuzz_same(again, mvpn_lan_answer_encode(again, &token, nonce, &entry),
                  mvpn_bytes_of(packet, n));
    }
    return 0;
}
