/*
 * HTTP requests as a discovery node routes them: [method 1: even GET] [Host 1: 0 none, 1 ours, else
 * chunk] [length 2] [target], [length 2] [If-None-Match], [length 2] [Host].
 */
#include <jansson.h>
#include <stdlib.h>

#include "fuzz/fuzz.h"
#include "io/discovery_api.h"

static const char *const names[] = {"localhost", "[::1]"};

static void text_of(mvpn_bytes in, char *out, size_t size)
{
    size_t n = MVPN_MIN(in.n, size - 1);
    if (n > 0) {
        memcpy(out, in.p, n);
    }
    out[n] = '\0';
}

static void check(const mvpn_http_request *r, const mvpn_http_response *a)
{
    (void)r;
    FUZZ_CHECK(a->status >= 200 && a->status < 600 && a->status != 500);
    FUZZ_CHECK(a->body != NULL || a->status == 304);
    FUZZ_CHECK(strlen(a->etag) < sizeof(a->etag));
    if (a->type != NULL && strcmp(a->type, "application/json") == 0) {
        json_t *o =
            json_loadb((const char *)a->body->bytes, a->body->n, JSON_REJECT_DUPLICATES, NULL);
        FUZZ_CHECK(json_is_object(o));
        json_decref(o);
    } else {
        FUZZ_CHECK(a->status < 400);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static mvpn_view *view;
    static mvpn_survey *survey;
    static mvpn_rng rng;
    static mvpn_trust trust;
    static mvpn_discovery disc;
    char target[MVPN_HTTP_TARGET_MAX + 1], etag[256], host[256];
    if (view == NULL) {
        const mvpn_view_config vc = {.trust = &trust};
        mvpn_rng_init_test(&rng, 1);
        FUZZ_CHECK(mvpn_view_new(&vc, &view) == 0);
        const mvpn_survey_config sc = {.env = {.rng = &rng, .view = view}};
        FUZZ_CHECK(mvpn_survey_new(&sc, 0, &survey) == 0);
        disc = (mvpn_discovery){.view = view,
                                .survey = survey,
                                .network_name = "fuzz",
                                .names = names,
                                .name_count = MVPN_ARRAY_LEN(names),
                                .unix_now = 1800000000};
    }
    mvpn_reader in = mvpn_reader_init(mvpn_bytes_of(data, size));
    uint8_t method = mvpn_read8(&in), which = mvpn_read8(&in);
    text_of(fuzz_chunk(&in, sizeof(target) - 1), target, sizeof(target));
    text_of(fuzz_chunk(&in, sizeof(etag) - 1), etag, sizeof(etag));
    text_of(fuzz_chunk(&in, sizeof(host) - 1), host, sizeof(host));
    const mvpn_http_request r = {
        .method = method % 2 == 0 ? "GET" : "POST",
        .target = target,
        .host = which == 0   ? NULL
                : which == 1 ? "localhost"
                             : host,
        .if_none_match = etag[0] == '\0' ? NULL : etag,
    };
    mvpn_http_response a;
    mvpn_discovery_handle(&disc, &r, &a);
    check(&r, &a);
    mvpn_http_blob_release(a.body);
    /* The search alone: what is accepted keeps its bounds. */
    mvpn_relay_query q;
    const char *why;
    if (mvpn_relay_query_parse(&q, target, &why) == 0) {
        FUZZ_CHECK(q.limit >= 1 && q.limit <= MVPN_RELAY_LIMIT_MAX && q.offset <= 1000000);
        FUZZ_CHECK(q.min_mbit <= 1000000 && q.alive >= -1 && q.alive <= 1);
        FUZZ_CHECK(strlen(q.text) <= MVPN_RELAY_TEXT_MAX && strlen(q.country) % 2 == 0);
    } else {
        FUZZ_CHECK(why != NULL);
    }
    return 0;
}
