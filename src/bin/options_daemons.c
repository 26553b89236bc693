/* The command lines of the daemons, which have no commands. */
#include "bin/options_tables.h"

#include "wire/cell.h"

#define CONFIG_OPTIONS(file)                                                                       \
    {.name = "--config",                                                                           \
     .letter = 'c',                                                                                \
     .value = "FILE",                                                                              \
     .kind = OPTION_FILE,                                                                          \
     .help = "configuration, such as /etc/meshvpn/" file                                           \
             "; every key is described in docs/configuration.md"},                                 \
    {                                                                                              \
        .name = "--check", .help = "check configuration, keys and network file, and start nothing" \
    }

/* clang-format off */
static const option_exit exits[] = {
    {0, "ended by a signal, or all is in order"},
    {1, "failed"},
    {2, "wrong usage or configuration"},
    {0},
};
static const option_exit exit_node_exits[] = {
    {0, "ended by a signal, or all is in order; with --check-policy: a session may go there"},
    {1, "failed; with --check-policy: it may not"},
    {2, "wrong usage or configuration"},
    {0},
};

static const option_row client_options[] = {
    CONFIG_OPTIONS("client.conf"),
    {.name = "--cleanup", .help = "take back what a crashed run, or lockdown, left in this host: the kill switch"},
    {.name = "--lockdown", .help = "with lockdown = true: let nothing leave this host from now on, and end; for the start of the system"},
    {.name = "--exit", .value = "CC|NAME|ID|auto", .kind = OPTION_TEXT,
     .help = "leave by an exit in these countries, or by this one; as meshvpn exit use at run time, and remembered too"},
    {.name = "--hops", .value = "N", .kind = OPTION_NUMBER, .max = MVPN_HOPS_MAX, .help = "relays in a circuit, whatever the configuration says"},
    {.name = "--tun-fd", .value = "N", .kind = OPTION_NUMBER, .max = 1048576,
     .help = "for meshvpn run: carry the TUN device of this open descriptor and change nothing in this host; ends with standard input"},
    {.name = "--own-dir", .value = "DIR", .kind = OPTION_DIR, .help = "with --tun-fd: state and control socket are there"},
    {.name = "--proxy", .help = "neither TUN device nor rights: a proxy for programs that are told to use it"},
    OPTIONS_PROXY,
    {0},
};
static const option_row relay_options[] = {CONFIG_OPTIONS("relay.conf"), {0}};
static const option_row bootstrap_options[] = {CONFIG_OPTIONS("bootstrap.conf"), {0}};
static const option_row discovery_options[] = {CONFIG_OPTIONS("discovery.conf"), {0}};
static const option_row exit_options[] = {
    CONFIG_OPTIONS("exit.conf"),
    {.name = "--cleanup", .help = "take back what a crashed run left in this host"},
    {.name = "--check-policy", .value = "DEST|FILE", .kind = OPTION_TEXT,
     .help = "may a session go to DEST, and what decides? DEST is ADDRESS:PORT, ADDRESS:PORT/udp or ADDRESS/icmp. With "
             "a FILE of rules, DESTINATION follows, and these rules decide"},
    {0},
};
static const option_row exit_operands[] = {
    {.name = "DESTINATION", .kind = OPTION_TEXT, .is_optional = true, .help = "of --check-policy FILE"},
    {0},
};
static const option_example exit_examples[] = {
    {"meshvpn-exit-node --config exit.conf --check-policy 192.0.2.1:25", "would this exit carry mail?"},
    {0},
};

static const option_verb client_verbs[] = {
    {.name = "", .summary = "carries this host's traffic through a MeshVPN network", .options = client_options},
    {0},
};
static const option_verb relay_verbs[] = {
    {.name = "", .summary = "a guard and middle relay of a MeshVPN network", .options = relay_options},
    {0},
};
static const option_verb exit_verbs[] = {
    {.name = "", .summary = "an exit relay of a MeshVPN network", .options = exit_options, .operands = exit_operands,
     .exits = exit_node_exits, .examples = exit_examples},
    {0},
};
static const option_verb bootstrap_verbs[] = {
    {.name = "", .summary = "an entry into a MeshVPN network: DHT server and directory", .options = bootstrap_options},
    {0},
};
static const option_verb discovery_verbs[] = {
    {.name = "", .summary = "surveys a MeshVPN network and shows it over HTTP", .options = discovery_options},
    {0},
};

#define DAEMON(program_name, program_summary, program_verbs, also)                                 \
    {                                                                                              \
        .name = program_name, .section = 8, .summary = program_summary, .verbs = program_verbs,    \
        .exits = exits, .see_also = also,                                                          \
        .text = "A daemon that stays in the foreground, logs to standard error and tells systemd " \
                "when it is ready. It gives its rights up once everything is open."                \
    }

const option_program options_client = DAEMON(
    "meshvpn-client", "carries this host's traffic through a MeshVPN network", client_verbs, "meshvpn 1");
const option_program options_relay = DAEMON(
    "meshvpn-relay", "guard and middle relay of a MeshVPN network", relay_verbs, "meshvpn 1 meshvpn-bootstrap 1");
const option_program options_exit_node = DAEMON(
    "meshvpn-exit-node", "exit relay of a MeshVPN network", exit_verbs, "meshvpn 1 meshvpn-bootstrap 1");
const option_program options_dht_bootstrap = DAEMON(
    "meshvpn-dht-bootstrap", "entry into a MeshVPN network", bootstrap_verbs, "meshvpn-bootstrap 1");
const option_program options_discovery = DAEMON(
    "meshvpn-discovery", "surveys a MeshVPN network and shows it over HTTP", discovery_verbs, "meshvpn-bootstrap 1");
/* clang-format on */
