#include "wire/record.h"
#include "wire/signed.h"

#include "base/assert.h"
#include "base/cursor.h"
#include "base/error.h"
#include "crypto/hash.h"
#include "crypto/x25519.h"

#define VERSION 1
#define SIGNATURE_LEN sizeof(mvpn_signature)
#define IDENTITY_LEN sizeof(mvpn_ed25519_pub)
#define MEMBERSHIP_REST (MVPN_MEMBERSHIP_LEN - IDENTITY_LEN)
#define S_PER_HOUR 3600u

#define REVOCATIONS_LABEL MVPN_BYTES_LITERAL("meshvpn v1 revocations")
#define HEAD_LABEL MVPN_BYTES_LITERAL("meshvpn v1 snapshot head")

/* Label, network id, and the longest record signed here. */
#define SIGNED_MAX (MVPN_SIGNED_PREFIX_MAX + MVPN_REVOCATIONS_LEN_MAX)

/* --- signatures (§8) --- */

static void append_signature(mvpn_writer *w, mvpn_bytes label, const mvpn_key *network_id,
                             const mvpn_ed25519_secret *secret)
{
    uint8_t buf[SIGNED_MAX];
    mvpn_signature sig;
    MVPN_ASSERT(!w->failed);
    mvpn_bytes record = mvpn_bytes_of(w->start, mvpn_writer_len(w));
    mvpn_ed25519_sign(&sig, secret, mvpn_signed_bytes(buf, sizeof(buf), label, network_id, record));
    mvpn_write_bytes(w, sig.b, sizeof(sig.b));
    MVPN_ASSERT(!w->failed);
}

/* The signature is the end of `in`; a decoder has checked its length. */
static int check_signature(mvpn_bytes in, mvpn_bytes label, const mvpn_key *network_id,
                           const mvpn_ed25519_pub *signer)
{
    uint8_t buf[SIGNED_MAX];
    mvpn_signature sig;
    mvpn_bytes record = mvpn_bytes_of(in.p, in.n - SIGNATURE_LEN);
    memcpy(sig.b, in.p + record.n, sizeof(sig.b));
    return mvpn_ed25519_verify(&sig, signer,
                               mvpn_signed_bytes(buf, sizeof(buf), label, network_id, record));
}

/* --- revocation lists (§8.4) --- */

/* A list of sequence 0 would read as none. */
static bool revocations_are_sound(const mvpn_revocations *r)
{
    if (r->sequence == 0 || r->count > MVPN_REVOCATIONS_MAX) {
        return false;
    }
    for (size_t i = 1; i < r->count; i++) {
        if (r->serials[i] <= r->serials[i - 1]) {
            return false;
        }
    }
    return true;
}

int mvpn_revocations_sign(mvpn_revocations *r, const mvpn_ed25519_secret *network_secret,
                          const mvpn_key *network_id)
{
    if (!revocations_are_sound(r)) {
        return MVPN_E_INVAL;
    }
    mvpn_writer w = mvpn_writer_init(r->encoded, sizeof(r->encoded));
    mvpn_write8(&w, VERSION);
    mvpn_write64(&w, r->sequence);
    mvpn_write64(&w, r->published);
    mvpn_write16(&w, r->count);
    for (size_t i = 0; i < r->count; i++) {
        mvpn_write64(&w, r->serials[i]);
    }
    append_signature(&w, REVOCATIONS_LABEL, network_id, network_secret);
    r->encoded_len = (uint16_t)mvpn_writer_len(&w);
    return 0;
}

int mvpn_revocations_decode(mvpn_revocations *ret, mvpn_bytes in, const mvpn_key *network_id,
                            const mvpn_ed25519_pub *network_pub)
{
    mvpn_revocations m = {0};
    if (in.n > MVPN_REVOCATIONS_LEN_MAX) {
        return MVPN_E_FORMAT;
    }
    mvpn_reader r = mvpn_reader_init(in);
    unsigned version = mvpn_read8(&r);
    m.sequence = mvpn_read64(&r);
    m.published = mvpn_read64(&r);
    m.count = mvpn_read16(&r);
    for (size_t i = 0; i < m.count && i < MVPN_REVOCATIONS_MAX; i++) {
        m.serials[i] = mvpn_read64(&r);
    }
    (void)mvpn_read_bytes(&r, SIGNATURE_LEN);
    if (!mvpn_reader_done(&r) || version != VERSION || !revocations_are_sound(&m)) {
        return MVPN_E_FORMAT;
    }
    int rc = check_signature(in, REVOCATIONS_LABEL, network_id, network_pub);
    if (rc != 0) {
        return rc;
    }
    memcpy(m.encoded, in.p, in.n);
    m.encoded_len = (uint16_t)in.n;
    *ret = m;
    return 0;
}

