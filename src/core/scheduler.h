/*
 * Which packet leaves next: fair shares between flows (a circuit's two directions), short queues in
 * each, and the rate of the whole. Pure: packets and time in, packets out. (docs/protocol.md §6.5)
 *
 *   - Deficit round robin with a quantum of one full cell. A flow that had nothing waiting comes
 *     first as long as it has not used its quantum of this round: a ping is not behind others'
 * bulk, and nobody gains by coming in small portions. (As fq_codel, RFC 8290 §4, in which such a
 * flow is first once and then waits for a round, used up or not.)
 *   - Small packets of a flow go before its large ones: a transfer does not hold up what is
 *     interactive in the same circuit, nor the questions whether the circuit lives. Not before its
 *     turn: those questions would then never see how long a turn takes, and be asked too often.
 *   - CoDel in each flow (RFC 8289): a queue that stands for 100 ms at more than 5 ms loses packets
 *     from its head, or has them marked, until it is short.
 *   - A token bucket over all (0: no limit).
 *
 *   IDLE --put--> FRESH --quantum used--> OLD --quantum used--> OLD ...
 *     ^--- empty ---'--------- empty ------'
 */
#ifndef MVPN_CORE_SCHEDULER_H
#define MVPN_CORE_SCHEDULER_H

#include "base/packet.h"
#include "base/time.h"

/* Packets of one flow: at 1,500 bytes and 100 Mbit/s half of CoDel's interval. */
#define MVPN_FLOW_PACKETS_MAX 256
/* Fewer, but not below this, when a flow has so seldom a turn that they would wait longer. */
#define MVPN_FLOW_PACKETS_MIN 8
#define MVPN_FLOW_TIME_MAX MVPN_S(2)
/* Packets that cost no more are small: a cell of class small. */
#define MVPN_FLOW_LIGHT 300
/* What one flow may send before the next one's turn: one full cell and what it travels in. */
#define MVPN_SCHEDULER_QUANTUM 1500
/* RFC 8289 §4.3, §4.4 */
#define MVPN_CODEL_TARGET MVPN_MS(5)
#define MVPN_CODEL_INTERVAL MVPN_MS(100)

/** One queue. All zero: empty; needs no end if it is empty. */
typedef struct mvpn_flow {
    mvpn_list link;  /* in fresh or old of the scheduler */
    mvpn_list queue; /* packets; next NULL: never used */
    mvpn_list light; /* small ones */
    uint32_t bytes;  /* of them */
    uint16_t count;
    uint8_t state;
    bool is_dropping; /* CoDel's state from here */
    int32_t deficit;  /* what it may still send in `round` */
    uint32_t round;   /* in which it got its quantum */
    uint32_t drops, drops_before;
    mvpn_time first_above; /* when it will have been above the target for an interval; 0: is not */
    mvpn_time drop_next;
} mvpn_flow;

typedef struct mvpn_scheduler_config {
    mvpn_packet_pool *pool; /* borrowed: packets that are dropped go back there */
    uint64_t rate;          /* bytes per second; 0: no limit */
    uint32_t packets_max;   /* of all flows; beyond, the longest loses */
} mvpn_scheduler_config;

typedef struct mvpn_scheduler_counters {
    uint64_t dropped_codel, dropped_full, marked;
} mvpn_scheduler_counters;

typedef struct mvpn_scheduler {
    mvpn_scheduler_config config;
    mvpn_list fresh, old;
    uint32_t packets;
    uint32_t flows; /* in fresh or old */
    int64_t level;  /* of the token bucket: millionths of a byte */
    mvpn_time updated;
    /* A flow that measures how long a round takes: since when it waits for its next turn. */
    mvpn_flow *runner;
    mvpn_time runner_since;
    mvpn_time round_time; /* of the last one */
    uint32_t round;       /* number of the one in hand */
    mvpn_scheduler_counters counters;
} mvpn_scheduler;

void mvpn_scheduler_init(mvpn_scheduler *s, const mvpn_scheduler_config *config, mvpn_time now);

/**
 * Put a packet into a flow (taken); it counts for `cost` bytes, those that it will be on the wire.
 * A flow that is full loses its oldest packet: its sender hears of it soonest. Packet flags:
 * MVPN_PACKET_KEEP is not dropped by CoDel and stays behind what came before, MVPN_PACKET_ECT is
 * marked.
 */
void mvpn_scheduler_put(mvpn_scheduler *s, mvpn_flow *flow, mvpn_packet *packet, uint32_t cost,
                        mvpn_time now);

/**
 * The next packet, if there is one and the rate allows it now: it is the caller's. With
 * `*ret_is_marked` the caller has to mark it: it passed a queue that stands.
 */
bool mvpn_scheduler_pull(mvpn_scheduler *s, mvpn_time now, mvpn_flow **ret_flow,
                         mvpn_packet **ret_packet, bool *ret_is_marked);

/** Something else of `bytes` was sent: it counts for the rate. */
void mvpn_scheduler_charge(mvpn_scheduler *s, uint32_t bytes);

/** When pull is worth calling: 0 now, MVPN_TIME_NEVER with nothing queued. */
mvpn_time mvpn_scheduler_deadline(const mvpn_scheduler *s);

/** How long a flow waits from turn to turn; 0: not at all. */
mvpn_time mvpn_scheduler_round(const mvpn_scheduler *s, mvpn_time now);

/** The flow whose first packet has waited longest, or NULL. Looks at all flows. */
mvpn_flow *mvpn_scheduler_oldest(const mvpn_scheduler *s);

/** The packet of a flow that is not empty that has waited longest; it stays there. */
const mvpn_packet *mvpn_flow_oldest(const mvpn_flow *flow);

/** The flow's first packet, out of turn and whatever the rate; NULL if it has none. */
mvpn_packet *mvpn_flow_take(mvpn_scheduler *s, mvpn_flow *flow);

/** Drop the flow's large packets but those to be kept. */
void mvpn_flow_drop_large(mvpn_scheduler *s, mvpn_flow *flow);

/** Give back what the flow holds and forget it. */
void mvpn_flow_clear(mvpn_scheduler *s, mvpn_flow *flow);

#endif
