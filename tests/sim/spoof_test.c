/*
 * Packets copied, spoofed, made up: nobody is flooded through us, nobody is locked out, nothing is
 * kept. (docs/protocol.md §4.2, §4.6)
 */
#include "inet.h"
#include "scenario.h"

#include <string.h>

static const mvpn_addr victim = {.family = 4, .port = 5555, .ip = {77, 7, 7, 7}};

static struct {
    sim_node *from, *to; /* whose packets are copied */
    unsigned copies;     /* so many packets from now on */
    unsigned times;      /* each sent so often */
    bool lose_original;
    bool is_handshake;
    unsigned seen;
    sim_datagram last;
    uint64_t packets, bytes; /* to the victim */
    uint64_t in_bytes;       /* in the victim's name */
} spoof;

static bool spoof_tap(sim *w, sim_node *from, sim_node *to, sim_datagram *d)
{
    if (mvpn_addr_eq(&d->to, &victim)) {
        spoof.packets++;
        spoof.bytes += d->len;
    }
    bool is_handshake = d->bytes[0] >> 6 == 3;
    if (from != spoof.from || to != spoof.to || is_handshake != spoof.is_handshake) {
        return true;
    }
    spoof.seen++;
    spoof.last = *d;
    if (spoof.copies == 0) {
        return true;
    }
    spoof.copies--;
    sim_datagram copy = *d;
    copy.from = victim;
    for (unsigned i = 0; i < spoof.times; i++) { /* they overtake the original */
        sim_inject(w, &copy, MVPN_MS(1) + i * 100);
        spoof.in_bytes += copy.len;
    }
    return !spoof.lose_original;
}

typedef struct world {
    sim *w;
    sim_node *client;
    inet_host host;
} world;

static void world_begin(world *t, uint64_t seed)
{
    t->w = sim_standard(seed, 2, 1, 3);
    t->client = sim_client(t->w);
    sim_fix_path(t->client, t->w->node, 3);
    inet_host_attach(&t->host, t->client);
    memset(&spoof, 0, sizeof(spoof));
    spoof.times = 1;
    t->w->tap = spoof_tap;
}

static void world_free(world *t)
{
    inet_host_done(&t->host);
    sim_free(t->w);
}

/* One packet of a link in use, and many, in the name of a victim. */
static void copied_packets(uint64_t seed)
{
    static const struct {
        const char *name;
        unsigned from, to; /* node numbers; 3 = client */
    } links[] = {{"client to guard", 3, 0},
                 {"guard to client", 0, 3},
                 {"guard to middle", 0, 1},
                 {"middle to exit", 1, 2}};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(links); i++) {
        for (unsigned variant = 0; variant < 4; variant++) {
            world t;
            unsigned copies = variant < 2 ? 1 : 200;
            check_context("%s, %u copied, originals %s", links[i].name, copies,
                          variant % 2 == 0 ? "arrive" : "lost");
            world_begin(&t, seed + variant);
            sim_start(t.client);
            REQUIRE(sim_connect(t.client, MVPN_S(5)), world_free(&t); return );
            sim_for(t.w, MVPN_S(3));
            spoof.from = t.w->node[links[i].from];
            spoof.to = t.w->node[links[i].to];
            spoof.lose_original = variant % 2 == 1;
            spoof.copies = copies;
            for (unsigned j = 0; j < 100; j++) {
                inet_echo_send(t.client, 4, 800, j);
                sim_for(t.w, MVPN_MS(200));
            }
            spoof.copies = 0;
            sim_for(t.w, MVPN_S(5));
            CHECK(spoof.in_bytes > 0);
            CHECK(spoof.packets <= 3);
            CHECK(spoof.bytes <= 3 * spoof.in_bytes);
            if (variant < 2 || !spoof.lose_original) {
                CHECK(t.client->disconnected == 0);
            }
            CHECK(sim_connect(t.client, MVPN_S(30)));
            CHECK(inet_echo(t.client, 4, 100, MVPN_S(2)));
            if (variant == 0) {
                say("%s: the victim got %llu packets, %llu bytes", links[i].name,
                    (unsigned long long)spoof.packets, (unsigned long long)spoof.bytes);
            }
            world_free(&t);
        }
    }
}

