/*
 * Shared by the files of the relay: relay.c (tables, cells), relay_build.c (create, extend),
 * relay_session.c (the exit's side).
 */
#ifndef MVPN_CORE_RELAY_INTERNAL_H
#define MVPN_CORE_RELAY_INTERNAL_H

#include "base/bucket.h"
#include "base/hash.h"
#include "base/timer.h"
#include "core/assembly.h"
#include "core/onion.h"
#include "core/packing.h"
#include "core/relay.h"
#include "core/scheduler.h"
#include "core/sessions.h"
#include "crypto/hash.h"

#define CIRCUITS_MAX 65536
#define CIRCUITS_PER_LINK_MAX 4096
/* Create: bucket per link; queue of the node, and how long one may wait (§10). */
#define CREATE_RATE 20
#define CREATE_BURST 90
/* Of a neighbour that is a relay of the view and has proven it: it builds for all its clients, a
 * thousand at once when a guard has died; the queue bounds all of them together. */
#define RELAY_CREATE_RATE 400
#define RELAY_CREATE_BURST 800
#define CREATE_QUEUE_MAX 1024
#define CREATE_QUEUE_TIME MVPN_S(2)
/* Handshakes per turn, so that a flood of them does not hold up cells. */
#define CREATE_PER_TURN 8
/* While cells wait for the processor: one handshake for so many cells, so that it has a tenth. */
#define CREATE_COST_CELLS 1000
#define CREATE_CREDIT_MAX (CREATE_PER_TURN * CREATE_COST_CELLS)
/* Extends to one target (§6.2); the table is direct-mapped by a keyed hash. */
#define EXTEND_RATE 200
#define EXTEND_BURST 400
#define EXTEND_TABLE 1024
/*
 * Links newly opened to one address. In an open network anybody may describe relays of his own at a
 * victim's address, and each link opened there sends a dozen packets: the bound by identity alone
 * would not hold him back.
 */
#define OPEN_RATE 1
#define OPEN_BURST 8
/* Refusals told to one link: beyond, a flood of Create would pin a packet each until acknowledged.
 */
#define REFUSAL_RATE CREATE_RATE
#define REFUSAL_BURST CREATE_BURST
#define EXTEND_TIME MVPN_S(10)
#define HALF_BUILT_TIME MVPN_S(30)
/* A circuit that was destroyed while cells of it wait for their turn. */
#define LAST_WORDS_TIME MVPN_S(2)
/* A circuit that ends here without a session, since its last cell (§10). */
#define IDLE_TIME MVPN_S(120)
/* Sessions begun over one link: pool addresses rest for minutes, and one link must not use them up.
 */
#define SESSION_RATE 10
#define SESSION_BURST 100
#define RELAY_SESSION_RATE 200
#define RELAY_SESSION_BURST 400
/* Refused take-overs that end a circuit (§7.1): who guesses must build circuits. */
#define TAKE_OVERS_REFUSED_MAX 8
/* Directory requests of one circuit, and of one link (§12). */
#define DIRECTORY_RATE 3
#define DIRECTORY_BURST 200
#define DIRECTORY_LINK_RATE 20
#define DIRECTORY_LINK_BURST 200
/* And of all links from one address block (/24, /48): a new link would begin anew, and an answer is
 * up to 30 times as long as what asks for it. A first start takes about 100. */
#define DIRECTORY_BLOCK_RATE 40
#define DIRECTORY_BLOCK_BURST 1000
/* First cells sent back in a circuit that are acknowledged on the link (§4.5). */
#define BACK_ACKED 16
/* What a cell is on the wire beside its body: the link's (§4.1), UDP and IPv4. */
#define CELL_OVERHEAD (61 + 8 + 20)
/* A turn with so many cells found the socket full. When that has been so for CROWDED_TIME the
 * processor is what is short: cells are read faster than they are sent on, CROWDED_CELLS a turn, so
 * that they wait where they are told apart, and not in the socket. */
#define CROWDED_ARRIVALS 128
#define CROWDED_TIME MVPN_MS(5)
#define CROWDED_CELLS 64
/* Cells sent on in one turn, more than one brings; the exit's queue takes as many packets, several
 * times over. */
