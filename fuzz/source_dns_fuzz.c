/* DNS messages as a hostile network answers them. */
#include "fuzz/fuzz.h"
#include "io/source_dns.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    mvpn_dht_contact entries[MVPN_SOURCE_DNS_ENTRIES_MAX];
    size_t count = mvpn_source_dns_parse(mvpn_bytes_of(data, size), entries);
    FUZZ_CHECK(count <= MVPN_SOURCE_DNS_ENTRIES_MAX);
    for (size_t i = 0; i < count; i++) {
        char text[MVPN_SOURCE_DNS_TEXT_SIZE];
        FUZZ_CHECK(mvpn_dht_id_fits(&entries[i].id, &entries[i].addr));
        FUZZ_CHECK(strlen(mvpn_source_dns_format(text, &entries[i])) < sizeof(text));
    }
    return 0;
}
