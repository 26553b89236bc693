/*
 * What a client is doing while it connects (core/client_stage.h), in words: "stages" of its status,
 * and the line that systemd shows.
 */
#ifndef MVPN_IO_STATUS_STAGES_H
#define MVPN_IO_STATUS_STAGES_H

#include <jansson.h>

#include "core/client.h"

#define MVPN_STATUS_STAGE_TEXT 256

/**
 * A list of {name, title, state, ms, code, reason}, the caller's. `is_unheard`: nothing comes back
 * over UDP (io/silence.h), which then is what holds the stage up that is under way.
 */
json_t *mvpn_status_stages(const mvpn_client *client, bool is_unheard, mvpn_time now);

/** "connecting: guard handshake (3/6)", "connected" ..; of systemd's STATUS=. */
void mvpn_status_stage_line(const mvpn_client *client, bool is_unheard, mvpn_time now,
                            char out[static MVPN_STATUS_STAGE_TEXT]);

#endif
