#include "bin/relay_report.h"

#include <stdbool.h>
#include <string.h>

#include "base/macros.h"
#include "bin/format.h"

static const char *text_of(const json_t *o, const char *key)
{
    const char *text = json_string_value(json_object_get(o, key));
    return text != NULL ? text : "";
}

static long long number_of(const json_t *o, const char *key)
{
    return (long long)json_number_value(json_object_get(o, key));
}

static bool is_true(const json_t *o, const char *key)
{
    return json_is_true(json_object_get(o, key));
}

/* ---- judging ---- */

static void count_links(relay_verdict *v, const json_t *links)
{
    const json_t *link;
    size_t i;
    v->links_in_youngest_s = -1;
    json_array_foreach(links, i, link)
    {
        long long age = number_of(link, "since_s");
        if (is_true(link, "initiator") || !is_true(link, "open")) {
            continue;
        }
        v->links_in++;
        v->links_in_direct += !json_is_string(json_object_get(link, "nat_relay"));
        if (v->links_in_youngest_s < 0 || age < v->links_in_youngest_s) {
            v->links_in_youngest_s = age;
        }
    }
}

static bool has_binding(const json_t *status)
{
    const json_t *b;
    size_t i;
    json_array_foreach(json_object_get(json_object_get(status, "nat"), "bindings"), i, b)
    {
        if (is_true(b, "registered")) {
            return true;
        }
    }
    return false;
}

static bool is_behind_nat(const json_t *status)
{
    return is_true(json_object_get(status, "offer"), "behind_nat");
}

/* The host part of "192.0.2.1:443" or "[2001:db8::1]:443". */
static size_t host_len(const char *address)
{
    const char *colon = strrchr(address, ':');
    return colon != NULL ? (size_t)(colon - address) : strlen(address);
}

/* Others see it, and at none of the addresses that it publishes. */
static bool is_elsewhere(const json_t *offer)
{
    const json_t *seen = json_object_get(offer, "seen"), *s, *a;
    size_t i, k;
    json_array_foreach(seen, i, s)
    {
        json_array_foreach(json_object_get(offer, "addresses"), k, a)
        {
            const char *x = json_string_value(s), *y = json_string_value(a);
            if (x != NULL && y != NULL && host_len(x) == host_len(y) &&
                strncmp(x, y, host_len(x)) == 0) {
                return false;
            }
        }
    }
    return json_array_size(seen) > 0;
}

static void say(relay_verdict *v, enum relay_reach reach, const char *text, const char *advice)
{
    v->reach = reach;
    v->text = text;
    v->advice = advice;
}

static void judge_at_home(relay_verdict *v, const json_t *status)
{
    if (has_binding(status)) {
        say(v, RELAY_BY_RELAY,
            "others reach it through its NAT relays, and directly where both NATs let that happen",
            NULL);
    } else if (number_of(status, "since_s") < RELAY_YOUNG_S) {
        say(v, RELAY_NOT_YET, "no NAT relay serves it yet", NULL);
    } else {
        say(v, RELAY_SILENT, "no NAT relay serves it: nobody can reach it",
            "the network needs relays with nat_relay = true; see sudo meshvpn netcheck for what "
            "lies between");
    }
}

void relay_judge(relay_verdict *ret, const json_t *status)
{
    const json_t *dht = json_object_get(status, "dht");
    const char *nat = text_of(json_object_get(status, "nat"), "class");
    bool is_public = strcmp(nat, "no NAT") == 0 || strcmp(nat, "unknown") == 0 || nat[0] == '\0';
    *ret = (relay_verdict){.reach = RELAY_NOT_YET};
    count_links(ret, json_object_get(status, "links"));
    if (json_is_string(json_object_get(status, "blocked_by"))) {
        say(ret, RELAY_MUTE, "it hears nobody: no packet comes back",
            "see that UDP passes the firewall here and before this host: sudo meshvpn netcheck");
    } else if (is_behind_nat(status)) {
        judge_at_home(ret, status);
    } else if (ret->links_in_direct > 0 || number_of(status, "links_unnamed") > 0) {
        say(ret, RELAY_REACHED, "others have opened links to it by themselves", NULL);
    } else if (dht != NULL && !is_true(dht, "is_published")) {
        say(ret, RELAY_NOT_YET, "the network was not told of it yet",
            json_array_size(json_object_get(json_object_get(status, "offer"), "addresses")) == 0
                ? "it has no address to publish: sudo meshvpn config set relay address IP:PORT"
                : NULL);
    } else if (number_of(status, "since_s") < RELAY_YOUNG_S) {
        say(ret, RELAY_NOT_YET, "it is published, and nobody has come yet; that takes minutes",
            NULL);
    } else if (is_elsewhere(json_object_get(status, "offer"))) {
        say(ret, RELAY_SILENT, "others see it at another address than those it publishes",
            "sudo meshvpn config set relay address IP:PORT, with the address where it is seen, or "
            "forward the port to this host");
    } else if (!is_public) {
        say(ret, RELAY_SILENT, "a NAT stands before it, and nobody has come",
            "forward its UDP port in the router, or set port_mapping = true, or behind_nat = true "
            "without an address");
    } else {
        say(ret, RELAY_SILENT, "it is published, and nobody has come",
            "let UDP to its port in: here (sudo nft list ruleset) and at the hoster's firewall; "
            "and "
            "see that 'address' is this host's");
    }
}

