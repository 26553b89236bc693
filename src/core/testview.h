/*
 * A view that says what a test tells it to: for tests of what only reads views (paths, guards). It
 * takes the place of view.c in their programs.
 */
#ifndef MVPN_CORE_TESTVIEW_H
#define MVPN_CORE_TESTVIEW_H

#include "core/view.h"

struct mvpn_view {
    mvpn_descriptor *relay[MVPN_VIEW_MAX];
    mvpn_view_info info[MVPN_VIEW_MAX];
    size_t count;
    bool is_confirmed;
};

mvpn_view *test_view_new(void);
void test_view_free(mvpn_view *view);
/** Add a relay, or replace what was there of it; what is known of it may be set then. New ones are
 * confirmed and alive, and nothing was measured. */
mvpn_view_info *test_view_add(mvpn_view *view, const mvpn_descriptor *descriptor);
void test_view_remove(mvpn_view *view, const mvpn_ed25519_pub *identity);

#endif
