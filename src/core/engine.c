#include "core/engine.h"

#include <stdlib.h>
#include <string.h>

#include "crypto/hash.h"
#include "network/ip/inner.h"

/* How often an exit learns which addresses are relays'. */
#define EXIT_RELAYS_TIME MVPN_S(30)
/* What is sent to keep a NAT's mapping, whatever was measured. (§14.4) */
#define KEEPALIVE_MIN MVPN_S(15)
#define KEEPALIVE_MAX MVPN_S(60)
/* Old keys live so long in the cache of cipher contexts, at most twice. */
#define FORGET_AFTER MVPN_S(5)

struct mvpn_engine {
    mvpn_aead *aead;
    mvpn_rng rng;
    mvpn_packet_pool pool;
    mvpn_trust trust;
    mvpn_view *view;
    mvpn_links *links;
    mvpn_relay *relay;         /* NULL for a client */
    mvpn_exit *exit;           /* NULL unless an exit */
    mvpn_nat_relay *nat_relay; /* NULL unless one */
    mvpn_connector *connector;
    mvpn_guest *guest;         /* NULL unless behind a NAT and to be reached all the same */
    mvpn_nat_probe *nat_probe; /* NULL for a client: it shows its address to its guards alone */
    mvpn_client *client;       /* NULL for a relay */
    /* Beside it, by number from 1; NULL: not open. */
    mvpn_client *groups[1 + MVPN_ENGINE_GROUPS_MAX];
    mvpn_follower *follower;     /* with the finder: keeps up with discovery nodes */
    mvpn_finder *finder;         /* a relay that finds the others */
    mvpn_survey *survey;         /* a discovery node */
    mvpn_dht_exchange *exchange; /* a client's: asks entries who they are */
    mvpn_learner *learner;       /* a client that learns the network */
    bool told_withdrawn;
    mvpn_time next_exit_relays;
    mvpn_clock clock;
    mvpn_time forget_at; /* copies of old keys */
    bool has_copies;
    int64_t unix_offset_us; /* of our own clock, uncorrected */
    int64_t corrected_us;   /* the one in use */
    uint8_t link_certificate[MVPN_LINK_CERTIFICATE_LEN];
    uint8_t membership[MVPN_MEMBERSHIP_LEN];
    mvpn_addr own_addresses[8]; /* those configured, then those mapped to us */
    size_t configured_addresses;
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
    lc.revocations = &e->trust.revocations;
    lc.clock_is_unsure = config->client != NULL;
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

static int nat_relay_create(mvpn_engine *e, const mvpn_engine_config *config, mvpn_time now)
{
    mvpn_nat_relay_config nc = {.rng = &e->rng, .pool = &e->pool, .links = e->links};
    /* Whoever registers again, after our restart too, has the id that its descriptor names. */
    const mvpn_bytes key = MVPN_BYTES_ARRAY(config->link_key.secret.b);
    mvpn_blake3_derive(nc.id_key.b, sizeof(nc.id_key.b), "meshvpn engine rendezvous ids", &key, 1);
    int r = mvpn_nat_relay_new(&nc, now, &e->nat_relay);
    mvpn_wipe(&nc, sizeof(nc));
    return r;
}

static int connector_create(mvpn_engine *e, const mvpn_engine_config *config, mvpn_time now)
{
    mvpn_connector_config cc = {
        .rng = &e->rng,
        .pool = &e->pool,
        .links = e->links,
        .is_relayed_only = config->is_relayed_only,
        .tells_host_addresses = config->is_relay,
        .own_count = config->host_address_count,
    };
    memcpy(cc.own, config->host_addresses, sizeof(cc.own));
    return mvpn_connector_new(&cc, now, &e->connector);
}

static int nat_probe_create(mvpn_engine *e, const mvpn_engine_config *config, mvpn_time now)
{
    mvpn_nat_probe_config pc = {
        .rng = &e->rng,
        .pool = &e->pool,
        .links = e->links,
        .is_relay = !config->is_guest, /* its own filter would speak, not the asker's */
        .allow_private = config->allow_private,
        .own_count = config->host_address_count,
        .measures_lifetime = config->is_guest,
    };
    memcpy(pc.own, config->host_addresses, sizeof(pc.own));
    return mvpn_nat_probe_new(&pc, now, &e->nat_probe);
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
        .trust = &e->trust,
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
        .no_circuits = config->no_circuits,
        .rate = config->relay_rate,
    };
    memcpy(rc.onion_keys, config->onion_keys, sizeof(rc.onion_keys));
    int r = mvpn_relay_new(&rc, now, &e->relay);
    mvpn_wipe(&rc, sizeof(rc));
    return r;
}

static void exchange_config(mvpn_engine *e, const mvpn_engine_config *config,
                            mvpn_dht_exchange_config *ret)
{
    *ret = (mvpn_dht_exchange_config){
        .aead = e->aead,
        .rng = &e->rng,
        .pool = &e->pool,
        .trust = &e->trust,
        .network_secret = config->network_secret,
        .unix_offset_us = config->unix_offset_us,
        .identity = config->identity,
        .link_key = config->link_key,
        .link_certificate = MVPN_BYTES_ARRAY(e->link_certificate),
        .membership_certificate =
            config->has_membership ? MVPN_BYTES_ARRAY(e->membership) : MVPN_BYTES_NONE,
    };
}

