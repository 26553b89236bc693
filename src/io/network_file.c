#include "io/network_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "core/path.h"
#include "io/file.h"
#include "io/keyfile.h"
#include "io/settings.h"

struct loading {
    mvpn_network_file *file;
    bool has_mode;
    bool has_key;
    bool has_secret;
    /* Verified when all keys are known. */
    unsigned relay_lines[MVPN_NETWORK_RELAYS_MAX];
    unsigned entry_lines[MVPN_NETWORK_ENTRIES_MAX];
    uint8_t revocations[MVPN_REVOCATIONS_LEN_MAX];
    size_t revocations_len; /* 0 = none */
    unsigned revocations_line;
};

static int decode_key(const char *text, uint8_t out[static 32], mvpn_fault *why)
{
    size_t n = 0;
    if (mvpn_base64_decode(text, out, 32, &n) != 0 || n != 32) {
        return mvpn_fault_set(
            why, MVPN_E_CONFIG,
            "not a key: 44 characters of base64 are expected. Copy the line again "
            "from the network file you were given");
    }
    return 0;
}

static int set_name(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    struct loading *l = target;
    size_t len = strlen(v->text);
    if (len == 0 || len > MVPN_NETWORK_NAME_MAX || strpbrk(v->text, "\"\\$\n\r") != NULL) {
        return mvpn_fault_set(why, MVPN_E_CONFIG,
                              "must be 1 to %d characters without \" \\ $ and line ends",
                              MVPN_NETWORK_NAME_MAX);
    }
    memcpy(l->file->name, v->text, len + 1);
    return 0;
}

static int set_mode(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    struct loading *l = target;
    bool is_closed = strcmp(v->text, "closed") == 0;
    if (!is_closed && strcmp(v->text, "open") != 0) {
        return mvpn_fault_set(why, MVPN_E_CONFIG, "'%.40s' is no mode. Write closed or open",
                              v->text);
    }
    l->file->is_closed = is_closed;
    l->has_mode = true;
    return 0;
}

static int set_network_key(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    struct loading *l = target;
    l->has_key = true;
    return decode_key(v->text, l->file->network_pub.b, why);
}

static int set_network_secret(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    struct loading *l = target;
    l->has_secret = true;
    return decode_key(v->text, l->file->network_secret.b, why);
}

static int set_allow_private(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    (void)why;
    ((struct loading *)target)->file->allow_private = v->flag;
    return 0;
}

static const struct {
    const char *name;
    unsigned bit;
} relaxations[] = {
    {"same-16", MVPN_RELAX_BLOCK},
    {"same-provider", MVPN_RELAX_PROVIDER},
    {"same-family", MVPN_RELAX_FAMILY},
};

static int set_relax(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    for (size_t i = 0; i < MVPN_ARRAY_LEN(relaxations); i++) {
        if (strcmp(v->text, relaxations[i].name) == 0) {
            ((struct loading *)target)->file->relax |= relaxations[i].bit;
            return 0;
        }
    }
    return mvpn_fault_set(why, MVPN_E_CONFIG,
                          "'%.40s' is no rule. Write same-16, same-provider or same-family",
                          v->text);
}

static int set_anchor(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    mvpn_network_file *f = ((struct loading *)target)->file;
    if (f->anchor_count == MVPN_NETWORK_ANCHORS_MAX) {
        return mvpn_fault_set(why, MVPN_E_CONFIG, "at most %d are possible",
                              MVPN_NETWORK_ANCHORS_MAX);
    }
    return decode_key(v->text, f->anchors[f->anchor_count++].b, why);
}

static int set_entry(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    struct loading *l = target;
    mvpn_network_file *f = l->file;
    uint8_t bytes[MVPN_DHT_CONTACT6_LEN];
    size_t n = 0;
    if (f->entry_count == MVPN_NETWORK_ENTRIES_MAX) {
        return mvpn_fault_set(why, MVPN_E_CONFIG, "more than %d entries", MVPN_NETWORK_ENTRIES_MAX);
    }
    int rc = mvpn_base64_decode(v->text, bytes, sizeof(bytes), &n);
    if (rc == 0) {
        rc = mvpn_dht_contact_decode(&f->entries[f->entry_count], mvpn_bytes_of(bytes, n));
    }
    if (rc != 0) {
        return mvpn_fault_set(why, MVPN_E_CONFIG,
                              rc == MVPN_E_POLICY
                                  ? "entry %zu was altered: its id is not of its address. Copy the "
                                    "entry again, or remove it"
                                  : "entry %zu is not an entry. Copy it again, or remove it",
                              f->entry_count + 1);
    }
    l->entry_lines[f->entry_count++] = v->line;
    return 0;
}

