#include "core/split_answers.h"

#include "base/macros.h"
#include "core/testing.h"
#include "exit/dns_message.h"
#include "network/ip/checksum.h"
#include "network/ip/ip.h"

static const mvpn_split_domains domains = {2, {"example.org", "b.example.net"}};

/* ---- answers ---- */

typedef struct message {
    uint8_t packet[1500];
    uint32_t len;
    unsigned family;
    uint16_t port, flags, type;
    uint8_t counts[3];
    uint32_t at; /* of the message */
} message;

static void put(message *m, const void *bytes, size_t n)
{
    memcpy(m->packet + m->len, bytes, n);
    m->len += (uint32_t)n;
}

static void put16(message *m, uint16_t v)
{
    mvpn_store16(m->packet + m->len, v);
    m->len += 2;
}

static void put_name(message *m, const char *name)
{
    while (*name != '\0') {
        uint8_t n = (uint8_t)strcspn(name, ".");
        put(m, &n, 1);
        put(m, name, n);
        name += n + (name[n] == '.');
    }
    put(m, "", 1);
}

/* Family 4 or 6, with the question `name`; records follow. */
static message ask_as(unsigned family, const char *name, uint16_t type)
{
    message m = {.family = family, .port = 53, .flags = 0x8180, .type = type};
    m.at = (family == 4 ? MVPN_IPV4_HEADER : MVPN_IPV6_HEADER) + MVPN_UDP_HEADER;
    m.len = m.at;
    put16(&m, 0x1234);
    m.len += 10;
    put_name(&m, name);
    put16(&m, type);
    put16(&m, 1);
    return m;
}

static void record(message *m, unsigned section, const char *owner, uint16_t type, uint32_t ttl,
                   const void *data, size_t n)
{
    m->counts[section]++;
    if (owner[0] == '\xc0') {
        put(m, owner, 2);
    } else {
        put_name(m, owner);
    }
    put16(m, type);
    put16(m, 1);
    put16(m, (uint16_t)(ttl >> 16));
    put16(m, (uint16_t)ttl);
    put16(m, (uint16_t)n);
    put(m, data, n);
}

#define QUESTION "\xc0\x0c"
#define ANSWER MVPN_DNS_ANSWER
#define MORE MVPN_DNS_ADDITIONAL

static void a(message *m, unsigned section, const char *owner, uint8_t last)
{
    record(m, section, owner, 1, 300, (uint8_t[]){192, 0, 32, last}, 4);
}

static void aaaa(message *m, unsigned section, const char *owner, uint8_t last)
{
    record(m, section, owner, 28, 300, (uint8_t[16]){0x2a, 0x10, [15] = last}, 16);
}

static void cname(message *m, const char *owner, uint32_t ttl)
{
    record(m, ANSWER, owner, 5, ttl, "\3cdn\7example\3com", 17);
}

static void service(message *m, const char *owner, const char *target, uint8_t target_len)
{
    uint8_t data[64] = {0, 1};
    memcpy(data + 2, target, target_len);
    memcpy(data + 2 + target_len, (uint8_t[]){0, 4, 0, 4, 192, 0, 32, 9}, 8);
    record(m, ANSWER, owner, 65, 300, data, (size_t)target_len + 10);
}

static void edns(message *m)
{
    m->counts[MORE]++;
    put(m, "\0\0\x29\4\xd0\0\0\x80\0\0\0", 11);
}

/* Lengths and checksums as they must be. */
static message *finish(message *m)
{
    mvpn_ip ip;
    uint8_t *p = m->packet;
    uint16_t udp = (uint16_t)(m->len - m->at + MVPN_UDP_HEADER);
    mvpn_store16(p + m->at + 2, m->flags);
    mvpn_store16(p + m->at + 4, 1);
    for (size_t i = 0; i < 3; i++) {
        mvpn_store16(p + m->at + 6 + 2 * i, m->counts[i]);
    }
    if (m->family == 4) {
        p[0] = 0x45;
        mvpn_store16(p + 2, (uint16_t)m->len);
        p[8] = 64;
        p[9] = MVPN_IP_UDP;
        memcpy(p + 12, (uint8_t[]){10, 8, 0, 1, 10, 8, 0, 2}, 8);
        mvpn_csum_ipv4_set(p);
    } else {
        p[0] = 0x60;
        mvpn_store16(p + 4, udp);
        p[6] = MVPN_IP_UDP;
        p[7] = 64;
        memcpy(p + 8, (uint8_t[32]){0xfd, 0x6d, [15] = 1, [16] = 0xfd, [17] = 0x6d, [31] = 2}, 32);
    }
    mvpn_store16(p + m->at - 8, m->port);
    mvpn_store16(p + m->at - 6, 5000);
    mvpn_store16(p + m->at - 4, udp);
    assert_int_equal(mvpn_ip_parse(p, m->len, &ip), 0);
    mvpn_csum_transport_set(p, &ip);
    return m;
}

