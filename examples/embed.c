/*
 * A program with MeshVPN clients inside, each on a TUN device that this program opens: what an app
 * on a phone does, where the system gives the descriptor. Needs CAP_NET_ADMIN.
 *
 *     cc -std=c99 embed.c $(pkg-config --cflags --libs libmeshvpn) -o embed
 *     ./embed [-s DIRECTORY] NETWORK DEVICE[,MARK[,COUNTRY]]... [NETWORK DEVICE...]...
 *
 * NETWORK is the path of a network file, with a slash in it, or an invitation (meshvpn:...): of the
 * devices that follow. Each client has its device, its firewall mark (so that routes can lead its
 * own packets around the tunnel), the country of its exits, and with -s a place in DIRECTORY for
 * what it remembers. SIGUSR1 shows how they are, SIGUSR2 makes them others to the exits, SIGINT and
 * SIGTERM end them.
 *
 * Addresses and routes are the program's to set; for one client, by hand:
 *
 *     ip address add 10.8.0.2/24 dev DEVICE
 *     ip -6 address add fd6d:7670:6e00::2/64 dev DEVICE
 *     ip link set DEVICE mtu 1420 up
 *     ip route add default dev DEVICE table 77
 *     ip rule add not fwmark MARK table 77
 */
#define _DEFAULT_SOURCE
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <meshvpn/meshvpn.h>

#define CLIENTS_MAX 8

struct app {
    char device[IFNAMSIZ];
    char country[64];
    unsigned mark;
    int tun_fd;
    meshvpn_client *client;
    pthread_t thread;
    int result;
};

/* ---- what the client asks of the program ---- */

/* Android: VpnService.protect(fd). */
static int protect(void *ctx, int fd)
{
    const struct app *app = (const struct app *)ctx;
    if (app->mark == 0) {
        return 0;
    }
    return setsockopt(fd, SOL_SOCKET, SO_MARK, &app->mark, sizeof(app->mark));
}

static void log_line(void *ctx, meshvpn_log_level level, const char *line)
{
    const struct app *app = (const struct app *)ctx;
    fprintf(stderr, "%s: %s%s\n", app->device, level <= MESHVPN_LOG_WARN ? "! " : "", line);
}

static void state_changed(void *ctx, meshvpn_state state, const char *why)
{
    static const char *const names[] = {"connecting", "connected", "blocked", "stopped"};
    const struct app *app = (const struct app *)ctx;
    printf("%s %s%s%s\n", app->device, names[state], why[0] != '\0' ? ": " : "", why);
    fflush(stdout);
}

/* ---- one client ---- */

static int open_tun(const char *device)
{
    struct ifreq request;
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    memset(&request, 0, sizeof(request));
    memcpy(request.ifr_name, device, strlen(device));
    /* With IFF_VNET_HDR the client can move 64 KiB at a time. */
    request.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR;
    if (fd < 0 || ioctl(fd, TUNSETIFF, &request) != 0) {
        perror(device);
        exit(1);
    }
    return fd;
}

static void parse(struct app *app, char *argument)
{
    char *mark = strchr(argument, ',');
    char *country = mark != NULL ? strchr(mark + 1, ',') : NULL;
    if (mark != NULL) {
        *mark++ = '\0';
        app->mark = (unsigned)strtoul(mark, NULL, 0);
    }
    if (country != NULL) {
        snprintf(app->country, sizeof(app->country), "%s", country + 1);
    }
    snprintf(app->device, sizeof(app->device), "%s", argument);
}

static void begin(struct app *app, const char *network, const char *directory)
{
    char state_dir[512];
    meshvpn_options options;
    meshvpn_error error;
    snprintf(state_dir, sizeof(state_dir), "%s/%s", directory != NULL ? directory : "",
             app->device);
    app->tun_fd = open_tun(app->device);
    meshvpn_options_init(&options, sizeof(options));
    options.network = network;
    options.tun_fd = app->tun_fd;
    options.state_dir = directory != NULL ? state_dir : NULL;
    options.exit_countries = app->country[0] != '\0' ? app->country : NULL;
    options.ctx = app;
    options.protect = protect;
    options.log = log_line;
    options.state = state_changed;
    if (meshvpn_client_new(&options, &app->client, &error) != 0) {
        fprintf(stderr, "%s: %s\n", app->device, error.text);
        exit(1);
    }
}

