# shellcheck shell=bash
# A small internet in network namespaces; sourced by the scripts beside it (bash).
#
#            +------------------------------ inet (router) ------------------------------+
#            |       |       |       |       |       |       |       |       |           |
#         client   boot    disc    alder   birch   cedar   elm*    maple    oak         web
#                  entry  crawler  relay   relay   relay   relay   exit     exit   page, DNS, iperf3
#
# *, disc: only in labs that ask for them (LAB_ENTRIES, LAB_RELAYS); likewise hazel, pine and rowan. "away" is
# where a client goes that leaves its place.
#
# Each node sits in a /16 (IPv4) and /32 (IPv6) of its own, globally routable-looking, so that no
# address rule is switched off for the tests. Every wire is a veth pair or, on demand, a linkem
# (bad link). Interface names live inside the namespaces only, the namespaces are named after this
# run, and nothing outside them is touched: labs run side by side.
#
#     . lab.sh; lab_begin; lab_internet; lab_services; ...      clean-up is by trap
#
# nsenter instead of "ip netns exec", which remounts /sys and so fails inside a plain chroot.

LAB_HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
LAB_ROOT=$(cd "$LAB_HERE/../.." && pwd)
LAB_BUILD=${MVPN_BUILD:-$LAB_ROOT/build/release}
LAB_PYTHON=/usr/bin/python3
[ -x "$LAB_PYTHON" ] || LAB_PYTHON=python3
LAB_TOOL=$LAB_HERE/lab_tool.py
LAB_MTU=1500
LAB_RELAYS="alder birch cedar maple oak"
LAB_EXITS="maple oak"
LAB_ENTRIES="boot"
LAB_PORT=4242
LAB_WEB_NAME=web.lab.example
LAB_DIR=
LAB_ID=
LAB_LOCK_FD=
LAB_PIDS=()
LAB_NODES=()

# Odd digits throughout: the memory test greps for these as text and as bytes.
lab_addr4() {
    case $1 in
    client) echo 11.233.171.77 ;;
    web) echo 11.201.158.93 ;;
    dns) echo 11.201.158.53 ;;
    alder) echo 11.21.140.11 ;;
    birch) echo 11.32.140.12 ;;
    cedar) echo 11.43.140.13 ;;
    maple) echo 11.54.140.14 ;;
    oak) echo 11.65.140.15 ;;
    elm) echo 11.76.140.16 ;;
    boot) echo 11.87.140.17 ;;
    disc) echo 11.98.140.18 ;;
    fig) echo 11.233.140.19 ;;
    hazel) echo 11.109.140.20 ;;
    pine) echo 11.110.140.21 ;;
    rowan) echo 11.121.140.22 ;;
    away) echo 11.132.171.79 ;;
    *) return 1 ;;
    esac
}

lab_addr6() {
    case $1 in
    client) echo 2a10:e9c7:5b1d:9a3e:71c4:d2f6:83b5:c7d5 ;;
    web) echo 2a10:c95e:7fb1:4d2a:b6e3:95c8:1f7d:93f7 ;;
    dns) echo 2a10:c95e:7fb1:4d2a:b6e3:95c8:1f7d:5353 ;;
    alder) echo 2a10:21::11 ;;
    birch) echo 2a10:32::12 ;;
    cedar) echo 2a10:43::13 ;;
    maple) echo 2a10:54::14 ;;
    oak) echo 2a10:65::15 ;;
    elm) echo 2a10:76::16 ;;
    boot) echo 2a10:87::17 ;;
    disc) echo 2a10:98::18 ;;
    fig) echo 2a10:e9c7::19 ;;
    hazel) echo 2a10:109::20 ;;
    pine) echo 2a10:110::21 ;;
    rowan) echo 2a10:121::22 ;;
    away) echo 2a10:132:5b1d::79 ;;
    *) return 1 ;;
    esac
}

lab_country() {
    case $1 in
    alder) echo NL ;;
    birch) echo SE ;;
    cedar) echo RO ;;
    maple) echo IS ;;
    oak) echo CH ;;
    elm) echo DE ;;
    fig) echo FR ;;
    hazel) echo FI ;;
    pine) echo AT ;;
    rowan) echo NO ;;
    esac
}

