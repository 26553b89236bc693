/* IP packets: parsed, then changed and answered as exit and client do: [what 1] [packet]. */
#include "fuzz/fuzz.h"
#include "network/ip/checksum.h"
#include "network/ip/icmp.h"
#include "network/ip/inner.h"
#include "network/ip/ip.h"
#include "network/ip/rewrite.h"

/* The packet is still one, and no worse than before. */
static void check(const uint8_t *p, size_t n, bool was_right, mvpn_ip *ret)
{
    FUZZ_CHECK(mvpn_ip_parse(p, n, ret) == 0);
    FUZZ_CHECK(!was_right || mvpn_csum_transport_ok(p, ret));
}

static void rewrite(uint8_t *p, size_t n, unsigned what, mvpn_ip *ip)
{
    uint8_t before[MVPN_PACKET_ROOM];
    mvpn_ip now;
    bool was_right = mvpn_csum_transport_ok(p, ip);
    memcpy(before, p, n);
    const uint8_t *to = what & 1 ? mvpn_inner_client(ip->version) : mvpn_inner_gateway(ip->version);
    int r = what & 2 ? mvpn_ip_rewrite_src(p, ip, to) : mvpn_ip_rewrite_dst(p, ip, to);
    if (r != 0) {
        FUZZ_CHECK(memcmp(before, p, n) == 0);
        return;
    }
    check(p, n, was_right, &now);
    FUZZ_CHECK(memcmp(what & 2 ? now.src : now.dst, to, mvpn_ip_addr_len(&now)) == 0);
}

static void answers(mvpn_packet *packet, const mvpn_ip *ip, unsigned what)
{
    mvpn_packet out = {0};
    mvpn_ip parsed;
    out.data = out.buf + MVPN_PACKET_HEADROOM;
    const uint8_t *from = mvpn_inner_gateway(ip->version);
    int r = what & 1 ? mvpn_icmp_too_big(&out, packet, ip, from, 1280)
                     : mvpn_icmp_unreachable(&out, packet, ip, from, 0);
    FUZZ_CHECK((r == 0) == mvpn_icmp_may_answer(ip));
    if (r == 0) {
        FUZZ_CHECK(out.len <= (ip->version == 4 ? 576u : 1280u));
        check(out.data, out.len, true, &parsed);
        FUZZ_CHECK(mvpn_ip_is_icmp_error(&parsed) && !mvpn_icmp_may_answer(&parsed));
        FUZZ_CHECK(mvpn_csum_transport_ok(out.data, &parsed));
    } else {
        FUZZ_CHECK(out.len == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    mvpn_packet packet = {0};
    mvpn_ip ip;
    if (size < 1 || size - 1 > MVPN_PACKET_ROOM) {
        return 0;
    }
    size_t n = size - 1;
    packet.data = packet.buf + MVPN_PACKET_HEADROOM;
    memcpy(mvpn_packet_append(&packet, (uint32_t)n), data + 1, n);
    MVPN_IGNORE(mvpn_ip_parse_quoted(packet.data, n, &ip)); /* looks for reads beyond */
    if (n >= 20 && packet.data[0] == 0x45) {
        mvpn_csum_ipv4_set(packet.data); /* a fuzzer does not find it */
    }
    if (mvpn_ip_parse(packet.data, n, &ip) != 0) {
        return 0;
    }
    FUZZ_CHECK(ip.total_len == n && ip.l4 + ip.l4_len == n);
    if (data[0] & 0x80 && !ip.fragment) {
        mvpn_csum_transport_set(packet.data, &ip);
        FUZZ_CHECK(mvpn_csum_transport_ok(packet.data, &ip));
    }
    bool was_right = mvpn_csum_transport_ok(packet.data, &ip);
    mvpn_ip_norm norm = {64, 0x1234, 99};
    mvpn_ip now;
    switch (data[0] >> 4 & 3) {
    case 0:
        rewrite(packet.data, n, data[0], &ip);
        break;
    case 1:
        (void)mvpn_ip_clamp_mss(packet.data, &ip, 576u + data[0] % 4 * 300u);
        check(packet.data, n, was_right, &now);
        mvpn_ip_normalise(packet.data, &ip, &norm);
        check(packet.data, n, was_right, &now);
        FUZZ_CHECK(now.ttl == 64);
        break;
    case 2:
        answers(&packet, &ip, data[0]);
        break;
    default:
        if (mvpn_icmp_echo_reply(&packet, &ip) == 0) {
            check(packet.data, packet.len, true, &now);
        }
        break;
    }
    return 0;
}
