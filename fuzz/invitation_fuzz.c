/* Invitation links: what is read is written the same way, but for the spaces around it. */
#include "base/error.h"
#include "crypto/hash.h"
#include "fuzz/fuzz.h"
#include "wire/invitation.h"

static void parse(const char *text, bool is_exact)
{
    mvpn_invitation inv;
    char again[MVPN_INVITATION_MAX + 1];
    if (mvpn_invitation_parse(&inv, text, 0) == 0) {
        mvpn_invitation_format(again, &inv);
        FUZZ_CHECK(strlen(again) <= MVPN_INVITATION_MAX);
        FUZZ_CHECK(strstr(text, again) != NULL);
        FUZZ_CHECK(!is_exact || strcmp(text, again) == 0);
        FUZZ_CHECK(mvpn_dht_id_fits(&inv.entry.id, &inv.entry.addr));
        FUZZ_CHECK(mvpn_invitation_parse(&inv, text, inv.expires + 1) == MVPN_E_EXPIRED);
    }
}

/* The bytes inside, with the check that belongs to them. */
static void bytes(mvpn_bytes in)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    uint8_t b[303] = {0};
    char text[500] = "meshvpn:";
    if (in.n > 300) {
        return;
    }
    memcpy(b, in.p, in.n);
    mvpn_blake3(b + in.n, 2, in);
    size_t at = strlen(text);
    for (size_t bit = 0; bit < (in.n + 2) * 8; bit += 6) {
        unsigned pair = (unsigned)b[bit / 8] << 8 | b[bit / 8 + 1];
        text[at++] = digits[pair >> (10 - bit % 8) & 63];
    }
    text[at] = '\0';
    parse(text, true);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char text[600];
    if (size < 1) {
        return 0;
    }
    if (data[0] & 1) {
        bytes(mvpn_bytes_of(data + 1, size - 1));
    } else if (size - 1 < sizeof(text)) {
        memcpy(text, data + 1, size - 1);
        text[size - 1] = '\0';
        parse(text, false);
    }
    return 0;
}
