/*
 * What the unit tests of the Kademlia core share.
 */
#ifndef MVPN_DHT_TESTING_H
#define MVPN_DHT_TESTING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "dht/contact.h"

/** An id that begins with these 64 bits. */
static inline mvpn_dht_id test_id(uint64_t top)
{
    mvpn_dht_id id = {{0}};
    mvpn_store64(id.b, top);
    return id;
}

/** An IPv4 contact: its id begins with `top`; its address is `ip` (host order). */
static inline mvpn_dht_contact test_contact(uint64_t top, uint32_t ip)
{
    mvpn_dht_contact c = {.id = test_id(top), .addr = {.family = 4, .port = 4000}};
    mvpn_store32(c.addr.ip, ip);
    mvpn_store32(c.link_key.b, ip);
    return c;
}

/** The n-th address, each in a /16 of its own. */
static inline uint32_t test_ip(uint32_t n)
{
    return 0x0b000001u + (n << 16);
}

#endif
