/*
 * A program with a planted bug: somebody else's code runs in it. It enters the sandbox of a worker
 * or of a helper, as the real programs do, or none, and then tries what an intruder would try. One
 * line for each: "possible NAME" or "refused NAME (errno)". tests/netns/privileges.sh compares.
 *
 *     attack none|worker|pinger|helper STATE-DIR KEY-DIR OTHER-DIR      as root, in a network
 * namespace of its own
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io/file.h"
#include "io/netlink.h"
#include "io/sandbox.h"

static struct {
    const char *state_dir, *key_dir, *other_dir;
    pid_t victim; /* a process of the same user, which may be traced */
    mvpn_netlink *routes;
    int tcp;
} world;

/* Each returns true if it worked, else false with errno. */

static bool opens(const char *path, int flags)
{
    int fd = open(path, flags, 0600);
    if (fd >= 0) {
        (void)close(fd);
    }
    return fd >= 0;
}

static bool opens_socket(int domain, int type, int protocol)
{
    int fd = socket(domain, type, protocol);
    if (fd >= 0) {
        (void)close(fd);
    }
    return fd >= 0;
}

static bool child_succeeds(pid_t pid)
{
    int status = 0;
    return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
           WEXITSTATUS(status) == 0;
}

static bool read_shadow(void)
{
    return opens("/etc/shadow", O_RDONLY);
}

static bool write_outside(void)
{
    char path[4096];
    (void)snprintf(path, sizeof(path), "%s/intruder", world.other_dir);
    return opens(path, O_WRONLY | O_CREAT);
}

static bool read_outside(void)
{
    char path[4096];
    (void)snprintf(path, sizeof(path), "%s/readable", world.other_dir);
    return opens(path, O_RDONLY);
}

static bool remove_outside(void)
{
    char path[4096];
    (void)snprintf(path, sizeof(path), "%s/removable", world.other_dir);
    return unlinkat(AT_FDCWD, path, 0) == 0;
}

static bool write_state(void)
{
    char path[4096];
    (void)snprintf(path, sizeof(path), "%s/state", world.state_dir);
    return mvpn_file_write(path, "x", 1, 0600, NULL) == 0;
}

/* The weekly key is written so; the directory holds other keys and the configuration. */
static bool replace_onion_key(void)
{
    char path[4096];
    (void)snprintf(path, sizeof(path), "%s/onion.key", world.key_dir);
    return mvpn_file_write(path, "x", 1, 0600, NULL) == 0;
}

static bool replace_configuration(void)
{
    char path[4096];
    (void)snprintf(path, sizeof(path), "%s/relay.conf", world.key_dir);
    return mvpn_file_write(path, "x", 1, 0600, NULL) == 0;
}

static bool read_identity(void)
{
    char path[4096];
    uint8_t *content;
    size_t size;
    (void)snprintf(path, sizeof(path), "%s/identity.key", world.key_dir);
    if (mvpn_file_read(path, 100, true, &content, &size, NULL) != 0) {
        return false;
    }
    mvpn_file_free(content, size);
    return true;
}

static bool run_program(void)
{
    char *argv[] = {(char[]){"true"}, NULL};
    char *envp[] = {NULL};
    /* In this very process: a refused one must not look like a refused fork. The last of all. */
    (void)execve("/bin/true", argv, envp);
    return false;
}

static bool fork_process(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        _exit(0);
    }
    return child_succeeds(pid);
}

static bool new_namespace(void)
{
    return unshare(CLONE_NEWNET) == 0; /* after what needs the old one */
}

static bool trace(void)
{
    if (ptrace(PTRACE_SEIZE, world.victim, NULL, NULL) != 0) {
        return false;
    }
    (void)ptrace(PTRACE_DETACH, world.victim, NULL, NULL);
    return true;
}

static bool read_memory(void)
{
    char here = 0;
    struct iovec to = {&here, 1}, from = {&world, 1};
    return process_vm_readv(world.victim, &to, 1, &from, 1, 0) == 1;
}

