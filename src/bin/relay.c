#include "bin/relay_main.h"

int main(int argc, char **argv)
{
    return relay_main(argc, argv, MVPN_CONFIG_RELAY, &options_relay, NULL);
}
