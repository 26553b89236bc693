#include "bin/relay_request.h"

#include <string.h>

#include "base/error.h"

#define ROLES_ALLOWED                                                                              \
    (MVPN_ROLE_GUARD | MVPN_ROLE_MIDDLE | MVPN_ROLE_EXIT | MVPN_ROLE_NAT_RELAY |                   \
     MVPN_ROLE_DHT_SERVER)
#define NAME_AT 3
#define LINK_AT (NAME_AT + MVPN_NAME_MAX)

void relay_request_encode(uint8_t out[static RELAY_REQUEST_LEN], const relay_request *r)
{
    size_t len = strnlen(r->name, MVPN_NAME_MAX);
    memset(out, 0, RELAY_REQUEST_LEN);
    out[0] = (uint8_t)(r->roles >> 8);
    out[1] = (uint8_t)r->roles;
    out[2] = (uint8_t)len;
    memcpy(out + NAME_AT, r->name, len);
    memcpy(out + LINK_AT, r->link_certificate, MVPN_LINK_CERTIFICATE_LEN);
}

int relay_request_decode(relay_request *ret, const uint8_t in[static RELAY_REQUEST_LEN],
                         const mvpn_key *network_id, uint64_t unix_now)
{
    static const uint8_t zeros[MVPN_NAME_MAX];
    relay_request r = {.roles = (uint16_t)(in[0] << 8 | in[1])};
    size_t len = in[2];
    if (len == 0 || len > MVPN_NAME_MAX ||
        memcmp(in + NAME_AT + len, zeros, MVPN_NAME_MAX - len) != 0) {
        return MVPN_E_FORMAT;
    }
    memcpy(r.name, in + NAME_AT, len);
    if (!mvpn_name_is_valid(r.name)) {
        return MVPN_E_FORMAT;
    }
    if (r.roles == 0 || (r.roles & (uint16_t)~ROLES_ALLOWED) != 0) {
        return MVPN_E_POLICY;
    }
    memcpy(r.link_certificate, in + LINK_AT, MVPN_LINK_CERTIFICATE_LEN);
    int rc = mvpn_link_certificate_verify(MVPN_BYTES_ARRAY(r.link_certificate), network_id,
                                          unix_now, &r.link);
    if (rc == 0) {
        *ret = r;
    }
    return rc;
}
