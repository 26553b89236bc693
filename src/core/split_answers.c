#include "core/split_answers.h"

#include <string.h>

#include "base/cursor.h"
#include "exit/dns_message.h"
#include "network/ip/checksum.h"
#include "network/ip/ip.h"

#define DNS_PORT 53
#define CLASS_IN 1
#define EDNS_LEN 11       /* RFC 6891 §6.1.2, without options */
#define EDNS_DO 0x8000    /* RFC 3225 §3 */
#define NAME_POINTER 0xc0 /* RFC 1035 §4.1.4: to the question's name, behind the header */
#define RECORD_LEN 12     /* with such a name, without data */

/* The name by which Firefox asks whether it may ask names elsewhere, past this host's resolver
 * (https, "canary domain"): "no" is an answer that there is none. */
static const mvpn_split_domains canaries = {1, {"use-application-dns.net"}};

/* What the records of an answer tell. */
typedef struct facts {
    bool is_ours, is_malformed;
    bool has_alias, has_service;
    unsigned found;    /* addresses, also those without room */
    unsigned answered; /* of those with room: that answer what was asked */
} facts;

static bool is_ours(const mvpn_split_domains *domains, mvpn_bytes message, size_t at,
                    bool *ret_is_malformed)
{
    uint8_t name[MVPN_DNS_NAME_MAX];
    size_t n = mvpn_dns_name_read(message, at, name);
    *ret_is_malformed |= n == 0;
    return n > 0 && mvpn_split_domains_have(domains, name, n);
}

/* Before those of other sections come those that were asked for. */
static void take_address(facts *f, const mvpn_dns_record *rr, mvpn_split_answer *ret)
{
    bool is_v4 = rr->type == MVPN_DNS_TYPE_A;
    if (rr->data.n == (is_v4 ? 4u : 16u) && f->found++ < MVPN_SPLIT_ANSWER_MAX) {
        mvpn_addr *addr = &ret->addrs[ret->count++];
        *addr = (mvpn_addr){.family = is_v4 ? 4 : 6};
        memcpy(addr->ip, rr->data.p, rr->data.n);
        f->answered += rr->section == MVPN_DNS_ANSWER;
    }
}

static void take_record(const mvpn_split_domains *domains, mvpn_bytes message,
                        const mvpn_dns_record *rr, facts *f, mvpn_split_answer *ret)
{
    switch (rr->type) {
    case MVPN_DNS_TYPE_OPT:
        ret->has_edns = true;
        ret->edns_size = rr->class;
        ret->edns_flags = rr->ttl & EDNS_DO;
        return;
    case MVPN_DNS_TYPE_A:
    case MVPN_DNS_TYPE_AAAA:
        take_address(f, rr, ret);
        break;
    case MVPN_DNS_TYPE_CNAME:
    case MVPN_DNS_TYPE_DNAME:
        f->has_alias = true;
        break;
    case MVPN_DNS_TYPE_SVCB:
    case MVPN_DNS_TYPE_HTTPS: /* RFC 9460 §2.2: a priority and a name, and hints may follow */
        f->has_service = true;
        f->is_ours |=
            is_ours(domains, message, (size_t)(rr->data.p - message.p) + 2, &f->is_malformed);
        break;
    default:
        break;
    }
    f->is_ours |= is_ours(domains, message, rr->name_at, &f->is_malformed);
}

static void rewrite(mvpn_split_answer *answer, uint8_t rcode)
{
    answer->verdict = MVPN_SPLIT_REWRITE;
    answer->rcode = rcode;
    answer->has_addresses = false;
    answer->count = 0;
}

void mvpn_split_answer_refuse(mvpn_split_answer *answer)
{
    rewrite(answer, MVPN_DNS_SERVFAIL);
}

static uint32_t edns_len(const mvpn_split_answer *answer)
{
    return answer->has_edns ? EDNS_LEN : 0;
}

/* The addresses alone, as if the name had them itself. */
static void flatten(mvpn_split_answer *answer, unsigned count, mvpn_bytes message, uint32_t ttl)
{
    answer->count = count;
    uint32_t len = answer->question + edns_len(answer);
    for (unsigned i = 0; i < answer->count; i++) {
        len += RECORD_LEN + (uint32_t)mvpn_addr_ip_len(&answer->addrs[i]);
    }
    if (len > message.n) { /* no resolver packs them so tight */
        mvpn_split_answer_refuse(answer);
        return;
    }
    answer->verdict = MVPN_SPLIT_REWRITE;
    answer->has_addresses = true;
    answer->ttl = ttl;
}

static void judge_ours(mvpn_split_answer *answer, mvpn_bytes message,
                       const mvpn_dns_answer_info *info, const facts *f)
{
    uint16_t type = info->question.type;
    bool is_for_address = type == MVPN_DNS_TYPE_A || type == MVPN_DNS_TYPE_AAAA;
    bool is_too_much = f->has_alias || f->has_service || f->found > MVPN_SPLIT_ANSWER_MAX;
    if (info->has_private) { /* the local network's, where that says that it is */
        mvpn_split_answer_refuse(answer);
    } else if (is_too_much && !is_for_address) {
        rewrite(answer, (uint8_t)(info->flags & MVPN_DNS_RCODE));
    } else if (is_too_much) {
        answer->rcode = (uint8_t)(info->flags & MVPN_DNS_RCODE);
        flatten(answer, f->answered, message, info->ttl);
    }
}

