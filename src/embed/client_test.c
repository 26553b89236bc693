/*
 * Clients in a program that knows the public header only (and makes itself an invitation): options
 * that are wrong, ends in every way, many rounds without anything left, several at once. In a
 * network namespace of its own, where nobody answers; needs root.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <linux/if_tun.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "base/macros.h"
#include "meshvpn/meshvpn.h"
#include "network/ip/inner.h"
#include "wire/invitation.h"

#define ROUNDS 20
#define THREADS 4

typedef struct app {
    meshvpn_client *client;
    pthread_t thread;
    int tun_fd, result;
    unsigned protected_count;
    atomic_uint states;
    bool refuses;
} app;

static char *network;

static int open_tun(void)
{
    struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI};
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(ioctl(fd, TUNSETIFF, &request), 0);
    return fd;
}

/* An open network with one entry, at an address that nobody has. */
static void make_link(char out[static MVPN_INVITATION_MAX + 1], uint64_t expires)
{
    mvpn_invitation inv = {.expires = expires, .network_pub = {{1, 2, 3}}};
    const mvpn_ed25519_pub identity = {{4, 5, 6}};
    assert_int_equal(mvpn_addr_parse("11.9.9.9:443", &inv.entry.addr), 0);
    mvpn_dht_node_id(&inv.entry.id, &identity, &inv.entry.addr);
    mvpn_invitation_format(out, &inv);
}

static uint64_t unix_now(void)
{
    return (uint64_t)time(NULL);
}

static int group_setup(void **state)
{
    char link[MVPN_INVITATION_MAX + 1];
    (void)state;
    if (unshare(CLONE_NEWNET) != 0) {
        print_error("this test needs root: it makes a network namespace\n");
        return -1;
    }
    make_link(link, unix_now() + 3600);
    return meshvpn_join(link, &network, NULL);
}

static int group_teardown(void **state)
{
    (void)state;
    meshvpn_text_free(network);
    return 0;
}

static int protect(void *ctx, int fd)
{
    app *a = ctx;
    assert_true(fd >= 0);
    a->protected_count++;
    return a->refuses ? -1 : 0;
}

static void state_changed(void *ctx, meshvpn_state state, const char *why)
{
    app *a = ctx;
    assert_non_null(why);
    (void)atomic_fetch_or(&a->states, 1u << state);
}

static meshvpn_options options_of(app *a)
{
    meshvpn_options o;
    meshvpn_options_init(&o, sizeof(o));
    o.network = network;
    o.tun_fd = a->tun_fd;
    o.ctx = a;
    o.protect = protect;
    o.state = state_changed;
    return o;
}

static void make(app *a)
{
    *a = (app){.tun_fd = open_tun()};
    meshvpn_options o = options_of(a);
    meshvpn_error error = {0};
    if (meshvpn_client_new(&o, &a->client, &error) != 0) {
        fail_msg("%s", error.text);
    }
}

static void *run(void *ctx)
{
    app *a = ctx;
    a->result = meshvpn_client_run(a->client, NULL);
    return NULL;
}

static void begin(app *a)
{
    make(a);
    assert_int_equal(pthread_create(&a->thread, NULL, run, a), 0);
}

static void join(app *a)
{
    assert_int_equal(pthread_join(a->thread, NULL), 0);
    meshvpn_client_free(a->client);
    (void)close(a->tun_fd);
}

