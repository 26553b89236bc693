#include "wire/dht.h"

#include "base/assert.h"
#include "base/cursor.h"
#include "base/error.h"
#include "crypto/hash.h"
#include "wire/handshake.h"
#include "wire/message.h"

/* The first bytes of an id, which the address decides. (§11.1) */
#define PREFIX_LEN 3
#define CONTACTS_FIXED 2 /* two counts */
#define LISTED_ENTRY_LEN (MVPN_DHT_ID_LEN + 8)

/* --- ids --- */

/* Bytes of an address block: IPv4 /24, IPv6 /32. */
static size_t block_len(const mvpn_addr *addr)
{
    return addr->family == 4 ? 3 : 4;
}

static void make_prefix(uint8_t out[static PREFIX_LEN], const mvpn_addr *addr, uint8_t last)
{
    const uint8_t r = last & 7;
    const mvpn_bytes in[] = {
        {&addr->family, 1},
        {addr->ip, block_len(addr)},
        {&r, 1},
    };
    mvpn_blake3_derive(out, PREFIX_LEN, "meshvpn v1 node id", in, MVPN_ARRAY_LEN(in));
}

void mvpn_dht_node_id(mvpn_dht_id *ret, const mvpn_ed25519_pub *identity, const mvpn_addr *addr)
{
    mvpn_sha1(ret->b, MVPN_BYTES_ARRAY(identity->b));
    make_prefix(ret->b, addr, ret->b[MVPN_DHT_ID_LEN - 1]);
}

bool mvpn_dht_id_fits(const mvpn_dht_id *id, const mvpn_addr *addr)
{
    uint8_t prefix[PREFIX_LEN];
    make_prefix(prefix, addr, id->b[MVPN_DHT_ID_LEN - 1]);
    return memcmp(prefix, id->b, PREFIX_LEN) == 0;
}

bool mvpn_dht_id_is_of(const mvpn_dht_id *id, const mvpn_ed25519_pub *identity,
                       const mvpn_addr *addr)
{
    mvpn_dht_id want;
    mvpn_dht_node_id(&want, identity, addr);
    return memcmp(want.b, id->b, sizeof(want.b)) == 0;
}

bool mvpn_dht_same_block(const mvpn_addr *a, const mvpn_addr *b)
{
    return a->family == b->family && memcmp(a->ip, b->ip, block_len(a)) == 0;
}

/* --- contacts --- */

static size_t contact_len(uint8_t family)
{
    return family == 4 ? MVPN_DHT_CONTACT4_LEN : MVPN_DHT_CONTACT6_LEN;
}

static void write_contact(mvpn_writer *w, const mvpn_dht_contact *c)
{
    MVPN_ASSERT(c->addr.family == 4 || c->addr.family == 6);
    mvpn_write_bytes(w, c->id.b, sizeof(c->id.b));
    mvpn_write_bytes(w, c->link_key.b, sizeof(c->link_key.b));
    mvpn_write_bytes(w, c->addr.ip, mvpn_addr_ip_len(&c->addr));
    mvpn_write16(w, c->addr.port);
}

size_t mvpn_dht_contact_encode(uint8_t *out, size_t size, const mvpn_dht_contact *c)
{
    mvpn_writer w = mvpn_writer_init(out, size);
    write_contact(&w, c);
    return w.failed ? 0 : mvpn_writer_len(&w);
}

/* False where the bytes are no contact; whether its id fits is asked by the caller. */
static bool read_contact(mvpn_reader *r, uint8_t family, mvpn_dht_contact *ret)
{
    *ret = (mvpn_dht_contact){.addr.family = family};
    mvpn_read_copy(r, ret->id.b, sizeof(ret->id.b));
    mvpn_read_copy(r, ret->link_key.b, sizeof(ret->link_key.b));
    mvpn_read_copy(r, ret->addr.ip, mvpn_addr_ip_len(&ret->addr));
    ret->addr.port = mvpn_read16(r);
    return !r->failed && ret->addr.port != 0 && !mvpn_addr_is_mapped(&ret->addr);
}

