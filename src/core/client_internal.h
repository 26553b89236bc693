/*
 * Shared by the files of the client: client.c (packets, messages, life), client_sessions.c (who
 * carries them), client_alive.c (who still answers), client_paths.c (what is built).
 */
#ifndef MVPN_CORE_CLIENT_INTERNAL_H
#define MVPN_CORE_CLIENT_INTERNAL_H

#include <string.h>

#include "core/client.h"
#include "core/client_ip.h"
#include "core/client_names.h"
#include "core/flows.h"

/* In use and spare; one more for rotation, one for a new session, one for an old one; the rest
 * drain. */
#define SLOTS MVPN_CLIENT_CIRCUITS_MAX
/* The current session, one being opened, two that drain. */
#define SESSIONS MVPN_FLOWS_SESSIONS_MAX
#define EVENTS_MAX 32

enum slot_role {
    SLOT_FREE,    /* being built, or ready: a spare */
    SLOT_TAKES,   /* asks for its session */
    SLOT_CARRIES, /* it is the one that its session is carried by */
    SLOT_DRAINS,  /* another took over; what still comes is taken */
};

enum slot_cause {
    CAUSE_SERVE,  /* to carry the session of its exit, or to be its spare */
    CAUSE_ROTATE, /* takes its session over as soon as it is ready */
    CAUSE_NEW,    /* for a new session, elsewhere */
};

typedef struct slot {
    bool used;
    enum slot_role role;
    enum slot_cause cause;
    uint32_t session; /* number of the one it is for; 0: of any at its exit */
    mvpn_circuit circuit;
    bool is_link_old; /* it was there before: its end says nothing of the guard */
    uint8_t begins;   /* RelayBegin sent */
    /* Is it alive? Every hop is asked at each step until the exit answers. */
    mvpn_time asked; /* 0: there is no doubt */
    mvpn_time ask_next;
    unsigned misses;
    mvpn_time next_ping; /* without any reason */
    mvpn_time retire;    /* if it is still a spare then */
    mvpn_time drained;   /* DRAINS: closed then at the latest */
    /* CARRIES: when it gives way to a fresh one. */
    uint64_t rotate_bytes;
    mvpn_time rotate_from, renew_at;
} slot;

enum session_state {
    SESSION_NONE,
    SESSION_OPENING, /* a circuit asks for it */
    SESSION_LIVE,    /* there is a ticket */
};

typedef struct client_session {
    enum session_state state;
    uint32_t number; /* counts up from 1 */
    mvpn_ed25519_pub exit;
    uint8_t ticket[MVPN_TICKET_LEN];
    uint32_t epoch;
    uint8_t profile, flags; /* of Connected */
    uint16_t fragment_id;   /* the next one, over all circuits */
    slot *carrier;          /* NULL: none, at the moment or for ever */
    mvpn_time opened, expires;
    mvpn_time detached;     /* since when nobody carries it; 0: somebody does */
    mvpn_time drains_until; /* not the current one any more; 0: it is */
    mvpn_time doubted;      /* since when its exit has been silent while the hop before answers */
    bool exit_is_silent;    /* and a second circuit says so */
} client_session;

typedef struct excluded {
    mvpn_ed25519_pub relay;
    mvpn_time until;
} excluded;

#define BUILD_SAMPLES 32

struct mvpn_client {
    mvpn_client_config cfg;
    client_ip ip;
    bool ip_is_set; /* a session has said what fits a cell */
    mvpn_flows *flows;
    slot slots[SLOTS];
    client_session sessions[SESSIONS];
    client_session *current; /* new flows go here; NULL: none is live */
    uint32_t session_count;  /* numbers given */
    bool wants_new;          /* a new session, though the current one works */
    bool shun_path;          /* and not by the relays of the current one */
    mvpn_time misfit;        /* since when its exit is not what was chosen; 0: it is */
    enum mvpn_client_state state;
    mvpn_time since;
    mvpn_guards *guards; /* of the first */
    mvpn_guards own_guards;
    mvpn_client *first;                          /* itself, or the one that it is beside */
    mvpn_client *beside[MVPN_CLIENT_BESIDE_MAX]; /* of the first; NULL: none */
    mvpn_time next_guards;
    uint64_t packets_seen; /* at the last look, and when that changed */
    mvpn_time busy;
    bool has_exit; /* that the circuits of the next session share */
    mvpn_ed25519_pub exit;
    excluded excluded[MVPN_PATH_EXCLUDED_MAX];
    size_t excluded_next;
    uint32_t samples[BUILD_SAMPLES]; /* build times, microseconds */
    size_t sample_count;
    unsigned failures; /* in a row */
    mvpn_time outage;  /* since when, with that */
    mvpn_time next_build;
    mvpn_time next_new; /* a session elsewhere */
    bool is_offline;
    mvpn_time online; /* since when it is not */
    mvpn_time ticked;
    mvpn_time next_check;
    mvpn_packet_queue tun_out;
    mvpn_packet_queue waiting;
    mvpn_client_event events[EVENTS_MAX];
    size_t event_first, event_count;
    mvpn_client_status stats;
    mvpn_stages stages;
    client_names names;
};

static inline bool client_same(const mvpn_ed25519_pub *a, const mvpn_ed25519_pub *b)
{
    return memcmp(a->b, b->b, sizeof(a->b)) == 0;
}

