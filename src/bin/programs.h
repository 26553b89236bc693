/* The program of each kind of configuration, and how systemd calls it. */
#ifndef MVPN_BIN_PROGRAMS_H
#define MVPN_BIN_PROGRAMS_H

#include <stdbool.h>

#include "io/config.h"

typedef struct program_info {
    enum mvpn_config_kind kind;
    const char *name; /* "meshvpn-client" */
    const char *unit; /* "meshvpn.service" */
} program_info;

const program_info *program_of(enum mvpn_config_kind kind);

/** Does systemd run this system? */
bool program_has_systemd(void);
/** Does it know `unit`? By the files it would read. */
bool program_has_unit(const char *unit);
/** Does it start `unit` by itself? */
bool program_unit_is_enabled(const char *unit);

/** Secrets of nodes belong to the user that they run as: from here on that is no fault. */
void program_trust_user(void);

/** Does a daemon listen at this control socket? Nothing is asked. */
bool program_is_running(const char *control_socket);

#endif
