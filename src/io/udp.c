#include "io/udp.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"
#include "io/sockaddr.h"

/* Older headers lack them (linux/udp.h). */
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

/* Half a second of 100 Mbit/s; the kernel doubles what is asked. */
#define SOCKET_BUFFER (8 << 20)
/* Of a socket that hears a few probes; 256 of them full are 16 MiB. */
#define SMALL_BUFFER (64 << 10)

/* A GRO buffer holds at most 65,535 bytes; 16 of them (1 MiB) are one core's second-level cache. */
#define RECV_MESSAGES 16
#define RECV_BUFFER 65536u

/* One sendmmsg: 32 x 64 KB is 2 MB, a quarter of the socket buffer. */
#define SEND_MESSAGES 32
/* UDP_MAX_SEGMENTS of every kernel that knows UDP_SEGMENT. */
#define SEND_SEGMENTS 64
/* Below the 65,507 bytes of an IPv4 datagram, which a GSO message may not exceed. */
#define SEND_BYTES 65000u
/* Destinations whose messages stay open for more packets: a relay's neighbours in one burst. */
#define SEND_OPEN 8

#define TOO_BIG_MAX 16

#define CMSG_ROOM CMSG_SPACE(sizeof(int))

typedef struct message {
    mvpn_addr remote;
    uint32_t segment; /* length of each packet but the last */
    uint32_t bytes;
    unsigned count;
    bool is_closed; /* last packet was shorter, or a limit is reached */
    mvpn_packet *packets[SEND_SEGMENTS];
    struct iovec iov[SEND_SEGMENTS];
    struct sockaddr_storage name;
    char control[CMSG_ROOM] __attribute__((aligned(8)));
} message;

/* Messages collected for one sendmmsg. */
typedef struct batch {
    unsigned count;
    unsigned open[SEND_OPEN];
    unsigned open_count;
    message messages[SEND_MESSAGES];
    struct mmsghdr headers[SEND_MESSAGES];
} batch;

/* What one call needs and nothing keeps: sockets of a thread share it. */
typedef struct work {
    batch batch[MVPN_UDP_FAMILIES];
    uint8_t *recv_memory;
    struct sockaddr_storage recv_names[RECV_MESSAGES];
    struct iovec recv_iov[RECV_MESSAGES];
    char recv_control[RECV_MESSAGES][CMSG_ROOM] __attribute__((aligned(8)));
    struct mmsghdr recv_headers[RECV_MESSAGES];
} work;

typedef struct sock {
    int fd;
    mvpn_addr local;
    bool has_gso;
    bool is_blocked;
    batch *batch;
} sock;

struct mvpn_udp {
    sock socks[MVPN_UDP_FAMILIES];
    uint16_t local;
    unsigned recv_per_message; /* datagrams in a message of late, at least 1 */
    work *work;
    bool owns_work;
    mvpn_packet_queue *others; /* borrowed; NULL: every packet is ours */
    mvpn_udp_stats stats;
    mvpn_addr too_big[TOO_BIG_MAX];
    unsigned too_big_count;
};

/* ---- opening ---- */

static int set_int(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof(value));
}

static void set_buffers(int fd, int size)
{
    /* Without CAP_NET_ADMIN the system's limits hold: slower, not wrong. */
    if (set_int(fd, SOL_SOCKET, SO_RCVBUFFORCE, size) != 0) {
        (void)set_int(fd, SOL_SOCKET, SO_RCVBUF, size);
    }
    if (set_int(fd, SOL_SOCKET, SO_SNDBUFFORCE, size) != 0) {
        (void)set_int(fd, SOL_SOCKET, SO_SNDBUF, size);
    }
}

static int set_df(int fd, uint8_t family)
{
    if (family == 4) {
        return set_int(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE);
    }
    if (set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1) != 0 ||
        set_int(fd, IPPROTO_IPV6, IPV6_DONTFRAG, 1) != 0) {
        return -1;
    }
    return set_int(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE);
}

