/* The operator's policy: text, then (behind a zero) packets' destinations. */
#include <stdlib.h>

#include "exit/policy.h"
#include "fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    mvpn_policy_error error = {0};
    mvpn_policy *policy = mvpn_policy_new();
    char *text = malloc(size + 1);
    if (policy == NULL || text == NULL || size > 8192) {
        goto out;
    }
    memcpy(text, data, size);
    text[size] = '\0';
    size_t used = strlen(text) + 1;
    if (mvpn_policy_parse(policy, text, &error) != 0) {
        FUZZ_CHECK(error.line >= 1 && error.column >= 1 && error.what != NULL);
    }
    for (; used + 20 <= size; used += 20) {
        const uint8_t *p = data + used;
        mvpn_ip ip = {.version = p[0] & 1 ? 4 : 6,
                      .protocol = p[1],
                      .has_l4 = !(p[0] & 2),
                      .fragment = p[0] & 2,
                      .dst_port = mvpn_load16(p + 2)};
        memcpy(ip.dst, p + 4, mvpn_ip_addr_len(&ip));
        mvpn_addr dst = mvpn_ip_dst_addr(&ip);
        bool allows = mvpn_policy_allows(policy, &ip);
        FUZZ_CHECK(!allows || mvpn_addr_is_public(&dst)); /* the operator adds nothing */
    }
out:
    free(text);
    mvpn_policy_free(policy);
    return 0;
}
