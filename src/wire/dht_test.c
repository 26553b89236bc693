#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "base/error.h"

#include "wire/dht.h"
#include "wire/message.h"

static mvpn_addr addr_of(const char *text)
{
    mvpn_addr a;
    assert_int_equal(mvpn_addr_parse(text, &a), 0);
    return a;
}

static mvpn_dht_contact contact_of(const char *addr, uint8_t n)
{
    mvpn_ed25519_pub identity = {{n}};
    mvpn_dht_contact c = {.link_key = {{n, 0xaa}}, .addr = addr_of(addr)};
    mvpn_dht_node_id(&c.id, &identity, &c.addr);
    return c;
}

static void assert_contact(const mvpn_dht_contact *a, const mvpn_dht_contact *b)
{
    assert_memory_equal(a->id.b, b->id.b, MVPN_DHT_ID_LEN);
    assert_memory_equal(a->link_key.b, b->link_key.b, 32);
    assert_true(mvpn_addr_eq(&a->addr, &b->addr));
}

/* The values come from Python: hashlib's SHA-1, and a BLAKE3 written from its paper that agrees
 * with the official vectors (tests/vectors/blake3) in hash and derive mode. Identity: bytes 0
 * to 31. */
static void test_node_id_vectors(void **state)
{
    (void)state;
    static const struct {
        const char *addr;
        uint8_t id[MVPN_DHT_ID_LEN];
    } rows[] = {
        {"11.1.2.3:443", {0xf8, 0x4c, 0x16, 0xef, 0xea, 0x53, 0x22, 0xc4, 0xd9, 0x98,
                          0x6d, 0x06, 0x68, 0x0a, 0x78, 0x13, 0x92, 0xf9, 0xa6, 0x42}},
        {"11.1.2.255:1", {0xf8, 0x4c, 0x16, 0xef, 0xea, 0x53, 0x22, 0xc4, 0xd9, 0x98,
                          0x6d, 0x06, 0x68, 0x0a, 0x78, 0x13, 0x92, 0xf9, 0xa6, 0x42}},
        {"[2a10:0:5::]:443", {0x4d, 0x7a, 0x02, 0xef, 0xea, 0x53, 0x22, 0xc4, 0xd9, 0x98,
                              0x6d, 0x06, 0x68, 0x0a, 0x78, 0x13, 0x92, 0xf9, 0xa6, 0x42}},
    };
    mvpn_ed25519_pub identity;
    for (unsigned i = 0; i < 32; i++) {
        identity.b[i] = (uint8_t)i;
    }
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        mvpn_addr a = addr_of(rows[i].addr);
        mvpn_dht_id id;
        mvpn_dht_node_id(&id, &identity, &a);
        assert_memory_equal(id.b, rows[i].id, sizeof(id.b));
    }
}

/* An id belongs to its block: all bits of the prefix and of r count, those between do not. */
static void test_id_fits(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b;
        bool same;
    } rows[] = {
        {"11.1.2.3:443", "11.1.2.200:7", true},
        {"11.1.2.3:443", "11.1.3.3:443", false},
        {"[2a10:1::1]:443", "[2a10:1:ffff::2]:1", true},
        {"[2a10:1::1]:443", "[2a10:2::1]:443", false},
        {"11.1.2.3:443", "[0b01:0203::1]:443", false},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        mvpn_addr b = addr_of(rows[i].b);
        mvpn_dht_contact c = contact_of(rows[i].a, 1);
        mvpn_ed25519_pub own = {{1}}, other = {{2}};
        assert_int_equal(mvpn_dht_same_block(&c.addr, &b), rows[i].same);
        assert_int_equal(mvpn_dht_id_fits(&c.id, &b), rows[i].same);
        assert_int_equal(mvpn_dht_id_is_of(&c.id, &own, &b), rows[i].same);
        assert_false(mvpn_dht_id_is_of(&c.id, &other, &b));
        for (unsigned bit = 0; bit < MVPN_DHT_ID_BITS; bit++) {
            mvpn_dht_id id = c.id;
            id.b[bit / 8] ^= (uint8_t)(0x80 >> bit % 8);
            bool decides = bit < 24 || bit >= 157;
            assert_int_equal(mvpn_dht_id_fits(&id, &c.addr), !decides);
            assert_false(mvpn_dht_id_is_of(&id, &own, &c.addr));
        }
    }
}

