# shellcheck shell=bash
# A mesh in which nodes die, fall silent and clients wander, traffic through it, and what the traffic noticed;
# sourced after lab.sh and mesh.sh by sessions.sh and tests/soak/{failover,rotation,roam}.sh.
#
#     client -> any guard, any middle, any exit of $LAB_RELAYS (paths are drawn at random) -> web
#
#     outage_begin; outage_client; outage_settle 20; outage_traffic 4; outage_hit guard-kill; sleep 3
#     outage_traffic_end; outage_mend; outage_measure event ...
#
# Traffic: numbered UDP both ways (udp_flow), one TCP connection with a transfer in both directions, and two that
# stay open from event to event, one with an echo each 50 ms, one silent (session_tool.py).

OUTAGE_TOOL=$LAB_HERE/session_tool.py
OUTAGE_FLOW=$LAB_BUILD/tests/netns/udp_flow
OUTAGE_RATE=200        # packets/s of the flow, each way
OUTAGE_SIZE=120
OUTAGE_BULK=1500000    # bytes/s of the transfer, each way
OUTAGE_UDP_PORT=9000
OUTAGE_TCP_PORT=9001
OUTAGE_NODE=           # what outage_hit struck
OUTAGE_HIT=0           # and when, on the clock of the records
OUTAGE_MEND=
OUTAGE_SETTLE_MS=0
OUTAGE_LINK=0
OUTAGE_SINCE=0         # when was last measured
OUTAGE_HOME=client     # where the client is: client, away
OUTAGE_CLOCK=0

# outage_now: leaves the time in OUTAGE_NOW. Without a process, which could take long on a busy machine.
outage_now() {
    OUTAGE_NOW=$((${EPOCHREALTIME/./} - OUTAGE_CLOCK))
}

# outage_begin: the internet, the relays of LAB_RELAYS, the far end of the traffic.
outage_begin() {
    mesh_need_programs
    [ -x "$OUTAGE_FLOW" ] || lab_die "udp_flow is not built in $LAB_BUILD"
    lab_begin
    OUTAGE_CLOCK=$("$LAB_PYTHON" "$OUTAGE_TOOL" clock)
    lab_internet
    lab_services "$@"
    lab_spawn web far-end "$LAB_PYTHON" "$OUTAGE_TOOL" serve "$OUTAGE_TCP_PORT"
    lab_wait_port web tcp "$OUTAGE_TCP_PORT" || lab_die "the far end does not start"
    mesh_create listed
    mesh_relays_start
}

# outage_client [LINE]: the client, with a line of configuration; until it is connected
outage_client() {
    MESH_CLIENT_MORE=${1:-}
    mesh_client_start 3
    mesh_client_wait 30
}

# outage_hold: the connections that stay; outage_release ends them.
outage_hold() {
    OUTAGE_HOLDS=()
    lab_spawn client hold "$LAB_PYTHON" "$OUTAGE_TOOL" hold "$(lab_addr4 web)" "$OUTAGE_TCP_PORT" "$LAB_DIR/hold" 50
    OUTAGE_HOLDS+=("$LAB_PID")
    lab_spawn client idle "$LAB_PYTHON" "$OUTAGE_TOOL" hold "$(lab_addr4 web)" "$OUTAGE_TCP_PORT" "$LAB_DIR/idle" 0
    OUTAGE_HOLDS+=("$LAB_PID")
    outage_opens 10 hold && outage_opens 10 idle || mesh_fail "no TCP connection comes about" client hold idle
}

outage_release() {
    local pid
    for pid in "${OUTAGE_HOLDS[@]}"; do
        lab_stop "$pid"
    done
}

# outage_opens SECONDS NAME: NAME has a connection, or will within that time.
outage_opens() {
    local deadline=$((SECONDS + $1))
    until tail -n 1 "$LAB_DIR/$2" 2>/dev/null | grep -qE '^(open|pause)'; do
        [ "$SECONDS" -lt "$deadline" ] || return 1
        sleep 0.05
    done
}

# outage_settle SECONDS: until the client is connected and has a spare circuit; how long it took is left in
# OUTAGE_SETTLE_MS.
outage_settle() {
    local since ended
    outage_now
    since=$OUTAGE_NOW
    ended=$((since + $1 * 1000000))
    while [ "$OUTAGE_NOW" -lt "$ended" ]; do
        if mesh_status >"$LAB_DIR/status.json" && [ "$(mesh_get state <"$LAB_DIR/status.json")" = connected ] &&
            [ "$(mesh_get spare <"$LAB_DIR/status.json")" = true ]; then
            outage_now
            OUTAGE_SETTLE_MS=$(((OUTAGE_NOW - since) / 1000))
            return 0
        fi
        sleep 0.1
        outage_now
    done
    OUTAGE_SETTLE_MS=$(((OUTAGE_NOW - since) / 1000))
    return 1
}

