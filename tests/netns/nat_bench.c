/*
 * What a NAT relay costs, for nat_bench.sh: the real meshvpn-relay forwards between a client and a
 * relay at home, both played here as far as it can tell: their links with it are real, what it
 * forwards is bare datagrams to the ids that it assigned.
 *
 *   nat_bench NETWORK_FILE RELAY PID HOME_KEYS CALLER_NS CALLER_IP HOME_NS HOME_IP
 *
 * RELAY: its name in the network file; PID: its process, whose time is counted. Time added: a round
 * trip by the NAT relay, less one without it, by the same sockets in turn. Packets a second and
 * core: those forwarded by the processor time that they took, at a rate below the limits of §14.2.
 */
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "io/clock.h"
#include "io/keyfile.h"
#include "io/network_file.h"
#include "io/random.h"
#include "io/sockaddr.h"
#include "io/udp.h"
#include "network/p2p/link.h"
#include "wire/natmsg.h"

#define LEN 1424 /* a full datagram of a link */
#define RUNS 9
#define TRIPS 100 /* of each kind in a run */
#define CALLERS 3
#define SESSIONS 20 /* of each: what a link may open at once */
#define POOL 4096
#define BURSTS_S 1000
#define RATE 80000u /* packets a second: 114 of the 125 MB/s */
#define LOAD_S 1
#define PATIENCE MVPN_S(5)
#define LOST MVPN_MS(200)
/* Ends a datagram that is no packet of a link. */
#define MARK UINT64_C(0x8d4f20b36e915ac7)

struct end {
    mvpn_links *links;
    mvpn_udp *udp;
    mvpn_packet_pool pool;
    mvpn_addr addr;
    mvpn_node_keys keys;
    mvpn_link *link;
    mvpn_nat_registered registered;
    mvpn_nat_ids sessions[SESSIONS];
    unsigned session_count;
    uint64_t marked; /* datagrams of the bench that came */
};

static mvpn_network_file network;
static mvpn_aead *aead;
static mvpn_rng rng;
static struct end caller[CALLERS], home;
static mvpn_addr relay_addr;

static void need(bool ok, const char *what)
{
    if (!ok) {
        (void)fprintf(stderr, "nat_bench: %s\n", what);
        exit(1);
    }
}

/* ---- the two ends ---- */

static void end_start(struct end *e, const char *ns, const char *ip)
{
    mvpn_fault fault = {.text = ""};
    mvpn_addr bind_to;
    int fd = open(ns, O_RDONLY | O_CLOEXEC);
    need(fd >= 0 && setns(fd, CLONE_NEWNET) == 0, "cannot enter a namespace");
    (void)close(fd);
    need(mvpn_addr_parse(ip, &bind_to) == 0, "not an address");
    need(mvpn_udp_open(&e->udp, &bind_to, 1, NULL, &fault) == 0, fault.text);
    e->addr = mvpn_udp_local(e->udp, MVPN_UDP_V4);
    need(mvpn_packet_pool_init(&e->pool, POOL) == 0, "no memory");
    mvpn_links_config c = {
        .aead = aead,
        .rng = &rng,
        .pool = &e->pool,
        .network_id = network.network_id,
        .closed = network.is_closed,
        .network_secret = network.network_secret,
        .network_pub = network.network_pub,
        .unix_offset_us = (int64_t)(mvpn_clock_unix() * MVPN_US_PER_S) - (int64_t)mvpn_clock_now(),
        .is_relay = e == &home,
    };
    if (c.is_relay) {
        c.identity = e->keys.identity;
        c.link_key = e->keys.link;
        c.link_certificate = MVPN_BYTES_ARRAY(e->keys.link_certificate);
        c.membership_certificate = MVPN_BYTES_ARRAY(e->keys.membership);
    }
    need(mvpn_links_new(&c, mvpn_clock_now(), &e->links) == 0, "no memory");
}

static void end_done(struct end *e)
{
    mvpn_links_close_all(e->links, mvpn_clock_now());
    MVPN_IGNORE(mvpn_udp_send(e->udp, mvpn_links_out(e->links), &e->pool));
    mvpn_links_free(e->links);
    mvpn_udp_free(e->udp);
    mvpn_packet_pool_done(&e->pool);
}

