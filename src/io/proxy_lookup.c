#include "io/proxy_lookup.h"

#include <stdlib.h>
#include <string.h>

#include <ares.h>
#include <netinet/in.h>
#include <arpa/inet.h>

#include "base/error.h"
#include "io/random.h"
#include "network/ip/inner.h"

#define CLASS_IN 1
#define TYPE_A 1
#define TYPE_AAAA 28
#define PORT_DNS 53
#define ANSWER_MAX 1232 /* of EDNS: fits a packet */
#define TRIES 4
#define FIRST_WAIT MVPN_MS(1000) /* doubled with every try */
/* When one family has its answer, the other one is waited for so long. (RFC 8305 §3 has 50 ms) */
#define OTHER_WAIT MVPN_MS(300)

typedef struct query {
    mvpn_proxy_lookup *lookup;
    int type;
    uint16_t id;
    unsigned char *bytes; /* c-ares's */
    int len;
    mvpn_datagrams *socket;
    bool is_over;
    mvpn_addr addrs[MVPN_PROXY_ADDRS_MAX];
    size_t count;
} query;

struct mvpn_proxy_lookup {
    mvpn_netstack *stack;
    query queries[2]; /* AAAA, A */
    unsigned tries;
    mvpn_time sent, answered;
    bool is_told;
    mvpn_proxy_lookup_fn *fn;
    void *ctx;
};

/* IPv6 and IPv4 in turns. */
static size_t merge(const mvpn_proxy_lookup *l, mvpn_addr *ret)
{
    size_t count = 0;
    for (size_t i = 0; i < MVPN_PROXY_ADDRS_MAX; i++) {
        for (size_t q = 0; q < 2 && count < MVPN_PROXY_ADDRS_MAX; q++) {
            if (i < l->queries[q].count) {
                ret[count++] = l->queries[q].addrs[i];
            }
        }
    }
    return count;
}

static void finish(mvpn_proxy_lookup *l, int error)
{
    mvpn_addr addrs[MVPN_PROXY_ADDRS_MAX];
    size_t count = merge(l, addrs);
    l->is_told = true;
    l->fn(l->ctx, count > 0 ? 0 : error, addrs, count);
}

static void take_v4(query *q, const mvpn_bytes *data)
{
    struct ares_addrttl found[MVPN_PROXY_ADDRS_MAX];
    int n = MVPN_PROXY_ADDRS_MAX;
    if (ares_parse_a_reply(data->p, (int)data->n, NULL, found, &n) != ARES_SUCCESS) {
        return;
    }
    for (int i = 0; i < n; i++) {
        q->addrs[q->count] = (mvpn_addr){.family = 4};
        memcpy(q->addrs[q->count++].ip, &found[i].ipaddr, 4);
    }
}

static void take_v6(query *q, const mvpn_bytes *data)
{
    struct ares_addr6ttl found[MVPN_PROXY_ADDRS_MAX];
    int n = MVPN_PROXY_ADDRS_MAX;
    if (ares_parse_aaaa_reply(data->p, (int)data->n, NULL, found, &n) != ARES_SUCCESS) {
        return;
    }
    for (int i = 0; i < n; i++) {
        q->addrs[q->count] = (mvpn_addr){.family = 6};
        memcpy(q->addrs[q->count++].ip, &found[i].ip6addr, 16);
    }
}

/* The question comes back as it was asked: id, and name, type and class behind the header. */
static bool is_answer(const query *q, const mvpn_addr *from, const mvpn_bytes *data)
{
    enum { HEADER = 12, TYPE_AND_CLASS = 4, RESPONSE = 0x80 };
    mvpn_addr server = mvpn_inner_gateway_addr(4);
    size_t end = HEADER;
    while (end < (size_t)q->len && q->bytes[end] != 0) {
        end += q->bytes[end] + 1u;
    }
    end += 1 + TYPE_AND_CLASS;
    return mvpn_addr_ip_eq(from, &server) && from->port == PORT_DNS && end <= (size_t)q->len &&
           data->n >= end && mvpn_load16(data->p) == q->id && (data->p[2] & RESPONSE) != 0 &&
           memcmp(data->p + HEADER, q->bytes + HEADER, end - HEADER) == 0;
}

static void on_answer(void *ctx, const mvpn_addr *from, mvpn_bytes data)
{
    query *q = ctx;
    mvpn_proxy_lookup *l = q->lookup;
    if (q->is_over || l->is_told || !is_answer(q, from, &data)) {
        return;
    }
    q->is_over = true;
    if (q->type == TYPE_A) {
        take_v4(q, &data);
    } else {
        take_v6(q, &data);
    }
    if (l->queries[0].is_over && l->queries[1].is_over) {
        finish(l, MVPN_E_UNKNOWN);
    }
}

static void send_all(mvpn_proxy_lookup *l, mvpn_time now)
{
    mvpn_addr server = mvpn_inner_gateway_addr(4);
    server.port = PORT_DNS;
    for (size_t i = 0; i < 2; i++) {
        const query *q = &l->queries[i];
        if (!q->is_over) {
            (void)mvpn_datagrams_send(q->socket, &server, (mvpn_bytes){q->bytes, (size_t)q->len});
        }
    }
    l->tries++;
    l->sent = now;
}

int mvpn_proxy_lookup_start(mvpn_netstack *stack, unsigned lane, const char *name, mvpn_time now,
                            mvpn_proxy_lookup_fn *fn, void *ctx, mvpn_proxy_lookup **ret)
{
    mvpn_proxy_lookup *l = calloc(1, sizeof(*l));
    int r = l == NULL ? MVPN_E_NOMEM : 0;
    for (size_t i = 0; r == 0 && i < 2; i++) {
        query *q = &l->queries[i];
        q->lookup = l;
        q->type = i == 0 ? TYPE_AAAA : TYPE_A;
        r = mvpn_random_bytes((uint8_t *)&q->id, sizeof(q->id));
        if (r == 0 && ares_create_query(name, CLASS_IN, q->type, q->id, 1, &q->bytes, &q->len,
                                        ANSWER_MAX) != ARES_SUCCESS) {
            r = MVPN_E_FORMAT;
        }
        r = r != 0 ? r : mvpn_datagrams_open(stack, lane, 4, on_answer, q, &q->socket);
    }
    if (r != 0) {
        mvpn_proxy_lookup_free(l);
        return r;
    }
    l->stack = stack;
    l->fn = fn;
    l->ctx = ctx;
    send_all(l, now);
    *ret = l;
    return 0;
}

void mvpn_proxy_lookup_tick(mvpn_proxy_lookup *l, mvpn_time now)
{
    const query *six = &l->queries[0], *four = &l->queries[1];
    if (l->is_told) {
        return;
    }
    if ((six->is_over && six->count > 0) || (four->is_over && four->count > 0)) {
        if (l->answered == 0) {
            l->answered = now;
        } else if (now - l->answered >= OTHER_WAIT) {
            finish(l, MVPN_E_TIMEOUT);
            return;
        }
    }
    if (now - l->sent < FIRST_WAIT << (l->tries - 1)) {
        return;
    }
    if (l->tries == TRIES) {
        finish(l, MVPN_E_TIMEOUT);
    } else {
        send_all(l, now);
    }
}

void mvpn_proxy_lookup_free(mvpn_proxy_lookup *l)
{
    if (l == NULL) {
        return;
    }
    for (size_t i = 0; i < 2; i++) {
        mvpn_datagrams_free(l->queries[i].socket);
        ares_free_string(l->queries[i].bytes);
    }
    free(l);
}
