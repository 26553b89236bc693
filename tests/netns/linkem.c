/*
 * Link emulator: joins two TAP devices and treats what passes as a bad link would: delay, jitter,
 * loss, reordering, duplication, corruption, a bottleneck rate with a bounded queue, an MTU black
 * hole. Each direction has its own settings and its own seeded random stream.
 *
 * Called by tests/netns/lab.sh (lab_linkem); the kernel of the test machines has no netem. TAP
 * instead of AF_PACKET on veth: without offloads asked for, the kernel hands every frame
 * segmented and with its checksum complete, so what is lost here is what a wire would lose.
 *
 *     linkem --a NETNS:NAME --b NETNS:NAME [--seed N] [--control FIFO] [SETTING...]
 *
 * NETNS is a path such as /run/netns/x, or empty for the caller's own. Settings, both directions
 * unless prefixed by "ab." or "ba.": delay=20ms jitter=5ms loss=2% reorder=5% reorder-delay=4ms
 * duplicate=1% corrupt=1% rate=10mbit queue=64kb mtu=1400; "clear" resets. A line written to the
 * control FIFO is read the same way. SIGUSR1 prints the counters to stderr, SIGTERM ends.
 *
 * ARP and IPv6 neighbour discovery are only delayed: they belong to the wire next door, and a lost
 * one would stall a path for a second, which no internet path does.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum {
    FRAME_MAX = 2048,   /* an Ethernet frame of MTU 1500 and room */
    HELD_MAX = 32768,   /* 64 MB: 0.4 s of 1 Gbit/s in full frames */
    BATCH_MAX = 64,     /* frames read from one side before the other gets its turn */
    LINE_MAX_LEN = 512, /* one line of settings */
    ETHERNET_LEN = 14,
};

#define NS_PER_S UINT64_C(1000000000)

typedef struct settings {
    uint64_t delay_ns;
    uint64_t jitter_ns; /* uniform in [0, 2 * jitter], added to delay - jitter */
    uint64_t reorder_ns;
    double loss;
    double reorder;
    double duplicate;
    double corrupt;
    double rate_bit_s; /* 0: unlimited */
    double queue_bytes;
    unsigned mtu; /* IP bytes; 0: no black hole */
} settings;

typedef struct counters {
    uint64_t in, out, lost, queue_full, black_hole, reordered, duplicated, corrupted, no_room;
} counters;

typedef struct direction {
    const char *name;
    int from_fd;
    int to_fd;
    settings set;
    counters count;
    uint64_t random[4];    /* xoshiro256** state */
    uint64_t link_free_at; /* when the bottleneck has sent all that it accepted */
    uint64_t last_due;     /* jitter alone must not reorder */
} direction;

typedef struct held {
    uint64_t due;
    uint64_t sequence; /* equal times leave in the order of arrival */
    direction *dir;
    uint32_t len;
    uint32_t slot;
} held;

static held heap[HELD_MAX];
static uint32_t heap_count;
static uint8_t frames[HELD_MAX][FRAME_MAX];
static uint32_t free_slots[HELD_MAX];
static uint32_t free_count;
static uint64_t next_sequence;

