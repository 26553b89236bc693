#include "wire/handshake.h"

#include "base/cursor.h"
#include "base/error.h"
#include "crypto/hash.h"

#define FLAGS 0xc0
#define FLAGS_RANDOM 0x3f
#define PROLOGUE_VERSION 1

/* Byte offsets of §3.2 and §4.2; each id has its length before it. */
enum {
    PROLOGUE_AT_VERSION = 8,
    PROLOGUE_AT_KEYS = 11,
    AT_VERSION = 1,
    AT_DESTINATION = 6,
    AT_SOURCE = 15,
};

enum tlv_type {
    TLV_END = 0,
    TLV_LINK_CERTIFICATE = 1,
    TLV_MEMBERSHIP = 2,
};

void mvpn_prologue_encode(uint8_t out[static MVPN_PROLOGUE_LEN], unsigned suite,
                          enum mvpn_purpose purpose, const mvpn_key *network_id,
                          const mvpn_ed25519_pub *responder, const mvpn_key *responder_key)
{
    const size_t key = sizeof(network_id->b);
    memcpy(out, "MeshVPN", PROLOGUE_AT_VERSION); /* with its zero byte */
    out[PROLOGUE_AT_VERSION] = PROLOGUE_VERSION;
    out[PROLOGUE_AT_VERSION + 1] = (uint8_t)suite;
    out[PROLOGUE_AT_VERSION + 2] = (uint8_t)purpose;
    memcpy(out + PROLOGUE_AT_KEYS, network_id->b, key);
    memcpy(out + PROLOGUE_AT_KEYS + key, responder->b, key);
    memcpy(out + PROLOGUE_AT_KEYS + 2 * key, responder_key->b, key);
}

void mvpn_mac1_key(mvpn_key *ret, const mvpn_key *link_key, const mvpn_key *token,
                   enum mvpn_handshake_pattern pattern, uint64_t hour)
{
    uint8_t tail[9];
    tail[0] = (uint8_t)pattern;
    mvpn_store64(tail + 1, hour);
    const mvpn_bytes in[] = {MVPN_BYTES_ARRAY(link_key->b), MVPN_BYTES_ARRAY(token->b),
                             MVPN_BYTES_ARRAY(tail)};
    mvpn_blake3_derive(ret->b, sizeof(ret->b), "meshvpn v1 mac1", in, MVPN_ARRAY_LEN(in));
}

void mvpn_mac1_make(uint8_t out[static MVPN_HANDSHAKE_MAC_LEN], const mvpn_key *key,
                    mvpn_bytes before)
{
    uint8_t digest[32];
    mvpn_blake3(digest, sizeof(digest), before);
    mvpn_blake3_keyed(out, MVPN_HANDSHAKE_MAC_LEN, key, MVPN_BYTES_ARRAY(digest));
}

void mvpn_handshake_header_encode(uint8_t out[static MVPN_HANDSHAKE_HEADER_LEN],
                                  const mvpn_handshake_header *header)
{
    out[0] = (uint8_t)(FLAGS | (header->random & FLAGS_RANDOM));
    mvpn_store32(out + AT_VERSION, MVPN_HANDSHAKE_VERSION);
    out[AT_DESTINATION - 1] = MVPN_CONNECTION_ID_LEN;
    memcpy(out + AT_DESTINATION, header->destination.b, MVPN_CONNECTION_ID_LEN);
    out[AT_SOURCE - 1] = MVPN_CONNECTION_ID_LEN;
    memcpy(out + AT_SOURCE, header->source.b, MVPN_CONNECTION_ID_LEN);
}

int mvpn_handshake_header_decode(mvpn_handshake_header *ret, mvpn_bytes packet)
{
    if (packet.n != MVPN_HANDSHAKE_LEN) {
        return MVPN_E_FORMAT;
    }
    mvpn_reader r = mvpn_reader_init(packet);
    mvpn_handshake_header h = {0};
    uint8_t flags = mvpn_read8(&r);
    uint32_t version = mvpn_read32(&r);
    uint8_t destination_len = mvpn_read8(&r);
    mvpn_read_copy(&r, h.destination.b, MVPN_CONNECTION_ID_LEN);
    uint8_t source_len = mvpn_read8(&r);
    mvpn_read_copy(&r, h.source.b, MVPN_CONNECTION_ID_LEN);
    if (!mvpn_is_handshake_flags(flags) || version != MVPN_HANDSHAKE_VERSION ||
        destination_len != MVPN_CONNECTION_ID_LEN || source_len != MVPN_CONNECTION_ID_LEN) {
        return MVPN_E_FORMAT;
    }
    h.random = flags & FLAGS_RANDOM;
    *ret = h;
    return 0;
}

