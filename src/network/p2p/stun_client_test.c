/*
 * The STUN client before simulated NATs of every kind, with our own server on the other side; and
 * against liars.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/error.h"
#include "network/p2p/stun_client.h"
#include "network/p2p/stun_server.h"

/* ---- a world: host, NAT, two servers ---- */

enum dependence { NONE = 1, ADDRESS = 2, PORT = 3 }; /* as in the results */

struct nat {
    bool is_none;
    enum dependence mapping, filtering;
    enum mvpn_stun_ports ports;
    bool hairpin;
};

struct binding {
    unsigned socket;
    mvpn_addr key;
    uint16_t port;
    mvpn_addr contacts[16];
    size_t contact_count;
};

struct flight {
    mvpn_time at;
    mvpn_addr from, to;
    uint8_t bytes[MVPN_STUN_MAX];
    size_t length;
};

static struct world {
    struct nat nat;
    unsigned loss_percent;
    mvpn_time delay;
    bool second_server; /* answers too, with one address */
    bool dead_alternate;
    bool blocked;
    mvpn_rng rng, client_rng;
    mvpn_stun_client *client;
    mvpn_stun_server *servers[2];
    struct binding bindings[64];
    size_t binding_count;
    struct flight flights[256];
    size_t flight_count;
    mvpn_time now;
    unsigned sent;
    unsigned sent_to_other; /* to the alternate of the first server */
    mvpn_stun_client_config config;
} w;

static mvpn_addr addr(const char *text)
{
    mvpn_addr a;
    assert_int_equal(mvpn_addr_parse(text, &a), 0);
    return a;
}

static bool is_v6;
#define PICK(four, six) addr(is_v6 ? (six) : (four))
#define A1P1 PICK("11.0.0.1:3478", "[2a10::1]:3478")
#define A2P2 PICK("11.0.0.2:3479", "[2a10::2]:3479")
#define B1P1 PICK("12.0.0.1:3478", "[2a11::1]:3478")
#define OUTSIDE PICK("13.0.0.7:1", "[2a12::7]:1")
#define INSIDE PICK("192.168.1.2:1", "[fd00::2]:1")
#define LOCAL_PORT 5000

static mvpn_addr with_port(mvpn_addr a, unsigned port)
{
    a.port = (uint16_t)port;
    return a;
}

static mvpn_addr local_of(unsigned socket)
{
    return with_port(w.nat.is_none ? OUTSIDE : INSIDE, LOCAL_PORT + 7 * socket);
}

static struct binding *bind_out(unsigned socket, const mvpn_addr *to)
{
    mvpn_addr key = *to;
    if (w.nat.mapping == NONE) {
        key = (mvpn_addr){0};
    } else if (w.nat.mapping == ADDRESS) {
        key.port = 0;
    }
    for (size_t i = 0; i < w.binding_count; i++) {
        if (w.bindings[i].socket == socket && mvpn_addr_eq(&w.bindings[i].key, &key)) {
            return &w.bindings[i];
        }
    }
    assert_true(w.binding_count < MVPN_ARRAY_LEN(w.bindings));
    struct binding *b = &w.bindings[w.binding_count];
    *b = (struct binding){.socket = socket, .key = key};
    if (w.nat.is_none || w.nat.ports == MVPN_STUN_PORTS_PRESERVING) {
        b->port = local_of(socket).port;
    } else if (w.nat.ports == MVPN_STUN_PORTS_SEQUENTIAL) {
        b->port = (uint16_t)(30000 + 2 * w.binding_count);
    } else {
        b->port = (uint16_t)(10000 + mvpn_rng_below(&w.rng, 50000));
    }
    w.binding_count++;
    return b;
}

static bool passes(const struct binding *b, const mvpn_addr *from)
{
    if (w.nat.is_none || w.nat.filtering == NONE) {
        return true;
    }
    for (size_t i = 0; i < b->contact_count; i++) {
        if (w.nat.filtering == ADDRESS ? mvpn_addr_ip_eq(&b->contacts[i], from)
                                       : mvpn_addr_eq(&b->contacts[i], from)) {
            return true;
        }
    }
    return false;
}

