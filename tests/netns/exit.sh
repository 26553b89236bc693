#!/bin/bash
# An exit as its users and its operator meet it: policy, name service, limits, what is left behind,
# what is told. One "ok NAME" or "FAIL NAME" line per check for ./run test. Topology: lab.sh, with one
# exit and circuits of one hop.
#
#     exit.sh [CASE...]        policy, summary, dns, limits, rates, quota, operation, cleanup, canaries, user;
#                          hour: an hour of virtual time, about a minute (./run soak canaries);
#                          reuse: an address and its next session (./run soak canaries)
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

file_says() { # file_says DESTINATION CODE PATTERN: the same with a file of rules alone
    local got code
    got=$("$MESH_PROGRAMS/meshvpn-exit-node" --check-policy "$LAB_DIR/rules" "$1" 2>&1)
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
    printf '# mail\naccept tcp 11.0.0.5 465\nreject tcp * 465,587\nreject any 2a11::/16\n' >"$LAB_DIR/rules"
    lab_check check_policy_file_accepts file_says 11.0.0.5:465 0 '^accept .*a rule of the policy, line 2 '
    lab_check check_policy_file_rejects file_says 11.0.0.6:465 1 '^reject .*policy, line 3 .*reject tcp \* 465,587'
    lab_check check_policy_file_v6_udp file_says '[2a11::5]:53/udp' 1 'policy, line 4 '
    lab_check check_policy_file_default file_says 11.0.0.6:80 0 'nothing refuses it'
    lab_check check_policy_file_private file_says 10.0.0.6:80 1 'public internet'
    echo 'reject tcp *' >"$LAB_DIR/rules"
    echo 'refuse tcp *' >>"$LAB_DIR/rules"
    lab_check check_policy_file_damaged file_says 11.0.0.6:80 2 'rules:2: '
    lab_check check_policy_no_destination file_says nonsense 2 'is no destination'
    # An address that the exit was not told of, where something listens.
    lab_in oak ip addr add 11.65.141.7/32 dev lo
    lab_spawn oak other "$LAB_PYTHON" -m http.server --bind 11.65.141.7 80
    lab_wait_port oak tcp 80
    lab_check policy_unknown_own_address_exists lab_in web curl -sS -o /dev/null --max-time 3 http://11.65.141.7/
    lab_check policy_unknown_own_address fails lab_in client curl -sS -o /dev/null --max-time 2 http://11.65.141.7/
    lab_check policy_programs_alive mesh_alive
}

blocked_by() { # blocked_by PATTERN: the client finds relays, but no path, and says why
    local tries=100
    # Status ends with an error of its own while there is no connection.
    until {
        mesh_status >"$LAB_DIR/status.json"
        mesh_get blocked_by <"$LAB_DIR/status.json" | grep "$1"
    }; do
        tries=$((tries - 1))
        if [ "$tries" -le 0 ]; then
            cat "$LAB_DIR/status.json"
            return 1
        fi
        sleep 0.2
    done
}

# Exits that do not let a wanted port out are not taken.
case_summary() {
    lab_internet
    lab_services 1
    mesh_create found
    mesh_set "$(mesh_conf oak)" allowed_ports '{80}'
    mesh_relays_start
    MESH_CLIENT_MORE='exit_ports = {80}' mesh_client_start 1
    lab_check summary_of_wanted_port mesh_client_wait 40
    lab_check summary_port_is_open connects "$(lab_addr4 web)" 80 open
    mesh_client_stop
    mesh_client_start 1 # 443
    lab_check summary_is_heeded blocked_by 'accepts the wanted ports'
    mesh_client_stop
    MESH_CLIENT_MORE='exit_ports = {any}' mesh_client_start 1
    lab_check summary_of_any_port mesh_client_wait
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
    lab_check no_ipv6_fails_at_once connects "$(lab_addr6 web)" 80 ENETUNREACH
    lab_check no_ipv6_curl_fails_at_once no_page_v6
    lab_check no_ipv6_status_tells eval 'mesh_status >"$LAB_DIR/status.json" && [ "$(mesh_get ipv6 <"$LAB_DIR/status.json")" = false ]'
}

