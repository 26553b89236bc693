/*
 * Cells on the wire: a bit flipped anywhere is never accepted and tells the exit nothing; no byte
 * received is sent on. (docs/protocol.md §5.3)
 */
#include "inet.h"
#include "scenario.h"

#include <stdlib.h>
#include <string.h>

#include "wire/cell.h"

#define LINK_BYTES (13 + MVPN_HEADER_LEN + 16) /* §4.1 */
#define HOPS 3

typedef struct world {
    sim *w;
    sim_node *hop[HOPS + 1]; /* client, guard, middle, exit */
    inet_host host;
} world;

static bool world_new(world *t, uint64_t seed)
{
    t->w = sim_standard(seed, 2, 1, HOPS);
    t->hop[0] = sim_client(t->w);
    memcpy(t->hop + 1, t->w->node, HOPS * sizeof(t->hop[0]));
    t->w->path.delay = MVPN_MS(1);
    t->w->inet_delay = MVPN_MS(1);
    sim_fix_path(t->hop[0], t->hop + 1, HOPS);
    inet_host_attach(&t->host, t->hop[0]);
    sim_start(t->hop[0]);
    bool is_there = sim_connect(t->hop[0], MVPN_S(5));
    sim_for(t->w, MVPN_S(3)); /* paths' sizes are known */
    for (unsigned i = 0; i < 40 && is_there; i++) {
        is_there = inet_echo(t->hop[0], 4, 60, MVPN_S(1)); /* past the acknowledged cells */
    }
    CHECK(is_there);
    sim_for(t->w, MVPN_MS(200));
    return is_there;
}

/* ---- flipped bits ---- */

typedef struct record {
    mvpn_time at;
    uint16_t from, to, len; /* 0xffff: the internet */
} record;

enum act {
    ACT_FLIP,
    ACT_EXPECTED, /* what a lost cell looks like */
};

static struct {
    record *records;
    size_t count, size;
    /* The cell to be treated. */
    bool is_armed;
    const sim_node *from, *to;
    size_t len;
    size_t bit;
    bool lose, flip;
    mvpn_time at; /* when the echo's cell is sent there: pings of the circuit are left alone */
} flip;

static void note(mvpn_time at, size_t from, size_t to, size_t len)
{
    if (flip.count == flip.size) {
        flip.size = flip.size == 0 ? 65536 : 2 * flip.size;
        flip.records = realloc(flip.records, flip.size * sizeof(record));
        MVPN_ASSERT(flip.records != NULL);
    }
    flip.records[flip.count++] = (record){at, (uint16_t)from, (uint16_t)to, (uint16_t)len};
}

static bool flip_tap(sim *w, sim_node *from, sim_node *to, sim_datagram *d)
{
    bool is_target = flip.is_armed && from == flip.from && to == flip.to && d->len == flip.len &&
                     w->now == flip.at;
    /* The one dropped was sent too: an observer of that link saw it in both runs. */
    note(w->now, from->index, to == NULL ? 0xfffe : to->index, d->len);
    if (!is_target) {
        return true;
    }
    flip.is_armed = false;
    if (flip.flip) {
        d->bytes[flip.bit / 8] ^= (uint8_t)(1u << flip.bit % 8);
    }
    return !flip.lose;
}

static bool flip_internet(sim *w, sim_node *exit, const uint8_t *packet, size_t len)
{
    (void)packet;
    note(w->now, exit->index, 0xffff, len);
    return false;
}

/*
 * What becomes of a cell with this bit flipped. Filler at the end of the body is known to both ends
 * of the link, so the next hop drops the cell. On the way to the exit every hop opens a layer, so
 * the next one drops the cell. On the way back hops only add layers: they pass on the cell, and the
 * client drops it.
 */
static bool is_filler_bit(size_t bit, size_t len, unsigned link)
{
    return bit / 8 >= len - (size_t)MVPN_LAYER_OVERHEAD * link;
}

static bool vanishes(size_t bit, size_t len, unsigned link, bool forward)
{
    return bit / 8 < LINK_BYTES || forward || is_filler_bit(bit, len, link);
}

