#!/bin/bash
# meshvpn run --exit: a command leaves by a second exit while everything else stays with the first, by the same guard;
# nothing of it is seen on the physical side, it asks names in the tunnel, and nothing of it stays, also after kill -9.
# Prints "ok NAME" or "FAIL NAME".
#
#     run_exit.sh            MVPN_BUILD names the build directory
set -u
# shellcheck source=tests/netns/lab.sh
. "$(dirname "$0")/lab.sh"
# shellcheck source=tests/netns/mesh.sh
. "$(dirname "$0")/mesh.sh"
# shellcheck source=tests/netns/leak_lab.sh
. "$(dirname "$0")/leak_lab.sh"

SPLIT_TOOL=$LAB_HERE/split_tool.py
RELAYS="alder birch cedar"
RUN=("$MESH_PROGRAMS/meshvpn" run --config "$LAB_DIR/client.conf" --exit)

# seen_from COMMAND...: whom the web server sees
seen_from() {
    : >"$LAB_DIR/web.seen"
    lab_in client "$@" curl --noproxy '*' -s -o /dev/null --max-time 5 "http://$(lab_addr4 web)/" || return 1
    awk 'NR == 1 { print $1 }' "$LAB_DIR/web.seen"
}

leaves_by() {
    local exit=$1 seen
    shift
    seen=$(seen_from "$@")
    echo "seen as $seen"
    [ "$seen" = "$(lab_addr4 "$exit")" ]
}

# Both at once: the first asks again while the second's command runs.
both_at_once() {
    local pid ok=1
    lab_spawn client second "${RUN[@]}" CH sh -c "touch '$LAB_DIR/second'; sleep 3; curl --noproxy '*' -s http://$(lab_addr4 web)/seen"
    pid=$LAB_PID
    for _ in $(seq 200); do
        [ -e "$LAB_DIR/second" ] && break
        sleep 0.05
    done
    [ -e "$LAB_DIR/second" ] && leaves_by maple env && ok=0
    wait "$pid" 2>/dev/null
    return "$ok"
}


# Of those that the first client drew long ago: no relay learns this host's address for the second's sake. Which of them
# come first depends on the exit.
guards_are_the_firsts() {
    cp "$LAB_DIR/run/client/guards" "$LAB_DIR/guards.before"
    lab_in client "${RUN[@]}" CH sh -c \
        "'$MESH_PROGRAMS/meshvpn' status --json --control '$LAB_DIR'/run/client/run-*/control.sock" >"$LAB_DIR/second.json"
    "$LAB_PYTHON" - "$LAB_DIR/guards.before" "$LAB_DIR/second.json" <<'PYTHON'
import json, sys
first, second = open(sys.argv[1], "rb").read(), json.load(open(sys.argv[2]))
ids = {guard["name"]: bytes.fromhex(guard["identity"]) for guard in second["guards"]}
print({name: id in first for name, id in ids.items()}, second["path"][0]["name"])
sys.exit(not ids or not all(id in first for id in ids.values()) or second["path"][0]["name"] not in ids)
PYTHON
}

names_are_asked_inside() {
    [ "$(lab_in client "${RUN[@]}" CH cat /etc/resolv.conf)" = "nameserver 10.8.0.1" ] &&
        lab_in client "${RUN[@]}" CH getent ahostsv4 "$LAB_WEB_NAME" | grep "$(lab_addr4 web)"
}

# There is nothing but loopback and the device, and both families go by it.
space_has_one_way_out() {
    local links
    links=$(lab_in client "${RUN[@]}" CH ip -o link | awk -F': ' '{ print $2 }' | sort | tr '\n' ' ')
    echo "$links"
    [ "$links" = "lo mvpn0 " ] && lab_in client "${RUN[@]}" CH ip -6 route get "$(lab_addr6 web)" | grep mvpn0
}

status_is() {
    local status
    lab_in client "${@:2}"
    status=$?
    echo "status $status"
    [ "$status" = "$1" ]
}

command_leaves_its_status() {
    status_is 7 "${RUN[@]}" CH sh -c 'exit 7' && status_is 127 "${RUN[@]}" CH no-such-command &&
        status_is 143 "${RUN[@]}" CH sh -c 'kill -TERM $$' && status_is 2 "${RUN[@]}" 'no exit' true
}

