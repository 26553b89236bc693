/*
 * Writes the seeds of the fuzz corpus: make_corpus DIRECTORY. Real messages, packets and short
 * scripts; the fuzzers find the rest. Deterministic.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "core/testlab.h"
#include "core/testrecords.h"
#include "core/view.h"
#include "crypto/x25519.h"
#include "fuzz/fuzz.h"
#include "io/network_file.h"
#include "io/source_dns.h"
#include "io/statefile.h"
#include "network/ip/inner.h"
#include "network/ip/testing.h"
#include "network/tun/offload.h"
#include "wire/bundle.h"
#include "wire/handshake.h"
#include "wire/invitation.h"
#include "wire/lan.h"
#include "wire/linkmsg.h"

#define TIME_FROM 1000000u
#define TIME_TO 2000000u

static const char *root;

static void path_of(char out[static 512], const char *target, const char *name)
{
    (void)snprintf(out, 512, "%s/%s", root, target);
    (void)mkdir(out, 0755); /* there already, mostly */
    (void)snprintf(out, 512, "%s/%s/%s", root, target, name);
}

static void seed(const char *target, const char *name, const void *bytes, size_t n)
{
    char path[512];
    path_of(path, target, name);
    FILE *f = fopen(path, "wb");
    if (f == NULL || fwrite(bytes, 1, n, f) != n || fclose(f) != 0) {
        perror(path);
        exit(1);
    }
}

static void seed_text(const char *target, const char *name, const char *text)
{
    seed(target, name, text, strlen(text));
}

/* [which] [bytes] */
static void seed_of(const char *target, const char *name, uint8_t which, const void *bytes,
                    size_t n)
{
    uint8_t buf[4096];
    buf[0] = which;
    memcpy(buf + 1, bytes, n);
    seed(target, name, buf, n + 1);
}

/* A script that grows. */
struct script {
    uint8_t bytes[8192];
    mvpn_writer w;
};

static void script_start(struct script *s)
{
    s->w = mvpn_writer_init(s->bytes, sizeof(s->bytes));
}

static void script_chunk(struct script *s, const void *bytes, size_t n)
{
    mvpn_write16(&s->w, (uint16_t)n);
    mvpn_write_bytes(&s->w, bytes, n);
}

static void script_end(struct script *s, const char *target, const char *name)
{
    MVPN_ASSERT(!s->w.failed);
    seed(target, name, s->bytes, mvpn_writer_len(&s->w));
}

static void addresses(void)
{
    seed_text("addr", "v4", "192.0.2.1:443");
    seed_text("addr", "v4-no-port", "11.1.2.3");
    seed_text("addr", "v6", "[2a10:0:0:5::9]:65535");
    seed_text("addr", "mapped", "::ffff:127.0.0.1");
    seed_text("addr", "wrong", "[fe80::1%eth0]:99999");
}

static void certificates(void)
{
    const uint8_t key[32] = {5};
    const mvpn_key link_key = {{3}};
    uint8_t cert[MVPN_LINK_CERTIFICATE_LEN], member[MVPN_MEMBERSHIP_LEN];
    mvpn_ed25519_pub pub;
    mvpn_ed25519_secret secret;
    mvpn_key network_id;
    mvpn_ed25519_from_seed(&pub, &secret, key);
    mvpn_network_id(&network_id, &pub);
    mvpn_link_certificate_make(cert, &secret, &pub, &link_key, 1, 2, &network_id);
    mvpn_membership_make(member, &secret, &pub, 7, 1, 2, 3, &network_id);
    seed_of("certificate", "link", 0, cert, sizeof(cert));
    seed_of("certificate", "link-signed", 2, cert, sizeof(cert));
    seed_of("certificate", "membership", 1, member, sizeof(member));
    seed_of("certificate", "membership-signed", 3, member, sizeof(member));
}

static void circuit_messages(void)
{
    uint8_t b[512];
    const uint8_t blob[60] = {1, 2, 3};
    const mvpn_part part = {60, 0, {blob, 60}}, half = {60, 30, {blob, 30}};
    mvpn_create create = {{{9}}, 5, 1, 1, part};
    mvpn_created created = {5, half};
    mvpn_extend extend = {5, part};
    mvpn_extend_body body = {{{7}}, 1, 1, {blob, 48}, {blob, 60}};
    mvpn_extended extended = {5, 0, part}, refused = {5, 2, {0, 0, {NULL, 0}}};
    mvpn_begin begin = {5, 1, 1, 3, {blob, 32}}, begin_new = {5, 1, 1, 0, {NULL, 0}};
    mvpn_connected connected = {5, 0, 3, {blob, 32}};
    seed_of("circuit", "create", 0, b, mvpn_create_encode(b, sizeof(b), &create));
    seed_of("circuit", "created", 1, b, mvpn_created_encode(b, sizeof(b), &created));
    seed_of("circuit", "extend", 2, b, mvpn_extend_encode(b, sizeof(b), &extend));
    seed_of("circuit", "extend-body", 3, b, mvpn_extend_body_encode(b, sizeof(b), &body));
    seed_of("circuit", "extended", 4, b, mvpn_extended_encode(b, sizeof(b), &extended));
    seed_of("circuit", "refused", 4, b, mvpn_extended_encode(b, sizeof(b), &refused));
    seed_of("circuit", "begin", 5, b, mvpn_begin_encode(b, sizeof(b), &begin));
    seed_of("circuit", "begin-new", 5, b, mvpn_begin_encode(b, sizeof(b), &begin_new));
    seed_of("circuit", "connected", 6, b, mvpn_connected_encode(b, sizeof(b), &connected));
    seed_of("circuit", "reason", 7, "\2", 1);
}

static void headers(void)
{
    uint8_t b[2 + MVPN_HEADER_LEN];
    mvpn_header h = {.circuit = {{1}}, .command = MVPN_CMD_RELAY, .length = 160, .counter = 77};
    mvpn_store16(b, 208);
    mvpn_header_encode(b + 2, &h);
    seed("header", "cell", b, sizeof(b));
    h.size_class = MVPN_CLASS_EXACT;
    mvpn_store16(b, 160);
    mvpn_header_encode(b + 2, &h);
    seed("header", "cell-exact", b, sizeof(b));
    h = (mvpn_header){.circuit = {{1}}, .command = MVPN_CMD_CREATE, .length = 90, .link_seq = 4};
    mvpn_store16(b, 90);
    mvpn_header_encode(b + 2, &h);
    seed("header", "create", b, sizeof(b));
}

