/* The onion end to end: a client's circuit and hops that peel and wrap as relays do. */
#include "core/testing.h"

#include "core/onion.h"
#include "crypto/rng.h"

typedef struct relay_hop {
    mvpn_layer_rx forward;
    mvpn_layer_tx backward;
} relay_hop;

typedef struct fixture {
    mvpn_onion onion;
    relay_hop hop[MVPN_HOPS_MAX];
} fixture;

static mvpn_aead *aead;
static mvpn_rng rng;
static mvpn_packet_pool pool;

static int setup(void **state)
{
    (void)state;
    mvpn_rng_init_test(&rng, 7);
    int r = mvpn_packet_pool_init(&pool, 16);
    return r != 0 ? r : mvpn_aead_new(MVPN_AEAD_AUTO, &aead);
}

static int teardown(void **state)
{
    (void)state;
    bool is_whole = pool.free_count == pool.size;
    mvpn_aead_free(aead);
    mvpn_packet_pool_done(&pool);
    return is_whole ? 0 : -1;
}

static void make(fixture *f, unsigned hops)
{
    *f = (fixture){0};
    for (unsigned i = 0; i < hops; i++) {
        mvpn_key keys[2];
        mvpn_rng_bytes(&rng, keys[0].b, 32);
        mvpn_rng_bytes(&rng, keys[1].b, 32);
        mvpn_onion_add(&f->onion, &keys[0], &keys[1]);
        mvpn_layer_rx_init(&f->hop[i].forward, &keys[0]);
        mvpn_layer_tx_init(&f->hop[i].backward, &keys[1]);
    }
}

/* What the wire says of a cell is consistent, as the next node's decoder asks. */
static void check_cell(const mvpn_packet *p, const mvpn_header *h)
{
    uint8_t wire[MVPN_HEADER_LEN];
    mvpn_header again;
    mvpn_header_encode(wire, h);
    assert_int_equal(mvpn_header_decode(&again, wire, p->len), 0);
    assert_int_equal(p->len, mvpn_cell_body_len(h->size_class, h->length));
    assert_in_range(p->len, 1, MVPN_CELL_FULL);
}

/* A hop opens its layer and passes on; the layer is returned. */
static int peel(relay_hop *at, mvpn_packet *p, mvpn_header *h, mvpn_layer_header *ret)
{
    int r = mvpn_layer_open(aead, &at->forward, p, h->length, h->counter, ret);
    if (r != 0) {
        return r;
    }
    if (!mvpn_command_is_relay(ret->command)) {
        return 0;
    }
    assert_int_equal(ret->command, h->command);
    assert_int_equal(ret->size_class, h->size_class);
    *h = (mvpn_header){.command = ret->command,
                       .length = ret->length,
                       .size_class = ret->size_class,
                       .counter = ret->next_counter};
    mvpn_onion_fill(p, h->size_class);
    return 0;
}

/* A hop wraps a cell that comes from behind. */
static void wrap(relay_hop *at, mvpn_packet *p, mvpn_header *h)
{
    mvpn_layer_header layer = {.size_class = h->size_class,
                               .command = MVPN_CMD_RELAY,
                               .length = h->length,
                               .next_counter = (uint32_t)h->counter};
    mvpn_packet_truncate(p, h->length);
    assert_int_equal(mvpn_layer_seal(aead, &at->backward, p, &layer, &h->counter), 0);
    h->length = (uint16_t)p->len;
    mvpn_onion_fill(p, h->size_class);
}

static const size_t sizes[] = {0,   1,   87,  88,  89,  135, 136,  137,
                               567, 568, 569, 615, 616, 617, 1242, 1243};

