/*
 * Hops and clients that lie: commands from the wrong hop, cells replayed or forged by a middle,
 * Extend to where a relay must not go. (docs/protocol.md §6.2, §7)
 */
#include "inet.h"
#include "puppet.h"
#include "scenario.h"

#include <stdlib.h>
#include <string.h>

#include "core/relay_internal.h"
#include "crypto/x25519.h"
#include "network/ip/testing.h"

typedef struct world {
    sim *w;
    sim_node *client;
    sim_node *hop[4]; /* 1 = guard */
    inet_host host;
} world;

static void world_begin(world *t, uint64_t seed)
{
    t->w = sim_standard(seed, 2, 1, 3);
    t->client = sim_client(t->w);
    memcpy(t->hop + 1, t->w->node, 3 * sizeof(t->hop[0]));
    sim_fix_path(t->client, t->hop + 1, 3);
    inet_host_attach(&t->host, t->client);
    sim_start(t->client);
}

static void world_free(world *t)
{
    inet_host_done(&t->host);
    sim_free(t->w);
}

static mvpn_relay *relay_of(sim_node *n)
{
    return (mvpn_relay *)(uintptr_t)mvpn_engine_relay(n->engine);
}

/* The one circuit of a relay. */
static relay_circuit *circuit_of(sim_node *n)
{
    mvpn_relay *relay = relay_of(n);
    MVPN_ASSERT(relay->circuit_count == 1);
    return MVPN_CONTAINER_OF(relay->circuits.next, relay_circuit, all);
}

static mvpn_packet *packet_of(sim_node *n, const uint8_t *data, size_t len)
{
    mvpn_packet *p = mvpn_packet_new(mvpn_engine_pool(n->engine));
    MVPN_ASSERT(p != NULL);
    memcpy(mvpn_packet_append(p, (uint32_t)len), data, len);
    return p;
}

/* The relay, with its own key, says something to the client that only another may say. */
static void answer_as(sim_node *n, unsigned command, const uint8_t *data, size_t len)
{
    mvpn_cell_kind kind = {(uint16_t)command, 1, MVPN_SIZE_CLASSES};
    sim_current = n;
    relay_answer(relay_of(n), circuit_of(n), &kind, packet_of(n, data, len), n->world->now);
    sim_current = NULL;
    sim_touch(n);
}

/* Bodies that the right hop could have sent. */
static size_t plausible_body(unsigned command, uint8_t *out)
{
    static const uint8_t from[4] = {9, 9, 9, 9}, to[4] = {10, 8, 0, 2};
    uint8_t handshake[48] = {1};
    static const uint8_t ticket[MVPN_TICKET_LEN] = {1};
    mvpn_connected connected = {
        .request_id = 1, .flags = MVPN_CONNECTED_IPV4, .ticket = MVPN_BYTES_ARRAY(ticket)};
    mvpn_extended extended = {.request_id = 1, .part = {48, 0, MVPN_BYTES_ARRAY(handshake)}};
    uint8_t packet[64];
    size_t n;
    switch (command) {
    case MVPN_CMD_RELAY_CONNECTED:
        return mvpn_connected_encode(out, 100, &connected);
    case MVPN_CMD_EXTENDED:
        return mvpn_extended_encode(out, 100, &extended);
    case MVPN_CMD_RELAY_DATA: /* a whole packet to the client */
        n = build_udp(packet, 4, from, 7, to, 40000, 20);
        mvpn_store16(out, (uint16_t)n);
        memcpy(out + 2, packet, n);
        return n + 2;
    case MVPN_CMD_RELAY_END:
        out[0] = MVPN_REASON_FINISHED;
        return 1;
    default:
        memset(out, 0, 8);
        return 8;
    }
}

static const struct {
    const char *name;
    unsigned command;
    bool is_allowed; /* from any hop */
} lies[] = {
    {"Connected", MVPN_CMD_RELAY_CONNECTED, false},
    {"Data", MVPN_CMD_RELAY_DATA, false},
    {"End", MVPN_CMD_RELAY_END, false},
    {"Extended", MVPN_CMD_EXTENDED, false},
    {"Extend", MVPN_CMD_EXTEND, false},
    {"Begin", MVPN_CMD_RELAY_BEGIN, false},
    {"Ping", MVPN_CMD_RELAY_PING, false},
    {"Create", MVPN_CMD_CREATE, false},
    {"Created", MVPN_CMD_CREATED, false},
    {"Destroy", MVPN_CMD_DESTROY, false},
    {"RelayEarly", MVPN_CMD_RELAY_EARLY, false},
    {"Drop", MVPN_CMD_RELAY_DROP, true},
    {"Pong", MVPN_CMD_RELAY_PONG, true}, /* to a ping given up, for all it knows */
    {"unknown", 0x3f01, true},
};

