#!/bin/bash
# The client without a TUN device, run by somebody without any rights: what programs get through it, and that
# nothing goes around it. One "ok NAME" or "FAIL NAME" line per check for ./run test. Topology: lab.sh.
#
#     proxy.sh [MEGABYTES]         of the download (50)
#     proxy.sh --pairs N [--mb N] [--json]
#                                  no checks: N downloads through the proxy, each beside one through a TUN device
set -u
. "$(dirname "$0")/lab.sh"
. "$(dirname "$0")/mesh.sh"

PROXY_TOOL=$LAB_HERE/proxy_tool.py
PROXY_UID=65534
PROXY_SOCKS=127.0.0.1:1080
PROXY_HTTP=127.0.0.1:8080
PROXY_SIZE=50 PROXY_PAIRS=0 PROXY_JSON=
PROXY_MEMORY_MIB=300 # 128 MiB of the stack, and a client
PROXY_GROUP_KIB=2048 # of a user's circuits

# as_person COMMAND...: in the client's network, as nobody, with no capability and nothing that could give one
as_person() {
    lab_in client env -i PATH="$PATH" HOME="$LAB_DIR/home" ${ASAN_OPTIONS:+ASAN_OPTIONS="$ASAN_OPTIONS"} \
        setpriv --reuid "$PROXY_UID" --regid "$PROXY_UID" --clear-groups --inh-caps=-all --bounding-set=-all \
        --no-new-privs "$@"
}

tool() {
    as_person timeout 40 "$LAB_PYTHON" "$PROXY_TOOL" "$@"
}

# fetch PROXY-OPTION... URL
fetch() {
    as_person curl -sS -g --connect-timeout 10 --max-time 60 "$@"
}

status() {
    as_person timeout 5 "$LAB_DIR/bin/meshvpn" status --json
}

is() {
    echo "got '$1', expected '$2'"
    [ "$1" = "$2" ]
}

# proxy_start [any]: by one path, or by any
proxy_start() {
    local home=$LAB_DIR/home/.config/meshvpn
    # The lab's own folder is root's, and perhaps that of the programs.
    chmod 711 "$LAB_DIR"
    mkdir -p "$home" "$LAB_DIR/bin"
    cp "$MESH_PROGRAMS/meshvpn" "$MESH_PROGRAMS/meshvpn-client" "$LAB_DIR/bin"
    cp "$LAB_HERE/proxy_tool.py" "$LAB_DIR/bin" && PROXY_TOOL=$LAB_DIR/bin/proxy_tool.py
    cp "$LAB_DIR/net/network.conf" "$home"
    {
        printf 'network_file = "network.conf"\nhops = 3\nlog_level = "%s"\n' "$MESH_LOG_LEVEL"
        [ "${1:-}" = any ] || echo 'path = {"alder", "birch", "oak"}'
    } >"$home/client.conf"
    chown -R "$PROXY_UID:$PROXY_UID" "$LAB_DIR/home"
    lab_spawn client client env HOME="$LAB_DIR/home" setpriv --reuid "$PROXY_UID" --regid "$PROXY_UID" --clear-groups \
        --inh-caps=-all --bounding-set=-all --no-new-privs \
        "$LAB_DIR/bin/meshvpn" proxy --socks 1080 --http "$PROXY_HTTP"
    MESH_CLIENT_PID=$LAB_PID
    MESH_PIDS[client]=$LAB_PID
    lab_wait_port client tcp 1080 || mesh_fail "the proxy does not listen" client
}

connected() {
    local tries=200
    until [ "$(status 2>/dev/null | mesh_get state 2>/dev/null)" = connected ]; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || return 1
        sleep 0.05
    done
}

has_no_rights() {
    grep -E '^(Uid|Cap(Inh|Prm|Eff|Bnd|Amb)|NoNewPrivs):' "/proc/$MESH_CLIENT_PID/status"
    [ "$(awk '/^Cap(Prm|Eff|Bnd):/ { sum = sum $2 } END { print sum }' "/proc/$MESH_CLIENT_PID/status")" = \
        000000000000000000000000000000000000000000000000 ] &&
        [ "$(awk '/^Uid:/ { print $2 }' "/proc/$MESH_CLIENT_PID/status")" = "$PROXY_UID" ] &&
        ! lab_in client ip -o link | grep -v -e ' lo:' -e ' eth0@'
}

# seen_as ADDRESS OPTION... URL: the server saw the exit
seen_as() {
    local expected=$1
    shift
    is "$(fetch "$@")" "$expected"
}

# download MEGABYTES
download() {
    is "$(fetch -x "socks5h://$PROXY_SOCKS" "http://$LAB_WEB_NAME/file/$1" | sha256sum | cut -d' ' -f1)" "$(lab_sha256 "$1")"
}

