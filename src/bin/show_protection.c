#include "bin/show_protection.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static bool is_on(const json_t *object, const char *key)
{
    return json_is_true(json_object_get(object, key));
}

static void show_repaired(const json_t *object)
{
    json_int_t repaired = json_integer_value(json_object_get(object, "repaired"));
    if (repaired > 0) {
        (void)printf("; repaired %lld time%s after other programs", (long long)repaired,
                     repaired == 1 ? "" : "s");
    }
    (void)putchar('\n');
}

void show_names(const json_t *status)
{
    const json_t *dns = json_object_get(status, "dns");
    const char *manager = json_string_value(json_object_get(dns, "manager"));
    const char *state = json_string_value(json_object_get(status, "state"));
    if (manager == NULL || strcmp(manager, "none") == 0) {
        return;
    }
    if (is_on(dns, "is_set")) {
        (void)printf("names     through the tunnel (%s)", manager);
        show_repaired(dns);
    } else if (state != NULL && strcmp(state, "connected") == 0) {
        (void)printf("names     NOT through the tunnel: %s does not take it; the log says why\n",
                     manager);
    }
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
    (void)printf("protected kill switch on, lockdown %s, local network %s",
                 is_on(protection, "lockdown") ? "on" : "off",
                 is_on(protection, "allow_lan") ? "open" : "closed");
    show_repaired(protection);
}