static void on_message(struct end *e, unsigned command, mvpn_bytes body)
{
    mvpn_nat_opened opened;
    if (command == MVPN_CMD_NAT_REGISTERED) {
        need(mvpn_nat_registered_decode(&e->registered, body) == 0, "NatRegistered");
        need(e->registered.status == 0, "not registered");
    } else if (command == MVPN_CMD_NAT_OPENED) {
        need(mvpn_nat_opened_decode(&opened, body) == 0, "NatOpened");
        need(opened.status == 0 && e->session_count < SESSIONS, "no session");
        e->sessions[e->session_count++] = opened.ids;
    }
}

static bool is_marked(const mvpn_packet *p)
{
    return p->len > 16 && mvpn_load64(p->data + p->len - 8) == MARK;
}

static void end_turn(struct end *e)
{
    mvpn_packet_queue in;
    mvpn_packet *p;
    mvpn_link *link;
    mvpn_header header;
    mvpn_link_event event;
    mvpn_time now = mvpn_clock_now();
    mvpn_packet_queue_init(&in);
    need(mvpn_udp_recv(e->udp, MVPN_UDP_V4, &e->pool, &in, 1024) >= 0, "a socket broke");
    while ((p = mvpn_packet_queue_pop(&in)) != NULL) {
        if (is_marked(p)) {
            e->marked++;
            mvpn_packet_free(&e->pool, p);
        } else if (mvpn_links_recv(e->links, p, now, &link, &header) == 1) {
            on_message(e, header.command, mvpn_bytes_of(p->data, p->len));
            mvpn_packet_free(&e->pool, p);
        }
    }
    mvpn_links_tick(e->links, now);
    while (mvpn_links_pull_event(e->links, &event)) {
        need(event.type != MVPN_LINK_CLOSED, "a link has closed");
    }
    MVPN_IGNORE(mvpn_udp_send(e->udp, mvpn_links_out(e->links), &e->pool));
}

static void say(struct end *e, unsigned command, const uint8_t *body, size_t n)
{
    mvpn_packet *p = mvpn_packet_new(&e->pool);
    const mvpn_header header = {.command = (uint16_t)command, .length = (uint16_t)n};
    memcpy(mvpn_packet_append(p, (uint32_t)n), body, n);
    need(mvpn_link_send(e->link, p, &header, true, mvpn_clock_now()) == 0, "cannot send");
}

static void all_turn(void)
{
    end_turn(&home);
    for (unsigned i = 0; i < CALLERS; i++) {
        end_turn(&caller[i]);
    }
}

/* Register the one at home, and open the sessions of all callers. */
static void join(const mvpn_descriptor *d)
{
    const mvpn_link_target target = {
        .identity = d->identity, .link_key = d->link_key, .addr = relay_addr};
    uint8_t body[MVPN_NAT_OPEN_LEN];
    mvpn_time until = mvpn_clock_now() + PATIENCE;
    need(mvpn_links_open(home.links, &target, mvpn_clock_now(), &home.link) == 0, "no link");
    mvpn_link_hold(home.link);
    mvpn_nat_register_encode(body, 3600);
    say(&home, MVPN_CMD_NAT_REGISTER, body, MVPN_NAT_REGISTER_LEN);
    while (home.registered.lifetime_s == 0) {
        all_turn();
        need(mvpn_clock_now() < until, "the NAT relay does not answer");
    }
    for (unsigned i = 0; i < CALLERS; i++) {
        struct end *e = &caller[i];
        need(mvpn_links_open(e->links, &target, mvpn_clock_now(), &e->link) == 0, "no link");
        mvpn_link_hold(e->link);
        for (uint32_t k = 1; k <= SESSIONS; k++) {
            mvpn_nat_open_encode(body, &(mvpn_nat_open){k, home.registered.rendezvous, 2});
            say(e, MVPN_CMD_NAT_OPEN, body, MVPN_NAT_OPEN_LEN);
        }
        while (e->session_count < SESSIONS) {
            all_turn();
            need(mvpn_clock_now() < until, "the NAT relay opens no session");
        }
    }
}

/* ---- what is measured ---- */