static mvpn_split_answer look(const message *m)
{
    mvpn_split_answer answer;
    mvpn_split_answer_read(&domains, mvpn_bytes_of(m->packet, m->len), &answer);
    return answer;
}

static mvpn_split_answer look_at(message *m)
{
    return look(finish(m));
}

/* What the host gets is a packet as any other, and an answer to the same question. */
static mvpn_dns_answer_info rewritten(message *m, const mvpn_split_answer *answer)
{
    mvpn_ip ip;
    mvpn_dns_answer_info info;
    uint32_t before = m->len;
    assert_int_equal(answer->verdict, MVPN_SPLIT_REWRITE);
    m->len = mvpn_split_answer_write(answer, m->packet, m->len);
    assert_true(m->len <= before);
    assert_int_equal(mvpn_ip_parse(m->packet, m->len, &ip), 0);
    assert_int_equal(ip.l4_len, m->len - m->at + MVPN_UDP_HEADER);
    assert_int_equal(mvpn_load16(m->packet + m->at - 4), ip.l4_len);
    assert_true(mvpn_csum_transport_ok(m->packet, &ip));
    assert_true(m->packet[m->at - 2] != 0 || m->packet[m->at - 1] != 0);
    assert_int_equal(mvpn_load16(m->packet + m->at), 0x1234);
    assert_int_equal(mvpn_dns_answer_read(m->packet + m->at, m->len - m->at, &info), 0);
    assert_int_equal(info.question.type, m->type);
    return info;
}

static unsigned count_of(const message *m, unsigned section)
{
    return mvpn_load16(m->packet + m->at + 6 + 2 * section);
}

static void expect_empty(message *m, const mvpn_split_answer *answer, unsigned rcode)
{
    bool has_edns = answer->has_edns;
    mvpn_dns_answer_info info = rewritten(m, answer);
    assert_int_equal(answer->count, 0);
    assert_int_equal(info.flags & MVPN_DNS_RCODE, rcode);
    assert_int_equal(count_of(m, 0), 0);
    assert_int_equal(count_of(m, 1), 0);
    assert_int_equal(count_of(m, 2), has_edns);
}

/* ---- tests ---- */

static void test_plain_answers_pass(void **state)
{
    (void)state;
    for (unsigned family = 4; family <= 6; family += 2) {
        message m = ask_as(family, "www.Example.ORG", 1);
        a(&m, ANSWER, QUESTION, 7);
        a(&m, ANSWER, QUESTION, 8);
        aaaa(&m, MORE, "ns.example.com", 9);
        edns(&m);
        mvpn_split_answer answer = look_at(&m);
        assert_int_equal(answer.verdict, MVPN_SPLIT_PASS);
        assert_int_equal(answer.count, 3);
        assert_int_equal(answer.addrs[0].ip[3], 7);
        assert_int_equal(answer.addrs[2].family, 6);
    }
}

/* Also with nothing in it: there is nothing to learn. */
static void test_negative_answers_pass(void **state)
{
    message m = ask_as(4, "example.org", 28);
    (void)state;
    m.flags |= 3;
    record(&m, MVPN_DNS_AUTHORITY, "org", 6, 60, (uint8_t[22]){0}, 22);
    mvpn_split_answer answer = look_at(&m);
    assert_int_equal(answer.verdict, MVPN_SPLIT_PASS);
    assert_int_equal(answer.count, 0);
}

