/*
 * Plain UDP sockets for STUN: its few small datagrams need no batches and must come from exactly
 * the address that was bound. Shared by the service and the probe.
 */
#ifndef MVPN_IO_STUN_SOCKET_H
#define MVPN_IO_STUN_SOCKET_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/addr.h"

/** Bound, not blocking, of one family only. `mark` 0: none. Returns -1 with errno. */
int mvpn_stun_socket_open(const mvpn_addr *bind_to, uint32_t mark);
/** The address it is bound to; family 0 if that cannot be told. */
mvpn_addr mvpn_stun_socket_local(int fd);
/** Length of the next datagram, or -1: there is none. */
ssize_t mvpn_stun_socket_recv(int fd, uint8_t *out, size_t size, mvpn_addr *ret_from);
/** A datagram that cannot be sent is lost: the other side asks again. */
void mvpn_stun_socket_send(int fd, const mvpn_addr *to, const uint8_t *bytes, size_t n);
/** The address of ours from which packets to `to` leave, with port 0; family 0: no route. */
mvpn_addr mvpn_stun_socket_source(const mvpn_addr *to, uint32_t mark);

#endif
