#include "core/measure.h"

#include <string.h>

#include "base/error.h"

/* A circuit of one hop is there in two round trips; resending included. */
#define BUILD_TIME MVPN_S(5)
#define RTT_TIME MVPN_S(1)
#define RTT_TRIES 3
/* All trains of one relay, waiting included: its users are disturbed no longer. */
#define TRAINS_TIME MVPN_S(5)
/* Cells of one call at most: what a millisecond of the highest rate needs, and a late wake-up. */
#define BURST_MAX 256
#define PACE_STEP MVPN_MS(1)
/* More waiting than this means that our own socket is full: it must not be measured, nor may the
 * packets of the pool run out. */
#define OUT_MAX 1024
#define POOL_SHARE 4
/* A train is carried if so many percent of its rate arrive. */
#define CARRIED_PERCENT 70
/* Answers are waited for as long as they may take behind a slow queue. */
#define ANSWER_TIME MVPN_MS(300)

static void finish(mvpn_measure *m, int error, mvpn_time now)
{
    m->error = error;
    m->state = MVPN_MEASURE_DONE;
    m->next_at = MVPN_TIME_NEVER;
    mvpn_circuit_close(&m->circuit, error, MVPN_REASON_FINISHED, 0, now);
    mvpn_wipe(&m->token_key, sizeof(m->token_key));
}

void mvpn_measure_start(mvpn_measure *m, const mvpn_circuit_env *env, const mvpn_ed25519_pub *relay,
                        bool wants_bandwidth, mvpn_time now)
{
    mvpn_path path = {.count = 1, .hop = {*relay}};
    *m = (mvpn_measure){
        .state = MVPN_MEASURE_BUILD,
        .env = env,
        .wants_bandwidth = wants_bandwidth,
        .began = now,
        .next_at = now + BUILD_TIME,
    };
    int r = mvpn_circuit_start(&m->circuit, env, &path, now);
    if (r != 0) {
        finish(m, r, now);
    }
}

bool mvpn_measure_is_for(const mvpn_measure *m, const mvpn_link *link, const mvpn_header *header)
{
    return m->state != MVPN_MEASURE_DONE && m->circuit.link == link &&
           memcmp(m->circuit.in.b, header->circuit.b, sizeof(header->circuit.b)) == 0;
}

/* ---- trains ---- */

static uint64_t token_of(const mvpn_measure *m, uint32_t number)
{
    uint8_t in[4];
    mvpn_store32(in, number);
    /* The number in front, so that an answer names its ping; what a relay would have to guess is
     * behind it. */
    return (uint64_t)(number + 1) << 48 | mvpn_siphash(&m->token_key, in, sizeof(in)) >> 16;
}

static void begin_train(mvpn_measure *m, uint32_t kbit, mvpn_time now)
{
    uint32_t amount =
        MVPN_MIN(MVPN_MAX(kbit * 1000 / 8 / 8, MVPN_MEASURE_BYTES_MIN), MVPN_MEASURE_BYTES_MAX);
    mvpn_rng_bytes(m->env->rng, m->token_key.b, sizeof(m->token_key.b));
    m->kbit = kbit;
    bool is_short = amount <= MVPN_MEASURE_SHORT;
    m->group = is_short ? MVPN_MEASURE_PING_EVERY_SHORT : MVPN_MEASURE_PING_EVERY;
    m->cells = amount / MVPN_MEASURE_CELL / m->group * m->group;
    m->sent = 0;
    m->pings = 0;
    m->answered = 0;
    m->train_began = now;
    m->last_sent = now;
    m->last_pong = now;
    memset(m->seen, 0, sizeof(m->seen));
    m->state = MVPN_MEASURE_TRAIN;
    m->next_at = now;
}

static uint32_t rate_of(uint64_t bytes, mvpn_time span)
{
    uint64_t kbit = bytes * 8 * 1000 / MVPN_MAX(span, (mvpn_time)1);
    return (uint32_t)MVPN_MIN(kbit, (uint64_t)UINT32_MAX);
}

/*
 * What of the train arrived, by the time that it took. The round trip is taken off the end, but
 * never more than sending took: who holds answers back gains nothing by it.
 */
static void judge_train(mvpn_measure *m, mvpn_time now)
{
    uint64_t sent_bytes = (uint64_t)m->sent * MVPN_MEASURE_CELL;
    mvpn_time sending = m->last_sent - m->train_began;
    mvpn_time until_pong = m->last_pong - m->train_began;
    mvpn_time taken = until_pong > m->rtt_us ? until_pong - m->rtt_us : 0;
    uint32_t send_rate = rate_of(sent_bytes, sending);
    uint32_t arrived = 0;
    if (m->answered > 0) {
        arrived = rate_of(sent_bytes * m->answered / m->pings, MVPN_MAX(taken, sending));
    }
    m->result_kbit = MVPN_MAX(m->result_kbit, arrived);
    bool is_carried = (uint64_t)arrived * 100 >= (uint64_t)send_rate * CARRIED_PERCENT;
    bool are_we_slow = (uint64_t)send_rate * 100 < (uint64_t)m->kbit * CARRIED_PERCENT;
    if (!is_carried || are_we_slow || m->kbit >= MVPN_MEASURE_KBIT_MAX ||
        now - m->trains_began >= TRAINS_TIME) {
        finish(m, 0, now);
        return;
    }
    begin_train(m, m->kbit * 2, now);
}

