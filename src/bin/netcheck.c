#include "bin/netcheck.h"

#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "bin/netcheck_report.h"
#include "io/clock.h"
#include "io/config.h"
#include "io/statefile.h"

/* As the table of meshvpn.c. */
enum {
    STATUS_FINE = 0,
    STATUS_FAILED = 1,
    STATUS_USAGE = 2,
    STATUS_OFFLINE = 4,
    STATUS_BLOCKED = 5,
};

#define DEFAULT_CONFIG "/etc/meshvpn/client.conf"

typedef struct arguments {
    bool wants_json;
    const char *config; /* NULL: the default one, if it is there */
    size_t server_count;
    const char *servers[MVPN_NETCHECK_SERVERS_MAX];
} arguments;

typedef struct session {
    mvpn_loop *loop;
    mvpn_netcheck_result result;
} session;

static int parse(arguments *a, const options_given *given)
{
    char host[256];
    uint16_t port;
    *a = (arguments){.wants_json = options_has(given, "--json"),
                     .config = options_text(given, "--config")};
    for (size_t i = 0; i < given->count; i++) {
        const char *value = given->items[i].value;
        if (strcmp(given->items[i].option->name, "--server") != 0) {
            continue;
        }
        if (mvpn_netcheck_split(value, host, &port) != 0) {
            return options_fail(given, "this is no HOST[:PORT]: '%s'", value);
        }
        a->servers[a->server_count++] = value; /* the table says how many there can be */
    }
    return STATUS_FINE;
}

/* relay.conf, exit.conf ... are what their names say; others are clients'. */
static enum mvpn_config_kind kind_of(const char *path)
{
    const char *slash = strrchr(path, '/'), *base = slash == NULL ? path : slash + 1;
    for (unsigned i = 0; i < MVPN_CONFIG_KINDS; i++) {
        char name[32];
        (void)snprintf(name, sizeof(name), "%s.conf",
                       mvpn_config_kind_name((enum mvpn_config_kind)(1u << i)));
        if (strcmp(base, name) == 0) {
            return (enum mvpn_config_kind)(1u << i);
        }
    }
    return MVPN_CONFIG_CLIENT;
}

/* What the network file says; `*ret_has` is false if there is none and nobody asked for it. */
static int load(const arguments *a, mvpn_config *config, mvpn_network_file *network, bool *ret_has)
{
    mvpn_fault fault = {.text = ""};
    const char *path = a->config != NULL                   ? a->config
                       : access(DEFAULT_CONFIG, F_OK) == 0 ? DEFAULT_CONFIG
                                                           : NULL;
    enum mvpn_config_kind kind = path != NULL ? kind_of(path) : MVPN_CONFIG_CLIENT;
    mvpn_config_init(config, kind);
    if (path != NULL && mvpn_config_load(path, kind, config, &fault) != 0) {
        (void)fprintf(stderr, "meshvpn: %s\n", fault.text);
        return STATUS_USAGE;
    }
    /* Not judged by the clock, which may be what is wrong. */
    int r = mvpn_network_file_load(config->network_file, 0, network, &fault);
    *ret_has = r == 0;
    if (r == 0 || (r == MVPN_E_UNKNOWN && a->config == NULL)) {
        return STATUS_FINE;
    }
    (void)fprintf(stderr, "meshvpn: %s\n", fault.text);
    if (a->server_count > 0) {
        (void)fputs("Going on without it: only the named STUN servers are asked.\n", stderr);
        return STATUS_FINE;
    }
    if (access(config->network_file, R_OK) != 0 && errno == EACCES) {
        (void)fputs("A closed network's file is for root alone: run this with sudo. Or name a STUN "
                    "server: --server HOST\n",
                    stderr);
    }
    return a->config != NULL ? STATUS_USAGE : STATUS_FAILED;
}

