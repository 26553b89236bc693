#include "io/config_values.h"

#include <string.h>

#include "base/error.h"
#include "io/keyfile.h"

#define STUN_PORT 3478 /* RFC 8489 §18.6 */

PATH_SETTER(set_network_file, network_file)
PATH_SETTER(set_key_dir, key_dir)
PATH_SETTER(set_run_dir, run_dir)
PATH_SETTER(set_state_dir, state_dir)
PATH_SETTER(set_control_socket, control_socket)

static int set_listen(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    mvpn_config *c = target;
    mvpn_addr a;
    if (mvpn_addr_parse(v->text, &a) != 0) {
        return mvpn_fault_set(why, MVPN_E_CONFIG,
                              "'%.60s' is not an address with a port. Write it as 0.0.0.0:443 or "
                              "[::]:443",
                              v->text);
    }
    if (a.port == 0 && c->kind != MVPN_CONFIG_CLIENT) {
        return mvpn_fault_set(why, MVPN_E_CONFIG,
                              "'%.60s' has no port, and others must know the port. Write it as "
                              "0.0.0.0:443 or [::]:443",
                              v->text);
    }
    for (unsigned i = 0; i < c->listen_count; i++) {
        if (c->listen[i].family == a.family) {
            return mvpn_fault_set(why, MVPN_E_CONFIG,
                                  "'%.60s' is a second IPv%u address; one per family is possible. "
                                  "Listen on all addresses with %s",
                                  v->text, (unsigned)a.family,
                                  a.family == 4 ? "0.0.0.0:PORT" : "[::]:PORT");
        }
    }
    c->listen[c->listen_count++] = a;
    return 0;
}

static int set_log_level(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    static const mvpn_config_word words[] = {{"error", MVPN_LOG_ERROR},
                                             {"warn", MVPN_LOG_WARN},
                                             {"info", MVPN_LOG_INFO},
                                             {"debug", MVPN_LOG_DEBUG},
                                             {NULL, 0}};
    int value = 0;
    int rc = mvpn_config_set_word(&value, words, v, why);
    if (rc == 0) {
        ((mvpn_config *)target)->log_level = (enum mvpn_log_level)value;
    }
    return rc;
}

static int set_user(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    mvpn_config *c = target;
    size_t len = strlen(v->text);
    if (len == 0 || len > MVPN_CONFIG_USER_MAX) {
        return mvpn_fault_set(why, MVPN_E_CONFIG, "a user's name of 1 to %d characters is expected",
                              MVPN_CONFIG_USER_MAX);
    }
    memcpy(c->user, v->text, len + 1);
    return 0;
}

static int set_sandbox(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    static const mvpn_config_word words[] = {{"on", true}, {"off", false}, {NULL, 0}};
    int value = 0;
    int rc = mvpn_config_set_word(&value, words, v, why);
    if (rc == 0) {
        ((mvpn_config *)target)->sandbox = value != 0;
    }
    return rc;
}

static int set_name(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    mvpn_config *c = target;
    if (!mvpn_name_is_valid(v->text)) {
        return mvpn_fault_set(why, MVPN_E_CONFIG,
                              "'%.40s' is not a name. Use 1 to %d of a-z, 0-9 and -", v->text,
                              MVPN_NAME_MAX);
    }
    memcpy(c->relay.name, v->text, strlen(v->text) + 1);
    return 0;
}

static int set_address(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    mvpn_config_relay *r = &((mvpn_config *)target)->relay;
    mvpn_addr a;
    static const uint8_t zero[16];
    if (mvpn_addr_parse(v->text, &a) != 0 || a.port == 0) {
        return mvpn_fault_set(why, MVPN_E_CONFIG,
                              "'%.60s' is not an address with a port. Write it as 198.51.100.7:443 "
                              "or [2001:db8::7]:443",
                              v->text);
    }
    if (memcmp(a.ip, zero, sizeof(zero)) == 0) {
        return mvpn_config_bad(why,
                               "this address is published, so it must be one that others reach. "
                               "0.0.0.0 and [::] belong to listen");
    }
    if (r->address_count == MVPN_DESCRIPTOR_ADDRESSES_MAX) {
        return mvpn_fault_set(why, MVPN_E_CONFIG, "at most %d addresses are possible",
                              MVPN_DESCRIPTOR_ADDRESSES_MAX);
    }
    r->addresses[r->address_count++] = a;
    return 0;
}