static double seconds(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void wait_for_state(meshvpn_client *client, meshvpn_state state)
{
    meshvpn_status status = {.state = MESHVPN_STATE_STOPPED};
    for (unsigned i = 0; i < 5000; i++) {
        meshvpn_client_status(client, &status, sizeof(status));
        if (status.state == state) {
            return;
        }
        (void)usleep(1000);
    }
    fail_msg("state %d instead of %d", (int)status.state, (int)state);
}

/* ---- what is refused ---- */

static void expect(meshvpn_options *o, int code, const char *word)
{
    meshvpn_client *client = NULL;
    meshvpn_error error = {0};
    assert_int_equal(meshvpn_client_new(o, &client, &error), code);
    assert_null(client);
    assert_int_equal(error.code, code);
    if (strstr(error.text, word) == NULL) {
        fail_msg("'%s' is not in '%s'", word, error.text);
    }
    assert_int_equal(meshvpn_client_new(o, &client, NULL), code);
}

static void test_wrong_options(void **state)
{
    app a = {.tun_fd = open_tun()};
    int pipes[2];
    (void)state;
    assert_int_equal(pipe(pipes), 0);
    meshvpn_options o = options_of(&a);
    o.size = 0;
    expect(&o, MESHVPN_E_INVALID, "meshvpn_options_init");
    o = options_of(&a);
    o.network = NULL;
    expect(&o, MESHVPN_E_INVALID, "network");
    o.network_file = "/nonexistent/network.conf";
    expect(&o, MESHVPN_E_NETWORK, "/nonexistent");
    o = options_of(&a);
    o.network_file = "/nonexistent";
    expect(&o, MESHVPN_E_INVALID, "one of");
    o = options_of(&a);
    o.network = "mode = open\n";
    expect(&o, MESHVPN_E_NETWORK, "network_key");
    o = options_of(&a);
    o.hops = 6;
    expect(&o, MESHVPN_E_INVALID, "hops");
    o = options_of(&a);
    o.exit_countries = "Iceland";
    expect(&o, MESHVPN_E_INVALID, "Iceland");
    o = options_of(&a);
    o.tun_fd = -1;
    expect(&o, MESHVPN_E_TUN, "tun_fd");
    o = options_of(&a);
    a.refuses = true;
    expect(&o, MESHVPN_E_SYSTEM, "tunnel");
    (void)close(pipes[0]);
    (void)close(pipes[1]);
    (void)close(a.tun_fd);
}

/* A program that was built when the structure was shorter. */
static void test_older_program(void **state)
{
    app a = {.tun_fd = open_tun()};
    meshvpn_options o;
    meshvpn_client *client = NULL;
    (void)state;
    memset(&o, 0xff, sizeof(o));
    meshvpn_options_init(&o, offsetof(meshvpn_options, protect));
    o.network = network;
    o.tun_fd = a.tun_fd;
    assert_int_equal(meshvpn_client_new(&o, &client, NULL), 0);
    struct {
        meshvpn_state known;
        unsigned char beyond;
    } shorter = {.beyond = 0xaa};
    meshvpn_client_status(client, (meshvpn_status *)&shorter, sizeof(shorter.known));
    assert_int_equal(shorter.known, MESHVPN_STATE_STOPPED);
    assert_int_equal(shorter.beyond, 0xaa);
    meshvpn_client_free(client);
    (void)close(a.tun_fd);
}

static void test_invitations(void **state)
{
    char link[MVPN_INVITATION_MAX + 1], *text = NULL;
    meshvpn_error error;
    (void)state;
    assert_non_null(strstr(network, "network_key"));
    make_link(link, unix_now() - 3600);
    assert_int_equal(meshvpn_join(link, &text, &error), MESHVPN_E_EXPIRED);
    assert_non_null(strstr(error.text, "expired"));
    make_link(link, unix_now() + 3600);
    link[20] = link[20] == 'A' ? 'B' : 'A';
    assert_int_equal(meshvpn_join(link, &text, &error), MESHVPN_E_NETWORK);
    assert_int_equal(meshvpn_join("https://example.org", &text, NULL), MESHVPN_E_NETWORK);
    assert_null(text);
}

static void test_constants(void **state)
{
    const struct {
        const char *text;
        mvpn_addr is;
    } rows[] = {
        {MESHVPN_TUN_IPV4, mvpn_inner_client_addr(4)},
        {MESHVPN_TUN_IPV6, mvpn_inner_client_addr(6)},
        {MESHVPN_DNS_IPV4, mvpn_inner_gateway_addr(4)},
        {MESHVPN_DNS_IPV6, mvpn_inner_gateway_addr(6)},
    };
    (void)state;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        mvpn_addr addr;
        assert_int_equal(mvpn_addr_parse(rows[i].text, &addr), 0);
        assert_true(mvpn_addr_ip_eq(&addr, &rows[i].is));
    }
    for (int code = 0; code >= MESHVPN_E_STATE; code--) {
        assert_string_not_equal(meshvpn_strerror(code), "unknown result");
    }
    assert_string_equal(meshvpn_strerror(MESHVPN_E_STATE - 1), "unknown result");
    assert_string_equal(meshvpn_strerror(1), "unknown result");
}

