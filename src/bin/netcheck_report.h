/*
 * What the results of `meshvpn netcheck` mean, in words and as JSON. (docs/netcheck.md)
 */
#ifndef MVPN_BIN_NETCHECK_REPORT_H
#define MVPN_BIN_NETCHECK_REPORT_H

#include <jansson.h>
#include <stdio.h>

#include "io/netcheck.h"

enum netcheck_kind {
    NETCHECK_GOOD,    /* direct connections are likely */
    NETCHECK_RELAYED, /* some will need a NAT relay */
    NETCHECK_UNSURE,  /* UDP passes, the NAT could not be measured */
    NETCHECK_BLOCKED, /* no answer by UDP */
    NETCHECK_OFFLINE, /* no route */
    NETCHECK_NOBODY,  /* nobody is known who could be asked */
};

#define NETCHECK_ADVICE_MAX 4

/* All text is static. */
typedef struct netcheck_verdict {
    enum netcheck_kind kind;
    const char *summary; /* "Good: ..." */
    size_t advice_count;
    const char *advice[NETCHECK_ADVICE_MAX];
} netcheck_verdict;

/** Pure. */
void netcheck_judge(netcheck_verdict *ret, const mvpn_netcheck_result *result);
/** "good", "relayed", "unsure", "blocked", "offline" or "unknown". */
const char *netcheck_kind_name(enum netcheck_kind kind);
/** Lines for a person, the verdict first. */
void netcheck_print(FILE *out, const mvpn_netcheck_result *result, const netcheck_verdict *verdict);
/** The object "meshvpn.netcheck/1", the caller's; NULL: no memory. */
json_t *netcheck_json(const mvpn_netcheck_result *result, const netcheck_verdict *verdict);

#endif
