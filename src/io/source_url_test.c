/* Bundles by HTTP and HTTPS, from a server on loopback that does what servers do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "io/clock.h"
#include "io/source_url.h"

#define SIZE_MAX_HERE 50000
#define DATE 1795348800u /* of the server */

struct server {
    pid_t pid;
    int in; /* its stdin: it ends with it */
    unsigned port;
};

static char dir[64];
static struct server http, https;

struct world {
    mvpn_loop *loop;
    mvpn_resolver *resolver;
    mvpn_fetcher *fetcher;
    unsigned calls;
    int err;
    char why[1024];
    uint8_t *content;
    size_t size;
    uint64_t date;
};

static void serve(struct server *s, char *certificate, char *key)
{
    int to[2], from[2];
    char *script = getenv("MVPN_HTTP_SERVER");
    char *argv[] = {"python3", script, certificate, key, NULL};
    assert_non_null(script);
    assert_int_equal(pipe2(to, O_CLOEXEC), 0);
    assert_int_equal(pipe2(from, O_CLOEXEC), 0);
    s->pid = fork();
    assert_true(s->pid >= 0);
    if (s->pid == 0) {
        (void)dup2(to[0], 0);
        (void)dup2(from[1], 1);
        (void)execvp(argv[0], argv);
        _exit(127);
    }
    (void)close(to[0]);
    (void)close(from[1]);
    s->in = to[1];
    FILE *out = fdopen(from[0], "r");
    assert_non_null(out);
    assert_int_equal(fscanf(out, "%u", &s->port), 1);
    (void)fclose(out);
}

static void end(struct server *s)
{
    if (s->pid > 0) {
        (void)close(s->in);
        (void)waitpid(s->pid, NULL, 0);
    }
}

static char *path_of(const char *name)
{
    static char path[2][96];
    static unsigned which;
    which ^= 1;
    (void)snprintf(path[which], sizeof(path[which]), "%s/%s", dir, name);
    return path[which];
}

static int group_setup(void **state)
{
    char command[512];
    (void)state;
    (void)snprintf(dir, sizeof(dir), "/tmp/mvpn-url-test.XXXXXX");
    if (mkdtemp(dir) == NULL) {
        return -1;
    }
    (void)snprintf(command, sizeof(command),
                   "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes "
                   "-keyout %s/key -out %s/cert -days 2 -subj /CN=localhost -addext "
                   "subjectAltName=DNS:localhost 2>/dev/null",
                   dir, dir);
    if (system(command) != 0) {
        return -1;
    }
    serve(&http, NULL, NULL);
    serve(&https, path_of("cert"), path_of("key"));
    return 0;
}

static int group_teardown(void **state)
{
    (void)state;
    end(&http);
    end(&https);
    (void)unlink(path_of("key"));
    (void)unlink(path_of("cert"));
    return rmdir(dir);
}

static int setup_with(void **state, const char *ca_file, unsigned timeout_ms)
{
    static struct world w;
    memset(&w, 0, sizeof(w));
    *state = &w;
    if (mvpn_loop_new(&w.loop) != 0) {
        return -1;
    }
    mvpn_resolver_options r = {.loop = w.loop, .timeout_ms = 200, .tries = 1};
    if (mvpn_resolver_new(&r, &w.resolver, NULL) != 0) {
        return -1;
    }
    mvpn_fetcher_options o = {.loop = w.loop,
                              .resolver = w.resolver,
                              .ca_file = ca_file,
                              .size_max = SIZE_MAX_HERE,
                              .timeout_ms = timeout_ms};
    return mvpn_fetcher_new(&o, &w.fetcher);
}

static int setup(void **state)
{
    return setup_with(state, path_of("cert"), 0);
}

static int setup_strangers(void **state)
{
    return setup_with(state, NULL, 0);
}

static int setup_hasty(void **state)
{
    return setup_with(state, NULL, 300);
}

static int teardown(void **state)
{
    struct world *w = *state;
    free(w->content);
    mvpn_fetcher_free(w->fetcher);
    mvpn_resolver_free(w->resolver);
    mvpn_loop_free(w->loop);
    return 0;
}

