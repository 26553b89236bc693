/*
 * No key seals one nonce twice: not over rekeys, resent packets, restarts, or between the nodes of
 * a network. Every seal of every node passes here (linked with --wrap). (docs/protocol.md §3.1)
 */
#include "inet.h"
#include "scenario.h"

#include <stdlib.h>
#include <string.h>

#include "crypto/hash.h"

typedef struct pair {
    uint64_t a, b; /* two independent hashes of key and nonce; 0, 0: free */
} pair;

static struct {
    pair *slot;
    size_t size, count, repeated;
} seals;

static void seals_clear(size_t size)
{
    free(seals.slot);
    memset(&seals, 0, sizeof(seals));
    seals.size = size;
    seals.slot = calloc(size, sizeof(pair));
    MVPN_ASSERT(seals.slot != NULL);
}

static void note(const mvpn_key *key, const uint8_t nonce[static 12])
{
    static const mvpn_siphash_key ka = {{1}}, kb = {{2}};
    uint8_t in[44];
    if (seals.slot == NULL) {
        return;
    }
    memcpy(in, key->b, 32);
    memcpy(in + 32, nonce, 12);
    pair p = {mvpn_siphash(&ka, in, sizeof(in)), mvpn_siphash(&kb, in, sizeof(in)) | 1};
    MVPN_ASSERT(seals.count < seals.size / 4 * 3);
    size_t i = p.a % seals.size;
    for (; seals.slot[i].b != 0; i = (i + 1) % seals.size) {
        if (seals.slot[i].a == p.a && seals.slot[i].b == p.b) {
            seals.repeated++;
            return;
        }
    }
    seals.slot[i] = p;
    seals.count++;
}

void __real_mvpn_aead_seal(mvpn_aead *aead, uint8_t *out, uint8_t *tag, const mvpn_key *key,
                           uint64_t counter, mvpn_bytes ad, mvpn_bytes in);
void __wrap_mvpn_aead_seal(mvpn_aead *aead, uint8_t *out, uint8_t *tag, const mvpn_key *key,
                           uint64_t counter, mvpn_bytes ad, mvpn_bytes in);
void __real_mvpn_aead_seal_nonce(mvpn_aead *aead, uint8_t *out, uint8_t *tag, const mvpn_key *key,
                                 const uint8_t *nonce, mvpn_bytes ad, mvpn_bytes in);
void __wrap_mvpn_aead_seal_nonce(mvpn_aead *aead, uint8_t *out, uint8_t *tag, const mvpn_key *key,
                                 const uint8_t *nonce, mvpn_bytes ad, mvpn_bytes in);

void __wrap_mvpn_aead_seal(mvpn_aead *aead, uint8_t *out, uint8_t *tag, const mvpn_key *key,
                           uint64_t counter, mvpn_bytes ad, mvpn_bytes in)
{
    uint8_t nonce[12] = {0};
    mvpn_store64(nonce + 4, counter);
    note(key, nonce);
    __real_mvpn_aead_seal(aead, out, tag, key, counter, ad, in);
}

void __wrap_mvpn_aead_seal_nonce(mvpn_aead *aead, uint8_t *out, uint8_t *tag, const mvpn_key *key,
                                 const uint8_t *nonce, mvpn_bytes ad, mvpn_bytes in)
{
    note(key, nonce);
    __real_mvpn_aead_seal_nonce(aead, out, tag, key, nonce, ad, in);
}

static uint64_t rekeys(const sim *w)
{
    uint64_t count = 0;
    for (size_t i = 0; i < w->node_count; i++) {
        if (w->node[i]->engine != NULL) {
            count += mvpn_links_get_counters(mvpn_engine_links(w->node[i]->engine))->rekeys;
        }
    }
    return count;
}

static void nonces(uint64_t seed)
{
    sim *w = sim_new(seed);
    inet_host host;
    uint64_t rekeyed = 0;
    seals_clear(4000000);
    w->path = (sim_path){.delay = MVPN_MS(10),
                         .reorder_delay = MVPN_MS(15),
                         .loss = 20000,
                         .reorder = 50000,
                         .duplicate = 20000};
    for (size_t i = 0; i < 6; i++) {
        sim_node *n = sim_add(w, i < 4 ? SIM_RELAY : i < 5 ? SIM_EXIT : SIM_CLIENT);
        n->config.link_limits.rekey_packets = 2000;
        n->config.link_limits.rekey_after = MVPN_S(40);
    }
    for (size_t i = 0; i < 6; i++) {
        sim_start(w->node[i]);
    }
    sim_node *client = sim_client(w);
    inet_host_attach(&host, client);
    size_t rounds = scenario_count(8, 3);
    for (size_t i = 0; i < rounds; i++) {
        check_context("round %zu", i);
        CHECK(sim_connect(client, MVPN_S(60)));
        CHECK(inet_transfer_run(client, i % 2 == 0 ? INET_DOWN : INET_UP,
                                scenario_count(3000000, 1000000), 128, MVPN_S(600)));
        sim_for(w, MVPN_S(60));
        /* A relay, then the client, starts anew with the keys of its disk. */
        sim_node *n = i % 3 == 2 ? client : sim_hop(client, 1 + (unsigned)(i % 3));
        n = n == NULL ? w->node[0] : n;
        rekeyed += mvpn_links_get_counters(mvpn_engine_links(n->engine))->rekeys;
        sim_stop(n, i % 2 == 0);
        sim_start(n);
    }
    rekeyed += rekeys(w);
    say("%zu seals, %zu repeated; %llu rekeys", seals.count, seals.repeated,
        (unsigned long long)rekeyed);
    CHECK(seals.repeated == 0);
    CHECK(seals.count > scenario_count(100000, 10000));
    CHECK(rekeyed > 20);
    inet_host_done(&host);
    sim_free(w);
    seals_clear(16);
}

/* The detector itself: a node whose generator repeats itself after a restart is noticed. */
static void detector(uint64_t seed)
{
    mvpn_aead *aead;
    mvpn_key key = {{3}};
    uint8_t out[4], tag[16];
    seals_clear(1024);
    MVPN_ASSERT(mvpn_aead_new(MVPN_AEAD_OPENSSL, &aead) == 0);
    for (uint64_t i = 0; i < 100; i++) {
        mvpn_aead_seal(aead, out, tag, &key, seed + i % 99, MVPN_BYTES_NONE,
                       mvpn_bytes_of("abcd", 4));
    }
    CHECK(seals.count == 99 && seals.repeated == 1);
    mvpn_aead_free(aead);
    seals_clear(16);
}

int main(int argc, char **argv)
{
    static const scenario scenarios[] = {{"nonces", nonces}, {"detector", detector}};
    return scenario_main(argc, argv, scenarios, MVPN_ARRAY_LEN(scenarios));
}
