/* Arguments of meshvpn-bootstrap: one table says which command takes which option. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bin/bootstrap.h"
#include "core/path.h"

/* Short enough that a lost key does not stay a member for ever. */
#define DAYS_MAX 3650

enum positions {
    TAKES_DIR = 1,
    TAKES_NODE,
    TAKES_HOST,
};

static int parse_number(const char *option, const char *text, unsigned long max, unsigned long *ret)
{
    char *end = NULL;
    errno = 0;
    unsigned long v = strtoul(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || v == 0 || v > max) {
        return bootstrap_fail_usage("%s %s: a number from 1 to %lu is expected", option, text, max);
    }
    *ret = v;
    return 0;
}

static int set_address(arguments *args, const char *text)
{
    mvpn_addr a;
    if (mvpn_addr_parse(text, &a) != 0 || a.port == 0) {
        return bootstrap_fail_usage(
            "--address %s: an address with a port is expected, such as 198.51.100.7:443 "
            "or [2001:db8::7]:443",
            text);
    }
    if (args->address_count == MVPN_DESCRIPTOR_ADDRESSES_MAX) {
        return bootstrap_fail_usage("--address: at most %d are possible",
                                    MVPN_DESCRIPTOR_ADDRESSES_MAX);
    }
    for (unsigned i = 0; i < args->address_count; i++) {
        if (mvpn_addr_eq(&args->addresses[i], &a)) {
            return bootstrap_fail_usage("--address %s: given twice", text);
        }
    }
    args->addresses[args->address_count++] = a;
    return 0;
}

static int set_relax(arguments *args, const char *text)
{
    if (strcmp(text, "same-16") == 0) {
        args->relax |= MVPN_RELAX_BLOCK;
    } else if (strcmp(text, "same-provider") == 0) {
        args->relax |= MVPN_RELAX_PROVIDER;
    } else if (strcmp(text, "same-family") == 0) {
        args->relax |= MVPN_RELAX_FAMILY;
    } else {
        return bootstrap_fail_usage("--relax %s: same-16, same-provider or same-family is expected",
                                    text);
    }
    return 0;
}

static int set_name(arguments *args, const char *value)
{
    args->name = value;
    return value[0] != '\0' && strlen(value) <= MVPN_NETWORK_NAME_MAX &&
                   strpbrk(value, "\"\\$\n\r") == NULL
               ? 0
               : bootstrap_fail_usage("--name: 1 to %d characters without \" \\ $ are expected",
                                      MVPN_NETWORK_NAME_MAX);
}

static int set_dns(arguments *args, const char *value)
{
    args->dns = value;
    return mvpn_network_dns_is_valid(value)
               ? 0
               : bootstrap_fail_usage(
                     "--dns %s: a name of DNS is expected, such as entries.example.org", value);
}

static int set_url(arguments *args, const char *value)
{
    args->url = value;
    return mvpn_network_url_is_valid(value)
               ? 0
               : bootstrap_fail_usage(
                     "--url %s: a URL is expected, such as https://meshvpn.example.org", value);
}

static int set_country(arguments *args, const char *value)
{
    args->country = value;
    return mvpn_country_is_valid(value)
               ? 0
               : bootstrap_fail_usage(
                     "--country %s: two upper-case letters are expected, such as CH", value);
}

static int set_provider(arguments *args, const char *value)
{
    args->provider = value;
    return mvpn_provider_is_valid(value) && strpbrk(value, "\"\\$") == NULL
               ? 0
               : bootstrap_fail_usage(
                     "--provider: 1 to %d printable ASCII characters without \" \\ $ are expected",
                     MVPN_PROVIDER_MAX);
}

static int set_bandwidth(arguments *args, const char *value)
{
    return parse_number("--bandwidth-mbit", value, 4000000, &args->bandwidth_mbit);
}

static int set_days(arguments *args, const char *value)
{
    return parse_number("--days", value, DAYS_MAX, &args->days);
}

static int set_kind(arguments *args, enum node_kind kind)
{
    args->kind = kind;
    return ++args->kind_count == 1
               ? 0
               : bootstrap_fail_usage("a node is one of --exit, --bootstrap and --discovery: each "
                                      "runs a program of its own");
}

static int set_exit(arguments *args, const char *value)
{
    (void)value;
    return set_kind(args, NODE_EXIT);
}

static int set_bootstrap(arguments *args, const char *value)
{
    (void)value;
    return set_kind(args, NODE_BOOTSTRAP);
}

static int set_discovery(arguments *args, const char *value)
{
    (void)value;
    return set_kind(args, NODE_DISCOVERY);
}

static int set_ssh_option(arguments *args, const char *value)
{
    if (args->ssh_option_count == BOOTSTRAP_SSH_OPTIONS_MAX) {
        return bootstrap_fail_usage("--ssh-option: at most %d are possible",
                                    BOOTSTRAP_SSH_OPTIONS_MAX);
    }
    args->ssh_options[args->ssh_option_count++] = value;
    return 0;
}

static int set_package_url(arguments *args, const char *value)
{
    args->package_url = value;
    return mvpn_network_url_is_valid(value)
               ? 0
               : bootstrap_fail_usage(
                     "--package-url %s: a URL is expected, such as https://example.org/meshvpn.deb",
                     value);
}

static int set_package_sha256(arguments *args, const char *value)
{
    args->package_sha256 = value;
    return strlen(value) == 64 && strspn(value, "0123456789abcdef") == 64
               ? 0
               : bootstrap_fail_usage("--package-sha256: the 64 digits of sha256sum are expected");
}