# no_page_v6: refused, not waited for
no_page_v6() {
    local from
    from=$(date +%s%N)
    mesh_curl -6 -o /dev/null "http://[$(lab_addr6 web)]/" && return 1
    [ $((($(date +%s%N) - from) / 1000000)) -lt 1000 ]
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
    mesh_node_crash oak
    lab_check cleanup_kill_leaves_rules differs
    lab_check cleanup_by_option cleans_up
    lab_check cleanup_after_kill unchanged
    start_oak
    mesh_node_crash oak
    start_oak
    mesh_node_stop oak
    lab_check cleanup_after_kill_and_restart unchanged
    start_oak
    mesh_node_crash oak
    start_oak
    mesh_node_crash oak
    lab_check cleanup_after_two_kills_by_option cleans_up
    lab_check cleanup_after_two_kills unchanged
}

# ---- limits ----

flows_are() { # flows_are COUNT LOW HIGH: of COUNT flows begun at once so many are carried
    local got
    got=$(tool flows "$(lab_addr4 web)" 9001 "$1")
    echo "$got flows of $1, expected $2 to $3"
    [ "$got" -ge "$2" ] && [ "$got" -le "$3" ]
}

tracked_flows() {
    lab_in oak conntrack -L -p udp 2>/dev/null | grep -c 'dport=9001 '
}

case_limits() {
    exit_up flows_max 100
    lab_spawn web echo "$LAB_PYTHON" "$EXIT_TOOL" echo 9001
    lab_wait_port web udp 9001
    lab_check limits_flows_below flows_are 80 80 80
    # A few meet the source port of one that is tracked already.
    lab_check limits_flows_above flows_are 200 15 40
    lab_check limits_tracked is "$(tracked_flows)" 100
    lab_check limits_tcp_is_reset_at_once connects "$(lab_addr4 web)" 80 ECONNREFUSED
    lab_check limits_connections_to_the_name_service is "$(tool connects "$MESH_GATEWAY4" 53 265)" 256
    lab_check limits_of_one_session_only again_with_new_session
    lab_check limits_programs_alive mesh_alive
}

# rate_is KBIT: of twice as much that is offered, within 2 %
rate_is() {
    local got
    lab_spawn web sink "$LAB_PYTHON" "$EXIT_TOOL" sink 9003 2.5
    lab_wait_port web udp 9003
    tool blast "$(lab_addr4 web)" 9003 $(($1 * 2 / 1000)) 4.5 >/dev/null
    wait "$LAB_PID"
    got=$(tail -n 1 "$LAB_DIR/log/sink.log")
    echo "$got kbit/s, expected $1"
    [ "$got" -ge $(($1 * 98 / 100)) ] && [ "$got" -le $(($1 * 102 / 100)) ]
}

case_rates() {
    # As much at once as half a second brings: a pause of the machine is made up for.
    exit_up session_limit 8 session_burst 512
    lab_check rates_of_a_session rate_is 8000
    mesh_client_stop
    mesh_node_stop oak
    mesh_set "$(mesh_conf oak)" session_limit 0
    mesh_set "$(mesh_conf oak)" bandwidth_limit 6
    start_oak
    mesh_client_start 1 oak
    mesh_client_wait
    lab_check rates_of_all rate_is 6000
    lab_check rates_programs_alive mesh_alive
}

# ---- an address and its next session ----

# pool_address PORT: the pool address that spoke to PORT, by the exit's connection tracking
pool_address() {
    lab_in oak conntrack -L -p udp --dport "$1" 2>/dev/null | sed -n 's/.*src=\(10\.64\.[0-9.]*\) .*/\1/p' | sort -u
}

forgotten() {
    local tries=100
    while [ -n "$(pool_address "$1")" ]; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || return 1
        sleep 0.1
    done
}

# next_session: of the client; its address is left in SESSION_ADDRESS
next_session() {
    mesh_client_stop
    forgotten 9001
    mesh_client_start 1 oak
    mesh_client_wait 60
    tool flows "$(lab_addr4 web)" 9001 1 >/dev/null
    SESSION_ADDRESS=$(pool_address 9001)
}