static int bind_fault(const mvpn_addr *addr, int err, mvpn_fault *fault)
{
    char text[MVPN_ADDR_STRLEN];
    mvpn_addr_format(addr, text);
    if (err == EADDRINUSE) {
        return mvpn_fault_set(fault, MVPN_E_CONFIG,
                              "cannot listen on %s: another program uses UDP port %u "
                              "(ss -ulpn 'sport = :%u' shows which)",
                              text, (unsigned)addr->port, (unsigned)addr->port);
    }
    if (err == EADDRNOTAVAIL) {
        return mvpn_fault_set(fault, MVPN_E_CONFIG,
                              "cannot listen on %s: this machine does not have that address "
                              "(ip address shows those it has)",
                              text);
    }
    if (err == EACCES) {
        return mvpn_fault_set(fault, MVPN_E_CONFIG,
                              "cannot listen on %s: ports below 1024 need CAP_NET_BIND_SERVICE",
                              text);
    }
    return mvpn_fault_errno(fault, MVPN_E_SYSTEM, err, "cannot listen on %s", text);
}

static int open_fd(sock *s, const mvpn_addr *addr, const mvpn_udp_options *options,
                   mvpn_fault *fault)
{
    int domain = addr->family == 4 ? AF_INET : AF_INET6;
    int fd = socket(domain, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_UDP);
    if (fd < 0) {
        return mvpn_fault_errno(fault, MVPN_E_SYSTEM, errno, "cannot open an IPv%u UDP socket",
                                (unsigned)addr->family);
    }
    s->fd = fd; /* owned from here: mvpn_udp_free closes it */
    if (set_df(fd, addr->family) != 0) {
        return mvpn_fault_errno(fault, MVPN_E_SYSTEM, errno, "cannot set DF on a UDP socket");
    }
    if (mvpn_mark_socket(fd, options->marker) != 0) {
        return mvpn_fault_errno(fault, MVPN_E_SYSTEM, errno,
                                options->marker->mark != 0
                                    ? "cannot mark packets (run as root or with CAP_NET_ADMIN)"
                                    : "a socket could not be kept out of the tunnel");
    }
    set_buffers(fd, options->is_small ? SMALL_BUFFER : SOCKET_BUFFER);
    s->has_gso = !options->no_gso && set_int(fd, IPPROTO_UDP, UDP_SEGMENT, 0) == 0;
    if (!options->no_gro) {
        (void)set_int(fd, IPPROTO_UDP, UDP_GRO, 1); /* without it every datagram comes alone */
    }

    struct sockaddr_storage name;
    socklen_t len = mvpn_sockaddr_from_addr(addr, &name);
    if (bind(fd, (const struct sockaddr *)&name, len) != 0) {
        return bind_fault(addr, errno, fault);
    }
    len = sizeof(name);
    if (getsockname(fd, (struct sockaddr *)&name, &len) != 0) {
        return mvpn_fault_errno(fault, MVPN_E_SYSTEM, errno,
                                "cannot ask a UDP socket for its port");
    }
    s->local = mvpn_sockaddr_to_addr(&name);
    return 0;
}

/* ---- what calls need ---- */

static void work_free(work *w)
{
    if (w != NULL) {
        free(w->recv_memory);
        free(w);
    }
}

static work *work_new(void)
{
    work *w = calloc(1, sizeof(*w)); /* the pages of a family that is not used stay untouched */
    if (w == NULL) {
        return NULL;
    }
    w->recv_memory = malloc((size_t)RECV_MESSAGES * RECV_BUFFER);
    if (w->recv_memory == NULL) {
        work_free(w);
        return NULL;
    }
    for (unsigned i = 0; i < RECV_MESSAGES; i++) {
        w->recv_iov[i] = (struct iovec){w->recv_memory + (size_t)i * RECV_BUFFER, RECV_BUFFER};
        w->recv_headers[i].msg_hdr = (struct msghdr){
            .msg_name = &w->recv_names[i],
            .msg_iov = &w->recv_iov[i],
            .msg_iovlen = 1,
            .msg_control = w->recv_control[i],
        };
    }
    return w;
}

/* ---- life ---- */

