#!/bin/sh
# Makes a network with meshvpn-bootstrap in a directory of its own and looks at the result.
# Arguments: the programs meshvpn-bootstrap and meshvpn.
set -eu
bootstrap=$1
meshvpn=$2
dir=$(mktemp -d /tmp/mvpn-bootstrap-test.XXXXXX)
trap 'rm -rf "$dir"' EXIT INT TERM
umask 022

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

# refused STATUS TEXT COMMAND...: it fails with that status and says that.
refused() {
    want=$1
    text=$2
    shift 2
    status=0
    "$@" >"$dir/out" 2>"$dir/err" || status=$?
    [ "$status" = "$want" ] || fail "$* ended with $status, not $want: $(cat "$dir/err")"
    grep -qF -- "$text" "$dir/err" || fail "$* did not say \"$text\" but: $(cat "$dir/err")"
    [ ! -s "$dir/out" ] || fail "$* printed an error's talk to stdout"
}

mode() {
    [ "$(stat -c %a "$2")" = "$1" ] || fail "$2 has mode $(stat -c %a "$2"), not $1"
}

net=$dir/net
refused 1 "holds no network" "$bootstrap" add-node "$net" a --address 11.1.0.1:443
"$bootstrap" init "$net" --name "test net" >/dev/null
mode 600 "$net/keys/network.key"
mode 600 "$net/network.conf"
mode 700 "$net/keys"
cp "$net/network.conf" "$dir/before"
refused 1 "nothing was changed" "$bootstrap" init "$net"
cmp -s "$net/network.conf" "$dir/before" || fail "a refused init changed network.conf"

# Nodes.
"$bootstrap" add-node "$net" guard-1 --address 11.1.0.1:443 --country CH --bandwidth-mbit 1000 >/dev/null
"$bootstrap" add-node "$net" middle-1 --address 11.2.0.1:443 --address '[2a10:2::1]:443' --provider "Hoster 2" >/dev/null
"$bootstrap" add-node "$net" exit-1 --address 11.3.0.1:443 --exit --country SE >/dev/null
refused 1 "not reachable from the public internet" "$bootstrap" add-node "$net" x --address 10.0.0.1:443
refused 1 "has a node exit-1 already: nothing was changed" "$bootstrap" add-node "$net" exit-1 --address 11.9.0.1:443
refused 1 "is the address of node guard-1 already" "$bootstrap" add-node "$net" x --address 11.1.0.1:443
refused 2 "not a name" "$bootstrap" add-node "$net" 'Exit 2' --address 11.9.0.1:443
refused 2 "needs --address" "$bootstrap" add-node "$net" x
refused 2 "no option --adress" "$bootstrap" add-node "$net" x --adress 11.9.0.1:443
refused 2 "an address with a port is expected" "$bootstrap" add-node "$net" x --address 11.9.0.1
refused 2 "two upper-case letters" "$bootstrap" add-node "$net" x --address 11.9.0.1:1 --country ch
refused 2 "a number from 1 to 3650" "$bootstrap" add-node "$net" x --address 11.9.0.1:1 --days 0
refused 2 "is no command" "$bootstrap" ad-node
[ ! -e "$net/nodes/x" ] || fail "a refused add-node left a directory"

for node in guard-1 middle-1 exit-1; do
    for key in identity.key link.key onion.key network.conf; do
        mode 600 "$net/nodes/$node/$key"
    done
    cmp -s "$net/network.conf" "$net/nodes/$node/network.conf" || fail "$node has an old network.conf"
done

# A copied directory is complete.
cp -a "$net/nodes/exit-1" "$dir/server"
"$meshvpn" config check exit "$dir/server/exit.conf" | grep -q 'good. Network "test net" with 3 relays' || fail "exit.conf"
"$meshvpn" config check relay "$net/nodes/middle-1/relay.conf" >/dev/null
"$meshvpn" config check client "$net/client.conf" >/dev/null
grep -qF 'listen = {"0.0.0.0:443", "[::]:443"}' "$net/nodes/middle-1/relay.conf" || fail "listen of middle-1"
"$bootstrap" show "$net" >"$dir/show"
for text in 'network "test net" (closed)' '3 nodes' 'guard middle CH' 'guard middle exit SE' '11.2.0.1:443 [2a10:2::1]:443' 'provider Hoster 2' 'bandwidth 1000 Mbit/s'; do
    grep -qF "$text" "$dir/show" || fail "show does not print: $text"
done

# A network file that others may read is refused, with the remedy; so is an altered one.
chmod 644 "$dir/server/network.conf"
refused 1 "chmod 600 $dir/server/network.conf" "$meshvpn" config check exit "$dir/server/exit.conf"
chmod 600 "$dir/server/network.conf"
sed -i 's/^network_key = "./network_key = "/' "$dir/server/network.conf"
refused 1 "network.conf:5: network_key: not a key" "$meshvpn" config check exit "$dir/server/exit.conf"
echo "hosp = 3" >>"$net/client.conf"
refused 1 "unknown key 'hosp'. Did you mean 'hops'?" "$meshvpn" config check client "$net/client.conf"

# Renewal keeps the keys and raises the sequence.
cp "$net/nodes/exit-1/onion.key" "$dir/onion"
before=$(sha256sum <"$net/network.conf")
"$bootstrap" renew "$net" exit-1 --days 30 >/dev/null
[ "$before" != "$(sha256sum <"$net/network.conf")" ] || fail "renew changed nothing"
cmp -s "$net/nodes/exit-1/onion.key" "$dir/onion" || fail "renew changed a key"
cmp -s "$net/nodes/guard-1/network.conf" "$net/network.conf" || fail "renew left an old network.conf"
rm "$net/nodes/exit-1/identity.key"
refused 1 "identity.key is missing" "$bootstrap" renew "$net" exit-1

# Private and open networks.
"$bootstrap" init "$dir/lab" --allow-private --relax same-16 >/dev/null
"$bootstrap" add-node "$dir/lab" a --address 10.0.0.1:443 >/dev/null
"$bootstrap" show "$dir/lab" | grep -qF 'relaxed rules: same-16' || fail "relax"
"$meshvpn" config check relay "$dir/lab/nodes/a/relay.conf" >/dev/null
"$bootstrap" init "$dir/open" --open >/dev/null
"$bootstrap" add-node "$dir/open" a --address 11.0.0.1:443 >/dev/null
[ ! -e "$dir/open/nodes/a/membership.cert" ] || fail "an open network has memberships"
mode 644 "$dir/open/network.conf"
"$meshvpn" config check relay "$dir/open/nodes/a/relay.conf" >/dev/null

# The status command without a daemon.
refused 4 "No daemon runs here" "$meshvpn" status --control "$dir/none.sock"
refused 2 "status has no option" "$meshvpn" status --jsn
"$meshvpn" help | grep -q 'meshvpn status' || fail "help"
"$meshvpn" --version | grep -q '^meshvpn [0-9]' || fail "version"
"$bootstrap" help | grep -q 'add-node' || fail "help of bootstrap"
echo passed
