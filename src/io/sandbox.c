#include "io/sandbox.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/landlock.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <pwd.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/error.h"

/*
 * AddressSanitizer looks for leaks at exit by a second process that traces the first (clone,
 * ptrace, /proc): what it needs is allowed in builds with it, and in no other.
 */
#if defined(__SANITIZE_ADDRESS__)
#define IS_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define IS_SANITIZED 1
#endif
#endif
#ifndef IS_SANITIZED
#define IS_SANITIZED 0
#endif

/* ---- the user ---- */

#define NOBODY 65534u

static void set_user(mvpn_sandbox_user *ret, uid_t uid, gid_t gid, const char *name)
{
    *ret = (mvpn_sandbox_user){.uid = uid, .gid = gid, .changes = uid != geteuid()};
    if (name != NULL) {
        size_t n = strnlen(name, MVPN_SANDBOX_USER_MAX);
        memcpy(ret->name, name, n);
    }
}

/* A user namespace (a container) may not map the number: setresuid would fail. */
static bool is_mapped(uid_t uid)
{
    unsigned long long first, outside, count;
    bool is = false;
    FILE *map = fopen("/proc/self/uid_map", "re");
    if (map == NULL) {
        return false;
    }
    while (!is && fscanf(map, "%llu %llu %llu", &first, &outside, &count) == 3) {
        is = uid >= first && uid - first < count;
    }
    (void)fclose(map);
    return is;
}

int mvpn_sandbox_find_user(const char *wanted, mvpn_sandbox_user *ret, mvpn_fault *fault)
{
    const struct passwd *user = getpwnam(wanted[0] != '\0' ? wanted : MVPN_SANDBOX_USER);
    if (geteuid() != 0) {
        set_user(ret, geteuid(), getegid(), NULL);
    } else if (user != NULL) {
        set_user(ret, user->pw_uid, user->pw_gid, user->pw_name);
    } else if (wanted[0] != '\0') {
        return mvpn_fault_set(fault, MVPN_E_CONFIG,
                              "there is no user '%s' (configuration key 'user'): make it with "
                              "useradd --system --user-group --no-create-home %s",
                              wanted, wanted);
    } else if (getpwuid(MVPN_SANDBOX_UNUSED_UID) == NULL && is_mapped(MVPN_SANDBOX_UNUSED_UID)) {
        set_user(ret, MVPN_SANDBOX_UNUSED_UID, MVPN_SANDBOX_UNUSED_UID, NULL);
    } else {
        set_user(ret, NOBODY, NOBODY, "nobody");
    }
    return 0;
}

/* ---- directories ---- */

/* A plain file with one name; what else has this name is nobody's to give away. */
static void give_file(int dir, const char *name, const mvpn_sandbox_user *user)
{
    struct stat st;
    int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0) {
        return;
    }
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink == 1) {
        (void)!fchown(fd, user->uid, user->gid); /* what it may not write it replaces */
    }
    (void)close(fd);
}

static int open_dir(const char *path, DIR **ret, mvpn_fault *fault)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    *ret = fd < 0 ? NULL : fdopendir(fd);
    if (*ret == NULL && fd >= 0) {
        (void)close(fd);
    }
    return *ret != NULL ? 0 : mvpn_fault_errno(fault, MVPN_E_SYSTEM, errno, "cannot open %s", path);
}

static bool holds_directories(DIR *dir)
{
    const struct dirent *e;
    bool does = false;
    while (!does && (e = readdir(dir)) != NULL) {
        struct stat st;
        does = strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
               fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
    }
    rewinddir(dir);
    return does;
}

