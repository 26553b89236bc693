#include "io/discovery_api.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "discovery_page.h"
#include "wire/bundle.h"

#define TYPE_JSON "application/json"
#define TYPE_BYTES "application/octet-stream"
#define TYPE_METRICS "application/openmetrics-text; version=1.0.0; charset=utf-8"
/* A list changes with every check; a minute old is as good. */
#define CACHE_SHORT "public, max-age=10"
#define CACHE_HOUR "public, max-age=60"
/* A digest names its bytes for ever. */
#define CACHE_FOREVER "public, max-age=86400, immutable"
#define CACHE_PAGE "no-cache"

static const struct role_name {
    const char *name;
    uint16_t role;
} role_names[] = {
    {"guard", MVPN_ROLE_GUARD},   {"middle", MVPN_ROLE_MIDDLE},  {"exit", MVPN_ROLE_EXIT},
    {"nat", MVPN_ROLE_NAT_RELAY}, {"dht", MVPN_ROLE_DHT_SERVER}, {"discovery", MVPN_ROLE_DISCOVERY},
};

/* ---- small helpers ---- */

static void hex(char *out, const uint8_t *p, size_t n)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        out[2 * i] = digits[p[i] >> 4];
        out[2 * i + 1] = digits[p[i] & 15];
    }
    out[2 * n] = '\0';
}

