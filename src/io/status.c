#include "io/status.h"

#include "io/status_links.h"
#include "io/status_value.h"

#define SCHEMA "meshvpn.status/1"

static json_t *describe_hop(const mvpn_view *view, const mvpn_ed25519_pub *identity)
{
    const mvpn_descriptor *d = mvpn_view_find(view, identity);
    json_t *hop = json_object();
    char text[MVPN_ADDR_STRLEN];
    mvpn_status_set_relay(hop, view, identity);
    set_text(hop, "country", d == NULL ? "" : d->country);
    if (d != NULL) {
        mvpn_addr a = d->addresses[0].addr; /* a relay's published address */
        a.port = 0;
        set_text(hop, "address", mvpn_addr_format(&a, text));
    }
    return hop;
}

static json_t *describe_path(const mvpn_view *view, const mvpn_path *path)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < path->count; i++) {
        json_t *hop = describe_hop(view, &path->hop[i]);
        set_text(hop, "role", i + 1 == path->count ? "exit" : i == 0 ? "guard" : "middle");
        (void)json_array_append_new(list, hop);
    }
    return list;
}

/* Who may see this client's address. */
static json_t *describe_guards(const mvpn_view *view, const mvpn_guards *guards)
{
    json_t *list = json_array();
    for (size_t i = 0; guards != NULL && i < guards->count; i++) {
        const mvpn_guard *g = &guards->guard[i];
        json_t *o = describe_hop(view, &g->identity);
        (void)json_object_set_new(o, "is_primary", json_boolean(g->is_primary));
        (void)json_object_set_new(o, "is_provisional", json_boolean(g->is_provisional));
        (void)json_object_set_new(o, "has_worked", json_boolean(g->confirmed != 0));
        set_text(o, "reachable",
                 g->reach == MVPN_GUARD_YES  ? "yes"
                 : g->reach == MVPN_GUARD_NO ? "no"
                                             : "not tried");
        (void)json_array_append_new(list, o);
    }
    return list;
}

static json_t *missing_protections(unsigned relax)
{
    json_t *list = json_array();
    if (relax & MVPN_RELAX_BLOCK) {
        (void)json_array_append_new(list,
                                    json_string("relays of one path may share a network block"));
    }
    if (relax & MVPN_RELAX_PROVIDER) {
        (void)json_array_append_new(list, json_string("relays of one path may share a provider"));
    }
    if (relax & MVPN_RELAX_FAMILY) {
        (void)json_array_append_new(list, json_string("relays of one path may share an operator"));
    }
    return list;
}

/* What the node knows of the network, and from whom. */
static json_t *describe_view(const mvpn_view *view)
{
    json_t *o = json_object();
    size_t confirmed = 0, withdrawn = 0;
    for (size_t i = 0; i < mvpn_view_count(view); i++) {
        mvpn_view_info info;
        mvpn_view_get_info(view, i, &info);
        confirmed += info.is_confirmed;
        withdrawn += mvpn_view_at(view, i)->roles == 0;
    }
    set_number(o, "relays", mvpn_view_count(view) - withdrawn);
    set_number(o, "relays_withdrawn", withdrawn);
    set_number(o, "relays_confirmed", confirmed);
    (void)json_object_set_new(o, "is_confirmed", json_boolean(mvpn_view_is_confirmed(view)));
    set_number(o, "snapshots", mvpn_view_head_count(view));
    set_number(o, "equivocations", mvpn_view_equivocations(view));
    set_number(o, "revocations", mvpn_view_revocations(view)->count);
    return o;
}

static json_t *describe_clock(const mvpn_engine *engine)
{
    mvpn_clock_reading r;
    json_t *o = json_object();
    mvpn_engine_clock(engine, &r);
    (void)json_object_set_new(o, "offset_s", json_integer(r.measured_s));
    set_number(o, "peers", r.peers);
    (void)json_object_set_new(o, "is_wrong", json_boolean(r.should_tell));
    return o;
}