static void test_forward_to_each_hop(void **state)
{
    (void)state;
    for (unsigned hops = 1; hops <= MVPN_HOPS_MAX; hops++) {
        fixture f;
        make(&f, hops);
        for (unsigned target = 1; target <= hops;
             target++) { /* the last or one before: leaky pipe */
            for (size_t i = 0; i < MVPN_ARRAY_LEN(sizes) * 6; i++) {
                mvpn_cell_kind kind = {MVPN_CMD_RELAY_DATA, (uint8_t)mvpn_profile_for_hops(hops),
                                       (enum mvpn_size_policy)(i / 2 % 3)};
                bool early = i & 1;
                size_t n = sizes[i / 6];
                mvpn_header h;
                mvpn_layer_header layer = {0};
                mvpn_packet *p = test_packet(&pool, n, (unsigned)i);
                mvpn_packet *want = test_packet(&pool, n, (unsigned)i);
                assert_int_equal(mvpn_onion_seal(&f.onion, aead, target, &kind, early, p, &h), 0);
                assert_int_equal(h.command, early ? MVPN_CMD_RELAY_EARLY : MVPN_CMD_RELAY);
                assert_int_equal(h.size_class, mvpn_cell_class_for(kind.policy, n, kind.profile));
                for (unsigned at = 0; at < target; at++) {
                    check_cell(p, &h);
                    assert_int_equal(peel(&f.hop[at], p, &h, &layer), 0);
                    assert_int_equal(mvpn_command_is_relay(layer.command), at + 1 < target);
                }
                assert_int_equal(layer.command, MVPN_CMD_RELAY_DATA);
                assert_int_equal(p->len, n);
                assert_memory_equal(p->data, want->data, n);
                mvpn_packet_free(&pool, p);
                mvpn_packet_free(&pool, want);
            }
        }
    }
}

static void test_answers_of_each_hop(void **state)
{
    (void)state;
    for (unsigned hops = 1; hops <= MVPN_HOPS_MAX; hops++) {
        fixture f;
        make(&f, hops);
        for (unsigned from = 1; from <= hops; from++) {
            for (size_t i = 0; i < MVPN_ARRAY_LEN(sizes) * 3; i++) {
                mvpn_cell_kind kind = {MVPN_CMD_RELAY_PONG, (uint8_t)mvpn_profile_for_hops(hops),
                                       (enum mvpn_size_policy)(i % 3)};
                size_t n = sizes[i / 3];
                unsigned hop = 0;
                mvpn_header h;
                mvpn_layer_header layer;
                mvpn_packet *p = test_packet(&pool, n, (unsigned)i);
                mvpn_packet *want = test_packet(&pool, n, (unsigned)i);
                assert_int_equal(mvpn_onion_answer(&f.hop[from - 1].backward, aead, &kind, p, &h),
                                 0);
                assert_int_equal(h.command, MVPN_CMD_RELAY);
                check_cell(p, &h);
                for (unsigned at = from - 1; at-- > 0;) {
                    wrap(&f.hop[at], p, &h);
                    check_cell(p, &h);
                }
                assert_int_equal(mvpn_onion_open(&f.onion, aead, p, &h, &hop, &layer), 0);
                assert_int_equal(hop, from); /* who sent it is who sealed it */
                assert_int_equal(layer.command, MVPN_CMD_RELAY_PONG);
                assert_int_equal(p->len, n);
                assert_memory_equal(p->data, want->data, n);
                mvpn_packet_free(&pool, p);
                mvpn_packet_free(&pool, want);
            }
        }
    }
}

/* In classes 0 to 2 what a relay sees is told by class and place alone. */
static void test_live_lengths_tell_class_and_place_alone(void **state)
{
    (void)state;
    for (unsigned hops = 1; hops <= MVPN_HOPS_MAX; hops++) {
        unsigned profile = mvpn_profile_for_hops(hops);
        uint16_t seen[3][MVPN_HOPS_MAX] = {{0}};
        fixture f;
        make(&f, hops);
        for (size_t n = 0; n <= mvpn_cell_room(MVPN_CLASS_FULL, profile); n += n < 700 ? 1 : 9) {
            mvpn_cell_kind kind = {MVPN_CMD_RELAY_DATA, (uint8_t)profile, MVPN_SIZE_CLASSES};
            mvpn_header h;
            mvpn_layer_header layer;
            mvpn_packet *p = test_packet(&pool, n, 0);
            assert_int_equal(mvpn_onion_seal(&f.onion, aead, hops, &kind, false, p, &h), 0);
            for (unsigned at = 0; at < hops; at++) {
                uint16_t *live = &seen[h.size_class][at];
                assert_true(*live == 0 || *live == h.length);
                *live = h.length;
                assert_int_equal(h.length, mvpn_cell_room(h.size_class, profile) +
                                               (hops - at) * MVPN_LAYER_OVERHEAD);
                assert_int_equal(peel(&f.hop[at], p, &h, &layer), 0);
            }
            mvpn_packet_free(&pool, p);
        }
    }
}

