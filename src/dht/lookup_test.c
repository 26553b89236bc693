#include "dht/lookup.h"
#include "dht/testing.h"

static mvpn_dht_shortlist l;

static void begin(bool wants_value, unsigned paths)
{
    mvpn_dht_id target = test_id(0);
    mvpn_dht_shortlist_init(&l, &target, wants_value, paths);
}

static void deal(uint64_t from, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        mvpn_dht_contact c = test_contact(from + i, test_ip((uint32_t)from + i));
        mvpn_dht_shortlist_deal(&l, &c);
    }
}

static uint64_t place(const mvpn_dht_candidate *c)
{
    return mvpn_load64(c->contact.id.b);
}

static void name(const mvpn_dht_candidate *by, uint64_t from, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        mvpn_dht_contact c = test_contact(from + i, test_ip((uint32_t)from + i));
        mvpn_dht_shortlist_named(&l, by, &c);
    }
}

/* Alpha on each path, nobody twice, nearest first. */
static void asks_alpha_on_each_path(void **state)
{
    (void)state;
    bool seen[20] = {false};
    unsigned asked = 0;
    mvpn_dht_candidate *c;
    begin(false, 4);
    deal(0, 20);
    while ((c = mvpn_dht_shortlist_next(&l)) != NULL) {
        assert_false(seen[place(c)]);
        seen[place(c)] = true;
        assert_int_equal(c->path, place(c) % 4); /* as dealt */
        asked++;
    }
    assert_int_equal(asked, 4 * MVPN_DHT_ALPHA);
    for (unsigned i = 0; i < asked; i++) {
        assert_true(seen[i]);
    }
    assert_false(mvpn_dht_shortlist_is_done(&l));
}

/* What one answer names is asked on the path that it was given to, and no other. */
static void paths_are_disjoint(void **state)
{
    (void)state;
    mvpn_dht_candidate *c, *first;
    begin(false, 4);
    deal(100, 4);
    first = mvpn_dht_shortlist_next(&l);
    name(first, 0, 20); /* 20 nearer ones, true or not */
    mvpn_dht_shortlist_answered(&l, first);
    unsigned own = 0;
    while ((c = mvpn_dht_shortlist_next(&l)) != NULL) {
        if (place(c) < 100) {
            assert_int_equal(c->path, first->path);
            own++;
        }
    }
    assert_int_equal(own, MVPN_DHT_ALPHA);
    /* Another path learns of them too: now it may ask those that nobody asked. */
    for (unsigned i = 0; i < l.count; i++) {
        c = &l.candidates[i];
        if (place(c) == 101) {
            mvpn_dht_shortlist_answered(&l, c);
            name(c, 0, 20);
        }
    }
    c = mvpn_dht_shortlist_next(&l);
    assert_non_null(c);
    assert_true(place(c) < 20 && c->path != first->path);
}

static void ends_when_the_closest_have_answered(void **state)
{
    (void)state;
    mvpn_dht_candidate *c;
    const mvpn_dht_candidate *near[MVPN_DHT_K];
    unsigned asked = 0;
    begin(false, 4);
    deal(0, 60);
    for (unsigned turn = 0; !mvpn_dht_shortlist_is_done(&l); turn++) {
        c = mvpn_dht_shortlist_next(&l);
        assert_non_null(c);
        if (place(c) % 3 == 0) {
            mvpn_dht_shortlist_failed(&l, c);
        } else {
            name(c, 0, 60);
            mvpn_dht_shortlist_answered(&l, c);
        }
        asked++;
    }
    assert_in_range(asked, 30, 40); /* 20 that answer and the 10 that fail between them */
    assert_int_equal(mvpn_dht_shortlist_closest(&l, near), MVPN_DHT_K);
    for (unsigned i = 0; i < MVPN_DHT_K; i++) {
        assert_int_equal(place(near[i]), i / 2 * 3 + i % 2 + 1);
    }
    assert_false(mvpn_dht_shortlist_disagrees(&l));
}

/* Answers of all asked so far: [from, to) hold this sequence, the rest nothing. */
static void answer_all(unsigned from, unsigned to, uint64_t sequence)
{
    mvpn_dht_candidate *c;
    while (!mvpn_dht_shortlist_is_done(&l) && (c = mvpn_dht_shortlist_next(&l)) != NULL) {
        if (place(c) >= from && place(c) < to) {
            mvpn_dht_shortlist_has_value(&l, c, sequence);
        } else {
            mvpn_dht_shortlist_answered(&l, c);
        }
    }
}

static unsigned count_asked(void)
{
    unsigned n = 0;
    for (unsigned i = 0; i < l.count; i++) {
        n += l.candidates[i].state != MVPN_DHT_CANDIDATE_NEW;
    }
    return n;
}

/* §11.5: early only when the closest are sure. */
static void when_a_value_is_safe(void **state)
{
    (void)state;
    static const struct {
        unsigned from, to;
        bool is_early, is_wide;
    } rows[] = {
        {0, 20, true, false},  /* all hold it */
        {0, 3, true, false},   /* three of the eight closest; the others deny it */
        {0, 2, false, true},   /* two: all of the K closest are asked, then more paths */
        {8, 20, false, false}, /* none of the eight closest: all are asked; enough have it */
        {0, 0, false, false},  /* nobody */
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        begin(true, 4);
        deal(0, 20);
        answer_all(rows[i].from, rows[i].to, 7);
        assert_true(mvpn_dht_shortlist_is_done(&l));
        assert_int_equal(count_asked() < 20, rows[i].is_early);
        assert_int_equal(!rows[i].is_early && mvpn_dht_shortlist_disagrees(&l), rows[i].is_wide);
    }
}

