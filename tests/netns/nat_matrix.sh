#!/bin/bash
# Every kind of NAT calls every other by the real programs: is the link there at once, through a NAT relay,
# and soon direct where that is possible?
#
#     nat_matrix.sh [--types a,b,...] [--runs N] [--delay MS] [--loss P] [--json]
#
# For each type two homes, a-TYPE and b-TYPE, each a relay (type public: one in the open); every a calls
# every b by "meshvpn ping". Held to: the link is open within two round trips through the NAT relay (one
# when its session is there still); it is direct within 1 s (p95) where a plain puncher finds that possible
# (nat_punch.sh), within 10 s in 95 % of 60 runs and more where many sockets have to be tried, and relayed,
# but there, where nothing helps. With --delay (one way, of each home's wire) or --loss times are longer,
# outcomes the same. For --runs there are several homes of each type if these are few, and all relays
# start anew between two runs: what is sent to one address is bounded by the hour.
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
# So many homes of each type at once that a relay learns of all who are called in one pass over the network
# (it fetches 8 records of one server at once): the next pass is half a minute later.
copies=$((7 / ${#LIST[@]}))
[ "$copies" -ge 1 ] || copies=1
[ "$copies" -le "$RUNS" ] || copies=$RUNS
homes=()
for ((copy = 1; copy <= copies; copy++)); do
    for type in "${LIST[@]}"; do
        homes+=("$type$([ "$copy" = 1 ] || echo "$copy")")
    done
done
types=${#LIST[@]}

# start_all: relays look for others when they start, then every half a minute: first those who can be asked
# for others, and callers when all whom they will call are there to find.
start_all() {
    local home open=() behind=()
    for home in "${homes[@]}"; do
        case ${NAT_TYPE[a-$home]} in
        public) open+=("a-$home" "b-$home") ;;
        *) behind+=("$home") ;;
        esac
    done
    [ "${#open[@]}" = 0 ] || mesh_relays_start "${open[@]}"
    for home in "${behind[@]}"; do
        mesh_relay_start "b-$home"
    done
    ready "${behind[@]/#/b-}"
    sleep 2.5 # until they have said by whom they are reached
    for home in "${homes[@]}"; do
        # shellcheck disable=SC2086 # names are words
        natmesh_knows 30 "b-$home" $LAB_ENTRIES $LAB_RELAYS || mesh_fail "b-$home is not known" "b-$home" boot
    done
    for home in "${behind[@]}"; do
        mesh_relay_start "a-$home"
    done
    ready "${behind[@]/#/a-}"
    for home in "${homes[@]}"; do
        natmesh_knows 60 "b-$home" "${homes[@]/#/a-}" || mesh_fail "b-$home is not known to all" "b-$home"
    done
}

# ready NODE...: these are registered at NAT relays, and know what NAT they have
ready() {
    [ $# -gt 0 ] || return 0
    natmesh_ready 60 "$@" >"$LAB_DIR/ready" && return
    lab_say "not ready: $(cat "$LAB_DIR/ready")"
    mesh_fail "the homes do not get to know their NATs" "$1"
}

# With nothing kept: neither what was sent to whom, nor who was where.
start_all_anew() {
    local home side
    for home in "${homes[@]}"; do
        for side in a b; do
            mesh_node_stop "$side-$home" KILL
            rm -rf "$LAB_DIR/run/$side-$home"
            mkdir "$LAB_DIR/run/$side-$home"
        done
    done
    start_all
}

# In each round every home takes part in one pair, within its copy of the lab.
round() {
    local i copy pairs=()
    for ((i = 0; i < ${#homes[@]}; i++)); do
        copy=$((i / types * types))
        pairs+=("a-${homes[i]}:b-${homes[copy + (i + $2) % types]}")
    done
    "$LAB_PYTHON" "$NATMESH_PAIRS" call "$MESH_PROGRAMS/meshvpn" "$LAB_DIR/sock" "$LAB_DIR/calls" "$1" "${pairs[@]}"
}

lab_begin
LAB_RELAYS="alder birch cedar"
NATMESH_MODE=both
LAB_EXITS=
began=$SECONDS
natmesh_internet
for home in "${homes[@]}"; do
    natmesh_home "b-$home" "${home%%[0-9]*}"
    natmesh_home "a-$home" "${home%%[0-9]*}"
done
# shellcheck disable=SC2086 # names are words
mesh_relays_start $LAB_ENTRIES $LAB_RELAYS
start_all
lab_say "   all homes are found and know their NATs after $((SECONDS - began)) s"
: >"$LAB_DIR/calls"
for ((run = 0; run * copies < RUNS; run++)); do
    [ "$run" = 0 ] || start_all_anew
    for ((turn = 0; turn < types; turn++)); do
        round "$run" "$turn"
    done
    [ "$RUNS" = 1 ] || lab_say "   run $(((run + 1) * copies)) of $RUNS, $((SECONDS - began)) s"
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
