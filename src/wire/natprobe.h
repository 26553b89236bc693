/*
 * What is asked and told to learn how NATs behave: the bodies of NatProbe, NatProbeFor and
 * NatProbed, and the probes themselves. (docs/protocol.md §14.6)
 */
#ifndef MVPN_WIRE_NATPROBE_H
#define MVPN_WIRE_NATPROBE_H

#include "base/bytes.h"
#include "base/macros.h"
#include "wire/address.h"
#include "wire/handshake.h"

/* As long as a connection id, in whose place it stands in a probe. */
#define MVPN_PROBE_TOKEN_LEN MVPN_CONNECTION_ID_LEN
#define MVPN_PROBE_DELAY_MAX_S 250
/* Of the datagram; no answer to one is longer. */
#define MVPN_PROBE_LEN 72

#define MVPN_NAT_PROBE_LEN 10
#define MVPN_NAT_PROBE_FOR_LEN (8 + MVPN_ADDRESS_LEN)
#define MVPN_NAT_PROBED_LEN (8 + 1 + 2 + MVPN_ADDRESS_LEN)

typedef struct mvpn_probe_token {
    uint8_t b[MVPN_PROBE_TOKEN_LEN];
} mvpn_probe_token;

/* Who answers a probe. */
enum mvpn_probe_kind {
    MVPN_PROBE_OTHER_PORT = 1,  /* the one asked, from another port of its */
    MVPN_PROBE_OTHER_RELAY = 2, /* another relay */
    MVPN_PROBE_SAME_PORT = 3,   /* the one asked, from where its links are, after the delay */
};

typedef struct mvpn_nat_probe_ask {
    mvpn_probe_token token; /* of a probe that will come from this link's ip */
    uint8_t kind;           /* MVPN_PROBE_* */
    uint8_t delay_s;        /* of SAME_PORT, else 0 */
} mvpn_nat_probe_ask;

/** NatProbe. */
void mvpn_nat_probe_encode(uint8_t out[static MVPN_NAT_PROBE_LEN], const mvpn_nat_probe_ask *in);
/** MVPN_E_FORMAT. */
MVPN_WUR int mvpn_nat_probe_decode(mvpn_nat_probe_ask *ret, mvpn_bytes body);

typedef struct mvpn_nat_probe_for {
    mvpn_probe_token token;
    mvpn_addr to;
} mvpn_nat_probe_for;

void mvpn_nat_probe_for_encode(uint8_t out[static MVPN_NAT_PROBE_FOR_LEN],
                               const mvpn_nat_probe_for *in);
/** MVPN_E_FORMAT: also of an address that nothing can be sent to. */
MVPN_WUR int mvpn_nat_probe_for_decode(mvpn_nat_probe_for *ret, mvpn_bytes body);

typedef struct mvpn_nat_probed {
    mvpn_probe_token token;
    uint8_t status;      /* 0, or an mvpn_reason: then the rest is 0 */
    uint16_t other_port; /* of the one asked; 0: not known */
    mvpn_addr seen;      /* where the probe came from */
} mvpn_nat_probed;

void mvpn_nat_probed_encode(uint8_t out[static MVPN_NAT_PROBED_LEN], const mvpn_nat_probed *in);
/** MVPN_E_FORMAT: length; a refusal with a port or an address, a consent without an address. */
MVPN_WUR int mvpn_nat_probed_decode(mvpn_nat_probed *ret, mvpn_bytes body);

/** The datagram: `random` fills it and gives the six bits that no rule needs; may be `out`. */
void mvpn_probe_encode(uint8_t out[static MVPN_PROBE_LEN], const mvpn_probe_token *token,
                       const uint8_t random[static MVPN_PROBE_LEN]);
/** The token, if it may be a probe (whether it is one is known by the token alone); else
 * MVPN_E_FORMAT. */
MVPN_WUR int mvpn_probe_decode(mvpn_probe_token *ret, mvpn_bytes datagram);

#endif
