#include "exit/dns_message.h"

#include <string.h>

#include "base/cursor.h"
#include "base/error.h"
#include "exit/policy.h"

#define LABEL_MAX 63
#define POINTER 0xc0
#define TYPE_SOA 6
#define TYPE_A6 38 /* RFC 2874: an address in pieces; historic */
#define TYPE_IXFR 251
#define TYPE_AXFR 252
#define KEY_IPV4HINT 4
#define KEY_IPV6HINT 6
#define SOA_MIN 22 /* two names of the root and five numbers */

/* A name without compression (RFC 1035 §4.1.2), type and class; the name in lower case, since names
 * compare without case (§2.3.3). */
static bool read_question(mvpn_reader *r, mvpn_dns_question *ret)
{
    mvpn_writer w = mvpn_writer_init(ret->bytes, sizeof(ret->bytes));
    for (;;) {
        uint8_t n = mvpn_read8(r);
        if (n > LABEL_MAX) {
            return false;
        }
        mvpn_write8(&w, n);
        if (n == 0) {
            break;
        }
        for (uint8_t i = 0; i < n; i++) {
            uint8_t c = mvpn_read8(r);
            mvpn_write8(&w, (uint8_t)(c >= 'A' && c <= 'Z' ? c + 32 : c));
        }
        if (r->failed || mvpn_writer_len(&w) >= MVPN_DNS_NAME_MAX) {
            return false;
        }
    }
    uint32_t type_class = mvpn_read32(r);
    mvpn_write32(&w, type_class);
    ret->type = (uint16_t)(type_class >> 16);
    ret->len = (uint16_t)mvpn_writer_len(&w);
    return !r->failed && !w.failed;
}

/* An EDNS record (RFC 6891 §6.1.2) that ends the message; emptied in place. */
static int clean_edns(mvpn_reader *r, uint8_t *message, uint32_t *len, uint16_t udp_max,
                      mvpn_dns_query_info *ret)
{
    size_t at = (size_t)(r->p - message);
    uint8_t name = mvpn_read8(r);
    uint16_t type = mvpn_read16(r);
    uint16_t size = mvpn_read16(r);
    uint32_t extended = mvpn_read32(r); /* code, version, DO: kept */
    (void)mvpn_read_raw(r, mvpn_read16(r));
    if (!mvpn_reader_done(r) || name != 0 || type != MVPN_DNS_TYPE_OPT) {
        return MVPN_E_FORMAT;
    }
    mvpn_store16(message + at + 3, MVPN_MIN(size, udp_max));
    mvpn_store16(message + at + 9, 0);
    *len = (uint32_t)at + 11;
    ret->has_edns = true;
    ret->edns = extended;
    return 0;
}

int mvpn_dns_query_read(uint8_t *message, uint32_t *len, uint16_t udp_max, mvpn_dns_query_info *ret)
{
    mvpn_reader r = mvpn_reader_init(mvpn_bytes_of(message, *len));
    *ret = (mvpn_dns_query_info){.flags = 0};
    (void)mvpn_read16(&r);
    ret->flags = mvpn_read16(&r);
    uint16_t questions = mvpn_read16(&r);
    uint32_t answers = mvpn_read32(&r); /* answer and authority counts */
    uint16_t additional = mvpn_read16(&r);
    if (r.failed || (ret->flags & (MVPN_DNS_QR | MVPN_DNS_OPCODE)) != 0 || questions != 1 ||
        answers != 0 || additional > 1 || !read_question(&r, &ret->question) ||
        ret->question.type == TYPE_IXFR || ret->question.type == TYPE_AXFR) {
        return MVPN_E_FORMAT;
    }
    if (additional == 1) {
        return clean_edns(&r, message, len, udp_max, ret);
    }
    return mvpn_reader_done(&r) ? 0 : MVPN_E_FORMAT;
}

/* ---- records ---- */

typedef struct record {
    uint16_t type;
    uint32_t ttl;
    size_t ttl_at; /* in the message */
    mvpn_bytes data;
} record;

/* Labels up to the root or to a pointer, which ends the name (RFC 1035 §4.1.4). */
static bool skip_name(mvpn_reader *r)
{
    for (size_t total = 0; total < MVPN_DNS_NAME_MAX;) {
        uint8_t n = mvpn_read8(r);
        if (r->failed) {
            return false;
        }
        if (n == 0) {
            return true;
        }
        if ((n & POINTER) == POINTER) {
            (void)mvpn_read8(r);
            return !r->failed;
        }
        if (n > LABEL_MAX) {
            return false;
        }
        (void)mvpn_read_raw(r, n);
        total += (size_t)n + 1;
    }
    return false;
}

