/*
 * meshvpn-bootstrap deploy: a node onto a host, over ssh. `tar` writes the node's files to `ssh`,
 * whose remote end is a script that unpacks them below /etc (never in a directory that others may
 * look into), tries them out and puts them in place. Keys travel in the pipe alone. Run again it
 * changes only what is different.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/error.h"
#include "bin/bootstrap.h"
#include "bin/child.h"

#define ARGV_MAX 64
#define PROGRAM_DIR "/usr/local/sbin"

/* Its exit status; 255 is ssh's own. The script has said why. */
enum {
    REMOTE_FAILED = 1,
    REMOTE_OTHER_NODE = 40,
};

/*
 * Arguments: program, configuration, unit, whether to replace another node (0 or 1). It holds no
 * single quote, since it stands between two.
 */
static const char script[] =
    "set -eu\n"
    "umask 077\n"
    "program=$1 conf=$2 unit=$3 force=$4 etc=/etc/meshvpn changed=0\n"
    "say() { echo \"$(uname -n): $*\" >&2; }\n"
    "fail() { say \"$*\"; exit 1; }\n"
    "[ \"$(id -u)\" = 0 ] || fail \"root is needed, directly or through sudo without password\"\n"
    "stage=$(mktemp -d /etc/.meshvpn-deploy.XXXXXX)\n"
    "trap \"rm -rf $stage\" EXIT\n"
    "trap \"exit 1\" HUP INT TERM\n"
    "tar -x -f - -C \"$stage\" || fail \"the files did not arrive whole; nothing was changed\"\n"
    "if [ -e \"$etc/link.key\" ] && ! cmp -s \"$stage/link.key\" \"$etc/link.key\" &&\n"
    "    [ \"$force\" = 0 ]; then\n"
    "    say \"another node lives in $etc; nothing was changed\"\n"
    "    exit 40\n"
    "fi\n"
    "run=$stage/$program\n"
    "[ -e \"$run\" ] || run=$(command -v \"$program\") || fail \"$program is not installed here\"\n"
    "status=0\n"
    "\"$run\" --config \"$stage/$conf\" --check >\"$stage/check\" 2>&1 || status=$?\n"
    "if [ $status != 0 ]; then\n"
    "    cat \"$stage/check\" >&2\n"
    "    [ $status != 127 ] || say \"install the libraries that it needs: apt-get install "
    "libsodium23 libuv1 libconfuse2 libjansson4 libmnl0 libssl3 libcurl4 libmicrohttpd12 "
    "libcares2 libminiupnpc17 libseccomp2 libcap2 libdbus-1-3 (amd64: "
    "libipsec-mb1)\"\n"
    "    fail \"$program --check failed here; nothing was changed\"\n"
    "fi\n"
    "rm \"$stage/check\"\n"
    "owner=root\n"
    "if [ -d /run/systemd/system ]; then\n"
    "    owner=meshvpn\n"
    "    id meshvpn >/dev/null 2>&1 || useradd --system --user-group --no-create-home "
    "--home-dir /nonexistent --shell /usr/sbin/nologin meshvpn\n"
    "fi\n"
    "put() {\n" /* FROM TO MODE OWNER: only what differs, and in one step */
    "    if ! cmp -s \"$1\" \"$2\"; then\n"
    "        cp \"$1\" \"$2.new\"\n"
    "        chmod \"$3\" \"$2.new\"\n"
    "        chown \"$4:$4\" \"$2.new\"\n"
    "        mv -f \"$2.new\" \"$2\"\n"
    "        changed=1\n"
    "    fi\n"
    "}\n"
    "mkdir -p \"$etc\"\n"
    "[ -d " PROGRAM_DIR " ] || mkdir -p -m 0755 " PROGRAM_DIR "\n"
    "chmod 0750 \"$etc\"\n"
    "chown \"$owner:$owner\" \"$etc\"\n"
    "[ ! -e \"$stage/$program\" ] || put \"$stage/$program\" \"" PROGRAM_DIR
    "/$program\" 0755 root\n"
    /* A running node may have drawn a newer onion key than the one it began with. */
    "if cmp -s \"$stage/link.key\" \"$etc/link.key\" && [ -e \"$etc/onion.key\" ]; then\n"
    "    rm \"$stage/onion.key\"\n"
    "fi\n"
    "for file in \"$stage\"/*.key \"$stage\"/*.cert \"$stage\"/*.conf; do\n"
    "    put \"$file\" \"$etc/${file##*/}\" 0600 \"$owner\"\n"
    "done\n"
    /* A program that root starts gives the onion key, which it renews, to the user that it becomes.
     */
    "for file in \"$etc\"/*.key \"$etc\"/*.cert \"$etc\"/*.conf; do\n"
    "    if [ $owner != root ] || [ \"$file\" != \"$etc/onion.key\" ]; then\n"
    "        chown \"$owner:$owner\" \"$file\"\n"
    "    fi\n"
    "done\n"
    "if [ ! -d /run/systemd/system ]; then\n"
    "    say \"installed. systemd does not run here; start it with:\"\n"
    "    if [ -e \"" PROGRAM_DIR "/$program\" ]; then program=" PROGRAM_DIR "/$program; fi\n"
    "    say \"  $program --config $etc/$conf\"\n"
    "    exit 0\n"
    "fi\n"
    "put \"$stage/$unit\" \"/etc/systemd/system/$unit\" 0644 root\n"
    "systemctl daemon-reload\n"
    "systemctl enable --quiet \"$unit\"\n"
    "if [ $changed = 0 ] && systemctl is-active --quiet \"$unit\"; then\n"
    "    say \"nothing to change; $unit runs\"\n"
    "elif systemctl restart \"$unit\"; then\n"
    "    say \"$unit runs\"\n"
    "else\n"
    "    journalctl --no-pager -q -n 20 -u \"$unit\" >&2 || true\n"
    "    fail \"$unit did not start; its last words are above\"\n"
    "fi\n";

