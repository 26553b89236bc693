# shellcheck shell=bash
# A MeshVPN network of the real programs inside the lab; sourced after lab.sh.
#
#     mesh_create found; mesh_relays_start; mesh_client_start HOPS [PATH...]; mesh_client_wait

MESH_PROGRAMS=$LAB_BUILD/src/bin
MESH_LOG_LEVEL=info
MESH_TUN=mvpn0
# As everybody has it. A lab that is without says why.
MESH_KILL_SWITCH=true
MESH_GATEWAY4=10.8.0.1
# shellcheck disable=SC2034 # for the scripts that source this
MESH_GATEWAY6=fd6d:7670:6e00::1
# Namespaces share the machine's own /etc: a lab whose client has one to itself says otherwise (dns.sh).
MESH_DNS=none
MESH_CLIENT_PID=
MESH_CLIENT_SINCE=0
MESH_MODE=listed
MESH_NETWORK=
# Of the directory with keys and configuration: a lab of two networks has two.
MESH_NET=net
declare -A MESH_PIDS=()

mesh_need_programs() {
    local program
    for program in meshvpn-bootstrap meshvpn-relay meshvpn-exit-node meshvpn-dht-bootstrap meshvpn-discovery \
        meshvpn-client meshvpn; do
        [ -x "$MESH_PROGRAMS/$program" ] ||
            lab_die "$program is not built in $MESH_PROGRAMS; run ./run build"
    done
}

# mesh_create found|listed: keys, certificates and configuration of all nodes under $LAB_DIR/$MESH_NET.
#   found   network.conf holds the entries of boot; relays publish themselves and are found
#   listed  network.conf holds the relays' descriptors (fixed paths need that); nothing is searched
#   both    both
mesh_create() {
    local node net=$LAB_DIR/$MESH_NET
    MESH_MODE=$1
    mesh_need_programs
    mkdir -p "$LAB_DIR/sock"
    mesh_bootstrap init "$net" --name lab ${MESH_INIT:-}
    if [ "$MESH_MODE" != listed ]; then
        for node in $LAB_ENTRIES; do
            mesh_add_node "$node"
        done
    fi
    for node in $LAB_RELAYS; do
        mesh_add_node "$node"
    done
}

# mesh_bootstrap COMMAND...: meshvpn-bootstrap, its words in the log
mesh_bootstrap() {
    "$MESH_PROGRAMS/meshvpn-bootstrap" "$@" >>"$LAB_DIR/log/bootstrap.log" 2>&1 ||
        mesh_fail "meshvpn-bootstrap $1 failed" bootstrap
}

# mesh_add_node NODE [OPTION...]: what its place in the lab says, with a copy of network.conf of its own
mesh_add_node() {
    local node=$1 options
    shift
    case $(mesh_role "$node") in
    exit) options=--exit ;;
    bootstrap) options=--bootstrap ;;
    discovery) options="--discovery --url http://$(lab_addr4 "$node"):8080/" ;;
    *) options= ;;
    esac
    case " $LAB_ENTRIES " in
    *" $node "*) ;;
    *)
        options="$options --country $(lab_country "$node") --provider $node-hosting --bandwidth-mbit 1000"
        [ "$MESH_MODE" != found ] && options="$options --listed"
        ;;
    esac
    # shellcheck disable=SC2086 # options are words
    mesh_bootstrap add-node "$LAB_DIR/$MESH_NET" "$node" --address "$(lab_addr4 "$node"):$LAB_PORT" \
        --address "[$(lab_addr6 "$node")]:$LAB_PORT" $options "$@"
    mesh_configure "$node"
}

# mesh_role NODE: exit, bootstrap, discovery or relay
mesh_role() {
    case $1 in
    boot) echo bootstrap ;;
    disc) echo discovery ;;
    *) lab_is_exit "$1" && echo exit || echo relay ;;
    esac
}

mesh_conf() {
    echo "$LAB_DIR/$MESH_NET/nodes/$1/$(mesh_role "$1").conf"
}

# mesh_set FILE KEY VALUE: what an operator would edit by hand; a key may stand only once.
mesh_set() {
    sed -i "/^[[:space:]]*$2[[:space:]]*=/d" "$1"
    echo "$2 = $3" >>"$1"
}

mesh_configure() {
    local conf
    conf=$(mesh_conf "$1")
    # Apart, as an installation has them: what is to be mended in the host stays root's.
    mkdir -p "$LAB_DIR/run/$1" "$LAB_DIR/host/$1"
    mesh_set "$conf" control_socket "\"$LAB_DIR/sock/$1\""
    mesh_set "$conf" run_dir "\"$LAB_DIR/host/$1\""
    mesh_set "$conf" state_dir "\"$LAB_DIR/run/$1\""
    mesh_set "$conf" log_level "$MESH_LOG_LEVEL"
    case $(mesh_role "$1") in
    exit) mesh_set "$conf" dns_upstream "{\"$(lab_addr4 dns):53\"}" ;;
    discovery) mesh_set "$conf" http_listen "\"$(lab_addr4 disc):8080\"" ;;
    esac
}

