#include "io/control.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/error.h"
#include "io/clock.h"

typedef struct client {
    mvpn_control *control;
    int fd; /* -1: free slot */
    uid_t uid;
    mvpn_time active; /* when it last sent something, or took it */
    mvpn_loop_watch *watch;
    size_t used;
    char *reply; /* being sent; no request is read meanwhile */
    size_t reply_size;
    size_t reply_sent;
    char request[MVPN_CONTROL_REQUEST];
} client;

struct mvpn_control {
    mvpn_loop *loop;
    int fd;
    mvpn_loop_watch *watch;
    mvpn_control_fn *fn;
    void *ctx;
    const client *asker; /* whose request is being answered */
    struct sockaddr_un name;
    client clients[MVPN_CONTROL_CLIENTS];
};

/* Strict: one value and nothing after it, no doubled keys. */
#define DECODE_FLAGS JSON_REJECT_DUPLICATES

static int make_name(const char *path, struct sockaddr_un *ret, mvpn_fault *fault)
{
    *ret = (struct sockaddr_un){.sun_family = AF_UNIX};
    size_t len = strlen(path);
    if (len == 0 || len >= sizeof(ret->sun_path)) {
        return mvpn_fault_set(fault, MVPN_E_CONFIG,
                              "control socket path must have 1 to %zu characters: %s",
                              sizeof(ret->sun_path) - 1, path);
    }
    memcpy(ret->sun_path, path, len);
    return 0;
}

/* ---- one client ---- */

static void hang_up(client *c)
{
    mvpn_loop_unwatch(c->watch);
    (void)close(c->fd);
    free(c->reply);
    c->fd = -1;
    c->watch = NULL;
    c->reply = NULL;
}

static json_t *error_reply(const char *text)
{
    return json_pack("{s:s}", "error", text);
}

json_t *mvpn_control_answer(mvpn_control_fn *fn, void *ctx, uid_t uid, const char *line, size_t len)
{
    json_error_t error;
    json_t *request = json_loadb(line, len, DECODE_FLAGS, &error);
    if (request == NULL) {
        return error_reply("the request is not JSON");
    }
    json_t *reply = json_object();
    if (!json_is_string(json_object_get(request, "cmd"))) {
        json_decref(request);
        json_decref(reply);
        return error_reply("a request is an object with a string \"cmd\"");
    }
    int rc = reply != NULL ? fn(ctx, request, uid, reply) : MVPN_E_NOMEM;
    json_decref(request);
    if (rc != 0 && !json_is_string(json_object_get(reply, "error"))) {
        json_decref(reply);
        return error_reply(rc == MVPN_E_UNKNOWN ? "unknown command" : mvpn_strerror(rc));
    }
    return reply;
}

/* Turn `reply` (taken) into the line to send. False if there is no memory. */
static bool set_reply(client *c, json_t *reply)
{
    char *text = reply != NULL ? json_dumps(reply, JSON_COMPACT) : NULL;
    json_decref(reply);
    if (text != NULL && strlen(text) + 1 > MVPN_CONTROL_REPLY) {
        free(text);
        text = strdup("{\"error\":\"the reply is too big\"}");
    }
    if (text == NULL) {
        return false;
    }
    c->reply = text;
    c->reply_size = strlen(text) + 1;
    c->reply_sent = 0;
    text[c->reply_size - 1] = '\n'; /* in the place of the final zero: the size counts from here */
    return true;
}

/* Send what there is of the reply. False if the client is gone. */
static bool send_reply(client *c)
{
    while (c->reply != NULL) {
        ssize_t n = send(c->fd, c->reply + c->reply_sent, c->reply_size - c->reply_sent,
                         MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return errno == EAGAIN;
        }
        c->reply_sent += (size_t)n;
        if (c->reply_sent == c->reply_size) {
            free(c->reply);
            c->reply = NULL;
        }
    }
    return true;
}

/* Answer the lines that are here, one at a time. False if the client is to be hung up on. */
static bool answer_lines(client *c)
{
    while (c->reply == NULL) {
        const char *end = memchr(c->request, '\n', c->used);
        if (end == NULL) {
            return c->used < sizeof(c->request);
        }
        size_t len = (size_t)(end - c->request);
        c->control->asker = c;
        json_t *reply =
            mvpn_control_answer(c->control->fn, c->control->ctx, c->uid, c->request, len);
        c->control->asker = NULL;
        if (!set_reply(c, reply)) {
            return false;
        }
        c->used -= len + 1;
        memmove(c->request, end + 1, c->used);
        if (!send_reply(c)) {
            return false;
        }
    }
    return true;
}

static bool read_request(client *c)
{
    ssize_t n = recv(c->fd, c->request + c->used, sizeof(c->request) - c->used, MSG_DONTWAIT);
    if (n < 0) {
        return errno == EAGAIN || errno == EINTR;
    }
    c->used += (size_t)n;
    return n > 0;
}

