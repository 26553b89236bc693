#include "exit/exit.h"

#include <stdlib.h>
#include <string.h>

#include "base/bucket.h"
#include "base/bytes.h"
#include "base/error.h"
#include "exit/dns.h"
#include "exit/pool.h"
#include "network/ip/checksum.h"
#include "network/ip/icmp.h"
#include "network/ip/inner.h"
#include "network/ip/rewrite.h"

#define PORT_DNS 53
#define INNER_MTU_MIN 576  /* RFC 1122: what every host takes */
#define INNER_MTU_MAX 1420 /* of the TUN devices */
#define NO_SESSION UINT32_MAX
/* A bucket must hold at least one batch, or a low rate would let nothing pass. */
#define BURST_MIN 65536

/* Datagrams under way whose first fragment may pass: hosts send the fragments of one in a row. */
#define FRAGMENTS_MAX 8
/* As long as receivers wait for the rest (RFC 791 §3.2, RFC 8200 §4.5: up to 60 s). */
#define FRAGMENT_LIFETIME MVPN_S(60)

typedef struct passed {
    mvpn_time until;
    uint32_t id;
    uint8_t version, protocol;
    uint8_t dst[16];
} passed;

typedef struct session {
    uint16_t generation; /* grows with each use of the slot; an old number finds nothing */
    bool open;
    bool want_v6;
    bool is_detached;
    uint32_t host; /* in the address pool */
    uint32_t inner_mtu;
    mvpn_dns_session dns;
    uint64_t fragment_key;
    uint8_t pool_v4[4];
    uint8_t pool_v6[16];
    mvpn_bucket up, down; /* bytes */
    mvpn_bucket icmp;     /* errors */
    passed fragments[FRAGMENTS_MAX];
    uint8_t fragment_next;
} session;

typedef struct delivery {
    uint32_t id;
    mvpn_packet *packet;
} delivery;

struct mvpn_exit {
    mvpn_packet_pool *packets;
    mvpn_rng *rng;
    bool uplink_v6;
    uint64_t session_rate, session_burst;
    bool total_limited;
    mvpn_bucket total;
    uint64_t quota_limit, quota_used; /* bytes; limit 0: none */
    mvpn_policy *policy;
    mvpn_addr_pool *pool;
    mvpn_dns *dns;
    bool dns_stream;
    uint8_t device_v4[4], device_v6[16]; /* the TUN device's own: the pool's first */
    uint32_t sessions_max;
    session *sessions;
    uint32_t *free_slots;
    uint32_t free_count;
    uint32_t detached_count;
    uint32_t *slot_by_host;
    mvpn_packet_queue tun_out, dns_out;
    delivery to_session[MVPN_EXIT_QUEUE_MAX]; /* ring */
    uint32_t delivery_first, delivery_count;
    mvpn_exit_counters counters;
};

/* --- life --- */

static int init_policy(mvpn_exit *exit, const mvpn_exit_config *c, mvpn_policy_error *ret_error)
{
    int r;
    exit->policy = mvpn_policy_new();
    if (exit->policy == NULL) {
        return MVPN_E_NOMEM;
    }
    if (c->policy != NULL && (r = mvpn_policy_parse(exit->policy, c->policy, ret_error)) != 0) {
        return r;
    }
    for (size_t i = 0; i < c->blocked_count; i++) {
        if ((r = mvpn_policy_block(exit->policy, &c->blocked[i])) != 0) {
            return r;
        }
    }
    for (size_t i = 0; i < c->port_count; i++) {
        if ((r = mvpn_policy_allow_ports(exit->policy, c->ports[i].first, c->ports[i].last)) != 0) {
            return r;
        }
    }
    for (size_t i = 0; i < c->own_count; i++) {
        unsigned bits = (unsigned)mvpn_addr_ip_len(&c->own[i]) * 8;
        if ((r = mvpn_policy_add_own(exit->policy, &c->own[i], bits)) != 0) {
            return r;
        }
    }
    /* No traffic between sessions, even if the pool were public addresses. */
    if ((r = mvpn_policy_add_own(exit->policy, &c->pool_v4, c->pool_v4_bits)) != 0 ||
        (r = mvpn_policy_add_own(exit->policy, &c->pool_v6, 64)) != 0) {
        return r;
    }
    return mvpn_policy_set_relays(exit->policy, c->relays, c->relay_count);
}

static int init_sessions(mvpn_exit *exit, uint32_t count)
{
    uint32_t hosts = mvpn_addr_pool_size(exit->pool);
    exit->sessions_max = count;
    exit->sessions = calloc(count, sizeof(*exit->sessions));
    exit->free_slots = calloc(count, sizeof(*exit->free_slots));
    exit->slot_by_host = calloc(hosts, sizeof(*exit->slot_by_host));
    if (exit->sessions == NULL || exit->free_slots == NULL || exit->slot_by_host == NULL) {
        return MVPN_E_NOMEM;
    }
    for (uint32_t i = 0; i < count; i++) {
        exit->free_slots[exit->free_count++] = count - 1 - i;
    }
    for (uint32_t i = 0; i < hosts; i++) {
        exit->slot_by_host[i] = NO_SESSION;
    }
    return 0;
}

