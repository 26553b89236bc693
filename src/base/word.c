#include "base/word.h"

#include <string.h>

#include "base/macros.h"

size_t mvpn_word_distance(const char *a, const char *b)
{
    size_t rows[3][MVPN_WORD_COMPARED + 1] = {{0}};
    size_t a_len = strnlen(a, MVPN_WORD_COMPARED), b_len = strnlen(b, MVPN_WORD_COMPARED);
    size_t *before = rows[0], *above = rows[1], *here = rows[2];
    for (size_t j = 0; j <= b_len; j++) {
        above[j] = j;
    }
    for (size_t i = 1; i <= a_len; i++) {
        here[0] = i;
        for (size_t j = 1; j <= b_len; j++) {
            size_t change = above[j - 1] + (a[i - 1] != b[j - 1]);
            here[j] = MVPN_MIN(MVPN_MIN(above[j] + 1, here[j - 1] + 1), change);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
                here[j] = MVPN_MIN(here[j], before[j - 2] + 1);
            }
        }
        size_t *oldest = before;
        before = above;
        above = here;
        here = oldest;
    }
    return above[b_len];
}
