/*
 * meshvpn-bootstrap: makes a network, its nodes and its invitations. The directory it works in is
 * described in bootstrap.h.
 */
#include "bin/bootstrap.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "meshvpn-bootstrap makes a network, its nodes and its invitations.\n"
    "\n"
    "  meshvpn-bootstrap init DIR [--name NAME] [--open] [--allow-private]\n"
    "                             [--relax same-16|same-provider|same-family]...\n"
    "                             [--dns NAME] [--lan-discovery]\n"
    "      Make a new network: its keys, DIR/network.conf and DIR/client.conf.\n"
    "      --open           without a secret and without membership certificates\n"
    "      --allow-private  its nodes may have private addresses\n"
    "      --relax RULE     a path may break this rule (may be given several times)\n"
    "      --dns NAME       newcomers also look for entries in the TXT records of NAME\n"
    "      --lan-discovery  and ask their local network (which shows that MeshVPN runs)\n"
    "\n"
    "  meshvpn-bootstrap add-node DIR NAME --address IP:PORT [--address [V6]:PORT]...\n"
    "                             [--exit | --bootstrap | --discovery] [--listed]\n"
    "                             [--nat-relay] [--country CC] [--bandwidth-mbit N]\n"
    "                             [--provider P] [--policy FILE]\n"
    "                             [--url URL] [--days N]\n"
    "  meshvpn-bootstrap add-node DIR NAME --home [--exit] [--country CC] ...\n"
    "      Make DIR/nodes/NAME, ready for its server: configuration, keys, systemd unit.\n"
    "      (none)           a relay: guard, middle, and a server of the DHT\n"
    "      --exit           an exit as well\n"
    "      --policy FILE    what the exit lets out: rules, one a line (docs/exit.md)\n"
    "      --bootstrap      an entry node, where newcomers begin; listed in network.conf\n"
    "      --discovery      crawls and serves lists of relays; --url is where people reach it\n"
    "      --listed         put its descriptor into network.conf: for networks without DHT\n"
    "      --nat-relay      forwards for relays behind a NAT too\n"
    "      --home           behind a NAT, in place of --address: reached through relays with\n"
    "                       --nat-relay; a middle, or an exit\n"
    "      --days N         how long its certificates hold (365)\n"
    "\n"
    "  meshvpn-bootstrap renew DIR NAME [--days N]\n"
    "      Sign a node's certificates and descriptor anew, with the same keys.\n"
    "\n"
    "  meshvpn-bootstrap revoke DIR NAME|SERIAL\n"
    "      Take a node's membership back. Running nodes hear of it through the network.\n"
    "\n"
    "  meshvpn-bootstrap invite DIR [--days N] [--entry NAME] [--qr | --no-qr]\n"
    "      Print a link for `meshvpn join`, good for N days (7); on a terminal a QR code too.\n"
    "\n"
    "  meshvpn-bootstrap deploy DIR NAME [USER@]HOST [--ssh-option OPTION]... [--dry-run]\n"
    "                             [--program FILE | --installed] [--force]\n"
    "      Install a node on a host over ssh and start it; again: bring it up to date.\n"
    "      --ssh-option O   given to ssh as -o O, such as Port=2222\n"
    "      --program FILE   its program; else the one beside meshvpn-bootstrap\n"
    "      --installed      the host has the program already\n"
    "      --force          replace another node that lives there\n"
    "      --dry-run        say what would be done\n"
    "\n"
    "  meshvpn-bootstrap cloud-init DIR NAME [--package-url URL [--package-sha256 HEX]]\n"
    "                             [--output FILE]\n"
    "      Write user-data with which a cloud host (AWS or any other with cloud-init) becomes\n"
    "      this node at its first start.\n"
    "      --package-url    a Debian package with the program; else the image must have it\n"
    "\n"
    "  meshvpn-bootstrap show DIR\n"
    "      Print the network and its nodes.\n"
    "\n"
    "  meshvpn-bootstrap help | --version\n"
    "\n"
    "Exit status: 0 done, 1 failed, 2 wrong usage.\n";

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
    return BOOTSTRAP_USAGE;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(int argc, char **argv);
    } commands[] = {
        {"init", command_init},     {"add-node", command_add_node},     {"renew", command_renew},
        {"revoke", command_revoke}, {"invite", command_invite},         {"deploy", command_deploy},
        {"show", command_show},     {"cloud-init", command_cloud_init},
    };
    if (argc < 2) {
        (void)fputs(usage, stderr);
        return BOOTSTRAP_USAGE;
    }
    if (strcmp(argv[1], "help") == 0 || strcmp(argv[1], "--help") == 0 ||
        strcmp(argv[1], "-h") == 0) {
        (void)fputs(usage, stdout);
        return EXIT_SUCCESS;
    }
    if (strcmp(argv[1], "--version") == 0) {
        (void)puts("meshvpn-bootstrap " MVPN_VERSION);
        return EXIT_SUCCESS;
    }
    for (size_t i = 0; i < MVPN_ARRAY_LEN(commands); i++) {
        if (strcmp(argv[1], commands[i].name) == 0) {
            return commands[i].run(argc - 2, argv + 2);
        }
    }
    return bootstrap_fail_usage("'%s' is no command", argv[1]);
}
