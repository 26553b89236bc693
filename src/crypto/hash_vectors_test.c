/*
 * BLAKE3 (official), HKDF (RFC 5869 appendix A.1 to A.3, Wycheproof), HMAC-SHA256 and SipHash
 * (Wycheproof), SHA-256 and SHA-1 (FIPS 180 examples), HMAC-SHA1 (RFC 2202).
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>

#include "base/error.h"
#include "crypto/hash.h"
#include "crypto/mask.h"
#include "crypto/vectors.h"

#define BLAKE3_CASES 35
#define HKDF_CASES 86
#define HMAC_CASES 174
#define SIPHASH_CASES 40

#define BLAKE3_INPUT_MAX 102400
#define BLAKE3_OUTPUT_MAX 256

static void blake3_case(const json_t *test, const mvpn_key *key, const char *context, mvpn_bytes in)
{
    uint8_t out[BLAKE3_OUTPUT_MAX];
    mvpn_bytes hash = vectors_hex(test, "hash");
    mvpn_bytes keyed = vectors_hex(test, "keyed_hash");
    mvpn_bytes derived = vectors_hex(test, "derive_key");
    mvpn_bytes parts[3] = {{in.p, in.n / 3}, {in.p + in.n / 3, 0}, {in.p + in.n / 3, 0}};
    parts[2].n = in.n - parts[0].n;
    const size_t lengths[] = {1, MVPN_MASK_LEN, 32, hash.n};

    assert_int_equal(hash.n, 131);
    for (size_t i = 0; i < MVPN_ARRAY_LEN(lengths); i++) {
        size_t n = lengths[i];
        mvpn_blake3(out, n, in);
        assert_memory_equal(out, hash.p, n);
        mvpn_blake3_keyed(out, n, key, in);
        assert_memory_equal(out, keyed.p, n);
        mvpn_blake3_derive(out, n, context, &in, 1);
        assert_memory_equal(out, derived.p, n);
        mvpn_blake3_derive(out, n, context, parts, 3);
        assert_memory_equal(out, derived.p, n);
    }
}

static void test_blake3(void **state)
{
    (void)state;
    json_t *root = vectors_load("blake3/test_vectors.json");
    const json_t *cases = json_object_get(root, "cases");
    mvpn_key key;
    assert_int_equal(strlen(vectors_string(root, "key")), sizeof(key.b));
    memcpy(key.b, vectors_string(root, "key"), sizeof(key.b));
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *test = json_array_get(cases, i);
        size_t n = (size_t)json_integer_value(json_object_get(test, "input_len"));
        assert_in_range(n, 0, BLAKE3_INPUT_MAX);
        uint8_t *in = malloc(n > 0 ? n : 1);
        assert_non_null(in);
        for (size_t k = 0; k < n; k++) {
            in[k] = (uint8_t)(k % 251);
        }
        blake3_case(test, &key, vectors_string(root, "context_string"), mvpn_bytes_of(in, n));
        free(in);
        vectors_reset();
    }
    assert_int_equal(json_array_size(cases), BLAKE3_CASES);
    json_decref(root);
}

/* The mask is keyed BLAKE3 cut to five bytes; the keyed hash itself is checked above. */
static void test_header_mask(void **state)
{
    (void)state;
    mvpn_key key;
    uint8_t sample[MVPN_MASK_SAMPLE];
    uint8_t mask[MVPN_MASK_LEN];
    uint8_t whole[32];
    memset(key.b, 0x5a, sizeof(key.b));
    memset(sample, 0xc3, sizeof(sample));
    mvpn_header_mask(mask, &key, sample);
    mvpn_blake3_keyed(whole, sizeof(whole), &key, MVPN_BYTES_ARRAY(sample));
    assert_memory_equal(mask, whole, sizeof(mask));
}

struct hkdf_row {
    const char *ikm, *salt, *info, *okm;
};

/* RFC 5869 appendix A */
static const struct hkdf_row hkdf_rows[] = {
    {"0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b", "000102030405060708090a0b0c",
     "f0f1f2f3f4f5f6f7f8f9",
     "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"},
    {"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f2021222324252627"
     "28292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f404142434445464748494a4b4c4d4e4f",
     "606162636465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f8081828384858687"
     "88898a8b8c8d8e8f909192939495969798999a9b9c9d9e9fa0a1a2a3a4a5a6a7a8a9aaabacadaeaf",
     "b0b1b2b3b4b5b6b7b8b9babbbcbdbebfc0c1c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2d3d4d5d6d7"
     "d8d9dadbdcdddedfe0e1e2e3e4e5e6e7e8e9eaebecedeeeff0f1f2f3f4f5f6f7f8f9fafbfcfdfeff",
     "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac78272"
     "71cb41c65e590e09da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f"
     "1d87"},
    {"0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b", "", "",
     "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"},
};

static void test_hkdf_rfc5869(void **state)
{
    (void)state;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(hkdf_rows); i++) {
        const struct hkdf_row *row = &hkdf_rows[i];
        mvpn_bytes okm = vectors_unhex(row->okm);
        uint8_t *out = vectors_copy(okm);
        memset(out, 0, okm.n);
        assert_int_equal(mvpn_hkdf_sha256(out, okm.n, vectors_unhex(row->salt),
                                          vectors_unhex(row->ikm), vectors_unhex(row->info)),
                         0);
        assert_memory_equal(out, okm.p, okm.n);
        vectors_reset();
    }
}

