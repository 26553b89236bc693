/*
 * Noise against itself: every pattern agrees, and every change of any message is noticed. That the
 * bytes are the right ones is for noise_vectors_test.c.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/error.h"
#include "crypto/noise.h"
#include "crypto/x25519.h"

#define MESSAGE_MAX 256
#define PAYLOAD 5

struct row {
    enum mvpn_noise_pattern pattern;
    const char *name;
    bool init_has_s, resp_has_s, init_knows, resp_knows, has_psk;
    size_t messages;
    size_t plain_messages; /* first messages that carry no tag at all */
};

static const struct row rows[] = {
    {MVPN_NOISE_NK, "NK", false, true, true, false, false, 2, 0},
    {MVPN_NOISE_NK_PSK0, "NKpsk0", false, true, true, false, true, 2, 0},
    {MVPN_NOISE_IK, "IK", true, true, true, false, false, 2, 0},
    {MVPN_NOISE_IK_PSK0, "IKpsk0", true, true, true, false, true, 2, 0},
    {MVPN_NOISE_N, "N", false, true, true, false, false, 1, 0},
    {MVPN_NOISE_XK, "XK", true, true, true, false, false, 3, 0},
    {MVPN_NOISE_XX, "XX", true, true, false, false, false, 3, 1},
    {MVPN_NOISE_IX, "IX", true, true, false, false, false, 2, 1},
    {MVPN_NOISE_KK, "KK", true, true, true, true, false, 2, 0},
};

static const uint8_t payload_bytes[PAYLOAD] = {'h', 'e', 'l', 'l', 'o'};

/* Both ends, and what passed between them. */
struct run {
    const struct row *row;
    mvpn_aead *aead;
    mvpn_rng rng;
    mvpn_x25519_pair init_s, resp_s;
    mvpn_key psk;
    mvpn_noise ends[2]; /* initiator, responder */
    uint8_t message[MESSAGE_MAX];
    size_t message_len;
};

static void start_end(struct run *run, enum mvpn_noise_role role, const char *prologue,
                      const mvpn_key *psk)
{
    const struct row *row = run->row;
    bool is_initiator = role == MVPN_NOISE_INITIATOR;
    bool has_s = is_initiator ? row->init_has_s : row->resp_has_s;
    bool knows = is_initiator ? row->init_knows : row->resp_knows;
    mvpn_noise_config config = {
        .pattern = row->pattern,
        .role = role,
        .prologue = mvpn_bytes_of(prologue, strlen(prologue)),
        .s = !has_s         ? NULL
             : is_initiator ? &run->init_s
                            : &run->resp_s,
        .rs = !knows         ? NULL
              : is_initiator ? &run->resp_s.pub
                             : &run->init_s.pub,
        .psk = row->has_psk ? psk : NULL,
    };
    mvpn_noise_init(&run->ends[role], run->aead, &config);
}

static void start(struct run *run, const struct row *row, mvpn_aead *aead)
{
    memset(run, 0, sizeof(*run));
    run->row = row;
    run->aead = aead;
    mvpn_rng_init_test(&run->rng, 7 + (uint64_t)row->pattern);
    mvpn_x25519_generate(&run->init_s, &run->rng);
    mvpn_x25519_generate(&run->resp_s, &run->rng);
    mvpn_rng_bytes(&run->rng, run->psk.b, sizeof(run->psk.b));
    start_end(run, MVPN_NOISE_INITIATOR, "prologue", &run->psk);
    start_end(run, MVPN_NOISE_RESPONDER, "prologue", &run->psk);
}

static void write_next(struct run *run, size_t i)
{
    mvpn_noise *hs = &run->ends[i % 2];
    size_t expected = mvpn_noise_overhead(hs) + PAYLOAD;
    assert_int_equal(mvpn_noise_write(hs, run->message, MESSAGE_MAX, &run->message_len,
                                      MVPN_BYTES_ARRAY(payload_bytes), &run->rng),
                     0);
    assert_int_equal(run->message_len, expected);
}

static int read_bytes(mvpn_noise *hs, mvpn_bytes message)
{
    uint8_t out[MESSAGE_MAX];
    size_t n = 0;
    return mvpn_noise_read(hs, out, sizeof(out), &n, message);
}

static void read_next(struct run *run, size_t i)
{
    uint8_t out[PAYLOAD];
    size_t n = 0;
    assert_int_equal(mvpn_noise_read(&run->ends[1 - i % 2], out, sizeof(out), &n,
                                     mvpn_bytes_of(run->message, run->message_len)),
                     0);
    assert_int_equal(n, PAYLOAD);
    assert_memory_equal(out, payload_bytes, PAYLOAD);
}