static void test_others_pass(void **state)
{
    (void)state;
    message m = ask_as(4, "www.example.net", 1);
    cname(&m, QUESTION, 60);
    a(&m, ANSWER, "cdn.example.com", 7);
    mvpn_split_answer answer = look_at(&m);
    assert_int_equal(answer.verdict, MVPN_SPLIT_PASS);
    assert_int_equal(answer.count, 0);
    m.port = 54; /* no resolver */
    m.packet[m.at + 2] = 0;
    answer = look_at(&m);
    assert_int_equal(answer.verdict, MVPN_SPLIT_PASS);
    m = ask_as(4, "www.example.net", 65);
    service(&m, QUESTION, "", 1);
    answer = look_at(&m);
    assert_int_equal(answer.verdict, MVPN_SPLIT_PASS);
}

/* Who follows an alias himself would ask for a name that nobody knows to be one of ours. */
static void test_aliases_are_not_told(void **state)
{
    (void)state;
    for (unsigned family = 4; family <= 6; family += 2) {
        message m = ask_as(family, "www.example.org", 1);
        cname(&m, QUESTION, 20);
        a(&m, ANSWER, "cdn.example.com", 7);
        a(&m, ANSWER, "cdn.example.com", 8);
        a(&m, MORE, "ns.example.com", 9);
        edns(&m);
        mvpn_split_answer answer = look_at(&m);
        mvpn_addr found[4];
        assert_int_equal(answer.count, 2);
        mvpn_dns_answer_info info = rewritten(&m, &answer);
        assert_int_equal(info.ttl, 20);
        assert_int_equal(count_of(&m, 0), 2);
        assert_int_equal(count_of(&m, 2), 1);
        assert_int_equal(
            mvpn_dns_answer_addresses(m.packet + m.at, m.len - m.at, found, MVPN_ARRAY_LEN(found)),
            2);
        assert_int_equal(found[1].ip[3], 8);
        answer = look(&m); /* nothing is wrong with it any more */
        assert_int_equal(answer.verdict, MVPN_SPLIT_PASS);
        assert_int_equal(answer.count, 2);
    }
    message m = ask_as(4, "www.example.org", 28); /* without addresses */
    cname(&m, QUESTION, 20);
    mvpn_split_answer answer = look_at(&m);
    expect_empty(&m, &answer, 0);
    m = ask_as(4, "www.example.org", 1);
    m.flags |= 3;
    record(&m, ANSWER, "example.org", 39, 60, "\7example\3com", 13); /* DNAME */
    answer = look_at(&m);
    expect_empty(&m, &answer, 3);
    m = ask_as(4, "www.example.org", 16); /* of a text */
    cname(&m, QUESTION, 20);
    answer = look_at(&m);
    expect_empty(&m, &answer, 0);
}

/* Other domains' aliases that lead through one of ours. */
static void test_records_of_ours_count(void **state)
{
    (void)state;
    message m = ask_as(4, "shop.example.net", 1);
    cname(&m, QUESTION, 20);
    cname(&m, "a.b.example.net", 20);
    a(&m, ANSWER, "cdn.example.com", 7);
    mvpn_split_answer answer = look_at(&m);
    assert_int_equal(answer.count, 1);
    assert_int_equal(answer.verdict, MVPN_SPLIT_REWRITE);
    m = ask_as(4, "example.com", 15);
    record(&m, ANSWER, QUESTION, 15, 60, "\0\1\4mail\7example\3org", 20);
    a(&m, MORE, "mail.example.org", 7);
    answer = look_at(&m);
    assert_int_equal(answer.verdict, MVPN_SPLIT_PASS);
    assert_int_equal(answer.count, 1);
}

/* Their hints are addresses that nobody asks for. */
static void test_services_are_not_told(void **state)
{
    static const uint16_t types[] = {64, 65, 255};
    (void)state;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(types); i++) {
        message m = ask_as(4, "example.org", types[i]);
        service(&m, QUESTION, "", 1);
        edns(&m);
        mvpn_split_answer answer = look_at(&m);
        expect_empty(&m, &answer, 0);
    }
    message m = ask_as(4, "shop.example.net", 65); /* another's, that leads to ours */
    service(&m, QUESTION, "\3www\7example\3org", 17);
    mvpn_split_answer answer = look_at(&m);
    expect_empty(&m, &answer, 0);
    m = ask_as(4, "example.org", 1);
    a(&m, ANSWER, QUESTION, 7);
    service(&m, QUESTION, "", 1);
    answer = look_at(&m);
    assert_int_equal(answer.count, 1);
    (void)rewritten(&m, &answer);
    assert_int_equal(count_of(&m, 0), 1);
}

