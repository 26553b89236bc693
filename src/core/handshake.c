#include "core/handshake.h"

#include <string.h>

#include "base/error.h"
#include "wire/handshake.h"

static void init(mvpn_noise *hs, mvpn_aead *aead, const mvpn_realm *realm,
                 const mvpn_onion_target *target, const mvpn_x25519_pair *own)
{
    uint8_t prologue[MVPN_PROLOGUE_LEN];
    mvpn_prologue_encode(prologue, target->suite, MVPN_PURPOSE_CIRCUIT, &realm->network_id,
                         &target->identity, &target->onion_key);
    mvpn_noise_config config = {
        .pattern = realm->closed ? MVPN_NOISE_NK_PSK0 : MVPN_NOISE_NK,
        .role = own == NULL ? MVPN_NOISE_INITIATOR : MVPN_NOISE_RESPONDER,
        .prologue = MVPN_BYTES_ARRAY(prologue),
        .s = own,
        .rs = own == NULL ? &target->onion_key : NULL,
        .psk = realm->closed ? &realm->psk : NULL,
    };
    mvpn_noise_init(hs, aead, &config);
}

/* The test suite has the size of a hybrid handshake and nothing else of it. */
static size_t payload_len(unsigned suite, unsigned message)
{
    if (suite != MVPN_SUITE_TEST) {
        return 0;
    }
    return message == 1 ? MVPN_SUITE_TEST_1 : MVPN_SUITE_TEST_2;
}

static bool suite_is_known(const mvpn_realm *realm, unsigned suite)
{
    return suite == MVPN_SUITE_X25519 || (suite == MVPN_SUITE_TEST && realm->allow_test_suite);
}

int mvpn_handshake_begin(mvpn_noise *hs, mvpn_aead *aead, mvpn_rng *rng, const mvpn_realm *realm,
                         const mvpn_onion_target *target, uint8_t out[static MVPN_HANDSHAKE_MAX],
                         size_t *ret_len)
{
    static const uint8_t zeros[MVPN_SUITE_TEST_1];
    init(hs, aead, realm, target, NULL);
    int r = mvpn_noise_write(hs, out, MVPN_HANDSHAKE_MAX, ret_len,
                             mvpn_bytes_of(zeros, payload_len(target->suite, 1)), rng);
    if (r != 0) {
        mvpn_noise_done(hs);
    }
    return r;
}

int mvpn_handshake_finish(mvpn_noise *hs, mvpn_bytes message2, mvpn_hop_keys *ret)
{
    uint8_t payload[MVPN_ASSEMBLY_MAX];
    size_t n = 0;
    int r = message2.n > sizeof(payload)
                ? MVPN_E_FORMAT
                : mvpn_noise_read(hs, payload, sizeof(payload), &n, message2);
    if (r == 0) {
        mvpn_noise_split(hs, &ret->forward, &ret->backward);
    }
    mvpn_noise_done(hs);
    return r;
}

int mvpn_handshake_answer(mvpn_aead *aead, mvpn_rng *rng, const mvpn_realm *realm,
                          const mvpn_onion_target *target, const mvpn_x25519_pair *onion_pair,
                          mvpn_bytes message1, uint8_t out[static MVPN_HANDSHAKE_MAX],
                          size_t *ret_len, mvpn_hop_keys *ret)
{
    static const uint8_t zeros[MVPN_SUITE_TEST_2];
    uint8_t payload[MVPN_ASSEMBLY_MAX];
    size_t n = 0;
    mvpn_noise hs;
    if (!suite_is_known(realm, target->suite)) {
        return MVPN_E_UNKNOWN;
    }
    if (message1.n > sizeof(payload)) {
        return MVPN_E_FORMAT;
    }
    init(&hs, aead, realm, target, onion_pair);
    int r = mvpn_noise_read(&hs, payload, sizeof(payload), &n, message1);
    if (r == 0 && n != payload_len(target->suite, 1)) {
        r = MVPN_E_FORMAT;
    }
    if (r == 0) {
        r = mvpn_noise_write(&hs, out, MVPN_HANDSHAKE_MAX, ret_len,
                             mvpn_bytes_of(zeros, payload_len(target->suite, 2)), rng);
    }
    if (r == 0) {
        mvpn_noise_split(&hs, &ret->backward, &ret->forward);
    }
    mvpn_noise_done(&hs);
    return r;
}
