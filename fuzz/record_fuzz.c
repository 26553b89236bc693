/* Records and snapshots: [which 1: bits 0-1 type, bit 2 open network, bit 3 sign it first] [bytes].
 */
#include "base/error.h"
#include "crypto/x25519.h"
#include "fuzz/fuzz.h"
#include "wire/record.h"

#define UNIX_NOW 1500000

static struct {
    mvpn_ed25519_secret secret; /* the network's, and that of the node */
    mvpn_trust trust;
} world;

static void make_world(bool is_open)
{
    static const uint8_t seed[32] = {5};
    mvpn_ed25519_from_seed(&world.trust.network_pub, &world.secret, seed);
    mvpn_network_id(&world.trust.network_id, &world.trust.network_pub);
    world.trust.closed = !is_open;
    world.trust.anchor_count = 1;
    world.trust.anchors[0] = world.trust.network_pub;
    world.trust.revocations =
        (mvpn_revocations){.sequence = 1, .count = 2, .serials = {3, UINT64_MAX}};
}

/* So that what is behind the signature is reached. */
static void sign(uint8_t *record, size_t n, const char *label)
{
    uint8_t signed_bytes[64 + 1100];
    mvpn_signature sig;
    mvpn_writer w = mvpn_writer_init(signed_bytes, sizeof(signed_bytes));
    mvpn_write_bytes(&w, label, strlen(label));
    mvpn_write_bytes(&w, world.trust.network_id.b, 32);
    mvpn_write_bytes(&w, record, n - sizeof(sig.b));
    FUZZ_CHECK(!w.failed);
    mvpn_ed25519_sign(&sig, &world.secret, mvpn_bytes_of(signed_bytes, mvpn_writer_len(&w)));
    memcpy(record + n - sizeof(sig.b), sig.b, sizeof(sig.b));
}

static void revocations(mvpn_bytes in)
{
    mvpn_revocations r, again;
    if (mvpn_revocations_decode(&r, in, &world.trust.network_id, &world.trust.network_pub) == 0) {
        FUZZ_CHECK(r.sequence != 0 && r.count <= MVPN_REVOCATIONS_MAX);
        for (size_t i = 0; i < r.count; i++) {
            FUZZ_CHECK(mvpn_revocations_has(&r, r.serials[i]));
        }
        again = r;
        FUZZ_CHECK(mvpn_revocations_sign(&again, &world.secret, &world.trust.network_id) == 0);
        fuzz_same(again.encoded, again.encoded_len, in); /* Ed25519 signs one way */
    }
}

static void head(mvpn_bytes in)
{
    mvpn_snapshot_head h;
    if (mvpn_snapshot_head_decode(&h, in, &world.trust.network_id) == 0) {
        FUZZ_CHECK(h.entries <= MVPN_SNAPSHOT_ENTRIES_MAX);
        FUZZ_CHECK(mvpn_snapshot_head_sign(&h, &world.secret, &world.trust.network_id) == 0);
        fuzz_same(h.encoded, h.encoded_len, in);
    }
}

/* The bytes as a snapshot that its head names. */
static void snapshot(mvpn_bytes in)
{
    mvpn_snapshot_head h = {.size = (uint32_t)in.n};
    mvpn_snapshot_entry e, before = {0};
    if (in.n < MVPN_SNAPSHOT_FIXED) {
        return;
    }
    mvpn_reader r = mvpn_reader_init(in);
    (void)mvpn_read8(&r);
    mvpn_read_copy(&r, h.identity.b, 32);
    h.hour = mvpn_read64(&r);
    h.entries = mvpn_read32(&r);
    mvpn_snapshot_digest(&h.digest, in);
    if (mvpn_snapshot_check(in, &h) != 0) {
        return;
    }
    for (size_t i = 0; i < h.entries; i++) {
        uint8_t again[MVPN_SNAPSHOT_ENTRY_LEN];
        mvpn_snapshot_at(in, i, &e);
        FUZZ_CHECK(i == 0 || memcmp(before.key.b, e.key.b, sizeof(e.key.b)) < 0);
        mvpn_snapshot_entry_encode(again, &e);
        fuzz_same(again, sizeof(again),
                  mvpn_bytes_of(in.p + MVPN_SNAPSHOT_FIXED + i * sizeof(again), sizeof(again)));
        before = e;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const labels[] = {NULL, "meshvpn v1 descriptor", "meshvpn v1 revocations",
                                         "meshvpn v1 snapshot head"};
    uint8_t record[1100];
    mvpn_descriptor d;
    mvpn_record_info info;
    if (size < 1) {
        return 0;
    }
    unsigned type = data[0] & 3;
    make_world(data[0] & 4);
    if (type == 0) {
        snapshot(mvpn_bytes_of(data + 1, size - 1));
        return 0;
    }
    if (size - 1 > sizeof(record)) {
        return 0;
    }
    size_t n = size - 1;
    memcpy(record, data + 1, n);
    if ((data[0] & 8) && n >= 64 + 33) {
        if (type != MVPN_RECORD_REVOCATIONS) {
            memcpy(record + 1, world.trust.network_pub.b, 32);
        }
        sign(record, n, labels[type]);
    }
    mvpn_bytes in = mvpn_bytes_of(record, n);
    if (type == MVPN_RECORD_REVOCATIONS) {
        revocations(in);
    } else if (type == MVPN_RECORD_SNAPSHOT_HEAD) {
        head(in);
    }
    if (mvpn_record_verify(&world.trust, type, in, UNIX_NOW, &info, &d) == 0 &&
        type == MVPN_RECORD_DESCRIPTOR) {
        FUZZ_CHECK(info.sequence == d.sequence && info.expires == d.expires);
    }
    return 0;
}
