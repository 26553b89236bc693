#include "dht_foe.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "wire/message.h"

/* Time between two pushes of a foe. */
#define PUSH MVPN_S(10)
/* Honest nodes drawn to find one near the own place. */
#define NEAR_DRAWS 64
/* Foes looked at for a reply: the quotas leave out some. */
#define CANDIDATES 96
#define PER_BLOCK 2
#define PER_NET 3
#define CONTACTS_MAX 8192
/* Fakes share so many bits with the target: as many as there are places to choose among. */
#define FAKE_BYTES 3

static const mvpn_dht_contact *foe_at(const dht_world *w, size_t i)
{
    return &w->node[w->foe[i]].self;
}

static unsigned bit_of(const mvpn_dht_id *id, unsigned bit)
{
    return (unsigned)id->b[bit / 8] >> (7 - bit % 8) & 1;
}

static size_t lower_bound(const dht_world *w, const mvpn_dht_id *id)
{
    size_t low = 0, high = w->foe_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (memcmp(foe_at(w, middle)->id.b, id->b, MVPN_DHT_ID_LEN) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* Foes [low, high) share their first `bit` bits: the nearest to the target come first. */
static size_t nearest(const dht_world *w, const mvpn_dht_id *target, size_t low, size_t high,
                      unsigned bit, uint32_t *out, size_t room)
{
    while (high > low + 1 && bit < MVPN_DHT_ID_BITS &&
           bit_of(&foe_at(w, low)->id, bit) == bit_of(&foe_at(w, high - 1)->id, bit)) {
        bit++;
    }
    if (high - low <= 1 || bit == MVPN_DHT_ID_BITS) {
        size_t count = MVPN_MIN(high - low, room);
        for (size_t i = 0; i < count; i++) {
            out[i] = w->foe[low + i];
        }
        return count;
    }
    size_t first = low, last = high;
    while (first < last) {
        size_t middle = (first + last) / 2;
        if (bit_of(&foe_at(w, middle)->id, bit) == 0) {
            first = middle + 1;
        } else {
            last = middle;
        }
    }
    bool is_upper = bit_of(target, bit) != 0;
    size_t count =
        nearest(w, target, is_upper ? first : low, is_upper ? high : first, bit + 1, out, room);
    if (count < room) {
        count += nearest(w, target, is_upper ? low : first, is_upper ? first : high, bit + 1,
                         out + count, room - count);
    }
    return count;
}

static bool is_welcome(const mvpn_dht_contact *taken, size_t count, const mvpn_dht_contact *c)
{
    size_t in_block = 0, in_net = 0;
    for (size_t i = 0; i < count; i++) {
        in_block += mvpn_dht_same_block(&taken[i].addr, &c->addr) ? 1 : 0;
        in_net += mvpn_addr_same_block(&taken[i].addr, &c->addr) ? 1 : 0;
    }
    return in_block < PER_BLOCK && in_net < PER_NET;
}

/* The nearest foes: first as many of each neighbourhood as anybody takes, then others of it in
 * case that somebody takes more. */
static size_t crowd(const dht_world *w, const mvpn_dht_id *target,
                    mvpn_dht_contact ret[static MVPN_DHT_K])
{
    uint32_t slots[CANDIDATES];
    size_t candidates = nearest(w, target, 0, w->foe_count, 0, slots, CANDIDATES);
    size_t count = 0;
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < candidates && count < MVPN_DHT_K; i++) {
            const mvpn_dht_contact *c = slots[i] < w->slots ? &w->node[slots[i]].self : NULL;
            if (c != NULL && (round == 1 || is_welcome(ret, count, c))) {
                ret[count++] = *c;
                slots[i] = UINT32_MAX;
            }
        }
    }
    return count;
}

/* Somebody could have found addresses whose ids lie there: they need not be one's own, for nobody
 * answers. */
static size_t fakes(dht_world *w, const mvpn_dht_id *target,
                    mvpn_dht_contact ret[static MVPN_DHT_K])
{
    for (size_t i = 0; i < MVPN_DHT_K; i++) {
        mvpn_dht_contact *c = &ret[i];
        dht_random_address(w, false, &c->addr);
        memcpy(c->id.b, target->b, FAKE_BYTES);
        for (size_t j = FAKE_BYTES; j < MVPN_DHT_ID_LEN; j++) {
            c->id.b[j] = (uint8_t)dht_random(w);
        }
        for (size_t j = 0; j < 32; j += 8) {
            mvpn_store64(c->link_key.b + j, dht_random(w));
        }
        mvpn_store32(c->link_key.b, UINT32_MAX);
    }
    return MVPN_DHT_K;
}

/* Whose record this is the key of: everybody can know. */
static const dht_node *owner_of(const dht_world *w, const mvpn_dht_id *key)
{
    for (size_t i = 0; i < w->alive; i++) {
        if (memcmp(w->node[i].key.b, key->b, sizeof(key->b)) == 0) {
            return &w->node[i];
        }
    }
    return NULL;
}

static bool bad_value(dht_node *n, const mvpn_dht_id *key, mvpn_dht_reply *ret)
{
    static uint8_t record[DHT_RECORD_LEN];
    dht_world *w = n->world;
    const dht_node *owner = owner_of(w, key);
    uint64_t expires = DHT_UNIX + 36000;
    if (owner == NULL) {
        return false;
    }
    if (n->mind == DHT_FOE_OLD) {
        dht_world_record(w, owner->serial, owner->sequence - 1, expires, record);
    } else if (dht_random(w) % 2 == 0) {
        dht_world_record(w, owner->serial, owner->sequence + 1000, expires, record);
        record[DHT_RECORD_LEN - 1] ^= 1;
    } else {
        dht_world_record(w, n->serial, owner->sequence + 1000, expires, record);
    }
    ret->command = MVPN_CMD_DHT_VALUE;
    ret->type = MVPN_RECORD_DESCRIPTOR;
    ret->record = MVPN_BYTES_ARRAY(record);
    return true;
}

