#include "io/privileged.h"

#include <string.h>

#include "base/assert.h"
#include "base/cursor.h"
#include "base/error.h"
#include "exit/policy.h"

#define REQUEST_MAGIC 0x4d565071u /* "MVPq" */
#define REPLY_MAGIC 0x4d565072u   /* "MVPr" */
#define HAS_TUN 1u
#define HAS_ADDRESSES 2u
#define IS_IN_FORCE 4u
#define HAS_LOCKDOWN 8u
#define ALLOWS_LAN 16u
#define FLAGS_ALL 31u

static bool is_op(unsigned op)
{
    return op >= MVPN_PRIVILEGED_SETUP && op <= MVPN_PRIVILEGED_OP_LAST;
}

/* The worker may say what happened on the network, and that it was asked to end; the rest the
 * helper sees for itself. */
static bool is_event(unsigned event)
{
    return event == MVPN_PROTECT_ESTABLISHED || event == MVPN_PROTECT_LOST ||
           event == MVPN_PROTECT_DOWN;
}

/* An address that is not there is zeros: one encoding. */
static void write_ip(mvpn_writer *w, const mvpn_addr *addr, size_t len)
{
    if (addr->family != 0) {
        mvpn_write_bytes(w, addr->ip, len);
    } else {
        mvpn_write_zero(w, len);
    }
}

static bool read_ip(mvpn_reader *r, bool is_there, uint8_t family, mvpn_addr *ret)
{
    static const uint8_t zero[16];
    mvpn_addr addr = {.family = family};
    size_t len = mvpn_addr_ip_len(&addr);
    mvpn_read_copy(r, addr.ip, len);
    if (is_there) {
        *ret = addr;
    }
    return is_there || memcmp(addr.ip, zero, len) == 0;
}

void mvpn_privileged_pair_encode(const mvpn_addr *v4, const mvpn_addr *v6,
                                 uint8_t out[static MVPN_PRIVILEGED_PAIR_LEN])
{
    mvpn_writer w = mvpn_writer_init(out, MVPN_PRIVILEGED_PAIR_LEN);
    write_ip(&w, v4, 4);
    write_ip(&w, v6, 16);
    MVPN_ASSERT(!w.failed && mvpn_writer_len(&w) == MVPN_PRIVILEGED_PAIR_LEN);
}

static mvpn_addr addr_or_none(const uint8_t *ip, uint8_t family)
{
    mvpn_addr addr = {.family = family};
    mvpn_addr none = {.family = 0};
    size_t len = mvpn_addr_ip_len(&addr);
    memcpy(addr.ip, ip, len);
    return memcmp(addr.ip, none.ip, len) != 0 ? addr : none;
}

void mvpn_privileged_pair_decode(const uint8_t in[static MVPN_PRIVILEGED_PAIR_LEN],
                                 mvpn_addr *ret_v4, mvpn_addr *ret_v6)
{
    *ret_v4 = addr_or_none(in, 4);
    *ret_v6 = addr_or_none(in + 4, 6);
}

size_t mvpn_privileged_request_encode(const mvpn_privileged_request *request,
                                      uint8_t out[static MVPN_PRIVILEGED_REQUEST_MAX])
{
    size_t n = request->pairs.n;
    MVPN_ASSERT(n % MVPN_PRIVILEGED_PAIR_LEN == 0 &&
                n <= MVPN_PRIVILEGED_REQUEST_MAX - MVPN_PRIVILEGED_HEAD_LEN);
    mvpn_store32(out, REQUEST_MAGIC);
    out[4] = (uint8_t)request->op;
    out[5] = request->event;
    mvpn_store16(out + 6, (uint16_t)(n / MVPN_PRIVILEGED_PAIR_LEN));
    mvpn_store32(out + 8, request->serial);
    if (n > 0) {
        memcpy(out + MVPN_PRIVILEGED_HEAD_LEN, request->pairs.p, n);
    }
    return MVPN_PRIVILEGED_HEAD_LEN + n;
}

static bool has_empty_pair(mvpn_bytes pairs)
{
    static const uint8_t zero[MVPN_PRIVILEGED_PAIR_LEN];
    for (size_t at = 0; at < pairs.n; at += MVPN_PRIVILEGED_PAIR_LEN) {
        if (memcmp(pairs.p + at, zero, sizeof(zero)) == 0) {
            return true;
        }
    }
    return false;
}

