/*
 * Old keys are nowhere: when a circuit or a link's epoch is over, no byte string in the writable
 * memory of the process is one of its keys, and no handshake leaves its ephemeral secret or its
 * chaining key behind. Every key of every node passes here when it is made (linked with --wrap) and
 * is noted in disguise, so that the note itself is not found.
 */
#include "inet.h"
#include "scenario.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "crypto/hash.h"
#include "crypto/layer.h"
#include "crypto/noise.h"

/* ---- noting ---- */

enum secret_kind {
    EPHEMERAL, /* of any handshake */
    CHAIN,     /* its chaining key when it is over */
    RAW,       /* transport key of a handshake that is not a layer's key */
    LAYER,     /* of a circuit's hop */
    EPOCH,     /* of a link */
    MASK,      /* of a link, as long as it lives */
    KINDS,
};

static const char *const kind_name[KINDS] = {"ephemeral", "chaining", "raw",
                                             "layer",     "epoch",    "mask"};

typedef struct secret {
    uint8_t disguised[32];
    enum secret_kind kind;
    mvpn_time at;
    bool is_found;
    char where[32]; /* [heap], [stack], a library */
} secret;

#define SECRETS 8192
#define FILTER_BITS 16

static secret secrets[SECRETS];
static size_t secret_count;
static uint8_t filter[1u << FILTER_BITS]; /* by the first 8 bytes */
static bool is_writing;                   /* a handshake message: keys made now are ephemeral */

static uint8_t disguise(uint8_t b, size_t i)
{
    return (uint8_t)(b ^ (0xa5 + 29 * i));
}

static unsigned filter_of(const uint8_t *p)
{
    uint64_t x;
    memcpy(&x, p, sizeof(x));
    return (unsigned)(x * 0x9e3779b97f4a7c15u >> (64 - FILTER_BITS));
}

static bool is_secret(const secret *s, const uint8_t *p)
{
    for (size_t i = 0; i < 32; i++) {
        if (s->disguised[i] != disguise(p[i], i)) {
            return false;
        }
    }
    return true;
}

static void note(const uint8_t *key, enum secret_kind kind)
{
    for (size_t i = 0; i < secret_count; i++) { /* both ends make it */
        if (is_secret(&secrets[i], key)) {
            secrets[i].kind = kind == LAYER ? LAYER : secrets[i].kind;
            return;
        }
    }
    MVPN_ASSERT(secret_count < SECRETS);
    secret *s = &secrets[secret_count++];
    for (size_t i = 0; i < 32; i++) {
        s->disguised[i] = disguise(key[i], i);
    }
    s->kind = kind;
    s->at = sim_current_time;
    filter[filter_of(key)] = 1;
}

static void forget(void)
{
    secret_count = 0;
    memset(filter, 0, sizeof(filter));
}

void __real_mvpn_x25519_generate(mvpn_x25519_pair *ret, mvpn_rng *rng);
void __wrap_mvpn_x25519_generate(mvpn_x25519_pair *ret, mvpn_rng *rng);
int __real_mvpn_noise_write(mvpn_noise *hs, uint8_t *out, size_t size, size_t *ret_len,
                            mvpn_bytes payload, mvpn_rng *rng);
int __wrap_mvpn_noise_write(mvpn_noise *hs, uint8_t *out, size_t size, size_t *ret_len,
                            mvpn_bytes payload, mvpn_rng *rng);
void __real_mvpn_noise_split(const mvpn_noise *hs, mvpn_key *ret_send, mvpn_key *ret_recv);
void __wrap_mvpn_noise_split(const mvpn_noise *hs, mvpn_key *ret_send, mvpn_key *ret_recv);
void __real_mvpn_layer_tx_init(mvpn_layer_tx *tx, const mvpn_key *key);
void __wrap_mvpn_layer_tx_init(mvpn_layer_tx *tx, const mvpn_key *key);
void __real_mvpn_blake3_derive(uint8_t *out, size_t out_len, const char *context,
                               const mvpn_bytes *in, size_t count);
void __wrap_mvpn_blake3_derive(uint8_t *out, size_t out_len, const char *context,
                               const mvpn_bytes *in, size_t count);

void __wrap_mvpn_x25519_generate(mvpn_x25519_pair *ret, mvpn_rng *rng)
{
    __real_mvpn_x25519_generate(ret, rng);
    if (is_writing) {
        note(ret->secret.b, EPHEMERAL);
    }
}

