#include "core/flows.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/hash.h"
#include "crypto/hash.h"
#include "network/ip/checksum.h"
#include "network/ip/icmp.h"
#include "network/ip/ip.h"

#define RESET_TTL 64
/* Datagrams whose fragments are under way; each is sent in one go, so few at a time. */
#define FRAGMENTED 256
/* From the first fragment to the last: as long as a cell's fragments are waited for. */
#define FRAGMENT_LIFE MVPN_S(2)

enum kind {
    OPENING, /* TCP, SYN seen */
    OPEN,    /* TCP, established or half closed */
    CLOSED,  /* TCP, all bytes and FINs have arrived, or reset by one end */
    DATAGRAM,
    ICMP,
    KINDS,
};

/* A quiet flow counts for its session so long ... */
static const mvpn_time hold[KINDS] = {
    MVPN_FLOWS_OPENING_HOLD, MVPN_FLOWS_TCP_HOLD, 0, MVPN_FLOWS_UDP_HOLD, MVPN_FLOWS_ICMP_HOLD,
};
/* ... and is known so long. */
static const mvpn_time keep[KINDS] = {
    MVPN_FLOWS_OPENING_HOLD, MVPN_TIME_NEVER,      MVPN_FLOWS_CLOSED_KEEP,
    MVPN_FLOWS_UDP_HOLD,     MVPN_FLOWS_ICMP_HOLD,
};

/* As the host sees it; ports are the identifier and 0 for ICMP echo. No padding. */
struct key {
    uint8_t remote[16];
    uint8_t local[16];
    uint16_t remote_port, local_port;
    uint8_t protocol, version;
    uint8_t zero[2];
};
_Static_assert(sizeof(struct key) == 40, "compared as bytes");

#define TCP_HAS_ACK 0x01 /* `out_ack` is known */
#define TCP_HAS_IN 0x02  /* `in_next` is known */
#define TCP_FIN_OUT 0x04
#define TCP_FIN_IN 0x08
#define TCP_RESET 0x10

struct tcp {
    uint32_t syn_next; /* behind the host's SYN */
    uint32_t out_next; /* behind all that the host sent */
    uint32_t out_ack;  /* what the host expects next */
    uint32_t in_next;  /* behind all that the other end sent */
    uint32_t fin_next; /* behind its FIN */
    uint8_t flags;
};

struct flow {
    mvpn_hash_node node;
    mvpn_list link;          /* lane, `due`, `dead` or `unused` */
    struct session *session; /* NULL: dead */
    mvpn_time last;          /* packet */
    uint64_t used;           /* turn of its last packet: order among lanes */
    struct key key;
    struct tcp tcp;
    uint8_t kind;
    bool held; /* counted in its lane */
    bool due;  /* dead, and in `due` */
};

/* Flows of one session and kind, the least recently used one first. Those from `held_from` on are
 * held, so that counting only moves this border. */
struct lane {
    mvpn_list flows;
    mvpn_list *held_from;
    uint32_t held;
};

struct session {
    uint32_t number; /* 0: free */
    struct lane lanes[KINDS];
};

struct fragmented {
    uint64_t tag; /* keyed hash of direction, addresses and identification */
    mvpn_time last;
    uint32_t session;
};

struct mvpn_flows {
    mvpn_siphash_key sip;
    mvpn_hash table;
    struct session sessions[MVPN_FLOWS_SESSIONS_MAX];
    unsigned session_count;
    uint64_t turn;
    mvpn_list due;  /* a reset is to be built */
    mvpn_list dead; /* reset; the longest dead first */
    uint32_t due_count;
    mvpn_list unused;
    struct fragmented fragmented[FRAGMENTED];
    struct flow flows[]; /* all of them */
};

/* ---- table and lanes ---- */