static json_t *describe_learner(const mvpn_learner *learner, mvpn_time now)
{
    mvpn_learner_status s;
    json_t *o = json_object();
    mvpn_learner_get_status(learner, &s);
    set_number(o, "entries", s.entries);
    set_number(o, "entries_failed", s.entries_failed);
    set_number(o, "sweeps", s.sweeps);
    set_number(o, "sweeps_failed", s.sweeps_failed);
    set_number(o, "records_new", s.records_new);
    (void)json_object_set_new(
        o, "last_sweep_s",
        s.last_sweep == 0 ? json_null()
                          : json_integer((json_int_t)((now - s.last_sweep) / MVPN_US_PER_S)));
    return o;
}

static json_t *describe_dht(mvpn_finder *finder)
{
    mvpn_dht_status s;
    json_t *o = json_object();
    mvpn_dht_get_status(mvpn_finder_dht(finder), &s);
    set_number(o, "contacts", s.contacts);
    set_number(o, "buckets", s.buckets);
    set_number(o, "records", s.records);
    set_number(o, "record_bytes", s.record_bytes);
    set_number(o, "nodes_estimated", s.nodes);
    set_number(o, "requests_in", s.requests_in);
    set_number(o, "requests_out", s.requests_out);
    set_number(o, "timeouts", s.timeouts);
    set_number(o, "lookups", s.lookups);
    set_number(o, "lookups_failed", s.lookups_failed);
    const mvpn_publisher *p = mvpn_finder_publisher(finder);
    (void)json_object_set_new(o, "is_published",
                              json_boolean(p != NULL && p->descriptor.sequence > 0));
    return o;
}

static json_t *describe_nat_relay(const mvpn_nat_relay *nat)
{
    const mvpn_nat_relay_counters *c = mvpn_nat_relay_get_counters(nat);
    json_t *o = json_object();
    set_number(o, "sessions", mvpn_nat_relay_session_count(nat));
    set_number(o, "packets_forwarded", c->forwarded);
    set_number(o, "bytes_forwarded", c->forwarded_bytes);
    set_number(o, "packets_dropped", c->dropped_source + c->dropped_limit);
    set_number(o, "sessions_refused", c->refused);
    return o;
}

/* The pseudonym at the exit, which outlives circuits. */
static json_t *describe_session(const mvpn_client_status *s, mvpn_time now)
{
    if (s->session_since == 0) {
        return json_null();
    }
    json_t *o = json_object();
    set_number(o, "age_s", (now - s->session_since) / MVPN_US_PER_S);
    set_number(o, "expires_in_s",
               s->session_expires > now ? (s->session_expires - now) / MVPN_US_PER_S : 0);
    set_number(o, "flows", s->flows);
    (void)json_object_set_new(o, "draining", json_boolean(s->is_draining));
    set_number(o, "draining_flows", s->draining_flows);
    return o;
}

void mvpn_status_client(json_t *reply, mvpn_engine *engine, unsigned hops, unsigned relax,
                        mvpn_time now)
{
    mvpn_client_status s;
    const mvpn_view *view = mvpn_engine_view(engine);
    mvpn_client_get_status(mvpn_engine_client(engine), &s);
    bool is_connected = s.state == MVPN_CLIENT_CONNECTED;
    set_text(reply, "schema", SCHEMA);
    set_text(reply, "role", "client");
    set_text(reply, "state", is_connected ? "connected" : "connecting");
    set_number(reply, "since_s", (now - s.since) / MVPN_US_PER_S);
    set_number(reply, "hops", hops);
    (void)json_object_set_new(reply, "path", describe_path(view, &s.path));
    const mvpn_descriptor *exit =
        s.path.count > 0 ? mvpn_view_find(view, &s.path.hop[s.path.count - 1]) : NULL;
    char text[MVPN_ADDR_STRLEN] = "";
    if (is_connected && exit != NULL) {
        mvpn_addr a = exit->addresses[0].addr;
        a.port = 0;
        (void)mvpn_addr_format(&a, text);
    }
    set_text(reply, "exit_address", text);
    (void)json_object_set_new(
        reply, "guards", describe_guards(view, mvpn_client_guards(mvpn_engine_client(engine))));
    set_ms(reply, "circuit_build_ms", s.build_us);
    set_ms(reply, "rtt_ms", s.rtt_us);
    (void)json_object_set_new(reply, "ipv6", json_boolean(s.has_ipv6));
    set_number(reply, "bytes_up", s.bytes_up);
    set_number(reply, "bytes_down", s.bytes_down);
    set_number(reply, "packets_up", s.packets_up);
    set_number(reply, "packets_down", s.packets_down);
    set_number(reply, "packets_dropped", s.dropped);
    set_number(reply, "circuits_built", s.builds - s.build_failures);
    set_number(reply, "circuits_failed", s.build_failures);
    (void)json_object_set_new(reply, "spare", json_boolean(s.has_spare));
    (void)json_object_set_new(reply, "session", describe_session(&s, now));
    set_number(reply, "failovers", s.switches);
    set_number(reply, "takeovers", s.takeovers);
    set_number(reply, "rotations", s.rotations);
    set_number(reply, "sessions_lost", s.sessions_lost);
    (void)json_object_set_new(reply, "missing_protections", missing_protections(relax));
    (void)json_object_set_new(reply, "view", describe_view(view));
    (void)json_object_set_new(reply, "clock", describe_clock(engine));
    if (mvpn_engine_learner(engine) != NULL) {
        (void)json_object_set_new(reply, "directory",
                                  describe_learner(mvpn_engine_learner(engine), now));
    }
    mvpn_status_links(reply, engine, now);
    set_text(reply, "blocked_by",
             s.block == MVPN_PATH_OK || is_connected ? "" : mvpn_path_block_text(s.block));
}

