#include "bin/relay_status.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <jansson.h>

#include "base/error.h"
#include "bin/ask.h"
#include "bin/relay_report.h"
#include "io/config.h"
#include "io/control.h"

/* Between the two questions from which rates are computed. */
#define RATE_INTERVAL_MS 300
#define ASK_TIMEOUT_MS 2000
/* Relays of one host: somebody who runs more names them with --control. */
#define RELAYS_MAX 16

typedef struct found {
    size_t count;
    bool was_denied;
    struct {
        char control[PATH_MAX];
        json_t *status;
    } at[RELAYS_MAX];
} found;

static json_t *ask(const char *control, found *f)
{
    json_t *request = json_pack("{s:s}", "cmd", "status"), *reply = NULL;
    int rc = request == NULL ? MVPN_E_NOMEM
                             : mvpn_control_ask(control, request, ASK_TIMEOUT_MS, &reply, NULL);
    json_decref(request);
    f->was_denied = f->was_denied || rc == MVPN_E_SYSTEM;
    return rc == 0 ? reply : NULL;
}

/* A client is none. */
static void take(found *f, const char *control)
{
    json_t *status = f->count < RELAYS_MAX ? ask(control, f) : NULL;
    const char *role = json_string_value(json_object_get(status, "role"));
    if (role == NULL || strcmp(role, "client") == 0) {
        json_decref(status);
        return;
    }
    (void)snprintf(f->at[f->count].control, PATH_MAX, "%s", control);
    f->at[f->count++].status = status;
}

static void take_all(found *f)
{
    char control[PATH_MAX];
    DIR *dir = opendir(MVPN_CONFIG_RUN_DIR);
    for (const struct dirent *e = dir != NULL ? readdir(dir) : NULL; e != NULL; e = readdir(dir)) {
        size_t len = strlen(e->d_name);
        if (len > 5 && strcmp(e->d_name + len - 5, ".sock") == 0) {
            (void)snprintf(control, sizeof(control), "%s/%s", MVPN_CONFIG_RUN_DIR, e->d_name);
            take(f, control);
        }
    }
    if (dir != NULL) {
        (void)closedir(dir);
    }
}

static double seconds_now(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static json_t *describe_all(found *f)
{
    static const struct timespec pause = {.tv_nsec = RATE_INTERVAL_MS * 1000000};
    json_t *list = json_array();
    double began = seconds_now();
    (void)nanosleep(&pause, NULL);
    for (size_t i = 0; i < f->count; i++) {
        json_t *later = ask(f->at[i].control, f);
        (void)json_array_append_new(
            list, relay_describe(f->at[i].control, f->at[i].status, later, seconds_now() - began));
        json_decref(later);
    }
    return list;
}

static int say_none(const char *control, const found *f)
{
    if (f->was_denied) {
        (void)fputs(
            "meshvpn: you may not ask what runs here. Use sudo, or join the group meshvpn\n",
            stderr);
        return EXIT_FAILURE;
    }
    (void)fprintf(stderr,
                  "meshvpn: no relay runs here%s%s. sudo meshvpn relay enable makes this computer "
                  "one\n",
                  control != NULL ? ", at " : "", control != NULL ? control : "");
    return ASK_NO_DAEMON;
}

int relay_status_command(const options_given *given)
{
    static found f; /* 64 KB */
    const char *control = options_text(given, "--control");
    const json_t *relay;
    size_t i;
    if (control != NULL) {
        take(&f, control);
    } else {
        take_all(&f);
    }
    if (f.count == 0) {
        return say_none(control, &f);
    }
    json_t *list = describe_all(&f);
    if (options_has(given, "--json")) {
        json_t *object = json_pack("{s:s, s:O}", "schema", "meshvpn.relay/1", "relays", list);
        (void)json_dumpf(object, stdout, JSON_COMPACT);
        (void)putchar('\n');
        json_decref(object);
    } else {
        json_array_foreach(list, i, relay)
        {
            (void)printf("%s", i > 0 ? "\n" : "");
            relay_print(stdout, relay);
        }
    }
    json_decref(list);
    for (i = 0; i < f.count; i++) {
        json_decref(f.at[i].status);
    }
    return EXIT_SUCCESS;
}