int mvpn_dht_contact_decode(mvpn_dht_contact *ret, mvpn_bytes in)
{
    mvpn_dht_contact c;
    mvpn_reader r = mvpn_reader_init(in);
    if (in.n != MVPN_DHT_CONTACT4_LEN && in.n != MVPN_DHT_CONTACT6_LEN) {
        return MVPN_E_FORMAT;
    }
    if (!read_contact(&r, in.n == MVPN_DHT_CONTACT4_LEN ? 4 : 6, &c)) {
        return MVPN_E_FORMAT;
    }
    if (!mvpn_dht_id_fits(&c.id, &c.addr)) {
        return MVPN_E_POLICY;
    }
    *ret = c;
    return 0;
}

static void write_contacts_of(mvpn_writer *w, uint8_t family, const mvpn_dht_contact *contacts,
                              size_t count)
{
    uint8_t *n = mvpn_write_raw(w, 1);
    MVPN_ASSERT(n != NULL);
    *n = 0;
    for (size_t i = 0; i < count; i++) {
        if (contacts[i].addr.family == family) {
            write_contact(w, &contacts[i]);
            ++*n;
        }
    }
}

size_t mvpn_dht_contacts_encode(uint8_t *out, size_t size, const mvpn_dht_contact *contacts,
                                size_t count)
{
    size_t fit = 0, len = CONTACTS_FIXED;
    if (size < CONTACTS_FIXED) {
        return 0;
    }
    count = MVPN_MIN(count, MVPN_DHT_K);
    while (fit < count && len + contact_len(contacts[fit].addr.family) <= size) {
        len += contact_len(contacts[fit].addr.family);
        fit++;
    }
    mvpn_writer w = mvpn_writer_init(out, size);
    write_contacts_of(&w, 4, contacts, fit);
    write_contacts_of(&w, 6, contacts, fit);
    MVPN_ASSERT(!w.failed && mvpn_writer_len(&w) == len);
    return len;
}

/* A contact whose id does not fit its address is left out, not an error: the others may be good,
 * and who named it is not thereby proved a liar (addresses change). */
static bool read_contacts_of(mvpn_reader *r, uint8_t family, size_t *room, mvpn_dht_contact *ret,
                             size_t *count)
{
    size_t n = mvpn_read8(r);
    if (r->failed || n > *room) {
        return false;
    }
    *room -= n;
    for (size_t i = 0; i < n; i++) {
        mvpn_dht_contact c;
        if (!read_contact(r, family, &c)) {
            return false;
        }
        if (mvpn_dht_id_fits(&c.id, &c.addr)) {
            ret[(*count)++] = c;
        }
    }
    return true;
}

static bool read_contacts(mvpn_reader *r, mvpn_dht_contact ret[static MVPN_DHT_K],
                          size_t *ret_count)
{
    size_t room = MVPN_DHT_K, count = 0;
    if (!read_contacts_of(r, 4, &room, ret, &count) ||
        !read_contacts_of(r, 6, &room, ret, &count)) {
        return false;
    }
    *ret_count = count;
    return true;
}

int mvpn_dht_contacts_decode(mvpn_dht_contact ret[static MVPN_DHT_K], size_t *ret_count,
                             mvpn_bytes in)
{
    mvpn_dht_contact contacts[MVPN_DHT_K];
    size_t count = 0;
    mvpn_reader r = mvpn_reader_init(in);
    if (!read_contacts(&r, contacts, &count) || !mvpn_reader_done(&r)) {
        return MVPN_E_FORMAT;
    }
    memcpy(ret, contacts, count * sizeof(*ret));
    *ret_count = count;
    return 0;
}

/* --- bodies --- */

static bool is_record_len(size_t n)
{
    return n >= 1 && n <= MVPN_DHT_RECORD_MAX;
}

static size_t written(const mvpn_writer *w)
{
    return w->failed ? 0 : mvpn_writer_len(w);
}