bool mvpn_network_url_is_valid(const char *url)
{
    size_t len = strlen(url);
    const char *host = strncmp(url, "https://", 8) == 0  ? url + 8
                       : strncmp(url, "http://", 7) == 0 ? url + 7
                                                         : "";
    if (len > MVPN_NETWORK_URL_MAX || host[0] == '\0' || host[0] == '/') {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        if (url[i] <= ' ' || url[i] > '~' || strchr("\"\\$'`", url[i]) != NULL) {
            return false;
        }
    }
    return true;
}

static int set_discovery(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    mvpn_network_file *f = ((struct loading *)target)->file;
    size_t len = strlen(v->text);
    if (f->discovery_count == MVPN_NETWORK_DISCOVERY_MAX) {
        return mvpn_fault_set(why, MVPN_E_CONFIG, "at most %d are possible",
                              MVPN_NETWORK_DISCOVERY_MAX);
    }
    if (!mvpn_network_url_is_valid(v->text)) {
        return mvpn_fault_set(why, MVPN_E_CONFIG,
                              "'%.60s' is no URL. Write it as https://meshvpn.example.org",
                              v->text);
    }
    while (v->text[len - 1] == '/') {
        len--;
    }
    memcpy(f->discovery[f->discovery_count++], v->text, len);
    return 0;
}

bool mvpn_network_dns_is_valid(const char *name)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
    if (strlen(name) > MVPN_NETWORK_DNS_MAX) {
        return false;
    }
    for (;;) {
        size_t label = strspn(name, allowed);
        if (label == 0 || label > 63 || (name[label] != '.' && name[label] != '\0')) {
            return false;
        }
        if (name[label] == '\0') {
            return true;
        }
        name += label + 1;
    }
}

static int set_dns(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    mvpn_network_file *f = ((struct loading *)target)->file;
    if (!mvpn_network_dns_is_valid(v->text)) {
        return mvpn_fault_set(why, MVPN_E_CONFIG,
                              "'%.60s' is no name of DNS. Write it as entries.example.org",
                              v->text);
    }
    memcpy(f->dns, v->text, strlen(v->text) + 1);
    return 0;
}

static int set_lan_discovery(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    (void)why;
    ((struct loading *)target)->file->lan_discovery = v->flag;
    return 0;
}

static int set_revocations(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    struct loading *l = target;
    l->revocations_line = v->line;
    if (mvpn_base64_decode(v->text, l->revocations, sizeof(l->revocations), &l->revocations_len) !=
            0 ||
        l->revocations_len == 0) {
        return mvpn_fault_set(
            why, MVPN_E_CONFIG,
            "not a revocation list. Copy the line again from the network file you "
            "were given, or remove it: running nodes have it");
    }
    return 0;
}

static int grow(mvpn_network_file *f)
{
    /* In steps of 32: a small network's file costs 70 KB. */
    if (f->relay_count % 32 == 0) {
        mvpn_descriptor *relays = reallocarray(f->relays, f->relay_count + 32, sizeof(*f->relays));
        if (relays == NULL) {
            return MVPN_E_NOMEM;
        }
        f->relays = relays;
    }
    return 0;
}

static int set_relay(void *target, const mvpn_setting_value *v, mvpn_fault *why)
{
    struct loading *l = target;
    mvpn_network_file *f = l->file;
    uint8_t bytes[MVPN_DESCRIPTOR_MAX];
    size_t n = 0, number = f->relay_count + 1;
    if (f->relay_count == MVPN_NETWORK_RELAYS_MAX) {
        return mvpn_fault_set(why, MVPN_E_CONFIG, "more than %d relays", MVPN_NETWORK_RELAYS_MAX);
    }
    if (grow(f) != 0) {
        return mvpn_fault_set(why, MVPN_E_NOMEM, "no memory");
    }
    if (mvpn_base64_decode(v->text, bytes, sizeof(bytes), &n) != 0 ||
        mvpn_descriptor_decode(&f->relays[f->relay_count], mvpn_bytes_of(bytes, n)) != 0) {
        return mvpn_fault_set(why, MVPN_E_CONFIG,
                              "relay %zu is not a descriptor. Copy the entry again, or remove it",
                              number);
    }
    l->relay_lines[f->relay_count++] = v->line;
    return 0;
}

