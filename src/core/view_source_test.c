/* From how many directories a view knows a relay: who counts as one, and when the whole is
 * confirmed. */
#include "core/view_fixture.h"
#include "core/path.h"

static void test_two_sources_confirm(void **state)
{
    (void)state;
    mvpn_descriptor d = test_relay(&net, 1, 5), same = test_relay_draft(&net, 1, 5);
    mvpn_dht_id key = key_of(&d);
    assert_int_equal(put(&d, source(1)), 0);
    assert_int_equal(put(&d, source(1)), MVPN_E_EXPIRED);
    assert_false(info_of(&d).is_confirmed);
    assert_int_equal(put(&d, 0), MVPN_E_EXPIRED);
    assert_false(info_of(&d).is_confirmed);
    /* Another record of the same sequence is not what we hold, and shows nothing. */
    same.onion_keys[0].id = 9;
    test_relay_sign(&net, 1, &same);
    assert_int_equal(put(&same, source(2)), MVPN_E_EXPIRED);
    assert_false(info_of(&d).is_confirmed);
    /* Nor does a list of another sequence. */
    assert_false(mvpn_view_listed(view, &key, 4, source(2), TEST_NOW));
    assert_true(mvpn_view_listed(view, &key, 6, source(2), TEST_NOW));
    assert_false(info_of(&d).is_confirmed);
    assert_false(mvpn_view_listed(view, &key, 5, source(2), TEST_NOW + 9));
    assert_true(info_of(&d).is_confirmed);
    assert_int_equal(info_of(&d).first_seen, TEST_NOW);
    assert_int_equal(info_of(&d).last_shown, TEST_NOW + 9);

    mvpn_descriptor other = test_relay(&net, 2, 1), local = test_relay(&net, 3, 1);
    assert_int_equal(put(&other, source(1)), 0);
    assert_int_equal(put(&other, source(2)), MVPN_E_EXPIRED);
    assert_true(info_of(&other).is_confirmed);
    assert_int_equal(mvpn_view_add(view, &local), 0);
    assert_true(info_of(&local).is_confirmed);
    /* The network file lists it: with whichever of its descriptors. */
    mvpn_descriptor third = test_relay(&net, 4, 7), listed = test_relay(&net, 4, 2);
    assert_int_equal(put(&third, source(1)), 0);
    assert_int_equal(mvpn_view_add(view, &listed), MVPN_E_EXPIRED);
    assert_true(info_of(&third).is_confirmed);
    assert_int_equal(mvpn_view_find(view, &third.identity)->sequence, 7);
}

/* Do these two directories, by descriptor or address, confirm a relay? */
static bool confirm(mvpn_view_source a, mvpn_view_source b)
{
    static unsigned number = 100;
    mvpn_descriptor d = test_relay(&net, number++, 1);
    assert_int_equal(put(&d, a), 0);
    assert_int_equal(put(&d, b), MVPN_E_EXPIRED);
    return info_of(&d).is_confirmed;
}

static void test_one_operator_is_one_source(void **state)
{
    (void)state;
    mvpn_descriptor a = test_relay_draft(&net, 1, 1), b = test_relay_draft(&net, 2, 1);
#define SOURCE(d) mvpn_view_source_of(view, &(d), NULL)
    assert_true(confirm(SOURCE(a), SOURCE(b)));
    assert_false(confirm(SOURCE(a), SOURCE(a)));
    /* One block, whatever they say else. */
    b.addresses[0].addr.ip[1] = a.addresses[0].addr.ip[1];
    strcpy(a.provider, "one");
    strcpy(b.provider, "two");
    assert_false(confirm(SOURCE(a), SOURCE(b)));
    b = test_relay_draft(&net, 2, 1);
    strcpy(b.provider, "one");
    assert_false(confirm(SOURCE(a), SOURCE(b)));
    b.provider[0] = a.provider[0] = '\0';
    /* A family: each names the other. */
    a.family_count = b.family_count = 1;
    a.family[0] = b.identity;
    b.family[0] = a.identity;
    assert_false(confirm(SOURCE(a), SOURCE(b)));
    /* By its address first, by its descriptor later: one directory. */
    mvpn_descriptor c = test_relay_draft(&net, 3, 1);
    assert_false(confirm(mvpn_view_source_of(view, NULL, &c.addresses[0].addr), SOURCE(c)));
    /* The address where it answers counts, not the one that it declares. */
    mvpn_addr real = a.addresses[0].addr;
    real.ip[3] = 99;
    a.family_count = 0;
    assert_false(confirm(SOURCE(a), mvpn_view_source_of(view, &c, &real)));
    /* With both families of addresses: one directory over either. */
    c.address_count = 2;
    c.addresses[1] = (mvpn_descriptor_address){MVPN_CARRIER_PLAIN, {6, 443, {0x2a, 0x10, 1, 2}}};
    mvpn_addr near6 = {6, 1, {0x2a, 0x10, 1, 2, 5}}, far6 = {6, 1, {0x2a, 0x10, 1, 3}};
    assert_false(confirm(SOURCE(c), mvpn_view_source_of(view, NULL, &near6)));
    assert_true(confirm(SOURCE(c), mvpn_view_source_of(view, NULL, &far6)));
#undef SOURCE
    assert_true(mvpn_view_source_of(view, NULL, NULL) == 0);
}

