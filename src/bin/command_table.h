/*
 * Commands of a control socket as a table, and who may use which: reading ones whoever may open the
 * socket, changing ones only root, the user who started the daemon, and the operators of its
 * configuration.
 */
#ifndef MVPN_BIN_COMMAND_TABLE_H
#define MVPN_BIN_COMMAND_TABLE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "io/config.h"

/* As mvpn_control_fn (io/control.h). `program` is what command_table_answer was given. */
typedef int command_fn(void *program, const json_t *request, json_t *reply);

typedef struct command_row {
    const char *name; /* of "cmd" */
    command_fn *function;
    bool changes; /* more than it reads */
} command_row;

/* Whose changes are taken, besides root's. */
typedef struct command_owners {
    uid_t starter;
    unsigned count;
    struct {
        uid_t uid;
        char name[MVPN_CONFIG_USER_MAX + 1];
    } operators[MVPN_CONFIG_OPERATORS_MAX];
} command_owners;

/** Before the program becomes another user: who it is now started it. */
void command_owners_init(command_owners *ret, const mvpn_config_client *config);

bool command_is_allowed(const command_owners *owners, uid_t uid);

/**
 * Run the row that `request` names. MVPN_E_UNKNOWN: none is called so; MVPN_E_POLICY: not for
 * `uid`, and `reply` has an "error" that says whom to ask, and "code" "refused"; else what the
 * function returned.
 */
int command_table_answer(const command_row *rows, size_t count, const command_owners *owners,
                         void *program, const json_t *request, uid_t uid, json_t *reply);

#endif
