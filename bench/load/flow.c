#include "bench/load/flow.h"

#include <string.h>

#include "base/bytes.h"
#include "base/macros.h"
#include "network/ip/inner.h"

#define MAGIC 0x6d76706cu /* "mvpl" */
#define IP_LEN 20
#define HEADERS (IP_LEN + 8)
#define SMALL LOAD_PAYLOAD_MIN
#define INTERVAL MVPN_MS(50)
/* As TCP: what is overtaken by more than so many is lost. */
#define REORDER 3
#define SILENCE_MIN MVPN_MS(200)
/* An answer to an interactive packet that takes longer came too late. */
#define PATIENCE 40
#define WINDOW_FIRST 2
/* Made up for at once when the process was late: more would be a burst of our own making. */
#define BEHIND_MAX 32

static bool has_window(const load_flow *f)
{
    return f->config.kind == LOAD_BULK && f->config.kbit == 0;
}

static unsigned send_size(const load_flow *f)
{
    bool is_large = f->config.kind == LOAD_FLOOD ||
                    (f->config.kind == LOAD_BULK && f->config.direction != LOAD_DOWN);
    return is_large ? f->config.size : SMALL;
}

static unsigned reply_size(const load_flow *f)
{
    if (f->config.kind == LOAD_FLOOD) {
        return 0;
    }
    bool is_large = f->config.kind == LOAD_BULK && f->config.direction != LOAD_UP;
    return is_large ? f->config.size : SMALL;
}

static mvpn_time interval(const load_flow *f)
{
    if (f->config.kind == LOAD_INTERACTIVE) {
        return INTERVAL;
    }
    unsigned size = MVPN_MAX(send_size(f), reply_size(f));
    return MVPN_MAX((mvpn_time)size * 8000 / MVPN_MAX(f->config.kbit, 1u), (mvpn_time)1);
}

void load_flow_init(load_flow *flow, const load_flow_config *config, load_histogram *rtts)
{
    *flow = (load_flow){
        .config = *config, .rtts = rtts, .window = WINDOW_FIRST, .threshold = LOAD_WINDOW_MAX};
}

void load_flow_start(load_flow *f, double phase, mvpn_time now)
{
    if (f->config.kind == LOAD_IDLE || f->is_on) {
        return;
    }
    f->is_on = true;
    f->silent = now;
    f->next = now + (mvpn_time)(phase * (double)(has_window(f) ? INTERVAL : interval(f)));
}

void load_flow_stop(load_flow *f)
{
    f->is_on = false;
}

void load_flow_begin_count(load_flow *f)
{
    f->counts = (load_flow_counts){0};
    f->from = f->number;
}

/* ---- packets ---- */

static uint16_t header_sum(const uint8_t *b)
{
    uint32_t sum = 0;
    for (size_t i = 0; i < IP_LEN; i += 2) {
        sum += mvpn_load16(b + i);
    }
    sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t) ~(sum + (sum >> 16));
}

static size_t make_packet(const load_flow *f, uint8_t *b, mvpn_time now)
{
    size_t len = HEADERS + send_size(f);
    uint8_t *payload = b + HEADERS;
    memset(b, 0, len);
    b[0] = 0x45;
    mvpn_store16(b + 2, (uint16_t)len);
    b[8] = 64;
    b[9] = 17;
    memcpy(b + 12, mvpn_inner_client(4), 4);
    memcpy(b + 16, f->config.server.ip, 4);
    mvpn_store16(b + 10, header_sum(b));
    mvpn_store16(b + 20, LOAD_PORT);
    mvpn_store16(b + 22, f->config.server.port);
    mvpn_store16(b + 24, (uint16_t)(len - IP_LEN)); /* checksum 0: none */
    mvpn_store32(payload, MAGIC);
    mvpn_store32(payload + 4, f->config.client);
    mvpn_store64(payload + 8, f->number);
    mvpn_store64(payload + 16, now);
    mvpn_store16(payload + 24, (uint16_t)reply_size(f));
    return len;
}

size_t load_reply_len(const uint8_t *payload, size_t len)
{
    if (len < LOAD_PAYLOAD_MIN || mvpn_load32(payload) != MAGIC) {
        return 0;
    }
    size_t reply = mvpn_load16(payload + 24);
    return reply < LOAD_PAYLOAD_MIN ? 0 : MVPN_MIN(reply, (size_t)LOAD_PAYLOAD_MAX);
}

/* ---- what is on the way ---- */

/* `oldest` .. `number` - 1 are at most LOAD_WINDOW_MAX, each with its bit. */
static uint64_t bit(uint64_t number)
{
    return UINT64_C(1) << (number % LOAD_WINDOW_MAX);
}

/* The oldest is over: answered, or lost. */
static bool retire(load_flow *f)
{
    bool is_lost = (f->answered & bit(f->oldest)) == 0;
    f->answered &= ~bit(f->oldest);
    f->counts.lost += is_lost && f->oldest >= f->from;
    f->oldest++;
    return is_lost;
}

