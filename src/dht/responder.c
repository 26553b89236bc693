#include "dht/responder.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/bucket.h"
#include "base/cursor.h"
#include "crypto/hash.h"
#include "dht/token.h"
#include "wire/handshake.h"
#include "wire/message.h"

#define HOURS 3 /* before, this, next */
#define S_PER_HOUR 3600
/* Requests of unsure clocks could be repeated for ever: few a second, and none twice while we
 * remember it. (§4.2) */
#define UNSURE_PER_S 1
#define UNSURE_BURST 16
#define UNSURE_REMEMBERED 4096
#define KEY_LEN 32
/* What Noise adds to either message: an ephemeral key and a tag. */
#define NOISE_LEN (KEY_LEN + MVPN_AEAD_TAG)

struct mac_key {
    bool is_made;
    uint64_t hour;
    mvpn_key key;
};

struct mvpn_dht_responder {
    mvpn_dht_exchange_config config;
    mvpn_dht_noise_keys keys;
    mvpn_key secret; /* of the address tokens; lives as long as we do */
    mvpn_bucket proven, unproven;
    struct mac_key mac_keys[HOURS]; /* by hour mod 3 */
    mvpn_key unsure_key;
    mvpn_bucket unsure;
    mvpn_siphash_key sip;
    uint64_t unsure_seen[UNSURE_REMEMBERED]; /* hashes of ephemeral keys, a ring; 0 = empty */
    size_t unsure_next;
    struct name {
        mvpn_dht_contact contact;
        mvpn_time until; /* NEVER: ours now; past: a free place */
    } names[MVPN_DHT_NAMES_MAX];
};

void mvpn_dht_noise_keys_init(mvpn_dht_noise_keys *ret, const mvpn_dht_exchange_config *config)
{
    const mvpn_trust *trust = config->trust;
    *ret = (mvpn_dht_noise_keys){
        .aead = config->aead, .network_id = trust->network_id, .closed = trust->closed};
    mvpn_network_token(&ret->token, &trust->network_id,
                       trust->closed ? &config->network_secret : NULL);
    if (trust->closed) {
        mvpn_network_psk(&ret->psk, &config->network_secret);
    }
}

void mvpn_dht_noise_start(mvpn_noise *hs, const mvpn_dht_noise_keys *keys,
                          const mvpn_dht_contact *server, const mvpn_x25519_pair *own)
{
    uint8_t prologue[MVPN_PROLOGUE_LEN];
    mvpn_ed25519_pub responder = {{0}}; /* §11.2: node id ‖ 12 zeros */
    memcpy(responder.b, server->id.b, sizeof(server->id.b));
    mvpn_prologue_encode(prologue, MVPN_SUITE_X25519, MVPN_PURPOSE_DHT, &keys->network_id,
                         &responder, &server->link_key);
    const mvpn_noise_config config = {
        .pattern = keys->closed ? MVPN_NOISE_NK_PSK0 : MVPN_NOISE_NK,
        .role = own != NULL ? MVPN_NOISE_RESPONDER : MVPN_NOISE_INITIATOR,
        .prologue = MVPN_BYTES_ARRAY(prologue),
        .s = own,
        .rs = own != NULL ? NULL : &server->link_key,
        .psk = keys->closed ? &keys->psk : NULL,
    };
    mvpn_noise_init(hs, keys->aead, &config);
}

size_t mvpn_dht_datagram_max(const mvpn_addr *addr)
{
    return addr->family == 4 ? MVPN_DHT_DATAGRAM4_MAX : MVPN_DHT_DATAGRAM6_MAX;
}

uint64_t mvpn_dht_unix_now(mvpn_time now, int64_t unix_offset_us)
{
    return (now + (uint64_t)unix_offset_us) / MVPN_US_PER_S;
}

