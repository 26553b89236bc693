#include "bin/redact.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/macros.h"

#define KEY_MIN 22 /* 16 bytes in base64 */
#define HEX_MIN 16
#define IDENTITY_SHOWN 8 /* what logs and lists show of one */

typedef struct word {
    enum redact_kind kind;
    size_t len;
    char *text;
} word;

struct redactor {
    size_t word_count;
    word *words;
    size_t seen_count[REDACT_KINDS];
    char *seen[REDACT_KINDS][REDACT_SEEN_MAX];
};

static const char *const kind_names[REDACT_KINDS] = {
    [REDACT_ADDRESS] = "address", [REDACT_KEY] = "key",   [REDACT_NAME] = "name",
    [REDACT_COUNTRY] = "country", [REDACT_TEXT] = "text",
};

redactor *redact_new(void)
{
    redactor *r = calloc(1, sizeof(*r));
    if (r != NULL) {
        r->words = calloc(REDACT_WORDS_MAX, sizeof(*r->words));
    }
    if (r != NULL && r->words == NULL) {
        free(r);
        return NULL;
    }
    return r;
}

void redact_free(redactor *r)
{
    if (r == NULL) {
        return;
    }
    for (size_t i = 0; i < r->word_count; i++) {
        free(r->words[i].text);
    }
    for (size_t kind = 0; kind < REDACT_KINDS; kind++) {
        for (size_t i = 0; i < r->seen_count[kind]; i++) {
            free(r->seen[kind][i]);
        }
    }
    free(r->words);
    free(r);
}

/* ---- characters ---- */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_lower(char c)
{
    return c >= 'a' && c <= 'z';
}

static bool is_upper(char c)
{
    return c >= 'A' && c <= 'Z';
}

static bool is_letter(char c)
{
    return is_lower(c) || is_upper(c);
}

static bool is_hex(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* Names may hold letters of all scripts. */
static bool is_word(char c)
{
    return is_digit(c) || is_letter(c) || (unsigned char)c >= 0x80;
}

static bool is_key(char c)
{
    return is_digit(c) || is_letter(c) || (c != '\0' && strchr("+/_-", c) != NULL);
}

/* ---- words ---- */

static const char *const harmless[] = {"root",  "meshvpn", "localhost", "client",
                                       "relay", "exit",    "bootstrap", "discovery",
                                       "guard", "middle",  "nobody"};

void redact_add(redactor *r, enum redact_kind kind, const char *text)
{
    size_t len = text != NULL ? strlen(text) : 0;
    if (len < 2 || r->word_count == REDACT_WORDS_MAX) {
        return;
    }
    for (size_t i = 0; i < MVPN_ARRAY_LEN(harmless); i++) {
        if (strcasecmp(text, harmless[i]) == 0) {
            return;
        }
    }
    for (size_t i = 0; i < r->word_count; i++) {
        if (r->words[i].kind == kind && strcmp(r->words[i].text, text) == 0) {
            return;
        }
    }
    char *copy = strdup(text);
    if (copy != NULL) {
        r->words[r->word_count++] = (word){kind, len, copy};
    }
}

static bool is_one_of(const char *text, const char *const *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(text, list[i]) == 0) {
            return true;
        }
    }
    return false;
}

static void add_value(redactor *r, const char *key, const char *text)
{
    static const char *const names[] = {"name", "node", "provider", "network", "user"};
    if (strcmp(key, "country") == 0) {
        redact_add(r, REDACT_COUNTRY, text);
    } else if (strcmp(key, "identity") == 0 && strlen(text) > IDENTITY_SHOWN) {
        char start[IDENTITY_SHOWN + 1];
        (void)snprintf(start, sizeof(start), "%.*s", IDENTITY_SHOWN, text);
        redact_add(r, REDACT_KEY, text);
        redact_add(r, REDACT_KEY, start);
    } else if (is_one_of(key, names, MVPN_ARRAY_LEN(names))) {
        redact_add(r, REDACT_NAME, text);
    }
}