static void fly(const mvpn_addr *from, const mvpn_addr *to, const uint8_t *bytes, size_t n)
{
    if (mvpn_rng_below(&w.rng, 100) < w.loss_percent) {
        return;
    }
    assert_true(w.flight_count < MVPN_ARRAY_LEN(w.flights));
    struct flight *f = &w.flights[w.flight_count++];
    *f = (struct flight){.at = w.now + w.delay, .from = *from, .to = *to, .length = n};
    memcpy(f->bytes, bytes, n);
}

static void drain_client(void)
{
    mvpn_stun_datagram d;
    while (mvpn_stun_client_pull(w.client, &d)) {
        mvpn_addr other = A2P2;
        struct binding *b = bind_out(d.socket, &d.to);
        w.sent++;
        w.sent_to_other += mvpn_addr_ip_eq(&d.to, &other);
        assert_int_equal(d.length, MVPN_STUN_REQUEST_LEN);
        if (b->contact_count < MVPN_ARRAY_LEN(b->contacts)) {
            b->contacts[b->contact_count++] = d.to;
        }
        mvpn_addr from = with_port(OUTSIDE, b->port);
        if (!w.blocked) {
            fly(&from, &d.to, d.bytes, d.length);
        }
    }
}

static void at_server(const struct flight *f)
{
    for (unsigned s = 0; s < 2; s++) {
        for (unsigned i = 0; w.servers[s] != NULL && i < MVPN_STUN_SOCKETS; i++) {
            mvpn_addr own = mvpn_stun_server_address(w.servers[s], i);
            mvpn_stun_answer a;
            if (mvpn_addr_eq(&own, &f->to) && !(w.dead_alternate && i >= 2) &&
                mvpn_stun_server_recv(w.servers[s], i, &f->from, mvpn_bytes_of(f->bytes, f->length),
                                      w.now, &a) == 0) {
                mvpn_addr from = mvpn_stun_server_address(w.servers[s], a.socket);
                if (!(w.dead_alternate && a.socket >= 2)) {
                    fly(&from, &a.to, a.bytes, a.length);
                }
            }
        }
    }
}

static void at_nat(const struct flight *f)
{
    mvpn_addr outside = OUTSIDE;
    if (mvpn_addr_ip_eq(&f->from, &outside) && !w.nat.hairpin && !w.nat.is_none) {
        return;
    }
    for (size_t i = 0; i < w.binding_count; i++) {
        if (w.bindings[i].port == f->to.port && passes(&w.bindings[i], &f->from)) {
            MVPN_IGNORE(mvpn_stun_client_recv(w.client, w.bindings[i].socket, &f->from,
                                              mvpn_bytes_of(f->bytes, f->length),
                                              w.now)); /* the result tells */
            drain_client();
            return;
        }
    }
}

static void land(size_t i)
{
    struct flight f = w.flights[i];
    mvpn_addr outside = OUTSIDE;
    w.flights[i] = w.flights[--w.flight_count];
    if (mvpn_addr_ip_eq(&f.to, &outside)) {
        at_nat(&f);
    } else {
        at_server(&f);
    }
}

static void run(void)
{
    for (unsigned turns = 0; !mvpn_stun_client_is_done(w.client); turns++) {
        mvpn_time next = mvpn_stun_client_deadline(w.client);
        size_t first = w.flight_count;
        assert_true(turns < 2000);
        for (size_t i = 0; i < w.flight_count; i++) {
            if (w.flights[i].at < next) {
                next = w.flights[i].at;
                first = i;
            }
        }
        assert_true(next != MVPN_TIME_NEVER);
        w.now = MVPN_MAX(w.now, next);
        if (first < w.flight_count) {
            land(first);
        } else {
            mvpn_stun_client_tick(w.client, w.now);
            drain_client();
        }
    }
    assert_int_equal(mvpn_stun_client_deadline(w.client), MVPN_TIME_NEVER);
}

static void reset(struct nat nat, uint64_t seed)
{
    memset(&w, 0, sizeof(w));
    w.nat = nat;
    w.delay = MVPN_MS(15);
    w.now = MVPN_S(5);
    mvpn_rng_init_test(&w.rng, seed);
    mvpn_rng_init_test(&w.client_rng, seed + 1);
    w.config = (mvpn_stun_client_config){.servers = {A1P1},
                                         .server_count = 1,
                                         .rto = MVPN_STUN_QUICK_RTO,
                                         .rc = MVPN_STUN_QUICK_RC,
                                         .rm = MVPN_STUN_QUICK_RM,
                                         .local = {local_of(0), local_of(1)}};
}

