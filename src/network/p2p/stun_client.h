/*
 * The STUN client: what address the world sees, and how the NATs before us behave. (RFC 8489,
 * RFC 5780 §4; RFC 4787 for the terms) Sans-IO: io/stun_probe has the sockets.
 *
 * Two sockets of one address family, neither of which has spoken before:
 *
 *   BASE      both ask each of the servers: the first that answers is used from here on (A1:P1), it
 *             names its alternate A2:P2
 *   BEHAVE    socket 0 asks A1:P1 to answer from A2:P2 and from A1:P2 (filtering), while socket 1
 *             asks A1:P2, then A2:P1, then A2:P2 itself (mapping, and which ports it gets)
 *   HAIRPIN   the sockets send to each other's mapped address
 *   DONE
 *
 * Without an alternate BEHAVE is left out. The order matters: a packet of socket 0 to A2 would open
 * the filter that is to be measured.
 *
 * An answer counts if its transaction id is one of ours that is waiting (96 random bits), it came
 * to the socket that asked, and from exactly the address that was asked, or was told to answer.
 * What a server says can be wrong all the same: the result is evidence, and everything that matters
 * is proven again inside links.
 */
#ifndef MVPN_NETWORK_P2P_STUN_CLIENT_H
#define MVPN_NETWORK_P2P_STUN_CLIENT_H

#include "base/time.h"
#include "crypto/rng.h"
#include "wire/stun.h"

#define MVPN_STUN_CLIENT_SOCKETS 2
#define MVPN_STUN_SERVERS_MAX 4
/* Every request has this length: longer than any answer (124), so that servers that never send more
 * than they got have room. */
#define MVPN_STUN_REQUEST_LEN 128

/* RFC 8489 §6.2.1: RTO 500 ms, doubling; 7 requests; a last wait of 16 RTO: 39.5 s. */
#define MVPN_STUN_RTO MVPN_MS(500)
#define MVPN_STUN_RC 7
#define MVPN_STUN_RM 16
/* For a person who waits: a lost answer costs 100 ms, silence is believed after 0.9 s. Paths
 * longer than that are measured as silent, and a loss of 20 % makes 1 in 3,000 of a silence. */
#define MVPN_STUN_QUICK_RTO MVPN_MS(100)
#define MVPN_STUN_QUICK_RC 4
#define MVPN_STUN_QUICK_RM 2

enum mvpn_stun_mapping {
    MVPN_STUN_MAPPING_UNKNOWN,
    MVPN_STUN_MAPPING_ENDPOINT_INDEPENDENT,
    MVPN_STUN_MAPPING_ADDRESS_DEPENDENT,
    MVPN_STUN_MAPPING_ADDRESS_AND_PORT_DEPENDENT,
};

enum mvpn_stun_filtering {
    MVPN_STUN_FILTERING_UNKNOWN,
    MVPN_STUN_FILTERING_ENDPOINT_INDEPENDENT,
    MVPN_STUN_FILTERING_ADDRESS_DEPENDENT,
    MVPN_STUN_FILTERING_ADDRESS_AND_PORT_DEPENDENT,
};

enum mvpn_stun_hairpin {
    MVPN_STUN_HAIRPIN_UNKNOWN,
    MVPN_STUN_HAIRPIN_NO,
    MVPN_STUN_HAIRPIN_YES,
};

/* How the NAT chooses the external port of a new mapping. */
enum mvpn_stun_ports {
    MVPN_STUN_PORTS_UNKNOWN,
    MVPN_STUN_PORTS_PRESERVING, /* the port that the host uses */
    MVPN_STUN_PORTS_SEQUENTIAL, /* by `port_step` from the last */
    MVPN_STUN_PORTS_RANDOM,
};

/* design.md §7: the names that are shown. */
enum mvpn_stun_nat {
    MVPN_STUN_NAT_UNKNOWN,
    MVPN_STUN_NAT_UDP_BLOCKED, /* no server answered */
    MVPN_STUN_NAT_NONE,
    MVPN_STUN_NAT_FULL_CONE,
    MVPN_STUN_NAT_RESTRICTED,
    MVPN_STUN_NAT_PORT_RESTRICTED,
    MVPN_STUN_NAT_SYMMETRIC,
};

