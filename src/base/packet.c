#include "base/packet.h"

#include <stdlib.h>

#include "base/error.h"

int mvpn_packet_pool_init(mvpn_packet_pool *pool, size_t count)
{
    mvpn_packet *all = calloc(count, sizeof(*all));
    if (all == NULL) {
        return MVPN_E_NOMEM;
    }
    *pool = (mvpn_packet_pool){.size = count, .free_count = count, .memory = all};
    mvpn_list_init(&pool->free);
    for (size_t i = 0; i < count; i++) {
        mvpn_list_append(&pool->free, &all[i].link);
    }
    return 0;
}

void mvpn_packet_pool_done(mvpn_packet_pool *pool)
{
    free(pool->memory);
    *pool = (mvpn_packet_pool){0};
}

void mvpn_packet_queue_clear(mvpn_packet_queue *q, mvpn_packet_pool *pool)
{
    mvpn_packet *p;
    while ((p = mvpn_packet_queue_pop(q)) != NULL) {
        mvpn_packet_free(pool, p);
    }
}