size_t mvpn_dht_request_encode(uint8_t *out, size_t size, const mvpn_dht_request *m)
{
    mvpn_writer w = mvpn_writer_init(out, size);
    switch (m->command) {
    case MVPN_CMD_DHT_PING:
        break;
    case MVPN_CMD_DHT_FIND_NODE:
    case MVPN_CMD_DHT_FIND_VALUE:
        mvpn_write_bytes(&w, m->target.b, sizeof(m->target.b));
        break;
    case MVPN_CMD_DHT_STORE:
        MVPN_ASSERT(is_record_len(m->record.n));
        mvpn_write8(&w, m->type);
        mvpn_write_bytes(&w, m->record.p, m->record.n);
        break;
    case MVPN_CMD_DHT_LIST:
        MVPN_ASSERT(m->bits <= MVPN_DHT_ID_BITS);
        mvpn_write_bytes(&w, m->target.b, sizeof(m->target.b));
        mvpn_write8(&w, m->bits);
        break;
    case MVPN_CMD_DHT_FETCH:
        MVPN_ASSERT(m->key_count >= 1 && m->key_count <= MVPN_DHT_FETCH_MAX);
        mvpn_write8(&w, m->key_count);
        mvpn_write_bytes(&w, m->keys, m->key_count * sizeof(m->keys[0]));
        break;
    case MVPN_CMD_DHT_BLOB:
        mvpn_write_bytes(&w, m->digest.b, sizeof(m->digest.b));
        mvpn_write32(&w, m->offset);
        break;
    default:
        MVPN_ASSERT(false); /* no DHT request */
    }
    return written(&w);
}

static void read_id(mvpn_reader *r, mvpn_dht_id *ret)
{
    mvpn_read_copy(r, ret->b, sizeof(ret->b));
}

static bool read_keys(mvpn_reader *r, mvpn_dht_request *m)
{
    m->key_count = mvpn_read8(r);
    if (m->key_count < 1 || m->key_count > MVPN_DHT_FETCH_MAX) {
        return false;
    }
    for (size_t i = 0; i < m->key_count; i++) {
        read_id(r, &m->keys[i]);
    }
    return true;
}

int mvpn_dht_request_decode(mvpn_dht_request *ret, unsigned command, mvpn_bytes body)
{
    mvpn_dht_request m = {.command = (uint16_t)command};
    mvpn_reader r = mvpn_reader_init(body);
    bool is_good = true;
    switch (command) {
    case MVPN_CMD_DHT_PING:
        break;
    case MVPN_CMD_DHT_FIND_NODE:
    case MVPN_CMD_DHT_FIND_VALUE:
        read_id(&r, &m.target);
        break;
    case MVPN_CMD_DHT_STORE:
        m.type = mvpn_read8(&r);
        m.record = mvpn_read_rest(&r);
        is_good = is_record_len(m.record.n);
        break;
    case MVPN_CMD_DHT_LIST:
        read_id(&r, &m.target);
        m.bits = mvpn_read8(&r);
        is_good = m.bits <= MVPN_DHT_ID_BITS;
        break;
    case MVPN_CMD_DHT_FETCH:
        is_good = read_keys(&r, &m);
        break;
    case MVPN_CMD_DHT_BLOB:
        mvpn_read_copy(&r, m.digest.b, sizeof(m.digest.b));
        m.offset = mvpn_read32(&r);
        break;
    default:
        return MVPN_E_UNKNOWN;
    }
    if (!is_good || !mvpn_reader_done(&r)) {
        return MVPN_E_FORMAT;
    }
    *ret = m;
    return 0;
}

static void write_observed(mvpn_writer *w, const mvpn_addr *addr)
{
    MVPN_ASSERT(addr->family == 4 || addr->family == 6);
    mvpn_write8(w, addr->family);
    mvpn_write16(w, addr->port);
    mvpn_write_bytes(w, addr->ip, mvpn_addr_ip_len(addr));
}

static void write_listed(mvpn_writer *w, const mvpn_dht_reply *m)
{
    uint8_t *more = mvpn_write_raw(w, 1);
    mvpn_write32(w, m->total);
    if (w->failed) {
        return;
    }
    size_t fit = (size_t)(w->end - w->p) / LISTED_ENTRY_LEN;
    fit = MVPN_MIN(fit, MVPN_DHT_LISTED_MAX);
    *more = m->more || fit < m->listed_count;
    for (size_t i = 0; i < m->listed_count && i < fit; i++) {
        mvpn_write_bytes(w, m->listed[i].key.b, MVPN_DHT_ID_LEN);
        mvpn_write64(w, m->listed[i].sequence);
    }
}