static void test_contact(void **state)
{
    (void)state;
    static const struct {
        const char *addr;
        size_t len;
    } rows[] = {{"11.1.2.3:443", 58}, {"[2a10:1::9]:65535", 70}};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        mvpn_dht_contact c = contact_of(rows[i].addr, 7), d;
        uint8_t b[80] = {0};
        assert_int_equal(mvpn_dht_contact_encode(b, rows[i].len - 1, &c), 0);
        assert_int_equal(mvpn_dht_contact_encode(b, sizeof(b), &c), rows[i].len);
        assert_int_equal(mvpn_dht_contact_decode(&d, mvpn_bytes_of(b, rows[i].len)), 0);
        assert_contact(&c, &d);
        for (size_t n = 0; n <= sizeof(b); n++) {
            int rc = mvpn_dht_contact_decode(&d, mvpn_bytes_of(b, n));
            /* 58 bytes of the longer form are a contact's, with another address. */
            assert_true(n == rows[i].len ? rc == 0
                        : n == 58        ? rc == MVPN_E_FORMAT || rc == MVPN_E_POLICY
                                         : rc == MVPN_E_FORMAT || n == 70);
            assert_true(rc != 0 || n == rows[i].len);
        }
        for (size_t bit = 0; bit < rows[i].len * 8; bit++) {
            b[bit / 8] ^= (uint8_t)(1u << bit % 8);
            if (mvpn_dht_contact_decode(&d, mvpn_bytes_of(b, rows[i].len)) == 0) {
                uint8_t again[80];
                assert_int_equal(mvpn_dht_contact_encode(again, sizeof(again), &d), rows[i].len);
                assert_memory_equal(again, b, rows[i].len);
            }
            b[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
    }
    mvpn_dht_contact bad = contact_of("11.1.2.3:443", 7), d;
    uint8_t b[80];
    bad.addr.port = 0;
    size_t n = mvpn_dht_contact_encode(b, sizeof(b), &bad);
    assert_int_equal(mvpn_dht_contact_decode(&d, mvpn_bytes_of(b, n)), MVPN_E_FORMAT);
    bad = contact_of("[::ffff:11.1.2.3]:443", 7);
    n = mvpn_dht_contact_encode(b, sizeof(b), &bad);
    assert_int_equal(mvpn_dht_contact_decode(&d, mvpn_bytes_of(b, n)), MVPN_E_FORMAT);
    bad = contact_of("11.1.2.3:443", 7);
    bad.addr = addr_of("11.1.9.3:443");
    n = mvpn_dht_contact_encode(b, sizeof(b), &bad);
    assert_int_equal(mvpn_dht_contact_decode(&d, mvpn_bytes_of(b, n)), MVPN_E_POLICY);
}

/* A list of `n` contacts, every third one IPv6. */
static void make_contacts(mvpn_dht_contact *ret, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char text[32];
        (void)snprintf(text, sizeof(text), i % 3 == 2 ? "[2a10:%zx::1]:%zu" : "11.%zu.2.3:%zu",
                       i + 1, i + 100);
        ret[i] = contact_of(text, (uint8_t)(i + 1));
    }
}

static void test_contacts(void **state)
{
    (void)state;
    mvpn_dht_contact c[MVPN_DHT_K + 1], d[MVPN_DHT_K];
    uint8_t b[2000];
    size_t count;
    make_contacts(c, MVPN_ARRAY_LEN(c));
    for (size_t n = 0; n <= MVPN_ARRAY_LEN(c); n++) {
        size_t len = mvpn_dht_contacts_encode(b, sizeof(b), c, n);
        assert_int_equal(mvpn_dht_contacts_decode(d, &count, mvpn_bytes_of(b, len)), 0);
        assert_int_equal(count, n > MVPN_DHT_K ? MVPN_DHT_K : n);
        size_t at = 0;
        for (unsigned family = 4; family <= 6; family += 2) { /* IPv4 first, else as given */
            for (size_t i = 0; i < count; i++) {
                if (c[i].addr.family == family) {
                    assert_contact(&d[at++], &c[i]);
                }
            }
        }
    }
    /* Whatever room there is: the first ones are in it. */
    for (size_t size = 0; size < 1400; size++) {
        size_t len = mvpn_dht_contacts_encode(b, size, c, MVPN_DHT_K), want = 2, fit = 0;
        while (fit < MVPN_DHT_K && want + (c[fit].addr.family == 4 ? 58 : 70) <= size) {
            want += c[fit++].addr.family == 4 ? 58 : 70;
        }
        assert_int_equal(len, size < 2 ? 0 : want);
        if (size >= 2) {
            assert_int_equal(mvpn_dht_contacts_decode(d, &count, mvpn_bytes_of(b, len)), 0);
            assert_int_equal(count, fit);
        }
    }
    size_t len = mvpn_dht_contacts_encode(b, sizeof(b), c, 5);
    for (size_t n = 0; n <= len + 1; n++) {
        assert_int_equal(mvpn_dht_contacts_decode(d, &count, mvpn_bytes_of(b, n)),
                         n == len ? 0 : MVPN_E_FORMAT);
    }
    /* One that does not fit its address is left out, the others stay. */
    b[1] ^= 1;
    assert_int_equal(mvpn_dht_contacts_decode(d, &count, mvpn_bytes_of(b, len)), 0);
    assert_int_equal(count, 4);
    assert_contact(&d[0], &c[1]);
    /* More than K, in one family or in both. */
    memset(b, 0, sizeof(b));
    b[0] = 21;
    assert_int_equal(mvpn_dht_contacts_decode(d, &count, mvpn_bytes_of(b, 2 + 21 * 58)),
                     MVPN_E_FORMAT);
    len = mvpn_dht_contacts_encode(b, sizeof(b), c, MVPN_DHT_K);
    memcpy(b + len, b + len - 70, 70);
    assert_int_equal(b[1 + 14 * 58], 6);
    b[1 + 14 * 58] = 7;
    assert_int_equal(mvpn_dht_contacts_decode(d, &count, mvpn_bytes_of(b, len + 70)),
                     MVPN_E_FORMAT);
}

