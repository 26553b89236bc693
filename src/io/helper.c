#include "io/helper.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "io/clock.h"
#include "io/host_client.h"
#include "io/host_dns.h"
#include "io/host_exit.h"
#include "io/privileged.h"
#include "io/sandbox.h"

/* Sessions whose connections are to be forgotten; an exit has as many at a time. */
#define WAITING_MAX 4096u
/*
 * Each time costs a pass over the kernel's whole table, so what ends within a moment goes together,
 * and the helper rests nine times as long as it worked: a tenth of a core, whoever opens and ends
 * sessions as fast as he may. The addresses rest for five minutes: nobody waits for this.
 */
#define RELEASE_PAUSE_MS 200
#define RELEASE_PAUSE_MAX_MS 10000
#define RELEASE_REST 9
/* Setting up runs nft; everything else is a few system calls. */
#define ANSWER_MS 20000
#define FINISH_MS 10000
/* One message brings one descriptor at most; room for more shows that somebody tries. */
#define DESCRIPTORS_MAX 4
/* A kill switch that cannot be put back. */
#define REPAIR_PAUSE_MS 200
/* Cgroups that are made anew: what one sends before its rules are there goes where everybody's
 * does. A look is a system call for each. */
#define GROUPS_PAUSE_MS 100
/* Addresses of names that may have been outside for long enough. */
#define EXPIRY_PAUSE_MS 30000
#define LOCK_TRIES 150
#define LOCK_PAUSE_MS 20

struct mvpn_helper {
    int fd;
    pid_t pid;
    uint32_t serial;
    mvpn_loop_watch *watch;
    mvpn_loop_fn *lost;
    void *lost_ctx;
    bool is_lost;
    mvpn_host_dns_report *report; /* read only */
    /* Addresses of sessions that ended, oldest first; some of them were sent and are worked on. */
    mvpn_loop_timer *timer;
    bool is_timer_set, is_releasing;
    mvpn_time release_since;
    size_t waiting_count;
    uint8_t waiting[WAITING_MAX][MVPN_PRIVILEGED_PAIR_LEN];
    uint8_t request[MVPN_PRIVILEGED_REQUEST_MAX];
};

/* ---- messages ---- */

/* A message with at most one descriptor. 0, or -1 with errno. */
static int send_message(int fd, const uint8_t *bytes, size_t n, int descriptor, int flags)
{
    struct iovec iov = {(void *)(uintptr_t)bytes, n};
    char control[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8))) = {0};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    if (descriptor >= 0) {
        msg.msg_control = control;
        msg.msg_controllen = sizeof(control);
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &descriptor, sizeof(int));
    }
    ssize_t r;
    do {
        r = sendmsg(fd, &msg, flags | MSG_NOSIGNAL);
    } while (r < 0 && errno == EINTR);
    return r == (ssize_t)n ? 0 : -1;
}

typedef struct incoming {
    ssize_t n; /* 0: the other side is gone; -1: errno */
    int descriptors[DESCRIPTORS_MAX];
    unsigned count;
} incoming;

static void take_descriptors(struct msghdr *msg, incoming *ret)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c != NULL; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count && ret->count < DESCRIPTORS_MAX; i++) {
            memcpy(&ret->descriptors[ret->count++], CMSG_DATA(c) + i * sizeof(int), sizeof(int));
        }
    }
}

/* One byte more than fits a message shows that it is none. */
static incoming receive_message(int fd, uint8_t *out, size_t size)
{
    struct iovec iov = {out, size};
    char control[CMSG_SPACE(DESCRIPTORS_MAX * sizeof(int))] __attribute__((aligned(8)));
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control,
                         .msg_controllen = sizeof(control)};
    incoming in = {.count = 0};
    do {
        in.n = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC);
    } while (in.n < 0 && errno == EINTR);
    if (in.n >= 0) {
        take_descriptors(&msg, &in);
    }
    return in;
}

static void close_descriptors(incoming *in)
{
    while (in->count > 0) {
        (void)close(in->descriptors[--in->count]);
    }
}

/* ---- the helper's side ---- */

