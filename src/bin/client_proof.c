#include "bin/client_proof.h"

#include <string.h>

#include "base/error.h"
#include "io/clock.h"
#include "io/random.h"
#include "io/status_links.h"

/* What failed is tried again, and witnesses that appeared are asked: seldom, as each time they and
 * the exit see about twenty packets. */
#define AGAIN MVPN_S(30)
/* Who asks all the time gets the last answer. */
#define ASKED_PAUSE MVPN_S(1)

int client_proof_open(client_proof *c, mvpn_loop *loop, mvpn_node *node,
                      const mvpn_config_client *config, unsigned relax,
                      const mvpn_helper_host *host)
{
    *c = (client_proof){.loop = config->routes_all ? loop : NULL,
                        .node = node,
                        .config = config,
                        .relax = relax,
                        .resolver = host->gateway_v4,
                        .tun_v4 = host->tun_v4,
                        .tun_v6 = host->tun_v6};
    return c->loop != NULL ? mvpn_random_seed(&c->rng) : 0;
}

void client_proof_close(client_proof *c)
{
    mvpn_prover_free(c->prover);
    mvpn_rng_done(&c->rng);
    *c = (client_proof){.loop = NULL};
}

static bool is_connected(const client_proof *c, mvpn_client_status *ret)
{
    mvpn_client_get_status(mvpn_engine_client(mvpn_node_engine(c->node)), ret);
    return ret->state == MVPN_CLIENT_CONNECTED && ret->path.count > 0;
}

/* Was the last one begun at the exit that is in use? It may have changed since the last second. */
static bool is_at_exit(const client_proof *c, const mvpn_client_status *s)
{
    const mvpn_ed25519_pub *exit = &s->path.hop[s->path.count - 1];
    return c->has_exit && memcmp(exit->b, c->exit.b, sizeof(exit->b)) == 0;
}

static void on_seen(void *ctx, const mvpn_proof_observation *seen)
{
    client_proof *c = ctx;
    mvpn_client_status s;
    if (!is_connected(c, &s) || !is_at_exit(c, &s)) { /* what came back tells of neither exit */
        mvpn_prover_free(c->prover);
        c->prover = NULL;
        c->has_exit = c->is_known = false;
        return;
    }
    mvpn_proof_judge(seen, &c->proof);
    c->is_known = true;
    c->checked = c->ended = mvpn_clock_now();
    mvpn_engine_checked(mvpn_node_engine(c->node), mvpn_proof_holds(&c->proof), c->checked);
    mvpn_prover_free(c->prover);
    c->prover = NULL;
}

/* The host's own addresses, and the way past the tunnel. */
static void fill_host(const client_proof *c, mvpn_prover_options *o)
{
    mvpn_addrwatch_network network;
    if (mvpn_node_network(c->node, &network) != 0) {
        return;
    }
    o->known.own_count = MVPN_MIN(network.count, (size_t)MVPN_PROOF_OWN_MAX);
    memcpy(o->known.own, network.addrs, o->known.own_count * sizeof(network.addrs[0]));
    o->past_index = network.way[0].index != 0 ? network.way[0].index : network.way[1].index;
}

static mvpn_addr published(const mvpn_descriptor *exit, uint8_t family)
{
    const mvpn_addr *addr = exit != NULL ? mvpn_descriptor_find_address(exit, family) : NULL;
    return addr != NULL ? *addr : (mvpn_addr){.family = 0};
}

static void fill(client_proof *c, const mvpn_client_status *s, mvpn_prover_options *o)
{
    mvpn_engine *engine = mvpn_node_engine(c->node);
    const mvpn_view *view = mvpn_engine_view(engine);
    const mvpn_guards *guards = mvpn_client_guards(mvpn_engine_client(engine));
    const mvpn_descriptor *exit = mvpn_view_find(view, &s->path.hop[s->path.count - 1]);
    const mvpn_config_split *split = &c->config->split;
    *o = (mvpn_prover_options){
        .known = {.exit_v4 = published(exit, 4),
                  .exit_v6 = published(exit, 6),
                  .carries_v6 = s->has_ipv6,
                  .has_kill_switch = c->config->kill_switch},
        .resolver = c->resolver,
        .looks_at_way = !split->is_inside && split->network_count == 0,
    };
    o->known.tun_v4 = c->tun_v4;
    o->known.tun_v6 = c->tun_v6;
    if (split->is_inside) { /* any other program of this user is outside */
        o->from_v4 = c->tun_v4;
        o->from_v6 = c->tun_v6;
    }
    o->witness_count_v4 =
        mvpn_proof_witnesses(view, &s->path, guards, c->relax, 4, &c->rng, o->witnesses_v4);
    if (s->has_ipv6) {
        o->witness_count_v6 =
            mvpn_proof_witnesses(view, &s->path, guards, c->relax, 6, &c->rng, o->witnesses_v6);
    }
    fill_host(c, o);
}

