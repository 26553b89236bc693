/*
 * A deterministic simulator: whole networks of real engines in one process, in virtual time.
 *
 * A world holds nodes (relays, exits, clients as mvpn_engine, and puppets: links alone, driven by
 * the test) and the packets under way between them. Everything follows from one seed. Time jumps
 * from one event to the next: the arrival of a datagram, an answer of the internet behind an exit,
 * a call of the test's own, or a deadline of an engine.
 *
 *   client --datagrams--> [tap] [path: delay, loss, ...] --> relays --> exit --tun_out--> internet
 *
 * A node may stand behind NATs (nat.h): its address is then one of a LAN, every datagram of its is
 * translated on the way out, before the tap, and on the way in when it arrives.
 *
 *   host 192.168.1.2 -- box -- [carrier's box --] [tap] [path] --> ...
 */
#ifndef MVPN_SIM_SIM_H
#define MVPN_SIM_SIM_H

#include "core/engine.h"
#include "nat.h"

/* Nodes of a world, and addresses of a node: the largest scenario has a dozen relays and a few
 * hundred clients. */
#define SIM_NODES 512
#define SIM_ADDRESSES 2
#define SIM_NATS SIM_NODES
#define SIM_UNIX 1800000000 /* Unix time at the world's beginning */
#define SIM_START MVPN_S(1000)
#define SIM_DATAGRAM_MAX 1536
/* A node's further sockets (MVPN_LOCAL_PROBE and up): number L has this port and L, the one for
 * probes another one each time it is opened. */
#define SIM_PROBE_PORT 50000
#define SIM_FURTHER_PORT 40000
#define SIM_LOCALS (MVPN_LOCAL_PUNCH + MVPN_LOCAL_PUNCH_MAX)

typedef struct sim sim;
typedef struct sim_node sim_node;

enum sim_kind {
    SIM_RELAY,
    SIM_EXIT,
    SIM_CLIENT,
    SIM_PUPPET,    /* links without an engine, as a client's */
    SIM_BOOTSTRAP, /* a relay without circuits: DHT server and directory */
    SIM_HOST,      /* bare datagrams, at any port: the test is its program */
};

/** What a path does to datagrams; probabilities in parts per million. */
typedef struct sim_path {
    mvpn_time delay;
    mvpn_time jitter;        /* added uniformly: reorders where it exceeds the spacing */
    mvpn_time reorder_delay; /* added to those that fall behind */
    uint32_t loss, reorder, duplicate, corrupt;
    size_t mtu; /* larger datagrams vanish without a word; 0: no limit */
    bool is_cut;
} sim_path;

typedef struct sim_datagram {
    mvpn_addr from, to;
    uint8_t flags; /* MVPN_PACKET_* */
    size_t len;
    uint8_t bytes[SIM_DATAGRAM_MAX];
} sim_datagram;

struct sim_node {
    sim *world;
    size_t index;
    enum sim_kind kind;
    char name[MVPN_NAME_MAX + 1];
    mvpn_addr addr[SIM_ADDRESSES]; /* IPv4, and IPv6 for relays and hosts */
    size_t addr_count;
    bool has_socket[SIM_LOCALS]; /* further ones that are open */
    uint16_t probe_port;
    size_t socket_count;
    nat_box *nat; /* it stands behind; NULL: on the internet */

    /* Keys stay over restarts, as on a disk. */
    mvpn_ed25519_secret secret;
    mvpn_descriptor descriptor; /* relays and exits */
    mvpn_engine_config config;  /* may be altered before sim_start */
    mvpn_client_config client;  /* likewise */
    mvpn_exit_config exit;      /* likewise */

    mvpn_engine *engine; /* NULL while stopped; puppets have the next four instead */
    mvpn_links *links;
    mvpn_aead *aead;
    mvpn_rng rng;
    mvpn_packet_pool pool;
    mvpn_trust trust;
    mvpn_view *view;