/* A stage or a check has a name of ours; a relay has one of its own. */
static bool has_own_words(const json_t *object)
{
    return json_object_get(object, "title") != NULL || json_object_get(object, "mark") != NULL;
}

void redact_add_json(redactor *r, const json_t *value)
{
    const json_t *inner;
    const char *key;
    size_t i;
    json_array_foreach(value, i, inner)
    {
        redact_add_json(r, inner);
    }
    json_object_foreach((json_t *)(uintptr_t)value, key, inner)
    {
        if (json_is_string(inner) && !has_own_words(value)) {
            add_value(r, key, json_string_value(inner));
        }
        redact_add_json(r, inner);
    }
}

/* ---- what stands at a place of a text: each returns how long it is, 0: it is none ---- */

static size_t match_word(const redactor *r, const char *text, size_t at, enum redact_kind *ret_kind)
{
    size_t best = 0;
    bool begins = at == 0 || !is_word(text[at - 1]);
    for (size_t i = 0; i < r->word_count; i++) {
        const word *w = &r->words[i];
        bool is_exact = w->kind == REDACT_COUNTRY || w->kind == REDACT_KEY;
        if (w->len <= best || (!begins && w->kind != REDACT_KEY)) {
            continue;
        }
        bool is_same = is_exact ? strncmp(text + at, w->text, w->len) == 0
                                : strncasecmp(text + at, w->text, w->len) == 0;
        if (is_same && (w->kind == REDACT_KEY || !is_word(text[at + w->len]))) {
            best = w->len;
            *ret_kind = w->kind;
        }
    }
    return best;
}

static size_t skip_port(const char *text, size_t len)
{
    size_t n = len;
    if (text[n] == ':' && is_digit(text[n + 1])) {
        for (n++; is_digit(text[n]); n++) {
        }
    }
    return n;
}

/* Four numbers of up to three digits, whether or not they are an address. */
static size_t match_ipv4(const char *text, size_t at)
{
    const char *t = text + at;
    size_t n = 0;
    if (at > 0 && is_digit(text[at - 1])) {
        return 0;
    }
    for (unsigned group = 0; group < 4; group++) {
        size_t digits = 0;
        if (group > 0 && t[n++] != '.') {
            return 0;
        }
        for (; is_digit(t[n]); n++) {
            digits++;
        }
        if (digits == 0 || digits > 3) {
            return 0;
        }
    }
    return skip_port(t, n);
}

/* Groups of up to four hexadecimal digits with "::" or three colons at least: IPv6, Ethernet, and
 * parts of either. A time of the day has two colons. */
static size_t match_ipv6(const char *text, size_t at)
{
    const char *t = text + at;
    bool has_bracket = t[0] == '[', has_double = false;
    size_t n = has_bracket, colons = 0, digits = 0, any = 0;
    if (at > 0 && (is_hex(text[at - 1]) || text[at - 1] == ':')) {
        return 0;
    }
    for (; is_hex(t[n]) || t[n] == ':'; n++) {
        has_double = has_double || (t[n] == ':' && t[n + 1] == ':');
        colons += t[n] == ':';
        digits = t[n] == ':' ? 0 : digits + 1;
        any += t[n] != ':';
        if (digits > 4) {
            return 0;
        }
    }
    while (n > 1 && t[n - 1] == ':' && t[n - 2] != ':') {
        n--; /* "at fe80::1: refused" */
        colons--;
    }
    if (!(has_double ? any > 0 : colons >= 3)) {
        return 0;
    }
    if (t[n] == '.') { /* ends as an IPv4 address does */
        while (is_digit(t[n]) || (t[n] == '.' && is_digit(t[n + 1]))) {
            n++;
        }
    }
    if (t[n] == '%') {
        for (n++; is_word(t[n]) || t[n] == '-' || t[n] == '_'; n++) {
        }
    }
    if (has_bracket && t[n] == ']') {
        return skip_port(t, n + 1);
    }
    return n;
}

