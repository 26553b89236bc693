#include "io/netstack.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include <lwip/init.h>
#include <lwip/ip.h>
#include <lwip/netif.h>
#include <lwip/pbuf.h>
#include <lwip/priv/tcp_priv.h>
#include <lwip/sys.h>
#include <lwip/tcp.h>
#include <lwip/timeouts.h>
#include <lwip/udp.h>

#include "base/assert.h"
#include "base/error.h"
#include "base/list.h"
#include "crypto/rng.h"
#include "io/random.h"
#include "network/ip/checksum.h"
#include "network/ip/icmp.h"
#include "network/ip/inner.h"
#include "network/ip/ip.h"

#define MEMORY_MAX (128u << 20)
/*
 * What a connection may receive ahead of its program: little at first, as much more as the program
 * reads, up to TCP_WND. So programs that do not read hold little: a share of the memory that leaves
 * room for the first windows of 1024 others.
 */
#define FIRST_WINDOW (64u << 10)
#define WINDOWS_SHARE(max) ((max) / 2)
/*
 * Where slow start ends: a relay queues 256 packets of a flow (core/scheduler.h). lwIP knows no
 * selective acknowledgement of what it sends: a burst of losses would cost it a timeout.
 */
#define SLOW_START_END (160u << 10)
/* Received data may fill three quarters: what remains is for acknowledgements and what is sent. */
#define RECEIVED_SHARE(max) ((max) / 4 * 3)
/* Timers and headers of segments: their number is bounded by what they belong to, and lwIP does not
 * go on without its timers. */
#define ALWAYS_MAX 128
/* Waiting for the engine: as much as it takes in a few slices of a turn. More stays in the senders'
 * queues, nothing is lost. */
#define OUT_MAX 512
/* As the TUN's. */
#define STACK_MTU 1420
/* Half seconds after which lwIP looks at a connection by itself. */
#define POLL_INTERVAL 2

/* A way out: lwIP's interface. */
typedef struct lane {
    unsigned number;
    bool is_open;
    struct netif netif;
} lane;

struct mvpn_stream {
    mvpn_list all;
    mvpn_list ready; /* linked: has `events` to be told */
    mvpn_netstack *stack;
    lane *lane;
    struct tcp_pcb *pcb; /* NULL: over, for lwIP */
    mvpn_stream_fn *fn;
    void *ctx;
    mvpn_addr to;
    unsigned events;
    int error;
    bool is_connected;
    bool has_fin;    /* the other end will send no more */
    bool wants_fin;  /* we shall write no more */
    bool fin_queued; /* and lwIP knows it */
    bool is_blocked; /* a writer waits for room */
    /* Unread, in order, linked by their `next` (each a chain of its own otherwise). */
    struct pbuf *first, *last;
    size_t first_read; /* bytes of the first one that are read */
    size_t window;     /* that may be unread at most; 0: not connected */
};

struct mvpn_datagrams {
    mvpn_list all;
    mvpn_netstack *stack;
    lane *lane;
    struct udp_pcb *pcb;
    uint8_t family;
    mvpn_datagrams_fn *fn;
    void *ctx;
};

struct mvpn_netstack {
    mvpn_packet_pool *pool;
    lane lanes[MVPN_NETSTACK_LANES];
    mvpn_packet_queue out;
    bool was_full;                   /* somebody could not send */
    struct tcp_pcb_listen *listener; /* NULL: a client's stack */
    mvpn_netstack_accept_fn *on_accept;
    void *accept_ctx;
    mvpn_list streams, ready, sockets;
    uint8_t scratch[MVPN_NETSTACK_DATAGRAM_MAX];
};

/* A received packet: lwIP's descriptor and the bytes behind it. */
typedef struct received {
    struct pbuf_custom custom;
    uint8_t data[];
} received;

/* lwIP's own state is global, and so are these: what it calls without an argument. */
static struct {
    mvpn_netstack *stack;
    mvpn_rng rng;
    uint32_t now_ms;
    size_t used, max;
    size_t windows; /* of all streams */
    bool is_initialised;
} global;

/* ---- what lwIP calls ---- */

void *mvpn_netstack_alloc(size_t n)
{
    if (n > ALWAYS_MAX && (n > global.max || global.used > global.max - n)) {
        return NULL;
    }
    void *p = malloc(n);
    global.used += p == NULL ? 0 : malloc_usable_size(p);
    return p;
}

