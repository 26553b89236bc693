#include "wire/linkmsg.h"

#include "base/assert.h"
#include "base/cursor.h"
#include "base/error.h"
#include "wire/address.h"

size_t mvpn_link_ack_encode(uint8_t out[static MVPN_LINK_ACK_LEN_MAX], const uint32_t *sequences,
                            size_t count)
{
    MVPN_ASSERT(count > 0 && count <= MVPN_LINK_ACK_MAX);
    for (size_t i = 0; i < count; i++) {
        mvpn_store32(out + 4 * i, sequences[i]);
    }
    return 4 * count;
}

int mvpn_link_ack_decode(uint32_t ret[static MVPN_LINK_ACK_MAX], size_t *ret_count, mvpn_bytes body)
{
    if (body.n == 0 || body.n % 4 != 0 || body.n > MVPN_LINK_ACK_LEN_MAX) {
        return MVPN_E_FORMAT;
    }
    for (size_t i = 0; i < body.n / 4; i++) {
        ret[i] = mvpn_load32(body.p + 4 * i);
    }
    *ret_count = body.n / 4;
    return 0;
}

size_t mvpn_link_new_ids_encode(uint8_t out[static MVPN_LINK_NEW_IDS_LEN_MAX],
                                const mvpn_connection_id *ids, size_t count)
{
    MVPN_ASSERT(count > 0 && count <= MVPN_HANDSHAKE_IDS_MAX);
    mvpn_writer w = mvpn_writer_init(out, MVPN_LINK_NEW_IDS_LEN_MAX);
    mvpn_write8(&w, (uint8_t)count);
    for (size_t i = 0; i < count; i++) {
        mvpn_write_bytes(&w, ids[i].b, MVPN_CONNECTION_ID_LEN);
    }
    return mvpn_writer_len(&w);
}

int mvpn_link_new_ids_decode(mvpn_connection_id ret[static MVPN_HANDSHAKE_IDS_MAX],
                             size_t *ret_count, mvpn_bytes body)
{
    mvpn_reader r = mvpn_reader_init(body);
    size_t count = mvpn_read8(&r);
    if (count == 0 || count > MVPN_HANDSHAKE_IDS_MAX ||
        body.n != 1 + count * MVPN_CONNECTION_ID_LEN) {
        return MVPN_E_FORMAT;
    }
    for (size_t i = 0; i < count; i++) {
        mvpn_read_copy(&r, ret[i].b, MVPN_CONNECTION_ID_LEN);
    }
    *ret_count = count;
    return 0;
}

void mvpn_link_part_encode(uint8_t out[static MVPN_LINK_PART_HEADER_LEN], uint16_t id,
                           uint8_t index)
{
    mvpn_store16(out, id);
    out[2] = index;
}

int mvpn_link_part_decode(mvpn_link_part *ret, mvpn_bytes body)
{
    mvpn_reader r = mvpn_reader_init(body);
    mvpn_link_part part;
    part.id = mvpn_read16(&r);
    part.index = mvpn_read8(&r);
    part.bytes = mvpn_read_rest(&r);
    if (r.failed || part.index > 1 || part.bytes.n == 0) {
        return MVPN_E_FORMAT;
    }
    *ret = part;
    return 0;
}

int mvpn_link_token_decode(uint64_t *ret, mvpn_bytes body)
{
    if (body.n != MVPN_LINK_TOKEN_LEN) {
        return MVPN_E_FORMAT;
    }
    *ret = mvpn_load64(body.p);
    return 0;
}

int mvpn_link_probe_decode(uint64_t *ret, mvpn_bytes body)
{
    if (body.n < MVPN_LINK_TOKEN_LEN) {
        return MVPN_E_FORMAT;
    }
    *ret = mvpn_load64(body.p);
    return 0;
}

int mvpn_link_close_decode(uint8_t *ret, mvpn_bytes body)
{
    if (body.n != 1) {
        return MVPN_E_FORMAT;
    }
    *ret = body.p[0];
    return 0;
}

size_t mvpn_link_candidates_encode(uint8_t out[static MVPN_LINK_CANDIDATES_LEN_MAX],
                                   const mvpn_link_candidates *in)
{
    MVPN_ASSERT(in->id_count > 0 && in->id_count <= MVPN_HANDSHAKE_IDS_MAX);
    MVPN_ASSERT(in->candidate_count <= MVPN_CANDIDATES_MAX);
    mvpn_writer w = mvpn_writer_init(out, MVPN_LINK_CANDIDATES_LEN_MAX);
    mvpn_write8(&w, in->round);
    mvpn_write8(&w, in->flags);
    mvpn_write8(&w, in->mapping);
    mvpn_write8(&w, in->filtering);
    mvpn_write16(&w, (uint16_t)in->port_step);
    mvpn_write8(&w, in->id_count);
    for (size_t i = 0; i < in->id_count; i++) {
        mvpn_write_bytes(&w, in->ids[i].b, MVPN_CONNECTION_ID_LEN);
    }
    mvpn_write8(&w, in->candidate_count);
    for (size_t i = 0; i < in->candidate_count; i++) {
        const mvpn_candidate *c = &in->candidates[i];
        mvpn_write8(&w, c->kind);
        mvpn_write_address(&w, &c->addr);
    }
    return mvpn_writer_len(&w);
}

static uint8_t read_dependence(mvpn_reader *r)
{
    uint8_t v = mvpn_read8(r);
    return v <= MVPN_NAT_DEPENDS_PORT ? v : MVPN_NAT_DEPENDS_UNKNOWN;
}

int mvpn_link_candidates_decode(mvpn_link_candidates *ret, mvpn_bytes body)
{
    mvpn_reader r = mvpn_reader_init(body);
    mvpn_link_candidates m = {.round = mvpn_read8(&r)};
    m.flags = mvpn_read8(&r);
    m.mapping = read_dependence(&r);
    m.filtering = read_dependence(&r);
    m.port_step = (int16_t)mvpn_read16(&r);
    m.id_count = mvpn_read8(&r);
    if (r.failed || m.id_count == 0 || m.id_count > MVPN_HANDSHAKE_IDS_MAX) {
        return MVPN_E_FORMAT;
    }
    for (size_t i = 0; i < m.id_count; i++) {
        mvpn_read_copy(&r, m.ids[i].b, MVPN_CONNECTION_ID_LEN);
    }
    m.candidate_count = mvpn_read8(&r);
    if (r.failed || m.candidate_count > MVPN_CANDIDATES_MAX) {
        return MVPN_E_FORMAT;
    }
    for (size_t i = 0; i < m.candidate_count; i++) {
        m.candidates[i].kind = mvpn_read8(&r);
        mvpn_read_address(&r, &m.candidates[i].addr);
    }
    if (r.failed || mvpn_read_rest(&r).n != 0) {
        return MVPN_E_FORMAT;
    }
    *ret = m;
    return 0;
}
