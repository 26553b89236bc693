/*
 * The client of NAT-PMP and PCP against a gateway that the test plays itself.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "network/p2p/portmap.h"

#define PORT 4242

static mvpn_rng rng;
static mvpn_portmap m;
static mvpn_time now;
static mvpn_addr gateway, client;
static uint8_t packet[MVPN_PORTMAP_REQUEST_MAX];
static mvpn_portmap_event event;

static mvpn_addr addr(const char *text)
{
    mvpn_addr a;
    assert_int_equal(mvpn_addr_parse(text, &a), 0);
    return a;
}

static int set_up(void **state)
{
    (void)state;
    now = MVPN_S(1000);
    gateway = addr("192.168.1.1:5351");
    client = addr("192.168.1.2");
    mvpn_rng_init_test(&rng, 7);
    mvpn_portmap_init(&m, &(mvpn_portmap_config){&rng, gateway, client, PORT}, now);
    return 0;
}

static size_t sent(void)
{
    mvpn_portmap_tick(&m, now);
    return mvpn_portmap_pull_packet(&m, packet);
}

/* To the next packet, at most `limit` away; how long it took. */
static mvpn_time wait_packet(mvpn_time limit, size_t expected_len)
{
    mvpn_time from = now, deadline;
    while ((deadline = mvpn_portmap_deadline(&m)) <= from + limit) {
        now = deadline > now ? deadline : now;
        size_t n = sent();
        if (n > 0) {
            assert_int_equal(n, expected_len);
            return now - from;
        }
    }
    fail_msg("no packet");
    return 0;
}

static bool got(enum mvpn_portmap_event_type type)
{
    return mvpn_portmap_pull_event(&m, &event) && event.type == type;
}

static bool got_nothing(void)
{
    return !mvpn_portmap_pull_event(&m, &event);
}

static int hear(const void *p, size_t n)
{
    return mvpn_portmap_recv(&m, &gateway, mvpn_bytes_of(p, n), now);
}

/* An answer to the last PCP request in `packet`. */
static int pcp(unsigned result, uint32_t lifetime_s, uint32_t epoch_s, const char *external)
{
    uint8_t a[MVPN_PCP_MAP_LEN];
    mvpn_addr e = addr(external);
    memcpy(a, packet, sizeof(a));
    a[1] |= 0x80;
    a[3] = (uint8_t)result;
    mvpn_store32(a + 4, lifetime_s);
    mvpn_store32(a + 8, epoch_s);
    memset(a + 12, 0, 12);
    mvpn_store16(a + 42, e.port);
    memset(a + 44, 0, 10);
    mvpn_store16(a + 54, 0xffff);
    memcpy(a + 56, e.ip, 4);
    return hear(a, sizeof(a));
}

static int pcp_epoch(uint32_t epoch_s)
{
    uint8_t a[MVPN_PCP_HEADER_LEN] = {2, 0x80};
    mvpn_store32(a + 8, epoch_s);
    return hear(a, sizeof(a));
}

static int pmp_address(uint32_t epoch_s, const char *external)
{
    uint8_t a[12] = {0, 128};
    mvpn_addr e = addr(external);
    mvpn_store32(a + 4, epoch_s);
    memcpy(a + 8, e.ip, 4);
    return hear(a, sizeof(a));
}

static int pmp_map(uint32_t epoch_s, uint16_t internal, uint16_t external, uint32_t lifetime_s)
{
    uint8_t a[16] = {0, 129};
    mvpn_store32(a + 4, epoch_s);
    mvpn_store16(a + 8, internal);
    mvpn_store16(a + 10, external);
    mvpn_store32(a + 12, lifetime_s);
    return hear(a, sizeof(a));
}

static int pmp_error(uint8_t opcode, uint8_t result)
{
    uint8_t a[8] = {0, (uint8_t)(0x80 | opcode), 0, result};
    return hear(a, sizeof(a));
}

#define EXTERNAL "11.22.33.44:4242"

static void map_by_pcp(uint32_t lifetime_s, uint32_t epoch_s)
{
    assert_int_equal(sent(), MVPN_PCP_MAP_LEN);
    assert_int_equal(pcp(0, lifetime_s, epoch_s, EXTERNAL), 0);
    assert_true(got(MVPN_PORTMAP_MAPPED));
}

static void map_by_natpmp(uint32_t lifetime_s, uint32_t epoch_s)
{
    assert_int_equal(sent(), MVPN_PCP_MAP_LEN);
    assert_int_equal(pmp_error(0, 1), 0);
    assert_int_equal(sent(), MVPN_NATPMP_ADDRESS_LEN);
    assert_int_equal(pmp_address(epoch_s, "11.22.33.44"), 0);
    assert_int_equal(sent(), MVPN_NATPMP_MAP_LEN);
    assert_int_equal(pmp_map(epoch_s, PORT, PORT, lifetime_s), 0);
    assert_true(got(MVPN_PORTMAP_MAPPED));
}