void *mvpn_netstack_calloc(size_t count, size_t n)
{
    if (n != 0 && count > SIZE_MAX / n) {
        return NULL;
    }
    void *p = mvpn_netstack_alloc(count * n);
    if (p != NULL) {
        memset(p, 0, count * n);
    }
    return p;
}

void mvpn_netstack_free_memory(void *p)
{
    global.used -= p == NULL ? 0 : malloc_usable_size(p);
    free(p);
}

/* As it stands in the packet, not complemented. */
uint16_t mvpn_netstack_checksum(const void *p, int n)
{
    return htons(mvpn_csum_fold(mvpn_csum_add(0, p, (size_t)n)));
}

uint32_t mvpn_netstack_random(void)
{
    return mvpn_rng_u32(&global.rng);
}

u32_t sys_now(void)
{
    return global.now_ms;
}

/* ---- addresses ---- */

static ip_addr_t to_lwip(const mvpn_addr *a)
{
    ip_addr_t ip = {0};
    if (a->family == 4) {
        IP_SET_TYPE_VAL(ip, IPADDR_TYPE_V4);
        memcpy(&ip_2_ip4(&ip)->addr, a->ip, 4);
    } else {
        IP_SET_TYPE_VAL(ip, IPADDR_TYPE_V6);
        memcpy(ip_2_ip6(&ip)->addr, a->ip, 16);
    }
    return ip;
}

static mvpn_addr from_lwip(const ip_addr_t *ip, uint16_t port)
{
    mvpn_addr a = {.family = IP_IS_V4(ip) ? 4 : 6, .port = port};
    if (a.family == 4) {
        memcpy(a.ip, &ip_2_ip4(ip)->addr, 4);
    } else {
        memcpy(a.ip, ip_2_ip6(ip)->addr, 16);
    }
    return a;
}

static ip_addr_t own_address(uint8_t family, const lane *l)
{
    mvpn_addr a = mvpn_inner_lane_addr(family, l->number);
    return to_lwip(&a);
}

/* Hosts elsewhere, and the gateway; the client would drop the rest without a word. */
static bool is_carried(const mvpn_addr *a)
{
    const uint8_t *ip = a->ip;
    static const uint8_t zeros[12];
    if (a->family == 4) {
        mvpn_addr gateway = mvpn_inner_gateway_addr(4);
        bool is_ours = memcmp(ip, gateway.ip, 3) == 0 && !mvpn_addr_ip_eq(a, &gateway);
        return !is_ours && ip[0] != 0 && ip[0] != 127 && ip[0] < 224 &&
               !(ip[0] == 169 && ip[1] == 254);
    }
    mvpn_addr gateway = mvpn_inner_gateway_addr(6);
    bool is_ours = memcmp(ip, gateway.ip, 15) == 0 && !mvpn_addr_ip_eq(a, &gateway);
    bool is_low = memcmp(ip, zeros, sizeof(zeros)) == 0; /* ::, ::1 and IPv4 inside */
    return a->family == 6 && !is_low && !mvpn_addr_is_mapped(a) && !is_ours && ip[0] != 0xff &&
           !(ip[0] == 0xfe && (ip[1] & 0xc0) == 0x80);
}

/* ---- packets ---- */

static err_t send_packet(const struct netif *netif, struct pbuf *p)
{
    mvpn_netstack *stack = global.stack;
    const lane *l = netif->state;
    if (p->tot_len > MVPN_PACKET_ROOM) {
        return ERR_VAL;
    }
    mvpn_packet *packet = stack->out.count < OUT_MAX ? mvpn_packet_new(stack->pool) : NULL;
    if (packet == NULL) {
        stack->was_full = true; /* it stays in its connection's queue */
        return ERR_MEM;
    }
    (void)pbuf_copy_partial(p, mvpn_packet_append(packet, p->tot_len), p->tot_len, 0);
    packet->local = (uint16_t)l->number;
    mvpn_packet_queue_push(&stack->out, packet);
    return ERR_OK;
}

static err_t send_v4(struct netif *netif, struct pbuf *p, const ip4_addr_t *to)
{
    (void)to;
    return send_packet(netif, p);
}

static err_t send_v6(struct netif *netif, struct pbuf *p, const ip6_addr_t *to)
{
    (void)to;
    return send_packet(netif, p);
}

static void free_received(struct pbuf *p)
{
    mvpn_netstack_free_memory(MVPN_CONTAINER_OF((struct pbuf_custom *)(void *)p, received, custom));
}

static void set_events(mvpn_stream *s, unsigned events)
{
    s->events |= events;
    if (!mvpn_list_is_linked(&s->ready)) {
        mvpn_list_append(&s->stack->ready, &s->ready);
    }
}