int mvpn_udp_open(mvpn_udp **ret, const mvpn_addr *bind_addrs, unsigned bind_count,
                  const mvpn_udp_options *options, mvpn_fault *fault)
{
    static const mvpn_udp_options no_options = {0};
    int rc = MVPN_E_NOMEM;
    mvpn_udp *udp = calloc(1, sizeof(*udp));
    if (udp == NULL) {
        return mvpn_fault_set(fault, MVPN_E_NOMEM, "no memory for a UDP socket");
    }
    options = options != NULL ? options : &no_options;
    udp->local = options->local;
    udp->others = options->others;
    udp->recv_per_message = 1;
    udp->owns_work = options->buffers_of == NULL;
    udp->work = udp->owns_work ? work_new() : options->buffers_of->work;
    for (unsigned i = 0; i < MVPN_UDP_FAMILIES; i++) {
        udp->socks[i].fd = -1;
        udp->socks[i].batch = udp->work == NULL ? NULL : &udp->work->batch[i];
    }
    if (udp->work == NULL) {
        rc = mvpn_fault_set(fault, MVPN_E_NOMEM, "no memory for a UDP socket");
        goto fail;
    }
    for (unsigned i = 0; i < bind_count; i++) {
        const mvpn_addr *addr = &bind_addrs[i];
        sock *s = &udp->socks[addr->family == 6 ? MVPN_UDP_V6 : MVPN_UDP_V4];
        if (addr->family == 0 || s->fd >= 0) {
            rc = mvpn_fault_set(fault, MVPN_E_INVAL,
                                "give at most one IPv4 and one IPv6 address to listen on");
            goto fail;
        }
        rc = open_fd(s, addr, options, fault);
        if (rc != 0) {
            goto fail;
        }
    }
    *ret = udp;
    return 0;
fail:
    mvpn_udp_free(udp);
    return rc;
}

void mvpn_udp_free(mvpn_udp *udp)
{
    if (udp == NULL) {
        return;
    }
    for (unsigned i = 0; i < MVPN_UDP_FAMILIES; i++) {
        if (udp->socks[i].fd >= 0) {
            (void)close(udp->socks[i].fd);
        }
    }
    if (udp->owns_work) {
        work_free(udp->work);
    }
    free(udp);
}

void mvpn_udp_grow(mvpn_udp *udp)
{
    for (unsigned i = 0; i < MVPN_UDP_FAMILIES; i++) {
        if (udp->socks[i].fd >= 0) {
            set_buffers(udp->socks[i].fd, SOCKET_BUFFER);
        }
    }
}

int mvpn_udp_fd(const mvpn_udp *udp, enum mvpn_udp_family family)
{
    return udp->socks[family].fd;
}

mvpn_addr mvpn_udp_local(const mvpn_udp *udp, enum mvpn_udp_family family)
{
    return udp->socks[family].local;
}

bool mvpn_udp_is_blocked(const mvpn_udp *udp, enum mvpn_udp_family family)
{
    return udp->socks[family].is_blocked;
}

const mvpn_udp_stats *mvpn_udp_get_stats(const mvpn_udp *udp)
{
    return &udp->stats;
}

bool mvpn_udp_has_gso(const mvpn_udp *udp, enum mvpn_udp_family family)
{
    return udp->socks[family].fd >= 0 && udp->socks[family].has_gso;
}

/* ---- receiving ---- */

/* Length of the datagrams in a buffer that the kernel joined; 0 if it holds one. */
static uint32_t gro_segment(struct msghdr *header)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c != NULL; c = CMSG_NXTHDR(header, c)) {
        if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO) {
            int size = 0;
            memcpy(&size, CMSG_DATA(c), sizeof(size));
            return size > 0 ? (uint32_t)size : 0;
        }
    }
    return 0;
}

static unsigned take_buffer(mvpn_udp *udp, unsigned index, mvpn_packet_pool *pool,
                            mvpn_packet_queue *queue)
{
    struct msghdr *header = &udp->work->recv_headers[index].msg_hdr;
    const uint8_t *at = udp->work->recv_iov[index].iov_base;
    uint32_t left = udp->work->recv_headers[index].msg_len;
    uint32_t segment = gro_segment(header);
    mvpn_addr remote = mvpn_sockaddr_to_addr(&udp->work->recv_names[index]);
    unsigned taken = 0;

    if ((header->msg_flags & MSG_TRUNC) != 0) {
        udp->stats.received_too_long++;
        return 0;
    }
    while (left > 0) {
        uint32_t len = segment > 0 && segment < left ? segment : left;
        mvpn_packet *packet = len <= MVPN_PACKET_ROOM ? mvpn_packet_new(pool) : NULL;
        if (packet != NULL) {
            memcpy(mvpn_packet_append(packet, len), at, len);
            packet->remote = remote;
            packet->local = udp->local;
            mvpn_packet_queue_push(queue, packet);
            taken++;
        } else if (len > MVPN_PACKET_ROOM) {
            udp->stats.received_too_long++;
        } else {
            udp->stats.received_no_packet++;
        }
        at += len;
        left -= len;
    }
    return taken;
}

