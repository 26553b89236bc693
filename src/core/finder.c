#include "core/finder.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"

/* Records fetched at once after a walk listed them; what is left comes with the next pass. Of one
 * server only a few: it may list what it never hands out. */
#define FETCHES_MAX 32
#define FETCHES_OF_ONE 8
/* Longer than any fetch takes: one whose end was lost must not keep its place. */
#define FETCH_TIME MVPN_S(60)
#define EXPIRE_TIME MVPN_S(60)
#define PUBLISH_TRY MVPN_S(10)

struct mvpn_finder {
    mvpn_finder_config cfg;
    mvpn_dht *dht;
    mvpn_dht_exchange *exchange;
    mvpn_publisher publisher;
    bool has_publisher;
    mvpn_dht_id own_key;             /* of our descriptor */
    mvpn_addr server_address;        /* as configured */
    mvpn_addr own[MVPN_DHT_OWN_MAX]; /* of the server, as configured */
    size_t own_count;
    mvpn_addr configured[MVPN_DESCRIPTOR_ADDRESSES_MAX];
    size_t configured_count;
    mvpn_dht_id fetching[FETCHES_MAX];
    uint32_t fetch_op[FETCHES_MAX]; /* 0: free */
    mvpn_addr fetch_from[FETCHES_MAX];
    mvpn_time fetch_since[FETCHES_MAX];
    bool is_withdrawing, is_withdrawn, has_revocations;
    uint32_t withdraw_op;
    mvpn_time next_expire, next_publish;
};

static uint64_t unix_now(const mvpn_finder *f, mvpn_time now)
{
    int64_t t = ((int64_t)now + f->cfg.unix_offset_us) / (int64_t)MVPN_US_PER_S;
    return t < 1 ? 1 : (uint64_t)t; /* 0 would leave times unchecked */
}

static uint64_t unix_ms(const mvpn_finder *f, mvpn_time now)
{
    int64_t t = ((int64_t)now + f->cfg.unix_offset_us) / (int64_t)MVPN_US_PER_MS;
    return t < 1 ? 1 : (uint64_t)t;
}

static int verify_record(void *ctx, unsigned type, mvpn_bytes record, uint64_t at,
                         mvpn_record_info *ret)
{
    return mvpn_record_verify(ctx, type, record, at, ret, NULL);
}

static void self_contact(const mvpn_finder *f, const mvpn_addr *addr, mvpn_dht_contact *ret)
{
    *ret = (mvpn_dht_contact){
        .link_key = f->cfg.exchange.link_key.pub,
        .addr = *addr,
    };
    mvpn_dht_node_id(&ret->id, &f->cfg.exchange.identity, addr);
}

/* What a server is: first where it stands, then its further addresses; of the family of `mapped`
 * (NULL: nothing is mapped) that one alone. Returns how many. */
static size_t own_contacts(const mvpn_finder *f, const mvpn_addr *mapped,
                           mvpn_dht_contact ret[static MVPN_DHT_OWN_MAX])
{
    size_t count = 1;
    self_contact(f, &f->cfg.address, &ret[0]);
    if (mapped != NULL && !mvpn_addr_eq(mapped, &f->cfg.address)) {
        self_contact(f, mapped, &ret[count++]);
    }
    for (size_t i = 0; i < f->own_count && count < MVPN_DHT_OWN_MAX; i++) {
        if (!mvpn_addr_eq(&f->own[i], &f->cfg.address) &&
            (mapped == NULL || f->own[i].family != mapped->family)) {
            self_contact(f, &f->own[i], &ret[count++]);
        }
    }
    return count;
}

/* Relays that the view knows already are as good a beginning as any entry. */
static void add_from_view(mvpn_finder *f, mvpn_time now)
{
    size_t n = mvpn_view_count(f->cfg.view);
    size_t first = n > 0 ? mvpn_rng_below(f->cfg.rng, (uint32_t)n) : 0;
    size_t added = 0;
    for (size_t i = 0; i < n && added < MVPN_DHT_K; i++) {
        const mvpn_descriptor *d = mvpn_view_at(f->cfg.view, (first + i) % n);
        uint8_t family = f->cfg.has_ipv4 && f->cfg.has_ipv6 ? 0 : f->cfg.has_ipv4 ? 4 : 6;
        const mvpn_addr *addr = mvpn_descriptor_find_address(d, family);
        if ((d->roles & MVPN_ROLE_DHT_SERVER) == 0 || d->nat_relay_count > 0 || addr == NULL) {
            continue;
        }
        mvpn_dht_contact c = {.link_key = d->link_key, .addr = *addr};
        mvpn_dht_node_id(&c.id, &d->identity, addr);
        mvpn_dht_add_contact(f->dht, &c, now);
        added++;
    }
}

