/*
 * ChaCha20-Poly1305 by OpenSSL's EVP. Setting a key costs more than sealing a small packet, so that
 * the most recently used keys keep a context each, and a packet only sets its nonce. All contexts
 * are made at the start; a miss gives the set's least recently used context the new key.
 */
#include <openssl/evp.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/error.h"
#include "crypto/aead_backend.h"

/*
 * 64 keyed contexts: a client's circuits in use (two keys a hop) fit; a relay with more circuits
 * than that re-keys, which costs about a microsecond a packet.
 */
#define CACHE_SETS 16
#define CACHE_WAYS 4

struct entry {
    EVP_CIPHER_CTX *ctx;
    mvpn_key key;
    uint64_t used; /* tick of the last use; 0 = holds no key */
    int enc;       /* 1 seal, 0 open, as EVP counts */
};

struct openssl {
    mvpn_aead aead;
    EVP_CIPHER *cipher;
    uint64_t tick;
    uint64_t expired; /* the tick at the last call of expire */
    struct entry cache[CACHE_SETS][CACHE_WAYS];
};

static void openssl_free(mvpn_aead *aead)
{
    struct openssl *self = MVPN_CONTAINER_OF(aead, struct openssl, aead);
    for (size_t set = 0; set < CACHE_SETS; set++) {
        for (size_t way = 0; way < CACHE_WAYS; way++) {
            /* Cleanses the key schedule it owns. */
            EVP_CIPHER_CTX_free(self->cache[set][way].ctx);
        }
    }
    EVP_CIPHER_free(self->cipher);
    mvpn_wipe(self, sizeof(*self));
    free(self);
}

static struct entry *find(struct openssl *self, const mvpn_key *key, int enc)
{
    /* Keys are uniform bytes, so that any of them spreads the sets. */
    struct entry *set = self->cache[key->b[0] % CACHE_SETS];
    struct entry *oldest = &set[0];
    self->tick++;
    for (size_t way = 0; way < CACHE_WAYS; way++) {
        struct entry *e = &set[way];
        if (e->used != 0 && e->enc == enc && mvpn_key_eq(&e->key, key)) {
            e->used = self->tick;
            return e;
        }
        if (e->used < oldest->used) {
            oldest = e;
        }
    }
    int ok = EVP_CipherInit_ex2(oldest->ctx, NULL, key->b, NULL, enc, NULL);
    MVPN_ASSERT(ok == 1);
    oldest->key = *key;
    oldest->enc = enc;
    oldest->used = self->tick;
    return oldest;
}

/* OpenSSL offers no way to take a key out of a context but another key. */
static bool openssl_expire(mvpn_aead *aead)
{
    static const mvpn_key none;
    struct openssl *self = MVPN_CONTAINER_OF(aead, struct openssl, aead);
    bool is_left = false;
    for (size_t i = 0; i < CACHE_SETS * CACHE_WAYS; i++) {
        struct entry *e = &self->cache[i / CACHE_WAYS][i % CACHE_WAYS];
        if (e->used != 0 && e->used <= self->expired) {
            int ok = EVP_CipherInit_ex2(e->ctx, NULL, none.b, NULL, e->enc, NULL);
            MVPN_ASSERT(ok == 1);
            mvpn_wipe(&e->key, sizeof(e->key));
            e->used = 0;
        }
        is_left |= e->used != 0;
    }
    self->expired = self->tick;
    return is_left;
}

/* Everything up to the tag. Fails only if the library does, never for what the bytes are. */
static EVP_CIPHER_CTX *crypt(mvpn_aead *aead, uint8_t *out, const mvpn_key *key, int enc,
                             const uint8_t *nonce, mvpn_bytes ad, mvpn_bytes in)
{
    struct openssl *self = MVPN_CONTAINER_OF(aead, struct openssl, aead);
    EVP_CIPHER_CTX *ctx = find(self, key, enc)->ctx;
    int n = 0;
    int ok = EVP_CipherInit_ex2(ctx, NULL, NULL, nonce, -1, NULL);
    if (ad.n > 0) {
        ok &= EVP_CipherUpdate(ctx, NULL, &n, ad.p, (int)ad.n);
    }
    if (in.n > 0) {
        ok &= EVP_CipherUpdate(ctx, out, &n, in.p, (int)in.n);
    }
    MVPN_ASSERT(ok == 1);
    return ctx;
}

static void openssl_seal(mvpn_aead *aead, uint8_t *out, uint8_t *tag, const mvpn_key *key,
                         const uint8_t *nonce, mvpn_bytes ad, mvpn_bytes in)
{
    uint8_t none[1];
    int n = 0;
    EVP_CIPHER_CTX *ctx = crypt(aead, out, key, 1, nonce, ad, in);
    int ok = EVP_CipherFinal_ex(ctx, none, &n);
    ok &= EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, MVPN_AEAD_TAG, tag);
    MVPN_ASSERT(ok == 1);
}

static int openssl_open(mvpn_aead *aead, uint8_t *out, const mvpn_key *key, const uint8_t *nonce,
                        mvpn_bytes ad, mvpn_bytes in, const uint8_t *tag)
{
    uint8_t none[1];
    uint8_t expected[MVPN_AEAD_TAG];
    int n = 0;
    EVP_CIPHER_CTX *ctx = crypt(aead, out, key, 0, nonce, ad, in);
    memcpy(expected, tag, sizeof(expected)); /* the control call takes no const */
    int ok = EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, MVPN_AEAD_TAG, expected);
    MVPN_ASSERT(ok == 1);
    return EVP_CipherFinal_ex(ctx, none, &n) == 1 ? 0 : MVPN_E_AUTH;
}

static const struct mvpn_aead_ops openssl_ops = {
    .name = "openssl",
    .free = openssl_free,
    .seal = openssl_seal,
    .open = openssl_open,
    .expire = openssl_expire,
};

static int make_contexts(struct openssl *self)
{
    for (size_t set = 0; set < CACHE_SETS; set++) {
        for (size_t way = 0; way < CACHE_WAYS; way++) {
            EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
            self->cache[set][way].ctx = ctx;
            if (ctx == NULL) {
                return MVPN_E_NOMEM;
            }
            if (EVP_CipherInit_ex2(ctx, self->cipher, NULL, NULL, 1, NULL) != 1) {
                return MVPN_E_CRYPTO;
            }
        }
    }
    return 0;
}

int mvpn_aead_openssl_new(mvpn_aead **ret)
{
    struct openssl *self = calloc(1, sizeof(*self));
    if (self == NULL) {
        return MVPN_E_NOMEM;
    }
    self->aead.ops = &openssl_ops;
    self->cipher = EVP_CIPHER_fetch(NULL, "ChaCha20-Poly1305", NULL);
    int err = self->cipher == NULL ? MVPN_E_CRYPTO : make_contexts(self);
    if (err != 0) {
        openssl_free(&self->aead);
        return err;
    }
    *ret = &self->aead;
    return 0;
}