static const mvpn_setting settings[] = {
    {"name", MVPN_SETTING_TEXT, 1, set_name, "", "Name of the network, for people."},
    {"mode", MVPN_SETTING_TEXT, 1, set_mode, "", "closed or open."},
    {"network_key", MVPN_SETTING_TEXT, 1, set_network_key, "", "The network's public key."},
    {"network_secret", MVPN_SETTING_TEXT, 1, set_network_secret, "", "Secret of its members."},
    {"allow_private", MVPN_SETTING_BOOL, 1, set_allow_private, "false",
     "Relays may have private addresses."},
    {"relax", MVPN_SETTING_LIST, 1, set_relax, "{}", "Path rules that do not hold here."},
    {"anchors", MVPN_SETTING_LIST, 1, set_anchor, "{}",
     "Identities that an open network vouches for."},
    {"entries", MVPN_SETTING_LIST, 1, set_entry, "{}", "Bootstrap nodes to begin with."},
    {"discovery", MVPN_SETTING_LIST, 1, set_discovery, "{}", "URLs of discovery nodes."},
    {"dns", MVPN_SETTING_TEXT, 1, set_dns, "none", "Name whose TXT records name entries."},
    {"lan_discovery", MVPN_SETTING_BOOL, 1, set_lan_discovery, "false",
     "Ask the local network for entries too; shows it that somebody runs MeshVPN."},
    {"revocations", MVPN_SETTING_TEXT, 1, set_revocations, "none",
     "Signed list of revoked memberships."},
    {"relays", MVPN_SETTING_LIST, 1, set_relay, "{}", "Descriptors of the relays."},
};

static const char *const kinds[] = {"network"};

static const char *who(const mvpn_descriptor *d)
{
    return d->name[0] != '\0' ? d->name : "without a name";
}

static int relay_fault(const char *path, const struct loading *l, size_t i, const char *what,
                       mvpn_fault *fault)
{
    return mvpn_fault_set(fault, MVPN_E_CONFIG, "%s:%u: relays: relay %zu (%s) %s", path,
                          l->relay_lines[i], i + 1, who(&l->file->relays[i]), what);
}

static const char *verify_text(int code)
{
    switch (code) {
    case MVPN_E_POLICY:
        return "claims more than its membership certificate allows, or has none. Only relays made "
               "with this network's key belong here: remove the entry";
    case MVPN_E_AUTH:
        return "has a wrong signature: it was altered or is of another network. Copy the entry "
               "again, or remove it";
    default:
        return "holds a damaged certificate. Copy the entry again, or remove it";
    }
}

static bool has_identity_before(const mvpn_network_file *f, size_t count, size_t i)
{
    for (size_t j = 0; j < count; j++) {
        if (memcmp(f->relays[j].identity.b, f->relays[i].identity.b, 32) == 0) {
            return true;
        }
    }
    return false;
}

/* Verify all; those outside their time are moved out. */
static int verify_relays(const char *path, struct loading *l, uint64_t unix_now, mvpn_fault *fault)
{
    mvpn_network_file *f = l->file;
    size_t kept = 0;
    for (size_t i = 0; i < f->relay_count; i++) {
        const mvpn_descriptor *d = &f->relays[i];
        int rc =
            mvpn_descriptor_verify(d, &f->network_id, mvpn_network_file_closed_pub(f), unix_now);
        if (rc != 0 && rc != MVPN_E_EXPIRED) {
            return relay_fault(path, l, i, verify_text(rc), fault);
        }
        if (!f->allow_private && !mvpn_descriptor_is_public(d)) {
            return relay_fault(path, l, i,
                               "has a private address. Set allow_private = true if this network "
                               "lives in a private one",
                               fault);
        }
        if (has_identity_before(f, kept, i)) {
            return relay_fault(path, l, i, "is in the list already. Remove one of the two", fault);
        }
        if (rc == MVPN_E_EXPIRED) {
            if (f->expired_count++ == 0) {
                memcpy(f->expired_name, d->name, sizeof(d->name));
            }
            continue;
        }
        if (kept != i) {
            f->relays[kept] = *d;
        }
        kept++;
    }
    f->relay_count = kept;
    return 0;
}