int mvpn_flows_new(size_t max, mvpn_rng *rng, mvpn_flows **ret)
{
    if (max == 0 || max > MVPN_FLOWS_MAX) {
        return MVPN_E_INVAL;
    }
    mvpn_flows *f = calloc(1, sizeof(*f) + max * sizeof(f->flows[0]));
    if (f == NULL || mvpn_hash_init(&f->table, max) != 0) {
        free(f);
        return MVPN_E_NOMEM;
    }
    mvpn_rng_bytes(rng, f->sip.b, sizeof(f->sip.b));
    mvpn_list_init(&f->due);
    mvpn_list_init(&f->dead);
    mvpn_list_init(&f->unused);
    for (size_t i = 0; i < max; i++) {
        mvpn_list_append(&f->unused, &f->flows[i].link);
    }
    *ret = f;
    return 0;
}

void mvpn_flows_free(mvpn_flows *flows)
{
    if (flows != NULL) {
        mvpn_hash_done(&flows->table);
        free(flows);
    }
}

size_t mvpn_flows_size(const mvpn_flows *flows)
{
    return flows->table.count;
}

static struct session *session_find(mvpn_flows *flows, uint32_t number)
{
    for (size_t i = 0; number != 0 && i < MVPN_ARRAY_LEN(flows->sessions); i++) {
        if (flows->sessions[i].number == number) {
            return &flows->sessions[i];
        }
    }
    return NULL;
}

int mvpn_flows_open_session(mvpn_flows *flows, uint32_t session)
{
    if (session == 0) {
        return MVPN_E_INVAL;
    }
    if (session_find(flows, session) != NULL) {
        return 0;
    }
    for (size_t i = 0; i < MVPN_ARRAY_LEN(flows->sessions); i++) {
        struct session *s = &flows->sessions[i];
        if (s->number != 0) {
            continue;
        }
        s->number = session;
        for (size_t k = 0; k < KINDS; k++) {
            mvpn_list_init(&s->lanes[k].flows);
            s->lanes[k].held_from = &s->lanes[k].flows;
            s->lanes[k].held = 0;
        }
        flows->session_count++;
        return 0;
    }
    return MVPN_E_LIMIT;
}

static struct lane *lane_of(struct flow *f)
{
    return &f->session->lanes[f->kind];
}

static struct flow *flow_of(mvpn_list *link)
{
    return MVPN_CONTAINER_OF(link, struct flow, link);
}

static void let_go(struct lane *lane, struct flow *f)
{
    lane->held -= f->held;
    f->held = false;
}

/* Out of its lane, or of the lists of the dead. */
static void detach(mvpn_flows *flows, struct flow *f)
{
    if (f->session != NULL) {
        struct lane *lane = lane_of(f);
        if (lane->held_from == &f->link) {
            lane->held_from = f->link.next;
        }
        let_go(lane, f);
    }
    flows->due_count -= f->due;
    f->due = false;
    f->session = NULL;
    mvpn_list_remove(&f->link);
}

static void attach(mvpn_flows *flows, struct flow *f, struct session *s, enum kind kind,
                   mvpn_time now)
{
    f->session = s;
    f->kind = (uint8_t)kind;
    f->last = now;
    f->used = ++flows->turn;
    f->held = true;
    struct lane *lane = lane_of(f);
    mvpn_list_append(&lane->flows, &f->link);
    if (lane->held_from == &lane->flows) {
        lane->held_from = &f->link;
    }
    lane->held++;
}

/* A packet of it passed; what it is may have changed. */
static void touch(mvpn_flows *flows, struct flow *f, enum kind kind, mvpn_time now)
{
    struct session *s = f->session;
    if (f->kind == kind && f->held && lane_of(f)->flows.prev == &f->link) {
        f->last = now; /* packets of one flow mostly come in rows */
        f->used = ++flows->turn;
        return;
    }
    detach(flows, f);
    attach(flows, f, s, kind, now);
}

static void forget(mvpn_flows *flows, struct flow *f)
{
    detach(flows, f);
    mvpn_hash_remove(&flows->table, &f->node);
    mvpn_list_append(&flows->unused, &f->link);
}

static void die(mvpn_flows *flows, struct flow *f)
{
    detach(flows, f);
    f->due = true;
    flows->due_count++;
    mvpn_list_append(&flows->due, &f->link);
}

