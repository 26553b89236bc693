#include "wire/stun.h"

#include "base/assert.h"
#include "base/error.h"
#include "crypto/hash.h"
#include "crypto/keys.h"

#define COOKIE 0x2112a442u
#define COOKIE_LEN 4
#define FINGERPRINT_XOR 0x5354554eu /* "STUN", §14.7 */
#define SHA1_LEN 20
#define SHA256_LEN 32
#define SHA256_LEN_MIN 16 /* §14.6: truncated HMACs of 16 to 32 bytes, in steps of 4 */
#define ATTRIBUTE_HEADER_LEN 4
#define COMPREHENSION_OPTIONAL 0x8000u
#define CHANGE_IP 0x4u
#define CHANGE_PORT 0x2u
#define FAMILY_V4 1
#define FAMILY_V6 2

/* ISO-HDLC, four bits at a time. */
static uint32_t crc32_of(mvpn_bytes in)
{
    static const uint32_t table[16] = {
        0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4,
        0x4db26158, 0x5005713c, 0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c,
        0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c,
    };
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < in.n; i++) {
        crc ^= in.p[i];
        crc = table[crc & 0xf] ^ crc >> 4;
        crc = table[crc & 0xf] ^ crc >> 4;
    }
    return ~crc;
}

static size_t padded(size_t n)
{
    return (n + 3) & ~(size_t)3;
}

/* ---- reading ---- */

bool mvpn_stun_is_stun(mvpn_bytes in)
{
    return in.n >= MVPN_STUN_HEADER_LEN && (in.p[0] & 0xc0) == 0 && mvpn_load32(in.p + 4) == COOKIE;
}

/* §14.1, §14.2: zero, family, port, address; XORed with the cookie and the transaction id. */
static int read_address(mvpn_addr *ret, mvpn_bytes value, const uint8_t *mask)
{
    mvpn_addr a = {0};
    if (value.n < 4 || (value.p[1] != FAMILY_V4 && value.p[1] != FAMILY_V6)) {
        return MVPN_E_FORMAT;
    }
    a.family = value.p[1] == FAMILY_V4 ? 4 : 6;
    a.port = mvpn_load16(value.p + 2);
    size_t n = mvpn_addr_ip_len(&a);
    if (value.n != 4 + n) {
        return MVPN_E_FORMAT;
    }
    memcpy(a.ip, value.p + 4, n);
    if (mask != NULL) {
        a.port ^= mvpn_load16(mask);
        for (size_t i = 0; i < n; i++) {
            a.ip[i] ^= mask[i];
        }
    }
    if (mvpn_addr_is_mapped(&a)) {
        return MVPN_E_FORMAT;
    }
    *ret = a;
    return 0;
}

static int read_first_address(mvpn_addr *ret, mvpn_bytes value, const uint8_t *mask)
{
    mvpn_addr second;
    return read_address(ret->family == 0 ? ret : &second, value, mask);
}

static int read_text(mvpn_bytes *ret, mvpn_bytes value, size_t max)
{
    if (value.n > max) {
        return MVPN_E_FORMAT;
    }
    if (ret->p == NULL) {
        *ret = value;
    }
    return 0;
}

static int read_change(mvpn_stun_message *m, mvpn_bytes value)
{
    if (value.n != 4) {
        return MVPN_E_FORMAT;
    }
    if (!m->has_change) {
        m->has_change = true;
        m->change_ip = (value.p[3] & CHANGE_IP) != 0;
        m->change_port = (value.p[3] & CHANGE_PORT) != 0;
    }
    return 0;
}

/* §14.8: the class is 3 to 6, the number 0 to 99. */
static int read_error(mvpn_stun_message *m, mvpn_bytes value)
{
    if (value.n < 4) {
        return MVPN_E_FORMAT;
    }
    unsigned class = value.p[2] & 7, number = value.p[3];
    if (class < 3 || class > 6 || number > 99) {
        return MVPN_E_FORMAT;
    }
    if (m->error_code == 0) {
        m->error_code = (uint16_t)(class * 100 + number);
    }
    return 0;
}

static void note_unknown(mvpn_stun_message *m, uint16_t type)
{
    if (type >= COMPREHENSION_OPTIONAL) {
        return;
    }
    if (m->unknown_count < MVPN_STUN_UNKNOWN_MAX) {
        m->unknown[m->unknown_count] = type;
    }
    m->unknown_count++;
}

