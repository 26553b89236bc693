/* From what was seen and heard to a class: a row for each verdict, and for each lie. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "network/p2p/nat_class.h"

#define NO MVPN_NAT_NOT_ASKED
#define SI MVPN_NAT_SILENT
#define HE MVPN_NAT_HEARD
#define EI MVPN_STUN_MAPPING_ENDPOINT_INDEPENDENT
#define AD MVPN_STUN_MAPPING_ADDRESS_DEPENDENT
#define AP MVPN_STUN_MAPPING_ADDRESS_AND_PORT_DEPENDENT

/* 0: not seen. */
static mvpn_addr at(unsigned port)
{
    return port == 0 ? (mvpn_addr){0}
                     : (mvpn_addr){.family = 4, .port = (uint16_t)port, .ip = {203, 0, 113, 9}};
}

static void test_mapping(void **state)
{
    (void)state;
    static const struct {
        unsigned seen[3], second[2];
        int mapping;
    } rows[] = {
        {{0, 0, 0}, {0, 0}, 0},
        {{5000, 0, 0}, {0, 0}, 0}, /* one alone says nothing */
        {{5000, 0, 0}, {6000, 6000}, 0},
        {{5000, 5000, 0}, {0, 0}, EI},
        {{5000, 5000, 5000}, {0, 0}, EI},
        {{5000, 0, 5000}, {0, 0}, EI},
        {{5000, 5000, 9}, {0, 0}, EI}, /* one lies */
        {{9, 5000, 5000}, {6000, 6001}, EI},
        {{5000, 9, 5000}, {6000, 6000}, EI},
        {{5000, 5001, 0}, {0, 0}, AP},
        {{5000, 5001, 0}, {6000, 0}, AP},
        {{5000, 5001, 0}, {6000, 6000}, AD},
        {{5000, 5001, 5002}, {6000, 6001}, AP},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        mvpn_nat_evidence e = {0};
        mvpn_nat_class c;
        for (size_t k = 0; k < 3; k++) {
            e.seen[k] = at(rows[i].seen[k]);
        }
        e.second[0] = at(rows[i].second[0]);
        e.second[1] = at(rows[i].second[1]);
        mvpn_nat_class_judge(&c, &e);
        assert_int_equal((int)c.mapping, rows[i].mapping);
        assert_int_equal(c.is_known, rows[i].mapping != 0);
    }
}

static void test_filtering(void **state)
{
    (void)state;
    static const struct {
        enum mvpn_nat_heard main_port[3], main_relay, second_port, second_relay;
        int filtering;
    } rows[] = {
        {{NO, NO, NO}, NO, NO, NO, 0},  {{HE, HE, NO}, NO, HE, HE, EI},
        {{SI, SI, NO}, NO, SI, HE, EI}, /* what comes proves itself */
        {{HE, HE, NO}, NO, HE, SI, AD}, {{SI, HE, NO}, NO, HE, SI, AD},
        {{SI, SI, NO}, NO, HE, SI, AD}, {{HE, HE, NO}, NO, HE, NO, 0},
        {{SI, SI, NO}, NO, SI, SI, AP}, {{SI, NO, SI}, NO, NO, NO, AP},
        {{SI, NO, NO}, NO, SI, SI, 0},  /* one observer's word */
        {{HE, HE, NO}, HE, SI, SI, EI}, /* the main port is open, the NAT is not */
        {{HE, HE, NO}, SI, SI, SI, AD}, {{HE, HE, NO}, NO, SI, SI, 0},
        {{HE, HE, NO}, HE, HE, SI, AD}, /* known to those relays: it says nothing */
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        mvpn_nat_class c;
        mvpn_nat_evidence e = {.main_relay = rows[i].main_relay,
                               .second_port = rows[i].second_port,
                               .second_relay = rows[i].second_relay};
        memcpy(e.main_port, rows[i].main_port, sizeof(e.main_port));
        mvpn_nat_class_judge(&c, &e);
        assert_int_equal((int)c.filtering, rows[i].filtering);
    }
}