/* In a running session, guard and middle say it. */
static void wrong_hop(uint64_t seed)
{
    for (unsigned hop = 1; hop <= 2; hop++) {
        for (size_t i = 0; i < MVPN_ARRAY_LEN(lies); i++) {
            world t;
            uint8_t body[200];
            check_context("%s from hop %u", lies[i].name, hop);
            world_begin(&t, seed + i);
            REQUIRE(sim_connect(t.client, MVPN_S(5)), world_free(&t); return );
            sim_for(t.w, MVPN_S(2));
            uint64_t packets = t.host.packets;
            size_t len = plausible_body(lies[i].command, body);
            answer_as(t.hop[hop], lies[i].command, body, len);
            sim_for(t.w, MVPN_MS(100));
            CHECK(t.client->switched == (lies[i].is_allowed ? 0 : 1));
            CHECK(t.host.packets == packets);
            CHECK(sim_connect(t.client, MVPN_S(5)));
            CHECK(inet_echo(t.client, 4, 100, MVPN_S(2)));
            world_free(&t);
        }
    }
}

static bool drop_from_exit(sim *w, sim_node *from, sim_node *to, sim_datagram *d)
{
    (void)to;
    (void)d;
    return from != w->node[2];
}

/* While the client waits for the answer of a hop further on. */
static void wrong_hop_while_building(uint64_t seed)
{
    for (unsigned hop = 1; hop <= 2; hop++) {
        for (size_t i = 0; i < MVPN_ARRAY_LEN(lies); i++) {
            world t;
            uint8_t body[200];
            bool is_last = hop == 2; /* whose Extended is awaited: its refusal would be honest */
            if (is_last && lies[i].command == MVPN_CMD_EXTENDED) {
                continue;
            }
            check_context("%s from hop %u", lies[i].name, hop);
            world_begin(&t, seed + i);
            t.w->tap = drop_from_exit;
            sim_for(t.w, MVPN_MS(400));
            REQUIRE(circuit_of(t.hop[2])->state == CIRCUIT_EXTENDING, world_free(&t); return );
            size_t len = plausible_body(lies[i].command, body);
            answer_as(t.hop[hop], lies[i].command, body, len);
            sim_for(t.w, MVPN_MS(100));
            CHECK(t.client->build_failed == (lies[i].is_allowed ? 0 : 1));
            CHECK(lies[i].is_allowed || t.client->last_failure.error == MVPN_E_PROTOCOL);
            CHECK(lies[i].is_allowed || t.client->last_failure.hop == hop);
            t.w->tap = NULL;
            CHECK(sim_connect(t.client, MVPN_S(20)));
            world_free(&t);
        }
    }
}

static bool drop_cells_from_exit(sim *w, sim_node *from, sim_node *to, sim_datagram *d)
{
    (void)to;
    return from != w->node[2] || d->len < 200 || d->len > 1000;
}

/* While the client waits for the exit's Connected. */
static void wrong_hop_while_beginning(uint64_t seed)
{
    for (size_t i = 0; i < MVPN_ARRAY_LEN(lies); i++) {
        world t;
        uint8_t body[200];
        check_context("%s", lies[i].name);
        world_begin(&t, seed + i);
        t.w->tap = drop_cells_from_exit; /* Created is of another size */
        sim_for(t.w, MVPN_MS(700));
        REQUIRE(circuit_of(t.hop[3])->session != NULL, world_free(&t); return );
        size_t len = plausible_body(lies[i].command, body);
        uint64_t circuits = relay_of(t.hop[1])->counters.created;
        answer_as(t.hop[2], lies[i].command, body, len);
        sim_for(t.w, MVPN_MS(100));
        CHECK(t.client->connected == 0);
        CHECK(relay_of(t.hop[1])->counters.created == circuits + (lies[i].is_allowed ? 0 : 1));
        world_free(&t);
    }
}

/* RelayEarly goes forward only: on the link too. */
static void early_backward(uint64_t seed)
{
    for (unsigned hop = 1; hop <= 3; hop++) {
        world t;
        uint8_t body[MVPN_CELL_SMALL] = {0};
        mvpn_header h = {.command = MVPN_CMD_RELAY_EARLY, .length = 100};
        check_context("hop %u", hop);
        world_begin(&t, seed);
        REQUIRE(sim_connect(t.client, MVPN_S(5)), world_free(&t); return );
        sim_current = t.hop[hop];
        relay_send(relay_of(t.hop[hop]), &circuit_of(t.hop[hop])->prev, &h,
                   packet_of(t.hop[hop], body, sizeof(body)), false, t.w->now);
        sim_current = NULL;
        sim_touch(t.hop[hop]);
        sim_for(t.w, MVPN_MS(100));
        CHECK(t.client->switched == 1);
        world_free(&t);
    }
}

