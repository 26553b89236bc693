#include "network/proxy/request.h"

#include <string.h>

#include "base/assert.h"
#include "base/error.h"

enum {
    PHASE_GREETING,
    PHASE_USER,
    PHASE_COMMAND,
};

#define SOCKS_VERSION 5
#define USER_VERSION 1
#define METHOD_NONE 0x00
#define METHOD_USER 0x02
#define METHOD_NO_ACCEPTABLE 0xff
#define TYPE_V4 1
#define TYPE_NAME 3
#define TYPE_V6 4
/* Version, command, reserved; or reserved and fragment of a datagram. */
#define ADDRESS_AT 3

/* ---- names ---- */

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool is_name_char(char c)
{
    c = lower(c);
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

/* `text` is `tail`, or ends in "." and it; whatever the case, and with a dot at the end or not. */
static bool ends_in(const char *text, size_t n, const char *tail)
{
    size_t t = strlen(tail);
    if (n < t || (n > t && text[n - t - 1] != '.')) {
        return false;
    }
    for (size_t i = 0; i < t; i++) {
        if (lower(text[n - t + i]) != tail[i]) {
            return false;
        }
    }
    return true;
}

bool mvpn_proxy_is_name(const char *text)
{
    static const char *const local[] = {"localhost", "local", "home.arpa", "internal", "lan"};
    size_t n = strlen(text), label = 0;
    n -= n > 0 && text[n - 1] == '.';
    if (n == 0 || n > MVPN_PROXY_NAME_MAX) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (text[i] == '.' ? label == 0 : !is_name_char(text[i]) || label == 63) {
            return false;
        }
        label = text[i] == '.' ? 0 : label + 1;
    }
    for (size_t i = 0; i < MVPN_ARRAY_LEN(local); i++) {
        if (ends_in(text, n, local[i])) {
            return false;
        }
    }
    return label > 0;
}

/* A name, or an address written as one. */
static bool set_target(mvpn_proxy_target *ret, const uint8_t *text, size_t n, uint16_t port)
{
    mvpn_proxy_target t = {.name = ""};
    mvpn_addr addr;
    if (n == 0 || n > MVPN_PROXY_NAME_MAX || memchr(text, 0, n) != NULL) {
        return false;
    }
    memcpy(t.name, text, n);
    bool is_bracketed = n > 2 && t.name[0] == '[' && t.name[n - 1] == ']';
    if (is_bracketed) {
        memmove(t.name, t.name + 1, n - 2);
        t.name[n - 2] = '\0';
    }
    if (mvpn_addr_parse(t.name, &addr) == 0) {
        if (addr.port != 0 || (is_bracketed && addr.family != 6)) {
            return false;
        }
        memset(t.name, 0, sizeof(t.name));
        t.addr = addr;
    } else if (is_bracketed || strchr(t.name, ':') != NULL) {
        return false;
    }
    t.addr.port = port;
    *ret = t;
    return true;
}

/* ---- SOCKS5 ---- */

static void append(mvpn_proxy_request *r, const void *bytes, size_t n)
{
    MVPN_ASSERT(n <= sizeof(r->reply) - r->reply_len);
    memcpy(r->reply + r->reply_len, bytes, n);
    r->reply_len += n;
}

static void consume(mvpn_proxy_request *r, size_t n)
{
    r->len -= n;
    memmove(r->buf, r->buf + n, r->len);
}

/*
 * Type, address, port at `p`. Returns their length; 0: cut, and more may come; -1: malformed or of
 * an unknown type (`*ret_unknown`).
 */
static int read_address(const uint8_t *p, size_t n, mvpn_proxy_target *ret, bool *ret_unknown)
{
    if (n < 2) {
        return 0;
    }
    size_t len = p[0] == TYPE_V4 ? 4 : p[0] == TYPE_V6 ? 16 : p[0] == TYPE_NAME ? p[1] + 1u : 0;
    *ret_unknown = len == 0;
    if (len == 0) {
        return -1;
    }
    if (n < 1 + len + 2) {
        return 0;
    }
    uint16_t port = (uint16_t)(p[1 + len] << 8 | p[2 + len]);
    if (p[0] == TYPE_NAME) {
        return set_target(ret, p + 2, len - 1, port) ? (int)(len + 3) : -1;
    }
    *ret = (mvpn_proxy_target){.addr = {.family = p[0] == TYPE_V4 ? 4 : 6, .port = port}};
    memcpy(ret->addr.ip, p + 1, len);
    return (int)(len + 3);
}

