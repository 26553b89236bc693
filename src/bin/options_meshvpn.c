/* The command line of meshvpn. */
#include "bin/options_tables.h"

#include "core/client.h"
#include "io/config.h"
#include "io/netcheck.h"
#include "wire/descriptor.h"

#define CONTROL_OPTION                                                                             \
    {                                                                                              \
        .name = "--control", .value = "SOCKET", .kind = OPTION_SOCKET,                             \
        .help = "the daemon's control_socket (" MVPN_CONFIG_CONTROL_SOCKET                         \
                ", else the only one in " MVPN_CONFIG_RUN_DIR ")"                                  \
    }
#define NO_DAEMON_EXITS                                                                            \
    {1, "failed"}, {2, "wrong usage"},                                                             \
    {                                                                                              \
        4, "no daemon"                                                                             \
    }

/* clang-format off */
static const option_exit plain_exits[] = {
    {0, "done"},
    {1, "failed"},
    {2, "wrong usage"},
    {0},
};

static const option_row join_options[] = {
    {.name = "--config-dir", .value = "DIR", .kind = OPTION_DIR,
     .help = "where network.conf and client.conf are written (/etc/meshvpn)"},
    {.name = "--force", .help = "although the computer is a member of a network already"},
    {0},
};
static const option_exit join_exits[] = {
    {0, "a member"},
    {1, "failed"},
    {2, "wrong usage"},
    {3, "the invitation has expired"},
    {0},
};
static const option_row join_operands[] = {
    {.name = "LINK", .kind = OPTION_TEXT, .help = "the invitation, meshvpn:..., or - to read it from standard input",
     .if_missing = "join needs the LINK that you were given, or - to read it"},
    {0},
};
static const option_example join_examples[] = {
    {"sudo meshvpn join -", "read the link from standard input: in an argument other users of the computer can see it"},
    {0},
};

static const option_row invite_operands[] = {
    {.name = "DIR", .kind = OPTION_DIR, .is_optional = true, .help = "the network's directory, with its keys"},
    {0},
};

#define NO_COLOR_OPTION {.name = "--no-color", .help = "no colours and no line drawn over, as with NO_COLOR in the environment or off a terminal"}
#define CLIENT_CONFIG_OPTION \
    {.name = "--config", .letter = 'c', .value = "FILE", .kind = OPTION_FILE, .help = "the client's configuration (/etc/meshvpn/client.conf)"}
static const option_row up_options[] = {
    {.name = "--wait", .help = "until connected, or until that has failed (this is so without it too)"},
    {.name = "--no-wait", .help = "return as soon as the client runs"},
    {.name = "--timeout", .value = "S", .kind = OPTION_NUMBER, .max = 86400, .unit = "seconds", .help = "wait so many seconds at most (60)"},
    {.name = "--exit", .value = "CC|NAME|ID|auto", .kind = OPTION_TEXT, .help = "leave by an exit in these countries, or by this one; as meshvpn exit use"},
    {.name = "--hops", .value = "N", .kind = OPTION_NUMBER, .max = MVPN_HOPS_MAX, .help = "relays in a circuit, until the client ends (hops of the configuration)"},
    {.name = "--json", .help = "print JSON lines: one for each stage, one for the end (schema meshvpn.up/1)"},
    {.name = "--quiet", .help = "say nothing but what goes wrong"},
    NO_COLOR_OPTION,
    CLIENT_CONFIG_OPTION,
    {0},
};
static const option_exit up_exits[] = {
    {0, "connected, or was already"},
    {1, "failed otherwise: the client ended, and what it said is shown"},
    {2, "wrong usage or configuration"},
    {3, "still connecting when the time was over, or interrupted: the client goes on"},
    {4, "this computer has no network"},
    {5, "no path is possible: none of the exits or relays fits what was asked for"},
    {6, "UDP is blocked"},
    {7, "no guard, or nobody whom the network file names, answers"},
    {8, "the clock is too wrong"},
    {9, "no TUN device"},
    {10, "no rights"},
    {11, "another VPN takes the client's packets"},
    {12, "no exit opens a session"},
    {13, "connected, but names do not resolve"},
    {14, "connected, but the test of the protection failed"},
    {15, "this computer drops the answers (rp_filter)"},
    {0},
};
static const option_example up_examples[] = {
    {"sudo meshvpn up", "be protected, and see that it is so"},
    {"sudo meshvpn up --exit CH --json", "for programs, by an exit in Switzerland"},
    {0},
};
static const option_row down_options[] = {CLIENT_CONFIG_OPTION, {0}};
static const option_exit down_exits[] = {
    {0, "down: nothing is left, or with lockdown nothing leaves"},
    {1, "failed"},
    {2, "wrong usage or configuration"},
    {10, "no rights"},
    {0},
};
static const option_exit reconnect_exits[] = {
    {0, "taken"},
    {1, "failed"},
    {2, "wrong usage or configuration"},
    {4, "no client runs"},
    {10, "no rights"},
    {0},
};

