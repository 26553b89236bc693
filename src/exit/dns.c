#include "exit/dns.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/error.h"
#include "crypto/keys.h"
#include "exit/dns_message.h"

#define PORT_DNS 53
/* Draws of a free id: with 1 of 16 in use, all of them fail once in 2^32. */
#define ID_TRIES 8
/* Flags of a query on which its answer may depend. */
#define KEY_FLAGS (MVPN_DNS_RD | MVPN_DNS_AD | MVPN_DNS_CD)

/* What two questions must share to have one answer. */
typedef struct key {
    uint16_t flags;
    bool has_edns;
    uint32_t edns;
    uint16_t len;
    uint8_t question[MVPN_DNS_QUESTION_MAX];
} key;

typedef struct question {
    mvpn_list link; /* in `open`, oldest first, or in `free` */
    mvpn_time deadline;
    mvpn_dns_client client;
    mvpn_dns_session *session;
    uint16_t client_id;
    uint16_t id;
    uint8_t upstream;
    key key;
} question;

typedef struct cached {
    mvpn_list link; /* of its session, or in `free` */
    mvpn_list age;  /* of all in use, oldest first */
    mvpn_dns_session *session;
    mvpn_time stored, until;
    key key;
    uint16_t len;
    uint8_t answer[MVPN_DNS_CACHED_LEN];
} cached;

struct mvpn_dns {
    mvpn_addr upstreams[MVPN_DNS_UPSTREAMS_MAX];
    uint8_t upstream_count;
    uint8_t current;
    uint32_t open_count;
    mvpn_list open;
    mvpn_list free;
    question *by_id[65536];
    question all[MVPN_DNS_OPEN_MAX];
    mvpn_list cache_free;
    mvpn_list cache_age;
    uint32_t cache_touched; /* the first ones of `cache`; the rest was never used */
    cached cache[MVPN_DNS_CACHE_MAX];
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
    mvpn_list_init(&dns->cache_free);
    mvpn_list_init(&dns->cache_age);
    for (size_t i = 0; i < MVPN_DNS_OPEN_MAX; i++) {
        mvpn_list_append(&dns->free, &dns->all[i].link);
    }
    *ret_dns = dns;
    return 0;
}

void mvpn_dns_free(mvpn_dns *dns)
{
    if (dns != NULL) {
        /* Only what was used: the rest is not even mapped. */
        mvpn_wipe(dns->cache, dns->cache_touched * sizeof(dns->cache[0]));
        mvpn_wipe(dns->all, sizeof(dns->all));
        free(dns);
    }
}

void mvpn_dns_session_init(mvpn_dns_session *session)
{
    *session = (mvpn_dns_session){.open_count = 0};
    mvpn_list_init(&session->cached);
}

/* ---- cache ---- */

static bool key_is(const key *a, const key *b)
{
    return a->len == b->len && a->flags == b->flags && a->has_edns == b->has_edns &&
           a->edns == b->edns && memcmp(a->question, b->question, a->len) == 0;
}

static void cache_drop(mvpn_dns *dns, cached *c)
{
    c->session->cached_count--;
    mvpn_list_remove(&c->link);
    mvpn_list_remove(&c->age);
    mvpn_wipe(c, sizeof(*c));
    mvpn_list_append(&dns->cache_free, &c->link);
}

static cached *cache_find(const mvpn_dns_session *session, const key *k)
{
    MVPN_LIST_FOREACH(it, &session->cached)
    {
        cached *c = MVPN_CONTAINER_OF(it, cached, link);
        if (key_is(&c->key, k)) {
            return c;
        }
    }
    return NULL;
}

/* A free place; else the session's oldest, or the oldest of all. */
static cached *cache_take(mvpn_dns *dns, mvpn_dns_session *session)
{
    if (session->cached_count == MVPN_DNS_CACHE_SESSION_MAX) {
        cache_drop(dns, MVPN_CONTAINER_OF(session->cached.next, cached, link));
    }
    if (mvpn_list_is_empty(&dns->cache_free) && dns->cache_touched < MVPN_DNS_CACHE_MAX) {
        return &dns->cache[dns->cache_touched++];
    }
    if (mvpn_list_is_empty(&dns->cache_free)) {
        cache_drop(dns, MVPN_CONTAINER_OF(dns->cache_age.next, cached, age));
    }
    return MVPN_CONTAINER_OF(mvpn_list_pop(&dns->cache_free), cached, link);
}

static void cache_put(mvpn_dns *dns, const question *q, const uint8_t *message, uint32_t len,
                      uint32_t ttl, mvpn_time now)
{
    cached *c = cache_find(q->session, &q->key);
    if (c != NULL) {
        cache_drop(dns, c);
    }
    if (ttl == 0 || len > MVPN_DNS_CACHED_LEN) {
        return;
    }
    c = cache_take(dns, q->session);
    c->session = q->session;
    c->stored = now;
    c->until = now + MVPN_S(ttl);
    c->key = q->key;
    c->len = (uint16_t)len;
    memcpy(c->answer, message, len);
    mvpn_list_append(&q->session->cached, &c->link);
    mvpn_list_append(&dns->cache_age, &c->age);
    q->session->cached_count++;
}

