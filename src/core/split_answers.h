/*
 * Where names of domains alone go inside (inside_domains): what an answer that came through the
 * tunnel may tell a program. Its public addresses only once they are inside; and nothing that leads
 * to the same servers by a way that nobody sees here: aliases, which a program would ask for as
 * names of others, and hints in records of services. What cannot be read, or cannot be inside, is
 * not told at all.
 *
 * An answer is of these domains if its question is, or any of its records belongs to one of them.
 * Who answered does not matter. Pure; bin/client_split drives it before the host sees the packet.
 * (docs/split-tunnelling.md)
 */
#ifndef MVPN_CORE_SPLIT_ANSWERS_H
#define MVPN_CORE_SPLIT_ANSWERS_H

#include "core/split_names.h"

enum mvpn_split_verdict {
    MVPN_SPLIT_PASS, /* once its addresses are inside */
    MVPN_SPLIT_REWRITE,
    MVPN_SPLIT_DROP,
};

typedef struct mvpn_split_answer {
    enum mvpn_split_verdict verdict;
    unsigned count;                         /* 0 unless it is of these domains */
    mvpn_addr addrs[MVPN_SPLIT_ANSWER_MAX]; /* that must be inside before; public */
    /* What a rewritten one has. */
    uint16_t at;       /* of the message in the packet */
    uint16_t question; /* bytes of it that stay: header and question */
    uint8_t rcode;
    bool is_cut;        /* say that it was truncated */
    bool has_addresses; /* those above, as addresses of the name that was asked for */
    uint32_t ttl;       /* of these */
    bool has_edns;
    uint16_t edns_size;
    uint32_t edns_flags;
} mvpn_split_answer;

/** What to do with IP packet `packet`. It passes, with no addresses, if it is no answer. */
void mvpn_split_answer_read(const mvpn_split_domains *domains, mvpn_bytes packet,
                            mvpn_split_answer *ret);
/** Its addresses cannot be inside: the program is told that the name cannot be resolved now. */
void mvpn_split_answer_refuse(mvpn_split_answer *answer);
/** Rewrite the packet that `answer` was read from, in place, with lengths and checksums. Returns
 * its new length, which is no more than `len`. */
uint32_t mvpn_split_answer_write(const mvpn_split_answer *answer, uint8_t *packet, uint32_t len);

#endif
