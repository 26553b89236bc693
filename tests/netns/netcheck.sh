#!/bin/bash
# `meshvpn netcheck` from homes behind NATs of every kind, without root and without a daemon: every
# fact comes out right, each run in less than 5 s. Prints "ok NAME" or "FAIL NAME" for ./run test.
#
#     lab.sh's internet: boot (entry); alder, birch, maple (relays found through it); client, whose
#                        circuit makes links between those, without which they know nobody to probe for them
#     nat.sh's:          stun (a relay of another network that serves STUN), homes
#
# Each home asks twice: the network by links, and STUN (--server).
set -u
. "$(dirname "$0")/lab.sh"
. "$(dirname "$0")/mesh.sh"
. "$(dirname "$0")/nat.sh"
LAB_RELAYS="alder birch maple"
LAB_EXITS="maple"

# name type verdict nat mapping filtering hairpin ports options...; underscores are spaces
ROWS="public public good no_NAT none endpoint-independent - -
full full good full_cone endpoint-independent endpoint-independent no -
addr addr good restricted endpoint-independent address-dependent no -
port port good port-restricted endpoint-independent address-and-port-dependent no -
sym sym relayed symmetric address-and-port-dependent address-and-port-dependent no random
symseq symseq good symmetric address-and-port-dependent address-and-port-dependent no sequential
double double good port-restricted endpoint-independent address-and-port-dependent no -
doublesym doublesym relayed symmetric address-and-port-dependent address-and-port-dependent no random
hairport port good port-restricted endpoint-independent address-and-port-dependent yes - hairpin=on
v6only v6only good no_NAT none address-and-port-dependent - -
upnp port good port-restricted endpoint-independent address-and-port-dependent no -
small port good port-restricted endpoint-independent address-and-port-dependent no -"

STUN4=$NAT_STUN4:4478
STUN6=[$NAT_STUN6]:4478
PIDS=()

# ---- who answers ----

stun_relay() {
    local net=$LAB_DIR/other dir=$LAB_DIR/other/nodes/strict
    mesh_bootstrap init "$net"
    mesh_bootstrap add-node "$net" strict --address "$NAT_STUN4:4578"
    mesh_set "$dir/relay.conf" control_socket "\"$LAB_DIR/strict.sock\""
    mesh_set "$dir/relay.conf" run_dir "\"$LAB_DIR/run-strict\""
    mesh_set "$dir/relay.conf" state_dir "\"$LAB_DIR/run-strict\""
    mesh_set "$dir/relay.conf" stun_listen \
        "{\"$STUN4\", \"$NAT_STUN4_OTHER:4479\", \"$STUN6\", \"[$NAT_STUN6_OTHER]:4479\"}"
    lab_spawn stun strict "$MESH_PROGRAMS/meshvpn-relay" --config "$dir/relay.conf"
    lab_wait_port stun udp 4478 || lab_die "no STUN: $(tail -n 3 "$LAB_DIR/log/strict.log")"
}

# Each of the four can name the three others in both families: a home that asks any one finds all.
knows_all() {
    local name
    [ "$(mesh_node_get boot view.relays)" = 4 ] || return 1
    for name in boot $LAB_RELAYS; do
        [ "$(mesh_node_get "$name" dht.contacts)" = 6 ] || return 1
    done
}

until_true() {
    local tenths=$1
    shift
    until "$@" >/dev/null 2>&1; do
        tenths=$((tenths - 1))
        [ "$tenths" -gt 0 ] || return 1
        sleep 0.1
    done
}