/* Over the query, whose id and spelling of the name stay. */
static bool cache_answer(mvpn_dns *dns, mvpn_dns_session *session, const key *k, uint8_t *message,
                         uint32_t *len, uint32_t size, mvpn_time now)
{
    cached *c = cache_find(session, k);
    if (c != NULL && c->until <= now) {
        cache_drop(dns, c);
        c = NULL;
    }
    if (c == NULL || c->len > size) {
        return false;
    }
    size_t after = MVPN_DNS_HEADER + (size_t)k->len;
    memcpy(message + 2, c->answer + 2, MVPN_DNS_HEADER - 2);
    memcpy(message + after, c->answer + after, c->len - after);
    *len = c->len;
    mvpn_dns_age(message, c->len, (uint32_t)((now - c->stored) / MVPN_US_PER_S));
    return true;
}

/* ---- questions ---- */

static void close_question(mvpn_dns *dns, question *q)
{
    dns->by_id[q->id] = NULL;
    dns->open_count--;
    q->session->open_count--;
    mvpn_list_remove(&q->link);
    mvpn_wipe(&q->key, sizeof(q->key));
    mvpn_list_append(&dns->free, &q->link);
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

static key key_of(const mvpn_dns_query_info *info)
{
    key k = {.flags = info->flags & KEY_FLAGS, .has_edns = info->has_edns, .edns = info->edns};
    k.len = info->question.len;
    memcpy(k.question, info->question.bytes, k.len);
    return k;
}

int mvpn_dns_query(mvpn_dns *dns, mvpn_rng *rng, const mvpn_dns_client *client,
                   mvpn_dns_session *session, bool has_v6, uint8_t *message, uint32_t *len,
                   uint32_t size, mvpn_time now, mvpn_addr *ret_upstream)
{
    mvpn_dns_query_info info;
    uint16_t id;
    int r = mvpn_dns_query_read(message, len, MVPN_DNS_UDP_MAX, &info);
    if (r != 0) {
        return r;
    }
    if (info.question.type == MVPN_DNS_TYPE_AAAA && !has_v6) {
        *len = mvpn_dns_make_empty(message, &info.question);
        return MVPN_DNS_ANSWERED;
    }
    key k = key_of(&info);
    if (cache_answer(dns, session, &k, message, len, size, now)) {
        return MVPN_DNS_ANSWERED;
    }
    if (session->open_count >= MVPN_DNS_SESSION_MAX || mvpn_list_is_empty(&dns->free) ||
        !draw_id(dns, rng, &id)) {
        return MVPN_E_LIMIT;
    }
    question *q = MVPN_CONTAINER_OF(mvpn_list_pop(&dns->free), question, link);
    q->deadline = now + MVPN_DNS_TIMEOUT;
    q->client = *client;
    q->session = session;
    q->client_id = mvpn_load16(message);
    q->id = id;
    q->upstream = dns->current;
    q->key = k;
    mvpn_list_append(&dns->open, &q->link);
    dns->by_id[id] = q;
    dns->open_count++;
    session->open_count++;
    mvpn_store16(message, id);
    *ret_upstream = dns->upstreams[dns->current];
    return 0;
}

int mvpn_dns_answer(mvpn_dns *dns, const mvpn_addr *from, bool is_stream, uint8_t *message,
                    uint32_t *len, mvpn_time now, mvpn_dns_client *ret_client)
{
    mvpn_dns_answer_info info;
    int r = mvpn_dns_answer_read(message, *len, &info);
    if (r != 0) {
        return r;
    }
    question *q = dns->by_id[mvpn_load16(message)];
    if (q == NULL || q->client.is_stream != is_stream ||
        !mvpn_addr_eq(from, &dns->upstreams[q->upstream]) || q->key.len != info.question.len ||
        memcmp(q->key.question, info.question.bytes, q->key.len) != 0) {
        return MVPN_E_UNKNOWN;
    }
    bool is_cut = (info.flags & MVPN_DNS_TC) != 0;
    if (is_cut || info.has_private) {
        *len = mvpn_dns_make_empty(message, &info.question);
        if (is_cut) { /* the client asks again by TCP */
            mvpn_store16(message + 2, mvpn_load16(message + 2) | MVPN_DNS_TC);
        }
    } else {
        cache_put(dns, q, message, *len, info.ttl, now);
    }
    mvpn_store16(message, q->client_id);
    *ret_client = q->client;
    close_question(dns, q);
    return !is_cut && info.has_private ? MVPN_DNS_EMPTIED : 0;
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

void mvpn_dns_forget(mvpn_dns *dns, mvpn_dns_session *session)
{
    MVPN_LIST_FOREACH_SAFE(it, tmp, &dns->open)
    {
        question *q = MVPN_CONTAINER_OF(it, question, link);
        if (session->open_count > 0 && q->session == session) {
            close_question(dns, q);
        }
    }
    while (!mvpn_list_is_empty(&session->cached)) {
        cache_drop(dns, MVPN_CONTAINER_OF(session->cached.next, cached, link));
    }
    MVPN_ASSERT(session->open_count == 0 && session->cached_count == 0);
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
