#include "io/config_values.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"

int mvpn_config_bad(mvpn_fault *why, const char *text)
{
    return mvpn_fault_set(why, MVPN_E_CONFIG, "%s", text);
}

int mvpn_config_set_path(char *out, size_t size, const mvpn_setting_value *v, mvpn_fault *why)
{
    size_t len = strlen(v->text);
    if (len == 0 || len >= size) {
        return mvpn_fault_set(why, MVPN_E_CONFIG, "a path of 1 to %zu characters is expected",
                              size - 1);
    }
    memcpy(out, v->text, len + 1);
    return 0;
}

int mvpn_config_set_word(int *out, const mvpn_config_word *words, const mvpn_setting_value *v,
                         mvpn_fault *why)
{
    char expected[128] = "";
    for (; words->text != NULL; words++) {
        if (strcmp(words->text, v->text) == 0) {
            *out = words->value;
            return 0;
        }
        size_t used = strlen(expected);
        (void)snprintf(expected + used, sizeof(expected) - used, "%s%s",
                       used == 0               ? ""
                       : words[1].text == NULL ? " or "
                                               : ", ",
                       words->text);
    }
    return mvpn_fault_set(why, MVPN_E_CONFIG, "'%.40s' is not possible. Write %s", v->text,
                          expected);
}

int mvpn_config_set_number(uint32_t *out, const mvpn_setting_value *v, long min, long max,
                           mvpn_fault *why)
{
    if (v->number < min || v->number > max) {
        return mvpn_fault_set(why, MVPN_E_CONFIG,
                              "%ld is out of range. Write a number from %ld to %ld", v->number, min,
                              max);
    }
    *out = (uint32_t)v->number;
    return 0;
}
