/*
 * Behaviour discovery from the command line, for stun.sh: stun_probe SERVER... prints one line of
 * JSON, in the words of nat_tool.py.
 */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "io/clock.h"
#include "io/stun_probe.h"

static mvpn_loop *loop;

static const char *word(const char *name)
{
    return strcmp(name, "endpoint-independent") == 0         ? "endpoint"
           : strcmp(name, "address-dependent") == 0          ? "address"
           : strcmp(name, "address-and-port-dependent") == 0 ? "address and port"
                                                             : name;
}

static void ended(void *ctx, const mvpn_stun_result *r)
{
    mvpn_time *began = ctx;
    char mapped[MVPN_ADDR_STRLEN] = "", server[MVPN_ADDR_STRLEN] = "";
    if (r->has_address) {
        (void)mvpn_addr_format(&r->mapped[0], mapped);
        (void)mvpn_addr_format(&r->server, server);
    }
    json_t *o = json_pack(
        "{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:i, s:I, s:I}", "nat", mvpn_stun_nat_name(r->nat),
        "mapping", word(mvpn_stun_mapping_name(r->mapping)), "filtering",
        word(mvpn_stun_filtering_name(r->filtering)), "hairpin", mvpn_stun_hairpin_name(r->hairpin),
        "ports", mvpn_stun_ports_name(r->ports), "mapped", mapped, "server", server, "step",
        r->port_step, "forged", (json_int_t)r->forged, "ms",
        (json_int_t)((mvpn_clock_now() - *began) / MVPN_US_PER_MS));
    (void)json_dumpf(o, stdout, JSON_PRESERVE_ORDER);
    (void)puts("");
    json_decref(o);
    mvpn_loop_stop(loop);
}

int main(int argc, char **argv)
{
    mvpn_addr servers[MVPN_STUN_SERVERS_MAX];
    mvpn_stun_probe_options options = {.servers = servers};
    mvpn_stun_probe *probe = NULL;
    mvpn_fault fault = {.text = "usage: stun_probe ADDRESS:PORT..."};
    mvpn_time began = mvpn_clock_now();
    int r = argc < 2 || argc > 1 + MVPN_STUN_SERVERS_MAX ? MVPN_E_INVAL : 0;
    for (int i = 1; r == 0 && i < argc; i++) {
        r = mvpn_addr_parse(argv[i], &servers[options.server_count++]);
    }
    r = r != 0 ? r : mvpn_loop_new(&loop);
    r = r != 0 ? r : mvpn_stun_probe_new(loop, &options, ended, &began, &probe, &fault);
    if (r == 0) {
        r = mvpn_loop_run(loop);
    } else {
        (void)fprintf(stderr, "%s\n", fault.text);
    }
    mvpn_stun_probe_free(probe);
    mvpn_loop_free(loop);
    return r == 0 ? 0 : 1;
}
