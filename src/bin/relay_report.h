/*
 * What a relay's status means for who runs it: is it of use to others? Pure; `meshvpn relay status`
 * shows it.
 */
#ifndef MVPN_BIN_RELAY_REPORT_H
#define MVPN_BIN_RELAY_REPORT_H

#include <jansson.h>
#include <stdio.h>

enum relay_reach {
    RELAY_REACHED,  /* others opened links to it by themselves */
    RELAY_BY_RELAY, /* nobody reaches it directly; NAT relays pass on to it */
    RELAY_NOT_YET,  /* too young to say */
    RELAY_SILENT,   /* nobody came in the time that others need */
    RELAY_MUTE,     /* it hears nobody at all */
};

/* Others hear of a relay within minutes; with none of them after this time something is wrong. */
#define RELAY_YOUNG_S 900

typedef struct relay_verdict {
    enum relay_reach reach;
    unsigned links_in; /* links that others opened and that are open */
    unsigned links_in_direct;
    long long links_in_youngest_s; /* -1: none */
    const char *text;              /* static */
    const char *advice;            /* static; NULL: nothing is to be done */
} relay_verdict;

/** `status`: meshvpn.status/1 of a node that is no client. */
void relay_judge(relay_verdict *ret, const json_t *status);

/** "reached", "by-relay", "not-yet", "silent" or "mute". */
const char *relay_reach_name(enum relay_reach reach);

/** One element of "relays" in meshvpn.relay/1, the caller's; NULL: no memory. `later`: the status
 * `seconds` after, for rates; NULL: none. */
json_t *relay_describe(const char *control, const json_t *status, const json_t *later,
                       double seconds);

/** The same for a person. */
void relay_print(FILE *out, const json_t *relay);

#endif