static void check_finished(struct run *run)
{
    mvpn_key send[2];
    mvpn_key recv[2];
    for (size_t e = 0; e < 2; e++) {
        mvpn_noise *hs = &run->ends[e];
        uint8_t out[MESSAGE_MAX];
        size_t n = 0;
        assert_true(mvpn_noise_is_finished(hs));
        assert_int_equal(mvpn_noise_overhead(hs), 0);
        assert_int_equal(mvpn_noise_write(hs, out, sizeof(out), &n, MVPN_BYTES_NONE, &run->rng),
                         MVPN_E_STATE);
        assert_int_equal(mvpn_noise_read(hs, out, sizeof(out), &n, mvpn_bytes_of(out, 200)),
                         MVPN_E_STATE);
        mvpn_noise_split(hs, &send[e], &recv[e]);
    }
    assert_true(mvpn_key_eq(&send[0], &recv[1]));
    assert_true(mvpn_key_eq(&send[1], &recv[0]));
    assert_false(mvpn_key_eq(&send[0], &recv[0]));
    assert_true(mvpn_key_eq(mvpn_noise_hash(&run->ends[0]), mvpn_noise_hash(&run->ends[1])));
    const mvpn_key *of_resp = mvpn_noise_remote_static(&run->ends[0]);
    const mvpn_key *of_init = mvpn_noise_remote_static(&run->ends[1]);
    assert_non_null(of_resp);
    assert_true(mvpn_key_eq(of_resp, &run->resp_s.pub));
    assert_int_equal(of_init != NULL, run->row->init_has_s);
    if (of_init != NULL) {
        assert_true(mvpn_key_eq(of_init, &run->init_s.pub));
    }
}

static void test_agree(void **state)
{
    for (size_t r = 0; r < MVPN_ARRAY_LEN(rows); r++) {
        struct run run;
        start(&run, &rows[r], *state);
        for (size_t i = 0; i < rows[r].messages; i++) {
            uint8_t out[MESSAGE_MAX];
            size_t n = 0;
            assert_false(mvpn_noise_is_finished(&run.ends[0]));
            /* Not this one's turn. */
            assert_int_equal(mvpn_noise_write(&run.ends[1 - i % 2], out, sizeof(out), &n,
                                              MVPN_BYTES_NONE, &run.rng),
                             MVPN_E_STATE);
            write_next(&run, i);
            assert_int_equal(mvpn_noise_read(&run.ends[1 - i % 2], out, PAYLOAD - 1, &n,
                                             mvpn_bytes_of(run.message, run.message_len)),
                             MVPN_E_SPACE);
            read_next(&run, i);
        }
        check_finished(&run);
        for (size_t e = 0; e < 2; e++) {
            mvpn_noise_done(&run.ends[e]);
            assert_true(mvpn_ct_is_zero(&run.ends[e], sizeof(run.ends[e])));
        }
    }
}

/* Two handshakes with the same static keys share nothing. */
static void test_fresh(void **state)
{
    struct run a;
    struct run b;
    start(&a, &rows[0], *state);
    b = a;
    (void)mvpn_rng_u32(&b.rng);
    write_next(&a, 0);
    write_next(&b, 0);
    assert_memory_not_equal(a.message, b.message, 32);
    assert_memory_not_equal(a.message + 32, b.message + 32, PAYLOAD);
}

/* The altered message must be refused, or, if nothing protects it yet, the reply to it. */
static void expect_refused(const struct run *run, size_t i, mvpn_bytes altered)
{
    struct run copy = *run;
    mvpn_noise *reader = &copy.ends[1 - i % 2];
    int err = read_bytes(reader, altered);
    if (err == 0) {
        assert_true(i < run->row->plain_messages);
        write_next(&copy, i + 1);
        err = read_bytes(&copy.ends[i % 2], mvpn_bytes_of(copy.message, copy.message_len));
        assert_int_equal(err, MVPN_E_AUTH);
        return;
    }
    assert_true(err == MVPN_E_AUTH || err == MVPN_E_FORMAT);
    /* Dead, even for the genuine message. */
    assert_int_equal(read_bytes(reader, mvpn_bytes_of(run->message, run->message_len)),
                     MVPN_E_STATE);
    assert_false(mvpn_noise_is_finished(reader));
    assert_int_equal(mvpn_noise_overhead(reader), 0);
}

static void test_altered(void **state)
{
    for (size_t r = 0; r < MVPN_ARRAY_LEN(rows); r++) {
        struct run run;
        start(&run, &rows[r], *state);
        for (size_t i = 0; i < rows[r].messages; i++) {
            uint8_t altered[MESSAGE_MAX];
            write_next(&run, i);
            for (size_t bit = 0; bit < 8 * run.message_len; bit++) {
                memcpy(altered, run.message, run.message_len);
                altered[bit / 8] ^= (uint8_t)(1u << bit % 8);
                expect_refused(&run, i, mvpn_bytes_of(altered, run.message_len));
            }
            for (size_t n = 0; n < run.message_len; n++) {
                expect_refused(&run, i, mvpn_bytes_of(run.message, n));
            }
            memcpy(altered, run.message, run.message_len);
            altered[run.message_len] = 0;
            if (i >= rows[r].plain_messages) {
                expect_refused(&run, i, mvpn_bytes_of(altered, run.message_len + 1));
            }
            read_next(&run, i);
        }
    }
}

