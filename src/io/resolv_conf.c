#include "io/resolv_conf.h"

#include <stdio.h>
#include <string.h>

#define HEAD "# MeshVPN: names are asked through the tunnel "
#define HEAD_END                                                                                   \
    " as long as it is wanted.\n"                                                                  \
    "# What was here before stands in resolv.conf.meshvpn-backup and comes back at the end.\n"

const char *mvpn_dns_manager_text(enum mvpn_dns_manager manager)
{
    switch (manager) {
    case MVPN_DNS_NONE:
        break;
    case MVPN_DNS_AUTO:
        return "auto";
    case MVPN_DNS_RESOLVED:
        return "systemd-resolved";
    case MVPN_DNS_RESOLVCONF:
        return "resolvconf";
    case MVPN_DNS_FILE:
        return "file";
    }
    return "none";
}

/* ---- lines and words ---- */

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static bool next_line(mvpn_bytes *text, mvpn_bytes *ret)
{
    if (text->n == 0) {
        return false;
    }
    const uint8_t *end = memchr(text->p, '\n', text->n);
    size_t n = end != NULL ? (size_t)(end - text->p) : text->n;
    *ret = mvpn_bytes_of(text->p, n);
    n += end != NULL;
    *text = mvpn_bytes_of(text->p + n, text->n - n);
    return true;
}

static bool next_word(mvpn_bytes *line, mvpn_bytes *ret)
{
    size_t from = 0;
    while (from < line->n && is_blank(line->p[from])) {
        from++;
    }
    size_t to = from;
    while (to < line->n && !is_blank(line->p[to])) {
        to++;
    }
    *ret = mvpn_bytes_of(line->p + from, to - from);
    *line = mvpn_bytes_of(line->p + to, line->n - to);
    return to > from;
}

static bool is_word(mvpn_bytes word, const char *text)
{
    size_t n = strlen(text);
    return word.n == n && memcmp(word.p, text, n) == 0;
}

/* ---- what is in it ---- */

/* False for those of one link alone (fe80::1%eth0), and for what is none. */
static bool read_server(mvpn_bytes word, mvpn_addr *ret)
{
    char text[MVPN_ADDR_STRLEN];
    if (word.n >= sizeof(text)) {
        return false;
    }
    memcpy(text, word.p, word.n);
    text[word.n] = '\0';
    return mvpn_addr_parse(text, ret) == 0 && ret->port == 0;
}

unsigned mvpn_resolv_conf_servers(mvpn_bytes text, mvpn_addr ret[static MVPN_RESOLV_CONF_SERVERS])
{
    unsigned count = 0;
    mvpn_bytes line, word;
    while (count < MVPN_RESOLV_CONF_SERVERS && next_line(&text, &line)) {
        if (next_word(&line, &word) && is_word(word, "nameserver") && next_word(&line, &word) &&
            read_server(word, &ret[count])) {
            count++;
        }
    }
    return count;
}

bool mvpn_resolv_conf_asks(mvpn_bytes text, const mvpn_addr *servers, size_t count, bool first)
{
    mvpn_addr found[MVPN_RESOLV_CONF_SERVERS];
    unsigned n = mvpn_resolv_conf_servers(text, found);
    for (unsigned i = 0; i < n && (i == 0 || !first); i++) {
        for (size_t k = 0; k < count; k++) {
            if (mvpn_addr_ip_eq(&found[i], &servers[k])) {
                return true;
            }
        }
    }
    return false;
}

bool mvpn_resolv_conf_is_ours(mvpn_bytes text, char tun[static MVPN_RESOLV_CONF_TUN_MAX + 1])
{
    mvpn_bytes line, word;
    tun[0] = '\0';
    while (next_line(&text, &line)) {
        if (line.n >= strlen(HEAD) && memcmp(line.p, HEAD, strlen(HEAD)) == 0) {
            line = mvpn_bytes_of(line.p + strlen(HEAD), line.n - strlen(HEAD));
            if (next_word(&line, &word) && word.n <= MVPN_RESOLV_CONF_TUN_MAX) {
                memcpy(tun, word.p, word.n);
                tun[word.n] = '\0';
            }
            return true;
        }
    }
    return false;
}

/* ---- ours ---- */