typedef struct deployment {
    const arguments *args;
    mesh_node node;
    char conf[32];
    node_file files[NODE_FILES_MAX];
    unsigned file_count;
    path program_dir; /* of the program to send; "" = it is installed there */
} deployment;

/* --- what to send --- */

/* --program FILE, else beside this program. */
static int find_program(deployment *d, mvpn_fault *fault)
{
    const char *program = node_kinds[d->node.kind].program;
    path file;
    if (d->args->is_installed) {
        return 0;
    }
    if (d->args->program != NULL) {
        file = path_of("%s", d->args->program);
    } else {
        ssize_t n = readlink("/proc/self/exe", file.text, sizeof(file.text) - 1);
        char *slash = n > 0 ? (file.text[n] = '\0', strrchr(file.text, '/')) : NULL;
        if (slash == NULL) {
            return mvpn_fault_set(fault, MVPN_E_SYSTEM,
                                  "cannot tell where this program is. Use --program FILE");
        }
        slash[1] = '\0';
        path dir = file;
        file = path_of("%s%s", dir.text, program);
    }
    char *slash = strrchr(file.text, '/');
    const char *base = slash != NULL ? slash + 1 : file.text;
    if (strcmp(base, program) != 0) {
        return mvpn_fault_set(fault, MVPN_E_CONFIG,
                              "%s is not %s, which %s needs, since it is a %s", file.text, program,
                              d->node.name, node_kinds[d->node.kind].text);
    }
    if (access(file.text, R_OK | X_OK) != 0) {
        return mvpn_fault_errno(fault, MVPN_E_SYSTEM, errno,
                                "cannot use %s (name it with --program FILE, or use the host's own "
                                "with --installed)",
                                file.text);
    }
    *(slash != NULL ? slash + 1 : file.text) = '\0';
    /* tar would take a relative one from the node's directory. */
    if (realpath(file.text[0] != '\0' ? file.text : ".", d->program_dir.text) == NULL) {
        return mvpn_fault_errno(fault, MVPN_E_SYSTEM, errno, "cannot find %s", file.text);
    }
    return 0;
}

