/* What a discovery node shows: searches, errors, bytes that others verify, metrics. No sockets. */
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "core/survey_internal.h"
#include "crypto/x25519.h"
#include "io/discovery_api.h"

#define UNIX_NOW 1800000000ull
#define RELAYS 5

static mvpn_rng rng;
static mvpn_trust trust;
static mvpn_ed25519_secret network_secret;
static mvpn_view *view;
static mvpn_survey *survey;
static mvpn_ed25519_pub who[RELAYS];
static mvpn_discovery disc;
static const char *const names[] = {"localhost", "127.0.0.1", "[::1]"};
static mvpn_http_response last;

static const struct known {
    const char *name, *country, *provider;
    uint16_t roles;
    uint32_t kbit;
    unsigned hours;
} known[RELAYS] = {
    {"alpha", "DE", "Rack & Sons", MVPN_ROLE_GUARD | MVPN_ROLE_MIDDLE, 80000, 100},
    {"bravo", "FR", "Otter", MVPN_ROLE_MIDDLE | MVPN_ROLE_EXIT, 20000, 5},
    {"charlie", "DE", "Otter", MVPN_ROLE_EXIT, 500000, 1},
    {"delta", "", "", MVPN_ROLE_DHT_SERVER, 0, 0},
    {"gone", "DE", "Otter", 0, 900000, 500}, /* withdrawn */
};

static void add_relay(size_t i)
{
    mvpn_ed25519_secret secret;
    uint8_t seed[32] = {(uint8_t)(i + 1), 0x77};
    mvpn_descriptor d = {
        .sequence = 1,
        .published = UNIX_NOW - 100,
        .expires = UNIX_NOW + 3000,
        .onion_key_count = 1,
        .address_count = 1,
        .addresses = {{MVPN_CARRIER_PLAIN, {4, 443, {11, (uint8_t)i, 0, 1}}}},
        .roles = known[i].roles,
        .has_bandwidth = i == 0,
        .bandwidth_kbit = 1000000,
        .has_membership = true,
    };
    mvpn_ed25519_from_seed(&who[i], &secret, seed);
    d.identity = who[i];
    memcpy(d.name, known[i].name, strlen(known[i].name) + 1);
    memcpy(d.country, known[i].country, strlen(known[i].country) + 1);
    memcpy(d.provider, known[i].provider, strlen(known[i].provider) + 1);
    mvpn_key link = {{(uint8_t)(i + 1)}};
    mvpn_link_certificate_make(d.link_certificate, &secret, &who[i], &link, UNIX_NOW - 1000,
                               UNIX_NOW + 9000, &trust.network_id);
    mvpn_membership_make(d.membership, &network_secret, &who[i], 0xffff, UNIX_NOW - 1000,
                         UNIX_NOW + 9000, i + 1, &trust.network_id);
    assert_int_equal(mvpn_descriptor_sign(&d, &secret, &trust.network_id), 0);
    d.link_key = link;
    assert_int_equal(mvpn_view_add(view, &d), 0);
    if (i == 3) {
        return; /* nothing is known of it */
    }
    survey_entry *e = survey_add(survey, &who[i]);
    assert_non_null(e);
    e->relay = (mvpn_survey_relay){
        .identity = who[i],
        .first_seen = UNIX_NOW - 400 * 3600,
        .last_checked = UNIX_NOW - 10,
        .last_answered = UNIX_NOW - 10,
        .up_since = UNIX_NOW - known[i].hours * 3600,
        .samples = 1,
        .kbit = {known[i].kbit},
    };
    e->relay.country_wrong = i == 1;
}

