#include "io/event_ring.h"

#include <string.h>

#include "base/error.h"
#include "io/clock.h"
#include "io/status_value.h"

static void keep(void *ctx, enum mvpn_log_level level, const char *line)
{
    mvpn_event_ring *r = ctx;
    size_t at = r->count++ % MVPN_EVENT_RING_MAX;
    size_t n = strnlen(line, MVPN_EVENT_TEXT_MAX);
    for (size_t i = 0; i < n; i++) { /* names of others may be in it; and it becomes JSON */
        bool is_printable = line[i] >= 0x20 && line[i] < 0x7f;
        r->at[at].text[i] = is_printable ? line[i] : '?';
    }
    r->at[at].text[n] = '\0';
    r->at[at].level = level;
    r->at[at].unix_s = mvpn_clock_unix();
    if (r->below.write != NULL) {
        r->below.write(r->below.ctx, level, line);
    }
}

void mvpn_event_ring_attach(mvpn_event_ring *ring, mvpn_log *log)
{
    ring->below = *log;
    log->write = keep;
    log->ctx = ring;
}

int mvpn_event_ring_tell(const mvpn_event_ring *ring, const json_t *request, json_t *reply)
{
    static const char *const levels[] = {
        [MVPN_LOG_ERROR] = "error",
        [MVPN_LOG_WARN] = "warning",
        [MVPN_LOG_INFO] = "info",
        [MVPN_LOG_DEBUG] = "debug",
    };
    const json_t *wanted = json_object_get(request, "since");
    json_int_t since = json_integer_value(wanted);
    if (wanted != NULL && (!json_is_integer(wanted) || since < 0)) {
        set_text(reply, "error", "since is the number of an event");
        return MVPN_E_INVAL;
    }
    uint64_t first = ring->count > MVPN_EVENT_RING_MAX ? ring->count - MVPN_EVENT_RING_MAX : 0;
    json_t *list = json_array();
    for (uint64_t i = MVPN_MAX(first, (uint64_t)since); i < ring->count; i++) {
        size_t at = i % MVPN_EVENT_RING_MAX;
        json_t *o = json_object();
        set_number(o, "number", i + 1);
        set_number(o, "time", ring->at[at].unix_s);
        set_text(o, "level", levels[ring->at[at].level]);
        (void)json_object_set_new(o, "text", json_string(ring->at[at].text));
        (void)json_array_append_new(list, o);
    }
    set_text(reply, "schema", "meshvpn.events/1");
    set_number(reply, "last", ring->count);
    (void)json_object_set_new(reply, "events", list);
    return 0;
}
