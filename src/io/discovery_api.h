/*
 * What a discovery node shows over HTTP: relays to search, the network in numbers, snapshots, the
 * bundle for those who come new (docs/protocol.md §13.3), OpenMetrics, and one page. From a request
 * to a response, without sockets or clocks; all of it is public, and nothing of it is about who
 * asks.
 *
 *   GET /                          the page       GET /page.js, /page.css
 *   GET /v1/relays?...             JSON "meshvpn.relays/1": see mvpn_relay_query
 *   GET /v1/relays/<identity>      JSON "meshvpn.relay/1"
 *   GET /v1/network                JSON "meshvpn.network/1"
 *   GET /v1/snapshot               the newest head and its snapshot, framed as the bundle
 *   GET /v1/snapshot/<digest>      one snapshot, as it is
 *   GET /v1/bundle                 records, snapshot, entries
 *   GET /metrics                   OpenMetrics 1.0
 *
 * Identities and digests are written in lower-case hexadecimal.
 */
#ifndef MVPN_IO_DISCOVERY_API_H
#define MVPN_IO_DISCOVERY_API_H

#include "core/survey.h"
#include "core/view.h"
#include "io/http.h"
#include "wire/dht.h"

#define MVPN_RELAY_LIMIT_DEFAULT 100
#define MVPN_RELAY_LIMIT_MAX 1000
#define MVPN_RELAY_TEXT_MAX 64

enum mvpn_relay_sort {
    MVPN_SORT_SPEED, /* fastest first */
    MVPN_SORT_UPTIME,
    MVPN_SORT_NAME,
    MVPN_SORT_COUNTRY,
};

/** The search of /v1/relays. */
typedef struct mvpn_relay_query {
    char country[3];                    /* country=DE, either case; "" = any */
    uint16_t role;                      /* role=guard|middle|exit|nat|dht|discovery; 0 = any */
    uint32_t min_mbit;                  /* as measured */
    uint16_t min_uptime_h;              /* in a row */
    int alive;                          /* alive=1|0; -1 = any */
    char text[MVPN_RELAY_TEXT_MAX + 1]; /* q=: in name or provider, or begin of the identity */
    enum mvpn_relay_sort sort;          /* sort=speed|uptime|name|country */
    unsigned limit, offset;             /* 1..1000; 0..1,000,000 */
} mvpn_relay_query;

/**
 * Read what stands behind the '?' ("" = nothing). Unknown or repeated parameters and values that
 * mean nothing are refused: MVPN_E_FORMAT, with what is wrong in `why`, without any of the input.
 */
MVPN_WUR int mvpn_relay_query_parse(mvpn_relay_query *ret, const char *query, const char **why);

/** Keep a bundle for so long: making one costs megabytes. */
#define MVPN_DISCOVERY_BUNDLE_S 30
#define MVPN_DISCOVERY_ENTRIES_MAX 16

typedef struct mvpn_discovery {
    /* Borrowed; kept up by the owner. */
    const mvpn_view *view;
    const mvpn_survey *survey;
    const char *network_name;
    mvpn_key network_id;
    bool closed;
    const char *const *names; /* Host headers that are ours, lower-case */
    size_t name_count;
    uint64_t unix_now, started;
    uint64_t nodes; /* estimate of the DHT servers; 0 = unknown */
    mvpn_dht_contact entries[MVPN_DISCOVERY_ENTRIES_MAX];
    size_t entry_count;
    /* Own. */
    mvpn_http_blob *bundle;
    uint64_t bundle_made;
    uint64_t requests[6]; /* by the first digit of their status */
} mvpn_discovery;

/** An mvpn_http_handler; `ctx` is an mvpn_discovery. */
void mvpn_discovery_handle(void *ctx, const mvpn_http_request *request, mvpn_http_response *ret);
void mvpn_discovery_done(mvpn_discovery *d);

#endif
