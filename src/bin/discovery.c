/*
 * meshvpn-discovery: looks at the whole network and shows what it sees. A DHT server without
 * circuits that checks and measures all relays, signs a snapshot each hour, and serves both over
 * HTTP. What it learnt is kept in DIR/survey of the state directory; a snapshot is in that file
 * before anybody sees it, so that no hour ever gets two.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "bin/relay_main.h"
#include "io/clock.h"
#include "io/discovery_api.h"
#include "io/file.h"
#include "io/geoip.h"
#include "io/http.h"

#define STEP_MS 1000
#define SAVE_TIME MVPN_S(300)
/* The largest snapshot and all relays that a survey remembers. */
#define STATE_MAX (32u << 20)
#define STATE_MODE 0600

typedef struct program {
    cli *cli;
    char path[PATH_MAX + 8];
    mvpn_survey_config survey_config;
    mvpn_geoip *geoip; /* NULL: no tables */
    mvpn_loop *loop;
    mvpn_node *node;
    mvpn_http *http;
    mvpn_discovery shown;
    const char *names[MVPN_CONFIG_HTTP_NAMES_MAX + 4];
    char own_name[MVPN_ADDR_STRLEN];
    mvpn_time next_save;
} program;

/* ---- the file ---- */

static int save(program *p, mvpn_fault *fault)
{
    const mvpn_survey *survey = mvpn_engine_survey(mvpn_node_engine(p->node));
    size_t size = mvpn_survey_save_size(survey);
    uint8_t *out = malloc(size);
    if (out == NULL) {
        return mvpn_fault_set(fault, MVPN_E_NOMEM, "out of memory");
    }
    size = mvpn_survey_save(survey, out, size);
    int r = mvpn_file_write(p->path, out, size, STATE_MODE, fault);
    free(out);
    return r;
}

static int load(program *p, mvpn_fault *fault)
{
    uint8_t *saved;
    size_t size;
    int r = mvpn_file_read(p->path, STATE_MAX, false, &saved, &size, fault);
    if (r == MVPN_E_UNKNOWN) {
        return 0; /* the first start */
    }
    if (r != 0) {
        return r;
    }
    size_t count = mvpn_survey_load(mvpn_engine_survey(mvpn_node_engine(p->node)),
                                    mvpn_bytes_of(saved, size), mvpn_clock_now());
    mvpn_logf(&p->cli->log, MVPN_LOG_INFO, "%zu relays are known from before", count);
    mvpn_file_free(saved, size);
    return 0;
}

/* ---- what is shown ---- */

static void add_entry(program *p, const mvpn_dht_contact *c)
{
    if (p->shown.entry_count < MVPN_DISCOVERY_ENTRIES_MAX) {
        p->shown.entries[p->shown.entry_count++] = *c;
    }
}

/* Whom newcomers may begin with: nodes of the DHT that have proven themselves to us. */
static void refresh(program *p)
{
    mvpn_engine *engine = mvpn_node_engine(p->node);
    mvpn_dht_contact sample[MVPN_DISCOVERY_ENTRIES_MAX];
    mvpn_dht_status status = {.nodes = 0};
    p->shown.unix_now = mvpn_clock_unix();
    mvpn_finder *finder = mvpn_engine_finder(engine);
    if (finder == NULL) {
        return;
    }
    mvpn_dht *dht = mvpn_finder_dht(finder);
    mvpn_dht_get_status(dht, &status);
    p->shown.nodes = status.nodes;
    p->shown.entry_count = 0;
    size_t n = mvpn_dht_sample_contacts(dht, sample, MVPN_ARRAY_LEN(sample));
    for (size_t i = 0; i < n; i++) {
        add_entry(p, &sample[i]);
    }
}

static void on_request(void *ctx, const mvpn_http_request *request, mvpn_http_response *ret)
{
    program *p = ctx;
    refresh(p);
    mvpn_discovery_handle(&p->shown, request, ret);
}

static void step(void *ctx)
{
    program *p = ctx;
    mvpn_fault fault = {.text = ""};
    mvpn_survey *survey = mvpn_engine_survey(mvpn_node_engine(p->node));
    mvpn_time now = mvpn_clock_now();
    bool has_snapshot = mvpn_survey_wants_saving(survey);
    if (!has_snapshot && now < p->next_save) {
        return;
    }
    p->next_save = now + SAVE_TIME;
    if (save(p, &fault) != 0) {
        mvpn_logf(&p->cli->log, MVPN_LOG_WARN, "cannot keep what is known%s: %s",
                  has_snapshot ? ", and so show no new snapshot" : "", fault.text);
        return;
    }
    if (has_snapshot) {
        mvpn_survey_saved(survey);
        const mvpn_snapshot_head *head = mvpn_survey_head(survey, 0);
        mvpn_logf(&p->cli->log, MVPN_LOG_INFO, "snapshot of hour %llu: %u relays, %zu answer",
                  (unsigned long long)head->hour, head->entries, mvpn_survey_alive_count(survey));
    }
}

/* ---- the program's parts of a node ---- */

static bool country_of(void *ctx, const mvpn_addr *addr, char ret[static 3])
{
    return mvpn_geoip_country(ctx, addr, ret);
}