/* Of connections that are being made, also what a router or our own client says counts. */
static void take_icmp_error(mvpn_netstack *stack, const mvpn_packet *packet)
{
    mvpn_ip outer, quoted;
    if (mvpn_ip_parse(packet->data, packet->len, &outer) != 0 || !outer.has_l4 ||
        !mvpn_ip_is_icmp_error(&outer) || outer.l4_len < MVPN_ICMP_HEADER ||
        outer.icmp_type != (outer.version == 4 ? MVPN_ICMP_UNREACHABLE : MVPN_ICMPV6_UNREACHABLE) ||
        mvpn_ip_parse_quoted(packet->data + outer.l4 + MVPN_ICMP_HEADER,
                             outer.l4_len - (size_t)MVPN_ICMP_HEADER, &quoted) != 0 ||
        quoted.protocol != MVPN_IP_TCP) {
        return;
    }
    mvpn_addr to = mvpn_ip_dst_addr(&quoted);
    MVPN_LIST_FOREACH(it, &stack->streams)
    {
        mvpn_stream *s = MVPN_CONTAINER_OF(it, mvpn_stream, all);
        if (s->pcb != NULL && !s->is_connected && s->lane->number == packet->local &&
            s->pcb->local_port == quoted.src_port && mvpn_addr_eq(&s->to, &to)) {
            tcp_abort(s->pcb); /* tells on_error */
            s->error = outer.icmp_code == (outer.version == 4 ? MVPN_ICMP_PORT : MVPN_ICMPV6_PORT)
                           ? MVPN_E_REFUSED
                           : MVPN_E_UNKNOWN;
            return;
        }
    }
}

/* The packet enters lwIP (copied), if there is memory. */
static void enter_packet(mvpn_netstack *stack, const mvpn_packet *packet)
{
    size_t size = sizeof(received) + packet->len;
    received *r = global.used < RECEIVED_SHARE(global.max) ? mvpn_netstack_alloc(size) : NULL;
    if (r == NULL) {
        return;
    }
    memcpy(r->data, packet->data, packet->len);
    r->custom.custom_free_function = free_received;
    struct pbuf *p = pbuf_alloced_custom(PBUF_RAW, (u16_t)packet->len, PBUF_REF, &r->custom,
                                         r->data, (u16_t)packet->len);
    if (p == NULL || ip_input(p, &stack->lanes[packet->local].netif) != ERR_OK) {
        free_received(&r->custom.pbuf);
    }
}

static void receive(mvpn_netstack *stack, const mvpn_packet *packet)
{
    bool is_v4 = packet->len >= MVPN_IPV4_HEADER && packet->data[0] >> 4 == 4;
    if ((!is_v4 && packet->len < MVPN_IPV6_HEADER) || packet->local >= MVPN_NETSTACK_LANES ||
        !stack->lanes[packet->local].is_open) {
        return;
    }
    if (packet->data[is_v4 ? 9 : 6] == (is_v4 ? MVPN_IP_ICMP : MVPN_IP_ICMPV6)) {
        take_icmp_error(stack, packet);
        return; /* nobody behind us answers pings or finds neighbours */
    }
    enter_packet(stack, packet);
}

/* ---- events of connections ---- */

static void detach(mvpn_stream *s)
{
    tcp_arg(s->pcb, NULL);
    tcp_recv(s->pcb, NULL);
    tcp_sent(s->pcb, NULL);
    tcp_poll(s->pcb, NULL, 0);
    tcp_err(s->pcb, NULL);
}

/* lwIP takes u16. */
static void open_window(struct tcp_pcb *pcb, size_t n)
{
    while (n > 0) {
        u16_t part = (u16_t)MVPN_MIN(n, UINT16_MAX);
        tcp_recved(pcb, part);
        n -= part;
    }
}

/* Both ends have finished: lwIP sees to the rest, and forgets it without a word. */
static void let_go(mvpn_stream *s)
{
    struct tcp_pcb *pcb = s->pcb;
    detach(s);
    s->pcb = NULL;
    open_window(pcb, TCP_WND); /* else lwIP thinks that there is unread data, and resets */
    if (tcp_close(pcb) != ERR_OK) {
        tcp_abort(pcb);
    }
}

/* Say that we shall send no more; tried again if memory is short. */
static void queue_fin(mvpn_stream *s)
{
    if (s->pcb != NULL && s->wants_fin && !s->fin_queued && s->is_connected &&
        tcp_shutdown(s->pcb, 0, 1) == ERR_OK) {
        s->fin_queued = true;
    }
}

