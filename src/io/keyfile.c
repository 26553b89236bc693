#include "io/keyfile.h"

#include <errno.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/assert.h"
#include "base/error.h"
#include "crypto/x25519.h"
#include "io/file.h"

/* A key file is two lines at most; anything longer is another file. */
#define FILE_SIZE_MAX 1024
#define LINE_MAX_LEN (64 + MVPN_BASE64_LEN(MVPN_KEYFILE_VALUE_MAX))

char *mvpn_base64_encode(char *out, size_t size, mvpn_bytes in)
{
    return sodium_bin2base64(out, size, in.p, in.n, sodium_base64_VARIANT_ORIGINAL);
}

int mvpn_base64_decode(const char *text, uint8_t *out, size_t size, size_t *ret_n)
{
    size_t len = strlen(text), n = 0;
    const char *end = NULL;
    if (len / 4 * 3 > size + 2) {
        return MVPN_E_SPACE;
    }
    if (sodium_base642bin(out, size, text, len, NULL, &n, &end, sodium_base64_VARIANT_ORIGINAL) !=
            0 ||
        end != text + len) {
        return MVPN_E_FORMAT;
    }
    *ret_n = n;
    return 0;
}

/* One line "TYPE BASE64". */
static int parse_line(char *line, const char *type, uint8_t *out, size_t size)
{
    size_t type_len = strlen(type), n = 0;
    if (strncmp(line, type, type_len) != 0 || line[type_len] != ' ') {
        return MVPN_E_FORMAT;
    }
    int rc = mvpn_base64_decode(line + type_len + 1, out, size, &n);
    return rc != 0 || n != size ? MVPN_E_FORMAT : 0;
}

static int parse_lines(char *text, const char *type, uint8_t *out, size_t size, size_t line_max,
                       size_t *ret_lines)
{
    size_t lines = 0;
    for (char *at = text; *at != '\0';) {
        char *end = strchr(at, '\n');
        if (end == NULL || lines == line_max) {
            return MVPN_E_FORMAT;
        }
        *end = '\0';
        int rc = parse_line(at, type, out + lines * size, size);
        if (rc != 0) {
            return rc;
        }
        lines++;
        at = end + 1;
    }
    *ret_lines = lines;
    return lines > 0 ? 0 : MVPN_E_FORMAT;
}

int mvpn_keyfile_read(const char *path, const char *type, bool is_secret, uint8_t *out, size_t size,
                      size_t line_max, size_t *ret_lines, mvpn_fault *fault)
{
    uint8_t *content = NULL;
    size_t content_size = 0;
    int rc = mvpn_file_read(path, FILE_SIZE_MAX, is_secret, &content, &content_size, fault);
    if (rc != 0) {
        return rc;
    }
    if (parse_lines((char *)content, type, out, size, line_max, ret_lines) != 0) {
        mvpn_wipe(out, line_max * size);
        rc = mvpn_fault_set(fault, MVPN_E_CONFIG,
                            "%s is not a \"%s\" file or is damaged. Restore it from a backup, or "
                            "make the node anew with meshvpn-bootstrap add-node",
                            path, type);
    }
    mvpn_file_free(content, content_size);
    return rc;
}

int mvpn_keyfile_write(const char *path, const char *type, bool is_secret, const uint8_t *values,
                       size_t size, size_t lines, mvpn_fault *fault)
{
    char text[2 * LINE_MAX_LEN], base64[MVPN_BASE64_LEN(MVPN_KEYFILE_VALUE_MAX)];
    size_t used = 0;
    MVPN_ASSERT(size <= MVPN_KEYFILE_VALUE_MAX && lines <= 2);
    for (size_t i = 0; i < lines; i++) {
        (void)mvpn_base64_encode(base64, sizeof(base64), mvpn_bytes_of(values + i * size, size));
        int n = snprintf(text + used, sizeof(text) - used, "%s %s\n", type, base64);
        MVPN_ASSERT(n > 0 && (size_t)n < sizeof(text) - used);
        used += (size_t)n;
    }
    int rc = mvpn_file_write(path, text, used, is_secret ? 0600 : 0644, fault);
    mvpn_wipe(text, sizeof(text));
    mvpn_wipe(base64, sizeof(base64));
    return rc;
}

/* --- the keys of a node --- */

#define ONION_LINE (1 + 32)

static int path_in(char out[static PATH_MAX], const char *dir, const char *name, mvpn_fault *fault)
{
    int n = snprintf(out, PATH_MAX, "%s/%s", dir, name);
    return n > 0 && n < PATH_MAX
               ? 0
               : mvpn_fault_set(fault, MVPN_E_CONFIG, "%.200s: the path is too long", dir);
}

static int read_in(const char *dir, const char *name, const char *type, bool is_secret,
                   uint8_t *out, size_t size, size_t line_max, size_t *ret_lines, mvpn_fault *fault)
{
    char path[PATH_MAX];
    int rc = path_in(path, dir, name, fault);
    return rc != 0
               ? rc
               : mvpn_keyfile_read(path, type, is_secret, out, size, line_max, ret_lines, fault);
}

