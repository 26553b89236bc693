#include "io/network_link.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "wire/invitation.h"

/* Characters behind "meshvpn:": open and closed, IPv4 and IPv6. (§13.1) */
static bool is_whole(size_t len)
{
    return len == 131 || len == 147 || len == 174 || len == 190;
}

/* Why it is no link: what a person can do differs. */
static int format_fault(const char *text, mvpn_fault *fault)
{
    static const char prefix[] = "meshvpn:";
    text += strspn(text, " \t\r\n");
    if (strncmp(text, prefix, sizeof(prefix) - 1) != 0) {
        return mvpn_fault_set(fault, MVPN_E_FORMAT,
                              "this is no invitation: an invitation begins with meshvpn:");
    }
    size_t len = strcspn(text + sizeof(prefix) - 1, " \t\r\n");
    if (!is_whole(len)) {
        return mvpn_fault_set(fault, MVPN_E_FORMAT,
                              "the invitation is not whole: it was cut off or something was added "
                              "to it. Copy it again, from meshvpn: to its end");
    }
    return mvpn_fault_set(fault, MVPN_E_FORMAT,
                          "the invitation has a typing error. Copy it again instead of typing it, "
                          "or read its QR code");
}

static int parse(const char *text, uint64_t unix_now, mvpn_invitation *ret, mvpn_fault *fault)
{
    char date[32];
    struct tm tm;
    int rc = mvpn_invitation_parse(ret, text, unix_now);
    switch (rc) {
    case 0:
        return 0;
    case MVPN_E_UNKNOWN:
        return mvpn_fault_set(fault, rc,
                              "the invitation is of a newer version of MeshVPN. Update this one");
    case MVPN_E_POLICY:
        return mvpn_fault_set(fault, rc,
                              "the invitation was made wrong or altered: its entry node does not "
                              "belong to its address. Ask for a new one");
    case MVPN_E_EXPIRED: {
        time_t at = (time_t)ret->expires;
        (void)strftime(date, sizeof(date), "%Y-%m-%d %H:%M UTC", gmtime_r(&at, &tm));
        return mvpn_fault_set(fault, rc,
                              "the invitation expired on %s. Ask for a new one, or set this "
                              "computer's clock if it is wrong",
                              date);
    }
    default:
        return format_fault(text, fault);
    }
}

int mvpn_network_link_read(const char *link, uint64_t unix_now, mvpn_network_file *ret,
                           mvpn_fault *fault)
{
    mvpn_invitation inv = {0};
    *ret = (mvpn_network_file){0};
    int rc = parse(link, unix_now, &inv, fault);
    if (rc == 0) {
        ret->is_closed = inv.closed;
        ret->network_pub = inv.network_pub;
        mvpn_network_id(&ret->network_id, &ret->network_pub);
        ret->network_secret = inv.network_secret;
        ret->entry_count = 1;
        ret->entries[0] = inv.entry;
        ret->allow_private = inv.allow_private || !mvpn_addr_is_public(&inv.entry.addr);
        ret->relax = inv.relax;
        (void)snprintf(ret->name, sizeof(ret->name), "network-%02x%02x%02x%02x",
                       ret->network_id.b[0], ret->network_id.b[1], ret->network_id.b[2],
                       ret->network_id.b[3]);
    }
    mvpn_wipe(&inv, sizeof(inv));
    return rc;
}