static bool is_over(const struct flow *f, mvpn_time now)
{
    return f->session != NULL && keep[f->kind] != MVPN_TIME_NEVER && now - f->last >= keep[f->kind];
}

static struct flow *oldest(mvpn_flows *flows, bool is_open)
{
    struct flow *found = NULL;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(flows->sessions); i++) {
        struct session *s = &flows->sessions[i];
        for (unsigned k = 0; s->number != 0 && k < KINDS; k++) {
            mvpn_list *head = &s->lanes[k].flows;
            if ((k == OPEN) != is_open || mvpn_list_is_empty(head)) {
                continue;
            }
            struct flow *f = flow_of(head->next);
            if (found == NULL || f->used < found->used) {
                found = f;
            }
        }
    }
    return found;
}

/* Those that were reset go first, then the least recently used one that is no open connection. */
static void evict(mvpn_flows *flows)
{
    struct flow *f;
    if (!mvpn_list_is_empty(&flows->dead)) {
        f = flow_of(flows->dead.next);
    } else if ((f = oldest(flows, false)) == NULL) {
        f = !mvpn_list_is_empty(&flows->due) ? flow_of(flows->due.next) : oldest(flows, true);
    }
    MVPN_ASSERT(f != NULL); /* all flows are somewhere */
    forget(flows, f);
}

/* IPv4, most of all, is hashed in two blocks. */
static uint64_t hash_of(const mvpn_flows *flows, const struct key *key)
{
    if (key->version == 6) {
        return mvpn_siphash(&flows->sip, key, sizeof(*key));
    }
    uint8_t b[14];
    memcpy(b, key->remote, 4);
    memcpy(b + 4, key->local, 4);
    memcpy(b + 8, &key->remote_port, 2);
    memcpy(b + 10, &key->local_port, 2);
    b[12] = key->protocol;
    b[13] = key->version;
    return mvpn_siphash(&flows->sip, b, sizeof(b));
}

static struct flow *find(mvpn_flows *flows, const struct key *key, uint64_t hash)
{
    for (mvpn_hash_node *n = mvpn_hash_first(&flows->table, hash); n != NULL;
         n = mvpn_hash_next(n)) {
        struct flow *f = MVPN_CONTAINER_OF(n, struct flow, node);
        if (memcmp(&f->key, key, sizeof(*key)) == 0) {
            return f;
        }
    }
    return NULL;
}

static struct flow *make(mvpn_flows *flows, const struct key *key, uint64_t hash)
{
    if (mvpn_list_is_empty(&flows->unused)) {
        evict(flows);
    }
    struct flow *f = flow_of(mvpn_list_pop(&flows->unused));
    *f = (struct flow){.key = *key};
    mvpn_hash_insert(&flows->table, &f->node, hash);
    return f;
}

/* ---- packets ---- */

static bool is_icmp(const mvpn_ip *ip)
{
    return ip->protocol == (ip->version == 4 ? MVPN_IP_ICMP : MVPN_IP_ICMPV6);
}

static bool is_echo(const mvpn_ip *ip)
{
    return ip->version == 4
               ? ip->icmp_type == MVPN_ICMP_ECHO || ip->icmp_type == MVPN_ICMP_ECHO_REPLY
               : ip->icmp_type == MVPN_ICMPV6_ECHO || ip->icmp_type == MVPN_ICMPV6_ECHO_REPLY;
}

/* The flow of a packet whose transport header, or its first bytes, are at `l4`. */
static struct key key_of(const mvpn_ip *ip, const uint8_t *l4, bool outward)
{
    struct key key = {.protocol = ip->protocol, .version = ip->version};
    uint16_t src = 0, dst = 0;
    memcpy(key.local, outward ? ip->src : ip->dst, 16);
    memcpy(key.remote, outward ? ip->dst : ip->src, 16);
    if ((ip->protocol == MVPN_IP_TCP || ip->protocol == MVPN_IP_UDP) && ip->l4_len >= 4) {
        src = mvpn_load16(l4);
        dst = mvpn_load16(l4 + 2);
    }
    if (is_icmp(ip) && is_echo(ip) && ip->l4_len >= 6) {
        key.local_port = mvpn_load16(l4 + 4);
        return key;
    }
    key.local_port = outward ? src : dst;
    key.remote_port = outward ? dst : src;
    return key;
}