lab_is_exit() {
    case " $LAB_EXITS " in *" $1 "*) return 0 ;; esac
    return 1
}

lab_say() {
    echo "$*" >&2
}

lab_die() {
    lab_say "error: $*"
    exit 1
}

# ---- begin and end ----

# End what an earlier run left that was killed too hard to clean up: its lock is free.
lab_sweep() {
    local dir id ns pid
    for dir in "${TMPDIR:-/tmp}"/meshvpn-lab.*; do
        [ -e "$dir/lock" ] && flock -n "$dir/lock" true 2>/dev/null || continue
        id=${dir##*.}
        for ns in /run/netns/mvpn-"$id"-*; do
            [ -e "$ns" ] || continue
            for pid in $(ip netns pids "${ns##*/}" 2>/dev/null); do
                kill -KILL "$pid" 2>/dev/null
            done
            ip netns delete "${ns##*/}" 2>/dev/null
        done
        rm -rf "/etc/netns/mvpn-$id-client" "$dir"
    done
    return 0
}

lab_begin() {
    [ "$(id -u)" = 0 ] || lab_die "the lab needs root (network namespaces); use ./run"
    if [ ! -e /dev/net/tun ]; then
        mkdir -p /dev/net && mknod /dev/net/tun c 10 200 || lab_die "no /dev/net/tun"
    fi
    lab_sweep
    LAB_DIR=$(mktemp -d "${TMPDIR:-/tmp}/meshvpn-lab.XXXXXX") || lab_die "no temporary directory"
    LAB_ID=${LAB_DIR##*.}
    trap lab_end EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    # Locked before it gets its name, so that a sweep never meets it unlocked.
    exec {LAB_LOCK_FD}>"$LAB_DIR/lock.new"
    flock "$LAB_LOCK_FD" && mv "$LAB_DIR/lock.new" "$LAB_DIR/lock"
    mkdir "$LAB_DIR/log"
}

lab_end() {
    local status=$? node pid
    trap '' HUP INT TERM
    trap - EXIT
    for pid in "${LAB_PIDS[@]}"; do
        kill -TERM "$pid" 2>/dev/null
    done
    lab_wait_gone 30 "${LAB_PIDS[@]}" || for pid in "${LAB_PIDS[@]}"; do
        kill -KILL "$pid" 2>/dev/null
    done
    wait 2>/dev/null
    for node in "${LAB_NODES[@]}"; do
        # What a program of ours started itself and left behind.
        for pid in $(ip netns pids "$(lab_ns "$node")" 2>/dev/null); do
            kill -KILL "$pid" 2>/dev/null
        done
        ip netns delete "$(lab_ns "$node")" 2>/dev/null
    done
    rm -rf "/etc/netns/$(lab_ns client)"
    rmdir /etc/netns 2>/dev/null
    if [ -n "${LAB_KEEP:-}" ]; then
        lab_say "kept: $LAB_DIR"
    else
        rm -rf "$LAB_DIR"
    fi
    exit "$status"
}

# lab_wait_gone TENTHS PID...: wait for children to end.
lab_wait_gone() {
    local tenths=$1 pid alive
    shift
    while [ "$tenths" -gt 0 ]; do
        alive=
        for pid in "$@"; do
            kill -0 "$pid" 2>/dev/null && alive=1
        done
        [ -z "$alive" ] && return 0
        sleep 0.1
        tenths=$((tenths - 1))
    done
    return 1
}

# ---- namespaces and wires ----

lab_ns() {
    echo "mvpn-$LAB_ID-$1"
}

# lab_in NODE COMMAND...: run in the node's network.
lab_in() {
    local node=$1
    shift
    nsenter --net="/run/netns/mvpn-$LAB_ID-$node" -- "$@"
}

# lab_spawn NODE LOG COMMAND...: start in the background; the process id is left in LAB_PID.
# An empty environment: its strings would lie in the program's memory and in the memory test's way.
lab_spawn() {
    local node=$1 log=$2
    shift 2
    nsenter --net="/run/netns/mvpn-$LAB_ID-$node" -- env -i PATH="$PATH" LC_ALL=C.UTF-8 \
        ${ASAN_OPTIONS:+ASAN_OPTIONS="$ASAN_OPTIONS"} "$@" \
        </dev/null >>"$LAB_DIR/log/$log.log" 2>&1 {LAB_LOCK_FD}>&- &
    LAB_PID=$!
    LAB_PIDS+=("$LAB_PID")
}

# lab_stop PID [SIGNAL]: end one process of ours and wait for it.
lab_stop() {
    local pid=$1 other kept=()
    # All of it quiet: bash itself tells of a child that was killed, as soon as it sees it.
    {
        kill "-${2:-TERM}" "$pid"
        lab_wait_gone 50 "$pid" || kill -KILL "$pid"
        wait "$pid"
    } 2>/dev/null
    for other in "${LAB_PIDS[@]}"; do
        [ "$other" = "$pid" ] || kept+=("$other")
    done
    LAB_PIDS=("${kept[@]}")
    return 0
}

lab_node() {
    ip netns add "$(lab_ns "$1")" || lab_die "cannot make a network namespace"
    LAB_NODES+=("$1")
    lab_in "$1" sh -c 'ip link set lo up
        echo 0 >/proc/sys/net/ipv6/conf/all/accept_dad
        echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad
        for f in all default; do echo 0 >/proc/sys/net/ipv4/conf/$f/rp_filter; done' ||
        lab_die "cannot set up namespace $(lab_ns "$1")"
}

# lab_wire NODE ADDRESS4 ADDRESS6 [SETTING...]: join a node to the router; settings make it a linkem,
# its direction ab is the node's sending, its control FIFO $LAB_DIR/NODE.link.
lab_wire() {
    local node=$1 four=$2 six=$3 net4 net6
    shift 3
    net4=$(echo "$four" | cut -d. -f1-2)
    net6=$(echo "$six" | cut -d: -f1-2)
    if [ $# -gt 0 ]; then
        lab_linkem "$node" "$@"
    else
        lab_in "$node" ip link add eth0 mtu "$LAB_MTU" type veth peer name "$node" \
            mtu "$LAB_MTU" netns "$(lab_ns inet)" || lab_die "cannot make a veth pair"
    fi
    lab_in "$node" ip -batch - <<BATCH || lab_die "cannot set up the wire of $node"
addr add $four/16 dev eth0
addr add $six/32 dev eth0 nodad
link set eth0 up
BATCH
    lab_in inet ip -batch - <<BATCH || lab_die "cannot set up the wire of $node"
addr add $net4.0.1/16 dev $node
addr add $net6::1/32 dev $node nodad
link set $node up
BATCH
    lab_in "$node" ip -batch - <<BATCH || lab_die "cannot set up the wire of $node"
route add default via $net4.0.1
route add default via $net6::1
BATCH
}

lab_linkem() {
    local node=$1 ready tries=100
    shift
    [ -x "$LAB_BUILD/tests/netns/linkem" ] || lab_die "linkem is not built in $LAB_BUILD"
    ready=$LAB_DIR/log/linkem-$node.log
    : >"$ready"
    "$LAB_BUILD/tests/netns/linkem" --a "/run/netns/$(lab_ns "$node"):eth0" \
        --b "/run/netns/$(lab_ns inet):$node" --seed "${LAB_SEED:-1}" \
        --control "$LAB_DIR/$node.link" "$@" </dev/null >"$ready" 2>&1 {LAB_LOCK_FD}>&- &
    LAB_PID=$!
    LAB_PIDS+=("$LAB_PID")
    until grep -q '^ready' "$ready"; do
        kill -0 "$LAB_PID" 2>/dev/null || lab_die "linkem: $(cat "$ready")"
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || lab_die "linkem does not start"
        sleep 0.02
    done
}

# lab_neighbour NODE: on the client's own local network, which becomes a bridge of the router.
lab_neighbour() {
    local node=$1 four six
    four=$(lab_addr4 client | cut -d. -f1-2)
    six=$(lab_addr6 client | cut -d: -f1-2)
    lab_node "$node"
    lab_in "$node" ip link add eth0 mtu "$LAB_MTU" type veth peer name "$node" \
        mtu "$LAB_MTU" netns "$(lab_ns inet)" || lab_die "cannot make a veth pair"
    lab_in inet ip -batch - <<BATCH || lab_die "cannot make the client's local network"
link add lan type bridge mcast_snooping 0
addr del $four.0.1/16 dev client
addr del $six::1/32 dev client
link set client master lan
link set $node master lan
addr add $four.0.1/16 dev lan
addr add $six::1/32 dev lan nodad
link set $node up
link set lan up
BATCH
    lab_in "$node" ip -batch - <<BATCH || lab_die "cannot set up the wire of $node"
addr add $(lab_addr4 "$node")/16 dev eth0
addr add $(lab_addr6 "$node")/32 dev eth0 nodad
link set eth0 up
route add default via $four.0.1
route add default via $six::1
BATCH
}

# lab_link_set NODE SETTING...: change a running linkem.
lab_link_set() {
    local node=$1
    shift
    echo "$*" >"$LAB_DIR/$node.link"
}

# lab_internet: router, client, web, entries and relays. LAB_LINK_<node> holds linkem settings of its wire.
lab_internet() {
    local node settings
    lab_node inet
    lab_in inet sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward
        echo 1 >/proc/sys/net/ipv6/conf/all/forwarding'
    for node in client web $LAB_ENTRIES $LAB_RELAYS; do
        lab_node "$node"
        settings=LAB_LINK_$node
        # shellcheck disable=SC2086 # settings are words
        lab_wire "$node" "$(lab_addr4 "$node")" "$(lab_addr6 "$node")" ${!settings:-}
    done
    lab_in web ip -batch - <<BATCH
addr add $(lab_addr4 dns)/32 dev eth0
addr add $(lab_addr6 dns)/128 dev eth0 nodad
BATCH
}

# ---- services of the web node ----

# lab_services [MEGABYTES...]: page, DNS (with LAB_DNS_MORE: dnsmasq's options), iperf3, and random files /file/N of N MB.
LAB_DNS_MORE=()
lab_services() {
    local size
    mkdir -p "$LAB_DIR/www"
    for size in "$@"; do
        head -c $((size * 1000000)) /dev/urandom >"$LAB_DIR/www/$size"
    done
    lab_spawn web web "$LAB_PYTHON" "$LAB_TOOL" web --root "$LAB_DIR/www" --log "$LAB_DIR/web.seen"
    lab_spawn web dns dnsmasq --no-daemon --conf-file=/dev/null --no-resolv --no-hosts --user=root \
        --pid-file= --bind-interfaces --listen-address="$(lab_addr4 dns)" \
        --listen-address="$(lab_addr6 dns)" --address="/$LAB_WEB_NAME/$(lab_addr4 web)" \
        --address="/$LAB_WEB_NAME/$(lab_addr6 web)" --log-queries --log-facility=- "${LAB_DNS_MORE[@]}"
    lab_spawn web iperf3 iperf3 -s
    lab_wait_port web tcp 80
    lab_wait_port web tcp 5201
    lab_wait_port web udp 53
}

# lab_wait_port NODE tcp|udp PORT: until something listens there.
lab_wait_port() {
    local hex tries=200
    hex=$(printf ':%04X ' "$3")
    # States: TCP's LISTEN, and what UDP has. Connections that ended stay for a while.
    until lab_in "$1" cat "/proc/net/$2" "/proc/net/${2}6" | awk '$4 ~ /0A|07/ { print $2 " " }' | grep -q "$hex"; do
        tries=$((tries - 1))
        if [ "$tries" -le 0 ]; then
            return 1
        fi
        sleep 0.03
    done
}

# lab_sha256 MEGABYTES: of the file as it lies on the server.
lab_sha256() {
    sha256sum <"$LAB_DIR/www/$1" | cut -d' ' -f1
}

# ---- results ----

LAB_FAILED=0

# lab_check NAME COMMAND...: one "ok NAME" or "FAIL NAME" line, which ./run test counts.
lab_check() {
    local name=$1
    shift
    if "$@" >"$LAB_DIR/check.out" 2>&1; then
        echo "ok $name"
    else
        LAB_FAILED=$((LAB_FAILED + 1))
        echo "FAIL $name"
        tail -n 15 "$LAB_DIR/check.out" | sed 's/^/    /'
    fi
}
