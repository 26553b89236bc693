#include "bin/proxy.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bin/beside.h"

int proxy_command(const options_given *given)
{
    static char program[] = "meshvpn-client", option[] = "--proxy", config[] = "--config";
    static char path[PATH_MAX];
    const char *home = getenv("HOME");
    char **vector = calloc((size_t)given->rest_count + 5, sizeof(*vector));
    if (vector == NULL) {
        return EXIT_FAILURE;
    }
    size_t n = 0;
    vector[n++] = program;
    vector[n++] = option;
    for (int i = 0; i < given->rest_count; i++) {
        vector[n++] = given->rest[i];
    }
    /* Of a person who joined without root. */
    if (!options_has(given, "--config") && home != NULL &&
        snprintf(path, sizeof(path), "%s/.config/meshvpn/client.conf", home) < (int)sizeof(path) &&
        access(path, R_OK) == 0) {
        vector[n++] = config;
        vector[n++] = path;
    }
    exec_beside("meshvpn-client", vector);
    (void)fprintf(stderr, "meshvpn: cannot run meshvpn-client: %s\n", strerror(errno));
    free(vector);
    return EXIT_FAILURE;
}
