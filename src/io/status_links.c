#include "io/status_links.h"

#include <stdio.h>
#include <stdlib.h>

static void set_text(json_t *o, const char *key, const char *text)
{
    (void)json_object_set_new(o, key, json_string(text));
}

static void set_bool(json_t *o, const char *key, bool value)
{
    (void)json_object_set_new(o, key, json_boolean(value));
}

static void set_number(json_t *o, const char *key, uint64_t n)
{
    (void)json_object_set_new(o, key, json_integer((json_int_t)n));
}

static void set_ms(json_t *o, const char *key, mvpn_time us)
{
    (void)json_object_set_new(o, key, us == 0 ? json_null() : json_real((double)us / 1000.0));
}

static void set_age(json_t *o, const char *key, mvpn_time at, mvpn_time now)
{
    (void)json_object_set_new(o, key, json_integer((json_int_t)((now - at) / MVPN_US_PER_S)));
}

const char *mvpn_status_relay_name(const mvpn_view *view, const mvpn_ed25519_pub *identity,
                                   char text[static 17])
{
    const mvpn_descriptor *d = mvpn_view_find(view, identity);
    for (size_t b = 0; b < 8; b++) {
        (void)snprintf(text + 2 * b, 3, "%02x", identity->b[b]);
    }
    return d != NULL && d->name[0] != '\0' ? d->name : text;
}

void mvpn_status_set_relay(json_t *o, const mvpn_view *view, const mvpn_ed25519_pub *identity)
{
    char text[17];
    const char *name = mvpn_status_relay_name(view, identity, text);
    (void)json_object_set_new(o, "name", name == text ? json_null() : json_string(name));
    set_text(o, "identity", text);
}

/* ---- links ---- */

void mvpn_status_set_connection(json_t *o, const mvpn_view *view, const mvpn_connector *connector,
                                const mvpn_link *link)
{
    char text[17];
    mvpn_connection_info info;
    mvpn_connector_info(connector, link, &info);
    if (!info.is_over_nat) {
        set_text(o, "type", mvpn_connection_type_text(MVPN_CONNECTION_DIRECT));
        set_text(o, "state", mvpn_connection_state_text(info.state));
        (void)json_object_set_new(o, "reason", json_null());
        (void)json_object_set_new(o, "via", json_null());
        return;
    }
    const char *relay = mvpn_status_relay_name(view, &info.relay, text);
    bool is_relayed = info.type == MVPN_CONNECTION_RELAY;
    set_text(o, "type", mvpn_connection_type_text(info.type));
    set_text(o, "state", mvpn_connection_state_text(info.state));
    set_text(o, "reason", mvpn_connection_reason_text(info.reason));
    (void)json_object_set_new(o, "via", is_relayed ? json_string(relay) : json_null());
    set_text(o, "nat_relay", relay); /* also while the link is direct */
    set_ms(o, "opened_after_ms", info.opened_after);
    set_ms(o, "direct_after_ms", info.direct_after);
    set_number(o, "rounds", info.rounds);
    set_number(o, "upgrades", info.upgrades);
    set_number(o, "fallbacks", info.fallbacks);
}

static json_t *describe_link(const mvpn_view *view, const mvpn_connector *connector,
                             const mvpn_link *link, mvpn_time now)
{
    mvpn_connection_info info;
    json_t *o = json_object();
    mvpn_connector_info(connector, link, &info);
    mvpn_status_set_relay(o, view, mvpn_link_peer_identity(link));
    set_bool(o, "initiator", mvpn_link_is_initiator(link));
    set_bool(o, "open", mvpn_link_is_open(link));
    set_age(o, "since_s", info.since, now);
    set_ms(o, "rtt_ms", mvpn_link_rtt_us(link));
    set_bool(o, "held", mvpn_link_is_held(link));
    set_bool(o, "full_size", mvpn_link_is_full_size(link));
    mvpn_status_set_connection(o, view, connector, link);
    return o;
}

