#include "bin/netcheck_report.h"

#include <string.h>

#define SCHEMA "meshvpn.netcheck/1"
/* Beside this a clock's error does not matter (links name the hour, docs/protocol.md §4.2), and the
 * times of peers are whole seconds. */
#define CLOCK_RIGHT_S 2

/* ---- the verdict ---- */

static void advise(netcheck_verdict *v, const char *text)
{
    if (v->advice_count < NETCHECK_ADVICE_MAX) {
        v->advice[v->advice_count++] = text;
    }
}

static enum mvpn_stun_nat name_of(const mvpn_netcheck_family *f)
{
    return f->is_answered ? mvpn_nat_class_name(&f->nat) : MVPN_STUN_NAT_UNKNOWN;
}

/* Two nodes behind such NATs find each other, whatever the other's is. */
static bool is_easy(const mvpn_netcheck_family *f)
{
    enum mvpn_stun_nat name = name_of(f);
    bool is_predictable =
        name == MVPN_STUN_NAT_SYMMETRIC &&
        (f->nat.ports == MVPN_STUN_PORTS_SEQUENTIAL || f->nat.ports == MVPN_STUN_PORTS_PRESERVING);
    return name == MVPN_STUN_NAT_NONE || name == MVPN_STUN_NAT_FULL_CONE ||
           name == MVPN_STUN_NAT_RESTRICTED || name == MVPN_STUN_NAT_PORT_RESTRICTED ||
           is_predictable;
}

static bool has_mapping(const mvpn_gateway_found *g)
{
    return g->has_pcp || g->has_natpmp || g->has_upnp;
}

/* The gateway names an address that the world does not see: there is one more NAT before it. */
static bool is_behind_another(const mvpn_netcheck_result *r)
{
    const mvpn_gateway_found *g = &r->gateway;
    bool is_same = false;
    for (size_t i = 0; i < r->v4.seen_count; i++) {
        is_same |= mvpn_addr_ip_eq(&r->v4.seen[i], &g->external);
    }
    return g->external.family == 4 && r->v4.seen_count > 0 && !is_same;
}

static void judge_blocked(netcheck_verdict *v, const mvpn_netcheck_result *r)
{
    v->kind = NETCHECK_BLOCKED;
    if (r->tcp_reached > 0) {
        v->summary = "Blocked: this network lets no UDP out, and MeshVPN needs UDP";
    } else {
        v->summary = "Blocked: nobody answers, neither by UDP nor by TCP 443";
        advise(v, "Does anything else work here? A network with a log-in page lets nothing out "
                  "before you have logged in.");
    }
    advise(v, "Try another network, or a phone's hotspot.");
    advise(v, "Or ask who runs this network to let UDP out.");
    advise(v, "A carrier over TCP 443, which passes almost everywhere, is not there yet.");
}

static void judge_nat(netcheck_verdict *v, const mvpn_netcheck_result *r)
{
    bool is_symmetric =
        name_of(&r->v4) == MVPN_STUN_NAT_SYMMETRIC || name_of(&r->v6) == MVPN_STUN_NAT_SYMMETRIC;
    v->kind = NETCHECK_GOOD;
    v->summary = "Good: direct connections are likely";
    if (name_of(&r->v4) == MVPN_STUN_NAT_NONE || name_of(&r->v6) == MVPN_STUN_NAT_NONE) {
        v->summary = "Good: this computer has a public address; direct connections are likely";
    } else if (!is_easy(&r->v4) && !is_easy(&r->v6)) {
        if (!is_symmetric) {
            v->kind = NETCHECK_UNSURE;
            v->summary = "Unsure: UDP passes, but the kind of NAT could not be measured";
            advise(v, "It takes two nodes of the network at different addresses, or a STUN server "
                      "that knows RFC 5780: --server HOST.");
        } else if (!has_mapping(&r->gateway) || is_behind_another(r)) {
            v->kind = NETCHECK_RELAYED;
            v->summary = "Relayed: this NAT uses another port for every destination; connections "
                         "with others behind such NATs go through a relay";
            advise(v, "It works, somewhat slower. A router that knows PCP, NAT-PMP or UPnP, or "
                      "IPv6, would make direct connections likely.");
        } else {
            advise(v, "This NAT uses another port for every destination, but the gateway opens "
                      "ports: a relay here should set port_mapping = true.");
        }
    }
}

