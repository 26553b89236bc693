/*
 * A view's cache: whatever the file holds, only verified records come out, and what was taken can
 * be saved and loaded again.
 *
 * [0] file as it is | [1] ([kind 1] [length 2] [bytes])*, framed here: no fuzzer finds checksums.
 */
#include "core/testrecords.h"
#include "core/view.h"
#include "crypto/hash.h"
#include "fuzz/fuzz.h"

static test_network net;

static mvpn_view *view_make(void)
{
    mvpn_view *view;
    const mvpn_view_config config = {.trust = &net.trust, .max = 8};
    FUZZ_CHECK(mvpn_view_new(&config, &view) == 0);
    return view;
}

static void check(const mvpn_view *view)
{
    mvpn_record_info info;
    mvpn_descriptor d;
    FUZZ_CHECK(mvpn_view_count(view) <= 8);
    for (size_t i = 0; i < mvpn_view_count(view); i++) {
        const mvpn_descriptor *held = mvpn_view_at(view, i);
        mvpn_bytes record = mvpn_bytes_of(held->encoded, held->encoded_len);
        mvpn_view_info about;
        mvpn_view_get_info(view, i, &about);
        FUZZ_CHECK(mvpn_record_verify(&net.trust, MVPN_RECORD_DESCRIPTOR, record, TEST_NOW, &info,
                                      &d) == 0);
        FUZZ_CHECK(mvpn_view_find(view, &held->identity) == held);
        FUZZ_CHECK(about.last_shown <= TEST_NOW && about.first_seen <= TEST_NOW);
    }
    for (size_t i = 0; i < mvpn_view_head_count(view); i++) {
        const mvpn_snapshot_head *head = mvpn_view_head_at(view, i);
        FUZZ_CHECK(mvpn_record_verify(&net.trust, MVPN_RECORD_SNAPSHOT_HEAD,
                                      mvpn_bytes_of(head->encoded, head->encoded_len), TEST_NOW,
                                      &info, NULL) == 0);
    }
}

static void write_piece(mvpn_writer *w, unsigned kind, mvpn_bytes piece)
{
    uint8_t check[8];
    const uint8_t *from = w->p;
    mvpn_write8(w, (uint8_t)kind);
    mvpn_write32(w, (uint32_t)piece.n);
    mvpn_blake3(check, 4, mvpn_bytes_of(from, 5));
    mvpn_write_bytes(w, check, 4);
    mvpn_write_bytes(w, piece.p, piece.n);
    mvpn_blake3(check, 8, piece);
    mvpn_write_bytes(w, check, 8);
}

/* The input as a cache with good checksums. */
static mvpn_bytes frame(const mvpn_view *empty, mvpn_bytes data)
{
    static uint8_t file[1 << 18];
    mvpn_reader in = mvpn_reader_init(data);
    mvpn_writer w = mvpn_writer_init(file, sizeof(file));
    (void)mvpn_write_raw(&w, mvpn_view_save(empty, file, sizeof(file)));
    while (fuzz_more(&in) && (size_t)(w.end - w.p) > 8192) {
        unsigned kind = mvpn_read8(&in);
        write_piece(&w, kind, fuzz_chunk(&in, 4096));
    }
    return mvpn_bytes_of(file, mvpn_writer_len(&w));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t lost;
    if (size == 0) {
        return 0;
    }
    test_network_make(&net, 1);
    mvpn_view *view = view_make(), *again = view_make();
    mvpn_bytes file = mvpn_bytes_of(data + 1, size - 1);
    if (data[0] != 0) {
        file = frame(view, file);
    }
    (void)mvpn_view_load(view, file, TEST_NOW, &lost);
    FUZZ_CHECK(lost <= file.n && (data[0] == 0 || lost == 0));
    check(view);
    size_t room = mvpn_view_save_size(view);
    uint8_t *saved = malloc(room);
    FUZZ_CHECK(saved != NULL);
    size_t n = mvpn_view_save(view, saved, room);
    (void)mvpn_view_load(again, mvpn_bytes_of(saved, n), TEST_NOW, &lost);
    FUZZ_CHECK(lost == 0);
    FUZZ_CHECK(mvpn_view_count(again) == mvpn_view_count(view));
    FUZZ_CHECK(mvpn_view_record_count(again) == mvpn_view_record_count(view));
    free(saved);
    mvpn_view_free(view);
    mvpn_view_free(again);
    return 0;
}