typedef struct server {
    const mvpn_config *config;
    int fd;
    mvpn_privileged_limits limits;
    enum mvpn_privileged_state state;
    mvpn_host_exit exit;
    mvpn_host_client client;
    mvpn_host_dns *dns; /* client; NULL: names stay as they are */
    mvpn_host_dns_report *report;
    bool has_host;
    mvpn_time tell_again; /* about repairs */
    mvpn_time open_since;
    unsigned open_count;
    /* The control socket, as it was when the worker said so. */
    int control_dir;
    char control_name[MVPN_CONFIG_SOCKET_PATH_MAX + 1];
    dev_t control_dev;
    ino_t control_inode;
    bool has_control;
    uint8_t request[MVPN_PRIVILEGED_REQUEST_MAX + 1]; /* longer is none */
    mvpn_addr sources[2 * MVPN_PRIVILEGED_PAIRS_MAX];
} server;
_Static_assert(2 * MVPN_PRIVILEGED_PAIRS_MAX <= MVPN_CONNTRACK_SOURCES_MAX,
               "what one message brings is forgotten in one pass");

/*
 * Two programs with one device must not mend and set up at once: the helper of a worker that was
 * killed may still be taking back what the next start sets up. The name lives in the network
 * namespace, as what it stands for does, and ends with us. Who keeps it longer than a moment is no
 * helper of ours: then the device itself decides.
 */
static void lock_device(const char *tun_name)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    const struct timespec pause = {0, LOCK_PAUSE_MS * 1000000L};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int n = snprintf(name.sun_path + 1, sizeof(name.sun_path) - 1, "meshvpn-helper-%s", tun_name);
    socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
    for (unsigned i = 0; fd >= 0 && i < LOCK_TRIES; i++) {
        if (bind(fd, (const struct sockaddr *)&name, len) == 0 || errno != EADDRINUSE) {
            return; /* open until this process ends */
        }
        (void)nanosleep(&pause, NULL);
    }
}

static int set_up_exit(server *s, mvpn_fault *fault)
{
    lock_device(s->config->exit.tun_name);
    int r = mvpn_host_exit_setup(&s->exit, &s->config->exit, s->config->run_dir, fault);
    s->has_host = r == 0;
    return r != 0 ? r : mvpn_host_exit_hold(&s->exit, fault);
}

static void say(const char *text)
{
    (void)!write(STDERR_FILENO, text, strlen(text));
}

static void tell_missing(const mvpn_listed_groups *groups)
{
    char line[PATH_MAX + 128];
    for (unsigned i = 0; i < groups->count; i++) {
        const mvpn_listed_group *group = &groups->at[i];
        if (group->match.level > 0 && group->match.id == 0) {
            (void)snprintf(
                line, sizeof(line),
                "warning: helper: there is no cgroup %s: what it sends goes outside from "
                "when it is there\n",
                group->dir);
            say(line);
        }
    }
}

static int set_up_client(server *s, mvpn_privileged_reply *reply, mvpn_fault *fault)
{
    if (!s->config->client.has_tun) {
        lock_device(s->config->client.tun_name);
    }
    int r = mvpn_host_dns_start(&s->config->client, s->config->sandbox, s->report, &s->dns, fault);
    r = r != 0 ? r
               : (s->config->client.has_tun ? mvpn_host_client_adopt : mvpn_host_client_setup)(
                     &s->client, &s->config->client, fault);
    s->has_host = r == 0;
    tell_missing(&s->client.groups);
    reply->tun_v4 = s->client.tun_v4;
    reply->tun_v6 = s->client.tun_v6;
    reply->gateway_v4 = s->client.gateway_v4;
    return r;
}