programs_of_runs() {
    pgrep -f "^$MESH_PROGRAMS/meshvpn-client .*--own-dir $LAB_DIR|^meshvpn-client .*--own-dir $LAB_DIR" | wc -l
}

nothing_stays() {
    for _ in $(seq 60); do
        [ "$(programs_of_runs)" = 0 ] && break
        sleep 0.1
    done
    pgrep -af "own-dir $LAB_DIR"
    [ "$(programs_of_runs)" = 0 ]
}

killed_run_takes_all_back() {
    local pid
    rm -f "$LAB_DIR/second"
    lab_spawn client killed "${RUN[@]}" CH sh -c "touch '$LAB_DIR/second'; exec sleep 1234567"
    pid=$LAB_PID
    for _ in $(seq 200); do
        [ -e "$LAB_DIR/second" ] && break
        sleep 0.05
    done
    [ "$(programs_of_runs)" -gt 0 ] || return 1
    lab_stop "$pid" KILL
    nothing_stays && ! pgrep -f '^sleep 1234567$' && leaves_by oak "${RUN[@]}" CH &&
        ! ls -d "$LAB_DIR"/run/client/run-*
}

# ---- the wire ----

watch_begin() {
    local node guards=()
    for node in $LAB_RELAYS; do # each may be a guard
        guards+=("$(lab_addr4 "$node")" "$(lab_addr6 "$node")")
    done
    lab_spawn inet split-watch "$LAB_PYTHON" "$SPLIT_TOOL" watch client "${guards[@]}"
    SPLIT_WATCH=$LAB_PID
    leak_wait_ready split-watch
}

nothing_was_seen() {
    sleep 0.3
    lab_stop "$SPLIT_WATCH"
    sed 's/^ready//' "$LAB_DIR/log/split-watch.log" | grep '^{' | tail -n 1 | tee "$LAB_DIR/split.json"
    : >"$LAB_DIR/log/split-watch.log"
    [ "$(cat "$LAB_DIR/split.json")" = '{"probes": 0, "flows": {}, "lost": 0}' ]
}

probes_of_the_command() {
    lab_in client "${RUN[@]}" CH sh -c 'echo "0 2147483647" >/proc/sys/net/ipv4/ping_group_range
        timeout 2 "$@"; exit 0' sh "$LAB_PYTHON" "$LEAK_TOOL" probe-routed 300 "$(lab_addr4 web)" "$(lab_addr6 web)" \
        "$(lab_addr4 alder)" "$(lab_addr6 alder)" 192.168.7.7 >"$LAB_DIR/probes.json"
    cat "$LAB_DIR/probes.json"
    [ "$(mesh_get probes <"$LAB_DIR/probes.json")" -gt 100 ]
}

# shellcheck disable=SC2034 # for lab.sh
LAB_RELAYS="$RELAYS maple oak" LAB_EXITS="maple oak"
lab_begin
RUN=("$MESH_PROGRAMS/meshvpn" run --config "$LAB_DIR/client.conf" --exit)
lab_internet
lab_services
mesh_create listed
mesh_relays_start
MESH_CLIENT_MORE="exit_country = IS
geoip_dir = \"\"" mesh_client_start 3
mesh_client_wait
before=$(leak_state)
watch_begin
lab_check first_leaves_by_its_exit leaves_by maple env
lab_check command_leaves_by_another leaves_by oak "${RUN[@]}" CH
lab_check and_by_name leaves_by oak "${RUN[@]}" oak
lab_check both_at_once both_at_once
lab_check guards_are_the_firsts guards_are_the_firsts
lab_check names_are_asked_inside names_are_asked_inside
lab_check space_has_one_way_out space_has_one_way_out
lab_check command_leaves_its_status command_leaves_its_status
lab_check command_sends_much probes_of_the_command
lab_check nothing_was_on_the_wire nothing_was_seen
lab_check killed_run_takes_all_back killed_run_takes_all_back
lab_check nothing_stays nothing_stays
lab_check host_is_as_before diff <(echo "$before") <(leak_state)
mesh_client_stop
lab_check works_without_a_first leaves_by oak "${RUN[@]}" CH
exit "$((LAB_FAILED > 0))"