static void test_pcp(void **state)
{
    (void)state;
    mvpn_addr want = addr("11.22.33.44:777");
    assert_int_equal(sent(), MVPN_PCP_MAP_LEN);
    assert_int_equal(packet[0], 2);
    assert_int_equal(packet[1], 1);
    assert_int_equal(mvpn_load32(packet + 4), MVPN_PORTMAP_LIFETIME_S);
    assert_memory_equal(packet + 20, client.ip, 4);
    assert_int_equal(packet[36], 17);
    assert_int_equal(mvpn_load16(packet + 40), PORT);
    assert_int_equal(mvpn_load16(packet + 42), PORT);
    static const uint8_t any_v4[16] = {[10] = 0xff, 0xff}; /* RFC 6887 §11.1 */
    assert_memory_equal(packet + 44, any_v4, sizeof(any_v4));
    assert_int_equal(sent(), 0);
    assert_false(mvpn_portmap_get(&m, NULL));
    assert_int_equal(pcp(0, 3600, 5, "11.22.33.44:777"), 0);
    assert_true(got(MVPN_PORTMAP_MAPPED));
    assert_true(mvpn_addr_eq(&event.mapping.external, &want));
    assert_int_equal(event.mapping.protocol, MVPN_PORTMAP_PCP);
    assert_int_equal(event.mapping.lifetime_s, 3600);
    assert_true(mvpn_portmap_get(&m, NULL));
    assert_true(got_nothing());
    /* Renewed after a half to five eighths, by the same nonce, for what we have; silently. */
    uint8_t first[MVPN_PCP_MAP_LEN];
    memcpy(first, packet, sizeof(first));
    mvpn_time since = now;
    for (;;) {
        now = mvpn_portmap_deadline(&m);
        size_t n = sent();
        if (n == MVPN_PCP_HEADER_LEN) {
            assert_int_equal(pcp_epoch(5 + (uint32_t)((now - since) / MVPN_US_PER_S)), 0);
        } else if (n > 0) {
            assert_int_equal(n, MVPN_PCP_MAP_LEN);
            break;
        }
    }
    assert_in_range(now - since, MVPN_S(1800), MVPN_S(2250));
    assert_memory_equal(packet + 24, first + 24, MVPN_PCP_NONCE_LEN);
    assert_int_equal(mvpn_load16(packet + 42), 777);
    assert_memory_equal(packet + 56, want.ip, 4);
    assert_int_equal(pcp(0, 3600, 1900, "11.22.33.44:777"), 0);
    assert_true(got_nothing());
    /* The gateway got another address: it says so by itself. */
    assert_int_equal(pcp(0, 3600, 1901, "11.22.33.55:777"), 0);
    assert_true(got(MVPN_PORTMAP_CHANGED));
    assert_int_equal(event.mapping.external.ip[3], 55);
}

static void test_natpmp(void **state)
{
    (void)state;
    mvpn_addr want = addr("11.22.33.44:9000");
    assert_int_equal(sent(), MVPN_PCP_MAP_LEN);
    assert_int_equal(pmp_error(1, 1), 0); /* RFC 6887 appendix A */
    assert_int_equal(sent(), MVPN_NATPMP_ADDRESS_LEN);
    assert_int_equal(packet[0] | packet[1], 0);
    assert_int_equal(pmp_map(9, PORT, 9000, 60), MVPN_E_STATE); /* not asked yet */
    assert_int_equal(pmp_address(9, "11.22.33.44"), 0);
    assert_int_equal(sent(), MVPN_NATPMP_MAP_LEN);
    assert_int_equal(mvpn_load16(packet + 4), PORT);
    assert_int_equal(mvpn_load16(packet + 6), PORT);
    assert_int_equal(mvpn_load32(packet + 8), MVPN_PORTMAP_LIFETIME_S);
    assert_int_equal(pmp_map(9, PORT, 9000, 1800), 0);
    assert_true(got(MVPN_PORTMAP_MAPPED));
    assert_int_equal(event.mapping.protocol, MVPN_PORTMAP_NATPMP);
    assert_true(mvpn_addr_eq(&event.mapping.external, &want));
    /* A check; another address makes a renewal and a change. */
    assert_in_range(wait_packet(MVPN_S(70), MVPN_NATPMP_ADDRESS_LEN), MVPN_S(54), MVPN_S(66));
    assert_int_equal(pmp_address(70, "11.22.33.99"), 0);
    assert_int_equal(sent(), MVPN_NATPMP_ADDRESS_LEN);
    assert_int_equal(pmp_address(70, "11.22.33.99"), 0);
    assert_int_equal(sent(), MVPN_NATPMP_MAP_LEN);
    assert_int_equal(mvpn_load16(packet + 6), 9000);
    assert_int_equal(pmp_map(70, PORT, 9000, 1800), 0);
    assert_true(got(MVPN_PORTMAP_CHANGED));
    assert_int_equal(event.mapping.external.ip[3], 99);
}

/* Another version of PCP leads to NAT-PMP too. */
static void test_old_pcp(void **state)
{
    (void)state;
    uint8_t a[MVPN_PCP_HEADER_LEN] = {1, 0x81, 0, MVPN_PCP_UNSUPP_VERSION};
    assert_int_equal(sent(), MVPN_PCP_MAP_LEN);
    assert_int_equal(hear(a, sizeof(a)), 0);
    assert_int_equal(sent(), MVPN_NATPMP_ADDRESS_LEN);
}

static void test_silence(void **state)
{
    (void)state;
    mvpn_time last_rest = 0;
    for (unsigned round = 0; round < 8; round++) {
        assert_int_equal(wait_packet(0, MVPN_PCP_MAP_LEN), 0);
        assert_in_range(wait_packet(MVPN_S(10), MVPN_PCP_MAP_LEN), MVPN_MS(2700), MVPN_MS(3300));
        assert_in_range(wait_packet(MVPN_S(10), MVPN_NATPMP_ADDRESS_LEN), MVPN_MS(4800),
                        MVPN_MS(7300));
        for (unsigned i = 0; i < 4; i++) {
            assert_int_equal(wait_packet(MVPN_S(10), MVPN_NATPMP_ADDRESS_LEN), MVPN_MS(250) << i);
        }
        now = mvpn_portmap_deadline(&m);
        assert_int_equal(sent(), 0);
        assert_true(got(MVPN_PORTMAP_FAILED));
        assert_string_equal(event.why, "the gateway answers neither PCP nor NAT-PMP");
        mvpn_time rest = mvpn_portmap_deadline(&m) - now;
        assert_in_range(rest, MVPN_S(270), MVPN_S(3960));
        assert_true(round == 0 || round > 3 || rest > last_rest * 3 / 2);
        last_rest = rest;
        assert_int_equal(pcp(0, 60, 1, EXTERNAL), MVPN_E_STATE); /* too late */
        now = mvpn_portmap_deadline(&m);
    }
    assert_true(last_rest >= MVPN_S(3240));
}

