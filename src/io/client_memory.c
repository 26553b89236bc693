#include "io/client_memory.h"

#include <string.h>

#include "base/error.h"
#include "io/view_state.h"
#include "core/guard.h"
#include "io/clock.h"
#include "io/file.h"

/* The view changes with every relay that renews its descriptor: no need to write each. */
#define VIEW_SAVE_S 60
/* An offset that differs less from the one on disk is not worth writing. */
#define CLOCK_STEP_S 10

static void tell(const mvpn_client_memory *s, const char *what, const mvpn_fault *fault)
{
    mvpn_logf(s->log, MVPN_LOG_WARN, "%s: %s", what, fault->text);
}

void mvpn_client_memory_load(mvpn_client_memory *s, const char *dir, const mvpn_log *log,
                             mvpn_engine_config *engine, mvpn_client_config *client)
{
    mvpn_fault fault = {.text = ""};
    mvpn_state_clock clock;
    bool is_whole;
    *s = (mvpn_client_memory){.dir = dir, .log = log};
    s->is_there = mvpn_statefile_prepare(dir, &fault) == 0;
    if (!s->is_there) {
        tell(s, "nothing is remembered for the next start", &fault);
        return;
    }
    if (mvpn_statefile_load(dir, MVPN_STATE_GUARDS, &s->guards, &s->guards_size, &is_whole,
                            &fault) == 0) {
        client->guards = mvpn_bytes_of(s->guards, s->guards_size);
    } else {
        s->guards = NULL;
    }
    if (mvpn_state_sample_key(dir, engine->sample_key, &fault) != 0) {
        memset(engine->sample_key, 0, sizeof(engine->sample_key)); /* the engine draws one */
    }
    mvpn_state_entries_load(dir, &s->entries);
    if (mvpn_state_clock_load(dir, &clock)) {
        engine->clock_guess_s = clock.offset_s;
        s->clock_saved_s = clock.offset_s;
    }
}

void mvpn_client_memory_fill(mvpn_client_memory *s, mvpn_engine *engine)
{
    mvpn_learner *learner = mvpn_engine_learner(engine);
    if (!s->is_there) {
        return;
    }
    for (size_t i = 0; learner != NULL && i < s->entries.count; i++) {
        mvpn_learner_add_entry(learner, &s->entries.at[i].contact, false, mvpn_clock_now());
    }
    (void)mvpn_view_state_load(s->dir, engine, s->log);
    if (learner != NULL && mvpn_view_count(mvpn_engine_view(engine)) > 0) {
        mvpn_learner_set_ready(learner);
    }
}

void mvpn_client_memory_learned(mvpn_client_memory *s, const mvpn_learner_event *event)
{
    if (event->type == MVPN_LEARNER_ENTRY_WORKED) {
        mvpn_state_entries_put(&s->entries, &event->contact, mvpn_clock_unix());
        s->entries_changed = true;
    }
    s->view_changed |= event->type == MVPN_LEARNER_SWEPT;
}

static void save_guards(mvpn_client_memory *s, const mvpn_client *client)
{
    mvpn_fault fault = {.text = ""};
    uint8_t bytes[MVPN_GUARDS_SAVED_MAX];
    const mvpn_guards *guards = mvpn_client_guards(client);
    if (guards == NULL || guards->generation == s->guards_saved) {
        return;
    }
    size_t n = mvpn_client_guards_save(client, bytes, sizeof(bytes));
    if (n > 0 &&
        mvpn_statefile_save(s->dir, MVPN_STATE_GUARDS, mvpn_bytes_of(bytes, n), &fault) != 0) {
        tell(s, "the guards cannot be saved: the next start chooses others", &fault);
    }
    s->guards_saved = guards->generation;
}

static void save_clock(mvpn_client_memory *s, const mvpn_engine *engine)
{
    mvpn_fault fault = {.text = ""};
    mvpn_clock_reading reading;
    mvpn_engine_clock(engine, &reading);
    int64_t step = reading.offset_s - s->clock_saved_s;
    if (reading.trust == MVPN_CLOCK_ALONE || (step < CLOCK_STEP_S && step > -CLOCK_STEP_S)) {
        return;
    }
    mvpn_state_clock clock = {reading.offset_s, mvpn_clock_unix()};
    if (mvpn_state_clock_save(s->dir, &clock, &fault) != 0) {
        tell(s, "the clock's offset cannot be saved", &fault);
    }
    s->clock_saved_s = reading.offset_s;
}

void mvpn_client_memory_save(mvpn_client_memory *s, mvpn_engine *engine, bool is_end)
{
    mvpn_fault fault = {.text = ""};
    uint64_t now = mvpn_clock_unix();
    if (!s->is_there || engine == NULL) {
        return;
    }
    if (s->view_changed && (is_end || now - s->view_saved >= VIEW_SAVE_S)) {
        mvpn_view_state_save(s->dir, engine, s->log);
        s->view_changed = false;
        s->view_saved = now;
    }
    save_guards(s, mvpn_engine_client(engine));
    save_clock(s, engine);
    if (s->entries_changed) {
        if (mvpn_state_entries_save(s->dir, &s->entries, &fault) != 0) {
            tell(s, "entries cannot be saved", &fault);
        }
        s->entries_changed = false;
    }
}

void mvpn_client_memory_done(mvpn_client_memory *s)
{
    mvpn_file_free(s->guards, s->guards_size);
    s->guards = NULL;
}
