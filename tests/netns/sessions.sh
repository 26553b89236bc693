#!/bin/bash
# Sessions outlive circuits, seen from the applications: guards and middles die and fall silent, the exit dies, the
# circuit is replaced under a download, the client goes to another network, loses it for a while, becomes somebody
# else. A few of each; ./run soak failover|rotation|roam does it many times and has the limits of the issue's figures.
# "ok NAME" or "FAIL NAME" for ./run test, figures on stderr.
#
#     client | away -> guard -> middle -> exit -> web      each one of alder birch cedar elm hazel pine, maple oak rowan
set -u
. "$(dirname "$0")/lab.sh"
. "$(dirname "$0")/mesh.sh"
. "$(dirname "$0")/outage.sh"

# shellcheck disable=SC2034 # read by lab.sh
LAB_RELAYS="alder birch cedar elm hazel pine maple oak rowan"
# shellcheck disable=SC2034
LAB_EXITS="maple oak rowan"
# shellcheck disable=SC2034
LAB_ENTRIES=""
SETTLE_S=15
DOWNLOAD_MB=64
# So slow that the next circuit is ready long before the one in use is due: half a second for each.
DOWNLOAD_RATE=16M
ROTATE_MB=8
OFFLINE_S=12

# says EXPRESSION: of what was measured last, `r`
says() {
    echo "$OUTAGE_JSON"
    "$LAB_PYTHON" -c 'import json, sys
r = json.loads(sys.argv[1])
sys.exit(not eval(f"({sys.argv[2]})"))' "$OUTAGE_JSON" "$1"
}

# settled NAME: ready for the next event; without its spare circuit it is none of those that are meant here.
settled() {
    lab_check "sessions_spare_before_$1" has_spare
}

has_spare() {
    outage_settle "$SETTLE_S" && outage_opens 5 hold && outage_opens 5 idle && return 0
    cat "$LAB_DIR/status.json"
    tail -n 5 "$LAB_DIR/hold" "$LAB_DIR/idle"
    return 1
}

# a_node_goes KIND COUNT
a_node_goes() {
    local name=${1/-/_} number
    for number in $(seq "$2"); do
        settled "${name}_$number"
        outage_event "$1" 3500
        lab_say "   $OUTAGE_JSON"
        lab_check "sessions_${name}_${number}_keeps_tcp" says 'r["lost_connections"] == 0 and r["bulk_whole"]'
        lab_check "sessions_${name}_${number}_gap" says 'r["gap_ms"] <= 3000 and r["twice_up"] + r["twice_down"] == 0'
    done
}

# The connection that stays is of the identity of before: it falls only with its own exit.
the_exit_goes() {
    local old_exit
    settled exit_kill
    old_exit=$(outage_identity "$(outage_port hold)")
    old_exit=${old_exit% *}
    outage_event exit-kill 4000
    lab_say "   the old session's exit is $old_exit; $OUTAGE_JSON"
    lab_check sessions_exit_kill_another_is_used says 'r["gap_ms"] <= 3000 and r.get("new_tcp_ms") is not None
        and r["new_tcp_ms"] <= 3000'
    lab_check sessions_exit_kill_open_tcp_is_reset says 'r["bulk_error"] == "ECONNRESET" and r["bulk_error_ms"] <= 3000'
    if [ "$old_exit" = "$OUTAGE_NODE" ]; then
        lab_check sessions_exit_kill_old_session says 'r["hold_reason"] == r["idle_reason"] == "ECONNRESET" and
            r["hold_lost_ms"] <= 3000 and r["idle_lost_ms"] <= 3000'
    else
        lab_check sessions_exit_kill_old_session says 'r["hold_reason"] is None and r["idle_reason"] is None'
    fi
}

# wanders KIND SECONDS: the network changes, or is gone for so long
wanders() {
    settled "$1"
    outage_wander "$1" "$2" 60
    lab_say "   $OUTAGE_JSON"
    lab_check "sessions_$1_is_back" says 'r["back_ms"] is not None and r["back_ms"] <= 2000'
    lab_check "sessions_$1_keeps_tcp" says 'r["lost_connections"] == 0 and r["bulk_whole"]'
}

new_identity() {
    local before after hold
    settled new_identity
    before=$(outage_identity "$(outage_port hold)")
    lab_check sessions_new_identity_is_taken outage_circuit_new
    lab_check sessions_new_identity_comes outage_drains "$SETTLE_S"
    outage_settle "$SETTLE_S"
    rm -f "$LAB_DIR/new"
    outage_new
    outage_opens 5 new
    after=$(outage_identity "$(outage_port new)")
    hold=$(grep -c lost "$LAB_DIR/hold")
    sleep 1
    lab_stop "$OUTAGE_NEW"
    OUTAGE_NEW=
    lab_say "   new identity: $before, then $after"
    lab_check sessions_new_identity_is_another differ "$before" "$after"
    lab_check sessions_new_identity_keeps_tcp test "$(grep -c lost "$LAB_DIR/hold")" = "$hold"
    lab_check sessions_new_identity_old_flow_stays echoes hold
}

