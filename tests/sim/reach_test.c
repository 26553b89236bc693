/*
 * Reaching relays behind NATs: every pair of NAT types, through a NAT relay at once and directly
 * where that is possible; loss, forgotten mappings, moves, NAT relays that go. (docs/protocol.md
 * §14)
 */
#include "scenario.h"
#include "sim.h"

#include <string.h>

#include "base/bytes.h"

#define HOPS_DELAY MVPN_MS(20) /* one way between any two */

static const char *const types[] = {"public", "full",   "addr",   "port",
                                    "sym",    "symseq", "double", "doublesym"};

typedef struct home {
    sim_node *node;
    nat_box *box; /* the innermost; NULL: public */
} home;

typedef struct lab {
    sim *w;
    sim_node *relay[2]; /* NAT relays */
    home a, b;
    mvpn_link *link; /* a's with b */
} lab;

static mvpn_connector *connector_of(const sim_node *n)
{
    return mvpn_engine_connector(n->engine);
}

static void target_of(const sim_node *n, mvpn_link_target *ret)
{
    *ret = (mvpn_link_target){.identity = n->config.identity,
                              .link_key = n->config.link_key.pub,
                              .addr = n->addr[0],
                              .serial = mvpn_descriptor_serial(&n->descriptor)};
}

static void make_home(lab *l, home *h, const char *type)
{
    h->node = sim_add(l->w, SIM_RELAY);
    h->box = sim_add_home(l->w, type);
    if (h->box != NULL) {
        h->node->config.is_guest = true;
        sim_put_behind(h->node, h->box);
    }
}

static void register_home(lab *l, home *h)
{
    mvpn_link_target relays[2];
    target_of(l->relay[0], &relays[0]);
    target_of(l->relay[1], &relays[1]);
    mvpn_connector_register(connector_of(h->node), relays, 2, l->w->now);
    sim_touch(h->node);
}

static lab *lab_new(uint64_t seed, const char *a, const char *b)
{
    static lab one;
    one.w = sim_new(seed);
    one.w->path.delay = HOPS_DELAY;
    one.link = NULL;
    for (size_t i = 0; i < 2; i++) {
        one.relay[i] = sim_add(one.w, SIM_RELAY);
        one.relay[i]->config.is_nat_relay = true;
    }
    make_home(&one, &one.a, a);
    make_home(&one, &one.b, b);
    for (size_t i = 0; i < one.w->node_count; i++) {
        sim_start(one.w->node[i]);
    }
    register_home(&one, &one.a);
    register_home(&one, &one.b);
    sim_for(one.w, MVPN_S(6));
    return &one;
}

/* a calls b. */
static bool call(lab *l, const char *type)
{
    mvpn_connector_binding binding[MVPN_CONNECTOR_BINDINGS];
    mvpn_link_target target;
    target_of(l->b.node, &target);
    if (strcmp(type, "public") != 0) {
        size_t n = mvpn_connector_bindings(connector_of(l->b.node), binding);
        target.addr = (mvpn_addr){0};
        for (size_t i = 0; i < n && binding[i].is_registered; i++) {
            mvpn_link_target relay;
            target_of(l->relay[i], &relay);
            target.via[target.via_count++] = (mvpn_link_via){.identity = relay.identity,
                                                             .link_key = relay.link_key,
                                                             .addr = relay.addr,
                                                             .serial = relay.serial,
                                                             .rendezvous = binding[i].rendezvous};
        }
        if (target.via_count == 0) {
            return false;
        }
    }
    if (mvpn_links_open(mvpn_engine_links(l->a.node->engine), &target, l->w->now, &l->link) != 0) {
        return false;
    }
    mvpn_link_hold(l->link);
    sim_touch(l->a.node);
    return true;
}

static void info(const lab *l, mvpn_connection_info *ret)
{
    mvpn_connector_info(connector_of(l->a.node), l->link, ret);
}

static mvpn_link *other_end(const lab *l)
{
    return mvpn_links_find(mvpn_engine_links(l->b.node->engine), &l->a.node->config.identity);
}

static bool is_open(sim *w, void *arg)
{
    const lab *l = arg;
    (void)w;
    return mvpn_link_is_open(l->link);
}

static bool is_direct(sim *w, void *arg)
{
    const lab *l = arg;
    mvpn_connection_info i;
    (void)w;
    info(l, &i);
    return i.type == MVPN_CONNECTION_DIRECT && i.state == MVPN_CONNECTION_ESTABLISHED;
}

static void show(const lab *l)
{
    mvpn_connection_event e[MVPN_CONNECTOR_HISTORY];
    size_t n = mvpn_connector_history(connector_of(l->a.node), e);
    for (size_t i = 0; i < n; i++) {
        say("  %8.3f %s: %s", (double)(e[i].at - SIM_START) / 1e6,
            mvpn_connection_state_text(e[i].state), mvpn_connection_reason_text(e[i].reason));
    }
}

static bool depends_on_port(const char *type)
{
    return strstr(type, "sym") != NULL;
}

/* tests/netns/nat_punch.sh: mapping that depends on the peer against a filter that looks at ports;
 * then a birthday if the other's mapping is fixed, a guess if the ports are in sequence. */
static bool is_possible(const char *a, const char *b)
{
    return !depends_on_port(a) || !depends_on_port(b);
}

static void check_pair(uint64_t seed, const char *a, const char *b)
{
    check_context("%s calls %s, seed %llu", a, b, (unsigned long long)seed);
    lab *l = lab_new(seed, a, b);
    REQUIRE(call(l, b), sim_free(l->w));
    mvpn_time from = l->w->now;
    CHECK(sim_run_until(l->w, is_open, l, MVPN_S(3)));
    double opened = (double)(l->w->now - from) / 1e6;
    mvpn_time opened_at = l->w->now;
    bool came = sim_run_until(l->w, is_direct, l, MVPN_S(10));
    double direct = (double)(l->w->now - opened_at) / 1e6;
    mvpn_connection_info i;
    info(l, &i);
    say("%-9s %-9s open %.3f %s %.3f rounds %u", a, b, opened, came ? "direct" : "relay ", direct,
        i.rounds);
    CHECK(opened <= 4 * 0.081); /* two round trips through the NAT relay */
    bool is_both_seq = strcmp(a, "symseq") == 0 && strcmp(b, "symseq") == 0;
    CHECK(is_both_seq || came == is_possible(a, b));
    sim_for(l->w, MVPN_S(5));
    CHECK(mvpn_link_is_open(l->link) && other_end(l) != NULL);
    if (came != is_possible(a, b) || opened > 0.33) {
        show(l);
    }
    sim_free(l->w);
}

static void matrix(uint64_t seed)
{
    for (size_t a = 0; a < MVPN_ARRAY_LEN(types); a++) {
        for (size_t b = 0; b < MVPN_ARRAY_LEN(types); b++) {
            check_pair(seed, types[a], types[b]);
        }
    }
}

int main(int argc, char **argv)
{
    static const scenario all[] = {
        {"matrix", matrix},
    };
    return scenario_main(argc, argv, all, MVPN_ARRAY_LEN(all));
}
