/*
 * A MeshVPN client inside another program, which brings the TUN device: what an app on a phone does
 * (Android: VpnService gives the descriptor). Linux; C99 and C++.
 *
 *     meshvpn_options options;
 *     meshvpn_error error;
 *     meshvpn_client *client;
 *     meshvpn_options_init(&options, sizeof(options));
 *     options.network = text;                  (of a network file, or from an invitation)
 *     options.tun_fd = fd;
 *     options.protect = keep_out_of_the_tunnel;
 *     if (meshvpn_client_new(&options, &client, &error) == 0) {
 *         meshvpn_client_run(client, &error);  (until meshvpn_client_stop from anywhere)
 *         meshvpn_client_free(client);
 *     }
 *
 * The program sets its interface up with the addresses below, leads the routes of all traffic
 * there, and lets the client's own sockets go around it: each is given to `protect` first. What
 * the tunnel cannot carry while it is not connected waits or is dropped, and never leaves by
 * another way; that no other way is open is the program's to see to.
 *
 * Nothing here is kept per process: clients of one program know nothing of each other. One client
 * is used by one thread at a time (the one in meshvpn_client_run), but for the functions that say
 * otherwise. The library changes no signal handlers, environment or standard streams.
 *
 * A guide: docs/embedding.md. Structures may grow at their end: `size` arguments tell how much of
 * one the program knows.
 */
#ifndef MESHVPN_MESHVPN_H
#define MESHVPN_MESHVPN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define MESHVPN_API __attribute__((visibility("default")))
#define MESHVPN_CHECK __attribute__((visibility("default"), warn_unused_result))
#else
#define MESHVPN_API
#define MESHVPN_CHECK
#endif

/* ---- what the TUN interface needs: the same for every client, constants of the protocol ---- */

#define MESHVPN_TUN_IPV4 "10.8.0.2"
#define MESHVPN_TUN_IPV4_PREFIX 24
#define MESHVPN_TUN_IPV6 "fd6d:7670:6e00::2"
#define MESHVPN_TUN_IPV6_PREFIX 64
/* The only resolver to use: its questions are answered at the exit. */
#define MESHVPN_DNS_IPV4 "10.8.0.1"
#define MESHVPN_DNS_IPV6 "fd6d:7670:6e00::1"
#define MESHVPN_TUN_MTU 1420

/* ---- results ---- */

enum {
    MESHVPN_OK = 0,
    MESHVPN_E_INVALID = -1, /* an option is missing or makes no sense */
    MESHVPN_E_NETWORK = -2, /* the network file or invitation is wrong or altered */
    MESHVPN_E_EXPIRED = -3, /* the invitation is too old; or this computer's clock is wrong */
    MESHVPN_E_TUN = -4,     /* the descriptor is no TUN device that can be used */
    MESHVPN_E_MEMORY = -5,
    MESHVPN_E_SYSTEM = -6, /* the system refused something; while running: a socket or the TUN
                              device is gone */
    MESHVPN_E_STATE = -7   /* not now: run twice, or not connected */
};

/* What happened and what to do about it, in English; no secrets, no addresses of users. */
typedef struct meshvpn_error {
    int code; /* MESHVPN_E_* */
    char text[512];
} meshvpn_error;

/** A few words for a result; never NULL. From any thread. */
MESHVPN_API const char *meshvpn_strerror(int code);
/** "0.1.0": of the library that is loaded. From any thread. */
MESHVPN_API const char *meshvpn_version(void);

/* ---- joining ---- */

/**
 * Turn an invitation ("meshvpn:...", as from a QR code) into the text of a network file, which the
 * program keeps (it may hold a secret of the network: privately) and gives to every client. The
 * invitation expires, the text does not. `*ret_text` is freed with meshvpn_text_free.
 * 0, MESHVPN_E_NETWORK, MESHVPN_E_EXPIRED, MESHVPN_E_MEMORY; `error` may be NULL. From any thread.
 */
MESHVPN_CHECK int meshvpn_join(const char *invitation, char **ret_text, meshvpn_error *error);
/** Wipe and free. NULL is allowed. */
MESHVPN_API void meshvpn_text_free(char *text);

/* ---- a client ---- */

typedef struct meshvpn_client meshvpn_client;

typedef enum meshvpn_state {
    MESHVPN_STATE_CONNECTING, /* also again, after a loss */
    MESHVPN_STATE_CONNECTED,
    MESHVPN_STATE_BLOCKED, /* no path can be chosen; tried again when more is known */
    MESHVPN_STATE_STOPPED  /* not running: not yet, or not any more */
} meshvpn_state;

typedef enum meshvpn_log_level {
    MESHVPN_LOG_ERROR,
    MESHVPN_LOG_WARN,
    MESHVPN_LOG_INFO,
    MESHVPN_LOG_DEBUG
} meshvpn_log_level;

/*
 * Callbacks run in the thread that is in meshvpn_client_new or meshvpn_client_run, one at a time.
 * They may call what may be called from any thread, and must not call meshvpn_client_free.
 */
