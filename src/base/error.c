#include "base/error.h"

const char *mvpn_strerror(int code)
{
    switch (code) {
    case MVPN_OK:
        return "success";
    case MVPN_E_FORMAT:
        return "malformed";
    case MVPN_E_AUTH:
        return "authentication failed";
    case MVPN_E_REPLAY:
        return "replayed or too old";
    case MVPN_E_UNKNOWN:
        return "unknown";
    case MVPN_E_STATE:
        return "not acceptable in this state";
    case MVPN_E_LIMIT:
        return "limit reached";
    case MVPN_E_AGAIN:
        return "nothing to do now";
    case MVPN_E_POLICY:
        return "refused by policy";
    case MVPN_E_EXPIRED:
        return "expired";
    case MVPN_E_TOO_BIG:
        return "too big";
    case MVPN_E_SPACE:
        return "buffer too small";
    case MVPN_E_EXHAUSTED:
        return "counter exhausted";
    case MVPN_E_TIMEOUT:
        return "timed out";
    case MVPN_E_REFUSED:
        return "refused by the peer";
    case MVPN_E_PROTOCOL:
        return "protocol violation by the peer";
    case MVPN_E_CLOSED:
        return "closed";
    case MVPN_E_BUSY:
        return "the peer is busy";
    case MVPN_E_NOMEM:
        return "out of memory";
    case MVPN_E_SYSTEM:
        return "system call failed";
    case MVPN_E_INVAL:
        return "invalid argument";
    case MVPN_E_CONFIG:
        return "bad configuration";
    case MVPN_E_CRYPTO:
        return "crypto library failure";
    default:
        return "unknown error";
    }
}