/* --- bodies --- */

static const uint8_t record[MVPN_DHT_RECORD_MAX + 1] = {1, 2, 3, [999] = 9};

static size_t make_requests(mvpn_dht_request *m)
{
    const mvpn_dht_id id = {{1, 2, 3, [19] = 4}};
    size_t n = 0;
    m[n++] = (mvpn_dht_request){.command = MVPN_CMD_DHT_PING};
    m[n++] = (mvpn_dht_request){.command = MVPN_CMD_DHT_FIND_NODE, .target = id};
    m[n++] = (mvpn_dht_request){.command = MVPN_CMD_DHT_FIND_VALUE, .target = id};
    m[n++] = (mvpn_dht_request){
        .command = MVPN_CMD_DHT_STORE, .type = MVPN_RECORD_REVOCATIONS, .record = {record, 1}};
    m[n++] = (mvpn_dht_request){
        .command = MVPN_CMD_DHT_STORE, .type = 250, .record = {record, MVPN_DHT_RECORD_MAX}};
    m[n++] = (mvpn_dht_request){.command = MVPN_CMD_DHT_LIST, .target = id, .bits = 160};
    m[n++] = (mvpn_dht_request){.command = MVPN_CMD_DHT_LIST};
    m[n] = (mvpn_dht_request){.command = MVPN_CMD_DHT_FETCH, .key_count = MVPN_DHT_FETCH_MAX};
    for (size_t i = 0; i < MVPN_DHT_FETCH_MAX; i++) {
        m[n].keys[i].b[19] = (uint8_t)(i + 1);
    }
    n++;
    m[n++] = (mvpn_dht_request){.command = MVPN_CMD_DHT_FETCH, .key_count = 1, .keys = {id}};
    m[n++] = (mvpn_dht_request){
        .command = MVPN_CMD_DHT_BLOB, .digest = {{5, [31] = 6}}, .offset = 0x01020304};
    return n;
}

static void assert_request(const mvpn_dht_request *a, const mvpn_dht_request *b)
{
    assert_int_equal(a->command, b->command);
    assert_memory_equal(a->target.b, b->target.b, MVPN_DHT_ID_LEN);
    assert_int_equal(a->bits, b->bits);
    assert_int_equal(a->type, b->type);
    assert_int_equal(a->record.n, b->record.n);
    if (a->record.n > 0) {
        assert_memory_equal(a->record.p, b->record.p, a->record.n);
    }
    assert_int_equal(a->key_count, b->key_count);
    assert_memory_equal(a->keys, b->keys, a->key_count * sizeof(a->keys[0]));
    assert_memory_equal(a->digest.b, b->digest.b, 32);
    assert_int_equal(a->offset, b->offset);
}

/* Whatever decodes has one encoding: itself. */
static void request_is_canonical(unsigned command, mvpn_bytes in)
{
    mvpn_dht_request m;
    uint8_t again[1100];
    int rc = mvpn_dht_request_decode(&m, command, in);
    assert_true(rc == 0 || rc == MVPN_E_FORMAT);
    if (rc == 0) {
        assert_int_equal(mvpn_dht_request_encode(again, sizeof(again), &m), in.n);
        assert_memory_equal(again, in.n > 0 ? in.p : again, in.n);
    }
}

