#include "io/quota.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "base/error.h"
#include "io/file.h"

#define HEAD "meshvpn-quota 1\n"
#define FILE_MAX 256

uint32_t mvpn_quota_month(uint64_t unix_s)
{
    time_t t = (time_t)unix_s;
    struct tm tm;
    if (gmtime_r(&t, &tm) == NULL) {
        return 0;
    }
    return (uint32_t)(tm.tm_year + 1900) * 100 + (uint32_t)tm.tm_mon + 1;
}

static int write_file(mvpn_quota *q, uint64_t bytes, mvpn_fault *fault)
{
    char text[FILE_MAX];
    int n = snprintf(text, sizeof(text), HEAD "%" PRIu32 " %" PRIu64 "\n", q->month, bytes);
    int r = mvpn_file_write(q->path, text, (size_t)n, 0600, fault);
    if (r == 0) {
        q->noted = bytes;
    }
    return r;
}

/* What the file says of `month`; nothing if there is none. */
static int read_file(const mvpn_quota *q, uint64_t *ret_bytes, mvpn_fault *fault)
{
    uint8_t *content = NULL;
    size_t size = 0;
    uint32_t month = 0;
    uint64_t bytes = 0;
    int end = 0;
    *ret_bytes = 0;
    int r = mvpn_file_read(q->path, FILE_MAX, false, &content, &size, fault);
    if (r != 0) {
        return r == MVPN_E_UNKNOWN ? 0 : r;
    }
    if (sscanf((const char *)content, HEAD "%" SCNu32 " %" SCNu64 "\n%n", &month, &bytes, &end) !=
            2 ||
        (size_t)end != size || content[size - 1] != '\n') {
        r = mvpn_fault_set(fault, MVPN_E_CONFIG,
                           "%.300s, which counts the month's bytes, is damaged. Remove it to count "
                           "from 0",
                           q->path);
    } else if (month == q->month) {
        *ret_bytes = bytes;
    }
    mvpn_file_free(content, size);
    return r;
}

static uint64_t ahead_of(const mvpn_quota *q, uint64_t used)
{
    return used + q->limit / MVPN_QUOTA_STEPS;
}

int mvpn_quota_open(mvpn_quota *q, const char *state_dir, uint64_t limit, uint64_t unix_s,
                    uint64_t *ret_used, mvpn_fault *fault)
{
    *q = (mvpn_quota){.limit = limit, .month = mvpn_quota_month(unix_s)};
    int n = snprintf(q->path, sizeof(q->path), "%s/quota", state_dir);
    if (n < 0 || n >= (int)sizeof(q->path)) {
        return mvpn_fault_set(fault, MVPN_E_CONFIG, "the state directory's name is too long");
    }
    int r = read_file(q, ret_used, fault);
    if (r == 0) {
        r = write_file(q, ahead_of(q, *ret_used), fault);
    }
    if (r != 0) {
        q->limit = 0;
    }
    return r;
}

int mvpn_quota_note(mvpn_quota *q, uint64_t unix_s, uint64_t *used, mvpn_fault *fault)
{
    uint32_t month = mvpn_quota_month(unix_s);
    /* A clock that was set back does not give the last month's bytes again. */
    if (month > q->month) {
        q->month = month;
        *used = 0;
        return write_file(q, ahead_of(q, 0), fault);
    }
    if (q->noted - *used > q->limit / MVPN_QUOTA_STEPS / 2 && q->noted >= *used) {
        return 0;
    }
    return write_file(q, ahead_of(q, *used), fault);
}

int mvpn_quota_close(mvpn_quota *q, uint64_t used, mvpn_fault *fault)
{
    if (q->limit == 0) {
        return 0;
    }
    int r = write_file(q, used, fault);
    q->limit = 0;
    return r;
}
