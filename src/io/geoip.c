#include "io/geoip.h"

#include <arpa/inet.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "io/file.h"

/* The IPv6 table of 2026 has 19 MB. */
#define FILE_MAX (128u << 20)
#define LINE_MAX_LEN 128

/*
 * Where ranges begin, ascending, and the country from there to the next; 0 where nothing is known.
 * IPv6 by the first eight bytes: no table tells parts of a /64 apart.
 */
typedef struct table {
    uint64_t *first;
    uint16_t *country;
    size_t count, size;
} table;

struct mvpn_geoip {
    table v4, v6;
};

static void table_clear(table *t)
{
    free(t->first);
    free(t->country);
    *t = (table){.count = 0};
}

int mvpn_geoip_new(mvpn_geoip **ret)
{
    mvpn_geoip *g = calloc(1, sizeof(*g));
    if (g == NULL) {
        return MVPN_E_NOMEM;
    }
    *ret = g;
    return 0;
}

void mvpn_geoip_free(mvpn_geoip *geoip)
{
    if (geoip != NULL) {
        table_clear(&geoip->v4);
        table_clear(&geoip->v6);
        free(geoip);
    }
}

size_t mvpn_geoip_count(const mvpn_geoip *geoip)
{
    return geoip->v4.count + geoip->v6.count;
}

static int table_grow(table *t)
{
    size_t size = t->size == 0 ? 4096 : t->size * 2;
    if (t->count < t->size) {
        return 0;
    }
    uint64_t *first = realloc(t->first, size * sizeof(*first));
    if (first == NULL) {
        return MVPN_E_NOMEM;
    }
    t->first = first;
    uint16_t *country = realloc(t->country, size * sizeof(*country));
    if (country == NULL) {
        return MVPN_E_NOMEM;
    }
    t->country = country;
    t->size = size;
    return 0;
}

/* From `first` on it is `country`; what is said already of `first` is said anew. */
static int table_mark(table *t, uint64_t first, uint16_t country)
{
    if (t->count > 0 && t->first[t->count - 1] == first) {
        t->count--;
    }
    if ((t->count > 0 ? t->country[t->count - 1] : 0) == country) {
        return 0; /* goes on as before */
    }
    if (t->count >= MVPN_GEOIP_RANGES_MAX || table_grow(t) != 0) {
        return MVPN_E_NOMEM;
    }
    t->first[t->count] = first;
    t->country[t->count++] = country;
    return 0;
}

static bool read_number(const char *text, uint64_t *ret)
{
    uint64_t n = 0;
    size_t i = 0;
    for (; text[i] >= '0' && text[i] <= '9' && n <= UINT32_MAX; i++) {
        n = n * 10 + (uint64_t)(text[i] - '0');
    }
    *ret = n;
    return i > 0 && text[i] == '\0' && n <= UINT32_MAX;
}

/* An address as a number: 32 bits, or the upper half of an IPv6 address. */
static bool read_address(uint8_t family, const char *text, uint64_t *ret)
{
    uint8_t ip[16];
    if (family == 4) {
        return read_number(text, ret);
    }
    if (inet_pton(AF_INET6, text, ip) != 1) {
        return false;
    }
    *ret = mvpn_load64(ip);
    return true;
}

/* "CH" as a number; 0 for what is no country: ??, regions, and codes of proxies (A1). */
static bool read_country(const char *text, uint16_t *ret)
{
    if (text[0] == '\0' || text[1] == '\0' || text[2] != '\0') {
        return false;
    }
    bool is_country = text[0] >= 'A' && text[0] <= 'Z' && text[1] >= 'A' && text[1] <= 'Z' &&
                      strcmp(text, "EU") != 0 && strcmp(text, "AP") != 0;
    *ret = is_country ? (uint16_t)((unsigned)text[0] << 8 | (unsigned char)text[1]) : 0;
    return true;
}

