/*
 * Signed records beside the descriptor: revocation lists and snapshot heads; and the snapshots that
 * the heads name. (docs/protocol.md §8.4 to §8.6)
 */
#ifndef MVPN_WIRE_RECORD_H
#define MVPN_WIRE_RECORD_H

#include "wire/descriptor.h"
#include "wire/dht.h"

#define MVPN_REVOCATIONS_MAX 112
#define MVPN_REVOCATIONS_LEN_MAX (1 + 8 + 8 + 2 + 8 * MVPN_REVOCATIONS_MAX + 64)

typedef struct mvpn_revocations {
    uint64_t sequence; /* 0: no list */
    uint64_t published;
    uint16_t count;
    uint64_t serials[MVPN_REVOCATIONS_MAX]; /* strictly ascending */
    uint8_t encoded[MVPN_REVOCATIONS_LEN_MAX];
    uint16_t encoded_len;
} mvpn_revocations;

/** Encode and sign with the network's key; sets `encoded`. MVPN_E_INVAL if the sequence is 0, the
 * serials are not ascending, or too many. */
MVPN_WUR int mvpn_revocations_sign(mvpn_revocations *r, const mvpn_ed25519_secret *network_secret,
                                   const mvpn_key *network_id);
/** Decode and verify. MVPN_E_FORMAT, MVPN_E_AUTH. */
MVPN_WUR int mvpn_revocations_decode(mvpn_revocations *ret, mvpn_bytes in,
                                     const mvpn_key *network_id,
                                     const mvpn_ed25519_pub *network_pub);
bool mvpn_revocations_has(const mvpn_revocations *r, uint64_t serial);

#define MVPN_SNAPSHOT_HEAD_MAX 236
/* A head counts for so long from the beginning of its hour: what it says of who is alive ages. */
#define MVPN_SNAPSHOT_HEAD_LIFE_H 6

typedef struct mvpn_snapshot_head {
    mvpn_ed25519_pub identity;
    uint64_t hour; /* Unix time / 3600 */
    uint32_t entries;
    uint32_t size; /* of the snapshot, bytes */
    mvpn_key digest;
    bool has_membership;
    uint8_t membership[MVPN_MEMBERSHIP_LEN]; /* in its full form */
    uint8_t encoded[MVPN_SNAPSHOT_HEAD_MAX];
    uint16_t encoded_len;
} mvpn_snapshot_head;

/** Encode and sign; sets `encoded`. MVPN_E_INVAL: too many entries, a size that is not theirs, or
 * the membership certificate of another identity. */
MVPN_WUR int mvpn_snapshot_head_sign(mvpn_snapshot_head *head, const mvpn_ed25519_secret *secret,
                                     const mvpn_key *network_id);
/** Decode and verify the signature alone; whether the node is vouched for is judged with
 * mvpn_trust_vouches. MVPN_E_FORMAT, MVPN_E_AUTH. */
MVPN_WUR int mvpn_snapshot_head_decode(mvpn_snapshot_head *ret, mvpn_bytes in,
                                       const mvpn_key *network_id);

#define MVPN_SNAPSHOT_ENTRIES_MAX 100000
#define MVPN_SNAPSHOT_ENTRY_LEN 40
#define MVPN_SNAPSHOT_FIXED 45
#define MVPN_SNAPSHOT_LEN_MAX                                                                      \
    (MVPN_SNAPSHOT_FIXED + MVPN_SNAPSHOT_ENTRIES_MAX * MVPN_SNAPSHOT_ENTRY_LEN)
#define MVPN_SNAPSHOT_UNMEASURED 255
#define MVPN_SNAPSHOT_ALIVE 0x01
#define MVPN_SNAPSHOT_COUNTRY_WRONG 0x02

typedef struct mvpn_snapshot_entry {
    mvpn_dht_id key;
    uint8_t digest[16];
    uint8_t bandwidth_log2; /* floor(log2(kbit/s)), 255 = not measured */
    uint8_t flags;          /* MVPN_SNAPSHOT_* */
    uint16_t uptime_h;
} mvpn_snapshot_entry;

/** Write the fixed part of a snapshot. */
void mvpn_snapshot_begin(uint8_t out[static MVPN_SNAPSHOT_FIXED], const mvpn_ed25519_pub *identity,
                         uint64_t hour, uint32_t entries);
void mvpn_snapshot_entry_encode(uint8_t out[static MVPN_SNAPSHOT_ENTRY_LEN],
                                const mvpn_snapshot_entry *entry);
/** Check a whole snapshot against its head: size, digest, identity, hour, count, order.
 * MVPN_E_FORMAT, MVPN_E_AUTH (the digest differs). */
MVPN_WUR int mvpn_snapshot_check(mvpn_bytes snapshot, const mvpn_snapshot_head *head);
/** Entry `index` of a checked snapshot. */
void mvpn_snapshot_at(mvpn_bytes snapshot, size_t index, mvpn_snapshot_entry *ret);
void mvpn_snapshot_digest(mvpn_key *ret, mvpn_bytes snapshot);

/* ---- who is vouched for ---- */

#define MVPN_ANCHORS_MAX 16

/** What a network trusts: filled from the network file; borrowed by view, DHT and exchange. */
typedef struct mvpn_trust {
    mvpn_key network_id;
    mvpn_ed25519_pub network_pub;
    bool closed;
    size_t anchor_count; /* open networks */
    mvpn_ed25519_pub anchors[MVPN_ANCHORS_MAX];
    mvpn_revocations revocations; /* sequence 0: none */
} mvpn_trust;

/**
 * Is this identity vouched for in `roles` (MVPN_ROLE_*)? Closed: by a membership certificate (full
 * form; empty = none) of that identity that covers them, in its time, not revoked. Open: for the
 * discovery role, and with `must_be_anchor`, only anchors; else everybody. unix_now 0: times are
 * not checked. Returns 0, MVPN_E_FORMAT, MVPN_E_AUTH, MVPN_E_EXPIRED, MVPN_E_POLICY.
 */
MVPN_WUR int mvpn_trust_vouches(const mvpn_trust *trust, const mvpn_ed25519_pub *identity,
                                mvpn_bytes membership, uint16_t roles, bool must_be_anchor,
                                uint64_t unix_now);

/** What the place and the age of a record are. */
typedef struct mvpn_record_info {
    mvpn_dht_id key;
    uint64_t sequence;
    uint64_t expires; /* Unix seconds */
} mvpn_record_info;

/**
 * Verify any record completely: encoding, signatures, times, certificates, revocation (§8, §11.4).
 * The one gate for what a server stores, a view takes and a lookup returns.
 *
 * `unix_now`        seconds; 0: times are not checked.
 * `ret_descriptor`  filled for type 1 if not NULL; untouched, as `*ret`, after a failure.
 * Returns 0; MVPN_E_FORMAT, MVPN_E_AUTH, MVPN_E_EXPIRED, MVPN_E_POLICY (uncertified, revoked),
 * MVPN_E_UNKNOWN (type).
 */
MVPN_WUR int mvpn_record_verify(const mvpn_trust *trust, unsigned type, mvpn_bytes record,
                                uint64_t unix_now, mvpn_record_info *ret,
                                mvpn_descriptor *ret_descriptor);

/* Keys of records (§3.3); a descriptor's is mvpn_record_key. */
void mvpn_revocations_key(mvpn_dht_id *ret, const mvpn_key *network_id);
void mvpn_snapshot_head_key(mvpn_dht_id *ret, const mvpn_key *network_id,
                            const mvpn_ed25519_pub *identity);

#endif