int mvpn_privileged_request_decode(mvpn_bytes in, mvpn_privileged_request *ret)
{
    mvpn_reader r = mvpn_reader_init(in);
    mvpn_privileged_request m = {.serial = 0};
    bool ok = mvpn_read32(&r) == REQUEST_MAGIC;
    unsigned op = mvpn_read8(&r), event = mvpn_read8(&r), count = mvpn_read16(&r);
    ok = ok && is_op(op) && count <= MVPN_PRIVILEGED_PAIRS_MAX;
    ok = ok && (op == MVPN_PRIVILEGED_PROTECT ? is_event(event) : event == 0);
    ok = ok && (count != 0) == (op == MVPN_PRIVILEGED_RELEASE || op == MVPN_PRIVILEGED_OPEN);
    ok = ok && (op != MVPN_PRIVILEGED_OPEN || count <= MVPN_SPLIT_ANSWER_MAX);
    if (!ok) {
        return MVPN_E_FORMAT;
    }
    m.op = (enum mvpn_privileged_op)op;
    m.event = (uint8_t)event;
    m.serial = mvpn_read32(&r);
    m.pairs = mvpn_read_bytes(&r, (size_t)count * MVPN_PRIVILEGED_PAIR_LEN);
    if (!mvpn_reader_done(&r) || has_empty_pair(m.pairs)) {
        return MVPN_E_FORMAT;
    }
    *ret = m;
    return 0;
}

static bool is_printable(char c)
{
    return c >= 0x20 && c < 0x7f;
}

static void write_text(mvpn_writer *w, const char *text)
{
    size_t n = strnlen(text, MVPN_PRIVILEGED_TEXT - 1);
    for (size_t i = 0; i < n; i++) {
        mvpn_write8(w, (uint8_t)(is_printable(text[i]) ? text[i] : '?'));
    }
    mvpn_write_zero(w, MVPN_PRIVILEGED_TEXT - n);
}

static bool read_text(mvpn_reader *r, char out[static MVPN_PRIVILEGED_TEXT])
{
    mvpn_read_copy(r, (uint8_t *)out, MVPN_PRIVILEGED_TEXT);
    bool has_ended = false;
    for (size_t i = 0; i < MVPN_PRIVILEGED_TEXT; i++) {
        if (has_ended ? out[i] != '\0' : out[i] != '\0' && !is_printable(out[i])) {
            return false;
        }
        has_ended |= out[i] == '\0';
    }
    return has_ended;
}

void mvpn_privileged_reply_encode(const mvpn_privileged_reply *reply,
                                  uint8_t out[static MVPN_PRIVILEGED_REPLY_LEN])
{
    mvpn_writer w = mvpn_writer_init(out, MVPN_PRIVILEGED_REPLY_LEN);
    const mvpn_privileged_protection *p = &reply->protection;
    unsigned flags = (reply->has_tun ? HAS_TUN : 0) |
                     (reply->tun_v4.family != 0 ? HAS_ADDRESSES : 0) |
                     (p->is_in_force ? IS_IN_FORCE : 0) | (p->lockdown ? HAS_LOCKDOWN : 0) |
                     (p->allow_lan ? ALLOWS_LAN : 0);
    mvpn_write32(&w, REPLY_MAGIC);
    mvpn_write8(&w, (uint8_t)reply->op);
    mvpn_write8(&w, (uint8_t)flags);
    mvpn_write8(&w, (uint8_t)p->state);
    mvpn_write8(&w, 0);
    mvpn_write32(&w, reply->serial);
    mvpn_write32(&w, (uint32_t)reply->code);
    write_ip(&w, &reply->tun_v4, 4);
    write_ip(&w, &reply->tun_v6, 16);
    write_ip(&w, &reply->gateway_v4, 4);
    mvpn_write32(&w, p->repaired);
    write_text(&w, reply->text);
    MVPN_ASSERT(!w.failed && mvpn_writer_len(&w) == MVPN_PRIVILEGED_REPLY_LEN);
}

