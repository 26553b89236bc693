#include "io/host_dns_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "network/ip/inner.h"

#define CONF "resolv.conf"
#define BACKUP "resolv.conf.meshvpn-backup"
#define NEW "resolv.conf.meshvpn-new"
#define NOTHING "/nonexistent/nothing-was-here"
/* Who writes it in steps is given this long to finish. */
#define SETTLE_MS 50

struct mvpn_dns_file {
    int dir, events;
    bool is_mount; /* cannot be renamed */
    mvpn_addr servers[2];
    size_t server_count;
    size_t former_len, ours_len;
    char former[MVPN_RESOLV_CONF_MAX]; /* as it was at the start: its options */
    char ours[MVPN_RESOLV_CONF_OWN_MAX];
    char seen[MVPN_RESOLV_CONF_MAX];
};

enum kind { ABSENT, OURS, FOREIGN };
#define UNREAD SIZE_MAX

/* ---- reading ---- */

/* Returns the length; -1 with errno. What is longer than `size` is no resolv.conf: EFBIG. */
static ssize_t read_all(int dir, const char *name, int flags, char *out, size_t size)
{
    int fd = openat(dir, name, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC | flags);
    size_t at = 0;
    ssize_t n = 1;
    if (fd < 0) {
        return -1;
    }
    while (n > 0 && at < size) {
        n = read(fd, out + at, size - at);
        at += n > 0 ? (size_t)n : 0;
    }
    int err = n < 0 ? errno : EFBIG;
    (void)close(fd);
    errno = err;
    return n == 0 ? (ssize_t)at : -1;
}

