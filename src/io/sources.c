#include "io/sources.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/error.h"
#include "io/random.h"
#include "io/source_dns.h"
#include "io/source_lan.h"
#include "io/source_url.h"
#include "wire/certificate.h"

#define RETRY_MS 5000u
#define RETRY_MAX_MS 300000u
#define RETRY_JITTER 25
/* Parts of a bundle given in one turn: each costs its owner a signature or two. */
#define PARTS_PER_TURN 32
#define REASON_SIZE 256

/* What last went wrong with a source, so that the log is told once and not every round. */
struct trouble {
    char text[REASON_SIZE];
    uint64_t failures;
};

struct url {
    mvpn_sources *sources;
    const char *url;
    bool is_asked;    /* a transfer is under way */
    uint8_t *content; /* a bundle that is being given; NULL: none */
    mvpn_bytes rest;
    struct trouble trouble;
};

struct mvpn_sources {
    mvpn_sources_config config;
    mvpn_state_entries cached;
    mvpn_key token;
    mvpn_rng rng;
    mvpn_resolver *resolver;
    mvpn_fetcher *fetcher; /* these two while running */
    mvpn_source_lan *lan;
    mvpn_netlink *routes;    /* NULL: the local network is not asked */
    mvpn_loop_timer *timer;  /* the next round; after stop: the end of what is under way */
    mvpn_loop_timer *giving; /* parts of bundles */
    bool is_running;
    bool is_dns_asked;
    bool is_lan_asked;    /* in the round before */
    bool is_lan_answered; /* in this round */
    unsigned rounds;
    mvpn_source_dns dns;
    struct url urls[MVPN_NETWORK_DISCOVERY_MAX];
    struct trouble dns_trouble, lan_trouble;
    uint64_t entries[MVPN_SOURCE_KINDS];
};

const char *mvpn_source_kind_name(enum mvpn_source_kind kind)
{
    static const char *const names[MVPN_SOURCE_KINDS] = {
        [MVPN_SOURCE_CACHE] = "cache",       [MVPN_SOURCE_FILE] = "network file",
        [MVPN_SOURCE_DNS] = "DNS",           [MVPN_SOURCE_URL] = "URL",
        [MVPN_SOURCE_LAN] = "local network",
    };
    return names[kind];
}

/* ---- telling ---- */

static void failed(mvpn_sources *s, struct trouble *t, enum mvpn_source_kind kind,
                   const char *origin, const char *why, const char *remedy)
{
    char text[REASON_SIZE];
    (void)snprintf(text, sizeof(text), "%s", why);
    bool is_news = strcmp(text, t->text) != 0;
    (void)snprintf(t->text, sizeof(t->text), "%s", text);
    t->failures++;
    mvpn_logf(s->config.log, is_news ? MVPN_LOG_WARN : MVPN_LOG_DEBUG,
              "no entries from %s%s%s: %s. %s", mvpn_source_kind_name(kind),
              origin != NULL ? " " : "", origin != NULL ? origin : "", why, remedy);
}

static void worked(struct trouble *t)
{
    *t = (struct trouble){0};
}

static void give_entry(mvpn_sources *s, enum mvpn_source_kind kind, const char *origin,
                       const mvpn_dht_contact *entry)
{
    s->entries[kind]++;
    if (s->config.calls.entry != NULL) {
        s->config.calls.entry(s->config.calls.ctx, kind, origin, entry);
    }
}

/* ---- DNS ---- */

static void dns_came(void *ctx, int err, const char *why, const mvpn_dht_contact *entries,
                     size_t count)
{
    mvpn_sources *s = ctx;
    const char *name = s->config.network->dns;
    s->is_dns_asked = false;
    if (!s->is_running) {
        return;
    }
    if (err != 0) {
        failed(s, &s->dns_trouble, MVPN_SOURCE_DNS, name, why,
               "Check the name servers of this host, and dns in the network file");
        return;
    }
    worked(&s->dns_trouble);
    for (size_t i = 0; i < count && s->is_running; i++) {
        give_entry(s, MVPN_SOURCE_DNS, name, &entries[i]);
    }
}

static void ask_dns(mvpn_sources *s)
{
    const char *name = s->config.network->dns;
    if (name[0] == '\0' || s->is_dns_asked) {
        return;
    }
    s->is_dns_asked = true; /* before: the answer may come at once */
    s->dns = (mvpn_source_dns){dns_came, s};
    if (mvpn_source_dns_ask(&s->dns, s->resolver, name) != 0) {
        s->is_dns_asked = false;
    }
}