# A gateway that knows PCP, NAT-PMP and UPnP. (More of it: portmap.sh)
gateway_start() {
    local box=$1
    lab_in "$box" nft add rule ip nat_lab input iifname br0 accept
    lab_in "$box" nft -f - <<'NFT'
table inet filter {
    chain miniupnpd { }
    chain prerouting_miniupnpd { }
    chain postrouting_miniupnpd { }
}
NFT
    cat >"$LAB_DIR/miniupnpd.conf" <<CONF
ext_ifname=eth0
listening_ip=br0
http_port=5000
enable_upnp=yes
enable_natpmp=yes
system_uptime=no
secure_mode=yes
uuid=6f2c1f0a-7c1c-4f1e-9d0b-0a1b2c3d4e5f
upnp_table_name=filter
upnp_nat_table_name=filter
upnp_forward_chain=miniupnpd
upnp_nat_chain=prerouting_miniupnpd
upnp_nat_postrouting_chain=postrouting_miniupnpd
allow 1024-65535 192.168.1.0/24 1024-65535
deny 0-65535 0.0.0.0/0 0-65535
CONF
    lab_spawn "$box" miniupnpd miniupnpd -d -f "$LAB_DIR/miniupnpd.conf" -P "$LAB_DIR/miniupnpd.pid"
    lab_wait_port "$box" udp 5351 && lab_wait_port "$box" tcp 5000 ||
        lab_die "miniupnpd does not start: $(tail -n 3 "$LAB_DIR/log/miniupnpd.log")"
}

# ---- who asks ----

# Somebody without rights, who may read these: the program, the network file of the network, one
# without anybody in it.
prepare_member() {
    local name
    chmod 755 "$LAB_DIR"
    mkdir -m 755 "$LAB_DIR/nobody"
    cp "$MESH_PROGRAMS/meshvpn" "$LAB_DIR/nobody/"
    for name in net empty; do
        mkdir "$LAB_DIR/nobody/$name"
        echo "state_dir = \"$LAB_DIR/nobody/state\"" >"$LAB_DIR/nobody/$name/client.conf"
        echo 'network_file = "network.conf"' >>"$LAB_DIR/nobody/$name/client.conf"
    done
    # Found, not listed.
    sed '/^relays = {/,/^}/d' "$LAB_DIR/net/network.conf" >"$LAB_DIR/nobody/net/network.conf"
    chmod 600 "$LAB_DIR/nobody/net/network.conf"
    cp "$LAB_DIR/other/network.conf" "$LAB_DIR/nobody/empty/"
    chown -R 65534:65534 "$LAB_DIR/nobody"
}

# netcheck NODE OPTION...: as nobody; 5 s at most.
netcheck() {
    local node=$1
    shift
    lab_in "$node" timeout 5 setpriv --reuid=65534 --regid=65534 --clear-groups \
        "$LAB_DIR/nobody/meshvpn" netcheck "$@"
}

# ask NODE FILE OPTION...: in the background; FILE.status is its exit status.
ask() {
    local node=$1 file=$LAB_DIR/$2
    shift 2
    {
        netcheck "$node" "$@" </dev/null >"$file" 2>"$file.err"
        echo $? >"$file.status"
    } &
    PIDS+=($!)
}

ask_links() {
    ask "$1" "$1.links" --json --config "$LAB_DIR/nobody/net/client.conf"
}

ask_stun() {
    local server=$STUN4
    [ "$1" = v6only ] && server=$STUN6
    ask "$1" "$1.stun" --json --config "$LAB_DIR/nobody/empty/client.conf" --server "$server"
}

# ---- what came ----

# holds FILE STATUS KEY=VALUE[,VALUE]...: exit status, and facts of the JSON; "-" is any value.
holds() {
    local file=$LAB_DIR/$1 want=$2
    shift 2
    [ "$(cat "$file.status")" = "$want" ] || {
        echo "exit status $(cat "$file.status")"
        cat "$file" "$file.err"
        return 1
    }
    "$LAB_PYTHON" - "$file" "$@" <<'PY'
import json, sys
with open(sys.argv[1]) as f:
    result = json.load(f)
bad = 0
for fact in sys.argv[2:]:
    key, want = fact.split("=", 1)
    value = result
    for part in key.split("."):
        if part == "#":
            value = len(value)
        elif isinstance(value, list):
            value = value[int(part)] if int(part) < len(value) else None
        else:
            value = None if value is None else value.get(part)
    text = value if isinstance(value, str) else json.dumps(value)
    if want != "-" and text not in want.replace("_", " ").split(","):
        print(f"{key}: {text}, not {want}")
        bad = 1
if result["schema"] != "meshvpn.netcheck/1" or result["took_ms"] >= 5000:
    bad = 1
if bad:
    print(json.dumps(result))
sys.exit(bad)
PY
}

