/*
 * Finding each other among those who lie: a hostile network that answers first, discovery nodes
 * that show different lists, relays that were revoked or have died. Whole engines.
 * (docs/protocol.md §8.4 to §8.6, §12, §13)
 */
#include <stdlib.h>
#include <string.h>

#include "scenario.h"
#include "sim.h"

#define PACKETS 384

static sim_node *add(sim *w, enum sim_kind kind)
{
    sim_node *n = sim_add(w, kind);
    n->config.packet_count = PACKETS;
    return n;
}

/* Everybody of the network trusts these. */
static void trust(sim_node *n, const mvpn_ed25519_pub *anchors, size_t count)
{
    n->config.anchor_count = count;
    memcpy(n->config.anchors, anchors, count * sizeof(anchors[0]));
}

/* A bootstrap node and its relays, which know nobody else; its index. */
static size_t island(sim *w, size_t relays, size_t exits)
{
    sim_node *bootstrap = add(w, SIM_BOOTSTRAP);
    w->entry_count = 0;
    sim_add_entry(w, bootstrap);
    sim_start(bootstrap);
    for (size_t i = 0; i < relays + exits; i++) {
        sim_start(add(w, i < relays ? SIM_RELAY : SIM_EXIT));
    }
    return bootstrap->index;
}

static sim *world_new(uint64_t seed, bool is_closed)
{
    sim *w = sim_new(seed);
    w->is_closed = is_closed;
    w->finds = true;
    w->path.delay = MVPN_MS(25);
    return w;
}

static mvpn_view *view_of(const sim_node *n)
{
    return mvpn_engine_view(n->engine);
}

/* ---- a hostile network answers first ---- */

static mvpn_dht_contact contact_of(const sim_node *n)
{
    mvpn_dht_contact c = {.link_key = n->config.link_key.pub, .addr = n->addr[0]};
    mvpn_dht_node_id(&c.id, &n->config.identity, &n->addr[0]);
    return c;
}

static size_t guards_among(const sim_node *client, size_t first, size_t end)
{
    const mvpn_guards *guards = mvpn_client_guards(mvpn_engine_client(client->engine));
    size_t count = 0;
    for (size_t i = 0; i < guards->count; i++) {
        const sim_node *n = sim_find_identity(client->world, &guards->guard[i].identity);
        count += n != NULL && n->index >= first && n->index < end;
    }
    return count;
}

static bool hops_among(const sim_node *client, size_t first, size_t end)
{
    for (unsigned hop = 1; hop <= 3; hop++) {
        const sim_node *n = sim_hop(client, hop);
        if (n != NULL && n->index >= first && n->index < end) {
            return true;
        }
    }
    return false;
}

/*
 * An open network: relays of the foe's making are as valid as any, but no anchor shows them. First
 * come its entries (DNS, the local network) and a bundle full of its relays (plain HTTP), ten
 * seconds later an anchor. Nothing of the foe's is ever used.
 */
static void hostile_first_run(uint64_t seed)
{
    sim *w = world_new(seed, false);
    size_t honest = island(w, 9, 3);
    size_t foe = island(w, 14, 5);
    size_t end = w->node_count;
    sim_for(w, MVPN_S(60));
    w->entry_count = 0;
    sim_node *client = add(w, SIM_CLIENT);
    trust(client, &w->node[honest]->config.identity, 1);
    sim_start(client);
    mvpn_learner *learner = mvpn_engine_learner(client->engine);
    for (size_t i = foe; i < end; i++) {
        mvpn_dht_contact c = contact_of(w->node[i]);
        mvpn_learner_add_entry(learner, &c, false, w->now);
        const mvpn_descriptor *d = mvpn_view_find(view_of(w->node[foe]), //
                                                  &w->node[i]->config.identity);
        CHECK(d != NULL);
        if (d != NULL) {
            CHECK(mvpn_view_put(view_of(client), MVPN_RECORD_DESCRIPTOR,
                                mvpn_bytes_of(d->encoded, d->encoded_len), 0, SIM_UNIX) == 0);
        }
    }
    mvpn_learner_set_ready(learner); /* as if that were something */
    sim_touch(client);
    CHECK(!sim_connect(client, MVPN_S(10)));
    mvpn_dht_contact c = contact_of(w->node[honest]);
    mvpn_learner_add_entry(learner, &c, false, w->now);
    sim_touch(client);
    mvpn_time start = w->now;
    CHECK(sim_connect(client, MVPN_S(30)));
    say("connected %.1f s after the honest entry came", (double)(w->now - start) / 1e6);
    for (unsigned i = 0; i < 12; i++) {
        sim_for(w, MVPN_S(10));
        CHECK(guards_among(client, foe, end) == 0);
        CHECK(!hops_among(client, foe, end));
    }
    CHECK(guards_among(client, honest, foe) >= 2);
    CHECK(client->disconnected == 0);
    sim_free(w);
}