# outage_traffic SECONDS [LIMIT]: the flow, and a transfer of so many seconds; it may take LIMIT with what happens.
outage_traffic() {
    rm -f "$LAB_DIR/flow.up" "$LAB_DIR/flow.down" "$LAB_DIR/bulk.json" "$LAB_DIR/new"
    lab_spawn web flow-web "$OUTAGE_FLOW" listen "$OUTAGE_UDP_PORT" "$OUTAGE_RATE" "$OUTAGE_SIZE" "$LAB_DIR/flow.up"
    OUTAGE_FLOW_WEB=$LAB_PID
    lab_wait_port web udp "$OUTAGE_UDP_PORT"
    lab_spawn client flow-client "$OUTAGE_FLOW" connect "$(lab_addr4 web)" "$OUTAGE_UDP_PORT" "$OUTAGE_RATE" "$OUTAGE_SIZE" \
        "$LAB_DIR/flow.down"
    OUTAGE_FLOW_CLIENT=$LAB_PID
    lab_in client "$LAB_PYTHON" "$OUTAGE_TOOL" bulk "$(lab_addr4 web)" "$OUTAGE_TCP_PORT" "$1" "$OUTAGE_BULK" "${2:-40}" \
        >"$LAB_DIR/bulk.json" 2>>"$LAB_DIR/log/bulk.log" {LAB_LOCK_FD}>&- &
    OUTAGE_TRANSFER=$!
    LAB_PIDS+=("$OUTAGE_TRANSFER")
}

# outage_traffic_end: when the transfer is through, the records are written.
outage_traffic_end() {
    wait "$OUTAGE_TRANSFER"
    outage_flow_end
    [ -z "${OUTAGE_NEW:-}" ] || lab_stop "$OUTAGE_NEW"
    OUTAGE_NEW=
}

outage_flow_end() {
    lab_stop "$OUTAGE_FLOW_CLIENT"
    lab_stop "$OUTAGE_FLOW_WEB"
}

# outage_rotations: how often the circuit in use was replaced so far
outage_rotations() {
    mesh_status >"$LAB_DIR/status.json" && mesh_get rotations circuits_built <"$LAB_DIR/status.json"
}

# outage_place guard|middle|exit: who that is at this moment
outage_place() {
    mesh_status >"$LAB_DIR/status.json" || return 1
    case $1 in
    guard) mesh_get path.0.name <"$LAB_DIR/status.json" ;;
    middle) mesh_get path.1.name <"$LAB_DIR/status.json" ;;
    exit) mesh_get path.-1.name <"$LAB_DIR/status.json" ;;
    esac
}

# outage_hit PLACE-kill|PLACE-silent: it happens now.
outage_hit() {
    OUTAGE_NODE=$(outage_place "${1%-*}") || mesh_fail "nobody is ${1%-*}: $(cat "$LAB_DIR/status.json")" client
    OUTAGE_MEND=${1#*-}
    case $OUTAGE_MEND in
    kill)
        outage_now
        # (Waited for in silence, or bash tells of it.)
        { kill -KILL "${MESH_PIDS[$OUTAGE_NODE]}" && wait "${MESH_PIDS[$OUTAGE_NODE]}"; } 2>/dev/null
        ;;
    silent)
        outage_now
        lab_in "$OUTAGE_NODE" nft -f - <<'RULES' || lab_die "cannot silence $OUTAGE_NODE"
table inet silence {
  chain in { type filter hook input priority -300; iifname != "lo" drop; }
  chain out { type filter hook output priority -300; oifname != "lo" drop; }
}
RULES
        ;;
    esac
    OUTAGE_HIT=$OUTAGE_NOW
}

# outage_mend: what was struck is there again, as systemd would see to it.
outage_mend() {
    case $OUTAGE_MEND in
    kill)
        mesh_node_stop "$OUTAGE_NODE" KILL
        mesh_relay_start "$OUTAGE_NODE"
        lab_wait_port "$OUTAGE_NODE" udp "$LAB_PORT" || mesh_fail "$OUTAGE_NODE does not come back" "$OUTAGE_NODE"
        ;;
    silent) lab_in "$OUTAGE_NODE" nft delete table inet silence ;;
    esac
    OUTAGE_MEND=
}