static void put(struct end *e, mvpn_packet_queue *queue, const mvpn_addr *to,
                const mvpn_connection_id *id, size_t len)
{
    mvpn_packet *p = mvpn_packet_new(&e->pool);
    need(p != NULL, "no packet is free");
    uint8_t *b = mvpn_packet_append(p, (uint32_t)len);
    memset(b, 0x5a, len);
    b[0] = 0x45;
    memcpy(b + 1, id->b, sizeof(id->b));
    mvpn_store64(b + len - 8, MARK);
    p->remote = *to;
    mvpn_packet_queue_push(queue, p);
}

/* False: it was lost. */
static bool pass(struct end *from, struct end *to, const mvpn_addr *via,
                 const mvpn_connection_id *id)
{
    mvpn_packet_queue queue;
    uint64_t before = to->marked;
    mvpn_time until = mvpn_clock_now() + LOST;
    struct pollfd fd = {.fd = mvpn_udp_fd(to->udp, MVPN_UDP_V4), .events = POLLIN};
    mvpn_packet_queue_init(&queue);
    put(from, &queue, via, id, LEN);
    MVPN_IGNORE(mvpn_udp_send(from->udp, &queue, &from->pool));
    while (to->marked == before && mvpn_clock_now() < until) {
        (void)poll(&fd, 1, 10);
        end_turn(to);
    }
    return to->marked != before;
}

