#include "io/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"

#define PINS_MAX 4   /* keys, state, and those of a test */
#define OWNERS_MAX 2 /* the user of the configuration, and who stands in for it */
#define SUFFIX_LEN 6 /* of temporary files, as mkstemp(3) */

/* One per process, as its root directory is. */
static struct {
    char dir[PATH_MAX];
    int fd;
} pins[PINS_MAX];
static unsigned pin_count;
static uid_t owners[OWNERS_MAX];
static unsigned owner_count;

int mvpn_file_pin_dir(const char *dir)
{
    size_t len = strlen(dir);
    for (unsigned i = 0; i < pin_count; i++) {
        if (strcmp(pins[i].dir, dir) == 0) {
            return pins[i].fd;
        }
    }
    int fd =
        pin_count < PINS_MAX && len < PATH_MAX ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        memcpy(pins[pin_count].dir, dir, len + 1);
        pins[pin_count++].fd = fd;
    }
    return fd;
}

void mvpn_file_trust_owner(uid_t uid)
{
    if (owner_count < OWNERS_MAX) {
        owners[owner_count++] = uid;
    }
}

/* Where to begin and what is left of the path; AT_FDCWD and all of it if its directory is not
 * pinned. */
static int place_of(const char **path)
{
    const char *slash = strrchr(*path, '/');
    for (unsigned i = 0; slash != NULL && i < pin_count; i++) {
        size_t len = strlen(pins[i].dir);
        if (len == (size_t)(slash - *path) && memcmp(pins[i].dir, *path, len) == 0) {
            *path = slash + 1;
            return pins[i].fd;
        }
    }
    return AT_FDCWD;
}

static bool is_trusted(uid_t uid)
{
    bool is = uid == geteuid() || uid == 0;
    for (unsigned i = 0; i < owner_count; i++) {
        is |= uid == owners[i];
    }
    return is;
}

static int check_secret(const char *path, const struct stat *st, mvpn_fault *fault)
{
    if ((st->st_mode & (S_IRWXG | S_IRWXO)) != 0) {
        return mvpn_fault_set(
            fault, MVPN_E_CONFIG,
            "%s holds a secret and other users may open it (mode %04o): chmod 600 %s", path,
            (unsigned)(st->st_mode & 07777), path);
    }
    if (!is_trusted(st->st_uid)) {
        return mvpn_fault_set(fault, MVPN_E_CONFIG,
                              "%s holds a secret and belongs to another user (uid %u): chown %u %s",
                              path, (unsigned)st->st_uid, (unsigned)geteuid(), path);
    }
    return 0;
}

static int check_stat(const char *path, const struct stat *st, size_t size_max, bool is_secret,
                      mvpn_fault *fault)
{
    if (!S_ISREG(st->st_mode)) {
        return mvpn_fault_set(fault, MVPN_E_CONFIG, "%s is not a regular file", path);
    }
    if (st->st_size < 0 || (uintmax_t)st->st_size > size_max) {
        return mvpn_fault_set(fault, MVPN_E_CONFIG,
                              "%s is too big: %jd bytes, at most %zu are allowed", path,
                              (intmax_t)st->st_size, size_max);
    }
    return is_secret ? check_secret(path, st, fault) : 0;
}

/* Read until the end; one byte more than expected means that it grew while we read. */
static int read_all(int fd, uint8_t *buf, size_t size, size_t *ret_size)
{
    size_t used = 0;
    while (used <= size) {
        ssize_t n = read(fd, buf + used, size + 1 - used);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -1;
        }
        if (n == 0) {
            *ret_size = used;
            return 0;
        }
        used += (size_t)n;
    }
    errno = EBUSY;
    return -1;
}

int mvpn_file_read(const char *path, size_t size_max, bool is_secret, uint8_t **ret,
                   size_t *ret_size, mvpn_fault *fault)
{
    struct stat st;
    uint8_t *content = NULL;
    size_t size = 0;
    int rc;
    /* O_NONBLOCK: do not hang on a FIFO; the type is checked next. */
    const char *name = path;
    int dir = place_of(&name);
    int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        int err = errno;
        return mvpn_fault_errno(fault, err == ENOENT ? MVPN_E_UNKNOWN : MVPN_E_SYSTEM, err,
                                "cannot open %s", path);
    }
    if (fstat(fd, &st) != 0) {
        rc = mvpn_fault_errno(fault, MVPN_E_SYSTEM, errno, "cannot examine %s", path);
        goto out;
    }
    rc = check_stat(path, &st, size_max, is_secret, fault);
    if (rc != 0) {
        goto out;
    }
    content = malloc((size_t)st.st_size + 1);
    if (content == NULL) {
        rc = mvpn_fault_set(fault, MVPN_E_NOMEM, "no memory to read %s", path);
        goto out;
    }
    if (read_all(fd, content, (size_t)st.st_size, &size) != 0) {
        rc = mvpn_fault_errno(fault, MVPN_E_SYSTEM, errno, "cannot read %s", path);
        mvpn_file_free(content, (size_t)st.st_size + 1);
        goto out;
    }
    content[size] = '\0';
    *ret = content;
    *ret_size = size;