static void take_back(server *s)
{
    struct stat st;
    mvpn_host_dns_end(s->dns);
    s->dns = NULL;
    if (s->has_host && s->limits.is_exit) {
        mvpn_host_exit_remove(&s->exit);
    } else if (s->has_host) {
        bool has_begun = s->state == MVPN_PRIVILEGED_SEALED;
        mvpn_host_client_remove(&s->client, has_begun ? MVPN_HOST_ENDED : MVPN_HOST_START_FAILED);
    }
    s->has_host = false;
    /* Perhaps another daemon has made its own there. */
    if (s->has_control && fstatat(s->control_dir, s->control_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
        S_ISSOCK(st.st_mode) && st.st_dev == s->control_dev && st.st_ino == s->control_inode) {
        (void)unlinkat(s->control_dir, s->control_name, 0);
    }
    s->has_control = false;
}

static int note_control(server *s, mvpn_fault *fault)
{
    char path[sizeof(s->config->control_socket)];
    struct stat st;
    (void)snprintf(path, sizeof(path), "%s", s->config->control_socket);
    (void)snprintf(s->control_name, sizeof(s->control_name), "%s", basename(path));
    (void)snprintf(path, sizeof(path), "%s", s->config->control_socket);
    if (s->control_dir < 0) {
        s->control_dir = open(dirname(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    }
    if (s->control_dir < 0 ||
        fstatat(s->control_dir, s->control_name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
        return mvpn_fault_errno(fault, MVPN_E_SYSTEM, errno, "cannot find control socket %s",
                                s->config->control_socket);
    }
    s->control_dev = st.st_dev;
    s->control_inode = st.st_ino;
    s->has_control = true;
    return 0;
}

static int seal(server *s, mvpn_fault *fault)
{
    char path[sizeof(s->config->control_socket)];
    mvpn_sandbox_state state;
    mvpn_sandbox_options options = {
        .role = MVPN_SANDBOX_HELPER,
        .keep_net_admin = s->limits.is_exit || s->limits.is_client,
    };
    (void)snprintf(path, sizeof(path), "%s", s->config->control_socket);
    options.remove_dirs[0] = s->has_control ? dirname(path) : NULL;
    options.remove_dirs[1] = s->limits.is_exit ? s->config->run_dir : NULL;
    options.remove_subdirs = s->client.group.where;
    s->state = MVPN_PRIVILEGED_SEALED;
    return s->config->sandbox ? mvpn_sandbox_enter(&options, &state, fault) : 0;
}

static int release(server *s, const mvpn_privileged_request *m, mvpn_fault *fault)
{
    size_t count = 0;
    for (size_t at = 0; at < m->pairs.n; at += MVPN_PRIVILEGED_PAIR_LEN) {
        mvpn_addr v4, v6;
        mvpn_privileged_pair_decode(m->pairs.p + at, &v4, &v6);
        s->sources[count] = v4;
        count += v4.family != 0;
        s->sources[count] = v6;
        count += v6.family != 0;
    }
    return s->has_host ? mvpn_host_exit_release(&s->exit, s->sources, count, fault) : 0;
}

/* Internet sockets alone: a mark means nothing to others. */
static int set_mark(const server *s, int fd, mvpn_fault *fault)
{
    int domain = 0;
    socklen_t len = sizeof(domain);
    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) != 0 ||
        (domain != AF_INET && domain != AF_INET6)) {
        return mvpn_fault_set(fault, MVPN_E_REFUSED, "this is no socket of the internet");
    }
    uint32_t mark = s->config->client.mark;
    return setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof(mark)) == 0
               ? 0
               : mvpn_fault_errno(fault, MVPN_E_SYSTEM, errno, "cannot mark a socket");
}

/* The worker is not believed about who asks. */
static int go_outside(server *s, int fd, mvpn_fault *fault)
{
    const mvpn_config_client *c = &s->config->client;
    struct ucred asker = {0};
    socklen_t len = sizeof(asker);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &asker, &len) != 0 || asker.pid <= 0) {
        return mvpn_fault_set(fault, MVPN_E_REFUSED, "this is no connection of a local process");
    }
    bool is_allowed = asker.uid == 0 || asker.uid == getuid();
    for (unsigned i = 0; i < c->operator_count; i++) {
        is_allowed = is_allowed || c->operators[i].uid == asker.uid;
    }
    if (!is_allowed) {
        return mvpn_fault_set(fault, MVPN_E_REFUSED, "uid %u may not go outside the tunnel",
                              (unsigned)asker.uid);
    }
    return s->has_host ? mvpn_host_client_outside(&s->client, asker.pid, fault) : MVPN_E_STATE;
}

/* Each is a transaction of the kernel's; a page asks for some ten names at once. */
#define OPEN_PER_SECOND 40

static int open_addresses(server *s, const mvpn_privileged_request *m, mvpn_fault *fault)
{
    mvpn_addr addrs[2 * MVPN_SPLIT_ANSWER_MAX];
    unsigned count = 0;
    mvpn_time now = mvpn_clock_now();
    if (now - s->open_since >= MVPN_S(1)) {
        s->open_since = now;
        s->open_count = 0;
    }
    if (++s->open_count > OPEN_PER_SECOND) {
        return mvpn_fault_set(fault, MVPN_E_LIMIT, "too many names at once");
    }
    for (size_t at = 0; at < m->pairs.n; at += MVPN_PRIVILEGED_PAIR_LEN) {
        mvpn_addr v4, v6;
        mvpn_privileged_pair_decode(m->pairs.p + at, &v4, &v6);
        addrs[count] = v4;
        count += v4.family != 0;
        addrs[count] = v6;
        count += v6.family != 0;
    }
    return s->has_host ? mvpn_host_client_open(&s->client, addrs, count, now, fault) : MVPN_E_STATE;
}

