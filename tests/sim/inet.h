/*
 * The internet behind the exits, and what runs on a client's TUN: echo servers, a resolver, a
 * reliable transfer whose every byte is checked.
 *
 * Every public address is a server: UDP and ICMP echo, and at port 9000 chunks of a file that both
 * ends can compute. A chunk asked for ("get") is sent; one stored ("put") is compared and
 * acknowledged. The client asks again for what does not come.
 */
#ifndef MVPN_SIM_INET_H
#define MVPN_SIM_INET_H

#include "sim.h"

#define INET_SERVER_V4                                                                             \
    {                                                                                              \
        93, 184, 7, 34                                                                             \
    }
#define INET_SERVER_V6                                                                             \
    {                                                                                              \
        0x2a, 0x0f, 0, 7, [15] = 0x34                                                              \
    }
#define INET_CHUNK 1200
#define INET_CHUNKS_MAX 16384

enum inet_direction {
    INET_DOWN,
    INET_UP,
};

typedef struct inet_transfer {
    enum inet_direction direction;
    uint32_t chunks;
    uint32_t window;
    mvpn_time again; /* ask anew after so long */
    uint32_t base, next, done;
    mvpn_time *asked;
    bool *has;
    uint64_t requests, repeated;
    mvpn_time began, ended;
    bool is_over;
} inet_transfer;

/** A host behind a client's TUN. */
typedef struct inet_host {
    uint64_t packets, altered, icmp_errors;
    uint32_t token; /* of the echo awaited */
    bool has_echo;
    size_t echo_len;
    uint8_t dns_answer[4];
    bool has_dns;
    bool has_too_big;
    inet_transfer transfer;
} inet_host;

/** Become the client's TUN. Free with inet_host_free. */
void inet_host_attach(inet_host *host, sim_node *client);
void inet_host_done(inet_host *host);

/** UDP echo with a whole IP packet of `size` bytes; false without an answer in time. */
bool inet_echo(sim_node *client, unsigned version, size_t size, mvpn_time span);
/** Send one only. */
void inet_echo_send(sim_node *client, unsigned version, size_t size, uint32_t token);
bool inet_ping(sim_node *client, unsigned version, size_t size, mvpn_time span);
bool inet_resolve(sim_node *client, mvpn_time span);

/** Begin a transfer of `bytes` with so many chunks under way. */
void inet_transfer_start(sim_node *client, enum inet_direction direction, size_t bytes,
                         uint32_t window);
/** Run it to its end: true if every byte arrived, unaltered. */
bool inet_transfer_run(sim_node *client, enum inet_direction direction, size_t bytes,
                       uint32_t window, mvpn_time span);

/* From the simulator. */
void inet_from_exit(sim_node *exit, const uint8_t *packet, size_t len);
void inet_from_resolver_socket(sim_node *exit, const mvpn_addr *resolver, const uint8_t *query,
                               size_t len);

#endif