const char *relay_reach_name(enum relay_reach reach)
{
    static const char *const names[] = {[RELAY_REACHED] = "reached",
                                        [RELAY_BY_RELAY] = "by-relay",
                                        [RELAY_NOT_YET] = "not-yet",
                                        [RELAY_SILENT] = "silent",
                                        [RELAY_MUTE] = "mute"};
    return names[reach];
}

/* ---- describing ---- */

static json_t *rate_of(const json_t *status, const json_t *later, const char *key, double seconds)
{
    if (later == NULL || seconds <= 0) {
        return json_null();
    }
    long long bytes = number_of(json_object_get(later, "counters"), key) -
                      number_of(json_object_get(status, "counters"), key);
    return json_integer((json_int_t)((double)MVPN_MAX(bytes, 0) * 8 / seconds));
}

static json_t *quota_of(const json_t *status)
{
    const json_t *quota = json_object_get(status, "quota");
    if (!json_is_object(quota)) {
        return json_null();
    }
    long long limit = number_of(quota, "limit_bytes"), used = number_of(quota, "used_bytes");
    return json_pack("{s:I, s:I, s:I}", "limit_bytes", (json_int_t)limit, "used_bytes",
                     (json_int_t)used, "left_bytes", (json_int_t)MVPN_MAX(limit - used, 0));
}

static json_t *nat_relays_of(const json_t *status)
{
    const json_t *b;
    json_t *list = json_array();
    size_t i;
    json_array_foreach(json_object_get(json_object_get(status, "nat"), "bindings"), i, b)
    {
        const char *name = text_of(b, "name");
        if (is_true(b, "registered")) {
            (void)json_array_append_new(
                list, json_string(name[0] != '\0' ? name : text_of(b, "identity")));
        }
    }
    return list;
}

json_t *relay_describe(const char *control, const json_t *status, const json_t *later,
                       double seconds)
{
    relay_verdict v;
    const json_t *offer = json_object_get(status, "offer"), *dht = json_object_get(status, "dht");
    const json_t *limit = json_object_get(offer, "limit_mbit");
    const json_t *addresses = json_object_get(offer, "addresses");
    const json_t *guests = json_object_get(json_object_get(status, "nat_relay"), "sessions");
    relay_judge(&v, status);
    json_t *o = json_object();
    (void)json_object_set_new(o, "control", json_string(control));
    (void)json_object_set_new(o, "name", json_string(text_of(offer, "name")));
    (void)json_object_set_new(o, "role", json_string(text_of(status, "role")));
    (void)json_object_set_new(o, "since_s", json_integer(number_of(status, "since_s")));
    (void)json_object_set_new(
        o, "is_published", dht != NULL ? json_boolean(is_true(dht, "is_published")) : json_null());
    (void)json_object_set_new(o, "addresses",
                              addresses != NULL ? json_deep_copy(addresses) : json_array());
    const json_t *seen = json_object_get(offer, "seen");
    (void)json_object_set_new(o, "seen", seen != NULL ? json_deep_copy(seen) : json_array());
    (void)json_object_set_new(o, "reach", json_string(relay_reach_name(v.reach)));
    (void)json_object_set_new(o, "reason", json_string(v.text));
    (void)json_object_set_new(o, "advice", v.advice != NULL ? json_string(v.advice) : json_null());
    (void)json_object_set_new(o, "nat_class",
                              json_string(text_of(json_object_get(status, "nat"), "class")));
    (void)json_object_set_new(o, "nat_relays", nat_relays_of(status));
    (void)json_object_set_new(o, "links", json_integer(number_of(status, "link_count")));
    (void)json_object_set_new(o, "links_in", json_integer(v.links_in));
    (void)json_object_set_new(o, "links_in_youngest_s",
                              v.links_in_youngest_s < 0 ? json_null()
                                                        : json_integer(v.links_in_youngest_s));
    (void)json_object_set_new(o, "links_unnamed", json_integer(number_of(status, "links_unnamed")));
    (void)json_object_set_new(o, "guests", guests != NULL ? json_deep_copy(guests) : json_null());
    (void)json_object_set_new(o, "circuits", json_integer(number_of(status, "circuits")));
    (void)json_object_set_new(o, "sessions", json_integer(number_of(status, "sessions")));
    (void)json_object_set_new(o, "is_overloaded", json_boolean(is_true(status, "is_overloaded")));
    (void)json_object_set_new(o, "limit_mbit",
                              json_is_integer(limit) ? json_deep_copy(limit) : json_null());
    (void)json_object_set_new(o, "in_bit_s", rate_of(status, later, "bytes_in", seconds));
    (void)json_object_set_new(o, "out_bit_s", rate_of(status, later, "bytes_out", seconds));
    (void)json_object_set_new(o, "quota", quota_of(status));
    return o;
}

