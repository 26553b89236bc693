/*
 * meshvpn-bootstrap: makes a network, its nodes and its invitations. The directory it works in is
 * described in bootstrap.h.
 */
#include "bin/bootstrap.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bin/options_tables.h"
#include "bin/output.h"

int bootstrap_fail(const mvpn_fault *fault)
{
    (void)fprintf(stderr, "meshvpn-bootstrap: %s\n", fault->text);
    return EXIT_FAILURE;
}

int bootstrap_fail_usage(const char *fmt, ...)
{
    va_list ap;
    (void)fputs("meshvpn-bootstrap: ", stderr);
    va_start(ap, fmt);
    (void)vfprintf(stderr, fmt, ap);
    va_end(ap);
    (void)fputs("\nTry 'meshvpn-bootstrap help'.\n", stderr);
    return OPTIONS_USAGE;
}

int main(int argc, char **argv)
{
    static int (*const commands[])(const options_given *given) = {
        [BOOTSTRAP_INIT] = command_init,     [BOOTSTRAP_ADD_NODE] = command_add_node,
        [BOOTSTRAP_ADMIT] = command_admit,   [BOOTSTRAP_RENEW] = command_renew,
        [BOOTSTRAP_REVOKE] = command_revoke, [BOOTSTRAP_INVITE] = command_invite,
        [BOOTSTRAP_DEPLOY] = command_deploy, [BOOTSTRAP_CLOUD_INIT] = command_cloud_init,
        [BOOTSTRAP_SHOW] = command_show,
    };
    options_given given;
    output_begin();
    int exit_status = options_parse(&options_bootstrap, argc, argv, &given);
    return output_end(exit_status != -1 ? exit_status : commands[given.verb->id](&given));
}