static void begin(bool has_alternate)
{
    mvpn_stun_server_config s = {.primary = A1P1, .is_strict = true};
    if (has_alternate) {
        s.alternate = A2P2;
    }
    assert_int_equal(mvpn_stun_server_new(&w.servers[0], &s, &w.rng), 0);
    if (w.second_server) {
        s = (mvpn_stun_server_config){.primary = B1P1, .is_strict = true};
        assert_int_equal(mvpn_stun_server_new(&w.servers[1], &s, &w.rng), 0);
        w.config.servers[w.config.server_count++] = B1P1;
    }
    assert_int_equal(mvpn_stun_client_new(&w.client, &w.config, &w.client_rng, w.now), 0);
    drain_client();
}

static void end(void)
{
    mvpn_stun_client_free(w.client);
    mvpn_stun_server_free(w.servers[0]);
    mvpn_stun_server_free(w.servers[1]);
    w.client = NULL;
    w.servers[0] = w.servers[1] = NULL;
}

static const mvpn_stun_result *result(void)
{
    return mvpn_stun_client_result(w.client);
}

/* ---- what NATs do ---- */

static enum mvpn_stun_nat expected(const struct nat *n)
{
    if (n->is_none) {
        return MVPN_STUN_NAT_NONE;
    }
    return n->mapping != NONE        ? MVPN_STUN_NAT_SYMMETRIC
           : n->filtering == NONE    ? MVPN_STUN_NAT_FULL_CONE
           : n->filtering == ADDRESS ? MVPN_STUN_NAT_RESTRICTED
                                     : MVPN_STUN_NAT_PORT_RESTRICTED;
}

static void one_nat(struct nat nat)
{
    reset(nat, 7);
    begin(true);
    run();
    const mvpn_stun_result *r = result();
    mvpn_addr server = A1P1, outside = OUTSIDE;
    assert_int_equal(r->nat, expected(&nat));
    assert_int_equal((int)r->mapping, (int)nat.mapping);
    assert_int_equal((int)r->filtering, (int)nat.filtering);
    assert_int_equal(r->hairpin, nat.is_none   ? MVPN_STUN_HAIRPIN_UNKNOWN
                                 : nat.hairpin ? MVPN_STUN_HAIRPIN_YES
                                               : MVPN_STUN_HAIRPIN_NO);
    assert_true(r->has_address && !r->has_alg);
    assert_true(mvpn_addr_eq(&r->server, &server));
    assert_true(mvpn_addr_ip_eq(&r->mapped[0], &outside));
    assert_int_equal(r->mapped[0].port, w.bindings[0].port);
    assert_int_equal(r->rtt, MVPN_MS(30));
    assert_int_equal(r->forged, 0);
    assert_true(w.now < MVPN_S(10)); /* 5 s */
    if (nat.mapping != NONE && nat.ports != MVPN_STUN_PORTS_PRESERVING) {
        bool enough = nat.mapping == PORT || nat.ports == MVPN_STUN_PORTS_RANDOM;
        assert_int_equal(r->ports, enough ? nat.ports : MVPN_STUN_PORTS_UNKNOWN);
        assert_int_equal(r->port_step, enough && nat.ports == MVPN_STUN_PORTS_SEQUENTIAL ? 2 : 0);
    } else if (nat.mapping == NONE && nat.ports == MVPN_STUN_PORTS_PRESERVING) {
        assert_int_equal(r->ports, MVPN_STUN_PORTS_PRESERVING);
    }
    end();
}

static void test_every_nat(void **state)
{
    (void)state;
    for (unsigned v6 = 0; v6 < 2; v6++) {
        is_v6 = v6;
        for (unsigned m = NONE; m <= PORT; m++) {
            for (unsigned f = NONE; f <= PORT; f++) {
                for (unsigned p = MVPN_STUN_PORTS_PRESERVING; p <= MVPN_STUN_PORTS_RANDOM; p++) {
                    struct nat nat = {.mapping = (enum dependence)m,
                                      .filtering = (enum dependence)f,
                                      .ports = (enum mvpn_stun_ports)p};
                    if (m != NONE && p == MVPN_STUN_PORTS_PRESERVING) {
                        continue; /* one port for all is no dependence */
                    }
                    one_nat(nat);
                    /* Where both sides meet: the mapping to each other is the one that was told. */
                    nat.hairpin = m == NONE || f == NONE;
                    one_nat(nat);
                }
            }
        }
        one_nat((struct nat){.is_none = true, .mapping = NONE, .filtering = NONE});
    }
    is_v6 = false;
}