int mvpn_finder_new(const mvpn_finder_config *config, mvpn_time now, mvpn_finder **ret)
{
    mvpn_finder *f = calloc(1, sizeof(*f));
    if (f == NULL) {
        return MVPN_E_NOMEM;
    }
    f->cfg = *config;
    f->server_address = config->address;
    f->next_expire = now; /* the view of the last run names contacts */
    mvpn_dht_config dc = {
        .rng = config->rng,
        .verify = verify_record,
        .verify_ctx = config->trust,
        .unix_offset_us = config->unix_offset_us,
        .allow_private = config->allow_private,
        .relax_blocks = config->relax_blocks,
        .is_server = config->is_server,
        .is_walker = true,
        .reports_kept = true,
        .family = config->has_ipv4 && config->has_ipv6 ? 0
                  : config->has_ipv4                   ? 4
                                                       : 6,
    };
    mvpn_dht_contact own[MVPN_DHT_OWN_MAX] = {{.addr.family = 0}};
    size_t own_count = 1;
    if (config->is_server) {
        f->own_count = MVPN_MIN(config->own_address_count, MVPN_ARRAY_LEN(f->own));
        for (size_t i = 0; i < f->own_count; i++) {
            f->own[i] = config->own_addresses[i];
        }
        own_count = own_contacts(f, NULL, own);
        dc.self = own[0];
    }
    int r = mvpn_dht_new(&dc, now, &f->dht);
    if (r == 0) {
        mvpn_dht_exchange_config xc = config->exchange;
        xc.dht = f->dht;
        xc.trust = config->trust;
        xc.is_server = config->is_server;
        xc.self = dc.self;
        xc.others = &own[1];
        xc.other_count = own_count - 1;
        xc.unix_offset_us = config->unix_offset_us;
        r = mvpn_dht_exchange_new(&xc, now, &f->exchange);
        mvpn_wipe(&xc, sizeof(xc));
    }
    if (r != 0) {
        mvpn_finder_free(f);
        return r;
    }
    if (config->publish != NULL) {
        mvpn_publisher_init(&f->publisher, config->rng, &config->trust->network_id,
                            config->identity_secret, config->publish);
        f->has_publisher = true;
        f->configured_count = config->publish->address_count;
        for (size_t i = 0; i < f->configured_count; i++) {
            f->configured[i] = config->publish->addresses[i].addr;
        }
        mvpn_record_key(f->own_key.b, &config->trust->network_id, &config->exchange.identity);
    }
    f->cfg.publish = NULL; /* what was borrowed for this call alone */
    f->cfg.own_addresses = NULL;
    f->cfg.identity_secret = NULL;
    for (size_t i = 0; i < config->entry_count; i++) {
        mvpn_dht_add_contact(f->dht, &config->entries[i], now);
    }
    f->cfg.entries = NULL;
    if (config->trust->revocations.sequence > 0) {
        const mvpn_revocations *list = &config->trust->revocations;
        MVPN_IGNORE(mvpn_view_put(f->cfg.view, MVPN_RECORD_REVOCATIONS,
                                  mvpn_bytes_of(list->encoded, list->encoded_len), MVPN_VIEW_LOCAL,
                                  unix_now(f, now))); /* held already, or verified when loaded */
        MVPN_IGNORE(mvpn_dht_publish(f->dht, MVPN_RECORD_REVOCATIONS,
                                     mvpn_bytes_of(list->encoded, list->encoded_len), now));
    }
    *ret = f;
    return 0;
}

void mvpn_finder_free(mvpn_finder *f)
{
    if (f == NULL) {
        return;
    }
    mvpn_dht_exchange_free(f->exchange);
    mvpn_dht_free(f->dht);
    mvpn_publisher_done(&f->publisher);
    mvpn_wipe(f, sizeof(*f));
    free(f);
}

void mvpn_finder_set_unix_offset(mvpn_finder *f, int64_t unix_offset_us)
{
    f->cfg.unix_offset_us = unix_offset_us;
    mvpn_dht_set_unix_offset(f->dht, unix_offset_us);
    mvpn_dht_exchange_set_unix_offset(f->exchange, unix_offset_us);
}

/* ---- records that come in ---- */

/* A newer list: everything that it revokes goes, here and in the DHT's store. */
static void check_revocations(mvpn_finder *f, mvpn_time now)
{
    const mvpn_revocations *list = mvpn_view_revocations(f->cfg.view);
    if (list->sequence <= f->cfg.trust->revocations.sequence) {
        return;
    }
    f->cfg.trust->revocations = *list;
    f->has_revocations = true;
    mvpn_dht_recheck(f->dht, now);
}

