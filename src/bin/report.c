#include "bin/report.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>

#include "bin/config_command.h"
#include "bin/redact.h"
#include "io/file.h"
#include "io/keyfile.h"
#include "io/network_file.h"

/* Of one command: netcheck takes 5 s at most. */
#define COMMAND_MS 10000
#define OUTPUT_MAX (1u << 20)
#define ARGUMENTS_MAX 8
/* Of people, by useradd(8). */
#define PERSON_UID_MIN 1000

typedef struct report {
    redactor *redactor;
    char *text;
    size_t len;
    FILE *out; /* an open_memstream of the two */
    char config_file[PATH_MAX];
    enum mvpn_config_kind kind;
    mvpn_config config; /* what holds without a file, if that cannot be read */
} report;

/* ---- running our own commands ---- */

static int64_t now_ms(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static size_t drain(int fd, char *out)
{
    int64_t until = now_ms() + COMMAND_MS;
    size_t n = 0;
    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int64_t left = until - now_ms();
        if (left <= 0 || n == OUTPUT_MAX || poll(&p, 1, (int)left) <= 0) {
            return n;
        }
        ssize_t got = read(fd, out + n, OUTPUT_MAX - n);
        if (got <= 0) {
            return n;
        }
        n += (size_t)got;
    }
}

/* What `meshvpn ARGUMENTS` prints, and says: a string for free(), or NULL. */
static char *run(const char *const *arguments)
{
    char *argv[ARGUMENTS_MAX + 2];
    size_t count = 0;
    int pipes[2];
    static char name[] = "meshvpn";
    argv[count++] = name;
    for (; arguments[count - 1] != NULL && count <= ARGUMENTS_MAX; count++) {
        argv[count] = (char *)(uintptr_t)arguments[count - 1]; /* execv(3) does not change them */
    }
    argv[count] = NULL;
    char *out = malloc(OUTPUT_MAX + 1);
    if (out == NULL || pipe2(pipes, O_CLOEXEC) != 0) {
        free(out);
        return NULL;
    }
    pid_t child = fork();
    if (child == 0) {
        (void)dup2(pipes[1], STDOUT_FILENO);
        (void)dup2(pipes[1], STDERR_FILENO);
        (void)execv("/proc/self/exe", argv);
        _exit(127);
    }
    (void)close(pipes[1]);
    size_t n = child > 0 ? drain(pipes[0], out) : 0;
    (void)close(pipes[0]);
    if (child > 0) {
        (void)kill(child, SIGKILL); /* it has ended, or has had its time */
        (void)waitpid(child, NULL, 0);
    }
    out[n] = '\0';
    return out;
}

/* ---- what must not be in it ---- */

static void add_people(redactor *r)
{
    static const char *const names[] = {"USER", "LOGNAME", "SUDO_USER"};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(names); i++) {
        redact_add(r, REDACT_NAME, getenv(names[i]));
    }
    setpwent();
    for (const struct passwd *p = getpwent(); p != NULL; p = getpwent()) {
        if (p->pw_uid >= PERSON_UID_MIN && p->pw_uid < 60000) {
            redact_add(r, REDACT_NAME, p->pw_name);
        }
    }
    endpwent();
}

static void add_host(redactor *r)
{
    struct utsname host;
    if (uname(&host) != 0) {
        return;
    }
    redact_add(r, REDACT_NAME, host.nodename);
    host.nodename[strcspn(host.nodename, ".")] = '\0';
    redact_add(r, REDACT_NAME, host.nodename);
    redact_add(r, REDACT_NAME, strcmp(host.domainname, "(none)") == 0 ? NULL : host.domainname);
}

static void add_identity(redactor *r, const mvpn_ed25519_pub *identity)
{
    char text[MVPN_BASE64_LEN(32)];
    (void)mvpn_base64_encode(text, sizeof(text), mvpn_bytes_of(identity->b, sizeof(identity->b)));
    redact_add(r, REDACT_KEY, text);
    text[8] = '\0'; /* as lists and logs show it */
    redact_add(r, REDACT_KEY, text);
}

static void add_network(redactor *r, const char *path)
{
    mvpn_network_file *f = malloc(sizeof(*f));
    if (f == NULL || mvpn_network_file_load(path, 0, f, NULL) != 0) {
        free(f);
        return;
    }
    redact_add(r, REDACT_NAME, f->name);
    redact_add(r, REDACT_NAME, f->dns);
    add_identity(r, &f->network_pub);
    for (size_t i = 0; i < f->relay_count; i++) {
        char country[3] = {f->relays[i].country[0], f->relays[i].country[1], '\0'};
        redact_add(r, REDACT_NAME, f->relays[i].name);
        redact_add(r, REDACT_NAME, f->relays[i].provider);
        redact_add(r, REDACT_COUNTRY, country);
        add_identity(r, &f->relays[i].identity);
    }
    mvpn_network_file_done(f);
    free(f);
}

static void add_config(redactor *r, const mvpn_config *c)
{
    redact_add(r, REDACT_NAME, c->relay.name);
    redact_add(r, REDACT_NAME, c->relay.provider);
    redact_add(r, REDACT_COUNTRY, c->relay.country);
    for (unsigned i = 0; i < c->client.path_count; i++) {
        redact_add(r, REDACT_NAME, c->client.path[i]);
    }
    add_network(r, c->network_file);
}

