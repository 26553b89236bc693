/*
 * A QR code in a terminal: two modules in each character, dark on light whatever the terminal's
 * colours are.
 */
#ifndef MVPN_BIN_QR_H
#define MVPN_BIN_QR_H

#include <stdio.h>

#include "base/macros.h"

/**
 * Print `text` (at most 200 characters come out about 61 columns wide).
 * Returns 0; MVPN_E_LIMIT if it is too long for a QR code; MVPN_E_NOMEM.
 */
MVPN_WUR int qr_print(FILE *out, const char *text);

#endif
