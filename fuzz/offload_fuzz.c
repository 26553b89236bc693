/* What a TUN device gave: [flags 1] [vnet header 10] [packet]. Cut, then gathered again. */
#include <stdlib.h>

#include "fuzz/fuzz.h"
#include "network/ip/checksum.h"
#include "network/ip/ip.h"
#include "network/tun/offload.h"

#define POOL 128

static void gather(mvpn_packet_queue *queue, bool uso, mvpn_packet_pool *pool)
{
    static mvpn_tun_group groups[MVPN_TUN_FLOWS];
    size_t before = queue->count, packets = 0;
    while (queue->count > 0) {
        size_t n = mvpn_tun_coalesce(queue, uso, groups, MVPN_ARRAY_LEN(groups));
        FUZZ_CHECK(n > 0 && n <= MVPN_ARRAY_LEN(groups));
        for (size_t i = 0; i < n; i++) {
            size_t len = 0;
            mvpn_tun_group *g = &groups[i];
            FUZZ_CHECK(g->range_count >= 2 && g->range_count <= MVPN_ARRAY_LEN(g->ranges));
            for (size_t r = 0; r < g->range_count; r++) {
                volatile uint8_t last = g->ranges[r].n > 0 ? g->ranges[r].p[g->ranges[r].n - 1] : 0;
                (void)last; /* the range is there */
                len += g->ranges[r].n;
            }
            FUZZ_CHECK(len == MVPN_VNET_HEADER + g->len && g->len <= MVPN_TUN_GROUP_BYTES);
            packets += g->packets.count;
            mvpn_tun_group_done(g, pool);
        }
    }
    FUZZ_CHECK(packets == before);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    mvpn_packet_pool pool;
    mvpn_packet_queue queue, again;
    uint32_t dropped = 0;
    if (size < 1 || size > 70000 || mvpn_packet_pool_init(&pool, POOL) != 0) {
        return 0;
    }
    mvpn_packet_queue_init(&queue);
    mvpn_packet_queue_init(&again);
    if (mvpn_tun_split(&pool, data + 1, size - 1, &queue, &dropped) == 0) {
        FUZZ_CHECK(queue.count + dropped > 0);
        for (mvpn_packet *p; (p = mvpn_packet_queue_pop(&queue)) != NULL;) {
            mvpn_ip ip;
            FUZZ_CHECK(p->len > 0 && p->len <= MVPN_PACKET_ROOM);
            if (data[0] & 1 && mvpn_ip_parse(p->data, p->len, &ip) != 0) {
                mvpn_packet_free(&pool, p); /* as the client does */
                continue;
            }
            mvpn_packet_queue_push(&again, p);
        }
        gather(&again, data[0] & 2, &pool);
    } else {
        FUZZ_CHECK(queue.count == 0);
    }
    FUZZ_CHECK(pool.free_count == POOL);
    mvpn_packet_pool_done(&pool);
    return 0;
}
