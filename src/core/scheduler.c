#include "core/scheduler.h"

#include "base/assert.h"

/* Tokens kept for a burst: so much time's worth, and at least some cells. A timer that comes a
 * little late then costs no throughput; a neighbour's queue sees no more at once. */
#define BURST_TIME MVPN_MS(4)
#define BURST_CELLS 4
/* With a limit, what is due within so long goes out together: a wake-up for each cell would cost
 * more than the cell. */
#define SLOT_TIME MVPN_MS(1)
/* See target_of. */
#define TARGET_ROUNDS 2
#define INTERVAL_ROUNDS 8
/* Packets that the longest flow loses at once, so that the search for it is paid by that many. */
#define SHED_MAX 64

enum flow_state {
    FLOW_IDLE,
    FLOW_FRESH,
    FLOW_OLD,
};

void mvpn_scheduler_init(mvpn_scheduler *s, const mvpn_scheduler_config *config, mvpn_time now)
{
    *s = (mvpn_scheduler){.config = *config, .updated = now, .round = 1};
    mvpn_list_init(&s->fresh);
    mvpn_list_init(&s->old);
}

/* ---- queues ---- */

static mvpn_packet *packet_at(mvpn_list *node)
{
    return MVPN_CONTAINER_OF(node, mvpn_packet, link);
}

const mvpn_packet *mvpn_flow_oldest(const mvpn_flow *flow)
{
    MVPN_ASSERT(flow->count > 0);
    const mvpn_packet *light = packet_at(flow->light.next), *other = packet_at(flow->queue.next);
    if (mvpn_list_is_empty(&flow->light)) {
        return other;
    }
    return mvpn_list_is_empty(&flow->queue) || light->queued < other->queued ? light : other;
}

static mvpn_packet *take_from(mvpn_scheduler *s, mvpn_flow *flow, mvpn_list *list)
{
    mvpn_packet *packet = packet_at(mvpn_list_pop(list));
    flow->count--;
    flow->bytes -= packet->cost;
    s->packets--;
    return packet;
}

mvpn_packet *mvpn_flow_take(mvpn_scheduler *s, mvpn_flow *flow)
{
    if (flow->count == 0) {
        return NULL;
    }
    return take_from(s, flow, mvpn_list_is_empty(&flow->light) ? &flow->queue : &flow->light);
}

static void drop_first(mvpn_scheduler *s, mvpn_flow *flow)
{
    mvpn_list *list = mvpn_list_is_empty(&flow->queue) ? &flow->light : &flow->queue;
    mvpn_packet_free(s->config.pool, take_from(s, flow, list));
    s->counters.dropped_full++;
}

/* The runner's turn has come, or it is gone: a round is over. */
static void end_round(mvpn_scheduler *s)
{
    s->runner = NULL;
    s->round++;
}

static void leave_list(mvpn_scheduler *s, mvpn_flow *flow)
{
    if (flow->state == FLOW_IDLE) {
        return;
    }
    mvpn_list_remove(&flow->link);
    flow->state = FLOW_IDLE;
    s->flows--;
    if (s->runner == flow) {
        end_round(s);
    }
    if (s->flows == 0) {
        s->round_time = 0;
    }
}

/* What it has not used of its quantum of this round it may still use; in a new round there is a new
 * one. */
static void join_list(mvpn_scheduler *s, mvpn_flow *flow)
{
    if (flow->round != s->round) {
        flow->round = s->round;
        flow->deficit = MVPN_SCHEDULER_QUANTUM;
    }
    flow->state = FLOW_FRESH;
    mvpn_list_append(&s->fresh, &flow->link);
    s->flows++;
}

void mvpn_flow_drop_large(mvpn_scheduler *s, mvpn_flow *flow)
{
    if (flow->count == 0) {
        return;
    }
    MVPN_LIST_FOREACH_SAFE(it, next, &flow->queue)
    {
        mvpn_packet *packet = packet_at(it);
        if ((packet->flags & MVPN_PACKET_KEEP) == 0) {
            mvpn_list_remove(it);
            flow->count--;
            flow->bytes -= packet->cost;
            s->packets--;
            s->counters.dropped_full++;
            mvpn_packet_free(s->config.pool, packet);
        }
    }
}

