#include "bin/up_trouble.h"

#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "io/clock.h"
#include "io/host_look.h"
#include "io/kill_switch.h"
#include "io/netlink.h"
#include "io/network_file.h"

/* Silence is only known to be one after so long (io/silence.h): what it explains better waits. */
#define SILENCE_MS 13500
#define TUN_DEVICE "/dev/net/tun"

/* Causes that the daemon names, and those that only the host's look tells. */
static const struct trouble_row {
    const char *code;
    enum up_exit exit;
    unsigned patience_ms;
    const char *cause, *remedy;
} rows[] = {
    {"offline", UP_NO_NETWORK, 2000, "this computer has no network: no route leads to the internet",
     "Connect it (ip route shows the ways out); the client goes on by itself as soon as it can"},
    {"other-vpn", UP_OTHER_VPN, 4000,
     "another VPN takes our packets and nothing comes back: they leave by its interface",
     "End that VPN first"},
    {"rp-filter", UP_RP_FILTER, 2000,
     "this computer drops the answers of guards: strict reverse path filtering (rp_filter = 1)",
     "Make it loose: sudo sysctl net.ipv4.conf.all.rp_filter=2 (and in /etc/sysctl.d for the next "
     "start); then sudo meshvpn reconnect"},
    {"clock", UP_CLOCK, 2000, "this computer's clock is wrong",
     "Set it: sudo timedatectl set-ntp true; then sudo meshvpn reconnect"},
    {"udp-blocked", UP_UDP_BLOCKED, 0,
     "nothing comes back over UDP: this network seems to block it",
     "Try another network, or a phone's hotspot; meshvpn netcheck tells more"},
    {"no-entry", UP_NO_GUARD, SILENCE_MS, "none of those whom the network file names answers",
     "Ask who runs the network whether it is up; meshvpn netcheck looks at your own"},
    {"no-guard", UP_NO_GUARD, SILENCE_MS, "none of this client's guards answers",
     "sudo meshvpn reconnect asks them again; meshvpn netcheck looks at your own network"},
    /* An entry that knows no relays yet is asked again after 5 s. */
    {"no-path", UP_NO_PATH, 8000, "no path can be chosen",
     "Relax what you ask for: meshvpn exit use auto, exit_country or hops in the configuration; "
     "meshvpn exit list shows what there is"},
    {"no-hop", UP_NO_GUARD, 25000, "the relays behind the guard do not answer",
     "sudo meshvpn reconnect tries others"},
    {"no-session", UP_NO_EXIT, 12000, "no exit opens a session",
     "Choose another exit: meshvpn exit list, meshvpn exit use"},
    {"names-silent", UP_NO_NAMES, 5000, "the exit does not answer questions for names",
     "Choose another exit: sudo meshvpn circuit new"},
    {"names-refused", UP_NO_NAMES, 5000, "the exit cannot resolve names",
     "Choose another exit: sudo meshvpn circuit new"},
    {"no-tun", UP_NO_TUN, 0, "this computer has no TUN device: " TUN_DEVICE " is missing",
     "sudo modprobe tun; in a container, have its host give it " TUN_DEVICE
     ". Without it: meshvpn proxy"},
    {"no-rights", UP_NO_RIGHTS, 0, "you may not set up the network of this computer",
     "sudo meshvpn up; or without any rights, for some programs: meshvpn proxy"},
    {"check-failed", UP_NOT_PROVEN, 1000, "connected, but the test of the protection failed",
     "See meshvpn status; sudo meshvpn down, then sudo meshvpn up sets everything up anew"},
};

static const struct trouble_row *row_of(const char *code)
{
    for (size_t i = 0; code != NULL && i < MVPN_ARRAY_LEN(rows); i++) {
        if (strcmp(rows[i].code, code) == 0) {
            return &rows[i];
        }
    }
    return NULL;
}

static bool fill(up_trouble *ret, const char *code, const char *detail)
{
    const struct trouble_row *row = row_of(code);
    if (row == NULL) {
        return false;
    }
    *ret = (up_trouble){.exit = row->exit, .code = row->code};
    (void)snprintf(ret->remedy, sizeof(ret->remedy), "%s", row->remedy);
    (void)snprintf(ret->cause, sizeof(ret->cause), "%s%s%.300s", row->cause,
                   detail[0] != '\0' ? ": " : "", detail);
    return true;
}

