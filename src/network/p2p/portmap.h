/*
 * Get a UDP port of the home gateway and keep it: PCP (RFC 6887) first, NAT-PMP (RFC 6886) if the
 * gateway knows no better. Sans-IO; driven by io/portmapper, which owns the socket.
 *
 *             init                  answer             half of the lifetime,
 *               |                     |                gateway restarted
 *               v                     v               +---------+
 *     +---> ASKING (PCP, NAT-PMP) --------> MAPPED <--+         |
 *     |         | refused, silent,           |  ^               |
 *     |         v nonsense                   |  +--- renewed ---+
 *     +----- RESTING <--- lost (expired) ----+
 *      5 min .. 1 h                                 close: DELETING -> CLOSED
 *
 * Whoever sits on the home network can pretend to be the gateway if it can send from its address;
 * others cannot: answers count only from the gateway's address and port, PCP's with our nonce.
 * Announcements, which anybody there can forge, only make us ask, at most once in 10 s.
 */
#ifndef MVPN_NETWORK_P2P_PORTMAP_H
#define MVPN_NETWORK_P2P_PORTMAP_H

#include "base/time.h"
#include "crypto/rng.h"
#include "wire/portmap.h"

/* What we ask for: short enough that a node that died blocks a port for no longer than this. */
#define MVPN_PORTMAP_LIFETIME_S 3600u
/* What is believed of an answer: RFC 6887 §15 lets a gateway give up to a day and more. */
#define MVPN_PORTMAP_LIFETIME_MAX_S 7200u
/* Below it, renewals would be a burden for nothing. */
#define MVPN_PORTMAP_LIFETIME_MIN_S 30u

#define MVPN_PORTMAP_EVENTS_MAX 4

enum mvpn_portmap_protocol {
    MVPN_PORTMAP_PCP,
    MVPN_PORTMAP_NATPMP,
    MVPN_PORTMAP_UPNP, /* not made here: io/upnp */
};

typedef struct mvpn_portmap_mapping {
    enum mvpn_portmap_protocol protocol;
    mvpn_addr external; /* public, with its port */
    uint32_t lifetime_s;
} mvpn_portmap_mapping;

enum mvpn_portmap_event_type {
    MVPN_PORTMAP_MAPPED,  /* `mapping` */
    MVPN_PORTMAP_CHANGED, /* `mapping` takes the place of the last one */
    MVPN_PORTMAP_LOST,    /* `mapping` is over; `why` */
    MVPN_PORTMAP_FAILED,  /* no mapping now, asked again later; `why` */
};

typedef struct mvpn_portmap_event {
    enum mvpn_portmap_event_type type;
    mvpn_portmap_mapping mapping;
    const char *why; /* static */
} mvpn_portmap_event;

typedef struct mvpn_portmap_config {
    mvpn_rng *rng;     /* borrowed */
    mvpn_addr gateway; /* IPv4; the port is not used */
    mvpn_addr client;  /* our address towards it */
    uint16_t internal_port;
} mvpn_portmap_config;

/* The fields are private. */
typedef struct mvpn_portmap {
    mvpn_portmap_config cfg;
    int state;
    enum mvpn_portmap_protocol protocol;
    /* The question under way. */
    int question;
    unsigned tries;
    mvpn_time interval;
    mvpn_time send_at;
    bool has_asked; /* for a port, since it was last deleted or refused */
    uint8_t nonce[MVPN_PCP_NONCE_LEN];
    /* What we have. */
    bool has_mapping;
    bool is_doubtful; /* the gateway has forgotten it */
    mvpn_portmap_mapping mapping;
    mvpn_addr natpmp_ip; /* of the last answer */
    mvpn_time renew_at, check_at, expires_at;
    mvpn_time forced_at; /* last renewal that an announcement made */
    bool was_forced;
    /* The gateway's clock. */
    uint32_t epoch_s;
    mvpn_time epoch_at;
    unsigned failures;
    mvpn_time retry_at;
    uint8_t out[MVPN_PORTMAP_REQUEST_MAX];
    size_t out_len;
    mvpn_portmap_event events[MVPN_PORTMAP_EVENTS_MAX];
    unsigned event_count;
} mvpn_portmap;

/** Begin to ask. A new gateway or address of ours needs a new machine. */
void mvpn_portmap_init(mvpn_portmap *m, const mvpn_portmap_config *config, mvpn_time now);

/**
 * Take a datagram that came to the asking socket, or an announcement.
 * Returns 0; MVPN_E_STATE (drop): not from the gateway, not to a question of ours, a wrong nonce;
 * MVPN_E_FORMAT (drop).
 */
int mvpn_portmap_recv(mvpn_portmap *m, const mvpn_addr *from, mvpn_bytes in, mvpn_time now);

/** The gateway's host says that nothing listens there (ICMP). */
void mvpn_portmap_refused(mvpn_portmap *m, mvpn_time now);

void mvpn_portmap_tick(mvpn_portmap *m, mvpn_time now);
/** MVPN_TIME_NEVER once closed. */
mvpn_time mvpn_portmap_deadline(const mvpn_portmap *m);

/** The next datagram to the gateway's port MVPN_PORTMAP_PORT; 0 if there is none. */
size_t mvpn_portmap_pull_packet(mvpn_portmap *m, uint8_t out[static MVPN_PORTMAP_REQUEST_MAX]);
bool mvpn_portmap_pull_event(mvpn_portmap *m, mvpn_portmap_event *ret);

/** Delete the mapping: takes at most 2 s of ticks. */
void mvpn_portmap_close(mvpn_portmap *m, mvpn_time now);
bool mvpn_portmap_is_closed(const mvpn_portmap *m);

/** True, and `*ret` (may be NULL) set, while there is a mapping. */
bool mvpn_portmap_get(const mvpn_portmap *m, mvpn_portmap_mapping *ret);

/**
 * NULL if `external` can be published as ours, else why not, in words (static). Also of what UPnP
 * says.
 */
const char *mvpn_portmap_refusal(const mvpn_addr *external, const mvpn_addr *client);
/** "PCP", "NAT-PMP" or "UPnP". */
const char *mvpn_portmap_protocol_name(enum mvpn_portmap_protocol protocol);

#endif
