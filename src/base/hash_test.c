#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/hash.h"
#include "base/model_random.h"

#define ITEMS 500

struct item {
    mvpn_hash_node node;
    uint64_t key;
    bool is_in;
};

/* Few values, so that different keys share a hash, and shared low bits, so that hashes share a
 * bucket. */
static uint64_t hash_of(uint64_t key)
{
    return key % 97 * 256;
}

static struct item *find(const mvpn_hash *table, uint64_t key)
{
    for (mvpn_hash_node *n = mvpn_hash_first(table, hash_of(key)); n != NULL;
         n = mvpn_hash_next(n)) {
        struct item *item = MVPN_CONTAINER_OF(n, struct item, node);
        assert_int_equal(n->hash, hash_of(key));
        if (item->key == key) {
            return item;
        }
    }
    return NULL;
}

static void test_model(void **state)
{
    (void)state;
    static struct item items[ITEMS];
    struct model_random r = model_random_init();
    mvpn_hash table;
    size_t count = 0;
    assert_int_equal(mvpn_hash_init(&table, 4), 0);
    for (size_t i = 0; i < ITEMS; i++) {
        items[i] = (struct item){.key = i};
    }
    for (int step = 0; step < 50000; step++) {
        struct item *item = &items[model_random_below(&r, ITEMS)];
        if (item->is_in) {
            mvpn_hash_remove(&table, &item->node);
            count--;
        } else {
            mvpn_hash_insert(&table, &item->node, hash_of(item->key));
            count++;
        }
        item->is_in = !item->is_in;
        assert_int_equal(table.count, count);
        const struct item *any = &items[model_random_below(&r, ITEMS)];
        assert_ptr_equal(find(&table, any->key), any->is_in ? any : NULL);
    }
    for (size_t i = 0; i < ITEMS; i++) {
        assert_ptr_equal(find(&table, items[i].key), items[i].is_in ? &items[i] : NULL);
    }
    mvpn_hash_done(&table);
}

static void test_grow(void **state)
{
    (void)state;
    static mvpn_hash_node nodes[10000];
    mvpn_hash table;
    assert_int_equal(mvpn_hash_init(&table, 0), 0);
    for (size_t i = 0; i < 10000; i++) {
        mvpn_hash_insert(&table, &nodes[i], i * 0x9e3779b97f4a7c15);
    }
    assert_int_equal(table.count, 10000);
    assert_true(table.mask + 1 >= 10000 / 2); /* chains stay short */
    for (size_t i = 0; i < 10000; i++) {
        assert_ptr_equal(mvpn_hash_first(&table, i * 0x9e3779b97f4a7c15), &nodes[i]);
    }
    assert_null(mvpn_hash_first(&table, 1));
    mvpn_hash_done(&table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_grow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
