/*
 * How long the NATs of the networks that this computer was in keep a mapping: measuring takes
 * minutes, so it is remembered, as one more small file of the state directory (io/statefile.h). A
 * network is recognised by its gateway (address and, if the kernel knows it, MAC address) and by
 * the block of addresses in which the world sees it. Only a salted hash of that is kept: the file
 * names no place where somebody was, though who holds it can test a guess.
 *
 *   [version 1] [count 1] [salt 16] ([fingerprint 16] [lifetime, s 4] [day measured 4])*
 */
#ifndef MVPN_IO_NAT_CACHE_H
#define MVPN_IO_NAT_CACHE_H

#include <stdbool.h>

#include "base/addr.h"
#include "base/bytes.h"
#include "io/fault.h"

/* Home, work, a few cafés; of more the oldest is forgotten. */
#define MVPN_NAT_CACHE_MAX 16
/* A router gets new firmware, or is another one. */
#define MVPN_NAT_CACHE_DAYS 30
/* No NAT is asked for longer (docs/protocol.md §14.6: the last step is 180 s). */
#define MVPN_NAT_CACHE_LIFETIME_MAX_S 3600
#define MVPN_NAT_FINGERPRINT_LEN 16

/** What a network is recognised by. All zero where it is not known. */
typedef struct mvpn_nat_network {
    mvpn_addr gateway; /* of the default route; the port does not count */
    bool has_mac;
    uint8_t mac[6]; /* of the gateway */
    mvpn_addr seen; /* one of our addresses as seen from outside: its /24 or /48 counts */
} mvpn_nat_network;

typedef struct mvpn_nat_cache {
    uint8_t salt[16]; /* drawn when the file is made */
    size_t count;
    struct {
        uint8_t fingerprint[MVPN_NAT_FINGERPRINT_LEN];
        uint32_t lifetime_s;
        uint32_t day;         /* Unix days */
    } at[MVPN_NAT_CACHE_MAX]; /* the latest first */
} mvpn_nat_cache;

/** What the kernel knows of the gateway (`gateway`, `mac`); `seen` is set to the argument. IPv4: a
 * network without a gateway of that family is known by `seen` alone. */
void mvpn_nat_network_read(mvpn_nat_network *ret, const mvpn_addr *seen);
/** As in /proc/net/arp: find the MAC address of `ip`. Pure. */
bool mvpn_nat_arp_find(const char *text, const mvpn_addr *ip, uint8_t ret_mac[static 6]);

/** What is there; else an empty one with a new salt. MVPN_E_SYSTEM: no randomness (fatal). */
MVPN_WUR int mvpn_nat_cache_load(const char *dir, mvpn_nat_cache *ret);
/** Replace the file. MVPN_E_SYSTEM, MVPN_E_NOMEM. */
MVPN_WUR int mvpn_nat_cache_save(const char *dir, const mvpn_nat_cache *cache, mvpn_fault *fault);
/** Read the content of such a file; false if it is wrong anywhere (`*ret` is untouched then). Pure.
 */
bool mvpn_nat_cache_decode(mvpn_nat_cache *ret, mvpn_bytes in);

/** A lifetime was measured, `unix_now` being Unix seconds. A network by which nothing is known at
 * all is not noted. */
void mvpn_nat_cache_put(mvpn_nat_cache *cache, const mvpn_nat_network *network, uint32_t lifetime_s,
                        uint64_t unix_now);
/** The lifetime measured on this network in the last MVPN_NAT_CACHE_DAYS days; 0: none. What was
 * noted without a MAC address (by a relay whose sandbox hides them) is found by who has it too. */
uint32_t mvpn_nat_cache_get(const mvpn_nat_cache *cache, const mvpn_nat_network *network,
                            uint64_t unix_now);

#endif
