/*
 * The whole core: single nodes asked and answered by hand, and a few hundred of them in a small
 * network of virtual time, 50 ms from each to each.
 */
#include "crypto/hash.h"
#include "dht/dht.h"
#include "dht/testing.h"
#include "wire/message.h"

#define NODES_MAX 300
#define DELAY MVPN_MS(25)
#define STEP MVPN_MS(5)
#define UNIX 1800000000u
#define RECORD_LEN 40

/* ---- records: [owner 8] [sequence 8] [expires 8] [check 8] [filler] ---- */

static uint64_t check_of(const uint8_t *record)
{
    return (mvpn_load64(record) * 31 + mvpn_load64(record + 8) * 17 + mvpn_load64(record + 16)) ^
           0x5a5a5a5a5a5a5a5au;
}

static void make_record(uint8_t out[static RECORD_LEN], uint64_t owner, uint64_t sequence,
                        uint64_t expires)
{
    memset(out, 0, RECORD_LEN);
    mvpn_store64(out, owner);
    mvpn_store64(out + 8, sequence);
    mvpn_store64(out + 16, expires);
    mvpn_store64(out + 24, check_of(out));
}

static mvpn_dht_id key_of(uint64_t owner)
{
    mvpn_dht_id key = {{0}};
    for (size_t i = 0; i < MVPN_DHT_ID_LEN; i++) {
        owner = owner * 6364136223846793005u + 1442695040888963407u;
        key.b[i] = (uint8_t)(owner >> 56);
    }
    return key;
}

static uint64_t revoked = UINT64_MAX; /* an owner */

static int verify(void *ctx, unsigned type, mvpn_bytes record, uint64_t unix_now,
                  mvpn_record_info *ret)
{
    (void)ctx;
    if (type != MVPN_RECORD_DESCRIPTOR || record.n != RECORD_LEN) {
        return MVPN_E_FORMAT;
    }
    if (mvpn_load64(record.p + 24) != check_of(record.p)) {
        return MVPN_E_AUTH;
    }
    if (mvpn_load64(record.p) == revoked) {
        return MVPN_E_POLICY;
    }
    if (mvpn_load64(record.p + 16) <= unix_now) {
        return MVPN_E_EXPIRED;
    }
    *ret = (mvpn_record_info){key_of(mvpn_load64(record.p)), mvpn_load64(record.p + 8),
                              mvpn_load64(record.p + 16)};
    return 0;
}

/* ---- nodes ---- */

static mvpn_rng rng;
static mvpn_time now;

static mvpn_dht_contact server_at(uint32_t ip, uint32_t index)
{
    mvpn_ed25519_pub identity;
    mvpn_dht_contact c = {.addr = {.family = 4, .port = 4000}};
    mvpn_rng_bytes(&rng, identity.b, sizeof(identity.b));
    mvpn_store32(c.addr.ip, ip);
    mvpn_dht_node_id(&c.id, &identity, &c.addr);
    mvpn_store32(c.link_key.b, index);
    return c;
}

static mvpn_dht *new_node(const mvpn_dht_contact *self, bool is_walker)
{
    mvpn_dht *dht = NULL;
    mvpn_dht_config c = {.rng = &rng,
                         .verify = verify,
                         .unix_offset_us = (int64_t)UNIX * 1000000,
                         .is_server = self != NULL,
                         .is_walker = is_walker};
    if (self != NULL) {
        c.self = *self;
    }
    assert_int_equal(mvpn_dht_new(&c, now, &dht), 0);
    return dht;
}

static const uint32_t foreign_ip = 0x21000001;

static mvpn_dht_reply reply;

/* Ask by hand. */
static int ask(mvpn_dht *dht, uint32_t ip, bool is_proven, const mvpn_dht_request *request)
{
    mvpn_dht_asker asker = {.addr = {.family = 4, .port = 9}, .is_proven = is_proven};
    mvpn_store32(asker.addr.ip, ip);
    return mvpn_dht_request_in(dht, &asker, request, now, &reply);
}

static bool pull(mvpn_dht *dht, mvpn_dht_outgoing *out, uint16_t command)
{
    while (mvpn_dht_pull_request(dht, out)) {
        if (out->request.command == command) {
            return true;
        }
    }
    return false;
}

static void answer_pong(mvpn_dht *dht, const mvpn_dht_outgoing *out, bool is_certified)
{
    mvpn_dht_reply pong = {.command = MVPN_CMD_DHT_PONG};
    mvpn_dht_reply_in(dht, out->transaction, &pong, is_certified, now);
}

/* Give a node contacts that have proven themselves; lookups that it begins are left unanswered. */
static size_t befriend(mvpn_dht *dht, mvpn_dht_contact *contacts, size_t count)
{
    mvpn_dht_outgoing out;
    mvpn_dht_status s;
    for (size_t i = 0; i < count; i++) {
        contacts[i] = server_at(0x0b000001u + ((uint32_t)i << 16), (uint32_t)i);
        mvpn_dht_add_contact(dht, &contacts[i], now);
        while (mvpn_dht_pull_request(dht, &out)) {
            if (out.request.command == MVPN_CMD_DHT_PING) {
                assert_true(out.wants_certificate);
                answer_pong(dht, &out, true);
            }
        }
    }
    mvpn_dht_get_status(dht, &s);
    return s.contacts;
}

