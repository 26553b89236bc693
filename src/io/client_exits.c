#include "io/client_exits.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "io/exit_words.h"
#include "io/status_links.h"
#include "io/status_value.h"

/* ---- where addresses lie ---- */

bool mvpn_client_exits_country_of(const void *ctx, const mvpn_addr *addr, char ret_country[3])
{
    const mvpn_client_exits *e = ctx;
    return e->geoip != NULL && mvpn_geoip_country(e->geoip, addr, ret_country);
}

/* Some 100 ms, once: only who asks for a country waits for the tables. */
static int load_countries(mvpn_client_exits *e, mvpn_fault *fault)
{
    if (e->has_loaded || e->geoip_dir[0] == '\0') {
        return 0;
    }
    e->has_loaded = true;
    int r = mvpn_geoip_load(e->geoip_dir, &e->geoip, fault);
    if (r == 0 && mvpn_geoip_count(e->geoip) == 0) {
        mvpn_logf(e->log, MVPN_LOG_WARN,
                  "no tables of countries in %s: exits are believed where they are. Install "
                  "tor-geoipdb",
                  e->geoip_dir);
    }
    return r;
}

void mvpn_client_exits_need_countries(mvpn_client_exits *e)
{
    mvpn_fault fault = {.text = ""};
    if (load_countries(e, &fault) != 0) {
        mvpn_logf(e->log, MVPN_LOG_WARN, "exits are believed where they are: %s", fault.text);
    }
}

static bool has_countries(const mvpn_exit_choice *c)
{
    return c->countries.count > 0 || c->blocked_countries.count > 0;
}

/* ---- the start ---- */

int mvpn_client_exits_word(const char *word, mvpn_fault *fault)
{
    size_t n = strlen(word);
    bool ok = n > 0 && n <= MVPN_STATE_EXIT_NAME_MAX;
    for (size_t i = 0; ok && i < n; i++) {
        ok = word[i] > 0x20 && word[i] < 0x7f;
    }
    mvpn_path_countries c;
    ok = ok && (mvpn_path_countries_parse(word, &c) == 0
                    ? !c.is_exclusion
                    : mvpn_name_is_valid(word) || mvpn_exit_words_is_identity(word));
    return ok ? 0
              : mvpn_fault_set(fault, MVPN_E_CONFIG,
                               "'%.40s' is no exit: name a country (CH), a relay, 8 or more digits "
                               "of its identity, or auto",
                               word);
}

static void save(const mvpn_client_exits *e, json_t *reply)
{
    mvpn_fault fault = {.text = ""};
    if (mvpn_state_exits_save(e->dir, &e->state, &fault) != 0) {
        mvpn_logf(e->log, MVPN_LOG_WARN, "the choice of exits cannot be saved: %s", fault.text);
        if (reply != NULL) {
            set_text(reply, "note", "it holds until the daemon ends: it could not be saved");
        }
    }
}

static void clear_use(mvpn_state_exits *s)
{
    s->choice.has_exit = s->choice.is_open = false;
    s->choice.countries = (mvpn_path_countries){.count = 0};
    s->name[0] = '\0';
}

/* What it means is known when exits are. */
static void use_word(mvpn_state_exits *s, const char *word)
{
    mvpn_path_countries countries;
    clear_use(s);
    if (strcmp(word, "auto") == 0) {
        return;
    }
    if (mvpn_path_countries_parse(word, &countries) == 0) {
        s->choice.countries = countries;
        return;
    }
    s->choice.is_open = true;
    (void)snprintf(s->name, sizeof(s->name), "%s", word);
}

