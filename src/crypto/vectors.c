#include "crypto/vectors.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

/* More than any one case asks for. */
#define OWNED_MAX 64

static void *owned[OWNED_MAX];
static size_t owned_count;

json_t *vectors_load(const char *name)
{
    char path[4096];
    json_error_t error;
    int n = snprintf(path, sizeof(path), "%s/%s", MVPN_VECTORS_DIR, name);
    assert_in_range(n, 1, (int)sizeof(path) - 1);
    json_t *root = json_load_file(path, 0, &error);
    if (root == NULL) {
        fail_msg("%s: %s", path, error.text);
    }
    return root;
}

static uint8_t *take(size_t n)
{
    assert_true(owned_count < OWNED_MAX);
    uint8_t *p = malloc(n > 0 ? n : 1);
    assert_non_null(p);
    owned[owned_count++] = p;
    return p;
}

void vectors_reset(void)
{
    while (owned_count > 0) {
        free(owned[--owned_count]);
    }
}

static uint8_t nibble(char c)
{
    if (c >= '0' && c <= '9') {
        return (uint8_t)(c - '0');
    }
    assert_true(c >= 'a' && c <= 'f');
    return (uint8_t)(c - 'a' + 10);
}

mvpn_bytes vectors_unhex(const char *hex)
{
    size_t n = strlen(hex);
    assert_int_equal(n % 2, 0);
    uint8_t *p = take(n / 2);
    for (size_t i = 0; i < n / 2; i++) {
        p[i] = (uint8_t)(nibble(hex[2 * i]) << 4 | nibble(hex[2 * i + 1]));
    }
    return mvpn_bytes_of(p, n / 2);
}

const char *vectors_string(const json_t *object, const char *member)
{
    const char *s = json_string_value(json_object_get(object, member));
    return s != NULL ? s : "";
}

mvpn_bytes vectors_hex(const json_t *object, const char *member)
{
    return vectors_unhex(vectors_string(object, member));
}

bool vectors_is(const json_t *object, const char *member, const char *value)
{
    return strcmp(vectors_string(object, member), value) == 0;
}

uint8_t *vectors_copy(mvpn_bytes b)
{
    uint8_t *p = take(b.n);
    if (b.n > 0) {
        memcpy(p, b.p, b.n);
    }
    return p;
}

bool vectors_equal(mvpn_bytes a, mvpn_bytes b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}
