#!/bin/bash
# meshvpn relay enable: a relay of an open network at once, of a closed one when its operator has admitted it; both run
# and are published. Works in a network namespace of its own; needs root.
#
#     relay_enable_test.sh DIRECTORY-OF-PROGRAMS
set -u
if [ "$(id -u)" != 0 ]; then
    echo "relay_enable_test: skipped: needs root"
    exit 77
fi
if [ "${RELAY_ENABLE_TEST_INSIDE:-}" != 1 ]; then
    RELAY_ENABLE_TEST_INSIDE=1 exec unshare -n "$0" "$@"
fi
ip link set lo up
bin=$(realpath "$1") || exit 1
dir=$(mktemp -d) || exit 1
pids=
failed=0

clean() {
    for pid in $pids; do
        kill "$pid" 2>/dev/null && wait "$pid" 2>/dev/null
    done
    rm -rf "$dir"
}
trap clean EXIT

fail() {
    echo "relay_enable_test: $*" >&2
    sed 's/^/    /' "$dir/out" >&2
    failed=1
}

# does NAME PATTERN COMMAND...; refuses NAME CODE PATTERN COMMAND...
does() {
    local name=$1 pattern=$2
    shift 2
    "$@" >"$dir/out" 2>&1 || fail "$name: exit status $?"
    grep -qF -- "$pattern" "$dir/out" || fail "$name: does not say: $pattern"
}
refuses() {
    local name=$1 code=$2 pattern=$3
    shift 3
    "$@" >"$dir/out" 2>&1
    [ $? = "$code" ] || fail "$name: wrong exit status"
    grep -qF -- "$pattern" "$dir/out" || fail "$name: does not say: $pattern"
}

# conf NODE KIND LINE...: of a program that runs here
conf() {
    local file=$1/$2.conf key
    shift 2
    for line in "$@"; do
        key=${line%% *}
        sed -i "/^$key /d" "$file"
        echo "$line" >>"$file"
    done
}

# begins NAME PROGRAM FILE
begins() {
    "$bin/$2" --config "$3" >"$dir/$1.log" 2>&1 &
    pids="$pids $!"
    for _ in $(seq 100); do
        "$bin/meshvpn" status --control "$dir/$1.sock" >/dev/null 2>&1 && return
        sleep 0.1
    done
    cat "$dir/$1.log" >&2
    fail "$1 does not start"
}

# is_published NAME
is_published() {
    for _ in $(seq 150); do
        "$bin/meshvpn" relay status --json --control "$dir/$1.sock" 2>/dev/null | grep -q '"is_published":true' && return
        sleep 0.1
    done
    cat "$dir/$1.log" >&2
    fail "$1 is not published"
}

for mode in open closed; do
    net=$dir/$mode
    etc=$dir/etc-$mode
    [ "$mode" = open ] && port=4201 || port=4301
    options=(--allow-private)
    [ "$mode" = open ] && options+=(--open)
    does "$mode: init" "" "$bin/meshvpn-bootstrap" init "$net" "${options[@]}"
    does "$mode: entry" "" "$bin/meshvpn-bootstrap" add-node "$net" "entry-$mode" --bootstrap --address "127.2.0.1:$port"
    node=$net/nodes/entry-$mode
    conf "$node" bootstrap "run_dir = \"$dir/run\"" "state_dir = \"$dir/state-entry-$mode\"" \
        "control_socket = \"$dir/entry-$mode.sock\"" "listen = {\"127.2.0.1:$port\"}"
    begins "entry-$mode" meshvpn-dht-bootstrap "$node/bootstrap.conf"
    refuses "$mode: before joining" 1 "become a member of a network first" "$bin/meshvpn" relay enable --config-dir "$etc"
    "$bin/meshvpn-bootstrap" invite "$net" --no-qr | "$bin/meshvpn" join - --config-dir "$etc" >"$dir/out" 2>&1 || fail "$mode: join"
done

# --- open ---
etc=$dir/etc-open
relay() { "$bin/meshvpn" relay enable --config-dir "$etc" "$@"; }
refuses "a rate" 2 "write 50mbit or 1gbit" relay --rate fast
refuses "no rate" 2 "write 50mbit or 1gbit" relay --rate 0mbit
refuses "a quota" 2 "write 1T/month" relay --exit default --quota 1P
refuses "a relay's quota" 2 "--quota is kept by exits" relay --quota 1T/month
refuses "an address" 2 "an address with a port is expected" relay --address 127.5.0.1
refuses "a name" 2 "use 1 to 24 of a-z" relay --name Elm --address 127.5.0.1:4205
refuses "a policy" 1 "cannot open" relay --exit "$dir/none" --address 127.5.0.1:4205
refuses "too early" 2 "comes after a first" relay --certificate "$dir/x"
compgen -G "$etc/[re]*.conf" >/dev/null && fail "a refusal left a configuration"
does "a relay" 'a relay, "elm" of network' relay --address 127.5.0.1:4205 --rate 50mbit --name elm
grep -q "sudo meshvpn-relay --config $etc/relay.conf" "$dir/out" || fail "how it is started"
does "it is good" "good" "$bin/meshvpn" config check relay "$etc/relay.conf"
does "its rate" "relay_limit = 50 " "$bin/meshvpn" config show relay "$etc/relay.conf"
for file in identity.key link.key onion.key; do
    [ "$(stat -c %a "$etc/relay/$file")" = 600 ] || fail "mode of $file"
