/* meshvpn doctor: what is wrong with this host, and the command that mends it. */
#ifndef MVPN_BIN_DOCTOR_H
#define MVPN_BIN_DOCTOR_H

#include <jansson.h>

#include "bin/options.h"

/** Returns the exit status. */
int doctor_command(const options_given *given);

/** The same as an object "meshvpn.doctor/1", the caller's; of the configuration that is found. */
json_t *doctor_examine(void);

#endif
