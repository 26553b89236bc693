/*
 * Path selection: a pure function of view, constraints and randomness.
 *
 * No two hops share an identity, an address block (/16 IPv4, /32 IPv6), a mutual family or a
 * declared provider, unless the network file relaxes the rule. (design §6) The NAT relays of a
 * relay behind a NAT count as that relay; it is no guard and never the only hop. (docs/protocol.md
 * §14.3)
 *
 * Places are drawn by weight: min(declared, cap) in powers of two, so that a large claim gains
 * little and an unproven one nothing.
 */
#ifndef MVPN_CORE_PATH_H
#define MVPN_CORE_PATH_H

#include "core/view.h"
#include "crypto/rng.h"
#include "wire/cell.h"

/* Rules that a network file may relax. */
#define MVPN_RELAX_BLOCK 0x01
#define MVPN_RELAX_PROVIDER 0x02
#define MVPN_RELAX_FAMILY 0x04

/* Relays to keep out of a path: those that just failed, or other guards. */
#define MVPN_PATH_EXCLUDED_MAX 16
/* Exits that other sessions of this client use. */
#define MVPN_PATH_SHUNNED_MAX 16
/* Countries that a user can list by hand. */
#define MVPN_PATH_COUNTRIES_MAX 32
/* Ports that an exit must accept: an application or two, not a scan. */
#define MVPN_PATH_PORTS_MAX 8
/* Exits that a person blocks by hand. */
#define MVPN_EXIT_BLOCKED_MAX 64
/* What weights reach from: up to 2^13 kbit/s (8 Mbit/s) all count alike, beyond 2^23 also. */
#define MVPN_PATH_WEIGHT_LOG2_MIN 13
#define MVPN_PATH_WEIGHT_MAX 1024

/** Countries wanted (one of them), or not wanted (none of them). count 0: any. */
typedef struct mvpn_path_countries {
    bool is_exclusion;
    uint8_t count;
    char code[MVPN_PATH_COUNTRIES_MAX][3];
} mvpn_path_countries;

/** Read "CH", "CH,IS,SE" or "!US,GB"; "" is any. MVPN_E_FORMAT; `*ret` is untouched then. */
MVPN_WUR int mvpn_path_countries_parse(const char *text, mvpn_path_countries *ret);

/** Where an address lies, by a table that the caller has; false if it is not known. */
typedef bool mvpn_path_country_of(const void *ctx, const mvpn_addr *addr, char ret_country[3]);

/**
 * What a person chose of exits while the client runs. `exit`, else `countries` take the place of
 * the constraints' own countries (an exit chosen by identity also that of ports, family and speed);
 * what is blocked is no exit of any path, whatever else is wished. Zeros: nothing was chosen.
 */
typedef struct mvpn_exit_choice {
    bool has_exit; /* this one and no other */
    bool is_open;  /* chosen by a name that is not known yet: no exit fits until it is */
    mvpn_ed25519_pub exit;
    mvpn_path_countries countries; /* count 0: any */
    size_t blocked_count;
    mvpn_ed25519_pub blocked[MVPN_EXIT_BLOCKED_MAX];
    mvpn_path_countries blocked_countries; /* count > 0: with is_exclusion */
} mvpn_exit_choice;

typedef struct mvpn_path_constraints {
    unsigned hops;      /* 1..5 */
    unsigned relax;     /* MVPN_RELAX_* */
    uint8_t family;     /* address family that the client can use: 4, 6, or 0 for any */
    bool allow_private; /* relays at private addresses count too */
    mvpn_path_countries exit_countries;
    uint16_t exit_ports[MVPN_PATH_PORTS_MAX]; /* that the exit's summary must accept */
    size_t exit_port_count;
    uint8_t exit_family;              /* 4, 6: the exit must say that it carries it; 0: any */
    uint32_t exit_min_kbit;           /* as far as is known; 0: any */
    mvpn_path_country_of *country_of; /* NULL: declared countries are checked by the view alone */
    const void *country_ctx;
    const mvpn_exit_choice *choice; /* or NULL: nothing was chosen */
    const mvpn_ed25519_pub *exit;   /* wanted exit, or NULL */
    mvpn_ed25519_pub
        shunned_exits[MVPN_PATH_SHUNNED_MAX]; /* no exits; guards and middles as ever */
    size_t shunned_exit_count;
    const mvpn_ed25519_pub *guard; /* wanted guard, or NULL */
    mvpn_ed25519_pub excluded[MVPN_PATH_EXCLUDED_MAX];
    size_t excluded_count;
    uint64_t unix_now; /* descriptors outside their time are left out; 0 = not checked */
} mvpn_path_constraints;

