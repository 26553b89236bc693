#include "io/nat_cache.h"

#include <stdio.h>
#include <string.h>

#include "base/cursor.h"
#include "base/error.h"
#include "crypto/hash.h"
#include "io/file.h"
#include "io/netlink.h"
#include "io/random.h"
#include "io/statefile.h"

#define VERSION 1
#define HEAD_LEN 18
#define ITEM_LEN (MVPN_NAT_FINGERPRINT_LEN + 8)
#define SIZE_MAX_BYTES (HEAD_LEN + MVPN_NAT_CACHE_MAX * ITEM_LEN)
#define S_PER_DAY 86400
/* Of the kernel's neighbours: more than a home has. */
#define ARP_SIZE 32768
#define CONTEXT "meshvpn v1 nat network"

/* ---- networks ---- */

bool mvpn_nat_arp_find(const char *text, const mvpn_addr *ip, uint8_t ret_mac[static 6])
{
    mvpn_addr bare = *ip;
    char wanted[MVPN_ADDR_STRLEN], address[64], mac_text[32];
    unsigned flags, mac[6];
    bare.port = 0;
    (void)mvpn_addr_format(&bare, wanted);
    for (const char *line = text; *line != '\0'; line += strcspn(line, "\n"), line += *line != 0) {
        if (sscanf(line, "%63s 0x%*x 0x%x %31s", address, &flags, mac_text) != 3 ||
            strcmp(address, wanted) != 0 || (flags & 2u) == 0 || /* ATF_COM: it is complete */
            sscanf(mac_text, "%2x:%2x:%2x:%2x:%2x:%2x", &mac[0], &mac[1], &mac[2], &mac[3], &mac[4],
                   &mac[5]) != 6) {
            continue;
        }
        for (size_t i = 0; i < 6; i++) {
            ret_mac[i] = (uint8_t)mac[i];
        }
        return true;
    }
    return false;
}

void mvpn_nat_network_read(mvpn_nat_network *ret, const mvpn_addr *seen)
{
    mvpn_netlink *nl = NULL;
    uint32_t index;
    *ret = (mvpn_nat_network){.seen = *seen};
    if (mvpn_netlink_open(&nl, NULL) != 0) {
        return;
    }
    if (mvpn_netlink_gateway(nl, &ret->gateway, &index, NULL) != 0) {
        ret->gateway = (mvpn_addr){0};
    }
    mvpn_netlink_close(nl);
    char text[ARP_SIZE];
    FILE *f = ret->gateway.family == 4 ? fopen("/proc/net/arp", "re") : NULL;
    if (f == NULL) {
        return;
    }
    size_t n = fread(text, 1, sizeof(text) - 1, f);
    text[n] = '\0';
    (void)fclose(f);
    ret->has_mac = mvpn_nat_arp_find(text, &ret->gateway, ret->mac);
}

/* False: nothing is known by which it could be recognised. */
static bool fingerprint(uint8_t out[static MVPN_NAT_FINGERPRINT_LEN], const uint8_t salt[static 16],
                        const mvpn_nat_network *n)
{
    uint8_t bytes[16 + 1 + 16 + 1 + 6 + 1 + 6];
    mvpn_writer w = mvpn_writer_init(bytes, sizeof(bytes));
    mvpn_write_bytes(&w, salt, 16);
    mvpn_write8(&w, n->gateway.family);
    mvpn_write_bytes(&w, n->gateway.ip, 16);
    mvpn_write8(&w, n->has_mac);
    if (n->has_mac) {
        mvpn_write_bytes(&w, n->mac, 6);
    } else {
        mvpn_write_zero(&w, 6);
    }
    mvpn_write8(&w, n->seen.family);
    mvpn_write_bytes(&w, n->seen.ip, n->seen.family == 6 ? 6 : 3);
    mvpn_bytes in = mvpn_bytes_of(bytes, mvpn_writer_len(&w));
    mvpn_blake3_derive(out, MVPN_NAT_FINGERPRINT_LEN, CONTEXT, &in, 1);
    return n->gateway.family != 0 || n->seen.family != 0;
}

/* ---- the cache ---- */

static void forget(mvpn_nat_cache *c, size_t index)
{
    memmove(&c->at[index], &c->at[index + 1], (c->count - index - 1) * sizeof(c->at[0]));
    c->count--;
}