    mvpn_time deadline;
    bool is_due;
    uint64_t sent, sent_bytes, received, received_bytes; /* datagrams */
    unsigned starts;

    /** IP packets for a client's TUN. */
    void (*on_tun)(sim_node *node, const uint8_t *packet, size_t len);
    /** Messages and closed links of a puppet; the packet is the puppet's pool's. */
    void (*on_message)(sim_node *node, mvpn_link *link, const mvpn_header *header,
                       mvpn_packet *packet);
    void (*on_closed)(sim_node *node, mvpn_link *link);
    /** After each turn of an engine, before what it sends is collected. */
    void (*on_turn)(sim_node *node);
    /** Sees each datagram that an engine or a puppet is given. */
    void (*on_arrival)(sim_node *node, const mvpn_packet *packet);
    /** What reaches a SIM_HOST, at which of its addresses and ports. */
    void (*on_datagram)(sim_node *host, const mvpn_addr *from, const mvpn_addr *to,
                        const uint8_t *bytes, size_t len);
    void *user;

    /* Events of a client. */
    unsigned connected, disconnected, build_failed, blocked, switched, sessions_lost;
    unsigned switched_hop; /* the last one that was silent; 0: none */
    mvpn_time connected_at;
    mvpn_client_event last_failure;
};

struct sim {
    uint64_t seed;
    mvpn_time now;
    mvpn_rng rng;
    sim_node *node[SIM_NODES];
    size_t node_count;
    sim_path path;                             /* of all pairs without one of their own */
    sim_path *own_path[SIM_NODES * SIM_NODES]; /* from * SIM_NODES + to; NULL: the default */

    bool is_closed;
    mvpn_ed25519_pub network_pub;
    mvpn_ed25519_secret network_secret_key;
    mvpn_key network_id;
    mvpn_key network_secret;

    nat_box *nat[SIM_NATS]; /* freed with the world */
    size_t nat_count;

    struct sim_event **heap;
    size_t heap_count, heap_size;
    uint64_t order;
    /* Nodes find each other by the DHT and begin with these; else all know all. */
    bool finds;
    mvpn_dht_contact entries[8];
    size_t entry_count;
    mvpn_time inet_delay; /* from an exit to the internet and back */

    /** Sees (and may alter) every datagram that a node sends; false: it is lost. */
    bool (*tap)(sim *world, sim_node *from, sim_node *to, sim_datagram *d);
    /** Sees every packet leaving an exit's TUN; true: it was dealt with, no answer is made. */
    bool (*internet)(sim *world, sim_node *exit, const uint8_t *packet, size_t len);
    void *user;

    uint64_t trace; /* hash of all datagrams so far: time, ends, bytes */
    uint64_t datagrams, lost, steps;
    uint64_t to_nobody;                  /* datagrams to addresses without a node */
    uint64_t kept_in, kept_out;          /* datagrams that NATs dropped, from inside and to it */
    uint64_t inet_packets, inet_altered; /* at the servers; altered: not as a client made them */
    uint8_t inet_src[16];                /* of the latest packet there */
};

/** The node whose code runs at this moment; for wrapped functions. */
extern sim_node *sim_current;
/** The world of that node's time. */
extern mvpn_time sim_current_time;

sim *sim_new(uint64_t seed);
void sim_free(sim *w);

/** Add a node with fresh keys and addresses in a /16 of its own; it does not run yet. */
sim_node *sim_add(sim *w, enum sim_kind kind);
/** Begin to run, with all relays of the world in its view, and a generator of its own. */
void sim_start(sim_node *n);
/** Let nodes begin with this one, once it has its address: an entry of the network file. */
void sim_add_entry(sim *w, const sim_node *n);
/** Stop: orderly, with a word to the peers, or as if the power failed. */
void sim_stop(sim_node *n, bool is_orderly);
/** A node's address changes to another on the internet (a client behind a new NAT binding): it does
 * not notice. */
