#!/bin/bash
# STUN against another implementation, through real NATs: our probe asks coturn's server and a relay
# of ours, coturn's clients ask relays of ours; IPv4 and IPv6. Prints "ok NAME" or "FAIL NAME".
#
#     nat.sh's internet: the node stun has two addresses of each family and runs
#       coturn (3478, 3479) · relay "strict" (4478, 4479) · relay "lax", stun_strict = false (5478, 5479)
#     homes behind NATs of every kind (nat.sh) ask
set -u
. "$(dirname "$0")/lab.sh"
. "$(dirname "$0")/nat.sh"

# name type verdict mapping filtering hairpin options...; underscores are spaces
ROWS="public public no_NAT endpoint endpoint unknown
full full full_cone endpoint endpoint no
addr addr restricted endpoint address no
port port port-restricted endpoint address_and_port no
addrmap addrmap symmetric address address_and_port no
sym sym symmetric address_and_port address_and_port no
symseq symseq symmetric address_and_port address_and_port no
doublesym doublesym symmetric address_and_port address_and_port no
hairport port port-restricted endpoint address_and_port yes hairpin=on
v6only v6only no_NAT endpoint address_and_port unknown"

PROBE=$LAB_BUILD/tests/netns/stun_probe
BIN=$LAB_BUILD/src/bin
PIDS=()

# relay NAME PORT STRICT: a relay of the stun node that serves STUN on PORT and the one above.
relay() {
    local dir=$LAB_DIR/net/nodes/$1
    "$BIN/meshvpn-bootstrap" add-node "$LAB_DIR/net" "$1" --address "$NAT_STUN4:$(($2 + 100))" >/dev/null ||
        lab_die "cannot make the relay $1"
    sed -i "s|^control_socket.*|control_socket = \"$LAB_DIR/$1.sock\"|" "$dir/relay.conf"
    cat >>"$dir/relay.conf" <<CONF
run_dir = "$LAB_DIR/run-$1"
state_dir = "$LAB_DIR/state-$1"
stun_listen = {"$NAT_STUN4:$2", "$NAT_STUN4_OTHER:$(($2 + 1))", "[$NAT_STUN6]:$2", "[$NAT_STUN6_OTHER]:$(($2 + 1))"}
stun_strict = $3
CONF
    lab_spawn stun "$1" "$BIN/meshvpn-relay" --config "$dir/relay.conf"
    lab_wait_port stun udp "$2" || lab_die "$1: $(tail -n 3 "$LAB_DIR/log/$1.log")"
}

# ask NAME FILE COMMAND...: in the home's network, in the background.
ask() {
    local name=$1 file=$LAB_DIR/$2
    shift 2
    lab_in "$name" timeout 25 "$@" </dev/null >"$file" 2>&1 &
    PIDS+=($!)
}

ask_all() {
    local name=$1 address=$NAT_STUN4 server=$NAT_STUN4
    [ "$name" = v6only ] && address=$NAT_STUN6 && server="[$NAT_STUN6]"
    ask "$name" "$name.coturn" "$PROBE" "$server:3478"
    ask "$name" "$name.strict" "$PROBE" "$server:4478"
    # coturn's client: bare requests, and padded ones, which a strict server answers.
    ask "$name" "$name.lax-by-coturn" turnutils_natdiscovery -m -f -p 5478 "$address"
    ask "$name" "$name.strict-by-coturn" turnutils_natdiscovery -m -f -P -p 4478 "$address"
}

# found FILE KEY VALUE: in the probe's JSON.
found() {
    grep -qF "\"$2\": \"${3//_/ }\"" "$LAB_DIR/$1" && return 0
    echo "$1: not $2 = $3"
    cat "$LAB_DIR/$1"
    return 1
}

probe_holds() {
    found "$1" nat "$2" && found "$1" mapping "$3" && found "$1" filtering "$4" && found "$1" hairpin "$5" &&
        grep -qF '"forged": 0,' "$LAB_DIR/$1"
}

