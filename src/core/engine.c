#include "core/engine.h"

#include <stdlib.h>
#include <string.h>

#include "crypto/hash.h"

struct mvpn_engine {
    mvpn_aead *aead;
    mvpn_rng rng;
    mvpn_packet_pool pool;
    mvpn_trust trust;
    mvpn_view *view;
    mvpn_links *links;
    mvpn_relay *relay;   /* NULL for a client */
    mvpn_exit *exit;     /* NULL unless an exit */
    mvpn_client *client; /* NULL for a relay */
    uint8_t link_certificate[MVPN_LINK_CERTIFICATE_LEN];
    uint8_t membership[MVPN_MEMBERSHIP_LEN];
    mvpn_addr own_addresses[8];
};

static int links_create(mvpn_engine *e, const mvpn_engine_config *config, const mvpn_realm *realm,
                        mvpn_time now)
{
    mvpn_links_config lc = config->link_limits;
    lc.aead = e->aead;
    lc.rng = &e->rng;
    lc.pool = &e->pool;
    lc.network_id = realm->network_id;
    lc.closed = config->closed;
    lc.network_secret = config->network_secret;
    lc.network_pub = config->network_pub;
    lc.unix_offset_us = config->unix_offset_us;
    lc.is_relay = config->is_relay;
    lc.identity = config->identity;
    lc.link_key = config->link_key;
    lc.link_certificate = MVPN_BYTES_ARRAY(e->link_certificate);
    lc.membership_certificate =
        config->has_membership ? MVPN_BYTES_ARRAY(e->membership) : MVPN_BYTES_NONE;
    int r = mvpn_links_new(&lc, now, &e->links);
    mvpn_wipe(&lc, sizeof(lc));
    return r;
}

static int exit_create(mvpn_engine *e, const mvpn_exit_config *config, mvpn_policy_error *ret_error)
{
    mvpn_exit_config ec = *config;
    ec.packets = &e->pool;
    ec.rng = &e->rng;
    return mvpn_exit_new(&ec, &e->exit, ret_error);
}

static int relay_create(mvpn_engine *e, const mvpn_engine_config *config, const mvpn_realm *realm,
                        mvpn_time now)
{
    mvpn_relay_config rc = {
        .aead = e->aead,
        .rng = &e->rng,
        .pool = &e->pool,
        .links = e->links,
        .view = e->view,
        .exit = e->exit,
        .realm = *realm,
        .identity = config->identity,
        .onion_key_count = config->onion_key_count,
        .own_addresses = e->own_addresses,
        .own_address_count = config->own_address_count,
        .has_ipv4 = config->has_ipv4,
        .has_ipv6 = config->has_ipv6,
        .allow_private = config->allow_private,
        .unix_offset_us = config->unix_offset_us,
        .circuits_max = config->circuits_max,
    };
    memcpy(rc.onion_keys, config->onion_keys, sizeof(rc.onion_keys));
    int r = mvpn_relay_new(&rc, now, &e->relay);
    mvpn_wipe(&rc, sizeof(rc));
    return r;
}

static int client_create(mvpn_engine *e, const mvpn_engine_config *config, const mvpn_realm *realm,
                         mvpn_time now)
{
    mvpn_client_config cc = *config->client;
    cc.env.aead = e->aead;
    cc.env.rng = &e->rng;
    cc.env.pool = &e->pool;
    cc.env.links = e->links;
    cc.env.view = e->view;
    cc.env.realm = *realm;
    if (cc.env.suite == 0) {
        cc.env.suite = MVPN_SUITE_X25519;
    }
    cc.allow_private = config->allow_private;
    cc.unix_offset_us = config->unix_offset_us;
    return mvpn_client_new(&cc, now, &e->client);
}

static void make_realm(const mvpn_engine_config *config, mvpn_realm *ret)
{
    *ret = (mvpn_realm){
        .closed = config->closed,
        .allow_test_suite = config->allow_test_suite,
        .network_pub = config->network_pub,
    };
    mvpn_network_id(&ret->network_id, &config->network_pub);
    if (config->closed) {
        mvpn_network_psk(&ret->psk, &config->network_secret);
    }
}

