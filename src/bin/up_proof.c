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

/* What the test says of a part: 1 holds, 0 fails, -1 not tested. */
static int tested(const json_t *status, const char *key)
{
    const json_t *ok =
        json_object_get(json_object_get(json_object_get(status, "proof"), key), "ok");
    return json_is_boolean(ok) ? json_is_true(ok) : -1;
}

static void fill_exit(const json_t *status, proof_line *line)
{
    const json_t *path = json_object_get(status, "path");
    const json_t *exit = json_array_get(path, json_array_size(path) - 1);
    const json_t *seen = json_object_get(json_object_get(status, "proof"), "exit_address");
    const char *published = text_of(status, "exit_address"), *address = text_of(seen, "seen");
    const char *name = text_of(exit, "name"), *country = text_of(exit, "country");
    json_int_t witnesses = json_integer_value(json_object_get(seen, "witnesses"));
    int is_tested = tested(status, "exit_address");
    bool is_astray = json_is_true(json_object_get(json_object_get(status, "proof"), "astray"));
    char text[160], by[40] = ", seen by a relay";
    address = address[0] != '\0' ? address : published;
    if (witnesses > 1) {
        (void)snprintf(by, sizeof(by), ", seen by %d relays", (int)witnesses);
    }
    (void)snprintf(text, sizeof(text), "%.48s%s%.32s%s%.2s%s%s",
                   address[0] != '\0' ? address : "not known", name[0] != '\0' ? " " : "", name,
                   country[0] != '\0' ? " (" : "", country, country[0] != '\0' ? ")" : "",
                   is_tested == 0 && is_astray
                       ? ": routes lead past the tunnel (ip rule shows whose)"
                   : is_tested == 0 ? ": relays see this computer elsewhere"
                   : witnesses > 0  ? by
                                    : ", as it says of itself");
    say(line, "exit", "exit address", is_tested != 0 && address[0] != '\0', text);
}

static void fill(const json_t *status, proof_line lines[static LINES])
{
    const json_t *protection = json_object_get(status, "protection");
    const json_t *split = json_object_get(status, "split");
    bool is_part = strcmp(text_of(split, "mode"), "inside") == 0;
    bool has_all_names = !is_part || json_integer_value(json_object_get(split, "domains")) > 0;
    bool has_v6 = json_is_true(json_object_get(status, "ipv6"));
    bool is_on = json_is_true(json_object_get(protection, "kill_switch"));
    int names = tested(status, "dns"), ipv6 = tested(status, "ipv6");
    int kill_switch = tested(status, "kill_switch");
    bool resolves = names == -1 ? names_resolve(status) : names == 1;
    fill_exit(status, &lines[0]);
    say(&lines[1], "dns", "DNS", resolves,
        resolves && !has_all_names ? "answered through the tunnel, to who asks there"
        : resolves                 ? "answered through the tunnel"
                                   : "no answer through the tunnel");
    say(&lines[2], "ipv6", "IPv6", ipv6 != 0,
        ipv6 == 0             ? "neither carried nor refused"
        : ipv6 == 1 && has_v6 ? "carried"
        : has_v6              ? "carried, as the exit says"
                              : "not carried by this exit, and refused here: nothing leaks");
    say(&lines[3], "kill_switch", "kill switch", is_on && kill_switch != 0,
        kill_switch == 0             ? "a packet left this computer outside the tunnel"
        : is_on && is_part           ? "on: nothing of inside_* leaves outside the tunnel"
        : is_on                      ? "on: nothing leaves outside the tunnel"
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
