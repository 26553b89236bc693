/*
 * The network file: round trip, and what is said about a wrong one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "core/path.h"
#include "crypto/x25519.h"
#include "io/file.h"
#include "io/keyfile.h"
#include "io/network_file.h"

#define NB 1000000u
#define NA 2000000u
#define NOW 1500000u

static char path[64];
static mvpn_fault fault;
static mvpn_ed25519_secret network_secret_key;

static int setup(void **state)
{
    (void)state;
    (void)snprintf(path, sizeof(path), "/tmp/mvpn-network-test.XXXXXX");
    int fd = mkstemp(path);
    return fd >= 0 ? close(fd) : -1;
}

static int teardown(void **state)
{
    (void)state;
    return unlink(path);
}

static mvpn_descriptor make_relay(const mvpn_network_file *f, unsigned number, uint64_t expires)
{
    mvpn_descriptor d = {0};
    mvpn_rng rng;
    mvpn_node_keys k;
    mvpn_rng_init_test(&rng, 100 + number);
    mvpn_node_keys_generate(&k, &rng);
    d.identity = k.identity;
    d.sequence = 1;
    d.published = NB;
    d.expires = expires;
    mvpn_link_certificate_make(d.link_certificate, &k.identity_secret, &k.identity, &k.link.pub, NB,
                               NA, &f->network_id);
    d.onion_key_count = 1;
    d.onion_keys[0] = (mvpn_onion_key){1, k.onion[0].pair.pub};
    d.address_count = 1;
    d.addresses[0] = (mvpn_descriptor_address){
        MVPN_CARRIER_PLAIN, {4, 443, {11, (uint8_t)(number / 256), (uint8_t)number, 1}}};
    d.roles = MVPN_ROLE_GUARD;
    d.has_membership = f->is_closed;
    mvpn_membership_make(d.membership, &network_secret_key, &k.identity, d.roles, NB, NA, 1,
                         &f->network_id);
    (void)snprintf(d.name, sizeof(d.name), "relay-%u", number);
    assert_int_equal(mvpn_descriptor_sign(&d, &k.identity_secret, &f->network_id), 0);
    return d;
}

static mvpn_network_file make(bool is_closed, unsigned relays)
{
    mvpn_network_file f = {.name = "test net", .is_closed = is_closed};
    mvpn_rng rng;
    mvpn_rng_init_test(&rng, 1);
    mvpn_ed25519_generate(&f.network_pub, &network_secret_key, &rng);
    mvpn_network_id(&f.network_id, &f.network_pub);
    if (is_closed) {
        mvpn_rng_bytes(&rng, f.network_secret.b, 32);
    }
    for (unsigned i = 0; i < relays; i++) {
        mvpn_descriptor d = make_relay(&f, i, NA);
        assert_int_equal(mvpn_network_file_put(&f, &d), 0);
    }
    return f;
}

static int save_and_load(const mvpn_network_file *f, uint64_t now, mvpn_network_file *ret)
{
    assert_int_equal(mvpn_network_file_save(path, f, &fault), 0);
    return mvpn_network_file_load(path, now, ret, &fault);
}

static void expect_fault(const char *text)
{
    char expected[600];
    (void)snprintf(expected, sizeof(expected), "%s%s", path, text);
    if (strncmp(fault.text, expected, strlen(expected)) != 0) {
        fail_msg("\"%s\" does not begin with \"%s\"", fault.text, expected);
    }
}

static mvpn_dht_contact make_entry(const mvpn_network_file *f, unsigned number, bool is_v6)
{
    mvpn_dht_contact c = {.addr = {4, 443, {11, 5, (uint8_t)number, 1}}};
    if (is_v6) {
        c.addr = (mvpn_addr){6, 443, {0x2a, 0x10, 0, (uint8_t)number, [15] = 1}};
    }
    memset(c.link_key.b, (int)number + 1, sizeof(c.link_key.b));
    mvpn_dht_node_id(&c.id, &f->network_pub, &c.addr); /* any identity will do */
    return c;
}

