/*
 * The two small pages that an exit may serve by HTTP: its metrics at a local address, and a notice
 * on port 80 of its own addresses that says what this machine is and whom to write to.
 */
#ifndef MVPN_IO_NOTICE_H
#define MVPN_IO_NOTICE_H

#include "exit/exit.h"
#include "io/http.h"

/* A page of text; pictures have to lie elsewhere. */
#define MVPN_NOTICE_MAX (64u << 10)
#define MVPN_NOTICE_PORT 80
/* One of each family. */
#define MVPN_NOTICE_LISTEN_MAX 2

typedef struct mvpn_notice {
    mvpn_http *metrics;
    mvpn_http *pages[MVPN_NOTICE_LISTEN_MAX];
    mvpn_http_blob *page;
    const mvpn_exit *exit; /* borrowed */
    char host[MVPN_ADDR_STRLEN];
} mvpn_notice;

typedef struct mvpn_notice_options {
    mvpn_loop *loop;       /* borrowed */
    const mvpn_exit *exit; /* borrowed */
    mvpn_addr metrics;     /* family 0: no metrics */
    const char *page;      /* "": none; "default"; or a file */
    const mvpn_addr *own;  /* the exit's addresses, ports ignored */
    size_t own_count;
} mvpn_notice_options;

/** MVPN_E_CONFIG (no such file, too long, address in use), MVPN_E_SYSTEM, MVPN_E_NOMEM; close it
 * all the same. */
MVPN_WUR int mvpn_notice_open(mvpn_notice *ret, const mvpn_notice_options *options,
                              mvpn_fault *fault);
void mvpn_notice_close(mvpn_notice *notice);

/** The handlers, for tests. */
void mvpn_notice_on_metrics(void *ctx, const mvpn_http_request *request, mvpn_http_response *ret);
void mvpn_notice_on_page(void *ctx, const mvpn_http_request *request, mvpn_http_response *ret);

#endif
