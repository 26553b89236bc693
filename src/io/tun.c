#include "io/tun.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/error.h"
#include "io/nft.h"
#include "network/tun/offload.h"

/* Linux 6.2; older headers lack them. */
#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

#define SUPER_PACKET 65536u
/* Writes gathered at a time: a batch of a few hundred packets makes fewer. */
#define GROUPS 32

struct mvpn_tun {
    int fd;
    bool has_vnet;
    bool has_tso;
    bool has_uso;
    char name[IFNAMSIZ];
    mvpn_tun_stats stats;
    /*
     * Where a super-packet is put together: its first MVPN_PACKET_ROOM bytes are read into a packet
     * (so that a plain one needs no copy) and moved here, in front of the rest.
     */
    uint8_t super[MVPN_VNET_HEADER + MVPN_PACKET_ROOM + SUPER_PACKET];
    mvpn_tun_group groups[GROUPS];
};

/* ---- opening ---- */

static int open_device(mvpn_fault *fault)
{
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0) {
        return fd;
    }
    int err = errno;
    if (err == ENOENT || err == ENODEV || err == ENXIO) {
        return mvpn_fault_set(
            fault, MVPN_E_CONFIG,
            "there is no /dev/net/tun: load the driver (modprobe tun); in a container, pass "
            "the device (docker: --device /dev/net/tun --cap-add NET_ADMIN)");
    }
    if (err == EACCES || err == EPERM) {
        return mvpn_fault_set(fault, MVPN_E_CONFIG,
                              "cannot open /dev/net/tun: run as root or with CAP_NET_ADMIN");
    }
    return mvpn_fault_errno(fault, MVPN_E_SYSTEM, err, "cannot open /dev/net/tun");
}

static int attach_fault(const char *name, int err, mvpn_fault *fault)
{
    if (err == EPERM) {
        return mvpn_fault_set(fault, MVPN_E_CONFIG,
                              "cannot make network interface %s: run as root or with CAP_NET_ADMIN",
                              name);
    }
    if (err == EBUSY) {
        return mvpn_fault_set(
            fault, MVPN_E_CONFIG,
            "network interface %s is in use by another program: stop it, or set another "
            "tun_name",
            name);
    }
    if (err == EINVAL) {
        return mvpn_fault_set(
            fault, MVPN_E_CONFIG,
            "network interface %s exists and is no TUN device: set another tun_name", name);
    }
    return mvpn_fault_errno(fault, MVPN_E_SYSTEM, err, "cannot make network interface %s", name);
}

static bool is_name(const char *name)
{
    char plain[IFNAMSIZ];
    if (name == NULL || strlen(name) >= sizeof(plain)) {
        return false;
    }
    memcpy(plain, name, strlen(name) + 1);
    char *percent = strstr(plain, "%d");
    if (percent != NULL && percent[2] == '\0') {
        *percent = '0';
        percent[1] = '\0';
    }
    return mvpn_nft_is_interface(plain);
}

static int attach(mvpn_tun *tun, const mvpn_tun_options *options, mvpn_fault *fault)
{
    struct ifreq ifr = {0};
    if (!is_name(options->name)) {
        return mvpn_fault_set(
            fault, MVPN_E_CONFIG,
            "bad interface name: use 1 to 15 letters, digits or _.- (%%d at the end for a "
            "free number)");
    }
    memcpy(ifr.ifr_name, options->name, strlen(options->name));
    ifr.ifr_flags = (short)(IFF_TUN | IFF_NO_PI | (options->no_offload ? 0 : IFF_VNET_HDR));
    if (ioctl(tun->fd, TUNSETIFF, &ifr) != 0) {
        return attach_fault(options->name, errno, fault);
    }
    memcpy(tun->name, ifr.ifr_name, sizeof(tun->name) - 1);
    tun->has_vnet = !options->no_offload;
    return 0;
}

/* A device that somebody else opened: take it as it is. */
static int adopt(mvpn_tun *tun, mvpn_fault *fault)
{
    struct ifreq ifr = {0};
    int flags = fcntl(tun->fd, F_GETFL);
    if (flags < 0 || fcntl(tun->fd, F_SETFL, flags | O_NONBLOCK) != 0) {
        return mvpn_fault_errno(fault, MVPN_E_CONFIG, errno,
                                "the given TUN descriptor cannot be used");
    }
    /* Phones forbid the question; they give devices without headers. */
    if (ioctl(tun->fd, TUNGETIFF, &ifr) == 0) {
        memcpy(tun->name, ifr.ifr_name, sizeof(tun->name) - 1);
        if ((ifr.ifr_flags & IFF_TUN) == 0 || (ifr.ifr_flags & IFF_NO_PI) == 0) {
            return mvpn_fault_set(fault, MVPN_E_CONFIG,
                                  "the given descriptor must be a TUN device with IFF_NO_PI");
        }
        tun->has_vnet = (ifr.ifr_flags & IFF_VNET_HDR) != 0;
    }
    return 0;
}

