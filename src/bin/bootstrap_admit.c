/*
 * meshvpn-bootstrap admit: a membership for a relay whose keys somebody else made and keeps, who
 * asked by a file (relay_request.h). Its name is from then on taken, and revoke knows it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/error.h"
#include "bin/bootstrap.h"
#include "bin/relay_request.h"
#include "io/clock.h"
#include "io/random.h"

#define DAYS_DEFAULT 365
#define BACKDATE_S 3600u

static int read_request(const char *file, const network *net, relay_request *ret, mvpn_fault *fault)
{
    uint8_t bytes[RELAY_REQUEST_LEN];
    size_t lines;
    int rc =
        mvpn_keyfile_read(file, RELAY_REQUEST_TYPE, false, bytes, sizeof(bytes), 1, &lines, fault);
    if (rc != 0) {
        return rc;
    }
    rc = relay_request_decode(ret, bytes, &net->file.network_id, mvpn_clock_unix());
    const char *why = rc == MVPN_E_AUTH     ? "is of another network, or was altered"
                      : rc == MVPN_E_POLICY ? "asks for what is not a relay's"
                      : rc == MVPN_E_EXPIRED
                          ? "is too old, or a clock is wrong: meshvpn relay enable makes a new one"
                          : "is no request";
    return rc == 0 ? 0 : mvpn_fault_set(fault, rc, "%s %s. Nothing was changed", file, why);
}

/* Whoever has a name keeps it: revoke goes by names. */
static int check_name(const arguments *args, const network *net, const char *name,
                      mvpn_fault *fault)
{
    issued *list = NULL;
    size_t count = 0;
    bool is_taken = path_exists(path_of("%s/nodes/%s", args->dir, name).text);
    int rc = issued_load(args->dir, &list, &count, fault);
    for (size_t i = 0; rc == 0 && i < count; i++) {
        bool holds = mvpn_clock_unix() <= list[i].not_after &&
                     !mvpn_revocations_has(&net->file.revocations, list[i].serial);
        is_taken = is_taken || (holds && !args->is_forced && strcmp(list[i].node, name) == 0);
    }
    free(list);
    return rc != 0 || !is_taken
               ? rc
               : mvpn_fault_set(fault, MVPN_E_POLICY,
                                "there is a node %s already: nothing was changed. Let it ask again "
                                "under another name (meshvpn relay enable --name), or revoke the "
                                "old one first; if it is the same relay, whose membership ends, "
                                "--force gives it another",
                                name);
}

static int sign(const arguments *args, const network *net, const relay_request *request,
                const char *output, mvpn_fault *fault)
{
    uint8_t membership[MVPN_MEMBERSHIP_LEN];
    mvpn_rng rng;
    uint64_t now = mvpn_clock_unix();
    unsigned long days = args->days > 0 ? args->days : DAYS_DEFAULT;
    issued certificate = {.not_after = now + days * BOOTSTRAP_DAY_S};
    if (mvpn_random_seed(&rng) != 0) {
        return mvpn_fault_set(fault, MVPN_E_SYSTEM, "the system gives no random numbers");
    }
    while (certificate.serial == 0) {
        mvpn_rng_bytes(&rng, (uint8_t *)&certificate.serial, sizeof(certificate.serial));
    }
    mvpn_rng_done(&rng);
    memcpy(certificate.node, request->name, sizeof(certificate.node));
    int rc = issued_add(args->dir, &certificate, fault);
    if (rc != 0) {
        return rc;
    }
    mvpn_membership_make(membership, &net->secret_key, &request->link.identity, request->roles,
                         now - BACKDATE_S, certificate.not_after, certificate.serial,
                         &net->file.network_id);
    return mvpn_keyfile_write(output, MVPN_KEYFILE_MEMBERSHIP, false, membership,
                              sizeof(membership), 1, fault);
}

static int admit(const arguments *args, const char *file, const network *net, mvpn_fault *fault)
{
    char identity[MVPN_BASE64_LEN(32)];
    relay_request request;
    if (!net->file.is_closed) {
        return mvpn_fault_set(fault, MVPN_E_POLICY,
                              "the network is open: its relays need nobody's permission");
    }
    int rc = read_request(file, net, &request, fault);
    rc = rc != 0 ? rc : check_name(args, net, request.name, fault);
    if (rc != 0) {
        return rc;
    }
    path output =
        args->output != NULL ? path_of("%s", args->output) : path_of("%s.membership", request.name);
    rc = sign(args, net, &request, output.text, fault);
    if (rc == 0) {
        (void)printf(
            "Admitted %s as %s, identity %s.\n"
            "Send it %s, which is no secret. There: sudo meshvpn relay enable --certificate FILE\n",
            request.name, (request.roles & MVPN_ROLE_EXIT) != 0 ? "an exit" : "a relay",
            mvpn_base64_encode(identity, sizeof(identity),
                               MVPN_BYTES_ARRAY(request.link.identity.b)),
            output.text);
    }
    return rc;
}

int command_admit(const options_given *given)
{
    arguments args;
    mvpn_fault fault;
    network net;
    options_given without_file = *given; /* the second operand is no name */
    without_file.operands[1] = NULL;
    int rc = arguments_parse(&args, &without_file);
    if (rc != 0) {
        return rc;
    }
    if (network_open(args.dir, &net, &fault) != 0) {
        return bootstrap_fail(&fault);
    }
    MVPN_ASSERT(given->operands[1] != NULL);
    rc = admit(&args, given->operands[1], &net, &fault);
    network_done(&net);
    return rc == 0 ? EXIT_SUCCESS : bootstrap_fail(&fault);
}
