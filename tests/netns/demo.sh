#!/bin/bash
# The whole main job as a story: a network whose relays find each other, a client that joins by a link,
# a real page through an onion circuit of the real programs, and again without the nodes it began with.
#
#     demo.sh [--hops N] [--once] [--json]
#     demo.sh --nat [--once] [--json]       relays and exits at home: demo_nat.sh
#
# --once  tear down at the end; exit code 0 only if everything held
# --json  the last line on stdout is one JSON object
# Without --once the network stays up until Ctrl-C. Topology: lab.sh.
set -u
. "$(dirname "$0")/lab.sh"
. "$(dirname "$0")/mesh.sh"
. "$(dirname "$0")/story.sh"

hops=3
once=
json=

case " $* " in *" --nat "*)
    words=()
    for word; do
        [ "$word" = --nat ] || words+=("$word")
    done
    exec "$LAB_HERE/demo_nat.sh" "${words[@]}"
    ;;
esac

usage() {
    echo "usage: ./run demo [--nat | --hops 1..5] [--once] [--json]" >&2
    exit 2
}

while [ $# -gt 0 ]; do
    case $1 in
    --hops)
        [ $# -ge 2 ] || usage
        hops=$2
        shift
        ;;
    --hops=*) hops=${1#--hops=} ;;
    --once) once=1 ;;
    --json) json=1 ;;
    *) usage ;;
    esac
    shift
done
case $hops in [1-5]) ;; *) usage ;; esac

spare_guard=
exec 3>&1
# The story is for a person; with --json stdout is for the object.
[ -n "$json" ] && exec 1>&2

# ---- what each hop can see: raw frames at its network card while the page is fetched ----

declare -A watchers=()

watch_start() {
    local node
    for node in "${path[@]}"; do
        : >"$LAB_DIR/log/seen-$node.log"
        lab_spawn "$node" "seen-$node" "$LAB_PYTHON" "$LAB_TOOL" peers eth0
        watchers[$node]=$LAB_PID
    done
    for node in "${path[@]}"; do
        until grep -q ready "$LAB_DIR/log/seen-$node.log"; do
            kill -0 "${watchers[$node]}" 2>/dev/null || return 1
            sleep 0.02
        done
    done
}

watch_stop() {
    local node
    for node in "${path[@]}"; do
        lab_stop "${watchers[$node]}"
    done
}

name_of() {
    local node
    for node in client web dns $LAB_ENTRIES $LAB_RELAYS; do
        case $1 in "$(lab_addr4 "$node")" | "$(lab_addr6 "$node")")
            echo "$node"
            return
            ;;
        esac
    done
    echo "$1"
}

# neighbours NODE: names that its card saw, itself left out
neighbours() {
    local address
    grep -v -e '^#' -e ' ff02:' -e '^fe80' "$LAB_DIR/log/seen-$1.log" | tr ' ' '\n' | sort -u |
        while read -r address; do
            name_of "$address"
        done | grep -vx "$1" | sort -u | tr '\n' ' '
}

saw() {
    case " $(neighbours "$1")" in *" $2 "*) return 0 ;; esac
    return 1
}

saw_not() {
    ! saw "$1" "$2"
}

# ---- steps ----

read_path() {
    mesh_status >"$LAB_DIR/status.json"
    mapfile -t path < <(mesh_path)
    guard=${path[0]:-}
    exit_node=${path[-1]:-}
    exit_addr=$(lab_addr4 "$exit_node") || exit_addr=
}

# page_again TEXT: once more, and nobody but the exit came to the web server
page_again() {
    fetch_page
    read_path
    hold "$1: HTTP $http_status, from the exit $exit_node" [ "$http_status" = 200 -a "$seen" = "$exit_addr" ]
}

# ---- the story ----

client_addr=$(lab_addr4 client)
server_addr=$(lab_addr4 web)
lab_begin
tell "1. An internet in network namespaces ($LAB_ID): a web server with DNS and iperf3, five relays in"
tell "   different /16s, two of them exits, a bootstrap node, a discovery node, and one client."
LAB_ENTRIES="boot disc"
lab_internet
lab_services

tell "2. meshvpn-bootstrap makes a closed network and certifies its nodes; they start. Nobody has a list"
tell "   of them: each knows the bootstrap node's address ($(lab_addr4 boot)) and finds the others."
mesh_create found
mesh_relays_start

tell "3. The client joins by a link, which names the same one address, and builds a circuit of $hops hop(s):"
mesh_join
tell "      meshvpn join $(echo "$MESH_LINK" | cut -c 1-48)...   (${#MESH_LINK} characters)"
mesh_client_start "$hops"
ready_s=null restart_ready_s=null
ready_s=$(mesh_client_ready 20) || mesh_client_wait 1
read_path
build_ms=$(mesh_get circuit_build_ms build_ms circuit.build_ms <"$LAB_DIR/status.json") || build_ms=null
tell ""
line="   client ($client_addr)"
for node in "${path[@]}"; do
    line="$line -> $node ($(lab_country "$node"), $(lab_addr4 "$node"))"
done
tell "$line -> web ($server_addr)"
tell "   connected $ready_s s after its start, the circuit itself built in $build_ms ms"
hold "the path has $hops hop(s) and ends at an exit" \
    eval '[ "${#path[@]}" = "$hops" ] && lab_is_exit "$exit_node"'