/* It failed, or relays became known meanwhile that can say more. */
static bool is_worth_another(const client_proof *c, const mvpn_prover_options *o)
{
    return !mvpn_proof_holds(&c->proof) || (c->asked < MVPN_PROOF_WITNESSES &&
                                            o->witness_count_v4 + o->witness_count_v6 > c->asked);
}

void client_proof_tend(client_proof *c)
{
    mvpn_client_status s;
    mvpn_prover_options options;
    mvpn_time now = mvpn_clock_now();
    if (c->loop == NULL) {
        return;
    }
    if (!is_connected(c, &s)) { /* what was proven was about another circuit */
        c->has_exit = c->is_known = false;
        return;
    }
    const mvpn_ed25519_pub *exit = &s.path.hop[s.path.count - 1];
    bool is_new = !is_at_exit(c, &s);
    bool is_due = c->is_known && now - c->ended >= AGAIN;
    if (c->prover != NULL ? !is_new : !is_new && !c->is_wanted && !is_due) {
        return;
    }
    fill(c, &s, &options);
    if (is_due && !is_new && !c->is_wanted && !is_worth_another(c, &options)) {
        c->ended = now - AGAIN / 2; /* looked at again in a while */
        return;
    }
    mvpn_prover_free(c->prover);
    c->prover = NULL;
    c->is_known = c->is_known && !is_new;
    c->exit = *exit;
    c->has_exit = true;
    c->is_wanted = false;
    c->asked = (unsigned)(options.witness_count_v4 + options.witness_count_v6);
    /* Without memory or sockets it is tried again at the next second. */
    c->has_exit = mvpn_prover_new(c->loop, &options, on_seen, c, &c->prover) == 0;
}

void client_proof_ask(client_proof *c)
{
    if (c->prover == NULL && (!c->is_known || mvpn_clock_now() - c->ended >= ASKED_PAUSE)) {
        c->is_wanted = true;
        client_proof_tend(c);
    }
}

/* ---- the status ---- */

static json_t *verdict(enum mvpn_proof_verdict v)
{
    return v == MVPN_PROOF_UNKNOWN ? json_null() : json_boolean(v == MVPN_PROOF_HOLDS);
}

static json_t *address(const mvpn_addr *addr)
{
    char text[MVPN_ADDR_STRLEN];
    mvpn_addr bare = *addr;
    bare.port = 0;
    return addr->family == 0 ? json_null() : json_string(mvpn_addr_format(&bare, text));
}

static json_t *describe(const client_proof *c)
{
    const mvpn_proof *p = &c->proof;
    char exit[17];
    (void)mvpn_status_relay_name(mvpn_engine_view(mvpn_node_engine(c->node)), &c->exit, exit);
    json_int_t ago = (json_int_t)((mvpn_clock_now() - c->checked) / MVPN_US_PER_S);
    return json_pack(
        "{s:s, s:I, s:b, s:b, s:b, s:{s:o, s:o, s:I}, s:{s:o}, s:{s:o, s:b, s:o}, s:{s:o}}", "exit",
        exit, "checked_s_ago", ago, "checking", c->prover != NULL, "ok", mvpn_proof_holds(p),
        "astray", p->is_astray, "exit_address", "ok", verdict(p->exit_address), "seen",
        address(&p->seen), "witnesses", (json_int_t)p->witnesses, "dns", "ok", verdict(p->dns),
        "ipv6", "ok", verdict(p->ipv6), "carried", p->carries_v6, "seen", address(&p->seen_v6),
        "kill_switch", "ok", verdict(p->kill_switch));
}

void client_proof_status(const client_proof *c, json_t *reply)
{
    mvpn_client_status s;
    bool is = c->loop != NULL && c->is_known && is_connected(c, &s) && is_at_exit(c, &s);
    (void)json_object_set_new(reply, "proof", is ? describe(c) : json_null());
}