static void client_ready(void *ctx, unsigned events)
{
    client *c = ctx;
    (void)events;
    c->active = mvpn_clock_now();
    bool is_alive = c->reply != NULL ? send_reply(c) : read_request(c);
    if (!is_alive || !answer_lines(c)) {
        hang_up(c);
        return;
    }
    mvpn_loop_watch_set(c->watch, c->reply != NULL ? MVPN_LOOP_WRITABLE : MVPN_LOOP_READABLE);
}

/* ---- listening ---- */

/* Whoever has been quiet for longest gives way, if that was long: half a request holds no place. */
static client *free_slot(mvpn_control *control)
{
    client *quietest = NULL;
    for (unsigned i = 0; i < MVPN_CONTROL_CLIENTS; i++) {
        client *c = &control->clients[i];
        if (c->fd < 0) {
            return c;
        }
        if (quietest == NULL || c->active < quietest->active) {
            quietest = c;
        }
    }
    if (mvpn_clock_now() - quietest->active < MVPN_CONTROL_QUIET) {
        return NULL;
    }
    hang_up(quietest);
    return quietest;
}

static void accept_ready(void *ctx, unsigned events)
{
    mvpn_control *control = ctx;
    struct ucred cred = {0};
    socklen_t len = sizeof(cred);
    (void)events;
    int fd = accept4(control->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
        return;
    }
    client *c = free_slot(control);
    if (c == NULL || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) != 0 ||
        mvpn_loop_watch_fd(control->loop, fd, MVPN_LOOP_READABLE, client_ready, c, &c->watch) !=
            0) {
        (void)close(fd);
        return;
    }
    c->control = control;
    c->fd = fd;
    c->uid = cred.uid;
    c->active = mvpn_clock_now();
    c->used = 0;
}

static int connect_to(const struct sockaddr_un *name)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (const struct sockaddr *)name, sizeof(*name)) != 0) {
        int err = errno;
        (void)close(fd);
        errno = err;
        return -1;
    }
    return fd;
}

/* Remove the socket of a dead daemon. Anything else that is in the way stays there. */
static int clear_place(const struct sockaddr_un *name, mvpn_fault *fault)
{
    struct stat st;
    if (lstat(name->sun_path, &st) != 0) {
        return errno == ENOENT ? 0
                               : mvpn_fault_errno(fault, MVPN_E_CONFIG, errno,
                                                  "cannot use control socket %s", name->sun_path);
    }
    if (!S_ISSOCK(st.st_mode)) {
        return mvpn_fault_set(fault, MVPN_E_CONFIG,
                              "control socket %s: something else has that name", name->sun_path);
    }
    int fd = connect_to(name);
    if (fd >= 0) {
        (void)close(fd);
        return mvpn_fault_set(fault, MVPN_E_CONFIG, "another daemon runs here: it answers at %s",
                              name->sun_path);
    }
    if (errno != ECONNREFUSED) {
        return mvpn_fault_errno(fault, MVPN_E_CONFIG, errno, "cannot use control socket %s",
                                name->sun_path);
    }
    (void)unlink(name->sun_path); /* bind tells if it is still there */
    return 0;
}

static int listen_at(mvpn_control *control, mvpn_fault *fault)
{
    const char *path = control->name.sun_path;
    control->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (control->fd < 0) {
        return mvpn_fault_errno(fault, MVPN_E_SYSTEM, errno, "cannot open a Unix socket");
    }
    /* The mode of the socket itself, before its name exists: never wider than 0660. */
    if (fchmod(control->fd, 0660) != 0) {
        return mvpn_fault_errno(fault, MVPN_E_SYSTEM, errno, "cannot protect control socket %s",
                                path);
    }
    if (bind(control->fd, (const struct sockaddr *)&control->name, sizeof(control->name)) != 0) {
        int err = errno;
        (void)close(control->fd);
        control->fd = -1; /* the name is not ours: nothing to unlink */
        return mvpn_fault_errno(fault, MVPN_E_CONFIG, err, "cannot make control socket %s", path);
    }
    if (chmod(path, 0660) != 0 || listen(control->fd, MVPN_CONTROL_CLIENTS) != 0) {
        return mvpn_fault_errno(fault, MVPN_E_SYSTEM, errno, "cannot listen at control socket %s",
                                path);
    }
    return 0;
}

int mvpn_control_open(mvpn_control **ret, mvpn_loop *loop, const char *path, mvpn_control_fn *fn,
                      void *ctx, mvpn_fault *fault)
{
    mvpn_control *control = calloc(1, sizeof(*control));
    if (control == NULL) {
        return mvpn_fault_set(fault, MVPN_E_NOMEM, "no memory for the control socket");
    }
    control->loop = loop;
    control->fn = fn;
    control->ctx = ctx;
    control->fd = -1;
    for (unsigned i = 0; i < MVPN_CONTROL_CLIENTS; i++) {
        control->clients[i].fd = -1;
    }
    int rc = make_name(path, &control->name, fault);
    if (rc == 0) {
        rc = clear_place(&control->name, fault);
    }
    if (rc == 0) {
        rc = listen_at(control, fault);
    }
    if (rc == 0) {
        rc = mvpn_loop_watch_fd(loop, control->fd, MVPN_LOOP_READABLE, accept_ready, control,
                                &control->watch);
    }
    if (rc != 0) {
        mvpn_control_close(control);
        return rc;
    }
    *ret = control;
    return 0;
}