static void checked(void *ctx, const mvpn_netcheck_result *result)
{
    session *s = ctx;
    s->result = *result;
    mvpn_loop_stop(s->loop);
}

static int run(session *s, const mvpn_netcheck_options *options, mvpn_fault *fault)
{
    mvpn_netcheck *check = NULL;
    int r = mvpn_loop_new(&s->loop);
    if (r != 0) {
        return mvpn_fault_set(fault, r, "cannot begin: %s", mvpn_strerror(r));
    }
    r = mvpn_netcheck_new(s->loop, options, checked, s, &check, fault);
    if (r == 0 && (r = mvpn_loop_run(s->loop)) != 0) {
        (void)mvpn_fault_set(fault, r, "the event loop broke");
    }
    mvpn_netcheck_free(check);
    mvpn_loop_free(s->loop);
    return r;
}

static int check(const arguments *a, const mvpn_config *config, const mvpn_network_file *network,
                 mvpn_netcheck_result *ret)
{
    static mvpn_state_entries cached;
    static session s;
    mvpn_state_clock clock = {.offset_s = 0};
    mvpn_fault fault = {.text = ""};
    bool is_client = config->kind == MVPN_CONFIG_CLIENT;
    mvpn_netcheck_options options = {
        .network = network,
        .cached = &cached,
        .state_dir = config->state_dir,
        .mark = is_client ? config->client.mark : 0,
        .server_count = a->server_count,
    };
    memcpy(options.servers, a->servers, sizeof(options.servers));
    /* Read, never written: it belongs to the daemon. */
    mvpn_state_entries_load(config->state_dir, &cached);
    if (mvpn_state_clock_load(config->state_dir, &clock)) {
        options.clock_guess_s = clock.offset_s;
    }
    int r = run(&s, &options, &fault);
    if (r != 0) {
        (void)fprintf(stderr, "meshvpn: %s\n", fault.text);
        return STATUS_FAILED;
    }
    *ret = s.result;
    if (is_client && !ret->is_marked && if_nametoindex(config->client.tun_name) != 0) {
        (void)fprintf(stderr,
                      "meshvpn: the tunnel %s is up, and what is shown is the network behind it. "
                      "To see your own, run this with sudo.\n",
                      config->client.tun_name);
    }
    return STATUS_FINE;
}

static int show(const arguments *a, const mvpn_netcheck_result *result)
{
    static const int statuses[] = {
        [NETCHECK_GOOD] = STATUS_FINE,       [NETCHECK_RELAYED] = STATUS_FINE,
        [NETCHECK_UNSURE] = STATUS_FINE,     [NETCHECK_BLOCKED] = STATUS_BLOCKED,
        [NETCHECK_OFFLINE] = STATUS_OFFLINE, [NETCHECK_NOBODY] = STATUS_FAILED,
    };
    netcheck_verdict verdict;
    netcheck_judge(&verdict, result);
    if (!a->wants_json) {
        netcheck_print(stdout, result, &verdict);
        return statuses[verdict.kind];
    }
    json_t *object = netcheck_json(result, &verdict);
    if (object == NULL) {
        (void)fputs("meshvpn: out of memory\n", stderr);
        return STATUS_FAILED;
    }
    (void)json_dumpf(object, stdout, JSON_COMPACT);
    (void)putchar('\n');
    json_decref(object);
    return statuses[verdict.kind];
}

int netcheck_command(const options_given *given)
{
    static mvpn_config config; /* 20 KB */
    static mvpn_network_file network;
    mvpn_netcheck_result result;
    arguments a;
    bool has_network = false;
    int status = parse(&a, given);
    if (status != STATUS_FINE) {
        return status;
    }
    status = load(&a, &config, &network, &has_network);
    if (status == STATUS_FINE) {
        status = check(&a, &config, has_network ? &network : NULL, &result);
    }
    if (has_network) {
        mvpn_network_file_done(&network);
    }
    return status == STATUS_FINE ? show(&a, &result) : status;
}
