#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/cursor.h"
#include "base/error.h"
#include "crypto/x25519.h"
#include "wire/record.h"

#define FROM 3600000u
#define UNTIL 7200000u
#define NOW 5400000u /* a full hour */
#define HOUR (NOW / 3600)
#define SERIAL 40

typedef struct fixture {
    mvpn_ed25519_secret network_secret, secret, other_secret;
    mvpn_ed25519_pub identity, other;
    mvpn_trust trust; /* closed */
} fixture;

static fixture make(void)
{
    fixture f = {0};
    mvpn_rng rng;
    mvpn_rng_init_test(&rng, 12);
    mvpn_ed25519_generate(&f.trust.network_pub, &f.network_secret, &rng);
    mvpn_ed25519_generate(&f.identity, &f.secret, &rng);
    mvpn_ed25519_generate(&f.other, &f.other_secret, &rng);
    mvpn_network_id(&f.trust.network_id, &f.trust.network_pub);
    f.trust.closed = true;
    return f;
}

static void certify(const fixture *f, uint8_t out[static MVPN_MEMBERSHIP_LEN], uint16_t roles)
{
    mvpn_membership_make(out, &f->network_secret, &f->identity, roles, FROM, UNTIL, SERIAL,
                         &f->trust.network_id);
}

static mvpn_revocations make_revocations(size_t count)
{
    mvpn_revocations r = {.sequence = 0x0102030405060708, .published = NOW};
    r.count = (uint16_t)count;
    for (size_t i = 0; i < count && i < MVPN_REVOCATIONS_MAX; i++) {
        r.serials[i] = 10 * (i + 1);
    }
    return r;
}

static mvpn_bytes encoded(const mvpn_revocations *r)
{
    return mvpn_bytes_of(r->encoded, r->encoded_len);
}

static void revoke(fixture *f)
{
    f->trust.revocations = make_revocations(5); /* 40 among them */
    assert_int_equal(
        mvpn_revocations_sign(&f->trust.revocations, &f->network_secret, &f->trust.network_id), 0);
}

/* --- revocation lists --- */

static void test_revocations_round_trip(void **state)
{
    (void)state;
    fixture f = make();
    static const size_t counts[] = {0, 1, 2, 77, MVPN_REVOCATIONS_MAX};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(counts); i++) {
        mvpn_revocations r = make_revocations(counts[i]), d;
        assert_int_equal(mvpn_revocations_sign(&r, &f.network_secret, &f.trust.network_id), 0);
        assert_int_equal(r.encoded_len, 83 + 8 * counts[i]);
        assert_int_equal(
            mvpn_revocations_decode(&d, encoded(&r), &f.trust.network_id, &f.trust.network_pub), 0);
        assert_true(d.sequence == r.sequence);
        assert_true(d.published == r.published);
        assert_int_equal(d.count, counts[i]);
        assert_memory_equal(d.serials, r.serials, sizeof(r.serials));
        assert_int_equal(d.encoded_len, r.encoded_len);
        assert_memory_equal(d.encoded, r.encoded, r.encoded_len);
        for (uint64_t serial = 0; serial < 10 * (counts[i] + 2); serial++) {
            bool listed = serial > 0 && serial % 10 == 0 && serial / 10 <= counts[i];
            assert_int_equal(mvpn_revocations_has(&d, serial), listed);
        }
        assert_false(mvpn_revocations_has(&d, UINT64_MAX));
    }
    assert_int_equal(MVPN_REVOCATIONS_LEN_MAX, 979); /* §8.4 */
    const mvpn_revocations none = {.count = 1};
    assert_false(mvpn_revocations_has(&none, 0));
}

static void test_revocations_rules(void **state)
{
    (void)state;
    fixture f = make();
    static const struct {
        uint64_t sequence, last;
        uint16_t count;
        int expected;
    } rows[] = {
        {1, 31, 4, 0},
        {0, 31, 4, MVPN_E_INVAL},                        /* reads as none */
        {1, 30, 4, MVPN_E_INVAL},                        /* twice */
        {1, 29, 4, MVPN_E_INVAL},                        /* descending */
        {1, 31, MVPN_REVOCATIONS_MAX + 1, MVPN_E_INVAL}, /* too many */
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        mvpn_revocations r = make_revocations(rows[i].count);
        r.sequence = rows[i].sequence;
        r.serials[3] = rows[i].last;
        assert_int_equal(mvpn_revocations_sign(&r, &f.network_secret, &f.trust.network_id),
                         rows[i].expected);
    }
}

