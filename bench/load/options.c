#include "bench/load/options.h"

#include <stdlib.h>
#include <string.h>

static const char *const kind_name[LOAD_KINDS] = {"bulk", "interactive", "idle", "flood"};

unsigned load_options_total(const load_options *o)
{
    unsigned n = 0;
    for (unsigned k = 0; k < LOAD_KINDS; k++) {
        n += o->clients[k];
    }
    return n;
}

/* A whole number from `min` to `max`; digits alone. */
static bool parse_number(const char *text, size_t len, unsigned min, unsigned max, unsigned *ret)
{
    unsigned long v = 0;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9' || v > max) {
            return false;
        }
        v = v * 10 + (unsigned long)(text[i] - '0');
    }
    if (len == 0 || v < min || v > max) {
        return false;
    }
    *ret = (unsigned)v;
    return true;
}

static bool find_kind(const char *text, size_t len, unsigned *ret)
{
    for (unsigned k = 0; k < LOAD_KINDS; k++) {
        if (strlen(kind_name[k]) == len && memcmp(kind_name[k], text, len) == 0) {
            *ret = k;
            return true;
        }
    }
    return false;
}

/* "bulk=100,flood=1" */
static const char *parse_counts(const char *text, load_options *o)
{
    while (*text != '\0') {
        size_t len = strcspn(text, ",");
        const char *eq = memchr(text, '=', len);
        unsigned kind;
        if (eq == NULL || !find_kind(text, (size_t)(eq - text), &kind)) {
            return "--mode: KIND=N,... with the kinds bulk, interactive, idle, flood";
        }
        size_t at = (size_t)(eq - text) + 1;
        if (!parse_number(eq + 1, len - at, 0, LOAD_CLIENTS_MAX, &o->clients[kind])) {
            return "--mode: a count is a number up to 20000";
        }
        text += len + (text[len] == ',');
    }
    return NULL;
}

/* A tenth bulk, four tenths interactive, the rest idle: a busy evening. */
static void mix(unsigned n, load_options *o)
{
    o->clients[LOAD_BULK] = (n + 9) / 10;
    o->clients[LOAD_INTERACTIVE] = n * 4 / 10;
    o->clients[LOAD_IDLE] = n - o->clients[LOAD_BULK] - o->clients[LOAD_INTERACTIVE];
}

static const char *parse_mode(const char *text, unsigned clients, load_options *o)
{
    unsigned kind;
    if (strchr(text, '=') != NULL) {
        return clients != 0 ? "--clients goes with one kind, not with KIND=N"
                            : parse_counts(text, o);
    }
    clients = clients != 0 ? clients : 50;
    if (strcmp(text, "mix") == 0) {
        mix(clients, o);
    } else if (find_kind(text, strlen(text), &kind)) {
        o->clients[kind] = clients;
    } else {
        return "--mode: bulk, interactive, idle, flood, mix, or KIND=N,...";
    }
    return NULL;
}

static const char *parse_path(const char *text, load_options *o)
{
    if (o->path_count == LOAD_PATHS_MAX) {
        return "--path: at most 16 paths";
    }
    load_path *p = &o->paths[o->path_count++];
    do {
        if (p->count == LOAD_HOPS_MAX) {
            return "--path: at most 5 hops";
        }
        size_t len = strcspn(text, ",");
        if (len == 0) {
            return "--path: NODE,NODE,... without gaps";
        }
        p->hop[p->count] = text;
        p->length[p->count++] = len;
        text += len + (text[len] == ',');
    } while (*text != '\0');
    return NULL;
}

static const char *parse_direction(const char *text, load_options *o)
{
    static const char *const name[] = {"up", "down", "both"};
    for (unsigned i = 0; i < MVPN_ARRAY_LEN(name); i++) {
        if (strcmp(text, name[i]) == 0) {
            o->direction = (enum load_direction)i;
            return NULL;
        }
    }
    return "--direction: up, down or both";
}

static const char *parse_address(const char *text, mvpn_addr *ret)
{
    if (mvpn_addr_parse(text, ret) != 0 || ret->family != 4) {
        return "an address is IPv4:PORT";
    }
    return NULL;
}