/*
 * How to ask, not whom, and not what to believe: trust-ad would take an exit's word that it has
 * verified signatures, no-reload would keep programs that start now from noticing the end.
 */
static bool is_kept(mvpn_bytes option)
{
    static const char *const words[] = {"rotate",       "single-request",        "no-aaaa",
                                        "no-tld-query", "single-request-reopen", "use-vc"};
    static const char *const numbers[] = {"timeout:", "attempts:"};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(words); i++) {
        if (is_word(option, words[i])) {
            return true;
        }
    }
    for (size_t i = 0; i < MVPN_ARRAY_LEN(numbers); i++) {
        size_t n = strlen(numbers[i]);
        if (option.n > n && option.n <= n + 2 && memcmp(option.p, numbers[i], n) == 0 &&
            option.p[n] >= '0' && option.p[n] <= '9' && option.p[option.n - 1] >= '0' &&
            option.p[option.n - 1] <= '9') {
            return true;
        }
    }
    return false;
}

/*
 * At most 16 of them: there are not more. And EDNS, as it makes room for answers that would be
 * asked for again by TCP, which takes longer, and is closed where domains alone go inside.
 */
static size_t write_options(mvpn_bytes former, char *out, size_t size)
{
    size_t at = (size_t)snprintf(out, size, "options edns0");
    unsigned count = 1;
    mvpn_bytes line, word;
    while (next_line(&former, &line)) {
        if (!next_word(&line, &word) || !is_word(word, "options")) {
            continue;
        }
        while (count < 16 && next_word(&line, &word)) {
            if (is_kept(word)) {
                at += (size_t)snprintf(out + at, size - at, " %.*s", (int)word.n,
                                       (const char *)word.p);
                count++;
            }
        }
    }
    return at + (size_t)snprintf(out + at, size - at, "\n");
}

size_t mvpn_resolv_conf_write(mvpn_bytes former, const char *tun, const mvpn_addr *servers,
                              size_t count, char out[static MVPN_RESOLV_CONF_OWN_MAX])
{
    const size_t size = MVPN_RESOLV_CONF_OWN_MAX;
    size_t at = (size_t)snprintf(out, size, HEAD "%.*s" HEAD_END, MVPN_RESOLV_CONF_TUN_MAX, tun);
    for (size_t i = 0; i < MVPN_MIN(count, (size_t)MVPN_RESOLV_CONF_SERVERS); i++) {
        char text[MVPN_ADDR_STRLEN];
        at += (size_t)snprintf(out + at, size - at, "nameserver %s\n",
                               mvpn_addr_format(&servers[i], text));
    }
    /* Without a line the C library would try the domain of this host's own name, which tells the
     * exit whose network this is. */
    at += (size_t)snprintf(out + at, size - at, "search .\n");
    return at + write_options(former, out + at, size - at);
}

/* ---- whose it is ---- */

static bool has_text(mvpn_bytes text, const char *wanted)
{
    return text.n > 0 && memmem(text.p, text.n, wanted, strlen(wanted)) != NULL;
}

bool mvpn_resolv_conf_is_stub(mvpn_bytes text)
{
    static const mvpn_addr stubs[] = {{.family = 4, .ip = {127, 0, 0, 53}},
                                      {.family = 4, .ip = {127, 0, 0, 54}}};
    return mvpn_resolv_conf_asks(text, stubs, MVPN_ARRAY_LEN(stubs), true);
}

/*
 * Resolved: the file leads to its stub. Where it names the servers of all links instead, programs
 * would ask those of the local network first. Resolvconf: it is the one that wrote the file; a
 * program that is only installed would change something else.
 */
enum mvpn_dns_manager mvpn_dns_choose(const mvpn_dns_facts *facts)
{
    if (facts->has_resolved && mvpn_resolv_conf_is_stub(facts->text)) {
        return MVPN_DNS_RESOLVED;
    }
    bool is_of_resolvconf = strncmp(facts->path, "/run/resolvconf/", 16) == 0 ||
                            strncmp(facts->path, "/etc/resolvconf/", 16) == 0 ||
                            has_text(facts->text, "# Generated by resolvconf") ||
                            has_text(facts->text, "generated by resolvconf(8)");
    return facts->has_resolvconf && is_of_resolvconf ? MVPN_DNS_RESOLVCONF : MVPN_DNS_FILE;
}
