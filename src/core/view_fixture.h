/* The view that the tests of view.c share: of a closed network on paper (testrecords.h), told
 * things by as many directories as a test likes. */
#ifndef MVPN_CORE_VIEW_FIXTURE_H
#define MVPN_CORE_VIEW_FIXTURE_H

#include "core/testing.h"
#include "core/testrecords.h"
#include "core/view.h"

extern test_network net;
extern mvpn_view *view;
extern uint64_t now;

/** One more view of the network; 0: no other maximum. */
mvpn_view *view_make(size_t max, uint8_t key);
int view_setup(void **state);
int view_teardown(void **state);
/** A directory in a /16 of its own. */
mvpn_view_source source(unsigned i);
/** A directory tells the view of a relay; what the view says. */
int put(const mvpn_descriptor *d, mvpn_view_source from);
/** What the view knows of a relay that it has. */
mvpn_view_info info_of(const mvpn_descriptor *d);
/** The key of a relay's record. */
mvpn_dht_id key_of(const mvpn_descriptor *d);
/** A directory tells the head of a snapshot; and a whole one comes. */
int put_head(const test_snapshot *s, mvpn_view_source from);
int put_snapshot(const test_snapshot *s);

#endif