static int prepare(deployment *d, const arguments *args, mvpn_fault *fault)
{
    mvpn_network_file net;
    d->args = args;
    d->program_dir = path_of("%s", "");
    int rc = node_load(args->dir, args->node, &d->node, fault);
    if (rc == 0) {
        rc = mvpn_network_file_load(path_of("%s/network.conf", d->node.dir.text).text, 0, &net,
                                    fault);
    }
    if (rc != 0) {
        return rc;
    }
    d->file_count = node_files(&d->node, &net, d->conf, d->files);
    mvpn_network_file_done(&net);
    return find_program(d, fault);
}

static void tar_arguments(const deployment *d, const char *argv[static ARGV_MAX])
{
    unsigned n = 0;
    argv[n++] = "tar";
    argv[n++] = "--create";
    argv[n++] = "--file=-";
    argv[n++] = "--owner=0";
    argv[n++] = "--group=0";
    argv[n++] = "--numeric-owner";
    argv[n++] = "--dereference";
    argv[n++] = "--directory";
    argv[n++] = d->node.dir.text;
    for (unsigned i = 0; i < d->file_count; i++) {
        argv[n++] = d->files[i].name;
    }
    if (d->program_dir.text[0] != '\0') {
        argv[n++] = "--directory";
        argv[n++] = d->program_dir.text;
        argv[n++] = node_kinds[d->node.kind].program;
    }
    argv[n] = NULL;
}

/* The remote command holds names alone, never a secret. */
static char *remote_command(const deployment *d)
{
    const kind_info *kind = &node_kinds[d->node.kind];
    char *text = NULL;
    /* Root directly, else through sudo. */
    int n = asprintf(&text,
                     "if [ \"$(id -u)\" = 0 ]; then set -- ; else set -- sudo -n; fi; "
                     "\"$@\" sh -c '%s' meshvpn-deploy %s %s %s %d",
                     script, kind->program, d->conf, kind->unit, d->args->is_forced ? 1 : 0);
    return n < 0 ? NULL : text;
}

static void ssh_arguments(const deployment *d, const char *command,
                          const char *argv[static ARGV_MAX])
{
    unsigned n = 0;
    argv[n++] = "ssh";
    argv[n++] = "-T";
    for (unsigned i = 0; i < d->args->ssh_option_count; i++) {
        argv[n++] = "-o";
        argv[n++] = d->args->ssh_options[i];
    }
    argv[n++] = "--";
    argv[n++] = d->args->host;
    argv[n++] = command;
    argv[n] = NULL;
}

/* --- children --- */

/* `in`, `out`: become its standard input and output unless -1. */
static pid_t start(const char *const argv[], int in, int out)
{
    pid_t pid = fork();
    if (pid != 0) {
        return pid;
    }
    if ((in >= 0 && dup2(in, STDIN_FILENO) < 0) || (out >= 0 && dup2(out, STDOUT_FILENO) < 0)) {
        _exit(126);
    }
    union {
        const char *const *in;
        char *const *out;
    } vector = {.in = argv}; /* execvp(3) does not change them */
    (void)execvp(argv[0], vector.out);
    (void)fprintf(stderr, "meshvpn-bootstrap: cannot run %s: %s\n", argv[0], strerror(errno));
    _exit(127);
}

static int run_children(const deployment *d, const char *command, int *ret_tar, int *ret_ssh,
                        mvpn_fault *fault)
{
    const char *tar[ARGV_MAX], *ssh[ARGV_MAX];
    int ends[2];
    tar_arguments(d, tar);
    ssh_arguments(d, command, ssh);
    if (pipe2(ends, O_CLOEXEC) != 0) {
        return mvpn_fault_errno(fault, MVPN_E_SYSTEM, errno, "cannot make a pipe");
    }
    pid_t tar_pid = start(tar, -1, ends[1]), ssh_pid = tar_pid > 0 ? start(ssh, ends[0], -1) : -1;
    int err = errno;
    (void)close(ends[0]);
    (void)close(ends[1]);
    *ret_ssh = ssh_pid > 0 ? child_wait(ssh_pid) : -1;
    *ret_tar = tar_pid > 0 ? child_wait(tar_pid) : -1;
    return ssh_pid > 0 ? 0
                       : mvpn_fault_errno(fault, MVPN_E_SYSTEM, err, "cannot start tar and ssh");
}

