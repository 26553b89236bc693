#include "io/statefile.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/cursor.h"
#include "base/error.h"
#include "crypto/hash.h"
#include "io/file.h"
#include "io/random.h"

#define MAGIC "MVPNSTAT"
#define MAGIC_LEN 8
#define HEADER_LEN 16
#define DIGEST_LEN 16
#define S_PER_DAY 86400

static const struct {
    const char *name;
    size_t max;
} files[MVPN_STATE_COUNT] = {
    /* 5,000 descriptors and two snapshots of the largest kind. */
    [MVPN_STATE_VIEW] = {"view", 16u << 20},
    [MVPN_STATE_GUARDS] = {"guards", 64u << 10},
    [MVPN_STATE_ENTRIES] = {"entries", 8u << 10},
    [MVPN_STATE_KEY] = {"sample-key", 64},
    [MVPN_STATE_CLOCK] = {"clock", 64},
    [MVPN_STATE_NAT] = {"nat", 512},
    [MVPN_STATE_EXITS] = {"exits", MVPN_STATE_EXITS_SIZE},
};

static int path_of(char path[static PATH_MAX], const char *dir, const char *name, mvpn_fault *fault)
{
    int n = snprintf(path, PATH_MAX, "%s/%s", dir, name);
    return n > 0 && n < PATH_MAX
               ? 0
               : mvpn_fault_set(fault, MVPN_E_SYSTEM, "state_dir %.60s... is too long", dir);
}

/* NAME.tmp.XXXXXX, as mvpn_file_write makes them. */
static bool is_left_over(const char *name)
{
    for (size_t i = 0; i < MVPN_ARRAY_LEN(files); i++) {
        size_t n = strlen(files[i].name);
        if (strncmp(name, files[i].name, n) == 0 && strncmp(name + n, ".tmp.", 5) == 0 &&
            strlen(name + n) == 11) {
            return true;
        }
    }
    return false;
}

int mvpn_statefile_prepare(const char *dir, mvpn_fault *fault)
{
    int rc = mvpn_file_make_dir(dir, 0700, fault);
    DIR *d = rc == 0 ? opendir(dir) : NULL;
    if (d == NULL) {
        return rc; /* nothing can be removed, or there is nothing */
    }
    const struct dirent *e;
    while ((e = readdir(d)) != NULL) {
        if (is_left_over(e->d_name)) {
            (void)unlinkat(dirfd(d), e->d_name, 0);
        }
    }
    (void)closedir(d);
    return access(dir, W_OK | X_OK) == 0
               ? 0
               : mvpn_fault_set(fault, MVPN_E_SYSTEM,
                                "cannot write to %s: nothing will be remembered. Let it belong to "
                                "the user of this program",
                                dir);
}

static void digest_of(uint8_t out[static DIGEST_LEN], const uint8_t *bytes, size_t n)
{
    mvpn_blake3(out, DIGEST_LEN, mvpn_bytes_of(bytes, n));
}

int mvpn_statefile_save(const char *dir, enum mvpn_statefile which, mvpn_bytes content,
                        mvpn_fault *fault)
{
    char path[PATH_MAX];
    if (content.n > files[which].max) {
        return mvpn_fault_set(fault, MVPN_E_TOO_BIG, "%s of %zu bytes is too big to be kept",
                              files[which].name, content.n);
    }
    size_t size = HEADER_LEN + content.n + DIGEST_LEN;
    uint8_t *bytes = malloc(size);
    if (bytes == NULL) {
        return mvpn_fault_set(fault, MVPN_E_NOMEM, "no memory to write %s", files[which].name);
    }
    mvpn_writer w = mvpn_writer_init(bytes, size);
    mvpn_write_bytes(&w, MAGIC, MAGIC_LEN);
    mvpn_write8(&w, (uint8_t)which);
    mvpn_write_zero(&w, 3);
    mvpn_write32(&w, (uint32_t)content.n);
    mvpn_write_bytes(&w, content.p, content.n);
    digest_of(bytes + HEADER_LEN + content.n, bytes, HEADER_LEN + content.n);
    int rc = path_of(path, dir, files[which].name, fault);
    if (rc == 0) {
        rc = mvpn_file_write(path, bytes, size, 0600, fault);
    }
    mvpn_file_free(bytes, size);
    return rc;
}

