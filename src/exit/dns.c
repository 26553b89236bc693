#include "exit/dns.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cursor.h"
#include "base/error.h"
#include "base/list.h"

#define HEADER_LEN 12
#define NAME_MAX_LEN 255 /* RFC 1035 §3.1 */
#define QUESTION_MAX (NAME_MAX_LEN + 4)
#define LABEL_MAX 63
#define TYPE_OPT 41
#define PORT_DNS 53

#define FLAG_QR 0x8000
#define FLAGS_OPCODE 0x7800

/* Draws of a free id: with 1 of 16 in use, all of them fail once in 2^32. */
#define ID_TRIES 8

typedef struct question {
    mvpn_list link; /* in `open`, oldest first, or in `free` */
    mvpn_time deadline;
    mvpn_dns_client client;
    uint16_t client_id;
    uint16_t id;
    uint8_t upstream;
    uint16_t len;
    uint8_t bytes[QUESTION_MAX]; /* name in lower case, type, class */
} question;

struct mvpn_dns {
    mvpn_addr upstreams[MVPN_DNS_UPSTREAMS_MAX];
    uint8_t upstream_count;
    uint8_t current;
    uint32_t open_count;
    mvpn_list open;
    mvpn_list free;
    question *by_id[65536];
    question all[MVPN_DNS_OPEN_MAX];
};

int mvpn_dns_new(const mvpn_addr *upstreams, size_t count, mvpn_dns **ret_dns)
{
    if (count == 0 || count > MVPN_DNS_UPSTREAMS_MAX) {
        return MVPN_E_INVAL;
    }
    mvpn_dns *dns = calloc(1, sizeof(*dns));
    if (dns == NULL) {
        return MVPN_E_NOMEM;
    }
    for (size_t i = 0; i < count; i++) {
        dns->upstreams[i] = upstreams[i];
        if (upstreams[i].port == 0) {
            dns->upstreams[i].port = PORT_DNS;
        }
    }
    dns->upstream_count = (uint8_t)count;
    mvpn_list_init(&dns->open);
    mvpn_list_init(&dns->free);
    for (size_t i = 0; i < MVPN_DNS_OPEN_MAX; i++) {
        mvpn_list_append(&dns->free, &dns->all[i].link);
    }
    *ret_dns = dns;
    return 0;
}

void mvpn_dns_free(mvpn_dns *dns)
{
    free(dns);
}

static void close_question(mvpn_dns *dns, question *q)
{
    dns->by_id[q->id] = NULL;
    dns->open_count--;
    mvpn_list_remove(&q->link);
    mvpn_list_append(&dns->free, &q->link);
}

/*
 * Read one question: a name without compression, type, class (RFC 1035 §4.1.2). Writes it with the
 * name in lower case, since names compare without case (§2.3.3). Returns its length or 0.
 */
static uint16_t read_question(mvpn_reader *r, uint8_t out[static QUESTION_MAX])
{
    mvpn_writer w = mvpn_writer_init(out, QUESTION_MAX);
    for (;;) {
        uint8_t n = mvpn_read8(r);
        if (n > LABEL_MAX) {
            return 0;
        }
        mvpn_write8(&w, n);
        if (n == 0) {
            break;
        }
        for (uint8_t i = 0; i < n; i++) {
            uint8_t c = mvpn_read8(r);
            mvpn_write8(&w, (uint8_t)(c >= 'A' && c <= 'Z' ? c + 32 : c));
        }
        if (r->failed || mvpn_writer_len(&w) >= NAME_MAX_LEN) {
            return 0;
        }
    }
    mvpn_write32(&w, mvpn_read32(r));
    return r->failed || w.failed ? 0 : (uint16_t)mvpn_writer_len(&w);
}

/* An EDNS record (RFC 6891 §6.1.2) that ends the message; emptied in place. */
static int clean_edns(mvpn_reader *r, uint8_t *payload, uint32_t *len)
{
    size_t at = (size_t)(r->p - payload);
    uint8_t name = mvpn_read8(r);
    uint16_t type = mvpn_read16(r);
    uint16_t size = mvpn_read16(r);
    (void)mvpn_read32(r); /* extended code, version, DO: kept */
    (void)mvpn_read_raw(r, mvpn_read16(r));
    if (!mvpn_reader_done(r) || name != 0 || type != TYPE_OPT) {
        return MVPN_E_FORMAT;
    }
    mvpn_store16(payload + at + 3, MVPN_MIN(size, (uint16_t)MVPN_DNS_UDP_MAX));
    mvpn_store16(payload + at + 9, 0);
    *len = (uint32_t)at + 11;
    return 0;
}

/* Strict: a query has one question, nothing but an EDNS record behind it, and no bytes left over.
 */