static int view_create(mvpn_engine *e, const mvpn_engine_config *config, const mvpn_realm *realm)
{
    mvpn_view_config vc = {
        .trust = &e->trust,
        .relax = config->client == NULL ? 0 : config->client->relax,
    };
    e->trust.network_id = realm->network_id;
    e->trust.network_pub = config->network_pub;
    e->trust.closed = config->closed;
    const mvpn_bytes seed = MVPN_BYTES_ARRAY(config->seed);
    mvpn_blake3_derive(vc.sample_key, sizeof(vc.sample_key), "meshvpn engine view sample", &seed,
                       1);
    return mvpn_view_new(&vc, &e->view);
}

int mvpn_engine_new(const mvpn_engine_config *config, mvpn_time now, mvpn_engine **ret,
                    mvpn_policy_error *ret_error)
{
    mvpn_realm realm;
    if (config->is_relay == (config->client != NULL)) {
        return MVPN_E_INVAL;
    }
    mvpn_engine *e = calloc(1, sizeof(*e));
    if (e == NULL) {
        return MVPN_E_NOMEM;
    }
    make_realm(config, &realm);
    mvpn_rng_init(&e->rng, config->seed);
    memcpy(e->link_certificate, config->link_certificate, sizeof(e->link_certificate));
    memcpy(e->membership, config->membership, sizeof(e->membership));
    memcpy(e->own_addresses, config->own_addresses, sizeof(e->own_addresses));
    size_t packets = config->packet_count == 0 ? MVPN_ENGINE_PACKETS : config->packet_count;
    int r = mvpn_packet_pool_init(&e->pool, packets);
    r = r != 0 ? r : mvpn_aead_new(config->backend, &e->aead);
    r = r != 0 ? r : view_create(e, config, &realm);
    r = r != 0 ? r : links_create(e, config, &realm, now);
    if (config->is_relay) {
        r = r != 0 || config->exit == NULL ? r : exit_create(e, config->exit, ret_error);
        r = r != 0 ? r : relay_create(e, config, &realm, now);
    } else {
        r = r != 0 ? r : client_create(e, config, &realm, now);
    }
    mvpn_wipe(&realm, sizeof(realm));
    if (r != 0) {
        mvpn_engine_free(e);
        return r;
    }
    *ret = e;
    return 0;
}

void mvpn_engine_shutdown(mvpn_engine *e, mvpn_time now)
{
    mvpn_client_free(e->client, now);
    e->client = NULL;
    mvpn_relay_free(e->relay, now);
    e->relay = NULL;
    mvpn_links_close_all(e->links, now);
}

void mvpn_engine_free(mvpn_engine *e)
{
    if (e == NULL) {
        return;
    }
    mvpn_client_free(e->client, 0);
    mvpn_relay_free(e->relay, 0);
    mvpn_exit_free(e->exit);
    mvpn_links_free(e->links);
    mvpn_view_free(e->view);
    mvpn_aead_free(e->aead);
    mvpn_packet_pool_done(&e->pool);
    mvpn_rng_done(&e->rng);
    mvpn_wipe(e, sizeof(*e));
    free(e);
}

void mvpn_engine_datagrams_in(mvpn_engine *e, mvpn_packet_queue *in, mvpn_time now)
{
    mvpn_packet *p;
    mvpn_link *link;
    mvpn_header header;
    while ((p = mvpn_packet_queue_pop(in)) != NULL) {
        if (e->exit != NULL && p->local == MVPN_EXIT_LOCAL_DNS) {
            (void)mvpn_exit_from_dns(e->exit, p, now); /* counted there */
            continue;
        }
        if (mvpn_links_recv(e->links, p, now, &link, &header) != 1) {
            continue; /* counted there */
        }
        if (e->relay != NULL) {
            mvpn_relay_message(e->relay, link, &header, p, now);
        } else {
            mvpn_client_message(e->client, link, &header, p, now);
        }
    }
}

