/*
 * What include/meshvpn/meshvpn.h offers beside a client: results, options, joining.
 */
#include "meshvpn/meshvpn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/macros.h"
#include "embed/error.h"
#include "io/clock.h"
#include "io/libraries.h"
#include "io/network_link.h"
#include "wire/descriptor.h"

/* Copied as they are. */
_Static_assert(sizeof(((meshvpn_hop *)0)->name) == MVPN_NAME_MAX + 1, "names of relays");
_Static_assert(sizeof(((meshvpn_hop *)0)->country) == sizeof(((mvpn_descriptor *)0)->country),
               "countries");

static int code_of(int code)
{
    switch (code) {
    case MVPN_E_INVAL:
        return MESHVPN_E_INVALID;
    case MVPN_E_FORMAT:
    case MVPN_E_POLICY:
    case MVPN_E_UNKNOWN:
        return MESHVPN_E_NETWORK;
    case MVPN_E_EXPIRED:
        return MESHVPN_E_EXPIRED;
    case MVPN_E_CLOSED:
        return MESHVPN_E_TUN;
    case MVPN_E_NOMEM:
        return MESHVPN_E_MEMORY;
    case MVPN_E_STATE:
        return MESHVPN_E_STATE;
    default:
        return MESHVPN_E_SYSTEM;
    }
}

int embed_error(meshvpn_error *error, int code, const char *text)
{
    int result = code_of(code);
    if (error != NULL) {
        error->code = result;
        (void)snprintf(error->text, sizeof(error->text), "%s",
                       text[0] != '\0' ? text : meshvpn_strerror(result));
    }
    return result;
}

const char *meshvpn_strerror(int code)
{
    static const char *const texts[] = {
        "done",
        "an option is missing or makes no sense",
        "the network file or invitation is wrong",
        "the invitation has expired",
        "the descriptor is no TUN device that can be used",
        "out of memory",
        "the system refused something",
        "not possible now",
    };
    return code <= 0 && code > -(int)MVPN_ARRAY_LEN(texts) ? texts[-code] : "unknown result";
}

const char *meshvpn_version(void)
{
    return MVPN_VERSION;
}

void meshvpn_options_init(meshvpn_options *options, size_t size)
{
    const meshvpn_options defaults = {.size = size, .tun_fd = -1, .log_level = MESHVPN_LOG_INFO};
    memset(options, 0, size);
    memcpy(options, &defaults, MVPN_MIN(size, sizeof(defaults)));
}

int meshvpn_join(const char *invitation, char **ret_text, meshvpn_error *error)
{
    mvpn_fault fault = {.text = ""};
    mvpn_network_file file;
    size_t size;
    int r = mvpn_libraries_begin();
    r = r != 0 ? r : mvpn_network_link_read(invitation, mvpn_clock_unix(), &file, &fault);
    if (r == 0) {
        r = mvpn_network_file_format(&file, ret_text, &size);
        mvpn_network_file_done(&file);
    }
    return r == 0 ? 0 : embed_error(error, r, fault.text);
}

void meshvpn_text_free(char *text)
{
    if (text != NULL) {
        mvpn_wipe(text, strlen(text));
        free(text);
    }
}
