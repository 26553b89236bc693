/*
 * Which URLs of UPnP are followed. (Real gateways: tests/netns/portmap.sh.)
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "io/upnp.h"

static void test_urls(void **state)
{
    (void)state;
    static const struct {
        const char *url, *gateway;
        bool is_local;
    } rows[] = {
        {"http://192.168.1.1:5000/rootDesc.xml", "192.168.1.1", true},
        {"http://192.168.1.1/", "192.168.1.1", true},
        {"http://10.0.0.1", "10.0.0.1", true},
        {"http://172.31.0.1:80/x", "172.31.0.1", true},
        {"http://169.254.7.1:80/x", "169.254.7.1", true},
        {NULL, "192.168.1.1", false},
        {"", "192.168.1.1", false},
        {"http://", "192.168.1.1", false},
        {"https://192.168.1.1/", "192.168.1.1", false},
        {"http://192.168.1.2:5000/", "192.168.1.1", false},
        {"http://192.168.1.1@evil.example/", "192.168.1.1", false},
        {"http://evil.example/", "192.168.1.1", false},
        {"http://localhost/", "127.0.0.1", false},
        {"http://127.0.0.1:8080/", "127.0.0.1", false},
        {"http://172.32.0.1/", "172.32.0.1", false},
        {"http://11.1.1.1/", "11.1.1.1", false},
        {"http://0.0.0.0/", "0.0.0.0", false},
        {"http://[fe80::1]:5000/", "192.168.1.1", false},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        mvpn_addr gateway;
        assert_int_equal(mvpn_addr_parse(rows[i].gateway, &gateway), 0);
        assert_int_equal(mvpn_upnp_url_is_local(rows[i].url, &gateway), rows[i].is_local);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_urls)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