static void pass(mvpn_dht *dht, mvpn_time span)
{
    for (mvpn_time end = now + span; now < end;) {
        now = mvpn_time_min(MVPN_MAX(now, mvpn_dht_deadline(dht)), end);
        mvpn_dht_tick(dht, now);
    }
}

static size_t contacts_of(const mvpn_dht *dht)
{
    mvpn_dht_status s;
    mvpn_dht_get_status(dht, &s);
    return s.contacts;
}

/* ---- one node ---- */

static void requests_are_answered(void **state)
{
    (void)state;
    uint8_t good[RECORD_LEN], forged[RECORD_LEN], late[RECORD_LEN], newer[RECORD_LEN];
    mvpn_dht_contact self = server_at(0x0a0b0c0d, 999);
    mvpn_dht *dht = new_node(&self, false);
    make_record(good, 1, 5, UNIX + 9999);
    make_record(newer, 1, 6, UNIX + 9999);
    make_record(late, 2, 5, UNIX - 1);
    make_record(forged, 3, 5, UNIX + 9999);
    forged[RECORD_LEN - 16] ^= 1;
    const struct {
        uint16_t command;
        const uint8_t *record;
        size_t len;
        bool is_proven;
        uint16_t reply;
        uint8_t status;
    } rows[] = {
        {MVPN_CMD_DHT_PING, NULL, 0, false, MVPN_CMD_DHT_PONG, 0},
        {MVPN_CMD_DHT_FIND_NODE, NULL, 0, false, MVPN_CMD_DHT_NODES, 0},
        {MVPN_CMD_DHT_FIND_VALUE, NULL, 0, true, MVPN_CMD_DHT_NODES, 0},
        {MVPN_CMD_DHT_STORE, good, RECORD_LEN, false, MVPN_CMD_DHT_ERROR, MVPN_DHT_ERROR_TOKEN},
        {MVPN_CMD_DHT_FIND_VALUE, NULL, 0, true, MVPN_CMD_DHT_NODES, 0},
        {MVPN_CMD_DHT_STORE, good, RECORD_LEN, true, MVPN_CMD_DHT_STORED, MVPN_DHT_STORED},
        {MVPN_CMD_DHT_STORE, good, RECORD_LEN, true, MVPN_CMD_DHT_STORED, MVPN_DHT_STORED_OLD},
        {MVPN_CMD_DHT_STORE, newer, RECORD_LEN, true, MVPN_CMD_DHT_STORED, MVPN_DHT_STORED},
        {MVPN_CMD_DHT_STORE, good, RECORD_LEN, true, MVPN_CMD_DHT_STORED, MVPN_DHT_STORED_OLD},
        {MVPN_CMD_DHT_STORE, late, RECORD_LEN, true, MVPN_CMD_DHT_STORED, MVPN_DHT_STORED_REFUSED},
        {MVPN_CMD_DHT_STORE, forged, RECORD_LEN, true, MVPN_CMD_DHT_STORED,
         MVPN_DHT_STORED_REFUSED},
        {MVPN_CMD_DHT_STORE, good, 7, true, MVPN_CMD_DHT_STORED, MVPN_DHT_STORED_REFUSED},
        {MVPN_CMD_DHT_FIND_VALUE, NULL, 0, true, MVPN_CMD_DHT_VALUE, 0},
        {MVPN_CMD_DHT_LIST, NULL, 0, true, MVPN_CMD_DHT_LISTED, 0},
        {MVPN_CMD_DHT_FETCH, NULL, 0, true, MVPN_CMD_DHT_FETCHED, 0},
        {MVPN_CMD_DHT_BLOB, NULL, 0, true, MVPN_CMD_DHT_ERROR, MVPN_DHT_ERROR_NOT_SERVED},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        mvpn_dht_request r = {.command = rows[i].command, .target = key_of(1)};
        r.type = MVPN_RECORD_DESCRIPTOR;
        r.record = mvpn_bytes_of(rows[i].record, rows[i].len);
        r.key_count = 1;
        r.keys[0] = key_of(1);
        assert_int_equal(ask(dht, foreign_ip, rows[i].is_proven, &r), 0);
        assert_int_equal(reply.command, rows[i].reply);
        assert_int_equal(reply.status, rows[i].status);
        if (reply.command == MVPN_CMD_DHT_VALUE) {
            assert_memory_equal(reply.record.p, newer, RECORD_LEN);
        }
        if (reply.command == MVPN_CMD_DHT_LISTED) {
            assert_int_equal(reply.listed_count, 1);
            assert_int_equal(reply.listed[0].sequence, 6);
        }
        if (reply.command == MVPN_CMD_DHT_FETCHED) {
            uint8_t type;
            mvpn_bytes rest = reply.record, record;
            assert_int_equal(mvpn_dht_fetched_next(&rest, &type, &record), 0);
            assert_memory_equal(record.p, newer, RECORD_LEN);
        }
    }
    revoked = 1;
    mvpn_dht_recheck(dht, now);
    revoked = UINT64_MAX;
    uint8_t type;
    mvpn_bytes held;
    mvpn_dht_id key = key_of(1);
    assert_false(mvpn_dht_stored(dht, &key, &type, &held));
    mvpn_dht_free(dht);
    dht = new_node(NULL, false); /* no server */
    mvpn_dht_request r = {.command = MVPN_CMD_DHT_PING};
    assert_int_equal(ask(dht, foreign_ip, true, &r), 0);
    assert_int_equal(reply.command, MVPN_CMD_DHT_ERROR);
    mvpn_dht_free(dht);
}