static bool answer_search(dht_node *n, const mvpn_dht_request *request, mvpn_dht_reply *ret)
{
    dht_world *w = n->world;
    bool is_value = request->command == MVPN_CMD_DHT_FIND_VALUE;
    ret->command = MVPN_CMD_DHT_NODES;
    ret->contact_count = 0;
    switch (n->mind) {
    case DHT_FOE_SILENT:
        return false;
    case DHT_FOE_EMPTY:
        return true;
    case DHT_FOE_FAKE:
        ret->contact_count = fakes(w, &request->target, ret->contacts);
        return true;
    case DHT_FOE_OLD:
    case DHT_FOE_FORGER:
        if (is_value && bad_value(n, &request->target, ret)) {
            return true;
        }
        break;
    case DHT_HONEST:
    case DHT_FOE_CROWD:
    case DHT_MINDS:
        break;
    }
    ret->contact_count = crowd(w, &request->target, ret->contacts);
    return true;
}

bool dht_foe_answer(dht_node *n, uint32_t asker_serial, const mvpn_dht_asker *asker,
                    const mvpn_dht_request *request, mvpn_dht_reply *ret)
{
    (void)asker_serial;
    switch (request->command) {
    case MVPN_CMD_DHT_PING:
        ret->command = MVPN_CMD_DHT_PONG;
        ret->time = DHT_UNIX + n->world->now / MVPN_US_PER_S;
        ret->observed = asker->addr;
        return true;
    case MVPN_CMD_DHT_STORE:
        ret->command = MVPN_CMD_DHT_STORED;
        ret->status = MVPN_DHT_STORED;
        return true;
    case MVPN_CMD_DHT_LIST:
        ret->command = MVPN_CMD_DHT_LISTED;
        ret->more = false;
        ret->total = 0;
        ret->listed_count = 0;
        return true;
    case MVPN_CMD_DHT_FIND_NODE:
    case MVPN_CMD_DHT_FIND_VALUE:
        return answer_search(n, request, ret);
    default:
        return false;
    }
}

void dht_foe_begin(dht_node *n, enum dht_mind mind)
{
    dht_world *w = n->world;
    n->mind = mind;
    size_t at = lower_bound(w, &n->self.id);
    memmove(w->foe + at + 1, w->foe + at, (w->foe_count - at) * sizeof(*w->foe));
    w->foe[at] = n->slot;
    w->foe_count++;
    mvpn_timer_set(&w->timers, &n->timer, w->now + 1 + dht_random(w) % PUSH);
}

void dht_foe_push(dht_node *n)
{
    dht_world *w = n->world;
    dht_node *to = dht_world_pick(w, false);
    bool is_near = dht_random(w) % 2 == 0;
    for (size_t i = 0; is_near && to != NULL && i < NEAR_DRAWS; i++) {
        dht_node *other = dht_world_pick(w, false);
        if (other != NULL && dht_nearer(&n->self.id, &other->self.id, &to->self.id) < 0) {
            to = other;
        }
    }
    if (to != NULL) {
        mvpn_dht_request r = {.command = MVPN_CMD_DHT_FIND_NODE, .target = n->self.id};
        dht_world_send(n, &to->self, &r, true);
    }
    mvpn_timer_set(&w->timers, &n->timer, w->now + PUSH / 2 + dht_random(w) % PUSH);
}

void dht_foes_gather(dht_world *w, const mvpn_dht_id *place, const mvpn_addr *addrs,
                     size_t addr_count, size_t count, size_t tries)
{
    for (size_t i = 0; i < count; i++) {
        MVPN_ASSERT(w->alive < w->slots);
        dht_node *n = &w->node[w->alive];
        mvpn_ed25519_pub best = {{0}};
        mvpn_dht_id best_id = {{0}};
        *n = (dht_node){
            .world = w,
            .slot = (uint32_t)w->alive,
            .serial = ++w->serials,
            .is_immortal = true,
            .sequence = 1,
        };
        for (size_t t = 0; t < tries; t++) {
            mvpn_ed25519_pub identity;
            mvpn_dht_id id;
            for (size_t j = 0; j < sizeof(identity.b); j += 8) {
                mvpn_store64(identity.b + j, dht_random(w));
            }
            mvpn_dht_node_id(&id, &identity, &addrs[i % addr_count]);
            if (t == 0 || dht_nearer(place, &id, &best_id) < 0) {
                best = identity;
                best_id = id;
            }
        }
        mvpn_addr addr = addrs[i % addr_count];
        addr.port = (uint16_t)(1024 + i);
        dht_world_place(n, &addr, &best);
        w->alive++;
        dht_foe_begin(n, (enum dht_mind)(DHT_HONEST + 1 + i % (DHT_MINDS - 1)));
    }
}

double dht_foe_share(const dht_node *n)
{
    static mvpn_dht_contact contacts[CONTACTS_MAX];
    size_t count = mvpn_dht_sample_contacts(n->dht, contacts, CONTACTS_MAX);
    size_t foes = 0;
    for (size_t i = 0; i < count; i++) {
        const dht_node *c = dht_world_node_of(n->world, &contacts[i]);
        foes += c != NULL && c->mind != DHT_HONEST ? 1 : 0;
    }
    return count > 0 ? (double)foes / (double)count : 0;
}
