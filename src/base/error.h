/*
 * The one table of result codes. Functions return 0 or one negative MVPN_E_*.
 * The range tells the caller what to do:
 *   drop   -1..-19   this packet or message is ignored, nothing changed
 *   close  -20..-39  this session, circuit or link ends
 *   fatal  -40..-59  a resource is missing or our own call was wrong
 */
#ifndef MVPN_BASE_ERROR_H
#define MVPN_BASE_ERROR_H

#include <stdbool.h>

enum mvpn_error {
    MVPN_OK = 0,

    /* drop */
    MVPN_E_FORMAT = -1,   /* not decodable: short, trailing bytes, value out of range */
    MVPN_E_AUTH = -2,     /* tag, signature or MAC is wrong */
    MVPN_E_REPLAY = -3,   /* counter or nonce was seen, or is older than the window */
    MVPN_E_UNKNOWN = -4,  /* no such connection, circuit, session or command */
    MVPN_E_STATE = -5,    /* not acceptable in this state, or not from this sender */
    MVPN_E_LIMIT = -6,    /* a rate or size limit refuses it */
    MVPN_E_AGAIN = -7,    /* nothing to do now, try later */
    MVPN_E_POLICY = -8,   /* refused by policy */
    MVPN_E_EXPIRED = -9,  /* a certificate, descriptor or cookie is out of its time */
    MVPN_E_TOO_BIG = -10, /* does not fit where it must */
    MVPN_E_SPACE = -11,   /* the caller's buffer is too small */

    /* close */
    MVPN_E_EXHAUSTED = -20, /* a counter reached its end: no further packet may be sealed */
    MVPN_E_TIMEOUT = -21,   /* the peer did not answer in time */
    MVPN_E_REFUSED = -22,   /* the peer refused */
    MVPN_E_PROTOCOL = -23,  /* the peer broke the protocol */
    MVPN_E_CLOSED = -24,    /* already closed */
    MVPN_E_BUSY = -25,      /* the peer has no room at present: try another, or later */

    /* fatal */
    MVPN_E_NOMEM = -40,  /* memory or a pool is used up */
    MVPN_E_SYSTEM = -41, /* a system call failed; errno tells which way */
    MVPN_E_INVAL = -42,  /* an argument of ours is wrong */
    MVPN_E_CONFIG = -43, /* configuration or key file is wrong */
    MVPN_E_CRYPTO = -44, /* the crypto library failed */
};

/** One English phrase for a result code; never NULL. */
const char *mvpn_strerror(int code);

static inline bool mvpn_error_is_close(int code)
{
    return code <= -20 && code >= -39;
}

#endif
