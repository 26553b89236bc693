/* DHT messages: [which 1] [command 1] [bytes]. What decodes has one encoding. */
#include "base/error.h"
#include "fuzz/fuzz.h"
#include "wire/dht.h"
#include "wire/message.h"

static uint8_t again[2048];

static void contact(mvpn_bytes in)
{
    mvpn_dht_contact c;
    if (mvpn_dht_contact_decode(&c, in) == 0) {
        FUZZ_CHECK(mvpn_dht_id_fits(&c.id, &c.addr) && c.addr.port != 0);
        fuzz_same(again, mvpn_dht_contact_encode(again, sizeof(again), &c), in);
    }
}

static void contacts(mvpn_bytes in)
{
    mvpn_dht_contact c[MVPN_DHT_K];
    size_t n;
    if (mvpn_dht_contacts_decode(c, &n, in) == 0) {
        FUZZ_CHECK(n <= MVPN_DHT_K);
        size_t len = mvpn_dht_contacts_encode(again, sizeof(again), c, n);
        FUZZ_CHECK(len <= in.n); /* those in the wrong place are left out */
        if (len == in.n) {
            fuzz_same(again, len, in);
        }
    }
}

static void request(unsigned command, mvpn_bytes in)
{
    mvpn_dht_request m;
    if (mvpn_dht_request_decode(&m, command, in) == 0) {
        FUZZ_CHECK(m.command == command);
        fuzz_same(again, mvpn_dht_request_encode(again, sizeof(again), &m), in);
    }
}

static void fetched(mvpn_bytes items, bool is_checked)
{
    uint8_t type;
    mvpn_bytes record;
    int rc;
    size_t len = 0, size = items.n;
    while ((rc = mvpn_dht_fetched_next(&items, &type, &record)) == 0) {
        FUZZ_CHECK(record.n >= 1 && record.n <= MVPN_DHT_RECORD_MAX);
        FUZZ_CHECK(size > sizeof(again) ||
                   mvpn_dht_fetched_append(again, sizeof(again), &len, type, record) == 0);
    }
    FUZZ_CHECK(!is_checked || rc == MVPN_E_AGAIN);
}

static void reply(unsigned command, mvpn_bytes in)
{
    mvpn_dht_reply m;
    if (mvpn_dht_reply_decode(&m, command, in) != 0) {
        return;
    }
    FUZZ_CHECK(m.command == command && m.contact_count <= MVPN_DHT_K);
    FUZZ_CHECK(m.listed_count <= MVPN_DHT_LISTED_MAX);
    if (command == MVPN_CMD_DHT_FETCHED) {
        fetched(m.record, true);
    }
    if (in.n <= sizeof(again) && command != MVPN_CMD_DHT_NODES) {
        fuzz_same(again, mvpn_dht_reply_encode(again, sizeof(again), &m), in);
    }
}

static void datagram(mvpn_bytes in)
{
    mvpn_dht_request_packet p;
    bool is_ours = mvpn_dht_is_datagram(in);
    if (mvpn_dht_request_packet_decode(&p, in) == 0) {
        FUZZ_CHECK(is_ours && in.n <= MVPN_DHT_DATAGRAM4_MAX);
        FUZZ_CHECK(p.before.n + p.mac1.n <= in.n && p.mac1.n == MVPN_DHT_MAC_LEN);
        FUZZ_CHECK(p.noise.p + p.noise.n == p.mac1.p);
    }
}

static void ask(mvpn_bytes in)
{
    mvpn_dht_ask m;
    if (mvpn_dht_ask_decode(&m, in) == 0 && in.n <= sizeof(again)) {
        fuzz_same(again, mvpn_dht_ask_encode(again, sizeof(again), &m), in);
    }
}

static void answer(mvpn_bytes in)
{
    mvpn_dht_answer m;
    if (mvpn_dht_answer_decode(&m, in) == 0 && in.n <= sizeof(again)) {
        size_t overhead = mvpn_dht_answer_overhead(m.has_certificate, m.has_membership);
        FUZZ_CHECK(overhead + m.body.n == in.n);
        fuzz_same(again, mvpn_dht_answer_encode(again, sizeof(again), &m), in);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) {
        return 0;
    }
    mvpn_bytes in = mvpn_bytes_of(data + 2, size - 2);
    switch (data[0] % 8) {
    case 0:
        contact(in);
        break;
    case 1:
        contacts(in);
        break;
    case 2:
        request(data[1], in);
        break;
    case 3:
        reply(data[1], in);
        break;
    case 4:
        fetched(in, false);
        break;
    case 5:
        datagram(in);
        break;
    case 6:
        ask(in);
        break;
    default:
        answer(in);
        break;
    }
    return 0;
}
