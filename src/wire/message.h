/*
 * The message header that every packet of a link carries, and the command numbers.
 * (docs/protocol.md §5.1, §9)
 */
#ifndef MVPN_WIRE_MESSAGE_H
#define MVPN_WIRE_MESSAGE_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/bytes.h"
#include "base/macros.h"

enum mvpn_command {
    MVPN_CMD_CREATE = 0x01,
    MVPN_CMD_CREATED = 0x02,
    MVPN_CMD_EXTEND = 0x03,
    MVPN_CMD_EXTENDED = 0x04,
    MVPN_CMD_DESTROY = 0x05,
    MVPN_CMD_RELAY = 0x06,
    MVPN_CMD_RELAY_DATA = 0x07,
    MVPN_CMD_RELAY_BEGIN = 0x08,
    MVPN_CMD_RELAY_END = 0x09,
    MVPN_CMD_RELAY_EARLY = 0x0a,
    MVPN_CMD_RELAY_CONNECTED = 0x0b,
    MVPN_CMD_RELAY_DROP = 0x0c,
    MVPN_CMD_RELAY_PING = 0x0d,
    MVPN_CMD_RELAY_PONG = 0x0e,
    MVPN_CMD_RELAY_DHT = 0x0f,

    MVPN_CMD_DHT_PING = 0x10,
    MVPN_CMD_DHT_FIND_NODE = 0x11,
    MVPN_CMD_DHT_STORE = 0x12,
    MVPN_CMD_DHT_FIND_VALUE = 0x13,
    MVPN_CMD_DHT_LIST = 0x14,
    MVPN_CMD_DHT_FETCH = 0x15,
    MVPN_CMD_DHT_BLOB = 0x16,
    MVPN_CMD_DHT_PONG = 0x18,
    MVPN_CMD_DHT_NODES = 0x19,
    MVPN_CMD_DHT_STORED = 0x1a,
    MVPN_CMD_DHT_VALUE = 0x1b,
    MVPN_CMD_DHT_LISTED = 0x1c,
    MVPN_CMD_DHT_FETCHED = 0x1d,
    MVPN_CMD_DHT_BLOB_PART = 0x1e,
    MVPN_CMD_DHT_ERROR = 0x1f,

    MVPN_CMD_LINK_PAD = 0x30,
    MVPN_CMD_LINK_PING = 0x31,
    MVPN_CMD_LINK_PONG = 0x32,
    MVPN_CMD_LINK_ACK = 0x33,
    MVPN_CMD_LINK_PART = 0x34,
    MVPN_CMD_LINK_PROBE = 0x35,
    MVPN_CMD_LINK_PROBE_ACK = 0x36,
    MVPN_CMD_LINK_NEW_IDS = 0x37,
    MVPN_CMD_PATH_CHALLENGE = 0x38,
    MVPN_CMD_PATH_RESPONSE = 0x39,
    MVPN_CMD_LINK_REKEY = 0x3a,
    MVPN_CMD_LINK_REKEYED = 0x3b,
    MVPN_CMD_LINK_CLOSE = 0x3c,
    MVPN_CMD_VERSION_LIST = 0x3d,
    MVPN_CMD_LINK_CANDIDATES = 0x3e,
    MVPN_CMD_LINK_RELAY_IDS = 0x3f,

    MVPN_CMD_NAT_REGISTER = 0x40,
    MVPN_CMD_NAT_REGISTERED = 0x41,
    MVPN_CMD_NAT_OPEN = 0x42,
    MVPN_CMD_NAT_OPENED = 0x43,
    MVPN_CMD_NAT_INCOMING = 0x44,
    MVPN_CMD_NAT_MORE = 0x45,
    MVPN_CMD_NAT_CLOSE = 0x46,
    MVPN_CMD_NAT_ADDRESS = 0x47,
    MVPN_CMD_NAT_ADDRESSED = 0x48,
    MVPN_CMD_NAT_PROBE = 0x49,
    MVPN_CMD_NAT_PROBE_FOR = 0x4a,
    MVPN_CMD_NAT_PROBED = 0x4b,
};

#define MVPN_HEADER_LEN 32
#define MVPN_CIRCUIT_ID_LEN 16
/* Largest message: header and a full cell's body. */
#define MVPN_BODY_MAX 1363
#define MVPN_MESSAGE_MAX (MVPN_HEADER_LEN + MVPN_BODY_MAX)

typedef struct mvpn_circuit_id {
    uint8_t b[MVPN_CIRCUIT_ID_LEN];
} mvpn_circuit_id;

typedef struct mvpn_header {
    mvpn_circuit_id circuit;
    uint16_t command;
    uint16_t length;    /* live length of the body, without the class bits */
    uint8_t size_class; /* Relay and RelayEarly only */
    uint32_t link_seq;  /* 0 = not acknowledged; set by the link layer */
    uint64_t counter;   /* layer counter; Relay and RelayEarly only */
} mvpn_header;

/** True for the two cells whose body is protected by layers and not by the link. */
static inline bool mvpn_command_is_relay(unsigned command)
{
    return command == MVPN_CMD_RELAY || command == MVPN_CMD_RELAY_EARLY;
}

/** Write the 32 bytes of a header. */
void mvpn_header_encode(uint8_t out[static MVPN_HEADER_LEN], const mvpn_header *header);

/**
 * Read a header and check it against the number of body bytes that came with it: outside Relay and
 * RelayEarly the body is exactly `length` bytes; in them it has the size of its class (§5.2).
 * MVPN_E_FORMAT.
 */
MVPN_WUR int mvpn_header_decode(mvpn_header *ret, const uint8_t in[static MVPN_HEADER_LEN],
                                size_t body_len);

#endif