# A server goes on sending to flows whose session ended; the pool is so small that a later session has
# the same address, once it has rested: five minutes in REUSE_FACTOR times less.
case_reuse() {
    local first
    hurry "${REUSE_FACTOR:-20}"
    exit_up pool_v4 '"10.64.0.0/29"'
    lab_spawn web echo "$LAB_PYTHON" "$EXIT_TOOL" echo 9001
    lab_spawn web stream "$LAB_PYTHON" "$EXIT_TOOL" stream 9002
    lab_wait_port web udp 9002
    lab_check reuse_first_session_hears is "$(tool flows "$(lab_addr4 web)" 9002 20)" 20
    first=$(pool_address 9002)
    lab_check reuse_first_session_has_an_address test -n "$first"
    mesh_client_stop
    lab_check reuse_flows_are_forgotten forgotten 9002
    mesh_client_start 1 oak
    mesh_client_wait
    for _ in $(seq 1 30); do
        next_session
        [ "$SESSION_ADDRESS" != "$first" ] || break
    done
    lab_check reuse_of_the_address is "$SESSION_ADDRESS" "$first"
    lab_check reuse_server_still_sends test "$(lab_in oak "$LAB_PYTHON" "$EXIT_TOOL" hears 9002 1)" -gt 100
    lab_check reuse_next_session_hears_nothing is "$(lab_in client "$LAB_PYTHON" "$EXIT_TOOL" hears 9002 3)" 0
    lab_check reuse_programs_alive mesh_alive
}

# The next session begins with none.
again_with_new_session() {
    mesh_client_stop
    mesh_client_start 1 oak
    mesh_client_wait
    flows_are 100 100 100
}

quota_file() {
    cut -d' ' -f2 "$LAB_DIR/run/oak/quota" | tail -n 1
}

quota_between() {
    echo "the file says $(quota_file), expected $1 to $2"
    [ "$(quota_file)" -ge "$1" ] && [ "$(quota_file)" -le "$2" ]
}

set_quota() {
    printf 'meshvpn-quota 1\n%s %s\n' "$(date -u +%Y%m)" "$1" >"$LAB_DIR/run/oak/quota"
}

fails() {
    ! "$@"
}

damage_is_told() {
    local code
    lab_in oak timeout 5 "$MESH_PROGRAMS/meshvpn-exit-node" --config "$(mesh_conf oak)" >"$LAB_DIR/told" 2>&1
    code=$?
    cat "$LAB_DIR/told"
    [ "$code" = 1 ] && grep -q 'quota.*damaged.*Remove it' "$LAB_DIR/told" && [ -z "$(lab_in oak nft list tables)" ]
}

case_quota() {
    exit_up monthly_quota 1
    lab_check quota_page mesh_curl "http://$(lab_addr4 web)/file/1" -o /dev/null
    mesh_client_stop
    mesh_node_stop oak
    # A megabyte, and what TCP adds to it.
    lab_check quota_is_kept quota_between 1000000 1200000
    set_quota 500000000
    start_oak
    mesh_node_crash oak
    lab_check quota_after_kill quota_between 500000000 505000000
    set_quota 999700000
    start_oak
    mesh_client_start 1 oak
    mesh_client_wait
    lab_check quota_page_before mesh_curl --max-time 10 -o /dev/null "http://$(lab_addr4 web)/"
    lab_check quota_ends_it fails mesh_curl --max-time 4 -o /dev/null "http://$(lab_addr4 web)/file/1"
    mesh_client_stop
    mesh_node_stop oak
    lab_check quota_is_not_passed quota_between 999900000 1000000000
    set_quota nonsense
    lab_check quota_damage_is_told damage_is_told
}

# ---- operation ----

metrics() {
    lab_in oak curl -sS --max-time 5 "http://127.0.0.1:9464/metrics"
}

metric() {
    metrics | sed -n "s/^$1 //p"
}

metrics_are_well_formed() {
    metrics >"$LAB_DIR/metrics" || return 1
    tail -n 1 "$LAB_DIR/metrics" | grep -x '# EOF' && ! grep -vE '^(# (TYPE|HELP|EOF)|meshvpn_exit_[a-z_]+(\{[a-z]+="[a-z_0-9]+"\})? [0-9]+$)' "$LAB_DIR/metrics"
}

