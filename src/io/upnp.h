/*
 * A UDP port of the home gateway by UPnP (Internet Gateway Device), for gateways that know neither
 * PCP nor NAT-PMP. libminiupnpc does the talking and blocks, so it runs in a thread of its own; not
 * in libuv's pool, for which the loop waits at its end, however slowly a gateway trickles.
 *
 * Only the host's own gateway is spoken to, and only if its address is a private one: an answer to
 * the search can come from anybody on the local network and name any URL.
 */
#ifndef MVPN_IO_UPNP_H
#define MVPN_IO_UPNP_H

#include "base/addr.h"
#include "io/fault.h"
#include "io/loop.h"

/* A whole job; what takes longer is abandoned. The search alone takes 2 s. */
#define MVPN_UPNP_TIME_MS 15000
/* Ports that are tried before it is given up. */
#define MVPN_UPNP_PORTS 4

typedef struct mvpn_upnp mvpn_upnp;

typedef struct mvpn_upnp_request {
    mvpn_addr gateway;
    mvpn_addr client; /* our address towards it */
    uint16_t internal_port;
    uint16_t external_ports[MVPN_UPNP_PORTS]; /* in this order; to delete: the first */
    uint32_t lifetime_s;                      /* 0 = delete */
    bool search_only; /* is there such a gateway? nothing is changed; ports do not count */
} mvpn_upnp_request;

/**
 * The end of a job. `err` 0 with `external` (checked to be public; not of a deletion; of a search
 * what the gateway says, unchecked, family 0 if nothing), or
 * MVPN_E_UNKNOWN: no such gateway; MVPN_E_REFUSED; MVPN_E_TIMEOUT; MVPN_E_SYSTEM; `why` in words.
 */
typedef void mvpn_upnp_fn(void *ctx, int err, const mvpn_addr *external, const char *why);

/** MVPN_E_NOMEM. */
MVPN_WUR int mvpn_upnp_new(mvpn_loop *loop, mvpn_upnp_fn *fn, void *ctx, mvpn_upnp **ret);
/** A job under way is left to itself. NULL is allowed. */
void mvpn_upnp_free(mvpn_upnp *upnp);

/** MVPN_E_AGAIN: a job is still running (perhaps an abandoned one); MVPN_E_NOMEM, MVPN_E_SYSTEM. */
MVPN_WUR int mvpn_upnp_start(mvpn_upnp *upnp, const mvpn_upnp_request *request);

/** Wait for the job under way, if any, and tell its end; at most `timeout_ms`. For the end of the
 * program alone. */
void mvpn_upnp_finish(mvpn_upnp *upnp, int timeout_ms);

/** True if `url` leads to `gateway` by its address, a private one. */
bool mvpn_upnp_url_is_local(const char *url, const mvpn_addr *gateway);

#endif