static int finder_create(mvpn_engine *e, const mvpn_engine_config *config, mvpn_time now)
{
    mvpn_finder_config fc = {
        .rng = &e->rng,
        .view = e->view,
        .trust = &e->trust,
        .is_server = config->is_dht_server && config->own_address_count > 0,
        .address = config->own_addresses[0],
        .own_addresses = config->own_addresses,
        .own_address_count = config->own_address_count,
        .allow_private = config->allow_private,
        .relax_blocks = config->closed && (config->relax & MVPN_RELAX_BLOCK) != 0,
        .has_ipv4 = config->has_ipv4,
        .has_ipv6 = config->has_ipv6,
        .unix_offset_us = config->unix_offset_us,
        .publish = config->publish,
        .identity_secret = &config->identity_secret,
        .entries = config->entries,
        .entry_count = config->entry_count,
    };
    exchange_config(e, config, &fc.exchange);
    int r = mvpn_finder_new(&fc, now, &e->finder);
    mvpn_follower_config wc = {
        .rng = &e->rng,
        .pool = &e->pool,
        .links = e->links,
        .view = e->view,
        .trust = &e->trust,
        .own = config->identity,
        .has_ipv4 = config->has_ipv4,
        .has_ipv6 = config->has_ipv6,
        .allow_private = config->allow_private,
        .unix_offset_us = config->unix_offset_us,
    };
    r = r != 0 ? r : mvpn_follower_new(&wc, now, &e->follower);
    mvpn_wipe(&fc, sizeof(fc));
    return r;
}

static int guest_create(mvpn_engine *e, const mvpn_engine_config *config, mvpn_time now)
{
    const mvpn_guest_config gc = {
        .rng = &e->rng,
        .view = e->view,
        .connector = e->connector,
        .finder = e->finder,
        .identity = config->identity,
        .relax = config->relax,
        .has_ipv4 = config->has_ipv4,
        .has_ipv6 = config->has_ipv6,
        .allow_private = config->allow_private,
        .unix_offset_us = config->unix_offset_us,
    };
    return mvpn_guest_new(&gc, now, &e->guest);
}

static int learner_create(mvpn_engine *e, const mvpn_engine_config *config, mvpn_time now)
{
    mvpn_dht_exchange_config xc;
    exchange_config(e, config, &xc);
    xc.clock_is_unsure = true;
    int r = mvpn_dht_exchange_new(&xc, now, &e->exchange);
    mvpn_wipe(&xc, sizeof(xc));
    if (r != 0) {
        return r;
    }
    mvpn_learner_config lc = {
        .rng = &e->rng,
        .pool = &e->pool,
        .links = e->links,
        .view = e->view,
        .exchange = e->exchange,
        .family = config->client->env.family,
        .allow_private = config->allow_private,
        .unix_offset_us = config->unix_offset_us,
    };
    r = mvpn_learner_new(&lc, now, &e->learner);
    for (size_t i = 0; r == 0 && i < config->entry_count; i++) {
        mvpn_learner_add_entry(e->learner, &config->entries[i], true, now);
    }
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
    cc.learner = e->learner;
    return mvpn_client_new(&cc, now, &e->client);
}

static int survey_create(mvpn_engine *e, const mvpn_engine_config *config, const mvpn_realm *realm,
                         mvpn_time now)
{
    mvpn_survey_config sc = *config->survey;
    bool has_both = config->has_ipv4 && config->has_ipv6;
    sc.env = (mvpn_circuit_env){
        .aead = e->aead,
        .rng = &e->rng,
        .pool = &e->pool,
        .links = e->links,
        .view = e->view,
        .realm = *realm,
        .size_policy = MVPN_SIZE_CLASSES,
        .suite = MVPN_SUITE_X25519,
        .family = has_both           ? 0
                  : config->has_ipv6 ? 6
                                     : 4,
    };
    sc.identity = config->identity;
    sc.secret = config->identity_secret;
    sc.has_membership = config->has_membership;
    memcpy(sc.membership, config->membership, sizeof(sc.membership));
    sc.unix_offset_us = config->unix_offset_us;
    int r = mvpn_survey_new(&sc, now, &e->survey);
    mvpn_wipe(&sc, sizeof(sc));
    return r;
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
        .relax = config->relax,
        .max = config->survey != NULL ? MVPN_SURVEY_MAX : 0,
    };
    e->trust.network_id = realm->network_id;
    e->trust.network_pub = config->network_pub;
    e->trust.closed = config->closed;
    e->trust.anchor_count = config->anchor_count;
    memcpy(e->trust.anchors, config->anchors, sizeof(e->trust.anchors));
    if (config->revocations != NULL) {
        e->trust.revocations = *config->revocations;
    }
    memcpy(vc.sample_key, config->sample_key, sizeof(vc.sample_key));
    if (mvpn_ct_is_zero(vc.sample_key, sizeof(vc.sample_key))) {
        const mvpn_bytes seed = MVPN_BYTES_ARRAY(config->seed);
        mvpn_blake3_derive(vc.sample_key, sizeof(vc.sample_key), "meshvpn engine view sample",
                           &seed, 1);
    }
    return mvpn_view_new(&vc, &e->view);
}

