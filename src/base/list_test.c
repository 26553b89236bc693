#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/list.h"
#include "base/macros.h"

struct item {
    int value;
    mvpn_list link;
};

static void expect(const mvpn_list *head, const int *values, size_t n)
{
    size_t i = 0;
    MVPN_LIST_FOREACH(it, head)
    {
        assert_true(i < n);
        assert_int_equal(MVPN_CONTAINER_OF(it, struct item, link)->value, values[i]);
        assert_ptr_equal(it->next->prev, it);
        i++;
    }
    assert_int_equal(i, n);
    assert_int_equal(mvpn_list_is_empty(head), n == 0);
}

static void test_order(void **state)
{
    (void)state;
    mvpn_list head;
    struct item items[4] = {{.value = 0}, {.value = 1}, {.value = 2}, {.value = 3}};
    mvpn_list_init(&head);
    expect(&head, NULL, 0);
    assert_null(mvpn_list_pop(&head));
    for (size_t i = 0; i < 4; i++) {
        assert_false(mvpn_list_is_linked(&items[i].link));
        mvpn_list_append(&head, &items[i].link);
        assert_true(mvpn_list_is_linked(&items[i].link));
    }
    expect(&head, (const int[]){0, 1, 2, 3}, 4);
    mvpn_list_remove(&items[2].link);
    assert_false(mvpn_list_is_linked(&items[2].link));
    mvpn_list_remove(&items[2].link); /* harmless */
    expect(&head, (const int[]){0, 1, 3}, 3);
    assert_ptr_equal(mvpn_list_pop(&head), &items[0].link);
    mvpn_list_append(&head, &items[0].link);
    expect(&head, (const int[]){1, 3, 0}, 3);
    MVPN_LIST_FOREACH_SAFE(it, tmp, &head)
    {
        if (MVPN_CONTAINER_OF(it, struct item, link)->value != 3) {
            mvpn_list_remove(it);
        }
    }
    expect(&head, (const int[]){3}, 1);
    mvpn_list_remove(&items[3].link);
    expect(&head, NULL, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
