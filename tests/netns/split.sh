#!/bin/bash
# Split tunnelling: what a person sends outside leaves by the physical side, with the host's own address, and nothing
# else does; or what alone goes inside never leaves by it, and all else does; through a flush of the packet filter and a
# crash; and the end leaves nothing behind. Prints "ok NAME" or "FAIL NAME".
#
#     split.sh            MVPN_BUILD names the build directory
set -u
# shellcheck source=tests/netns/lab.sh
. "$(dirname "$0")/lab.sh"
# shellcheck source=tests/netns/mesh.sh
. "$(dirname "$0")/mesh.sh"
# shellcheck source=tests/netns/leak_lab.sh
. "$(dirname "$0")/leak_lab.sh"
# shellcheck source=tests/netns/dns_lab.sh
. "$(dirname "$0")/dns_lab.sh"

RATE=200
SPLIT_TOOL=$LAB_HERE/split_tool.py
OUTSIDE=(setpriv --reuid=12346 --regid=12346 --clear-groups)
OWN4=$(lab_addr4 client)
OWN6=$(lab_addr6 client)
MANY=$(mktemp)
# Names with more addresses than one answer may have inside, and altogether than there are places.
for i in $(seq 0 79); do
    echo "11.77.0.$((i + 1)) many$((i / 20)).lab.example"
done >"$MANY"
LAB_DNS_MORE=(--addn-hosts="$MANY" --host-record="cdn.other.example,$(lab_addr4 web)"
    --host-record="other.example,$(lab_addr4 dns)" --cname="alias.lab.example,cdn.other.example"
    --dns-rr="$LAB_WEB_NAME,65,0001000004000411000001")
leak_lab_begin
rm -f "$MANY" # dnsmasq has read it
before=$(leak_state)
machine=$(stat -c '%i %Y %s' /etc/resolv.conf 2>/dev/null)

is_as_before() {
    diff <(echo "$before") <(leak_state)
}

# seen PATH: whom the web server saw ask for it
seen() {
    awk -v path="$1" '$2 == path { print $1 }' "$LAB_DIR/web.seen"
}

# page ADDRESS [USER-COMMAND...]: asks the web server for a page of its own, as what a closed socket has to send may
# arrive much later; prints whom the server saw
page() {
    local address=$1 path
    shift
    path=/$(date +%s%N)
    lab_in client "$@" curl --noproxy '*' -s -o /dev/null --max-time 3 "http://$address$path" || return 1
    seen "$path"
}

is_seen_as() {
    local seen expected=$1
    shift
    seen=$(page "$@") || return 1
    echo "seen as $seen, not $expected"
    [ "$seen" = "$expected" ]
}

both_outside() {
    is_seen_as "$OWN4" "$(lab_addr4 web)" "$@" && is_seen_as "$OWN6" "[$(lab_addr6 web)]" "$@"
}

both_inside() {
    is_seen_as "$(lab_addr4 maple)" "$(lab_addr4 web)" "$@" && is_seen_as "$(lab_addr6 maple)" "[$(lab_addr6 web)]" "$@"
}

nothing_by() {
    ! page "$(lab_addr4 web)" "$@" && ! page "[$(lab_addr6 web)]" "$@"
}

network_is_outside() {
    is_seen_as "$OWN4" "$(lab_addr4 dns)" "${LEAK_USER[@]}" && is_seen_as "$OWN6" "[$(lab_addr6 dns)]" "${LEAK_USER[@]}"
}

# Also in a network that is open: others' lookups.
names_of_the_network_are_not() {
    ! lab_in client "${LEAK_USER[@]}" "$LAB_PYTHON" "$LAB_TOOL" dns "$(lab_addr4 dns)" "$LAB_WEB_NAME" A
}

closed_socket_sends_the_rest() {
    local sent got
    : >"$LAB_DIR/log/sink.log"
    lab_spawn web sink "$LAB_PYTHON" "$SPLIT_TOOL" sink 7000
    lab_wait_port web tcp 7000 || return 1
    sent=$(lab_in client "$@" "$LAB_PYTHON" "$SPLIT_TOOL" send "$(lab_addr4 web)" 7000 3000000) || return 1
    for _ in $(seq 50); do
        got=$(cat "$LAB_DIR/log/sink.log")
        [ -n "$got" ] && break
        sleep 0.1
    done
    echo "sent $sent, came $got"
    [ "$sent" -gt 100000 ] && [ "$sent" = "$got" ]
}

