#include "network/p2p/portmap.h"

#include <string.h>

#include "base/error.h"

enum state {
    ASKING,
    MAPPED,
    RESTING,
    DELETING,
    CLOSED,
};

enum question {
    NOTHING,
    PCP_MAP,
    PCP_CHECK, /* ANNOUNCE: tells the epoch (RFC 6887 §14.1.1) */
    NATPMP_ADDRESS,
    NATPMP_MAP,
    NATPMP_CHECK,
    DELETE,
};

#define PROTOCOL_UDP 17
/* Retransmission: RFC 6887 §8.1.1 (IRT, MRT) and RFC 6886 §3.1. */
#define PCP_INTERVAL MVPN_S(3)
#define PCP_INTERVAL_MAX MVPN_S(1024)
#define NATPMP_INTERVAL MVPN_MS(250)
#define NATPMP_INTERVAL_MAX MVPN_S(64)
#define PCP_JITTER 10
/* The RFCs go on for minutes; whoever has not answered by then is given up for the next protocol,
 * and asked again later. */
#define PCP_TRIES 2
#define NATPMP_TRIES 5
#define CHECK_TRIES 3
#define DELETE_TRIES 3 /* 250 + 500 + 1000 ms: the program waits for this at its end */
/* How soon a gateway that restarted is noticed if its announcement is lost. */
#define CHECK_TIME MVPN_S(60)
#define FORCED_TIME MVPN_S(10)
#define RENEW_TIME_MIN MVPN_S(15)
/* RFC 6887 §7.4 asks for 30 s after short errors and 30 min after long ones. */
#define REST_MIN_S 300u
#define REST_MAX_S 3600u

/* ---- asking ---- */

static void add_event(mvpn_portmap *m, enum mvpn_portmap_event_type type, const char *why)
{
    /* One call makes two at most; a caller that does not pull sees the newest. */
    unsigned at = MVPN_MIN(m->event_count, MVPN_PORTMAP_EVENTS_MAX - 1u);
    m->events[at] = (mvpn_portmap_event){type, m->mapping, why};
    m->event_count = at + 1;
}

static void ask(mvpn_portmap *m, enum question question, mvpn_time now)
{
    bool is_pcp = question == PCP_MAP || question == PCP_CHECK;
    m->question = (int)question;
    m->tries = 0;
    m->interval = is_pcp ? mvpn_rng_jitter(m->cfg.rng, PCP_INTERVAL, PCP_JITTER) : NATPMP_INTERVAL;
    m->send_at = now;
}

static void ask_for_port(mvpn_portmap *m, mvpn_time now)
{
    ask(m, m->protocol == MVPN_PORTMAP_PCP ? PCP_MAP : NATPMP_ADDRESS, now);
}

static bool is_asking_for_port(const mvpn_portmap *m)
{
    return m->question == PCP_MAP || m->question == NATPMP_ADDRESS || m->question == NATPMP_MAP;
}

static void start(mvpn_portmap *m, mvpn_time now)
{
    m->state = ASKING;
    m->protocol = MVPN_PORTMAP_PCP;
    ask_for_port(m, now);
}

static void write_map(mvpn_portmap *m, bool is_delete)
{
    uint32_t lifetime_s = is_delete ? 0 : MVPN_PORTMAP_LIFETIME_S;
    uint16_t port = m->has_mapping ? m->mapping.external.port : m->cfg.internal_port;
    if (m->protocol == MVPN_PORTMAP_PCP) {
        mvpn_pcp_map map = {.protocol = PROTOCOL_UDP,
                            .internal_port = m->cfg.internal_port,
                            .external = {.family = 4}};
        memcpy(map.nonce, m->nonce, sizeof(map.nonce));
        if (!is_delete) {
            map.external.port = port;
            if (m->has_mapping) {
                map.external = m->mapping.external;
            }
        }
        mvpn_pcp_map_encode(m->out, &m->cfg.client, lifetime_s, &map);
        m->out_len = MVPN_PCP_MAP_LEN;
        return;
    }
    mvpn_natpmp_map map = {m->cfg.internal_port, is_delete ? 0 : port, lifetime_s};
    mvpn_natpmp_map_encode(m->out, &map);
    m->out_len = MVPN_NATPMP_MAP_LEN;
}

