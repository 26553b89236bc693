#include "io/reverse_path.h"

#include <net/if.h>
#include <stdlib.h>

#include "base/error.h"
#include "io/packet_filter.h"

/* Interfaces, with those among them that get their setting back. */
struct list {
    unsigned count;
    mvpn_protect_strict at[MVPN_PROTECT_STRICT_MAX];
};

struct mvpn_reverse_path {
    mvpn_packet_filter *pf;
    bool has_table;
    struct list now;
};

static void take_left(void *ctx, uint32_t index)
{
    struct list *list = ctx;
    if (list->count < MVPN_ARRAY_LEN(list->at)) {
        list->at[list->count++] = (mvpn_protect_strict){.index = index, .is_ours_to_restore = true};
    }
}

int mvpn_reverse_path_open(mvpn_reverse_path **ret, mvpn_fault *fault)
{
    mvpn_reverse_path *rp = calloc(1, sizeof(*rp));
    if (rp == NULL) {
        return mvpn_fault_set(fault, MVPN_E_NOMEM, "no memory for reverse paths");
    }
    int r = mvpn_packet_filter_open(&rp->pf, MVPN_REVERSE_PATH_TABLE, fault);
    if (r != 0) {
        free(rp);
        return r;
    }
    rp->has_table = mvpn_packet_filter_is_there(rp->pf);
    mvpn_packet_filter_notes(rp->pf, take_left, &rp->now);
    *ret = rp;
    return 0;
}

void mvpn_reverse_path_close(mvpn_reverse_path *rp)
{
    if (rp != NULL) {
        mvpn_packet_filter_close(rp->pf);
        free(rp);
    }
}

static mvpn_protect_strict *find(struct list *list, uint32_t index)
{
    for (unsigned i = 0; i < list->count; i++) {
        if (list->at[i].index == index) {
            return &list->at[i];
        }
    }
    return NULL;
}

struct look {
    struct list *before, after;
    uint32_t tunnel;
    bool needs_tunnel;
};

static void take_filter(void *ctx, const mvpn_netlink_filter *filter)
{
    struct look *look = ctx;
    const mvpn_protect_strict *before = find(look->before, filter->index);
    bool is_tunnel = filter->index == look->tunnel;
    bool is_needed =
        filter->is_strict && (is_tunnel ? look->needs_tunnel : (filter->flags & IFF_LOOPBACK) == 0);
    if (is_needed && look->after.count < MVPN_ARRAY_LEN(look->after.at)) {
        look->after.at[look->after.count++] = (mvpn_protect_strict){
            .index = filter->index,
            .is_ours_to_restore =
                !filter->asks_with_mark || (before != NULL && before->is_ours_to_restore),
            .is_tunnel = is_tunnel,
        };
    }
}

/* Those that are not in `kept`, and that are ours to restore, as they were. */
static void restore(const struct list *list, struct list *kept, mvpn_netlink *nl)
{
    for (unsigned i = 0; i < list->count; i++) {
        if (list->at[i].is_ours_to_restore &&
            (kept == NULL || find(kept, list->at[i].index) == NULL)) {
            MVPN_IGNORE(mvpn_netlink_filter_by_mark(nl, list->at[i].index, false, NULL)); /* gone */
        }
    }
}

int mvpn_reverse_path_set(mvpn_reverse_path *rp, mvpn_netlink *nl, const mvpn_protect_setup *setup,
                          bool has_kill_switch, uint32_t tun_index)
{
    struct look look = {
        .before = &rp->now,
        .tunnel = tun_index,
        .needs_tunnel = mvpn_protect_needs_tunnel(setup, has_kill_switch),
    };
    mvpn_protect_rules *rules = mvpn_packet_filter_rules(rp->pf);
    int r = mvpn_netlink_each_filter(nl, take_filter, &look, NULL);
    if (r != 0 || (look.after.count == 0 && !rp->has_table)) {
        return r;
    }
    /* Whenever we are killed, what differs from before is written down. */
    restore(&rp->now, &look.after, nl);
    mvpn_protect_answers_make(setup, has_kill_switch, look.after.at, look.after.count, rules);
    r = mvpn_packet_filter_replace(rp->pf);
    if (r != 0) {
        mvpn_protect_answers_make(setup, has_kill_switch, rp->now.at, rp->now.count, rules);
        return r;
    }
    rp->now = look.after;
    rp->has_table = rp->now.count > 0;
    for (unsigned i = 0; i < rp->now.count; i++) {
        if (rp->now.at[i].is_ours_to_restore) {
            int set = mvpn_netlink_filter_by_mark(nl, rp->now.at[i].index, true, NULL);
            r = r != 0 ? r : set;
        }
    }
    return r;
}

void mvpn_reverse_path_unset(mvpn_reverse_path *rp, mvpn_netlink *nl)
{
    restore(&rp->now, NULL, nl);
    rp->now.count = 0;
    mvpn_packet_filter_rules(rp->pf)->count = 0;
    if (rp->has_table) {
        MVPN_IGNORE(mvpn_packet_filter_replace(rp->pf));
    }
}

int mvpn_reverse_path_fd(const mvpn_reverse_path *rp)
{
    return rp != NULL ? mvpn_packet_filter_fd(rp->pf) : -1;
}

int mvpn_reverse_path_tend(mvpn_reverse_path *rp, bool *ret_repaired)
{
    return mvpn_packet_filter_tend(rp->pf, ret_repaired);
}
