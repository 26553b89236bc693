/*
 * An exit without root (`nat = user`): ordinary sockets in place of a TUN device and the kernel's
 * NAT. (io/user_nat.h)
 */
#ifndef MVPN_BIN_EXIT_USER_H
#define MVPN_BIN_EXIT_USER_H

#include <jansson.h>

#include "io/config.h"
#include "io/node.h"

typedef struct exit_user exit_user;

/** Carry on what leaves `node`. When the loop begins, `log` is told if ping is not carried.
 * `config` is borrowed during the call, the rest longer. MVPN_E_CONFIG: this program was built
 * without it. */
MVPN_WUR int exit_user_open(const mvpn_config *config, const mvpn_log *log, mvpn_loop *loop,
                            mvpn_node *node, exit_user **ret, mvpn_fault *fault);
/** Before mvpn_node_free. NULL is allowed, here and below. */
void exit_user_close(exit_user *user);
/** A session has ended. */
void exit_user_release(exit_user *user, const mvpn_exit_event *released);
/** Add "user_nat" to a status. */
void exit_user_status(const exit_user *user, json_t *reply);

#endif
