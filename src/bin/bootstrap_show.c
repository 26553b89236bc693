/* meshvpn-bootstrap show: a network and its nodes, in words. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bin/bootstrap.h"
#include "core/path.h"
#include "io/clock.h"

/* The TCP ports that it lets out towards most of the internet. */
static void print_ports(const mvpn_descriptor *d)
{
    (void)printf("\n    lets out TCP");
    for (size_t i = 0; i < d->policy_range_count; i++) {
        const mvpn_port_range *r = &d->policy_ranges[i];
        (void)printf(r->first == r->last ? "%s%u" : "%s%u-%u", i > 0 ? "," : " ",
                     (unsigned)r->first, (unsigned)r->last);
    }
    if (d->policy_range_count == 0) {
        (void)printf(" nowhere");
    }
}

static void show_relay(const mvpn_descriptor *d, const char *kind, uint64_t now)
{
    char base64[MVPN_BASE64_LEN(32)], addr[MVPN_ADDR_STRLEN], date[16];
    time_t expires = (time_t)d->expires;
    struct tm tm;
    (void)strftime(date, sizeof(date), "%Y-%m-%d", gmtime_r(&expires, &tm));
    (void)printf("  %-24s %s%s%s%s%s%s%s%s\n", d->name[0] != '\0' ? d->name : "-",
                 (d->roles & MVPN_ROLE_GUARD) != 0 ? "guard " : "",
                 (d->roles & MVPN_ROLE_MIDDLE) != 0 ? "middle " : "",
                 (d->roles & MVPN_ROLE_EXIT) != 0 ? "exit " : "",
                 (d->roles & MVPN_ROLE_NAT_RELAY) != 0 ? "nat-relay " : "",
                 (d->roles & MVPN_ROLE_DISCOVERY) != 0 ? "discovery " : "", d->country, kind,
                 now > d->expires ? " EXPIRED" : "");
    (void)printf("    identity %s\n    address ",
                 mvpn_base64_encode(base64, sizeof(base64), MVPN_BYTES_ARRAY(d->identity.b)));
    if (node_is_at_home(d)) {
        (void)printf(" none: behind a NAT");
    }
    for (unsigned i = 0; i < d->address_count && !node_is_at_home(d); i++) {
        (void)printf(" %s", mvpn_addr_format(&d->addresses[i].addr, addr));
    }
    if (d->has_policy) {
        print_ports(d);
    }
    if (d->has_bandwidth) {
        (void)printf("\n    bandwidth %u Mbit/s", d->bandwidth_kbit / 1000);
    }
    if (d->provider[0] != '\0') {
        (void)printf("\n    provider %s", d->provider);
    }
    if (node_serial(d) != 0) {
        (void)printf("\n    serial %llu", (unsigned long long)node_serial(d));
    }
    (void)printf("\n    valid until %s\n", date);
}

static void show_beginnings(const mvpn_network_file *f)
{
    uint8_t bytes[MVPN_DHT_CONTACT6_LEN];
    char base64[MVPN_BASE64_LEN(MVPN_DHT_CONTACT6_LEN)], addr[MVPN_ADDR_STRLEN];
    for (size_t i = 0; i < f->entry_count; i++) {
        size_t n = mvpn_dht_contact_encode(bytes, sizeof(bytes), &f->entries[i]);
        (void)printf("  entry %s, in DNS: TXT \"meshvpn1 %s\"\n",
                     mvpn_addr_format(&f->entries[i].addr, addr),
                     mvpn_base64_encode(base64, sizeof(base64), mvpn_bytes_of(bytes, n)));
    }
    for (size_t i = 0; i < f->discovery_count; i++) {
        (void)printf("  discovery %s\n", f->discovery[i]);
    }
    if (f->dns[0] != '\0') {
        (void)printf("  TXT records at %s\n", f->dns);
    }
    if (f->lan_discovery) {
        (void)printf("  the local network is asked\n");
    }
    if (f->revocations.sequence != 0) {
        (void)printf("  %u certificate%s revoked\n", (unsigned)f->revocations.count,
                     f->revocations.count == 1 ? "" : "s");
    }
}

static void show_network(const mvpn_network_file *f)
{
    char base64[MVPN_BASE64_LEN(32)];
    (void)printf("network \"%s\" (%s)\n  id %s\n", f->name, f->is_closed ? "closed" : "open",
                 mvpn_base64_encode(base64, sizeof(base64), MVPN_BYTES_ARRAY(f->network_id.b)));
    (void)printf("  private addresses %s\n", f->allow_private ? "allowed" : "refused");
    (void)printf("  relaxed rules:%s%s%s%s\n", f->relax == 0 ? " none" : "",
                 (f->relax & MVPN_RELAX_BLOCK) != 0 ? " same-16" : "",
                 (f->relax & MVPN_RELAX_PROVIDER) != 0 ? " same-provider" : "",
                 (f->relax & MVPN_RELAX_FAMILY) != 0 ? " same-family" : "");
    show_beginnings(f);
}

/* In a member's directory there are none but those of the network file. */
static int show_nodes(const char *dir, const mvpn_network_file *f, mvpn_fault *fault)
{
    node_name *names = NULL;
    size_t count = 0;
    uint64_t now = mvpn_clock_unix();
    int rc = node_list(dir, &names, &count, fault);
    if (rc != 0) {
        return rc;
    }
    size_t shown = count > 0 ? count : f->relay_count;
    (void)printf("%zu node%s\n", shown, shown == 1 ? "" : "s");
    for (size_t i = 0; rc == 0 && i < count; i++) {
        mesh_node n;
        rc = node_load(dir, names[i].text, &n, fault);
        if (rc == 0) {
            show_relay(&n.descriptor, n.kind == NODE_BOOTSTRAP ? "entry" : "", now);
        }
    }
    for (size_t i = 0; count == 0 && i < f->relay_count; i++) {
        show_relay(&f->relays[i], "", now);
    }
    free(names);
    return rc;
}

/* Works on any directory with a network file: the network's key is not needed. */
int command_show(const options_given *given)
{
    arguments args;
    mvpn_fault fault;
    mvpn_network_file f;
    int rc = arguments_parse(&args, given);
    if (rc != 0) {
        return rc;
    }
    if (mvpn_network_file_load(path_of("%s/network.conf", args.dir).text, 0, &f, &fault) != 0) {
        return bootstrap_fail(&fault);
    }
    show_network(&f);
    rc = show_nodes(args.dir, &f, &fault);
    mvpn_network_file_done(&f);
    return rc == 0 ? EXIT_SUCCESS : bootstrap_fail(&fault);
}