typedef struct mvpn_stun_result {
    /**
     * The verdict, careful where something is not known: an endpoint-independent mapping whose
     * filtering could not be measured is "port-restricted", one mapping that is not the same for
     * all is "symmetric".
     */
    enum mvpn_stun_nat nat;
    enum mvpn_stun_mapping mapping;
    enum mvpn_stun_filtering filtering;
    enum mvpn_stun_hairpin hairpin;
    enum mvpn_stun_ports ports;
    int port_step;                              /* of SEQUENTIAL; may be negative */
    bool has_address;                           /* `mapped` is set */
    bool has_alg;                               /* something on the way rewrites addresses */
    mvpn_addr server;                           /* that answered; family 0: none */
    mvpn_addr mapped[MVPN_STUN_CLIENT_SOCKETS]; /* what the server saw of the sockets */
    mvpn_time rtt;                              /* to the server; 0 = not measured */
    uint64_t forged;                            /* datagrams that were no answers to us */
} mvpn_stun_result;

typedef struct mvpn_stun_client_config {
    mvpn_addr servers[MVPN_STUN_SERVERS_MAX]; /* of one family */
    size_t server_count;                      /* 1.. */
    /* The sockets' own addresses; the ip may be zero if it is not known (then "no NAT" is never
     * said). */
    mvpn_addr local[MVPN_STUN_CLIENT_SOCKETS];
    mvpn_time rto;
    unsigned rc;
    unsigned rm;
    bool address_only; /* end after BASE */
} mvpn_stun_client_config;

typedef struct mvpn_stun_datagram {
    unsigned socket;
    mvpn_addr to;
    uint8_t bytes[MVPN_STUN_REQUEST_LEN];
    size_t length;
} mvpn_stun_datagram;

typedef struct mvpn_stun_client mvpn_stun_client;

/** `rng` is borrowed until the end. MVPN_E_INVAL: the configuration; MVPN_E_NOMEM. */
MVPN_WUR int mvpn_stun_client_new(mvpn_stun_client **ret, const mvpn_stun_client_config *config,
                                  mvpn_rng *rng, mvpn_time now);
/** NULL is allowed. */
void mvpn_stun_client_free(mvpn_stun_client *c);

/**
 * One datagram that came to `socket`. Returns 0 if it was an answer, or the hairpinned packet, that
 * is waited for; else (drop) MVPN_E_FORMAT, or MVPN_E_STATE: nothing that we asked for, or not from
 * whom.
 */
MVPN_WUR int mvpn_stun_client_recv(mvpn_stun_client *c, unsigned socket, const mvpn_addr *from,
                                   mvpn_bytes in, mvpn_time now);
/** All timers due at or before now. */
void mvpn_stun_client_tick(mvpn_stun_client *c, mvpn_time now);
/** MVPN_TIME_NEVER when done. */
mvpn_time mvpn_stun_client_deadline(const mvpn_stun_client *c);
/** Drain until false, after each of the calls above. */
bool mvpn_stun_client_pull(mvpn_stun_client *c, mvpn_stun_datagram *ret);
bool mvpn_stun_client_is_done(const mvpn_stun_client *c);
/** What is known; the verdict is there when it is done. */
const mvpn_stun_result *mvpn_stun_client_result(const mvpn_stun_client *c);

/* Words for people and for JSON; never NULL. */
const char *mvpn_stun_nat_name(enum mvpn_stun_nat nat);
const char *mvpn_stun_mapping_name(enum mvpn_stun_mapping mapping);
const char *mvpn_stun_filtering_name(enum mvpn_stun_filtering filtering);
const char *mvpn_stun_hairpin_name(enum mvpn_stun_hairpin hairpin);
const char *mvpn_stun_ports_name(enum mvpn_stun_ports ports);

#endif