bool mvpn_revocations_has(const mvpn_revocations *r, uint64_t serial)
{
    size_t low = 0, high = r->sequence != 0 ? r->count : 0;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (r->serials[middle] == serial) {
            return true;
        }
        if (r->serials[middle] < serial) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return false;
}

void mvpn_revocations_key(mvpn_dht_id *ret, const mvpn_key *network_id)
{
    const mvpn_bytes in = MVPN_BYTES_ARRAY(network_id->b);
    mvpn_blake3_derive(ret->b, sizeof(ret->b), "meshvpn v1 revocation key", &in, 1);
}

/* --- snapshot heads (§8.5) --- */

/* The hours around it must be countable in seconds. */
#define HOUR_MAX (UINT64_MAX / S_PER_HOUR - MVPN_SNAPSHOT_HEAD_LIFE_H)

static bool head_is_sound(const mvpn_snapshot_head *head)
{
    return head->hour <= HOUR_MAX && head->entries <= MVPN_SNAPSHOT_ENTRIES_MAX &&
           head->size == MVPN_SNAPSHOT_FIXED + head->entries * MVPN_SNAPSHOT_ENTRY_LEN;
}

int mvpn_snapshot_head_sign(mvpn_snapshot_head *head, const mvpn_ed25519_secret *secret,
                            const mvpn_key *network_id)
{
    if (!head_is_sound(head) ||
        (head->has_membership && memcmp(head->membership, head->identity.b, IDENTITY_LEN) != 0)) {
        return MVPN_E_INVAL;
    }
    mvpn_writer w = mvpn_writer_init(head->encoded, sizeof(head->encoded));
    mvpn_write8(&w, VERSION);
    mvpn_write_bytes(&w, head->identity.b, IDENTITY_LEN);
    mvpn_write64(&w, head->hour);
    mvpn_write32(&w, head->entries);
    mvpn_write32(&w, head->size);
    mvpn_write_bytes(&w, head->digest.b, sizeof(head->digest.b));
    mvpn_write8(&w, head->has_membership);
    if (head->has_membership) {
        mvpn_write_bytes(&w, head->membership + IDENTITY_LEN, MEMBERSHIP_REST);
    }
    append_signature(&w, HEAD_LABEL, network_id, secret);
    head->encoded_len = (uint16_t)mvpn_writer_len(&w);
    return 0;
}

int mvpn_snapshot_head_decode(mvpn_snapshot_head *ret, mvpn_bytes in, const mvpn_key *network_id)
{
    mvpn_snapshot_head m = {0};
    mvpn_reader r = mvpn_reader_init(in);
    unsigned version = mvpn_read8(&r);
    mvpn_read_copy(&r, m.identity.b, IDENTITY_LEN);
    m.hour = mvpn_read64(&r);
    m.entries = mvpn_read32(&r);
    m.size = mvpn_read32(&r);
    mvpn_read_copy(&r, m.digest.b, sizeof(m.digest.b));
    unsigned has_membership = mvpn_read8(&r);
    m.has_membership = has_membership == 1;
    if (m.has_membership) {
        memcpy(m.membership, m.identity.b, IDENTITY_LEN);
        mvpn_read_copy(&r, m.membership + IDENTITY_LEN, MEMBERSHIP_REST);
    }
    (void)mvpn_read_bytes(&r, SIGNATURE_LEN);
    if (!mvpn_reader_done(&r) || version != VERSION || has_membership > 1 || !head_is_sound(&m)) {
        return MVPN_E_FORMAT;
    }
    int rc = check_signature(in, HEAD_LABEL, network_id, &m.identity);
    if (rc != 0) {
        return rc;
    }
    MVPN_ASSERT(in.n <= sizeof(m.encoded));
    memcpy(m.encoded, in.p, in.n);
    m.encoded_len = (uint16_t)in.n;
    *ret = m;
    return 0;
}

void mvpn_snapshot_head_key(mvpn_dht_id *ret, const mvpn_key *network_id,
                            const mvpn_ed25519_pub *identity)
{
    const mvpn_bytes in[] = {MVPN_BYTES_ARRAY(network_id->b), MVPN_BYTES_ARRAY(identity->b)};
    mvpn_blake3_derive(ret->b, sizeof(ret->b), "meshvpn v1 snapshot key", in, MVPN_ARRAY_LEN(in));
}

/* --- snapshots (§8.6) --- */

