#!/bin/bash
# Does any question for a name leave the client's host outside the tunnel while its circuits come and go, and are the
# name servers put back however the client ends? Other users ask all the time: by the C library, by UDP and by TCP, and
# past everything: the name server of the local network (port 53, 853), mDNS, LLMNR, NetBIOS, by sockets that name the
# interface. Every frame on the wire is looked at. dns.sh tries managers one by one, this one reconnects.
#
#     dns.sh [--json] [--lookups N] [--reconnects N]      (10,000 lookups, 50 reconnects)
#
# Reconnects, in turn: all circuits renewed (meshvpn reconnect), death of the guard, kill -9 of the client, another
# program that writes /etc/resolv.conf, stop and start, kill -9 of client, helper and the process for names. Lockdown
# is on: nothing may leave between a stop and a start either.
#
# Holds if no frame to a port of name services was seen, none was missed, each kill -9 of the client and each stop put
# back /etc/resolv.conf as it was, the start after a kill of all of them too, what others wrote was undone within a
# second, and but for a few at each reconnect all lookups were answered.
set -u
. "$(dirname "$0")/../netns/lab.sh"
. "$(dirname "$0")/../netns/mesh.sh"
. "$(dirname "$0")/../netns/leak_lab.sh"
. "$(dirname "$0")/../netns/dns_lab.sh"

lookups=10000
reconnects=50
format=text
ASKERS=4
# Lookups that meet a moment without circuit: of each asker those of some seconds, each of which waits.
MISSED_MAX=16
while [ $# -gt 0 ]; do
    case $1 in
    --json) format=json ;;
    --lookups) lookups=${2:?} && shift ;;
    --reconnects) reconnects=${2:?} && shift ;;
    *) lab_die "usage: dns.sh [--json] [--lookups N] [--reconnects N]" ;;
    esac
    shift
done
case $lookups$reconnects in *[!0-9]* | '') lab_die "not a number of lookups or reconnects" ;; esac
[ "$lookups" -ge 40 ] && [ "$reconnects" -gt 0 ] || lab_die "at least 40 lookups and one reconnect"

restored=0
unrestored=0
slowest=0
wrong=0

up() {
    dns_client_start auto "lockdown = true"
    mesh_client_wait 60
    dns_until 2 dns_is_ours || { wrong=$((wrong + 1)) && lab_say "names do not lead into the tunnel"; }
}

is_restored() {
    if dns_until 3 dns_unchanged; then
        restored=$((restored + 1))
    else
        unrestored=$((unrestored + 1))
        dns_unchanged >&2
    fi
}

# Down and up again: what the status says may be of before.
builds() {
    mesh_status | mesh_get circuits_built
}

reconnect() {
    local before
    before=$(builds)
    "$LAB_PYTHON" "$DNS_TOOL" control "$LAB_DIR/sock/client" reconnect || lab_die "the client does not reconnect"
    dns_until 30 eval '[ "$(builds)" -gt "$before" ]' || lab_die "no circuit was built anew"
    mesh_client_wait 60
}

is_repaired() {
    local from ms
    dns_sh 'cp -p /etc/resolv.conf.meshvpn-backup /etc/x && mv /etc/x /etc/resolv.conf'
    from=$(date +%s%N)
    dns_until 5 dns_is_ours || wrong=$((wrong + 1))
    ms=$((($(date +%s%N) - from) / 1000000))
    [ "$ms" -le "$slowest" ] || slowest=$ms
    dns_look_is_theirs
}

# What it wrote comes back at the end: the same text, in a file of its own.
dns_look_is_theirs() {
    dns_look >"$LAB_DIR/dns.now"
    mv "$LAB_DIR/dns.before" "$LAB_DIR/dns.older"
    sed -n '/^resolv.conf.meshvpn-backup /,$p' "$LAB_DIR/dns.now" | sed 's/^resolv.conf.meshvpn-backup /resolv.conf /; s/  resolv.conf.meshvpn-backup$/  resolv.conf/' \
        >"$LAB_DIR/dns.before"
}

event() {
    case $(($1 % 6)) in
    0) reconnect ;;
    1)
        mesh_node_stop "$LEAK_GUARD" KILL
        sleep 1
        mesh_relays_start "$LEAK_GUARD"
        mesh_client_wait 90
        ;;
    2)
        mesh_client_stop KILL
        is_restored
        up
        ;;
    3) is_repaired && reconnect ;;
    4)
        mesh_client_stop
        is_restored
        up
        ;;
    5)
        dns_kill_all
        dns_is_ours || wrong=$((wrong + 1))
        dns_client_start auto "lockdown = true"
        # The start puts back what was there; the circuit comes later.
        dns_until 5 eval 'dns_unchanged || dns_is_ours' || wrong=$((wrong + 1))
        mesh_client_wait 60
        dns_until 2 dns_is_ours || wrong=$((wrong + 1))
        ;;
    esac
}