static void write_question(mvpn_portmap *m)
{
    switch ((enum question)m->question) {
    case PCP_MAP:
    case NATPMP_MAP:
        m->has_asked = true;
        write_map(m, false);
        break;
    case DELETE:
        write_map(m, true);
        break;
    case PCP_CHECK:
        mvpn_pcp_announce_encode(m->out, &m->cfg.client);
        m->out_len = MVPN_PCP_HEADER_LEN;
        break;
    case NATPMP_ADDRESS:
    case NATPMP_CHECK:
        mvpn_natpmp_address_encode(m->out);
        m->out_len = MVPN_NATPMP_ADDRESS_LEN;
        break;
    case NOTHING:
        break;
    }
}

/* ---- how it ends ---- */

static void rest(mvpn_portmap *m, const char *why, uint32_t at_least_s, mvpn_time now)
{
    uint32_t s = MVPN_MIN(REST_MIN_S << MVPN_MIN(m->failures, 4u), REST_MAX_S);
    s = MVPN_MIN(MVPN_MAX(s, at_least_s), REST_MAX_S);
    m->failures++;
    m->state = RESTING;
    m->question = NOTHING;
    m->retry_at = now + mvpn_rng_jitter(m->cfg.rng, MVPN_S(s), 10);
    m->mapping = (mvpn_portmap_mapping){.protocol = m->protocol};
    add_event(m, MVPN_PORTMAP_FAILED, why);
}

static void lose(mvpn_portmap *m, const char *why)
{
    add_event(m, MVPN_PORTMAP_LOST, why);
    m->has_mapping = false;
}

/* The gateway says no. */
static void refuse(mvpn_portmap *m, const char *why, uint32_t lifetime_s, mvpn_time now)
{
    if (m->state == DELETING) {
        m->state = CLOSED;
        m->question = NOTHING;
        return;
    }
    if (m->has_mapping && !m->is_doubtful) {
        /* What it gave holds until its time is over. (RFC 6887 §11.3) */
        mvpn_time left = m->expires_at > now ? m->expires_at - now : 0;
        m->question = NOTHING;
        m->renew_at = now + MVPN_MAX(left / 2, RENEW_TIME_MIN);
        return;
    }
    if (m->has_mapping) {
        lose(m, why);
    }
    m->has_asked = false;
    rest(m, why, lifetime_s, now);
}

/* Nobody answers. */
static void silent(mvpn_portmap *m, mvpn_time now)
{
    switch ((enum question)m->question) {
    case PCP_MAP: /* RFC 6887 appendix A says it would have answered; some do not */
        m->protocol = MVPN_PORTMAP_NATPMP;
        ask_for_port(m, now);
        break;
    case NATPMP_ADDRESS:
    case NATPMP_MAP:
        rest(m, "the gateway answers neither PCP nor NAT-PMP", 0, now);
        break;
    case PCP_CHECK:
    case NATPMP_CHECK:
        m->question = NOTHING;
        m->check_at = now + mvpn_rng_jitter(m->cfg.rng, CHECK_TIME, 10);
        break;
    case DELETE:
        m->state = CLOSED;
        m->question = NOTHING;
        break;
    case NOTHING:
        break;
    }
}

/* Questions about a mapping that we have are repeated until it expires. */
static unsigned tries_max(const mvpn_portmap *m)
{
    switch ((enum question)m->question) {
    case PCP_MAP:
        return m->has_mapping ? UINT32_MAX : PCP_TRIES;
    case NATPMP_ADDRESS:
    case NATPMP_MAP:
        return m->has_mapping ? UINT32_MAX : NATPMP_TRIES;
    case PCP_CHECK:
    case NATPMP_CHECK:
        return CHECK_TRIES;
    case DELETE:
        return DELETE_TRIES;
    case NOTHING:
        break;
    }
    return 0;
}

static void repeat(mvpn_portmap *m, mvpn_time now)
{
    if (m->tries >= tries_max(m)) {
        silent(m, now);
        return;
    }
    bool is_pcp = m->question == PCP_MAP || m->question == PCP_CHECK;
    if (m->tries > 0) {
        m->interval = is_pcp
                          ? mvpn_rng_jitter(m->cfg.rng, MVPN_MIN(2 * m->interval, PCP_INTERVAL_MAX),
                                            PCP_JITTER)
                          : MVPN_MIN(2 * m->interval, NATPMP_INTERVAL_MAX);
    }
    m->tries++;
    m->send_at = now + m->interval;
    write_question(m);
}

/* ---- the gateway's clock ---- */