/* Header and checksum. Cut off or damaged content is given as it is. */
static int open_content(enum mvpn_statefile which, uint8_t *bytes, size_t size, size_t *ret_size,
                        bool *ret_is_whole)
{
    mvpn_reader r = mvpn_reader_init(mvpn_bytes_of(bytes, size));
    mvpn_bytes magic = mvpn_read_bytes(&r, MAGIC_LEN);
    uint8_t file = mvpn_read8(&r);
    (void)mvpn_read_bytes(&r, 3);
    size_t length = mvpn_read32(&r);
    if (r.failed || memcmp(magic.p, MAGIC, MAGIC_LEN) != 0 || file != (uint8_t)which) {
        return MVPN_E_FORMAT;
    }
    size_t left = mvpn_reader_left(&r);
    bool is_whole = length <= files[which].max && left == length + DIGEST_LEN;
    if (is_whole) {
        uint8_t digest[DIGEST_LEN];
        digest_of(digest, bytes, HEADER_LEN + length);
        is_whole = memcmp(digest, bytes + HEADER_LEN + length, DIGEST_LEN) == 0;
    }
    *ret_size = MVPN_MIN(length, left);
    *ret_is_whole = is_whole;
    memmove(bytes, bytes + HEADER_LEN, *ret_size);
    return 0;
}

int mvpn_statefile_load(const char *dir, enum mvpn_statefile which, uint8_t **ret, size_t *ret_size,
                        bool *ret_is_whole, mvpn_fault *fault)
{
    char path[PATH_MAX];
    uint8_t *bytes = NULL;
    size_t size = 0;
    *ret = NULL;
    *ret_size = 0;
    *ret_is_whole = false;
    int rc = path_of(path, dir, files[which].name, fault);
    if (rc == 0) {
        rc = mvpn_file_read(path, HEADER_LEN + files[which].max + DIGEST_LEN, false, &bytes, &size,
                            fault);
    }
    if (rc != 0) {
        return rc;
    }
    rc = open_content(which, bytes, size, ret_size, ret_is_whole);
    if (rc != 0) {
        mvpn_file_free(bytes, size);
        return mvpn_fault_set(fault, rc, "%s is damaged and is not used", path);
    }
    *ret = bytes;
    return 0;
}

/* A small file, whole, into a buffer; false if there is none. */
static bool load_whole(const char *dir, enum mvpn_statefile which, uint8_t *out, size_t size,
                       size_t *ret_n)
{
    uint8_t *bytes;
    size_t n;
    bool is_whole;
    if (mvpn_statefile_load(dir, which, &bytes, &n, &is_whole, NULL) != 0) {
        return false;
    }
    bool ok = is_whole && n <= size;
    if (ok && n > 0) {
        memcpy(out, bytes, n);
    }
    *ret_n = n;
    mvpn_file_free(bytes, n);
    return ok;
}

/* ---- entries ---- */

#define ENTRY_MAX (8 + 1 + MVPN_DHT_CONTACT6_LEN)

void mvpn_state_entries_put(mvpn_state_entries *entries, const mvpn_dht_contact *contact,
                            uint64_t unix_now)
{
    size_t at = 0;
    while (at < entries->count && !mvpn_addr_eq(&entries->at[at].contact.addr, &contact->addr)) {
        at++;
    }
    if (at == entries->count) {
        entries->count += entries->count < MVPN_STATE_ENTRIES_MAX;
        at = entries->count - 1;
    }
    memmove(&entries->at[1], &entries->at[0], at * sizeof(entries->at[0]));
    entries->at[0].contact = *contact;
    entries->at[0].worked = unix_now / S_PER_DAY * S_PER_DAY;
}

int mvpn_state_entries_save(const char *dir, const mvpn_state_entries *entries, mvpn_fault *fault)
{
    uint8_t bytes[MVPN_STATE_ENTRIES_MAX * ENTRY_MAX];
    mvpn_writer w = mvpn_writer_init(bytes, sizeof(bytes));
    for (size_t i = 0; i < entries->count; i++) {
        uint8_t contact[MVPN_DHT_CONTACT6_LEN];
        size_t n = mvpn_dht_contact_encode(contact, sizeof(contact), &entries->at[i].contact);
        mvpn_write64(&w, entries->at[i].worked);
        mvpn_write8(&w, (uint8_t)n);
        mvpn_write_bytes(&w, contact, n);
    }
    MVPN_ASSERT(!w.failed);
    return mvpn_statefile_save(dir, MVPN_STATE_ENTRIES, mvpn_bytes_of(bytes, mvpn_writer_len(&w)),
                               fault);
}