static int read_attribute(mvpn_stun_message *m, uint16_t type, mvpn_bytes value, size_t at,
                          const uint8_t *mask)
{
    switch (type) {
    case MVPN_STUN_MAPPED_ADDRESS:
        return read_first_address(&m->mapped, value, NULL);
    case MVPN_STUN_XOR_MAPPED_ADDRESS:
        return read_first_address(&m->xor_mapped, value, mask);
    case MVPN_STUN_RESPONSE_ORIGIN:
        return read_first_address(&m->response_origin, value, NULL);
    case MVPN_STUN_OTHER_ADDRESS:
        return read_first_address(&m->other, value, NULL);
    case MVPN_STUN_CHANGE_REQUEST:
        return read_change(m, value);
    case MVPN_STUN_ERROR_CODE:
        return read_error(m, value);
    case MVPN_STUN_SOFTWARE:
        return read_text(&m->software, value, MVPN_STUN_SOFTWARE_MAX);
    case MVPN_STUN_USERNAME:
        return read_text(&m->username, value, MVPN_STUN_USERNAME_MAX);
    case MVPN_STUN_PADDING:
        m->has_padding = true;
        return 0;
    case MVPN_STUN_UNKNOWN_ATTRIBUTES:
        return value.n % 2 == 0 ? 0 : MVPN_E_FORMAT;
    case MVPN_STUN_INTEGRITY:
        m->integrity_at = at;
        return value.n == SHA1_LEN ? 0 : MVPN_E_FORMAT;
    case MVPN_STUN_INTEGRITY_SHA256:
        m->integrity256_at = at;
        return value.n >= SHA256_LEN_MIN && value.n <= SHA256_LEN && value.n % 4 == 0
                   ? 0
                   : MVPN_E_FORMAT;
    case MVPN_STUN_REALM:
    case MVPN_STUN_NONCE:
        return 0; /* of long-term credentials, which nobody asks for here */
    default:
        note_unknown(m, type);
        return 0;
    }
}

/* §14.7: covers all before it; nothing follows. */
static int read_fingerprint(mvpn_stun_message *m, mvpn_bytes in, mvpn_bytes value, size_t at)
{
    if (value.n != 4 || at + ATTRIBUTE_HEADER_LEN + 4 != in.n ||
        mvpn_load32(value.p) != (crc32_of(mvpn_bytes_of(in.p, at)) ^ FINGERPRINT_XOR)) {
        return MVPN_E_FORMAT;
    }
    m->has_fingerprint = true;
    return 0;
}

/* §14.5: what follows MESSAGE-INTEGRITY is not covered by it. */
static bool is_ignored(const mvpn_stun_message *m, uint16_t type)
{
    return m->integrity256_at != 0 || (m->integrity_at != 0 && type != MVPN_STUN_INTEGRITY_SHA256);
}

static int read_attributes(mvpn_stun_message *m, mvpn_bytes in)
{
    mvpn_reader r =
        mvpn_reader_init(mvpn_bytes_of(in.p + MVPN_STUN_HEADER_LEN, in.n - MVPN_STUN_HEADER_LEN));
    unsigned count = 0;
    while (mvpn_reader_left(&r) > 0) {
        size_t at = (size_t)(r.p - in.p);
        uint16_t type = mvpn_read16(&r), length = mvpn_read16(&r);
        mvpn_bytes value = mvpn_read_bytes(&r, length);
        (void)mvpn_read_raw(&r, padded(length) - length);
        if (r.failed || ++count > MVPN_STUN_ATTRIBUTES_MAX) {
            return MVPN_E_FORMAT;
        }
        int err = 0;
        if (type == MVPN_STUN_FINGERPRINT) {
            err = read_fingerprint(m, in, value, at);
        } else if (!is_ignored(m, type)) {
            err = read_attribute(m, type, value, at, in.p + 4);
        }
        if (err != 0) {
            return err;
        }
    }
    return r.failed ? MVPN_E_FORMAT : 0;
}