static const option_row status_options[] = {
    {.name = "--prove", .help = "have the client test anew whether it protects this host, and wait for that (four seconds)"},
    {.name = "--watch", .help = "again every second, until a signal ends it"},
    NO_COLOR_OPTION,
    {.name = "--json", .help = "print the daemon's own object (schema meshvpn.status/1)"},
    CONTROL_OPTION,
    {0},
};
static const option_exit status_exits[] = {
    {0, "connected (a relay: running)"},
    {1, "failed"},
    {2, "wrong usage"},
    {3, "connecting"},
    {4, "down, or no daemon"},
    {5, "blocked: no path is possible, or the kill switch holds"},
    {0},
};

static const option_row control_options[] = {
    CONTROL_OPTION,
    {0},
};
static const option_row circuit_list_options[] = {
    {.name = "--json", .help = "print JSON (schema meshvpn.circuits/1)"},
    CONTROL_OPTION,
    {0},
};
static const option_row circuit_show_options[] = {
    {.name = "--json", .help = "print JSON (schema meshvpn.circuit/1)"},
    CONTROL_OPTION,
    {0},
};
static const option_row circuit_show_operands[] = {
    {.name = "NUMBER", .kind = OPTION_NUMBER, .max = MVPN_CLIENT_CIRCUITS_MAX * (1 + MVPN_CLIENT_BESIDE_MAX), .is_optional = true,
     .help = "of circuit list; without it the one that new connections use"},
    {0},
};
static const option_exit circuit_exits[] = {
    {0, "printed"},
    {1, "failed, or there is no such circuit"},
    {2, "wrong usage"},
    {4, "no daemon"},
    {0},
};
#define EXIT_OPTIONS                                                                               \
    {.name = "--country", .value = "CC", .kind = OPTION_TEXT, .help = "only those there: two upper-case letters"}, \
    {.name = "--port", .value = "PORT", .kind = OPTION_NUMBER, .max = 65535, .help = "only those that let this port out"}, \
    {.name = "--min-mbit", .value = "N", .kind = OPTION_NUMBER, .max = 1000000, .unit = "Mbit/s", \
     .help = "only those that are as fast, by what they say and what was measured"}
