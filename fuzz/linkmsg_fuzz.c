/* Link handshakes' headers and payloads, and bodies of link messages: [which 1] [bytes]. */
#include "fuzz/fuzz.h"
#include "wire/handshake.h"
#include "wire/linkmsg.h"

static void payload(mvpn_bytes in, bool is_reply)
{
    static uint8_t again[2048];
    uint8_t header[MVPN_HANDSHAKE_HEADER_LEN] = {0};
    mvpn_handshake_payload p, q;
    memcpy(header, in.p, MVPN_MIN(in.n, sizeof(header)));
    if (mvpn_handshake_payload_decode(&p, in, is_reply, header) != 0) {
        return;
    }
    FUZZ_CHECK(p.id_count <= MVPN_HANDSHAKE_IDS_MAX && p.max_datagram >= MVPN_DATAGRAM_MIN);
    FUZZ_CHECK(p.link_certificate.n <= in.n && p.membership_certificate.n <= in.n);
    if (in.n > sizeof(again)) {
        return;
    }
    /* Unknown TLVs are not kept, so what we encode may be shorter; it says the same. */
    FUZZ_CHECK(mvpn_handshake_payload_encode(again, in.n, is_reply, header, &p) == 0);
    FUZZ_CHECK(mvpn_handshake_payload_decode(&q, mvpn_bytes_of(again, in.n), is_reply, header) ==
               0);
    FUZZ_CHECK(p.time == q.time && p.id_count == q.id_count &&
               p.link_certificate.n == q.link_certificate.n &&
               p.membership_certificate.n == q.membership_certificate.n);
}

static void header(mvpn_bytes in)
{
    uint8_t again[MVPN_HANDSHAKE_HEADER_LEN];
    mvpn_handshake_header h;
    if (mvpn_handshake_header_decode(&h, in) == 0 && mvpn_is_handshake_flags(in.p[0])) {
        FUZZ_CHECK(in.n == MVPN_HANDSHAKE_LEN);
        mvpn_handshake_header_encode(again, &h);
        fuzz_same(again, sizeof(again), mvpn_bytes_of(in.p, sizeof(again)));
    }
}

static void acks(mvpn_bytes in)
{
    uint8_t again[MVPN_LINK_ACK_LEN_MAX];
    uint32_t sequences[MVPN_LINK_ACK_MAX];
    size_t count;
    if (mvpn_link_ack_decode(sequences, &count, in) == 0) {
        FUZZ_CHECK(count >= 1 && count <= MVPN_LINK_ACK_MAX);
        fuzz_same(again, mvpn_link_ack_encode(again, sequences, count), in);
    }
}

static void new_ids(mvpn_bytes in)
{
    uint8_t again[MVPN_LINK_NEW_IDS_LEN_MAX];
    mvpn_connection_id ids[MVPN_HANDSHAKE_IDS_MAX];
    size_t count;
    if (mvpn_link_new_ids_decode(ids, &count, in) == 0) {
        FUZZ_CHECK(count >= 1 && count <= MVPN_HANDSHAKE_IDS_MAX);
        fuzz_same(again, mvpn_link_new_ids_encode(again, ids, count), in);
    }
}

static void part(mvpn_bytes in)
{
    uint8_t again[MVPN_LINK_PART_HEADER_LEN];
    mvpn_link_part p;
    if (mvpn_link_part_decode(&p, in) == 0) {
        FUZZ_CHECK(p.index <= 1 && p.bytes.n > 0 && p.bytes.n + sizeof(again) == in.n);
        mvpn_link_part_encode(again, p.id, p.index);
        fuzz_same(again, sizeof(again), mvpn_bytes_of(in.p, sizeof(again)));
    }
}

static void candidates(mvpn_bytes in)
{
    uint8_t again[MVPN_LINK_CANDIDATES_LEN_MAX];
    mvpn_link_candidates m, n;
    if (mvpn_link_candidates_decode(&m, in) != 0) {
        return;
    }
    FUZZ_CHECK(m.id_count >= 1 && m.id_count <= MVPN_HANDSHAKE_IDS_MAX);
    FUZZ_CHECK(m.candidate_count <= MVPN_CANDIDATES_MAX);
    FUZZ_CHECK(m.mapping <= MVPN_NAT_DEPENDS_PORT && m.filtering <= MVPN_NAT_DEPENDS_PORT);
    for (size_t i = 0; i < m.candidate_count; i++) {
        const mvpn_addr *a = &m.candidates[i].addr;
        FUZZ_CHECK((a->family == 4 || a->family == 6) && a->port != 0);
    }
    /* What is unknown reads UNKNOWN, so the bytes may differ; they say the same. */
    size_t len = mvpn_link_candidates_encode(again, &m);
    FUZZ_CHECK(len == in.n);
    FUZZ_CHECK(mvpn_link_candidates_decode(&n, mvpn_bytes_of(again, len)) == 0);
    FUZZ_CHECK(m.round == n.round && m.flags == n.flags && m.mapping == n.mapping &&
               m.filtering == n.filtering && m.port_step == n.port_step &&
               m.id_count == n.id_count && m.candidate_count == n.candidate_count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint64_t token;
    uint8_t reason;
    if (size < 1) {
        return 0;
    }
    mvpn_bytes in = mvpn_bytes_of(data + 1, size - 1);
    switch (data[0] % 9) {
    case 0:
        payload(in, false);
        break;
    case 1:
        payload(in, true);
        break;
    case 2:
        header(in);
        break;
    case 3:
        acks(in);
        break;
    case 4:
        new_ids(in);
        break;
    case 5:
        part(in);
        break;
    case 6:
        if (mvpn_link_token_decode(&token, in) == 0) {
            FUZZ_CHECK(in.n == MVPN_LINK_TOKEN_LEN && token == mvpn_load64(in.p));
        }
        break;
    case 7:
        FUZZ_CHECK(mvpn_link_probe_decode(&token, in) != 0 || in.n >= MVPN_LINK_TOKEN_LEN);
        FUZZ_CHECK(mvpn_link_close_decode(&reason, in) != 0 || in.n == 1);
        break;
    default:
        candidates(in);
        break;
    }
    return 0;
}
