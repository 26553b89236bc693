/* What a person calls an exit: found, or refused with words that help. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "io/exit_words.h"

static mvpn_trust trust;
static mvpn_view *view;

/* Relay `i`, whose identity begins with the digits 0i 0i 0i 0i, then 77. */
static void add(uint8_t i, const char *name, const char *country, uint16_t roles)
{
    mvpn_descriptor d = {.sequence = 1, .published = 1000, .expires = 1u << 30, .roles = roles};
    memset(d.identity.b, 0x77, sizeof(d.identity.b));
    memset(d.identity.b, i, 4);
    d.address_count = 1;
    d.addresses[0] = (mvpn_descriptor_address){MVPN_CARRIER_PLAIN,
                                               {.family = 4, .port = 443, .ip = {11, i, 1, 1}}};
    (void)snprintf(d.name, sizeof(d.name), "%s", name);
    (void)snprintf(d.country, sizeof(d.country), "%s", country);
    d.encoded_len = 1;
    assert_int_equal(mvpn_view_add(view, &d), 0);
}

static int setup(void **state)
{
    const mvpn_view_config config = {.trust = &trust, .sample_key = {1}};
    (void)state;
    assert_int_equal(mvpn_view_new(&config, &view), 0);
    add(1, "maple", "CH", MVPN_ROLE_EXIT);
    add(2, "rowan", "SE", MVPN_ROLE_EXIT | MVPN_ROLE_GUARD);
    add(3, "twin", "CH", MVPN_ROLE_EXIT);
    add(4, "twin", "", MVPN_ROLE_EXIT);
    add(5, "alder", "JP", MVPN_ROLE_GUARD | MVPN_ROLE_MIDDLE);
    add(6, "", "DE", MVPN_ROLE_EXIT);
    add(7, "06060606", "", MVPN_ROLE_EXIT); /* a name that looks like another's identity */
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mvpn_view_free(view);
    return 0;
}

static void test_words(void **state)
{
    static const struct {
        const char *word;
        uint8_t exit; /* 0: refused with `why` */
        const char *why;
    } rows[] = {
        {"maple", 1, NULL},
        {"02020202", 2, NULL},
        {"0202020277777777", 2, NULL},
        {"0202020277777777777777777777777777777777777777777777777777777777", 2, NULL},
        {"0404040477", 4, NULL},
        {"mapel", 0, "no exit is known as 'mapel'. Did you mean maple?"},
        {"map", 0, "no exit is known as 'map'. Did you mean maple?"},
        {"rowen", 0, "no exit is known as 'rowen'. Did you mean rowan?"},
        {"twin", 0,
         "'twin' could be any of 2 exits: 0303030377777777 twin (CH), 0404040477777777 twin. Name "
         "one by its identity"},
        {"06060606", 0,
         "'06060606' could be any of 2 exits: 0606060677777777 (DE), 0707070777777777 06060606. "
         "Name one by its identity"},
        {"alder", 0, "'alder' is a relay, but no exit. See meshvpn exit list"},
        {"05050505", 0, "no exit is known as '05050505'. See meshvpn exit list"},
        {"0101", 0, "no exit is known as '0101'. See meshvpn exit list"}, /* too few digits */
        {"ch", 0, "no exit is known as 'ch'. A country is written CH"},
        {"", 0, "no exit is known as ''. See meshvpn exit list"},
        {"zzzzzzzzzz", 0, "no exit is known as 'zzzzzzzzzz'. See meshvpn exit list"},
    };
    (void)state;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        mvpn_ed25519_pub exit = {{0}};
        char why[MVPN_EXIT_WORDS_TEXT] = "";
        int r = mvpn_exit_words_find(view, rows[i].word, &exit, why);
        assert_int_equal(r == 0, rows[i].exit != 0);
        assert_int_equal(exit.b[0], rows[i].exit);
        assert_string_equal(why, r == 0 ? "" : rows[i].why);
    }
}

static void test_many(void **state)
{
    (void)state;
    mvpn_ed25519_pub exit;
    char why[MVPN_EXIT_WORDS_TEXT];
    for (uint8_t i = 100; i < 200; i++) {
        add(i, "everybody-is-called-so-2", "US", MVPN_ROLE_EXIT); /* the longest name */
    }
    assert_int_equal(mvpn_exit_words_find(view, "everybody-is-called-so-2", &exit, why),
                     MVPN_E_LIMIT);
    assert_non_null(strstr(why, "could be any of 100 exits"));
    assert_non_null(strstr(why, ", ... Name one"));
    assert_true(strlen(why) < sizeof(why));
}

/* A mvpn_path_country_of. */
static bool all_in_sweden(const void *ctx, const mvpn_addr *addr, char ret_country[3])
{
    (void)ctx;
    (void)addr;
    memcpy(ret_country, "SE", 3);
    return true;
}

static void test_countries(void **state)
{
    (void)state;
    char text[MVPN_EXIT_WORDS_TEXT];
    assert_string_equal(mvpn_exit_words_countries(view, NULL, NULL, text), "CH, DE, SE");
    assert_non_null(strstr(mvpn_exit_words_countries(view, all_in_sweden, NULL, text), "SE; "));
    assert_null(strstr(text, "CH"));
    for (unsigned i = 8; i < 250; i++) { /* more than there is room for */
        char code[3] = {(char)('A' + i % 26), (char)('A' + i / 26), '\0'};
        add((uint8_t)i, "", code, MVPN_ROLE_EXIT);
    }
    assert_true(strlen(mvpn_exit_words_countries(view, NULL, NULL, text)) < sizeof(text));
}

static void test_identities(void **state)
{
    (void)state;
    const mvpn_ed25519_pub id = {{0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef}};
    assert_true(mvpn_exit_words_is_identity("01234567"));
    assert_false(mvpn_exit_words_is_identity("0123456"));
    assert_false(mvpn_exit_words_is_identity("0123456G"));
    assert_false(mvpn_exit_words_is_identity("0123456A")); /* as they are shown */
    assert_false(mvpn_exit_words_is_identity(
        "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff0"));
    assert_true(mvpn_exit_words_fits("0123456789abcdef00", &id));
    assert_true(mvpn_exit_words_fits("012345678", &id));
    assert_false(mvpn_exit_words_fits("0123456780", &id));
    assert_false(
        mvpn_exit_words_fits("0123456789abcdef000000000000000000000000000000000000000000000000"
                             "0",
                             &id));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_words, setup, teardown),
        cmocka_unit_test_setup_teardown(test_many, setup, teardown),
        cmocka_unit_test_setup_teardown(test_countries, setup, teardown),
        cmocka_unit_test_setup_teardown(test_identities, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
