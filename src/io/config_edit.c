#include "io/config_edit.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/macros.h"

/* ---- reading a text as io/settings does ---- */

typedef struct span {
    size_t begin, end;
} span;

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool is_word(char c)
{
    return !is_blank(c) && strchr("\"'={}()+,#", c) == NULL;
}

static size_t skip_quoted(const char *text, size_t size, size_t i)
{
    char quote = text[i++];
    while (i < size && text[i] != quote) {
        i += text[i] == '\\' ? 2 : 1;
    }
    return MVPN_MIN(i + 1, size);
}

/* Behind a comment that begins at `i`; `i` if none does. */
static size_t skip_comment(const char *text, size_t size, size_t i)
{
    bool is_line = text[i] == '#' || (i + 1 < size && text[i] == '/' && text[i + 1] == '/');
    if (is_line) {
        while (i < size && text[i] != '\n') {
            i++;
        }
    } else if (i + 1 < size && text[i] == '/' && text[i + 1] == '*') {
        for (i += 2; i + 1 < size && !(text[i] == '*' && text[i + 1] == '/'); i++) {
        }
        i = MVPN_MIN(i + 2, size);
    }
    return i;
}

/* Behind blanks and comments. */
static size_t skip_gap(const char *text, size_t size, size_t i)
{
    for (;;) {
        size_t from = i;
        while (i < size && is_blank(text[i])) {
            i++;
        }
        i = i < size ? skip_comment(text, size, i) : i;
        if (i == from) {
            return i;
        }
    }
}

static size_t skip_list(const char *text, size_t size, size_t i)
{
    for (i++; i < size && text[i] != '}';) {
        size_t behind = skip_gap(text, size, i);
        if (behind != i) {
            i = behind;
        } else if (text[i] == '"' || text[i] == '\'') {
            i = skip_quoted(text, size, i);
        } else {
            do { /* a "//" within a word begins no comment */
                i++;
            } while (i < size && is_word(text[i - 1]) && is_word(text[i]));
        }
    }
    return MVPN_MIN(i + 1, size);
}

static size_t skip_value(const char *text, size_t size, size_t i)
{
    if (i < size && text[i] == '{') {
        return skip_list(text, size, i);
    }
    if (i < size && (text[i] == '"' || text[i] == '\'')) {
        return skip_quoted(text, size, i);
    }
    while (i < size && is_word(text[i])) {
        i++;
    }
    return i;
}

/* Finds "key = value"; `*ret_all` from the key to the end of the value. */
static bool find(const char *text, size_t size, const char *key, span *ret_all, span *ret_value)
{
    size_t i = skip_gap(text, size, 0);
    while (i < size) {
        size_t begin = i, len;
        while (i < size && is_word(text[i])) {
            i++;
        }
        len = i - begin;
        i = skip_gap(text, size, i);
        i += i < size && text[i] == '+';
        if (i >= size || text[i] != '=') { /* no assignment: the parser will say so */
            i = skip_gap(text, size, MVPN_MAX(i, begin + 1));
            continue;
        }
        size_t from = skip_gap(text, size, i + 1), to = skip_value(text, size, from);
        if (len == strlen(key) && memcmp(text + begin, key, len) == 0) {
            *ret_all = (span){begin, to};
            *ret_value = (span){from, to};
            return true;
        }
        i = skip_gap(text, size, MVPN_MAX(to, i + 1));
    }
    return false;
}

/* ---- writing ---- */

static unsigned line_of(const char *text, size_t at)
{
    unsigned line = 1;
    for (size_t i = 0; i < at; i++) {
        line += text[i] == '\n';
    }
    return line;
}

static char *replace(const char *text, size_t size, span what, const char *by, size_t *ret_size)
{
    size_t len = strlen(by), new_size = size - (what.end - what.begin) + len;
    char *out = malloc(new_size + 1);
    if (out == NULL) {
        return NULL;
    }
    memcpy(out, text, what.begin);
    memcpy(out + what.begin, by, len);
    memcpy(out + what.begin + len, text + what.end, size - what.end);
    out[new_size] = '\0';
    *ret_size = new_size;
    return out;
}