static void set_unix_offset(mvpn_engine *e, int64_t unix_offset_us)
{
    e->corrected_us = unix_offset_us;
    mvpn_links_set_unix_offset(e->links, unix_offset_us);
    if (e->relay != NULL) {
        mvpn_relay_set_unix_offset(e->relay, unix_offset_us);
    }
    if (e->survey != NULL) {
        mvpn_survey_set_unix_offset(e->survey, unix_offset_us);
    }
    if (e->client != NULL) {
        mvpn_client_set_unix_offset(e->client, unix_offset_us);
    }
    for (unsigned i = 1; i <= MVPN_ENGINE_GROUPS_MAX; i++) {
        if (e->groups[i] != NULL) {
            mvpn_client_set_unix_offset(e->groups[i], unix_offset_us);
        }
    }
    if (e->finder != NULL) {
        mvpn_finder_set_unix_offset(e->finder, unix_offset_us);
        if (e->follower != NULL) {
            mvpn_follower_set_unix_offset(e->follower, unix_offset_us);
        }
    }
    if (e->guest != NULL) {
        mvpn_guest_set_unix_offset(e->guest, unix_offset_us);
    }
    if (e->exchange != NULL) {
        mvpn_dht_exchange_set_unix_offset(e->exchange, unix_offset_us);
    }
    if (e->learner != NULL) {
        mvpn_learner_set_unix_offset(e->learner, unix_offset_us);
    }
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
    e->unix_offset_us = config->unix_offset_us;
    mvpn_clock_init(&e->clock);
    mvpn_rng_init(&e->rng, config->seed);
    memcpy(e->link_certificate, config->link_certificate, sizeof(e->link_certificate));
    memcpy(e->membership, config->membership, sizeof(e->membership));
    memcpy(e->own_addresses, config->own_addresses, sizeof(e->own_addresses));
    e->configured_addresses = config->own_address_count;
    size_t packets = config->packet_count == 0 ? MVPN_ENGINE_PACKETS : config->packet_count;
    int r = mvpn_packet_pool_init(&e->pool, packets);
    r = r != 0 ? r : mvpn_aead_new(config->backend, &e->aead);
    r = r != 0 ? r : view_create(e, config, &realm);
    r = r != 0 ? r : links_create(e, config, &realm, now);
    r = r != 0 ? r : connector_create(e, config, now);
    if (config->is_relay) {
        r = r != 0 || config->exit == NULL ? r : exit_create(e, config->exit, ret_error);
        r = r != 0 ? r : relay_create(e, config, &realm, now);
        r = r != 0 ? r : nat_probe_create(e, config, now);
        r = r != 0 || !config->is_nat_relay ? r : nat_relay_create(e, config, now);
        r = r != 0 || !config->finds ? r : finder_create(e, config, now);
        r = r != 0 || !config->is_guest ? r : guest_create(e, config, now);
        r = r != 0 || config->survey == NULL ? r : survey_create(e, config, &realm, now);
    } else {
        r = r != 0 || !config->finds ? r : learner_create(e, config, now);
        r = r != 0 ? r : client_create(e, config, &realm, now);
    }
    mvpn_wipe(&realm, sizeof(realm));
    if (r != 0) {
        mvpn_engine_free(e);
        return r;
    }
    set_unix_offset(e, config->unix_offset_us + config->clock_guess_s * (int64_t)MVPN_US_PER_S);
    *ret = e;
    return 0;
}

bool mvpn_engine_withdraw(mvpn_engine *e, mvpn_time now)
{
    return e->finder != NULL && mvpn_finder_withdraw(e->finder, now);
}

void mvpn_engine_set_onion_keys(mvpn_engine *e, const mvpn_relay_onion_key *keys, size_t count,
                                mvpn_time now)
{
    mvpn_onion_key published[MVPN_DESCRIPTOR_ONION_KEYS_MAX];
    count = MVPN_MIN(count, MVPN_ARRAY_LEN(published));
    for (size_t i = 0; i < count; i++) {
        published[i] = (mvpn_onion_key){keys[i].id, keys[i].pair.pub};
    }
    mvpn_relay_set_onion_keys(e->relay, keys, count);
    if (e->finder != NULL) {
        mvpn_finder_set_onion_keys(e->finder, published, count);
        mvpn_finder_tick(e->finder, now);
    }
}

int mvpn_engine_open_group(mvpn_engine *e, unsigned group, mvpn_time now)
{
    mvpn_addr v4 = mvpn_inner_lane_addr(4, group), v6 = mvpn_inner_lane_addr(6, group);
    MVPN_ASSERT(group >= 1 && group <= MVPN_ENGINE_GROUPS_MAX && e->groups[group] == NULL);
    return mvpn_client_new_beside(e->client, &v4, &v6, now, &e->groups[group]);
}