static void flip_all(uint8_t *b, size_t n, unsigned command, void (*check)(unsigned, mvpn_bytes))
{
    for (size_t bit = 0; bit < n * 8; bit++) {
        b[bit / 8] ^= (uint8_t)(1u << bit % 8);
        check(command, mvpn_bytes_of(b, n));
        b[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

/* Lengths at which a body that was cut is a body still: those with a tail of any length. */
static bool request_may_be(unsigned command, size_t n)
{
    return command == MVPN_CMD_DHT_STORE && n >= 2 && n <= 1001;
}

static void test_requests(void **state)
{
    (void)state;
    mvpn_dht_request rows[16], m;
    uint8_t b[1100] = {0};
    size_t count = make_requests(rows);
    for (size_t i = 0; i < count; i++) {
        unsigned command = rows[i].command;
        memset(b, 0, sizeof(b));
        size_t len = mvpn_dht_request_encode(b, sizeof(b), &rows[i]);
        assert_int_equal(mvpn_dht_request_decode(&m, command, mvpn_bytes_of(b, len)), 0);
        assert_request(&m, &rows[i]);
        for (size_t n = 0; n < sizeof(b); n++) {
            bool good = n == len || request_may_be(command, n);
            assert_int_equal(mvpn_dht_request_decode(&m, command, mvpn_bytes_of(b, n)),
                             good ? 0 : MVPN_E_FORMAT);
            uint8_t small[1100];
            assert_int_equal(mvpn_dht_request_encode(small, n, &rows[i]), n < len ? 0 : len);
        }
        flip_all(b, len, command, request_is_canonical);
    }
    for (unsigned command = 0; command < 0x40; command++) {
        if (command < MVPN_CMD_DHT_PING || command > MVPN_CMD_DHT_BLOB) {
            assert_int_equal(mvpn_dht_request_decode(&m, command, MVPN_BYTES_NONE), MVPN_E_UNKNOWN);
        }
    }
    memset(b, 0, sizeof(b));
    b[20] = 161; /* List: bits */
    assert_int_equal(mvpn_dht_request_decode(&m, MVPN_CMD_DHT_LIST, mvpn_bytes_of(b, 21)),
                     MVPN_E_FORMAT);
    b[0] = 0; /* Fetch: none, too many */
    assert_int_equal(mvpn_dht_request_decode(&m, MVPN_CMD_DHT_FETCH, mvpn_bytes_of(b, 1)),
                     MVPN_E_FORMAT);
    b[0] = 33;
    assert_int_equal(mvpn_dht_request_decode(&m, MVPN_CMD_DHT_FETCH, mvpn_bytes_of(b, 661)),
                     MVPN_E_FORMAT);
}

static size_t make_replies(mvpn_dht_reply *m)
{
    static uint8_t fetched[1300];
    static size_t fetched_len;
    size_t n = 0;
    if (fetched_len == 0) {
        assert_int_equal(mvpn_dht_fetched_append(fetched, sizeof(fetched), &fetched_len, 1,
                                                 mvpn_bytes_of(record, 1000)),
                         0);
        assert_int_equal(mvpn_dht_fetched_append(fetched, sizeof(fetched), &fetched_len, 3,
                                                 mvpn_bytes_of(record, 7)),
                         0);
    }
    m[n++] = (mvpn_dht_reply){
        .command = MVPN_CMD_DHT_PONG, .time = 1u << 31, .observed = addr_of("11.1.2.3:443")};
    m[n++] = (mvpn_dht_reply){
        .command = MVPN_CMD_DHT_PONG, .time = 1, .observed = addr_of("[2a10:1::2]:65535")};
    m[n] = (mvpn_dht_reply){.command = MVPN_CMD_DHT_NODES, .contact_count = 0};
    n++;
    m[n] = (mvpn_dht_reply){.command = MVPN_CMD_DHT_NODES, .contact_count = 2}; /* one family */
    make_contacts(m[n].contacts, m[n].contact_count);
    n++;
    for (uint8_t status = 0; status <= MVPN_DHT_STORED_FULL; status++) {
        m[n++] = (mvpn_dht_reply){.command = MVPN_CMD_DHT_STORED, .status = status};
        m[n++] = (mvpn_dht_reply){.command = MVPN_CMD_DHT_ERROR, .status = (uint8_t)(status + 1)};
    }
    m[n++] = (mvpn_dht_reply){
        .command = MVPN_CMD_DHT_VALUE, .type = 1, .record = {record, MVPN_DHT_RECORD_MAX}};
    m[n++] = (mvpn_dht_reply){.command = MVPN_CMD_DHT_VALUE, .type = 3, .record = {record, 1}};
    m[n++] = (mvpn_dht_reply){.command = MVPN_CMD_DHT_LISTED};
    m[n] = (mvpn_dht_reply){.command = MVPN_CMD_DHT_LISTED,
                            .more = true,
                            .total = 0x01020304,
                            .listed_count = MVPN_DHT_LISTED_MAX};
    for (size_t i = 0; i < MVPN_DHT_LISTED_MAX; i++) {
        m[n].listed[i].key.b[19] = (uint8_t)(i + 1);
        m[n].listed[i].sequence = (uint64_t)1 << i;
    }
    n++;
    m[n++] = (mvpn_dht_reply){.command = MVPN_CMD_DHT_FETCHED, .more = true};
    m[n++] = (mvpn_dht_reply){.command = MVPN_CMD_DHT_FETCHED, .record = {fetched, fetched_len}};
    m[n++] = (mvpn_dht_reply){.command = MVPN_CMD_DHT_BLOB_PART, .offset = 77};
    m[n++] = (mvpn_dht_reply){.command = MVPN_CMD_DHT_BLOB_PART,
                              .total = 0x01000010,
                              .offset = 0x01000000,
                              .bytes = {record, 16}};
    return n;
}

static void assert_bytes(mvpn_bytes a, mvpn_bytes b)
{
    assert_int_equal(a.n, b.n);
    if (a.n > 0) {
        assert_memory_equal(a.p, b.p, a.n);
    }
}

static void assert_reply(const mvpn_dht_reply *a, const mvpn_dht_reply *b)
{
    assert_int_equal(a->command, b->command);
    assert_true(a->time == b->time);
    assert_true(mvpn_addr_eq(&a->observed, &b->observed));
    assert_int_equal(a->contact_count, b->contact_count);
    for (size_t i = 0; i < a->contact_count; i++) {
        assert_contact(&a->contacts[i], &b->contacts[i]);
    }
    assert_int_equal(a->status, b->status);
    assert_int_equal(a->type, b->type);
    assert_bytes(a->record, b->record);
    assert_int_equal(a->more, b->more);
    assert_int_equal(a->total, b->total);
    assert_int_equal(a->listed_count, b->listed_count);
    for (size_t i = 0; i < a->listed_count; i++) {
        assert_memory_equal(a->listed[i].key.b, b->listed[i].key.b, MVPN_DHT_ID_LEN);
        assert_true(a->listed[i].sequence == b->listed[i].sequence);
    }
    assert_int_equal(a->offset, b->offset);
    assert_bytes(a->bytes, b->bytes);
}

static void reply_is_canonical(unsigned command, mvpn_bytes in)
{
    mvpn_dht_reply m;
    uint8_t again[1300];
    int rc = mvpn_dht_reply_decode(&m, command, in);
    assert_true(rc == 0 || rc == MVPN_E_FORMAT);
    if (rc != 0 || (command == MVPN_CMD_DHT_NODES && m.contact_count < 2)) {
        return; /* contacts that do not fit are left out */
    }
    assert_int_equal(mvpn_dht_reply_encode(again, sizeof(again), &m), in.n);
    assert_memory_equal(again, in.n > 0 ? in.p : again, in.n);
}

static bool reply_may_be(unsigned command, const uint8_t *b, size_t n)
{
    switch (command) {
    case MVPN_CMD_DHT_VALUE:
        return n >= 2 && n <= 1001;
    case MVPN_CMD_DHT_LISTED:
        return n >= 5 && (n - 5) % 28 == 0 && (n - 5) / 28 <= 41;
    case MVPN_CMD_DHT_FETCHED:
        return n == 1 || (b[1] == 1 && n == 1004);
    case MVPN_CMD_DHT_BLOB_PART:
        return n >= 8 && n <= 24 && (n == 8 || mvpn_load32(b) != 0);
    default:
        return false;
    }
}

static void test_replies(void **state)
{
    (void)state;
    static mvpn_dht_reply rows[32], m;
    uint8_t b[1300];
    size_t count = make_replies(rows);
    for (size_t i = 0; i < count; i++) {
        unsigned command = rows[i].command;
        memset(b, 0, sizeof(b));
        size_t len = mvpn_dht_reply_encode(b, sizeof(b), &rows[i]);
        assert_true(len > 0 && len <= MVPN_DHT_BODY_MAX);
        assert_int_equal(mvpn_dht_reply_decode(&m, command, mvpn_bytes_of(b, len)), 0);
        assert_reply(&m, &rows[i]);
        for (size_t n = 0; n <= len + 1; n++) {
            bool good = n == len || (n < len && reply_may_be(command, b, n));
            if (n > len && command == MVPN_CMD_DHT_VALUE && n <= 1001) {
                good = true;
            }
            assert_int_equal(mvpn_dht_reply_decode(&m, command, mvpn_bytes_of(b, n)),
                             good ? 0 : MVPN_E_FORMAT);
        }
        flip_all(b, len, command, reply_is_canonical);
    }
    for (unsigned command = 0; command < 0x40; command++) {
        if (command < MVPN_CMD_DHT_PONG || command > MVPN_CMD_DHT_ERROR) {
            assert_int_equal(mvpn_dht_reply_decode(&m, command, MVPN_BYTES_NONE), MVPN_E_UNKNOWN);
        }
    }
}

/* Nodes and Listed are cut to the room there is, the others do not fit. */
static void test_reply_room(void **state)
{
    (void)state;
    static mvpn_dht_reply rows[32], m;
    uint8_t b[1300];
    size_t count = make_replies(rows);
    for (size_t i = 0; i < count; i++) {
        size_t len = mvpn_dht_reply_encode(b, sizeof(b), &rows[i]);
        for (size_t size = 0; size < len; size++) {
            size_t n = mvpn_dht_reply_encode(b, size, &rows[i]);
            if (rows[i].command == MVPN_CMD_DHT_LISTED && size >= 5) {
                assert_int_equal(n, 5 + (size - 5) / 28 * 28);
                assert_int_equal(
                    mvpn_dht_reply_decode(&m, MVPN_CMD_DHT_LISTED, mvpn_bytes_of(b, n)), 0);
                assert_true(m.more);
                assert_int_equal(m.listed_count, (size - 5) / 28);
            } else if (rows[i].command == MVPN_CMD_DHT_NODES && size >= 2) {
                assert_true(n >= 2 && n <= size);
            } else {
                assert_int_equal(n, 0);
            }
        }
    }
}

static void test_reply_rules(void **state)
{
    (void)state;
    static const struct {
        unsigned command;
        uint8_t bytes[61];
        size_t n;
    } rows[] = {
        {MVPN_CMD_DHT_PONG, {[8] = 5}, 15},                       /* family */
        {MVPN_CMD_DHT_PONG, {[8] = 6, [21] = 0xff, 0xff}, 27},    /* IPv4-mapped */
        {MVPN_CMD_DHT_STORED, {4}, 1},                            /* no such status */
        {MVPN_CMD_DHT_ERROR, {0}, 1},                             /* no reason */
        {MVPN_CMD_DHT_VALUE, {1}, 1},                             /* no record */
        {MVPN_CMD_DHT_LISTED, {2}, 5},                            /* a flag is 0 or 1 */
        {MVPN_CMD_DHT_LISTED, {[5 + 19] = 1, [33 + 19] = 1}, 61}, /* twice one key */
        {MVPN_CMD_DHT_LISTED, {[5 + 19] = 2, [33 + 19] = 1}, 61}, /* descending */
        {MVPN_CMD_DHT_FETCHED, {2}, 1},
        {MVPN_CMD_DHT_FETCHED, {0, 1, 0, 0}, 4},                  /* an empty record */
        {MVPN_CMD_DHT_BLOB_PART, {0, 0, 0, 0, 0, 0, 0, 0, 9}, 9}, /* has none, and some */
        {MVPN_CMD_DHT_BLOB_PART, {0, 0, 0, 5, 0, 0, 0, 5, 9}, 9}, /* behind the end */
        {MVPN_CMD_DHT_BLOB_PART, {0, 0, 0, 5, 0, 0, 0, 4, 9, 9}, 10},
        {MVPN_CMD_DHT_BLOB_PART, {0, 0, 0, 5, 0xff, 0xff, 0xff, 0xff, 9, 9}, 10},
    };
    static mvpn_dht_reply m;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        assert_int_equal(
            mvpn_dht_reply_decode(&m, rows[i].command, mvpn_bytes_of(rows[i].bytes, rows[i].n)),
            MVPN_E_FORMAT);
    }
    /* Longer than any record, and more keys than a reply holds. */
    uint8_t b[1300] = {0};
    b[2] = 1001 >> 8;
    b[3] = 1001 & 0xff;
    assert_int_equal(mvpn_dht_reply_decode(&m, MVPN_CMD_DHT_FETCHED, mvpn_bytes_of(b, 4 + 1001)),
                     MVPN_E_FORMAT);
    memset(b, 0, sizeof(b));
    for (size_t i = 0; i < 42; i++) {
        b[5 + 28 * i + 19] = (uint8_t)(i + 1);
    }
    assert_int_equal(mvpn_dht_reply_decode(&m, MVPN_CMD_DHT_LISTED, mvpn_bytes_of(b, 5 + 28 * 42)),
                     MVPN_E_FORMAT);
}

static void test_fetched(void **state)
{
    (void)state;
    uint8_t b[100];
    size_t len = 1;
    uint8_t type;
    mvpn_bytes out;
    assert_int_equal(mvpn_dht_fetched_append(b, 24, &len, 2, mvpn_bytes_of(record, 20)), 0);
    assert_int_equal(len, 24);
    assert_int_equal(mvpn_dht_fetched_append(b, 30, &len, 2, mvpn_bytes_of(record, 4)),
                     MVPN_E_SPACE);
    assert_int_equal(len, 24);
    mvpn_bytes rest = mvpn_bytes_of(b + 1, len - 1);
    assert_int_equal(mvpn_dht_fetched_next(&rest, &type, &out), 0);
    assert_int_equal(type, 2);
    assert_bytes(out, mvpn_bytes_of(record, 20));
    assert_int_equal(mvpn_dht_fetched_next(&rest, &type, &out), MVPN_E_AGAIN);
    for (size_t n = 1; n < 23; n++) {
        rest = mvpn_bytes_of(b + 1, n);
        assert_int_equal(mvpn_dht_fetched_next(&rest, &type, &out), MVPN_E_FORMAT);
    }
}

/* --- datagrams --- */

static void test_is_datagram(void **state)
{
    (void)state;
    uint8_t b[5] = {0xc5, 0x6d, 0x76, 0x0d, 0x01};
    for (size_t n = 0; n < 5; n++) {
        assert_false(mvpn_dht_is_datagram(mvpn_bytes_of(b, n)));
    }
    assert_true(mvpn_dht_is_datagram(mvpn_bytes_of(b, 5)));
    b[4] = 2;
    assert_true(mvpn_dht_is_datagram(mvpn_bytes_of(b, 5)));
    b[4] = 3;
    assert_false(mvpn_dht_is_datagram(mvpn_bytes_of(b, 5)));
    const uint8_t link[5] = {0xc5, 0x6d, 0x76, 0x00, 0x01};
    assert_false(mvpn_dht_is_datagram(mvpn_bytes_of(link, 5)));
    b[4] = 1;
    b[0] = 0x45;
    assert_false(mvpn_dht_is_datagram(mvpn_bytes_of(b, 5)));
}

static void test_request_packet(void **state)
{
    (void)state;
    enum { NOISE = 60, LEN = 31 + NOISE + 16 };
    uint8_t b[MVPN_DHT_DATAGRAM4_MAX + 1] = {0xff, 0x6d, 0x76, 0x0d, 0x01, 1, 2, 3, 4, 5, 6, 7, 8};
    mvpn_dht_request_packet m;
    memset(b + 13, 9, 16);
    mvpn_store16(b + 29, NOISE);
    memset(b + 31, 7, NOISE);
    memset(b + 31 + NOISE, 8, 16);
    for (size_t n = 0; n <= sizeof(b); n++) {
        bool good = n >= LEN && n <= MVPN_DHT_DATAGRAM4_MAX;
        assert_int_equal(mvpn_dht_request_packet_decode(&m, mvpn_bytes_of(b, n)),
                         good ? 0 : MVPN_E_FORMAT);
        if (good) {
            assert_true(m.transaction == 0x0102030405060708);
            assert_memory_equal(m.token, b + 13, 16);
            assert_true(m.noise.p == b + 31 && m.noise.n == NOISE);
            assert_true(m.before.p == b && m.before.n == 31 + NOISE);
            assert_true(m.mac1.p == b + 31 + NOISE && m.mac1.n == 16);
        }
    }
    for (size_t i = 0; i < 500; i++) { /* padding is zeros, the header is what it is */
        b[i] ^= 0x80;
        bool is_head = i == 0 || (i >= 1 && i <= 4) || i == 29; /* length beyond the end */
        assert_int_equal(mvpn_dht_request_packet_decode(&m, mvpn_bytes_of(b, 500)),
                         is_head || i >= LEN ? MVPN_E_FORMAT : 0);
        b[i] ^= 0x80;
    }
}

static void test_ask(void **state)
{
    (void)state;
    uint8_t b[200];
    for (unsigned flags = 0; flags < 4; flags++) {
        mvpn_dht_ask in = {.command = 0x1213,
                           .wants_certificate = flags & 1,
                           .has_claim = flags >> 1,
                           .body = {record, 60}},
                     out;
        if (in.has_claim) {
            in.claim_id = (mvpn_dht_id){{1, [19] = 2}};
            in.claim_link_key = (mvpn_key){{3, [31] = 4}};
        }
        size_t fixed = in.has_claim ? 55 : 3, len = fixed + 60;
        assert_int_equal(mvpn_dht_ask_encode(b, len - 1, &in), 0);
        assert_int_equal(mvpn_dht_ask_encode(b, sizeof(b), &in), len);
        for (size_t n = 0; n <= len; n++) {
            assert_int_equal(mvpn_dht_ask_decode(&out, mvpn_bytes_of(b, n)),
                             n < fixed ? MVPN_E_FORMAT : 0);
            if (n >= fixed) {
                assert_int_equal(out.body.n, n - fixed);
            }
        }
        assert_int_equal(out.command, 0x1213);
        assert_int_equal(out.wants_certificate, in.wants_certificate);
        assert_int_equal(out.has_claim, in.has_claim);
        assert_memory_equal(out.claim_id.b, in.claim_id.b, 20);
        assert_memory_equal(out.claim_link_key.b, in.claim_link_key.b, 32);
        assert_bytes(out.body, in.body);
        for (size_t bit = 0; bit < len * 8; bit++) {
            b[bit / 8] ^= (uint8_t)(1u << bit % 8);
            int rc = mvpn_dht_ask_decode(&out, mvpn_bytes_of(b, len));
            assert_int_equal(rc, bit >= 18 && bit < 24 ? MVPN_E_FORMAT : 0);
            if (rc == 0) {
                uint8_t again[200];
                assert_int_equal(mvpn_dht_ask_encode(again, sizeof(again), &out), len);
                assert_memory_equal(again, b, len);
            }
            b[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
    }
}

static void test_answer(void **state)
{
    (void)state;
    uint8_t b[500];
    static const size_t overheads[] = {19, 19 + 177, 19 + 177 + 90};
    for (unsigned kind = 0; kind < 3; kind++) {
        mvpn_dht_answer in = {.command = 0x1819,
                              .token = {1, [15] = 2},
                              .has_certificate = kind > 0,
                              .has_membership = kind > 1,
                              .body = {record, 30}},
                        out;
        if (kind > 0) {
            memset(in.link_certificate, 5, sizeof(in.link_certificate));
        }
        if (kind > 1) {
            memset(in.membership, 5, 32);
            memset(in.membership + 32, 6, sizeof(in.membership) - 32);
        }
        size_t fixed = mvpn_dht_answer_overhead(kind > 0, kind > 1), len = fixed + 30;
        assert_int_equal(fixed, overheads[kind]);
        assert_int_equal(mvpn_dht_answer_encode(b, len - 1, &in), 0);
        assert_int_equal(mvpn_dht_answer_encode(b, sizeof(b), &in), len);
        for (size_t n = 0; n <= len; n++) {
            assert_int_equal(mvpn_dht_answer_decode(&out, mvpn_bytes_of(b, n)),
                             n < fixed ? MVPN_E_FORMAT : 0);
        }
        assert_int_equal(out.command, 0x1819);
        assert_memory_equal(out.token, in.token, 16);
        assert_int_equal(out.has_certificate, in.has_certificate);
        assert_int_equal(out.has_membership, in.has_membership);
        assert_memory_equal(out.link_certificate, in.link_certificate, 176);
        assert_memory_equal(out.membership, in.membership, 122);
        assert_bytes(out.body, in.body);
        for (size_t bit = 0; bit < len * 8; bit++) {
            b[bit / 8] ^= (uint8_t)(1u << bit % 8);
            if (mvpn_dht_answer_decode(&out, mvpn_bytes_of(b, len)) == 0) {
                uint8_t again[500];
                assert_int_equal(mvpn_dht_answer_encode(again, sizeof(again), &out), len);
                assert_memory_equal(again, b, len);
            }
            b[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        b[2] |= 2;
        assert_int_equal(mvpn_dht_answer_decode(&out, mvpn_bytes_of(b, len)), MVPN_E_FORMAT);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_node_id_vectors), cmocka_unit_test(test_id_fits),
        cmocka_unit_test(test_contact),         cmocka_unit_test(test_contacts),
        cmocka_unit_test(test_requests),        cmocka_unit_test(test_replies),
        cmocka_unit_test(test_reply_room),      cmocka_unit_test(test_reply_rules),
        cmocka_unit_test(test_fetched),         cmocka_unit_test(test_is_datagram),
        cmocka_unit_test(test_request_packet),  cmocka_unit_test(test_ask),
        cmocka_unit_test(test_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
