#!/bin/sh
# The client and the exit as a build without lwIP's sources makes them: they say what is missing, and what mends it.
#
#     without_proxy_test.sh MESHVPN-BOOTSTRAP CLIENT EXIT-NODE
set -u
work=$(mktemp -d "${TMPDIR:-/tmp}/mvpn-without-proxy.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
fail() {
    echo "without_proxy_test: $*: $(cat "$work/said")"
    exit 1
}

{
    "$1" init "$work/net" --allow-private && "$1" add-node "$work/net" oak --exit --address 127.0.0.1:4 --listed
} >"$work/said" 2>&1 || fail "no network"
cat >"$work/client.conf" <<CONF
network_file = "$work/net/network.conf"
state_dir = "$work"
run_dir = "$work"
control_socket = "$work/sock"
CONF
timeout 20 "$2" --proxy --socks 1 --config "$work/client.conf" >"$work/said" 2>&1
[ $? = 1 ] || fail "--proxy does not fail with 1"
grep -q 'built without the proxy.*tools/fetch_lwip.sh' "$work/said" || fail "--proxy does not say why"
"$2" --check --config "$work/client.conf" >"$work/said" 2>&1 || fail "all else is not in order"

conf=$work/net/nodes/oak/exit.conf
sed -i -e '/^run_dir/d' -e '/^state_dir/d' -e '/^control_socket/d' -e '/^listen/d' -e '/^dns_upstream/d' "$conf"
cat >>"$conf" <<CONF
nat = user
listen = {"127.77.88.99:4242"}
dns_upstream = {"127.0.0.1:53"}
run_dir = "$work"
state_dir = "$work/state"
control_socket = "$work/sock"
CONF
timeout 20 "$3" --config "$conf" >"$work/said" 2>&1
[ $? = 1 ] || fail "nat = user does not fail with 1"
grep -q 'nat = user: .*built without it.*tools/fetch_lwip.sh' "$work/said" || fail "nat = user does not say why"
echo passed
