#include "bin/client_control.h"

#include <unistd.h>

#include "base/error.h"
#include "bin/client_protection.h"
#include "bin/client_split.h"
#include "io/clock.h"
#include "io/ping.h"
#include "io/silence.h"
#include "io/status.h"
#include "io/status_exits.h"
#include "io/status_lists.h"
#include "io/status_stages.h"

static int ping(void *program, const json_t *request, json_t *reply)
{
    client_program *p = program;
    return mvpn_ping_request(p->node, NULL, request, mvpn_clock_now(), reply);
}

static int new_identity(void *program, const json_t *request, json_t *reply)
{
    client_program *p = program;
    mvpn_engine *engine = mvpn_node_engine(p->node);
    mvpn_client_status status;
    (void)request;
    mvpn_client_get_status(mvpn_engine_client(engine), &status);
    if (status.session_since == 0) {
        (void)json_object_set_new(reply, "error",
                                  json_string("not connected yet: there is no identity to change"));
        return MVPN_E_STATE;
    }
    mvpn_engine_new_identity(engine, mvpn_clock_now());
    return json_object_set_new(reply, "ok", json_true()) == 0 ? 0 : MVPN_E_NOMEM;
}

/* The end, as after SIGTERM. */
static int down(void *program, const json_t *request, json_t *reply)
{
    client_program *p = program;
    (void)request;
    mvpn_logf(&p->cli.log, MVPN_LOG_INFO, "ending: asked to by the control socket");
    mvpn_loop_stop(p->loop);
    (void)json_object_set_new(reply, "lockdown", json_boolean(p->cli.config.client.lockdown));
    (void)json_object_set_new(reply, "pid", json_integer(getpid())); /* its end is the end */
    return json_object_set_new(reply, "ok", json_true()) == 0 ? 0 : MVPN_E_NOMEM;
}

static int reconnect(void *program, const json_t *request, json_t *reply)
{
    client_program *p = program;
    (void)request;
    mvpn_engine_reconnect(mvpn_node_engine(p->node), mvpn_clock_now());
    return json_object_set_new(reply, "ok", json_true()) == 0 ? 0 : MVPN_E_NOMEM;
}

static int set_hops(void *program, const json_t *request, json_t *reply)
{
    client_program *p = program;
    const json_t *hops = json_object_get(request, "hops");
    json_int_t n = json_is_integer(hops) ? json_integer_value(hops) : 0;
    int r = n < 1 || n > MVPN_HOPS_MAX
                ? MVPN_E_INVAL
                : mvpn_engine_set_hops(mvpn_node_engine(p->node), (unsigned)n, mvpn_clock_now());
    if (r == 0) {
        p->client.hops = (unsigned)n;
        return json_object_set_new(reply, "ok", json_true()) == 0 ? 0 : MVPN_E_NOMEM;
    }
    (void)json_object_set_new(reply, "error",
                              json_string(r == MVPN_E_STATE
                                              ? "the configuration fixes the path, and so its hops"
                                              : "hops is a number from 1 to 5"));
    return r;
}

static int circuits(void *program, const json_t *request, json_t *reply)
{
    client_program *p = program;
    (void)request;
    mvpn_status_circuits(reply, mvpn_node_engine(p->node), mvpn_clock_now());
    return 0;
}

static int exits(void *program, const json_t *request, json_t *reply)
{
    client_program *p = program;
    return mvpn_status_exits(reply, mvpn_node_engine(p->node), &p->exits, request,
                             mvpn_clock_now());
}

static int events(void *program, const json_t *request, json_t *reply)
{
    client_program *p = program;
    return mvpn_event_ring_tell(&p->events, request, reply);
}

static int exit_suggest(void *program, const json_t *request, json_t *reply)
{
    client_program *p = program;
    return mvpn_status_suggestions(reply, mvpn_node_engine(p->node), &p->exits, request,
                                   mvpn_clock_now());
}

static int exit_use(void *program, const json_t *request, json_t *reply)
{
    client_program *p = program;
    return mvpn_client_exits_use(&p->exits, mvpn_node_engine(p->node), request, mvpn_clock_now(),
                                 reply);
}

static int exit_block(void *program, const json_t *request, json_t *reply)
{
    client_program *p = program;
    return mvpn_client_exits_block(&p->exits, mvpn_node_engine(p->node), request, mvpn_clock_now(),
                                   reply);
}

static int exit_unblock(void *program, const json_t *request, json_t *reply)
{
    client_program *p = program;
    return mvpn_client_exits_unblock(&p->exits, mvpn_node_engine(p->node), request,
                                     mvpn_clock_now(), reply);
}

static int status(void *program, const json_t *request, json_t *reply)
{
    client_program *p = program;
    (void)request;
    mvpn_status_client(reply, mvpn_node_engine(p->node), p->client.hops, p->client.relax,
                       mvpn_clock_now());
    client_proxy_status(p->proxy, reply);
    (void)json_object_set_new(reply, "stages",
                              mvpn_status_stages(mvpn_engine_client(mvpn_node_engine(p->node)),
                                                 mvpn_node_was_never_heard(p->node),
                                                 mvpn_clock_now()));
    client_protection_status(p, reply);
    (void)json_object_set_new(reply, "split", client_split_status(p));
    client_proof_status(&p->proof, reply);
    (void)json_object_set_new(reply, "exit_choice",
                              mvpn_client_exits_status(&p->exits, mvpn_node_engine(p->node)));
    if (mvpn_node_is_unheard(p->node)) {
        (void)json_object_set_new(reply, "blocked_by", json_string(mvpn_silence_text()));
    }
    return 0;
}

/* The answer is in the status, when it is there. */
static int prove(void *program, const json_t *request, json_t *reply)
{
    client_program *p = program;
    (void)request;
    client_proof_ask(&p->proof);
    return json_object_set_new(reply, "ok", json_true()) == 0 ? 0 : MVPN_E_NOMEM;
}

const command_row client_commands[] = {
    {"status", status, false},
    {"circuits", circuits, false},
    {"exits", exits, false},
    {"ping", ping, false},
    {"prove", prove, false},
    {"new-identity", new_identity, true},
    {"events", events, false},
    {"exit-suggest", exit_suggest, false},
    {"exit-use", exit_use, true},
    {"exit-block", exit_block, true},
    {"exit-unblock", exit_unblock, true},
    {"outside", client_outside_command, true},
    {"down", down, true},
    {"reconnect", reconnect, true},
    {"hops", set_hops, true},
};
const size_t client_command_count = MVPN_ARRAY_LEN(client_commands);

int client_control_answer(void *program, const json_t *request, uid_t uid, json_t *reply)
{
    client_program *p = program;
    return command_table_answer(client_commands, client_command_count, &p->owners, p, request, uid,
                                reply);
}
