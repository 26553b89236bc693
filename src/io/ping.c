#include "io/ping.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "core/pinger.h"
#include "io/status_links.h"

/* An identity is abbreviated to no less than this. */
#define DIGITS_MIN 8

static MVPN_PRINTF(3, 4) int refuse(json_t *reply, int code, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    (void)json_object_set_new(reply, "error", json_string(text));
    return code;
}

static bool is_called(const mvpn_descriptor *d, const char *name)
{
    char hex[2 * sizeof(d->identity.b) + 1];
    size_t len = strlen(name);
    for (size_t i = 0; i < sizeof(d->identity.b); i++) {
        (void)snprintf(hex + 2 * i, 3, "%02x", d->identity.b[i]);
    }
    return strcmp(d->name, name) == 0 ||
           (len >= DIGITS_MIN && len < sizeof(hex) && strncmp(hex, name, len) == 0);
}

/* The relay that the request is about; NULL with the reason in `reply`. */
static const mvpn_descriptor *find_relay(const mvpn_view *view, const json_t *request,
                                         json_t *reply, int *ret_code)
{
    const char *name = json_string_value(json_object_get(request, "node"));
    const mvpn_descriptor *found = NULL;
    if (name == NULL || name[0] == '\0') {
        *ret_code = refuse(reply, MVPN_E_INVAL, "\"node\" must be a relay's name or identity");
        return NULL;
    }
    for (size_t i = 0; i < mvpn_view_count(view); i++) {
        const mvpn_descriptor *d = mvpn_view_at(view, i);
        if (!is_called(d, name)) {
            continue;
        }
        if (found != NULL) {
            *ret_code = refuse(reply, MVPN_E_INVAL,
                               "several relays are called %.64s: give the identity", name);
            return NULL;
        }
        found = d;
    }
    if (found == NULL) {
        *ret_code = refuse(reply, MVPN_E_UNKNOWN, "no relay called %.64s is known here", name);
    }
    return found;
}

static int start_ping(mvpn_node *node, const mvpn_target_rules *rules, const mvpn_descriptor *d,
                      mvpn_time now, json_t *reply)
{
    mvpn_engine *engine = mvpn_node_engine(node);
    mvpn_link_target target = {.identity = d->identity};
    char text[17];
    const char *name = mvpn_status_relay_name(mvpn_engine_view(engine), &d->identity, text);
    bool has_link = mvpn_links_find(mvpn_engine_links(engine), &d->identity) != NULL;
    uint32_t seq;
    if (rules == NULL && !has_link) {
        return refuse(reply, MVPN_E_POLICY,
                      "this client has no link with %s and makes none for a ping: it shows itself "
                      "to its guards alone (meshvpn status --json lists its links)",
                      name);
    }
    int r = has_link ? 0 : mvpn_target_make(mvpn_engine_view(engine), d, rules, &target);
    if (r == MVPN_E_POLICY) {
        return refuse(reply, r, "no address of %s can be sent to from here", name);
    }
    if (r == MVPN_E_UNKNOWN) {
        return refuse(reply, r, "%s is behind a NAT, and none of its NAT relays is known here",
                      name);
    }
    r = r != 0 ? r : mvpn_pinger_ping(mvpn_node_pinger(node), &target, now, &seq);
    if (r == MVPN_E_LIMIT) {
        return refuse(reply, r, "too many nodes are pinged at once (%u), or too many links open",
                      MVPN_PINGER_TARGETS);
    }
    return r == 0 ? 0 : refuse(reply, r, "cannot open a link with %s: %s", name, mvpn_strerror(r));
}

static json_t *ms(mvpn_time us)
{
    return us == 0 ? json_null() : json_real((double)us / 1000.0);
}

static void describe(mvpn_engine *engine, const mvpn_descriptor *d, const mvpn_pinger_result *r,
                     json_t *reply)
{
    static const char *const keys[] = {"type", "state",           "reason",
                                       "via",  "opened_after_ms", "direct_after_ms"};
    const mvpn_view *view = mvpn_engine_view(engine);
    char text[17];
    (void)json_object_set_new(reply, "schema", json_string("meshvpn.ping/1"));
    (void)json_object_set_new(reply, "node",
                              json_string(mvpn_status_relay_name(view, &d->identity, text)));
    (void)json_object_set_new(reply, "seq", json_integer(r->seq));
    (void)json_object_set_new(reply, "done", json_boolean(r->is_done));
    (void)json_object_set_new(reply, "rtt_ms", ms(r->rtt));
    (void)json_object_set_new(reply, "open",
                              json_boolean(r->link != NULL && mvpn_link_is_open(r->link)));
    for (size_t i = 0; i < MVPN_ARRAY_LEN(keys); i++) {
        (void)json_object_set_new(reply, keys[i], json_null());
    }
    if (r->link != NULL) {
        mvpn_status_set_connection(reply, view, mvpn_engine_connector(engine), r->link);
    } else {
        (void)json_object_set_new(reply, "type",
                                  json_string(mvpn_connection_type_text(MVPN_CONNECTION_FAILED)));
    }
}

int mvpn_ping_request(mvpn_node *node, const mvpn_target_rules *rules, const json_t *request,
                      mvpn_time now, json_t *reply)
{
    mvpn_engine *engine = mvpn_node_engine(node);
    mvpn_pinger_result result;
    int r = 0;
    const mvpn_descriptor *d = find_relay(mvpn_engine_view(engine), request, reply, &r);
    if (d == NULL) {
        return r;
    }
    if (rules != NULL && rules->self != NULL &&
        memcmp(rules->self->b, d->identity.b, sizeof(d->identity.b)) == 0) {
        return refuse(reply, MVPN_E_INVAL, "that is this node itself");
    }
    if (json_is_true(json_object_get(request, "start"))) {
        r = start_ping(node, rules, d, now, reply);
        if (r != 0) {
            return r;
        }
    }
    if (!mvpn_pinger_get(mvpn_node_pinger(node), &d->identity, &result)) {
        return refuse(reply, MVPN_E_STATE, "it is not being pinged");
    }
    describe(engine, d, &result, reply);
    return 0;
}

int mvpn_ping_close_request(mvpn_node *node, const json_t *request, uid_t uid, mvpn_time now,
                            json_t *reply)
{
    mvpn_engine *engine = mvpn_node_engine(node);
    int r = 0;
    if (uid != 0 && uid != geteuid()) {
        return refuse(reply, MVPN_E_POLICY, "only root and the daemon's own user may close links");
    }
    const mvpn_descriptor *d = find_relay(mvpn_engine_view(engine), request, reply, &r);
    if (d == NULL) {
        return r;
    }
    mvpn_link *link = mvpn_links_find(mvpn_engine_links(engine), &d->identity);
    if (link == NULL) {
        return refuse(reply, MVPN_E_STATE, "there is no link with that relay");
    }
    mvpn_link_close(link, MVPN_REASON_FINISHED, now);
    (void)json_object_set_new(reply, "closed", json_true());
    return 0;
}
