/*
 * Clients beside another: the same person, behind the same guards, with nothing else in common.
 */
#include "core/client_internal.h"

#include "base/error.h"

/* Fewer than a whole host's: about 300 KiB. */
#define FLOWS_MAX 2048

int mvpn_client_new_beside(mvpn_client *first, const mvpn_addr *tun_v4, const mvpn_addr *tun_v6,
                           mvpn_time now, mvpn_client **ret)
{
    mvpn_client_config config = first->cfg;
    mvpn_client *client;
    size_t place = 0;
    while (place < MVPN_CLIENT_BESIDE_MAX && first->beside[place] != NULL) {
        place++;
    }
    if (place == MVPN_CLIENT_BESIDE_MAX) {
        return MVPN_E_LIMIT;
    }
    config.learner = NULL;
    config.guards = MVPN_BYTES_NONE;
    config.asks_names = false;
    config.flows_max = FLOWS_MAX;
    config.started = 0;
    config.tun_v4 = *tun_v4;
    config.tun_v6 = *tun_v6;
    config.gateway_v4 = (mvpn_addr){0};
    int r = mvpn_client_new(&config, now, &client);
    if (r != 0) {
        return r;
    }
    client->first = first;
    client->guards = first->guards;
    client->is_offline = first->is_offline;
    client->online = first->online;
    first->beside[place] = client;
    *ret = client;
    return 0;
}

void client_leave_beside(mvpn_client *client)
{
    for (size_t i = 0; i < MVPN_CLIENT_BESIDE_MAX; i++) {
        if (client->first->beside[i] == client) {
            client->first->beside[i] = NULL;
        }
        MVPN_ASSERT(client->beside[i] == NULL); /* they end before it */
    }
}

static void shun(const mvpn_client *client, mvpn_path_constraints *wish)
{
    const mvpn_ed25519_pub *exit = client->current != NULL ? &client->current->exit
                                   : client->has_exit      ? &client->exit
                                                           : NULL;
    if (exit != NULL && wish->shunned_exit_count < MVPN_PATH_SHUNNED_MAX) {
        wish->shunned_exits[wish->shunned_exit_count++] = *exit;
    }
}

bool client_shun_beside(const mvpn_client *client, mvpn_path_constraints *wish)
{
    const mvpn_client *first = client->first;
    if (client != first) {
        shun(first, wish);
    }
    for (size_t i = 0; i < MVPN_CLIENT_BESIDE_MAX; i++) {
        if (first->beside[i] != NULL && first->beside[i] != client) {
            shun(first->beside[i], wish);
        }
    }
    return wish->shunned_exit_count > 0;
}