static const option_row exit_list_options[] = {
    EXIT_OPTIONS,
    {.name = "--json", .help = "print JSON (schema meshvpn.exits/1)"},
    CONTROL_OPTION,
    {0},
};
static const option_row exit_suggest_options[] = {
    EXIT_OPTIONS,
    {.name = "--json", .help = "print JSON (schema meshvpn.suggestions/1)"},
    CONTROL_OPTION,
    {0},
};
static const option_row exit_use_operands[] = {
    {.name = "EXIT", .kind = OPTION_TEXT,
     .help = "countries (CH or CH,SE), a relay's name, 8 or more digits of its identity, or auto",
     .if_missing = "use which? Name a country (CH), a relay, or auto: meshvpn exit use CH"},
    {0},
};
static const option_row exit_block_operands[] = {
    {.name = "EXIT", .kind = OPTION_TEXT,
     .help = "countries (CH or CH,SE), a relay's name, or 8 or more digits of its identity",
     .if_missing = "block which? Name a country (US) or a relay: meshvpn exit block US"},
    {0},
};
static const option_row exit_unblock_operands[] = {
    {.name = "EXIT", .kind = OPTION_TEXT, .help = "as it was blocked; or all",
     .if_missing = "unblock which? Name what was blocked, or all: meshvpn exit unblock all"},
    {0},
};
static const option_exit exit_use_exits[] = {
    {0, "taken"},
    {1, "failed: no such exit, none that fits, or you may not; nothing is changed"},
    {2, "wrong usage"},
    {4, "no daemon"},
    {0},
};
static const option_example exit_use_examples[] = {
    {"meshvpn exit use CH,SE", "an exit in Switzerland or Sweden"},
    {"meshvpn exit use auto", "whichever is drawn, as the configuration says"},
    {0},
};
static const option_example exit_block_examples[] = {
    {"meshvpn exit block US", "no exit there any more, nor one that does not say where it is"},
    {0},
};
static const option_example exit_suggest_examples[] = {
    {"meshvpn exit suggest --country CH --min-mbit 50", "the best few there"},
    {0},
};
static const option_exit exit_list_exits[] = {
    {0, "printed"},
    NO_DAEMON_EXITS,
    {0},
};
static const option_example exit_list_examples[] = {
    {"meshvpn exit list --country CH --port 443", "the exits in Switzerland that carry HTTPS"},
    {0},
};
static const option_exit top_exits[] = {
    {0, "ended by q"},
    {1, "failed"},
    {2, "wrong usage, or no terminal that can be drawn on"},
    {0},
};
static const option_exit circuit_new_exits[] = {
    {0, "taken"},
    NO_DAEMON_EXITS,
    {0},
};

static const option_row proxy_options[] = {
    OPTIONS_PROXY,
    {.name = "--config", .letter = 'c', .value = "FILE", .kind = OPTION_FILE,
     .help = "the client's configuration (~/.config/meshvpn/client.conf if there is one)"},
    {0},
};
static const option_exit proxy_exits[] = {
    {0, "ended by a signal"},
    {1, "failed"},
    {2, "wrong usage or configuration"},
    {0},
};
static const option_example proxy_examples[] = {
    {"meshvpn proxy", "then, elsewhere: curl --socks5-hostname 127.0.0.1:1080 https://example.org/"},
    {0},
};

static const option_row netcheck_options[] = {
    {.name = "--json", .help = "print JSON (schema meshvpn.netcheck/1)"},
    {.name = "--config", .value = "FILE", .kind = OPTION_FILE,
     .help = "whose network file is asked (/etc/meshvpn/client.conf)"},
    {.name = "--server", .value = "HOST[:PORT]", .kind = OPTION_TEXT, .max_count = MVPN_NETCHECK_SERVERS_MAX,
     .help = "ask this STUN server too"},
    {0},
};
static const option_exit netcheck_exits[] = {
    {0, "UDP passes"},
    {1, "failed, or nobody to ask"},
    {2, "wrong usage or configuration"},
    {4, "no network at all"},
    {5, "UDP is blocked"},
    {0},
};
static const option_example netcheck_examples[] = {
    {"meshvpn netcheck --server stun.example.org", "ask a server of STUN besides the network's own"},
    {0},
};

static const option_row ping_options[] = {
    {.name = "--count", .value = "N", .kind = OPTION_NUMBER, .max = 1000000,
     .help = "end after so many; without it when the link is direct, or after 10"},
    {.name = "--interval", .value = "MS", .kind = OPTION_NUMBER, .max = 60000, .unit = "milliseconds",
     .help = "milliseconds between two (1000)"},
    {.name = "--json", .help = "print one JSON object for each (schema meshvpn.ping/1)"},
    CONTROL_OPTION,
    {0},
};
static const option_row ping_operands[] = {
    {.name = "NODE", .kind = OPTION_TEXT, .help = "a relay's name, or 8 or more digits of its identity",
     .if_missing = "ping whom? Name a NODE: meshvpn ping NODE"},
    {0},
};
static const option_exit ping_exits[] = {
    {0, "an answer came"},
    {1, "none came"},
    {2, "wrong usage"},
    {4, "no daemon"},
    {0},
};
static const option_example ping_examples[] = {
    {"meshvpn ping alder --count 3", "three round trips to the relay alder"},
    {0},
};