/* A different view of prologue, PSK or the responder's key shows in the first message with a tag.
 */
static void test_disagree(void **state)
{
    for (size_t r = 0; r < MVPN_ARRAY_LEN(rows); r++) {
        for (int what = 0; what < 3; what++) {
            const struct row *row = &rows[r];
            struct run run;
            start(&run, row, *state);
            mvpn_key other = run.psk;
            other.b[31] ^= 0x80;
            if (what == 0) {
                start_end(&run, MVPN_NOISE_RESPONDER, "prologuf", &run.psk);
            } else if (what == 1 && row->has_psk) {
                start_end(&run, MVPN_NOISE_RESPONDER, "prologue", &other);
            } else if (what == 2 && row->init_knows) {
                mvpn_x25519_generate(&run.resp_s, &run.rng);
                start_end(&run, MVPN_NOISE_RESPONDER, "prologue", &run.psk);
            } else {
                continue;
            }
            write_next(&run, 0);
            expect_refused(&run, 0, mvpn_bytes_of(run.message, run.message_len));
        }
    }
}

/* §12.1 and RFC 7748 §6.1: a point of small order makes the shared secret zero. */
static void test_small_order(void **state)
{
    struct run run;
    uint8_t bad[32 + PAYLOAD + MVPN_AEAD_TAG] = {0};
    uint8_t out[MESSAGE_MAX];
    size_t n = 0;
    start(&run, &rows[0], *state);
    assert_int_equal(read_bytes(&run.ends[1], MVPN_BYTES_ARRAY(bad)), MVPN_E_AUTH);

    /* The peer's static key from a descriptor may be bad as well: refused when writing. */
    memset(&run.resp_s.pub, 0, sizeof(run.resp_s.pub));
    start_end(&run, MVPN_NOISE_INITIATOR, "prologue", NULL);
    assert_int_equal(
        mvpn_noise_write(&run.ends[0], out, sizeof(out), &n, MVPN_BYTES_NONE, &run.rng),
        MVPN_E_AUTH);
    assert_int_equal(
        mvpn_noise_write(&run.ends[0], out, sizeof(out), &n, MVPN_BYTES_NONE, &run.rng),
        MVPN_E_STATE);
}

/* The payload may be sealed and opened where it lies. */
static void test_in_place(void **state)
{
    for (size_t r = 0; r < MVPN_ARRAY_LEN(rows); r++) {
        struct run run;
        start(&run, &rows[r], *state);
        for (size_t i = 0; i < rows[r].messages; i++) {
            mvpn_noise *writer = &run.ends[i % 2];
            size_t tag = i < rows[r].plain_messages ? 0 : MVPN_AEAD_TAG;
            size_t at = mvpn_noise_overhead(writer) - tag;
            size_t n = 0;
            memcpy(run.message + at, payload_bytes, PAYLOAD);
            assert_int_equal(mvpn_noise_write(writer, run.message, at + PAYLOAD + tag, &n,
                                              mvpn_bytes_of(run.message + at, PAYLOAD), &run.rng),
                             0);
            assert_int_equal(mvpn_noise_read(&run.ends[1 - i % 2], run.message + at, PAYLOAD, &n,
                                             mvpn_bytes_of(run.message, n)),
                             0);
            assert_memory_equal(run.message + at, payload_bytes, PAYLOAD);
        }
        check_finished(&run);
    }
}

static void test_too_long(void **state)
{
    static uint8_t big[65536 + 1];
    struct run run;
    size_t n = 0;
    start(&run, &rows[0], *state);
    size_t overhead = mvpn_noise_overhead(&run.ends[0]);
    assert_int_equal(mvpn_noise_write(&run.ends[0], big, sizeof(big), &n,
                                      mvpn_bytes_of(big, 65535 - overhead + 1), &run.rng),
                     MVPN_E_SPACE);
    assert_int_equal(mvpn_noise_write(&run.ends[0], big, sizeof(big), &n,
                                      mvpn_bytes_of(big + 32, 65535 - overhead), &run.rng),
                     0);
    assert_int_equal(n, 65535);
    struct run copy = run;
    assert_int_equal(
        mvpn_noise_read(&copy.ends[1], big, sizeof(big), &n, mvpn_bytes_of(big, 65536)),
        MVPN_E_FORMAT);
    assert_int_equal(
        mvpn_noise_read(&run.ends[1], big + 32, sizeof(big) - 32, &n, mvpn_bytes_of(big, 65535)),
        0);
    assert_int_equal(n, 65535 - overhead);
}

static int setup(void **state)
{
    mvpn_aead *aead = NULL;
    int err = mvpn_aead_new(MVPN_AEAD_AUTO, &aead);
    *state = aead;
    return err;
}

static int teardown(void **state)
{
    mvpn_aead_free(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_agree),    cmocka_unit_test(test_fresh),
        cmocka_unit_test(test_altered),  cmocka_unit_test(test_disagree),
        cmocka_unit_test(test_in_place), cmocka_unit_test(test_small_order),
        cmocka_unit_test(test_too_long),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