static void test_too_big(void **state)
{
    (void)state;
    for (uint8_t profile = 0; profile < 2; profile++) {
        mvpn_cell_kind kind = {MVPN_CMD_RELAY_DATA, profile, MVPN_SIZE_CLASSES};
        size_t room = mvpn_cell_room(MVPN_CLASS_FULL, profile);
        fixture f;
        mvpn_header h;
        make(&f, profile == 0 ? 3 : 5);
        for (unsigned over = 0; over < 2; over++) {
            int want = over ? MVPN_E_TOO_BIG : 0;
            mvpn_packet *p = test_packet(&pool, room + over, 0);
            assert_int_equal(mvpn_onion_seal(&f.onion, aead, f.onion.count, &kind, false, p, &h),
                             want);
            mvpn_packet_free(&pool, p);
            p = test_packet(&pool, room + over, 0);
            assert_int_equal(mvpn_onion_answer(&f.hop[0].backward, aead, &kind, p, &h), want);
            mvpn_packet_free(&pool, p);
        }
    }
}

static void test_filler_holds_nothing_old(void **state)
{
    (void)state;
    mvpn_cell_kind kind = {MVPN_CMD_RELAY_DATA, 0, MVPN_SIZE_FULL};
    static const uint8_t zeros[48];
    fixture f;
    mvpn_header h;
    make(&f, 1);
    mvpn_packet *p = test_packet(&pool, 10, 0);
    memset(p->data + p->len, 0xaa, mvpn_packet_tailroom(p));
    assert_int_equal(mvpn_onion_seal(&f.onion, aead, 1, &kind, false, p, &h), 0);
    assert_int_equal(p->len - h.length, sizeof(zeros)); /* two layers of profile 0 unused */
    assert_memory_equal(p->data + h.length, zeros, sizeof(zeros));
    mvpn_packet_free(&pool, p);
}

/* A hop on the way back that lies about the class in its layer, or in the header. */
static void test_classes_of_all_layers_must_agree(void **state)
{
    (void)state;
    mvpn_cell_kind kind = {MVPN_CMD_RELAY_DATA, 0, MVPN_SIZE_CLASSES};
    for (unsigned liar = 0; liar < 4; liar++) {
        fixture f;
        mvpn_header h;
        mvpn_layer_header layer;
        unsigned hop;
        make(&f, 3);
        mvpn_packet *p = test_packet(&pool, 10, 0);
        assert_int_equal(mvpn_onion_answer(&f.hop[2].backward, aead, &kind, p, &h), 0);
        for (unsigned at = 2; at-- > 0;) {
            if (liar == at) {
                h.size_class = MVPN_CLASS_MEDIUM;
            }
            wrap(&f.hop[at], p, &h);
        }
        if (liar == 2) {
            h.size_class = MVPN_CLASS_FULL;
        }
        assert_int_equal(mvpn_onion_open(&f.onion, aead, p, &h, &hop, &layer),
                         liar < 3 ? MVPN_E_FORMAT : 0);
        mvpn_packet_free(&pool, p);
    }
}

static void test_the_last_hop_has_nothing_to_pass_on(void **state)
{
    (void)state;
    mvpn_cell_kind kind = {MVPN_CMD_RELAY, 0, MVPN_SIZE_CLASSES};
    fixture f;
    mvpn_header h;
    mvpn_layer_header layer;
    unsigned hop;
    make(&f, 1);
    mvpn_packet *p = test_packet(&pool, 100, 0);
    assert_int_equal(mvpn_onion_answer(&f.hop[0].backward, aead, &kind, p, &h), 0);
    assert_int_equal(mvpn_onion_open(&f.onion, aead, p, &h, &hop, &layer), MVPN_E_FORMAT);
    mvpn_packet_free(&pool, p);
    make(&f, 0); /* nor a circuit that is not built */
    p = test_packet(&pool, 208, 0);
    h = (mvpn_header){.command = MVPN_CMD_RELAY, .length = 208};
    assert_int_equal(mvpn_onion_open(&f.onion, aead, p, &h, &hop, &layer), MVPN_E_FORMAT);
    mvpn_packet_free(&pool, p);
}