/* Where a newcomer begins, and who was revoked. */
static void test_bootstrapping(void **state)
{
    (void)state;
    mvpn_network_file f = make(true, 0), g;
    mvpn_trust trust;
    for (unsigned i = 0; i < 3; i++) {
        mvpn_dht_contact c = make_entry(&f, i, i == 1);
        assert_int_equal(mvpn_network_file_put_entry(&f, &c), 0);
        assert_int_equal(mvpn_network_file_put_entry(&f, &c), 0);
    }
    assert_int_equal(f.entry_count, 3);
    f.discovery_count = 2;
    (void)snprintf(f.discovery[0], sizeof(f.discovery[0]), "https://a.example.org");
    (void)snprintf(f.discovery[1], sizeof(f.discovery[1]), "http://11.0.0.1:8080/x///");
    (void)snprintf(f.dns, sizeof(f.dns), "entries.example.org");
    f.lan_discovery = true;
    f.revocations =
        (mvpn_revocations){.sequence = 7, .published = NB, .count = 2, .serials = {3, 5000000000}};
    assert_int_equal(mvpn_revocations_sign(&f.revocations, &network_secret_key, &f.network_id), 0);
    assert_int_equal(save_and_load(&f, NOW, &g), 0);
    assert_int_equal(g.entry_count, 3);
    for (size_t i = 0; i < 3; i++) {
        assert_memory_equal(g.entries[i].id.b, f.entries[i].id.b, MVPN_DHT_ID_LEN);
        assert_memory_equal(g.entries[i].link_key.b, f.entries[i].link_key.b, 32);
        assert_true(mvpn_addr_eq(&g.entries[i].addr, &f.entries[i].addr));
    }
    assert_int_equal(g.discovery_count, 2);
    assert_string_equal(g.discovery[0], "https://a.example.org");
    assert_string_equal(g.discovery[1], "http://11.0.0.1:8080/x");
    assert_string_equal(g.dns, "entries.example.org");
    assert_true(g.lan_discovery);
    assert_int_equal(g.revocations.sequence, 7);
    assert_true(mvpn_revocations_has(&g.revocations, 5000000000));
    assert_false(mvpn_revocations_has(&g.revocations, 4));
    mvpn_network_file_trust(&g, &trust);
    assert_true(trust.closed);
    assert_memory_equal(trust.network_id.b, f.network_id.b, 32);
    assert_int_equal(trust.revocations.count, 2);
    mvpn_network_file_done(&g);

    /* A list signed by somebody else; an entry moved to another block, or in a private one. */
    mvpn_ed25519_secret other_key;
    mvpn_ed25519_pub other;
    mvpn_rng rng;
    mvpn_rng_init_test(&rng, 77);
    mvpn_ed25519_generate(&other, &other_key, &rng);
    assert_int_equal(mvpn_revocations_sign(&f.revocations, &other_key, &f.network_id), 0);
    assert_int_equal(save_and_load(&f, NOW, &g), MVPN_E_CONFIG);
    expect_fault(":18: revocations: the list is not signed by this network's key. ");
    f.revocations.sequence = 0;
    f.entries[2].addr.ip[2] = 99;
    assert_int_equal(save_and_load(&f, NOW, &g), MVPN_E_CONFIG);
    expect_fault(":13: entries: entry 3 was altered: its id is not of its address. ");
    f.entries[2].addr.ip[0] = 10;
    mvpn_dht_node_id(&f.entries[2].id, &f.network_pub, &f.entries[2].addr);
    assert_int_equal(save_and_load(&f, NOW, &g), MVPN_E_CONFIG);
    expect_fault(":13: entries: entry 3 (10.5.99.1:443) has a private address. Set allow_private");
    f.allow_private = true;
    assert_int_equal(save_and_load(&f, NOW, &g), 0);
    mvpn_network_file_done(&g);

    /* Bounded. */
    for (unsigned i = 0; f.entry_count < MVPN_NETWORK_ENTRIES_MAX; i++) {
        mvpn_dht_contact c = make_entry(&f, 100 + i, false);
        assert_int_equal(mvpn_network_file_put_entry(&f, &c), 0);
    }
    mvpn_dht_contact c = make_entry(&f, 255, false);
    assert_int_equal(mvpn_network_file_put_entry(&f, &c), MVPN_E_LIMIT);
    assert_int_equal(save_and_load(&f, NOW, &g), 0);
    assert_int_equal(g.entry_count, MVPN_NETWORK_ENTRIES_MAX);
    mvpn_network_file_done(&g);
    mvpn_network_file_done(&f);
}