void mvpn_control_close(mvpn_control *control)
{
    if (control == NULL) {
        return;
    }
    for (unsigned i = 0; i < MVPN_CONTROL_CLIENTS; i++) {
        if (control->clients[i].fd >= 0) {
            hang_up(&control->clients[i]);
        }
    }
    mvpn_loop_unwatch(control->watch);
    if (control->fd >= 0) {
        (void)close(control->fd);
        (void)unlink(control->name.sun_path);
    }
    free(control);
}

int mvpn_control_asker(const mvpn_control *control)
{
    return control != NULL && control->asker != NULL ? control->asker->fd : -1;
}

/* ---- asking ---- */

static int wait_for(int fd, short events, mvpn_time end)
{
    for (;;) {
        mvpn_time now = mvpn_clock_now();
        struct pollfd pfd = {fd, events, 0};
        int ms = now < end ? (int)((end - now) / MVPN_US_PER_MS) + 1 : 0;
        int n = poll(&pfd, 1, ms);
        if (n > 0) {
            return 0;
        }
        if (n == 0) {
            return MVPN_E_TIMEOUT;
        }
        if (errno != EINTR) {
            return MVPN_E_SYSTEM;
        }
    }
}

static int send_all(int fd, const char *text, size_t len, mvpn_time end)
{
    while (len > 0) {
        ssize_t n = send(fd, text, len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n >= 0) {
            text += n;
            len -= (size_t)n;
        } else if (errno == EAGAIN) {
            int rc = wait_for(fd, POLLOUT, end);
            if (rc != 0) {
                return rc;
            }
        } else if (errno != EINTR) {
            return MVPN_E_CLOSED;
        }
    }
    return 0;
}

/* Read one line into `buf` and return its length. */
static int read_line(int fd, char *buf, size_t size, mvpn_time end, size_t *ret_len)
{
    size_t used = 0;
    while (used < size) {
        int rc = wait_for(fd, POLLIN, end);
        if (rc != 0) {
            return rc;
        }
        ssize_t n = recv(fd, buf + used, size - used, MSG_DONTWAIT);
        if (n < 0 && (errno == EINTR || errno == EAGAIN)) {
            continue;
        }
        if (n <= 0) {
            return MVPN_E_CLOSED;
        }
        const char *newline = memchr(buf + used, '\n', (size_t)n);
        used += (size_t)n;
        if (newline != NULL) {
            *ret_len = (size_t)(newline - buf);
            return 0;
        }
    }
    return MVPN_E_PROTOCOL;
}

static int connect_fault(const char *path, int err, mvpn_fault *fault)
{
    if (err == ENOENT || err == ECONNREFUSED) {
        return mvpn_fault_set(fault, MVPN_E_CLOSED, "no MeshVPN daemon answers at %s", path);
    }
    if (err == EACCES) {
        (void)mvpn_fault_set(fault, 0, "you may not open %s: use sudo, or join its group", path);
        errno = err;
        return MVPN_E_SYSTEM;
    }
    return mvpn_fault_errno(fault, MVPN_E_SYSTEM, err, "cannot connect to %s", path);
}

int mvpn_control_ask(const char *path, const json_t *request, unsigned timeout_ms, json_t **ret,
                     mvpn_fault *fault)
{
    struct sockaddr_un name;
    json_error_t error;
    size_t len = 0;
    mvpn_time end = mvpn_clock_now() + MVPN_MS(timeout_ms);
    int rc = make_name(path, &name, fault);
    if (rc != 0) {
        return rc;
    }
    int fd = connect_to(&name);
    if (fd < 0) {
        return connect_fault(path, errno, fault);
    }
    char *line = json_dumps(request, JSON_COMPACT);
    char *reply = malloc(MVPN_CONTROL_REPLY);
    rc = MVPN_E_NOMEM;
    if (line == NULL || reply == NULL) {
        goto out;
    }
    rc = send_all(fd, line, strlen(line), end);
    if (rc == 0) {
        rc = send_all(fd, "\n", 1, end);
    }
    if (rc == 0) {
        rc = read_line(fd, reply, MVPN_CONTROL_REPLY, end, &len);
    }
    if (rc == 0) {
        json_t *value = json_loadb(reply, len, DECODE_FLAGS, &error);
        if (json_is_object(value)) {
            *ret = value;
        } else {
            json_decref(value);
            rc = MVPN_E_PROTOCOL;
        }
    }
out:
    if (rc != 0) {
        (void)mvpn_fault_set(fault, rc, "the daemon at %s: %s", path, mvpn_strerror(rc));
    }
    free(line);
    free(reply);
    (void)close(fd);
    return rc;
}
