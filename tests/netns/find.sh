#!/bin/bash
# Real programs find each other: what a first start takes and a restart, without the nodes it began
# with; whom a client speaks to; relays that come, go, die and are revoked; wrong clocks; a client that
# is killed while it writes; each source of entries alone. One "ok NAME" or "FAIL NAME" line per check
# for ./run test, figures on stderr. Topology: lab.sh.
#
#     find.sh [CASE...]        ready, live, dead, revoke, clock, crash, sources, v6; rest: all but ready,
#                              whose times are those of a machine that does nothing else
set -u
. "$(dirname "$0")/lab.sh"
. "$(dirname "$0")/mesh.sh"

# For a machine that does nothing else.
FIRST_READY_S=3
RESTART_READY_S=0.5

# ---- checks ----

page() {
    local got
    got=$(mesh_curl --max-time "${1:-20}" "http://$(lab_addr4 web)/ip") || return 1
    echo "seen $got"
    mesh_status >"$LAB_DIR/status.json"
    [ "$got" = "$(lab_addr4 "$(mesh_path | tail -n 1)")" ]
}

# is KEY VALUE: in the client's status
is() {
    local got
    got=$(mesh_status | mesh_get "$1")
    echo "$1 is $got, expected $2"
    [ "$got" = "$2" ]
}

# until_true TENTHS COMMAND...: prints the seconds that it took
until_true() {
    local from tenths=$1
    shift
    from=$(date +%s%N)
    until "$@" >/dev/null 2>&1; do
        tenths=$((tenths - 1))
        [ "$tenths" -gt 0 ] || return 1
        sleep 0.1
    done
    awk -v from="$from" -v to="$(date +%s%N)" 'BEGIN { printf "%.1f\n", (to - from) / 1e9 }'
}

at_most() {
    echo "$1, expected at most $2"
    awk -v got="${1:-none}" -v most="$2" 'BEGIN { exit !(got ~ /^[0-9.]+$/ && got + 0 <= most) }'
}

figure() {
    lab_say "   $*"
}

# node_knows NODE COUNT: so many relays are in its view
node_knows() {
    [ "$(mesh_node_get "$1" view.relays)" = "$2" ]
}

start_client() {
    mesh_client_start "$@"
    mesh_client_ready 20 >"$LAB_DIR/ready" || mesh_client_wait 1
}

# ready_times COUNT forget|keep: seconds of so many starts, one a line
ready_times() {
    local i
    for i in $(seq "$1"); do
        [ "$2" = keep ] || mesh_forget
        mesh_client_start 3
        mesh_client_ready 20 || return 1
        [ "$i" = "$1" ] || mesh_client_stop
    done
}

median() {
    "$LAB_PYTHON" "$LAB_TOOL" median
}

# draws_without NODE COUNT: paths of five hops that do not meet the node. (Of six relays they take five, so
# that one alone would meet it five times out of six.)
draws_without() {
    local i
    for i in $(seq "$2"); do
        mesh_client_stop
        start_client 5
        mesh_status >"$LAB_DIR/status.json"
        mesh_path | tr '\n' ' '
        ! mesh_path | grep -qx "$1" || return 1
        [ "$(mesh_path | wc -l)" = 5 ] || return 1
    done
}

# ---- ready ----

case_ready() {
    lab_internet
    lab_services
    mesh_create found
    mesh_relays_start
    mesh_join
    ready_times 5 forget >"$LAB_DIR/first"
    figure "first start: connected after $(tr '\n' ' ' <"$LAB_DIR/first")s"
    lab_check ready_first_start at_most "$(median <"$LAB_DIR/first")" "$FIRST_READY_S"
    lab_check ready_first_page page
    sleep 1
    mesh_client_stop
    mesh_node_stop boot KILL
    ready_times 5 keep >"$LAB_DIR/restart"
    figure "restart without the bootstrap node: connected after $(tr '\n' ' ' <"$LAB_DIR/restart")s"
    lab_check ready_restart at_most "$(median <"$LAB_DIR/restart")" "$RESTART_READY_S"
    lab_check ready_restart_page page
    lab_check ready_programs_alive mesh_alive
}

# ---- live ----

