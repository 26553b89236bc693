/*
 * mvpn_addr to and from the kernel's socket addresses.
 */
#ifndef MVPN_IO_SOCKADDR_H
#define MVPN_IO_SOCKADDR_H

#include <sys/socket.h>

#include "base/addr.h"

/** Fill `ret` and return its length; 0 if `addr` has no family. */
socklen_t mvpn_sockaddr_from_addr(const mvpn_addr *addr, struct sockaddr_storage *ret);

/** The address of an AF_INET or AF_INET6 socket address; family 0 for anything else. */
mvpn_addr mvpn_sockaddr_to_addr(const struct sockaddr_storage *sa);

#endif
