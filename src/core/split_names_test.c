#include "core/split_names.h"

#include "base/macros.h"
#include "core/testing.h"
#include "network/ip/ip.h"

static const mvpn_addr resolver4 = {.family = 4, .ip = {10, 8, 0, 1}};
static const mvpn_addr resolver6 = {.family = 6, .ip = {0xfd, 0x6d, [15] = 1}};
static const mvpn_split_domains domains = {2, {"example.org", "b.example.net"}};

static uint16_t sum(const uint8_t *p, size_t n)
{
    uint32_t total = 0;
    for (size_t i = 0; i + 1 < n; i += 2) {
        total += mvpn_load16(p + i);
    }
    total = (total >> 16) + (total & 0xffff);
    return (uint16_t) ~(total + (total >> 16));
}

/* name A with a CNAME before it and a private address behind it, from 10.8.0.1:53. */
static size_t make(uint8_t out[static 512], const char *name, uint8_t host)
{
    uint8_t *dns = out + 28, *p = dns + 12;
    memset(out, 0, 512);
    mvpn_store16(dns, 0x1234);
    mvpn_store16(dns + 2, 0x8180);
    mvpn_store16(dns + 4, 1);
    mvpn_store16(dns + 6, 4);
    while (*name != '\0') {
        size_t n = strcspn(name, ".");
        *p++ = (uint8_t)n;
        memcpy(p, name, n);
        p += n;
        name += n + (name[n] == '.');
    }
    p++;
    mvpn_store32(p, 0x00010001);
    p += 4;
    static const struct {
        uint16_t type;
        uint8_t len, data[16];
    } records[] = {
        {5, 2, {0xc0, 12}},
        {1, 4, {192, 0, 32, 7}},
        {1, 4, {192, 168, 1, 1}}, /* the home router: not outside by a name */
        {28, 16, {0x2a, 0x10, [15] = 5}},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(records); i++) {
        mvpn_store16(p, 0xc00c);
        mvpn_store16(p + 2, records[i].type);
        mvpn_store16(p + 4, 1);
        mvpn_store32(p + 6, 60);
        mvpn_store16(p + 10, records[i].len);
        memcpy(p + 12, records[i].data, records[i].len);
        p += 12 + records[i].len;
    }
    size_t size = (size_t)(p - out);
    out[0] = 0x45;
    mvpn_store16(out + 2, (uint16_t)size);
    out[8] = 64;
    out[9] = 17;
    memcpy(out + 12, (uint8_t[]){10, 8, 0, host, 10, 8, 0, 2}, 8);
    mvpn_store16(out + 10, sum(out, 20));
    mvpn_store16(out + 20, 53);
    mvpn_store16(out + 22, 5000);
    mvpn_store16(out + 24, (uint16_t)(size - 20));
    return size;
}

static unsigned look(const uint8_t *packet, size_t size, mvpn_addr ret[MVPN_SPLIT_ANSWER_MAX])
{
    return mvpn_split_names_read(&domains, mvpn_bytes_of(packet, size), &resolver4, &resolver6,
                                 ret);
}

static void test_names(void **state)
{
    static const struct {
        const char *name;
        bool is_ours;
    } rows[] = {
        {"example.org", true},           {"www.Example.ORG", true},
        {"a.b.example.net", true},       {"b.example.net", true},
        {"example.net", false},          {"badexample.org", false},
        {"example.org.evil.net", false}, {"org", false},
        {"example/org", false},
    };
    (void)state;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        uint8_t packet[512];
        mvpn_addr found[MVPN_SPLIT_ANSWER_MAX];
        size_t size = make(packet, rows[i].name, 1);
        assert_int_equal(look(packet, size, found), rows[i].is_ours ? 2 : 0);
        if (rows[i].is_ours) {
            assert_int_equal(found[0].ip[3], 7);
            assert_int_equal(found[1].family, 6);
        }
    }
}