mesh_relay_start() {
    local program
    case $(mesh_role "$1") in
    exit) program=meshvpn-exit-node ;;
    bootstrap) program=meshvpn-dht-bootstrap ;;
    discovery) program=meshvpn-discovery ;;
    *) program=meshvpn-relay ;;
    esac
    lab_spawn "$1" "$1" "$MESH_PROGRAMS/$program" --config "$(mesh_conf "$1")"
    MESH_PIDS[$1]=$LAB_PID
}

# mesh_relays_start [NODE...]: all nodes but the client, or these.
mesh_relays_start() {
    local node nodes=$*
    if [ -z "$nodes" ]; then
        nodes=$LAB_RELAYS
        [ "$MESH_MODE" != listed ] && nodes="$LAB_ENTRIES $LAB_RELAYS"
    fi
    for node in $nodes; do
        mesh_relay_start "$node"
    done
    for node in $nodes; do
        lab_wait_port "$node" udp "$LAB_PORT" || mesh_fail "$node does not open its port" "$node"
    done
}

# mesh_join: the client becomes a member by a link (left in MESH_LINK) and starts from that.
mesh_join() {
    MESH_LINK=$("$MESH_PROGRAMS/meshvpn-bootstrap" invite "$LAB_DIR/$MESH_NET" --no-qr 2>>"$LAB_DIR/log/bootstrap.log") ||
        mesh_fail "meshvpn-bootstrap invite failed" bootstrap
    rm -rf "$LAB_DIR/member"
    echo "$MESH_LINK" | "$MESH_PROGRAMS/meshvpn" join - --config-dir "$LAB_DIR/member" >>"$LAB_DIR/log/join.log" 2>&1 ||
        mesh_fail "meshvpn join failed" join
    MESH_NETWORK=$LAB_DIR/member/network.conf
}

# mesh_forget: the next start of the client is its first.
mesh_forget() {
    rm -rf "$LAB_DIR/run/client"
}

# mesh_identity NODE: in base64, as a fixed path takes it for a node that no network file lists
mesh_identity() {
    "$MESH_PROGRAMS/meshvpn-bootstrap" show "$LAB_DIR/$MESH_NET" |
        awk -v node="$1" 'NF && /^  [^ ]/ { name = $1 } $1 == "identity" && name == node { print $2 }'
}

