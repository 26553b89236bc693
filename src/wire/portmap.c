#include "wire/portmap.h"

#include "base/error.h"

#define ANSWER_BIT 0x80
#define OPTION_HEADER_LEN 4

/* ---- NAT-PMP ---- */

void mvpn_natpmp_address_encode(uint8_t out[static MVPN_NATPMP_ADDRESS_LEN])
{
    out[0] = MVPN_NATPMP_VERSION;
    out[1] = MVPN_NATPMP_ADDRESS;
}

void mvpn_natpmp_map_encode(uint8_t out[static MVPN_NATPMP_MAP_LEN], const mvpn_natpmp_map *map)
{
    out[0] = MVPN_NATPMP_VERSION;
    out[1] = MVPN_NATPMP_MAP_UDP;
    mvpn_store16(out + 2, 0);
    mvpn_store16(out + 4, map->internal_port);
    mvpn_store16(out + 6, map->external_port);
    mvpn_store32(out + 8, map->lifetime_s);
}

int mvpn_natpmp_decode(mvpn_natpmp_answer *ret, mvpn_bytes in)
{
    mvpn_reader r = mvpn_reader_init(in);
    mvpn_natpmp_answer a = {0};
    uint8_t version = mvpn_read8(&r);
    uint8_t opcode = mvpn_read8(&r);
    a.opcode = opcode & (ANSWER_BIT - 1);
    a.result = mvpn_read16(&r);
    a.epoch_s = mvpn_read32(&r);
    if (r.failed || version != MVPN_NATPMP_VERSION || (opcode & ANSWER_BIT) == 0 ||
        a.opcode > MVPN_NATPMP_MAP_UDP) {
        return MVPN_E_FORMAT;
    }
    if (a.result != MVPN_NATPMP_SUCCESS && mvpn_reader_done(&r)) {
        *ret = a;
        return 0;
    }
    if (a.opcode == MVPN_NATPMP_ADDRESS) {
        a.external.family = 4;
        mvpn_read_copy(&r, a.external.ip, 4);
    } else {
        a.map.internal_port = mvpn_read16(&r);
        a.map.external_port = mvpn_read16(&r);
        a.map.lifetime_s = mvpn_read32(&r);
    }
    if (!mvpn_reader_done(&r)) {
        return MVPN_E_FORMAT;
    }
    if (a.result != MVPN_NATPMP_SUCCESS) {
        /* What the fields hold is then undefined. */
        a = (mvpn_natpmp_answer){.opcode = a.opcode, .result = a.result, .epoch_s = a.epoch_s};
    }
    *ret = a;
    return 0;
}

const char *mvpn_natpmp_result_text(unsigned result)
{
    static const char *const texts[] = {
        [MVPN_NATPMP_SUCCESS] = "success",
        [MVPN_NATPMP_UNSUPPORTED_VERSION] = "it does not know this version",
        [MVPN_NATPMP_NOT_AUTHORIZED] = "it refuses: port mapping is switched off there",
        [MVPN_NATPMP_NETWORK_FAILURE] = "it has no external address itself",
        [MVPN_NATPMP_NO_RESOURCES] = "it has no room for more mappings",
        [MVPN_NATPMP_UNSUPPORTED_OPCODE] = "it does not map ports",
    };
    return result < MVPN_ARRAY_LEN(texts) ? texts[result] : "it answers with an unknown error";
}

/* ---- PCP ---- */

/* RFC 6887 §5: 128 bits, IPv4 as ::ffff:a.b.c.d. */
static void write_ip(mvpn_writer *w, const mvpn_addr *a)
{
    if (a->family == 6) {
        mvpn_write_bytes(w, a->ip, 16);
        return;
    }
    mvpn_write_zero(w, 10);
    mvpn_write16(w, 0xffff);
    mvpn_write_bytes(w, a->ip, 4);
}

static void read_ip(mvpn_reader *r, mvpn_addr *ret)
{
    mvpn_addr a = {.family = 6};
    mvpn_read_copy(r, a.ip, 16);
    if (mvpn_addr_is_mapped(&a)) {
        *ret = (mvpn_addr){.family = 4};
        memcpy(ret->ip, a.ip + 12, 4);
    } else {
        *ret = a;
    }
}

static void write_header(uint8_t out[static MVPN_PCP_HEADER_LEN], enum mvpn_pcp_opcode opcode,
                         uint32_t lifetime_s, const mvpn_addr *client)
{
    mvpn_writer w = mvpn_writer_init(out + 8, 16);
    mvpn_store32(out, (uint32_t)MVPN_PCP_VERSION << 24 | (uint32_t)opcode << 16);
    mvpn_store32(out + 4, lifetime_s);
    write_ip(&w, client);
}