/* Sign bytes that no encoder of ours writes. */
static mvpn_bytes sign_raw(uint8_t *record, size_t n, const char *label,
                           const mvpn_ed25519_secret *secret, const mvpn_key *network_id)
{
    uint8_t buf[2048];
    mvpn_signature sig;
    mvpn_writer w = mvpn_writer_init(buf, sizeof(buf));
    mvpn_write_bytes(&w, label, strlen(label));
    mvpn_write_bytes(&w, network_id->b, 32);
    mvpn_write_bytes(&w, record, n);
    assert_false(w.failed);
    mvpn_ed25519_sign(&sig, secret, mvpn_bytes_of(buf, mvpn_writer_len(&w)));
    memcpy(record + n, sig.b, 64);
    return mvpn_bytes_of(record, n + 64);
}

/* What the network's key signed, and is no list all the same. */
static void test_revocations_one_encoding(void **state)
{
    (void)state;
    fixture f = make();
    uint8_t b[1200];
    static const struct {
        size_t at;
        uint8_t value;
        int expected;
    } rows[] = {
        {0, 1, 0},
        {0, 2, MVPN_E_FORMAT},        /* version */
        {18, 2, MVPN_E_FORMAT},       /* count */
        {18, 4, MVPN_E_FORMAT},       /* count */
        {17, 1, MVPN_E_FORMAT},       /* count 259 */
        {19 + 15, 10, MVPN_E_FORMAT}, /* the first again */
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        mvpn_revocations r = make_revocations(3), d;
        assert_int_equal(mvpn_revocations_sign(&r, &f.network_secret, &f.trust.network_id), 0);
        memcpy(b, r.encoded, r.encoded_len);
        b[rows[i].at] = rows[i].value;
        mvpn_bytes in = sign_raw(b, r.encoded_len - 64u, "meshvpn v1 revocations",
                                 &f.network_secret, &f.trust.network_id);
        assert_int_equal(mvpn_revocations_decode(&d, in, &f.trust.network_id, &f.trust.network_pub),
                         rows[i].expected);
    }
    /* 113 serials in ascending order. */
    memset(b, 0, sizeof(b));
    b[0] = 1;
    b[8] = 1;
    b[18] = MVPN_REVOCATIONS_MAX + 1;
    for (size_t i = 0; i <= MVPN_REVOCATIONS_MAX; i++) {
        b[19 + 8 * i + 7] = (uint8_t)(i + 1);
    }
    mvpn_revocations d;
    mvpn_bytes in = sign_raw(b, 19 + 8 * (MVPN_REVOCATIONS_MAX + 1), "meshvpn v1 revocations",
                             &f.network_secret, &f.trust.network_id);
    assert_int_equal(mvpn_revocations_decode(&d, in, &f.trust.network_id, &f.trust.network_pub),
                     MVPN_E_FORMAT);
}