# outage_new: from now on tries to open a new connection.
outage_new() {
    lab_spawn client new "$LAB_PYTHON" "$OUTAGE_TOOL" hold "$(lab_addr4 web)" "$OUTAGE_TCP_PORT" "$LAB_DIR/new" 100
    OUTAGE_NEW=$LAB_PID
}

# outage_measure event|back KIND FROM_US MS: what the traffic noticed in that time, and since the last measurement
# of the connections that stay; JSON, left in OUTAGE_JSON.
outage_measure() {
    OUTAGE_JSON=$("$LAB_PYTHON" "$OUTAGE_TOOL" "$1" "$LAB_DIR" "$OUTAGE_SINCE" "$3" $(($3 + $4 * 1000)))
    OUTAGE_JSON="{\"kind\": \"$2\", \"node\": \"$OUTAGE_NODE\", \"settle_ms\": $OUTAGE_SETTLE_MS, ${OUTAGE_JSON#\{}"
    outage_now
    OUTAGE_SINCE=$OUTAGE_NOW
}

# outage_event KIND [MS]: one event under traffic from beginning to end; it lasts so long
outage_event() {
    local kind=$1 window=${2:-5000}
    # The transfer goes on for longer than that: it would not notice what happens after its end.
    outage_traffic "$((window / 1000 + 2))"
    # Not in step with anything.
    sleep "1.$((RANDOM % 10))"
    outage_hit "$kind"
    [ "${kind%-*}" != exit ] || outage_new
    outage_sleep "$window"
    outage_mend
    outage_traffic_end
    outage_measure event "$kind" "$OUTAGE_HIT" "$window"
}

# outage_sleep MS
outage_sleep() {
    sleep "$(($1 / 1000)).$(printf %03d $(($1 % 1000)))"
}

# ---- the client's own network ----

# outage_leave: its wire is gone.
outage_leave() {
    lab_in client ip link delete eth0 || lab_die "cannot cut the client's wire"
}

# outage_arrive client|away: a wire into the one or the other network; OUTAGE_LINK is when that began.
outage_arrive() {
    outage_now
    OUTAGE_LINK=$OUTAGE_NOW
    OUTAGE_HOME=$1
    lab_wire client "$(lab_addr4 "$1")" "$(lab_addr6 "$1")"
}

# outage_wander roam|offline|sleep SECONDS [LIMIT]: under traffic the client goes to the other network, has none for so
# long, or is stopped for so long; LIMIT: for the transfer, whose own resends come late then.
outage_wander() {
    local seconds=$2 there=$OUTAGE_HOME
    OUTAGE_NODE=client
    outage_traffic 4 "${3:-60}"
    sleep 1.5
    if [ "$1" = sleep ]; then
        kill -STOP "$MESH_CLIENT_PID"
        sleep "$seconds"
        outage_now
        OUTAGE_LINK=$OUTAGE_NOW
        kill -CONT "$MESH_CLIENT_PID"
    else
        [ "$1" = offline ] || { [ "$there" = client ] && there=away || there=client; }
        outage_leave
        sleep "$seconds"
        outage_arrive "$there"
    fi
    sleep 4
    outage_traffic_end
    outage_measure back "$1" "$OUTAGE_LINK" 4000
}

# ---- who the client is at its exit ----

# outage_port NAME: the client's port of the connection that NAME keeps
outage_port() {
    awk '$1 == "open" { port = $3 } END { print port }' "$LAB_DIR/$1"
}

# outage_identity PORT: exit and address of the pool by which that connection leaves, as "oak 10.64.0.3"
outage_identity() {
    local node
    for node in $LAB_EXITS; do
        lab_in "$node" conntrack -L -p tcp --sport "$1" --dport "$OUTAGE_TCP_PORT" 2>/dev/null |
            awk -v node="$node" '{ for (i = 1; i <= NF; i++) if (sub(/^src=/, "", $i)) { print node, $i; exit } }'
    done
}

# outage_drains SECONDS: until a new session has taken over from one that keeps its connections
outage_drains() {
    local tries=$(($1 * 10))
    until [ "$(mesh_status | mesh_get session.draining)" = true ]; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || return 1
        sleep 0.1
    done
}

# outage_circuit_new: as one who wants to be somebody else
outage_circuit_new() {
    lab_in client timeout 5 "$MESH_PROGRAMS/meshvpn" circuit new --control "$LAB_DIR/sock/client"
}