/* A client's first packet, in the name of a victim, before its own arrives. */
static void copied_first_packet(uint64_t seed)
{
    for (unsigned times = 1; times <= 32; times *= 2) {
        world t;
        check_context("%u times", times);
        world_begin(&t, seed);
        spoof.from = t.client;
        spoof.to = t.w->node[0];
        spoof.is_handshake = true;
        spoof.copies = 1;
        spoof.times = times;
        sim_start(t.client);
        CHECK(sim_connect(t.client, MVPN_S(10))); /* not locked out */
        sim_for(t.w, MVPN_S(20));
        CHECK(spoof.packets >= 1 && spoof.packets <= 3);
        CHECK(spoof.bytes <= spoof.in_bytes);
        CHECK(sim_links(t.w->node[0]) == 2); /* the client's and the middle's */
        say("first packet copied %u times: the victim got %llu; connected after %.1f s", times,
            (unsigned long long)spoof.packets, (double)(t.client->connected_at - SIM_START) / 1e6);
        world_free(&t);
    }
}

/* Replayed first packets of a link that was confirmed: silence, from anywhere, at any time. */
static void replayed_first_packet(uint64_t seed)
{
    static const mvpn_time when[] = {MVPN_MS(1),   MVPN_S(1),    MVPN_S(10),   MVPN_S(600),
                                     MVPN_S(4000), MVPN_S(9000), MVPN_S(15000)};
    world t;
    world_begin(&t, seed);
    spoof.from = t.client;
    spoof.to = t.w->node[0];
    spoof.is_handshake = true;
    sim_start(t.client);
    REQUIRE(sim_connect(t.client, MVPN_S(5)), world_free(&t); return );
    sim_datagram first = spoof.last;
    CHECK(spoof.seen == 1);
    spoof.from = NULL;
    mvpn_time begin = t.w->now;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(when); i++) {
        check_context("after %u s", (unsigned)(when[i] / MVPN_S(1)));
        sim_run(t.w, begin + when[i]);
        uint64_t handshakes =
            mvpn_links_get_counters(mvpn_engine_links(t.w->node[0]->engine))->handshakes;
        size_t links = sim_links(t.w->node[0]);
        for (unsigned own = 0; own <= 1; own++) {
            sim_datagram d = first;
            d.from = own ? first.from : victim;
            sim_inject(t.w, &d, 1);
        }
        sim_for(t.w, MVPN_MS(5));
        CHECK(spoof.packets == 0);
        CHECK(sim_links(t.w->node[0]) == links);
        CHECK(mvpn_links_get_counters(mvpn_engine_links(t.w->node[0]->engine))->handshakes ==
              handshakes);
    }
    CHECK(t.client->disconnected == 0);
    world_free(&t);
}

/* Noise, packets that look like ours, and first packets with any byte changed: no answer, no
 * state. */
