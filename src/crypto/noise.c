/*
 * The Noise Protocol Framework, revision 34: CipherState and SymmetricState (§5.1, §5.2) are fields
 * of mvpn_noise; a message is worked off token by token (§5.3) from the table of patterns below.
 *
 *   state: message 0 .. message_count - 1, alternating writer and reader, then finished;
 *          any failure while a message is worked off leads to `failed`, for good.
 */
#include "crypto/noise.h"

#include <string.h>

#include "base/assert.h"
#include "base/error.h"
#include "crypto/hash.h"
#include "crypto/x25519.h"

#define MESSAGE_COUNT_MAX 3
#define TOKEN_COUNT_MAX 6     /* the longest: psk e es s ss, and the end */
#define MESSAGE_LEN_MAX 65535 /* §3 */

enum token {
    TOKEN_END,
    TOKEN_E,
    TOKEN_S,
    TOKEN_EE,
    TOKEN_ES,
    TOKEN_SE,
    TOKEN_SS,
    TOKEN_PSK,
};

struct pattern {
    const char *name;
    bool is_initiator_known; /* pre-message "-> s" */
    bool is_responder_known; /* pre-message "<- s" */
    bool sends_s[2];         /* by role: has the pattern a static key of this side at all? */
    bool has_psk;
    uint8_t message_count;
    uint8_t tokens[MESSAGE_COUNT_MAX][TOKEN_COUNT_MAX];
};

#define SUITE "_25519_ChaChaPoly_SHA256"
#define BOTH                                                                                       \
    {                                                                                              \
        true, true                                                                                 \
    }
#define RESPONDER_ONLY                                                                             \
    {                                                                                              \
        false, true                                                                                \
    }

/* §7.4, §7.5, appendix; psk0 puts the token before the first message (§9.4). */
static const struct pattern patterns[] = {
    [MVPN_NOISE_NK] = {"Noise_NK" SUITE,
                       false,
                       true,
                       RESPONDER_ONLY,
                       false,
                       2,
                       {{TOKEN_E, TOKEN_ES}, {TOKEN_E, TOKEN_EE}}},
    [MVPN_NOISE_NK_PSK0] = {"Noise_NKpsk0" SUITE,
                            false,
                            true,
                            RESPONDER_ONLY,
                            true,
                            2,
                            {{TOKEN_PSK, TOKEN_E, TOKEN_ES}, {TOKEN_E, TOKEN_EE}}},
    [MVPN_NOISE_IK] = {"Noise_IK" SUITE,
                       false,
                       true,
                       BOTH,
                       false,
                       2,
                       {{TOKEN_E, TOKEN_ES, TOKEN_S, TOKEN_SS}, {TOKEN_E, TOKEN_EE, TOKEN_SE}}},
    [MVPN_NOISE_IK_PSK0] = {"Noise_IKpsk0" SUITE,
                            false,
                            true,
                            BOTH,
                            true,
                            2,
                            {{TOKEN_PSK, TOKEN_E, TOKEN_ES, TOKEN_S, TOKEN_SS},
                             {TOKEN_E, TOKEN_EE, TOKEN_SE}}},
    [MVPN_NOISE_N] =
        {"Noise_N" SUITE, false, true, RESPONDER_ONLY, false, 1, {{TOKEN_E, TOKEN_ES}}},
    [MVPN_NOISE_XK] = {"Noise_XK" SUITE,
                       false,
                       true,
                       BOTH,
                       false,
                       3,
                       {{TOKEN_E, TOKEN_ES}, {TOKEN_E, TOKEN_EE}, {TOKEN_S, TOKEN_SE}}},
    [MVPN_NOISE_XX] = {"Noise_XX" SUITE,
                       false,
                       false,
                       BOTH,
                       false,
                       3,
                       {{TOKEN_E}, {TOKEN_E, TOKEN_EE, TOKEN_S, TOKEN_ES}, {TOKEN_S, TOKEN_SE}}},
    [MVPN_NOISE_IX] = {"Noise_IX" SUITE,
                       false,
                       false,
                       BOTH,
                       false,
                       2,
                       {{TOKEN_E, TOKEN_S}, {TOKEN_E, TOKEN_EE, TOKEN_SE, TOKEN_S, TOKEN_ES}}},
    [MVPN_NOISE_KK] = {"Noise_KK" SUITE,
                       true,
                       true,
                       BOTH,
                       false,
                       2,
                       {{TOKEN_E, TOKEN_ES, TOKEN_SS}, {TOKEN_E, TOKEN_EE, TOKEN_SE}}},
};

static const struct pattern *pattern_of(const mvpn_noise *hs)
{
    return &patterns[hs->pattern];
}

/* --- SymmetricState --- */

