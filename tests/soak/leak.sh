#!/bin/bash
# Does anything leave the client's host outside the tunnel while much happens to it? Other users send all the time,
# in both families, UDP, TCP, echo, DNS and mDNS, also by sockets that name the interface; every frame on the wire is
# looked at.
#
#     leak.sh [--json] [--events N] [--rate N]      (200 events, 1,000 probes a second)
#
# Events, in turn: restart, down (lockdown holds), kill -9 of the client, of client and helper, death of the guard, a
# pulled cable, rogue routes, another program that clears its own table, one that takes our routes, rules or addresses,
# one that changes the resolver, a netmask that makes the guard a neighbour, forged packets towards the tunnel's
# addresses (100,000 in all), another program's marks that lead around the tunnel. Clearing our table is a run of its own
# at the end, with the probes that go by routes: see "The kill switch" in docs/threat-model.md.
#
# Holds if no frame was seen but the client's to its guards, DHCP, ARP and neighbour discovery of the next hops, and none
# was missed; if nothing answered a forged packet; and if all was repaired within a second.
set -u
. "$(dirname "$0")/../netns/lab.sh"
. "$(dirname "$0")/../netns/mesh.sh"
. "$(dirname "$0")/../netns/leak_lab.sh"

events=200
rate=1000
format=text
while [ $# -gt 0 ]; do
    case $1 in
    --json) format=json ;;
    --events) events=${2:?} && shift ;;
    --rate) rate=${2:?} && shift ;;
    *) lab_die "usage: leak.sh [--json] [--events N] [--rate N]" ;;
    esac
    shift
done
case $events$rate in *[!0-9]* | '') lab_die "not a number of events or probes" ;; esac

up() {
    leak_client_start "lockdown = true"
    mesh_client_wait 60
}

# event NUMBER: afterwards the client is up again
event() {
    case $(($1 % KINDS)) in
    0) mesh_client_stop && up ;;
    1)
        mesh_client_stop
        sleep 1
        up
        ;;
    2) mesh_client_stop KILL && up ;;
    3) leak_crash && up ;;
    4)
        mesh_node_stop "$LEAK_GUARD" KILL
        sleep 1
        mesh_relays_start "$LEAK_GUARD"
        mesh_client_wait 90
        ;;
    5)
        leak_flap
        mesh_client_wait 90
        ;;
    6)
        leak_rogue_routes add
        sleep 0.5
        leak_rogue_routes del
        mesh_client_wait 90
        ;;
    7)
        lab_in client nft add table inet other
        lab_in client nft delete table inet other
        ;;
    8)
        kinds=(rules table replace addresses device)
        ms=$(leak_take_routes "${kinds[$1 / KINDS % 5]}")
        [ "$ms" -le "$slowest" ] || slowest=$ms
        mesh_client_wait 90
        ;;
    9) leak_rogue_resolver || lab_die "cannot change the resolver" ;;
    10)
        leak_claim add
        sleep 0.5
        leak_claim del
        mesh_client_wait 90
        ;;
    11)
        forged=$((forged + FORGE))
        leak_forge "$FORGE" >&2 || answered=$((answered + 1))
        ;;
    12)
        leak_marks add
        sleep 0.5
        leak_marks del
        ;;
    esac
}

KINDS=13
# So that a whole run has 100,000.
FORGE=$((100000 / (events / KINDS > 0 ? events / KINDS : 1) + 1))
slowest=0
forged=0
answered=0
from=$(date +%s)
leak_lab_begin
up
leak_begin "$rate"
for number in $(seq 0 $((events - 1))); do
    event "$number"
done
leak_end
leak_none "$events" >&2 && status=true || status=false
seen=$(cat "$LAB_DIR/leak.json")
sent=$(cat "$LAB_DIR/probes.json")

[ "$answered" = 0 ] || status=false
leak_begin "$rate" probe-routed
for _ in 1 2 3 4 5; do
    sleep 0.3
    ms=$(leak_flush)
    [ "$ms" -le "$slowest" ] || slowest=$ms
done
leak_end
leak_none 100 >&2 && [ "$slowest" -lt 1000 ] || status=false

if [ "$format" = json ]; then
    echo "{\"schema\": \"meshvpn.soak.leak/1\", \"ok\": $status, \"events\": $events, \"seen\": $seen, \"sent\": $sent," \
        "\"forged\": $forged, \"answered\": $answered, \"slowest_repair_ms\": $slowest, \"seconds\": $(($(date +%s) - from))," \
        "\"flushed\": {\"seen\": $(cat "$LAB_DIR/leak.json")}}"
else
    echo "events $events, probes $(mesh_get probes <<<"$sent"), leaks $(mesh_get frames.leak <<<"$seen")," \
        "forged $forged, runs answered $answered, slowest repair $slowest ms: $([ "$status" = true ] && echo holds || echo FAILS)"
fi
[ "$status" = true ]