notice_is() { # notice_is NODE URL PATTERN
    lab_in "$1" curl -g -sS --max-time 5 "$2" | grep "$3"
}

case_operation() {
    echo '<title>a notice of our own</title>' >"$(mktemp "$LAB_DIR/notice.XXX")"
    exit_up metrics_listen '"127.0.0.1:9464"' exit_notice default
    lab_check operation_metrics metrics_are_well_formed
    mesh_curl "http://$(lab_addr4 web)/file/1" -o /dev/null
    mesh_curl "http://$(lab_addr4 web)/file/1" -o /dev/null
    mesh_curl "http://$(lab_addr4 web)/file/1" -o /dev/null
    lab_check operation_metrics_count is "$(metric 'meshvpn_exit_bytes_total{direction="in"}')" $((2 << 20))
    lab_check operation_sessions_rounded is "$(metric meshvpn_exit_sessions)" 8
    lab_check operation_status is "$(mesh_node_get oak exit.bytes_in)" $((2 << 20))
    lab_check operation_metrics_are_local fails lab_in web curl -sS --max-time 2 "http://$(lab_addr4 oak):9464/metrics"
    lab_check operation_notice notice_is web "http://$(lab_addr4 oak)/" 'This is an exit'
    lab_check operation_notice_v6 notice_is web "http://[$(lab_addr6 oak)]/" 'This is an exit'
    lab_check operation_notice_not_from_inside connects "$(lab_addr4 oak)" 80 EHOSTUNREACH
    mesh_node_stop oak
    mesh_set "$(mesh_conf oak)" exit_notice "\"$(ls "$LAB_DIR"/notice.*)\""
    start_oak
    lab_check operation_notice_of_a_file notice_is web "http://$(lab_addr4 oak)/" 'of our own'
    lab_check operation_programs_alive mesh_alive
}

# ---- canaries ----

# told FILE...: lines that name a user or a destination, in any spelling
told() {
    local name four six patterns=()
    for name in client web dns; do
        [ "$name" != client ] || [ -z "${TOLD_CLIENT_IS_FREE:-}" ] || continue
        four=$(lab_addr4 $name)
        six=$(lab_addr6 $name)
        patterns+=(-e "$four" -e "$six" -e "$(printf '%02x%02x%02x%02x' ${four//./ })")
        # Any four of the groups of an IPv6 address; the names that were asked for.
        patterns+=(-e "$(echo "$six" | cut -d: -f5-8)" -e "$(echo "$six" | cut -d: -f5-8 | tr -d :)")
    done
    grep -iF "${patterns[@]}" -e lab.example -e long.lab "$@"
}

tells_nothing() {
    ! told "$@"
}

# Everything that a client can do, and what goes wrong with it.
busy_session() {
    mesh_curl -o /dev/null "http://$(lab_addr4 web)/file/1"
    mesh_curl -g -o /dev/null "http://[$(lab_addr6 web)]/file/1"
    mesh_ping_ms "$(lab_addr4 web)" 3
    mesh_ping_ms "$(lab_addr6 web)" 3
    for name in $EXIT_NAMES "$LAB_WEB_NAME"; do
        tool dns "$MESH_GATEWAY4" "$name" A udp
        tool dns "$MESH_GATEWAY4" "$name" TXT tcp
        tool dns "$MESH_GATEWAY6" "$name" AAAA udp
    done
    tool connect "$(lab_addr4 web)" 25
    tool connect "$(lab_addr4 web)" 5201
    tool connect "$(lab_addr4 dns)" 80
    tool connect 10.0.0.1 80
    tool flows "$(lab_addr4 web)" 9001 150
} >/dev/null 2>&1