void mvpn_snapshot_begin(uint8_t out[static MVPN_SNAPSHOT_FIXED], const mvpn_ed25519_pub *identity,
                         uint64_t hour, uint32_t entries)
{
    uint8_t b[MVPN_SNAPSHOT_FIXED];
    mvpn_writer w = mvpn_writer_init(b, sizeof(b));
    mvpn_write8(&w, VERSION);
    mvpn_write_bytes(&w, identity->b, IDENTITY_LEN);
    mvpn_write64(&w, hour);
    mvpn_write32(&w, entries);
    MVPN_ASSERT(!w.failed && w.p == w.end);
    memcpy(out, b, sizeof(b));
}

void mvpn_snapshot_entry_encode(uint8_t out[static MVPN_SNAPSHOT_ENTRY_LEN],
                                const mvpn_snapshot_entry *entry)
{
    uint8_t b[MVPN_SNAPSHOT_ENTRY_LEN];
    mvpn_writer w = mvpn_writer_init(b, sizeof(b));
    mvpn_write_bytes(&w, entry->key.b, sizeof(entry->key.b));
    mvpn_write_bytes(&w, entry->digest, sizeof(entry->digest));
    mvpn_write8(&w, entry->bandwidth_log2);
    mvpn_write8(&w, entry->flags);
    mvpn_write16(&w, entry->uptime_h);
    MVPN_ASSERT(!w.failed && w.p == w.end);
    memcpy(out, b, sizeof(b));
}

static const uint8_t *entry_at(mvpn_bytes snapshot, size_t index)
{
    return snapshot.p + MVPN_SNAPSHOT_FIXED + index * MVPN_SNAPSHOT_ENTRY_LEN;
}

int mvpn_snapshot_check(mvpn_bytes snapshot, const mvpn_snapshot_head *head)
{
    uint8_t fixed[MVPN_SNAPSHOT_FIXED];
    mvpn_key digest;
    if (!head_is_sound(head) || snapshot.n != head->size) {
        return MVPN_E_FORMAT;
    }
    mvpn_snapshot_digest(&digest, snapshot);
    if (!mvpn_key_eq(&digest, &head->digest)) {
        return MVPN_E_AUTH;
    }
    mvpn_snapshot_begin(fixed, &head->identity, head->hour, head->entries);
    if (memcmp(fixed, snapshot.p, sizeof(fixed)) != 0) {
        return MVPN_E_FORMAT;
    }
    for (size_t i = 1; i < head->entries; i++) {
        if (memcmp(entry_at(snapshot, i - 1), entry_at(snapshot, i), MVPN_DHT_ID_LEN) >= 0) {
            return MVPN_E_FORMAT;
        }
    }
    return 0;
}

void mvpn_snapshot_at(mvpn_bytes snapshot, size_t index, mvpn_snapshot_entry *ret)
{
    MVPN_ASSERT(snapshot.n >= MVPN_SNAPSHOT_FIXED + (index + 1) * MVPN_SNAPSHOT_ENTRY_LEN);
    mvpn_reader r =
        mvpn_reader_init(mvpn_bytes_of(entry_at(snapshot, index), MVPN_SNAPSHOT_ENTRY_LEN));
    mvpn_read_copy(&r, ret->key.b, sizeof(ret->key.b));
    mvpn_read_copy(&r, ret->digest, sizeof(ret->digest));
    ret->bandwidth_log2 = mvpn_read8(&r);
    ret->flags = mvpn_read8(&r);
    ret->uptime_h = mvpn_read16(&r);
}

void mvpn_snapshot_digest(mvpn_key *ret, mvpn_bytes snapshot)
{
    mvpn_blake3_derive(ret->b, sizeof(ret->b), "meshvpn v1 snapshot digest", &snapshot, 1);
}

/* --- who is vouched for --- */

static bool is_anchor(const mvpn_trust *trust, const mvpn_ed25519_pub *identity)
{
    for (size_t i = 0; i < trust->anchor_count; i++) {
        if (memcmp(trust->anchors[i].b, identity->b, IDENTITY_LEN) == 0) {
            return true;
        }
    }
    return false;
}

int mvpn_trust_vouches(const mvpn_trust *trust, const mvpn_ed25519_pub *identity,
                       mvpn_bytes membership, uint16_t roles, bool must_be_anchor,
                       uint64_t unix_now)
{
    mvpn_membership m;
    if (!trust->closed) {
        bool wants_anchor = must_be_anchor || (roles & MVPN_ROLE_DISCOVERY) != 0;
        return !wants_anchor || is_anchor(trust, identity) ? 0 : MVPN_E_POLICY;
    }
    if (membership.n == 0) {
        return MVPN_E_POLICY;
    }
    int rc =
        mvpn_membership_verify(membership, &trust->network_id, &trust->network_pub, unix_now, &m);
    if (rc != 0) {
        return rc;
    }
    if (memcmp(m.identity.b, identity->b, IDENTITY_LEN) != 0) {
        return MVPN_E_AUTH;
    }
    return (roles & ~m.roles) == 0 && !mvpn_revocations_has(&trust->revocations, m.serial)
               ? 0
               : MVPN_E_POLICY;
}

