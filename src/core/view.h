/*
 * The relay view: the records that a node holds, what it knows of each relay beside them, and from
 * whom it has them. One interface, whatever fills it: network file, directories, walks, snapshots,
 * the cache of the last run. Paths are drawn from here and from nowhere else. (docs/protocol.md
 * §12)
 */
#ifndef MVPN_CORE_VIEW_H
#define MVPN_CORE_VIEW_H

#include "base/error.h"
#include "crypto/rng.h"
#include "wire/descriptor.h"
#include "wire/dht.h"
#include "wire/record.h"

/* Relays that a view holds at most (design: a client aims at all of up to 5,000). Beyond, it keeps
 * those whose keyed hash is lowest: a uniform sample, the same while the key is. */
#define MVPN_VIEW_MAX 5000
/* Snapshot heads kept: of as many discovery nodes, the latest hour each. */
#define MVPN_VIEW_HEADS_MAX 16

typedef struct mvpn_view mvpn_view;

/* Snapshots held, of as many discovery nodes: three measurements make a median, and some of them
 * are gone or lie. Each is 4 MB at most (40 bytes a relay). */
#define MVPN_VIEW_SNAPSHOTS_MAX 5
/* Measurements of a relay from which their median counts. */
#define MVPN_VIEW_MEASURES_MIN 3

/**
 * Who showed something: keyed hashes of a directory's provider, family or identity, and address
 * blocks, so that two nodes of one operator (by the rules of distinctness) count once. Of the view
 * that made it, after its cache was loaded. 0: nobody, counts nothing.
 */
typedef uint64_t mvpn_view_source;
/** The network file or this node itself: counts as confirmed at once. */
#define MVPN_VIEW_LOCAL ((mvpn_view_source)1)
typedef struct mvpn_view_config {
    const mvpn_trust *trust; /* borrowed */
    unsigned relax;          /* MVPN_RELAX_* of core/path.h: they hold for operators too */
    uint8_t sample_key[16];  /* random, kept with the cache */
    size_t max;              /* 0 = MVPN_VIEW_MAX */
} mvpn_view_config;

MVPN_WUR int mvpn_view_new(const mvpn_view_config *config, mvpn_view **ret);
void mvpn_view_free(mvpn_view *view);

/** The source that a directory is: by its descriptor (give it whenever there is one) and by the
 * address where it answers; either may be NULL. */
mvpn_view_source mvpn_view_source_of(const mvpn_view *view, const mvpn_descriptor *d,
                                     const mvpn_addr *addr);

/**
 * Take a record of any type (verified here, copied). 0; MVPN_E_EXPIRED (drop) also: not newer (then
 * the source counts if it showed exactly what we hold); MVPN_E_AUTH, _FORMAT, _POLICY, _UNKNOWN;
 * MVPN_E_LIMIT (not in the sample); MVPN_E_NOMEM. A revocation list takes effect at once and is
 * copied to `*trust` by the owner (mvpn_view_revocations).
 */
MVPN_WUR int mvpn_view_put(mvpn_view *view, unsigned type, mvpn_bytes record,
                           mvpn_view_source source, uint64_t unix_now);
/** Add a descriptor that was verified already (network file): a source of MVPN_VIEW_LOCAL.
 * MVPN_E_EXPIRED: not newer (it counts as listed there all the same); MVPN_E_POLICY: revoked;
 * MVPN_E_LIMIT, MVPN_E_NOMEM. */
MVPN_WUR int mvpn_view_add(mvpn_view *view, const mvpn_descriptor *descriptor);

/** A directory listed a key with this sequence: does it bring something we want to fetch? If it is
 * what we hold, the source is counted. Heads of the same hour are wanted once of each source: the
 * one that it has may be another one (§8.5). */
bool mvpn_view_listed(mvpn_view *view, const mvpn_dht_id *key, uint64_t sequence,
                      mvpn_view_source source, uint64_t unix_now);

/** Drop what has expired; relays withdrawn (roles 0) stay as such until then. */
void mvpn_view_expire(mvpn_view *view, uint64_t unix_now);

/** The descriptor of an identity, borrowed until the next change of the view; NULL if none. */
const mvpn_descriptor *mvpn_view_find(const mvpn_view *view, const mvpn_ed25519_pub *identity);
size_t mvpn_view_count(const mvpn_view *view);
const mvpn_descriptor *mvpn_view_at(const mvpn_view *view, size_t index);

