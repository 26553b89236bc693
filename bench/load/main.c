/*
 * meshvpn-load: many clients in one process against real relays, and what became of them.
 * For labs: it brings its own server (--echo) and is not installed.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"
#include "bench/load/echo.h"
#include "bench/load/fleet.h"
#include "io/clock.h"
#include "wire/circuit.h"

static const char usage[] =
    "usage: meshvpn-load --network FILE --server ADDRESS:PORT [OPTION...]\n"
    "       meshvpn-load --echo ADDRESS:PORT      the server, to run behind the exit\n"
    "\n"
    "  --mode KIND         bulk, interactive, idle, flood or mix (10 % bulk, 40 % interactive)\n"
    "  --clients N         how many of it (50)\n"
    "  --mode KIND=N,...   or so many of each\n"
    "  --path NODE,...     a fixed path, guard first; clients take several in turn\n"
    "  --hops N            of drawn paths (3)\n"
    "  --rate N            circuits begun per second (50)\n"
    "  --build-seconds N   patience for building (what the rate takes, and 15)\n"
    "  --seconds N         of the measurement (10)\n"
    "  --direction D       where bulk goes: up, down, both (up)\n"
    "  --size N            UDP payload of bulk and flood (1200)\n"
    "  --kbit N            of each bulk client, steady (else a window as TCP has)\n"
    "  --flood-kbit N      of each flood (50000)\n"
    "  --bind ADDRESS:0    of the clients' sockets, which take several in turn (relays keep a "
    "quarter\n"
    "                      of their links for one /24)\n"
    "  --relay-pid PID     tell the memory and CPU time of that process too\n"
    "  --json              one object\n"
    "\n"
    "bulk: numbered packets each way, within a window; interactive: a small packet every 50 ms;\n"
    "idle: a circuit and nothing more; flood: packets at a steady rate that nothing slows down.\n";

static const char *const kind_name[LOAD_KINDS] = {"bulk", "interactive", "idle", "flood"};

static double ms(const load_histogram *h, double part)
{
    return (double)load_histogram_quantile(h, part) / 1000;
}

static void put(json_t *to, const char *name, double value)
{
    /* Six digits are more than any of these is good for. */
    char text[32];
    (void)snprintf(text, sizeof(text), "%.6g", value);
    (void)json_object_set_new(to, name, json_real(strtod(text, NULL)));
}

static void put_count(json_t *to, const char *name, uint64_t value)
{
    (void)json_object_set_new(to, name, json_integer((json_int_t)value));
}

static void put_times(json_t *to, const load_histogram *h)
{
    put(to, "p50_ms", ms(h, 0.5));
    put(to, "p95_ms", ms(h, 0.95));
    put(to, "p99_ms", ms(h, 0.99));
}

static double per(double a, double b)
{
    return b > 0 ? a / b : 0;
}

static json_t *failures(const load_report *r)
{
    json_t *list = json_object();
    for (size_t i = 0; i < r->reason_count; i++) {
        const load_reason *f = &r->reasons[i];
        char name[160];
        (void)snprintf(name, sizeof(name), "%s%s%s", mvpn_strerror(f->error),
                       f->reason != 0 ? ", " : "",
                       f->reason != 0 ? mvpn_reason_text(f->reason) : "");
        put_count(list, name, f->count);
    }
    return list;
}

static json_t *kind_json(const load_report *r, unsigned kind)
{
    const load_flow_counts *n = &r->counts[kind];
    json_t *o = json_object();
    put_count(o, "sent", n->sent);
    if (kind != LOAD_FLOOD) {
        put_count(o, "received", n->received);
        put(o, "loss", per((double)(n->lost - n->late), (double)n->sent));
        put(o, "reordered", per((double)n->reordered, (double)n->received));
        put_count(o, "corrupt", n->corrupt);
        put_times(o, &r->rtts[kind]);
    }
    return o;
}