/* ---- one discovery node, two lists ---- */

typedef struct list {
    mvpn_snapshot_head head;
    uint8_t *bytes;
    size_t n;
} list;

static int entry_order(const void *a, const void *b)
{
    return memcmp(a, b, MVPN_DHT_ID_LEN);
}

/* What a discovery node says of the relays from `first` on. */
static list list_make(sim *w, const sim_node *by, const mvpn_ed25519_secret *secret, size_t first)
{
    mvpn_snapshot_entry entries[64];
    size_t count = 0;
    list l = {.head = {.identity = by->config.identity, .hour = SIM_UNIX / 3600}};
    const mvpn_view *view = view_of(by);
    for (size_t i = first; i < mvpn_view_count(view); i++) {
        const mvpn_descriptor *d = mvpn_view_at(view, i);
        mvpn_key digest;
        mvpn_snapshot_entry *e = &entries[count++];
        *e = (mvpn_snapshot_entry){.bandwidth_log2 = 14, .flags = MVPN_SNAPSHOT_ALIVE};
        mvpn_record_key(e->key.b, &w->network_id, &d->identity);
        mvpn_descriptor_digest(&digest, d);
        memcpy(e->digest, digest.b, sizeof(e->digest));
    }
    qsort(entries, count, sizeof(entries[0]), entry_order);
    l.n = MVPN_SNAPSHOT_FIXED + count * MVPN_SNAPSHOT_ENTRY_LEN;
    l.bytes = malloc(l.n);
    MVPN_ASSERT(l.bytes != NULL);
    mvpn_snapshot_begin(l.bytes, &l.head.identity, l.head.hour, (uint32_t)count);
    for (size_t i = 0; i < count; i++) {
        mvpn_snapshot_entry_encode(l.bytes + MVPN_SNAPSHOT_FIXED + i * MVPN_SNAPSHOT_ENTRY_LEN,
                                   &entries[i]);
    }
    l.head.entries = (uint32_t)count;
    l.head.size = (uint32_t)l.n;
    mvpn_snapshot_digest(&l.head.digest, mvpn_bytes_of(l.bytes, l.n));
    l.head.has_membership = true;
    mvpn_membership_make(l.head.membership, &w->network_secret_key, &by->config.identity,
                         MVPN_ROLE_DHT_SERVER | MVPN_ROLE_DISCOVERY, SIM_UNIX - 1000,
                         SIM_UNIX + 1000000, 4000, &w->network_id);
    CHECK(mvpn_snapshot_head_sign(&l.head, secret, &w->network_id) == 0);
    return l;
}

static void list_give(sim_node *n, const list *l)
{
    mvpn_view *view = view_of(n);
    CHECK(mvpn_view_put(view, MVPN_RECORD_SNAPSHOT_HEAD,
                        mvpn_bytes_of(l->head.encoded, l->head.encoded_len), MVPN_VIEW_LOCAL,
                        SIM_UNIX) == 0);
    CHECK(mvpn_view_put_snapshot(view, mvpn_bytes_of(l->bytes, l->n), SIM_UNIX) == 0);
}

static void two_lists(uint64_t seed)
{
    sim *w = world_new(seed + 1, true); /* by default one where the first hops do not tell */
    size_t bootstrap = island(w, 8, 4);
    sim_for(w, MVPN_S(60));
    sim_node *liar = w->node[bootstrap];
    list lists[2] = {list_make(w, liar, &liar->secret, 0), list_make(w, liar, &liar->secret, 6)};
    size_t relays = w->node_count;
    for (size_t i = bootstrap + 1; i < relays; i++) {
        list_give(w->node[i], &lists[i % 2]);
    }
    enum { CLIENTS = 4 };
    sim_node *clients[CLIENTS];
    for (size_t i = 0; i < CLIENTS; i++) {
        clients[i] = add(w, SIM_CLIENT);
        sim_start(clients[i]);
    }
    unsigned noticed = 0;
    mvpn_time start = w->now;
    for (; noticed < CLIENTS && w->now - start < MVPN_S(3600);) {
        sim_for(w, MVPN_S(10));
        noticed = 0;
        for (size_t i = 0; i < CLIENTS; i++) {
            noticed += mvpn_view_equivocations(view_of(clients[i])) > 0;
        }
    }
    say("%u of %u clients have noticed after %u s", noticed, CLIENTS,
        (unsigned)((w->now - start) / 1000000));
    CHECK(noticed == CLIENTS);
    for (size_t i = 0; i < CLIENTS; i++) { /* what it says counts for nothing */
        CHECK(mvpn_view_head_count(view_of(clients[i])) == 0);
        CHECK(mvpn_view_snapshot(view_of(clients[i]), &lists[0].head.digest).n == 0);
        CHECK(mvpn_view_snapshot(view_of(clients[i]), &lists[1].head.digest).n == 0);
    }
    free(lists[0].bytes);
    free(lists[1].bytes);
    sim_free(w);
}

