/* /etc/resolv.conf in a directory of the test's own: what happens to it, and what comes back. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/error.h"
#include "io/host_dns_file.h"

/* No such interface: its client is gone. */
#define TUN "mvpntest77"
#define THEIRS "search lan.example\nnameserver 192.168.1.1\noptions edns0\n"

static const mvpn_addr servers[] = {{.family = 4, .ip = {10, 9, 0, 1}},
                                    {.family = 6, .ip = {0xfd, 0x6d, [15] = 1}}};
static char dir[] = "/tmp/mvpn-dns-file.XXXXXX";
static mvpn_fault fault;

static const char *path_of(const char *name)
{
    static char path[4][PATH_MAX];
    static unsigned at;
    char *out = path[at++ % 4];
    (void)snprintf(out, PATH_MAX, "%s/%s", dir, name);
    return out;
}

#define CONF path_of("resolv.conf")
#define BACKUP path_of("resolv.conf.meshvpn-backup")
#define NEW path_of("resolv.conf.meshvpn-new")

static void write_text(const char *path, const char *text)
{
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_int_equal(fputs(text, file) >= 0, 1);
    assert_int_equal(fclose(file), 0);
}

static const char *text_at(const char *path)
{
    static char text[8192];
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return "(none)";
    }
    text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
    (void)fclose(file);
    return text;
}

static bool is_there(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0;
}

static bool is_ours(void)
{
    char tun[MVPN_RESOLV_CONF_TUN_MAX + 1];
    const char *text = text_at(CONF);
    return mvpn_resolv_conf_is_ours(mvpn_bytes_of(text, strlen(text)), tun);
}

static mvpn_dns_file *begin(void)
{
    mvpn_dns_file *f = NULL;
    assert_int_equal(mvpn_dns_file_open(dir, &f, &fault), 0);
    assert_int_equal(mvpn_dns_file_set(f, TUN, servers, 2, &fault), 0);
    assert_true(is_ours());
    return f;
}

static bool tends(mvpn_dns_file *f)
{
    bool is_repaired = false;
    assert_int_equal(mvpn_dns_file_tend(f, &is_repaired, &fault), 0);
    assert_true(is_ours());
    return is_repaired;
}

static int clear(void **state)
{
    (void)state;
    (void)unlink(CONF);
    (void)unlink(BACKUP);
    (void)unlink(NEW);
    (void)unlink(path_of("other"));
    return 0;
}

static void expect_clean(void)
{
    assert_false(is_there(BACKUP));
    assert_false(is_there(NEW));
}

static void test_file(void **state)
{
    struct stat before, after;
    (void)state;
    write_text(CONF, THEIRS);
    assert_int_equal(chmod(CONF, 0640), 0);
    assert_int_equal(stat(CONF, &before), 0);
    mvpn_dns_file *f = begin();
    assert_non_null(strstr(text_at(CONF), "nameserver 10.9.0.1\nnameserver fd6d::1\nsearch .\n"
                                          "options edns0\n"));
    assert_int_equal(stat(CONF, &after), 0);
    assert_int_equal(after.st_mode & 07777, 0644);
    assert_false(tends(f));
    assert_int_equal(mvpn_dns_file_restore(f, &fault), 0);
    assert_string_equal(text_at(CONF), THEIRS);
    assert_int_equal(stat(CONF, &after), 0);
    assert_int_equal(after.st_ino, before.st_ino); /* the very file */
    assert_int_equal(after.st_mode, before.st_mode);
    expect_clean();
    mvpn_dns_file_close(f);
}

static void test_link(void **state)
{
    char target[64] = "";
    (void)state;
    write_text(path_of("other"), THEIRS);
    assert_int_equal(symlink("other", CONF), 0);
    mvpn_dns_file *f = begin();
    assert_non_null(strstr(text_at(CONF), "options edns0\n"));
    assert_string_equal(text_at(path_of("other")), THEIRS);
    assert_int_equal(mvpn_dns_file_restore(f, &fault), 0);
    assert_int_equal(readlink(CONF, target, sizeof(target) - 1), 5);
    assert_string_equal(target, "other");
    expect_clean();
    mvpn_dns_file_close(f);
}

static void test_nothing(void **state)
{
    (void)state;
    assert_false(mvpn_dns_file_is_left(dir));
    mvpn_dns_file *f = begin();
    assert_true(mvpn_dns_file_is_left(dir));
    assert_int_equal(mvpn_dns_file_restore(f, &fault), 0);
    assert_false(mvpn_dns_file_is_left(dir));
    assert_false(is_there(CONF));
    expect_clean();
    mvpn_dns_file_close(f);
}

