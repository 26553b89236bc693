/*
 * Noise: the published handshakes of the patterns we have (with SHA256), message by message and
 * both sides, then transport messages under the split keys.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>

#include "base/error.h"
#include "crypto/noise.h"
#include "crypto/vectors.h"
#include "crypto/x25519.h"

/* Of the 78 published: two handshakes for each of seven patterns, one for NKpsk0. */
#define PUBLISHED_CASES 15

#define MESSAGE_MAX 1024

static const char *const names[] = {
    [MVPN_NOISE_NK] = "NK", [MVPN_NOISE_NK_PSK0] = "NKpsk0",
    [MVPN_NOISE_IK] = "IK", [MVPN_NOISE_IK_PSK0] = "IKpsk0",
    [MVPN_NOISE_N] = "N",   [MVPN_NOISE_XK] = "XK",
    [MVPN_NOISE_XX] = "XX", [MVPN_NOISE_IX] = "IX",
    [MVPN_NOISE_KK] = "KK",
};

static bool find_pattern(const char *protocol, enum mvpn_noise_pattern *ret)
{
    for (size_t i = 0; i < MVPN_ARRAY_LEN(names); i++) {
        char name[64];
        (void)snprintf(name, sizeof(name), "Noise_%s_25519_ChaChaPoly_SHA256", names[i]);
        if (strcmp(name, protocol) == 0) {
            *ret = (enum mvpn_noise_pattern)i;
            return true;
        }
    }
    return false;
}

struct side {
    mvpn_noise hs;
    mvpn_x25519_pair s;
    mvpn_key rs, psk, e;
    mvpn_key send, recv;
    uint64_t send_n, recv_n;
};

static bool take(const json_t *vector, const char *prefix, const char *member, mvpn_key *ret)
{
    char name[64];
    (void)snprintf(name, sizeof(name), "%s_%s", prefix, member);
    mvpn_bytes b = vectors_hex(vector, name);
    if (b.n == 0) {
        return false;
    }
    assert_int_equal(b.n, sizeof(ret->b));
    memcpy(ret->b, b.p, sizeof(ret->b));
    return true;
}

static bool take_psk(const json_t *vector, const char *prefix, mvpn_key *ret)
{
    char name[64];
    (void)snprintf(name, sizeof(name), "%s_psks", prefix);
    const char *hex = json_string_value(json_array_get(json_object_get(vector, name), 0));
    if (hex == NULL) {
        return false;
    }
    mvpn_bytes b = vectors_unhex(hex);
    assert_int_equal(b.n, sizeof(ret->b));
    memcpy(ret->b, b.p, sizeof(ret->b));
    return true;
}

static void start_side(struct side *side, mvpn_aead *aead, const json_t *vector,
                       enum mvpn_noise_pattern pattern, enum mvpn_noise_role role)
{
    const char *prefix = role == MVPN_NOISE_INITIATOR ? "init" : "resp";
    char prologue[64];
    memset(side, 0, sizeof(*side));
    (void)snprintf(prologue, sizeof(prologue), "%s_prologue", prefix);
    bool has_s = take(vector, prefix, "static", &side->s.secret);
    if (has_s) {
        mvpn_x25519_public(&side->s.pub, &side->s.secret);
    }
    mvpn_noise_config config = {
        .pattern = pattern,
        .role = role,
        .prologue = vectors_hex(vector, prologue),
        .s = has_s ? &side->s : NULL,
        .rs = take(vector, prefix, "remote_static", &side->rs) ? &side->rs : NULL,
        .psk = take_psk(vector, prefix, &side->psk) ? &side->psk : NULL,
        .fixed_e = take(vector, prefix, "ephemeral", &side->e) ? &side->e : NULL,
    };
    mvpn_noise_init(&side->hs, aead, &config);
}

static void handshake_message(struct side *from, struct side *to, mvpn_bytes payload,
                              mvpn_bytes cipher)
{
    uint8_t out[MESSAGE_MAX];
    uint8_t plain[MESSAGE_MAX];
    size_t n = 0;
    assert_int_equal(mvpn_noise_overhead(&from->hs), cipher.n - payload.n);
    assert_int_equal(mvpn_noise_write(&from->hs, out, cipher.n - 1, &n, payload, NULL),
                     MVPN_E_SPACE);
    assert_int_equal(mvpn_noise_write(&from->hs, out, sizeof(out), &n, payload, NULL), 0);
    assert_true(vectors_equal(mvpn_bytes_of(out, n), cipher));
    assert_int_equal(mvpn_noise_read(&to->hs, plain, payload.n, &n, cipher), 0);
    assert_true(vectors_equal(mvpn_bytes_of(plain, n), payload));
}