/* All bits of one cell on one link, one after the other, each in a cell of its own. */
static record *flip_run(uint64_t seed, unsigned link, bool forward, size_t body, enum act act,
                        size_t stride, size_t *ret_count)
{
    world t;
    size_t len = LINK_BYTES + body;
    size_t echo = body == MVPN_CELL_SMALL ? 100 : 1200;
    record *records = NULL;
    *ret_count = 0;
    if (world_new(&t, seed)) {
        flip.records = NULL;
        flip.count = flip.size = 0;
        flip.len = len;
        t.w->tap = flip_tap;
        t.w->internet = flip_internet;
        sim_for(t.w, MVPN_US_PER_MS / 2); /* off the instants of timers */
        for (size_t bit = 0, n = 0; bit < len * 8; bit += stride, n++) {
            if (n % 16 == 0) {
                CHECK(inet_echo(t.hop[0], 4, 60, MVPN_S(1)));
            }
            flip.bit = bit;
            flip.flip = act == ACT_FLIP;
            flip.lose = act == ACT_EXPECTED;
            /* Lost where it is dropped: at the next hop, or on its last link. */
            unsigned at = flip.lose && !vanishes(bit, len, link, forward) ? 0 : link;
            flip.from = t.hop[forward ? at : at + 1];
            flip.to = t.hop[forward ? at + 1 : at];
            flip.is_armed = true;
            flip.at = t.w->now + MVPN_MS(forward ? at : 2 * HOPS + 1 - at);
            inet_echo_send(t.hop[0], 4, echo, (uint32_t)bit + 100);
            sim_for(t.w, MVPN_MS(12));
            CHECK(!flip.is_armed);
            flip.is_armed = false;
            CHECK(act == ACT_EXPECTED || !t.host.has_echo);
        }
        CHECK(t.hop[0]->disconnected == 0);
        CHECK(t.host.altered == 0 && t.w->inet_altered == 0);
        *ret_count = flip.count;
        records = flip.records;
    }
    inet_host_done(&t.host);
    sim_free(t.w);
    return records;
}

static void flips(uint64_t seed, size_t body, size_t stride)
{
    for (unsigned link = 0; link < HOPS; link++) {
        for (int forward = 0; forward <= 1; forward++) {
            size_t counts[2];
            record *r[2];
            check_context("link %u, %s, body %zu", link + 1, forward ? "forward" : "back", body);
            for (int i = 0; i < 2; i++) {
                r[i] = flip_run(seed, link, forward, body, i == 0 ? ACT_FLIP : ACT_EXPECTED, stride,
                                &counts[i]);
            }
            /* What anybody sees of the network, the exit's side included, is what a lost cell would
             * have shown: time, ends and size of every datagram and packet. */
            CHECK(counts[0] == counts[1]);
            size_t n = counts[0] < counts[1] ? counts[0] : counts[1];
            for (size_t i = 0; i < n; i++) {
                bool same = r[0][i].at == r[1][i].at && r[0][i].from == r[1][i].from &&
                            r[0][i].to == r[1][i].to && r[0][i].len == r[1][i].len;
                CHECK(same);
                if (!same) {
                    say("record %zu of %zu: at %llu %u -> %u, %u bytes; expected at %llu %u -> %u, "
                        "%u bytes",
                        i, n, (unsigned long long)r[0][i].at, r[0][i].from, r[0][i].to, r[0][i].len,
                        (unsigned long long)r[1][i].at, r[1][i].from, r[1][i].to, r[1][i].len);
                    break;
                }
            }
            if (link == HOPS - 1 || stride == 1) {
                say("link %u %s: %zu bits, %zu observations equal", link + 1,
                    forward ? "forward" : "back", (LINK_BYTES + body) * 8 / stride, n);
            }
            free(r[0]);
            free(r[1]);
        }
    }
}

static void bit_flips_small(uint64_t seed)
{
    flips(seed, MVPN_CELL_SMALL, scenario_count(1, 13));
}

static void bit_flips_full(uint64_t seed)
{
    flips(seed, MVPN_CELL_FULL, scenario_count(3, 101));
}

/* ---- nothing is sent on unchanged ---- */

#define ENTERED_MAX 512
#define RUN 4

static struct {
    const sim_node *relay;
    struct {
        mvpn_time at;
        sim_datagram d;
    } entered[ENTERED_MAX];
    size_t entered_count;
    uint64_t pairs, runs4, runs6, same_place, places;
    double expected4;
} watch;

