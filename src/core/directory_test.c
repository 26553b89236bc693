/* What a directory answers: every request once at least, never more than its room and its share. */
#include "core/testing.h"

#include "core/directory.h"
#include "core/testrecords.h"
#include "wire/message.h"

enum { RELAYS = 60, ROOM = MVPN_DHT_BODY_MAX };

static test_network net;
static mvpn_view *view;
static mvpn_descriptor relay[RELAYS];
static test_snapshot snapshot;

/* Replies as they came. */
static struct {
    unsigned command[MVPN_DIRECTORY_REPLIES_MAX + 1];
    uint8_t body[MVPN_DIRECTORY_REPLIES_MAX + 1][MVPN_BODY_MAX];
    size_t len[MVPN_DIRECTORY_REPLIES_MAX + 1];
    unsigned count;
    unsigned takes; /* then it says no more */
    size_t room;
} got;

static bool take(void *ctx, unsigned command, mvpn_bytes body)
{
    assert_ptr_equal(ctx, &got);
    if (got.count == got.takes) {
        return false;
    }
    assert_in_range(body.n, 0, got.room);
    got.command[got.count] = command;
    got.len[got.count] = body.n;
    memcpy(got.body[got.count++], body.p, body.n);
    return true;
}

static unsigned ask_raw(unsigned command, mvpn_bytes body, size_t room)
{
    got.count = 0;
    got.takes = got.takes == 0 ? MVPN_DIRECTORY_REPLIES_MAX : got.takes;
    got.room = room;
    unsigned n = mvpn_directory_answer(view, command, body, room, TEST_NOW, take, &got);
    assert_int_equal(n, got.count);
    return n;
}

static unsigned ask(const mvpn_dht_request *q, size_t room)
{
    uint8_t body[MVPN_BODY_MAX];
    size_t n = mvpn_dht_request_encode(body, sizeof(body), q);
    return ask_raw(q->command, mvpn_bytes_of(body, n), room);
}

static mvpn_dht_reply reply(unsigned i)
{
    mvpn_dht_reply m;
    assert_in_range(i, 0, got.count - 1);
    assert_int_equal(
        mvpn_dht_reply_decode(&m, got.command[i], mvpn_bytes_of(got.body[i], got.len[i])), 0);
    return m;
}

static void expect_error(unsigned reason)
{
    assert_int_equal(got.count, 1);
    assert_int_equal(got.command[0], MVPN_CMD_DHT_ERROR);
    assert_int_equal(reply(0).status, reason);
}

static mvpn_dht_id key_of(const mvpn_descriptor *d)
{
    mvpn_dht_id key;
    mvpn_record_key(key.b, &net.trust.network_id, &d->identity);
    return key;
}

