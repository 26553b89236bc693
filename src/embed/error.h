/*
 * Our codes and texts as those of the embedding API.
 */
#ifndef MVPN_EMBED_ERROR_H
#define MVPN_EMBED_ERROR_H

#include "meshvpn/meshvpn.h"

/** Fill `error` (or NULL) and return the MESHVPN_E_* of `code`, an MVPN_E_*. */
int embed_error(meshvpn_error *error, int code, const char *text);

#endif
