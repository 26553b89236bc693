/*
 * What nat_probe finds out about each kind of NAT is what the box was configured as: mapping,
 * filtering, hairpin, ports, lifetime; on real links, and with loss. (docs/protocol.md §14.6)
 *
 *   node 0 at 192.168.1.2 -- box [-- carrier's box] -- relays 1, 2, 3
 */
#include "nat.h"
#include "network/p2p/probenet.h"

struct home {
    struct probenet w;
    nat_box *box, *carrier; /* innermost, and the one it is behind; NULL: none */
};

static const mvpn_addr inside = {.family = 4, .port = 7000, .ip = {192, 168, 1, 2}};
static const mvpn_addr inner = {.family = 4, .ip = {100, 64, 0, 9}};
static const mvpn_addr outside = {.family = 4, .ip = {198, 51, 100, 1}};

/* Out through the boxes as far as it must, and in again; all at the moment of sending. */
static bool through(struct probenet *w, struct net_datagram *d)
{
    struct home *h = w->ctx;
    nat_box *boxes[] = {h->box, h->carrier};
    mvpn_time now = w->net->now;
    size_t count = h->carrier != NULL ? 2 : h->box != NULL ? 1 : 0;
    bool is_from_inside = mvpn_addr_ip_eq(&d->from, &inside);
    for (size_t i = 0; is_from_inside && i < count; i++) {
        bool is_hairpin = mvpn_addr_ip_eq(&d->to, nat_outside(boxes[i]));
        if ((is_hairpin && !nat_config_of(boxes[i])->hairpin) ||
            !nat_out(boxes[i], &d->from, &d->to, now, &d->from)) {
            return false;
        }
        if (is_hairpin) {
            count = i + 1;
        }
    }
    for (size_t i = count; i-- > 0;) {
        if (mvpn_addr_ip_eq(&d->to, nat_outside(boxes[i])) &&
            !nat_in(boxes[i], &d->from, &d->to, now, &d->to)) {
            return false;
        }
    }
    return true;
}

static void home_start(struct home *h, uint64_t seed, const nat_config *box,
                       const nat_config *carrier, bool measures_lifetime)
{
    const struct probenet_config c = {.seed = seed,
                                      .asker = box != NULL ? inside : net_addr(0),
                                      .measures_lifetime = measures_lifetime};
    probenet_start(&h->w, &c);
    h->box = h->carrier = NULL;
    if (carrier != NULL) {
        h->carrier = nat_new(carrier, &outside, NULL, seed + 1);
    }
    if (box != NULL) {
        h->box = nat_new(box, carrier != NULL ? &inner : &outside, h->carrier, seed + 2);
    }
    h->w.way = through;
    h->w.ctx = h;
    probenet_join_relays(&h->w);
}

static void home_stop(struct home *h)
{
    probenet_stop(&h->w);
    nat_free(h->box);
    nat_free(h->carrier);
}

#define EI MVPN_STUN_MAPPING_ENDPOINT_INDEPENDENT
#define AD MVPN_STUN_MAPPING_ADDRESS_DEPENDENT
#define AP MVPN_STUN_MAPPING_ADDRESS_AND_PORT_DEPENDENT

static const struct row {
    const char *name, *box, *carrier;
    enum mvpn_stun_mapping mapping;
    int filtering; /* the same three values as of mapping */
    enum mvpn_stun_ports ports;
    int step;
    enum mvpn_stun_nat shown;
} rows[] = {
    {"public", NULL, NULL, EI, EI, MVPN_STUN_PORTS_PRESERVING, 0, MVPN_STUN_NAT_NONE},
    {"full", "full", NULL, EI, EI, MVPN_STUN_PORTS_UNKNOWN, 0, MVPN_STUN_NAT_FULL_CONE},
    {"addr", "addr", NULL, EI, AD, MVPN_STUN_PORTS_UNKNOWN, 0, MVPN_STUN_NAT_RESTRICTED},
    {"port", "port", NULL, EI, AP, MVPN_STUN_PORTS_UNKNOWN, 0, MVPN_STUN_NAT_PORT_RESTRICTED},
    {"linux", "linux", NULL, EI, AP, MVPN_STUN_PORTS_PRESERVING, 0, MVPN_STUN_NAT_PORT_RESTRICTED},
    {"addrmap", "addrmap", NULL, AD, AP, MVPN_STUN_PORTS_RANDOM, 0, MVPN_STUN_NAT_SYMMETRIC},
    {"sym", "sym", NULL, AP, AP, MVPN_STUN_PORTS_RANDOM, 0, MVPN_STUN_NAT_SYMMETRIC},
    {"symseq", "symseq", NULL, AP, AP, MVPN_STUN_PORTS_SEQUENTIAL, 1, MVPN_STUN_NAT_SYMMETRIC},
    {"double", "port", "port", EI, AP, MVPN_STUN_PORTS_UNKNOWN, 0, MVPN_STUN_NAT_PORT_RESTRICTED},
    {"doublesym", "port", "sym", AP, AP, MVPN_STUN_PORTS_RANDOM, 0, MVPN_STUN_NAT_SYMMETRIC},
};

static const nat_config *type_of(const char *name, bool hairpin, nat_config *ret)
{
    if (name == NULL) {
        return NULL;
    }
    *ret = *nat_type(name);
    ret->hairpin = hairpin;
    return ret;
}

