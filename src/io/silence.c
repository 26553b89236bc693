#include "io/silence.h"

bool mvpn_silence_look(mvpn_silence *s, uint64_t sent, uint64_t received, mvpn_time now)
{
    bool was_silent = s->is_silent;
    if (received != s->received) {
        *s = (mvpn_silence){.received = received, .sent = sent, .since = now};
        return false;
    }
    s->is_silent = sent - s->sent >= MVPN_SILENCE_SENT && now - s->since >= MVPN_SILENCE_TIME;
    return s->is_silent && !was_silent;
}

const char *mvpn_silence_text(void)
{
    return "nothing comes back over UDP: this network seems to block it, unless nobody that we "
           "know "
           "is there; try another network or a phone's hotspot (meshvpn netcheck tells more)";
}
