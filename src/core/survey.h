/*
 * The survey of a discovery node: what it knows of each relay over time, what to check next, and
 * the snapshot of each hour. Sans-IO; driven like the client engine, with circuits of its own.
 * (docs/protocol.md §8.5, §8.6; design §6)
 *
 *   view --every 10 s--> table --due--> checks (mvpn_measure) --> table --every hour--> snapshot
 *
 * A relay that does not answer is asked once more before it counts as silent, and then only if some
 * other relay answered meanwhile: when our own network is gone, nobody is dead.
 */
#ifndef MVPN_CORE_SURVEY_H
#define MVPN_CORE_SURVEY_H

#include "core/measure.h"
#include "wire/record.h"

typedef struct mvpn_survey mvpn_survey;

/* Relays remembered: as many as a snapshot can hold. */
#define MVPN_SURVEY_MAX MVPN_SNAPSHOT_ENTRIES_MAX
/* Bandwidths kept of each relay: their median counts, so two wrong ones do no harm. */
#define MVPN_SURVEY_SAMPLES 5
/* Snapshots of our own that are kept: this hour's and those that somebody may still be fetching. */
#define MVPN_SURVEY_SNAPSHOTS 3

/** The country of an address: two upper-case letters and a zero; false if it is not known. */
typedef bool mvpn_survey_country_fn(void *ctx, const mvpn_addr *addr, char ret[static 3]);

typedef struct mvpn_survey_config {
    mvpn_circuit_env env; /* pointers borrowed */
    mvpn_ed25519_pub identity;
    mvpn_ed25519_secret secret; /* of the identity: signs the heads */
    bool has_membership;        /* closed network: with the discovery role */
    uint8_t membership[MVPN_MEMBERSHIP_LEN];
    int64_t unix_offset_us;
    mvpn_survey_country_fn *country; /* NULL: countries are not checked */
    void *country_ctx;
    /* A snapshot counts as published only after mvpn_survey_saved: a node that lost its file must
     * not show a second one for the same hour. */
    bool must_save;
    bool no_bandwidth;          /* liveness only */
    mvpn_time check_interval;   /* 0 = 120 s (longer beyond 1,000 relays) */
    mvpn_time measure_interval; /* 0 = 6 h */
    mvpn_time measure_pause;    /* between two measurements; 0 = 4 s */
} mvpn_survey_config;

/** What is known of one relay. Times are Unix seconds, 0 = never. */
typedef struct mvpn_survey_relay {
    mvpn_ed25519_pub identity;
    uint64_t first_seen;
    uint64_t last_checked;
    uint64_t last_answered;
    uint64_t up_since; /* answers since then without a gap; 0 = does not answer */
    uint64_t measured;
    uint32_t checks, answers;
    uint32_t rtt_us;
    bool country_wrong;
    uint8_t samples; /* of kbit[], the newest last */
    uint32_t kbit[MVPN_SURVEY_SAMPLES];
} mvpn_survey_relay;

MVPN_WUR int mvpn_survey_new(const mvpn_survey_config *config, mvpn_time now, mvpn_survey **ret);
/** Circuits are closed with a word to the relays. NULL is allowed. */
void mvpn_survey_free(mvpn_survey *survey, mvpn_time now);
void mvpn_survey_set_unix_offset(mvpn_survey *survey, int64_t unix_offset_us);

/** A verified message of a link: true if it belongs to a check (packet taken), else the packet
 * stays the caller's. */
bool mvpn_survey_message(mvpn_survey *survey, mvpn_link *link, const mvpn_header *header,
                         mvpn_packet *packet, mvpn_time now);
void mvpn_survey_link_closed(mvpn_survey *survey, mvpn_link *link, mvpn_time now);
void mvpn_survey_tick(mvpn_survey *survey, mvpn_time now);
mvpn_time mvpn_survey_deadline(const mvpn_survey *survey);

/** What is known of a relay, borrowed until the next tick; NULL if nothing. */
const mvpn_survey_relay *mvpn_survey_find(const mvpn_survey *survey,
                                          const mvpn_ed25519_pub *identity);
/** Whose survey it is: not in the table, and alive. */
const mvpn_ed25519_pub *mvpn_survey_identity(const mvpn_survey *survey);
bool mvpn_survey_relay_is_alive(const mvpn_survey_relay *relay);
/** Median of the measurements, kbit/s; 0 = not measured. */
uint32_t mvpn_survey_relay_kbit(const mvpn_survey_relay *relay);
/** Hours in a row. */
uint16_t mvpn_survey_relay_uptime_h(const mvpn_survey_relay *relay, uint64_t unix_now);

/* ---- snapshots ---- */

/** A snapshot was made and waits to be saved (must_save): save, then call mvpn_survey_saved. */
bool mvpn_survey_wants_saving(const mvpn_survey *survey);
void mvpn_survey_saved(mvpn_survey *survey);
/** The snapshot published last, and those before; `index` 0 is the newest. NULL: none so far. The
 * bytes live as long as the survey holds it. */
const mvpn_snapshot_head *mvpn_survey_head(const mvpn_survey *survey, size_t index);
mvpn_bytes mvpn_survey_snapshot(const mvpn_survey *survey, size_t index);
/** True once for each snapshot newly published: store its head in the DHT and the view. */
bool mvpn_survey_take_new(mvpn_survey *survey);

/* ---- the file on disk ---- */

size_t mvpn_survey_save_size(const mvpn_survey *survey);
/** Write the latest snapshot, then the relays, each with its own checksum. Returns the length, 0 if
 * `size` is less than mvpn_survey_save_size. */
size_t mvpn_survey_save(const mvpn_survey *survey, uint8_t *out, size_t size);
/**
 * Read it, before the first tick. What is cut off or damaged is left out; an hour whose snapshot
 * was lost gets no second one. Returns how many relays were taken.
 */
size_t mvpn_survey_load(mvpn_survey *survey, mvpn_bytes saved, mvpn_time now);

typedef struct mvpn_survey_counters {
    uint64_t checks, answers, failures, inconclusive;
    uint64_t measurements, measurements_failed, measured_bytes;
    uint64_t snapshots;
} mvpn_survey_counters;
const mvpn_survey_counters *mvpn_survey_get_counters(const mvpn_survey *survey);
size_t mvpn_survey_count(const mvpn_survey *survey);       /* relays remembered */
size_t mvpn_survey_alive_count(const mvpn_survey *survey); /* that answered last */

#endif