bool mvpn_state_entries_decode(mvpn_state_entries *ret, mvpn_bytes in)
{
    mvpn_reader r = mvpn_reader_init(in);
    *ret = (mvpn_state_entries){0};
    while (mvpn_reader_left(&r) > 0) {
        uint64_t worked = mvpn_read64(&r);
        mvpn_bytes contact = mvpn_read_bytes(&r, mvpn_read8(&r));
        if (r.failed || ret->count == MVPN_STATE_ENTRIES_MAX ||
            mvpn_dht_contact_decode(&ret->at[ret->count].contact, contact) != 0) {
            *ret = (mvpn_state_entries){0};
            return false;
        }
        ret->at[ret->count++].worked = worked;
    }
    return true;
}

void mvpn_state_entries_load(const char *dir, mvpn_state_entries *ret)
{
    uint8_t bytes[MVPN_STATE_ENTRIES_MAX * ENTRY_MAX];
    size_t n;
    if (!load_whole(dir, MVPN_STATE_ENTRIES, bytes, sizeof(bytes), &n) ||
        !mvpn_state_entries_decode(ret, mvpn_bytes_of(bytes, n))) {
        *ret = (mvpn_state_entries){0};
    }
}

/* ---- exits that were chosen ---- */

/*
 * [use 1] [countries 1, [2]* | identity 32 | name 1, [1]* | nothing]
 * [blocked countries 1] [2]* [blocked exits 1] [32]*
 */
enum exits_use { USE_ANY, USE_COUNTRIES, USE_EXIT, USE_NAME };

bool mvpn_state_exits_is_empty(const mvpn_state_exits *e)
{
    const mvpn_exit_choice *c = &e->choice;
    return !c->has_exit && !c->is_open && c->countries.count == 0 && c->blocked_count == 0 &&
           c->blocked_countries.count == 0;
}

static void write_countries(mvpn_writer *w, const mvpn_path_countries *c)
{
    mvpn_write8(w, c->count);
    for (unsigned i = 0; i < c->count; i++) {
        mvpn_write_bytes(w, c->code[i], 2);
    }
}

static bool read_countries(mvpn_reader *r, bool is_exclusion, mvpn_path_countries *ret)
{
    unsigned count = mvpn_read8(r);
    if (r->failed || count > MVPN_PATH_COUNTRIES_MAX) {
        return false;
    }
    *ret =
        (mvpn_path_countries){.is_exclusion = is_exclusion && count > 0, .count = (uint8_t)count};
    for (unsigned i = 0; i < count; i++) {
        mvpn_bytes code = mvpn_read_bytes(r, 2);
        if (r->failed) {
            return false;
        }
        memcpy(ret->code[i], code.p, 2);
        if (!mvpn_country_is_valid(ret->code[i])) {
            return false;
        }
    }
    return true;
}

static bool read_identity(mvpn_reader *r, mvpn_ed25519_pub *ret)
{
    mvpn_bytes b = mvpn_read_bytes(r, sizeof(ret->b));
    if (!r->failed) {
        memcpy(ret->b, b.p, sizeof(ret->b));
    }
    return !r->failed;
}

/* Printable, since it is shown. */
static bool read_name(mvpn_reader *r, char out[static MVPN_STATE_EXIT_NAME_MAX + 1])
{
    mvpn_bytes b = mvpn_read_bytes(r, mvpn_read8(r));
    bool ok = !r->failed && b.n > 0 && b.n <= MVPN_STATE_EXIT_NAME_MAX;
    for (size_t i = 0; ok && i < b.n; i++) {
        ok = b.p[i] > 0x20 && b.p[i] < 0x7f;
    }
    if (ok) {
        memcpy(out, b.p, b.n);
        out[b.n] = '\0';
    }
    return ok;
}

size_t mvpn_state_exits_encode(uint8_t out[static MVPN_STATE_EXITS_SIZE], const mvpn_state_exits *e)
{
    const mvpn_exit_choice *c = &e->choice;
    MVPN_ASSERT(out != NULL); /* gcc -O3 doubts it, since the writer's own NULL means no room */
    mvpn_writer w = mvpn_writer_init(out, MVPN_STATE_EXITS_SIZE);
    enum exits_use use = c->is_open               ? USE_NAME
                         : c->has_exit            ? USE_EXIT
                         : c->countries.count > 0 ? USE_COUNTRIES
                                                  : USE_ANY;
    mvpn_write8(&w, (uint8_t)use);
    if (use == USE_NAME) {
        size_t n = strnlen(e->name, MVPN_STATE_EXIT_NAME_MAX);
        mvpn_write8(&w, (uint8_t)n);
        mvpn_write_bytes(&w, e->name, n);
    } else if (use == USE_EXIT) {
        mvpn_write_bytes(&w, c->exit.b, sizeof(c->exit.b));
    } else if (use == USE_COUNTRIES) {
        write_countries(&w, &c->countries);
    }
    write_countries(&w, &c->blocked_countries);
    mvpn_write8(&w, (uint8_t)c->blocked_count);
    for (size_t i = 0; i < c->blocked_count; i++) {
        mvpn_write_bytes(&w, c->blocked[i].b, sizeof(c->blocked[i].b));
    }
    MVPN_ASSERT(!w.failed);
    return mvpn_writer_len(&w);
}