/* Loss never makes a NAT look better than it is. */
static void test_loss(void **state)
{
    (void)state;
    unsigned right = 0, runs = 0;
    for (uint64_t seed = 0; seed < 300; seed++) {
        struct nat nat = {.mapping = (enum dependence)(1 + seed % 3),
                          .filtering = (enum dependence)(1 + seed / 3 % 3),
                          .ports = MVPN_STUN_PORTS_RANDOM};
        reset(nat, seed);
        w.loss_percent = 20;
        begin(true);
        run();
        const mvpn_stun_result *r = result();
        assert_true(r->mapping == MVPN_STUN_MAPPING_UNKNOWN || (int)r->mapping >= (int)nat.mapping);
        assert_true(r->filtering == MVPN_STUN_FILTERING_UNKNOWN ||
                    (int)r->filtering >= (int)nat.filtering);
        assert_true((int)r->nat >= (int)expected(&nat) || r->nat <= MVPN_STUN_NAT_UDP_BLOCKED);
        assert_true(r->hairpin != MVPN_STUN_HAIRPIN_YES);
        right += r->nat == expected(&nat);
        runs++;
        end();
    }
    assert_true(right * 100 >= runs * 85);
}

/* What a server that has one address can tell. */
static void test_one_address(void **state)
{
    (void)state;
    reset((struct nat){.mapping = NONE, .filtering = PORT, .ports = MVPN_STUN_PORTS_RANDOM}, 1);
    begin(false);
    run();
    assert_int_equal(result()->nat, MVPN_STUN_NAT_UNKNOWN);
    assert_true(result()->has_address);
    end();
    /* Two of them, of different people: the mapping is known, the filtering assumed. */
    for (unsigned m = NONE; m <= PORT; m++) {
        reset((struct nat){.mapping = (enum dependence)m,
                           .filtering = NONE,
                           .ports = MVPN_STUN_PORTS_RANDOM},
              1);
        w.second_server = true;
        begin(false);
        run();
        assert_int_equal(result()->nat,
                         m == NONE ? MVPN_STUN_NAT_PORT_RESTRICTED : MVPN_STUN_NAT_SYMMETRIC);
        assert_int_equal(result()->filtering, MVPN_STUN_FILTERING_UNKNOWN);
        end();
    }
    /* A server that is not there does not matter if another is. */
    reset((struct nat){.mapping = NONE, .filtering = NONE, .ports = MVPN_STUN_PORTS_RANDOM}, 1);
    w.config.servers[w.config.server_count++] = PICK("14.0.0.1:3478", "[2a14::1]:3478");
    begin(true);
    run();
    assert_int_equal(result()->nat, MVPN_STUN_NAT_FULL_CONE);
    end();
}

/* An alternate address that is down is no filter. */
static void test_dead_alternate(void **state)
{
    (void)state;
    reset((struct nat){.mapping = NONE, .filtering = NONE, .ports = MVPN_STUN_PORTS_RANDOM}, 1);
    w.dead_alternate = true;
    begin(true);
    run();
    assert_int_equal(result()->filtering, MVPN_STUN_FILTERING_UNKNOWN);
    assert_int_equal(result()->mapping, MVPN_STUN_MAPPING_UNKNOWN);
    assert_int_equal(result()->nat, MVPN_STUN_NAT_UNKNOWN);
    end();
}

static void test_blocked(void **state)
{
    (void)state;
    reset((struct nat){.mapping = NONE, .filtering = NONE}, 1);
    w.blocked = true;
    begin(true);
    mvpn_time from = w.now;
    run();
    assert_int_equal(result()->nat, MVPN_STUN_NAT_UDP_BLOCKED);
    assert_false(result()->has_address);
    assert_int_equal(w.now - from, MVPN_MS(900));
    assert_int_equal(w.sent, 2 * MVPN_STUN_QUICK_RC);
    end();
}

