/*
 * How somebody who holds the keys of a relay asks for its membership of a closed network: a file of
 * one line (io/keyfile), which meshvpn relay enable writes and meshvpn-bootstrap admit reads. It
 * holds no secret. The link certificate in it is signed by the relay's identity for this network:
 * nobody asks in another's name, or with what was said to another network.
 *
 *   [roles 2, big-endian] [length of the name 1] [name 24, zeros behind it] [link certificate 176]
 */
#ifndef MVPN_BIN_RELAY_REQUEST_H
#define MVPN_BIN_RELAY_REQUEST_H

#include "io/keyfile.h"
#include "wire/certificate.h"
#include "wire/descriptor.h"

#define RELAY_REQUEST_TYPE "meshvpn-relay-request-1"
#define RELAY_REQUEST_LEN (2 + 1 + MVPN_NAME_MAX + MVPN_LINK_CERTIFICATE_LEN)

typedef struct relay_request {
    uint16_t roles; /* MVPN_ROLE_* that it wants */
    char name[MVPN_NAME_MAX + 1];
    mvpn_link_certificate link; /* when decoded: verified */
    uint8_t link_certificate[MVPN_LINK_CERTIFICATE_LEN];
} relay_request;

void relay_request_encode(uint8_t out[static RELAY_REQUEST_LEN], const relay_request *request);

/**
 * `unix_now`: seconds. MVPN_E_FORMAT: it is none; MVPN_E_POLICY: it asks for a role that is not for
 * relays; MVPN_E_AUTH: it is of another network, or altered; MVPN_E_EXPIRED. `*ret` is untouched
 * then.
 */
MVPN_WUR int relay_request_decode(relay_request *ret, const uint8_t in[static RELAY_REQUEST_LEN],
                                  const mvpn_key *network_id, uint64_t unix_now);

#endif
