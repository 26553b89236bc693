/*
 * What the parts of the view share: relays and records (view.c), discovery nodes and their
 * snapshots (view_snapshot.c), the cache on disk (view_cache.c).
 */
#ifndef MVPN_CORE_VIEW_INTERNAL_H
#define MVPN_CORE_VIEW_INTERNAL_H

#include "base/hash.h"
#include "core/view.h"
#include "crypto/hash.h"

/* Sources kept of a relay: two confirm it; more, so that it stays confirmed when one is caught. */
#define VIEW_SOURCES_MAX 4
/* Hours of a discovery node whose digests are remembered: a second head may come late. */
#define VIEW_HOURS_MAX 4
/* Sources asked for the head of one hour: each could have been shown another one. */
#define VIEW_HEAD_SOURCES_MAX 8

typedef struct view_measure {
    uint8_t count;    /* discovery nodes that measured it */
    uint8_t cap_log2; /* their median; 255: count is 0 */
    uint16_t uptime_h;
    bool is_dead;
    bool country_wrong;
} view_measure;

typedef struct view_relay {
    mvpn_hash_node by_identity; /* first: cast back */
    mvpn_dht_id key;
    uint64_t sample;    /* the lowest stay when there are too many; 0: of the network file */
    uint64_t serial;    /* of its membership certificate, if it has one */
    uint64_t expires;   /* Unix seconds */
    uint8_t digest[16]; /* of the descriptor, as snapshots name it */
    bool is_local;
    bool is_confirmed;
    uint8_t source_count;
    mvpn_view_source sources[VIEW_SOURCES_MAX];
    uint64_t first_seen, last_shown;
    view_measure measure;
    mvpn_descriptor d;
} view_relay;

typedef struct view_hour {
    uint64_t hour;
    mvpn_key digest;
} view_hour;

/* A discovery node: its latest head, and the snapshot that we hold of it (maybe an older one). */
typedef struct view_discovery {
    mvpn_dht_id key;
    mvpn_snapshot_head head;
    uint64_t expires;
    view_hour hours[VIEW_HOURS_MAX]; /* a ring of what it has shown */
    size_t hour_next;
    mvpn_view_source shown_by[VIEW_HEAD_SOURCES_MAX]; /* the latest head */
    size_t shown_count;
    /* Caught showing two lists for one hour: both heads are kept as the proof. */
    bool is_caught;
    uint8_t proof[2][MVPN_SNAPSHOT_HEAD_MAX];
    uint16_t proof_len[2];
    uint8_t *snapshot; /* NULL: none */
    size_t snapshot_len;
    mvpn_snapshot_head snapshot_head; /* its own, kept for the cache */
} view_discovery;

struct mvpn_view {
    mvpn_view_config config;
    mvpn_siphash_key hash_key;
    mvpn_hash by_identity;
    view_relay **relays; /* by key, ascending */
    size_t count, size;
    size_t unsigned_count; /* relays added without encoding: in no directory */
    size_t confirmed_count;
    view_relay *worst; /* highest sample; NULL: to be found again */
    mvpn_revocations revocations;
    mvpn_dht_id revocations_key;
    view_discovery *discovery[MVPN_VIEW_HEADS_MAX];
    size_t discovery_count;
    size_t equivocations;
    uint8_t network_cap; /* 25th percentile of the measurements; 255: none */
    uint64_t now;        /* the latest time that we were told */
};

view_relay *view_relay_of(const mvpn_view *view, const mvpn_ed25519_pub *identity);
view_relay *view_relay_at_key(const mvpn_view *view, const mvpn_dht_id *key);
bool view_is_revoked(const mvpn_view *view, uint64_t serial);
uint64_t view_serial(const uint8_t membership[static MVPN_MEMBERSHIP_LEN]);

/** Count a source of a relay; judges again whether it is confirmed. */
void view_credit(mvpn_view *view, view_relay *relay, mvpn_view_source source);
/** Forget all sources that a node caught cheating is behind. */
void view_purge_sources(mvpn_view *view);

/** As mvpn_view_put for a descriptor; `*ret_held` is what the view holds of that identity if it is
 * exactly this record, else NULL. */
MVPN_WUR int view_put_descriptor(mvpn_view *view, mvpn_bytes record, mvpn_view_source source,
                                 uint64_t unix_now, view_relay **ret_held);
MVPN_WUR int view_put_head(mvpn_view *view, mvpn_bytes record, mvpn_view_source source,
                           uint64_t unix_now);
/** A proof from the cache: two heads of one node and hour. */
MVPN_WUR int view_put_proof(mvpn_view *view, mvpn_bytes a, mvpn_bytes b);

view_discovery *view_discovery_of(const mvpn_view *view, const mvpn_ed25519_pub *identity);
void view_discovery_done(view_discovery *d);
/** True if this source is a discovery node that was caught. */
bool view_source_is_caught(const mvpn_view *view, mvpn_view_source source);
/** True if a directory that lists this hour of a head should be asked for it. */
bool view_wants_head(const view_discovery *d, uint64_t hour, mvpn_view_source source);
/** Measurements of one relay, or of all and the network's, again. */
void view_measure_one(mvpn_view *view, view_relay *relay);
void view_measure_all(mvpn_view *view);
void view_expire_discovery(mvpn_view *view, uint64_t unix_now);
/** Drop discovery nodes whose certificates are revoked. */
void view_revoke_discovery(mvpn_view *view);

/** Give the keyed hashes a new key: the cache's, whose sources are comparable only under it. */
void view_rekey(mvpn_view *view, const uint8_t key[static 16]);

#endif