/* ---- URLs ---- */

static void end_bundle(struct url *u)
{
    free(u->content);
    u->content = NULL;
    if (u->sources->config.calls.bundle_ended != NULL) {
        u->sources->config.calls.bundle_ended(u->sources->config.calls.ctx, u->url);
    }
}

static void give_part(struct url *u, unsigned type, mvpn_bytes part)
{
    mvpn_sources *s = u->sources;
    mvpn_dht_contact entry;
    if (type == MVPN_BUNDLE_ENTRY) {
        if (mvpn_dht_contact_decode(&entry, part) == 0) {
            give_entry(s, MVPN_SOURCE_URL, u->url, &entry);
        }
    } else if (s->config.calls.record != NULL) {
        s->config.calls.record(s->config.calls.ctx, u->url, type, part);
    }
}

/* A few parts of each bundle; what is in hand is given to its end, connected or not. */
static void give_parts(void *ctx)
{
    mvpn_sources *s = ctx;
    bool is_more = false;
    for (size_t i = 0; i < MVPN_NETWORK_DISCOVERY_MAX; i++) {
        struct url *u = &s->urls[i];
        for (unsigned n = 0; u->content != NULL && n < PARTS_PER_TURN; n++) {
            uint8_t type;
            mvpn_bytes part;
            int err = mvpn_bundle_next(&u->rest, &type, &part);
            if (err == 0) {
                give_part(u, type, part);
                continue;
            }
            if (err != MVPN_E_AGAIN) {
                failed(s, &u->trouble, MVPN_SOURCE_URL, u->url, "its bundle is malformed",
                       "Check discovery in the network file");
            }
            end_bundle(u);
        }
        is_more = is_more || u->content != NULL;
    }
    if (is_more) {
        mvpn_loop_timer_set(s->giving, 0);
    }
}

static void bundle_came(void *ctx, const mvpn_fetched *f)
{
    struct url *u = ctx;
    mvpn_sources *s = u->sources;
    u->is_asked = false;
    if (!s->is_running) {
        free(f->content);
        return;
    }
    if (f->date != 0 && s->config.calls.date != NULL) {
        s->config.calls.date(s->config.calls.ctx, u->url, f->date);
    }
    if (f->err != 0) {
        failed(s, &u->trouble, MVPN_SOURCE_URL, u->url, f->why,
               "Check that it can be reached from here, and discovery in the network file");
        return;
    }
    worked(&u->trouble);
    u->content = f->content;
    u->rest = mvpn_bytes_of(f->content, f->size);
    if (f->content == NULL) {
        failed(s, &u->trouble, MVPN_SOURCE_URL, u->url, "its bundle is empty",
               "Check discovery in the network file");
        return;
    }
    mvpn_loop_timer_set(s->giving, 0);
}

static void ask_urls(mvpn_sources *s)
{
    for (size_t i = 0; i < s->config.network->discovery_count; i++) {
        struct url *u = &s->urls[i];
        if (u->is_asked || u->content != NULL || s->fetcher == NULL) {
            continue;
        }
        u->is_asked = true; /* before: it may fail at once */
        if (mvpn_fetcher_get(s->fetcher, u->url, bundle_came, u) != 0) {
            u->is_asked = false;
        }
    }
}

/* ---- local network ---- */

static void lan_came(void *ctx, const mvpn_dht_contact *entry)
{
    mvpn_sources *s = ctx;
    if (s->is_running) {
        s->is_lan_answered = true;
        worked(&s->lan_trouble);
        give_entry(s, MVPN_SOURCE_LAN, NULL, entry);
    }
}