static void write_tlv(mvpn_writer *w, enum tlv_type type, mvpn_bytes value)
{
    if (value.n == 0) {
        return;
    }
    if (value.n > UINT16_MAX) {
        w->failed = true;
        return;
    }
    mvpn_write16(w, (uint16_t)type);
    mvpn_write16(w, (uint16_t)value.n);
    mvpn_write_bytes(w, value.p, value.n);
}

int mvpn_handshake_payload_encode(uint8_t *out, size_t size, bool is_reply,
                                  const uint8_t header[static MVPN_HANDSHAKE_HEADER_LEN],
                                  const mvpn_handshake_payload *payload)
{
    mvpn_writer w = mvpn_writer_init(out, size);
    mvpn_write_bytes(&w, header, MVPN_HANDSHAKE_HEADER_LEN);
    mvpn_write64(&w, payload->time);
    mvpn_write16(&w, payload->max_datagram);
    if (is_reply) {
        mvpn_write8(&w, payload->observed.family);
        mvpn_write16(&w, payload->observed.port);
        mvpn_write_bytes(&w, payload->observed.ip, sizeof(payload->observed.ip));
    }
    mvpn_write8(&w, payload->id_count);
    for (size_t i = 0; i < payload->id_count && i < MVPN_HANDSHAKE_IDS_MAX; i++) {
        mvpn_write_bytes(&w, payload->ids[i].b, MVPN_CONNECTION_ID_LEN);
    }
    write_tlv(&w, TLV_LINK_CERTIFICATE, payload->link_certificate);
    write_tlv(&w, TLV_MEMBERSHIP, payload->membership_certificate);
    if (w.failed || payload->id_count > MVPN_HANDSHAKE_IDS_MAX) {
        return MVPN_E_SPACE;
    }
    mvpn_write_zero(&w, size - mvpn_writer_len(&w));
    return 0;
}

static bool is_zero(mvpn_bytes in)
{
    return in.n == 0 || mvpn_ct_is_zero(in.p, in.n);
}

/* Each known type at most once; type 0 ends the list and only zeros follow. */
static int read_tlvs(mvpn_reader *r, mvpn_handshake_payload *p)
{
    while (mvpn_reader_left(r) >= 4) {
        uint16_t type = mvpn_read16(r);
        if (type == TLV_END) {
            break;
        }
        mvpn_bytes value = mvpn_read_bytes(r, mvpn_read16(r));
        if (r->failed) {
            return MVPN_E_FORMAT;
        }
        mvpn_bytes *at = type == TLV_LINK_CERTIFICATE ? &p->link_certificate
                         : type == TLV_MEMBERSHIP     ? &p->membership_certificate
                                                      : NULL;
        if (at != NULL) {
            if (at->n != 0 || value.n == 0) {
                return MVPN_E_FORMAT;
            }
            *at = value;
        }
    }
    return is_zero(mvpn_read_rest(r)) ? 0 : MVPN_E_FORMAT;
}

static void read_observed(mvpn_reader *r, mvpn_addr *ret)
{
    ret->family = mvpn_read8(r);
    ret->port = mvpn_read16(r);
    mvpn_read_copy(r, ret->ip, sizeof(ret->ip));
    bool is_v4 = ret->family == 4;
    if ((!is_v4 && ret->family != 6) || (is_v4 && !mvpn_ct_is_zero(ret->ip + 4, 12))) {
        r->failed = true;
    }
}

int mvpn_handshake_payload_decode(mvpn_handshake_payload *ret, mvpn_bytes in, bool is_reply,
                                  const uint8_t header[static MVPN_HANDSHAKE_HEADER_LEN])
{
    mvpn_reader r = mvpn_reader_init(in);
    mvpn_handshake_payload p = {0};
    mvpn_bytes copy = mvpn_read_bytes(&r, MVPN_HANDSHAKE_HEADER_LEN);
    p.time = mvpn_read64(&r);
    p.max_datagram = mvpn_read16(&r);
    if (is_reply) {
        read_observed(&r, &p.observed);
    }
    p.id_count = mvpn_read8(&r);
    if (r.failed || p.id_count > MVPN_HANDSHAKE_IDS_MAX || p.max_datagram < MVPN_DATAGRAM_MIN) {
        return MVPN_E_FORMAT;
    }
    for (size_t i = 0; i < p.id_count; i++) {
        mvpn_read_copy(&r, p.ids[i].b, MVPN_CONNECTION_ID_LEN);
    }
    if (r.failed || read_tlvs(&r, &p) != 0) {
        return MVPN_E_FORMAT;
    }
    if (memcmp(copy.p, header, MVPN_HANDSHAKE_HEADER_LEN) != 0) {
        return MVPN_E_AUTH;
    }
    *ret = p;
    return 0;
}
