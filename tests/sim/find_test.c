/*
 * Finding each other, with whole engines: relays join by one bootstrap node, publish themselves and
 * learn of each other; clients begin with an entry, and after their first circuit ask nobody but
 * hops. (docs/protocol.md §11 to §13)
 */
#include <stdio.h>
#include <string.h>

#include "scenario.h"
#include "sim.h"

static sim *network(uint64_t seed, size_t relays, size_t exits, bool is_closed)
{
    sim *w = sim_new(seed);
    w->is_closed = is_closed;
    w->finds = true;
    w->path.delay = MVPN_MS(25);
    sim_node *bootstrap = sim_add(w, SIM_BOOTSTRAP);
    sim_add_entry(w, bootstrap);
    sim_start(bootstrap);
    for (size_t i = 0; i < relays + exits; i++) {
        sim_start(sim_add(w, i < relays ? SIM_RELAY : SIM_EXIT));
    }
    return w;
}

static size_t known(sim_node *n)
{
    return mvpn_view_count(mvpn_engine_view(n->engine));
}

/* Relays learn of each other through one bootstrap node, and a client through it too. */
static void first_start(uint64_t seed)
{
    sim *w = network(seed, 8, 3, true);
    sim_for(w, MVPN_S(60));
    for (size_t i = 0; i < w->node_count; i++) {
        CHECK(known(w->node[i]) == 12);
    }
    sim_node *client = sim_add(w, SIM_CLIENT);
    sim_start(client);
    CHECK(sim_connect(client, MVPN_S(3)));
    CHECK(known(client) == 12);
    sim_free(w);
}

static mvpn_time armed;
static size_t strangers;

/* After a client is connected it talks to its guards alone. */
static bool watch_client(sim *w, sim_node *from, sim_node *to, sim_datagram *d)
{
    mvpn_client_status status;
    (void)d;
    if (from->kind != SIM_CLIENT || armed == 0 || w->now < armed) {
        return true;
    }
    sim_status(from, &status);
    bool is_guard = to != NULL && to->kind != SIM_BOOTSTRAP;
    strangers += !is_guard || sim_links(from) > 3;
    return true;
}

static void only_guards_after_ready(uint64_t seed)
{
    sim *w = network(seed, 10, 3, true);
    sim_for(w, MVPN_S(60));
    sim_node *client = sim_add(w, SIM_CLIENT);
    w->tap = watch_client;
    strangers = 0;
    armed = 0;
    sim_start(client);
    CHECK(sim_connect(client, MVPN_S(5)));
    armed = w->now;
    sim_stop(w->node[0], false); /* the bootstrap node is not needed any more */
    sim_node *late = sim_add(w, SIM_RELAY);
    w->entry_count = 0;
    sim_add_entry(w, w->node[1]);
    sim_start(late);
    sim_for(w, MVPN_S(600));
    CHECK(strangers == 0);
    CHECK(mvpn_view_find(mvpn_engine_view(client->engine), &late->config.identity) != NULL);
    armed = 0;
    sim_free(w);
}

/* A clean shutdown withdraws: nobody draws the relay any more. */
static void shutdown_withdraws(uint64_t seed)
{
    sim *w = network(seed, 6, 2, true);
    sim_for(w, MVPN_S(60));
    sim_node *leaving = w->node[3];
    CHECK(mvpn_engine_withdraw(leaving->engine, w->now));
    sim_touch(leaving);
    sim_for(w, MVPN_S(3));
    sim_stop(leaving, true);
    sim_node *client = sim_add(w, SIM_CLIENT);
    sim_start(client);
    CHECK(sim_connect(client, MVPN_S(5)));
    const mvpn_descriptor *d =
        mvpn_view_find(mvpn_engine_view(client->engine), &leaving->config.identity);
    CHECK(d == NULL || d->roles == 0);
    sim_free(w);
}

/* A clock that is wrong by an hour, a day, a year, either way: found out, corrected inside, told.
 */
static void wrong_clock(uint64_t seed)
{
    static const int64_t wrong_s[] = {3600, -3600, 4 * 3600, 86400, -86400, 31536000, -31536000};
    sim *w = network(seed, 6, 2, true);
    sim_for(w, MVPN_S(60));
    for (size_t i = 0; i < MVPN_ARRAY_LEN(wrong_s); i++) {
        mvpn_clock_reading clock;
        sim_node *client = sim_add(w, SIM_CLIENT);
        check_context("%lld s", (long long)wrong_s[i]);
        mvpn_time start = w->now;
        client->config.unix_offset_us += wrong_s[i] * (int64_t)MVPN_US_PER_S;
        sim_start(client);
        CHECK(sim_connect(client, MVPN_S(10)));
        mvpn_engine_clock(client->engine, &clock);
        say("%+lld s: connected after %.1f s, told %+lld s", (long long)wrong_s[i],
            (double)(client->connected_at - start) / 1e6, (long long)clock.measured_s);
        CHECK(clock.measured_s > -wrong_s[i] - 5 && clock.measured_s < -wrong_s[i] + 5);
        CHECK(clock.should_tell);
        sim_stop(client, true);
    }
    sim_free(w);
}