static void add_links(json_t *reply, mvpn_engine *engine, mvpn_time now)
{
    mvpn_links *links = mvpn_engine_links(engine);
    size_t total = mvpn_links_count(links), unnamed = 0;
    json_t *list = json_array();
    mvpn_link **all = calloc(total + 1, sizeof(mvpn_link *));
    size_t count = all == NULL ? 0 : mvpn_links_list(links, all, total);
    for (size_t i = 0; i < count; i++) {
        if (mvpn_link_peer_identity(all[i]) == NULL) {
            unnamed++;
        } else if (json_array_size(list) < MVPN_STATUS_LINKS_MAX) {
            (void)json_array_append_new(list,
                                        describe_link(mvpn_engine_view(engine),
                                                      mvpn_engine_connector(engine), all[i], now));
        }
    }
    free(all);
    (void)json_object_set_new(reply, "links", list);
    set_number(reply, "link_count", total);
    set_number(reply, "links_unnamed", unnamed);
}

/* ---- the NAT before us ---- */

static json_t *describe_bindings(const mvpn_view *view, const mvpn_connector *connector,
                                 mvpn_time now)
{
    mvpn_connector_binding b[MVPN_CONNECTOR_BINDINGS];
    json_t *list = json_array();
    size_t count = connector == NULL ? 0 : mvpn_connector_bindings(connector, b);
    for (size_t i = 0; i < count; i++) {
        json_t *o = json_object();
        mvpn_status_set_relay(o, view, &b[i].identity);
        set_bool(o, "registered", b[i].is_registered);
        if (b[i].failing_since != 0) {
            set_age(o, "failing_s", b[i].failing_since, now);
        }
        (void)json_array_append_new(list, o);
    }
    return list;
}

static json_t *describe_nat(mvpn_engine *engine, mvpn_time now)
{
    static const mvpn_nat_class unknown = {0};
    const mvpn_nat_class *c = mvpn_engine_nat_class(engine);
    json_t *o = json_object();
    c = c == NULL ? &unknown : c;
    set_text(o, "class", mvpn_stun_nat_name(mvpn_nat_class_name(c)));
    set_bool(o, "is_known", c->is_known);
    set_text(o, "mapping", mvpn_stun_mapping_name(c->mapping));
    set_text(o, "filtering", mvpn_stun_filtering_name(c->filtering));
    set_text(o, "hairpin", mvpn_stun_hairpin_name(c->hairpin));
    set_text(o, "ports", mvpn_stun_ports_name(c->ports));
    (void)json_object_set_new(o, "lifetime_s",
                              c->lifetime_s == 0 ? json_null() : json_integer(c->lifetime_s));
    (void)json_object_set_new(
        o, "bindings",
        describe_bindings(mvpn_engine_view(engine), mvpn_engine_connector(engine), now));
    return o;
}

/* ---- what happened ---- */

static json_t *describe_history(const mvpn_view *view, const mvpn_connector *connector,
                                mvpn_time now)
{
    mvpn_connection_event e[MVPN_CONNECTOR_HISTORY];
    json_t *list = json_array();
    size_t count = connector == NULL ? 0 : mvpn_connector_history(connector, e);
    for (size_t i = 0; i < count; i++) {
        json_t *o = json_object();
        set_age(o, "ago_s", e[i].at, now);
        if (e[i].has_identity) {
            mvpn_status_set_relay(o, view, &e[i].identity);
        } else {
            (void)json_object_set_new(o, "name", json_null()); /* a client */
        }
        set_text(o, "type", mvpn_connection_type_text(e[i].type));
        set_text(o, "state", mvpn_connection_state_text(e[i].state));
        set_text(o, "reason", mvpn_connection_reason_text(e[i].reason));
        (void)json_array_append_new(list, o);
    }
    return list;
}

void mvpn_status_links(json_t *reply, mvpn_engine *engine, mvpn_time now)
{
    add_links(reply, engine, now);
    (void)json_object_set_new(reply, "nat", describe_nat(engine, now));
    (void)json_object_set_new(
        reply, "connections",
        describe_history(mvpn_engine_view(engine), mvpn_engine_connector(engine), now));
}
