/* Requests against a small view: each is answered, within its room and its share of replies. */
#include "core/directory.h"
#include "core/testrecords.h"
#include "fuzz/fuzz.h"
#include "wire/message.h"

static mvpn_view *small_view(void)
{
    static test_network net;
    static test_snapshot snapshot;
    mvpn_view *view;
    const mvpn_view_config config = {.trust = &net.trust};
    test_network_make(&net, 1);
    FUZZ_CHECK(mvpn_view_new(&config, &view) == 0);
    for (unsigned i = 0; i < 40; i++) {
        mvpn_descriptor d = test_relay(&net, i, 1);
        FUZZ_CHECK(mvpn_view_add(view, &d) == 0);
        (void)test_snapshot_add(&net, &snapshot, &d);
    }
    test_snapshot_sign(&net, &snapshot, 200, TEST_HOUR);
    FUZZ_CHECK(mvpn_view_put(view, MVPN_RECORD_SNAPSHOT_HEAD, test_head_record(&snapshot), 0,
                             TEST_NOW) == 0);
    FUZZ_CHECK(mvpn_view_put_snapshot(view, test_snapshot_bytes(&snapshot), TEST_NOW) == 0);
    free(snapshot.bytes);
    return view;
}

typedef struct replies {
    size_t room;
    unsigned count, takes;
    bool said_last;
} replies;

static bool take(void *ctx, unsigned command, mvpn_bytes body)
{
    replies *got = ctx;
    mvpn_dht_reply m;
    if (got->count == got->takes) {
        return false;
    }
    got->count++;
    FUZZ_CHECK(body.n <= got->room && !got->said_last);
    FUZZ_CHECK(mvpn_dht_reply_decode(&m, command, body) == 0);
    got->said_last = command != MVPN_CMD_DHT_FETCHED || !m.more;
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static mvpn_view *view; /* nothing in an answer changes it */
    mvpn_reader in = mvpn_reader_init(mvpn_bytes_of(data, size));
    if (view == NULL) {
        view = small_view();
    }
    unsigned command = mvpn_read8(&in);
    size_t room = MVPN_DIRECTORY_ROOM_MIN + mvpn_read16(&in) % 1400u;
    replies got = {.room = room, .takes = 1 + mvpn_read8(&in) % 64u};
    unsigned n =
        mvpn_directory_answer(view, command, mvpn_read_rest(&in), room, TEST_NOW, take, &got);
    FUZZ_CHECK(n == got.count && n >= 1 && n <= MVPN_DIRECTORY_REPLIES_MAX);
    FUZZ_CHECK(got.said_last || n == got.takes);
    return 0;
}
