#include "scenario.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define SEED_DEFAULT 1
/* Enough to see what is wrong. */
#define FAILURES_SHOWN 20

static struct {
    unsigned failures;
    uint64_t seed;
    const char *name;
    char context[256];
} run;

bool scenario_is_fast(void)
{
    const char *fast = getenv("MVPN_SIM_FAST");
#ifdef __has_feature
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(SANITIZED)
    return fast == NULL || strcmp(fast, "0") != 0;
#else
    return fast != NULL && strcmp(fast, "0") != 0;
#endif
}

size_t scenario_count(size_t full, size_t fast)
{
    return scenario_is_fast() ? fast : full;
}

void say(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    printf("  ");
    vprintf(format, args);
    printf("\n");
    va_end(args);
    fflush(stdout);
}

void check_context(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(run.context, sizeof(run.context), format, args);
    va_end(args);
}

void check_failed(const char *file, int line, const char *what)
{
    if (run.failures++ < FAILURES_SHOWN) {
        printf("  FAILED %s:%d: %s\n         %s, seed %" PRIu64 "%s%s\n", file, line, what,
               run.name, run.seed, run.context[0] == '\0' ? "" : ": ", run.context);
        fflush(stdout);
    }
}

static bool is_wanted(const char *name, char **names, int count)
{
    for (int i = 0; i < count; i++) {
        if (strcmp(name, names[i]) == 0) {
            return true;
        }
    }
    return count == 0;
}

int scenario_main(int argc, char **argv, const scenario *scenarios, size_t count)
{
    uint64_t seed = SEED_DEFAULT;
    unsigned failed = 0, ran = 0;
    int names = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--list") == 0) {
            for (size_t j = 0; j < count; j++) {
                printf("%s\n", scenarios[j].name);
            }
            return 0;
        }
        if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc) {
            seed = strtoull(argv[++i], NULL, 0);
        } else if (argv[i][0] == '-') {
            fprintf(stderr, "usage: %s [--seed S] [--list] [NAME...]\n", argv[0]);
            return 2;
        } else {
            argv[1 + names++] = argv[i];
        }
    }
    for (size_t j = 0; j < count; j++) {
        if (!is_wanted(scenarios[j].name, argv + 1, names)) {
            continue;
        }
        run.failures = 0;
        run.seed = seed;
        run.name = scenarios[j].name;
        run.context[0] = '\0';
        printf("%s\n", run.name);
        fflush(stdout);
        scenarios[j].run(seed);
        ran++;
        if (run.failures > 0) {
            failed++;
            printf("  %s: %u checks failed; again by: %s --seed %" PRIu64 " %s\n", run.name,
                   run.failures, argv[0], seed, run.name);
        }
    }
    printf("%u scenarios, %u failed, seed %" PRIu64 "\n", ran, failed, seed);
    return failed == 0 && ran > 0 ? 0 : 1;
}
