/* What programs send to the proxy: [kind and size of pieces] [bytes]. In pieces or at once, it is
 * the same. */
#include "base/error.h"
#include "fuzz/fuzz.h"
#include "network/proxy/groups.h"
#include "network/proxy/request.h"

/* Returns what was taken of the input. */
static size_t feed(mvpn_proxy_request *r, enum mvpn_proxy_kind kind, const uint8_t *p, size_t n,
                   size_t step)
{
    size_t at = 0, room;
    mvpn_proxy_request_init(r, kind);
    while (r->state == MVPN_PROXY_READING && at < n) {
        uint8_t *to = mvpn_proxy_request_room(r, &room);
        FUZZ_CHECK(room > 0);
        size_t len = MVPN_MIN(MVPN_MIN(step, room), n - at);
        memcpy(to, p + at, len);
        mvpn_proxy_request_filled(r, len);
        at += len;
    }
    return at - r->len;
}

static void check_target(const mvpn_proxy_target *t)
{
    FUZZ_CHECK(memchr(t->name, 0, sizeof(t->name)) != NULL);
    FUZZ_CHECK((t->name[0] == '\0') == (t->addr.family != 0));
    (void)mvpn_proxy_is_name(t->name);
}

/* Whoever it is, he has a group, and the same one again. */
static void check_user(const mvpn_proxy_user *user)
{
    static const uint8_t key[32] = {1};
    static mvpn_proxy_groups groups;
    unsigned first, again;
    bool begins, ends;
    mvpn_proxy_groups_init(&groups, key);
    FUZZ_CHECK(mvpn_proxy_groups_enter(&groups, user, 1, &first, &begins, &ends) == 0);
    FUZZ_CHECK(begins == user->is_set && (first != 0) == user->is_set && !ends);
    FUZZ_CHECK(mvpn_proxy_groups_enter(&groups, user, 1, &again, &begins, &ends) == 0);
    FUZZ_CHECK(again == first && !begins && !ends);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static mvpn_proxy_request whole, pieces;
    uint8_t header[MVPN_PROXY_UDP_HEADER_MAX];
    mvpn_proxy_target target;
    size_t at;
    if (size == 0) {
        return 0;
    }
    enum mvpn_proxy_kind kind = data[0] & 1 ? MVPN_PROXY_HTTP : MVPN_PROXY_SOCKS;
    size_t step = (data[0] >> 1) + 1u;
    data++;
    size--;
    size_t taken = feed(&whole, kind, data, size, size);
    FUZZ_CHECK(feed(&pieces, kind, data, size, step) == taken || whole.state == MVPN_PROXY_REFUSED);
    FUZZ_CHECK(whole.state == pieces.state && whole.reply_len == pieces.reply_len);
    FUZZ_CHECK(memcmp(whole.reply, pieces.reply, whole.reply_len) == 0);
    if (whole.state == MVPN_PROXY_ASKED) {
        check_target(&whole.target);
        FUZZ_CHECK(whole.command == pieces.command);
        FUZZ_CHECK(memcmp(&whole.user, &pieces.user, sizeof(whole.user)) == 0);
        check_user(&whole.user);
        FUZZ_CHECK(mvpn_addr_eq(&whole.target.addr, &pieces.target.addr));
        FUZZ_CHECK(strcmp(whole.target.name, pieces.target.name) == 0);
        mvpn_proxy_request_answer(&whole, (enum mvpn_proxy_result)(step % 9), &whole.target.addr);
    }
    if (mvpn_proxy_udp_decode(data, size, &target, &at) == 0) {
        FUZZ_CHECK(at <= size);
        check_target(&target);
        if (target.addr.family != 0 && data[3] != 3) {
            FUZZ_CHECK(mvpn_proxy_udp_encode(header, &target.addr) == at);
            FUZZ_CHECK(memcmp(header, data, at) == 0);
        }
    }
    return 0;
}
