/*
 * What an idle link takes: a guard has one of each client. All allocations are counted, as the
 * linker leads them here (--wrap); the clients are gone when it is measured, their links are not.
 */
#include <malloc.h>
#include <stdlib.h>

#include "network/p2p/testnet.h"

static int64_t held;

void *__real_malloc(size_t n);
void *__real_calloc(size_t count, size_t n);
void *__real_realloc(void *p, size_t n);
void __real_free(void *p);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t count, size_t n);
void *__wrap_realloc(void *p, size_t n);
void __wrap_free(void *p);

static void *count(void *p)
{
    held += p != NULL ? (int64_t)malloc_usable_size(p) + 8 : 0;
    return p;
}

static void *discount(void *p)
{
    held -= p != NULL ? (int64_t)malloc_usable_size(p) + 8 : 0;
    return p;
}

void *__wrap_malloc(size_t n)
{
    return count(__real_malloc(n));
}

void *__wrap_calloc(size_t items, size_t n)
{
    return count(__real_calloc(items, n));
}

void *__wrap_realloc(void *p, size_t n)
{
    return count(__real_realloc(discount(p), n));
}

void __wrap_free(void *p)
{
    __real_free(discount(p));
}

/* A client comes, says something and is answered, and is gone. Returns the relay's end. */
static mvpn_link *visit(struct net *net, size_t mtu, mvpn_time span, unsigned messages)
{
    mvpn_link *link, *other;
    net_start(net, 0, false, false, NULL);
    net->mtu = mtu;
    link = net_joined(net, 0, 1, &other);
    mvpn_link_hold(link);
    for (unsigned i = 0; i < messages; i++) {
        assert_int_equal(net_send(net, 0, link, MVPN_CMD_CREATE, 1300, i, true), 0);
        assert_int_equal(net_send(net, 1, other, MVPN_CMD_CREATED, 1300, i, true), 0);
        net_for(net, MVPN_MS(20));
    }
    net_for(net, span);
    net_stop(net, 0);
    return other;
}

static void test_idle_links_are_small(void **state)
{
    (void)state;
    enum { LINKS = 200 };
    struct net *net = net_new(1);
    net_start(net, 1, true, false, NULL);
    (void)visit(net, 1500, 0, 1);
    int64_t before = held;
    for (size_t i = 0; i < LINKS; i++) {
        (void)visit(net, 1500, 0, 1);
    }
    assert_int_equal(mvpn_links_count(net->node[1].links), LINKS + 1);
    int64_t each = (held - before) / LINKS;
    print_message("%d links: %lld bytes each (session %zu, link %zu)\n", LINKS, (long long)each,
                  sizeof(struct session), sizeof(mvpn_link));
    assert_in_range(each, 1, 2300);
    net_free(net);
}

/* Also after hours, keys changed a hundred times; after a path of small packets; after a storm. */
static void test_links_become_small_again(void **state)
{
    (void)state;
    static const struct {
        size_t mtu;
        mvpn_time span;
        unsigned messages;
    } rows[] = {{1500, MVPN_S(7200), 1}, {1300, MVPN_S(200), 100}, {1500, MVPN_S(200), 500}};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        struct net *net = net_new(1);
        net_start(net, 1, true, false, NULL);
        (void)visit(net, 1500, 0, 1);
        net_for(net, IDLE_CLOSE + MVPN_S(1));
        assert_int_equal(mvpn_links_count(net->node[1].links), 0);
        int64_t before = held;
        mvpn_link *link = visit(net, rows[i].mtu, rows[i].span, rows[i].messages);
        while (link->session->rotation != NULL) { /* ten seconds of two minutes */
            net_for(net, MVPN_S(1));
        }
        assert_in_range(held - before, 1, 2300);
        net_free(net);
    }
}

int main(void)
{
    const struct CMUnitTest all[] = {
        cmocka_unit_test(test_idle_links_are_small),
        cmocka_unit_test(test_links_become_small_again),
    };
    return cmocka_run_group_tests(all, NULL, NULL);
}