int mvpn_stun_decode(mvpn_stun_message *ret, mvpn_bytes in)
{
    mvpn_stun_message m = {0};
    if (in.n > MVPN_STUN_MAX || !mvpn_stun_is_stun(in)) {
        return MVPN_E_FORMAT;
    }
    unsigned type = mvpn_load16(in.p);
    if (mvpn_load16(in.p + 2) != in.n - MVPN_STUN_HEADER_LEN) {
        return MVPN_E_FORMAT;
    }
    /* §5: the two bits of the class lie between those of the method. */
    m.class = (enum mvpn_stun_class)((type >> 7 & 2) | (type >> 4 & 1));
    m.method = (uint16_t)((type & 0xf) | (type >> 1 & 0x70) | (type >> 2 & 0xf80));
    memcpy(m.transaction, in.p + 8, sizeof(m.transaction));
    int err = read_attributes(&m, in);
    /* §14.8: an error answer says which error; nothing else does. */
    if (err == 0 && (m.class == MVPN_STUN_ERROR) != (m.error_code != 0)) {
        err = MVPN_E_FORMAT;
    }
    if (err == 0) {
        *ret = m;
    }
    return err;
}

/* ---- integrity ---- */

/* §14.5: over what is before the attribute at `at`, with a header whose length ends behind it. */
static void integrity_of(uint8_t *out, bool is_sha256, mvpn_bytes before, size_t value_len,
                         mvpn_bytes key)
{
    uint8_t covered[MVPN_STUN_MAX];
    MVPN_ASSERT(before.n <= sizeof(covered));
    memcpy(covered, before.p, before.n);
    mvpn_store16(covered + 2,
                 (uint16_t)(before.n + ATTRIBUTE_HEADER_LEN + value_len - MVPN_STUN_HEADER_LEN));
    if (is_sha256) {
        mvpn_hmac_sha256(out, key, mvpn_bytes_of(covered, before.n));
    } else {
        mvpn_hmac_sha1(out, key, mvpn_bytes_of(covered, before.n));
    }
}

int mvpn_stun_check_integrity(const mvpn_stun_message *m, mvpn_bytes in, mvpn_bytes key)
{
    uint8_t mac[SHA256_LEN];
    bool is_sha256 = m->integrity256_at != 0;
    size_t at = is_sha256 ? m->integrity256_at : m->integrity_at;
    if (at == 0) {
        return MVPN_E_STATE;
    }
    if (in.n > MVPN_STUN_MAX) {
        return MVPN_E_TOO_BIG;
    }
    size_t n = mvpn_load16(in.p + at + 2);
    MVPN_ASSERT(at + ATTRIBUTE_HEADER_LEN + n <= in.n && n <= sizeof(mac));
    integrity_of(mac, is_sha256, mvpn_bytes_of(in.p, at), n, key);
    return mvpn_ct_equal(mac, in.p + at + ATTRIBUTE_HEADER_LEN, n) ? 0 : MVPN_E_AUTH;
}

/* ---- writing ---- */

/* The header's length holds at every step: integrity and fingerprint cover it. */
static void set_length(mvpn_stun_writer *s)
{
    size_t n = mvpn_writer_len(&s->w);
    if (!s->w.failed) {
        mvpn_store16(s->w.start + 2, (uint16_t)(n - MVPN_STUN_HEADER_LEN));
    }
}

void mvpn_stun_begin(mvpn_stun_writer *s, uint8_t *out, size_t size, enum mvpn_stun_class class,
                     uint16_t method, const uint8_t transaction[static MVPN_STUN_TRANSACTION_LEN])
{
    unsigned c = (unsigned)class, m = method;
    s->w = mvpn_writer_init(out, MVPN_MIN(size, MVPN_STUN_MAX));
    mvpn_write16(&s->w, (uint16_t)((m & 0xf) | (m & 0x70) << 1 | (m & 0xf80) << 2 | (c & 1) << 4 |
                                   (c & 2) << 7));
    mvpn_write16(&s->w, 0);
    mvpn_write32(&s->w, COOKIE);
    mvpn_write_bytes(&s->w, transaction, MVPN_STUN_TRANSACTION_LEN);
}

