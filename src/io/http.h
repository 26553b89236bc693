/*
 * A small HTTP server for what a node shows about the network: GET and HEAD of small things, no
 * bodies, no cookies, no log of who asked. libmicrohttpd behind one wrapper, driven by our loop: no
 * threads. Handlers get a request as text and give back a response: they touch no socket, and are
 * tested and fuzzed as plain functions.
 */
#ifndef MVPN_IO_HTTP_H
#define MVPN_IO_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "io/fault.h"
#include "io/loop.h"

/* Connections at once, and of one address; more are refused. */
#define MVPN_HTTP_CONNECTIONS 128
#define MVPN_HTTP_PER_ADDRESS 32
/* Request line and headers together; the target alone. */
#define MVPN_HTTP_REQUEST_MAX 16384
#define MVPN_HTTP_TARGET_MAX 2048
/* A connection that does nothing, and any connection: seconds. */
#define MVPN_HTTP_IDLE_S 15
#define MVPN_HTTP_LIFE_S 120
/* Requests a second over all connections, and the burst. */
#define MVPN_HTTP_RATE 200
#define MVPN_HTTP_BURST 400
#define MVPN_HTTP_NAMES_MAX 8
#define MVPN_HTTP_NAME_MAX 253

/** Bytes that several responses under way may share. */
typedef struct mvpn_http_blob {
    unsigned refs;
    size_t n;
    uint8_t *bytes; /* owned, from malloc */
} mvpn_http_blob;

/** Takes `bytes` (also on failure, when NULL is returned). */
mvpn_http_blob *mvpn_http_blob_new(uint8_t *bytes, size_t n);
/** A copy. */
mvpn_http_blob *mvpn_http_blob_copy(const void *bytes, size_t n);
mvpn_http_blob *mvpn_http_blob_hold(mvpn_http_blob *blob);
/** NULL is allowed. */
void mvpn_http_blob_release(mvpn_http_blob *blob);

typedef struct mvpn_http_request {
    const char *method;
    const char *target;        /* as it came, with its query; nothing is decoded */
    const char *host;          /* NULL: none */
    const char *if_none_match; /* NULL: none */
} mvpn_http_request;

/** Strings are static or live in the struct. */
typedef struct mvpn_http_response {
    unsigned status;
    const char *type;
    const char *cache;    /* Cache-Control; NULL: "no-store" */
    char etag[72];        /* with its quotes; "": none */
    mvpn_http_blob *body; /* one reference, taken; NULL: empty */
} mvpn_http_response;

typedef void mvpn_http_handler(void *ctx, const mvpn_http_request *request,
                               mvpn_http_response *ret);

typedef struct mvpn_http_options {
    mvpn_loop *loop;  /* borrowed */
    mvpn_addr listen; /* port 0: any */
    mvpn_http_handler *handler;
    void *ctx;
    unsigned life_ms; /* of a connection; 0 = MVPN_HTTP_LIFE_S */
} mvpn_http_options;

typedef struct mvpn_http mvpn_http;

/** MVPN_E_SYSTEM (the address is in use or not ours), MVPN_E_NOMEM; `fault` says what to do. */
MVPN_WUR int mvpn_http_open(mvpn_http **ret, const mvpn_http_options *options, mvpn_fault *fault);
/** Before mvpn_loop_free; the loop must not run any more. NULL is allowed. */
void mvpn_http_close(mvpn_http *http);
uint16_t mvpn_http_port(const mvpn_http *http);

/**
 * Is this Host header one of ours? A page elsewhere whose name was turned to our address (DNS
 * rebinding) must not read us. `names`: lower-case, without port.
 */
bool mvpn_http_host_is_ours(const char *host, const char *const *names, size_t count);

#endif