static void mix_hash(mvpn_noise *hs, mvpn_bytes data)
{
    mvpn_sha256_pair(hs->h.b, MVPN_BYTES_ARRAY(hs->h.b), data);
}

/* HKDF of §4.3: RFC 5869 with the chaining key as salt and no info, cut into 32-byte outputs. */
static void noise_hkdf(const mvpn_noise *hs, uint8_t *out, size_t out_len, mvpn_bytes ikm)
{
    int err = mvpn_hkdf_sha256(out, out_len, MVPN_BYTES_ARRAY(hs->ck.b), ikm, MVPN_BYTES_NONE);
    MVPN_ASSERT(err == 0);
}

static void set_key(mvpn_noise *hs, const mvpn_key *k)
{
    hs->k = *k;
    hs->n = 0;
    hs->has_key = true;
}

static void mix_key(mvpn_noise *hs, const mvpn_key *ikm)
{
    mvpn_key out[2];
    noise_hkdf(hs, out[0].b, sizeof(out), MVPN_BYTES_ARRAY(ikm->b));
    hs->ck = out[0];
    set_key(hs, &out[1]);
    mvpn_wipe(out, sizeof(out));
}

static void mix_key_and_hash(mvpn_noise *hs, const mvpn_key *ikm)
{
    mvpn_key out[3];
    noise_hkdf(hs, out[0].b, sizeof(out), MVPN_BYTES_ARRAY(ikm->b));
    hs->ck = out[0];
    mix_hash(hs, MVPN_BYTES_ARRAY(out[1].b));
    set_key(hs, &out[2]);
    mvpn_wipe(out, sizeof(out));
}

/* §12.3: 32 zero bits, then n in little-endian. */
static void next_nonce(mvpn_noise *hs, uint8_t nonce[static 12])
{
    uint64_t n = hs->n++;
    memset(nonce, 0, 12);
    for (size_t i = 4; i < 12; i++) {
        nonce[i] = (uint8_t)n;
        n >>= 8;
    }
}

static size_t tag_len(const mvpn_noise *hs)
{
    return hs->has_key ? MVPN_AEAD_TAG : 0;
}

/* Writes in.n + tag_len bytes. */
static void encrypt_and_hash(mvpn_noise *hs, uint8_t *out, mvpn_bytes in)
{
    size_t out_len = in.n + tag_len(hs);
    if (hs->has_key) {
        uint8_t nonce[12];
        next_nonce(hs, nonce);
        mvpn_aead_seal_nonce(hs->aead, out, out + in.n, &hs->k, nonce, MVPN_BYTES_ARRAY(hs->h.b),
                             in);
    } else if (in.n > 0) {
        memmove(out, in.p, in.n);
    }
    mix_hash(hs, mvpn_bytes_of(out, out_len));
}

/* Writes in.n - tag_len bytes; the caller made sure that `in` is long enough. */
static int decrypt_and_hash(mvpn_noise *hs, uint8_t *out, mvpn_bytes in)
{
    mvpn_key ad = hs->h;
    /* Before the decryption, which may overwrite the ciphertext. */
    mix_hash(hs, in);
    if (!hs->has_key) {
        if (in.n > 0) {
            memmove(out, in.p, in.n);
        }
        return 0;
    }
    uint8_t nonce[12];
    uint8_t tag[MVPN_AEAD_TAG];
    size_t n = in.n - MVPN_AEAD_TAG;
    next_nonce(hs, nonce);
    memcpy(tag, in.p + n, sizeof(tag));
    return mvpn_aead_open_nonce(hs->aead, out, &hs->k, nonce, MVPN_BYTES_ARRAY(ad.b),
                                mvpn_bytes_of(in.p, n), tag);
}

/* --- HandshakeState --- */

static void init_symmetric(mvpn_noise *hs, const char *name)
{
    size_t n = strlen(name);
    if (n <= sizeof(hs->h.b)) {
        memcpy(hs->h.b, name, n);
    } else {
        mvpn_sha256(hs->h.b, mvpn_bytes_of(name, n));
    }
    hs->ck = hs->h;
}

static void take_keys(mvpn_noise *hs, const mvpn_noise_config *config)
{
    const struct pattern *p = pattern_of(hs);
    bool is_initiator = hs->role == MVPN_NOISE_INITIATOR;
    bool is_peer_known = is_initiator ? p->is_responder_known : p->is_initiator_known;
    MVPN_ASSERT((config->s != NULL) == p->sends_s[hs->role]);
    MVPN_ASSERT((config->rs != NULL) == is_peer_known);
    MVPN_ASSERT((config->psk != NULL) == p->has_psk);
    if (config->s != NULL) {
        hs->s = *config->s;
        hs->has_s = true;
    }
    if (config->rs != NULL) {
        hs->rs = *config->rs;
        hs->has_rs = true;
    }
    if (config->psk != NULL) {
        hs->psk = *config->psk;
    }
    if (config->fixed_e != NULL) {
        hs->e.secret = *config->fixed_e;
        mvpn_x25519_public(&hs->e.pub, &hs->e.secret);
        hs->has_e = true;
    }
}

