#!/bin/bash
# Nothing leaves the client's host outside the tunnel: the kill switch from start to stop, through crashes, another
# program's "nft flush ruleset", rogue routes and a pulled cable, with other users who send all the time; who forges
# packets to the tunnel's addresses hears nothing; and the end leaves nothing behind. Prints "ok NAME" or "FAIL NAME".
#
#     leak.sh            MVPN_BUILD names the build directory
set -u
# shellcheck source=tests/netns/lab.sh
. "$(dirname "$0")/lab.sh"
# shellcheck source=tests/netns/mesh.sh
. "$(dirname "$0")/mesh.sh"
# shellcheck source=tests/netns/leak_lab.sh
. "$(dirname "$0")/leak_lab.sh"

RATE=300
leak_lab_begin
before=$(leak_state)

is_as_before() {
    diff <(echo "$before") <(leak_state)
}

page_comes() {
    mesh_curl -o /dev/null "http://$(lab_addr4 web)/" && mesh_curl -o /dev/null "http://[$(lab_addr6 web)]/"
}

flush_is_repaired() {
    local ms
    for _ in 1 2 3; do # this host may have other things to do
        ms=$(leak_flush)
        echo "back after $ms ms"
        [ "$ms" -lt 1000 ] && page_comes && return
    done
    return 1
}

routes_are_repaired() {
    local kind ms
    for kind in rules table replace addresses device; do
        ms=$(leak_take_routes "$kind")
        echo "$kind: back after $ms ms"
        [ "$ms" -lt 1000 ] || {
            diff <(echo "$LEAK_ROUTED") <(leak_routing)
            return 1
        }
    done
    page_comes
}

# Somebody opens a hole in our chain instead of removing it.
hole_is_closed() {
    local tries=20
    lab_in client nft insert rule inet "$LEAK_TABLE" output accept || return 1
    while lab_in client nft list chain inet "$LEAK_TABLE" output | grep -q '^[[:space:]]*accept$'; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || return 1
        sleep 0.05
    done
}

# The routes alone: no table, nobody who puts it back. Without device, what would take the tunnel goes nowhere.
routes_fail_closed() {
    lab_in client ip route get "$(lab_addr4 web)" && return 1
    lab_in client ip -6 route get "$(lab_addr6 web)" && return 1
    lab_in client ip route get "$(lab_addr4 fig)" && return 1 # of the local network, with a public address
    lab_in client ip route get "$(lab_addr4 web)" mark 0x4d56
}

marks_of_others_lead_nowhere() {
    leak_marks add
    is_blocked && sleep 0.5
    local blocked=$?
    leak_marks del
    return "$blocked"
}

# protection_is STATE KILL-SWITCH: as the status tells it
protection_is() {
    mesh_status >"$LAB_DIR/status.json"
    "$LAB_PYTHON" -c 'import json, sys
p = json.load(sys.stdin)["protection"]
print(p)
sys.exit((p["state"], p["kill_switch"]) != (sys.argv[1], sys.argv[2] == "on"))' "$1" "$2" <"$LAB_DIR/status.json"
}

repairs_are_counted() {
    protection_is connected on && [ "$(mesh_get protection.repaired <"$LAB_DIR/status.json")" -ge 5 ]
}

into_tunnel() {
    lab_in client awk -v name="$MESH_TUN:" '$1 == name { print $11 }' /proc/net/dev
}

# Somebody's default route leads the client's own packets into its tunnel: none goes round and round.
own_packets_stay_out() {
    local before after
    before=$(into_tunnel)
    lab_in client ip route replace default dev "$MESH_TUN"
    sleep 1
    after=$(into_tunnel)
    echo "$before packets into the tunnel, then $after"
    [ -n "$before" ] && [ -n "$after" ] && [ $((after - before)) -lt 1000 ]
}

# Another program takes the device away: the client cannot go on, and that is no end that somebody asked for.
device_is_lost() {
    local status
    lab_in client ip link del "$MESH_TUN" || return 1
    lab_wait_gone 50 "$MESH_CLIENT_PID" || return 1
    wait "$MESH_CLIENT_PID"
    status=$?
    mesh_client_stop
    tail -n 3 "$LAB_DIR/log/client.log"
    echo "exit status $status"
    [ "$status" = 1 ] && grep -q 'TUN device or a socket is gone' "$LAB_DIR/log/client.log"
}

is_blocked() {
    ! lab_in client "${LEAK_USER[@]}" curl --noproxy '*' -s -o /dev/null --max-time 1 "http://$(lab_addr4 web)/"
}

