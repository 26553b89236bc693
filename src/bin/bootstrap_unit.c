/*
 * The systemd unit of a node: its user may read its keys, listen, and nothing else.
 * (systemd.exec(5); judged by systemd-analyze security in bootstrap_test.sh)
 */
#include <stdio.h>
#include <stdlib.h>

#include "bin/bootstrap.h"

#define PRIVILEGED_PORTS 1024

static bool needs_low_port(const mvpn_descriptor *d)
{
    for (unsigned i = 0; i < d->address_count; i++) {
        if (d->addresses[i].addr.port < PRIVILEGED_PORTS) {
            return true;
        }
    }
    return false;
}

static void write_service(FILE *out, const mesh_node *n)
{
    const kind_info *kind = &node_kinds[n->kind];
    bool is_exit = n->kind == NODE_EXIT;
    /* A name without a path: found in /usr/local/sbin as in /usr/sbin. */
    (void)fprintf(out,
                  "[Service]\n"
                  "Type=notify\n"
                  "ExecStart=%s --config /etc/meshvpn/%s.conf\n",
                  kind->program, kind->name);
    if (is_exit) {
        (void)fprintf(out, "ExecStopPost=-%s --config /etc/meshvpn/%s.conf --cleanup\n",
                      kind->program, kind->name);
    }
    (void)fprintf(out, "Restart=always\n"
                       "RestartSec=5\n"
                       "WatchdogSec=60\n"
                       "User=meshvpn\n"
                       "Group=meshvpn\n"
                       "UMask=0077\n"
                       "RuntimeDirectory=meshvpn\n"
                       "RuntimeDirectoryMode=0755\n"
                       "StateDirectory=meshvpn\n"
                       "StateDirectoryMode=0700\n"
                       "LimitNOFILE=65536\n");
    /* What must be taken back after a crash is noted there. */
    if (is_exit) {
        (void)fprintf(out, "RuntimeDirectoryPreserve=yes\n");
    }
}

/* Exits make a TUN interface, NAT rules and routes; the others at most a low port. */
static void write_rights(FILE *out, const mesh_node *n)
{
    bool has_port = needs_low_port(&n->descriptor), is_exit = n->kind == NODE_EXIT;
    const char *capabilities =
        is_exit    ? has_port ? "CAP_NET_ADMIN CAP_NET_BIND_SERVICE" : "CAP_NET_ADMIN"
        : has_port ? "CAP_NET_BIND_SERVICE"
                   : "";
    (void)fprintf(out, "CapabilityBoundingSet=%s\nAmbientCapabilities=%s\n", capabilities,
                  capabilities);
    if (is_exit) {
        (void)fprintf(out, "DeviceAllow=/dev/net/tun rw\n");
    } else {
        (void)fprintf(out, "PrivateDevices=yes\n"
                           "ProtectKernelTunables=yes\n"
                           "ProcSubset=pid\n");
    }
    if (capabilities[0] == '\0') {
        (void)fprintf(out, "PrivateUsers=yes\n");
    }
}

static void write_all(FILE *out, const mesh_node *n)
{
    (void)fprintf(out,
                  "# Written by meshvpn-bootstrap for the %s \"%s\".\n"
                  "[Unit]\n"
                  "Description=MeshVPN %s %s\n"
                  "Wants=network-online.target\n"
                  "After=network-online.target\n"
                  "\n",
                  node_kinds[n->kind].text, n->name, node_kinds[n->kind].text, n->name);
    write_service(out, n);
    write_rights(out, n);
    (void)fprintf(out, "NoNewPrivileges=yes\n"
                       "DevicePolicy=closed\n"
                       "KeyringMode=private\n"
                       "LockPersonality=yes\n"
                       "MemoryDenyWriteExecute=yes\n"
                       "PrivateTmp=yes\n"
                       "ProtectClock=yes\n"
                       "ProtectControlGroups=yes\n"
                       "ProtectHome=yes\n"
                       "ProtectHostname=yes\n"
                       "ProtectKernelLogs=yes\n"
                       "ProtectKernelModules=yes\n"
                       "ProtectProc=invisible\n"
                       "ProtectSystem=strict\n"
                       /* Its onion key is renewed each week. */
                       "ReadWritePaths=/etc/meshvpn\n"
                       "RemoveIPC=yes\n"
                       "RestrictAddressFamilies=AF_INET AF_INET6 AF_NETLINK AF_UNIX\n"
                       "RestrictNamespaces=yes\n"
                       "RestrictRealtime=yes\n"
                       "RestrictSUIDSGID=yes\n"
                       "SystemCallArchitectures=native\n"
                       "SystemCallErrorNumber=EPERM\n"
                       "SystemCallFilter=@system-service\n"
                       "SystemCallFilter=~@privileged @resources\n"
                       /* The program's own sandbox, which is tighter. */
                       "SystemCallFilter=capset landlock_add_rule "
                       "landlock_create_ruleset landlock_restrict_self seccomp\n"
                       "\n"
                       "[Install]\n"
                       "WantedBy=multi-user.target\n");
}

char *node_unit(const mesh_node *n)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (out == NULL) {
        return NULL;
    }
    write_all(out, n);
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}