int mvpn_sandbox_give_dir(const char *path, const mvpn_sandbox_user *user, mvpn_fault *fault)
{
    DIR *dir;
    int rc = open_dir(path, &dir, fault);
    if (rc != 0) {
        return rc;
    }
    if (holds_directories(dir)) {
        rc =
            mvpn_fault_set(fault, MVPN_E_CONFIG,
                           "%s holds directories: give it to the user of this program yourself, or "
                           "name one that is for it alone",
                           path);
    } else if (fchown(dirfd(dir), user->uid, user->gid) != 0) {
        rc = mvpn_fault_errno(fault, MVPN_E_SYSTEM, errno, "cannot give %s to uid %u", path,
                              (unsigned)user->uid);
    }
    const struct dirent *e;
    while (rc == 0 && (e = readdir(dir)) != NULL) {
        give_file(dirfd(dir), e->d_name, user);
    }
    (void)closedir(dir);
    return rc;
}

int mvpn_sandbox_share_dir(const char *path, const char *name, const mvpn_sandbox_user *user,
                           mvpn_fault *fault)
{
    DIR *dir;
    struct stat st;
    int rc = open_dir(path, &dir, fault);
    if (rc != 0) {
        return rc;
    }
    if (holds_directories(dir) || fstat(dirfd(dir), &st) != 0) {
        rc = mvpn_fault_set(fault, MVPN_E_CONFIG,
                            "%s holds directories: it stays read-only for this program", path);
    } else if (st.st_uid != user->uid && (fchown(dirfd(dir), st.st_uid, user->gid) != 0 ||
                                          fchmod(dirfd(dir), (st.st_mode & 07777) | 01070) != 0)) {
        rc = mvpn_fault_errno(fault, MVPN_E_SYSTEM, errno, "cannot share %s with gid %u", path,
                              (unsigned)user->gid);
    }
    if (rc == 0) {
        give_file(dirfd(dir), name, user);
    }
    (void)closedir(dir);
    return rc;
}

/* ---- memory ---- */

bool mvpn_sandbox_lock(const void *secret, size_t size)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t from = (uintptr_t)secret & ~(page - 1);
    uintptr_t to = ((uintptr_t)secret + size + page - 1) & ~(page - 1);
    (void)madvise((void *)from, to - from, MADV_DONTDUMP);
    return mlock((const void *)from, to - from) == 0;
}

static int forbid_dumps(mvpn_fault *fault)
{
    const struct rlimit none = {0, 0};
    if (setrlimit(RLIMIT_CORE, &none) != 0 || prctl(PR_SET_DUMPABLE, IS_SANITIZED, 0, 0, 0) != 0) {
        return mvpn_fault_errno(fault, MVPN_E_SYSTEM, errno, "cannot forbid core files");
    }
    return 0;
}

/* ---- user and capabilities ---- */

static int become(const mvpn_sandbox_user *user, mvpn_fault *fault)
{
    if (user == NULL || !user->changes) {
        return 0;
    }
    if (setgroups(0, NULL) != 0 || setresgid(user->gid, user->gid, user->gid) != 0 ||
        setresuid(user->uid, user->uid, user->uid) != 0) {
        return mvpn_fault_errno(fault, MVPN_E_SYSTEM, errno,
                                "cannot become uid %u (give this program CAP_SETUID and "
                                "CAP_SETGID, or start it as that user, or set sandbox = off)",
                                (unsigned)user->uid);
    }
    return 0;
}

/* Before the user changes: dropping from the bounding set needs CAP_SETPCAP, which not all have. */
static void empty_bounding_set(bool keep_net_admin)
{
    for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++) {
        if (!keep_net_admin || cap != CAP_NET_ADMIN) {
            (void)prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
        }
    }
}

