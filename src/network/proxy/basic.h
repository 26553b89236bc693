/*
 * User name and password in a Proxy-Authorization field. (RFC 7617 §2, RFC 9110 §11.7.2)
 */
#ifndef MVPN_NETWORK_PROXY_BASIC_H
#define MVPN_NETWORK_PROXY_BASIC_H

#include <stdbool.h>

#include "base/bytes.h"
#include "base/macros.h"

/* As in SOCKS5 (RFC 1929: one byte of length each), so that both sides know the same users. */
#define MVPN_PROXY_CREDENTIAL_MAX 255

/* In bytes as they came; nothing is printed of them. */
typedef struct mvpn_proxy_user {
    bool is_set;
    uint8_t name_len, password_len;
    uint8_t name[MVPN_PROXY_CREDENTIAL_MAX], password[MVPN_PROXY_CREDENTIAL_MAX];
} mvpn_proxy_user;

/**
 * Read the value of the field. MVPN_E_UNKNOWN: another scheme than Basic; MVPN_E_FORMAT: no base64
 * (RFC 4648 §4, padded, nothing beside its alphabet), or no colon in it; MVPN_E_LIMIT: too long.
 */
MVPN_WUR int mvpn_proxy_basic_decode(mvpn_bytes value, mvpn_proxy_user *ret);

#endif
