#include "io/config.h"

#include <pwd.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/error.h"
#include "exit/policy.h"
#include "io/config_files.h"
#include "io/file.h"
#include "io/geoip.h"
#include "io/keyfile.h"
#include "io/settings.h"

#define RELAY MVPN_CONFIG_RELAY
#define EXIT MVPN_CONFIG_EXIT
#define CLIENT MVPN_CONFIG_CLIENT
#define DISCOVERY MVPN_CONFIG_DISCOVERY
#define RELAYS (RELAY | EXIT)
#define NODE (RELAYS | MVPN_CONFIG_BOOTSTRAP | DISCOVERY)
#define ALL (NODE | CLIENT)

#define DEFAULT_PORT 443
#define DEFAULT_MARK 0x4d56
#define DNS_PORT 53
#define HTTP_PORT 8080
#define HTTPS_PORT 443
/* A browser has some hundred; tracking tables hold 65,536 or more of all sessions. */
#define DEFAULT_FLOWS 2048
#define STUN_PORT 3478 /* RFC 8489 §18.6 */
/* docs/protocol.md §7.2 */
#define DEFAULT_ROTATE_MB 1024
#define DEFAULT_ROTATE_PAUSE_S 30
#define DEFAULT_RENEW_MINUTES 60
#define DEFAULT_EXIT_LIFETIME_MINUTES (8 * 60)
#define WEEK_MINUTES (7 * 24 * 60)
#define NOT_SAID UINT32_MAX

static const char *const kind_names[MVPN_CONFIG_KINDS] = {"relay", "exit", "client", "bootstrap",
                                                          "discovery"};

const char *mvpn_config_kind_name(enum mvpn_config_kind kind)
{
    unsigned bit = 0;
    while (bit + 1 < MVPN_CONFIG_KINDS && (unsigned)kind >> bit != 1) {
        bit++;
    }
    return kind_names[bit];
}

/* --- setters --- */

static int bad(mvpn_fault *why, const char *text)
{
    return mvpn_fault_set(why, MVPN_E_CONFIG, "%s", text);
}

static int set_path(char *out, size_t size, const mvpn_setting_value *v, mvpn_fault *why)
{
    size_t len = strlen(v->text);
    if (len == 0 || len >= size) {
        return mvpn_fault_set(why, MVPN_E_CONFIG, "a path of 1 to %zu characters is expected",
                              size - 1);
    }
    memcpy(out, v->text, len + 1);
    return 0;
}

static int set_network_file(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    mvpn_config *c = target;
    return set_path(c->network_file, sizeof(c->network_file), v, why);
}

static int set_key_dir(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    mvpn_config *c = target;
    return set_path(c->key_dir, sizeof(c->key_dir), v, why);
}

static int set_run_dir(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    mvpn_config *c = target;
    return set_path(c->run_dir, sizeof(c->run_dir), v, why);
}

static int set_state_dir(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    mvpn_config *c = target;
    return set_path(c->state_dir, sizeof(c->state_dir), v, why);
}

static int set_control_socket(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    mvpn_config *c = target;
    return set_path(c->control_socket, sizeof(c->control_socket), v, why);
}

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

struct word {
    const char *text;
    int value;
};

/* One word of a list; the last row's text is NULL. */
static int set_word(int *out, const struct word *words, const mvpn_setting_value *v,
                    mvpn_fault *why)
{
    char expected[128] = "";
    for (; words->text != NULL; words++) {
        if (strcmp(words->text, v->text) == 0) {
            *out = words->value;
            return 0;
        }
        size_t used = strlen(expected);
        (void)snprintf(expected + used, sizeof(expected) - used, "%s%s",
                       used == 0               ? ""
                       : words[1].text == NULL ? " or "
                                               : ", ",
                       words->text);
    }
    return mvpn_fault_set(why, MVPN_E_CONFIG, "'%.40s' is not possible. Write %s", v->text,
                          expected);
}

static int set_log_level(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    static const struct word words[] = {{"error", MVPN_LOG_ERROR},
                                        {"warn", MVPN_LOG_WARN},
                                        {"info", MVPN_LOG_INFO},
                                        {"debug", MVPN_LOG_DEBUG},
                                        {NULL, 0}};
    int value = 0;
    int rc = set_word(&value, words, v, why);
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
    static const struct word words[] = {{"on", true}, {"off", false}, {NULL, 0}};
    int value = 0;
    int rc = set_word(&value, words, v, why);
    if (rc == 0) {
        ((mvpn_config *)target)->sandbox = value != 0;
    }
    return rc;
}

static int set_number(uint32_t *out, const mvpn_setting_value *v, long min, long max,
                      mvpn_fault *why)
{
    if (v->number < min || v->number > max) {
        return mvpn_fault_set(why, MVPN_E_CONFIG,
                              "%ld is out of range. Write a number from %ld to %ld", v->number, min,
                              max);
    }
    *out = (uint32_t)v->number;
    return 0;
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
        return bad(why, "this address is published, so it must be one that others reach. "
                        "0.0.0.0 and [::] belong to listen");
    }
    if (r->address_count == MVPN_DESCRIPTOR_ADDRESSES_MAX) {
        return mvpn_fault_set(why, MVPN_E_CONFIG, "at most %d addresses are possible",
                              MVPN_DESCRIPTOR_ADDRESSES_MAX);
    }
    r->addresses[r->address_count++] = a;
    return 0;
}

static int set_bandwidth(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    /* 4,294,967 Mbit/s is what fits the descriptor's kbit/s. */
    return set_number(&((mvpn_config *)target)->relay.bandwidth_mbit, v, 1, 4000000, why);
}

static int set_relay_limit(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    return set_number(&((mvpn_config *)target)->relay.limit_mbit, v, 0, 4000000, why);
}

static int set_provider(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    if (!mvpn_provider_is_valid(v->text)) {
        return mvpn_fault_set(why, MVPN_E_CONFIG, "1 to %d printable ASCII characters are expected",
                              MVPN_PROVIDER_MAX);
    }
    memcpy(((mvpn_config *)target)->relay.provider, v->text, strlen(v->text) + 1);
    return 0;
}

static int set_lan_announce(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    (void)why;
    ((mvpn_config *)target)->relay.lan_announce = v->flag;
    return 0;
}

static int set_nat_relay(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    (void)why;
    ((mvpn_config *)target)->relay.nat_relay = v->flag;
    return 0;
}

static int set_behind_nat(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    (void)why;
    ((mvpn_config *)target)->relay.behind_nat = v->flag;
    return 0;
}

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
        return bad(why, "0.0.0.0 and [::] are not possible here. Name the addresses of the host");
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