static void compare(const sim_datagram *in, const sim_datagram *out)
{
    static uint16_t first[65536]; /* by the first two bytes: position + 1 in `in` */
    static uint16_t chain[SIM_DATAGRAM_MAX];
    memset(first, 0, sizeof(first));
    for (size_t i = 0; i + RUN <= in->len; i++) {
        uint16_t key = mvpn_load16(in->bytes + i);
        chain[i] = first[key];
        first[key] = (uint16_t)(i + 1);
    }
    for (size_t j = 0; j + RUN <= out->len; j++) {
        for (size_t i = first[mvpn_load16(out->bytes + j)]; i != 0; i = chain[i - 1]) {
            size_t n = 0, a = i - 1;
            while (a + n < in->len && j + n < out->len && in->bytes[a + n] == out->bytes[j + n]) {
                n++;
            }
            watch.runs4 += n >= RUN;
            watch.runs6 += n >= 6;
        }
    }
    for (size_t i = 0; i < in->len && i < out->len; i++) {
        watch.same_place += in->bytes[i] == out->bytes[i];
        watch.places++;
    }
    watch.pairs++;
    watch.expected4 += (double)in->len * (double)out->len / 4294967296.0;
}

static bool watch_tap(sim *w, sim_node *from, sim_node *to, sim_datagram *d)
{
    if (to == watch.relay) {
        size_t i = watch.entered_count++ % ENTERED_MAX;
        watch.entered[i].at = w->now + w->path.delay;
        watch.entered[i].d = *d;
    }
    if (from == watch.relay) {
        size_t n = watch.entered_count < ENTERED_MAX ? watch.entered_count : ENTERED_MAX;
        for (size_t i = 0; i < n; i++) {
            /* What came from another neighbour at this instant is what this carries on. */
            if (watch.entered[i].at == w->now && !mvpn_addr_eq(&watch.entered[i].d.from, &d->to)) {
                compare(&watch.entered[i].d, d);
            }
        }
    }
    return true;
}

/* Linked with --wrap: the headers inside the links' encryption. */
#define CELLS_MAX 200000
static struct {
    const sim_node *node;
    mvpn_time at;
    bool is_in;
    mvpn_header header;
} * seen_cells;
static size_t seen_count;

static void see(bool is_in, const mvpn_header *h)
{
    if (seen_cells != NULL && mvpn_command_is_relay(h->command) && seen_count < CELLS_MAX) {
        seen_cells[seen_count].node = sim_current;
        seen_cells[seen_count].at = sim_current_time;
        seen_cells[seen_count].is_in = is_in;
        seen_cells[seen_count++].header = *h;
    }
}

void __real_mvpn_header_encode(uint8_t *out, const mvpn_header *header);
void __wrap_mvpn_header_encode(uint8_t *out, const mvpn_header *header);
int __real_mvpn_header_decode(mvpn_header *ret, const uint8_t *in, size_t body_len);
int __wrap_mvpn_header_decode(mvpn_header *ret, const uint8_t *in, size_t body_len);

void __wrap_mvpn_header_encode(uint8_t *out, const mvpn_header *header)
{
    see(false, header);
    __real_mvpn_header_encode(out, header);
}

int __wrap_mvpn_header_decode(mvpn_header *ret, const uint8_t *in, size_t body_len)
{
    int r = __real_mvpn_header_decode(ret, in, body_len);
    if (r == 0) {
        see(true, ret);
    }
    return r;
}

/* At one relay, a cell in and the cell out that it became: nothing but class and command is the
 * same. */
static void check_headers(const world *t)
{
    size_t pairs = 0;
    for (size_t i = 0; i < seen_count; i++) {
        if (!seen_cells[i].is_in) {
            continue;
        }
        const mvpn_header *in = &seen_cells[i].header;
        for (size_t j = i + 1; j < seen_count && seen_cells[j].at == seen_cells[i].at; j++) {
            const mvpn_header *out = &seen_cells[j].header;
            if (seen_cells[j].is_in || seen_cells[j].node != seen_cells[i].node) {
                continue;
            }
            CHECK(memcmp(in->circuit.b, out->circuit.b, sizeof(in->circuit.b)) != 0);
            CHECK(in->counter != out->counter);
            CHECK((uint32_t)in->counter != (uint32_t)out->counter);
            pairs++;
        }
    }
    CHECK(pairs > 100);
    /* Circuit ids are a link's and a direction's own. */
    for (size_t i = 0; i < seen_count; i += 7) {
        for (size_t j = 0; j < seen_count; j += 5) {
            if (!seen_cells[i].is_in && !seen_cells[j].is_in &&
                seen_cells[i].node != seen_cells[j].node) {
                CHECK(memcmp(seen_cells[i].header.circuit.b, seen_cells[j].header.circuit.b, 16) !=
                      0);
                CHECK(seen_cells[i].header.counter != seen_cells[j].header.counter);
            }
        }
    }
    say("%zu cells in and out: circuit ids and counters differ (%zu headers)", pairs, seen_count);
    (void)t;
}

