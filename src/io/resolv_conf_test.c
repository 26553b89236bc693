#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "io/resolv_conf.h"

static const mvpn_addr servers[] = {{.family = 4, .ip = {10, 9, 0, 1}},
                                    {.family = 6, .ip = {0xfd, 0x6d, [15] = 1}}};

static mvpn_bytes text_of(const char *text)
{
    return mvpn_bytes_of(text, strlen(text));
}

static void test_servers(void **state)
{
    static const struct {
        const char *text;
        unsigned count;
        const char *first;
    } rows[] = {
        {"", 0, ""},
        {"nameserver 192.0.2.1\n", 1, "192.0.2.1"},
        {"# x\n;y\n\tnameserver\t2001:db8::1  # late\nsearch a\n", 1, "2001:db8::1"},
        {"nameserver 1.1.1.1\r\nnameserver 2.2.2.2", 2, "1.1.1.1"},
        {"nameserver fe80::1%eth0\nnameserver x\nnameserver\nnameserver 1.1.1.1:53\n", 0, ""},
        {"#nameserver 1.1.1.1\nnameservers 1.1.1.1\n", 0, ""},
        {"nameserver 1.1.1.1\nnameserver 1.1.1.2\nnameserver 1.1.1.3\nnameserver 1.1.1.4\n", 3,
         "1.1.1.1"},
    };
    (void)state;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        mvpn_addr found[MVPN_RESOLV_CONF_SERVERS];
        char text[MVPN_ADDR_STRLEN];
        assert_int_equal(mvpn_resolv_conf_servers(text_of(rows[i].text), found), rows[i].count);
        if (rows[i].count > 0) {
            assert_string_equal(mvpn_addr_format(&found[0], text), rows[i].first);
        }
    }
}

static void test_write(void **state)
{
    static const struct {
        const char *former, *options;
    } rows[] = {
        {"", ""},
        {"search corp.example\ndomain x\nnameserver 1.1.1.1\n", ""},
        {"options edns0 trust-ad\n", ""},
        {"options  rotate timeout:1 attempts:25 ndots:5 no-reload debug inet6\n",
         " rotate timeout:1 attempts:25"},
        {"options timeout:x timeout: timeout:123 edns0x\n", ""},
        {"options use-vc\noptions single-request\n", " use-vc single-request"},
        {"options rotate rotate rotate rotate rotate rotate rotate rotate rotate rotate rotate "
         "rotate rotate rotate rotate rotate rotate rotate\n",
         " rotate rotate rotate rotate rotate rotate rotate rotate rotate rotate rotate rotate "
         "rotate rotate rotate"},
    };
    (void)state;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        char out[MVPN_RESOLV_CONF_OWN_MAX], wanted[512], tun[MVPN_RESOLV_CONF_TUN_MAX + 1];
        size_t n = mvpn_resolv_conf_write(text_of(rows[i].former), "mvpn0", servers, 2, out);
        (void)snprintf(wanted, sizeof(wanted),
                       "nameserver 10.9.0.1\nnameserver fd6d::1\nsearch .\noptions edns0%s\n",
                       rows[i].options);
        assert_int_equal(n, strlen(out));
        assert_string_equal(strstr(out, "nameserver"), wanted);
        assert_true(mvpn_resolv_conf_is_ours(mvpn_bytes_of(out, n), tun));
        assert_string_equal(tun, "mvpn0");
        assert_true(mvpn_resolv_conf_asks(mvpn_bytes_of(out, n), servers, 2, true));
    }
}