static void data_bodies(void)
{
    struct script s;
    uint8_t body[300] = {0, 3, 'a', 'b', 'c', 0, 1, 'd'};
    script_start(&s);
    mvpn_write8(&s.w, 0);
    script_chunk(&s, body, 8);
    for (unsigned i = 0; i < 4; i++) { /* a packet in parts, and a contradiction */
        mvpn_store16(body, 0x8000u | 400);
        mvpn_store16(body + 2, 5);
        mvpn_store16(body + 4, (uint16_t)(i * 100));
        mvpn_write8(&s.w, 1);
        script_chunk(&s, body, 106);
    }
    mvpn_write8(&s.w, 200);
    script_chunk(&s, body, 106);
    script_end(&s, "data", "items-and-fragments");
}

static void link_messages(void)
{
    uint8_t b[MVPN_HANDSHAKE_LEN] = {0}, header[MVPN_HANDSHAKE_HEADER_LEN], cert[176] = {1};
    const uint32_t sequences[3] = {1, 2, 0xffffffff};
    mvpn_handshake_header h = {5, {{1}}, {{2}}};
    mvpn_handshake_payload p = {.time = 1800000000,
                                .max_datagram = 1472,
                                .observed = {4, 443, {11, 1, 2, 3}},
                                .id_count = 3,
                                .link_certificate = {cert, sizeof(cert)},
                                .membership_certificate = {cert, MVPN_MEMBERSHIP_LEN}};
    mvpn_handshake_header_encode(header, &h);
    for (uint8_t is_reply = 0; is_reply < 2; is_reply++) {
        int r = mvpn_handshake_payload_encode(b, 512, is_reply, header, &p);
        MVPN_ASSERT(r == 0);
        seed_of("linkmsg", is_reply ? "reply" : "first", is_reply, b, 512);
    }
    memset(b, 0, sizeof(b));
    mvpn_handshake_header_encode(b, &h);
    seed_of("linkmsg", "header", 2, b, sizeof(b));
    seed_of("linkmsg", "acks", 3, b, mvpn_link_ack_encode(b, sequences, 3));
    seed_of("linkmsg", "new-ids", 4, b, mvpn_link_new_ids_encode(b, p.ids, 3));
    mvpn_link_part_encode(b, 77, 1);
    seed_of("linkmsg", "part", 5, b, 40);
    seed_of("linkmsg", "token", 6, b, 8);
    seed_of("linkmsg", "probe", 7, b, 100);
    seed_of("linkmsg", "close", 7, b, 1);
    mvpn_link_candidates m = {.round = 1, .flags = MVPN_CANDIDATES_ASK, .id_count = 2};
    m.mapping = MVPN_NAT_DEPENDS_PORT;
    m.port_step = -2;
    m.candidate_count = 2;
    m.candidates[0] = (mvpn_candidate){MVPN_CANDIDATE_HOST, {4, 7000, {192, 168, 0, 7}}};
    m.candidates[1] = (mvpn_candidate){MVPN_CANDIDATE_REFLEXIVE, {6, 7001, {0x26, 1}}};
    seed_of("linkmsg", "candidates", 8, b, mvpn_link_candidates_encode(b, &m));
}

static void descriptors(void)
{
    lab *l = lab_new(LAB_RELAY, 1, NULL);
    mvpn_descriptor d = l->peer[1].descriptor;
    seed("descriptor", "least", d.encoded, d.encoded_len);
    d.onion_key_count = 2;
    d.onion_keys[1] = (mvpn_onion_key){9, {{4}}};
    d.address_count = 3;
    d.addresses[1] = (mvpn_descriptor_address){MVPN_CARRIER_PLAIN, {6, 443, {0x2a, 0x10}}};
    d.addresses[2] = (mvpn_descriptor_address){7, {4, 443, {11, 1, 2, 3}}};
    d.has_policy = true;
    d.policy_flags = 3;
    d.policy_range_count = 2;
    d.policy_ranges[0] = (mvpn_port_range){80, 80};
    d.policy_ranges[1] = (mvpn_port_range){443, 65535};
    memcpy(d.country, "CH", 3);
    d.has_bandwidth = true;
    d.bandwidth_kbit = 100000;
    d.family_count = 2;
    d.family[1].b[0] = 1;
    memcpy(d.provider, "Hoster", 7);
    memcpy(d.name, "relay-1", 8);
    int r = mvpn_descriptor_sign(&d, &l->peer[1].secret, &l->realm.network_id);
    MVPN_ASSERT(r == 0);
    seed("descriptor", "all-fields", d.encoded, d.encoded_len);
    d.nat_relay_count = 2;
    d.nat_relays[0] = (mvpn_descriptor_nat_relay){{{1}}, {{3}}, 6};
    d.nat_relays[1] = (mvpn_descriptor_nat_relay){{{2}}, {{4}}, 4};
    r = mvpn_descriptor_sign(&d, &l->peer[1].secret, &l->realm.network_id);
    MVPN_ASSERT(r == 0);
    seed("descriptor", "behind-nat", d.encoded, d.encoded_len);
    d.nat_relay_count = 0;
    d.stun_port_v4 = 3478;
    r = mvpn_descriptor_sign(&d, &l->peer[1].secret, &l->realm.network_id);
    MVPN_ASSERT(r == 0);
    seed("descriptor", "stun", d.encoded, d.encoded_len);
    (void)lab_free(l);
}