/* ---- printing ---- */

static void print_list(FILE *out, const char *label, const json_t *list)
{
    const json_t *item;
    size_t i;
    json_array_foreach(list, i, item)
    {
        (void)fprintf(out, "%s%s", i == 0 ? label : ", ", json_string_value(item));
    }
    (void)fprintf(out, "%s", json_array_size(list) > 0 ? "\n" : "");
}

static void print_links(FILE *out, const json_t *relay)
{
    char text[48];
    long long in = number_of(relay, "links_in"), unnamed = number_of(relay, "links_unnamed");
    (void)fprintf(out, "links     %lld: %lld that other relays opened", number_of(relay, "links"),
                  in);
    if (json_is_integer(json_object_get(relay, "links_in_youngest_s"))) {
        double age = (double)number_of(relay, "links_in_youngest_s");
        (void)fprintf(out, ", the last %s ago", format_duration(age, text));
    }
    (void)fprintf(out, "; %lld of clients\n", unnamed);
    if (json_is_integer(json_object_get(relay, "guests"))) {
        (void)fprintf(out, "guests    %lld reach the network through it\n",
                      number_of(relay, "guests"));
    }
}

static void print_rate(FILE *out, const json_t *relay)
{
    char a[32], b[32];
    const json_t *quota = json_object_get(relay, "quota");
    if (json_is_integer(json_object_get(relay, "in_bit_s"))) {
        (void)fprintf(out, "rate      %s in, %s out",
                      format_rate((double)number_of(relay, "in_bit_s"), a),
                      format_rate((double)number_of(relay, "out_bit_s"), b));
        if (json_is_integer(json_object_get(relay, "limit_mbit"))) {
            (void)fprintf(out, "; at most %lld Mbit/s", number_of(relay, "limit_mbit"));
        }
        (void)fputc('\n', out);
    }
    if (json_is_object(quota)) {
        (void)fprintf(out, "quota     %s of %s left this month\n",
                      format_bytes((double)number_of(quota, "left_bytes"), a),
                      format_bytes((double)number_of(quota, "limit_bytes"), b));
    }
}

void relay_print(FILE *out, const json_t *relay)
{
    char text[48];
    const json_t *published = json_object_get(relay, "is_published");
    const char *name = text_of(relay, "name"), *advice = text_of(relay, "advice");
    (void)fprintf(out, "%-9s %s%srunning for %s%s\n", text_of(relay, "role"), name,
                  name[0] != '\0' ? ", " : "",
                  format_duration((double)number_of(relay, "since_s"), text),
                  is_true(relay, "is_overloaded") ? "; overloaded" : "");
    if (json_is_boolean(published)) {
        (void)fprintf(out, "published %s\n", json_is_true(published) ? "yes" : "not yet");
    }
    print_list(out, "at        ", json_object_get(relay, "addresses"));
    print_list(out, "seen at   ", json_object_get(relay, "seen"));
    (void)fprintf(out, "reached   %s: %s\n",
                  strcmp(text_of(relay, "reach"), "reached") == 0    ? "yes"
                  : strcmp(text_of(relay, "reach"), "by-relay") == 0 ? "through relays"
                  : strcmp(text_of(relay, "reach"), "not-yet") == 0  ? "not known yet"
                                                                     : "no",
                  text_of(relay, "reason"));
    if (advice[0] != '\0') {
        (void)fprintf(out, "todo      %s\n", advice);
    }
    (void)fprintf(out, "nat       %s\n", text_of(relay, "nat_class"));
    print_list(out, "by way of ", json_object_get(relay, "nat_relays"));
    print_links(out, relay);
    (void)fprintf(out, "circuits  %lld\n", number_of(relay, "circuits"));
    print_rate(out, relay);
}
