#include "wire/circuit.h"

#include "base/cursor.h"
#include "base/error.h"

const char *mvpn_reason_text(unsigned reason)
{
    static const char *const text[] = {
        "no reason given", "protocol error",  "busy",     "next relay unreachable",
        "refused",         "time-out",        "finished", "key unknown",
        "relay unknown",   "session unknown",
    };
    return reason < MVPN_ARRAY_LEN(text) ? text[reason] : "unknown reason";
}

static size_t finish(const mvpn_writer *w)
{
    return w->failed ? 0 : mvpn_writer_len(w);
}

static void write_part(mvpn_writer *w, const mvpn_part *part)
{
    mvpn_write16(w, part->total);
    mvpn_write16(w, part->offset);
    mvpn_write_bytes(w, part->bytes.p, part->bytes.n);
}

static mvpn_part read_part(mvpn_reader *r)
{
    mvpn_part part = {.total = mvpn_read16(r), .offset = mvpn_read16(r)};
    part.bytes = mvpn_read_rest(r);
    return part;
}

/* A part lies inside its total, which is bounded, and is not empty. */
static int part_check(const mvpn_reader *r, const mvpn_part *part)
{
    if (!mvpn_reader_done(r) || part->bytes.n == 0 || part->total > MVPN_ASSEMBLY_MAX ||
        (size_t)part->offset + part->bytes.n > part->total) {
        return MVPN_E_FORMAT;
    }
    return 0;
}

size_t mvpn_create_encode(uint8_t *out, size_t size, const mvpn_create *m)
{
    mvpn_writer w = mvpn_writer_init(out, size);
    mvpn_write_bytes(&w, m->back.b, sizeof(m->back.b));
    mvpn_write32(&w, m->request_id);
    mvpn_write8(&w, m->suite);
    mvpn_write8(&w, m->key_id);
    write_part(&w, &m->part);
    return finish(&w);
}

int mvpn_create_decode(mvpn_create *ret, mvpn_bytes in)
{
    mvpn_reader r = mvpn_reader_init(in);
    mvpn_create m = {0};
    mvpn_read_copy(&r, m.back.b, sizeof(m.back.b));
    m.request_id = mvpn_read32(&r);
    m.suite = mvpn_read8(&r);
    m.key_id = mvpn_read8(&r);
    m.part = read_part(&r);
    if (part_check(&r, &m.part) != 0) {
        return MVPN_E_FORMAT;
    }
    *ret = m;
    return 0;
}

size_t mvpn_created_encode(uint8_t *out, size_t size, const mvpn_created *m)
{
    mvpn_writer w = mvpn_writer_init(out, size);
    mvpn_write32(&w, m->request_id);
    write_part(&w, &m->part);
    return finish(&w);
}

int mvpn_created_decode(mvpn_created *ret, mvpn_bytes in)
{
    mvpn_reader r = mvpn_reader_init(in);
    mvpn_created m = {.request_id = mvpn_read32(&r)};
    m.part = read_part(&r);
    if (part_check(&r, &m.part) != 0) {
        return MVPN_E_FORMAT;
    }
    *ret = m;
    return 0;
}

size_t mvpn_extend_encode(uint8_t *out, size_t size, const mvpn_extend *m)
{
    mvpn_created same = {m->request_id, m->part};
    return mvpn_created_encode(out, size, &same);
}

int mvpn_extend_decode(mvpn_extend *ret, mvpn_bytes in)
{
    mvpn_created same;
    int r = mvpn_created_decode(&same, in);
    if (r == 0) {
        *ret = (mvpn_extend){same.request_id, same.part};
    }
    return r;
}

size_t mvpn_extend_body_encode(uint8_t *out, size_t size, const mvpn_extend_body *m)
{
    mvpn_writer w = mvpn_writer_init(out, size);
    mvpn_write_bytes(&w, m->identity.b, sizeof(m->identity.b));
    mvpn_write8(&w, m->suite);
    mvpn_write8(&w, m->key_id);
    mvpn_write16(&w, (uint16_t)m->handshake.n);
    mvpn_write_bytes(&w, m->handshake.p, m->handshake.n);
    mvpn_write16(&w, (uint16_t)m->descriptor.n);
    mvpn_write_bytes(&w, m->descriptor.p, m->descriptor.n);
    return finish(&w);
}

int mvpn_extend_body_decode(mvpn_extend_body *ret, mvpn_bytes in)
{
    mvpn_reader r = mvpn_reader_init(in);
    mvpn_extend_body m = {0};
    mvpn_read_copy(&r, m.identity.b, sizeof(m.identity.b));
    m.suite = mvpn_read8(&r);
    m.key_id = mvpn_read8(&r);
    m.handshake = mvpn_read_bytes(&r, mvpn_read16(&r));
    m.descriptor = mvpn_read_bytes(&r, mvpn_read16(&r));
    if (!mvpn_reader_done(&r) || m.handshake.n == 0) {
        return MVPN_E_FORMAT;
    }
    *ret = m;
    return 0;
}