size_t mvpn_dht_reply_encode(uint8_t *out, size_t size, const mvpn_dht_reply *m)
{
    mvpn_writer w = mvpn_writer_init(out, size);
    switch (m->command) {
    case MVPN_CMD_DHT_PONG:
        mvpn_write64(&w, m->time);
        write_observed(&w, &m->observed);
        break;
    case MVPN_CMD_DHT_NODES:
        return mvpn_dht_contacts_encode(out, size, m->contacts, m->contact_count);
    case MVPN_CMD_DHT_STORED:
    case MVPN_CMD_DHT_ERROR:
        mvpn_write8(&w, m->status);
        break;
    case MVPN_CMD_DHT_VALUE:
        MVPN_ASSERT(is_record_len(m->record.n));
        mvpn_write8(&w, m->type);
        mvpn_write_bytes(&w, m->record.p, m->record.n);
        break;
    case MVPN_CMD_DHT_LISTED:
        write_listed(&w, m);
        break;
    case MVPN_CMD_DHT_FETCHED:
        mvpn_write8(&w, m->more);
        mvpn_write_bytes(&w, m->record.p, m->record.n);
        break;
    case MVPN_CMD_DHT_BLOB_PART:
        mvpn_write32(&w, m->total);
        mvpn_write32(&w, m->offset);
        mvpn_write_bytes(&w, m->bytes.p, m->bytes.n);
        break;
    default:
        MVPN_ASSERT(false); /* no DHT reply */
    }
    return written(&w);
}

static bool read_observed(mvpn_reader *r, mvpn_addr *ret)
{
    ret->family = mvpn_read8(r);
    ret->port = mvpn_read16(r);
    if (ret->family != 4 && ret->family != 6) {
        return false;
    }
    mvpn_read_copy(r, ret->ip, mvpn_addr_ip_len(ret));
    return !mvpn_addr_is_mapped(ret);
}

static bool read_flag(mvpn_reader *r, bool *ret)
{
    uint8_t v = mvpn_read8(r);
    *ret = v == 1;
    return v <= 1;
}

static bool read_listed(mvpn_reader *r, mvpn_dht_reply *m)
{
    bool is_good = read_flag(r, &m->more);
    m->total = mvpn_read32(r);
    while (is_good && mvpn_reader_left(r) > 0) {
        if (m->listed_count == MVPN_DHT_LISTED_MAX) {
            return false;
        }
        mvpn_dht_listed *e = &m->listed[m->listed_count++];
        read_id(r, &e->key);
        e->sequence = mvpn_read64(r);
        is_good = m->listed_count == 1 || memcmp(e[-1].key.b, e->key.b, MVPN_DHT_ID_LEN) < 0;
    }
    return is_good;
}

static bool read_fetched(mvpn_reader *r, mvpn_dht_reply *m)
{
    if (!read_flag(r, &m->more)) {
        return false;
    }
    m->record = mvpn_read_rest(r);
    mvpn_bytes rest = m->record, record;
    uint8_t type;
    int rc;
    do {
        rc = mvpn_dht_fetched_next(&rest, &type, &record);
    } while (rc == 0);
    return rc == MVPN_E_AGAIN;
}

/* Nothing of what it does not have, nothing behind the end. */
static bool read_blob_part(mvpn_reader *r, mvpn_dht_reply *m)
{
    m->total = mvpn_read32(r);
    m->offset = mvpn_read32(r);
    m->bytes = mvpn_read_rest(r);
    return m->bytes.n == 0 || (m->offset < m->total && m->bytes.n <= m->total - m->offset);
}

