/* Lifetimes of mappings by network: found again on the same one, for a month, and nowhere else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <unistd.h>

#include "base/error.h"
#include "io/nat_cache.h"
#include "io/statefile.h"

#define DAY UINT64_C(86400)
#define TODAY (20000 * DAY)

static char dir[64];

static int setup(void **state)
{
    (void)state;
    (void)snprintf(dir, sizeof(dir), "/tmp/mvpn-nat-cache-test.XXXXXX");
    return mkdtemp(dir) == NULL ? -1 : 0;
}

static int teardown(void **state)
{
    char path[96];
    (void)state;
    (void)snprintf(path, sizeof(path), "%s/nat", dir);
    (void)unlink(path);
    return rmdir(dir);
}

static mvpn_addr addr(const char *text)
{
    mvpn_addr a;
    assert_int_equal(mvpn_addr_parse(text, &a), 0);
    return a;
}

static mvpn_nat_network network(const char *gateway, int mac, const char *seen)
{
    mvpn_nat_network n = {.has_mac = mac >= 0, .mac = {2, 3, 4, 5, 6, (uint8_t)mac}};
    if (gateway != NULL) {
        n.gateway = addr(gateway);
    }
    if (seen != NULL) {
        n.seen = addr(seen);
    }
    return n;
}

/* A sandboxed relay sees no MAC address; `meshvpn netcheck` on the same host does. */
static void test_noted_without_mac(void **state)
{
    mvpn_nat_cache cache;
    (void)state;
    assert_int_equal(mvpn_nat_cache_load(dir, &cache), 0);
    mvpn_nat_network bare = network("192.168.1.1", -1, "12.3.140.9:4000");
    mvpn_nat_network whole = network("192.168.1.1", 7, "12.3.140.9:4000");
    mvpn_nat_network elsewhere = network("192.168.1.1", 7, "12.3.141.9:4000");
    mvpn_nat_cache_put(&cache, &bare, 45, TODAY);
    assert_int_equal(mvpn_nat_cache_get(&cache, &whole, TODAY), 45);
    assert_int_equal(mvpn_nat_cache_get(&cache, &elsewhere, TODAY), 0);
    mvpn_nat_cache_put(&cache, &whole, 60, TODAY);
    assert_int_equal(mvpn_nat_cache_get(&cache, &whole, TODAY), 60);
    assert_int_equal(mvpn_nat_cache_get(&cache, &bare, TODAY), 45);
}

static void test_networks_are_told_apart(void **state)
{
    static const struct {
        const char *gateway;
        int mac;
        const char *seen;
        bool is_same;
    } rows[] = {
        {"192.168.1.1", 7, "12.3.140.9:4000", true},
        {"192.168.1.1", 7, "12.3.140.200:4001", true}, /* the same /24: a new lease */
        {"192.168.1.1", 7, "12.3.141.9:4000", false},
        {"192.168.1.1", 8, "12.3.140.9:4000", false}, /* another router of the same address */
        {"192.168.1.1", -1, "12.3.140.9:4000", false},
        {"192.168.1.2", 7, "12.3.140.9:4000", false},
        {"192.168.1.1", 7, NULL, false},
        {NULL, 7, "12.3.140.9:4000", false},
        {"192.168.1.1", 7, "[2a11:3::9]:4000", false},
    };
    mvpn_nat_cache cache;
    (void)state;
    assert_int_equal(mvpn_nat_cache_load(dir, &cache), 0);
    assert_int_equal(cache.count, 0);
    mvpn_nat_network home = network("192.168.1.1", 7, "12.3.140.9:4000");
    mvpn_nat_cache_put(&cache, &home, 45, TODAY);
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        mvpn_nat_network n = network(rows[i].gateway, rows[i].mac, rows[i].seen);
        assert_int_equal(mvpn_nat_cache_get(&cache, &n, TODAY), rows[i].is_same ? 45 : 0);
    }
    mvpn_nat_network six = network(NULL, -1, "[2a11:3:0:1::9]:1");
    mvpn_nat_network six_too = network(NULL, -1, "[2a11:3:0:2::9]:1");
    mvpn_nat_cache_put(&cache, &six, 180, TODAY);
    assert_int_equal(mvpn_nat_cache_get(&cache, &six_too, TODAY), 180); /* the same /48 */
    /* Nothing to recognise it by, or nothing measured: not noted. */
    mvpn_nat_network nowhere = {.has_mac = false};
    mvpn_nat_cache_put(&cache, &nowhere, 60, TODAY);
    mvpn_nat_cache_put(&cache, &six, 0, TODAY);
    assert_int_equal(mvpn_nat_cache_get(&cache, &nowhere, TODAY), 0);
    assert_int_equal(cache.count, 2);
}

