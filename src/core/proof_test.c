#include "core/proof.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/testview.h"

static const mvpn_addr exit4 = {.family = 4, .ip = {11, 54, 140, 14}};
static const mvpn_addr exit6 = {.family = 6, .ip = {0x2a, 0x10, [15] = 14}};
static const mvpn_addr host4 = {.family = 4, .ip = {11, 233, 171, 77}};
static const mvpn_addr host6 = {.family = 6, .ip = {0x2a, 0x10, 0xe9, [15] = 7}};
static const mvpn_addr tun4 = {.family = 4, .ip = {10, 8, 0, 2}};
static const mvpn_addr tun6 = {.family = 6, .ip = {0xfd, 0x6d, [15] = 2}};
static const mvpn_addr other4 = {.family = 4, .ip = {11, 9, 9, 9}};

/* All is well. */
static mvpn_proof_observation sound(void)
{
    return (mvpn_proof_observation){
        .v4 = {.asked = 2, .answered = 2, .seen = {exit4, exit4}},
        .v6 = {.asked = 2, .answered = 2, .seen = {exit6, exit6}},
        .exit_v4 = exit4,
        .exit_v6 = exit6,
        .own = {host4, host6},
        .own_count = 2,
        .way_v4 = tun4,
        .way_v6 = tun6,
        .tun_v4 = tun4,
        .tun_v6 = tun6,
        .dns_asked = true,
        .dns_answered = true,
        .carries_v6 = true,
        .has_kill_switch = true,
        .past_v4 = MVPN_PROOF_REFUSED,
        .past_v6 = MVPN_PROOF_REFUSED,
    };
}

static void change_nothing(mvpn_proof_observation *o)
{
    (void)o;
}
static void one_witness(mvpn_proof_observation *o)
{
    o->v4.answered = 1;
}
static void no_answer(mvpn_proof_observation *o)
{
    o->v4.answered = 0;
}
static void no_witness(mvpn_proof_observation *o)
{
    o->v4.asked = o->v4.answered = o->v6.asked = o->v6.answered = 0;
}
static void only_v6_witnesses(mvpn_proof_observation *o)
{
    o->v4.asked = o->v4.answered = 0;
}
static void see_the_host(mvpn_proof_observation *o)
{
    o->v4.seen[0] = o->v4.seen[1] = host4;
}
/* An exit that published nothing of the family is not compared, the host is. */
static void see_the_host_unpublished(mvpn_proof_observation *o)
{
    see_the_host(o);
    o->exit_v4.family = 0;
}
static void see_another_unpublished(mvpn_proof_observation *o)
{
    o->v4.seen[0] = o->v4.seen[1] = other4;
    o->exit_v4.family = 0;
}
static void see_another(mvpn_proof_observation *o)
{
    o->v4.seen[0] = o->v4.seen[1] = other4;
}
static void contradict(mvpn_proof_observation *o)
{
    o->v4.seen[1] = other4;
}
static void contradict_unpublished(mvpn_proof_observation *o)
{
    contradict(o);
    o->exit_v4.family = 0;
}
static void ports_differ(mvpn_proof_observation *o)
{
    o->v4.seen[0].port = 1;
    o->v4.seen[1].port = 2;
}
/* Also where no witness is known. */
static void goes_astray(mvpn_proof_observation *o)
{
    no_witness(o);
    o->way_v4 = host4;
}
static void v6_goes_astray(mvpn_proof_observation *o)
{
    o->way_v6 = host6;
}
static void v6_goes_astray_uncarried(mvpn_proof_observation *o)
{
    v6_goes_astray(o);
    o->carries_v6 = false;
    o->v6_packet = MVPN_PROOF_REFUSED;
}
static void goes_nowhere(mvpn_proof_observation *o)
{
    o->way_v4.family = o->way_v6.family = 0;
}
static void names_unanswered(mvpn_proof_observation *o)
{
    o->dns_answered = false;
}
static void names_unasked(mvpn_proof_observation *o)
{
    o->dns_asked = o->dns_answered = false;
}
static void v6_of_the_host(mvpn_proof_observation *o)
{
    o->v6.seen[1] = o->v6.seen[0] = host6;
}
static void v6_refused(mvpn_proof_observation *o)
{
    o->carries_v6 = false;
    o->v6_packet = MVPN_PROOF_REFUSED;
}
static void v6_silent(mvpn_proof_observation *o)
{
    o->carries_v6 = false;
    o->v6_packet = MVPN_PROOF_PASSED;
}
static void v6_not_tried(mvpn_proof_observation *o)
{
    o->carries_v6 = false;
}
static void v4_passes(mvpn_proof_observation *o)
{
    o->past_v4 = MVPN_PROOF_PASSED;
}
static void v6_passes(mvpn_proof_observation *o)
{
    o->past_v6 = MVPN_PROOF_PASSED;
}
static void past_v4_alone(mvpn_proof_observation *o)
{
    o->past_v6 = MVPN_PROOF_NOT_TRIED;
}
static void past_untried(mvpn_proof_observation *o)
{
    o->past_v4 = o->past_v6 = MVPN_PROOF_NOT_TRIED;
}
static void no_kill_switch(mvpn_proof_observation *o)
{
    o->has_kill_switch = false;
    o->past_v4 = o->past_v6 = MVPN_PROOF_PASSED;
}