static void test_address_only(void **state)
{
    (void)state;
    reset((struct nat){.mapping = PORT, .filtering = PORT, .ports = MVPN_STUN_PORTS_RANDOM}, 1);
    w.config.address_only = true;
    begin(true);
    run();
    assert_true(result()->has_address);
    assert_int_equal(w.sent, 2);
    end();
}

/* RFC 8489 §6.2.1: "0 ms, 500 ms, 1500 ms, 3500 ms, 7500 ms, 15500 ms, and 31500 ms", failed after
 * 39500 ms. */
static void test_retransmission(void **state)
{
    (void)state;
    static const unsigned times_ms[] = {0, 500, 1500, 3500, 7500, 15500, 31500};
    uint8_t first[MVPN_STUN_REQUEST_LEN] = {0};
    reset((struct nat){.mapping = NONE, .filtering = NONE}, 1);
    w.config.rto = MVPN_STUN_RTO;
    w.config.rc = MVPN_STUN_RC;
    w.config.rm = MVPN_STUN_RM;
    assert_int_equal(mvpn_stun_client_new(&w.client, &w.config, &w.client_rng, 0), 0);
    for (size_t i = 0; i < MVPN_ARRAY_LEN(times_ms); i++) {
        mvpn_stun_datagram d;
        if (i > 0) {
            assert_int_equal(mvpn_stun_client_deadline(w.client), MVPN_MS(times_ms[i]));
            mvpn_stun_client_tick(w.client, MVPN_MS(times_ms[i]) - 1);
            assert_false(mvpn_stun_client_pull(w.client, &d));
            mvpn_stun_client_tick(w.client, MVPN_MS(times_ms[i]));
        }
        assert_true(mvpn_stun_client_pull(w.client, &d));
        /* A retransmission is the same request. */
        assert_true(i == 0 || memcmp(first, d.bytes, sizeof(first)) == 0);
        memcpy(first, d.bytes, sizeof(first));
        assert_true(mvpn_stun_client_pull(w.client, &d));
        assert_false(mvpn_stun_client_pull(w.client, &d));
    }
    assert_int_equal(mvpn_stun_client_deadline(w.client), MVPN_MS(39500));
    mvpn_stun_client_tick(w.client, MVPN_MS(39500));
    assert_true(mvpn_stun_client_is_done(w.client));
    end();
}

/* ---- liars ---- */

static mvpn_stun_datagram asked[MVPN_STUN_CLIENT_SOCKETS];

static const char *own_address; /* NULL: INSIDE */

/* A client whose two first requests are in `asked`; nothing else is there. */
static void begin_alone(void)
{
    reset((struct nat){.mapping = NONE, .filtering = NONE}, 3);
    w.config.rc = 7;
    if (own_address != NULL) {
        w.config.local[0] = w.config.local[1] = addr(own_address);
    }
    assert_int_equal(mvpn_stun_client_new(&w.client, &w.config, &w.client_rng, w.now), 0);
    for (unsigned i = 0; i < MVPN_STUN_CLIENT_SOCKETS; i++) {
        assert_true(mvpn_stun_client_pull(w.client, &asked[i]));
        assert_int_equal(asked[i].socket, i);
    }
}

static uint8_t forged[256];
static mvpn_stun_writer forger;

static void forge(enum mvpn_stun_class class, const mvpn_stun_datagram *to)
{
    mvpn_stun_begin(&forger, forged, sizeof(forged), class, MVPN_STUN_BINDING, to->bytes + 8);
}

static void put(enum mvpn_stun_attribute type, const char *text)
{
    mvpn_addr a = addr(text);
    mvpn_stun_put_address(&forger, type, &a);
}

static int deliver(unsigned socket, const char *from)
{
    mvpn_addr a = addr(from);
    return mvpn_stun_client_recv(w.client, socket, &a,
                                 mvpn_bytes_of(forged, mvpn_stun_end(&forger)), w.now);
}