static void collect_names(program *p)
{
    const mvpn_config_discovery *c = &p->cli->config.discovery;
    mvpn_addr a = c->http_listen;
    size_t n = 0;
    p->names[n++] = "localhost";
    p->names[n++] = "127.0.0.1";
    p->names[n++] = "[::1]";
    (void)mvpn_addr_format(&a, p->own_name); /* with its port: cut off */
    char *colon = strrchr(p->own_name, ':');
    if (colon != NULL) {
        *colon = '\0';
    }
    p->names[n++] = p->own_name;
    for (unsigned i = 0; i < c->http_name_count; i++) {
        p->names[n++] = c->http_names[i];
    }
    p->shown.names = p->names;
    p->shown.name_count = n;
}

static int prepare(void *ctx, cli *c, mvpn_engine_config *engine, mvpn_fault *fault)
{
    program *p = ctx;
    p->cli = c;
    if (engine->publish == NULL) {
        return mvpn_fault_set(fault, MVPN_E_CONFIG,
                              "a discovery node signs what it shows: it needs identity.key in %s "
                              "and an 'address' in its configuration",
                              c->config.key_dir);
    }
    int r = mvpn_geoip_load(MVPN_GEOIP_DIR, &p->geoip, fault);
    if (r != 0) {
        return r;
    }
    bool has_tables = mvpn_geoip_count(p->geoip) > 0;
    if (!has_tables) {
        mvpn_logf(&c->log, MVPN_LOG_WARN,
                  "no tables of countries in %s: countries are not checked. Install tor-geoipdb",
                  MVPN_GEOIP_DIR);
    }
    p->survey_config = (mvpn_survey_config){
        .country = has_tables ? country_of : NULL,
        .country_ctx = p->geoip,
        .must_save = true,
        .no_bandwidth = !c->config.discovery.measure,
    };
    engine->survey = &p->survey_config;
    (void)snprintf(p->path, sizeof(p->path), "%s/survey", c->config.state_dir);
    collect_names(p);
    return 0;
}

static int start(void *ctx, mvpn_loop *loop, mvpn_node *node, mvpn_fault *fault)
{
    program *p = ctx;
    const mvpn_config *c = &p->cli->config;
    mvpn_engine *engine = mvpn_node_engine(node);
    p->node = node;
    p->shown.view = mvpn_engine_view(engine);
    p->shown.survey = mvpn_engine_survey(engine);
    p->shown.network_name = p->cli->network.name;
    p->shown.network_id = p->cli->network.network_id;
    p->shown.closed = p->cli->network.is_closed;
    p->shown.started = mvpn_clock_unix();
    p->next_save = mvpn_clock_now() + SAVE_TIME;
    int r = mvpn_file_make_dir(c->state_dir, 0700, fault);
    r = r != 0 ? r : load(p, fault);
    r = r != 0 ? r : save(p, fault); /* now, not when the first snapshot is due */
    if (r != 0) {
        return r;
    }
    mvpn_http_options options = {
        .loop = loop, .listen = c->discovery.http_listen, .handler = on_request, .ctx = p};
    r = mvpn_http_open(&p->http, &options, fault);
    r = r != 0 ? r : mvpn_loop_every(loop, STEP_MS, step, p);
    if (r == 0) {
        char text[MVPN_ADDR_STRLEN];
        mvpn_logf(&p->cli->log, MVPN_LOG_INFO, "HTTP at http://%s/",
                  mvpn_addr_format(&c->discovery.http_listen, text));
    }
    return r;
}

static void stop(void *ctx, mvpn_node *node)
{
    program *p = ctx;
    mvpn_fault fault = {.text = ""};
    mvpn_http_close(p->http);
    p->http = NULL;
    mvpn_discovery_done(&p->shown);
    if (node != NULL && p->node != NULL && save(p, &fault) != 0) {
        mvpn_logf(&p->cli->log, MVPN_LOG_WARN, "cannot keep what is known: %s", fault.text);
    }
}

static void add_status(void *ctx, json_t *reply)
{
    program *p = ctx;
    const mvpn_survey *survey = mvpn_engine_survey(mvpn_node_engine(p->node));
    const mvpn_snapshot_head *head = mvpn_survey_head(survey, 0);
    (void)json_object_set_new(reply, "role", json_string("discovery"));
    (void)json_object_set_new(reply, "relays_known",
                              json_integer((json_int_t)mvpn_survey_count(survey)));
    (void)json_object_set_new(reply, "relays_alive",
                              json_integer((json_int_t)mvpn_survey_alive_count(survey)));
    (void)json_object_set_new(reply, "snapshot_hour",
                              head == NULL ? json_null() : json_integer((json_int_t)head->hour));
}

int main(int argc, char **argv)
{
    program *p = calloc(1, sizeof(*p));
    if (p == NULL) {
        return CLI_FAILED;
    }
    const relay_extra extra = {
        .ctx = p, .prepare = prepare, .start = start, .stop = stop, .status = add_status};
    int code = relay_main(argc, argv, MVPN_CONFIG_DISCOVERY, &options_discovery, &extra);
    mvpn_geoip_free(p->geoip);
    free(p);
    return code;
}