static void keep(mvpn_stream *s, struct pbuf *p)
{
    while (p != NULL) {
        /* Each is ours now; pbuf_dechain would free what was joined by pbuf_cat. */
        struct pbuf *rest = p->next;
        p->next = NULL;
        p->tot_len = p->len;
        if (s->last != NULL) {
            s->last->next = p;
        } else {
            s->first = p;
        }
        s->last = p;
        p = rest;
    }
}

static err_t on_received(void *arg, struct tcp_pcb *pcb, struct pbuf *p, err_t err)
{
    mvpn_stream *s = arg;
    (void)pcb;
    (void)err;
    if (p != NULL) {
        keep(s, p);
    } else {
        s->has_fin = true;
    }
    set_events(s, MVPN_STREAM_READABLE);
    return ERR_OK;
}

static err_t on_sent(void *arg, struct tcp_pcb *pcb, u16_t n)
{
    mvpn_stream *s = arg;
    (void)pcb;
    (void)n;
    if (s->is_blocked && s->pcb->snd_buf >= TCP_SND_BUF / 2) {
        set_events(s, MVPN_STREAM_WRITABLE);
    }
    queue_fin(s);
    return ERR_OK;
}

static err_t on_poll(void *arg, struct tcp_pcb *pcb)
{
    mvpn_stream *s = arg;
    (void)pcb;
    if (s->is_blocked) {
        set_events(s, MVPN_STREAM_WRITABLE);
    }
    queue_fin(s);
    return ERR_OK;
}

static err_t on_connected(void *arg, struct tcp_pcb *pcb, err_t err)
{
    mvpn_stream *s = arg;
    (void)err;
    s->is_connected = true;
    s->window = MVPN_MIN(pcb->rcv_wnd, FIRST_WINDOW);
    global.windows += s->window;
    pcb->ssthresh = SLOW_START_END;
    pcb->rcv_wnd = pcb->rcv_ann_wnd = (tcpwnd_size_t)s->window; /* before the first is announced */
    set_events(s, MVPN_STREAM_CONNECTED);
    return ERR_OK;
}

static void on_error(void *arg, err_t err)
{
    mvpn_stream *s = arg;
    s->pcb = NULL;
    if (err == ERR_CLSD && s->has_fin) {
        return; /* both have finished */
    }
    s->error = err == ERR_RST ? (s->is_connected ? MVPN_E_CLOSED : MVPN_E_REFUSED) : MVPN_E_TIMEOUT;
    set_events(s, MVPN_STREAM_FAILED);
}

static void ignore_events(void *ctx, unsigned events)
{
    (void)ctx;
    (void)events;
}

static void tell_events(mvpn_netstack *stack)
{
    mvpn_list *it;
    while ((it = mvpn_list_pop(&stack->ready)) != NULL) {
        mvpn_stream *s = MVPN_CONTAINER_OF(it, mvpn_stream, ready);
        unsigned events = s->events;
        s->events = 0;
        if (events & MVPN_STREAM_WRITABLE) {
            s->is_blocked = false;
        }
        /* Not within on_received, where lwIP still holds it. */
        if (s->pcb != NULL && s->has_fin && s->fin_queued) {
            let_go(s);
        }
        s->fn(s->ctx, events);
    }
}

/* ---- the stack ---- */

static err_t init_netif(struct netif *netif)
{
    netif->mtu = STACK_MTU;
    netif->mtu6 = STACK_MTU;
    netif->output = send_v4;
    netif->output_ip6 = send_v6;
    return ERR_OK;
}

static void set_now(mvpn_time now)
{
    global.now_ms = (uint32_t)(now / MVPN_US_PER_MS);
}

int mvpn_netstack_new(mvpn_packet_pool *pool, size_t memory_max, mvpn_time now, mvpn_netstack **ret)
{
    if (global.stack != NULL) {
        return MVPN_E_STATE;
    }
    mvpn_netstack *stack = calloc(1, sizeof(*stack));
    if (stack == NULL || mvpn_random_seed(&global.rng) != 0) {
        free(stack);
        return MVPN_E_NOMEM;
    }
    stack->pool = pool;
    mvpn_packet_queue_init(&stack->out);
    mvpn_list_init(&stack->streams);
    mvpn_list_init(&stack->ready);
    mvpn_list_init(&stack->sockets);
    global.stack = stack;
    global.max = memory_max != 0 ? memory_max : MEMORY_MAX;
    set_now(now);
    if (!global.is_initialised) {
        lwip_init(); /* there is no way to undo it */
        global.is_initialised = true;
    } else {
        sys_restart_timeouts();
    }
    for (unsigned i = 0; i < MVPN_NETSTACK_LANES; i++) {
        stack->lanes[i].number = i;
    }
    mvpn_netstack_open_lane(stack, 0);
    netif_set_default(&stack->lanes[0].netif);
    *ret = stack;
    return 0;
}

