#include "nat.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "crypto/rng.h"

#define PORT_MIN 1024
#define SEQUENCE_FIRST 30000
#define SEQUENCE_LAST 60000

typedef struct mapping {
    mvpn_addr inside;
    mvpn_addr peer; /* as much of it as the mapping depends on, the rest zero */
    uint16_t port;  /* outside; of a firewall the inside one */
    mvpn_time expires;
    uint64_t id;
} mapping;

/* Someone to whom a mapping spoke, and who may answer. */
typedef struct permit {
    uint64_t mapping;
    mvpn_addr peer;
    mvpn_time expires;
} permit;

struct nat_box {
    nat_config config;
    mvpn_addr outside;
    nat_box *outer;
    mvpn_rng rng;
    uint16_t next_port;
    uint64_t next_id;
    mapping *mappings;
    size_t mapping_count, mapping_size;
    permit *permits;
    size_t permit_count, permit_size;
};

static const struct {
    const char *name;
    nat_config config;
} types[] = {
    {"full", {.mapping = NAT_ENDPOINT, .filtering = NAT_ENDPOINT}},
    {"addr", {.mapping = NAT_ENDPOINT, .filtering = NAT_ADDRESS}},
    {"port", {.mapping = NAT_ENDPOINT, .filtering = NAT_ADDRESS_PORT}},
    {"linux",
     {.mapping = NAT_ADDRESS_PORT, .filtering = NAT_ADDRESS_PORT, .ports = NAT_PORTS_PRESERVED}},
    {"addrmap", {.mapping = NAT_ADDRESS, .filtering = NAT_ADDRESS_PORT}},
    {"sym", {.mapping = NAT_ADDRESS_PORT, .filtering = NAT_ADDRESS_PORT}},
    {"symseq",
     {.mapping = NAT_ADDRESS_PORT, .filtering = NAT_ADDRESS_PORT, .ports = NAT_PORTS_SEQUENTIAL}},
    {"blocked", {.mapping = NAT_ENDPOINT, .filtering = NAT_ADDRESS_PORT, .is_blocked = true}},
    {"v6only", {.filtering = NAT_ADDRESS_PORT, .is_firewall = true}},
};

const nat_config *nat_type(const char *name)
{
    for (size_t i = 0; i < MVPN_ARRAY_LEN(types); i++) {
        if (strcmp(types[i].name, name) == 0) {
            return &types[i].config;
        }
    }
    return NULL;
}

nat_box *nat_new(const nat_config *config, const mvpn_addr *outside, nat_box *outer, uint64_t seed)
{
    nat_box *box = calloc(1, sizeof(*box));
    MVPN_ASSERT(box != NULL);
    box->config = *config;
    if (box->config.lifetime == 0) {
        box->config.lifetime = NAT_LIFETIME;
    }
    if (box->config.mappings_max == 0) {
        box->config.mappings_max = NAT_MAPPINGS;
    }
    box->outside = *outside;
    box->outside.port = 0;
    box->outer = outer;
    box->next_port = SEQUENCE_FIRST;
    mvpn_rng_init_test(&box->rng, seed);
    return box;
}

void nat_free(nat_box *box)
{
    if (box != NULL) {
        free(box->mappings);
        free(box->permits);
        free(box);
    }
}

const nat_config *nat_config_of(const nat_box *box)
{
    return &box->config;
}

nat_box *nat_outer(const nat_box *box)
{
    return box->outer;
}

const mvpn_addr *nat_outside(const nat_box *box)
{
    return &box->outside;
}

void nat_forget(nat_box *box)
{
    box->mapping_count = 0;
    box->permit_count = 0;
}

void nat_set_lifetime(nat_box *box, mvpn_time lifetime)
{
    box->config.lifetime = lifetime;
}

void nat_set_hairpin(nat_box *box, bool hairpin)
{
    box->config.hairpin = hairpin;
}

void nat_set_blocked(nat_box *box, bool is_blocked)
{
    box->config.is_blocked = is_blocked;
}

size_t nat_mappings(const nat_box *box, mvpn_time now)
{
    size_t count = 0;
    for (size_t i = 0; i < box->mapping_count; i++) {
        count += box->mappings[i].expires > now;
    }
    return count;
}

/* ---- tables ---- */

static void drop_expired(nat_box *box, mvpn_time now)
{
    size_t kept = 0;
    for (size_t i = 0; i < box->mapping_count; i++) {
        if (box->mappings[i].expires > now) {
            box->mappings[kept++] = box->mappings[i];
        }
    }
    box->mapping_count = kept;
    kept = 0;
    for (size_t i = 0; i < box->permit_count; i++) {
        if (box->permits[i].expires > now) {
            box->permits[kept++] = box->permits[i];
        }
    }
    box->permit_count = kept;
}

/* Room for one more in both tables. */
static void make_room(nat_box *box, mvpn_time now)
{
    if (box->mapping_count < box->mapping_size && box->permit_count < box->permit_size) {
        return;
    }
    drop_expired(box, now);
    if (box->mapping_count == box->mapping_size) {
        box->mapping_size = box->mapping_size == 0 ? 8 : box->mapping_size * 2;
        box->mappings = realloc(box->mappings, box->mapping_size * sizeof(*box->mappings));
        MVPN_ASSERT(box->mappings != NULL);
    }
    if (box->permit_count == box->permit_size) {
        box->permit_size = box->permit_size == 0 ? 8 : box->permit_size * 2;
        box->permits = realloc(box->permits, box->permit_size * sizeof(*box->permits));
        MVPN_ASSERT(box->permits != NULL);
    }
}

