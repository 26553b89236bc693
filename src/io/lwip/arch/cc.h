/*
 * lwIP on this platform; what is not here has a default in its lwip/arch.h.
 */
#ifndef MVPN_IO_LWIP_ARCH_CC_H
#define MVPN_IO_LWIP_ARCH_CC_H

#include <arpa/inet.h>
#include <endian.h>

#include "base/assert.h"
#include "io/lwip/lwipopts.h"

#define LWIP_RAND() mvpn_netstack_random()
#define LWIP_PLATFORM_DIAG(text)                                                                   \
    do {                                                                                           \
    } while (0)
#define LWIP_PLATFORM_ASSERT(text) MVPN_ASSERT(!(text))

#endif
