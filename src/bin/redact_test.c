/*
 * What is taken out: every form of an address, a key and a name in every place of a text; and that
 * words that tell nothing stay.
 */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/macros.h"
#include "bin/redact.h"
#include "io/keyfile.h"

static redactor *r;

static int setup(void **state)
{
    (void)state;
    r = redact_new();
    redact_add(r, REDACT_NAME, "alder");
    redact_add(r, REDACT_NAME, "ann");
    redact_add(r, REDACT_NAME, "my-laptop");
    redact_add(r, REDACT_NAME, "Müller");
    redact_add(r, REDACT_NAME, "root");
    redact_add(r, REDACT_COUNTRY, "CH");
    redact_add(r, REDACT_KEY, "q83vASNF");
    return r == NULL;
}

static int teardown(void **state)
{
    (void)state;
    redact_free(r);
    return 0;
}

static void check(const char *in, const char *wanted)
{
    char *got = redact_text(r, in);
    assert_non_null(got);
    /* Numbers depend on what was seen before: "<address-3>" is "<address>" here. */
    char plain[1024];
    size_t n = 0;
    for (size_t i = 0; got[i] != '\0'; i++) {
        size_t digits = got[i] == '-' ? strspn(got + i + 1, "0123456789") : 0;
        if (digits > 0 && got[i + 1 + digits] == '>') {
            i += digits;
        } else {
            plain[n++] = got[i];
        }
    }
    plain[n] = '\0';
    assert_string_equal(plain, wanted);
    free(got);
}

static void test_canaries(void **state)
{
    static const char *const rows[][2] = {
        {"at 192.0.2.1", "at <address>"},
        {"192.0.2.1:443, 192.0.2.2", "<address>, <address>"},
        {"(192.0.2.1)", "(<address>)"},
        {"\"192.0.2.1/24\"", "\"<address>/24\""},
        {"x192.0.2.1y", "x<address>y"},
        {"999.0.2.300", "<address>"},
        {"011.201.158.093: no", "<address>: no"},
        {"4.3.2.1.in-addr.arpa", "<name>"},
        {"2001:db8::7", "<address>"},
        {"[2001:db8::7]:443 refused", "<address> refused"},
        {"[2001:db8::7]", "<address>"},
        {"2001:DB8:0:0:0:0:0:7.", "<address>."},
        {"2001:db8:1:2::/64", "<address>/64"},
        {"::ffff:192.0.2.1", "<address>"},
        {"fe80::1%eth0: lost", "<address>: lost"},
        {"fe80::a:b%wlan-0", "<address>"},
        {"52:54:00:12:34:56", "<address>"},
        {"addr=fd00::1,", "addr=<address>,"},
        {"q83vASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4k=", "<key>"},
        {"key=q83vASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4k=;", "key=<key>;"},
        {"q83v-SNFZ4mrze8BI0_niavN7w", "<key>"},
        {"q83vASNF: direct", "<key>: direct"},
        {"link 0123456789abcdef0123456789abcdef", "link <key>"},
        {"0123456789ABCDEF", "<key>"},
        {"123e4567-e89b-12d3-a456-426614174000", "<key>"},
        {"meshvpn:AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyAhIiMkJSYnKCkqKywtLi8wMTIzNDU2Nzg5",
         "meshvpn:<key>"},
        {"relay alder (CH) answers", "relay <name> (<country>) answers"},
        {"Alder; ALDER. alder-2", "<name>; <name>. <name>-2"},
        {"connection with maple: direct", "connection with <name>: direct"},
        {"my-laptop kernel", "<name> kernel"},
        {"Müller's", "<name>'s"},
        {"/home/ann/net.conf and /home/bob", "/home/<name>/net.conf and /home/<name>"},
        {"www.example.org", "<name>"},
        {"https://relays.example.net:8443/x", "https://<name>:8443/x"},
        {"ann.b+c@mail.example.co.uk", "<name>@<name>"},
        {"bücher.example", "<name>"},
        {"ssh ann@192.0.2.1", "ssh <name>@<address>"},
        {"xn--bcher-kva.xn--p1ai", "<name>"},
        {"a_b.example.com.", "a_<name>."},
        {"_meshvpn.lab.example", "_<name>"},
    };
    (void)state;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        check(rows[i][0], rows[i][1]);
    }
}