static int set_stun_strict(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    (void)why;
    ((mvpn_config *)target)->relay.stun_strict = v->flag;
    return 0;
}

static int set_port_mapping(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    (void)why;
    ((mvpn_config *)target)->relay.port_mapping = v->flag;
    return 0;
}

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
            return bad(why, "an identity is named twice. Remove one of the two");
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

static int set_measure(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    (void)why;
    ((mvpn_config *)target)->discovery.measure = v->flag;
    return 0;
}

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

static int set_exit_country(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    if (mvpn_path_countries_parse(v->text, &((mvpn_config *)target)->client.exit_countries) != 0) {
        return mvpn_fault_set(
            why, MVPN_E_CONFIG,
            "'%.60s' names no countries. Write two upper-case letters each: CH, or "
            "CH,SE, or !US,GB for any but these",
            v->text);
    }
    return 0;
}

static int set_exit_port(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    mvpn_config_client *c = &((mvpn_config *)target)->client;
    char *end = NULL;
    unsigned long port = strtoul(v->text, &end, 10);
    bool is_any = strcmp(v->text, "any") == 0;
    bool is_number = v->text[0] >= '0' && v->text[0] <= '9' && *end == '\0';
    if (!is_any && (!is_number || port < 1 || port > UINT16_MAX)) {
        return mvpn_fault_set(why, MVPN_E_CONFIG,
                              "'%.40s' is not a port. Write a number from 1 to 65535, or any",
                              v->text);
    }
    if (c->any_exit_port || (is_any && c->exit_port_count > 0)) {
        return bad(why, "'any' stands alone. Remove it, or the ports");
    }
    if (c->exit_port_count == MVPN_PATH_PORTS_MAX) {
        return mvpn_fault_set(why, MVPN_E_CONFIG, "at most %d ports are possible",
                              MVPN_PATH_PORTS_MAX);
    }
    c->any_exit_port = is_any;
    if (!is_any) {
        c->exit_ports[c->exit_port_count++] = (uint16_t)port;
    }
    return 0;
}