static void punish(load_flow *f, bool is_silence)
{
    if (f->oldest <= f->recover && !is_silence) {
        return; /* the one given up just now was sent before the last halving */
    }
    f->recover = f->number;
    f->threshold = MVPN_MAX(f->window / 2, 2.0);
    f->window = is_silence ? 1 : f->threshold;
}

static void check_losses(load_flow *f)
{
    unsigned overtaken = has_window(f) ? REORDER : PATIENCE;
    while (f->oldest < f->number &&
           ((f->answered & bit(f->oldest)) != 0 || f->oldest + overtaken < f->highest)) {
        if (retire(f) && has_window(f)) {
            punish(f, false);
        }
    }
}

static mvpn_time silence(const load_flow *f)
{
    return MVPN_MAX(SILENCE_MIN, 4 * f->rtt) << f->backoff;
}

/* Nothing came for long: all is lost. */
static void check_silence(load_flow *f, mvpn_time now)
{
    if (!has_window(f) || f->oldest == f->number || now < f->silent + silence(f)) {
        return;
    }
    punish(f, true);
    while (f->oldest < f->number) {
        (void)retire(f);
    }
    f->silent = now;
    f->backoff += f->backoff < LOAD_BACKOFF_MAX;
}

static bool has_room(const load_flow *f)
{
    uint64_t way = f->number - f->oldest;
    return way < LOAD_WINDOW_MAX && (double)way + 1 <= f->window;
}

static bool is_due(load_flow *f, mvpn_time now)
{
    if (now < f->next) {
        return false;
    }
    if (has_window(f)) {
        return has_room(f);
    }
    mvpn_time step = interval(f);
    f->next = MVPN_MAX(f->next + step, now < BEHIND_MAX * step ? 0 : now - BEHIND_MAX * step);
    if (f->config.kind != LOAD_FLOOD && f->number - f->oldest == LOAD_WINDOW_MAX) {
        (void)retire(f);
    }
    return true;
}

size_t load_flow_pull(load_flow *f, uint8_t *out, mvpn_time now)
{
    if (!f->is_on) {
        return 0;
    }
    check_silence(f, now);
    if (!is_due(f, now)) {
        return 0;
    }
    if (f->oldest == f->number) {
        f->silent = now;
    }
    size_t len = make_packet(f, out, now);
    f->number++;
    f->counts.sent++;
    if (f->config.kind == LOAD_FLOOD) { /* no answer is asked for */
        f->oldest = f->number;
    }
    return len;
}

static void measure(load_flow *f, mvpn_time rtt)
{
    f->rtt = f->rtt == 0 ? rtt : (7 * f->rtt + rtt) / 8;
    if (f->rtts != NULL) {
        load_histogram_add(f->rtts, rtt);
    }
}

static void grow(load_flow *f)
{
    f->window += f->window < f->threshold ? 1 : 1 / f->window;
    f->window = MVPN_MIN(f->window, (double)LOAD_WINDOW_MAX);
}

static void answered(load_flow *f, uint64_t number, mvpn_time sent, mvpn_time now)
{
    bool counts = number >= f->from, is_late = number < f->oldest;
    f->silent = now;
    f->backoff = 0;
    if (!is_late && (f->answered & bit(number)) != 0) { /* twice */
        f->counts.corrupt++;
        return;
    }
    if (counts) {
        f->counts.received++;
        f->counts.late += is_late;
        f->counts.reordered += number + 1 < f->highest;
        f->counts.bytes += MVPN_MAX(send_size(f), reply_size(f));
        measure(f, now - sent);
    }
    if (is_late) { /* given up already */
        return;
    }
    f->answered |= bit(number);
    f->highest = MVPN_MAX(f->highest, number + 1);
    grow(f);
    check_losses(f);
}

void load_flow_receive(load_flow *f, const uint8_t *packet, size_t len, mvpn_time now)
{
    const uint8_t *payload = packet + HEADERS;
    bool is_udp = len >= HEADERS && packet[0] == 0x45 && packet[9] == 17;
    if (!is_udp || memcmp(packet + 12, f->config.server.ip, 4) != 0) {
        return; /* an ICMP error, or the host's own noise */
    }
    bool is_ours = len == HEADERS + reply_size(f) && mvpn_load32(payload) == MAGIC &&
                   mvpn_load32(payload + 4) == f->config.client;
    uint64_t number = is_ours ? mvpn_load64(payload + 8) : 0;
    mvpn_time sent = is_ours ? mvpn_load64(payload + 16) : 0;
    if (!is_ours || number >= f->number || sent > now) {
        f->counts.corrupt++;
        return;
    }
    answered(f, number, sent, now);
}

mvpn_time load_flow_deadline(const load_flow *f)
{
    if (!f->is_on) {
        return MVPN_TIME_NEVER;
    }
    if (!has_window(f) || has_room(f)) {
        return f->next;
    }
    return f->silent + silence(f);
}

void load_flow_finish(load_flow *f)
{
    while (f->oldest < f->number) {
        (void)retire(f);
    }
}
