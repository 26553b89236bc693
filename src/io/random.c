#include "io/random.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "base/error.h"

int mvpn_random_bytes(uint8_t *out, size_t n)
{
    while (n > 0) {
        ssize_t got = getrandom(out, n, 0);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return MVPN_E_SYSTEM;
        }
        out += got;
        n -= (size_t)got;
    }
    return 0;
}

int mvpn_random_seed(mvpn_rng *rng)
{
    uint8_t seed[32];
    int rc = mvpn_random_bytes(seed, sizeof(seed));
    if (rc == 0) {
        mvpn_rng_init(rng, seed);
    }
    explicit_bzero(seed, sizeof(seed));
    return rc;
}
