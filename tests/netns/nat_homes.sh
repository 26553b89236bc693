#!/bin/bash
# Two homes that the other tests have not: one without IPv4, whose entries name nodes with both addresses;
# and one that is started again, and knows at once how long its NAT keeps a mapping. One "ok NAME" or
# "FAIL NAME" line per check. Topology: nat_mesh.sh.
set -u
. "$(dirname "$0")/lab.sh"
. "$(dirname "$0")/mesh.sh"
. "$(dirname "$0")/nat.sh"
. "$(dirname "$0")/nat_mesh.sh"

page_by() {
    mesh_client_start 3 "$(mesh_identity alder)" "$(mesh_identity "$1")" "$(mesh_identity cedar)"
    mesh_client_wait 20 && mesh_curl --max-time 20 "http://$(lab_addr4 web)/ip"
    local code=$?
    mesh_client_stop
    return "$code"
}

lifetime() {
    mesh_node_get attic nat.lifetime_s
}

# has_lifetime SECONDS: sets lifetime_s
has_lifetime() {
    local end=$((SECONDS + $1))
    while [ "$SECONDS" -lt "$end" ]; do
        lifetime_s=$(lifetime 2>/dev/null)
        [[ $lifetime_s =~ ^[0-9]+$ ]] && return
        sleep 0.1
    done
    echo "lifetime: $lifetime_s"
    return 1
}

is_remembered() {
    local before=$lifetime_s
    # Measured anew it takes 18 s to the first step: links, the kind of NAT, 3 s of rest, 13 s of silence.
    has_lifetime 14 && [ "$lifetime_s" -ge "$before" ]
}

lab_begin
LAB_RELAYS="alder birch cedar elm"
LAB_EXITS=cedar
NATMESH_GUARD=alder
natmesh_internet
lab_services
natmesh_home six v6only
natmesh_home attic port
# shellcheck disable=SC2086 # names are words
mesh_relays_start $LAB_ENTRIES $LAB_RELAYS
mesh_relay_start six
mesh_relay_start attic
lab_check homes_six_is_found natmesh_knows 40 six boot alder
mesh_join
lab_check homes_page_through_six page_by six
lab_check homes_lifetime_is_measured has_lifetime 60
[ -n "${lifetime_s:-}" ] && for _ in $(seq 150); do
    [ -s "$LAB_DIR/run/attic/nat" ] && break
    sleep 0.1
done
mesh_node_stop attic
mesh_relay_start attic
lab_check homes_lifetime_is_remembered is_remembered
lab_say "   a mapping lives $lifetime_s s at least"
lab_check homes_programs_alive mesh_alive
exit $((LAB_FAILED > 0))