/* What another program has to say comes back at the end; that it said it is known. */
static void test_repair(void **state)
{
    char more[8300];
    (void)state;
    write_text(CONF, THEIRS);
    mvpn_dns_file *f = begin();
    (void)unlink(CONF);
    assert_true(tends(f));
    write_text(CONF, "nameserver 172.16.0.1\n"); /* in our file */
    assert_true(tends(f));
    assert_string_equal(text_at(BACKUP), "nameserver 172.16.0.1\n");
    write_text(path_of("other"), "nameserver 172.16.0.2\n"); /* beside it, as most do */
    assert_int_equal(rename(path_of("other"), CONF), 0);
    assert_true(tends(f));
    assert_string_equal(text_at(BACKUP), "nameserver 172.16.0.2\n");
    /* Derived from ours: nothing to come back to. */
    (void)snprintf(more, sizeof(more), "%snameserver 1.1.1.1\n", text_at(CONF));
    write_text(CONF, more);
    assert_true(tends(f));
    write_text(CONF, "nameserver 10.9.0.1\nnameserver 1.1.1.1\n");
    assert_true(tends(f));
    assert_string_equal(text_at(BACKUP), "nameserver 172.16.0.2\n");
    assert_int_equal(mvpn_dns_file_restore(f, &fault), 0);
    assert_string_equal(text_at(CONF), "nameserver 172.16.0.2\n");
    expect_clean();
    mvpn_dns_file_close(f);
}

/* After the last look. */
static void test_foreign_stays(void **state)
{
    (void)state;
    write_text(CONF, THEIRS);
    mvpn_dns_file *f = begin();
    write_text(CONF, "nameserver 172.16.0.1\n");
    assert_int_equal(mvpn_dns_file_restore(f, &fault), MVPN_E_STATE);
    assert_string_equal(text_at(CONF), "nameserver 172.16.0.1\n");
    expect_clean();
    mvpn_dns_file_close(f);
    write_text(CONF, THEIRS);
    f = begin();
    (void)unlink(CONF); /* a host without is of no use */
    assert_int_equal(mvpn_dns_file_restore(f, &fault), 0);
    assert_string_equal(text_at(CONF), THEIRS);
    mvpn_dns_file_close(f);
}

/* Whatever a power cut leaves. */
static void test_mend(void **state)
{
    char ours[8192];
    (void)state;
    assert_int_equal(mvpn_dns_file_mend(dir, &fault), 0);
    write_text(CONF, THEIRS);
    mvpn_dns_file_close(begin());
    (void)snprintf(ours, sizeof(ours), "%s", text_at(CONF));
    assert_int_equal(mvpn_dns_file_mend(dir, &fault), 0);
    assert_string_equal(text_at(CONF), THEIRS);
    expect_clean();
    /* Between the exchange and the second rename. */
    mvpn_dns_file_close(begin());
    assert_int_equal(rename(BACKUP, NEW), 0);
    assert_int_equal(mvpn_dns_file_mend(dir, &fault), 0);
    assert_string_equal(text_at(CONF), THEIRS);
    expect_clean();
    /* Before the exchange. */
    write_text(NEW, ours);
    assert_int_equal(mvpn_dns_file_mend(dir, &fault), 0);
    assert_string_equal(text_at(CONF), THEIRS);
    expect_clean();
    /* Somebody was faster. */
    mvpn_dns_file_close(begin());
    write_text(CONF, "nameserver 172.16.0.1\n");
    assert_int_equal(mvpn_dns_file_mend(dir, &fault), MVPN_E_STATE);
    assert_string_equal(text_at(CONF), "nameserver 172.16.0.1\n");
    expect_clean();
    /* There was none. */
    (void)unlink(CONF);
    mvpn_dns_file_close(begin());
    assert_int_equal(mvpn_dns_file_mend(dir, &fault), 0);
    assert_false(is_there(CONF));
    expect_clean();
}

/* A client that runs is left alone. */
static void test_other_client(void **state)
{
    mvpn_dns_file *f = NULL;
    (void)state;
    write_text(CONF, THEIRS);
    assert_int_equal(mvpn_dns_file_open(dir, &f, &fault), 0);
    assert_int_equal(mvpn_dns_file_set(f, "lo", servers, 2, &fault), 0);
    assert_int_equal(mvpn_dns_file_mend(dir, &fault), MVPN_E_BUSY);
    assert_true(is_ours());
    assert_int_equal(mvpn_dns_file_restore(f, &fault), 0);
    assert_string_equal(text_at(CONF), THEIRS);
    mvpn_dns_file_close(f);
}

static void test_refused(void **state)
{
    mvpn_dns_file *f = NULL;
    (void)state;
    assert_int_equal(mvpn_dns_file_open("/proc/self", &f, &fault), MVPN_E_SYSTEM);
    assert_non_null(strstr(fault.text, "dns = none"));
    assert_null(f);
}

static int make_dir(void **state)
{
    (void)state;
    return mkdtemp(dir) != NULL ? 0 : -1;
}

static int remove_dir(void **state)
{
    (void)clear(state);
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_file, clear),
        cmocka_unit_test_teardown(test_link, clear),
        cmocka_unit_test_teardown(test_nothing, clear),
        cmocka_unit_test_teardown(test_repair, clear),
        cmocka_unit_test_teardown(test_foreign_stays, clear),
        cmocka_unit_test_teardown(test_mend, clear),
        cmocka_unit_test_teardown(test_other_client, clear),
        cmocka_unit_test_teardown(test_refused, clear),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
