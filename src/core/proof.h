/*
 * Does the tunnel carry what it should, and nothing pass it? The client asks after connecting, by
 * ordinary sockets, so that the host's own routes and filters are what is tested, and this says
 * what the answers prove. (docs/threat-model.md "The proof")
 *
 * Pure: io/prover has the sockets. Witnesses are relays of other operators than the exit's, which
 * say by STUN what address they saw.
 */
#ifndef MVPN_CORE_PROOF_H
#define MVPN_CORE_PROOF_H

#include "base/addr.h"
#include "core/guard.h"
#include "core/path.h"

/* Two who do not know each other: one of them may lie. */
#define MVPN_PROOF_WITNESSES 2
/* Addresses of the host that are compared: more than any host has that is not a router. */
#define MVPN_PROOF_OWN_MAX 64

enum mvpn_proof_verdict {
    MVPN_PROOF_UNKNOWN, /* not tested: nobody to ask, or nothing to test */
    MVPN_PROOF_HOLDS,
    MVPN_PROOF_FAILS,
};

/* What became of a packet. */
enum mvpn_proof_packet {
    MVPN_PROOF_NOT_TRIED,
    MVPN_PROOF_REFUSED, /* by the kernel or the tunnel, at once */
    MVPN_PROOF_PASSED,  /* nobody refused it */
};

/* What the witnesses of one family saw. */
typedef struct mvpn_proof_testimony {
    unsigned asked, answered;
    mvpn_addr seen[MVPN_PROOF_WITNESSES]; /* `answered` of them */
} mvpn_proof_testimony;

typedef struct mvpn_proof_observation {
    mvpn_proof_testimony v4, v6;
    mvpn_addr exit_v4, exit_v6;        /* as the exit published them; family 0: not */
    mvpn_addr own[MVPN_PROOF_OWN_MAX]; /* of the host, outside the tunnel */
    size_t own_count;
    /* The address that the host's routes give packets to the internet, and what it should be: the
     * tunnel's. Family 0: not looked at, or they lead nowhere. */
    mvpn_addr way_v4, way_v6, tun_v4, tun_v6;
    bool dns_asked, dns_answered;
    bool carries_v6;
    enum mvpn_proof_packet v6_packet;        /* an ordinary one, where IPv6 is not carried */
    bool has_kill_switch;                    /* one is wanted */
    enum mvpn_proof_packet past_v4, past_v6; /* around the tunnel */
} mvpn_proof_observation;

typedef struct mvpn_proof {
    enum mvpn_proof_verdict exit_address, dns, ipv6, kill_switch;
    bool is_astray;     /* routes lead past the tunnel, whatever witnesses say */
    unsigned witnesses; /* of the exit's address, that answered */
    mvpn_addr seen;     /* by them, if they agree; family 0: nothing */
    bool carries_v6;
    mvpn_addr seen_v6;
} mvpn_proof;

/** What this proves. */
void mvpn_proof_judge(const mvpn_proof_observation *o, mvpn_proof *ret);

/** All that could be tested holds, and something could. */
bool mvpn_proof_holds(const mvpn_proof *proof);

/**
 * Up to MVPN_PROOF_WITNESSES relays that answer STUN in `family`, by chance: of other operators,
 * providers and network blocks than the exit's (the last hop of `path`) and each other's, as far as
 * `relax` does not waive that. None of `path`, and none of `guards` (NULL: none): who sees this
 * host's address must not learn from a question at what exit it is. Returns how many.
 */
size_t mvpn_proof_witnesses(const mvpn_view *view, const mvpn_path *path, const mvpn_guards *guards,
                            unsigned relax, uint8_t family, mvpn_rng *rng,
                            mvpn_addr ret[static MVPN_PROOF_WITNESSES]);

#endif
