#!/bin/bash
# What an operator meets when something is wrong: each program says what, where and how to mend it, exits
# non-zero, and leaves nothing half set up. Prints "ok NAME" or "FAIL NAME".
#
#     errors.sh            one namespace of its own; MVPN_BUILD names the build directory
#
# nsenter instead of "ip netns exec", which remounts /sys and so fails inside a plain chroot.
set -u

build=${MVPN_BUILD:-$(cd "$(dirname "$0")/../.." && pwd)/build/release}
bin=$build/src/bin
ns=mvpn-err-$$
dir=$(mktemp -d "${TMPDIR:-/tmp}/meshvpn-errors.XXXXXX") || exit 1
pids=
failed=0

clean() {
    for pid in $pids; do
        kill "$pid" 2>/dev/null && wait "$pid" 2>/dev/null
    done
    ip netns del "$ns" 2>/dev/null
    rm -rf "$dir"
}
trap clean EXIT
trap 'exit 130' INT TERM HUP

in_ns() {
    timeout 10 nsenter --net="/run/netns/$ns" -- "$@"
}

ip netns add "$ns" || exit 1
in_ns ip link set lo up

# state: everything that a program could leave in the namespace
state() {
    in_ns ip link
    in_ns ip rule
    in_ns ip route show table all
    in_ns nft list ruleset
    in_ns sysctl net.ipv4.ip_forward net.ipv6.conf.all.forwarding 2>/dev/null
}

# refuses NAME CODE PATTERN COMMAND...: exits with CODE, says PATTERN, leaves the namespace as it was
refuses() {
    local name=$1 want=$2 pattern=$3 got before
    shift 3
    before=$(state)
    in_ns "$@" >"$dir/out" 2>&1
    got=$?
    if [ "$got" = "$want" ] && { [ -z "$pattern" ] || grep -qE "$pattern" "$dir/out"; } && [ "$before" = "$(state)" ]; then
        echo "ok $name"
        return
    fi
    echo "FAIL $name"
    echo "    exit code $got, wanted $want; wanted to read: $pattern" >&2
    sed 's/^/    /' "$dir/out" >&2
    diff <(echo "$before") <(state) | sed 's/^/    /' >&2
    failed=1
}

net=$dir/net
"$bin/meshvpn-bootstrap" init "$net" >/dev/null &&
    "$bin/meshvpn-bootstrap" add-node "$net" alder --address 11.1.0.1:443 --listed >/dev/null &&
    "$bin/meshvpn-bootstrap" add-node "$net" maple --address 11.2.0.1:443 --exit --listed >/dev/null || exit 1
relay=$net/nodes/alder
exit=$net/nodes/maple
client=$net/client.conf
for conf in "$relay/relay.conf" "$exit/exit.conf"; do
    sed -i '/^control_socket/d; /^listen/d' "$conf"
    {
        echo "run_dir = \"$dir/run\""
        echo "state_dir = \"$dir/run\""
        echo 'listen = {"127.0.0.1:4433"}'
    } >>"$conf"
done
echo "control_socket = \"$dir/alder.sock\"" >>"$relay/relay.conf"
{
    echo "control_socket = \"$dir/maple.sock\""
    echo 'dns_upstream = {"127.0.0.1:53"}'
} >>"$exit/exit.conf"
{
    echo "control_socket = \"$dir/client.sock\""
    echo "run_dir = \"$dir/run\""
} >>"$client"

with() { # with FILE LINE: a copy beside FILE with one more line
    cp "$1" "$1.bad"
    echo "$2" >>"$1.bad"
    echo "$1.bad"
}

refuses "client: unknown key is refused with file and line" 2 'client.conf.bad:[0-9]+: .*hopps.*hops' \
    "$bin/meshvpn-client" --config "$(with "$client" 'hopps = 3')"
refuses "client: bad value is refused with file and line" 2 'client.conf.bad:[0-9]+: hops.*1 to 5' \
    "$bin/meshvpn-client" --config "$(with "$client" 'hops = 7')"
refuses "relay: missing configuration" 2 'nowhere.conf' "$bin/meshvpn-relay" --config "$dir/nowhere.conf"
refuses "relay: no network file" 2 'gone.conf' "$bin/meshvpn-relay" --config "$(with "$relay/relay.conf" '' | xargs -I{} sh -c 'sed -i "s/^network_file.*/network_file = \"gone.conf\"/" {}; echo {}')"
chmod 644 "$relay/link.key"
refuses "relay: world-readable key names the remedy" 2 'link.key.*chmod 600' "$bin/meshvpn-relay" --config "$relay/relay.conf"
chmod 600 "$relay/link.key"
mv "$relay/onion.key" "$relay/onion.away"
refuses "relay: missing key file is named" 2 'onion.key' "$bin/meshvpn-relay" --config "$relay/relay.conf"
mv "$relay/onion.away" "$relay/onion.key"
cp "$relay/link.key" "$relay/link.away"
echo "meshvpn-link-1 AAAA" >"$relay/link.key"
refuses "relay: damaged key file is named" 2 'link.key' "$bin/meshvpn-relay" --config "$relay/relay.conf"
mv "$relay/link.away" "$relay/link.key"
chmod 644 "$net/network.conf"
refuses "client: world-readable network secret names the remedy" 2 'network.conf.*chmod 600' "$bin/meshvpn-client" --config "$client"
chmod 600 "$net/network.conf"
refuses "exit: bad policy rule is refused with its line" 2 'exit.conf.bad:[0-9]+: policy' \
    "$bin/meshvpn-exit-node" --config "$(with "$exit/exit.conf" 'policy = {"reject tcp * 70000"}')"

