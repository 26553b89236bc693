#include "bin/check_policy.h"
#include "bin/relay_main.h"

static int instead(void *ctx, cli *c)
{
    (void)ctx;
    return c->check_policy == NULL ? -1 : check_policy(c);
}

int main(int argc, char **argv)
{
    static const relay_extra extra = {.instead = instead};
    return relay_main(argc, argv, MVPN_CONFIG_EXIT, "an exit relay of a MeshVPN network", &extra);
}
