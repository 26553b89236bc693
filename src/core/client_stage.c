#include "core/client_stage.h"

void mvpn_stages_init(mvpn_stages *stages, mvpn_time now)
{
    *stages = (mvpn_stages){.since = now, .has_changed = true};
}

void mvpn_stages_reach(mvpn_stages *stages, enum mvpn_stage stage, mvpn_time now)
{
    if (mvpn_stages_has(stages, stage)) {
        return;
    }
    while (!mvpn_stages_has(stages, stage)) {
        stages->took[stages->next++] = now - stages->since;
        stages->since = now;
    }
    stages->trouble = (mvpn_stage_trouble){.cause = MVPN_STAGE_NOTHING};
    stages->has_changed = true;
}

void mvpn_stages_hold(mvpn_stages *stages, enum mvpn_stage stage, const mvpn_stage_trouble *t)
{
    const mvpn_stage_trouble *old = &stages->trouble;
    bool is_same = old->cause == t->cause && old->block == t->block && old->error == t->error &&
                   old->hop == t->hop;
    if (stages->next == (unsigned)stage && !is_same) {
        stages->trouble = *t;
        stages->has_changed = true;
    }
}

void mvpn_stages_lose(mvpn_stages *stages, enum mvpn_stage stage, mvpn_time now)
{
    if (!mvpn_stages_has(stages, stage)) {
        return;
    }
    stages->next = stage;
    stages->since = now;
    stages->trouble = (mvpn_stage_trouble){.cause = MVPN_STAGE_NOTHING};
    stages->has_changed = true;
}

void mvpn_stages_get(const mvpn_stages *stages, mvpn_time now,
                     mvpn_stage_report ret[static MVPN_STAGES])
{
    for (unsigned i = 0; i < MVPN_STAGES; i++) {
        ret[i] = (mvpn_stage_report){.state = MVPN_STAGE_WAITING};
        if (i < stages->next) {
            ret[i].state = MVPN_STAGE_DONE;
            ret[i].took = stages->took[i];
        } else if (i == stages->next) {
            ret[i].state = stages->trouble.cause != MVPN_STAGE_NOTHING ? MVPN_STAGE_FAILED
                                                                       : MVPN_STAGE_RUNNING;
            ret[i].took = now - stages->since;
            ret[i].trouble = stages->trouble;
        }
    }
}

bool mvpn_stages_take_change(mvpn_stages *stages)
{
    bool has_changed = stages->has_changed;
    stages->has_changed = false;
    return has_changed;
}
