/*
 * Test helper: JSON vector files below tests/vectors, and hexadecimal.
 */
#ifndef MVPN_CRYPTO_VECTORS_H
#define MVPN_CRYPTO_VECTORS_H

#include <jansson.h>
#include <stdbool.h>

#include "base/bytes.h"

/** The parsed file, e.g. "blake3/test_vectors.json"; fails the test if it cannot be read. */
json_t *vectors_load(const char *name);

/** Bytes of hex text, on the heap at their exact size (so that ASan sees over-reads). */
mvpn_bytes vectors_unhex(const char *hex);
/** The same of a member; empty if it is missing. */
mvpn_bytes vectors_hex(const json_t *object, const char *member);
const char *vectors_string(const json_t *object, const char *member);
bool vectors_is(const json_t *object, const char *member, const char *value);
/** A writable copy, on the heap at its exact size. */
uint8_t *vectors_copy(mvpn_bytes b);
/** Free what the functions above handed out (not the JSON). */
void vectors_reset(void);

bool vectors_equal(mvpn_bytes a, mvpn_bytes b);

/** Walk the tests of all groups of a Wycheproof file. */
#define VECTORS_FOREACH(root, group, test)                                                         \
    for (size_t g_ = 0; g_ < json_array_size(json_object_get((root), "testGroups")); g_++)         \
        for (json_t *group = json_array_get(json_object_get((root), "testGroups"), g_),            \
                    *tests_ = json_object_get(group, "tests");                                     \
             tests_ != NULL; tests_ = NULL)                                                        \
            for (size_t t_ = 0; t_ < json_array_size(tests_); t_++)                                \
                for (json_t *test = json_array_get(tests_, t_); test != NULL; test = NULL)

#endif