void mvpn_engine_close_group(mvpn_engine *e, unsigned group, mvpn_time now)
{
    MVPN_ASSERT(group >= 1 && group <= MVPN_ENGINE_GROUPS_MAX);
    mvpn_client_free(e->groups[group], now);
    e->groups[group] = NULL;
}

const mvpn_client *mvpn_engine_group(const mvpn_engine *e, unsigned group)
{
    return group <= MVPN_ENGINE_GROUPS_MAX ? e->groups[group] : NULL;
}

static void close_groups(mvpn_engine *e, mvpn_time now)
{
    for (unsigned i = 1; i <= MVPN_ENGINE_GROUPS_MAX; i++) {
        mvpn_engine_close_group(e, i, now);
    }
}

/* Of whose circuits is this message? */
static mvpn_client *client_of(mvpn_engine *e, const mvpn_link *link, const mvpn_header *header)
{
    for (unsigned i = 1; i <= MVPN_ENGINE_GROUPS_MAX; i++) {
        if (e->groups[i] != NULL && mvpn_client_has_circuit(e->groups[i], link, header)) {
            return e->groups[i];
        }
    }
    return e->client;
}

void mvpn_engine_shutdown(mvpn_engine *e, mvpn_time now)
{
    close_groups(e, now);
    mvpn_client_free(e->client, now);
    e->client = NULL;
    mvpn_survey_free(e->survey, now);
    e->survey = NULL;
    mvpn_nat_relay_free(e->nat_relay);
    e->nat_relay = NULL;
    mvpn_relay_free(e->relay, now);
    e->relay = NULL;
    mvpn_follower_free(e->follower, now);
    e->follower = NULL;
    mvpn_guest_free(e->guest);
    e->guest = NULL;
    mvpn_nat_probe_free(e->nat_probe);
    e->nat_probe = NULL;
    mvpn_connector_free(e->connector);
    e->connector = NULL;
    mvpn_links_close_all(e->links, now);
}

void mvpn_engine_free(mvpn_engine *e)
{
    if (e == NULL) {
        return;
    }
    close_groups(e, 0);
    mvpn_client_free(e->client, 0);
    mvpn_guest_free(e->guest);
    mvpn_survey_free(e->survey, 0);
    mvpn_nat_relay_free(e->nat_relay);
    mvpn_relay_free(e->relay, 0);
    mvpn_follower_free(e->follower, 0);
    mvpn_finder_free(e->finder);
    mvpn_learner_free(e->learner, 0);
    mvpn_dht_exchange_free(e->exchange);
    mvpn_exit_free(e->exit);
    mvpn_nat_probe_free(e->nat_probe);
    mvpn_connector_free(e->connector);
    mvpn_links_free(e->links);
    mvpn_view_free(e->view);
    mvpn_aead_free(e->aead);
    mvpn_packet_pool_done(&e->pool);
    mvpn_rng_done(&e->rng);
    mvpn_wipe(e, sizeof(*e));
    free(e);
    mvpn_wipe_stack();
}

static void dht_datagram(mvpn_engine *e, mvpn_packet *p, mvpn_time now)
{
    if (e->finder != NULL) {
        mvpn_finder_datagram(e->finder, p, now);
    } else if (e->exchange != NULL) {
        (void)mvpn_dht_exchange_recv(e->exchange, p, now); /* counted there */
    } else {
        mvpn_packet_free(&e->pool, p);
    }
}

static bool is_directory_reply(unsigned command)
{
    return command >= MVPN_CMD_DHT_PONG && command <= MVPN_CMD_DHT_ERROR;
}

/* Messages of NAT relays, of those who use them, and about our own NAT. False: it is none. */
static bool nat_message(mvpn_engine *e, mvpn_link *link, const mvpn_header *header, mvpn_packet *p,
                        mvpn_time now)
{
    mvpn_bytes body = mvpn_bytes_of(p->data, p->len);
    if (header->command < MVPN_CMD_NAT_REGISTER || header->command > MVPN_CMD_NAT_PROBED) {
        return false;
    }
    bool is_taken =
        e->nat_relay != NULL && mvpn_nat_relay_message(e->nat_relay, link, header, body, now);
    is_taken = is_taken || mvpn_connector_message(e->connector, link, header, body, now);
    is_taken = is_taken || (e->nat_probe != NULL &&
                            mvpn_nat_probe_message(e->nat_probe, link, header, body, now));
    if (!is_taken) {
        mvpn_link_answer_unknown(link, now);
    }
    mvpn_packet_free(&e->pool, p);
    return true;
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
        if (mvpn_dht_is_datagram(mvpn_bytes_of(p->data, p->len))) {
            dht_datagram(e, p, now);
            continue;
        }
        if (e->nat_relay != NULL && mvpn_nat_relay_forward(e->nat_relay, p, now)) {
            continue; /* others' datagrams */
        }
        if (e->nat_probe != NULL && mvpn_nat_probe_datagram(e->nat_probe, p, now)) {
            continue;
        }
        if (mvpn_links_recv(e->links, p, now, &link, &header) != 1) {
            continue; /* counted there */
        }
        if (nat_message(e, link, &header, p, now)) {
            continue;
        }
        if (e->survey != NULL && mvpn_survey_message(e->survey, link, &header, p, now)) {
            continue;
        }
        bool is_reply = is_directory_reply(header.command);
        if (e->follower != NULL && is_reply) {
            mvpn_follower_message(e->follower, link, &header, p, now);
        } else if (e->relay != NULL) {
            mvpn_relay_message(e->relay, link, &header, p, now);
        } else if (e->learner != NULL && is_reply) {
            mvpn_learner_message(e->learner, link, &header, p, now);
        } else {
            mvpn_client_message(client_of(e, link, &header), link, &header, p, now);
        }
    }
}