/* Others add lines; what is ours stays known. */
static void test_ours(void **state)
{
    char out[MVPN_RESOLV_CONF_OWN_MAX], more[2 * MVPN_RESOLV_CONF_OWN_MAX];
    char tun[MVPN_RESOLV_CONF_TUN_MAX + 1];
    (void)state;
    size_t n = mvpn_resolv_conf_write(MVPN_BYTES_NONE, "abcdefghijklmno", servers, 2, out);
    int m = snprintf(more, sizeof(more), "search x\n%.*snameserver 1.1.1.1\n", (int)n, out);
    assert_true(mvpn_resolv_conf_is_ours(mvpn_bytes_of(more, (size_t)m), tun));
    assert_string_equal(tun, "abcdefghijklmno");
    assert_false(mvpn_resolv_conf_is_ours(text_of("nameserver 10.9.0.1\n"), tun));
    assert_string_equal(tun, "");
    assert_true(mvpn_resolv_conf_asks(text_of("nameserver 1.1.1.1\nnameserver 10.9.0.1\n"), servers,
                                      2, false));
    assert_false(mvpn_resolv_conf_asks(text_of("nameserver 1.1.1.1\nnameserver 10.9.0.1\n"),
                                       servers, 2, true));
    for (size_t cut = 0; cut < n; cut++) { /* nothing is read beyond the end */
        (void)mvpn_resolv_conf_is_ours(mvpn_bytes_of(out, cut), tun);
        (void)mvpn_resolv_conf_asks(mvpn_bytes_of(out, cut), servers, 2, false);
    }
}

static void test_stub(void **state)
{
    (void)state;
    assert_true(mvpn_resolv_conf_is_stub(text_of("nameserver 127.0.0.53\nnameserver 1.1.1.1\n")));
    assert_false(mvpn_resolv_conf_is_stub(text_of("nameserver 127.0.0.1\n")));
    assert_false(mvpn_resolv_conf_is_stub(text_of("nameserver 1.1.1.1\nnameserver 127.0.0.53\n")));
    assert_false(mvpn_resolv_conf_is_stub(MVPN_BYTES_NONE));
}

static void test_choose(void **state)
{
#define STUB "nameserver 127.0.0.53\noptions edns0 trust-ad\n"
    static const struct {
        const char *text, *path;
        bool has_resolved, has_resolvconf;
        enum mvpn_dns_manager manager;
    } rows[] = {
        {"", "", false, false, MVPN_DNS_FILE},
        {"nameserver 1.1.1.1\n", "/etc/resolv.conf", true, true, MVPN_DNS_FILE},
        {STUB, "/run/systemd/resolve/stub-resolv.conf", true, false, MVPN_DNS_RESOLVED},
        {STUB, "/etc/resolv.conf", true, true, MVPN_DNS_RESOLVED},
        {"nameserver 127.0.0.54\n", "/etc/resolv.conf", true, false, MVPN_DNS_RESOLVED},
        {STUB, "/run/systemd/resolve/stub-resolv.conf", false, false, MVPN_DNS_FILE},
        /* The servers of all links, the local network's first. */
        {"nameserver 192.168.1.1\n", "/run/systemd/resolve/resolv.conf", true, false,
         MVPN_DNS_FILE},
        {"nameserver 1.1.1.1\n", "/run/resolvconf/resolv.conf", false, true, MVPN_DNS_RESOLVCONF},
        {"nameserver 1.1.1.1\n", "/run/resolvconf/resolv.conf", false, false, MVPN_DNS_FILE},
        {"# Generated by resolvconf\nnameserver 1.1.1.1\n", "/etc/resolv.conf", false, true,
         MVPN_DNS_RESOLVCONF},
        {"# Generated by NetworkManager\nnameserver 1.1.1.1\n", "/etc/resolv.conf", false, true,
         MVPN_DNS_FILE},
    };
    (void)state;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        const mvpn_dns_facts facts = {.text = text_of(rows[i].text),
                                      .path = rows[i].path,
                                      .has_resolved = rows[i].has_resolved,
                                      .has_resolvconf = rows[i].has_resolvconf};
        assert_int_equal(mvpn_dns_choose(&facts), rows[i].manager);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_servers), cmocka_unit_test(test_write),  cmocka_unit_test(test_ours),
        cmocka_unit_test(test_stub),    cmocka_unit_test(test_choose),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
