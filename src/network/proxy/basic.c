#include "network/proxy/basic.h"

#include <string.h>

#include "base/error.h"

/* Name, colon, password; and that in base64, four characters for three bytes. */
#define TEXT_MAX (2 * MVPN_PROXY_CREDENTIAL_MAX + 1)
#define BASE64_MAX ((TEXT_MAX + 2) / 3 * 4)

static int value_of(uint8_t c)
{
    if (c >= 'A' && c <= 'Z') {
        return c - 'A';
    }
    if (c >= 'a' && c <= 'z') {
        return c - 'a' + 26;
    }
    if (c >= '0' && c <= '9') {
        return c - '0' + 52;
    }
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Exactly one way to write what it means: two users must not become one, nor one two. */
static int decode(mvpn_bytes in, uint8_t out[static TEXT_MAX + 2], size_t *ret_n)
{
    size_t n = 0, padding = 0;
    if (in.n % 4 != 0 || in.n == 0) {
        return MVPN_E_FORMAT;
    }
    while (padding < 2 && in.p[in.n - padding - 1] == '=') {
        padding++;
    }
    uint32_t bits = 0;
    for (size_t i = 0; i < in.n; i++) {
        int value = i >= in.n - padding ? 0 : value_of(in.p[i]);
        if (value < 0) {
            return MVPN_E_FORMAT;
        }
        bits = bits << 6 | (uint32_t)value;
        if (i % 4 == 3) {
            out[n++] = (uint8_t)(bits >> 16);
            out[n++] = (uint8_t)(bits >> 8);
            out[n++] = (uint8_t)bits;
        }
    }
    for (size_t i = 0; i < padding; i++) {
        if (out[--n] != 0) { /* bits that would be lost */
            return MVPN_E_FORMAT;
        }
    }
    *ret_n = n;
    return 0;
}

static bool is_basic(const mvpn_bytes *value)
{
    static const char scheme[] = "basic ";
    size_t n = sizeof(scheme) - 1;
    for (size_t i = 0; i < n; i++) {
        if (i >= value->n || (value->p[i] | 0x20) != scheme[i]) {
            return false;
        }
    }
    return true;
}

static mvpn_bytes trim(mvpn_bytes text)
{
    while (text.n > 0 && (text.p[0] == ' ' || text.p[0] == '\t')) {
        text.p++;
        text.n--;
    }
    while (text.n > 0 && (text.p[text.n - 1] == ' ' || text.p[text.n - 1] == '\t')) {
        text.n--;
    }
    return text;
}

int mvpn_proxy_basic_decode(mvpn_bytes value, mvpn_proxy_user *ret)
{
    uint8_t text[TEXT_MAX + 2];
    size_t n = 0;
    value = trim(value);
    if (!is_basic(&value)) {
        return MVPN_E_UNKNOWN;
    }
    value = trim((mvpn_bytes){value.p + 6, value.n - 6});
    if (value.n > BASE64_MAX) {
        return MVPN_E_LIMIT;
    }
    int r = decode(value, text, &n);
    const uint8_t *colon = r == 0 ? memchr(text, ':', n) : NULL;
    if (colon == NULL) {
        return MVPN_E_FORMAT;
    }
    size_t name_len = (size_t)(colon - text), password_len = n - name_len - 1;
    if (name_len > MVPN_PROXY_CREDENTIAL_MAX || password_len > MVPN_PROXY_CREDENTIAL_MAX) {
        return MVPN_E_LIMIT;
    }
    *ret = (mvpn_proxy_user){
        .is_set = true,
        .name_len = (uint8_t)name_len,
        .password_len = (uint8_t)password_len,
    };
    memcpy(ret->name, text, name_len);
    memcpy(ret->password, colon + 1, password_len);
    return 0;
}