/* ---- the host ---- */

/* CAP_NET_ADMIN is bit 12 of CapEff. */
static bool has_net_admin(void)
{
    unsigned long long effective = 0;
    char line[128];
    FILE *f = fopen("/proc/self/status", "r");
    while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
        if (sscanf(line, "CapEff: %llx", &effective) == 1) {
            break;
        }
    }
    if (f != NULL) {
        (void)fclose(f);
    }
    return (effective >> 12 & 1) != 0;
}

bool up_trouble_before(const mvpn_config *config, up_trouble *ret)
{
    struct stat st;
    (void)config;
    if (!has_net_admin()) {
        return fill(ret, "no-rights", "");
    }
    if (stat(TUN_DEVICE, &st) != 0) {
        return fill(ret, "no-tun", "");
    }
    return false;
}

static bool drops_answers(const mvpn_host_view *view, uint32_t index)
{
    char name[IF_NAMESIZE];
    return if_indextoname(index, name) != NULL && mvpn_host_drops_answers(view, name);
}

/* The ways out of packets with our mark: false if there is none. `tunnel`: somebody else's tunnel
 * that one of them takes, or "". */
static bool find_ways(const mvpn_config *config, char tunnel[static IF_NAMESIZE],
                      bool *ret_is_filtered)
{
    mvpn_netlink *nl = NULL;
    mvpn_host_view view;
    bool has_way = false;
    tunnel[0] = '\0';
    *ret_is_filtered = false;
    if (mvpn_netlink_open(&nl, NULL) != 0) {
        return true; /* nobody knows */
    }
    mvpn_host_look(config->client.table, MVPN_KILL_SWITCH_TABLE, &view);
    for (unsigned family = 4; family <= 6; family += 2) {
        mvpn_netlink_way way = {0};
        if (mvpn_netlink_way_out(nl, family, config->client.mark, &way, NULL) != 0 ||
            way.index == 0) {
            continue;
        }
        has_way = true;
        *ret_is_filtered = *ret_is_filtered || (family == 4 && drops_answers(&view, way.index));
        for (unsigned i = 0; i < view.tunnel_count; i++) {
            if (view.tunnels[i].index == way.index &&
                strcmp(view.tunnels[i].name, config->client.tun_name) != 0) {
                (void)snprintf(tunnel, IF_NAMESIZE, "%s", view.tunnels[i].name);
            }
        }
    }
    mvpn_netlink_close(nl);
    return has_way;
}

/* ---- the clock ---- */

static bool clock_is_off(const json_t *status, char out[static 128])
{
    const json_t *clock = json_object_get(status, "clock");
    if (!json_is_true(json_object_get(clock, "is_wrong"))) {
        return false;
    }
    json_int_t off = json_integer_value(json_object_get(clock, "offset_s"));
    (void)snprintf(out, 128, "%lld s %s, by what others say", (long long)(off < 0 ? -off : off),
                   off < 0 ? "fast" : "slow");
    return true;
}

/* All that the network file lists is out of its time: nobody need answer for that to be seen. */
static bool file_is_out_of_time(const mvpn_config *config, char out[static 128])
{
    mvpn_network_file *file = calloc(1, sizeof(*file));
    uint64_t now = mvpn_clock_unix();
    time_t seconds = (time_t)now;
    struct tm tm;
    bool is_out = file != NULL &&
                  mvpn_network_file_load(config->network_file, now, file, NULL) == 0 &&
                  file->expired_count > 0 && file->expired_count >= file->relay_count;
    if (is_out && gmtime_r(&seconds, &tm) != NULL) {
        (void)strftime(out, 128,
                       "it says %Y-%m-%d, and the network file's relays are of another time (or "
                       "have expired: ask for a new file)",
                       &tm);
    }
    if (file != NULL) {
        mvpn_network_file_done(file);
    }
    free(file);
    return is_out;
}

/* ---- what holds it up ---- */

