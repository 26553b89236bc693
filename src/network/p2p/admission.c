/*
 * Admission of first packets. The order of checks is the caller's (handshake.c): mac1, replay,
 * load, and only then public-key operations and memory.
 */
#include "network/p2p/admission.h"

#include <stdlib.h>

#include "base/bucket.h"
#include "base/cursor.h"
#include "base/error.h"

/* §10: 8 bytes each, for the hour before, this and the next. */
#define EPHEMERALS_PER_HOUR 65536
#define SLOTS (2 * EPHEMERALS_PER_HOUR)
#define HOURS 3
#define COOKIE_SECRET_LIFE MVPN_S(120)
#define S_PER_HOUR 3600
/*
 * First packets of unsure clocks (§4.2): few, because their mac1 never expires. At this rate their
 * memory reaches back over an hour, many times the life of a cookie.
 */
#define UNSURE_EPHEMERALS 4096
#define UNSURE_PER_S 1
#define UNSURE_BURST 16

struct hour_filter {
    uint64_t hour;
    uint32_t count;
    uint64_t *slots; /* open addressing; 0 = empty */
};

struct mac_keys {
    bool is_made;
    uint64_t hour;
    mvpn_key key[2]; /* NK, IK */
};

/* First packets whose cookie replies are counted: some seconds' worth under load. */
#define TOLD 1024

struct mvpn_admission {
    mvpn_key link_key;
    mvpn_key token;
    mvpn_key cookie_key;
    struct mac_keys keys[HOURS]; /* by hour mod 3 */
    struct hour_filter filters[HOURS];
    struct mac_keys unsure_keys;
    uint64_t unsure[UNSURE_EPHEMERALS]; /* a ring; 0 = empty */
    size_t unsure_next;
    mvpn_bucket unsure_rate;
    bool has_unsure_rate;
    mvpn_siphash_key sip;
    mvpn_rng *rng;
    mvpn_key secret[2]; /* now and before */
    mvpn_time secret_at;
    bool has_secret;
    uint32_t first_per_s;
    mvpn_time window;
    uint32_t window_count;
    bool was_busy; /* in the window before */
    struct {
        uint64_t hash; /* of mac1; direct-mapped, the newest stays */
        uint8_t count;
    } told[TOLD];
};

void mvpn_cookie_key(mvpn_key *ret, const mvpn_key *link_key, const mvpn_key *token)
{
    const mvpn_bytes in[] = {MVPN_BYTES_ARRAY(link_key->b), MVPN_BYTES_ARRAY(token->b)};
    mvpn_blake3_derive(ret->b, sizeof(ret->b), "meshvpn v1 cookie key", in, MVPN_ARRAY_LEN(in));
}

/* Both macs cover the packet without its last 32 bytes through this digest. */
static void digest_of(uint8_t out[static 32], const uint8_t *packet)
{
    mvpn_blake3(out, 32, mvpn_bytes_of(packet, MVPN_HANDSHAKE_MAC1_AT));
}

void mvpn_mac1(uint8_t out[static MVPN_HANDSHAKE_MAC_LEN], const mvpn_key *key,
               const uint8_t packet[static MVPN_HANDSHAKE_LEN])
{
    mvpn_mac1_make(out, key, mvpn_bytes_of(packet, MVPN_HANDSHAKE_MAC1_AT));
}

void mvpn_mac2(uint8_t out[static MVPN_HANDSHAKE_MAC_LEN],
               const uint8_t cookie[static MVPN_COOKIE_LEN],
               const uint8_t packet[static MVPN_HANDSHAKE_LEN])
{
    mvpn_key key = {{0}};
    memcpy(key.b, cookie, MVPN_COOKIE_LEN);
    uint8_t in[32 + MVPN_HANDSHAKE_MAC_LEN];
    digest_of(in, packet);
    memcpy(in + 32, packet + MVPN_HANDSHAKE_MAC1_AT, MVPN_HANDSHAKE_MAC_LEN);
    mvpn_blake3_keyed(out, MVPN_HANDSHAKE_MAC_LEN, &key, MVPN_BYTES_ARRAY(in));
    mvpn_wipe(&key, sizeof(key));
}

int mvpn_admission_new(mvpn_admission **ret, const mvpn_key *link_key, const mvpn_key *token,
                       uint32_t load_first_per_s, mvpn_rng *rng)
{
    mvpn_admission *a = calloc(1, sizeof(*a));
    if (a == NULL) {
        return MVPN_E_NOMEM;
    }
    for (size_t i = 0; i < HOURS; i++) {
        a->filters[i].slots = calloc(SLOTS, sizeof(*a->filters[i].slots));
        if (a->filters[i].slots == NULL) {
            mvpn_admission_free(a);
            return MVPN_E_NOMEM;
        }
    }
    a->link_key = *link_key;
    a->token = *token;
    a->first_per_s = load_first_per_s;
    a->rng = rng;
    mvpn_rng_bytes(rng, a->sip.b, sizeof(a->sip.b));
    mvpn_cookie_key(&a->cookie_key, link_key, token);
    *ret = a;
    return 0;
}

