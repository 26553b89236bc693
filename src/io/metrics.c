#include "io/metrics.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"

typedef struct metric {
    const char *family; /* without _total */
    const char *label;  /* name="value", or NULL */
    const char *key;    /* in the status */
    const char *help;   /* of the family's first row; else NULL */
    size_t offset;      /* in the counters */
    uint64_t step;
} metric;

#define AT(field) offsetof(mvpn_exit_counters, field)
#define BYTES MVPN_METRICS_BYTES
#define PACKETS MVPN_METRICS_PACKETS
#define EVENTS MVPN_METRICS_EVENTS

static const metric metrics[] = {
    {"meshvpn_exit_bytes", "direction=\"out\"", "bytes_out", "Bytes of packets that passed.",
     AT(out_bytes), BYTES},
    {"meshvpn_exit_bytes", "direction=\"in\"", "bytes_in", NULL, AT(in_bytes), BYTES},
    {"meshvpn_exit_packets", "direction=\"out\"", "packets_out", "Packets that passed.",
     AT(out_packets), PACKETS},
    {"meshvpn_exit_packets", "direction=\"in\"", "packets_in", NULL, AT(in_packets), PACKETS},
    {"meshvpn_exit_refused", "reason=\"source\"", "refused_source", "Packets that did not pass.",
     AT(refused_source), EVENTS},
    {"meshvpn_exit_refused", "reason=\"policy\"", "refused_policy", NULL, AT(refused_policy),
     EVENTS},
    {"meshvpn_exit_refused", "reason=\"format\"", "refused_format", NULL, AT(refused_format),
     EVENTS},
    {"meshvpn_exit_refused", "reason=\"no_ipv6\"", "refused_no_ipv6", NULL, AT(refused_no_v6),
     EVENTS},
    {"meshvpn_exit_refused", "reason=\"rate\"", "refused_rate", NULL, AT(refused_rate), EVENTS},
    {"meshvpn_exit_refused", "reason=\"quota\"", "refused_quota", NULL, AT(refused_quota), EVENTS},
    {"meshvpn_exit_refused", "reason=\"too_big\"", "refused_too_big", NULL, AT(too_big), EVENTS},
    {"meshvpn_exit_refused", "reason=\"no_session\"", "refused_no_session", NULL,
     AT(unknown_session), EVENTS},
    {"meshvpn_exit_refused", "reason=\"queue_full\"", "refused_queue_full", NULL, AT(queue_full),
     EVENTS},
    {"meshvpn_exit_dns_queries", NULL, "dns_queries", "Questions of the name service.",
     AT(dns_queries), EVENTS},
    {"meshvpn_exit_dns_answers", NULL, "dns_answers", "Answers of the name service.",
     AT(dns_answers), EVENTS},
    {"meshvpn_exit_dns_answers_local", NULL, "dns_answers_local",
     "Answers that no resolver was asked for.", AT(dns_local), EVENTS},
    {"meshvpn_exit_dns_private", NULL, "dns_private", "Answers emptied of private addresses.",
     AT(dns_private), EVENTS},
    {"meshvpn_exit_dns_refused", NULL, "dns_refused", "Questions and answers that were dropped.",
     AT(dns_refused), EVENTS},
    {"meshvpn_exit_dns_expired", NULL, "dns_expired", "Questions without an answer.",
     AT(dns_expired), EVENTS},
    {"meshvpn_exit_sessions_opened", NULL, "sessions_opened", "Sessions since the start.",
     AT(sessions_opened), MVPN_METRICS_SESSIONS},
    {"meshvpn_exit_sessions_moved", NULL, "sessions_moved", "Sessions that another circuit took.",
     AT(sessions_moved), EVENTS},
};

static uint64_t rounded(const mvpn_exit *exit, const metric *m)
{
    uint64_t n;
    memcpy(&n, (const char *)mvpn_exit_get_counters(exit) + m->offset, sizeof(n));
    return n - n % m->step;
}

static uint64_t rounded_up(uint32_t sessions)
{
    const uint64_t step = MVPN_METRICS_SESSIONS;
    return (sessions + step - 1) / step * step;
}

typedef struct text {
    char *out;
    size_t used;
} text;

static void add(text *t, const char *fmt, ...) MVPN_PRINTF(2, 3);
static void add(text *t, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(t->out + t->used, MVPN_METRICS_SIZE - t->used, fmt, args);
    va_end(args);
    MVPN_ASSERT(n >= 0 && t->used + (size_t)n < MVPN_METRICS_SIZE); /* the table is ours */
    t->used += (size_t)n;
}

size_t mvpn_metrics_write(const mvpn_exit *exit, char out[static MVPN_METRICS_SIZE])
{
    text t = {out, 0};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(metrics); i++) {
        const metric *m = &metrics[i];
        if (m->help != NULL) {
            add(&t, "# TYPE %s counter\n# HELP %s %s\n", m->family, m->family, m->help);
        }
        if (m->label != NULL) {
            add(&t, "%s_total{%s} %" PRIu64 "\n", m->family, m->label, rounded(exit, m));
        } else {
            add(&t, "%s_total %" PRIu64 "\n", m->family, rounded(exit, m));
        }
    }
    add(&t,
        "# TYPE meshvpn_exit_sessions gauge\n"
        "# HELP meshvpn_exit_sessions Open sessions, rounded up.\n"
        "meshvpn_exit_sessions %" PRIu64 "\n"
        "# TYPE meshvpn_exit_sessions_detached gauge\n"
        "# HELP meshvpn_exit_sessions_detached Of those, without a circuit; rounded up.\n"
        "meshvpn_exit_sessions_detached %" PRIu64 "\n# EOF\n",
        rounded_up(mvpn_exit_session_count(exit)),
        rounded_up(mvpn_exit_session_detached_count(exit)));
    return t.used;
}

static void set_sessions(json_t *o, const char *key, uint32_t sessions)
{
    (void)json_object_set_new(o, key, json_integer((json_int_t)rounded_up(sessions)));
}

void mvpn_metrics_report(const mvpn_exit *exit, json_t *reply)
{
    json_t *o = json_object();
    set_sessions(o, "sessions", mvpn_exit_session_count(exit));
    set_sessions(o, "sessions_detached", mvpn_exit_session_detached_count(exit));
    for (size_t i = 0; i < MVPN_ARRAY_LEN(metrics); i++) {
        (void)json_object_set_new(o, metrics[i].key,
                                  json_integer((json_int_t)rounded(exit, &metrics[i])));
    }
    (void)json_object_set_new(reply, "exit", o);
}
