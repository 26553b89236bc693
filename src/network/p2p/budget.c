/*
 * How many packets may go to addresses that have not answered yet. (docs/protocol.md §14.5)
 *
 * A peer names ports of the ip at which a NAT relay sees it; behind that ip others may live. They
 * get 20 punches an hour of us at most, or a birthday's 1,024 probes spread over all ports. Blocks
 * are remembered for an hour, and of each NAT relay only a share: one that names ever new ones must
 * not keep links of others from punching.
 */
#include "network/p2p/connection.h"

static uint64_t block_of(const mvpn_connector *c, const mvpn_addr *to)
{
    return mvpn_siphash(&c->sip, to->ip, to->family == 4 ? 3 : 6) | 1;
}

/* The block's entry, made if need be; NULL if all are of blocks of the last hour. */
static struct budget *find(mvpn_connector *c, const mvpn_addr *to, mvpn_time now)
{
    uint64_t block = block_of(c, to);
    struct budget *free_one = NULL;
    for (size_t i = 0; i < BUDGET_BLOCKS; i++) {
        struct budget *b = &c->budget[i];
        if (b->block != 0 && now - b->since >= BUDGET_TIME) {
            *b = (struct budget){0};
        }
        if (b->block == block) {
            return b;
        }
        free_one = b->block == 0 ? b : free_one;
    }
    if (free_one != NULL) {
        *free_one = (struct budget){.block = block, .since = now};
    }
    return free_one;
}

bool budget_may_begin(mvpn_connector *c, const mvpn_addr *seen, const mvpn_ed25519_pub *relay,
                      mvpn_time now)
{
    uint64_t named = mvpn_siphash(&c->sip, relay->b, sizeof(relay->b)) | 1;
    uint64_t block = block_of(c, seen);
    size_t count = 0;
    for (size_t i = 0; i < BUDGET_BLOCKS; i++) {
        const struct budget *b = &c->budget[i];
        if (b->block != 0 && now - b->since < BUDGET_TIME) {
            if (b->block == block) {
                return true; /* its own bounds hold */
            }
            count += b->named == named;
        }
    }
    struct budget *b = count < BUDGET_BLOCKS_NAMED ? find(c, seen, now) : NULL;
    if (b != NULL) {
        b->named = named;
    }
    return b != NULL;
}

bool budget_take(mvpn_connector *c, const mvpn_addr *to, bool is_probe, mvpn_time now)
{
    struct budget *b = find(c, to, now);
    if (b == NULL) {
        return false;
    }
    unsigned *count = is_probe ? &b->probes : &b->punches;
    if (*count >= (is_probe ? BUDGET_PROBES : BUDGET_PUNCHES)) {
        return false;
    }
    (*count)++;
    return true;
}

void budget_give_back(mvpn_connector *c, const mvpn_addr *to, unsigned punches)
{
    uint64_t block = block_of(c, to);
    for (size_t i = 0; i < BUDGET_BLOCKS; i++) {
        if (c->budget[i].block == block) {
            c->budget[i].punches -= MVPN_MIN(c->budget[i].punches, punches);
        }
    }
}

bool budget_has_probes(mvpn_connector *c, const mvpn_addr *to, mvpn_time now)
{
    const struct budget *b = find(c, to, now);
    return b != NULL && b->probes == 0;
}
