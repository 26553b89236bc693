/*
 * From an invitation (a link "meshvpn:...", docs/protocol.md §13.1) to the network file of its new
 * member.
 */
#ifndef MVPN_IO_NETWORK_LINK_H
#define MVPN_IO_NETWORK_LINK_H

#include "io/network_file.h"

/**
 * Read a link, blanks around it allowed. 0: `*ret` is a network file, to be saved and freed with
 * mvpn_network_file_done; else it is empty, and `fault` says what a person can do: MVPN_E_FORMAT
 * (no link, or not whole), MVPN_E_UNKNOWN (of a newer version), MVPN_E_POLICY (altered),
 * MVPN_E_EXPIRED.
 */
MVPN_WUR int mvpn_network_link_read(const char *link, uint64_t unix_now, mvpn_network_file *ret,
                                    mvpn_fault *fault);

#endif