static int keep_capabilities(bool keep_net_admin, mvpn_fault *fault)
{
    const cap_value_t net_admin = CAP_NET_ADMIN;
    cap_flag_value_t had = CAP_CLEAR;
    cap_t now = cap_get_proc(), wanted = cap_init();
    bool ok = now != NULL && wanted != NULL;
    ok = ok && cap_get_flag(now, CAP_NET_ADMIN, CAP_PERMITTED, &had) == 0;
    if (ok && keep_net_admin && had == CAP_SET) {
        ok = cap_set_flag(wanted, CAP_PERMITTED, 1, &net_admin, CAP_SET) == 0 &&
             cap_set_flag(wanted, CAP_EFFECTIVE, 1, &net_admin, CAP_SET) == 0;
    }
    (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    ok = ok && (cap_compare(now, wanted) == 0 || cap_set_proc(wanted) == 0);
    int err = errno;
    (void)cap_free(now);
    (void)cap_free(wanted);
    return ok ? 0 : mvpn_fault_errno(fault, MVPN_E_SYSTEM, err, "cannot give up capabilities");
}

/* ---- landlock ---- */

/* Newer than the headers of Debian 12. */
#ifndef LANDLOCK_ACCESS_FS_TRUNCATE
#define LANDLOCK_ACCESS_FS_TRUNCATE (1ULL << 14) /* ABI 3 */
#endif
#define ACCESS_IOCTL_DEV (1ULL << 15)   /* ABI 5 */
#define SCOPE_ABSTRACT_UNIX (1ULL << 0) /* ABI 6 */
#define SCOPE_SIGNAL (1ULL << 1)

struct ruleset {
    uint64_t files;
    uint64_t net; /* ABI 4; not used: seccomp knows which sockets there are */
    uint64_t scoped;
};

#define ACCESS_READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define ACCESS_WRITE                                                                               \
    (ACCESS_READ | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_FILE |                \
     LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_TRUNCATE)
#define ACCESS_EDIT (ACCESS_WRITE | LANDLOCK_ACCESS_FS_MAKE_SYM)
#define ACCESS_EXECUTE (ACCESS_READ | LANDLOCK_ACCESS_FS_EXECUTE)

static uint64_t accesses_of(int abi)
{
    uint64_t all = LANDLOCK_ACCESS_FS_MAKE_SYM * 2 - 1; /* ABI 1: bits 0 to 12 */
    all |= abi >= 2 ? LANDLOCK_ACCESS_FS_REFER : 0;
    all |= abi >= 3 ? LANDLOCK_ACCESS_FS_TRUNCATE : 0;
    all |= abi >= 5 ? ACCESS_IOCTL_DEV : 0;
    return all;
}

/* A directory that is not there grants nothing. */
static bool allow_below(int ruleset, const char *dir, uint64_t access)
{
    struct landlock_path_beneath_attr attr = {.allowed_access = access};
    attr.parent_fd = open(dir, O_PATH | O_CLOEXEC);
    if (attr.parent_fd < 0) {
        return true;
    }
    long r = syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &attr, 0);
    (void)close(attr.parent_fd);
    return r == 0;
}

/*
 * What libraries read: resolver settings (replaced by the network manager at any time, so
 * directories, not files), certificates, time zones. What of /etc is secret belongs to root, and we
 * are not.
 */
static const char *const read_dirs[] = {
    "/etc",
    "/usr/share/zoneinfo",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
    "/usr/lib/ssl",
    "/run/systemd/resolve",
    "/run/resolvconf",
    "/run/NetworkManager",
};

static bool allow_all(int ruleset, const mvpn_sandbox_options *o, uint64_t handled)
{
    bool ok = true;
    if (o->role == MVPN_SANDBOX_WORKER) {
        for (size_t i = 0; i < MVPN_ARRAY_LEN(read_dirs); i++) {
            ok = ok && allow_below(ruleset, read_dirs[i], ACCESS_READ);
        }
    }
    if (o->role == MVPN_SANDBOX_PROGRAM) {
        ok = ok && allow_below(ruleset, "/", ACCESS_EXECUTE);
    }
    uint64_t edit = o->role == MVPN_SANDBOX_PROGRAM ? handled : ACCESS_EDIT & handled;
    ok = ok && (o->read_dir == NULL || allow_below(ruleset, o->read_dir, ACCESS_READ));
    for (size_t i = 0; i < MVPN_SANDBOX_DIRS; i++) {
        ok = ok && (o->edit_dirs[i] == NULL || allow_below(ruleset, o->edit_dirs[i], edit));
        ok = ok && (o->write_dirs[i] == NULL ||
                    allow_below(ruleset, o->write_dirs[i], ACCESS_WRITE & handled));
        ok = ok && (o->remove_dirs[i] == NULL ||
                    allow_below(ruleset, o->remove_dirs[i], LANDLOCK_ACCESS_FS_REMOVE_FILE));
    }
    ok = ok && (o->remove_subdirs == NULL || o->remove_subdirs[0] == '\0' ||
                allow_below(ruleset, o->remove_subdirs, LANDLOCK_ACCESS_FS_REMOVE_DIR));
    return ok && (!IS_SANITIZED || allow_below(ruleset, "/proc", ACCESS_READ));
}

