#include "bin/show_protection.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "bin/terminal.h"

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

/* ---- the proof ---- */

typedef struct part {
    const char *key, *name, *failure;
} part;

static void show_part(const terminal *t, const json_t *proof, const part *p)
{
    const json_t *o = json_object_get(proof, p->key);
    bool is_known = json_is_boolean(json_object_get(o, "ok"));
    json_int_t witnesses = json_integer_value(json_object_get(o, "witnesses"));
    (void)printf("  %s %s", is_known ? terminal_mark(t, true) : "-", p->name);
    if (strcmp(p->key, "exit_address") == 0) {
        if (!is_known || witnesses == 1) {
            (void)printf(is_known ? " (only one witness)" : " (no witness known)");
        } else {
            (void)printf(" (%lld witnesses)", (long long)witnesses);
        }
    }
}

void show_proof(const json_t *status)
{
    const json_t *proof = json_object_get(status, "proof");
    const json_t *ipv6 = json_object_get(proof, "ipv6");
    const char *elsewhere = is_on(proof, "astray")
                                ? "routes lead past the tunnel (ip rule shows whose)"
                                : "relays do not see this host at the exit";
    const part parts[] = {
        {"exit_address", "address", elsewhere},
        {"dns", "names", "the exit does not answer"},
        {"ipv6", "IPv6", is_on(ipv6, "carried") ? elsewhere : "neither carried nor refused"},
        {"kill_switch", "kill switch", "a packet left this host outside the tunnel"},
    };
    const size_t count = sizeof(parts) / sizeof(parts[0]);
    size_t failed = 0;
    terminal t;
    if (!json_is_object(proof)) {
        return;
    }
    terminal_init(&t, stdout, false);
    (void)printf("proof   ");
    for (size_t i = 0; i < count; i++) {
        if (json_is_false(json_object_get(json_object_get(proof, parts[i].key), "ok"))) {
            failed++;
        } else {
            show_part(&t, proof, &parts[i]);
        }
    }
    (void)printf(failed == count ? "  none\n" : "\n");
    for (size_t i = 0; i < count; i++) {
        if (json_is_false(json_object_get(json_object_get(proof, parts[i].key), "ok"))) {
            (void)printf("          %s %s: %s\n", terminal_mark(&t, false), parts[i].name,
                         parts[i].failure);
        }
    }
}

void show_split(const json_t *status)
{
    const json_t *split = json_object_get(status, "split");
    const char *mode = json_string_value(json_object_get(split, "mode"));
    if (mode != NULL && strcmp(mode, "outside") == 0) {
        (void)printf("outside   %lld networks, %lld users, %lld cgroups, %lld domains (%lld "
                     "addresses now)\n",
                     (long long)json_integer_value(json_object_get(split, "networks")),
                     (long long)json_integer_value(json_object_get(split, "users")),
                     (long long)json_integer_value(json_object_get(split, "cgroups")),
                     (long long)json_integer_value(json_object_get(split, "domains")),
                     (long long)json_integer_value(json_object_get(split, "addresses_now")));
    } else if (mode != NULL && strcmp(mode, "inside") == 0) {
        (void)printf("inside    %lld networks, %lld users, %lld cgroups, %lld domains (%lld "
                     "addresses now); all else is outside\n",
                     (long long)json_integer_value(json_object_get(split, "networks")),
                     (long long)json_integer_value(json_object_get(split, "users")),
                     (long long)json_integer_value(json_object_get(split, "cgroups")),
                     (long long)json_integer_value(json_object_get(split, "domains")),
                     (long long)json_integer_value(json_object_get(split, "addresses_now")));
    }
}
