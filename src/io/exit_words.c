#include "io/exit_words.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/word.h"
#include "io/status_links.h"

/* Names farther from the word than this are not what was meant. */
#define DISTANCE_MAX 2

/* Text that grows in a buffer and is cut off at its end. */
typedef struct text {
    char *out;
    size_t used, size;
} text;

static void add(text *t, const char *words)
{
    size_t n = MVPN_MIN(strlen(words), t->size - 1 - t->used);
    memcpy(t->out + t->used, words, n);
    t->used += n;
    t->out[t->used] = '\0';
}

bool mvpn_exit_words_is_identity(const char *word)
{
    size_t n = strlen(word);
    return n >= MVPN_EXIT_DIGITS_MIN && n <= 2 * sizeof(mvpn_ed25519_pub) &&
           strspn(word, "0123456789abcdef") == n;
}

bool mvpn_exit_words_fits(const char *digits, const mvpn_ed25519_pub *identity)
{
    static const char hex[] = "0123456789abcdef";
    for (size_t i = 0; digits[i] != '\0'; i++) {
        if (i / 2 >= sizeof(identity->b)) {
            return false;
        }
        unsigned nibble = i % 2 == 0 ? identity->b[i / 2] >> 4 : identity->b[i / 2] & 15;
        if (digits[i] != hex[nibble]) {
            return false;
        }
    }
    return true;
}

static bool is_exit(const mvpn_descriptor *d)
{
    return (d->roles & MVPN_ROLE_EXIT) != 0;
}

/* --- why not --- */

typedef struct hits {
    size_t count;
    const mvpn_descriptor *at[MVPN_EXIT_WORDS_NEAR];
} hits;

/* By identity, so that the same ones are said each time. */
static void add_hit(hits *h, const mvpn_descriptor *d)
{
    for (size_t i = 0; i < MVPN_MIN(h->count, (size_t)MVPN_EXIT_WORDS_NEAR); i++) {
        if (memcmp(d->identity.b, h->at[i]->identity.b, sizeof(d->identity.b)) < 0) {
            const mvpn_descriptor *later = h->at[i];
            h->at[i] = d;
            d = later;
        }
    }
    if (h->count < MVPN_EXIT_WORDS_NEAR) {
        h->at[h->count] = d;
    }
    h->count++;
}

static void say_ambiguous(const mvpn_view *view, const char *word, const hits *h,
                          char why[static MVPN_EXIT_WORDS_TEXT])
{
    text t = {.out = why, .size = MVPN_EXIT_WORDS_TEXT};
    char line[160], identity[17];
    (void)snprintf(line, sizeof(line), "'%.64s' could be any of %zu exits: ", word, h->count);
    add(&t, line);
    for (size_t i = 0; i < MVPN_MIN(h->count, (size_t)MVPN_EXIT_WORDS_NEAR); i++) {
        const char *name = mvpn_status_relay_name(view, &h->at[i]->identity, identity);
        (void)snprintf(line, sizeof(line), "%s%s%s%s%s%s%s", i > 0 ? ", " : "", identity,
                       name != identity ? " " : "", name != identity ? name : "",
                       h->at[i]->country[0] != '\0' ? " (" : "", h->at[i]->country,
                       h->at[i]->country[0] != '\0' ? ")" : "");
        add(&t, line);
    }
    add(&t, h->count > MVPN_EXIT_WORDS_NEAR ? ", ... Name one by its identity"
                                            : ". Name one by its identity");
}

/* "mapel" and "map" for "maple". */
static bool is_near(const char *word, const char *name)
{
    size_t n = strlen(word);
    return name[0] != '\0' && ((n >= 3 && strncmp(word, name, n) == 0) ||
                               mvpn_word_distance(word, name) <= (n < 6 ? 1 : DISTANCE_MAX));
}