/* We never make a link: what is one is somebody's. */
static enum kind look(mvpn_dns_file *f, const char *name, size_t *ret_len)
{
    char tun[MVPN_RESOLV_CONF_TUN_MAX + 1];
    struct stat st;
    *ret_len = 0;
    if (fstatat(f->dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
        return ABSENT;
    }
    ssize_t n =
        S_ISREG(st.st_mode) ? read_all(f->dir, name, O_NOFOLLOW, f->seen, sizeof(f->seen)) : -1;
    if (n < 0) {
        *ret_len = UNREAD;
        return FOREIGN;
    }
    *ret_len = (size_t)n;
    mvpn_bytes text = mvpn_bytes_of(f->seen, (size_t)n);
    bool is_ours = mvpn_resolv_conf_is_ours(text, tun) ||
                   mvpn_resolv_conf_asks(text, f->servers, f->server_count, false);
    return is_ours ? OURS : FOREIGN;
}

static bool is_hole(const mvpn_dns_file *f)
{
    char target[sizeof(NOTHING)];
    ssize_t n = readlinkat(f->dir, BACKUP, target, sizeof(target));
    return n == (ssize_t)strlen(NOTHING) && memcmp(target, NOTHING, (size_t)n) == 0;
}

static bool is_there(const mvpn_dns_file *f, const char *name)
{
    struct stat st;
    return fstatat(f->dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

/* ---- writing ---- */

static int failed(mvpn_fault *fault, int err, const char *what)
{
    const char *remedy = err == EROFS   ? " (the file system is read-only: set dns = none, or let "
                                          "this program write /etc)"
                         : err == EPERM ? " (is it immutable? lsattr, chattr -i; or set dns = none)"
                         : err == EACCES ? " (this program must run as root for that, or set dns = "
                                           "none)"
                                         : "";
    return mvpn_fault_errno(fault, MVPN_E_SYSTEM, err, "cannot %s /etc/" CONF "%s", what, remedy);
}

static int write_all(int fd, const char *text, size_t n)
{
    size_t at = 0;
    while (at < n) {
        ssize_t r = write(fd, text + at, n - at);
        if (r <= 0 && errno != EINTR) {
            return -1;
        }
        at += r > 0 ? (size_t)r : 0;
    }
    return fsync(fd);
}

static int write_file(const mvpn_dns_file *f, const char *name, const char *text, size_t n)
{
    (void)unlinkat(f->dir, name, 0);
    int fd = openat(f->dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd < 0) {
        return -1;
    }
    int r = fchmod(fd, 0644) == 0 ? write_all(fd, text, n) : -1;
    int err = errno;
    (void)close(fd);
    errno = err;
    return r;
}

static int write_in_place(const mvpn_dns_file *f, const char *text, size_t n)
{
    int fd = openat(f->dir, CONF, O_WRONLY | O_TRUNC | O_CLOEXEC);
    if (fd < 0) {
        return -1;
    }
    int r = write_all(fd, text, n);
    int err = errno;
    (void)close(fd);
    errno = err;
    return r;
}

static int rename_to(const mvpn_dns_file *f, const char *from, const char *to)
{
    return renameat(f->dir, from, f->dir, to);
}

/* ---- ours in, theirs out ---- */

/* A mount point: only its content can change. `seen` holds it. */
static int copy_in(mvpn_dns_file *f, enum kind kind, size_t len)
{
    f->is_mount = true;
    if (len == UNREAD) {
        errno = EACCES;
        return -1;
    }
    if (kind == FOREIGN && (write_file(f, NEW, f->seen, len) != 0 ||
                            rename_to(f, NEW, BACKUP) != 0 || fsync(f->dir) != 0)) {
        return -1;
    }
    (void)unlinkat(f->dir, NEW, 0);
    return write_in_place(f, f->ours, f->ours_len);
}

/* Theirs becomes the backup in the step that puts ours there; not every file system can do that. */
static int exchange(mvpn_dns_file *f)
{
    if (renameat2(f->dir, NEW, f->dir, CONF, RENAME_EXCHANGE) == 0) {
        return rename_to(f, NEW, BACKUP);
    }
    if (errno != EINVAL && errno != ENOSYS) {
        return -1;
    }
    (void)unlinkat(f->dir, BACKUP, 0);
    return linkat(f->dir, CONF, f->dir, BACKUP, 0) == 0 && fsync(f->dir) == 0
               ? rename_to(f, NEW, CONF)
               : -1;
}

static int put_ours(mvpn_dns_file *f, mvpn_fault *fault)
{
    size_t len = 0;
    int r = 0;
    enum kind kind = look(f, CONF, &len);
    if (f->is_mount) {
        r = copy_in(f, kind, len);
    } else {
        r = write_file(f, NEW, f->ours, f->ours_len);
        if (r == 0 && kind == ABSENT && !is_there(f, BACKUP)) {
            r = symlinkat(NOTHING, f->dir, BACKUP) == 0 ? fsync(f->dir) : -1;
        }
        if (r == 0) {
            r = kind == FOREIGN ? exchange(f) : rename_to(f, NEW, CONF);
        }
        if (r != 0 && errno == EBUSY) {
            r = copy_in(f, kind, len);
        }
    }
    r = r == 0 ? fsync(f->dir) : r;
    return r == 0 ? 0 : failed(fault, errno, "change");
}

static int put_back(mvpn_dns_file *f)
{
    if (is_hole(f)) {
        return unlinkat(f->dir, CONF, 0) == 0 || errno == ENOENT ? unlinkat(f->dir, BACKUP, 0) : -1;
    }
    if (rename_to(f, BACKUP, CONF) == 0) {
        return 0;
    }
    if (errno != EBUSY) {
        return -1;
    }
    ssize_t n = read_all(f->dir, BACKUP, O_NOFOLLOW, f->seen, sizeof(f->seen));
    return n >= 0 && write_in_place(f, f->seen, (size_t)n) == 0 ? unlinkat(f->dir, BACKUP, 0) : -1;
}

int mvpn_dns_file_restore(mvpn_dns_file *f, mvpn_fault *fault)
{
    size_t len = 0;
    (void)unlinkat(f->dir, NEW, 0);
    if (!is_there(f, BACKUP)) {
        return 0;
    }
    if (look(f, CONF, &len) == FOREIGN) {
        (void)unlinkat(f->dir, BACKUP, 0);
        return mvpn_fault_set(fault, MVPN_E_STATE,
                              "/etc/" CONF
                              " was written by another program in the end: it stays so");
    }
    return put_back(f) == 0 && fsync(f->dir) == 0 ? 0 : failed(fault, errno, "restore");
}

/* ---- life ---- */

/* -1: there is no watching here, only looking. */
static int watch(const char *dir)
{
    int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (fd >= 0 &&
        inotify_add_watch(
            fd, dir, IN_CLOSE_WRITE | IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO) < 0) {
        (void)close(fd);
        fd = -1;
    }
    return fd;
}

int mvpn_dns_file_open(const char *dir, mvpn_dns_file **ret, mvpn_fault *fault)
{
    mvpn_dns_file *f = calloc(1, sizeof(*f));
    if (f == NULL) {
        return mvpn_fault_set(fault, MVPN_E_NOMEM, "no memory for the name servers");
    }
    f->servers[0] = mvpn_inner_gateway_addr(4);
    f->servers[1] = mvpn_inner_gateway_addr(6);
    f->server_count = 2;
    f->events = -1;
    f->dir = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (f->dir < 0 || faccessat(f->dir, ".", W_OK, AT_EACCESS) != 0) {
        int r = failed(fault, errno, "change");
        mvpn_dns_file_close(f);
        return r;
    }
    ssize_t n = read_all(f->dir, CONF, 0, f->former, sizeof(f->former));
    f->former_len = n > 0 ? (size_t)n : 0;
    f->events = watch(dir);
    *ret = f;
    return 0;
}

void mvpn_dns_file_close(mvpn_dns_file *f)
{
    if (f == NULL) {
        return;
    }
    if (f->dir >= 0) {
        (void)close(f->dir);
    }
    if (f->events >= 0) {
        (void)close(f->events);
    }
    free(f);
}

int mvpn_dns_file_set(mvpn_dns_file *f, const char *tun, const mvpn_addr *servers, size_t count,
                      mvpn_fault *fault)
{
    f->server_count = MVPN_MIN(count, MVPN_ARRAY_LEN(f->servers));
    memcpy(f->servers, servers, f->server_count * sizeof(f->servers[0]));
    f->ours_len = mvpn_resolv_conf_write(mvpn_bytes_of(f->former, f->former_len), tun, servers,
                                         count, f->ours);
    return put_ours(f, fault);
}

int mvpn_dns_file_fd(const mvpn_dns_file *f)
{
    return f->events;
}

bool mvpn_dns_file_is_blind(const mvpn_dns_file *f)
{
    return f->is_mount || f->events < 0;
}

static void drain(int events)
{
    char buffer[4096] __attribute__((aligned(8)));
    while (events >= 0 && read(events, buffer, sizeof(buffer)) > 0) {
    }
}

static bool is_as_set(mvpn_dns_file *f)
{
    size_t len = 0;
    return look(f, CONF, &len) == OURS && len == f->ours_len && memcmp(f->seen, f->ours, len) == 0;
}

int mvpn_dns_file_tend(mvpn_dns_file *f, bool *ret_repaired, mvpn_fault *fault)
{
    const struct timespec settle = {0, SETTLE_MS * 1000000L};
    *ret_repaired = false;
    drain(f->events);
    if (is_as_set(f)) {
        return 0;
    }
    (void)nanosleep(&settle, NULL);
    drain(f->events);
    if (is_as_set(f)) {
        return 0;
    }
    int r = put_ours(f, fault);
    *ret_repaired = r == 0;
    drain(f->events); /* our own doing */
    return r;
}

/* Who is between two steps of an exchange has left theirs under the other name. */
static void finish_exchange(mvpn_dns_file *f)
{
    size_t len = 0;
    if (is_there(f, NEW) && look(f, NEW, &len) == FOREIGN && look(f, CONF, &len) == OURS) {
        (void)!rename_to(f, NEW, BACKUP);
    }
}

bool mvpn_dns_file_is_left(const char *dir)
{
    static const char *const names[] = {BACKUP, NEW};
    char path[PATH_MAX];
    struct stat st;
    bool is_left = false;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(names); i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
        is_left |= lstat(path, &st) == 0;
    }
    return is_left;
}

int mvpn_dns_file_mend(const char *dir, mvpn_fault *fault)
{
    char tun[MVPN_RESOLV_CONF_TUN_MAX + 1];
    mvpn_dns_file *f = NULL;
    size_t len = 0;
    if (!mvpn_dns_file_is_left(dir)) {
        return 0; /* also for whom may not write there */
    }
    int r = mvpn_dns_file_open(dir, &f, fault);
    if (f == NULL) {
        return r;
    }
    if (look(f, CONF, &len) == OURS && mvpn_resolv_conf_is_ours(mvpn_bytes_of(f->seen, len), tun) &&
        tun[0] != '\0' && if_nametoindex(tun) != 0) {
        r = mvpn_fault_set(fault, MVPN_E_BUSY,
                           "another client (interface %s) looks after /etc/" CONF
                           ": end it, or set "
                           "dns = none",
                           tun);
    } else {
        finish_exchange(f);
        r = mvpn_dns_file_restore(f, fault);
    }
    mvpn_dns_file_close(f);
    return r;
}
