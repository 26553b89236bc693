#!/bin/bash
# A host that filters by reverse path strictly (rp_filter = 1), in IPv4 alone: the client's answers come in by
# themselves, with and without kill switch; nothing else does; and its settings are what they were after each end.
# Prints "ok NAME" or "FAIL NAME".
#
#     reverse_path.sh            MVPN_BUILD names the build directory
set -u
# shellcheck source=tests/netns/lab.sh
. "$(dirname "$0")/lab.sh"
# shellcheck source=tests/netns/mesh.sh
. "$(dirname "$0")/mesh.sh"

LAB_RELAYS="alder birch maple" LAB_EXITS="maple"
ANSWERS=meshvpn_answers MARK=0x24d56
OWN4=$(lab_addr4 client)
BEHIND=11.99.99.99 # nobody's, behind the client
OUTSIDE=(setpriv --reuid=12346 --regid=12346 --clear-groups)
# shellcheck disable=SC2034 # for mesh.sh
MESH_KILL_SWITCH=true
lab_begin
lab_internet
lab_services
mesh_create listed
mesh_relays_start
lab_in client ip -6 addr flush dev eth0 scope global

# filter NAME VALUE: of "all" or of an interface
filter() {
    lab_in client sh -c 'echo "$2" >"/proc/sys/net/ipv4/conf/$1/rp_filter"' - "$1" "$2"
}

state() {
    lab_in client ip -o link
    lab_in client ip rule
    lab_in client ip route show table all
    lab_in client nft list ruleset
    lab_in client sh -c 'grep -r . /proc/sys/net/ipv4/conf' | sort
}

is_as_before() {
    diff <(echo "$before") <(state)
}

asks_with_mark() {
    lab_in client cat "/proc/sys/net/ipv4/conf/$1/src_valid_mark"
}

page_comes() {
    mesh_curl -o /dev/null "http://$(lab_addr4 web)/"
}

start() {
    MESH_CLIENT_MORE=${1:-} mesh_client_start 3 alder birch maple
}

connects() {
    mesh_client_wait 15 && page_comes && [ "$(asks_with_mark eth0)" = 1 ]
}

# until_is VALUE COMMAND...: what COMMAND prints, within 5 s
until_is() {
    local want=$1 tries=100
    shift
    until [ "$("$@" 2>&1)" = "$want" ]; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || return 1
        sleep 0.05
    done
}

marked_interfaces() {
    lab_in client nft list table inet "$ANSWERS" | grep -c 'socket mark'
}

# count NAME: packets that the rules of count_begin saw
count_begin() {
    lab_in client nft -f - <<NFT
table inet look {
    counter own { }
    counter others { }
    chain prerouting {
        type filter hook prerouting priority -149; policy accept;
        meta mark $MARK ip daddr $OWN4 udp dport != 5555 counter name own
        meta mark $MARK ip daddr != $OWN4 counter name others
        meta mark $MARK udp dport 5555 counter name others
        meta mark 0x4d56 counter name others
    }
}
NFT
}

count() {
    lab_in client nft list counter inet look "$1" | awk '$1 == "packets" { print $2 }'
}

# send ADDRESS PORT: some datagrams of the web server's
send() {
    lab_in web "$LAB_PYTHON" -c 'import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range(20):
    s.sendto(b"x", (sys.argv[1], int(sys.argv[2])))' "$@"
}

# The router forgets the hardware address, as it does now and then, and asks for it.
neighbours_are_answered() {
    lab_in inet ip neigh flush dev client
    send "$OWN4" 5555
    until_is 1 eval "lab_in inet ip neigh show to $OWN4 dev client | grep -cE 'lladdr'" && page_comes
}

# The kernel drops what comes for another socket, and what is passed on to the port of one of ours keeps no mark.
nothing_else_is_let_in() {
    local port
    port=$(lab_in client ss -Hulpn 'src 0.0.0.0' | grep meshvpn-client | head -n 1 | sed 's/.*0\.0\.0\.0:\([0-9]*\) .*/\1/')
    count_begin
    : >"$LAB_DIR/log/foreign.log"
    lab_spawn client foreign "$LAB_PYTHON" -u -c 'import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("0.0.0.0", 5555))
while True:
    print(s.recv(10))'
    lab_wait_port client udp 5555
    lab_in inet ip route add "$BEHIND" via "$OWN4"
    lab_in client sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
    page_comes && send "$OWN4" 5555 && send "$BEHIND" "$port"
    sleep 0.2
    lab_stop "$LAB_PID"
    lab_in client sh -c 'echo 0 >/proc/sys/net/ipv4/ip_forward'
    lab_in inet ip route del "$BEHIND"
    echo "port $port: own $(count own), others $(count others)"
    cat "$LAB_DIR/log/foreign.log"
    [ "$port" -gt 0 ] && [ "$(count own)" -gt 5 ] && [ "$(count others)" = 0 ] && [ ! -s "$LAB_DIR/log/foreign.log" ] &&
        lab_in client nft delete table inet look
}