int mvpn_dht_responder_new(const mvpn_dht_exchange_config *config, const mvpn_dht_noise_keys *keys,
                           mvpn_time now, mvpn_dht_responder **ret)
{
    mvpn_dht_responder *r = calloc(1, sizeof(*r));
    if (r == NULL) {
        return MVPN_E_NOMEM;
    }
    r->config = *config;
    r->keys = *keys;
    mvpn_rng_bytes(config->rng, r->secret.b, sizeof(r->secret.b));
    mvpn_rng_bytes(config->rng, r->sip.b, sizeof(r->sip.b));
    mvpn_mac1_key(&r->unsure_key, &config->link_key.pub, &keys->token, MVPN_PATTERN_DHT,
                  MVPN_HOUR_UNSURE);
    mvpn_bucket_init(&r->unsure, UNSURE_PER_S, UNSURE_BURST, now);
    mvpn_bucket_init(&r->proven, MVPN_DHT_PROVEN_PER_S, MVPN_DHT_PROVEN_PER_S, now);
    mvpn_bucket_init(&r->unproven, MVPN_DHT_UNPROVEN_PER_S, MVPN_DHT_UNPROVEN_PER_S, now);
    *ret = r;
    return 0;
}

void mvpn_dht_responder_free(mvpn_dht_responder *r)
{
    if (r != NULL) {
        mvpn_wipe(r, sizeof(*r));
        free(r);
    }
}

/* The place of an id; else the one that is free for longest, or soonest. */
static struct name *place_of(mvpn_dht_responder *r, const mvpn_dht_id *id)
{
    struct name *place = &r->names[0];
    for (size_t i = 0; i < MVPN_DHT_NAMES_MAX; i++) {
        struct name *n = &r->names[i];
        if (n->until != 0 && memcmp(&n->contact.id, id, sizeof(*id)) == 0) {
            return n;
        }
        place = n->until < place->until ? n : place;
    }
    return place;
}

void mvpn_dht_responder_set_own(mvpn_dht_responder *r, const mvpn_dht_contact *own, size_t count,
                                mvpn_time now)
{
    for (size_t i = 0; i < MVPN_DHT_NAMES_MAX; i++) {
        struct name *n = &r->names[i];
        n->until = n->until == MVPN_TIME_NEVER ? now + MVPN_DHT_OLD_SELF_LIFE : n->until;
    }
    for (size_t i = 0; i < count && i < MVPN_DHT_OWN_MAX; i++) {
        *place_of(r, &own[i].id) = (struct name){own[i], MVPN_TIME_NEVER};
    }
}

/* --- checks --- */

static const mvpn_key *mac_key_of(mvpn_dht_responder *r, uint64_t hour)
{
    struct mac_key *k = &r->mac_keys[hour % HOURS];
    if (!k->is_made || k->hour != hour) {
        mvpn_mac1_key(&k->key, &r->config.link_key.pub, &r->keys.token, MVPN_PATTERN_DHT, hour);
        k->hour = hour;
        k->is_made = true;
    }
    return &k->key;
}

static bool mac_is_of(const mvpn_dht_request_packet *p, const mvpn_key *key)
{
    uint8_t mac[MVPN_DHT_MAC_LEN];
    mvpn_mac1_make(mac, key, p->before);
    return mvpn_ct_equal(mac, p->mac1.p, sizeof(mac));
}

static bool has_right_mac(mvpn_dht_responder *r, const mvpn_dht_request_packet *p,
                          uint64_t unix_now, bool *ret_is_unsure)
{
    const uint64_t hour = unix_now / S_PER_HOUR;
    const uint64_t hours[HOURS] = {hour, hour - 1, hour + 1};
    *ret_is_unsure = false;
    for (size_t i = 0; i < HOURS; i++) {
        if (mac_is_of(p, mac_key_of(r, hours[i]))) {
            return true;
        }
    }
    *ret_is_unsure = mac_is_of(p, &r->unsure_key);
    return *ret_is_unsure;
}

/* Take a request of an unsure clock, once. The first bytes of its Noise message are a key that no
 * honest initiator uses twice. */
static bool take_unsure(mvpn_dht_responder *r, const mvpn_dht_request_packet *p, mvpn_time now)
{
    if (p->noise.n < NOISE_LEN) {
        return false;
    }
    uint64_t hash = mvpn_siphash(&r->sip, p->noise.p, KEY_LEN);
    for (size_t i = 0; i < UNSURE_REMEMBERED; i++) {
        if (r->unsure_seen[i] == hash) {
            return false;
        }
    }
    if (!mvpn_bucket_take(&r->unsure, 1, now)) {
        return false;
    }
    r->unsure_seen[r->unsure_next] = hash != 0 ? hash : 1;
    r->unsure_next = (r->unsure_next + 1) % UNSURE_REMEMBERED;
    return true;
}

