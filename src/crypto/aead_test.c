#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>

#include "base/error.h"
#include "crypto/aead.h"
#include "crypto/rng.h"

#define INPUT_MAX 2000
#define AD_MAX 64
/* Several times what the OpenSSL backend keeps contexts for. */
#define KEY_COUNT 300

struct fixture {
    mvpn_aead *backends[2]; /* OpenSSL, and Intel's where it exists */
    size_t count;
    mvpn_rng rng;
};

static int setup(void **state)
{
    static struct fixture f;
    f.count = 0;
    mvpn_rng_init_test(&f.rng, 1);
    if (mvpn_aead_new(MVPN_AEAD_OPENSSL, &f.backends[f.count++]) != 0) {
        return -1;
    }
    if (mvpn_aead_new(MVPN_AEAD_IPSEC_MB, &f.backends[f.count]) == 0) {
        f.count++;
    } else {
        print_message("ipsec-mb: not on this machine\n");
    }
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    for (size_t i = 0; i < f->count; i++) {
        mvpn_aead_free(f->backends[i]);
    }
    return 0;
}

/* Random bytes on the heap at their exact size. */
static uint8_t *random_bytes(mvpn_rng *rng, size_t n)
{
    uint8_t *p = malloc(n > 0 ? n : 1);
    assert_non_null(p);
    mvpn_rng_bytes(rng, p, n);
    return p;
}

static void test_backends(void **state)
{
    struct fixture *f = *state;
    mvpn_aead *best = NULL;
    assert_string_equal(mvpn_aead_backend_name(f->backends[0]), "openssl");
    assert_int_equal(mvpn_aead_new(MVPN_AEAD_AUTO, &best), 0);
    assert_string_equal(mvpn_aead_backend_name(best), f->count == 2 ? "ipsec-mb" : "openssl");
    mvpn_aead_free(best);
    mvpn_aead_free(NULL);
}

/* One random case: each backend seals alike and opens what the other sealed, in place and not. */
static void cross_check(struct fixture *f, size_t n)
{
    mvpn_key key;
    mvpn_rng_bytes(&f->rng, key.b, sizeof(key.b));
    uint64_t counter = mvpn_rng_u64(&f->rng);
    size_t ad_len = mvpn_rng_below(&f->rng, AD_MAX + 1);
    uint8_t *ad_bytes = random_bytes(&f->rng, ad_len);
    uint8_t *plain = random_bytes(&f->rng, n);
    uint8_t *cipher = random_bytes(&f->rng, n);
    uint8_t *work = random_bytes(&f->rng, n);
    mvpn_bytes ad = mvpn_bytes_of(ad_bytes, ad_len);
    uint8_t tag[MVPN_AEAD_TAG];
    uint8_t other_tag[MVPN_AEAD_TAG];

    mvpn_aead_seal(f->backends[0], cipher, tag, &key, counter, ad, mvpn_bytes_of(plain, n));
    for (size_t i = 0; i < f->count; i++) {
        mvpn_aead *aead = f->backends[i];
        memcpy(work, plain, n);
        mvpn_aead_seal(aead, work, other_tag, &key, counter, ad, mvpn_bytes_of(work, n));
        assert_memory_equal(work, cipher, n);
        assert_memory_equal(other_tag, tag, sizeof(tag));
        assert_int_equal(mvpn_aead_open(aead, work, &key, counter, ad, mvpn_bytes_of(work, n), tag),
                         0);
        assert_memory_equal(work, plain, n);
        memset(work, 0, n);
        assert_int_equal(
            mvpn_aead_open(aead, work, &key, counter, ad, mvpn_bytes_of(cipher, n), tag), 0);
        assert_memory_equal(work, plain, n);
    }
    free(work);
    free(cipher);
    free(plain);
    free(ad_bytes);
}

static void test_cross_check(void **state)
{
    struct fixture *f = *state;
    for (size_t n = 0; n <= 300; n++) {
        cross_check(f, n);
    }
    for (size_t i = 0; i < 1000; i++) {
        cross_check(f, mvpn_rng_below(&f->rng, INPUT_MAX + 1));
    }
}

/* docs/protocol.md §3: the nonce is 4 zero bytes and the counter, big-endian. */
static void test_counter_nonce(void **state)
{
    struct fixture *f = *state;
    static const uint8_t nonce[12] = {0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8};
    static const uint8_t plain[20] = {1, 2, 3};
    mvpn_key key = {{9}};
    uint8_t a[20];
    uint8_t b[20];
    uint8_t tag_a[MVPN_AEAD_TAG];
    uint8_t tag_b[MVPN_AEAD_TAG];
    for (size_t i = 0; i < f->count; i++) {
        mvpn_aead_seal(f->backends[i], a, tag_a, &key, 0x0102030405060708, MVPN_BYTES_NONE,
                       MVPN_BYTES_ARRAY(plain));
        mvpn_aead_seal_nonce(f->backends[i], b, tag_b, &key, nonce, MVPN_BYTES_NONE,
                             MVPN_BYTES_ARRAY(plain));
        assert_memory_equal(a, b, sizeof(a));
        assert_memory_equal(tag_a, tag_b, sizeof(tag_a));
    }
}

struct sealed {
    mvpn_key key;
    uint64_t counter;
    uint8_t ad[13];
    uint8_t body[45];
    uint8_t tag[MVPN_AEAD_TAG];
};

static int open_sealed(mvpn_aead *aead, const struct sealed *s, uint8_t out[static 45])
{
    return mvpn_aead_open(aead, out, &s->key, s->counter, MVPN_BYTES_ARRAY(s->ad),
                          MVPN_BYTES_ARRAY(s->body), s->tag);
}