static int write_in(const char *dir, const char *name, const char *type, bool is_secret,
                    const uint8_t *values, size_t size, size_t lines, mvpn_fault *fault)
{
    char path[PATH_MAX];
    int rc = path_in(path, dir, name, fault);
    return rc != 0 ? rc : mvpn_keyfile_write(path, type, is_secret, values, size, lines, fault);
}

void mvpn_node_keys_generate(mvpn_node_keys *ret, mvpn_rng *rng)
{
    *ret = (mvpn_node_keys){0};
    mvpn_ed25519_generate(&ret->identity, &ret->identity_secret, rng);
    ret->has_identity_secret = true;
    mvpn_x25519_generate(&ret->link, rng);
    ret->onion_count = 1;
    ret->onion[0].id = 1;
    mvpn_x25519_generate(&ret->onion[0].pair, rng);
}

static int save_onion(const char *dir, const mvpn_node_keys *keys, mvpn_fault *fault)
{
    uint8_t onion[MVPN_DESCRIPTOR_ONION_KEYS_MAX * ONION_LINE];
    for (size_t i = 0; i < keys->onion_count; i++) {
        onion[i * ONION_LINE] = keys->onion[i].id;
        memcpy(onion + i * ONION_LINE + 1, keys->onion[i].pair.secret.b, 32);
    }
    int rc = write_in(dir, "onion.key", MVPN_KEYFILE_ONION, true, onion, ONION_LINE,
                      keys->onion_count, fault);
    mvpn_wipe(onion, sizeof(onion));
    return rc;
}

int mvpn_node_keys_rotate_onion(const char *dir, mvpn_node_keys *keys, uint64_t age_s,
                                uint64_t unix_now, mvpn_rng *rng, mvpn_fault *fault)
{
    char path[PATH_MAX];
    struct stat st;
    int n = snprintf(path, sizeof(path), "%s/onion.key", dir);
    if (n < 0 || (size_t)n >= sizeof(path) || stat(path, &st) != 0) {
        return mvpn_fault_set(fault, MVPN_E_SYSTEM, "cannot read the age of %s/onion.key: %s", dir,
                              strerror(errno));
    }
    if (unix_now < (uint64_t)st.st_mtime + age_s) {
        return MVPN_E_AGAIN;
    }
    mvpn_node_keys next = *keys;
    next.onion[1] = keys->onion[0];
    next.onion[0].id = (uint8_t)(keys->onion[0].id + 1);
    next.onion_count = 2;
    mvpn_x25519_generate(&next.onion[0].pair, rng);
    int rc = save_onion(dir, &next, fault);
    if (rc == 0) {
        *keys = next; /* only what is on disk is used: else a restart would not know it */
    }
    mvpn_node_keys_done(&next);
    return rc;
}

int mvpn_node_keys_save(const char *dir, const mvpn_node_keys *keys, mvpn_fault *fault)
{
    int rc = 0;
    if (keys->has_identity_secret) {
        /* libsodium's secret key begins with the seed. */
        rc = write_in(dir, "identity.key", MVPN_KEYFILE_IDENTITY, true, keys->identity_secret.b, 32,
                      1, fault);
    }
    if (rc == 0) {
        rc = write_in(dir, "link.key", MVPN_KEYFILE_LINK, true, keys->link.secret.b, 32, 1, fault);
    }
    if (rc == 0) {
        rc = save_onion(dir, keys, fault);
    }
    if (rc == 0) {
        rc = write_in(dir, "link.cert", MVPN_KEYFILE_LINK_CERTIFICATE, false,
                      keys->link_certificate, sizeof(keys->link_certificate), 1, fault);
    }
    if (rc == 0 && keys->has_membership) {
        rc = write_in(dir, "membership.cert", MVPN_KEYFILE_MEMBERSHIP, false, keys->membership,
                      sizeof(keys->membership), 1, fault);
    }
    return rc;
}

/* What a wrong certificate means and how to get a right one. */
static int certificate_fault(const char *dir, const char *name, int code, mvpn_fault *fault)
{
    if (code == MVPN_E_EXPIRED) {
        return mvpn_fault_set(fault, code,
                              "%s/%s is outside its time. Set the clock if it is wrong, else renew "
                              "the node with meshvpn-bootstrap renew",
                              dir, name);
    }
    return mvpn_fault_set(fault, MVPN_E_CONFIG,
                          "%s/%s is damaged or of another network. Copy the node's directory again "
                          "from where meshvpn-bootstrap made it",
                          dir, name);
}

static int load_identity(const char *dir, mvpn_node_keys *keys, mvpn_fault *fault)
{
    uint8_t seed[32];
    size_t lines;
    mvpn_ed25519_pub pub;
    int rc = read_in(dir, "identity.key", MVPN_KEYFILE_IDENTITY, true, seed, sizeof(seed), 1,
                     &lines, fault);
    if (rc == MVPN_E_UNKNOWN) {
        return 0; /* kept offline */
    }
    if (rc == 0) {
        mvpn_ed25519_from_seed(&pub, &keys->identity_secret, seed);
        keys->has_identity_secret = true;
        if (memcmp(pub.b, keys->identity.b, sizeof(pub.b)) != 0) {
            rc = mvpn_fault_set(fault, MVPN_E_CONFIG,
                                "%s/identity.key is not the identity that %s/link.cert names. Copy "
                                "the node's directory again as a whole",
                                dir, dir);
        }
    }
    mvpn_wipe(seed, sizeof(seed));
    return rc;
}