static uint64_t burst_of(uint64_t rate, uint64_t burst)
{
    return MVPN_MAX(burst != 0 ? burst : rate, (uint64_t)BURST_MIN);
}

int mvpn_exit_new(const mvpn_exit_config *c, mvpn_exit **ret_exit, mvpn_policy_error *ret_error)
{
    int r;
    if (c->packets == NULL || c->rng == NULL || c->sessions_max == 0 ||
        c->sessions_max > MVPN_EXIT_SESSIONS_MAX) {
        return MVPN_E_INVAL;
    }
    mvpn_exit *exit = calloc(1, sizeof(*exit));
    if (exit == NULL) {
        return MVPN_E_NOMEM;
    }
    exit->packets = c->packets;
    exit->rng = c->rng;
    exit->uplink_v6 = c->uplink_v6;
    exit->dns_stream = c->dns_stream;
    memcpy(exit->device_v4, c->pool_v4.ip, sizeof(exit->device_v4));
    memcpy(exit->device_v6, c->pool_v6.ip, sizeof(exit->device_v6));
    exit->device_v4[3] |= 1;
    exit->device_v6[15] |= 1;
    exit->session_rate = c->session_rate;
    exit->session_burst = burst_of(c->session_rate, c->session_burst);
    exit->total_limited = c->total_rate != 0;
    mvpn_bucket_init(&exit->total, c->total_rate, burst_of(c->total_rate, c->total_burst), 0);
    mvpn_packet_queue_init(&exit->tun_out);
    mvpn_packet_queue_init(&exit->dns_out);
    if ((r = mvpn_addr_pool_new(&c->pool_v4, c->pool_v4_bits, &c->pool_v6, &exit->pool)) != 0 ||
        (r = mvpn_dns_new(c->dns, c->dns_count, &exit->dns)) != 0 ||
        (r = init_policy(exit, c, ret_error)) != 0 ||
        (r = init_sessions(exit, c->sessions_max)) != 0) {
        mvpn_exit_free(exit);
        return r;
    }
    *ret_exit = exit;
    return 0;
}

void mvpn_exit_free(mvpn_exit *exit)
{
    uint32_t id;
    mvpn_packet *packet;
    if (exit == NULL) {
        return;
    }
    mvpn_packet_queue_clear(&exit->tun_out, exit->packets);
    mvpn_packet_queue_clear(&exit->dns_out, exit->packets);
    while (mvpn_exit_pull_to_session(exit, &id, &packet)) {
        mvpn_packet_free(exit->packets, packet);
    }
    mvpn_policy_free(exit->policy);
    mvpn_addr_pool_free(exit->pool);
    mvpn_dns_free(exit->dns);
    free(exit->sessions);
    free(exit->free_slots);
    free(exit->slot_by_host);
    free(exit);
}

mvpn_policy *mvpn_exit_policy(mvpn_exit *exit)
{
    return exit->policy;
}

const mvpn_exit_counters *mvpn_exit_get_counters(const mvpn_exit *exit)
{
    return &exit->counters;
}

/* --- quota --- */

static bool within_quota(const mvpn_exit *exit, uint32_t len)
{
    return exit->quota_limit == 0 || exit->quota_used + len <= exit->quota_limit;
}

void mvpn_exit_set_quota(mvpn_exit *exit, uint64_t limit, uint64_t used)
{
    exit->quota_limit = limit;
    exit->quota_used = used;
}

uint64_t mvpn_exit_quota_used(const mvpn_exit *exit)
{
    return exit->quota_used;
}

/* --- sessions --- */

static uint32_t id_of(const mvpn_exit *exit, const session *s)
{
    return (uint32_t)s->generation << 16 | (uint32_t)(s - exit->sessions);
}

static session *find_session(const mvpn_exit *exit, uint32_t id)
{
    uint32_t slot = id & 0xffff;
    if (slot >= exit->sessions_max) {
        return NULL;
    }
    session *s = &exit->sessions[slot];
    return s->open && s->generation == id >> 16 ? s : NULL;
}

static session *session_of_pool_addr(const mvpn_exit *exit, unsigned version, const uint8_t *addr)
{
    uint32_t host;
    if (!mvpn_addr_pool_find(exit->pool, version, addr, &host)) {
        return NULL;
    }
    uint32_t slot = exit->slot_by_host[host];
    return slot == NO_SESSION ? NULL : &exit->sessions[slot];
}

