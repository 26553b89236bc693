#include "io/status_exits.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/status_links.h"
#include "io/status_value.h"

#define MIN_MBIT_MAX 1000000
/* An exit that was never used counts as if it were so far away. */
#define RTT_UNKNOWN_US 100000
/* Where nothing more is gained by more bandwidth: 1 Gbit/s. */
#define ENOUGH_KBIT 1000000

/* ---- which ---- */

typedef struct wish {
    const char *country; /* NULL: any */
    json_int_t port;     /* 0: any */
    json_int_t min_mbit; /* 0: any */
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
    const json_t *min_mbit = json_object_get(request, "min_mbit");
    *w = (wish){
        .country = json_string_value(country),
        .port = json_integer_value(port),
        .min_mbit = json_integer_value(min_mbit),
    };
    if (country != NULL && (w->country == NULL || !mvpn_country_is_valid(w->country))) {
        return refuse(reply, "a country is two upper-case letters, such as CH");
    }
    if (port != NULL && (w->port < 1 || w->port > UINT16_MAX)) {
        return refuse(reply, "a port is a number from 1 to 65535");
    }
    if (min_mbit != NULL && (w->min_mbit < 1 || w->min_mbit > MIN_MBIT_MAX)) {
        return refuse(reply, "a bandwidth is a number of Mbit/s from 1 to 1000000");
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

/* As fast as it says, but no faster than was measured: a cap is rounded down to a power of two. */
static uint32_t known_kbit(const mvpn_descriptor *d, const mvpn_view_info *info)
{
    uint32_t cap = info->cap_log2 >= 31 ? UINT32_MAX : (uint32_t)2 << info->cap_log2;
    return d->has_bandwidth ? MVPN_MIN(d->bandwidth_kbit, cap) : 0;
}

/* Who does not say what it lets out may do so all the same, but is not counted on. */
static bool fits(const mvpn_descriptor *d, const mvpn_view_info *info, const wish *w)
{
    return (d->roles & MVPN_ROLE_EXIT) != 0 &&
           (w->country == NULL || strcmp(d->country, w->country) == 0) &&
           (w->port == 0 || lets_out(d, w->port)) &&
           (w->min_mbit == 0 || known_kbit(d, info) / 1000 >= (uint64_t)w->min_mbit);
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

/* ---- what is said of one ---- */

typedef struct context {
    const mvpn_view *view;
    const mvpn_client *client;
    const mvpn_client_exits *chosen;
    const mvpn_path *path; /* in use */
    mvpn_time now;
} context;

static context context_of(mvpn_engine *engine, const mvpn_client_exits *chosen,
                          mvpn_client_status *status, mvpn_time now)
{
    const mvpn_client *client = mvpn_engine_client(engine);
    mvpn_client_get_status(client, status);
    return (context){mvpn_engine_view(engine), client, chosen, &status->path, now};
}

static bool same(const mvpn_ed25519_pub *a, const mvpn_ed25519_pub *b)
{
    return memcmp(a->b, b->b, sizeof(a->b)) == 0;
}

static bool is_in_use(const context *c, const mvpn_descriptor *d)
{
    return c->path->count > 0 && same(&c->path->hop[c->path->count - 1], &d->identity);
}

static bool is_chosen(const context *c, const mvpn_descriptor *d)
{
    const mvpn_exit_choice *choice = &c->chosen->state.choice;
    for (unsigned i = 0; i < choice->countries.count; i++) {
        if (strcmp(choice->countries.code[i], d->country) == 0) {
            return true;
        }
    }
    return choice->has_exit && same(&choice->exit, &d->identity);
}

static bool is_blocked(const context *c, const mvpn_descriptor *d)
{
    const mvpn_exit_choice *choice = &c->chosen->state.choice;
    for (unsigned i = 0; i < choice->blocked_countries.count; i++) {
        if (strcmp(choice->blocked_countries.code[i], d->country) == 0) {
            return true;
        }
    }
    for (size_t i = 0; i < choice->blocked_count; i++) {
        if (same(&choice->blocked[i], &d->identity)) {
            return true;
        }
    }
    return false;
}

/* Why it is not used, whatever is best; "" if it could be. */
static const char *reason_against(const context *c, const mvpn_descriptor *d,
                                  const mvpn_view_info *info)
{
    if (info->is_dead) {
        return "does not answer";
    }
    switch (mvpn_client_judge_exit(c->client, NULL, d, info, c->now)) {
    case MVPN_PATH_OK:
        return "";
    case MVPN_PATH_NO_EXIT_BLOCKED:
        return "blocked";
    case MVPN_PATH_NO_EXIT_CHOSEN:
        return "another exit is chosen";
    case MVPN_PATH_NO_EXIT_COUNTRY:
        return is_chosen(c, d) ? "its address lies elsewhere" : "not in a wanted country";
    case MVPN_PATH_NO_EXIT_PORT:
        return "does not carry the wanted ports or addresses";
    case MVPN_PATH_NO_EXIT_SPEED:
        return "too slow";
    case MVPN_PATH_NO_EXIT:
    case MVPN_PATH_NO_GUARD:
    case MVPN_PATH_GUARD_LIMIT:
    case MVPN_PATH_NO_MIDDLE:
    case MVPN_PATH_RELATED:
        break;
    }
    return "cannot be used here";
}

static json_t *describe_exit(const context *c, const mvpn_descriptor *d)
{
    mvpn_view_info info = {.is_confirmed = false};
    json_t *o = json_object(), *ports = json_array();
    mvpn_status_set_relay(o, c->view, &d->identity);
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
    MVPN_IGNORE(mvpn_view_find_info(c->view, &d->identity, &info));
    (void)json_object_set_new(o, "is_confirmed", json_boolean(info.is_confirmed));
    (void)json_object_set_new(o, "is_silent", json_boolean(info.is_dead));
    (void)json_object_set_new(o, "is_in_use", json_boolean(is_in_use(c, d)));
    (void)json_object_set_new(o, "is_chosen", json_boolean(is_chosen(c, d)));
    (void)json_object_set_new(o, "is_blocked", json_boolean(is_blocked(c, d)));
    set_ms(o, "rtt_ms", mvpn_client_exits_rtt(c->chosen, &d->identity));
    set_text(o, "reason", reason_against(c, d, &info));
    return o;
}

/* ---- the list ---- */

int mvpn_status_exits(json_t *reply, mvpn_engine *engine, const mvpn_client_exits *chosen,
                      const json_t *request, mvpn_time now)
{
    wish w;
    mvpn_client_status status;
    const context c = context_of(engine, chosen, &status, now);
    size_t count = 0, known = mvpn_view_count(c.view);
    int r = read_wish(&w, request, reply);
    if (r != 0) {
        return r;
    }
    const mvpn_descriptor **found = calloc(known > 0 ? known : 1, sizeof(*found));
    if (found == NULL) {
        return MVPN_E_NOMEM;
    }
    for (size_t i = 0; i < known; i++) {
        const mvpn_descriptor *d = mvpn_view_at(c.view, i);
        mvpn_view_info info;
        mvpn_view_get_info(c.view, i, &info);
        if (fits(d, &info, &w)) {
            found[count++] = d;
        }
    }
    qsort(found, count, sizeof(*found), by_bandwidth);
    json_t *list = json_array();
    for (size_t i = 0; i < MVPN_MIN(count, MVPN_STATUS_EXITS_MAX); i++) {
        (void)json_array_append_new(list, describe_exit(&c, found[i]));
    }
    free(found);
    set_text(reply, "schema", "meshvpn.exits/1");
    set_number(reply, "total", count);
    (void)json_object_set_new(reply, "exits", list);
    return 0;
}

/* ---- suggestions ---- */

typedef struct suggestion {
    const mvpn_descriptor *d;
    mvpn_view_info info;
    uint64_t score;
} suggestion;

/* What was measured counts more than what is said; nearness as much as bandwidth. */
static uint64_t score_of(const context *c, const mvpn_descriptor *d, const mvpn_view_info *info,
                         uint8_t quartile)
{
    mvpn_view_info as_if = *info;
    as_if.cap_log2 = info->cap_log2 == UINT8_MAX ? quartile : info->cap_log2;
    uint32_t rtt = mvpn_client_exits_rtt(c->chosen, &d->identity);
    uint64_t kbit = MVPN_MIN(known_kbit(d, &as_if), (uint32_t)ENOUGH_KBIT) + 1;
    uint64_t score = kbit * 1000000 / (RTT_UNKNOWN_US + (rtt == 0 ? RTT_UNKNOWN_US : rtt));
    return info->is_confirmed ? score : score / 4;
}

/* Keep the best, in order. */
static void offer(suggestion *best, size_t *count, const suggestion *s)
{
    size_t at = *count;
    while (at > 0 &&
           (best[at - 1].score < s->score ||
            (best[at - 1].score == s->score &&
             memcmp(best[at - 1].d->identity.b, s->d->identity.b, sizeof(s->d->identity.b)) > 0))) {
        at--;
    }
    if (at == MVPN_STATUS_SUGGESTIONS_MAX) {
        return;
    }
    *count += *count < MVPN_STATUS_SUGGESTIONS_MAX;
    memmove(&best[at + 1], &best[at], (*count - 1 - at) * sizeof(*best));
    best[at] = *s;
}

static void add(char *text, size_t size, const char *words)
{
    size_t n = strlen(text);
    (void)snprintf(text + n, size - n, "%s%s", n > 0 ? ", " : "", words);
}

/* "about 128 Mbit/s (it says 200), 43 ms when used, in CH by its address, IPv6, in use" */
static void explain(const context *c, const suggestion *s, char *text, size_t size)
{
    char words[64];
    const mvpn_descriptor *d = s->d;
    uint32_t kbit = known_kbit(d, &s->info), rtt = mvpn_client_exits_rtt(c->chosen, &d->identity);
    text[0] = '\0';
    if (kbit > 0 && kbit < d->bandwidth_kbit) {
        (void)snprintf(words, sizeof(words), "about %.0f Mbit/s (it says %.0f)",
                       (double)kbit / 1000.0, (double)d->bandwidth_kbit / 1000.0);
        add(text, size, words);
    } else if (kbit > 0) {
        (void)snprintf(words, sizeof(words), "%.0f Mbit/s as it says", (double)kbit / 1000.0);
        add(text, size, words);
    } else {
        add(text, size, "bandwidth not known");
    }
    if (rtt > 0) {
        (void)snprintf(words, sizeof(words), "%.0f ms when used", (double)rtt / 1000.0);
        add(text, size, words);
    }
    if (s->info.uptime_h > 0) {
        (void)snprintf(words, sizeof(words), "up for %u h", (unsigned)s->info.uptime_h);
        add(text, size, words);
    }
    if (mvpn_path_check_country(d, &s->info, mvpn_client_exits_country_of, c->chosen) ==
        MVPN_PATH_COUNTRY_PROVEN) {
        (void)snprintf(words, sizeof(words), "in %s by its address", d->country);
        add(text, size, words);
    }
    if ((d->policy_flags & MVPN_EXIT_IPV6) != 0) {
        add(text, size, "IPv6");
    }
    if (!s->info.is_confirmed) {
        add(text, size, "shown by one operator only");
    }
    if (is_in_use(c, d)) {
        add(text, size, "in use");
    }
}

int mvpn_status_suggestions(json_t *reply, mvpn_engine *engine, mvpn_client_exits *chosen,
                            const json_t *request, mvpn_time now)
{
    wish w;
    mvpn_client_status status;
    const context c = context_of(engine, chosen, &status, now);
    suggestion best[MVPN_STATUS_SUGGESTIONS_MAX + 1];
    size_t count = 0, total = 0;
    char why[256];
    int r = read_wish(&w, request, reply);
    if (r != 0) {
        return r;
    }
    /* Any that is not blocked; a country asked for goes before the configured ones. */
    mvpn_exit_choice choice = chosen->state.choice;
    choice.has_exit = choice.is_open = false;
    choice.countries = (mvpn_path_countries){.count = 0};
    mvpn_client_exits_need_countries(chosen);
    if (w.country != NULL) {
        MVPN_IGNORE(mvpn_path_countries_parse(w.country, &choice.countries));
    }
    uint8_t quartile = mvpn_path_declared_quartile(c.view);
    for (size_t i = 0; i < mvpn_view_count(c.view); i++) {
        suggestion s = {.d = mvpn_view_at(c.view, i)};
        mvpn_view_get_info(c.view, i, &s.info);
        if (fits(s.d, &s.info, &w) &&
            mvpn_client_judge_exit(c.client, &choice, s.d, &s.info, now) == MVPN_PATH_OK) {
            s.score = score_of(&c, s.d, &s.info, quartile);
            offer(best, &count, &s);
            total++;
        }
    }
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++) {
        json_t *o = describe_exit(&c, best[i].d);
        explain(&c, &best[i], why, sizeof(why));
        set_text(o, "reason", why);
        (void)json_array_append_new(list, o);
    }
    set_text(reply, "schema", "meshvpn.suggestions/1");
    set_number(reply, "total", total);
    (void)json_object_set_new(reply, "suggestions", list);
    return 0;
}
