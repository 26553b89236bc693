#include "bin/join.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "bin/beside.h"
#include "base/error.h"
#include "io/clock.h"
#include "io/config.h"
#include "io/file.h"
#include "io/network_file.h"
#include "wire/invitation.h"

#define JOIN_FAILED 1
#define JOIN_USAGE 2
/* Of a link with spaces or a line end around it. */
#define INPUT_MAX 512

static int fail(const mvpn_fault *fault)
{
    (void)fprintf(stderr, "meshvpn: %s\n", fault->text);
    return JOIN_FAILED;
}

/* --- the link --- */

/* Characters behind "meshvpn:": open and closed, IPv4 and IPv6. (§13.1) */
static bool is_whole(size_t len)
{
    return len == 131 || len == 147 || len == 174 || len == 190;
}

/* Why it is no link: what a person can do differs. */
static int format_fault(const char *text, mvpn_fault *fault)
{
    static const char prefix[] = "meshvpn:";
    text += strspn(text, " \t\r\n");
    if (strncmp(text, prefix, sizeof(prefix) - 1) != 0) {
        return mvpn_fault_set(fault, MVPN_E_FORMAT,
                              "this is no invitation: an invitation begins with meshvpn:");
    }
    size_t len = strcspn(text + sizeof(prefix) - 1, " \t\r\n");
    if (!is_whole(len)) {
        return mvpn_fault_set(fault, MVPN_E_FORMAT,
                              "the invitation is not whole: it was cut off or something was added "
                              "to it. Copy it again, from meshvpn: to its end");
    }
    return mvpn_fault_set(fault, MVPN_E_FORMAT,
                          "the invitation has a typing error. Copy it again instead of typing it, "
                          "or read its QR code");
}

static int parse_link(const char *text, mvpn_invitation *ret, mvpn_fault *fault)
{
    char date[32];
    struct tm tm;
    int rc = mvpn_invitation_parse(ret, text, mvpn_clock_unix());
    switch (rc) {
    case 0:
        return 0;
    case MVPN_E_UNKNOWN:
        return mvpn_fault_set(fault, rc,
                              "the invitation is of a newer version of MeshVPN. Update this one");
    case MVPN_E_POLICY:
        return mvpn_fault_set(fault, rc,
                              "the invitation was made wrong or altered: its entry node does not "
                              "belong to its address. Ask for a new one");
    case MVPN_E_EXPIRED: {
        time_t at = (time_t)ret->expires;
        (void)strftime(date, sizeof(date), "%Y-%m-%d %H:%M UTC", gmtime_r(&at, &tm));
        return mvpn_fault_set(fault, rc,
                              "the invitation expired on %s. Ask for a new one, or set this "
                              "computer's clock if it is wrong",
                              date);
    }
    default:
        return format_fault(text, fault);
    }
}

/* A link in an argument is seen by other users of the machine; "-" avoids that. */
static int read_link(const char *argument, char out[static INPUT_MAX], mvpn_fault *fault)
{
    if (strcmp(argument, "-") != 0) {
        (void)snprintf(out, INPUT_MAX, "%s", argument);
        return 0;
    }
    return fgets(out, INPUT_MAX, stdin) != NULL
               ? 0
               : mvpn_fault_set(fault, MVPN_E_FORMAT, "there is no invitation on standard input");
}

/* --- the files --- */

/* Whether what is there may be replaced. */
static int check_free(const char *path, const mvpn_invitation *inv, mvpn_fault *fault)
{
    mvpn_network_file f;
    mvpn_fault why;
    int rc = mvpn_network_file_load(path, 0, &f, &why);
    if (rc == MVPN_E_UNKNOWN) {
        return 0;
    }
    if (rc != 0) {
        return mvpn_fault_set(fault, rc, "%s. --force replaces the file", why.text);
    }
    bool is_same = memcmp(f.network_pub.b, inv->network_pub.b, sizeof(f.network_pub.b)) == 0;
    rc = mvpn_fault_set(fault, MVPN_E_POLICY,
                        is_same ? "this computer is a member of that network already (%s, network "
                                  "\"%s\"); nothing was changed. --force begins anew"
                                : "this computer is a member of another network already (%s, "
                                  "network \"%s\"); nothing was changed. --force replaces it, "
                                  "--config-dir DIR keeps both",
                        path, f.name);
    mvpn_network_file_done(&f);
    return rc;
}