/* --- the gate --- */

/* Of a certificate that was verified. */
static uint64_t membership_serial(const uint8_t certificate[static MVPN_MEMBERSHIP_LEN])
{
    mvpn_reader r = mvpn_reader_init(mvpn_bytes_of(certificate, MVPN_MEMBERSHIP_LEN));
    (void)mvpn_read_bytes(&r, IDENTITY_LEN);
    (void)mvpn_read16(&r); /* roles */
    (void)mvpn_read64(&r); /* not before */
    (void)mvpn_read64(&r); /* not after */
    return mvpn_read64(&r);
}

static int verify_descriptor(const mvpn_trust *trust, mvpn_bytes record, uint64_t unix_now,
                             mvpn_record_info *ret, mvpn_descriptor *d)
{
    int rc = mvpn_descriptor_decode(d, record);
    if (rc == 0) {
        rc = mvpn_descriptor_verify(d, &trust->network_id,
                                    trust->closed ? &trust->network_pub : NULL, unix_now);
    }
    if (rc == 0 && trust->closed) {
        rc = mvpn_revocations_has(&trust->revocations, membership_serial(d->membership))
                 ? MVPN_E_POLICY
                 : 0;
    }
    if (rc == 0) {
        mvpn_record_key(ret->key.b, &trust->network_id, &d->identity);
        ret->sequence = d->sequence;
        ret->expires = d->expires;
    }
    return rc;
}

static int verify_revocations(const mvpn_trust *trust, mvpn_bytes record, mvpn_record_info *ret)
{
    mvpn_revocations r;
    int rc = mvpn_revocations_decode(&r, record, &trust->network_id, &trust->network_pub);
    if (rc == 0) {
        mvpn_revocations_key(&ret->key, &trust->network_id);
        ret->sequence = r.sequence;
        ret->expires = UINT64_MAX; /* a revocation does not end */
    }
    return rc;
}

static int verify_head(const mvpn_trust *trust, mvpn_bytes record, uint64_t unix_now,
                       mvpn_record_info *ret)
{
    mvpn_snapshot_head head;
    int rc = mvpn_snapshot_head_decode(&head, record, &trust->network_id);
    if (rc != 0) {
        return rc;
    }
    uint64_t from = head.hour * S_PER_HOUR;
    uint64_t until = from + (uint64_t)MVPN_SNAPSHOT_HEAD_LIFE_H * S_PER_HOUR;
    if (unix_now != 0 && !mvpn_validity_holds(from, until, unix_now)) {
        return MVPN_E_EXPIRED;
    }
    if (head.has_membership && !trust->closed) {
        return MVPN_E_FORMAT; /* nothing there could judge it */
    }
    mvpn_bytes membership =
        head.has_membership ? MVPN_BYTES_ARRAY(head.membership) : MVPN_BYTES_NONE;
    rc =
        mvpn_trust_vouches(trust, &head.identity, membership, MVPN_ROLE_DISCOVERY, false, unix_now);
    if (rc != 0) {
        return rc;
    }
    mvpn_snapshot_head_key(&ret->key, &trust->network_id, &head.identity);
    ret->sequence = head.hour;
    ret->expires = until;
    return 0;
}

int mvpn_record_verify(const mvpn_trust *trust, unsigned type, mvpn_bytes record, uint64_t unix_now,
                       mvpn_record_info *ret, mvpn_descriptor *ret_descriptor)
{
    mvpn_record_info info = {0};
    mvpn_descriptor d;
    int rc;
    switch (type) {
    case MVPN_RECORD_DESCRIPTOR:
        rc = verify_descriptor(trust, record, unix_now, &info, &d);
        break;
    case MVPN_RECORD_REVOCATIONS:
        rc = verify_revocations(trust, record, &info);
        break;
    case MVPN_RECORD_SNAPSHOT_HEAD:
        rc = verify_head(trust, record, unix_now, &info);
        break;
    default:
        rc = MVPN_E_UNKNOWN;
        break;
    }
    if (rc != 0) {
        return rc;
    }
    if (type == MVPN_RECORD_DESCRIPTOR && ret_descriptor != NULL) {
        *ret_descriptor = d;
    }
    *ret = info;
    return 0;
}