void mvpn_engine_tun_in(mvpn_engine *e, mvpn_packet_queue *in, mvpn_time now)
{
    mvpn_packet *p;
    while ((p = mvpn_packet_queue_pop(in)) != NULL) {
        unsigned group = p->local;
        p->local = MVPN_LOCAL_MAIN; /* in case that it leaves as part of a datagram */
        mvpn_client *client = group == 0                        ? e->client
                              : group <= MVPN_ENGINE_GROUPS_MAX ? e->groups[group]
                                                                : NULL;
        if (client != NULL) {
            mvpn_client_from_tun(client, p, now);
        } else if (e->exit != NULL) {
            (void)mvpn_exit_from_tun(e->exit, p, now); /* counted there */
        } else {
            mvpn_packet_free(&e->pool, p);
        }
    }
}

static bool is_anchor(const mvpn_trust *trust, const mvpn_ed25519_pub *identity)
{
    for (size_t i = 0; i < trust->anchor_count; i++) {
        if (memcmp(&trust->anchors[i], identity, sizeof(*identity)) == 0) {
            return true;
        }
    }
    return false;
}

static void put_time(mvpn_engine *e, const mvpn_ed25519_pub *peer, int64_t unix_offset_us)
{
    mvpn_clock_reading reading;
    int64_t offset_us = unix_offset_us - e->unix_offset_us;
    if (!(e->trust.closed || is_anchor(&e->trust, peer)) ||
        !mvpn_clock_put(&e->clock, peer, offset_us / (int64_t)MVPN_US_PER_S)) {
        return;
    }
    mvpn_clock_read(&e->clock, &reading);
    set_unix_offset(e, e->unix_offset_us + reading.offset_s * (int64_t)MVPN_US_PER_S);
    bool is_unsure = reading.trust == MVPN_CLOCK_ALONE;
    mvpn_links_set_clock_unsure(e->links, is_unsure);
    if (e->exchange != NULL) {
        mvpn_dht_exchange_set_clock_unsure(e->exchange, is_unsure);
    }
}

/*
 * A peer told its time. A client believes those that the network vouches for: a relay of an open
 * network could turn back the clock until expired records hold again. Relays keep to their own.
 */
static void hear_time(mvpn_engine *e, const mvpn_link *link)
{
    const mvpn_ed25519_pub *peer = mvpn_link_peer_identity(link);
    if (e->client != NULL && mvpn_link_is_initiator(link) && peer != NULL) {
        put_time(e, peer, mvpn_link_unix_offset_us(link));
    }
}

static void link_opened(mvpn_engine *e, mvpn_link *link, mvpn_time now)
{
    hear_time(e, link);
    mvpn_connector_link_opened(e->connector, link, now);
    if (e->nat_probe != NULL) {
        mvpn_nat_probe_link_opened(e->nat_probe, link, now);
    }
    if (e->learner != NULL) {
        mvpn_learner_link_opened(e->learner, link, now);
    }
}

/* The exit refuses relays as destinations: those that the view knows now. */
static void tell_exit(mvpn_engine *e, mvpn_time now)
{
    /* In an open network anybody could name a web server as his relay, and exits would refuse it.
     */
    if (e->exit == NULL || e->finder == NULL || !e->trust.closed || now < e->next_exit_relays) {
        return;
    }
    e->next_exit_relays = now + EXIT_RELAYS_TIME;
    size_t n = mvpn_view_count(e->view);
    mvpn_addr *list = calloc(MVPN_MAX(n, (size_t)1) * MVPN_DESCRIPTOR_ADDRESSES_MAX, sizeof(*list));
    size_t count = 0;
    for (size_t i = 0; list != NULL && i < n; i++) {
        const mvpn_descriptor *d = mvpn_view_at(e->view, i);
        for (size_t k = 0; k < d->address_count && count < MVPN_POLICY_RELAYS_MAX; k++) {
            list[count++] = d->addresses[k].addr;
        }
    }
    if (list != NULL && count > 0) {
        MVPN_IGNORE(
            mvpn_policy_set_relays(mvpn_exit_policy(e->exit), list, count)); /* the old stay */
    }
    free(list);
}