/* §11.4: 20 a second per /24, bursts of 100; without a token 500 a second in all. */
static void askers_are_limited(void **state)
{
    (void)state;
    mvpn_dht_contact self = server_at(0x0a0b0c0d, 999);
    mvpn_dht *dht = new_node(&self, false);
    mvpn_dht_request r = {.command = MVPN_CMD_DHT_PING};
    unsigned answered = 0;
    for (uint32_t i = 0; i < 1000; i++) {
        answered += ask(dht, foreign_ip + i % 200, true, &r) == 0;
    }
    assert_int_equal(answered, 100);
    answered = 0;
    for (uint32_t i = 0; i < 1000; i++) { /* each from a block of its own */
        answered += ask(dht, foreign_ip + (i << 10), false, &r) == 0;
    }
    assert_in_range(answered, 400, 500);
    mvpn_dht_free(dht);
}

/* §11.2: who becomes a contact by asking. */
static void claims_are_proven(void **state)
{
    (void)state;
    enum { GOOD, NO_TOKEN, OTHER_ADDRESS, OTHER_ID, NO_PROOF, ROWS };
    for (int row = 0; row < ROWS; row++) {
        mvpn_dht_contact self = server_at(0x0b0b0c0d, 0), claim = server_at(0x0c0b0c0d, 1);
        mvpn_dht *dht = new_node(&self, false);
        mvpn_dht_request r = {.command = MVPN_CMD_DHT_FIND_NODE, .target = claim.id};
        mvpn_dht_asker asker = {
            .addr = claim.addr, .is_proven = row != NO_TOKEN, .has_claim = true, .claim = claim};
        mvpn_dht_outgoing out;
        if (row == OTHER_ADDRESS) {
            asker.addr.port++;
        }
        if (row == OTHER_ID) {
            asker.claim.id.b[1] ^= 0x10;
        }
        assert_int_equal(mvpn_dht_request_in(dht, &asker, &r, now, &reply), 0);
        assert_int_equal(reply.contact_count, 0);
        bool is_asked = pull(dht, &out, MVPN_CMD_DHT_PING);
        assert_int_equal(is_asked, row == GOOD || row == NO_PROOF);
        if (is_asked) {
            assert_true(out.wants_certificate);
            answer_pong(dht, &out, row == GOOD);
        }
        assert_int_equal(contacts_of(dht), row == GOOD);
        r.target = self.id; /* handed out only if proven */
        assert_int_equal(ask(dht, foreign_ip, true, &r), 0);
        assert_int_equal(reply.contact_count, row == GOOD);
        mvpn_dht_free(dht);
    }
}

/* A block makes us ask once a minute, however many servers it says it has. */
static void proofs_are_asked_once_a_minute_and_block(void **state)
{
    (void)state;
    mvpn_dht_contact self = server_at(0x0b0b0c0d, 0);
    mvpn_dht *dht = new_node(&self, false);
    mvpn_dht_request r = {.command = MVPN_CMD_DHT_PING};
    mvpn_dht_outgoing out;
    unsigned pings = 0;
    for (uint32_t i = 0; i < 60; i++) {
        mvpn_dht_contact claim = server_at(0x0c0b0c00 + i, i);
        mvpn_dht_asker asker = {
            .addr = claim.addr, .is_proven = true, .has_claim = true, .claim = claim};
        assert_int_equal(mvpn_dht_request_in(dht, &asker, &r, now, &reply), 0);
        while (pull(dht, &out, MVPN_CMD_DHT_PING)) {
            pings++;
        }
    }
    assert_int_equal(pings, 1);
    mvpn_dht_free(dht);
}