static int setup(void **state)
{
    (void)state;
    uint8_t seed[32] = {9};
    mvpn_rng_init_test(&rng, 3);
    mvpn_ed25519_from_seed(&trust.network_pub, &network_secret, seed);
    mvpn_network_id(&trust.network_id, &trust.network_pub);
    trust.closed = true;
    const mvpn_view_config vc = {.trust = &trust};
    assert_int_equal(mvpn_view_new(&vc, &view), 0);
    mvpn_survey_config sc = {
        .env = {.rng = &rng, .view = view, .realm = {.network_id = trust.network_id}},
        .unix_offset_us = (int64_t)(UNIX_NOW * MVPN_US_PER_S),
        .has_membership = true,
    };
    seed[0] = 10;
    mvpn_ed25519_from_seed(&sc.identity, &sc.secret, seed);
    mvpn_membership_make(sc.membership, &network_secret, &sc.identity, MVPN_ROLE_DISCOVERY,
                         UNIX_NOW - 1000, UNIX_NOW + 9000, 99, &trust.network_id);
    assert_int_equal(mvpn_survey_new(&sc, 0, &survey), 0);
    for (size_t i = 0; i < RELAYS; i++) {
        add_relay(i);
    }
    disc = (mvpn_discovery){
        .view = view,
        .survey = survey,
        .network_name = "test net",
        .network_id = trust.network_id,
        .closed = true,
        .names = names,
        .name_count = MVPN_ARRAY_LEN(names),
        .unix_now = UNIX_NOW,
        .started = UNIX_NOW - 77,
        .nodes = 1234,
    };
    disc.entries[0] = (mvpn_dht_contact){.addr = {4, 443, {11, 0, 0, 1}}};
    mvpn_dht_node_id(&disc.entries[0].id, &who[0], &disc.entries[0].addr);
    disc.entry_count = 1;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mvpn_http_blob_release(last.body);
    last.body = NULL;
    mvpn_discovery_done(&disc);
    mvpn_survey_free(survey, 0);
    mvpn_view_free(view);
    return 0;
}

static void make_snapshot(void)
{
    survey->last_answer = MVPN_S(601);
    survey_make_snapshot(survey, MVPN_S(601));
    assert_non_null(mvpn_survey_head(survey, 0));
}

static unsigned get_with(const char *target, const char *etag)
{
    const mvpn_http_request r = {"GET", target, "localhost:8080", etag};
    mvpn_http_blob_release(last.body);
    mvpn_discovery_handle(&disc, &r, &last);
    return last.status;
}

static unsigned get(const char *target)
{
    return get_with(target, NULL);
}

/* The body as JSON with this schema; the caller's. */
static json_t *body_json(const char *schema)
{
    json_error_t error;
    assert_non_null(last.body);
    assert_string_equal(last.type, "application/json");
    json_t *o =
        json_loadb((const char *)last.body->bytes, last.body->n, JSON_REJECT_DUPLICATES, &error);
    assert_non_null(o);
    assert_string_equal(json_string_value(json_object_get(o, "schema")), schema);
    return o;
}

/* ---- searches ---- */

static void test_searches(void **state)
{
    static const struct {
        const char *query, *found; /* first letters of the names, in order */
        int total;
    } rows[] = {
        {"", "cabd", 4},
        {"?", "cabd", 4},
        {"?sort=name", "abcd", 4},
        {"?sort=uptime", "abcd", 4},
        {"?sort=country&q=otter", "cb", 2},
        {"?country=DE", "ca", 2},
        {"?country=de", "ca", 2},
        {"?country=SE", "", 0},
        {"?role=exit", "cb", 2},
        {"?role=guard", "a", 1},
        {"?role=dht", "d", 1},
        {"?role=discovery", "", 0},
        {"?min_mbit=20", "cab", 3},
        {"?min_mbit=21", "ca", 2},
        {"?min_mbit=1000000", "", 0},
        {"?min_uptime_h=5", "ab", 2},
        {"?min_uptime_h=6", "a", 1},
        {"?alive=1", "cab", 3},
        {"?alive=0", "d", 1},
        {"?q=OTTER", "cb", 2},
        {"?q=rack+%26+s", "a", 1},
        {"?q=rack%20%26", "a", 1},
        {"?q=elt", "d", 1},
        {"?q=zzz", "", 0},
        {"?limit=1", "c", 4},
        {"?limit=2&offset=1", "ab", 4},
        {"?offset=4", "", 4},
        {"?offset=1000000", "", 4},
        {"?country=&role=&q=", "cabd", 4},
        {"?country=DE&role=exit&min_mbit=100&min_uptime_h=1&alive=1&q=char&sort=speed&limit=5&"
         "offset=0",
         "c", 1},
        {"?&&role=exit&", "cb", 2},
    };
    (void)state;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        char target[256] = "/v1/relays", found[8] = "";
        memcpy(target + 10, rows[i].query, strlen(rows[i].query) + 1);
        assert_int_equal(get(target), 200);
        json_t *o = body_json("meshvpn.relays/1"), *list = json_object_get(o, "relays"), *relay;
        size_t n;
        json_array_foreach(list, n, relay)
        {
            found[n] = json_string_value(json_object_get(relay, "name"))[0];
        }
        found[n] = '\0';
        if (strcmp(found, rows[i].found) != 0) {
            fail_msg("%s: found '%s', not '%s'", rows[i].query, found, rows[i].found);
        }
        assert_int_equal(json_integer_value(json_object_get(o, "total")), rows[i].total);
        json_decref(o);
    }
}

