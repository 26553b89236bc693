/*
 * A sweep before a directory that answers what the bytes say, or honestly, or not at all: it ends,
 * asks a bounded number of times, and keeps nothing.
 *
 *   0: ask what there is to ask   1: answer honestly   2 [which] [command] [body]: answer so
 *   3 [1]: time passes
 */
#include "core/directory.h"
#include "core/sweep.h"
#include "core/testrecords.h"
#include "fuzz/fuzz.h"
#include "wire/message.h"

#define RELAYS 30
#define ASKED 8
/* Four requests under way, each asked again up to four times, for as many steps as there are. */
#define POOL 16

static test_network net;

static mvpn_view *view_new(bool is_full)
{
    static test_snapshot snapshot;
    mvpn_view *view;
    const mvpn_view_config config = {.trust = &net.trust, .sample_key = {1}};
    FUZZ_CHECK(mvpn_view_new(&config, &view) == 0);
    if (!is_full) {
        return view;
    }
    for (unsigned i = 0; i < RELAYS; i++) {
        mvpn_descriptor d = test_relay(&net, i, 1);
        FUZZ_CHECK(mvpn_view_add(view, &d) == 0);
        (void)test_snapshot_add(&net, &snapshot, &d);
    }
    test_snapshot_sign(&net, &snapshot, 3, TEST_HOUR);
    FUZZ_CHECK(mvpn_view_put(view, MVPN_RECORD_SNAPSHOT_HEAD, test_head_record(&snapshot), 0,
                             TEST_NOW) == 0);
    FUZZ_CHECK(mvpn_view_put_snapshot(view, test_snapshot_bytes(&snapshot), TEST_NOW) == 0);
    free(snapshot.bytes);
    return view;
}

typedef struct asked {
    uint32_t id;
    unsigned command;
    size_t len;
    uint8_t body[MVPN_DHT_BODY_MAX];
} asked;

typedef struct run {
    sweep *s;
    mvpn_packet_pool pool;
    mvpn_time now;
    asked last[ASKED];
    size_t asked;
    const asked *answering;
} run;

static void ask(run *r)
{
    sweep_request q;
    for (unsigned i = 0; sweep_pull(r->s, r->now, &q); i++) {
        FUZZ_CHECK(i < 4); /* at one instant */
        FUZZ_CHECK(q.packet->len > 0 && q.packet->len <= MVPN_DHT_BODY_MAX);
        asked *a = &r->last[r->asked++ % ASKED];
        *a = (asked){.id = q.id, .command = q.command, .len = q.packet->len};
        memcpy(a->body, q.packet->data, a->len);
        mvpn_packet_free(&r->pool, q.packet);
    }
}

static bool reply(void *ctx, unsigned command, mvpn_bytes body)
{
    run *r = ctx;
    sweep_reply(r->s, r->answering->id, command, body, TEST_NOW, r->now);
    return true;
}

static void step(run *r, mvpn_reader *in, const mvpn_view *theirs)
{
    asked a = r->last[r->asked == 0 ? 0 : (r->asked - 1) % ASKED];
    switch (mvpn_read8(in) % 4) {
    case 0:
        ask(r);
        break;
    case 1:
        for (unsigned i = 0; i < ASKED && i < r->asked; i++) {
            a = r->last[i];
            r->answering = &a;
            (void)mvpn_directory_answer(theirs, a.command, mvpn_bytes_of(a.body, a.len),
                                        MVPN_DHT_BODY_MAX, TEST_NOW, reply, r);
        }
        break;
    case 2:
        a = r->last[mvpn_read8(in) % ASKED];
        unsigned command = mvpn_read8(in);
        sweep_reply(r->s, a.id, command, fuzz_chunk(in, MVPN_DHT_BODY_MAX), TEST_NOW, r->now);
        break;
    default:
        r->now += MVPN_MS(100) * mvpn_read8(in);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static mvpn_view *theirs;
    mvpn_reader in = mvpn_reader_init(mvpn_bytes_of(data, size));
    mvpn_rng rng;
    run r = {.now = MVPN_S(10)};
    if (theirs == NULL) {
        test_network_make(&net, 1);
        theirs = view_new(true);
    }
    mvpn_view *ours = view_new(false);
    mvpn_rng_init_test(&rng, 1);
    FUZZ_CHECK(mvpn_packet_pool_init(&r.pool, POOL) == 0);
    r.s = sweep_new(&(sweep_env){&rng, &r.pool, ours}, 77, r.now);
    FUZZ_CHECK(r.s != NULL);
    while (fuzz_more(&in)) {
        step(&r, &in, theirs);
        FUZZ_CHECK(mvpn_view_count(ours) <= RELAYS);
    }
    (void)sweep_records(r.s);
    FUZZ_CHECK(sweep_result_of(r.s, r.now + MVPN_S(121)) != SWEEP_GOING);
    sweep_free(r.s);
    FUZZ_CHECK(r.pool.free_count == r.pool.size);
    mvpn_packet_pool_done(&r.pool);
    mvpn_view_free(ours);
    mvpn_rng_done(&rng);
    return 0;
}
