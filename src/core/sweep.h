/*
 * One sweep over one directory: list all that it has, fetch what is new to the view, and the
 * snapshot that the view wants. Requests are pulled, replies given, whatever carries them; links
 * have sweep_send. (docs/protocol.md §11.3, §12)
 */
#ifndef MVPN_CORE_SWEEP_H
#define MVPN_CORE_SWEEP_H

#include "base/packet.h"
#include "base/time.h"
#include "core/view.h"
#include "network/p2p/link.h"

typedef struct sweep sweep;

typedef struct sweep_env {
    mvpn_rng *rng; /* borrowed, as all pointers here */
    mvpn_packet_pool *pool;
    mvpn_view *view;
} sweep_env;

/** NULL without memory. */
sweep *sweep_new(const sweep_env *env, mvpn_view_source source, mvpn_time now);
void sweep_free(sweep *s);

typedef struct sweep_request {
    uint32_t id;
    unsigned command;
    mvpn_packet *packet; /* the body; the caller's */
} sweep_request;

/** The next request to be sent, new or again; false: none now. */
bool sweep_pull(sweep *s, mvpn_time now, sweep_request *ret);
/** Send all that is due over a link; the request id leads the header's circuit id. (§12) */
void sweep_send(sweep *s, mvpn_link *link, mvpn_time now);
/** A reply, as it came: unknown ids, other commands and bad bodies are ignored. */
void sweep_reply(sweep *s, uint32_t id, unsigned command, mvpn_bytes body, uint64_t unix_now,
                 mvpn_time now);

enum sweep_result {
    SWEEP_GOING,
    SWEEP_DONE,
    SWEEP_FAILED, /* it does not answer */
};
enum sweep_result sweep_result_of(const sweep *s, mvpn_time now);
/** Records that were new to the view. */
size_t sweep_records(const sweep *s);

#endif
