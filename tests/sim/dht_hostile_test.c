/*
 * Hostile nodes in the DHT: at random, and with ground keys around one place. They name each
 * other and contacts that do not exist, deny, give old and forged records, stay silent, and push
 * themselves upon honest nodes. (docs/protocol.md §11.1, §11.5)
 */
#include <stdlib.h>
#include <string.h>

#include "dht_foe.h"
#include "dht_world.h"
#include "scenario.h"

/* Part of any honest node's contacts that attackers with ground keys may hold. */
#define SHARE_MAX 0.2
#define GRIND 256

static void report(const dht_world *w, const dht_figures *f)
{
    const dht_stats *s = &w->stats;
    say("%zu nodes, %zu of them foes: %llu lookups, %.2f %% found (%llu old, %llu none), %.0f ms",
        w->alive, w->foe_count, (unsigned long long)s->lookups, 100 * f->success,
        (unsigned long long)s->stale, (unsigned long long)s->missing, f->latency_ms_p50);
    check_context("success %.5f with %zu foes", f->success, w->foe_count);
}

static void at_random(uint64_t seed, double hostile, double success, size_t lookups)
{
    dht_world_config c;
    dht_figures f;
    dht_world_defaults(&c);
    c.seed = seed;
    c.nodes = scenario_count(1000, 120);
    c.hostile = hostile;
    dht_world *w = dht_world_new(&c, 0);
    dht_world_start(w);
    dht_world_lookups(w, scenario_count(lookups, 200), MVPN_S(300));
    dht_world_figures(w, &f);
    report(w, &f);
    CHECK(f.success >= success);
    dht_world_free(w);
}

static void a_fifth_at_random(uint64_t seed)
{
    at_random(seed, 0.2, 0.999, 4000);
}

static void half_at_random(uint64_t seed)
{
    at_random(seed, 0.5, 0.98, 1500);
}

typedef struct block {
    mvpn_addr addr;
    mvpn_dht_id best; /* nearest id that it gives */
} block;

static const mvpn_dht_id *sort_key;

static int compare_blocks(const void *a, const void *b)
{
    return dht_nearer(sort_key, &((const block *)a)->best, &((const block *)b)->best);
}

/* Of 2^15 blocks for hire anywhere those that lie nearest to the key. */
static void hire(dht_world *w, const mvpn_dht_id *key, mvpn_addr *ret, size_t count)
{
    size_t offers = scenario_count(32768, 1024);
    block *blocks = calloc(offers, sizeof(*blocks));
    REQUIRE(blocks != NULL, abort());
    for (size_t i = 0; i < offers; i++) {
        dht_random_address(w, false, &blocks[i].addr);
        for (size_t t = 0; t < 16; t++) {
            mvpn_ed25519_pub identity = {{(uint8_t)t}};
            mvpn_dht_id id;
            mvpn_dht_node_id(&id, &identity, &blocks[i].addr);
            if (t == 0 || dht_nearer(key, &id, &blocks[i].best) < 0) {
                blocks[i].best = id;
            }
        }
    }
    sort_key = key;
    qsort(blocks, offers, sizeof(*blocks), compare_blocks);
    for (size_t i = 0; i < count; i++) {
        ret[i] = blocks[i].addr;
    }
    free(blocks);
}

/* Evenly over 45.10.0.0/16 or 2a10:100::/32. */
static void spread(uint8_t family, mvpn_addr *ret, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint16_t at = (uint16_t)(i * (65536 / count));
        if (family == 6) {
            ret[i] = (mvpn_addr){.family = 6, .ip = {0x2a, 0x10, 1, 0, [15] = 1}};
            mvpn_store16(ret[i].ip + 4, at);
        } else {
            ret[i] = (mvpn_addr){.family = 4, .ip = {45, 10}};
            mvpn_store16(ret[i].ip + 2, at);
        }
    }
}

static void check_tables(dht_world *w)
{
    double worst = 0, sum = 0;
    size_t tables = 0;
    for (size_t i = 0; i < w->alive; i++) {
        const dht_node *n = &w->node[i];
        if (n->dht != NULL && n->has_joined && n->born + MVPN_S(60) < w->now) {
            double share = dht_foe_share(n);
            worst = MVPN_MAX(worst, share);
            sum += share;
            tables++;
        }
    }
    say("foes in routing tables: %.1f %% at the worst, %.1f %% in the mean", 100 * worst,
        100 * sum / (double)tables);
    CHECK(tables > 0 && worst <= SHARE_MAX);
}

/*
 * Foes around the key of the first node's record, which everybody looks for: in the best blocks
 * for hire (family 0), or in one net of this family.
 */
static void surround(uint64_t seed, uint8_t family, size_t blocks, size_t foes)
{
    dht_world_config c;
    dht_figures f;
    mvpn_addr *addrs = calloc(blocks, sizeof(*addrs));
    REQUIRE(addrs != NULL, return );
    dht_world_defaults(&c);
    c.seed = seed;
    c.nodes = scenario_count(500, 120);
    c.warm = MVPN_S(120);
    dht_world *w = dht_world_new(&c, foes);
    dht_world_start(w);
    dht_node *owner = &w->node[0];
    if (family == 0) {
        hire(w, &owner->key, addrs, blocks);
    } else {
        spread(family, addrs, blocks);
    }
    dht_foes_gather(w, &owner->key, addrs, blocks, foes, GRIND);
    dht_world_for(w, MVPN_S(300));
    dht_world_publish(owner);
    dht_world_for(w, MVPN_S(120));
    dht_world_reset(w);
    for (size_t i = 0; i < scenario_count(1000, 100); i++) {
        dht_node *asker = dht_world_pick(w, false);
        if (asker != NULL && asker != owner) {
            CHECK(dht_world_lookup(w, asker, owner));
        }
        dht_world_for(w, MVPN_MS(100));
    }
    dht_world_for(w, MVPN_S(20));
    dht_world_figures(w, &f);
    report(w, &f);
    CHECK(w->stats.lookups - w->stats.gone >= scenario_count(900, 80));
    CHECK(f.success >= 0.99);
    check_tables(w);
    dht_world_free(w);
    free(addrs);
}

static void four_blocks(uint64_t seed)
{
    surround(seed, 0, 4, 400);
}

static void blocks_256_of_v4(uint64_t seed)
{
    surround(seed, 4, 256, 256);
}

static void blocks_4096_of_v4(uint64_t seed)
{
    surround(seed, 4, scenario_count(4096, 512), scenario_count(4096, 512));
}

static void blocks_256_of_v6(uint64_t seed)
{
    surround(seed, 6, 256, 256);
}

static void blocks_4096_of_v6(uint64_t seed)
{
    surround(seed, 6, scenario_count(4096, 512), scenario_count(4096, 512));
}

static const scenario scenarios[] = {
    {"a_fifth_at_random", a_fifth_at_random},
    {"half_at_random", half_at_random},
    {"four_blocks", four_blocks},
    {"blocks_256_of_v4", blocks_256_of_v4},
    {"blocks_4096_of_v4", blocks_4096_of_v4},
    {"blocks_256_of_v6", blocks_256_of_v6},
    {"blocks_4096_of_v6", blocks_4096_of_v6},
};

int main(int argc, char **argv)
{
    return scenario_main(argc, argv, scenarios, MVPN_ARRAY_LEN(scenarios));
}