/* A retry, a late answer, and when a contact is given up. */
static void silence_is_judged_with_care(void **state)
{
    (void)state;
    mvpn_dht_contact self = server_at(0x0a0b0c0d, 999), friends[2];
    mvpn_dht *dht = new_node(&self, false);
    mvpn_dht_outgoing first, second;
    assert_int_equal(befriend(dht, friends, 2), 2);
    /* All are silent: it is we who are cut off, nobody is forgotten. */
    pass(dht, MVPN_S(1800));
    assert_int_equal(contacts_of(dht), 2);
    /* Each request is sent twice. */
    uint32_t op;
    mvpn_dht_event e;
    while (mvpn_dht_pull_request(dht, &first)) {
    }
    while (mvpn_dht_pull_event(dht, &e)) {
    }
    mvpn_dht_id key = key_of(1);
    assert_int_equal(mvpn_dht_fetch(dht, &friends[0], &key, now, &op), 0);
    assert_true(pull(dht, &first, MVPN_CMD_DHT_FETCH));
    pass(dht, MVPN_MS(300));
    assert_true(pull(dht, &second, MVPN_CMD_DHT_FETCH));
    assert_int_not_equal(first.transaction, second.transaction);
    assert_false(mvpn_dht_pull_event(dht, &e));
    /* The answer to the first comes after its time-out: welcome. */
    uint8_t record[RECORD_LEN], body[RECORD_LEN + 8];
    size_t len = 1;
    make_record(record, 1, 4, UNIX + 99999);
    assert_int_equal(mvpn_dht_fetched_append(body, sizeof(body), &len, MVPN_RECORD_DESCRIPTOR,
                                             MVPN_BYTES_ARRAY(record)),
                     0);
    mvpn_dht_reply fetched = {.command = MVPN_CMD_DHT_FETCHED,
                              .record = mvpn_bytes_of(body + 1, len - 1)};
    mvpn_dht_reply_in(dht, first.transaction, &fetched, false, now);
    assert_true(mvpn_dht_pull_event(dht, &e));
    assert_int_equal(e.type, MVPN_DHT_EVENT_VALUE);
    assert_int_equal(e.op, op);
    assert_int_equal(e.sequence, 4);
    mvpn_dht_reply_in(dht, first.transaction, &fetched, false, now); /* twice: nothing */
    assert_false(mvpn_dht_pull_event(dht, &e));
    /* One answers, the other does not: that one goes, not before six requests. */
    unsigned asked = 0;
    for (int i = 0; i < 20000 && contacts_of(dht) == 2; i++) {
        while (mvpn_dht_pull_request(dht, &first)) {
            if (mvpn_dht_id_eq(&first.to.id, &friends[0].id)) {
                answer_pong(dht, &first, true);
            } else {
                asked++;
            }
        }
        pass(dht, MVPN_MS(100));
        mvpn_dht_request find_node = {.command = MVPN_CMD_DHT_FIND_NODE};
        if (asked >= 3 && contacts_of(dht) == 2) { /* failing once: handed out to nobody */
            assert_int_equal(ask(dht, foreign_ip, true, &find_node), 0);
            assert_int_equal(reply.contact_count, 1);
        }
    }
    assert_int_equal(contacts_of(dht), 1);
    assert_true(asked >= 6);
    mvpn_dht_free(dht);
}

/* A forged record is proof enough; a stale one loses. */
static void bad_values_lose(void **state)
{
    (void)state;
    mvpn_dht_contact self = server_at(0x0a0b0c0d, 999), friends[12];
    mvpn_dht *dht = new_node(&self, false);
    mvpn_dht_id key = key_of(1);
    mvpn_dht_outgoing out;
    mvpn_dht_event e;
    uint32_t op;
    uint8_t old[RECORD_LEN], newest[RECORD_LEN], forged[RECORD_LEN], other[RECORD_LEN];
    make_record(old, 1, 5, UNIX + 99999);
    make_record(newest, 1, 6, UNIX + 99999);
    make_record(forged, 1, 7, UNIX + 99999);
    forged[30] ^= 1;
    make_record(other, 2, 8, UNIX + 99999); /* genuine, under another key */
    assert_int_equal(befriend(dht, friends, 12), 12);
    while (mvpn_dht_pull_event(dht, &e)) {
    }
    assert_int_equal(mvpn_dht_lookup(dht, &key, now, &op), 0);
    mvpn_dht_contact forger = friends[0];
    unsigned forgers = 0, n = 0;
    while (pull(dht, &out, MVPN_CMD_DHT_FIND_VALUE)) {
        mvpn_dht_reply value = {.command = MVPN_CMD_DHT_VALUE, .type = MVPN_RECORD_DESCRIPTOR};
        static const char kinds[] = "oofoonoxoooo";
        char kind = kinds[n++ % 12];
        value.record = kind == 'o'   ? MVPN_BYTES_ARRAY(old)
                       : kind == 'f' ? MVPN_BYTES_ARRAY(forged)
                       : kind == 'x' ? MVPN_BYTES_ARRAY(other)
                                     : MVPN_BYTES_ARRAY(newest);
        forgers += kind == 'f' || kind == 'x';
        forger = kind == 'f' ? out.to : forger;
        mvpn_dht_reply_in(dht, out.transaction, &value, false, now);
    }
    assert_true(mvpn_dht_pull_event(dht, &e));
    assert_int_equal(e.type, MVPN_DHT_EVENT_VALUE);
    assert_int_equal(e.sequence, 6);
    assert_memory_equal(e.record, newest, RECORD_LEN);
    assert_int_equal(forgers, 2);
    assert_int_equal(contacts_of(dht), 12 - forgers);
    /* Nor does it come back by itself. */
    mvpn_dht_request ping = {.command = MVPN_CMD_DHT_PING};
    mvpn_dht_asker asker = {
        .addr = forger.addr, .is_proven = true, .has_claim = true, .claim = forger};
    pass(dht, MVPN_S(61));
    while (mvpn_dht_pull_request(dht, &out)) {
    }
    assert_int_equal(mvpn_dht_request_in(dht, &asker, &ping, now, &reply), 0);
    assert_false(pull(dht, &out, MVPN_CMD_DHT_PING));
    mvpn_dht_free(dht);
}

static mvpn_dht_contact server_near(const mvpn_dht_id *place, uint32_t n, unsigned bits_min,
                                    unsigned bits_max)
{
    for (;;) {
        mvpn_dht_contact c =
            server_at(0x0b000001u + (n << 16) + (mvpn_rng_below(&rng, 250) << 8), n);
        unsigned bits = mvpn_dht_common_bits(place, &c.id);
        if (bits >= bits_min && bits <= bits_max) {
            return c;
        }
    }
}