typedef struct number_option {
    const char *name;
    size_t at;
    unsigned min, max;
    const char *wrong;
} number_option;

#define NUMBER(name, field, min, max)                                                              \
    {                                                                                              \
        name, offsetof(load_options, field), min, max, name ": a number from " #min " to " #max    \
    }

static const number_option numbers[] = {
    NUMBER("--rate", rate, 1, 100000),   NUMBER("--seconds", seconds, 0, 86400),
    NUMBER("--hops", hops, 1, 5),        NUMBER("--build-seconds", build_seconds, 1, 86400),
    NUMBER("--kbit", kbit, 1, 10000000), NUMBER("--flood-kbit", flood_kbit, 1, 10000000),
    NUMBER("--size", size, 26, 1200),    NUMBER("--relay-pid", relay_pid, 1, 4194304),
};

/* An option that takes a value. */
static const char *parse_value(const char *name, const char *value, const char **mode,
                               unsigned *clients, load_options *o)
{
    for (size_t i = 0; i < MVPN_ARRAY_LEN(numbers); i++) {
        const number_option *n = &numbers[i];
        if (strcmp(name, n->name) == 0) {
            unsigned *to = (unsigned *)((char *)o + n->at);
            return parse_number(value, strlen(value), n->min, n->max, to) ? NULL : n->wrong;
        }
    }
    if (strcmp(name, "--clients") == 0) {
        bool is_good = parse_number(value, strlen(value), 1, LOAD_CLIENTS_MAX, clients);
        return is_good ? NULL : "--clients: a number from 1 to 20000";
    }
    if (strcmp(name, "--mode") == 0) {
        *mode = value;
        return NULL;
    }
    if (strcmp(name, "--network") == 0) {
        o->network_file = value;
        return NULL;
    }
    if (strcmp(name, "--path") == 0) {
        return parse_path(value, o);
    }
    if (strcmp(name, "--direction") == 0) {
        return parse_direction(value, o);
    }
    if (strcmp(name, "--server") == 0) {
        return parse_address(value, &o->server);
    }
    if (strcmp(name, "--bind") == 0) {
        if (o->bind_count == LOAD_BINDS_MAX) {
            return "--bind: at most 64 addresses";
        }
        return parse_address(value, &o->bind[o->bind_count++]);
    }
    if (strcmp(name, "--echo") == 0) {
        o->is_echo = true;
        return parse_address(value, &o->echo);
    }
    return "unknown option; --help lists them";
}

static const char *check(const load_options *o)
{
    if (o->is_echo || o->wants_help) {
        return NULL;
    }
    if (o->network_file == NULL) {
        return "--network FILE is missing";
    }
    unsigned total = load_options_total(o);
    if (total == 0 || total > LOAD_CLIENTS_MAX) {
        return "there must be 1 to 20000 clients";
    }
    if (o->server.port == 0 && total > o->clients[LOAD_IDLE]) {
        return "--server ADDRESS:PORT is missing";
    }
    return NULL;
}

const char *load_options_parse(int argc, char **argv, load_options *ret)
{
    const char *mode = "mix", *wrong = NULL;
    unsigned clients = 0;
    load_options o = {
        .rate = 50, .seconds = 10, .hops = 3, .flood_kbit = 50000, .size = LOAD_PAYLOAD_MAX};
    for (int i = 0; i < argc && wrong == NULL; i++) {
        if (strcmp(argv[i], "--json") == 0) {
            o.wants_json = true;
        } else if (strcmp(argv[i], "--help") == 0) {
            o.wants_help = true;
        } else if (i + 1 == argc) {
            wrong = "unknown option, or its value is missing; --help lists them";
        } else {
            wrong = parse_value(argv[i], argv[i + 1], &mode, &clients, &o);
            i++;
        }
    }
    if (o.bind_count == 0) {
        o.bind[o.bind_count++].family = 4; /* the kernel's choice */
    }
    wrong = wrong != NULL ? wrong : parse_mode(mode, clients, &o);
    wrong = wrong != NULL ? wrong : check(&o);
    if (wrong == NULL) {
        *ret = o;
    }
    return wrong;
}