tell ""
tell "4. The client asks 10.8.0.1 for $LAB_WEB_NAME and fetches the page with plain curl."
watch_start
resolved=$(mesh_dns A 2>/dev/null | head -n 1)
hold "DNS through the circuit: $LAB_WEB_NAME is ${resolved:-unknown}" [ "$resolved" = "$server_addr" ]
fetch_page
sleep 0.2
watch_stop
mesh_status >"$LAB_DIR/status.json"
hold "the page arrived: HTTP $http_status, $(wc -c <"$LAB_DIR/page.html" 2>/dev/null || echo 0) bytes" \
    [ "$http_status" = 200 ]
hold "the web server saw ${seen:-nobody}: the exit $exit_node" [ -n "$seen" -a "$seen" = "$exit_addr" ]
hold "the web server did not see the client ($client_addr)" [ "$seen" != "$client_addr" ]
tell ""
tell "5. What each hop could see at its network card meanwhile (raw frames):"
for node in "${path[@]}"; do
    tell "   $node: itself and $(neighbours "$node")"
done
hold "the guard saw the client (so this look at the wire works)" saw "$guard" client
hold "the exit saw the web server" saw "$exit_node" web
for node in "${path[@]}"; do
    if [ "$node" != "$guard" ] && saw "$node" client && [ -z "$spare_guard" ] &&
        [ "$(mesh_get spare <"$LAB_DIR/status.json")" = true ]; then
        # With five relays the spare circuit's guard can be a relay of the active path.
        spare_guard=$node
        tell "   note  $node knows the client too: it is the guard of the spare circuit that stands by"
    elif [ "$node" != "$guard" ]; then
        hold "$node never met the client's address" saw_not "$node" client
    fi
    [ "$node" = "$exit_node" ] || hold "$node never met the web server's address" saw_not "$node" web
done

tell ""
tell "6. The bootstrap node and the discovery node are killed. Nobody needs them any more:"
mesh_node_stop boot KILL
mesh_node_stop disc KILL
page_again "the page once more"
mesh_client_stop
mesh_client_start "$hops"
restart_ready_s=$(mesh_client_ready 20) || mesh_client_wait 1
page_again "the client started again (connected after $restart_ready_s s), and the page once more"

tell ""
tell "7. Measurements"
rtt_ms=$(mesh_ping_ms "$server_addr" 20) || rtt_ms=null
hold "ping over the TUN: $rtt_ms ms to the web server and back" [ "$rtt_ms" != null ]
cpu_before=$(mesh_cpu_s)
tcp_mbit_s=null cpu_s_per_gb=null udp_loss=null
if mesh_iperf "$LAB_DIR/tcp.json" -t 4 2>"$LAB_DIR/log/iperf.log"; then
    cpu_after=$(mesh_cpu_s)
    read -r tcp_mbit_s cpu_s_per_gb cpu_iperf < <("$LAB_PYTHON" -c '
import json, sys
end = json.load(open(sys.argv[1]))["end"]
received, load = end["sum_received"], end["cpu_utilization_percent"]
iperf = (load["host_total"] + load["remote_total"]) / 100 * received["seconds"]
gb = received["bytes"] / 1e9
mesh = float(sys.argv[3]) - float(sys.argv[2])
print(round(received["bits_per_second"] / 1e6, 1), round((mesh + iperf) / gb, 2), round(iperf / gb, 2))
' "$LAB_DIR/tcp.json" "$cpu_before" "$cpu_after") || true
fi
hold "TCP: $tcp_mbit_s Mbit/s (iperf3, 4 s)" [ "$tcp_mbit_s" != null ]
[ "$cpu_s_per_gb" = null ] ||
    tell "         CPU: $cpu_s_per_gb s per GB (user + system of all meshvpn programs and of iperf3's two ends, which are $cpu_iperf of it)"
if mesh_iperf "$LAB_DIR/udp.json" -u -b 20M -l 1200 -t 2 2>>"$LAB_DIR/log/iperf.log"; then
    udp_loss=$("$LAB_PYTHON" -c '
import json, sys
end = json.load(open(sys.argv[1]))["end"]["sum"]
print(round(end["lost_packets"] / max(1, end["packets"]), 5))' "$LAB_DIR/udp.json") || udp_loss=null
fi
hold "UDP: $udp_loss of the packets lost at 20 Mbit/s (1200 bytes each)" \
    awk "BEGIN { exit !(\"$udp_loss\" != \"null\" && $udp_loss + 0 <= 0.01) }"
hold "all programs still run" mesh_alive

verdict client "${path[@]}" curl iperf

print_json() {
    [ -n "$json" ] || return 0
    "$LAB_PYTHON" -c '
import json, sys
names = ["ok", "hops", "http_status", "seen_by_server", "exit_addr", "client_addr", "circuit_build_ms",
         "rtt_ms", "tcp_mbit_s", "cpu_s_per_gb", "udp_loss", "ready_s", "restart_ready_s"]
texts = ("seen_by_server", "exit_addr", "client_addr")
print(json.dumps({n: v if n in texts else json.loads(v) for n, v in zip(names, sys.argv[1:])}))
' "$([ "$problems" = 0 ] && echo true || echo false)" "$hops" "$http_status" "$seen" "$exit_addr" \
        "$client_addr" "$build_ms" "$rtt_ms" "$tcp_mbit_s" "$cpu_s_per_gb" "$udp_loss" "$ready_s" "$restart_ready_s" >&3
}

[ -n "$once" ] || stay_up print_json
print_json
exit $((problems > 0))
