#include "io/connection_log.h"

#include <inttypes.h>

#include "io/status_links.h"

/* The steps of a few connections at once; then one line a second. */
#define RATE 1
#define BURST 30

void mvpn_connection_log_init(mvpn_connection_log *c, const mvpn_log *log, mvpn_time now)
{
    *c = (mvpn_connection_log){.log = log};
    mvpn_bucket_init(&c->bucket, RATE, BURST, now);
}

void mvpn_connection_log_event(mvpn_connection_log *c, const mvpn_view *view,
                               const mvpn_connection_event *event)
{
    char text[17];
    if (!mvpn_bucket_take(&c->bucket, 1, event->at)) {
        c->left_out++;
        return;
    }
    if (c->left_out > 0) {
        mvpn_logf(c->log, MVPN_LOG_INFO, "connections: %" PRIu64 " changes were not logged",
                  c->left_out);
        c->left_out = 0;
    }
    mvpn_logf(c->log, MVPN_LOG_INFO, "connection with %s: %s, %s (%s)",
              event->has_identity ? mvpn_status_relay_name(view, &event->identity, text)
                                  : "a client",
              mvpn_connection_type_text(event->type), mvpn_connection_state_text(event->state),
              mvpn_connection_reason_text(event->reason));
}
