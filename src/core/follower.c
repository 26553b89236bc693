#include "core/follower.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "core/sweep.h"
#include "core/target.h"
#include "wire/circuit.h"

/* Between two sweeps, for up to SWEEP_RECORDS records; more take proportionally longer. */
#define SWEEP_TIME MVPN_S(300)
#define SWEEP_RECORDS 1500
/* While no discovery node is known, or one did not answer. */
#define RETRY_TIME MVPN_S(20)
#define LINK_TIME MVPN_S(10)
#define TICK_STEP MVPN_MS(100)

struct mvpn_follower {
    mvpn_follower_config cfg;
    mvpn_link *link; /* held; NULL: at rest */
    sweep *sweep;    /* NULL while the link opens */
    mvpn_view_source source;
    mvpn_time since, next;
    mvpn_follower_status stats;
};

static uint64_t unix_now(const mvpn_follower *f, mvpn_time now)
{
    int64_t t = ((int64_t)now + f->cfg.unix_offset_us) / (int64_t)MVPN_US_PER_S;
    return t < 1 ? 1 : (uint64_t)t; /* 0 would leave times unchecked */
}

static int target_of(const mvpn_follower *f, const mvpn_descriptor *d, mvpn_link_target *ret)
{
    const mvpn_target_rules rules = {
        .has_ipv4 = f->cfg.has_ipv4,
        .has_ipv6 = f->cfg.has_ipv6,
        .allow_private = f->cfg.allow_private,
        .self = &f->cfg.own,
    };
    return mvpn_target_make(f->cfg.view, d, &rules, ret);
}

/* In an open network anybody can call himself one, but only anchors' snapshots count. */
static bool is_vouched(const mvpn_follower *f, const mvpn_descriptor *d)
{
    const mvpn_trust *trust = f->cfg.trust;
    bool is_anchor = false;
    for (size_t i = 0; i < trust->anchor_count; i++) {
        is_anchor |= memcmp(trust->anchors[i].b, d->identity.b, sizeof(d->identity.b)) == 0;
    }
    return trust->closed || is_anchor;
}

/* A discovery node at random; NULL if none is known. */
static const mvpn_descriptor *choose(const mvpn_follower *f, mvpn_link_target *ret_target)
{
    const mvpn_descriptor *chosen = NULL;
    uint32_t seen = 0;
    for (size_t i = 0; i < mvpn_view_count(f->cfg.view); i++) {
        const mvpn_descriptor *d = mvpn_view_at(f->cfg.view, i);
        mvpn_link_target target;
        if ((d->roles & MVPN_ROLE_DISCOVERY) != 0 && is_vouched(f, d) &&
            memcmp(d->identity.b, f->cfg.own.b, sizeof(f->cfg.own.b)) != 0 &&
            target_of(f, d, &target) == 0 && mvpn_rng_below(f->cfg.rng, ++seen) == 0) {
            chosen = d;
            *ret_target = target;
        }
    }
    return chosen;
}

/* The link is let go of, not closed: it may carry circuits, and idles away otherwise. */
static void rest(mvpn_follower *f, mvpn_time pause, mvpn_time now)
{
    sweep_free(f->sweep);
    f->sweep = NULL;
    if (f->link != NULL) {
        mvpn_link_release(f->link, now);
        f->link = NULL;
    }
    f->next = now + mvpn_rng_jitter(f->cfg.rng, pause, 25);
}

static void begin(mvpn_follower *f, mvpn_time now)
{
    mvpn_link_target target;
    const mvpn_descriptor *d = choose(f, &target);
    mvpn_link *link;
    f->next = now + mvpn_rng_jitter(f->cfg.rng, RETRY_TIME, 25);
    if (d == NULL) {
        return;
    }
    if (mvpn_links_open(f->cfg.links, &target, now, &link) != 0) {
        return;
    }
    mvpn_link_hold(link);
    f->link = link;
    f->source = mvpn_view_source_of(f->cfg.view, d, NULL);
    f->since = now;
    f->next = now;
}

static void go_on(mvpn_follower *f, mvpn_time now)
{
    if (f->sweep == NULL && mvpn_link_is_open(f->link)) {
        f->sweep = sweep_new(&(sweep_env){f->cfg.rng, f->cfg.pool, f->cfg.view}, f->source, now);
    }
    if (f->sweep == NULL) {
        if (now - f->since > LINK_TIME) {
            f->stats.sweeps_failed++;
            rest(f, RETRY_TIME, now);
        }
        return;
    }
    sweep_send(f->sweep, f->link, now);
    enum sweep_result result = sweep_result_of(f->sweep, now);
    if (result == SWEEP_GOING) {
        return;
    }
    uint64_t size = mvpn_view_record_count(f->cfg.view);
    if (result == SWEEP_DONE) {
        f->stats.sweeps++;
        f->stats.records_new += sweep_records(f->sweep);
        rest(f, SWEEP_TIME * MVPN_MAX(size, (uint64_t)SWEEP_RECORDS) / SWEEP_RECORDS, now);
    } else {
        f->stats.sweeps_failed++;
        rest(f, RETRY_TIME, now);
    }
}

void mvpn_follower_message(mvpn_follower *f, mvpn_link *link, const mvpn_header *header,
                           mvpn_packet *packet, mvpn_time now)
{
    if (f->sweep != NULL && f->link == link) {
        sweep_reply(f->sweep, mvpn_load32(header->circuit.b), header->command,
                    mvpn_bytes_of(packet->data, packet->len), unix_now(f, now), now);
        f->next = now;
    }
    mvpn_packet_free(f->cfg.pool, packet);
}

void mvpn_follower_link_closed(mvpn_follower *f, mvpn_link *link, mvpn_time now)
{
    if (f->link == link) {
        f->link = NULL; /* dead after this event */
        f->stats.sweeps_failed++;
        rest(f, RETRY_TIME, now);
    }
}

void mvpn_follower_tick(mvpn_follower *f, mvpn_time now)
{
    if (now < f->next) {
        return;
    }
    if (f->link == NULL) {
        begin(f, now);
    }
    if (f->link != NULL) {
        f->next = now + TICK_STEP;
        go_on(f, now);
    }
}

mvpn_time mvpn_follower_deadline(const mvpn_follower *f)
{
    return f->next;
}

void mvpn_follower_get_status(const mvpn_follower *f, mvpn_follower_status *ret)
{
    *ret = f->stats;
}

void mvpn_follower_set_unix_offset(mvpn_follower *f, int64_t unix_offset_us)
{
    f->cfg.unix_offset_us = unix_offset_us;
}

int mvpn_follower_new(const mvpn_follower_config *config, mvpn_time now, mvpn_follower **ret)
{
    mvpn_follower *f = calloc(1, sizeof(*f));
    if (f == NULL) {
        return MVPN_E_NOMEM;
    }
    f->cfg = *config;
    f->next = now + mvpn_rng_jitter(config->rng, RETRY_TIME, 25);
    *ret = f;
    return 0;
}

void mvpn_follower_free(mvpn_follower *f, mvpn_time now)
{
    if (f != NULL) {
        rest(f, 0, now);
        free(f);
    }
}