size_t mvpn_extended_encode(uint8_t *out, size_t size, const mvpn_extended *m)
{
    mvpn_writer w = mvpn_writer_init(out, size);
    mvpn_write32(&w, m->request_id);
    mvpn_write8(&w, m->status);
    write_part(&w, &m->part);
    return finish(&w);
}

int mvpn_extended_decode(mvpn_extended *ret, mvpn_bytes in)
{
    mvpn_reader r = mvpn_reader_init(in);
    mvpn_extended m = {.request_id = mvpn_read32(&r), .status = mvpn_read8(&r)};
    m.part = read_part(&r);
    if (m.status == 0 ? part_check(&r, &m.part) != 0
                      : !mvpn_reader_done(&r) || m.part.total != 0 || m.part.offset != 0 ||
                            m.part.bytes.n != 0) {
        return MVPN_E_FORMAT;
    }
    *ret = m;
    return 0;
}

static void write_ticket(mvpn_writer *w, mvpn_bytes ticket)
{
    mvpn_write8(w, (uint8_t)ticket.n);
    mvpn_write_bytes(w, ticket.p, ticket.n);
}

static bool ticket_is_sized(mvpn_bytes ticket, bool is_there)
{
    return ticket.n == (is_there ? (size_t)MVPN_TICKET_LEN : 0);
}

size_t mvpn_begin_encode(uint8_t *out, size_t size, const mvpn_begin *m)
{
    mvpn_writer w = mvpn_writer_init(out, size);
    mvpn_write32(&w, m->request_id);
    mvpn_write8(&w, m->profile);
    mvpn_write8(&w, m->flags);
    mvpn_write32(&w, m->epoch);
    write_ticket(&w, m->ticket);
    return finish(&w);
}

int mvpn_begin_decode(mvpn_begin *ret, mvpn_bytes in)
{
    mvpn_reader r = mvpn_reader_init(in);
    mvpn_begin m = {
        .request_id = mvpn_read32(&r),
        .profile = mvpn_read8(&r),
        .flags = mvpn_read8(&r),
        .epoch = mvpn_read32(&r),
    };
    m.ticket = mvpn_read_bytes(&r, mvpn_read8(&r));
    if (!mvpn_reader_done(&r) || m.profile > 1 || !ticket_is_sized(m.ticket, m.epoch != 0)) {
        return MVPN_E_FORMAT;
    }
    *ret = m;
    return 0;
}

size_t mvpn_connected_encode(uint8_t *out, size_t size, const mvpn_connected *m)
{
    mvpn_writer w = mvpn_writer_init(out, size);
    mvpn_write32(&w, m->request_id);
    mvpn_write8(&w, m->status);
    mvpn_write8(&w, m->flags);
    write_ticket(&w, m->ticket);
    return finish(&w);
}

int mvpn_connected_decode(mvpn_connected *ret, mvpn_bytes in)
{
    mvpn_reader r = mvpn_reader_init(in);
    mvpn_connected m = {
        .request_id = mvpn_read32(&r),
        .status = mvpn_read8(&r),
        .flags = mvpn_read8(&r),
    };
    m.ticket = mvpn_read_bytes(&r, mvpn_read8(&r));
    if (!mvpn_reader_done(&r) || !ticket_is_sized(m.ticket, m.status == 0)) {
        return MVPN_E_FORMAT;
    }
    *ret = m;
    return 0;
}

int mvpn_reason_decode(uint8_t *ret, mvpn_bytes in)
{
    if (in.n != 1) {
        return MVPN_E_FORMAT;
    }
    *ret = in.p[0];
    return 0;
}

int mvpn_data_next(mvpn_bytes *rest, bool is_first, mvpn_data_item *ret)
{
    if (rest->n == 0) {
        return MVPN_E_AGAIN;
    }
    mvpn_reader r = mvpn_reader_init(*rest);
    unsigned head = mvpn_read16(&r);
    mvpn_data_item item = {.is_fragment = (head & 0x8000u) != 0};
    if (item.is_fragment) {
        item.total = head & 0x7fffu;
        item.id = mvpn_read16(&r);
        item.offset = mvpn_read16(&r);
        item.bytes = mvpn_read_rest(&r);
        if (!is_first || item.bytes.n == 0 || (size_t)item.offset + item.bytes.n > item.total) {
            return MVPN_E_FORMAT;
        }
    } else {
        item.bytes = mvpn_read_bytes(&r, head);
        if (head == 0) {
            return MVPN_E_FORMAT;
        }
    }
    if (r.failed) {
        return MVPN_E_FORMAT;
    }
    *rest = mvpn_bytes_of(r.p, mvpn_reader_left(&r));
    *ret = item;
    return 0;
}
