/*
 * Messages of DNS as far as a forwarder must read them: the question, where records begin and end,
 * how long they may be kept, and whether they name private addresses. (RFC 1035 §4, RFC 2308, RFC
 * 6891, RFC 9460) Names are skipped, never followed: compression pointers cannot loop.
 */
#ifndef MVPN_EXIT_DNS_MESSAGE_H
#define MVPN_EXIT_DNS_MESSAGE_H

#include <stdbool.h>

#include "base/addr.h"
#include "base/bytes.h"
#include "base/macros.h"

#define MVPN_DNS_HEADER 12
#define MVPN_DNS_NAME_MAX 255 /* RFC 1035 §3.1 */
#define MVPN_DNS_QUESTION_MAX (MVPN_DNS_NAME_MAX + 4)
#define MVPN_DNS_MESSAGE_MAX 65535

#define MVPN_DNS_QR 0x8000
#define MVPN_DNS_OPCODE 0x7800
#define MVPN_DNS_TC 0x0200
#define MVPN_DNS_RD 0x0100
#define MVPN_DNS_RA 0x0080
#define MVPN_DNS_AD 0x0020
#define MVPN_DNS_CD 0x0010
#define MVPN_DNS_RCODE 0x000f

#define MVPN_DNS_SERVFAIL 2
#define MVPN_DNS_NXDOMAIN 3

#define MVPN_DNS_TYPE_A 1
#define MVPN_DNS_TYPE_CNAME 5
#define MVPN_DNS_TYPE_AAAA 28
#define MVPN_DNS_TYPE_DNAME 39
#define MVPN_DNS_TYPE_OPT 41
#define MVPN_DNS_TYPE_SVCB 64
#define MVPN_DNS_TYPE_HTTPS 65

/* Longer-lived records are asked for again after an hour: a session rarely lasts longer. */
#define MVPN_DNS_TTL_MAX 3600

typedef struct mvpn_dns_question {
    uint16_t len;
    uint16_t type;
    uint8_t bytes[MVPN_DNS_QUESTION_MAX]; /* name in lower case, type, class */
} mvpn_dns_question;

typedef struct mvpn_dns_query_info {
    mvpn_dns_question question;
    uint16_t flags;
    bool has_edns;
    uint32_t edns; /* extended code, version and flags */
} mvpn_dns_query_info;

typedef struct mvpn_dns_answer_info {
    mvpn_dns_question question;
    uint16_t flags;
    bool has_private; /* it names an address that is not on the public internet */
    uint32_t ttl;     /* seconds it may be kept; 0: not at all */
} mvpn_dns_answer_info;

/**
 * Read a query and empty its EDNS options in place (client subnet and cookies would name the
 * client; the size is cut to `udp_max`). Strict: one question, nothing but an EDNS record behind
 * it, no zone transfer, no bytes left over. `*len` may shrink. MVPN_E_FORMAT (drop).
 */
MVPN_WUR int mvpn_dns_query_read(uint8_t *message, uint32_t *len, uint16_t udp_max,
                                 mvpn_dns_query_info *ret);

/**
 * Read an answer and all of its records. A truncated one may be cut in the middle of a record: its
 * records are not looked at, and must not be passed on. MVPN_E_FORMAT (drop).
 */
MVPN_WUR int mvpn_dns_answer_read(const uint8_t *message, uint32_t len, mvpn_dns_answer_info *ret);

/** The addresses in the answer section of an answer that was read before, at most `max`; those of
 * the names that its CNAMEs lead to as well. Returns how many. */
unsigned mvpn_dns_answer_addresses(const uint8_t *message, uint32_t len, mvpn_addr *ret,
                                   unsigned max);

enum mvpn_dns_section { MVPN_DNS_ANSWER, MVPN_DNS_AUTHORITY, MVPN_DNS_ADDITIONAL };
#define MVPN_DNS_SECTIONS 3

typedef struct mvpn_dns_record {
    enum mvpn_dns_section section;
    uint16_t type;
    uint16_t class;  /* of OPT: the largest UDP message of who sent it */
    uint32_t ttl;    /* as it came; of OPT: extended code, version and flags */
    size_t name_at;  /* in the message: its owner */
    mvpn_bytes data; /* borrowed */
} mvpn_dns_record;

/* A walk over the records of an answer. */
typedef struct mvpn_dns_records {
    const uint8_t *message; /* borrowed */
    const uint8_t *p, *end;
    uint16_t left[MVPN_DNS_SECTIONS];
} mvpn_dns_records;

/** Begin with an answer that was read before, and was not truncated. */
void mvpn_dns_records_begin(mvpn_dns_records *records, const uint8_t *message, uint32_t len);
/** The next record of any section; false: there is none. */
bool mvpn_dns_records_next(mvpn_dns_records *records, mvpn_dns_record *ret);

/**
 * The name at offset `at`, without compression and in lower case; pointers are followed only to
 * what stands before (RFC 1035 §4.1.4), so that they cannot loop. Returns its length with the
 * root's zero, or 0: there is none.
 */
size_t mvpn_dns_name_read(mvpn_bytes message, size_t at, uint8_t ret[static MVPN_DNS_NAME_MAX]);

/** Turn a query or an answer into an answer without records, in place; returns its length. `info`
 * is the question that was read from it. */
uint32_t mvpn_dns_make_empty(uint8_t *message, const mvpn_dns_question *question);

/** Take `seconds` from the time to live of every record of an answer that was read before. */
void mvpn_dns_age(uint8_t *message, uint32_t len, uint32_t seconds);

#endif
