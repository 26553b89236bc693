/*
 * The survey's own types, shared by survey.c (what is checked when) and survey_hour.c (snapshots
 * and the file).
 */
#ifndef MVPN_CORE_SURVEY_INTERNAL_H
#define MVPN_CORE_SURVEY_INTERNAL_H

#include "base/hash.h"
#include "base/list.h"
#include "base/timer.h"
#include "core/survey.h"

/* Checks at once: 1,000 relays in two minutes, of which each fifth is dead and holds its place for
 * two time-outs, need 14. One more place is for the measurement. */
#define SURVEY_SLOTS 33

enum timer_kind {
    TIMER_CHECK,
    TIMER_MEASURE,
};

typedef struct survey_entry {
    mvpn_hash_node node;
    mvpn_list link; /* all entries */
    mvpn_timer check, measure;
    mvpn_survey_relay relay;
    uint64_t last_listed; /* Unix seconds: in the view */
    unsigned round;       /* of sync in which it was */
    unsigned slots;       /* checks under way: 0, 1, or 2 */
    uint8_t attempts, doubts;
    mvpn_time attempt_began; /* the latest */
    bool is_listed, is_carrier;
} survey_entry;

typedef struct survey_slot {
    survey_entry *entry; /* NULL: free */
    mvpn_measure measure;
} survey_slot;

typedef struct survey_snapshot {
    mvpn_snapshot_head head;
    uint8_t *bytes; /* owned; NULL: no snapshot */
} survey_snapshot;

struct mvpn_survey {
    mvpn_survey_config cfg;
    mvpn_siphash_key hash_key;
    mvpn_hash table;
    mvpn_list entries;
    mvpn_timers timers;
    survey_slot slots[SURVEY_SLOTS];
    size_t listed, alive;
    unsigned round;
    mvpn_time started, next_sync, next_measure;
    mvpn_time last_answer; /* by any relay; 0: none so far */
    survey_entry *last_answerer;
    uint64_t last_hour;   /* for which a snapshot was made */
    survey_snapshot made; /* waits to be saved */
    survey_snapshot published[MVPN_SURVEY_SNAPSHOTS];
    bool is_new;
    mvpn_survey_counters counters;
};

static inline uint64_t survey_unix(const mvpn_survey *s, mvpn_time now)
{
    int64_t us = (int64_t)now + s->cfg.unix_offset_us;
    return us < 0 ? 0 : (uint64_t)us / MVPN_US_PER_S;
}

survey_entry *survey_find(const mvpn_survey *s, const mvpn_ed25519_pub *identity);
/** NULL if the table is full or memory is used up. */
survey_entry *survey_add(mvpn_survey *s, const mvpn_ed25519_pub *identity);
bool survey_is_self(const mvpn_survey *s, const mvpn_ed25519_pub *identity);
/** Make this hour's snapshot if it is time. */
void survey_make_snapshot(mvpn_survey *s, mvpn_time now);
void survey_drop_snapshots(mvpn_survey *s);

#endif