int mvpn_exit_session_open(mvpn_exit *exit, uint32_t inner_mtu, bool want_v6, mvpn_time now,
                           uint32_t *ret_id)
{
    uint32_t host;
    if (inner_mtu < INNER_MTU_MIN || inner_mtu > INNER_MTU_MAX) {
        return MVPN_E_INVAL;
    }
    mvpn_addr_pool_tick(exit->pool, now);
    if (exit->free_count == 0 || !within_quota(exit, 1)) {
        return MVPN_E_LIMIT;
    }
    int r = mvpn_addr_pool_take(exit->pool, exit->rng, &host);
    if (r != 0) {
        return r;
    }
    uint32_t slot = exit->free_slots[--exit->free_count];
    session *s = &exit->sessions[slot];
    uint16_t generation = (uint16_t)(s->generation + 1);
    *s = (session){.generation = generation, .open = true, .want_v6 = want_v6, .host = host};
    mvpn_dns_session_init(&s->dns);
    s->inner_mtu = inner_mtu;
    s->fragment_key = mvpn_rng_u64(exit->rng);
    mvpn_addr v4 = mvpn_addr_pool_v4(exit->pool, host), v6 = mvpn_addr_pool_v6(exit->pool, host);
    memcpy(s->pool_v4, v4.ip, 4);
    memcpy(s->pool_v6, v6.ip, 16);
    mvpn_bucket_init(&s->up, exit->session_rate, exit->session_burst, now);
    s->down = s->up;
    mvpn_bucket_init(&s->icmp, MVPN_EXIT_ICMP_RATE, MVPN_EXIT_ICMP_BURST, now);
    exit->slot_by_host[host] = slot;
    exit->counters.sessions_opened++;
    *ret_id = id_of(exit, s);
    return 0;
}

static void set_detached(mvpn_exit *exit, session *s, bool is_detached)
{
    exit->detached_count += is_detached;
    exit->detached_count -= s->is_detached;
    s->is_detached = is_detached;
}

void mvpn_exit_session_detach(mvpn_exit *exit, uint32_t id)
{
    session *s = find_session(exit, id);
    if (s != NULL) {
        set_detached(exit, s, true);
    }
}

int mvpn_exit_session_attach(mvpn_exit *exit, uint32_t id, uint32_t inner_mtu)
{
    session *s = find_session(exit, id);
    if (s == NULL) {
        return MVPN_E_UNKNOWN;
    }
    if (inner_mtu < INNER_MTU_MIN || inner_mtu > INNER_MTU_MAX) {
        return MVPN_E_INVAL;
    }
    s->inner_mtu = inner_mtu;
    set_detached(exit, s, false);
    exit->counters.sessions_moved++;
    return 0;
}

void mvpn_exit_session_close(mvpn_exit *exit, uint32_t id, mvpn_time now)
{
    session *s = find_session(exit, id);
    if (s == NULL) {
        return;
    }
    mvpn_dns_forget(exit->dns, &s->dns);
    exit->slot_by_host[s->host] = NO_SESSION;
    mvpn_addr_pool_release(exit->pool, s->host, now);
    set_detached(exit, s, false);
    s->open = false;
    exit->free_slots[exit->free_count++] = id & 0xffff;
    exit->counters.sessions_closed++;
}

uint32_t mvpn_exit_session_count(const mvpn_exit *exit)
{
    return exit->sessions_max - exit->free_count;
}

uint32_t mvpn_exit_session_detached_count(const mvpn_exit *exit)
{
    return exit->detached_count;
}

uint32_t mvpn_exit_sessions_max(const mvpn_exit *exit)
{
    return exit->sessions_max;
}

bool mvpn_exit_wants_room(const mvpn_exit *exit)
{
    if (!within_quota(exit, 1)) {
        return false;
    }
    if (mvpn_addr_pool_free_count(exit->pool) > 0) {
        return exit->free_count == 0;
    }
    return mvpn_addr_pool_rest_count(exit->pool) == 0;
}

static bool has_v6(const mvpn_exit *exit, const session *s)
{
    return exit->uplink_v6 && s->want_v6;
}

bool mvpn_exit_session_has_v6(const mvpn_exit *exit, uint32_t id)
{
    const session *s = find_session(exit, id);
    return s != NULL && has_v6(exit, s);
}

int mvpn_exit_session_addrs(const mvpn_exit *exit, uint32_t id, mvpn_addr *ret_v4,
                            mvpn_addr *ret_v6)
{
    const session *s = find_session(exit, id);
    if (s == NULL) {
        return MVPN_E_UNKNOWN;
    }
    *ret_v4 = mvpn_addr_pool_v4(exit->pool, s->host);
    *ret_v6 = mvpn_addr_pool_v6(exit->pool, s->host);
    return 0;
}

/* --- outputs --- */

