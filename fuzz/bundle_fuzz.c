/* Bundles of a discovery node: parts stay inside the input and are written again as they were. */
#include "fuzz/fuzz.h"
#include "wire/bundle.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    mvpn_bytes rest = {data, size}, part;
    uint8_t type;
    while (mvpn_bundle_next(&rest, &type, &part) == 0) {
        FUZZ_CHECK(part.p >= data + MVPN_BUNDLE_PART_FIXED && part.p + part.n <= data + size);
        static uint8_t out[MVPN_BUNDLE_PART_FIXED + MVPN_SNAPSHOT_LEN_MAX];
        size_t len = 0;
        FUZZ_CHECK(mvpn_bundle_append(out, sizeof(out), &len, type, part) == 0);
        fuzz_same(out, len,
                  mvpn_bytes_of(part.p - MVPN_BUNDLE_PART_FIXED, MVPN_BUNDLE_PART_FIXED + part.n));
    }
    FUZZ_CHECK(rest.n == 0);
    return 0;
}