static void test_what_stays(void **state)
{
    static const char *const rows[] = {
        "",
        "connected in 38 ms at 04:16:49, 12.5 Mbit/s, 3/7",
        "/etc/meshvpn/client.conf:3: unknown key 'hopps'. Did you mean 'hops'?",
        "sudo systemctl restart meshvpn-exit-node.service",
        "meshvpn.status/1 of /run/meshvpn/control.sock",
        "Linux 6.18.44-fc-v595 x86_64",
        "the user root runs meshvpn-client --config /etc/meshvpn/client.conf",
        "listening at 127.0.0.1 and 0.0.0.0 and ::1",
        "error: annual planner; aldermen; such; 2026-11-23",
        "<address-1> <key-2> <name-3> <country> <text>",
        "e.g. i.e. 1.5 GB",
        "channel: CHx",
    };
    (void)state;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        char *got = redact_text(r, rows[i]);
        assert_string_equal(got, rows[i]);
        char *again = redact_text(r, got);
        assert_string_equal(again, got);
        free(again);
        free(got);
    }
}

/* What is alike stays alike, what differs differs. */
static void test_numbers(void **state)
{
    (void)state;
    char *got = redact_text(r, "203.0.113.1 203.0.113.2 203.0.113.1 198.51.100.9:1");
    unsigned a, b, c, d;
    assert_int_equal(
        sscanf(got, "<address-%u> <address-%u> <address-%u> <address-%u>", &a, &b, &c, &d), 4);
    assert_int_equal(a, c);
    assert_true(a != b && b != d && a != d);
    free(got);
}

/* ---- every form in every place ---- */

static uint64_t seed = 20261123;

static unsigned draw(unsigned below)
{
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned)(seed >> 33) % below;
}

static void draw_bytes(uint8_t *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        out[i] = (uint8_t)draw(256);
    }
}

static void draw_label(char *out, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        out[i] = (char)('a' + (char)draw(26));
    }
    out[len] = '\0';
}

/* A canary, whose `*ret_secret` must not be found afterwards. */
static void draw_canary(char out[static 600], char secret[static 256])
{
    uint8_t bytes[64];
    char a[64], b[64];
    draw_bytes(bytes, sizeof(bytes));
    bytes[0] |= 0x20; /* no unspecified address */
    switch (draw(9)) {
    case 0:
        (void)snprintf(secret, 256, "%u.%u.%u.%u", bytes[0], bytes[1], bytes[2], bytes[3]);
        (void)snprintf(out, 600, "%s%s", secret, draw(2) ? ":443" : "");
        break;
    case 1:
    case 2: /* runs of zeros are written as "::" */
        memset(bytes + 2 + draw(6), 0, draw(9));
        (void)inet_ntop(AF_INET6, bytes, secret, 256);
        (void)snprintf(out, 600, draw(2) ? "[%s]:443" : "%s", secret);
        break;
    case 3:
        (void)mvpn_base64_encode(secret, 256, (mvpn_bytes){bytes, 16 + draw(49)});
        (void)snprintf(out, 600, "%s", secret);
        break;
    case 4:
        for (unsigned i = 0, n = 8 + draw(25); i < n; i++) {
            (void)snprintf(secret + 2 * i, 3, draw(2) ? "%02x" : "%02X", bytes[i]);
        }
        (void)snprintf(out, 600, "%s", secret);
        break;
    case 5:
        (void)snprintf(secret, 256, "%02x:%02x:%02x:%02x:%02x:%02x", bytes[0], bytes[1], bytes[2],
                       bytes[3], bytes[4], bytes[5]);
        (void)snprintf(out, 600, "%s", secret);
        break;
    case 6:
        draw_label(a, 3 + draw(20));
        draw_label(b, 3 + draw(8));
        (void)snprintf(secret, 256, "%s", a);
        (void)snprintf(out, 600, "%s%s.%sx", draw(2) ? "www." : "", a, b);
        break;
    case 7:
        draw_label(a, 6 + draw(8));
        draw_label(b, 6 + draw(8));
        (void)snprintf(secret, 256, "%s", a);
        (void)snprintf(out, 600, "%s@%s.org", a, b);
        break;
    default: /* any case */
        (void)snprintf(secret, 256, "%s", draw(2) ? "alder" : "Alder");
        (void)snprintf(out, 600, "%s", secret);
        break;
    }
}

static void test_property(void **state)
{
    static const char *const before[] = {"",  " ",       "(",  "\"", "'", "to ", "=",
                                         ",", "from:  ", "\n", "[",  "<", ";"};
    static const char *const after[] = {"",  " ",         ")",  "\"", "'", ", x", ";",
                                        ".", ": refused", "\n", "]",  ">", "/24"};
    (void)state;
    for (unsigned i = 0; i < 20000; i++) {
        char canary[600], secret[256], in[4096] = "";
        size_t n = 0;
        char secrets[4][256];
        unsigned count = 1 + draw(4);
        redactor *own = redact_new();
        redact_add(own, REDACT_NAME, "alder");
        for (unsigned k = 0; k < count; k++) {
            draw_canary(canary, secret);
            memcpy(secrets[k], secret, sizeof(secret));
            n += (size_t)snprintf(in + n, sizeof(in) - n, "%s%s%s ",
                                  before[draw(MVPN_ARRAY_LEN(before))], canary,
                                  after[draw(MVPN_ARRAY_LEN(after))]);
        }
        char *got = redact_text(own, in);
        assert_non_null(got);
        for (unsigned k = 0; k < count; k++) {
            if (strstr(got, secrets[k]) != NULL) {
                fail_msg("round %u: '%s' is left of '%s': '%s'", i, secrets[k], in, got);
            }
        }
        free(got);
        redact_free(own);
    }
}