static size_t write_address(uint8_t *out, const mvpn_addr *addr)
{
    size_t n = addr->family == 6 ? 16 : 4; /* unknown: 0.0.0.0 */
    out[0] = addr->family == 6 ? TYPE_V6 : TYPE_V4;
    memcpy(out + 1, addr->ip, n);
    out[1 + n] = (uint8_t)(addr->port >> 8);
    out[2 + n] = (uint8_t)addr->port;
    return n + 3;
}

static void refuse(mvpn_proxy_request *r, enum mvpn_proxy_result result)
{
    static const mvpn_addr none = {0};
    mvpn_proxy_request_answer(r, result, &none);
    r->state = MVPN_PROXY_REFUSED;
}

/* Version, count, methods. Who offers a user name means something by it. (RFC 1928 §3) */
static bool read_greeting(mvpn_proxy_request *r)
{
    if (r->len < 2 || r->len < 2u + r->buf[1]) {
        return false;
    }
    uint8_t answer[] = {SOCKS_VERSION, METHOD_NO_ACCEPTABLE};
    if (memchr(r->buf + 2, METHOD_USER, r->buf[1]) != NULL) {
        answer[1] = METHOD_USER;
        r->phase = PHASE_USER;
    } else if (memchr(r->buf + 2, METHOD_NONE, r->buf[1]) != NULL) {
        answer[1] = METHOD_NONE;
        r->phase = PHASE_COMMAND;
    } else {
        r->state = MVPN_PROXY_REFUSED;
    }
    append(r, answer, sizeof(answer));
    consume(r, 2u + r->buf[1]);
    return true;
}

/* Version, length, user, length, password: every password will do, but a name there must be. (RFC
 * 1929 §2) */
static bool read_user(mvpn_proxy_request *r)
{
    static const uint8_t welcome[] = {USER_VERSION, 0}, failure[] = {USER_VERSION, 1};
    if ((r->len >= 1 && r->buf[0] != USER_VERSION) || (r->len >= 2 && r->buf[1] == 0)) {
        append(r, failure, sizeof(failure));
        r->state = MVPN_PROXY_REFUSED;
        return true;
    }
    if (r->len < 2 || r->len < 3u + r->buf[1] || r->len < 3u + r->buf[1] + r->buf[2 + r->buf[1]]) {
        return false;
    }
    mvpn_proxy_user *user = &r->user;
    user->is_set = true;
    user->name_len = r->buf[1];
    user->password_len = r->buf[2 + user->name_len];
    memcpy(user->name, r->buf + 2, user->name_len);
    memcpy(user->password, r->buf + 3 + user->name_len, user->password_len);
    append(r, welcome, sizeof(welcome));
    consume(r, 3u + user->name_len + user->password_len);
    r->phase = PHASE_COMMAND;
    return true;
}

/* Version, command, reserved, address. (RFC 1928 §4) */
static bool read_command(mvpn_proxy_request *r)
{
    enum { CONNECT = 1, BIND = 2, ASSOCIATE = 3 };
    bool is_unknown = false;
    if (r->len >= 1 && r->buf[0] != SOCKS_VERSION) {
        refuse(r, MVPN_PROXY_FAILED);
        return true;
    }
    if (r->len < ADDRESS_AT) {
        return false;
    }
    /* An association may come from anywhere, says its 0.0.0.0: no name is wanted there. */
    int n = read_address(r->buf + ADDRESS_AT, r->len - ADDRESS_AT, &r->target, &is_unknown);
    if (n == 0) {
        return false;
    }
    uint8_t command = r->buf[1];
    if (command != CONNECT && command != ASSOCIATE) {
        refuse(r, MVPN_PROXY_NO_COMMAND);
    } else if (n < 0) {
        refuse(r, is_unknown ? MVPN_PROXY_NO_ADDRESS_TYPE : MVPN_PROXY_FAILED);
    } else if (command == CONNECT && r->target.addr.port == 0) {
        refuse(r, MVPN_PROXY_FAILED);
    } else {
        r->command = command == CONNECT ? MVPN_PROXY_CONNECT : MVPN_PROXY_ASSOCIATE;
        r->state = MVPN_PROXY_ASKED;
        consume(r, ADDRESS_AT + (size_t)n);
    }
    return true;
}

static void read_socks(mvpn_proxy_request *r)
{
    bool goes_on = true;
    if (r->len >= 1 && r->phase == PHASE_GREETING && r->buf[0] != SOCKS_VERSION) {
        r->state = MVPN_PROXY_REFUSED; /* SOCKS4, HTTP, anything: there is no answer for all */
        return;
    }
    while (goes_on && r->state == MVPN_PROXY_READING) {
        goes_on = r->phase == PHASE_GREETING ? read_greeting(r)
                  : r->phase == PHASE_USER   ? read_user(r)
                                             : read_command(r);
    }
}

