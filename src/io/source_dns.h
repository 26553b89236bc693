/*
 * Entries from DNS: TXT records at the name in the network file. (docs/protocol.md §13.2) Whoever
 * answers can mislead, not introduce anybody.
 */
#ifndef MVPN_IO_SOURCE_DNS_H
#define MVPN_IO_SOURCE_DNS_H

#include "io/resolver.h"
#include "wire/dht.h"

/* Of one answer; more are left out. */
#define MVPN_SOURCE_DNS_ENTRIES_MAX 16
/* "meshvpn1 ", 96 characters of base64, and the final zero. */
#define MVPN_SOURCE_DNS_TEXT_SIZE (9 + 96 + 1)

/** Write the text of the TXT record that names an entry; for operators. Returns `out`. */
char *mvpn_source_dns_format(char out[static MVPN_SOURCE_DNS_TEXT_SIZE],
                             const mvpn_dht_contact *entry);

/**
 * The entries of a DNS message: of every TXT record of its answer section that is one; all else is
 * passed over, whatever it is. Returns how many (at most MVPN_SOURCE_DNS_ENTRIES_MAX). Pure.
 */
size_t mvpn_source_dns_parse(mvpn_bytes message,
                             mvpn_dht_contact ret[static MVPN_SOURCE_DNS_ENTRIES_MAX]);

/** `err` as of mvpn_resolver_txt_fn, or MVPN_E_FORMAT if there were records and none was an entry.
 */
typedef void mvpn_source_dns_fn(void *ctx, int err, const char *why,
                                const mvpn_dht_contact *entries, size_t count);

/** One question; the caller's, it must live until `fn` has been called. */
typedef struct mvpn_source_dns {
    mvpn_source_dns_fn *fn;
    void *ctx;
} mvpn_source_dns;

/** Ask for the entries at `name`. MVPN_E_NOMEM: then `fn` is not called. */
MVPN_WUR int mvpn_source_dns_ask(mvpn_source_dns *source, mvpn_resolver *resolver,
                                 const char *name);

#endif