# network_file NAME SED-SCRIPT: a client whose network file was changed so; prints its configuration
network_file() {
    mkdir -p "$dir/$1"
    cp "$found/client.conf" "$dir/$1/"
    sed "$2" "$found/network.conf" >"$dir/$1/network.conf"
    chmod 600 "$dir/$1/network.conf"
    echo "control_socket = \"$dir/client.sock\"" >>"$dir/$1/client.conf"
    echo "$dir/$1/client.conf"
}

found=$dir/found
"$bin/meshvpn-bootstrap" init "$found" --dns entries.example.org >/dev/null &&
    "$bin/meshvpn-bootstrap" add-node "$found" boot --bootstrap --address 11.3.0.1:443 >/dev/null || exit 1
refuses "client: a network file that names nobody" 1 'names nobody to begin with.*meshvpn join LINK' \
    "$bin/meshvpn-client" --config "$(network_file empty '/^entries/,/^}/d; /^dns/d')"
refuses "client: an altered entry is named" 2 'network.conf:[0-9]+: entries: entry 1 was altered' \
    "$bin/meshvpn-client" --config "$(network_file altered '/^    "/s/"..../"AAAA/')"
refuses "client: an entry cut off is named" 2 'network.conf:[0-9]+: entries: entry 1 is not an entry' \
    "$bin/meshvpn-client" --config "$(network_file cut '/^    "/s/"...../"/')"
refuses "client: a bad discovery URL" 2 "network.conf:[0-9]+: discovery: 'ftp://x' is no URL" \
    "$bin/meshvpn-client" --config "$(network_file url '$adiscovery = {"ftp://x"}')"
refuses "client: a bad name of DNS" 2 "network.conf:[0-9]+: dns: 'a b' is no name" \
    "$bin/meshvpn-client" --config "$(network_file name 's/^dns.*/dns = "a b"/')"
refuses "client: a network key cut off" 2 'network.conf:[0-9]+: network_key: not a key.*Copy the line again' \
    "$bin/meshvpn-client" --config "$(network_file key '/^network_key/s/"...../"/')"
link=$("$bin/meshvpn-bootstrap" invite "$found" --days 1 --no-qr 2>/dev/null)
refuses "join: an expired invitation names its date" 3 'expired on [0-9-]+ .* UTC. Ask for a new one, or set' \
    env LD_PRELOAD="$build/tests/netns/clock_shift.so" CLOCK_SHIFT_S=90000 "$bin/meshvpn" join "$link" --config-dir "$dir/join"
refuses "join: an invitation cut off" 1 'not whole' "$bin/meshvpn" join "${link%?????}" --config-dir "$dir/join"
refuses "join: an invitation with a typing error" 1 'typing error' "$bin/meshvpn" join "$(echo "$link" | sed 's/A/B/')" --config-dir "$dir/join"
refuses "join: not an invitation" 1 'no invitation' "$bin/meshvpn" join hello --config-dir "$dir/join"
refuses "join: nothing was written" 1 '' test -e "$dir/join"

nsenter --net="/run/netns/$ns" -- python3 -c '
import socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("127.0.0.1", 4433))
time.sleep(120)' &
pids="$pids $!"
for _ in $(seq 100); do # 4433
    in_ns cat /proc/net/udp | grep -q ':1151 ' && break
    sleep 0.1
done
refuses "relay: port in use" 1 'uses UDP port 4433' "$bin/meshvpn-relay" --config "$relay/relay.conf"
refuses "exit: port in use, and its NAT is taken back" 1 'uses UDP port 4433' "$bin/meshvpn-exit-node" --config "$exit/exit.conf"

cp -r "$net" "$dir/nobody" && chown -R nobody "$dir/nobody" && chmod 755 "$dir"
refuses "client: no rights" 1 '(root|CAP_NET_ADMIN|permitted)' \
    setpriv --reuid=65534 --regid=65534 --clear-groups "$bin/meshvpn-client" --config "$dir/nobody/client.conf"
refuses "exit: no rights" 1 '(root|CAP_NET_ADMIN|permitted)' \
    setpriv --reuid=65534 --regid=65534 --clear-groups "$bin/meshvpn-exit-node" --config "$dir/nobody/nodes/maple/exit.conf"
# A mount namespace in which the device is not there.
refuses "client: no /dev/net/tun" 1 '/dev/net/tun' \
    unshare -m --propagation unchanged sh -c "mount --make-rprivate /dev && mount -t tmpfs none /dev/net && exec '$bin/meshvpn-client' --config '$client'"
refuses "exit: no /dev/net/tun" 1 '/dev/net/tun' \
    unshare -m --propagation unchanged sh -c "mount --make-rprivate /dev && mount -t tmpfs none /dev/net && exec '$bin/meshvpn-exit-node' --config '$exit/exit.conf'"
refuses "circuit new: no daemon" 4 'no MeshVPN daemon|No daemon' "$bin/meshvpn" circuit new --control "$dir/none.sock"
refuses "ping: no daemon" 4 'Start the client: sudo meshvpn up' "$bin/meshvpn" ping maple --control "$dir/none.sock"
refuses "status: no daemon" 4 'no MeshVPN daemon|No daemon' "$bin/meshvpn" status --control "$dir/none.sock"

exit "$failed"
