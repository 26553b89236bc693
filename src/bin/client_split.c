#include "bin/client_split.h"

#include "base/error.h"
#include "bin/client_program.h"
#include "core/split_answers.h"
#include "io/clock.h"
#include "network/ip/inner.h"

/* Between two warnings of the same. */
#define REFUSAL_PAUSE MVPN_S(600)

static void open_new(client_program *p, const mvpn_addr *addrs, unsigned count, mvpn_time now)
{
    mvpn_addr fresh[MVPN_SPLIT_ANSWER_MAX];
    unsigned fresh_count = 0;
    mvpn_fault fault = {.text = ""};
    (void)mvpn_split_leases_expire(&p->leases, now);
    mvpn_split_leases after = p->leases;
    for (unsigned i = 0; i < count; i++) {
        if (mvpn_split_leases_add(&after, &addrs[i], now)) {
            fresh[fresh_count++] = addrs[i];
        }
    }
    if (fresh_count == 0) {
        return;
    }
    if (mvpn_helper_open(p->cli.helper, fresh, fresh_count, &fault) == 0) {
        p->leases = after;
    } else { /* it is reached through the tunnel, then */
        mvpn_logf(&p->cli.log, MVPN_LOG_WARN, "a name stays inside the tunnel: %s", fault.text);
    }
}

static void look_outside(client_program *p, const mvpn_packet_queue *packets)
{
    const mvpn_addr gateway_v6 = mvpn_inner_gateway_addr(6);
    mvpn_addr addrs[MVPN_SPLIT_ANSWER_MAX];
    MVPN_LIST_FOREACH(it, &packets->head)
    {
        const mvpn_packet *packet = MVPN_CONTAINER_OF(it, mvpn_packet, link);
        unsigned count = mvpn_split_names_read(&p->cli.config.client.split.domains,
                                               mvpn_bytes_of(packet->data, packet->len),
                                               &p->host.gateway_v4, &gateway_v6, addrs);
        if (count > 0) {
            open_new(p, addrs, count, mvpn_clock_now());
        }
    }
}

/* ---- where names alone go inside ---- */

/* A page asks again and again. */
static void tell_refusal(client_program *p, const mvpn_fault *fault, mvpn_time now)
{
    if (p->told_refusal == 0 || now >= p->told_refusal + REFUSAL_PAUSE) {
        p->told_refusal = now;
        mvpn_logf(&p->cli.log, MVPN_LOG_WARN,
                  "a name of inside_domains is refused, as its addresses cannot be inside: %s",
                  fault->text);
    }
}

/* The helper comes to the same, as it makes the same calls with what is new. */
static bool hold_new(client_program *p, const mvpn_split_answer *answer, mvpn_time now)
{
    mvpn_split_leases after = p->leases;
    mvpn_addr fresh[MVPN_SPLIT_ANSWER_MAX];
    unsigned fresh_count = 0;
    mvpn_fault fault = {.text = ""};
    int r = 0;
    for (unsigned i = 0; r == 0 && i < answer->count; i++) {
        enum mvpn_split_hold hold = mvpn_split_leases_hold(&after, &answer->addrs[i],
                                                           now + fresh_count, MVPN_SPLIT_HOLD_STEP);
        if (hold == MVPN_SPLIT_FULL) {
            r = mvpn_fault_set(&fault, MVPN_E_LIMIT,
                               "%u came in the last 24 hours, which is the most. Name networks of "
                               "theirs in inside_networks",
                               MVPN_SPLIT_ADDRESSES_MAX);
        } else if (hold == MVPN_SPLIT_TAKEN) {
            fresh[fresh_count++] = answer->addrs[i];
        }
    }
    if (r == 0 && fresh_count > 0) {
        r = mvpn_helper_open(p->cli.helper, fresh, fresh_count, &fault);
    }
    if (r != 0) {
        tell_refusal(p, &fault, now);
        return false;
    }
    p->leases = after;
    return true;
}

/* Only what is inside by then is told. False: the packet must not arrive at all. */
static bool look_inside(client_program *p, mvpn_packet *packet, mvpn_time now)
{
    mvpn_split_answer answer;
    mvpn_split_answer_read(&p->cli.config.client.split.domains,
                           mvpn_bytes_of(packet->data, packet->len), &answer);
    if (answer.count > 0 && !hold_new(p, &answer, now)) {
        mvpn_split_answer_refuse(&answer);
    }
    if (answer.verdict == MVPN_SPLIT_REWRITE) {
        packet->len = mvpn_split_answer_write(&answer, packet->data, packet->len);
    }
    return answer.verdict != MVPN_SPLIT_DROP;
}

void client_split_look(void *program, mvpn_packet_queue *packets)
{
    client_program *p = program;
    if (!p->cli.config.client.split.is_inside) {
        look_outside(p, packets);
        return;
    }
    for (uint32_t left = packets->count; left > 0; left--) {
        mvpn_packet *packet = mvpn_packet_queue_pop(packets);
        if (look_inside(p, packet, mvpn_clock_now())) {
            mvpn_packet_queue_push(packets, packet);
        } else {
            mvpn_packet_free(mvpn_engine_pool(mvpn_node_engine(p->node)), packet);
        }
    }
}

json_t *client_split_status(const void *program)
{
    const client_program *p = program;
    const mvpn_config_split *split = &p->cli.config.client.split;
    mvpn_split_leases now = p->leases;
    if (!split->is_inside) {
        (void)mvpn_split_leases_expire(&now, mvpn_clock_now());
    }
    const char *mode = !mvpn_config_split_is_used(split) ? "none"
                       : split->is_inside                ? "inside"
                                                         : "outside";
    return json_pack("{s:s, s:i, s:i, s:i, s:i, s:i}", "mode", mode, "networks",
                     (int)split->network_count, "users", (int)split->user_count, "cgroups",
                     (int)split->cgroup_count, "domains", (int)split->domains.count,
                     "addresses_now", (int)now.count);
}

int client_outside_command(void *program, const json_t *request, json_t *reply)
{
    client_program *p = program;
    mvpn_fault fault = {.text = "this client has no host to change: it is a proxy"};
    (void)request;
    int r = p->cli.helper == NULL || p->cli.is_proxy
                ? MVPN_E_STATE
                : mvpn_helper_outside(p->cli.helper, mvpn_control_asker(p->cli.control), &fault);
    (void)(r == 0 ? json_object_set_new(reply, "ok", json_true())
                  : json_object_set_new(reply, "error", json_string(fault.text)));
    return r;
}
