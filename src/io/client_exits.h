/*
 * What the person chooses of exits while a client runs: by command or at the start, remembered in
 * the state directory. What is chosen goes before the configuration's exit_country until "auto".
 */
#ifndef MVPN_IO_CLIENT_EXITS_H
#define MVPN_IO_CLIENT_EXITS_H

#include <jansson.h>

#include "base/log.h"
#include "core/engine.h"
#include "io/geoip.h"
#include "io/statefile.h"

/* Exits whose round trip is remembered: of a day with new ones every half hour. */
#define MVPN_CLIENT_EXITS_SEEN 48

typedef struct mvpn_client_exits {
    const char *dir;       /* of state; borrowed, as all pointers */
    const char *geoip_dir; /* "": nothing is checked */
    const mvpn_log *log;
    mvpn_geoip *geoip;
    bool has_loaded; /* the tables, or tried to */
    bool is_fixed;   /* the configuration has a path: nothing can be chosen */
    mvpn_state_exits state;
    struct {
        mvpn_ed25519_pub exit;
        uint32_t rtt_us;
    } seen[MVPN_CLIENT_EXITS_SEEN];
    size_t seen_count; /* ever; the oldest is overwritten */
} mvpn_client_exits;

/**
 * Before the engine: what the last run chose, or `word` (as of `exit use`, checked by
 * mvpn_client_exits_word; NULL: none), into `client`. Reads the tables of countries if one is asked
 * for: MVPN_E_FORMAT, MVPN_E_SYSTEM and so on of mvpn_geoip_load.
 */
MVPN_WUR int mvpn_client_exits_init(mvpn_client_exits *e, const char *dir, const char *geoip_dir,
                                    const mvpn_log *log, const char *word,
                                    mvpn_client_config *client, mvpn_fault *fault);
void mvpn_client_exits_done(mvpn_client_exits *e);
/** Can this be what an exit is called? MVPN_E_CONFIG. */
MVPN_WUR int mvpn_client_exits_word(const char *word, mvpn_fault *fault);

/** Every second: is a name known by now? Which round trips were measured? */
void mvpn_client_exits_check(mvpn_client_exits *e, mvpn_engine *engine, mvpn_time now);
/** The last round trip to an exit that was used, microseconds; 0: not known. */
uint32_t mvpn_client_exits_rtt(const mvpn_client_exits *e, const mvpn_ed25519_pub *exit);
/** A mvpn_path_country_of; `ctx` is the mvpn_client_exits. */
bool mvpn_client_exits_country_of(const void *ctx, const mvpn_addr *addr, char ret_country[3]);
/** Addresses' countries are looked up from now on, if there are tables. */
void mvpn_client_exits_need_countries(mvpn_client_exits *e);

/**
 * Commands: "exit" is "CC", "CC,CC", a name, 8 or more digits of an identity, and for `use` "auto",
 * for `unblock` "all". The reply has "ok", "exit_choice" and perhaps a "note".
 * 0; MVPN_E_INVAL, _UNKNOWN, _LIMIT, _STATE with an "error" in `reply`: nothing is changed.
 */
MVPN_WUR int mvpn_client_exits_use(mvpn_client_exits *e, mvpn_engine *engine, const json_t *request,
                                   mvpn_time now, json_t *reply);
MVPN_WUR int mvpn_client_exits_block(mvpn_client_exits *e, mvpn_engine *engine,
                                     const json_t *request, mvpn_time now, json_t *reply);
MVPN_WUR int mvpn_client_exits_unblock(mvpn_client_exits *e, mvpn_engine *engine,
                                       const json_t *request, mvpn_time now, json_t *reply);
/** The "exit_choice" of a status. */
json_t *mvpn_client_exits_status(const mvpn_client_exits *e, mvpn_engine *engine);

#endif