static void test_ages_and_bounds(void **state)
{
    static const struct {
        uint64_t now;
        uint32_t lifetime_s;
    } rows[] = {
        {TODAY, 60},
        {TODAY + MVPN_NAT_CACHE_DAYS * DAY, 60},
        {TODAY + (MVPN_NAT_CACHE_DAYS + 1) * DAY, 0},
        {TODAY - DAY, 60},
        {TODAY - 2 * DAY, 0}, /* from the future: some clock was wrong */
    };
    mvpn_nat_cache cache;
    (void)state;
    assert_int_equal(mvpn_nat_cache_load(dir, &cache), 0);
    mvpn_nat_network home = network("192.168.1.1", 7, NULL);
    mvpn_nat_cache_put(&cache, &home, 20, TODAY - 5 * DAY);
    mvpn_nat_cache_put(&cache, &home, 60, TODAY); /* measured anew */
    assert_int_equal(cache.count, 1);
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        assert_int_equal(mvpn_nat_cache_get(&cache, &home, rows[i].now), rows[i].lifetime_s);
    }
    for (int i = 0; i < MVPN_NAT_CACHE_MAX; i++) {
        mvpn_nat_network other = network("10.0.0.1", i, NULL);
        mvpn_nat_cache_put(&cache, &other, 100000, TODAY);
        assert_int_equal(mvpn_nat_cache_get(&cache, &other, TODAY), MVPN_NAT_CACHE_LIFETIME_MAX_S);
        assert_int_equal(mvpn_nat_cache_get(&cache, &home, TODAY),
                         i + 1 < MVPN_NAT_CACHE_MAX ? 60 : 0); /* the oldest gave way */
    }
    assert_int_equal(cache.count, MVPN_NAT_CACHE_MAX);
}

static void test_file_says_nothing_readable(void **state)
{
    static const uint8_t gateway[] = {192, 168, 77, 1}, seen[] = {12, 3, 140};
    mvpn_nat_cache cache, again, other;
    uint8_t *bytes = NULL;
    size_t size = 0;
    bool is_whole = false;
    (void)state;
    assert_int_equal(mvpn_nat_cache_load(dir, &cache), 0);
    mvpn_nat_network home = network("192.168.77.1", 7, "12.3.140.9:4000");
    mvpn_nat_cache_put(&cache, &home, 45, TODAY);
    assert_int_equal(mvpn_nat_cache_save(dir, &cache, NULL), 0);
    assert_int_equal(mvpn_nat_cache_load(dir, &again), 0);
    assert_memory_equal(again.salt, cache.salt, sizeof(cache.salt));
    assert_int_equal(mvpn_nat_cache_get(&again, &home, TODAY), 45);

    assert_int_equal(mvpn_statefile_load(dir, MVPN_STATE_NAT, &bytes, &size, &is_whole, NULL), 0);
    assert_true(is_whole);
    assert_null(memmem(bytes, size, gateway, sizeof(gateway)));
    assert_null(memmem(bytes, size, seen, sizeof(seen)));
    assert_null(memmem(bytes, size, home.mac, sizeof(home.mac)));
    free(bytes);

    /* Two computers in one network write different fingerprints. */
    memset(&other, 0, sizeof(other));
    mvpn_nat_cache_put(&other, &home, 45, TODAY);
    assert_memory_not_equal(other.at[0].fingerprint, cache.at[0].fingerprint,
                            MVPN_NAT_FINGERPRINT_LEN);
}

static void test_decode_is_strict(void **state)
{
    uint8_t good[18 + 24 + 1] = {1, 1};
    mvpn_nat_cache cache = {.count = 0};
    (void)state;
    good[18 + 16 + 3] = 45; /* lifetime */
    assert_true(mvpn_nat_cache_decode(&cache, mvpn_bytes_of(good, 42)));
    assert_int_equal(cache.count, 1);
    assert_int_equal(cache.at[0].lifetime_s, 45);
    for (size_t n = 0; n < sizeof(good); n++) {
        assert_int_equal(mvpn_nat_cache_decode(&cache, mvpn_bytes_of(good, n)), n == 42);
    }
    assert_false(mvpn_nat_cache_decode(&cache, MVPN_BYTES_ARRAY(good)));
    static const struct {
        size_t at;
        uint8_t value;
    } wrong[] = {{0, 2}, {1, 0}, {1, 2}, {1, 17}, {34, 1}, {37, 0}};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(wrong); i++) {
        uint8_t bad[42];
        memcpy(bad, good, sizeof(bad));
        bad[wrong[i].at] = wrong[i].value;
        assert_false(mvpn_nat_cache_decode(&cache, MVPN_BYTES_ARRAY(bad)));
    }
}

static void test_arp_table(void **state)
{
    static const char text[] =
        "IP address       HW type     Flags       HW address            Mask     Device\n"
        "192.168.1.20     0x1         0x2         00:11:22:33:44:55     *        eth0\n"
        "192.168.1.2      0x1         0x0         00:00:00:00:00:00     *        eth0\n"
        "192.168.1.1      0x1         0x2         0a:1b:2c:3d:4e:5f     *        eth0";
    static const uint8_t gateway_mac[] = {0x0a, 0x1b, 0x2c, 0x3d, 0x4e, 0x5f};
    uint8_t mac[6] = {0};
    (void)state;
    mvpn_addr gateway = addr("192.168.1.1"), incomplete = addr("192.168.1.2"),
              stranger = addr("192.168.1.3");
    assert_true(mvpn_nat_arp_find(text, &gateway, mac));
    assert_memory_equal(mac, gateway_mac, 6);
    assert_false(mvpn_nat_arp_find(text, &incomplete, mac));
    assert_false(mvpn_nat_arp_find(text, &stranger, mac));
    assert_false(mvpn_nat_arp_find("", &gateway, mac));
    assert_false(mvpn_nat_arp_find("192.168.1.1 0x1 0x2 zz", &gateway, mac));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_noted_without_mac), cmocka_unit_test(test_networks_are_told_apart),
        cmocka_unit_test(test_ages_and_bounds),   cmocka_unit_test(test_file_says_nothing_readable),
        cmocka_unit_test(test_decode_is_strict),  cmocka_unit_test(test_arp_table),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