static void test_forged(void **state)
{
    (void)state;
    begin_alone();
    /* From elsewhere, to the other socket, another transaction, another family, an unknown
     * attribute, no address, a request, an indication, not STUN. */
    forge(MVPN_STUN_SUCCESS, &asked[0]);
    put(MVPN_STUN_XOR_MAPPED_ADDRESS, "66.6.6.6:666");
    assert_int_equal(deliver(0, "11.0.0.1:3479"), MVPN_E_STATE);
    assert_int_equal(deliver(0, "11.0.0.2:3478"), MVPN_E_STATE);
    assert_int_equal(deliver(0, "[2a10::1]:3478"), MVPN_E_STATE);
    assert_int_equal(deliver(1, "11.0.0.1:3478"), MVPN_E_STATE);
    forged[19] ^= 1;
    assert_int_equal(deliver(0, "11.0.0.1:3478"), MVPN_E_STATE);
    forge(MVPN_STUN_SUCCESS, &asked[0]);
    put(MVPN_STUN_XOR_MAPPED_ADDRESS, "[2a66::6]:666");
    assert_int_equal(deliver(0, "11.0.0.1:3478"), MVPN_E_FORMAT);
    forge(MVPN_STUN_SUCCESS, &asked[0]);
    put(MVPN_STUN_XOR_MAPPED_ADDRESS, "66.6.6.6:0");
    assert_int_equal(deliver(0, "11.0.0.1:3478"), MVPN_E_FORMAT);
    forge(MVPN_STUN_SUCCESS, &asked[0]);
    put(MVPN_STUN_XOR_MAPPED_ADDRESS, "66.6.6.6:666");
    mvpn_stun_put_bytes(&forger, 0x7fff, MVPN_BYTES_NONE);
    assert_int_equal(deliver(0, "11.0.0.1:3478"), MVPN_E_FORMAT);
    forge(MVPN_STUN_SUCCESS, &asked[0]);
    put(MVPN_STUN_MAPPED_ADDRESS, "66.6.6.6:666"); /* RFC 3489's, which NATs rewrite */
    assert_int_equal(deliver(0, "11.0.0.1:3478"), MVPN_E_FORMAT);
    forge(MVPN_STUN_REQUEST, &asked[0]); /* our own packet comes back: no hairpin test is on */
    assert_int_equal(deliver(1, "11.0.0.1:3478"), MVPN_E_STATE);
    forge(MVPN_STUN_INDICATION, &asked[0]);
    assert_int_equal(deliver(0, "11.0.0.1:3478"), MVPN_E_STATE);
    memset(forged, 0xff, 20);
    assert_int_equal(deliver(0, "11.0.0.1:3478"), MVPN_E_FORMAT);
    assert_int_equal(result()->forged, 12);
    assert_false(result()->has_address);
    assert_false(mvpn_stun_client_is_done(w.client));

    /* The true answer still counts, once. */
    forge(MVPN_STUN_SUCCESS, &asked[0]);
    put(MVPN_STUN_XOR_MAPPED_ADDRESS, "13.0.0.7:40000");
    assert_int_equal(deliver(0, "11.0.0.1:3478"), 0);
    forge(MVPN_STUN_SUCCESS, &asked[0]);
    put(MVPN_STUN_XOR_MAPPED_ADDRESS, "66.6.6.6:666");
    assert_int_equal(deliver(0, "11.0.0.1:3478"), MVPN_E_STATE);
    forge(MVPN_STUN_SUCCESS, &asked[1]);
    put(MVPN_STUN_XOR_MAPPED_ADDRESS, "13.0.0.7:40001");
    put(MVPN_STUN_MAPPED_ADDRESS, "13.0.0.7:40002");
    assert_int_equal(deliver(1, "11.0.0.1:3478"), 0);
    assert_int_equal(result()->mapped[0].port, 40000);
    assert_int_equal(result()->mapped[1].port, 40001);
    assert_true(result()->has_alg);
    assert_int_equal(result()->forged, 12); /* a late copy is no forgery */
    end();
}