static int load_link(const char *dir, const mvpn_key *network_id, uint64_t unix_now,
                     mvpn_node_keys *keys, mvpn_fault *fault)
{
    mvpn_link_certificate cert;
    size_t lines;
    int rc = read_in(dir, "link.cert", MVPN_KEYFILE_LINK_CERTIFICATE, false, keys->link_certificate,
                     sizeof(keys->link_certificate), 1, &lines, fault);
    if (rc != 0) {
        return rc;
    }
    rc = mvpn_link_certificate_verify(MVPN_BYTES_ARRAY(keys->link_certificate), network_id,
                                      unix_now, &cert);
    if (rc != 0) {
        return certificate_fault(dir, "link.cert", rc, fault);
    }
    keys->identity = cert.identity;
    rc = read_in(dir, "link.key", MVPN_KEYFILE_LINK, true, keys->link.secret.b, 32, 1, &lines,
                 fault);
    if (rc != 0) {
        return rc;
    }
    mvpn_x25519_public(&keys->link.pub, &keys->link.secret);
    if (!mvpn_key_eq(&keys->link.pub, &cert.link_key)) {
        return mvpn_fault_set(fault, MVPN_E_CONFIG,
                              "%s/link.key is not the key that %s/link.cert certifies. Copy the "
                              "node's directory again as a whole",
                              dir, dir);
    }
    return 0;
}

static int load_onion(const char *dir, mvpn_node_keys *keys, mvpn_fault *fault)
{
    uint8_t onion[MVPN_DESCRIPTOR_ONION_KEYS_MAX * ONION_LINE];
    size_t lines = 0;
    int rc = read_in(dir, "onion.key", MVPN_KEYFILE_ONION, true, onion, ONION_LINE,
                     MVPN_DESCRIPTOR_ONION_KEYS_MAX, &lines, fault);
    if (rc != 0) {
        return rc;
    }
    keys->onion_count = (uint8_t)lines;
    for (size_t i = 0; i < lines; i++) {
        keys->onion[i].id = onion[i * ONION_LINE];
        memcpy(keys->onion[i].pair.secret.b, onion + i * ONION_LINE + 1, 32);
        mvpn_x25519_public(&keys->onion[i].pair.pub, &keys->onion[i].pair.secret);
    }
    mvpn_wipe(onion, sizeof(onion));
    if (lines == 2 && keys->onion[0].id == keys->onion[1].id) {
        return mvpn_fault_set(
            fault, MVPN_E_CONFIG,
            "%s/onion.key holds two keys with one id (%u). Remove the second line", dir,
            (unsigned)keys->onion[0].id);
    }
    return 0;
}

static int load_membership(const char *dir, const mvpn_key *network_id,
                           const mvpn_ed25519_pub *network_pub, uint64_t unix_now,
                           mvpn_node_keys *keys, mvpn_fault *fault)
{
    mvpn_membership m;
    size_t lines;
    int rc = read_in(dir, "membership.cert", MVPN_KEYFILE_MEMBERSHIP, false, keys->membership,
                     sizeof(keys->membership), 1, &lines, fault);
    if (rc != 0) {
        return rc;
    }
    rc = mvpn_membership_verify(MVPN_BYTES_ARRAY(keys->membership), network_id, network_pub,
                                unix_now, &m);
    if (rc != 0) {
        return certificate_fault(dir, "membership.cert", rc, fault);
    }
    if (memcmp(m.identity.b, keys->identity.b, sizeof(m.identity.b)) != 0) {
        return mvpn_fault_set(fault, MVPN_E_CONFIG,
                              "%s/membership.cert is of another node. Copy the node's directory "
                              "again as a whole",
                              dir);
    }
    keys->has_membership = true;
    return 0;
}

int mvpn_node_keys_load(const char *dir, const mvpn_key *network_id,
                        const mvpn_ed25519_pub *network_pub, uint64_t unix_now, mvpn_node_keys *ret,
                        mvpn_fault *fault)
{
    *ret = (mvpn_node_keys){0};
    int rc = load_link(dir, network_id, unix_now, ret, fault);
    if (rc == 0) {
        rc = load_identity(dir, ret, fault);
    }
    if (rc == 0) {
        rc = load_onion(dir, ret, fault);
    }
    if (rc == 0 && network_pub != NULL) {
        rc = load_membership(dir, network_id, network_pub, unix_now, ret, fault);
    }
    if (rc != 0) {
        mvpn_node_keys_done(ret);
    }
    return rc;
}

void mvpn_node_keys_done(mvpn_node_keys *keys)
{
    mvpn_wipe(keys, sizeof(*keys));
}
