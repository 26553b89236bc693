#include "crypto/keys.h"

#include <sodium.h>

void mvpn_wipe(void *p, size_t n)
{
    if (n > 0) {
        sodium_memzero(p, n);
    }
}

bool mvpn_ct_equal(const void *a, const void *b, size_t n)
{
    return n == 0 || sodium_memcmp(a, b, n) == 0;
}

bool mvpn_ct_is_zero(const void *p, size_t n)
{
    return n == 0 || sodium_is_zero(p, n) == 1;
}