static void packets(void)
{
    const uint8_t far4[4] = {93, 184, 216, 34};
    uint8_t b[1500], quote[200];
    for (unsigned v = 4; v <= 6; v += 2) {
        const void *us = mvpn_inner_client(v);
        const void *gateway = mvpn_inner_gateway(v);
        const void *far = v == 4 ? (const void *)far4 : test_v6_b;
        char name[64];
        struct {
            const char *what;
            uint8_t bytes[400];
            size_t n;
        } all[5] = {
            {"udp", {0}, 0}, {"syn", {0}, 0}, {"echo", {0}, 0}, {"error", {0}, 0}, {"dns", {0}, 0}};
        all[0].n = build_udp(all[0].bytes, v, us, 4000, far, 53, 30);
        all[1].n = build_syn(all[1].bytes, v, us, 4000, far, 443, 2, 1460, 0);
        all[2].n = build_icmp(all[2].bytes, v, us, gateway, v == 4 ? 8 : 128, 0, 20);
        size_t q = build_udp(quote, v, far, 53, us, 4000, 30);
        all[3].n = build_icmp_error(all[3].bytes, v, us, far, v == 4 ? 3 : 1, 3, quote, q);
        const uint8_t query[] = {0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 'a', 0, 0, 1, 0, 1};
        all[4].n = build_udp(all[4].bytes, v, us, 4000, gateway, 53, sizeof(query));
        memcpy(all[4].bytes + all[4].n - sizeof(query), query, sizeof(query));
        slow_fix(all[4].bytes, all[4].n);
        for (size_t i = 0; i < MVPN_ARRAY_LEN(all); i++) {
            struct script s;
            (void)snprintf(name, sizeof(name), "%s-v%u", all[i].what, v);
            for (uint8_t op = 0; op < 4 && i < 4; op++) {
                char with_op[80];
                (void)snprintf(with_op, sizeof(with_op), "%s-%u", name, op);
                seed_of("ip", with_op, (uint8_t)(op << 4 | (op & 1) << 1), all[i].bytes, all[i].n);
            }
            script_start(&s);
            mvpn_write8(&s.w, i == 2 || i == 4 ? 1 : 0);
            script_chunk(&s, all[i].bytes, all[i].n);
            mvpn_write8(&s.w, 3); /* back from the TUN */
            script_chunk(&s, all[i].bytes, all[i].n);
            mvpn_write8(&s.w, 0x87); /* time */
            script_chunk(&s, NULL, 0);
            mvpn_write8(&s.w, 0xe6); /* the session anew */
            script_chunk(&s, NULL, 0);
            script_end(&s, "exit", name);

            script_start(&s); /* client: of the TUN, and in a RelayData */
            mvpn_write8(&s.w, 0);
            mvpn_write8(&s.w, 4);
            script_chunk(&s, all[i].bytes, all[i].n);
            mvpn_store16(b, (uint16_t)all[i].n);
            memcpy(b + 2, all[i].bytes, all[i].n);
            mvpn_write8(&s.w, 3);
            mvpn_write8(&s.w, 0);
            script_chunk(&s, b, all[i].n + 2);
            script_end(&s, "client", name);

            if (v == 6) { /* a session without it */
                char without[80];
                (void)snprintf(without, sizeof(without), "%s-refused", name);
                s.bytes[0] = 4;
                script_end(&s, "client", without);
            }

            script_start(&s); /* relay: Begin, then Data */
            mvpn_write8(&s.w, 0x83);
            mvpn_write8(&s.w, 0xc0);
            mvpn_write16(&s.w, 0);
            mvpn_write8(&s.w, 0x82);
            mvpn_write8(&s.w, 0);
            mvpn_write16(&s.w, MVPN_CMD_RELAY_DATA);
            script_chunk(&s, b, all[i].n + 2);
            mvpn_write8(&s.w, 0x85);
            script_chunk(&s, all[i].bytes, all[i].n);
            script_end(&s, "relay", name);
        }
    }
}

static void super_packets(void)
{
    const uint8_t a[4] = {10, 8, 0, 2}, c[4] = {11, 1, 2, 3};
    uint8_t b[1 + MVPN_VNET_HEADER + 1500];
    for (unsigned udp = 0; udp < 2; udp++) {
        uint8_t *p = b + 1 + MVPN_VNET_HEADER;
        size_t n =
            udp ? build_udp(p, 4, a, 1, c, 2, 900) : build_tcp(p, 4, a, 1, c, 2, 0x18, 7, 900);
        mvpn_vnet h = {MVPN_VNET_NEEDS_CSUM,
                       udp ? MVPN_VNET_GSO_UDP_L4 : MVPN_VNET_GSO_TCPV4,
                       udp ? 28 : 40,
                       250,
                       20,
                       udp ? 6 : 16};
        b[0] = 3;
        mvpn_vnet_encode(&h, b + 1);
        seed("offload", udp ? "udp" : "tcp", b, 1 + MVPN_VNET_HEADER + n);
        h = (mvpn_vnet){0};
        mvpn_vnet_encode(&h, b + 1);
        seed("offload", udp ? "udp-one" : "tcp-one", b, 1 + MVPN_VNET_HEADER + n);
    }
}

static void dns_messages(void)
{
    const uint8_t query[] = {0x12, 0x34, 1,    0,   0,   1,   0,   0, 0, 0, 0,  1, 3, 'w',
                             'w',  'w',  4,    'h', 'o', 's', 't', 0, 0, 1, 0,  1, 0, 0,
                             41,   4,    0xd0, 0,   0,   0,   0,   0, 4, 0, 10, 0, 0};
    struct script s;
    script_start(&s);
    mvpn_write8(&s.w, 0);
    script_chunk(&s, query, sizeof(query));
    mvpn_write8(&s.w, 1);
    script_chunk(&s, NULL, 0);
    mvpn_write8(&s.w, 0xc0);
    script_chunk(&s, query, sizeof(query));
    mvpn_write8(&s.w, 0xff);
    script_chunk(&s, NULL, 0);
    script_end(&s, "dns", "query-answer-expiry");
}

/* Answers for "a." that came through the tunnel. */
static void split_answers(void)
{
#define ADDRESS "\xc0\x0c\0\1\0\1\0\0\1\0\0\4\xc0\0\x20\7"
#define ALIAS "\xc0\x0c\0\5\0\1\0\0\0\x3c\0\3\1c\0"
#define OF_ALIAS "\1c\0\0\x1c\0\1\0\0\1\0\0\x10\x2a\x10\0\0\0\0\0\0\0\0\0\0\0\0\0\7"
#define SERVICE "\xc0\x0c\0\x41\0\1\0\0\1\0\0\x0d\0\1\1c\0\0\4\0\4\xc0\0\x20\7"
#define EDNS "\0\0\x29\4\xd0\0\0\0\0\0\0"
    static const struct {
        const char *name, *counts, *records;
        size_t n;
    } rows[] = {
        {"address", "\0\1\0\0\0\1", ADDRESS EDNS, sizeof(ADDRESS EDNS) - 1},
        {"alias", "\0\2\0\0\0\1", ALIAS OF_ALIAS EDNS, sizeof(ALIAS OF_ALIAS EDNS) - 1},
        {"service", "\0\1\0\0\0\0", SERVICE, sizeof(SERVICE) - 1},
    };
    for (size_t i = 0; i < 2 * MVPN_ARRAY_LEN(rows); i++) {
        unsigned v = i % 2 == 0 ? 4 : 6;
        uint8_t message[200] = "\x12\x34\x81\x80\0\1......\1a\0\0\1\0\1", b[300];
        const size_t question = 19, n = question + rows[i / 2].n;
        char name[40];
        memcpy(message + 6, rows[i / 2].counts, 6);
        memcpy(message + question, rows[i / 2].records, rows[i / 2].n);
        size_t len = build_udp(b, v, mvpn_inner_gateway(v), 53, mvpn_inner_client(v), 4000, n);
        memcpy(b + len - n, message, n);
        slow_fix(b, len);
        (void)snprintf(name, sizeof(name), "%s-v%u", rows[i / 2].name, v);
        seed("split_answers", name, b, len);
    }
}

