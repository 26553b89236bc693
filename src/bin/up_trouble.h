/*
 * Why `meshvpn up` did not connect: each cause with what is wrong, what mends it, and its exit
 * status. The daemon says which stage does not go on (io/status_stages.h); this looks at the host
 * besides, since a missing route or somebody else's VPN explains silence better than silence does.
 */
#ifndef MVPN_BIN_UP_TROUBLE_H
#define MVPN_BIN_UP_TROUBLE_H

#include <jansson.h>

#include "io/config.h"

/* Exit statuses of meshvpn up, as its manual has them. */
enum up_exit {
    UP_CONNECTED = 0,
    UP_FAILED = 1,
    UP_USAGE = 2, /* or configuration */
    UP_CONNECTING = 3,
    UP_NO_NETWORK = 4,
    UP_NO_PATH = 5,
    UP_UDP_BLOCKED = 6,
    UP_NO_GUARD = 7,
    UP_CLOCK = 8,
    UP_NO_TUN = 9,
    UP_NO_RIGHTS = 10,
    UP_OTHER_VPN = 11,
    UP_NO_EXIT = 12,
    UP_NO_NAMES = 13,
    UP_NOT_PROVEN = 14,
    UP_RP_FILTER = 15,
};

typedef struct up_trouble {
    enum up_exit exit;
    const char *code;
    char cause[512];
    char remedy[256];
} up_trouble;

/* Before anything is started. False: nothing is wrong. */
bool up_trouble_before(const mvpn_config *config, up_trouble *ret);

/**
 * What holds the client up, by its status and by what this host looks like. `patience_ms`: for how
 * long that may last before it is taken for a failure. False: it just goes on connecting.
 */
bool up_trouble_find(const json_t *status, const mvpn_config *config, up_trouble *ret,
                     unsigned *ret_patience_ms);

/** The client ended at its start: is there a cause of ours? False: its own words have to do. */
bool up_trouble_after(const mvpn_config *config, up_trouble *ret);

/** What a client that is connected lacks at the exit it has: it leaves by another than was chosen
 * since, or is not yet tested at this one. NULL: nothing. */
const char *up_exit_lacks(const json_t *status);

/** What is left to say when the time is over; `hops` were wished, 0: as it comes. */
void up_trouble_timeout(const json_t *status, unsigned long hops, up_trouble *ret);

#endif