static bool read_record(mvpn_reader *r, const uint8_t *message, record *ret)
{
    if (!skip_name(r)) {
        return false;
    }
    ret->type = mvpn_read16(r);
    (void)mvpn_read16(r); /* class: an address is an address in each */
    ret->ttl_at = (size_t)(r->p - message);
    ret->ttl = mvpn_read32(r);
    ret->ttl = ret->ttl > INT32_MAX ? 0 : ret->ttl; /* RFC 2181 §8 */
    uint16_t n = mvpn_read16(r);
    const uint8_t *data = mvpn_read_raw(r, n);
    if (r->failed) {
        return false;
    }
    ret->data = mvpn_bytes_of(data, n);
    return true;
}

void mvpn_dns_records_begin(mvpn_dns_records *records, const uint8_t *message, uint32_t len)
{
    mvpn_reader r = mvpn_reader_init(mvpn_bytes_of(message, len));
    mvpn_dns_question question;
    *records = (mvpn_dns_records){.message = message};
    (void)mvpn_read_raw(&r, MVPN_DNS_HEADER);
    if (r.failed || !read_question(&r, &question)) {
        return;
    }
    records->p = r.p;
    records->end = message + len;
    for (size_t i = 0; i < MVPN_DNS_SECTIONS; i++) {
        records->left[i] = mvpn_load16(message + 6 + 2 * i);
    }
}

bool mvpn_dns_records_next(mvpn_dns_records *records, mvpn_dns_record *ret)
{
    unsigned section = MVPN_DNS_ANSWER;
    record rr;
    while (section < MVPN_DNS_SECTIONS && records->left[section] == 0) {
        section++;
    }
    if (section == MVPN_DNS_SECTIONS || records->p == NULL) {
        return false;
    }
    mvpn_reader r =
        mvpn_reader_init(mvpn_bytes_of(records->p, (size_t)(records->end - records->p)));
    if (!read_record(&r, records->message, &rr)) {
        return false;
    }
    *ret = (mvpn_dns_record){
        .section = section,
        .type = rr.type,
        .class = mvpn_load16(records->message + rr.ttl_at - 2),
        .ttl = mvpn_load32(records->message + rr.ttl_at),
        .name_at = (size_t)(records->p - records->message),
        .data = rr.data,
    };
    records->left[section]--;
    records->p = r.p;
    return true;
}

size_t mvpn_dns_name_read(mvpn_bytes message, size_t at, uint8_t ret[static MVPN_DNS_NAME_MAX])
{
    size_t n = 0, piece = at; /* where the labels since the last pointer began */
    while (at < message.n) {
        uint8_t len = message.p[at];
        if ((len & POINTER) == POINTER) {
            size_t to = at + 1 < message.n ? mvpn_load16(message.p + at) & 0x3fffu : piece;
            if (to >= piece) {
                return 0;
            }
            at = piece = to;
            continue;
        }
        if (len > LABEL_MAX || n + len + 1u > MVPN_DNS_NAME_MAX || at + len >= message.n) {
            return 0;
        }
        ret[n++] = len;
        for (size_t i = 1; i <= len; i++) {
            uint8_t c = message.p[at + i];
            ret[n++] = (uint8_t)(c >= 'A' && c <= 'Z' ? c + 32 : c);
        }
        if (len == 0) {
            return n;
        }
        at += len + 1u;
    }
    return 0;
}

static bool has_private_address(mvpn_bytes list, unsigned version)
{
    size_t n = version == 4 ? 4 : 16;
    for (size_t at = 0; at + n <= list.n; at += n) {
        if (!mvpn_policy_is_public(version, list.p + at)) {
            return true;
        }
    }
    return list.n % n != 0;
}

/* Hints of addresses to connect to before those are asked for (RFC 9460 §7.3). */
static bool has_private_hint(mvpn_bytes data)
{
    mvpn_reader r = mvpn_reader_init(data);
    (void)mvpn_read16(&r);
    if (!skip_name(&r)) {
        return true;
    }
    while (mvpn_reader_left(&r) > 0) {
        uint16_t key = mvpn_read16(&r), n = mvpn_read16(&r);
        const uint8_t *value = mvpn_read_raw(&r, n);
        if (r.failed) {
            return true;
        }
        if ((key == KEY_IPV4HINT && has_private_address(mvpn_bytes_of(value, n), 4)) ||
            (key == KEY_IPV6HINT && has_private_address(mvpn_bytes_of(value, n), 6))) {
            return true;
        }
    }
    return false;
}

/* Malformed ones count as private: who knows how a client reads them. */
static bool is_private(const record *rr)
{
    switch (rr->type) {
    case MVPN_DNS_TYPE_A:
        return rr->data.n != 4 || has_private_address(rr->data, 4);
    case MVPN_DNS_TYPE_AAAA:
        return rr->data.n != 16 || has_private_address(rr->data, 6);
    case TYPE_A6:
        return true;
    case MVPN_DNS_TYPE_SVCB:
    case MVPN_DNS_TYPE_HTTPS:
        return has_private_hint(rr->data);
    default:
        return false;
    }
}

