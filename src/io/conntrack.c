#include "io/conntrack.h"

#include <errno.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "io/nlsocket.h"

/* The key of an entry: original tuple, id and zone. An IPv6 tuple takes 76 bytes. */
#define KEY_SIZE 192
/* Keys collected in one pass; with more entries than that the table is passed again. */
#define KEYS_MAX 1024

typedef struct key {
    uint16_t size;
    uint8_t attrs[KEY_SIZE] __attribute__((aligned(NLMSG_ALIGNTO)));
} key;

struct mvpn_conntrack {
    mvpn_nlsocket nl;
    unsigned key_count;
    key keys[KEYS_MAX];
};

struct pass {
    mvpn_conntrack *ct;
    const mvpn_addr *source;
};

int mvpn_conntrack_open(mvpn_conntrack **ret, mvpn_fault *fault)
{
    mvpn_conntrack *ct = calloc(1, sizeof(*ct));
    if (ct == NULL) {
        return mvpn_fault_set(fault, MVPN_E_NOMEM, "no memory for connection tracking");
    }
    if (mvpn_nlsocket_open(&ct->nl, NETLINK_NETFILTER) != 0) {
        int err = errno;
        free(ct);
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
    free(ct);
}

static struct nlmsghdr *begin(mvpn_conntrack *ct, unsigned type, unsigned flags, uint8_t family)
{
    struct nlmsghdr *msg = mvpn_nlsocket_begin(&ct->nl, NFNL_SUBSYS_CTNETLINK << 8 | type, flags);
    struct nfgenmsg *gen = mnl_nlmsg_put_extra_header(msg, sizeof(*gen));
    gen->nfgen_family = family == 4 ? AF_INET : AF_INET6;
    gen->version = NFNETLINK_V0;
    return msg;
}

static bool tuple_is_from(const struct nlattr *tuple, const mvpn_addr *source)
{
    uint16_t wanted = source->family == 4 ? CTA_IP_V4_SRC : CTA_IP_V6_SRC;
    MVPN_NL_FOREACH_NESTED(ip, tuple)
    {
        if (mnl_attr_get_type(ip) != CTA_TUPLE_IP) {
            continue;
        }
        MVPN_NL_FOREACH_NESTED(field, ip)
        {
            if (mnl_attr_get_type(field) == wanted) {
                return mnl_attr_get_payload_len(field) == mvpn_addr_ip_len(source) &&
                       memcmp(mnl_attr_get_payload(field), source->ip, mvpn_addr_ip_len(source)) ==
                           0;
            }
        }
    }
    return false;
}

static void keep_attr(key *k, const struct nlattr *attr)
{
    size_t size = MNL_ALIGN(attr->nla_len);
    if (k->size + size <= sizeof(k->attrs)) {
        memcpy(k->attrs + k->size, attr, attr->nla_len);
        k->size = (uint16_t)(k->size + size);
    }
}

static void each_entry(const struct nlmsghdr *msg, void *ctx)
{
    struct pass *pass = ctx;
    mvpn_conntrack *ct = pass->ct;
    bool is_match = false;
    if (ct->key_count == KEYS_MAX) {
        return;
    }
    key *k = &ct->keys[ct->key_count];
    memset(k, 0, sizeof(*k));
    MVPN_NL_FOREACH(attr, msg, sizeof(struct nfgenmsg))
    {
        uint16_t type = mnl_attr_get_type(attr);
        if (type == CTA_TUPLE_ORIG) {
            is_match = tuple_is_from(attr, pass->source);
            keep_attr(k, attr);
        } else if (type == CTA_ID ||
                   type == CTA_ZONE) { /* the id: not a successor of the same tuple */
            keep_attr(k, attr);
        }
    }
    ct->key_count += is_match ? 1 : 0;
}

static int delete_keys(mvpn_conntrack *ct, uint8_t family)
{
    for (unsigned i = 0; i < ct->key_count; i++) {
        struct nlmsghdr *msg = begin(ct, IPCTNL_MSG_CT_DELETE, NLM_F_ACK, family);
        memcpy(mnl_nlmsg_get_payload_tail(msg), ct->keys[i].attrs, ct->keys[i].size);
        msg->nlmsg_len += ct->keys[i].size;
        if (mvpn_nlsocket_talk(&ct->nl, msg, NULL, NULL) != 0 &&
            errno != ENOENT) { /* ENOENT: it ended by itself */
            return -1;
        }
    }
    return 0;
}

int mvpn_conntrack_delete(mvpn_conntrack *ct, const mvpn_addr *source, unsigned *ret_count,
                          mvpn_fault *fault)
{
    struct pass pass = {ct, source};
    unsigned count = 0;
    do {
        ct->key_count = 0;
        const struct nlmsghdr *msg = begin(ct, IPCTNL_MSG_CT_GET, NLM_F_DUMP, source->family);
        if (mvpn_nlsocket_talk(&ct->nl, msg, each_entry, &pass) != 0 ||
            delete_keys(ct, source->family) != 0) {
            return mvpn_fault_errno(fault, MVPN_E_SYSTEM, errno,
                                    "cannot delete connection tracking entries%s",
                                    errno == EPERM ? " (run as root or with CAP_NET_ADMIN)" : "");
        }
        count += ct->key_count;
    } while (ct->key_count == KEYS_MAX);
    if (ret_count != NULL) {
        *ret_count = count;
    }
    return 0;
}
