/* Messages of NAT relays: [which 1] [body]. What decodes encodes to the same bytes. */
#include "fuzz/fuzz.h"
#include "wire/natmsg.h"

static void questions(unsigned which, mvpn_bytes in)
{
    uint8_t again[MVPN_NAT_OPEN_LEN];
    mvpn_nat_open open;
    mvpn_nat_more more;
    mvpn_nat_id id;
    uint16_t lifetime;
    if (which == 0 && mvpn_nat_register_decode(&lifetime, in) == 0) {
        mvpn_nat_register_encode(again, lifetime);
        fuzz_same(again, MVPN_NAT_REGISTER_LEN, in);
    } else if (which == 1 && mvpn_nat_open_decode(&open, in) == 0) {
        FUZZ_CHECK(open.count >= MVPN_NAT_OPEN_IDS_MIN && open.count <= MVPN_NAT_IDS_MAX);
        mvpn_nat_open_encode(again, &open);
        fuzz_same(again, MVPN_NAT_OPEN_LEN, in);
    } else if (which == 2 && mvpn_nat_more_decode(&more, in) == 0) {
        FUZZ_CHECK(more.count >= 1 && more.count <= MVPN_NAT_IDS_MAX);
        mvpn_nat_more_encode(again, &more);
        fuzz_same(again, MVPN_NAT_MORE_LEN, in);
    } else if (which == 3 && mvpn_nat_close_decode(&id, in) == 0) {
        fuzz_same(id.b, sizeof(id.b), in);
    }
}

static void answers(unsigned which, mvpn_bytes in)
{
    uint8_t again[MVPN_NAT_OPENED_LEN_MAX];
    mvpn_nat_registered registered;
    mvpn_nat_opened opened;
    mvpn_nat_ids ids;
    mvpn_nat_addressed addressed;
    if (which == 4 && mvpn_nat_registered_decode(&registered, in) == 0) {
        mvpn_nat_registered_encode(again, &registered);
        fuzz_same(again, MVPN_NAT_REGISTERED_LEN, in);
    } else if (which == 5 && mvpn_nat_opened_decode(&opened, in) == 0) {
        FUZZ_CHECK(opened.ids.count <= MVPN_NAT_IDS_MAX);
        fuzz_same(again, mvpn_nat_opened_encode(again, &opened), in);
    } else if (which == 6 && mvpn_nat_incoming_decode(&ids, in) == 0) {
        FUZZ_CHECK(ids.count >= 1 && ids.count <= MVPN_NAT_IDS_MAX);
        fuzz_same(again, mvpn_nat_incoming_encode(again, &ids), in);
    } else if (which == 7 && mvpn_nat_addressed_decode(&addressed, in) == 0) {
        FUZZ_CHECK((addressed.status == 0) == (addressed.addr.port != 0));
        mvpn_nat_addressed_encode(again, &addressed);
        fuzz_same(again, MVPN_NAT_ADDRESSED_LEN, in);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size >= 1) {
        mvpn_bytes in = mvpn_bytes_of(data + 1, size - 1);
        questions(data[0] & 7, in);
        answers(data[0] & 7, in);
    }
    return 0;
}
