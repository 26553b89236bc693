#include "bin/show_links.h"

#include <stdio.h>
#include <string.h>

/* Relayed links that are named on one line; --json has all. */
#define RELAYED_SHOWN 4

/* A relay's name, else the beginning of its identity. */
static const char *name_of(const json_t *o, char out[static 9])
{
    const char *name = json_string_value(json_object_get(o, "name"));
    const char *identity = json_string_value(json_object_get(o, "identity"));
    (void)snprintf(out, 9, "%.8s", identity != NULL ? identity : "?");
    return name != NULL && name[0] != '\0' ? name : out;
}

void show_nat(const json_t *status)
{
    const json_t *nat = json_object_get(status, "nat"), *b;
    const json_t *bindings = json_object_get(nat, "bindings");
    const char *class = json_string_value(json_object_get(nat, "class"));
    unsigned registered = 0;
    size_t i;
    if (class == NULL || (strcmp(class, "unknown") == 0 && json_array_size(bindings) == 0)) {
        return;
    }
    (void)printf("nat       %s", class);
    json_array_foreach(bindings, i, b)
    {
        char text[9];
        if (json_is_true(json_object_get(b, "registered"))) {
            (void)printf("%s%s", registered == 0 ? ", reachable through " : " and ",
                         name_of(b, text));
            registered++;
        }
    }
    if (json_array_size(bindings) > 0 && registered == 0) {
        (void)printf(", not reachable: no NAT relay serves us yet");
    }
    (void)putchar('\n');
}

void show_links(const json_t *status, bool only_relayed)
{
    const json_t *links = json_object_get(status, "links"), *link;
    const json_t *count = json_object_get(status, "link_count");
    unsigned relayed = 0, shown = 0;
    size_t i;
    json_array_foreach(links, i, link)
    {
        relayed += json_is_string(json_object_get(link, "via"));
    }
    if (!json_is_integer(count) || (only_relayed && relayed == 0)) {
        return;
    }
    (void)printf("links     %lld", (long long)json_integer_value(count));
    if (relayed > 0) {
        (void)printf(", %u relayed:", relayed);
    }
    json_array_foreach(links, i, link)
    {
        char text[9];
        const char *via = json_string_value(json_object_get(link, "via"));
        if (via != NULL && shown < RELAYED_SHOWN) {
            (void)printf("%s %s via %s", shown == 0 ? "" : ",", name_of(link, text), via);
            shown++;
        }
    }
    (void)printf("%s\n", relayed > shown ? " ..." : "");
}
