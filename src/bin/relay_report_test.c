/* What a relay's status means: a row for every verdict, and what is shown of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/macros.h"
#include "bin/relay_report.h"

#define LINK(age) "{\"initiator\":false,\"open\":true,\"since_s\":" age "}"
#define OUT_LINK "{\"initiator\":true,\"open\":true,\"since_s\":9}"
#define HALF_LINK "{\"initiator\":false,\"open\":false,\"since_s\":9}"
#define OVER_NAT "{\"initiator\":false,\"open\":true,\"since_s\":9,\"nat_relay\":\"oak\"}"
#define PUBLIC "\"nat\":{\"class\":\"no NAT\",\"bindings\":[]}"
#define HOME "\"offer\":{\"behind_nat\":true,\"addresses\":[]}"
#define OFFER                                                                                      \
    "\"offer\":{\"name\":\"elm\",\"addresses\":[\"192.0.2.1:443\"],\"seen\":[\"192.0.2.1:443\"],"  \
    "\"limit_mbit\":50}"
#define PUBLISHED "\"dht\":{\"is_published\":true}"
#define OLD "\"since_s\":901"
#define YOUNG "\"since_s\":899"

static json_t *parse(const char *text)
{
    json_error_t error;
    json_t *object = json_loads(text, 0, &error);
    if (object == NULL) {
        fail_msg("%s: %s", error.text, text);
    }
    return object;
}

static void test_verdicts(void **state)
{
    static const struct {
        const char *status;
        enum relay_reach reach;
        const char *text;
        const char *advice; /* NULL: none */
        unsigned links_in;
    } rows[] = {
        {"{" OLD "," PUBLIC "," PUBLISHED "," OFFER ",\"links\":[" LINK("7") "," OUT_LINK "]}",
         RELAY_REACHED, "opened links", NULL, 1},
        {"{" YOUNG "," PUBLIC "," OFFER ",\"links\":[],\"links_unnamed\":2}", RELAY_REACHED,
         "opened links", NULL, 0},
        {"{" OLD "," PUBLIC "," PUBLISHED "," OFFER ",\"links\":[" OUT_LINK "," HALF_LINK "]}",
         RELAY_SILENT, "nobody has come", "let UDP to its port in", 0},
        {"{" OLD ",\"nat\":{\"class\":\"symmetric\"}," PUBLISHED "," OFFER ",\"links\":[]}",
         RELAY_SILENT, "a NAT stands before it", "forward its UDP port", 0},
        {"{" OLD ",\"nat\":{\"class\":\"symmetric\"}," PUBLISHED "," OFFER ",\"links\":[" OVER_NAT
         "]}",
         RELAY_SILENT, "a NAT", "forward", 1},
        {"{" OLD "," PUBLIC "," PUBLISHED ",\"offer\":{\"addresses\":[\"192.0.2.1:443\"],\"seen\":["
         "\"198.51.100.2:443\"]},\"links\":[]}",
         RELAY_SILENT, "at another address", "with the address where it is seen", 0},
        {"{" OLD "," PUBLIC "," PUBLISHED
         ",\"offer\":{\"addresses\":[\"[2001:db8::1]:443\",\"192.0.2.1:443\"],\"seen\":[\"192.0.2."
         "1:5000\"]},\"links\":[]}",
         RELAY_SILENT, "it is published, and nobody", "let UDP", 0},
        {"{" YOUNG "," PUBLIC "," PUBLISHED "," OFFER ",\"links\":[]}", RELAY_NOT_YET,
         "that takes minutes", NULL, 0},
        {"{" OLD "," PUBLIC ",\"dht\":{\"is_published\":false}," OFFER ",\"links\":[]}",
         RELAY_NOT_YET, "not told", NULL, 0},
        {"{" OLD "," PUBLIC ",\"dht\":{\"is_published\":false},\"offer\":{\"addresses\":[]}}",
         RELAY_NOT_YET, "not told", "no address to publish", 0},
        {"{" OLD "," HOME ",\"nat\":{\"class\":\"symmetric\",\"bindings\":[{\"name\":\"oak\","
         "\"registered\":true}]}}",
         RELAY_BY_RELAY, "through its NAT relays", NULL, 0},
        {"{" OLD "," HOME ",\"nat\":{\"class\":\"symmetric\",\"bindings\":[{\"name\":\"oak\","
         "\"registered\":false}]}}",
         RELAY_SILENT, "no NAT relay serves it", "nat_relay = true", 0},
        {"{" YOUNG "," HOME "," PUBLIC "}", RELAY_NOT_YET, "no NAT relay serves it yet", NULL, 0},
        {"{" OLD "," PUBLIC "," PUBLISHED "," OFFER
         ",\"blocked_by\":\"silence\",\"links\":[" LINK("7") "]}",
         RELAY_MUTE, "hears nobody", "netcheck", 1},
        {"{}", RELAY_NOT_YET, "nobody has come yet", NULL, 0},
    };
    (void)state;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        relay_verdict v;
        json_t *status = parse(rows[i].status);
        relay_judge(&v, status);
        if (v.reach != rows[i].reach || strstr(v.text, rows[i].text) == NULL ||
            (v.advice == NULL) != (rows[i].advice == NULL) || v.links_in != rows[i].links_in ||
            (v.advice != NULL && strstr(v.advice, rows[i].advice) == NULL)) {
            fail_msg("row %zu: %s: %s (%s)", i, relay_reach_name(v.reach), v.text, v.advice);
        }
        json_decref(status);
    }
}

static void test_shown(void **state)
{
    char *text = NULL;
    size_t size = 0;
    (void)state;
    json_t *status =
        parse("{\"role\":\"exit\"," OLD "," PUBLIC "," PUBLISHED "," OFFER ",\"links\":[" LINK(
            "70") "],"
                  "\"link_count\":3,\"links_unnamed\":2,\"circuits\":4,\"sessions\":1,"
                  "\"nat_relay\":{\"sessions\":5},\"counters\":{\"bytes_in\":1000,\"bytes_out\":0},"
                  "\"quota\":{\"limit_bytes\":1000000000000,\"used_bytes\":250000000000}}");
    json_t *later = parse("{\"counters\":{\"bytes_in\":126000,\"bytes_out\":62500}}");
    json_t *relay = relay_describe("/run/x.sock", status, later, 0.5);
    FILE *out = open_memstream(&text, &size);
    relay_print(out, relay);
    (void)fclose(out);
    static const char *const lines[] = {
        "exit      elm, running for 15 min 1 s\n",
        "published yes\n",
        "at        192.0.2.1:443\n",
        "seen at   192.0.2.1:443\n",
        "reached   yes: others have opened links to it by themselves\n",
        "links     3: 1 that other relays opened, the last 1 min 10 s ago; 2 of clients\n",
        "guests    5 reach the network through it\n",
        "circuits  4\n",
        "rate      2.00 Mbit/s in, 1.00 Mbit/s out; at most 50 Mbit/s\n",
        "quota     750 GB of 1.00 TB left this month\n",
    };
    for (size_t i = 0; i < MVPN_ARRAY_LEN(lines); i++) {
        if (strstr(text, lines[i]) == NULL) {
            fail_msg("'%s' is not in '%s'", lines[i], text);
        }
    }
    assert_null(strstr(text, "todo"));
    free(text);
    json_decref(relay);
    json_decref(later);
    json_decref(status);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_verdicts),
                                       cmocka_unit_test(test_shown)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
