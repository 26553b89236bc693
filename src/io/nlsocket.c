#include "io/nlsocket.h"

#include <errno.h>
#include <string.h>

int mvpn_nlsocket_open(mvpn_nlsocket *nl, int bus)
{
    nl->socket = mnl_socket_open2(bus, SOCK_CLOEXEC);
    if (nl->socket == NULL || mnl_socket_bind(nl->socket, 0, MNL_SOCKET_AUTOPID) != 0) {
        int err = errno;
        mvpn_nlsocket_close(nl);
        errno = err;
        return -1;
    }
    nl->port = mnl_socket_get_portid(nl->socket);
    return 0;
}

void mvpn_nlsocket_close(mvpn_nlsocket *nl)
{
    if (nl->socket != NULL) {
        (void)mnl_socket_close(nl->socket);
        nl->socket = NULL;
    }
}

struct nlmsghdr *mvpn_nlsocket_begin(mvpn_nlsocket *nl, unsigned type, unsigned flags)
{
    memset(nl->request, 0, sizeof(nl->request));
    struct nlmsghdr *msg = mnl_nlmsg_put_header(nl->request);
    msg->nlmsg_type = (uint16_t)type;
    msg->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
    msg->nlmsg_seq = ++nl->seq;
    return msg;
}

enum reply_state { REPLY_MORE, REPLY_END, REPLY_ERROR };

/* The error in an acknowledgement or at the end of a dump: zero or a negative errno, first field.
 */
static enum reply_state take_result(const struct nlmsghdr *msg)
{
    int code = 0;
    if (mnl_nlmsg_get_payload_len(msg) >= sizeof(code)) {
        memcpy(&code, mnl_nlmsg_get_payload(msg), sizeof(code));
    }
    errno = code < 0 ? -code : 0;
    return code < 0 ? REPLY_ERROR : REPLY_END;
}

/*
 * Not mnl_cb_run: it gives up in the middle of a dump during which something changed
 * (NLM_F_DUMP_INTR), and the rest of the answer would meet the next request. What changes meanwhile
 * is not ours, and our own work does not depend on it.
 */
static enum reply_state take_buffer(mvpn_nlsocket *nl, int left, mvpn_nl_each_fn *each, void *ctx)
{
    const struct nlmsghdr *msg = (const struct nlmsghdr *)nl->reply;
    for (; mnl_nlmsg_ok(msg, left); msg = mnl_nlmsg_next(msg, &left)) {
        if (msg->nlmsg_seq != nl->seq || (msg->nlmsg_pid != nl->port && msg->nlmsg_pid != 0)) {
            continue; /* the end of an answer that was given up */
        }
        if (msg->nlmsg_type == NLMSG_ERROR || msg->nlmsg_type == NLMSG_DONE) {
            return take_result(msg);
        }
        if (each != NULL && msg->nlmsg_type >= NLMSG_MIN_TYPE) {
            each(msg, ctx);
        }
    }
    return REPLY_MORE;
}

static int talk(mvpn_nlsocket *nl, const void *request, size_t len, mvpn_nl_each_fn *each,
                void *ctx)
{
    enum reply_state state = REPLY_MORE;
    if (mnl_socket_sendto(nl->socket, request, len) < 0) {
        return -1;
    }
    while (state == REPLY_MORE) {
        ssize_t n = mnl_socket_recvfrom(nl->socket, nl->reply, sizeof(nl->reply));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -1;
        }
        state = take_buffer(nl, (int)n, each, ctx);
    }
    return state == REPLY_END ? 0 : -1;
}

int mvpn_nlsocket_talk(mvpn_nlsocket *nl, const struct nlmsghdr *msg, mvpn_nl_each_fn *each,
                       void *ctx)
{
    return talk(nl, msg, msg->nlmsg_len, each, ctx);
}

int mvpn_nlsocket_talk_batch(mvpn_nlsocket *nl, const void *batch, size_t len)
{
    return talk(nl, batch, len, NULL, NULL);
}
