/*
 * The view on disk. Nothing in the file is believed: records are verified anew, and the checksums
 * only tell where damage begins.
 *
 *   header: "MVPNVIEW" [version 1] [network id 32] [sample key 16] [check 8]
 *   piece:  [kind 1] [length 4] [check 4: of these 5 bytes] [bytes] [check 8]
 *
 * A piece whose own bytes are damaged is skipped; one whose length is not certain ends the file.
 */
#include <string.h>

#include "base/cursor.h"
#include "core/view_internal.h"

#define MAGIC "MVPNVIEW"
#define VERSION 1
#define CHECK_LEN 8
#define PIECE_CHECK_LEN 4
#define HEADER_LEN (8 + 1 + 32 + 16 + CHECK_LEN)
#define PIECE_FIXED (1 + 4 + PIECE_CHECK_LEN)
#define PIECE_OVERHEAD (PIECE_FIXED + CHECK_LEN)
/* What is kept of a relay beside its descriptor. */
#define RELAY_FIXED_MAX (8 + 8 + 1 + 8 * VIEW_SOURCES_MAX)

enum piece {
    PIECE_DESCRIPTOR = 1,
    PIECE_REVOCATIONS = 2,
    PIECE_HEAD = 3,
    PIECE_PROOF = 4, /* two heads of one node and hour: it stays caught */
    PIECE_SNAPSHOT = 5,
};

static void write_check(mvpn_writer *w, const uint8_t *from, size_t n, size_t check_len)
{
    uint8_t check[CHECK_LEN];
    mvpn_blake3(check, check_len, mvpn_bytes_of(from, n));
    mvpn_write_bytes(w, check, check_len);
}

static bool check_holds(const uint8_t *from, size_t n, size_t check_len)
{
    uint8_t check[CHECK_LEN];
    mvpn_blake3(check, check_len, mvpn_bytes_of(from, n));
    return memcmp(check, from + n, check_len) == 0;
}

/* ---- save ---- */

/* Begin a piece of `n` bytes if it fits as a whole. */
static bool piece_begin(mvpn_writer *w, enum piece kind, size_t n)
{
    if (w->failed || (size_t)(w->end - w->p) < n + PIECE_OVERHEAD) {
        return false;
    }
    const uint8_t *from = w->p;
    mvpn_write8(w, (uint8_t)kind);
    mvpn_write32(w, (uint32_t)n);
    write_check(w, from, 5, PIECE_CHECK_LEN);
    return true;
}

static void piece_end(mvpn_writer *w, size_t n)
{
    write_check(w, w->p - n, n, CHECK_LEN);
}

static void save_bytes(mvpn_writer *w, enum piece kind, const uint8_t *p, size_t n)
{
    if (n > 0 && piece_begin(w, kind, n)) {
        mvpn_write_bytes(w, p, n);
        piece_end(w, n);
    }
}

static void save_proof(mvpn_writer *w, const view_discovery *node)
{
    size_t n = 2 + (size_t)node->proof_len[0] + node->proof_len[1];
    if (node->proof_len[0] > 0 && piece_begin(w, PIECE_PROOF, n)) {
        mvpn_write16(w, node->proof_len[0]);
        mvpn_write_bytes(w, node->proof[0], node->proof_len[0]);
        mvpn_write_bytes(w, node->proof[1], node->proof_len[1]);
        piece_end(w, n);
    }
}

/* A snapshot is taken only while its head is the latest: that one goes before, a later one after.
 */
static void save_head(mvpn_writer *w, const view_discovery *node, bool is_before)
{
    const mvpn_snapshot_head *head = &node->head;
    if (node->snapshot != NULL && is_before) {
        head = &node->snapshot_head;
    } else if (!is_before && (node->snapshot == NULL || node->snapshot_head.hour == head->hour)) {
        return; /* it is there */
    }
    save_bytes(w, PIECE_HEAD, head->encoded, node->is_caught ? 0 : head->encoded_len);
}

static void save_relay(mvpn_writer *w, const view_relay *relay)
{
    size_t n = 17 + 8 * (size_t)relay->source_count + relay->d.encoded_len;
    if (relay->d.encoded_len == 0 || !piece_begin(w, PIECE_DESCRIPTOR, n)) {
        return;
    }
    mvpn_write64(w, relay->first_seen);
    mvpn_write64(w, relay->last_shown);
    mvpn_write8(w, relay->source_count);
    for (size_t i = 0; i < relay->source_count; i++) {
        mvpn_write64(w, relay->sources[i]);
    }
    mvpn_write_bytes(w, relay->d.encoded, relay->d.encoded_len);
    piece_end(w, n);
}

size_t mvpn_view_save_size(const mvpn_view *view)
{
    size_t n = HEADER_LEN + PIECE_OVERHEAD + MVPN_REVOCATIONS_LEN_MAX;
    n += view->count * (PIECE_OVERHEAD + RELAY_FIXED_MAX + MVPN_DESCRIPTOR_MAX);
    for (size_t i = 0; i < view->discovery_count; i++) {
        n += 4 * PIECE_OVERHEAD + 4 * MVPN_SNAPSHOT_HEAD_MAX + 2 + view->discovery[i]->snapshot_len;
    }
    return n;
}