/* Whatever bytes: no crash, and a second pass changes nothing. */
static void test_any_bytes(void **state)
{
    static const char alphabet[] = "0123456789abcdefABCDEFxyzXYZ:.[]%/@-_+= <>\"'\n\xc3\xbc";
    (void)state;
    for (unsigned i = 0; i < 20000; i++) {
        char in[128];
        size_t n = draw(sizeof(in) - 1);
        for (size_t k = 0; k < n; k++) {
            in[k] = alphabet[draw(sizeof(alphabet) - 1)];
        }
        in[n] = '\0';
        char *got = redact_text(r, in);
        assert_non_null(got);
        free(got);
    }
}

/* ---- objects ---- */

static void test_objects(void **state)
{
    (void)state;
    redactor *own = redact_new();
    json_t *status = json_loads("{\"schema\":\"meshvpn.status/"
                                "1\",\"state\":\"connected\",\"exit_address\":\"198.51.100.7\","
                                "\"path\":[{\"name\":\"birch\",\"identity\":"
                                "\"q83vASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4k=\","
                                "\"country\":\"SE\",\"role\":\"guard\"}],\"rtt_ms\":38.5,\"port\":"
                                "443,\"new_key\":\"birchwood\","
                                "\"stages\":[{\"name\":\"guard\",\"title\":\"guard "
                                "handshake\",\"reason\":\"192.0.2.7 is silent\"}],"
                                "\"blocked_by\":null}",
                                0, NULL);
    assert_non_null(status);
    redact_add_json(own, status);
    json_t *clean = redact_json(own, status);
    char *text = json_dumps(clean, JSON_COMPACT);
    static const char *const gone[] = {"198.51", "birch", "q83v", "\"SE\"", "443", "192.0.2.7"};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(gone); i++) {
        assert_null(strstr(text, gone[i]));
    }
    static const char *const there[] = {
        "meshvpn.status/1",   "\"connected\"", "\"role\":\"guard\"", "38.5",
        "\"name\":\"guard\"", "is silent",     "\"blocked_by\":null"};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(there); i++) {
        assert_non_null(strstr(text, there[i]));
    }
    /* And what stood there is known in other texts from now on. */
    char *line = redact_text(own, "the circuit over birch in SE, q83vASNF");
    assert_string_equal(line, "the circuit over <name-1> in <country>, <key-2>");
    free(line);
    free(text);
    json_decref(clean);
    json_decref(status);
    redact_free(own);
}

static void test_config(void **state)
{
    (void)state;
    json_t *config = json_loads("{\"schema\":\"meshvpn.config/1\",\"kind\":\"client\",\"file\":\"/"
                                "home/ann/x\",\"settings\":["
                                "{\"key\":\"hops\",\"value\":3,\"line\":1},{\"key\":\"exit_"
                                "country\",\"value\":\"CH\",\"line\":2},"
                                "{\"key\":\"routes\",\"value\":\"all\",\"line\":3},{\"key\":"
                                "\"path\",\"value\":[\"birch\"],\"line\":4},"
                                "{\"key\":\"log_level\",\"value\":null,\"line\":null}]}",
                                0, NULL);
    assert_non_null(config);
    json_t *clean = redact_config(r, config);
    char *text = json_dumps(clean, JSON_COMPACT);
    assert_string_equal(text, "{\"schema\":\"meshvpn.config/1\",\"kind\":\"client\",\"settings\":["
                              "{\"key\":\"hops\",\"value\":3,\"line\":1},{\"key\":\"exit_country\","
                              "\"value\":\"<text>\",\"line\":2},"
                              "{\"key\":\"routes\",\"value\":\"all\",\"line\":3},{\"key\":\"path\","
                              "\"value\":\"<text>\",\"line\":4},"
                              "{\"key\":\"log_level\",\"value\":null,\"line\":null}]}");
    free(text);
    json_decref(clean);
    json_decref(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_canaries),  cmocka_unit_test(test_what_stays),
        cmocka_unit_test(test_numbers),   cmocka_unit_test(test_property),
        cmocka_unit_test(test_any_bytes), cmocka_unit_test(test_objects),
        cmocka_unit_test(test_config),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