void mvpn_stun_put_bytes(mvpn_stun_writer *s, uint16_t type, mvpn_bytes value)
{
    mvpn_write16(&s->w, type);
    mvpn_write16(&s->w, (uint16_t)value.n);
    mvpn_write_bytes(&s->w, value.p, value.n);
    mvpn_write_zero(&s->w, padded(value.n) - value.n);
    set_length(s);
}

void mvpn_stun_put_address(mvpn_stun_writer *s, enum mvpn_stun_attribute type,
                           const mvpn_addr *addr)
{
    uint8_t value[20];
    size_t n = mvpn_addr_ip_len(addr);
    MVPN_ASSERT(n > 0);
    if (s->w.failed) {
        return;
    }
    value[0] = 0;
    value[1] = addr->family == 4 ? FAMILY_V4 : FAMILY_V6;
    mvpn_store16(value + 2, addr->port);
    memcpy(value + 4, addr->ip, n);
    if (type == MVPN_STUN_XOR_MAPPED_ADDRESS) {
        const uint8_t *mask = s->w.start + 4;
        mvpn_store16(value + 2, addr->port ^ mvpn_load16(mask));
        for (size_t i = 0; i < n; i++) {
            value[4 + i] ^= mask[i];
        }
    }
    mvpn_stun_put_bytes(s, (uint16_t)type, mvpn_bytes_of(value, 4 + n));
}

void mvpn_stun_put_change(mvpn_stun_writer *s, bool ip, bool port)
{
    uint8_t value[4] = {0, 0, 0, (uint8_t)((ip ? CHANGE_IP : 0) | (port ? CHANGE_PORT : 0))};
    mvpn_stun_put_bytes(s, MVPN_STUN_CHANGE_REQUEST, MVPN_BYTES_ARRAY(value));
}

void mvpn_stun_put_error(mvpn_stun_writer *s, uint16_t code)
{
    uint8_t value[4] = {0, 0, (uint8_t)(code / 100), (uint8_t)(code % 100)};
    mvpn_stun_put_bytes(s, MVPN_STUN_ERROR_CODE, MVPN_BYTES_ARRAY(value));
}

void mvpn_stun_put_unknown(mvpn_stun_writer *s, const uint16_t *types, size_t count)
{
    uint8_t value[2 * MVPN_STUN_UNKNOWN_MAX];
    count = MVPN_MIN(count, MVPN_STUN_UNKNOWN_MAX);
    for (size_t i = 0; i < count; i++) {
        mvpn_store16(value + 2 * i, types[i]);
    }
    mvpn_stun_put_bytes(s, MVPN_STUN_UNKNOWN_ATTRIBUTES, mvpn_bytes_of(value, 2 * count));
}

static void put_mac(mvpn_stun_writer *s, bool is_sha256, mvpn_bytes key)
{
    uint8_t mac[SHA256_LEN];
    size_t n = is_sha256 ? SHA256_LEN : SHA1_LEN;
    if (!s->w.failed) {
        integrity_of(mac, is_sha256, mvpn_bytes_of(s->w.start, mvpn_writer_len(&s->w)), n, key);
        mvpn_stun_put_bytes(s, is_sha256 ? MVPN_STUN_INTEGRITY_SHA256 : MVPN_STUN_INTEGRITY,
                            mvpn_bytes_of(mac, n));
    }
}

void mvpn_stun_put_integrity(mvpn_stun_writer *s, mvpn_bytes key)
{
    put_mac(s, false, key);
}

void mvpn_stun_put_integrity256(mvpn_stun_writer *s, mvpn_bytes key)
{
    put_mac(s, true, key);
}

void mvpn_stun_put_fingerprint(mvpn_stun_writer *s)
{
    /* The CRC covers the header with its final length: write the attribute, then fill it in. */
    mvpn_stun_put_bytes(s, MVPN_STUN_FINGERPRINT, mvpn_bytes_of((const uint8_t[4]){0}, 4));
    if (!s->w.failed) {
        mvpn_bytes before =
            mvpn_bytes_of(s->w.start, mvpn_writer_len(&s->w) - ATTRIBUTE_HEADER_LEN - 4);
        mvpn_store32(s->w.p - 4, crc32_of(before) ^ FINGERPRINT_XOR);
    }
}

size_t mvpn_stun_end(mvpn_stun_writer *s)
{
    return s->w.failed ? 0 : mvpn_writer_len(&s->w);
}
