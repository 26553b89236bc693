/* An IP packet of the tunnel where names of domains alone go inside: what the host gets is no
 * longer than what came, names only addresses that were told before, and is judged alike again. */
#include "core/split_answers.h"
#include "exit/dns_message.h"
#include "exit/policy.h"
#include "fuzz/fuzz.h"

static const mvpn_split_domains domains = {2, {"example.org", "a"}};

static bool is_told(const mvpn_split_answer *answer, const mvpn_addr *addr)
{
    for (unsigned i = 0; i < answer->count; i++) {
        if (mvpn_addr_ip_eq(&answer->addrs[i], addr)) {
            return true;
        }
    }
    return false;
}

static void check_written(const mvpn_split_answer *answer, const uint8_t *message, uint32_t len)
{
    mvpn_dns_answer_info info;
    mvpn_addr addrs[2 * MVPN_SPLIT_ANSWER_MAX];
    if (mvpn_dns_answer_read(message, len, &info) != 0 ||
        !mvpn_split_domains_have(&domains, info.question.bytes, info.question.len)) {
        return;
    }
    FUZZ_CHECK((info.flags & MVPN_DNS_TC) == 0);
    unsigned n = mvpn_dns_answer_addresses(message, len, addrs, 2 * MVPN_SPLIT_ANSWER_MAX);
    for (unsigned i = 0; i < n; i++) {
        FUZZ_CHECK(is_told(answer, &addrs[i]));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t packet[4096];
    mvpn_split_answer answer, again;
    uint32_t len = (uint32_t)size;
    if (size > sizeof(packet)) {
        return 0;
    }
    memcpy(packet, data, size);
    mvpn_split_answer_read(&domains, mvpn_bytes_of(packet, size), &answer);
    FUZZ_CHECK(answer.count <= MVPN_SPLIT_ANSWER_MAX);
    for (unsigned i = 0; i < answer.count; i++) {
        FUZZ_CHECK(mvpn_policy_is_public(answer.addrs[i].family, answer.addrs[i].ip));
    }
    if (answer.verdict == MVPN_SPLIT_REWRITE) {
        len = mvpn_split_answer_write(&answer, packet, len);
        FUZZ_CHECK(len <= size);
        mvpn_split_answer_read(&domains, mvpn_bytes_of(packet, len), &again);
        FUZZ_CHECK(again.verdict != MVPN_SPLIT_DROP &&
                   (again.count == answer.count || again.count == 0));
    }
    if (answer.at != 0 && answer.verdict != MVPN_SPLIT_DROP) {
        check_written(&answer, packet + answer.at, len - answer.at);
    }
    return 0;
}