static void test_only_the_tunnels_resolver(void **state)
{
    uint8_t packet[512];
    mvpn_addr found[MVPN_SPLIT_ANSWER_MAX];
    (void)state;
    size_t size = make(packet, "example.org", 9);
    assert_int_equal(look(packet, size, found), 0);
    size = make(packet, "example.org", 1);
    mvpn_store16(packet + 20, 54); /* another port */
    assert_int_equal(look(packet, size, found), 0);
    size = make(packet, "example.org", 1);
    packet[30] &= 0x7f; /* a question */
    assert_int_equal(look(packet, size, found), 0);
    size = make(packet, "example.org", 1);
    packet[30] |= 2; /* cut off */
    assert_int_equal(look(packet, size, found), 0);
}

/* Cut anywhere, and each bit flipped: never more than there is room for, and nothing private. */
static void test_damaged(void **state)
{
    uint8_t packet[512];
    mvpn_addr found[MVPN_SPLIT_ANSWER_MAX];
    size_t size = make(packet, "example.org", 1);
    (void)state;
    for (size_t n = 0; n < size; n++) {
        assert_int_equal(look(packet, n, found), 0);
    }
    for (size_t bit = 28 * 8; bit < size * 8; bit++) {
        packet[bit / 8] ^= (uint8_t)(1 << bit % 8);
        unsigned count = look(packet, size, found);
        assert_true(count <= 4);
        for (unsigned i = 0; i < count; i++) {
            assert_false(found[i].family == 4 && found[i].ip[0] == 192 && found[i].ip[1] == 168);
        }
        packet[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}

static void test_domains(void **state)
{
    char name[MVPN_SPLIT_DOMAIN_MAX + 1];
    char longest[300];
    (void)state;
    assert_true(mvpn_split_domain_read("Example.ORG.", name));
    assert_string_equal(name, "example.org");
    assert_true(mvpn_split_domain_read("org", name));
    assert_false(mvpn_split_domain_read("", name));
    assert_false(mvpn_split_domain_read(".", name));
    assert_false(mvpn_split_domain_read(".org", name));
    assert_false(mvpn_split_domain_read("a..org", name));
    assert_false(mvpn_split_domain_read("*.org", name));
    assert_false(mvpn_split_domain_read("a b.org", name));
    memset(longest, 'a', sizeof(longest));
    longest[64] = '\0';
    assert_false(mvpn_split_domain_read(longest, name));
    longest[63] = '\0';
    assert_true(mvpn_split_domain_read(longest, name));
}

static void test_leases(void **state)
{
    mvpn_split_leases leases = {.count = 0};
    mvpn_addr addr = {.family = 4, .ip = {192, 0, 32, 1}};
    mvpn_time now = MVPN_S(5);
    (void)state;
    assert_true(mvpn_split_leases_add(&leases, &addr, now));
    assert_false(mvpn_split_leases_add(&leases, &addr, now + MVPN_S(1)));
    assert_true(mvpn_split_leases_add(&leases, &addr, now + MVPN_SPLIT_LEASE / 2));
    assert_int_equal(leases.count, 1);
    assert_false(mvpn_split_leases_expire(&leases, now + MVPN_SPLIT_LEASE));
    assert_true(mvpn_split_leases_expire(&leases, now + MVPN_SPLIT_LEASE * 2));
    assert_int_equal(leases.count, 0);
    for (unsigned i = 0; i < MVPN_SPLIT_ADDRESSES_MAX + 3; i++) {
        addr.ip[2] = (uint8_t)i;
        assert_true(mvpn_split_leases_add(&leases, &addr, now + i));
    }
    assert_int_equal(leases.count, MVPN_SPLIT_ADDRESSES_MAX);
    for (unsigned i = 0; i < MVPN_SPLIT_ADDRESSES_MAX + 3; i++) { /* the oldest made room */
        mvpn_split_leases copy = leases;
        addr.ip[2] = (uint8_t)i;
        assert_int_equal(mvpn_split_leases_add(&copy, &addr, now + 100), i < 3);
    }
}

/* What goes inside stays there: only who was not asked for since a day makes room. */
static void test_held(void **state)
{
    mvpn_split_leases leases = {.count = 0};
    mvpn_addr addr = {.family = 4, .ip = {192, 0, 32, 1}};
    mvpn_time now = MVPN_S(5);
    (void)state;
    for (unsigned i = 0; i < MVPN_SPLIT_ADDRESSES_MAX; i++) {
        addr.ip[2] = (uint8_t)i;
        assert_int_equal(mvpn_split_leases_hold(&leases, &addr, now + i, MVPN_SPLIT_HOLD_STEP),
                         MVPN_SPLIT_TAKEN);
        assert_int_equal(mvpn_split_leases_hold(&leases, &addr, now + i, MVPN_SPLIT_HOLD_STEP),
                         MVPN_SPLIT_HELD);
    }
    addr.ip[2] = 0; /* asked for again */
    now += MVPN_SPLIT_HOLD_STEP;
    assert_int_equal(mvpn_split_leases_hold(&leases, &addr, now, MVPN_SPLIT_HOLD_STEP),
                     MVPN_SPLIT_TAKEN);
    mvpn_split_leases told = leases; /* whoever is told of an answer counts it */
    assert_int_equal(mvpn_split_leases_hold(&told, &addr, now + 1, 0), MVPN_SPLIT_TAKEN);
    assert_int_equal(told.at[0].until, leases.at[0].until + 1);
    addr.ip[2] = 200;
    now += MVPN_SPLIT_HOLD; /* since an answer for the others that did not count */
    assert_int_equal(mvpn_split_leases_hold(&leases, &addr, now, MVPN_SPLIT_HOLD_STEP),
                     MVPN_SPLIT_FULL);
    assert_int_equal(mvpn_split_leases_hold(&leases, &addr, now + 1, MVPN_SPLIT_HOLD_STEP),
                     MVPN_SPLIT_TAKEN);
    assert_int_equal(leases.count, MVPN_SPLIT_ADDRESSES_MAX);
    for (unsigned i = 0; i < 3; i++) { /* the second, whose answer was the oldest, made room */
        mvpn_split_leases copy = leases;
        addr.ip[2] = (uint8_t)i;
        assert_int_equal(mvpn_split_leases_hold(&copy, &addr, now + 1, MVPN_SPLIT_HOLD_STEP),
                         i == 1 ? MVPN_SPLIT_FULL : MVPN_SPLIT_TAKEN);
    }
}

static void test_inherited(void **state)
{
    mvpn_split_leases leases = {.count = 0};
    mvpn_addr addr = {.family = 4, .ip = {192, 0, 32, 1}};
    (void)state;
    for (unsigned i = 0; i < MVPN_SPLIT_ADDRESSES_MAX + 2; i++) {
        addr.ip[2] = (uint8_t)i;
        mvpn_split_leases_inherit(&leases, &addr, 1);
        mvpn_split_leases_inherit(&leases, &addr, 2);
    }
    assert_int_equal(leases.count, MVPN_SPLIT_ADDRESSES_MAX);
    addr.ip[2] = 7; /* an answer names it: it is as any other */
    assert_int_equal(mvpn_split_leases_hold(&leases, &addr, 3, 0), MVPN_SPLIT_TAKEN);
    addr.ip[2] = 100;
    assert_int_equal(mvpn_split_leases_hold(&leases, &addr, 4, 0), MVPN_SPLIT_FULL);
    for (unsigned i = 0; i < MVPN_SPLIT_ADDRESSES_MAX; i++) {
        addr.ip[2] = (uint8_t)(100 + i);
        assert_int_equal(mvpn_split_leases_hold(&leases, &addr, 1 + MVPN_SPLIT_LEASE + i, 0),
                         i < MVPN_SPLIT_ADDRESSES_MAX - 1 ? MVPN_SPLIT_TAKEN : MVPN_SPLIT_FULL);
    }
    addr.ip[2] = 7;
    assert_int_equal(mvpn_split_leases_hold(&leases, &addr, 99, MVPN_SPLIT_HOLD_STEP),
                     MVPN_SPLIT_HELD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),     cmocka_unit_test(test_only_the_tunnels_resolver),
        cmocka_unit_test(test_damaged),   cmocka_unit_test(test_domains),
        cmocka_unit_test(test_leases),    cmocka_unit_test(test_held),
        cmocka_unit_test(test_inherited),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
