/*
 * Does the peer live, and does the path to it: keepalive, pings, the end of links that nobody uses.
 * (docs/protocol.md §4.8, §14.4)
 *
 * A link over a NAT asks soon: the router may have forgotten us, the peer may have moved, and there
 * is another route to fall back to. Each answer without data in between doubles the pause, so an
 * idle link costs a keepalive and no more.
 */
#include "network/p2p/internal.h"

#define PING_AGAIN MVPN_S(1)
#define PINGS_MAX 3
/* A link over a NAT: silence that is asked about while there is data, and how soon again. */
#define DOUBT_FLOOR MVPN_MS(300)
#define DOUBT_AGAIN MVPN_MS(200)
/* A pause between pings that is as long as this is a keepalive's matter. */
#define DOUBT_PATIENCE MVPN_S(15)
/* A suspicion: so many pings, at least so far apart. Of six 2 % are all lost where a third of the
 * packets is. */
#define SUSPECT_PINGS 6
#define SUSPECT_FLOOR MVPN_MS(100)
/* After a pause of our own so many more, while it has not lasted long. */
#define SUSPECT_PINGS_AGAIN 3
#define SUSPECT_LONG MVPN_S(5)
/* No packet of the pool was free: try again soon. */
#define RETRY MVPN_MS(50)

void link_ping(mvpn_link *link, mvpn_time now)
{
    link->ping_token = mvpn_rng_u64(link->links->config.rng);
    link->ping_at = now;
    /* A lost ping is as good as an unsent one. */
    (void)transport_token(link->session, MVPN_CMD_LINK_PING, link->ping_token, link->session->route,
                          now);
}

mvpn_time alive_pause(const struct session *s)
{
    /* The initiator comes first: a NAT before it may have closed, and nobody else can open it. */
    mvpn_time pause = s->is_initiator ? s->links->keepalive : s->links->keepalive / 3 * 5;
    return mvpn_rng_jitter(s->links->config.rng, pause, 20);
}

static mvpn_time doubt_first(const mvpn_link *link)
{
    return DOUBT_FLOOR + 2 * (mvpn_time)(link->srtt_us != 0 ? link->srtt_us : RTT_ASSUMED_US);
}

void alive_data(struct session *s, mvpn_time now)
{
    mvpn_link *link = s->link;
    link->last_data = now;
    if (MVPN_UNLIKELY(s->is_calm)) {
        /* After a pause: from here on silence counts again. */
        s->is_calm = false;
        s->doubt_after = doubt_first(link);
        s->route->last_recv = now;
        mvpn_timer_set(&s->links->timers, &s->timers[TIMER_ALIVE], now + s->doubt_after);
    }
}

/* The route in use is asked again, or has answered too seldom. */
static mvpn_time ask(struct session *s, mvpn_time now)
{
    if (s->doubts == 0) {
        s->asked_at = now;
    } else if (s->doubts >= PINGS_MAX) {
        connector_silent(s, now);
        if (s->doubts == 0) {
            return now + s->doubt_after; /* by another route, which was asked just now */
        }
    }
    s->doubts++;
    link_ping(s->link, now);
    return now + (s->doubts > PINGS_MAX ? PING_AGAIN : link_timeout(s->link, DOUBT_AGAIN));
}

/* A held link over a NAT: when to look again. */
static mvpn_time doubt(struct session *s, mvpn_time now)
{
    mvpn_link *link = s->link;
    const struct route *route = s->route;
    if (s->doubt_after == 0) {
        s->doubt_after = doubt_first(link);
    }
    if (s->doubts > 0 && route->last_recv >= s->asked_at) {
        bool has_data = link->last_data >= s->asked_at;
        mvpn_time longest = MVPN_MAX(s->alive_after, DOUBT_PATIENCE);
        s->doubts = 0;
        s->doubt_after = has_data ? doubt_first(link) : MVPN_MIN(2 * s->doubt_after, longest);
        s->is_calm = !has_data;
        s->alive_after = alive_pause(s);
    }
    if (s->doubts > 0) {
        return ask(s, now);
    }
    /* Many NATs are kept open by what goes out alone. */
    mvpn_time due =
        mvpn_time_min(route->last_recv + s->doubt_after, route->last_sent + s->alive_after);
    return now < due && s->suspected_at == 0 ? due : ask(s, now);
}

