#include "puppet.h"

#include <stdlib.h>
#include <string.h>

static puppet_circuit *find(puppet *p, const mvpn_link *link, const mvpn_circuit_id *id)
{
    for (size_t i = 0; i < p->count; i++) {
        puppet_circuit *c = &p->circuit[i];
        if (c->c.link == link && memcmp(c->c.in.b, id->b, sizeof(id->b)) == 0) {
            return c;
        }
    }
    return NULL;
}

static void record_answer(puppet *p, puppet_circuit *c, const mvpn_header *header,
                          mvpn_packet *packet)
{
    mvpn_layer_header layer;
    if (header->command == MVPN_CMD_DESTROY) {
        c->is_destroyed = true;
        c->reason = packet->data[0];
    } else if (header->command == MVPN_CMD_RELAY &&
               mvpn_onion_open(&c->c.onion, p->env.aead, packet, header, &c->hop, &layer) == 0) {
        c->answers++;
        c->command = layer.command;
        c->len = packet->len;
        memcpy(c->data, packet->data, packet->len);
    }
    mvpn_packet_free(p->env.pool, packet);
}

static void on_message(sim_node *node, mvpn_link *link, const mvpn_header *header,
                       mvpn_packet *packet)
{
    puppet *p = node->user;
    mvpn_packet_queue to_tun;
    puppet_circuit *c = find(p, link, &header->circuit);
    if (c == NULL) {
        mvpn_packet_free(p->env.pool, packet);
    } else if (c->is_raw) {
        record_answer(p, c, header, packet);
    } else {
        mvpn_packet_queue_init(&to_tun);
        mvpn_circuit_message(&c->c, header, packet, node->world->now, &to_tun);
        mvpn_packet_queue_clear(&to_tun, p->env.pool);
    }
}

static void on_closed(sim_node *node, mvpn_link *link)
{
    puppet *p = node->user;
    for (size_t i = 0; i < p->count; i++) {
        if (p->circuit[i].c.link == link) {
            mvpn_circuit_link_closed(&p->circuit[i].c, node->world->now);
        }
    }
}

puppet *puppet_new(sim *w)
{
    puppet *p = calloc(1, sizeof(*p));
    MVPN_ASSERT(p != NULL);
    p->circuit = calloc(PUPPET_CIRCUITS, sizeof(*p->circuit));
    MVPN_ASSERT(p->circuit != NULL);
    sim_node *n = sim_add(w, SIM_PUPPET);
    n->config.packet_count = 4096;
    n->user = p;
    n->on_message = on_message;
    n->on_closed = on_closed;
    sim_start(n);
    p->node = n;
    p->env = (mvpn_circuit_env){
        .aead = n->aead,
        .rng = &n->rng,
        .pool = &n->pool,
        .links = n->links,
        .view = n->view,
        .realm = {.network_id = w->network_id,
                  .closed = w->is_closed,
                  .network_pub = w->network_pub},
        .size_policy = MVPN_SIZE_CLASSES,
        .suite = MVPN_SUITE_X25519,
        .family = 4,
    };
    if (w->is_closed) {
        mvpn_network_psk(&p->env.realm.psk, &w->network_secret);
    }
    return p;
}

void puppet_free(puppet *p)
{
    for (size_t i = 0; i < p->count; i++) {
        sim_current = p->node;
        mvpn_circuit_close(&p->circuit[i].c, 0, MVPN_REASON_FINISHED, 0, p->node->world->now);
        sim_current = NULL;
        sim_touch(p->node);
        if (i % 64 == 63) { /* a link has only so many messages under way */
            sim_for(p->node->world, MVPN_MS(50));
        }
    }
    p->node->on_message = NULL;
    p->node->on_closed = NULL;
    p->node->user = NULL;
    free(p->circuit);
    free(p);
}

puppet_circuit *puppet_start(puppet *p, sim_node *const *hops, size_t count)
{
    mvpn_path path = {.count = (unsigned)count};
    MVPN_ASSERT(p->count < PUPPET_CIRCUITS);
    for (size_t i = 0; i < count; i++) {
        path.hop[i] = hops[i]->config.identity;
    }
    puppet_circuit *c = &p->circuit[p->count++];
    sim_current = p->node;
    int r = mvpn_circuit_start(&c->c, &p->env, &path, p->node->world->now);
    sim_current = NULL;
    sim_touch(p->node);
    return r == 0 ? c : NULL;
}

static bool is_settled(sim *w, void *arg)
{
    const puppet_circuit *c = arg;
    (void)w;
    return c->c.state == MVPN_CIRCUIT_READY || c->c.state == MVPN_CIRCUIT_CLOSED;
}

puppet_circuit *puppet_build(puppet *p, sim_node *const *hops, size_t count)
{
    puppet_circuit *c = puppet_start(p, hops, count);
    if (c == NULL || !sim_run_until(p->node->world, is_settled, c, MVPN_S(5)) ||
        c->c.state != MVPN_CIRCUIT_READY) {
        return NULL;
    }
    c->is_raw = true;
    return c;
}

void puppet_send(puppet *p, puppet_circuit *c, unsigned hop, unsigned command, bool is_early,
                 const uint8_t *data, size_t len)
{
    mvpn_cell_kind kind = {(uint16_t)command, c->c.profile, p->env.size_policy};
    mvpn_header h;
    mvpn_packet *packet = mvpn_packet_new(p->env.pool);
    MVPN_ASSERT(packet != NULL);
    memcpy(mvpn_packet_append(packet, (uint32_t)len), data, len);
    sim_current = p->node;
    int r = mvpn_onion_seal(&c->c.onion, p->env.aead, hop, &kind, is_early, packet, &h);
    MVPN_ASSERT(r == 0);
    h.circuit = c->c.out;
    r = mvpn_link_send(c->c.link, packet, &h, is_early, p->node->world->now);
    MVPN_ASSERT(r == 0);
    sim_current = NULL;
    sim_touch(p->node);
}

void puppet_extend(puppet *p, puppet_circuit *c, const mvpn_descriptor *target,
                   const mvpn_descriptor *descriptor, bool is_early)
{
    uint8_t handshake[MVPN_HANDSHAKE_MAX], whole[MVPN_ASSEMBLY_MAX], part[MVPN_BODY_MAX];
    size_t n = 0;
    mvpn_noise noise;
    mvpn_onion_target onion = {target->identity, target->onion_keys[0].key, p->env.suite};
    int r =
        mvpn_handshake_begin(&noise, p->env.aead, p->env.rng, &p->env.realm, &onion, handshake, &n);
    MVPN_ASSERT(r == 0);
    mvpn_noise_done(&noise);
    mvpn_extend_body body = {
        .identity = target->identity,
        .suite = p->env.suite,
        .key_id = target->onion_keys[0].id,
        .handshake = mvpn_bytes_of(handshake, n),
        .descriptor = descriptor == NULL
                          ? MVPN_BYTES_NONE
                          : mvpn_bytes_of(descriptor->encoded, descriptor->encoded_len),
    };
    size_t len = mvpn_extend_body_encode(whole, sizeof(whole), &body);
    MVPN_ASSERT(len > 0);
    mvpn_extend m = {mvpn_rng_u32(p->env.rng), {(uint16_t)len, 0, mvpn_bytes_of(whole, len)}};
    len = mvpn_extend_encode(part, sizeof(part), &m);
    puppet_send(p, c, c->c.onion.count, MVPN_CMD_EXTEND, is_early, part, len);
}