static int verify_entries(const char *path, const struct loading *l, mvpn_fault *fault)
{
    const mvpn_network_file *f = l->file;
    char text[MVPN_ADDR_STRLEN];
    for (size_t i = 0; i < f->entry_count; i++) {
        if (!f->allow_private && !mvpn_addr_is_public(&f->entries[i].addr)) {
            return mvpn_fault_set(fault, MVPN_E_CONFIG,
                                  "%s:%u: entries: entry %zu (%s) has a private address. Set "
                                  "allow_private = true if this network lives in a private one",
                                  path, l->entry_lines[i], i + 1,
                                  mvpn_addr_format(&f->entries[i].addr, text));
        }
    }
    return 0;
}

static int verify_revocations(const char *path, struct loading *l, mvpn_fault *fault)
{
    mvpn_network_file *f = l->file;
    if (l->revocations_len == 0) {
        return 0;
    }
    int rc = f->is_closed
                 ? mvpn_revocations_decode(&f->revocations,
                                           mvpn_bytes_of(l->revocations, l->revocations_len),
                                           &f->network_id, &f->network_pub)
                 : MVPN_E_POLICY;
    if (rc == 0) {
        return 0;
    }
    return mvpn_fault_set(
        fault, MVPN_E_CONFIG, "%s:%u: revocations: %s", path, l->revocations_line,
        rc == MVPN_E_POLICY ? "an open network has no memberships to revoke. Remove the line"
        : rc == MVPN_E_AUTH ? "the list is not signed by this network's key. Copy the line again, "
                              "or remove it: running nodes have it"
                            : "not a revocation list. Copy the line again, or remove it: running "
                              "nodes have it");
}

static int check(const char *path, struct loading *l, uint64_t unix_now, mvpn_fault *fault)
{
    mvpn_network_file *f = l->file;
    if (!l->has_key) {
        return mvpn_fault_set(fault, MVPN_E_CONFIG,
                              "%s: network_key is missing. This is not a network file, or it was "
                              "cut: get it again",
                              path);
    }
    if (!l->has_mode) {
        return mvpn_fault_set(fault, MVPN_E_CONFIG,
                              "%s: mode is missing. Write mode = closed or mode = open", path);
    }
    if (f->is_closed != l->has_secret) {
        return mvpn_fault_set(fault, MVPN_E_CONFIG,
                              f->is_closed
                                  ? "%s: network_secret is missing; a closed network has one. Get "
                                    "the file again from who runs the network"
                                  : "%s: an open network has no network_secret. Remove the line, "
                                    "or write mode = closed",
                              path);
    }
    mvpn_network_id(&f->network_id, &f->network_pub);
    int rc = verify_entries(path, l, fault);
    if (rc == 0) {
        rc = verify_revocations(path, l, fault);
    }
    return rc == 0 ? verify_relays(path, l, unix_now, fault) : rc;
}

/* Whether others may read it matters only if there is a secret in it: known after parsing. */
static int check_secrecy(const char *path, mvpn_fault *fault)
{
    uint8_t *content = NULL;
    size_t size = 0;
    int rc = mvpn_file_read(path, MVPN_NETWORK_FILE_SIZE_MAX, true, &content, &size, fault);
    if (rc == 0) {
        mvpn_file_free(content, size);
    }
    return rc;
}

int mvpn_network_file_parse(const char *name, const char *text, size_t size, uint64_t unix_now,
                            mvpn_network_file *ret, mvpn_fault *fault)
{
    *ret = (mvpn_network_file){0};
    struct loading *l = calloc(1, sizeof(*l));
    if (l == NULL) {
        return mvpn_fault_set(fault, MVPN_E_NOMEM, "no memory to read %s", name);
    }
    l->file = ret;
    int rc = mvpn_settings_parse(name, text, size, settings, MVPN_ARRAY_LEN(settings), 1, kinds, l,
                                 fault);
    if (rc == 0) {
        rc = check(name, l, unix_now, fault);
    }
    free(l);
    if (rc != 0) {
        mvpn_network_file_done(ret);
    }
    return rc;
}