void mvpn_admission_free(mvpn_admission *a)
{
    if (a == NULL) {
        return;
    }
    for (size_t i = 0; i < HOURS; i++) {
        free(a->filters[i].slots);
    }
    mvpn_wipe(a, sizeof(*a));
    free(a);
}

static const struct mac_keys *keys_of(mvpn_admission *a, uint64_t hour)
{
    struct mac_keys *k = hour == MVPN_HOUR_UNSURE ? &a->unsure_keys : &a->keys[hour % HOURS];
    if (!k->is_made || k->hour != hour) {
        mvpn_mac1_key(&k->key[0], &a->link_key, &a->token, MVPN_PATTERN_NK, hour);
        mvpn_mac1_key(&k->key[1], &a->link_key, &a->token, MVPN_PATTERN_IK, hour);
        k->hour = hour;
        k->is_made = true;
    }
    return k;
}

int mvpn_admission_check(mvpn_admission *a, const uint8_t packet[static MVPN_HANDSHAKE_LEN],
                         uint64_t unix_now, enum mvpn_handshake_pattern *ret_pattern,
                         uint64_t *ret_hour)
{
    uint8_t digest[32];
    digest_of(digest, packet);
    uint64_t hour = unix_now / S_PER_HOUR;
    const uint64_t hours[] = {hour, hour - 1, hour + 1, MVPN_HOUR_UNSURE};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(hours); i++) {
        const struct mac_keys *k = keys_of(a, hours[i]);
        for (size_t p = 0; p < 2; p++) {
            uint8_t mac[MVPN_HANDSHAKE_MAC_LEN];
            mvpn_blake3_keyed(mac, sizeof(mac), &k->key[p], MVPN_BYTES_ARRAY(digest));
            if (mvpn_ct_equal(mac, packet + MVPN_HANDSHAKE_MAC1_AT, sizeof(mac))) {
                *ret_pattern = p == 0 ? MVPN_PATTERN_NK : MVPN_PATTERN_IK;
                *ret_hour = hours[i];
                return 0;
            }
        }
    }
    return MVPN_E_AUTH;
}

bool mvpn_admission_count(mvpn_admission *a, mvpn_time now)
{
    if (now - a->window >= MVPN_S(1)) {
        a->was_busy = now - a->window < MVPN_S(2) && a->window_count >= a->first_per_s;
        a->window = now;
        a->window_count = 0;
    }
    a->window_count += a->window_count < UINT32_MAX;
    return a->was_busy || a->window_count > a->first_per_s;
}

static uint64_t filter_value(const mvpn_admission *a, const uint8_t *ephemeral)
{
    uint64_t v = mvpn_siphash(&a->sip, ephemeral, 32);
    return v != 0 ? v : 1;
}

/* The slot that holds `value`, or the empty one where it belongs. At most half of them are in use.
 */
static uint64_t *filter_slot(const struct hour_filter *f, uint64_t value)
{
    size_t i = value % SLOTS;
    while (f->slots[i] != 0 && f->slots[i] != value) {
        i = (i + 1) % SLOTS;
    }
    return &f->slots[i];
}

/* Read whole at most a few thousand times a second: only packets with the rare mac1 come here. */
static bool is_unsure_seen(const mvpn_admission *a, uint64_t value)
{
    for (size_t i = 0; i < UNSURE_EPHEMERALS; i++) {
        if (a->unsure[i] == value) {
            return true;
        }
    }
    return false;
}

bool mvpn_admission_take_unsure(mvpn_admission *a, mvpn_time now)
{
    if (!a->has_unsure_rate) {
        mvpn_bucket_init(&a->unsure_rate, UNSURE_PER_S, UNSURE_BURST, now);
        a->has_unsure_rate = true;
    }
    return mvpn_bucket_take(&a->unsure_rate, 1, now);
}

bool mvpn_admission_is_seen(const mvpn_admission *a, uint64_t hour,
                            const uint8_t ephemeral[static 32])
{
    if (hour == MVPN_HOUR_UNSURE) {
        return is_unsure_seen(a, filter_value(a, ephemeral));
    }
    const struct hour_filter *f = &a->filters[hour % HOURS];
    return f->hour == hour && *filter_slot(f, filter_value(a, ephemeral)) != 0;
}

bool mvpn_admission_is_full(const mvpn_admission *a, uint64_t hour)
{
    const struct hour_filter *f = &a->filters[hour % HOURS];
    return hour != MVPN_HOUR_UNSURE && f->hour == hour && f->count >= EPHEMERALS_PER_HOUR;
}

