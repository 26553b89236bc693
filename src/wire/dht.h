/*
 * DHT and directory messages: contacts, the bodies of requests and replies, and the datagrams
 * between servers. (docs/protocol.md §11, §12) Decoders borrow from their input and check every
 * length; nothing else of the tree parses these bytes.
 */
#ifndef MVPN_WIRE_DHT_H
#define MVPN_WIRE_DHT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/bytes.h"
#include "base/macros.h"
#include "crypto/keys.h"
#include "wire/certificate.h"

#define MVPN_DHT_ID_LEN 20
#define MVPN_DHT_ID_BITS 160
#define MVPN_DHT_K 20
#define MVPN_DHT_CONTACT4_LEN 58
#define MVPN_DHT_CONTACT6_LEN 70
/* 1280 bytes less IP and UDP headers. */
#define MVPN_DHT_DATAGRAM4_MAX 1252
#define MVPN_DHT_DATAGRAM6_MAX 1232
#define MVPN_DHT_TOKEN_LEN 16
#define MVPN_DHT_RECORD_MAX 1000
/* A reply's body over IPv4 without certificate: what datagram, Noise and payload headers leave. */
#define MVPN_DHT_BODY_MAX 1172
#define MVPN_DHT_FETCH_MAX 32

/** A node id or the key of a record: a place in the key space. */
typedef struct mvpn_dht_id {
    uint8_t b[MVPN_DHT_ID_LEN];
} mvpn_dht_id;

typedef struct mvpn_dht_contact {
    mvpn_dht_id id;
    mvpn_key link_key;
    mvpn_addr addr;
} mvpn_dht_contact;

/** Node id of an identity at an address. (§11.1) */
void mvpn_dht_node_id(mvpn_dht_id *ret, const mvpn_ed25519_pub *identity, const mvpn_addr *addr);
/** True if the first 24 bits of `id` are those that the address' block gives it. */
bool mvpn_dht_id_fits(const mvpn_dht_id *id, const mvpn_addr *addr);
/** True if `id` is exactly the node id of this identity at this address. */
bool mvpn_dht_id_is_of(const mvpn_dht_id *id, const mvpn_ed25519_pub *identity,
                       const mvpn_addr *addr);
/** True if two addresses lie in one block that ids are bound to: /24 or /32. */
bool mvpn_dht_same_block(const mvpn_addr *a, const mvpn_addr *b);

/** Write one contact (58 or 70 bytes); returns its length, 0 if `size` is too small. */
size_t mvpn_dht_contact_encode(uint8_t *out, size_t size, const mvpn_dht_contact *c);
/** Decode exactly one contact of 58 or 70 bytes: MVPN_E_FORMAT (also: an IPv4-mapped address, port
 * 0); MVPN_E_POLICY if its id does not fit its address. */
MVPN_WUR int mvpn_dht_contact_decode(mvpn_dht_contact *ret, mvpn_bytes in);

/**
 * Write a list of contacts; those that do not fit in `size` are left out from the end. Returns the
 * length (at least 2; 0 if size < 2).
 */
size_t mvpn_dht_contacts_encode(uint8_t *out, size_t size, const mvpn_dht_contact *contacts,
                                size_t count);
/**
 * Decode a list of at most MVPN_DHT_K contacts. Contacts whose id does not fit their address are
 * left out. MVPN_E_FORMAT.
 */
MVPN_WUR int mvpn_dht_contacts_decode(mvpn_dht_contact ret[static MVPN_DHT_K], size_t *ret_count,
                                      mvpn_bytes in);

enum mvpn_record_type {
    MVPN_RECORD_DESCRIPTOR = 1,
    MVPN_RECORD_REVOCATIONS = 2,
    MVPN_RECORD_SNAPSHOT_HEAD = 3,
};

enum mvpn_dht_stored {
    MVPN_DHT_STORED = 0,
    MVPN_DHT_STORED_OLD = 1, /* it has this or a newer one */
    MVPN_DHT_STORED_REFUSED = 2,
    MVPN_DHT_STORED_FULL = 3,
};

enum mvpn_dht_error {
    MVPN_DHT_ERROR_MALFORMED = 1,
    MVPN_DHT_ERROR_BUSY = 2,
    MVPN_DHT_ERROR_TOKEN = 3,
    MVPN_DHT_ERROR_NOT_SERVED = 4,
};

/* Any request's body (§11.3); which fields count depends on the command. */
typedef struct mvpn_dht_request {
    uint16_t command;   /* MVPN_CMD_DHT_PING .. _BLOB */
    mvpn_dht_id target; /* FindNode: target; FindValue: key; List: cursor */
    uint8_t bits;       /* List */
    uint8_t type;       /* Store: mvpn_record_type */
    mvpn_bytes record;  /* Store: 1 to 1000 bytes */
    uint8_t key_count;  /* Fetch */
    mvpn_dht_id keys[MVPN_DHT_FETCH_MAX];
    mvpn_key digest; /* Blob */
    uint32_t offset; /* Blob */
} mvpn_dht_request;

