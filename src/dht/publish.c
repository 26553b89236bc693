#include "dht/publish.h"

#include <stdlib.h>

#include "base/error.h"

void mvpn_dht_publish_done(mvpn_dht_publish_list *p)
{
    for (size_t i = 0; i < MVPN_DHT_PUBLISH_MAX; i++) {
        free(p->own[i].bytes);
    }
    *p = (mvpn_dht_publish_list){0};
}

size_t mvpn_dht_publish_memory(const mvpn_dht_publish_list *p)
{
    size_t n = 0;
    for (size_t i = 0; i < MVPN_DHT_PUBLISH_MAX; i++) {
        n += p->own[i].len;
    }
    return n;
}

mvpn_dht_own *mvpn_dht_publish_find(mvpn_dht_publish_list *p, const mvpn_dht_id *key)
{
    for (size_t i = 0; i < MVPN_DHT_PUBLISH_MAX; i++) {
        if (p->own[i].bytes != NULL && mvpn_dht_id_eq(&p->own[i].key, key)) {
            return &p->own[i];
        }
    }
    return NULL;
}

int mvpn_dht_publish_set(mvpn_dht_publish_list *p, unsigned type, const mvpn_dht_id *key,
                         mvpn_bytes record, mvpn_time now)
{
    mvpn_dht_own *own = mvpn_dht_publish_find(p, key);
    if (record.n == 0 || record.n > MVPN_DHT_RECORD_MAX) {
        return MVPN_E_INVAL;
    }
    for (size_t i = 0; own == NULL && i < MVPN_DHT_PUBLISH_MAX; i++) {
        if (p->own[i].bytes == NULL) {
            own = &p->own[i];
        }
    }
    uint8_t *bytes = own != NULL ? malloc(record.n) : NULL;
    if (bytes == NULL) {
        return own == NULL ? MVPN_E_LIMIT : MVPN_E_NOMEM;
    }
    memcpy(bytes, record.p, record.n);
    free(own->bytes);
    *own = (mvpn_dht_own){.key = *key,
                          .type = (uint8_t)type,
                          .len = (uint16_t)record.n,
                          .bytes = bytes,
                          .due = now,
                          .retry = MVPN_DHT_PUBLISH_RETRY};
    return 0;
}

mvpn_dht_own *mvpn_dht_publish_next(mvpn_dht_publish_list *p, mvpn_time now)
{
    for (size_t i = 0; i < MVPN_DHT_PUBLISH_MAX; i++) {
        mvpn_dht_own *own = &p->own[i];
        if (own->bytes != NULL && !own->is_busy && own->due <= now) {
            return own;
        }
    }
    return NULL;
}

void mvpn_dht_publish_stored(mvpn_dht_own *own, size_t count, uint64_t radius, mvpn_rng *rng,
                             mvpn_time now)
{
    own->is_busy = false;
    own->radius = radius;
    if (count < MVPN_DHT_PUBLISH_FEW) {
        own->due = now + mvpn_rng_jitter(rng, own->retry, 20);
        own->retry = mvpn_time_min(own->retry * 2, MVPN_DHT_PUBLISH_EVERY);
        return;
    }
    own->due = now + mvpn_rng_jitter(rng, MVPN_DHT_PUBLISH_EVERY, 10);
    own->retry = MVPN_DHT_PUBLISH_RETRY;
}