/* Two hold a newer one, the rest of the closest an older: it goes on. */
static void a_newer_value_forbids_an_early_end(void **state)
{
    (void)state;
    mvpn_dht_candidate *c;
    begin(true, 4);
    deal(0, 20);
    while (!mvpn_dht_shortlist_is_done(&l) && (c = mvpn_dht_shortlist_next(&l)) != NULL) {
        mvpn_dht_shortlist_has_value(&l, c, place(c) == 5 ? 9 : 8);
    }
    assert_int_equal(count_asked(), 20);
    assert_true(mvpn_dht_shortlist_disagrees(&l));
    mvpn_dht_shortlist_widen(&l);
    assert_int_equal(l.paths, MVPN_DHT_PATHS_MAX);
}

/* Names are free: one that names twenty nearer nodes that are not there costs three requests. */
static void names_that_lead_nowhere(void **state)
{
    (void)state;
    mvpn_dht_candidate *c, *liar;
    unsigned fakes = 0;
    begin(false, 1);
    deal(1000, 20);
    liar = mvpn_dht_shortlist_next(&l);
    name(liar, 0, 20);
    mvpn_dht_shortlist_answered(&l, liar);
    while (!mvpn_dht_shortlist_is_done(&l)) {
        c = mvpn_dht_shortlist_next(&l);
        assert_non_null(c);
        if (place(c) < 20) {
            mvpn_dht_shortlist_slow(&l, c);
            mvpn_dht_shortlist_failed(&l, c);
            fakes++;
        } else {
            mvpn_dht_shortlist_answered(&l, c);
        }
    }
    assert_int_equal(fakes, MVPN_DHT_DOUBT);
    const mvpn_dht_candidate *near[MVPN_DHT_K];
    assert_int_equal(mvpn_dht_shortlist_closest(&l, near), MVPN_DHT_K);
}

/* One block of many nearer contacts takes two places, not all. */
static void blocks_have_their_share(void **state)
{
    (void)state;
    mvpn_dht_candidate *c;
    unsigned foes = 0;
    begin(false, 1);
    for (uint32_t i = 0; i < 40; i++) {
        mvpn_dht_contact foe = test_contact(i, 0x0b0b0b00u + i);
        mvpn_dht_shortlist_deal(&l, &foe);
    }
    deal(1000, 20);
    while (!mvpn_dht_shortlist_is_done(&l) && (c = mvpn_dht_shortlist_next(&l)) != NULL) {
        foes += place(c) < 40;
        mvpn_dht_shortlist_answered(&l, c);
    }
    assert_int_equal(foes, MVPN_DHT_PER_BLOCK);
    const mvpn_dht_candidate *near[MVPN_DHT_K];
    assert_int_equal(mvpn_dht_shortlist_closest(&l, near), MVPN_DHT_K);
    assert_int_equal(place(near[MVPN_DHT_PER_BLOCK]), 1000);
}

/* All near contacts are of one hand; the scout, far away, is asked first and knows better. */
static void a_scout_goes_first(void **state)
{
    (void)state;
    begin(false, 4);
    deal(0, 20);
    for (unsigned p = 0; p < 4; p++) {
        mvpn_dht_contact far = test_contact(0xff00000000000000u + p, test_ip(500 + p));
        mvpn_dht_shortlist_scout(&l, p, &far);
    }
    for (unsigned p = 0; p < 4; p++) {
        mvpn_dht_candidate *c = mvpn_dht_shortlist_next(&l);
        assert_int_equal(place(c) >> 56, 0xff);
        assert_int_equal(place(c) & 3, c->path);
    }
}

/* A short list keeps what was asked, and what is near. */
static void a_full_shortlist(void **state)
{
    (void)state;
    begin(false, 1);
    deal(100000, 2);
    mvpn_dht_candidate *by = mvpn_dht_shortlist_next(&l);
    for (uint32_t i = 400; i-- > 0;) {
        name(by, i, 1);
    }
    assert_int_equal(l.count, MVPN_DHT_SHORTLIST_MAX);
    assert_int_equal(place(&l.candidates[l.order[0]]), 0);
    assert_ptr_equal(&l.candidates[l.order[l.count - 2]], by);
    for (unsigned i = 1; i < l.count; i++) {
        assert_true(place(&l.candidates[l.order[i - 1]]) < place(&l.candidates[l.order[i]]));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(asks_alpha_on_each_path),
        cmocka_unit_test(paths_are_disjoint),
        cmocka_unit_test(ends_when_the_closest_have_answered),
        cmocka_unit_test(when_a_value_is_safe),
        cmocka_unit_test(a_newer_value_forbids_an_early_end),
        cmocka_unit_test(names_that_lead_nowhere),
        cmocka_unit_test(blocks_have_their_share),
        cmocka_unit_test(a_scout_goes_first),
        cmocka_unit_test(a_full_shortlist),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