typedef struct meshvpn_options {
    size_t size; /* set by meshvpn_options_init */

    /* One of both; copied, as all texts here. */
    const char *network;      /* text of a network file, as from meshvpn_join */
    const char *network_file; /* path of one */

    /*
     * The TUN device: without packet information (IFF_NO_PI), as Android gives it, or with a
     * vnet header, which is faster. Duplicated and set to non-blocking; the program's own is its to
     * close, also before the client ends.
     */
    int tun_fd;

    /* Where the client keeps its guards, known relays and entries, in files that only the user may
     * read; made if its parent exists; for one client alone. NULL: nothing is remembered, each
     * start takes longer, and guards change with each, which a watcher can use: only for tests. */
    const char *state_dir;

    unsigned hops;              /* 1 to 5; 0 = 3 */
    const char *exit_countries; /* "CH", "CH,IS,SE" or "!US,GB"; NULL = any */
    const char *geoip_dir; /* tables that exits' countries are checked by (files geoip, geoip6 of
                              tor-geoipdb); NULL: discovery nodes are believed */

    void *ctx; /* given to the callbacks */
    /* See to it that `fd` goes around the tunnel (Android: VpnService.protect): called for every
     * socket before anything is sent on it. 0, or -1: the socket is not used. NULL: nothing needs
     * to be done. */
    int (*protect)(void *ctx, int fd);
    void (*log)(void *ctx, meshvpn_log_level level, const char *line); /* or NULL */
    meshvpn_log_level log_level; /* less important is left out */
    /* The state has changed; `why` says more about a loss or block, else "". Or NULL. */
    void (*state)(void *ctx, meshvpn_state state, const char *why);
} meshvpn_options;

/** Set defaults: no network, tun_fd -1, 3 hops, any exit, log level INFO. */
MESHVPN_API void meshvpn_options_init(meshvpn_options *options, size_t size);

/**
 * Make a client; nothing is sent yet. `options` may be forgotten afterwards. `*ret` is for
 * meshvpn_client_free. MESHVPN_E_INVALID, _NETWORK, _TUN, _MEMORY, _SYSTEM; `*ret` is untouched
 * then. `error` may be NULL. Several threads may make clients at the same time.
 */
MESHVPN_CHECK int meshvpn_client_new(const meshvpn_options *options, meshvpn_client **ret,
                                     meshvpn_error *error);

/**
 * Connect and carry packets until meshvpn_client_stop; blocks. Once only. 0 if it was asked to
 * stop; MESHVPN_E_SYSTEM if it cannot go on; MESHVPN_E_STATE if it has run before. SIGPIPE is
 * blocked in this thread meanwhile.
 */
MESHVPN_CHECK int meshvpn_client_run(meshvpn_client *client, meshvpn_error *error);

/** End meshvpn_client_run, at once; one that is still to come returns immediately. From any thread
 * and from signal handlers. */
MESHVPN_API void meshvpn_client_stop(meshvpn_client *client);

/** Tell the peers goodbye, write what is worth keeping and free. Not while it runs. NULL is
 * allowed. */
MESHVPN_API void meshvpn_client_free(meshvpn_client *client);

/** Become another to the exits: new connections use a new circuit, another exit if there is one;
 * open ones keep theirs. 0, or MESHVPN_E_STATE: not connected. From any thread. */
MESHVPN_CHECK int meshvpn_client_new_identity(meshvpn_client *client);

/** The device is in another network now (Android: ConnectivityManager said so): look at once. Not
 * needed where the client may watch addresses by itself. From any thread. */
MESHVPN_API void meshvpn_client_network_changed(meshvpn_client *client);

/* ---- status ---- */

#define MESHVPN_HOPS_MAX 5

typedef struct meshvpn_hop {
    char country[3]; /* "CH", or "" */
    char name[25];   /* as its operator calls it, or "" */
} meshvpn_hop;

typedef struct meshvpn_status {
    meshvpn_state state;
    uint64_t state_ms;                  /* for so long */
    unsigned hop_count;                 /* of the circuit in use; 0 = there is none */
    meshvpn_hop hops[MESHVPN_HOPS_MAX]; /* the guard first, the exit last */
    uint32_t rtt_us;                    /* to the exit and back; 0 = not measured */
    int has_ipv6;                       /* the exit carries it; else it is refused, never leaked */
    int is_silent; /* much was sent and nothing came back for a while: something in between blocks
                      UDP */
    uint64_t packets_up, packets_down, bytes_up, bytes_down; /* through the tunnel */
    uint64_t packets_dropped;
} meshvpn_status;

/** How it is; counters are those of the last change or second. `size` is sizeof(meshvpn_status).
 * From any thread.
 */
MESHVPN_API void meshvpn_client_status(meshvpn_client *client, meshvpn_status *ret, size_t size);

#ifdef __cplusplus
}
#endif

#endif