int mvpn_client_exits_init(mvpn_client_exits *e, const char *dir, const char *geoip_dir,
                           const mvpn_log *log, const char *word, mvpn_client_config *client,
                           mvpn_fault *fault)
{
    *e = (mvpn_client_exits){.dir = dir, .geoip_dir = geoip_dir, .log = log};
    e->is_fixed = client->fixed_path.count > 0;
    if (mvpn_state_exits_load(dir, &e->state) == MVPN_E_FORMAT) {
        mvpn_logf(log, MVPN_LOG_WARN,
                  "%s/exits is damaged: which exits were chosen and blocked is forgotten. See "
                  "meshvpn exit use, meshvpn exit block",
                  dir);
    }
    if (word != NULL && e->is_fixed) {
        return mvpn_fault_set(fault, MVPN_E_CONFIG,
                              "path says the exit already: take it out of the configuration, or "
                              "leave out --exit");
    }
    if (word != NULL) {
        use_word(&e->state, word);
        save(e, NULL);
    }
    client->exit_choice = e->state.choice;
    client->country_of = mvpn_client_exits_country_of;
    client->country_ctx = e;
    return has_countries(&e->state.choice) || client->exit_countries.count > 0
               ? load_countries(e, fault)
               : 0;
}

void mvpn_client_exits_done(mvpn_client_exits *e)
{
    mvpn_geoip_free(e->geoip);
    e->geoip = NULL;
}

/* ---- while it runs ---- */

static bool same(const mvpn_ed25519_pub *a, const mvpn_ed25519_pub *b)
{
    return memcmp(a->b, b->b, sizeof(a->b)) == 0;
}

static void note_rtt(mvpn_client_exits *e, const mvpn_ed25519_pub *exit, uint32_t rtt_us)
{
    size_t count = MVPN_MIN(e->seen_count, (size_t)MVPN_CLIENT_EXITS_SEEN);
    for (size_t i = 0; i < count; i++) {
        if (same(&e->seen[i].exit, exit)) {
            e->seen[i].rtt_us = rtt_us;
            return;
        }
    }
    size_t at = e->seen_count++ % MVPN_CLIENT_EXITS_SEEN;
    e->seen[at].exit = *exit;
    e->seen[at].rtt_us = rtt_us;
}

uint32_t mvpn_client_exits_rtt(const mvpn_client_exits *e, const mvpn_ed25519_pub *exit)
{
    size_t count = MVPN_MIN(e->seen_count, (size_t)MVPN_CLIENT_EXITS_SEEN);
    for (size_t i = 0; i < count; i++) {
        if (same(&e->seen[i].exit, exit)) {
            return e->seen[i].rtt_us;
        }
    }
    return 0;
}

void mvpn_client_exits_check(mvpn_client_exits *e, mvpn_engine *engine, mvpn_time now)
{
    mvpn_client_circuit circuits[MVPN_CLIENT_CIRCUITS_MAX];
    size_t count = mvpn_client_circuits(mvpn_engine_client(engine), circuits);
    char why[MVPN_EXIT_WORDS_TEXT];
    for (size_t i = 0; i < count; i++) {
        const mvpn_path *path = &circuits[i].path;
        if (circuits[i].rtt_us != 0 && path->count > 0) {
            note_rtt(e, &path->hop[path->count - 1], circuits[i].rtt_us);
        }
    }
    mvpn_exit_choice *choice = &e->state.choice;
    if (choice->is_open &&
        mvpn_exit_words_find(mvpn_engine_view(engine), e->state.name, &choice->exit, why) == 0) {
        choice->is_open = false;
        choice->has_exit = true;
        e->state.name[0] = '\0';
        (void)mvpn_engine_set_exit_choice(engine, choice, now);
        save(e, NULL);
    }
}

/* ---- what is told ---- */

static void join_countries(const mvpn_path_countries *c, char *out, size_t size)
{
    size_t n = 0;
    out[0] = '\0';
    for (unsigned i = 0; i < c->count && n + 4 <= size; i++) {
        n += (size_t)snprintf(out + n, size - n, "%s%s", i > 0 ? "," : "", c->code[i]);
    }
}

static json_t *describe_blocked(const mvpn_exit_choice *c, const mvpn_view *view)
{
    json_t *list = json_array();
    char text[17];
    for (unsigned i = 0; i < c->blocked_countries.count; i++) {
        (void)json_array_append_new(list, json_string(c->blocked_countries.code[i]));
    }
    for (size_t i = 0; i < c->blocked_count; i++) {
        (void)json_array_append_new(
            list, json_string(mvpn_status_relay_name(view, &c->blocked[i], text)));
    }
    return list;
}

