#include "core/view.h"

#include <stdlib.h>
#include <string.h>

struct mvpn_view {
    mvpn_view_config config;
    mvpn_descriptor **relays;
    size_t count;
    size_t size;
};

int mvpn_view_new(const mvpn_view_config *config, mvpn_view **ret)
{
    mvpn_view *view = calloc(1, sizeof(*view));
    if (view == NULL) {
        return MVPN_E_NOMEM;
    }
    view->config = *config;
    if (view->config.max == 0) {
        view->config.max = MVPN_VIEW_MAX;
    }
    *ret = view;
    return 0;
}

void mvpn_view_free(mvpn_view *view)
{
    if (view == NULL) {
        return;
    }
    for (size_t i = 0; i < view->count; i++) {
        free(view->relays[i]);
    }
    free(view->relays);
    free(view);
}

static mvpn_descriptor *find(const mvpn_view *view, const mvpn_ed25519_pub *identity)
{
    for (size_t i = 0; i < view->count; i++) {
        if (memcmp(view->relays[i]->identity.b, identity->b, sizeof(identity->b)) == 0) {
            return view->relays[i];
        }
    }
    return NULL;
}

static int grow(mvpn_view *view)
{
    if (view->count < view->size) {
        return 0;
    }
    size_t size = view->size == 0 ? 16 : view->size * 2;
    mvpn_descriptor **relays = realloc(view->relays, size * sizeof(*relays));
    if (relays == NULL) {
        return MVPN_E_NOMEM;
    }
    view->relays = relays;
    view->size = size;
    return 0;
}

int mvpn_view_add(mvpn_view *view, const mvpn_descriptor *descriptor)
{
    mvpn_descriptor *old = find(view, &descriptor->identity);
    if (old != NULL) {
        if (descriptor->sequence <= old->sequence) {
            return MVPN_E_EXPIRED;
        }
        *old = *descriptor;
        return 0;
    }
    if (view->count >= view->config.max) {
        return MVPN_E_LIMIT;
    }
    mvpn_descriptor *copy = malloc(sizeof(*copy));
    if (copy == NULL || grow(view) != 0) {
        free(copy);
        return MVPN_E_NOMEM;
    }
    *copy = *descriptor;
    view->relays[view->count++] = copy;
    return 0;
}

const mvpn_descriptor *mvpn_view_find(const mvpn_view *view, const mvpn_ed25519_pub *identity)
{
    return find(view, identity);
}

size_t mvpn_view_count(const mvpn_view *view)
{
    return view->count;
}

const mvpn_descriptor *mvpn_view_at(const mvpn_view *view, size_t index)
{
    return view->relays[index];
}

/* Until the view knows more: what the network file lists is confirmed. */
void mvpn_view_get_info(const mvpn_view *view, size_t index, mvpn_view_info *ret)
{
    (void)view;
    (void)index;
    *ret = (mvpn_view_info){.is_confirmed = true, .cap_log2 = UINT8_MAX};
}

bool mvpn_view_find_info(const mvpn_view *view, const mvpn_ed25519_pub *identity,
                         mvpn_view_info *ret)
{
    mvpn_view_get_info(view, 0, ret);
    return mvpn_view_find(view, identity) != NULL;
}

bool mvpn_view_is_confirmed(const mvpn_view *view)
{
    return view->count > 0;
}