static int tun_of(const server *s)
{
    const mvpn_tun *tun = s->limits.is_exit ? s->exit.tun : s->client.tun;
    return tun != NULL ? mvpn_tun_fd(tun) : -1;
}

/* The worker has it: with it the device goes. */
static void close_tun(server *s)
{
    mvpn_tun **tun = s->limits.is_exit ? &s->exit.tun : &s->client.tun;
    mvpn_tun_close(*tun);
    *tun = NULL;
}

static int answer(server *s, mvpn_privileged_reply *reply, int code, const mvpn_fault *fault)
{
    uint8_t out[MVPN_PRIVILEGED_REPLY_LEN];
    int tun = -1;
    reply->code = code;
    if (code != 0) {
        reply->tun_v4 = reply->tun_v6 = reply->gateway_v4 = (mvpn_addr){0};
        (void)snprintf(reply->text, sizeof(reply->text), "%.*s", MVPN_PRIVILEGED_TEXT - 1,
                       fault->text);
    } else if (reply->op == MVPN_PRIVILEGED_SETUP) {
        tun = tun_of(s);
        reply->has_tun = tun >= 0;
    }
    mvpn_privileged_reply_encode(reply, out);
    int r = send_message(s->fd, out, sizeof(out), tun, 0);
    if (tun >= 0) {
        close_tun(s);
    }
    return r;
}

/* Names lead into the tunnel from the first circuit on, also while another is built: before it they
 * stay, for the client's own search for the network. */
static int protect(server *s, enum mvpn_protect_event event, mvpn_fault *fault)
{
    int r = s->has_host ? mvpn_host_client_event(&s->client, event, fault) : MVPN_E_STATE;
    if (r == 0 && event == MVPN_PROTECT_ESTABLISHED) {
        mvpn_host_dns_set(s->dns, s->config->client.tun_name, s->client.index,
                          &s->client.gateway_v4);
    }
    return r;
}

static mvpn_privileged_protection look(const server *s)
{
    const mvpn_host_client *host = &s->client;
    return (mvpn_privileged_protection){
        .state = host->state,
        .is_in_force = host->kill_switch != NULL && mvpn_packet_filter_is_there(host->kill_switch),
        .lockdown = host->protect.lockdown,
        .allow_lan = host->protect.allow_lan,
        .repaired = host->repaired,
    };
}

/* False: the conversation is over. */
static bool serve(server *s, const mvpn_privileged_request *m, const incoming *in)
{
    mvpn_fault fault = {.text = ""};
    mvpn_privileged_reply reply = {.op = m->op, .serial = m->serial};
    int code = 0;
    switch (m->op) {
    case MVPN_PRIVILEGED_SETUP:
        code = s->has_host         ? MVPN_E_STATE
               : s->limits.is_exit ? set_up_exit(s, &fault)
                                   : set_up_client(s, &reply, &fault);
        break;
    case MVPN_PRIVILEGED_CONTROL:
        code = note_control(s, &fault);
        break;
    case MVPN_PRIVILEGED_SEAL:
        code = seal(s, &fault);
        break;
    case MVPN_PRIVILEGED_RELEASE:
        code = release(s, m, &fault);
        break;
    case MVPN_PRIVILEGED_MARK:
        code = set_mark(s, in->descriptors[0], &fault);
        break;
    case MVPN_PRIVILEGED_PROTECT:
        code = protect(s, (enum mvpn_protect_event)m->event, &fault);
        break;
    case MVPN_PRIVILEGED_LOOK:
        reply.protection = look(s);
        break;
    case MVPN_PRIVILEGED_OUTSIDE:
        code = go_outside(s, in->descriptors[0], &fault);
        break;
    case MVPN_PRIVILEGED_OPEN:
        code = open_addresses(s, m, &fault);
        break;
    case MVPN_PRIVILEGED_FINISH:
        take_back(s);
        (void)answer(s, &reply, 0, &fault);
        return false;
    }
    return answer(s, &reply, code, &fault) == 0 &&
           (m->op != MVPN_PRIVILEGED_SEAL || code == 0); /* somewhere in between: end */
}

/* Somebody may do it a thousand times a second. */
static void tell_repair(server *s, const char *what, bool is_back)
{
    char line[160];
    mvpn_time now = mvpn_clock_now();
    if (now < s->tell_again) {
        return;
    }
    s->tell_again = now + MVPN_S(1);
    (void)snprintf(line, sizeof(line), "%s: helper: another program changed %s: %s\n",
                   is_back ? "warning" : "error", what,
                   is_back ? "put back" : "that cannot be put back: trying again");
    say(line);
}

