/*
 * An address in a message: `[family 1] [port 2] [ip 16]`, IPv4 in the first four bytes of the last,
 * the rest 0. (docs/protocol.md §14.5, §14.6)
 */
#ifndef MVPN_WIRE_ADDRESS_H
#define MVPN_WIRE_ADDRESS_H

#include "base/addr.h"
#include "base/cursor.h"

#define MVPN_ADDRESS_LEN 19

/** Family 0 is written as zeros. */
static inline void mvpn_write_address(mvpn_writer *w, const mvpn_addr *addr)
{
    static const mvpn_addr none;
    const mvpn_addr *a = addr->family != 0 ? addr : &none;
    mvpn_write8(w, a->family);
    mvpn_write16(w, a->port);
    mvpn_write_bytes(w, a->ip, sizeof(a->ip));
}

/** The reader fails unless it is one that datagrams can be sent to: family, port, no IPv4 address
 * in disguise, nothing behind one. */
static inline void mvpn_read_address(mvpn_reader *r, mvpn_addr *ret)
{
    *ret = (mvpn_addr){.family = mvpn_read8(r)};
    ret->port = mvpn_read16(r);
    mvpn_read_copy(r, ret->ip, sizeof(ret->ip));
    size_t n = mvpn_addr_ip_len(ret);
    for (size_t i = n; i < sizeof(ret->ip); i++) {
        r->failed |= ret->ip[i] != 0;
    }
    r->failed |= n == 0 || ret->port == 0 || mvpn_addr_is_mapped(ret);
}

#endif