/* Each bit of key, counter, ad, ciphertext and tag counts; what fails to open yields nothing. */
static void test_bit_flips(void **state)
{
    static const uint8_t nothing[45] = {0};
    struct fixture *f = *state;
    for (size_t i = 0; i < f->count; i++) {
        mvpn_aead *aead = f->backends[i];
        struct sealed s;
        uint8_t out[45];
        memset(&s, 0, sizeof(s));
        mvpn_rng_bytes(&f->rng, s.key.b, sizeof(s.key.b));
        s.counter = mvpn_rng_u64(&f->rng);
        mvpn_rng_bytes(&f->rng, s.ad, sizeof(s.ad));
        mvpn_aead_seal(aead, s.body, s.tag, &s.key, s.counter, MVPN_BYTES_ARRAY(s.ad),
                       MVPN_BYTES_ARRAY(s.body));
        assert_int_equal(open_sealed(aead, &s, out), 0);
        /* all fields lie before the tag's end, without holes */
        size_t end = offsetof(struct sealed, tag) + sizeof(s.tag);
        assert_int_equal(end, sizeof(s.key) + 8 + sizeof(s.ad) + sizeof(s.body) + sizeof(s.tag));
        for (size_t bit = 0; bit < 8 * end; bit++) {
            struct sealed bad = s;
            ((uint8_t *)&bad)[bit / 8] ^= (uint8_t)(1u << bit % 8);
            memset(out, 0xee, sizeof(out));
            assert_int_equal(open_sealed(aead, &bad, out), MVPN_E_AUTH);
            assert_memory_equal(out, nothing, sizeof(out));
        }
        assert_int_equal(open_sealed(aead, &s, out), 0);
    }
}

/* More keys than cached contexts, each for both directions, in an order that evicts. */
static void test_many_keys(void **state)
{
    struct fixture *f = *state;
    static mvpn_key keys[KEY_COUNT];
    static uint8_t bodies[KEY_COUNT][32];
    static uint8_t tags[KEY_COUNT][MVPN_AEAD_TAG];
    static const uint8_t zero[32] = {0};
    uint8_t out[32];
    for (size_t i = 0; i < f->count; i++) {
        mvpn_aead *aead = f->backends[i];
        for (size_t k = 0; k < KEY_COUNT; k++) {
            mvpn_rng_bytes(&f->rng, keys[k].b, sizeof(keys[k].b));
            mvpn_aead_seal(aead, bodies[k], tags[k], &keys[k], k, MVPN_BYTES_NONE,
                           MVPN_BYTES_ARRAY(zero));
        }
        for (size_t round = 0; round < 20 * KEY_COUNT; round++) {
            size_t k = mvpn_rng_below(&f->rng, KEY_COUNT);
            assert_int_equal(mvpn_aead_open(aead, out, &keys[k], k, MVPN_BYTES_NONE,
                                            MVPN_BYTES_ARRAY(bodies[k]), tags[k]),
                             0);
            assert_memory_equal(out, zero, sizeof(out));
            uint8_t tag[MVPN_AEAD_TAG];
            k = mvpn_rng_below(&f->rng, KEY_COUNT);
            mvpn_aead_seal(aead, out, tag, &keys[k], k, MVPN_BYTES_NONE, MVPN_BYTES_ARRAY(zero));
            assert_memory_equal(out, bodies[k], sizeof(out));
            assert_memory_equal(tag, tags[k], sizeof(tag));
        }
    }
}

static void test_xaead(void **state)
{
    struct fixture *f = *state;
    mvpn_key key;
    uint8_t nonce[24];
    uint8_t plain[33];
    uint8_t sealed[33 + MVPN_AEAD_TAG];
    uint8_t out[33];
    static const uint8_t ad[] = {1, 2, 3};
    mvpn_rng_bytes(&f->rng, key.b, sizeof(key.b));
    mvpn_rng_bytes(&f->rng, nonce, sizeof(nonce));
    mvpn_rng_bytes(&f->rng, plain, sizeof(plain));
    mvpn_xaead_seal(sealed, &key, nonce, MVPN_BYTES_ARRAY(ad), MVPN_BYTES_ARRAY(plain));
    assert_int_equal(
        mvpn_xaead_open(out, &key, nonce, MVPN_BYTES_ARRAY(ad), MVPN_BYTES_ARRAY(sealed)), 0);
    assert_memory_equal(out, plain, sizeof(out));
    for (size_t n = 0; n < sizeof(sealed); n++) {
        assert_int_equal(
            mvpn_xaead_open(out, &key, nonce, MVPN_BYTES_ARRAY(ad), mvpn_bytes_of(sealed, n)),
            MVPN_E_AUTH);
    }
    for (size_t bit = 0; bit < 8 * sizeof(sealed); bit++) {
        sealed[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(
            mvpn_xaead_open(out, &key, nonce, MVPN_BYTES_ARRAY(ad), MVPN_BYTES_ARRAY(sealed)),
            MVPN_E_AUTH);
        sealed[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    assert_int_equal(mvpn_xaead_open(out, &key, nonce, MVPN_BYTES_NONE, MVPN_BYTES_ARRAY(sealed)),
                     MVPN_E_AUTH);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_backends),      cmocka_unit_test(test_cross_check),
        cmocka_unit_test(test_counter_nonce), cmocka_unit_test(test_bit_flips),
        cmocka_unit_test(test_many_keys),     cmocka_unit_test(test_xaead),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
