/*
 * In which country an address lies: from the tables of Debian's tor-geoipdb (geoip and geoip6, of
 * the IPFire project's location database). An exit that declares another country than its address
 * lies in is not offered for it. Without the tables nothing is known, and the word of discovery
 * nodes counts alone.
 */
#ifndef MVPN_IO_GEOIP_H
#define MVPN_IO_GEOIP_H

#include "base/addr.h"
#include "base/bytes.h"
#include "io/fault.h"

/* Where the package puts them. */
#define MVPN_GEOIP_DIR "/usr/share/tor"
/* Ranges of one family; the tables of 2026 have 390,000 and grow by a tenth a year. */
#define MVPN_GEOIP_RANGES_MAX (2u << 20)

typedef struct mvpn_geoip mvpn_geoip;

/**
 * Load `dir`/geoip and `dir`/geoip6: some 100 ms and 7 MB. A file that is not there is an empty
 * table. 0; MVPN_E_FORMAT with the line in `fault`; MVPN_E_SYSTEM, MVPN_E_CONFIG (not a file, or
 * too big), MVPN_E_NOMEM.
 */
MVPN_WUR int mvpn_geoip_load(const char *dir, mvpn_geoip **ret, mvpn_fault *fault);
void mvpn_geoip_free(mvpn_geoip *geoip);

MVPN_WUR int mvpn_geoip_new(mvpn_geoip **ret);
/**
 * Read the text of one table of `family`: lines "FIRST,LAST,CC", ascending and apart, IPv4 as
 * numbers and IPv6 as text; "??" and what is no country (EU, AP) is unknown. `name` is for faults.
 * Replaces what was there of the family. MVPN_E_FORMAT, MVPN_E_NOMEM; the table is empty then.
 */
MVPN_WUR int mvpn_geoip_parse(mvpn_geoip *geoip, uint8_t family, const char *name, mvpn_bytes text,
                              mvpn_fault *fault);

/** The country of an address; false if it is not known. As mvpn_path_country_of wants it. */
bool mvpn_geoip_country(const void *geoip, const mvpn_addr *addr, char ret_country[3]);
/** Ranges known, of both families: 0 = no tables. */
size_t mvpn_geoip_count(const mvpn_geoip *geoip);

#endif