/* 4,294,967 Mbit/s is what fits the descriptor's kbit/s. */
NUMBER_SETTER(set_bandwidth, relay.bandwidth_mbit, 1, 4000000)
NUMBER_SETTER(set_relay_limit, relay.limit_mbit, 0, 4000000)

static int set_provider(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    if (!mvpn_provider_is_valid(v->text)) {
        return mvpn_fault_set(why, MVPN_E_CONFIG, "1 to %d printable ASCII characters are expected",
                              MVPN_PROVIDER_MAX);
    }
    memcpy(((mvpn_config *)target)->relay.provider, v->text, strlen(v->text) + 1);
    return 0;
}

FLAG_SETTER(set_lan_announce, relay.lan_announce)
FLAG_SETTER(set_nat_relay, relay.nat_relay)
FLAG_SETTER(set_behind_nat, relay.behind_nat)

/* The addresses themselves: answers must come from the one that was asked. */
static int set_stun_listen(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    mvpn_config_relay *r = &((mvpn_config *)target)->relay;
    static const uint8_t zero[16];
    const mvpn_addr *primary = NULL;
    unsigned of_family = 0;
    mvpn_addr a;
    if (mvpn_addr_parse(v->text, &a) != 0) {
        return mvpn_fault_set(why, MVPN_E_CONFIG,
                              "'%.60s' is not an address. Write it as 198.51.100.7:3478 or "
                              "[2001:db8::7]:3478",
                              v->text);
    }
    if (memcmp(a.ip, zero, sizeof(zero)) == 0) {
        return mvpn_config_bad(
            why, "0.0.0.0 and [::] are not possible here. Name the addresses of the host");
    }
    for (unsigned i = 0; i < r->stun_count; i++) {
        if (r->stun_listen[i].family == a.family) {
            primary = of_family++ == 0 ? &r->stun_listen[i] : primary;
        }
    }
    a.port = a.port != 0 ? a.port : primary == NULL ? STUN_PORT : (uint16_t)(primary->port + 1);
    if (of_family == 2) {
        return mvpn_fault_set(why, MVPN_E_CONFIG, "at most two IPv%u addresses are possible",
                              (unsigned)a.family);
    }
    if (primary != NULL && (mvpn_addr_ip_eq(primary, &a) || primary->port == a.port)) {
        return mvpn_fault_set(why, MVPN_E_CONFIG,
                              "'%.60s' must differ from the first IPv%u address in address and in "
                              "port: each address is served on both ports",
                              v->text, (unsigned)a.family);
    }
    r->stun_listen[r->stun_count++] = a;
    return 0;
}

FLAG_SETTER(set_stun_strict, relay.stun_strict)
FLAG_SETTER(set_port_mapping, relay.port_mapping)

static int set_family(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    mvpn_config_relay *r = &((mvpn_config *)target)->relay;
    mvpn_ed25519_pub identity;
    size_t n = 0, at = r->family_count;
    if (mvpn_base64_decode(v->text, identity.b, sizeof(identity.b), &n) != 0 ||
        n != sizeof(identity.b)) {
        return mvpn_fault_set(why, MVPN_E_CONFIG,
                              "'%.60s' is not an identity (44 characters of base64). See them with "
                              "meshvpn-bootstrap show",
                              v->text);
    }
    if (r->family_count == MVPN_DESCRIPTOR_FAMILY_MAX) {
        return mvpn_fault_set(why, MVPN_E_CONFIG, "at most %d identities are possible",
                              MVPN_DESCRIPTOR_FAMILY_MAX);
    }
    for (size_t i = 0; i < r->family_count; i++) {
        if (memcmp(r->family[i].b, identity.b, sizeof(identity.b)) == 0) {
            return mvpn_config_bad(why, "an identity is named twice. Remove one of the two");
        }
    }
    /* Ascending, as the descriptor wants them. */
    for (; at > 0 && memcmp(r->family[at - 1].b, identity.b, sizeof(identity.b)) > 0; at--) {
        r->family[at] = r->family[at - 1];
    }
    r->family[at] = identity;
    r->family_count++;
    return 0;
}