/* ---- what a hostile middle sends on ---- */

#define KEPT 64
static struct {
    const sim_node *from;
    const mvpn_link *link;
    size_t count;
    struct {
        mvpn_header header;
        uint8_t body[MVPN_BODY_MAX];
        size_t len;
    } cell[KEPT];
} kept;

int __real_mvpn_link_send(mvpn_link *link, mvpn_packet *packet, const mvpn_header *header,
                          bool acked, mvpn_time now);
int __wrap_mvpn_link_send(mvpn_link *link, mvpn_packet *packet, const mvpn_header *header,
                          bool acked, mvpn_time now);
int __wrap_mvpn_link_send(mvpn_link *link, mvpn_packet *packet, const mvpn_header *header,
                          bool acked, mvpn_time now)
{
    if (kept.from != NULL && sim_current == kept.from && link == kept.link && kept.count < KEPT &&
        mvpn_command_is_relay(header->command)) {
        kept.cell[kept.count].header = *header;
        kept.cell[kept.count].len = packet->len;
        memcpy(kept.cell[kept.count++].body, packet->data, packet->len);
    }
    return __real_mvpn_link_send(link, packet, header, acked, now);
}

static void send_kept(sim_node *n, mvpn_link *link, size_t i, const uint8_t *body)
{
    sim_current = n;
    MVPN_IGNORE(__real_mvpn_link_send(link, packet_of(n, body, kept.cell[i].len),
                                      &kept.cell[i].header, false, n->world->now));
    sim_current = NULL;
    sim_touch(n);
}

/* The middle sends the exit, or the client, cells of before, and cells of its own make. */
static void replays(uint64_t seed)
{
    for (int forward = 0; forward <= 1; forward++) {
        world t;
        check_context(forward ? "to the exit" : "to the client");
        world_begin(&t, seed);
        REQUIRE(sim_connect(t.client, MVPN_S(5)), world_free(&t); return );
        sim_for(t.w, MVPN_S(2));
        kept.from = t.hop[2];
        kept.link = forward ? circuit_of(t.hop[2])->next.link : circuit_of(t.hop[2])->prev.link;
        kept.count = 0;
        for (unsigned i = 0; i < 20; i++) {
            CHECK(inet_echo(t.client, 4, 100, MVPN_S(1)));
        }
        kept.from = NULL;
        CHECK(kept.count >= 20);
        uint64_t at_server = t.w->inet_packets, packets = t.host.packets;
        uint64_t from_exit = t.hop[3]->sent;
        sim_for(t.w, MVPN_MS(100));
        for (size_t i = 0; i < kept.count; i++) {
            uint8_t forged[MVPN_BODY_MAX];
            send_kept(t.hop[2], (mvpn_link *)(uintptr_t)kept.link, i, kept.cell[i].body);
            memcpy(forged, kept.cell[i].body, kept.cell[i].len);
            forged[i] ^= 1;
            kept.cell[i].header.counter += 100; /* not seen yet */
            send_kept(t.hop[2], (mvpn_link *)(uintptr_t)kept.link, i, forged);
        }
        sim_for(t.w, MVPN_MS(100));
        CHECK(t.w->inet_packets == at_server);
        CHECK(t.host.packets == packets);
        CHECK(!forward || t.hop[3]->sent == from_exit); /* the exit says nothing about it */
        CHECK(inet_echo(t.client, 4, 100, MVPN_S(1)));
        CHECK(t.client->disconnected == 0);
        world_free(&t);
    }
}

/* ---- extends ---- */

static struct {
    unsigned elsewhere;
} targets;

/* Counts what a relay sends to anybody but the puppet and relays of the world. */
static bool targets_tap(sim *w, sim_node *from, sim_node *to, sim_datagram *d)
{
    (void)w;
    (void)d;
    if (to == NULL && from->kind != SIM_PUPPET) {
        targets.elsewhere++;
    }
    return true;
}

enum whom {
    TO_LOOPBACK,
    TO_LOOPBACK_V6,
    TO_PRIVATE,
    TO_LINK_LOCAL,
    TO_METADATA,
    TO_MAPPED_LOOPBACK,
    TO_OWN_ADDRESS,
    TO_NOBODY_DESCRIBED,
    TO_SELF,
    TO_FORGED,
    TO_NON_MEMBER,
    TO_EXPIRED,
    TO_ANOTHER_NETWORK,
    TO_OTHERS_DESCRIPTOR,
    TO_STRANGER, /* allowed: a member that the relay did not know */
    TO_COUNT,
};

