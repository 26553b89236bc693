/*
 * The relay view: the descriptors that a node holds. One interface, whatever fills it (a network
 * file now, discovery later). Paths are drawn from here and from nowhere else.
 */
#ifndef MVPN_CORE_VIEW_H
#define MVPN_CORE_VIEW_H

#include "base/error.h"
#include "wire/descriptor.h"

/* Relays that a view holds at most. (design: a client aims at all of up to 5,000) */
#define MVPN_VIEW_MAX 5000

typedef struct mvpn_view mvpn_view;

MVPN_WUR int mvpn_view_new(mvpn_view **ret);
void mvpn_view_free(mvpn_view *view);

/**
 * Add a verified descriptor (copied). One with a higher sequence replaces an older one of the same
 * identity. MVPN_E_EXPIRED (drop): not newer. MVPN_E_LIMIT, MVPN_E_NOMEM.
 */
MVPN_WUR int mvpn_view_add(mvpn_view *view, const mvpn_descriptor *descriptor);

/** The descriptor of an identity, borrowed until the next change of the view; NULL if there is
 * none. */
const mvpn_descriptor *mvpn_view_find(const mvpn_view *view, const mvpn_ed25519_pub *identity);

size_t mvpn_view_count(const mvpn_view *view);
const mvpn_descriptor *mvpn_view_at(const mvpn_view *view, size_t index);

#endif
