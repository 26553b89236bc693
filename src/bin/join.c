#include "bin/join.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bin/beside.h"
#include "base/error.h"
#include "bin/user_dir.h"
#include "io/clock.h"
#include "io/config.h"
#include "io/file.h"
#include "io/network_file.h"
#include "io/network_link.h"

#define JOIN_FAILED 1
#define JOIN_USAGE 2
#define JOIN_EXPIRED 3
/* Of a link with spaces or a line end around it. */
#define INPUT_MAX 512

static int fail(const mvpn_fault *fault)
{
    (void)fprintf(stderr, "meshvpn: %s\n", fault->text);
    return JOIN_FAILED;
}

/* --- the link --- */

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
static int check_free(const char *path, const mvpn_network_file *wanted, mvpn_fault *fault)
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
    bool is_same = memcmp(f.network_pub.b, wanted->network_pub.b, sizeof(f.network_pub.b)) == 0;
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

static int join(const mvpn_network_file *f, const char *dir, bool is_forced, mvpn_fault *fault)
{
    char network[PATH_MAX], client[PATH_MAX];
    if ((size_t)snprintf(network, sizeof(network), "%s/network.conf", dir) >= sizeof(network) ||
        (size_t)snprintf(client, sizeof(client), "%s/client.conf", dir) >= sizeof(client)) {
        return mvpn_fault_set(fault, MVPN_E_CONFIG, "the path of --config-dir is too long");
    }
    int rc = is_forced ? 0 : check_free(network, f, fault);
    if (rc == 0) {
        user_dir_make_parents(dir);
        rc = mvpn_file_make_dir(dir, 0755, fault);
    }
    if (rc == 0) {
        rc = write_client_conf(client, fault);
    }
    /* Last: with this file the computer is a member. */
    if (rc == 0) {
        rc = mvpn_network_file_save(network, f, fault);
        if (rc == 0) {
            (void)printf("Joined %s network \"%s\"; %s is written.\n",
                         f->is_closed ? "the closed" : "the open", f->name, network);
            if (f->allow_private) {
                (void)printf("It lives in a private network: its nodes may have private "
                             "addresses.\n");
            }
            bool is_default = strcmp(client, MVPN_CONFIG_KEY_DIR "/client.conf") == 0;
            (void)printf("Next: sudo meshvpn up%s%s\n", is_default ? "" : " --config ",
                         is_default ? "" : client);
        }
    }
    return rc;
}

int join_command(const options_given *given)
{
    const char *dir = options_text(given, "--config-dir");
    char link[INPUT_MAX];
    mvpn_network_file f = {0};
    mvpn_fault fault;
    int rc = read_link(given->operands[0], link, &fault);
    if (rc == 0) {
        rc = mvpn_network_link_read(link, mvpn_clock_unix(), &f, &fault);
    }
    if (rc == 0) {
        rc = join(&f, dir != NULL ? dir : "/etc/meshvpn", options_has(given, "--force"), &fault);
    }
    mvpn_wipe(link, sizeof(link));
    mvpn_network_file_done(&f);
    int failed = rc != 0 ? fail(&fault) : 0;
    return rc == MVPN_E_EXPIRED ? JOIN_EXPIRED : failed;
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
