/*
 * Asking a home gateway for a port: NAT-PMP (RFC 6886) and its successor PCP (RFC 6887, opcodes MAP
 * and ANNOUNCE), UDP mappings only. Both use the gateway's port 5351; announcements go by multicast
 * to 224.0.0.1:5350. Used by network/p2p/portmap.
 */
#ifndef MVPN_WIRE_PORTMAP_H
#define MVPN_WIRE_PORTMAP_H

#include "base/addr.h"
#include "base/cursor.h"

#define MVPN_PORTMAP_PORT 5351
#define MVPN_PORTMAP_ANNOUNCE_PORT 5350

#define MVPN_NATPMP_VERSION 0
#define MVPN_NATPMP_ADDRESS_LEN 2
#define MVPN_NATPMP_MAP_LEN 12
#define MVPN_NATPMP_ERROR_LEN 8
#define MVPN_NATPMP_ADDRESS_ANSWER_LEN 12
#define MVPN_NATPMP_MAP_ANSWER_LEN 16

#define MVPN_PCP_VERSION 2
#define MVPN_PCP_HEADER_LEN 24
#define MVPN_PCP_MAP_LEN 60
#define MVPN_PCP_NONCE_LEN 12
/* Longest message of PCP (RFC 6887 §7), and so of both. */
#define MVPN_PORTMAP_MAX 1100

/* Longest request of ours. */
#define MVPN_PORTMAP_REQUEST_MAX MVPN_PCP_MAP_LEN

enum mvpn_natpmp_opcode {
    MVPN_NATPMP_ADDRESS = 0,
    MVPN_NATPMP_MAP_UDP = 1,
};

/* RFC 6886 §3.5 */
enum mvpn_natpmp_result {
    MVPN_NATPMP_SUCCESS = 0,
    MVPN_NATPMP_UNSUPPORTED_VERSION = 1,
    MVPN_NATPMP_NOT_AUTHORIZED = 2,
    MVPN_NATPMP_NETWORK_FAILURE = 3,
    MVPN_NATPMP_NO_RESOURCES = 4,
    MVPN_NATPMP_UNSUPPORTED_OPCODE = 5,
};

enum mvpn_pcp_opcode {
    MVPN_PCP_ANNOUNCE = 0,
    MVPN_PCP_MAP = 1,
};

/* RFC 6887 §7.4 */
enum mvpn_pcp_result {
    MVPN_PCP_SUCCESS = 0,
    MVPN_PCP_UNSUPP_VERSION = 1,
    MVPN_PCP_NOT_AUTHORIZED = 2,
    MVPN_PCP_MALFORMED_REQUEST = 3,
    MVPN_PCP_UNSUPP_OPCODE = 4,
    MVPN_PCP_UNSUPP_OPTION = 5,
    MVPN_PCP_MALFORMED_OPTION = 6,
    MVPN_PCP_NETWORK_FAILURE = 7,
    MVPN_PCP_NO_RESOURCES = 8,
    MVPN_PCP_UNSUPP_PROTOCOL = 9,
    MVPN_PCP_USER_EX_QUOTA = 10,
    MVPN_PCP_CANNOT_PROVIDE_EXTERNAL = 11,
    MVPN_PCP_ADDRESS_MISMATCH = 12,
    MVPN_PCP_EXCESSIVE_REMOTE_PEERS = 13,
};

typedef struct mvpn_natpmp_map {
    uint16_t internal_port;
    uint16_t external_port; /* wanted, 0 = any; in an answer the one given */
    uint32_t lifetime_s;    /* 0 = delete */
} mvpn_natpmp_map;

typedef struct mvpn_natpmp_answer {
    uint8_t opcode; /* without the answer bit */
    uint16_t result;
    uint32_t epoch_s;
    /* Of a success alone, the one that the opcode has. */
    mvpn_addr external; /* port 0 */
    mvpn_natpmp_map map;
} mvpn_natpmp_answer;

typedef struct mvpn_pcp_map {
    uint8_t nonce[MVPN_PCP_NONCE_LEN];
    uint8_t protocol; /* IANA number: 17 */
    uint16_t internal_port;
    mvpn_addr external; /* wanted, zero = any of that family; in an answer the one given */
} mvpn_pcp_map;

typedef struct mvpn_pcp_answer {
    uint8_t version; /* other than MVPN_PCP_VERSION only with UNSUPP_VERSION */
    uint8_t opcode;
    uint8_t result;
    uint32_t lifetime_s; /* of an error: how long it will last */
    uint32_t epoch_s;
    bool has_map;
    mvpn_pcp_map map;
} mvpn_pcp_answer;

void mvpn_natpmp_address_encode(uint8_t out[static MVPN_NATPMP_ADDRESS_LEN]);
void mvpn_natpmp_map_encode(uint8_t out[static MVPN_NATPMP_MAP_LEN], const mvpn_natpmp_map *map);

/**
 * Read an answer or an announcement. The result of an error may be any; an error answer may be cut
 * after the epoch, as those of unsupported versions are (RFC 6886 §3.5).
 * MVPN_E_FORMAT (drop): a request, another version, an opcode we never send, a wrong length.
 */
MVPN_WUR int mvpn_natpmp_decode(mvpn_natpmp_answer *ret, mvpn_bytes in);

/** `client` our address as the gateway sees it (an IPv4 one is written mapped, RFC 6887 §5). */
void mvpn_pcp_map_encode(uint8_t out[static MVPN_PCP_MAP_LEN], const mvpn_addr *client,
                         uint32_t lifetime_s, const mvpn_pcp_map *map);
void mvpn_pcp_announce_encode(uint8_t out[static MVPN_PCP_HEADER_LEN], const mvpn_addr *client);

/**
 * Read an answer or an announcement. Options are checked for their lengths and passed over: we ask
 * for none. Reserved fields are ignored, as RFC 6887 §7 demands.
 * MVPN_E_FORMAT (drop): a request, version 0 (NAT-PMP), an opcode we never send, a wrong length, a
 * success of MAP without its fields.
 */
MVPN_WUR int mvpn_pcp_decode(mvpn_pcp_answer *ret, mvpn_bytes in);

/** The result in words for the operator; never NULL. */
const char *mvpn_natpmp_result_text(unsigned result);
const char *mvpn_pcp_result_text(unsigned result);

#endif