static void test_names(void **state)
{
    (void)state;
    static const char *const good_urls[] = {"https://a", "http://[2a10::1]:80/x?y=1", "https://a/"};
    static const char *const bad_urls[] = {"",           "https://",       "ftp://a",
                                           "a.org",      "https:///x",     "http://a b",
                                           "http://a\"", "http://\xc3\xa4"};
    static const char *const good_names[] = {"a", "_x.example.org", "1.2"};
    static const char *const bad_names[] = {"", ".", "a.", ".a", "a..b", "a b", "a/b"};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(good_urls); i++) {
        assert_true(mvpn_network_url_is_valid(good_urls[i]));
    }
    for (size_t i = 0; i < MVPN_ARRAY_LEN(bad_urls); i++) {
        assert_false(mvpn_network_url_is_valid(bad_urls[i]));
    }
    for (size_t i = 0; i < MVPN_ARRAY_LEN(good_names); i++) {
        assert_true(mvpn_network_dns_is_valid(good_names[i]));
    }
    for (size_t i = 0; i < MVPN_ARRAY_LEN(bad_names); i++) {
        assert_false(mvpn_network_dns_is_valid(bad_names[i]));
    }
    char label[66], url[MVPN_NETWORK_URL_MAX + 2] = "https://";
    memset(label, 'a', 64);
    label[64] = '\0';
    assert_false(mvpn_network_dns_is_valid(label));
    label[63] = '\0';
    assert_true(mvpn_network_dns_is_valid(label));
    memset(url + 8, 'a', sizeof(url) - 9);
    url[sizeof(url) - 1] = '\0';
    assert_false(mvpn_network_url_is_valid(url));
    url[sizeof(url) - 2] = '\0';
    assert_true(mvpn_network_url_is_valid(url));
}

static void test_round_trip(void **state)
{
    (void)state;
    /* 33: the list grows in steps of 32. */
    static const unsigned counts[] = {0, 1, 3, 33};
    for (size_t row = 0; row < 2 * MVPN_ARRAY_LEN(counts); row++) {
        bool is_closed = row % 2 == 0;
        mvpn_network_file f = make(is_closed, counts[row / 2]), g;
        struct stat st;
        f.allow_private = is_closed;
        f.relax = is_closed ? MVPN_RELAX_BLOCK | MVPN_RELAX_FAMILY : MVPN_RELAX_PROVIDER;
        f.anchor_count = 2;
        f.anchors[1] = f.network_pub;
        assert_int_equal(mvpn_network_file_save(path, &f, &fault), 0);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 0777, is_closed ? 0600 : 0644);
        if (mvpn_network_file_load(path, NOW, &g, &fault) != 0) {
            fail_msg("%s", fault.text);
        }
        assert_string_equal(g.name, "test net");
        assert_int_equal(g.is_closed, is_closed);
        assert_memory_equal(g.network_pub.b, f.network_pub.b, 32);
        assert_memory_equal(g.network_id.b, f.network_id.b, 32);
        assert_memory_equal(g.network_secret.b, f.network_secret.b, 32);
        assert_int_equal(g.allow_private, f.allow_private);
        assert_int_equal(g.relax, f.relax);
        assert_int_equal(g.anchor_count, 2);
        assert_memory_equal(g.anchors, f.anchors, sizeof(f.anchors));
        assert_int_equal(g.relay_count, f.relay_count);
        for (size_t i = 0; i < g.relay_count; i++) {
            assert_int_equal(g.relays[i].encoded_len, f.relays[i].encoded_len);
            assert_memory_equal(g.relays[i].encoded, f.relays[i].encoded, g.relays[i].encoded_len);
        }
        assert_int_equal(g.expired_count, 0);
        mvpn_network_file_done(&f);
        mvpn_network_file_done(&g);
    }
}