# ---- a life ----

leak_client_start ""
mesh_client_wait
lab_check kill_switch_is_on leak_has_table
lab_check status_tells_of_it protection_is connected on
lab_check page_through_the_tunnel page_comes
# Until the table is back only the routes hold: against all that goes by them, not against a socket that names eth0.
leak_begin "$RATE" probe-routed
lab_check flush_is_repaired_within_a_second flush_is_repaired
lab_check hole_is_closed hole_is_closed
sleep 0.5
leak_end
lab_check nothing_routed_leaked_meanwhile leak_none 20
leak_begin "$RATE"
leak_rogue_routes add
lab_check rogue_routes_change_nothing page_comes
lab_check forged_packets_get_no_answer leak_forge 4000
leak_rogue_routes del
lab_check marks_of_others_lead_nowhere marks_of_others_lead_nowhere
lab_check routes_are_repaired_within_a_second routes_are_repaired
lab_check repairs_are_counted repairs_are_counted
lab_check own_packets_do_not_return own_packets_stay_out
leak_flap
sleep 0.5
mesh_client_stop KILL
lab_check killed_client_leaves_it_on leak_has_table
lab_check killed_client_blocks is_blocked
leak_client_start ""
mesh_client_wait
lab_check restart_works page_comes
leak_crash
lab_check crashed_client_leaves_it_on leak_has_table
leak_client_start ""
mesh_client_wait
lab_check lost_device_fails_the_client device_is_lost
lab_check lost_device_leaves_it_on leak_has_table
lab_check lost_device_blocks is_blocked
leak_client_start ""
mesh_client_wait
leak_end
lab_check nothing_leaked leak_none 1000
mesh_client_stop
lab_check stop_restores_everything is_as_before

# ---- before any client ----

# lock_down [CONFIGURATION-LINE]: as its unit does at the start of the system, with CAP_NET_ADMIN alone
lock_down() {
    echo "${1:-}" >"$LAB_DIR/lockdown.conf"
    echo "tun_name = \"$MESH_TUN\"" >>"$LAB_DIR/lockdown.conf"
    lab_in client setpriv --bounding-set=-all,+net_admin --inh-caps=-all,+net_admin \
        "$MESH_PROGRAMS/meshvpn-client" --config "$LAB_DIR/lockdown.conf" --lockdown
}

up_and_down() {
    leak_client_start "lockdown = true"
    mesh_client_wait
    page_comes || return 1
    lock_down "lockdown = true" && page_comes || return 1 # while a client runs it changes nothing
    mesh_client_stop
}

lab_check without_lockdown_nothing_changes eval 'lock_down && is_as_before'
lab_check lockdown_before_any_client eval 'lock_down "lockdown = true" && leak_has_table && routes_fail_closed'
leak_begin "$RATE"
sleep 1
lab_check lockdown_blocks_before_any_client is_blocked
lab_check up_and_down_in_lockdown up_and_down
sleep 0.5
lab_check lockdown_stays_after_down is_blocked
leak_end
lab_check nothing_leaked_in_lockdown leak_none 100
lab_in client "$MESH_PROGRAMS/meshvpn-client" --config "$LAB_DIR/lockdown.conf" --cleanup
lab_check cleanup_ends_lockdown is_as_before

# ---- switches ----

leak_client_start "allow_lan = true"
mesh_client_wait
lab_in client ip addr add 192.168.7.1/24 dev eth0
lab_in fig ip addr add 192.168.7.7/24 dev eth0
lab_check lan_is_reached lab_in client ping -n -q -c 1 -W 2 192.168.7.7
lab_check lan_with_public_addresses_is_not eval '! lab_in client ping -n -q -c 1 -W 1 -I eth0 "$(lab_addr4 fig)"'
lab_check names_of_the_lan_are_not eval '! lab_in client "$LAB_PYTHON" "$LAB_TOOL" dns 192.168.7.7 x'
lab_in client ip addr del 192.168.7.1/24 dev eth0
mesh_client_stop
lab_check stop_restores_the_same_with_lan is_as_before

leak_client_start "lockdown = true"
mesh_client_wait
mesh_client_stop
lab_check lockdown_stays leak_has_table
lab_check lockdown_blocks is_blocked
lab_in client nft flush ruleset
lab_check routes_fail_closed routes_fail_closed
lab_check cleanup lab_in client "$MESH_PROGRAMS/meshvpn-client" --config "$LAB_DIR/client.conf" --cleanup
lab_check cleanup_restores_everything is_as_before
exit "$((LAB_FAILED > 0))"
