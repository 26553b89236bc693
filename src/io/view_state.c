#include "io/view_state.h"

#include <stdlib.h>

#include "base/error.h"
#include "io/clock.h"
#include "io/file.h"
#include "io/statefile.h"

size_t mvpn_view_state_load(const char *dir, mvpn_engine *engine, const mvpn_log *log)
{
    mvpn_fault fault = {.text = ""};
    uint8_t *saved;
    size_t size, lost = 0;
    bool is_whole;
    int r = mvpn_statefile_load(dir, MVPN_STATE_VIEW, &saved, &size, &is_whole, &fault);
    if (r == MVPN_E_UNKNOWN) {
        return 0; /* the first start */
    }
    if (r != 0) {
        mvpn_logf(log, MVPN_LOG_WARN, "the relays of the last run are not known any more: %s",
                  fault.text);
        return 0;
    }
    size_t taken = mvpn_view_load(mvpn_engine_view(engine), mvpn_bytes_of(saved, size),
                                  mvpn_engine_unix(engine, mvpn_clock_now()), &lost);
    mvpn_logf(log, MVPN_LOG_INFO, "%zu records of the last run are known%s", taken,
              is_whole ? "" : " (the file was damaged)");
    mvpn_file_free(saved, size);
    return taken;
}

void mvpn_view_state_save(const char *dir, mvpn_engine *engine, const mvpn_log *log)
{
    mvpn_fault fault = {.text = ""};
    const mvpn_view *view = mvpn_engine_view(engine);
    size_t size = mvpn_view_save_size(view);
    uint8_t *bytes = malloc(size);
    if (bytes == NULL) {
        return;
    }
    size_t n = mvpn_view_save(view, bytes, size);
    if (mvpn_statefile_save(dir, MVPN_STATE_VIEW, mvpn_bytes_of(bytes, n), &fault) != 0) {
        mvpn_logf(log, MVPN_LOG_WARN, "the relays known cannot be saved: %s", fault.text);
    }
    free(bytes);
}
