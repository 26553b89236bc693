/*
 * What a program asks of a proxy on this computer: SOCKS5 (RFC 1928, RFC 1929) and HTTP CONNECT
 * (RFC 9110 §9.3.6). Bytes in, a request and bytes to answer with out; no sockets. Driven by
 * io/proxy.c and by fuzz/proxy_fuzz.c.
 *
 *   SOCKS5:  GREETING -> [USER ->] COMMAND -> asked | refused
 *   HTTP:    HEAD                          -> asked | refused
 *
 * Any program of this computer, and through it any web page, can send bytes here: nothing is
 * believed, and nothing is longer than its maximum. Names are passed on as names: this computer
 * never asks its own resolver.
 */
#ifndef MVPN_NETWORK_PROXY_REQUEST_H
#define MVPN_NETWORK_PROXY_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/macros.h"
#include "network/proxy/basic.h"

/* Head of an HTTP request; browsers send less than 1 KiB with CONNECT. */
#define MVPN_PROXY_HEAD_MAX 4096
/* Of a DNS name (RFC 1035 §2.3.4, as text). */
#define MVPN_PROXY_NAME_MAX 253
/* All that is ever answered at once. */
#define MVPN_PROXY_REPLY_MAX 512
/* Header of a datagram with the longest address that we write (RFC 1928 §7). */
#define MVPN_PROXY_UDP_HEADER_MAX 22

enum mvpn_proxy_kind {
    MVPN_PROXY_SOCKS,
    MVPN_PROXY_HTTP,
};

enum mvpn_proxy_state {
    MVPN_PROXY_READING, /* more bytes are needed */
    MVPN_PROXY_ASKED,   /* `command` and `target` are set; answer with mvpn_proxy_request_answer */
    MVPN_PROXY_REFUSED, /* send `reply`, then close */
};

enum mvpn_proxy_command {
    MVPN_PROXY_CONNECT,
    MVPN_PROXY_ASSOCIATE, /* `target` is where the program says it sends from: not to be relied on
                           */
};

/* How it went; the numbers of RFC 1928 §6. */
enum mvpn_proxy_result {
    MVPN_PROXY_OK = 0,
    MVPN_PROXY_FAILED = 1,
    MVPN_PROXY_NOT_ALLOWED = 2,
    MVPN_PROXY_NET_UNREACHABLE = 3,
    MVPN_PROXY_HOST_UNREACHABLE = 4,
    MVPN_PROXY_CONNECTION_REFUSED = 5,
    MVPN_PROXY_TIMED_OUT = 6,
    MVPN_PROXY_NO_COMMAND = 7,
    MVPN_PROXY_NO_ADDRESS_TYPE = 8,
    /* No number of RFC 1928's: said as FAILED, which its lower byte is. */
    MVPN_PROXY_NO_GROUP = 0x100 + MVPN_PROXY_FAILED,
};

typedef struct mvpn_proxy_target {
    mvpn_addr addr; /* family 0: `name` is to be asked for; its port counts in both cases */
    char name[MVPN_PROXY_NAME_MAX + 1]; /* "" with an address */
} mvpn_proxy_target;

typedef struct mvpn_proxy_request {
    enum mvpn_proxy_kind kind;
    enum mvpn_proxy_state state;
    enum mvpn_proxy_command command;
    mvpn_proxy_target target;
    mvpn_proxy_user user; /* who asks: network/proxy/groups.h */
    /* To be sent; the caller sets the length to 0 when it has taken them. */
    size_t reply_len;
    uint8_t reply[MVPN_PROXY_REPLY_MAX];
    /* What came and is not read yet. When the state is ASKED: data for the other end. */
    size_t len;
    uint8_t buf[MVPN_PROXY_HEAD_MAX];
    unsigned phase; /* within READING */
} mvpn_proxy_request;

void mvpn_proxy_request_init(mvpn_proxy_request *request, enum mvpn_proxy_kind kind);

/** Where received bytes are to be put; `*ret_room` > 0 as long as the state is READING. */
uint8_t *mvpn_proxy_request_room(mvpn_proxy_request *request, size_t *ret_room);
/** `n` bytes were put there: read what is complete. Only in state READING. */
void mvpn_proxy_request_filled(mvpn_proxy_request *request, size_t n);

/**
 * Write the answer to what was asked into `reply`. `bound` is where the connection comes from
 * (CONNECT, as far as it is known) or where datagrams are to be sent (ASSOCIATE); family 0:
 * unknown.
 */
void mvpn_proxy_request_answer(mvpn_proxy_request *request, enum mvpn_proxy_result result,
                               const mvpn_addr *bound);

/**
 * Read the header of a datagram that a program sends (RFC 1928 §7); `*ret_payload` is the offset of
 * what follows. MVPN_E_FORMAT (drop): cut, a fragment, an unknown address type, no name.
 */
MVPN_WUR int mvpn_proxy_udp_decode(const uint8_t *p, size_t n, mvpn_proxy_target *ret,
                                   size_t *ret_payload);
/** The header of a datagram from `from`; returns its length. */
size_t mvpn_proxy_udp_encode(uint8_t out[static MVPN_PROXY_UDP_HEADER_MAX], const mvpn_addr *from);

/**
 * Whether `text` may be asked of a name server: letters, digits, '-', '_' and '.', no empty label,
 * and no name of this computer or its network (localhost, .local, RFC 6761, RFC 6762).
 */
bool mvpn_proxy_is_name(const char *text);

#endif
