/*
 * Where a client learns whom to ask first: cached entries and those of the network file at once;
 * DNS, discovery URLs and the local network at the same time. Any one of them will do, and none is
 * believed: entries must turn out to be vouched for, records verify or are dropped.
 * (docs/protocol.md §13)
 *
 *   IDLE --start--> ROUND (all sources at once) --5 s, doubled up to 5 min, +-25 %--> ROUND ...
 *    ^                                                                                  |
 *    +------------------------------- stop (connected) ---------------------------------+
 *
 * After stop nothing is sent any more: who watches the client's line sees its guards alone.
 */
#ifndef MVPN_IO_SOURCES_H
#define MVPN_IO_SOURCES_H

#include "base/log.h"
#include "io/loop.h"
#include "io/mark.h"
#include "io/network_file.h"
#include "io/statefile.h"
#include "wire/bundle.h"

typedef struct mvpn_sources mvpn_sources;

enum mvpn_source_kind {
    MVPN_SOURCE_CACHE, /* worked before */
    MVPN_SOURCE_FILE,  /* network file: also what an invitation brought */
    MVPN_SOURCE_DNS,
    MVPN_SOURCE_URL,
    MVPN_SOURCE_LAN,
};
#define MVPN_SOURCE_KINDS 5

/**
 * What the sources bring. `origin` is the DNS name or URL it came from, else NULL; all is borrowed
 * for the call. Any may be NULL. mvpn_sources_start and _stop may be called from here, _free not.
 */
typedef struct mvpn_sources_calls {
    /** Somebody to ask. The same one may come again in each round. */
    void (*entry)(void *ctx, enum mvpn_source_kind kind, const char *origin,
                  const mvpn_dht_contact *entry);
    /** A record (mvpn_record_type) or a snapshot (MVPN_BUNDLE_SNAPSHOT), not verified yet. Heads
     * come as they are in the bundle: a snapshot may come before its head. */
    void (*record)(void *ctx, const char *origin, unsigned type, mvpn_bytes record);
    /** The last part of a bundle has been given. */
    void (*bundle_ended)(void *ctx, const char *origin);
    /** A web server's idea of Unix time: a weak hint, for when no peer said anything. */
    void (*date)(void *ctx, const char *origin, uint64_t unix_time);
    void *ctx;
} mvpn_sources_calls;

typedef struct mvpn_sources_config {
    mvpn_loop *loop;                  /* borrowed, as all pointers here but `cached` */
    const mvpn_log *log;              /* may be NULL */
    const mvpn_network_file *network; /* entries, dns, discovery, lan_discovery */
    const mvpn_state_entries *cached; /* copied; NULL = none */
    const mvpn_marker *marker;        /* of all sockets; or NULL */
    mvpn_sources_calls calls;
    /* For tests; 0 and NULL for what holds else. */
    const mvpn_addr *dns_server;
    unsigned retry_ms, retry_max_ms;
    unsigned timeout_ms; /* of DNS and transfers */
} mvpn_sources_config;

/** Make them; nothing is sent yet. The system's name servers are read now, before a tunnel changes
 * them. MVPN_E_NOMEM, MVPN_E_SYSTEM. */
MVPN_WUR int mvpn_sources_new(const mvpn_sources_config *config, mvpn_sources **ret,
                              mvpn_fault *fault);
/** NULL is allowed. */
void mvpn_sources_free(mvpn_sources *sources);

/** Entries are needed: begin with a first round. Entries from cache and file are given before this
 * returns. Nothing happens if they run already. */
void mvpn_sources_start(mvpn_sources *sources);
/** The client is connected: what is under way is dropped. */
void mvpn_sources_stop(mvpn_sources *sources);
/** The same before this returns, connections with a reset: where no word of them leaves this host
 * from now on, servers would repeat theirs for minutes. Never from a call of the sources. */
void mvpn_sources_end(mvpn_sources *sources);
bool mvpn_sources_are_running(const mvpn_sources *sources);
/** An entry that worked, for the rounds to come. */
void mvpn_sources_cache(mvpn_sources *sources, const mvpn_dht_contact *entry, uint64_t unix_now);

typedef struct mvpn_sources_status {
    unsigned rounds; /* since the last start */
    struct {
        bool is_used;           /* there is something to ask */
        uint64_t entries;       /* brought since the beginning */
        uint64_t failures;      /* in a row; of URLs together */
        const char *last_error; /* "" after success; borrowed until the next call */
    } kind[MVPN_SOURCE_KINDS];
} mvpn_sources_status;
void mvpn_sources_get_status(const mvpn_sources *sources, mvpn_sources_status *ret);

/** "cache", "network file", "DNS", "URL" or "local network". */
const char *mvpn_source_kind_name(enum mvpn_source_kind kind);

#endif