void mvpn_status_relay(json_t *reply, mvpn_engine *engine, mvpn_time started, mvpn_time now)
{
    const mvpn_relay *relay = mvpn_engine_relay(engine);
    const mvpn_relay_counters *rc = mvpn_relay_get_counters(relay);
    const mvpn_scheduler_counters *qc = mvpn_relay_get_queue_counters(relay);
    const mvpn_links_counters *lc = mvpn_links_get_counters(mvpn_engine_links(engine));
    mvpn_exit *exit = mvpn_engine_exit(engine);
    json_t *counters = json_object();
    set_text(reply, "schema", SCHEMA);
    set_text(reply, "role", exit == NULL ? "relay" : "exit");
    set_text(reply, "state", "running");
    set_number(reply, "since_s", (now - started) / MVPN_US_PER_S);
    mvpn_status_links(reply, engine, now);
    set_number(reply, "circuits", mvpn_relay_circuit_count(relay));
    set_number(reply, "cells_waiting", mvpn_relay_waiting(relay));
    (void)json_object_set_new(reply, "is_overloaded",
                              json_boolean(mvpn_relay_is_overloaded(relay, now)));
    set_number(reply, "sessions", exit == NULL ? 0 : mvpn_exit_session_count(exit));
    set_number(counters, "bytes_in", lc->bytes_in);
    set_number(counters, "bytes_out", lc->bytes_out);
    set_number(counters, "packets_in", lc->packets_in);
    set_number(counters, "packets_out", lc->packets_out);
    set_number(counters, "handshakes", lc->handshakes);
    set_number(counters, "rekeys", lc->rekeys);
    set_number(counters, "circuits_created", rc->created);
    set_number(counters, "circuits_refused", rc->refused);
    set_number(counters, "circuits_extended", rc->extended);
    set_number(counters, "cells_forward", rc->cells_forward);
    set_number(counters, "cells_backward", rc->cells_backward);
    set_number(counters, "cells_dropped", rc->cells_dropped);
    set_number(counters, "cells_dropped_queue", qc->dropped_codel + qc->dropped_full);
    set_number(counters, "cells_marked", qc->marked);
    set_number(counters, "circuits_killed", rc->killed);
    set_number(counters, "directory_answered", rc->directory_answered);
    set_number(counters, "directory_refused", rc->directory_refused);
    (void)json_object_set_new(reply, "counters", counters);
    (void)json_object_set_new(reply, "view", describe_view(mvpn_engine_view(engine)));
    if (mvpn_engine_nat_relay(engine) != NULL) {
        (void)json_object_set_new(reply, "nat_relay",
                                  describe_nat_relay(mvpn_engine_nat_relay(engine)));
    }
    if (mvpn_engine_finder(engine) != NULL) {
        (void)json_object_set_new(reply, "dht", describe_dht(mvpn_engine_finder(engine)));
    }
}