static bool signal_other(void)
{
    return kill(world.victim, 0) == 0;
}

static bool signal_thread_of_other(void)
{
    return syscall(SYS_tgkill, world.victim, world.victim, 0) == 0;
}

static bool signal_by_io(void)
{
    /* SIGIO to whoever is named: a signal without kill(2). */
    return fcntl(world.tcp, F_SETOWN, world.victim) == 0;
}

static bool open_netlink(void)
{
    return opens_socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
}

static bool open_raw(void)
{
    return opens_socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
}

static bool open_packet(void)
{
    return opens_socket(AF_PACKET, SOCK_RAW, 0);
}

static bool open_unix(void)
{
    return opens_socket(AF_UNIX, SOCK_STREAM, 0);
}

static bool open_udp(void)
{
    return opens_socket(AF_INET, SOCK_DGRAM, 0);
}

static bool open_ping(void)
{
    return opens_socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP) &&
           opens_socket(AF_INET6, SOCK_DGRAM, IPPROTO_ICMPV6);
}

static bool open_tun(void)
{
    return opens("/dev/net/tun", O_RDWR);
}

static bool set_mark(void)
{
    int mark = 1;
    return setsockopt(world.tcp, SOL_SOCKET, SO_MARK, &mark, sizeof(mark)) == 0;
}

static bool change_routes(void)
{
    return mvpn_netlink_link_up(world.routes, 1, 65536, NULL) == 0; /* lo */
}

static bool list_routes(void)
{
    const mvpn_prefix any = {{.family = 4, .ip = {10, 8}}, 24};
    bool clashes;
    return mvpn_netlink_find_clash(world.routes, &any, 0, &clashes, NULL) == 0;
}

static bool map_writable_and_executable(void)
{
    void *p =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        return false;
    }
    return munmap(p, 4096) == 0;
}

static bool make_executable(void)
{
    void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p != MAP_FAILED && mprotect(p, 4096, PROT_READ | PROT_EXEC) == 0;
}

static bool become_root(void)
{
    return setresuid(0, 0, 0) == 0;
}

static bool change_owner(void)
{
    return fchownat(AT_FDCWD, world.state_dir, 0, 0, 0) == 0;
}

static bool mount_something(void)
{
    return mount("none", world.other_dir, "tmpfs", 0, NULL) == 0 && umount(world.other_dir) == 0;
}

static bool make_memory_file(void)
{
    int fd = memfd_create("x", 0);
    return fd >= 0 && close(fd) == 0;
}

static bool make_io_uring(void)
{
    uint64_t params[15] = {0};
    long fd = syscall(SYS_io_uring_setup, 4, params);
    return fd >= 0 && close((int)fd) == 0;
}

static bool can_be_dumped(void)
{
    struct stat st;
    errno = EPERM;
    return prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 1 && stat("/", &st) == 0;
}

static const struct {
    const char *name;
    bool (*try)(void);
} attacks[] = {
    {"read-etc-shadow", read_shadow},
    {"read-outside", read_outside},
    {"write-outside", write_outside},
    {"remove-outside", remove_outside},
    {"write-state", write_state},
    {"replace-onion-key", replace_onion_key},
    {"replace-configuration", replace_configuration},
    {"read-identity-key", read_identity},
    {"fork", fork_process},
    {"ptrace", trace},
    {"read-memory-of-others", read_memory},
    {"signal-others", signal_other},
    {"signal-threads-of-others", signal_thread_of_other},
    {"signal-by-io", signal_by_io},
    {"netlink-socket", open_netlink},
    {"raw-socket", open_raw},
    {"packet-socket", open_packet},
    {"unix-socket", open_unix},
    {"udp-socket", open_udp},
    {"ping-socket", open_ping},
    {"open-tun", open_tun},
    {"set-mark", set_mark},
    {"list-routes", list_routes},
    {"change-links", change_routes},
    {"map-writable-and-executable", map_writable_and_executable},
    {"make-executable", make_executable},
    {"change-owner", change_owner},
    {"mount", mount_something},
    {"memory-file", make_memory_file},
    {"io-uring", make_io_uring},
    {"dumpable", can_be_dumped},
    {"new-namespace", new_namespace},
    {"become-root", become_root},
};

