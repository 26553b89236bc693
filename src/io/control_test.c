/*
 * The control socket: requests cut and joined at any byte, limits, a dead daemon's socket. Also the
 * log sink and sd_notify, which are as small.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <pthread.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/error.h"
#include "io/control.h"
#include "io/logger.h"
#include "io/notify.h"

static char dir[64];
static char path[128];
static mvpn_loop *loop;
static mvpn_control *control;
static unsigned asked;
static uid_t asker = 12345;
static pid_t asker_pid;

static int handle(void *ctx, const json_t *request, uid_t uid, json_t *reply)
{
    (void)ctx;
    asked++;
    asker = uid;
    struct ucred cred = {0};
    socklen_t len = sizeof(cred);
    (void)getsockopt(mvpn_control_asker(control), SOL_SOCKET, SO_PEERCRED, &cred, &len);
    asker_pid = cred.pid;
    const char *cmd = json_string_value(json_object_get(request, "cmd"));
    if (strcmp(cmd, "status") == 0) {
        return json_object_set_new(reply, "state", json_string("connected")) == 0 ? 0
                                                                                  : MVPN_E_NOMEM;
    }
    if (strcmp(cmd, "big") == 0) { /* more than a socket buffer holds, fewer than the limit */
        for (int i = 0; i < 40000; i++) {
            char key[16];
            (void)snprintf(key, sizeof(key), "k%d", i);
            assert_int_equal(json_object_set_new(reply, key, json_string("0123456789")), 0);
        }
        return 0;
    }
    if (strcmp(cmd, "huge") == 0) {
        char *text = malloc(MVPN_CONTROL_REPLY);
        assert_non_null(text);
        memset(text, 'x', MVPN_CONTROL_REPLY);
        int rc = json_object_set_new(reply, "x", json_stringn(text, MVPN_CONTROL_REPLY));
        free(text);
        return rc == 0 ? 0 : MVPN_E_NOMEM;
    }
    if (strcmp(cmd, "stop") == 0) {
        mvpn_loop_stop(loop);
        return 0;
    }
    if (strcmp(cmd, "deny") == 0) {
        return json_object_set_new(reply, "error", json_string("only root may")) == 0
                   ? MVPN_E_POLICY
                   : MVPN_E_NOMEM;
    }
    return MVPN_E_UNKNOWN;
}

static void *serve(void *arg)
{
    (void)arg;
    return mvpn_loop_run(loop) == 0 ? NULL : loop;
}

static int setup(void **state)
{
    (void)state;
    mvpn_fault fault;
    (void)snprintf(dir, sizeof(dir), "/tmp/mvpn-control-test.XXXXXX");
    if (mkdtemp(dir) == NULL) {
        return -1;
    }
    (void)snprintf(path, sizeof(path), "%s/control.sock", dir);
    asked = 0;
    return mvpn_loop_new(&loop) != 0 ||
           mvpn_control_open(&control, loop, path, handle, NULL, &fault) != 0;
}

static int teardown(void **state)
{
    (void)state;
    mvpn_control_close(control);
    mvpn_loop_free(loop);
    return rmdir(dir); /* the socket is gone */
}

static int ask(const char *cmd, json_t **ret)
{
    mvpn_fault fault;
    json_t *request = json_pack("{s:s}", "cmd", cmd);
    int rc = mvpn_control_ask(path, request, 5000, ret, &fault);
    json_decref(request);
    return rc;
}

static void stop_thread(pthread_t thread)
{
    json_t *reply = NULL;
    void *result = NULL;
    assert_int_equal(ask("stop", &reply), 0);
    json_decref(reply);
    assert_int_equal(pthread_join(thread, &result), 0);
    assert_null(result);
}

static void check_error(const char *cmd, const char *text)
{
    json_t *reply = NULL;
    assert_int_equal(ask(cmd, &reply), 0);
    assert_string_equal(json_string_value(json_object_get(reply, "error")), text);
    json_decref(reply);
}

static void test_ask(void **state)
{
    (void)state;
    pthread_t thread;
    json_t *reply = NULL;
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0660);
    assert_int_equal(pthread_create(&thread, NULL, serve, NULL), 0);
    assert_int_equal(ask("status", &reply), 0);
    assert_string_equal(json_string_value(json_object_get(reply, "state")), "connected");
    json_decref(reply);
    assert_int_equal(asker, geteuid());
    assert_int_equal(asker_pid, getpid());
    assert_int_equal(ask("big", &reply), 0);
    assert_int_equal(json_object_size(reply), 40000);
    json_decref(reply);
    check_error("huge", "the reply is too big");
    check_error("nonsense", "unknown command");
    check_error("deny", "only root may");
    stop_thread(thread);
}