size_t mvpn_view_save(const mvpn_view *view, uint8_t *out, size_t size)
{
    mvpn_writer w = mvpn_writer_init(out, size);
    mvpn_write_bytes(&w, MAGIC, 8);
    mvpn_write8(&w, VERSION);
    mvpn_write_bytes(&w, view->config.trust->network_id.b, 32);
    mvpn_write_bytes(&w, view->hash_key.b, sizeof(view->hash_key.b));
    write_check(&w, out, mvpn_writer_len(&w), CHECK_LEN);
    if (w.failed) {
        return 0;
    }
    /* In the order of loading: what forbids, then what is known, then what speaks of it. */
    save_bytes(&w, PIECE_REVOCATIONS, view->revocations.encoded,
               view->revocations.sequence > 0 ? view->revocations.encoded_len : 0);
    for (size_t i = 0; i < view->discovery_count; i++) {
        save_proof(&w, view->discovery[i]);
    }
    for (size_t i = 0; i < view->discovery_count; i++) {
        save_head(&w, view->discovery[i], true);
    }
    for (size_t i = 0; i < view->count; i++) {
        save_relay(&w, view->relays[i]);
    }
    for (size_t i = 0; i < view->discovery_count; i++) {
        const view_discovery *node = view->discovery[i];
        save_bytes(&w, PIECE_SNAPSHOT, node->snapshot, node->snapshot_len);
    }
    for (size_t i = 0; i < view->discovery_count; i++) {
        save_head(&w, view->discovery[i], false);
    }
    return mvpn_writer_len(&w);
}

/* ---- load ---- */

static bool load_relay(mvpn_view *view, mvpn_bytes piece, uint64_t unix_now)
{
    mvpn_reader r = mvpn_reader_init(piece);
    mvpn_view_source sources[VIEW_SOURCES_MAX] = {0};
    view_relay *relay;
    uint64_t first_seen = mvpn_read64(&r);
    uint64_t last_shown = mvpn_read64(&r);
    size_t count = mvpn_read8(&r);
    if (count > VIEW_SOURCES_MAX) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        sources[i] = mvpn_read64(&r);
    }
    mvpn_bytes record = mvpn_read_rest(&r);
    if (r.failed) {
        return false;
    }
    int rc = view_put_descriptor(view, record, 0, unix_now, &relay);
    if (relay == NULL) {
        return false;
    }
    /* Also of one that we hold already: it is the same record. Local is said anew each run. */
    relay->first_seen = MVPN_MIN(first_seen, relay->first_seen);
    relay->last_shown = MVPN_MIN(last_shown, unix_now);
    for (size_t i = 0; i < count; i++) {
        if (sources[i] != MVPN_VIEW_LOCAL) {
            view_credit(view, relay, sources[i]);
        }
    }
    return rc == 0;
}

static bool load_proof(mvpn_view *view, mvpn_bytes piece)
{
    mvpn_reader r = mvpn_reader_init(piece);
    size_t n = mvpn_read16(&r);
    mvpn_bytes a = mvpn_read_bytes(&r, n);
    mvpn_bytes b = mvpn_read_rest(&r);
    return !r.failed && a.n <= MVPN_SNAPSHOT_HEAD_MAX && b.n <= MVPN_SNAPSHOT_HEAD_MAX &&
           view_put_proof(view, a, b) == 0;
}

static bool load_piece(mvpn_view *view, unsigned kind, mvpn_bytes piece, uint64_t unix_now)
{
    switch (kind) {
    case PIECE_DESCRIPTOR:
        return load_relay(view, piece, unix_now);
    case PIECE_REVOCATIONS:
        return mvpn_view_put(view, MVPN_RECORD_REVOCATIONS, piece, 0, unix_now) == 0;
    case PIECE_HEAD:
        return mvpn_view_put(view, MVPN_RECORD_SNAPSHOT_HEAD, piece, 0, unix_now) == 0;
    case PIECE_PROOF:
        return load_proof(view, piece);
    case PIECE_SNAPSHOT:
        return mvpn_view_put_snapshot(view, piece, unix_now) == 0;
    default:
        return false; /* of a later version */
    }
}

size_t mvpn_view_load(mvpn_view *view, mvpn_bytes saved, uint64_t unix_now, size_t *ret_lost)
{
    mvpn_reader r = mvpn_reader_init(saved);
    size_t taken = 0;
    *ret_lost = saved.n;
    const uint8_t *header = mvpn_read_raw(&r, HEADER_LEN);
    if (header == NULL || !check_holds(header, HEADER_LEN - CHECK_LEN, CHECK_LEN) ||
        memcmp(header, MAGIC, 8) != 0 || header[8] != VERSION ||
        memcmp(header + 9, view->config.trust->network_id.b, 32) != 0) {
        return 0;
    }
    view->now = MVPN_MAX(view->now, unix_now);
    view_rekey(view, header + 9 + 32);
    *ret_lost = 0;
    while (mvpn_reader_left(&r) > 0) {
        size_t left = mvpn_reader_left(&r);
        const uint8_t *fixed = mvpn_read_raw(&r, PIECE_FIXED);
        if (fixed == NULL || !check_holds(fixed, 5, PIECE_CHECK_LEN)) {
            *ret_lost += left;
            break;
        }
        size_t n = mvpn_load32(fixed + 1);
        const uint8_t *piece = mvpn_read_raw(&r, n + CHECK_LEN);
        if (piece == NULL) {
            *ret_lost += left;
            break;
        }
        if (!check_holds(piece, n, CHECK_LEN)) {
            *ret_lost += PIECE_OVERHEAD + n;
            continue;
        }
        taken += load_piece(view, fixed[0], mvpn_bytes_of(piece, n), unix_now);
    }
    return taken;
}
