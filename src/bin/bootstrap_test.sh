#!/bin/sh
# Makes a network with meshvpn-bootstrap in a directory of its own and looks at the result.
# Arguments: the programs meshvpn-bootstrap, meshvpn, meshvpn-relay and blake3_sum.
set -eu
bootstrap=$(realpath "$1")
meshvpn=$(realpath "$2")
relay=$(realpath "$3")
blake3=$(realpath "$4")
here=$(cd "$(dirname "$0")" && pwd)
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
"$bootstrap" add-node "$net" guard-1 --listed --address 11.1.0.1:443 --country CH --bandwidth-mbit 1000 >/dev/null
"$bootstrap" add-node "$net" middle-1 --listed --nat-relay --address 11.2.0.1:443 --address '[2a10:2::1]:443' --provider "Hoster 2" >/dev/null
"$bootstrap" add-node "$net" exit-1 --listed --address 11.3.0.1:443 --exit --country SE >/dev/null
refused 1 "not reachable from the public internet" "$bootstrap" add-node "$net" x --address 10.0.0.1:443
refused 1 "has a node exit-1 already: nothing was changed" "$bootstrap" add-node "$net" exit-1 --address 11.9.0.1:443
refused 1 "is the address of node guard-1 already" "$bootstrap" add-node "$net" x --address 11.1.0.1:443
refused 2 "not a name" "$bootstrap" add-node "$net" 'Exit 2' --address 11.9.0.1:443
refused 2 "needs --address" "$bootstrap" add-node "$net" x
refused 2 "no option '--adress'. Did you mean '--address'?" "$bootstrap" add-node "$net" x --adress 11.9.0.1:443
refused 2 "an address with a port is expected" "$bootstrap" add-node "$net" x --address 11.9.0.1
refused 2 "two upper-case letters" "$bootstrap" add-node "$net" x --address 11.9.0.1:1 --country ch
refused 2 "a number from 1 to 3650" "$bootstrap" add-node "$net" x --address 11.9.0.1:1 --days 0
refused 2 "is one of --exit, --bootstrap and --discovery" "$bootstrap" add-node "$net" x --address 11.9.0.1:1 --exit --bootstrap
refused 2 "--listed, --nat-relay, --home, --country, --provider and --bandwidth-mbit are for" "$bootstrap" add-node "$net" x --address 11.9.0.1:1 --bootstrap --country CH
refused 2 "add --discovery" "$bootstrap" add-node "$net" x --address 11.9.0.1:1 --url https://x.example.org
refused 2 "a URL is expected" "$bootstrap" add-node "$net" x --address 11.9.0.1:1 --discovery --url x.example.org
refused 2 "is no command. Did you mean 'add-node'?" "$bootstrap" ad-node
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
for text in 'network "test net" (closed)' '3 nodes' 'guard middle CH' 'guard middle nat-relay' 'guard middle exit SE' '11.2.0.1:443 [2a10:2::1]:443' 'provider Hoster 2' 'bandwidth 1000 Mbit/s'; do
    grep -qF "$text" "$dir/show" || fail "show does not print: $text"
done

