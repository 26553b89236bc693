#include "network/p2p/stun_server.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/bucket.h"
#include "base/error.h"
#include "crypto/hash.h"

/* Blocks that share a cell share its rate; 32 KiB. A power of two. */
#define CELLS 4096
#define CELL_COST (MVPN_US_PER_S / MVPN_STUN_BLOCK_RATE)
#define CELL_BURST (CELL_COST * (MVPN_STUN_BLOCK_BURST - 1))
#define FINGERPRINT_LEN 8
#define ERROR_LEN 8
#define NO_LIMIT MVPN_STUN_ANSWER_MAX

struct mvpn_stun_server {
    mvpn_stun_server_config config;
    mvpn_siphash_key secret; /* sources choose their blocks */
    mvpn_bucket total;
    mvpn_stun_server_stats stats;
    /* When the block's debt is paid (a leaky bucket that is one number). */
    mvpn_time paid[CELLS];
};

static bool is_any(const mvpn_addr *a)
{
    static const uint8_t zero[16];
    return memcmp(a->ip, zero, sizeof(zero)) == 0;
}

static bool is_good(const mvpn_stun_server_config *c)
{
    const mvpn_addr *p = &c->primary, *a = &c->alternate;
    if (mvpn_addr_ip_len(p) == 0 || p->port == 0) {
        return false;
    }
    /* RFC 5780 §7.4: OTHER-ADDRESS differs in both. */
    return a->family == 0 || (a->family == p->family && a->port != 0 && a->port != p->port &&
                              !mvpn_addr_ip_eq(a, p) && !is_any(a) && !is_any(p));
}

int mvpn_stun_server_new(mvpn_stun_server **ret, const mvpn_stun_server_config *config,
                         mvpn_rng *rng)
{
    if (!is_good(config)) {
        return MVPN_E_INVAL;
    }
    mvpn_stun_server *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return MVPN_E_NOMEM;
    }
    s->config = *config;
    mvpn_rng_bytes(rng, s->secret.b, sizeof(s->secret.b));
    mvpn_bucket_init(&s->total, MVPN_STUN_TOTAL_RATE, MVPN_STUN_TOTAL_BURST, 0);
    *ret = s;
    return 0;
}

void mvpn_stun_server_free(mvpn_stun_server *s)
{
    free(s);
}

const mvpn_stun_server_stats *mvpn_stun_server_get_stats(const mvpn_stun_server *s)
{
    return &s->stats;
}

mvpn_addr mvpn_stun_server_address(const mvpn_stun_server *s, unsigned socket)
{
    const mvpn_stun_server_config *c = &s->config;
    MVPN_ASSERT(socket < MVPN_STUN_SOCKETS);
    if (socket > 0 && c->alternate.family == 0) {
        return (mvpn_addr){0};
    }
    mvpn_addr a = (socket & 2) != 0 ? c->alternate : c->primary;
    a.port = (socket & 1) != 0 ? c->alternate.port : c->primary.port;
    return a;
}

/* ---- who may be answered ---- */

/* A client has another address than we: no server answers a server, least of all itself. */
static bool is_client(const mvpn_stun_server *s, const mvpn_addr *from)
{
    if (from->family != s->config.primary.family || from->port == 0 || is_any(from)) {
        return false;
    }
    for (unsigned i = 0; i < MVPN_STUN_SOCKETS; i++) {
        mvpn_addr own = mvpn_stun_server_address(s, i);
        if (mvpn_addr_eq(&own, from)) {
            return false;
        }
    }
    return true;
}

static bool take(mvpn_stun_server *s, const mvpn_addr *from, mvpn_time now)
{
    size_t block_len = from->family == 4 ? 3 : 6;
    mvpn_time *paid = &s->paid[mvpn_siphash(&s->secret, from->ip, block_len) & (CELLS - 1)];
    mvpn_time from_when = MVPN_MAX(*paid, now);
    if (from_when - now > CELL_BURST || !mvpn_bucket_take(&s->total, 1, now)) {
        return false;
    }
    *paid = from_when + CELL_COST;
    return true;
}

/* ---- what is answered ---- */

typedef struct room {
    mvpn_stun_writer *w;
    size_t left;
} room;

static void put_if_fits(room *r, enum mvpn_stun_attribute type, const mvpn_addr *addr)
{
    size_t n = mvpn_stun_address_len(addr);
    if (n <= r->left) {
        mvpn_stun_put_address(r->w, type, addr);
        r->left -= n;
    }
}