static int connect_raw(void)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    (void)snprintf(name.sun_path, sizeof(name.sun_path), "%.100s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&name, sizeof(name)), 0);
    struct timeval limit = {5, 0};
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)), 0);
    return fd;
}

static void expect(int fd, const char *text)
{
    char buf[512] = {0};
    size_t used = 0, len = strlen(text);
    while (used < len) {
        ssize_t n = recv(fd, buf + used, len - used, 0);
        assert_true(n > 0);
        used += (size_t)n;
    }
    assert_string_equal(buf, text);
}

static void test_lines(void **state)
{
    (void)state;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, serve, NULL), 0);
    int fd = connect_raw();
    const char *line = "{\"cmd\":\"status\"}\n";
    for (size_t i = 0; line[i] != '\0'; i++) { /* byte by byte */
        assert_int_equal(send(fd, line + i, 1, 0), 1);
    }
    expect(fd, "{\"state\":\"connected\"}\n");
    /* Several at once, some of them wrong in various ways. */
    const char *many =
        "{\"cmd\":\"status\"}\n[1]\n{\"cmd\":1}\n{\"cmd\":\"status\",\"cmd\":\"stop\"}\n"
        "{\"cmd\":\"status\"} x\n\n{\"cmd\":\"status\"}\n";
    assert_int_equal(send(fd, many, strlen(many), 0), (ssize_t)strlen(many));
    expect(fd, "{\"state\":\"connected\"}\n"
               "{\"error\":\"a request is an object with a string \\\"cmd\\\"\"}\n"
               "{\"error\":\"a request is an object with a string \\\"cmd\\\"\"}\n"
               "{\"error\":\"the request is not JSON\"}\n"
               "{\"error\":\"the request is not JSON\"}\n"
               "{\"error\":\"the request is not JSON\"}\n"
               "{\"state\":\"connected\"}\n");
    /* A line without end is hung up on at the limit. */
    static char long_line[MVPN_CONTROL_REQUEST];
    char c;
    memset(long_line, 'a', sizeof(long_line));
    assert_int_equal(send(fd, long_line, sizeof(long_line), 0), sizeof(long_line));
    assert_int_equal(recv(fd, &c, 1, 0), 0);
    (void)close(fd);
    stop_thread(thread);
}

static void test_client_limit(void **state)
{
    (void)state;
    pthread_t thread;
    int fds[MVPN_CONTROL_CLIENTS];
    char c;
    assert_int_equal(pthread_create(&thread, NULL, serve, NULL), 0);
    for (unsigned i = 0; i < MVPN_CONTROL_CLIENTS; i++) {
        fds[i] = connect_raw();
        assert_true(send(fds[i], "{\"cmd\":\"status\"}\n", 17, 0) == 17);
        expect(fds[i], "{\"state\":\"connected\"}\n");
    }
    int extra = connect_raw();
    assert_int_equal(recv(extra, &c, 1, 0), 0); /* turned away */
    (void)close(extra);
    /* Half a request holds a place for a while, and no longer. */
    assert_int_equal(send(fds[0], "{\"cmd\":", 7, 0), 7);
    (void)usleep(MVPN_CONTROL_QUIET + 20000);
    extra = connect_raw();
    assert_true(send(extra, "{\"cmd\":\"status\"}\n", 17, 0) == 17);
    expect(extra, "{\"state\":\"connected\"}\n");
    (void)close(extra);
    (void)close(fds[0]);
    for (unsigned tries = 0;; tries++) { /* its slot is free once the daemon saw the end */
        json_t *reply = NULL;
        assert_true(tries < 1000);
        if (ask("status", &reply) == 0) {
            json_decref(reply);
            break;
        }
    }
    for (unsigned i = 1; i < MVPN_CONTROL_CLIENTS; i++) {
        (void)close(fds[i]);
    }
    for (unsigned tries = 0; asked < 2 + MVPN_CONTROL_CLIENTS && tries < 1000; tries++) {
        (void)usleep(1000);
    }
    stop_thread(thread);
}