/* The whole line, if the assignment is all that is on it; else blanks before it go too. */
static span widen(const char *text, size_t size, span s)
{
    size_t begin = s.begin, end = s.end;
    while (begin > 0 && (text[begin - 1] == ' ' || text[begin - 1] == '\t')) {
        begin--;
    }
    while (end < size && (text[end] == ' ' || text[end] == '\t' || text[end] == '\r')) {
        end++;
    }
    bool is_whole = (begin == 0 || text[begin - 1] == '\n') && (end == size || text[end] == '\n');
    if (!is_whole) {
        return (span){s.begin, end};
    }
    return (span){begin, end < size ? end + 1 : end};
}

static char *append(const char *text, size_t size, const char *key, const char *value,
                    size_t *ret_size)
{
    const char *gap = size > 0 && text[size - 1] != '\n' ? "\n" : "";
    size_t room = strlen(gap) + strlen(key) + strlen(value) + 5, n = 0;
    char *line = malloc(room);
    if (line == NULL) {
        return NULL;
    }
    for (const char *parts[] = {gap, key, " = ", value, "\n"}, **p = parts; p < parts + 5; p++) {
        size_t len = strlen(*p);
        memcpy(line + n, *p, len);
        n += len;
    }
    line[n] = '\0';
    char *out = replace(text, size, (span){size, size}, line, ret_size);
    free(line);
    return out;
}

char *mvpn_config_edit(const char *text, size_t size, const char *key, const char *value,
                       size_t *ret_size, unsigned *ret_line)
{
    span all, old;
    *ret_line = 0;
    if (!find(text, size, key, &all, &old)) {
        if (value == NULL) {
            return replace(text, size, (span){size, size}, "", ret_size);
        }
        *ret_line = line_of(text, size) + (size > 0 && text[size - 1] != '\n');
        return append(text, size, key, value, ret_size);
    }
    *ret_line = line_of(text, all.begin);
    return value != NULL ? replace(text, size, old, value, ret_size)
                         : replace(text, size, widen(text, size, all), "", ret_size);
}

/* ---- values ---- */

typedef struct writer {
    char *out;
    size_t n;
    bool ok;
} writer;

static void put(writer *w, char c)
{
    w->ok = w->ok && w->n + 1 < MVPN_CONFIG_VALUE_MAX;
    if (w->ok) {
        w->out[w->n++] = c;
    }
}

static void put_text(writer *w, const char *text, size_t len)
{
    put(w, '"');
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        /* "${" would be taken for a variable of the environment. */
        w->ok = w->ok && c >= 0x20 && c != 0x7f && !(c == '$' && i + 1 < len && text[i + 1] == '{');
        if (c == '"' || c == '\\') {
            put(w, '\\');
        }
        put(w, (char)c);
    }
    put(w, '"');
}

static bool is_quote(char c)
{
    return c == '"' || c == '\'';
}

/* "a,b", "{a, b}" or "{\"a\", \"b\"}". Commas within quotes belong to the element. */
static void put_list(writer *w, const char *words)
{
    size_t len = strlen(words), i = 0;
    unsigned count = 0;
    if (len >= 2 && words[0] == '{' && words[len - 1] == '}') {
        words++;
        len -= 2;
    }
    put(w, '{');
    while (i < len) {
        size_t from = i, to;
        while (i < len && words[i] != ',') {
            i = is_quote(words[i]) ? skip_quoted(words, len, i) : i + 1;
        }
        to = i++;
        while (from < to && is_blank(words[from])) {
            from++;
        }
        while (to > from && is_blank(words[to - 1])) {
            to--;
        }
        if (to - from >= 2 && is_quote(words[from]) && words[to - 1] == words[from]) {
            from++;
            to--;
        }
        if (to > from) {
            if (count++ > 0) {
                put(w, ',');
                put(w, ' ');
            }
            put_text(w, words + from, to - from);
        }
    }
    put(w, '}');
}

/* Needs no quotes, wherever it stands. */
static bool is_plain(const char *words)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
    return words[0] != '\0' && words[strspn(words, plain)] == '\0';
}

bool mvpn_config_value_of(enum mvpn_setting_type type, const char *words,
                          char out[static MVPN_CONFIG_VALUE_MAX])
{
    writer w = {.out = out, .ok = true};
    switch (type) {
    case MVPN_SETTING_LIST:
        put_list(&w, words);
        break;
    case MVPN_SETTING_TEXT:
    case MVPN_SETTING_NUMBER:
    case MVPN_SETTING_BOOL:
        if (is_plain(words)) {
            while (*words != '\0') {
                put(&w, *words++);
            }
        } else {
            put_text(&w, words, strlen(words));
        }
        break;
    }
    out[w.n] = '\0';
    return w.ok;
}