static void test_expired(void **state)
{
    (void)state;
    mvpn_network_file f = make(true, 2), g;
    mvpn_descriptor d = make_relay(&f, 7, NB + 10);
    assert_int_equal(mvpn_network_file_put(&f, &d), 0);
    d = make_relay(&f, 8, NA);
    assert_int_equal(mvpn_network_file_put(&f, &d), 0);
    assert_int_equal(save_and_load(&f, NOW, &g), 0);
    assert_int_equal(g.relay_count, 3);
    assert_int_equal(g.expired_count, 1);
    assert_string_equal(g.expired_name, "relay-7");
    assert_string_equal(g.relays[2].name, "relay-8");
    mvpn_network_file_done(&g);
    assert_int_equal(save_and_load(&f, 0, &g), 0);
    assert_int_equal(g.relay_count, 4);
    mvpn_network_file_done(&g);
    mvpn_network_file_done(&f);
}

static void test_find_and_put(void **state)
{
    (void)state;
    mvpn_network_file f = make(true, 3);
    char base64[MVPN_BASE64_LEN(32)];
    assert_true(mvpn_network_file_find(&f, "relay-1") == &f.relays[1]);
    assert_null(mvpn_network_file_find(&f, "relay-9"));
    (void)mvpn_base64_encode(base64, sizeof(base64), MVPN_BYTES_ARRAY(f.relays[2].identity.b));
    assert_true(mvpn_network_file_find(&f, base64) == &f.relays[2]);
    memcpy(f.relays[0].name, "relay-1", 8);
    assert_null(mvpn_network_file_find(&f, "relay-1")); /* two of that name */
    mvpn_descriptor d = make_relay(&f, 1, NA - 1);
    assert_int_equal(mvpn_network_file_put(&f, &d), 0);
    assert_int_equal(f.relay_count, 3);
    assert_int_equal(f.relays[1].expires, NA - 1);
    mvpn_network_file_done(&f);
}

static void test_refused(void **state)
{
    (void)state;
    mvpn_network_file f = make(true, 3), g;
    /* Lines: 2 of comment, name, mode, key, secret, "relays = {", then a comment and an entry each.
     */
    f.relays[1].encoded[200] ^= 1;
    assert_int_equal(save_and_load(&f, NOW, &g), MVPN_E_CONFIG);
    expect_fault(":11: relays: relay 2 (relay-1) has a wrong signature");
    f.relays[1].encoded[200] ^= 1;
    f.relays[2].encoded[0] ^= 1;
    assert_int_equal(save_and_load(&f, NOW, &g), MVPN_E_CONFIG);
    expect_fault(":13: relays: relay 3 is not a descriptor. ");
    f.relays[2] = f.relays[0];
    assert_int_equal(save_and_load(&f, NOW, &g), MVPN_E_CONFIG);
    expect_fault(":13: relays: relay 3 (relay-0) is in the list already. ");

    /* A relay that nobody admitted. */
    mvpn_network_file open_net = make(false, 0);
    f.relays[2] = make_relay(&open_net, 50, NA);
    assert_int_equal(save_and_load(&f, NOW, &g), MVPN_E_CONFIG);
    expect_fault(":13: relays: relay 3 (relay-50) claims more than its membership certificate");
    mvpn_network_file_done(&f);

    /* A private address, unless allowed. */
    f = make(true, 0);
    mvpn_descriptor d = make_relay(&f, 0, NA);
    d.addresses[0].addr.ip[0] = 10;
    mvpn_rng rng;
    mvpn_node_keys k;
    mvpn_rng_init_test(&rng, 100);
    mvpn_node_keys_generate(&k, &rng);
    assert_int_equal(mvpn_descriptor_sign(&d, &k.identity_secret, &f.network_id), 0);
    assert_int_equal(mvpn_network_file_put(&f, &d), 0);
    assert_int_equal(save_and_load(&f, NOW, &g), MVPN_E_CONFIG);
    expect_fault(":9: relays: relay 1 (relay-0) has a private address. Set allow_private = true");
    f.allow_private = true;
    assert_int_equal(save_and_load(&f, NOW, &g), 0);
    mvpn_network_file_done(&g);

    /* Open to others. */
    assert_int_equal(chmod(path, 0640), 0);
    assert_int_equal(mvpn_network_file_load(path, NOW, &g, &fault), MVPN_E_CONFIG);
    expect_fault(" holds a secret and other users may open it (mode 0640): chmod 600 /tmp/mvpn-");
    assert_int_equal(g.relay_count, 0);
    mvpn_network_file_done(&f);
}

