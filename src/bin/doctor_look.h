/*
 * What `meshvpn doctor` judges: everything that can be seen of this host without changing it, with
 * or without a daemon, with or without root. In less than 2 s.
 */
#ifndef MVPN_BIN_DOCTOR_LOOK_H
#define MVPN_BIN_DOCTOR_LOOK_H

#include "bin/doctor_checks.h"
#include "io/config.h"

/** Look, for the configuration `file` of `kind`, which need not be there. */
void doctor_look(enum mvpn_config_kind kind, const char *file, doctor_facts *ret);

#endif
