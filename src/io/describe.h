/*
 * A relay's descriptor as its configuration and keys say it: the template that the node publishes.
 */
#ifndef MVPN_IO_DESCRIBE_H
#define MVPN_IO_DESCRIBE_H

#include "io/config.h"
#include "io/fault.h"
#include "io/keyfile.h"

/** Roles that a node of this kind takes, unless its membership certificate gives it fewer. */
uint16_t mvpn_describe_roles(enum mvpn_config_kind kind);

/**
 * Fill a template for mvpn_publisher_init: everything but sequence, times and encoding. Without an
 * address in the configuration it has none (address_count 0): such a node is not published.
 * `has_v6`  exits: IPv6 is offered.
 * Returns 0; MVPN_E_CONFIG (the policy, or a membership certificate that does not verify).
 */
MVPN_WUR int mvpn_describe(const mvpn_config *config, const mvpn_node_keys *keys, bool has_v6,
                           mvpn_descriptor *ret, mvpn_fault *fault);

#endif
