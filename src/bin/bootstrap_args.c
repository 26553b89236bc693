/* Arguments of meshvpn-bootstrap: what their values mean. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "bin/bootstrap.h"
#include "core/path.h"

static int set_address(arguments *args, const char *text)
{
    mvpn_addr a;
    if (mvpn_addr_parse(text, &a) != 0 || a.port == 0) {
        return bootstrap_fail_usage(
            "--address %s: an address with a port is expected, such as 198.51.100.7:443 "
            "or [2001:db8::7]:443",
            text);
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
    args->relax |= strcmp(text, "same-16") == 0         ? MVPN_RELAX_BLOCK
                   : strcmp(text, "same-provider") == 0 ? MVPN_RELAX_PROVIDER
                                                        : MVPN_RELAX_FAMILY;
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
    args->bandwidth_mbit = strtoul(value, NULL, 10); /* the table says what it can be */
    return 0;
}

static int set_days(arguments *args, const char *value)
{
    args->days = strtoul(value, NULL, 10);
    return 0;
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

/* What its value does; which command has which option says options_bootstrap.c. */
static const struct {
    const char *option;
    int (*set)(arguments *args, const char *value);
} setters[] = {
    {"--name", set_name},
    {"--open", set_is_open},
    {"--allow-private", set_allow_private},
    {"--relax", set_relax},
    {"--dns", set_dns},
    {"--lan-discovery", set_lan_discovery},
    {"--address", set_address},
    {"--exit", set_exit},
    {"--bootstrap", set_bootstrap},
    {"--discovery", set_discovery},
    {"--listed", set_is_listed},
    {"--nat-relay", set_is_nat_relay},
    {"--home", set_is_at_home},
    {"--policy", set_policy},
    {"--country", set_country},
    {"--bandwidth-mbit", set_bandwidth},
    {"--provider", set_provider},
    {"--url", set_url},
    {"--days", set_days},
    {"--entry", set_entry},
    {"--qr", set_wants_qr},
    {"--no-qr", set_wants_no_qr},
    {"--ssh-option", set_ssh_option},
    {"--program", set_program},
    {"--installed", set_is_installed},
    {"--force", set_is_forced},
    {"--dry-run", set_is_dry_run},
    {"--package-url", set_package_url},
    {"--package-sha256", set_package_sha256},
    {"--output", set_output},
};

int arguments_parse(arguments *args, const options_given *given)
{
    *args = (arguments){
        .name = "meshvpn",
        .dir = given->operands[0],
        .node = given->operands[1],
        .host = given->operands[2],
    };
    for (size_t i = 0; i < given->count; i++) {
        size_t row = 0;
        while (strcmp(setters[row].option, given->items[i].option->name) != 0) {
            row++;
            MVPN_ASSERT(row < MVPN_ARRAY_LEN(setters));
        }
        int rc = setters[row].set(args, given->items[i].value);
        if (rc != 0) {
            return rc;
        }
    }
    if (args->node != NULL && !mvpn_name_is_valid(args->node)) {
        return bootstrap_fail_usage("'%s' is not a name: use 1 to %d of a-z, 0-9 and -", args->node,
                                    MVPN_NAME_MAX);
    }
    return 0;
}