static void test_places(void **state)
{
    (void)state;
    mvpn_control *second = NULL;
    mvpn_fault fault;
    char other[160];
    json_t *reply = NULL;
    /* One that answers is left alone. */
    assert_int_equal(mvpn_control_open(&second, loop, path, handle, NULL, &fault), MVPN_E_CONFIG);
    assert_non_null(strstr(fault.text, "another daemon"));
    assert_int_equal(access(path, F_OK), 0);
    /* One that a dead daemon left is replaced. */
    (void)snprintf(other, sizeof(other), "%s/dead.sock", dir);
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    (void)snprintf(name.sun_path, sizeof(name.sun_path), "%.100s", other);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)&name, sizeof(name)), 0);
    (void)close(fd);
    json_t *request = json_pack("{s:s}", "cmd", "status");
    assert_int_equal(mvpn_control_ask(other, request, 100, &reply, &fault), MVPN_E_CLOSED);
    assert_int_equal(mvpn_control_open(&second, loop, other, handle, NULL, &fault), 0);
    /* Nobody runs the loop: connected, but no answer. */
    assert_int_equal(mvpn_control_ask(other, request, 20, &reply, &fault), MVPN_E_TIMEOUT);
    mvpn_control_close(second);
    assert_int_equal(mvpn_control_ask(other, request, 20, &reply, &fault), MVPN_E_CLOSED);
    json_decref(request);
    /* Something else of that name is not removed. */
    second = NULL;
    FILE *file = fopen(other, "w");
    assert_non_null(file);
    (void)fclose(file);
    assert_int_equal(mvpn_control_open(&second, loop, other, handle, NULL, &fault), MVPN_E_CONFIG);
    assert_null(second);
    assert_int_equal(unlink(other), 0);
}

static void test_notify(void **state)
{
    (void)state;
    mvpn_notify notify;
    char buf[64] = {0}, other[160];
    assert_int_equal(unsetenv("NOTIFY_SOCKET"), 0);
    mvpn_notify_init(&notify);
    mvpn_notify_send(&notify, "READY=1"); /* nobody there */
    mvpn_notify_done(&notify);
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    (void)snprintf(other, sizeof(other), "%s/notify", dir);
    (void)snprintf(name.sun_path, sizeof(name.sun_path), "%.100s", other);
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)&name, sizeof(name)), 0);
    assert_int_equal(setenv("NOTIFY_SOCKET", other, 1), 0);
    mvpn_notify_init(&notify);
    mvpn_notify_send(&notify, "READY=1\nSTATUS=up");
    assert_int_equal(recv(fd, buf, sizeof(buf), MSG_DONTWAIT), 17);
    assert_string_equal(buf, "READY=1\nSTATUS=up");
    mvpn_notify_done(&notify);
    (void)close(fd);
    assert_int_equal(unlink(other), 0);
    assert_int_equal(setenv("WATCHDOG_USEC", "30000000", 1), 0);
    assert_int_equal(unsetenv("WATCHDOG_PID"), 0);
    assert_int_equal(mvpn_notify_watchdog_ms(), 15000);
    assert_int_equal(setenv("WATCHDOG_PID", "1", 1), 0);
    assert_int_equal(mvpn_notify_watchdog_ms(), 0);
}

/* What `log` writes to stderr. */
static void check_logged(const mvpn_log *log, enum mvpn_log_level level, const char *text,
                         const char *want)
{
    int fds[2];
    char buf[256] = {0};
    assert_int_equal(pipe(fds), 0);
    int old = dup(STDERR_FILENO);
    assert_true(dup2(fds[1], STDERR_FILENO) >= 0);
    mvpn_logf(log, level, "%s", text);
    assert_true(dup2(old, STDERR_FILENO) >= 0);
    (void)close(old);
    (void)close(fds[1]);
    assert_true(read(fds[0], buf, sizeof(buf) - 1) >= 0);
    (void)close(fds[0]);
    assert_string_equal(buf, want);
}

static void test_logger(void **state)
{
    (void)state;
    mvpn_log log;
    enum mvpn_log_level level = MVPN_LOG_ERROR;
    assert_int_equal(mvpn_logger_parse_level("info", &level), 0);
    assert_int_equal(level, MVPN_LOG_INFO);
    assert_int_equal(mvpn_logger_parse_level("loud", &level), MVPN_E_FORMAT);
    assert_int_equal(unsetenv("JOURNAL_STREAM"), 0);
    mvpn_logger_init(&log, level);
    check_logged(&log, MVPN_LOG_INFO, "listening", "listening\n");
    check_logged(&log, MVPN_LOG_WARN, "a\nb\033[31m", "warning: a?b?[31m\n");
    check_logged(&log, MVPN_LOG_DEBUG, "quiet", "");
    assert_int_equal(setenv("JOURNAL_STREAM", "8:1", 1), 0);
    mvpn_logger_init(&log, level);
    check_logged(&log, MVPN_LOG_INFO, "listening", "<6>listening\n");
    check_logged(&log, MVPN_LOG_ERROR, "gone", "<3>gone\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_ask, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lines, setup, teardown),
        cmocka_unit_test_setup_teardown(test_client_limit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_places, setup, teardown),
        cmocka_unit_test_setup_teardown(test_notify, setup, teardown),
        cmocka_unit_test_setup_teardown(test_logger, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
