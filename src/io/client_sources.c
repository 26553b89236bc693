#include "io/client_sources.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "io/clock.h"

/* A web server's clock that differs more from ours than this is worth a word. */
#define DATE_TELL_S 300

static void take_entry(void *ctx, enum mvpn_source_kind kind, const char *origin,
                       const mvpn_dht_contact *entry)
{
    const mvpn_client_sources *s = ctx;
    (void)origin;
    mvpn_learner_add_entry(mvpn_engine_learner(s->engine), entry, kind == MVPN_SOURCE_FILE,
                           mvpn_clock_now());
}

/* A bundle says nothing of who made it: its records verify by themselves, and confirm nothing. */
static void take_record(void *ctx, const char *origin, unsigned type, mvpn_bytes record)
{
    mvpn_client_sources *s = ctx;
    (void)origin;
    if (type != MVPN_BUNDLE_SNAPSHOT) {
        MVPN_IGNORE(mvpn_view_put(mvpn_engine_view(s->engine), type, record, 0,
                                  mvpn_engine_unix(s->engine, mvpn_clock_now()))); /* or dropped */
        return;
    }
    free(s->snapshot);
    s->snapshot_size = 0;
    s->snapshot = malloc(record.n > 0 ? record.n : 1);
    if (s->snapshot != NULL) {
        memcpy(s->snapshot, record.p, record.n);
        s->snapshot_size = record.n;
    }
}

static void end_bundle(void *ctx, const char *origin)
{
    mvpn_client_sources *s = ctx;
    mvpn_view *view = mvpn_engine_view(s->engine);
    (void)origin;
    if (s->snapshot != NULL &&
        mvpn_view_put_snapshot(view, mvpn_bytes_of(s->snapshot, s->snapshot_size),
                               mvpn_engine_unix(s->engine, mvpn_clock_now())) != 0) {
        mvpn_logf(s->log, MVPN_LOG_WARN,
                  "a snapshot does not fit what its discovery node signed: it is not used");
    }
    free(s->snapshot);
    s->snapshot = NULL;
    /* In an open network what nobody vouched for is not used; a snapshot's head is an anchor's. */
    bool is_of_use = mvpn_engine_trust(s->engine)->closed ? mvpn_view_count(view) > 0
                                                          : mvpn_view_head_count(view) > 0;
    if (is_of_use) {
        mvpn_learner_set_ready(mvpn_engine_learner(s->engine));
    }
}

static void take_date(void *ctx, const char *origin, uint64_t unix_time)
{
    mvpn_client_sources *s = ctx;
    mvpn_clock_reading clock;
    int64_t off = (int64_t)(unix_time - mvpn_clock_unix());
    (void)origin;
    mvpn_engine_clock(s->engine, &clock);
    if (clock.trust == MVPN_CLOCK_ALONE && !s->told_date &&
        (off > DATE_TELL_S || off < -DATE_TELL_S)) {
        mvpn_logf(s->log, MVPN_LOG_WARN,
                  "a web server says that this host's clock is %lld seconds %s: if nobody of the "
                  "network answers, set the clock",
                  (long long)(off < 0 ? -off : off), off < 0 ? "fast" : "slow");
        s->told_date = true;
    }
}

int mvpn_client_sources_open(mvpn_client_sources *s, mvpn_loop *loop, mvpn_engine *engine,
                             const mvpn_network_file *network, const mvpn_marker *marker,
                             const mvpn_state_entries *cached, const mvpn_log *log,
                             mvpn_fault *fault)
{
    *s = (mvpn_client_sources){.engine = engine, .log = log};
    mvpn_sources_config config = {
        .loop = loop,
        .log = log,
        .network = network,
        .cached = cached,
        .marker = marker,
        .calls = {take_entry, take_record, end_bundle, take_date, s},
    };
    int r = mvpn_sources_new(&config, &s->sources, fault);
    if (r == 0) {
        mvpn_client_sources_check(s);
    }
    return r;
}

void mvpn_client_sources_close(mvpn_client_sources *s)
{
    mvpn_sources_free(s->sources);
    s->sources = NULL;
    free(s->snapshot);
    s->snapshot = NULL;
}

void mvpn_client_sources_check(mvpn_client_sources *s)
{
    mvpn_client_status status;
    if (s->sources == NULL) {
        return;
    }
    mvpn_client_get_status(mvpn_engine_client(s->engine), &status);
    mvpn_learner *learner = mvpn_engine_learner(s->engine);
    if (status.state == MVPN_CLIENT_CONNECTED) {
        mvpn_sources_stop(s->sources);
    } else if (!mvpn_learner_is_ready(learner) ||
               mvpn_learner_wants_entries(learner, mvpn_clock_now())) {
        mvpn_sources_start(s->sources);
    }
}

void mvpn_client_sources_end(mvpn_client_sources *s)
{
    if (s->sources != NULL) {
        mvpn_sources_end(s->sources);
    }
}