# What overtakes a lost packet waits for it, and comes in one piece with it.
download_with_losses() {
    local result=0
    lab_link_set alder clear ba.loss=1% ab.loss=1%
    download 5 || result=1
    lab_link_set alder clear
    return "$result"
}

upload() {
    chmod 644 "$LAB_DIR/www/5" && chmod 711 "$LAB_DIR/www"
    is "$(fetch -x "socks5h://$PROXY_SOCKS" -T "$LAB_DIR/www/5" -X POST -H 'Expect:' "http://$(lab_addr4 web)/")" "$(lab_sha256 5)"
}

# refused HOST PORT REPLY: and within 3 s
refused() {
    local got
    got=$(tool reply "$PROXY_SOCKS" "$1" "$2")
    echo "got '$got', expected reply $3 and an end"
    set -- $got "$3"
    [ "$1" = "$4" ] && [ "$2" -lt 30 ] && [ "$3" = closed ]
}

# in_stack MORE-THAN: until more bytes than that wait, 10 s at most; prints how many do
in_stack() {
    local bytes tries=100
    while
        bytes=$(status | mesh_get proxy | grep -o "memory_bytes[^0-9]*[0-9]*" | grep -o '[0-9]*$')
        [ "${bytes:-0}" -le "$1" ] && [ "$tries" -gt 0 ]
    do
        tries=$((tries - 1))
        sleep 0.1
    done
    echo "$bytes"
}

# Programs that never read: what waits for them is bounded, and others go on.
unread() {
    local rss bytes result=0
    coproc UNREAD { tool unread "$PROXY_SOCKS" "$(lab_addr4 web)" "/file/$PROXY_SIZE" 24 1; }
    read -r -t 30 <&"${UNREAD[0]}" || result=1
    bytes=$(in_stack 65536)
    rss=$(awk '/^VmRSS/ { print $2 }' "/proc/$MESH_CLIENT_PID/status")
    echo "$rss KiB in all, $bytes bytes in the stack"
    [ "$rss" -lt $((PROXY_MEMORY_MIB * 1024)) ] && [ "$bytes" -lt $((129 << 20)) ] && [ "$bytes" -gt 65536 ] || result=1
    seen_as "$(lab_addr4 oak)" -x "socks5h://$PROXY_SOCKS" "http://$(lab_addr4 web)/ip" || result=1
    kill "$UNREAD_PID"
    wait "$UNREAD_PID" 2>/dev/null
    return "$result"
}

# What was captured beside the guard, and was not this network's own affair (neighbours).
nothing_outside() {
    local four six
    lab_stop "$CAPTURE_PID" TERM
    four=$(lab_addr4 alder)
    six=$(lab_addr6 alder)
    grep -c . "$LAB_DIR/log/peers.log"
    grep -q -F "$four" "$LAB_DIR/log/peers.log" || grep -q -F "$six" "$LAB_DIR/log/peers.log" || return 1
    ! grep -v -F -e "$four" -e "$six" -e '# ready' "$LAB_DIR/log/peers.log" | grep -v -e 'fe80:' -e ' ff02:'
}

ends() {
    lab_stop "$MESH_CLIENT_PID" TERM
    unset 'MESH_PIDS[client]'
    grep 'ending: signal 15' "$LAB_DIR/log/client.log" &&
        [ ! -e "$LAB_DIR/home/.local/state/meshvpn/control.sock" ] &&
        ! grep -i -e sanitizer -e assertion "$LAB_DIR/log/client.log"
}

# ---- users ----

# exit_of [USER:PASSWORD]: the address that the web server sees of this user
exit_of() {
    fetch -4 ${1:+--proxy-user "$1"} -x "socks5h://$PROXY_SOCKS" "http://$(lab_addr4 web)/ip"
}

# Three exits: nobody's is another's, by SOCKS or HTTP, twice, and at once.
users_apart() {
    local none one two
    none=$(exit_of) && one=$(exit_of one:a) && two=$(exit_of two:a) || return 1
    echo "exits: $none, one $one, two $two"
    [ "$none" != "$one" ] && [ "$none" != "$two" ] && [ "$one" != "$two" ] || return 1
    (for i in 1 2 3; do is "$(exit_of two:a)" "$two" || exit 1; done) &
    local beside=$!
    for _ in 1 2 3; do
        is "$(exit_of one:a)" "$one" && is "$(exit_of)" "$none" || return 1
    done
    wait "$beside" || return 1
    is "$(fetch -4 -p --proxy-user one:a -x "http://$PROXY_HTTP" "http://$(lab_addr4 web)/ip")" "$one"
}