/* Open message 1, by the id of any address that we have, or had a moment ago, of the family that it
 * came by: who asks for an id asks at its address. (§11.2) */
static int open_request(mvpn_dht_responder *r, mvpn_noise *hs, uint8_t family, uint8_t *out,
                        size_t size, size_t *ret_len, mvpn_bytes message, mvpn_time now)
{
    int rc = MVPN_E_AUTH;
    for (size_t i = 0; rc != 0 && i < MVPN_DHT_NAMES_MAX; i++) {
        const struct name *n = &r->names[i];
        if (n->until > now && n->contact.addr.family == family) {
            mvpn_dht_noise_start(hs, &r->keys, &n->contact, &r->config.link_key);
            rc = mvpn_noise_read(hs, out, size, ret_len, message);
            if (rc != 0) {
                mvpn_noise_done(hs);
            }
        }
    }
    return rc;
}

/* --- the reply --- */

/* What a payload may be. */
struct room {
    size_t len;   /* bytes */
    bool may_cut; /* lists may be cut: more than this fits in no datagram */
};

/* Write the body of `reply` with or without our certificate; false if the room does not hold it. */
static bool make_payload(const mvpn_dht_responder *r, uint8_t *out, const struct room *room,
                         size_t *ret_len, const mvpn_dht_reply *reply, bool with_certificate,
                         const mvpn_addr *to, mvpn_time now)
{
    uint8_t body[MVPN_DHT_BODY_MAX];
    const mvpn_dht_exchange_config *c = &r->config;
    bool has_membership = with_certificate && c->membership_certificate.n > 0;
    size_t overhead = mvpn_dht_answer_overhead(with_certificate, has_membership);
    if (overhead > room->len) {
        return false;
    }
    size_t len = mvpn_dht_reply_encode(body, sizeof(body), reply);
    if (len > room->len - overhead) {
        len = room->may_cut ? mvpn_dht_reply_encode(body, room->len - overhead, reply) : 0;
    }
    if (len == 0) {
        return false;
    }
    mvpn_dht_answer answer = {.command = reply->command,
                              .has_certificate = with_certificate,
                              .has_membership = has_membership,
                              .body = {body, len}};
    mvpn_dht_token_make(answer.token, &r->secret, to, now);
    if (with_certificate) {
        memcpy(answer.link_certificate, c->link_certificate.p, sizeof(answer.link_certificate));
    }
    if (has_membership) {
        memcpy(answer.membership, c->membership_certificate.p, sizeof(answer.membership));
    }
    *ret_len = mvpn_dht_answer_encode(out, room->len, &answer);
    return *ret_len > 0;
}

/* Write the reply over the packet, no longer than `max`. What does not fit with our certificate
 * goes without it; what does not fit at all is asked for again, with the token that comes along. */
static int write_reply(mvpn_dht_responder *r, mvpn_noise *hs, mvpn_packet *packet, size_t max,
                       uint64_t transaction, bool wants_certificate, const mvpn_dht_reply *reply,
                       mvpn_time now)
{
    const mvpn_dht_reply come_again = {.command = MVPN_CMD_DHT_ERROR,
                                       .status = MVPN_DHT_ERROR_TOKEN};
    uint8_t payload[MVPN_DHT_DATAGRAM4_MAX];
    size_t len = 0, fixed = MVPN_DHT_REPLY_HEADER_LEN + NOISE_LEN;
    if (max < fixed) {
        return MVPN_E_FORMAT;
    }
    const struct room room = {max - fixed, max == mvpn_dht_datagram_max(&packet->remote)};
    if (!(wants_certificate &&
          make_payload(r, payload, &room, &len, reply, true, &packet->remote, now)) &&
        !make_payload(r, payload, &room, &len, reply, false, &packet->remote, now) &&
        !make_payload(r, payload, &room, &len, &come_again, false, &packet->remote, now)) {
        return MVPN_E_FORMAT;
    }
    packet->data = packet->buf + MVPN_PACKET_HEADROOM;
    packet->len = 0;
    mvpn_writer w =
        mvpn_writer_init(mvpn_packet_append(packet, (uint32_t)(fixed + len)), fixed + len);
    mvpn_write8(&w, (uint8_t)(0xc0 | mvpn_rng_below(r->config.rng, 64)));
    mvpn_write32(&w, MVPN_DHT_VERSION_REPLY);
    mvpn_write64(&w, transaction);
    uint8_t *noise = mvpn_write_raw(&w, NOISE_LEN + len);
    MVPN_ASSERT(noise != NULL);
    return mvpn_noise_write(hs, noise, NOISE_LEN + len, &len, mvpn_bytes_of(payload, len),
                            r->config.rng);
}