/* ---- HTTP ---- */

static void refuse_http(mvpn_proxy_request *r, const char *status, const char *text)
{
    const char *parts[] = {"HTTP/1.1 ", status,
                           "\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n", text, "\n"};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(parts); i++) {
        append(r, parts[i], strlen(parts[i]));
    }
    r->state = MVPN_PROXY_REFUSED;
}

/* "host:port", "[v6]:port". */
static bool read_authority(mvpn_proxy_target *ret, const uint8_t *p, size_t n)
{
    size_t colon = n;
    uint32_t port = 0;
    while (colon > 0 && p[colon - 1] != ':') {
        colon--;
    }
    if (colon < 2 || colon == n || n - colon > 5) {
        return false;
    }
    for (size_t i = colon; i < n; i++) {
        if (p[i] < '0' || p[i] > '9') {
            return false;
        }
        port = port * 10 + (uint32_t)(p[i] - '0');
    }
    size_t host = colon - 1;
    /* Without brackets an IPv6 address and a port cannot be told apart. */
    bool is_ambiguous = p[0] != '[' && memchr(p, ':', host) != NULL;
    return port > 0 && port <= UINT16_MAX && !is_ambiguous &&
           set_target(ret, p, host, (uint16_t)port);
}

static bool starts_with(const uint8_t *p, size_t n, const char *prefix)
{
    size_t len = strlen(prefix);
    for (size_t i = 0; i < len; i++) {
        if (i >= n || lower((char)p[i]) != prefix[i]) {
            return false;
        }
    }
    return true;
}

/* Two users must not be taken for one: what cannot be read, or comes twice, is refused. (RFC 9110
 * §11.7.2) */
static bool read_credentials(mvpn_proxy_request *r, const uint8_t *line, size_t n)
{
    static const char name[] = "proxy-authorization:";
    size_t from = sizeof(name) - 1;
    if (!starts_with(line, n, name)) {
        return true;
    }
    int result = r->user.is_set
                     ? MVPN_E_FORMAT
                     : mvpn_proxy_basic_decode(mvpn_bytes_of(line + from, n - from), &r->user);
    switch (result) {
    case 0:
        return true;
    case MVPN_E_UNKNOWN:
        refuse_http(r,
                    "407 Proxy Authentication Required\r\nProxy-Authenticate: Basic "
                    "realm=\"isolation\"",
                    "Users are told apart by Basic; any name and password will do.");
        return false;
    case MVPN_E_LIMIT:
        refuse_http(r, "431 Request Header Fields Too Large",
                    "User name and password are too long.");
        return false;
    default:
        refuse_http(r, "400 Bad Request", "Proxy-Authorization is not one user name and password.");
        return false;
    }
}

/* Where the line at `p` ends (its CR), or NULL. */
static const uint8_t *line_end(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i + 1 < n; i++) {
        if (p[i] == '\r' && p[i + 1] == '\n') {
            return p + i;
        }
    }
    return NULL;
}

static bool read_request_line(mvpn_proxy_request *r, const uint8_t *line, size_t n)
{
    static const char method[] = "CONNECT ";
    size_t from = sizeof(method) - 1;
    if (n < from || memcmp(line, method, from) != 0) {
        refuse_http(r, "405 Method Not Allowed\r\nAllow: CONNECT",
                    "This proxy carries connections (CONNECT, as for https) and nothing else; for "
                    "plain http use its SOCKS5 side.");
        return false;
    }
    const uint8_t *space = memchr(line + from, ' ', n - from);
    size_t host = space == NULL ? 0 : (size_t)(space - line) - from;
    size_t version = n - from - host;
    if (space == NULL || version != sizeof(" HTTP/1.1") - 1 ||
        memcmp(space, " HTTP/1.", version - 1) != 0 ||
        !read_authority(&r->target, line + from, host)) {
        refuse_http(r, "400 Bad Request", "The request line is not CONNECT HOST:PORT HTTP/1.1.");
        return false;
    }
    return true;
}