# Whom the client's wire showed: one "NAME frames first-second last-second" a line, both directions;
# those of the link alone left out.
wire_names() {
    local from to frames first last node
    grep -v -e '^#' -e ' ff02:' -e 'fe80:' "$LAB_DIR/log/wire.log" | while read -r from to frames first last; do
        case $from in "$(lab_addr4 client)" | "$(lab_addr6 client)") from=$to ;; esac
        for node in $LAB_ENTRIES $LAB_RELAYS web; do
            case $from in "$(lab_addr4 "$node")" | "$(lab_addr6 "$node")") from=$node ;; esac
        done
        echo "$from $frames $first $last"
    done | sort
}

# all_known COUNT: relays known, those included that have withdrawn
all_known() {
    mesh_status >"$LAB_DIR/status.json"
    [ $(($(mesh_get view.relays <"$LAB_DIR/status.json") + $(mesh_get view.relays_withdrawn <"$LAB_DIR/status.json"))) = "$1" ]
}

early_sweeps_are_over() {
    [ "$(mesh_status | mesh_get directory.sweeps)" -ge 4 ]
}

guard_names() {
    mesh_status >"$LAB_DIR/status.json"
    mesh_path guards | sort -u
}

# Every address on the wire is one of a guard, and the guard in use is among them.
wire_is_guards() {
    echo "guards: $(tr '\n' ' ' <"$LAB_DIR/guards")"
    wire_names
    [ -s "$LAB_DIR/guards" ] && [ -z "$(wire_names | cut -d' ' -f1 | sort -u | comm -23 - "$LAB_DIR/guards")" ] &&
        wire_names | grep -q "^$(mesh_path | head -n 1) "
}

# A relay of no circuit: none of the guards in use, and no exit (paths of two hops have no others).
idle_relay() {
    mesh_status >"$LAB_DIR/status.json"
    "$LAB_PYTHON" -c 'import json, sys
busy = {g["name"] for g in json.load(sys.stdin)["guards"] if g["has_worked"]}
print(next(name for name in sys.argv[1:] if name not in busy))' "$@" <"$LAB_DIR/status.json"
}

case_live() {
    local from watcher idle
    LAB_RELAYS="alder birch cedar elm maple oak"
    LAB_ENTRIES="boot disc"
    lab_internet
    lab_services
    mesh_create found
    mesh_relays_start boot disc alder birch cedar maple oak
    start_client 2
    lab_spawn client wire "$LAB_PYTHON" "$LAB_TOOL" wire eth0
    watcher=$LAB_PID
    from=$SECONDS
    # What finds the new relay must be the sweeps of a client that is long connected.
    until_true 200 early_sweeps_are_over >/dev/null
    lab_check live_all_are_known all_known 7
    idle=$(idle_relay alder birch cedar) || mesh_fail "every relay is in a circuit" client
    mesh_relays_start elm
    mesh_node_stop "$idle"
    figure "a new relay is known to a running client after $(until_true 1600 all_known 8) s"
    lab_check live_new_relay_is_known all_known 8
    lab_check live_stopped_relay_is_withdrawn is view.relays_withdrawn 1
    lab_check live_page page
    until [ $((SECONDS - from)) -ge 60 ]; do
        page >/dev/null
        sleep 1
    done
    guard_names >"$LAB_DIR/guards"
    lab_stop "$watcher"
    figure "$((SECONDS - from)) s on the wire: $(wire_names | cut -d' ' -f1 | uniq | tr '\n' ' ')"
    lab_check live_wire_shows_guards_only wire_is_guards
    lab_check live_session_was_never_lost never_lost
    lab_check live_stopped_relay_is_not_drawn draws_without "$idle" 3
    lab_check live_programs_alive mesh_alive
}

never_lost() {
    ! grep 'circuit was lost' "$LAB_DIR/log/client.log"
}

# ---- dead ----

# avoided NODE: a page comes, by a path without it
avoided() {
    page 2 && ! mesh_path | grep -qx "$1"
}

