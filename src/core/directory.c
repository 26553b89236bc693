#include "core/directory.h"

#include "base/assert.h"
#include "wire/message.h"

/* What a reply is written into: a link or a cell never has more room. */
#define ROOM_MAX MVPN_BODY_MAX
/* [total 4] [offset 4] before the bytes of a BlobPart (§11.3). */
#define BLOB_PART_FIXED 8

/* A Fetch has one reply a record at most, and one more to say that it was the last. */
_Static_assert(MVPN_DHT_FETCH_MAX + 1 <= MVPN_DIRECTORY_REPLIES_MAX, "answers stay bounded");

typedef struct answer {
    const mvpn_view *view;
    size_t room;
    mvpn_directory_emit *emit;
    void *ctx;
    unsigned count;
    bool is_over; /* the receiver takes no more */
} answer;

static void emit(answer *a, unsigned command, mvpn_bytes body)
{
    if (a->is_over) {
        return;
    }
    a->is_over = !a->emit(a->ctx, command, body);
    a->count += !a->is_over;
}

static void emit_reply(answer *a, const mvpn_dht_reply *m)
{
    uint8_t body[ROOM_MAX];
    size_t n = mvpn_dht_reply_encode(body, a->room, m);
    if (n > 0) {
        emit(a, m->command, mvpn_bytes_of(body, n));
    }
}

static void refuse(answer *a, uint8_t reason)
{
    emit_reply(a, &(mvpn_dht_reply){.command = MVPN_CMD_DHT_ERROR, .status = reason});
}

static void answer_value(answer *a, const mvpn_dht_id *key)
{
    mvpn_dht_reply m = {.command = MVPN_CMD_DHT_VALUE};
    if (!mvpn_view_record(a->view, key, &m.type, &m.record)) {
        m.command = MVPN_CMD_DHT_NODES; /* none: a view knows no DHT contacts */
    } else if (m.record.n + 1 > a->room) {
        refuse(a, MVPN_DHT_ERROR_NOT_SERVED);
        return;
    }
    emit_reply(a, &m);
}

static void answer_list(answer *a, const mvpn_dht_request *q)
{
    mvpn_dht_reply m = {
        .command = MVPN_CMD_DHT_LISTED,
        .total = (uint32_t)mvpn_view_record_count(a->view),
    };
    m.listed_count = mvpn_view_list(a->view, &q->target, q->bits, m.listed, MVPN_DHT_LISTED_MAX,
                                    &m.more); /* cut to the room by the encoder */
    emit_reply(a, &m);
}

/* As many records per reply as fit; the last says that nothing follows. */
static void answer_fetch(answer *a, const mvpn_dht_request *q)
{
    uint8_t body[ROOM_MAX];
    size_t len = 1; /* [more 1] */
    for (size_t i = 0; i < q->key_count && !a->is_over; i++) {
        uint8_t type;
        mvpn_bytes record;
        if (!mvpn_view_record(a->view, &q->keys[i], &type, &record) ||
            mvpn_dht_fetched_append(body, a->room, &len, type, record) == 0) {
            continue;
        }
        if (len == 1) {
            continue; /* it alone does not fit: as if we had none */
        }
        body[0] = 1;
        emit(a, MVPN_CMD_DHT_FETCHED, mvpn_bytes_of(body, len));
        len = 1;
        i--; /* this one again, alone */
    }
    body[0] = 0;
    emit(a, MVPN_CMD_DHT_FETCHED, mvpn_bytes_of(body, len));
}

static void answer_blob(answer *a, const mvpn_dht_request *q)
{
    mvpn_bytes snapshot = mvpn_view_snapshot(a->view, &q->digest);
    mvpn_dht_reply m = {
        .command = MVPN_CMD_DHT_BLOB_PART,
        .total = (uint32_t)snapshot.n,
        .offset = q->offset,
    };
    if (q->offset < snapshot.n) {
        size_t n = MVPN_MIN(snapshot.n - q->offset, a->room - BLOB_PART_FIXED);
        m.bytes = mvpn_bytes_of(snapshot.p + q->offset, n);
    }
    emit_reply(a, &m);
}

unsigned mvpn_directory_answer(const mvpn_view *view, unsigned command, mvpn_bytes body,
                               size_t room, uint64_t unix_now, mvpn_directory_emit *emit_to,
                               void *ctx)
{
    mvpn_dht_request q;
    answer a = {
        .view = view, .room = MVPN_MIN(room, (size_t)ROOM_MAX), .emit = emit_to, .ctx = ctx};
    (void)unix_now; /* what has expired is no longer in the view */
    MVPN_ASSERT(room >= MVPN_DIRECTORY_ROOM_MIN);
    int r = mvpn_dht_request_decode(&q, command, body);
    if (r != 0) {
        refuse(&a, r == MVPN_E_UNKNOWN ? MVPN_DHT_ERROR_NOT_SERVED : MVPN_DHT_ERROR_MALFORMED);
        return a.count;
    }
    switch (command) {
    case MVPN_CMD_DHT_FIND_VALUE:
        answer_value(&a, &q.target);
        break;
    case MVPN_CMD_DHT_LIST:
        answer_list(&a, &q);
        break;
    case MVPN_CMD_DHT_FETCH:
        answer_fetch(&a, &q);
        break;
    case MVPN_CMD_DHT_BLOB:
        answer_blob(&a, &q);
        break;
    default: /* Ping, FindNode, Store: the DHT's, between servers */
        refuse(&a, MVPN_DHT_ERROR_NOT_SERVED);
        break;
    }
    return a.count;
}
