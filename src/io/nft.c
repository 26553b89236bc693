#include "io/nft.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/error.h"

static bool is_one_of(const char *name, size_t len_max, const char *characters)
{
    size_t len = strlen(name);
    return len > 0 && len <= len_max && strspn(name, characters) == len;
}

bool mvpn_nft_is_name(const char *name)
{
    return is_one_of(name, 32, "abcdefghijklmnopqrstuvwxyz0123456789_");
}

bool mvpn_nft_is_interface(const char *name)
{
    return is_one_of(name, 15, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-");
}

static const char *find_nft(void)
{
    static const char *const places[] = {"/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft",
                                         "/usr/local/sbin/nft"};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(places); i++) {
        if (access(places[i], X_OK) == 0) {
            return places[i];
        }
    }
    return NULL;
}

/* One socket is the child's stdin, stdout and stderr. */
static int spawn_nft(const char *path, int fd, pid_t *ret_child)
{
    char *argv[] = {(char[]){"nft"}, (char[]){"-f"}, (char[]){"-"}, NULL};
    char *envp[] = {(char[]){"LC_ALL=C"}, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    sigset_t none;
    (void)sigemptyset(&none);
    if (posix_spawn_file_actions_init(&actions) != 0) {
        return ENOMEM;
    }
    if (posix_spawnattr_init(&attr) != 0) {
        (void)posix_spawn_file_actions_destroy(&actions);
        return ENOMEM;
    }
    int err = 0;
    for (int to = 0; to < 3 && err == 0; to++) {
        err = posix_spawn_file_actions_adddup2(&actions, fd, to);
    }
    if (err == 0) {
        err = posix_spawnattr_setsigmask(&attr, &none);
    }
    if (err == 0) {
        err = posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
    }
    if (err == 0) {
        err = posix_spawn(ret_child, path, &actions, &attr, argv, envp);
    }
    (void)posix_spawnattr_destroy(&attr);
    (void)posix_spawn_file_actions_destroy(&actions);
    return err;
}

/* Send the script, keep the beginning of the answer, read the rest away. */
static void converse(int fd, const char *script, char *answer, size_t answer_size)
{
    size_t left = strlen(script), used = 0;
    while (left > 0) {
        ssize_t n = send(fd, script, left, MSG_NOSIGNAL);
        if (n < 0 && errno != EINTR) {
            break; /* it died: its exit status tells */
        }
        script += n > 0 ? n : 0;
        left -= n > 0 ? (size_t)n : 0;
    }
    (void)shutdown(fd, SHUT_WR);
    for (;;) {
        char rest[256];
        bool is_full = used + 1 >= answer_size;
        ssize_t n = is_full ? read(fd, rest, sizeof(rest))
                            : read(fd, answer + used, answer_size - 1 - used);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            break;
        }
        used += is_full ? 0 : (size_t)n;
    }
    answer[used] = '\0';
    answer[strcspn(answer, "\n")] = '\0';
}

int mvpn_nft_apply(const char *script, mvpn_fault *fault)
{
    int fds[2], status = 0;
    pid_t child = 0;
    char answer[256];
    MVPN_ASSERT(strlen(script) < MVPN_NFT_SCRIPT);
    const char *path = find_nft();
    if (path == NULL) {
        return mvpn_fault_set(fault, MVPN_E_CONFIG,
                              "the firewall program nft is missing (Debian: apt install nftables)");
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0) {
        return mvpn_fault_errno(fault, MVPN_E_SYSTEM, errno, "cannot run nft");
    }
    int err = spawn_nft(path, fds[1], &child);
    (void)close(fds[1]);
    if (err != 0) {
        (void)close(fds[0]);
        return mvpn_fault_errno(fault, MVPN_E_SYSTEM, err, "cannot run %s", path);
    }
    converse(fds[0], script, answer, sizeof(answer));
    (void)close(fds[0]);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        const char *hint = geteuid() != 0 ? " (run as root or with CAP_NET_ADMIN)" : "";
        return mvpn_fault_set(fault, MVPN_E_SYSTEM, "nft refused the rules%s: %s", hint,
                              answer[0] != '\0' ? answer : "no reason given");
    }
    return 0;
}

/* ---- without a child ---- */

static struct nlmsghdr *put(mvpn_nlsocket *nl, uint8_t *at, unsigned type, unsigned flags,
                            uint8_t family, uint16_t resource)
{
    struct nlmsghdr *msg = mnl_nlmsg_put_header(at);
    struct nfgenmsg *gen = mnl_nlmsg_put_extra_header(msg, sizeof(*gen));
    msg->nlmsg_type = (uint16_t)type;
    msg->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
    msg->nlmsg_seq = nl->seq;
    gen->nfgen_family = family;
    gen->version = NFNETLINK_V0;
    gen->res_id = htons(resource);
    return msg;
}

int mvpn_nft_delete_table(mvpn_nlsocket *nl, const char *name)
{
    uint8_t *at = nl->request;
    MVPN_ASSERT(strlen(name) < NFT_NAME_MAXLEN);
    (void)mvpn_nlsocket_begin(nl, 0, 0); /* clears the room and counts */
    at += put(nl, at, NFNL_MSG_BATCH_BEGIN, 0, 0, NFNL_SUBSYS_NFTABLES)->nlmsg_len;
    struct nlmsghdr *msg =
        put(nl, at, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_DELTABLE, NLM_F_ACK, NFPROTO_INET, 0);
    mnl_attr_put_strz(msg, NFTA_TABLE_NAME, name);
    at += msg->nlmsg_len;
    at += put(nl, at, NFNL_MSG_BATCH_END, 0, 0, NFNL_SUBSYS_NFTABLES)->nlmsg_len;
    if (mvpn_nlsocket_talk_batch(nl, nl->request, (size_t)(at - nl->request)) != 0 &&
        errno != ENOENT) {
        return -1;
    }
    return 0;
}
