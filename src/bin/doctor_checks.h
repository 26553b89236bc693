/*
 * What `meshvpn doctor` makes of what it saw: a verdict for each thing that a node needs, and the
 * command that mends it. Pure: facts in, verdicts out; doctor_look gathers the facts.
 */
#ifndef MVPN_BIN_DOCTOR_CHECKS_H
#define MVPN_BIN_DOCTOR_CHECKS_H

#include <jansson.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "io/host_look.h"

/* What was looked at may not be visible: without root, or on this system at all. */
enum doctor_seen {
    DOCTOR_UNSEEN,
    DOCTOR_NO,
    DOCTOR_YES,
};

enum doctor_role {
    DOCTOR_CLIENT,
    DOCTOR_RELAY, /* and all others without a TUN device */
    DOCTOR_EXIT,
};

#define DOCTOR_LOCKDOWN_UNIT "meshvpn-lockdown.service"

/* Who writes /etc/resolv.conf. */
enum doctor_resolver {
    DOCTOR_RESOLV_MISSING,
    DOCTOR_RESOLV_FILE,
    DOCTOR_RESOLV_RESOLVED,
    DOCTOR_RESOLV_RESOLVCONF,
    DOCTOR_RESOLV_NETWORK_MANAGER,
};

enum doctor_daemon {
    DOCTOR_DAEMON_NONE,   /* there is no control socket */
    DOCTOR_DAEMON_DEAD,   /* nobody listens at it */
    DOCTOR_DAEMON_DENIED, /* we may not ask */
    DOCTOR_DAEMON_STUCK,  /* it does not answer */
    DOCTOR_DAEMON_ANSWERS,
};

#define DOCTOR_TEXT_MAX 400

typedef struct doctor_facts {
    bool is_root;
    char person[33]; /* who asks; "" = has no name */
    enum doctor_role role;
    char kind[16];    /* of the configuration: "client", "relay" .. */
    char program[32]; /* that it is for */
    char unit[40];    /* its systemd unit */
    char config_file[PATH_MAX];

    /* configuration */
    bool has_config;
    bool is_config_good;
    char config_fault[DOCTOR_TEXT_MAX];
    bool is_network_there, is_network_good;
    char network_file[PATH_MAX];
    char network_fault[DOCTOR_TEXT_MAX];
    char network_name[65];
    unsigned long network_relays, network_expired, network_entries; /* entries: ways to begin */
    bool routes_all, kill_switch, lockdown;
    bool is_part; /* only what inside_* lists goes into the tunnel */

    /* rights */
    int tun_errno; /* of opening /dev/net/tun; 0: it opens */
    enum doctor_seen has_net_admin;
    bool has_user, has_group, is_in_group;

    /* kernel */
    int landlock_abi; /* 0: none */
    bool has_seccomp, has_gso, has_gro;
    uint64_t memlock_bytes;             /* UINT64_MAX: no limit */
    char strict_interface[IF_NAMESIZE]; /* drops what comes another way, marked or not; "" = none */

    /* the rest of the host */
    mvpn_host_view host;
    char tun_name[IF_NAMESIZE];
    enum doctor_seen has_own_tun;
    uint32_t table; /* routing table of ours */
    enum doctor_resolver resolver;
    unsigned name_servers;
    bool names_our_resolver; /* /etc/resolv.conf asks the inside of the tunnel */
    bool has_resolver_backup;
    enum doctor_seen is_clock_kept; /* the kernel's clock is disciplined */
    bool has_clock_offset;
    int64_t clock_offset_s; /* to be added, as the client found out */

    /* ours */
    enum doctor_daemon daemon;
    char control_socket[PATH_MAX];
    char daemon_state[24];
    unsigned taken_port; /* a UDP port of ours that another holds; 0: none */
    char state_dir[PATH_MAX];
    bool has_state_dir;
    enum doctor_seen is_state_dir_writable; /* by the program's user */
    enum doctor_seen has_space;
    uint64_t free_bytes;
    bool has_systemd, has_unit, is_unit_enabled;
    bool is_lockdown_enabled; /* its unit, which holds from boot on */
} doctor_facts;

enum doctor_mark {
    DOCTOR_GOOD,
    DOCTOR_BROKEN,
    DOCTOR_UNSURE, /* could not be seen, or may be meant so */
};

typedef struct doctor_verdict {
    const char *name; /* "tun": for programs, stays as it is */
    enum doctor_mark mark;
    char text[DOCTOR_TEXT_MAX + PATH_MAX];
    char repair[PATH_MAX + 128]; /* a command; "" = none is needed, or none is known */
} doctor_verdict;

/* Below it, state files and logs may not be written whole. */
#define DOCTOR_SPACE_MIN (16u << 20)
/* What a program locks: keys and session secrets. */
#define DOCTOR_MEMLOCK_MIN (64u << 10)

#define DOCTOR_CHECKS_MAX 24

/** Judge. Returns how many verdicts there are, in the order in which a person mends things. */
unsigned doctor_judge(const doctor_facts *facts, doctor_verdict ret[static DOCTOR_CHECKS_MAX]);

/** "good", "broken" or "unsure". */
const char *doctor_mark_name(enum doctor_mark mark);

/** How many have that mark. */
unsigned doctor_count(const doctor_verdict *verdicts, unsigned count, enum doctor_mark mark);

/** The object "meshvpn.doctor/1", the caller's; NULL: no memory. */
json_t *doctor_json(const doctor_verdict *verdicts, unsigned count);

#endif
