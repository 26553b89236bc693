#!/bin/bash
# Relays and exits at home, as a story: a relay behind a port-restricted NAT and an exit behind a carrier's
# NAT serve a client's circuit; which links run directly and which through a NAT relay, and what happens
# when a direct path dies. Started by demo.sh --nat.
#
#     demo_nat.sh [--once] [--json]
#
#     client -> alder (guard) -> attic (relay at home) -> cabin (exit at home) -> web
#     birch, cedar, elm: NAT relays
set -u
. "$(dirname "$0")/lab.sh"
. "$(dirname "$0")/mesh.sh"
. "$(dirname "$0")/story.sh"
. "$(dirname "$0")/nat.sh"
. "$(dirname "$0")/nat_mesh.sh"

once=
json=
for word; do
    case $word in
    --once) once=1 ;;
    --json) json=1 ;;
    *) echo "usage: ./run demo --nat [--once] [--json]" >&2 && exit 2 ;;
    esac
done
exec 3>&1
[ -n "$json" ] && exec 1>&2

# way CALLER CALLED: sets way to "direct", "relay" or nothing, why to the reason of the last change
way() {
    local words
    words=$("$LAB_PYTHON" "$NATMESH_PAIRS" way "$LAB_DIR/sock/$1" "$2")
    way=${words%%;*}
    why=${words#*;}
}

runs() {
    "$LAB_PYTHON" "$NATMESH_PAIRS" until "$LAB_DIR/sock/$1" "$2" "$3" "$4"
}

# link CALLER CALLED EXPLANATION
link() {
    way "$1" "$2"
    tell "   $1 -> $2: $way, $why"
    tell "         $3"
}

nat_line() {
    "$LAB_PYTHON" "$NATMESH_PAIRS" nat "$LAB_DIR/sock/$1"
}

page() {
    fetch_page
    hold "$1: HTTP $http_status, the web server saw ${seen:-nobody}, the carrier's address of cabin" \
        [ "$http_status" = 200 -a "$seen" = "${NAT_SEEN_AS[cabin]}" ]
}

lab_begin
LAB_RELAYS="alder birch cedar elm"
NATMESH_GUARD=alder
LAB_EXITS=
tell "1. An internet in network namespaces ($LAB_ID): a web server, a bootstrap node, four relays in the open,"
tell "   a client, and two homes that nobody can call from outside:"
natmesh_internet
lab_services
natmesh_home cabin double --exit
natmesh_home attic port
tell "      attic  a relay at ${NAT_WAN[attic]} behind a port-restricted NAT, seen as ${NAT_SEEN_AS[attic]}"
tell "      cabin  an exit at ${NAT_WAN[cabin]} behind a router behind a carrier's NAT, seen as ${NAT_SEEN_AS[cabin]}"
tell ""
tell "2. They start. Those at home register at two NAT relays each, and say so in their descriptors:"
# shellcheck disable=SC2086 # names are words
mesh_relays_start $LAB_ENTRIES $LAB_RELAYS
mesh_relay_start cabin
natmesh_knows 20 cabin boot || mesh_fail "nobody can reach cabin" cabin boot
mesh_relay_start attic
hold "attic and cabin are found, by their NAT relays, and know their NATs" \
    eval 'natmesh_knows 20 attic boot alder && natmesh_knows 40 cabin attic && natmesh_ready 40 attic cabin'
tell "      attic: $(nat_line attic)"
tell "      cabin: $(nat_line cabin)"
tell ""
mesh_join
mesh_client_start 3 "$(mesh_identity alder)" "$(mesh_identity attic)" "$(mesh_identity cabin)"
ready_s=$(mesh_client_ready 20) || mesh_client_wait 1
mesh_status >"$LAB_DIR/status.json"
path=$(mesh_path | tr '\n' ' ')
tell "3. The client joins by a link and builds a circuit whose middle and exit stand at home (a path fixed for"
tell "   this story):   client -> $(echo "${path% }" | sed 's/ / -> /g') -> web"
hold "the circuit stands $ready_s s after the client's start" [ "$path" = "alder attic cabin " ]
resolved=$(mesh_dns A 2>/dev/null | head -n 1)
hold "DNS through the circuit: $LAB_WEB_NAME is ${resolved:-unknown}" [ "$resolved" = "$(lab_addr4 web)" ]
server_addr=$(lab_addr4 web)
page "the page"
tell ""
tell "4. How its links run:"
hold "alder and attic speak directly" runs alder attic direct 10
hold "attic and cabin speak directly" runs attic cabin direct 10
link alder attic "alder stands in the open: the first packet of attic's NAT to it opens the way back"
way_1=$way
link attic cabin "two NATs: data flowed through a NAT relay at once, until both had punched at one instant"
way_2=$way
rtt_ms=$(mesh_ping_ms "$server_addr" 20) || rtt_ms=null
tell "         ping to the web server: $rtt_ms ms"
tell ""
tell "5. The direct path between attic and cabin dies (their packets are dropped on the way):"
natmesh_cut attic-r cabin-c
ping_out=$(lab_in client ping -n -q -i 0.05 -w 4 "$server_addr")
runs attic cabin relay 5
link attic cabin "no answer on the direct path: the link goes on through the NAT relay, the circuit never knew"
hold "it is relayed now, within seconds and without a new circuit" [ "$way" = relay ]
gap_s=$(echo "$ping_out" | awk '/packets transmitted/ { printf "%.1f", ($1 - $4) * 0.05 }')
hold "nothing came through for ${gap_s:-?} s" awk "BEGIN { exit !(${gap_s:-99} <= 2.5) }"
page "the page once more, relayed"
rtt_relayed_ms=$(mesh_ping_ms "$server_addr" 20) || rtt_relayed_ms=null
tell "         ping to the web server: $rtt_relayed_ms ms"
hold "the circuit is the first one still" [ "$(mesh_status | mesh_get circuits_failed)" = 0 ]
natmesh_uncut
hold "all programs still run" mesh_alive
verdict client alder attic cabin curl

print_json() {
    [ -n "$json" ] || return 0
    "$LAB_PYTHON" -c '
import json, sys
names = ["ok", "http_status", "ready_s", "rtt_ms", "rtt_relayed_ms", "gap_s", "seen_by_server", "guard_to_middle", "middle_to_exit"]
print(json.dumps({n: v if n in names[6:] else json.loads(v) for n, v in zip(names, sys.argv[1:])}))
' "$([ "$problems" = 0 ] && echo true || echo false)" "$http_status" "${ready_s:-null}" "$rtt_ms" "$rtt_relayed_ms" \
        "${gap_s:-null}" "$seen" "$way_1" "$way_2" >&3
}

[ -n "$once" ] || stay_up print_json
print_json
exit $((problems > 0))
