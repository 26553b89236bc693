/*
 * The client engine: keeps one circuit in use and a spare one behind another guard, and carries the
 * TUN's packets through it; sessions at exits outlive the circuits. Sans-IO. (docs/protocol.md §7)
 */
#ifndef MVPN_CORE_CLIENT_H
#define MVPN_CORE_CLIENT_H

#include "core/circuit.h"
#include "core/client_stage.h"
#include "core/learner.h"
#include "core/guard.h"
#include "core/path.h"

typedef struct mvpn_client mvpn_client;

typedef struct mvpn_client_config {
    mvpn_circuit_env env; /* pointers borrowed */
    /* Fills the view, and says when paths may be drawn from it; NULL: the view is as it is. */
    mvpn_learner *learner;
    unsigned hops;  /* 1..5 */
    unsigned relax; /* MVPN_RELAX_* of the network file */
    bool allow_private;
    mvpn_path_countries exit_countries;
    mvpn_path_country_of *country_of; /* or NULL: no table of addresses at hand */
    const void *country_ctx;
    uint16_t exit_ports[MVPN_PATH_PORTS_MAX]; /* that the exit must accept */
    size_t exit_port_count;
    uint8_t exit_family;          /* 4, 6: that the exit must carry; 0: any */
    uint32_t exit_min_kbit;       /* 0: any */
    mvpn_bytes guards;            /* as mvpn_client_guards_save wrote them; borrowed during _new */
    mvpn_path fixed_path;         /* count > 0: this path only, and no spare */
    mvpn_exit_choice exit_choice; /* as mvpn_client_set_exit_choice; not with a fixed path */
    /* 0: the defaults of docs/protocol.md §7. */
    uint64_t rotate_bytes;   /* a fresh circuit over the same path after so many, +- 25 % */
    mvpn_time rotate_pause;  /* but not sooner after the last; with rotate_bytes 0 means none */
    mvpn_time renew_time;    /* and one with new middles */
    mvpn_time exit_lifetime; /* a new session after that */
    int64_t unix_offset_us;
    size_t flows_max;  /* 0: MVPN_FLOWS_MAX */
    mvpn_time started; /* when the program began to set up its host; 0: now */
    bool asks_names;   /* whether the exit resolves is asked after connecting (client_stage.h) */
    bool has_check;    /* somebody tests what protects the host, and tells: mvpn_client_checked */
    /* The TUN's own addresses, where they differ from the constant inner ones; family 0: the
     * constants. */
    mvpn_addr tun_v4, tun_v6;
    mvpn_addr gateway_v4; /* likewise of the gateway */
} mvpn_client_config;

enum mvpn_client_state {
    MVPN_CLIENT_CONNECTING,
    MVPN_CLIENT_CONNECTED,
};

enum mvpn_client_event_type {
    MVPN_CLIENT_EVENT_CONNECTED,
    MVPN_CLIENT_EVENT_DISCONNECTED, /* no session: packets wait or are dropped */
    MVPN_CLIENT_EVENT_BUILD_FAILED, /* one attempt failed; another follows */
    MVPN_CLIENT_EVENT_BLOCKED,      /* no path can be drawn; see `block` */
    MVPN_CLIENT_EVENT_SWITCHED,     /* the circuit failed; another takes the session over */
    MVPN_CLIENT_EVENT_SESSION_LOST, /* the exit has gone, or forgot us: connections are reset */
    MVPN_CLIENT_EVENT_STAGE,        /* mvpn_client_stages would tell something new */
};

typedef struct mvpn_client_event {
    enum mvpn_client_event_type type;
    int error;              /* BUILD_FAILED, DISCONNECTED */
    uint8_t reason;         /* mvpn_reason */
    unsigned hop;           /* BUILD_FAILED, SWITCHED: hop to blame, 1 = guard; 0 = none */
    mvpn_ed25519_pub relay; /* BUILD_FAILED with a hop */
    enum mvpn_path_block block;
} mvpn_client_event;

typedef struct mvpn_client_status {
    enum mvpn_client_state state;
    mvpn_time since;
    mvpn_path path; /* of the circuit in use; count 0 if there is none */
    bool has_spare;
    mvpn_path spare_path;
    uint64_t build_us; /* of the circuit in use */
    uint32_t rtt_us;   /* to the exit; 0 = not measured */
    bool has_ipv6;
    enum mvpn_path_block block; /* why no path can be drawn, if so */
    uint64_t packets_up, packets_down, bytes_up, bytes_down, dropped;
    uint64_t builds, build_failures;
    uint64_t switches;      /* circuits that failed under a session */
    uint64_t takeovers;     /* sessions taken over by another circuit, for any reason */
    uint64_t rotations;     /* of them, from one that worked */
    uint64_t sessions_lost; /* with their connections */
    mvpn_time session_since, session_expires; /* 0: there is none */
    uint32_t flows;                           /* open ones, of the current session */
    bool is_leaving;                          /* its exit is not what was chosen since */
    bool is_draining;                         /* an older session keeps its open flows */
    uint32_t draining_flows;
} mvpn_client_status;

MVPN_WUR int mvpn_client_new(const mvpn_client_config *config, mvpn_time now, mvpn_client **ret);

/* Clients beside one. */
#define MVPN_CLIENT_BESIDE_MAX 8
/**
 * Another client of the same person beside `first`: with circuits, sessions and flows of its own,
 * by other exits than the others as far as there are some, but behind the same guards, since more
 * of them would see more of the person. It learns nothing, asks nobody, and lives as long as
 * `first` at the most. `tun_v4` and `tun_v6` are its addresses on this host. MVPN_E_LIMIT,
 * MVPN_E_NOMEM.
 */