int mvpn_privileged_reply_decode(mvpn_bytes in, mvpn_privileged_reply *ret)
{
    mvpn_reader r = mvpn_reader_init(in);
    mvpn_privileged_reply m = {.serial = 0};
    bool ok = mvpn_read32(&r) == REPLY_MAGIC;
    unsigned op = mvpn_read8(&r), flags = mvpn_read8(&r), state = mvpn_read8(&r);
    ok = ok && is_op(op) && (flags & ~FLAGS_ALL) == 0 && state < MVPN_PROTECT_STATES &&
         mvpn_read8(&r) == 0;
    if (!ok) {
        return MVPN_E_FORMAT;
    }
    bool has_addresses = (flags & HAS_ADDRESSES) != 0;
    m.op = (enum mvpn_privileged_op)op;
    m.has_tun = (flags & HAS_TUN) != 0;
    m.protection = (mvpn_privileged_protection){
        .state = (enum mvpn_protect_state)state,
        .is_in_force = (flags & IS_IN_FORCE) != 0,
        .lockdown = (flags & HAS_LOCKDOWN) != 0,
        .allow_lan = (flags & ALLOWS_LAN) != 0,
    };
    m.serial = mvpn_read32(&r);
    m.code = (int)mvpn_read32(&r);
    ok = read_ip(&r, has_addresses, 4, &m.tun_v4) && read_ip(&r, has_addresses, 6, &m.tun_v6) &&
         read_ip(&r, has_addresses, 4, &m.gateway_v4);
    m.protection.repaired = mvpn_read32(&r);
    ok = ok && read_text(&r, m.text) && mvpn_reader_done(&r);
    if (!ok || m.code > 0) {
        return MVPN_E_FORMAT;
    }
    *ret = m;
    return 0;
}

/* The pool's first address is the exit's own end of the TUN: its connections are not a session's.
 */
static bool is_of_pool(const mvpn_addr *addr, const mvpn_prefix *pool)
{
    mvpn_addr own = pool->addr;
    size_t len = mvpn_addr_ip_len(addr);
    if (addr->family == 0) {
        return true; /* none */
    }
    if (pool->addr.family != addr->family) {
        return false;
    }
    own.ip[len - 1] |= 1;
    return mvpn_ip_in_prefix(addr->ip, pool->addr.ip, len, pool->bits) &&
           memcmp(addr->ip, own.ip, len) != 0;
}

static bool are_of_pool(const mvpn_privileged_limits *limits, mvpn_bytes pairs)
{
    for (size_t at = 0; at < pairs.n; at += MVPN_PRIVILEGED_PAIR_LEN) {
        mvpn_addr v4, v6;
        mvpn_privileged_pair_decode(pairs.p + at, &v4, &v6);
        if (!is_of_pool(&v4, &limits->pool_v4) || !is_of_pool(&v6, &limits->pool_v6)) {
            return false;
        }
    }
    return true;
}

/* What a name may open: never this network, the local one, or everybody (multicast). */
static bool are_public(mvpn_bytes pairs)
{
    for (size_t at = 0; at < pairs.n; at += MVPN_PRIVILEGED_PAIR_LEN) {
        mvpn_addr v4, v6;
        mvpn_privileged_pair_decode(pairs.p + at, &v4, &v6);
        if ((v4.family != 0 && !mvpn_policy_is_public(4, v4.ip)) ||
            (v6.family != 0 && !mvpn_policy_is_public(6, v6.ip))) {
            return false;
        }
    }
    return true;
}

static bool brings_descriptor(enum mvpn_privileged_op op)
{
    return op == MVPN_PRIVILEGED_MARK || op == MVPN_PRIVILEGED_OUTSIDE;
}

int mvpn_privileged_check(const mvpn_privileged_limits *limits, enum mvpn_privileged_state state,
                          const mvpn_privileged_request *request, unsigned descriptors)
{
    bool is_new = state == MVPN_PRIVILEGED_NEW, is_right_time = false;
    bool is_ours = true;
    switch (request->op) {
    case MVPN_PRIVILEGED_SETUP:
        is_ours = limits->is_exit || limits->is_client;
        is_right_time = is_new;
        break;
    case MVPN_PRIVILEGED_CONTROL:
    case MVPN_PRIVILEGED_SEAL:
        is_right_time = is_new;
        break;
    case MVPN_PRIVILEGED_RELEASE:
        is_ours = limits->is_exit;
        is_right_time = !is_new;
        break;
    case MVPN_PRIVILEGED_MARK:
    case MVPN_PRIVILEGED_PROTECT:
    case MVPN_PRIVILEGED_LOOK:
    case MVPN_PRIVILEGED_OUTSIDE:
        is_ours = limits->is_client;
        is_right_time = !is_new;
        break;
    case MVPN_PRIVILEGED_OPEN:
        is_ours = limits->is_client && limits->has_domains;
        is_right_time = !is_new;
        break;
    case MVPN_PRIVILEGED_FINISH:
        is_right_time = true; /* also a start that failed */
        break;
    }
    if (!is_right_time || !is_ours || descriptors != (brings_descriptor(request->op) ? 1u : 0u)) {
        return MVPN_E_PROTOCOL;
    }
    bool is_good = request->op == MVPN_PRIVILEGED_OPEN ? are_public(request->pairs)
                                                       : are_of_pool(limits, request->pairs);
    return is_good ? 0 : MVPN_E_REFUSED;
}
