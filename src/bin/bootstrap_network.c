/* The directory of a network: files, keys, and what was issued. */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "bin/bootstrap.h"
#include "crypto/x25519.h"
#include "io/file.h"

/* 60 bytes a line: twenty thousand certificates. */
#define ISSUED_SIZE_MAX (1u << 20)

path path_of(const char *fmt, ...)
{
    path p;
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(p.text, sizeof(p.text), fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= sizeof(p.text)) {
        (void)fputs("meshvpn-bootstrap: the path is too long\n", stderr);
        exit(EXIT_FAILURE);
    }
    return p;
}

bool path_exists(const char *file)
{
    struct stat st;
    return lstat(file, &st) == 0;
}

int write_text(const char *file, mode_t mode, mvpn_fault *fault, const char *fmt, ...)
{
    char *text = NULL;
    va_list ap;
    va_start(ap, fmt);
    int n = vasprintf(&text, fmt, ap);
    va_end(ap);
    if (n < 0) {
        return mvpn_fault_set(fault, MVPN_E_NOMEM, "no memory to write %s", file);
    }
    int rc = mvpn_file_write(file, text, (size_t)n, mode, fault);
    mvpn_wipe(text, (size_t)n);
    free(text);
    return rc;
}

/* --- the network --- */

void network_done(network *net)
{
    mvpn_network_file_done(&net->file);
    mvpn_wipe(net, sizeof(*net));
}

int network_open(const char *dir, network *ret, mvpn_fault *fault)
{
    uint8_t seed[32];
    size_t lines;
    *ret = (network){0};
    int rc = mvpn_keyfile_read(path_of("%s/keys/network.key", dir).text, MVPN_KEYFILE_NETWORK, true,
                               seed, sizeof(seed), 1, &lines, fault);
    if (rc == MVPN_E_UNKNOWN) {
        return mvpn_fault_set(fault, rc,
                              "%s holds no network (keys/network.key is missing). Make one with "
                              "meshvpn-bootstrap init %s",
                              dir, dir);
    }
    if (rc != 0) {
        return rc;
    }
    mvpn_ed25519_from_seed(&ret->pub, &ret->secret_key, seed);
    mvpn_wipe(seed, sizeof(seed));
    /* Time 0: expired nodes stay in the file, so that they can be renewed. */
    rc = mvpn_network_file_load(path_of("%s/network.conf", dir).text, 0, &ret->file, fault);
    if (rc == 0 && memcmp(ret->file.network_pub.b, ret->pub.b, sizeof(ret->pub.b)) != 0) {
        rc = mvpn_fault_set(fault, MVPN_E_CONFIG,
                            "%s/network.conf is not of the network whose key is in %s/keys", dir,
                            dir);
    }
    if (rc != 0) {
        network_done(ret);
    }
    return rc;
}

int network_publish(const char *dir, const network *net, mvpn_fault *fault)
{
    path nodes = path_of("%s/nodes", dir);
    int rc = mvpn_network_file_save(path_of("%s/network.conf", dir).text, &net->file, fault);
    DIR *list = rc == 0 ? opendir(nodes.text) : NULL;
    if (list == NULL) {
        return rc != 0
                   ? rc
                   : mvpn_fault_errno(fault, MVPN_E_SYSTEM, errno, "cannot read %s", nodes.text);
    }
    for (const struct dirent *e = readdir(list); rc == 0 && e != NULL; e = readdir(list)) {
        path link_cert = path_of("%s/%s/link.cert", nodes.text, e->d_name);
        if (e->d_name[0] != '.' && path_exists(link_cert.text)) {
            rc = mvpn_network_file_save(path_of("%s/%s/network.conf", nodes.text, e->d_name).text,
                                        &net->file, fault);
        }
    }
    (void)closedir(list);
    return rc;
}

/* --- what was issued --- */

static bool parse_issued(const char *line, issued *ret)
{
    char text[MVPN_NAME_MAX + 1] = "";
    int end = 0;
    if (sscanf(line, "%" SCNu64 " %" SCNu64 " %24s%n", &ret->serial, &ret->not_after, text, &end) !=
            3 ||
        line[end] != '\0' || !mvpn_name_is_valid(text)) {
        return false;
    }
    memcpy(ret->node, text, sizeof(text));
    return true;
}

int issued_load(const char *dir, issued **ret, size_t *ret_count, mvpn_fault *fault)
{
    path file = path_of("%s/keys/issued", dir);
    uint8_t *content = NULL;
    size_t size = 0, lines = 0, count = 0;
    char *save = NULL;
    int rc = mvpn_file_read(file.text, ISSUED_SIZE_MAX, false, &content, &size, fault);
    if (rc != 0 && rc != MVPN_E_UNKNOWN) {
        return rc;
    }
    for (size_t i = 0; i < size; i++) {
        lines += content[i] == '\n';
    }
    issued *list = calloc(lines + 1, sizeof(*list));
    if (list == NULL) {
        mvpn_file_free(content, size);
        return mvpn_fault_set(fault, MVPN_E_NOMEM, "no memory to read %s", file.text);
    }
    rc = 0;
    for (const char *line = content != NULL ? strtok_r((char *)content, "\n", &save) : NULL;
         rc == 0 && line != NULL; line = strtok_r(NULL, "\n", &save)) {
        if (!parse_issued(line, &list[count++])) {
            rc = mvpn_fault_set(fault, MVPN_E_CONFIG,
                                "%s: line %zu is not \"SERIAL EXPIRY NODE\". Bring the file back "
                                "from a backup",
                                file.text, count);
        }
    }
    mvpn_file_free(content, size);
    if (rc != 0) {
        free(list);
        return rc;
    }
    *ret = list;
    *ret_count = count;
    return 0;
}

int issued_add(const char *dir, const issued *certificate, mvpn_fault *fault)
{
    issued *list = NULL;
    size_t count = 0, size = 0;
    char *text = NULL;
    int rc = issued_load(dir, &list, &count, fault);
    if (rc != 0) {
        return rc;
    }
    FILE *out = open_memstream(&text, &size);
    for (size_t i = 0; out != NULL && i <= count; i++) {
        const issued *c = i < count ? &list[i] : certificate;
        (void)fprintf(out, "%" PRIu64 " %" PRIu64 " %s\n", c->serial, c->not_after, c->node);
    }
    free(list);
    if (out == NULL || fclose(out) != 0) {
        free(text);
        return mvpn_fault_set(fault, MVPN_E_NOMEM, "no memory to write %s/keys/issued", dir);
    }
    rc = mvpn_file_write(path_of("%s/keys/issued", dir).text, text, size, 0600, fault);
    free(text);
    return rc;
}