/* Whoever pushes hardest gets half of a bucket. */
static void claims_get_half_of_a_bucket(void **state)
{
    (void)state;
    mvpn_dht_contact self = server_at(0x0a0b0c0d, 999);
    mvpn_dht *dht = new_node(&self, false);
    mvpn_dht_request r = {.command = MVPN_CMD_DHT_PING};
    mvpn_dht_outgoing out;
    for (uint32_t i = 0; i < 40; i++) { /* so near that the network must be large */
        mvpn_dht_contact c = server_near(&self.id, i, 4, 160);
        mvpn_dht_add_contact(dht, &c, now);
        while (mvpn_dht_pull_request(dht, &out)) {
            if (out.request.command == MVPN_CMD_DHT_PING) {
                answer_pong(dht, &out, true);
            }
        }
    }
    size_t before = contacts_of(dht);
    assert_true(before > MVPN_DHT_K);
    for (uint32_t i = 50; i < 80; i++) {
        mvpn_dht_contact c = server_near(&self.id, i, 0, 0);
        mvpn_dht_asker asker = {.addr = c.addr, .is_proven = true, .has_claim = true, .claim = c};
        assert_int_equal(mvpn_dht_request_in(dht, &asker, &r, now, &reply), 0);
        while (pull(dht, &out, MVPN_CMD_DHT_PING)) {
            answer_pong(dht, &out, true);
        }
    }
    assert_int_equal(contacts_of(dht) - before, MVPN_DHT_K / 2);
    mvpn_dht_free(dht);
}

/* A bucket full of one hand's nodes does not decide alone what lies beyond it. */
static void lookups_begin_elsewhere_too(void **state)
{
    (void)state;
    mvpn_dht_contact self = server_at(0x0a0b0c0d, 999), friends[80];
    mvpn_dht *dht = new_node(&self, false);
    mvpn_dht_outgoing out;
    mvpn_dht_id target = self.id;
    uint32_t op;
    assert_true(befriend(dht, friends, 80) > 40);
    target.b[0] ^= 0x80;
    unsigned near = 0, elsewhere = 0;
    for (int i = 0; i < 8; i++) {
        assert_int_equal(mvpn_dht_lookup(dht, &target, now, &op), 0);
        while (pull(dht, &out, MVPN_CMD_DHT_FIND_VALUE)) {
            bool is_near = mvpn_dht_common_bits(&self.id, &out.to.id) == 0;
            near += is_near;
            elsewhere += !is_near;
        }
    }
    assert_int_equal(near + elsewhere, 8 * 4 * 3);
    assert_in_range(elsewhere, 8, 32); /* of 4 in each */
    mvpn_dht_free(dht);
}

static void operations_and_events_are_bounded(void **state)
{
    (void)state;
    mvpn_dht *dht = new_node(NULL, false);
    mvpn_dht_id key = key_of(1);
    mvpn_dht_event e;
    uint32_t op;
    unsigned taken = 0;
    for (int i = 0; i < 1000; i++) { /* each fails at once: nobody is known */
        taken += mvpn_dht_lookup(dht, &key, now, &op) == 0;
    }
    assert_int_equal(taken, MVPN_DHT_OPS_MAX);
    assert_int_equal(mvpn_dht_lookup(dht, &key, now, &op), MVPN_E_LIMIT);
    for (unsigned i = 0; i < taken; i++) {
        assert_true(mvpn_dht_pull_event(dht, &e));
        assert_int_equal(e.type, MVPN_DHT_EVENT_NOT_FOUND);
        assert_int_equal(e.op, i + 1);
    }
    assert_false(mvpn_dht_pull_event(dht, &e));
    assert_int_equal(mvpn_dht_lookup(dht, &key, now, &op), 0);
    mvpn_dht_free(dht);
}

/* ---- a network ---- */

typedef struct letter {
    mvpn_time at;
    uint32_t from, to;
    bool is_reply;
    uint64_t transaction;
    bool wants_certificate, has_claim;
    mvpn_dht_request request;
    mvpn_dht_reply reply;
    uint8_t record[MVPN_DHT_RECORD_MAX];
} letter;

enum mood { HONEST, SILENT, EMPTY, DEAD };

static struct node {
    mvpn_dht *dht;
    mvpn_dht_contact self;
    enum mood mood;
    mvpn_dht_event event; /* the last of an operation or of the walk's end */
    unsigned events[MVPN_DHT_EVENT_WALK_DONE + 1];
    bool is_deaf; /* does not pull events */
} nodes[NODES_MAX];
static uint32_t node_count;
static unsigned loss; /* percent */

#define LETTERS_MAX 65536
static letter *letters[LETTERS_MAX]; /* a ring, by time: all travel equally long */
static uint32_t letter_first, letter_last;

static letter *post(uint32_t from, uint32_t to)
{
    if (mvpn_rng_below(&rng, 100) < loss) {
        return NULL;
    }
    letter *l = malloc(sizeof(*l));
    assert_non_null(l);
    assert_true(letter_last - letter_first < LETTERS_MAX);
    letters[letter_last++ % LETTERS_MAX] = l;
    l->at = now + DELAY;
    l->from = from;
    l->to = to;
    return l;
}