static void test_forged(void **state)
{
    (void)state;
    static const char *const from[] = {"192.168.1.3:5351", "192.168.1.1:5350", "[fe80::1]:5351"};
    mvpn_addr real = gateway;
    assert_int_equal(sent(), MVPN_PCP_MAP_LEN);
    for (size_t i = 0; i < MVPN_ARRAY_LEN(from); i++) {
        gateway = addr(from[i]);
        assert_int_equal(pcp(0, 3600, 1, EXTERNAL), MVPN_E_STATE);
        assert_int_equal(pmp_error(0, 1), MVPN_E_STATE);
    }
    gateway = real;
    /* Nonce, protocol, internal port. */
    static const size_t at[] = {24, 35, 36, 40, 41};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(at); i++) {
        packet[at[i]] ^= 1;
        assert_int_equal(pcp(0, 3600, 1, EXTERNAL), MVPN_E_STATE);
        assert_int_equal(pcp(MVPN_PCP_NO_RESOURCES, 3600, 1, EXTERNAL), MVPN_E_STATE);
        packet[at[i]] ^= 1;
    }
    assert_int_equal(hear("", 0), MVPN_E_FORMAT);
    assert_int_equal(hear("\2\1garbage", 9), MVPN_E_FORMAT);
    assert_int_equal(pmp_map(1, PORT, PORT, 60), MVPN_E_STATE);
    assert_int_equal(pmp_error(0, 2), MVPN_E_STATE);
    assert_true(got_nothing());
    assert_int_equal(sent(), 0);
    assert_int_equal(pcp(0, 3600, 1, EXTERNAL), 0);
    assert_true(got(MVPN_PORTMAP_MAPPED));
    /* Once mapped no error and no other version takes it away unasked. */
    assert_int_equal(pmp_error(0, 1), MVPN_E_STATE);
    assert_int_equal(pcp(MVPN_PCP_NOT_AUTHORIZED, 3600, 1, EXTERNAL), MVPN_E_STATE);
    assert_true(got_nothing());
}

static void test_forged_natpmp(void **state)
{
    (void)state;
    assert_int_equal(sent(), MVPN_PCP_MAP_LEN);
    assert_int_equal(pmp_error(0, 1), 0);
    assert_int_equal(sent(), MVPN_NATPMP_ADDRESS_LEN);
    assert_int_equal(pmp_address(1, "11.22.33.44"), 0);
    assert_int_equal(sent(), MVPN_NATPMP_MAP_LEN);
    assert_int_equal(pmp_map(1, PORT + 1, PORT, 60), MVPN_E_STATE);
    packet[0] = MVPN_PCP_VERSION;
    assert_int_equal(pcp(0, 60, 1, EXTERNAL), MVPN_E_STATE);
    assert_true(got_nothing());
    assert_int_equal(pmp_map(1, PORT, PORT, 60), 0);
    assert_true(got(MVPN_PORTMAP_MAPPED));
}

static const char *const refused[] = {"192.168.2.1:4242", "10.0.0.1:4242", "100.64.0.9:4242",
                                      "0.0.0.0:4242",     "127.0.0.1:1",   "192.168.1.2:4242",
                                      "224.0.0.1:4242",   "11.22.33.44"};

static void test_refusals(void **state)
{
    (void)state;
    static const mvpn_addr none, six = {.family = 6, .ip = {0x2a, 1, [15] = 1}};
    mvpn_addr a = addr("0.0.0.0:4242");
    const char *no_address = "the gateway names no external address";
    assert_string_equal(mvpn_portmap_refusal(&a, &client), no_address);
    assert_string_equal(mvpn_portmap_refusal(&none, &client), no_address);
    assert_string_equal(mvpn_portmap_refusal(&six, &client), no_address);
    a = addr("192.168.1.2:1");
    assert_string_equal(mvpn_portmap_refusal(&a, &client),
                        "the gateway names our own address as the external one");
    a = addr("192.168.2.2:1");
    assert_string_equal(mvpn_portmap_refusal(&a, &client),
                        "the gateway's external address is not public: there is another NAT before "
                        "it");
    a = addr("11.22.33.44:1");
    assert_null(mvpn_portmap_refusal(&a, &client));
}

