/*
 * How a process gives up what it does not need: its user, capabilities, system calls (seccomp),
 * files (landlock). The worker of every program (network and cryptography) and its helper
 * (io/helper.h) both enter one, each with a list of its own. docs/architecture.md "Privileges" says
 * who keeps what.
 *
 * Everything that the process still needs to open is opened before: TUN, sockets below 1024,
 * netlink sockets, the control socket, directories of keys and state (mvpn_file_pin_dir).
 */
#ifndef MVPN_IO_SANDBOX_H
#define MVPN_IO_SANDBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "io/fault.h"

#define MVPN_SANDBOX_USER "meshvpn"
/*
 * Stands in for it. Systemd says that nobody lives there (1879048192..2147483647, "uid ranges"):
 * better than "nobody", whose files are those of every program that had no better idea.
 */
#define MVPN_SANDBOX_UNUSED_UID 2102220368u
#define MVPN_SANDBOX_USER_MAX 32
#define MVPN_SANDBOX_DIRS 4

/* Whom a program becomes. */
typedef struct mvpn_sandbox_user {
    uid_t uid;
    gid_t gid;
    bool changes; /* false: it stays who it is (not started as root, or told to) */
    char name[MVPN_SANDBOX_USER_MAX + 1]; /* "" = has none */
} mvpn_sandbox_user;

/**
 * Choose the user: `wanted`, which must exist; with "" the user "meshvpn", else a number that no
 * user of this system has, else nobody. Who is not root stays who it is. MVPN_E_CONFIG.
 */
MVPN_WUR int mvpn_sandbox_find_user(const char *wanted, mvpn_sandbox_user *ret, mvpn_fault *fault);

/**
 * Give `dir` and the plain files in it to `user`, so that it can go on to write there. A directory
 * that holds directories is not one of state, and is left alone: MVPN_E_CONFIG. MVPN_E_SYSTEM.
 */
MVPN_WUR int mvpn_sandbox_give_dir(const char *dir, const mvpn_sandbox_user *user,
                                   mvpn_fault *fault);

/**
 * Let `user` make files in `dir`, and replace the one called `name`, but none of others (sticky
 * bit). As above.
 */
MVPN_WUR int mvpn_sandbox_share_dir(const char *dir, const char *name,
                                    const mvpn_sandbox_user *user, mvpn_fault *fault);

/**
 * Keep `size` bytes at `secret` out of swap and core files. False if the limit of locked memory
 * (RLIMIT_MEMLOCK) does not allow the first; then the caller says so.
 */
bool mvpn_sandbox_lock(const void *secret, size_t size);

enum mvpn_sandbox_role {
    MVPN_SANDBOX_WORKER, /* packets, cryptography, name resolution, HTTP */
    MVPN_SANDBOX_HELPER, /* netlink and the socket to the worker, nothing else; opens no file */
    /* The process for names (io/host_dns.h), one of: */
    MVPN_SANDBOX_FILES,   /* replaces files in its directories; no socket, no program */
    MVPN_SANDBOX_BUS,     /* Unix sockets; opens no file, runs no program */
    MVPN_SANDBOX_PROGRAM, /* runs a program of the system, which reads all and writes in those
                             directories; no new mounts, namespaces, kernel modules, tracing */
};

typedef struct mvpn_sandbox_options {
    enum mvpn_sandbox_role role;
    const mvpn_sandbox_user *user; /* NULL: stay who we are */
    bool keep_net_admin;           /* CAP_NET_ADMIN, and nothing else; false: no capability */
    bool ping_sockets;             /* WORKER: also sockets of ICMP echo (io/user_nat.h) */
    const char *write_dirs[MVPN_SANDBOX_DIRS];  /* may be written; NULL: none */
    const char *read_dir;                       /* data that is read later; NULL: none */
    const char *remove_dirs[MVPN_SANDBOX_DIRS]; /* files in them may be removed, nothing else */
    const char *edit_dirs[MVPN_SANDBOX_DIRS];   /* FILES, PROGRAM: made, renamed and removed */
    const char *remove_subdirs; /* empty directories in it may be removed; NULL or "": none */
} mvpn_sandbox_options;

typedef struct mvpn_sandbox_state {
    int landlock_abi; /* 0: this kernel has none */
} mvpn_sandbox_state;

/**
 * Enter: no new privileges, no core files, landlock, user, capabilities, seccomp, in this order,
 * and check that it took. The process must have one thread. There is no way back; after a failure
 * the process is somewhere in between and must end. MVPN_E_SYSTEM.
 *
 * A kernel without landlock is no failure: `ret` tells.
 */
MVPN_WUR int mvpn_sandbox_enter(const mvpn_sandbox_options *options, mvpn_sandbox_state *ret,
                                mvpn_fault *fault);

#endif