#define U MVPN_PROOF_UNKNOWN
#define H MVPN_PROOF_HOLDS
#define F MVPN_PROOF_FAILS

static void test_verdicts(void **state)
{
    static const struct {
        void (*change)(mvpn_proof_observation *);
        enum mvpn_proof_verdict exit_address, dns, ipv6, kill_switch;
        unsigned witnesses;
        bool holds;
    } rows[] = {
        {change_nothing, H, H, H, H, 2, true},
        {one_witness, H, H, H, H, 1, true},
        {no_answer, F, H, H, H, 0, false},
        {no_witness, U, H, U, H, 0, true},
        {only_v6_witnesses, H, H, H, H, 2, true},
        {see_the_host, F, H, H, H, 2, false},
        {see_the_host_unpublished, F, H, H, H, 2, false},
        {see_another_unpublished, H, H, H, H, 2, true},
        {see_another, F, H, H, H, 2, false},
        {contradict, F, H, H, H, 2, false},
        {contradict_unpublished, F, H, H, H, 2, false},
        {ports_differ, H, H, H, H, 2, true},
        {goes_astray, F, H, U, H, 0, false},
        {v6_goes_astray, H, H, F, H, 2, false},
        {v6_goes_astray_uncarried, H, H, H, H, 2, true},
        {goes_nowhere, H, H, H, H, 2, true},
        {names_unanswered, H, F, H, H, 2, false},
        {names_unasked, H, U, H, H, 2, true},
        {v6_of_the_host, H, H, F, H, 2, false},
        {v6_refused, H, H, H, H, 2, true},
        {v6_silent, H, H, F, H, 2, false},
        {v6_not_tried, H, H, U, H, 2, true},
        {v4_passes, H, H, H, F, 2, false},
        {v6_passes, H, H, H, F, 2, false},
        {past_v4_alone, H, H, H, H, 2, true},
        {past_untried, H, H, H, U, 2, true},
        {no_kill_switch, H, H, H, U, 2, true},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        mvpn_proof_observation o = sound();
        mvpn_proof p;
        rows[i].change(&o);
        mvpn_proof_judge(&o, &p);
        assert_int_equal(p.exit_address, rows[i].exit_address);
        assert_int_equal(p.dns, rows[i].dns);
        assert_int_equal(p.ipv6, rows[i].ipv6);
        assert_int_equal(p.kill_switch, rows[i].kill_switch);
        assert_int_equal(p.witnesses, rows[i].witnesses);
        assert_int_equal(mvpn_proof_holds(&p), rows[i].holds);
        assert_int_equal(p.is_astray,
                         rows[i].change == goes_astray || rows[i].change == v6_goes_astray);
        assert_int_equal(p.seen.family != 0, p.exit_address == H);
    }
}

