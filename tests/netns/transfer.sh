#!/bin/bash
# Real traffic of every kind through the real programs, on good and on bad links; one "ok NAME" or
# "FAIL NAME" line per check for ./run test. Topology: lab.sh.
#
#     transfer.sh [CASE...]        plain, short (1 hop), long (4 and 5 hops), loss, blackhole, stop, two
set -u
. "$(dirname "$0")/lab.sh"
. "$(dirname "$0")/mesh.sh"

# ---- checks ----

# fetch MEGABYTES [CURL-OPTION...]: the file as received is the file as stored
fetch() {
    local size=$1 got
    shift
    got=$(mesh_curl "$@" "http://$(lab_addr4 web)/file/$size" | sha256sum | cut -d' ' -f1)
    [ "$got" = "$(lab_sha256 "$size")" ]
}

# send MEGABYTES: what the server received is what was sent
send() {
    local got
    got=$(mesh_curl -T "$LAB_DIR/www/$1" -X POST -H 'Expect:' "http://$(lab_addr4 web)/") || return 1
    [ "$got" = "$(lab_sha256 "$1")" ]
}

# seen_as ADDRESS URL-HOST: the web server saw that address
seen_as() {
    local got
    got=$(mesh_curl -g "http://$2/ip") || return 1
    echo "seen $got, expected $1"
    [ "$got" = "$1" ]
}

dns_is() {
    local got
    got=$(mesh_dns "$1" | head -n 1)
    echo "got $got, expected $2"
    [ "$got" = "$2" ]
}

ping_ok() {
    mesh_ping_ms "$1" 10
}

# udp_arrives [SHARE]: of 1000 packets of 1000 bytes at 2000 a second, that share arrives unchanged
udp_arrives() {
    local json=$LAB_DIR/udp.json receiver
    lab_in web "$LAB_PYTHON" "$LAB_TOOL" udp-recv 9000 3 >"$json" 2>/dev/null &
    receiver=$!
    lab_wait_port web udp 9000
    lab_in client "$LAB_PYTHON" "$LAB_TOOL" udp-send "$(lab_addr4 web)" 9000 1000 "${2:-1000}" 2000
    wait "$receiver"
    cat "$json"
    "$LAB_PYTHON" -c 'import json, sys
j = json.load(open(sys.argv[1]))
sys.exit(j["distinct"] < 1000 * float(sys.argv[2]) or j["corrupt"] > 0 or j["duplicates"] > 0)' "$json" "${1:-0.99}"
}

path_is() {
    local got
    got=$(mesh_path | tr '\n' ' ')
    echo "path is $got, expected $*"
    [ "$got" = "$* " ]
}

# every_kind PREFIX EXIT: what must work on any circuit
every_kind() {
    lab_check "$1_tcp_10mb" fetch 10
    lab_check "$1_tcp_10mb_upload" send 10
    lab_check "$1_exit_address" seen_as "$(lab_addr4 "$2")" "$(lab_addr4 web)"
    lab_check "$1_ipv6_exit_address" seen_as "$(lab_addr6 "$2")" "[$(lab_addr6 web)]"
    lab_check "$1_udp" udp_arrives
    lab_check "$1_udp_in_fragments" udp_arrives 0.99 1380
    lab_check "$1_icmp" ping_ok "$(lab_addr4 web)"
    lab_check "$1_icmpv6" ping_ok "$(lab_addr6 web)"
    lab_check "$1_dns" dns_is A "$(lab_addr4 web)"
}

# mesh_up found|listed [MEGABYTES...]
mesh_up() {
    local mode=$1
    shift
    lab_internet
    lab_services 10 "$@"
    mesh_create "$mode"
    mesh_relays_start
}

# ---- cases ----

case_plain() {
    mesh_up found 100
    mesh_client_start 3
    mesh_client_wait
    every_kind hops3 "$(mesh_path | tail -n 1)"
    lab_check hops3_tcp_100mb fetch 100
    lab_check hops3_dns_ipv6 dns_is AAAA "$(lab_addr6 web)"
    lab_check hops3_gateway_ping ping_ok "$MESH_GATEWAY4"
    lab_check hops3_programs_alive mesh_alive
}

case_short() {
    mesh_up listed
    mesh_client_start 1 oak
    mesh_client_wait
    lab_check hops1_path path_is oak
    every_kind hops1 oak
}

case_long() {
    mesh_up listed
    mesh_client_start 4 alder birch cedar oak
    mesh_client_wait
    lab_check hops4_path path_is alder birch cedar oak
    every_kind hops4 oak
    mesh_client_stop
    mesh_client_start 5 cedar oak birch alder maple
    mesh_client_wait
    lab_check hops5_path path_is cedar oak birch alder maple
    every_kind hops5 maple
    lab_check hops5_programs_alive mesh_alive
}

