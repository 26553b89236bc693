#include "wire/bundle.h"

#include "base/cursor.h"
#include "base/error.h"

static bool is_known(unsigned type)
{
    return type >= MVPN_RECORD_DESCRIPTOR && type <= MVPN_BUNDLE_ENTRY;
}

static bool can_be(unsigned type, size_t len)
{
    if (type == MVPN_BUNDLE_ENTRY) {
        return len == MVPN_DHT_CONTACT4_LEN || len == MVPN_DHT_CONTACT6_LEN;
    }
    return len > 0 && len <= (type == MVPN_BUNDLE_SNAPSHOT ? (size_t)MVPN_SNAPSHOT_LEN_MAX
                                                           : (size_t)MVPN_DHT_RECORD_MAX);
}

int mvpn_bundle_next(mvpn_bytes *rest, uint8_t *ret_type, mvpn_bytes *ret_part)
{
    mvpn_reader r = mvpn_reader_init(*rest);
    while (mvpn_reader_left(&r) > 0) {
        uint8_t type = mvpn_read8(&r);
        mvpn_bytes part = mvpn_read_bytes(&r, mvpn_read32(&r));
        if (r.failed || (is_known(type) && !can_be(type, part.n))) {
            *rest = MVPN_BYTES_NONE;
            return MVPN_E_FORMAT;
        }
        if (is_known(type)) {
            *rest = mvpn_read_rest(&r);
            *ret_type = type;
            *ret_part = part;
            return 0;
        }
    }
    *rest = MVPN_BYTES_NONE;
    return MVPN_E_AGAIN;
}

int mvpn_bundle_append(uint8_t *out, size_t size, size_t *len, unsigned type, mvpn_bytes part)
{
    if (!is_known(type) || !can_be(type, part.n)) {
        return MVPN_E_INVAL;
    }
    if (*len > size || size - *len < MVPN_BUNDLE_PART_FIXED + part.n) {
        return MVPN_E_SPACE;
    }
    mvpn_writer w = mvpn_writer_init(out + *len, size - *len);
    mvpn_write8(&w, (uint8_t)type);
    mvpn_write32(&w, (uint32_t)part.n);
    mvpn_write_bytes(&w, part.p, part.n);
    *len += mvpn_writer_len(&w);
    return 0;
}
