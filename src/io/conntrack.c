#include "io/conntrack.h"

#include <errno.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/error.h"
#include "io/nlsocket.h"

/* Places for the addresses that are looked for, and as many again, so that a search is short. */
#define PLACES (2 * MVPN_CONNTRACK_SOURCES_MAX)

struct mvpn_conntrack {
    mvpn_nlsocket nl;
    mvpn_nlsocket deleting; /* in the middle of a pass */
    /* Open addressing; family 0 is an empty place. */
    mvpn_addr wanted[PLACES];
};

struct pass {
    mvpn_conntrack *ct;
    uint8_t family;
    unsigned count;
    int error;
};

int mvpn_conntrack_open(mvpn_conntrack **ret, mvpn_fault *fault)
{
    mvpn_conntrack *ct = calloc(1, sizeof(*ct));
    if (ct == NULL) {
        return mvpn_fault_set(fault, MVPN_E_NOMEM, "no memory for connection tracking");
    }
    if (mvpn_nlsocket_open(&ct->nl, NETLINK_NETFILTER) != 0 ||
        mvpn_nlsocket_open(&ct->deleting, NETLINK_NETFILTER) != 0) {
        int err = errno;
        mvpn_conntrack_close(ct);
        return mvpn_fault_errno(fault, MVPN_E_SYSTEM, err, "cannot open connection tracking");
    }
    *ret = ct;
    return 0;
}

void mvpn_conntrack_close(mvpn_conntrack *ct)
{
    if (ct == NULL) {
        return;
    }
    mvpn_nlsocket_close(&ct->nl);
    mvpn_nlsocket_close(&ct->deleting);
    free(ct);
}

static struct nlmsghdr *begin(mvpn_nlsocket *nl, unsigned type, unsigned flags, uint8_t family)
{
    struct nlmsghdr *msg = mvpn_nlsocket_begin(nl, NFNL_SUBSYS_CTNETLINK << 8 | type, flags);
    struct nfgenmsg *gen = mnl_nlmsg_put_extra_header(msg, sizeof(*gen));
    gen->nfgen_family = family == 4 ? AF_INET : AF_INET6;
    gen->version = NFNETLINK_V0;
    return msg;
}

/* ---- the addresses ---- */

/* The pool's addresses differ in their last bytes; none of them is chosen by a remote. */
static mvpn_addr *place_of(mvpn_conntrack *ct, const mvpn_addr *addr)
{
    uint32_t last = mvpn_load32(addr->ip + mvpn_addr_ip_len(addr) - 4);
    size_t at = (last * 2 + (addr->family == 6)) % PLACES;
    while (ct->wanted[at].family != 0 && !mvpn_addr_ip_eq(&ct->wanted[at], addr)) {
        at = (at + 1) % PLACES;
    }
    return &ct->wanted[at];
}

static void want(mvpn_conntrack *ct, const mvpn_addr *sources, size_t count)
{
    memset(ct->wanted, 0, sizeof(ct->wanted));
    for (size_t i = 0; i < count; i++) {
        *place_of(ct, &sources[i]) = sources[i];
    }
}

static bool is_wanted(mvpn_conntrack *ct, const mvpn_addr *addr)
{
    return place_of(ct, addr)->family != 0;
}

/* ---- the table ---- */

/* The address that opened a connection; false if the tuple names none of `family`. */
static bool source_of(const struct nlattr *tuple, uint8_t family, mvpn_addr *ret)
{
    uint16_t wanted = family == 4 ? CTA_IP_V4_SRC : CTA_IP_V6_SRC;
    mvpn_addr addr = {.family = family};
    MVPN_NL_FOREACH_NESTED(ip, tuple)
    {
        if (mnl_attr_get_type(ip) != CTA_TUPLE_IP) {
            continue;
        }
        MVPN_NL_FOREACH_NESTED(field, ip)
        {
            if (mnl_attr_get_type(field) == wanted &&
                mnl_attr_get_payload_len(field) == mvpn_addr_ip_len(&addr)) {
                memcpy(addr.ip, mnl_attr_get_payload(field), mvpn_addr_ip_len(&addr));
                *ret = addr;
                return true;
            }
        }
    }
    return false;
}

/* By tuple, zone, and id: not a successor of the same tuple. */
static void delete_entry(struct pass *pass, const struct nlmsghdr *entry)
{
    mvpn_nlsocket *nl = &pass->ct->deleting;
    struct nlmsghdr *msg = begin(nl, IPCTNL_MSG_CT_DELETE, NLM_F_ACK, pass->family);
    MVPN_NL_FOREACH(attr, entry, sizeof(struct nfgenmsg))
    {
        uint16_t type = mnl_attr_get_type(attr);
        size_t size = MNL_ALIGN(attr->nla_len);
        if ((type == CTA_TUPLE_ORIG || type == CTA_ID || type == CTA_ZONE) &&
            msg->nlmsg_len + size <= sizeof(nl->request)) {
            memcpy(mnl_nlmsg_get_payload_tail(msg), attr, attr->nla_len);
            msg->nlmsg_len += (uint32_t)size;
        }
    }
    if (mvpn_nlsocket_talk(nl, msg, NULL, NULL) == 0) {
        pass->count++;
    } else if (errno != ENOENT) { /* it ended by itself */
        pass->error = errno;
    }
}

/*
 * Deleted at once: to collect thousands of entries first would take memory without bound, or
 * further passes. The kernel's dump goes on where it was, also if that very entry is gone.
 */
static void each_entry(const struct nlmsghdr *msg, void *ctx)
{
    struct pass *pass = ctx;
    MVPN_NL_FOREACH(attr, msg, sizeof(struct nfgenmsg))
    {
        mvpn_addr source;
        if (mnl_attr_get_type(attr) == CTA_TUPLE_ORIG) {
            if (source_of(attr, pass->family, &source) && is_wanted(pass->ct, &source)) {
                delete_entry(pass, msg);
            }
            return;
        }
    }
}

static int delete_family(struct pass *pass)
{
    mvpn_nlsocket *nl = &pass->ct->nl;
    const struct nlmsghdr *msg = begin(nl, IPCTNL_MSG_CT_GET, NLM_F_DUMP, pass->family);
    if (mvpn_nlsocket_talk(nl, msg, each_entry, pass) != 0) {
        return -1;
    }
    errno = pass->error;
    return pass->error == 0 ? 0 : -1;
}

int mvpn_conntrack_delete(mvpn_conntrack *ct, const mvpn_addr *sources, size_t count,
                          unsigned *ret_count, mvpn_fault *fault)
{
    struct pass pass = {.ct = ct};
    bool has_v4 = false, has_v6 = false;
    MVPN_ASSERT(count <= MVPN_CONNTRACK_SOURCES_MAX);
    for (size_t i = 0; i < count; i++) {
        has_v4 |= sources[i].family == 4;
        has_v6 |= sources[i].family == 6;
    }
    want(ct, sources, count);
    for (pass.family = 4; pass.family <= 6; pass.family += 2) {
        if ((pass.family == 4 ? has_v4 : has_v6) && delete_family(&pass) != 0) {
            return mvpn_fault_errno(fault, MVPN_E_SYSTEM, errno,
                                    "cannot delete connection tracking entries%s",
                                    errno == EPERM ? " (run as root or with CAP_NET_ADMIN)" : "");
        }
    }
    if (ret_count != NULL) {
        *ret_count = pass.count;
    }
    return 0;
}