static const json_t *stage_held_up(const json_t *status)
{
    const json_t *stage;
    size_t i;
    json_array_foreach(json_object_get(status, "stages"), i, stage)
    {
        if (json_is_string(json_object_get(stage, "code"))) {
            return stage;
        }
    }
    return NULL;
}

bool up_trouble_find(const json_t *status, const mvpn_config *config, up_trouble *ret,
                     unsigned *ret_patience_ms)
{
    const json_t *stage = stage_held_up(status);
    const char *code = json_string_value(json_object_get(stage, "code"));
    const char *reason = json_string_value(json_object_get(stage, "reason"));
    const char *state = json_string_value(json_object_get(status, "state"));
    char tunnel[IF_NAMESIZE] = "", text[128] = "";
    bool is_connected = state != NULL && strcmp(state, "connected") == 0;
    bool found = false, is_filtered = false;
    if (!is_connected && !find_ways(config, tunnel, &is_filtered)) {
        found = fill(ret, "offline", "");
    } else if (!is_connected && tunnel[0] != '\0') {
        found = fill(ret, "other-vpn", tunnel);
        size_t len = strlen(ret->remedy);
        (void)snprintf(ret->remedy + len, sizeof(ret->remedy) - len,
                       ", or have it leave the mark %#x alone (ip rule shows its rules)",
                       config->client.mark);
    } else if (code != NULL && !is_connected && is_filtered) {
        found = fill(ret, "rp-filter", "");
    } else if (code != NULL && !is_connected &&
               (clock_is_off(status, text) || file_is_out_of_time(config, text))) {
        found = fill(ret, "clock", text);
    } else if (code != NULL) {
        found = fill(ret, code, strcmp(code, "no-path") == 0 && reason != NULL ? reason : "");
    }
    if (found) {
        *ret_patience_ms = row_of(ret->code)->patience_ms;
    }
    return found;
}

bool up_trouble_after(const mvpn_config *config, up_trouble *ret)
{
    char text[128];
    return file_is_out_of_time(config, text) && fill(ret, "clock", text);
}

const char *up_exit_lacks(const json_t *status)
{
    const json_t *stages = json_object_get(status, "stages");
    const json_t *last = json_array_get(stages, json_array_size(stages) - 1);
    const char *name = json_string_value(json_object_get(last, "name"));
    const char *reason =
        json_string_value(json_object_get(json_object_get(status, "exit_choice"), "reason"));
    bool is_tested = name != NULL && strcmp(name, "checked") == 0;
    return reason != NULL ? reason
           : is_tested && !json_is_object(json_object_get(status, "proof"))
               ? "the protection was not yet tested at this exit"
               : NULL;
}

void up_trouble_timeout(const json_t *status, unsigned long hops, up_trouble *ret)
{
    const json_t *stage, *found = NULL;
    size_t i;
    json_array_foreach(json_object_get(status, "stages"), i, stage)
    {
        const char *state = json_string_value(json_object_get(stage, "state"));
        if (state != NULL && strcmp(state, "done") != 0) {
            found = stage;
            break;
        }
    }
    const char *title = json_string_value(json_object_get(found, "title"));
    *ret = (up_trouble){
        .exit = UP_CONNECTING,
        .code = "timeout",
        .remedy = "It goes on trying: meshvpn status --watch. Or look: meshvpn netcheck, meshvpn "
                  "doctor",
    };
    const char *lack = status != NULL ? up_exit_lacks(status) : NULL;
    if (found == NULL && lack != NULL) {
        (void)snprintf(ret->cause, sizeof(ret->cause), "connected, but %s", lack);
        return;
    }
    if (found == NULL && hops > 0 && status != NULL) {
        (void)snprintf(ret->cause, sizeof(ret->cause),
                       "connected, but no path of %lu relays was built in time", hops);
        (void)snprintf(ret->remedy, sizeof(ret->remedy),
                       "It goes on trying; or ask for fewer: sudo meshvpn up --hops N");
        return;
    }
    (void)snprintf(ret->cause, sizeof(ret->cause), "the time is over while at: %s",
                   title != NULL ? title : "the start");
}
