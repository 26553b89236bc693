/*
 * resolv.conf(5) as text: what stands in one, which of it goes on to hold inside the tunnel, whose
 * it is, and who looks after the name servers of this host. Pure. (docs/architecture.md "Names")
 */
#ifndef MVPN_IO_RESOLV_CONF_H
#define MVPN_IO_RESOLV_CONF_H

#include <stdbool.h>
#include <stddef.h>

#include "base/addr.h"
#include "base/bytes.h"

/* Real ones are below 4 KB. */
#define MVPN_RESOLV_CONF_MAX 65536
/* resolv.conf(5): MAXNS. */
#define MVPN_RESOLV_CONF_SERVERS 3
/* What we write: two servers, some options and a comment. */
#define MVPN_RESOLV_CONF_OWN_MAX 2048
/* IFNAMSIZ - 1. */
#define MVPN_RESOLV_CONF_TUN_MAX 15

/* Who is told of the tunnel's name servers. */
enum mvpn_dns_manager {
    MVPN_DNS_NONE,       /* nobody: names stay as they are */
    MVPN_DNS_AUTO,       /* of the following the one that looks after this host's */
    MVPN_DNS_RESOLVED,   /* systemd-resolved, by D-Bus */
    MVPN_DNS_RESOLVCONF, /* the program resolvconf */
    MVPN_DNS_FILE,       /* /etc/resolv.conf itself */
};

/** "none", "auto", "systemd-resolved", "resolvconf", "file". */
const char *mvpn_dns_manager_text(enum mvpn_dns_manager manager);

/** Name servers in `text` in their order; what is none is left out. */
MVPN_WUR unsigned mvpn_resolv_conf_servers(mvpn_bytes text,
                                           mvpn_addr ret[static MVPN_RESOLV_CONF_SERVERS]);

/**
 * Write the file for the tunnel `tun`: `servers`, no search domains, EDNS, and those options of
 * `former` that change how questions are asked, not whom. Returns the length.
 */
MVPN_WUR size_t mvpn_resolv_conf_write(mvpn_bytes former, const char *tun, const mvpn_addr *servers,
                                       size_t count, char out[static MVPN_RESOLV_CONF_OWN_MAX]);

/** Did a client write this, whatever was added since? `tun` gets the tunnel's name ("" if that is
 * not to be read any more). */
bool mvpn_resolv_conf_is_ours(mvpn_bytes text, char tun[static MVPN_RESOLV_CONF_TUN_MAX + 1]);

/** Does `text` ask one of `servers`, first of all or at all? */
bool mvpn_resolv_conf_asks(mvpn_bytes text, const mvpn_addr *servers, size_t count, bool first);

/** Does `text` ask systemd-resolved's stub (127.0.0.53, 127.0.0.54), first of all? */
bool mvpn_resolv_conf_is_stub(mvpn_bytes text);

/* What `auto` decides by. */
typedef struct mvpn_dns_facts {
    mvpn_bytes text;     /* of /etc/resolv.conf, at the end of all links */
    const char *path;    /* where that is; "" = there is none */
    bool has_resolved;   /* org.freedesktop.resolve1 is on the system bus */
    bool has_resolvconf; /* the program, and it is not resolved's stand-in */
} mvpn_dns_facts;

/** Who looks after this host's name servers. Never NONE or AUTO. */
enum mvpn_dns_manager mvpn_dns_choose(const mvpn_dns_facts *facts);

#endif