/* Why new connections do not leave as was chosen; "" if they do. */
static const char *reason_of(const mvpn_exit_choice *c, const mvpn_client_status *status)
{
    if (c->is_open) {
        return "no exit is known by that name yet: new connections wait for it";
    }
    bool is_there = status->state == MVPN_CLIENT_CONNECTED && !status->is_leaving;
    if (status->block != MVPN_PATH_OK && !is_there) { /* else it is a spare that lacks a path */
        return mvpn_path_block_text(status->block);
    }
    return status->is_leaving ? "a session there is being opened" : "";
}

json_t *mvpn_client_exits_status(const mvpn_client_exits *e, mvpn_engine *engine)
{
    const mvpn_exit_choice *c = &e->state.choice;
    const mvpn_view *view = mvpn_engine_view(engine);
    mvpn_client_status status;
    json_t *o = json_object();
    char identity[17], countries[MVPN_PATH_COUNTRIES_MAX * 3 + 1];
    const char *use = "auto", *kind = "auto";
    mvpn_client_get_status(mvpn_engine_client(engine), &status);
    if (c->is_open) {
        use = e->state.name;
        kind = "name";
    } else if (c->has_exit) {
        use = mvpn_status_relay_name(view, &c->exit, identity);
        kind = "exit";
    } else if (c->countries.count > 0) {
        join_countries(&c->countries, countries, sizeof(countries));
        use = countries;
        kind = "countries";
    }
    set_text(o, "use", use);
    set_text(o, "kind", kind);
    (void)mvpn_status_relay_name(view, &c->exit, identity);
    set_text(o, "identity", c->has_exit ? identity : "");
    (void)json_object_set_new(o, "blocked", describe_blocked(c, view));
    set_text(o, "reason", reason_of(c, &status));
    return o;
}

/* ---- commands ---- */

static int MVPN_PRINTF(3, 4) refuse(json_t *reply, int code, const char *fmt, ...)
{
    char text[2 * MVPN_EXIT_WORDS_TEXT];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    set_text(reply, "error", text);
    return code;
}

/* The word of a request; NULL after saying what is wrong with it. */
static const char *read_word(const mvpn_client_exits *e, const json_t *request, json_t *reply,
                             int *ret_code)
{
    mvpn_fault fault = {.text = ""};
    const char *word = json_string_value(json_object_get(request, "exit"));
    if (e->is_fixed) {
        *ret_code = refuse(reply, MVPN_E_STATE,
                           "the configuration says the whole path, with its exit: take path out "
                           "of it to choose exits");
        return NULL;
    }
    if (word == NULL || mvpn_client_exits_word(word, &fault) != 0) {
        *ret_code = refuse(reply, MVPN_E_INVAL, "%s",
                           word == NULL ? "name an exit: a country (CH), a relay, 8 or more "
                                          "digits of its identity, or auto"
                                        : fault.text);
        return NULL;
    }
    return word;
}

static bool is_ready(mvpn_engine *engine)
{
    const mvpn_learner *learner = mvpn_engine_learner(engine);
    return learner == NULL || mvpn_learner_is_ready(learner);
}

/* Put it in force, keep it, and tell. */
static int apply(mvpn_client_exits *e, mvpn_engine *engine, const mvpn_state_exits *next,
                 const char *note, mvpn_time now, json_t *reply)
{
    e->state = *next;
    mvpn_logf(e->log, MVPN_LOG_INFO, "the choice of exits was changed");
    (void)mvpn_engine_set_exit_choice(engine, &e->state.choice, now);
    (void)json_object_set_new(reply, "ok", json_true());
    set_text(reply, "note", note);
    save(e, reply);
    (void)json_object_set_new(reply, "exit_choice", mvpn_client_exits_status(e, engine));
    return 0;
}

static bool is_blocked_exit(const mvpn_exit_choice *c, const mvpn_ed25519_pub *exit)
{
    for (size_t i = 0; i < c->blocked_count; i++) {
        if (same(&c->blocked[i], exit)) {
            return true;
        }
    }
    return false;
}