static void collect(uint32_t i)
{
    static mvpn_dht_outgoing out;
    struct node *n = &nodes[i];
    while (mvpn_dht_pull_request(n->dht, &out)) {
        uint32_t to = mvpn_load32(out.to.link_key.b);
        letter *l = to < node_count ? post(i, to) : NULL;
        if (l == NULL) {
            continue;
        }
        l->is_reply = false;
        l->transaction = out.transaction;
        l->wants_certificate = out.wants_certificate;
        l->has_claim = out.has_claim;
        l->request = out.request;
        memcpy(l->record, out.record, out.request.record.n);
        l->request.record.p = l->record;
    }
    static mvpn_dht_event e;
    while (!n->is_deaf && mvpn_dht_pull_event(n->dht, &e)) {
        n->events[e.type]++;
        if (e.type != MVPN_DHT_EVENT_LISTED && (e.op != 0 || e.type == MVPN_DHT_EVENT_WALK_DONE)) {
            n->event = e;
        }
    }
}

static void deliver(letter *l)
{
    struct node *n = &nodes[l->to];
    if (n->dht == NULL || n->mood == DEAD) {
        return;
    }
    if (l->is_reply) {
        mvpn_dht_reply_in(n->dht, l->transaction, &l->reply, l->wants_certificate, now);
    } else {
        mvpn_dht_asker asker = {.addr = nodes[l->from].self.addr,
                                .is_proven = true,
                                .has_claim = l->has_claim,
                                .claim = nodes[l->from].self};
        static mvpn_dht_reply r;
        bool is_ping = l->request.command == MVPN_CMD_DHT_PING;
        int code = mvpn_dht_request_in(n->dht, &asker, &l->request, now, &r);
        letter *back = code == 0 && (is_ping || n->mood != SILENT) ? post(l->to, l->from) : NULL;
        if (back != NULL) {
            back->is_reply = true;
            back->transaction = l->transaction;
            back->wants_certificate = l->wants_certificate;
            back->reply = r;
            memcpy(back->record, r.record.p != NULL ? r.record.p : back->record, r.record.n);
            back->reply.record.p = back->record;
            if (n->mood == EMPTY && !is_ping) {
                back->reply.command = MVPN_CMD_DHT_NODES;
                back->reply.contact_count = 0;
            }
        }
    }
    collect(l->to);
}

static void run(mvpn_time span)
{
    for (mvpn_time end = now + span, next = now; now < end; now = MVPN_MAX(now + STEP, next)) {
        now = mvpn_time_min(now, end);
        while (letter_first != letter_last && letters[letter_first % LETTERS_MAX]->at <= now) {
            letter *l = letters[letter_first++ % LETTERS_MAX];
            deliver(l);
            free(l);
        }
        for (uint32_t i = 0; i < node_count; i++) {
            if (nodes[i].dht != NULL && nodes[i].mood != DEAD &&
                mvpn_dht_deadline(nodes[i].dht) <= now) {
                mvpn_dht_tick(nodes[i].dht, now);
                collect(i);
            }
        }
        next = end;
        for (uint32_t i = 0; i < node_count; i++) {
            if (nodes[i].dht != NULL && nodes[i].mood != DEAD) {
                next = mvpn_time_min(next, mvpn_dht_deadline(nodes[i].dht));
            }
        }
        if (letter_first != letter_last) {
            next = mvpn_time_min(next, letters[letter_first % LETTERS_MAX]->at);
        }
    }
}

static void join(uint32_t i, bool is_walker)
{
    struct node *n = &nodes[i];
    *n = (struct node){.mood = HONEST};
    n->self = server_at(0x0b000001u + (mvpn_rng_below(&rng, 200) << 16) +
                            (mvpn_rng_below(&rng, 250) << 8) + (i << 24) / 300,
                        i);
    n->dht = new_node(&n->self, is_walker);
    node_count = MVPN_MAX(node_count, i + 1);
    if (i > 0) {
        mvpn_dht_add_contact(n->dht, &nodes[0].self, now);
        collect(i);
    }
}

static void network(uint32_t count)
{
    node_count = 0;
    loss = 0;
    for (uint32_t i = 0; i < count; i++) {
        join(i, i == 1);
        run(MVPN_MS(50));
    }
    run(MVPN_S(20));
}

static int close_network(void **state)
{
    (void)state;
    for (; letter_first != letter_last; letter_first++) {
        free(letters[letter_first % LETTERS_MAX]);
    }
    for (uint32_t i = 0; i < node_count; i++) {
        mvpn_dht_free(nodes[i].dht);
        nodes[i].dht = NULL;
    }
    node_count = 0;
    return 0;
}

static void publish(uint32_t i, uint64_t sequence)
{
    uint8_t record[RECORD_LEN];
    make_record(record, i, sequence, UNIX + now / 1000000 + 6 * 3600);
    assert_int_equal(
        mvpn_dht_publish(nodes[i].dht, MVPN_RECORD_DESCRIPTOR, MVPN_BYTES_ARRAY(record), now), 0);
    collect(i);
}

