/* Messages about probes, and probes: [which 1] [body]. What decodes encodes to the same bytes. */
#include "fuzz/fuzz.h"
#include "wire/natprobe.h"

static void messages(unsigned which, mvpn_bytes in)
{
    uint8_t again[MVPN_NAT_PROBED_LEN];
    mvpn_nat_probe_ask ask;
    mvpn_nat_probe_for probe_for;
    mvpn_nat_probed probed;
    if (which == 0 && mvpn_nat_probe_decode(&ask, in) == 0) {
        FUZZ_CHECK(ask.kind >= 1 && ask.kind <= 3 && ask.delay_s <= MVPN_PROBE_DELAY_MAX_S);
        mvpn_nat_probe_encode(again, &ask);
        fuzz_same(again, MVPN_NAT_PROBE_LEN, in);
    } else if (which == 1 && mvpn_nat_probe_for_decode(&probe_for, in) == 0) {
        FUZZ_CHECK(probe_for.to.family != 0 && probe_for.to.port != 0);
        mvpn_nat_probe_for_encode(again, &probe_for);
        fuzz_same(again, MVPN_NAT_PROBE_FOR_LEN, in);
    } else if (which == 2 && mvpn_nat_probed_decode(&probed, in) == 0) {
        FUZZ_CHECK((probed.status == 0) == (probed.seen.family != 0));
        mvpn_nat_probed_encode(again, &probed);
        fuzz_same(again, MVPN_NAT_PROBED_LEN, in);
    }
}

static void datagrams(mvpn_bytes in)
{
    uint8_t again[MVPN_PROBE_LEN];
    mvpn_probe_token token;
    if (mvpn_probe_decode(&token, in) == 0) {
        mvpn_probe_encode(again, &token, in.p);
        fuzz_same(again, MVPN_PROBE_LEN, in);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size >= 1) {
        mvpn_bytes in = mvpn_bytes_of(data + 1, size - 1);
        messages(data[0] & 3, in);
        if ((data[0] & 3) == 3) {
            datagrams(in);
        }
    }
    return 0;
}
