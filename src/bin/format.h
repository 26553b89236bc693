/* Numbers as a person reads them. */
#ifndef MVPN_BIN_FORMAT_H
#define MVPN_BIN_FORMAT_H

/** "1 h 4 min". */
const char *format_duration(double seconds, char out[static 48]);
/** "12.3 MB" and "4.56 Mbit/s": decimal units, three figures. */
const char *format_bytes(double bytes, char out[static 32]);
const char *format_rate(double bits_per_s, char out[static 32]);

#endif