static int write_network(const char *path, const mvpn_invitation *inv, mvpn_network_file *f,
                         mvpn_fault *fault)
{
    *f = (mvpn_network_file){
        .is_closed = inv->closed, .network_pub = inv->network_pub, .entry_count = 1};
    mvpn_network_id(&f->network_id, &f->network_pub);
    f->network_secret = inv->network_secret;
    f->entries[0] = inv->entry;
    f->allow_private = inv->allow_private || !mvpn_addr_is_public(&inv->entry.addr);
    f->relax = inv->relax;
    (void)snprintf(f->name, sizeof(f->name), "network-%02x%02x%02x%02x", f->network_id.b[0],
                   f->network_id.b[1], f->network_id.b[2], f->network_id.b[3]);
    return mvpn_network_file_save(path, f, fault);
}

static int write_client_conf(const char *path, mvpn_fault *fault)
{
    static const char text[] = "# Written by meshvpn join; every key is optional\n"
                               "# (docs/configuration.md).\n"
                               "network_file = \"network.conf\"\n"
                               "\n"
                               "# hops = 3\n"
                               "# exit_country = CH\n";
    if (access(path, F_OK) == 0) {
        return 0;
    }
    return mvpn_file_write(path, text, sizeof(text) - 1, 0644, fault);
}

static int join(const mvpn_invitation *inv, const char *dir, bool is_forced, mvpn_fault *fault)
{
    char network[PATH_MAX], client[PATH_MAX];
    mvpn_network_file f;
    if ((size_t)snprintf(network, sizeof(network), "%s/network.conf", dir) >= sizeof(network) ||
        (size_t)snprintf(client, sizeof(client), "%s/client.conf", dir) >= sizeof(client)) {
        return mvpn_fault_set(fault, MVPN_E_CONFIG, "the path of --config-dir is too long");
    }
    int rc = is_forced ? 0 : check_free(network, inv, fault);
    if (rc == 0) {
        rc = mvpn_file_make_dir(dir, 0755, fault);
    }
    if (rc == 0) {
        rc = write_client_conf(client, fault);
    }
    /* Last: with this file the computer is a member. */
    if (rc == 0) {
        rc = write_network(network, inv, &f, fault);
        if (rc == 0) {
            (void)printf("Joined %s network \"%s\"; %s is written.\n",
                         f.is_closed ? "the closed" : "the open", f.name, network);
            if (f.allow_private) {
                (void)printf("It lives in a private network: its nodes may have private "
                             "addresses.\n");
            }
            (void)printf("Next: sudo meshvpn-client --config %s\n"
                         "Then: meshvpn status\n",
                         client);
        }
        mvpn_network_file_done(&f);
    }
    return rc;
}

int join_command(const options_given *given)
{
    const char *dir = options_text(given, "--config-dir");
    char link[INPUT_MAX];
    mvpn_invitation inv = {0};
    mvpn_fault fault;
    int rc = read_link(given->operands[0], link, &fault);
    if (rc == 0) {
        rc = parse_link(link, &inv, &fault);
    }
    if (rc == 0) {
        rc = join(&inv, dir != NULL ? dir : "/etc/meshvpn", options_has(given, "--force"), &fault);
    }
    mvpn_wipe(link, sizeof(link));
    mvpn_wipe(&inv, sizeof(inv));
    return rc == 0 ? 0 : fail(&fault);
}

/* --- invite --- */

int invite_command(const options_given *given)
{
    char key[PATH_MAX];
    const char *dir = given->operands[0];
    if (dir != NULL &&
        (size_t)snprintf(key, sizeof(key), "%s/keys/network.key", dir) < sizeof(key) &&
        access(key, F_OK) == 0) {
        char **vector = calloc((size_t)given->rest_count + 3, sizeof(*vector));
        if (vector == NULL) {
            return JOIN_FAILED;
        }
        static char program[] = "meshvpn-bootstrap", command[] = "invite";
        vector[0] = program;
        vector[1] = command;
        memcpy(vector + 2, given->rest, (size_t)given->rest_count * sizeof(*vector));
        exec_beside("meshvpn-bootstrap", vector);
        (void)fprintf(stderr, "meshvpn: cannot run meshvpn-bootstrap: %s\n", strerror(errno));
        free(vector);
        return JOIN_FAILED;
    }
    (void)fprintf(stderr,
                  "meshvpn: invitations are made by who runs the network, in the directory with "
                  "its keys: meshvpn-bootstrap invite DIR.\n"
                  "Ask that person for one; then: meshvpn join LINK\n");
    return JOIN_USAGE;
}