static void unchanged(uint64_t seed)
{
    world t;
    memset(&watch, 0, sizeof(watch));
    seen_cells = calloc(CELLS_MAX, sizeof(*seen_cells));
    MVPN_ASSERT(seen_cells != NULL);
    seen_count = 0;
    if (world_new(&t, seed)) {
        for (unsigned hop = 1; hop <= 2; hop++) { /* the guard and the middle */
            watch.relay = t.hop[hop];
            watch.entered_count = 0;
            t.w->tap = watch_tap;
            size_t count = scenario_count(400, 40);
            for (size_t i = 0; i < count; i++) {
                size_t size = i % 3 == 0 ? 60 : i % 3 == 1 ? 500 : 1280;
                CHECK(inet_echo(t.hop[0], 4, size, MVPN_S(1)));
            }
        }
        CHECK(
            inet_transfer_run(t.hop[0], INET_DOWN, scenario_count(500000, 50000), 16, MVPN_S(60)));
        say("%llu pairs: %llu runs of 4 bytes (%.1f by chance), %llu of 6; %.4f %% equal in place",
            (unsigned long long)watch.pairs, (unsigned long long)watch.runs4, watch.expected4,
            (unsigned long long)watch.runs6,
            100.0 * (double)watch.same_place / (double)watch.places);
        CHECK(watch.pairs > 100);
        CHECK((double)watch.runs4 <= 3 * watch.expected4 + 10);
        CHECK(watch.runs6 == 0);
        CHECK((double)watch.same_place < (double)watch.places / 256 * 1.1);
        check_headers(&t);
    }
    inet_host_done(&t.host);
    sim_free(t.w);
    free(seen_cells);
    seen_cells = NULL;
}

/* A circuit's building passes through an honest guard too: nothing of it goes on as it came. */
static void unchanged_building(uint64_t seed)
{
    uint64_t pairs = 0;
    memset(&watch, 0, sizeof(watch));
    size_t count = scenario_count(30, 4);
    for (size_t i = 0; i < count; i++) {
        sim *w = sim_standard(seed * 100 + i, 3, 1, 4);
        sim_node *client = sim_client(w);
        sim_fix_path(client, w->node, 4);
        watch.relay = w->node[1];
        watch.entered_count = 0;
        w->tap = watch_tap;
        sim_start(client);
        CHECK(sim_connect(client, MVPN_S(5)));
        pairs = watch.pairs;
        sim_free(w);
    }
    say("%llu pairs: %llu runs of 4 bytes (%.1f by chance), %llu of 6", (unsigned long long)pairs,
        (unsigned long long)watch.runs4, watch.expected4, (unsigned long long)watch.runs6);
    CHECK(pairs > 10);
    CHECK((double)watch.runs4 <= 3 * watch.expected4 + 10);
    CHECK(watch.runs6 == 0);
}

/* All cells of a circuit have a size of the three classes, whatever is sent. */
static bool sizes_tap(sim *w, sim_node *from, sim_node *to, sim_datagram *d)
{
    bool *is_wrong = w->user;
    (void)from;
    (void)to;
    /* Data cells are the only transport packets above a path message's size here. */
    if (d->len > 200 && d->len != LINK_BYTES + MVPN_CELL_SMALL &&
        d->len != LINK_BYTES + MVPN_CELL_MEDIUM && d->len != LINK_BYTES + MVPN_CELL_FULL) {
        *is_wrong = true;
        say("a datagram of %zu bytes", d->len);
    }
    return true;
}

static void sizes(uint64_t seed)
{
    world t;
    bool is_wrong = false;
    if (world_new(&t, seed)) {
        t.w->tap = sizes_tap;
        t.w->user = &is_wrong;
        for (size_t size = 60; size <= 1420; size += scenario_count(20, 200)) {
            CHECK(inet_echo(t.hop[0], 4, size, MVPN_S(1)));
        }
        CHECK(!is_wrong);
    }
    inet_host_done(&t.host);
    sim_free(t.w);
}

int main(int argc, char **argv)
{
    static const scenario scenarios[] = {
        {"bit_flips_small", bit_flips_small},
        {"bit_flips_full", bit_flips_full},
        {"unchanged", unchanged},
        {"unchanged_building", unchanged_building},
        {"sizes", sizes},
    };
    return scenario_main(argc, argv, scenarios, MVPN_ARRAY_LEN(scenarios));
}
