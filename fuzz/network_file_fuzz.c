/* The network file. It is loaded by name: a file in memory has one. */
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuzz/fuzz.h"
#include "io/network_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    mvpn_network_file file;
    mvpn_fault fault = {{0}};
    char path[64];
    int fd = memfd_create("network.conf", 0);
    FUZZ_CHECK(fd >= 0);
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    if (fchmod(fd, 0600) == 0 && write(fd, data, size) == (ssize_t)size) {
        if (mvpn_network_file_load(path, 1500000, &file, &fault) == 0) {
            FUZZ_CHECK(file.relay_count <= MVPN_NETWORK_RELAYS_MAX);
            for (size_t i = 0; i < file.relay_count; i++) {
                FUZZ_CHECK(mvpn_descriptor_verify(&file.relays[i], &file.network_id,
                                                  mvpn_network_file_closed_pub(&file),
                                                  1500000) == 0);
            }
            FUZZ_CHECK(file.entry_count <= MVPN_NETWORK_ENTRIES_MAX);
            for (size_t i = 0; i < file.entry_count; i++) {
                FUZZ_CHECK(mvpn_dht_id_fits(&file.entries[i].id, &file.entries[i].addr));
                FUZZ_CHECK(file.allow_private || mvpn_addr_is_public(&file.entries[i].addr));
            }
            FUZZ_CHECK(file.discovery_count <= MVPN_NETWORK_DISCOVERY_MAX);
            for (size_t i = 0; i < file.discovery_count; i++) {
                FUZZ_CHECK(mvpn_network_url_is_valid(file.discovery[i]));
            }
            FUZZ_CHECK(file.dns[0] == '\0' || mvpn_network_dns_is_valid(file.dns));
            FUZZ_CHECK(file.revocations.sequence == 0 || file.is_closed);
            mvpn_network_file_done(&file);
        } else {
            FUZZ_CHECK(fault.text[0] != '\0' && file.relays == NULL);
        }
    }
    (void)close(fd);
    return 0;
}