/* A snapshot of ours is new: whoever asks us for it gets it, and its head goes into the DHT. */
static void spread_snapshot(mvpn_engine *e, mvpn_time now)
{
    const mvpn_snapshot_head *head = mvpn_survey_head(e->survey, 0);
    mvpn_bytes record = mvpn_bytes_of(head->encoded, head->encoded_len);
    uint64_t unix_now = (uint64_t)(((int64_t)now + e->unix_offset_us) / (int64_t)MVPN_US_PER_S);
    /* After a restart the view may have it already. */
    MVPN_IGNORE(
        mvpn_view_put(e->view, MVPN_RECORD_SNAPSHOT_HEAD, record, MVPN_VIEW_LOCAL, unix_now));
    MVPN_IGNORE(mvpn_view_put_snapshot(e->view, mvpn_survey_snapshot(e->survey, 0), unix_now));
    if (e->finder != NULL) {
        MVPN_IGNORE(mvpn_finder_publish(e->finder, MVPN_RECORD_SNAPSHOT_HEAD, record, now));
    }
}

/* What has to be known before circuits can be built; and of whom, links have to be closed. */
static void find_turn(mvpn_engine *e, mvpn_time now)
{
    mvpn_ed25519_pub peer;
    int64_t unix_offset_us;
    if (e->finder != NULL) {
        mvpn_finder_tick(e->finder, now);
        if (e->follower != NULL) {
            mvpn_follower_tick(e->follower, now);
        }
        tell_exit(e, now);
        if (mvpn_finder_pull_revocations(e->finder)) {
            mvpn_links_check_revocations(e->links, now);
        }
    }
    if (e->exchange != NULL) {
        mvpn_dht_exchange_tick(e->exchange, now);
    }
    if (e->learner != NULL) {
        mvpn_learner_tick(e->learner, now);
        if (mvpn_learner_take_time(e->learner, &peer, &unix_offset_us)) {
            put_time(e, &peer, unix_offset_us);
        }
        const mvpn_revocations *list = mvpn_view_revocations(e->view);
        if (list->sequence > e->trust.revocations.sequence) {
            e->trust.revocations = *list;
            mvpn_links_check_revocations(e->links, now);
        }
    }
}

static void handle_link_events(mvpn_engine *e, mvpn_time now)
{
    mvpn_link_event event;
    while (mvpn_links_pull_event(e->links, &event)) {
        if (event.type == MVPN_LINK_OPENED) {
            link_opened(e, event.link, now);
            continue;
        }
        if (e->learner != NULL) {
            mvpn_learner_link_closed(e->learner, event.link, now);
        }
        if (e->follower != NULL) {
            mvpn_follower_link_closed(e->follower, event.link, now);
        }
        if (e->survey != NULL) {
            mvpn_survey_link_closed(e->survey, event.link, now);
        }
        if (e->nat_relay != NULL) {
            mvpn_nat_relay_link_closed(e->nat_relay, event.link, now);
        }
        mvpn_connector_link_closed(e->connector, event.link, now);
        if (e->nat_probe != NULL) {
            mvpn_nat_probe_link_closed(e->nat_probe, event.link, now);
        }
        if (e->relay != NULL) {
            mvpn_relay_link_closed(e->relay, event.link, now);
        } else if (e->client != NULL) {
            mvpn_client_link_closed(e->client, event.link, now);
        }
        for (unsigned i = 1; i <= MVPN_ENGINE_GROUPS_MAX; i++) {
            if (e->groups[i] != NULL) {
                mvpn_client_link_closed(e->groups[i], event.link, now);
            }
        }
    }
}

/* A mapping lasts at least so long that a ping after three quarters of it keeps it. */
static void take_nat_class(mvpn_engine *e, mvpn_time now)
{
    const mvpn_nat_class *nat = mvpn_nat_probe_class(e->nat_probe);
    mvpn_connector_set_class(e->connector, nat, now);
    if (nat->lifetime_s != 0) {
        mvpn_time keepalive = MVPN_S(nat->lifetime_s) / 4 * 3;
        mvpn_links_set_keepalive(e->links,
                                 MVPN_MAX(KEEPALIVE_MIN, MVPN_MIN(keepalive, KEEPALIVE_MAX)));
    }
}

static void nat_turn(mvpn_engine *e, mvpn_time now)
{
    if (e->nat_relay != NULL) {
        mvpn_nat_relay_tick(e->nat_relay, now);
    }
    if (e->nat_probe != NULL) {
        mvpn_nat_probe_tick(e->nat_probe, now);
        if (mvpn_nat_probe_take_change(e->nat_probe)) {
            take_nat_class(e, now);
        }
    }
    if (e->guest != NULL) {
        mvpn_guest_tick(e->guest, now);
    }
    mvpn_connector_tick(e->connector, now);
}

/* What libraries keep of keys that we have wiped. */
static void forget_turn(mvpn_engine *e, mvpn_time now)
{
    if (now >= e->forget_at) {
        e->has_copies = mvpn_aead_expire(e->aead);
        mvpn_wipe_stack();
        e->forget_at = now + FORGET_AFTER;
    }
}

