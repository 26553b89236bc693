#include "core/view_fixture.h"

test_network net;
mvpn_view *view;
uint64_t now;

mvpn_view *view_make(size_t max, uint8_t key)
{
    mvpn_view *v;
    const mvpn_view_config config = {.trust = &net.trust, .max = max, .sample_key = {key}};
    assert_int_equal(mvpn_view_new(&config, &v), 0);
    return v;
}

int view_setup(void **state)
{
    (void)state;
    test_network_make(&net, 1);
    view = view_make(0, 9);
    now = TEST_NOW;
    return 0;
}

int view_teardown(void **state)
{
    (void)state;
    mvpn_view_free(view);
    view = NULL;
    return 0;
}

mvpn_view_source source(unsigned i)
{
    mvpn_addr a = {.family = 4, .port = 443, .ip = {(uint8_t)(120 + i / 256), (uint8_t)i, 1, 1}};
    return mvpn_view_source_of(view, NULL, &a);
}

int put(const mvpn_descriptor *d, mvpn_view_source from)
{
    return mvpn_view_put(view, MVPN_RECORD_DESCRIPTOR, test_record(d), from, now);
}

mvpn_view_info info_of(const mvpn_descriptor *d)
{
    mvpn_view_info info = {0};
    assert_true(mvpn_view_find_info(view, &d->identity, &info));
    return info;
}

mvpn_dht_id key_of(const mvpn_descriptor *d)
{
    mvpn_dht_id key = {{0}};
    mvpn_record_key(key.b, &net.trust.network_id, &d->identity);
    return key;
}

int put_head(const test_snapshot *s, mvpn_view_source from)
{
    return mvpn_view_put(view, MVPN_RECORD_SNAPSHOT_HEAD, test_head_record(s), from, now);
}

int put_snapshot(const test_snapshot *s)
{
    return mvpn_view_put_snapshot(view, test_snapshot_bytes(s), now);
}