static int drop(mvpn_exit *exit, mvpn_packet *packet, uint64_t *counter, int code)
{
    (*counter)++;
    mvpn_packet_free(exit->packets, packet);
    return code;
}

static int send_out(mvpn_exit *exit, mvpn_packet_queue *queue, mvpn_packet *packet)
{
    if (queue->count >= MVPN_EXIT_QUEUE_MAX) {
        return drop(exit, packet, &exit->counters.queue_full, MVPN_E_LIMIT);
    }
    mvpn_packet_queue_push(queue, packet);
    return 0;
}

static int send_to_session(mvpn_exit *exit, const session *s, mvpn_packet *packet)
{
    if (exit->delivery_count == MVPN_EXIT_QUEUE_MAX) {
        return drop(exit, packet, &exit->counters.queue_full, MVPN_E_LIMIT);
    }
    uint32_t at = (exit->delivery_first + exit->delivery_count++) % MVPN_EXIT_QUEUE_MAX;
    exit->to_session[at] = (delivery){id_of(exit, s), packet};
    return 0;
}

mvpn_packet_queue *mvpn_exit_tun_out(mvpn_exit *exit)
{
    return &exit->tun_out;
}

mvpn_packet_queue *mvpn_exit_dns_out(mvpn_exit *exit)
{
    return &exit->dns_out;
}

bool mvpn_exit_pull_to_session(mvpn_exit *exit, uint32_t *ret_id, mvpn_packet **ret_packet)
{
    while (exit->delivery_count > 0) {
        delivery d = exit->to_session[exit->delivery_first];
        exit->delivery_first = (exit->delivery_first + 1) % MVPN_EXIT_QUEUE_MAX;
        exit->delivery_count--;
        if (find_session(exit, d.id) != NULL) {
            *ret_id = d.id;
            *ret_packet = d.packet;
            return true;
        }
        mvpn_packet_free(exit->packets, d.packet); /* closed meanwhile */
    }
    return false;
}

/* Tell the session by ICMP, from the gateway's address, why its packet goes nowhere. */
static void send_unreachable(mvpn_exit *exit, session *s, const mvpn_packet *bad, const mvpn_ip *ip,
                             uint8_t code, mvpn_time now)
{
    if (!mvpn_icmp_may_answer(ip) || !mvpn_bucket_take(&s->icmp, 1, now)) {
        return;
    }
    mvpn_packet *out = mvpn_packet_new(exit->packets);
    if (out == NULL) {
        exit->counters.queue_full++;
        return;
    }
    if (mvpn_icmp_unreachable(out, bad, ip, mvpn_inner_gateway(ip->version), code) != 0) {
        mvpn_packet_free(exit->packets, out);
        return;
    }
    if (send_to_session(exit, s, out) == 0) {
        exit->counters.icmp_sent++;
    }
}

static bool within_rate(mvpn_exit *exit, mvpn_bucket *bucket, uint32_t len, mvpn_time now)
{
    if (exit->session_rate != 0 && !mvpn_bucket_take(bucket, len, now)) {
        return false;
    }
    if (!exit->total_limited || mvpn_bucket_take(&exit->total, len, now)) {
        return true;
    }
    if (exit->session_rate != 0) { /* it did not pass: the session keeps what it had */
        bucket->level_us += (uint64_t)len * MVPN_US_PER_S;
    }
    return false;
}

/* --- session to internet --- */

static bool is_inner(const uint8_t *addr, const uint8_t *inner, const mvpn_ip *ip)
{
    return memcmp(addr, inner, mvpn_ip_addr_len(ip)) == 0;
}

/* Echo and errors; redirects, router and neighbour messages and the rest stay inside one's own LAN.
 */
static bool icmp_may_pass(const mvpn_ip *ip)
{
    if (!ip->has_l4) {
        return true;
    }
    if (ip->version == 4 && ip->protocol == MVPN_IP_ICMP) {
        return ip->icmp_type == MVPN_ICMP_ECHO || ip->icmp_type == MVPN_ICMP_ECHO_REPLY ||
               ip->icmp_type == MVPN_ICMP_UNREACHABLE || ip->icmp_type == MVPN_ICMP_TIME_EXCEEDED ||
               ip->icmp_type == MVPN_ICMP_PARAMETER;
    }
    if (ip->version == 6 && ip->protocol == MVPN_IP_ICMPV6) {
        return ip->icmp_type == MVPN_ICMPV6_ECHO || ip->icmp_type == MVPN_ICMPV6_ECHO_REPLY ||
               (ip->icmp_type >= MVPN_ICMPV6_UNREACHABLE && ip->icmp_type <= MVPN_ICMPV6_PARAMETER);
    }
    return true;
}