int mvpn_udp_recv(mvpn_udp *udp, enum mvpn_udp_family family, mvpn_packet_pool *pool,
                  mvpn_packet_queue *queue, unsigned budget)
{
    unsigned total = 0;
    int fd = udp->socks[family].fd;
    while (fd >= 0 && total < budget) {
        for (unsigned i = 0; i < RECV_MESSAGES; i++) { /* recvmmsg shortens them */
            udp->work->recv_headers[i].msg_hdr.msg_namelen = sizeof(udp->work->recv_names[i]);
            udp->work->recv_headers[i].msg_hdr.msg_controllen = sizeof(udp->work->recv_control[i]);
        }
        /* As many messages as will bring what is left of the budget, judged by the last ones. */
        unsigned want = (budget - total + udp->recv_per_message - 1) / udp->recv_per_message;
        want = MVPN_MIN(want, (unsigned)RECV_MESSAGES);
        int got = recvmmsg(fd, udp->work->recv_headers, want, MSG_DONTWAIT, NULL);
        udp->stats.recv_calls++;
        if (got < 0) {
            if (errno == EBADF || errno == ENOTSOCK || errno == EFAULT || errno == EINVAL) {
                return MVPN_E_SYSTEM;
            }
            break; /* EAGAIN; or a passing error, after which the poll wakes again */
        }
        unsigned before = total;
        for (unsigned i = 0; i < (unsigned)got; i++) {
            total += take_buffer(udp, i, pool, queue);
        }
        if (got > 0) {
            udp->recv_per_message = MVPN_MAX(1u, (total - before) / (unsigned)got);
        }
        if ((unsigned)got < want) {
            break; /* it was empty at that moment; what came since wakes the poll */
        }
    }
    udp->stats.received += total;
    return (int)total;
}

/* ---- sending: collect packets into messages ---- */

static message *find_open(batch *b, const mvpn_addr *remote, unsigned *ret_slot)
{
    for (unsigned i = b->open_count; i > 0; i--) {
        message *m = &b->messages[b->open[i - 1]];
        if (mvpn_addr_eq(&m->remote, remote)) {
            *ret_slot = i - 1;
            return m;
        }
    }
    return NULL;
}

static void close_slot(batch *b, unsigned slot)
{
    memmove(&b->open[slot], &b->open[slot + 1], (b->open_count - slot - 1) * sizeof(b->open[0]));
    b->open_count--;
}

static void append(message *m, mvpn_packet *packet)
{
    m->packets[m->count] = packet;
    m->iov[m->count] = (struct iovec){packet->data, packet->len};
    m->count++;
    m->bytes += packet->len;
}

static bool fits(const message *m, const mvpn_packet *packet)
{
    return m->count < SEND_SEGMENTS && packet->len <= m->segment &&
           m->bytes + packet->len <= SEND_BYTES;
}

/*
 * Put the packet into the open message of its destination, or begin one. False if all messages are
 * taken: then the batch goes out first. A destination has at most one open message, and messages
 * leave in the order in which they began, so nothing is reordered within a destination.
 */
static bool collect(sock *s, mvpn_packet *packet)
{
    batch *b = s->batch;
    unsigned slot = 0;
    message *m = s->has_gso ? find_open(b, &packet->remote, &slot) : NULL;
    if (m != NULL && fits(m, packet)) {
        append(m, packet);
        if (packet->len < m->segment) { /* only the last segment may be shorter */
            close_slot(b, slot);
        }
        return true;
    }
    if (b->count == SEND_MESSAGES) {
        return false;
    }
    if (m != NULL) {
        close_slot(b, slot);
    } else if (b->open_count == SEND_OPEN) {
        close_slot(b, 0);
    }
    b->open[b->open_count++] = b->count;
    m = &b->messages[b->count++];
    m->remote = packet->remote;
    m->segment = packet->len;
    m->bytes = 0;
    m->count = 0;
    append(m, packet);
    /* Alone, so that nothing else is lost with a probe that is too big. */
    if ((packet->flags & MVPN_PACKET_PROBE) != 0) {
        close_slot(b, b->open_count - 1);
    }
    return true;
}

