/*
 * The control commands of meshvpn-client: one table. A command that belongs to another noun has its
 * function in that noun's file, and its row here.
 */
#ifndef MVPN_BIN_CLIENT_CONTROL_H
#define MVPN_BIN_CLIENT_CONTROL_H

#include "bin/client_program.h"

extern const command_row client_commands[];
extern const size_t client_command_count;

/** A mvpn_control_fn; `program` is the client_program. */
int client_control_answer(void *program, const json_t *request, uid_t uid, json_t *reply);

#endif
