/*
 * Files in a directory of the test's own.
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
#include "io/file.h"

static char dir[64];
static char path[128];

static int setup(void **state)
{
    (void)state;
    (void)snprintf(dir, sizeof(dir), "/tmp/mvpn-file-test.XXXXXX");
    if (mkdtemp(dir) == NULL) {
        return -1;
    }
    (void)snprintf(path, sizeof(path), "%s/key", dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    (void)unlink(path);
    return rmdir(dir); /* fails if a temporary file was left */
}

static void test_round_trip(void **state)
{
    (void)state;
    mvpn_fault fault;
    uint8_t *content = NULL;
    size_t size = 0;
    struct stat st;
    assert_int_equal(mvpn_file_read(path, 100, true, &content, &size, &fault), MVPN_E_UNKNOWN);
    assert_int_equal(mvpn_file_write(path, "secret", 6, 0600, &fault), 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(mvpn_file_read(path, 6, true, &content, &size, &fault), 0);
    assert_int_equal(size, 6);
    assert_string_equal((const char *)content, "secret");
    mvpn_file_free(content, size);
    /* Replaced as a whole, with the new mode whatever the umask. */
    mode_t old = umask(077);
    assert_int_equal(mvpn_file_write(path, "", 0, 0644, &fault), 0);
    (void)umask(old);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0644);
    assert_int_equal(mvpn_file_read(path, 6, false, &content, &size, &fault), 0);
    assert_int_equal(size, 0);
    mvpn_file_free(content, size);
}

static void test_refusals(void **state)
{
    (void)state;
    mvpn_fault fault;
    uint8_t *content = NULL;
    size_t size = 0;
    char remedy[160];
    (void)snprintf(remedy, sizeof(remedy), "chmod 600 %s", path);
    static const mode_t open_modes[] = {0640, 0604, 0620, 0610, 0644, 0666};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(open_modes); i++) {
        assert_int_equal(mvpn_file_write(path, "secret", 6, open_modes[i], &fault), 0);
        assert_int_equal(mvpn_file_read(path, 100, true, &content, &size, &fault), MVPN_E_CONFIG);
        assert_non_null(strstr(fault.text, remedy));
        assert_null(strstr(fault.text, "secret,"));
    }
    assert_int_equal(mvpn_file_read(path, 5, false, &content, &size, &fault), MVPN_E_CONFIG);
    assert_non_null(strstr(fault.text, "too big"));
    assert_int_equal(mvpn_file_read(dir, 5000, false, &content, &size, &fault), MVPN_E_CONFIG);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(mvpn_file_read(path, 100, true, &content, &size, &fault), MVPN_E_CONFIG);
    assert_null(content);
    /* Nowhere to write: the fault names the path, nothing is left. */
    assert_int_equal(mvpn_file_write("/nonexistent/dir/x", "a", 1, 0600, &fault), MVPN_E_SYSTEM);
    assert_non_null(strstr(fault.text, "/nonexistent/dir/x"));
}

static void test_make_dir(void **state)
{
    (void)state;
    mvpn_fault fault;
    char sub[128];
    (void)snprintf(sub, sizeof(sub), "%s/run", dir);
    assert_int_equal(mvpn_file_make_dir(sub, 0700, &fault), 0);
    assert_int_equal(mvpn_file_make_dir(sub, 0700, &fault), 0);
    assert_int_equal(rmdir(sub), 0);
    assert_int_equal(mvpn_file_write(sub, "", 0, 0600, &fault), 0);
    assert_int_equal(mvpn_file_make_dir(sub, 0700, &fault), MVPN_E_SYSTEM);
    assert_int_equal(unlink(sub), 0);
}

static void test_replace(void **state)
{
    mvpn_fault fault;
    struct stat st;
    char kept[128];
    bool is_root = geteuid() == 0;
    (void)state;
    (void)snprintf(kept, sizeof(path), "%s/kept", dir);
    assert_int_equal(mvpn_file_replace(kept, "a", 1, 0600, &fault), 0);
    assert_int_equal(stat(kept, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(chmod(kept, 0640), 0);
    assert_int_equal(is_root ? chown(kept, 12345, 54321) : 0, 0);
    assert_int_equal(mvpn_file_replace(kept, "bc", 2, 0600, &fault), 0);
    assert_int_equal(stat(kept, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0640);
    assert_int_equal(st.st_size, 2);
    assert_int_equal(st.st_uid, is_root ? 12345 : geteuid());
    assert_int_equal(st.st_gid, is_root ? 54321 : getegid());
    assert_int_equal(unlink(path), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_make_dir),
        cmocka_unit_test(test_replace),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