MVPN_WUR int mvpn_client_new_beside(mvpn_client *first, const mvpn_addr *tun_v4,
                                    const mvpn_addr *tun_v6, mvpn_time now, mvpn_client **ret);
/** Is this message of one of its circuits? */
bool mvpn_client_has_circuit(const mvpn_client *client, const mvpn_link *link,
                             const mvpn_header *header);
/** Close all circuits (the guards are told) and free. */
void mvpn_client_free(mvpn_client *client, mvpn_time now);

/** A verified message of a link (packet taken). */
void mvpn_client_message(mvpn_client *client, mvpn_link *link, const mvpn_header *header,
                         mvpn_packet *packet, mvpn_time now);
/** The host's addresses changed: it has some, or none at all. */
void mvpn_client_network_changed(mvpn_client *client, bool is_online, mvpn_time now);
/** The user wishes to be another: a new session, at another exit if there is one; flows that are
 * open keep the old. */
void mvpn_client_new_identity(mvpn_client *client, mvpn_time now);
/**
 * The user chose other exits (copied); not with a fixed path. What new connections use must fit
 * from now on: if the session's exit does not, a new session is opened at once at one that does,
 * and the old one drains. If none fits, or none can be reached for 10 s, new connections wait: they
 * never fall back to an exit that was not chosen. Returns MVPN_PATH_OK, or what leaves no path as
 * far as is known by now (there is an event BLOCKED too); it is tried again as more is learned.
 */
enum mvpn_path_block mvpn_client_set_exit_choice(mvpn_client *client,
                                                 const mvpn_exit_choice *choice, mvpn_time now);
/** What is chosen; borrowed. */
const mvpn_exit_choice *mvpn_client_exit_choice(const mvpn_client *client);
/** Would this relay do as the exit under `choice` (NULL: the one in force)? As
 * mvpn_path_judge_exit, with all that the client is configured to ask of exits. */
enum mvpn_path_block mvpn_client_judge_exit(const mvpn_client *client,
                                            const mvpn_exit_choice *choice,
                                            const mvpn_descriptor *d, const mvpn_view_info *info,
                                            mvpn_time now);
/** MVPN_PATH_OK if some exit is known that would do under `choice`; else what the best fails at. */
enum mvpn_path_block mvpn_client_judge_choice(const mvpn_client *client,
                                              const mvpn_exit_choice *choice, mvpn_time now);
/** All anew: guards are asked at once, each session gets a circuit over other relays to its exit.
 */
void mvpn_client_reconnect(mvpn_client *client, mvpn_time now);
/** Paths of so many relays from now on: a new session, flows that are open keep the old.
 * MVPN_E_INVAL; MVPN_E_STATE with a fixed path. */
MVPN_WUR int mvpn_client_set_hops(mvpn_client *client, unsigned hops, mvpn_time now);
void mvpn_client_set_unix_offset(mvpn_client *client, int64_t unix_offset_us);
void mvpn_client_link_closed(mvpn_client *client, mvpn_link *link, mvpn_time now);
/** One IP packet from the TUN (taken). */
void mvpn_client_from_tun(mvpn_client *client, mvpn_packet *packet, mvpn_time now);
/** End of a batch: packets collected for a cell go out. */
void mvpn_client_flush(mvpn_client *client, mvpn_time now);
void mvpn_client_tick(mvpn_client *client, mvpn_time now);
mvpn_time mvpn_client_deadline(const mvpn_client *client);
/** IP packets for the TUN; the caller drains it. */
mvpn_packet_queue *mvpn_client_tun_out(mvpn_client *client);
bool mvpn_client_pull_event(mvpn_client *client, mvpn_client_event *ret);
void mvpn_client_get_status(const mvpn_client *client, mvpn_client_status *ret);

/** What it is doing while it connects; returns how many stages it has. */
unsigned mvpn_client_stages(const mvpn_client *client, mvpn_time now,
                            mvpn_stage_report ret[static MVPN_STAGES]);
/** What protects the host was tested at the exit in use, and holds or not. */
void mvpn_client_checked(mvpn_client *client, bool holds, mvpn_time now);

/* All that a client can have at a time, those that end included. */
#define MVPN_CLIENT_CIRCUITS_MAX 10

enum mvpn_client_circuit_role {
    MVPN_CLIENT_CIRCUIT_BUILDS,
    MVPN_CLIENT_CIRCUIT_SPARE,
    MVPN_CLIENT_CIRCUIT_TAKES, /* it asks for its session */
    MVPN_CLIENT_CIRCUIT_CARRIES,
    MVPN_CLIENT_CIRCUIT_DRAINS, /* another took over */
};

/* A circuit as a person sees it. */
typedef struct mvpn_client_circuit {
    unsigned number; /* of its place, from 1; when it has ended, another gets that */
    enum mvpn_client_circuit_role role;
    bool is_current; /* it carries the session of new connections */
    mvpn_path path;
    mvpn_time began;
    uint64_t build_us; /* 0: it is still being built */
    uint32_t rtt_us;   /* to its exit; 0 = not measured */
    uint64_t bytes;    /* of cells, both directions */
} mvpn_client_circuit;

/** The circuits there are, by number; returns how many. */
size_t mvpn_client_circuits(const mvpn_client *client,
                            mvpn_client_circuit ret[static MVPN_CLIENT_CIRCUITS_MAX]);

/** The guards with their state; their generation tells when saving is due. None with one hop or a
 * fixed path. */
const mvpn_guards *mvpn_client_guards(const mvpn_client *client);
/** As mvpn_guards_save and _load; load right after mvpn_client_new (or give them to it). */
size_t mvpn_client_guards_save(const mvpn_client *client, uint8_t *out, size_t size);
MVPN_WUR int mvpn_client_guards_load(mvpn_client *client, mvpn_bytes saved);

#endif