void sim_move(sim_node *n, const mvpn_addr *addr);
/** A running node notices that its addresses are others: told as io tells. */
void sim_network_changed(sim_node *n);

/** A NAT with an address in a /16 of its own, or an address of `outer`'s inside: a carrier's
 * customer. */
nat_box *sim_add_nat(sim *w, const nat_config *config, nat_box *outer);
/** The boxes of a home by the type's name in tests/netns/nat.sh, the innermost: double and
 * doublesym are two, public is NULL. */
nat_box *sim_add_home(sim *w, const char *type);
/**
 * The node's only address is now one of this box's inside: 192.168.1.2 and up in every home, at its
 * port; behind a firewall (v6only) a global IPv6 address. Before it runs, or while: it moves (and
 * notices by sim_network_changed alone). A
 * relay's descriptor and own addresses are not changed: what it should say of itself is its matter.
 */
void sim_put_behind(sim_node *n, nat_box *box);

/** `relays` relays and `exits` exits, started, and one client with so many hops, not yet started:
 * the last node. */
sim *sim_standard(uint64_t seed, size_t relays, size_t exits, unsigned hops);
/** The client of sim_standard. */
sim_node *sim_client(const sim *w);
/** Fix the client's path to these nodes, guard first. */
void sim_fix_path(sim_node *client, sim_node *const *hops, size_t count);

/** The path from one node to another, to be altered; a copy of the default at first. */
sim_path *sim_path_between(sim *w, const sim_node *from, const sim_node *to);
/** Both ways. */
void sim_cut(sim *w, const sim_node *a, const sim_node *b, bool is_cut);

/** Put a datagram on its way as if `d->from` had sent it: no tap, no path but this delay. */
void sim_inject(sim *w, const sim_datagram *d, mvpn_time delay);
/** A SIM_HOST sends from this port of its address of the family. */
void sim_host_send(sim_node *host, uint16_t port, const mvpn_addr *to, const uint8_t *bytes,
                   size_t len);
/** Hand an IP packet to a node's TUN (a client's, or an exit's from the internet). */
void sim_tun_in(sim_node *n, const uint8_t *packet, size_t len, mvpn_time delay);
/** The same to a lane of a client's: its isolation group of that number. */
void sim_lane_in(sim_node *n, unsigned lane, const uint8_t *packet, size_t len, mvpn_time delay);
/** Hand a datagram to an exit's DNS socket. */
void sim_dns_in(sim_node *n, const mvpn_addr *from, const uint8_t *bytes, size_t len,
                mvpn_time delay);
/** Call a function of the test later. */
void sim_call(sim *w, mvpn_time delay, void (*fn)(sim *w, void *arg), void *arg);
/** The node's state was changed from outside: collect what it sends, give it a turn. */
void sim_touch(sim_node *n);

/** Run until `until`. */
void sim_run(sim *w, mvpn_time until);
void sim_for(sim *w, mvpn_time span);
/** Run until `is_done`, at most for `span`; false if it was not. */
bool sim_run_until(sim *w, bool (*is_done)(sim *w, void *arg), void *arg, mvpn_time span);
/** Run until the client has a session. */
bool sim_connect(sim_node *client, mvpn_time span);

/** The node with this address on the internet; not behind a NAT. */
sim_node *sim_find(const sim *w, const mvpn_addr *addr);
sim_node *sim_find_identity(const sim *w, const mvpn_ed25519_pub *identity);
/** The node at a hop (1 = guard) of the client's circuit in use; NULL if there is none. */
sim_node *sim_hop(const sim_node *client, unsigned hop);
void sim_status(const sim_node *client, mvpn_client_status *ret);
size_t sim_circuits(const sim_node *relay);
size_t sim_links(const sim_node *n);
/** Packets of the node's pool that are in use. */
size_t sim_packets_in_use(const sim_node *n);
/** Relays' circuits, all together. */
size_t sim_circuits_total(const sim *w);

#endif