static const option_row config_operands[] = {
    {.name = "KIND", .kind = OPTION_CHOICE, .choices = "relay exit client bootstrap discovery", .is_optional = true,
     .help = "of which program: relay, exit, client, bootstrap or discovery (client)"},
    {.name = "FILE", .kind = OPTION_FILE, .is_optional = true, .help = "the configuration (/etc/meshvpn/KIND.conf)"},
    {0},
};
static const option_row config_show_options[] = {
    {.name = "--effective", .help = "keys that are not in the file as well, with their defaults"},
    {.name = "--json", .help = "print JSON (schema meshvpn.config/1)"},
    {0},
};
static const option_exit config_show_exits[] = {
    {0, "printed"},
    {1, "something is wrong with the file"},
    {2, "wrong usage"},
    {0},
};
static const option_example config_show_examples[] = {
    {"meshvpn config show relay --effective", "all that holds for the relay of this host"},
    {0},
};
static const option_exit config_check_exits[] = {
    {0, "both files are good"},
    {1, "something is wrong with them"},
    {2, "wrong usage"},
    {0},
};
static const option_example config_check_examples[] = {
    {"meshvpn config check client /etc/meshvpn/client.conf", "before the client is started with it"},
    {0},
};

static const option_row config_set_options[] = {
    {.name = "--file", .value = "FILE", .kind = OPTION_FILE, .help = "the configuration (/etc/meshvpn/KIND.conf)"},
    {0},
};
static const option_row config_set_operands[] = {
    {.name = "KIND", .kind = OPTION_CHOICE, .choices = "relay exit client bootstrap discovery", .is_optional = true,
     .help = "of which program: relay, exit, client, bootstrap or discovery (client)"},
    {.name = "KEY", .kind = OPTION_TEXT, .help = "as meshvpn config docs lists them",
     .if_missing = "which key, and to what? Write meshvpn config set KEY VALUE"},
    {.name = "VALUE", .kind = OPTION_TEXT, .help = "elements of a list with commas between them",
     .if_missing = "to what? Write meshvpn config set KEY VALUE"},
    {0},
};
static const option_row config_unset_operands[] = {
    {.name = "KIND", .kind = OPTION_CHOICE, .choices = "relay exit client bootstrap discovery", .is_optional = true,
     .help = "of which program: relay, exit, client, bootstrap or discovery (client)"},
    {.name = "KEY", .kind = OPTION_TEXT, .help = "as meshvpn config docs lists them",
     .if_missing = "which key? Write meshvpn config unset KEY"},
    {0},
};
static const option_exit config_set_exits[] = {
    {0, "changed"},
    {1, "nothing was changed: the key or the value is wrong, or you may not write the file"},
    {2, "wrong usage"},
    {0},
};
static const option_example config_set_examples[] = {
    {"sudo meshvpn config set exit_country CH", "exits in Switzerland alone"},
    {"sudo meshvpn config set relay relay_limit 50", "50 Mbit/s at most for the relay of this computer"},
    {0},
};

static const option_row log_options[] = {
    {.name = "--lines", .value = "N", .kind = OPTION_NUMBER, .max = 100000, .help = "so many of the last lines (50)"},
    {.name = "--follow", .help = "and new ones as they come, until a signal ends it"},
    {.name = "--level", .value = "LEVEL", .kind = OPTION_CHOICE, .choices = "error warn info debug",
     .help = "up to this level: error, warn, info or debug (debug)"},
    {0},
};
static const option_exit log_exits[] = {
    {0, "printed"},
    {1, "there is none, or it cannot be read"},
    {2, "wrong usage"},
    {0},
};
static const option_example log_examples[] = {
    {"sudo meshvpn log --level warn", "what the program complained about"},
    {0},
};