static void test_refused_addresses(void **state)
{
    for (size_t i = 0; i < MVPN_ARRAY_LEN(refused); i++) {
        set_up(state);
        assert_int_equal(sent(), MVPN_PCP_MAP_LEN);
        assert_int_equal(pcp(0, 3600, 1, refused[i]), 0);
        assert_true(got(MVPN_PORTMAP_FAILED));
        assert_non_null(event.why);
        assert_false(mvpn_portmap_get(&m, NULL));
        /* It is taken back, and not asked for again soon. */
        assert_int_equal(sent(), MVPN_PCP_MAP_LEN);
        assert_int_equal(mvpn_load32(packet + 4), 0);
        assert_true(mvpn_portmap_deadline(&m) >= now + MVPN_S(270));
        if (addr(refused[i]).port == 4242) {
            set_up(state);
            assert_int_equal(sent(), MVPN_PCP_MAP_LEN);
            assert_int_equal(pmp_error(0, 1), 0);
            assert_int_equal(sent(), MVPN_NATPMP_ADDRESS_LEN);
            assert_int_equal(pmp_address(1, refused[i]), 0);
            assert_true(got(MVPN_PORTMAP_FAILED));
            assert_int_equal(sent(), 0);
        }
    }
    /* Our own address, though it be public. */
    set_up(state);
    client = addr("11.9.9.9");
    mvpn_portmap_init(&m, &(mvpn_portmap_config){&rng, gateway, client, PORT}, now);
    assert_int_equal(sent(), MVPN_PCP_MAP_LEN);
    assert_int_equal(pcp(0, 3600, 1, "11.9.9.9:4242"), 0);
    assert_true(got(MVPN_PORTMAP_FAILED));
    /* A mapping that turns private is lost. */
    set_up(state);
    map_by_pcp(3600, 1);
    assert_int_equal(pcp(0, 3600, 1, "10.0.0.1:4242"), 0);
    assert_true(got(MVPN_PORTMAP_LOST));
    assert_true(got(MVPN_PORTMAP_FAILED));
}

static void test_lifetimes(void **state)
{
    static const struct {
        uint32_t said, held;
    } rows[] = {{UINT32_MAX, 7200}, {7201, 7200}, {3600, 3600}, {1, 30}};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        set_up(state);
        map_by_pcp(rows[i].said, 1);
        assert_int_equal(event.mapping.lifetime_s, rows[i].held);
        assert_true(mvpn_portmap_deadline(&m) >= now + MVPN_S(15));
        set_up(state);
        map_by_natpmp(rows[i].said, 1);
        assert_int_equal(event.mapping.lifetime_s, rows[i].held);
    }
    set_up(state);
    assert_int_equal(sent(), MVPN_PCP_MAP_LEN);
    assert_int_equal(pcp(0, 0, 1, EXTERNAL), 0);
    assert_true(got(MVPN_PORTMAP_FAILED));
}

/* RFC 6887 §8.5; the gateway said 1000, then `elapsed` seconds later `epoch`. */
static void test_epoch_of_pcp(void **state)
{
    static const struct {
        uint32_t elapsed, epoch;
        bool is_valid;
    } rows[] = {
        {60, 1060, true},  {60, 1062, true}, {60, 1058, true}, {60, 1068, false},
        {60, 1053, false}, {60, 0, false},   {60, 999, false}, {60, UINT32_MAX, false},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        set_up(state);
        map_by_pcp(3600, 1000);
        mvpn_time since = now;
        (void)wait_packet(MVPN_S(70), MVPN_PCP_HEADER_LEN);
        assert_int_equal(packet[1], 0);
        assert_true(now <= since + MVPN_S(rows[i].elapsed) + MVPN_S(6));
        now = since + MVPN_S(rows[i].elapsed);
        assert_int_equal(pcp_epoch(rows[i].epoch), 0);
        assert_int_equal(sent(), rows[i].is_valid ? 0 : MVPN_PCP_MAP_LEN);
        assert_true(got_nothing());
    }
    /* Renewed elsewhere: a change. Refused after it forgot us: lost. */
    assert_int_equal(pcp(0, 3600, 1, "11.22.33.44:4243"), 0);
    assert_true(got(MVPN_PORTMAP_CHANGED));
    (void)wait_packet(MVPN_S(70), MVPN_PCP_HEADER_LEN);
    assert_int_equal(pcp_epoch(0), 0);
    assert_int_equal(sent(), MVPN_PCP_MAP_LEN);
    assert_int_equal(pcp(MVPN_PCP_NO_RESOURCES, 0, 1, EXTERNAL), 0);
    assert_true(got(MVPN_PORTMAP_LOST));
    assert_true(got(MVPN_PORTMAP_FAILED));
    assert_string_equal(event.why, "it has no room for more mappings");
}

/* RFC 6886 §3.6: seven eighths of the time passed, less two seconds. */
static void test_epoch_of_natpmp(void **state)
{
    static const struct {
        uint32_t epoch;
        bool is_valid;
    } rows[] = {{1064, true}, {1200, true}, {1054, true}, {1053, false}, {0, false}};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        set_up(state);
        map_by_natpmp(3600, 1000);
        mvpn_time since = now;
        (void)wait_packet(MVPN_S(70), MVPN_NATPMP_ADDRESS_LEN);
        now = since + MVPN_S(64);
        assert_int_equal(pmp_address(rows[i].epoch, "11.22.33.44"), 0);
        assert_int_equal(sent(), rows[i].is_valid ? 0 : MVPN_NATPMP_ADDRESS_LEN);
    }
}

static void test_announcements(void **state)
{
    (void)state;
    mvpn_addr real = gateway;
    map_by_pcp(3600, 1000);
    now += MVPN_S(10);
    assert_int_equal(pcp_epoch(1010), 0);
    assert_int_equal(sent(), 0);
    gateway = addr("192.168.1.7:5351");
    assert_int_equal(pcp_epoch(0), MVPN_E_STATE);
    gateway = real;
    /* Whoever floods them gets one renewal in ten seconds. */
    unsigned renewals = 0;
    for (unsigned ms = 0; ms < 30000; ms += 50) {
        now += MVPN_MS(50);
        assert_int_equal(pcp_epoch(0), 0);
        if (sent() == MVPN_PCP_MAP_LEN) {
            renewals++;
            assert_int_equal(pcp(0, 3600, 1010 + ms / 1000, EXTERNAL), 0);
        }
    }
    assert_int_equal(renewals, 3);
    assert_true(got_nothing());
}