/** Write the body (without command); returns its length, 0 if `size` is too small (Ping: 0 too). */
size_t mvpn_dht_request_encode(uint8_t *out, size_t size, const mvpn_dht_request *m);
/** MVPN_E_FORMAT; MVPN_E_UNKNOWN for a command that is no DHT request. */
MVPN_WUR int mvpn_dht_request_decode(mvpn_dht_request *ret, unsigned command, mvpn_bytes body);

typedef struct mvpn_dht_listed {
    mvpn_dht_id key;
    uint64_t sequence;
} mvpn_dht_listed;
#define MVPN_DHT_LISTED_MAX ((MVPN_DHT_BODY_MAX - 5) / 28)

/* Any reply's body (§11.3). Fetched is read with mvpn_dht_fetched_next. */
typedef struct mvpn_dht_reply {
    uint16_t command;   /* MVPN_CMD_DHT_PONG .. _ERROR */
    uint64_t time;      /* Pong: Unix seconds */
    mvpn_addr observed; /* Pong */
    size_t contact_count;
    mvpn_dht_contact contacts[MVPN_DHT_K]; /* Nodes */
    uint8_t status;                        /* Stored; Error: reason */
    uint8_t type;                          /* Value */
    mvpn_bytes record;                     /* Value; Fetched: all items */
    bool more;                             /* Listed, Fetched */
    uint32_t total;                        /* Listed: records held; BlobPart */
    size_t listed_count;
    mvpn_dht_listed listed[MVPN_DHT_LISTED_MAX]; /* ascending */
    uint32_t offset;                             /* BlobPart */
    mvpn_bytes bytes;                            /* BlobPart */
} mvpn_dht_reply;

/**
 * Write the body; returns its length, or 0 if it cannot fit in `size`. Nodes and Listed are cut to
 * what fits (Listed: `more` is set then).
 */
size_t mvpn_dht_reply_encode(uint8_t *out, size_t size, const mvpn_dht_reply *m);
/** MVPN_E_FORMAT; MVPN_E_UNKNOWN for a command that is no DHT reply. */
MVPN_WUR int mvpn_dht_reply_decode(mvpn_dht_reply *ret, unsigned command, mvpn_bytes body);

/** Append one record to the body of a Fetched reply under way (`*len` of `size`); the first byte
 * (more) is the caller's. MVPN_E_SPACE. */
MVPN_WUR int mvpn_dht_fetched_append(uint8_t *body, size_t size, size_t *len, unsigned type,
                                     mvpn_bytes record);
/** Take the next record off `*rest`. 0; MVPN_E_AGAIN at the end; MVPN_E_FORMAT. */
MVPN_WUR int mvpn_dht_fetched_next(mvpn_bytes *rest, uint8_t *ret_type, mvpn_bytes *ret_record);

/* Datagrams (§11.2). */
#define MVPN_DHT_VERSION_REQUEST 0x6d760d01u
#define MVPN_DHT_VERSION_REPLY 0x6d760d02u
#define MVPN_DHT_REQUEST_HEADER_LEN 31
#define MVPN_DHT_REPLY_HEADER_LEN 13
#define MVPN_DHT_MAC_LEN 16 /* of MVPN_PATTERN_DHT: mvpn_mac1_make */

/** True for a datagram that the exchange takes: long-header flags and one of the two versions. */
bool mvpn_dht_is_datagram(mvpn_bytes packet);

typedef struct mvpn_dht_request_packet {
    uint64_t transaction;
    uint8_t token[MVPN_DHT_TOKEN_LEN];
    mvpn_bytes noise;  /* message 1 */
    mvpn_bytes before; /* what mac1 covers */
    mvpn_bytes mac1;   /* 16 bytes */
} mvpn_dht_request_packet;
MVPN_WUR int mvpn_dht_request_packet_decode(mvpn_dht_request_packet *ret, mvpn_bytes packet);

/* Payload of message 1. */
typedef struct mvpn_dht_ask {
    uint16_t command;
    bool wants_certificate;
    bool has_claim;
    mvpn_dht_id claim_id;
    mvpn_key claim_link_key;
    mvpn_bytes body;
} mvpn_dht_ask;
size_t mvpn_dht_ask_encode(uint8_t *out, size_t size, const mvpn_dht_ask *m);
MVPN_WUR int mvpn_dht_ask_decode(mvpn_dht_ask *ret, mvpn_bytes in);

/* Payload of message 2. Certificates are given and returned in their full forms (§8.1, §8.2). */
typedef struct mvpn_dht_answer {
    uint16_t command;
    uint8_t token[MVPN_DHT_TOKEN_LEN];
    bool has_certificate;
    uint8_t link_certificate[MVPN_LINK_CERTIFICATE_LEN];
    bool has_membership;
    uint8_t membership[MVPN_MEMBERSHIP_LEN];
    mvpn_bytes body;
} mvpn_dht_answer;
size_t mvpn_dht_answer_encode(uint8_t *out, size_t size, const mvpn_dht_answer *m);
MVPN_WUR int mvpn_dht_answer_decode(mvpn_dht_answer *ret, mvpn_bytes in);
/** Bytes of the payload that are not body: 19, or with certificate 19 + 177 (+ 90). */
size_t mvpn_dht_answer_overhead(bool has_certificate, bool has_membership);

/* RelayDht (§12): [request id 4] [command 2] [body]. */
#define MVPN_RELAY_DHT_FIXED 6

#endif
