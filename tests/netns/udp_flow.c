/*
 * Numbered UDP packets at a steady rate in both directions, for nat_paths.sh: what was lost, when
 * and for how long, is worked out from the two records afterwards (nat_flow.py).
 *
 *     udp_flow listen PORT RATE SIZE FILE              answers whoever spoke last
 *     udp_flow connect ADDRESS PORT RATE SIZE FILE
 *
 * Packet: [number 8] [sent 8: CLOCK_MONOTONIC us, the same clock in every namespace] [filler that
 * follows from the number]. Until SIGTERM; then FILE has "sent N", "corrupt N" and one line
 * "number sent_us received_us" for each packet that came.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum {
    SIZE_MIN = 16,
    SIZE_MAX_UDP = 1400,
    RECORDS_MAX = 1 << 20, /* eight minutes at 2,000 a second */
    BEHIND_MAX = 64,       /* packets made up for at once after a pause of the machine */
};

typedef struct record {
    uint64_t number, sent, received;
} record;

typedef struct flow {
    int sock;
    bool has_peer;
    struct sockaddr_in peer;
    uint64_t begin, number, skipped, corrupt;
    unsigned rate;
    size_t size;
    record *records;
    size_t count;
} flow;

static uint64_t now_us(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void die(const char *what)
{
    (void)fprintf(stderr, "udp_flow: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void fill(uint8_t *p, size_t size, uint64_t number)
{
    for (size_t i = SIZE_MIN; i < size; i++) {
        p[i] = (uint8_t)(number * 31 + i);
    }
}

/* All that is due by now. A number is used up only by a packet that went out. */
static void send_due(flow *f)
{
    uint8_t packet[SIZE_MAX_UDP];
    uint64_t due = (now_us() - f->begin) * f->rate / 1000000;
    if (due > f->number + f->skipped + BEHIND_MAX) {
        f->skipped = due - BEHIND_MAX - f->number;
    }
    while (f->has_peer && f->number + f->skipped < due) {
        uint64_t sent = now_us();
        memcpy(packet, &f->number, sizeof(f->number));
        memcpy(packet + 8, &sent, sizeof(sent));
        fill(packet, f->size, f->number);
        if (sendto(f->sock, packet, f->size, 0, (const struct sockaddr *)&f->peer,
                   sizeof(f->peer)) < 0) {
            f->skipped++; /* a full queue, or an ICMP error of before */
        } else {
            f->number++;
        }
    }
}

static void receive_all(flow *f)
{
    uint8_t packet[SIZE_MAX_UDP + 1], expected[SIZE_MAX_UDP];
    struct sockaddr_in from;
    for (;;) {
        socklen_t len = sizeof(from);
        ssize_t n =
            recvfrom(f->sock, packet, sizeof(packet), MSG_DONTWAIT, (struct sockaddr *)&from, &len);
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            return;
        }
        if (n < SIZE_MIN || (size_t)n != f->size) {
            f->corrupt += n >= 0;
            continue;
        }
        record r = {.received = now_us()};
        memcpy(&r.number, packet, sizeof(r.number));
        memcpy(&r.sent, packet + 8, sizeof(r.sent));
        fill(expected, f->size, r.number);
        if (memcmp(packet + SIZE_MIN, expected + SIZE_MIN, f->size - SIZE_MIN) != 0) {
            f->corrupt++;
            continue;
        }
        if (!f->has_peer) {
            f->begin = now_us();
        }
        f->peer = from;
        f->has_peer = true;
        if (f->count < RECORDS_MAX) {
            f->records[f->count++] = r;
        }
    }
}

static void write_records(const flow *f, const char *path)
{
    FILE *out = fopen(path, "w");
    if (out == NULL) {
        die(path);
    }
    (void)fprintf(out, "sent %" PRIu64 "\ncorrupt %" PRIu64 "\n", f->number, f->corrupt);
    for (size_t i = 0; i < f->count; i++) {
        const record *r = &f->records[i];
        (void)fprintf(out, "%" PRIu64 " %" PRIu64 " %" PRIu64 "\n", r->number, r->sent,
                      r->received);
    }
    if (fclose(out) != 0) {
        die(path);
    }
}

static void run(flow *f)
{
    sigset_t stop;
    (void)sigemptyset(&stop);
    (void)sigaddset(&stop, SIGTERM);
    (void)sigaddset(&stop, SIGINT);
    (void)sigprocmask(SIG_BLOCK, &stop, NULL);
    int signals = signalfd(-1, &stop, SFD_CLOEXEC);
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    const struct itimerspec each = {{0, 1000000}, {0, 1000000}};
    if (signals < 0 || timer < 0 || timerfd_settime(timer, 0, &each, NULL) < 0) {
        die("timer");
    }
    struct pollfd fds[] = {{f->sock, POLLIN, 0}, {timer, POLLIN, 0}, {signals, POLLIN, 0}};
    while ((fds[2].revents & POLLIN) == 0) {
        uint64_t ticks;
        if (poll(fds, 3, -1) < 0 && errno != EINTR) {
            die("poll");
        }
        if (fds[0].revents != 0) {
            receive_all(f);
        }
        if ((fds[1].revents & POLLIN) != 0 && read(timer, &ticks, sizeof(ticks)) > 0) {
            send_due(f);
        }
    }
    (void)close(timer);
    (void)close(signals);
}

static unsigned number_of(const char *text, unsigned long min, unsigned long max)
{
    char *end;
    unsigned long n = strtoul(text, &end, 10);
    if (*end != '\0' || n < min || n > max) {
        (void)fprintf(stderr, "udp_flow: not between %lu and %lu: %s\n", min, max, text);
        exit(2);
    }
    return (unsigned)n;
}

int main(int argc, char **argv)
{
    bool listens = argc == 6 && strcmp(argv[1], "listen") == 0;
    bool connects = argc == 7 && strcmp(argv[1], "connect") == 0;
    if (!listens && !connects) {
        (void)fputs("usage: udp_flow listen PORT RATE SIZE FILE\n"
                    "       udp_flow connect ADDRESS PORT RATE SIZE FILE\n",
                    stderr);
        return 2;
    }
    char **arg = argv + (listens ? 2 : 3);
    flow f = {.rate = number_of(arg[1], 1, 100000),
              .size = number_of(arg[2], SIZE_MIN, SIZE_MAX_UDP),
              .begin = now_us(),
              .has_peer = connects};
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)number_of(arg[0], 1, 65535))};
    int room = 4 << 20;
    f.records = calloc(RECORDS_MAX, sizeof(*f.records));
    f.sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (f.records == NULL || f.sock < 0) {
        die("socket");
    }
    (void)setsockopt(f.sock, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
    if (connects) {
        f.peer = at;
        if (inet_pton(AF_INET, argv[2], &f.peer.sin_addr) != 1) {
            (void)fprintf(stderr, "udp_flow: no address: %s\n", argv[2]);
            return 2;
        }
    } else if (bind(f.sock, (const struct sockaddr *)&at, sizeof(at)) < 0) {
        die("bind");
    }
    run(&f);
    write_records(&f, arg[3]);
    free(f.records);
    (void)close(f.sock);
    return 0;
}
