/* Certificates: [which 1: bit 0 membership, bit 1 sign it first] [certificate]. */
#include "crypto/x25519.h"
#include "fuzz/fuzz.h"
#include "wire/certificate.h"

static void link_certificate(mvpn_bytes in, const mvpn_key *network_id,
                             const mvpn_ed25519_secret *secret)
{
    mvpn_link_certificate c;
    uint8_t again[MVPN_LINK_CERTIFICATE_LEN];
    if (mvpn_link_certificate_verify(in, network_id, 0, &c) == 0) {
        mvpn_link_certificate_make(again, secret, &c.identity, &c.link_key, c.not_before,
                                   c.not_after, network_id);
        static const uint8_t zeros[32];
        if (memcmp(in.p + 80, zeros, sizeof(zeros)) == 0) { /* reserved bytes are not looked at */
            fuzz_same(again, sizeof(again), in);            /* Ed25519 signs one way */
        }
    }
}

static void membership(mvpn_bytes in, const mvpn_key *network_id, const mvpn_ed25519_pub *pub,
                       const mvpn_ed25519_secret *secret)
{
    mvpn_membership m;
    uint8_t again[MVPN_MEMBERSHIP_LEN];
    if (mvpn_membership_verify(in, network_id, pub, 0, &m) == 0) {
        mvpn_membership_make(again, secret, &m.identity, m.roles, m.not_before, m.not_after,
                             m.serial, network_id);
        fuzz_same(again, sizeof(again), in);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t seed[32] = {5};
    static const char labels[2][40] = {"meshvpn v1 link certificate", "meshvpn v1 membership"};
    uint8_t cert[256], signed_bytes[40 + 32 + 256];
    mvpn_ed25519_pub pub;
    mvpn_ed25519_secret secret;
    mvpn_signature sig;
    mvpn_key network_id;
    if (size < 1 || size - 1 > sizeof(cert)) {
        return 0;
    }
    size_t n = size - 1;
    bool is_membership = data[0] & 1;
    memcpy(cert, data + 1, n);
    mvpn_ed25519_from_seed(&pub, &secret, seed);
    mvpn_network_id(&network_id, &pub);
    if ((data[0] & 2) && n >= sizeof(sig.b) + 32) { /* so that what is behind is reached */
        const char *label = labels[is_membership];
        mvpn_writer w = mvpn_writer_init(signed_bytes, sizeof(signed_bytes));
        if (!is_membership) {
            memcpy(cert, pub.b, 32);
        }
        mvpn_write_bytes(&w, label, strlen(label));
        mvpn_write_bytes(&w, network_id.b, 32);
        mvpn_write_bytes(&w, cert, n - sizeof(sig.b));
        mvpn_ed25519_sign(&sig, &secret, mvpn_bytes_of(signed_bytes, mvpn_writer_len(&w)));
        memcpy(cert + n - sizeof(sig.b), sig.b, sizeof(sig.b));
    }
    if (is_membership) {
        membership(mvpn_bytes_of(cert, n), &network_id, &pub, &secret);
    } else {
        link_certificate(mvpn_bytes_of(cert, n), &network_id, &secret);
    }
    return 0;
}