void mvpn_flow_clear(mvpn_scheduler *s, mvpn_flow *flow)
{
    mvpn_packet *packet;
    while ((packet = mvpn_flow_take(s, flow)) != NULL) {
        mvpn_packet_free(s->config.pool, packet);
    }
    leave_list(s, flow);
    *flow = (mvpn_flow){0};
}

static mvpn_flow *longest_of(mvpn_list *list, mvpn_flow *longest)
{
    MVPN_LIST_FOREACH(it, list)
    {
        mvpn_flow *flow = MVPN_CONTAINER_OF(it, mvpn_flow, link);
        if (longest == NULL || flow->bytes > longest->bytes) {
            longest = flow;
        }
    }
    return longest;
}

/* All flows together hold too much: the longest one gives up half. (RFC 8290 §4.1.3) */
static void shed(mvpn_scheduler *s)
{
    mvpn_flow *flow = longest_of(&s->old, longest_of(&s->fresh, NULL));
    for (unsigned n = MVPN_MIN(SHED_MAX, (flow->count + 1u) / 2); n > 0; n--) {
        drop_first(s, flow);
    }
}

static uint32_t flow_limit(const mvpn_scheduler *s)
{
    if (s->round_time <= MVPN_FLOW_TIME_MAX / MVPN_FLOW_PACKETS_MAX) {
        return MVPN_FLOW_PACKETS_MAX;
    }
    return (uint32_t)MVPN_MAX(MVPN_FLOW_TIME_MAX / s->round_time, (mvpn_time)MVPN_FLOW_PACKETS_MIN);
}

void mvpn_scheduler_put(mvpn_scheduler *s, mvpn_flow *flow, mvpn_packet *packet, uint32_t cost,
                        mvpn_time now)
{
    if (flow->queue.next == NULL) {
        mvpn_list_init(&flow->queue);
        mvpn_list_init(&flow->light);
    }
    if (flow->count >= flow_limit(s)) {
        drop_first(s, flow);
    }
    packet->queued = now;
    packet->cost = cost;
    bool is_light = cost <= MVPN_FLOW_LIGHT && (packet->flags & MVPN_PACKET_KEEP) == 0;
    mvpn_list_append(is_light ? &flow->light : &flow->queue, &packet->link);
    flow->count++;
    flow->bytes += cost;
    s->packets++;
    if (flow->state == FLOW_IDLE) {
        join_list(s, flow);
    }
    if (s->packets > s->config.packets_max) {
        shed(s);
    }
}

/* ---- CoDel: RFC 8289 §5 ---- */

static uint64_t root_of(uint64_t n)
{
    uint64_t root = 0;
    for (uint64_t bit = UINT64_C(1) << 62; bit != 0; bit >>= 2) {
        if (n >= root + bit) {
            n -= root + bit;
            root = (root >> 1) + bit;
        } else {
            root >>= 1;
        }
    }
    return root;
}

/*
 * A flow among many has its turn once a round: what it waits then is not its own doing, and a
 * sender sees what a drop did only after some rounds. RFC 8289 §4.4 wants target and interval to be
 * above a packet's time and a round trip; at a flow's share of the rate those are rounds.
 */
static mvpn_time target_of(const mvpn_scheduler *s)
{
    return MVPN_CODEL_TARGET + TARGET_ROUNDS * s->round_time;
}

static mvpn_time interval_of(const mvpn_scheduler *s)
{
    return MVPN_CODEL_INTERVAL + INTERVAL_ROUNDS * s->round_time;
}

/* The time to the next drop shrinks with the root of their number: throughput of TCP falls by
 * equal steps then. */
