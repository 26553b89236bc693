#include "network/proxy/groups.h"

#include <string.h>

#include "base/assert.h"
#include "base/error.h"
#include "crypto/hash.h"

void mvpn_proxy_groups_init(mvpn_proxy_groups *groups, const uint8_t key[static 32])
{
    *groups = (mvpn_proxy_groups){.of[0].is_used = true};
    memcpy(groups->key, key, sizeof(groups->key));
}

/* With lengths: ("ab", "c") is not ("a", "bc"). */
static void digest_of(const mvpn_proxy_groups *groups, const mvpn_proxy_user *user, uint8_t out[32])
{
    const mvpn_bytes in[] = {
        MVPN_BYTES_ARRAY(groups->key),        {&user->name_len, 1},
        {user->name, user->name_len},         {&user->password_len, 1},
        {user->password, user->password_len},
    };
    mvpn_blake3_derive(out, 32, "meshvpn proxy isolation group", in, MVPN_ARRAY_LEN(in));
}

/* An unused place, or the one that was left first and long enough ago; 0: neither. */
static unsigned find_place(const mvpn_proxy_groups *groups, mvpn_time now)
{
    unsigned oldest = 0;
    for (unsigned i = 1; i <= MVPN_PROXY_GROUPS_MAX; i++) {
        const mvpn_proxy_group *g = &groups->of[i];
        if (!g->is_used) {
            return i;
        }
        if (g->connections == 0 && now - g->left >= MVPN_PROXY_GROUP_YIELD &&
            (oldest == 0 || g->left < groups->of[oldest].left)) {
            oldest = i;
        }
    }
    return oldest;
}

int mvpn_proxy_groups_enter(mvpn_proxy_groups *groups, const mvpn_proxy_user *user, mvpn_time now,
                            unsigned *ret, bool *ret_begins, bool *ret_ends)
{
    uint8_t digest[32];
    *ret_begins = *ret_ends = false;
    if (!user->is_set) {
        groups->of[0].connections++;
        *ret = 0;
        return 0;
    }
    digest_of(groups, user, digest);
    for (unsigned i = 1; i <= MVPN_PROXY_GROUPS_MAX; i++) {
        if (groups->of[i].is_used && memcmp(groups->of[i].digest, digest, sizeof(digest)) == 0) {
            groups->of[i].connections++;
            *ret = i;
            return 0;
        }
    }
    unsigned place = find_place(groups, now);
    if (place == 0) {
        return MVPN_E_LIMIT;
    }
    mvpn_proxy_group *g = &groups->of[place];
    *ret_ends = g->is_used;
    *ret_begins = true;
    *g = (mvpn_proxy_group){.is_used = true, .connections = 1, .began = now};
    memcpy(g->digest, digest, sizeof(digest));
    *ret = place;
    return 0;
}

void mvpn_proxy_groups_leave(mvpn_proxy_groups *groups, unsigned number, mvpn_time now)
{
    mvpn_proxy_group *g = &groups->of[number];
    MVPN_ASSERT(g->connections > 0);
    g->connections--;
    g->left = now;
}

unsigned mvpn_proxy_groups_expire(mvpn_proxy_groups *groups, mvpn_time now)
{
    for (unsigned i = 1; i <= MVPN_PROXY_GROUPS_MAX; i++) {
        const mvpn_proxy_group *g = &groups->of[i];
        if (g->is_used && g->connections == 0 && now - g->left >= MVPN_PROXY_GROUP_IDLE) {
            mvpn_proxy_groups_forget(groups, i);
            return i;
        }
    }
    return 0;
}

void mvpn_proxy_groups_forget(mvpn_proxy_groups *groups, unsigned number)
{
    groups->of[number] = (mvpn_proxy_group){.is_used = false};
}
