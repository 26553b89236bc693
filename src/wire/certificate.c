#include "wire/certificate.h"
#include "wire/signed.h"

#include "base/assert.h"
#include "base/cursor.h"
#include "base/error.h"
#include "crypto/hash.h"
#include "crypto/x25519.h"

#define SIGNATURE_LEN sizeof(mvpn_signature)
#define LINK_CERTIFICATE_RESERVED 32

#define LINK_LABEL MVPN_BYTES_LITERAL("meshvpn v1 link certificate")
#define MEMBERSHIP_LABEL MVPN_BYTES_LITERAL("meshvpn v1 membership")

/* Label, network id, and the longest record signed here. */
#define SIGNED_MAX (MVPN_SIGNED_PREFIX_MAX + MVPN_LINK_CERTIFICATE_LEN - SIGNATURE_LEN)

void mvpn_network_id(mvpn_key *ret, const mvpn_ed25519_pub *network_pub)
{
    const mvpn_bytes in = MVPN_BYTES_ARRAY(network_pub->b);
    mvpn_blake3_derive(ret->b, sizeof(ret->b), "meshvpn v1 network id", &in, 1);
}

void mvpn_network_psk(mvpn_key *ret, const mvpn_key *network_secret)
{
    const mvpn_bytes in = MVPN_BYTES_ARRAY(network_secret->b);
    mvpn_blake3_derive(ret->b, sizeof(ret->b), "meshvpn v1 noise psk", &in, 1);
}

void mvpn_network_token(mvpn_key *ret, const mvpn_key *network_id, const mvpn_key *network_secret)
{
    *ret = network_secret != NULL ? *network_secret : *network_id;
}

void mvpn_record_key(uint8_t out[static 20], const mvpn_key *network_id,
                     const mvpn_ed25519_pub *identity)
{
    const mvpn_bytes in[] = {MVPN_BYTES_ARRAY(network_id->b), MVPN_BYTES_ARRAY(identity->b)};
    mvpn_blake3_derive(out, 20, "meshvpn v1 record key", in, MVPN_ARRAY_LEN(in));
}

bool mvpn_validity_holds(uint64_t not_before, uint64_t not_after, uint64_t unix_now)
{
    /* Written as differences: the bounds are a peer's and may lie near 2^64. */
    if (unix_now < not_before && not_before - unix_now > MVPN_VALIDITY_TOLERANCE_S) {
        return false;
    }
    return unix_now <= not_after || unix_now - not_after <= MVPN_VALIDITY_TOLERANCE_S;
}

/* Append the signature of what `w` holds so far; it fills the record. */
static void finish(mvpn_writer *w, mvpn_bytes label, const mvpn_key *network_id,
                   const mvpn_ed25519_secret *secret)
{
    uint8_t buf[SIGNED_MAX];
    mvpn_signature sig;
    MVPN_ASSERT(w->start != NULL);
    mvpn_bytes record = mvpn_bytes_of(w->start, mvpn_writer_len(w));
    mvpn_ed25519_sign(&sig, secret, mvpn_signed_bytes(buf, sizeof(buf), label, network_id, record));
    mvpn_write_bytes(w, sig.b, sizeof(sig.b));
    MVPN_ASSERT(!w->failed && w->p == w->end);
}

static int check(mvpn_bytes cert, mvpn_bytes label, const mvpn_key *network_id,
                 const mvpn_ed25519_pub *signer, uint64_t not_before, uint64_t not_after,
                 uint64_t unix_now)
{
    uint8_t buf[SIGNED_MAX];
    mvpn_signature sig;
    mvpn_bytes record = mvpn_bytes_of(cert.p, cert.n - SIGNATURE_LEN);
    if (not_before >= not_after) {
        return MVPN_E_FORMAT;
    }
    memcpy(sig.b, cert.p + record.n, sizeof(sig.b));
    int rc = mvpn_ed25519_verify(&sig, signer,
                                 mvpn_signed_bytes(buf, sizeof(buf), label, network_id, record));
    if (rc != 0) {
        return rc;
    }
    return unix_now == 0 || mvpn_validity_holds(not_before, not_after, unix_now) ? 0
                                                                                 : MVPN_E_EXPIRED;
}

void mvpn_link_certificate_make(uint8_t out[static MVPN_LINK_CERTIFICATE_LEN],
                                const mvpn_ed25519_secret *secret, const mvpn_ed25519_pub *identity,
                                const mvpn_key *link_key, uint64_t not_before, uint64_t not_after,
                                const mvpn_key *network_id)
{
    mvpn_writer w = mvpn_writer_init(out, MVPN_LINK_CERTIFICATE_LEN);
    mvpn_write_bytes(&w, identity->b, sizeof(identity->b));
    mvpn_write_bytes(&w, link_key->b, sizeof(link_key->b));
    mvpn_write64(&w, not_before);
    mvpn_write64(&w, not_after);
    mvpn_write_zero(&w, LINK_CERTIFICATE_RESERVED);
    finish(&w, LINK_LABEL, network_id, secret);
}

int mvpn_link_certificate_verify(mvpn_bytes cert, const mvpn_key *network_id, uint64_t unix_now,
                                 mvpn_link_certificate *ret)
{
    mvpn_link_certificate c = {0};
    if (cert.n != MVPN_LINK_CERTIFICATE_LEN) {
        return MVPN_E_FORMAT;
    }
    mvpn_reader r = mvpn_reader_init(cert);
    mvpn_read_copy(&r, c.identity.b, sizeof(c.identity.b));
    mvpn_read_copy(&r, c.link_key.b, sizeof(c.link_key.b));
    c.not_before = mvpn_read64(&r);
    c.not_after = mvpn_read64(&r);
    int rc = check(cert, LINK_LABEL, network_id, &c.identity, c.not_before, c.not_after, unix_now);
    if (rc != 0) {
        return rc;
    }
    *ret = c;
    return 0;
}

void mvpn_membership_make(uint8_t out[static MVPN_MEMBERSHIP_LEN],
                          const mvpn_ed25519_secret *network_secret_key,
                          const mvpn_ed25519_pub *identity, uint16_t roles, uint64_t not_before,
                          uint64_t not_after, uint64_t serial, const mvpn_key *network_id)
{
    mvpn_writer w = mvpn_writer_init(out, MVPN_MEMBERSHIP_LEN);
    mvpn_write_bytes(&w, identity->b, sizeof(identity->b));
    mvpn_write16(&w, roles);
    mvpn_write64(&w, not_before);
    mvpn_write64(&w, not_after);
    mvpn_write64(&w, serial);
    finish(&w, MEMBERSHIP_LABEL, network_id, network_secret_key);
}

int mvpn_membership_verify(mvpn_bytes cert, const mvpn_key *network_id,
                           const mvpn_ed25519_pub *network_pub, uint64_t unix_now,
                           mvpn_membership *ret)
{
    mvpn_membership m = {0};
    if (cert.n != MVPN_MEMBERSHIP_LEN) {
        return MVPN_E_FORMAT;
    }
    mvpn_reader r = mvpn_reader_init(cert);
    mvpn_read_copy(&r, m.identity.b, sizeof(m.identity.b));
    m.roles = mvpn_read16(&r);
    m.not_before = mvpn_read64(&r);
    m.not_after = mvpn_read64(&r);
    m.serial = mvpn_read64(&r);
    int rc =
        check(cert, MEMBERSHIP_LABEL, network_id, network_pub, m.not_before, m.not_after, unix_now);
    if (rc != 0) {
        return rc;
    }
    *ret = m;
    return 0;
}