static int next_look_ms(const mvpn_host_client *host, bool is_astray)
{
    return mvpn_host_client_has_groups(host) ? GROUPS_PAUSE_MS
           : is_astray                       ? REPAIR_PAUSE_MS
           : host->leases.count > 0          ? EXPIRY_PAUSE_MS
                                             : -1;
}

/* Until the worker says something, or is gone. False: this cannot go on. */
static bool tend_host(server *s)
{
    struct pollfd p[2 + MVPN_HOST_CLIENT_FDS] = {
        {.fd = s->fd, .events = POLLIN}, {.fd = mvpn_host_dns_fd(s->dns), .events = POLLIN}};
    bool is_astray = false;
    while (p[0].revents == 0 && s->has_host && s->limits.is_client) {
        const char *what;
        int fds[MVPN_HOST_CLIENT_FDS];
        mvpn_host_client_fds(&s->client, fds);
        for (size_t i = 0; i < MVPN_HOST_CLIENT_FDS; i++) {
            p[2 + i] = (struct pollfd){.fd = fds[i], .events = POLLIN};
        }
        if (poll(p, MVPN_ARRAY_LEN(p), next_look_ms(&s->client, is_astray)) < 0 && errno != EINTR) {
            return true;
        }
        if (p[1].revents != 0 && !mvpn_host_dns_is_alive(s->dns)) {
            say("error: helper: the process that keeps the name servers ended; ending, as nobody "
                "else could put them back: the next start does, or --cleanup\n");
            return false;
        }
        int r = mvpn_host_client_tend(&s->client, &what);
        if (what != NULL && (r == 0 || !is_astray)) {
            tell_repair(s, what, r == 0);
        }
        mvpn_host_client_expire(&s->client, mvpn_clock_now());
        is_astray = r != 0;
    }
    return true;
}

static void serve_all(server *s)
{
    bool goes_on = true;
    while (goes_on && tend_host(s)) {
        mvpn_privileged_request m;
        incoming in = receive_message(s->fd, s->request, sizeof(s->request));
        if (in.n <= 0) {
            close_descriptors(&in);
            return; /* the worker is gone */
        }
        int r = mvpn_privileged_request_decode(mvpn_bytes_of(s->request, (size_t)in.n), &m);
        r = r != 0 ? r : mvpn_privileged_check(&s->limits, s->state, &m, in.count);
        if (r != 0) {
            say("error: helper: the worker asked for what it may not; ending\n");
        }
        goes_on = r == 0 && serve(s, &m, &in);
        close_descriptors(&in);
    }
}

_Noreturn static void run_server(const mvpn_config *config, mvpn_host_dns_report *report, int fd)
{
    /* Signals of the terminal and of systemd are for the worker; its end is ours. */
    static const int ignored[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE, SIGUSR1, SIGUSR2};
    bool is_exit = config->kind == MVPN_CONFIG_EXIT, is_client = config->kind == MVPN_CONFIG_CLIENT;
    server *s = calloc(1, sizeof(*s));
    for (size_t i = 0; i < MVPN_ARRAY_LEN(ignored); i++) {
        (void)signal(ignored[i], SIG_IGN);
    }
    (void)prctl(PR_SET_NAME, "mvpn-helper", 0, 0, 0);
    if (s == NULL) {
        _exit(1);
    }
    *s = (server){
        .config = config,
        .fd = fd,
        .report = report,
        .limits = {.is_exit = is_exit, .is_client = is_client},
        .control_dir = -1,
    };
    s->limits.has_domains = is_client && config->client.split.domains.count > 0;
    if (is_exit) {
        s->limits.pool_v4 = config->exit.pool_v4;
        s->limits.pool_v6 = config->exit.pool_v6;
    }
    serve_all(s);
    take_back(s);
    _exit(0); /* not exit: buffers and handlers are the worker's */
}

/* ---- the worker's side ---- */

static void free_helper(mvpn_helper *helper)
{
    if (helper->report != NULL) {
        (void)munmap(helper->report, sizeof(*helper->report));
    }
    free(helper);
}