static void judge(const mvpn_split_domains *domains, mvpn_bytes message, mvpn_split_answer *ret)
{
    mvpn_dns_answer_info info;
    mvpn_dns_records records;
    mvpn_dns_record rr;
    facts f = {.found = 0};
    if (mvpn_dns_answer_read(message.p, (uint32_t)message.n, &info) != 0) {
        ret->question = MVPN_DNS_HEADER;
        mvpn_split_answer_refuse(ret);
        return;
    }
    ret->question = (uint16_t)(MVPN_DNS_HEADER + info.question.len);
    f.is_ours = mvpn_split_domains_have(domains, info.question.bytes, info.question.len);
    if ((info.flags & MVPN_DNS_TC) != 0) {
        ret->is_cut = !f.is_ours; /* answers by TCP are not read here */
        rewrite(ret, f.is_ours ? MVPN_DNS_SERVFAIL : (uint8_t)(info.flags & MVPN_DNS_RCODE));
        return;
    }
    mvpn_dns_records_begin(&records, message.p, (uint32_t)message.n);
    while (mvpn_dns_records_next(&records, &rr)) {
        take_record(domains, message, &rr, &f, ret);
    }
    if (f.is_malformed) {
        mvpn_split_answer_refuse(ret);
    } else if (f.is_ours) {
        judge_ours(ret, message, &info, &f);
    } else {
        ret->count = 0;
        if (mvpn_split_domains_have(&canaries, info.question.bytes, info.question.len)) {
            rewrite(ret, MVPN_DNS_NXDOMAIN);
        }
    }
}

/* Most packets are of TCP, and need not be looked at closer. */
static bool may_be_udp(mvpn_bytes packet)
{
    bool is_v4 = packet.n >= MVPN_IPV4_HEADER && packet.p[0] >> 4 == 4;
    return is_v4 ? packet.p[9] == MVPN_IP_UDP
                 : packet.n >= MVPN_IPV6_HEADER && packet.p[6] != MVPN_IP_TCP &&
                       packet.p[6] != MVPN_IP_ICMPV6;
}

void mvpn_split_answer_read(const mvpn_split_domains *domains, mvpn_bytes packet,
                            mvpn_split_answer *ret)
{
    mvpn_ip ip;
    *ret = (mvpn_split_answer){.verdict = MVPN_SPLIT_PASS};
    if (!may_be_udp(packet)) {
        return;
    }
    if (mvpn_ip_parse(packet.p, packet.n, &ip) != 0) {
        ret->verdict = MVPN_SPLIT_DROP; /* nobody here made it so */
        return;
    }
    if (ip.protocol != MVPN_IP_UDP || !ip.has_l4 || ip.src_port != DNS_PORT) {
        return; /* a further fragment is nothing without the first */
    }
    if (ip.fragment) {
        ret->verdict = MVPN_SPLIT_DROP;
        return;
    }
    ret->at = (uint16_t)(ip.l4 + MVPN_UDP_HEADER);
    mvpn_bytes message = mvpn_bytes_of(packet.p + ret->at, (size_t)ip.l4_len - MVPN_UDP_HEADER);
    if (message.n >= MVPN_DNS_HEADER) { /* less answers nothing */
        judge(domains, message, ret);
    }
}

/* ---- what is written ---- */

static void write_records(const mvpn_split_answer *answer, mvpn_writer *w)
{
    for (unsigned i = 0; answer->has_addresses && i < answer->count; i++) {
        const mvpn_addr *addr = &answer->addrs[i];
        mvpn_write8(w, NAME_POINTER);
        mvpn_write8(w, MVPN_DNS_HEADER);
        mvpn_write16(w, addr->family == 4 ? MVPN_DNS_TYPE_A : MVPN_DNS_TYPE_AAAA);
        mvpn_write16(w, CLASS_IN);
        mvpn_write32(w, answer->ttl);
        mvpn_write16(w, (uint16_t)mvpn_addr_ip_len(addr));
        mvpn_write_bytes(w, addr->ip, mvpn_addr_ip_len(addr));
    }
    if (answer->has_edns) {
        mvpn_write8(w, 0);
        mvpn_write16(w, MVPN_DNS_TYPE_OPT);
        mvpn_write16(w, answer->edns_size);
        mvpn_write32(w, answer->edns_flags);
        mvpn_write16(w, 0);
    }
}

static void write_header(const mvpn_split_answer *answer, uint8_t *message)
{
    uint16_t flags = mvpn_load16(message + 2) & (MVPN_DNS_RD | MVPN_DNS_CD);
    flags |= MVPN_DNS_QR | MVPN_DNS_RA;
    flags |= answer->is_cut ? MVPN_DNS_TC : 0;
    mvpn_store16(message + 2, flags | answer->rcode);
    mvpn_store16(message + 4, answer->question > MVPN_DNS_HEADER);
    mvpn_store16(message + 6, answer->has_addresses ? (uint16_t)answer->count : 0);
    mvpn_store16(message + 8, 0);
    mvpn_store16(message + 10, answer->has_edns);
}

uint32_t mvpn_split_answer_write(const mvpn_split_answer *answer, uint8_t *packet, uint32_t len)
{
    mvpn_ip ip;
    mvpn_writer w = mvpn_writer_init(packet + answer->at + answer->question,
                                     len - answer->at - answer->question);
    write_header(answer, packet + answer->at);
    write_records(answer, &w);
    uint32_t total = answer->at + answer->question + (uint32_t)mvpn_writer_len(&w);
    mvpn_store16(packet + answer->at - 4, (uint16_t)(total - answer->at + MVPN_UDP_HEADER));
    if (packet[0] >> 4 == 4) {
        mvpn_store16(packet + 2, (uint16_t)total);
        mvpn_csum_ipv4_set(packet);
    } else {
        mvpn_store16(packet + 4, (uint16_t)(total - MVPN_IPV6_HEADER));
    }
    if (mvpn_ip_parse(packet, total, &ip) == 0) {
        mvpn_csum_transport_set(packet, &ip);
    }
    return total;
}
