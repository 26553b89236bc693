#include "bin/show_protection.h"

#include <stdbool.h>
#include <stdio.h>

static bool is_on(const json_t *object, const char *key)
{
    return json_is_true(json_object_get(object, key));
}

void show_protection(const json_t *status)
{
    const json_t *protection = json_object_get(status, "protection");
    if (!json_is_object(protection)) {
        return;
    }
    if (!is_on(protection, "kill_switch")) {
        (void)printf("protected NO: the kill switch is off\n");
        return;
    }
    json_int_t repaired = json_integer_value(json_object_get(protection, "repaired"));
    (void)printf("protected kill switch on, lockdown %s, local network %s",
                 is_on(protection, "lockdown") ? "on" : "off",
                 is_on(protection, "allow_lan") ? "open" : "closed");
    if (repaired > 0) {
        (void)printf("; repaired %lld time%s after other programs", (long long)repaired,
                     repaired == 1 ? "" : "s");
    }
    (void)putchar('\n');
}