static void test_one_relay(void **state)
{
    char target[80] = "/v1/relays/";
    (void)state;
    for (size_t i = 0; i < 32; i++) {
        static const char digits[] = "0123456789abcdef";
        target[11 + 2 * i] = digits[who[1].b[i] >> 4];
        target[12 + 2 * i] = digits[who[1].b[i] & 15];
    }
    assert_int_equal(get(target), 200);
    json_t *o = body_json("meshvpn.relay/1"), *r = json_object_get(o, "relay");
    assert_string_equal(json_string_value(json_object_get(r, "identity")), target + 11);
    assert_string_equal(json_string_value(json_object_get(r, "country")), "FR");
    assert_true(json_is_true(json_object_get(r, "country_wrong")));
    assert_true(json_is_true(json_object_get(r, "alive")));
    assert_true(json_real_value(json_object_get(r, "mbit")) == 20.0);
    assert_true(json_is_null(json_object_get(r, "declared_mbit")));
    assert_int_equal(json_integer_value(json_object_get(r, "uptime_h")), 5);
    assert_int_equal(json_array_size(json_object_get(r, "roles")), 2);
    assert_string_equal(json_string_value(json_array_get(json_object_get(r, "addresses"), 0)),
                        "11.1.0.1:443");
    json_decref(o);
    target[20] = target[20] == 'a' ? 'b' : 'a';
    assert_int_equal(get(target), 404);
    json_decref(body_json("meshvpn.error/1"));
}

/* ---- what is refused, and how ---- */