# other_family ADDRESS: the same exit's
other_family() {
    local node
    for node in $LAB_EXITS; do
        [ "$(lab_addr4 "$node")" != "$1" ] || lab_addr6 "$node"
    done
}

# Names, too, are asked for by the user's own circuit: the name service of his exit says who asks.
names_apart() {
    local one
    one=$(exit_of one:a)
    is "$(fetch --proxy-user one:a -x "socks5h://$PROXY_SOCKS" "http://$LAB_WEB_NAME/ip")" "$(other_family "$one")" &&
        is "$(tool udp "$PROXY_SOCKS" "$MESH_GATEWAY4" 53 "$LAB_WEB_NAME" two a)" "$(lab_addr4 web)" || return 1
    is "$(tool many "$PROXY_SOCKS" "$(lab_addr4 web)" 20 one a)" "20 $one"
}

# All circuits begin at the same guards, and no user is named.
groups_shown() {
    status >"$LAB_DIR/status.json"
    as_person timeout 5 "$LAB_DIR/bin/meshvpn" circuit list --json >"$LAB_DIR/circuits.json" || return 1
    "$LAB_PYTHON" - "$LAB_DIR" <<'EOT'
import json, sys
status = json.load(open(sys.argv[1] + "/status.json"))
circuits = json.load(open(sys.argv[1] + "/circuits.json"))["circuits"]
groups = status["proxy"]["groups"]
print(groups)
guards = {c["path"][0]["name"] for c in circuits if c["state"] in ("in use", "spare")}
exits = {c.get("group", 0): c["path"][-1]["name"] for c in circuits if c["state"] == "in use"}
known = {g["name"] for g in status["guards"]}
print("guards", guards, "of", known, "exits", exits)
sys.exit(not ([g["number"] for g in groups] == [1, 2] and {0, 1, 2} <= set(exits) and len(set(exits.values())) == 3
              and guards <= known and len(known) <= 3 and all(g["exit"]["name"] == exits[g["number"]] for g in groups)))
EOT
}

# Eight users at a time (two were there a moment ago); the next one is told so, and gets nobody else's circuits. Who is at work is not disturbed.
too_many_users() {
    local i result=0 rss
    coproc HELD { tool hold "$PROXY_SOCKS" "$(lab_addr4 web)" 6; cat; }
    read -r -t 40 <&"${HELD[0]}" || result=1
    rss=$(awk '/^VmRSS/ { print $2 }' "/proc/$MESH_CLIENT_PID/status")
    echo "$((rss - RSS_BEFORE)) KiB for $(status | mesh_get proxy.groups | grep -o "'number'" | grep -c .) groups"
    [ "$((rss - RSS_BEFORE))" -lt $((8 * PROXY_GROUP_KIB)) ] || result=1
    is "$(tool reply "$PROXY_SOCKS" "$(lab_addr4 web)" 80 ninth a | cut -d' ' -f1)" 1 || result=1
    is "$(fetch -4 -p --proxy-user ninth:a -x "http://$PROXY_HTTP" -o /dev/null -w '%{http_connect}' "http://$(lab_addr4 web)/ip" 2>/dev/null)" 503 ||
        result=1
    exit_of >/dev/null || result=1
    kill "$HELD_PID"
    wait "$HELD_PID" 2>/dev/null
    return "$result"
}

users() {
    proxy_start any
    connected || mesh_fail "the proxy does not connect" client
    exit_of >/dev/null
    RSS_BEFORE=$(awk '/^VmRSS/ { print $2 }' "/proc/$MESH_CLIENT_PID/status")
    lab_check "proxy: two users at once leave by different exits" users_apart
    lab_check "proxy: and their names and datagrams as well" names_apart
    lab_check "proxy: the users are shown by number, behind the same guards" groups_shown
    lab_check "proxy: more users than there are circuits for" too_many_users
    mesh_client_stop
}

# ---- how fast, beside a client with a TUN device ----

# speed COMMAND...: MB/s of one download
speed() {
    local from to
    from=$(date +%s%N)
    "$@" -o /dev/null "http://$(lab_addr4 web)/file/$PROXY_SIZE" || mesh_fail "a download failed" client
    to=$(date +%s%N)
    awk -v mb="$PROXY_SIZE" -v ns="$((to - from))" 'BEGIN { printf "%.1f\n", mb * 1e9 / ns }'
}