static int set_geoip_dir(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    mvpn_config_client *c = &((mvpn_config *)target)->client;
    if (v->text[0] == '\0') {
        c->geoip_dir[0] = '\0';
        return 0;
    }
    return set_path(c->geoip_dir, sizeof(c->geoip_dir), v, why);
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

static bool has_host_bits(const mvpn_prefix *p)
{
    for (unsigned bit = p->bits; bit < mvpn_addr_ip_len(&p->addr) * 8; bit++) {
        if ((p->addr.ip[bit / 8] >> (7 - bit % 8) & 1) != 0) {
            return true;
        }
    }
    return false;
}

/* `bits_min`, `bits_max`: a pool of too many addresses is a mistake, one of too few serves nobody.
 */
static int set_pool(mvpn_prefix *out, const mvpn_setting_value *v, unsigned family,
                    unsigned bits_min, unsigned bits_max, const char *example, mvpn_fault *why)
{
    mvpn_prefix p;
    if (mvpn_prefix_parse(v->text, &p) != 0 || p.addr.family != family) {
        return mvpn_fault_set(why, MVPN_E_CONFIG, "'%.60s' is not an IPv%u prefix. Write it as %s",
                              v->text, family, example);
    }
    if (p.bits < bits_min || p.bits > bits_max) {
        return mvpn_fault_set(why, MVPN_E_CONFIG,
                              "'%.60s' is too big or too small. Take a prefix length from %u to %u",
                              v->text, bits_min, bits_max);
    }
    if (has_host_bits(&p)) {
        return mvpn_fault_set(why, MVPN_E_CONFIG,
                              "'%.60s' has bits set behind its length of %u. Write the first "
                              "address of the range, as in %s",
                              v->text, (unsigned)p.bits, example);
    }
    *out = p;
    return 0;
}

static int set_pool_v4(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    return set_pool(&((mvpn_config *)target)->exit.pool_v4, v, 4, 8, 29, "10.64.0.0/16", why);
}

static int set_pool_v6(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    return set_pool(&((mvpn_config *)target)->exit.pool_v6, v, 6, 32, 120, "fd6d:7670:e::/64", why);
}

static int set_dns_upstream(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    mvpn_config_exit *e = &((mvpn_config *)target)->exit;
    mvpn_addr a;
    if (mvpn_addr_parse(v->text, &a) != 0) {
        return mvpn_fault_set(why, MVPN_E_CONFIG,
                              "'%.60s' is not an address. Write it as 9.9.9.9 or [2620:fe::fe]:53",
                              v->text);
    }
    if (e->dns_count == MVPN_CONFIG_DNS_MAX) {
        return mvpn_fault_set(why, MVPN_E_CONFIG, "at most %d are possible", MVPN_CONFIG_DNS_MAX);
    }
    a.port = a.port != 0 ? a.port : DNS_PORT;
    e->dns_upstream[e->dns_count++] = a;
    return 0;
}

/* Rules are checked one by one, so that a mistake is told with its line, and kept as one text. */
static int set_policy(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    mvpn_config_exit *e = &((mvpn_config *)target)->exit;
    size_t used = strlen(e->policy), len = strlen(v->text);
    mvpn_policy_error error;
    mvpn_policy *scratch;
    if (e->policy_count == MVPN_POLICY_RULES_MAX) {
        return mvpn_fault_set(why, MVPN_E_CONFIG, "at most %d rules are possible",
                              MVPN_POLICY_RULES_MAX);
    }
    if (strchr(v->text, '\n') != NULL) {
        return bad(why, "a rule goes over several lines. Quote each rule by itself");
    }
    if (used + len + 2 > sizeof(e->policy)) {
        return mvpn_fault_set(why, MVPN_E_CONFIG,
                              "more than %zu characters in all. Use fewer rules",
                              sizeof(e->policy) - 2);
    }
    scratch = mvpn_policy_new();
    if (scratch == NULL) {
        return bad(why, "no memory");
    }
    int rc = mvpn_policy_parse(scratch, v->text, &error);
    mvpn_policy_free(scratch);
    if (rc != 0) {
        return mvpn_fault_set(why, MVPN_E_CONFIG,
                              "'%.95s': %s at character %u. Write a rule as "
                              "\"reject tcp 11.0.0.0/8 80,443\" or \"accept * *\"",
                              v->text, error.what, error.column);
    }
    memcpy(e->policy + used, v->text, len);
    memcpy(e->policy + used + len, "\n", 2);
    e->policy_lines[e->policy_count++] = v->line;
    return 0;
}

static int set_policy_file(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    mvpn_config *c = target;
    return set_path(c->exit.policy_file, sizeof(c->exit.policy_file), v, why);
}

static int set_blocked_ip(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    mvpn_config_exit *e = &((mvpn_config *)target)->exit;
    mvpn_prefix p;
    if (mvpn_prefix_parse(v->text, &p) != 0 || p.addr.port != 0) {
        return mvpn_fault_set(why, MVPN_E_CONFIG,
                              "'%.60s' is neither an address nor a network. Write it as 11.2.3.4, "
                              "11.2.0.0/16 or 2a10:5::/32",
                              v->text);
    }
    if (has_host_bits(&p)) {
        return mvpn_fault_set(why, MVPN_E_CONFIG, "'%.60s' has bits set behind its length of %u",
                              v->text, (unsigned)p.bits);
    }
    if (e->blocked_count == MVPN_POLICY_BLOCKED_MAX) {
        return mvpn_fault_set(why, MVPN_E_CONFIG,
                              "at most %d are possible. Longer lists belong into the host's "
                              "firewall",
                              MVPN_POLICY_BLOCKED_MAX);
    }
    e->blocked[e->blocked_count++] = (mvpn_policy_net){p.addr, p.bits, v->line};
    return 0;
}

static int set_allowed_port(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    mvpn_config_exit *e = &((mvpn_config *)target)->exit;
    unsigned first = 0, last = 0;
    int end = 0;
    size_t n = strlen(v->text);
    bool is_one = sscanf(v->text, "%5u%n", &first, &end) == 1 && (size_t)end == n;
    bool is_range =
        !is_one && sscanf(v->text, "%5u-%5u%n", &first, &last, &end) == 2 && (size_t)end == n;
    last = is_one ? first : last;
    if (n == 0 || strspn(v->text, "0123456789-") != n || (!is_one && !is_range) || first < 1 ||
        last > UINT16_MAX || last < first) {
        return mvpn_fault_set(why, MVPN_E_CONFIG,
                              "'%.60s' is neither a port nor a range of ports. Write it as 443 or "
                              "8000-8100",
                              v->text);
    }
    if (e->port_count == MVPN_POLICY_PORTS_MAX) {
        return mvpn_fault_set(why, MVPN_E_CONFIG, "at most %d are possible. Join ranges",
                              MVPN_POLICY_PORTS_MAX);
    }
    e->ports[e->port_count++] = (mvpn_port_range){(uint16_t)first, (uint16_t)last};
    return 0;
}

static int set_bandwidth_limit(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    return set_number(&((mvpn_config *)target)->exit.bandwidth_limit, v, 0, 1000000, why);
}

static int set_bandwidth_burst(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    return set_number(&((mvpn_config *)target)->exit.bandwidth_burst, v, 0, 4000000, why);
}

static int set_session_limit(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    return set_number(&((mvpn_config *)target)->exit.session_limit, v, 0, 1000000, why);
}

static int set_session_burst(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    return set_number(&((mvpn_config *)target)->exit.session_burst, v, 0, 4000000, why);
}

static int set_monthly_quota(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    return set_number(&((mvpn_config *)target)->exit.monthly_quota, v, 0, 1000000000, why);
}

static int set_flows_max(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    return set_number(&((mvpn_config *)target)->exit.flows_max, v, 0, 1000000, why);
}

static int set_metrics_listen(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    mvpn_addr a;
    if (mvpn_addr_parse(v->text, &a) != 0 || a.port == 0) {
        return mvpn_fault_set(why, MVPN_E_CONFIG,
                              "'%.60s' is not an address with a port. Write it as 127.0.0.1:9464",
                              v->text);
    }
    static const uint8_t zero[16];
    if (mvpn_addr_is_public(&a) || memcmp(a.ip, zero, sizeof(zero)) == 0) {
        return bad(why, "metrics are for the operator: name one local address, such as "
                        "127.0.0.1:9464");
    }
    ((mvpn_config *)target)->exit.metrics_listen = a;
    return 0;
}

static int set_exit_notice(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    mvpn_config *c = target;
    return set_path(c->exit.exit_notice, sizeof(c->exit.exit_notice), v, why);
}

static int set_nat(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    static const struct word words[] = {{"kernel", 0}, {"user", 1}, {NULL, 0}};
    int value = 0;
    int rc = set_word(&value, words, v, why);
    if (rc == 0) {
        ((mvpn_config *)target)->exit.user_nat = value != 0;
    }
    return rc;
}

static int set_nat_map(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    mvpn_config_exit *e = &((mvpn_config *)target)->exit;
    mvpn_config_nat_map map;
    char from[MVPN_ADDR_STRLEN];
    const char *equals = strchr(v->text, '=');
    size_t n = equals == NULL ? 0 : (size_t)(equals - v->text);
    if (e->nat_map_count == MVPN_CONFIG_NAT_MAP_MAX) {
        return mvpn_fault_set(why, MVPN_E_CONFIG, "at most %d are possible",
                              MVPN_CONFIG_NAT_MAP_MAX);
    }
    if (n > 0 && n < sizeof(from)) {
        memcpy(from, v->text, n);
        from[n] = '\0';
    }
    if (n == 0 || n >= sizeof(from) || mvpn_addr_parse(from, &map.from) != 0 ||
        mvpn_addr_parse(equals + 1, &map.to) != 0 || map.from.port == 0 || map.to.port == 0) {
        return mvpn_fault_set(why, MVPN_E_CONFIG,
                              "'%.80s' is not two addresses with ports. Write it as "
                              "203.0.113.80:80=127.0.0.1:8080",
                              v->text);
    }
    e->nat_map[e->nat_map_count++] = map;
    return 0;
}

static int set_ipv6(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    static const struct word words[] = {
        {"auto", MVPN_IPV6_AUTO}, {"yes", MVPN_IPV6_YES}, {"no", MVPN_IPV6_NO}, {NULL, 0}};
    int value = 0;
    int rc = set_word(&value, words, v, why);
    if (rc == 0) {
        ((mvpn_config *)target)->exit.ipv6 = (enum mvpn_config_ipv6)value;
    }
    return rc;
}

static int set_hops(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    uint32_t hops = 0;
    int rc = set_number(&hops, v, 1, MVPN_HOPS_MAX, why);
    if (rc == 0) {
        ((mvpn_config *)target)->client.hops = hops;
    }
    return rc;
}

static int set_path_hop(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    mvpn_config_client *c = &((mvpn_config *)target)->client;
    size_t len = strlen(v->text);
    if (!mvpn_name_is_valid(v->text) && len != MVPN_CONFIG_RELAY_REF_MAX) {
        return mvpn_fault_set(
            why, MVPN_E_CONFIG,
            "'%.60s' is neither a relay's name nor its identity (44 characters of "
            "base64). See them with meshvpn-bootstrap show",
            v->text);
    }
    if (c->path_count == MVPN_HOPS_MAX) {
        return mvpn_fault_set(why, MVPN_E_CONFIG, "at most %d relays are possible", MVPN_HOPS_MAX);
    }
    for (unsigned i = 0; i < c->path_count; i++) {
        if (strcmp(c->path[i], v->text) == 0) {
            return mvpn_fault_set(why, MVPN_E_CONFIG,
                                  "'%.60s' is in the path twice. Name different relays", v->text);
        }
    }
    memcpy(c->path[c->path_count++], v->text, len + 1);
    return 0;
}

static int set_size_policy(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    static const struct word words[] = {{"exact", MVPN_SIZE_EXACT},
                                        {"classes", MVPN_SIZE_CLASSES},
                                        {"full", MVPN_SIZE_FULL},
                                        {NULL, 0}};
    int value = 0;
    int rc = set_word(&value, words, v, why);
    if (rc == 0) {
        ((mvpn_config *)target)->client.size_policy = (enum mvpn_size_policy)value;
    }
    return rc;
}

static int set_rotate_mb(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    return set_number(&((mvpn_config *)target)->client.rotate_mb, v, 1, 1000000, why);
}

static int set_rotate_pause(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    return set_number(&((mvpn_config *)target)->client.rotate_pause_s, v, 0, 3600, why);
}

static int set_renew_minutes(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    return set_number(&((mvpn_config *)target)->client.renew_minutes, v, 1, WEEK_MINUTES, why);
}

static int set_exit_lifetime(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    return set_number(&((mvpn_config *)target)->client.exit_lifetime_minutes, v, 1, WEEK_MINUTES,
                      why);
}

static int set_routes(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    static const struct word words[] = {{"all", true}, {"none", false}, {NULL, 0}};
    int value = 0;
    int rc = set_word(&value, words, v, why);
    if (rc == 0) {
        ((mvpn_config *)target)->client.routes_all = value != 0;
    }
    return rc;
}

static int set_mark(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    return set_number(&((mvpn_config *)target)->client.mark, v, 1, UINT32_MAX, why);
}

static int set_table(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    /* 253 to 255 are default, main and local. */
    if (v->number >= 253 && v->number <= 255) {
        return bad(why, "253 to 255 are the system's own routing tables. Take another number, such "
                        "as 19798");
    }
    return set_number(&((mvpn_config *)target)->client.table, v, 1, UINT32_MAX, why);
}

static int set_dns(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    static const struct word words[] = {{"auto", MVPN_DNS_AUTO},
                                        {"resolved", MVPN_DNS_RESOLVED},
                                        {"resolvconf", MVPN_DNS_RESOLVCONF},
                                        {"file", MVPN_DNS_FILE},
                                        {"none", MVPN_DNS_NONE},
                                        {NULL, 0}};
    int value = 0;
    int rc = set_word(&value, words, v, why);
    if (rc == 0) {
        ((mvpn_config *)target)->client.dns = (enum mvpn_dns_manager)value;
    }
    return rc;
}

static int set_kill_switch(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    (void)why;
    ((mvpn_config *)target)->client.kill_switch = v->flag;
    return 0;
}

static int set_lockdown(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    (void)why;
    ((mvpn_config *)target)->client.lockdown = v->flag;
    return 0;
}

static int set_allow_lan(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    (void)why;
    ((mvpn_config *)target)->client.allow_lan = v->flag;
    return 0;
}

/* Looked up at once: a name that nobody has is a mistake of this line. */
static int set_operator(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    mvpn_config_client *c = &((mvpn_config *)target)->client;
    size_t len = strlen(v->text);
    const struct passwd *user = len <= MVPN_CONFIG_USER_MAX ? getpwnam(v->text) : NULL;
    if (user == NULL) {
        return mvpn_fault_set(why, MVPN_E_CONFIG,
                              "there is no user '%.60s' here. Name users of this computer, as "
                              "getent passwd lists them",
                              v->text);
    }
    if (c->operator_count == MVPN_CONFIG_OPERATORS_MAX) {
        return mvpn_fault_set(why, MVPN_E_CONFIG, "at most %d are possible",
                              MVPN_CONFIG_OPERATORS_MAX);
    }
    c->operators[c->operator_count].uid = user->pw_uid;
    memcpy(c->operators[c->operator_count++].name, v->text, len + 1);
    return 0;
}

static int set_split_network(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    return mvpn_config_split_network(&((mvpn_config *)target)->client.split, v, why);
}

static int set_split_domain(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    return mvpn_config_split_domain(&((mvpn_config *)target)->client.split, v, why);
}

static int set_split_user(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    return mvpn_config_split_user(&((mvpn_config *)target)->client.split, v, why);
}

static int set_split_cgroup(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    return mvpn_config_split_cgroup(&((mvpn_config *)target)->client.split, v, why);
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

    {"pool_v4", TEXT, EXIT, set_pool_v4, "10.64.0.0/16",
     "Addresses given to sessions behind the NAT, /8 to /29. Take another range if the host uses this one."},
    {"pool_v6", TEXT, EXIT, set_pool_v6, "fd6d:7670:e::/64", "The same for IPv6, /32 to /120."},
    {"nat", TEXT, EXIT, set_nat, "kernel",
     "`kernel`: a TUN device, forwarding and masquerade, which need root. `user`: ordinary sockets of this program, without any rights: TCP and UDP alone, fewer connections, slower; docs/proxy.md says what that means."},
    {"nat_map", LIST, EXIT, set_nat_map, "{}",
     "With `nat = user`: connections to an address and port, which the policy judges, go to another one, which it does not, as in `\"203.0.113.80:80=127.0.0.1:8080\"`: a service of this host, offered on purpose; at most 16."},
    {"dns_upstream", LIST, EXIT, set_dns_upstream, "those of /etc/resolv.conf",
     "Name servers that answer the clients' questions, an address with or without port; at most 3."},
    {"policy", LIST, EXIT, set_policy, "{} (the default policy)",
     "Rules of what may leave here, the first that matches decides, then accept: `accept` or `reject`; `tcp`, `udp`, `icmp` or `any`; an address, a prefix, `*4`, `*6` or `*`; ports, as in `\"reject tcp * 6881-6999\"`. Private addresses, the exit's own, relays and TCP port 25 are refused before. `meshvpn-exit-node --check-policy` explains a verdict."},
    {"policy_file", TEXT, EXIT, set_policy_file, "none",
     "A file of such rules, one a line, in place of `policy`."},
    {"blocked_ips", LIST, EXIT, set_blocked_ip, "{}",
     "Addresses and networks that nothing goes to, before `policy` is asked; at most 256."},
    {"allowed_ports", LIST, EXIT, set_allowed_port, "{} (all)",
     "TCP and UDP go to these ports and ranges alone, before `policy` is asked. ICMP is not concerned."},
    {"bandwidth_limit", NUMBER, EXIT, set_bandwidth_limit, "0 (none)",
     "Mbit/s of all sessions, both directions together."},
    {"bandwidth_burst", NUMBER, EXIT, set_bandwidth_burst, "0 (a second's worth)",
     "KiB that all sessions together may pass at once beyond `bandwidth_limit`; at least 64."},
    {"session_limit", NUMBER, EXIT, set_session_limit, "0 (none)",
     "Mbit/s of one session in one direction."},
    {"session_burst", NUMBER, EXIT, set_session_burst, "0 (a second's worth)",
     "KiB that a session may send or receive at once beyond `session_limit`; at least 64."},
    {"monthly_quota", NUMBER, EXIT, set_monthly_quota, "0 (none)",
     "GB (10^9 bytes) in a calendar month (UTC), both directions. Then nothing leaves until the next month. The count is kept in `state_dir`."},
    {"flows_max", NUMBER, EXIT, set_flows_max, "2048",
     "Connections of one session that are open at once, as the host's connection tracking counts them; further ones are refused. 0: no limit."},
    {"metrics_listen", TEXT, EXIT, set_metrics_listen, "none",
     "A local address and port that gives counters as OpenMetrics at /metrics: rounded, and of no user."},
    {"exit_notice", TEXT, EXIT, set_exit_notice, "none",
     "A page on port 80 of the exit's own addresses that says what this is: `default`, or a file of HTML."},
    {"ipv6", TEXT, EXIT, set_ipv6, "auto",
     "Carry IPv6: yes, no, or auto (if the host has a route)."},

    {"hops", NUMBER, CLIENT, set_hops, "3",
     "Relays in a circuit, 1 to 5. With 1 the exit sees who you are; with 2 no relay stands between guard and exit."},
    {"path", LIST, CLIENT, set_path_hop, "{} (drawn at random)",
     "A fixed path, guard first: names or identities. For tests: it takes away what random paths protect."},
    {"exit_country", TEXT, CLIENT, set_exit_country, "any", "Country of the exit, two upper-case letters; or several (CH,SE), or any but some (!US,GB). What `meshvpn exit use` chose goes before it, until `meshvpn exit use auto`; what `meshvpn exit block` blocked is left out besides."},
    {"exit_ports", LIST, CLIENT, set_exit_port, "{443}",
     "TCP ports that the exit must let out, at most 8; `any`: take exits whatever they let out."},
    {"geoip_dir", TEXT, CLIENT, set_geoip_dir, "/usr/share/tor",
     "Where the tables of the recommended package tor-geoipdb are: an exit whose address lies elsewhere is in no wanted country. Empty: not checked."},
    {"size_policy", TEXT, CLIENT, set_size_policy, "classes",
     "Sizes of cells: exact (shows packet sizes), classes (three sizes), full (one size, most traffic)."},
    {"rotate_mb", NUMBER, CLIENT, set_rotate_mb, "1024",
     "MiB that a circuit carries, 25 % more or less, before a fresh one over the same relays takes over; connections stay."},
    {"rotate_pause_s", NUMBER, CLIENT, set_rotate_pause, "30; 0 if rotate_mb is below 1024",
     "Seconds that a circuit is used at least, however much it carries; at most 3600."},
    {"renew_minutes", NUMBER, CLIENT, set_renew_minutes, "60",
     "Minutes until a circuit over other middle relays takes over; connections stay."},
    {"exit_lifetime_minutes", NUMBER, CLIENT, set_exit_lifetime, "480",
     "Minutes, 25 % more or less, until new connections leave by another exit and address; open ones keep theirs. `meshvpn circuit new` does the same at once."},
    {"routes", TEXT, CLIENT, set_routes, "all",
     "all: everything goes into the tunnel; none: the program sets no routes."},
    {"mark", NUMBER, CLIENT, set_mark, "0x4d56",
     "Firewall mark of packets to the guard; only they use the main routing table."},
    {"table", NUMBER, CLIENT, set_table, "19798", "Routing table that holds the tunnel's default route."},
    {"kill_switch", BOOL, CLIENT, set_kill_switch, "true",
     "With `routes = all`: nothing leaves this host outside the tunnel from the start of the client until it is stopped, also while it connects and after it crashed. `meshvpn-client --cleanup` ends that."},
    {"lockdown", BOOL, CLIENT, set_lockdown, "false",
     "The kill switch stays in force when the client is stopped."},
    {"allow_lan", BOOL, CLIENT, set_allow_lan, "false",
     "The kill switch lets packets to private addresses and local multicast pass; not what asks for names: ports 53, 853, 137 (NetBIOS), 5353 (mDNS) and 5355 (LLMNR)."},
    {"operators", LIST, CLIENT, set_operator, "{}",
     "Users who may change what the client does (`meshvpn down`, `reconnect`, `circuit new`, ..), besides root and whoever started it; at most 16. They need to be able to open `control_socket`: be in its group."},
    {"outside_networks", LIST, CLIENT, set_split_network, "{}",
     "Networks and addresses that are reached outside the tunnel, seen by whoever watches the line; never their name servers (ports 53 and 853). At most 32. (docs/split-tunnelling.md)"},
    {"outside_domains", LIST, CLIENT, set_split_domain, "{}",
     "Domains whose names, and all below them, are reached outside the tunnel: the addresses that the tunnel's resolver gives for them, for an hour each; at most 32."},
    {"outside_users", LIST, CLIENT, set_split_user, "{}",
     "Users of this computer, by name or number, all of whose connections go outside the tunnel; at most 16."},
    {"outside_cgroups", LIST, CLIENT, set_split_cgroup, "{}",
     "Directories of cgroups (of net_cls, or of the unified hierarchy) all of whose processes go outside the tunnel; they must be there when the client starts, and `kill_switch` on. At most 7."},
    {"inside_networks", LIST, CLIENT, set_split_network, "{}",
     "The other direction: only what goes to these networks and addresses (and what `inside_users` send) goes into the tunnel, and never another way with `kill_switch`; all else goes as without a VPN, names too. Not together with outside_*. At most 32. (docs/split-tunnelling.md)"},
    {"inside_cgroups", LIST, CLIENT, set_split_cgroup, "{}",
     "Directories of cgroups, as `outside_cgroups`, all of whose processes go into the tunnel."},
    {"inside_domains", LIST, CLIENT, set_split_domain, "{}",
     "Domains whose names, and all below them, are reached through the tunnel alone: the addresses that the tunnel's resolver gives for them, which everybody asks then, and nobody else; at most 32. With `kill_switch`, and not `dns = none`."},
    {"inside_users", LIST, CLIENT, set_split_user, "{}",
     "Users of this computer, by name or number, whose connections go into the tunnel, and of the others only those to `inside_networks`; at most 16."},
    {"dns", TEXT, CLIENT, set_dns, "auto",
     "With `routes = all`: who is told that names are asked through the tunnel, and asked to forget it at the end. resolved (systemd-resolved, by D-Bus), resolvconf (the program), file (/etc/resolv.conf is exchanged for one of ours, kept so, and put back), auto (the one of them that looks after this host's names; with inside_* other than `inside_domains`: none), none (names stay as they are)."},
};
/* clang-format on */

/* --- load --- */

static void copy_text(char *out, size_t size, const char *text)
{
    (void)snprintf(out, size, "%s", text);
}

void mvpn_config_init(mvpn_config *ret, enum mvpn_config_kind kind)
{
    *ret = (mvpn_config){.kind = kind, .log_level = MVPN_LOG_INFO, .sandbox = true};
    copy_text(ret->network_file, sizeof(ret->network_file), MVPN_CONFIG_NETWORK_FILE);
    copy_text(ret->key_dir, sizeof(ret->key_dir), MVPN_CONFIG_KEY_DIR);
    copy_text(ret->run_dir, sizeof(ret->run_dir), MVPN_CONFIG_RUN_DIR);
    copy_text(ret->control_socket, sizeof(ret->control_socket), MVPN_CONFIG_CONTROL_SOCKET);
    copy_text(ret->state_dir, sizeof(ret->state_dir), MVPN_CONFIG_STATE_DIR);
    ret->listen[0] = (mvpn_addr){.family = 4, .port = DEFAULT_PORT};
    ret->listen_count = 1;
    if (kind == MVPN_CONFIG_CLIENT) {
        ret->listen[0].port = 0;
        ret->listen[1] = (mvpn_addr){.family = 6};
        ret->listen_count = 2;
    }
    copy_text(ret->exit.tun_name, sizeof(ret->exit.tun_name), "mvpnexit0");
    ret->exit.pool_v4 = (mvpn_prefix){{.family = 4, .ip = {10, 64}}, 16};
    ret->exit.pool_v6 =
        (mvpn_prefix){{.family = 6, .ip = {0xfd, 0x6d, 0x76, 0x70, 0x00, 0x0e}}, 64};
    ret->exit.flows_max = DEFAULT_FLOWS;
    copy_text(ret->client.tun_name, sizeof(ret->client.tun_name), "mvpn0");
    copy_text(ret->client.geoip_dir, sizeof(ret->client.geoip_dir), MVPN_GEOIP_DIR);
    ret->discovery.http_listen = (mvpn_addr){.family = 4, .port = HTTP_PORT, .ip = {127, 0, 0, 1}};
    ret->discovery.measure = true;
    ret->relay.stun_strict = true;
    ret->client.hops = 3;
    ret->client.size_policy = MVPN_SIZE_CLASSES;
    ret->client.rotate_mb = DEFAULT_ROTATE_MB;
    ret->client.rotate_pause_s = DEFAULT_ROTATE_PAUSE_S;
    ret->client.renew_minutes = DEFAULT_RENEW_MINUTES;
    ret->client.exit_lifetime_minutes = DEFAULT_EXIT_LIFETIME_MINUTES;
    ret->client.routes_all = true;
    ret->client.kill_switch = true;
    ret->client.dns = MVPN_DNS_AUTO;
    ret->client.mark = DEFAULT_MARK;
    ret->client.table = DEFAULT_MARK;
}

unsigned mvpn_config_read_resolv(const char *path, mvpn_addr *ret, unsigned max)
{
    uint8_t *content = NULL;
    size_t size = 0;
    unsigned count = 0;
    char *save = NULL;
    if (mvpn_file_read(path, MVPN_CONFIG_SIZE_MAX, false, &content, &size, NULL) != 0) {
        return 0;
    }
    for (char *line = strtok_r((char *)content, "\n", &save); line != NULL && count < max;
         line = strtok_r(NULL, "\n", &save)) {
        char *word_save = NULL;
        const char *key = strtok_r(line, " \t\r", &word_save);
        const char *value = strtok_r(NULL, " \t\r", &word_save);
        mvpn_addr a;
        if (key == NULL || value == NULL || strcmp(key, "nameserver") != 0 ||
            mvpn_addr_parse(value, &a) != 0) {
            continue;
        }
        a.port = DNS_PORT;
        ret[count++] = a;
    }
    mvpn_file_free(content, size);
    return count;
}

/* Relative to the directory of the file that names it. */
static int resolve(char *path, size_t size, const char *config_path, const char *key,
                   mvpn_fault *fault)
{
    const char *slash = strrchr(config_path, '/');
    size_t dir_len = slash != NULL ? (size_t)(slash - config_path) + 1 : 0, len = strlen(path);
    if (path[0] == '/' || dir_len == 0) {
        return 0;
    }
    if (dir_len + len >= size) {
        return mvpn_fault_set(
            fault, MVPN_E_CONFIG,
            "%.200s: %s: the path is longer than %zu characters. Use a shorter one", config_path,
            key, size - 1);
    }
    memmove(path + dir_len, path, len + 1);
    memcpy(path, config_path, dir_len);
    return 0;
}

static int resolve_all(mvpn_config *c, const char *path, mvpn_fault *fault)
{
    int rc = resolve(c->network_file, sizeof(c->network_file), path, "network_file", fault);
    if (rc == 0) {
        rc = resolve(c->key_dir, sizeof(c->key_dir), path, "key_dir", fault);
    }
    if (rc == 0) {
        rc = resolve(c->run_dir, sizeof(c->run_dir), path, "run_dir", fault);
    }
    if (rc == 0) {
        rc = resolve(c->state_dir, sizeof(c->state_dir), path, "state_dir", fault);
    }
    if (rc == 0) {
        rc = resolve(c->control_socket, sizeof(c->control_socket), path, "control_socket", fault);
    }
    if (rc == 0 && c->exit.policy_file[0] != '\0') {
        rc = resolve(c->exit.policy_file, sizeof(c->exit.policy_file), path, "policy_file", fault);
    }
    if (rc == 0 && c->exit.exit_notice[0] != '\0' && strcmp(c->exit.exit_notice, "default") != 0) {
        rc = resolve(c->exit.exit_notice, sizeof(c->exit.exit_notice), path, "exit_notice", fault);
    }
    if (rc == 0 && c->client.geoip_dir[0] != '\0') {
        rc = resolve(c->client.geoip_dir, sizeof(c->client.geoip_dir), path, "geoip_dir", fault);
    }
    return rc;
}

int mvpn_config_read_policy(mvpn_config_exit *e, const char *path, mvpn_fault *fault)
{
    uint8_t *content = NULL;
    size_t size = 0;
    mvpn_policy_error error;
    mvpn_policy *scratch = NULL;
    int rc = mvpn_file_read(path, sizeof(e->policy) - 1, false, &content, &size, fault);
    if (rc != 0) {
        return rc == MVPN_E_UNKNOWN ? MVPN_E_CONFIG : rc;
    }
    if (strlen((const char *)content) != size) {
        rc = mvpn_fault_set(fault, MVPN_E_CONFIG, "%s: a zero byte in a file of rules", path);
    }
    scratch = mvpn_policy_new();
    if (rc == 0 && scratch == NULL) {
        rc = mvpn_fault_set(fault, MVPN_E_NOMEM, "out of memory");
    }
    if (rc == 0 && mvpn_policy_parse(scratch, (const char *)content, &error) != 0) {
        rc = mvpn_fault_set(fault, MVPN_E_CONFIG,
                            "%.300s:%u: %s at character %u. Write a rule as "
                            "reject tcp 11.0.0.0/8 80,443",
                            path, error.line, error.what, error.column);
    }
    if (rc == 0) {
        memcpy(e->policy, content, size + 1);
        e->policy_count = 0;
    }
    mvpn_policy_free(scratch);
    mvpn_file_free(content, size);
    return rc;
}

int mvpn_config_policy(const mvpn_config_exit *c, mvpn_policy **ret, mvpn_fault *fault)
{
    mvpn_policy_error error = {0};
    mvpn_policy *policy = mvpn_policy_new();
    if (policy == NULL) {
        return mvpn_fault_set(fault, MVPN_E_NOMEM, "out of memory");
    }
    int rc = mvpn_policy_parse(policy, c->policy, &error);
    if (rc != 0) {
        mvpn_policy_free(policy);
        return mvpn_fault_set(fault, MVPN_E_CONFIG, "exit policy, rule %u, column %u: %s",
                              error.line, error.column, error.what);
    }
    for (unsigned i = 0; rc == 0 && i < c->blocked_count; i++) {
        rc = mvpn_policy_block(policy, &c->blocked[i]);
    }
    for (unsigned i = 0; rc == 0 && i < c->port_count; i++) {
        rc = mvpn_policy_allow_ports(policy, c->ports[i].first, c->ports[i].last);
    }
    MVPN_ASSERT(rc == 0); /* the setters keep to the same bounds */
    *ret = policy;
    return 0;
}

/* Ports of one family are not shared, whichever address: an alternate is bound on both ports. */
static bool is_taken(const mvpn_config *c, const mvpn_addr *a)
{
    for (unsigned i = 0; i < c->listen_count; i++) {
        if (c->listen[i].family == a->family && c->listen[i].port == a->port) {
            return true;
        }
    }
    return false;
}

/* An answer that the client does not see tells addresses that are not inside yet. */
static int check_inside_domains(const char *path, const mvpn_config_client *c, mvpn_fault *fault)
{
    if (!c->split.is_inside || c->split.domains.count == 0) {
        return 0;
    }
    if (!c->kill_switch) {
        return mvpn_fault_set(
            fault, MVPN_E_CONFIG,
            "%s: inside_domains needs kill_switch = true: its packet filter keeps "
            "programs from asking for names elsewhere. Or use inside_networks",
            path);
    }
    if (c->dns == MVPN_DNS_NONE) {
        return mvpn_fault_set(fault, MVPN_E_CONFIG,
                              "%s: inside_domains lives from the answers of the tunnel's name "
                              "server, and with dns = none nobody asks that. Remove dns, or use "
                              "inside_networks",
                              path);
    }
    return 0;
}

/* What says that others reach the node, beside what says that they do not. */
static int check_behind_nat(const char *path, const mvpn_config_relay *r, mvpn_fault *fault)
{
    const char *other = r->address_count > 0 ? "address"
                        : r->nat_relay       ? "nat_relay"
                        : r->stun_count > 0  ? "stun_listen"
                        : r->lan_announce    ? "lan_announce"
                                             : NULL;
    if (!r->behind_nat || other == NULL) {
        return 0;
    }
    return mvpn_fault_set(fault, MVPN_E_CONFIG,
                          "%s: behind_nat says that nobody reaches this node as it stands, but %s "
                          "is for nodes that others reach. Remove one of the two",
                          path, other);
}

static int read_settings(const mvpn_config_files *files, enum mvpn_config_kind kind,
                         mvpn_config *ret, mvpn_fault *fault)
{
    mvpn_config *checks = NULL; /* takes what a later file overrides */
    if (files->count > 1) {
        checks = malloc(sizeof(*checks));
        if (checks == NULL) {
            return mvpn_fault_set(fault, MVPN_E_NOMEM, "out of memory");
        }
        *checks = *ret;
    }
    int rc = mvpn_config_files_parse(files, kind, settings, MVPN_ARRAY_LEN(settings), ret, checks,
                                     NULL, fault);
    free(checks);
    return rc;
}

int mvpn_config_from_files(const mvpn_config_files *files, enum mvpn_config_kind kind,
                           mvpn_config *ret, mvpn_fault *fault)
{
    const char *path = files->file[0].path;
    mvpn_config defaults;
    mvpn_config_init(&defaults, kind);
    *ret = defaults;
    ret->listen_count = 0; /* the setters append */
    ret->client.hops = 0;  /* 0 = not said */
    ret->client.rotate_pause_s = NOT_SAID;
    int rc = read_settings(files, kind, ret, fault);
    if (rc != 0) {
        return rc;
    }
    if (ret->listen_count == 0) {
        memcpy(ret->listen, defaults.listen, sizeof(ret->listen));
        ret->listen_count = defaults.listen_count;
    }
    if (ret->client.exit_port_count == 0 && !ret->client.any_exit_port) {
        ret->client.exit_ports[ret->client.exit_port_count++] = HTTPS_PORT;
    }
    if (ret->client.hops == 0) {
        ret->client.hops =
            ret->client.path_count > 0 ? ret->client.path_count : defaults.client.hops;
    }
    if (ret->client.rotate_pause_s == NOT_SAID) { /* who wants small steps gets them */
        bool is_small = ret->client.rotate_mb < DEFAULT_ROTATE_MB;
        ret->client.rotate_pause_s = is_small ? 0 : defaults.client.rotate_pause_s;
    }
    if (ret->client.path_count > 0 && ret->client.path_count != ret->client.hops) {
        return mvpn_fault_set(fault, MVPN_E_CONFIG,
                              "%s: path names %u relays but hops is %u. Remove hops, or name as "
                              "many relays",
                              path, ret->client.path_count, ret->client.hops);
    }
    if (ret->client.lockdown && !(ret->client.kill_switch && ret->client.routes_all)) {
        return mvpn_fault_set(fault, MVPN_E_CONFIG,
                              "%s: lockdown needs kill_switch = true and routes = all", path);
    }
    if (mvpn_config_split_is_used(&ret->client.split) && !ret->client.routes_all) {
        return mvpn_fault_set(fault, MVPN_E_CONFIG,
                              "%s: with routes = none everything is outside already. Remove "
                              "%s, or write routes = all",
                              path, ret->client.split.is_inside ? "inside_*" : "outside_*");
    }
    if (ret->client.split.cgroup_count > 0 && !ret->client.kill_switch) {
        return mvpn_fault_set(fault, MVPN_E_CONFIG,
                              "%s: %s_cgroups needs kill_switch = true: its packet filter knows "
                              "cgroups. Or use %s_users",
                              path, ret->client.split.is_inside ? "inside" : "outside",
                              ret->client.split.is_inside ? "inside" : "outside");
    }
    rc = check_inside_domains(path, &ret->client, fault);
    if (rc != 0) {
        return rc;
    }
    for (unsigned i = 0; i < ret->relay.stun_count; i++) {
        if (is_taken(ret, &ret->relay.stun_listen[i])) {
            return mvpn_fault_set(fault, MVPN_E_CONFIG,
                                  "%s: stun_listen: port %u is the node's own (listen). STUN needs "
                                  "another",
                                  path, (unsigned)ret->relay.stun_listen[i].port);
        }
    }
    rc = check_behind_nat(path, &ret->relay, fault);
    if (rc != 0) {
        return rc;
    }
    if (kind == MVPN_CONFIG_EXIT && ret->exit.dns_count == 0) {
        ret->exit.dns_count = mvpn_config_read_resolv("/etc/resolv.conf", ret->exit.dns_upstream,
                                                      MVPN_CONFIG_DNS_MAX);
        ret->exit.dns_is_from_system = true;
    }
    if (ret->exit.policy_file[0] != '\0' && ret->exit.policy[0] != '\0') {
        return mvpn_fault_set(fault, MVPN_E_CONFIG,
                              "%s: policy and policy_file are both there. Keep one of them", path);
    }
    rc = resolve_all(ret, path, fault);
    if (rc == 0 && ret->exit.policy_file[0] != '\0') {
        rc = mvpn_config_read_policy(&ret->exit, ret->exit.policy_file, fault);
    }
    return rc;
}

int mvpn_config_parse(const char *path, const char *text, size_t size, enum mvpn_config_kind kind,
                      mvpn_config *ret, mvpn_fault *fault)
{
    mvpn_config_files files;
    uint8_t *content = malloc(size + 1);
    if (content == NULL) {
        return mvpn_fault_set(fault, MVPN_E_NOMEM, "no memory to read %s", path);
    }
    memcpy(content, text, size);
    content[size] = '\0';
    int rc = mvpn_config_files_of(path, content, size, &files, fault);
    if (rc == 0) {
        rc = mvpn_config_from_files(&files, kind, ret, fault);
        mvpn_config_files_done(&files);
    }
    return rc;
}

int mvpn_config_load(const char *path, enum mvpn_config_kind kind, mvpn_config *ret,
                     mvpn_fault *fault)
{
    mvpn_config_files files;
    int rc = mvpn_config_files_read(path, &files, fault);
    if (rc == 0) {
        rc = mvpn_config_from_files(&files, kind, ret, fault);
        mvpn_config_files_done(&files);
    }
    return rc;
}

const mvpn_setting *mvpn_config_settings(size_t *ret_count)
{
    *ret_count = MVPN_ARRAY_LEN(settings);
    return settings;
}

/* --- documentation --- */

static const char *type_text(enum mvpn_setting_type type)
{
    switch (type) {
    case MVPN_SETTING_LIST:
        return "list";
    case MVPN_SETTING_NUMBER:
        return "number";
    case MVPN_SETTING_BOOL:
        return "true, false";
    case MVPN_SETTING_TEXT:
        break;
    }
    return "text";
}

static void write_section(FILE *out, const char *title, unsigned kinds)
{
    (void)fprintf(out, "\n## %s\n| key | type | default | |\n|---|---|---|---|\n", title);
    for (size_t i = 0; i < MVPN_ARRAY_LEN(settings); i++) {
        const mvpn_setting *s = &settings[i];
        if (s->kinds == kinds) {
            (void)fprintf(out, "| `%s` | %s | %s | %s |\n", s->name, type_text(s->type), s->initial,
                          s->help);
        }
    }
}

void mvpn_config_write_docs(FILE *out)
{
    (void)fputs(
        "# Configuration\n\n"
        "<!-- Made by `meshvpn config docs` from the table in src/io/config.c; a test compares. "
        "-->\n\n"
        "One text file per program: `/etc/meshvpn/relay.conf`, `exit.conf`, `bootstrap.conf`, "
        "`discovery.conf` or\n"
        "`client.conf`, or what `--config` names.\n"
        "Every key is optional. An unknown key, a key given twice and a bad value are errors, told "
        "with file and line;\n"
        "`--check` reads the file, says what it finds and starts nothing. `examples/` has a file "
        "for "
        "each program.\n\n"
        "```\n"
        "# a comment\n"
        "hops = 3\n"
        "tun_name = \"mvpn0\"\n"
        "listen = {\"0.0.0.0:443\", \"[::]:443\"}\n"
        "```\n\n"
        "Texts need quotes unless they are plain words. `${NAME}` stands for an environment "
        "variable. "
        "Relative paths are\n"
        "relative to the directory of the file that names them, so that a node's directory can be "
        "moved as a whole.\n"
        "An empty list is the default.\n\n"
        "Files `*.conf` in a directory beside it, such as `/etc/meshvpn/client.conf.d/`, are read "
        "after it, in the\n"
        "order of their names. What a later file says of a key stands for what an earlier one "
        "said, a list as a whole.\n"
        "Relative paths in them are relative to the directory of the main file. `meshvpn config "
        "show --effective` tells\n"
        "where each value stands.\n",
        out);
    write_section(out, "All programs", ALL);
    write_section(out, "All but clients", NODE);
    write_section(out, "Relays and exits", RELAYS);
    write_section(out, "Exits and clients", EXIT | CLIENT);
    write_section(out, "Exits", EXIT);
    write_section(out, "Discovery nodes", DISCOVERY);
    write_section(out, "Clients", CLIENT);
}
