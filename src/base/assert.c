#include "base/assert.h"

#include <stdio.h>
#include <stdlib.h>

void mvpn_assert_failed(const char *expr, const char *file, int line)
{
    fprintf(stderr, "meshvpn: broken invariant: %s (%s:%d)\n", expr, file, line);
    abort();
}