#define TEXT_SETTER(field)                                                                         \
    static int set_##field(arguments *args, const char *value)                                     \
    {                                                                                              \
        args->field = value;                                                                       \
        return 0;                                                                                  \
    }
#define FLAG_SETTER(field)                                                                         \
    static int set_##field(arguments *args, const char *value)                                     \
    {                                                                                              \
        (void)value;                                                                               \
        args->field = true;                                                                        \
        return 0;                                                                                  \
    }
TEXT_SETTER(entry)
TEXT_SETTER(policy)
TEXT_SETTER(program)
TEXT_SETTER(output)
FLAG_SETTER(is_open)
FLAG_SETTER(allow_private)
FLAG_SETTER(lan_discovery)
FLAG_SETTER(is_listed)
FLAG_SETTER(is_nat_relay)
FLAG_SETTER(is_at_home)
FLAG_SETTER(wants_qr)
FLAG_SETTER(wants_no_qr)
FLAG_SETTER(is_installed)
FLAG_SETTER(is_forced)
FLAG_SETTER(is_dry_run)

typedef struct option_row {
    const char *command;
    const char *option;
    bool takes_value;
    int (*set)(arguments *args, const char *value);
} option_row;

/* clang-format off */
static const option_row options[] = {
    {"init", "--name", true, set_name},
    {"init", "--open", false, set_is_open},
    {"init", "--allow-private", false, set_allow_private},
    {"init", "--relax", true, set_relax},
    {"init", "--dns", true, set_dns},
    {"init", "--lan-discovery", false, set_lan_discovery},
    {"add-node", "--address", true, set_address},
    {"add-node", "--exit", false, set_exit},
    {"add-node", "--bootstrap", false, set_bootstrap},
    {"add-node", "--discovery", false, set_discovery},
    {"add-node", "--listed", false, set_is_listed},
    {"add-node", "--nat-relay", false, set_is_nat_relay},
    {"add-node", "--home", false, set_is_at_home},
    {"add-node", "--policy", true, set_policy},
    {"add-node", "--country", true, set_country},
    {"add-node", "--bandwidth-mbit", true, set_bandwidth},
    {"add-node", "--provider", true, set_provider},
    {"add-node", "--url", true, set_url},
    {"add-node", "--days", true, set_days},
    {"renew", "--days", true, set_days},
    {"invite", "--days", true, set_days},
    {"invite", "--entry", true, set_entry},
    {"invite", "--qr", false, set_wants_qr},
    {"invite", "--no-qr", false, set_wants_no_qr},
    {"deploy", "--ssh-option", true, set_ssh_option},
    {"deploy", "--program", true, set_program},
    {"deploy", "--installed", false, set_is_installed},
    {"deploy", "--force", false, set_is_forced},
    {"deploy", "--dry-run", false, set_is_dry_run},
    {"cloud-init", "--package-url", true, set_package_url},
    {"cloud-init", "--package-sha256", true, set_package_sha256},
    {"cloud-init", "--output", true, set_output},
};

static const struct {
    const char *command;
    enum positions positions;
    const char *needs;
} commands[] = {
    {"init", TAKES_DIR, "DIR"},
    {"add-node", TAKES_NODE, "DIR and NAME"},
    {"renew", TAKES_NODE, "DIR and NAME"},
    {"revoke", TAKES_NODE, "DIR and NAME or SERIAL"},
    {"invite", TAKES_DIR, "DIR"},
    {"deploy", TAKES_HOST, "DIR, NAME and HOST"},
    {"cloud-init", TAKES_NODE, "DIR and NAME"},
    {"show", TAKES_DIR, "DIR"},
};
/* clang-format on */

static const option_row *find_option(const char *command, const char *option)
{
    for (size_t i = 0; i < MVPN_ARRAY_LEN(options); i++) {
        if (strcmp(options[i].command, command) == 0 && strcmp(options[i].option, option) == 0) {
            return &options[i];
        }
    }
    return NULL;
}

static int take_option(arguments *args, const char *command, int argc, char **argv, int *i)
{
    const option_row *row = find_option(command, argv[*i]);
    if (row == NULL) {
        return bootstrap_fail_usage("%s has no option %s", command, argv[*i]);
    }
    if (!row->takes_value) {
        return row->set(args, NULL);
    }
    if (*i + 1 == argc) {
        return bootstrap_fail_usage("%s needs a value", argv[*i]);
    }
    return row->set(args, argv[++*i]);
}

int arguments_parse(arguments *args, const char *command, int argc, char **argv)
{
    size_t row = 0;
    unsigned count = 0;
    const char *positions[TAKES_HOST] = {NULL};
    *args = (arguments){.name = "meshvpn"};
    while (row + 1 < MVPN_ARRAY_LEN(commands) && strcmp(commands[row].command, command) != 0) {
        row++;
    }
    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], "--", 2) == 0) {
            int rc = take_option(args, command, argc, argv, &i);
            if (rc != 0) {
                return rc;
            }
        } else if (count < commands[row].positions) {
            positions[count++] = argv[i];
        } else {
            return bootstrap_fail_usage("'%s' is one argument too many", argv[i]);
        }
    }
    if (count < commands[row].positions) {
        return bootstrap_fail_usage("%s needs %s", command, commands[row].needs);
    }
    args->dir = positions[0];
    args->node = positions[1];
    args->host = positions[2];
    if (args->node != NULL && !mvpn_name_is_valid(args->node)) {
        return bootstrap_fail_usage("'%s' is not a name: use 1 to %d of a-z, 0-9 and -", args->node,
                                    MVPN_NAME_MAX);
    }
    return 0;
}
