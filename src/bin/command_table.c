#include "bin/command_table.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"

void command_owners_init(command_owners *ret, const mvpn_config_client *config)
{
    *ret = (command_owners){.starter = getuid(), .count = config->operator_count};
    for (unsigned i = 0; i < config->operator_count; i++) {
        ret->operators[i].uid = config->operators[i].uid;
        (void)snprintf(ret->operators[i].name, sizeof(ret->operators[i].name), "%s",
                       config->operators[i].name);
    }
}

bool command_is_allowed(const command_owners *owners, uid_t uid)
{
    bool is_allowed = uid == 0 || uid == owners->starter;
    for (unsigned i = 0; i < owners->count; i++) {
        is_allowed = is_allowed || owners->operators[i].uid == uid;
    }
    return is_allowed;
}

/* In the sandbox no user can be looked up: names are those of the start. */
static int refuse(const command_owners *owners, const char *name, uid_t uid, json_t *reply)
{
    char text[256 + MVPN_CONFIG_OPERATORS_MAX * (MVPN_CONFIG_USER_MAX + 3)];
    size_t n = (size_t)snprintf(text, sizeof(text),
                                "'%.32s' changes what the client does, and uid %u may not: root, ",
                                name, (unsigned)uid);
    if (owners->starter != 0) {
        n += (size_t)snprintf(text + n, sizeof(text) - n, "uid %u who started it, ",
                              (unsigned)owners->starter);
    }
    n += (size_t)snprintf(text + n, sizeof(text) - n, "and its operators may (");
    for (unsigned i = 0; i < owners->count; i++) {
        n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%s", i > 0 ? ", " : "",
                              owners->operators[i].name);
    }
    (void)snprintf(text + n, sizeof(text) - n,
                   "%s). Use sudo, or ask root to add your name to operators in the client's "
                   "configuration",
                   owners->count == 0 ? "there are none" : "");
    (void)json_object_set_new(reply, "error", json_string(text));
    (void)json_object_set_new(reply, "code", json_string("refused"));
    return MVPN_E_POLICY;
}

int command_table_answer(const command_row *rows, size_t count, const command_owners *owners,
                         void *program, const json_t *request, uid_t uid, json_t *reply)
{
    const char *name = json_string_value(json_object_get(request, "cmd"));
    for (size_t i = 0; i < count; i++) {
        if (strcmp(rows[i].name, name) == 0) {
            return rows[i].changes && !command_is_allowed(owners, uid)
                       ? refuse(owners, name, uid, reply)
                       : rows[i].function(program, request, reply);
        }
    }
    return MVPN_E_UNKNOWN;
}