static void test_hkdf_wycheproof(void **state)
{
    (void)state;
    static uint8_t out[255 * 32 + 64];
    json_t *root = vectors_load("wycheproof/hkdf_sha256_test.json");
    size_t count = 0;
    size_t refused = 0;
    VECTORS_FOREACH(root, group, test)
    {
        mvpn_bytes okm = vectors_hex(test, "okm");
        size_t n = (size_t)json_integer_value(json_object_get(test, "size"));
        assert_in_range(n, 0, sizeof(out));
        int err = mvpn_hkdf_sha256(out, n, vectors_hex(test, "salt"), vectors_hex(test, "ikm"),
                                   vectors_hex(test, "info"));
        if (vectors_is(test, "result", "valid")) {
            assert_int_equal(err, 0);
            assert_true(vectors_equal(mvpn_bytes_of(out, n), okm));
        } else {
            assert_int_equal(err, MVPN_E_INVAL);
            refused++;
        }
        vectors_reset();
        count++;
    }
    assert_int_equal(count, HKDF_CASES);
    assert_int_equal(refused, 3);
    json_decref(root);
}

static void test_hmac_wycheproof(void **state)
{
    (void)state;
    json_t *root = vectors_load("wycheproof/hmac_sha256_test.json");
    size_t count = 0;
    VECTORS_FOREACH(root, group, test)
    {
        uint8_t out[32];
        mvpn_bytes tag = vectors_hex(test, "tag");
        assert_in_range(tag.n, 1, sizeof(out));
        mvpn_hmac_sha256(out, vectors_hex(test, "key"), vectors_hex(test, "msg"));
        assert_int_equal(mvpn_ct_equal(out, tag.p, tag.n), vectors_is(test, "result", "valid"));
        vectors_reset();
        count++;
    }
    assert_int_equal(count, HMAC_CASES);
    json_decref(root);
}

static void test_siphash_wycheproof(void **state)
{
    (void)state;
    json_t *root = vectors_load("wycheproof/siphash_2_4_test.json");
    size_t count = 0;
    VECTORS_FOREACH(root, group, test)
    {
        mvpn_siphash_key key;
        mvpn_bytes key_bytes = vectors_hex(test, "key");
        mvpn_bytes msg = vectors_hex(test, "msg");
        mvpn_bytes tag = vectors_hex(test, "tag");
        uint64_t expected = 0;
        assert_int_equal(key_bytes.n, sizeof(key.b));
        assert_int_equal(tag.n, 8);
        memcpy(key.b, key_bytes.p, sizeof(key.b));
        for (size_t i = 8; i > 0; i--) {
            expected = expected << 8 | tag.p[i - 1];
        }
        assert_int_equal(mvpn_siphash(&key, msg.p, msg.n) == expected,
                         vectors_is(test, "result", "valid"));
        vectors_reset();
        count++;
    }
    assert_int_equal(count, SIPHASH_CASES);
    json_decref(root);
}

struct sha_row {
    const char *in, *sha1, *sha256;
};

/* FIPS 180 examples: one block, two blocks, empty. */
static const struct sha_row sha_rows[] = {
    {"abc", "a9993e364706816aba3e25717850c26c9cd0d89d",
     "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
    {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
     "84983e441c3bd26ebaae4aa1f95129e5e54670f1",
     "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
    {"", "da39a3ee5e6b4b0d3255bfef95601890afd80709",
     "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
};

static void test_sha(void **state)
{
    (void)state;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(sha_rows); i++) {
        const struct sha_row *row = &sha_rows[i];
        mvpn_bytes in = mvpn_bytes_of(row->in, strlen(row->in));
        uint8_t sha1[20];
        uint8_t sha256[32];
        mvpn_sha1(sha1, in);
        assert_memory_equal(sha1, vectors_unhex(row->sha1).p, sizeof(sha1));
        mvpn_sha256(sha256, in);
        assert_memory_equal(sha256, vectors_unhex(row->sha256).p, sizeof(sha256));
        memset(sha256, 0, sizeof(sha256));
        mvpn_sha256_pair(sha256, mvpn_bytes_of(in.p, in.n / 2),
                         mvpn_bytes_of(in.p + in.n / 2, in.n - in.n / 2));
        assert_memory_equal(sha256, vectors_unhex(row->sha256).p, sizeof(sha256));
        vectors_reset();
    }
}

/* RFC 2202 §3, cases 1, 2 and 6 (a key longer than a block). */
static void test_hmac_sha1(void **state)
{
    (void)state;
    uint8_t key1[20], key6[80], out[20];
    memset(key1, 0x0b, sizeof(key1));
    memset(key6, 0xaa, sizeof(key6));
    const struct {
        mvpn_bytes key, in;
        const char *mac;
    } rows[] = {
        {MVPN_BYTES_ARRAY(key1), MVPN_BYTES_LITERAL("Hi There"),
         "b617318655057264e28bc0b6fb378c8ef146be00"},
        {MVPN_BYTES_LITERAL("Jefe"), MVPN_BYTES_LITERAL("what do ya want for nothing?"),
         "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"},
        {MVPN_BYTES_ARRAY(key6),
         MVPN_BYTES_LITERAL("Test Using Larger Than Block-Size Key - Hash Key First"),
         "aa4ae5e15272d00e95705637ce8a3b55ed402112"},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        mvpn_hmac_sha1(out, rows[i].key, rows[i].in);
        assert_memory_equal(out, vectors_unhex(rows[i].mac).p, sizeof(out));
    }
    vectors_reset();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blake3),
        cmocka_unit_test(test_header_mask),
        cmocka_unit_test(test_hkdf_rfc5869),
        cmocka_unit_test(test_hkdf_wycheproof),
        cmocka_unit_test(test_hmac_wycheproof),
        cmocka_unit_test(test_siphash_wycheproof),
        cmocka_unit_test(test_sha),
        cmocka_unit_test(test_hmac_sha1),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