# The NAT as it is; by links and by STUN alike.
nat_holds() {
    local file=$1 source=$2 name=$3 verdict=$4 nat=$5 mapping=$6 filtering=$7 hairpin=$8 ports=$9
    local family=ipv4
    [ "$name" = v6only ] && family=ipv6
    holds "$file" 0 "verdict=$verdict" "$family.udp=true" "$family.source=$source" "$family.nat=$nat" \
        "$family.mapping=$mapping" "$family.filtering=$filtering" "$family.hairpin=$hairpin" \
        "$family.ports=$ports" "$family.addresses.#=1" &&
        { [ "$name" = v6only ] || holds "$file" 0 "ipv4.addresses.0=${NAT_SEEN_AS[$name]}"; }
}

# What only the network's own nodes tell.
links_hold() {
    local family=ipv4 full=true nodes=4
    [ "$1" = v6only ] && family=ipv6
    [ "$1" = public ] && nodes=-
    [ "$1" = small ] && full=false
    holds "$1.links" 0 "asked.answered=$nodes" clock_offset_s=-1,0,1 tcp_443.reachable=true \
        "$family.full_size=$full" mapping_lifetime_s=null
}

blocked_is_said() {
    holds blocked.links 5 verdict=blocked ipv4.udp=false tcp_443.reachable=true &&
        holds blocked.stun 5 verdict=blocked ipv4.udp=false &&
        grep -q '^Blocked: this network lets no UDP out' "$LAB_DIR/blocked.text" &&
        grep -q 'hotspot' "$LAB_DIR/blocked.text" && grep -q 'TCP 443' "$LAB_DIR/blocked.text"
}

step_is_told() {
    # What else the home sends counts too.
    holds symseq.links 0 ipv4.port_step=1,2,3 && holds symseq.stun 0 ipv4.port_step=1,2,3
}

mtu_is_told() {
    holds small.links 0 ipv4.mtu=1400 ipv4.full_size=false && holds port.links 0 ipv4.mtu=1500
}

families_are_told() {
    holds v6only.links 0 ipv4=null ipv6.udp=true &&
        holds public.links 0 ipv4.udp=true ipv6.udp=true ipv6.source=links &&
        holds port.links 0 ipv6=null
}

gateway_is_told() {
    holds upnp.links 0 port_mapping.pcp=true port_mapping.nat_pmp=true port_mapping.upnp=true \
        "port_mapping.external=${NAT_SEEN_AS[upnp]}" port_mapping.behind_another_nat=false &&
        holds port.links 0 port_mapping.pcp=false port_mapping.nat_pmp=false port_mapping.upnp=false \
            port_mapping.gateway=192.168.1.1 port_mapping.external=null || return
    # Asked for, nothing was mapped.
    ! lab_in upnp-r nft list chain inet filter prerouting_miniupnpd | grep -q dnat
}

text_is_aligned() {
    head -n 1 "$LAB_DIR/port.text" | grep -q '^Good: ' &&
        [ "$(grep -cE '^[a-z][A-Za-z0-9 ]{0,12} +[^ ]' "$LAB_DIR/port.text")" -ge 9 ] &&
        grep -qE '^nat IPv4      port-restricted: mapping endpoint-independent, filtering ' "$LAB_DIR/port.text" &&
        grep -q '^lifetime      of a mapping: unknown yet$' "$LAB_DIR/port.text"
}

# refused STATUS WORDS OPTION...: what goes wrong is said, nothing goes to stdout.
refused() {
    local want=$1 words=$2 status
    shift 2
    netcheck alone "$@" >"$LAB_DIR/refused.out" 2>"$LAB_DIR/refused.err"
    status=$?
    cat "$LAB_DIR/refused.err"
    [ "$status" = "$want" ] && [ ! -s "$LAB_DIR/refused.out" ] && grep -qF -- "$words" "$LAB_DIR/refused.err"
}

