/*
 * A program of scenarios: each has a name and a seed, and says what it saw. On failure the seed is
 * printed; `--seed S` repeats it.
 */
#ifndef MVPN_SIM_SCENARIO_H
#define MVPN_SIM_SCENARIO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/macros.h"

typedef struct scenario {
    const char *name;
    void (*run)(uint64_t seed);
} scenario;

/**
 * Run the scenarios named on the command line, or all: [--seed S] [--list] [NAME...].
 * Returns the exit code.
 */
int scenario_main(int argc, char **argv, const scenario *scenarios, size_t count);

/** True with MVPN_SIM_FAST in the environment, and under sanitizers: do less of the same. */
bool scenario_is_fast(void);
/** `full`, or `fast` in a fast run. */
size_t scenario_count(size_t full, size_t fast);

/** Text of the run in hand, for people. */
void say(const char *format, ...) MVPN_PRINTF(1, 2);

/** Note a failure of the scenario in hand and go on. */
void check_failed(const char *file, int line, const char *what);
/** Seed and context of what is being checked, shown with a failure. */
void check_context(const char *format, ...) MVPN_PRINTF(1, 2);

#define CHECK(condition) ((condition) ? (void)0 : check_failed(__FILE__, __LINE__, #condition))
/** Leave the function if the rest would make no sense. */
#define REQUIRE(condition, leave)                                                                  \
    if (!(condition)) {                                                                            \
        check_failed(__FILE__, __LINE__, #condition);                                              \
        leave;                                                                                     \
    }                                                                                              \
    struct scenario_semicolon

#endif
