/*
 * Fresh keys within a link. (docs/protocol.md §4.4)
 *
 *   initiator                               responder
 *   LinkRekey (epoch n)          ------>    next = n + 1, keys only
 *   cur = n + 1, prev = n        <------    LinkRekeyed (epoch n)
 *   anything (epoch n + 1)       ------>    cur = n + 1, prev = n
 *   both wipe epoch n 10 s after their own switch
 */
#include <stdlib.h>

#include "base/assert.h"
#include "network/p2p/internal.h"

#define RETRY MVPN_S(1)

static void session_timer(struct session *s, enum session_timer t, mvpn_time at)
{
    mvpn_timer_set(&s->links->timers, &s->timers[t], at);
}

static void noise_init(struct session *s, mvpn_noise *hs, enum mvpn_noise_role role)
{
    mvpn_links *links = s->links;
    const mvpn_links_config *c = &links->config;
    const mvpn_ed25519_pub *responder = s->is_initiator ? &s->peer_identity : &c->identity;
    const mvpn_key *responder_key = s->is_initiator ? &s->peer_key : &c->link_key.pub;
    uint8_t prologue[MVPN_PROLOGUE_REKEY_LEN];
    mvpn_prologue_encode(prologue, MVPN_SUITE_X25519, MVPN_PURPOSE_REKEY, &c->network_id, responder,
                         responder_key);
    memcpy(prologue + MVPN_PROLOGUE_LEN, s->handshake_hash.b, sizeof(s->handshake_hash.b));
    bool needs_own = s->is_ik || role == MVPN_NOISE_RESPONDER;
    const mvpn_noise_config config = {
        .pattern = s->is_ik ? (c->closed ? MVPN_NOISE_IK_PSK0 : MVPN_NOISE_IK)
                            : (c->closed ? MVPN_NOISE_NK_PSK0 : MVPN_NOISE_NK),
        .role = role,
        .prologue = MVPN_BYTES_ARRAY(prologue),
        .s = needs_own ? &c->link_key : NULL,
        .rs = role == MVPN_NOISE_INITIATOR ? &s->peer_key : NULL,
        .psk = c->closed ? &links->psk : NULL,
    };
    mvpn_noise_init(hs, c->aead, &config);
}

static int rotation_begin(struct session *s)
{
    s->rotation = s->rotation != NULL ? s->rotation : calloc(1, sizeof(*s->rotation));
    return s->rotation != NULL ? 0 : MVPN_E_NOMEM;
}

void rekey_forget(struct session *s)
{
    if (s->rotation != NULL) {
        epoch_wipe(&s->rotation->prev);
        epoch_wipe(&s->rotation->next);
        mvpn_wipe(s->rotation, sizeof(*s->rotation));
        free(s->rotation);
        s->rotation = NULL;
    }
}

void rekey_time_is_over(struct session *s)
{
    if (s->is_rekeying || s->rotation->next.live) {
        epoch_wipe(&s->rotation->prev);
    } else {
        rekey_forget(s);
    }
}

bool rekey_overlaps(const struct session *s)
{
    return s->rotation != NULL && s->rotation->prev.live;
}

void rekey_schedule(struct session *s, mvpn_time now)
{
    if (s->is_initiator && s->state == SESSION_OPEN && !s->is_rekeying && !s->is_rekey_due) {
        s->is_rekey_due = true;
        session_timer(s, TIMER_REKEY, now);
    }
}

void rekey_begin(struct session *s, mvpn_time now)
{
    if (s->is_rekeying) {
        return;
    }
    /* Three epochs at once cannot be told apart from what is left of the one before. */
    if (rekey_overlaps(s)) {
        session_timer(s, TIMER_REKEY, s->timers[TIMER_EPOCH].at + 1);
        return;
    }
    uint8_t message[MVPN_HANDSHAKE_LEN];
    size_t n = 0;
    int err = rotation_begin(s);
    if (err == 0) {
        noise_init(s, &s->rotation->noise, MVPN_NOISE_INITIATOR);
        err = mvpn_noise_write(&s->rotation->noise, message, sizeof(message), &n, MVPN_BYTES_NONE,
                               s->links->config.rng);
    }
    if (err == 0) {
        err = reliable_command(s->link, MVPN_CMD_LINK_REKEY, mvpn_bytes_of(message, n), now);
    }
    if (err != 0) {
        rekey_forget(s);
        session_timer(s, TIMER_REKEY, now + RETRY);
        return;
    }
    s->is_rekeying = true;
}