static int nibble(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Exactly 64 lower-case digits. */
static bool read_hex32(const char *text, size_t n, uint8_t out[static 32])
{
    if (n != 64) {
        return false;
    }
    for (size_t i = 0; i < 32; i++) {
        int high = nibble(text[2 * i]), low = nibble(text[2 * i + 1]);
        if (high < 0 || low < 0) {
            return false;
        }
        out[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

/* `needle` is lower-case. */
static bool contains(const char *hay, const char *needle)
{
    for (; hay[0] != '\0'; hay++) {
        size_t i = 0;
        while (needle[i] != '\0' && lower(hay[i]) == needle[i]) {
            i++;
        }
        if (needle[i] == '\0') {
            return true;
        }
    }
    return false;
}

static void give(mvpn_http_response *ret, unsigned status, const char *type, const char *cache,
                 mvpn_http_blob *body)
{
    mvpn_http_blob_release(ret->body);
    *ret = (mvpn_http_response){.status = body == NULL ? 500 : status,
                                .type = body == NULL ? NULL : type,
                                .cache = cache,
                                .body = body};
}

/* Takes the value. */
static void give_json(mvpn_http_response *ret, unsigned status, const char *cache, json_t *value)
{
    char *text = value == NULL ? NULL : json_dumps(value, JSON_COMPACT);
    size_t n = text == NULL ? 0 : strlen(text);
    json_decref(value);
    if (text != NULL) {
        text[n] = '\n'; /* its zero is not part of the body */
    }
    give(ret, status, TYPE_JSON, cache,
         text == NULL ? NULL : mvpn_http_blob_new((uint8_t *)text, n + 1));
}

static void give_error(mvpn_http_response *ret, unsigned status, const char *what)
{
    give_json(ret, status, NULL, json_pack("{ssss}", "schema", "meshvpn.error/1", "error", what));
}

static void set_text(json_t *o, const char *key, const char *text)
{
    (void)json_object_set_new(o, key, text[0] == '\0' ? json_null() : json_string(text));
}

static void set_number(json_t *o, const char *key, uint64_t n)
{
    (void)json_object_set_new(o, key, json_integer((json_int_t)n));
}

/* 0 says that it is not known. */
static void set_known(json_t *o, const char *key, uint64_t n)
{
    (void)json_object_set_new(o, key, n == 0 ? json_null() : json_integer((json_int_t)n));
}

/* ---- the query ---- */

/* One value, percent escapes decoded; printable ASCII only. False: malformed or too long. */
static bool decode_value(const char *in, size_t n, char *out, size_t size)
{
    size_t len = 0;
    for (size_t i = 0; i < n; i++) {
        char c = in[i];
        if (c == '%') {
            bool is_whole = i + 2 < n;
            int high = is_whole ? nibble(lower(in[i + 1])) : -1;
            int low = is_whole ? nibble(lower(in[i + 2])) : -1;
            if (high < 0 || low < 0) {
                return false;
            }
            c = (char)(high << 4 | low);
            i += 2;
        } else if (c == '+') {
            c = ' ';
        }
        if (c < ' ' || c > '~' || len + 1 >= size) {
            return false;
        }
        out[len++] = c;
    }
    out[len] = '\0';
    return true;
}

static bool read_number(const char *text, uint32_t max, uint32_t *ret)
{
    uint64_t n = 0;
    for (const char *p = text; *p != '\0'; p++) {
        if (*p < '0' || *p > '9' || (n = n * 10 + (uint64_t)(*p - '0')) > max) {
            return false;
        }
    }
    *ret = (uint32_t)n;
    return text[0] != '\0';
}

static const char *set_country(mvpn_relay_query *q, const char *v)
{
    for (size_t i = 0; i < 2; i++) {
        char c = lower(v[i]);
        if (c < 'a' || c > 'z') {
            return "country: two letters are expected, such as DE";
        }
        q->country[i] = (char)(c - 'a' + 'A');
    }
    return v[2] == '\0' ? NULL : "country: two letters are expected, such as DE";
}

static const char *set_role(mvpn_relay_query *q, const char *v)
{
    for (size_t i = 0; i < MVPN_ARRAY_LEN(role_names); i++) {
        if (strcmp(v, role_names[i].name) == 0) {
            q->role = role_names[i].role;
            return NULL;
        }
    }
    return "role: guard, middle, exit, nat, dht or discovery is expected";
}

static const char *set_min_mbit(mvpn_relay_query *q, const char *v)
{
    return read_number(v, 1000000, &q->min_mbit)
               ? NULL
               : "min_mbit: a whole number up to 1000000 is expected";
}

static const char *set_min_uptime(mvpn_relay_query *q, const char *v)
{
    uint32_t n;
    if (!read_number(v, UINT16_MAX, &n)) {
        return "min_uptime_h: a whole number up to 65535 is expected";
    }
    q->min_uptime_h = (uint16_t)n;
    return NULL;
}

static const char *set_alive(mvpn_relay_query *q, const char *v)
{
    q->alive = v[0] == '1';
    return (v[0] == '0' || v[0] == '1') && v[1] == '\0' ? NULL : "alive: 0 or 1 is expected";
}

static const char *set_q(mvpn_relay_query *q, const char *v)
{
    size_t n = strlen(v);
    for (size_t i = 0; i <= n && i < sizeof(q->text); i++) {
        q->text[i] = lower(v[i]);
    }
    return n < sizeof(q->text) ? NULL : "q: at most 64 characters are expected";
}

static const char *set_sort(mvpn_relay_query *q, const char *v)
{
    static const char *const names[] = {"speed", "uptime", "name", "country"};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(names); i++) {
        if (strcmp(v, names[i]) == 0) {
            q->sort = (enum mvpn_relay_sort)i;
            return NULL;
        }
    }
    return "sort: speed, uptime, name or country is expected";
}

static const char *set_limit(mvpn_relay_query *q, const char *v)
{
    uint32_t n;
    if (!read_number(v, MVPN_RELAY_LIMIT_MAX, &n) || n == 0) {
        return "limit: a whole number from 1 to 1000 is expected";
    }
    q->limit = n;
    return NULL;
}

static const char *set_offset(mvpn_relay_query *q, const char *v)
{
    return read_number(v, 1000000, &q->offset) ? NULL
                                               : "offset: a whole number up to 1000000 is expected";
}

static const struct parameter {
    const char *name;
    const char *(*set)(mvpn_relay_query *q, const char *value);
} parameters[] = {
    {"country", set_country},   {"role", set_role},
    {"min_mbit", set_min_mbit}, {"min_uptime_h", set_min_uptime},
    {"alive", set_alive},       {"q", set_q},
    {"sort", set_sort},         {"limit", set_limit},
    {"offset", set_offset},
};

static const char *set_parameter(mvpn_relay_query *q, const char *p, size_t n, unsigned *seen)
{
    char value[MVPN_RELAY_TEXT_MAX + 2];
    const char *eq = memchr(p, '=', n);
    size_t name_len = eq == NULL ? n : (size_t)(eq - p);
    for (size_t i = 0; i < MVPN_ARRAY_LEN(parameters); i++) {
        if (strlen(parameters[i].name) != name_len ||
            memcmp(parameters[i].name, p, name_len) != 0) {
            continue;
        }
        if ((*seen & 1u << i) != 0) {
            return "a parameter is given twice";
        }
        *seen |= 1u << i;
        if (eq == NULL || !decode_value(eq + 1, n - name_len - 1, value, sizeof(value))) {
            return "a value is malformed or too long";
        }
        return value[0] == '\0' ? NULL : parameters[i].set(q, value); /* empty: not said */
    }
    return "unknown parameter; known are country, role, min_mbit, min_uptime_h, alive, q, sort, "
           "limit, offset";
}

int mvpn_relay_query_parse(mvpn_relay_query *ret, const char *query, const char **why)
{
    mvpn_relay_query q = {.alive = -1, .limit = MVPN_RELAY_LIMIT_DEFAULT};
    unsigned seen = 0;
    *why = NULL;
    for (const char *p = query; *p != '\0' && *why == NULL;) {
        size_t n = strcspn(p, "&");
        *why = n == 0 ? NULL : set_parameter(&q, p, n, &seen);
        p += n + (p[n] == '&');
    }
    if (*why != NULL) {
        return MVPN_E_FORMAT;
    }
    *ret = q;
    return 0;
}

/* ---- relays ---- */

typedef struct row {
    const mvpn_descriptor *d;
    const mvpn_survey_relay *known; /* NULL: nothing is known */
    size_t index;
    uint32_t kbit;
    uint16_t uptime_h;
    bool is_alive;
} row;

static row row_of(const mvpn_discovery *d, size_t index)
{
    row r = {.d = mvpn_view_at(d->view, index), .index = index};
    r.known = mvpn_survey_find(d->survey, &r.d->identity);
    if (r.known != NULL) {
        r.kbit = mvpn_survey_relay_kbit(r.known);
        r.uptime_h = mvpn_survey_relay_uptime_h(r.known, d->unix_now);
        r.is_alive = mvpn_survey_relay_is_alive(r.known);
    } else { /* who shows this is there */
        const mvpn_ed25519_pub *self = mvpn_survey_identity(d->survey);
        r.is_alive = memcmp(self->b, r.d->identity.b, sizeof(self->b)) == 0;
    }
    return r;
}

static bool text_fits(const mvpn_descriptor *d, const char *text)
{
    char identity[65];
    hex(identity, d->identity.b, sizeof(d->identity.b));
    return text[0] == '\0' || contains(d->name, text) || contains(d->provider, text) ||
           strncmp(identity, text, strlen(text)) == 0;
}

static bool row_fits(const row *r, const mvpn_relay_query *q)
{
    const mvpn_descriptor *d = r->d;
    return d->roles != 0 && (q->country[0] == '\0' || strcmp(d->country, q->country) == 0) &&
           (q->role == 0 || (d->roles & q->role) != 0) &&
           (uint64_t)r->kbit >= (uint64_t)q->min_mbit * 1000 && r->uptime_h >= q->min_uptime_h &&
           (q->alive < 0 || r->is_alive == (q->alive == 1)) && text_fits(d, q->text);
}

static int by_identity(const row *a, const row *b)
{
    return memcmp(a->d->identity.b, b->d->identity.b, sizeof(a->d->identity.b));
}

static int by_speed(const void *a, const void *b)
{
    const row *x = a, *y = b;
    return x->kbit != y->kbit ? (x->kbit < y->kbit ? 1 : -1) : by_identity(x, y);
}

static int by_uptime(const void *a, const void *b)
{
    const row *x = a, *y = b;
    return x->uptime_h != y->uptime_h ? y->uptime_h - x->uptime_h : by_identity(x, y);
}

static int by_name(const void *a, const void *b)
{
    const row *x = a, *y = b;
    int order = strcmp(x->d->name, y->d->name);
    return order != 0 ? order : by_identity(x, y);
}

static int by_country(const void *a, const void *b)
{
    const row *x = a, *y = b;
    int order = strcmp(x->d->country, y->d->country);
    return order != 0 ? order : by_identity(x, y);
}

static json_t *list_roles(uint16_t roles)
{
    json_t *list = json_array();
    for (size_t i = 0; i < MVPN_ARRAY_LEN(role_names); i++) {
        if ((roles & role_names[i].role) != 0) {
            (void)json_array_append_new(list, json_string(role_names[i].name));
        }
    }
    return list;
}

static json_t *list_addresses(const mvpn_descriptor *d)
{
    char text[MVPN_ADDR_STRLEN];
    json_t *list = json_array();
    for (size_t i = 0; i < d->address_count; i++) {
        (void)json_array_append_new(list,
                                    json_string(mvpn_addr_format(&d->addresses[i].addr, text)));
    }
    return list;
}

static json_t *list_ports(const mvpn_descriptor *d)
{
    char text[16];
    json_t *list = d->has_policy ? json_array() : json_null();
    for (size_t i = 0; d->has_policy && i < d->policy_range_count; i++) {
        (void)snprintf(text, sizeof(text), "%u-%u", d->policy_ranges[i].first,
                       d->policy_ranges[i].last);
        (void)json_array_append_new(list, json_string(text));
    }
    return list;
}

static json_t *describe(const mvpn_discovery *disc, const row *r)
{
    const mvpn_descriptor *d = r->d;
    mvpn_view_info info = {.is_confirmed = false};
    char identity[65];
    json_t *o = json_object();
    hex(identity, d->identity.b, sizeof(d->identity.b));
    mvpn_view_get_info(disc->view, r->index, &info);
    set_text(o, "identity", identity);
    set_text(o, "name", d->name);
    set_text(o, "country", d->country);
    (void)json_object_set_new(o, "country_wrong",
                              json_boolean(r->known != NULL && r->known->country_wrong));
    set_text(o, "provider", d->provider);
    (void)json_object_set_new(o, "roles", list_roles(d->roles));
    (void)json_object_set_new(o, "addresses", list_addresses(d));
    (void)json_object_set_new(o, "exit_ports", list_ports(d));
    (void)json_object_set_new(o, "mbit",
                              r->kbit == 0 ? json_null() : json_real((double)r->kbit / 1000.0));
    (void)json_object_set_new(o, "declared_mbit",
                              d->has_bandwidth ? json_real((double)d->bandwidth_kbit / 1000.0)
                                               : json_null());
    (void)json_object_set_new(o, "alive", json_boolean(r->is_alive));
    set_number(o, "uptime_h", r->uptime_h);
    uint32_t rtt_us = r->known == NULL ? 0 : r->known->rtt_us;
    (void)json_object_set_new(o, "rtt_ms",
                              rtt_us == 0 ? json_null() : json_real((double)rtt_us / 1000.0));
    (void)json_object_set_new(o, "confirmed", json_boolean(info.is_confirmed));
    set_known(o, "first_seen", r->known == NULL ? 0 : r->known->first_seen);
    set_known(o, "last_checked", r->known == NULL ? 0 : r->known->last_checked);
    set_known(o, "last_answered", r->known == NULL ? 0 : r->known->last_answered);
    set_known(o, "measured", r->known == NULL ? 0 : r->known->measured);
    set_number(o, "published", d->published);
    set_number(o, "expires", d->expires);
    return o;
}

static void serve_relays(const mvpn_discovery *d, const char *query, mvpn_http_response *ret)
{
    static int (*const orders[])(const void *, const void *) = {by_speed, by_uptime, by_name,
                                                                by_country};
    mvpn_relay_query q;
    const char *why;
    if (mvpn_relay_query_parse(&q, query, &why) != 0) {
        give_error(ret, 400, why);
        return;
    }
    size_t max = mvpn_view_count(d->view), total = 0;
    row *rows = calloc(max + 1, sizeof(*rows));
    if (rows == NULL) {
        give_error(ret, 503, "out of memory; try again");
        return;
    }
    for (size_t i = 0; i < max; i++) {
        rows[total] = row_of(d, i);
        total += row_fits(&rows[total], &q);
    }
    qsort(rows, total, sizeof(*rows), orders[q.sort]);
    json_t *list = json_array();
    for (size_t i = q.offset; i < total && i - q.offset < q.limit; i++) {
        (void)json_array_append_new(list, describe(d, &rows[i]));
    }
    free(rows);
    json_t *o = json_object();
    set_text(o, "schema", "meshvpn.relays/1");
    set_number(o, "time", d->unix_now);
    set_number(o, "total", total);
    set_number(o, "offset", q.offset);
    set_number(o, "limit", q.limit);
    (void)json_object_set_new(o, "relays", list);
    give_json(ret, 200, CACHE_SHORT, o);
}

static void serve_relay(const mvpn_discovery *d, const char *who, size_t n, mvpn_http_response *ret)
{
    mvpn_ed25519_pub identity;
    if (!read_hex32(who, n, identity.b)) {
        give_error(ret, 400, "an identity of 64 digits 0-9 a-f is expected");
        return;
    }
    for (size_t i = 0; i < mvpn_view_count(d->view); i++) {
        row r = row_of(d, i);
        if (r.d->roles != 0 && memcmp(r.d->identity.b, identity.b, sizeof(identity.b)) == 0) {
            json_t *o = json_object();
            set_text(o, "schema", "meshvpn.relay/1");
            set_number(o, "time", d->unix_now);
            (void)json_object_set_new(o, "relay", describe(d, &r));
            give_json(ret, 200, CACHE_SHORT, o);
            return;
        }
    }
    give_error(ret, 404, "no such relay is known here");
}

/* ---- the network in numbers ---- */

typedef struct tally {
    size_t relays, alive, measured, country_wrong;
    size_t roles[MVPN_ARRAY_LEN(role_names)];
    uint64_t kbit; /* sum of what was measured */
    size_t countries[26 * 26];
} tally;

static void count_up(const mvpn_discovery *d, tally *t)
{
    memset(t, 0, sizeof(*t));
    for (size_t i = 0; i < mvpn_view_count(d->view); i++) {
        row r = row_of(d, i);
        if (r.d->roles == 0) {
            continue;
        }
        t->relays++;
        t->alive += r.is_alive;
        t->measured += r.kbit > 0;
        t->kbit += r.kbit;
        t->country_wrong += r.known != NULL && r.known->country_wrong;
        for (size_t k = 0; k < MVPN_ARRAY_LEN(role_names); k++) {
            t->roles[k] += (r.d->roles & role_names[k].role) != 0;
        }
        if (r.d->country[0] != '\0') { /* two upper-case letters: checked at decode */
            t->countries[(r.d->country[0] - 'A') * 26 + (r.d->country[1] - 'A')]++;
        }
    }
}

static void country_name(size_t index, char ret[static 3])
{
    ret[0] = (char)('A' + index / 26);
    ret[1] = (char)('A' + index % 26);
    ret[2] = '\0';
}

static json_t *describe_snapshot(const mvpn_snapshot_head *head)
{
    char digest[65];
    if (head == NULL) {
        return json_null();
    }
    json_t *o = json_object();
    hex(digest, head->digest.b, sizeof(head->digest.b));
    set_number(o, "hour", head->hour);
    set_number(o, "entries", head->entries);
    set_number(o, "size", head->size);
    set_text(o, "digest", digest);
    return o;
}

static void serve_network(const mvpn_discovery *d, mvpn_http_response *ret)
{
    tally t;
    char id[65], country[3];
    count_up(d, &t);
    json_t *o = json_object(), *roles = json_object(), *countries = json_object();
    hex(id, d->network_id.b, sizeof(d->network_id.b));
    set_text(o, "schema", "meshvpn.network/1");
    set_text(o, "name", d->network_name);
    set_text(o, "network_id", id);
    (void)json_object_set_new(o, "closed", json_boolean(d->closed));
    set_number(o, "time", d->unix_now);
    set_number(o, "relays", t.relays);
    set_number(o, "alive", t.alive);
    set_number(o, "measured", t.measured);
    (void)json_object_set_new(o, "mbit", json_real((double)t.kbit / 1000.0));
    set_known(o, "dht_servers_estimate", d->nodes);
    for (size_t i = 0; i < MVPN_ARRAY_LEN(role_names); i++) {
        set_number(roles, role_names[i].name, t.roles[i]);
    }
    for (size_t i = 0; i < MVPN_ARRAY_LEN(t.countries); i++) {
        if (t.countries[i] > 0) {
            country_name(i, country);
            set_number(countries, country, t.countries[i]);
        }
    }
    (void)json_object_set_new(o, "roles", roles);
    (void)json_object_set_new(o, "countries", countries);
    (void)json_object_set_new(o, "snapshot", describe_snapshot(mvpn_survey_head(d->survey, 0)));
    set_number(o, "equivocations", mvpn_view_equivocations(d->view));
    give_json(ret, 200, CACHE_SHORT, o);
}

/* ---- bytes ---- */

/* Parts of a bundle, first counted, then written. (§13.3) */
typedef struct bundle {
    uint8_t *out; /* NULL: only count */
    size_t size, n;
} bundle;

static void bundle_add(bundle *b, unsigned type, mvpn_bytes part)
{
    if (b->out == NULL) {
        b->n += MVPN_BUNDLE_PART_FIXED + part.n;
        return;
    }
    MVPN_IGNORE(mvpn_bundle_append(b->out, b->size, &b->n, type, part)); /* no part: left out */
}

static void add_snapshot(bundle *b, const mvpn_discovery *d)
{
    const mvpn_snapshot_head *head = mvpn_survey_head(d->survey, 0);
    if (head != NULL) {
        bundle_add(b, MVPN_RECORD_SNAPSHOT_HEAD, mvpn_bytes_of(head->encoded, head->encoded_len));
        bundle_add(b, MVPN_BUNDLE_SNAPSHOT, mvpn_survey_snapshot(d->survey, 0));
    }
}

static void add_all(bundle *b, const mvpn_discovery *d)
{
    uint8_t entry[MVPN_DHT_CONTACT6_LEN];
    const mvpn_revocations *revoked = mvpn_view_revocations(d->view);
    if (revoked != NULL && revoked->sequence != 0) {
        bundle_add(b, MVPN_RECORD_REVOCATIONS,
                   mvpn_bytes_of(revoked->encoded, revoked->encoded_len));
    }
    for (size_t i = 0; i < d->entry_count; i++) {
        size_t n = mvpn_dht_contact_encode(entry, sizeof(entry), &d->entries[i]);
        bundle_add(b, MVPN_BUNDLE_ENTRY, mvpn_bytes_of(entry, n));
    }
    for (size_t i = 0; i < mvpn_view_count(d->view); i++) {
        const mvpn_descriptor *relay = mvpn_view_at(d->view, i);
        if (relay->roles != 0 && relay->expires > d->unix_now) {
            bundle_add(b, MVPN_RECORD_DESCRIPTOR,
                       mvpn_bytes_of(relay->encoded, relay->encoded_len));
        }
    }
    add_snapshot(b, d);
}

typedef void add_fn(bundle *b, const mvpn_discovery *d);

static mvpn_http_blob *bundle_make(const mvpn_discovery *d, add_fn *add)
{
    bundle b = {.out = NULL};
    add(&b, d);
    size_t size = b.n;
    b = (bundle){.out = malloc(size > 0 ? size : 1), .size = size};
    if (b.out != NULL) {
        add(&b, d);
    }
    return mvpn_http_blob_new(b.out, b.n);
}

static void serve_bundle(mvpn_discovery *d, mvpn_http_response *ret)
{
    if (d->bundle == NULL || d->unix_now >= d->bundle_made + MVPN_DISCOVERY_BUNDLE_S ||
        d->unix_now < d->bundle_made) {
        mvpn_http_blob_release(d->bundle);
        d->bundle = bundle_make(d, add_all);
        d->bundle_made = d->unix_now;
    }
    give(ret, 200, TYPE_BYTES, CACHE_SHORT, mvpn_http_blob_hold(d->bundle));
}

/* A response that is named by a digest, or 304 if the asker has it. Takes the body. */
static void give_named(const mvpn_http_request *request, const mvpn_key *digest, const char *cache,
                       mvpn_http_blob *body, mvpn_http_response *ret)
{
    char etag[72] = "\"";
    hex(etag + 1, digest->b, sizeof(digest->b));
    memcpy(etag + 65, "\"", 2);
    const char *has = request->if_none_match;
    if (has != NULL && (strstr(has, etag) != NULL || strcmp(has, "*") == 0)) {
        mvpn_http_blob_release(body);
        *ret = (mvpn_http_response){.status = 304, .cache = cache};
    } else {
        give(ret, 200, TYPE_BYTES, cache, body);
    }
    memcpy(ret->etag, etag, sizeof(etag));
}

static void serve_newest(const mvpn_discovery *d, const mvpn_http_request *request,
                         mvpn_http_response *ret)
{
    const mvpn_snapshot_head *head = mvpn_survey_head(d->survey, 0);
    if (head == NULL) {
        give_error(ret, 503, "there is no snapshot yet: the first round of checks is under way");
        return;
    }
    give_named(request, &head->digest, CACHE_HOUR, bundle_make(d, add_snapshot), ret);
}

static void serve_snapshot(const mvpn_discovery *d, const mvpn_http_request *request,
                           const char *digest_text, size_t n, mvpn_http_response *ret)
{
    mvpn_key digest;
    if (!read_hex32(digest_text, n, digest.b)) {
        give_error(ret, 400, "a digest of 64 digits 0-9 a-f is expected");
        return;
    }
    mvpn_bytes found = mvpn_view_snapshot(d->view, &digest);
    for (size_t i = 0; i < MVPN_SURVEY_SNAPSHOTS; i++) {
        const mvpn_snapshot_head *head = mvpn_survey_head(d->survey, i);
        if (head != NULL && memcmp(head->digest.b, digest.b, sizeof(digest.b)) == 0) {
            found = mvpn_survey_snapshot(d->survey, i);
        }
    }
    if (found.n == 0) {
        give_error(ret, 404, "no such snapshot is held here");
        return;
    }
    give_named(request, &digest, CACHE_FOREVER, mvpn_http_blob_copy(found.p, found.n), ret);
}

/* ---- OpenMetrics ---- */

static void metric(FILE *f, const char *name, const char *type, const char *help)
{
    (void)fprintf(f, "# TYPE meshvpn_discovery_%s %s\n# HELP meshvpn_discovery_%s %s\n", name, type,
                  name, help);
}

static void gauge(FILE *f, const char *name, uint64_t value, const char *help)
{
    metric(f, name, "gauge", help);
    (void)fprintf(f, "meshvpn_discovery_%s %llu\n", name, (unsigned long long)value);
}

static void counter(FILE *f, const char *name, uint64_t value, const char *help)
{
    metric(f, name, "counter", help);
    (void)fprintf(f, "meshvpn_discovery_%s_total %llu\n", name, (unsigned long long)value);
}

static void write_relay_metrics(FILE *f, const mvpn_discovery *d)
{
    tally t;
    char country[3];
    count_up(d, &t);
    gauge(f, "relays", t.relays, "Relays known.");
    gauge(f, "relays_alive", t.alive, "Relays that answered their last check.");
    gauge(f, "relays_measured", t.measured, "Relays whose bandwidth was measured.");
    gauge(f, "relays_country_wrong", t.country_wrong,
          "Relays with an address in another country than they say.");
    metric(f, "bandwidth_bits_per_second", "gauge", "Sum of the bandwidths measured.");
    (void)fprintf(f, "meshvpn_discovery_bandwidth_bits_per_second %llu\n",
                  (unsigned long long)t.kbit * 1000);
    metric(f, "relays_by_role", "gauge", "Relays by role.");
    for (size_t i = 0; i < MVPN_ARRAY_LEN(role_names); i++) {
        (void)fprintf(f, "meshvpn_discovery_relays_by_role{role=\"%s\"} %zu\n", role_names[i].name,
                      t.roles[i]);
    }
    metric(f, "relays_by_country", "gauge", "Relays by the country that they declare.");
    for (size_t i = 0; i < MVPN_ARRAY_LEN(t.countries); i++) {
        if (t.countries[i] > 0) {
            country_name(i, country);
            (void)fprintf(f, "meshvpn_discovery_relays_by_country{country=\"%s\"} %zu\n", country,
                          t.countries[i]);
        }
    }
}

static void write_metrics(FILE *f, const mvpn_discovery *d)
{
    const mvpn_survey_counters *c = mvpn_survey_get_counters(d->survey);
    const mvpn_snapshot_head *head = mvpn_survey_head(d->survey, 0);
    write_relay_metrics(f, d);
    counter(f, "checks", c->checks, "Checks of relays that ended.");
    counter(f, "checks_answered", c->answers, "Checks that were answered.");
    counter(f, "checks_failed", c->failures, "Checks after which a relay counts as silent.");
    counter(f, "checks_doubtful", c->inconclusive, "Checks without an answer from anybody.");
    counter(f, "measurements", c->measurements, "Bandwidths measured.");
    counter(f, "measurements_failed", c->measurements_failed, "Measurements without a result.");
    counter(f, "measured_bytes", c->measured_bytes, "Bytes sent for measurements.");
    counter(f, "snapshots", c->snapshots, "Snapshots published.");
    gauge(f, "snapshot_hour", head == NULL ? 0 : head->hour, "Hour of the newest snapshot.");
    gauge(f, "snapshot_entries", head == NULL ? 0 : head->entries,
          "Entries of the newest snapshot.");
    gauge(f, "dht_servers_estimate", d->nodes, "Estimate of the servers of the DHT.");
    counter(f, "equivocations", mvpn_view_equivocations(d->view),
            "Discovery nodes seen with two snapshots for one hour.");
    gauge(f, "up_seconds", d->unix_now > d->started ? d->unix_now - d->started : 0,
          "Time since the start.");
    metric(f, "http_requests", "counter", "HTTP requests by the first digit of their status.");
    for (unsigned i = 2; i < MVPN_ARRAY_LEN(d->requests); i++) {
        (void)fprintf(f, "meshvpn_discovery_http_requests_total{status=\"%uxx\"} %llu\n", i,
                      (unsigned long long)d->requests[i]);
    }
    (void)fputs("# EOF\n", f);
}

static void serve_metrics(const mvpn_discovery *d, mvpn_http_response *ret)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    if (f == NULL) {
        give_error(ret, 503, "out of memory; try again");
        return;
    }
    write_metrics(f, d);
    bool ok = ferror(f) == 0;
    ok = fclose(f) == 0 && ok;
    if (!ok) {
        free(text);
        give_error(ret, 503, "out of memory; try again");
        return;
    }
    give(ret, 200, TYPE_METRICS, NULL, mvpn_http_blob_new((uint8_t *)text, n));
}

/* ---- routes ---- */

static void serve_page(const unsigned char *bytes, size_t n, const char *type,
                       mvpn_http_response *ret)
{
    give(ret, 200, type, CACHE_PAGE, mvpn_http_blob_copy(bytes, n));
}

static bool is_path(const char *target, size_t n, const char *path)
{
    return strlen(path) == n && memcmp(target, path, n) == 0;
}

/* The rest behind `prefix`, or NULL. */
static const char *behind(const char *target, size_t n, const char *prefix, size_t *ret_n)
{
    size_t len = strlen(prefix);
    if (n < len || memcmp(target, prefix, len) != 0) {
        return NULL;
    }
    *ret_n = n - len;
    return target + len;
}

static void route(mvpn_discovery *d, const mvpn_http_request *request, mvpn_http_response *ret)
{
    const char *t = request->target, *rest;
    size_t n = strcspn(t, "?"), rest_n;
    const char *query = t[n] == '?' ? t + n + 1 : "";
    bool takes_query = is_path(t, n, "/v1/relays") || is_path(t, n, "/");
    if (!takes_query && query[0] != '\0') {
        give_error(ret, 400, "this address takes no parameters");
    } else if (is_path(t, n, "/")) {
        serve_page(page_index_html, sizeof(page_index_html), "text/html; charset=utf-8", ret);
    } else if (is_path(t, n, "/page.js")) {
        serve_page(page_page_js, sizeof(page_page_js), "text/javascript; charset=utf-8", ret);
    } else if (is_path(t, n, "/page.css")) {
        serve_page(page_page_css, sizeof(page_page_css), "text/css; charset=utf-8", ret);
    } else if (is_path(t, n, "/v1/relays")) {
        serve_relays(d, query, ret);
    } else if ((rest = behind(t, n, "/v1/relays/", &rest_n)) != NULL) {
        serve_relay(d, rest, rest_n, ret);
    } else if (is_path(t, n, "/v1/network")) {
        serve_network(d, ret);
    } else if (is_path(t, n, "/v1/snapshot")) {
        serve_newest(d, request, ret);
    } else if ((rest = behind(t, n, "/v1/snapshot/", &rest_n)) != NULL) {
        serve_snapshot(d, request, rest, rest_n, ret);
    } else if (is_path(t, n, "/v1/bundle")) {
        serve_bundle(d, ret);
    } else if (is_path(t, n, "/metrics")) {
        serve_metrics(d, ret);
    } else {
        give_error(ret, 404, "nothing is here; see /");
    }
}

void mvpn_discovery_handle(void *ctx, const mvpn_http_request *request, mvpn_http_response *ret)
{
    mvpn_discovery *d = ctx;
    *ret = (mvpn_http_response){.status = 500};
    if (strcmp(request->method, "GET") != 0 && strcmp(request->method, "HEAD") != 0) {
        give_error(ret, 405, "only GET and HEAD are served");
    } else if (request->host == NULL) {
        give_error(ret, 400, "a Host header is required");
    } else if (!mvpn_http_host_is_ours(request->host, d->names, d->name_count)) {
        give_error(ret, 421, "this server does not answer for that name; see http_names");
    } else if (request->target[0] != '/') {
        give_error(ret, 400, "the address must begin with a slash");
    } else {
        route(d, request, ret);
    }
    d->requests[MVPN_MIN(ret->status / 100, 5u)]++;
}

void mvpn_discovery_done(mvpn_discovery *d)
{
    mvpn_http_blob_release(d->bundle);
    d->bundle = NULL;
}