/* ---- revocation ---- */

static bool uses(const sim_node *client, const sim_node *relay)
{
    mvpn_client_status s;
    sim_status(client, &s);
    bool any = false;
    for (unsigned i = 0; i < s.path.count; i++) {
        any |= memcmp(&s.path.hop[i], &relay->config.identity, sizeof(s.path.hop[i])) == 0;
    }
    for (unsigned i = 0; s.has_spare && i < s.spare_path.count; i++) {
        any |= memcmp(&s.spare_path.hop[i], &relay->config.identity,
                      sizeof(relay->config.identity)) == 0;
    }
    return any;
}

/* The network's owner revokes a relay that a client uses at `hop`. */
static void revoke_hop(uint64_t seed, unsigned hop)
{
    sim *w = world_new(seed, true);
    size_t bootstrap = island(w, 9, 4);
    sim_for(w, MVPN_S(60));
    size_t relays = w->node_count;
    sim_node *client = add(w, SIM_CLIENT);
    sim_start(client);
    check_context("hop %u", hop);
    CHECK(sim_connect(client, MVPN_S(5)));
    sim_for(w, MVPN_S(20));
    sim_node *bad = sim_hop(client, hop);
    REQUIRE(bad != NULL, sim_free(w); return );
    mvpn_revocations revoked = {.sequence = 7, .published = SIM_UNIX, .count = 1};
    revoked.serials[0] = bad->index + 1;
    CHECK(mvpn_revocations_sign(&revoked, &w->network_secret_key, &w->network_id) == 0);
    mvpn_bytes record = mvpn_bytes_of(revoked.encoded, revoked.encoded_len);
    sim_node *owner = w->node[bootstrap];
    CHECK(mvpn_view_put(view_of(owner), MVPN_RECORD_REVOCATIONS, record, MVPN_VIEW_LOCAL,
                        SIM_UNIX) == 0);
    CHECK(mvpn_finder_publish(mvpn_engine_finder(owner->engine), MVPN_RECORD_REVOCATIONS, record,
                              w->now) == 0);
    sim_touch(owner);
    mvpn_time start = w->now, left = 0, everywhere = 0;
    while (w->now - start < MVPN_S(900) && (left == 0 || everywhere == 0)) {
        size_t know = 0;
        sim_for(w, MVPN_S(5));
        for (size_t i = bootstrap; i < relays; i++) {
            know += w->node[i] == bad ||
                    mvpn_engine_trust(w->node[i]->engine)->revocations.sequence == 7;
        }
        bool is_gone = !uses(client, bad) && mvpn_view_revocations(view_of(client))->sequence == 7;
        left = left == 0 && is_gone ? w->now : left;
        everywhere = everywhere == 0 && know == relays - bootstrap ? w->now : everywhere;
    }
    CHECK(left != 0 && everywhere != 0);
    say("hop %u: relays know after %u s, the client has left after %u s", hop,
        (unsigned)((everywhere - start) / 1000000), (unsigned)((left - start) / 1000000));
    /* Nobody speaks to it, whatever it tries, and nobody draws it. */
    sim_for(w, MVPN_S(30));
    CHECK(sim_circuits(bad) == 0);
    for (size_t i = bootstrap; i < relays; i++) {
        if (w->node[i] != bad) {
            CHECK(mvpn_links_find(mvpn_engine_links(w->node[i]->engine), &bad->config.identity) ==
                  NULL);
            CHECK(mvpn_view_find(view_of(w->node[i]), &bad->config.identity) == NULL);
        }
    }
    CHECK(mvpn_view_find(view_of(client), &bad->config.identity) == NULL);
    CHECK(!uses(client, bad));
    mvpn_client_status s;
    sim_status(client, &s);
    CHECK(s.state == MVPN_CLIENT_CONNECTED);
    sim_free(w);
}