# An exit that lets out less says so in its descriptor, and does so; renew reads its configuration again.
grep -qF 'lets out TCP 1-24,26-65535' "$dir/show" || fail "show does not print the default policy: $(cat "$dir/show")"
printf 'reject tcp * 1-79\nreject tcp * 81-442\nreject tcp 11.5.0.0/16 443\nreject any * 444-65535\n' >"$dir/rules"
refused 2 "add --exit" "$bootstrap" add-node "$net" x --address 11.9.0.1:443 --policy "$dir/rules"
refused 1 "$dir/none" "$bootstrap" add-node "$net" x --exit --address 11.9.0.1:443 --policy "$dir/none"
echo 'refuse tcp * 1' >"$dir/wrong"
refused 1 "$dir/wrong:1: " "$bootstrap" add-node "$net" x --exit --address 11.9.0.1:443 --policy "$dir/wrong"
[ ! -e "$net/nodes/x" ] || fail "a refused policy left a directory"
"$bootstrap" add-node "$net" exit-2 --listed --exit --address 11.4.0.1:443 --policy "$dir/rules" >/dev/null
"$bootstrap" show "$net" | grep -qxF '    lets out TCP 80,443' || fail "the policy of exit-2: $("$bootstrap" show "$net")"
cmp -s "$dir/rules" "$net/nodes/exit-2/policy.conf" || fail "exit-2 has other rules"
"$meshvpn" config check exit "$net/nodes/exit-2/exit.conf" >/dev/null || fail "exit.conf with a policy"
echo 'allowed_ports = {443}' >>"$net/nodes/exit-2/exit.conf"
"$bootstrap" renew "$net" exit-2 >/dev/null
"$bootstrap" show "$net" | grep -qxF '    lets out TCP 443' || fail "renew did not read exit.conf again"
echo 'allowed_prots = {443}' >>"$net/nodes/exit-2/exit.conf"
refused 1 "allowed_prots" "$bootstrap" renew "$net" exit-2

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

# Entries, discovery nodes, relays that nobody lists.
net=$dir/dht
"$bootstrap" init "$net" --dns entries.example.org --lan-discovery >/dev/null
refused 1 "has no entry node" "$bootstrap" invite "$net"
"$bootstrap" add-node "$net" entry-1 --bootstrap --address '[2a10:1::1]:443' --address 11.1.0.1:443 >/dev/null
"$bootstrap" add-node "$net" index-1 --discovery --address 11.2.0.1:4443 --url https://index.example.org/ >/dev/null
grep -qxF 'http_names = {"index.example.org"}' "$net/nodes/index-1/discovery.conf" || fail "the name of the URL is not answered"
"$bootstrap" add-node "$net" relay-1 --address 11.3.0.1:4443 >/dev/null
"$bootstrap" add-node "$net" exit-1 --exit --address 11.4.0.1:443 --provider "Hoster 2" >/dev/null
refused 1 "is the address of node relay-1 already" "$bootstrap" add-node "$net" x --address 11.3.0.1:4443
grep -q 'relays' "$net/network.conf" && fail "a relay is listed without --listed"
"$bootstrap" show "$net" >"$dir/show"
for text in '4 nodes' 'entry 11.1.0.1:443, in DNS: TXT "meshvpn1 ' 'entry [2a10:1::1]:443' 'discovery https://index.example.org' \
    'TXT records at entries.example.org' 'the local network is asked' 'guard middle exit'; do
    grep -qF "$text" "$dir/show" || fail "show does not print: $text"
done
"$meshvpn" config check bootstrap "$net/nodes/entry-1/bootstrap.conf" >/dev/null
"$meshvpn" config check discovery "$net/nodes/index-1/discovery.conf" >/dev/null
grep -q '^provider = "Hoster 2"' "$net/nodes/exit-1/exit.conf" || fail "provider of exit-1"
before=$(sha256sum "$net/nodes/relay-1/membership.cert")
"$bootstrap" renew "$net" relay-1 --days 30 >/dev/null
[ "$before" != "$(sha256sum "$net/nodes/relay-1/membership.cert")" ] || fail "renew of an unlisted relay"

