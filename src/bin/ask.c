#include "bin/ask.h"

#include <string.h>

#include "base/error.h"
#include "bin/daemon_socket.h"
#include "io/control.h"

/* A daemon that does not answer a person within this time is stuck. */
#define ASK_TIMEOUT_MS 3000

const char *ask_socket(const options_given *given, char found[static PATH_MAX])
{
    const char *socket = options_text(given, "--control");
    return socket != NULL ? socket : daemon_socket_find(found) ? found : NULL;
}

/* Every daemon answers what it does not know with "unknown command". */
static void say_refused(const char *socket, const char *error)
{
    if (strcmp(error, "unknown command") == 0) {
        (void)fprintf(stderr,
                      "meshvpn: the daemon at %s is not meshvpn-client, or an older one: it does "
                      "not know that. Name the client's control_socket with --control\n",
                      socket);
    } else {
        (void)fprintf(stderr, "meshvpn: %s\n", error);
    }
}

json_t *ask_daemon(const char *socket, json_t *request, int *ret_exit)
{
    mvpn_fault fault = {""};
    json_t *reply = NULL;
    int rc = request == NULL ? MVPN_E_NOMEM
                             : mvpn_control_ask(socket, request, ASK_TIMEOUT_MS, &reply, &fault);
    json_decref(request);
    if (rc != 0) {
        *ret_exit = rc == MVPN_E_CLOSED ? ASK_NO_DAEMON : ASK_FAILED;
        (void)fprintf(stderr, "meshvpn: %s\n",
                      fault.text[0] != '\0' ? fault.text : mvpn_strerror(rc));
        if (rc == MVPN_E_CLOSED) {
            (void)fputs("No daemon runs here. Start the client: sudo meshvpn up\n", stderr);
        }
        return NULL;
    }
    const char *error = json_string_value(json_object_get(reply, "error"));
    if (error != NULL) {
        say_refused(socket, error);
        json_decref(reply);
        *ret_exit = ASK_FAILED;
        return NULL;
    }
    return reply;
}