static void fill_header(message *m, struct msghdr *h, bool with_segment)
{
    *h = (struct msghdr){
        .msg_name = &m->name,
        .msg_namelen = mvpn_sockaddr_from_addr(&m->remote, &m->name),
        .msg_iov = m->iov,
        .msg_iovlen = m->count,
    };
    if (!with_segment) {
        return;
    }
    uint16_t segment = (uint16_t)m->segment;
    h->msg_control = m->control;
    h->msg_controllen = CMSG_SPACE(sizeof(segment));
    struct cmsghdr *c = CMSG_FIRSTHDR(h);
    c->cmsg_level = IPPROTO_UDP;
    c->cmsg_type = UDP_SEGMENT;
    c->cmsg_len = CMSG_LEN(sizeof(segment));
    memcpy(CMSG_DATA(c), &segment, sizeof(segment));
}

/* ---- sending: what came of it ---- */

static void give_back(message *m, mvpn_packet_pool *pool, unsigned from)
{
    for (unsigned i = from; i < m->count; i++) {
        mvpn_packet_free(pool, m->packets[i]);
    }
    m->count = 0;
}

static void queue_prepend(mvpn_packet_queue *queue, mvpn_packet *packet)
{
    packet->link.prev = &queue->head;
    packet->link.next = queue->head.next;
    queue->head.next->prev = &packet->link;
    queue->head.next = &packet->link;
    queue->count++;
}

/* Put the packets of messages `first`.. and of the first one those from `from` on back in front. */
static void unsend(batch *b, unsigned first, unsigned from, mvpn_packet_queue *queue)
{
    for (unsigned i = b->count; i > first; i--) {
        message *m = &b->messages[i - 1];
        unsigned begin = i - 1 == first ? from : 0;
        for (unsigned k = m->count; k > begin; k--) {
            queue_prepend(queue, m->packets[k - 1]);
        }
    }
}

static void note_too_big(mvpn_udp *udp, const mvpn_packet *packet)
{
    udp->stats.sent_too_big++;
    if ((packet->flags & MVPN_PACKET_PROBE) != 0) {
        return;
    }
    for (unsigned i = 0; i < udp->too_big_count; i++) {
        if (mvpn_addr_eq(&udp->too_big[i], &packet->remote)) {
            return;
        }
    }
    if (udp->too_big_count < TOO_BIG_MAX) {
        udp->too_big[udp->too_big_count++] = packet->remote;
    }
}

bool mvpn_udp_pull_too_big(mvpn_udp *udp, mvpn_addr *ret_remote)
{
    if (udp->too_big_count == 0) {
        return false;
    }
    *ret_remote = udp->too_big[--udp->too_big_count];
    return true;
}

static void note_failed(mvpn_udp *udp, const mvpn_packet *packet, int err)
{
    if (err == EMSGSIZE) {
        note_too_big(udp, packet);
    } else {
        udp->stats.sent_unreachable++;
    }
}

/*
 * Send a message's packets one by one, after the kernel refused them together. Returns 0, or
 * MVPN_E_AGAIN with the number already dealt with. If all went, the refusal was about UDP_SEGMENT
 * itself (no checksum offload on the way out: EIO), and it is not tried again on this socket.
 */
static int send_singly(mvpn_udp *udp, sock *s, message *m, unsigned *ret_done)
{
    unsigned sent = 0;
    for (unsigned i = 0; i < m->count; i++) {
        const mvpn_packet *packet = m->packets[i];
        ssize_t n = sendto(s->fd, packet->data, packet->len, MSG_DONTWAIT,
                           (const struct sockaddr *)&m->name,
                           mvpn_sockaddr_from_addr(&m->remote, &m->name));
        udp->stats.send_calls++;
        if (n >= 0) {
            sent++;
            udp->stats.sent++;
            udp->stats.send_messages++;
        } else if (errno == EAGAIN) {
            *ret_done = i;
            return MVPN_E_AGAIN;
        } else {
            note_failed(udp, packet, errno);
        }
    }
    if (sent == m->count) {
        s->has_gso = false;
    }
    *ret_done = m->count;
    return 0;
}

