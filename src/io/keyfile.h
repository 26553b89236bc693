/*
 * Key and certificate files: one line per value, "TYPE BASE64". Secret ones have mode 0600, which
 * is asked for at each reading. The directory of a node (written by meshvpn-bootstrap) holds
 *     identity.key (may be kept elsewhere, offline), link.key, onion.key, link.cert,
 * membership.cert.
 */
#ifndef MVPN_IO_KEYFILE_H
#define MVPN_IO_KEYFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "crypto/keys.h"
#include "crypto/rng.h"
#include "io/fault.h"
#include "wire/certificate.h"
#include "wire/descriptor.h"

#define MVPN_KEYFILE_NETWORK "meshvpn-network-1"   /* 32: seed of the network key; secret */
#define MVPN_KEYFILE_IDENTITY "meshvpn-identity-1" /* 32: seed of the identity; secret */
#define MVPN_KEYFILE_LINK "meshvpn-link-1"         /* 32: X25519; secret */
#define MVPN_KEYFILE_ONION "meshvpn-onion-1"       /* 33: id, X25519; secret; one or two lines */
#define MVPN_KEYFILE_LINK_CERTIFICATE "meshvpn-link-certificate-1"
#define MVPN_KEYFILE_MEMBERSHIP "meshvpn-membership-1"

/* Longest value of a line, in bytes. */
#define MVPN_KEYFILE_VALUE_MAX 256
/* Longest text of mvpn_base64_encode for `n` bytes, with its zero. */
#define MVPN_BASE64_LEN(n) (((n) + 2) / 3 * 4 + 1)

/** Standard base64 with padding; `out` has room for MVPN_BASE64_LEN(in.n). Returns `out`. */
char *mvpn_base64_encode(char *out, size_t size, mvpn_bytes in);

/**
 * Decode strictly: the standard alphabet with padding and nothing else. MVPN_E_FORMAT; MVPN_E_SPACE
 * if it is longer than `size`.
 */
MVPN_WUR int mvpn_base64_decode(const char *text, uint8_t *out, size_t size, size_t *ret_n);

/**
 * Read a key file of at most `line_max` lines, each of `type` and exactly `size` bytes, to `out`
 * (line_max × size bytes).
 * Returns 0 and the number of lines; MVPN_E_UNKNOWN if there is no such file; MVPN_E_CONFIG if it
 * is readable by others (`is_secret`) or not such a file; MVPN_E_SYSTEM, MVPN_E_NOMEM.
 */
MVPN_WUR int mvpn_keyfile_read(const char *path, const char *type, bool is_secret, uint8_t *out,
                               size_t size, size_t line_max, size_t *ret_lines, mvpn_fault *fault);

/** Write a key file atomically, 0600 if `is_secret`, else 0644. MVPN_E_SYSTEM. */
MVPN_WUR int mvpn_keyfile_write(const char *path, const char *type, bool is_secret,
                                const uint8_t *values, size_t size, size_t lines,
                                mvpn_fault *fault);

typedef struct mvpn_onion_pair {
    uint8_t id;
    mvpn_x25519_pair pair;
} mvpn_onion_pair;

/* What a relay needs to run. Wipe with mvpn_node_keys_done. */
typedef struct mvpn_node_keys {
    mvpn_ed25519_pub identity;
    bool has_identity_secret; /* false: the identity key is kept offline */
    mvpn_ed25519_secret identity_secret;
    mvpn_x25519_pair link;
    uint8_t onion_count; /* 1..2, the current one first */
    mvpn_onion_pair onion[MVPN_DESCRIPTOR_ONION_KEYS_MAX];
    uint8_t link_certificate[MVPN_LINK_CERTIFICATE_LEN];
    bool has_membership;
    uint8_t membership[MVPN_MEMBERSHIP_LEN];
} mvpn_node_keys;

/** New keys of a node; certificates are not made. */
void mvpn_node_keys_generate(mvpn_node_keys *ret, mvpn_rng *rng);

/**
 * Make a new onion key if the current one is older than `age_s`; the current one becomes the
 * previous, the previous one is forgotten. On disk first. Returns 0; MVPN_E_AGAIN (not due);
 * MVPN_E_SYSTEM.
 */
MVPN_WUR int mvpn_node_keys_rotate_onion(const char *dir, mvpn_node_keys *keys, uint64_t age_s,
                                         uint64_t unix_now, mvpn_rng *rng, mvpn_fault *fault);

/** Write all of them into `dir`, which exists. MVPN_E_SYSTEM. */
MVPN_WUR int mvpn_node_keys_save(const char *dir, const mvpn_node_keys *keys, mvpn_fault *fault);

/**
 * Load the keys of a node and see that they belong together and to the network.
 *
 * `network_pub`  the network's key if the network is closed (then membership.cert is required),
 *                NULL if it is open.
 * `unix_now`     seconds; 0: the times of the certificates are not checked.
 * Returns 0; MVPN_E_UNKNOWN if a file is missing; MVPN_E_CONFIG if one is damaged, open to others
 * or of another node or network; MVPN_E_EXPIRED; MVPN_E_SYSTEM, MVPN_E_NOMEM. `*ret` holds no
 * secret after a failure.
 */
MVPN_WUR int mvpn_node_keys_load(const char *dir, const mvpn_key *network_id,
                                 const mvpn_ed25519_pub *network_pub, uint64_t unix_now,
                                 mvpn_node_keys *ret, mvpn_fault *fault);

/** Wipe. */
void mvpn_node_keys_done(mvpn_node_keys *keys);

#endif