static const option_row doctor_options[] = {
    {.name = "--json", .help = "print JSON (schema meshvpn.doctor/1)"},
    {0},
};
static const option_row doctor_operands[] = {
    {.name = "KIND", .kind = OPTION_CHOICE, .choices = "relay exit client bootstrap discovery", .is_optional = true,
     .help = "of which program: relay, exit, client, bootstrap or discovery (the one configured here)"},
    {.name = "FILE", .kind = OPTION_FILE, .is_optional = true, .help = "its configuration (/etc/meshvpn/KIND.conf)"},
    {0},
};
static const option_exit doctor_exits[] = {
    {0, "nothing is broken"},
    {1, "something is broken"},
    {2, "wrong usage"},
    {0},
};
static const option_example doctor_examples[] = {
    {"sudo meshvpn doctor", "with root's eyes: without them the packet filter, for one, cannot be seen"},
    {0},
};

static const option_row relay_enable_options[] = {
    {.name = "--exit", .value = "POLICY", .kind = OPTION_FILE,
     .help = "an exit as well: a file of rules (docs/exit.md), or default. What leaves is seen as yours"},
    {.name = "--rate", .value = "RATE", .kind = OPTION_TEXT, .help = "carry at most this: 50mbit, 1gbit"},
    {.name = "--quota", .value = "QUOTA", .kind = OPTION_TEXT, .help = "of an exit: at most this in a month: 1T/month, 500G/month"},
    {.name = "--address", .value = "IP:PORT", .kind = OPTION_TEXT, .max_count = MVPN_DESCRIPTOR_ADDRESSES_MAX,
     .help = "where others reach it; [V6]:PORT for IPv6 (its public addresses, port 443)"},
    {.name = "--home", .help = "nobody reaches it: behind a NAT (if it has no public address)"},
    {.name = "--name", .value = "NAME", .kind = OPTION_TEXT, .help = "shown to everybody: a-z, 0-9 and - (relay- and six digits)"},
    {.name = "--certificate", .value = "FILE", .kind = OPTION_FILE, .help = "the membership that came back from the network's operator"},
    {.name = "--config-dir", .value = "DIR", .kind = OPTION_DIR, .help = "where network.conf is (/etc/meshvpn)"},
    {0},
};
static const option_example relay_enable_examples[] = {
    {"sudo meshvpn relay enable --rate 50mbit", "a relay that carries 50 Mbit/s at most"},
    {"sudo meshvpn relay enable --exit default --quota 1T/month --name maple", "an exit with the default policy"},
    {0},
};

static const option_row relay_status_options[] = {
    {.name = "--json", .help = "print JSON (schema meshvpn.relay/1)"},
    {.name = "--control", .value = "SOCKET", .kind = OPTION_SOCKET,
     .help = "the relay's control_socket (all in " MVPN_CONFIG_RUN_DIR ")"},
    {0},
};
static const option_exit relay_status_exits[] = {
    {0, "printed"},
    {1, "failed"},
    {2, "wrong usage"},
    {4, "no relay runs here"},
    {0},
};