static int find(mvpn_engine *engine, const char *word, mvpn_ed25519_pub *ret, json_t *reply)
{
    char why[MVPN_EXIT_WORDS_TEXT];
    int r = mvpn_exit_words_find(mvpn_engine_view(engine), word, ret, why);
    return r == 0 ? 0 : refuse(reply, r, "%s", why);
}

/* Nothing that is known fits: say what would. */
static int refuse_use(const mvpn_client_exits *e, mvpn_engine *engine, const mvpn_state_exits *next,
                      const char *word, enum mvpn_path_block block, json_t *reply)
{
    char list[MVPN_EXIT_WORDS_TEXT];
    if (block == MVPN_PATH_NO_EXIT_BLOCKED) {
        return refuse(reply, MVPN_E_STATE, "%s is blocked. See meshvpn exit unblock", word);
    }
    if (next->choice.countries.count > 0) {
        mvpn_exit_words_countries(mvpn_engine_view(engine), mvpn_client_exits_country_of, e, list);
        return refuse(reply, MVPN_E_UNKNOWN, "%s: %s. Nothing is changed. Exits are known in: %s",
                      word, mvpn_path_block_text(block), list);
    }
    return refuse(reply, MVPN_E_UNKNOWN,
                  "%s cannot be used now: it does not answer, or has ended. Nothing is changed",
                  word);
}

int mvpn_client_exits_use(mvpn_client_exits *e, mvpn_engine *engine, const json_t *request,
                          mvpn_time now, json_t *reply)
{
    int r = 0;
    const char *word = read_word(e, request, reply, &r), *note = "";
    if (word == NULL) {
        return r;
    }
    mvpn_state_exits next = e->state;
    use_word(&next, word);
    if (next.choice.is_open) {
        json_t *why = json_object();
        r = find(engine, word, &next.choice.exit, why);
        if (r == MVPN_E_UNKNOWN && !is_ready(engine)) {
            note = "no exit is known yet: new connections wait for it";
        } else if (r != 0) {
            (void)json_object_update(reply, why);
        } else {
            next.choice.is_open = false;
            next.choice.has_exit = true;
            next.name[0] = '\0';
        }
        json_decref(why);
        if (r != 0 && note[0] == '\0') {
            return r;
        }
    }
    if (has_countries(&next.choice)) {
        mvpn_client_exits_need_countries(e);
    }
    enum mvpn_path_block block =
        is_ready(engine) && strcmp(word, "auto") != 0
            ? mvpn_client_judge_choice(mvpn_engine_client(engine), &next.choice, now)
            : MVPN_PATH_OK;
    return block != MVPN_PATH_OK ? refuse_use(e, engine, &next, word, block, reply)
                                 : apply(e, engine, &next, note, now, reply);
}

static bool has_country(const mvpn_path_countries *c, const char *code)
{
    for (unsigned i = 0; i < c->count; i++) {
        if (strcmp(c->code[i], code) == 0) {
            return true;
        }
    }
    return false;
}

/* Add countries; MVPN_E_LIMIT. */
static int block_countries(mvpn_exit_choice *c, const mvpn_path_countries *more, json_t *reply)
{
    for (unsigned i = 0; i < more->count; i++) {
        if (has_country(&c->blocked_countries, more->code[i])) {
            continue;
        }
        if (c->blocked_countries.count == MVPN_PATH_COUNTRIES_MAX) {
            return refuse(reply, MVPN_E_LIMIT, "%d countries are blocked already: unblock one",
                          MVPN_PATH_COUNTRIES_MAX);
        }
        c->blocked_countries.is_exclusion = true;
        memcpy(c->blocked_countries.code[c->blocked_countries.count++], more->code[i], 3);
    }
    return 0;
}

static int block_exit(mvpn_exit_choice *c, const mvpn_ed25519_pub *exit, json_t *reply)
{
    if (is_blocked_exit(c, exit)) {
        return 0;
    }
    if (c->blocked_count == MVPN_EXIT_BLOCKED_MAX) {
        return refuse(reply, MVPN_E_LIMIT, "%d exits are blocked already: unblock one",
                      MVPN_EXIT_BLOCKED_MAX);
    }
    c->blocked[c->blocked_count++] = *exit;
    return 0;
}