static int restrict_files(const mvpn_sandbox_options *o, int *ret_abi, mvpn_fault *fault)
{
    int abi = (int)syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    *ret_abi = abi > 0 ? abi : 0;
    if (abi <= 0) {
        return 0; /* ENOSYS, EOPNOTSUPP: not built in, or switched off */
    }
    struct ruleset set = {.files = accesses_of(abi),
                          .scoped = abi >= 6 ? SCOPE_ABSTRACT_UNIX | SCOPE_SIGNAL : 0};
    size_t size = abi >= 6 ? sizeof(set) : sizeof(set.files);
    int fd = (int)syscall(SYS_landlock_create_ruleset, &set, size, 0);
    bool ok =
        fd >= 0 && allow_all(fd, o, set.files) && syscall(SYS_landlock_restrict_self, fd, 0) == 0;
    int err = errno;
    if (fd >= 0) {
        (void)close(fd);
    }
    return ok ? 0 : mvpn_fault_errno(fault, MVPN_E_SYSTEM, err, "cannot restrict files (landlock)");
}

/* ---- seccomp ---- */

/* Allowed whatever their arguments; names, because not every architecture has all. Those of the
 * packet path are here: the kernel does not even run the filter for them. */
static const char *const common_calls[] = {
    "brk",          "clock_gettime",   "clock_nanosleep", "close",          "exit",
    "exit_group",   "fstat",           "futex",           "getegid",        "geteuid",
    "getgid",       "getpid",          "getrandom",       "getsockopt",     "gettid",
    "gettimeofday", "getuid",          "lseek",           "madvise",        "mremap",
    "munlock",      "munmap",          "nanosleep",       "newfstatat",     "poll",
    "ppoll",        "pread64",         "pwrite64",        "read",           "recvfrom",
    "recvmsg",      "restart_syscall", "rt_sigaction",    "rt_sigprocmask", "rt_sigreturn",
    "sendmsg",      "sendto",          "sigaltstack",     "unlinkat",       "write",
    "writev",
};

static const char *const worker_calls[] = {
    "accept",          "accept4",         "access",     "bind",
    "clock_getres",    "connect",         "dup",        "epoll_create1",
    "epoll_ctl",       "epoll_pwait",     "epoll_wait", "eventfd2",
    "faccessat",       "faccessat2",      "fchmod",     "fdatasync",
    "fstatfs",         "fsync",           "ftruncate",  "getcwd",
    "getdents64",      "getpeername",     "getppid",    "getrlimit",
    "getrusage",       "getsockname",     "listen",     "lstat",
    "membarrier",      "mlock",           "open",       "openat",
    "pipe2",           "preadv",          "pselect6",   "pwritev",
    "readlink",        "readlinkat",      "readv",      "recvmmsg",
    "renameat",        "renameat2",       "rseq",       "sched_getaffinity",
    "sched_yield",     "select",          "sendfile",   "sendmmsg",
    "set_robust_list", "setsockopt",      "shutdown",   "stat",
    "statx",           "sysinfo",         "time",       "timerfd_create",
    "timerfd_gettime", "timerfd_settime", "times",      "umask",
    "uname",           "unlink",          "wait4",
};

static const char *const helper_calls[] = {"ftruncate", "getsockname", "recvmmsg"};

static const char *const files_calls[] = {
    "fchmod",     "fsync",    "inotify_add_watch", "linkat", "lstat",     "openat",
    "readlinkat", "renameat", "renameat2",         "stat",   "symlinkat",
};