static void test_ports(void **state)
{
    (void)state;
    static const struct {
        unsigned seen[2], second[5], own;
        enum mvpn_stun_ports ports;
        int step;
    } rows[] = {
        {{7000, 7000}, {0}, 7000, MVPN_STUN_PORTS_PRESERVING, 0},
        {{7000, 7001}, {0}, 7000, MVPN_STUN_PORTS_UNKNOWN, 0},
        {{7000, 0}, {0}, 7000, MVPN_STUN_PORTS_UNKNOWN, 0},
        {{7000, 7000}, {0}, 0, MVPN_STUN_PORTS_UNKNOWN, 0}, /* own port not known */
        {{5, 6}, {100, 101, 102, 103, 104}, 7000, MVPN_STUN_PORTS_SEQUENTIAL, 1},
        {{5, 6}, {100, 104, 102, 100, 98}, 7000, MVPN_STUN_PORTS_SEQUENTIAL, -2},
        {{5, 6}, {100, 200, 201, 203, 204}, 7000, MVPN_STUN_PORTS_SEQUENTIAL, 1}, /* a busy NAT */
        {{5, 6}, {100, 132, 164, 0, 0}, 7000, MVPN_STUN_PORTS_SEQUENTIAL, 32},
        {{5, 6}, {100, 0, 101, 0, 0}, 7000, MVPN_STUN_PORTS_UNKNOWN, 0}, /* one may be chance */
        {{5, 6}, {100, 0, 101, 0, 102}, 7000, MVPN_STUN_PORTS_SEQUENTIAL, 1},
        {{5, 6}, {900, 0, 101, 0, 102}, 7000, MVPN_STUN_PORTS_UNKNOWN, 0},
        {{5, 6}, {100, 133, 166, 199, 0}, 7000, MVPN_STUN_PORTS_RANDOM, 0},
        {{5, 6}, {100, 101, 102, 101, 0}, 7000, MVPN_STUN_PORTS_RANDOM, 0},
        {{5, 6}, {100, 100, 101, 101, 102}, 7000, MVPN_STUN_PORTS_SEQUENTIAL, 1},
        {{5, 6}, {100, 40000, 3000, 0, 0}, 7000, MVPN_STUN_PORTS_RANDOM, 0},
        {{5, 5}, {9, 9, 9, 9, 9}, 7000, MVPN_STUN_PORTS_UNKNOWN, 0},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        mvpn_nat_class c;
        mvpn_nat_evidence e = {.own = {{.family = 4, .port = (uint16_t)rows[i].own, .ip = {10}}},
                               .own_count = rows[i].own != 0};
        for (size_t k = 0; k < 2; k++) {
            e.seen[k] = at(rows[i].seen[k]);
        }
        for (size_t k = 0; k < 5; k++) {
            e.second[k] = at(rows[i].second[k]);
        }
        mvpn_nat_class_judge(&c, &e);
        assert_int_equal(c.ports, rows[i].ports);
        assert_int_equal(c.port_step, rows[i].step);
    }
}

static void test_public_and_agreed(void **state)
{
    (void)state;
    mvpn_nat_class c;
    mvpn_nat_evidence e = {.own = {{.family = 4, .port = 1, .ip = {10}}, at(7000)}, .own_count = 2};
    mvpn_nat_class_judge(&c, &e);
    assert_false(c.is_public);
    e.seen[1] = at(7000);
    mvpn_nat_class_judge(&c, &e);
    assert_true(c.is_public && !c.is_known);
    assert_null(mvpn_nat_evidence_agreed_ip(&e)); /* nothing is sent at one's word */
    e.seen[0] = at(7001);
    assert_null(mvpn_nat_evidence_agreed(&e));
    assert_non_null(mvpn_nat_evidence_agreed_ip(&e));
    e.seen[0].ip[0] = 8; /* one of two lies: neither is believed */
    mvpn_nat_class_judge(&c, &e);
    assert_false(c.is_public);
    assert_null(mvpn_nat_evidence_agreed_ip(&e));
    e.seen[2] = at(7000);
    mvpn_nat_class_judge(&c, &e);
    assert_true(c.is_public);
    assert_true(mvpn_addr_eq(mvpn_nat_evidence_agreed(&e), &e.own[1]));
}

static void test_name(void **state)
{
    (void)state;
    static const struct {
        bool is_known, is_public;
        int mapping, filtering;
        enum mvpn_stun_nat name;
    } rows[] = {
        {false, false, 0, 0, MVPN_STUN_NAT_UNKNOWN},
        {false, false, 0, EI, MVPN_STUN_NAT_UNKNOWN},
        {false, true, 0, 0, MVPN_STUN_NAT_NONE},
        {true, true, EI, AP, MVPN_STUN_NAT_NONE},
        {true, false, EI, EI, MVPN_STUN_NAT_FULL_CONE},
        {true, false, EI, AD, MVPN_STUN_NAT_RESTRICTED},
        {true, false, EI, AP, MVPN_STUN_NAT_PORT_RESTRICTED},
        {true, false, EI, 0, MVPN_STUN_NAT_PORT_RESTRICTED},
        {true, false, AD, EI, MVPN_STUN_NAT_SYMMETRIC},
        {true, false, AP, AP, MVPN_STUN_NAT_SYMMETRIC},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        const mvpn_nat_class c = {.is_known = rows[i].is_known,
                                  .is_public = rows[i].is_public,
                                  .mapping = (enum mvpn_stun_mapping)rows[i].mapping,
                                  .filtering = (enum mvpn_stun_filtering)rows[i].filtering};
        assert_int_equal(mvpn_nat_class_name(&c), rows[i].name);
    }
}

static void test_eq(void **state)
{
    (void)state;
    const mvpn_nat_class a = {.seen_count = 1, .seen = {at(1)}};
    mvpn_nat_class b[] = {a, a, a, a, a, a, a, a, a, a, a};
    b[1].is_known = true;
    b[2].is_public = true;
    b[3].mapping = MVPN_STUN_MAPPING_ADDRESS_DEPENDENT;
    b[4].filtering = MVPN_STUN_FILTERING_ADDRESS_DEPENDENT;
    b[5].hairpin = MVPN_STUN_HAIRPIN_NO;
    b[6].ports = MVPN_STUN_PORTS_RANDOM;
    b[7].port_step = 1;
    b[8].lifetime_s = 1;
    b[9].seen_count = 0;
    b[10].seen[0].port = 2;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(b); i++) {
        assert_int_equal(mvpn_nat_class_eq(&a, &b[i]), i == 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mapping), cmocka_unit_test(test_filtering),
        cmocka_unit_test(test_ports),   cmocka_unit_test(test_public_and_agreed),
        cmocka_unit_test(test_name),    cmocka_unit_test(test_eq),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
