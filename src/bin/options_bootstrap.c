/* The command line of meshvpn-bootstrap. What values mean is checked in bootstrap_args.c. */
#include "bin/bootstrap.h"
#include "bin/options_tables.h"

#define DAYS_OPTION(text)                                                                          \
    {                                                                                              \
        .name = "--days", .value = "N", .kind = OPTION_NUMBER, .max = BOOTSTRAP_DAYS_MAX,          \
        .help = text                                                                               \
    }
#define DIR_OPERAND                                                                                \
    {                                                                                              \
        .name = "DIR", .kind = OPTION_DIR, .help = "the network's directory, with its keys"        \
    }
#define NAME_OPERAND                                                                               \
    {                                                                                              \
        .name = "NAME", .kind = OPTION_TEXT, .help = "the node: a-z, 0-9 and -"                    \
    }

/* clang-format off */
const option_row options_help_operands[] = {
    {.name = "COMMAND", .is_optional = true, .help = "the command that is asked about"},
    {.name = "WORD", .is_optional = true, .help = "its second word, if it has one"},
    {0},
};

static const option_row init_options[] = {
    {.name = "--name", .value = "NAME", .kind = OPTION_TEXT, .help = "what the network is called (meshvpn)"},
    {.name = "--open", .help = "without a secret and without membership certificates"},
    {.name = "--allow-private", .help = "its nodes may have private addresses"},
    {.name = "--relax", .value = "RULE", .kind = OPTION_CHOICE, .choices = "same-16 same-provider same-family",
     .max_count = 3, .help = "a path may break this rule: same-16, same-provider or same-family"},
    {.name = "--dns", .value = "NAME", .kind = OPTION_TEXT,
     .help = "newcomers also look for entries in the TXT records of NAME"},
    {.name = "--lan-discovery", .help = "and ask their local network (which shows that MeshVPN runs)"},
    {0},
};
static const option_row dir_operands[] = {
    DIR_OPERAND,
    {0},
};
static const option_row node_operands[] = {
    DIR_OPERAND,
    NAME_OPERAND,
    {0},
};
static const option_row revoke_operands[] = {
    DIR_OPERAND,
    {.name = "NAME|SERIAL", .kind = OPTION_TEXT, .help = "the node, or the number of its membership"},
    {0},
};
static const option_row deploy_operands[] = {
    DIR_OPERAND,
    NAME_OPERAND,
    {.name = "HOST", .kind = OPTION_TEXT, .help = "[USER@]HOST, as for ssh"},
    {0},
};

static const option_row add_node_options[] = {
    {.name = "--address", .value = "IP:PORT", .kind = OPTION_TEXT, .max_count = MVPN_DESCRIPTOR_ADDRESSES_MAX,
     .help = "where others reach the node; [V6]:PORT for IPv6"},
    {.name = "--exit", .help = "an exit as well"},
    {.name = "--bootstrap", .help = "an entry node, where newcomers begin; listed in network.conf"},
    {.name = "--discovery", .help = "crawls and serves lists of relays"},
    {.name = "--listed", .help = "put its descriptor into network.conf: for networks without DHT"},
    {.name = "--nat-relay", .help = "forwards for relays behind a NAT too"},
    {.name = "--home",
     .help = "behind a NAT, in place of --address: reached through relays with --nat-relay; a middle, or an exit"},
    {.name = "--policy", .value = "FILE", .kind = OPTION_FILE,
     .help = "what the exit lets out: rules, one a line (docs/exit.md)"},
    {.name = "--country", .value = "CC", .kind = OPTION_TEXT, .help = "where it stands: two upper-case letters"},
    {.name = "--bandwidth-mbit", .value = "N", .kind = OPTION_NUMBER, .max = 4000000, .unit = "Mbit/s",
     .help = "what it can carry, in Mbit/s"},
    {.name = "--provider", .value = "P", .kind = OPTION_TEXT, .help = "whose computer it is"},
    {.name = "--url", .value = "URL", .kind = OPTION_TEXT, .help = "where people reach a discovery node"},
    DAYS_OPTION("how long its certificates hold (365)"),
    {0},
};
static const option_example add_node_examples[] = {
    {"meshvpn-bootstrap add-node net alder --address 198.51.100.7:443", "a guard and middle relay"},
    {"meshvpn-bootstrap add-node net maple --exit --address 203.0.113.9:443 --address [2001:db8::9]:443 --country CH",
     "an exit with two addresses"},
    {0},
};

static const option_row admit_options[] = {
    DAYS_OPTION("how long its membership holds (365)"),
    {.name = "--output", .value = "FILE", .kind = OPTION_FILE, .help = "write it there (NAME.membership)"},
    {.name = "--force", .help = "although its name is taken: it is the same relay, whose membership ends"},
    {0},
};
static const option_row admit_operands[] = {
    DIR_OPERAND,
    {.name = "REQUEST", .kind = OPTION_FILE, .help = "what meshvpn relay enable left in /etc/meshvpn/relay/request"},
    {0},
};