# is_seen_as ADDRESS COMMAND...: who fetches the page by COMMAND
is_seen_as() {
    local seen expected=$1
    shift
    : >"$LAB_DIR/web.seen"
    lab_in client "$@" curl --noproxy '*' -s -o /dev/null --max-time 3 "http://$(lab_addr4 web)/" || return 1
    seen=$(awk 'NR == 1 { print $1 }' "$LAB_DIR/web.seen")
    echo "seen as $seen, not $expected"
    [ "$seen" = "$expected" ]
}

# ---- nothing is changed where nothing filters strictly; what changes meanwhile is followed ----

before=$(state)
start
mesh_client_wait 15
changes_nothing() {
    [ "$(asks_with_mark eth0)" = 0 ] && ! lab_in client nft list table inet "$ANSWERS" && page_comes
}
lab_check loose_hosts_are_left_alone changes_nothing
becomes_strict() {
    filter all 1
    until_is 1 asks_with_mark eth0 && page_comes
}
lab_check it_becomes_strict_meanwhile becomes_strict
new_interface() {
    lab_in client ip tuntap add tap7 mode tap
    until_is 1 asks_with_mark tap7 && until_is 2 marked_interfaces
}
lab_check a_new_interface_is_followed new_interface
becomes_loose() {
    lab_in client ip link del tap7
    filter all 2
    until_is 0 asks_with_mark eth0 && page_comes
}
lab_check it_becomes_loose_meanwhile becomes_loose
filter all 0
mesh_client_stop
lab_check stop_restores_a_loose_host is_as_before

# ---- a life on a strict host ----

filter all 1
filter eth0 1
before=$(state)
start
lab_check it_connects_with_a_kill_switch connects
flush_is_repaired() {
    lab_in client nft flush ruleset
    until_is 1 marked_interfaces && page_comes
}
lab_check neighbours_are_answered neighbours_are_answered
lab_check nothing_else_is_let_in nothing_else_is_let_in
lab_check another_programs_flush_is_repaired flush_is_repaired
mesh_client_stop KILL
lab_check stop_of_the_worker_alone_restores until_is 0 asks_with_mark eth0
start
mesh_client_wait 15
mesh_node_crash client
lab_check a_crash_leaves_it [ "$(asks_with_mark eth0)" = 1 ]
start
lab_check it_connects_again connects
mesh_client_stop
lab_check stop_restores_what_was_before_the_crash is_as_before
start
mesh_client_wait 15
mesh_node_crash client
cleanup() {
    lab_in client "$MESH_PROGRAMS/meshvpn-client" --cleanup --config "$LAB_DIR/client.conf" && is_as_before
}
lab_check cleanup_after_a_crash_restores cleanup
up_and_down() {
    lab_in client timeout 60 "$MESH_PROGRAMS/meshvpn" up --timeout 30 --config "$LAB_DIR/client.conf" </dev/null &&
        page_comes && lab_in client "$MESH_PROGRAMS/meshvpn" down --config "$LAB_DIR/client.conf" && is_as_before
}
lab_check up_and_down up_and_down

start 'outside_users = {12346}'
lab_check it_connects_with_outside_users connects
lab_check outside_users_are_answered is_seen_as "$OWN4" "${OUTSIDE[@]}"
lab_check others_are_inside is_seen_as "$(lab_addr4 maple)"
lab_check outside_commands_are_answered is_seen_as "$OWN4" "$MESH_PROGRAMS/meshvpn" run --outside \
    --control "$LAB_DIR/sock/client"
mesh_client_stop
lab_check stop_restores_with_outside_users is_as_before

# The tunnel is an interface that filters, too.
GROUP=$(findmnt -n -o TARGET -t cgroup2 | head -n 1)/mvpn-$LAB_ID
mkdir "$GROUP" || lab_die "no cgroup can be made"
start "inside_cgroups = {\"$GROUP\"}"
mesh_client_wait 15
# shellcheck disable=SC2016 # expands inside
lab_check inside_cgroups_are_answered is_seen_as "$(lab_addr4 maple)" \
    sh -c 'echo $$ >"$0/cgroup.procs" && exec "$@"' "$GROUP"
lab_check others_are_outside is_seen_as "$OWN4"
mesh_client_stop
rmdir "$GROUP"
lab_check stop_restores_with_inside_cgroups is_as_before

MESH_KILL_SWITCH=false
start
lab_check it_connects_without_kill_switch connects
mesh_client_stop
lab_check stop_restores_without_kill_switch is_as_before

# Its own setting stays.
lab_in client sh -c 'echo 1 >/proc/sys/net/ipv4/conf/eth0/src_valid_mark'
before=$(state)
start
lab_check it_connects_where_marks_count_already connects
mesh_client_stop
lab_check stop_leaves_what_was_set_before is_as_before
exit "$((LAB_FAILED > 0))"
