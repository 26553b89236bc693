/* The command lines of all programs (options.h): data alone, so that a tool can print manuals. */
#ifndef MVPN_BIN_OPTIONS_TABLES_H
#define MVPN_BIN_OPTIONS_TABLES_H

#include "bin/options.h"

enum meshvpn_verb {
    VERB_JOIN,
    VERB_INVITE,
    VERB_STATUS,
    VERB_UP,
    VERB_DOWN,
    VERB_RECONNECT,
    VERB_CIRCUIT_LIST,
    VERB_CIRCUIT_SHOW,
    VERB_CIRCUIT_NEW,
    VERB_PROXY,
    VERB_EXIT_LIST,
    VERB_EXIT_SUGGEST,
    VERB_EXIT_USE,
    VERB_EXIT_BLOCK,
    VERB_EXIT_UNBLOCK,
    VERB_RELAY_ENABLE,
    VERB_RELAY_STATUS,
    VERB_DOCTOR,
    VERB_REPORT,
    VERB_NETCHECK,
    VERB_PING,
    VERB_CONFIG_CHECK,
    VERB_CONFIG_SHOW,
    VERB_CONFIG_SET,
    VERB_CONFIG_UNSET,
    VERB_CONFIG_DOCS,
    VERB_LOG,
    VERB_TOP,
    VERB_RUN,
    VERB_VERSION,
    VERB_HELP,
};

enum bootstrap_verb {
    BOOTSTRAP_INIT,
    BOOTSTRAP_ADD_NODE,
    BOOTSTRAP_ADMIT,
    BOOTSTRAP_RENEW,
    BOOTSTRAP_REVOKE,
    BOOTSTRAP_INVITE,
    BOOTSTRAP_DEPLOY,
    BOOTSTRAP_CLOUD_INIT,
    BOOTSTRAP_SHOW,
    BOOTSTRAP_HELP,
};

extern const option_program options_meshvpn;
extern const option_program options_bootstrap;
extern const option_program options_relay;
extern const option_program options_exit_node;
extern const option_program options_client;
extern const option_program options_dht_bootstrap;
extern const option_program options_discovery;

/* Of meshvpn-bootstrap invite, which meshvpn invite runs. */
extern const option_row options_invite[];
/* Of meshvpn-client, that also meshvpn proxy takes. */
#define OPTIONS_PROXY                                                                              \
    {.name = "--socks",                                                                            \
     .value = "ADDR",                                                                              \
     .kind = OPTION_TEXT,                                                                          \
     .help = "listen for SOCKS5 at IP:PORT, or at a port of 127.0.0.1; 1080 if neither this nor "  \
             "--http is given"},                                                                   \
    {                                                                                              \
        .name = "--http", .value = "ADDR", .kind = OPTION_TEXT,                                    \
        .help = "listen for HTTP CONNECT likewise"                                                 \
    }
/* Of the verb help, in programs that have verbs. */
extern const option_row options_help_operands[];

#endif
