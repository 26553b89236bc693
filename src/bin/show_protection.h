/*
 * The lines of `meshvpn status` about what protects this host.
 */
#ifndef MVPN_BIN_SHOW_PROTECTION_H
#define MVPN_BIN_SHOW_PROTECTION_H

#include <jansson.h>

/** "protected kill switch on, lockdown off, local network closed"; nothing if nothing is known. */
void show_protection(const json_t *status);

/** "names     through the tunnel (systemd-resolved)"; nothing if they stay as they are. */
void show_names(const json_t *status);

/**
 * "proof     + address (2 witnesses)  + names  + IPv6  + kill switch" with ticks, then a line for
 * each part that failed; nothing without proof. For `meshvpn status` and `meshvpn up`.
 */
void show_proof(const json_t *status);

/** What goes outside the tunnel, if anything does. */
void show_split(const json_t *status);

#endif
