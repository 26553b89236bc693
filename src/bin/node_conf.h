/*
 * The configuration of a node as meshvpn-bootstrap add-node and meshvpn relay enable write it.
 */
#ifndef MVPN_BIN_NODE_CONF_H
#define MVPN_BIN_NODE_CONF_H

#include <stdbool.h>

#include "base/addr.h"
#include "wire/descriptor.h"

/* Of a node behind a NAT any will do; this one needs no rights. */
#define NODE_HOME_PORT 4433

/* All that may stand in it. Texts were checked to hold no quotes. */
typedef struct node_conf {
    const char *head; /* comment lines, each ended */
    const char *network_file, *key_dir, *control_name;
    const char *name;
    unsigned address_count;
    const mvpn_addr *addresses;                         /* where others reach it */
    bool is_at_home;                                    /* in their place: behind a NAT */
    const char *country, *provider, *policy_file;       /* NULL: not said */
    unsigned long bandwidth_mbit, limit_mbit, quota_gb; /* 0: not said */
    bool is_nat_relay;
    const char *http_name; /* discovery nodes: under which browsers ask; NULL: none */
} node_conf;

/** The text, a string for free(); NULL: no memory. */
char *node_conf_text(const node_conf *conf);

#endif