/* Nothing tested is no proof. */
static void test_nothing(void **state)
{
    const mvpn_proof_observation nothing = {.own_count = 0};
    mvpn_proof p;
    (void)state;
    mvpn_proof_judge(&nothing, &p);
    assert_int_equal(p.exit_address, U);
    assert_false(mvpn_proof_holds(&p));
}

/* Relay `i`: a /16 and a provider of its own. */
static mvpn_descriptor relay(unsigned i, uint16_t stun_port)
{
    mvpn_descriptor d = {.roles = MVPN_ROLE_MIDDLE, .address_count = 1, .stun_port_v4 = stun_port};
    d.identity.b[0] = (uint8_t)i;
    d.addresses[0] = (mvpn_descriptor_address){
        MVPN_CARRIER_PLAIN, {.family = 4, .port = 443, .ip = {20, (uint8_t)i, 1, 1}}};
    d.provider[0] = (char)('A' + i);
    return d;
}

enum { GUARD = 1, MIDDLE, EXIT, WITNESS, SECOND, SILENT, SIBLING, WITHDRAWN, OTHER_GUARD, LAST };

static void test_witnesses(void **state)
{
    mvpn_view *view = test_view_new();
    mvpn_path path = {.count = 3};
    mvpn_guards *guards = test_calloc(1, sizeof(*guards));
    mvpn_rng rng;
    mvpn_addr found[MVPN_PROOF_WITNESSES];
    bool was_seen[LAST] = {false};
    (void)state;
    mvpn_rng_init_test(&rng, 5);
    for (unsigned i = GUARD; i < LAST; i++) {
        mvpn_descriptor d = relay(i, i == SILENT ? 0 : 3478);
        if (i == SIBLING) { /* of the exit's provider */
            d.provider[0] = (char)('A' + EXIT);
        }
        d.roles = i == WITHDRAWN ? 0 : d.roles;
        (void)test_view_add(view, &d);
    }
    for (unsigned i = 0; i < 3; i++) {
        path.hop[i].b[0] = (uint8_t)(GUARD + i);
    }
    guards->count = 1;
    guards->guard[0].identity.b[0] = OTHER_GUARD;
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(mvpn_proof_witnesses(view, &path, guards, 0, 4, &rng, found), 2);
        assert_int_equal(found[0].port, 3478);
        assert_int_not_equal(found[0].ip[1], found[1].ip[1]);
        was_seen[found[0].ip[1]] = was_seen[found[1].ip[1]] = true;
    }
    for (unsigned i = GUARD; i < LAST; i++) {
        assert_int_equal(was_seen[i], i == WITNESS || i == SECOND);
    }
    assert_int_equal(mvpn_proof_witnesses(view, &path, guards, 0, 6, &rng, found), 0);
    /* Two of one operator are one witness. */
    mvpn_descriptor d = relay(SECOND, 3478);
    d.provider[0] = (char)('A' + WITNESS);
    (void)test_view_add(view, &d);
    assert_int_equal(mvpn_proof_witnesses(view, &path, guards, 0, 4, &rng, found), 1);
    assert_int_equal(mvpn_proof_witnesses(view, &path, guards, MVPN_RELAX_PROVIDER, 4, &rng, found),
                     2);
    path.count = 0;
    assert_int_equal(mvpn_proof_witnesses(view, &path, guards, 0, 4, &rng, found), 0);
    test_free(guards);
    test_view_free(view);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_verdicts),
        cmocka_unit_test(test_nothing),
        cmocka_unit_test(test_witnesses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