# natdiscovery_holds FILE MAPPING FILTERING
natdiscovery_holds() {
    local kind word
    for kind in Mapping:$2 Filtering:$3; do
        case ${kind#*:} in
        endpoint) word="Endpoint Independent" ;;
        address) word="Address Dependent" ;;
        *) word="Address and Port Dependent" ;;
        esac
        grep -qF "NAT with $word ${kind%:*}" "$LAB_DIR/$1" && continue
        echo "$1: not $word ${kind%:*}"
        cat "$LAB_DIR/$1"
        return 1
    done
}

# What the world sees of the port home is what both servers told.
address_holds() {
    local file
    for file in port.coturn port.strict; do
        grep -qF "\"mapped\": \"${NAT_SEEN_AS[port]}:" "$LAB_DIR/$file" || return
    done
    for file in port.lax-by-coturn port.strict-by-coturn; do
        grep -qE "reflexive addr: ${NAT_SEEN_AS[port]}:[0-9]+" "$LAB_DIR/$file" || return
    done
}

blocked_is_said() {
    found blocked.strict nat "UDP blocked" && found blocked.coturn nat "UDP blocked"
}

# The strict relay said nothing to bare requests, and both count what they did.
strict_is_silent() {
    ! grep -q 'reflexive' "$LAB_DIR/bare" &&
        "$BIN/meshvpn" status --json --control "$LAB_DIR/strict.sock" >"$LAB_DIR/strict.json" &&
        "$LAB_PYTHON" -c 'import json, sys
stun = json.load(open(sys.argv[1]))["stun"]
print(stun)
sys.exit(not (stun["answered"] > 100 and stun["too_short"] > 0))' "$LAB_DIR/strict.json"
}

lab_begin
nat_internet
nat_observers coturn
"$BIN/meshvpn-bootstrap" init "$LAB_DIR/net" >/dev/null || lab_die "cannot make a network"
relay strict 4478 true
relay lax 5478 false
while read -r name type _ _ _ _ options; do
    # shellcheck disable=SC2086 # words
    nat_home "$name" "$type" $options
    ask_all "$name"
done <<<"$ROWS"
nat_home blocked blocked
ask blocked blocked.coturn "$PROBE" "$NAT_STUN4:3478"
ask blocked blocked.strict "$PROBE" "$NAT_STUN4:4478"
# (In the end this client waits for ever: for the answer to RESPONSE-PORT, which is refused.)
ask public stunclient4 timeout 4 stdbuf -oL turnutils_stunclient -p 5478 "$NAT_STUN4"
ask public stunclient6 timeout 4 stdbuf -oL turnutils_stunclient -p 5478 "$NAT_STUN6"
ask public bare turnutils_natdiscovery -m -p 4478 "$NAT_STUN4"
wait "${PIDS[@]}"

while read -r name _ verdict mapping filtering hairpin _; do
    lab_check "stun_ours_asks_coturn_$name" probe_holds "$name.coturn" "$verdict" "$mapping" "$filtering" "$hairpin"
    lab_check "stun_ours_asks_ours_$name" probe_holds "$name.strict" "$verdict" "$mapping" "$filtering" "$hairpin"
    lab_check "stun_coturn_asks_lax_$name" natdiscovery_holds "$name.lax-by-coturn" "$mapping" "$filtering"
    lab_check "stun_coturn_asks_strict_padded_$name" natdiscovery_holds "$name.strict-by-coturn" "$mapping" "$filtering"
done <<<"$ROWS"
lab_check stun_addresses address_holds
lab_check stun_stunclient_ipv4 grep -qF "reflexive addr: ${NAT_WAN[public]}:" "$LAB_DIR/stunclient4"
lab_check stun_stunclient_ipv6 grep -qE "reflexive addr: (\[|)2a11:" "$LAB_DIR/stunclient6"
lab_check stun_blocked blocked_is_said
lab_check stun_strict_is_silent strict_is_silent

exit $((LAB_FAILED > 0))
