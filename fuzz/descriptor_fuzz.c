/* Descriptors: what decodes is its own encoding, and verifying reads no byte beyond. */
#include "core/view.h"
#include "fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const mvpn_key network_id = {{1}};
    static const mvpn_ed25519_pub network_pub = {{2}};
    mvpn_descriptor d;
    mvpn_key digest;
    if (mvpn_descriptor_decode(&d, mvpn_bytes_of(data, size)) != 0) {
        return 0;
    }
    fuzz_same(d.encoded, d.encoded_len, mvpn_bytes_of(data, size));
    FUZZ_CHECK(d.onion_key_count >= 1 && d.onion_key_count <= MVPN_DESCRIPTOR_ONION_KEYS_MAX);
    FUZZ_CHECK(d.address_count >= 1 && d.address_count <= MVPN_DESCRIPTOR_ADDRESSES_MAX);
    FUZZ_CHECK(d.policy_range_count <= MVPN_DESCRIPTOR_POLICY_RANGES_MAX);
    FUZZ_CHECK(d.family_count <= MVPN_DESCRIPTOR_FAMILY_MAX);
    FUZZ_CHECK(d.nat_relay_count <= MVPN_DESCRIPTOR_NAT_RELAYS_MAX);
    FUZZ_CHECK(d.name[0] == '\0' || mvpn_name_is_valid(d.name));
    FUZZ_CHECK(d.country[0] == '\0' || mvpn_country_is_valid(d.country));
    FUZZ_CHECK(d.provider[0] == '\0' || mvpn_provider_is_valid(d.provider));
    for (uint8_t family = 0; family <= 6; family++) {
        const mvpn_addr *a = mvpn_descriptor_find_address(&d, family);
        FUZZ_CHECK(a == NULL || ((family == 0 || a->family == family) && a->port != 0));
    }
    (void)mvpn_descriptor_is_public(&d);
    mvpn_descriptor_digest(&digest, &d);
    MVPN_IGNORE(mvpn_descriptor_verify(&d, &network_id, NULL, 0)); /* no fuzzer forges one */
    MVPN_IGNORE(mvpn_descriptor_verify(&d, &network_id, &network_pub, 1500000));
    return 0;
}