static inline const mvpn_ed25519_pub *slot_exit(const slot *s)
{
    return &s->circuit.path.hop[s->circuit.path.count - 1];
}

static inline bool slot_is_building(const slot *s)
{
    return s->used &&
           (s->circuit.state == MVPN_CIRCUIT_BUILD || s->circuit.state == MVPN_CIRCUIT_EXTEND);
}

static inline bool slot_is_spare(const slot *s)
{
    return s->used && s->role == SLOT_FREE && s->circuit.state == MVPN_CIRCUIT_READY;
}

/* client.c */
void client_push_event(mvpn_client *client, const mvpn_client_event *event);
/* Never 0: that would leave times unchecked. */
uint64_t client_unix(const mvpn_client *client, mvpn_time now);
/* Look at a circuit after anything may have changed its state. */
void client_circuit_changed(mvpn_client *client, slot *s, mvpn_time now);
/* Close it, without blaming anybody. */
void client_give_up(mvpn_client *client, slot *s, mvpn_time now);
/* Everything is asked at once; after a long pause the links too, since guards forget us. */
void client_wake(mvpn_client *client, bool was_long, mvpn_time now);
/* A session is carried again: what waited goes out. */
void client_send_waiting(mvpn_client *client, mvpn_time now);

/* client_show.c */
void client_stages_tick(mvpn_client *client, mvpn_time now);
/* A packet of a session: was it the answer that client_names waits for? Then it is not the host's.
 */
bool client_stages_take(mvpn_client *client, const mvpn_packet *packet, mvpn_time now);

/* client_sessions.c */
client_session *client_session_find(mvpn_client *client, uint32_t number);
/* A spare circuit to this exit; those without doubts first. NULL: there is none. */
slot *client_spare(mvpn_client *client, const mvpn_ed25519_pub *exit);
/* Is a circuit on its way to carry this session? */
bool client_session_is_taken(const mvpn_client *client, const client_session *s);
/* A circuit is ready: is there a session for it? */
void client_slot_ready(mvpn_client *client, slot *s, mvpn_time now);
/* Connected. */
void client_slot_carries(mvpn_client *client, slot *s, mvpn_time now);
/* The circuit takes the session over, or opens it. */
void client_slot_take(mvpn_client *client, slot *s, client_session *session, mvpn_time now);
/* Its session, if it had one, is carried by it no more. */
void client_slot_lets_go(mvpn_client *client, slot *s, int error, mvpn_time now);
/* The session is gone for good. */
void client_session_lost(mvpn_client *client, client_session *s, mvpn_time now);
void client_sessions_tick(mvpn_client *client, mvpn_time now);
/* Should a session be opened elsewhere? */
bool client_wants_new(const mvpn_client *client, mvpn_time now);

/* New flows wait until there is another one. */
void client_session_leave(mvpn_client *client, mvpn_time now);

/* client_beside.c */
/* New sessions lead to other exits than those of the clients beside: is that a wish at all? */
bool client_shun_beside(const mvpn_client *client, mvpn_path_constraints *wish);
/* It ends: the first one knows it no more. */
void client_leave_beside(mvpn_client *client);

/* client_choice.c */
/* Is this exit what the user chose, and not blocked? What else is wrong with it does not count. */
bool client_exit_fits(const mvpn_client *client, const mvpn_ed25519_pub *exit, mvpn_time now);

/* client_alive.c */
void client_slot_ask(mvpn_client *client, slot *s, mvpn_time now);
void client_slot_check(mvpn_client *client, slot *s, mvpn_time now);
/* How long until the next look at it. */
mvpn_time client_slot_pause(const slot *s);

/* client_paths.c */
/* What is asked of a path. `exit`: the one that it must lead to, or NULL. `forgiving`: relays that
 * failed will do too. */
void client_init_wish(const mvpn_client *client, const mvpn_ed25519_pub *exit, bool forgiving,
                      mvpn_path_constraints *wish, mvpn_time now);
/* Tell why no path can be drawn, if so, and if it is news. */
void client_note_block(mvpn_client *client, enum mvpn_path_block block, mvpn_time now);
/* Keep a relay out of new paths for a while. */
void client_exclude(mvpn_client *client, const mvpn_ed25519_pub *relay, mvpn_time now);
/* A hop of the circuit failed. */
void client_blame(mvpn_client *client, const mvpn_circuit *c, mvpn_time now);
/* A circuit works through these: whatever was blamed on them is over. */
void client_forgive(mvpn_client *client, const mvpn_path *path);
void client_note_built(mvpn_client *client, const mvpn_circuit *c, mvpn_time now);
void client_build_failed(mvpn_client *client, slot *s, mvpn_time now);
mvpn_time client_build_timeout(const mvpn_client *client);
/* Build a circuit that takes over from `s`: over the same path, or by new middles. */
void client_build_next(mvpn_client *client, const slot *s, bool same_path, mvpn_time now);
/* Build what is missing: a circuit to use, then a spare one; two at once at the start. */
void client_build_missing(mvpn_client *client, mvpn_time now);
bool client_uses_guards(const mvpn_client *client);
void client_watch_guards(mvpn_client *client, mvpn_time now);

#endif