/* What is known of who asks. A claim counts only from where its node id belongs, and of one that
 * receives there. */
static mvpn_dht_asker asker_of(const mvpn_packet *packet, const mvpn_dht_ask *ask, bool is_proven)
{
    mvpn_dht_asker asker = {.addr = packet->remote, .is_proven = is_proven};
    if (ask->has_claim && is_proven && mvpn_dht_id_fits(&ask->claim_id, &packet->remote)) {
        asker.has_claim = true;
        asker.claim = (mvpn_dht_contact){
            .id = ask->claim_id, .link_key = ask->claim_link_key, .addr = packet->remote};
    }
    return asker;
}

/* The core's answer, or the error that the request deserves. MVPN_E_LIMIT: none. */
static int ask_core(mvpn_dht_responder *r, const mvpn_dht_asker *asker, const mvpn_dht_ask *ask,
                    mvpn_time now, mvpn_dht_reply *ret)
{
    mvpn_dht_request request;
    int rc = mvpn_dht_request_decode(&request, ask->command, ask->body);
    if (rc != 0) {
        *ret = (mvpn_dht_reply){.command = MVPN_CMD_DHT_ERROR,
                                .status = rc == MVPN_E_UNKNOWN ? MVPN_DHT_ERROR_NOT_SERVED
                                                               : MVPN_DHT_ERROR_MALFORMED};
        return 0;
    }
    return mvpn_dht_request_in(r->config.dht, asker, &request, now, ret);
}

int mvpn_dht_responder_answer(mvpn_dht_responder *r, mvpn_packet *packet, int64_t unix_offset_us,
                              mvpn_time now, mvpn_dht_exchange_counters *counters)
{
    mvpn_dht_request_packet p;
    mvpn_dht_ask ask;
    mvpn_dht_reply reply;
    mvpn_noise hs;
    bool is_unsure;
    uint8_t plain[MVPN_DHT_DATAGRAM4_MAX];
    size_t len, max = mvpn_dht_datagram_max(&packet->remote);
    int rc = mvpn_dht_request_packet_decode(&p, mvpn_bytes_of(packet->data, packet->len));
    if (rc != 0) {
        counters->dropped_format++;
        return rc;
    }
    if (!has_right_mac(r, &p, mvpn_dht_unix_now(now, unix_offset_us), &is_unsure)) {
        counters->dropped_mac++;
        return MVPN_E_AUTH;
    }
    bool is_proven = mvpn_dht_token_is_valid(p.token, &r->secret, &packet->remote, now);
    if (!mvpn_bucket_take(is_proven ? &r->proven : &r->unproven, 1, now) ||
        (is_unsure && !take_unsure(r, &p, now))) {
        counters->dropped_limit++;
        return MVPN_E_LIMIT;
    }
    rc = open_request(r, &hs, packet->remote.family, plain, sizeof(plain), &len, p.noise, now);
    if (rc != 0) {
        counters->dropped_auth++;
        return rc;
    }
    rc = mvpn_dht_ask_decode(&ask, mvpn_bytes_of(plain, len));
    if (rc == 0 && is_unsure && ask.command != MVPN_CMD_DHT_PING) {
        rc = MVPN_E_FORMAT; /* who has learned the time asks by it */
    }
    if (rc != 0) {
        counters->dropped_format++;
        goto out;
    }
    counters->requests_in++;
    const mvpn_dht_asker asker = asker_of(packet, &ask, is_proven);
    rc = ask_core(r, &asker, &ask, now, &reply);
    if (rc != 0) {
        counters->dropped_limit++;
        goto out;
    }
    /* No amplification: nothing longer than what came goes to an address that was not shown. */
    max = is_proven ? max : MVPN_MIN(max, packet->len);
    rc = write_reply(r, &hs, packet, max, p.transaction, ask.wants_certificate, &reply, now);
    counters->dropped_format += rc != 0;
out:
    mvpn_noise_done(&hs);
    return rc;
}
