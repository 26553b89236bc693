#include "wire/signed.h"

#include "base/assert.h"
#include "base/cursor.h"

mvpn_bytes mvpn_signed_bytes(uint8_t *out, size_t size, mvpn_bytes label,
                             const mvpn_key *network_id, mvpn_bytes record)
{
    mvpn_writer w = mvpn_writer_init(out, size);
    mvpn_write_bytes(&w, label.p, label.n);
    mvpn_write_bytes(&w, network_id->b, sizeof(network_id->b));
    mvpn_write_bytes(&w, record.p, record.n);
    MVPN_ASSERT(!w.failed);
    return mvpn_bytes_of(out, mvpn_writer_len(&w));
}
