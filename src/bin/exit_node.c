#include "bin/relay_main.h"

int main(int argc, char **argv)
{
    return relay_main(argc, argv, MVPN_CONFIG_EXIT, "an exit relay of a MeshVPN network", NULL);
}
