#!/bin/bash
# Every kind of NAT calls every other by the real programs: is the link there at once, through a NAT relay,
# and soon direct where that is possible?
#
#     nat_matrix.sh [--types a,b,...] [--runs N] [--delay MS] [--loss P] [--json]
#
# For each type two homes, a-TYPE and b-TYPE, each a relay (type public: one in the open); every a calls
# every b by "meshvpn ping". Held to: the link is open within two round trips through the NAT relay; it
# is direct within 1 s (p95) where a plain puncher finds that possible (nat_punch.sh), within 10 s in 95 %
# of 60 runs and more where many sockets have to be tried, and relayed, but there, where nothing helps.
# With --delay (one way, of each home's wire) or --loss times are longer, outcomes the same.
#
# Prints seconds to direct (median/p95; 57:3 = that often direct and relayed) as a table, "ok" or "FAIL"
# for each pair, with --json one object instead.
#
#     inet --- boot (entry); alder, birch, cedar: NAT relays; 2 homes of each type (nat.sh)
set -u
. "$(dirname "$0")/lab.sh"
. "$(dirname "$0")/mesh.sh"
. "$(dirname "$0")/nat.sh"
. "$(dirname "$0")/nat_mesh.sh"

TYPES="public full addr port sym symseq double doublesym"
RUNS=1
DELAY=0
LOSS=0
JSON=
while [ $# -gt 0 ]; do
    case $1 in
    --types) TYPES=${2//,/ } && shift 2 ;;
    --runs) RUNS=$2 && shift 2 ;;
    --delay) DELAY=$2 && shift 2 ;;
    --loss) LOSS=${2%\%} && shift 2 ;;
    --json) JSON=1 && shift ;;
    *) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2 && exit 2 ;;
    esac
done
if [ "$DELAY" != 0 ] || [ "$LOSS" != 0 ]; then
    # shellcheck disable=SC2034 # read by nat.sh
    NAT_LINK="clear delay=${DELAY}ms loss=$LOSS%"
fi
read -ra LIST <<<"$TYPES"
for type in "${LIST[@]}"; do
    case " $NAT_TYPES " in *" $type "*) ;; *) lab_die "no type $type; there are: $NAT_TYPES" ;; esac
done
count=${#LIST[@]}

# callers_ready NODE...: these know all who are called, and what NAT they have
callers_ready() {
    local type name homes=()
    for name; do
        [ "${NAT_TYPE[$name]}" = public ] || homes+=("$name")
    done
    natmesh_ready 60 "${homes[@]}" >"$LAB_DIR/ready" || {
        lab_say "not ready: $(cat "$LAB_DIR/ready")"
        mesh_fail "the homes do not get to know their NATs" "${homes[0]}"
    }
    for type in "${LIST[@]}"; do
        natmesh_knows 60 "b-$type" "$@" || mesh_fail "b-$type is not known to all" "b-$type" "$1"
    done
}

# In each round every home takes part in one pair.
round() {
    local i pairs=()
    for ((i = 0; i < count; i++)); do
        pairs+=("a-${LIST[i]}:b-${LIST[(i + $2) % count]}")
    done
    "$LAB_PYTHON" "$NATMESH_PAIRS" call "$MESH_PROGRAMS/meshvpn" "$LAB_DIR/sock" "$LAB_DIR/calls" "$1" "${pairs[@]}"
}

# Whoever failed at a birthday must not try again for an hour; started anew it knows nothing of that.
refresh() {
    local name names
    names=$("$LAB_PYTHON" "$NATMESH_PAIRS" stuck "$LAB_DIR/calls" "$1")
    [ -n "$names" ] || return 0
    for name in $names; do
        mesh_node_stop "$name"
        rm -rf "$LAB_DIR/run/$name/nat"*
        mesh_relay_start "$name"
    done
    # shellcheck disable=SC2086 # names are words
    callers_ready $names
}

lab_begin
LAB_RELAYS="alder birch cedar"
LAB_EXITS=
began=$SECONDS
natmesh_internet
for type in "${LIST[@]}"; do
    natmesh_home "b-$type" "$type"
    natmesh_home "a-$type" "$type"
done
# Relays look for others when they start, then every half a minute: callers start when all is there to find.
# shellcheck disable=SC2086 # names are words
mesh_relays_start $LAB_ENTRIES $LAB_RELAYS
for type in "${LIST[@]}"; do
    mesh_relay_start "b-$type"
done
for type in "${LIST[@]}"; do
    natmesh_knows 30 "b-$type" boot || mesh_fail "b-$type cannot be reached" "b-$type"
done
for type in "${LIST[@]}"; do
    mesh_relay_start "a-$type"
done
callers_ready "${LIST[@]/#/a-}"
lab_say "   all homes are found and know their NATs after $((SECONDS - began)) s"
: >"$LAB_DIR/calls"
for ((run = 1; run <= RUNS; run++)); do
    for ((turn = 0; turn < count; turn++)); do
        round "$run" "$turn"
    done
    [ "$run" = "$RUNS" ] || refresh "$run"
done
"$LAB_PYTHON" "$NATMESH_PAIRS" judge "$LAB_DIR/calls" "$DELAY" "$LOSS" "$LAB_DIR/figures" "${LIST[@]}" >"$LAB_DIR/judged"
status=$?
if [ -n "$JSON" ]; then
    grep -v '^ok' "$LAB_DIR/judged" >&2
    cat "$LAB_DIR/figures"
    echo
else
    cat "$LAB_DIR/judged"
    lab_check nat_matrix_programs_alive mesh_alive
fi
[ -z "${LAB_KEEP:-}" ] || cp "$LAB_DIR/calls" "$LAB_DIR/log/"
exit $((status > 0 || LAB_FAILED > 0))