int mvpn_dht_reply_decode(mvpn_dht_reply *ret, unsigned command, mvpn_bytes body)
{
    mvpn_dht_reply m = {.command = (uint16_t)command};
    mvpn_reader r = mvpn_reader_init(body);
    bool is_good;
    switch (command) {
    case MVPN_CMD_DHT_PONG:
        m.time = mvpn_read64(&r);
        is_good = read_observed(&r, &m.observed);
        break;
    case MVPN_CMD_DHT_NODES:
        is_good = read_contacts(&r, m.contacts, &m.contact_count);
        break;
    case MVPN_CMD_DHT_STORED:
        m.status = mvpn_read8(&r);
        is_good = m.status <= MVPN_DHT_STORED_FULL;
        break;
    case MVPN_CMD_DHT_VALUE:
        m.type = mvpn_read8(&r);
        m.record = mvpn_read_rest(&r);
        is_good = is_record_len(m.record.n);
        break;
    case MVPN_CMD_DHT_LISTED:
        is_good = read_listed(&r, &m);
        break;
    case MVPN_CMD_DHT_FETCHED:
        is_good = read_fetched(&r, &m);
        break;
    case MVPN_CMD_DHT_BLOB_PART:
        is_good = read_blob_part(&r, &m);
        break;
    case MVPN_CMD_DHT_ERROR: /* a later version's reasons are errors too */
        m.status = mvpn_read8(&r);
        is_good = m.status != 0;
        break;
    default:
        return MVPN_E_UNKNOWN;
    }
    if (!is_good || !mvpn_reader_done(&r)) {
        return MVPN_E_FORMAT;
    }
    *ret = m;
    return 0;
}

int mvpn_dht_fetched_append(uint8_t *body, size_t size, size_t *len, unsigned type,
                            mvpn_bytes record)
{
    MVPN_ASSERT(is_record_len(record.n) && *len <= size);
    mvpn_writer w = mvpn_writer_init(body + *len, size - *len);
    mvpn_write8(&w, (uint8_t)type);
    mvpn_write16(&w, (uint16_t)record.n);
    mvpn_write_bytes(&w, record.p, record.n);
    if (w.failed) {
        return MVPN_E_SPACE;
    }
    *len += mvpn_writer_len(&w);
    return 0;
}

int mvpn_dht_fetched_next(mvpn_bytes *rest, uint8_t *ret_type, mvpn_bytes *ret_record)
{
    if (rest->n == 0) {
        return MVPN_E_AGAIN;
    }
    mvpn_reader r = mvpn_reader_init(*rest);
    uint8_t type = mvpn_read8(&r);
    mvpn_bytes record = mvpn_read_bytes(&r, mvpn_read16(&r));
    if (r.failed || !is_record_len(record.n)) {
        return MVPN_E_FORMAT;
    }
    *rest = mvpn_read_rest(&r);
    *ret_type = type;
    *ret_record = record;
    return 0;
}

/* --- datagrams --- */

bool mvpn_dht_is_datagram(mvpn_bytes packet)
{
    if (packet.n < 5 || !mvpn_is_handshake_flags(packet.p[0])) {
        return false;
    }
    uint32_t version = mvpn_load32(packet.p + 1);
    return version == MVPN_DHT_VERSION_REQUEST || version == MVPN_DHT_VERSION_REPLY;
}

int mvpn_dht_request_packet_decode(mvpn_dht_request_packet *ret, mvpn_bytes packet)
{
    mvpn_dht_request_packet m;
    mvpn_reader r = mvpn_reader_init(packet);
    uint8_t flags = mvpn_read8(&r);
    uint32_t version = mvpn_read32(&r);
    m.transaction = mvpn_read64(&r);
    mvpn_read_copy(&r, m.token, sizeof(m.token));
    m.noise = mvpn_read_bytes(&r, mvpn_read16(&r));
    m.before = mvpn_bytes_of(packet.p, MVPN_DHT_REQUEST_HEADER_LEN + m.noise.n);
    m.mac1 = mvpn_read_bytes(&r, MVPN_DHT_MAC_LEN);
    mvpn_bytes padding = mvpn_read_rest(&r);
    if (r.failed || packet.n > MVPN_DHT_DATAGRAM4_MAX || !mvpn_is_handshake_flags(flags) ||
        version != MVPN_DHT_VERSION_REQUEST) {
        return MVPN_E_FORMAT;
    }
    for (size_t i = 0; i < padding.n; i++) {
        if (padding.p[i] != 0) {
            return MVPN_E_FORMAT;
        }
    }
    *ret = m;
    return 0;
}

enum ask_flag {
    ASK_WANTS_CERTIFICATE = 1 << 0,
    ASK_CLAIM = 1 << 1,
};
#define ANSWER_CERTIFICATE 0x01
#define IDENTITY_LEN sizeof(mvpn_ed25519_pub)
#define MEMBERSHIP_REST (MVPN_MEMBERSHIP_LEN - IDENTITY_LEN)