static void texts(void)
{
    uint8_t b[200];
    seed_text("policy", "rules",
              "# comment\nreject tcp * 6881-6999; accept udp *4 53,443\nreject icmp 2a10::/16\n");
    size_t n = (size_t)snprintf((char *)b, sizeof(b), "reject * 11.0.0.0/8") + 1;
    for (unsigned i = 0; i < 4; i++) { /* destinations */
        memset(b + n, 0, 20);
        b[n] = i & 1;
        b[n + 1] = 6;
        mvpn_store16(b + n + 2, 443);
        b[n + 4] = (uint8_t)(i & 1 ? 11 + i : 0x20);
        b[n + 5] = 2;
        n += 20;
    }
    seed("policy", "destinations", b, n);
    const char *relay_text = "listen = {\"0.0.0.0:443\", \"[::]:443\"}\nname = relay-1\n";
    seed_of("config", "relay", 0, relay_text, strlen(relay_text));
    const char *exit_text =
        "tun_name = x0\npool_v4 = \"10.64.0.0/16\"\npolicy = {\"accept * *\"}\n";
    seed_of("config", "exit", 1, exit_text, strlen(exit_text));
    const char *client_text = "# a client\nhops = 3\npath = {a, b, c}\nroutes = none\n";
    seed_of("config", "client", 2, client_text, strlen(client_text));
    const char *wrong = "hops = 9\nlisten = \"nowhere";
    seed_of("config", "wrong", 2, wrong, strlen(wrong));
}

static void network_files(void)
{
    for (unsigned closed = 0; closed < 2; closed++) {
        char path[512];
        mvpn_network_file f = {.name = "test net", .is_closed = closed, .allow_private = true};
        mvpn_ed25519_secret network_key, secret;
        mvpn_x25519_pair link_key;
        mvpn_rng rng;
        mvpn_descriptor d = {.sequence = 1, .published = TIME_FROM, .expires = TIME_TO};
        mvpn_fault fault;
        mvpn_rng_init_test(&rng, closed);
        mvpn_ed25519_generate(&f.network_pub, &network_key, &rng);
        mvpn_network_id(&f.network_id, &f.network_pub);
        mvpn_ed25519_generate(&d.identity, &secret, &rng);
        mvpn_x25519_generate(&link_key, &rng);
        mvpn_link_certificate_make(d.link_certificate, &secret, &d.identity, &link_key.pub,
                                   TIME_FROM, TIME_TO, &f.network_id);
        d.onion_key_count = 1;
        d.address_count = 1;
        d.addresses[0] = (mvpn_descriptor_address){MVPN_CARRIER_PLAIN, {4, 443, {11, 1, 1, 1}}};
        d.roles = MVPN_ROLE_GUARD;
        d.has_membership = closed;
        mvpn_membership_make(d.membership, &network_key, &d.identity, d.roles, TIME_FROM, TIME_TO,
                             1, &f.network_id);
        memcpy(d.name, "relay-1", 8);
        /* Where a newcomer begins; and, where there are memberships, what was revoked. */
        for (unsigned v6 = 0; v6 < 2; v6++) {
            mvpn_dht_contact entry = {.link_key = link_key.pub, .addr = {4, 443, {11, 2, 1, 1}}};
            if (v6 == 1) {
                entry.addr = (mvpn_addr){6, 443, {0x2a, 0x10, [15] = 1}};
            }
            mvpn_dht_node_id(&entry.id, &d.identity, &entry.addr);
            if (mvpn_network_file_put_entry(&f, &entry) != 0) {
                exit(1);
            }
        }
        (void)snprintf(f.discovery[f.discovery_count++], sizeof(f.discovery[0]),
                       "https://index.example.org/x");
        (void)snprintf(f.dns, sizeof(f.dns), "entries.example.org");
        f.lan_discovery = closed;
        f.anchor_count = 1;
        f.anchors[0] = d.identity;
        if (closed) {
            f.revocations = (mvpn_revocations){
                .sequence = 1, .published = TIME_FROM, .count = 2, .serials = {7, 9}};
            if (mvpn_revocations_sign(&f.revocations, &network_key, &f.network_id) != 0) {
                exit(1);
            }
        }
        path_of(path, "network_file", closed ? "closed" : "open");
        if (mvpn_descriptor_sign(&d, &secret, &f.network_id) != 0 ||
            mvpn_network_file_put(&f, &d) != 0 || mvpn_network_file_save(path, &f, &fault) != 0) {
            (void)fprintf(stderr, "%s: %s\n", path, fault.text);
            exit(1);
        }
        (void)chmod(path, 0644); /* no secret of anybody */
        mvpn_network_file_done(&f);
    }
}

static void handshakes_and_layers(void)
{
    struct script s;
    for (uint8_t pattern = 0; pattern < 4; pattern++) {
        const uint8_t b[] = {pattern, pattern, 0, 40, 1, 'p', 'a', 'y'};
        char name[16];
        (void)snprintf(name, sizeof(name), "pattern-%u", pattern);
        seed("noise", name, b, sizeof(b));
    }
    script_start(&s);
    for (unsigned hop = 0; hop < 3; hop++) {
        mvpn_write8(&s.w, (uint8_t)hop);
        mvpn_write16(&s.w, MVPN_CMD_RELAY_DATA);
        mvpn_write16(&s.w, 10);
        mvpn_write32(&s.w, 0);
        mvpn_write8(&s.w, 0);
        script_chunk(&s, "0123456789", 10);
    }
    script_end(&s, "onion", "answers");
}

static void link_scripts(void)
{
    for (uint8_t mode = 0; mode < 4; mode++) {
        const uint8_t
            script
                [] =
                    {
                        mode, 15, /* the handshake goes through */
                        0x09, 0x00, 0x01, 1,  0,    4,  1,  2,    3,  4, /* Create, acknowledged */
                        0x89, 0x00, 0x06, 8,  0,    9,  1,  2,    3,  4,   5,
                        6,    7,    8,    9, /* a cell back */
                        15,   8,    14,   15, 0x8b, 9,  0,  0x31, 0,  0,   8,
                        1,    2,    3,    4,  5,    6,  7,  8, /* Ping */
                        2,    1,    15, /* from another address: a path check */
                        9,    0,    0x34, 0,  0,    20, 0,  1,    0,  'p', 'a',
                        'r',  't',  0,    0,  0,    0,  0,  0,    0,  0,   0,
                        0,    0,    0,    0,  15,   8,  17, 15,   13, 15, /* time, and the end */
                    };
        char name[16];
        (void)snprintf(name, sizeof(name), "mode-%u", mode);
        seed("links", name, script, sizeof(script));
    }
    const uint8_t load[] = {4, 15, 13, 15, 14, 15, 8, 17, 13, 15, 14, 15, 8, 12, 15};
    seed("links", "load", load, sizeof(load));
    /* 3 s pass: a first packet without an hour, its cookie, and it again; lost and repeated ones.
     */
    const uint8_t unsure[] = {8, 15, 8, 10, 8, 10, 8, 10, 15, 13, 15, 14, 15, 8, 12, 4, 15};
    seed("links", "clock-unsure", unsure, sizeof(unsure));
    const uint8_t unsure_relay[] = {9, 8, 10, 8, 11, 4, 0, 4, 0x82, 8, 10, 15, 8, 13, 15};
    seed("links", "clock-unsure-relay", unsure_relay, sizeof(unsure_relay));
    const uint8_t changed[] = {0, 1, 0, 100, 1, 15, 8, 10, 15, 8, 13, 15};
    seed("links", "first-packet-changed", changed, sizeof(changed));
}

