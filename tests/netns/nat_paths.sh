#!/bin/bash
# What traffic notices when a link over NATs changes its path: a full circuit whose middle and exit stand
# at home, numbered UDP at 2,000 packets a second both ways and a TCP stream through it, while the link
# between the two goes from the NAT relay to the direct path, loses its mappings, moves to another network
# and falls back to the NAT relay. "ok NAME" or "FAIL NAME" for ./run test, figures on stderr.
#
#     client -> alder (guard) -> mid (relay, behind port; later behind other) -> end (exit, behind port) -> web
#                                birch, cedar, elm: NAT relays
set -u
. "$(dirname "$0")/lab.sh"
. "$(dirname "$0")/mesh.sh"
. "$(dirname "$0")/nat.sh"
. "$(dirname "$0")/nat_mesh.sh"

RATE=2000
SIZE=100
PORT=9000
GAP_MOVE_MS=2000
GAP_FALLBACK_MS=2000
GAP_FORGET_MS=5000
FLOW=$LAB_BUILD/tests/netns/udp_flow
declare -A BEGIN END

now_us() {
    "$LAB_PYTHON" "$LAB_HERE/nat_flow.py" now
}

# phase NAME begin|end
phase() {
    case $2 in
    begin) BEGIN[$1]=$(now_us) ;;
    end) END[$1]=$(now_us) ;;
    esac
}

# link_is direct|relay SECONDS: the link from mid to end runs so, or will within that time
link_is() {
    "$LAB_PYTHON" "$NATMESH_PAIRS" until "$LAB_DIR/sock/mid" end "$1" "$2"
}

# stream: a download that goes on during all of it; its checksum tells at the end. Its receiver has room for
# little: else it begins with more at once than a NAT relay forwards for one link.
stream_start() {
    lab_in client sh -c 'echo 4096 32768 65536 >/proc/sys/net/ipv4/tcp_rmem'
    lab_in client curl --noproxy '*' -sS --connect-timeout 10 --max-time 120 --limit-rate 350k -o "$LAB_DIR/stream" \
        "http://$(lab_addr4 web)/file/$STREAM_MB" 2>"$LAB_DIR/log/stream.log" &
    STREAM_PID=$!
    LAB_PIDS+=("$STREAM_PID")
}

stream_holds() {
    wait "$STREAM_PID" || { cat "$LAB_DIR/log/stream.log" && return 1; }
    [ "$(sha256sum <"$LAB_DIR/stream" | cut -d' ' -f1)" = "$(lab_sha256 "$STREAM_MB")" ]
}

# What the NAT relays drop because it is too much for them has nothing to do with the path.
relays_dropped_none() {
    local node dropped=
    for node in birch cedar elm; do
        dropped+=$(mesh_node_get "$node" nat_relay.packets_dropped)
    done
    echo "dropped: $dropped"
    [ "$dropped" = 000 ]
}

stream_goes_on() {
    kill -0 "$STREAM_PID" 2>/dev/null
}

# judge NAME LOST GAP_MS: of both directions, at most so many lost (any: not asked) and none for so long
judge() {
    local name=$1 lost=$2 gap=$3 way
    for way in up down; do
        "$LAB_PYTHON" "$LAB_HERE/nat_flow.py" between "$LAB_DIR/flow.$way" "${BEGIN[$name]}" "${END[$name]}" \
            >"$LAB_DIR/flow.json"
        lab_say "   $name, $way: $(cat "$LAB_DIR/flow.json")"
        lab_check "nat_path_${name}_$way" "$LAB_PYTHON" -c 'import json, sys
f = json.load(open(sys.argv[1]))
print(f)
lost, gap = sys.argv[2:]
sys.exit(f["came"] == 0 or f["twice"] > 0 or f["corrupt"] > 0 or f["gap_ms"] > float(gap)
         or lost != "any" and f["lost"] > int(lost))' "$LAB_DIR/flow.json" "$lost" "$gap"
    done
}

STREAM_MB=10
LAB_RELAYS="alder birch cedar elm"
NATMESH_GUARD=alder
LAB_EXITS=
[ -x "$FLOW" ] || lab_die "udp_flow is not built in $LAB_BUILD"
lab_begin
natmesh_internet
lab_services "$STREAM_MB"
natmesh_home end port --exit
natmesh_home mid port
nat_box other port
# Those who look for others look at once, and then not for half a minute: each starts when it will find.
# shellcheck disable=SC2086 # names are words
mesh_relays_start $LAB_ENTRIES $LAB_RELAYS
mesh_relay_start end
natmesh_knows 20 end boot || mesh_fail "nobody can reach end" end boot
mesh_relay_start mid
natmesh_knows 20 mid boot alder && natmesh_knows 20 end mid || mesh_fail "mid and end do not find each other" mid end
natmesh_ready 40 mid end || mesh_fail "mid and end do not know their NATs" mid end
natmesh_cut mid-r end-r
LAB_RELAYS+=" mid end" # whose logs are shown if nothing comes of it
mesh_client_start 3 "$(mesh_identity alder)" "$(mesh_identity mid)" "$(mesh_identity end)"
mesh_client_wait 20
lab_check nat_path_begins_relayed link_is relay 2

lab_spawn web flow-web "$FLOW" listen "$PORT" "$RATE" "$SIZE" "$LAB_DIR/flow.up"
FLOW_WEB=$LAB_PID
lab_wait_port web udp "$PORT"
lab_spawn client flow-client "$FLOW" connect "$(lab_addr4 web)" "$PORT" "$RATE" "$SIZE" "$LAB_DIR/flow.down"
FLOW_CLIENT=$LAB_PID
stream_start
sleep 1

phase upgrade begin
natmesh_uncut
lab_check nat_path_upgrade_happens link_is direct 15
sleep 1
phase upgrade end
lab_check nat_path_within_relays_limits relays_dropped_none

phase forget begin
nat_forget mid-r
sleep 6
phase forget end
lab_check nat_path_forget_ends_direct link_is direct 10

phase move begin
nat_move mid other
sleep 4
phase move end
lab_check nat_path_move_ends_direct link_is direct 10

phase fallback begin
natmesh_cut other end-r
sleep 4
phase fallback end
lab_check nat_path_fallback_is_relayed link_is relay 1

lab_check nat_path_stream_went_through_all stream_goes_on
lab_stop "$FLOW_CLIENT"
sleep 0.3
lab_stop "$FLOW_WEB"
# (The gap is the machine's own.)
judge upgrade 0 1000
judge forget any "$GAP_FORGET_MS"
judge move any "$GAP_MOVE_MS"
judge fallback any "$GAP_FALLBACK_MS"
lab_check nat_path_stream_is_whole stream_holds
lab_check nat_path_programs_alive mesh_alive

exit $((LAB_FAILED > 0))