static void transport_message(mvpn_aead *aead, struct side *from, struct side *to,
                              mvpn_bytes payload, mvpn_bytes cipher)
{
    uint8_t out[MESSAGE_MAX];
    uint8_t tag[MVPN_AEAD_TAG];
    uint8_t nonce[12] = {0};
    mvpn_bytes body = mvpn_bytes_of(cipher.p, payload.n);
    assert_int_equal(cipher.n, payload.n + MVPN_AEAD_TAG);
    nonce[4] = (uint8_t)from->send_n++;
    mvpn_aead_seal_nonce(aead, out, tag, &from->send, nonce, MVPN_BYTES_NONE, payload);
    assert_true(vectors_equal(mvpn_bytes_of(out, payload.n), body));
    assert_memory_equal(tag, cipher.p + payload.n, sizeof(tag));
    nonce[4] = (uint8_t)to->recv_n++;
    assert_int_equal(mvpn_aead_open_nonce(aead, out, &to->recv, nonce, MVPN_BYTES_NONE, body, tag),
                     0);
    assert_true(vectors_equal(mvpn_bytes_of(out, payload.n), payload));
}

static void finish(struct side *init, struct side *resp, mvpn_bytes hash)
{
    struct side *const sides[2] = {init, resp};
    assert_true(mvpn_noise_is_finished(&resp->hs));
    for (size_t i = 0; i < 2; i++) {
        mvpn_noise_split(&sides[i]->hs, &sides[i]->send, &sides[i]->recv);
        if (hash.n > 0) {
            assert_int_equal(hash.n, sizeof(mvpn_key));
            assert_memory_equal(mvpn_noise_hash(&sides[i]->hs)->b, hash.p, hash.n);
        }
        mvpn_noise_done(&sides[i]->hs);
    }
}

static void run_vector(mvpn_aead *aead, const json_t *vector, enum mvpn_noise_pattern pattern)
{
    struct side init;
    struct side resp;
    const json_t *messages = json_object_get(vector, "messages");
    bool is_finished = false;
    bool is_one_way = pattern == MVPN_NOISE_N;
    start_side(&init, aead, vector, pattern, MVPN_NOISE_INITIATOR);
    start_side(&resp, aead, vector, pattern, MVPN_NOISE_RESPONDER);
    assert_true(json_array_size(messages) >= 2);
    for (size_t i = 0; i < json_array_size(messages); i++) {
        const json_t *message = json_array_get(messages, i);
        mvpn_bytes payload = vectors_hex(message, "payload");
        mvpn_bytes cipher = vectors_hex(message, "ciphertext");
        struct side *from = i % 2 == 0 || is_one_way ? &init : &resp;
        struct side *to = from == &init ? &resp : &init;
        assert_in_range(cipher.n, 1, MESSAGE_MAX);
        if (is_finished) {
            transport_message(aead, from, to, payload, cipher);
            continue;
        }
        handshake_message(from, to, payload, cipher);
        is_finished = mvpn_noise_is_finished(&init.hs);
        if (is_finished) {
            finish(&init, &resp, vectors_hex(vector, "handshake_hash"));
        }
    }
    assert_true(is_finished);
    vectors_reset();
}

static size_t run_file(mvpn_aead *aead, const char *name)
{
    json_t *root = vectors_load(name);
    const json_t *vectors = json_object_get(root, "vectors");
    size_t count = 0;
    for (size_t i = 0; i < json_array_size(vectors); i++) {
        const json_t *vector = json_array_get(vectors, i);
        enum mvpn_noise_pattern pattern;
        if (find_pattern(vectors_string(vector, "protocol_name"), &pattern)) {
            run_vector(aead, vector, pattern);
            count++;
        }
    }
    print_message("%s: %zu of %zu handshakes (%s)\n", name, count, json_array_size(vectors),
                  mvpn_aead_backend_name(aead));
    json_decref(root);
    return count;
}

static void test_noise(void **state)
{
    (void)state;
    static const enum mvpn_aead_backend backends[] = {MVPN_AEAD_AUTO, MVPN_AEAD_OPENSSL};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(backends); i++) {
        mvpn_aead *aead = NULL;
        assert_int_equal(mvpn_aead_new(backends[i], &aead), 0);
        assert_int_equal(run_file(aead, "noise/noise_25519_chachapoly.json"), PUBLISHED_CASES);
        assert_int_equal(run_file(aead, "noise/noise_ikpsk0.json"), 1);
        mvpn_aead_free(aead);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_noise),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