case_dead() {
    local middle guard
    LAB_RELAYS="alder birch cedar elm maple oak"
    lab_internet
    lab_services
    mesh_create found
    mesh_relays_start
    start_client 3
    lab_check dead_page_before page
    mesh_status >"$LAB_DIR/status.json"
    middle=$(mesh_path | sed -n 2p)
    mesh_node_stop "$middle" KILL
    figure "a killed middle is avoided after $(until_true 600 avoided "$middle") s"
    lab_check dead_middle_is_avoided avoided "$middle"
    mesh_status >"$LAB_DIR/status.json"
    guard=$(mesh_path | sed -n 1p)
    mesh_node_stop "$guard" KILL
    figure "a killed guard is avoided after $(until_true 600 avoided "$guard") s"
    lab_check dead_guard_is_avoided avoided "$guard"
    lab_check dead_programs_alive mesh_alive
}

# ---- revoke ----

revoked_everywhere() {
    local node
    for node in "$@"; do
        [ "$(mesh_node_get "$node" view.revocations)" = 1 ] || return 1
    done
}

# The old network file still lists cedar: it is the others who refuse.
refused_as_middle() {
    mesh_client_start 3 alder cedar oak
    until_true 100 grep -q 'could not be built.*at relay cedar' "$LAB_DIR/log/client.log" || return 1
    ! is state connected
}

# has_nobody_left NODE: of those in its view
has_nobody_left() {
    [ "$(mesh_node_get "$1" view.relays_withdrawn)" = 0 ]
}

case_revoke() {
    LAB_RELAYS="alder birch cedar elm maple oak"
    lab_internet
    lab_services
    mesh_create both
    cp "$LAB_DIR/net/network.conf" "$LAB_DIR/old.conf"
    MESH_NETWORK=$LAB_DIR/old.conf
    mesh_relays_start
    start_client 3 alder cedar oak
    lab_check revoke_page_through_it_before page
    mesh_client_stop
    mesh_bootstrap revoke "$LAB_DIR/net" cedar
    cp "$LAB_DIR/net/network.conf" "$LAB_DIR/net/nodes/birch/network.conf"
    mesh_node_stop birch
    mesh_relays_start birch
    figure "all nodes know of the revocation after $(until_true 1200 revoked_everywhere boot alder birch elm maple oak) s"
    lab_check revoke_is_known_everywhere revoked_everywhere boot alder birch elm maple oak
    lab_check revoke_it_is_refused refused_as_middle
    mesh_client_stop
    mesh_forget
    # Five hops are all that are left, and the entry may have birch's farewell yet.
    figure "the entry knows that birch is back after $(until_true 300 has_nobody_left boot) s"
    # A link says nothing of it: the newcomer hears of it from the nodes.
    mesh_join
    start_client 5
    lab_check revoke_newcomer_hears_of_it is view.revocations 1
    lab_check revoke_newcomer_does_not_draw_it draws_without cedar 3
    lab_check revoke_programs_alive mesh_alive
}

# ---- clock ----

# clock_told SECONDS: its status and its log say that the clock is that much ahead (or behind: below 0)
clock_told() {
    local got
    got=$(mesh_status | mesh_get clock.offset_s)
    echo "offset $got, expected $((-$1))"
    [ $((got + $1)) -le 120 ] && [ $((got + $1)) -ge -120 ] && is clock.is_wrong true &&
        grep "clock is [0-9]* seconds $([ "$1" -gt 0 ] && echo fast || echo slow)" "$LAB_DIR/log/client.log"
}

# wrong_clock NAME SECONDS: a first start with a clock so much ahead, and a restart
wrong_clock() {
    local name=$1 seconds=$2
    mesh_forget
    : >"$LAB_DIR/log/client.log"
    MESH_CLIENT_ENV="LD_PRELOAD=$LAB_BUILD/tests/netns/clock_shift.so CLOCK_SHIFT_S=$seconds"
    mesh_client_start 3
    figure "clock $name: first start connected after $(mesh_client_ready 15) s"
    lab_check "clock_${name}_connects" page
    until_true 30 clock_told "$seconds" >/dev/null
    lab_check "clock_${name}_is_told" clock_told "$seconds"
    mesh_client_stop
    mesh_client_start 3
    figure "clock $name: restart connected after $(mesh_client_ready 15) s"
    lab_check "clock_${name}_restart_connects" page
    mesh_client_stop
    MESH_CLIENT_ENV=
}