/*
 * The flow that an ICMP error is about: one that a packet of the other direction belongs to. Ports
 * are read even where the quote says it is no first fragment, since hosts do not look at that.
 */
static struct flow *find_quoted(mvpn_flows *flows, const uint8_t *packet, const mvpn_ip *ip,
                                bool outward, mvpn_time now)
{
    mvpn_ip quoted;
    const uint8_t *at = packet + ip->l4 + MVPN_ICMP_HEADER;
    if (ip->l4_len <= MVPN_ICMP_HEADER ||
        mvpn_ip_parse_quoted(at, (size_t)ip->l4_len - MVPN_ICMP_HEADER, &quoted) != 0) {
        return NULL;
    }
    struct key key = key_of(&quoted, at + quoted.l4, !outward);
    struct flow *f = find(flows, &key, hash_of(flows, &key));
    return f != NULL && !is_over(f, now) ? f : NULL;
}

/* One datagram's fragments share addresses and identification; IPv4's also the protocol (RFC 791
 * §3.2, RFC 8200 §4.5). */
static struct fragmented *fragmented_of(mvpn_flows *flows, const uint8_t *packet, const mvpn_ip *ip,
                                        bool outward, uint64_t *ret_tag)
{
    uint8_t b[38] = {outward, ip->version == 4 ? ip->protocol : 0};
    memcpy(b + 2, ip->src, 16);
    memcpy(b + 18, ip->dst, 16);
    mvpn_store32(b + 34, ip->version == 4 ? mvpn_load16(packet + 4)
                                          : mvpn_load32(packet + ip->frag_header + 4));
    *ret_tag = mvpn_siphash(&flows->sip, b, sizeof(b));
    return &flows->fragmented[*ret_tag % FRAGMENTED];
}

static void remember(mvpn_flows *flows, const uint8_t *packet, const mvpn_ip *ip, bool outward,
                     uint32_t session, mvpn_time now)
{
    uint64_t tag;
    struct fragmented *d = fragmented_of(flows, packet, ip, outward, &tag);
    *d = (struct fragmented){.tag = tag, .last = now, .session = session};
}

/* The session by which the first fragment went, 0 if it was not seen. */
static uint32_t recall(mvpn_flows *flows, const uint8_t *packet, const mvpn_ip *ip, bool outward,
                       mvpn_time now)
{
    uint64_t tag;
    const struct fragmented *d = fragmented_of(flows, packet, ip, outward, &tag);
    return d->tag == tag && now - d->last < FRAGMENT_LIFE ? d->session : 0;
}

/* ---- TCP ---- */

struct segment {
    uint32_t seq, ack;
    uint32_t next; /* behind it */
    uint8_t flags;
};

static struct segment segment_of(const mvpn_ip *ip, const uint8_t *l4)
{
    struct segment s = {
        .seq = mvpn_load32(l4 + 4), .ack = mvpn_load32(l4 + 8), .flags = ip->tcp_flags};
    uint32_t header = (uint32_t)(l4[12] >> 4) * 4;
    s.next = s.seq + ip->l4_len - header + ((s.flags & MVPN_TCP_SYN) != 0) +
             ((s.flags & MVPN_TCP_FIN) != 0);
    return s;
}

/* Sequence numbers wrap (RFC 9293 §3.4). */
static bool is_after(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b) > 0;
}

static bool is_syn(const mvpn_ip *ip)
{
    return ip->protocol == MVPN_IP_TCP &&
           (ip->tcp_flags & (MVPN_TCP_SYN | MVPN_TCP_ACK | MVPN_TCP_RST)) == MVPN_TCP_SYN;
}

/* The host has all that the other end sends, and said all it has to say. */
static bool is_finished(const struct tcp *t)
{
    const uint8_t both = TCP_FIN_OUT | TCP_FIN_IN;
    return (t->flags & both) == both && (t->flags & TCP_HAS_ACK) != 0 &&
           !is_after(t->fin_next, t->out_ack);
}

