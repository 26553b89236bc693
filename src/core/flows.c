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
#define CACHE_LINE 64
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

/* As the host sees it: addresses (IPv4 in the low half of the first word), and in one word remote
 * and local port (of ICMP echo: 0 and the identifier), protocol and version. */
struct key {
    uint64_t remote[2];
    uint64_t local[2];
    uint64_t rest;
};
#define KEY_WORDS 5

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
_Static_assert(sizeof(struct flow) % CACHE_LINE == 0, "no line of two flows");

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
    uint64_t multiplier[2 * KEY_WORDS + 1]; /* secret, for `table` */
    mvpn_siphash_key sip;                   /* for `fragmented` */
    mvpn_hash table;
    struct session sessions[MVPN_FLOWS_SESSIONS_MAX];
    unsigned session_count;
    uint64_t turn;
    mvpn_list due;  /* a reset is to be built */
    mvpn_list dead; /* reset; the longest dead first */
    uint32_t due_count;
    mvpn_list unused;
    struct fragmented fragmented[FRAGMENTED];
    struct flow *flows; /* all of them */
};

/* ---- table and lanes ---- */

int mvpn_flows_new(size_t max, mvpn_rng *rng, mvpn_flows **ret)
{
    if (max == 0 || max > MVPN_FLOWS_MAX) {
        return MVPN_E_INVAL;
    }
    mvpn_flows *f = calloc(1, sizeof(*f));
    if (f == NULL) {
        return MVPN_E_NOMEM;
    }
    f->flows = aligned_alloc(CACHE_LINE, max * sizeof(f->flows[0]));
    if (f->flows == NULL || mvpn_hash_init(&f->table, max) != 0) {
        mvpn_flows_free(f);
        return MVPN_E_NOMEM;
    }
    for (size_t i = 0; i < MVPN_ARRAY_LEN(f->multiplier); i++) {
        f->multiplier[i] = mvpn_rng_u64(rng);
    }
    mvpn_rng_bytes(rng, f->sip.b, sizeof(f->sip.b));
    mvpn_list_init(&f->due);
    mvpn_list_init(&f->dead);
    mvpn_list_init(&f->unused);
    for (size_t i = 0; i < max; i++) {
        f->flows[i] = (struct flow){0};
        mvpn_list_append(&f->unused, &f->flows[i].link);
    }
    *ret = f;
    return 0;
}

