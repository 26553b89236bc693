/*
 * The lines of `meshvpn status` about links and the NAT before us.
 */
#ifndef MVPN_BIN_SHOW_LINKS_H
#define MVPN_BIN_SHOW_LINKS_H

#include <jansson.h>
#include <stdbool.h>

/** "nat       port-restricted, reachable through birch and oak"; nothing if nothing is known. */
void show_nat(const json_t *status);
/** "links     7, 2 relayed: birch via oak, elm via oak"; with `only_relayed` nothing if none is. */
void show_links(const json_t *status, bool only_relayed);

#endif