void netcheck_judge(netcheck_verdict *ret, const mvpn_netcheck_result *r)
{
    netcheck_verdict v = {.kind = NETCHECK_OFFLINE};
    if (r->v4.local.family == 0 && r->v6.local.family == 0) {
        v.summary = "Offline: this computer has no route to the internet";
        advise(&v, "Connect it to a network first.");
    } else if (!r->v4.is_asked && !r->v6.is_asked) {
        v.kind = NETCHECK_NOBODY;
        v.summary = "Unknown: there is nobody to ask";
        advise(&v, "Name a configuration whose network file has entries (--config FILE), or a "
                   "STUN server (--server HOST).");
    } else if (!r->v4.is_answered && !r->v6.is_answered) {
        judge_blocked(&v, r);
    } else {
        judge_nat(&v, r);
    }
    *ret = v;
}

const char *netcheck_kind_name(enum netcheck_kind kind)
{
    switch (kind) {
    case NETCHECK_GOOD:
        return "good";
    case NETCHECK_RELAYED:
        return "relayed";
    case NETCHECK_UNSURE:
        return "unsure";
    case NETCHECK_BLOCKED:
        return "blocked";
    case NETCHECK_OFFLINE:
        return "offline";
    case NETCHECK_NOBODY:
        break;
    }
    return "unknown";
}

/* ---- for a person ---- */

static const char *ip_text(const mvpn_addr *addr, char out[static MVPN_ADDR_STRLEN])
{
    mvpn_addr bare = *addr;
    bare.port = 0;
    return mvpn_addr_format(&bare, out);
}

static const char *udp_text(const mvpn_netcheck_family *f)
{
    return f->local.family == 0 ? "no route here"
           : !f->is_asked       ? "nobody to ask"
           : f->is_answered     ? "passes"
                                : "no answer";
}

static void print_address(FILE *out, const char *name, const mvpn_netcheck_family *f)
{
    char local[MVPN_ADDR_STRLEN], seen[MVPN_ADDR_STRLEN];
    if (f->local.family == 0) {
        return;
    }
    (void)fprintf(out, "%-13s ", name);
    for (size_t i = 0; i < f->seen_count; i++) {
        (void)fprintf(out, "%s%s", i > 0 ? ", " : "", ip_text(&f->seen[i], seen));
    }
    bool is_own = f->seen_count == 1 && mvpn_addr_ip_eq(&f->seen[0], &f->local);
    if (f->seen_count == 0) {
        (void)fputs("not known outside", out);
    }
    if (is_own) {
        (void)fputs(", this computer's own\n", out);
    } else {
        (void)fprintf(out, "; this computer has %s\n", ip_text(&f->local, local));
    }
}

static void print_nat(FILE *out, const char *name, const mvpn_netcheck_family *f)
{
    const mvpn_nat_class *c = &f->nat;
    if (!f->is_answered) {
        return;
    }
    (void)fprintf(out, "%-13s %s: mapping %s, filtering %s\n", name,
                  mvpn_stun_nat_name(mvpn_nat_class_name(c)),
                  c->is_public ? "none" : mvpn_stun_mapping_name(c->mapping),
                  mvpn_stun_filtering_name(c->filtering));
    if (c->is_public) {
        return;
    }
    (void)fprintf(out, "%-13s hairpin %s, ports %s", "", mvpn_stun_hairpin_name(c->hairpin),
                  mvpn_stun_ports_name(c->ports));
    if (c->ports == MVPN_STUN_PORTS_SEQUENTIAL) {
        (void)fprintf(out, " (next %+d)", c->port_step);
    }
    (void)fputs("\n", out);
}