bad_input_is_refused() {
    local net=$LAB_DIR/nobody/net/client.conf
    echo 'hops = = 3' >"$LAB_DIR/nobody/broken.conf"
    echo 'network_file = "nowhere.conf"' >"$LAB_DIR/nobody/lost.conf"
    install -m 600 "$net" "$LAB_DIR/nobody/secret.conf" # root's
    refused 2 "no option '--jsn'" --jsn &&
        refused 2 "'x' is one argument too many" --json x &&
        refused 2 "--config: a value is missing" --config &&
        refused 2 "no HOST[:PORT]: 'host:0'" --server host:0 &&
        refused 2 "no HOST[:PORT]: '-'" --server - &&
        refused 2 "one too many is '5.5.5.5'" --server 1.1.1.1 --server 2.2.2.2 --server 3.3.3.3 \
            --server 4.4.4.4 --server 5.5.5.5 &&
        refused 2 "missing.conf" --config "$LAB_DIR/nobody/missing.conf" &&
        refused 2 "broken.conf:1" --config "$LAB_DIR/nobody/broken.conf" &&
        refused 2 "nowhere.conf" --config "$LAB_DIR/nobody/lost.conf" &&
        refused 2 "secret.conf" --config "$LAB_DIR/nobody/secret.conf"
}

nobody_to_ask_is_said() {
    holds noone 1 verdict=unknown ipv4.udp=null asked.nodes=0 asked.stun_servers=0 tcp_443.asked=0
}

offline_is_said() {
    holds alone 4 verdict=offline ipv4=null ipv6=null && holds alone.stun 4 verdict=offline
}

dead_server_is_blocked() {
    holds dead 5 verdict=blocked ipv4.udp=false ipv4.source=null
}

# ---- now ----

lab_begin
lab_internet
nat_internet
mesh_create both
mesh_relays_start
mesh_client_start 3 alder birch maple
stun_relay
while read -r name type _ _ _ _ _ _ options; do
    # shellcheck disable=SC2086 # words
    nat_home "$name" "$type" $options
done <<<"$ROWS"
nat_home blocked blocked
lab_in small ip link set eth0 mtu 1400
lab_node alone
if command -v miniupnpd >/dev/null; then
    gateway_start upnp-r
fi
prepare_member
until_true 150 knows_all || mesh_fail "the relays do not know each other" boot alder birch

mesh_client_wait

# Four at once: a relay asks another one for no more than eight probes, and then one a second; these
# relays have one or two others each.
while read -r name _; do
    ask_links "$name"
    [ $((${#PIDS[@]} % 4)) = 0 ] && wait "${PIDS[@]}"
done <<<"$ROWS"
ask_links blocked
wait "${PIDS[@]}"
PIDS=()
while read -r name _; do
    ask_stun "$name"
done <<<"$ROWS"
ask_stun blocked
ask port port.text --config "$LAB_DIR/nobody/net/client.conf"
ask blocked blocked.text --config "$LAB_DIR/nobody/net/client.conf"
ask public noone --json --config "$LAB_DIR/nobody/empty/client.conf"
ask public dead --json --config "$LAB_DIR/nobody/empty/client.conf" --server 12.99.140.9
ask alone alone --json --config "$LAB_DIR/nobody/net/client.conf"
ask alone alone.stun --json --config "$LAB_DIR/nobody/empty/client.conf" --server "$STUN4"
wait "${PIDS[@]}"

while read -r name _ verdict nat mapping filtering hairpin ports _; do
    lab_check "netcheck_links_$name" nat_holds "$name.links" links "$name" "$verdict" "$nat" "$mapping" \
        "$filtering" "$hairpin" "$ports"
    lab_check "netcheck_stun_$name" nat_holds "$name.stun" stun "$name" "$verdict" "$nat" "$mapping" \
        "$filtering" "$hairpin" "$ports"
    lab_check "netcheck_network_$name" links_hold "$name"
done <<<"$ROWS"
lab_check netcheck_blocked blocked_is_said
lab_check netcheck_port_step step_is_told
lab_check netcheck_mtu mtu_is_told
lab_check netcheck_families families_are_told
if command -v miniupnpd >/dev/null; then
    lab_check netcheck_port_mapping gateway_is_told
fi
lab_check netcheck_text text_is_aligned
lab_check netcheck_bad_input bad_input_is_refused
lab_check netcheck_nobody_to_ask nobody_to_ask_is_said
lab_check netcheck_offline offline_is_said
lab_check netcheck_dead_server dead_server_is_blocked

exit $((LAB_FAILED > 0))