# mesh_client_start HOPS [NODE...]: nodes, or identities, fix the path (guard first). MESH_CLIENT_ENV: NAME=VALUE...
# MESH_CLIENT_NODE: where it runs, if not in the client's own place.;
# MESH_CLIENT_MORE: a line of configuration.
mesh_client_start() {
    local hops=$1 list node
    shift
    mkdir -p "$LAB_DIR/run/client"
    {
        echo "network_file = \"${MESH_NETWORK:-$LAB_DIR/$MESH_NET/network.conf}\""
        echo "control_socket = \"$LAB_DIR/sock/client\""
        echo "run_dir = \"$LAB_DIR/run/client\""
        echo "state_dir = \"$LAB_DIR/run/client\""
        echo "tun_name = \"$MESH_TUN\""
        echo "log_level = \"$MESH_LOG_LEVEL\""
        echo "hops = $hops"
        echo "kill_switch = $MESH_KILL_SWITCH"
        echo "dns = $MESH_DNS"
        [ -z "${MESH_CLIENT_MORE:-}" ] || echo "$MESH_CLIENT_MORE"
        if [ $# -gt 0 ]; then
            list=
            for node in "$@"; do
                list="$list${list:+, }\"$node\""
            done
            echo "path = {$list}"
        fi
    } >"$LAB_DIR/client.conf"
    MESH_CLIENT_SINCE=$(date +%s%N)
    # shellcheck disable=SC2086 # settings are words
    lab_spawn "${MESH_CLIENT_NODE:-client}" client ${MESH_CLIENT_ENV:-} "$MESH_PROGRAMS/meshvpn-client" --config "$LAB_DIR/client.conf"
    MESH_CLIENT_PID=$LAB_PID
    MESH_PIDS[client]=$LAB_PID
}

# mesh_client_stop [SIGNAL]
mesh_client_stop() {
    lab_stop "$MESH_CLIENT_PID" "${1:-TERM}"
    unset 'MESH_PIDS[client]'
}

mesh_status() {
    lab_in client timeout 5 "$MESH_PROGRAMS/meshvpn" status --json --control "$LAB_DIR/sock/client" \
        2>>"$LAB_DIR/log/status.log"
}

# mesh_client_wait [SECONDS]: until connected; leaves the status in $LAB_DIR/status.json.
mesh_client_wait() {
    local deadline=$((SECONDS + ${1:-20}))
    while [ "$SECONDS" -lt "$deadline" ]; do
        kill -0 "$MESH_CLIENT_PID" 2>/dev/null || mesh_fail "the client ended by itself" client
        if [ -S "$LAB_DIR/sock/client" ] && mesh_status >"$LAB_DIR/status.json" &&
            [ "$(mesh_get state <"$LAB_DIR/status.json")" = connected ]; then
            return 0
        fi
        sleep 0.05
    done
    lab_say "last status: $(cat "$LAB_DIR/status.json" 2>/dev/null)"
    # shellcheck disable=SC2086 # node names are words
    mesh_fail "the client is not connected after ${1:-20} s" client $LAB_RELAYS
}

# mesh_client_ready SECONDS: seconds from the start of the client until it is connected
mesh_client_ready() {
    "$LAB_PYTHON" "$LAB_TOOL" ready "$LAB_DIR/sock/client" "$MESH_CLIENT_SINCE" "$1"
}

mesh_get() {
    "$LAB_PYTHON" "$LAB_TOOL" get "$@"
}

# mesh_node_get NODE KEY: of its status
mesh_node_get() {
    "$MESH_PROGRAMS/meshvpn" status --json --control "$LAB_DIR/sock/$1" 2>>"$LAB_DIR/log/status.log" | mesh_get "$2"
}

# mesh_node_stop NODE [SIGNAL]
mesh_node_stop() {
    lab_stop "${MESH_PIDS[$1]}" "${2:-TERM}"
    unset "MESH_PIDS[$1]"
}

# mesh_node_crash NODE: the program and the helper that would clean up after it, as when the host's power fails
mesh_node_crash() {
    # shellcheck disable=SC2046 # process ids are words
    kill -KILL $(cat "/proc/${MESH_PIDS[$1]}/task/${MESH_PIDS[$1]}/children") "${MESH_PIDS[$1]}"
    mesh_node_stop "$1" KILL
}

# mesh_path [LIST]: names on the path, guard first; or of the relays in another list of the status.
mesh_path() {
    "$LAB_PYTHON" -c 'import json, sys
for hop in json.load(sys.stdin)[sys.argv[1]]:
    print(hop["name"])' "${1:-path}" <"$LAB_DIR/status.json"
}

# mesh_fail MESSAGE LOG...: say what went wrong, show the ends of the logs, give up.
mesh_fail() {
    local log
    lab_say "error: $1"
    shift
    for log in "$@"; do
        lab_say "--- last lines of $log's log"
        tail -n 12 "$LAB_DIR/log/$log.log" >&2 2>/dev/null
    done
    exit 1
}

# mesh_cpu_s: CPU seconds so far of all our programs, user and system.
mesh_cpu_s() {
    local pid
    for pid in "${MESH_PIDS[@]}"; do
        cat "/proc/$pid/stat" 2>/dev/null
    done | awk -v tick="$(getconf CLK_TCK)" '{ sub(/.*\) /, ""); total += $12 + $13 } END { print total / tick }'
}

# mesh_alive: every program that was started still runs.
mesh_alive() {
    local name dead=
    for name in "${!MESH_PIDS[@]}"; do
        kill -0 "${MESH_PIDS[$name]}" 2>/dev/null || dead="$dead $name"
    done
    [ -z "$dead" ] || {
        echo "ended by themselves:$dead"
        return 1
    }
}

# ---- traffic from the client's namespace, through the TUN ----

mesh_curl() {
    lab_in client curl --noproxy '*' -sS --connect-timeout 10 --max-time 60 "$@"
}

# mesh_curl_name ADDRESS CURL-ARGUMENT...: the name as DNS answered it
mesh_curl_name() {
    local address=$1
    shift
    mesh_curl --resolve "$LAB_WEB_NAME:80:$address" "$@"
}

mesh_dns() {
    lab_in client "$LAB_PYTHON" "$LAB_TOOL" dns "$MESH_GATEWAY4" "$LAB_WEB_NAME" "${1:-A}"
}

# mesh_ping_ms ADDRESS COUNT: average round trip
mesh_ping_ms() {
    lab_in client ping -n -q -i 0.05 -W 3 -c "$2" "$1" |
        awk -F/ '/^rtt/ { print $5; ok = 1 } END { exit !ok }'
}

# mesh_iperf OUTPUT OPTION...: one iperf3 run to the web node, JSON to OUTPUT; waits while the server is busy.
mesh_iperf() {
    local output=$1 try
    shift
    for try in 1 2 3 4 5; do
        lab_in client timeout 60 iperf3 -c "$(lab_addr4 web)" -J "$@" >"$output" && return 0
        grep -q 'busy' "$output" || break
        sleep "0.$try"
    done
    mesh_get error <"$output" >&2
    return 1
}
