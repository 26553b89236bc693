#include "wire/natprobe.h"

#include <string.h>

#include "base/error.h"

/* The first byte of a probe is that of a transport packet. (§4.1) */
#define FORM_MASK 0xc0
#define FORM_TRANSPORT 0x40
#define AT_TOKEN 1

void mvpn_nat_probe_encode(uint8_t out[static MVPN_NAT_PROBE_LEN], const mvpn_nat_probe_ask *in)
{
    mvpn_writer w = mvpn_writer_init(out, MVPN_NAT_PROBE_LEN);
    mvpn_write_bytes(&w, in->token.b, sizeof(in->token.b));
    mvpn_write8(&w, in->kind);
    mvpn_write8(&w, in->delay_s);
}

int mvpn_nat_probe_decode(mvpn_nat_probe_ask *ret, mvpn_bytes body)
{
    mvpn_reader r = mvpn_reader_init(body);
    mvpn_nat_probe_ask m;
    mvpn_read_copy(&r, m.token.b, sizeof(m.token.b));
    m.kind = mvpn_read8(&r);
    m.delay_s = mvpn_read8(&r);
    if (!mvpn_reader_done(&r) || m.kind < MVPN_PROBE_OTHER_PORT || m.kind > MVPN_PROBE_SAME_PORT ||
        m.delay_s > (m.kind == MVPN_PROBE_SAME_PORT ? MVPN_PROBE_DELAY_MAX_S : 0)) {
        return MVPN_E_FORMAT;
    }
    *ret = m;
    return 0;
}

void mvpn_nat_probe_for_encode(uint8_t out[static MVPN_NAT_PROBE_FOR_LEN],
                               const mvpn_nat_probe_for *in)
{
    mvpn_writer w = mvpn_writer_init(out, MVPN_NAT_PROBE_FOR_LEN);
    mvpn_write_bytes(&w, in->token.b, sizeof(in->token.b));
    mvpn_write_address(&w, &in->to);
}

int mvpn_nat_probe_for_decode(mvpn_nat_probe_for *ret, mvpn_bytes body)
{
    mvpn_reader r = mvpn_reader_init(body);
    mvpn_nat_probe_for m;
    mvpn_read_copy(&r, m.token.b, sizeof(m.token.b));
    mvpn_read_address(&r, &m.to);
    if (!mvpn_reader_done(&r)) {
        return MVPN_E_FORMAT;
    }
    *ret = m;
    return 0;
}

void mvpn_nat_probed_encode(uint8_t out[static MVPN_NAT_PROBED_LEN], const mvpn_nat_probed *in)
{
    mvpn_writer w = mvpn_writer_init(out, MVPN_NAT_PROBED_LEN);
    mvpn_write_bytes(&w, in->token.b, sizeof(in->token.b));
    mvpn_write8(&w, in->status);
    mvpn_write16(&w, in->other_port);
    mvpn_write_address(&w, &in->seen);
}

int mvpn_nat_probed_decode(mvpn_nat_probed *ret, mvpn_bytes body)
{
    mvpn_reader r = mvpn_reader_init(body);
    mvpn_nat_probed m = {0};
    mvpn_read_copy(&r, m.token.b, sizeof(m.token.b));
    m.status = mvpn_read8(&r);
    if (m.status == 0) {
        m.other_port = mvpn_read16(&r);
        mvpn_read_address(&r, &m.seen);
    } else {
        mvpn_bytes rest = mvpn_read_rest(&r);
        uint8_t set = 0;
        for (size_t i = 0; i < rest.n; i++) {
            set |= rest.p[i];
        }
        r.failed |= set != 0 || body.n != MVPN_NAT_PROBED_LEN;
    }
    if (!mvpn_reader_done(&r)) {
        return MVPN_E_FORMAT;
    }
    *ret = m;
    return 0;
}

void mvpn_probe_encode(uint8_t out[static MVPN_PROBE_LEN], const mvpn_probe_token *token,
                       const uint8_t random[static MVPN_PROBE_LEN])
{
    if (out != random) {
        memcpy(out, random, MVPN_PROBE_LEN);
    }
    out[0] = (uint8_t)(FORM_TRANSPORT | (out[0] & ~FORM_MASK));
    memcpy(out + AT_TOKEN, token->b, sizeof(token->b));
}

int mvpn_probe_decode(mvpn_probe_token *ret, mvpn_bytes datagram)
{
    if (datagram.n != MVPN_PROBE_LEN || (datagram.p[0] & FORM_MASK) != FORM_TRANSPORT) {
        return MVPN_E_FORMAT;
    }
    memcpy(ret->b, datagram.p + AT_TOKEN, sizeof(ret->b));
    return 0;
}