void mvpn_netstack_open_lane(mvpn_netstack *stack, unsigned number)
{
    static const ip4_addr_t none = {0};
    MVPN_ASSERT(number < MVPN_NETSTACK_LANES);
    lane *l = &stack->lanes[number];
    if (l->is_open) {
        return;
    }
    ip_addr_t v4 = own_address(4, l), v6 = own_address(6, l);
    MVPN_ASSERT(netif_add(&l->netif, ip_2_ip4(&v4), &none, &none, l, init_netif, ip_input) != NULL);
    netif_ip6_addr_set(&l->netif, 0, ip_2_ip6(&v6));
    netif_ip6_addr_set_state(&l->netif, 0, IP6_ADDR_PREFERRED);
    netif_set_link_up(&l->netif);
    netif_set_up(&l->netif);
    l->is_open = true;
}

/* What is left of connections whose streams are gone. A reset would leave by the circuits of
 * whoever has the lane next. */
static void abandon(struct tcp_pcb **list, const lane *l)
{
    struct tcp_pcb *pcb = *list;
    while (pcb != NULL) {
        bool is_of_lane = pcb->netif_idx == netif_get_index(&l->netif);
        if (is_of_lane) {
            tcp_abandon(pcb, 0);
        }
        pcb = is_of_lane ? *list : pcb->next; /* which others went with it, is not known */
    }
}

static void drop_unsent(mvpn_netstack *stack, const lane *l)
{
    mvpn_packet *packet;
    for (size_t n = stack->out.count; n > 0; n--) {
        packet = mvpn_packet_queue_pop(&stack->out);
        if (packet->local == l->number) {
            mvpn_packet_free(stack->pool, packet);
        } else {
            mvpn_packet_queue_push(&stack->out, packet);
        }
    }
}

void mvpn_netstack_close_lane(mvpn_netstack *stack, unsigned number)
{
    MVPN_ASSERT(number < MVPN_NETSTACK_LANES);
    lane *l = &stack->lanes[number];
    if (!l->is_open) {
        return;
    }
    MVPN_LIST_FOREACH(it, &stack->streams)
    {
        MVPN_ASSERT(MVPN_CONTAINER_OF(it, mvpn_stream, all)->lane != l);
    }
    MVPN_LIST_FOREACH(it, &stack->sockets)
    {
        MVPN_ASSERT(MVPN_CONTAINER_OF(it, mvpn_datagrams, all)->lane != l);
    }
    abandon(&tcp_active_pcbs, l);
    abandon(&tcp_tw_pcbs, l);
    netif_remove(&l->netif);
    drop_unsent(stack, l);
    l->is_open = false;
}

void mvpn_netstack_free(mvpn_netstack *stack)
{
    if (stack == NULL) {
        return;
    }
    MVPN_ASSERT(mvpn_list_is_empty(&stack->streams) && mvpn_list_is_empty(&stack->sockets));
    for (unsigned i = 1; i < MVPN_NETSTACK_LANES; i++) {
        mvpn_netstack_close_lane(stack, i);
    }
    while (tcp_active_pcbs != NULL) { /* what still had to be sent when its stream was freed */
        tcp_abort(tcp_active_pcbs);
    }
    while (tcp_tw_pcbs != NULL) {
        tcp_abort(tcp_tw_pcbs);
    }
    if (stack->listener != NULL) {
        (void)tcp_close(
            (struct tcp_pcb *)(void *)stack->listener); /* of a listener it always works */
    }
    netif_remove(&stack->lanes[0].netif);
    mvpn_packet_queue_clear(&stack->out, stack->pool);
    global.stack = NULL;
    mvpn_rng_done(&global.rng);
    free(stack);
}

static void send_what_waited(mvpn_netstack *stack)
{
    if (!stack->was_full || stack->out.count > OUT_MAX / 2) {
        return;
    }
    stack->was_full = false;
    MVPN_LIST_FOREACH(it, &stack->streams)
    {
        mvpn_stream *s = MVPN_CONTAINER_OF(it, mvpn_stream, all);
        if (s->pcb != NULL) {
            (void)tcp_output(s->pcb); /* full again: was_full tells */
        }
    }
}