void mvpn_noise_init(mvpn_noise *hs, mvpn_aead *aead, const mvpn_noise_config *config)
{
    *hs = (mvpn_noise){.aead = aead, .pattern = config->pattern, .role = config->role};
    const struct pattern *p = pattern_of(hs);
    bool is_initiator = hs->role == MVPN_NOISE_INITIATOR;
    init_symmetric(hs, p->name);
    mix_hash(hs, config->prologue);
    take_keys(hs, config);
    const mvpn_key *initiator_s = is_initiator ? &hs->s.pub : &hs->rs;
    const mvpn_key *responder_s = is_initiator ? &hs->rs : &hs->s.pub;
    if (p->is_initiator_known) {
        mix_hash(hs, MVPN_BYTES_ARRAY(initiator_s->b));
    }
    if (p->is_responder_known) {
        mix_hash(hs, MVPN_BYTES_ARRAY(responder_s->b));
    }
}

void mvpn_noise_done(mvpn_noise *hs)
{
    mvpn_wipe(hs, sizeof(*hs));
}

bool mvpn_noise_is_finished(const mvpn_noise *hs)
{
    return !hs->failed && hs->message >= pattern_of(hs)->message_count;
}

static const uint8_t *next_tokens(const mvpn_noise *hs)
{
    return pattern_of(hs)->tokens[hs->message];
}

size_t mvpn_noise_overhead(const mvpn_noise *hs)
{
    if (hs->failed || mvpn_noise_is_finished(hs)) {
        return 0;
    }
    size_t n = 0;
    size_t tag = tag_len(hs);
    for (const uint8_t *t = next_tokens(hs); *t != TOKEN_END; t++) {
        if (*t == TOKEN_E) {
            n += sizeof(mvpn_key);
            tag = pattern_of(hs)->has_psk ? MVPN_AEAD_TAG : tag;
        } else if (*t == TOKEN_S) {
            n += sizeof(mvpn_key) + tag;
        } else {
            tag = MVPN_AEAD_TAG;
        }
    }
    return n + tag;
}

static int mix_dh(mvpn_noise *hs, const mvpn_key *secret, const mvpn_key *pub)
{
    mvpn_key shared;
    int err = mvpn_x25519(&shared, secret, pub);
    if (err == 0) {
        mix_key(hs, &shared);
        mvpn_wipe(&shared, sizeof(shared));
    }
    return err;
}

/* The tokens that read and write alike. "es" and "se" name the initiator's key first (§5.3). */
static int mix_token(mvpn_noise *hs, enum token token)
{
    bool is_initiator = hs->role == MVPN_NOISE_INITIATOR;
    switch (token) {
    case TOKEN_EE:
        return mix_dh(hs, &hs->e.secret, &hs->re);
    case TOKEN_ES:
        return is_initiator ? mix_dh(hs, &hs->e.secret, &hs->rs)
                            : mix_dh(hs, &hs->s.secret, &hs->re);
    case TOKEN_SE:
        return is_initiator ? mix_dh(hs, &hs->s.secret, &hs->re)
                            : mix_dh(hs, &hs->e.secret, &hs->rs);
    case TOKEN_SS:
        return mix_dh(hs, &hs->s.secret, &hs->rs);
    case TOKEN_PSK:
        mix_key_and_hash(hs, &hs->psk);
        return 0;
    case TOKEN_E:
    case TOKEN_S:
    case TOKEN_END:
        break;
    }
    MVPN_ASSERT(token == TOKEN_PSK); /* the caller deals with the others */
    return MVPN_E_INVAL;
}

/* §9.2: with a PSK the ephemeral keys are mixed in as well, for random nonces' sake. */
static void mix_ephemeral(mvpn_noise *hs, const mvpn_key *pub)
{
    mix_hash(hs, MVPN_BYTES_ARRAY(pub->b));
    if (pattern_of(hs)->has_psk) {
        mix_key(hs, pub);
    }
}

/* Returns the number of bytes written at `out`. */
static size_t write_e(mvpn_noise *hs, uint8_t *out, mvpn_rng *rng)
{
    if (!hs->has_e) {
        MVPN_ASSERT(rng != NULL);
        mvpn_x25519_generate(&hs->e, rng);
        hs->has_e = true;
    }
    memcpy(out, hs->e.pub.b, sizeof(hs->e.pub.b));
    mix_ephemeral(hs, &hs->e.pub);
    return sizeof(hs->e.pub.b);
}