void mvpn_engine_tun_in(mvpn_engine *e, mvpn_packet_queue *in, mvpn_time now)
{
    mvpn_packet *p;
    while ((p = mvpn_packet_queue_pop(in)) != NULL) {
        if (e->client != NULL) {
            mvpn_client_from_tun(e->client, p, now);
        } else if (e->exit != NULL) {
            (void)mvpn_exit_from_tun(e->exit, p, now); /* counted there */
        } else {
            mvpn_packet_free(&e->pool, p);
        }
    }
}

static void handle_link_events(mvpn_engine *e, mvpn_time now)
{
    mvpn_link_event event;
    while (mvpn_links_pull_event(e->links, &event)) {
        if (event.type != MVPN_LINK_CLOSED) {
            continue;
        }
        if (e->relay != NULL) {
            mvpn_relay_link_closed(e->relay, event.link, now);
        } else if (e->client != NULL) {
            mvpn_client_link_closed(e->client, event.link, now);
        }
    }
}

void mvpn_engine_turn(mvpn_engine *e, mvpn_time now)
{
    handle_link_events(e, now);
    if (e->exit != NULL) {
        mvpn_exit_tick(e->exit, now);
    }
    if (e->relay != NULL) {
        mvpn_relay_tick(e->relay, now);
        mvpn_relay_flush(e->relay, now);
    }
    if (e->client != NULL) {
        mvpn_client_tick(e->client, now);
        mvpn_client_flush(e->client, now);
    }
    mvpn_links_tick(e->links, now);
    handle_link_events(e, now);
}

mvpn_time mvpn_engine_deadline(const mvpn_engine *e)
{
    mvpn_time t = mvpn_links_deadline(e->links);
    if (e->exit != NULL) {
        t = mvpn_time_min(t, mvpn_exit_deadline(e->exit));
    }
    if (e->relay != NULL) {
        t = mvpn_time_min(t, mvpn_relay_deadline(e->relay));
    }
    if (e->client != NULL) {
        t = mvpn_time_min(t, mvpn_client_deadline(e->client));
    }
    return t;
}

bool mvpn_engine_pull_event(mvpn_engine *e, mvpn_engine_event *ret)
{
    if (e->client != NULL && mvpn_client_pull_event(e->client, &ret->client)) {
        ret->type = MVPN_ENGINE_CLIENT;
        return true;
    }
    if (e->exit != NULL && mvpn_exit_pull_event(e->exit, &ret->released)) {
        ret->type = MVPN_ENGINE_EXIT_RELEASED;
        return true;
    }
    return false;
}

mvpn_packet_queue *mvpn_engine_datagrams_out(mvpn_engine *e)
{
    return mvpn_links_out(e->links);
}

mvpn_packet_queue *mvpn_engine_dns_out(mvpn_engine *e)
{
    return e->exit == NULL ? NULL : mvpn_exit_dns_out(e->exit);
}

mvpn_packet_queue *mvpn_engine_tun_out(mvpn_engine *e)
{
    if (e->client != NULL) {
        return mvpn_client_tun_out(e->client);
    }
    return e->exit == NULL ? NULL : mvpn_exit_tun_out(e->exit);
}

mvpn_view *mvpn_engine_view(mvpn_engine *e)
{
    return e->view;
}

mvpn_packet_pool *mvpn_engine_pool(mvpn_engine *e)
{
    return &e->pool;
}

mvpn_links *mvpn_engine_links(mvpn_engine *e)
{
    return e->links;
}

const mvpn_relay *mvpn_engine_relay(const mvpn_engine *e)
{
    return e->relay;
}

mvpn_exit *mvpn_engine_exit(mvpn_engine *e)
{
    return e->exit;
}

const mvpn_client *mvpn_engine_client(const mvpn_engine *e)
{
    return e->client;
}
