#include "core/clock.h"

#include <string.h>

void mvpn_clock_init(mvpn_clock *clock)
{
    *clock = (mvpn_clock){0};
}

bool mvpn_clock_put(mvpn_clock *clock, const mvpn_ed25519_pub *peer, int64_t offset_s)
{
    if (offset_s > MVPN_CLOCK_OFFSET_MAX_S || offset_s < -MVPN_CLOCK_OFFSET_MAX_S) {
        return false;
    }
    size_t at = 0;
    while (at < clock->count && memcmp(clock->heard[at].peer.b, peer->b, sizeof(peer->b)) != 0) {
        at++;
    }
    if (at == clock->count) {
        if (clock->count < MVPN_CLOCK_PEERS) {
            clock->count++;
        } else {
            at = clock->next;
            clock->next = (clock->next + 1) % MVPN_CLOCK_PEERS;
        }
        clock->heard[at].peer = *peer;
    }
    clock->heard[at].offset_s = offset_s;
    return true;
}

static int64_t median(const mvpn_clock *clock)
{
    int64_t sorted[MVPN_CLOCK_PEERS + 1];
    size_t n = 0;
    bool own_votes = clock->count % 2 == 0;
    for (size_t i = 0; i < clock->count + own_votes; i++) {
        int64_t offset = i < clock->count ? clock->heard[i].offset_s : 0;
        size_t at = n++;
        for (; at > 0 && sorted[at - 1] > offset; at--) {
            sorted[at] = sorted[at - 1];
        }
        sorted[at] = offset;
    }
    return sorted[n / 2];
}

void mvpn_clock_read(const mvpn_clock *clock, mvpn_clock_reading *ret)
{
    int64_t measured = median(clock);
    int64_t size = measured < 0 ? -measured : measured;
    *ret = (mvpn_clock_reading){
        .offset_s = size < MVPN_CLOCK_JITTER_S ? 0 : measured,
        .measured_s = measured,
        .trust = clock->count == 0  ? MVPN_CLOCK_ALONE
                 : clock->count < 3 ? MVPN_CLOCK_WEAK
                                    : MVPN_CLOCK_MEDIAN,
        .peers = clock->count,
        .should_tell = size > MVPN_CLOCK_TELL_S,
    };
}