static void die(const char *what)
{
    fprintf(stderr, "linkem: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

/* ---- random ---- */

static uint64_t splitmix(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static uint64_t rotate(uint64_t x, int k)
{
    return (x << k) | (x >> (64 - k));
}

static uint64_t random_u64(direction *dir)
{
    uint64_t *s = dir->random;
    uint64_t result = rotate(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 45);
    return result;
}

static double random_unit(direction *dir)
{
    return (double)(random_u64(dir) >> 11) * 0x1.0p-53;
}

static bool happens(direction *dir, double probability)
{
    return probability > 0 && random_unit(dir) < probability;
}

/* ---- settings ---- */

static bool unit_factor(const char *unit, double *ret_factor)
{
    static const struct {
        const char *name;
        double factor;
    } units[] = {
        {"", 1},
        {"%", 0.01},
        {"ns", 1},
        {"us", 1e3},
        {"ms", 1e6},
        {"s", 1e9},
        {"bit", 1},
        {"kbit", 1e3},
        {"mbit", 1e6},
        {"gbit", 1e9},
        {"b", 1},
        {"kb", 1024},
        {"mb", 1024.0 * 1024.0},
    };
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (strcmp(unit, units[i].name) == 0) {
            *ret_factor = units[i].factor;
            return true;
        }
    }
    return false;
}

static bool setting_store(settings *set, const char *key, double value)
{
    if (strcmp(key, "delay") == 0) {
        set->delay_ns = (uint64_t)value;
    } else if (strcmp(key, "jitter") == 0) {
        set->jitter_ns = (uint64_t)value;
    } else if (strcmp(key, "reorder-delay") == 0) {
        set->reorder_ns = (uint64_t)value;
    } else if (strcmp(key, "loss") == 0) {
        set->loss = value;
    } else if (strcmp(key, "reorder") == 0) {
        set->reorder = value;
    } else if (strcmp(key, "duplicate") == 0) {
        set->duplicate = value;
    } else if (strcmp(key, "corrupt") == 0) {
        set->corrupt = value;
    } else if (strcmp(key, "rate") == 0) {
        set->rate_bit_s = value;
    } else if (strcmp(key, "queue") == 0) {
        set->queue_bytes = value;
    } else if (strcmp(key, "mtu") == 0) {
        set->mtu = (unsigned)value;
    } else {
        return false;
    }
    return true;
}

static settings settings_clear(void)
{
    return (settings){.reorder_ns = 4000000, .queue_bytes = 256 * 1024};
}

/** Read one "[ab.|ba.]key=value" or "clear"; false if it is not understood. */
static bool setting_parse(direction dirs[static 2], const char *word)
{
    bool use[2] = {true, true};
    if (strncmp(word, "ab.", 3) == 0 || strncmp(word, "ba.", 3) == 0) {
        use[word[0] == 'a'] = false;
        word += 3;
    }
    bool clear = strcmp(word, "clear") == 0;
    char key[32];
    double value = 0;
    if (!clear) {
        const char *equals = strchr(word, '=');
        if (equals == NULL || equals == word || (size_t)(equals - word) >= sizeof(key)) {
            return false;
        }
        memcpy(key, word, (size_t)(equals - word));
        key[equals - word] = '\0';
        char *end;
        value = strtod(equals + 1, &end);
        double factor;
        if (end == equals + 1 || value < 0 || !unit_factor(end, &factor)) {
            return false;
        }
        value *= factor;
    }
    for (int i = 0; i < 2; i++) {
        if (use[i] && clear) {
            dirs[i].set = settings_clear();
        } else if (use[i] && !setting_store(&dirs[i].set, key, value)) {
            return false;
        }
    }
    return true;
}

static void settings_line(direction dirs[static 2], char *line)
{
    char *rest = NULL;
    for (char *word = strtok_r(line, " \t\n", &rest); word; word = strtok_r(NULL, " \t\n", &rest)) {
        if (!setting_parse(dirs, word)) {
            fprintf(stderr, "linkem: not understood: %s\n", word);
        }
    }
}

/* ---- held frames: a heap by due time ---- */

static bool held_before(const held *a, const held *b)
{
    return a->due != b->due ? a->due < b->due : a->sequence < b->sequence;
}

static void heap_push(held item)
{
    uint32_t i = heap_count++;
    while (i > 0 && held_before(&item, &heap[(i - 1) / 2])) {
        heap[i] = heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    heap[i] = item;
}

static held heap_pop(void)
{
    held top = heap[0];
    held last = heap[--heap_count];
    uint32_t i = 0;
    for (uint32_t child = 1; child < heap_count; child = 2 * i + 1) {
        if (child + 1 < heap_count && held_before(&heap[child + 1], &heap[child])) {
            child++;
        }
        if (!held_before(&heap[child], &last)) {
            break;
        }
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = last;
    return top;
}

static void frame_send(direction *dir, const uint8_t *frame, size_t len)
{
    /* A device that is down refuses: as good as a cut wire. */
    if (write(dir->to_fd, frame, len) == (ssize_t)len) {
        dir->count.out++;
    }
}

static void frame_hold(direction *dir, const uint8_t *frame, size_t len, uint64_t due, uint64_t now)
{
    if (due <= now) {
        frame_send(dir, frame, len);
        return;
    }
    if (free_count == 0) {
        dir->count.no_room++;
        return;
    }
    uint32_t slot = free_slots[--free_count];
    memcpy(frames[slot], frame, len);
    heap_push((held){due, next_sequence++, dir, (uint32_t)len, slot});
}

static void release_due(uint64_t now)
{
    while (heap_count > 0 && heap[0].due <= now) {
        held item = heap_pop();
        frame_send(item.dir, frames[item.slot], item.len);
        free_slots[free_count++] = item.slot;
    }
}

/* ---- what a frame is ---- */

static unsigned ether_type(const uint8_t *frame)
{
    return (unsigned)frame[12] << 8 | frame[13];
}

static bool is_neighbour_frame(const uint8_t *frame, size_t len)
{
    if (len < ETHERNET_LEN) {
        return true;
    }
    if (ether_type(frame) == 0x0806) {
        return true;
    }
    return ether_type(frame) == 0x86dd && len > ETHERNET_LEN + 40 &&
           frame[ETHERNET_LEN + 6] == 58 && frame[ETHERNET_LEN + 40] >= 133 &&
           frame[ETHERNET_LEN + 40] <= 137;
}

/** Offset of the UDP header of an unfragmented packet, or 0. */
static size_t udp_offset(const uint8_t *frame, size_t len)
{
    const uint8_t *ip = frame + ETHERNET_LEN;
    if (ether_type(frame) == 0x0800 && len >= ETHERNET_LEN + 28 && ip[9] == 17 &&
        (ip[6] & 0x3f) == 0 && ip[7] == 0) {
        size_t offset = ETHERNET_LEN + (size_t)(ip[0] & 15) * 4;
        return offset + 8 < len ? offset : 0;
    }
    if (ether_type(frame) == 0x86dd && len > ETHERNET_LEN + 48 && ip[6] == 17) {
        return ETHERNET_LEN + 40;
    }
    return 0;
}

/*
 * Flip one bit. In UDP payload the checksum is corrected (RFC 1624), or the kernel would drop the
 * packet and corruption would be plain loss: the program under test must be the one to notice.
 */
static void frame_corrupt(direction *dir, uint8_t *frame, size_t len)
{
    size_t udp = udp_offset(frame, len);
    size_t first = udp != 0 ? udp + 8 : ETHERNET_LEN + 20;
    if (first >= len) {
        return;
    }
    size_t at = first + (size_t)(random_u64(dir) % (len - first));
    uint8_t bit = (uint8_t)(1u << (random_u64(dir) & 7));
    uint8_t before = frame[at];
    frame[at] ^= bit;
    if (udp == 0) {
        return;
    }
    unsigned shift = ((at - udp) & 1) == 0 ? 8 : 0;
    uint32_t old_word = (uint32_t)before << shift;
    uint32_t new_word = (uint32_t)frame[at] << shift;
    uint32_t sum = (uint32_t)frame[udp + 6] << 8 | frame[udp + 7];
    if (sum == 0) {
        return;
    }
    sum = (~sum & 0xffff) + (~old_word & 0xffff) + new_word;
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = ~sum & 0xffff;
    sum = sum == 0 ? 0xffff : sum;
    frame[udp + 6] = (uint8_t)(sum >> 8);
    frame[udp + 7] = (uint8_t)sum;
}

/* ---- the link ---- */

/** When the bottleneck has sent the frame; false if its queue is full. */
static bool pass_bottleneck(direction *dir, size_t len, uint64_t now, uint64_t *ret_at)
{
    *ret_at = now;
    if (dir->set.rate_bit_s <= 0) {
        return true;
    }
    uint64_t start = dir->link_free_at > now ? dir->link_free_at : now;
    double waiting_bytes = (double)(start - now) * dir->set.rate_bit_s / 8e9;
    if (waiting_bytes > dir->set.queue_bytes) {
        return false;
    }
    dir->link_free_at = start + (uint64_t)((double)len * 8e9 / dir->set.rate_bit_s);
    *ret_at = dir->link_free_at;
    return true;
}

static uint64_t due_in_order(direction *dir, uint64_t at)
{
    uint64_t due = at + dir->set.delay_ns;
    if (dir->set.jitter_ns > 0) {
        due += random_u64(dir) % (2 * dir->set.jitter_ns + 1);
        uint64_t earliest = at + dir->set.jitter_ns;
        due = due > earliest ? due - dir->set.jitter_ns : at;
    }
    if (due < dir->last_due) {
        due = dir->last_due;
    }
    dir->last_due = due;
    return due;
}

static void frame_pass(direction *dir, uint8_t *frame, size_t len, uint64_t now)
{
    dir->count.in++;
    if (is_neighbour_frame(frame, len)) {
        frame_hold(dir, frame, len, now + dir->set.delay_ns, now);
        return;
    }
    if (dir->set.mtu != 0 && len - ETHERNET_LEN > dir->set.mtu) {
        dir->count.black_hole++;
        return;
    }
    if (happens(dir, dir->set.loss)) {
        dir->count.lost++;
        return;
    }
    uint64_t at;
    if (!pass_bottleneck(dir, len, now, &at)) {
        dir->count.queue_full++;
        return;
    }
    if (happens(dir, dir->set.corrupt)) {
        dir->count.corrupted++;
        frame_corrupt(dir, frame, len);
    }
    int copies = happens(dir, dir->set.duplicate) ? 2 : 1;
    dir->count.duplicated += copies == 2;
    for (int i = 0; i < copies; i++) {
        if (happens(dir, dir->set.reorder)) {
            /* Later frames overtake it; it must not hold them back. */
            dir->count.reordered++;
            frame_hold(dir, frame, len, at + dir->set.delay_ns + dir->set.reorder_ns, now);
        } else {
            frame_hold(dir, frame, len, due_in_order(dir, at), now);
        }
    }
}

static void side_read(direction *dir)
{
    uint8_t frame[FRAME_MAX];
    for (int i = 0; i < BATCH_MAX; i++) {
        ssize_t len = read(dir->from_fd, frame, sizeof(frame));
        if (len <= 0) {
            return;
        }
        uint64_t now = now_ns();
        release_due(now);
        frame_pass(dir, frame, (size_t)len, now);
    }
}

/* ---- set-up ---- */

static int open_tap(const char *spec)
{
    const char *colon = strrchr(spec, ':');
    if (colon == NULL || colon[1] == '\0' || strlen(colon + 1) >= IFNAMSIZ) {
        fprintf(stderr, "linkem: expected NETNS:NAME, got %s\n", spec);
        exit(2);
    }
    int own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    if (own < 0) {
        die("/proc/self/ns/net");
    }
    if (colon != spec) {
        char path[256];
        (void)snprintf(path, sizeof(path), "%.*s", (int)(colon - spec), spec);
        int ns = open(path, O_RDONLY | O_CLOEXEC);
        if (ns < 0 || setns(ns, CLONE_NEWNET) != 0) {
            die(path);
        }
        (void)close(ns);
    }
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) {
        die("/dev/net/tun");
    }
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI};
    (void)snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", colon + 1);
    if (ioctl(fd, TUNSETIFF, &request) != 0) {
        die(spec);
    }
    if (setns(own, CLONE_NEWNET) != 0) {
        die("return to own namespace");
    }
    (void)close(own);
    return fd;
}

static void print_counters(const direction *dir)
{
    const counters *c = &dir->count;
    fprintf(stderr,
            "linkem: %s in %" PRIu64 " out %" PRIu64 " lost %" PRIu64 " queue_full %" PRIu64
            " black_hole %" PRIu64 " reordered %" PRIu64 " duplicated %" PRIu64
            " corrupted %" PRIu64 " no_room %" PRIu64 "\n",
            dir->name, c->in, c->out, c->lost, c->queue_full, c->black_hole, c->reordered,
            c->duplicated, c->corrupted, c->no_room);
}

static void watch(int epoll_fd, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data = {.fd = fd}};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
        die("epoll");
    }
}

