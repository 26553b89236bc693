/* meshvpn-bootstrap init: a new network. */
#include <stdio.h>
#include <stdlib.h>

#include "bin/bootstrap.h"
#include "crypto/x25519.h"
#include "io/file.h"
#include "io/random.h"

static int write_client_conf(const char *dir, mvpn_fault *fault)
{
    return write_text(
        path_of("%s/client.conf", dir).text, 0644, fault,
        "# A client of this network: give it this file and network.conf, side by side.\n"
        "# Start it with: meshvpn-client --config client.conf\n"
        "network_file = \"network.conf\"\n"
        "\n"
        "# Every key is optional; see docs/configuration.md.\n"
        "# hops = 3\n"
        "# exit_country = CH\n");
}

static void describe(const arguments *args, network *net, mvpn_rng *rng)
{
    mvpn_network_file *f = &net->file;
    mvpn_ed25519_generate(&net->pub, &net->secret_key, rng);
    (void)snprintf(f->name, sizeof(f->name), "%s", args->name);
    f->is_closed = !args->is_open;
    f->network_pub = net->pub;
    f->allow_private = args->allow_private;
    f->relax = args->relax;
    f->lan_discovery = args->lan_discovery;
    if (args->dns != NULL) {
        (void)snprintf(f->dns, sizeof(f->dns), "%s", args->dns);
    }
    if (f->is_closed) {
        mvpn_rng_bytes(rng, f->network_secret.b, sizeof(f->network_secret.b));
    }
}

static int make_network(const arguments *args, mvpn_rng *rng, mvpn_fault *fault)
{
    network net = {0};
    describe(args, &net, rng);
    int rc = mvpn_file_make_dir(args->dir, 0700, fault);
    if (rc == 0) {
        rc = mvpn_file_make_dir(path_of("%s/keys", args->dir).text, 0700, fault);
    }
    if (rc == 0) {
        rc = mvpn_file_make_dir(path_of("%s/nodes", args->dir).text, 0700, fault);
    }
    if (rc == 0) {
        rc = write_client_conf(args->dir, fault);
    }
    if (rc == 0) {
        rc = network_publish(args->dir, &net, fault);
    }
    /* Last: with this file the network exists. */
    if (rc == 0) {
        rc = mvpn_keyfile_write(path_of("%s/keys/network.key", args->dir).text,
                                MVPN_KEYFILE_NETWORK, true, net.secret_key.b, 32, 1, fault);
    }
    network_done(&net);
    return rc;
}

int command_init(const options_given *given)
{
    static const char *const ours[] = {"keys/network.key", "network.conf"};
    arguments args;
    mvpn_fault fault;
    mvpn_rng rng;
    int rc = arguments_parse(&args, given);
    if (rc != 0) {
        return rc;
    }
    for (size_t i = 0; i < MVPN_ARRAY_LEN(ours); i++) {
        path p = path_of("%s/%s", args.dir, ours[i]);
        if (path_exists(p.text)) {
            (void)mvpn_fault_set(&fault, 0,
                                 "%s exists: nothing was changed. A network is made once; take "
                                 "another directory, or add nodes with meshvpn-bootstrap add-node",
                                 p.text);
            return bootstrap_fail(&fault);
        }
    }
    if (mvpn_random_seed(&rng) != 0) {
        (void)mvpn_fault_set(&fault, 0, "the system gives no random numbers");
        return bootstrap_fail(&fault);
    }
    rc = make_network(&args, &rng, &fault);
    mvpn_rng_done(&rng);
    if (rc != 0) {
        return bootstrap_fail(&fault);
    }
    (void)printf("Network \"%s\" (%s) is in %s.\n"
                 "Back up %s/keys and keep it private: who has it can admit nodes.\n"
                 "Next: an entry node, then relays and exits:\n"
                 "  meshvpn-bootstrap add-node %s NAME --address IP:PORT --bootstrap\n"
                 "  meshvpn-bootstrap add-node %s NAME --address IP:PORT [--exit]\n",
                 args.name, args.is_open ? "open" : "closed", args.dir, args.dir, args.dir,
                 args.dir);
    return EXIT_SUCCESS;
}