static double now_us(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static double trip_us(bool is_relayed)
{
    const mvpn_nat_ids *s = &caller[0].sessions[0];
    double from = now_us();
    bool ok = pass(&caller[0], &home, is_relayed ? &relay_addr : &home.addr, &s->peer[0]) &&
              pass(&home, &caller[0], is_relayed ? &relay_addr : &caller[0].addr, &s->own[0]);
    return ok ? now_us() - from : 1e9;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, size_t n)
{
    qsort(v, n, sizeof(*v), compare);
    return v[n / 2];
}

static void trips(double *ret_direct, double *ret_relayed)
{
    double direct[TRIPS], relayed[TRIPS];
    for (unsigned i = 0; i < TRIPS; i++) {
        direct[i] = trip_us(false);
        relayed[i] = trip_us(true);
    }
    all_turn();
    *ret_direct = median(direct, TRIPS);
    *ret_relayed = median(relayed, TRIPS);
}

static double cpu_s(pid_t pid)
{
    clockid_t clock;
    struct timespec t;
    need(clock_getcpuclockid(pid, &clock) == 0 && clock_gettime(clock, &t) == 0,
         "the relay's process has gone");
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Each datagram by itself, as many senders together, or a network card without offloads, give them.
 */
static void send_alone(struct end *e, mvpn_packet_queue *queue)
{
    struct sockaddr_storage name;
    mvpn_packet *p;
    while ((p = mvpn_packet_queue_pop(queue)) != NULL) {
        socklen_t n = mvpn_sockaddr_from_addr(&p->remote, &name);
        while (sendto(mvpn_udp_fd(e->udp, MVPN_UDP_V4), p->data, p->len, 0,
                      (const struct sockaddr *)&name, n) < 0) {
        }
        mvpn_packet_free(&e->pool, p);
    }
}

/* Packets a second and core, `len` bytes each; and how many of a thousand were lost. */
static double load(pid_t pid, size_t len, bool is_alone, double *ret_lost)
{
    const unsigned burst = RATE / BURSTS_S;
    const mvpn_time step = MVPN_S(1) / BURSTS_S;
    mvpn_packet_queue queue;
    mvpn_packet_queue_init(&queue);
    uint64_t before = home.marked, sent = 0;
    double cpu = cpu_s(pid);
    mvpn_time at = mvpn_clock_now(), end = at + MVPN_S(LOAD_S);
    for (unsigned turn = 0; at < end; turn++, at += step) {
        struct end *e = &caller[turn % CALLERS];
        for (unsigned i = 0; i < burst; i++) {
            put(e, &queue, &relay_addr, &e->sessions[(turn / CALLERS + i) % SESSIONS].peer[0], len);
        }
        if (is_alone) {
            send_alone(e, &queue);
        }
        while (mvpn_udp_send(e->udp, &queue, &e->pool) == MVPN_E_AGAIN) {
        }
        sent += burst;
        do {
            end_turn(&home);
        } while (mvpn_clock_now() < at + step);
    }
    for (end = mvpn_clock_now() + MVPN_MS(50); mvpn_clock_now() < end;) {
        all_turn();
    }
    cpu = cpu_s(pid) - cpu;
    uint64_t came = home.marked - before;
    *ret_lost = 1000.0 * (double)(sent - came) / (double)sent;
    return (double)came / cpu;
}

static void report(double (*v)[RUNS], bool is_json)
{
    double direct = median(v[0], RUNS), relayed = median(v[1], RUNS), added = median(v[2], RUNS);
    double joined = median(v[3], RUNS), single = median(v[4], RUNS), small = median(v[5], RUNS);
    double lost = median(v[6], RUNS);
    const double gbit = LEN * 8 / 1e9;
    if (is_json) {
        (void)printf(
            "{\"bench\": \"nat_relay\", \"runs\": %d, \"added_ms\": %.3f, \"direct_rtt_ms\": %.3f, "
            "\"relayed_rtt_ms\": %.3f, \"packets_per_core_s\": %.0f, \"gbit_per_core_s\": %.2f, "
            "\"packets_alone_per_core_s\": %.0f, \"gbit_alone_per_core_s\": %.2f, "
            "\"small_packets_per_core_s\": %.0f, \"lost_permille\": %.2f}\n",
            RUNS, added / 2e3, direct / 1e3, relayed / 1e3, joined, joined * gbit, single,
            single * gbit, small, lost);
        return;
    }
    (void)printf("NAT relay, %d-byte datagrams, medians of %d runs\n", LEN, RUNS);
    (void)printf("  time added, one way       %8.3f ms   (round trips: %.3f, without %.3f)\n",
                 added / 2e3, relayed / 1e3, direct / 1e3);
    (void)printf("  forwarded, a core         %8.0f packets/s, %.2f Gbit/s\n", joined,
                 joined * gbit);
    (void)printf("  ... that come one by one  %8.0f packets/s, %.2f Gbit/s\n", single,
                 single * gbit);
    (void)printf("  ... of 100 bytes          %8.0f packets/s\n", small);
    (void)printf("  lost                      %8.2f of 1,000\n", lost);
}

int main(int argc, char **argv)
{
    static double v[7][RUNS];
    mvpn_fault fault = {.text = ""};
    bool is_json = argc > 9 && strcmp(argv[9], "--json") == 0;
    need(argc >= 9, "usage: nat_bench NETWORK_FILE RELAY PID HOME_KEYS CALLER_NS CALLER_IP HOME_NS "
                    "HOME_IP [--json]");
    pid_t pid = (pid_t)strtol(argv[3], NULL, 10);
    need(mvpn_network_file_load(argv[1], 0, &network, &fault) == 0, fault.text);
    const mvpn_descriptor *d = mvpn_network_file_find(&network, argv[2]);
    need(d != NULL && mvpn_descriptor_find_address(d, 4) != NULL, "no such relay");
    relay_addr = *mvpn_descriptor_find_address(d, 4);
    need(mvpn_node_keys_load(argv[4], &network.network_id, mvpn_network_file_closed_pub(&network),
                             0, &home.keys, &fault) == 0,
         fault.text);
    need(mvpn_aead_new(MVPN_AEAD_AUTO, &aead) == 0, "no AEAD");
    need(mvpn_random_seed(&rng) == 0, "no random numbers");
    end_start(&home, argv[7], argv[8]);
    for (unsigned i = 0; i < CALLERS; i++) {
        end_start(&caller[i], argv[5], argv[6]);
    }
    join(d);
    for (unsigned run = 0; run < RUNS; run++) {
        double lost[3];
        trips(&v[0][run], &v[1][run]);
        v[2][run] = v[1][run] - v[0][run];
        v[3][run] = load(pid, LEN, false, &lost[0]);
        v[4][run] = load(pid, LEN, true, &lost[1]);
        v[5][run] = load(pid, 100, true, &lost[2]);
        v[6][run] = lost[0] + lost[1] + lost[2];
    }
    report(v, is_json);
    for (unsigned i = 0; i < CALLERS; i++) {
        end_done(&caller[i]);
    }
    end_done(&home);
    mvpn_aead_free(aead);
    mvpn_rng_done(&rng);
    mvpn_node_keys_done(&home.keys);
    mvpn_network_file_done(&network);
    return 0;
}
