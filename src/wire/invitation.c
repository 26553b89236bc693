#include "wire/invitation.h"

#include "base/assert.h"
#include "base/cursor.h"
#include "base/error.h"
#include "crypto/hash.h"

#define VERSION 1
#define SCHEME "meshvpn:"
#define SCHEME_LEN (sizeof(SCHEME) - 1)
#define FLAG_CLOSED 0x01
#define FLAGS_RELAX_AT 1 /* three bits */
#define FLAGS_RELAX 0x07
#define FLAG_PRIVATE 0x10
#define FLAGS_KNOWN (FLAG_CLOSED | FLAGS_RELAX << FLAGS_RELAX_AT | FLAG_PRIVATE)
#define CHECK_LEN 2
#define S_PER_MINUTE 60u
/* version, flags, expiry, two keys, the longer entry, check */
#define BINARY_MAX (1 + 1 + 4 + 32 + 32 + MVPN_DHT_CONTACT6_LEN + CHECK_LEN)
/* base64 without padding: four characters for three bytes, what is left rounded up */
#define BASE64_LEN(n) (((n)*4 + 2) / 3)

_Static_assert(SCHEME_LEN + BASE64_LEN(BINARY_MAX) <= MVPN_INVITATION_MAX, "a link must fit");

static void make_check(uint8_t out[static CHECK_LEN], mvpn_bytes in)
{
    mvpn_blake3(out, CHECK_LEN, in);
}

/* --- base64url (RFC 4648 §5), without padding --- */

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/* Returns the end of what was written. */
static char *encode_base64(char *out, mvpn_bytes in)
{
    uint32_t bits = 0;
    unsigned count = 0;
    for (size_t i = 0; i < in.n; i++) {
        bits = bits << 8 | in.p[i];
        for (count += 8; count >= 6; count -= 6) {
            *out++ = digits[bits >> (count - 6) & 63];
        }
    }
    if (count > 0) {
        *out++ = digits[bits << (6 - count) & 63];
    }
    return out;
}

static int value_of(char c)
{
    const char *at = c != '\0' ? strchr(digits, c) : NULL;
    return at != NULL ? (int)(at - digits) : -1;
}

/* Returns false for foreign characters, and for bits left over that are not zero: one text per
 * invitation. */
static bool decode_base64(uint8_t *out, size_t size, size_t *ret_len, const char *text, size_t n)
{
    uint32_t bits = 0;
    unsigned count = 0;
    size_t len = 0;
    for (size_t i = 0; i < n; i++) {
        int v = value_of(text[i]);
        if (v < 0) {
            return false;
        }
        bits = bits << 6 | (uint32_t)v;
        count += 6;
        if (count >= 8) {
            count -= 8;
            if (len == size) {
                return false;
            }
            out[len++] = (uint8_t)(bits >> count);
        }
    }
    *ret_len = len;
    return count < 6 && (bits & ((1u << count) - 1)) == 0;
}

/* --- links --- */

void mvpn_invitation_format(char out[static MVPN_INVITATION_MAX + 1], const mvpn_invitation *inv)
{
    uint8_t b[BINARY_MAX], entry[MVPN_DHT_CONTACT6_LEN], check[CHECK_LEN];
    size_t entry_len = mvpn_dht_contact_encode(entry, sizeof(entry), &inv->entry);
    uint64_t minutes = inv->expires / S_PER_MINUTE;
    mvpn_writer w = mvpn_writer_init(b, sizeof(b));
    mvpn_write8(&w, VERSION);
    mvpn_write8(&w, (uint8_t)((inv->closed ? FLAG_CLOSED : 0) |
                              (inv->relax & FLAGS_RELAX) << FLAGS_RELAX_AT |
                              (inv->allow_private ? FLAG_PRIVATE : 0)));
    mvpn_write32(&w, (uint32_t)MVPN_MIN(minutes, UINT32_MAX));
    mvpn_write_bytes(&w, inv->network_pub.b, sizeof(inv->network_pub.b));
    if (inv->closed) {
        mvpn_write_bytes(&w, inv->network_secret.b, sizeof(inv->network_secret.b));
    }
    mvpn_write_bytes(&w, entry, entry_len);
    make_check(check, mvpn_bytes_of(b, mvpn_writer_len(&w)));
    mvpn_write_bytes(&w, check, sizeof(check));
    MVPN_ASSERT(!w.failed);
    memcpy(out, SCHEME, SCHEME_LEN);
    *encode_base64(out + SCHEME_LEN, mvpn_bytes_of(b, mvpn_writer_len(&w))) = '\0';
    mvpn_wipe(b, sizeof(b));
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* The characters between scheme and the end, without spaces around; n = 0 if it is no link. */
static const char *body_of(const char *text, size_t *ret_n)
{
    *ret_n = 0;
    while (is_space(*text)) {
        text++;
    }
    if (strncmp(text, SCHEME, SCHEME_LEN) != 0) {
        return text;
    }
    text += SCHEME_LEN;
    size_t n = strlen(text);
    while (n > 0 && is_space(text[n - 1])) {
        n--;
    }
    *ret_n = n;
    return text;
}

static int decode(mvpn_invitation *ret, mvpn_bytes in)
{
    mvpn_invitation m = {0};
    uint8_t check[CHECK_LEN];
    if (in.n < CHECK_LEN + 1) {
        return MVPN_E_FORMAT;
    }
    /* Before the version: a typing error there is none of a later version. */
    mvpn_bytes body = mvpn_bytes_of(in.p, in.n - CHECK_LEN);
    make_check(check, body);
    if (memcmp(check, in.p + body.n, sizeof(check)) != 0) {
        return MVPN_E_FORMAT;
    }
    mvpn_reader r = mvpn_reader_init(body);
    if (mvpn_read8(&r) != VERSION) {
        return MVPN_E_UNKNOWN;
    }
    unsigned flags = mvpn_read8(&r);
    m.closed = (flags & FLAG_CLOSED) != 0;
    m.relax = flags >> FLAGS_RELAX_AT & FLAGS_RELAX;
    m.allow_private = (flags & FLAG_PRIVATE) != 0;
    m.expires = (uint64_t)mvpn_read32(&r) * S_PER_MINUTE;
    mvpn_read_copy(&r, m.network_pub.b, sizeof(m.network_pub.b));
    if (m.closed) {
        mvpn_read_copy(&r, m.network_secret.b, sizeof(m.network_secret.b));
    }
    int rc = mvpn_dht_contact_decode(&m.entry, mvpn_read_rest(&r));
    if (r.failed || (flags & ~(unsigned)FLAGS_KNOWN) != 0) {
        rc = MVPN_E_FORMAT;
    }
    if (rc == 0) {
        *ret = m;
    }
    mvpn_wipe(&m, sizeof(m));
    return rc;
}

int mvpn_invitation_parse(mvpn_invitation *ret, const char *text, uint64_t unix_now)
{
    /* Room for a later version's longer link, so that it is told from a broken one. */
    uint8_t b[2 * MVPN_INVITATION_MAX];
    size_t n, len;
    const char *body = body_of(text, &n);
    int rc = MVPN_E_FORMAT;
    if (decode_base64(b, sizeof(b), &len, body, n)) {
        rc = decode(ret, mvpn_bytes_of(b, len));
    }
    mvpn_wipe(b, sizeof(b));
    if (rc == 0 && unix_now > ret->expires) {
        rc = MVPN_E_EXPIRED;
    }
    return rc;
}