void mvpn_netstack_exchange(mvpn_netstack *stack, mvpn_packet_queue *in, mvpn_packet_queue *out,
                            mvpn_time now)
{
    mvpn_packet *packet;
    set_now(now);
    while ((packet = mvpn_packet_queue_pop(in)) != NULL) {
        receive(stack, packet);
        mvpn_packet_free(stack->pool, packet);
    }
    sys_check_timeouts();
    tell_events(stack);
    if (out != NULL) {
        mvpn_packet_queue_splice(out, &stack->out);
        send_what_waited(stack);
        mvpn_packet_queue_splice(out, &stack->out);
    }
}

mvpn_time mvpn_netstack_deadline(const mvpn_netstack *stack, mvpn_time now)
{
    (void)stack;
    u32_t ms = sys_timeouts_sleeptime();
    return ms == SYS_TIMEOUTS_SLEEPTIME_INFINITE ? MVPN_TIME_NEVER : now + MVPN_MS(ms) + 1;
}

size_t mvpn_netstack_memory(const mvpn_netstack *stack)
{
    (void)stack;
    return global.used;
}

/* ---- TCP ---- */

static void set_callbacks(mvpn_stream *s)
{
    tcp_arg(s->pcb, s);
    tcp_recv(s->pcb, on_received);
    tcp_sent(s->pcb, on_sent);
    tcp_poll(s->pcb, on_poll, POLL_INTERVAL);
    tcp_err(s->pcb, on_error);
    tcp_nagle_disable(s->pcb); /* the program has decided already what belongs together */
}

static err_t begin(mvpn_stream *s)
{
    ip_addr_t own = own_address(s->to.family, s->lane), to = to_lwip(&s->to);
    set_callbacks(s);
    tcp_bind_netif(s->pcb, &s->lane->netif);
    err_t err = tcp_bind(s->pcb, &own, 0);
    return err != ERR_OK ? err : tcp_connect(s->pcb, &to, s->to.port, on_connected);
}

int mvpn_stream_connect(mvpn_netstack *stack, unsigned number, const mvpn_addr *to,
                        mvpn_stream_fn *fn, void *ctx, mvpn_stream **ret)
{
    MVPN_ASSERT(number < MVPN_NETSTACK_LANES && stack->lanes[number].is_open);
    if (!is_carried(to) || to->port == 0) {
        return MVPN_E_POLICY;
    }
    mvpn_stream *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return MVPN_E_NOMEM;
    }
    s->stack = stack;
    s->lane = &stack->lanes[number];
    s->fn = fn;
    s->ctx = ctx;
    s->to = *to;
    s->pcb = tcp_new_ip_type(to->family == 4 ? IPADDR_TYPE_V4 : IPADDR_TYPE_V6);
    if (s->pcb == NULL) {
        free(s);
        return MVPN_E_NOMEM;
    }
    if (begin(s) != ERR_OK) {
        detach(s);
        tcp_abort(s->pcb);
        free(s);
        return MVPN_E_NOMEM;
    }
    mvpn_list_append(&stack->streams, &s->all);
    *ret = s;
    return 0;
}

void mvpn_stream_set_handler(mvpn_stream *stream, mvpn_stream_fn *fn, void *ctx)
{
    stream->fn = fn;
    stream->ctx = ctx;
}

void mvpn_stream_free(mvpn_stream *s, bool is_abort)
{
    if (s == NULL) {
        return;
    }
    if (s->pcb != NULL && (is_abort || s->first != NULL || !s->is_connected)) {
        struct tcp_pcb *pcb = s->pcb;
        detach(s);
        tcp_abort(pcb);
    } else if (s->pcb != NULL) {
        let_go(s);
    }
    while (s->first != NULL) {
        struct pbuf *p = s->first;
        s->first = p->next;
        p->next = NULL;
        (void)pbuf_free(p);
    }
    global.windows -= s->window;
    mvpn_list_remove(&s->all);
    mvpn_list_remove(&s->ready);
    free(s);
}

int mvpn_stream_error(const mvpn_stream *stream)
{
    return stream->error;
}

mvpn_addr mvpn_stream_local(const mvpn_stream *stream)
{
    mvpn_addr a = mvpn_inner_client_addr(stream->to.family); /* as the exit knows it */
    a.port = stream->pcb != NULL ? stream->pcb->local_port : 0;
    return a;
}

