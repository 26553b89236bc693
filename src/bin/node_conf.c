#include "bin/node_conf.h"

#include <stdio.h>
#include <stdlib.h>

static void put_listen(FILE *out, const node_conf *c)
{
    bool has_family[7] = {false};
    const char *gap = "";
    if (c->is_at_home) {
        (void)fprintf(out, "listen = {\"0.0.0.0:%d\", \"[::]:%d\"}\n", NODE_HOME_PORT,
                      NODE_HOME_PORT);
        return;
    }
    (void)fputs("listen = {", out);
    for (unsigned i = 0; i < c->address_count; i++) {
        const mvpn_addr *a = &c->addresses[i];
        if (!has_family[a->family]) {
            (void)fprintf(out, "%s\"%s:%u\"", gap, a->family == 4 ? "0.0.0.0" : "[::]",
                          (unsigned)a->port);
            has_family[a->family] = true;
            gap = ", ";
        }
    }
    (void)fputs("}\n", out);
}

static void put_address(FILE *out, const node_conf *c)
{
    char text[MVPN_ADDR_STRLEN];
    if (c->is_at_home) {
        (void)fputs("behind_nat = true\n", out);
        return;
    }
    (void)fputs("address = {", out);
    for (unsigned i = 0; i < c->address_count; i++) {
        (void)fprintf(out, "%s\"%s\"", i > 0 ? ", " : "", mvpn_addr_format(&c->addresses[i], text));
    }
    (void)fputs("}\n", out);
}

static void put_number(FILE *out, const char *key, unsigned long number)
{
    if (number != 0) {
        (void)fprintf(out, "%s = %lu\n", key, number);
    }
}

char *node_conf_text(const node_conf *c)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (out == NULL) {
        return NULL;
    }
    (void)fprintf(out, "%snetwork_file = \"%s\"\nkey_dir = \"%s\"\n", c->head, c->network_file,
                  c->key_dir);
    put_listen(out, c);
    (void)fprintf(out, "control_socket = \"/run/meshvpn/%s.sock\"\nname = %s\n", c->control_name,
                  c->name);
    put_address(out, c);
    if (c->country != NULL) {
        (void)fprintf(out, "country = %s\n", c->country);
    }
    put_number(out, "bandwidth_mbit", c->bandwidth_mbit);
    put_number(out, "relay_limit", c->limit_mbit);
    put_number(out, "monthly_quota", c->quota_gb);
    if (c->is_nat_relay) {
        (void)fputs("nat_relay = true\n", out);
    }
    if (c->provider != NULL) {
        (void)fprintf(out, "provider = \"%s\"\n", c->provider);
    }
    if (c->http_name != NULL) {
        (void)fprintf(out, "http_names = {\"%s\"}\n", c->http_name);
    }
    if (c->policy_file != NULL) {
        (void)fprintf(out, "policy_file = \"%s\"\n", c->policy_file);
    }
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}
