/*
 * Descriptor: what a relay says about itself, signed by its identity. (docs/protocol.md §8.3)
 * Whoever holds one passes on the bytes as they came: they hold fields that this version does not
 * know, and the signature covers them.
 */
#ifndef MVPN_WIRE_DESCRIPTOR_H
#define MVPN_WIRE_DESCRIPTOR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/bytes.h"
#include "base/macros.h"
#include "crypto/keys.h"
#include "wire/certificate.h"
#include "wire/natmsg.h"

/* Bounds of §8.3. */
#define MVPN_DESCRIPTOR_MAX 1000
#define MVPN_DESCRIPTOR_ONION_KEYS_MAX 2
#define MVPN_DESCRIPTOR_ADDRESSES_MAX 4
#define MVPN_DESCRIPTOR_POLICY_RANGES_MAX 31 /* (128 - 1) / 4 */
#define MVPN_DESCRIPTOR_FAMILY_MAX 4
#define MVPN_DESCRIPTOR_NAT_RELAYS_MAX 2
#define MVPN_PROVIDER_MAX 32
#define MVPN_NAME_MAX 24

enum mvpn_carrier {
    MVPN_CARRIER_PLAIN = 1,
};

enum mvpn_exit_flag {
    MVPN_EXIT_IPV4 = 1 << 0,
    MVPN_EXIT_IPV6 = 1 << 1,
};

typedef struct mvpn_onion_key {
    uint8_t id;
    mvpn_key key;
} mvpn_onion_key;

typedef struct mvpn_descriptor_address {
    uint8_t carrier; /* MVPN_CARRIER_*; others are kept and not used */
    mvpn_addr addr;  /* port is not 0 */
} mvpn_descriptor_address;

typedef struct mvpn_port_range {
    uint16_t first;
    uint16_t last;
} mvpn_port_range;

/* Where a relay behind a NAT is registered. (§14.3) */
typedef struct mvpn_descriptor_nat_relay {
    mvpn_ed25519_pub identity; /* of the NAT relay */
    mvpn_nat_id rendezvous;    /* the relay's, there */
    uint8_t family;            /* 4, 6: of the link between the two */
} mvpn_descriptor_nat_relay;

typedef struct mvpn_descriptor {
    mvpn_ed25519_pub identity;
    uint64_t sequence;  /* the higher one replaces the lower */
    uint64_t published; /* Unix seconds */
    uint64_t expires;

    uint8_t link_certificate[MVPN_LINK_CERTIFICATE_LEN]; /* with the identity, as §8.1 */
    mvpn_key link_key;                                   /* the certified one; set by decode */
    uint8_t onion_key_count;                             /* 1..2; the first is current */
    mvpn_onion_key onion_keys[MVPN_DESCRIPTOR_ONION_KEYS_MAX];
    uint8_t address_count; /* 1..4 */
    mvpn_descriptor_address addresses[MVPN_DESCRIPTOR_ADDRESSES_MAX];
    uint16_t roles;          /* MVPN_ROLE_* */
    uint8_t nat_relay_count; /* 0..2; not 0: it is behind a NAT (§14.3) */

    bool has_policy;
    uint8_t policy_flags; /* MVPN_EXIT_* */
    uint8_t policy_range_count;
    mvpn_port_range policy_ranges[MVPN_DESCRIPTOR_POLICY_RANGES_MAX]; /* ascending, apart */
    char country[3];                                                  /* "" = not said */
    bool has_bandwidth;
    uint32_t bandwidth_kbit; /* kbit/s, as declared */
    uint8_t family_count;
    mvpn_ed25519_pub family[MVPN_DESCRIPTOR_FAMILY_MAX]; /* ascending */
    char provider[MVPN_PROVIDER_MAX + 1];                /* "" = not said */
    /* Of a relay behind a NAT, to be tried in this order. */
    mvpn_descriptor_nat_relay nat_relays[MVPN_DESCRIPTOR_NAT_RELAYS_MAX];
    bool has_membership;
    uint8_t membership[MVPN_MEMBERSHIP_LEN]; /* with the identity, as §8.2 */
    char name[MVPN_NAME_MAX + 1];            /* "" = none; not unique, proves nothing */
    /* STUN is answered at the first plain address of the family; 0 = not. */
    uint16_t stun_port_v4, stun_port_v6;

    uint8_t encoded[MVPN_DESCRIPTOR_MAX]; /* as signed; set by sign and decode */
    uint16_t encoded_len;
} mvpn_descriptor;

/** True for 1 to 24 of a-z 0-9 -. */
bool mvpn_name_is_valid(const char *name);
/** True for two upper-case letters. */
bool mvpn_country_is_valid(const char *country);
/** True for 1 to 32 bytes of printable ASCII. */
bool mvpn_provider_is_valid(const char *provider);

/**
 * Encode and sign: set `encoded` and `encoded_len` from the other fields.
 * Returns 0; MVPN_E_INVAL (fatal) if a field breaks a rule of §8.3; `*d` keeps its old encoding
 * then.
 */
MVPN_WUR int mvpn_descriptor_sign(mvpn_descriptor *d, const mvpn_ed25519_secret *secret,
                                  const mvpn_key *network_id);

/**
 * Decode; nothing is verified yet. Accepts exactly the one encoding of §8.3; unknown types are
 * skipped (and stay in `encoded`).
 * Returns 0; MVPN_E_FORMAT (drop), `*ret` untouched.
 */
MVPN_WUR int mvpn_descriptor_decode(mvpn_descriptor *ret, mvpn_bytes in);

/**
 * Verify a decoded (or just signed) descriptor: the identity's signature, its link certificate,
 * its times; in a closed network also the membership certificate, whose roles must include all
 * roles claimed. Addresses are not judged here.
 *
 * `network_pub`  the network's key if the network is closed, NULL if it is open.
 * `unix_now`     seconds; 0: the times are not checked.
 * Returns 0; MVPN_E_AUTH, MVPN_E_EXPIRED, MVPN_E_FORMAT (an embedded certificate is not
 * decodable), MVPN_E_POLICY (closed network: no certificate, or roles beyond it); all drop.
 */
MVPN_WUR int mvpn_descriptor_verify(const mvpn_descriptor *d, const mvpn_key *network_id,
                                    const mvpn_ed25519_pub *network_pub, uint64_t unix_now);

/** Serial of its membership certificate; 0 if it has none. Meaningful only once verified. */
uint64_t mvpn_descriptor_serial(const mvpn_descriptor *d);

/** Digest of the encoding. (§3.3) */
void mvpn_descriptor_digest(mvpn_key *ret, const mvpn_descriptor *d);

/** First address of the plain carrier of `family` (4, 6, or 0 for any); NULL if there is none. */
const mvpn_addr *mvpn_descriptor_find_address(const mvpn_descriptor *d, uint8_t family);

/** Where it answers STUN in `family` (4 or 6); false: it does not say that it does. */
bool mvpn_descriptor_find_stun(const mvpn_descriptor *d, uint8_t family, mvpn_addr *ret);

/** True if all plain addresses are globally routable. */
bool mvpn_descriptor_is_public(const mvpn_descriptor *d);

#endif