static mvpn_addr part_of(const mvpn_addr *peer, enum nat_dependence dependence)
{
    mvpn_addr part = {0};
    if (dependence != NAT_ENDPOINT) {
        part = *peer;
        part.port = dependence == NAT_ADDRESS ? 0 : peer->port;
    }
    return part;
}

static bool is_taken(const nat_box *box, uint16_t port, const mvpn_addr *by_other_than,
                     mvpn_time now)
{
    for (size_t i = 0; i < box->mapping_count; i++) {
        const mapping *m = &box->mappings[i];
        if (m->port == port && m->expires > now &&
            (by_other_than == NULL || !mvpn_addr_eq(&m->inside, by_other_than))) {
            return true;
        }
    }
    return false;
}

static uint16_t choose_port(nat_box *box, const mvpn_addr *inside, mvpn_time now)
{
    uint16_t port;
    if (box->config.ports == NAT_PORTS_PRESERVED && !is_taken(box, inside->port, inside, now)) {
        return inside->port;
    }
    do {
        if (box->config.ports == NAT_PORTS_SEQUENTIAL) {
            port = box->next_port;
            box->next_port = port == SEQUENCE_LAST ? SEQUENCE_FIRST : (uint16_t)(port + 1);
        } else {
            port = (uint16_t)(PORT_MIN + mvpn_rng_below(&box->rng, 65536 - PORT_MIN));
        }
    } while (is_taken(box, port, NULL, now));
    return port;
}

static mapping *mapping_find(nat_box *box, const mvpn_addr *inside, const mvpn_addr *peer,
                             mvpn_time now)
{
    for (size_t i = 0; i < box->mapping_count; i++) {
        mapping *m = &box->mappings[i];
        if (m->expires > now && mvpn_addr_eq(&m->inside, inside) && mvpn_addr_eq(&m->peer, peer)) {
            return m;
        }
    }
    return NULL;
}

static mapping *mapping_add(nat_box *box, const mvpn_addr *inside, const mvpn_addr *peer,
                            mvpn_time now)
{
    if (nat_mappings(box, now) >= box->config.mappings_max) {
        return NULL;
    }
    mapping m = {.inside = *inside, .peer = *peer, .port = inside->port, .id = box->next_id++};
    if (!box->config.is_firewall) {
        m.port = choose_port(box, inside, now);
    }
    box->mappings[box->mapping_count] = m;
    return &box->mappings[box->mapping_count++];
}

static permit *permit_find(nat_box *box, const mapping *m, const mvpn_addr *peer, mvpn_time now)
{
    mvpn_addr part = part_of(peer, box->config.filtering);
    for (size_t i = 0; i < box->permit_count; i++) {
        permit *p = &box->permits[i];
        if (p->mapping == m->id && p->expires > now && mvpn_addr_eq(&p->peer, &part)) {
            return p;
        }
    }
    return NULL;
}

/* ---- datagrams ---- */

bool nat_out(nat_box *box, const mvpn_addr *from, const mvpn_addr *to, mvpn_time now,
             mvpn_addr *ret_from)
{
    const nat_config *c = &box->config;
    if (c->is_blocked || from->family != to->family || from->family != box->outside.family) {
        return false;
    }
    make_room(box, now);
    mvpn_addr peer = part_of(to, c->mapping);
    mapping *m = mapping_find(box, from, &peer, now);
    if (m == NULL) {
        m = mapping_add(box, from, &peer, now);
    }
    if (m == NULL) {
        return false;
    }
    m->expires = now + c->lifetime;
    permit *p = permit_find(box, m, to, now);
    if (p == NULL) {
        p = &box->permits[box->permit_count++];
        *p = (permit){.mapping = m->id, .peer = part_of(to, c->filtering)};
    }
    p->expires = m->expires;
    *ret_from = *from;
    if (!c->is_firewall) {
        *ret_from = box->outside;
        ret_from->port = m->port;
    }
    return true;
}

static bool is_mapping_of(const nat_box *box, const mapping *m, const mvpn_addr *to, mvpn_time now)
{
    return m->expires > now &&
           (box->config.is_firewall ? mvpn_addr_eq(&m->inside, to) : m->port == to->port);
}

bool nat_in(nat_box *box, const mvpn_addr *from, const mvpn_addr *to, mvpn_time now,
            mvpn_addr *ret_to)
{
    const nat_config *c = &box->config;
    /* From our own outside address: a hairpin. Its filter would know only what is outside. */
    bool is_hairpin = c->hairpin && mvpn_addr_ip_eq(from, &box->outside);
    for (size_t i = 0; i < box->mapping_count && !c->is_blocked; i++) {
        mapping *m = &box->mappings[i];
        /* Mappings for several peers may share a preserved port: the one that lets it in. */
        if (!is_mapping_of(box, m, to, now)) {
            continue;
        }
        permit *p = permit_find(box, m, from, now);
        if (p == NULL && c->filtering != NAT_ENDPOINT && !is_hairpin) {
            continue;
        }
        if (c->is_kept_by_inbound) {
            m->expires = now + c->lifetime;
            if (p != NULL) {
                p->expires = m->expires;
            }
        }
        *ret_to = m->inside;
        return true;
    }
    return false;
}

bool nat_holder(const nat_box *box, const mvpn_addr *to, mvpn_time now, mvpn_addr *ret_to)
{
    for (size_t i = 0; i < box->mapping_count; i++) {
        if (is_mapping_of(box, &box->mappings[i], to, now)) {
            *ret_to = box->mappings[i].inside;
            return true;
        }
    }
    return false;
}