out:
    (void)close(fd);
    return rc;
}

void mvpn_file_free(uint8_t *content, size_t size)
{
    if (content != NULL) {
        explicit_bzero(content, size);
        free(content);
    }
}

static int write_all(int fd, const uint8_t *content, size_t size)
{
    while (size > 0) {
        ssize_t n = write(fd, content, size);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -1;
        }
        content += n;
        size -= (size_t)n;
    }
    return 0;
}

/* Make a rename durable. Some file systems cannot sync a directory: nothing to be done there. */
static void sync_dir_of(const char *path)
{
    char dir[PATH_MAX];
    const char *slash = strrchr(path, '/'), *name = path;
    int pinned = place_of(&name);
    if (pinned != AT_FDCWD) {
        (void)fsync(pinned);
        return;
    }
    size_t len = slash == NULL ? 0 : (size_t)(slash - path);
    if (slash == NULL) {
        (void)snprintf(dir, sizeof(dir), ".");
    } else {
        (void)snprintf(dir, sizeof(dir), "%.*s", len > 0 ? (int)len : 1, path);
    }
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        (void)fsync(fd);
        (void)close(fd);
    }
}

/* mkostemp(3), beginning at a directory: made with mode 0600. */
static int open_temporary(int dir, char *name)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    char *suffix = name + strlen(name) - SUFFIX_LEN;
    uint8_t random[SUFFIX_LEN];
    for (unsigned tries = 0; tries < 16; tries++) {
        if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random)) {
            return -1;
        }
        for (unsigned i = 0; i < SUFFIX_LEN; i++) {
            suffix[i] = letters[random[i] % (sizeof(letters) - 1)];
        }
        int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd >= 0 || errno != EEXIST) {
            return fd;
        }
    }
    return -1;
}

/* `owner`: who gets it, if not we. */
static int write_file(const char *path, const void *content, size_t size, mode_t mode,
                      const struct stat *owner, mvpn_fault *fault)
{
    char tmp[PATH_MAX];
    const char *name = path;
    int dir = place_of(&name);
    int len = snprintf(tmp, sizeof(tmp), "%s.tmp.XXXXXX", name);
    if (len < 0 || (size_t)len >= sizeof(tmp)) {
        return mvpn_fault_errno(fault, MVPN_E_SYSTEM, ENAMETOOLONG, "cannot write %s", path);
    }
    int fd = open_temporary(dir, tmp);
    if (fd < 0) {
        return mvpn_fault_errno(fault, MVPN_E_SYSTEM, errno, "cannot write %s", path);
    }
    bool is_foreign = owner != NULL && (owner->st_uid != geteuid() || owner->st_gid != getegid());
    int failed = write_all(fd, content, size) != 0 ||
                 (is_foreign && fchown(fd, owner->st_uid, owner->st_gid) != 0) ||
                 fchmod(fd, mode) != 0 || fsync(fd) != 0;
    int err = errno;
    if (close(fd) != 0 && !failed) {
        failed = 1;
        err = errno;
    }
    if (!failed && renameat(dir, tmp, dir, name) != 0) {
        failed = 1;
        err = errno;
    }
    if (failed) {
        (void)unlinkat(dir, tmp, 0);
        return mvpn_fault_errno(fault, MVPN_E_SYSTEM, err, "cannot write %s", path);
    }
    sync_dir_of(path);
    return 0;
}

int mvpn_file_write(const char *path, const void *content, size_t size, mode_t mode,
                    mvpn_fault *fault)
{
    return write_file(path, content, size, mode, NULL, fault);
}

int mvpn_file_replace(const char *path, const void *content, size_t size, mode_t mode,
                      mvpn_fault *fault)
{
    struct stat st;
    if (stat(path, &st) != 0) {
        return write_file(path, content, size, mode, NULL, fault);
    }
    return write_file(path, content, size, st.st_mode & 07777, &st, fault);
}

int mvpn_file_make_dir(const char *path, mode_t mode, mvpn_fault *fault)
{
    struct stat st;
    if (mkdir(path, mode) == 0 ||
        (errno == EEXIST && stat(path, &st) == 0 && S_ISDIR(st.st_mode))) {
        return 0;
    }
    return mvpn_fault_errno(fault, MVPN_E_SYSTEM, errno, "cannot make directory %s", path);
}