int mvpn_helper_start(const mvpn_config *config, void (*forget)(void *ctx), void *ctx,
                      mvpn_helper **ret, mvpn_fault *fault)
{
    int fds[2];
    mvpn_helper *helper = calloc(1, sizeof(*helper));
    if (helper == NULL) {
        return mvpn_fault_set(fault, MVPN_E_NOMEM, "no memory for the helper process");
    }
    /* Nothing that either side relies on. */
    void *shared = mmap(NULL, sizeof(*helper->report), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    helper->report = shared != MAP_FAILED ? shared : NULL;
    if (helper->report == NULL || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) != 0) {
        int err = errno;
        free_helper(helper);
        return mvpn_fault_errno(fault, MVPN_E_SYSTEM, err, "cannot start the helper process");
    }
    (void)fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        (void)close(fds[0]);
        if (forget != NULL) {
            forget(ctx);
        }
        run_server(config, helper->report, fds[1]);
    }
    int err = errno;
    (void)close(fds[1]);
    if (pid < 0) {
        (void)close(fds[0]);
        free_helper(helper);
        return mvpn_fault_errno(fault, MVPN_E_SYSTEM, err, "cannot start the helper process");
    }
    (void)mprotect(helper->report, sizeof(*helper->report), PROT_READ);
    helper->fd = fds[0];
    helper->pid = pid;
    *ret = helper;
    return 0;
}

static int wait_readable(int fd, int ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    mvpn_time end = mvpn_clock_now() + MVPN_MS((unsigned)ms);
    for (;;) {
        mvpn_time now = mvpn_clock_now();
        int r = poll(&p, 1, now < end ? (int)((end - now) / MVPN_US_PER_MS) + 1 : 0);
        if (r > 0) {
            return 0;
        }
        if (r == 0 || errno != EINTR) {
            return -1;
        }
    }
}

static int gone(mvpn_helper *helper, mvpn_fault *fault)
{
    helper->is_lost = true;
    return mvpn_fault_set(fault, MVPN_E_CLOSED, "the helper process is gone");
}

/* The answer to request `serial`, if it is there and in order. */
static int take_reply(mvpn_helper *helper, enum mvpn_privileged_op op, uint32_t serial,
                      mvpn_privileged_reply *reply, int *ret_tun, mvpn_fault *fault)
{
    uint8_t bytes[MVPN_PRIVILEGED_REPLY_LEN + 1];
    incoming in = receive_message(helper->fd, bytes, sizeof(bytes));
    bool ok = in.n > 0 &&
              mvpn_privileged_reply_decode(mvpn_bytes_of(bytes, (size_t)in.n), reply) == 0 &&
              reply->op == op && reply->serial == serial &&
              in.count == (reply->has_tun ? 1u : 0u) && (ret_tun != NULL || !reply->has_tun);
    if (!ok) {
        close_descriptors(&in);
        return gone(helper, fault);
    }
    if (reply->has_tun) {
        *ret_tun = in.descriptors[0];
    }
    return reply->code == 0 ? 0 : mvpn_fault_set(fault, reply->code, "%s", reply->text);
}

static int send_message_of(mvpn_helper *helper, mvpn_privileged_request *m, int descriptor)
{
    m->serial = ++helper->serial;
    size_t n = mvpn_privileged_request_encode(m, helper->request);
    return send_message(helper->fd, helper->request, n, descriptor, 0);
}

static int send_request(mvpn_helper *helper, enum mvpn_privileged_op op, mvpn_bytes pairs,
                        int descriptor)
{
    mvpn_privileged_request m = {.op = op, .pairs = pairs};
    return send_message_of(helper, &m, descriptor);
}

/* Ask, and wait for the answer to this very request. */
static int ask(mvpn_helper *helper, enum mvpn_privileged_op op, int descriptor, int ms,
               mvpn_privileged_reply *reply, int *ret_tun, mvpn_fault *fault)
{
    if (helper->is_lost || send_request(helper, op, MVPN_BYTES_NONE, descriptor) != 0 ||
        wait_readable(helper->fd, ms) != 0) {
        return gone(helper, fault);
    }
    return take_reply(helper, op, helper->serial, reply, ret_tun, fault);
}

int mvpn_helper_setup(mvpn_helper *helper, mvpn_helper_host *ret, mvpn_fault *fault)
{
    mvpn_privileged_reply reply;
    int fd = -1;
    int r = ask(helper, MVPN_PRIVILEGED_SETUP, -1, ANSWER_MS, &reply, &fd, fault);
    if (r != 0) {
        return r;
    }
    const mvpn_tun_options options = {.use_fd = true, .fd = fd};
    *ret = (mvpn_helper_host){
        .tun_v4 = reply.tun_v4, .tun_v6 = reply.tun_v6, .gateway_v4 = reply.gateway_v4};
    r = mvpn_tun_open(&ret->tun, &options, fault);
    if (r != 0 && fd >= 0) {
        (void)close(fd);
    }
    return r;
}

