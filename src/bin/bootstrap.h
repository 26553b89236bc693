/*
 * What the commands of meshvpn-bootstrap share: their arguments, and the directory of a network.
 *
 *     DIR/keys/network.key     signs memberships and revocations; stays here and is backed up
 *     DIR/keys/issued          serial, expiry and node of every membership certificate
 *     DIR/network.conf         the network file, for everybody
 *     DIR/client.conf          an example for clients
 *     DIR/revocations          the signed list, if there is one
 *     DIR/nodes/NAME/          all that a node needs: copied to its server as it is
 *     DIR/revoked/NAME.SERIAL/ nodes that were revoked
 */
#ifndef MVPN_BIN_BOOTSTRAP_H
#define MVPN_BIN_BOOTSTRAP_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "bin/options.h"
#include "io/fault.h"
#include "io/keyfile.h"
#include "io/network_file.h"

/* Of certificates and invitations: short enough that a lost key is no member for ever. */
#define BOOTSTRAP_DAYS_MAX 3650
#define BOOTSTRAP_DAY_S 86400u
#define BOOTSTRAP_SSH_OPTIONS_MAX 16

/* --- arguments --- */

enum node_kind {
    NODE_RELAY,
    NODE_EXIT,
    NODE_BOOTSTRAP,
    NODE_DISCOVERY,
    NODE_KINDS,
};

typedef struct arguments {
    const char *dir;
    const char *node; /* NULL if the command takes none */
    const char *host; /* deploy */
    const char *name;
    bool is_open;
    bool allow_private;
    unsigned relax;
    const char *dns;
    bool lan_discovery;
    bool is_nat_relay;
    bool is_at_home;     /* behind a NAT: without addresses */
    unsigned kind_count; /* how many of --exit, --bootstrap, --discovery were given */
    enum node_kind kind;
    bool is_listed;
    unsigned address_count;
    mvpn_addr addresses[MVPN_DESCRIPTOR_ADDRESSES_MAX];
    const char *policy; /* a file of rules; NULL: the default policy */
    const char *country;
    const char *provider;
    const char *url;
    unsigned long bandwidth_mbit;
    unsigned long days; /* 0 = not said */
    const char *entry;
    bool wants_qr;
    bool wants_no_qr;
    unsigned ssh_option_count;
    const char *ssh_options[BOOTSTRAP_SSH_OPTIONS_MAX];
    const char *program;
    bool is_installed;
    bool is_forced;
    bool is_dry_run;
    const char *package_url;
    const char *package_sha256;
    const char *output;
} arguments;

/** Check what was given to a command. Returns 0, or the exit status (all has been said). */
int arguments_parse(arguments *args, const options_given *given);

/** Say `fault`, or a wrong usage, on stderr; returns the exit status. */
int bootstrap_fail(const mvpn_fault *fault);
int bootstrap_fail_usage(const char *fmt, ...) MVPN_PRINTF(1, 2);

/* --- files --- */

typedef struct path {
    char text[PATH_MAX];
} path;

/** Ends the program if the path is too long. */
path path_of(const char *fmt, ...) MVPN_PRINTF(1, 2);
bool path_exists(const char *file);
/** Write a text file atomically. */
int write_text(const char *file, mode_t mode, mvpn_fault *fault, const char *fmt, ...)
    MVPN_PRINTF(4, 5);

/* --- the network --- */

/** The network's signing key and file, opened together. */
typedef struct network {
    mvpn_ed25519_pub pub;
    mvpn_ed25519_secret secret_key;
    mvpn_network_file file;
} network;

MVPN_WUR int network_open(const char *dir, network *ret, mvpn_fault *fault);
void network_done(network *net);
/** Write the network file, for everybody and into each node's directory. */
MVPN_WUR int network_publish(const char *dir, const network *net, mvpn_fault *fault);

/* Certificates that were issued. Networks without memberships have none. */
typedef struct issued {
    uint64_t serial;
    uint64_t not_after; /* Unix seconds */
    char node[MVPN_NAME_MAX + 1];
} issued;

/** Take note of a certificate; before it is handed out. */
MVPN_WUR int issued_add(const char *dir, const issued *certificate, mvpn_fault *fault);
/** All of them, oldest first; the caller's, to be freed with free(). */
MVPN_WUR int issued_load(const char *dir, issued **ret, size_t *ret_count, mvpn_fault *fault);

/* --- nodes --- */

typedef struct kind_info {
    const char *name;    /* of its configuration: NAME.conf */
    const char *program; /* that it runs */
    const char *unit;    /* its systemd unit */
    const char *text;    /* for people */
    uint16_t roles;
} kind_info;
extern const kind_info node_kinds[NODE_KINDS];

/** A node of DIR/nodes. */
typedef struct mesh_node {
    char name[MVPN_NAME_MAX + 1];
    path dir;
    enum node_kind kind;
    mvpn_descriptor descriptor; /* as it was signed here last; its own may be newer */
} mesh_node;

/** Read one. MVPN_E_UNKNOWN if there is none of this name; MVPN_E_CONFIG, MVPN_E_SYSTEM. */
MVPN_WUR int node_load(const char *dir, const char *name, mesh_node *ret, mvpn_fault *fault);
/** Names of all nodes, sorted; the caller's: free `*ret` with free(). */
typedef struct node_name {
    char text[MVPN_NAME_MAX + 1];
} node_name;
MVPN_WUR int node_list(const char *dir, node_name **ret, size_t *ret_count, mvpn_fault *fault);
/** Is it one of add-node --home? What is kept of it here names no address to send to. */
bool node_is_at_home(const mvpn_descriptor *d);
/** What others begin at: one per address. Returns how many. */
unsigned node_contacts(const mvpn_descriptor *d,
                       mvpn_dht_contact ret[static MVPN_DESCRIPTOR_ADDRESSES_MAX]);
/** Serial of the membership certificate in a descriptor; 0 if it has none. */
uint64_t node_serial(const mvpn_descriptor *d);

/** The hardened systemd unit of a node, a string for free(); NULL if there is no memory. */
char *node_unit(const mesh_node *n);

/** The files of a node's directory that its server needs, NULL at the end. Not all need be there.
 */
typedef struct node_file {
    const char *name;
    bool is_secret;
} node_file;
#define NODE_FILES_MAX 10
/** Returns how many; `conf` holds the name of the configuration. */
unsigned node_files(const mesh_node *n, const mvpn_network_file *net, char conf[static 32],
                    node_file ret[static NODE_FILES_MAX]);

/* --- commands: each gets what follows its name and returns the exit status --- */

int command_init(const options_given *given);
int command_add_node(const options_given *given);
int command_admit(const options_given *given);
int command_renew(const options_given *given);
int command_revoke(const options_given *given);
int command_invite(const options_given *given);
int command_deploy(const options_given *given);
int command_cloud_init(const options_given *given);
int command_show(const options_given *given);

#endif