static const char *const bus_calls[] = {
    "connect", "dup", "eventfd2", "fcntl", "getpeername", "getsockname", "setsockopt", "shutdown",
};

/* A program of the system may do what it needs, but not this. */
static const char *const program_refused[] = {
    "add_key",         "bpf",          "chroot",           "clock_settime",
    "delete_module",   "finit_module", "init_module",      "kexec_load",
    "keyctl",          "mount",        "move_mount",       "open_tree",
    "perf_event_open", "pivot_root",   "process_vm_readv", "process_vm_writev",
    "ptrace",          "quotactl",     "reboot",           "request_key",
    "setns",           "settimeofday", "swapoff",          "swapon",
    "umount2",         "unshare",      "userfaultfd",
};

static const char *const sanitizer_calls[] = {
    "arch_prctl",  "clone",
    "clone3",      "getdents",
    "open",        "fcntl",
    "getrlimit",   "ioctl",
    "kill",        "openat",
    "getdents64",  "prctl",
    "prlimit64",   "process_vm_readv",
    "ptrace",      "readlink",
    "readlinkat",  "sched_getaffinity",
    "sched_yield", "tgkill",
    "wait4",       "mmap",
    "mprotect",    "set_robust_list",
    "stat",        "rseq",
    "getppid",     "uname",
    "dup",
};

/* What has no name of its own below. */
struct filter {
    scmp_filter_ctx ctx;
    bool ok;
};

static void allow(struct filter *f, const char *name)
{
    int nr = seccomp_syscall_resolve_name(name);
    /* Negative: another architecture's. */
    f->ok = f->ok && (nr < 0 || seccomp_rule_add(f->ctx, SCMP_ACT_ALLOW, nr, 0) == 0);
}

static void allow_list(struct filter *f, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        allow(f, names[i]);
    }
}

static void allow_if(struct filter *f, int nr, unsigned count, const struct scmp_arg_cmp *args)
{
    f->ok = f->ok && seccomp_rule_add_array(f->ctx, SCMP_ACT_ALLOW, nr, count, args) == 0;
}

/* The argument `at` is one of `values`. */
static void allow_values(struct filter *f, int nr, unsigned at, const uint64_t *values,
                         size_t count)
{
    for (size_t i = 0; i < count; i++) {
        /* Only 32 bits of it count for the kernel: a filter on 64 could be passed by. */
        const struct scmp_arg_cmp arg = {at, SCMP_CMP_MASKED_EQ, UINT32_MAX, values[i]};
        allow_if(f, nr, 1, &arg);
    }
}

/* Nothing writable is ever executable, and nothing becomes executable. */
static void allow_memory(struct filter *f)
{
    const struct scmp_arg_cmp arg = {2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0};
    allow_if(f, SCMP_SYS(mmap), 1, &arg);
    allow_if(f, SCMP_SYS(mprotect), 1, &arg);
}

static void allow_socket(struct filter *f, uint64_t domain, uint64_t type, uint64_t protocol)
{
    const uint64_t flags = SOCK_CLOEXEC | SOCK_NONBLOCK;
    const struct scmp_arg_cmp args[] = {
        {0, SCMP_CMP_MASKED_EQ, UINT32_MAX, domain},
        {1, SCMP_CMP_MASKED_EQ, UINT32_MAX & ~flags, type},
        {2, SCMP_CMP_MASKED_EQ, UINT32_MAX, protocol},
    };
    allow_if(f, SCMP_SYS(socket), 3, args);
}

/* Internet datagrams and streams; no netlink, packet, raw or Unix sockets. */
static void allow_sockets(struct filter *f)
{
    static const uint64_t domains[] = {AF_INET, AF_INET6}, types[] = {SOCK_DGRAM, SOCK_STREAM};
    static const uint64_t protocols[] = {0, IPPROTO_UDP, IPPROTO_TCP};
    for (size_t d = 0; d < MVPN_ARRAY_LEN(domains); d++) {
        for (size_t t = 0; t < MVPN_ARRAY_LEN(types); t++) {
            for (size_t p = 0; p < MVPN_ARRAY_LEN(protocols); p++) {
                allow_socket(f, domains[d], types[t], protocols[p]);
            }
        }
    }
    /* Between its own threads. */
    static const uint64_t unix_domain[] = {AF_UNIX};
    allow_values(f, SCMP_SYS(socketpair), 0, unix_domain, 1);
}

