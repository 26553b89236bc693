#include "core/testview.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

mvpn_view *test_view_new(void)
{
    mvpn_view *view = calloc(1, sizeof(*view));
    MVPN_ASSERT(view != NULL);
    return view;
}

void test_view_free(mvpn_view *view)
{
    for (size_t i = 0; view != NULL && i < view->count; i++) {
        free(view->relay[i]);
    }
    free(view);
}

static size_t index_of(const mvpn_view *view, const mvpn_ed25519_pub *identity)
{
    size_t i = 0;
    while (i < view->count &&
           memcmp(view->relay[i]->identity.b, identity->b, sizeof(identity->b)) != 0) {
        i++;
    }
    return i;
}

mvpn_view_info *test_view_add(mvpn_view *view, const mvpn_descriptor *descriptor)
{
    size_t i = index_of(view, &descriptor->identity);
    if (i == view->count) {
        MVPN_ASSERT(view->count < MVPN_VIEW_MAX);
        view->relay[i] = malloc(sizeof(*view->relay[i]));
        MVPN_ASSERT(view->relay[i] != NULL);
        view->info[i] = (mvpn_view_info){.is_confirmed = true, .cap_log2 = UINT8_MAX};
        view->count++;
    }
    *view->relay[i] = *descriptor;
    return &view->info[i];
}

void test_view_remove(mvpn_view *view, const mvpn_ed25519_pub *identity)
{
    size_t i = index_of(view, identity);
    if (i < view->count) {
        free(view->relay[i]);
        view->count--;
        view->relay[i] = view->relay[view->count];
        view->info[i] = view->info[view->count];
    }
}

size_t mvpn_view_count(const mvpn_view *view)
{
    return view->count;
}

const mvpn_descriptor *mvpn_view_at(const mvpn_view *view, size_t index)
{
    return view->relay[index];
}

const mvpn_descriptor *mvpn_view_find(const mvpn_view *view, const mvpn_ed25519_pub *identity)
{
    size_t i = index_of(view, identity);
    return i < view->count ? view->relay[i] : NULL;
}

void mvpn_view_get_info(const mvpn_view *view, size_t index, mvpn_view_info *ret)
{
    *ret = view->info[index];
}

bool mvpn_view_find_info(const mvpn_view *view, const mvpn_ed25519_pub *identity,
                         mvpn_view_info *ret)
{
    size_t i = index_of(view, identity);
    if (i == view->count) {
        return false;
    }
    *ret = view->info[i];
    return true;
}

bool mvpn_view_is_confirmed(const mvpn_view *view)
{
    return view->is_confirmed;
}
