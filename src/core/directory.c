#include "core/directory.h"

unsigned mvpn_directory_answer(const mvpn_view *view, unsigned command, mvpn_bytes body,
                               size_t room, uint64_t unix_now, mvpn_directory_emit *emit, void *ctx)
{
    const uint8_t reason = MVPN_DHT_ERROR_NOT_SERVED;
    (void)view;
    (void)command;
    (void)body;
    (void)room;
    (void)unix_now;
    return emit(ctx, 0x1f, mvpn_bytes_of(&reason, 1)) ? 1 : 0;
}