/* What the NAT relay says is 7 [how] [ids]; what the peer says 10 [how] ... */
static void connector_scripts(void)
{
    /* We call: NatOpened, NatIncoming to the peer, the handshake, both candidates, punches. */
    const uint8_t call[] = {1,  12, 2, 7,  1, 4,  7,  5,  4, 2, 2, 5, 8, 2, 7, 4, 4, 34, 5, 9,
                            34, 5,  9, 34, 5, 10, 34, 10, 1, 0, 0, 0, 2, 8, 0, 2, 5, 17, 2};
    seed("connector", "call", call, sizeof(call));
    /* We are registered; sessions are announced, ended, announced with ids of ours. */
    const uint8_t called[] = {1, 7, 0, 4, 2, 7,    2,    0x71, 2,  7, 2,  0x71, 2,  7, 2, 0x7b, 2,
                              7, 3, 1, 2, 7, 0x82, 0x71, 5,    17, 5, 17, 2,    14, 2, 5, 12,   2};
    seed("connector", "called", called, sizeof(called));
    /* A birthday on our side, the network changes, the NAT relay's link ends. */
    const uint8_t birthday[] = {0x0f, 12, 2, 7, 1,  4,    7,  5, 4,  2, 2,  5, 8,  2,
                                7,    4,  4, 2, 11, 0x11, 0,  0, 0,  1, 2,  5, 10, 2,
                                5,    10, 2, 5, 11, 2,    30, 2, 14, 2, 46, 2};
    seed("connector", "birthday", birthday, sizeof(birthday));
    /* Refused, and bodies of any length. */
    const uint8_t refused[] = {1,  12,   2, 7, 0x16, 0, 0, 30, 0, 0,  0, 1,  2, 5,
                               12, 2,    7, 6, 0,    0, 3, 1,  2, 3,  2, 13, 1, 0,
                               20, 0x45, 1, 2, 3,    4, 5, 6,  7, 13, 6, 0,  0, 2};
    seed("connector", "refused", refused, sizeof(refused));
}

static void circuit_scripts(void)
{
    const uint8_t build[] = {
        0x84, 4,    0, 0,  0,                             /* extend, rightly */
        0x82, 0,    0, 13, 0, 8, 1, 2, 3, 4,  5, 6, 7, 8, /* ping the next hop */
        0x80, 0x40, 0, 6,  0, 0, 0, 0, 0, 60, 0, 0,       /* a cell from behind */
        0x81, 1,    6, 13,                                /* another circuit, time */
        0x84, 5,    0, 40, 9,                             /* extend with a flipped byte */
        0x80, 0,    0, 5,  0, 0, 0, 0, 0, 0,  0, 1, 6,    /* Destroy */
        6,    15,   7, 1,
    };
    seed("relay", "build", build, sizeof(build));
    const uint8_t take_over[] = {
        0x83, 0xc0, 0,    0,                           /* a session by circuit 0: ticket 0 */
        0x81, 1,    0x81, 2,                           /* two more circuits */
        0x83, 0xe1, 0,    1,                           /* taken over by circuit 1: ticket 1 */
        0x83, 0xc2, 0,    1,    0x83, 0xc2, 0,  2,     /* raced: the higher epoch, ticket 2 */
        0x83, 0xca, 0,    2,                           /* no session twice */
        0x82, 2,    0,    7,    0,    0,               /* empty Data confirms */
        0x83, 0xc0, 0,    9,    0x83, 0xc0, 33, 9,     /* used; a flipped bit */
        0x82, 1,    0,    7,    0,    3,    0,  1, 69, /* what drains */
        0x82, 1,    0,    9,    0,    1,    6,         /* End from there: nothing */
        6,    15,                                      /* half a minute */
        0x80, 2,    0,    5,    0,    0,    0,  0, 0,  0, 0, 1, 6, /* its circuit is destroyed */
        0x81, 3,    0x83, 0xcb, 0,    7,                           /* back by another */
        0x82, 3,    0,    9,    0,    1,    6,                     /* End */
        0x83, 0xcb, 0,    8,                                       /* gone */
    };
    seed("relay", "take-over", take_over, sizeof(take_over));
    const uint8_t talk[] = {
        0,                                           /* all rightly up to the session */
        1, 0,  13, 0,  0, 8, 1, 2, 3, 4, 5, 6, 7, 8, /* a ping: not for us to get */
        6, 10, 6,  14,                               /* time */
        0, 0,  5,  0,  1, 2,                         /* Destroy */
        6, 8,  5,  3,  1, 0, 9, 0, 0, 1, 6,          /* a new one; End */
        7, 6,  12,
    };
    seed("client", "talk", talk, sizeof(talk));
    const uint8_t pings[] = {0, 6, 7, 6, 7, 6, 3, 6, 14, 6, 14, 6, 3};
    seed("client", "pings", pings, sizeof(pings));
    const uint8_t refused[] = {2, 5, 0x23, 6, 12, 5, 3, 6, 12};
    seed("client", "refused", refused, sizeof(refused));
}

/* What the sources of a newcomer bring (§13). */
static void sources(void)
{
    static const mvpn_key token = {{1}};
    static const uint8_t nonce[MVPN_LAN_NONCE_LEN] = {1, 2, 3};
    const char *const addrs[] = {"192.0.2.1:7000", "[2001:db8::1]:7000"};
    const char *const names[] = {"entry-v4", "entry-v6"};
    uint8_t bundle[1024], lan[MVPN_LAN_QUESTION_LEN], unknown[] = {9, 0, 0, 0, 2, 1, 2};
    size_t bundle_len = 0;
    for (size_t i = 0; i < 2; i++) {
        mvpn_dht_contact c = {.link_key = {{3}}};
        mvpn_ed25519_pub identity = {{4}};
        FUZZ_CHECK(mvpn_addr_parse(addrs[i], &c.addr) == 0);
        mvpn_dht_node_id(&c.id, &identity, &c.addr);
        uint8_t entry[MVPN_DHT_CONTACT6_LEN], dns[256];
        size_t n = mvpn_dht_contact_encode(entry, sizeof(entry), &c);
        FUZZ_CHECK(mvpn_bundle_append(bundle, sizeof(bundle), &bundle_len, MVPN_BUNDLE_ENTRY,
                                      mvpn_bytes_of(entry, n)) == 0);
        seed_of("lan", names[i], 1, lan, mvpn_lan_answer_encode(lan, &token, nonce, &c));
        /* A response: the question's name is example, the answer's points to it. */
        char text[MVPN_SOURCE_DNS_TEXT_SIZE];
        size_t text_len = strlen(mvpn_source_dns_format(text, &c));
        mvpn_writer w = mvpn_writer_init(dns, sizeof(dns));
        mvpn_write_bytes(&w, "\1\2\x81\x80\0\1\0\1\0\0\0\0\7example\0\0\x10\0\1", 25);
        mvpn_write_bytes(&w, "\xc0\x0c\0\x10\0\1\0\0\0\x3c\0", 11);
        mvpn_write8(&w, (uint8_t)(text_len + 1));
        mvpn_write8(&w, (uint8_t)text_len);
        mvpn_write_bytes(&w, text, text_len);
        seed("source_dns", names[i], dns, mvpn_writer_len(&w));
    }
    memcpy(bundle + bundle_len, unknown, sizeof(unknown));
    seed("bundle", "entries", bundle, bundle_len + sizeof(unknown));
    seed("bundle", "cut", bundle, bundle_len - 1);
    mvpn_lan_question_encode(lan, &token, nonce);
    seed_of("lan", "question", 1, lan, sizeof(lan));
    seed_of("lan", "stranger", 0, lan, sizeof(lan));
}

