/*
 * What the unprivileged worker says to its helper, and what the helper takes for an answer: fixed
 * sizes, one encoding of each message, no text towards the helper. The helper believes nothing: it
 * knows the configuration by itself, and a message that is not exactly one of these, or that comes
 * at the wrong time, or that names an address outside the exit's pool ends the conversation, which
 * means that everything is taken back. Pure; used by io/helper. (docs/architecture.md "Privileges")
 *
 *   NEW --SETUP--> NEW --CONTROL--> NEW --SEAL--> SEALED --RELEASE, MARK, PROTECT, LOOK--> SEALED
 *   any --FINISH--> end
 *
 *   request  "MVPq" | op 1 | event 1 | pairs 2 | serial 4 | pairs times (IPv4 4 | IPv6 16)
 *   reply    "MVPr" | op 1 | flags 1 | state 1 | 0 | serial 4 | code 4 | IPv4 4 | IPv6 16 | IPv4 4
 * | repaired 4 | text 216
 */
#ifndef MVPN_IO_PRIVILEGED_H
#define MVPN_IO_PRIVILEGED_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "core/protect.h"
#include "core/split_names.h"
#include "io/netlink.h"

#define MVPN_PRIVILEGED_HEAD_LEN 12
/* The addresses of one session. */
#define MVPN_PRIVILEGED_PAIR_LEN 20
/* In one message: what ends together costs one pass over the kernel's table. More of them would ask
 * for more memory of the socket than kernels give by default. */
#define MVPN_PRIVILEGED_PAIRS_MAX 1024
#define MVPN_PRIVILEGED_REQUEST_MAX                                                                \
    (MVPN_PRIVILEGED_HEAD_LEN + MVPN_PRIVILEGED_PAIRS_MAX * MVPN_PRIVILEGED_PAIR_LEN)
#define MVPN_PRIVILEGED_TEXT 216
#define MVPN_PRIVILEGED_REPLY_LEN (44 + MVPN_PRIVILEGED_TEXT)

enum mvpn_privileged_op {
    MVPN_PRIVILEGED_SETUP = 1, /* set up this host as configured; the reply brings the TUN */
    MVPN_PRIVILEGED_CONTROL,   /* the control socket is there: remove it at the end */
    MVPN_PRIVILEGED_SEAL,      /* the start is over: give up what is not needed any more */
    MVPN_PRIVILEGED_RELEASE,   /* exit: forget the connections of these pool addresses */
    MVPN_PRIVILEGED_MARK,      /* client: set the configured mark on the socket that comes along */
    MVPN_PRIVILEGED_PROTECT,   /* client: this happened; the kill switch follows */
    MVPN_PRIVILEGED_LOOK,      /* client: what protects this host now? */
    MVPN_PRIVILEGED_OUTSIDE,   /* client: who is connected to the control socket that comes along
                                * may go outside the tunnel: his process is put there */
    MVPN_PRIVILEGED_OPEN,   /* client: names of outside_domains (inside_domains) have these now */
    MVPN_PRIVILEGED_FINISH, /* take everything back and end */
};
#define MVPN_PRIVILEGED_OP_LAST MVPN_PRIVILEGED_FINISH

typedef struct mvpn_privileged_request {
    enum mvpn_privileged_op op;
    uint32_t serial;
    uint8_t event; /* PROTECT: mvpn_protect_event ESTABLISHED, LOST or DOWN; else 0 */
    /* RELEASE: 1 to MVPN_PRIVILEGED_PAIRS_MAX; OPEN: 1 to MVPN_SPLIT_ANSWER_MAX; else none.
     * Borrowed */
    mvpn_bytes pairs;
} mvpn_privileged_request;

/* What the helper sees and does, for whom it protects. */
typedef struct mvpn_privileged_protection {
    enum mvpn_protect_state state;
    bool is_in_force; /* the kernel has the kill switch's table */
    bool lockdown, allow_lan;
    uint32_t repaired; /* times that others had touched table, rules, routes or addresses */
} mvpn_privileged_protection;

typedef struct mvpn_privileged_reply {
    enum mvpn_privileged_op op;
    uint32_t serial;
    int code;                              /* 0, or MVPN_E_* and a text */
    bool has_tun;                          /* a descriptor comes along */
    mvpn_addr tun_v4, tun_v6, gateway_v4;  /* client: as set up; else family 0 */
    mvpn_privileged_protection protection; /* LOOK; else zeros */
    char text[MVPN_PRIVILEGED_TEXT];       /* printable ASCII, "" = none */
} mvpn_privileged_reply;

enum mvpn_privileged_state { MVPN_PRIVILEGED_NEW, MVPN_PRIVILEGED_SEALED };

/* What the helper knows by itself. */
typedef struct mvpn_privileged_limits {
    bool is_exit, is_client;
    bool has_domains;             /* client: some names go their own way */
    mvpn_prefix pool_v4, pool_v6; /* exit */
} mvpn_privileged_limits;

/** Returns the length. */
MVPN_WUR size_t mvpn_privileged_request_encode(const mvpn_privileged_request *request,
                                               uint8_t out[static MVPN_PRIVILEGED_REQUEST_MAX]);
/**
 * MVPN_E_FORMAT for anything that the encoder does not make; `*ret` is untouched then. Its pairs
 * are borrowed from `in`.
 */
MVPN_WUR int mvpn_privileged_request_decode(mvpn_bytes in, mvpn_privileged_request *ret);

/** The addresses of a session, of which one may be missing (family 0), but not both. */
void mvpn_privileged_pair_encode(const mvpn_addr *v4, const mvpn_addr *v6,
                                 uint8_t out[static MVPN_PRIVILEGED_PAIR_LEN]);
void mvpn_privileged_pair_decode(const uint8_t in[static MVPN_PRIVILEGED_PAIR_LEN],
                                 mvpn_addr *ret_v4, mvpn_addr *ret_v6);

/** Characters that are not printable become '?'. */
void mvpn_privileged_reply_encode(const mvpn_privileged_reply *reply,
                                  uint8_t out[static MVPN_PRIVILEGED_REPLY_LEN]);
/** As mvpn_privileged_request_decode. */
MVPN_WUR int mvpn_privileged_reply_decode(mvpn_bytes in, mvpn_privileged_reply *ret);

/**
 * May this be done now? `descriptors` is how many came along. 0; MVPN_E_PROTOCOL (close) at the
 * wrong time, with descriptors where none belong, or not for this program; MVPN_E_REFUSED (close)
 * for an address that is not of the pool, or is the pool's own end of the TUN.
 */
MVPN_WUR int mvpn_privileged_check(const mvpn_privileged_limits *limits,
                                   enum mvpn_privileged_state state,
                                   const mvpn_privileged_request *request, unsigned descriptors);

#endif