static mvpn_time next_drop(const mvpn_scheduler *s, const mvpn_flow *flow, mvpn_time from)
{
    mvpn_time interval = interval_of(s);
    return from + root_of(interval * interval / flow->drops);
}

/* Has the queue been standing for an interval? Asked of each packet after it was taken out. */
static bool stands(const mvpn_scheduler *s, mvpn_flow *flow, const mvpn_packet *packet,
                   mvpn_time now)
{
    /* With at most a cell behind it the flow is not what makes it wait: others are. */
    if (now - packet->queued < target_of(s) || flow->bytes <= MVPN_SCHEDULER_QUANTUM) {
        flow->first_above = 0;
        return false;
    }
    if (flow->first_above == 0) {
        flow->first_above = now + interval_of(s);
        return false;
    }
    return now >= flow->first_above;
}

/* Signal congestion with this packet. True: it goes on (marked, or not to be dropped). */
static bool signal_with(mvpn_scheduler *s, mvpn_packet *packet, bool *ret_is_marked)
{
    if ((packet->flags & MVPN_PACKET_KEEP) != 0) {
        return true;
    }
    if ((packet->flags & MVPN_PACKET_ECT) != 0) {
        *ret_is_marked = true;
        s->counters.marked++;
        return true;
    }
    mvpn_packet_free(s->config.pool, packet);
    s->counters.dropped_codel++;
    return false;
}

static void begin_dropping(const mvpn_scheduler *s, mvpn_flow *flow, mvpn_time now)
{
    /* Dropping ended only just now: go on about where it was. */
    uint32_t more = flow->drops - flow->drops_before;
    bool is_recent = now - flow->drop_next < 16 * interval_of(s);
    flow->is_dropping = true;
    flow->drops = is_recent && more > 1 ? more : 1;
    flow->drops_before = flow->drops;
    flow->drop_next = next_drop(s, flow, now);
}

static mvpn_packet *codel_take(mvpn_scheduler *s, mvpn_flow *flow, mvpn_time now,
                               bool *ret_is_marked)
{
    mvpn_packet *packet = mvpn_flow_take(s, flow);
    if (packet == NULL) {
        flow->is_dropping = false;
        flow->first_above = 0;
        return NULL;
    }
    if (packet->cost <= MVPN_FLOW_LIGHT && !mvpn_list_is_empty(&flow->queue)) {
        return packet; /* it went before the queue, and says nothing about it */
    }
    bool is_standing = stands(s, flow, packet, now);
    if (!flow->is_dropping) {
        if (!is_standing) {
            return packet;
        }
        begin_dropping(s, flow, now);
        return signal_with(s, packet, ret_is_marked) ? packet : mvpn_flow_take(s, flow);
    }
    while (is_standing && now >= flow->drop_next) {
        flow->drops++;
        flow->drop_next = next_drop(s, flow, flow->drop_next);
        if (signal_with(s, packet, ret_is_marked)) {
            return packet;
        }
        packet = mvpn_flow_take(s, flow); /* never NULL: more than one cell was left */
        MVPN_ASSERT(packet != NULL);
        is_standing = stands(s, flow, packet, now);
    }
    flow->is_dropping = is_standing;
    return packet;
}

/* ---- rate ---- */

static int64_t full_level(const mvpn_scheduler *s)
{
    uint64_t burst = s->config.rate * BURST_TIME / MVPN_US_PER_S;
    return (int64_t)(MVPN_MAX(burst, (uint64_t)BURST_CELLS * MVPN_SCHEDULER_QUANTUM) *
                     MVPN_US_PER_S);
}

static bool rate_allows(mvpn_scheduler *s, mvpn_time now)
{
    if (s->config.rate == 0) {
        return true;
    }
    if (now > s->updated) {
        /* More than a second fills any bucket; less cannot overflow. */
        uint64_t passed = MVPN_MIN(now - s->updated, MVPN_US_PER_S);
        s->level = MVPN_MIN(s->level + (int64_t)(passed * s->config.rate), full_level(s));
        s->updated = now;
    }
    return s->level > 0;
}