static void ask_lan(mvpn_sources *s)
{
    static const char remedy[] = "Set lan_discovery to false in the network file if none is near";
    if (!s->config.network->lan_discovery) {
        return;
    }
    mvpn_fault fault = {""};
    if (s->is_lan_asked && !s->is_lan_answered) {
        failed(s, &s->lan_trouble, MVPN_SOURCE_LAN, NULL, "nobody answered", remedy);
    }
    s->is_lan_asked = s->is_lan_answered = false;
    if (s->lan == NULL &&
        mvpn_source_lan_new(s->config.loop, s->routes, &s->token, s->config.marker, lan_came, s,
                            &s->lan, &fault) != 0) {
        s->lan = NULL;
        failed(s, &s->lan_trouble, MVPN_SOURCE_LAN, NULL, fault.text, remedy);
        return;
    }
    s->is_lan_asked = mvpn_source_lan_ask(s->lan) > 0;
    if (!s->is_lan_asked) {
        failed(s, &s->lan_trouble, MVPN_SOURCE_LAN, NULL, "no interface to ask on", remedy);
    }
}

/* ---- rounds ---- */

static bool has_anything(const mvpn_sources *s)
{
    const mvpn_network_file *n = s->config.network;
    return s->cached.count > 0 || n->entry_count > 0 || n->dns[0] != '\0' ||
           n->discovery_count > 0 || n->lan_discovery;
}

static void give_known(mvpn_sources *s)
{
    const mvpn_network_file *n = s->config.network;
    for (size_t i = 0; i < s->cached.count && s->is_running; i++) {
        mvpn_dht_contact entry = s->cached.at[i].contact; /* the list may change meanwhile */
        give_entry(s, MVPN_SOURCE_CACHE, NULL, &entry);
    }
    for (size_t i = 0; i < n->entry_count && s->is_running; i++) {
        give_entry(s, MVPN_SOURCE_FILE, NULL, &n->entries[i]);
    }
}

static void run_round(mvpn_sources *s)
{
    unsigned doubled = MVPN_MIN(s->rounds, 16u);
    uint64_t delay =
        MVPN_MIN((uint64_t)s->config.retry_ms << doubled, (uint64_t)s->config.retry_max_ms);
    s->rounds++;
    mvpn_loop_timer_set(s->timer, mvpn_rng_jitter(&s->rng, delay, RETRY_JITTER));
    ask_dns(s);
    ask_urls(s);
    ask_lan(s);
    give_known(s);
}

/* Nothing of ours is sent or waited for any more. */
static void end_all(mvpn_sources *s)
{
    mvpn_resolver_cancel(s->resolver);
    mvpn_fetcher_free(s->fetcher);
    mvpn_source_lan_free(s->lan);
    s->fetcher = NULL;
    s->lan = NULL;
    s->is_lan_asked = false;
    for (size_t i = 0; i < MVPN_NETWORK_DISCOVERY_MAX; i++) {
        s->urls[i].is_asked = false; /* dropped without a word */
    }
}

static bool make_fetcher(mvpn_sources *s)
{
    const mvpn_fetcher_options o = {.loop = s->config.loop,
                                    .resolver = s->resolver,
                                    .marker = s->config.marker,
                                    .timeout_ms = s->config.timeout_ms};
    return s->fetcher != NULL || mvpn_fetcher_new(&o, &s->fetcher) == 0;
}

static void timer_fired(void *ctx)
{
    mvpn_sources *s = ctx;
    if (!s->is_running) {
        end_all(s);
    } else {
        run_round(s);
    }
}

void mvpn_sources_start(mvpn_sources *s)
{
    if (s->is_running) {
        return;
    }
    s->is_running = true;
    s->rounds = 0;
    if (!make_fetcher(s)) {
        s->fetcher = NULL; /* without memory for URLs there are the others */
    }
    if (!has_anything(s) && s->config.network->relay_count > 0) {
        mvpn_logf(s->config.log, MVPN_LOG_WARN,
                  "there is nobody to ask for other relays: the network file lists %zu and names "
                  "no entry, discovery or dns",
                  s->config.network->relay_count);
    } else if (!has_anything(s)) {
        mvpn_logf(s->config.log, MVPN_LOG_ERROR,
                  "the network file names nobody to begin with: no entry, no discovery, no dns, no "
                  "lan_discovery. Get a newer one, or an invitation");
    }
    run_round(s);
}

void mvpn_sources_stop(mvpn_sources *s)
{
    if (s->is_running) {
        s->is_running = false;
        mvpn_loop_timer_set(s->timer, 0); /* we may be inside a call of what has to end */
    }
}

void mvpn_sources_end(mvpn_sources *s)
{
    s->is_running = false;
    mvpn_loop_timer_clear(s->timer);
    end_all(s);
}

bool mvpn_sources_are_running(const mvpn_sources *s)
{
    return s->is_running;
}