static passed fragment_key(const mvpn_packet *packet, const mvpn_ip *ip)
{
    passed key = {.version = ip->version, .protocol = ip->protocol};
    key.id = ip->version == 4 ? mvpn_load16(packet->data + 4)
                              : mvpn_load32(packet->data + ip->frag_header + 4);
    memcpy(key.dst, ip->dst, sizeof(key.dst));
    return key;
}

static passed *find_passed(session *s, const passed *key, mvpn_time now)
{
    for (size_t i = 0; i < FRAGMENTS_MAX; i++) {
        passed *f = &s->fragments[i];
        if (f->until > now && f->id == key->id && f->version == key->version &&
            f->protocol == key->protocol && memcmp(f->dst, key->dst, sizeof(f->dst)) == 0) {
            return f;
        }
    }
    return NULL;
}

/*
 * The policy's answer; a later fragment, which has no ports, follows its first one. One that comes
 * before the first is lost: to let it pass would let whoever never sends a first one flood ports
 * that are refused.
 */
static bool policy_allows(mvpn_exit *exit, session *s, const mvpn_packet *packet, const mvpn_ip *ip,
                          mvpn_time now)
{
    enum mvpn_policy_result result = mvpn_policy_judge(exit->policy, ip).result;
    if (!ip->fragment) {
        return result == MVPN_POLICY_ACCEPT;
    }
    passed key = fragment_key(packet, ip);
    passed *before = find_passed(s, &key, now);
    if (!ip->has_l4) {
        return result == MVPN_POLICY_ACCEPT || (result == MVPN_POLICY_DEPENDS && before != NULL);
    }
    if (before != NULL) {
        before->until = 0;
    }
    if (result == MVPN_POLICY_ACCEPT) {
        key.until = now + FRAGMENT_LIFETIME;
        s->fragments[s->fragment_next++ % FRAGMENTS_MAX] = key;
    }
    return result == MVPN_POLICY_ACCEPT;
}

static void set_len(mvpn_packet *packet, uint32_t len)
{
    if (len > packet->len) {
        (void)mvpn_packet_append(packet, len - packet->len);
    } else {
        mvpn_packet_truncate(packet, len);
    }
}

static void wrap_answer(mvpn_packet *packet, const mvpn_dns_client *client);

static int ask_resolver(mvpn_exit *exit, session *s, mvpn_packet *packet, const mvpn_ip *ip,
                        mvpn_time now)
{
    mvpn_dns_client client = {id_of(exit, s), ip->src_port, ip->version, false};
    if (!mvpn_csum_transport_ok(packet->data, ip)) {
        return drop(exit, packet, &exit->counters.dns_refused, MVPN_E_FORMAT);
    }
    mvpn_packet_pull(packet, (uint32_t)ip->l4 + MVPN_UDP_HEADER);
    uint32_t len = packet->len;
    int r =
        mvpn_dns_query(exit->dns, exit->rng, &client, &s->dns, has_v6(exit, s), packet->data, &len,
                       packet->len + (uint32_t)mvpn_packet_tailroom(packet), now, &packet->remote);
    if (r < 0) {
        return drop(exit, packet, &exit->counters.dns_refused, r);
    }
    set_len(packet, len);
    exit->counters.dns_queries++;
    if (r == MVPN_DNS_ANSWERED) {
        wrap_answer(packet, &client);
        exit->counters.dns_answers++;
        exit->counters.dns_local++;
        return send_to_session(exit, s, packet);
    }
    packet->local = MVPN_EXIT_LOCAL_DNS;
    packet->flags = 0;
    return send_out(exit, &exit->dns_out, packet);
}

/* DNS by TCP ends at the kernel's own TCP on the TUN device, where io listens. */
static int to_listener(mvpn_exit *exit, session *s, mvpn_packet *packet, mvpn_ip *ip)
{
    bool v4 = ip->version == 4;
    mvpn_ip_norm norm = {.ttl = MVPN_EXIT_TTL, .fragment_key = s->fragment_key};
    if (!ip->df) {
        norm.random_id = (uint16_t)mvpn_rng_u32(exit->rng);
    }
    if (mvpn_ip_rewrite_src(packet->data, ip, v4 ? s->pool_v4 : s->pool_v6) != 0 ||
        mvpn_ip_rewrite_dst(packet->data, ip, v4 ? exit->device_v4 : exit->device_v6) != 0) {
        return drop(exit, packet, &exit->counters.refused_format, MVPN_E_FORMAT);
    }
    mvpn_ip_normalise(packet->data, ip, &norm);
    (void)mvpn_ip_clamp_mss(packet->data, ip, s->inner_mtu);
    return send_out(exit, &exit->tun_out, packet);
}