size_t mvpn_stream_room(const mvpn_stream *s)
{
    bool can = s->pcb != NULL && s->is_connected && !s->wants_fin;
    return can && tcp_sndqueuelen(s->pcb) < TCP_SND_QUEUELEN ? s->pcb->snd_buf : 0;
}

size_t mvpn_stream_write(mvpn_stream *s, const uint8_t *p, size_t n)
{
    size_t taken = 0, room = mvpn_stream_room(s);
    while (taken < n && taken < room) {
        u16_t part = (u16_t)MVPN_MIN(MVPN_MIN(n, room) - taken, TCP_MSS * 8);
        if (tcp_write(s->pcb, p + taken, part, TCP_WRITE_FLAG_COPY) != ERR_OK) {
            break;
        }
        taken += part;
    }
    if (s->pcb != NULL && taken > 0) {
        (void)tcp_output(s->pcb); /* what cannot go now goes later */
    }
    s->is_blocked = s->is_blocked || taken < n || taken == room;
    return taken;
}

void mvpn_stream_shutdown(mvpn_stream *s)
{
    s->wants_fin = true;
    queue_fin(s);
    if (s->fin_queued && s->has_fin) {
        set_events(s, 0); /* to be let go */
    }
}

unsigned mvpn_stream_peek(const mvpn_stream *s, struct iovec *ret, unsigned max)
{
    unsigned count = 0;
    for (const struct pbuf *p = s->first; p != NULL && count < max; p = p->next) {
        size_t from = count == 0 ? s->first_read : 0;
        ret[count].iov_base = (uint8_t *)p->payload + from;
        ret[count++].iov_len = p->len - from;
    }
    return count;
}

void mvpn_stream_consume(mvpn_stream *s, size_t n)
{
    size_t left = n;
    while (left > 0) {
        struct pbuf *p = s->first;
        MVPN_ASSERT(p != NULL);
        size_t here = p->len - s->first_read;
        if (left < here) {
            s->first_read += left;
            break;
        }
        left -= here;
        s->first_read = 0;
        s->first = p->next;
        s->last = s->first == NULL ? NULL : s->last;
        p->next = NULL;
        (void)pbuf_free(p);
    }
    if (s->pcb != NULL) {
        size_t more = MVPN_MIN(n, TCP_WND_MAX(s->pcb) - s->window);
        more = global.windows + more <= WINDOWS_SHARE(global.max) ? more : 0;
        s->window += more;
        global.windows += more;
        open_window(s->pcb, n + more);
    }
}

bool mvpn_stream_has_ended(const mvpn_stream *s)
{
    return s->first == NULL && (s->has_fin || s->error != 0);
}

/* ---- connections from the tunnel ---- */

static err_t on_accept(void *arg, struct tcp_pcb *pcb, err_t err)
{
    mvpn_netstack *stack = arg;
    mvpn_stream *s = err == ERR_OK ? calloc(1, sizeof(*s)) : NULL;
    if (s == NULL) {
        if (pcb != NULL) {
            tcp_abort(pcb);
        }
        return ERR_ABRT;
    }
    mvpn_addr from = from_lwip(&pcb->remote_ip, pcb->remote_port);
    mvpn_addr to = from_lwip(&pcb->local_ip, pcb->local_port);
    s->stack = stack;
    s->lane = &stack->lanes[0];
    s->to = from;
    s->pcb = pcb;
    s->fn = ignore_events;
    set_callbacks(s);
    (void)on_connected(s, pcb, ERR_OK);
    mvpn_list_append(&stack->streams, &s->all);
    if (!stack->on_accept(stack->accept_ctx, &from, &to, s)) {
        mvpn_stream_free(s, true);
        return ERR_ABRT;
    }
    return ERR_OK;
}

int mvpn_netstack_accept(mvpn_netstack *stack, mvpn_netstack_accept_fn *fn, void *ctx)
{
    struct tcp_pcb *pcb = tcp_new_ip_type(IPADDR_TYPE_ANY), *listener = NULL;
    if (pcb != NULL && tcp_bind(pcb, IP_ANY_TYPE, 0) == ERR_OK) {
        listener = tcp_listen(pcb); /* takes it, or leaves it */
    }
    if (listener == NULL) {
        if (pcb != NULL) {
            tcp_abort(pcb);
        }
        return MVPN_E_NOMEM;
    }
    stack->listener = (struct tcp_pcb_listen *)(void *)listener;
    stack->listener->local_port = 0; /* no packet has that */
    stack->on_accept = fn;
    stack->accept_ctx = ctx;
    tcp_arg(listener, stack);
    tcp_accept(listener, on_accept);
    return 0;
}