static const option_row report_options[] = {
    {.name = "--output", .value = "FILE", .kind = OPTION_FILE, .help = "write it there (meshvpn-report-DATE.txt)"},
    {.name = "--yes", .help = "write it without asking"},
    {0},
};
static const option_exit report_exits[] = {
    {0, "printed, and written if that was wanted"},
    {1, "failed"},
    {2, "wrong usage"},
    {0},
};
static const option_example report_examples[] = {
    {"sudo meshvpn report", "read it, and answer whether it may be written to a file"},
    {0},
};
static const option_row run_options[] = {
    {.name = "--outside", .help = "outside the tunnel, seen by whoever watches the line"},
    {.name = "--exit", .value = "CC|NAME|ID", .kind = OPTION_TEXT, .help = "by this exit, or one in these countries"},
    {.name = "--config", .letter = 'c', .value = "FILE", .kind = OPTION_FILE,
     .help = "with --exit: the client's configuration (/etc/meshvpn/client.conf)"},
    CONTROL_OPTION,
    {0},
};
static const option_row run_operands[] = {
    {.name = "COMMAND...", .kind = OPTION_TEXT, .is_command = true,
     .help = "what is run, with its arguments; options of meshvpn come before it",
     .if_missing = "run what? meshvpn run --outside COMMAND, or meshvpn run --exit CC COMMAND"},
    {0},
};
static const option_exit run_exits[] = {
    {0, "the command's own; and if it is not run:"},
    {1, "failed, or this host has no cgroup for it"},
    {2, "wrong usage"},
    {3, "no circuit to that exit"},
    {4, "no daemon"},
    {126, "the command cannot be run"},
    {127, "there is no such command"},
    {0},
};
static const option_example run_examples[] = {
    {"sudo meshvpn run --outside setpriv --reuid=anna --init-groups firefox", "a browser outside, as the user anna"},
    {"sudo meshvpn run --exit CH curl https://example.org/", "a page as it is seen from Switzerland"},
    {0},
};

static const option_row version_options[] = {
    {.name = "--json", .help = "print JSON (schema meshvpn.version/1)"},
    {0},
};