static void fetched(void *ctx, const mvpn_fetched *f)
{
    struct world *w = ctx;
    free(w->content);
    w->calls++;
    w->err = f->err;
    w->content = f->content;
    w->size = f->size;
    w->date = f->date;
    (void)snprintf(w->why, sizeof(w->why), "%s", f->why);
    mvpn_loop_stop(w->loop);
}

static int get(struct world *w, const char *scheme, const char *host, unsigned port,
               const char *kind)
{
    char url[256];
    (void)snprintf(url, sizeof(url), "%s://%s:%u/%s", scheme, host, port, kind);
    w->calls = 0;
    assert_int_equal(mvpn_fetcher_get(w->fetcher, url, fetched, w), 0);
    while (w->calls == 0) { /* a stop of before may end it at once */
        assert_int_equal(mvpn_loop_run(w->loop), 0);
    }
    assert_int_equal(w->calls, 1);
    assert_true(w->err == 0 || w->content == NULL);
    assert_true(w->err == 0 || w->why[0] != '\0');
    return w->err;
}

static void test_good(void **state)
{
    struct world *w = *state;
    struct sigaction pipe;
    assert_int_equal(sigaction(SIGPIPE, NULL, &pipe), 0);
    assert_true(pipe.sa_handler == SIG_IGN); /* a server that hangs up must not end us */
    const char *const hosts[] = {"127.0.0.1", "localhost"};
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(get(w, "http", hosts[i], http.port, "good"), 0);
        assert_int_equal(w->size, 63);
        assert_int_equal(w->content[0], 5);
        assert_int_equal(w->date, DATE);
    }
}

static void test_https_is_verified(void **state)
{
    struct world *w = *state; /* knows the server's authority */
    assert_int_equal(get(w, "https", "localhost", https.port, "good"), 0);
    assert_int_equal(w->size, 63);
    assert_int_equal(get(w, "https", "127.0.0.1", https.port, "good"),
                     MVPN_E_AUTH); /* other name */
    assert_non_null(strstr(w->why, "clock"));
}

static void test_https_of_strangers(void **state)
{
    struct world *w = *state; /* the system's authorities */
    assert_int_equal(get(w, "https", "localhost", https.port, "good"), MVPN_E_AUTH);
}

static void test_too_big(void **state)
{
    struct world *w = *state;
    const char *const kinds[] = {"large", "announced", "endless"};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(get(w, "http", "127.0.0.1", http.port, kinds[i]), MVPN_E_TOO_BIG);
        assert_non_null(strstr(w->why, "50000"));
    }
}

static void test_too_slow(void **state)
{
    struct world *w = *state;
    const char *const kinds[] = {"slow", "trickle"};
    for (size_t i = 0; i < 2; i++) {
        mvpn_time before = mvpn_clock_now();
        assert_int_equal(get(w, "http", "127.0.0.1", http.port, kinds[i]), MVPN_E_TIMEOUT);
        assert_true(mvpn_clock_now() - before < MVPN_S(2));
    }
}

static void test_refused(void **state)
{
    struct world *w = *state;
    assert_int_equal(get(w, "http", "127.0.0.1", http.port, "nothing"), MVPN_E_REFUSED);
    assert_non_null(strstr(w->why, "404"));
    assert_int_equal(w->date, DATE); /* known all the same */
    assert_int_equal(get(w, "http", "127.0.0.1", http.port, "redirect"), MVPN_E_REFUSED);
    assert_non_null(strstr(w->why, "redirect"));
    assert_int_equal(get(w, "http", "127.0.0.1", http.port, "elsewhere"), MVPN_E_REFUSED);
    assert_int_equal(get(w, "http", "127.0.0.1", http.port, "cut"), MVPN_E_SYSTEM);
    assert_int_equal(get(w, "http", "127.0.0.1", 1, "good"), MVPN_E_SYSTEM);
    assert_int_equal(get(w, "ftp", "127.0.0.1", 1, "good"), MVPN_E_FORMAT);
    assert_int_equal(get(w, "file", "", 1, "good"), MVPN_E_FORMAT);
    assert_int_equal(get(w, "http", "user:secret@127.0.0.1", http.port, "good"), MVPN_E_FORMAT);
    assert_true(get(w, "http", "no-such-host.invalid", http.port, "good") != 0);
    assert_int_equal(get(w, "http", "127.0.0.1", http.port, "good"), 0);
}

