/*
 * meshvpn-bootstrap revoke: takes memberships back. (docs/protocol.md §8.4) The signed list is in
 * network.conf; any node that has a newer list than the network hands it on.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/error.h"
#include "bin/bootstrap.h"
#include "io/clock.h"
#include "io/file.h"

static const issued *find_serial(const issued *list, size_t count, uint64_t serial)
{
    for (size_t i = 0; i < count; i++) {
        if (list[i].serial == serial) {
            return &list[i];
        }
    }
    return NULL;
}

static int compare_serials(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Take up one serial more; false if the list is full. */
static bool take_serial(mvpn_revocations *r, uint64_t serial)
{
    for (unsigned i = 0; i < r->count; i++) {
        if (r->serials[i] == serial) {
            return true;
        }
    }
    if (r->count == MVPN_REVOCATIONS_MAX) {
        return false;
    }
    r->serials[r->count++] = serial;
    return true;
}

/* Certificates that have expired need no revocation. Of one that is not in our list we do not know,
 * so it stays. */
static void prune(mvpn_revocations *r, const issued *list, size_t count, uint64_t now)
{
    uint16_t kept = 0;
    for (unsigned i = 0; i < r->count; i++) {
        const issued *c = find_serial(list, count, r->serials[i]);
        if (c == NULL || now <= c->not_after + MVPN_VALIDITY_TOLERANCE_S) {
            r->serials[kept++] = r->serials[i];
        }
    }
    r->count = kept;
}

/* All certificates of a node that still hold, or the one with this serial. Returns how many were
 * meant, or MVPN_E_LIMIT. */
static int collect(mvpn_revocations *r, const issued *list, size_t count, const char *who,
                   uint64_t now)
{
    char *end = NULL;
    int meant = 0;
    errno = 0;
    uint64_t serial = strtoull(who, &end, 10);
    bool is_serial = *end == '\0' && errno == 0;
    for (size_t i = 0; i < count; i++) {
        bool is_meant = (strcmp(list[i].node, who) == 0 || (is_serial && list[i].serial == serial));
        if (is_meant && now <= list[i].not_after + MVPN_VALIDITY_TOLERANCE_S) {
            if (!take_serial(r, list[i].serial)) {
                return MVPN_E_LIMIT;
            }
            meant++;
        }
    }
    return meant;
}

static int make_list(const arguments *args, network *net, mvpn_fault *fault)
{
    mvpn_revocations r = net->file.revocations;
    issued *list = NULL;
    size_t count = 0;
    uint64_t now = mvpn_clock_unix();
    mesh_node n;
    int rc = issued_load(args->dir, &list, &count, fault);
    if (rc != 0) {
        return rc;
    }
    prune(&r, list, count, now);
    int meant = collect(&r, list, count, args->node, now);
    free(list);
    /* A certificate made before the list of them was kept. */
    if (meant >= 0 && node_load(args->dir, args->node, &n, NULL) == 0) {
        meant = take_serial(&r, node_serial(&n.descriptor)) ? meant + 1 : MVPN_E_LIMIT;
    }
    if (meant < 0) {
        return mvpn_fault_set(fault, MVPN_E_LIMIT,
                              "the revocation list is full (%d certificates). It gets room when "
                              "they expire; give certificates fewer --days",
                              MVPN_REVOCATIONS_MAX);
    }
    if (meant == 0) {
        return mvpn_fault_set(fault, MVPN_E_UNKNOWN,
                              "%s is neither a node of %s nor the serial of a certificate that "
                              "still holds. See them with meshvpn-bootstrap show %s",
                              args->node, args->dir, args->dir);
    }
    qsort(r.serials, r.count, sizeof(r.serials[0]), compare_serials);
    r.sequence++;
    r.published = now;
    if (mvpn_revocations_sign(&r, &net->secret_key, &net->file.network_id) != 0) {
        return mvpn_fault_set(fault, MVPN_E_INVAL, "the revocation list cannot be made");
    }
    net->file.revocations = r;
    return 0;
}