#define CELLS_PER_TURN 256
/* Datagrams that wait for a socket that is full: more cells stay in their flows. */
#define OUT_MAX 1024
/* Part of the pool below which circuits are ended for their packets. */
#define RESERVE_PART 8
/* With so long between two turns of a flow, data of a circuit that ends is not sent on. */
#define LAST_DATA_ROUND MVPN_MS(100)
/* With so long between two turns of a flow, for so long, no new circuits are taken. */
#define OVERLOAD_ROUND MVPN_S(2)
#define OVERLOAD_TIME MVPN_S(2)

enum circuit_state {
    CIRCUIT_CREATING,
    CIRCUIT_OPEN,
    CIRCUIT_EXTENDING,
    CIRCUIT_EXTENDED,
};

struct relay_circuit;

/* One side of a circuit: the ids on its link. */
typedef struct circuit_end {
    mvpn_hash_node node; /* by (link, in) */
    mvpn_list on_link;   /* in link_state.ends */
    mvpn_link *link;     /* NULL: this side does not exist */
    mvpn_circuit_id in;  /* in what we receive */
    mvpn_circuit_id out; /* in what we send */
    struct relay_circuit *circuit;
} circuit_end;

/* An answer kept for repeated requests until the peer shows that it has it. */
typedef struct answer {
    uint32_t request_id;
    uint16_t len;
    uint8_t bytes[];
} answer;

typedef struct exit_session {
    mvpn_session entry;
    uint32_t id;
    uint8_t profile;      /* of the circuit that carries it */
    uint8_t flags;        /* of Connected */
    mvpn_list dirty;      /* in mvpn_relay.dirty while the packer holds a cell */
    mvpn_list assembling; /* in mvpn_relay.assembling while fragments are held */
    mvpn_packer packer;
    mvpn_unpacker unpacker;
} exit_session;

typedef struct relay_circuit {
    enum circuit_state state;
    uint8_t early_left;
    uint8_t back_acked_left;
    circuit_end prev; /* towards the client */
    circuit_end next; /* towards the exit */
    mvpn_layer_rx forward;
    mvpn_layer_tx backward;
    mvpn_timer timer;
    mvpn_list all;

    uint8_t suite, key_id;
    uint32_t create_request;
    uint32_t extend_request;
    mvpn_assembly *assembly; /* of Create, then Extend, then the next relay's Created */
    mvpn_packet *waiting;    /* Create in the queue: holds its message if that came in one part */
    mvpn_bytes waiting_message;
    mvpn_time waiting_since;
    mvpn_list queue;
    answer *created;
    answer *extended;
    exit_session *session; /* that it carries, or drains for; or NULL */
    struct {               /* the latest Begin */
        uint32_t request_id;
        uint8_t status;
        bool is_answered;
        uint8_t refused; /* take-overs */
    } begin;
    mvpn_bucket directory;

    mvpn_flow to_exit, to_client; /* cells that wait */
} relay_circuit;

/* What we keep for a link: mvpn_link_user. */
typedef struct link_state {
    mvpn_list ends;
    size_t circuits;
    mvpn_bucket create;
    mvpn_bucket sessions;
    mvpn_bucket refusals;
    mvpn_bucket directory;
    bool is_relay; /* has a relay's rates */
    mvpn_link *link;
    mvpn_list all; /* in mvpn_relay.link_states */
} link_state;

struct mvpn_relay {
    mvpn_relay_config cfg;
    mvpn_hash ends;
    mvpn_siphash_key hash_key;
    mvpn_timers timers;
    mvpn_list circuits;
    mvpn_list link_states;
    size_t circuit_count;
    mvpn_list create_queue;
    size_t create_waiting;
    mvpn_list dirty; /* sessions whose packer holds a cell */
    mvpn_list assembling;
    mvpn_time sweep_at;              /* when the fragments of those are looked at */
    struct relay_sessions *sessions; /* of relay_session.c */
    struct {
        uint64_t hash;
        mvpn_bucket bucket;
    } extend_buckets[EXTEND_TABLE];
    mvpn_scheduler scheduler;
    uint32_t arrived;           /* cells since the last turn */
    uint32_t create_credit;     /* cells sent on since the last handshake, while crowded */
    mvpn_time crowded_since;    /* 0: the socket was emptied */
    bool is_crowded;            /* until less is sent than might be */
    mvpn_time overloaded_since; /* 0: is not */
    mvpn_relay_counters counters;
};