static size_t match_hex(const char *text, size_t at)
{
    const char *t = text + at;
    size_t n = 0, digits = 0;
    if (at > 0 && is_hex(text[at - 1])) {
        return 0;
    }
    for (; is_hex(t[n]) || (t[n] == '-' && n > 0 && is_hex(t[n + 1])); n++) {
        digits += t[n] != '-';
    }
    return digits >= HEX_MIN ? n : 0;
}

static size_t match_base64(const char *text, size_t at)
{
    const char *t = text + at;
    bool has_upper = false, has_lower = false;
    size_t n = 0, pad = 0;
    if (at > 0 && is_key(text[at - 1])) {
        return 0;
    }
    for (; is_key(t[n]); n++) {
        has_upper = has_upper || is_upper(t[n]);
        has_lower = has_lower || is_lower(t[n]);
    }
    while (pad < 2 && t[n + pad] == '=') {
        pad++;
    }
    bool looks_so = (has_upper && has_lower) || pad > 0;
    return n >= KEY_MIN && looks_so ? n + pad : 0;
}

/* Files and formats of ours, whose last part is nobody's top-level domain. */
static bool is_file_name(const char *text, size_t len, const char *last, size_t last_len)
{
    static const char *const endings[] = {"conf", "service", "sock", "log",   "cert",
                                          "desc", "json",    "key",  "conf.d"};
    bool is_schema = last == text + 8 && strncmp(text, "meshvpn.", 8) == 0 && text[len] == '/' &&
                     is_digit(text[len + 1]);
    if (is_schema) {
        return true;
    }
    for (size_t i = 0; i < MVPN_ARRAY_LEN(endings); i++) {
        if (strlen(endings[i]) == last_len && strncasecmp(last, endings[i], last_len) == 0) {
            return true;
        }
    }
    return false;
}

/* Labels with dots between them, the last one of letters. */
static size_t match_domain(const char *text, size_t at)
{
    const char *t = text + at;
    size_t n = 0, last = 0, end = 0;
    if (!is_word(t[0]) || (at > 0 && (is_word(text[at - 1]) || text[at - 1] == '.'))) {
        return 0;
    }
    for (;;) {
        size_t letters = 0, from = n;
        for (; is_word(t[n]) || (t[n] == '-' && is_word(t[n + 1])) ||
               (t[n] == '-' && t[n + 1] == '-');
             n++) {
            letters += is_letter(t[n]) || (unsigned char)t[n] >= 0x80;
        }
        bool is_top =
            n - from >= 2 && (letters == n - from || strncasecmp(t + from, "xn--", 4) == 0);
        if (from > 0 && is_top) {
            last = from;
            end = n;
        }
        if (t[n] != '.' || !is_word(t[n + 1])) {
            break;
        }
        n++;
    }
    return end > 0 && !is_file_name(t, end, t + last, end - last) ? end : 0;
}

static bool is_local_part(char c)
{
    return is_word(c) || (c != '\0' && strchr("._%+-", c) != NULL);
}

/* What stands before the "@" of a mail address, or of a login elsewhere. */
static size_t match_person(const char *text, size_t at)
{
    size_t n = at;
    if (at > 0 && is_local_part(text[at - 1])) {
        return 0;
    }
    while (is_local_part(text[n])) {
        n++;
    }
    return text[n] == '@' ? n - at : 0;
}

/* What follows "/home/" and "connection with " is a name, whatever it looks like. */
static size_t match_behind(const char *text, size_t at)
{
    static const struct {
        const char *before, *until;
    } rows[] = {{"/home/", "/ \t\n\"':"}, {"connection with ", ":\n\""}};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        size_t len = strlen(rows[i].before);
        if (at >= len && strncmp(text + at - len, rows[i].before, len) == 0 && text[at] != '<') {
            return strcspn(text + at, rows[i].until);
        }
    }
    return 0;
}

