/* Addresses as text: what parses is written so that it parses to the same. */
#include "base/addr.h"
#include "fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char text[128] = {0}, out[MVPN_ADDR_STRLEN];
    mvpn_addr a, b;
    memcpy(text, data, MVPN_MIN(size, sizeof(text) - 1));
    if (mvpn_addr_parse(text, &a) == 0) {
        FUZZ_CHECK(a.family == 4 || a.family == 6);
        FUZZ_CHECK(mvpn_addr_parse(mvpn_addr_format(&a, out), &b) == 0);
        FUZZ_CHECK(mvpn_addr_eq(&a, &b));
        FUZZ_CHECK(mvpn_addr_same_block(&a, &b));
        (void)mvpn_addr_is_public(&a);
    }
    return 0;
}
