/*
 * Taking out of a text what tells who somebody is or whom they meet: addresses, keys, names. For
 * `meshvpn report`. Pure. It rather takes too much than too little; what is alike stays alike
 * ("<address-1>" is the same one everywhere in a report), so that a reader can follow.
 */
#ifndef MVPN_BIN_REDACT_H
#define MVPN_BIN_REDACT_H

#include <jansson.h>

enum redact_kind {
    REDACT_ADDRESS, /* IPv4, IPv6, Ethernet; with their ports */
    REDACT_KEY,     /* base64, hexadecimal */
    REDACT_NAME,    /* of hosts, users, relays, domains, mail */
    REDACT_COUNTRY,
    REDACT_TEXT, /* anything else of which nobody said that it is harmless */
};
#define REDACT_KINDS 5

/* Words that are known to be names: relays of a network file, exits, users. */
#define REDACT_WORDS_MAX 8192
/* Different ones that get a number; further ones get none. */
#define REDACT_SEEN_MAX 512

typedef struct redactor redactor;

/** NULL: no memory. */
redactor *redact_new(void);
/** NULL is allowed. */
void redact_free(redactor *r);

/**
 * Take `word` out wherever it stands alone, in capitals too; a country only as it is written. Words
 * that everybody's report has ("root", "client") and those of one letter are left.
 */
void redact_add(redactor *r, enum redact_kind kind, const char *word);

/** Add all names, identities and countries that stand in an object of ours, at any depth. */
void redact_add_json(redactor *r, const json_t *object);

/** A string for free(), or NULL: no memory. */
char *redact_text(redactor *r, const char *text);

/**
 * A copy of an object, the caller's; NULL: no memory. Numbers and truths stay, except ports; of
 * texts those alone whose keys are known to hold words of ours.
 */
json_t *redact_json(redactor *r, const json_t *object);

/** As above for meshvpn.config/1: values of keys that name anything are left out. */
json_t *redact_config(redactor *r, const json_t *config);

#endif
