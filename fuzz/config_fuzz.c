/* Configuration files: [kind 1] [text]. */
#include "fuzz/fuzz.h"
#include "io/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const enum mvpn_config_kind kinds[] = {MVPN_CONFIG_RELAY, MVPN_CONFIG_EXIT,
                                                  MVPN_CONFIG_CLIENT, MVPN_CONFIG_BOOTSTRAP,
                                                  MVPN_CONFIG_DISCOVERY};
    static mvpn_config config;
    mvpn_fault fault = {{0}};
    if (size < 1 || size > 4096) {
        return 0;
    }
    enum mvpn_config_kind kind = kinds[data[0] % MVPN_CONFIG_KINDS];
    int r = mvpn_config_parse("fuzz.conf", (const char *)data + 1, size - 1, kind, &config, &fault);
    if (r == 0) {
        FUZZ_CHECK(config.kind == kind && config.listen_count <= MVPN_CONFIG_LISTEN_MAX);
        FUZZ_CHECK(kind != MVPN_CONFIG_CLIENT ||
                   (config.client.hops >= 1 && config.client.hops <= 5));
    } else {
        FUZZ_CHECK(fault.text[0] != '\0'); /* the operator is told */
    }
    return 0;
}