case_canaries() {
    MESH_LOG_LEVEL=debug
    exit_up metrics_listen '"127.0.0.1:9464"' exit_notice default monthly_quota 1 flows_max 100 session_limit 50 \
        bandwidth_limit 200 policy '{"reject tcp * 5201-5210"}'
    echo "seen $(lab_addr4 client)" >"$LAB_DIR/canary"
    lab_check canaries_would_be_seen told "$LAB_DIR/canary"
    lab_check canaries_would_be_seen_by_name told "$LAB_DIR/log/dns2.log"
    busy_session
    mesh_client_stop KILL # it goes without a word
    mesh_client_start 2 alder oak
    mesh_client_wait
    busy_session
    # The resolver is gone, and comes back; the exit crashes and comes back; the client moves.
    lab_in web ip addr del "$(lab_addr4 dns)/32" dev eth0
    tool dns "$MESH_GATEWAY4" "$LAB_WEB_NAME" A udp >/dev/null
    tool dns "$MESH_GATEWAY4" "$LAB_WEB_NAME" A tcp >/dev/null
    lab_in web ip addr add "$(lab_addr4 dns)/32" dev eth0
    mesh_node_get oak state >/dev/null
    "$MESH_PROGRAMS/meshvpn" status --json --control "$LAB_DIR/sock/oak" >"$LAB_DIR/status.oak"
    "$MESH_PROGRAMS/meshvpn" status --json --control "$LAB_DIR/sock/alder" >"$LAB_DIR/status.alder"
    metrics >"$LAB_DIR/metrics"
    mesh_node_crash oak
    start_oak
    # Datagrams of strangers and of nobody.
    lab_in client "$LAB_PYTHON" -c 'import os, socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for n in range(500):
    s.sendto(os.urandom(n % 1400 + 1), (sys.argv[1], int(sys.argv[2])))' "$(lab_addr4 oak)" "$LAB_PORT"
    mesh_client_stop
    mesh_client_start 1 oak
    mesh_client_wait
    busy_session
    mesh_client_stop
    "$MESH_PROGRAMS/meshvpn" status --json --control "$LAB_DIR/sock/oak" >>"$LAB_DIR/status.oak"
    metrics >>"$LAB_DIR/metrics"
    lab_check canaries_programs_alive mesh_alive
    mesh_node_stop oak
    mesh_node_stop alder
    lab_check canaries_logs_are_there test "$(cat "$LAB_DIR/log/oak.log" "$LAB_DIR/log/alder.log" | wc -l)" -ge 4
    lab_check canaries_not_in_log_of_exit tells_nothing "$LAB_DIR/log/oak.log"
    lab_check canaries_not_in_log_of_relay tells_nothing "$LAB_DIR/log/alder.log"
    lab_check canaries_not_in_metrics tells_nothing "$LAB_DIR/metrics"
    lab_check canaries_not_in_status tells_nothing "$LAB_DIR/status.oak" "$LAB_DIR/status.alder"
    lab_check canaries_not_in_state tells_nothing -r "$LAB_DIR/run/oak" "$LAB_DIR/run/alder"
    TOLD_CLIENT_IS_FREE=1 lab_check canaries_not_in_log_of_client tells_nothing "$LAB_DIR/log/client.log"
}

# The programs under a clock that runs FACTOR times as fast, from now on.
hurry() {
    local program real=$MESH_PROGRAMS fast=$LAB_DIR/fast
    local clock="$1 $("$LAB_PYTHON" -c 'import time; print(time.clock_gettime_ns(time.CLOCK_MONOTONIC), time.time_ns())')"
    mkdir "$fast"
    for program in "$real"/meshvpn*; do
        [ -f "$program" ] && [ -x "$program" ] || continue
        printf '#!/bin/sh\nexec env LD_PRELOAD="%s" CLOCK_FAST="%s" "%s" "$@"\n' \
            "$LAB_BUILD/tests/netns/clock_fast.so" "$clock" "$program" >"$fast/${program##*/}"
        chmod +x "$fast/${program##*/}"
    done
    MESH_PROGRAMS=$fast
}

