/*
 * The network file: what everyone of a network holds. Its name, mode and keys, where to begin
 * (entries, discovery, DNS; docs/protocol.md §13), what it permits, and for static networks the
 * descriptors of its relays. Written by meshvpn-bootstrap and by joining, read by every program. In
 * a closed network it holds the network's secret and has mode 0600.
 */
#ifndef MVPN_IO_NETWORK_FILE_H
#define MVPN_IO_NETWORK_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "crypto/keys.h"
#include "io/fault.h"
#include "wire/descriptor.h"
#include "wire/dht.h"
#include "wire/record.h"

/* Relays of one file: a network that outgrows this needs discovery, not a longer file. */
#define MVPN_NETWORK_RELAYS_MAX 1024
#define MVPN_NETWORK_ANCHORS_MAX MVPN_ANCHORS_MAX
/* Where a newcomer begins: a handful is enough, and more than a handful reachable at once is luck
 * for nobody. */
#define MVPN_NETWORK_ENTRIES_MAX 64
#define MVPN_NETWORK_DISCOVERY_MAX 8
#define MVPN_NETWORK_URL_MAX 255
#define MVPN_NETWORK_DNS_MAX 253 /* a name of DNS */
#define MVPN_NETWORK_NAME_MAX 64
/* 1024 descriptors of 1000 bytes in base64, and room for the rest. */
#define MVPN_NETWORK_FILE_SIZE_MAX (2u << 20)

typedef struct mvpn_network_file {
    char name[MVPN_NETWORK_NAME_MAX + 1];
    bool is_closed;
    mvpn_ed25519_pub network_pub;
    mvpn_key network_id;
    mvpn_key network_secret; /* closed networks only */
    bool allow_private;      /* relays may have private addresses */
    unsigned relax;          /* MVPN_RELAX_* of core/path.h */
    size_t anchor_count;     /* identities that an open network vouches for */
    mvpn_ed25519_pub anchors[MVPN_NETWORK_ANCHORS_MAX];
    size_t entry_count; /* bootstrap nodes to begin with; they must still prove themselves */
    mvpn_dht_contact entries[MVPN_NETWORK_ENTRIES_MAX];
    size_t discovery_count; /* base URLs, without a slash at the end */
    char discovery[MVPN_NETWORK_DISCOVERY_MAX][MVPN_NETWORK_URL_MAX + 1];
    char dns[MVPN_NETWORK_DNS_MAX + 1]; /* name of the TXT records; "" = none */
    bool lan_discovery;                 /* ask the local network too */
    mvpn_revocations revocations;       /* verified; sequence 0 = none */
    size_t relay_count;
    mvpn_descriptor *relays; /* owned; each verified */
    /* Relays left out because they are outside their time, and the name of the first. */
    size_t expired_count;
    char expired_name[MVPN_NAME_MAX + 1];
} mvpn_network_file;

/**
 * Load and verify. A descriptor that does not verify makes the file wrong; one that is only outside
 * its time is left out and counted, so that one forgotten relay does not stop everybody.
 *
 * `unix_now`  seconds; 0: no times are checked.
 * Returns 0 (free with mvpn_network_file_done); MVPN_E_UNKNOWN if there is no such file;
 * MVPN_E_CONFIG with FILE:LINE in `fault`; MVPN_E_SYSTEM, MVPN_E_NOMEM. `*ret` is empty after a
 * failure.
 */
MVPN_WUR int mvpn_network_file_load(const char *path, uint64_t unix_now, mvpn_network_file *ret,
                                    mvpn_fault *fault);

/** The same of a text that somebody keeps elsewhere; `name` stands for the path in faults. Never
 * MVPN_E_UNKNOWN. */
MVPN_WUR int mvpn_network_file_parse(const char *name, const char *text, size_t size,
                                     uint64_t unix_now, mvpn_network_file *ret, mvpn_fault *fault);

/** The text that mvpn_network_file_save writes: `*ret` (`*ret_size` bytes and a zero byte) is the
 * caller's, to be wiped and freed. MVPN_E_NOMEM. */
MVPN_WUR int mvpn_network_file_format(const mvpn_network_file *file, char **ret, size_t *ret_size);

/** Write atomically: 0600 if the network is closed, else 0644. MVPN_E_SYSTEM, MVPN_E_NOMEM. */
MVPN_WUR int mvpn_network_file_save(const char *path, const mvpn_network_file *file,
                                    mvpn_fault *fault);

/**
 * Add a descriptor, or replace the one of the same identity. MVPN_E_LIMIT if the file is full,
 * MVPN_E_NOMEM.
 */
MVPN_WUR int mvpn_network_file_put(mvpn_network_file *file, const mvpn_descriptor *d);

/**
 * The relay that a person means: by name or by identity (base64). NULL if there is none or if two
 * have that name.
 */
const mvpn_descriptor *mvpn_network_file_find(const mvpn_network_file *file, const char *who);

/** Add an entry, or replace the one of the same address. MVPN_E_LIMIT if there are too many. */
MVPN_WUR int mvpn_network_file_put_entry(mvpn_network_file *file, const mvpn_dht_contact *entry);

/** Whether `url` can stand in the file: http:// or https://, printable, not too long. */
bool mvpn_network_url_is_valid(const char *url);
/** Whether `name` is a name of DNS, without a dot at its end. */
bool mvpn_network_dns_is_valid(const char *name);

/** What the network trusts, as records are judged by (wire/record.h). */
void mvpn_network_file_trust(const mvpn_network_file *file, mvpn_trust *ret);

/** The network's key if it is closed, NULL if it is open: as mvpn_descriptor_verify wants it. */
static inline const mvpn_ed25519_pub *mvpn_network_file_closed_pub(const mvpn_network_file *file)
{
    return file->is_closed ? &file->network_pub : NULL;
}

/** Free and wipe. */
void mvpn_network_file_done(mvpn_network_file *file);

#endif
