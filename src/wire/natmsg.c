#include "wire/natmsg.h"

#include "base/assert.h"
#include "base/cursor.h"
#include "base/error.h"

static bool id_is_zero(const mvpn_nat_id *id)
{
    return mvpn_load64(id->b) == 0;
}

static void write_id(mvpn_writer *w, const mvpn_nat_id *id)
{
    mvpn_write64(w, mvpn_load64(id->b));
}

void mvpn_nat_register_encode(uint8_t out[static MVPN_NAT_REGISTER_LEN], uint16_t lifetime_s)
{
    mvpn_store16(out, lifetime_s);
}

int mvpn_nat_register_decode(uint16_t *ret, mvpn_bytes body)
{
    if (body.n != MVPN_NAT_REGISTER_LEN || mvpn_load16(body.p) == 0) {
        return MVPN_E_FORMAT;
    }
    *ret = mvpn_load16(body.p);
    return 0;
}

void mvpn_nat_registered_encode(uint8_t out[static MVPN_NAT_REGISTERED_LEN],
                                const mvpn_nat_registered *in)
{
    mvpn_writer w = mvpn_writer_init(out, MVPN_NAT_REGISTERED_LEN);
    mvpn_write8(&w, in->status);
    write_id(&w, &in->rendezvous);
    mvpn_write16(&w, in->lifetime_s);
}

int mvpn_nat_registered_decode(mvpn_nat_registered *ret, mvpn_bytes body)
{
    mvpn_reader r = mvpn_reader_init(body);
    mvpn_nat_registered m;
    m.status = mvpn_read8(&r);
    mvpn_read_copy(&r, m.rendezvous.b, MVPN_NAT_ID_LEN);
    m.lifetime_s = mvpn_read16(&r);
    bool is_refusal = m.status != 0;
    if (!mvpn_reader_done(&r) || (m.lifetime_s == 0) != is_refusal ||
        id_is_zero(&m.rendezvous) != is_refusal) {
        return MVPN_E_FORMAT;
    }
    *ret = m;
    return 0;
}

void mvpn_nat_open_encode(uint8_t out[static MVPN_NAT_OPEN_LEN], const mvpn_nat_open *in)
{
    mvpn_writer w = mvpn_writer_init(out, MVPN_NAT_OPEN_LEN);
    mvpn_write32(&w, in->request);
    write_id(&w, &in->rendezvous);
    mvpn_write8(&w, in->count);
}

int mvpn_nat_open_decode(mvpn_nat_open *ret, mvpn_bytes body)
{
    mvpn_reader r = mvpn_reader_init(body);
    mvpn_nat_open m;
    m.request = mvpn_read32(&r);
    mvpn_read_copy(&r, m.rendezvous.b, MVPN_NAT_ID_LEN);
    m.count = mvpn_read8(&r);
    if (!mvpn_reader_done(&r) || m.request == 0 || m.count < MVPN_NAT_OPEN_IDS_MIN ||
        m.count > MVPN_NAT_IDS_MAX) {
        return MVPN_E_FORMAT;
    }
    *ret = m;
    return 0;
}

static void write_ids(mvpn_writer *w, const mvpn_nat_ids *in)
{
    MVPN_ASSERT(in->count <= MVPN_NAT_IDS_MAX);
    size_t n = (size_t)in->count * MVPN_CONNECTION_ID_LEN;
    write_id(w, &in->session);
    mvpn_write8(w, in->count);
    mvpn_write_bytes(w, in->own, n);
    mvpn_write_bytes(w, in->peer, n);
}

/* False: the count is out of range, or the body has another length. */
static bool read_ids(mvpn_reader *r, mvpn_nat_ids *ret)
{
    mvpn_read_copy(r, ret->session.b, MVPN_NAT_ID_LEN);
    ret->count = mvpn_read8(r);
    if (ret->count > MVPN_NAT_IDS_MAX) {
        return false;
    }
    size_t n = (size_t)ret->count * MVPN_CONNECTION_ID_LEN;
    mvpn_read_copy(r, ret->own[0].b, n);
    mvpn_read_copy(r, ret->peer[0].b, n);
    return mvpn_reader_done(r);
}

