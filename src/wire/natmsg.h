/*
 * Bodies of the NAT relay's messages, 0x40 to 0x48. (docs/protocol.md §14.1, §14.6)
 */
#ifndef MVPN_WIRE_NATMSG_H
#define MVPN_WIRE_NATMSG_H

#include "base/bytes.h"
#include "base/macros.h"
#include "wire/address.h"
#include "wire/handshake.h"

#define MVPN_NAT_ID_LEN 8
/* Ids of one side in one message: one for first packets, then one in use and spares. */
#define MVPN_NAT_IDS_MAX 8
#define MVPN_NAT_OPEN_IDS_MIN 2

/* Bytes of the bodies. */
#define MVPN_NAT_REGISTER_LEN 2
#define MVPN_NAT_REGISTERED_LEN 11
#define MVPN_NAT_OPEN_LEN 13
#define MVPN_NAT_MORE_LEN 9
#define MVPN_NAT_CLOSE_LEN 8
#define MVPN_NAT_ADDRESS_LEN 8
#define MVPN_NAT_ADDRESSED_LEN (8 + 1 + MVPN_ADDRESS_LEN)
#define MVPN_NAT_OPENED_LEN_MAX (4 + 1 + 8 + 1 + 2 * MVPN_NAT_IDS_MAX * MVPN_CONNECTION_ID_LEN)
#define MVPN_NAT_INCOMING_LEN_MAX (8 + 1 + 2 * MVPN_NAT_IDS_MAX * MVPN_CONNECTION_ID_LEN)

/* Names a registered relay at its NAT relay, or a session. */
typedef struct mvpn_nat_id {
    uint8_t b[MVPN_NAT_ID_LEN];
} mvpn_nat_id;

/** NatRegister: seconds asked for. */
void mvpn_nat_register_encode(uint8_t out[static MVPN_NAT_REGISTER_LEN], uint16_t lifetime_s);
/** MVPN_E_FORMAT. */
MVPN_WUR int mvpn_nat_register_decode(uint16_t *ret, mvpn_bytes body);

typedef struct mvpn_nat_registered {
    uint8_t status; /* 0, or an mvpn_reason: then the rest is 0 */
    mvpn_nat_id rendezvous;
    uint16_t lifetime_s;
} mvpn_nat_registered;

void mvpn_nat_registered_encode(uint8_t out[static MVPN_NAT_REGISTERED_LEN],
                                const mvpn_nat_registered *in);
/** MVPN_E_FORMAT: length; a refusal with an id or lifetime, a consent without lifetime. */
MVPN_WUR int mvpn_nat_registered_decode(mvpn_nat_registered *ret, mvpn_bytes body);

typedef struct mvpn_nat_open {
    uint32_t request; /* the asker's choice, not 0; echoed */
    mvpn_nat_id rendezvous;
    uint8_t count; /* ids wanted of each side: 2 to 8 */
} mvpn_nat_open;

void mvpn_nat_open_encode(uint8_t out[static MVPN_NAT_OPEN_LEN], const mvpn_nat_open *in);
/** MVPN_E_FORMAT. */
MVPN_WUR int mvpn_nat_open_decode(mvpn_nat_open *ret, mvpn_bytes body);

/* The ids of a session, as the message's receiver sees the sides. */
typedef struct mvpn_nat_ids {
    mvpn_nat_id session;
    uint8_t count;                             /* of each side; 0 in a refusal alone */
    mvpn_connection_id own[MVPN_NAT_IDS_MAX];  /* at which the receiver of the message receives */
    mvpn_connection_id peer[MVPN_NAT_IDS_MAX]; /* at which the other side does */
} mvpn_nat_ids;

typedef struct mvpn_nat_opened {
    uint32_t request; /* 0: of NatMore */
    uint8_t status;   /* 0, or an mvpn_reason: then there are no ids */
    mvpn_nat_ids ids;
} mvpn_nat_opened;

/** Returns the length. */
size_t mvpn_nat_opened_encode(uint8_t out[static MVPN_NAT_OPENED_LEN_MAX],
                              const mvpn_nat_opened *in);
/** MVPN_E_FORMAT: length, count; a refusal with ids, a consent without. */
MVPN_WUR int mvpn_nat_opened_decode(mvpn_nat_opened *ret, mvpn_bytes body);

/** NatIncoming. Returns the length. */
size_t mvpn_nat_incoming_encode(uint8_t out[static MVPN_NAT_INCOMING_LEN_MAX],
                                const mvpn_nat_ids *in);
/** MVPN_E_FORMAT. */
MVPN_WUR int mvpn_nat_incoming_decode(mvpn_nat_ids *ret, mvpn_bytes body);

typedef struct mvpn_nat_more {
    mvpn_nat_id session;
    uint8_t count; /* 1 to 8 */
} mvpn_nat_more;

void mvpn_nat_more_encode(uint8_t out[static MVPN_NAT_MORE_LEN], const mvpn_nat_more *in);
/** MVPN_E_FORMAT. */
MVPN_WUR int mvpn_nat_more_decode(mvpn_nat_more *ret, mvpn_bytes body);

/** NatClose, NatAddress: exactly a session. MVPN_E_FORMAT. */
MVPN_WUR int mvpn_nat_close_decode(mvpn_nat_id *ret, mvpn_bytes body);

typedef struct mvpn_nat_addressed {
    mvpn_nat_id session;
    uint8_t status; /* 0, or an mvpn_reason: then there is no address */
    mvpn_addr addr; /* of the other side */
} mvpn_nat_addressed;

void mvpn_nat_addressed_encode(uint8_t out[static MVPN_NAT_ADDRESSED_LEN],
                               const mvpn_nat_addressed *in);
/** MVPN_E_FORMAT: length; a refusal with an address, a consent without one that can be sent to. */
MVPN_WUR int mvpn_nat_addressed_decode(mvpn_nat_addressed *ret, mvpn_bytes body);

#endif
