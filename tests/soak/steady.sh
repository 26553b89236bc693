#!/bin/bash
# Hours in small: the real programs under steady traffic for many minutes. Links rekey every two minutes, ids change,
# probes and pings come and go, and nobody at the ends may notice.
#
#     steady.sh [--json] [--minutes N]      (15 minutes)
#
# Holds if: one session from beginning to end, TCP intact, less than 1 % of pings lost, links were rekeyed, no cell was
# dropped by the middle, and no program's memory grew by more than 10 % after the first minute.
set -u
. "$(dirname "$0")/../netns/lab.sh"
. "$(dirname "$0")/../netns/mesh.sh"

minutes=15
json=
while [ $# -gt 0 ]; do
    case $1 in
    --json) json=1 ;;
    --minutes) minutes=${2:?} && shift ;;
    *) lab_die "usage: steady.sh [--json] [--minutes N]" ;;
    esac
    shift
done

rss_kb() {
    awk '/^VmRSS/ { print $2 }' "/proc/${MESH_PIDS[$1]}/status"
}

rss_all() {
    local node
    for node in $LAB_RELAYS client; do
        echo "$node $(rss_kb "$node")"
    done
}

counter() { # counter NODE KEY
    lab_in "$1" timeout 5 "$MESH_PROGRAMS/meshvpn" status --json --control "$LAB_DIR/sock/$1" | mesh_get "counters.$2"
}

lab_begin
lab_internet
lab_services
mesh_create listed
mesh_relays_start
mesh_client_start 3 alder birch oak
mesh_client_wait

lab_in client iperf3 -J -c "$(lab_addr4 web)" -p 5201 -b 40M -t $((minutes * 60)) >"$LAB_DIR/tcp.json" 2>"$LAB_DIR/log/tcp.log" &
tcp=$!
sleep 60
rss_all >"$LAB_DIR/rss.before"
: >"$LAB_DIR/ping"
for _ in $(seq $((minutes - 1))); do
    lab_in client ping -n -q -i 0.2 -c 290 "$(lab_addr4 web)" >>"$LAB_DIR/ping" 2>&1
done
rss_all >"$LAB_DIR/rss.after"
wait "$tcp"
tcp_status=$?
mesh_status >"$LAB_DIR/status.json"
"$LAB_PYTHON" - "$LAB_DIR" "$minutes" "$tcp_status" "$(counter birch rekeys)" "$(counter birch cells_dropped)" "${json:-0}" <<'PY'
import json, re, sys
folder, minutes, tcp_status, rekeys, dropped, as_json = sys.argv[1], *map(int, sys.argv[2:7])
def rss(name):
    return {n: int(kb) for n, kb in (line.split() for line in open(f"{folder}/rss.{name}"))}
before, after = rss("before"), rss("after")
growth = max(after[n] / before[n] for n in before) - 1
sent, got = (sum(map(int, x)) for x in zip(*re.findall(r"(\d+) packets transmitted, (\d+) received", open(f"{folder}/ping").read())))
status = json.load(open(f"{folder}/status.json"))
out = {
    "soak": "steady", "minutes": minutes, "tcp_ok": tcp_status == 0, "ping_lost": sent - got, "pings": sent,
    "rekeys": rekeys, "cells_dropped": dropped, "rss_growth": round(growth, 3), "since_s": status["since_s"], "state": status["state"],
}
out["ok"] = (out["tcp_ok"] and out["ping_lost"] <= sent / 100 and rekeys >= minutes // 3 and dropped == 0 and growth <= 0.1
             and status["state"] == "connected" and status["since_s"] >= minutes * 60)
print(json.dumps(out) if as_json else "\n".join(f"{k:14} {v}" for k, v in out.items()))
sys.exit(0 if out["ok"] else 1)
PY
