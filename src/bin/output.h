/*
 * Output that cannot be written is a failure, and is said: a script must not take half an answer
 * for a whole one.
 */
#ifndef MVPN_BIN_OUTPUT_H
#define MVPN_BIN_OUTPUT_H

#include <stdbool.h>

/**
 * At the start of a program that prints. Standard streams that are closed are opened, so that no
 * socket gets their numbers: the output then fails. A reader that goes away (SIGPIPE) ends the
 * program with status 1 and a word; programs that it executes have the signal as ever.
 */
void output_begin(void);

/** Is what was printed so far written? Flushes; for commands that go on until a signal. */
bool output_is_sound(void);

/** At the end: the exit status, 1 with a word if not everything could be written. */
int output_end(int exit_status);

#endif