static void test_bad_requests(void **state)
{
    static const struct {
        const char *method, *host, *target;
        unsigned status;
    } rows[] = {
        {"GET", "localhost", "/v1/relays?country=D", 400},
        {"GET", "localhost", "/v1/relays?country=DEU", 400},
        {"GET", "localhost", "/v1/relays?country=1A", 400},
        {"GET", "localhost", "/v1/relays?role=boss", 400},
        {"GET", "localhost", "/v1/relays?role=exit&role=guard", 400},
        {"GET", "localhost", "/v1/relays?role", 400},
        {"GET", "localhost", "/v1/relays?=1", 400},
        {"GET", "localhost", "/v1/relays?min_mbit=-1", 400},
        {"GET", "localhost", "/v1/relays?min_mbit=1.5", 400},
        {"GET", "localhost", "/v1/relays?min_mbit=1000001", 400},
        {"GET", "localhost", "/v1/relays?min_mbit=99999999999999999999", 400},
        {"GET", "localhost", "/v1/relays?min_uptime_h=65536", 400},
        {"GET", "localhost", "/v1/relays?alive=2", 400},
        {"GET", "localhost", "/v1/relays?alive=01", 400},
        {"GET", "localhost", "/v1/relays?limit=0", 400},
        {"GET", "localhost", "/v1/relays?limit=1001", 400},
        {"GET", "localhost", "/v1/relays?offset=x", 400},
        {"GET", "localhost", "/v1/relays?sort=best", 400},
        {"GET", "localhost", "/v1/relays?speed=1", 400},
        {"GET", "localhost", "/v1/relays?q=%", 400},
        {"GET", "localhost", "/v1/relays?q=%4", 400},
        {"GET", "localhost", "/v1/relays?q=%zz", 400},
        {"GET", "localhost", "/v1/relays?q=%00", 400},
        {"GET", "localhost", "/v1/relays?q=%0a", 400},
        {"GET", "localhost", "/v1/relays?q=\xc3\xa4", 400},
        {"GET", "localhost",
         "/v1/relays?q=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 400},
        {"GET", "localhost", "/v1/relays/", 400},
        {"GET", "localhost", "/v1/relays/abc", 400},
        {"GET", "localhost",
         "/v1/relays/ABCDEF0000000000000000000000000000000000000000000000000000000000", 400},
        {"GET", "localhost", "/v1/relays/../metrics", 400},
        {"GET", "localhost", "/v1/network?x=1", 400},
        {"GET", "localhost", "/v1/snapshot/", 400},
        {"GET", "localhost", "/v1/snapshot/zz", 400},
        {"GET", "localhost",
         "/v1/snapshot/0000000000000000000000000000000000000000000000000000000000000000", 404},
        {"GET", "localhost", "/v1/snapshot", 503}, /* none was made yet */
        {"GET", "localhost", "/v1", 404},
        {"GET", "localhost", "//", 404},
        {"GET", "localhost", "/metrics/", 404},
        {"GET", "localhost", "/%6detrics", 404},
        {"GET", "localhost", "metrics", 400},
        {"GET", "localhost", "", 400},
        {"GET", "localhost", "http://localhost/metrics", 400},
        {"POST", "localhost", "/v1/relays", 405},
        {"DELETE", "localhost", "/", 405},
        {"get", "localhost", "/", 405},
        {"GET", NULL, "/", 400},
        {"GET", "evil.example", "/", 421},
        {"GET", "localhost.evil.example", "/", 421},
        {"GET", "localhost:80:80", "/", 421},
        {"GET", "localhost:x", "/", 421},
        {"GET", "[::1", "/", 421},
        {"GET", "", "/", 421},
        {"GET", "LOCALHOST:8080", "/metrics", 200},
        {"GET", "[::1]:8080", "/metrics", 200},
        {"HEAD", "127.0.0.1", "/metrics", 200},
    };
    (void)state;
    for (size_t i = 0; i < MVPN_ARRAY_LEN(rows); i++) {
        const mvpn_http_request r = {rows[i].method, rows[i].target, rows[i].host, NULL};
        mvpn_http_blob_release(last.body);
        mvpn_discovery_handle(&disc, &r, &last);
        if (last.status != rows[i].status) {
            fail_msg("%s %s of %s: %u, not %u", rows[i].method, rows[i].target,
                     rows[i].host == NULL ? "nobody" : rows[i].host, last.status, rows[i].status);
        }
        if (last.status >= 400) {
            json_t *o = body_json("meshvpn.error/1");
            assert_true(json_string_length(json_object_get(o, "error")) > 10);
            json_decref(o);
        }
    }
}

/* ---- the network, snapshots, the bundle ---- */

static void test_network(void **state)
{
    (void)state;
    make_snapshot();
    assert_int_equal(get("/v1/network"), 200);
    json_t *o = body_json("meshvpn.network/1");
    assert_int_equal(json_integer_value(json_object_get(o, "relays")), 4);
    assert_int_equal(json_integer_value(json_object_get(o, "alive")), 3);
    assert_int_equal(json_integer_value(json_object_get(o, "measured")), 3);
    assert_int_equal(json_integer_value(json_object_get(o, "dht_servers_estimate")), 1234);
    json_t *countries = json_object_get(o, "countries"), *roles = json_object_get(o, "roles");
    assert_int_equal(json_integer_value(json_object_get(countries, "DE")), 2);
    assert_int_equal(json_object_size(countries), 2);
    assert_int_equal(json_integer_value(json_object_get(roles, "exit")), 2);
    json_t *snapshot = json_object_get(o, "snapshot");
    assert_int_equal(json_integer_value(json_object_get(snapshot, "entries")), 4);
    assert_int_equal(json_integer_value(json_object_get(snapshot, "hour")), UNIX_NOW / 3600);
    json_decref(o);
}

/* Take the parts of a bundle; verify each as a client does. */
static void check_bundle(unsigned *parts)
{
    mvpn_snapshot_head head = {.entries = 0};
    mvpn_record_info info;
    const uint8_t *p = last.body->bytes, *end = p + last.body->n;
    while (p < end) {
        assert_true(end - p >= 5);
        unsigned type = p[0];
        mvpn_bytes part = mvpn_bytes_of(p + 5, mvpn_load32(p + 1));
        assert_true((size_t)(end - p - 5) >= part.n);
        p += 5 + part.n;
        assert_in_range(type, 1, 5);
        parts[type]++;
        if (type <= 3) {
            assert_int_equal(mvpn_record_verify(&trust, type, part, UNIX_NOW, &info, NULL), 0);
        }
        if (type == 3) {
            assert_int_equal(mvpn_snapshot_head_decode(&head, part, &trust.network_id), 0);
        } else if (type == 4) {
            assert_int_equal(mvpn_snapshot_check(part, &head), 0);
        } else if (type == 5) {
            mvpn_dht_contact c;
            assert_int_equal(mvpn_dht_contact_decode(&c, part), 0);
        }
    }
}

static void test_snapshots(void **state)
{
    char target[96] = "/v1/snapshot/", etag[72];
    unsigned parts[6] = {0};
    (void)state;
    make_snapshot();
    assert_int_equal(get("/v1/snapshot"), 200);
    memcpy(etag, last.etag, sizeof(etag));
    assert_int_equal(strlen(etag), 66);
    check_bundle(parts);
    assert_int_equal(parts[3], 1);
    assert_int_equal(parts[4], 1);
    assert_int_equal(get_with("/v1/snapshot", etag), 304);
    assert_null(last.body);
    assert_string_equal(last.etag, etag);

    memcpy(target + 13, etag + 1, 64);
    assert_int_equal(get(target), 200);
    assert_string_equal(last.etag, etag);
    assert_non_null(strstr(last.cache, "immutable"));
    assert_int_equal(mvpn_snapshot_check(mvpn_bytes_of(last.body->bytes, last.body->n),
                                         mvpn_survey_head(survey, 0)),
                     0);
    assert_int_equal(get_with(target, "\"other\", W/\"more\""), 200);
    assert_int_equal(get_with(target, "*"), 304);
}

static void test_bundle(void **state)
{
    unsigned parts[6] = {0};
    (void)state;
    assert_int_equal(get("/v1/bundle"), 200);
    check_bundle(parts);
    assert_int_equal(parts[1], 4); /* who has withdrawn is left out */
    assert_int_equal(parts[3] + parts[4], 0);
    assert_int_equal(parts[5], 1);
    /* Made once in a while, whoever asks how often. */
    const uint8_t *bytes = last.body->bytes;
    make_snapshot();
    assert_int_equal(get("/v1/bundle"), 200);
    assert_ptr_equal(last.body->bytes, bytes);
    disc.unix_now += MVPN_DISCOVERY_BUNDLE_S;
    memset(parts, 0, sizeof(parts));
    assert_int_equal(get("/v1/bundle"), 200);
    check_bundle(parts);
    assert_int_equal(parts[3] + parts[4], 2);
}

/* ---- metrics and the page ---- */

/* Every line of the exposition format, and no address in it. */
static void test_metrics(void **state)
{
    (void)state;
    make_snapshot();
    assert_int_equal(get("/nowhere"), 404);
    assert_int_equal(get("/metrics"), 200);
    assert_string_equal(last.type, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    char *text = calloc(1, last.body->n + 1);
    assert_non_null(text);
    memcpy(text, last.body->bytes, last.body->n);
    assert_null(strstr(text, "11.0.0.1"));
    assert_non_null(strstr(text, "\nmeshvpn_discovery_relays 4\n"));
    assert_non_null(strstr(text, "\nmeshvpn_discovery_relays_alive 3\n"));
    assert_non_null(strstr(text, "{country=\"DE\"} 2\n"));
    assert_non_null(strstr(text, "{role=\"exit\"} 2\n"));
    assert_non_null(strstr(text, "\nmeshvpn_discovery_bandwidth_bits_per_second 600000000\n"));
    assert_non_null(strstr(text, "\nmeshvpn_discovery_http_requests_total{status=\"4xx\"} 1\n"));
    assert_string_equal(text + strlen(text) - 6, "# EOF\n");
    size_t lines = 0;
    for (char *line = text; *line != '\0'; lines++) {
        size_t n = strcspn(line, "\n");
        assert_int_equal(line[n], '\n');
        bool is_comment = strncmp(line, "# TYPE meshvpn_", 15) == 0 ||
                          strncmp(line, "# HELP meshvpn_", 15) == 0 ||
                          strncmp(line, "# EOF", 5) == 0;
        assert_true(is_comment || strncmp(line, "meshvpn_discovery_", 18) == 0);
        line += n + 1;
    }
    assert_true(lines > 40);
    free(text);
}

static void test_page(void **state)
{
    (void)state;
    assert_int_equal(get("/"), 200);
    assert_string_equal(last.type, "text/html; charset=utf-8");
    assert_memory_equal(last.body->bytes, "<!doctype html>", 15);
    assert_int_equal(get("/?country=DE"), 200);
    assert_int_equal(get("/page.js"), 200);
    assert_string_equal(last.type, "text/javascript; charset=utf-8");
    assert_int_equal(get("/page.css"), 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_searches, setup, teardown),
        cmocka_unit_test_setup_teardown(test_one_relay, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_requests, setup, teardown),
        cmocka_unit_test_setup_teardown(test_network, setup, teardown),
        cmocka_unit_test_setup_teardown(test_snapshots, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bundle, setup, teardown),
        cmocka_unit_test_setup_teardown(test_metrics, setup, teardown),
        cmocka_unit_test_setup_teardown(test_page, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