server_is_reached() {
    local pid ok=1
    lab_spawn client served "${OUTSIDE[@]}" "$LAB_PYTHON" "$SPLIT_TOOL" serve 8000
    pid=$LAB_PID
    lab_wait_port client tcp 8000 || return 1
    [ "$(lab_in web curl --noproxy '*' --http0.9 -s --max-time 3 "http://$OWN4:8000/")" = served ] &&
        [ "$(lab_in web curl --noproxy '*' --http0.9 -s --max-time 3 "http://[$OWN6]:8000/")" = served ] && ok=0
    lab_stop "$pid"
    return "$ok"
}

flush_is_repaired() {
    local ms is_back=0
    ms=$(leak_flush) || is_back=1
    echo "back after $ms ms"
    [ "$is_back" = 0 ] && both_outside "${OUTSIDE[@]}" && both_inside "${LEAK_USER[@]}"
}

# ---- the wire ----

SPLIT_PROBES_IN=()

# watch_alone; what happens; watch_end
watch_alone() {
    SPLIT_PROBE=
    lab_spawn inet split-watch "$LAB_PYTHON" "$SPLIT_TOOL" watch client "$(lab_addr4 $LEAK_GUARD)" \
        "$(lab_addr6 $LEAK_GUARD)"
    SPLIT_WATCH=$LAB_PID
    leak_wait_ready split-watch
}

# watch_begin [probe-routed|probe]: who sends is started by SPLIT_PROBES_IN
watch_begin() {
    watch_alone
    lab_spawn client probe "${SPLIT_PROBES_IN[@]}" "${LEAK_USER[@]}" "$LAB_PYTHON" "$LEAK_TOOL" "${1:-probe-routed}" "$RATE" \
        "$(lab_addr4 web)" "$(lab_addr6 web)" "$(lab_addr4 $LEAK_GUARD)" "$(lab_addr6 $LEAK_GUARD)" \
        "$(lab_addr4 fig)" "$(lab_addr6 fig)" 192.168.7.7
    SPLIT_PROBE=$LAB_PID
}

watch_end() {
    [ -z "$SPLIT_PROBE" ] || lab_stop "$SPLIT_PROBE"
    sleep 0.3
    lab_stop "$SPLIT_WATCH"
    sed 's/^ready//' "$LAB_DIR/log/split-watch.log" | grep '^{' | tail -n 1 >"$LAB_DIR/split.json"
    : >"$LAB_DIR/log/split-watch.log"
}

# only_listed FLOW...: all of these were seen, and no other; "SOURCE > TARGET PROTOCOL PORT"; behind "?" a pattern of what may be"
only_listed() {
    cat "$LAB_DIR/split.json"
    "$LAB_PYTHON" - "$LAB_DIR/split.json" "$@" <<'PYTHON'
import fnmatch, json, sys
seen, listed = json.load(open(sys.argv[1])), {f for f in sys.argv[2:] if f[0] != "?"}
flows = {s for s in seen["flows"] if not any(fnmatch.fnmatch(s, f[1:]) for f in sys.argv[2:] if f[0] == "?")}
sys.exit(seen["probes"] != 0 or seen["lost"] != 0 or flows != listed)
PYTHON
}

# ---- users and networks ----

leak_client_start "outside_users = {12346}
outside_networks = {\"$(lab_addr4 dns)\", \"$(lab_addr6 dns)/128\"}"
mesh_client_wait
watch_begin
lab_check user_goes_outside both_outside "${OUTSIDE[@]}"
lab_check others_do_not both_inside "${LEAK_USER[@]}"
lab_check network_goes_outside network_is_outside
lab_check its_name_server_does_not names_of_the_network_are_not
lab_check closed_socket_sends_the_rest closed_socket_sends_the_rest "${OUTSIDE[@]}"
lab_check flush_is_repaired flush_is_repaired
watch_end
lab_check only_they_were_on_the_wire only_listed "$OWN4 > $(lab_addr4 web) 6 80" "$OWN6 > $(lab_addr6 web) 6 80" \
    "$OWN4 > $(lab_addr4 dns) 6 80" "$OWN6 > $(lab_addr6 dns) 6 80" "$OWN4 > $(lab_addr4 web) 6 7000"
lab_check its_server_is_reached server_is_reached
mesh_node_crash client
lab_check crash_leaves_it_outside both_outside "${OUTSIDE[@]}"
lab_check crash_blocks_others nothing_by "${LEAK_USER[@]}"
leak_client_start "outside_networks = {\"$(lab_addr4 dns)\"}"
mesh_client_wait
lab_check next_start_knows_its_own_alone both_inside "${OUTSIDE[@]}"
mesh_client_stop
lab_check stop_restores_everything is_as_before

# ---- the other direction: what alone goes inside ----

INSIDE="inside_users = {12345}
inside_networks = {\"$(lab_addr4 dns)\", \"$(lab_addr6 dns)/128\"}"

network_is_inside() {
    is_seen_as "$(lab_addr4 maple)" "$(lab_addr4 dns)" "${OUTSIDE[@]}" &&
        is_seen_as "$(lab_addr6 maple)" "[$(lab_addr6 dns)]" "${OUTSIDE[@]}"
}

network_is_closed() {
    ! page "$(lab_addr4 dns)" "${OUTSIDE[@]}" && ! page "[$(lab_addr6 dns)]" "${OUTSIDE[@]}"
}

only_these_are_inside() {
    both_inside "${LEAK_USER[@]}" && both_outside "${OUTSIDE[@]}" && network_is_inside
}

these_are_nowhere() {
    nothing_by "${LEAK_USER[@]}" && network_is_closed && both_outside "${OUTSIDE[@]}"
}

# A socket that chooses its interface itself, of another user than the listed one.
network_is_closed_past_the_tunnel() {
    ! lab_in client "${OUTSIDE[@]}" curl --noproxy '*' --interface 'if!eth0' -s --max-time 0.5 "http://$(lab_addr4 dns)/" &&
        ! lab_in client "${OUTSIDE[@]}" curl --noproxy '*' --interface 'if!eth0' -s --max-time 0.5 "http://[$(lab_addr6 dns)]/"
}

status_says_inside() {
    [ "$(mesh_status | mesh_get split.mode)" = inside ] &&
        lab_in client "$MESH_PROGRAMS/meshvpn" status --control "$LAB_DIR/sock/client" |
        tee /dev/stderr | grep -q '^inside    2 networks, 1 users, 0 cgroups, 0 domains (0 addresses now); all else is outside$'
}

outside_command_is_refused() {
    lab_in client "$MESH_PROGRAMS/meshvpn" run --control "$LAB_DIR/sock/client" --outside true 2>&1 |
        tee /dev/stderr | grep -q 'all else is outside already'
}

# Also of packets that are nobody's; and of the client's own, when there is no way out.
routes_are_chosen_by() {
    local guard
    guard=$(lab_addr4 "$LEAK_GUARD")
    way() {
        lab_in client ip route get "$@"
    }
    way "$guard" uid 12345 | grep "dev $MESH_TUN" && way "$guard" from 10.8.0.2 uid 0 | grep "dev $MESH_TUN" &&
        way "$guard" mark 0x14d56 uid 0 | grep "dev $MESH_TUN" && way "$guard" uid 0 | grep 'dev eth0' &&
        way "$guard" mark 0x4d56 uid 12345 | grep 'dev eth0' || return 1
    lab_in client ip route del default
    way "$guard" mark 0x4d56 uid 12345
    [ $? = 2 ] && lab_in client ip route add default via "$(lab_addr4 client | cut -d. -f1-2).0.1" dev eth0
}

# The kernel's own words: to a guard whose client has crashed, and to routers about multicast groups (RFC 3810).
SPLIT_KERNELS=("?$OWN4 > $(lab_addr4 $LEAK_GUARD) 1 3" "?$OWN6 > $(lab_addr6 $LEAK_GUARD) 58 1" "?fe80:* > ff02::16 58 143")

inside_is_repaired() {
    local ms is_back=0
    ms=$(leak_flush) && ms="$ms, $(leak_take_routes rules)" && ms="$ms, $(leak_take_routes table)" || is_back=1
    echo "back after $ms ms"
    [ "$is_back" = 0 ] && only_these_are_inside
}

leak_client_start "$INSIDE"
mesh_client_wait
watch_begin probe
lab_check inside_these_alone only_these_are_inside
lab_check inside_name_is_asked lab_in client "${LEAK_USER[@]}" "$LAB_PYTHON" "$LAB_TOOL" dns "$MESH_GATEWAY4" \
    "$LAB_WEB_NAME" A
lab_check inside_closed_socket_sends_the_rest closed_socket_sends_the_rest "${LEAK_USER[@]}"
lab_check inside_network_is_closed_past_the_tunnel network_is_closed_past_the_tunnel
mesh_node_crash client
lab_check inside_crash_holds_them_alone these_are_nowhere
leak_client_start "$INSIDE"
mesh_client_wait
lab_check inside_after_a_crash only_these_are_inside
watch_end
lab_check inside_status_says_so status_says_inside
lab_check inside_command_is_refused outside_command_is_refused
lab_check inside_never_on_the_wire only_listed "$OWN4 > $(lab_addr4 web) 6 80" "$OWN6 > $(lab_addr6 web) 6 80" \
    "${SPLIT_KERNELS[@]}"
watch_begin
lab_check inside_is_repaired inside_is_repaired
watch_end
lab_check inside_not_on_the_wire_meanwhile only_listed "$OWN4 > $(lab_addr4 web) 6 80" \
    "$OWN6 > $(lab_addr6 web) 6 80" "${SPLIT_KERNELS[@]}"
lab_check inside_routes_are_chosen_by routes_are_chosen_by
mesh_client_stop
lab_check inside_stop_restores_everything is_as_before
leak_client_start "$INSIDE
lockdown = true"
mesh_client_wait
mesh_client_stop
lab_check inside_lockdown_holds_them_alone these_are_nowhere
MESH_KILL_SWITCH=false leak_client_start "$INSIDE"
mesh_client_wait
lab_check inside_without_kill_switch only_these_are_inside
mesh_client_stop
lab_check inside_stop_restores_everything_again is_as_before

# ---- domains ----

look_up() {
    lab_in client "${LEAK_USER[@]}" "$LAB_PYTHON" "$LAB_TOOL" dns "$MESH_GATEWAY4" "$1" "$2" >/dev/null
}

# The first packet after the answer: there is no moment between.
domain_goes_outside() {
    look_up "$LAB_WEB_NAME" A && is_seen_as "$OWN4" "$(lab_addr4 web)" "${LEAK_USER[@]}" &&
        is_seen_as "$(lab_addr6 maple)" "[$(lab_addr6 web)]" "${LEAK_USER[@]}" &&
        look_up "$LAB_WEB_NAME" AAAA && both_outside "${LEAK_USER[@]}"
}

status_says() {
    mesh_status | tee "$LAB_DIR/status.json"
    [ "$(mesh_get split.domains <"$LAB_DIR/status.json")" = 1 ] &&
        [ "$(mesh_get split.addresses_now <"$LAB_DIR/status.json")" = "$1" ]
}

leak_client_start "outside_domains = {lab.example}"
mesh_client_wait
lab_check domain_is_inside_unasked both_inside "${LEAK_USER[@]}"
lab_check status_knows_none status_says 0
lab_check domain_goes_outside domain_goes_outside
lab_check status_knows_two status_says 2
lab_check domain_survives_flush eval 'leak_flush && both_outside "${LEAK_USER[@]}"'
mesh_client_stop
lab_check stop_restores_everything_after_names is_as_before
leak_client_start "outside_domains = {other.example}"
mesh_client_wait
lab_check other_domains_stay_inside eval 'look_up "$LAB_WEB_NAME" A && both_inside "${LEAK_USER[@]}" && status_says 0'
mesh_client_stop

# ---- domains that alone go inside ----

# ask NAME TYPE [PROTOCOL [SERVER [USER-COMMAND...]]]: "RCODE [RECORD...]", or "none"
ask() {
    lab_in client "${@:5}" timeout "${ASK_S:-3}" "$LAB_PYTHON" "$LAB_HERE/exit_tool.py" dns "${4:-$MESH_GATEWAY4}" "$1" "$2" "${3:-udp}" ||
        echo none
}

is_answered() {
    local answer expected=$1
    answer=$(ask "${@:2}")
    echo "${*:2}: $answer, not $expected"
    [ "$answer" = "$expected" ]
}

inside_by_name() {
    look_up "$LAB_WEB_NAME" A && is_seen_as "$(lab_addr4 maple)" "$(lab_addr4 web)" "${LEAK_USER[@]}" &&
        look_up "$LAB_WEB_NAME" AAAA && both_inside "${OUTSIDE[@]}"
}

# At once, not only with the next state: both chains, both addresses.
filter_knows_it() {
    lab_in client nft list table inet "$LEAK_TABLE" | grep -E "daddr ($(lab_addr4 web)|$(lab_addr6 web)) drop" |
        tee /dev/stderr | wc -l | grep -qx 4
}

# By name, although its name server is in the tunnel.
other_name_is_outside() {
    is_answered "0 $(lab_addr4 dns)" other.example A && is_seen_as "$OWN4" "$(lab_addr4 dns)" "${LEAK_USER[@]}"
}

# An alias would be asked for as another's name, and hints of a service are addresses that nobody asks for.
nothing_else_is_told() {
    is_answered "0 $(lab_addr4 web)" alias.lab.example A && is_answered 0 alias.lab.example AAAA &&
        is_answered 0 "$LAB_WEB_NAME" HTTPS
}

# Not even root's, and not by the tunnel where nobody reads the answers.
nobody_else_is_asked() {
    local ASK_S=1
    is_answered none "$LAB_WEB_NAME" A udp "$(lab_addr4 dns)" "${LEAK_USER[@]}" &&
        is_answered none "$LAB_WEB_NAME" A udp "$(lab_addr6 dns)" &&
        is_answered none other.example A tcp "$(lab_addr4 dns)" && is_answered none "$LAB_WEB_NAME" A tcp
}

names_are_nowhere() {
    local ASK_S=1
    nothing_by "${LEAK_USER[@]}" && nothing_by "${OUTSIDE[@]}" && is_answered none other.example A udp "$(lab_addr4 dns)" &&
        ! lab_in client curl --noproxy '*' --interface 'if!eth0' -s --max-time 0.5 "http://$(lab_addr4 web)/" &&
        is_seen_as "$OWN4" "$(lab_addr4 dns)" "${LEAK_USER[@]}"
}

# Where another program has taken its rules and nobody puts them back.
filter_holds_it_alone() {
    lab_in client sh -c 'while ip rule del pref 31999; do :; done; while ip -6 rule del pref 31999; do :; done'
    ! lab_in client curl --noproxy '*' -s --max-time 0.5 "http://$(lab_addr4 web)/" &&
        ! lab_in client curl --noproxy '*' -s --max-time 0.5 "http://[$(lab_addr6 web)]/"
}

status_says_domains() {
    status_says 2 && lab_in client "$MESH_PROGRAMS/meshvpn" status --control "$LAB_DIR/sock/client" | tee /dev/stderr |
        grep -q '^inside    0 networks, 0 users, 0 cgroups, 1 domains (2 addresses now); all else is outside$'
}

# Of 20 addresses 16 are told; and there are 64 places, of which two are taken since before the crash.
full_table_refuses() {
    local i answer
    for i in 0 1 2; do
        answer=$(ask "many$i.lab.example" A)
        echo "$answer"
        [ "$(wc -w <<<"$answer")" = 17 ] || return 1
    done
    is_answered 2 many3.lab.example A && grep 'Name networks of theirs in inside_networks' "$LAB_DIR/log/client.log" &&
        status_says 48 && is_answered "0 $(lab_addr4 web)" "$LAB_WEB_NAME" A && both_inside "${LEAK_USER[@]}"
}

dns_own_etc # they set its resolver
MESH_DNS=auto leak_client_start "inside_domains = {lab.example}"
mesh_client_wait
lab_check inside_domain_unasked_is_outside both_outside "${LEAK_USER[@]}"
watch_alone
lab_check inside_domain_is_by_its_name inside_by_name
lab_check inside_domain_filter_knows_it filter_knows_it
lab_check inside_domain_other_is_outside other_name_is_outside
lab_check inside_domain_tells_nothing_else nothing_else_is_told
lab_check inside_domain_nobody_else_is_asked nobody_else_is_asked
lab_check inside_domain_status_says_so status_says_domains
lab_check inside_domain_survives_flush eval 'leak_flush && both_inside "${LEAK_USER[@]}"'
mesh_node_crash client
lab_check inside_domain_crash_holds_it names_are_nowhere
MESH_DNS=auto leak_client_start "inside_domains = {lab.example}
lockdown = true"
mesh_client_wait
lab_check inside_domain_is_known_after_a_crash both_inside "${LEAK_USER[@]}"
lab_check inside_domain_full_table_refuses full_table_refuses
mesh_client_stop
lab_check inside_domain_lockdown_holds_it names_are_nowhere
lab_check inside_domain_filter_holds_it_alone filter_holds_it_alone
watch_end
lab_check inside_domain_never_on_the_wire only_listed "$OWN4 > $(lab_addr4 dns) 6 80" "${SPLIT_KERNELS[@]}"
dns_in "$MESH_PROGRAMS/meshvpn-client" --config "$LAB_DIR/client.conf" --cleanup
lab_check inside_domain_cleanup_restores_everything is_as_before
lab_check inside_domain_machine_is_untouched [ "$(stat -c '%i %Y %s' /etc/resolv.conf 2>/dev/null)" = "$machine" ]
MESH_CLIENT_ENV=

# ---- commands, by cgroup ----

RUN=("$MESH_PROGRAMS/meshvpn" run --control "$LAB_DIR/sock/client" --outside)

status_is() {
    local status
    lab_in client "${@:2}"
    status=$?
    echo "status $status"
    [ "$status" = "$1" ]
}

command_leaves_its_status() {
    status_is 7 "${RUN[@]}" sh -c 'exit 7' && status_is 127 "${RUN[@]}" no-such-command &&
        status_is 126 "${RUN[@]}" /etc/passwd && status_is 2 "$MESH_PROGRAMS/meshvpn" run true &&
        status_is 2 "${RUN[@]}"
}

# Who may read the socket, and is no operator.
strangers_are_refused() {
    status_is 1 setpriv --reuid=12345 --regid=0 --clear-groups "${RUN[@]}" true
}

# commands_go_outside v1|v2
commands_go_outside() {
    lab_check "$1_command_goes_outside" both_outside "${RUN[@]}"
    lab_check "$1_operators_command_does" both_outside setpriv --reuid=1 --regid=0 --clear-groups "${RUN[@]}"
    lab_check "$1_its_closed_socket_sends_the_rest" closed_socket_sends_the_rest "${RUN[@]}"
    lab_check "$1_others_do_not" both_inside "${LEAK_USER[@]}"
    lab_check "$1_name_is_asked_inside" lab_in client "${RUN[@]}" "$LAB_PYTHON" "$LAB_TOOL" dns "$MESH_GATEWAY4" \
        "$LAB_WEB_NAME" A
}

groups_left() {
    local space
    space=$(lab_in client stat -Lc %i /proc/self/ns/net)
    find /sys/fs/cgroup -maxdepth 4 -path "*/meshvpn-outside/$space" | grep .
}

# net_cls, for the client's eyes alone: most hosts do not mount it any more.
cat >"$LAB_DIR/with_net_cls" <<'WRAPPER'
#!/bin/sh
mkdir -p "$NET_CLS" && exec unshare -m --propagation private sh -c \
    'mount -t cgroup -o net_cls none "$NET_CLS" && exec "$0" "$@"' "$@"
WRAPPER
chmod +x "$LAB_DIR/with_net_cls"
chmod 711 "$LAB_DIR" # operators reach the socket
leak_client_start "operators = {daemon}"
mesh_client_wait
lab_check cgroup_is_there groups_left
watch_begin
commands_go_outside v2
lab_check v2_flush_is_repaired eval 'leak_flush && both_outside "${RUN[@]}"'
lab_check command_leaves_its_status command_leaves_its_status
lab_check strangers_are_refused strangers_are_refused
watch_end
lab_check v2_only_they_were_on_the_wire only_listed "$OWN4 > $(lab_addr4 web) 6 80" "$OWN6 > $(lab_addr6 web) 6 80" \
    "$OWN4 > $(lab_addr4 web) 6 7000"
mesh_client_stop
lab_check no_cgroup_is_left eval '! groups_left'
lab_check stop_restores_everything_after_commands is_as_before
# Cgroups of the configuration: of the unified hierarchy, and (made by the wrapper) of net_cls.
GROUP=$(findmnt -n -o TARGET -t cgroup2 | head -n 1)/mvpn-$LAB_ID
missing_group_is_said() {
    lab_in client timeout 10 "$MESH_PROGRAMS/meshvpn-client" --config "$LAB_DIR/client.conf" 2>&1 | tee /dev/stderr |
        grep -q "there is no cgroup $GROUP. Make it before the client starts"
}
mkdir "$GROUP" || lab_die "no cgroup can be made"
JOINED=(sh -c 'echo $$ >"$0/cgroup.procs" && exec "$@"' "$GROUP")
leak_client_start "outside_cgroups = {\"$GROUP\"}"
mesh_client_wait
lab_check v2_listed_cgroup_goes_outside both_outside "${JOINED[@]}"
lab_check v2_listed_cgroup_alone both_inside "${LEAK_USER[@]}"
# say_to_web USER-COMMAND...: always from the same port
say_to_web() {
    local to said=0
    for to in "$(lab_addr4 web)" "$(lab_addr6 web)"; do
        lab_in client "$@" "$LAB_PYTHON" "$SPLIT_TOOL" say "$to" 9000 5555 || said=1
    done
    return "$said"
}
lab_check v2_listed_cgroup_says_it say_to_web "${JOINED[@]}"
watch_alone
say_to_web "${LEAK_USER[@]}" 2>/dev/null # the kernel refuses the first, whose connection had another way
say_to_web "${LEAK_USER[@]}" 2>/dev/null
watch_end
lab_check v2_its_port_is_not_inherited only_listed
# The number of a cgroup is never another's again.
group_is_made_anew() {
    local before
    before=$(stat -c %i "$GROUP")
    becomes_true rmdir "$GROUP" && mkdir "$GROUP" && [ "$(stat -c %i "$GROUP")" != "$before" ]
}
# becomes_true COMMAND...
becomes_true() {
    local tries=150
    until "$@"; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || return 1
        sleep 0.2
    done
}
# A socket may live longer than its cgroup.
kept_socket_stays_inside() {
    lab_spawn client keep "$LAB_PYTHON" "$SPLIT_TOOL" keep "$GROUP" "$(dirname "$GROUP")" "$LAB_DIR/go" "$(lab_addr4 web)" 80
    leak_wait_ready keep
    group_is_made_anew && becomes_true both_inside "${JOINED[@]}" || return 1
    touch "$LAB_DIR/go"
    wait "$LAB_PID" || return 1
    echo "seen as $(seen /keep)"
    [ "$(seen /keep)" = "$(lab_addr4 maple)" ]
}
lab_check v2_listed_cgroup_is_made_anew eval 'group_is_made_anew && becomes_true both_outside "${JOINED[@]}"'
lab_check v2_listed_cgroup_made_anew_alone both_inside "${LEAK_USER[@]}"
mesh_client_stop
lab_check stop_restores_everything_after_cgroups is_as_before
becomes_true rmdir "$GROUP"
leak_client_start "outside_cgroups = {\"$GROUP\"}"
mesh_client_wait
lab_check v2_missing_cgroup_is_said grep "warning: helper: there is no cgroup $GROUP: what it sends goes outside from when" \
    "$LAB_DIR/log/client.log"
lab_check v2_missing_cgroup_opens_nothing both_inside "${LEAK_USER[@]}"
mkdir "$GROUP"
lab_check v2_missing_cgroup_goes_outside_later becomes_true both_outside "${JOINED[@]}"
lab_check v2_missing_cgroup_alone both_inside "${LEAK_USER[@]}"
lab_check v2_missing_cgroup_survives_flush eval 'leak_flush && both_outside "${JOINED[@]}"'
mesh_client_stop
lab_check stop_restores_everything_after_a_missing_cgroup is_as_before
cgroup_is_inside_alone() {
    both_inside "$@" && both_outside "${LEAK_USER[@]}"
}
# Who asks for less than a second: what answers shows on the wire.
server_answers_nobody() {
    lab_spawn client served "${JOINED[@]}" "$LAB_PYTHON" "$SPLIT_TOOL" serve 8000
    SPLIT_SERVER=$LAB_PID
    lab_wait_port client tcp 8000 || return 1
    ! lab_in web curl --noproxy '*' --http0.9 -s --max-time 0.5 "http://$OWN4:8000/" &&
        ! lab_in web curl --noproxy '*' --http0.9 -s --max-time 0.5 "http://[$OWN6]:8000/"
}

marks_of_others_lead_nowhere() {
    local led=1
    leak_marks add
    lab_in client "${JOINED[@]}" "${LEAK_USER[@]}" curl --noproxy '*' -s --max-time 0.5 "http://$(lab_addr4 web)/" || led=0
    leak_marks del
    return "$led"
}

leak_client_start "inside_cgroups = {\"$GROUP\"}"
mesh_client_wait
lab_check v2_inside_cgroup cgroup_is_inside_alone "${JOINED[@]}"
lab_check v2_inside_cgroup_is_repaired eval 'leak_flush && cgroup_is_inside_alone "${JOINED[@]}"'
lab_check v2_inside_cgroup_is_with_those_below eval 'mkdir "$GROUP/below" && both_inside "${JOINED[@]:0:3}" "$GROUP/below" &&
    becomes_true rmdir "$GROUP/below"'
lab_check v2_inside_cgroup_is_made_anew eval 'group_is_made_anew && becomes_true both_inside "${JOINED[@]}"'
lab_check v2_inside_kept_socket_stays_inside kept_socket_stays_inside
lab_check v2_inside_made_anew_alone cgroup_is_inside_alone "${JOINED[@]}"
SPLIT_PROBES_IN=("${JOINED[@]}")
watch_begin probe
lab_check v2_inside_closed_socket_sends_the_rest closed_socket_sends_the_rest "${JOINED[@]}"
lab_check v2_inside_others_are_outside both_outside "${LEAK_USER[@]}"
lab_check v2_inside_marks_of_others_lead_nowhere marks_of_others_lead_nowhere
lab_check v2_inside_server_answers_nobody server_answers_nobody
mesh_node_crash client
lab_check v2_inside_cgroup_is_nowhere nothing_by "${JOINED[@]}"
lab_check v2_inside_crash_holds_it_alone both_outside "${LEAK_USER[@]}"
watch_end
lab_stop "$SPLIT_SERVER"
SPLIT_PROBES_IN=()
lab_in client nft delete table inet "$LEAK_TABLE"
cat >"$LAB_DIR/lockdown.conf" <<CONF
lockdown = true
tun_name = "$MESH_TUN"
inside_cgroups = {"$GROUP/none", "$GROUP"}
CONF
lab_check v2_inside_lockdown lab_in client "$MESH_PROGRAMS/meshvpn-client" --config "$LAB_DIR/lockdown.conf" --lockdown
lab_check v2_inside_lockdown_holds_it_alone eval 'nothing_by "${JOINED[@]}" && both_outside "${LEAK_USER[@]}"'
lab_check v2_inside_cgroup_never_on_the_wire only_listed "$OWN4 > $(lab_addr4 web) 6 80" \
    "$OWN6 > $(lab_addr6 web) 6 80" "${SPLIT_KERNELS[@]}"
rmdir "$GROUP"
lab_check missing_group_is_said missing_group_is_said
leak_client_start ""
mesh_client_wait
mesh_client_stop
cat >"$LAB_DIR/with_class" <<'WRAPPER'
#!/bin/sh
mkdir -p "$NET_CLS" && exec unshare -m --propagation private sh -c 'mount -t cgroup -o net_cls none "$NET_CLS" &&
    mkdir -p "$NET_CLS/$GROUP" && echo 0x100001 >"$NET_CLS/$GROUP/net_cls.classid" &&
    { [ -z "$JOINS" ] || echo $$ >"$NET_CLS/$GROUP/cgroup.procs"; } && exec "$0" "$@"' "$@"
WRAPPER
chmod +x "$LAB_DIR/with_class"
CLASS=(env "NET_CLS=$LAB_DIR/net_cls" "GROUP=mvpn-$LAB_ID")
MESH_CLIENT_ENV="${CLASS[*]} $LAB_DIR/with_class" leak_client_start "outside_cgroups = {\"$LAB_DIR/net_cls/mvpn-$LAB_ID\"}"
mesh_client_wait
lab_check v1_listed_cgroup_goes_outside both_outside "${CLASS[@]}" JOINS=1 "$LAB_DIR/with_class"
lab_check v1_listed_cgroup_alone both_inside "${LEAK_USER[@]}"
class_is_removed() {
    "${CLASS[@]}" "$LAB_DIR/with_class" rmdir "$LAB_DIR/net_cls/mvpn-$LAB_ID"
}
lab_check v1_listed_cgroup_is_made_anew eval 'becomes_true class_is_removed && both_outside "${CLASS[@]}" JOINS=1 "$LAB_DIR/with_class"'
mesh_client_stop
MESH_CLIENT_ENV="${CLASS[*]} $LAB_DIR/with_class" leak_client_start "inside_cgroups = {\"$LAB_DIR/net_cls/mvpn-$LAB_ID\"}"
mesh_client_wait
lab_check v1_inside_cgroup cgroup_is_inside_alone "${CLASS[@]}" JOINS=1 "$LAB_DIR/with_class"
lab_check v1_inside_cgroup_is_made_anew eval 'becomes_true class_is_removed &&
    cgroup_is_inside_alone "${CLASS[@]}" JOINS=1 "$LAB_DIR/with_class"'
mesh_client_stop
class_is_removed
MESH_CLIENT_ENV="env NET_CLS=$LAB_DIR/net_cls $LAB_DIR/with_net_cls" leak_client_start "operators = {daemon}"
mesh_client_wait
commands_go_outside v1
mesh_node_crash client
MESH_CLIENT_ENV="env NET_CLS=$LAB_DIR/net_cls $LAB_DIR/with_net_cls" leak_client_start ""
mesh_client_wait
lab_check next_start_sends_nobody_outside both_inside
mesh_client_stop
lab_check stop_restores_everything_after_a_crash is_as_before
exit "$((LAB_FAILED > 0))"