/* Only the client has heard of it (its neighbours may be slow, or hostile): it leaves by itself. */
static void revoke_for_client(uint64_t seed, unsigned hop)
{
    sim *w = world_new(seed, true);
    (void)island(w, 9, 4);
    sim_for(w, MVPN_S(60));
    sim_node *client = add(w, SIM_CLIENT);
    sim_start(client);
    check_context("hop %u, the client alone", hop);
    CHECK(sim_connect(client, MVPN_S(5)));
    sim_for(w, MVPN_S(20));
    sim_node *bad = sim_hop(client, hop);
    REQUIRE(bad != NULL, sim_free(w); return );
    mvpn_revocations revoked = {.sequence = 7, .published = SIM_UNIX, .count = 1};
    revoked.serials[0] = bad->index + 1;
    CHECK(mvpn_revocations_sign(&revoked, &w->network_secret_key, &w->network_id) == 0);
    CHECK(mvpn_view_put(view_of(client), MVPN_RECORD_REVOCATIONS,
                        mvpn_bytes_of(revoked.encoded, revoked.encoded_len), 0, SIM_UNIX) == 0);
    sim_touch(client);
    sim_for(w, MVPN_S(30));
    CHECK(!uses(client, bad));
    CHECK(mvpn_links_find(mvpn_engine_links(client->engine), &bad->config.identity) == NULL);
    mvpn_client_status s;
    sim_status(client, &s);
    CHECK(s.state == MVPN_CLIENT_CONNECTED);
    sim_free(w);
}

static void revocation(uint64_t seed)
{
    for (unsigned hop = 1; hop <= 3; hop++) {
        revoke_for_client(seed + hop, hop);
    }
    for (unsigned hop = 1; hop <= 3; hop++) {
        revoke_hop(seed + hop, hop);
    }
}

/* ---- news ---- */

static size_t knowing(sim_node *const *clients, size_t count, const sim_node *relay)
{
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        n += mvpn_view_find(view_of(clients[i]), &relay->config.identity) != NULL;
    }
    return n;
}

/* MVPN_SIM_NEWS_RELAYS=150 for a larger world than the ordinary run has time for. */
static void news(uint64_t seed)
{
    const char *size = getenv("MVPN_SIM_NEWS_RELAYS");
    size_t relays = size == NULL ? 16 : (size_t)atoi(size);
    size_t count = relays / 5;
    sim_node *clients[64];
    sim *w = world_new(seed, true);
    count = MVPN_MIN(count, MVPN_ARRAY_LEN(clients));
    size_t bootstrap = island(w, relays * 4 / 5, relays / 5);
    sim_for(w, MVPN_S(120));
    for (size_t i = 0; i < count; i++) {
        clients[i] = add(w, SIM_CLIENT);
        sim_start(clients[i]);
    }
    sim_for(w, MVPN_S(60));
    for (size_t i = 0; i < count; i++) {
        mvpn_client_status s;
        sim_status(clients[i], &s);
        CHECK(s.state == MVPN_CLIENT_CONNECTED);
    }
    /* The bootstrap node is not needed for any of this. */
    w->entry_count = 0;
    sim_add_entry(w, w->node[bootstrap + 1]);
    sim_stop(w->node[bootstrap], false);

    sim_node *late = add(w, SIM_RELAY);
    sim_start(late);
    mvpn_time start = w->now;
    while (knowing(clients, count, late) * 10 < count * 9 && w->now - start < MVPN_S(900)) {
        sim_for(w, MVPN_S(10));
    }
    unsigned took = (unsigned)((w->now - start) / 1000000);
    say("a new relay is known to 90 %% of %u clients among %u relays after %u s", (unsigned)count,
        (unsigned)relays, took);
    CHECK(took < 600);

    /* A relay dies without a word: whoever uses it is elsewhere soon. */
    sim_node *dead = sim_hop(clients[0], 2);
    REQUIRE(dead != NULL, sim_free(w); return );
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        used += uses(clients[i], dead);
    }
    sim_stop(dead, false);
    start = w->now;
    size_t still = used;
    mvpn_time clean = 0;
    while (w->now - start < MVPN_S(60)) {
        sim_for(w, MVPN_S(2));
        still = 0;
        for (size_t i = 0; i < count; i++) {
            mvpn_client_status s;
            sim_status(clients[i], &s);
            still += s.state != MVPN_CLIENT_CONNECTED || uses(clients[i], dead);
        }
        clean = still == 0 && clean == 0 ? w->now : still == 0 ? clean : 0;
    }
    say("%u clients used a relay that died; all were elsewhere after %u s", (unsigned)used,
        (unsigned)((clean - start) / 1000000));
    CHECK(used > 0);
    CHECK(still == 0 && clean != 0);
    sim_free(w);
}

static const scenario scenarios[] = {
    {"hostile-first-run", hostile_first_run},
    {"two-lists", two_lists},
    {"revocation", revocation},
    {"news", news},
};

int main(int argc, char **argv)
{
    return scenario_main(argc, argv, scenarios, MVPN_ARRAY_LEN(scenarios));
}