/* RFC 8489 §6.3.1: an error names what was not understood. */
static int refuse(mvpn_stun_writer *w, const uint16_t *types, size_t count, size_t max)
{
    size_t n = MVPN_MIN(count, MVPN_STUN_UNKNOWN_MAX);
    if (MVPN_STUN_HEADER_LEN + ERROR_LEN + 4 + ((2 * n + 3) & ~(size_t)3) > max) {
        return MVPN_E_TOO_BIG;
    }
    mvpn_stun_put_error(w, MVPN_STUN_UNKNOWN_ATTRIBUTE);
    mvpn_stun_put_unknown(w, types, n);
    return 0;
}

static int succeed(const mvpn_stun_server *s, const mvpn_stun_message *m, mvpn_stun_writer *w,
                   const mvpn_stun_answer *a, size_t max, size_t asked)
{
    size_t least = MVPN_STUN_HEADER_LEN + mvpn_stun_address_len(&a->to);
    if (least > max) {
        return MVPN_E_TOO_BIG;
    }
    room r = {w, max - least};
    bool has_fingerprint = m->has_fingerprint && r.left >= FINGERPRINT_LEN;
    if (has_fingerprint) {
        r.left -= FINGERPRINT_LEN;
    }
    mvpn_stun_put_address(w, MVPN_STUN_XOR_MAPPED_ADDRESS, &a->to);
    mvpn_addr origin = mvpn_stun_server_address(s, a->socket);
    if (s->config.alternate.family != 0) {
        mvpn_addr other = mvpn_stun_server_address(s, MVPN_STUN_SOCKETS - 1);
        put_if_fits(&r, MVPN_STUN_OTHER_ADDRESS, &other);
    }
    if (!is_any(&origin)) {
        put_if_fits(&r, MVPN_STUN_RESPONSE_ORIGIN, &origin);
    }
    /* For clients of RFC 3489, which know no other; never at the cost of a longer answer. */
    if (max - r.left + mvpn_stun_address_len(&a->to) <= asked) {
        put_if_fits(&r, MVPN_STUN_MAPPED_ADDRESS, &a->to);
    }
    if (has_fingerprint) {
        mvpn_stun_put_fingerprint(w);
    }
    return 0;
}

/* `asked` is the length of the request, `max` what the answer may have. */
static int answer(const mvpn_stun_server *s, const mvpn_stun_message *m, mvpn_stun_answer *a,
                  size_t max, size_t asked)
{
    static const uint16_t change[] = {MVPN_STUN_CHANGE_REQUEST};
    bool has_alternate = s->config.alternate.family != 0;
    bool refuses = m->unknown_count > 0 || (m->has_change && !has_alternate);
    mvpn_stun_writer w;
    mvpn_stun_begin(&w, a->bytes, MVPN_MIN(max, sizeof(a->bytes)),
                    refuses ? MVPN_STUN_ERROR : MVPN_STUN_SUCCESS, MVPN_STUN_BINDING,
                    m->transaction);
    int err;
    if (m->unknown_count > 0) {
        err = refuse(&w, m->unknown, m->unknown_count, max);
    } else if (refuses) {
        err = refuse(&w, change, 1, max); /* RFC 5780 §6.1 */
    } else {
        a->socket ^= (m->change_ip ? 2u : 0) | (m->change_port ? 1u : 0);
        err = succeed(s, m, &w, a, max, asked);
    }
    a->length = mvpn_stun_end(&w);
    return err != 0 ? err : refuses ? MVPN_E_REFUSED : 0;
}

int mvpn_stun_server_recv(mvpn_stun_server *s, unsigned socket, const mvpn_addr *from,
                          mvpn_bytes in, mvpn_time now, mvpn_stun_answer *ret)
{
    mvpn_stun_message m;
    mvpn_stun_answer a = {.socket = socket, .to = *from};
    MVPN_ASSERT(socket < MVPN_STUN_SOCKETS);
    int err = mvpn_stun_decode(&m, in);
    if (err == 0 && (m.class != MVPN_STUN_REQUEST || m.method != MVPN_STUN_BINDING)) {
        err = MVPN_E_UNKNOWN;
    }
    if (err == 0 && !is_client(s, from)) {
        err = MVPN_E_STATE;
    }
    if (err != 0) {
        s->stats.malformed++;
        return err;
    }
    size_t max = s->config.is_strict ? MVPN_MIN(in.n, NO_LIMIT) : NO_LIMIT;
    err = answer(s, &m, &a, max, in.n);
    if (err == MVPN_E_TOO_BIG) {
        s->stats.too_short++;
        return err;
    }
    if (!take(s, from, now)) {
        s->stats.limited++;
        return MVPN_E_LIMIT;
    }
    s->stats.answered += err == 0;
    s->stats.refused += err == MVPN_E_REFUSED;
    MVPN_ASSERT(a.length > 0 && (!s->config.is_strict || a.length <= in.n));
    *ret = a;
    return 0;
}