/* True if it went on as it must; else it has restarted. (RFC 6887 §8.5, RFC 6886 §3.6) */
static bool epoch_is_valid(const mvpn_portmap *m, uint32_t epoch_s, mvpn_time now)
{
    uint64_t client = (now - m->epoch_at) / MVPN_US_PER_S;
    if (m->protocol == MVPN_PORTMAP_NATPMP) {
        return (uint64_t)epoch_s + 2 >= m->epoch_s + client * 7 / 8;
    }
    if ((uint64_t)epoch_s + 1 < m->epoch_s) {
        return false;
    }
    uint64_t server = epoch_s > m->epoch_s ? epoch_s - m->epoch_s : 0;
    return client + 2 >= server - server / 16 && server + 2 >= client - client / 16;
}

static void note_epoch(mvpn_portmap *m, uint32_t epoch_s, mvpn_time now)
{
    m->epoch_s = epoch_s;
    m->epoch_at = now;
}

/* While MAPPED: the answer to a check, or an announcement; the latter anybody can have sent. */
static void heard_epoch(mvpn_portmap *m, uint32_t epoch_s, bool is_answer, mvpn_time now)
{
    bool is_valid = epoch_is_valid(m, epoch_s, now);
    if (is_answer) {
        m->question = NOTHING;
        m->check_at = now + mvpn_rng_jitter(m->cfg.rng, CHECK_TIME, 10);
        if (is_valid) {
            note_epoch(m, epoch_s, now);
        }
    }
    if (is_valid || (!is_answer && m->was_forced && now - m->forced_at < FORCED_TIME)) {
        return;
    }
    if (is_answer) {
        m->is_doubtful = true;
    } else {
        m->was_forced = true;
        m->forced_at = now;
    }
    ask_for_port(m, now);
}

/* ---- answers ---- */

const char *mvpn_portmap_refusal(const mvpn_addr *external, const mvpn_addr *client)
{
    static const uint8_t zero[16];
    if (external->family != 4 || memcmp(external->ip, zero, sizeof(zero)) == 0) {
        return "the gateway names no external address";
    }
    if (mvpn_addr_ip_eq(external, client)) {
        return "the gateway names our own address as the external one";
    }
    if (!mvpn_addr_is_public(external)) {
        return "the gateway's external address is not public: there is another NAT before it";
    }
    return NULL;
}

const char *mvpn_portmap_protocol_name(enum mvpn_portmap_protocol protocol)
{
    switch (protocol) {
    case MVPN_PORTMAP_PCP:
        return "PCP";
    case MVPN_PORTMAP_NATPMP:
        return "NAT-PMP";
    case MVPN_PORTMAP_UPNP:
        break;
    }
    return "UPnP";
}

static void unusable(mvpn_portmap *m, const char *why, mvpn_time now)
{
    if (m->has_mapping) {
        lose(m, why);
    }
    if (m->has_asked) {
        write_map(m, true); /* once: whether it arrives, its lifetime ends */
        m->has_asked = false;
    }
    rest(m, why, 0, now);
}

static void mapped(mvpn_portmap *m, const mvpn_addr *external, uint32_t lifetime_s, mvpn_time now)
{
    const char *why = mvpn_portmap_refusal(external, &m->cfg.client);
    if (why == NULL && (external->port == 0 || lifetime_s == 0)) {
        why = "the gateway answers nonsense";
    }
    if (why != NULL) {
        unusable(m, why, now);
        return;
    }
    bool is_first = !m->has_mapping;
    bool is_same = !is_first && mvpn_addr_eq(&m->mapping.external, external);
    uint32_t s =
        MVPN_MIN(MVPN_MAX(lifetime_s, MVPN_PORTMAP_LIFETIME_MIN_S), MVPN_PORTMAP_LIFETIME_MAX_S);
    m->mapping = (mvpn_portmap_mapping){m->protocol, *external, s};
    m->has_mapping = true;
    m->is_doubtful = false;
    m->failures = 0;
    m->state = MAPPED;
    m->question = NOTHING;
    m->expires_at = now + MVPN_S(s);
    /* Half, as both RFCs want it, with RFC 6887 §11.2.1's spread above. */
    m->renew_at = now + MVPN_MAX(MVPN_S(s) / 2 + mvpn_rng_below(m->cfg.rng, s) * MVPN_MS(125),
                                 RENEW_TIME_MIN);
    m->check_at = now + mvpn_rng_jitter(m->cfg.rng, CHECK_TIME, 10);
    if (!is_same) {
        add_event(m, is_first ? MVPN_PORTMAP_MAPPED : MVPN_PORTMAP_CHANGED, NULL);
    }
}

static void use_natpmp(mvpn_portmap *m, mvpn_time now)
{
    if (m->has_mapping) {
        lose(m, "the gateway no longer speaks PCP");
    }
    m->has_asked = false;
    m->state = ASKING;
    m->protocol = MVPN_PORTMAP_NATPMP;
    ask_for_port(m, now);
}