static const option_verb verbs[] = {
    {.name = "join", .id = VERB_JOIN, .summary = "become a member of a network",
     .text = "Check the link that you were given and write DIR/network.conf and DIR/client.conf. "
             "Nothing is changed if the link is not good.",
     .options = join_options, .operands = join_operands, .exits = join_exits, .examples = join_examples},
    {.name = "invite", .id = VERB_INVITE, .summary = "invite somebody to your network",
     .text = "The same as meshvpn-bootstrap invite: for who runs the network.",
     .options = options_invite, .operands = invite_operands},
    {.name = "up", .id = VERB_UP, .summary = "start the client, and see it connect",
     .text = "Starts meshvpn-client: by systemd where that has the unit meshvpn, else in the background. Shows the stages "
             "of connecting, then what protects this computer. Fails with what is wrong and what mends it; the client "
             "itself goes on trying then, until meshvpn down.\n\n"
             "One that runs already is asked: --exit and --hops are wishes to it.",
     .options = up_options, .exits = up_exits, .examples = up_examples},
    {.name = "down", .id = VERB_DOWN, .summary = "end the client, and give the network back",
     .text = "Waits until everything is as it was before. With lockdown = true nothing leaves this computer from then on. "
             "Also takes back what a client that fell has left. For root, who started the client, and its operators.",
     .options = down_options, .exits = down_exits},
    {.name = "reconnect", .id = VERB_RECONNECT, .summary = "all circuits anew, now",
     .text = "Asks the guards at once and takes every session over to a fresh circuit; open connections stay.",
     .options = down_options, .exits = reconnect_exits},
    {.name = "status", .id = VERB_STATUS, .summary = "what the daemon does",
     .text = "State, path, exit address and rates, from live counters.",
     .options = status_options, .exits = status_exits},
    {.name = "circuit list", .id = VERB_CIRCUIT_LIST, .summary = "the circuits of the client",
     .text = "A row each: number, state (building, spare, opening, in use or ending), age, round trip to the exit, bytes "
             "in cells, and relays. New connections use the one with a star.",
     .options = circuit_list_options, .exits = circuit_exits},
    {.name = "circuit show", .id = VERB_CIRCUIT_SHOW, .summary = "all about one circuit",
     .options = circuit_show_options, .operands = circuit_show_operands, .exits = circuit_exits},
    {.name = "circuit new", .id = VERB_CIRCUIT_NEW, .summary = "be somebody else",
     .text = "New connections leave with a new address, by another exit if there is one. Open connections keep theirs.",
     .options = control_options, .exits = circuit_new_exits},
    {.name = "proxy", .id = VERB_PROXY, .summary = "the client without root, for programs told to use it",
     .text = "SOCKS5 and HTTP CONNECT on this computer, the whole client behind it; no TUN device, no routes, no rights. "
             "Other programs go on as before, outside. Runs until a signal ends it. (docs/proxy.md)",
     .options = proxy_options, .exits = proxy_exits, .examples = proxy_examples},
    {.name = "exit list", .id = VERB_EXIT_LIST, .summary = "the exits that the client knows",
     .text = "The fastest first, at most 1000: name, country, bandwidth, whether it carries IPv6, and ports, as each exit "
             "says of itself; then whether it is in use or chosen, and why it would not be used.",
     .options = exit_list_options, .exits = exit_list_exits, .examples = exit_list_examples},
    {.name = "exit suggest", .id = VERB_EXIT_SUGGEST, .summary = "the exits that would suit best, and why",
     .text = "At most five that could be used now and are not blocked, by bandwidth as far as it was measured and round "
             "trip as far as they were used.",
     .options = exit_suggest_options, .exits = exit_list_exits, .examples = exit_suggest_examples},
    {.name = "exit use", .id = VERB_EXIT_USE, .summary = "choose where new connections leave",
     .text = "New connections leave there from now on; open ones keep their exit until they end. The choice is kept over "
             "restarts and goes before exit_country of the configuration, until exit use auto. If no such exit can be "
             "used later, connections wait: they never leave by another.\n\n"
             "For root, who started the client, and its operators.",
     .options = control_options, .operands = exit_use_operands, .exits = exit_use_exits, .examples = exit_use_examples},
    {.name = "exit block", .id = VERB_EXIT_BLOCK, .summary = "never leave by an exit, or in a country",
     .text = "New connections do not leave there any more, whatever else is chosen; open ones keep their exit until they "
             "end. Kept over restarts. A blocked relay may still be a guard or middle of a path.",
     .options = control_options, .operands = exit_block_operands, .exits = exit_use_exits, .examples = exit_block_examples},
    {.name = "exit unblock", .id = VERB_EXIT_UNBLOCK, .summary = "take back exit block",
     .options = control_options, .operands = exit_unblock_operands, .exits = exit_use_exits},
    {.name = "relay enable", .id = VERB_RELAY_ENABLE, .summary = "make this computer a relay of its network",
     .text = "Makes its keys in DIR/relay and writes DIR/relay.conf, or exit.conf, and starts it where systemd runs. In a "
             "closed network its operator must admit it: what to send him and what he runs is said. Again: its certificate "
             "is renewed.",
     .options = relay_enable_options, .examples = relay_enable_examples},
    {.name = "relay status", .id = VERB_RELAY_STATUS, .summary = "whether the relay of this computer is of use to others",
     .text = "Whether it is published, and whether anybody reaches it: by the links that others have opened to it, not by "
             "what it says of itself. Beside it NAT, rate, quota and circuits, and what to do where nobody comes.",
     .options = relay_status_options, .exits = relay_status_exits},
    {.name = "doctor", .id = VERB_DOCTOR, .summary = "what is wrong with this computer, and what mends it",
     .text = "Looks at what a client or a relay needs: configuration, TUN device, rights, other VPNs, firewall, name "
             "servers, clock, ports, disk, kernel, and leftovers of a run that was killed. Each has a tick, a cross or a "
             "question mark, and behind the latter two a command. Nothing is changed, and no daemon is needed.",
     .options = doctor_options, .operands = doctor_operands, .exits = doctor_exits, .examples = doctor_examples},
    {.name = "report", .id = VERB_REPORT, .summary = "what somebody who helps you must know, without who you are",
     .text = "Versions, doctor, netcheck, configuration, status and the end of the log, as plain text. Addresses, keys, "
             "countries and the names of hosts, users, relays and domains are taken out. All of it is shown first, and "
             "only written if you say so; nothing is sent anywhere, but netcheck asks the network.",
     .options = report_options, .operands = doctor_operands, .exits = report_exits, .examples = report_examples},
    {.name = "top", .id = VERB_TOP, .summary = "the client at work, on the whole screen",
     .text = "State, path, rates of the last minutes, circuits and what happened, once a second. Keys: q ends, p pauses, "
             "c asks for a new circuit and address (as circuit new), the arrows go through the circuits. Needs a "
             "terminal; NO_COLOR is heeded.",
     .options = control_options, .exits = top_exits},
    {.name = "log", .id = VERB_LOG, .summary = "what the program said",
     .text = "From the journal where systemd runs the program; else what a client wrote that meshvpn up started.",
     .options = log_options, .operands = doctor_operands, .exits = log_exits, .examples = log_examples},
    {.name = "netcheck", .id = VERB_NETCHECK, .summary = "what lies between this computer and the network",
     .text = "In less than 5 s and without root: UDP, addresses, NAT, port mapping, MTU, TCP 443 and the clock. "
             "Asks entries of the network file, and servers of STUN if you name some.",
     .options = netcheck_options, .exits = netcheck_exits, .examples = netcheck_examples},
    {.name = "ping", .id = VERB_PING, .summary = "round trips to a relay, and whether the link is direct",
     .text = "Also says when a relayed link becomes direct, and back. A client pings those alone that it has a link "
             "with: its guards.",
     .options = ping_options, .operands = ping_operands, .exits = ping_exits, .examples = ping_examples},
    {.name = "config check", .id = VERB_CONFIG_CHECK, .summary = "what is wrong with a configuration",
     .text = "Reads a configuration and the network file it names.",
     .operands = config_operands, .exits = config_check_exits, .examples = config_check_examples},
    {.name = "config show", .id = VERB_CONFIG_SHOW, .summary = "what a configuration says, and where",
     .text = "Each value as it stands in the file, with its line. The file must be good.",
     .options = config_show_options, .operands = config_operands, .exits = config_show_exits,
     .examples = config_show_examples},
    {.name = "config set", .id = VERB_CONFIG_SET, .summary = "change one key of a configuration",
     .text = "Everything else in the file stays as it is, comments too. A value that the program would refuse is not "
             "written. Says what must be restarted.",
     .options = config_set_options, .operands = config_set_operands, .exits = config_set_exits,
     .examples = config_set_examples},
    {.name = "config unset", .id = VERB_CONFIG_UNSET, .summary = "take a key out of a configuration",
     .text = "The default holds then, or what a file of KIND.conf.d says.",
     .options = config_set_options, .operands = config_unset_operands, .exits = config_set_exits},
    {.name = "config docs", .id = VERB_CONFIG_DOCS, .summary = "print all keys of the configuration files"},
    {.name = "run", .id = VERB_RUN, .summary = "a command outside the tunnel, or by another exit",
     .text = "With --outside: for root and the operators of the configuration, while a client with a kill switch runs. The "
             "command and what it starts go as if there were no VPN, until they end.\n\n"
             "With --exit: for root, whether or not a client runs. The command has a network of its own, whose only way out is "
             "a second client to that exit, by the same guards; it ends with the command. (docs/split-tunnelling.md)",
     .options = run_options, .operands = run_operands, .exits = run_exits, .examples = run_examples},
    {.name = "version", .id = VERB_VERSION, .summary = "print the version", .options = version_options},
    {.name = "help", .id = VERB_HELP, .summary = "what a command does", .operands = options_help_operands},
    {0},
};

static const option_row files[] = {
    {.name = "/etc/meshvpn/client.conf", .help = "configuration of meshvpn-client"},
    {.name = "/etc/meshvpn/network.conf", .help = "the network that this computer is a member of"},
    {.name = MVPN_CONFIG_CONTROL_SOCKET, .help = "where the daemon is asked"},
    {0},
};

const option_program options_meshvpn = {
    .name = "meshvpn",
    .section = 1,
    .summary = "joins a MeshVPN network and shows what the daemon does",
    .text = "Data go to standard output, talk goes to standard error.",
    .verbs = verbs,
    .exits = plain_exits,
    .files = files,
    .see_also = "meshvpn-bootstrap 1 meshvpn-client 8 meshvpn-relay 8",
};
/* clang-format on */
