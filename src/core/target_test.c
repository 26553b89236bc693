#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/target.h"
#include "core/testview.h"

#define NOW 1000u
#define MAX_ADDRESSES 3

static const mvpn_target_rules both = {.has_ipv4 = true, .has_ipv6 = true};

/* Relay `i` at these addresses, NULL ends them. */
static mvpn_descriptor relay(unsigned i, const char *const addresses[static MAX_ADDRESSES])
{
    mvpn_descriptor d = {
        .identity = {{(uint8_t)i}},
        .link_key = {{(uint8_t)i, 1}},
        .published = NOW - 100,
        .expires = NOW + 1000,
        .roles = MVPN_ROLE_MIDDLE | MVPN_ROLE_NAT_RELAY,
        .has_membership = true,
    };
    d.membership[57] = (uint8_t)(100 + i); /* the serial's last byte (§8.2) */
    for (size_t k = 0; k < MAX_ADDRESSES && addresses[k] != NULL; k++) {
        d.addresses[k].carrier = MVPN_CARRIER_PLAIN;
        assert_int_equal(mvpn_addr_parse(addresses[k], &d.addresses[k].addr), 0);
        d.address_count++;
    }
    return d;
}

static mvpn_addr addr_of(const char *text)
{
    mvpn_addr a;
    assert_int_equal(mvpn_addr_parse(text, &a), 0);
    return a;
}

static void test_reachable_relays(void **state)
{
    (void)state;
    static const struct {
        const char *addresses[MAX_ADDRESSES];
        bool has_ipv4, has_ipv6, allow_private;
        const char *expected; /* NULL: none may be sent to */
    } rows[] = {
        {{"11.1.1.1:443", "[2a10::1]:443"}, true, true, false, "11.1.1.1:443"},
        {{"[2a10::1]:443", "11.1.1.1:443"}, true, true, false, "[2a10::1]:443"}, /* their order */
        {{"11.1.1.1:443", "[2a10::1]:443"}, false, true, false, "[2a10::1]:443"},
        {{"[2a10::1]:443", "11.1.1.1:443"}, true, false, false, "11.1.1.1:443"},
        {{"[2a10::1]:443"}, true, false, false, NULL},
        {{"192.168.1.1:443", "11.1.1.1:443"}, true, true, false, "11.1.1.1:443"},
        {{"192.168.1.1:443"}, true, true, false, NULL},
        {{"192.168.1.1:443"}, true, true, true, "192.168.1.1:443"},
        {{"12.9.9.9:80", "11.1.1.1:443"}, true, true, false, "11.1.1.1:443"}, /* our own ip */
        {{"12.9.9.9:80"}, true, true, true, NULL},
    };
    const mvpn_addr own = addr_of("12.9.9.9:443");
    mvpn_view *view = test_view_new();
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        mvpn_link_target t = {.via_count = 77};
        const mvpn_descriptor d = relay(1, rows[i].addresses);
        const mvpn_target_rules rules = {
            .has_ipv4 = rows[i].has_ipv4,
            .has_ipv6 = rows[i].has_ipv6,
            .allow_private = rows[i].allow_private,
            .own = &own,
            .own_count = 1,
        };
        int r = mvpn_target_make(view, &d, &rules, &t);
        if (rows[i].expected == NULL) {
            assert_int_equal(r, MVPN_E_POLICY);
            assert_int_equal(t.via_count, 77);
            continue;
        }
        const mvpn_addr expected = addr_of(rows[i].expected);
        assert_int_equal(r, 0);
        assert_true(mvpn_addr_eq(&t.addr, &expected));
        assert_memory_equal(t.identity.b, d.identity.b, 32);
        assert_memory_equal(t.link_key.b, d.link_key.b, 32);
        assert_int_equal(t.serial, 101);
        assert_int_equal(t.via_count, 0);
    }
    test_view_free(view);
}

/* Another carrier's address is no address to us. */
static void test_other_carriers(void **state)
{
    (void)state;
    mvpn_view *view = test_view_new();
    mvpn_link_target t;
    mvpn_descriptor d = relay(1, (const char *const[]){"11.1.1.1:1", "11.1.1.2:2", NULL});
    d.addresses[0].carrier = 9;
    assert_int_equal(mvpn_target_make(view, &d, &both, &t), 0);
    assert_int_equal(t.addr.port, 2);
    test_view_free(view);
}

/* Relay 1, behind a NAT, with NAT relays 2 and 3. */
static mvpn_descriptor guest(uint8_t family2, uint8_t family3)
{
    mvpn_descriptor d = relay(1, (const char *const[]){"13.1.1.1:999", NULL, NULL});
    d.nat_relay_count = 2;
    d.nat_relays[0] = (mvpn_descriptor_nat_relay){{{2}}, {{22}}, family2};
    d.nat_relays[1] = (mvpn_descriptor_nat_relay){{{3}}, {{33}}, family3};
    return d;
}