int __wrap_mvpn_noise_write(mvpn_noise *hs, uint8_t *out, size_t size, size_t *ret_len,
                            mvpn_bytes payload, mvpn_rng *rng)
{
    is_writing = true;
    int r = __real_mvpn_noise_write(hs, out, size, ret_len, payload, rng);
    is_writing = false;
    return r;
}

void __wrap_mvpn_noise_split(const mvpn_noise *hs, mvpn_key *ret_send, mvpn_key *ret_recv)
{
    __real_mvpn_noise_split(hs, ret_send, ret_recv);
    note(hs->ck.b, CHAIN);
    note(ret_send->b, RAW);
    note(ret_recv->b, RAW);
}

/* Each layer key is one side's to seal with. */
void __wrap_mvpn_layer_tx_init(mvpn_layer_tx *tx, const mvpn_key *key)
{
    __real_mvpn_layer_tx_init(tx, key);
    note(key->b, LAYER);
}

void __wrap_mvpn_blake3_derive(uint8_t *out, size_t out_len, const char *context,
                               const mvpn_bytes *in, size_t count)
{
    __real_mvpn_blake3_derive(out, out_len, context, in, count);
    if (strcmp(context, "meshvpn v1 link aead") == 0 ||
        strcmp(context, "meshvpn v1 link filler") == 0) {
        note(out, EPOCH);
    } else if (strcmp(context, "meshvpn v1 link header") == 0) {
        note(out, MASK);
    }
}

/* ---- looking ---- */

#define CHUNK ((size_t)1 << 20)
/* Larger ones are a sanitizer's shadow: bits, not bytes. */
#define MAPPING_MAX ((size_t)4 << 30)

static uint8_t *window; /* what is looked at, a copy; left out itself */

static void look_at(size_t n, const char *where)
{
    for (size_t i = 0; i + 32 <= n; i++) {
        if (filter[filter_of(window + i)] == 0) {
            continue;
        }
        for (size_t k = 0; k < secret_count; k++) {
            if (is_secret(&secrets[k], window + i)) {
                secrets[k].is_found = true;
                (void)snprintf(secrets[k].where, sizeof(secrets[k].where), "%.31s", where);
            }
        }
    }
}

static void look_through(int mem, uintptr_t from, uintptr_t to, const char *where)
{
    while (from + 32 <= to) {
        size_t n = MVPN_MIN(CHUNK, to - from);
        ssize_t got = pread(mem, window, n, (off_t)from);
        if (got < 32) {
            return; /* a page that cannot be read */
        }
        look_at((size_t)got, where);
        from += (size_t)got - 31; /* a key may lie across */
    }
}