/* The gateway answers echo and resolves names; it has no other service. */
static int to_gateway(mvpn_exit *exit, session *s, mvpn_packet *packet, mvpn_ip *ip, mvpn_time now)
{
    if (ip->protocol == MVPN_IP_UDP && ip->has_l4 && !ip->fragment && ip->dst_port == PORT_DNS) {
        return ask_resolver(exit, s, packet, ip, now);
    }
    if (exit->dns_stream && ip->protocol == MVPN_IP_TCP && ip->has_l4 && !ip->fragment &&
        ip->dst_port == PORT_DNS && (ip->version == 4 || has_v6(exit, s))) {
        return to_listener(exit, s, packet, ip);
    }
    if (mvpn_icmp_echo_reply(packet, ip) == 0) {
        exit->counters.echo_answered++;
        return send_to_session(exit, s, packet);
    }
    bool ports = ip->protocol == MVPN_IP_TCP || ip->protocol == MVPN_IP_UDP;
    if (ip->version == 6) {
        send_unreachable(exit, s, packet, ip, ports ? MVPN_ICMPV6_PORT : MVPN_ICMPV6_PROHIBITED,
                         now);
    } else if (ip->protocol != MVPN_IP_ICMP) {
        send_unreachable(exit, s, packet, ip, ports ? MVPN_ICMP_PORT : MVPN_ICMP_PROTOCOL, now);
    }
    return drop(exit, packet, &exit->counters.refused_policy, MVPN_E_POLICY);
}

static int to_internet(mvpn_exit *exit, session *s, mvpn_packet *packet, mvpn_ip *ip, mvpn_time now)
{
    bool v4 = ip->version == 4;
    if (!v4 && !has_v6(exit, s)) {
        /* An answer at once makes applications fall back to IPv4; silence costs them seconds. */
        send_unreachable(exit, s, packet, ip, MVPN_ICMPV6_NO_ROUTE, now);
        return drop(exit, packet, &exit->counters.refused_no_v6, MVPN_E_POLICY);
    }
    if (!icmp_may_pass(ip) || !policy_allows(exit, s, packet, ip, now)) {
        send_unreachable(exit, s, packet, ip, v4 ? MVPN_ICMP_PROHIBITED : MVPN_ICMPV6_PROHIBITED,
                         now);
        return drop(exit, packet, &exit->counters.refused_policy, MVPN_E_POLICY);
    }
    if (!within_quota(exit, packet->len)) {
        send_unreachable(exit, s, packet, ip, v4 ? MVPN_ICMP_PROHIBITED : MVPN_ICMPV6_PROHIBITED,
                         now);
        return drop(exit, packet, &exit->counters.refused_quota, MVPN_E_LIMIT);
    }
    mvpn_ip_norm norm = {.ttl = MVPN_EXIT_TTL, .fragment_key = s->fragment_key};
    if (!ip->df) {
        norm.random_id = (uint16_t)mvpn_rng_u32(exit->rng);
    }
    if (mvpn_ip_rewrite_src(packet->data, ip, v4 ? s->pool_v4 : s->pool_v6) != 0) {
        return drop(exit, packet, &exit->counters.refused_format, MVPN_E_FORMAT);
    }
    mvpn_ip_normalise(packet->data, ip, &norm);
    (void)mvpn_ip_clamp_mss(packet->data, ip, s->inner_mtu);
    uint32_t len = packet->len;
    int r = send_out(exit, &exit->tun_out, packet);
    if (r == 0) {
        exit->counters.out_packets++;
        exit->counters.out_bytes += len;
        exit->quota_used += len;
    }
    return r;
}

int mvpn_exit_from_session(mvpn_exit *exit, uint32_t id, mvpn_packet *packet, mvpn_time now)
{
    mvpn_ip ip;
    session *s = find_session(exit, id);
    if (s == NULL) {
        return drop(exit, packet, &exit->counters.unknown_session, MVPN_E_UNKNOWN);
    }
    if (!within_rate(exit, &s->up, packet->len, now)) {
        return drop(exit, packet, &exit->counters.refused_rate, MVPN_E_LIMIT);
    }
    /* Options (record route, timestamps, hop-by-hop) pass few routers and tell much. */
    if (mvpn_ip_parse(packet->data, packet->len, &ip) != 0 || ip.options) {
        return drop(exit, packet, &exit->counters.refused_format, MVPN_E_FORMAT);
    }
    if (!is_inner(ip.src, mvpn_inner_client(ip.version), &ip)) {
        return drop(exit, packet, &exit->counters.refused_source, MVPN_E_POLICY);
    }
    if (is_inner(ip.dst, mvpn_inner_gateway(ip.version), &ip)) {
        return to_gateway(exit, s, packet, &ip, now);
    }
    return to_internet(exit, s, packet, &ip, now);
}

/* --- internet to session --- */

/*
 * The sender must make its packets smaller. The error comes from the session's own pool address: an
 * address of the TUN device itself would be a martian to the kernel that has to translate it.
 */