/* A bootstrap node whose clock is 40 min fast: in a closed network its word counts while it is the
 * only one, in an open one only an anchor's does. (docs/protocol.md §12) */
static void time_of_strangers(uint64_t seed)
{
    for (unsigned kind = 0; kind < 3; kind++) {
        bool is_closed = kind == 0, is_anchor = kind == 1;
        mvpn_clock_reading clock;
        sim *w = sim_new(seed);
        check_context("%s", is_closed ? "closed" : is_anchor ? "anchor" : "open");
        w->is_closed = is_closed;
        w->finds = true;
        w->path.delay = MVPN_MS(25);
        sim_node *bootstrap = sim_add(w, SIM_BOOTSTRAP);
        sim_add_entry(w, bootstrap);
        bootstrap->config.unix_offset_us += 2400 * (int64_t)MVPN_US_PER_S;
        sim_start(bootstrap);
        sim_node *client = sim_add(w, SIM_CLIENT);
        if (is_anchor) {
            client->config.anchors[client->config.anchor_count++] = bootstrap->config.identity;
        }
        sim_start(client);
        sim_for(w, MVPN_S(10));
        mvpn_engine_clock(client->engine, &clock);
        CHECK(clock.peers == (is_closed || is_anchor ? 1 : 0));
        CHECK(clock.offset_s == (is_closed || is_anchor ? clock.measured_s : 0));
        CHECK(!(is_closed || is_anchor) || (clock.measured_s > 2390 && clock.measured_s < 2410));
        sim_free(w);
    }
}

static void add_entry_v6(sim *w, const sim_node *n)
{
    mvpn_dht_contact c = {.link_key = n->config.link_key.pub, .addr = n->addr[1]};
    mvpn_dht_node_id(&c.id, &n->config.identity, &c.addr);
    w->entries[w->entry_count++] = c;
}

/* A relay or client without IPv4. */
static sim_node *add_v6_only(sim *w, enum sim_kind kind)
{
    sim_node *n = sim_add(w, kind);
    mvpn_engine_config *c = &n->config;
    n->addr[0] = kind == SIM_CLIENT
                     ? (mvpn_addr){.family = 6, .port = 443, .ip = {0x2a, 0x20, 1, [15] = 9}}
                     : n->addr[1];
    n->addr_count = 1;
    n->client.env.family = 6;
    c->has_ipv4 = false;
    c->own_addresses[0] = n->addr[0];
    c->own_address_count = kind == SIM_CLIENT ? 0 : 1;
    n->descriptor.addresses[0].addr = n->addr[0];
    n->descriptor.address_count = 1;
    return n;
}

static size_t dht_contacts(sim_node *n)
{
    mvpn_dht_status status;
    mvpn_dht_get_status(mvpn_finder_dht(mvpn_engine_finder(n->engine)), &status);
    return status.contacts;
}

/*
 * Nodes with both kinds of address stand first under IPv4 ids. Who has IPv6 alone begins by an
 * entry of that family, and a relay of this kind finds all others and is found. (§11.1)
 */
static void v6_only(uint64_t seed)
{
    sim *w = network(seed, 8, 3, true);
    sim_node *bootstrap = w->node[0];
    sim_for(w, MVPN_S(60));
    w->entry_count = 0;
    add_entry_v6(w, bootstrap);
    sim_node *client = add_v6_only(w, SIM_CLIENT);
    sim_start(client);
    CHECK(sim_connect(client, MVPN_S(5)));
    CHECK(known(client) == 12);
    sim_node *relay = add_v6_only(w, SIM_RELAY);
    sim_start(relay);
    sim_for(w, MVPN_S(120));
    CHECK(known(relay) == 13);
    for (size_t i = 0; i < 12; i++) {
        CHECK(known(w->node[i]) == 13);
    }
    sim_for(w, MVPN_S(1200)); /* the others look around every 15 min, and say then who they are */
    say("without IPv4: %zu contacts; with both: %zu", dht_contacts(relay),
        dht_contacts(w->node[3]));
    CHECK(dht_contacts(relay) >= 8);
    CHECK(dht_contacts(w->node[3]) > 12 && dht_contacts(w->node[3]) <= 24);
    sim_free(w);
}

static const scenario scenarios[] = {
    {"v6-only", v6_only},
    {"time-of-strangers", time_of_strangers},
    {"wrong-clock", wrong_clock},
    {"first-start", first_start},
    {"only-guards", only_guards_after_ready},
    {"withdraw", shutdown_withdraws},
};

int main(int argc, char **argv)
{
    return scenario_main(argc, argv, scenarios, MVPN_ARRAY_LEN(scenarios));
}