static void test_texts(void **state)
{
    (void)state;
#define KEY "network_key = \"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"\n"
    static const struct {
        const char *text;
        const char *expected;
    } rows[] = {
        {"", ": network_key is missing. "},
        {KEY, ": mode is missing. "},
        {KEY "mode = closed\n", ": network_secret is missing; "},
        {KEY "mode = open\nnetwork_secret = \"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"\n",
         ": an open network has no network_secret. "},
        {KEY "mode = shut\n", ":2: mode: 'shut' is no mode. Write closed or open"},
        {"network_key = \"AAAA\"\n", ":1: network_key: not a key: "},
        {"relax = {\"same-32\"}\n", ":1: relax: 'same-32' is no rule. Write same-16, "},
        {"relay = {}\n", ":1: unknown key 'relay'. Did you mean 'relays'?"},
        {"relays = {\n\"AAAA\",\n\"\"}\n", ":2: relays: relay 1 is not a descriptor. "},
        {"entries = {\"AAAA\"}\n", ":1: entries: entry 1 is not an entry. "},
        {"discovery = {\"ftp://x\"}\n", ":1: discovery: 'ftp://x' is no URL. Write it as https://"},
        {"dns = \"a b\"\n", ":1: dns: 'a b' is no name of DNS. "},
        {"lan_discovery = 7\n", ":1: invalid boolean value for option 'lan_discovery'"},
        {"revocations = \"AA\"\n", ":1: revocations: not a revocation list. "},
        {KEY "mode = open\nrevocations = \"AAAA\"\n",
         ":3: revocations: an open network has no memberships to revoke. "},
        {"name = \"\"\n", ":1: name: must be 1 to 64 characters"},
        {"allow_private = perhaps\n", ":1: invalid boolean value for option 'allow_private'"},
    };
    mvpn_network_file f;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        assert_int_equal(mvpn_file_write(path, rows[i].text, strlen(rows[i].text), 0600, &fault),
                         0);
        assert_int_equal(mvpn_network_file_load(path, NOW, &f, &fault), MVPN_E_CONFIG);
        expect_fault(rows[i].expected);
        assert_null(f.relays);
    }
    static const char open_text[] = KEY "mode = open\n";
    assert_int_equal(mvpn_file_write(path, open_text, strlen(open_text), 0644, &fault), 0);
    assert_int_equal(mvpn_network_file_load(path, NOW, &f, &fault), 0);
    mvpn_network_file_done(&f);
    assert_int_equal(mvpn_network_file_load("/nonexistent/n", NOW, &f, &fault), MVPN_E_UNKNOWN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_round_trip, setup, teardown),
        cmocka_unit_test_setup_teardown(test_expired, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bootstrapping, setup, teardown),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_find_and_put),
        cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_texts, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