/* relay.c */
circuit_end *relay_end_find(mvpn_relay *relay, mvpn_link *link, const mvpn_circuit_id *in);
MVPN_WUR int relay_end_open(mvpn_relay *relay, relay_circuit *c, circuit_end *end, mvpn_link *link,
                            const mvpn_circuit_id *in, const mvpn_circuit_id *out, mvpn_time now);
void relay_end_close(mvpn_relay *relay, circuit_end *end, mvpn_time now);
link_state *relay_link_state(mvpn_relay *relay, mvpn_link *link, mvpn_time now);
/* Take one from a bucket of the link. A neighbour that has become known as a relay gets a relay's
 * buckets. */
bool relay_link_take(mvpn_relay *relay, link_state *ls, mvpn_bucket *bucket, mvpn_time now);
/* Handshakes that may be answered in this turn. */
unsigned relay_creates_now(mvpn_relay *relay);
/* Cells wait so long that new circuits would make it worse. */
bool relay_is_overloaded(const mvpn_relay *relay, mvpn_time now);
void relay_circuit_free(mvpn_relay *relay, relay_circuit *c, mvpn_time now);
/* End the circuit; tell both neighbours, the previous one with `reason`, the next one without. */
void relay_circuit_destroy(mvpn_relay *relay, relay_circuit *c, enum mvpn_reason reason,
                           mvpn_time now);
void relay_send_destroy(mvpn_relay *relay, mvpn_link *link, const mvpn_circuit_id *id,
                        enum mvpn_reason reason, mvpn_time now);
/* Send `packet` (its data) as our own answer to the client, takes the packet: data and the
 * directory's when the circuit's turn comes, all else at once. */
void relay_answer(mvpn_relay *relay, relay_circuit *c, const mvpn_cell_kind *kind,
                  mvpn_packet *packet, mvpn_time now);
void relay_send(mvpn_relay *relay, circuit_end *end, mvpn_header *header, mvpn_packet *packet,
                bool acked, mvpn_time now);
uint64_t relay_unix_now(const mvpn_relay *relay, mvpn_time now);

/* relay_build.c */
/* Take one from the bucket of that name; those whose names have different lengths differ. */
bool relay_bucket_take(mvpn_relay *relay, mvpn_bytes name, uint64_t rate, uint64_t burst,
                       mvpn_time now);
void relay_create(mvpn_relay *relay, mvpn_link *link, const mvpn_header *header,
                  mvpn_packet *packet, mvpn_time now);
void relay_created(mvpn_relay *relay, relay_circuit *c, mvpn_bytes body, mvpn_time now);
void relay_extend(mvpn_relay *relay, relay_circuit *c, mvpn_bytes data, mvpn_time now);
void relay_extend_failed(mvpn_relay *relay, relay_circuit *c, enum mvpn_reason reason,
                         mvpn_time now);
void relay_create_turn(mvpn_relay *relay, mvpn_time now);

/* relay_dht.c */
void relay_dht_in_circuit(mvpn_relay *relay, relay_circuit *c, mvpn_bytes data, mvpn_time now);
void relay_dht_on_link(mvpn_relay *relay, mvpn_link *link, const mvpn_header *header,
                       mvpn_bytes body, mvpn_time now);

/* relay_session.c */
/* The body of a Begin: wiped afterwards. The circuit may be gone then. */
void relay_session_begin(mvpn_relay *relay, relay_circuit *c, mvpn_packet *packet, mvpn_time now);
/* Takes the packet: a RelayData body. */
void relay_session_data(mvpn_relay *relay, relay_circuit *c, mvpn_packet *body, mvpn_time now);
/* True if the circuit carries a session (one that drains does not). */
bool relay_session_is_open(const relay_circuit *c);
/* RelayEnd of the client. */
void relay_session_end(mvpn_relay *relay, relay_circuit *c, mvpn_time now);
/* The circuit ends: a session that it carries waits for another. */
void relay_session_leave(mvpn_relay *relay, relay_circuit *c, mvpn_time now);
void relay_session_flush(mvpn_relay *relay, mvpn_time now);
/* Sessions and fragments that have waited too long, circuits that have drained. */
void relay_session_tick(mvpn_relay *relay, mvpn_time now);
mvpn_time relay_session_deadline(const mvpn_relay *relay);
/* End all sessions and tell the clients, while there are circuits. */
void relay_session_free(mvpn_relay *relay, mvpn_time now);

#endif
