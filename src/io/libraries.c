#include "io/libraries.h"

#include <ares.h>
#include <curl/curl.h>
#include <pthread.h>
#include <stdbool.h>

#include "base/error.h"
#include "crypto/hash.h"

/* Written once, under the lock of pthread_once. */
static pthread_once_t once = PTHREAD_ONCE_INIT;
static bool has_begun;

static void begin(void)
{
    uint8_t out[32];
    mvpn_blake3(out, sizeof(out), mvpn_bytes_of(NULL, 0)); /* it finds out what the processor can */
    has_begun = ares_library_init(ARES_LIB_INIT_ALL) == ARES_SUCCESS &&
                curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
}

int mvpn_libraries_begin(void)
{
    return pthread_once(&once, begin) == 0 && has_begun ? 0 : MVPN_E_NOMEM;
}