/* What comes for the host leaves by one queue, with its group's number. */
static void groups_turn(mvpn_engine *e, mvpn_time now)
{
    mvpn_client_event event;
    mvpn_packet *p;
    for (unsigned i = 1; i <= MVPN_ENGINE_GROUPS_MAX; i++) {
        mvpn_client *group = e->groups[i];
        if (group == NULL) {
            continue;
        }
        mvpn_client_tick(group, now);
        mvpn_client_flush(group, now);
        while ((p = mvpn_packet_queue_pop(mvpn_client_tun_out(group))) != NULL) {
            p->local = (uint16_t)i;
            mvpn_packet_queue_push(mvpn_client_tun_out(e->client), p);
        }
        while (mvpn_client_pull_event(group, &event)) {
            continue; /* the person is told of the first client's state */
        }
    }
}

void mvpn_engine_turn(mvpn_engine *e, mvpn_time now)
{
    handle_link_events(e, now);
    find_turn(e, now);
    if (e->exit != NULL) {
        mvpn_exit_tick(e->exit, now);
    }
    nat_turn(e, now);
    if (e->relay != NULL) {
        mvpn_relay_tick(e->relay, now);
        mvpn_relay_flush(e->relay, now);
    }
    if (e->survey != NULL) {
        mvpn_survey_tick(e->survey, now);
        if (mvpn_survey_take_new(e->survey)) {
            spread_snapshot(e, now);
        }
    }
    if (e->client != NULL) {
        mvpn_client_tick(e->client, now);
        mvpn_client_flush(e->client, now);
    }
    groups_turn(e, now);
    mvpn_links_tick(e->links, now);
    handle_link_events(e, now);
    forget_turn(e, now);
}