size_t mvpn_nat_opened_encode(uint8_t out[static MVPN_NAT_OPENED_LEN_MAX],
                              const mvpn_nat_opened *in)
{
    mvpn_writer w = mvpn_writer_init(out, MVPN_NAT_OPENED_LEN_MAX);
    mvpn_write32(&w, in->request);
    mvpn_write8(&w, in->status);
    write_ids(&w, &in->ids);
    return mvpn_writer_len(&w);
}

int mvpn_nat_opened_decode(mvpn_nat_opened *ret, mvpn_bytes body)
{
    mvpn_reader r = mvpn_reader_init(body);
    mvpn_nat_opened m = {0};
    m.request = mvpn_read32(&r);
    m.status = mvpn_read8(&r);
    if (!read_ids(&r, &m.ids) || (m.status == 0) != (m.ids.count > 0)) {
        return MVPN_E_FORMAT;
    }
    *ret = m;
    return 0;
}

size_t mvpn_nat_incoming_encode(uint8_t out[static MVPN_NAT_INCOMING_LEN_MAX],
                                const mvpn_nat_ids *in)
{
    mvpn_writer w = mvpn_writer_init(out, MVPN_NAT_INCOMING_LEN_MAX);
    write_ids(&w, in);
    return mvpn_writer_len(&w);
}

int mvpn_nat_incoming_decode(mvpn_nat_ids *ret, mvpn_bytes body)
{
    mvpn_reader r = mvpn_reader_init(body);
    mvpn_nat_ids m = {0};
    if (!read_ids(&r, &m) || m.count == 0) {
        return MVPN_E_FORMAT;
    }
    *ret = m;
    return 0;
}

void mvpn_nat_more_encode(uint8_t out[static MVPN_NAT_MORE_LEN], const mvpn_nat_more *in)
{
    memcpy(out, in->session.b, MVPN_NAT_ID_LEN);
    out[MVPN_NAT_ID_LEN] = in->count;
}

int mvpn_nat_more_decode(mvpn_nat_more *ret, mvpn_bytes body)
{
    mvpn_reader r = mvpn_reader_init(body);
    mvpn_nat_more m;
    mvpn_read_copy(&r, m.session.b, MVPN_NAT_ID_LEN);
    m.count = mvpn_read8(&r);
    if (!mvpn_reader_done(&r) || m.count == 0 || m.count > MVPN_NAT_IDS_MAX) {
        return MVPN_E_FORMAT;
    }
    *ret = m;
    return 0;
}

int mvpn_nat_close_decode(mvpn_nat_id *ret, mvpn_bytes body)
{
    if (body.n != MVPN_NAT_ID_LEN) {
        return MVPN_E_FORMAT;
    }
    memcpy(ret->b, body.p, MVPN_NAT_ID_LEN);
    return 0;
}

void mvpn_nat_addressed_encode(uint8_t out[static MVPN_NAT_ADDRESSED_LEN],
                               const mvpn_nat_addressed *in)
{
    static const mvpn_addr none;
    mvpn_writer w = mvpn_writer_init(out, MVPN_NAT_ADDRESSED_LEN);
    write_id(&w, &in->session);
    mvpn_write8(&w, in->status);
    mvpn_write_address(&w, in->status == 0 ? &in->addr : &none);
}

int mvpn_nat_addressed_decode(mvpn_nat_addressed *ret, mvpn_bytes body)
{
    mvpn_reader r = mvpn_reader_init(body);
    mvpn_nat_addressed m = {0};
    mvpn_read_copy(&r, m.session.b, MVPN_NAT_ID_LEN);
    m.status = mvpn_read8(&r);
    if (m.status == 0) {
        mvpn_read_address(&r, &m.addr);
    } else {
        const uint8_t *zeros = mvpn_read_raw(&r, MVPN_ADDRESS_LEN);
        r.failed |= zeros != NULL && !mvpn_ct_is_zero(zeros, MVPN_ADDRESS_LEN);
    }
    if (!mvpn_reader_done(&r)) {
        return MVPN_E_FORMAT;
    }
    *ret = m;
    return 0;
}
