#include "bin/run.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bin/ask.h"
#include "bin/run_exit.h"

/* As shells say it. */
#define EXIT_CANNOT_RUN 126
#define EXIT_NOT_FOUND 127

int run_execute(char **command)
{
    (void)execvp(command[0], command);
    (void)fprintf(stderr, "meshvpn: cannot run %s: %s\n", command[0], strerror(errno));
    return errno == ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT_RUN;
}

/* The daemon puts the process that asks into its cgroup, which what it runs inherits. */
static int run_outside(const options_given *given)
{
    char found[PATH_MAX];
    int status = EXIT_FAILURE;
    const char *socket = ask_socket(given, found);
    if (socket == NULL) {
        return OPTIONS_USAGE;
    }
    json_t *reply = ask_daemon(socket, json_pack("{s:s}", "cmd", "outside"), &status);
    if (reply == NULL) {
        return status;
    }
    json_decref(reply);
    return run_execute(given->rest);
}

int run_command(const options_given *given)
{
    const char *exit = options_text(given, "--exit");
    if (options_has(given, "--outside") == (exit != NULL)) {
        return options_fail(given, "run which way? meshvpn run --outside COMMAND, or meshvpn run "
                                   "--exit CC COMMAND");
    }
    return exit != NULL ? run_exit(given, exit) : run_outside(given);
}