/* [command] [room 2] [replies 1] [body] */
static void directory_request(const test_network *net, const char *name, mvpn_dht_request *q)
{
    uint8_t b[4 + MVPN_BODY_MAX] = {(uint8_t)q->command, 4, 0x50, 63};
    for (unsigned i = 0; i < q->key_count; i++) {
        const mvpn_descriptor d = test_relay_draft(net, i, 1);
        mvpn_record_key(q->keys[i].b, &net->trust.network_id, &d.identity);
    }
    seed("directory", name, b, 4 + mvpn_dht_request_encode(b + 4, MVPN_BODY_MAX, q));
}

/* A cache as it is, and the same as pieces that the target frames. */
static void cache_seed(const char *name, const uint8_t *saved, size_t n)
{
    enum { HEADER = 65, FRAME = 9, CHECK = 8 };
    static struct script s;
    char pieces[64];
    seed_of("view_cache", name, 0, saved, n);
    script_start(&s);
    mvpn_write8(&s.w, 1);
    for (size_t at = HEADER; at < n;) {
        size_t len = mvpn_load32(saved + at + 1);
        mvpn_write8(&s.w, saved[at]);
        script_chunk(&s, saved + at + FRAME, len);
        at += FRAME + len + CHECK;
    }
    (void)snprintf(pieces, sizeof(pieces), "%s-pieces", name);
    script_end(&s, "view_cache", pieces);
}

static void view_and_directory(void)
{
    static test_network net;
    static test_snapshot snapshot;
    mvpn_view *view;
    const mvpn_view_config config = {.trust = &net.trust, .sample_key = {5}};
    test_network_make(&net, 1);
    FUZZ_CHECK(mvpn_view_new(&config, &view) == 0);
    uint8_t *saved = malloc(mvpn_view_save_size(view) + 65536);
    FUZZ_CHECK(saved != NULL);
    cache_seed("empty", saved, mvpn_view_save(view, saved, 65536));
    for (unsigned i = 0; i < 3; i++) {
        mvpn_descriptor d = test_relay(&net, i, 1);
        mvpn_addr a = {4, 443, {9, (uint8_t)i}};
        FUZZ_CHECK(mvpn_view_put(view, MVPN_RECORD_DESCRIPTOR, test_record(&d),
                                 mvpn_view_source_of(view, NULL, &a), TEST_NOW) == 0);
        (void)test_snapshot_add(&net, &snapshot, &d);
    }
    test_snapshot_sign(&net, &snapshot, 200, TEST_HOUR);
    FUZZ_CHECK(mvpn_view_put(view, MVPN_RECORD_SNAPSHOT_HEAD, test_head_record(&snapshot), 0,
                             TEST_NOW) == 0);
    FUZZ_CHECK(mvpn_view_put_snapshot(view, test_snapshot_bytes(&snapshot), TEST_NOW) == 0);
    const mvpn_revocations list = test_revocations(&net, 2, test_serial(9));
    FUZZ_CHECK(mvpn_view_put(view, MVPN_RECORD_REVOCATIONS,
                             mvpn_bytes_of(list.encoded, list.encoded_len), 0, TEST_NOW) == 0);
    cache_seed("some", saved, mvpn_view_save(view, saved, 65536));
    free(snapshot.bytes);
    /* Two lists for one hour: the cache keeps the proof. */
    snapshot.count = 1;
    test_snapshot_sign(&net, &snapshot, 200, TEST_HOUR);
    FUZZ_CHECK(mvpn_view_put(view, MVPN_RECORD_SNAPSHOT_HEAD, test_head_record(&snapshot), 0,
                             TEST_NOW) == MVPN_E_POLICY);
    cache_seed("caught", saved, mvpn_view_save(view, saved, 65536));
    free(snapshot.bytes);
    free(saved);
    mvpn_view_free(view);

    mvpn_dht_request q = {.command = MVPN_CMD_DHT_LIST, .bits = 2};
    directory_request(&net, "list", &q);
    q = (mvpn_dht_request){.command = MVPN_CMD_DHT_FETCH, .key_count = 32};
    directory_request(&net, "fetch", &q);
    q = (mvpn_dht_request){.command = MVPN_CMD_DHT_FIND_VALUE};
    const mvpn_descriptor d = test_relay_draft(&net, 1, 1);
    mvpn_record_key(q.target.b, &net.trust.network_id, &d.identity);
    directory_request(&net, "find-value", &q);
    q = (mvpn_dht_request){.command = MVPN_CMD_DHT_PING};
    directory_request(&net, "ping", &q);
    /* The snapshot of directory_fuzz.c. */
    snapshot.count = 0;
    for (unsigned i = 0; i < 40; i++) {
        mvpn_descriptor one = test_relay(&net, i, 1);
        (void)test_snapshot_add(&net, &snapshot, &one);
    }
    test_snapshot_sign(&net, &snapshot, 200, TEST_HOUR);
    q = (mvpn_dht_request){.command = MVPN_CMD_DHT_BLOB, .digest = snapshot.head.digest};
    directory_request(&net, "blob", &q);
    free(snapshot.bytes);
}

/* [which 1] [command 1] [body] */
static void dht_seed(const char *name, unsigned which, unsigned command, const uint8_t *body,
                     size_t n)
{
    uint8_t b[2048] = {(uint8_t)which, (uint8_t)command};
    memcpy(b + 2, body, n);
    seed("dht_wire", name, b, n + 2);
}

static mvpn_dht_contact contact_of(unsigned i)
{
    const mvpn_ed25519_pub identity = {{(uint8_t)i}};
    mvpn_dht_contact c = {.link_key = {{9}}, .addr = {4, 443, {11, (uint8_t)i, 1, 1}}};
    if (i % 2 == 1) {
        c.addr = (mvpn_addr){6, 443, {0x2a, (uint8_t)i, [15] = 1}};
    }
    mvpn_dht_node_id(&c.id, &identity, &c.addr);
    return c;
}