mvpn_time mvpn_engine_deadline(const mvpn_engine *e)
{
    mvpn_time t = mvpn_links_deadline(e->links);
    t = mvpn_time_min(t, mvpn_connector_deadline(e->connector));
    if (e->nat_probe != NULL) {
        t = mvpn_time_min(t, mvpn_nat_probe_deadline(e->nat_probe));
    }
    if (e->guest != NULL) {
        t = mvpn_time_min(t, mvpn_guest_deadline(e->guest));
    }
    if (e->exit != NULL) {
        t = mvpn_time_min(t, mvpn_exit_deadline(e->exit));
    }
    if (e->relay != NULL) {
        t = mvpn_time_min(t, mvpn_relay_deadline(e->relay));
    }
    if (e->nat_relay != NULL) {
        t = mvpn_time_min(t, mvpn_nat_relay_deadline(e->nat_relay));
    }
    if (e->client != NULL) {
        t = mvpn_time_min(t, mvpn_client_deadline(e->client));
    }
    for (unsigned i = 1; i <= MVPN_ENGINE_GROUPS_MAX; i++) {
        t = e->groups[i] == NULL ? t : mvpn_time_min(t, mvpn_client_deadline(e->groups[i]));
    }
    if (e->finder != NULL) {
        t = mvpn_time_min(t, mvpn_finder_deadline(e->finder));
        t = e->follower == NULL ? t : mvpn_time_min(t, mvpn_follower_deadline(e->follower));
    }
    if (e->survey != NULL) {
        t = mvpn_time_min(t, mvpn_survey_deadline(e->survey));
    }
    if (e->learner != NULL) {
        t = mvpn_time_min(t, mvpn_learner_deadline(e->learner));
        t = mvpn_time_min(t, mvpn_dht_exchange_deadline(e->exchange));
    }
    if (e->has_copies) {
        t = mvpn_time_min(t, e->forget_at);
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
    if (e->learner != NULL && mvpn_learner_pull_event(e->learner, &ret->learned)) {
        ret->type = MVPN_ENGINE_LEARNED;
        return true;
    }
    if (e->connector != NULL && mvpn_connector_pull_event(e->connector, &ret->connection)) {
        ret->type = MVPN_ENGINE_CONNECTION;
        return true;
    }
    if (e->finder != NULL && !e->told_withdrawn && mvpn_finder_is_withdrawn(e->finder)) {
        e->told_withdrawn = true;
        ret->type = MVPN_ENGINE_WITHDRAWN;
        return true;
    }
    return false;
}

mvpn_packet_queue *mvpn_engine_datagrams_out(mvpn_engine *e)
{
    mvpn_packet_queue *out = mvpn_links_out(e->links);
    if (e->nat_relay != NULL) {
        mvpn_packet_queue_splice(out, mvpn_nat_relay_out(e->nat_relay));
    }
    if (e->nat_probe != NULL) {
        mvpn_packet_queue_splice(out, mvpn_nat_probe_out(e->nat_probe));
    }
    if (e->finder != NULL) {
        mvpn_packet_queue_splice(out, mvpn_finder_out(e->finder));
    }
    if (e->exchange != NULL) {
        mvpn_packet_queue_splice(out, mvpn_dht_exchange_out(e->exchange));
    }
    return out;
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

const mvpn_nat_relay *mvpn_engine_nat_relay(const mvpn_engine *e)
{
    return e->nat_relay;
}

mvpn_connector *mvpn_engine_connector(mvpn_engine *e)
{
    return e->connector;
}

const mvpn_nat_class *mvpn_engine_nat_class(const mvpn_engine *e)
{
    return e->nat_probe == NULL ? NULL : mvpn_nat_probe_class(e->nat_probe);
}

void mvpn_engine_network_changed(mvpn_engine *e, const mvpn_addr *addresses, size_t count,
                                 mvpn_time now)
{
    mvpn_connector_network_changed(e->connector, addresses, count, now);
    if (e->nat_probe != NULL) {
        mvpn_nat_probe_set_own(e->nat_probe, addresses, count);
        mvpn_nat_probe_network_changed(e->nat_probe, now);
    }
    if (count > 0) { /* fresh connection ids are few: they are for the next place */
        mvpn_links_local_changed(e->links, now);
    }
    if (e->client != NULL) {
        mvpn_client_network_changed(e->client, count > 0, now);
    }
    for (unsigned i = 1; i <= MVPN_ENGINE_GROUPS_MAX; i++) {
        if (e->groups[i] != NULL) {
            mvpn_client_network_changed(e->groups[i], count > 0, now);
        }
    }
}

void mvpn_engine_new_identity(mvpn_engine *e, mvpn_time now)
{
    if (e->client != NULL) {
        mvpn_client_new_identity(e->client, now);
    }
    for (unsigned i = 1; i <= MVPN_ENGINE_GROUPS_MAX; i++) {
        if (e->groups[i] != NULL) {
            mvpn_client_new_identity(e->groups[i], now);
        }
    }
}

enum mvpn_path_block mvpn_engine_set_exit_choice(mvpn_engine *e, const mvpn_exit_choice *choice,
                                                 mvpn_time now)
{
    for (unsigned i = 1; i <= MVPN_ENGINE_GROUPS_MAX; i++) {
        if (e->groups[i] != NULL) {
            (void)mvpn_client_set_exit_choice(e->groups[i], choice, now); /* as the client's */
        }
    }
    return e->client == NULL ? MVPN_PATH_NO_EXIT
                             : mvpn_client_set_exit_choice(e->client, choice, now);
}

void mvpn_engine_reconnect(mvpn_engine *e, mvpn_time now)
{
    if (e->client != NULL) {
        mvpn_client_reconnect(e->client, now);
    }
}

void mvpn_engine_checked(mvpn_engine *e, bool holds, mvpn_time now)
{
    if (e->client != NULL) {
        mvpn_client_checked(e->client, holds, now);
    }
}

int mvpn_engine_set_hops(mvpn_engine *e, unsigned hops, mvpn_time now)
{
    return e->client == NULL ? MVPN_E_STATE : mvpn_client_set_hops(e->client, hops, now);
}

void mvpn_engine_set_mapped(mvpn_engine *e, const mvpn_addr *mapped, size_t count)
{
    size_t own = e->configured_addresses;
    mvpn_connector_set_mapped(e->connector, mapped, count);
    for (size_t i = 0; i < count && own < MVPN_ARRAY_LEN(e->own_addresses); i++) {
        e->own_addresses[own++] = mapped[i];
    }
    if (e->relay != NULL) {
        mvpn_relay_set_own_addresses(e->relay, e->own_addresses, own);
    }
}

void mvpn_engine_set_mapping_lifetime(mvpn_engine *e, uint32_t lifetime_s, mvpn_time now)
{
    if (e->nat_probe != NULL) {
        mvpn_nat_probe_set_lifetime(e->nat_probe, lifetime_s, now);
    }
}

bool mvpn_engine_socket_is_used(const mvpn_engine *e, uint16_t local)
{
    if (local == MVPN_LOCAL_PROBE) {
        return e->nat_probe != NULL && mvpn_nat_probe_uses_socket(e->nat_probe);
    }
    return e->connector != NULL && mvpn_connector_uses_socket(e->connector, local);
}

const mvpn_client *mvpn_engine_client(const mvpn_engine *e)
{
    return e->client;
}

mvpn_finder *mvpn_engine_finder(mvpn_engine *e)
{
    return e->finder;
}

mvpn_survey *mvpn_engine_survey(mvpn_engine *e)
{
    return e->survey;
}

const mvpn_follower *mvpn_engine_follower(const mvpn_engine *e)
{
    return e->follower;
}

mvpn_learner *mvpn_engine_learner(mvpn_engine *e)
{
    return e->learner;
}

const mvpn_trust *mvpn_engine_trust(const mvpn_engine *e)
{
    return &e->trust;
}

uint64_t mvpn_engine_unix(const mvpn_engine *e, mvpn_time now)
{
    int64_t t = ((int64_t)now + e->corrected_us) / (int64_t)MVPN_US_PER_S;
    return t < 1 ? 1 : (uint64_t)t; /* 0 would leave times unchecked */
}

void mvpn_engine_clock(const mvpn_engine *e, mvpn_clock_reading *ret)
{
    mvpn_clock_read(&e->clock, ret);
}

void mvpn_engine_clock_was_set(mvpn_engine *e, int64_t unix_offset_us)
{
    e->unix_offset_us = unix_offset_us;
    mvpn_clock_forget(&e->clock);
    set_unix_offset(e, unix_offset_us);
}