static void test_behind_nat(void **state)
{
    (void)state;
    static const char *const at2[] = {"11.1.1.2:443", "[2a10::2]:443", NULL};
    static const char *const at3[] = {"[2a10::3]:443", "11.1.1.3:443", NULL};
    const mvpn_descriptor d = guest(6, 4), two = relay(2, at2), three = relay(3, at3);
    mvpn_view *view = test_view_new();
    mvpn_link_target t = {.via_count = 77};
    assert_true(mvpn_target_is_behind_nat(&d));
    assert_false(mvpn_target_is_behind_nat(&two));
    assert_int_equal(mvpn_target_make(view, &d, &both, &t), MVPN_E_UNKNOWN);
    assert_int_equal(t.via_count, 77);

    /* One is known, then both: in the descriptor's order. */
    (void)test_view_add(view, &three);
    assert_int_equal(mvpn_target_make(view, &d, &both, &t), 0);
    assert_int_equal(t.via_count, 1);
    assert_int_equal(t.via[0].rendezvous.b[0], 33);
    (void)test_view_add(view, &two);
    assert_int_equal(mvpn_target_make(view, &d, &both, &t), 0);
    assert_int_equal(t.addr.family, 0); /* nobody sends to what its NAT relays see */
    assert_int_equal(t.serial, 101);
    assert_int_equal(t.via_count, 2);
    const mvpn_descriptor *known[] = {&two, &three};
    const mvpn_addr expected[] = {addr_of("[2a10::2]:443"), addr_of("11.1.1.3:443")};
    for (size_t i = 0; i < 2; i++) {
        assert_memory_equal(t.via[i].identity.b, known[i]->identity.b, 32);
        assert_memory_equal(t.via[i].link_key.b, known[i]->link_key.b, 32);
        assert_int_equal(t.via[i].serial, 102 + i);
        assert_memory_equal(t.via[i].rendezvous.b, d.nat_relays[i].rendezvous.b, 8);
        assert_true(mvpn_addr_eq(&t.via[i].addr, &expected[i])); /* of the guest's family */
    }

    /* What we cannot send by leaves the other family. */
    const mvpn_target_rules only4 = {.has_ipv4 = true};
    assert_int_equal(mvpn_target_make(view, &d, &only4, &t), 0);
    assert_int_equal(t.via[0].addr.family, 4);
    test_view_free(view);
}

static void behind(mvpn_descriptor *d)
{
    d->nat_relay_count = 1;
    d->nat_relays[0] = (mvpn_descriptor_nat_relay){{{9}}, {{99}}, 4};
}
static void without_role(mvpn_descriptor *d)
{
    d->roles &= (uint16_t)~MVPN_ROLE_NAT_RELAY;
}
static void withdrawn(mvpn_descriptor *d)
{
    d->roles = 0;
}
static void expired(mvpn_descriptor *d)
{
    d->expires = NOW - 400;
    d->published = NOW - 900;
}
static void at_home(mvpn_descriptor *d)
{
    d->addresses[0].addr = addr_of("192.168.1.2:443");
}
static void ourselves(mvpn_descriptor *d)
{
    d->identity.b[0] = 7; /* not in the guest's list under this name any more */
}

/* Who cannot be a NAT relay to us is left out, whatever the guest says. */
static void test_unfit_nat_relays(void **state)
{
    (void)state;
    static void (*const rows[])(mvpn_descriptor *) = {behind,  without_role, withdrawn,
                                                      expired, at_home,      ourselves};
    const mvpn_target_rules rules = {.has_ipv4 = true, .unix_now = NOW};
    const mvpn_descriptor d = guest(4, 4);
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        mvpn_descriptor two = relay(2, (const char *const[]){"11.1.1.2:443", NULL, NULL});
        mvpn_view *view = test_view_new();
        mvpn_link_target t;
        (void)test_view_add(view, &two);
        assert_int_equal(mvpn_target_make(view, &d, &rules, &t), 0);
        rows[i](&two);
        test_view_remove(view, &(mvpn_ed25519_pub){{2}});
        (void)test_view_add(view, &two);
        assert_int_equal(mvpn_target_make(view, &d, &rules, &t), MVPN_E_UNKNOWN);
        test_view_free(view);
    }
}

/* A NAT relay does not reach its guests through itself. */
static void test_not_through_ourselves(void **state)
{
    (void)state;
    const mvpn_descriptor d = guest(4, 4);
    const mvpn_descriptor two = relay(2, (const char *const[]){"11.1.1.2:443", NULL, NULL});
    const mvpn_descriptor three = relay(3, (const char *const[]){"11.1.1.3:443", NULL, NULL});
    mvpn_target_rules rules = {.has_ipv4 = true, .self = &two.identity};
    mvpn_view *view = test_view_new();
    mvpn_link_target t;
    (void)test_view_add(view, &two);
    assert_int_equal(mvpn_target_make(view, &d, &rules, &t), MVPN_E_UNKNOWN);
    (void)test_view_add(view, &three);
    assert_int_equal(mvpn_target_make(view, &d, &rules, &t), 0);
    assert_int_equal(t.via_count, 1);
    assert_int_equal(t.via[0].identity.b[0], 3);
    test_view_free(view);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reachable_relays),
        cmocka_unit_test(test_other_carriers),
        cmocka_unit_test(test_behind_nat),
        cmocka_unit_test(test_unfit_nat_relays),
        cmocka_unit_test(test_not_through_ourselves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
