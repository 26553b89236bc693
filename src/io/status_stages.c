#include "io/status_stages.h"

#include <stdio.h>

#include "base/error.h"
#include "io/silence.h"

/* Names are for programs, titles for people. */
static const struct {
    const char *name, *title;
} stages[MVPN_STAGES] = {
    [MVPN_STAGE_HOST] = {"host", "host prepared"},
    [MVPN_STAGE_NETWORK] = {"network", "network found"},
    [MVPN_STAGE_GUARD] = {"guard", "guard handshake"},
    [MVPN_STAGE_CIRCUIT] = {"circuit", "circuit built"},
    [MVPN_STAGE_EXIT] = {"exit", "exit answers"},
    [MVPN_STAGE_NAMES] = {"names", "names resolve"},
    [MVPN_STAGE_CHECK] = {"checked", "protection checked"},
};

static const char *code_of(enum mvpn_stage_cause cause)
{
    switch (cause) {
    case MVPN_STAGE_NOTHING:
        return NULL;
    case MVPN_STAGE_OFFLINE:
        return "offline";
    case MVPN_STAGE_NO_ENTRY:
        return "no-entry";
    case MVPN_STAGE_NO_PATH:
        return "no-path";
    case MVPN_STAGE_NO_GUARD:
        return "no-guard";
    case MVPN_STAGE_NO_HOP:
        return "no-hop";
    case MVPN_STAGE_NO_SESSION:
        return "no-session";
    case MVPN_STAGE_NO_ANSWER:
        return "names-silent";
    case MVPN_STAGE_NO_NAMES:
        return "names-refused";
    case MVPN_STAGE_NO_PROOF:
        return "check-failed";
    }
    return NULL;
}

static void reason_of(const mvpn_stage_trouble *t, char out[static MVPN_STATUS_STAGE_TEXT])
{
    const char *text = "";
    switch (t->cause) {
    case MVPN_STAGE_NOTHING:
        break;
    case MVPN_STAGE_OFFLINE:
        text = "this host has no address in any network";
        break;
    case MVPN_STAGE_NO_ENTRY:
        text = "none of those whom the network file names answers";
        break;
    case MVPN_STAGE_NO_PATH:
        text = mvpn_path_block_text(t->block);
        break;
    case MVPN_STAGE_NO_GUARD:
        text = "none of this client's guards answers";
        break;
    case MVPN_STAGE_NO_HOP:
        (void)snprintf(out, MVPN_STATUS_STAGE_TEXT, "relay %u of the path: %s; others are tried",
                       t->hop, mvpn_strerror(t->error));
        return;
    case MVPN_STAGE_NO_SESSION:
        (void)snprintf(out, MVPN_STATUS_STAGE_TEXT,
                       "the exit opens no session: %s; others are tried", mvpn_strerror(t->error));
        return;
    case MVPN_STAGE_NO_ANSWER:
        text = "the exit's resolver does not answer";
        break;
    case MVPN_STAGE_NO_NAMES:
        text = "the exit's resolver cannot resolve names";
        break;
    case MVPN_STAGE_NO_PROOF:
        text = "the test of what protects this host failed: see the proof";
        break;
    }
    (void)snprintf(out, MVPN_STATUS_STAGE_TEXT, "%s", text);
}

static const char *state_text(enum mvpn_stage_state state)
{
    switch (state) {
    case MVPN_STAGE_WAITING:
        break;
    case MVPN_STAGE_RUNNING:
        return "running";
    case MVPN_STAGE_DONE:
        return "done";
    case MVPN_STAGE_FAILED:
        return "failed";
    }
    return "waiting";
}

/* Silence explains all that happens outside, up to the session. */
static bool is_by_silence(unsigned stage, const mvpn_stage_report *r, bool is_unheard)
{
    bool is_under_way = r->state == MVPN_STAGE_RUNNING || r->state == MVPN_STAGE_FAILED;
    return is_unheard && is_under_way && stage != MVPN_STAGE_HOST && stage <= MVPN_STAGE_EXIT &&
           r->trouble.cause != MVPN_STAGE_OFFLINE;
}

static json_t *describe(unsigned stage, const mvpn_stage_report *r, bool is_unheard)
{
    json_t *o = json_object();
    char reason[MVPN_STATUS_STAGE_TEXT] = "";
    bool is_silent = is_by_silence(stage, r, is_unheard);
    const char *code = is_silent ? "udp-blocked" : code_of(r->trouble.cause);
    enum mvpn_stage_state state = is_silent ? MVPN_STAGE_FAILED : r->state;
    if (is_silent) {
        (void)snprintf(reason, sizeof(reason), "%s", mvpn_silence_text());
    } else {
        reason_of(&r->trouble, reason);
    }
    (void)json_object_set_new(o, "name", json_string(stages[stage].name));
    (void)json_object_set_new(o, "title", json_string(stages[stage].title));
    (void)json_object_set_new(o, "state", json_string(state_text(state)));
    (void)json_object_set_new(
        o, "ms",
        state == MVPN_STAGE_WAITING ? json_null() : json_real((double)(r->took / 100) / 10));
    (void)json_object_set_new(o, "code", code != NULL ? json_string(code) : json_null());
    (void)json_object_set_new(o, "reason", code != NULL ? json_string(reason) : json_null());
    return o;
}

json_t *mvpn_status_stages(const mvpn_client *client, bool is_unheard, mvpn_time now)
{
    mvpn_stage_report reports[MVPN_STAGES];
    json_t *list = json_array();
    unsigned count = mvpn_client_stages(client, now, reports);
    for (unsigned i = 0; i < count; i++) {
        (void)json_array_append_new(list, describe(i, &reports[i], is_unheard));
    }
    return list;
}

void mvpn_status_stage_line(const mvpn_client *client, bool is_unheard, mvpn_time now,
                            char out[static MVPN_STATUS_STAGE_TEXT])
{
    mvpn_stage_report reports[MVPN_STAGES];
    char reason[MVPN_STATUS_STAGE_TEXT] = "";
    unsigned at = 0;
    unsigned count = mvpn_client_stages(client, now, reports);
    while (at < count && reports[at].state == MVPN_STAGE_DONE) {
        at++;
    }
    if (at == count) {
        (void)snprintf(out, MVPN_STATUS_STAGE_TEXT, "connected");
        return;
    }
    if (is_by_silence(at, &reports[at], is_unheard)) {
        (void)snprintf(reason, sizeof(reason), "%s", mvpn_silence_text());
    } else {
        reason_of(&reports[at].trouble, reason);
    }
    (void)snprintf(out, MVPN_STATUS_STAGE_TEXT, "%s: %s (%u/%u)%s%.150s",
                   at > MVPN_STAGE_EXIT ? "connected" : "connecting", stages[at].title, at + 1,
                   count, reason[0] != '\0' ? ": " : "", reason);
}