static void test_replay_and_tampering(void **state)
{
    (void)state;
    mvpn_cell_kind kind = {MVPN_CMD_RELAY_DATA, 0, MVPN_SIZE_CLASSES};
    fixture f;
    mvpn_header h;
    mvpn_layer_header layer;
    unsigned hop;
    make(&f, 2);
    mvpn_packet *p = test_packet(&pool, 10, 0);
    assert_int_equal(mvpn_onion_answer(&f.hop[1].backward, aead, &kind, p, &h), 0);
    wrap(&f.hop[0], p, &h);
    for (unsigned at = 0; at < h.length; at += 5) {
        mvpn_packet *bad = test_packet_of(&pool, p->data, p->len);
        bad->data[at] ^= 0x10;
        assert_int_equal(mvpn_onion_open(&f.onion, aead, bad, &h, &hop, &layer), MVPN_E_AUTH);
        mvpn_packet_free(&pool, bad);
    }
    mvpn_packet *again = test_packet_of(&pool, p->data, p->len);
    memset(again->data + h.length, 0, again->len - h.length); /* filler means nothing */
    assert_int_equal(mvpn_onion_open(&f.onion, aead, again, &h, &hop, &layer), 0);
    mvpn_packet_free(&pool, again);
    assert_int_equal(mvpn_onion_open(&f.onion, aead, p, &h, &hop, &layer), MVPN_E_REPLAY);
    mvpn_packet_free(&pool, p);
}

static void test_counters_of_hops_do_not_match(void **state)
{
    (void)state;
    mvpn_cell_kind kind = {MVPN_CMD_RELAY_DATA, 0, MVPN_SIZE_CLASSES};
    fixture f;
    mvpn_header h;
    mvpn_layer_header layer;
    make(&f, 3);
    uint64_t seen[3];
    mvpn_packet *p = test_packet(&pool, 10, 0);
    assert_int_equal(mvpn_onion_seal(&f.onion, aead, 3, &kind, false, p, &h), 0);
    for (unsigned at = 0; at < 3; at++) {
        seen[at] = h.counter;
        assert_int_equal(peel(&f.hop[at], p, &h, &layer), 0);
    }
    mvpn_packet_free(&pool, p);
    for (unsigned i = 0; i < 3; i++) {
        for (unsigned j = 0; j < i; j++) { /* not even nearly */
            uint64_t apart = seen[i] > seen[j] ? seen[i] - seen[j] : seen[j] - seen[i];
            assert_true(apart > 1000);
        }
    }
}

static void test_an_exhausted_hop_ends_the_circuit(void **state)
{
    (void)state;
    mvpn_cell_kind kind = {MVPN_CMD_RELAY_DATA, 0, MVPN_SIZE_CLASSES};
    for (unsigned i = 0; i < 3; i++) {
        fixture f;
        mvpn_header h;
        make(&f, 3);
        f.onion.hop[i].forward.end = f.onion.hop[i].forward.next;
        mvpn_packet *p = test_packet(&pool, 10, 0);
        assert_int_equal(mvpn_onion_seal(&f.onion, aead, 3, &kind, false, p, &h), MVPN_E_EXHAUSTED);
        mvpn_packet_free(&pool, p);
        mvpn_onion_done(&f.onion);
        assert_true(mvpn_ct_is_zero(&f.onion, sizeof(f.onion)));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forward_to_each_hop),
        cmocka_unit_test(test_answers_of_each_hop),
        cmocka_unit_test(test_live_lengths_tell_class_and_place_alone),
        cmocka_unit_test(test_too_big),
        cmocka_unit_test(test_filler_holds_nothing_old),
        cmocka_unit_test(test_classes_of_all_layers_must_agree),
        cmocka_unit_test(test_the_last_hop_has_nothing_to_pass_on),
        cmocka_unit_test(test_replay_and_tampering),
        cmocka_unit_test(test_counters_of_hops_do_not_match),
        cmocka_unit_test(test_an_exhausted_hop_ends_the_circuit),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
