#include "io/nat_memory.h"

#include "base/error.h"

void mvpn_nat_memory_init(mvpn_nat_memory *m, const char *dir)
{
    *m = (mvpn_nat_memory){.dir = dir};
    if (dir != NULL && mvpn_nat_cache_load(dir, &m->cache) != 0) {
        m->dir = NULL;
    }
}

uint32_t mvpn_nat_memory_look(mvpn_nat_memory *m, const mvpn_nat_network *network,
                              uint32_t lifetime_s, uint64_t unix_now, mvpn_time now)
{
    if (m->dir == NULL || network == NULL) {
        m->has_told = false;
        return 0;
    }
    uint32_t known_s = mvpn_nat_cache_get(&m->cache, network, unix_now);
    if (lifetime_s == 0) {
        bool is_first = !m->has_told; /* a second time it has measured that this no longer holds */
        m->has_told = true;
        return is_first ? known_s : 0;
    }
    m->has_told = true;
    if (lifetime_s != known_s && now >= m->next_save) {
        mvpn_nat_cache_put(&m->cache, network, lifetime_s, unix_now);
        m->next_save = now + MVPN_NAT_MEMORY_SAVE_EVERY;
        MVPN_IGNORE(mvpn_nat_cache_save(m->dir, &m->cache, NULL)); /* measured again next time */
    }
    return 0;
}