void mvpn_nat_cache_put(mvpn_nat_cache *c, const mvpn_nat_network *network, uint32_t lifetime_s,
                        uint64_t unix_now)
{
    uint8_t print[MVPN_NAT_FINGERPRINT_LEN];
    if (!fingerprint(print, c->salt, network) || lifetime_s == 0) {
        return;
    }
    for (size_t i = c->count; i-- > 0;) {
        if (memcmp(c->at[i].fingerprint, print, sizeof(print)) == 0) {
            forget(c, i);
        }
    }
    if (c->count == MVPN_NAT_CACHE_MAX) {
        forget(c, MVPN_NAT_CACHE_MAX - 1);
    }
    memmove(&c->at[1], &c->at[0], c->count * sizeof(c->at[0]));
    memcpy(c->at[0].fingerprint, print, sizeof(print));
    c->at[0].lifetime_s = MVPN_MIN(lifetime_s, (uint32_t)MVPN_NAT_CACHE_LIFETIME_MAX_S);
    c->at[0].day = (uint32_t)(unix_now / S_PER_DAY);
    c->count++;
}

static bool is_noted(const mvpn_nat_cache *c, const uint8_t print[static MVPN_NAT_FINGERPRINT_LEN])
{
    for (size_t i = 0; i < c->count; i++) {
        if (memcmp(c->at[i].fingerprint, print, MVPN_NAT_FINGERPRINT_LEN) == 0) {
            return true;
        }
    }
    return false;
}

uint32_t mvpn_nat_cache_get(const mvpn_nat_cache *c, const mvpn_nat_network *network,
                            uint64_t unix_now)
{
    uint8_t print[MVPN_NAT_FINGERPRINT_LEN];
    uint64_t today = unix_now / S_PER_DAY;
    if (!fingerprint(print, c->salt, network)) {
        return 0;
    }
    if (network->has_mac && !is_noted(c, print)) { /* by who could not see the MAC address? */
        mvpn_nat_network bare = *network;
        bare.has_mac = false;
        (void)fingerprint(print, c->salt, &bare);
    }
    for (size_t i = 0; i < c->count; i++) {
        if (memcmp(c->at[i].fingerprint, print, sizeof(print)) == 0) {
            uint64_t day = c->at[i].day;
            /* A day to come: the clock was wrong, then or now. */
            bool is_fresh = day <= today + 1 && today <= day + MVPN_NAT_CACHE_DAYS;
            return is_fresh ? c->at[i].lifetime_s : 0;
        }
    }
    return 0;
}

bool mvpn_nat_cache_decode(mvpn_nat_cache *ret, mvpn_bytes in)
{
    mvpn_nat_cache c = {.count = 0};
    mvpn_reader r = mvpn_reader_init(in);
    uint8_t version = mvpn_read8(&r);
    c.count = mvpn_read8(&r);
    mvpn_read_copy(&r, c.salt, sizeof(c.salt));
    if (r.failed || version != VERSION || c.count > MVPN_NAT_CACHE_MAX) {
        return false;
    }
    for (size_t i = 0; i < c.count; i++) {
        mvpn_read_copy(&r, c.at[i].fingerprint, MVPN_NAT_FINGERPRINT_LEN);
        c.at[i].lifetime_s = mvpn_read32(&r);
        c.at[i].day = mvpn_read32(&r);
        if (c.at[i].lifetime_s == 0 || c.at[i].lifetime_s > MVPN_NAT_CACHE_LIFETIME_MAX_S) {
            return false;
        }
    }
    if (!mvpn_reader_done(&r)) {
        return false;
    }
    *ret = c;
    return true;
}

int mvpn_nat_cache_load(const char *dir, mvpn_nat_cache *ret)
{
    uint8_t *bytes = NULL;
    size_t size = 0;
    bool is_whole = false;
    int rc = mvpn_statefile_load(dir, MVPN_STATE_NAT, &bytes, &size, &is_whole, NULL);
    bool is_there = rc == 0 && is_whole && mvpn_nat_cache_decode(ret, mvpn_bytes_of(bytes, size));
    mvpn_file_free(bytes, size);
    if (is_there) {
        return 0;
    }
    *ret = (mvpn_nat_cache){.count = 0};
    return mvpn_random_bytes(ret->salt, sizeof(ret->salt));
}

int mvpn_nat_cache_save(const char *dir, const mvpn_nat_cache *c, mvpn_fault *fault)
{
    uint8_t bytes[SIZE_MAX_BYTES];
    mvpn_writer w = mvpn_writer_init(bytes, sizeof(bytes));
    mvpn_write8(&w, VERSION);
    mvpn_write8(&w, (uint8_t)c->count);
    mvpn_write_bytes(&w, c->salt, sizeof(c->salt));
    for (size_t i = 0; i < c->count; i++) {
        mvpn_write_bytes(&w, c->at[i].fingerprint, MVPN_NAT_FINGERPRINT_LEN);
        mvpn_write32(&w, c->at[i].lifetime_s);
        mvpn_write32(&w, c->at[i].day);
    }
    return mvpn_statefile_save(dir, MVPN_STATE_NAT, mvpn_bytes_of(bytes, mvpn_writer_len(&w)),
                               fault);
}
