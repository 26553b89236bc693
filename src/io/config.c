#include "io/config.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/error.h"
#include "exit/policy.h"
#include "io/config_files.h"
#include "io/config_values.h"
#include "io/file.h"
#include "io/geoip.h"
#include "io/keyfile.h"

#define DEFAULT_PORT 443
#define DEFAULT_MARK 0x4d56
#define DNS_PORT 53
#define HTTP_PORT 8080
#define HTTPS_PORT 443
/* A browser has some hundred; tracking tables hold 65,536 or more of all sessions. */
#define DEFAULT_FLOWS 2048
/* docs/protocol.md §7.2 */
#define DEFAULT_ROTATE_MB 1024
#define DEFAULT_ROTATE_PAUSE_S 30
#define DEFAULT_RENEW_MINUTES 60
#define DEFAULT_EXIT_LIFETIME_MINUTES (8 * 60)
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
    mvpn_setting settings[MVPN_SETTINGS_MAX];
    size_t count = mvpn_config_settings(settings);
    int rc = mvpn_config_files_parse(files, kind, settings, count, ret, checks, NULL, fault);
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

size_t mvpn_config_settings(mvpn_setting ret[static MVPN_SETTINGS_MAX])
{
    const mvpn_config_table *const tables[] = {&mvpn_config_node_table, &mvpn_config_exit_table,
                                               &mvpn_config_client_table};
    size_t count = 0;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(tables); i++) {
        MVPN_ASSERT(count + tables[i]->count <= MVPN_SETTINGS_MAX);
        memcpy(&ret[count], tables[i]->at, tables[i]->count * sizeof(*ret));
        count += tables[i]->count;
    }
    return count;
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
    mvpn_setting settings[MVPN_SETTINGS_MAX];
    size_t count = mvpn_config_settings(settings);
    (void)fprintf(out, "\n## %s\n| key | type | default | |\n|---|---|---|---|\n", title);
    for (size_t i = 0; i < count; i++) {
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
        "<!-- Made by `meshvpn config docs` from the tables in src/io/config_{node,exit,client}.c; "
        "a test compares. "
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