static unsigned holders_of(uint64_t owner)
{
    unsigned n = 0;
    mvpn_dht_id key = key_of(owner);
    uint8_t type;
    mvpn_bytes record;
    for (uint32_t i = 0; i < node_count; i++) {
        n += nodes[i].dht != NULL && nodes[i].mood != DEAD &&
             mvpn_dht_stored(nodes[i].dht, &key, &type, &record);
    }
    return n;
}

/* Looks the record up from `by`; its sequence, or 0. */
static uint64_t find(uint32_t by, uint64_t owner)
{
    mvpn_dht_id key = key_of(owner);
    uint32_t op;
    nodes[by].event.op = 0;
    assert_int_equal(mvpn_dht_lookup(nodes[by].dht, &key, now, &op), 0);
    collect(by);
    for (int i = 0; i < 200 && nodes[by].event.op != op; i++) {
        run(MVPN_MS(50));
    }
    assert_int_equal(nodes[by].event.op, op);
    return nodes[by].event.type == MVPN_DHT_EVENT_VALUE ? nodes[by].event.sequence : 0;
}

static void everything_is_found(void **state)
{
    (void)state;
    network(200);
    for (uint32_t i = 0; i < 200; i++) {
        assert_int_equal(nodes[i].events[MVPN_DHT_EVENT_JOINED], 1);
        publish(i, 1);
    }
    run(MVPN_S(5));
    loss = 10;
    for (uint32_t i = 0; i < 20; i++) {
        publish(i, 2);
    }
    run(MVPN_S(5));
    for (uint32_t i = 0; i < 40; i++) {
        assert_in_range(holders_of(i), 17, 30);
        assert_int_equal(find(199 - i, i), i < 20 ? 2 : 1);
    }
    mvpn_dht_status s;
    mvpn_dht_get_status(nodes[50].dht, &s);
    assert_in_range(s.nodes, 100, 400);
    assert_true(s.memory < 60000);
    assert_int_equal(find(3, 100000), 0); /* nobody has it */
    /* A walk sees all: the first pass that begins now. */
    const unsigned *done = &nodes[1].events[MVPN_DHT_EVENT_WALK_DONE], at = *done;
    for (int i = 0; i < 400 && *done == at; i++) {
        run(MVPN_S(1));
    }
    unsigned before = nodes[1].events[MVPN_DHT_EVENT_LISTED];
    for (int i = 0; i < 400 && *done == at + 1; i++) {
        run(MVPN_S(1));
    }
    assert_in_range(nodes[1].events[MVPN_DHT_EVENT_LISTED] - before, 185, 215);
}

/* The closest nodes as everybody sees them. */
static void nodes_are_found(void **state)
{
    (void)state;
    network(120);
    mvpn_dht_id target = key_of(77);
    uint32_t op, best = 0;
    for (uint32_t i = 0; i < 120; i++) {
        best = mvpn_dht_compare(&target, &nodes[i].self.id, &nodes[best].self.id) < 0 ? i : best;
    }
    for (uint32_t by = 0; by < 10; by++) {
        if (by == best) {
            continue;
        }
        assert_int_equal(mvpn_dht_find_node(nodes[by].dht, &target, now, &op), 0);
        collect(by);
        run(MVPN_S(2));
        assert_int_equal(nodes[by].event.type, MVPN_DHT_EVENT_NODES);
        assert_int_equal(nodes[by].event.count, MVPN_DHT_K);
        assert_true(mvpn_dht_contact_eq(&nodes[by].event.contacts[0], &nodes[best].self));
    }
    /* A new address: the same neighbours, another place. */
    mvpn_dht_contact moved = server_at(0x63010203, 5);
    assert_int_equal(mvpn_dht_set_self(nodes[5].dht, &moved, now), 0);
    nodes[5].self = moved;
    collect(5);
    run(MVPN_S(5));
    assert_int_equal(mvpn_dht_find_node(nodes[9].dht, &moved.id, now, &op), 0);
    collect(9);
    run(MVPN_S(2));
    assert_true(mvpn_dht_contact_eq(&nodes[9].event.contacts[0], &moved));
}

/* Whoever names us at another address of ours, or says that he is us, names nobody new. */
static void we_are_no_contact(void **state)
{
    (void)state;
    mvpn_dht_outgoing out;
    now = MVPN_S(1);
    const mvpn_dht_contact self = server_at(0x63000001, 7), other = server_at(0x63010001, 8);
    const mvpn_dht_contact elsewhere = server_at(0x63020001, 7);
    mvpn_dht *dht = new_node(&self, false);
    mvpn_dht_add_contact(dht, &elsewhere, now);
    mvpn_dht_tick(dht, now);
    assert_false(mvpn_dht_pull_request(dht, &out));
    mvpn_dht_asker asker = {
        .addr = elsewhere.addr, .is_proven = true, .has_claim = true, .claim = elsewhere};
    const mvpn_dht_request ping = {.command = MVPN_CMD_DHT_PING};
    assert_int_equal(mvpn_dht_request_in(dht, &asker, &ping, now, &reply), 0);
    assert_false(mvpn_dht_pull_request(dht, &out));
    asker.addr = other.addr;
    asker.claim = other;
    assert_int_equal(mvpn_dht_request_in(dht, &asker, &ping, now, &reply), 0);
    assert_true(mvpn_dht_pull_request(dht, &out));
    mvpn_dht_free(dht);
}