static void test_expiry(void **state)
{
    (void)state;
    map_by_pcp(3600, 1);
    mvpn_time since = now;
    unsigned packets = 0;
    while (!got(MVPN_PORTMAP_LOST)) {
        now = mvpn_portmap_deadline(&m);
        packets += sent() > 0;
    }
    assert_int_equal(now - since, MVPN_S(3600));
    assert_true(packets < 120);
    assert_non_null(event.why);
    assert_true(got_nothing());
    assert_in_range(wait_packet(MVPN_S(4), MVPN_PCP_MAP_LEN), 0, MVPN_S(4));
    assert_int_equal(pcp(0, 3600, 1, EXTERNAL), 0);
    assert_true(got(MVPN_PORTMAP_MAPPED));
}

static void test_errors(void **state)
{
    static const struct {
        uint32_t lifetime_s;
        unsigned rest_s;
    } rows[] = {{0, 300}, {1800, 1800}, {UINT32_MAX, 3600}};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        set_up(state);
        assert_int_equal(sent(), MVPN_PCP_MAP_LEN);
        assert_int_equal(pcp(MVPN_PCP_ADDRESS_MISMATCH, rows[i].lifetime_s, 1, EXTERNAL), 0);
        assert_true(got(MVPN_PORTMAP_FAILED));
        assert_string_equal(event.why, "there is another NAT between it and this host");
        assert_in_range(mvpn_portmap_deadline(&m) - now, MVPN_S(rows[i].rest_s) * 9 / 10,
                        MVPN_S(rows[i].rest_s) * 11 / 10);
    }
    set_up(state);
    assert_int_equal(sent(), MVPN_PCP_MAP_LEN);
    assert_int_equal(pmp_error(0, 1), 0);
    assert_int_equal(sent(), MVPN_NATPMP_ADDRESS_LEN);
    assert_int_equal(pmp_error(0, 3), 0);
    assert_true(got(MVPN_PORTMAP_FAILED));
    /* A renewal that is refused: what we have holds on. */
    set_up(state);
    map_by_pcp(120, 1);
    mvpn_time since = now;
    do {
        now = mvpn_portmap_deadline(&m);
    } while (sent() != MVPN_PCP_MAP_LEN);
    assert_int_equal(pcp(MVPN_PCP_NO_RESOURCES, 30, 60, EXTERNAL), 0);
    assert_true(got_nothing());
    assert_true(mvpn_portmap_get(&m, NULL));
    assert_true(mvpn_portmap_deadline(&m) <= since + MVPN_S(120));
}

static void test_nothing_there(void **state)
{
    (void)state;
    mvpn_portmap_refused(&m, now); /* of an earlier socket */
    assert_true(got_nothing());
    assert_int_equal(sent(), MVPN_PCP_MAP_LEN);
    mvpn_portmap_refused(&m, now);
    assert_true(got(MVPN_PORTMAP_FAILED));
    assert_string_equal(event.why, "the gateway offers neither PCP nor NAT-PMP");
    assert_true(mvpn_portmap_deadline(&m) >= now + MVPN_S(270));
    /* While there is a mapping it may be starting again. */
    set_up(state);
    map_by_pcp(3600, 1);
    (void)wait_packet(MVPN_S(70), MVPN_PCP_HEADER_LEN);
    mvpn_portmap_refused(&m, now);
    assert_true(got_nothing());
    assert_true(mvpn_portmap_get(&m, NULL));
}

static void test_close(void **state)
{
    (void)state;
    mvpn_portmap_close(&m, now);
    assert_true(mvpn_portmap_is_closed(&m)); /* asked for nothing yet */
    assert_int_equal(mvpn_portmap_deadline(&m), MVPN_TIME_NEVER);
    set_up(state);
    map_by_pcp(3600, 1);
    mvpn_portmap_close(&m, now);
    mvpn_portmap_close(&m, now);
    assert_false(mvpn_portmap_is_closed(&m));
    assert_false(mvpn_portmap_get(&m, NULL));
    assert_int_equal(sent(), MVPN_PCP_MAP_LEN);
    mvpn_portmap_close(&m, now);
    assert_int_equal(sent(), 0);
    assert_int_equal(mvpn_load32(packet + 4), 0);
    assert_int_equal(pcp(0, 3600, 1, EXTERNAL), MVPN_E_STATE); /* late, of a renewal */
    assert_false(mvpn_portmap_is_closed(&m));
    assert_int_equal(pcp(0, 0, 1, EXTERNAL), 0);
    assert_true(mvpn_portmap_is_closed(&m));
    /* Asked and not answered yet: there may be one. */
    set_up(state);
    assert_int_equal(sent(), MVPN_PCP_MAP_LEN);
    mvpn_portmap_close(&m, now);
    assert_false(mvpn_portmap_is_closed(&m));
    /* NAT-PMP: external port 0 and lifetime 0 delete (RFC 6886 §3.4). */
    set_up(state);
    map_by_natpmp(3600, 1);
    mvpn_portmap_close(&m, now);
    assert_int_equal(sent(), MVPN_NATPMP_MAP_LEN);
    static const uint8_t want[] = {0, 1, 0, 0, 0x10, 0x92, 0, 0, 0, 0, 0, 0};
    assert_memory_equal(packet, want, sizeof(want));
    assert_int_equal(pmp_map(1, PORT, 0, 0), 0);
    assert_true(mvpn_portmap_is_closed(&m));
    /* Nobody answers. */
    set_up(state);
    map_by_natpmp(3600, 1);
    mvpn_time since = now;
    mvpn_portmap_close(&m, now);
    unsigned packets = 0;
    while (!mvpn_portmap_is_closed(&m)) {
        packets += sent() > 0;
        if (!mvpn_portmap_is_closed(&m)) {
            now = mvpn_portmap_deadline(&m);
        }
    }
    assert_int_equal(packets, 3);
    assert_int_equal(now - since, MVPN_MS(1750));
    assert_true(got_nothing());
}