static int set_http_listen(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    mvpn_addr a;
    if (mvpn_addr_parse(v->text, &a) != 0 || a.port == 0) {
        return mvpn_fault_set(
            why, MVPN_E_CONFIG,
            "'%.60s' is not an address with a port. Write it as 127.0.0.1:8080 or "
            "[::1]:8080",
            v->text);
    }
    ((mvpn_config *)target)->discovery.http_listen = a;
    return 0;
}

/* As a Host header has it: without port; an IPv6 address in brackets. */
static int set_http_name(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    mvpn_config_discovery *d = &((mvpn_config *)target)->discovery;
    size_t n = strlen(v->text);
    if (n == 0 || n > MVPN_CONFIG_HTTP_NAME_MAX ||
        strspn(v->text, "abcdefghijklmnopqrstuvwxyz0123456789.-[:]") != n) {
        return mvpn_fault_set(why, MVPN_E_CONFIG,
                              "'%.60s' is no lower-case name without a port, such as "
                              "relays.example.net",
                              v->text);
    }
    if (d->http_name_count == MVPN_CONFIG_HTTP_NAMES_MAX) {
        return mvpn_fault_set(why, MVPN_E_CONFIG, "at most %d names are allowed",
                              MVPN_CONFIG_HTTP_NAMES_MAX);
    }
    memcpy(d->http_names[d->http_name_count++], v->text, n + 1);
    return 0;
}

FLAG_SETTER(set_measure, discovery.measure)

static int set_country_code(char out[static 3], const mvpn_setting_value *v, mvpn_fault *why)
{
    if (!mvpn_country_is_valid(v->text)) {
        return mvpn_fault_set(why, MVPN_E_CONFIG,
                              "'%.40s' is not a country. Write two upper-case letters, such as CH",
                              v->text);
    }
    memcpy(out, v->text, 3);
    return 0;
}

static int set_country(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    return set_country_code(((mvpn_config *)target)->relay.country, v, why);
}

static bool is_interface_name(const char *name)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
    size_t len = strlen(name);
    return len >= 1 && len <= MVPN_CONFIG_TUN_NAME_MAX && strspn(name, allowed) == len &&
           strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

static int set_tun_name(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    mvpn_config *c = target;
    if (!is_interface_name(v->text)) {
        return mvpn_fault_set(why, MVPN_E_CONFIG,
                              "'%.40s' is no name for an interface. Use 1 to %d of a-z, A-Z, 0-9, "
                              "_, - and .",
                              v->text, MVPN_CONFIG_TUN_NAME_MAX);
    }
    memcpy(c->kind == MVPN_CONFIG_EXIT ? c->exit.tun_name : c->client.tun_name, v->text,
           strlen(v->text) + 1);
    return 0;
}

/* --- the table --- */

#define TEXT MVPN_SETTING_TEXT
#define LIST MVPN_SETTING_LIST
#define NUMBER MVPN_SETTING_NUMBER
#define BOOL MVPN_SETTING_BOOL