int mvpn_client_exits_block(mvpn_client_exits *e, mvpn_engine *engine, const json_t *request,
                            mvpn_time now, json_t *reply)
{
    int r = 0;
    const char *word = read_word(e, request, reply, &r);
    mvpn_path_countries countries;
    mvpn_ed25519_pub exit;
    if (word == NULL) {
        return r;
    }
    mvpn_state_exits next = e->state;
    if (strcmp(word, "auto") == 0) {
        return refuse(reply, MVPN_E_INVAL, "auto is no exit: name what is to be blocked");
    }
    if (mvpn_path_countries_parse(word, &countries) == 0) {
        r = block_countries(&next.choice, &countries, reply);
        mvpn_client_exits_need_countries(e);
    } else {
        r = find(engine, word, &exit, reply);
        r = r != 0 ? r : block_exit(&next.choice, &exit, reply);
    }
    if (r != 0) {
        return r;
    }
    const mvpn_client *client = mvpn_engine_client(engine);
    enum mvpn_path_block block = mvpn_client_judge_choice(client, &next.choice, now);
    bool is_choice = next.choice.has_exit || next.choice.countries.count > 0;
    if (is_choice && block == MVPN_PATH_NO_EXIT_BLOCKED &&
        mvpn_client_judge_choice(client, &e->state.choice, now) == MVPN_PATH_OK) {
        return refuse(reply, MVPN_E_STATE,
                      "that would block what meshvpn exit use chose. Nothing is changed: use "
                      "another exit first, or meshvpn exit use auto");
    }
    return apply(e, engine, &next,
                 is_ready(engine) && block == MVPN_PATH_NO_EXIT_BLOCKED
                     ? "no exit that is known is left: new connections wait"
                     : "",
                 now, reply);
}

static bool unblock_countries(mvpn_exit_choice *c, const mvpn_path_countries *less)
{
    mvpn_path_countries left = {.is_exclusion = true};
    for (unsigned i = 0; i < c->blocked_countries.count; i++) {
        if (!has_country(less, c->blocked_countries.code[i])) {
            memcpy(left.code[left.count++], c->blocked_countries.code[i], 3);
        }
    }
    bool is_less = left.count < c->blocked_countries.count;
    left.is_exclusion = left.count > 0;
    c->blocked_countries = left;
    return is_less;
}

/* By name or digits, whether it is known at the moment or not. */
static bool unblock_exits(mvpn_exit_choice *c, const mvpn_view *view, const char *word)
{
    size_t left = 0, count = c->blocked_count;
    bool is_identity = mvpn_exit_words_is_identity(word);
    for (size_t i = 0; i < count; i++) {
        const mvpn_descriptor *d = mvpn_view_find(view, &c->blocked[i]);
        bool is_meant = (d != NULL && d->name[0] != '\0' && strcmp(d->name, word) == 0) ||
                        (is_identity && mvpn_exit_words_fits(word, &c->blocked[i]));
        if (!is_meant) {
            c->blocked[left++] = c->blocked[i];
        }
    }
    c->blocked_count = left;
    return left < count;
}

int mvpn_client_exits_unblock(mvpn_client_exits *e, mvpn_engine *engine, const json_t *request,
                              mvpn_time now, json_t *reply)
{
    int r = 0;
    const char *word = read_word(e, request, reply, &r);
    mvpn_path_countries countries;
    if (word == NULL) {
        return r;
    }
    mvpn_state_exits next = e->state;
    bool is_less = true;
    if (strcmp(word, "all") == 0) {
        next.choice.blocked_count = 0;
        next.choice.blocked_countries = (mvpn_path_countries){.count = 0};
    } else if (mvpn_path_countries_parse(word, &countries) == 0) {
        is_less = unblock_countries(&next.choice, &countries);
    } else {
        is_less = unblock_exits(&next.choice, mvpn_engine_view(engine), word);
    }
    if (!is_less) {
        return refuse(reply, MVPN_E_UNKNOWN, "%s is not blocked. See meshvpn exit list", word);
    }
    return apply(e, engine, &next, "", now, reply);
}
