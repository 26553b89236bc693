/* The exit that the tests of exit.c share, and packets for it. It is new for each test, which must
 * give all packets back. */
#ifndef MVPN_EXIT_TESTING_H
#define MVPN_EXIT_TESTING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "exit/exit.h"
#include "network/ip/testing.h"

#define PACKETS 4096

extern const uint8_t far4[4];
extern const uint8_t *in4, *gw4, *in6, *gw6;
extern mvpn_packet_pool packets;
extern mvpn_addr dns_addr, own_addr, relay_addr;
extern mvpn_exit *ex;

/** What an exit may be told; a test alters it. */
mvpn_exit_config exit_config(void);
/** Another exit than that of the set-up; stop that one first. */
void exit_start(const mvpn_exit_config *c);
/** Every packet must be back in the pool at the end of every test. */
void exit_stop(void);
int exit_setup(void **state);
int exit_teardown(void **state);
uint32_t open_session(uint32_t mtu, bool v6);
mvpn_packet *new_packet(void);
/** A UDP packet of `payload` bytes, from the pool. */
mvpn_packet *udp(unsigned v, const void *src, uint16_t sport, const void *dst, uint16_t dport,
                 size_t payload);
/** The next packet for session `id`, or NULL; copied out, so that nothing is kept. */
bool pull(uint32_t id, mvpn_packet *ret);
/** The next packet of a queue, copied likewise. */
bool pop(mvpn_packet_queue *q, mvpn_packet *ret);
/** Nothing waits at any output. */
bool silent(void);

#define TEST(f) cmocka_unit_test_setup_teardown(f, exit_setup, exit_teardown)

/** Of each program: the packets, and the addresses above. */
int exit_group_setup(void **state);
int exit_group_teardown(void **state);

#endif
