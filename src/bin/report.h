/*
 * `meshvpn report`: what somebody who helps must know, without what tells who is helped. A plain
 * text file and no archive: a person can read all of it before it leaves, and does.
 */
#ifndef MVPN_BIN_REPORT_H
#define MVPN_BIN_REPORT_H

#include "bin/options.h"

/** Returns the exit status. */
int report_command(const options_given *given);

#endif
