/*
 * One netlink conversation at a time: a request and all that the kernel answers to it. Shared by
 * netlink.c and conntrack.c.
 */
#ifndef MVPN_IO_NLSOCKET_H
#define MVPN_IO_NLSOCKET_H

#include <libmnl/libmnl.h>
#include <stdint.h>

#include "base/macros.h"

/* Our requests are below 300 bytes; a dump fills what it is given. */
#define MVPN_NL_REQUEST 512
#define MVPN_NL_REPLY 32768

typedef struct mvpn_nlsocket {
    struct mnl_socket *socket; /* NULL = closed */
    uint32_t port;
    uint32_t seq;
    uint8_t request[MVPN_NL_REQUEST] __attribute__((aligned(NLMSG_ALIGNTO)));
    uint8_t reply[MVPN_NL_REPLY] __attribute__((aligned(NLMSG_ALIGNTO)));
} mvpn_nlsocket;

typedef void mvpn_nl_each_fn(const struct nlmsghdr *msg, void *ctx);

/** Open a socket of `bus` (NETLINK_ROUTE ..). 0, or -1 with errno. */
MVPN_WUR int mvpn_nlsocket_open(mvpn_nlsocket *nl, int bus);
void mvpn_nlsocket_close(mvpn_nlsocket *nl);

/** Begin a request in `nl->request`, valid until the next one. */
struct nlmsghdr *mvpn_nlsocket_begin(mvpn_nlsocket *nl, unsigned type, unsigned flags);

/**
 * Send `msg` (with NLM_F_ACK or NLM_F_DUMP) and read to the end of the answer; `each`, which may be
 * NULL, sees every message of a dump. 0, or -1 with errno: the kernel's error or our own.
 */
MVPN_WUR int mvpn_nlsocket_talk(mvpn_nlsocket *nl, const struct nlmsghdr *msg,
                                mvpn_nl_each_fn *each, void *ctx);

/**
 * As above for `len` bytes of messages that are one transaction (NFNL_MSG_BATCH_*), all with
 * `nl->seq`; the first error or acknowledgement ends it.
 */
MVPN_WUR int mvpn_nlsocket_talk_batch(mvpn_nlsocket *nl, const void *batch, size_t len);

/** For each attribute of message `msg` after a fixed header of `header` bytes. */
#define MVPN_NL_FOREACH(attr, msg, header)                                                         \
    for (const struct nlattr *attr = mnl_nlmsg_get_payload_offset((msg), (header)); mnl_attr_ok(   \
             attr, (int)((const char *)mnl_nlmsg_get_payload_tail(msg) - (const char *)attr));     \
         attr = mnl_attr_next(attr))

/** For each attribute inside attribute `nest`. */
#define MVPN_NL_FOREACH_NESTED(attr, nest)                                                         \
    for (const struct nlattr *attr = mnl_attr_get_payload(nest);                                   \
         mnl_attr_ok(attr, (int)((const char *)mnl_attr_get_payload(nest) +                        \
                                 mnl_attr_get_payload_len(nest) - (const char *)attr));            \
         attr = mnl_attr_next(attr))

#endif