static const char *const whom_name[TO_COUNT] = {
    "loopback",        "IPv6 loopback",        "private", "link-local", "metadata",  "mapped",
    "own address",     "undescribed",          "self",    "forged",     "no member", "expired",
    "another network", "another's descriptor", "stranger"};

/* A relay that only the puppet knows of, as a descriptor. */
static void make_stranger(sim *w, enum whom whom, const sim_node *guard, mvpn_descriptor *ret)
{
    sim_node *n = sim_add(w, SIM_RELAY);
    mvpn_key network_id = w->network_id;
    mvpn_descriptor *d = &n->descriptor;
    const char *text = NULL;
    d->address_count = 1;
    if (whom == TO_LOOPBACK) {
        text = "127.0.0.1:443";
    } else if (whom == TO_LOOPBACK_V6) {
        text = "[::1]:443";
    } else if (whom == TO_PRIVATE) {
        text = "192.168.1.1:443";
    } else if (whom == TO_LINK_LOCAL) {
        text = "[fe80::1]:443";
    } else if (whom == TO_METADATA) {
        text = "169.254.169.254:443";
    } else if (whom == TO_MAPPED_LOOPBACK) {
        text = "[2002:7f00:1::1]:443";
    } else if (whom == TO_OWN_ADDRESS) {
        d->addresses[0].addr = guard->addr[0];
        d->addresses[0].addr.port = 8443;
    } else if (whom == TO_NON_MEMBER) {
        mvpn_ed25519_pub pub;
        mvpn_ed25519_secret secret;
        mvpn_ed25519_generate(&pub, &secret, &w->rng);
        mvpn_membership_make(d->membership, &secret, &d->identity, d->roles, SIM_UNIX - 1000,
                             SIM_UNIX + 1000, 1, &network_id);
    } else if (whom == TO_EXPIRED) {
        d->published = SIM_UNIX - 100000;
        d->expires = SIM_UNIX - 5000;
    } else if (whom == TO_ANOTHER_NETWORK) {
        network_id.b[0] ^= 1;
    }
    if (text != NULL) {
        MVPN_IGNORE(mvpn_addr_parse(text, &d->addresses[0].addr));
    }
    int r = mvpn_descriptor_sign(d, &n->secret, &network_id);
    MVPN_ASSERT(r == 0);
    if (whom == TO_FORGED) {
        d->encoded[d->encoded_len - 1] ^= 1;
    }
    *ret = *d;
}

static void extend_refused(uint64_t seed)
{
    for (enum whom whom = 0; whom < TO_COUNT; whom++) {
        sim *w = sim_new(seed + whom);
        sim_node *guard = sim_add(w, SIM_RELAY), *middle = sim_add(w, SIM_RELAY);
        mvpn_descriptor target, sent;
        mvpn_extended m;
        check_context("to %s", whom_name[whom]);
        sim_start(guard);
        sim_start(middle);
        puppet *p = puppet_new(w);
        puppet_circuit *c = puppet_build(p, &guard, 1);
        REQUIRE(c != NULL, puppet_free(p); sim_free(w); return );
        targets.elsewhere = 0;
        w->tap = targets_tap;
        make_stranger(w, whom, guard, &target);
        sent = target;
        if (whom == TO_SELF) {
            target = guard->descriptor;
            sent = target;
        } else if (whom == TO_OTHERS_DESCRIPTOR) {
            sent = middle->descriptor;
        } else if (whom == TO_STRANGER) {
            sim_start(w->node[w->node_count - 1]);
        }
        puppet_extend(p, c, &target, whom == TO_NOBODY_DESCRIBED ? NULL : &sent, true);
        sim_for(w, MVPN_S(2));
        CHECK(c->answers == 1 && c->command == MVPN_CMD_EXTENDED);
        CHECK(mvpn_extended_decode(&m, mvpn_bytes_of(c->data, c->len)) == 0);
        CHECK((m.status == 0) == (whom == TO_STRANGER));
        CHECK(targets.elsewhere == 0);
        CHECK(sim_links(middle) == 0); /* nor is anybody else asked */
        if (whom != TO_STRANGER) {     /* the circuit lives and may go elsewhere */
            c->answers = 0;
            puppet_extend(p, c, &middle->descriptor, NULL, true);
            sim_for(w, MVPN_S(2));
            CHECK(c->answers == 1);
            CHECK(mvpn_extended_decode(&m, mvpn_bytes_of(c->data, c->len)) == 0 && m.status == 0);
        }
        puppet_free(p);
        sim_free(w);
    }
}