typedef struct mvpn_path {
    unsigned count;
    mvpn_ed25519_pub hop[MVPN_HOPS_MAX]; /* guard first */
} mvpn_path;

/** The rule that leaves no path. */
enum mvpn_path_block {
    MVPN_PATH_OK,
    MVPN_PATH_NO_EXIT,         /* no exit is known that can be used, or not the wanted one */
    MVPN_PATH_NO_EXIT_CHOSEN,  /* exits are known, but not the one that the user chose */
    MVPN_PATH_NO_EXIT_COUNTRY, /* exits are known, none in such a country (as far as proven) */
    MVPN_PATH_NO_EXIT_PORT,    /* none there accepts these ports or this address family */
    MVPN_PATH_NO_EXIT_SPEED,   /* none of those is as fast */
    MVPN_PATH_NO_EXIT_BLOCKED, /* those that fit are blocked by the user */
    MVPN_PATH_NO_GUARD,        /* no guard is reachable from here */
    MVPN_PATH_GUARD_LIMIT,     /* our guards do not answer, and no more new ones are tried today */
    MVPN_PATH_NO_MIDDLE,       /* not enough relays that differ from the others */
    MVPN_PATH_RELATED,         /* relays are there, but all break a rule of distinctness */
};
const char *mvpn_path_block_text(enum mvpn_path_block block);

/**
 * Draw a path. MVPN_PATH_OK and `*ret`, or the rule that blocks it.
 * Dead and withdrawn relays are never drawn; unconfirmed ones only while the confirmed ones make no
 * path, and not at all once the view as a whole is confirmed (docs/protocol.md §12).
 * One pass over the view (of MVPN_VIEW_MAX relays at most).
 */
enum mvpn_path_block mvpn_path_select(const mvpn_view *view, const mvpn_path_constraints *wish,
                                      mvpn_rng *rng, mvpn_path *ret);

/** May these two stand in one path? Their NAT relays count as far as the view knows them. */
bool mvpn_path_are_distinct(const mvpn_view *view, const mvpn_descriptor *a,
                            const mvpn_descriptor *b, unsigned relax);

/** Could this relay be the guard of a path? Whether it is excluded for now is not asked. */
bool mvpn_path_fits_guard(const mvpn_descriptor *d, const mvpn_view_info *info,
                          const mvpn_path_constraints *wish);

/**
 * Would this relay do as the exit: MVPN_PATH_OK, or MVPN_PATH_NO_EXIT and its kin. Whether it can
 * be joined with guards and middles is not asked, `wish->excluded` neither.
 */
enum mvpn_path_block mvpn_path_judge_exit(const mvpn_descriptor *d, const mvpn_view_info *info,
                                          const mvpn_path_constraints *wish);

/** The declared bandwidth, log2(kbit/s), that a quarter of the relays with one stay below: caps
 * where nothing was measured. 0 if no relay declares any. */
uint8_t mvpn_path_declared_quartile(const mvpn_view *view);
/** 1..MVPN_PATH_WEIGHT_MAX, a power of two; `quartile` as above. */
uint32_t mvpn_path_weight(const mvpn_descriptor *d, const mvpn_view_info *info, uint8_t quartile);

enum mvpn_path_country {
    MVPN_PATH_COUNTRY_UNKNOWN, /* it says none, or nothing is known of its addresses */
    MVPN_PATH_COUNTRY_PROVEN,  /* its addresses lie where it says */
    MVPN_PATH_COUNTRY_WRONG,   /* an address lies elsewhere, or a discovery node says so */
};
/** Is the declared country true? `country_of` may be NULL. */
enum mvpn_path_country mvpn_path_check_country(const mvpn_descriptor *d, const mvpn_view_info *info,
                                               mvpn_path_country_of *country_of, const void *ctx);

#endif