/* What all records together allow; negative answers as their SOA says (RFC 2308 §5). */
typedef struct lifetime {
    uint32_t ttl;
    bool has_soa;
} lifetime;

static void take_lifetime(lifetime *life, const record *rr)
{
    if (rr->type == MVPN_DNS_TYPE_OPT) {
        return;
    }
    life->ttl = MVPN_MIN(life->ttl, rr->ttl);
    if (rr->type == TYPE_SOA && rr->data.n >= SOA_MIN) {
        life->has_soa = true;
        life->ttl = MVPN_MIN(life->ttl, mvpn_load32(rr->data.p + rr->data.n - 4));
    }
}

int mvpn_dns_answer_read(const uint8_t *message, uint32_t len, mvpn_dns_answer_info *ret)
{
    mvpn_reader r = mvpn_reader_init(mvpn_bytes_of(message, len));
    lifetime life = {.ttl = MVPN_DNS_TTL_MAX};
    *ret = (mvpn_dns_answer_info){.flags = 0};
    (void)mvpn_read16(&r);
    ret->flags = mvpn_read16(&r);
    uint16_t questions = mvpn_read16(&r);
    uint16_t answers = mvpn_read16(&r);
    uint32_t rest = mvpn_read16(&r);
    rest += mvpn_read16(&r);
    if (r.failed || (ret->flags & MVPN_DNS_QR) == 0 || (ret->flags & MVPN_DNS_OPCODE) != 0 ||
        questions != 1 || !read_question(&r, &ret->question)) {
        return MVPN_E_FORMAT;
    }
    if ((ret->flags & MVPN_DNS_TC) != 0) {
        return 0;
    }
    for (uint32_t i = 0; i < answers + rest; i++) {
        record rr;
        if (!read_record(&r, message, &rr)) {
            return MVPN_E_FORMAT;
        }
        ret->has_private |= is_private(&rr);
        take_lifetime(&life, &rr);
    }
    unsigned rcode = ret->flags & MVPN_DNS_RCODE;
    bool is_positive = rcode == 0 && answers > 0;
    bool is_negative = (rcode == 0 || rcode == MVPN_DNS_NXDOMAIN) && !is_positive && life.has_soa;
    ret->ttl = is_positive || is_negative ? life.ttl : 0;
    return mvpn_reader_done(&r) ? 0 : MVPN_E_FORMAT;
}

unsigned mvpn_dns_answer_addresses(const uint8_t *message, uint32_t len, mvpn_addr *ret,
                                   unsigned max)
{
    mvpn_reader r = mvpn_reader_init(mvpn_bytes_of(message, len));
    mvpn_dns_question question;
    record rr;
    unsigned count = 0;
    (void)mvpn_read_raw(&r, MVPN_DNS_HEADER);
    if (r.failed || !read_question(&r, &question)) {
        return 0;
    }
    for (unsigned left = mvpn_load16(message + 6);
         left > 0 && count < max && read_record(&r, message, &rr); left--) {
        bool is_v4 = rr.type == MVPN_DNS_TYPE_A && rr.data.n == 4;
        if (is_v4 || (rr.type == MVPN_DNS_TYPE_AAAA && rr.data.n == 16)) {
            ret[count] = (mvpn_addr){.family = is_v4 ? 4 : 6};
            memcpy(ret[count++].ip, rr.data.p, rr.data.n);
        }
    }
    return count;
}

uint32_t mvpn_dns_make_empty(uint8_t *message, const mvpn_dns_question *question)
{
    uint16_t flags = mvpn_load16(message + 2);
    flags &= MVPN_DNS_RD | MVPN_DNS_CD;
    mvpn_store16(message + 2, flags | MVPN_DNS_QR | MVPN_DNS_RA);
    mvpn_store32(message + 6, 0);
    mvpn_store16(message + 10, 0);
    return MVPN_DNS_HEADER + question->len;
}

void mvpn_dns_age(uint8_t *message, uint32_t len, uint32_t seconds)
{
    mvpn_reader r = mvpn_reader_init(mvpn_bytes_of(message, len));
    mvpn_dns_question question;
    record rr;
    (void)mvpn_read_raw(&r, MVPN_DNS_HEADER);
    if (r.failed || !read_question(&r, &question)) {
        return;
    }
    while (mvpn_reader_left(&r) > 0 && read_record(&r, message, &rr)) {
        if (rr.type != MVPN_DNS_TYPE_OPT) { /* whose "time to live" are flags */
            mvpn_store32(message + rr.ttl_at, rr.ttl > seconds ? rr.ttl - seconds : 0);
        }
    }
}
