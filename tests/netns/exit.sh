#!/bin/bash
# An exit as its users and its operator meet it: policy, name service, limits, what is left behind,
# what is told. One "ok NAME" or "FAIL NAME" line per check for ./run test. Topology: lab.sh, with one
# exit and circuits of one hop.
#
#     exit.sh [CASE...]        policy, dns, limits, quota, operation, cleanup, canaries
set -u
. "$(dirname "$0")/lab.sh"
. "$(dirname "$0")/mesh.sh"
# shellcheck disable=SC2034 # read by lab.sh
LAB_RELAYS="alder oak" LAB_EXITS="oak"
EXIT_TOOL=$LAB_HERE/exit_tool.py
EXIT_NAMES="two.lab.example private.lab.example chain.lab.example long.lab.example"

is() {
    echo "got '$1', expected '$2'"
    [ "$1" = "$2" ]
}

tool() {
    lab_in client timeout 20 "$LAB_PYTHON" "$EXIT_TOOL" "$@"
}

asks() { # asks SERVER NAME TYPE PROTOCOL ANSWER
    is "$(tool dns "$1" "$2" "$3" "$4")" "$5"
}

# exit_up [KEY VALUE]...: network with these keys of the exit's configuration, and a client
exit_up() {
    lab_internet
    lab_services 1
    exit_dns
    mesh_create listed
    mesh_set "$(mesh_conf oak)" dns_upstream "{\"$(lab_addr4 dns):5353\"}"
    while [ $# -ge 2 ]; do
        mesh_set "$(mesh_conf oak)" "$1" "$2"
        shift 2
    done
    mesh_relays_start
    mesh_client_start 1 oak
    mesh_client_wait
}

# A resolver with names that are not what they seem.
exit_dns() {
    local long=() i
    for i in $(seq 1 30); do
        long+=(--txt-record="long.lab.example,$(printf 'x%.0s' $(seq 1 100))$i")
    done
    lab_spawn web dns2 dnsmasq --no-daemon --conf-file=/dev/null --no-resolv --no-hosts --user=root \
        --pid-file= --bind-interfaces --port=5353 --listen-address="$(lab_addr4 dns)" --local-ttl=60 \
        --address="/$LAB_WEB_NAME/$(lab_addr4 web)" --address="/$LAB_WEB_NAME/$(lab_addr6 web)" \
        --host-record=private.lab.example,192.168.1.1 --host-record=private6.lab.example,fd00::1 \
        --host-record=mapped.lab.example,::ffff:127.0.0.1 \
        --host-record=two.lab.example,11.1.1.1 --host-record=two.lab.example,127.0.0.1 \
        --cname=chain.lab.example,private.lab.example "${long[@]}" --local=/lab.example/ \
        --log-queries --log-facility=-
    lab_wait_port web udp 5353
}

asked_upstream() { # asked_upstream NAME: how often the resolver was asked for it
    grep -c "query\[[A-Z]*\] $1 " "$LAB_DIR/log/dns2.log"
}

# ---- policy ----

connects() { # connects ADDRESS PORT RESULT: and at once
    local got
    got=$(tool connect "$1" "$2")
    echo "got '$got', expected '$3' within 1000 ms"
    [ "${got% *}" = "$3" ] && [ "${got#* }" -lt 1000 ]
}

says() { # says DESTINATION CODE PATTERN: --check-policy with the exit's own configuration
    local got code
    got=$("$MESH_PROGRAMS/meshvpn-exit-node" --config "$(mesh_conf oak)" --check-policy "$1")
    code=$?
    echo "got $code '$got'"
    [ "$code" = "$2" ] && echo "$got" | grep -qE "$3"
}

case_policy() {
    exit_up blocked_ips '{"11.201.158.53"}' allowed_ports '{80, 443, 53, "5000-5300"}' \
        policy '{"reject tcp * 5201-5210"}'
    lab_check policy_allowed_port_opens connects "$(lab_addr4 web)" 80 open
    lab_check policy_allowed_port_opens_v6 connects "$(lab_addr6 web)" 80 open
    lab_check policy_rule_refuses_at_once connects "$(lab_addr4 web)" 5201 EHOSTUNREACH
    lab_check policy_rule_refuses_at_once_v6 connects "$(lab_addr6 web)" 5201 EACCES
    lab_check policy_port_not_allowed connects "$(lab_addr4 web)" 22 EHOSTUNREACH
    lab_check policy_blocked_ip connects "$(lab_addr4 dns)" 80 EHOSTUNREACH
    lab_check policy_exit_itself connects "$(lab_addr4 oak)" 80 EHOSTUNREACH
    lab_check policy_private connects 192.168.1.1 80 EHOSTUNREACH
    lab_check policy_relay connects "$(lab_addr4 alder)" "$LAB_PORT" EHOSTUNREACH
    lab_check policy_smtp connects "$(lab_addr4 web)" 25 EHOSTUNREACH
    lab_check check_policy_accepts says "$(lab_addr4 web):80" 0 '^accept .*nothing refuses it'
    lab_check check_policy_rule says "$(lab_addr4 web):5201" 1 'rule 1, line [0-9]+ .*reject tcp \* 5201-5210'
    lab_check check_policy_port says "[$(lab_addr6 web)]:22" 1 'allowed_ports'
    lab_check check_policy_blocked says "$(lab_addr4 dns):80" 1 'blocked_ips, line [0-9]+'
    lab_check check_policy_own says "$(lab_addr4 oak):80" 1 'this exit itself'
    lab_check check_policy_relay says "$(lab_addr4 alder):$LAB_PORT" 1 'relay'
    lab_check policy_programs_alive mesh_alive
}

# ---- name service ----

source_ports_differ() {
    local name before after
    before=$(wc -l <"$LAB_DIR/log/ports")
    for name in a b c d e f g h; do
        tool dns "$MESH_GATEWAY4" "$name.ports.lab.example" A udp >/dev/null
    done
    sleep 0.3
    after=$(tail -n +"$((before + 1))" "$LAB_DIR/log/ports" | sort -u | wc -l)
    echo "$after source ports for 8 questions"
    [ "$after" -ge 8 ]
}

# The ports that questions come from, as the resolver's node sees them.
watch_ports() {
    lab_spawn web ports "$LAB_PYTHON" -u -c '
import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
while True:
    p = s.recv(2048)
    if p[9] == 17 and int.from_bytes(p[22:24], "big") == 5353:
        print(int.from_bytes(p[20:22], "big"), file=open(sys.argv[1], "a"))' "$LAB_DIR/log/ports"
    : >"$LAB_DIR/log/ports"
}

once_upstream() { # asked twice within its time, the resolver hears of it once
    tool dns "$MESH_GATEWAY4" "$LAB_WEB_NAME" A udp >/dev/null
    tool dns "$MESH_GATEWAY4" "$LAB_WEB_NAME" A tcp >/dev/null
    is "$(asked_upstream "$LAB_WEB_NAME")" 1
}

again_in_new_session() { # what one session asked, the next does not know
    local before
    before=$(asked_upstream "$LAB_WEB_NAME")
    mesh_client_stop
    mesh_client_start 1 oak
    mesh_client_wait
    tool dns "$MESH_GATEWAY4" "$LAB_WEB_NAME" A udp >/dev/null
    is "$(asked_upstream "$LAB_WEB_NAME")" $((before + 1))
}

case_dns() {
    local protocol
    exit_up
    watch_ports
    lab_check dns_asked_once once_upstream
    for protocol in udp tcp; do
        lab_check "dns_a_$protocol" asks "$MESH_GATEWAY4" "$LAB_WEB_NAME" A $protocol "0 $(lab_addr4 web)"
        lab_check "dns_aaaa_$protocol" asks "$MESH_GATEWAY4" "$LAB_WEB_NAME" AAAA $protocol "0 $(lab_addr6 web)"
        lab_check "dns_v6_gateway_$protocol" asks "$MESH_GATEWAY6" "$LAB_WEB_NAME" A $protocol "0 $(lab_addr4 web)"
        lab_check "dns_no_such_name_$protocol" asks "$MESH_GATEWAY4" none.lab.example A $protocol "3"
        lab_check "dns_private_$protocol" asks "$MESH_GATEWAY4" private.lab.example A $protocol "0"
        lab_check "dns_private6_$protocol" asks "$MESH_GATEWAY4" private6.lab.example AAAA $protocol "0"
        lab_check "dns_mapped_$protocol" asks "$MESH_GATEWAY4" mapped.lab.example AAAA $protocol "0"
        lab_check "dns_one_of_two_private_$protocol" asks "$MESH_GATEWAY4" two.lab.example A $protocol "0"
        lab_check "dns_private_behind_chain_$protocol" asks "$MESH_GATEWAY4" chain.lab.example A $protocol "0"
    done
    lab_check dns_long_is_cut_by_udp asks "$MESH_GATEWAY4" long.lab.example TXT udp "0 cut"
    lab_check dns_long_by_tcp sh -c "nsenter --net=/run/netns/$(lab_ns client) -- $LAB_PYTHON $EXIT_TOOL dns \
        $MESH_GATEWAY4 long.lab.example TXT tcp | grep -o type16 | wc -l | grep -x 30"
    lab_check dns_source_ports source_ports_differ
    lab_check dns_gateway_has_nothing_else connects "$MESH_GATEWAY4" 80 ECONNREFUSED
    lab_check dns_new_session_asks_again again_in_new_session
    lab_check dns_programs_alive mesh_alive
    mesh_client_stop
    mesh_node_stop oak
    mesh_set "$(mesh_conf oak)" ipv6 no
    mesh_relay_start oak
    lab_wait_port oak udp "$LAB_PORT"
    mesh_client_start 1 oak
    mesh_client_wait
    lab_check dns_aaaa_without_ipv6 asks "$MESH_GATEWAY4" "$LAB_WEB_NAME" AAAA udp "0"
    lab_check dns_aaaa_without_ipv6_tcp asks "$MESH_GATEWAY4" "$LAB_WEB_NAME" AAAA tcp "0"
    lab_check dns_a_without_ipv6 asks "$MESH_GATEWAY4" "$LAB_WEB_NAME" A udp "0 $(lab_addr4 web)"
}

# ---- what is left behind ----

# All of the host that an exit touches, byte for byte.
host_state() {
    lab_in oak sh -c 'nft list ruleset; ip -o link | cut -d" " -f2; ip -o addr; ip rule; ip -6 rule
        ip route show table all; ip -6 route show table all; ss -Hltun
        for f in /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/*/forwarding /proc/sys/net/ipv6/conf/*/accept_ra; do
            echo "$f $(cat "$f")"
        done' | sed 's/ expires [0-9]*sec//; s/ valid_lft.*//'
}

unchanged() {
    host_state >"$LAB_DIR/after"
    cmp "$LAB_DIR/before" "$LAB_DIR/after" || { diff "$LAB_DIR/before" "$LAB_DIR/after"; return 1; }
}

differs() {
    host_state >"$LAB_DIR/after"
    ! cmp -s "$LAB_DIR/before" "$LAB_DIR/after"
}

start_oak() {
    mesh_relay_start oak
    lab_wait_port oak udp "$LAB_PORT" && sleep 0.5
}

cleans_up() {
    lab_in oak "$MESH_PROGRAMS/meshvpn-exit-node" --config "$(mesh_conf oak)" --cleanup
}

case_cleanup() {
    lab_internet
    mesh_create listed
    # An operator's own rules, in the same places; and IPv6 by router advertisements.
    lab_in oak nft -f - <<'NFT'
table inet operator {
    set friends { type ipv4_addr; elements = { 11.1.1.1, 11.2.2.2 } }
    chain input { type filter hook input priority filter; policy accept; ip saddr @friends counter accept; }
    chain forward { type filter hook forward priority filter; policy accept; ct state invalid drop; }
    chain post { type nat hook postrouting priority srcnat; policy accept; oifname "other0" masquerade; }
}
NFT
    mesh_set "$(mesh_conf oak)" exit_notice default
    mesh_set "$(mesh_conf oak)" metrics_listen '"127.0.0.1:9464"'
    lab_in oak sh -c 'echo 1 >/proc/sys/net/ipv6/conf/eth0/accept_ra'
    host_state >"$LAB_DIR/before"
    lab_check cleanup_nothing_there cleans_up
    lab_check cleanup_nothing_changed unchanged
    start_oak
    lab_check cleanup_exit_changes_host differs
    mesh_node_stop oak
    lab_check cleanup_after_term unchanged
    start_oak
    mesh_node_stop oak KILL
    lab_check cleanup_kill_leaves_rules differs
    lab_check cleanup_by_option cleans_up
    lab_check cleanup_after_kill unchanged
    start_oak
    mesh_node_stop oak KILL
    start_oak
    mesh_node_stop oak
    lab_check cleanup_after_kill_and_restart unchanged
    start_oak
    mesh_node_stop oak KILL
    start_oak
    mesh_node_stop oak KILL
    lab_check cleanup_after_two_kills_by_option cleans_up
    lab_check cleanup_after_two_kills unchanged
}

# ---- one process per case, so that each cleans up its own lab ----

if [ "${1:-}" = --case ]; then
    mesh_need_programs
    lab_begin
    "case_$2"
    exit $((LAB_FAILED > 0))
fi

[ $# -gt 0 ] || set -- policy dns cleanup
mesh_need_programs
status=0
child=
trap 'kill "$child" 2>/dev/null; wait "$child"; exit 143' HUP INT TERM
for name; do
    "$0" --case "$name" &
    child=$!
    wait "$child"
    code=$?
    if [ "$code" != 0 ]; then
        status=1
        [ "$code" = 1 ] || echo "FAIL exit_${name}_ended_with_$code"
    fi
done
exit "$status"
