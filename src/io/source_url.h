/*
 * Bundles from discovery URLs: GET <url>/v1/bundle by libcurl on the loop. (docs/protocol.md
 * §13.3)
 *
 * What is in a bundle is verified part by part, so plain http will do; https is verified against
 * the system's authorities all the same. The host is resolved by our own resolver, and all sockets
 * carry the firewall mark. Redirects are not followed, proxies of the environment not used, cookies
 * and credentials not sent: what is asked is what the network file says.
 *
 * A server that hangs up early raises SIGPIPE, which libcurl's TLS library does not keep away:
 * whoever runs the loop ignores or blocks it.
 */
#ifndef MVPN_IO_SOURCE_URL_H
#define MVPN_IO_SOURCE_URL_H

#include "io/resolver.h"

typedef struct mvpn_fetcher mvpn_fetcher;

/* A network file's URLs all at once. */
#define MVPN_FETCHES_MAX 8

typedef struct mvpn_fetcher_options {
    mvpn_loop *loop;           /* borrowed, as the next */
    mvpn_resolver *resolver;   /* must outlive the fetcher */
    const mvpn_marker *marker; /* borrowed, or NULL */
    const char *ca_file;       /* authorities instead of the system's; NULL for those */
    size_t size_max;           /* 0 = MVPN_BUNDLE_MAX */
    unsigned timeout_ms;       /* of the whole; 0 = 20 s */
} mvpn_fetcher_options;

typedef struct mvpn_fetched {
    int err; /* 0; MVPN_E_TIMEOUT, MVPN_E_TOO_BIG, MVPN_E_AUTH (https: the certificate is not
                accepted), MVPN_E_REFUSED (an HTTP status other than 200), MVPN_E_UNKNOWN (no such
                host), MVPN_E_SYSTEM (no connection), MVPN_E_FORMAT (no URL), MVPN_E_NOMEM */
    const char *why;  /* in words, with what to do about it; borrowed */
    uint8_t *content; /* the callee's, to be freed; NULL after a failure */
    size_t size;
    uint64_t date; /* what the server's Date header says, Unix seconds; 0 = nothing. A weak hint: it
                      is authenticated by https at best. Known after some failures too. */
} mvpn_fetched;

/** `fetched` is borrowed, but for its content. */
typedef void mvpn_fetched_fn(void *ctx, const mvpn_fetched *fetched);

/** SIGPIPE is ignored from here on, in the whole process. MVPN_E_NOMEM. */
MVPN_WUR int mvpn_fetcher_new(const mvpn_fetcher_options *options, mvpn_fetcher **ret);
/** Transfers under way are dropped without a word. Not from within a call of its own. NULL is
 * allowed. */
void mvpn_fetcher_free(mvpn_fetcher *fetcher);

/** Get the bundle of a discovery node. `url` as in the network file. `fn` may be called before this
 * returns. MVPN_E_LIMIT, MVPN_E_NOMEM: then it is not called. */
MVPN_WUR int mvpn_fetcher_get(mvpn_fetcher *fetcher, const char *url, mvpn_fetched_fn *fn,
                              void *ctx);

#endif
