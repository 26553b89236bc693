/* Messages of DNS: a query, then an answer that is aged: what was read once is read again alike. */
#include "exit/dns_message.h"
#include "exit/policy.h"
#include "fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t message[4096];
    uint32_t len = (uint32_t)size;
    mvpn_dns_query_info query;
    mvpn_dns_answer_info answer, again;
    if (size == 0 || size > sizeof(message)) {
        return 0;
    }
    memcpy(message, data, size);
    if (mvpn_dns_query_read(message, &len, 1232, &query) == 0) {
        FUZZ_CHECK(len <= size && query.question.len >= 5);
        FUZZ_CHECK(mvpn_dns_make_empty(message, &query.question) <= len);
    }
    memcpy(message, data, size);
    if (mvpn_dns_answer_read(message, (uint32_t)size, &answer) == 0) {
        FUZZ_CHECK(answer.ttl <= MVPN_DNS_TTL_MAX);
        mvpn_addr addrs[3];
        unsigned count = mvpn_dns_answer_addresses(message, (uint32_t)size, addrs, 3);
        FUZZ_CHECK(count <= 3);
        for (unsigned i = 0; i < count && (answer.flags & MVPN_DNS_TC) == 0; i++) {
            FUZZ_CHECK(answer.has_private || mvpn_policy_is_public(addrs[i].family, addrs[i].ip));
        }
        if ((answer.flags & MVPN_DNS_TC) == 0) {
            mvpn_dns_age(message, (uint32_t)size, 1);
            FUZZ_CHECK(mvpn_dns_answer_read(message, (uint32_t)size, &again) == 0);
            FUZZ_CHECK(again.has_private == answer.has_private);
            FUZZ_CHECK(again.ttl <= answer.ttl);
        }
        uint32_t n = mvpn_dns_make_empty(message, &answer.question);
        FUZZ_CHECK(n <= size);
        FUZZ_CHECK(mvpn_dns_answer_read(message, n, &again) == 0 && !again.has_private);
    }
    return 0;
}
