#include "core/assembly.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"

void mvpn_assembly_free(mvpn_assembly **assembly)
{
    free(*assembly);
    *assembly = NULL;
}

static int assembly_start(mvpn_assembly **assembly, uint32_t request_id, uint16_t total,
                          mvpn_time now)
{
    if (*assembly == NULL) {
        *assembly = malloc(sizeof(**assembly));
        if (*assembly == NULL) {
            return MVPN_E_NOMEM;
        }
    }
    mvpn_assembly *a = *assembly;
    a->request_id = request_id;
    a->total = total;
    a->received = 0;
    a->parts = 0;
    a->began = now;
    return 0;
}

int mvpn_assembly_add(mvpn_assembly **assembly, uint32_t request_id, const mvpn_part *part,
                      mvpn_time now, mvpn_bytes *ret)
{
    if (part->bytes.n == part->total) {
        *ret = part->bytes;
        return 0;
    }
    mvpn_assembly *a = *assembly;
    if (a == NULL || a->request_id != request_id || now - a->began > MVPN_ASSEMBLY_TIME) {
        int r = assembly_start(assembly, request_id, part->total, now);
        if (r != 0) {
            return r;
        }
        a = *assembly;
    }
    uint16_t from = part->offset;
    uint16_t to = (uint16_t)(part->offset + part->bytes.n);
    if (a->total != part->total) {
        return MVPN_E_FORMAT;
    }
    for (size_t i = 0; i < a->parts; i++) {
        if (from == a->part[i].from && to == a->part[i].to) {
            return MVPN_E_AGAIN;
        }
        if (from < a->part[i].to && a->part[i].from < to) {
            return MVPN_E_FORMAT;
        }
    }
    if (a->parts == MVPN_PARTS_MAX) {
        return MVPN_E_FORMAT;
    }
    memcpy(a->bytes + from, part->bytes.p, part->bytes.n);
    a->part[a->parts].from = from;
    a->part[a->parts].to = to;
    a->parts++;
    a->received = (uint16_t)(a->received + part->bytes.n);
    if (a->received < a->total) {
        return MVPN_E_AGAIN;
    }
    *ret = mvpn_bytes_of(a->bytes, a->total);
    return 0;
}