/* To the next request for the port; checks are answered as by a gateway that started at `epoch`,
 * with a clock that is `fast` thousandths too fast. */
static void to_renewal(mvpn_time since, uint32_t epoch, unsigned fast)
{
    size_t n = 0;
    while (n != MVPN_PCP_MAP_LEN) {
        assert_true(mvpn_portmap_deadline(&m) > now);
        now = mvpn_portmap_deadline(&m);
        n = sent();
        if (n == MVPN_PCP_HEADER_LEN) {
            uint64_t ms = (now - since) / MVPN_US_PER_MS;
            assert_int_equal(pcp_epoch(epoch + (uint32_t)((ms + ms * fast / 1000) / 1000)), 0);
        }
    }
}

/* A mapping whose renewal is refused holds, and is asked for again after half of what is left. */
static void test_refused_renewals(void **state)
{
    (void)state;
    mvpn_portmap_mapping mapping;
    mvpn_addr want = addr(EXTERNAL);
    map_by_pcp(600, 100);
    mvpn_time since = now, last;
    to_renewal(since, 100, 0);
    assert_in_range(now - since, MVPN_S(300), MVPN_S(375));
    for (;;) {
        assert_int_equal(pcp(MVPN_PCP_NO_RESOURCES, 30, 101, EXTERNAL), 0);
        assert_true(got_nothing());
        assert_true(mvpn_portmap_get(&m, &mapping));
        assert_true(mvpn_addr_eq(&mapping.external, &want));
        last = now;
        mvpn_time left = since + MVPN_S(600) - now;
        if (left <= MVPN_S(15)) {
            break;
        }
        to_renewal(since, 100, 0);
        assert_int_equal(now - last, MVPN_MAX(left / 2, MVPN_S(15)));
    }
    while (!got(MVPN_PORTMAP_LOST)) {
        now = mvpn_portmap_deadline(&m);
        (void)sent();
    }
    assert_int_equal(now - since, MVPN_S(600));
}

/* Rests grow with each failure; what was mapped in between begins anew. What failed names nothing.
 */
static void test_rests(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(sent(), MVPN_PCP_MAP_LEN);
        assert_int_equal(pcp(MVPN_PCP_NO_RESOURCES, 0, 1, EXTERNAL), 0);
        assert_true(got(MVPN_PORTMAP_FAILED));
        assert_in_range(mvpn_portmap_deadline(&m) - now, MVPN_S(300u << i) * 9 / 10,
                        MVPN_S(300u << i) * 11 / 10);
        mvpn_portmap copy = m;
        mvpn_portmap_close(&copy, now); /* refused: there is nothing to delete */
        assert_true(mvpn_portmap_is_closed(&copy));
        now = mvpn_portmap_deadline(&m);
    }
    map_by_pcp(3600, 1);
    assert_int_equal(pcp(0, 3600, 1, "10.0.0.1:4242"), 0);
    assert_true(got(MVPN_PORTMAP_LOST));
    assert_int_equal(event.mapping.external.family, 4);
    assert_true(got(MVPN_PORTMAP_FAILED));
    assert_int_equal(event.mapping.external.family, 0);
    assert_int_equal(sent(), MVPN_PCP_MAP_LEN); /* taken back */
    assert_in_range(mvpn_portmap_deadline(&m) - now, MVPN_S(270), MVPN_S(330));
    mvpn_portmap_close(&m, now);
    assert_true(mvpn_portmap_is_closed(&m));
}

/* Checks that nobody answers are no reason to give anything up; the next is a minute later. */
static void test_unanswered_checks(void **state)
{
    (void)state;
    for (unsigned is_natpmp = 0; is_natpmp < 2; is_natpmp++) {
        size_t len = is_natpmp ? MVPN_NATPMP_ADDRESS_LEN : MVPN_PCP_HEADER_LEN;
        set_up(state);
        if (is_natpmp) {
            map_by_natpmp(3600, 1);
        } else {
            map_by_pcp(3600, 1);
        }
        for (unsigned i = 0; i < 3; i++) {
            (void)wait_packet(MVPN_S(90), len);
            (void)wait_packet(MVPN_S(8), len);
            (void)wait_packet(MVPN_S(8), len);
            mvpn_time last = now;
            now = mvpn_portmap_deadline(&m);
            assert_int_equal(sent(), 0);
            assert_in_range(now - last, MVPN_MS(900), MVPN_S(15));
            assert_in_range(mvpn_portmap_deadline(&m) - now, MVPN_S(54), MVPN_S(66));
        }
        assert_true(got_nothing());
    }
    /* One that does not know them says so once, and is asked again as late. */
    set_up(state);
    map_by_pcp(3600, 1);
    (void)wait_packet(MVPN_S(70), MVPN_PCP_HEADER_LEN);
    uint8_t a[MVPN_PCP_HEADER_LEN] = {2, 0x80, 0, MVPN_PCP_UNSUPP_OPCODE};
    assert_int_equal(hear(a, sizeof(a)), 0);
    assert_in_range(mvpn_portmap_deadline(&m) - now, MVPN_S(54), MVPN_S(66));
    /* Said to nothing of the kind, in a renewal, it changes nothing. */
    do {
        now = mvpn_portmap_deadline(&m);
    } while (sent() != MVPN_PCP_MAP_LEN);
    assert_int_equal(hear(a, sizeof(a)), 0);
    (void)wait_packet(MVPN_S(4), MVPN_PCP_MAP_LEN);
}