/* With that many relays known and so much loss; checks each value. */
static void check(const struct row *row, unsigned relays, bool hairpin, uint32_t loss,
                  uint64_t seed)
{
    struct home h;
    nat_config box, carrier;
    home_start(&h, seed, type_of(row->box, hairpin, &box), type_of(row->carrier, hairpin, &carrier),
               false);
    for (size_t i = FIRST_RELAY; i < FIRST_RELAY + relays; i++) {
        probenet_open(&h.w, i);
    }
    h.w.net->loss = loss;
    mvpn_time took = probenet_measure(&h.w);
    const mvpn_nat_class *c = probenet_class(&h.w);
    print_message("%-10s %u relays, hairpin %d, loss %u %%: %s, mapping %s, filtering %s, hairpin "
                  "%s, ports %s %d; %u ms\n",
                  row->name, relays, hairpin, loss, mvpn_stun_nat_name(mvpn_nat_class_name(c)),
                  mvpn_stun_mapping_name(c->mapping), mvpn_stun_filtering_name(c->filtering),
                  mvpn_stun_hairpin_name(c->hairpin), mvpn_stun_ports_name(c->ports), c->port_step,
                  (unsigned)(took / 1000));
    assert_true(c->is_known);
    assert_int_equal(c->is_public, row->box == NULL);
    assert_int_equal(c->mapping, row->mapping);
    assert_int_equal((int)c->filtering, row->filtering);
    assert_int_equal(c->ports, row->ports);
    assert_int_equal(c->port_step, row->step);
    /* What turns at a carrier's box is from a stranger to the home's. */
    bool turns = hairpin && row->carrier == NULL;
    assert_int_equal(c->hairpin, row->box == NULL ? MVPN_STUN_HAIRPIN_UNKNOWN
                                 : turns          ? MVPN_STUN_HAIRPIN_YES
                                                  : MVPN_STUN_HAIRPIN_NO);
    assert_int_equal(mvpn_nat_class_name(c), row->shown);
    assert_true(took < (loss == 0 ? MVPN_MS(2100) : MVPN_S(4)));
    assert_true(c->seen_count >= 1);
    assert_true(mvpn_addr_ip_eq(&c->seen[0], row->box == NULL ? &h.w.net->node[0].addr : &outside));
    home_stop(&h);
}

static void test_types(void **state)
{
    (void)state;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        for (unsigned relays = 2; relays <= 3; relays++) {
            check(&rows[i], relays, false, 0, 100 + i);
            check(&rows[i], relays, true, 0, 200 + i);
        }
    }
}

/* Nothing that is lost becomes a silence, at 5 % each way. */
static void test_types_with_loss(void **state)
{
    (void)state;
    for (size_t i = 0; i < 8 * MVPN_ARRAY_LEN(rows); i++) {
        check(&rows[i % MVPN_ARRAY_LEN(rows)], 3, true, 5, 300 + i);
    }
}

/* A mapping's time is known to the next lower step. */
static void test_lifetimes(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        unsigned lifetime_s, want_s;
    } times[] = {
        {"port", 20, 18},   {"sym", 20, 18},    {"port", 30, 28},
        {"full", 60, 58},   {"port", 120, 118}, {"linux", 120, 118},
        {"port", 180, 178}, {"addr", 600, 178}, {"port", 10, 0},
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(times); i++) {
        struct home h;
        nat_config c = *nat_type(times[i].name);
        c.lifetime = MVPN_S(times[i].lifetime_s);
        home_start(&h, 400 + i, &c, NULL, true);
        probenet_open(&h.w, 1);
        probenet_open(&h.w, 2);
        net_for(h.w.net, MVPN_S(1000));
        print_message("%s, %u s: %u s\n", times[i].name, times[i].lifetime_s,
                      probenet_class(&h.w)->lifetime_s);
        assert_int_equal(probenet_class(&h.w)->lifetime_s, times[i].want_s);
        assert_false(h.w.used_socket); /* it is over */
        if (times[i].want_s == 0) {    /* a probe to each question: two short ones, two long ones */
            assert_int_equal(h.w.probes[0], 18 + 4);
        }
        home_stop(&h);
    }
}

/* Another network: nothing of the old one is said any longer, and the new one is measured. */
static void test_another_network(void **state)
{
    (void)state;
    struct home h;
    home_start(&h, 500, nat_type("full"), NULL, false);
    probenet_open(&h.w, 1);
    probenet_open(&h.w, 2);
    probenet_measure(&h.w);
    assert_int_equal(mvpn_nat_class_name(probenet_class(&h.w)), MVPN_STUN_NAT_FULL_CONE);
    nat_free(h.box);
    h.box = nat_new(nat_type("sym"), &outside, NULL, 7);
    mvpn_links_local_changed(h.w.net->node[0].links, h.w.net->now);
    mvpn_nat_probe_network_changed(h.w.probe[0], h.w.net->now);
    assert_false(probenet_class(&h.w)->is_known);
    assert_int_equal(probenet_class(&h.w)->seen_count, 0);
    assert_false(mvpn_nat_probe_uses_socket(h.w.probe[0]));
    net_for(h.w.net, MVPN_S(5));
    assert_int_equal(mvpn_nat_class_name(probenet_class(&h.w)), MVPN_STUN_NAT_SYMMETRIC);
    home_stop(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_types_with_loss),
        cmocka_unit_test(test_lifetimes),
        cmocka_unit_test(test_another_network),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
