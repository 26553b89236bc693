/*
 * How near two words are: for "did you mean".
 */
#ifndef MVPN_BASE_WORD_H
#define MVPN_BASE_WORD_H

#include <stddef.h>

/* Longer words are compared by their beginning: longer than any option, key or relay's name. */
#define MVPN_WORD_COMPARED 32

/** Damerau-Levenshtein distance: letters put in, left out or changed, neighbours swapped count 1.
 */
size_t mvpn_word_distance(const char *a, const char *b);

#endif