static int ask_simply(mvpn_helper *helper, enum mvpn_privileged_op op, mvpn_fault *fault)
{
    mvpn_privileged_reply reply;
    return ask(helper, op, -1, ANSWER_MS, &reply, NULL, fault);
}

int mvpn_helper_control(mvpn_helper *helper, mvpn_fault *fault)
{
    return ask_simply(helper, MVPN_PRIVILEGED_CONTROL, fault);
}

int mvpn_helper_seal(mvpn_helper *helper, mvpn_fault *fault)
{
    return ask_simply(helper, MVPN_PRIVILEGED_SEAL, fault);
}

/* ---- sessions that ended ---- */

/* One request at a time, so that the socket always takes it: the helper has nothing else to read.
 */
static void send_release(mvpn_helper *helper)
{
    size_t count = MVPN_MIN(helper->waiting_count, (size_t)MVPN_PRIVILEGED_PAIRS_MAX);
    size_t size = count * MVPN_PRIVILEGED_PAIR_LEN;
    mvpn_bytes pairs = mvpn_bytes_of(helper->waiting, size);
    if (send_request(helper, MVPN_PRIVILEGED_RELEASE, pairs, -1) != 0) {
        helper->is_lost = true;
        return;
    }
    helper->waiting_count -= count;
    memmove(helper->waiting, helper->waiting + count,
            helper->waiting_count * MVPN_PRIVILEGED_PAIR_LEN);
    helper->is_releasing = true;
    helper->release_since = mvpn_clock_now();
}

static void set_timer(mvpn_helper *helper, uint64_t ms)
{
    mvpn_loop_timer_set(helper->timer, ms);
    helper->is_timer_set = true;
}

static void timer_ended(void *ctx)
{
    mvpn_helper *helper = ctx;
    helper->is_timer_set = false;
    if (helper->waiting_count > 0 && !helper->is_releasing && !helper->is_lost) {
        send_release(helper);
    }
}

/* What failed times out in the kernel, and the addresses rest meanwhile. */
static void release_ended(mvpn_helper *helper)
{
    mvpn_privileged_reply reply;
    uint64_t ms = (mvpn_clock_now() - helper->release_since) / MVPN_US_PER_MS * RELEASE_REST;
    MVPN_IGNORE(take_reply(helper, MVPN_PRIVILEGED_RELEASE, helper->serial, &reply, NULL, NULL));
    helper->is_releasing = false;
    /* Also if nothing waits: the next one does then. */
    set_timer(helper,
              MVPN_MIN(MVPN_MAX(ms, (uint64_t)RELEASE_PAUSE_MS), (uint64_t)RELEASE_PAUSE_MAX_MS));
}

static void ready(void *ctx, unsigned events)
{
    mvpn_helper *helper = ctx;
    uint8_t byte;
    (void)events;
    if (helper->is_releasing) {
        release_ended(helper);
    } else if (recv(helper->fd, &byte, sizeof(byte), MSG_DONTWAIT) >= 0) {
        helper->is_lost = true; /* it says nothing unasked: it is gone */
    }
    if (helper->is_lost) {
        mvpn_loop_watch_set(helper->watch, 0);
        helper->lost(helper->lost_ctx);
    }
}

int mvpn_helper_watch(mvpn_helper *helper, mvpn_loop *loop, mvpn_loop_fn *lost, void *ctx)
{
    helper->lost = lost;
    helper->lost_ctx = ctx;
    int r = mvpn_loop_timer_new(loop, timer_ended, helper, &helper->timer);
    return r != 0 ? r
                  : mvpn_loop_watch_fd(loop, helper->fd, MVPN_LOOP_READABLE, ready, helper,
                                       &helper->watch);
}

int mvpn_helper_release(mvpn_helper *helper, const mvpn_addr *v4, const mvpn_addr *v6)
{
    if (v4->family == 0 && v6->family == 0) {
        return 0; /* the session had no address yet */
    }
    if (helper->waiting_count == WAITING_MAX) {
        return MVPN_E_LIMIT;
    }
    mvpn_privileged_pair_encode(v4, v6, helper->waiting[helper->waiting_count++]);
    if (!helper->is_timer_set && !helper->is_releasing) {
        set_timer(helper, RELEASE_PAUSE_MS);
    }
    return 0;
}

