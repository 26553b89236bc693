/*
 * Key files and a node's directory, in a directory of the test's own.
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
#include "crypto/x25519.h"
#include "io/file.h"
#include "io/keyfile.h"

#define NB 1000000u
#define NA 2000000u
#define NOW 1500000u

static char dir[64];
static mvpn_fault fault;
static const char *const names[] = {"identity.key", "link.key",        "onion.key",
                                    "link.cert",    "membership.cert", "key"};

static const char *path_of(const char *name)
{
    static char path[128];
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    return path;
}

static int setup(void **state)
{
    (void)state;
    (void)snprintf(dir, sizeof(dir), "/tmp/mvpn-keyfile-test.XXXXXX");
    return mkdtemp(dir) != NULL ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(names); i++) {
        (void)unlink(path_of(names[i]));
    }
    return rmdir(dir);
}

static void put(const char *name, const char *text, mode_t mode)
{
    assert_int_equal(mvpn_file_write(path_of(name), text, strlen(text), mode, &fault), 0);
}

static void test_base64(void **state)
{
    (void)state;
    /* RFC 4648 §10, and what strict decoding refuses. */
    static const struct {
        const char *text;
        const char *bytes; /* NULL: refused */
    } rows[] = {
        {"", ""},        {"Zg==", "f"},  {"Zm8=", "fo"}, {"Zm9v", "foo"},    {"Zm9vYg==", "foob"},
        {"Zg", NULL},    {"Zg=", NULL},  {"Zh==", NULL}, {"Zm9v\n", NULL},   {" Zm9v", NULL},
        {"Zm9v=", NULL}, {"Zm-_", NULL}, {"Z", NULL},    {"Zg==Zg==", NULL},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        uint8_t out[8];
        char text[16];
        size_t n = 99;
        int rc = mvpn_base64_decode(rows[i].text, out, sizeof(out), &n);
        assert_int_equal(rc, rows[i].bytes != NULL ? 0 : MVPN_E_FORMAT);
        if (rc == 0) {
            assert_int_equal(n, strlen(rows[i].bytes));
            assert_memory_equal(out, rows[i].bytes, n);
            assert_string_equal(mvpn_base64_encode(text, sizeof(text), mvpn_bytes_of(out, n)),
                                rows[i].text);
        }
    }
    uint8_t small[2];
    size_t n;
    assert_int_not_equal(mvpn_base64_decode("Zm9v", small, sizeof(small), &n), 0);
    assert_int_equal(mvpn_base64_decode("Zm9vZm9v", small, sizeof(small), &n), MVPN_E_SPACE);
}

static int read_key(uint8_t out[static 8], size_t *lines)
{
    return mvpn_keyfile_read(path_of("key"), "meshvpn-test-1", true, out, 4, 2, lines, &fault);
}

