/*
 * What a person calls an exit: countries, a relay's name, or the beginning of its identity. Names
 * prove nothing and are not unique, so a name that two exits have is refused.
 */
#ifndef MVPN_IO_EXIT_WORDS_H
#define MVPN_IO_EXIT_WORDS_H

#include "core/path.h"
#include "core/view.h"

/* Fewer digits are too easily those of another. */
#define MVPN_EXIT_DIGITS_MIN 8
/* Exits named in an answer. */
#define MVPN_EXIT_WORDS_NEAR 5
#define MVPN_EXIT_WORDS_TEXT 640

/** Eight or more hexadecimal digits, as of an identity? */
bool mvpn_exit_words_is_identity(const char *word);
/** Does this identity begin with those digits? */
bool mvpn_exit_words_fits(const char *digits, const mvpn_ed25519_pub *identity);

/**
 * Find the one exit in `view` that `word` names. 0 and `*ret`; MVPN_E_UNKNOWN: none does;
 * MVPN_E_LIMIT: several do. Then `why` says so, with those that were meant, or names that are near.
 */
MVPN_WUR int mvpn_exit_words_find(const mvpn_view *view, const char *word, mvpn_ed25519_pub *ret,
                                  char why[static MVPN_EXIT_WORDS_TEXT]);

/**
 * "CH, SE": the countries of the exits that are known, as far as no table of addresses
 * (`country_of`, may be NULL) denies what they say; "no country" if there is none.
 */
const char *mvpn_exit_words_countries(const mvpn_view *view, mvpn_path_country_of *country_of,
                                      const void *ctx, char out[static MVPN_EXIT_WORDS_TEXT]);

#endif
