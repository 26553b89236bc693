/*
 * Requests at a control socket: [who 1] [line]. Whatever the line is, there is one reply, which
 * fits; who may not change anything does not, and is told so.
 */
#include <stdlib.h>

#include "base/error.h"
#include "bin/command_table.h"
#include "fuzz/fuzz.h"
#include "io/control.h"

#define STARTER 1000
#define OPERATOR 2000

typedef struct calls {
    unsigned reads, changes;
} calls;

/* As commands do that take words, numbers and lists. */
static int read_it(void *program, const json_t *request, json_t *reply)
{
    calls *c = program;
    const json_t *value;
    const char *key;
    json_object_foreach((json_t *)request, key, value)
    {
        (void)json_object_set(reply, key, (json_t *)value); /* the most that can be given back */
    }
    (void)json_object_del(reply, "error");
    c->reads++;
    return 0;
}

static int change_it(void *program, const json_t *request, json_t *reply)
{
    calls *c = program;
    const json_t *hops = json_object_get(request, "hops");
    (void)reply;
    c->changes++;
    return json_is_integer(hops) && json_integer_value(hops) > 0 ? 0 : MVPN_E_INVAL;
}

static const command_row rows[] = {
    {"status", read_it, false}, {"exits", read_it, false},     {"down", change_it, true},
    {"hops", change_it, true},  {"exit-use", change_it, true},
};

typedef struct daemon {
    command_owners owners;
    calls calls;
} daemon;

static int answer(void *ctx, const json_t *request, uid_t uid, json_t *reply)
{
    daemon *d = ctx;
    return command_table_answer(rows, MVPN_ARRAY_LEN(rows), &d->owners, &d->calls, request, uid,
                                reply);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uid_t uids[] = {0, STARTER, OPERATOR, 3000, (uid_t)-1};
    daemon d = {.owners = {.starter = STARTER,
                           .count = 1,
                           .operators = {{.uid = OPERATOR, .name = "alice"}}}};
    if (size < 1 || size > MVPN_CONTROL_REQUEST) {
        return 0;
    }
    size_t who = data[0] % MVPN_ARRAY_LEN(uids);
    json_t *reply = mvpn_control_answer(answer, &d, uids[who], (const char *)data + 1, size - 1);
    FUZZ_CHECK(json_is_object(reply));
    const char *code = json_string_value(json_object_get(reply, "code"));
    const char *error = json_string_value(json_object_get(reply, "error"));
    FUZZ_CHECK(d.calls.reads + d.calls.changes <= 1);
    FUZZ_CHECK(d.calls.changes == 0 || who < 3);
    FUZZ_CHECK(error != NULL || d.calls.reads + d.calls.changes == 1);
    if (who < 3 && d.calls.reads == 0) {
        FUZZ_CHECK(code == NULL || strcmp(code, "refused") != 0);
    }
    char *text = json_dumps(reply, JSON_COMPACT);
    /* An escape takes six characters for one. */
    FUZZ_CHECK(text != NULL && strlen(text) <= 6 * MVPN_CONTROL_REQUEST + 1024 &&
               strchr(text, '\n') == NULL);
    free(text);
    json_decref(reply);
    return 0;
}