static bool is_own(const mvpn_finder *f, const mvpn_dht_id *key)
{
    return f->has_publisher && memcmp(key, &f->own_key, sizeof(*key)) == 0;
}

static void take_record(mvpn_finder *f, const mvpn_dht_event *e, mvpn_time now)
{
    if (is_own(f, &e->key)) {
        if (!f->is_withdrawing) {
            mvpn_publisher_saw(&f->publisher, e->sequence);
        }
        return;
    }
    /* Whoever stored it here is nobody's source: anybody can. */
    mvpn_view_source source =
        e->from.addr.family == 0 ? 0 : mvpn_view_source_of(f->cfg.view, NULL, &e->from.addr);
    MVPN_IGNORE(mvpn_view_put(f->cfg.view, e->record_type, mvpn_bytes_of(e->record, e->record_len),
                              source, unix_now(f, now))); /* not newer, or not in the sample */
}

static void fetch(mvpn_finder *f, const mvpn_dht_event *e, mvpn_time now)
{
    size_t place = FETCHES_MAX, of_one = 0;
    for (size_t i = 0; i < FETCHES_MAX; i++) {
        if (f->fetch_op[i] == 0 || now - f->fetch_since[i] > FETCH_TIME) {
            place = i;
            continue;
        }
        of_one += mvpn_addr_ip_eq(&f->fetch_from[i], &e->from.addr);
        if (memcmp(&f->fetching[i], &e->key, sizeof(e->key)) == 0) {
            return; /* under way from somebody else */
        }
    }
    if (place == FETCHES_MAX || of_one >= FETCHES_OF_ONE) {
        return;
    }
    f->fetch_op[place] = 0;
    if (mvpn_dht_fetch(f->dht, &e->from, &e->key, now, &f->fetch_op[place]) == 0) {
        f->fetching[place] = e->key;
        f->fetch_from[place] = e->from.addr;
        f->fetch_since[place] = now;
    }
}

static void fetch_done(mvpn_finder *f, uint32_t op)
{
    for (size_t i = 0; i < FETCHES_MAX; i++) {
        if (op != 0 && f->fetch_op[i] == op) {
            f->fetch_op[i] = 0;
        }
    }
}

static void take_events(mvpn_finder *f, mvpn_time now)
{
    mvpn_dht_event e;
    while (mvpn_dht_pull_event(f->dht, &e)) {
        switch (e.type) {
        case MVPN_DHT_EVENT_LISTED:
            if (is_own(f, &e.key)) {
                /* Anybody can list any number: only a record that we did sign counts. */
                if (!f->is_withdrawing && e.sequence > f->publisher.descriptor.sequence) {
                    fetch(f, &e, now);
                }
            } else if (mvpn_view_listed(f->cfg.view, &e.key, e.sequence,
                                        mvpn_view_source_of(f->cfg.view, NULL, &e.from.addr),
                                        unix_now(f, now))) {
                fetch(f, &e, now);
            }
            break;
        case MVPN_DHT_EVENT_KEPT:
        case MVPN_DHT_EVENT_VALUE:
            fetch_done(f, e.op);
            take_record(f, &e, now);
            break;
        case MVPN_DHT_EVENT_NOT_FOUND:
            fetch_done(f, e.op);
            break;
        case MVPN_DHT_EVENT_STORED:
            f->is_withdrawn |= f->is_withdrawing && e.op == f->withdraw_op;
            break;
        case MVPN_DHT_EVENT_JOINED:
        case MVPN_DHT_EVENT_NODES:
        case MVPN_DHT_EVENT_WALK_DONE:
            break;
        }
    }
}

/* ---- our own descriptor ---- */

static void publish_own(mvpn_finder *f, mvpn_time now)
{
    const mvpn_descriptor *d;
    if (!f->has_publisher || f->is_withdrawing || now < f->next_publish ||
        mvpn_publisher_renew(&f->publisher, unix_ms(f, now), &d) != 0) {
        return;
    }
    f->next_publish = now + PUBLISH_TRY;        /* not more often, whatever asks for it */
    MVPN_IGNORE(mvpn_view_add(f->cfg.view, d)); /* no room: then only others know us */
    MVPN_IGNORE(mvpn_dht_publish(f->dht, MVPN_RECORD_DESCRIPTOR,
                                 mvpn_bytes_of(d->encoded, d->encoded_len), now));
}

bool mvpn_finder_withdraw(mvpn_finder *f, mvpn_time now)
{
    const mvpn_descriptor *d;
    mvpn_dht_status status;
    mvpn_dht_get_status(f->dht, &status);
    if (!f->has_publisher || !f->publisher.is_published || f->is_withdrawing ||
        status.contacts == 0 || mvpn_publisher_withdraw(&f->publisher, unix_ms(f, now), &d) != 0 ||
        mvpn_dht_store(f->dht, MVPN_RECORD_DESCRIPTOR, mvpn_bytes_of(d->encoded, d->encoded_len),
                       now, &f->withdraw_op) != 0) {
        return false;
    }
    f->is_withdrawing = true;
    return true;
}

