#include "bin/format.h"

#include <stdio.h>

/* "1 h 4 min". */
const char *format_duration(double seconds, char out[static 48])
{
    unsigned long long s = seconds > 0 ? (unsigned long long)seconds : 0;
    if (s >= 86400) {
        (void)snprintf(out, 48, "%llu d %llu h", s / 86400, s % 86400 / 3600);
    } else if (s >= 3600) {
        (void)snprintf(out, 48, "%llu h %llu min", s / 3600, s % 3600 / 60);
    } else if (s >= 60) {
        (void)snprintf(out, 48, "%llu min %llu s", s / 60, s % 60);
    } else {
        (void)snprintf(out, 48, "%llu s", s);
    }
    return out;
}

/* "12.3 MB": decimal units, three figures. */
static const char *scaled(double value, const char *const units[static 5], char out[static 32])
{
    unsigned i = 0;
    while (value >= 999.5 && i < 4) {
        value /= 1000;
        i++;
    }
    (void)snprintf(out, 32, "%.*f %s",
                   i == 0 || value >= 99.95 ? 0
                   : value >= 9.995         ? 1
                                            : 2,
                   value, units[i]);
    return out;
}

const char *format_bytes(double bytes, char out[static 32])
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
    return scaled(bytes, units, out);
}

const char *format_rate(double bits_per_s, char out[static 32])
{
    static const char *const units[] = {"bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"};
    return scaled(bits_per_s, units, out);
}
