/* meshvpn-bootstrap invite: a link with which somebody becomes a member. (docs/protocol.md §13.1)
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "bin/bootstrap.h"
#include "bin/qr.h"
#include "io/clock.h"
#include "io/random.h"
#include "wire/invitation.h"

/* Long enough to be sent and used, short enough that a forgotten link is worth nothing. */
#define INVITE_DAYS_DEFAULT 7

/* The entry of a node by name; the first of its addresses, which everybody has (IPv4 first). */
static int entry_of_node(const arguments *args, mvpn_dht_contact *ret, mvpn_fault *fault)
{
    mvpn_dht_contact contacts[MVPN_DESCRIPTOR_ADDRESSES_MAX];
    mesh_node n;
    int rc = node_load(args->dir, args->entry, &n, fault);
    if (rc != 0) {
        return rc;
    }
    if ((n.descriptor.roles & MVPN_ROLE_DHT_SERVER) == 0 || n.kind != NODE_BOOTSTRAP) {
        return mvpn_fault_set(fault, MVPN_E_POLICY,
                              "%s is a %s; newcomers begin at a bootstrap node. Make one with "
                              "meshvpn-bootstrap add-node --bootstrap",
                              args->entry, node_kinds[n.kind].text);
    }
    unsigned count = node_contacts(&n.descriptor, contacts), best = 0;
    for (unsigned i = count; i > 0; i--) {
        if (contacts[i - 1].addr.family == 4) {
            best = i - 1;
        }
    }
    *ret = contacts[best];
    return 0;
}

/* One of the network file's, at random: the load and the risk of one that is gone are shared. IPv4
 * if there is any, which more people have. */
static int entry_of_file(const arguments *args, const network *net, mvpn_dht_contact *ret,
                         mvpn_fault *fault)
{
    const mvpn_network_file *f = &net->file;
    const mvpn_dht_contact *fit[MVPN_NETWORK_ENTRIES_MAX];
    uint32_t draw = 0;
    size_t count = 0;
    for (unsigned family = 4; family <= 6 && count == 0; family += 2) {
        for (size_t i = 0; i < f->entry_count; i++) {
            if (f->entries[i].addr.family == family) {
                fit[count++] = &f->entries[i];
            }
        }
    }
    if (count == 0) {
        return mvpn_fault_set(fault, MVPN_E_UNKNOWN,
                              "%s has no entry node, where newcomers begin. Make one with "
                              "meshvpn-bootstrap add-node %s NAME --address IP:PORT --bootstrap",
                              args->dir, args->dir);
    }
    if (mvpn_random_bytes((uint8_t *)&draw, sizeof(draw)) != 0) {
        return mvpn_fault_set(fault, MVPN_E_SYSTEM, "the system gives no random numbers");
    }
    *ret = *fit[draw % count];
    return 0;
}

static void tell(const network *net, uint64_t expires)
{
    char date[40];
    time_t at = (time_t)expires;
    struct tm tm;
    (void)strftime(date, sizeof(date), "%Y-%m-%d %H:%M UTC", gmtime_r(&at, &tm));
    if (net->file.is_closed) {
        (void)fprintf(stderr,
                      "An invitation to network \"%s\", good until %s: `meshvpn join LINK`.\n"
                      "It is a secret: whoever sees it can join. Hand it over on a safe way, to "
                      "one person.\n",
                      net->file.name, date);
    } else {
        (void)fprintf(stderr,
                      "A link to the open network \"%s\", good until %s: `meshvpn join LINK`.\n"
                      "It shows that its reader means to use MeshVPN.\n",
                      net->file.name, date);
    }
}

static int invite(const arguments *args, const network *net, mvpn_fault *fault)
{
    char link[MVPN_INVITATION_MAX + 1];
    mvpn_invitation inv = {
        .closed = net->file.is_closed,
        .allow_private = net->file.allow_private,
        .relax = (uint8_t)net->file.relax,
        .network_pub = net->pub,
        .network_secret = net->file.network_secret,
        .expires = mvpn_clock_unix() +
                   (args->days > 0 ? args->days : INVITE_DAYS_DEFAULT) * BOOTSTRAP_DAY_S,
    };
    int rc = args->entry != NULL ? entry_of_node(args, &inv.entry, fault)
                                 : entry_of_file(args, net, &inv.entry, fault);
    if (rc != 0) {
        return rc;
    }
    mvpn_invitation_format(link, &inv);
    tell(net, inv.expires);
    (void)fflush(stderr);
    (void)puts(link);
    if (args->wants_qr || (!args->wants_no_qr && isatty(STDOUT_FILENO) == 1)) {
        rc = qr_print(stdout, link);
    }
    mvpn_wipe(link, sizeof(link));
    mvpn_wipe(&inv, sizeof(inv));
    return rc == 0 ? 0 : mvpn_fault_set(fault, rc, "no memory for the QR code");
}

int command_invite(const options_given *given)
{
    arguments args;
    mvpn_fault fault;
    network net;
    int rc = arguments_parse(&args, given);
    if (rc != 0) {
        return rc;
    }
    if (args.wants_qr && args.wants_no_qr) {
        return bootstrap_fail_usage("--qr and --no-qr: choose one");
    }
    if (network_open(args.dir, &net, &fault) != 0) {
        return bootstrap_fail(&fault);
    }
    rc = invite(&args, &net, &fault);
    network_done(&net);
    return rc == 0 ? EXIT_SUCCESS : bootstrap_fail(&fault);
}