static void say_unknown(const mvpn_view *view, const char *word,
                        char why[static MVPN_EXIT_WORDS_TEXT])
{
    text t = {.out = why, .size = MVPN_EXIT_WORDS_TEXT};
    char line[160];
    hits near = {.count = 0};
    bool is_relay = false;
    for (size_t i = 0; i < mvpn_view_count(view); i++) {
        const mvpn_descriptor *d = mvpn_view_at(view, i);
        is_relay = is_relay || (!is_exit(d) && d->roles != 0 && strcmp(d->name, word) == 0);
        if (is_exit(d) && is_near(word, d->name)) {
            add_hit(&near, d);
        }
    }
    (void)snprintf(line, sizeof(line),
                   is_relay ? "'%.64s' is a relay, but no exit" : "no exit is known as '%.64s'",
                   word);
    add(&t, line);
    for (size_t i = 0; i < MVPN_MIN(near.count, (size_t)MVPN_EXIT_WORDS_NEAR); i++) {
        add(&t, i == 0 ? ". Did you mean " : ", ");
        add(&t, near.at[i]->name);
    }
    if (near.count > 0) {
        add(&t, "?");
    } else if (strlen(word) == 2 && isalpha((unsigned char)word[0]) &&
               isalpha((unsigned char)word[1])) {
        (void)snprintf(line, sizeof(line), ". A country is written %c%c",
                       toupper((unsigned char)word[0]), toupper((unsigned char)word[1]));
        add(&t, line);
    } else {
        add(&t, ". See meshvpn exit list");
    }
}

int mvpn_exit_words_find(const mvpn_view *view, const char *word, mvpn_ed25519_pub *ret,
                         char why[static MVPN_EXIT_WORDS_TEXT])
{
    bool is_identity = mvpn_exit_words_is_identity(word);
    hits h = {.count = 0};
    for (size_t i = 0; i < mvpn_view_count(view); i++) {
        const mvpn_descriptor *d = mvpn_view_at(view, i);
        if (is_exit(d) && ((d->name[0] != '\0' && strcmp(d->name, word) == 0) ||
                           (is_identity && mvpn_exit_words_fits(word, &d->identity)))) {
            add_hit(&h, d);
        }
    }
    if (h.count == 1) {
        *ret = h.at[0]->identity;
        return 0;
    }
    if (h.count > 1) {
        say_ambiguous(view, word, &h, why);
        return MVPN_E_LIMIT;
    }
    say_unknown(view, word, why);
    return MVPN_E_UNKNOWN;
}

static int compare_countries(const void *a, const void *b)
{
    return memcmp(a, b, 2);
}

const char *mvpn_exit_words_countries(const mvpn_view *view, mvpn_path_country_of *country_of,
                                      const void *ctx, char out[static MVPN_EXIT_WORDS_TEXT])
{
    char found[26 * 26][2], line[80];
    size_t count = 0, wrong = 0;
    text t = {.out = out, .size = MVPN_EXIT_WORDS_TEXT};
    out[0] = '\0';
    for (size_t i = 0; i < mvpn_view_count(view); i++) {
        const mvpn_descriptor *d = mvpn_view_at(view, i);
        mvpn_view_info info;
        mvpn_view_get_info(view, i, &info);
        bool is_wrong = is_exit(d) && mvpn_path_check_country(d, &info, country_of, ctx) ==
                                          MVPN_PATH_COUNTRY_WRONG;
        bool is_new =
            is_exit(d) && !is_wrong && d->country[0] != '\0' && count < MVPN_ARRAY_LEN(found);
        wrong += is_wrong;
        for (size_t k = 0; is_new && k < count; k++) {
            is_new = memcmp(found[k], d->country, 2) != 0;
        }
        if (is_new) {
            memcpy(found[count++], d->country, 2);
        }
    }
    qsort(found, count, sizeof(found[0]), compare_countries);
    for (size_t i = 0; i < count; i++) {
        char code[5] = {i > 0 ? ',' : found[i][0], i > 0 ? ' ' : found[i][1],
                        i > 0 ? found[i][0] : '\0', i > 0 ? found[i][1] : '\0', '\0'};
        add(&t, code);
    }
    if (count == 0) {
        add(&t, "no country");
    }
    if (wrong > 0) {
        (void)snprintf(line, sizeof(line), "; %zu more whose address lies elsewhere than they say",
                       wrong);
        add(&t, line);
    }
    return out;
}