/* ---- ends ---- */

static void test_stop(void **state)
{
    app a;
    (void)state;
    begin(&a);
    wait_for_state(a.client, MESHVPN_STATE_CONNECTING);
    assert_int_equal(meshvpn_client_new_identity(a.client), MESHVPN_E_STATE);
    meshvpn_client_network_changed(a.client);
    (void)usleep(100 * 1000);
    double from = seconds();
    meshvpn_client_stop(a.client);
    assert_int_equal(pthread_join(a.thread, NULL), 0);
    assert_true(seconds() - from < 1);
    assert_int_equal(a.result, 0);
    assert_true(a.protected_count >= 2); /* a socket per family */
    assert_int_equal(a.states, 1u << MESHVPN_STATE_CONNECTING | 1u << MESHVPN_STATE_STOPPED);
    meshvpn_error error;
    assert_int_equal(meshvpn_client_run(a.client, &error), MESHVPN_E_STATE);
    meshvpn_client_free(a.client);
    /* The program's descriptor is its own. */
    assert_true(fcntl(a.tun_fd, F_GETFD) >= 0);
    (void)close(a.tun_fd);
}

static void test_stop_before_run(void **state)
{
    app a;
    (void)state;
    make(&a);
    meshvpn_client_stop(a.client);
    double from = seconds();
    assert_int_equal(meshvpn_client_run(a.client, NULL), 0);
    assert_true(seconds() - from < 1);
    meshvpn_client_free(a.client);
    (void)close(a.tun_fd);
}

static meshvpn_client *interrupted;

static void on_alarm(int signo)
{
    (void)signo;
    meshvpn_client_stop(interrupted);
}

static void test_stop_in_a_signal_handler(void **state)
{
    app a;
    const struct sigaction act = {.sa_handler = on_alarm};
    const struct timeval soon = {0, 50 * 1000};
    (void)state;
    make(&a);
    interrupted = a.client;
    assert_int_equal(sigaction(SIGALRM, &act, NULL), 0);
    assert_int_equal(setitimer(ITIMER_REAL, &(struct itimerval){.it_value = soon}, NULL), 0);
    assert_int_equal(meshvpn_client_run(a.client, NULL), 0);
    meshvpn_client_free(a.client);
    (void)close(a.tun_fd);
}

/* Its signals are the program's own. */
static void test_signals(void **state)
{
    struct sigaction before, after;
    sigset_t mask_before, mask_after;
    app a;
    (void)state;
    assert_int_equal(sigaction(SIGPIPE, NULL, &before), 0);
    assert_int_equal(pthread_sigmask(SIG_SETMASK, NULL, &mask_before), 0);
    make(&a);
    meshvpn_client_stop(a.client);
    assert_int_equal(meshvpn_client_run(a.client, NULL), 0);
    meshvpn_client_free(a.client);
    (void)close(a.tun_fd);
    assert_int_equal(sigaction(SIGPIPE, NULL, &after), 0);
    assert_true(after.sa_handler == before.sa_handler);
    assert_int_equal(pthread_sigmask(SIG_SETMASK, NULL, &mask_after), 0);
    for (int signo = 1; signo < SIGRTMIN; signo++) {
        assert_int_equal(sigismember(&mask_after, signo), sigismember(&mask_before, signo));
    }
}