void mvpn_sources_cache(mvpn_sources *s, const mvpn_dht_contact *entry, uint64_t unix_now)
{
    mvpn_state_entries_put(&s->cached, entry, unix_now);
}

/* ---- life ---- */

int mvpn_sources_new(const mvpn_sources_config *config, mvpn_sources **ret, mvpn_fault *fault)
{
    mvpn_sources *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return mvpn_fault_set(fault, MVPN_E_NOMEM, "no memory for sources of entries");
    }
    const mvpn_network_file *n = config->network;
    s->config = *config;
    s->config.retry_ms = config->retry_ms != 0 ? config->retry_ms : RETRY_MS;
    s->config.retry_max_ms = config->retry_max_ms != 0 ? config->retry_max_ms : RETRY_MAX_MS;
    if (config->cached != NULL) {
        s->cached = *config->cached;
    }
    mvpn_network_token(&s->token, &n->network_id, n->is_closed ? &n->network_secret : NULL);
    for (size_t i = 0; i < n->discovery_count; i++) {
        s->urls[i] = (struct url){.sources = s, .url = n->discovery[i]};
    }
    const mvpn_resolver_options o = {.loop = config->loop,
                                     .marker = config->marker,
                                     .server = config->dns_server,
                                     .timeout_ms = config->timeout_ms};
    int rc = mvpn_random_seed(&s->rng);
    if (rc == 0) {
        rc = mvpn_resolver_new(&o, &s->resolver, fault);
    }
    if (rc == 0 && n->lan_discovery) {
        rc = mvpn_netlink_open(&s->routes, fault); /* now: later it may not be allowed */
    }
    if (rc == 0) {
        rc = mvpn_loop_timer_new(config->loop, timer_fired, s, &s->timer);
    }
    if (rc == 0) {
        rc = mvpn_loop_timer_new(config->loop, give_parts, s, &s->giving);
    }
    if (rc != 0) {
        mvpn_sources_free(s);
        return rc;
    }
    *ret = s;
    return 0;
}

void mvpn_sources_free(mvpn_sources *s)
{
    if (s == NULL) {
        return;
    }
    s->is_running = false;
    s->config.calls = (mvpn_sources_calls){0};
    if (s->resolver != NULL) {
        end_all(s);
        mvpn_resolver_free(s->resolver);
    }
    for (size_t i = 0; i < MVPN_NETWORK_DISCOVERY_MAX; i++) {
        free(s->urls[i].content);
    }
    mvpn_loop_timer_free(s->timer);
    mvpn_loop_timer_free(s->giving);
    mvpn_netlink_close(s->routes);
    mvpn_rng_done(&s->rng);
    mvpn_wipe(s, sizeof(*s));
    free(s);
}

void mvpn_sources_get_status(const mvpn_sources *s, mvpn_sources_status *ret)
{
    const mvpn_network_file *n = s->config.network;
    *ret = (mvpn_sources_status){.rounds = s->rounds};
    for (unsigned i = 0; i < MVPN_SOURCE_KINDS; i++) {
        ret->kind[i].entries = s->entries[i];
        ret->kind[i].last_error = "";
    }
    ret->kind[MVPN_SOURCE_CACHE].is_used = s->cached.count > 0;
    ret->kind[MVPN_SOURCE_FILE].is_used = n->entry_count > 0;
    ret->kind[MVPN_SOURCE_DNS].is_used = n->dns[0] != '\0';
    ret->kind[MVPN_SOURCE_DNS].failures = s->dns_trouble.failures;
    ret->kind[MVPN_SOURCE_DNS].last_error = s->dns_trouble.text;
    ret->kind[MVPN_SOURCE_LAN].is_used = n->lan_discovery;
    ret->kind[MVPN_SOURCE_LAN].failures = s->lan_trouble.failures;
    ret->kind[MVPN_SOURCE_LAN].last_error = s->lan_trouble.text;
    ret->kind[MVPN_SOURCE_URL].is_used = n->discovery_count > 0;
    for (size_t i = 0; i < n->discovery_count; i++) {
        ret->kind[MVPN_SOURCE_URL].failures += s->urls[i].trouble.failures;
        if (s->urls[i].trouble.text[0] != '\0') {
            ret->kind[MVPN_SOURCE_URL].last_error = s->urls[i].trouble.text;
        }
    }
}
