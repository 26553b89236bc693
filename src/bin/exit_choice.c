#include "bin/exit_choice.h"

#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "bin/ask.h"

/* Blocked ones in one line. */
#define SHOWN_MAX 6

enum {
    EXIT_DONE = 0,
    EXIT_USAGE = OPTIONS_USAGE,
};

static const char *text_of(const json_t *o, const char *key)
{
    const char *text = json_string_value(json_object_get(o, key));
    return text != NULL ? text : "";
}

/* "; blocked: US, maple": as many as a line of a screen shows. */
static void print_blocked(const json_t *choice, bool is_first)
{
    const json_t *blocked = json_object_get(choice, "blocked"), *item;
    size_t i;
    json_array_foreach(blocked, i, item)
    {
        if (i == SHOWN_MAX) {
            (void)printf(" and %zu more", json_array_size(blocked) - i);
            break;
        }
        (void)printf("%s%s",
                     i > 0      ? ", "
                     : is_first ? "blocked: "
                                : "; blocked: ",
                     json_string_value(item));
    }
}

void exit_choice_print(const json_t *status)
{
    const json_t *choice = json_object_get(status, "exit_choice");
    const char *use = text_of(choice, "use"), *reason = text_of(choice, "reason");
    bool is_auto = use[0] == '\0' || strcmp(use, "auto") == 0;
    if (is_auto && json_array_size(json_object_get(choice, "blocked")) == 0) {
        return;
    }
    (void)printf("chosen    %s", is_auto ? "" : use);
    print_blocked(choice, is_auto);
    (void)putchar('\n');
    if (reason[0] != '\0') {
        (void)printf("          %s\n", reason);
    }
}

/* What holds now; talk goes to stderr. */
static void print_choice(const json_t *reply)
{
    const json_t *choice = json_object_get(reply, "exit_choice");
    const char *use = text_of(choice, "use"), *reason = text_of(choice, "reason");
    (void)printf("exit: %s", strcmp(use, "auto") == 0 ? "auto, whichever is drawn" : use);
    print_blocked(choice, false);
    (void)putchar('\n');
    if (text_of(reply, "note")[0] != '\0') {
        (void)fprintf(stderr, "meshvpn: %s\n", text_of(reply, "note"));
    } else if (reason[0] != '\0') {
        (void)fprintf(stderr, "meshvpn: %s. Open connections keep their exit until they end\n",
                      reason);
    }
}

static int change(const options_given *given, const char *cmd)
{
    char found[PATH_MAX];
    int exit_status = EXIT_DONE;
    const char *socket = ask_socket(given, found);
    if (socket == NULL) {
        return EXIT_USAGE;
    }
    json_t *reply = ask_daemon(
        socket, json_pack("{s:s, s:s}", "cmd", cmd, "exit", given->operands[0]), &exit_status);
    if (reply != NULL) {
        print_choice(reply);
        json_decref(reply);
    }
    return exit_status;
}

int exit_use_command(const options_given *given)
{
    return change(given, "exit-use");
}

int exit_block_command(const options_given *given)
{
    return change(given, "exit-block");
}

int exit_unblock_command(const options_given *given)
{
    return change(given, "exit-unblock");
}