# An hour of the programs' time at debug level, with traffic all along: HOUR_FACTOR seconds in one.
case_hour() {
    local factor=${HOUR_FACTOR:-60} end rounds=0
    MESH_LOG_LEVEL=debug
    hurry "$factor"
    exit_up metrics_listen '"127.0.0.1:9464"' exit_notice default monthly_quota 1 flows_max 100
    lab_spawn web echo "$LAB_PYTHON" "$EXIT_TOOL" echo 9001
    end=$((SECONDS + 3600 / factor))
    while [ "$SECONDS" -lt "$end" ]; do
        busy_session
        "$MESH_PROGRAMS/meshvpn" status --json --control "$LAB_DIR/sock/oak" >>"$LAB_DIR/status.oak"
        metrics >>"$LAB_DIR/metrics"
        rounds=$((rounds + 1))
        [ $((rounds % 3)) != 0 ] || { mesh_client_stop KILL && mesh_client_start 1 oak && mesh_client_wait; }
    done
    lab_check hour_has_passed test "$(mesh_node_get oak since_s)" -ge 3500
    lab_check hour_had_sessions test "$(mesh_node_get oak exit.dns_queries)" -ge 64
    lab_check hour_programs_alive mesh_alive
    mesh_client_stop
    mesh_node_stop oak
    mesh_node_stop alder
    lab_check hour_not_in_logs tells_nothing "$LAB_DIR/log/oak.log" "$LAB_DIR/log/alder.log"
    lab_check hour_not_in_metrics_and_status tells_nothing "$LAB_DIR/metrics" "$LAB_DIR/status.oak"
    lab_check hour_not_in_state tells_nothing -r "$LAB_DIR/run/oak" "$LAB_DIR/run/alder"
}

# ---- without TUN device and forwarding ----

# pings NODE ADDRESS: three requests are answered, by number; again if one is lost
pings() {
    local numbers
    for _ in 1 2 3 4; do
        lab_in "$1" ping -n -c 3 -i 0.2 -W 5 "$2" >"$LAB_DIR/ping.out"
        cat "$LAB_DIR/ping.out"
        numbers=$(sed -n 's/^.* bytes from .* icmp_seq=\([0-9]*\) .*$/\1/p' "$LAB_DIR/ping.out" | sort -u | tr '\n' ' ')
        is "$numbers" "1 2 3 " && return
    done
    return 1
}

# no_ping ADDRESS: no answer
no_ping() {
    lab_in client ping -n -c 2 -i 0.2 -W 1 "$1" >"$LAB_DIR/ping.out"
    cat "$LAB_DIR/ping.out"
    ! grep 'bytes from' "$LAB_DIR/ping.out"
}

exit_said() { # exit_said PATTERN: in its log
    grep -E "$1" "$LAB_DIR/log/oak.log"
}

case_user() {
    if grep -qa 'nat = user: this meshvpn-exit-node was built without it' "$MESH_PROGRAMS/meshvpn-exit-node"; then
        lab_say "this build has no nat = user (no sources of lwIP): nothing to test"
        return
    fi
    exit_up nat user
    lab_check user_tcp connects "$(lab_addr4 web)" 80 open
    lab_check user_no_ping_unless_allowed no_ping "$(lab_addr4 web)"
    lab_check user_tells_why_no_ping exit_said 'ping is not carried.*sysctl -w net.ipv4.ping_group_range'
    # As systemd sets it; the program need not start again.
    lab_in oak sh -c 'echo "0 2147483647" >/proc/sys/net/ipv4/ping_group_range'
    lab_check user_ping pings client "$(lab_addr4 web)"
    lab_check user_ping_v6 pings client "$(lab_addr6 web)"
    # A private address that the exit itself could reach.
    lab_in web ip addr add 192.168.1.1/32 dev eth0
    lab_in inet ip route add 192.168.1.1 via "$(lab_addr4 web)"
    lab_check user_private_is_there pings oak 192.168.1.1
    lab_check user_no_ping_private no_ping 192.168.1.1
    lab_check user_no_ping_itself no_ping "$(lab_addr4 oak)"
    lab_check user_udp_refused is "$(tool refused "$(lab_addr4 web)" 9)" refused
    lab_check user_udp_refused_v6 is "$(tool refused "$(lab_addr6 web)" 9)" refused
    lab_check user_programs_alive mesh_alive
}

# ---- one process per case, so that each cleans up its own lab ----

if [ "${1:-}" = --case ]; then
    mesh_need_programs
    lab_begin
    "case_$2"
    exit $((LAB_FAILED > 0))
fi

[ $# -gt 0 ] || set -- policy summary dns limits rates quota operation cleanup canaries user
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
