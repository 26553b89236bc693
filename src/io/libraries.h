/*
 * Libraries that keep something for the whole process (libcurl, c-ares, BLAKE3): begun once, by
 * whoever needs one first, in whatever thread; several clients may live in one process. They stay
 * until its end: which client is the last cannot be told by a library among others.
 */
#ifndef MVPN_IO_LIBRARIES_H
#define MVPN_IO_LIBRARIES_H

#include "base/macros.h"

/** MVPN_E_NOMEM: one of them cannot be begun. */
MVPN_WUR int mvpn_libraries_begin(void);

#endif