/* Relays that the daemon has met: they stand in its log. */
static void add_met(report *r)
{
    const char *socket = r->config.control_socket;
    const char *const questions[][6] = {{"exit", "list", "--json", "--control", socket, NULL},
                                        {"circuit", "list", "--json", "--control", socket, NULL},
                                        {"status", "--json", "--control", socket, NULL}};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(questions); i++) {
        char *answer = run(questions[i]);
        json_t *object = answer != NULL ? json_loads(answer, JSON_DISABLE_EOF_CHECK, NULL) : NULL;
        redact_add_json(r->redactor, object);
        json_decref(object);
        free(answer);
    }
}

/* ---- the parts ---- */

static void add_part(report *r, const char *title, const char *text)
{
    char *clean = redact_text(r->redactor, text); /* also what has been cleaned already */
    size_t len = clean != NULL ? strlen(clean) : 0;
    (void)fprintf(r->out, "== %s ==\n%s%s\n", title, clean != NULL ? clean : "(no memory)",
                  len > 0 && clean[len - 1] == '\n' ? "" : "\n");
    free(clean);
}

static void add_versions(report *r)
{
    struct utsname host;
    char text[512];
    if (uname(&host) == 0) {
        (void)snprintf(text, sizeof(text), "meshvpn " MVPN_VERSION "\n%s %s %s\n", host.sysname,
                       host.release, host.machine);
        add_part(r, "version", text);
    }
}

/* What a command of ours prints as JSON, cleaned as `clean` does; else what it says. */
static void add_json(report *r, const char *title, const char *const *arguments,
                     json_t *(*clean)(redactor *, const json_t *))
{
    char *answer = run(arguments), *text = NULL;
    json_t *object = answer != NULL ? json_loads(answer, JSON_DISABLE_EOF_CHECK, NULL) : NULL;
    if (object != NULL) {
        json_t *copy = clean(r->redactor, object);
        text = json_dumps(copy, JSON_INDENT(1));
        json_decref(copy);
    }
    add_part(r, title, text != NULL ? text : answer != NULL ? answer : "(it did not run)");
    free(text);
    free(answer);
    json_decref(object);
}

static void add_log(report *r, const char *kind)
{
    const char *const arguments[] = {"log", kind, r->config_file, "--lines", "200", NULL};
    char *text = run(arguments);
    add_part(r, "log", text != NULL ? text : "(it did not run)");
    free(text);
}

static void collect(report *r)
{
    const char *kind = mvpn_config_kind_name(r->kind), *file = r->config_file;
    const char *const doctor[] = {"doctor", kind, file, "--json", NULL};
    const char *const netcheck[] = {"netcheck", "--json", "--config", file, NULL};
    const char *const show[] = {"config", "show", kind, file, "--effective", "--json", NULL};
    const char *const status[] = {"status", "--json", "--control", r->config.control_socket, NULL};
    add_host(r->redactor);
    add_people(r->redactor);
    add_config(r->redactor, &r->config);
    add_met(r);
    add_versions(r);
    add_json(r, "doctor", doctor, redact_json);
    add_json(r, "netcheck", netcheck, redact_json);
    add_json(r, "configuration", show, redact_config);
    add_json(r, "status", status, redact_json);
    add_log(r, kind);
}

/* ---- the command ---- */

static bool wants_file(const options_given *given, const char *file)
{
    char answer[8] = "";
    if (options_has(given, "--yes")) {
        return true;
    }
    if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO)) {
        (void)fprintf(stderr,
                      "meshvpn: nothing was written: that takes --yes, or a terminal to ask "
                      "you on\n");
        return false;
    }
    (void)fprintf(stderr, "Write this to %s? [y/N] ", file);
    return fgets(answer, sizeof(answer), stdin) != NULL && (answer[0] == 'y' || answer[0] == 'Y');
}

static int write_report(const options_given *given, const report *r)
{
    char name[64];
    time_t now = time(NULL);
    struct tm tm;
    mvpn_fault fault;
    (void)strftime(name, sizeof(name), "meshvpn-report-%Y%m%d-%H%M%S.txt", gmtime_r(&now, &tm));
    const char *file =
        options_text(given, "--output") != NULL ? options_text(given, "--output") : name;
    if (!wants_file(given, file)) {
        return EXIT_SUCCESS;
    }
    if (mvpn_file_write(file, r->text, r->len, 0600, &fault) != 0) {
        (void)fprintf(stderr, "meshvpn: %s\n", fault.text);
        return EXIT_FAILURE;
    }
    (void)fprintf(stderr, "Written to %s. Read it once more before you give it away.\n", file);
    return EXIT_SUCCESS;
}

int report_command(const options_given *given)
{
    static report r; /* 60 KB */
    int status = EXIT_FAILURE;
    r.kind = given->operands[0] != NULL ? config_kind_and_file(given, r.config_file)
                                        : config_find(r.config_file);
    if (mvpn_config_load(r.config_file, r.kind, &r.config, NULL) != 0) {
        mvpn_config_init(&r.config, r.kind);
    }
    r.redactor = redact_new();
    r.out = r.redactor != NULL ? open_memstream(&r.text, &r.len) : NULL;
    if (r.out != NULL) {
        collect(&r);
        (void)fclose(r.out);
        (void)fputs(r.text, stdout);
        (void)fflush(stdout);
        status = write_report(given, &r);
    } else {
        (void)fputs("meshvpn: out of memory\n", stderr);
    }
    free(r.text);
    redact_free(r.redactor);
    return status;
}