bool mvpn_admission_remember(mvpn_admission *a, uint64_t hour, const uint8_t ephemeral[static 32])
{
    if (hour == MVPN_HOUR_UNSURE) {
        a->unsure[a->unsure_next] = filter_value(a, ephemeral);
        a->unsure_next = (a->unsure_next + 1) % UNSURE_EPHEMERALS;
        return true;
    }
    struct hour_filter *f = &a->filters[hour % HOURS];
    if (f->hour != hour) {
        /* Three hours are valid at a time and differ mod 3: what is here is valid no more. */
        if (f->count > 0) {
            memset(f->slots, 0, SLOTS * sizeof(*f->slots));
        }
        f->count = 0;
        f->hour = hour;
    }
    uint64_t value = filter_value(a, ephemeral);
    uint64_t *slot = filter_slot(f, value);
    if (*slot == value) {
        return true;
    }
    if (f->count >= EPHEMERALS_PER_HOUR) {
        return false;
    }
    *slot = value;
    f->count++;
    return true;
}

static void renew_secret(mvpn_admission *a, mvpn_time now)
{
    if (a->has_secret && now - a->secret_at < COOKIE_SECRET_LIFE) {
        return;
    }
    bool is_previous_usable = a->has_secret && now - a->secret_at < 2 * COOKIE_SECRET_LIFE;
    if (is_previous_usable) {
        a->secret[1] = a->secret[0];
    } else {
        mvpn_rng_bytes(a->rng, a->secret[1].b, sizeof(a->secret[1].b));
    }
    mvpn_rng_bytes(a->rng, a->secret[0].b, sizeof(a->secret[0].b));
    a->secret_at = now;
    a->has_secret = true;
}

static void make_cookie(uint8_t out[static MVPN_COOKIE_LEN], const mvpn_key *secret,
                        const mvpn_addr *from)
{
    uint8_t in[1 + 16 + 2];
    mvpn_writer w = mvpn_writer_init(in, sizeof(in));
    mvpn_write8(&w, from->family);
    mvpn_write_bytes(&w, from->ip, sizeof(from->ip));
    mvpn_write16(&w, from->port);
    mvpn_blake3_keyed(out, MVPN_COOKIE_LEN, secret, MVPN_BYTES_ARRAY(in));
}

bool mvpn_admission_has_cookie(mvpn_admission *a, const mvpn_addr *from,
                               const uint8_t packet[static MVPN_HANDSHAKE_LEN], mvpn_time now)
{
    renew_secret(a, now);
    for (size_t i = 0; i < MVPN_ARRAY_LEN(a->secret); i++) {
        uint8_t cookie[MVPN_COOKIE_LEN], mac2[MVPN_HANDSHAKE_MAC_LEN];
        make_cookie(cookie, &a->secret[i], from);
        mvpn_mac2(mac2, cookie, packet);
        if (mvpn_ct_equal(mac2, packet + MVPN_HANDSHAKE_MAC2_AT, sizeof(mac2))) {
            return true;
        }
    }
    return false;
}

bool mvpn_admission_may_tell(mvpn_admission *a, const uint8_t packet[static MVPN_HANDSHAKE_LEN])
{
    uint64_t hash = mvpn_siphash(&a->sip, packet + MVPN_HANDSHAKE_MAC1_AT, MVPN_HANDSHAKE_MAC_LEN);
    size_t i = hash % TOLD;
    if (a->told[i].hash != hash) {
        a->told[i].hash = hash;
        a->told[i].count = 0;
    }
    if (a->told[i].count == MVPN_REPLIES_MAX) {
        return false;
    }
    a->told[i].count++;
    return true;
}

void mvpn_admission_cookie_reply(mvpn_admission *a, const mvpn_addr *from,
                                 uint8_t packet[static MVPN_HANDSHAKE_LEN], mvpn_time now)
{
    renew_secret(a, now);
    uint8_t plain[MVPN_COOKIE_BOX_LEN - MVPN_AEAD_TAG] = {0};
    make_cookie(plain, &a->secret[0], from);
    uint8_t mac1[MVPN_HANDSHAKE_MAC_LEN];
    memcpy(mac1, packet + MVPN_HANDSHAKE_MAC1_AT, sizeof(mac1));

    mvpn_handshake_header first, reply;
    int err = mvpn_handshake_header_decode(&first, mvpn_bytes_of(packet, MVPN_HANDSHAKE_LEN));
    MVPN_ASSERT(err == 0); /* the caller decoded it */
    reply.destination = first.source;
    mvpn_rng_bytes(a->rng, &reply.random, 1);
    mvpn_rng_bytes(a->rng, reply.source.b, sizeof(reply.source.b));
    mvpn_handshake_header_encode(packet, &reply);
    uint8_t *nonce = packet + MVPN_HANDSHAKE_HEADER_LEN;
    mvpn_rng_bytes(a->rng, nonce, MVPN_COOKIE_NONCE_LEN);
    mvpn_xaead_seal(nonce + MVPN_COOKIE_NONCE_LEN, &a->cookie_key, nonce, MVPN_BYTES_ARRAY(mac1),
                    MVPN_BYTES_ARRAY(plain));
    mvpn_wipe(plain, sizeof(plain));
}