/* The kernel lets them send echo requests and receive the answers, nothing else. */
static void allow_ping_sockets(struct filter *f)
{
    allow_socket(f, AF_INET, SOCK_DGRAM, IPPROTO_ICMP);
    allow_socket(f, AF_INET6, SOCK_DGRAM, IPPROTO_ICMPV6);
}

/* abort(3) and assertions; nobody else's processes. */
static void allow_own_signals(struct filter *f)
{
    const uint64_t self[] = {(uint64_t)getpid()};
    allow_values(f, SCMP_SYS(tgkill), 0, self, 1);
}

static void allow_worker(struct filter *f, bool ping_sockets)
{
    static const uint64_t fcntls[] = {F_GETFD,         F_SETFD, F_GETFL, F_SETFL, F_DUPFD,
                                      F_DUPFD_CLOEXEC, F_GETLK, F_SETLK, F_SETLKW};
    static const uint64_t ioctls[] = {FIONBIO,      FIOCLEX,     FIONCLEX, FIONREAD, SIOCOUTQ,
                                      SIOCGIFINDEX, SIOCGIFNAME, 0x5401 /* TCGETS: isatty */};
    static const uint64_t prctls[] = {PR_SET_NAME, PR_GET_DUMPABLE};
    /* A new thread, not a new process; clone3 hides its flags from filters: as if it were not
     * there. */
    const struct scmp_arg_cmp thread = {0, SCMP_CMP_MASKED_EQ, CLONE_THREAD | CLONE_VM,
                                        CLONE_THREAD | CLONE_VM};
    const struct scmp_arg_cmp only_ask = {2, SCMP_CMP_EQ, 0, 0};
    allow_list(f, worker_calls, MVPN_ARRAY_LEN(worker_calls));
    allow_values(f, SCMP_SYS(fcntl), 1, fcntls, MVPN_ARRAY_LEN(fcntls));
    allow_values(f, SCMP_SYS(ioctl), 1, ioctls, MVPN_ARRAY_LEN(ioctls));
    allow_values(f, SCMP_SYS(prctl), 0, prctls, MVPN_ARRAY_LEN(prctls));
    allow_if(f, SCMP_SYS(prlimit64), 1, &only_ask);
    allow_sockets(f);
    if (ping_sockets) {
        allow_ping_sockets(f);
    }
    if (!IS_SANITIZED) {
        allow_if(f, SCMP_SYS(clone), 1, &thread);
        f->ok = f->ok && seccomp_rule_add(f->ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0) == 0;
    }
}

static void allow_helper(struct filter *f)
{
    const struct scmp_arg_cmp mark[] = {{1, SCMP_CMP_MASKED_EQ, UINT32_MAX, SOL_SOCKET},
                                        {2, SCMP_CMP_MASKED_EQ, UINT32_MAX, SO_MARK}};
    allow_list(f, helper_calls, MVPN_ARRAY_LEN(helper_calls));
    allow_if(f, SCMP_SYS(setsockopt), 2, mark);
}

static void allow_bus(struct filter *f)
{
    static const uint64_t unix_domain[] = {AF_UNIX};
    allow_list(f, bus_calls, MVPN_ARRAY_LEN(bus_calls));
    allow_values(f, SCMP_SYS(socket), 0, unix_domain, 1);
    allow_values(f, SCMP_SYS(socketpair), 0, unix_domain, 1);
}