static int setup(void **state)
{
    (void)state;
    test_network_make(&net, 1);
    const mvpn_view_config config = {.trust = &net.trust};
    assert_int_equal(mvpn_view_new(&config, &view), 0);
    for (unsigned i = 0; i < RELAYS; i++) {
        relay[i] = test_relay(&net, i, 7 + i);
        assert_int_equal(mvpn_view_add(view, &relay[i]), 0);
        (void)test_snapshot_add(&net, &snapshot, &relay[i]);
    }
    test_snapshot_sign(&net, &snapshot, 200, TEST_HOUR);
    assert_int_equal(
        mvpn_view_put(view, MVPN_RECORD_SNAPSHOT_HEAD, test_head_record(&snapshot), 0, TEST_NOW),
        0);
    assert_int_equal(mvpn_view_put_snapshot(view, test_snapshot_bytes(&snapshot), TEST_NOW), 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mvpn_view_free(view);
    free(snapshot.bytes);
    return 0;
}

static int each(void **state)
{
    (void)state;
    got.takes = 0;
    return 0;
}

static void test_find_value(void **state)
{
    (void)state;
    mvpn_dht_request q = {.command = MVPN_CMD_DHT_FIND_VALUE, .target = key_of(&relay[3])};
    assert_int_equal(ask(&q, ROOM), 1);
    assert_int_equal(got.command[0], MVPN_CMD_DHT_VALUE);
    assert_int_equal(reply(0).type, MVPN_RECORD_DESCRIPTOR);
    assert_int_equal(reply(0).record.n, relay[3].encoded_len);
    assert_memory_equal(reply(0).record.p, relay[3].encoded, relay[3].encoded_len);
    mvpn_snapshot_head_key(&q.target, &net.trust.network_id, &snapshot.head.identity);
    (void)ask(&q, ROOM);
    assert_int_equal(reply(0).type, MVPN_RECORD_SNAPSHOT_HEAD);
    q.target.b[0] ^= 1;
    (void)ask(&q, ROOM);
    assert_int_equal(got.command[0], MVPN_CMD_DHT_NODES);
    assert_int_equal(reply(0).contact_count, 0);
    q.target = key_of(&relay[3]);
    (void)ask(&q, relay[3].encoded_len);
    expect_error(MVPN_DHT_ERROR_NOT_SERVED);
}

static void test_list(void **state)
{
    (void)state;
    for (size_t room = MVPN_DIRECTORY_ROOM_MIN; room <= ROOM; room += 37) {
        mvpn_dht_request q = {.command = MVPN_CMD_DHT_LIST};
        size_t seen = 0;
        mvpn_dht_id last = {{0}};
        for (bool more = true; more;) {
            assert_int_equal(ask(&q, room), 1);
            assert_int_equal(got.command[0], MVPN_CMD_DHT_LISTED);
            mvpn_dht_reply m = reply(0);
            assert_int_equal(m.total, RELAYS + 1);
            assert_int_not_equal(m.listed_count, 0);
            assert_true(seen == 0 || memcmp(last.b, m.listed[0].key.b, sizeof(last.b)) < 0);
            seen += m.listed_count;
            last = m.listed[m.listed_count - 1].key;
            q.target = last;
            assert_int_not_equal(++q.target.b[19], 0);
            more = m.more;
        }
        assert_int_equal(seen, RELAYS + 1);
    }
    mvpn_dht_request q = {.command = MVPN_CMD_DHT_LIST, .target = {{0xff}}, .bits = 160};
    (void)ask(&q, ROOM);
    assert_int_equal(reply(0).listed_count, 0);
    assert_false(reply(0).more);
}

static void test_fetch(void **state)
{
    (void)state;
    mvpn_dht_request q = {.command = MVPN_CMD_DHT_FETCH, .key_count = MVPN_DHT_FETCH_MAX};
    for (unsigned i = 0; i < MVPN_DHT_FETCH_MAX; i++) {
        q.keys[i] = key_of(&relay[i]);
    }
    q.keys[5].b[0] ^= 1; /* it has none such */
    for (size_t room = 600; room <= ROOM; room += 143) {
        unsigned n = ask(&q, room), records = 0;
        assert_in_range(n, room >= ROOM - 143 ? 10 : 1, MVPN_DHT_FETCH_MAX);
        for (unsigned i = 0; i < n; i++) {
            mvpn_dht_reply m = reply(i);
            mvpn_bytes rest = m.record, record;
            uint8_t type;
            assert_int_equal(got.command[i], MVPN_CMD_DHT_FETCHED);
            assert_int_equal(m.more, i + 1 < n);
            unsigned in_this = records;
            while (mvpn_dht_fetched_next(&rest, &type, &record) == 0) {
                unsigned k = records < 5 ? records : records + 1;
                assert_int_equal(type, MVPN_RECORD_DESCRIPTOR);
                assert_int_equal(record.n, relay[k].encoded_len);
                assert_memory_equal(record.p, relay[k].encoded, record.n);
                records++;
            }
            assert_true(records > in_this);
            assert_true(room < 1000 || i + 1 == n || records - in_this >= 2); /* packed */
        }
        assert_int_equal(records, MVPN_DHT_FETCH_MAX - 1);
    }
    /* None of them: one reply that says so. And none that fits. */
    mvpn_dht_request none = {.command = MVPN_CMD_DHT_FETCH, .key_count = 1};
    for (unsigned round = 0; round < 2; round++) {
        none.keys[0] = round == 0 ? q.keys[5] : q.keys[6];
        assert_int_equal(ask(&none, round == 0 ? ROOM : 100), 1);
        assert_int_equal(reply(0).record.n, 0);
        assert_false(reply(0).more);
    }
    /* The receiver is full: nothing is sent into the void. */
    got.takes = 3;
    assert_int_equal(ask(&q, ROOM), 3);
    assert_true(reply(2).more);
}

static void test_blob(void **state)
{
    (void)state;
    mvpn_dht_request q = {.command = MVPN_CMD_DHT_BLOB, .digest = snapshot.head.digest};
    uint8_t *all = calloc(1, snapshot.len);
    assert_non_null(all);
    while (q.offset < snapshot.len) {
        assert_int_equal(ask(&q, ROOM), 1);
        mvpn_dht_reply m = reply(0);
        assert_int_equal(got.command[0], MVPN_CMD_DHT_BLOB_PART);
        assert_int_equal(m.total, snapshot.len);
        assert_int_equal(m.offset, q.offset);
        assert_in_range(m.bytes.n, 1, snapshot.len - q.offset);
        memcpy(all + q.offset, m.bytes.p, m.bytes.n);
        q.offset += (uint32_t)m.bytes.n;
    }
    assert_memory_equal(all, snapshot.bytes, snapshot.len);
    free(all);
    q.offset = UINT32_MAX;
    (void)ask(&q, ROOM);
    assert_int_equal(reply(0).bytes.n, 0);
    assert_int_equal(reply(0).total, snapshot.len);
    q.offset = 0;
    q.digest.b[0] ^= 1;
    (void)ask(&q, ROOM);
    assert_int_equal(reply(0).total, 0);
    assert_int_equal(reply(0).bytes.n, 0);
}

static void test_not_served(void **state)
{
    (void)state;
    uint8_t record[] = {1};
    const mvpn_dht_request others[] = {
        {.command = MVPN_CMD_DHT_PING},
        {.command = MVPN_CMD_DHT_FIND_NODE},
        {.command = MVPN_CMD_DHT_STORE, .type = 1, .record = MVPN_BYTES_ARRAY(record)},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(others); i++) {
        (void)ask(&others[i], ROOM);
        expect_error(MVPN_DHT_ERROR_NOT_SERVED);
    }
    for (unsigned command = MVPN_CMD_DHT_PONG; command <= MVPN_CMD_DHT_ERROR; command++) {
        (void)ask_raw(command, MVPN_BYTES_NONE, ROOM);
        expect_error(MVPN_DHT_ERROR_NOT_SERVED);
    }
}

static void test_malformed(void **state)
{
    (void)state;
    uint8_t body[MVPN_BODY_MAX] = {0};
    const unsigned commands[] = {MVPN_CMD_DHT_FIND_NODE,  MVPN_CMD_DHT_STORE,
                                 MVPN_CMD_DHT_FIND_VALUE, MVPN_CMD_DHT_LIST,
                                 MVPN_CMD_DHT_FETCH,      MVPN_CMD_DHT_BLOB};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(commands); i++) {
        for (size_t n = 0; n < 20; n++) {
            (void)ask_raw(commands[i], mvpn_bytes_of(body, n), ROOM);
            if (commands[i] != MVPN_CMD_DHT_STORE || n < 2) {
                expect_error(MVPN_DHT_ERROR_MALFORMED);
            }
        }
        (void)ask_raw(commands[i], mvpn_bytes_of(body, sizeof(body)), ROOM);
        expect_error(MVPN_DHT_ERROR_MALFORMED);
    }
    body[20] = 161; /* bits of List */
    (void)ask_raw(MVPN_CMD_DHT_LIST, mvpn_bytes_of(body, 21), ROOM);
    expect_error(MVPN_DHT_ERROR_MALFORMED);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup(f, each)
    const struct CMUnitTest tests[] = {
        TEST(test_find_value), TEST(test_list),       TEST(test_fetch),
        TEST(test_blob),       TEST(test_not_served), TEST(test_malformed),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
