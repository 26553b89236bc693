/* Noise: [pattern 1] [which message 1] [xor at 2] [xor 1] [payload]: a handshake of which one
 * message is changed, or replaced by the payload. */
#include "crypto/noise.h"
#include "crypto/x25519.h"
#include "fuzz/fuzz.h"

static mvpn_aead *aead;

static void start(mvpn_noise *hs, enum mvpn_noise_pattern pattern, enum mvpn_noise_role role,
                  const mvpn_x25519_pair *own, const mvpn_x25519_pair *peer)
{
    static const mvpn_key psk = {{9}};
    static const mvpn_key fixed[2] = {{{0x11, 1}}, {{0x22, 2}}};
    bool is_initiator = role == MVPN_NOISE_INITIATOR;
    bool is_ik = pattern == MVPN_NOISE_IK || pattern == MVPN_NOISE_IK_PSK0;
    bool has_psk = pattern == MVPN_NOISE_NK_PSK0 || pattern == MVPN_NOISE_IK_PSK0;
    mvpn_noise_config c = {
        .pattern = pattern,
        .role = role,
        .prologue = MVPN_BYTES_LITERAL("fuzz"),
        .s = is_initiator && !is_ik ? NULL : own,
        .rs = is_initiator ? &peer->pub : NULL,
        .psk = has_psk ? &psk : NULL,
        .fixed_e = &fixed[is_initiator],
    };
    mvpn_noise_init(hs, aead, &c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static mvpn_x25519_pair pairs[2];
    mvpn_noise hs[2];
    if (aead == NULL) { /* once for all inputs */
        mvpn_rng rng;
        mvpn_rng_init_test(&rng, 4);
        mvpn_x25519_generate(&pairs[0], &rng);
        mvpn_x25519_generate(&pairs[1], &rng);
        FUZZ_CHECK(mvpn_aead_new(MVPN_AEAD_OPENSSL, &aead) == 0);
    }
    if (size < 5 || size > 1500) {
        return 0;
    }
    enum mvpn_noise_pattern pattern = (enum mvpn_noise_pattern)(data[0] & 3);
    unsigned bad = data[1] & 3;
    mvpn_bytes payload = mvpn_bytes_of(data + 5, size - 5);
    start(&hs[0], pattern, MVPN_NOISE_INITIATOR, &pairs[0], &pairs[1]);
    start(&hs[1], pattern, MVPN_NOISE_RESPONDER, &pairs[1], &pairs[0]);
    for (unsigned i = 0; i < 2; i++) {
        uint8_t message[2048], out[2048];
        size_t n = 0, got = 0;
        FUZZ_CHECK(mvpn_noise_write(&hs[i], message, sizeof(message), &n, payload, NULL) == 0);
        FUZZ_CHECK(n <= sizeof(message));
        bool is_changed = bad == i + 1 && data[4] != 0;
        if (bad == i + 1) {
            message[mvpn_load16(data + 2) % n] ^= data[4];
        }
        mvpn_bytes in = bad == 3 ? payload : mvpn_bytes_of(message, n);
        int r = mvpn_noise_read(&hs[1 - i], out, sizeof(out), &got, in);
        FUZZ_CHECK(r == 0 || is_changed || bad == 3);
        /* The top bit of an X25519 key says nothing, but the transcript covers it. */
        FUZZ_CHECK(r != 0 || !is_changed);
        if (r != 0) {
            goto out;
        }
        FUZZ_CHECK(got == payload.n && (got == 0 || memcmp(out, payload.p, got) == 0));
    }
    mvpn_key k[4];
    mvpn_noise_split(&hs[0], &k[0], &k[1]);
    mvpn_noise_split(&hs[1], &k[2], &k[3]);
    FUZZ_CHECK(mvpn_key_eq(&k[0], &k[3]) && mvpn_key_eq(&k[1], &k[2]));
out:
    mvpn_noise_done(&hs[0]);
    mvpn_noise_done(&hs[1]);
    return 0;
}