static int load(const struct filter *f)
{
    /* Logarithmic instead of linear search; only newer kernels need neither. */
    (void)seccomp_attr_set(f->ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    return f->ok ? seccomp_load(f->ctx) : -EINVAL;
}

/* The one list of what is refused: who runs shell scripts of others cannot know what they need. */
static int refuse_calls(void)
{
    struct filter f = {seccomp_init(SCMP_ACT_ALLOW), true};
    for (size_t i = 0; f.ctx != NULL && i < MVPN_ARRAY_LEN(program_refused); i++) {
        int nr = seccomp_syscall_resolve_name(program_refused[i]);
        f.ok = f.ok && (nr < 0 || seccomp_rule_add(f.ctx, SCMP_ACT_ERRNO(EPERM), nr, 0) == 0);
    }
    int r = f.ctx != NULL ? load(&f) : -ENOMEM;
    seccomp_release(f.ctx);
    return r;
}

static int told_calls(int r, mvpn_fault *fault)
{
    return r == 0 ? 0
                  : mvpn_fault_errno(fault, MVPN_E_SYSTEM, -r,
                                     "cannot restrict system calls (seccomp)%s",
                                     r == -EINVAL ? ": the kernel was built without it, or this is "
                                                    "an emulated one; set sandbox = off"
                                                  : "");
}

static int restrict_calls(const mvpn_sandbox_options *o, mvpn_fault *fault)
{
    enum mvpn_sandbox_role role = o->role;
    if (role == MVPN_SANDBOX_PROGRAM) {
        return told_calls(refuse_calls(), fault);
    }
    /* EPERM rather than death: a library that tries something odd goes on without it. */
    struct filter f = {seccomp_init(SCMP_ACT_ERRNO(EPERM)), true};
    if (f.ctx == NULL) {
        return mvpn_fault_set(fault, MVPN_E_NOMEM, "no memory for a system call filter");
    }
    allow_list(&f, common_calls, MVPN_ARRAY_LEN(common_calls));
    if (IS_SANITIZED) {
        allow_list(&f, sanitizer_calls, MVPN_ARRAY_LEN(sanitizer_calls));
    }
    if (!IS_SANITIZED) {
        allow_memory(&f);
        allow_own_signals(&f);
    }
    if (role == MVPN_SANDBOX_WORKER) {
        allow_worker(&f, o->ping_sockets);
    } else if (role == MVPN_SANDBOX_FILES) {
        allow_list(&f, files_calls, MVPN_ARRAY_LEN(files_calls));
    } else if (role == MVPN_SANDBOX_BUS) {
        allow_bus(&f);
    } else {
        allow_helper(&f);
    }
    int r = load(&f);
    seccomp_release(f.ctx);
    return told_calls(r, fault);
}

/* ---- all of it ---- */

static int check_user(const mvpn_sandbox_options *o, mvpn_fault *fault)
{
    uid_t ruid, euid, suid;
    bool ok = getresuid(&ruid, &euid, &suid) == 0;
    if (o->user != NULL && o->user->changes) {
        ok = ok && ruid == o->user->uid && euid == o->user->uid && suid == o->user->uid &&
             setuid(0) != 0;
    }
    return ok ? 0 : mvpn_fault_set(fault, MVPN_E_SYSTEM, "the change of user did not take");
}

int mvpn_sandbox_enter(const mvpn_sandbox_options *options, mvpn_sandbox_state *ret,
                       mvpn_fault *fault)
{
    int abi = 0;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        return mvpn_fault_errno(fault, MVPN_E_SYSTEM, errno, "cannot give up privileges");
    }
    empty_bounding_set(options->keep_net_admin);
    /* Before the user changes, who may not reach the directories any more. */
    int rc = restrict_files(options, &abi, fault);
    rc = rc != 0 ? rc : become(options->user, fault);
    rc = rc != 0 ? rc : keep_capabilities(options->keep_net_admin, fault);
    rc = rc != 0 ? rc : check_user(options, fault);
    rc = rc != 0 ? rc : forbid_dumps(fault); /* a change of user sets it anew */
    rc = rc != 0 ? rc : restrict_calls(options, fault);
    if (rc == 0) {
        ret->landlock_abi = abi;
    }
    return rc;
}