static size_t match(const redactor *r, const char *text, size_t at, enum redact_kind *ret_kind)
{
    static const struct {
        size_t (*match)(const char *, size_t);
        enum redact_kind kind;
    } rows[] = {
        {match_behind, REDACT_NAME}, {match_person, REDACT_NAME},  {match_base64, REDACT_KEY},
        {match_hex, REDACT_KEY},     {match_ipv6, REDACT_ADDRESS}, {match_ipv4, REDACT_ADDRESS},
        {match_domain, REDACT_NAME},
    };
    size_t best = match_word(r, text, at, ret_kind);
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        size_t len = rows[i].match(text, at);
        if (len > best) {
            best = len;
            *ret_kind = rows[i].kind;
        }
    }
    return best;
}

/* ---- writing ---- */

typedef struct text {
    char *bytes;
    size_t len, room;
    bool is_broken;
} text;

static void put(text *out, const char *bytes, size_t len)
{
    if (out->bytes == NULL || out->len + len + 1 > out->room) {
        size_t room = (out->len + len + 1) * 2;
        char *grown = realloc(out->bytes, room);
        if (grown == NULL) {
            out->is_broken = true;
            return;
        }
        out->bytes = grown;
        out->room = room;
    }
    memcpy(out->bytes + out->len, bytes, len);
    out->len += len;
    out->bytes[out->len] = '\0';
}

/* Those that every host has tell nothing. */
static bool is_everybodys(const char *bytes, size_t len)
{
    static const char *const list[] = {"0.0.0.0", "127.0.0.1", "::1", "[::1]"};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(list); i++) {
        if (strlen(list[i]) == len && memcmp(list[i], bytes, len) == 0) {
            return true;
        }
    }
    return false;
}

static void put_tag(redactor *r, text *out, enum redact_kind kind, const char *bytes, size_t len)
{
    char tag[48];
    size_t i = 0, count = r->seen_count[kind];
    if (kind == REDACT_COUNTRY || kind == REDACT_TEXT) {
        (void)snprintf(tag, sizeof(tag), "<%s>", kind_names[kind]);
        put(out, tag, strlen(tag));
        return;
    }
    while (i < count &&
           (strlen(r->seen[kind][i]) != len || strncasecmp(r->seen[kind][i], bytes, len) != 0)) {
        i++;
    }
    if (i == count && count < REDACT_SEEN_MAX) {
        r->seen[kind][count] = strndup(bytes, len);
        r->seen_count[kind] += r->seen[kind][count] != NULL;
    }
    if (i < r->seen_count[kind]) {
        (void)snprintf(tag, sizeof(tag), "<%s-%zu>", kind_names[kind], i + 1);
    } else {
        (void)snprintf(tag, sizeof(tag), "<%s>", kind_names[kind]);
    }
    put(out, tag, strlen(tag));
}

/* "<address-3>", which an earlier pass has put there. */
static size_t skip_tag(const char *t)
{
    for (size_t kind = 0; t[0] == '<' && kind < REDACT_KINDS; kind++) {
        size_t n = strlen(kind_names[kind]);
        if (strncmp(t + 1, kind_names[kind], n) == 0) {
            for (n++; is_digit(t[n]) || t[n] == '-'; n++) {
            }
            return t[n] == '>' ? n + 1 : 0;
        }
    }
    return 0;
}

char *redact_text(redactor *r, const char *in)
{
    text out = {.bytes = NULL};
    put(&out, "", 0);
    for (size_t at = 0; in[at] != '\0';) {
        enum redact_kind kind = REDACT_TEXT;
        size_t tag = skip_tag(in + at), len = tag > 0 ? 0 : match(r, in, at, &kind);
        if (len > 0 && !is_everybodys(in + at, len)) {
            put_tag(r, &out, kind, in + at, len);
        } else {
            len = MVPN_MAX(MVPN_MAX(tag, len), (size_t)1);
            put(&out, in + at, len);
        }
        at += len;
    }
    if (out.is_broken) {
        free(out.bytes);
        return NULL;
    }
    return out.bytes;
}

/* ---- objects ---- */

