/*
 * STUN messages of strangers. First byte: bit 0 whether the header's length, bit 1 whether the
 * fingerprint is made right, so that what is behind them is met too.
 */
#include "base/error.h"
#include "fuzz/fuzz.h"
#include "wire/stun.h"

static void repair(uint8_t *p, size_t n, unsigned how)
{
    if (n < MVPN_STUN_HEADER_LEN) {
        return;
    }
    if (how & 1) {
        mvpn_store16(p + 2, (uint16_t)(n - MVPN_STUN_HEADER_LEN));
        mvpn_store32(p + 4, 0x2112a442);
    }
    if ((how & 2) && n >= MVPN_STUN_HEADER_LEN + 8) {
        mvpn_stun_writer s = {mvpn_writer_init(p, n)};
        s.w.p += n - 8;
        mvpn_stun_put_fingerprint(&s);
    }
}

/* What was understood is written and read again. */
static void again(const mvpn_stun_message *m)
{
    uint8_t out[MVPN_STUN_MAX];
    mvpn_stun_writer s;
    mvpn_stun_message second;
    const struct {
        enum mvpn_stun_attribute type;
        const mvpn_addr *addr;
    } addresses[] = {{MVPN_STUN_MAPPED_ADDRESS, &m->mapped},
                     {MVPN_STUN_XOR_MAPPED_ADDRESS, &m->xor_mapped},
                     {MVPN_STUN_RESPONSE_ORIGIN, &m->response_origin},
                     {MVPN_STUN_OTHER_ADDRESS, &m->other}};
    mvpn_stun_begin(&s, out, sizeof(out), m->class, m->method, m->transaction);
    for (size_t i = 0; i < MVPN_ARRAY_LEN(addresses); i++) {
        if (addresses[i].addr->family != 0) {
            mvpn_stun_put_address(&s, addresses[i].type, addresses[i].addr);
        }
    }
    if (m->has_change) {
        mvpn_stun_put_change(&s, m->change_ip, m->change_port);
    }
    if (m->error_code != 0) {
        mvpn_stun_put_error(&s, m->error_code);
    }
    if (m->software.p != NULL) {
        mvpn_stun_put_bytes(&s, MVPN_STUN_SOFTWARE, m->software);
    }
    mvpn_stun_put_fingerprint(&s);
    size_t n = mvpn_stun_end(&s);
    FUZZ_CHECK(n > 0 && mvpn_stun_decode(&second, mvpn_bytes_of(out, n)) == 0);
    FUZZ_CHECK(second.class == m->class && second.method == m->method);
    FUZZ_CHECK(mvpn_addr_eq(&second.mapped, &m->mapped));
    FUZZ_CHECK(mvpn_addr_eq(&second.xor_mapped, &m->xor_mapped));
    FUZZ_CHECK(mvpn_addr_eq(&second.response_origin, &m->response_origin));
    FUZZ_CHECK(mvpn_addr_eq(&second.other, &m->other));
    FUZZ_CHECK(second.change_ip == m->change_ip && second.change_port == m->change_port);
    FUZZ_CHECK(second.error_code == m->error_code && second.has_fingerprint);
    FUZZ_CHECK(second.software.n == m->software.n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t packet[MVPN_STUN_MAX + 8];
    mvpn_stun_message m;
    if (size < 1) {
        return 0;
    }
    size_t n = MVPN_MIN(size - 1, sizeof(packet));
    memcpy(packet, data + 1, n);
    repair(packet, n, data[0]);
    mvpn_bytes in = mvpn_bytes_of(packet, n);
    if (mvpn_stun_decode(&m, in) == 0) {
        int err = mvpn_stun_check_integrity(&m, in, MVPN_BYTES_LITERAL("key"));
        FUZZ_CHECK((err == MVPN_E_STATE) == (m.integrity_at == 0 && m.integrity256_at == 0));
        again(&m);
    }
    return 0;
}
