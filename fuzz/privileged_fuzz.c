/*
 * What a taken-over worker may send to the helper, and a taken-over helper to the worker. First
 * byte: 0 a request, 1 a reply as they are; else whole conversations: requests with the state that
 * they bring about, against what the helper may never do.
 */
#include "base/error.h"
#include "core/protect.h"
#include "fuzz/fuzz.h"
#include "io/privileged.h"

static void request(mvpn_bytes in)
{
    mvpn_privileged_request m;
    if (mvpn_privileged_request_decode(in, &m) == 0) {
        static uint8_t again[MVPN_PRIVILEGED_REQUEST_MAX];
        size_t n = mvpn_privileged_request_encode(&m, again);
        fuzz_same(again, n, in);
    }
}

static void reply(mvpn_bytes in)
{
    mvpn_privileged_reply m;
    if (mvpn_privileged_reply_decode(in, &m) == 0) {
        uint8_t again[MVPN_PRIVILEGED_REPLY_LEN];
        FUZZ_CHECK((unsigned)m.protection.state < MVPN_PROTECT_STATES);
        FUZZ_CHECK(m.code <= 0 && strnlen(m.text, sizeof(m.text)) < sizeof(m.text));
        mvpn_privileged_reply_encode(&m, again);
        fuzz_same(again, sizeof(again), in);
    }
}

/* Said here again in another way: a /16, a /64, never the own end, and one of them at least. */
static bool may_be_released(const mvpn_privileged_request *m)
{
    static const uint8_t net6[8] = {0xfd, 0x6d, 0x76, 0x70, 0, 0xe};
    static const uint8_t own6[8] = {[7] = 1}, zero[16];
    if (m->pairs.n == 0 || m->pairs.n % 20 != 0 || m->pairs.n > 20 * 1024) {
        return false;
    }
    for (const uint8_t *p = m->pairs.p; p < m->pairs.p + m->pairs.n; p += 20) {
        bool no4 = memcmp(p, zero, 4) == 0, no6 = memcmp(p + 4, zero, 16) == 0;
        bool ok4 = no4 || (p[0] == 10 && p[1] == 64 && !(p[2] == 0 && p[3] == 1));
        bool ok6 = no6 || (memcmp(p + 4, net6, 8) == 0 && memcmp(p + 12, own6, 8) != 0);
        if (!ok4 || !ok6 || (no4 && no6)) {
            return false;
        }
    }
    return true;
}

static void conversation(mvpn_reader *in)
{
    unsigned kind = mvpn_read8(in) % 3;
    const mvpn_privileged_limits limits = {
        .is_exit = kind == 0,
        .is_client = kind == 1,
        .pool_v4 = {{.family = kind == 0 ? 4 : 0, .ip = {10, 64}}, 16},
        .pool_v6 = {{.family = kind == 0 ? 6 : 0, .ip = {0xfd, 0x6d, 0x76, 0x70, 0, 0xe}}, 64},
    };
    enum mvpn_privileged_state state = MVPN_PRIVILEGED_NEW;
    while (fuzz_more(in)) {
        mvpn_privileged_request m;
        /* How many descriptors come along, and how many pairs are in the message. */
        unsigned descriptors = mvpn_read8(in);
        size_t size = MVPN_PRIVILEGED_HEAD_LEN + descriptors / 3 * MVPN_PRIVILEGED_PAIR_LEN;
        descriptors %= 3;
        mvpn_bytes message = mvpn_read_bytes(in, MVPN_MIN(mvpn_reader_left(in), size));
        if (mvpn_privileged_request_decode(message, &m) != 0 ||
            mvpn_privileged_check(&limits, state, &m, descriptors) != 0) {
            return; /* the helper hangs up */
        }
        FUZZ_CHECK(m.op != MVPN_PRIVILEGED_SETUP || (kind != 2 && state == MVPN_PRIVILEGED_NEW));
        FUZZ_CHECK(m.op != MVPN_PRIVILEGED_RELEASE ||
                   (kind == 0 && state == MVPN_PRIVILEGED_SEALED && may_be_released(&m)));
        FUZZ_CHECK(m.op != MVPN_PRIVILEGED_MARK || (kind == 1 && descriptors == 1));
        FUZZ_CHECK(m.op != MVPN_PRIVILEGED_OUTSIDE ||
                   (kind == 1 && state == MVPN_PRIVILEGED_SEALED && descriptors == 1));
        FUZZ_CHECK(m.op == MVPN_PRIVILEGED_MARK || m.op == MVPN_PRIVILEGED_OUTSIDE ||
                   descriptors == 0);
        FUZZ_CHECK(m.op != MVPN_PRIVILEGED_OPEN); /* no domains here */
        FUZZ_CHECK(m.op == MVPN_PRIVILEGED_RELEASE || m.pairs.n == 0);
        /* A worker cannot say that it starts anew, is done, or has fallen: none of these opens. */
        FUZZ_CHECK(m.op != MVPN_PRIVILEGED_PROTECT ||
                   (kind == 1 && state == MVPN_PRIVILEGED_SEALED &&
                    (m.event == MVPN_PROTECT_ESTABLISHED || m.event == MVPN_PROTECT_LOST ||
                     m.event == MVPN_PROTECT_DOWN)));
        FUZZ_CHECK(m.op != MVPN_PRIVILEGED_LOOK || (kind == 1 && state == MVPN_PRIVILEGED_SEALED));
        FUZZ_CHECK(m.op == MVPN_PRIVILEGED_PROTECT || m.event == 0);
        if (m.op == MVPN_PRIVILEGED_FINISH) {
            return;
        }
        state = m.op == MVPN_PRIVILEGED_SEAL ? MVPN_PRIVILEGED_SEALED : state;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    mvpn_reader in = mvpn_reader_init(mvpn_bytes_of(data, size));
    switch (mvpn_read8(&in)) {
    case 0:
        request(mvpn_read_rest(&in));
        break;
    case 1:
        reply(mvpn_read_rest(&in));
        break;
    default:
        conversation(&in);
        break;
    }
    return 0;
}
