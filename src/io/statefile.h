/*
 * What a client remembers between runs: one small file per concern in its state directory. Each is
 * replaced as a whole (temporary file, sync, rename) and carries a checksum, so that a crash at any
 * moment leaves the old or the new content, and damage is noticed. Loading never stands in the way
 * of a start: what cannot be read is as if it had never been.
 *
 *   "MVPNSTAT" | [file 1] [zero 3] [length 4] | content | first 16 bytes of BLAKE3 of all before
 *
 * All are mode 0600: they tell which relays somebody used, and when.
 */
#ifndef MVPN_IO_STATEFILE_H
#define MVPN_IO_STATEFILE_H

#include <stdbool.h>

#include "base/bytes.h"
#include "core/path.h"
#include "io/fault.h"
#include "wire/dht.h"

enum mvpn_statefile {
    MVPN_STATE_VIEW,    /* mvpn_view_save */
    MVPN_STATE_GUARDS,  /* mvpn_guards_save */
    MVPN_STATE_ENTRIES, /* mvpn_state_entries */
    MVPN_STATE_KEY,     /* the view's sample key */
    MVPN_STATE_CLOCK,   /* mvpn_state_clock */
    MVPN_STATE_NAT,     /* mvpn_nat_cache */
    MVPN_STATE_EXITS,   /* mvpn_state_exits */
    MVPN_STATE_COUNT
};

/** Make the directory (0700; its parent must be there) and remove what a crash left half written.
 * MVPN_E_SYSTEM: the client can go on without memory. */
MVPN_WUR int mvpn_statefile_prepare(const char *dir, mvpn_fault *fault);

/** Replace a file. MVPN_E_TOO_BIG (nothing is written), MVPN_E_SYSTEM (the old file is whole),
 * MVPN_E_NOMEM. */
MVPN_WUR int mvpn_statefile_save(const char *dir, enum mvpn_statefile which, mvpn_bytes content,
                                 mvpn_fault *fault);

/**
 * Read a file. `*ret` (`*ret_size` bytes) is the caller's, for mvpn_file_free; NULL after a
 * failure. `*ret_is_whole` is false if it was cut off or damaged: then the bytes are what is left
 * of it, for readers that check each record themselves (view, guards).
 * 0; MVPN_E_UNKNOWN: there is none; MVPN_E_FORMAT: it is no such file; MVPN_E_CONFIG, _SYSTEM,
 * _NOMEM. `fault` is for the log; the caller goes on in every case.
 */
MVPN_WUR int mvpn_statefile_load(const char *dir, enum mvpn_statefile which, uint8_t **ret,
                                 size_t *ret_size, bool *ret_is_whole, mvpn_fault *fault);

/* ---- entries that worked ---- */

#define MVPN_STATE_ENTRIES_MAX 64

typedef struct mvpn_state_entries {
    size_t count;
    struct {
        mvpn_dht_contact contact;
        uint64_t worked;          /* Unix seconds, to the day: the file need not tell hours */
    } at[MVPN_STATE_ENTRIES_MAX]; /* the latest first */
} mvpn_state_entries;

/** An entry was vouched for and answered: put it first; of too many the oldest is forgotten. */
void mvpn_state_entries_put(mvpn_state_entries *entries, const mvpn_dht_contact *contact,
                            uint64_t unix_now);
MVPN_WUR int mvpn_state_entries_save(const char *dir, const mvpn_state_entries *entries,
                                     mvpn_fault *fault);
/** What is there; count 0 if nothing is. */
void mvpn_state_entries_load(const char *dir, mvpn_state_entries *ret);
/** Decode the content of such a file; false if it is wrong anywhere (`*ret` is empty then). Pure.
 */
bool mvpn_state_entries_decode(mvpn_state_entries *ret, mvpn_bytes in);

/* ---- exits that were chosen ---- */

/* A relay's name, or all digits of an identity. */
#define MVPN_STATE_EXIT_NAME_MAX 64

/** What `meshvpn exit use` and `exit block` said. */
typedef struct mvpn_state_exits {
    mvpn_exit_choice choice;
    char name[MVPN_STATE_EXIT_NAME_MAX + 1]; /* choice.is_open: by what it was chosen; else "" */
} mvpn_state_exits;

/** Nothing chosen and nothing blocked. */
bool mvpn_state_exits_is_empty(const mvpn_state_exits *exits);
#define MVPN_STATE_EXITS_SIZE                                                                      \
    (4 + MVPN_STATE_EXIT_NAME_MAX + 2 * MVPN_PATH_COUNTRIES_MAX + MVPN_EXIT_BLOCKED_MAX * 32)
/** Write the content of such a file; returns its length. Pure. */
size_t mvpn_state_exits_encode(uint8_t out[static MVPN_STATE_EXITS_SIZE],
                               const mvpn_state_exits *exits);
/** Read it; false if it is not exactly what is written (`*ret` is empty then). Pure. */
bool mvpn_state_exits_decode(mvpn_state_exits *ret, mvpn_bytes in);
MVPN_WUR int mvpn_state_exits_save(const char *dir, const mvpn_state_exits *exits,
                                   mvpn_fault *fault);
/** What is there. 0; MVPN_E_UNKNOWN: nothing; MVPN_E_FORMAT: it is damaged, and what was blocked is
 * not known (the caller says so). */
MVPN_WUR int mvpn_state_exits_load(const char *dir, mvpn_state_exits *ret);

/* ---- the rest ---- */

/** The view's sample key: kept, or drawn and saved. MVPN_E_SYSTEM: no randomness (fatal). If only
 * saving fails, the key holds for this run (0, `fault` says so). */
MVPN_WUR int mvpn_state_sample_key(const char *dir, uint8_t ret[static 16], mvpn_fault *fault);

/** What was found out about our clock: a first guess for the next start. */
typedef struct mvpn_state_clock {
    int64_t offset_s; /* to be added to the system's time */
    uint64_t at;      /* system time at which that was found, Unix seconds */
} mvpn_state_clock;
MVPN_WUR int mvpn_state_clock_save(const char *dir, const mvpn_state_clock *clock,
                                   mvpn_fault *fault);
/** False if there is none. */
bool mvpn_state_clock_load(const char *dir, mvpn_state_clock *ret);

#endif