static json_t *relay_json(const load_report *r)
{
    double bytes = (double)r->relay_built.rss_bytes - (double)r->relay_before.rss_bytes;
    json_t *o = json_object();
    put_count(o, "rss_before", r->relay_before.rss_bytes);
    put_count(o, "rss_built", r->relay_built.rss_bytes);
    put(o, "rss_per_circuit", per(bytes, r->built));
    put(o, "build_cpu_s", r->relay_build_cpu_s);
    put(o, "circuits_per_cpu_s", per(r->built, r->relay_build_cpu_s));
    put(o, "busy", per(r->relay_after.cpu_s - r->relay_from.cpu_s, r->measured_s));
    return o;
}

static json_t *report_json(const load_options *o, const load_report *r)
{
    json_t *root = json_object(), *circuits = json_object();
    put_count(root, "clients", r->clients);
    put_count(circuits, "built", r->built);
    put(circuits, "per_s", per(r->built, r->build_s));
    put_times(circuits, &r->build_times);
    put_count(circuits, "connected_at_end", r->connected);
    put_count(circuits, "lost_later", r->disconnects);
    (void)json_object_set_new(circuits, "failures", failures(r));
    (void)json_object_set_new(root, "circuits", circuits);
    put_count(root, "expected_to_progress", r->expected);
    put_count(root, "progressed", r->progressed);
    for (unsigned k = 0; k < LOAD_KINDS; k++) {
        if (o->clients[k] > 0 && k != LOAD_IDLE) {
            json_t *kind = kind_json(r, k);
            if (k == LOAD_BULK) {
                double seconds = r->measured_s * 1e6 / 8;
                put(kind, "mbit_s", per((double)r->bulk_bytes, seconds));
                put(kind, "mbit_s_min", per((double)r->share_min, seconds));
                put(kind, "mbit_s_max", per((double)r->share_max, seconds));
                put(kind, "jain", r->jain);
            }
            (void)json_object_set_new(root, kind_name[k], kind);
        }
    }
    put_count(root, "own_bytes_per_client", r->engine_bytes);
    put_count(root, "own_drops", r->socket_drops);
    if (r->has_relay) {
        (void)json_object_set_new(root, "relay", relay_json(r));
    }
    return root;
}

/* The same for people: a line for each leaf. */
static void print_object(const json_t *object, const char *prefix)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)object, key, value)
    {
        char name[256];
        (void)snprintf(name, sizeof(name), "%s%s%s", prefix, prefix[0] != '\0' ? "." : "", key);
        if (json_is_object(value)) {
            print_object(value, name);
        } else {
            (void)printf("  %-34s %.6g\n", name, json_number_value(value));
        }
    }
}

static int fail(const mvpn_fault *fault, int code)
{
    (void)fprintf(stderr, "meshvpn-load: %s\n", fault->text);
    return code == MVPN_E_CONFIG ? 2 : 1;
}

static int run(const load_options *o)
{
    mvpn_fault fault = {.text = ""};
    mvpn_network_file network = {0};
    load_report *report = calloc(1, sizeof(*report));
    if (report == NULL) {
        return 1;
    }
    int r = mvpn_network_file_load(o->network_file, mvpn_clock_unix(), &network, &fault);
    r = r != 0 ? r : load_fleet_run(o, &network, report, &fault);
    if (r == 0) {
        json_t *root = report_json(o, report);
        if (o->wants_json) {
            (void)json_dumpf(root, stdout, JSON_COMPACT);
            (void)printf("\n");
        } else {
            print_object(root, "");
        }
        json_decref(root);
    }
    mvpn_network_file_done(&network);
    free(report);
    return r == 0 ? 0 : fail(&fault, r);
}

int main(int argc, char **argv)
{
    load_options o;
    mvpn_fault fault = {.text = ""};
    const char *wrong = load_options_parse(argc - 1, argv + 1, &o);
    if (wrong != NULL) {
        (void)fprintf(stderr, "meshvpn-load: %s\n", wrong);
        return 2;
    }
    if (o.wants_help) {
        (void)fputs(usage, stdout);
        return 0;
    }
    if (o.is_echo) {
        int r = load_echo_run(&o.echo, &fault);
        return r == 0 ? 0 : fail(&fault, r);
    }
    return run(&o);
}
