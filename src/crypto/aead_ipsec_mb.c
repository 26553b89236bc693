/*
 * ChaCha20-Poly1305 by Intel's Multi-Buffer Crypto library (job API, one synchronous job at a
 * time). The library's direct INIT/UPDATE/FINALIZE calls take 20 to 30 % longer at 32 bytes (it
 * makes the Poly1305 key in a pass of its own) and are no faster at 1300.
 */
#include "base/error.h"
#include "crypto/aead_backend.h"

#ifdef MVPN_HAVE_IPSEC_MB

#include <intel-ipsec-mb.h>
#include <stdlib.h>

#include "base/assert.h"

struct ipsec_mb {
    mvpn_aead aead;
    IMB_MGR *mgr;
};

static IMB_MGR *manager(mvpn_aead *aead)
{
    return MVPN_CONTAINER_OF(aead, struct ipsec_mb, aead)->mgr;
}

static void ipsec_mb_free(mvpn_aead *aead)
{
    struct ipsec_mb *self = MVPN_CONTAINER_OF(aead, struct ipsec_mb, aead);
    free_mb_mgr(self->mgr);
    free(self);
}

/* A job holds pointers only, never key bytes. ChaCha20-Poly1305 jobs complete within the submit. */
static void run(IMB_MGR *mgr, IMB_JOB *job, uint8_t *out, uint8_t *tag, const mvpn_key *key,
                const uint8_t *nonce, mvpn_bytes ad, mvpn_bytes in)
{
    job->cipher_mode = IMB_CIPHER_CHACHA20_POLY1305;
    job->hash_alg = IMB_AUTH_CHACHA20_POLY1305;
    job->enc_keys = key->b;
    job->dec_keys = key->b;
    job->key_len_in_bytes = sizeof(key->b);
    job->iv = nonce;
    job->iv_len_in_bytes = MVPN_AEAD_NONCE;
    job->src = in.p;
    job->dst = out;
    job->cipher_start_src_offset_in_bytes = 0;
    job->msg_len_to_cipher_in_bytes = in.n;
    job->hash_start_src_offset_in_bytes = 0;
    job->msg_len_to_hash_in_bytes = in.n;
    job->auth_tag_output = tag;
    job->auth_tag_output_len_in_bytes = MVPN_AEAD_TAG;
    job->u.CHACHA20_POLY1305.aad = ad.p;
    job->u.CHACHA20_POLY1305.aad_len_in_bytes = ad.n;

    const IMB_JOB *ready = IMB_SUBMIT_JOB_NOCHECK(mgr);
    MVPN_ASSERT(ready != NULL && ready->status == IMB_STATUS_COMPLETED);
}

static void ipsec_mb_seal(mvpn_aead *aead, uint8_t *out, uint8_t *tag, const mvpn_key *key,
                          const uint8_t *nonce, mvpn_bytes ad, mvpn_bytes in)
{
    IMB_MGR *mgr = manager(aead);
    IMB_JOB *job = IMB_GET_NEXT_JOB(mgr);
    job->cipher_direction = IMB_DIR_ENCRYPT;
    job->chain_order = IMB_ORDER_CIPHER_HASH;
    run(mgr, job, out, tag, key, nonce, ad, in);
}

static int ipsec_mb_open(mvpn_aead *aead, uint8_t *out, const mvpn_key *key, const uint8_t *nonce,
                         mvpn_bytes ad, mvpn_bytes in, const uint8_t *tag)
{
    uint8_t expected[MVPN_AEAD_TAG];
    IMB_MGR *mgr = manager(aead);
    IMB_JOB *job = IMB_GET_NEXT_JOB(mgr);
    job->cipher_direction = IMB_DIR_DECRYPT;
    job->chain_order = IMB_ORDER_HASH_CIPHER;
    run(mgr, job, out, expected, key, nonce, ad, in);
    return mvpn_ct_equal(expected, tag, sizeof(expected)) ? 0 : MVPN_E_AUTH;
}

static const struct mvpn_aead_ops ipsec_mb_ops = {
    .name = "ipsec-mb",
    .free = ipsec_mb_free,
    .seal = ipsec_mb_seal,
    .open = ipsec_mb_open,
};

/* The library picks its code by CPU; below SSE4.2 it may have none, and OpenSSL serves better. */
static IMB_MGR *start_manager(void)
{
    IMB_MGR *mgr = alloc_mb_mgr(0);
    IMB_ARCH arch = IMB_ARCH_NONE;
    if (mgr == NULL) {
        return NULL;
    }
    if ((mgr->features & IMB_FEATURE_SSE4_2) != 0) {
        init_mb_mgr_auto(mgr, &arch);
    }
    bool is_sound = (mgr->features & IMB_FEATURE_SELF_TEST) == 0 ||
                    (mgr->features & IMB_FEATURE_SELF_TEST_PASS) != 0;
    if (arch == IMB_ARCH_NONE || imb_get_errno(mgr) != 0 || !is_sound) {
        free_mb_mgr(mgr);
        return NULL;
    }
    return mgr;
}

int mvpn_aead_ipsec_mb_new(mvpn_aead **ret)
{
    IMB_MGR *mgr = start_manager();
    if (mgr == NULL) {
        return MVPN_E_CRYPTO;
    }
    struct ipsec_mb *self = calloc(1, sizeof(*self));
    if (self == NULL) {
        free_mb_mgr(mgr);
        return MVPN_E_NOMEM;
    }
    self->aead.ops = &ipsec_mb_ops;
    self->mgr = mgr;
    *ret = &self->aead;
    return 0;
}

#else

int mvpn_aead_ipsec_mb_new(mvpn_aead **ret)
{
    (void)ret;
    return MVPN_E_CRYPTO;
}

#endif