static int refuse_too_big(mvpn_exit *exit, session *s, mvpn_packet *packet, const mvpn_ip *ip,
                          uint32_t limit, mvpn_time now)
{
    mvpn_packet *out = NULL;
    if (mvpn_icmp_may_answer(ip) && mvpn_bucket_take(&s->icmp, 1, now)) {
        out = mvpn_packet_new(exit->packets);
    }
    if (out != NULL && mvpn_icmp_too_big(out, packet, ip, ip->dst, limit) == 0) {
        if (send_out(exit, &exit->tun_out, out) == 0) {
            exit->counters.icmp_sent++;
        }
    } else {
        mvpn_packet_free(exit->packets, out);
    }
    return drop(exit, packet, &exit->counters.too_big, MVPN_E_TOO_BIG);
}

/* Of the listener of DNS: its TCP alone, nothing else of the device. */
static bool is_of_listener(const mvpn_exit *exit, const mvpn_ip *ip)
{
    return exit->dns_stream && ip->protocol == MVPN_IP_TCP && ip->has_l4 && !ip->fragment &&
           ip->src_port == PORT_DNS &&
           is_inner(ip->src, ip->version == 4 ? exit->device_v4 : exit->device_v6, ip);
}

/* What cannot come from the internet: other sessions, and the addresses inside circuits. */
static bool is_foreign_source(const mvpn_exit *exit, const mvpn_ip *ip)
{
    return !mvpn_addr_pool_covers(exit->pool, ip->version, ip->src) &&
           !is_inner(ip->src, mvpn_inner_client(ip->version), ip) &&
           !is_inner(ip->src, mvpn_inner_gateway(ip->version), ip);
}

static int deliver(mvpn_exit *exit, session *s, mvpn_packet *packet, mvpn_ip *ip)
{
    if (mvpn_ip_rewrite_dst(packet->data, ip, mvpn_inner_client(ip->version)) != 0) {
        return drop(exit, packet, &exit->counters.refused_format, MVPN_E_FORMAT);
    }
    (void)mvpn_ip_clamp_mss(packet->data, ip, s->inner_mtu);
    uint32_t len = packet->len;
    int r = send_to_session(exit, s, packet);
    if (r == 0) {
        exit->counters.in_packets++;
        exit->counters.in_bytes += len;
        exit->quota_used += len;
    }
    return r;
}

int mvpn_exit_from_tun(mvpn_exit *exit, mvpn_packet *packet, mvpn_time now)
{
    mvpn_ip ip;
    if (mvpn_ip_parse(packet->data, packet->len, &ip) != 0 || ip.options) {
        return drop(exit, packet, &exit->counters.refused_format, MVPN_E_FORMAT);
    }
    session *s = session_of_pool_addr(exit, ip.version, ip.dst);
    if (s == NULL || (ip.version == 6 && !has_v6(exit, s))) {
        return drop(exit, packet, &exit->counters.unknown_session, MVPN_E_UNKNOWN);
    }
    if (is_of_listener(exit, &ip)) {
        if (mvpn_ip_rewrite_src(packet->data, &ip, mvpn_inner_gateway(ip.version)) != 0) {
            return drop(exit, packet, &exit->counters.refused_format, MVPN_E_FORMAT);
        }
    } else if (!is_foreign_source(exit, &ip) || !icmp_may_pass(&ip)) {
        return drop(exit, packet, &exit->counters.refused_policy, MVPN_E_POLICY);
    }
    if (!within_rate(exit, &s->down, packet->len, now)) {
        return drop(exit, packet, &exit->counters.refused_rate, MVPN_E_LIMIT);
    }
    if (!within_quota(exit, packet->len)) {
        return drop(exit, packet, &exit->counters.refused_quota, MVPN_E_LIMIT);
    }
    /* Larger packets travel in several cells; only senders that can help it are told to. */
    uint32_t limit = MVPN_MAX(s->inner_mtu, (uint32_t)MVPN_IPV6_MIN_MTU);
    if (ip.total_len > limit && ip.df) {
        return refuse_too_big(exit, s, packet, &ip, limit, now);
    }
    return deliver(exit, s, packet, &ip);
}