static void test_keyfile(void **state)
{
    (void)state;
    static const uint8_t values[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    uint8_t out[8];
    size_t lines = 0;
    struct stat st;
    assert_int_equal(read_key(out, &lines), MVPN_E_UNKNOWN);
    for (size_t n = 1; n <= 2; n++) {
        assert_int_equal(
            mvpn_keyfile_write(path_of("key"), "meshvpn-test-1", true, values, 4, n, &fault), 0);
        assert_int_equal(read_key(out, &lines), 0);
        assert_int_equal(lines, n);
        assert_memory_equal(out, values, 4 * n);
        assert_int_equal(stat(path_of("key"), &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
    }
    static const char *const bad[] = {
        "",
        "meshvpn-test-1 AQIDBA==",   /* no line end: cut */
        "meshvpn-test-2 AQIDBA==\n", /* another type */
        "meshvpn-test-1 AQID\n",     /* short */
        "meshvpn-test-1 AQIDBAU=\n", /* long */
        "meshvpn-test-1  AQIDBA==\n",
        "meshvpn-test-1 AQIDBA==\n\n",
        "meshvpn-test-1 AQIDBA==\nmeshvpn-test-1 AQIDBA==\nmeshvpn-test-1 AQIDBA==\n",
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(bad); i++) {
        put("key", bad[i], 0600);
        assert_int_equal(read_key(out, &lines), MVPN_E_CONFIG);
        assert_non_null(strstr(fault.text, "is not a \"meshvpn-test-1\" file or is damaged"));
        assert_null(strstr(fault.text, "AQID"));
    }
    put("key", "meshvpn-test-1 AQIDBA==\n", 0644);
    assert_int_equal(read_key(out, &lines), MVPN_E_CONFIG);
    assert_non_null(strstr(fault.text, "chmod 600 /tmp/mvpn-keyfile-test."));
}

typedef struct net {
    mvpn_ed25519_pub pub;
    mvpn_ed25519_secret secret;
    mvpn_key id;
    mvpn_node_keys keys;
} net;

static net make_node(uint64_t seed)
{
    net n;
    mvpn_rng rng;
    mvpn_rng_init_test(&rng, 5);
    mvpn_ed25519_generate(&n.pub, &n.secret, &rng);
    mvpn_network_id(&n.id, &n.pub);
    mvpn_rng_init_test(&rng, seed);
    mvpn_node_keys_generate(&n.keys, &rng);
    n.keys.onion_count = 2;
    n.keys.onion[1].id = 9;
    mvpn_x25519_generate(&n.keys.onion[1].pair, &rng);
    mvpn_link_certificate_make(n.keys.link_certificate, &n.keys.identity_secret, &n.keys.identity,
                               &n.keys.link.pub, NB, NA, &n.id);
    mvpn_membership_make(n.keys.membership, &n.secret, &n.keys.identity, 3, NB, NA, 1, &n.id);
    n.keys.has_membership = true;
    return n;
}

static int load(const net *n, bool is_closed, uint64_t now, mvpn_node_keys *ret)
{
    return mvpn_node_keys_load(dir, &n->id, is_closed ? &n->pub : NULL, now, ret, &fault);
}

static void test_node_keys(void **state)
{
    (void)state;
    net n = make_node(6);
    mvpn_node_keys k;
    assert_int_equal(load(&n, true, NOW, &k), MVPN_E_UNKNOWN);
    assert_int_equal(mvpn_node_keys_save(dir, &n.keys, &fault), 0);
    assert_int_equal(load(&n, true, NOW, &k), 0);
    assert_memory_equal(k.identity.b, n.keys.identity.b, 32);
    assert_true(k.has_identity_secret && k.has_membership);
    assert_memory_equal(k.identity_secret.b, n.keys.identity_secret.b, 64);
    assert_memory_equal(&k.link, &n.keys.link, sizeof(k.link));
    assert_int_equal(k.onion_count, 2);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(k.onion[i].id, n.keys.onion[i].id);
        assert_memory_equal(&k.onion[i].pair, &n.keys.onion[i].pair, sizeof(k.onion[i].pair));
    }
    assert_memory_equal(k.link_certificate, n.keys.link_certificate, 176);
    assert_memory_equal(k.membership, n.keys.membership, 122);
    mvpn_node_keys_done(&k);
    assert_true(mvpn_ct_is_zero(&k, sizeof(k)));

    /* The identity may be offline; an open network asks for no membership. */
    (void)unlink(path_of("identity.key"));
    assert_int_equal(load(&n, true, NOW, &k), 0);
    assert_false(k.has_identity_secret);
    (void)unlink(path_of("membership.cert"));
    assert_int_equal(load(&n, true, NOW, &k), MVPN_E_UNKNOWN);
    assert_int_equal(load(&n, false, NOW, &k), 0);
    assert_false(k.has_membership);
}

static void test_node_keys_refused(void **state)
{
    (void)state;
    net n = make_node(6), other = make_node(7);
    mvpn_node_keys k;
    assert_int_equal(mvpn_node_keys_save(dir, &n.keys, &fault), 0);
    assert_int_equal(load(&n, true, NA + 301, &k), MVPN_E_EXPIRED);
    assert_non_null(strstr(fault.text, "meshvpn-bootstrap renew"));
    assert_int_equal(load(&n, true, 0, &k), 0);

    /* A file of another node among ours. */
    static const struct {
        const char *name;
        const char *type;
        size_t offset, size;
        const char *text;
    } rows[] = {
        {"identity.key", MVPN_KEYFILE_IDENTITY, offsetof(mvpn_node_keys, identity_secret), 32,
         "identity.key is not the identity that"},
        {"link.key", MVPN_KEYFILE_LINK, offsetof(mvpn_node_keys, link), 32,
         "link.key is not the key that"},
        {"membership.cert", MVPN_KEYFILE_MEMBERSHIP, offsetof(mvpn_node_keys, membership), 122,
         "membership.cert is of another node"},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        assert_int_equal(mvpn_node_keys_save(dir, &n.keys, &fault), 0);
        assert_int_equal(mvpn_keyfile_write(path_of(rows[i].name), rows[i].type, true,
                                            (const uint8_t *)&other.keys + rows[i].offset,
                                            rows[i].size, 1, &fault),
                         0);
        assert_int_equal(load(&n, true, NOW, &k), MVPN_E_CONFIG);
        assert_non_null(strstr(fault.text, rows[i].text));
        assert_true(mvpn_ct_is_zero(&k, sizeof(k)));
    }
    /* Another network. */
    assert_int_equal(mvpn_node_keys_save(dir, &n.keys, &fault), 0);
    n.id.b[0] ^= 1;
    assert_int_equal(load(&n, true, NOW, &k), MVPN_E_CONFIG);
    assert_non_null(strstr(fault.text, "link.cert is damaged or of another network"));
    n.id.b[0] ^= 1;
    /* Two onion keys with one id. */
    n.keys.onion[1].id = n.keys.onion[0].id;
    assert_int_equal(mvpn_node_keys_save(dir, &n.keys, &fault), 0);
    assert_int_equal(load(&n, true, NOW, &k), MVPN_E_CONFIG);
    assert_non_null(strstr(fault.text, "two keys with one id"));
    /* Open to others. */
    n.keys.onion[1].id = 9;
    assert_int_equal(mvpn_node_keys_save(dir, &n.keys, &fault), 0);
    static const char *const secret[] = {"identity.key", "link.key", "onion.key"};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(secret); i++) {
        assert_int_equal(chmod(path_of(secret[i]), 0640), 0);
        assert_int_equal(load(&n, true, NOW, &k), MVPN_E_CONFIG);
        assert_non_null(strstr(fault.text, "chmod 600 "));
        assert_non_null(strstr(fault.text, secret[i]));
        assert_int_equal(chmod(path_of(secret[i]), 0600), 0);
    }
    assert_int_equal(load(&n, true, NOW, &k), 0);
}

/* A week old: a new key, the old one kept, the one before forgotten; and all of it on disk. */
static void test_onion_rotation(void **state)
{
    net n = make_node(8);
    mvpn_node_keys k;
    mvpn_rng rng;
    struct stat st = {0};
    (void)state;
    mvpn_rng_init_test(&rng, 77);
    assert_int_equal(mvpn_node_keys_save(dir, &n.keys, &fault), 0);
    assert_int_equal(stat(path_of("onion.key"), &st), 0);
    uint64_t written = (uint64_t)st.st_mtime;
    mvpn_onion_pair before = n.keys.onion[0];
    assert_int_equal(mvpn_node_keys_rotate_onion(dir, &n.keys, 1000, written + 999, &rng, &fault),
                     MVPN_E_AGAIN);
    assert_memory_equal(&n.keys.onion[0], &before, sizeof(before));
    assert_int_equal(mvpn_node_keys_rotate_onion(dir, &n.keys, 1000, written + 1000, &rng, &fault),
                     0);
    assert_int_equal(n.keys.onion_count, 2);
    assert_int_equal(n.keys.onion[0].id, (uint8_t)(before.id + 1));
    assert_memory_not_equal(&n.keys.onion[0].pair, &before.pair, sizeof(before.pair));
    assert_memory_equal(&n.keys.onion[1], &before, sizeof(before));
    assert_int_equal(load(&n, true, NOW, &k), 0);
    assert_memory_equal(k.onion, n.keys.onion, sizeof(k.onion));
    /* What cannot be written is not used. */
    before = n.keys.onion[0];
    assert_int_equal(
        mvpn_node_keys_rotate_onion("/nonexistent", &n.keys, 0, written + 9999, &rng, &fault),
        MVPN_E_SYSTEM);
    assert_memory_equal(&n.keys.onion[0], &before, sizeof(before));
    mvpn_rng_done(&rng);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_base64),
        cmocka_unit_test_setup_teardown(test_keyfile, setup, teardown),
        cmocka_unit_test_setup_teardown(test_node_keys, setup, teardown),
        cmocka_unit_test_setup_teardown(test_node_keys_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_onion_rotation, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