/* The environment's proxies are not used, and nothing is said that need not be. */
static void test_says_little(void **state)
{
    struct world *w = *state;
    (void)setenv("http_proxy", "http://127.0.0.1:1", 1);
    (void)setenv("ALL_PROXY", "http://127.0.0.1:1", 1);
    int err = get(w, "http", "127.0.0.1", http.port, "asked");
    (void)unsetenv("http_proxy");
    (void)unsetenv("ALL_PROXY");
    assert_int_equal(err, 0);
    char text[256], expected[64];
    assert_true(w->size < sizeof(text));
    memcpy(text, w->content, w->size);
    text[w->size] = '\0';
    (void)snprintf(expected, sizeof(expected), "Host: 127.0.0.1:%u\nAccept: */*\n", http.port);
    assert_string_equal(text, expected);
}

static void nobody(void *ctx, const mvpn_fetched *f)
{
    (void)ctx;
    (void)f;
    fail(); /* dropped without a word */
}

static void test_free_while_fetching(void **state)
{
    struct world *w = *state;
    char url[64];
    (void)snprintf(url, sizeof(url), "http://127.0.0.1:%u/slow", http.port);
    for (unsigned i = 0; i < MVPN_FETCHES_MAX - 1; i++) {
        assert_int_equal(mvpn_fetcher_get(w->fetcher, url, nobody, NULL), 0);
    }
    /* This one waits for the resolver, which outlives the fetcher. */
    assert_int_equal(mvpn_fetcher_get(w->fetcher, "http://no-such-host.invalid/slow", nobody, NULL),
                     0);
    assert_int_equal(mvpn_fetcher_get(w->fetcher, url, nobody, NULL), MVPN_E_LIMIT);
    mvpn_fetcher_free(w->fetcher);
    w->fetcher = NULL;
}

static void stop(void *loop)
{
    mvpn_loop_stop(loop);
}

static void test_mark(void **state)
{
    struct world *w = *state;
    if (geteuid() != 0) {
        skip();
    }
    mvpn_fetcher *marked;
    mvpn_fetcher_options o = {
        .loop = w->loop, .resolver = w->resolver, .marker = &(mvpn_marker){.mark = 0x4d56}};
    assert_int_equal(mvpn_fetcher_new(&o, &marked), 0);
    char url[64];
    (void)snprintf(url, sizeof(url), "http://127.0.0.1:%u/slow", http.port);
    assert_int_equal(mvpn_fetcher_get(marked, url, nobody, NULL), 0);
    bool found = false;
    mvpn_loop_timer *timer;
    assert_int_equal(mvpn_loop_timer_new(w->loop, stop, w->loop, &timer), 0);
    mvpn_loop_timer_set(timer, 50);
    assert_int_equal(mvpn_loop_run(w->loop), 0);
    for (int fd = 3; fd < 100; fd++) {
        int mark = 0;
        socklen_t len = sizeof(mark);
        found = found || (getsockopt(fd, SOL_SOCKET, SO_MARK, &mark, &len) == 0 && mark == 0x4d56);
    }
    assert_true(found);
    mvpn_loop_timer_free(timer);
    mvpn_fetcher_free(marked);
}

int main(void)
{
    (void)signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest all[] = {
        cmocka_unit_test_setup_teardown(test_good, setup, teardown),
        cmocka_unit_test_setup_teardown(test_https_is_verified, setup, teardown),
        cmocka_unit_test_setup_teardown(test_https_of_strangers, setup_strangers, teardown),
        cmocka_unit_test_setup_teardown(test_too_big, setup, teardown),
        cmocka_unit_test_setup_teardown(test_too_slow, setup_hasty, teardown),
        cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_says_little, setup, teardown),
        cmocka_unit_test_setup_teardown(test_free_while_fetching, setup, teardown),
        cmocka_unit_test_setup_teardown(test_mark, setup, teardown),
    };
    return cmocka_run_group_tests(all, group_setup, group_teardown);
}