static size_t write_s(mvpn_noise *hs, uint8_t *out)
{
    size_t n = sizeof(hs->s.pub.b) + tag_len(hs);
    encrypt_and_hash(hs, out, MVPN_BYTES_ARRAY(hs->s.pub.b));
    return n;
}

static bool is_our_turn(const mvpn_noise *hs, bool to_write)
{
    bool is_initiators = hs->message % 2 == 0;
    bool is_ours = is_initiators == (hs->role == MVPN_NOISE_INITIATOR);
    return !hs->failed && !mvpn_noise_is_finished(hs) && is_ours == to_write;
}

int mvpn_noise_write(mvpn_noise *hs, uint8_t *out, size_t size, size_t *ret_len, mvpn_bytes payload,
                     mvpn_rng *rng)
{
    if (!is_our_turn(hs, true)) {
        return MVPN_E_STATE;
    }
    size_t overhead = mvpn_noise_overhead(hs);
    if (payload.n > MESSAGE_LEN_MAX - overhead || size < overhead + payload.n) {
        return MVPN_E_SPACE;
    }
    uint8_t *p = out;
    for (const uint8_t *t = next_tokens(hs); *t != TOKEN_END; t++) {
        if (*t == TOKEN_E) {
            p += write_e(hs, p, rng);
        } else if (*t == TOKEN_S) {
            p += write_s(hs, p);
        } else {
            int err = mix_token(hs, (enum token) * t);
            if (err != 0) {
                hs->failed = true;
                return err;
            }
        }
    }
    encrypt_and_hash(hs, p, payload);
    hs->message++;
    *ret_len = overhead + payload.n;
    return 0;
}

/* Returns the number of bytes read at `in`, of which there are enough. */
static size_t read_e(mvpn_noise *hs, const uint8_t *in)
{
    memcpy(hs->re.b, in, sizeof(hs->re.b));
    hs->has_re = true;
    mix_ephemeral(hs, &hs->re);
    return sizeof(hs->re.b);
}

static int read_s(mvpn_noise *hs, const uint8_t *in, size_t *ret_len)
{
    size_t n = sizeof(hs->rs.b) + tag_len(hs);
    int err = decrypt_and_hash(hs, hs->rs.b, mvpn_bytes_of(in, n));
    hs->has_rs = err == 0;
    *ret_len = n;
    return err;
}

/* Work off the tokens and then the payload; the message is long enough for both. */
static int read_message(mvpn_noise *hs, uint8_t *out, mvpn_bytes message)
{
    const uint8_t *p = message.p;
    for (const uint8_t *t = next_tokens(hs); *t != TOKEN_END; t++) {
        int err = 0;
        size_t n = 0;
        if (*t == TOKEN_E) {
            n = read_e(hs, p);
        } else if (*t == TOKEN_S) {
            err = read_s(hs, p, &n);
        } else {
            err = mix_token(hs, (enum token) * t);
        }
        if (err != 0) {
            return err;
        }
        p += n;
    }
    return decrypt_and_hash(hs, out, mvpn_bytes_of(p, (size_t)(message.p + message.n - p)));
}

int mvpn_noise_read(mvpn_noise *hs, uint8_t *out, size_t size, size_t *ret_len, mvpn_bytes message)
{
    if (!is_our_turn(hs, false)) {
        return MVPN_E_STATE;
    }
    size_t overhead = mvpn_noise_overhead(hs);
    if (message.n < overhead || message.n > MESSAGE_LEN_MAX) {
        hs->failed = true;
        return MVPN_E_FORMAT;
    }
    if (size < message.n - overhead) {
        return MVPN_E_SPACE;
    }
    int err = read_message(hs, out, message);
    if (err != 0) {
        hs->failed = true;
        return err;
    }
    hs->message++;
    *ret_len = message.n - overhead;
    return 0;
}

void mvpn_noise_split(const mvpn_noise *hs, mvpn_key *ret_send, mvpn_key *ret_recv)
{
    MVPN_ASSERT(mvpn_noise_is_finished(hs));
    mvpn_key out[2];
    bool is_initiator = hs->role == MVPN_NOISE_INITIATOR;
    noise_hkdf(hs, out[0].b, sizeof(out), MVPN_BYTES_NONE);
    *ret_send = out[is_initiator ? 0 : 1];
    *ret_recv = out[is_initiator ? 1 : 0];
    mvpn_wipe(out, sizeof(out));
}

const mvpn_key *mvpn_noise_remote_static(const mvpn_noise *hs)
{
    return hs->has_rs ? &hs->rs : NULL;
}

const mvpn_key *mvpn_noise_hash(const mvpn_noise *hs)
{
    return &hs->h;
}
