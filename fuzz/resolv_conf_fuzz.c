/*
 * What may stand in /etc/resolv.conf, which a process of root reads: whatever it is, ours made from
 * it asks our servers alone, searches nowhere and is known as ours again.
 */
#include "fuzz/fuzz.h"
#include "io/resolv_conf.h"

static const mvpn_addr servers[] = {{.family = 4, .ip = {10, 8, 0, 1}},
                                    {.family = 6, .ip = {0xfd, 0x6d, [15] = 1}}};

static bool has_line(mvpn_bytes text, const char *start)
{
    size_t n = strlen(start);
    for (size_t i = 0; i + n <= text.n; i++) {
        if ((i == 0 || text.p[i - 1] == '\n') && memcmp(text.p + i, start, n) == 0) {
            return true;
        }
    }
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const mvpn_bytes former = mvpn_bytes_of(data, size);
    char out[MVPN_RESOLV_CONF_OWN_MAX], tun[MVPN_RESOLV_CONF_TUN_MAX + 1];
    mvpn_addr found[MVPN_RESOLV_CONF_SERVERS];
    size_t n = mvpn_resolv_conf_write(former, "mvpn0", servers, 2, out);
    const mvpn_bytes ours = mvpn_bytes_of(out, n);
    FUZZ_CHECK(n < sizeof(out) && strlen(out) == n);
    FUZZ_CHECK(mvpn_resolv_conf_is_ours(ours, tun) && strcmp(tun, "mvpn0") == 0);
    FUZZ_CHECK(mvpn_resolv_conf_servers(ours, found) == 2);
    FUZZ_CHECK(mvpn_addr_ip_eq(&found[0], &servers[0]) && mvpn_addr_ip_eq(&found[1], &servers[1]));
    FUZZ_CHECK(has_line(ours, "search .\n") && !has_line(ours, "domain"));
    FUZZ_CHECK(strstr(out, "trust-ad") == NULL);

    unsigned count = mvpn_resolv_conf_servers(former, found);
    FUZZ_CHECK(count <= MVPN_RESOLV_CONF_SERVERS);
    FUZZ_CHECK(!mvpn_resolv_conf_asks(former, servers, 2, true) ||
               mvpn_resolv_conf_asks(former, servers, 2, false));
    FUZZ_CHECK(!mvpn_resolv_conf_is_stub(former) || count > 0);
    (void)mvpn_resolv_conf_is_ours(former, tun);
    FUZZ_CHECK(strnlen(tun, sizeof(tun)) < sizeof(tun));
    const mvpn_dns_facts facts = {
        .text = former, .path = "", .has_resolved = true, .has_resolvconf = true};
    FUZZ_CHECK(mvpn_dns_choose(&facts) >= MVPN_DNS_RESOLVED);
    return 0;
}