static void arm_timer(int timer_fd)
{
    struct itimerspec when = {0};
    if (heap_count > 0) {
        when.it_value.tv_sec = (time_t)(heap[0].due / NS_PER_S);
        when.it_value.tv_nsec = (long)(heap[0].due % NS_PER_S);
    }
    if (timerfd_settime(timer_fd, TFD_TIMER_ABSTIME, &when, NULL) != 0) {
        die("timerfd");
    }
}

static void control_read(int fd, direction dirs[static 2])
{
    char line[LINE_MAX_LEN];
    ssize_t len = read(fd, line, sizeof(line) - 1);
    if (len > 0) {
        line[len] = '\0';
        settings_line(dirs, line);
    }
}

/** False when asked to end. */
static bool signal_read(int fd, const direction dirs[static 2])
{
    struct signalfd_siginfo info;
    if (read(fd, &info, sizeof(info)) != (ssize_t)sizeof(info)) {
        return true;
    }
    print_counters(&dirs[0]);
    print_counters(&dirs[1]);
    return info.ssi_signo == SIGUSR1;
}

static int open_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGUSR1);
    int fd = -1;
    if (sigprocmask(SIG_BLOCK, &set, NULL) == 0) {
        fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    }
    if (fd < 0) {
        die("signals");
    }
    return fd;
}