static bool read_exits(mvpn_reader *r, mvpn_state_exits *e)
{
    mvpn_exit_choice *c = &e->choice;
    unsigned use = mvpn_read8(r);
    bool ok = !r->failed && use <= USE_NAME;
    c->is_open = use == USE_NAME;
    c->has_exit = use == USE_EXIT;
    if (ok && use == USE_COUNTRIES) {
        ok = read_countries(r, false, &c->countries) && c->countries.count > 0;
    } else if (ok && use == USE_EXIT) {
        ok = read_identity(r, &c->exit);
    } else if (ok && use == USE_NAME) {
        ok = read_name(r, e->name);
    }
    if (!ok || !read_countries(r, true, &c->blocked_countries)) {
        return false;
    }
    unsigned count = mvpn_read8(r);
    if (r->failed || count > MVPN_EXIT_BLOCKED_MAX) {
        return false;
    }
    while (c->blocked_count < count) {
        if (!read_identity(r, &c->blocked[c->blocked_count++])) {
            return false;
        }
    }
    return mvpn_reader_left(r) == 0;
}

bool mvpn_state_exits_decode(mvpn_state_exits *ret, mvpn_bytes in)
{
    mvpn_reader r = mvpn_reader_init(in);
    *ret = (mvpn_state_exits){.name = ""};
    if (!read_exits(&r, ret)) {
        *ret = (mvpn_state_exits){.name = ""};
        return false;
    }
    return true;
}

int mvpn_state_exits_save(const char *dir, const mvpn_state_exits *exits, mvpn_fault *fault)
{
    uint8_t bytes[MVPN_STATE_EXITS_SIZE];
    size_t n = mvpn_state_exits_encode(bytes, exits);
    return mvpn_statefile_save(dir, MVPN_STATE_EXITS, mvpn_bytes_of(bytes, n), fault);
}

int mvpn_state_exits_load(const char *dir, mvpn_state_exits *ret)
{
    uint8_t *bytes;
    size_t n;
    bool is_whole;
    int rc = mvpn_statefile_load(dir, MVPN_STATE_EXITS, &bytes, &n, &is_whole, NULL);
    *ret = (mvpn_state_exits){.name = ""};
    if (rc != 0) {
        return rc;
    }
    bool ok = is_whole && mvpn_state_exits_decode(ret, mvpn_bytes_of(bytes, n));
    mvpn_file_free(bytes, n);
    return ok ? 0 : MVPN_E_FORMAT;
}

/* ---- the rest ---- */

int mvpn_state_sample_key(const char *dir, uint8_t ret[static 16], mvpn_fault *fault)
{
    size_t n;
    uint8_t key[16];
    if (load_whole(dir, MVPN_STATE_KEY, key, sizeof(key), &n) && n == sizeof(key)) {
        memcpy(ret, key, sizeof(key));
        return 0;
    }
    int rc = mvpn_random_bytes(key, sizeof(key));
    if (rc != 0) {
        return mvpn_fault_set(fault, rc, "the system gives no randomness");
    }
    memcpy(ret, key, sizeof(key));
    /* Without a file the next run draws another, and samples a large network anew. */
    MVPN_IGNORE(mvpn_statefile_save(dir, MVPN_STATE_KEY, MVPN_BYTES_ARRAY(key), fault));
    return 0;
}

int mvpn_state_clock_save(const char *dir, const mvpn_state_clock *clock, mvpn_fault *fault)
{
    uint8_t bytes[16];
    mvpn_store64(bytes, (uint64_t)clock->offset_s);
    mvpn_store64(bytes + 8, clock->at);
    return mvpn_statefile_save(dir, MVPN_STATE_CLOCK, MVPN_BYTES_ARRAY(bytes), fault);
}

bool mvpn_state_clock_load(const char *dir, mvpn_state_clock *ret)
{
    uint8_t bytes[16];
    size_t n;
    if (!load_whole(dir, MVPN_STATE_CLOCK, bytes, sizeof(bytes), &n) || n != sizeof(bytes)) {
        return false;
    }
    *ret = (mvpn_state_clock){(int64_t)mvpn_load64(bytes), mvpn_load64(bytes + 8)};
    return true;
}