/* Records outlive their holders: those that join near are given them, and holders store again. */
static void records_survive(void **state)
{
    (void)state;
    network(60);
    for (uint32_t i = 0; i < 5; i++) {
        publish(i + 10, 1);
    }
    run(MVPN_S(2));
    /* Half leave one after another, as many join; the owners' next Store is far away. */
    for (uint32_t i = 0; i < 30; i++) {
        nodes[20 + i].mood = DEAD;
        join(60 + i, false);
        run(MVPN_S(4));
    }
    run(MVPN_S(60));
    for (uint32_t i = 0; i < 5; i++) {
        unsigned young = 0;
        mvpn_dht_id key = key_of(i + 10);
        uint8_t type;
        mvpn_bytes record;
        for (uint32_t k = 60; k < 90; k++) {
            young += mvpn_dht_stored(nodes[k].dht, &key, &type, &record);
        }
        assert_true(young >= 3);
        assert_int_equal(find(70, i + 10), 1);
    }
}

static void holders_store_again(void **state)
{
    (void)state;
    network(30);
    publish(10, 1);
    run(MVPN_S(2));
    unsigned before = holders_of(10);
    assert_true(before >= 20);
    nodes[10].mood = DEAD; /* the owner, and a third of all */
    for (uint32_t i = 11; i < 20; i++) {
        nodes[i].mood = DEAD;
    }
    run(MVPN_S(3600));
    assert_in_range(holders_of(10), before - 9, 20);
    run(MVPN_S(2 * 3600)); /* without republishing it would be gone everywhere */
    assert_true(holders_of(10) >= 15);
    run(MVPN_S(4 * 3600)); /* expired: 6 h */
    assert_int_equal(holders_of(10), 0);
    mvpn_dht_status s;
    mvpn_dht_get_status(nodes[25].dht, &s);
    assert_int_equal(s.records, 0);
}

/* Contacts that answer Pings alone, or know nobody, lose their places. */
static void the_useless_lose_their_places(void **state)
{
    (void)state;
    network(100);
    for (uint32_t i = 40; i < 60; i++) {
        nodes[i].mood = i % 2 ? SILENT : EMPTY;
    }
    for (uint32_t i = 0; i < 60; i++) {
        (void)find(2, 5000 + i);
    }
    mvpn_dht_contact known[NODES_MAX];
    size_t n = mvpn_dht_sample_contacts(nodes[2].dht, known, NODES_MAX), useless = 0;
    for (size_t i = 0; i < n; i++) {
        useless += nodes[mvpn_load32(known[i].link_key.b)].mood != HONEST;
    }
    assert_true(n > 40);
    assert_in_range(useless, 0, 4);
}

/* Nobody pulls the walk's events: it waits, and loses nothing. */
static void a_walk_waits_for_its_owner(void **state)
{
    (void)state;
    network(40);
    for (uint32_t i = 0; i < 40; i++) {
        publish(i, 1);
    }
    nodes[1].is_deaf = true;
    run(MVPN_S(300));
    mvpn_dht_status s;
    mvpn_dht_get_status(nodes[1].dht, &s);
    assert_true(s.memory < 80000);
    unsigned before = nodes[1].events[MVPN_DHT_EVENT_WALK_DONE], waiting = 0;
    static mvpn_dht_event e;
    while (mvpn_dht_pull_event(nodes[1].dht, &e)) {
        waiting++;
    }
    assert_in_range(waiting, 30, 32 + MVPN_DHT_LISTED_MAX);
    for (uint64_t i = 0; i < 200; i++) { /* nor do others pile up */
        publish(1, 2 + i);
        run(MVPN_MS(400));
    }
    for (waiting = 0; mvpn_dht_pull_event(nodes[1].dht, &e);) {
        waiting++;
    }
    assert_int_equal(waiting, 160);
    nodes[1].is_deaf = false;
    memset(nodes[1].events, 0, sizeof(nodes[1].events));
    for (int i = 0; i < 400 && nodes[1].events[MVPN_DHT_EVENT_WALK_DONE] < before + 2; i++) {
        run(MVPN_S(1));
    }
    assert_true(nodes[1].events[MVPN_DHT_EVENT_LISTED] >= 40);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_are_answered),
        cmocka_unit_test(askers_are_limited),
        cmocka_unit_test(claims_are_proven),
        cmocka_unit_test(proofs_are_asked_once_a_minute_and_block),
        cmocka_unit_test(silence_is_judged_with_care),
        cmocka_unit_test(bad_values_lose),
        cmocka_unit_test(claims_get_half_of_a_bucket),
        cmocka_unit_test(lookups_begin_elsewhere_too),
        cmocka_unit_test(operations_and_events_are_bounded),
        cmocka_unit_test_teardown(everything_is_found, close_network),
        cmocka_unit_test_teardown(nodes_are_found, close_network),
        cmocka_unit_test(we_are_no_contact),
        cmocka_unit_test_teardown(records_survive, close_network),
        cmocka_unit_test_teardown(holders_store_again, close_network),
        cmocka_unit_test_teardown(the_useless_lose_their_places, close_network),
        cmocka_unit_test_teardown(a_walk_waits_for_its_owner, close_network),
    };
    mvpn_rng_init_test(&rng, 1);
    now = MVPN_S(1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