static enum kind kind_now(const struct tcp *t, enum kind before)
{
    if ((t->flags & TCP_RESET) != 0 || is_finished(t)) {
        return CLOSED;
    }
    return before == CLOSED ? OPEN : before;
}

/* A segment of the host's: what it says of itself is true. */
static enum kind tcp_out(struct tcp *t, const struct segment *s, enum kind kind)
{
    if (s->flags & MVPN_TCP_RST) {
        t->flags |= TCP_RESET;
        return CLOSED;
    }
    /* It goes on, so that a reset from the network was none to it. */
    t->flags &= (uint8_t)~TCP_RESET;
    if (s->flags & MVPN_TCP_SYN) {
        t->syn_next = s->seq + 1;
        t->out_next = s->next;
    }
    if (is_after(s->next, t->out_next)) {
        t->out_next = s->next;
    }
    if (s->flags & MVPN_TCP_ACK) {
        t->out_ack = s->ack;
        t->flags |= TCP_HAS_ACK;
    }
    if (s->flags & MVPN_TCP_FIN) {
        t->flags |= TCP_FIN_OUT;
    }
    if (kind == OPENING && (s->flags & MVPN_TCP_SYN) == 0) {
        kind = OPEN;
    }
    return kind_now(t, kind);
}

/* Only a reset that the host takes closes the connection (RFC 9293 §3.10.7.3, §3.10.7.4; RFC 5961
 * §3.2); its last acknowledgement may still be on the way. */
static bool is_reset(const struct tcp *t, const struct segment *s)
{
    if ((t->flags & TCP_HAS_ACK) == 0) {
        return (s->flags & MVPN_TCP_ACK) != 0 && !is_after(t->syn_next, s->ack) &&
               !is_after(s->ack, t->out_next);
    }
    return s->seq == t->out_ack || ((t->flags & TCP_HAS_IN) != 0 && s->seq == t->in_next);
}

static enum kind tcp_in(struct tcp *t, const struct segment *s, enum kind kind)
{
    if (s->flags & MVPN_TCP_RST) {
        if (is_reset(t, s)) {
            t->flags |= TCP_RESET;
        }
        return kind_now(t, kind);
    }
    if ((s->flags & MVPN_TCP_SYN) != 0 || (t->flags & TCP_HAS_IN) == 0 ||
        is_after(s->next, t->in_next)) {
        t->in_next = s->next;
        t->flags |= TCP_HAS_IN;
    }
    if (s->flags & MVPN_TCP_FIN) {
        t->fin_next = s->next;
        t->flags |= TCP_FIN_IN;
    }
    return kind_now(t, kind);
}

/* ---- out ---- */

static enum kind kind_of(const mvpn_ip *ip)
{
    if (ip->protocol == MVPN_IP_TCP) {
        return is_syn(ip) ? OPENING : OPEN;
    }
    return is_icmp(ip) ? ICMP : DATAGRAM;
}

static enum kind update_out(struct flow *f, const mvpn_ip *ip, const uint8_t *l4, enum kind kind)
{
    if (ip->protocol != MVPN_IP_TCP) {
        return kind;
    }
    struct segment s = segment_of(ip, l4);
    return tcp_out(&f->tcp, &s, kind);
}

/* To a connection that is no more: the next reset is exactly what the host expects now. */
static void out_dead(mvpn_flows *flows, struct flow *f, const mvpn_ip *ip, const uint8_t *l4)
{
    if (ip->tcp_flags & MVPN_TCP_RST) {
        forget(flows, f);
        return;
    }
    (void)update_out(f, ip, l4, (enum kind)f->kind);
    if (!f->due) {
        die(flows, f);
    }
}

static uint32_t out_new(mvpn_flows *flows, struct flow *f, const struct key *key, uint64_t hash,
                        const mvpn_ip *ip, const uint8_t *l4, uint32_t current, mvpn_time now)
{
    struct session *s = session_find(flows, current);
    if (s == NULL) {
        return 0;
    }
    if (f == NULL && ip->protocol == MVPN_IP_TCP && (ip->tcp_flags & MVPN_TCP_RST) != 0) {
        return s->number; /* opens nothing */
    }
    if (f == NULL) {
        f = make(flows, key, hash);
    } else {
        detach(flows, f);
        f->tcp = (struct tcp){0};
    }
    attach(flows, f, s, update_out(f, ip, l4, kind_of(ip)), now);
    return s->number;
}

