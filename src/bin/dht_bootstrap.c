/*
 * meshvpn-dht-bootstrap: an entry into the network. A DHT server and directory, and nothing else:
 * it carries no circuits.
 */
#include "bin/relay_main.h"

int main(int argc, char **argv)
{
    return relay_main(argc, argv, MVPN_CONFIG_BOOTSTRAP, &options_dht_bootstrap, NULL);
}