case_clock() {
    [ -e "$LAB_BUILD/tests/netns/clock_shift.so" ] || lab_die "clock_shift.so is not built in $LAB_BUILD"
    lab_internet
    lab_services
    mesh_create found
    mesh_relays_start
    sleep 1
    mesh_join
    wrong_clock hour_fast 3600
    wrong_clock hour_slow -3600
    wrong_clock day_fast 86400
    wrong_clock day_slow -86400
    wrong_clock year_fast 31536000
    wrong_clock year_slow -31536000
    lab_check clock_programs_alive mesh_alive
}

# ---- crash ----

crash_start() {
    mesh_client_start 3
    mesh_client_ready 10
}

# kill_often COUNT: killed at random moments of its start and its writing; each start must come through
kill_often() {
    local i ms
    for i in $(seq "$1"); do
        mesh_client_start 3
        ms=$((RANDOM % 900 + 20))
        sleep "$(awk "BEGIN { print $ms / 1000 }")"
        kill -0 "$MESH_CLIENT_PID" || { echo "it ended by itself within $ms ms" && return 1; }
        mesh_client_stop KILL
    done
    crash_start
}

# damaged FILE SIZE: the state file cut to that size, or (SIZE = noise) overwritten from the middle on
damaged() {
    local file=$LAB_DIR/run/client/$1
    cp "$LAB_DIR/whole/"* "$LAB_DIR/run/client/"
    if [ "$2" = noise ]; then
        head -c 200 /dev/urandom | dd of="$file" bs=1 seek=$(($(stat -c %s "$file") / 2)) conv=notrunc status=none
    else
        truncate -s "$2" "$file"
    fi
    crash_start && mesh_client_stop
}

case_crash() {
    local file size
    lab_internet
    lab_services
    mesh_create found
    mesh_relays_start
    sleep 1
    mesh_join
    lab_check crash_killed_at_random_moments kill_often 12
    lab_check crash_page page
    sleep 2
    mesh_client_stop
    cp -r "$LAB_DIR/run/client" "$LAB_DIR/whole"
    lab_check crash_no_file_is_left_half [ -z "$(find "$LAB_DIR/run/client" -name '*.new' -o -name '*.tmp')" ]
    for file in view guards entries sample-key; do
        size=$(stat -c %s "$LAB_DIR/whole/$file")
        lab_check "crash_empty_$file" damaged "$file" 0
        lab_check "crash_cut_$file" damaged "$file" $((RANDOM % (size - 1) + 1))
        lab_check "crash_noise_in_$file" damaged "$file" noise
    done
    lab_check crash_programs_alive mesh_alive
}

# ---- sources ----

ENTRIES_NAME=entries.lab.example

# A name server for the client at the address that its system names; answers with boot's TXT records.
entries_in_dns() {
    local server servers options=()
    servers=$(awk '$1 == "nameserver" { print $2 }' /etc/resolv.conf)
    for server in ${servers:-127.0.0.1}; do
        lab_in client ip addr add "$server" dev lo 2>/dev/null
        options+=(--listen-address="$server")
    done
    while read -r server; do
        options+=(--txt-record="$ENTRIES_NAME,$server")
    done < <("$MESH_PROGRAMS/meshvpn-bootstrap" show "$LAB_DIR/net" | sed -n 's/.*TXT "\(.*\)"$/\1/p')
    lab_spawn client entries-dns dnsmasq --no-daemon --conf-file=/dev/null --no-resolv --no-hosts \
        --user=root --pid-file= --bind-interfaces "${options[@]}"
    lab_wait_port client udp 53
}

# source_alone NAME LINE...: a first start whose network file has this source of entries and no other
source_alone() {
    local name=$1
    shift
    MESH_NETWORK=$LAB_DIR/$name.conf
    sed '/^entries = {/,/^}/d; /^dns = /d; /^discovery = /d; /^lan_discovery = /d' "$LAB_DIR/net/network.conf" \
        >"$MESH_NETWORK"
    printf '%s\n' "$@" >>"$MESH_NETWORK"
    chmod 600 "$MESH_NETWORK"
    mesh_client_start 3
    figure "source $name: connected after $(mesh_client_ready "${SOURCE_TIME:-10}" 2>/dev/null) s"
}