/** What is known of the relay at `index` beside its descriptor. */
typedef struct mvpn_view_info {
    bool is_confirmed;  /* two sources under different operators, or the network file */
    bool is_dead;       /* two discovery nodes, or all that there are, say it does not answer */
    bool country_wrong; /* a discovery node says so (§8.6) */
    /* Open network: no source showed it (a bundle had it), so that it may be of anybody's making.
     * Never drawn. */
    bool is_unshown;
    uint8_t cap_log2;    /* log2(kbit/s): median of >= 3 measurements, else the network's 25th
                            percentile of what is known; 255 = nothing is known */
    uint16_t uptime_h;   /* median of what discovery nodes say; 0 = unknown */
    uint64_t first_seen; /* Unix seconds, here; 0: in the network file from the start */
    uint64_t last_shown; /* by any source; 0: never but by the network file */
} mvpn_view_info;
void mvpn_view_get_info(const mvpn_view *view, size_t index, mvpn_view_info *ret);
/** The same of an identity; false if it is not in the view. */
bool mvpn_view_find_info(const mvpn_view *view, const mvpn_ed25519_pub *identity,
                         mvpn_view_info *ret);
/** The view as a whole is confirmed: it holds a path (guard, middle, exit) of confirmed relays. */
bool mvpn_view_is_confirmed(const mvpn_view *view);

/* ---- as a directory sees it (§11.3) ---- */

/** Records with keys from `cursor` on that share its first `bits` bits, ascending; returns how many
 * of up to `max`, and sets `*ret_more`. Descriptors, revocation list and heads alike. */
size_t mvpn_view_list(const mvpn_view *view, const mvpn_dht_id *cursor, unsigned bits,
                      mvpn_dht_listed *ret, size_t max, bool *ret_more);
size_t mvpn_view_record_count(const mvpn_view *view);
/** The record under a key, borrowed until the next change. */
bool mvpn_view_record(const mvpn_view *view, const mvpn_dht_id *key, uint8_t *ret_type,
                      mvpn_bytes *ret_record);

const mvpn_revocations *mvpn_view_revocations(const mvpn_view *view); /* sequence 0: none */

/* ---- snapshots ---- */

/* Heads that count: one of each discovery node, but of those caught. */
size_t mvpn_view_head_count(const mvpn_view *view);
const mvpn_snapshot_head *mvpn_view_head_at(const mvpn_view *view, size_t index);
/** A head whose snapshot we do not hold yet: fetch it (Blob). NULL if there is none. */
const mvpn_snapshot_head *mvpn_view_head_wanted(const mvpn_view *view, uint64_t unix_now);
/** Take a whole snapshot (copied) that is the one of a head that the view has. MVPN_E_UNKNOWN (no
 * such head), _FORMAT, _AUTH (another list than the head's), _LIMIT (enough are held), _NOMEM. */
MVPN_WUR int mvpn_view_put_snapshot(mvpn_view *view, mvpn_bytes snapshot, uint64_t unix_now);
/** Bytes of a snapshot held, by digest; empty if there is none. Borrowed. */
mvpn_bytes mvpn_view_snapshot(const mvpn_view *view, const mvpn_key *digest);
/** Discovery nodes caught showing different lists for one hour (§8.5), since the start. */
size_t mvpn_view_equivocations(const mvpn_view *view);

/**
 * How many confirmed relays older than two hours the snapshot of a discovery node leaves out, of
 * `*ret_expected` that it should have; 0 of 0 without a snapshot. What it hides from us alone,
 * other sources show.
 */
size_t mvpn_view_snapshot_misses(const mvpn_view *view, const mvpn_ed25519_pub *identity,
                                 size_t *ret_expected);
/** More than 10 % is left out: the list is not the network's. */
bool mvpn_view_snapshot_is_partial(const mvpn_view *view, const mvpn_ed25519_pub *identity);

/* ---- the cache on disk ---- */

/** Bytes that mvpn_view_save needs at most. */
size_t mvpn_view_save_size(const mvpn_view *view);
/** Write the view: a header, then records each with its own checksum. Returns the length. */
size_t mvpn_view_save(const mvpn_view *view, uint8_t *out, size_t size);
/**
 * Read a saved view: every record is verified anew; a file cut off or damaged anywhere loses what
 * is behind or at the damage, nothing else; one of another network is refused as a whole. The
 * sample key becomes the cache's: load before any source is made. Returns how many records were
 * taken;
 * `*ret_lost` tells how many bytes were not understood.
 */
size_t mvpn_view_load(mvpn_view *view, mvpn_bytes saved, uint64_t unix_now, size_t *ret_lost);

#endif
