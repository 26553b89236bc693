/* The client's memory: whole or as if it had never been, whatever happens to its files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <dirent.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "crypto/rng.h"
#include "io/file.h"
#include "io/statefile.h"

static char parent[64], dir[80];

static void run(const char *format)
{
    char command[256];
    (void)snprintf(command, sizeof(command), format, parent);
    assert_int_equal(system(command), 0);
}

static int setup(void **state)
{
    (void)state;
    (void)snprintf(parent, sizeof(parent), "/tmp/mvpn-state-test.XXXXXX");
    if (mkdtemp(parent) == NULL) {
        return -1;
    }
    (void)snprintf(dir, sizeof(dir), "%s/state", parent);
    return mvpn_statefile_prepare(dir, NULL);
}

static int teardown(void **state)
{
    (void)state;
    run("rm -rf %s");
    return 0;
}

static void path_of(char out[static 128], const char *name)
{
    (void)snprintf(out, 128, "%s/%s", dir, name);
}

/* Overwrite a file as no program of ours would. */
static void put_raw(const char *name, const uint8_t *bytes, size_t n)
{
    char path[128];
    path_of(path, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static size_t get_raw(const char *name, uint8_t *out, size_t size)
{
    char path[128];
    path_of(path, name);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    size_t n = fread(out, 1, size, f);
    (void)fclose(f);
    return n;
}

static mvpn_dht_contact contact(unsigned i)
{
    char text[MVPN_ADDR_STRLEN];
    mvpn_dht_contact c = {.link_key = {{(uint8_t)i}}};
    mvpn_ed25519_pub identity = {{(uint8_t)i, 1}};
    (void)snprintf(text, sizeof(text), i % 2 ? "[2001:db8::%u]:7000" : "192.0.2.%u:7000", i + 1);
    assert_int_equal(mvpn_addr_parse(text, &c.addr), 0);
    mvpn_dht_node_id(&c.id, &identity, &c.addr);
    return c;
}

static void test_save_and_load(void **state)
{
    (void)state;
    uint8_t *bytes;
    size_t n;
    bool is_whole;
    char path[128];
    struct stat st;
    assert_int_equal(mvpn_statefile_load(dir, MVPN_STATE_VIEW, &bytes, &n, &is_whole, NULL),
                     MVPN_E_UNKNOWN);
    assert_null(bytes);
    mvpn_bytes content = MVPN_BYTES_LITERAL("records");
    assert_int_equal(mvpn_statefile_save(dir, MVPN_STATE_VIEW, content, NULL), 0);
    assert_int_equal(mvpn_statefile_load(dir, MVPN_STATE_VIEW, &bytes, &n, &is_whole, NULL), 0);
    assert_true(is_whole);
    assert_int_equal(n, content.n);
    assert_memory_equal(bytes, content.p, n);
    mvpn_file_free(bytes, n);
    path_of(path, "view");
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(stat(dir, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    /* Nothing at all is something, too. */
    assert_int_equal(mvpn_statefile_save(dir, MVPN_STATE_GUARDS, MVPN_BYTES_NONE, NULL), 0);
    assert_int_equal(mvpn_statefile_load(dir, MVPN_STATE_GUARDS, &bytes, &n, &is_whole, NULL), 0);
    assert_true(is_whole);
    assert_int_equal(n, 0);
    mvpn_file_free(bytes, n);
}

static void test_bounds(void **state)
{
    (void)state;
    uint8_t *bytes, *big = calloc(1, (64u << 10) + 100);
    size_t n;
    bool is_whole;
    mvpn_fault fault;
    assert_int_equal(
        mvpn_statefile_save(dir, MVPN_STATE_GUARDS, mvpn_bytes_of(big, (64u << 10) + 1), &fault),
        MVPN_E_TOO_BIG);
    put_raw("guards", big, (64u << 10) + 100); /* a file that somebody made large */
    assert_int_equal(mvpn_statefile_load(dir, MVPN_STATE_GUARDS, &bytes, &n, &is_whole, NULL),
                     MVPN_E_CONFIG);
    assert_null(bytes);
    free(big);
}

/* Cut at every byte and with every bit flipped: never whole, never more than there is. */
static void test_damage(void **state)
{
    (void)state;
    static const char text[] = "what was remembered";
    uint8_t raw[128], copy[128], *bytes;
    size_t n;
    bool is_whole;
    assert_int_equal(mvpn_statefile_save(dir, MVPN_STATE_VIEW, MVPN_BYTES_LITERAL(text), NULL), 0);
    size_t size = get_raw("view", raw, sizeof(raw));
    for (size_t cut = 0; cut < size; cut++) {
        put_raw("view", raw, cut);
        int err = mvpn_statefile_load(dir, MVPN_STATE_VIEW, &bytes, &n, &is_whole, NULL);
        assert_int_equal(err, cut < 16 ? MVPN_E_FORMAT : 0);
        assert_false(is_whole);
        if (err == 0) {
            assert_int_equal(n, MVPN_MIN(cut - 16, sizeof(text) - 1));
            assert_memory_equal(bytes, text, n);
        }
        mvpn_file_free(bytes, n);
    }
    for (size_t bit = 0; bit < 8 * size; bit++) {
        memcpy(copy, raw, size);
        copy[bit / 8] ^= (uint8_t)(1u << bit % 8);
        put_raw("view", copy, size);
        (void)!mvpn_statefile_load(dir, MVPN_STATE_VIEW, &bytes, &n, &is_whole, NULL);
        assert_false(is_whole);
        mvpn_file_free(bytes, n);
    }
    put_raw("guards", raw, size); /* another file's content under this name */
    assert_int_equal(mvpn_statefile_load(dir, MVPN_STATE_GUARDS, &bytes, &n, &is_whole, NULL),
                     MVPN_E_FORMAT);
}

static void test_entries(void **state)
{
    (void)state;
    static mvpn_state_entries e, got;
    e = (mvpn_state_entries){0};
    mvpn_state_entries_load(dir, &got);
    assert_int_equal(got.count, 0);
    for (unsigned i = 0; i < 100; i++) {
        mvpn_dht_contact c = contact(i);
        mvpn_state_entries_put(&e, &c, 1800000000 + i);
        assert_int_equal(e.count, MVPN_MIN(i + 1, (unsigned)MVPN_STATE_ENTRIES_MAX));
    }
    mvpn_dht_contact again = contact(60);
    mvpn_state_entries_put(&e, &again, 1800100000);
    assert_int_equal(e.count, MVPN_STATE_ENTRIES_MAX);
    assert_int_equal(mvpn_state_entries_save(dir, &e, NULL), 0);
    mvpn_state_entries_load(dir, &got);
    assert_int_equal(got.count, e.count);
    assert_true(mvpn_addr_eq(&got.at[0].contact.addr, &again.addr));
    assert_memory_equal(&got.at[0].contact.id, &again.id, sizeof(again.id));
    assert_int_equal(got.at[0].worked % 86400, 0);
    for (size_t i = 0; i < got.count; i++) { /* nobody twice; 36 to 99 are there */
        mvpn_dht_contact c = contact(i == 0 ? 60 : (unsigned)(i <= 39 ? 100 - i : 99 - i));
        assert_true(mvpn_addr_eq(&got.at[i].contact.addr, &c.addr));
    }
    /* A checksum protects from accidents; the decoder from everything. */
    uint8_t raw[8192];
    size_t n = get_raw("entries", raw, sizeof(raw));
    assert_true(mvpn_state_entries_decode(&got, mvpn_bytes_of(raw + 16, n - 32)));
    for (size_t cut = 1; cut < 200; cut++) {
        bool ok = mvpn_state_entries_decode(&got, mvpn_bytes_of(raw + 16, cut));
        assert_int_equal(ok, cut == 67 || cut == 67 + 79); /* an IPv4 entry, then an IPv6 one */
        assert_true(ok || got.count == 0);
    }
    raw[16 + 9] ^= 1; /* an id that does not fit */
    assert_false(mvpn_state_entries_decode(&got, mvpn_bytes_of(raw + 16, n - 32)));
}

static mvpn_path_countries countries(const char *text)
{
    mvpn_path_countries c;
    assert_int_equal(mvpn_path_countries_parse(text, &c), 0);
    return c;
}

static void check_same_exits(const mvpn_state_exits *a, const mvpn_state_exits *b)
{
    uint8_t x[MVPN_STATE_EXITS_SIZE], y[MVPN_STATE_EXITS_SIZE];
    size_t n = mvpn_state_exits_encode(x, a);
    assert_int_equal(mvpn_state_exits_encode(y, b), n);
    assert_memory_equal(x, y, n);
    assert_int_equal(a->choice.has_exit, b->choice.has_exit);
    assert_int_equal(a->choice.is_open, b->choice.is_open);
    assert_memory_equal(&a->choice.countries, &b->choice.countries, sizeof(a->choice.countries));
    assert_memory_equal(&a->choice.blocked_countries, &b->choice.blocked_countries,
                        sizeof(a->choice.blocked_countries));
    assert_int_equal(a->choice.blocked_count, b->choice.blocked_count);
    assert_string_equal(a->name, b->name);
}

static void test_exits(void **state)
{
    (void)state;
    static mvpn_state_exits rows[6], got;
    uint8_t bytes[MVPN_STATE_EXITS_SIZE + 1];
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        rows[i] = (mvpn_state_exits){.name = ""};
    }
    rows[1].choice.countries = countries("CH,SE");
    rows[2].choice.has_exit = true;
    memset(rows[2].choice.exit.b, 0x5a, 32);
    rows[2].choice.blocked_countries = countries("!US");
    rows[3].choice.is_open = true;
    memset(rows[3].name, 'a', MVPN_STATE_EXIT_NAME_MAX);
    rows[3].choice.blocked_count = MVPN_EXIT_BLOCKED_MAX; /* as much as there can be */
    rows[3].choice.blocked_countries = countries("!AA,AB,AC,AD,AE,AF,AG,AH,AI,AJ,AK,AL,AM,AN,AO,AP,"
                                                 "BA,BB,BC,BD,BE,BF,BG,BH,BI,BJ,BK,BL,BM,BN,BO,BP");
    rows[4].choice.blocked_count = 2;
    memset(rows[4].choice.blocked[1].b, 0x33, 32);
    rows[5].choice.is_open = true;
    memcpy(rows[5].name, "maple", 6);
    assert_int_equal(mvpn_state_exits_load(dir, &got), MVPN_E_UNKNOWN);
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        assert_int_equal(mvpn_state_exits_is_empty(&rows[i]), i == 0);
        assert_int_equal(mvpn_state_exits_save(dir, &rows[i], NULL), 0);
        assert_int_equal(mvpn_state_exits_load(dir, &got), 0);
        check_same_exits(&got, &rows[i]);
        size_t n = mvpn_state_exits_encode(bytes, &rows[i]);
        for (size_t cut = 0; cut <= n + 1; cut++) {
            bytes[n] = 0;
            bool ok = mvpn_state_exits_decode(&got, mvpn_bytes_of(bytes, cut));
            assert_int_equal(ok, cut == n);
            assert_true(ok || mvpn_state_exits_is_empty(&got));
        }
        for (size_t bit = 0; bit < 8 * n; bit++) { /* refused, or something else that is whole */
            bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
            uint8_t again[MVPN_STATE_EXITS_SIZE];
            if (mvpn_state_exits_decode(&got, mvpn_bytes_of(bytes, n))) {
                assert_int_equal(mvpn_state_exits_encode(again, &got), n);
                assert_memory_equal(again, bytes, n);
            }
            bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
    }
    size_t n = get_raw("exits", bytes, sizeof(bytes));
    bytes[n - 1] ^= 1;
    put_raw("exits", bytes, n);
    assert_int_equal(mvpn_state_exits_load(dir, &got), MVPN_E_FORMAT);
    assert_true(mvpn_state_exits_is_empty(&got));
}

static void test_key_and_clock(void **state)
{
    (void)state;
    uint8_t key[16], again[16], zero[16] = {0};
    mvpn_state_clock clock = {-31622400, 1800000000}, got;
    assert_int_equal(mvpn_state_sample_key(dir, key, NULL), 0);
    assert_memory_not_equal(key, zero, sizeof(key));
    assert_int_equal(mvpn_state_sample_key(dir, again, NULL), 0);
    assert_memory_equal(key, again, sizeof(key));
    put_raw("sample-key", again, 5); /* damaged: a new one, and that is kept */
    assert_int_equal(mvpn_state_sample_key(dir, again, NULL), 0);
    assert_memory_not_equal(key, again, sizeof(key));
    assert_int_equal(mvpn_state_sample_key(dir, key, NULL), 0);
    assert_memory_equal(key, again, sizeof(key));
    assert_int_equal(mvpn_state_sample_key("/nonexistent/state", key, NULL), 0);

    assert_false(mvpn_state_clock_load(dir, &got));
    assert_int_equal(mvpn_state_clock_save(dir, &clock, NULL), 0);
    assert_true(mvpn_state_clock_load(dir, &got));
    assert_int_equal(got.offset_s, clock.offset_s);
    assert_int_equal(got.at, clock.at);
}

static size_t count_files(void)
{
    size_t count = 0;
    DIR *d = opendir(dir);
    assert_non_null(d);
    const struct dirent *e;
    while ((e = readdir(d)) != NULL) {
        count += e->d_name[0] != '.';
    }
    (void)closedir(d);
    return count;
}

#define LARGE 200000

/* Killed at any moment, a writer leaves the old or the new content. */
static void test_kill(void **state)
{
    (void)state;
    static uint8_t large[2][LARGE];
    mvpn_rng rng;
    mvpn_rng_init_test(&rng, 1);
    memset(large[0], 'a', LARGE);
    memset(large[1], 'b', LARGE / 2);
    assert_int_equal(
        mvpn_statefile_save(dir, MVPN_STATE_VIEW, mvpn_bytes_of(large[0], LARGE), NULL), 0);
    for (unsigned round = 0; round < 20; round++) {
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            for (unsigned i = 1;; i++) {
                mvpn_bytes b = mvpn_bytes_of(large[i & 1], i & 1 ? LARGE / 2 : LARGE);
                if (mvpn_statefile_save(dir, MVPN_STATE_VIEW, b, NULL) != 0) {
                    _exit(1);
                }
            }
        }
        (void)usleep(500 + mvpn_rng_below(&rng, 8000));
        (void)kill(pid, SIGKILL);
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
        uint8_t *bytes;
        size_t n;
        bool is_whole;
        assert_int_equal(mvpn_statefile_load(dir, MVPN_STATE_VIEW, &bytes, &n, &is_whole, NULL), 0);
        assert_true(is_whole);
        assert_true((n == LARGE && bytes[0] == 'a' && bytes[n - 1] == 'a') ||
                    (n == LARGE / 2 && bytes[0] == 'b' && bytes[n - 1] == 'b'));
        mvpn_file_free(bytes, n);
    }
    put_raw("view.tmp.AbCdEf", large[0], 100);
    put_raw("view.tmp.other-than-ours", large[0], 100);
    assert_int_equal(mvpn_statefile_prepare(dir, NULL), 0);
    assert_int_equal(count_files(), 2); /* the view and what is not ours */
}

static void test_without_a_directory(void **state)
{
    (void)state;
    mvpn_fault fault;
    uint8_t *bytes;
    size_t n;
    bool is_whole;
    char missing[128];
    (void)snprintf(missing, sizeof(missing), "%s/missing/state", dir);
    assert_int_equal(mvpn_statefile_prepare(missing, &fault), MVPN_E_SYSTEM);
    assert_int_equal(mvpn_statefile_save(missing, MVPN_STATE_VIEW, MVPN_BYTES_LITERAL("x"), &fault),
                     MVPN_E_SYSTEM);
    assert_int_equal(mvpn_statefile_load(missing, MVPN_STATE_VIEW, &bytes, &n, &is_whole, &fault),
                     MVPN_E_UNKNOWN);
    char path[128];
    path_of(path, "view");
    assert_int_equal(mkdir(path, 0700), 0); /* something else of that name */
    assert_true(mvpn_statefile_load(dir, MVPN_STATE_VIEW, &bytes, &n, &is_whole, &fault) < 0);
    assert_null(bytes);
}

int main(void)
{
    const struct CMUnitTest all[] = {
        cmocka_unit_test_setup_teardown(test_save_and_load, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bounds, setup, teardown),
        cmocka_unit_test_setup_teardown(test_damage, setup, teardown),
        cmocka_unit_test_setup_teardown(test_entries, setup, teardown),
        cmocka_unit_test_setup_teardown(test_exits, setup, teardown),
        cmocka_unit_test_setup_teardown(test_key_and_clock, setup, teardown),
        cmocka_unit_test_setup_teardown(test_kill, setup, teardown),
        cmocka_unit_test_setup_teardown(test_without_a_directory, setup, teardown),
    };
    return cmocka_run_group_tests(all, NULL, NULL);
}