static int recv_address(mvpn_portmap *m, const mvpn_natpmp_answer *a, mvpn_time now)
{
    const char *why = mvpn_portmap_refusal(&a->external, &m->cfg.client);
    if (m->question == NATPMP_ADDRESS) {
        if (why != NULL) {
            unusable(m, why, now);
            return 0;
        }
        m->natpmp_ip = a->external;
        ask(m, NATPMP_MAP, now);
        return 0;
    }
    if (m->state != MAPPED) {
        return MVPN_E_STATE;
    }
    bool is_answer = m->question == NATPMP_CHECK;
    heard_epoch(m, a->epoch_s, is_answer, now);
    if (is_answer && m->question == NOTHING && !mvpn_addr_ip_eq(&a->external, &m->natpmp_ip)) {
        ask_for_port(m, now);
    }
    return 0;
}

static int recv_natpmp(mvpn_portmap *m, mvpn_bytes in, mvpn_time now)
{
    mvpn_natpmp_answer a;
    int r = mvpn_natpmp_decode(&a, in);
    if (r != 0) {
        return r;
    }
    if (m->protocol == MVPN_PORTMAP_PCP) {
        if (a.result != MVPN_NATPMP_UNSUPPORTED_VERSION || m->question != PCP_MAP) {
            return MVPN_E_STATE;
        }
        use_natpmp(m, now);
        return 0;
    }
    bool is_map = a.opcode == MVPN_NATPMP_MAP_UDP;
    if (a.result != MVPN_NATPMP_SUCCESS) {
        bool is_ours = is_map ? m->question == NATPMP_MAP || m->question == DELETE
                              : m->question == NATPMP_ADDRESS;
        if (!is_ours) {
            return MVPN_E_STATE;
        }
        refuse(m, mvpn_natpmp_result_text(a.result), 0, now);
        return 0;
    }
    if (!is_map) {
        return recv_address(m, &a, now);
    }
    if (a.map.internal_port != m->cfg.internal_port ||
        (m->question != NATPMP_MAP && m->question != DELETE)) {
        return MVPN_E_STATE;
    }
    note_epoch(m, a.epoch_s, now);
    if (m->question == DELETE) {
        if (a.map.lifetime_s != 0) {
            return MVPN_E_STATE; /* a late answer to an earlier question */
        }
        m->state = CLOSED;
        m->question = NOTHING;
        return 0;
    }
    mvpn_addr external = m->natpmp_ip;
    external.port = a.map.external_port;
    mapped(m, &external, a.map.lifetime_s, now);
    return 0;
}

static bool is_our_map(const mvpn_portmap *m, const mvpn_pcp_answer *a)
{
    return a->has_map && memcmp(a->map.nonce, m->nonce, sizeof(m->nonce)) == 0 &&
           a->map.protocol == PROTOCOL_UDP && a->map.internal_port == m->cfg.internal_port;
}

static int recv_pcp_map(mvpn_portmap *m, const mvpn_pcp_answer *a, mvpn_time now)
{
    bool is_asked = m->question == PCP_MAP || m->question == DELETE;
    if (a->has_map ? !is_our_map(m, a) : !is_asked) {
        return MVPN_E_STATE;
    }
    if (a->result != MVPN_PCP_SUCCESS) {
        if (!is_asked) {
            return MVPN_E_STATE;
        }
        refuse(m, mvpn_pcp_result_text(a->result), a->lifetime_s, now);
        return 0;
    }
    if (m->question == DELETE) {
        if (a->lifetime_s != 0) {
            return MVPN_E_STATE;
        }
        m->state = CLOSED;
        m->question = NOTHING;
        return 0;
    }
    /* Without a question: the gateway tells a change by itself (RFC 6887 §14.2), or an answer came
     * twice. */
    if (m->question != PCP_MAP && m->state != MAPPED) {
        return MVPN_E_STATE;
    }
    note_epoch(m, a->epoch_s, now);
    mapped(m, &a->map.external, a->lifetime_s, now);
    return 0;
}