/* The message at `*at` was refused with `err`; step over it, or MVPN_E_AGAIN if it must wait. */
static int handle_refusal(mvpn_udp *udp, sock *s, unsigned at, int err, mvpn_packet_queue *queue,
                          mvpn_packet_pool *pool)
{
    message *m = &s->batch->messages[at];
    unsigned done = 0;
    if (err == EAGAIN) {
        unsend(s->batch, at, 0, queue);
        return MVPN_E_AGAIN;
    }
    if (m->count > 1 && (err == EIO || err == EINVAL || err == EMSGSIZE || err == EOPNOTSUPP)) {
        if (send_singly(udp, s, m, &done) != 0) {
            unsend(s->batch, at, done, queue);
            for (unsigned i = 0; i < done; i++) {
                mvpn_packet_free(pool, m->packets[i]);
            }
            return MVPN_E_AGAIN;
        }
    } else {
        for (unsigned i = 0; i < m->count; i++) {
            note_failed(udp, m->packets[i], err);
        }
    }
    give_back(m, pool, 0);
    return 0;
}

static int flush(mvpn_udp *udp, sock *s, mvpn_packet_queue *queue, mvpn_packet_pool *pool)
{
    batch *b = s->batch;
    unsigned at = 0;
    int rc = 0;
    for (unsigned i = 0; i < b->count; i++) {
        fill_header(&b->messages[i], &b->headers[i].msg_hdr, b->messages[i].count > 1);
    }
    while (at < b->count && rc == 0) {
        int n = sendmmsg(s->fd, &b->headers[at], b->count - at, MSG_DONTWAIT);
        udp->stats.send_calls++;
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            rc = handle_refusal(udp, s, at, errno, queue, pool);
            at++;
            continue;
        }
        for (unsigned end = at + (unsigned)n; at < end; at++) {
            udp->stats.sent += b->messages[at].count;
            udp->stats.send_messages++;
            give_back(&b->messages[at], pool, 0);
        }
    }
    b->count = 0;
    b->open_count = 0;
    s->is_blocked = rc != 0;
    return rc;
}

/*
 * Fill messages of all sockets until one has no room or the queue is empty. Packets of a blocked
 * socket go to `waiting`.
 */
static void collect_queue(mvpn_udp *udp, mvpn_packet_queue *queue, mvpn_packet_queue *waiting,
                          mvpn_packet_pool *pool)
{
    mvpn_packet *packet;
    while ((packet = mvpn_packet_queue_pop(queue)) != NULL) {
        sock *s = &udp->socks[packet->remote.family == 6 ? MVPN_UDP_V6 : MVPN_UDP_V4];
        if (packet->local != udp->local && udp->others != NULL) {
            mvpn_packet_queue_push(udp->others, packet);
        } else if (packet->remote.family == 0 || s->fd < 0 || packet->len == 0) {
            udp->stats.sent_unreachable++;
            mvpn_packet_free(pool, packet);
        } else if (s->is_blocked) {
            mvpn_packet_queue_push(waiting, packet);
        } else if (!collect(s, packet)) {
            queue_prepend(queue, packet);
            return;
        }
    }
}

static void queue_join(mvpn_packet_queue *queue, mvpn_packet_queue *tail)
{
    mvpn_packet *packet;
    while ((packet = mvpn_packet_queue_pop(tail)) != NULL) {
        mvpn_packet_queue_push(queue, packet);
    }
}

int mvpn_udp_send(mvpn_udp *udp, mvpn_packet_queue *queue, mvpn_packet_pool *pool)
{
    mvpn_packet_queue waiting;
    mvpn_packet_queue_init(&waiting);
    for (unsigned i = 0; i < MVPN_UDP_FAMILIES; i++) {
        udp->socks[i].is_blocked = false;
    }
    while (queue->count > 0) {
        collect_queue(udp, queue, &waiting, pool);
        for (unsigned i = 0; i < MVPN_UDP_FAMILIES; i++) {
            sock *s = &udp->socks[i];
            if (s->batch->count > 0) {
                /* A full socket's packets are waited for before younger ones are collected for it.
                 */
                mvpn_packet_queue left;
                mvpn_packet_queue_init(&left);
                if (flush(udp, s, &left, pool) != 0) {
                    queue_join(&waiting, &left);
                }
            }
        }
    }
    if (waiting.count == 0) {
        return 0;
    }
    queue_join(queue, &waiting);
    return MVPN_E_AGAIN;
}