/* All of it now, before the end. */
static void release_rest(mvpn_helper *helper)
{
    mvpn_time end = mvpn_clock_now() + MVPN_MS(FINISH_MS);
    while (!helper->is_lost && (helper->is_releasing || helper->waiting_count > 0)) {
        mvpn_time now = mvpn_clock_now();
        if (!helper->is_releasing) {
            send_release(helper);
        } else if (now >= end ||
                   wait_readable(helper->fd, (int)((end - now) / MVPN_US_PER_MS)) != 0) {
            helper->is_lost = true;
        } else {
            release_ended(helper);
        }
    }
}

int mvpn_helper_mark(void *ctx, int fd)
{
    mvpn_helper *helper = ctx;
    mvpn_privileged_reply reply;
    int r = ask(helper, MVPN_PRIVILEGED_MARK, fd, ANSWER_MS, &reply, NULL, NULL);
    if (r != 0) {
        errno = EPERM;
        return -1;
    }
    return 0;
}

int mvpn_helper_protect(mvpn_helper *helper, enum mvpn_protect_event event, mvpn_fault *fault)
{
    mvpn_privileged_request m = {.op = MVPN_PRIVILEGED_PROTECT, .event = (uint8_t)event};
    mvpn_privileged_reply reply;
    if (helper->is_lost || send_message_of(helper, &m, -1) != 0 ||
        wait_readable(helper->fd, ANSWER_MS) != 0) {
        return gone(helper, fault);
    }
    return take_reply(helper, m.op, helper->serial, &reply, NULL, fault);
}

int mvpn_helper_look(mvpn_helper *helper, mvpn_privileged_protection *ret)
{
    mvpn_privileged_reply reply;
    int r = ask(helper, MVPN_PRIVILEGED_LOOK, -1, ANSWER_MS, &reply, NULL, NULL);
    if (r == 0) {
        *ret = reply.protection;
    }
    return r;
}

void mvpn_helper_names(const mvpn_helper *helper, mvpn_helper_dns *ret)
{
    uint32_t manager = atomic_load(&helper->report->manager);
    *ret = (mvpn_helper_dns){
        .manager = manager <= MVPN_DNS_FILE ? (enum mvpn_dns_manager)manager : MVPN_DNS_NONE,
        .is_set = atomic_load(&helper->report->is_set) != 0,
        .repaired = atomic_load(&helper->report->repaired),
    };
}

int mvpn_helper_outside(mvpn_helper *helper, int asker, mvpn_fault *fault)
{
    mvpn_privileged_reply reply;
    return ask(helper, MVPN_PRIVILEGED_OUTSIDE, asker, ANSWER_MS, &reply, NULL, fault);
}

int mvpn_helper_open(mvpn_helper *helper, const mvpn_addr *addrs, unsigned count, mvpn_fault *fault)
{
    uint8_t pairs[MVPN_SPLIT_ANSWER_MAX * MVPN_PRIVILEGED_PAIR_LEN];
    static const mvpn_addr none = {.family = 0};
    mvpn_privileged_reply reply;
    for (unsigned i = 0; i < count; i++) {
        bool is_v4 = addrs[i].family == 4;
        mvpn_privileged_pair_encode(is_v4 ? &addrs[i] : &none, is_v4 ? &none : &addrs[i],
                                    pairs + (size_t)i * MVPN_PRIVILEGED_PAIR_LEN);
    }
    mvpn_bytes bytes = mvpn_bytes_of(pairs, (size_t)count * MVPN_PRIVILEGED_PAIR_LEN);
    if (helper->is_lost || send_request(helper, MVPN_PRIVILEGED_OPEN, bytes, -1) != 0 ||
        wait_readable(helper->fd, ANSWER_MS) != 0) {
        return gone(helper, fault);
    }
    return take_reply(helper, MVPN_PRIVILEGED_OPEN, helper->serial, &reply, NULL, fault);
}

void mvpn_helper_finish(mvpn_helper *helper)
{
    mvpn_privileged_reply reply;
    if (helper == NULL) {
        return;
    }
    mvpn_loop_unwatch(helper->watch);
    helper->watch = NULL;
    release_rest(helper);
    mvpn_loop_timer_free(helper->timer);
    helper->timer = NULL;
    if (!helper->is_lost) {
        MVPN_IGNORE(ask(helper, MVPN_PRIVILEGED_FINISH, -1, FINISH_MS, &reply, NULL, NULL));
        MVPN_IGNORE(wait_readable(helper->fd, FINISH_MS)); /* its end: nothing of it outlives us */
    }
    (void)close(helper->fd);
    (void)waitpid(helper->pid, NULL, WNOHANG);
    free_helper(helper);
}