static int recv_pcp(mvpn_portmap *m, mvpn_bytes in, mvpn_time now)
{
    mvpn_pcp_answer a;
    int r = mvpn_pcp_decode(&a, in);
    if (r != 0) {
        return r;
    }
    if (m->protocol != MVPN_PORTMAP_PCP) {
        return MVPN_E_STATE;
    }
    if (a.result == MVPN_PCP_UNSUPP_VERSION) {
        if (m->question != PCP_MAP) {
            return MVPN_E_STATE;
        }
        use_natpmp(m, now);
        return 0;
    }
    if (a.opcode == MVPN_PCP_MAP) {
        return recv_pcp_map(m, &a, now);
    }
    if (m->state != MAPPED) {
        return MVPN_E_STATE;
    }
    if (a.result == MVPN_PCP_SUCCESS) {
        heard_epoch(m, a.epoch_s, m->question == PCP_CHECK, now);
    } else if (m->question == PCP_CHECK) {
        silent(m, now); /* it does not know ANNOUNCE */
    }
    return 0;
}

/* ---- the machine ---- */

void mvpn_portmap_init(mvpn_portmap *m, const mvpn_portmap_config *config, mvpn_time now)
{
    *m = (mvpn_portmap){.cfg = *config};
    mvpn_rng_bytes(config->rng, m->nonce, sizeof(m->nonce));
    start(m, now);
}

int mvpn_portmap_recv(mvpn_portmap *m, const mvpn_addr *from, mvpn_bytes in, mvpn_time now)
{
    if (!mvpn_addr_ip_eq(from, &m->cfg.gateway) || from->port != MVPN_PORTMAP_PORT ||
        m->state == RESTING || m->state == CLOSED) {
        return MVPN_E_STATE;
    }
    return in.n > 0 && in.p[0] == MVPN_NATPMP_VERSION ? recv_natpmp(m, in, now)
                                                      : recv_pcp(m, in, now);
}

void mvpn_portmap_refused(mvpn_portmap *m, mvpn_time now)
{
    if (m->state == DELETING) {
        m->state = CLOSED;
        m->question = NOTHING;
    } else if (m->state == ASKING && !m->has_mapping && m->tries > 0) {
        rest(m, "the gateway offers neither PCP nor NAT-PMP", 0, now);
    }
}

void mvpn_portmap_tick(mvpn_portmap *m, mvpn_time now)
{
    if (m->state == RESTING && now >= m->retry_at) {
        start(m, now);
    }
    if (m->state == MAPPED && now >= m->expires_at) {
        lose(m, "the gateway did not renew it");
        m->has_asked = false;
        start(m, now);
    }
    if (m->state == MAPPED && !is_asking_for_port(m) && now >= m->renew_at) {
        ask_for_port(m, now);
    }
    if (m->state == MAPPED && m->question == NOTHING && now >= m->check_at) {
        ask(m, m->protocol == MVPN_PORTMAP_PCP ? PCP_CHECK : NATPMP_CHECK, now);
    }
    if (m->question != NOTHING && now >= m->send_at) {
        repeat(m, now);
    }
}

mvpn_time mvpn_portmap_deadline(const mvpn_portmap *m)
{
    mvpn_time at = MVPN_TIME_NEVER;
    if (m->question != NOTHING) {
        at = m->send_at;
    }
    if (m->state == RESTING) {
        at = mvpn_time_min(at, m->retry_at);
    }
    if (m->state == MAPPED) {
        at = mvpn_time_min(at, m->expires_at);
        at = is_asking_for_port(m) ? at : mvpn_time_min(at, m->renew_at);
        at = m->question != NOTHING ? at : mvpn_time_min(at, m->check_at);
    }
    return at;
}

size_t mvpn_portmap_pull_packet(mvpn_portmap *m, uint8_t out[static MVPN_PORTMAP_REQUEST_MAX])
{
    size_t len = m->out_len;
    memcpy(out, m->out, len);
    m->out_len = 0;
    return len;
}

bool mvpn_portmap_pull_event(mvpn_portmap *m, mvpn_portmap_event *ret)
{
    if (m->event_count == 0) {
        return false;
    }
    *ret = m->events[0];
    m->event_count--;
    memmove(m->events, m->events + 1, m->event_count * sizeof(m->events[0]));
    return true;
}

void mvpn_portmap_close(mvpn_portmap *m, mvpn_time now)
{
    if (m->state == DELETING || m->state == CLOSED) {
        return;
    }
    m->state = m->has_mapping || m->has_asked ? DELETING : CLOSED;
    m->has_mapping = false;
    if (m->state == DELETING) {
        ask(m, DELETE, now);
    } else {
        m->question = NOTHING;
    }
}

bool mvpn_portmap_is_closed(const mvpn_portmap *m)
{
    return m->state == CLOSED;
}

bool mvpn_portmap_get(const mvpn_portmap *m, mvpn_portmap_mapping *ret)
{
    if (m->has_mapping && ret != NULL) {
        *ret = m->mapping;
    }
    return m->has_mapping;
}