/* Whatever the server names as its alternate: what is sent there. */
static unsigned packets_to_other(const char *other)
{
    unsigned count = 0;
    mvpn_stun_datagram d;
    begin_alone();
    for (unsigned i = 0; i < MVPN_STUN_CLIENT_SOCKETS; i++) {
        forge(MVPN_STUN_SUCCESS, &asked[i]);
        put(MVPN_STUN_XOR_MAPPED_ADDRESS, "13.0.0.7:40000");
        put(MVPN_STUN_OTHER_ADDRESS, other);
        assert_int_equal(deliver(i, "11.0.0.1:3478"), 0);
    }
    mvpn_addr named = addr(other), a1p2 = with_port(A1P1, named.port);
    while (!mvpn_stun_client_is_done(w.client)) {
        while (mvpn_stun_client_pull(w.client, &d)) {
            count += mvpn_addr_ip_eq(&d.to, &named);
            if (mvpn_addr_eq(&d.to, &a1p2)) {
                char text[MVPN_ADDR_STRLEN];
                forge(MVPN_STUN_SUCCESS, &d);
                put(MVPN_STUN_XOR_MAPPED_ADDRESS, "13.0.0.7:40000");
                MVPN_IGNORE(deliver(d.socket, mvpn_addr_format(&a1p2, text))); /* or a copy */
            }
        }
        mvpn_time next = mvpn_stun_client_deadline(w.client);
        w.now = next != MVPN_TIME_NEVER ? next : w.now;
        mvpn_stun_client_tick(w.client, w.now);
    }
    end();
    return count;
}

static void test_named_alternate(void **state)
{
    (void)state;
    /* Our own address, if that is a public one behind a NAT. */
    own_address = "14.0.0.9:5000";
    assert_int_equal(packets_to_other("14.0.0.9:53"), 0);
    own_address = NULL;
    static const char *const refused[] = {
        "192.168.1.1:53", "10.0.0.1:3479",
        "127.0.0.1:3479", "11.0.0.1:3479", /* the server */
        "11.0.0.9:3478",  /* its own port */ "11.0.0.9:0",
        "[2a10::9]:3479", "13.0.0.7:99", /* the client, as it is seen */
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(refused); i++) {
        mvpn_addr own = A1P1, a = addr(refused[i]);
        unsigned n = packets_to_other(refused[i]);
        /* (The client's own address gets what the hairpin test sends, and the server its own.) */
        assert_true(mvpn_addr_ip_eq(&a, &own) || a.port == 99 ? n <= 14 : n == 0);
    }
    /* A stranger that does not answer gets one request and its repetitions. */
    assert_int_equal(packets_to_other("66.6.6.6:53"), 7);
}

/* A server that refuses. */
static void test_refused(void **state)
{
    (void)state;
    begin_alone();
    for (unsigned i = 0; i < MVPN_STUN_CLIENT_SOCKETS; i++) {
        forge(MVPN_STUN_ERROR, &asked[i]);
        mvpn_stun_put_error(&forger, 500);
        assert_int_equal(deliver(i, "11.0.0.1:3479"), MVPN_E_STATE);
        assert_int_equal(deliver(i, "11.0.0.1:3478"), 0);
    }
    assert_true(mvpn_stun_client_is_done(w.client));
    assert_int_equal(result()->nat, MVPN_STUN_NAT_UNKNOWN);
    end();
}

/* RFC 8489 §6.2.1 (Karn): an answer after a retransmission may belong to either. */
static void test_rtt(void **state)
{
    (void)state;
    begin_alone();
    w.now += MVPN_STUN_QUICK_RTO;
    mvpn_stun_client_tick(w.client, w.now);
    w.now += MVPN_MS(10);
    for (unsigned i = 0; i < MVPN_STUN_CLIENT_SOCKETS; i++) {
        forge(MVPN_STUN_SUCCESS, &asked[i]);
        put(MVPN_STUN_XOR_MAPPED_ADDRESS, "13.0.0.7:40000");
        assert_int_equal(deliver(i, "11.0.0.1:3478"), 0);
    }
    assert_int_equal(result()->rtt, 0);
    end();
}