void mvpn_scheduler_charge(mvpn_scheduler *s, uint32_t bytes)
{
    if (s->config.rate > 0) {
        s->level -= (int64_t)(bytes * MVPN_US_PER_S);
    }
}

mvpn_time mvpn_scheduler_deadline(const mvpn_scheduler *s)
{
    if (s->packets == 0) {
        return MVPN_TIME_NEVER;
    }
    if (s->config.rate == 0) {
        return 0;
    }
    int64_t wanted = (int64_t)(s->config.rate * SLOT_TIME);
    wanted = MVPN_MIN(wanted, full_level(s) / 2);
    return s->level >= wanted ? 0 : s->updated + (uint64_t)(wanted - s->level) / s->config.rate + 1;
}

/* ---- rounds ---- */

/* The quantum is used: the next one is of the next round. */
static void to_old(mvpn_scheduler *s, mvpn_flow *flow, mvpn_time now)
{
    mvpn_list_remove(&flow->link);
    flow->state = FLOW_OLD;
    flow->round = s->round + 1;
    flow->deficit += MVPN_SCHEDULER_QUANTUM;
    mvpn_list_append(&s->old, &flow->link);
    if (s->runner == NULL) {
        s->runner = flow;
        s->runner_since = now;
    }
}

mvpn_time mvpn_scheduler_round(const mvpn_scheduler *s, mvpn_time now)
{
    if (s->packets == 0) {
        return 0;
    }
    return s->runner == NULL ? s->round_time : MVPN_MAX(s->round_time, now - s->runner_since);
}

static mvpn_flow *next_flow(mvpn_scheduler *s)
{
    mvpn_list *list = mvpn_list_is_empty(&s->fresh) ? &s->old : &s->fresh;
    return mvpn_list_is_empty(list) ? NULL : MVPN_CONTAINER_OF(list->next, mvpn_flow, link);
}

static mvpn_packet *take_in_turn(mvpn_scheduler *s, mvpn_time now, mvpn_flow **ret_flow,
                                 bool *ret_is_marked)
{
    mvpn_flow *flow;
    while ((flow = next_flow(s)) != NULL) {
        if (s->runner == flow) {
            s->round_time = now - s->runner_since;
            end_round(s);
        }
        if (flow->deficit <= 0) {
            to_old(s, flow, now);
            continue;
        }
        mvpn_packet *packet = codel_take(s, flow, now, ret_is_marked);
        if (packet != NULL) {
            *ret_flow = flow;
            return packet;
        }
        leave_list(s, flow);
    }
    return NULL;
}

bool mvpn_scheduler_pull(mvpn_scheduler *s, mvpn_time now, mvpn_flow **ret_flow,
                         mvpn_packet **ret_packet, bool *ret_is_marked)
{
    mvpn_flow *flow;
    bool is_marked = false;
    if (s->packets == 0 || !rate_allows(s, now)) {
        return false;
    }
    mvpn_packet *packet = take_in_turn(s, now, &flow, &is_marked);
    if (packet == NULL) {
        return false;
    }
    flow->deficit -= (int32_t)packet->cost;
    mvpn_scheduler_charge(s, packet->cost);
    *ret_flow = flow;
    *ret_packet = packet;
    *ret_is_marked = is_marked;
    return true;
}

/* ---- the oldest ---- */

static mvpn_flow *oldest_of(const mvpn_list *list, mvpn_flow *oldest)
{
    MVPN_LIST_FOREACH(it, list)
    {
        mvpn_flow *flow = MVPN_CONTAINER_OF(it, mvpn_flow, link);
        if (flow->count > 0 &&
            (oldest == NULL || mvpn_flow_oldest(flow)->queued < mvpn_flow_oldest(oldest)->queued)) {
            oldest = flow;
        }
    }
    return oldest;
}

mvpn_flow *mvpn_scheduler_oldest(const mvpn_scheduler *s)
{
    return oldest_of(&s->old, oldest_of(&s->fresh, NULL));
}
