#include "bin/circuit.h"

#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "base/error.h"
#include "bin/daemon_socket.h"
#include "io/control.h"

enum {
    EXIT_TAKEN = 0,
    EXIT_FAILED = 1,
    EXIT_USAGE = 2,
    EXIT_NO_DAEMON = 4,
};

#define ASK_TIMEOUT_MS 3000

/* What the daemon says to it; every daemon answers what it does not know with "unknown command". */
static int tell(const char *socket, const json_t *reply)
{
    const char *error = json_string_value(json_object_get(reply, "error"));
    if (error == NULL && json_is_true(json_object_get(reply, "ok"))) {
        (void)puts("New connections get a new identity; open ones keep theirs until they end.");
        return EXIT_TAKEN;
    }
    if (error != NULL && strcmp(error, "unknown command") != 0) {
        (void)fprintf(stderr, "meshvpn: %s\n", error);
    } else {
        (void)fprintf(stderr,
                      "meshvpn: the daemon at %s is not meshvpn-client: it has no circuits of its "
                      "own. Name the client's control_socket with --control\n",
                      socket);
    }
    return EXIT_FAILED;
}

static int new_identity(const char *socket)
{
    mvpn_fault fault = {""};
    json_t *reply = NULL;
    json_t *request = json_pack("{s:s}", "cmd", "new-identity");
    int rc = mvpn_control_ask(socket, request, ASK_TIMEOUT_MS, &reply, &fault);
    json_decref(request);
    if (rc != 0) {
        (void)fprintf(stderr, "meshvpn: %s\n", fault.text);
        return rc == MVPN_E_CLOSED ? EXIT_NO_DAEMON : EXIT_FAILED;
    }
    int exit_status = tell(socket, reply);
    json_decref(reply);
    return exit_status;
}

int circuit_new_command(const options_given *given)
{
    char found[PATH_MAX];
    const char *socket = options_text(given, "--control");
    if (socket == NULL) {
        if (!daemon_socket_find(found)) {
            return EXIT_USAGE;
        }
        socket = found;
    }
    return new_identity(socket);
}