/* Keys whose texts are words of ours: sentences may still hold an address. */
static bool is_ours(const char *key)
{
    static const char *const keys[] = {
        "schema",       "state",     "role",
        "code",         "title",     "reason",
        "mark",         "text",      "repair",
        "verdict",      "summary",   "advice",
        "mapping",      "filtering", "ports",
        "source",       "kind",      "key",
        "default",      "version",   "missing_protections",
        "blocked_by",   "manager",   "kill_switch",
        "error",        "direction", "carrier",
        "reachability", "class",
    };
    return is_one_of(key, keys, MVPN_ARRAY_LEN(keys));
}

static json_t *tag_of(redactor *r, const char *key, const char *value)
{
    text out = {.bytes = NULL};
    enum redact_kind kind = strcmp(key, "country") == 0    ? REDACT_COUNTRY
                            : strcmp(key, "identity") == 0 ? REDACT_KEY
                            : strcmp(key, "name") == 0     ? REDACT_NAME
                                                           : REDACT_TEXT;
    put_tag(r, &out, kind, value, strlen(value));
    json_t *tag = out.bytes != NULL ? json_string(out.bytes) : NULL;
    free(out.bytes);
    return tag;
}

static json_t *clean_string(redactor *r, const char *key, const char *value)
{
    if (!is_ours(key)) {
        return value[0] == '\0' ? json_string("") : tag_of(r, key, value);
    }
    char *clean = redact_text(r, value);
    json_t *string = clean != NULL ? json_string(clean) : NULL;
    free(clean);
    return string;
}

static bool is_hidden_number(const char *key)
{
    size_t len = strlen(key);
    return strcmp(key, "port") == 0 || (len > 5 && strcmp(key + len - 5, "_port") == 0);
}

static json_t *clean(redactor *r, const char *key, const json_t *value)
{
    json_t *copy = NULL;
    const json_t *inner;
    const char *name;
    size_t i;
    if (json_is_string(value)) {
        return clean_string(r, key, json_string_value(value));
    }
    if (json_is_number(value) && is_hidden_number(key)) {
        return json_null();
    }
    if (json_is_array(value)) {
        copy = json_array();
        json_array_foreach(value, i, inner)
        {
            (void)json_array_append_new(copy, clean(r, key, inner));
        }
        return copy;
    }
    if (json_is_object(value)) {
        copy = json_object();
        json_object_foreach((json_t *)(uintptr_t)value, name, inner)
        {
            bool is_own = strcmp(name, "name") == 0 && has_own_words(value);
            (void)json_object_set_new(copy, name, clean(r, is_own ? "title" : name, inner));
        }
        return copy;
    }
    return json_deep_copy(value);
}

json_t *redact_json(redactor *r, const json_t *object)
{
    return clean(r, "", object);
}

/* Whose texts are one of a few words that config.c knows. */
static bool is_plain_key(const char *key)
{
    static const char *const keys[] = {"log_level", "sandbox", "size_policy",
                                       "routes",    "ipv6",    "tun_name"};
    return is_one_of(key, keys, MVPN_ARRAY_LEN(keys));
}

static json_t *clean_setting(redactor *r, const json_t *setting)
{
    const char *key = json_string_value(json_object_get(setting, "key"));
    const json_t *value = json_object_get(setting, "value");
    bool shows = json_is_number(value) || json_is_boolean(value) || json_is_null(value) ||
                 (key != NULL && is_plain_key(key) && json_is_string(value));
    json_t *copy = json_object();
    json_t *own = shows ? json_deep_copy(value) : tag_of(r, "", "x");
    (void)json_object_set_new(copy, "key", json_string(key != NULL ? key : ""));
    (void)json_object_set_new(copy, "value", own);
    (void)json_object_set_new(copy, "line", json_deep_copy(json_object_get(setting, "line")));
    return copy;
}

json_t *redact_config(redactor *r, const json_t *config)
{
    json_t *list = json_array();
    const json_t *setting;
    size_t i;
    json_array_foreach(json_object_get(config, "settings"), i, setting)
    {
        (void)json_array_append_new(list, clean_setting(r, setting));
    }
    return json_pack("{s:O?, s:O?, s:o}", "schema", json_object_get(config, "schema"), "kind",
                     json_object_get(config, "kind"), "settings", list);
}
