#include "io/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"

static int check_secret(const char *path, const struct stat *st, mvpn_fault *fault)
{
    if ((st->st_mode & (S_IRWXG | S_IRWXO)) != 0) {
        return mvpn_fault_set(
            fault, MVPN_E_CONFIG,
            "%s holds a secret and other users may open it (mode %04o): chmod 600 %s", path,
            (unsigned)(st->st_mode & 07777), path);
    }
    if (st->st_uid != geteuid() && st->st_uid != 0) {
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
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
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
    const char *slash = strrchr(path, '/');
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

int mvpn_file_write(const char *path, const void *content, size_t size, mode_t mode,
                    mvpn_fault *fault)
{
    char tmp[PATH_MAX];
    int len = snprintf(tmp, sizeof(tmp), "%s.tmp.XXXXXX", path);
    if (len < 0 || (size_t)len >= sizeof(tmp)) {
        return mvpn_fault_errno(fault, MVPN_E_SYSTEM, ENAMETOOLONG, "cannot write %s", path);
    }
    int fd = mkostemp(tmp, O_CLOEXEC); /* made with mode 0600 */
    if (fd < 0) {
        return mvpn_fault_errno(fault, MVPN_E_SYSTEM, errno, "cannot write %s", path);
    }
    int failed = write_all(fd, content, size) != 0 || fchmod(fd, mode) != 0 || fsync(fd) != 0;
    int err = errno;
    if (close(fd) != 0 && !failed) {
        failed = 1;
        err = errno;
    }
    if (!failed && rename(tmp, path) != 0) {
        failed = 1;
        err = errno;
    }
    if (failed) {
        (void)unlink(tmp);
        return mvpn_fault_errno(fault, MVPN_E_SYSTEM, err, "cannot write %s", path);
    }
    sync_dir_of(path);
    return 0;
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