static void keys_from(struct session *s, const mvpn_noise *hs, struct epoch *ret)
{
    mvpn_key send, recv;
    mvpn_noise_split(hs, &send, &recv);
    *ret = (struct epoch){.live = true, .number = s->cur.number + 1};
    epoch_keys(ret, &send, &recv);
    s->handshake_hash = *mvpn_noise_hash(hs);
    mvpn_wipe(&send, sizeof(send));
    mvpn_wipe(&recv, sizeof(recv));
}

void rekey_promote(struct session *s, mvpn_time now)
{
    struct rotation *r = s->rotation;
    MVPN_ASSERT(r->next.live && !r->prev.live);
    r->prev = s->cur; /* with its window */
    s->cur = r->next;
    mvpn_wipe(&r->next, sizeof(r->next));
    s->is_rekeying = false;
    s->is_rekey_due = false;
    s->has_received_epoch = false;
    session_timer(s, TIMER_EPOCH, now + EPOCH_OVERLAP);
    connid_take_fresh(s->route);
    s->links->counters.rekeys++;
    if (s->is_initiator) {
        session_timer(s, TIMER_REKEY,
                      now +
                          mvpn_rng_jitter(s->links->config.rng, s->links->config.rekey_after, 25));
    }
}

int rekey_request(struct session *s, mvpn_bytes body, mvpn_time now)
{
    bool is_asked_again = s->rotation != NULL && s->rotation->next.live;
    if (s->is_initiator || s->state != SESSION_OPEN || is_asked_again) {
        return MVPN_E_PROTOCOL;
    }
    if (rekey_overlaps(s)) {
        return MVPN_E_LIMIT; /* one in 10 s: a peer that only rekeys is expensive. It asks again */
    }
    mvpn_noise hs;
    uint8_t message[MVPN_HANDSHAKE_LEN];
    size_t n = 0;
    noise_init(s, &hs, MVPN_NOISE_RESPONDER);
    int err = mvpn_noise_read(&hs, message, sizeof(message), &n, body);
    if (err == 0 && n != 0) {
        err = MVPN_E_FORMAT;
    }
    if (err == 0 && s->is_ik && !mvpn_key_eq(mvpn_noise_remote_static(&hs), &s->peer_key)) {
        err = MVPN_E_AUTH;
    }
    if (err != 0) {
        mvpn_noise_done(&hs);
        return MVPN_E_PROTOCOL;
    }
    err = rotation_begin(s);
    if (err != 0) {
        mvpn_noise_done(&hs);
        return err; /* not acknowledged: it asks again */
    }
    err =
        mvpn_noise_write(&hs, message, sizeof(message), &n, MVPN_BYTES_NONE, s->links->config.rng);
    if (err == 0) {
        err = reliable_command(s->link, MVPN_CMD_LINK_REKEYED, mvpn_bytes_of(message, n), now);
    }
    if (err == 0) {
        keys_from(s, &hs, &s->rotation->next);
    } else {
        rekey_forget(s);
    }
    mvpn_noise_done(&hs);
    return err;
}

int rekey_answer(struct session *s, mvpn_bytes body, mvpn_time now)
{
    if (!s->is_initiator || !s->is_rekeying) {
        return MVPN_E_PROTOCOL;
    }
    uint8_t payload[MVPN_HANDSHAKE_LEN];
    size_t n = 0;
    mvpn_noise *noise = &s->rotation->noise;
    int err = mvpn_noise_read(noise, payload, sizeof(payload), &n, body);
    if (err != 0 || n != 0) {
        return MVPN_E_PROTOCOL;
    }
    keys_from(s, noise, &s->rotation->next);
    mvpn_noise_done(noise);
    rekey_promote(s, now);
    /* The responder switches when something of the new epoch reaches it: repeated until it answers
     * in it, for an idle link would go on under keys that we wipe. */
    link_ping(s->link, now);
    session_timer(s, TIMER_ALIVE, now);
    return 0;
}