static void made_up_packets(uint64_t seed)
{
    sim *w = sim_standard(seed, 2, 1, 3);
    sim_node *guard = w->node[0], *client = sim_client(w);
    sim_datagram d = {.from = victim, .to = guard->addr[0]};
    sim_fix_path(client, w->node, 3);
    memset(&spoof, 0, sizeof(spoof));
    spoof.from = client;
    spoof.to = guard;
    spoof.is_handshake = true;
    w->tap = spoof_tap;
    sim_path_between(w, client, guard)->is_cut = true;
    sim_start(client);
    sim_for(w, MVPN_MS(50));
    sim_stop(client, false);
    CHECK(spoof.seen == 1);
    uint64_t sent = guard->sent;
    for (size_t i = 0; i < 20000; i++) {
        d.len = i % 4 == 0 ? MVPN_HANDSHAKE_LEN : mvpn_rng_below(&w->rng, SIM_DATAGRAM_MAX);
        mvpn_rng_bytes(&w->rng, d.bytes, d.len);
        if (d.len > 6 && i % 3 == 0) {
            d.bytes[0] |= 0xc0;
            mvpn_store32(d.bytes + 1, MVPN_HANDSHAKE_VERSION);
            d.bytes[5] = 8;
        } else if (d.len > 0 && i % 3 == 1) {
            d.bytes[0] = (uint8_t)((d.bytes[0] & 0x3f) | 0x40);
        }
        sim_inject(w, &d, 1);
        if (i % 100 == 0) {
            sim_for(w, MVPN_MS(1));
        }
    }
    sim_for(w, MVPN_MS(10));
    CHECK(guard->sent == sent);
    for (size_t i = 0; i < MVPN_HANDSHAKE_MAC2_AT; i++) {
        d = spoof.last;
        d.from = victim;
        d.bytes[i] ^= (uint8_t)(1u << i % 8);
        sim_inject(w, &d, 1);
        sim_for(w, MVPN_MS(1));
    }
    CHECK(guard->sent == sent);
    CHECK(sim_links(guard) == 0);
    CHECK(sim_circuits(guard) == 0);
    CHECK(sim_packets_in_use(guard) == 0);
    CHECK(mvpn_links_get_counters(mvpn_engine_links(guard->engine))->handshakes == 0);
    /* The packet itself, unchanged, is good: the checks above were not empty. */
    sim_inject(w, &spoof.last, 1);
    sim_for(w, MVPN_MS(10));
    CHECK(guard->sent == sent + 1);
    sim_free(w);
}

static unsigned replies_lost;
static mvpn_time lost_until;

static bool lose_replies(sim *w, sim_node *from, sim_node *to, sim_datagram *d)
{
    if (from == w->node[0] && to == sim_client(w) && d->bytes[0] >> 6 == 3 &&
        (w->now < lost_until || replies_lost == 0)) {
        replies_lost++;
        return false;
    }
    return true;
}

static void lost_reply(uint64_t seed)
{
    for (unsigned i = 0; i <= 8; i++) {
        world t;
        check_context("replies lost for %u s", i);
        world_begin(&t, seed);
        replies_lost = 0;
        lost_until = SIM_START + MVPN_S(i);
        t.w->tap = lose_replies;
        sim_start(t.client);
        CHECK(sim_connect(t.client, MVPN_S(i + 6)));
        CHECK(replies_lost > 0);
        say("replies lost for %u s (%u): connected after %.2f s", i, replies_lost,
            (double)(t.client->connected_at - SIM_START) / 1e6);
        world_free(&t);
    }
}

/* A client behind a new address goes on; what is under way there and back is not lost for long. */
static void roaming(uint64_t seed)
{
    world t;
    world_begin(&t, seed);
    sim_start(t.client);
    REQUIRE(sim_connect(t.client, MVPN_S(5)), world_free(&t); return );
    sim_for(t.w, MVPN_S(2));
    for (unsigned i = 0; i < 5; i++) {
        mvpn_addr addr = t.client->addr[0];
        addr.ip[3]++;
        addr.port = (uint16_t)(2000 + i);
        check_context("move %u", i);
        sim_move(t.client, &addr);
        if (i % 2 == 0) {
            mvpn_links_local_changed(mvpn_engine_links(t.client->engine), t.w->now);
            sim_touch(t.client);
        }
        (void)inet_echo(t.client, 4, 100, MVPN_S(1)); /* the first answer may go the old way */
        CHECK(inet_echo(t.client, 4, 100, MVPN_S(1)));
        sim_for(t.w, MVPN_S(15));
        CHECK(inet_echo(t.client, 4, 1200, MVPN_S(1)));
    }
    CHECK(t.client->disconnected == 0);
    world_free(&t);
}

int main(int argc, char **argv)
{
    static const scenario scenarios[] = {
        {"copied_packets", copied_packets},
        {"copied_first_packet", copied_first_packet},
        {"replayed_first_packet", replayed_first_packet},
        {"made_up_packets", made_up_packets},
        {"lost_reply", lost_reply},
        {"roaming", roaming},
    };
    return scenario_main(argc, argv, scenarios, MVPN_ARRAY_LEN(scenarios));
}