# Nodes at home have no address, and need none; two of them listen at the same port.
for home_node in "home-1 relay" "home-2 exit --exit --country SE"; do
    set -- $home_node
    name=$1 kind=$2
    shift 2
    "$bootstrap" add-node "$net" "$name" --home "$@" >"$dir/out"
    grep -q 'It is at home, behind a NAT' "$dir/out" || fail "add-node --home does not say what that needs"
    conf=$net/nodes/$name/$kind.conf
    grep -qxF 'behind_nat = true' "$conf" || fail "$conf does not say behind_nat"
    grep -qxF 'listen = {"0.0.0.0:4433", "[::]:4433"}' "$conf" || fail "listen of $name"
    grep -q '^address' "$conf" && fail "$name has an address"
    "$meshvpn" config check "$kind" "$conf" >/dev/null || fail "the configuration of $name"
    grep -q 'CAP_NET_BIND_SERVICE' "$net/nodes/$name"/*.service && fail "$name may bind low ports"
done
"$relay" --config "$net/nodes/home-1/relay.conf" --check >/dev/null 2>"$dir/err" || fail "meshvpn-relay --check at home"
grep -q 'nobody finds it' "$dir/err" && fail "a node at home is said not to be found"
"$bootstrap" renew "$net" home-1 --days 30 >/dev/null || fail "renew of a node at home"
"$bootstrap" show "$net" >"$dir/show"
grep -A2 'home-1 ' "$dir/show" | tr -s ' \n' ' ' | grep -q '^ home-1 middle identity [^ ]* address none: behind a NAT' || fail "show home-1"
grep -A2 'home-2 ' "$dir/show" | tr -s ' \n' ' ' | grep -q '^ home-2 middle exit SE identity [^ ]* address none: behind a NAT' || fail "show home-2"
grep -q '0\.0\.0\.0' "$dir/show" && fail "show prints an address of a node at home"
grep -q 'home-' "$net/network.conf" && fail "a node at home is listed"
refused 2 "takes no --address, --nat-relay or --listed" "$bootstrap" add-node "$net" x --home --address 11.9.0.1:443
refused 2 "takes no --address, --nat-relay or --listed" "$bootstrap" add-node "$net" x --home --nat-relay
refused 2 "takes no --address, --nat-relay or --listed" "$bootstrap" add-node "$net" x --home --listed
refused 2 "are for relays and exits" "$bootstrap" add-node "$net" x --home --bootstrap

# Their units: no mistake in them, and few rights.
if command -v systemd-analyze >/dev/null; then
    mkdir "$dir/units"
    for unit in "$net"/nodes/*/*.service; do
        sed "s#^\(Exec[A-Za-z]*=-*\)meshvpn[a-z-]*#\1$relay#" "$unit" >"$dir/units/${unit##*/}"
        for said in "Type=notify" "NoNewPrivileges=yes" "ProtectSystem=strict"; do
            grep -qxF "$said" "$unit" || fail "$unit lacks $said"
        done
        systemd-analyze security --offline=true --threshold=25 "$dir/units/${unit##*/}" >"$dir/out" 2>&1 ||
            fail "the unit of ${unit##*/} is too open: $(tail -n 1 "$dir/out")"
    done
    systemd-analyze verify "$dir"/units/*.service >"$dir/out" 2>&1 || fail "units: $(cat "$dir/out")"
    [ ! -s "$dir/out" ] || fail "units: $(cat "$dir/out")"
fi
grep -qx 'CapabilityBoundingSet=' "$net/nodes/relay-1/meshvpn-relay.service" || fail "a relay at a high port has rights"
grep -qx 'CapabilityBoundingSet=CAP_NET_BIND_SERVICE' "$net/nodes/entry-1/meshvpn-dht-bootstrap.service" || fail "rights of an entry"

# Invitations, and joining with them.
"$bootstrap" invite "$net" --days 2 >"$dir/link" 2>"$dir/err"
link=$(cat "$dir/link")
[ "$(wc -l <"$dir/link") $((${#link} <= 200))" = "1 1" ] || fail "the link has ${#link} characters"
grep -q 'It is a secret' "$dir/err" || fail "invite does not say what the link is"
grep -q "good until $(date -u -d '+2 days' +%Y-%m-%d)" "$dir/err" || fail "invite does not say until when"
if command -v zbarimg >/dev/null; then
    for look in "xterm --light" "dumb --dark"; do
        TERM=${look% *} "$bootstrap" invite "$net" --qr >"$dir/out" 2>/dev/null
        sed 1d "$dir/out" | "$here/qr_image.py" "${look#* }" >"$dir/qr.pgm"
        [ "$(zbarimg -q --raw "$dir/qr.pgm" 2>/dev/null)" = "$(sed -n 1p "$dir/out")" ] || fail "the QR code of $look"
    done
fi
refused 1 "newcomers begin at a bootstrap node" "$bootstrap" invite "$net" --entry relay-1
refused 1 "has no node nobody" "$bootstrap" invite "$net" --entry nobody
"$bootstrap" invite "$net" --entry entry-1 >/dev/null 2>&1 || fail "invite --entry"

home=$dir/home
"$meshvpn" join "$link" --config-dir "$home" >"$dir/out"
grep -q "sudo meshvpn up --config $home/client.conf" "$dir/out" || fail "join does not say what is next"
mode 600 "$home/network.conf"
"$meshvpn" config check client "$home/client.conf" >/dev/null || fail "the files that join wrote"
for key in network_key network_secret; do
    [ "$(grep "^$key" "$home/network.conf")" = "$(grep "^$key" "$net/network.conf")" ] || fail "join: $key"
done
grep -qF "$(grep -A1 '# 11.1.0.1:443' "$net/network.conf" | tail -n 1 | tr -d ' ,')" "$home/network.conf" || fail "join: entry"
cp "$home/network.conf" "$dir/before"
refused 1 "is a member of that network already" "$meshvpn" join "$link" --config-dir "$home"
"$bootstrap" init "$dir/other" --name other >/dev/null
"$bootstrap" add-node "$dir/other" e --bootstrap --address 11.1.0.1:443 >/dev/null
"$meshvpn" invite "$dir/other" >"$dir/link2" 2>/dev/null || fail "meshvpn invite"
refused 1 "is a member of another network already" "$meshvpn" join "$(cat "$dir/link2")" --config-dir "$home"
cmp -s "$home/network.conf" "$dir/before" || fail "a refused join changed network.conf"
echo "hops = 2" >>"$home/client.conf"
"$meshvpn" join - --force --config-dir "$home" <"$dir/link2" >/dev/null || fail "join --force from stdin"
grep -q "hops = 2" "$home/client.conf" || fail "join changed an existing client.conf"
cmp -s "$home/network.conf" "$dir/before" && fail "join --force changed nothing"
none=$dir/none
refused 1 "begins with meshvpn:" "$meshvpn" join "https://example.org" --config-dir "$none"
refused 1 "is not whole" "$meshvpn" join "${link%????}" --config-dir "$none"
refused 1 "is not whole" "$meshvpn" join "${link}A" --config-dir "$none"
refused 1 "has a typing error" "$meshvpn" join "$(echo "$link" | sed 's/./z/90; s/./y/91')" --config-dir "$none"
refused 2 "needs the LINK" "$meshvpn" join
refused 2 "one LINK" "$meshvpn" join "$link" x
refused 2 "invitations are made by who runs the network" "$meshvpn" invite
refused 2 "invitations are made by who runs the network" "$meshvpn" invite "$home"
# Links of another version, of an altered entry, and of last year: their bytes and their check made anew.
remade() {
    /usr/bin/python3 - "$link" "$1" "$blake3" <<'PYTHON'
import base64, subprocess, sys, time
raw = bytearray(base64.urlsafe_b64decode(sys.argv[1][8:] + "=="))
what = sys.argv[2]
if what == "version":
    raw[0] = 9
elif what == "expired":
    raw[2:6] = (int(time.time()) // 60 - 600).to_bytes(4, "big")
else:
    raw[-8] ^= 1  # its address lies elsewhere
body = bytes(raw[:-2])
check = subprocess.run([sys.argv[3]], input=body, stdout=subprocess.PIPE, check=True).stdout
print("meshvpn:" + base64.urlsafe_b64encode(body + bytes.fromhex(check.decode().strip())).decode().rstrip("="))
PYTHON
}
refused 1 "of a newer version" "$meshvpn" join "$(remade version)" --config-dir "$none"
refused 3 "the invitation expired on $(date -u -d '-10 hours' +%Y)" "$meshvpn" join "$(remade expired)" --config-dir "$none"
refused 1 "altered" "$meshvpn" join "$(remade entry)" --config-dir "$none"
[ ! -e "$none" ] || fail "a refused join left a directory"

# Revocation: its certificates, in everybody's file, once. Nodes made in one second have serials of their own.
[ "$(cut -d ' ' -f 1 "$net/keys/issued" | sort | uniq -d)" = "" ] || fail "two certificates have one serial"
"$bootstrap" add-node "$net" bad-1 --listed --address 11.5.0.1:443 >/dev/null
"$bootstrap" renew "$net" bad-1 >/dev/null
serials=$(awk '$3 == "bad-1" {print $1}' "$net/keys/issued")
[ "$(echo "$serials" | sort -u | wc -l)" = 2 ] || fail "serials of bad-1: $serials"
refused 1 "neither a node of" "$bootstrap" revoke "$net" nobody
refused 1 "neither a node of" "$bootstrap" revoke "$net" 12345
"$bootstrap" revoke "$net" bad-1 >"$dir/out"
grep -q 'the list names 2 certificates' "$dir/out" || fail "revoke: $(cat "$dir/out")"
grep -q '^revocations = ' "$net/network.conf" || fail "network.conf names nothing revoked"
grep -qF "$(cat "$net/revocations")" "$net/nodes/relay-1/network.conf" || fail "the nodes' files name nothing revoked"
grep -q 'bad-1' "$net/network.conf" && fail "a revoked relay is listed"
[ ! -e "$net/nodes/bad-1" ] || fail "a revoked node is among the nodes"
"$meshvpn" config check relay "$net/nodes/relay-1/relay.conf" >/dev/null
refused 1 "has no node bad-1" "$bootstrap" renew "$net" bad-1
serial=$(awk '$3 == "entry-1" {print $1}' "$net/keys/issued")
cp "$net/revocations" "$dir/first"
"$bootstrap" revoke "$net" "$serial" >"$dir/out"
grep -q 'has no entry node now' "$dir/out" || fail "revoking the last entry says nothing of it"
"$bootstrap" show "$net" | grep -q '3 certificates revoked' || fail "show after revoke"
grep -q '^entries' "$net/network.conf" && fail "a revoked entry is listed"
cmp -s "$dir/first" "$net/revocations" && fail "the list did not change"
# Certificates that have expired leave the list.
sed -i "s/^\($(echo "$serials" | head -n 1)\) [0-9]* /\1 1000 /" "$net/keys/issued"
"$bootstrap" revoke "$net" index-1 >"$dir/out"
grep -q 'the list names 3 certificates' "$dir/out" || fail "nothing was pruned: $(cat "$dir/out")"
refused 1 "an open network has no memberships" sh -c "'$bootstrap' init '$dir/open2' --open >/dev/null && '$bootstrap' revoke '$dir/open2' a"

# User-data for cloud hosts: the same files, byte for byte.
refused 2 "Use https, or add --package-sha256" "$bootstrap" cloud-init "$net" relay-1 --package-url http://example.org/a.deb
"$bootstrap" cloud-init "$net" relay-1 --package-url "https://example.org/a.deb?x=1&y=2" --output "$dir/user-data" >/dev/null
mode 600 "$dir/user-data"
[ "$(wc -c <"$dir/user-data")" -le 16384 ] || fail "user-data are too long for AWS"
if /usr/bin/python3 -c 'import yaml' 2>/dev/null; then
    mkdir "$dir/cloud"
    /usr/bin/python3 "$here/cloud_init_unpack.py" "$dir/user-data" "$dir/cloud" >"$dir/run" || fail "user-data"
    for file in relay.conf network.conf identity.key link.key onion.key link.cert membership.cert; do
        cmp -s "$net/nodes/relay-1/$file" "$dir/cloud/etc/meshvpn/$file" || fail "user-data: $file"
    done
    for file in network.conf identity.key link.key onion.key; do
        mode 600 "$dir/cloud/etc/meshvpn/$file"
    done
    cmp -s "$net/nodes/relay-1/meshvpn-relay.service" "$dir/cloud/etc/systemd/system/meshvpn-relay.service" || fail "user-data: unit"
    "$relay" --config "$dir/cloud/etc/meshvpn/relay.conf" --check >/dev/null || fail "user-data: meshvpn-relay --check"
    grep -q 'enable --now meshvpn-relay.service' "$dir/run" || fail "user-data start nothing"
    grep -qF '"https://example.org/a.deb?x=1&y=2"]' "$dir/run" || fail "user-data: the URL"
    /usr/bin/python3 -c 'import json,sys; print(json.loads(sys.stdin.readline())[2])' <"$dir/run" | sh -n || fail "user-data: the script"
fi

# What deploy would do; the rest is in tests/netns/deploy.sh.
"$bootstrap" deploy "$net" relay-1 root@192.0.2.1 --ssh-option Port=2222 --dry-run >"$dir/out"
grep -qx 'would connect: ssh -o Port=2222 root@192.0.2.1' "$dir/out" || fail "deploy --dry-run: $(cat "$dir/out")"
grep -qF 'etc/meshvpn/identity.key (secret, 0600)' "$dir/out" || fail "deploy --dry-run: $(cat "$dir/out")"
refused 2 "no option" "$bootstrap" deploy "$net" relay-1 -oProxyCommand=x
refused 2 "is not a host" "$bootstrap" deploy "$net" relay-1 -- -oProxyCommand=x
refused 2 "deploy needs DIR, NAME and HOST" "$bootstrap" deploy "$net" relay-1
refused 1 "is not meshvpn-relay, which relay-1 needs" "$bootstrap" deploy "$net" relay-1 h --program "$meshvpn"
refused 1 "has no node nobody" "$bootstrap" deploy "$net" nobody h

# Private and open networks.
"$bootstrap" init "$dir/lab" --allow-private --relax same-16 >/dev/null
"$bootstrap" add-node "$dir/lab" a --address 10.0.0.1:443 >/dev/null
"$bootstrap" show "$dir/lab" | grep -qF 'relaxed rules: same-16' || fail "relax"
"$meshvpn" config check relay "$dir/lab/nodes/a/relay.conf" >/dev/null
"$bootstrap" init "$dir/open" --open >/dev/null
"$bootstrap" add-node "$dir/open" a --address 11.0.0.1:443 >/dev/null
[ ! -e "$dir/open/nodes/a/membership.cert" ] || fail "an open network has memberships"
"$bootstrap" add-node "$dir/open" e --bootstrap --address 11.0.1.1:443 >/dev/null
grep -q '^anchors = ' "$dir/open/network.conf" || fail "an open network vouches for its entry by nothing"
"$bootstrap" invite "$dir/open" 2>/dev/null | grep -q '^meshvpn:' || fail "invitation to an open network"
mode 644 "$dir/open/network.conf"
"$meshvpn" config check relay "$dir/open/nodes/a/relay.conf" >/dev/null

# The status command without a daemon.
refused 4 "No daemon runs here" "$meshvpn" status --control "$dir/none.sock"
refused 2 "status has no option '--jsn'. Did you mean '--json'?" "$meshvpn" status --jsn
"$meshvpn" help status | grep -q 'Usage: meshvpn status' || fail "help"
"$meshvpn" --version | grep -q '^meshvpn [0-9]' || fail "version"
"$bootstrap" help | grep -q 'add-node' || fail "help of bootstrap"
echo passed