/* Back to where the circuit came from; a second next hop; in a plain Relay cell. */
static void extend_wrongly(uint64_t seed)
{
    for (unsigned i = 0; i < 3; i++) {
        sim *w = sim_standard(seed + i, 4, 0, 3);
        mvpn_extended m;
        puppet *p = puppet_new(w);
        puppet_circuit *c = puppet_build(p, w->node, i == 2 ? 1 : 2);
        REQUIRE(c != NULL, puppet_free(p); sim_free(w); return );
        if (i == 0) {
            check_context("to the predecessor");
            puppet_extend(p, c, &w->node[0]->descriptor, NULL, true);
            sim_for(w, MVPN_S(2));
            CHECK(c->answers == 1 && c->command == MVPN_CMD_EXTENDED && c->hop == 2);
            CHECK(mvpn_extended_decode(&m, mvpn_bytes_of(c->data, c->len)) == 0);
            CHECK(m.status == MVPN_REASON_REFUSED);
        } else if (i == 1) {
            check_context("a second next hop");
            c->c.onion.count = 1; /* the cell ends at the guard, which has a next hop */
            puppet_extend(p, c, &w->node[2]->descriptor, NULL, true);
            sim_for(w, MVPN_S(2));
            CHECK(c->is_destroyed);
        } else {
            check_context("in a Relay cell");
            puppet_extend(p, c, &w->node[1]->descriptor, NULL, false);
            sim_for(w, MVPN_S(2));
            CHECK(c->is_destroyed && c->answers == 0);
        }
        puppet_free(p);
        sim_free(w);
    }
}

/* Eight RelayEarly cells a circuit and no more, at every hop. */
static void early_limit(uint64_t seed)
{
    for (unsigned hops = 1; hops <= 3; hops++) {
        sim *w = sim_standard(seed, 3, 0, 3);
        puppet *p = puppet_new(w);
        puppet_circuit *c = puppet_build(p, w->node, hops);
        check_context("%u hops", hops);
        REQUIRE(c != NULL, puppet_free(p); sim_free(w); return );
        unsigned left = 8 - (hops - 1); /* at the guard: each Extend was one */
        for (unsigned i = 0; i < left; i++) {
            uint8_t token[8] = {(uint8_t)(i + 1)};
            puppet_send(p, c, hops, MVPN_CMD_RELAY_PING, true, token, sizeof(token));
            sim_for(w, MVPN_MS(200));
        }
        CHECK(!c->is_destroyed && c->answers == left);
        puppet_send(p, c, hops, MVPN_CMD_RELAY_DROP, true, (const uint8_t *)"x", 1);
        sim_for(w, MVPN_MS(500));
        CHECK(c->is_destroyed);
        sim_for(w, MVPN_S(1));
        CHECK(sim_circuits_total(w) == 0);
        puppet_free(p);
        sim_free(w);
    }
}

/* The tenth hop cannot exist: nine Extends in one circuit, each with a new relay. */
static void too_many_hops(uint64_t seed)
{
    sim *w = sim_standard(seed, 9, 0, 3);
    puppet *p = puppet_new(w);
    puppet_circuit *c = puppet_build(p, w->node, 5); /* the client's own bound */
    REQUIRE(c != NULL, puppet_free(p); sim_free(w); return );
    for (unsigned i = 0; i < 4; i++) { /* refused ones count: four of eight are used up */
        puppet_extend(p, c, &w->node[4]->descriptor, NULL, true); /* to itself */
        sim_for(w, MVPN_MS(500));
        CHECK(!c->is_destroyed);
    }
    CHECK(c->answers == 4);
    puppet_extend(p, c, &w->node[5]->descriptor, NULL, true);
    sim_for(w, MVPN_S(1));
    CHECK(c->is_destroyed);
    CHECK(sim_circuits(w->node[5]) == 0);
    puppet_free(p);
    sim_free(w);
}

int main(int argc, char **argv)
{
    static const scenario scenarios[] = {
        {"wrong_hop", wrong_hop},
        {"wrong_hop_while_building", wrong_hop_while_building},
        {"wrong_hop_while_beginning", wrong_hop_while_beginning},
        {"early_backward", early_backward},
        {"replays", replays},
        {"extend_refused", extend_refused},
        {"extend_wrongly", extend_wrongly},
        {"early_limit", early_limit},
        {"too_many_hops", too_many_hops},
    };
    return scenario_main(argc, argv, scenarios, MVPN_ARRAY_LEN(scenarios));
}