pairs() {
    local i
    for i in $(seq 1 "$PROXY_PAIRS"); do
        mesh_client_start 3 alder birch oak
        mesh_client_wait
        speed mesh_curl >>"$LAB_DIR/tun"
        mesh_client_stop
        proxy_start
        connected || mesh_fail "the proxy does not connect" client
        speed fetch -x "socks5h://$PROXY_SOCKS" >>"$LAB_DIR/proxy"
        mesh_client_stop
    done
    paste "$LAB_DIR/tun" "$LAB_DIR/proxy" | "$LAB_PYTHON" -c 'import json, statistics, sys
rows = [tuple(map(float, line.split())) for line in sys.stdin]
share = statistics.median(proxy / tun for tun, proxy in rows)
if sys.argv[1]:
    print(json.dumps({"soak": "proxy", "tun_mb_s": [r[0] for r in rows], "proxy_mb_s": [r[1] for r in rows], "share_median": round(share, 3)}))
else:
    for tun, proxy in rows:
        print(f"TUN {tun:7.1f} MB/s   proxy {proxy:7.1f} MB/s   {proxy / tun:5.2f}")
    print(f"median of the pairs: {share:.2f} (at least 0.50 is asked for)")
sys.exit(share < 0.5)' "$PROXY_JSON"
}

checks() {
    lab_spawn client peers "$LAB_PYTHON" "$LAB_TOOL" peers eth0
    CAPTURE_PID=$LAB_PID
    proxy_start

    lab_check "proxy: connects as a person without rights" connected
    lab_check "proxy: no rights, no device" has_no_rights
    lab_check "proxy: SOCKS5, IPv4" seen_as "$(lab_addr4 oak)" -4 -x "socks5h://$PROXY_SOCKS" "http://$(lab_addr4 web)/ip"
    lab_check "proxy: SOCKS5, IPv6" seen_as "$(lab_addr6 oak)" -x "socks5h://$PROXY_SOCKS" "http://[$(lab_addr6 web)]/ip"
    lab_check "proxy: a name with both: IPv6 first" seen_as "$(lab_addr6 oak)" -x "socks5h://$PROXY_SOCKS" "http://$LAB_WEB_NAME/ip"
    lab_check "proxy: SOCKS5 with a user name" seen_as "$(lab_addr6 oak)" -x "socks5h://me:secret@$PROXY_SOCKS" "http://$LAB_WEB_NAME/ip"
    lab_check "proxy: HTTP CONNECT" seen_as "$(lab_addr6 oak)" -p -x "http://$PROXY_HTTP" "http://$LAB_WEB_NAME/ip"
    lab_check "proxy: UDP to the name service" is "$(tool udp "$PROXY_SOCKS" "$MESH_GATEWAY4" 53 "$LAB_WEB_NAME")" "$(lab_addr4 web)"
    lab_check "proxy: a half-closed connection" is "$(tool half "$PROXY_SOCKS" "$(lab_addr4 web)")" "0 $(lab_addr4 oak)"
    lab_check "proxy: a closed port is refused at once" refused "$(lab_addr4 web)" 81 5
    lab_check "proxy: an unknown name is said to be" refused no.lab.example 80 4
    lab_check "proxy: this computer is not reached" refused 127.0.0.1 80 2
    lab_check "proxy: nor by its name" refused localhost 80 2
    lab_check "proxy: requests that are none" tool bad "$PROXY_SOCKS" "$PROXY_HTTP"
    lab_check "proxy: 100 connections at once" is "$(tool many "$PROXY_SOCKS" "$(lab_addr4 web)" 100)" "100 $(lab_addr4 oak)"
    lab_check "proxy: upload" upload
    lab_check "proxy: download of $PROXY_SIZE MB" download "$PROXY_SIZE"
    lab_check "proxy: download over a link that loses packets" download_with_losses
    lab_check "proxy: programs that never read" unread
    lab_check "proxy: nothing but its guard is spoken to" nothing_outside
    lab_check "proxy: ends, and leaves nothing" ends
    users
    return $((LAB_FAILED > 0))
}

while [ $# -gt 0 ]; do
    case $1 in
    --pairs) PROXY_PAIRS=$2 && shift ;;
    --mb) PROXY_SIZE=$2 && shift ;;
    --json) PROXY_JSON=yes ;;
    *) PROXY_SIZE=$1 ;;
    esac
    shift
done
if grep -qa 'built without the proxy' "$MESH_PROGRAMS/meshvpn-client"; then
    lab_say "this build has no proxy (no sources of lwIP): nothing to test"
    exit 0
fi
# A third exit, and a relay in the place of what was one: each user can have his own.
LAB_RELAYS="alder birch elm cedar maple oak" LAB_EXITS="cedar maple oak"
lab_begin
# shellcheck disable=SC2034 # read by lab_internet; for the pairs it would be what is measured
[ "$PROXY_PAIRS" -gt 0 ] || LAB_LINK_alder=clear
lab_internet
lab_services 5 "$PROXY_SIZE"
mesh_create listed
mesh_relays_start
if [ "$PROXY_PAIRS" -gt 0 ]; then
    pairs
else
    checks
fi
