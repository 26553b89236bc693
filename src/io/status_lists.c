#include "io/status_lists.h"

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
