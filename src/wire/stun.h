/*
 * STUN messages (RFC 8489) with the attributes of behaviour discovery (RFC 5780): the client that
 * asks where it stands (network/p2p/stun_client), and the service that relays can offer
 * (network/p2p/stun_server). TURN, ICE and the credential mechanisms are not here; USERNAME and the
 * integrity attributes are understood because messages of others carry them.
 */
#ifndef MVPN_WIRE_STUN_H
#define MVPN_WIRE_STUN_H

#include "base/addr.h"
#include "base/cursor.h"

#define MVPN_STUN_HEADER_LEN 20
#define MVPN_STUN_TRANSACTION_LEN 12
#define MVPN_STUN_BINDING 0x001
/* Longest message read: clients pad by 1500 bytes to provoke fragments (RFC 5780 §7.6). */
#define MVPN_STUN_MAX 2048
/* Attributes of one message that are looked at; the longest known messages have about ten. */
#define MVPN_STUN_ATTRIBUTES_MAX 32
/* Unknown attributes that an error answer names. */
#define MVPN_STUN_UNKNOWN_MAX 4
#define MVPN_STUN_SOFTWARE_MAX 763 /* RFC 8489 §14.14 */
#define MVPN_STUN_USERNAME_MAX 508 /* RFC 8489 §14.3: "less than 509 bytes" */

enum mvpn_stun_class {
    MVPN_STUN_REQUEST,
    MVPN_STUN_INDICATION,
    MVPN_STUN_SUCCESS,
    MVPN_STUN_ERROR,
};

enum mvpn_stun_attribute {
    MVPN_STUN_MAPPED_ADDRESS = 0x0001,
    MVPN_STUN_CHANGE_REQUEST = 0x0003,
    MVPN_STUN_USERNAME = 0x0006,
    MVPN_STUN_INTEGRITY = 0x0008,
    MVPN_STUN_ERROR_CODE = 0x0009,
    MVPN_STUN_UNKNOWN_ATTRIBUTES = 0x000a,
    MVPN_STUN_REALM = 0x0014,
    MVPN_STUN_NONCE = 0x0015,
    MVPN_STUN_INTEGRITY_SHA256 = 0x001c,
    MVPN_STUN_XOR_MAPPED_ADDRESS = 0x0020,
    MVPN_STUN_PADDING = 0x0026,
    MVPN_STUN_RESPONSE_PORT = 0x0027,
    MVPN_STUN_SOFTWARE = 0x8022,
    MVPN_STUN_FINGERPRINT = 0x8028,
    MVPN_STUN_RESPONSE_ORIGIN = 0x802b,
    MVPN_STUN_OTHER_ADDRESS = 0x802c,
};

enum mvpn_stun_error_code {
    MVPN_STUN_BAD_REQUEST = 400,
    MVPN_STUN_UNKNOWN_ATTRIBUTE = 420,
};

typedef struct mvpn_stun_message {
    enum mvpn_stun_class class;
    uint16_t method;
    uint8_t transaction[MVPN_STUN_TRANSACTION_LEN];
    /* Addresses: family 0 = not there. */
    mvpn_addr mapped;
    mvpn_addr xor_mapped;
    mvpn_addr response_origin;
    mvpn_addr other;
    bool has_change; /* CHANGE-REQUEST */
    bool change_ip;
    bool change_port;
    bool has_padding;
    bool has_fingerprint; /* and it is right */
    uint16_t error_code;  /* 300..699; 0 = none */
    mvpn_bytes software;  /* borrowed from the input; NULL = none */
    mvpn_bytes username;
    /* Attributes that must be understood and are not; more than fit here are only counted. */
    uint16_t unknown[MVPN_STUN_UNKNOWN_MAX];
    size_t unknown_count;
    /* Where the integrity attributes begin; 0 = none. */
    size_t integrity_at;
    size_t integrity256_at;
} mvpn_stun_message;

/**
 * Read one datagram. Strict where RFC 8489 is: two zero bits, the magic cookie, exact lengths,
 * attributes inside the message, FINGERPRINT last and right. As §14 has it, of an attribute that
 * comes twice the first counts, and behind the integrity attributes only FINGERPRINT does.
 * RESPONSE-PORT counts as unknown: it would direct answers at a port that never asked.
 *
 * MVPN_E_FORMAT (drop): no STUN message, or a broken one. `*ret` is written on success alone.
 */
MVPN_WUR int mvpn_stun_decode(mvpn_stun_message *ret, mvpn_bytes in);

/** True if it looks like STUN at all: to tell it from other datagrams of one port (§6.2). */
bool mvpn_stun_is_stun(mvpn_bytes in);

/**
 * Check MESSAGE-INTEGRITY-SHA256 if there is one, else MESSAGE-INTEGRITY (§14.5, §14.6).
 * `in`   the bytes that `m` was decoded from.
 * `key`  the password, or the long-term key.
 * MVPN_E_STATE: there is none; MVPN_E_AUTH: wrong; MVPN_E_TOO_BIG: longer than MVPN_STUN_MAX.
 */
MVPN_WUR int mvpn_stun_check_integrity(const mvpn_stun_message *m, mvpn_bytes in, mvpn_bytes key);

/* ---- writing: begin, attributes in the order of the calls, end ---- */

typedef struct mvpn_stun_writer {
    mvpn_writer w;
} mvpn_stun_writer;

/** `out` must stay until the end. */
void mvpn_stun_begin(mvpn_stun_writer *s, uint8_t *out, size_t size, enum mvpn_stun_class class,
                     uint16_t method, const uint8_t transaction[static MVPN_STUN_TRANSACTION_LEN]);
/** `type` one of the address attributes; the XOR form by itself. `addr` has a family. */
void mvpn_stun_put_address(mvpn_stun_writer *s, enum mvpn_stun_attribute type,
                           const mvpn_addr *addr);
/** Any attribute by its bytes. */
void mvpn_stun_put_bytes(mvpn_stun_writer *s, uint16_t type, mvpn_bytes value);
void mvpn_stun_put_change(mvpn_stun_writer *s, bool ip, bool port);
/** Without a reason phrase: it tells a program nothing, and answers must be short. */
void mvpn_stun_put_error(mvpn_stun_writer *s, uint16_t code);
void mvpn_stun_put_unknown(mvpn_stun_writer *s, const uint16_t *types, size_t count);
void mvpn_stun_put_integrity(mvpn_stun_writer *s, mvpn_bytes key);
void mvpn_stun_put_integrity256(mvpn_stun_writer *s, mvpn_bytes key);
/** The last one. */
void mvpn_stun_put_fingerprint(mvpn_stun_writer *s);
/** Length of the message; 0 if it did not fit. */
MVPN_WUR size_t mvpn_stun_end(mvpn_stun_writer *s);

/** Bytes that an address attribute takes. */
static inline size_t mvpn_stun_address_len(const mvpn_addr *addr)
{
    return 8 + mvpn_addr_ip_len(addr);
}

#endif
