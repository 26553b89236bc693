/*
 * Handshake packets of links and the payloads of their Noise messages; the prologue that all
 * handshakes share. (docs/protocol.md §3.2, §4.2)
 */
#ifndef MVPN_WIRE_HANDSHAKE_H
#define MVPN_WIRE_HANDSHAKE_H

#include "base/addr.h"
#include "base/bytes.h"
#include "base/macros.h"
#include "crypto/keys.h"

#define MVPN_CONNECTION_ID_LEN 8

typedef struct mvpn_connection_id {
    uint8_t b[MVPN_CONNECTION_ID_LEN];
} mvpn_connection_id;

enum mvpn_purpose {
    MVPN_PURPOSE_LINK = 1,
    MVPN_PURPOSE_CIRCUIT = 2,
    MVPN_PURPOSE_DHT = 3,
    MVPN_PURPOSE_REKEY = 4,
};

#define MVPN_SUITE_X25519 0x01
#define MVPN_SUITE_TEST 0x7f
#define MVPN_PROLOGUE_LEN 107
/* A rekey's prologue goes on with the hash of the handshake that it replaces. */
#define MVPN_PROLOGUE_REKEY_LEN (MVPN_PROLOGUE_LEN + 32)

void mvpn_prologue_encode(uint8_t out[static MVPN_PROLOGUE_LEN], unsigned suite,
                          enum mvpn_purpose purpose, const mvpn_key *network_id,
                          const mvpn_ed25519_pub *responder, const mvpn_key *responder_key);

/* Whose mac1 it is: first packets of links, and DHT requests. (§3.3) */
enum mvpn_handshake_pattern {
    MVPN_PATTERN_NK = 1,
    MVPN_PATTERN_IK = 2,
    MVPN_PATTERN_DHT = 3,
};
#define MVPN_HANDSHAKE_MAC_LEN 16
/* Stands for the hour in mac1 of an initiator that cannot trust its clock. (§4.2) */
#define MVPN_HOUR_UNSURE UINT64_MAX

/** Key of mac1 for one pattern and hour. (§3.3) */
void mvpn_mac1_key(mvpn_key *ret, const mvpn_key *link_key, const mvpn_key *token,
                   enum mvpn_handshake_pattern pattern, uint64_t hour);
/** mac1 of the bytes before it: shows that the sender knows whom it asks, and the network. (§4.2)
 */
void mvpn_mac1_make(uint8_t out[static MVPN_HANDSHAKE_MAC_LEN], const mvpn_key *key,
                    mvpn_bytes before);

/* One size for all: a reply is never larger than what it answers. */
#define MVPN_HANDSHAKE_LEN 1232
#define MVPN_HANDSHAKE_HEADER_LEN 23
#define MVPN_HANDSHAKE_VERSION 0x6d760001u
#define MVPN_HANDSHAKE_MAC1_AT (MVPN_HANDSHAKE_LEN - 2 * MVPN_HANDSHAKE_MAC_LEN)
#define MVPN_HANDSHAKE_MAC2_AT (MVPN_HANDSHAKE_LEN - MVPN_HANDSHAKE_MAC_LEN)
#define MVPN_HANDSHAKE_NOISE1_LEN (MVPN_HANDSHAKE_MAC1_AT - MVPN_HANDSHAKE_HEADER_LEN)
#define MVPN_HANDSHAKE_NOISE2_LEN (MVPN_HANDSHAKE_LEN - MVPN_HANDSHAKE_HEADER_LEN)
/* Cookie reply: nonce, then the sealed box. */
#define MVPN_COOKIE_LEN 16
#define MVPN_COOKIE_NONCE_LEN 24
#define MVPN_COOKIE_BOX_LEN (MVPN_HANDSHAKE_NOISE2_LEN - MVPN_COOKIE_NONCE_LEN)

typedef struct mvpn_handshake_header {
    uint8_t random; /* low six bits of the flags */
    mvpn_connection_id destination;
    mvpn_connection_id source;
} mvpn_handshake_header;

/** True if the first byte of a datagram says handshake packet. */
static inline bool mvpn_is_handshake_flags(uint8_t flags)
{
    return flags >> 6 == 3;
}

void mvpn_handshake_header_encode(uint8_t out[static MVPN_HANDSHAKE_HEADER_LEN],
                                  const mvpn_handshake_header *header);
/** `packet` is the whole datagram: any other size, version or id length is MVPN_E_FORMAT. */
MVPN_WUR int mvpn_handshake_header_decode(mvpn_handshake_header *ret, mvpn_bytes packet);

#define MVPN_HANDSHAKE_IDS_MAX 4
/* The least that any peer takes: the size of handshake packets themselves. */
#define MVPN_DATAGRAM_MIN MVPN_HANDSHAKE_LEN

typedef struct mvpn_handshake_payload {
    uint64_t time; /* Unix seconds */
    uint16_t max_datagram;
    mvpn_addr observed; /* message 2 only: the initiator's address as seen */
    uint8_t id_count;
    mvpn_connection_id ids[MVPN_HANDSHAKE_IDS_MAX];
    mvpn_bytes link_certificate;       /* n = 0: none; borrowed from the input */
    mvpn_bytes membership_certificate; /* likewise */
} mvpn_handshake_payload;

/**
 * Write a payload, padded with zeros to exactly `size` bytes. `header` is the packet's own header,
 * a copy of which leads the payload and so is authenticated. MVPN_E_SPACE.
 */
MVPN_WUR int mvpn_handshake_payload_encode(uint8_t *out, size_t size, bool is_reply,
                                           const uint8_t header[static MVPN_HANDSHAKE_HEADER_LEN],
                                           const mvpn_handshake_payload *payload);
/** MVPN_E_FORMAT; MVPN_E_AUTH if the copy of the header differs from the packet's. */
MVPN_WUR int mvpn_handshake_payload_decode(mvpn_handshake_payload *ret, mvpn_bytes in,
                                           bool is_reply,
                                           const uint8_t header[static MVPN_HANDSHAKE_HEADER_LEN]);

#endif
