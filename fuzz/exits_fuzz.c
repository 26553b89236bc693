/* Exits that were chosen, as they are kept: whatever is read is bounded and is written the same
 * way. */
#include "fuzz/fuzz.h"
#include "io/statefile.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    mvpn_state_exits exits;
    uint8_t again[MVPN_STATE_EXITS_SIZE];
    if (!mvpn_state_exits_decode(&exits, mvpn_bytes_of(data, size))) {
        FUZZ_CHECK(mvpn_state_exits_is_empty(&exits));
        return 0;
    }
    FUZZ_CHECK(exits.choice.blocked_count <= MVPN_EXIT_BLOCKED_MAX);
    FUZZ_CHECK(exits.choice.countries.count <= MVPN_PATH_COUNTRIES_MAX);
    FUZZ_CHECK(exits.choice.blocked_countries.count <= MVPN_PATH_COUNTRIES_MAX);
    FUZZ_CHECK(strlen(exits.name) <= MVPN_STATE_EXIT_NAME_MAX);
    FUZZ_CHECK(mvpn_state_exits_encode(again, &exits) == size);
    FUZZ_CHECK(memcmp(again, data, size) == 0);
    return 0;
}
