/* Bodies of circuit messages: [which 1] [body]. What decodes has one encoding. */
#include "fuzz/fuzz.h"
#include "wire/circuit.h"

#define RECODE(noun)                                                                               \
    do {                                                                                           \
        mvpn_##noun m;                                                                             \
        if (mvpn_##noun##_decode(&m, in) == 0) {                                                   \
            fuzz_same(again, mvpn_##noun##_encode(again, sizeof(again), &m), in);                  \
        }                                                                                          \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t again[1 << 18];
    if (size < 1 || size > sizeof(again)) {
        return 0;
    }
    mvpn_bytes in = mvpn_bytes_of(data + 1, size - 1);
    uint8_t reason;
    switch (data[0] & 7) {
    case 0:
        RECODE(create);
        break;
    case 1:
        RECODE(created);
        break;
    case 2:
        RECODE(extend);
        break;
    case 3:
        RECODE(extend_body);
        break;
    case 4:
        RECODE(extended);
        break;
    case 5:
        RECODE(begin);
        break;
    case 6:
        RECODE(connected);
        break;
    default:
        if (mvpn_reason_decode(&reason, in) == 0) {
            FUZZ_CHECK(in.n == 1 && mvpn_reason_text(reason) != NULL);
        }
        break;
    }
    return 0;
}