done
[ "$(stat -c %a "$etc/relay")" = 700 ] || fail "mode of the keys' directory"
identity=$(cat "$etc/relay/identity.key")
does "again" "as it was" relay
[ "$identity" = "$(cat "$etc/relay/identity.key")" ] || fail "another identity"
refuses "an exit of a relay" 1 "is a relay already" relay --exit default
conf "$etc" relay "run_dir = \"$dir/run\"" "state_dir = \"$dir/state-elm\"" "control_socket = \"$dir/elm.sock\"" 'listen = {"127.5.0.1:4205"}'
begins elm meshvpn-relay "$etc/relay.conf"
is_published elm

# --- closed ---
etc=$dir/etc-closed
cd "$dir" || exit 1
does "an exit, to be admitted" "meshvpn-bootstrap admit DIR request" relay --exit default --quota 1T/month --address 127.6.0.1:4306 --name oak
does "its quota" "monthly_quota = 1000 " "$bin/meshvpn" config show exit "$etc/exit.conf"
refuses "not yet" 2 "membership.cert" "$bin/meshvpn-exit-node" --check --config "$etc/exit.conf"
if grep -q "$(awk '{ print $2 }' "$etc/relay/identity.key")" "$etc/relay/request"; then fail "the request holds a secret"; fi
refuses "of another network" 1 "the network is open" "$bin/meshvpn-bootstrap" admit "$dir/open" "$etc/relay/request"
sed 's/.$/x/' "$etc/relay/request" >"$dir/altered"
refuses "no request" 1 "meshvpn" "$bin/meshvpn-bootstrap" admit "$dir/closed" "$dir/altered"
does "admitted" "Admitted oak as an exit" "$bin/meshvpn-bootstrap" admit "$dir/closed" "$etc/relay/request"
refuses "twice" 1 "there is a node oak already" "$bin/meshvpn-bootstrap" admit "$dir/closed" "$etc/relay/request"
does "its next membership" "Admitted oak" "$bin/meshvpn-bootstrap" admit "$dir/closed" "$etc/relay/request" --force
refuses "another's membership" 1 "is no membership of this relay" relay --certificate "$dir/closed/nodes/entry-closed/membership.cert"
does "its membership" "sudo meshvpn-exit-node --config $etc/exit.conf" relay --certificate "$dir/oak.membership"
conf "$etc" exit "run_dir = \"$dir/run\"" "state_dir = \"$dir/state-oak\"" "control_socket = \"$dir/oak.sock\"" 'listen = {"127.6.0.1:4306"}' \
    'tun_name = xoak0' 'dns_upstream = {"127.0.0.1:53"}' 'ipv6 = no'
begins oak meshvpn-exit-node "$etc/exit.conf"
is_published oak
does "revoked" "oak is revoked" "$bin/meshvpn-bootstrap" revoke "$dir/closed" oak
does "and admitted anew" "Admitted oak" "$bin/meshvpn-bootstrap" admit "$dir/closed" "$etc/relay/request"

# --- at home, by nobody's choice: this namespace has no address but loopback ---
etc=$dir/etc-home
cp -r "$dir/etc-open" "$etc"
rm -r "$etc/relay" "$etc/relay.conf"
does "behind a NAT" "behind a NAT" relay
grep -q '^behind_nat = true' "$etc/relay.conf" || fail "it is not at home"
grep -qE '^name = relay-[0-9a-f]{6}$' "$etc/relay.conf" || fail "its name"
does "it is good" "good" "$bin/meshvpn" config check relay "$etc/relay.conf"

# --- where systemd runs: a stand-in for systemctl; the keys become the program's user's ---
printf '#!/bin/sh\necho "$0" "$@"\nexit ${SYSTEMCTL:-0}\n' >"$dir/systemctl"
chmod 755 "$dir/systemctl"
mkdir "$dir/upper" "$dir/work"
with_systemd() {
    # shellcheck disable=SC2016 # expands inside
    unshare -m sh -c 'mount -t tmpfs none /run && mkdir -p /run/systemd/system &&
        touch /run/systemd/system/meshvpn-relay.service &&
        mount -t overlay none -o lowerdir=/etc,upperdir="$0/upper",workdir="$0/work" /etc &&
        mkdir -p /etc/meshvpn && cp -n "$0/etc-open/network.conf" /etc/meshvpn/ &&
        { getent passwd meshvpn >/dev/null || echo "meshvpn:x:61234:61234::/:/bin/false" >>/etc/passwd; } &&
        PATH=$0:$PATH "$@" && stat -c "%U %a" /etc/meshvpn/relay/link.key /etc/meshvpn/network.conf' "$dir" "$@"
}
does "systemd starts it" "$dir/systemctl enable --now meshvpn-relay.service" with_systemd "$bin/meshvpn" relay enable --home
[ "$(tail -2 "$dir/out" | tr '\n' ' ')" = "meshvpn 600 root 644 " ] || fail "owners: $(tail -2 "$dir/out")"
SYSTEMCTL=1 refuses "systemd fails" 1 "systemctl enable --now meshvpn-relay.service failed" with_systemd "$bin/meshvpn" relay enable

[ "$failed" = 0 ] && echo passed
exit "$failed"