/* A gateway's clock may be wrong by a little all the time: each word is measured from the last. */
static void test_epoch_goes_on(void **state)
{
    (void)state;
    map_by_pcp(7200, 1000);
    mvpn_time since = now;
    to_renewal(since, 1000, 70);
    assert_in_range(now - since, MVPN_S(3600), MVPN_S(4500)); /* of its time, and no sooner */
    /* Of NAT-PMP, from the answer that brought the mapping, whatever the one before it said. */
    set_up(state);
    assert_int_equal(sent(), MVPN_PCP_MAP_LEN);
    assert_int_equal(pmp_error(0, 1), 0);
    assert_int_equal(sent(), MVPN_NATPMP_ADDRESS_LEN);
    assert_int_equal(pmp_address(5000, "11.22.33.44"), 0);
    assert_int_equal(sent(), MVPN_NATPMP_MAP_LEN);
    assert_int_equal(pmp_map(3, PORT, PORT, 3600), 0);
    (void)wait_packet(MVPN_S(70), MVPN_NATPMP_ADDRESS_LEN);
    assert_int_equal(pmp_address(63, "11.22.33.44"), 0);
    assert_int_equal(sent(), 0);
}

/* In doubt a refusal is the end; when the doubt is over, it is not. */
static void test_doubt_ends(void **state)
{
    (void)state;
    map_by_pcp(3600, 1000);
    mvpn_time since = now;
    (void)wait_packet(MVPN_S(70), MVPN_PCP_HEADER_LEN);
    assert_int_equal(pcp_epoch(0), 0);
    assert_int_equal(sent(), MVPN_PCP_MAP_LEN);
    assert_int_equal(pcp(0, 3600, 1, EXTERNAL), 0);
    since = now;
    to_renewal(since, 1, 0);
    assert_int_equal(pcp(MVPN_PCP_NO_RESOURCES, 0, 1801, EXTERNAL), 0);
    assert_true(got_nothing());
    assert_true(mvpn_portmap_get(&m, NULL));
}

/* Another firmware, without PCP: what it gave is lost, and had anew the other way. */
static void test_pcp_goes(void **state)
{
    (void)state;
    map_by_pcp(600, 1000);
    mvpn_time since = now;
    to_renewal(since, 1000, 0);
    uint8_t a[MVPN_PCP_HEADER_LEN] = {1, 0x81, 0, MVPN_PCP_UNSUPP_VERSION};
    assert_int_equal(hear(a, sizeof(a)), 0);
    assert_true(got(MVPN_PORTMAP_LOST));
    assert_false(mvpn_portmap_get(&m, NULL));
    mvpn_portmap copy = m;
    mvpn_portmap_close(&copy, now);
    assert_true(mvpn_portmap_is_closed(&copy));
    for (unsigned i = 0; i < 5; i++) { /* it is one that asks, not one that has */
        (void)wait_packet(MVPN_S(5), MVPN_NATPMP_ADDRESS_LEN);
    }
    assert_int_equal(pmp_address(5, "11.22.33.44"), 0);
    assert_int_equal(sent(), MVPN_NATPMP_MAP_LEN);
    assert_int_equal(pmp_map(5, PORT, PORT, 600), 0);
    assert_true(got(MVPN_PORTMAP_MAPPED));
}

static void test_nonces(void **state)
{
    (void)state;
    static const uint8_t zero[MVPN_PCP_NONCE_LEN];
    uint8_t first[MVPN_PCP_NONCE_LEN];
    assert_int_equal(sent(), MVPN_PCP_MAP_LEN);
    memcpy(first, packet + 24, sizeof(first));
    assert_memory_not_equal(first, zero, sizeof(zero));
    mvpn_portmap_init(&m, &(mvpn_portmap_config){&rng, gateway, client, PORT}, now);
    assert_int_equal(sent(), MVPN_PCP_MAP_LEN);
    assert_memory_not_equal(first, packet + 24, sizeof(first));
}

/* An error is believed as the answer to its own question. */
static void test_errors_of_natpmp(void **state)
{
    (void)state;
    assert_int_equal(sent(), MVPN_PCP_MAP_LEN);
    assert_int_equal(pmp_error(0, 1), 0);
    assert_int_equal(sent(), MVPN_NATPMP_ADDRESS_LEN);
    assert_int_equal(pmp_error(1, 4), MVPN_E_STATE);
    assert_int_equal(pmp_address(1, "11.22.33.44"), 0);
    assert_int_equal(sent(), MVPN_NATPMP_MAP_LEN);
    assert_int_equal(pmp_error(0, 3), MVPN_E_STATE);
    assert_int_equal(pmp_map(1, PORT, PORT, 3600), 0);
    assert_true(got(MVPN_PORTMAP_MAPPED));
    assert_int_equal(pmp_error(0, 3), MVPN_E_STATE);
    assert_int_equal(pmp_error(1, 4), MVPN_E_STATE);
    assert_true(got_nothing());
    mvpn_portmap_close(&m, now);
    assert_int_equal(sent(), MVPN_NATPMP_MAP_LEN);
    assert_int_equal(pmp_error(0, 3), MVPN_E_STATE);
    assert_false(mvpn_portmap_is_closed(&m));
    assert_int_equal(pmp_error(1, 2), 0); /* it does not delete: we have done what we can */
    assert_true(mvpn_portmap_is_closed(&m));
    assert_int_equal(mvpn_portmap_deadline(&m), MVPN_TIME_NEVER);
    set_up(state);
    assert_int_equal(sent(), MVPN_PCP_MAP_LEN);
    assert_int_equal(pmp_error(0, 1), 0);
    assert_int_equal(sent(), MVPN_NATPMP_ADDRESS_LEN);
    assert_int_equal(pmp_address(1, "11.22.33.44"), 0);
    assert_int_equal(sent(), MVPN_NATPMP_MAP_LEN);
    assert_int_equal(pmp_error(1, 4), 0);
    assert_true(got(MVPN_PORTMAP_FAILED));
    assert_in_range(mvpn_portmap_deadline(&m) - now, MVPN_S(270), MVPN_S(330));
}