/* Count where each secret stands in all that this process can write. */
static void look(void)
{
    char line[512];
    int mem = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    FILE *maps = fopen("/proc/self/maps", "re");
    window = mmap(NULL, CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MVPN_ASSERT(mem >= 0 && maps != NULL && window != MAP_FAILED);
    for (size_t i = 0; i < secret_count; i++) {
        secrets[i].is_found = false;
    }
    while (fgets(line, sizeof(line), maps) != NULL) {
        uintptr_t from, to, own = (uintptr_t)window;
        char rights[8], where[256] = "memory";
        if (sscanf(line, "%lx-%lx %7s %*s %*s %*s %255s", &from, &to, rights, where) < 3 ||
            rights[0] != 'r' || rights[1] != 'w' || to - from > MAPPING_MAX) {
            continue;
        }
        if (from <= own && own < to) { /* mappings that touch are told as one */
            look_through(mem, from, own, where);
            from = own + CHUNK;
        }
        look_through(mem, from, to, where);
    }
    (void)munmap(window, CHUNK);
    (void)fclose(maps);
    (void)close(mem);
}

/* How many secrets of a kind, made until then, stand somewhere. */
static size_t found(enum secret_kind kind, mvpn_time until, const char **ret_where)
{
    size_t n = 0, count = 0;
    for (size_t i = 0; i < secret_count; i++) {
        const secret *s = &secrets[i];
        if (s->kind == kind && s->at <= until) {
            count++;
            n += s->is_found;
            *ret_where = s->is_found ? s->where : *ret_where;
        }
    }
    say("  %s: %zu of %zu", kind_name[kind], n, count);
    return n;
}

/* The control. */
static bool are_there(enum secret_kind kind, size_t at_least, mvpn_time until)
{
    const char *where = "";
    return found(kind, until, &where) >= at_least;
}

static bool are_gone(enum secret_kind kind, mvpn_time until)
{
    const char *where = "";
    size_t n = found(kind, until, &where);
    check_context("%s keys, last in %s", kind_name[kind], where);
    return n == 0;
}

/* What no handshake leaves. */
static void check_handshakes(mvpn_time until)
{
    CHECK(are_gone(EPHEMERAL, until));
    CHECK(are_gone(CHAIN, until));
    CHECK(are_gone(RAW, until));
}

/* ---- scenarios ---- */

static sim *world(uint64_t seed, enum mvpn_aead_backend backend, mvpn_time rekey_after)
{
    forget();
    sim *w = sim_new(seed);
    w->path.delay = MVPN_MS(10);
    for (size_t i = 0; i < 5; i++) {
        sim_node *n = sim_add(w, i < 3 ? SIM_RELAY : i < 4 ? SIM_EXIT : SIM_CLIENT);
        n->config.backend = backend;
        n->config.link_limits.rekey_after = rekey_after;
        n->client.hops = 3;
    }
    for (size_t i = 0; i < 5; i++) {
        sim_start(w->node[i]);
    }
    return w;
}

static void circuit_of(uint64_t seed, enum mvpn_aead_backend backend)
{
    inet_host host;
    sim *w = world(seed, backend, 0);
    sim_node *client = sim_client(w);
    inet_host_attach(&host, client);
    CHECK(sim_connect(client, MVPN_S(60)));
    CHECK(inet_transfer_run(client, INET_DOWN, 200000, 16, MVPN_S(60)));
    sim_for(w, MVPN_S(60));
    look();
    say("backend %d: while the circuits live", (int)backend);
    CHECK(are_there(LAYER, 6, w->now)); /* the control: forward and backward at three hops */
    CHECK(are_there(EPOCH, 4, w->now));
    check_handshakes(w->now - MVPN_S(30));
    sim_stop(client, true);
    sim_for(w, MVPN_S(30));
    CHECK(sim_circuits_total(w) == 0);
    look();
    say("backend %d: the client is gone", (int)backend);
    CHECK(are_gone(LAYER, w->now));
    check_handshakes(w->now);
    inet_host_done(&host);
    sim_free(w);
    look();
    say("backend %d: all are gone", (int)backend);
    for (unsigned k = 0; k < KINDS; k++) {
        CHECK(are_gone((enum secret_kind)k, MVPN_TIME_NEVER));
    }
}

/* The client lives on, and nobody else. */
static void alone(uint64_t seed)
{
    sim *w = world(seed, MVPN_AEAD_AUTO, 0);
    sim_node *client = sim_client(w);
    CHECK(sim_connect(client, MVPN_S(60)));
    look();
    CHECK(are_there(LAYER, 6, w->now));
    for (size_t i = 0; i < 4; i++) {
        sim_stop(w->node[i], true);
    }
    sim_for(w, MVPN_S(120));
    look();
    CHECK(are_gone(LAYER, w->now));
    CHECK(are_gone(EPOCH, w->now));
    sim_free(w);
}

static void circuit(uint64_t seed)
{
    circuit_of(seed, MVPN_AEAD_AUTO);
    circuit_of(seed, MVPN_AEAD_OPENSSL);
}

static void epoch_of(uint64_t seed, enum mvpn_aead_backend backend)
{
    inet_host host;
    sim *w = world(seed, backend, MVPN_S(30));
    sim_node *client = sim_client(w);
    inet_host_attach(&host, client);
    CHECK(sim_connect(client, MVPN_S(60)));
    CHECK(inet_transfer_run(client, INET_DOWN, 200000, 16, MVPN_S(60)));
    mvpn_time before = w->now;
    look();
    say("backend %d: before a rekey", (int)backend);
    CHECK(are_there(EPOCH, 4, before)); /* the control */
    sim_for(w, MVPN_S(120));            /* 30 s ± 25 %, the answer, 10 s */
    look();
    say("backend %d: after it", (int)backend);
    CHECK(are_gone(EPOCH, before));
    for (unsigned i = 0; i < 5; i++) { /* what is freed is soon written over, if not wiped */
        sim_for(w, MVPN_S(7));
        look();
        CHECK(are_gone(EPOCH, w->now - MVPN_S(55)));
    }
    CHECK(are_there(EPOCH, 4, w->now));
    inet_host_done(&host);
    sim_free(w);
}

static void epoch(uint64_t seed)
{
    epoch_of(seed, MVPN_AEAD_AUTO);
    epoch_of(seed, MVPN_AEAD_OPENSSL);
}

int main(int argc, char **argv)
{
    static const scenario scenarios[] = {{"circuit", circuit}, {"alone", alone}, {"epoch", epoch}};
    return scenario_main(argc, argv, scenarios, MVPN_ARRAY_LEN(scenarios));
}
