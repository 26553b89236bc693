#!/bin/bash
# meshvpn up, status, reconnect and down with real programs: stages, proof, exit statuses, times; who may not is
# refused; a client that fell is told of, and taken back. Prints "ok NAME" or "FAIL NAME".
#
#     up.sh [--times N]      also measure N times from up to the end of a page, cold and warm
#                            MVPN_BUILD names the build directory
# shellcheck disable=SC2016,SC2034 # what is evaluated later
set -u
# shellcheck source=tests/netns/lab.sh
. "$(dirname "$0")/lab.sh"
# shellcheck source=tests/netns/mesh.sh
. "$(dirname "$0")/mesh.sh"
# shellcheck source=tests/netns/up_lab.sh
. "$(dirname "$0")/up_lab.sh"

up_lab_begin
before=$(up_state)

# ---- which exit ----

exits_become_known() {
    local tries=120
    until up_meshvpn 0 exit list --control "$LAB_DIR/sock/client" && grep -q "^maple " "$LAB_DIR/out" && grep -q "^oak " "$LAB_DIR/out"; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || return 1
        sleep 0.25
    done
}

# leaves_by EXIT: as soon as up says so, that is the exit of the path, and what was proven was proven there
leaves_by() {
    local exit
    up_says 0 Connected --exit "$1" || return 1
    exit=$(sed -n 's/.*exit address  *[^ ]* \([a-z]*\) .*/\1/p' "$LAB_DIR/out")
    mesh_status >"$LAB_DIR/status.json"
    [ "$1" = auto ] || [ "$exit" = "$1" ] || return 1
    "$LAB_PYTHON" -c 'import json, sys
status = json.load(sys.stdin)
exit = status["path"][-1]
print(exit, status["proof"])
assert exit["name"] == sys.argv[1] and status["proof"]["exit"] == exit["identity"]' "$exit" <"$LAB_DIR/status.json"
}

# ---- a life ----

lab_check up_connects up_says 0 'Connected' --timeout 30
lab_check up_shows_the_stages eval 'grep -q "^\[1/.\] host prepared" "$LAB_DIR/out" && grep -q "^\[5/.\] exit answers" "$LAB_DIR/out"'
lab_check up_shows_the_proof grep -q 'kill switch' "$LAB_DIR/out"
lab_check up_without_a_terminal_is_plain eval '! grep -q "$(printf "\033")" "$LAB_DIR/out"'
lab_check page_comes mesh_curl -o /dev/null "http://$(lab_addr4 web)/"
lab_check up_again_says_so up_says 0 'Already connected'
lab_check status_is_connected up_meshvpn 0 status --control "$LAB_DIR/sock/client"
lab_check status_watch_goes_on eval 'lab_in client timeout -s INT 2.5 "$MESH_PROGRAMS/meshvpn" status --watch --json --control "$LAB_DIR/sock/client" >"$LAB_DIR/out"; [ "$(grep -c "\"state\":\"connected\"" "$LAB_DIR/out")" -ge 2 ]'
lab_check up_as_somebody_may_not_ask up_as_nobody 10 up --config "$LAB_DIR/client.conf"
chmod 666 "$LAB_DIR/sock/client"
lab_check down_as_somebody_is_refused up_as_nobody 10 down --config "$LAB_DIR/client.conf"
lab_check refusal_says_whom_to_ask grep -q 'root, and its operators may' "$LAB_DIR/out"
lab_check reconnect_keeps_it eval 'up_meshvpn 0 reconnect --config "$LAB_DIR/client.conf" && sleep 1 && mesh_curl -o /dev/null "http://$(lab_addr4 web)/"'
lab_check hops_of_one_that_runs eval 'up_says 0 Connected --hops 2 && up_path_has 2'
lab_check exits_become_known exits_become_known
lab_check proof_is_of_the_exit_in_use eval 'leaves_by maple && leaves_by oak && leaves_by maple && leaves_by auto'
lab_check down_restores eval 'up_meshvpn 0 down --config "$LAB_DIR/client.conf" && grep -q "as it was before" "$LAB_DIR/out" && diff <(echo "$before") <(up_state)'
lab_check down_blames_nobody eval 'grep -q connected "$LAB_DIR/host/client/client.log" && ! grep "another program" "$LAB_DIR/host/client/client.log"'
lab_check status_is_down up_meshvpn 4 status --control "$LAB_DIR/sock/client"
lab_check down_again_says_so up_meshvpn 0 down --config "$LAB_DIR/client.conf"
lab_check up_json eval 'up_says 0 "\"result\":\"connected\"" --json && up_json_is_good'
lab_check up_with_hops eval 'up_meshvpn 0 down --config "$LAB_DIR/client.conf" && up_says 0 Connected --hops 4 && up_path_has 4'

# ---- a fall ----

up_crash
lab_check fall_is_told eval 'up_meshvpn 5 status --control "$LAB_DIR/sock/client" && grep -q "kill switch" "$LAB_DIR/out"'
lab_check down_takes_it_back eval 'up_meshvpn 0 down --config "$LAB_DIR/client.conf" && diff <(echo "$before") <(up_state)'

# ---- by systemd ----

lab_check up_by_systemd up_by_systemd
lab_check up_by_systemd_that_fails eval '! UP_UNIT_FAILS=1 up_by_systemd && grep -q "systemd could not start" "$LAB_DIR/out" && grep -q "a word of the journal" "$LAB_DIR/out"'

up_times "$@"
exit "$LAB_FAILED"
