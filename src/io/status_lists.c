#include "io/status_lists.h"

#include <stdlib.h>
#include <string.h>

#include "io/status_links.h"
#include "io/status_value.h"

/* --- circuits --- */

static json_t *describe_path(const mvpn_view *view, const mvpn_path *path)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < path->count; i++) {
        const mvpn_descriptor *d = mvpn_view_find(view, &path->hop[i]);
        json_t *hop = json_object();
        mvpn_status_set_relay(hop, view, &path->hop[i]);
        set_text(hop, "country", d == NULL ? "" : d->country);
        set_text(hop, "role", i + 1 == path->count ? "exit" : i == 0 ? "guard" : "middle");
        (void)json_array_append_new(list, hop);
    }
    return list;
}

/* `group`: 0 is the client itself. */
static void add_circuits(json_t *list, mvpn_engine *engine, const mvpn_client *client,
                         unsigned group, mvpn_time now)
{
    static const char *const states[] = {
        [MVPN_CLIENT_CIRCUIT_BUILDS] = "building", [MVPN_CLIENT_CIRCUIT_SPARE] = "spare",
        [MVPN_CLIENT_CIRCUIT_TAKES] = "opening",   [MVPN_CLIENT_CIRCUIT_CARRIES] = "in use",
        [MVPN_CLIENT_CIRCUIT_DRAINS] = "ending",
    };
    mvpn_client_circuit circuits[MVPN_CLIENT_CIRCUITS_MAX];
    size_t count = mvpn_client_circuits(client, circuits);
    for (size_t i = 0; i < count; i++) {
        const mvpn_client_circuit *c = &circuits[i];
        json_t *o = json_object();
        set_number(o, "number", group * MVPN_CLIENT_CIRCUITS_MAX + c->number);
        if (group > 0) {
            set_number(o, "group", group);
        }
        set_text(o, "state", states[c->role]);
        (void)json_object_set_new(o, "is_current", json_boolean(c->is_current));
        set_number(o, "age_s", now > c->began ? (now - c->began) / MVPN_US_PER_S : 0);
        set_ms(o, "build_ms", c->build_us);
        set_ms(o, "rtt_ms", c->rtt_us);
        set_number(o, "bytes", c->bytes);
        (void)json_object_set_new(o, "path", describe_path(mvpn_engine_view(engine), &c->path));
        (void)json_array_append_new(list, o);
    }
}

void mvpn_status_circuits(json_t *reply, mvpn_engine *engine, mvpn_time now)
{
    json_t *list = json_array();
    add_circuits(list, engine, mvpn_engine_client(engine), 0, now);
    for (unsigned i = 1; i <= MVPN_ENGINE_GROUPS_MAX; i++) {
        const mvpn_client *group = mvpn_engine_group(engine, i);
        if (group != NULL) {
            add_circuits(list, engine, group, i, now);
        }
    }
    set_text(reply, "schema", "meshvpn.circuits/1");
    (void)json_object_set_new(reply, "circuits", list);
}

/* --- exits --- */

typedef struct wish {
    const char *country; /* NULL: any */
    json_int_t port;     /* 0: any */
} wish;

static int refuse(json_t *reply, const char *text)
{
    (void)json_object_set_new(reply, "error", json_string(text));
    return MVPN_E_INVAL;
}

static int read_wish(wish *w, const json_t *request, json_t *reply)
{
    const json_t *country = json_object_get(request, "country");
    const json_t *port = json_object_get(request, "port");
    *w = (wish){.country = json_string_value(country), .port = json_integer_value(port)};
    if (country != NULL && (w->country == NULL || !mvpn_country_is_valid(w->country))) {
        return refuse(reply, "a country is two upper-case letters, such as CH");
    }
    if (port != NULL && (w->port < 1 || w->port > UINT16_MAX)) {
        return refuse(reply, "a port is a number from 1 to 65535");
    }
    return 0;
}

static bool lets_out(const mvpn_descriptor *d, json_int_t port)
{
    for (unsigned i = 0; i < d->policy_range_count; i++) {
        if (d->policy_ranges[i].first <= port && port <= d->policy_ranges[i].last) {
            return true;
        }
    }
    return false;
}

/* Who does not say what it lets out may do so all the same, but is not counted on. */
static bool fits(const mvpn_descriptor *d, const wish *w)
{
    return (d->roles & MVPN_ROLE_EXIT) != 0 &&
           (w->country == NULL || strcmp(d->country, w->country) == 0) &&
           (w->port == 0 || lets_out(d, w->port));
}

/* The fastest first, then by identity: the same list looks the same. */
static int by_bandwidth(const void *a, const void *b)
{
    const mvpn_descriptor *x = *(const mvpn_descriptor *const *)a;
    const mvpn_descriptor *y = *(const mvpn_descriptor *const *)b;
    uint32_t x_kbit = x->has_bandwidth ? x->bandwidth_kbit : 0;
    uint32_t y_kbit = y->has_bandwidth ? y->bandwidth_kbit : 0;
    if (x_kbit != y_kbit) {
        return x_kbit > y_kbit ? -1 : 1;
    }
    return memcmp(x->identity.b, y->identity.b, sizeof(x->identity.b));
}

static json_t *describe_exit(const mvpn_view *view, const mvpn_descriptor *d)
{
    mvpn_view_info info = {.is_confirmed = false};
    json_t *o = json_object(), *ports = json_array();
    mvpn_status_set_relay(o, view, &d->identity);
    set_text(o, "country", d->country);
    (void)json_object_set_new(o, "bandwidth_mbit",
                              d->has_bandwidth ? json_real((double)d->bandwidth_kbit / 1000.0)
                                               : json_null());
    for (unsigned i = 0; i < d->policy_range_count; i++) {
        (void)json_array_append_new(ports, json_pack("[i,i]", (int)d->policy_ranges[i].first,
                                                     (int)d->policy_ranges[i].last));
    }
    (void)json_object_set(o, "ports", d->has_policy ? ports : json_null());
    json_decref(ports);
    (void)json_object_set_new(o, "ipv4", json_boolean((d->policy_flags & MVPN_EXIT_IPV4) != 0));
    (void)json_object_set_new(o, "ipv6", json_boolean((d->policy_flags & MVPN_EXIT_IPV6) != 0));
    MVPN_IGNORE(mvpn_view_find_info(view, &d->identity, &info));
    (void)json_object_set_new(o, "is_confirmed", json_boolean(info.is_confirmed));
    (void)json_object_set_new(o, "is_silent", json_boolean(info.is_dead));
    return o;
}

int mvpn_status_exits(json_t *reply, const mvpn_view *view, const json_t *request)
{
    wish w;
    size_t count = 0, known = mvpn_view_count(view);
    int r = read_wish(&w, request, reply);
    if (r != 0) {
        return r;
    }
    const mvpn_descriptor **found = calloc(known > 0 ? known : 1, sizeof(*found));
    if (found == NULL) {
        return MVPN_E_NOMEM;
    }
    for (size_t i = 0; i < known; i++) {
        const mvpn_descriptor *d = mvpn_view_at(view, i);
        if (fits(d, &w)) {
            found[count++] = d;
        }
    }
    qsort(found, count, sizeof(*found), by_bandwidth);
    json_t *list = json_array();
    for (size_t i = 0; i < MVPN_MIN(count, MVPN_STATUS_EXITS_MAX); i++) {
        (void)json_array_append_new(list, describe_exit(view, found[i]));
    }
    free(found);
    set_text(reply, "schema", "meshvpn.exits/1");
    set_number(reply, "total", count);
    (void)json_object_set_new(reply, "exits", list);
    return 0;
}