/* lwIP takes packets for its own address and knows listeners by their port: they are, for as long
 * as it looks at one packet, what that names. Connections keep their own. */
void mvpn_netstack_deliver(mvpn_netstack *stack, const mvpn_packet *packet, bool opens)
{
    struct netif *netif = &stack->lanes[0].netif;
    mvpn_ip ip;
    if (mvpn_ip_parse(packet->data, packet->len, &ip) != 0 || !ip.has_l4 ||
        ip.protocol != MVPN_IP_TCP || packet->local != 0) {
        return;
    }
    mvpn_addr dst = mvpn_ip_dst_addr(&ip);
    ip_addr_t to = to_lwip(&dst);
    if (ip.version == 4) {
        ip4_addr_copy(*ip_2_ip4(&netif->ip_addr), *ip_2_ip4(&to));
    } else {
        ip6_addr_copy(*ip_2_ip6(&netif->ip6_addr[0]), *ip_2_ip6(&to));
    }
    stack->listener->local_port = opens ? ip.dst_port : 0;
    enter_packet(stack, packet);
    stack->listener->local_port = 0;
}

/* ---- UDP ---- */

static void on_datagram(void *arg, struct udp_pcb *pcb, struct pbuf *p, const ip_addr_t *from,
                        u16_t port)
{
    mvpn_datagrams *socket = arg;
    mvpn_netstack *stack = socket->stack;
    (void)pcb;
    mvpn_addr addr = from_lwip(from, port);
    bool fits = p->tot_len <= sizeof(stack->scratch);
    size_t n = fits ? pbuf_copy_partial(p, stack->scratch, p->tot_len, 0) : 0;
    (void)pbuf_free(p);
    if (fits) {
        socket->fn(socket->ctx, &addr, (mvpn_bytes){stack->scratch, n});
    }
}

int mvpn_datagrams_open(mvpn_netstack *stack, unsigned number, uint8_t family,
                        mvpn_datagrams_fn *fn, void *ctx, mvpn_datagrams **ret)
{
    enum { TRIES = 16, FIRST_PORT = 16384 };
    MVPN_ASSERT(number < MVPN_NETSTACK_LANES && stack->lanes[number].is_open);
    lane *l = &stack->lanes[number];
    ip_addr_t own = own_address(family, l);
    mvpn_datagrams *socket = calloc(1, sizeof(*socket));
    struct udp_pcb *pcb = udp_new_ip_type(family == 4 ? IPADDR_TYPE_V4 : IPADDR_TYPE_V6);
    err_t err = ERR_MEM;
    /* A port that nobody can guess: who forges answers has to. (RFC 6056 §3.3.1) */
    for (unsigned i = 0; socket != NULL && pcb != NULL && err != ERR_OK && i < TRIES; i++) {
        uint32_t port = FIRST_PORT + mvpn_rng_below(&global.rng, 65536 - FIRST_PORT);
        err = udp_bind(pcb, &own, (u16_t)port);
    }
    if (err != ERR_OK) {
        if (pcb != NULL) {
            udp_remove(pcb);
        }
        free(socket);
        return MVPN_E_NOMEM;
    }
    udp_bind_netif(pcb, &l->netif);
    *socket = (mvpn_datagrams){
        .stack = stack, .lane = l, .pcb = pcb, .family = family, .fn = fn, .ctx = ctx};
    udp_recv(pcb, on_datagram, socket);
    mvpn_list_append(&stack->sockets, &socket->all);
    *ret = socket;
    return 0;
}

void mvpn_datagrams_free(mvpn_datagrams *socket)
{
    if (socket != NULL) {
        udp_remove(socket->pcb);
        mvpn_list_remove(&socket->all);
        free(socket);
    }
}

bool mvpn_datagrams_send(mvpn_datagrams *socket, const mvpn_addr *to, mvpn_bytes data)
{
    if (to->family != socket->family || !is_carried(to) || to->port == 0 ||
        data.n > MVPN_NETSTACK_DATAGRAM_MAX) {
        return false;
    }
    ip_addr_t ip = to_lwip(to);
    struct pbuf *p = pbuf_alloc(PBUF_TRANSPORT, (u16_t)data.n, PBUF_RAM);
    bool ok = p != NULL && pbuf_take(p, data.p, (u16_t)data.n) == ERR_OK &&
              udp_sendto(socket->pcb, p, &ip, to->port) == ERR_OK;
    if (p != NULL) {
        (void)pbuf_free(p);
    }
    return ok;
}