asked() {
    cat "$LAB_DIR"/askers/?.json 2>/dev/null | "$LAB_PYTHON" -c '
import collections, json, sys
total = collections.Counter(lookups=0, strays=0, done=0)
results = collections.Counter()
text = sys.stdin.read()
decoder = json.JSONDecoder()
while text.strip():
    o, at = decoder.raw_decode(text)
    text = text[at:].lstrip()
    total["lookups"] += o["lookups"]
    total["strays"] += o["strays"]
    total["done"] += o["done"]
    results.update(o["results"])
print(json.dumps({**total, "answered": sum(n for k, n in results.items() if k.endswith("answered")), "results": results}))'
}

from=$(date +%s)
machine=$(stat -c '%i %Y %s' /etc/resolv.conf 2>/dev/null)
dns_lab_begin
dns_place file
up
lab_spawn inet watch "$LAB_PYTHON" "$DNS_TOOL" watch client "$(lab_addr4 $LEAK_GUARD)" "$(lab_addr6 $LEAK_GUARD)"
watcher=$LAB_PID
leak_wait_ready watch
askers=()
mkdir "$LAB_DIR/askers" && chmod 777 "$LAB_DIR/askers"
chmod 755 "$LAB_DIR"
for number in $(seq $ASKERS); do
    lab_spawn client "asker$number" nsenter --mount="/proc/$DNS_HOLDER/ns/mnt" -- "${DNS_USER[@]}" \
        "$LAB_PYTHON" "$DNS_TOOL" lookups $(((lookups + ASKERS - 1) / ASKERS)) "$MESH_GATEWAY4" "$LAB_WEB_NAME" \
        "$(lab_addr4 web)" 30 "$LAB_DIR/askers/$number.json" "$(lab_addr4 fig)"
    askers+=("$LAB_PID")
done
for number in $(seq 0 $((reconnects - 1))); do
    # Spread over the lookups.
    until [ "$(asked | mesh_get lookups)" -ge $((number * lookups / reconnects)) ]; do sleep 0.1; done
    event "$number"
done
for pid in "${askers[@]}"; do
    while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
done
mesh_client_stop KILL
is_restored
sleep 0.3
lab_stop "$watcher"
sed 's/^ready//' "$LAB_DIR/log/watch.log" | grep '^{' | tail -n 1 >"$LAB_DIR/seen.json"
asked >"$LAB_DIR/asked.json"

seen() {
    mesh_get "frames.$1" <"$LAB_DIR/seen.json"
}

total=$(mesh_get lookups <"$LAB_DIR/asked.json")
answered=$(mesh_get answered <"$LAB_DIR/asked.json")
strays=$(mesh_get strays <"$LAB_DIR/asked.json")
status=false
[ "$(seen names)" = 0 ] && [ "$(seen guard)" -gt "$total" ] && [ "$(mesh_get lost <"$LAB_DIR/seen.json")" = 0 ] &&
    [ "$unrestored" = 0 ] && [ "$wrong" = 0 ] && [ "$slowest" -lt 1000 ] && [ "$total" -ge "$lookups" ] &&
    [ "$strays" -ge "$lookups" ] && [ $((total - answered)) -le $((MISSED_MAX * reconnects)) ] &&
    [ "$(stat -c '%i %Y %s' /etc/resolv.conf 2>/dev/null)" = "$machine" ] && status=true
if [ "$format" = json ]; then
    echo "{\"schema\": \"meshvpn.soak.dns/1\", \"ok\": $status, \"reconnects\": $reconnects, \"asked\": $(cat "$LAB_DIR/asked.json")," \
        "\"seen\": $(cat "$LAB_DIR/seen.json"), \"restored\": $restored, \"not_restored\": $unrestored, \"wrong\": $wrong," \
        "\"slowest_repair_ms\": $slowest, \"seconds\": $(($(date +%s) - from))}"
else
    echo "lookups $total ($answered answered), strays $strays, reconnects $reconnects, frames to name services $(seen names)," \
        "restored $restored of $((restored + unrestored)), slowest repair $slowest ms, $(($(date +%s) - from)) s:" \
        "$([ "$status" = true ] && echo holds || echo FAILS)"
fi
[ "$status" = true ]