int mvpn_network_file_load(const char *path, uint64_t unix_now, mvpn_network_file *ret,
                           mvpn_fault *fault)
{
    uint8_t *content = NULL;
    size_t size = 0;
    *ret = (mvpn_network_file){0};
    int rc = mvpn_file_read(path, MVPN_NETWORK_FILE_SIZE_MAX, false, &content, &size, fault);
    if (rc == 0) {
        rc = mvpn_network_file_parse(path, (const char *)content, size, unix_now, ret, fault);
        mvpn_file_free(content, size);
    }
    if (rc == 0 && ret->is_closed) {
        rc = check_secrecy(path, fault);
        if (rc != 0) {
            mvpn_network_file_done(ret);
        }
    }
    return rc;
}

static void write_relays(FILE *out, const mvpn_network_file *f)
{
    char base64[MVPN_BASE64_LEN(MVPN_DESCRIPTOR_MAX)];
    (void)fprintf(out, "relays = {");
    for (size_t i = 0; i < f->relay_count; i++) {
        const mvpn_descriptor *d = &f->relays[i];
        (void)fprintf(
            out, "%s\n    # %s\n    \"%s\"", i > 0 ? "," : "", who(d),
            mvpn_base64_encode(base64, sizeof(base64), mvpn_bytes_of(d->encoded, d->encoded_len)));
    }
    (void)fprintf(out, "\n}\n");
}

static void write_relax(FILE *out, const mvpn_network_file *f)
{
    const char *separator = "";
    (void)fprintf(out, "relax = {");
    for (size_t i = 0; i < MVPN_ARRAY_LEN(relaxations); i++) {
        if ((f->relax & relaxations[i].bit) != 0) {
            (void)fprintf(out, "%s\"%s\"", separator, relaxations[i].name);
            separator = ", ";
        }
    }
    (void)fprintf(out, "}\n");
}

static void write_entries(FILE *out, const mvpn_network_file *f)
{
    uint8_t bytes[MVPN_DHT_CONTACT6_LEN];
    char base64[MVPN_BASE64_LEN(MVPN_DHT_CONTACT6_LEN)], text[MVPN_ADDR_STRLEN];
    (void)fprintf(out, "entries = {");
    for (size_t i = 0; i < f->entry_count; i++) {
        size_t n = mvpn_dht_contact_encode(bytes, sizeof(bytes), &f->entries[i]);
        (void)fprintf(out, "%s\n    # %s\n    \"%s\"", i > 0 ? "," : "",
                      mvpn_addr_format(&f->entries[i].addr, text),
                      mvpn_base64_encode(base64, sizeof(base64), mvpn_bytes_of(bytes, n)));
    }
    (void)fprintf(out, "\n}\n");
}

/* Where to begin, and who does not belong here any more. */
static void write_bootstrapping(FILE *out, const mvpn_network_file *f)
{
    char base64[MVPN_BASE64_LEN(MVPN_REVOCATIONS_LEN_MAX)];
    if (f->entry_count > 0) {
        write_entries(out, f);
    }
    for (size_t i = 0; i < f->discovery_count; i++) {
        (void)fprintf(out, "%s\"%s\"%s", i == 0 ? "discovery = {" : ", ", f->discovery[i],
                      i + 1 == f->discovery_count ? "}\n" : "");
    }
    if (f->dns[0] != '\0') {
        (void)fprintf(out, "dns = \"%s\"\n", f->dns);
    }
    if (f->lan_discovery) {
        (void)fprintf(out, "lan_discovery = true\n");
    }
    if (f->revocations.sequence != 0) {
        (void)fprintf(
            out, "revocations = \"%s\"\n",
            mvpn_base64_encode(base64, sizeof(base64),
                               mvpn_bytes_of(f->revocations.encoded, f->revocations.encoded_len)));
    }
}