static void print_lifetime(FILE *out, const mvpn_netcheck_result *r)
{
    if (r->lifetime_s > 0) {
        (void)fprintf(out, "lifetime      of a mapping: at least %u s\n", (unsigned)r->lifetime_s);
    } else {
        (void)fputs("lifetime      of a mapping: unknown yet\n", out);
    }
}

static void print_gateway(FILE *out, const mvpn_netcheck_result *r)
{
    const mvpn_gateway_found *g = &r->gateway;
    char external[MVPN_ADDR_STRLEN];
    (void)fprintf(out, "port mapping  %s%s%s%s", g->has_pcp ? "PCP " : "",
                  g->has_natpmp ? "NAT-PMP " : "", g->has_upnp ? "UPnP " : "",
                  has_mapping(g)           ? "offered"
                  : g->gateway.family != 0 ? "none offered"
                                           : "no home gateway here");
    if (g->external.family != 0) {
        (void)fprintf(out, "; the gateway is %s outside", ip_text(&g->external, external));
    }
    (void)fputs(is_behind_another(r) ? ", behind one more NAT\n" : "\n", out);
}

static const char *size_text(const mvpn_netcheck_family *f)
{
    return !f->is_full_size_known ? "not measured"
           : f->is_full_size      ? "packets of 1424 bytes pass"
                                  : "packets of 1424 bytes do not pass, those of 1232 do";
}

static void print_mtu(FILE *out, const char *name, const mvpn_netcheck_family *f)
{
    if (f->local.family != 0) {
        (void)fprintf(out, "%-13s %u at the interface; %s\n", name, f->interface_mtu, size_text(f));
    }
}

static void print_clock(FILE *out, const mvpn_netcheck_result *r)
{
    long long off = (long long)r->clock_offset_s, size = off < 0 ? -off : off;
    if (!r->has_clock) {
        (void)fputs("clock         not compared\n", out);
    } else if (size <= CLOCK_RIGHT_S) {
        (void)fputs("clock         right\n", out);
    } else {
        (void)fprintf(out, "clock         %lld s %s\n", size, off < 0 ? "fast" : "slow");
    }
}

void netcheck_print(FILE *out, const mvpn_netcheck_result *r, const netcheck_verdict *v)
{
    (void)fprintf(out, "%s\n", v->summary);
    for (size_t i = 0; i < v->advice_count; i++) {
        (void)fprintf(out, "  %s\n", v->advice[i]);
    }
    (void)fprintf(out, "udp           IPv4 %s, IPv6 %s\n", udp_text(&r->v4), udp_text(&r->v6));
    print_address(out, "address IPv4", &r->v4);
    print_address(out, "address IPv6", &r->v6);
    print_nat(out, "nat IPv4", &r->v4);
    print_nat(out, "nat IPv6", &r->v6);
    print_lifetime(out, r);
    print_gateway(out, r);
    print_mtu(out, "mtu IPv4", &r->v4);
    print_mtu(out, "mtu IPv6", &r->v6);
    if (r->tcp_asked > 0) {
        (void)fprintf(out, "tcp 443       %s: %u of %u hosts answer\n",
                      r->tcp_reached > 0 ? "reachable" : "no answer", r->tcp_reached, r->tcp_asked);
    } else {
        (void)fputs("tcp 443       nobody to ask\n", out);
    }
    print_clock(out, r);
    (void)fprintf(out, "asked         %u nodes, %u answered; %u STUN servers; %.1f s\n",
                  r->nodes_asked, r->nodes_answered, r->servers_asked, r->took_ms / 1000.0);
}

/* ---- for programs ---- */

/* null where it is not known */
static json_t *maybe(bool is_known, bool value)
{
    return is_known ? json_boolean(value) : json_null();
}