static bool set_offload(mvpn_tun *tun, unsigned flags)
{
    return ioctl(tun->fd, TUNSETOFFLOAD, flags) == 0;
}

static int probe_offload(mvpn_tun *tun, mvpn_fault *fault)
{
    const unsigned tso = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6;
    int size = MVPN_VNET_HEADER;
    if (!tun->has_vnet) {
        return 0;
    }
    if (ioctl(tun->fd, TUNSETVNETHDRSZ, &size) != 0) {
        return mvpn_fault_errno(fault, MVPN_E_SYSTEM, errno,
                                "cannot set the TUN device's header size");
    }
    tun->has_uso = set_offload(tun, tso | TUN_F_USO4 | TUN_F_USO6);
    tun->has_tso = tun->has_uso || set_offload(tun, tso);
    if (!tun->has_tso) {
        (void)set_offload(tun, 0); /* the header stays, and says nothing */
    }
    return 0;
}

int mvpn_tun_open(mvpn_tun **ret, const mvpn_tun_options *options, mvpn_fault *fault)
{
    mvpn_tun *tun = calloc(1, sizeof(*tun));
    if (tun == NULL) {
        return mvpn_fault_set(fault, MVPN_E_NOMEM, "no memory for the TUN device");
    }
    tun->fd = options->use_fd ? options->fd : open_device(fault);
    int rc = tun->fd >= 0 ? 0 : tun->fd;
    if (rc == 0) {
        rc = options->use_fd ? adopt(tun, fault) : attach(tun, options, fault);
    }
    if (rc == 0) {
        rc = probe_offload(tun, fault);
    }
    if (rc != 0) {
        if (!options->use_fd && tun->fd >= 0) {
            (void)close(tun->fd);
        }
        free(tun);
        return rc;
    }
    *ret = tun;
    return 0;
}

void mvpn_tun_close(mvpn_tun *tun)
{
    if (tun != NULL) {
        (void)close(tun->fd);
        free(tun);
    }
}

int mvpn_tun_fd(const mvpn_tun *tun)
{
    return tun->fd;
}

const char *mvpn_tun_name(const mvpn_tun *tun)
{
    return tun->name;
}

bool mvpn_tun_has_vnet(const mvpn_tun *tun)
{
    return tun->has_vnet;
}

bool mvpn_tun_has_tso(const mvpn_tun *tun)
{
    return tun->has_tso;
}

bool mvpn_tun_has_uso(const mvpn_tun *tun)
{
    return tun->has_uso;
}

const mvpn_tun_stats *mvpn_tun_get_stats(const mvpn_tun *tun)
{
    return &tun->stats;
}

/* ---- reading ---- */

static bool is_gone(int err)
{
    return err == EBADF || err == EBADFD || err == ENODEV;
}

/*
 * One read: the header into `super`, then the packet in two pieces, of which a plain packet needs
 * only the first. Returns the packet's length, 0 if there is none, -1 with errno.
 */
static ssize_t read_one(mvpn_tun *tun, uint8_t *first)
{
    struct iovec iov[3] = {
        {tun->super, MVPN_VNET_HEADER},
        {first, MVPN_PACKET_ROOM},
        {tun->super + MVPN_VNET_HEADER + MVPN_PACKET_ROOM, SUPER_PACKET},
    };
    unsigned skip = tun->has_vnet ? 0 : 1;
    ssize_t header_size = tun->has_vnet ? MVPN_VNET_HEADER : 0;
    ssize_t n;
    do {
        n = readv(tun->fd, iov + skip, (int)(3 - skip));
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        return errno == EAGAIN ? 0 : -1;
    }
    return n > header_size ? n - header_size : 0;
}

/* A packet that needs neither splitting nor a checksum is already where it belongs. */
static unsigned take_plain(mvpn_tun *tun, mvpn_packet *packet, size_t len, uint8_t flags,
                           mvpn_packet_pool *pool, mvpn_packet_queue *queue)
{
    if (len > MVPN_PACKET_ROOM) {
        tun->stats.read_bad++;
        mvpn_packet_free(pool, packet);
        return 0;
    }
    (void)mvpn_packet_append(packet, (uint32_t)len);
    packet->flags |= (flags & MVPN_VNET_DATA_VALID) != 0 ? MVPN_PACKET_CSUM_OK : 0;
    mvpn_packet_queue_push(queue, packet);
    return 1;
}