static int parse_query(uint8_t *payload, uint32_t *len, uint8_t out[static QUESTION_MAX],
                       uint16_t *ret_len)
{
    mvpn_reader r = mvpn_reader_init(mvpn_bytes_of(payload, *len));
    (void)mvpn_read16(&r);
    uint16_t flags = mvpn_read16(&r);
    uint16_t questions = mvpn_read16(&r);
    uint32_t answers = mvpn_read32(&r); /* answer and authority counts */
    uint16_t additional = mvpn_read16(&r);
    if (r.failed || (flags & (FLAG_QR | FLAGS_OPCODE)) != 0 || questions != 1 || answers != 0 ||
        additional > 1) {
        return MVPN_E_FORMAT;
    }
    *ret_len = read_question(&r, out);
    if (*ret_len == 0) {
        return MVPN_E_FORMAT;
    }
    if (additional == 1) {
        return clean_edns(&r, payload, len);
    }
    return mvpn_reader_done(&r) ? 0 : MVPN_E_FORMAT;
}

static bool draw_id(mvpn_dns *dns, mvpn_rng *rng, uint16_t *ret_id)
{
    for (int i = 0; i < ID_TRIES; i++) {
        uint16_t id = (uint16_t)mvpn_rng_u32(rng);
        if (dns->by_id[id] == NULL) {
            *ret_id = id;
            return true;
        }
    }
    return false;
}

int mvpn_dns_query(mvpn_dns *dns, mvpn_rng *rng, const mvpn_dns_client *client,
                   uint32_t *open_count, uint8_t *payload, uint32_t *len, mvpn_time now,
                   mvpn_addr *ret_upstream)
{
    uint8_t bytes[QUESTION_MAX];
    uint16_t bytes_len, id;
    int r = parse_query(payload, len, bytes, &bytes_len);
    if (r != 0) {
        return r;
    }
    if (*open_count >= MVPN_DNS_SESSION_MAX || mvpn_list_is_empty(&dns->free) ||
        !draw_id(dns, rng, &id)) {
        return MVPN_E_LIMIT;
    }
    question *q = MVPN_CONTAINER_OF(mvpn_list_pop(&dns->free), question, link);
    q->deadline = now + MVPN_DNS_TIMEOUT;
    q->client = *client;
    q->client_id = mvpn_load16(payload);
    q->id = id;
    q->upstream = dns->current;
    q->len = bytes_len;
    memcpy(q->bytes, bytes, bytes_len);
    mvpn_list_append(&dns->open, &q->link);
    dns->by_id[id] = q;
    dns->open_count++;
    (*open_count)++;
    mvpn_store16(payload, id);
    *ret_upstream = dns->upstreams[dns->current];
    return 0;
}

int mvpn_dns_answer(mvpn_dns *dns, const mvpn_addr *from, uint8_t *payload, uint32_t len,
                    mvpn_dns_client *ret_client)
{
    uint8_t bytes[QUESTION_MAX];
    mvpn_reader r = mvpn_reader_init(mvpn_bytes_of(payload, len));
    uint16_t id = mvpn_read16(&r);
    uint16_t flags = mvpn_read16(&r);
    uint16_t questions = mvpn_read16(&r);
    (void)mvpn_read_raw(&r, 6);
    if (r.failed || (flags & FLAG_QR) == 0 || (flags & FLAGS_OPCODE) != 0 || questions != 1) {
        return MVPN_E_FORMAT;
    }
    uint16_t bytes_len = read_question(&r, bytes);
    if (bytes_len == 0) {
        return MVPN_E_FORMAT;
    }
    question *q = dns->by_id[id];
    if (q == NULL || !mvpn_addr_eq(from, &dns->upstreams[q->upstream]) || q->len != bytes_len ||
        memcmp(q->bytes, bytes, bytes_len) != 0) {
        return MVPN_E_UNKNOWN;
    }
    mvpn_store16(payload, q->client_id);
    *ret_client = q->client;
    close_question(dns, q);
    return 0;
}

bool mvpn_dns_pull_expired(mvpn_dns *dns, mvpn_time now, mvpn_dns_client *ret_client)
{
    if (mvpn_dns_deadline(dns) > now) {
        return false;
    }
    question *q = MVPN_CONTAINER_OF(dns->open.next, question, link);
    /* The upstream in use did not answer: the next questions go to the next one. */
    if (q->upstream == dns->current) {
        dns->current = (uint8_t)((dns->current + 1) % dns->upstream_count);
    }
    *ret_client = q->client;
    close_question(dns, q);
    return true;
}

void mvpn_dns_forget(mvpn_dns *dns, uint32_t session)
{
    MVPN_LIST_FOREACH_SAFE(it, tmp, &dns->open)
    {
        question *q = MVPN_CONTAINER_OF(it, question, link);
        if (q->client.session == session) {
            close_question(dns, q);
        }
    }
}

mvpn_time mvpn_dns_deadline(const mvpn_dns *dns)
{
    if (mvpn_list_is_empty(&dns->open)) {
        return MVPN_TIME_NEVER;
    }
    return MVPN_CONTAINER_OF(dns->open.next, question, link)->deadline;
}

uint32_t mvpn_dns_open_count(const mvpn_dns *dns)
{
    return dns->open_count;
}
