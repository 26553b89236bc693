/*
 * meshvpn-bootstrap cloud-init: user-data (#cloud-config) with which a host of any provider becomes
 * a node at its first start. Files are base64, so that nothing in them can end a YAML string.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/error.h"
#include "bin/bootstrap.h"
#include "io/file.h"

/* Of user-data at AWS, before its base64; the tightest of the large providers. */
#define USER_DATA_MAX 16384

static int write_file(FILE *out, const char *from, const char *to, const char *mode,
                      mvpn_fault *fault)
{
    uint8_t *content = NULL;
    size_t size = 0;
    int rc = mvpn_file_read(from, MVPN_NETWORK_FILE_SIZE_MAX, false, &content, &size, fault);
    if (rc != 0) {
        return rc;
    }
    char *base64 = malloc(MVPN_BASE64_LEN(size));
    if (base64 == NULL) {
        rc = mvpn_fault_set(fault, MVPN_E_NOMEM, "no memory for %s", from);
    } else {
        (void)fprintf(
            out, "  - path: %s\n    permissions: \"%s\"\n    encoding: b64\n    content: \"%s\"\n",
            to, mode,
            mvpn_base64_encode(base64, MVPN_BASE64_LEN(size), mvpn_bytes_of(content, size)));
        mvpn_wipe(base64, MVPN_BASE64_LEN(size));
        free(base64);
    }
    mvpn_file_free(content, size);
    return rc;
}

static int write_files(FILE *out, const mesh_node *n, const network *net, mvpn_fault *fault)
{
    char conf[32];
    node_file files[NODE_FILES_MAX];
    unsigned count = node_files(n, &net->file, conf, files);
    int rc = 0;
    (void)fprintf(out, "write_files:\n");
    for (unsigned i = 0; rc == 0 && i < count; i++) {
        bool is_unit = strcmp(files[i].name, node_kinds[n->kind].unit) == 0;
        rc = write_file(
            out, path_of("%s/%s", n->dir.text, files[i].name).text,
            path_of("%s/%s", is_unit ? "/etc/systemd/system" : "/etc/meshvpn", files[i].name).text,
            files[i].is_secret ? "0600" : "0644", fault);
    }
    return rc;
}

/* One script, so that a step that fails stops what follows. */
static void write_run(FILE *out, const mesh_node *n, const arguments *args)
{
    const kind_info *kind = &node_kinds[n->kind];
    (void)fprintf(out, "runcmd:\n"
                       "  - - sh\n"
                       "    - -c\n"
                       "    - |\n"
                       "      set -eu\n"
                       "      id meshvpn >/dev/null 2>&1 || useradd --system --user-group "
                       "--no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin "
                       "meshvpn\n"
                       "      chown -R meshvpn:meshvpn /etc/meshvpn\n"
                       "      chmod 0750 /etc/meshvpn\n");
    if (args->package_url != NULL) {
        (void)fprintf(out, "      mkdir -p -m 0755 /run/meshvpn-setup\n"
                           "      curl -fsSL --retry 5 --proto '=https,http' -o "
                           "/run/meshvpn-setup/package.deb \"$1\"\n");
    }
    if (args->package_sha256 != NULL) {
        (void)fprintf(
            out, "      echo \"%s  /run/meshvpn-setup/package.deb\" | sha256sum --check --quiet\n",
            args->package_sha256);
    }
    if (args->package_url != NULL) {
        (void)fprintf(out, "      DEBIAN_FRONTEND=noninteractive apt-get -q -y -o "
                           "DPkg::Lock::Timeout=600 install /run/meshvpn-setup/package.deb\n"
                           "      rm -rf /run/meshvpn-setup\n");
    }
    (void)fprintf(out,
                  "      command -v %s >/dev/null || { echo \"meshvpn: this image has no %s\" >&2; "
                  "exit 1; }\n"
                  "      systemctl daemon-reload\n"
                  "      systemctl enable --now %s\n"
                  "    - meshvpn-setup\n",
                  kind->program, kind->program, kind->unit);
    if (args->package_url != NULL) {
        (void)fprintf(out, "    - \"%s\"\n", args->package_url);
    }
}

static int write_all(FILE *out, const mesh_node *n, const network *net, const arguments *args,
                     mvpn_fault *fault)
{
    (void)fprintf(out,
                  "#cloud-config\n"
                  "# The %s \"%s\" of MeshVPN. It holds the node's private keys: many providers\n"
                  "# show user-data to every process of the instance and to whoever manages it.\n"
                  "# Delete it from the instance's settings once the node runs.\n",
                  node_kinds[n->kind].text, n->name);
    if (args->package_url != NULL) {
        (void)fprintf(out, "package_update: true\npackages:\n  - ca-certificates\n  - curl\n");
    }
    int rc = write_files(out, n, net, fault);
    if (rc == 0) {
        write_run(out, n, args);
    }
    return rc;
}

static int cloud_init(const arguments *args, const network *net, const char *output,
                      mvpn_fault *fault)
{
    char *text = NULL;
    size_t size = 0;
    mesh_node n;
    int rc = node_load(args->dir, args->node, &n, fault);
    if (rc != 0) {
        return rc;
    }
    FILE *out = open_memstream(&text, &size);
    if (out == NULL) {
        return mvpn_fault_set(fault, MVPN_E_NOMEM, "no memory to write %s", output);
    }
    rc = write_all(out, &n, net, args, fault);
    if (fclose(out) != 0 && rc == 0) {
        rc = mvpn_fault_set(fault, MVPN_E_NOMEM, "no memory to write %s", output);
    }
    if (rc == 0) {
        rc = mvpn_file_write(output, text, size, 0600, fault);
    }
    if (rc == 0 && size > USER_DATA_MAX) {
        (void)fprintf(stderr,
                      "meshvpn-bootstrap: the file has %zu bytes; AWS takes %d. Nodes that are "
                      "listed in network.conf make it long: add them without --listed\n",
                      size, USER_DATA_MAX);
    }
    mvpn_wipe(text, size);
    free(text);
    return rc;
}

int command_cloud_init(const options_given *given)
{
    arguments args;
    mvpn_fault fault;
    network net;
    int rc = arguments_parse(&args, given);
    if (rc != 0) {
        return rc;
    }
    MVPN_ASSERT(args.node != NULL);
    if (args.package_sha256 != NULL && args.package_url == NULL) {
        return bootstrap_fail_usage("--package-sha256 is of a --package-url");
    }
    if (args.package_url != NULL && args.package_sha256 == NULL &&
        strncmp(args.package_url, "https://", 8) != 0) {
        return bootstrap_fail_usage(
            "--package-url %s: anybody on the way could put another program "
            "there. Use https, or add --package-sha256",
            args.package_url);
    }
    path output = args.output != NULL ? path_of("%s", args.output)
                                      : path_of("%s/%s.cloud-init.yaml", args.dir, args.node);
    if (network_open(args.dir, &net, &fault) != 0) {
        return bootstrap_fail(&fault);
    }
    rc = cloud_init(&args, &net, output.text, &fault);
    network_done(&net);
    if (rc != 0) {
        return bootstrap_fail(&fault);
    }
    (void)printf("User-data for %s is in %s (it holds private keys).\n"
                 "AWS:   aws ec2 run-instances --user-data file://%s ... (Debian 12 or newer)\n"
                 "Other: give it as \"user data\" or \"cloud-init\" when you make the server.\n"
                 "Its public address must be the one that the node was made for.\n",
                 args.node, output.text, output.text);
    return EXIT_SUCCESS;
}