case_loss() {
    # shellcheck disable=SC2034 # read by lab_internet
    LAB_LINK_client="delay=5ms loss=2% reorder=5% reorder-delay=4ms" \
        LAB_LINK_birch="delay=5ms jitter=1ms"
    mesh_up listed
    mesh_client_start 3 alder birch oak
    mesh_client_wait 30
    lab_check loss_tcp_10mb fetch 10
    lab_check loss_tcp_10mb_upload send 10
    lab_check loss_udp udp_arrives 0.95
    lab_link_set client clear delay=5ms corrupt=3% duplicate=5%
    lab_check corrupt_udp udp_arrives 0.93
    lab_check corrupt_tcp_10mb fetch 10
    lab_check loss_programs_alive mesh_alive
}

# Packets over 1280 bytes vanish at the guard: the links have to notice and split their cells.
case_blackhole() {
    # shellcheck disable=SC2034
    LAB_LINK_alder="mtu=1280"
    mesh_up listed
    mesh_client_start 3 alder birch oak
    mesh_client_wait 30
    lab_check blackhole_tcp_10mb fetch 10
    lab_check blackhole_tcp_10mb_upload send 10
    lab_check blackhole_udp udp_arrives
    # One that opens later, under traffic.
    lab_link_set alder clear
    sleep 1
    lab_link_set alder mtu=1280
    lab_check blackhole_opens_tcp_10mb fetch 10
}

nft_tables() {
    lab_in oak nft list tables
}

no_nft_tables() {
    nft_tables
    [ -z "$(nft_tables)" ]
}

has_nft_table() {
    [ -n "$(nft_tables)" ]
}

no_conntrack_of_pool() {
    local tries=40
    # Only the exit's own packets may be left: their source is the exit itself.
    while lab_in oak conntrack -L 2>/dev/null | grep -v "^[^=]*src=$(lab_addr4 oak) " | grep "dst=$(lab_addr4 web)"; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || return 1
        sleep 0.25
    done
}

rules_are_back() {
    client_net | diff "$LAB_DIR/client-before" -
}

client_net() {
    lab_in client sh -c 'ip rule; ip -6 rule; ip route show table all; ip -o link | cut -d" " -f2; nft list ruleset' |
        grep -v -e 'fe80' -e 'cache' -e 'ff00'
}

# What the programs set up, they take away, also after a crash.
case_stop() {
    mesh_up listed
    client_net >"$LAB_DIR/client-before"
    mesh_client_start 3 alder birch oak
    mesh_client_wait
    lab_check stop_page_before seen_as "$(lab_addr4 oak)" "$(lab_addr4 web)"
    lab_check stop_exit_has_nft has_nft_table
    mesh_client_stop
    lab_check stop_client_restores_network rules_are_back
    lab_check stop_exit_deletes_conntrack no_conntrack_of_pool
    lab_stop "${MESH_PIDS[oak]}" KILL
    mesh_relay_start oak
    lab_wait_port oak udp "$LAB_PORT"
    sleep 0.3
    lab_check stop_exit_restarts_after_crash has_nft_table
    mesh_client_start 3 alder birch oak
    mesh_client_wait
    lab_check stop_page_after_crash seen_as "$(lab_addr4 oak)" "$(lab_addr4 web)"
    lab_stop "${MESH_PIDS[oak]}"
    lab_check stop_exit_removes_nft no_nft_tables
}

# Two demos side by side: each holds, and each under names of its own.
case_two() {
    lab_begin_for_demos=$(mktemp -d "${TMPDIR:-/tmp}/meshvpn-two.XXXXXX")
    local a=$lab_begin_for_demos/a b=$lab_begin_for_demos/b pid_a pid_b
    trap 'kill $pid_a $pid_b 2>/dev/null; wait; rm -rf "$lab_begin_for_demos"; exit 143' INT TERM
    "$LAB_HERE/demo.sh" --once --json >"$a" 2>"$a.log" &
    pid_a=$!
    "$LAB_HERE/demo.sh" --once --json >"$b" 2>"$b.log" &
    pid_b=$!
    report_demo two_demos_first "$pid_a" "$a"
    report_demo two_demos_second "$pid_b" "$b"
    rm -rf "$lab_begin_for_demos"
}

report_demo() {
    if wait "$2" && tail -n 1 "$3" | mesh_get ok | grep -qx true; then
        echo "ok $1"
    else
        LAB_FAILED=$((LAB_FAILED + 1))
        echo "FAIL $1"
        tail -n 30 "$3.log" | sed 's/^/    /'
    fi
}

# ---- one process per case, so that each cleans up its own lab ----

if [ "${1:-}" = --case ]; then
    mesh_need_programs
    [ "$2" = two ] || lab_begin
    "case_$2"
    exit $((LAB_FAILED > 0))
fi

[ $# -gt 0 ] || set -- plain short long loss blackhole stop two
mesh_need_programs
status=0
child=
trap 'kill "$child" 2>/dev/null; wait "$child"; exit 143' HUP INT TERM
for name; do
    "$0" --case "$name" &
    child=$!
    wait "$child"
    code=$?
    # A case that could not even set up must not pass for one that did.
    if [ "$code" != 0 ]; then
        status=1
        [ "$code" = 1 ] || echo "FAIL transfer_${name}_ended_with_$code"
    fi
    [ "$code" = 0 ] && echo "ok transfer_case_$name" || echo "FAIL transfer_case_$name"
done
exit "$status"