/* Put UDP and IP headers before a resolver's answer: from the gateway, as the client asked it. */
static void wrap_answer(mvpn_packet *packet, const mvpn_dns_client *client)
{
    bool v4 = client->version == 4;
    size_t header = v4 ? MVPN_IPV4_HEADER : MVPN_IPV6_HEADER, addr_len = v4 ? 4 : 16;
    uint32_t udp_len = packet->len + MVPN_UDP_HEADER;
    uint8_t *udp = mvpn_packet_push(packet, MVPN_UDP_HEADER);
    mvpn_store16(udp, PORT_DNS);
    mvpn_store16(udp + 2, client->port);
    mvpn_store16(udp + 4, (uint16_t)udp_len);
    uint8_t *p = mvpn_packet_push(packet, (uint32_t)header);
    memset(p, 0, header);
    if (v4) {
        p[0] = 0x45;
        mvpn_store16(p + 2, (uint16_t)packet->len);
        p[8] = MVPN_EXIT_TTL;
        p[9] = MVPN_IP_UDP;
    } else {
        p[0] = 0x60;
        mvpn_store16(p + 4, (uint16_t)udp_len);
        p[6] = MVPN_IP_UDP;
        p[7] = MVPN_EXIT_TTL;
    }
    uint8_t *addrs = p + (v4 ? 12 : 8);
    memcpy(addrs, mvpn_inner_gateway(client->version), addr_len);
    memcpy(addrs + addr_len, mvpn_inner_client(client->version), addr_len);
    if (v4) {
        mvpn_csum_ipv4_set(p);
    }
    mvpn_ip ip = {.version = client->version, .protocol = MVPN_IP_UDP};
    ip.l4 = (uint16_t)header;
    ip.l4_len = (uint16_t)udp_len;
    mvpn_csum_transport_set(p, &ip);
    packet->local = 0;
    packet->flags = MVPN_PACKET_CSUM_OK;
}

int mvpn_exit_from_dns(mvpn_exit *exit, mvpn_packet *packet, mvpn_time now)
{
    mvpn_dns_client client;
    /* More than was asked for, and than a packet has room for with its headers. */
    if (packet->len > MVPN_PACKET_ROOM - MVPN_IPV6_HEADER - MVPN_UDP_HEADER) {
        return drop(exit, packet, &exit->counters.dns_refused, MVPN_E_TOO_BIG);
    }
    uint32_t len = packet->len;
    int r = mvpn_dns_answer(exit->dns, &packet->remote, false, packet->data, &len, now, &client);
    if (r < 0) {
        return drop(exit, packet, &exit->counters.dns_refused, r);
    }
    exit->counters.dns_private += r == MVPN_DNS_EMPTIED;
    session *s = find_session(exit, client.session);
    if (s == NULL) {
        return drop(exit, packet, &exit->counters.unknown_session, MVPN_E_UNKNOWN);
    }
    set_len(packet, len);
    wrap_answer(packet, &client);
    exit->counters.dns_answers++;
    return send_to_session(exit, s, packet);
}

int mvpn_exit_stream_query(mvpn_exit *exit, const mvpn_addr *peer, uint16_t connection,
                           uint8_t *message, uint32_t *len, uint32_t size, mvpn_time now,
                           mvpn_addr *ret_upstream)
{
    session *s = session_of_pool_addr(exit, peer->family, peer->ip);
    if (s == NULL) {
        return MVPN_E_UNKNOWN;
    }
    mvpn_dns_client client = {id_of(exit, s), connection, peer->family, true};
    int r = mvpn_dns_query(exit->dns, exit->rng, &client, &s->dns, has_v6(exit, s), message, len,
                           size, now, ret_upstream);
    exit->counters.dns_queries += r >= 0;
    exit->counters.dns_refused += r < 0;
    exit->counters.dns_answers += r == MVPN_DNS_ANSWERED;
    exit->counters.dns_local += r == MVPN_DNS_ANSWERED;
    return r;
}

int mvpn_exit_stream_answer(mvpn_exit *exit, const mvpn_addr *upstream, uint8_t *message,
                            uint32_t *len, mvpn_time now, uint16_t *ret_connection)
{
    mvpn_dns_client client;
    int r = mvpn_dns_answer(exit->dns, upstream, true, message, len, now, &client);
    if (r < 0) {
        exit->counters.dns_refused++;
        return r;
    }
    exit->counters.dns_private += r == MVPN_DNS_EMPTIED;
    exit->counters.dns_answers++;
    *ret_connection = client.port;
    return 0;
}

/* --- time --- */

void mvpn_exit_tick(mvpn_exit *exit, mvpn_time now)
{
    mvpn_dns_client client;
    while (mvpn_dns_pull_expired(exit->dns, now, &client)) {
        exit->counters.dns_expired++;
    }
    mvpn_addr_pool_tick(exit->pool, now);
}

mvpn_time mvpn_exit_deadline(const mvpn_exit *exit)
{
    return mvpn_time_min(mvpn_dns_deadline(exit->dns), mvpn_addr_pool_deadline(exit->pool));
}

bool mvpn_exit_pull_event(mvpn_exit *exit, mvpn_exit_event *ret_event)
{
    uint32_t host;
    if (!mvpn_addr_pool_pull_released(exit->pool, &host)) {
        return false;
    }
    ret_event->pool_v4 = mvpn_addr_pool_v4(exit->pool, host);
    ret_event->pool_v6 = mvpn_addr_pool_v6(exit->pool, host);
    return true;
}
