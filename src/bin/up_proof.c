#include "bin/up_proof.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define LINES 4

typedef struct proof_line {
    const char *name, *title;
    bool is_good;
    char text[160];
} proof_line;

static const char *text_of(const json_t *o, const char *key)
{
    const char *text = json_string_value(json_object_get(o, key));
    return text != NULL ? text : "";
}

static void say(proof_line *line, const char *name, const char *title, bool is_good,
                const char *text)
{
    *line = (proof_line){.name = name, .title = title, .is_good = is_good};
    (void)snprintf(line->text, sizeof(line->text), "%s", text);
}

static bool names_resolve(const json_t *status)
{
    const json_t *stage;
    size_t i;
    json_array_foreach(json_object_get(status, "stages"), i, stage)
    {
        if (strcmp(text_of(stage, "name"), "names") == 0) {
            return strcmp(text_of(stage, "state"), "done") == 0;
        }
    }
    return false;
}

static void fill(const json_t *status, proof_line lines[static LINES])
{
    const json_t *path = json_object_get(status, "path");
    const json_t *exit = json_array_get(path, json_array_size(path) - 1);
    const json_t *protection = json_object_get(status, "protection");
    const char *address = text_of(status, "exit_address"), *country = text_of(exit, "country");
    bool has_v6 = json_is_true(json_object_get(status, "ipv6"));
    bool is_on = json_is_true(json_object_get(protection, "kill_switch"));
    bool resolves = names_resolve(status);
    char text[160];
    (void)snprintf(text, sizeof(text), "%s%s%s%s%s%s", address[0] != '\0' ? address : "not known",
                   text_of(exit, "name")[0] != '\0' ? " " : "", text_of(exit, "name"),
                   country[0] != '\0' ? " (" : "", country, country[0] != '\0' ? ")" : "");
    say(&lines[0], "exit", "exit address", address[0] != '\0', text);
    say(&lines[1], "dns", "DNS", resolves,
        resolves ? "answered through the tunnel" : "no answer through the tunnel");
    say(&lines[2], "ipv6", "IPv6", true,
        has_v6 ? "carried" : "not carried by this exit, and refused here: nothing leaks");
    say(&lines[3], "kill_switch", "kill switch", is_on,
        is_on                        ? "on: nothing leaves outside the tunnel"
        : json_is_object(protection) ? "off: without the tunnel, packets leave as they are"
                                     : "none: a proxy protects its programs alone");
}

void up_proof_show(const terminal *t, const json_t *status)
{
    proof_line lines[LINES];
    fill(status, lines);
    for (size_t i = 0; i < LINES; i++) {
        const proof_line *l = &lines[i];
        (void)printf("  %s%s%s %-13s %s\n",
                     terminal_style_code(t, l->is_good ? TERMINAL_GREEN : TERMINAL_RED),
                     terminal_mark(t, l->is_good), terminal_style_code(t, TERMINAL_PLAIN), l->title,
                     l->text);
    }
    (void)fflush(stdout);
}

json_t *up_proof_json(const json_t *status)
{
    proof_line lines[LINES];
    json_t *o = json_object();
    fill(status, lines);
    for (size_t i = 0; i < LINES; i++) {
        (void)json_object_set_new(
            o, lines[i].name,
            json_pack("{s:b, s:s}", "is_good", lines[i].is_good, "text", lines[i].text));
    }
    return o;
}

bool up_proof_is_awaited(const json_t *status)
{
    (void)status;
    return false;
}