static void test_relaxed_rules(void **state)
{
    (void)state;
    mvpn_view *strict = view;
    const mvpn_view_config config = {
        .trust = &net.trust, .relax = MVPN_RELAX_BLOCK | MVPN_RELAX_PROVIDER | MVPN_RELAX_FAMILY};
    mvpn_descriptor a = test_relay_draft(&net, 1, 1), b = test_relay_draft(&net, 2, 1);
    assert_int_equal(mvpn_view_new(&config, &view), 0);
    b.addresses[0].addr.ip[1] = a.addresses[0].addr.ip[1];
    b.addresses[0].addr.port = 444;
    strcpy(a.provider, "one");
    strcpy(b.provider, "one");
    a.family_count = 1;
    a.family[0] = b.identity;
    assert_true(confirm(mvpn_view_source_of(view, &a, NULL), mvpn_view_source_of(view, &b, NULL)));
    assert_false(confirm(mvpn_view_source_of(view, &a, NULL), mvpn_view_source_of(view, &a, NULL)));
    mvpn_view_free(view);
    view = strict;
}

static void test_whole_view_confirmed(void **state)
{
    (void)state;
    mvpn_descriptor d[3], near[3];
    for (unsigned i = 0; i < 3; i++) {
        near[i] = test_relay_draft(&net, 50 + i, 1);
        memcpy(near[i].addresses[0].addr.ip, (uint8_t[]){90, 1}, 2);
        test_relay_sign(&net, 50 + i, &near[i]);
        assert_int_equal(put(&near[i], source(1)), 0);
        assert_int_equal(put(&near[i], source(2)), MVPN_E_EXPIRED);
    }
    assert_false(mvpn_view_is_confirmed(view)); /* three of one block are no path */
    for (unsigned i = 0; i < 3; i++) {
        d[i] = test_relay(&net, i, 1);
        assert_int_equal(put(&d[i], source(1)), 0);
    }
    assert_false(mvpn_view_is_confirmed(view));
    assert_int_equal(put(&d[0], source(2)), MVPN_E_EXPIRED);
    assert_false(mvpn_view_is_confirmed(view));
    assert_int_equal(put(&d[1], source(2)), MVPN_E_EXPIRED);
    assert_true(mvpn_view_is_confirmed(view)); /* these two and one of the block */
}

/* Of three confirmed relays one is behind a NAT: with its NAT relay known they are a path, but not
 * with that one in another's block. */
static void test_confirmed_with_a_relay_behind_a_nat(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        mvpn_descriptor d = test_relay_draft(&net, i, 1);
        if (i == 2) {
            d.nat_relay_count = 1;
            d.nat_relays[0] =
                (mvpn_descriptor_nat_relay){test_relay(&net, 3, 1).identity, {{1}}, 4};
        }
        test_relay_sign(&net, i, &d);
        assert_int_equal(put(&d, source(1)), 0);
        assert_int_equal(put(&d, source(2)), MVPN_E_EXPIRED);
    }
    assert_false(mvpn_view_is_confirmed(view));
    for (uint64_t sequence = 1; sequence <= 2; sequence++) {
        mvpn_descriptor d = test_relay_draft(&net, 3, sequence);
        d.addresses[0].addr.ip[1] = sequence == 1 ? 200 : 1; /* then with relay 1 */
        test_relay_sign(&net, 3, &d);
        assert_int_equal(put(&d, source(1)), 0);
        assert_int_equal(mvpn_view_is_confirmed(view), sequence == 1);
    }
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, view_setup, view_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_two_sources_confirm),
        TEST(test_one_operator_is_one_source),
        TEST(test_relaxed_rules),
        TEST(test_whole_view_confirmed),
        TEST(test_confirmed_with_a_relay_behind_a_nat),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