static void test_not_more_than_are_read(void **state)
{
    message m = ask_as(4, "example.org", 1);
    (void)state;
    for (unsigned i = 0; i < MVPN_SPLIT_ANSWER_MAX + 1; i++) {
        a(&m, ANSWER, QUESTION, (uint8_t)i);
    }
    mvpn_split_answer answer = look_at(&m);
    assert_int_equal(answer.count, MVPN_SPLIT_ANSWER_MAX);
    (void)rewritten(&m, &answer);
    assert_int_equal(count_of(&m, 0), MVPN_SPLIT_ANSWER_MAX);
    m = ask_as(4, "example.org", 15);
    for (unsigned i = 0; i < MVPN_SPLIT_ANSWER_MAX + 1; i++) {
        a(&m, MORE, "mail.example.org", (uint8_t)i);
    }
    answer = look_at(&m);
    expect_empty(&m, &answer, 0);
}

static void test_refused(void **state)
{
    (void)state;
    message m = ask_as(6, "example.org", 1); /* of the local network */
    record(&m, ANSWER, QUESTION, 1, 60, (uint8_t[]){192, 168, 1, 1}, 4);
    edns(&m);
    mvpn_split_answer answer = look_at(&m);
    expect_empty(&m, &answer, MVPN_DNS_SERVFAIL);
    m = ask_as(4, "example.org", 1); /* cut off: some use what is there */
    m.flags |= MVPN_DNS_TC;
    a(&m, ANSWER, QUESTION, 7);
    answer = look_at(&m);
    expect_empty(&m, &answer, MVPN_DNS_SERVFAIL);
    m = ask_as(4, "example.com", 1); /* and of others, whose records may be ours */
    m.flags |= MVPN_DNS_TC;
    a(&m, ANSWER, QUESTION, 7);
    answer = look_at(&m);
    assert_int_equal(rewritten(&m, &answer).flags & MVPN_DNS_TC, MVPN_DNS_TC);
    assert_int_equal(count_of(&m, 0), 0);
    m = ask_as(4, "example.com", 1); /* a name that cannot be read */
    a(&m, ANSWER, "\xc0\xff", 7);
    answer = look_at(&m);
    expect_empty(&m, &answer, MVPN_DNS_SERVFAIL);
    m = ask_as(4, "example.org", 1); /* there is no room for its address */
    a(&m, ANSWER, QUESTION, 7);
    answer = look_at(&m);
    mvpn_split_answer_refuse(&answer);
    expect_empty(&m, &answer, MVPN_DNS_SERVFAIL);
}

/* No answer at all; then not even the question is repeated. */
static void test_malformed(void **state)
{
    message m = ask_as(4, "example.org", 1);
    (void)state;
    a(&m, ANSWER, QUESTION, 7);
    put(&m, "x", 1);
    mvpn_split_answer answer = look_at(&m);
    assert_int_equal(answer.verdict, MVPN_SPLIT_REWRITE);
    m.len = mvpn_split_answer_write(&answer, m.packet, m.len);
    assert_int_equal(m.len, m.at + MVPN_DNS_HEADER);
    assert_int_equal(mvpn_load16(m.packet + m.at + 4), 0);
    assert_int_equal(m.packet[m.at + 3] & MVPN_DNS_RCODE, MVPN_DNS_SERVFAIL);
}

/* Records so short that an answer of ours would be longer: their owner is the root. */
static void test_never_longer(void **state)
{
    message m = ask_as(4, "example.org", 1);
    (void)state;
    for (unsigned i = 0; i < MVPN_SPLIT_ANSWER_MAX + 1; i++) {
        a(&m, ANSWER, "", (uint8_t)i);
    }
    mvpn_split_answer answer = look_at(&m);
    (void)rewritten(&m, &answer);
    m = ask_as(4, "a.a.b.example.net", 1);
    for (unsigned i = 0; i < MVPN_SPLIT_ANSWER_MAX; i++) {
        a(&m, ANSWER, "", (uint8_t)i);
    }
    record(&m, ANSWER, "", 5, 60, "", 1);
    answer = look_at(&m);
    expect_empty(&m, &answer, MVPN_DNS_SERVFAIL);
}