static void run(direction dirs[static 2], int control_fd)
{
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    int timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    int signal_fd = open_signals();
    if (epoll_fd < 0 || timer_fd < 0) {
        die("epoll or timerfd");
    }
    watch(epoll_fd, dirs[0].from_fd);
    watch(epoll_fd, dirs[1].from_fd);
    watch(epoll_fd, timer_fd);
    watch(epoll_fd, signal_fd);
    if (control_fd >= 0) {
        watch(epoll_fd, control_fd);
    }
    printf("ready\n");
    (void)fflush(stdout);
    for (;;) {
        struct epoll_event events[8];
        int count = epoll_wait(epoll_fd, events, 8, -1);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd == dirs[0].from_fd) {
                side_read(&dirs[0]);
            } else if (fd == dirs[1].from_fd) {
                side_read(&dirs[1]);
            } else if (fd == control_fd) {
                control_read(fd, dirs);
            } else if (fd == signal_fd && !signal_read(fd, dirs)) {
                return;
            }
        }
        release_due(now_ns());
        arm_timer(timer_fd);
    }
}

int main(int argc, char **argv)
{
    direction dirs[2] = {{.name = "ab"}, {.name = "ba"}};
    dirs[0].set = dirs[1].set = settings_clear();
    const char *spec[2] = {NULL, NULL};
    const char *control = NULL;
    uint64_t seed = 1;
    for (int i = 1; i < argc; i++) {
        bool more = i + 1 < argc;
        if (more && (strcmp(argv[i], "--a") == 0 || strcmp(argv[i], "--b") == 0)) {
            int side = argv[i][2] == 'b';
            spec[side] = argv[++i];
        } else if (more && strcmp(argv[i], "--seed") == 0) {
            seed = strtoull(argv[++i], NULL, 10);
        } else if (more && strcmp(argv[i], "--control") == 0) {
            control = argv[++i];
        } else if (!setting_parse(dirs, argv[i])) {
            fprintf(stderr, "linkem: not understood: %s\n", argv[i]);
            return 2;
        }
    }
    if (spec[0] == NULL || spec[1] == NULL) {
        fprintf(stderr, "usage: linkem --a NETNS:NAME --b NETNS:NAME [--seed N] [--control FIFO] "
                        "[SETTING...]\n");
        return 2;
    }
    for (int i = 0; i < 2; i++) {
        for (int word = 0; word < 4; word++) {
            dirs[i].random[word] = splitmix(&seed);
        }
    }
    for (free_count = 0; free_count < HELD_MAX; free_count++) {
        free_slots[free_count] = HELD_MAX - 1 - free_count;
    }
    dirs[0].from_fd = dirs[1].to_fd = open_tap(spec[0]);
    dirs[1].from_fd = dirs[0].to_fd = open_tap(spec[1]);
    int control_fd = -1;
    if (control != NULL) {
        if (mkfifo(control, 0600) != 0 && errno != EEXIST) {
            die(control);
        }
        /* Open for writing too: else every writer's close would read as an end of file. */
        control_fd = open(control, O_RDWR | O_NONBLOCK | O_CLOEXEC);
        if (control_fd < 0) {
            die(control);
        }
    }
    run(dirs, control_fd);
    return 0;
}
