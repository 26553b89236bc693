/* The relay that the tests of a relay's circuits share: among neighbours that do not behave
 * (testlab.h), with one link to it, and what they ask again and again. */
#ifndef MVPN_CORE_TESTRELAY_H
#define MVPN_CORE_TESTRELAY_H

#include "core/testing.h"
#include "core/testlab.h"
#include "core/relay_internal.h"

extern lab *l;
extern mvpn_link *link0; /* of the client to the relay */

/** A middle relay, and the client's link to it. */
int relay_setup(void **state);
int relay_teardown(void **state);
const mvpn_relay_counters *counters(void);
size_t circuits(void);

/** The oldest message of a peer is this command; nothing else came. */
lab_message only(size_t peer, unsigned command);

/** Nothing comes to a peer for a while. */
void assert_silence(size_t peer);

/** All that comes to a peer is the Destroy of this circuit. */
void assert_destroyed(size_t peer, const mvpn_circuit_id *id, unsigned reason);

/** A circuit of the client, its first hop the relay. */
lab_circuit open_circuit(void);

/** The answer in the oldest cell that came back to the client. */
int answer_of(lab_circuit *c, uint8_t *out, size_t *ret_len);

/** What the oldest cell that came back says of the last Extend. */
unsigned extended_status(lab_circuit *c);

/** Extend to a peer and let it answer as a relay should; what it got in `*ret_create`. */
mvpn_hop_keys extend(lab_circuit *c, size_t to, lab_message *ret_create, mvpn_circuit_id *ret_back);

#endif