void mvpn_flows_free(mvpn_flows *flows)
{
    if (flows != NULL) {
        mvpn_hash_done(&flows->table);
        free(flows->flows);
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

/*
 * Pair-multiply-shift: whatever flows a remote makes the host open, without the secret two of them
 * meet in the upper half with a chance of 2^-32 (Thorup, "High speed hashing for integers and
 * strings", §3.5). A tenth of SipHash's time.
 */
static uint64_t hash_of(const mvpn_flows *flows, const struct key *key)
{
    const uint64_t *m = flows->multiplier;
    const uint64_t w[KEY_WORDS] = {key->remote[0], key->remote[1], key->local[0], key->local[1],
                                   key->rest};
    uint64_t sum = m[2 * KEY_WORDS];
    for (size_t i = 0; i < KEY_WORDS; i++) {
        sum += (m[2 * i] + (uint32_t)w[i]) * (m[2 * i + 1] + (w[i] >> 32));
    }
    return sum >> 32;
}

static bool key_eq(const struct key *a, const struct key *b)
{
    return ((a->remote[0] ^ b->remote[0]) | (a->remote[1] ^ b->remote[1]) |
            (a->local[0] ^ b->local[0]) | (a->local[1] ^ b->local[1]) | (a->rest ^ b->rest)) == 0;
}

static struct flow *find(mvpn_flows *flows, const struct key *key, uint64_t hash)
{
    for (mvpn_hash_node *n = mvpn_hash_first(&flows->table, hash); n != NULL;
         n = mvpn_hash_next(n)) {
        struct flow *f = MVPN_CONTAINER_OF(n, struct flow, node);
        if (key_eq(&f->key, key)) {
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

/* What is to know of a packet; the bytes stay where they are. */
struct head {
    const uint8_t *src; /* the destination follows */
    const uint8_t *l4;
    uint32_t l4_len;
    uint32_t id; /* of a fragmented datagram */
    uint8_t version, protocol;
    uint8_t tcp_flags; /* 0 if it is none */
    uint8_t icmp_type; /* likewise */
    bool has_l4, is_fragment, is_error;
};

static uint8_t icmp_of(unsigned version)
{
    return version == 4 ? MVPN_IP_ICMP : MVPN_IP_ICMPV6;
}

static void head_of(const uint8_t *p, const mvpn_ip *ip, struct head *h)
{
    *h = (struct head){
        .src = p + mvpn_ip_src_at(ip),
        .l4 = p + ip->l4,
        .l4_len = ip->l4_len,
        .version = ip->version,
        .protocol = ip->protocol,
        .tcp_flags = ip->tcp_flags,
        .icmp_type = ip->icmp_type,
        .has_l4 = ip->has_l4,
        .is_fragment = ip->fragment,
        .is_error = mvpn_ip_is_icmp_error(ip),
    };
    if (ip->fragment) {
        h->id = ip->version == 4 ? mvpn_load16(p + 4) : mvpn_load32(p + ip->frag_header + 4);
    }
}

/* Whole TCP and UDP packets without options, between addresses that need no closer look, are nearly
 * all there are: true if it is one. */
static bool look_fast(const uint8_t *p, size_t n, struct head *h)
{
    if (n < MVPN_IPV4_HEADER + MVPN_TCP_HEADER) {
        return false;
    }
    if (p[0] == 0x45) {
        if (mvpn_load16(p + 2) != n || (mvpn_load16(p + 6) & 0x3fff) != 0 || p[12] >= 0xe0) {
            return false;
        }
        *h = (struct head){.src = p + 12, .version = 4, .protocol = p[9]};
        h->l4 = p + MVPN_IPV4_HEADER;
    } else {
        if (n < MVPN_IPV6_HEADER + MVPN_TCP_HEADER || p[0] >> 4 != 6 ||
            mvpn_load16(p + 4) + (size_t)MVPN_IPV6_HEADER != n || p[8] == 0xff || p[8] == 0 ||
            p[24] == 0) {
            return false;
        }
        *h = (struct head){.src = p + 8, .version = 6, .protocol = p[6]};
        h->l4 = p + MVPN_IPV6_HEADER;
    }
    h->l4_len = (uint32_t)(p + n - h->l4);
    h->has_l4 = true;
    if (h->protocol == MVPN_IP_TCP) {
        uint32_t header = (uint32_t)(h->l4[12] >> 4) * 4;
        h->tcp_flags = h->l4[13];
        return header >= MVPN_TCP_HEADER && header <= h->l4_len;
    }
    return h->protocol == MVPN_IP_UDP && mvpn_load16(h->l4 + 4) == h->l4_len;
}

static int look(const uint8_t *p, size_t n, struct head *h)
{
    mvpn_ip ip;
    if (look_fast(p, n, h)) {
        return 0;
    }
    int r = mvpn_ip_parse(p, n, &ip);
    if (r == 0) {
        head_of(p, &ip, h);
    }
    return r;
}

static bool is_echo(const struct head *h)
{
    return h->version == 4
               ? h->icmp_type == MVPN_ICMP_ECHO || h->icmp_type == MVPN_ICMP_ECHO_REPLY
               : h->icmp_type == MVPN_ICMPV6_ECHO || h->icmp_type == MVPN_ICMPV6_ECHO_REPLY;
}

static void load_addr(uint64_t to[2], unsigned version, const uint8_t *from)
{
    if (version == 6) {
        memcpy(to, from, 16);
        return;
    }
    uint32_t v;
    memcpy(&v, from, 4);
    to[0] = v;
    to[1] = 0;
}

static void store_addr(uint8_t *to, unsigned version, const uint64_t from[2])
{
    if (version == 6) {
        memcpy(to, from, 16);
        return;
    }
    uint32_t v = (uint32_t)from[0];
    memcpy(to, &v, 4);
}

/* The flow of a packet; of its transport only the first bytes need be there. */
static void key_of(const struct head *h, bool outward, struct key *key)
{
    const uint8_t *dst = h->src + (h->version == 4 ? 4 : 16);
    uint64_t src_port = 0, dst_port = 0;
    load_addr(key->local, h->version, outward ? h->src : dst);
    load_addr(key->remote, h->version, outward ? dst : h->src);
    if (h->protocol == MVPN_IP_TCP || h->protocol == MVPN_IP_UDP) {
        if (h->l4_len >= 4) {
            src_port = mvpn_load16(h->l4);
            dst_port = mvpn_load16(h->l4 + 2);
        }
    } else if (h->protocol == icmp_of(h->version) && is_echo(h) && h->l4_len >= 6) {
        *(outward ? &src_port : &dst_port) = mvpn_load16(h->l4 + 4);
    }
    key->rest = (outward ? dst_port : src_port) << 48 | (outward ? src_port : dst_port) << 32 |
                (uint64_t)h->protocol << 8 | h->version;
}

/*
 * The flow that an ICMP error is about: one that a packet of the other direction belongs to. Ports
 * are read even where the quote says it is no first fragment, since hosts do not look at that.
 */
static struct flow *find_quoted(mvpn_flows *flows, const struct head *error, bool outward,
                                mvpn_time now)
{
    mvpn_ip quoted;
    struct head h;
    struct key key;
    const uint8_t *at = error->l4 + MVPN_ICMP_HEADER;
    if (error->l4_len <= MVPN_ICMP_HEADER ||
        mvpn_ip_parse_quoted(at, error->l4_len - MVPN_ICMP_HEADER, &quoted) != 0) {
        return NULL;
    }
    head_of(at, &quoted, &h);
    key_of(&h, !outward, &key);
    struct flow *f = find(flows, &key, hash_of(flows, &key));
    return f != NULL && !is_over(f, now) ? f : NULL;
}

/* One datagram's fragments share addresses and identification; IPv4's also the protocol (RFC 791
 * §3.2, RFC 8200 §4.5). */
static struct fragmented *fragmented_of(mvpn_flows *flows, const struct head *h, bool outward,
                                        uint64_t *ret_tag)
{
    uint8_t b[38] = {outward, h->version == 4 ? h->protocol : 0};
    memcpy(b + 2, h->src, h->version == 4 ? 8 : 32);
    mvpn_store32(b + 34, h->id);
    *ret_tag = mvpn_siphash(&flows->sip, b, sizeof(b));
    return &flows->fragmented[*ret_tag % FRAGMENTED];
}

static void remember(mvpn_flows *flows, const struct head *h, bool outward, uint32_t session,
                     mvpn_time now)
{
    uint64_t tag;
    struct fragmented *d = fragmented_of(flows, h, outward, &tag);
    *d = (struct fragmented){.tag = tag, .last = now, .session = session};
}

/* The session by which the first fragment went, 0 if it was not seen. */
static uint32_t recall(mvpn_flows *flows, const struct head *h, bool outward, mvpn_time now)
{
    uint64_t tag;
    const struct fragmented *d = fragmented_of(flows, h, outward, &tag);
    return d->tag == tag && now - d->last < FRAGMENT_LIFE ? d->session : 0;
}

/* ---- TCP ---- */

struct segment {
    uint32_t seq, ack;
    uint32_t next; /* behind it */
    uint8_t flags;
};

static struct segment segment_of(const struct head *h)
{
    const uint8_t *l4 = h->l4;
    struct segment s = {
        .seq = mvpn_load32(l4 + 4), .ack = mvpn_load32(l4 + 8), .flags = h->tcp_flags};
    uint32_t header = (uint32_t)(l4[12] >> 4) * 4;
    s.next = s.seq + h->l4_len - header + ((s.flags & MVPN_TCP_SYN) != 0) +
             ((s.flags & MVPN_TCP_FIN) != 0);
    return s;
}

/* Sequence numbers wrap (RFC 9293 §3.4). */
static bool is_after(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b) > 0;
}

static bool is_syn(const struct head *h)
{
    return (h->tcp_flags & (MVPN_TCP_SYN | MVPN_TCP_ACK | MVPN_TCP_RST)) == MVPN_TCP_SYN;
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

static enum kind kind_of(const struct head *h)
{
    if (h->protocol == MVPN_IP_TCP) {
        return is_syn(h) ? OPENING : OPEN;
    }
    return h->protocol == icmp_of(h->version) ? ICMP : DATAGRAM;
}

static enum kind update_out(struct flow *f, const struct head *h, enum kind kind)
{
    if (h->protocol != MVPN_IP_TCP) {
        return kind;
    }
    struct segment s = segment_of(h);
    return tcp_out(&f->tcp, &s, kind);
}

/* To a connection that is no more: the next reset is exactly what the host expects now. */
static void out_dead(mvpn_flows *flows, struct flow *f, const struct head *h)
{
    if (h->tcp_flags & MVPN_TCP_RST) {
        forget(flows, f);
        return;
    }
    (void)update_out(f, h, (enum kind)f->kind);
    if (!f->due) {
        die(flows, f);
    }
}

static uint32_t out_new(mvpn_flows *flows, struct flow *f, const struct key *key, uint64_t hash,
                        const struct head *h, uint32_t current, mvpn_time now)
{
    struct session *s = session_find(flows, current);
    if (s == NULL) {
        return 0;
    }
    if (f == NULL && (h->tcp_flags & MVPN_TCP_RST) != 0) {
        return s->number; /* opens nothing */
    }
    if (f == NULL) {
        f = make(flows, key, hash);
    } else {
        detach(flows, f);
        f->tcp = (struct tcp){0};
    }
    attach(flows, f, s, update_out(f, h, kind_of(h)), now);
    return s->number;
}

static uint32_t out_flow(mvpn_flows *flows, const struct head *h, uint32_t current, mvpn_time now)
{
    struct key key;
    key_of(h, true, &key);
    uint64_t hash = hash_of(flows, &key);
    struct flow *f = find(flows, &key, hash);
    if (f == NULL || is_over(f, now) || is_syn(h)) {
        return out_new(flows, f, &key, hash, h, current, now);
    }
    if (f->session == NULL) {
        out_dead(flows, f, h);
        return 0;
    }
    touch(flows, f, update_out(f, h, (enum kind)f->kind), now);
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
    struct head h;
    if (look(packet, n, &h) != 0) {
        return 0;
    }
    if (!h.has_l4) {
        return number_or(flows, recall(flows, &h, true, now), current);
    }
    if (h.is_error) {
        struct flow *f = find_quoted(flows, &h, true, now);
        return number_or(flows, f != NULL && f->session != NULL ? f->session->number : 0, current);
    }
    uint32_t session = out_flow(flows, &h, current, now);
    if (h.is_fragment) {
        remember(flows, &h, true, session, now);
    }
    return session;
}

/* ---- in ---- */

static bool in_flow(mvpn_flows *flows, const struct head *h, const struct session *session,
                    mvpn_time now)
{
    struct key key;
    key_of(h, false, &key);
    struct flow *f = find(flows, &key, hash_of(flows, &key));
    if (f == NULL || is_over(f, now)) {
        return true;
    }
    if (f->session != session) {
        return false;
    }
    enum kind kind = (enum kind)f->kind;
    if (h->protocol == MVPN_IP_TCP) {
        struct segment s = segment_of(h);
        kind = tcp_in(&f->tcp, &s, kind);
    }
    touch(flows, f, kind, now);
    return true;
}

bool mvpn_flows_in(mvpn_flows *flows, const uint8_t *packet, size_t n, uint32_t session,
                   mvpn_time now)
{
    struct head h;
    const struct session *s = session_find(flows, session);
    if (s == NULL || look(packet, n, &h) != 0) {
        return false;
    }
    if (!h.has_l4) {
        return flows->session_count == 1 || recall(flows, &h, false, now) == session;
    }
    if (h.is_error) {
        const struct flow *f = find_quoted(flows, &h, false, now);
        return f == NULL || f->session == s;
    }
    if (!in_flow(flows, &h, s, now)) {
        return false;
    }
    if (h.is_fragment) {
        remember(flows, &h, false, session, now);
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
            if (f->last > now || now - f->last < hold[k]) { /* `now` may be a little old */
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
    const uint8_t version = (uint8_t)f->key.rest;
    const bool v4 = version == 4;
    const struct tcp *t = &f->tcp;
    mvpn_ip ip = {.version = version, .protocol = MVPN_IP_TCP, .l4_len = MVPN_TCP_HEADER};
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
    uint8_t *src = p + mvpn_ip_src_at(&ip);
    store_addr(src, version, f->key.remote);
    store_addr(src + mvpn_ip_addr_len(&ip), version, f->key.local);
    uint8_t *l4 = p + ip.l4;
    mvpn_store16(l4, (uint16_t)(f->key.rest >> 48));
    mvpn_store16(l4 + 2, (uint16_t)(f->key.rest >> 32));
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
