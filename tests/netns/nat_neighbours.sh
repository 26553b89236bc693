#!/bin/bash
# Relays that the internet sees at one address: in one home they find each other by its own addresses, behind
# one carrier only if that lets them (hairpin); else they stay relayed. "ok NAME" or "FAIL NAME" for ./run test.
#
#     home-r (port) --- h1, h2       con-c (carrier, hairpin) --- con1-r - con1, con2-r - con2
#                                    coff-c (carrier, none) ----- coff1-r - coff1, coff2-r - coff2
set -u
. "$(dirname "$0")/lab.sh"
. "$(dirname "$0")/mesh.sh"
. "$(dirname "$0")/nat.sh"
. "$(dirname "$0")/nat_mesh.sh"

# calls NAME direct|relay: its pings are answered, and in the end go that way
calls() {
    local answered
    "$MESH_PROGRAMS/meshvpn" ping "${1}1" --count "$([ "$2" = direct ] && echo 8 || echo 30)" --interval 100 --json \
        --control "$LAB_DIR/sock/${1}2" >"$LAB_DIR/pings.$1" || return 1
    tail -n 1 "$LAB_DIR/pings.$1"
    answered=$(grep -vc '"rtt_ms":null' "$LAB_DIR/pings.$1")
    [ "$answered" = "$(wc -l <"$LAB_DIR/pings.$1")" ] && tail -n 1 "$LAB_DIR/pings.$1" | grep -q "\"type\":\"$2\""
}

lab_begin
# shellcheck disable=SC2034 # for lab.sh
LAB_RELAYS="alder birch cedar"
LAB_EXITS=
natmesh_internet
nat_box home-r port
for name in h1 h2; do
    nat_host "$name" home-r
    natmesh_member "$name" port
done
for hairpin in on off; do
    nat_carrier "c$hairpin-c" port hairpin=$hairpin
    natmesh_home "c${hairpin}1" port carrier="c$hairpin-c"
    natmesh_home "c${hairpin}2" port carrier="c$hairpin-c"
done
# shellcheck disable=SC2086 # names are words
mesh_relays_start $LAB_ENTRIES $LAB_RELAYS
# Callers start when all whom they call are there to find.
for side in 1 2; do
    for name in h con coff; do
        mesh_relay_start "$name$side"
    done
    natmesh_ready 60 "h$side" "con$side" "coff$side" || mesh_fail "not all can be reached" "h$side" "con$side" "coff$side"
    [ "$side" = 2 ] || sleep 2.5 # until they have said by whom
done
for name in h con coff; do
    natmesh_knows 60 "${name}1" "${name}2" || mesh_fail "${name}2 does not know ${name}1" "${name}1" "${name}2"
done
lab_check nat_same_home_is_direct calls h direct
lab_check nat_carrier_with_hairpin_is_direct calls con direct
lab_check nat_carrier_without_hairpin_is_relayed calls coff relay
lab_check nat_neighbours_programs_alive mesh_alive

exit $((LAB_FAILED > 0))