static void drop_entry(mvpn_network_file *f, const mvpn_key *link_key)
{
    size_t kept = 0;
    for (size_t i = 0; i < f->entry_count; i++) {
        if (!mvpn_key_eq(&f->entries[i].link_key, link_key)) {
            f->entries[kept++] = f->entries[i];
        }
    }
    f->entry_count = kept;
}

static void drop_relays(mvpn_network_file *f)
{
    size_t kept = 0;
    for (size_t i = 0; i < f->relay_count; i++) {
        if (!mvpn_revocations_has(&f->revocations, node_serial(&f->relays[i]))) {
            if (kept != i) {
                f->relays[kept] = f->relays[i];
            }
            kept++;
        }
    }
    f->relay_count = kept;
}

/* Nodes whose certificate is revoked leave the file and our directory of nodes. */
static int drop_nodes(const arguments *args, network *net, mvpn_fault *fault)
{
    node_name *names = NULL;
    size_t count = 0;
    int rc = node_list(args->dir, &names, &count, fault);
    path revoked = path_of("%s/revoked", args->dir);
    if (rc == 0) {
        rc = mvpn_file_make_dir(revoked.text, 0700, fault);
    }
    for (size_t i = 0; rc == 0 && i < count; i++) {
        mesh_node n;
        rc = node_load(args->dir, names[i].text, &n, fault);
        if (rc != 0 || !mvpn_revocations_has(&net->file.revocations, node_serial(&n.descriptor))) {
            continue;
        }
        drop_entry(&net->file, &n.descriptor.link_key);
        path to =
            path_of("%s/%s.%" PRIu64, revoked.text, names[i].text, node_serial(&n.descriptor));
        if (rename(n.dir.text, to.text) != 0) {
            rc = mvpn_fault_errno(fault, MVPN_E_SYSTEM, errno, "cannot move %s to %s", n.dir.text,
                                  to.text);
        }
    }
    free(names);
    drop_relays(&net->file);
    return rc;
}

static int revoke(const arguments *args, network *net, mvpn_fault *fault)
{
    char base64[MVPN_BASE64_LEN(MVPN_REVOCATIONS_LEN_MAX)];
    if (!net->file.is_closed) {
        return mvpn_fault_set(fault, MVPN_E_POLICY,
                              "an open network has no memberships to take back: anybody may run a "
                              "relay. Remove its entry and its anchor from %s/network.conf instead",
                              args->dir);
    }
    int rc = make_list(args, net, fault);
    if (rc != 0) {
        return rc;
    }
    const mvpn_revocations *r = &net->file.revocations;
    rc = write_text(
        path_of("%s/revocations", args->dir).text, 0644, fault, "%s\n",
        mvpn_base64_encode(base64, sizeof(base64), mvpn_bytes_of(r->encoded, r->encoded_len)));
    /* The file first: it is what tells the network, whatever happens to our directories. */
    if (rc == 0) {
        rc = network_publish(args->dir, net, fault);
    }
    if (rc == 0) {
        rc = drop_nodes(args, net, fault);
    }
    return rc == 0 ? network_publish(args->dir, net, fault) : rc;
}

int command_revoke(const options_given *given)
{
    arguments args;
    mvpn_fault fault;
    network net;
    int rc = arguments_parse(&args, given);
    if (rc != 0) {
        return rc;
    }
    MVPN_ASSERT(args.node != NULL);
    if (network_open(args.dir, &net, &fault) != 0) {
        return bootstrap_fail(&fault);
    }
    rc = revoke(&args, &net, &fault);
    unsigned count = net.file.revocations.count;
    size_t entries = net.file.entry_count;
    network_done(&net);
    if (rc != 0) {
        return bootstrap_fail(&fault);
    }
    (void)printf("%s is revoked; the list names %u certificate%s.\n"
                 "Bring the new network.conf to one running node (meshvpn-bootstrap deploy): it "
                 "tells the others.\n",
                 args.node, count, count == 1 ? "" : "s");
    if (entries == 0) {
        (void)printf("The network has no entry node now: add one with add-node --bootstrap.\n");
    }
    return EXIT_SUCCESS;
}