differ() {
    echo "before: $1; after: $2"
    [ -n "$1" ] && [ -n "$2" ] && [ "$1" != "$2" ]
}

# echoes NAME: its connection has no pause that has not ended
echoes() {
    sleep 0.5
    tail -n 3 "$LAB_DIR/$1"
    lab_in client ss -tnH state established "( dport = :$OUTAGE_TCP_PORT and sport = :$(outage_port "$1") )" | grep -q .
}

rotates() {
    local before after
    settled rotation
    before=$(outage_rotations)
    lab_check sessions_rotation_download_is_whole whole_download
    after=$(outage_rotations)
    lab_say "   replaced $((after - before)) times in $DOWNLOAD_MB MB"
    # Every 8 MB, a quarter more at most.
    lab_check sessions_rotation_happens test $((after - before)) -ge $((DOWNLOAD_MB / (ROTATE_MB * 5 / 4) - 1))
    lab_check sessions_rotation_keeps_tcp kept
}

whole_download() {
    [ "$(mesh_curl --limit-rate "$DOWNLOAD_RATE" "http://$(lab_addr4 web)/file/$DOWNLOAD_MB" | sha256sum | cut -d' ' -f1)" = "$(lab_sha256 "$DOWNLOAD_MB")" ]
}

kept() {
    ! grep lost "$LAB_DIR/hold" "$LAB_DIR/idle"
}

# exit_says WORD...: meshvpn exit WORD... of the client
exit_says() {
    lab_in client timeout 5 "$MESH_PROGRAMS/meshvpn" exit "$@" --control "$LAB_DIR/sock/client"
}

# left_by: the exit of a connection that is opened now, left in LEFT_BY; "" if there is none in 5 s
left_by() {
    rm -f "$LAB_DIR/new"
    outage_new
    outage_opens 5 new
    LEFT_BY=$(outage_identity "$(outage_port new)")
    LEFT_BY=${LEFT_BY% *}
    lab_stop "$OUTAGE_NEW"
    OUTAGE_NEW=
}

# new_leaves_by EXIT: within 5 s
new_leaves_by() {
    local deadline=$((SECONDS + 5))
    until left_by && [ "$LEFT_BY" = "$1" ]; do
        echo "by '$LEFT_BY'"
        [ "$SECONDS" -lt "$deadline" ] || return 1
    done
}

exit_is_chosen() {
    local first chosen hold
    settled exit_chosen
    first=$(outage_identity "$(outage_port hold)")
    first=${first% *}
    hold=$(grep -c lost "$LAB_DIR/hold")
    for chosen in $LAB_EXITS; do
        [ "$chosen" = "$first" ] || break
    done
    lab_say "   from $first to $chosen"
    lab_check sessions_exit_use_is_taken exit_says use "$chosen"
    lab_check sessions_exit_use_new_leave_there new_leaves_by "$chosen"
    lab_check sessions_exit_use_keeps_tcp test "$(grep -c lost "$LAB_DIR/hold")" = "$hold"
    lab_check sessions_exit_use_old_flow_stays echoes hold
    lab_check sessions_exit_use_unknown_is_refused refused_exit
    lab_check sessions_exit_block_is_taken in_turn "use auto" "block $chosen"
    lab_check sessions_exit_block_new_leave_elsewhere leaves_not_by "$chosen"
}

refused_exit() {
    local said
    said=$(exit_says use nowhere-at-all 2>&1)
    [ $? = 1 ] && echo "$said" | grep -q "no exit is known as 'nowhere-at-all'" || { echo "$said"; return 1; }
}

in_turn() {
    local words
    for words in "$@"; do
        # shellcheck disable=SC2086 # words
        exit_says $words || return 1
    done
}

leaves_not_by() {
    local deadline=$((SECONDS + 5))
    until left_by && [ -n "$LEFT_BY" ] && [ "$LEFT_BY" != "$1" ]; do
        [ "$SECONDS" -lt "$deadline" ] || return 1
    done
    left_by && [ "$LEFT_BY" != "$1" ] && echo "by $LEFT_BY"
}

outage_begin "$DOWNLOAD_MB"
outage_client
outage_hold
a_node_goes guard-kill 3
a_node_goes middle-silent 2
new_identity
wanders roam 0
wanders offline "$OFFLINE_S"
the_exit_goes
outage_release
mesh_client_stop
outage_client "rotate_mb = $ROTATE_MB"
rm -f "$LAB_DIR/hold" "$LAB_DIR/idle"
outage_hold
rotates
exit_is_chosen
lab_check sessions_programs_alive mesh_alive

exit $((LAB_FAILED > 0))
