/*
 * What a configuration file says, key by key, and where: `meshvpn config show`.
 */
#ifndef MVPN_IO_CONFIG_SHOW_H
#define MVPN_IO_CONFIG_SHOW_H

#include <jansson.h>

#include "io/config.h"

/**
 * Read a configuration and describe its keys in the order of the documentation (schema
 * "meshvpn.config/1", docs/schemas): the value as it stands in the file and its line, or only the
 * default. `has_defaults`: keys that are not in the file as well. The file must be good
 * (mvpn_config_load, whose errors these are; MVPN_E_NOMEM). `*ret` is the caller's.
 */
MVPN_WUR int mvpn_config_show(const char *path, enum mvpn_config_kind kind, bool has_defaults,
                              json_t **ret, mvpn_fault *fault);

#endif