size_t mvpn_dht_ask_encode(uint8_t *out, size_t size, const mvpn_dht_ask *m)
{
    mvpn_writer w = mvpn_writer_init(out, size);
    mvpn_write16(&w, m->command);
    mvpn_write8(&w, (uint8_t)((m->wants_certificate ? ASK_WANTS_CERTIFICATE : 0) |
                              (m->has_claim ? ASK_CLAIM : 0)));
    if (m->has_claim) {
        mvpn_write_bytes(&w, m->claim_id.b, sizeof(m->claim_id.b));
        mvpn_write_bytes(&w, m->claim_link_key.b, sizeof(m->claim_link_key.b));
    }
    mvpn_write_bytes(&w, m->body.p, m->body.n);
    return written(&w);
}

int mvpn_dht_ask_decode(mvpn_dht_ask *ret, mvpn_bytes in)
{
    mvpn_dht_ask m = {0};
    mvpn_reader r = mvpn_reader_init(in);
    m.command = mvpn_read16(&r);
    unsigned flags = mvpn_read8(&r);
    m.wants_certificate = (flags & ASK_WANTS_CERTIFICATE) != 0;
    m.has_claim = (flags & ASK_CLAIM) != 0;
    if (m.has_claim) {
        read_id(&r, &m.claim_id);
        mvpn_read_copy(&r, m.claim_link_key.b, sizeof(m.claim_link_key.b));
    }
    m.body = mvpn_read_rest(&r);
    if (r.failed || (flags & ~(unsigned)(ASK_WANTS_CERTIFICATE | ASK_CLAIM)) != 0) {
        return MVPN_E_FORMAT;
    }
    *ret = m;
    return 0;
}

size_t mvpn_dht_answer_overhead(bool has_certificate, bool has_membership)
{
    return 2 + 1 + MVPN_DHT_TOKEN_LEN +
           (has_certificate ? MVPN_LINK_CERTIFICATE_LEN + 1 + (has_membership ? MEMBERSHIP_REST : 0)
                            : 0);
}

size_t mvpn_dht_answer_encode(uint8_t *out, size_t size, const mvpn_dht_answer *m)
{
    mvpn_writer w = mvpn_writer_init(out, size);
    mvpn_write16(&w, m->command);
    mvpn_write8(&w, m->has_certificate ? ANSWER_CERTIFICATE : 0);
    mvpn_write_bytes(&w, m->token, sizeof(m->token));
    if (m->has_certificate) {
        mvpn_write_bytes(&w, m->link_certificate, sizeof(m->link_certificate));
        mvpn_write8(&w, m->has_membership);
        if (m->has_membership) {
            /* Its identity is not sent twice. */
            MVPN_ASSERT(memcmp(m->membership, m->link_certificate, IDENTITY_LEN) == 0);
            mvpn_write_bytes(&w, m->membership + IDENTITY_LEN, MEMBERSHIP_REST);
        }
    }
    mvpn_write_bytes(&w, m->body.p, m->body.n);
    return written(&w);
}

int mvpn_dht_answer_decode(mvpn_dht_answer *ret, mvpn_bytes in)
{
    mvpn_dht_answer m = {0};
    mvpn_reader r = mvpn_reader_init(in);
    m.command = mvpn_read16(&r);
    unsigned flags = mvpn_read8(&r);
    mvpn_read_copy(&r, m.token, sizeof(m.token));
    m.has_certificate = (flags & ANSWER_CERTIFICATE) != 0;
    bool is_good = (flags & ~(unsigned)ANSWER_CERTIFICATE) == 0;
    if (m.has_certificate) {
        mvpn_read_copy(&r, m.link_certificate, sizeof(m.link_certificate));
        is_good = read_flag(&r, &m.has_membership) && is_good;
        if (m.has_membership) {
            memcpy(m.membership, m.link_certificate, IDENTITY_LEN);
            mvpn_read_copy(&r, m.membership + IDENTITY_LEN, MEMBERSHIP_REST);
        }
    }
    m.body = mvpn_read_rest(&r);
    if (r.failed || !is_good) {
        return MVPN_E_FORMAT;
    }
    *ret = m;
    return 0;
}