/* One line: "FIRST,LAST,CC". `*next`: the first number that a range may begin with. */
static int read_line(table *t, uint8_t family, char *line, uint64_t *next)
{
    uint64_t first, last;
    uint16_t country;
    char *comma = strchr(line, ',');
    char *second = comma == NULL ? NULL : strchr(comma + 1, ',');
    if (second == NULL) {
        return MVPN_E_FORMAT;
    }
    *comma = *second = '\0';
    if (!read_address(family, line, &first) || !read_address(family, comma + 1, &last) ||
        !read_country(second + 1, &country)) {
        return MVPN_E_FORMAT;
    }
    /* Ranges of one /64 follow each other in the table of IPv6: the first of them counts. */
    if (last == UINT64_MAX) {
        return MVPN_E_FORMAT; /* no address of the internet */
    }
    first = family == 6 && *next != 0 && first == *next - 1 ? *next : first;
    if (family == 6 && first == last + 1) {
        return 0;
    }
    if (first > last || first < *next) {
        return MVPN_E_FORMAT;
    }
    *next = last + 1;
    int r = table_mark(t, first, country);
    return r != 0 ? r : table_mark(t, last + 1, 0);
}

int mvpn_geoip_parse(mvpn_geoip *geoip, uint8_t family, const char *name, mvpn_bytes text,
                     mvpn_fault *fault)
{
    table *t = family == 4 ? &geoip->v4 : &geoip->v6;
    uint64_t next = 0;
    unsigned number = 0;
    table_clear(t);
    for (size_t at = 0; at < text.n;) {
        const uint8_t *end = memchr(text.p + at, '\n', text.n - at);
        size_t len = end == NULL ? text.n - at : (size_t)(end - (text.p + at));
        char line[LINE_MAX_LEN];
        int r = MVPN_E_FORMAT;
        number++;
        if (len == 0 || text.p[at] == '#') {
            r = 0;
        } else if (len < sizeof(line) && memchr(text.p + at, '\0', len) == NULL) {
            memcpy(line, text.p + at, len);
            line[len] = '\0';
            r = read_line(t, family, line, &next);
        }
        if (r != 0) {
            table_clear(t);
            return mvpn_fault_set(fault, r, "%s:%u: %s", name, number,
                                  r == MVPN_E_NOMEM
                                      ? "too many ranges for the memory"
                                      : "no range FIRST,LAST,COUNTRY after those before. "
                                        "Install tor-geoipdb anew");
        }
        at += len + 1;
    }
    return 0;
}

static int load_file(mvpn_geoip *geoip, uint8_t family, const char *path, mvpn_fault *fault)
{
    uint8_t *content = NULL;
    size_t size = 0;
    int r = mvpn_file_read(path, FILE_MAX, false, &content, &size, fault);
    if (r == MVPN_E_UNKNOWN) {
        return 0;
    }
    if (r == 0) {
        r = mvpn_geoip_parse(geoip, family, path, (mvpn_bytes){content, size}, fault);
        mvpn_file_free(content, size);
    }
    return r;
}

int mvpn_geoip_load(const char *dir, mvpn_geoip **ret, mvpn_fault *fault)
{
    char path[PATH_MAX];
    mvpn_geoip *g = NULL;
    int r = mvpn_geoip_new(&g);
    const struct {
        uint8_t family;
        const char *name;
    } files[] = {{4, "geoip"}, {6, "geoip6"}};
    for (size_t i = 0; i < MVPN_ARRAY_LEN(files) && r == 0; i++) {
        int n = snprintf(path, sizeof(path), "%s/%s", dir, files[i].name);
        r = n < 0 || (size_t)n >= sizeof(path)
                ? mvpn_fault_set(fault, MVPN_E_CONFIG, "%s: too long a path", dir)
                : load_file(g, files[i].family, path, fault);
    }
    if (r != 0) {
        mvpn_geoip_free(g);
        return r;
    }
    *ret = g;
    return 0;
}

/* The last entry that begins at or before `key`. */
static uint16_t table_find(const table *t, uint64_t key)
{
    size_t low = 0, high = t->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (t->first[middle] <= key) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low == 0 ? 0 : t->country[low - 1];
}

bool mvpn_geoip_country(const void *geoip, const mvpn_addr *addr, char ret_country[3])
{
    const mvpn_geoip *g = geoip;
    uint16_t country = addr->family == 4   ? table_find(&g->v4, mvpn_load32(addr->ip))
                       : addr->family == 6 ? table_find(&g->v6, mvpn_load64(addr->ip))
                                           : 0;
    if (country == 0) {
        return false;
    }
    ret_country[0] = (char)(country >> 8);
    ret_country[1] = (char)(country & 0xff);
    ret_country[2] = '\0';
    return true;
}