/* clang-format off */
static const mvpn_setting settings[] = {
    {"network_file", TEXT, ALL, set_network_file, MVPN_CONFIG_NETWORK_FILE,
     "The network file that meshvpn-bootstrap wrote."},
    {"key_dir", TEXT, ALL, set_key_dir, MVPN_CONFIG_KEY_DIR,
     "Directory of the node's keys and certificates. A client has none and does not read it."},
    {"listen", LIST, ALL, set_listen, "{\"0.0.0.0:443\"}; client: {\"0.0.0.0:0\", \"[::]:0\"}",
     "Local UDP addresses, at most one per family. Port 0 (clients only) lets the system choose."},
    {"control_socket", TEXT, ALL, set_control_socket, MVPN_CONFIG_CONTROL_SOCKET,
     "Unix socket at which `meshvpn status` asks."},
    {"run_dir", TEXT, ALL, set_run_dir, MVPN_CONFIG_RUN_DIR,
     "Directory for what must be taken back after a crash."},
    {"state_dir", TEXT, ALL, set_state_dir, MVPN_CONFIG_STATE_DIR,
     "Directory for what is learnt and kept: the list of relays, a client's guards."},
    {"log_level", TEXT, ALL, set_log_level, "info", "error, warn, info or debug."},
    {"user", TEXT, ALL, set_user, "meshvpn, else a number that nobody has",
     "Whom a program that root started becomes after its start (docs/operators.md)."},
    {"sandbox", TEXT, ALL, set_sandbox, "on",
     "on: after its start the program gives up its user, capabilities, most system calls and all files but its own. off: it keeps all, for a debugger."},

    {"name", TEXT, NODE, set_name, "none", "Name in the descriptor: 1 to 24 of a-z, 0-9 and -."},
    {"address", LIST, NODE, set_address, "{}",
     "Addresses that others reach this node at, each with its port; at most 4."},
    {"lan_announce", BOOL, NODE, set_lan_announce, "false",
     "Answer members who ask for an entry by multicast on the local network, if this node serves "
     "the DHT. Whoever listens there sees that a relay runs here."},
    {"stun_listen", LIST, NODE, set_stun_listen, "{} (no STUN)",
     "Addresses at which STUN (RFC 8489) is served to anybody, port 3478 if none is said. A second one of a family, which differs in address and port, makes behaviour discovery (RFC 5780) possible: both addresses are served on both ports. If the first is a published `address`, the descriptor says so, and clients ask here what address they have behind their exit."},
    {"stun_strict", BOOL, NODE, set_stun_strict, "true",
     "Never answer STUN with more bytes than were asked with: nobody can make this node flood others, but clients that ask without padding (most) get no answer. With false they get up to 4.6 times as many bytes, at most 10 answers a second to a block of addresses."},
    {"port_mapping", BOOL, RELAYS, set_port_mapping, "false",
     "For a node at home: ask the gateway for a UDP port (PCP, NAT-PMP, else UPnP) and publish the address that it gives in place of those of `address`, which may then be left out. Whoever listens on the home network sees that a node runs here."},
    {"bandwidth_mbit", NUMBER, RELAYS, set_bandwidth, "not said; else relay_limit", "Declared bandwidth in Mbit/s; never more than `relay_limit`."},
    {"relay_limit", NUMBER, RELAYS, set_relay_limit, "0 (none)",
     "Mbit/s of all circuits that pass this node or end here, both directions together, as on the wire. Set it a little below what the host's line carries: then queues are short, and each circuit has its fair share, whatever others send."},
    {"country", TEXT, RELAYS, set_country, "not said", "Declared country, two upper-case letters."},
    {"provider", TEXT, RELAYS, set_provider, "not said",
     "Who runs the host, such as the hosting company: no path takes two relays of one provider."},
    {"family", LIST, RELAYS, set_family, "{}",
     "Identities of relays under the same operator, at most 4: no path takes two of them."},
    {"nat_relay", BOOL, RELAYS, set_nat_relay, "false",
     "Forward between relays behind a NAT and those who want to reach them: their encrypted links pass through this node as they are. Needs an address that everybody reaches."},
    {"behind_nat", BOOL, RELAYS, set_behind_nat, "false",
     "For a node at home that others cannot reach: it is reached through two NAT relays, which it chooses itself, and directly as soon as both NATs let that happen. It is no guard and serves no DHT. Not together with `address`, `nat_relay`, `stun_listen` or `lan_announce`; with `port_mapping` the NAT relays are for when the gateway gives no port."},

    {"http_listen", TEXT, DISCOVERY, set_http_listen, "127.0.0.1:8080",
     "Where the HTTP interface listens (TCP); put a web server with HTTPS before it."},
    {"http_names", LIST, DISCOVERY, set_http_name, "{}",
     "Names under which browsers may ask, beside localhost and the address of http_listen; at most "
     "8."},
    {"measure", BOOL, DISCOVERY, set_measure, "true", "Measure the bandwidth of relays."},

    {"tun_name", TEXT, EXIT | CLIENT, set_tun_name, "exit: mvpnexit0; client: mvpn0",
     "Name of the TUN interface that the program makes."},

};
/* clang-format on */

const mvpn_config_table mvpn_config_node_table = {settings, MVPN_ARRAY_LEN(settings)};