source_check() {
    lab_check "sources_$1_alone" page
    mesh_client_stop
    mesh_forget
}

case_sources() {
    LAB_ENTRIES="boot disc"
    lab_internet
    lab_neighbour fig
    lab_services
    LAB_RELAYS="$LAB_RELAYS fig"
    mesh_create found
    mesh_set "$(mesh_conf fig)" lan_announce true
    mesh_relays_start
    entries_in_dns
    sleep 1
    # Without any that works nothing works: what follows is not due to something forgotten.
    SOURCE_TIME=3 source_alone none "dns = \"nobody.lab.example\""
    lab_check sources_none_is_not_connected is state connecting
    mesh_client_stop
    mesh_forget
    source_alone file "$(sed -n '/^entries = {/,/^}/p' "$LAB_DIR/net/network.conf")"
    source_check file
    source_alone dns "dns = \"$ENTRIES_NAME\""
    source_check dns
    source_alone url "discovery = {\"http://$(lab_addr4 disc):8080\"}"
    source_check url
    source_alone lan "lan_discovery = true"
    source_check lan
    mesh_join
    mesh_client_start 3
    figure "source invitation: connected after $(mesh_client_ready 10) s"
    lab_check sources_invitation_alone page
    sleep 2
    mesh_client_stop
    # Peers of the last run, without what it knew of relays.
    rm "$LAB_DIR/run/client/view"
    source_alone cached "dns = \"nobody.lab.example\""
    source_check cached
    lab_check sources_programs_alive mesh_alive
}

# ---- v6: a client without IPv4, and all that it knows are entries with both addresses ----

page_v6() {
    mesh_curl --max-time 20 "http://$(lab_addr4 web)/ip" && mesh_status >"$LAB_DIR/status.json"
}

no_v4_here() {
    ! lab_in client ip -4 -o addr show dev eth0 | grep . && ! lab_in client ip -4 route show default dev eth0 | grep .
}

case_v6() {
    lab_internet
    lab_services
    mesh_create found
    mesh_relays_start
    sleep 1
    lab_in client ip -4 addr flush dev eth0
    lab_check v6_client_has_no_ipv4 no_v4_here
    mesh_client_start 3
    figure "a client without IPv4: connected after $(mesh_client_ready 20) s"
    lab_check v6_page page_v6
    lab_check v6_programs_alive mesh_alive
}

# ---- one process per case, so that each cleans up its own lab ----

if [ "${1:-}" = --case ]; then
    mesh_need_programs
    lab_begin
    "case_$2"
    exit $((LAB_FAILED > 0))
fi

# The figures of a start are those of a machine that does nothing else; the other cases mostly wait.
CASES_REST="live dead revoke clock crash sources v6"
# shellcheck disable=SC2086 # words
case "$*" in
'') set -- ready $CASES_REST ;;
rest) set -- $CASES_REST ;;
esac
mesh_need_programs
status=0
out=$(mktemp -d "${TMPDIR:-/tmp}/meshvpn-find.XXXXXX") || exit 1
children=()
trap 'kill "${children[@]}" 2>/dev/null; wait; rm -rf "$out"; exit 143' HUP INT TERM

run_case() {
    "$0" --case "$1" >"$out/$1.out" 2>"$out/$1.err" &
    children+=("$!")
}

# collect CASE PID
collect() {
    wait "$2"
    local code=$?
    cat "$out/$1.err" >&2
    cat "$out/$1.out"
    [ "$code" = 0 ] && echo "ok find_case_$1" && return
    # A case that could not even set up must not pass for one that did.
    status=1
    echo "FAIL find_case_$1"
}

names=()
for name; do
    if [ "$name" = ready ]; then
        run_case ready
        collect ready "${children[0]}"
        children=()
    else
        names+=("$name")
    fi
done
for name in "${names[@]}"; do
    run_case "$name"
done
for i in "${!names[@]}"; do
    collect "${names[$i]}" "${children[$i]}"
done
rm -rf "$out"
exit "$status"