static uint32_t out_flow(mvpn_flows *flows, const uint8_t *l4, const mvpn_ip *ip, uint32_t current,
                         mvpn_time now)
{
    struct key key = key_of(ip, l4, true);
    uint64_t hash = hash_of(flows, &key);
    struct flow *f = find(flows, &key, hash);
    if (f == NULL || is_over(f, now) || is_syn(ip)) {
        return out_new(flows, f, &key, hash, ip, l4, current, now);
    }
    if (f->session == NULL) {
        out_dead(flows, f, ip, l4);
        return 0;
    }
    touch(flows, f, update_out(f, ip, l4, (enum kind)f->kind), now);
    return f->session->number;
}

static uint32_t number_or(mvpn_flows *flows, uint32_t number, uint32_t current)
{
    if (session_find(flows, number) != NULL) {
        return number;
    }
    return session_find(flows, current) != NULL ? current : 0;
}

uint32_t mvpn_flows_out(mvpn_flows *flows, const uint8_t *packet, size_t n, uint32_t current,
                        mvpn_time now)
{
    mvpn_ip ip;
    if (mvpn_ip_parse(packet, n, &ip) != 0) {
        return 0;
    }
    if (!ip.has_l4) {
        return number_or(flows, recall(flows, packet, &ip, true, now), current);
    }
    if (mvpn_ip_is_icmp_error(&ip)) {
        struct flow *f = find_quoted(flows, packet, &ip, true, now);
        return number_or(flows, f != NULL && f->session != NULL ? f->session->number : 0, current);
    }
    uint32_t session = out_flow(flows, packet + ip.l4, &ip, current, now);
    if (ip.fragment) {
        remember(flows, packet, &ip, true, session, now);
    }
    return session;
}

/* ---- in ---- */

static bool in_flow(mvpn_flows *flows, const uint8_t *l4, const mvpn_ip *ip,
                    const struct session *session, mvpn_time now)
{
    struct key key = key_of(ip, l4, false);
    struct flow *f = find(flows, &key, hash_of(flows, &key));
    if (f == NULL || is_over(f, now)) {
        return true;
    }
    if (f->session != session) {
        return false;
    }
    enum kind kind = (enum kind)f->kind;
    if (ip->protocol == MVPN_IP_TCP) {
        struct segment s = segment_of(ip, l4);
        kind = tcp_in(&f->tcp, &s, kind);
    }
    touch(flows, f, kind, now);
    return true;
}

bool mvpn_flows_in(mvpn_flows *flows, const uint8_t *packet, size_t n, uint32_t session,
                   mvpn_time now)
{
    mvpn_ip ip;
    const struct session *s = session_find(flows, session);
    if (s == NULL || mvpn_ip_parse(packet, n, &ip) != 0) {
        return false;
    }
    if (!ip.has_l4) {
        return flows->session_count == 1 || recall(flows, packet, &ip, false, now) == session;
    }
    if (mvpn_ip_is_icmp_error(&ip)) {
        const struct flow *f = find_quoted(flows, packet, &ip, false, now);
        return f == NULL || f->session == s;
    }
    if (!in_flow(flows, packet + ip.l4, &ip, s, now)) {
        return false;
    }
    if (ip.fragment) {
        remember(flows, packet, &ip, false, session, now);
    }
    return true;
}

/* ---- the session's end ---- */

uint32_t mvpn_flows_count(mvpn_flows *flows, uint32_t session, mvpn_time now)
{
    struct session *s = session_find(flows, session);
    uint32_t count = 0;
    for (unsigned k = 0; s != NULL && k < KINDS; k++) {
        struct lane *lane = &s->lanes[k];
        while (lane->held_from != &lane->flows) {
            struct flow *f = flow_of(lane->held_from);
            if (now - f->last < hold[k]) {
                break;
            }
            let_go(lane, f);
            lane->held_from = f->link.next;
        }
        count += lane->held;
    }
    return count;
}