static void read_http(mvpn_proxy_request *r)
{
    const uint8_t *p = r->buf, *end = r->buf + r->len, *eol;
    bool is_first = true;
    r->user = (mvpn_proxy_user){.is_set = false}; /* the whole head is read again with each piece */
    while ((eol = line_end(p, (size_t)(end - p))) != NULL) {
        size_t n = (size_t)(eol - p);
        if (n == 0 && !is_first) { /* the empty line */
            r->command = MVPN_PROXY_CONNECT;
            r->state = MVPN_PROXY_ASKED;
            consume(r, (size_t)(eol + 2 - r->buf));
            return;
        }
        if (is_first ? !read_request_line(r, p, n) : !read_credentials(r, p, n)) {
            return;
        }
        is_first = false;
        p = eol + 2;
    }
    if (r->len == sizeof(r->buf)) {
        refuse_http(r, "431 Request Header Fields Too Large",
                    "The head of the request is too long.");
    }
}

static void answer_http(mvpn_proxy_request *r, enum mvpn_proxy_result result)
{
    static const char ok[] = "HTTP/1.1 200 Connection established\r\n\r\n";
    switch (result) {
    case MVPN_PROXY_OK:
        append(r, ok, sizeof(ok) - 1);
        return;
    case MVPN_PROXY_NOT_ALLOWED:
        refuse_http(r, "403 Forbidden", "This address is not reached through the network.");
        return;
    case MVPN_PROXY_TIMED_OUT:
        refuse_http(r, "504 Gateway Timeout", "The other end did not answer in time.");
        return;
    case MVPN_PROXY_CONNECTION_REFUSED:
        refuse_http(r, "502 Bad Gateway", "The other end refused the connection.");
        return;
    case MVPN_PROXY_NET_UNREACHABLE:
    case MVPN_PROXY_HOST_UNREACHABLE:
        refuse_http(r, "502 Bad Gateway", "The name is unknown, or its address is not reached.");
        return;
    case MVPN_PROXY_NO_GROUP:
        refuse_http(r, "503 Service Unavailable",
                    "Too many users at once: each has circuits of its own, and no more are kept.");
        return;
    case MVPN_PROXY_FAILED:
    case MVPN_PROXY_NO_COMMAND:
    case MVPN_PROXY_NO_ADDRESS_TYPE:
        break;
    }
    refuse_http(r, "503 Service Unavailable", "The proxy cannot do that now.");
}

/* ---- all ---- */

void mvpn_proxy_request_init(mvpn_proxy_request *r, enum mvpn_proxy_kind kind)
{
    memset(r, 0, offsetof(mvpn_proxy_request, buf));
    r->kind = kind;
    r->phase = PHASE_GREETING;
}

uint8_t *mvpn_proxy_request_room(mvpn_proxy_request *r, size_t *ret_room)
{
    *ret_room = sizeof(r->buf) - r->len;
    return r->buf + r->len;
}

void mvpn_proxy_request_filled(mvpn_proxy_request *r, size_t n)
{
    MVPN_ASSERT(r->state == MVPN_PROXY_READING && n <= sizeof(r->buf) - r->len);
    r->len += n;
    if (r->kind == MVPN_PROXY_SOCKS) {
        read_socks(r);
    } else {
        read_http(r);
    }
}

void mvpn_proxy_request_answer(mvpn_proxy_request *r, enum mvpn_proxy_result result,
                               const mvpn_addr *bound)
{
    uint8_t out[MVPN_PROXY_UDP_HEADER_MAX] = {SOCKS_VERSION, (uint8_t)result, 0};
    if (r->kind == MVPN_PROXY_HTTP) {
        answer_http(r, result);
        return;
    }
    size_t n = ADDRESS_AT + write_address(out + ADDRESS_AT, bound);
    append(r, out, n);
    r->state = result == MVPN_PROXY_OK ? r->state : MVPN_PROXY_REFUSED;
}

int mvpn_proxy_udp_decode(const uint8_t *p, size_t n, mvpn_proxy_target *ret, size_t *ret_payload)
{
    mvpn_proxy_target target;
    bool is_unknown = false;
    /* Fragments are optional, and who does not put them together drops them. (RFC 1928 §7) */
    if (n < ADDRESS_AT || p[0] != 0 || p[1] != 0 || p[2] != 0) {
        return MVPN_E_FORMAT;
    }
    int len = read_address(p + ADDRESS_AT, n - ADDRESS_AT, &target, &is_unknown);
    if (len <= 0 || target.addr.port == 0) {
        return MVPN_E_FORMAT;
    }
    *ret = target;
    *ret_payload = ADDRESS_AT + (size_t)len;
    return 0;
}

size_t mvpn_proxy_udp_encode(uint8_t out[static MVPN_PROXY_UDP_HEADER_MAX], const mvpn_addr *from)
{
    memset(out, 0, ADDRESS_AT);
    return ADDRESS_AT + write_address(out + ADDRESS_AT, from);
}