static pid_t start_victim(const mvpn_sandbox_user *user)
{
    int ready[2],
        life[2]; /* the other end of life closes with the attacker, or when it becomes true(1) */
    char c;
    if (pipe(ready) != 0 || pipe2(life, O_CLOEXEC) != 0) {
        return -1;
    }
    pid_t pid = fork();
    if (pid == 0) {
        (void)close(life[1]);
        if (setresgid(user->gid, user->gid, user->gid) != 0 ||
            setresuid(user->uid, user->uid, user->uid) != 0 || prctl(PR_SET_DUMPABLE, 1) != 0 ||
            write(ready[1], "x", 1) != 1) {
            _exit(1);
        }
        /* Not PR_SET_PDEATHSIG: landlock keeps signals of a sandboxed parent, even the last one. */
        (void)!read(life[0], &c, 1);
        _exit(0);
    }
    (void)close(life[0]);
    (void)!read(ready[0], &c, 1);
    return pid;
}

static int enter(const char *role, const mvpn_sandbox_user *user)
{
    mvpn_fault fault = {.text = ""};
    mvpn_sandbox_state state = {0};
    bool is_helper = strcmp(role, "helper") == 0;
    mvpn_sandbox_options options = {
        .role = is_helper ? MVPN_SANDBOX_HELPER : MVPN_SANDBOX_WORKER,
        .user = is_helper ? NULL : user,
        .keep_net_admin = is_helper,
        .ping_sockets = strcmp(role, "pinger") == 0,
        .write_dirs = {is_helper ? NULL : world.state_dir, is_helper ? NULL : world.key_dir},
    };
    if (!is_helper && (mvpn_sandbox_give_dir(world.state_dir, user, &fault) != 0 ||
                       mvpn_sandbox_share_dir(world.key_dir, "onion.key", user, &fault) != 0)) {
        (void)fprintf(stderr, "attack: %s\n", fault.text);
        return 1;
    }
    (void)mvpn_file_pin_dir(world.state_dir);
    (void)mvpn_file_pin_dir(world.key_dir);
    if (mvpn_sandbox_enter(&options, &state, &fault) != 0) {
        (void)fprintf(stderr, "attack: %s\n", fault.text);
        return 1;
    }
    (void)printf("landlock %d\n", state.landlock_abi);
    return 0;
}

int main(int argc, char **argv)
{
    mvpn_fault fault = {.text = ""};
    mvpn_sandbox_user user;
    if (argc != 5 || mvpn_sandbox_find_user("", &user, &fault) != 0) {
        (void)fprintf(stderr,
                      "usage: attack none|worker|pinger|helper STATE-DIR KEY-DIR OTHER-DIR\n");
        return 2;
    }
    world.state_dir = argv[2];
    world.key_dir = argv[3];
    world.other_dir = argv[4];
    world.tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    world.victim = start_victim(&user);
    if (world.victim < 0 || mvpn_netlink_open(&world.routes, &fault) != 0 ||
        (strcmp(argv[1], "none") != 0 && enter(argv[1], &user) != 0)) {
        return 2;
    }
    for (size_t i = 0; i < sizeof(attacks) / sizeof(attacks[0]); i++) {
        errno = 0;
        bool worked = attacks[i].try();
        int err = errno;
        (void)printf("%s %s", worked ? "possible" : "refused", attacks[i].name);
        (void)printf(worked ? "\n" : " (%d)\n", err);
    }
    (void)printf("%s\n", "exec follows");
    (void)fflush(stdout);
    (void)run_program();
    (void)printf("refused exec (%d)\n", errno);
    (void)fflush(stdout);
    _exit(3);
}