static const option_row renew_options[] = {
    DAYS_OPTION("how long its certificates hold (365)"),
    {0},
};

const option_row options_invite[] = {
    DAYS_OPTION("how long the link is good (7)"),
    {.name = "--entry", .value = "NAME", .kind = OPTION_TEXT,
     .help = "the entry node where the newcomer begins (one of the network's, at random)"},
    {.name = "--qr", .help = "print a QR code too (as on a terminal)"},
    {.name = "--no-qr", .help = "print none"},
    {0},
};

static const option_row deploy_options[] = {
    {.name = "--ssh-option", .value = "O", .kind = OPTION_TEXT, .max_count = BOOTSTRAP_SSH_OPTIONS_MAX,
     .help = "given to ssh as -o O, such as Port=2222"},
    {.name = "--program", .value = "FILE", .kind = OPTION_FILE,
     .help = "its program; else the one beside meshvpn-bootstrap"},
    {.name = "--installed", .help = "the host has the program already"},
    {.name = "--force", .help = "replace another node that lives there"},
    {.name = "--dry-run", .help = "say what would be done"},
    {0},
};
static const option_example deploy_examples[] = {
    {"meshvpn-bootstrap deploy net alder root@198.51.100.7 --dry-run", "what would be done on that host"},
    {0},
};

static const option_row cloud_init_options[] = {
    {.name = "--package-url", .value = "URL", .kind = OPTION_TEXT,
     .help = "a Debian package with the program; else the image must have it"},
    {.name = "--package-sha256", .value = "HEX", .kind = OPTION_TEXT, .help = "what sha256sum says of the package"},
    {.name = "--output", .value = "FILE", .kind = OPTION_FILE, .help = "write here and not to standard output"},
    {0},
};

static const option_verb verbs[] = {
    {.name = "init", .id = BOOTSTRAP_INIT, .summary = "make a new network",
     .text = "Writes its keys, DIR/network.conf and DIR/client.conf.",
     .options = init_options, .operands = dir_operands},
    {.name = "add-node", .id = BOOTSTRAP_ADD_NODE, .summary = "make a node, ready for its server",
     .text = "Writes DIR/nodes/NAME: configuration, keys and systemd unit. Without --exit, --bootstrap and --discovery "
             "it is a relay: guard, middle, and a server of the DHT.",
     .options = add_node_options, .operands = node_operands, .examples = add_node_examples},
    {.name = "admit", .id = BOOTSTRAP_ADMIT, .summary = "make somebody else's relay a member of a closed network",
     .text = "Its keys stay where they are: the request holds none. Says its name and whether it is to be an exit; "
             "revoke takes it back by that name.",
     .options = admit_options, .operands = admit_operands},
    {.name = "renew", .id = BOOTSTRAP_RENEW, .summary = "sign a node's certificates and descriptor anew",
     .text = "With the same keys.", .options = renew_options, .operands = node_operands},
    {.name = "revoke", .id = BOOTSTRAP_REVOKE, .summary = "take a node's membership back",
     .text = "Running nodes hear of it through the network.", .operands = revoke_operands},
    {.name = "invite", .id = BOOTSTRAP_INVITE, .summary = "print a link for meshvpn join",
     .text = "On a terminal with a QR code. The link of a closed network is a secret.",
     .options = options_invite, .operands = dir_operands},
    {.name = "deploy", .id = BOOTSTRAP_DEPLOY, .summary = "install a node on a host over ssh and start it",
     .text = "Again: bring it up to date.", .options = deploy_options, .operands = deploy_operands,
     .examples = deploy_examples},
    {.name = "cloud-init", .id = BOOTSTRAP_CLOUD_INIT, .summary = "write user-data for a cloud host",
     .text = "With them a host (AWS or any other with cloud-init) becomes this node at its first start.",
     .options = cloud_init_options, .operands = node_operands},
    {.name = "show", .id = BOOTSTRAP_SHOW, .summary = "print the network and its nodes", .operands = dir_operands},
    {.name = "help", .id = BOOTSTRAP_HELP, .summary = "what a command does", .operands = options_help_operands},
    {0},
};

static const option_exit exits[] = {
    {0, "done"},
    {1, "failed"},
    {2, "wrong usage"},
    {0},
};

const option_program options_bootstrap = {
    .name = "meshvpn-bootstrap",
    .section = 1,
    .summary = "makes a MeshVPN network, its nodes and its invitations",
    .text = "All that belongs to a network lies in one directory: its keys in DIR/keys, which are to be backed up and "
            "shown to nobody, and in DIR/nodes what goes to the servers.",
    .verbs = verbs,
    .exits = exits,
    .see_also = "meshvpn 1 meshvpn-dht-bootstrap 8 meshvpn-discovery 8 meshvpn-exit-node 8 meshvpn-relay 8",
};
/* clang-format on */
