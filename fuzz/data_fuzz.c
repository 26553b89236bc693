/* RelayData bodies into an unpacker, with time: ([ms 1] [length 2] [body])*. */
#include "core/packing.h"
#include "fuzz/fuzz.h"
#include "wire/cell.h"

#define POOL 80

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    mvpn_packet_pool pool;
    mvpn_packet_queue packets;
    mvpn_unpacker u = {0};
    mvpn_time now = 0;
    mvpn_reader in = mvpn_reader_init(mvpn_bytes_of(data, size));
    mvpn_packet_queue_init(&packets);
    if (mvpn_packet_pool_init(&pool, POOL) != 0) {
        return 0;
    }
    while (fuzz_more(&in)) {
        now += MVPN_MS(mvpn_read8(&in)) * 10;
        mvpn_bytes body = fuzz_chunk(&in, MVPN_ROOM_PROFILE0);
        mvpn_packet *p = mvpn_packet_new(&pool);
        FUZZ_CHECK(p != NULL); /* at most 64 are held */
        if (body.n > 0) {
            memcpy(mvpn_packet_append(p, (uint32_t)body.n), body.p, body.n);
        }
        MVPN_IGNORE(mvpn_unpacker_take(&u, &pool, p, now, &packets)); /* malformed mostly */
        while ((p = mvpn_packet_queue_pop(&packets)) != NULL) {
            FUZZ_CHECK(p->len > 0 && p->len <= 1420);
            mvpn_packet_free(&pool, p);
        }
    }
    mvpn_unpacker_done(&u, &pool);
    FUZZ_CHECK(pool.free_count == POOL);
    mvpn_packet_pool_done(&pool);
    return 0;
}