static unsigned take_super(mvpn_tun *tun, mvpn_packet *packet, size_t len, mvpn_packet_pool *pool,
                           mvpn_packet_queue *queue)
{
    uint32_t before = queue->count, dropped = 0;
    memcpy(tun->super + MVPN_VNET_HEADER, packet->data, MVPN_MIN(len, (size_t)MVPN_PACKET_ROOM));
    mvpn_packet_free(pool, packet);
    if (mvpn_tun_split(pool, tun->super, MVPN_VNET_HEADER + len, queue, &dropped) != 0) {
        tun->stats.read_bad++;
    }
    tun->stats.read_no_packet += dropped;
    return queue->count - before;
}

static unsigned take(mvpn_tun *tun, mvpn_packet *packet, size_t len, mvpn_packet_pool *pool,
                     mvpn_packet_queue *queue)
{
    mvpn_vnet header = {0};
    if (packet == NULL) {
        tun->stats.read_no_packet++;
        return 0;
    }
    if (tun->has_vnet) {
        header = mvpn_vnet_decode(tun->super);
    }
    if (header.gso_type != MVPN_VNET_GSO_NONE || (header.flags & MVPN_VNET_NEEDS_CSUM) != 0) {
        return take_super(tun, packet, len, pool, queue);
    }
    return take_plain(tun, packet, len, header.flags, pool, queue);
}

int mvpn_tun_read(mvpn_tun *tun, mvpn_packet_pool *pool, mvpn_packet_queue *queue, unsigned budget)
{
    unsigned total = 0;
    while (total < budget) {
        /* Without a packet it is read all the same, and lost: else the poll would never sleep. */
        mvpn_packet *packet = mvpn_packet_new(pool);
        ssize_t n = read_one(tun, packet != NULL ? packet->data : tun->super + MVPN_VNET_HEADER);
        if (n <= 0) {
            mvpn_packet_free(pool, packet);
            if (n < 0 && is_gone(errno)) {
                return MVPN_E_SYSTEM;
            }
            break;
        }
        tun->stats.read_calls++;
        total += take(tun, packet, (size_t)n, pool, queue);
    }
    tun->stats.read += total;
    return (int)total;
}

/* ---- writing ---- */

static int write_iov(mvpn_tun *tun, const struct iovec *iov, unsigned iov_count, uint32_t packets)
{
    ssize_t n;
    do {
        n = writev(tun->fd, iov, (int)iov_count);
    } while (n < 0 && errno == EINTR);
    tun->stats.write_calls++;
    if (n < 0) {
        tun->stats.write_failed += packets;
        return is_gone(errno) ? MVPN_E_SYSTEM : 0;
    }
    tun->stats.written += packets;
    return 0;
}

static int write_single(mvpn_tun *tun, const mvpn_packet *packet)
{
    uint8_t header[MVPN_VNET_HEADER];
    const mvpn_vnet vnet = {
        .flags = (packet->flags & MVPN_PACKET_CSUM_OK) != 0 ? MVPN_VNET_DATA_VALID : 0};
    const struct iovec iov[2] = {{header, sizeof(header)}, {packet->data, packet->len}};
    unsigned skip = tun->has_vnet ? 0 : 1;
    mvpn_vnet_encode(&vnet, header);
    return write_iov(tun, iov + skip, 2 - skip, 1);
}

static int write_group(mvpn_tun *tun, const mvpn_tun_group *group)
{
    struct iovec iov[1 + MVPN_TUN_GROUP_PACKETS];
    for (uint32_t i = 0; i < group->range_count; i++) {
        iov[i] = (struct iovec){(void *)(uintptr_t)group->ranges[i].p, group->ranges[i].n};
    }
    return write_iov(tun, iov, group->range_count, group->packets.count);
}

static int write_joined(mvpn_tun *tun, mvpn_packet_queue *queue, mvpn_packet_pool *pool)
{
    int rc = 0;
    while (queue->count > 0) {
        size_t count = mvpn_tun_coalesce(queue, tun->has_uso, tun->groups, GROUPS);
        for (size_t i = 0; i < count; i++) {
            int write_rc = write_group(tun, &tun->groups[i]);
            rc = rc != 0 ? rc : write_rc;
            mvpn_tun_group_done(&tun->groups[i], pool);
        }
    }
    return rc;
}

int mvpn_tun_write(mvpn_tun *tun, mvpn_packet_queue *queue, mvpn_packet_pool *pool)
{
    int rc = 0;
    mvpn_packet *packet;
    if (tun->has_tso) {
        return write_joined(tun, queue, pool);
    }
    while ((packet = mvpn_packet_queue_pop(queue)) != NULL) {
        int write_rc = write_single(tun, packet);
        rc = rc != 0 ? rc : write_rc;
        mvpn_packet_free(pool, packet);
    }
    return rc;
}