static int judge(const deployment *d, int tar, int ssh, mvpn_fault *fault)
{
    const char *host = d->args->host;
    switch (ssh) {
    case 0:
        break;
    case 255:
        return mvpn_fault_set(fault, MVPN_E_SYSTEM,
                              "ssh could not reach %s or was not let in; nothing was changed. Try: "
                              "ssh %s true",
                              host, host);
    case REMOTE_OTHER_NODE:
        return mvpn_fault_set(fault, MVPN_E_POLICY,
                              "%s is another node already; one node per host. --force replaces it "
                              "(its keys are gone then)",
                              host);
    default:
        return mvpn_fault_set(fault, MVPN_E_SYSTEM, "the installation on %s failed (%s)", host,
                              ssh == REMOTE_FAILED ? "see above" : "its shell or sudo, see above");
    }
    /* The other end would have noticed a cut archive: this is a warning of tar's. */
    return tar == 0
               ? 0
               : mvpn_fault_set(fault, MVPN_E_SYSTEM, "tar ended with status %d: see above", tar);
}

/* --- the command --- */

static void show_plan(const deployment *d)
{
    const kind_info *kind = &node_kinds[d->node.kind];
    (void)printf("would connect: ssh");
    for (unsigned i = 0; i < d->args->ssh_option_count; i++) {
        (void)printf(" -o %s", d->args->ssh_options[i]);
    }
    (void)printf(" %s\n", d->args->host);
    if (d->program_dir.text[0] != '\0') {
        (void)printf("would install: " PROGRAM_DIR "/%s (from %s)\n", kind->program,
                     d->program_dir.text);
    }
    for (unsigned i = 0; i < d->file_count; i++) {
        bool is_unit = strcmp(d->files[i].name, kind->unit) == 0;
        (void)printf("would install: %s/%s%s\n", is_unit ? "/etc/systemd/system" : "/etc/meshvpn",
                     d->files[i].name, d->files[i].is_secret ? " (secret, 0600)" : "");
    }
    (void)printf("would start:   systemctl restart %s, if systemd runs there\n", kind->unit);
}

static int deploy(const deployment *d, mvpn_fault *fault)
{
    int tar = 0, ssh = 0;
    char *command = remote_command(d);
    if (command == NULL) {
        return mvpn_fault_set(fault, MVPN_E_NOMEM, "no memory");
    }
    int rc = run_children(d, command, &tar, &ssh, fault);
    free(command);
    return rc == 0 ? judge(d, tar, ssh, fault) : rc;
}

int command_deploy(const options_given *given)
{
    arguments args;
    deployment d;
    mvpn_fault fault;
    int rc = arguments_parse(&args, given);
    if (rc != 0) {
        return rc;
    }
    MVPN_ASSERT(args.node != NULL && args.host != NULL);
    if (args.host[0] == '-' || args.host[0] == '\0') {
        return bootstrap_fail_usage("'%s' is not a host: write USER@HOST", args.host);
    }
    if (args.is_installed && args.program != NULL) {
        return bootstrap_fail_usage("--program and --installed: choose one");
    }
    if (prepare(&d, &args, &fault) != 0) {
        return bootstrap_fail(&fault);
    }
    if (args.is_dry_run) {
        show_plan(&d);
        return EXIT_SUCCESS;
    }
    if (deploy(&d, &fault) != 0) {
        return bootstrap_fail(&fault);
    }
    (void)printf("Node %s is on %s.\n", args.node, args.host);
    return EXIT_SUCCESS;
}