/* The first one holds the answer; and what is behind other headers is UDP all the same. */
static void test_fragments_and_headers(void **state)
{
    message m = ask_as(4, "example.org", 1);
    (void)state;
    a(&m, ANSWER, QUESTION, 7);
    (void)finish(&m);
    m.packet[6] = 0x20;
    mvpn_csum_ipv4_set(m.packet);
    message cut = m;
    cut.len = MVPN_IPV4_HEADER + 32; /* fragments end at multiples of eight */
    mvpn_store16(cut.packet + 2, (uint16_t)cut.len);
    mvpn_csum_ipv4_set(cut.packet);
    assert_int_equal(look(&cut).verdict, MVPN_SPLIT_DROP);
    m = ask_as(6, "example.org", 1);
    a(&m, ANSWER, QUESTION, 7);
    (void)finish(&m);
    memmove(m.packet + 48, m.packet + 40, m.len - 40);
    memcpy(m.packet + 40, (uint8_t[]){MVPN_IP_UDP, 0, 1, 4, 0, 0, 0, 0}, 8); /* with padding */
    m.packet[6] = 60; /* options for the destination */
    m.len += 8;
    m.at += 8;
    mvpn_store16(m.packet + 4, (uint16_t)(m.len - 40));
    mvpn_split_answer answer = look(&m);
    assert_int_equal(answer.verdict, MVPN_SPLIT_PASS);
    assert_int_equal(answer.count, 1);
    mvpn_split_answer_refuse(&answer);
    expect_empty(&m, &answer, MVPN_DNS_SERVFAIL);
}

static void test_canary(void **state)
{
    message m = ask_as(4, "use-application-dns.net", 1);
    (void)state;
    a(&m, ANSWER, QUESTION, 7);
    mvpn_split_answer answer = look_at(&m);
    expect_empty(&m, &answer, MVPN_DNS_NXDOMAIN);
}

/* Each bit flipped, and cut anywhere: what passes gives no address that is not known. */
static void test_damaged(void **state)
{
    message m = ask_as(4, "www.example.org", 1);
    (void)state;
    a(&m, ANSWER, QUESTION, 7);
    record(&m, MVPN_DNS_AUTHORITY, "example.org", 6, 60, (uint8_t[22]){0}, 22);
    edns(&m);
    (void)finish(&m);
    for (uint32_t bit = m.at * 8; bit < m.len * 8; bit++) {
        message copy = m;
        copy.packet[bit / 8] ^= (uint8_t)(1 << bit % 8);
        mvpn_split_answer answer = look(&copy);
        mvpn_addr found[4];
        if (answer.verdict == MVPN_SPLIT_REWRITE) {
            copy.len = mvpn_split_answer_write(&answer, copy.packet, copy.len);
        }
        unsigned n = mvpn_dns_answer_addresses(copy.packet + copy.at, copy.len - copy.at, found, 4);
        assert_true(
            n <= answer.count ||
            !mvpn_split_domains_have(&domains, copy.packet + copy.at + MVPN_DNS_HEADER, 17));
    }
    for (uint32_t n = 0; n < m.len; n++) {
        message copy = m;
        copy.len = n;
        mvpn_split_answer answer = look(&copy);
        assert_true(answer.verdict != MVPN_SPLIT_PASS || n < 28);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_answers_pass),
        cmocka_unit_test(test_negative_answers_pass),
        cmocka_unit_test(test_others_pass),
        cmocka_unit_test(test_aliases_are_not_told),
        cmocka_unit_test(test_records_of_ours_count),
        cmocka_unit_test(test_services_are_not_told),
        cmocka_unit_test(test_not_more_than_are_read),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_never_longer),
        cmocka_unit_test(test_fragments_and_headers),
        cmocka_unit_test(test_canary),
        cmocka_unit_test(test_damaged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