/* Every length and every flipped bit of a record is refused by the gate. */
static void spoil(const fixture *f, unsigned type, mvpn_bytes record)
{
    uint8_t b[1100] = {0};
    mvpn_record_info info;
    memcpy(b, record.p, record.n);
    assert_int_equal(
        mvpn_record_verify(&f->trust, type, mvpn_bytes_of(b, record.n), NOW, &info, NULL), 0);
    for (size_t n = 0; n <= record.n + 1; n++) {
        if (n != record.n) {
            int rc = mvpn_record_verify(&f->trust, type, mvpn_bytes_of(b, n), NOW, &info, NULL);
            assert_true(rc == MVPN_E_FORMAT || rc == MVPN_E_AUTH);
        }
    }
    for (size_t bit = 0; bit < record.n * 8; bit++) {
        b[bit / 8] ^= (uint8_t)(1u << bit % 8);
        int rc = mvpn_record_verify(&f->trust, type, mvpn_bytes_of(b, record.n), NOW, &info, NULL);
        assert_true(rc == MVPN_E_FORMAT || rc == MVPN_E_AUTH);
        b[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

static void test_revocations_spoilt(void **state)
{
    (void)state;
    fixture f = make();
    mvpn_revocations r = make_revocations(3);
    assert_int_equal(mvpn_revocations_sign(&r, &f.network_secret, &f.trust.network_id), 0);
    spoil(&f, MVPN_RECORD_REVOCATIONS, encoded(&r));
}

/* --- snapshots --- */

#define ENTRIES 7

static size_t make_snapshot(const fixture *f, uint8_t *out)
{
    mvpn_snapshot_begin(out, &f->identity, HOUR, ENTRIES);
    for (size_t i = 0; i < ENTRIES; i++) {
        const mvpn_snapshot_entry e = {.key = {{(uint8_t)(i * 30), [19] = 2}},
                                       .digest = {(uint8_t)i, [15] = 9},
                                       .bandwidth_log2 = (uint8_t)(255 - i),
                                       .flags = (uint8_t)(i % 4),
                                       .uptime_h = (uint16_t)(65535 - i)};
        mvpn_snapshot_entry_encode(out + MVPN_SNAPSHOT_FIXED + i * MVPN_SNAPSHOT_ENTRY_LEN, &e);
    }
    return MVPN_SNAPSHOT_FIXED + ENTRIES * MVPN_SNAPSHOT_ENTRY_LEN;
}

static mvpn_snapshot_head make_head(const fixture *f, mvpn_bytes snapshot, bool has_membership)
{
    mvpn_snapshot_head h = {.identity = f->identity,
                            .hour = HOUR,
                            .entries = ENTRIES,
                            .size = (uint32_t)snapshot.n,
                            .has_membership = has_membership};
    mvpn_snapshot_digest(&h.digest, snapshot);
    if (has_membership) {
        certify(f, h.membership, MVPN_ROLE_DISCOVERY | MVPN_ROLE_DHT_SERVER);
    }
    return h;
}

static void sign_head(const fixture *f, mvpn_snapshot_head *h)
{
    assert_int_equal(mvpn_snapshot_head_sign(h, &f->secret, &f->trust.network_id), 0);
}

static mvpn_bytes head_encoded(const mvpn_snapshot_head *h)
{
    return mvpn_bytes_of(h->encoded, h->encoded_len);
}

static void test_head_round_trip(void **state)
{
    (void)state;
    fixture f = make();
    uint8_t b[512];
    mvpn_bytes snapshot = mvpn_bytes_of(b, make_snapshot(&f, b));
    for (unsigned with = 0; with < 2; with++) {
        mvpn_snapshot_head h = make_head(&f, snapshot, with), d;
        sign_head(&f, &h);
        assert_int_equal(h.encoded_len, with ? 236 : 146); /* §8.5 */
        assert_int_equal(mvpn_snapshot_head_decode(&d, head_encoded(&h), &f.trust.network_id), 0);
        assert_memory_equal(d.identity.b, h.identity.b, 32);
        assert_true(d.hour == h.hour);
        assert_int_equal(d.entries, h.entries);
        assert_int_equal(d.size, h.size);
        assert_memory_equal(d.digest.b, h.digest.b, 32);
        assert_int_equal(d.has_membership, with);
        assert_memory_equal(d.membership, h.membership, sizeof(h.membership));
        assert_int_equal(d.encoded_len, h.encoded_len);
        assert_memory_equal(d.encoded, h.encoded, h.encoded_len);
    }
}

static void test_head_rules(void **state)
{
    (void)state;
    fixture f = make();
    uint8_t b[512];
    mvpn_bytes snapshot = mvpn_bytes_of(b, make_snapshot(&f, b));
    mvpn_snapshot_head h = make_head(&f, snapshot, true);
    h.size++;
    assert_int_equal(mvpn_snapshot_head_sign(&h, &f.secret, &f.trust.network_id), MVPN_E_INVAL);
    h = make_head(&f, snapshot, true);
    h.entries = MVPN_SNAPSHOT_ENTRIES_MAX + 1;
    h.size = MVPN_SNAPSHOT_FIXED + h.entries * MVPN_SNAPSHOT_ENTRY_LEN;
    assert_int_equal(mvpn_snapshot_head_sign(&h, &f.secret, &f.trust.network_id), MVPN_E_INVAL);
    h = make_head(&f, snapshot, true);
    h.membership[3] ^= 1;
    assert_int_equal(mvpn_snapshot_head_sign(&h, &f.secret, &f.trust.network_id), MVPN_E_INVAL);
    h = make_head(&f, snapshot, true);
    h.hour = UINT64_MAX / 3600;
    assert_int_equal(mvpn_snapshot_head_sign(&h, &f.secret, &f.trust.network_id), MVPN_E_INVAL);
    /* The same, signed all the same: [hour 8] at 33, [entries 4] at 41, the flag at 81. */
    static const size_t spoilt[] = {0, 33, 41, 44, 48, 81};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(spoilt); i++) {
        h = make_head(&f, snapshot, true);
        sign_head(&f, &h);
        h.encoded[spoilt[i]] ^= 0xf0;
        mvpn_bytes in = sign_raw(h.encoded, h.encoded_len - 64u, "meshvpn v1 snapshot head",
                                 &f.secret, &f.trust.network_id);
        mvpn_snapshot_head d;
        assert_int_equal(mvpn_snapshot_head_decode(&d, in, &f.trust.network_id), MVPN_E_FORMAT);
    }
}

static void test_head_spoilt(void **state)
{
    (void)state;
    fixture f = make();
    uint8_t b[512];
    mvpn_bytes snapshot = mvpn_bytes_of(b, make_snapshot(&f, b));
    mvpn_snapshot_head h = make_head(&f, snapshot, true);
    sign_head(&f, &h);
    spoil(&f, MVPN_RECORD_SNAPSHOT_HEAD, head_encoded(&h));
}

static void test_snapshot(void **state)
{
    (void)state;
    fixture f = make();
    uint8_t b[512];
    size_t len = make_snapshot(&f, b);
    mvpn_snapshot_head h = make_head(&f, mvpn_bytes_of(b, len), false);
    assert_int_equal(mvpn_snapshot_check(mvpn_bytes_of(b, len), &h), 0);
    for (size_t i = 0; i < ENTRIES; i++) {
        mvpn_snapshot_entry e;
        mvpn_snapshot_at(mvpn_bytes_of(b, len), i, &e);
        assert_int_equal(e.key.b[0], i * 30);
        assert_int_equal(e.key.b[19], 2);
        assert_int_equal(e.digest[0], i);
        assert_int_equal(e.digest[15], 9);
        assert_int_equal(e.bandwidth_log2, 255 - i);
        assert_int_equal(e.flags, i % 4);
        assert_int_equal(e.uptime_h, 65535 - i);
    }
    for (size_t n = 0; n <= sizeof(b); n++) {
        assert_int_equal(mvpn_snapshot_check(mvpn_bytes_of(b, n), &h),
                         n == len ? 0 : MVPN_E_FORMAT);
    }
    for (size_t bit = 0; bit < len * 8; bit++) {
        b[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(mvpn_snapshot_check(mvpn_bytes_of(b, len), &h), MVPN_E_AUTH);
        b[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    /* Named by a head that is not of it: version, identity, hour, count, order. */
    static const size_t spoilt[] = {0, 5, 40, 44, MVPN_SNAPSHOT_FIXED + 40};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(spoilt); i++) {
        uint8_t was = b[spoilt[i]];
        b[spoilt[i]] = i == 4 ? 0 : (uint8_t)(was ^ 0x10);
        if (i == 4) { /* the second key is the first again */
            memcpy(b + MVPN_SNAPSHOT_FIXED + 40, b + MVPN_SNAPSHOT_FIXED, 20);
        }
        mvpn_snapshot_digest(&h.digest, mvpn_bytes_of(b, len));
        assert_int_equal(mvpn_snapshot_check(mvpn_bytes_of(b, len), &h), MVPN_E_FORMAT);
        b[spoilt[i]] = was;
    }
}

/* --- who is vouched for --- */

static void test_vouches_closed(void **state)
{
    (void)state;
    fixture f = make();
    uint8_t good[MVPN_MEMBERSHIP_LEN], forged[MVPN_MEMBERSHIP_LEN];
    const uint16_t roles = MVPN_ROLE_DHT_SERVER | MVPN_ROLE_MIDDLE;
    certify(&f, good, roles);
    mvpn_membership_make(forged, &f.secret, &f.identity, 0xffff, FROM, UNTIL, 1,
                         &f.trust.network_id);
    const struct {
        const mvpn_ed25519_pub *identity;
        mvpn_bytes membership;
        uint16_t roles;
        uint64_t now;
        int expected;
    } rows[] = {
        {&f.identity, MVPN_BYTES_ARRAY(good), MVPN_ROLE_DHT_SERVER, NOW, 0},
        {&f.identity, MVPN_BYTES_ARRAY(good), roles, NOW, 0},
        {&f.identity, MVPN_BYTES_ARRAY(good), 0, NOW, 0},
        {&f.identity, MVPN_BYTES_ARRAY(good), MVPN_ROLE_DISCOVERY, NOW, MVPN_E_POLICY},
        {&f.identity, MVPN_BYTES_ARRAY(good), roles | MVPN_ROLE_EXIT, NOW, MVPN_E_POLICY},
        {&f.identity, MVPN_BYTES_NONE, 0, NOW, MVPN_E_POLICY},
        {&f.identity, {good, sizeof(good) - 1}, 0, NOW, MVPN_E_FORMAT},
        {&f.other, MVPN_BYTES_ARRAY(good), 0, NOW, MVPN_E_AUTH},
        {&f.identity, MVPN_BYTES_ARRAY(forged), 0, NOW, MVPN_E_AUTH},
        {&f.identity, MVPN_BYTES_ARRAY(good), 0, UNTIL + 301, MVPN_E_EXPIRED},
        {&f.identity, MVPN_BYTES_ARRAY(good), 0, FROM - 301, MVPN_E_EXPIRED},
        {&f.identity, MVPN_BYTES_ARRAY(good), 0, 0, 0},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        for (unsigned anchor = 0; anchor < 2; anchor++) { /* asked in open networks alone */
            assert_int_equal(mvpn_trust_vouches(&f.trust, rows[i].identity, rows[i].membership,
                                                rows[i].roles, anchor, rows[i].now),
                             rows[i].expected);
        }
    }
    revoke(&f);
    assert_int_equal(
        mvpn_trust_vouches(&f.trust, &f.identity, MVPN_BYTES_ARRAY(good), 0, false, NOW),
        MVPN_E_POLICY);
    f.trust.revocations.serials[3]++;
    assert_int_equal(
        mvpn_trust_vouches(&f.trust, &f.identity, MVPN_BYTES_ARRAY(good), 0, false, NOW), 0);
}

static void test_vouches_open(void **state)
{
    (void)state;
    fixture f = make();
    f.trust.closed = false;
    f.trust.anchor_count = 2;
    f.trust.anchors[1] = f.identity;
    static const struct {
        bool is_anchor;
        uint16_t roles;
        bool must_be_anchor;
        int expected;
    } rows[] = {
        {false, MVPN_ROLE_DHT_SERVER, false, 0},
        {false, MVPN_ROLE_DHT_SERVER, true, MVPN_E_POLICY},
        {false, MVPN_ROLE_DISCOVERY, false, MVPN_E_POLICY},
        {true, MVPN_ROLE_DHT_SERVER, true, 0},
        {true, MVPN_ROLE_DISCOVERY, false, 0},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        assert_int_equal(mvpn_trust_vouches(&f.trust, rows[i].is_anchor ? &f.identity : &f.other,
                                            MVPN_BYTES_NONE, rows[i].roles, rows[i].must_be_anchor,
                                            NOW),
                         rows[i].expected);
    }
    f.trust.anchor_count = 1;
    assert_int_equal(mvpn_trust_vouches(&f.trust, &f.identity, MVPN_BYTES_NONE, 0, true, NOW),
                     MVPN_E_POLICY);
}

/* --- the gate --- */

static mvpn_descriptor make_descriptor(const fixture *f, uint16_t roles)
{
    mvpn_descriptor d = {.identity = f->identity,
                         .sequence = 77,
                         .published = FROM,
                         .expires = UNTIL,
                         .onion_key_count = 1,
                         .address_count = 1,
                         .roles = roles,
                         .has_membership = true};
    const mvpn_key link_key = {{6}};
    d.addresses[0] = (mvpn_descriptor_address){MVPN_CARRIER_PLAIN, {4, 443, {11, 1, 2, 3}}};
    mvpn_link_certificate_make(d.link_certificate, &f->secret, &d.identity, &link_key, FROM, UNTIL,
                               &f->trust.network_id);
    certify(f, d.membership, MVPN_ROLE_MIDDLE | MVPN_ROLE_DHT_SERVER);
    return d;
}

static mvpn_bytes sign_descriptor(const fixture *f, mvpn_descriptor *d)
{
    assert_int_equal(mvpn_descriptor_sign(d, &f->secret, &f->trust.network_id), 0);
    return mvpn_bytes_of(d->encoded, d->encoded_len);
}

static void test_verify_descriptor(void **state)
{
    (void)state;
    fixture f = make();
    mvpn_descriptor d = make_descriptor(&f, MVPN_ROLE_MIDDLE), out;
    mvpn_bytes in = sign_descriptor(&f, &d);
    mvpn_record_info info;
    uint8_t key[20];
    assert_int_equal(mvpn_record_verify(&f.trust, 1, in, NOW, &info, &out), 0);
    mvpn_record_key(key, &f.trust.network_id, &f.identity);
    assert_memory_equal(info.key.b, key, 20);
    assert_int_equal(info.sequence, 77);
    assert_int_equal(info.expires, UNTIL);
    assert_memory_equal(out.encoded, d.encoded, d.encoded_len);
    spoil(&f, MVPN_RECORD_DESCRIPTOR, in);
}

/* A withdrawal is a descriptor as any other. (§11.4) */
static void test_withdrawal(void **state)
{
    (void)state;
    fixture f = make();
    for (unsigned closed = 0; closed < 2; closed++) {
        mvpn_descriptor d = make_descriptor(&f, 0), out;
        f.trust.closed = closed;
        d.has_membership = closed;
        mvpn_record_info info;
        assert_int_equal(mvpn_record_verify(&f.trust, 1, sign_descriptor(&f, &d), NOW, &info, &out),
                         0);
        assert_int_equal(out.roles, 0);
    }
}

/* Forged, oversize, expired, uncertified, revoked, other people's: one row each. */
static void test_refused_descriptors(void **state)
{
    (void)state;
    enum {
        GOOD,
        FORGED,
        OVERSIZE,
        EXPIRED,
        UNBORN,
        NO_MEMBERSHIP,
        ROLES,
        MEMBERSHIP_EXPIRED,
        SELF_CERTIFIED,
        REVOKED,
        OTHER_IDENTITY,
        OTHER_NETWORK,
        OTHER_TYPE,
        NO_TYPE
    };
    static const struct {
        int what, expected;
    } rows[] = {
        {GOOD, 0},
        {FORGED, MVPN_E_AUTH},
        {OVERSIZE, MVPN_E_FORMAT},
        {EXPIRED, MVPN_E_EXPIRED},
        {UNBORN, MVPN_E_EXPIRED},
        {NO_MEMBERSHIP, MVPN_E_POLICY},
        {ROLES, MVPN_E_POLICY},
        {MEMBERSHIP_EXPIRED, MVPN_E_EXPIRED},
        {SELF_CERTIFIED, MVPN_E_AUTH},
        {REVOKED, MVPN_E_POLICY},
        {OTHER_IDENTITY, MVPN_E_AUTH},
        {OTHER_NETWORK, MVPN_E_AUTH},
        {OTHER_TYPE, MVPN_E_FORMAT},
        {NO_TYPE, MVPN_E_UNKNOWN},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        fixture f = make();
        int what = rows[i].what;
        unsigned type = what == OTHER_TYPE ? 2 : what == NO_TYPE ? 4 : 1;
        uint64_t now = what == EXPIRED ? UNTIL + 301 : what == UNBORN ? FROM - 301 : NOW;
        mvpn_descriptor d = make_descriptor(&f, what == ROLES ? MVPN_ROLE_EXIT : MVPN_ROLE_MIDDLE);
        d.has_membership = what != NO_MEMBERSHIP;
        if (what == MEMBERSHIP_EXPIRED) {
            mvpn_membership_make(d.membership, &f.network_secret, &f.identity, 0xff, FROM,
                                 NOW - 301, 1, &f.trust.network_id);
        }
        if (what == SELF_CERTIFIED) {
            mvpn_membership_make(d.membership, &f.secret, &f.identity, 0xff, FROM, UNTIL, 1,
                                 &f.trust.network_id);
        }
        if (what == OTHER_IDENTITY) { /* in the owner's name, by another's key */
            f.secret = f.other_secret;
        }
        uint8_t b[1400] = {0};
        mvpn_bytes in = sign_descriptor(&f, &d);
        memcpy(b, in.p, in.n);
        in.p = b;
        if (what == FORGED) {
            b[40] ^= 1;
        }
        if (what == OVERSIZE) { /* an unknown TLV that fills it, and the owner's signature */
            size_t at = in.n - 64;
            mvpn_store16(b + at, 0x100);
            mvpn_store16(b + at + 2, (uint16_t)(MVPN_DESCRIPTOR_MAX + 1 - 64 - 4 - at));
            memset(b + at + 4, 0, MVPN_DESCRIPTOR_MAX);
            in = sign_raw(b, MVPN_DESCRIPTOR_MAX + 1 - 64, "meshvpn v1 descriptor", &f.secret,
                          &f.trust.network_id);
        }
        if (what == REVOKED) {
            revoke(&f);
        }
        if (what == OTHER_NETWORK) {
            f.trust.network_id.b[0] ^= 1;
        }
        mvpn_record_info info = {.sequence = 5};
        mvpn_descriptor out = {.sequence = 6};
        assert_int_equal(mvpn_record_verify(&f.trust, type, in, now, &info, &out),
                         rows[i].expected);
        if (rows[i].expected != 0) {
            assert_int_equal(info.sequence, 5);
            assert_int_equal(out.sequence, 6);
        }
    }
}

static void test_verify_revocations(void **state)
{
    (void)state;
    fixture f = make();
    mvpn_revocations r = make_revocations(2);
    mvpn_record_info info;
    mvpn_dht_id key;
    assert_int_equal(mvpn_revocations_sign(&r, &f.network_secret, &f.trust.network_id), 0);
    assert_int_equal(mvpn_record_verify(&f.trust, 2, encoded(&r), NOW, &info, NULL), 0);
    mvpn_revocations_key(&key, &f.trust.network_id);
    assert_memory_equal(info.key.b, key.b, 20);
    assert_true(info.sequence == r.sequence);
    assert_true(info.expires == UINT64_MAX);
    /* By a member, or of another network. */
    assert_int_equal(mvpn_revocations_sign(&r, &f.secret, &f.trust.network_id), 0);
    assert_int_equal(mvpn_record_verify(&f.trust, 2, encoded(&r), NOW, &info, NULL), MVPN_E_AUTH);
    mvpn_key other = {{1}};
    assert_int_equal(mvpn_revocations_sign(&r, &f.network_secret, &other), 0);
    assert_int_equal(mvpn_record_verify(&f.trust, 2, encoded(&r), NOW, &info, NULL), MVPN_E_AUTH);
}

static void test_verify_heads(void **state)
{
    (void)state;
    enum {
        GOOD,
        OLD,
        FUTURE,
        NO_ROLE,
        NO_MEMBERSHIP,
        REVOKED,
        OPEN,
        OPEN_ANCHOR,
        OPEN_MEMBERSHIP,
        FORGED
    };
    static const struct {
        int what, expected;
    } rows[] = {
        {GOOD, 0},
        {OLD, MVPN_E_EXPIRED},
        {FUTURE, MVPN_E_EXPIRED},
        {NO_ROLE, MVPN_E_POLICY},
        {NO_MEMBERSHIP, MVPN_E_POLICY},
        {REVOKED, MVPN_E_POLICY},
        {OPEN, MVPN_E_POLICY},
        {OPEN_ANCHOR, 0},
        {OPEN_MEMBERSHIP, MVPN_E_FORMAT},
        {FORGED, MVPN_E_AUTH},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        fixture f = make();
        int what = rows[i].what;
        uint8_t b[512];
        mvpn_bytes snapshot = mvpn_bytes_of(b, make_snapshot(&f, b));
        bool is_open = what == OPEN || what == OPEN_ANCHOR || what == OPEN_MEMBERSHIP;
        bool has = what != NO_MEMBERSHIP && (!is_open || what == OPEN_MEMBERSHIP);
        mvpn_snapshot_head h = make_head(&f, snapshot, has);
        f.trust.closed = !is_open;
        if (what == NO_ROLE) {
            certify(&f, h.membership, (uint16_t)~MVPN_ROLE_DISCOVERY);
        }
        if (what == OPEN_ANCHOR || what == OPEN_MEMBERSHIP) {
            f.trust.anchor_count = 1;
            f.trust.anchors[0] = f.identity;
        }
        if (what == REVOKED) {
            revoke(&f);
        }
        if (what == FORGED) {
            f.secret = f.other_secret;
        }
        sign_head(&f, &h);
        uint64_t now = what == OLD      ? NOW + 6 * 3600 + 301
                       : what == FUTURE ? NOW - 301
                                        : NOW + 6 * 3600 + 300;
        mvpn_record_info info;
        mvpn_dht_id key;
        assert_int_equal(mvpn_record_verify(&f.trust, 3, head_encoded(&h), now, &info, NULL),
                         rows[i].expected);
        if (rows[i].expected == 0) {
            mvpn_snapshot_head_key(&key, &f.trust.network_id, &f.identity);
            assert_memory_equal(info.key.b, key.b, 20);
            assert_int_equal(info.sequence, HOUR);
            assert_int_equal(info.expires, NOW + 6 * 3600);
        }
    }
}

/* Computed with the BLAKE3 of dht_test.c: network key 32..63, identity 0..31. */
static void test_key_vectors(void **state)
{
    (void)state;
    static const uint8_t network_id[32] = {0x82, 0xc6, 0xa9, 0x03, 0x01, 0x2c, 0xc3, 0xbf,
                                           0x7a, 0x18, 0x12, 0x73, 0xd9, 0x71, 0xf4, 0x91,
                                           0x20, 0xc8, 0x68, 0x14, 0xe8, 0xfe, 0x63, 0x1d,
                                           0x75, 0x95, 0x44, 0xa8, 0x6c, 0x7b, 0x85, 0xd6};
    static const uint8_t record_key[20] = {0x62, 0x22, 0x25, 0x0b, 0x27, 0xee, 0x70,
                                           0x59, 0x8b, 0x93, 0xd4, 0x31, 0xa4, 0x3e,
                                           0xea, 0xad, 0x3d, 0x38, 0xae, 0x19};
    static const uint8_t revocation_key[20] = {0xec, 0x0a, 0x8e, 0xdc, 0x91, 0x19, 0x99,
                                               0x79, 0x45, 0xcc, 0x66, 0x74, 0x41, 0x01,
                                               0xd7, 0x42, 0xee, 0x55, 0xa7, 0x25};
    static const uint8_t snapshot_key[20] = {0xe6, 0x42, 0x7e, 0x67, 0x38, 0x08, 0x53,
                                             0x7f, 0x65, 0xb0, 0xf4, 0xe2, 0x0c, 0x9f,
                                             0x07, 0x30, 0x57, 0xd3, 0x0a, 0x91};
    static const uint8_t digest_abc[32] = {0x14, 0xb6, 0x5e, 0xa9, 0xae, 0xe1, 0x24, 0x47,
                                           0x9f, 0x0a, 0xf8, 0xcb, 0x66, 0x7f, 0xd5, 0xcc,
                                           0xb6, 0x5b, 0x92, 0x43, 0xe5, 0xcc, 0x0d, 0xff,
                                           0x92, 0xe5, 0x90, 0x02, 0x3b, 0x37, 0x4f, 0x34};
    mvpn_ed25519_pub identity, network_pub;
    for (unsigned i = 0; i < 32; i++) {
        identity.b[i] = (uint8_t)i;
        network_pub.b[i] = (uint8_t)(32 + i);
    }
    mvpn_key id, digest;
    mvpn_dht_id key;
    mvpn_network_id(&id, &network_pub);
    assert_memory_equal(id.b, network_id, 32);
    mvpn_record_key(key.b, &id, &identity);
    assert_memory_equal(key.b, record_key, 20);
    mvpn_revocations_key(&key, &id);
    assert_memory_equal(key.b, revocation_key, 20);
    mvpn_snapshot_head_key(&key, &id, &identity);
    assert_memory_equal(key.b, snapshot_key, 20);
    mvpn_snapshot_digest(&digest, MVPN_BYTES_LITERAL("abc"));
    assert_memory_equal(digest.b, digest_abc, 32);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_revocations_round_trip),
        cmocka_unit_test(test_revocations_rules),
        cmocka_unit_test(test_revocations_one_encoding),
        cmocka_unit_test(test_revocations_spoilt),
        cmocka_unit_test(test_head_round_trip),
        cmocka_unit_test(test_head_rules),
        cmocka_unit_test(test_head_spoilt),
        cmocka_unit_test(test_snapshot),
        cmocka_unit_test(test_vouches_closed),
        cmocka_unit_test(test_vouches_open),
        cmocka_unit_test(test_verify_descriptor),
        cmocka_unit_test(test_withdrawal),
        cmocka_unit_test(test_refused_descriptors),
        cmocka_unit_test(test_verify_revocations),
        cmocka_unit_test(test_verify_heads),
        cmocka_unit_test(test_key_vectors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
