/*
 * What a client is doing while it connects, as a person waits for it: stages one after the other,
 * each with how long it took or what holds it up. Pure: fed by the client (client.c) when something
 * happens, read at any time.
 *
 *   HOST -> NETWORK -> GUARD -> CIRCUIT -> EXIT -> NAMES -> CHECK
 *
 * A stage is reached once it has happened, all before it with it. One that failed is still being
 * tried: what failed is told until it is reached. When the connection is lost, the stages from
 * GUARD on begin again.
 */
#ifndef MVPN_CORE_CLIENT_STAGE_H
#define MVPN_CORE_CLIENT_STAGE_H

#include <stdbool.h>

#include "core/path.h"

enum mvpn_stage {
    MVPN_STAGE_HOST,    /* TUN, routes, kill switch (a proxy: its sockets) */
    MVPN_STAGE_NETWORK, /* enough relays are known to draw a path */
    MVPN_STAGE_GUARD,   /* a guard has joined a circuit */
    MVPN_STAGE_CIRCUIT, /* and all hops behind it */
    MVPN_STAGE_EXIT,    /* the exit has opened a session: packets flow */
    MVPN_STAGE_NAMES,   /* it has answered a question of DNS */
    MVPN_STAGE_CHECK,   /* what protects the host was tested, and holds (core/proof.h) */
};
#define MVPN_STAGES 7

enum mvpn_stage_state {
    MVPN_STAGE_WAITING, /* for those before it */
    MVPN_STAGE_RUNNING,
    MVPN_STAGE_DONE,
    MVPN_STAGE_FAILED, /* and is tried again */
};

/* What holds a stage up. */
enum mvpn_stage_cause {
    MVPN_STAGE_NOTHING,
    MVPN_STAGE_OFFLINE,    /* this host has no address */
    MVPN_STAGE_NO_ENTRY,   /* none of those whom the network file names answers */
    MVPN_STAGE_NO_PATH,    /* `block` says why none can be drawn */
    MVPN_STAGE_NO_GUARD,   /* none of our guards answers */
    MVPN_STAGE_NO_HOP,     /* a relay behind the guard does not: `error`, `hop` */
    MVPN_STAGE_NO_SESSION, /* the exit opens none: `error` */
    MVPN_STAGE_NO_ANSWER,  /* its resolver says nothing */
    MVPN_STAGE_NO_NAMES,   /* or that it cannot resolve */
    MVPN_STAGE_NO_PROOF,   /* the test found something that does not hold */
};

typedef struct mvpn_stage_trouble {
    enum mvpn_stage_cause cause;
    enum mvpn_path_block block;
    int error;    /* MVPN_E_* */
    unsigned hop; /* 1 = guard; 0: none to blame */
} mvpn_stage_trouble;

typedef struct mvpn_stages {
    unsigned next;   /* the first that is not reached; MVPN_STAGES: all are */
    mvpn_time since; /* when it began */
    mvpn_time took[MVPN_STAGES];
    mvpn_stage_trouble trouble; /* of `next` */
    bool has_changed;           /* since mvpn_stages_take_change */
} mvpn_stages;

typedef struct mvpn_stage_report {
    enum mvpn_stage_state state;
    mvpn_time took; /* DONE; of the others: so far */
    mvpn_stage_trouble trouble;
} mvpn_stage_report;

void mvpn_stages_init(mvpn_stages *stages, mvpn_time now);
/** It has happened, and so must all before it have. Nothing changes if it had already. */
void mvpn_stages_reach(mvpn_stages *stages, enum mvpn_stage stage, mvpn_time now);
/** What holds it up, unless it is reached or one before it is not. */
void mvpn_stages_hold(mvpn_stages *stages, enum mvpn_stage stage,
                      const mvpn_stage_trouble *trouble);
/** It and those behind it have to happen again. */
void mvpn_stages_lose(mvpn_stages *stages, enum mvpn_stage stage, mvpn_time now);

static inline bool mvpn_stages_has(const mvpn_stages *stages, enum mvpn_stage stage)
{
    return stages->next > (unsigned)stage;
}

void mvpn_stages_get(const mvpn_stages *stages, mvpn_time now,
                     mvpn_stage_report ret[static MVPN_STAGES]);
/** Has anything changed since the last call? */
bool mvpn_stages_take_change(mvpn_stages *stages);

#endif
