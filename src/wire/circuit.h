/*
 * Bodies of circuit and session messages. Decoders borrow from their input and check every length;
 * nothing else of the tree parses these bytes. (docs/protocol.md §6, §7)
 */
#ifndef MVPN_WIRE_CIRCUIT_H
#define MVPN_WIRE_CIRCUIT_H

#include "base/bytes.h"
#include "base/macros.h"
#include "crypto/keys.h"
#include "wire/handshake.h"
#include "wire/message.h"

/* Handshake messages may come in parts: at most 4 parts and 2 KiB. (§6.1) */
#define MVPN_PARTS_MAX 4
#define MVPN_ASSEMBLY_MAX 2048
/* Cells of RelayEarly kind that a circuit may use. (§6.2) */
#define MVPN_EARLY_MAX 8

/* Payload sizes of the test suite: those of a hybrid ML-KEM-768 handshake. */
#define MVPN_SUITE_TEST_1 1184
#define MVPN_SUITE_TEST_2 1088

/** Why a circuit ends or is refused; crosses one hop at most. (§6.4) */
enum mvpn_reason {
    MVPN_REASON_NONE = 0,
    MVPN_REASON_PROTOCOL = 1,
    MVPN_REASON_BUSY = 2,
    MVPN_REASON_UNREACHABLE = 3,
    MVPN_REASON_REFUSED = 4,
    MVPN_REASON_TIMEOUT = 5,
    MVPN_REASON_FINISHED = 6,
    MVPN_REASON_KEY_UNKNOWN = 7,
    MVPN_REASON_RELAY_UNKNOWN = 8,
    MVPN_REASON_SESSION_UNKNOWN = 9,
};

/** A short English phrase for a reason; never NULL. */
const char *mvpn_reason_text(unsigned reason);

/** One part of a handshake message. */
typedef struct mvpn_part {
    uint16_t total;
    uint16_t offset;
    mvpn_bytes bytes;
} mvpn_part;

typedef struct mvpn_create {
    mvpn_circuit_id back; /* circuit id for the way back */
    uint32_t request_id;
    uint8_t suite;
    uint8_t key_id;
    mvpn_part part;
} mvpn_create;

typedef struct mvpn_created {
    uint32_t request_id;
    mvpn_part part;
} mvpn_created;

/** Extend in a layer: parts of the body that mvpn_extend_body describes. */
typedef struct mvpn_extend {
    uint32_t request_id;
    mvpn_part part;
} mvpn_extend;

typedef struct mvpn_extend_body {
    mvpn_ed25519_pub identity;
    uint8_t suite;
    uint8_t key_id;
    mvpn_bytes handshake;
    mvpn_bytes descriptor; /* empty: none sent */
} mvpn_extend_body;

typedef struct mvpn_extended {
    uint32_t request_id;
    uint8_t status; /* 0, or an mvpn_reason: then the part is empty */
    mvpn_part part;
} mvpn_extended;

#define MVPN_TICKET_LEN 32

typedef struct mvpn_begin {
    uint32_t request_id;
    uint8_t profile;   /* 0 or 1 */
    uint8_t flags;     /* MVPN_BEGIN_* */
    uint32_t epoch;    /* of the take-over; 0 opens a session */
    mvpn_bytes ticket; /* none, or MVPN_TICKET_LEN: then the epoch is not 0 */
} mvpn_begin;
#define MVPN_BEGIN_IPV6 0x01

typedef struct mvpn_connected {
    uint32_t request_id;
    uint8_t status;    /* 0 or an mvpn_reason */
    uint8_t flags;     /* MVPN_CONNECTED_* */
    mvpn_bytes ticket; /* for the next take-over: MVPN_TICKET_LEN, or none with a status */
} mvpn_connected;
#define MVPN_CONNECTED_IPV4 0x01
#define MVPN_CONNECTED_IPV6 0x02

/* Bytes that stand before the part's bytes in each message. */
#define MVPN_CREATE_FIXED 26
#define MVPN_CREATED_FIXED 8
#define MVPN_EXTEND_FIXED 8
#define MVPN_EXTENDED_FIXED 9

/*
 * Encoders write to `out` and return the length, or 0 if `size` is too small. Decoders return 0 or
 * MVPN_E_FORMAT.
 */
size_t mvpn_create_encode(uint8_t *out, size_t size, const mvpn_create *m);
MVPN_WUR int mvpn_create_decode(mvpn_create *ret, mvpn_bytes in);
size_t mvpn_created_encode(uint8_t *out, size_t size, const mvpn_created *m);
MVPN_WUR int mvpn_created_decode(mvpn_created *ret, mvpn_bytes in);
size_t mvpn_extend_encode(uint8_t *out, size_t size, const mvpn_extend *m);
MVPN_WUR int mvpn_extend_decode(mvpn_extend *ret, mvpn_bytes in);
size_t mvpn_extend_body_encode(uint8_t *out, size_t size, const mvpn_extend_body *m);
MVPN_WUR int mvpn_extend_body_decode(mvpn_extend_body *ret, mvpn_bytes in);
size_t mvpn_extended_encode(uint8_t *out, size_t size, const mvpn_extended *m);
MVPN_WUR int mvpn_extended_decode(mvpn_extended *ret, mvpn_bytes in);
size_t mvpn_begin_encode(uint8_t *out, size_t size, const mvpn_begin *m);
MVPN_WUR int mvpn_begin_decode(mvpn_begin *ret, mvpn_bytes in);
size_t mvpn_connected_encode(uint8_t *out, size_t size, const mvpn_connected *m);
MVPN_WUR int mvpn_connected_decode(mvpn_connected *ret, mvpn_bytes in);
/** Destroy and RelayEnd: one byte of reason. */
MVPN_WUR int mvpn_reason_decode(uint8_t *ret, mvpn_bytes in);

/* RelayData: one item of the body. (§7) */
typedef struct mvpn_data_item {
    bool is_fragment;
    uint16_t total;  /* fragment: length of the whole packet */
    uint16_t id;     /* fragment: packet id */
    uint16_t offset; /* fragment: where its bytes belong */
    mvpn_bytes bytes;
} mvpn_data_item;

#define MVPN_DATA_ITEM_FIXED 2
#define MVPN_DATA_FRAGMENT_FIXED 6

/**
 * Take the next item off `*rest`. 0; MVPN_E_AGAIN when nothing is left; MVPN_E_FORMAT. A fragment
 * takes the whole rest and must be the first item.
 */
MVPN_WUR int mvpn_data_next(mvpn_bytes *rest, bool is_first, mvpn_data_item *ret);

#endif