/* The packet of one socket to the other one's mapped address, and nothing else. */
static void test_hairpin_packets(void **state)
{
    (void)state;
    mvpn_stun_datagram d[2];
    begin_alone();
    for (unsigned i = 0; i < MVPN_STUN_CLIENT_SOCKETS; i++) {
        forge(MVPN_STUN_SUCCESS, &asked[i]);
        put(MVPN_STUN_XOR_MAPPED_ADDRESS, i == 0 ? "13.0.0.7:40000" : "13.0.0.7:40001");
        assert_int_equal(deliver(i, "11.0.0.1:3478"), 0);
    }
    for (unsigned i = 0; i < 2; i++) {
        assert_true(mvpn_stun_client_pull(w.client, &d[i]));
        assert_int_equal(d[i].socket, i);
        assert_int_equal(d[i].to.port, 40001 - i);
    }
    forge(MVPN_STUN_REQUEST, &d[0]);
    assert_int_equal(deliver(0, "13.0.0.7:40000"), MVPN_E_STATE); /* mirrored to its sender */
    forge(MVPN_STUN_SUCCESS, &d[0]);
    put(MVPN_STUN_XOR_MAPPED_ADDRESS, "13.0.0.7:40000");
    assert_int_equal(deliver(0, "13.0.0.7:40001"), MVPN_E_STATE);
    assert_false(mvpn_stun_client_is_done(w.client));
    forge(MVPN_STUN_REQUEST, &d[0]);
    assert_int_equal(deliver(1, "13.0.0.7:40000"), 0);
    assert_true(mvpn_stun_client_is_done(w.client));
    assert_int_equal(result()->hairpin, MVPN_STUN_HAIRPIN_YES);
    end();
}

/* Servers that do not agree on our address: nothing goes to it. */
static void test_hairpin_needs_agreement(void **state)
{
    (void)state;
    mvpn_stun_datagram d, first[4];
    reset((struct nat){.mapping = NONE, .filtering = NONE}, 3);
    w.config.servers[w.config.server_count++] = B1P1;
    assert_int_equal(mvpn_stun_client_new(&w.client, &w.config, &w.client_rng, w.now), 0);
    for (unsigned i = 0; i < 4; i++) {
        assert_true(mvpn_stun_client_pull(w.client, &first[i]));
    }
    for (unsigned i = 0; i < 4; i++) {
        forge(MVPN_STUN_SUCCESS, &first[i]);
        put(MVPN_STUN_XOR_MAPPED_ADDRESS, i < 2 ? "66.6.6.6:40000" : "13.0.0.7:40000");
        assert_int_equal(deliver(first[i].socket, i < 2 ? "11.0.0.1:3478" : "12.0.0.1:3478"), 0);
    }
    assert_true(mvpn_stun_client_is_done(w.client));
    assert_false(mvpn_stun_client_pull(w.client, &d));
    assert_int_equal(result()->hairpin, MVPN_STUN_HAIRPIN_UNKNOWN);
    end();
}

static void test_config(void **state)
{
    (void)state;
    reset((struct nat){.is_none = true}, 1);
    const mvpn_stun_client_config good = w.config;
    for (unsigned i = 0; i < 7; i++) {
        mvpn_stun_client_config bad = good;
        bad.server_count = i == 0 ? 0 : i == 1 ? MVPN_STUN_SERVERS_MAX + 1 : 1;
        bad.rto = i == 2 ? 0 : good.rto;
        bad.rc = i == 3 ? 0 : i == 4 ? 17 : good.rc;
        bad.rm = i == 5 ? 0 : good.rm;
        bad.servers[0].port = i == 6 ? 0 : good.servers[0].port;
        assert_int_equal(mvpn_stun_client_new(&w.client, &bad, &w.client_rng, 0), MVPN_E_INVAL);
    }
    mvpn_stun_client_config mixed = good;
    mixed.servers[mixed.server_count++] = addr("[2a10::1]:3478");
    assert_int_equal(mvpn_stun_client_new(&w.client, &mixed, &w.client_rng, 0), MVPN_E_INVAL);
    assert_string_equal(mvpn_stun_nat_name(MVPN_STUN_NAT_PORT_RESTRICTED), "port-restricted");
    assert_string_equal(mvpn_stun_nat_name((enum mvpn_stun_nat)99), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_nat),       cmocka_unit_test(test_loss),
        cmocka_unit_test(test_one_address),     cmocka_unit_test(test_dead_alternate),
        cmocka_unit_test(test_blocked),         cmocka_unit_test(test_address_only),
        cmocka_unit_test(test_retransmission),  cmocka_unit_test(test_forged),
        cmocka_unit_test(test_named_alternate), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_config),          cmocka_unit_test(test_rtt),
        cmocka_unit_test(test_hairpin_packets), cmocka_unit_test(test_hairpin_needs_agreement),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