static json_t *address_json(const mvpn_addr *addr)
{
    char text[MVPN_ADDR_STRLEN];
    return addr->family != 0 ? json_string(ip_text(addr, text)) : json_null();
}

static json_t *seen_json(const mvpn_netcheck_family *f)
{
    json_t *list = json_array();
    for (size_t i = 0; i < f->seen_count; i++) {
        (void)json_array_append_new(list, address_json(&f->seen[i]));
    }
    return list;
}

static json_t *family_json(const mvpn_netcheck_family *f)
{
    static const char *const sources[] = {
        [MVPN_NETCHECK_BY_NOBODY] = NULL,
        [MVPN_NETCHECK_BY_LINKS] = "links",
        [MVPN_NETCHECK_BY_STUN] = "stun",
    };
    const mvpn_nat_class *c = &f->nat;
    bool is_sequential = c->ports == MVPN_STUN_PORTS_SEQUENTIAL;
    if (f->local.family == 0) {
        return json_null();
    }
    return json_pack("{s:o, s:o, s:o, s:s, s:s, s:s, s:s, s:s, s:o, s:s?, s:o, s:o, s:o}", "udp",
                     maybe(f->is_asked, f->is_answered), "local", address_json(&f->local),
                     "addresses", seen_json(f), "nat", mvpn_stun_nat_name(name_of(f)), "mapping",
                     c->is_public ? "none" : mvpn_stun_mapping_name(c->mapping), "filtering",
                     mvpn_stun_filtering_name(c->filtering), "hairpin",
                     mvpn_stun_hairpin_name(c->hairpin), "ports", mvpn_stun_ports_name(c->ports),
                     "port_step", is_sequential ? json_integer(c->port_step) : json_null(),
                     "source", sources[f->source], "mtu",
                     f->interface_mtu > 0 ? json_integer(f->interface_mtu) : json_null(),
                     "full_size", maybe(f->is_full_size_known, f->is_full_size), "rtt_ms",
                     f->rtt_us > 0 ? json_real(f->rtt_us / 1000.0) : json_null());
}

static json_t *gateway_json(const mvpn_netcheck_result *r)
{
    const mvpn_gateway_found *g = &r->gateway;
    return json_pack("{s:o, s:b, s:b, s:b, s:o, s:b}", "gateway", address_json(&g->gateway), "pcp",
                     g->has_pcp, "nat_pmp", g->has_natpmp, "upnp", g->has_upnp, "external",
                     address_json(&g->external), "behind_another_nat", is_behind_another(r));
}

json_t *netcheck_json(const mvpn_netcheck_result *r, const netcheck_verdict *v)
{
    json_t *advice = json_array();
    for (size_t i = 0; i < v->advice_count; i++) {
        (void)json_array_append_new(advice, json_string(v->advice[i]));
    }
    return json_pack(
        "{s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:{s:i, s:i, s:o}, s:o, s:b, s:{s:i, s:i, s:i}, "
        "s:i}",
        "schema", SCHEMA, "verdict", netcheck_kind_name(v->kind), "summary", v->summary, "advice",
        advice, "ipv4", family_json(&r->v4), "ipv6", family_json(&r->v6), "mapping_lifetime_s",
        r->lifetime_s > 0 ? json_integer(r->lifetime_s) : json_null(), "port_mapping",
        gateway_json(r), "tcp_443", "asked", (int)r->tcp_asked, "reached", (int)r->tcp_reached,
        "reachable", maybe(r->tcp_asked > 0, r->tcp_reached > 0), "clock_offset_s",
        r->has_clock ? json_integer(r->clock_offset_s) : json_null(), "around_tunnel", r->is_marked,
        "asked", "nodes", (int)r->nodes_asked, "answered", (int)r->nodes_answered, "stun_servers",
        (int)r->servers_asked, "took_ms", (int)r->took_ms);
}