/* ---- nothing is left ---- */

static unsigned count_descriptors(void)
{
    unsigned count = 0;
    DIR *dir = opendir("/proc/self/fd");
    assert_non_null(dir);
    while (readdir(dir) != NULL) {
        count++;
    }
    (void)closedir(dir);
    return count;
}

static void test_rounds(void **state)
{
    unsigned descriptors = 0;
    app a;
    (void)state;
    for (unsigned i = 0; i < ROUNDS; i++) {
        make(&a);
        meshvpn_client_stop(a.client);
        if (i % 2 == 0) { /* also one that never ran */
            assert_int_equal(meshvpn_client_run(a.client, NULL), 0);
        }
        meshvpn_client_free(a.client);
        (void)close(a.tun_fd);
        if (i == 1) { /* libraries that the process begins once have begun */
            descriptors = count_descriptors();
        }
    }
    assert_int_equal(count_descriptors(), descriptors);
}

static void test_memory(void **state)
{
    char dir[] = "/tmp/meshvpn-embed.XXXXXX", state_dir[64], command[64];
    app a = {.tun_fd = open_tun()};
    meshvpn_options o = options_of(&a);
    struct stat st;
    (void)state;
    assert_non_null(mkdtemp(dir));
    (void)snprintf(state_dir, sizeof(state_dir), "%s/state", dir);
    o.state_dir = state_dir;
    assert_int_equal(meshvpn_client_new(&o, &a.client, NULL), 0);
    memset(state_dir, 'x', 4); /* copied */
    meshvpn_client_stop(a.client);
    assert_int_equal(meshvpn_client_run(a.client, NULL), 0);
    meshvpn_client_free(a.client);
    (void)close(a.tun_fd);
    (void)snprintf(state_dir, sizeof(state_dir), "%s/state", dir);
    assert_int_equal(stat(state_dir, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    (void)snprintf(command, sizeof(command), "rm -r %s", dir);
    assert_int_equal(system(command), 0);
}

/* ---- several at once ---- */

static void *make_and_end(void *ctx)
{
    (void)ctx;
    for (unsigned i = 0; i < 5; i++) {
        app a;
        begin(&a);
        meshvpn_client_stop(a.client);
        join(&a);
    }
    return NULL;
}

/* Parsers, libraries and tables that a process has once. */
static void test_threads(void **state)
{
    pthread_t threads[THREADS];
    (void)state;
    for (unsigned i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, make_and_end, NULL), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
}

static void test_two_are_apart(void **state)
{
    app a, b;
    (void)state;
    begin(&a);
    begin(&b);
    wait_for_state(a.client, MESHVPN_STATE_CONNECTING);
    wait_for_state(b.client, MESHVPN_STATE_CONNECTING);
    meshvpn_client_stop(a.client);
    join(&a);
    wait_for_state(b.client, MESHVPN_STATE_CONNECTING);
    assert_int_equal(b.states, 1u << MESHVPN_STATE_CONNECTING);
    meshvpn_client_stop(b.client);
    join(&b);
}

int main(void)
{
    const struct CMUnitTest all[] = {
        cmocka_unit_test(test_wrong_options),
        cmocka_unit_test(test_older_program),
        cmocka_unit_test(test_invitations),
        cmocka_unit_test(test_constants),
        cmocka_unit_test(test_stop),
        cmocka_unit_test(test_stop_before_run),
        cmocka_unit_test(test_stop_in_a_signal_handler),
        cmocka_unit_test(test_signals),
        cmocka_unit_test(test_rounds),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_two_are_apart),
    };
    return cmocka_run_group_tests(all, group_setup, group_teardown);
}