bool mvpn_finder_is_withdrawn(const mvpn_finder *f)
{
    return f->is_withdrawn;
}

/* A server stands in the DHT where its first address is. */
static void set_own(mvpn_finder *f, const mvpn_addr *mapped, mvpn_time now)
{
    mvpn_dht_contact own[MVPN_DHT_OWN_MAX];
    bool is_of_server = mapped != NULL && mapped->family == f->server_address.family;
    const mvpn_addr *address = is_of_server ? mapped : &f->server_address;
    if (!f->cfg.is_server) {
        return;
    }
    bool has_moved = !mvpn_addr_eq(&f->cfg.address, address);
    f->cfg.address = *address;
    size_t count = own_contacts(f, mapped, own);
    if (has_moved) {
        MVPN_IGNORE(mvpn_dht_set_self(f->dht, &own[0], now)); /* no memory: the old id stays */
    }
    mvpn_dht_exchange_set_self(f->exchange, &own[0], &own[1], count - 1, now);
}

void mvpn_finder_set_mapped(mvpn_finder *f, const mvpn_addr *mapped, mvpn_time now)
{
    mvpn_addr all[MVPN_DESCRIPTOR_ADDRESSES_MAX + 1];
    size_t count = 0;
    if (mapped != NULL) {
        all[count++] = *mapped;
    }
    for (size_t i = 0; i < f->configured_count; i++) {
        if (mapped == NULL || f->configured[i].family != mapped->family) {
            all[count++] = f->configured[i];
        }
    }
    set_own(f, mapped, now);
    if (f->has_publisher) {
        mvpn_publisher_set_addresses(&f->publisher, all, count);
    }
}

void mvpn_finder_set_nat_relays(mvpn_finder *f, const mvpn_descriptor_nat_relay *relays,
                                size_t count, const mvpn_addr *seen, size_t seen_count)
{
    if (f->has_publisher) {
        mvpn_publisher_set_nat_relays(&f->publisher, relays, count, seen, seen_count);
    }
}

void mvpn_finder_set_onion_keys(mvpn_finder *f, const mvpn_onion_key *keys, size_t count)
{
    if (f->has_publisher) {
        mvpn_publisher_set_onion_keys(&f->publisher, keys, count);
    }
}

int mvpn_finder_publish(mvpn_finder *f, unsigned type, mvpn_bytes record, mvpn_time now)
{
    return mvpn_dht_publish(f->dht, type, record, now);
}

bool mvpn_finder_pull_revocations(mvpn_finder *f)
{
    bool had = f->has_revocations;
    f->has_revocations = false;
    return had;
}

/* ---- driven by the engine ---- */

void mvpn_finder_datagram(mvpn_finder *f, mvpn_packet *packet, mvpn_time now)
{
    (void)mvpn_dht_exchange_recv(f->exchange, packet, now); /* counted there */
}

mvpn_packet_queue *mvpn_finder_out(mvpn_finder *f)
{
    return mvpn_dht_exchange_out(f->exchange);
}

void mvpn_finder_tick(mvpn_finder *f, mvpn_time now)
{
    if (now >= f->next_expire) {
        mvpn_dht_status status;
        mvpn_view_expire(f->cfg.view, unix_now(f, now));
        mvpn_dht_get_status(f->dht, &status);
        if (status.contacts == 0) {
            add_from_view(f, now);
        }
        f->next_expire = now + EXPIRE_TIME;
    }
    publish_own(f, now);
    mvpn_dht_tick(f->dht, now);
    take_events(f, now);
    check_revocations(f, now); /* whoever filled the view */
    mvpn_dht_exchange_tick(f->exchange, now);
    mvpn_dht_exchange_flush(f->exchange, now);
}

mvpn_time mvpn_finder_deadline(const mvpn_finder *f)
{
    mvpn_time t = mvpn_time_min(mvpn_dht_deadline(f->dht), mvpn_dht_exchange_deadline(f->exchange));
    return mvpn_time_min(t, f->next_expire);
}

mvpn_dht *mvpn_finder_dht(mvpn_finder *f)
{
    return f->dht;
}

mvpn_dht_exchange *mvpn_finder_exchange(mvpn_finder *f)
{
    return f->exchange;
}

const mvpn_publisher *mvpn_finder_publisher(const mvpn_finder *f)
{
    return f->has_publisher ? &f->publisher : NULL;
}
