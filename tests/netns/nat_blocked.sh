#!/bin/bash
# A home whose network lets no UDP pass (TCP and ICMP it does): do the client and the relay in it say so, in
# log and status, with what would help? "ok NAME" or "FAIL NAME" for ./run test.
#
#     inet --- boot (entry), alder, birch      den-r (type blocked) --- den: client; den2: relay at home
set -u
. "$(dirname "$0")/lab.sh"
. "$(dirname "$0")/mesh.sh"
. "$(dirname "$0")/nat.sh"
. "$(dirname "$0")/nat_mesh.sh"

# says FILE: that nothing comes back, and what to do
says() {
    cat "$1"
    grep -q 'nothing comes back over UDP' "$1" && grep -q 'try another network' "$1"
}

said_once() {
    says "$1" && [ "$(grep -c 'nothing comes back' "$1")" = 1 ]
}

# status_says NODE
status_says() {
    "$MESH_PROGRAMS/meshvpn" status --control "$LAB_DIR/sock/$1" >"$LAB_DIR/said"
    local code=$?
    says "$LAB_DIR/said" && [ "$code" != 0 ]
}

status_says_nothing() {
    ! status_says "$1"
}

# within_20_s COMMAND...
within_20_s() {
    local tries=80
    until "$@" >/dev/null 2>&1; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || return 1
        sleep 0.25
    done
}

both_say() {
    status_says client && status_says den2
}

lab_begin
LAB_RELAYS="alder birch"
LAB_EXITS=
natmesh_internet
nat_home den blocked
nat_host den2 den-r
natmesh_member den2 blocked
# shellcheck disable=SC2086 # names are words
mesh_relays_start $LAB_ENTRIES $LAB_RELAYS
mesh_relay_start den2
MESH_CLIENT_NODE=den mesh_client_start 3
within_20_s both_say
lab_check nat_blocked_client_status status_says client
lab_check nat_blocked_client_log said_once "$LAB_DIR/log/client.log"
lab_check nat_blocked_relay_status status_says den2
lab_check nat_blocked_relay_log said_once "$LAB_DIR/log/den2.log"
lab_check nat_blocked_not_said_in_the_open status_says_nothing alder
lab_check nat_blocked_programs_alive mesh_alive

# Let through, it is forgotten.
lab_in den-r nft flush chain ip nat_lab forward
within_20_s status_says_nothing client
lab_check nat_blocked_no_more status_says_nothing client

exit $((LAB_FAILED > 0))