void mvpn_pcp_announce_encode(uint8_t out[static MVPN_PCP_HEADER_LEN], const mvpn_addr *client)
{
    write_header(out, MVPN_PCP_ANNOUNCE, 0, client);
}

void mvpn_pcp_map_encode(uint8_t out[static MVPN_PCP_MAP_LEN], const mvpn_addr *client,
                         uint32_t lifetime_s, const mvpn_pcp_map *map)
{
    mvpn_writer w =
        mvpn_writer_init(out + MVPN_PCP_HEADER_LEN, MVPN_PCP_MAP_LEN - MVPN_PCP_HEADER_LEN);
    write_header(out, MVPN_PCP_MAP, lifetime_s, client);
    mvpn_write_bytes(&w, map->nonce, sizeof(map->nonce));
    mvpn_write8(&w, map->protocol);
    mvpn_write_zero(&w, 3);
    mvpn_write16(&w, map->internal_port);
    mvpn_write16(&w, map->external.port);
    write_ip(&w, &map->external);
}

static bool skip_options(mvpn_reader *r)
{
    while (mvpn_reader_left(r) > 0) {
        (void)mvpn_read16(r); /* code and a reserved byte */
        size_t len = mvpn_read16(r);
        (void)mvpn_read_raw(r, (len + 3) / 4 * 4);
    }
    return mvpn_reader_done(r);
}

int mvpn_pcp_decode(mvpn_pcp_answer *ret, mvpn_bytes in)
{
    mvpn_reader r = mvpn_reader_init(in);
    mvpn_pcp_answer a = {.version = mvpn_read8(&r)};
    uint8_t opcode = mvpn_read8(&r);
    a.opcode = opcode & (ANSWER_BIT - 1);
    (void)mvpn_read8(&r);
    a.result = mvpn_read8(&r);
    a.lifetime_s = mvpn_read32(&r);
    a.epoch_s = mvpn_read32(&r);
    (void)mvpn_read_raw(&r, 12);
    /* §8.3: longer than 1100 or no multiple of four. */
    if (r.failed || in.n > MVPN_PORTMAP_MAX || in.n % 4 != 0 || a.version == MVPN_NATPMP_VERSION ||
        (opcode & ANSWER_BIT) == 0 || a.opcode > MVPN_PCP_MAP) {
        return MVPN_E_FORMAT;
    }
    if (a.version != MVPN_PCP_VERSION) {
        /* Of other versions only this much is known. (§9) */
        if (a.result != MVPN_PCP_UNSUPP_VERSION) {
            return MVPN_E_FORMAT;
        }
        *ret = a;
        return 0;
    }
    bool is_cut = a.result != MVPN_PCP_SUCCESS && mvpn_reader_done(&r);
    if (a.opcode == MVPN_PCP_MAP && !is_cut) {
        a.has_map = true;
        mvpn_read_copy(&r, a.map.nonce, sizeof(a.map.nonce));
        a.map.protocol = mvpn_read8(&r);
        (void)mvpn_read_raw(&r, 3);
        a.map.internal_port = mvpn_read16(&r);
        uint16_t port = mvpn_read16(&r);
        read_ip(&r, &a.map.external);
        a.map.external.port = port;
    }
    if (!skip_options(&r)) {
        return MVPN_E_FORMAT;
    }
    *ret = a;
    return 0;
}

const char *mvpn_pcp_result_text(unsigned result)
{
    static const char *const texts[] = {
        [MVPN_PCP_SUCCESS] = "success",
        [MVPN_PCP_UNSUPP_VERSION] = "it does not know this version",
        [MVPN_PCP_NOT_AUTHORIZED] = "it refuses: port mapping is switched off there",
        [MVPN_PCP_MALFORMED_REQUEST] = "it cannot read the request",
        [MVPN_PCP_UNSUPP_OPCODE] = "it does not map ports",
        [MVPN_PCP_UNSUPP_OPTION] = "it wants an option that was not asked for",
        [MVPN_PCP_MALFORMED_OPTION] = "it cannot read the request",
        [MVPN_PCP_NETWORK_FAILURE] = "it has no external address itself",
        [MVPN_PCP_NO_RESOURCES] = "it has no room for more mappings",
        [MVPN_PCP_UNSUPP_PROTOCOL] = "it does not map UDP",
        [MVPN_PCP_USER_EX_QUOTA] = "this host has as many mappings as it may have",
        [MVPN_PCP_CANNOT_PROVIDE_EXTERNAL] = "it cannot give the wanted port",
        [MVPN_PCP_ADDRESS_MISMATCH] = "there is another NAT between it and this host",
        [MVPN_PCP_EXCESSIVE_REMOTE_PEERS] = "too many filters",
    };
    return result < MVPN_ARRAY_LEN(texts) ? texts[result] : "it answers with an unknown error";
}