void alive_again(struct session *s, mvpn_time now)
{
    s->doubts = 0;
    s->doubt_after = doubt_first(s->link);
    link_ping(s->link, now);
    mvpn_timer_set(&s->links->timers, &s->timers[TIMER_ALIVE], now + s->doubt_after);
}

void mvpn_link_suspect(mvpn_link *link, mvpn_time now)
{
    struct session *s = link->session;
    if (link->state != LINK_OPEN || s->suspected_at != 0) {
        return;
    }
    s->suspected_at = now;
    s->pings = 0;
    mvpn_timer_set(&link->links->timers, &s->timers[TIMER_ALIVE], now);
}

/* Nothing has come since a link without NATs was suspected: when to look again; NEVER: it is dead.
 */
static mvpn_time suspect(struct session *s, mvpn_time now)
{
    mvpn_link *link = s->link;
    mvpn_time rtt = link->srtt_us != 0 ? link->srtt_us : RTT_ASSUMED_US;
    mvpn_time pause = MVPN_MAX(SUSPECT_FLOOR, rtt);
    if (s->pings > 0 && now - s->asked_at < pause) {
        return s->asked_at + pause;
    }
    if (s->links->config.pool->free_count == 0) {
        return now + RETRY; /* what we cannot ask we cannot hold against the peer */
    }
    if (s->pings > 0 && now - s->asked_at >= 2 * pause && now - s->suspected_at < SUSPECT_LONG) {
        /* We were not called in time: answers may wait where we have not looked. */
        s->pings = MVPN_MIN(s->pings, (unsigned)(SUSPECT_PINGS - SUSPECT_PINGS_AGAIN));
    }
    if (s->pings >= SUSPECT_PINGS) {
        return MVPN_TIME_NEVER;
    }
    s->pings++;
    s->asked_at = now;
    link_ping(link, now);
    return now + pause;
}

/* §4.8: a held link that is silent is pinged and given up; one that nobody needs is closed. */
void alive_timer(struct session *s, mvpn_time now)
{
    mvpn_link *link = s->link;
    mvpn_links *links = s->links;
    mvpn_time next;
    if (s->is_exhausted) {
        link_fail(link, MVPN_E_EXHAUSTED);
        return;
    }
    bool is_unproven =
        s->is_initiator && (!s->has_received || (!s->has_received_epoch && rekey_overlaps(s)));
    if (!s->has_received && now - s->opened >= OPEN_TIMEOUT) {
        link_fail(link, MVPN_E_TIMEOUT);
        return;
    }
    if (s->suspected_at != 0 && s->last_recv > s->suspected_at) {
        s->suspected_at = 0;
    }
    if (s->suspected_at != 0 && link->connection == NULL) {
        next = suspect(s, now);
        if (next == MVPN_TIME_NEVER) {
            link_fail(link, MVPN_E_TIMEOUT);
            return;
        }
        is_unproven = false;
    } else if (link->holds == 0) {
        if (now - link->last_use >= IDLE_CLOSE) {
            mvpn_link_close(link, CLOSE_FINISHED, now);
            return;
        }
        next = link->last_use + IDLE_CLOSE;
    } else if (link->connection != NULL) {
        bool is_long = now - s->last_recv >= KEEPALIVE_AFTER + PINGS_MAX * PING_AGAIN;
        if ((is_long || s->suspected_at != 0) && s->doubts > PINGS_MAX) {
            link_fail(link, MVPN_E_TIMEOUT);
            return;
        }
        next = doubt(s, now);
    } else if (now - s->last_recv < s->alive_after) {
        next = s->last_recv + s->alive_after;
    } else if (s->pings >= PINGS_MAX) {
        link_fail(link, MVPN_E_TIMEOUT);
        return;
    } else {
        s->pings++;
        is_unproven = false;
        link_ping(link, now);
        next = now + PING_AGAIN;
    }
    if (is_unproven) {
        link_ping(link, now);
        next = mvpn_time_min(next, now + link_timeout(link, UNPROVEN_PING));
    }
    mvpn_timer_set(&links->timers, &s->timers[TIMER_ALIVE], next);
}