static void dht_requests(void)
{
    static const uint8_t record[1000] = {1, 2, 3};
    uint8_t b[1500];
    for (unsigned command = MVPN_CMD_DHT_PING; command <= MVPN_CMD_DHT_BLOB; command++) {
        const mvpn_dht_request q = {.command = (uint16_t)command,
                                    .target = {{1, 2}},
                                    .bits = 12,
                                    .type = 1,
                                    .record = {record, 300},
                                    .key_count = 3,
                                    .digest = {{4}},
                                    .offset = 77};
        char name[32];
        (void)snprintf(name, sizeof(name), "request-%x", command);
        dht_seed(name, 2, command, b, mvpn_dht_request_encode(b, sizeof(b), &q));
    }
}

static void dht_replies(void)
{
    static const uint8_t record[1000] = {1, 2, 3};
    static mvpn_dht_reply m;
    uint8_t b[1500], items[1200];
    size_t len = 0;
    for (unsigned i = 1; i < 4; i++) {
        FUZZ_CHECK(mvpn_dht_fetched_append(items, sizeof(items), &len, i,
                                           mvpn_bytes_of(record, 100 * i)) == 0);
    }
    dht_seed("items", 4, 0, items, len);
    for (unsigned command = MVPN_CMD_DHT_PONG; command <= MVPN_CMD_DHT_ERROR; command++) {
        m = (mvpn_dht_reply){.command = (uint16_t)command,
                             .time = 1700000000,
                             .observed = contact_of(command).addr,
                             .contact_count = 3,
                             .status = 1,
                             .type = 1,
                             .record = {record, 500},
                             .more = true,
                             .total = 100,
                             .listed_count = 2,
                             .offset = 10,
                             .bytes = {record, 90}};
        for (unsigned i = 0; i < 3; i++) {
            m.contacts[i] = contact_of(i);
            m.listed[i].key.b[0] = (uint8_t)i;
        }
        if (command == MVPN_CMD_DHT_FETCHED) {
            m.record = mvpn_bytes_of(items, len);
        }
        char name[32];
        (void)snprintf(name, sizeof(name), "reply-%x", command);
        dht_seed(name, 3, command, b, mvpn_dht_reply_encode(b, sizeof(b), &m));
    }
}

static void dht_datagrams(void)
{
    uint8_t b[1500];
    for (unsigned i = 0; i < 2; i++) {
        const mvpn_dht_contact c = contact_of(i), both[2] = {contact_of(0), contact_of(1)};
        dht_seed(i ? "contact-v6" : "contact-v4", 0, 0, b,
                 mvpn_dht_contact_encode(b, sizeof(b), &c));
        dht_seed(i ? "contacts-1" : "contacts-2", 1, 0, b,
                 mvpn_dht_contacts_encode(b, sizeof(b), both, 2 - i));
        const mvpn_dht_ask ask = {.command = MVPN_CMD_DHT_PING,
                                  .wants_certificate = i,
                                  .has_claim = i,
                                  .claim_id = c.id,
                                  .body = {b, 20 * i}};
        uint8_t out[500];
        dht_seed(i ? "ask-claim" : "ask", 6, 0, out, mvpn_dht_ask_encode(out, sizeof(out), &ask));
        const mvpn_dht_answer answer = {.command = MVPN_CMD_DHT_PONG,
                                        .has_certificate = i,
                                        .has_membership = i,
                                        .body = {b, 20}};
        dht_seed(i ? "answer-certificate" : "answer", 7, 0, out,
                 mvpn_dht_answer_encode(out, sizeof(out), &answer));
    }
    memset(b, 0, sizeof(b));
    b[0] = 0xc0;
    mvpn_store32(b + 1, MVPN_DHT_VERSION_REQUEST);
    b[30] = 51; /* length of the Noise message */
    dht_seed("datagram", 5, 0, b, 300);
}

/* Signed by the target: bit 3. */
static void records(void)
{
    static mvpn_revocations r = {
        .sequence = 5, .published = TIME_FROM, .count = 3, .serials = {1, 3, 99}};
    static const uint8_t key[32] = {5};
    uint8_t b[1 + MVPN_SNAPSHOT_FIXED + 3 * MVPN_SNAPSHOT_ENTRY_LEN] = {0};
    mvpn_ed25519_pub pub;
    mvpn_ed25519_secret secret;
    mvpn_key network_id;
    mvpn_ed25519_from_seed(&pub, &secret, key);
    mvpn_network_id(&network_id, &pub);
    FUZZ_CHECK(mvpn_revocations_sign(&r, &secret, &network_id) == 0);
    seed_of("record", "revocations", 2, r.encoded, r.encoded_len);
    seed_of("record", "revocations-signed", 8 | 2, r.encoded, r.encoded_len);
    mvpn_snapshot_begin(b + 1, &pub, TIME_FROM / 3600, 3);
    for (unsigned i = 0; i < 3; i++) {
        const mvpn_snapshot_entry e = {.key = {{(uint8_t)i}}, .bandwidth_log2 = 16, .uptime_h = 9};
        mvpn_snapshot_entry_encode(b + 1 + MVPN_SNAPSHOT_FIXED + i * MVPN_SNAPSHOT_ENTRY_LEN, &e);
    }
    seed("record", "snapshot", b, sizeof(b));
    for (unsigned closed = 0; closed < 2; closed++) {
        mvpn_snapshot_head h = {.identity = pub,
                                .hour = 1500000 / 3600,
                                .entries = 3,
                                .size = sizeof(b) - 1,
                                .has_membership = closed};
        mvpn_membership_make(h.membership, &secret, &pub, MVPN_ROLE_DISCOVERY, TIME_FROM, TIME_TO,
                             4, &network_id);
        mvpn_snapshot_digest(&h.digest, mvpn_bytes_of(b + 1, sizeof(b) - 1));
        FUZZ_CHECK(mvpn_snapshot_head_sign(&h, &secret, &network_id) == 0);
        seed_of("record", closed ? "head-closed" : "head-open", closed ? 8 | 3 : 8 | 4 | 3,
                h.encoded, h.encoded_len);
    }
    mvpn_descriptor d = {.identity = pub,
                         .sequence = 1,
                         .published = TIME_FROM,
                         .expires = TIME_TO,
                         .onion_key_count = 1,
                         .address_count = 1,
                         .has_membership = true};
    const mvpn_key link_key = {{3}};
    d.addresses[0] = (mvpn_descriptor_address){MVPN_CARRIER_PLAIN, {4, 443, {11, 1, 1, 1}}};
    mvpn_link_certificate_make(d.link_certificate, &secret, &pub, &link_key, TIME_FROM, TIME_TO,
                               &network_id);
    mvpn_membership_make(d.membership, &secret, &pub, 0, TIME_FROM, TIME_TO, 4, &network_id);
    FUZZ_CHECK(mvpn_descriptor_sign(&d, &secret, &network_id) == 0);
    seed_of("record", "withdrawal-closed", 8 | 1, d.encoded, d.encoded_len);
    seed_of("record", "withdrawal-open", 8 | 4 | 1, d.encoded, d.encoded_len);
}