/*
 * A reset from the other end (RFC 9293 §3.10.7.1). The host's last acknowledgement is the number it
 * expects, and the only one that a host takes at once (RFC 5961 §3.2); had it more to acknowledge,
 * it answers with an acknowledgement, and so gets the right reset. Before the first one the reset
 * must acknowledge the SYN (§3.10.7.3).
 */
static void write_reset(mvpn_packet *out, const struct flow *f)
{
    const bool v4 = f->key.version == 4;
    const struct tcp *t = &f->tcp;
    mvpn_ip ip = {.version = f->key.version, .protocol = MVPN_IP_TCP, .l4_len = MVPN_TCP_HEADER};
    ip.l4 = v4 ? MVPN_IPV4_HEADER : MVPN_IPV6_HEADER;
    uint32_t total = (uint32_t)ip.l4 + ip.l4_len;
    uint8_t *p = mvpn_packet_append(out, total);
    memset(p, 0, total);
    if (v4) {
        p[0] = 0x45;
        mvpn_store16(p + 2, (uint16_t)total);
        p[6] = 0x40; /* DF, so that the identification says nothing (RFC 6864 §4.1) */
        p[8] = RESET_TTL;
        p[9] = MVPN_IP_TCP;
    } else {
        p[0] = 0x60;
        mvpn_store16(p + 4, ip.l4_len);
        p[6] = MVPN_IP_TCP;
        p[7] = RESET_TTL;
    }
    size_t n = mvpn_ip_addr_len(&ip);
    memcpy(p + mvpn_ip_src_at(&ip), f->key.remote, n);
    memcpy(p + mvpn_ip_src_at(&ip) + n, f->key.local, n);
    uint8_t *l4 = p + ip.l4;
    mvpn_store16(l4, f->key.remote_port);
    mvpn_store16(l4 + 2, f->key.local_port);
    l4[12] = (MVPN_TCP_HEADER / 4) << 4;
    if (t->flags & TCP_HAS_ACK) {
        mvpn_store32(l4 + 4, t->out_ack);
        l4[13] = MVPN_TCP_RST;
    } else {
        mvpn_store32(l4 + 4, t->flags & TCP_HAS_IN ? t->in_next : 0);
        mvpn_store32(l4 + 8, t->syn_next);
        l4[13] = MVPN_TCP_RST | MVPN_TCP_ACK;
    }
    if (v4) {
        mvpn_csum_ipv4_set(p);
    }
    mvpn_csum_transport_set(p, &ip);
    out->flags |= MVPN_PACKET_CSUM_OK;
}

uint32_t mvpn_flows_resets(mvpn_flows *flows, mvpn_packet_pool *pool, mvpn_packet_queue *out)
{
    for (unsigned i = 0; i < MVPN_FLOWS_RESETS_MAX && flows->due_count > 0; i++) {
        mvpn_packet *p = mvpn_packet_new(pool);
        if (p == NULL) {
            break;
        }
        struct flow *f = flow_of(flows->due.next);
        write_reset(p, f);
        mvpn_packet_queue_push(out, p);
        detach(flows, f);
        mvpn_list_append(&flows->dead, &f->link);
    }
    return flows->due_count;
}

uint32_t mvpn_flows_end_session(mvpn_flows *flows, uint32_t session, mvpn_packet_pool *pool,
                                mvpn_packet_queue *out)
{
    struct session *s = session_find(flows, session);
    for (unsigned k = 0; s != NULL && k < KINDS; k++) {
        mvpn_list *head = &s->lanes[k].flows;
        while (!mvpn_list_is_empty(head)) {
            struct flow *f = flow_of(head->next);
            if (k == OPENING || k == OPEN) {
                die(flows, f);
            } else {
                forget(flows, f);
            }
        }
    }
    if (s != NULL) {
        s->number = 0;
        flows->session_count--;
    }
    return mvpn_flows_resets(flows, pool, out);
}