static void *run(void *ctx)
{
    struct app *app = (struct app *)ctx;
    meshvpn_error error;
    app->result = meshvpn_client_run(app->client, &error);
    if (app->result != 0) {
        fprintf(stderr, "%s: %s\n", app->device, error.text);
        kill(getpid(), SIGTERM); /* the others end too */
    }
    return NULL;
}

static void show(const struct app *app)
{
    meshvpn_status status;
    unsigned i;
    meshvpn_client_status(app->client, &status, sizeof(status));
    printf("%s state %d for %llu ms, path", app->device, (int)status.state,
           (unsigned long long)status.state_ms);
    for (i = 0; i < status.hop_count; i++) {
        printf(" %s/%s", status.hops[i].name, status.hops[i].country);
    }
    printf(", %llu bytes up, %llu down\n", (unsigned long long)status.bytes_up,
           (unsigned long long)status.bytes_down);
    fflush(stdout);
}

/* ---- all of them ---- */

static int is_network(const char *argument)
{
    return strncmp(argument, "meshvpn:", 8) == 0 || strchr(argument, '/') != NULL;
}

/* The text of the network: joined, or read. Until the next call. */
static char *network_text(const char *argument)
{
    static char text[2 << 20];
    meshvpn_error error;
    char *joined;
    FILE *file;
    if (strncmp(argument, "meshvpn:", 8) == 0) {
        if (meshvpn_join(argument, &joined, &error) != 0) {
            fprintf(stderr, "%s\n", error.text);
            exit(1);
        }
        snprintf(text, sizeof(text), "%s", joined); /* an app keeps it, privately */
        meshvpn_text_free(joined);
        return text;
    }
    file = fopen(argument, "r");
    if (file == NULL) {
        perror(argument);
        exit(1);
    }
    text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
    fclose(file);
    return text;
}

int main(int argc, char **argv)
{
    static struct app apps[CLIENTS_MAX];
    const int has_directory = argc > 2 && strcmp(argv[1], "-s") == 0;
    const char *directory = has_directory ? argv[2] : NULL, *network = NULL;
    int count = 0, i, signo = 0, failed = 0;
    sigset_t signals;
    /* Before there are threads: only sigwait sees them. */
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGUSR1);
    sigaddset(&signals, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);

    for (i = has_directory ? 3 : 1; i < argc; i++) {
        if (is_network(argv[i])) {
            network = network_text(argv[i]);
        } else if (network != NULL && count < CLIENTS_MAX) {
            parse(&apps[count], argv[i]);
            begin(&apps[count++], network, directory);
        }
    }
    if (count == 0) {
        fprintf(stderr,
                "usage: embed [-s DIRECTORY] NETWORK DEVICE[,MARK[,COUNTRY]]... [NETWORK "
                "DEVICE...]...  (libmeshvpn %s)\n",
                meshvpn_version());
        return 2;
    }
    for (i = 0; i < count; i++) {
        if (pthread_create(&apps[i].thread, NULL, run, &apps[i]) != 0) {
            return 1;
        }
    }
    while (signo != SIGINT && signo != SIGTERM) {
        if (sigwait(&signals, &signo) != 0) {
            return 1;
        }
        for (i = 0; i < count; i++) {
            if (signo == SIGUSR1) {
                show(&apps[i]);
            } else if (signo == SIGUSR2 && meshvpn_client_new_identity(apps[i].client) != 0) {
                fprintf(stderr, "%s: not connected\n", apps[i].device);
            }
        }
    }
    for (i = 0; i < count; i++) {
        meshvpn_client_stop(apps[i].client);
    }
    for (i = 0; i < count; i++) {
        pthread_join(apps[i].thread, NULL);
        meshvpn_client_free(apps[i].client);
        close(apps[i].tun_fd);
        failed |= apps[i].result != 0;
    }
    return failed;
}