static void seed_exits(const char *name, const mvpn_state_exits *exits)
{
    uint8_t bytes[MVPN_STATE_EXITS_SIZE];
    seed("exits", name, bytes, mvpn_state_exits_encode(bytes, exits));
}

static void chosen_exits(void)
{
    mvpn_state_exits e = {.name = ""};
    seed_exits("auto", &e);
    MVPN_IGNORE(mvpn_path_countries_parse("CH,SE", &e.choice.countries));
    MVPN_IGNORE(mvpn_path_countries_parse("!US", &e.choice.blocked_countries));
    seed_exits("countries", &e);
    e.choice.has_exit = true;
    e.choice.blocked_count = 2;
    memset(e.choice.blocked[1].b, 0x33, sizeof(e.choice.blocked[1].b));
    seed_exits("exit", &e);
    e.choice.is_open = true;
    memcpy(e.name, "maple", 6);
    seed_exits("name", &e);
}

/* [which 1: 0 text, 1 the bytes inside without the check] */
static void invitations(void)
{
    for (unsigned closed = 0; closed < 2; closed++) {
        const mvpn_invitation inv = {.closed = closed,
                                     .expires = 1800000000,
                                     .network_pub = {{1}},
                                     .network_secret = {{(uint8_t)(closed * 2)}},
                                     .entry = contact_of(closed)};
        char text[MVPN_INVITATION_MAX + 1];
        uint8_t b[200] = {1, (uint8_t)closed, 1, 2, 3, 4, 5};
        mvpn_invitation_format(text, &inv);
        seed_of("invitation", closed ? "closed" : "open", 0, text, strlen(text));
        size_t n = closed ? 70 : 38;
        n += mvpn_dht_contact_encode(b + n, sizeof(b) - n, &inv.entry);
        seed_of("invitation", closed ? "bytes-closed" : "bytes-open", 1, b, n);
    }
    seed_of("invitation", "spaces", 0, " \tmeshvpn:AQAB \r\n", 18);
}

static void exchanges(void)
{
    /* Contacts, lookups and asks whose datagrams arrive; time; a changed byte; a new address. */
    static const uint8_t talk[] = {1, 6, 0, 1, 2, 2, 6,  1, 7, 2,  11, 2,   6, 2, 9, 2,
                                   8, 6, 0, 3, 1, 0, 40, 9, 2, 15, 2,  136, 6, 1, 9, 2};
    seed("exchange", "servers", talk, sizeof(talk));
    static const uint8_t client[] = {2, 7, 0, 2, 7, 1, 2, 15, 2, 7, 0, 1, 0, 20, 4, 15};
    seed("exchange", "client", client, sizeof(client));
    static const uint8_t forged[] = {
        1, 4, 1, 0, 200, 0,  3,    0,    0x10, 1,            /* a Ping for the certificate */
        4, 1, 4, 0, 0,   4,  0,    0x10, 0,    9,            /* with a body */
        4, 1, 0, 0, 0,   2,  0,    0x17,                     /* half a command */
        7, 0, 5, 0, 25,  0,  0x18, 0,    1,    2,  3,  4, 5, /* B's answer, of its own making */
        6, 7, 8, 9, 10,  11, 12,   13,   14,   15, 16, 0, 0, 0,  0,  1,
        1, 3, 0, 0, 9,   1,  2,    3,    4,    5,  6,  7, 8, 9, /* bytes */
        3, 3, 0, 9, 1,   2,  3,    4,    5,    6,  7,  8, 9, 15, 15, 2,
    };
    seed("exchange", "forged", forged, sizeof(forged));
}

/* The script of dht_fuzz.c: contacts that prove themselves, lookups that are answered, time. */
static void dht_core(void)
{
    struct script s;
    for (uint8_t kind = 0; kind < 8; kind++) {
        script_start(&s);
        mvpn_write8(&s.w, kind);
        mvpn_write16(&s.w, 1000); /* ourselves */
        for (uint16_t i = 0; i < 40; i++) {
            mvpn_write8(&s.w, 5); /* operate: */
            mvpn_write8(&s.w, 5); /* add a contact */
            mvpn_write16(&s.w, i);
            mvpn_write8(&s.w, 0);
            mvpn_write8(&s.w, 2);     /* reply: */
            mvpn_write8(&s.w, 2 | 4); /* Pong, certified */
            mvpn_write8(&s.w, 0);
        }
        for (uint8_t round = 0; round < 12; round++) {
            mvpn_write8(&s.w, 5);
            mvpn_write8(&s.w, round % 5); /* look up, store, fetch, publish */
            mvpn_write16(&s.w, round);
            mvpn_write8(&s.w, 0x40);
            if (round % 5 == 2 || round % 5 == 4) {
                script_chunk(&s, (const uint8_t[]){2, 0x40, round, 1, 1}, 5);
            }
            for (uint8_t i = 0; i < 4; i++) {
                mvpn_write8(&s.w, 2);
                mvpn_write8(&s.w, 4); /* Nodes */
                mvpn_write8(&s.w, i);
                mvpn_write8(&s.w, 3);
                mvpn_write16(&s.w, 100u + i);
                mvpn_write16(&s.w, 200u + i);
                mvpn_write16(&s.w, 300u + round);
            }
            mvpn_write8(&s.w, 0); /* a request: Store of a good record, proven, with a claim */
            mvpn_write8(&s.w, 3);
            mvpn_write16(&s.w, 500u + round);
            mvpn_write8(&s.w, 2);
            script_chunk(&s, (const uint8_t[]){1, 2, 0x40, round, 1}, 5);
            mvpn_write8(&s.w, 0x87); /* time */
            mvpn_write8(&s.w, (uint8_t)(8 + round));
        }
        char name[16];
        (void)snprintf(name, sizeof(name), "script-%u", kind);
        script_end(&s, "dht", name);
    }
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        (void)fprintf(stderr, "usage: make_corpus DIRECTORY\n");
        return 2;
    }
    root = argv[1];
    addresses();
    certificates();
    circuit_messages();
    headers();
    data_bodies();
    link_messages();
    descriptors();
    packets();
    super_packets();
    dns_messages();
    split_answers();
    texts();
    network_files();
    handshakes_and_layers();
    link_scripts();
    connector_scripts();
    circuit_scripts();
    sources();
    view_and_directory();
    dht_requests();
    dht_replies();
    dht_datagrams();
    records();
    invitations();
    chosen_exits();
    exchanges();
    dht_core();
    return 0;
}
