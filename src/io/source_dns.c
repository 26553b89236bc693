#include "io/source_dns.h"

#include <stdio.h>
#include <string.h>

#include "base/cursor.h"
#include "base/error.h"
#include "io/keyfile.h"

#define TAG "meshvpn1 "
#define TAG_LEN (sizeof(TAG) - 1)

/* RFC 1035 §4.1 */
#define CLASS_IN 1
#define TYPE_TXT 16
#define FLAG_RESPONSE 0x8000
#define RCODE_MASK 0x000f
/* More labels than a name of 255 bytes has. */
#define LABELS_MAX 128
/* Records looked at: more fit in no honest answer. */
#define RECORDS_MAX 256

char *mvpn_source_dns_format(char out[static MVPN_SOURCE_DNS_TEXT_SIZE],
                             const mvpn_dht_contact *entry)
{
    uint8_t bytes[MVPN_DHT_CONTACT6_LEN];
    size_t n = mvpn_dht_contact_encode(bytes, sizeof(bytes), entry);
    memcpy(out, TAG, TAG_LEN);
    (void)mvpn_base64_encode(out + TAG_LEN, MVPN_SOURCE_DNS_TEXT_SIZE - TAG_LEN,
                             mvpn_bytes_of(bytes, n));
    return out;
}

/* Names are only passed over: a pointer ends one, so nothing is followed and nothing can loop. */
static void skip_name(mvpn_reader *r)
{
    for (unsigned labels = 0; labels < LABELS_MAX && !r->failed; labels++) {
        uint8_t len = mvpn_read8(r);
        if (len == 0) {
            return;
        }
        if (len >= 0xc0) {
            (void)mvpn_read8(r);
            return;
        }
        if (len > 63) {
            break;
        }
        (void)mvpn_read_bytes(r, len);
    }
    r->failed = true;
}

/* The strings of a TXT record joined, if they may be an entry's text. */
static bool join_strings(mvpn_bytes rdata, char text[static MVPN_SOURCE_DNS_TEXT_SIZE])
{
    mvpn_reader r = mvpn_reader_init(rdata);
    size_t len = 0;
    while (mvpn_reader_left(&r) > 0) {
        mvpn_bytes part = mvpn_read_bytes(&r, mvpn_read8(&r));
        if (r.failed || part.n >= MVPN_SOURCE_DNS_TEXT_SIZE - len) {
            return false;
        }
        if (part.n > 0) {
            memcpy(text + len, part.p, part.n);
            len += part.n;
        }
    }
    text[len] = '\0';
    return strlen(text) == len && strncmp(text, TAG, TAG_LEN) == 0;
}

static bool read_entry(mvpn_bytes rdata, mvpn_dht_contact *ret)
{
    char text[MVPN_SOURCE_DNS_TEXT_SIZE];
    uint8_t bytes[MVPN_DHT_CONTACT6_LEN];
    size_t n;
    return join_strings(rdata, text) &&
           mvpn_base64_decode(text + TAG_LEN, bytes, sizeof(bytes), &n) == 0 &&
           mvpn_dht_contact_decode(ret, mvpn_bytes_of(bytes, n)) == 0;
}

/* True if the reader stands before the answers of a good response. */
static bool read_head(mvpn_reader *r, unsigned *ret_answers)
{
    (void)mvpn_read16(r); /* id: compared by the resolver */
    uint16_t flags = mvpn_read16(r);
    uint16_t questions = mvpn_read16(r);
    *ret_answers = mvpn_read16(r);
    (void)mvpn_read32(r); /* the other sections */
    if (r->failed || (flags & FLAG_RESPONSE) == 0 || (flags & RCODE_MASK) != 0 || questions > 1) {
        return false;
    }
    if (questions == 1) {
        skip_name(r);
        (void)mvpn_read32(r); /* type and class */
    }
    return !r->failed;
}

size_t mvpn_source_dns_parse(mvpn_bytes message,
                             mvpn_dht_contact ret[static MVPN_SOURCE_DNS_ENTRIES_MAX])
{
    mvpn_reader r = mvpn_reader_init(message);
    unsigned answers;
    size_t count = 0;
    if (!read_head(&r, &answers)) {
        return 0;
    }
    for (unsigned i = 0; i < MVPN_MIN(answers, (unsigned)RECORDS_MAX); i++) {
        skip_name(&r);
        uint16_t type = mvpn_read16(&r), class = mvpn_read16(&r);
        (void)mvpn_read32(&r); /* time to live */
        mvpn_bytes rdata = mvpn_read_bytes(&r, mvpn_read16(&r));
        if (r.failed || count == MVPN_SOURCE_DNS_ENTRIES_MAX) {
            break;
        }
        count += type == TYPE_TXT && class == CLASS_IN && read_entry(rdata, &ret[count]);
    }
    return count;
}

static void answer_came(void *ctx, int err, const char *why, mvpn_bytes message)
{
    mvpn_source_dns *s = ctx;
    mvpn_dht_contact entries[MVPN_SOURCE_DNS_ENTRIES_MAX];
    size_t count = err == 0 ? mvpn_source_dns_parse(message, entries) : 0;
    if (err == 0 && count == 0) {
        err = MVPN_E_FORMAT;
        why = "its TXT records name no entry";
    }
    s->fn(s->ctx, err, why, entries, count);
}

int mvpn_source_dns_ask(mvpn_source_dns *source, mvpn_resolver *resolver, const char *name)
{
    return mvpn_resolver_txt(resolver, name, answer_came, source);
}
