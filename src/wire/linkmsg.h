/*
 * Bodies of the link commands. (docs/protocol.md §4.3 to §4.8)
 */
#ifndef MVPN_WIRE_LINKMSG_H
#define MVPN_WIRE_LINKMSG_H

#include "base/addr.h"
#include "base/bytes.h"
#include "base/macros.h"
#include "wire/handshake.h"

#define MVPN_LINK_TOKEN_LEN 8
#define MVPN_LINK_ACK_MAX 64
#define MVPN_LINK_ACK_LEN_MAX (4 * MVPN_LINK_ACK_MAX)
#define MVPN_LINK_NEW_IDS_LEN_MAX (1 + MVPN_HANDSHAKE_IDS_MAX * MVPN_CONNECTION_ID_LEN)
#define MVPN_LINK_PART_HEADER_LEN 3
#define MVPN_LINK_VERSION 1

/** LinkAck: 1 to 64 sequences. Returns the length. */
size_t mvpn_link_ack_encode(uint8_t out[static MVPN_LINK_ACK_LEN_MAX], const uint32_t *sequences,
                            size_t count);
/** MVPN_E_FORMAT. */
MVPN_WUR int mvpn_link_ack_decode(uint32_t ret[static MVPN_LINK_ACK_MAX], size_t *ret_count,
                                  mvpn_bytes body);

/** LinkNewIds: 1 to 4 ids. Returns the length. */
size_t mvpn_link_new_ids_encode(uint8_t out[static MVPN_LINK_NEW_IDS_LEN_MAX],
                                const mvpn_connection_id *ids, size_t count);
/** MVPN_E_FORMAT. */
MVPN_WUR int mvpn_link_new_ids_decode(mvpn_connection_id ret[static MVPN_HANDSHAKE_IDS_MAX],
                                      size_t *ret_count, mvpn_bytes body);

typedef struct mvpn_link_part {
    uint16_t id;
    uint8_t index; /* 0 or 1 */
    mvpn_bytes bytes;
} mvpn_link_part;

void mvpn_link_part_encode(uint8_t out[static MVPN_LINK_PART_HEADER_LEN], uint16_t id,
                           uint8_t index);
/** MVPN_E_FORMAT; `ret->bytes` is borrowed from `body` and not empty. */
MVPN_WUR int mvpn_link_part_decode(mvpn_link_part *ret, mvpn_bytes body);

/** Ping, Pong, PathChallenge, PathResponse, ProbeAck: exactly a token. MVPN_E_FORMAT. */
MVPN_WUR int mvpn_link_token_decode(uint64_t *ret, mvpn_bytes body);
/** LinkProbe: a token, the rest is filling. MVPN_E_FORMAT. */
MVPN_WUR int mvpn_link_probe_decode(uint64_t *ret, mvpn_bytes body);
/** LinkClose: a reason. MVPN_E_FORMAT. */
MVPN_WUR int mvpn_link_close_decode(uint8_t *ret, mvpn_bytes body);

/* LinkCandidates. (§14.5) */
#define MVPN_CANDIDATES_MAX 8
#define MVPN_LINK_CANDIDATES_LEN_MAX                                                               \
    (7 + MVPN_HANDSHAKE_IDS_MAX * MVPN_CONNECTION_ID_LEN + 1 + MVPN_CANDIDATES_MAX * 20)

enum mvpn_candidates_flag {
    MVPN_CANDIDATES_ASK = 1 << 0,     /* an answer is wanted */
    MVPN_CANDIDATES_GAVE_UP = 1 << 1, /* our direct route is no more: use the relayed one */
    MVPN_CANDIDATES_SOCKETS = 1 << 2, /* we open many sockets when it comes to that */
};

enum mvpn_candidate_kind {
    MVPN_CANDIDATE_HOST = 1,
    MVPN_CANDIDATE_REFLEXIVE = 2,
    MVPN_CANDIDATE_MAPPED = 3, /* by the router, as we asked it to */
};

/* How much of the peer a NAT's mapping, or filter, depends on. */
enum mvpn_nat_dependence {
    MVPN_NAT_DEPENDS_UNKNOWN,
    MVPN_NAT_DEPENDS_NOT,
    MVPN_NAT_DEPENDS_ADDRESS,
    MVPN_NAT_DEPENDS_PORT,
};

typedef struct mvpn_candidate {
    uint8_t kind; /* MVPN_CANDIDATE_*; others are kept and not used */
    mvpn_addr addr;
} mvpn_candidate;

typedef struct mvpn_link_candidates {
    uint8_t round;
    uint8_t flags;              /* MVPN_CANDIDATES_* */
    uint8_t mapping, filtering; /* enum mvpn_nat_dependence; what is unknown here reads UNKNOWN */
    int16_t port_step;          /* of sequential ports, else 0 */
    uint8_t id_count;           /* 1..4 */
    mvpn_connection_id ids[MVPN_HANDSHAKE_IDS_MAX];
    uint8_t candidate_count;
    mvpn_candidate candidates[MVPN_CANDIDATES_MAX];
} mvpn_link_candidates;

/** Returns the length. */
size_t mvpn_link_candidates_encode(uint8_t out[static MVPN_LINK_CANDIDATES_LEN_MAX],
                                   const mvpn_link_candidates *in);
/** MVPN_E_FORMAT: length, counts, an address without port or of no family. */
MVPN_WUR int mvpn_link_candidates_decode(mvpn_link_candidates *ret, mvpn_bytes body);

#endif