/* Send what is due at the train's rate. */
static void send_due(mvpn_measure *m, mvpn_time now)
{
    const mvpn_circuit_env *env = m->env;
    uint64_t due = (now - m->train_began) * m->kbit / 8000 / MVPN_MEASURE_CELL + 1;
    due = MVPN_MIN(due, m->cells);
    for (unsigned i = 0; m->sent < due && i < BURST_MAX; i++) {
        bool is_crowded = env->pool->free_count < env->pool->size / POOL_SHARE ||
                          mvpn_links_out(env->links)->count > OUT_MAX;
        if (is_crowded) {
            break;
        }
        if (m->sent % m->group == 0) {
            m->ping_at = m->sent + mvpn_rng_below(env->rng, m->group);
        }
        bool is_ping = m->sent == m->ping_at;
        int r = mvpn_circuit_probe(&m->circuit, 1, is_ping ? token_of(m, m->pings) : 0, now);
        if (mvpn_error_is_close(r)) {
            finish(m, r, now);
            return;
        }
        if (r != 0) {
            break; /* no packet just now */
        }
        m->sent++;
        m->pings += is_ping;
        m->bytes += MVPN_MEASURE_CELL;
        m->last_sent = now;
    }
}

static void take_pong(mvpn_measure *m, uint64_t token, mvpn_time now)
{
    uint64_t number = (token >> 48) - 1; /* 0 in front: a huge number */
    if (m->state != MVPN_MEASURE_TRAIN || number >= m->pings ||
        token != token_of(m, (uint32_t)number) || (m->seen[number / 8] & 1u << number % 8) != 0) {
        return;
    }
    m->seen[number / 8] |= (uint8_t)(1u << number % 8);
    m->answered++;
    m->last_pong = now;
}

static void train_step(mvpn_measure *m, mvpn_time now)
{
    if (m->sent < m->cells && now - m->trains_began < TRAINS_TIME) {
        send_due(m, now);
        m->next_at = m->state == MVPN_MEASURE_DONE ? MVPN_TIME_NEVER : now + PACE_STEP;
        return;
    }
    mvpn_time until = MVPN_MAX(m->last_sent, m->last_pong) + 3 * (mvpn_time)m->rtt_us + ANSWER_TIME;
    until = MVPN_MIN(until, MVPN_MAX(m->trains_began + TRAINS_TIME, m->last_sent + ANSWER_TIME));
    if (m->pings == 0 || m->answered == m->pings || now >= until) {
        judge_train(m, now);
    } else {
        m->next_at = until;
    }
}

/* ---- the stages before ---- */

static void ping(mvpn_measure *m, mvpn_time now)
{
    m->state = MVPN_MEASURE_RTT;
    m->rtt_tries++;
    m->next_at = now + RTT_TIME;
    mvpn_circuit_ping(&m->circuit, 1, now);
}

/* The circuit may have changed. */
static void look(mvpn_measure *m, mvpn_time now)
{
    mvpn_circuit *c = &m->circuit;
    if (c->state == MVPN_CIRCUIT_CLOSED) {
        /* Who refuses is there. */
        m->is_alive |= c->error == MVPN_E_REFUSED;
        finish(m, c->error, now);
    } else if (m->state == MVPN_MEASURE_BUILD && c->state == MVPN_CIRCUIT_READY) {
        m->is_alive = true;
        m->rtt_us = mvpn_link_rtt_us(c->link);
        if (m->wants_bandwidth) {
            ping(m, now);
        } else {
            finish(m, 0, now);
        }
    } else if (m->state == MVPN_MEASURE_RTT && c->pings_out == 0) {
        m->rtt_us = m->rtt_us == 0 ? c->rtt_us : MVPN_MIN(m->rtt_us, c->rtt_us);
        m->trains_began = now;
        begin_train(m, MVPN_MEASURE_KBIT_FIRST, now);
    }
}

void mvpn_measure_message(mvpn_measure *m, const mvpn_header *header, mvpn_packet *packet,
                          mvpn_time now)
{
    mvpn_packet_queue none;
    mvpn_packet_queue_init(&none);
    m->circuit.probe_pong = 0;
    mvpn_circuit_message(&m->circuit, header, packet, now, &none);
    mvpn_packet_queue_clear(&none, m->env->pool); /* no session: there can be none */
    if (m->circuit.probe_pong != 0) {
        take_pong(m, m->circuit.probe_pong, now);
    }
    look(m, now);
    if (m->state == MVPN_MEASURE_TRAIN && m->answered == m->pings && m->sent == m->cells) {
        m->next_at = now;
    }
}

void mvpn_measure_link_closed(mvpn_measure *m, const mvpn_link *link, mvpn_time now)
{
    if (m->state != MVPN_MEASURE_DONE && m->circuit.link == link) {
        mvpn_circuit_link_closed(&m->circuit, now);
        look(m, now);
    }
}

void mvpn_measure_tick(mvpn_measure *m, mvpn_time now)
{
    if (now < m->next_at) {
        return;
    }
    switch (m->state) {
    case MVPN_MEASURE_BUILD:
        finish(m, MVPN_E_TIMEOUT, now);
        break;
    case MVPN_MEASURE_RTT:
        if (m->rtt_tries >= RTT_TRIES) {
            finish(m, MVPN_E_TIMEOUT, now);
        } else {
            ping(m, now);
            look(m, now);
        }
        break;
    case MVPN_MEASURE_TRAIN:
        train_step(m, now);
        break;
    case MVPN_MEASURE_DONE:
        break;
    }
}

mvpn_time mvpn_measure_deadline(const mvpn_measure *m)
{
    return m->state == MVPN_MEASURE_DONE ? MVPN_TIME_NEVER : m->next_at;
}

void mvpn_measure_stop(mvpn_measure *m, mvpn_time now)
{
    if (m->state != MVPN_MEASURE_DONE) {
        finish(m, MVPN_E_CLOSED, now);
    }
}