/* Nothing follows an end. */
static void test_ends(void **state)
{
    for (unsigned how = 0; how < 4; how++) {
        set_up(state);
        if (how < 3) {
            map_by_pcp(3600, 1);
        } else {
            map_by_natpmp(3600, 1);
        }
        mvpn_portmap_close(&m, now);
        assert_int_equal(sent(), how < 3 ? MVPN_PCP_MAP_LEN : MVPN_NATPMP_MAP_LEN);
        if (how == 0) {
            assert_int_equal(pcp(MVPN_PCP_NOT_AUTHORIZED, 0, 1, EXTERNAL), 0);
        } else if (how == 1) {
            mvpn_portmap_refused(&m, now);
        } else if (how == 2) {
            assert_int_equal(pcp(0, 0, 1, EXTERNAL), 0);
        } else {
            assert_int_equal(pmp_map(1, PORT, 0, 0), 0);
        }
        assert_true(mvpn_portmap_is_closed(&m));
        assert_int_equal(mvpn_portmap_deadline(&m), MVPN_TIME_NEVER);
        now += MVPN_S(10000);
        assert_int_equal(sent(), 0);
        assert_true(got_nothing());
    }
}

/* Who does not look gets the newest. */
static void test_events_are_bounded(void **state)
{
    (void)state;
    map_by_pcp(3600, 1);
    for (unsigned i = 0; i < 20; i++) {
        char text[32] = "11.22.33.100:4242";
        text[11] = (char)('0' + i % 10);
        assert_int_equal(pcp(0, 3600, 1, text), 0);
    }
    unsigned count = 0;
    while (mvpn_portmap_pull_event(&m, &event)) {
        count++;
        assert_int_equal(event.type, MVPN_PORTMAP_CHANGED);
    }
    assert_int_equal(count, MVPN_PORTMAP_EVENTS_MAX);
    assert_int_equal(event.mapping.external.ip[3], 109);
}

/* A renewal is asked for until the time is over, ever less often (RFC 6887 §8.1.1: 1024 s; RFC 6886
 * §3.1: here 64 s). */
static void test_longest_pause(void **state)
{
    for (unsigned is_natpmp = 0; is_natpmp < 2; is_natpmp++) {
        mvpn_time last = 0, longest = 0;
        set_up(state);
        if (is_natpmp) {
            map_by_natpmp(7200, 1);
        } else {
            map_by_pcp(7200, 1);
        }
        while (!got(MVPN_PORTMAP_LOST)) {
            assert_true(mvpn_portmap_deadline(&m) > now);
            now = mvpn_portmap_deadline(&m);
            size_t n = sent();
            bool is_request = n == (is_natpmp ? MVPN_NATPMP_ADDRESS_LEN : MVPN_PCP_MAP_LEN);
            if (is_request && mvpn_load16(packet) != 0x200) {
                longest = last != 0 && m.tries > 1 ? MVPN_MAX(longest, now - last) : longest;
                last = now;
            }
        }
        if (is_natpmp) {
            assert_int_equal(longest, MVPN_S(64));
        } else {
            assert_in_range(longest, MVPN_S(921), MVPN_S(1127));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_pcp, set_up),
        cmocka_unit_test_setup(test_natpmp, set_up),
        cmocka_unit_test_setup(test_old_pcp, set_up),
        cmocka_unit_test_setup(test_silence, set_up),
        cmocka_unit_test_setup(test_forged, set_up),
        cmocka_unit_test_setup(test_forged_natpmp, set_up),
        cmocka_unit_test_setup(test_refusals, set_up),
        cmocka_unit_test_setup(test_refused_addresses, set_up),
        cmocka_unit_test_setup(test_lifetimes, set_up),
        cmocka_unit_test_setup(test_epoch_of_pcp, set_up),
        cmocka_unit_test_setup(test_epoch_of_natpmp, set_up),
        cmocka_unit_test_setup(test_announcements, set_up),
        cmocka_unit_test_setup(test_expiry, set_up),
        cmocka_unit_test_setup(test_errors, set_up),
        cmocka_unit_test_setup(test_nothing_there, set_up),
        cmocka_unit_test_setup(test_close, set_up),
        cmocka_unit_test_setup(test_refused_renewals, set_up),
        cmocka_unit_test_setup(test_rests, set_up),
        cmocka_unit_test_setup(test_unanswered_checks, set_up),
        cmocka_unit_test_setup(test_epoch_goes_on, set_up),
        cmocka_unit_test_setup(test_doubt_ends, set_up),
        cmocka_unit_test_setup(test_pcp_goes, set_up),
        cmocka_unit_test_setup(test_nonces, set_up),
        cmocka_unit_test_setup(test_errors_of_natpmp, set_up),
        cmocka_unit_test_setup(test_ends, set_up),
        cmocka_unit_test_setup(test_events_are_bounded, set_up),
        cmocka_unit_test_setup(test_longest_pause, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