static void write_all(FILE *out, const mvpn_network_file *f)
{
    char base64[MVPN_BASE64_LEN(32)];
    (void)fprintf(out, "# Network file of MeshVPN, written by meshvpn-bootstrap.\n");
    if (f->is_closed) {
        (void)fprintf(out, "# It holds the network's secret: give it to members only, and keep it "
                           "private (chmod 600).\n");
    }
    if (f->name[0] != '\0') {
        (void)fprintf(out, "name = \"%s\"\n", f->name);
    }
    (void)fprintf(out, "mode = %s\n", f->is_closed ? "closed" : "open");
    (void)fprintf(out, "network_key = \"%s\"\n",
                  mvpn_base64_encode(base64, sizeof(base64), MVPN_BYTES_ARRAY(f->network_pub.b)));
    if (f->is_closed) {
        (void)fprintf(
            out, "network_secret = \"%s\"\n",
            mvpn_base64_encode(base64, sizeof(base64), MVPN_BYTES_ARRAY(f->network_secret.b)));
        mvpn_wipe(base64, sizeof(base64));
    }
    if (f->allow_private) {
        (void)fprintf(out, "allow_private = true\n");
    }
    if (f->relax != 0) {
        write_relax(out, f);
    }
    for (size_t i = 0; i < f->anchor_count; i++) {
        (void)fprintf(out, "%s\"%s\"%s", i == 0 ? "anchors = {" : ", ",
                      mvpn_base64_encode(base64, sizeof(base64), MVPN_BYTES_ARRAY(f->anchors[i].b)),
                      i + 1 == f->anchor_count ? "}\n" : "");
    }
    write_bootstrapping(out, f);
    if (f->relay_count > 0) {
        write_relays(out, f);
    }
}

int mvpn_network_file_format(const mvpn_network_file *file, char **ret, size_t *ret_size)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (out == NULL) {
        return MVPN_E_NOMEM;
    }
    write_all(out, file);
    bool failed = ferror(out) != 0;
    if (fclose(out) != 0 || failed) {
        free(text);
        return MVPN_E_NOMEM;
    }
    *ret = text;
    *ret_size = size;
    return 0;
}

int mvpn_network_file_save(const char *path, const mvpn_network_file *file, mvpn_fault *fault)
{
    char *text = NULL;
    size_t size = 0;
    if (mvpn_network_file_format(file, &text, &size) != 0) {
        return mvpn_fault_set(fault, MVPN_E_NOMEM, "no memory to write %s", path);
    }
    int rc = mvpn_file_write(path, text, size, file->is_closed ? 0600 : 0644, fault);
    mvpn_wipe(text, size);
    free(text);
    return rc;
}

int mvpn_network_file_put(mvpn_network_file *file, const mvpn_descriptor *d)
{
    for (size_t i = 0; i < file->relay_count; i++) {
        if (memcmp(file->relays[i].identity.b, d->identity.b, sizeof(d->identity.b)) == 0) {
            file->relays[i] = *d;
            return 0;
        }
    }
    if (file->relay_count == MVPN_NETWORK_RELAYS_MAX) {
        return MVPN_E_LIMIT;
    }
    int rc = grow(file);
    if (rc == 0) {
        file->relays[file->relay_count++] = *d;
    }
    return rc;
}

int mvpn_network_file_put_entry(mvpn_network_file *file, const mvpn_dht_contact *entry)
{
    for (size_t i = 0; i < file->entry_count; i++) {
        if (mvpn_addr_eq(&file->entries[i].addr, &entry->addr)) {
            file->entries[i] = *entry;
            return 0;
        }
    }
    if (file->entry_count == MVPN_NETWORK_ENTRIES_MAX) {
        return MVPN_E_LIMIT;
    }
    file->entries[file->entry_count++] = *entry;
    return 0;
}

void mvpn_network_file_trust(const mvpn_network_file *file, mvpn_trust *ret)
{
    *ret = (mvpn_trust){.network_id = file->network_id,
                        .network_pub = file->network_pub,
                        .closed = file->is_closed,
                        .anchor_count = file->anchor_count,
                        .revocations = file->revocations};
    memcpy(ret->anchors, file->anchors, sizeof(ret->anchors));
}

const mvpn_descriptor *mvpn_network_file_find(const mvpn_network_file *file, const char *wanted)
{
    uint8_t identity[32];
    size_t n = 0;
    bool is_identity = mvpn_base64_decode(wanted, identity, sizeof(identity), &n) == 0 && n == 32;
    const mvpn_descriptor *found = NULL;
    for (size_t i = 0; i < file->relay_count; i++) {
        const mvpn_descriptor *d = &file->relays[i];
        if (is_identity ? memcmp(d->identity.b, identity, 32) == 0 : strcmp(d->name, wanted) == 0) {
            if (found != NULL) {
                return NULL;
            }
            found = d;
        }
    }
    return found;
}

void mvpn_network_file_done(mvpn_network_file *file)
{
    free(file->relays);
    mvpn_wipe(file, sizeof(*file));
}
