#!/bin/bash
# What one relay carries for how many, and how evenly: meshvpn-load against the real programs. Figures of
# today on this machine; nothing is judged but that everything was measured.
#
#     load.sh [--json] [--clients N] [--idle N] [--seconds N] [--pairs N] [--mbit N] [--only PART,...]
#
#     client (meshvpn-load) -> alder (guard) -> birch | cedar | maple | oak (exits) -> web (--echo)
#
# The guard has a core to itself, all else shares the others; and what it sends passes a wire of MBIT with a
# queue of 50 ms (linkem), so that the guard's way out is what is short, on any machine; relay_limit is a
# little below it, so that the queue is the guard's own (docs/protocol.md, queues). Several exits, because
# one takes only so many new circuits a second from one neighbour (limits).
#   build   new circuits/s: of one hop, each client over a link of its own, as fast as they come
#   fair    N bulk clients at once: Jain's index, smallest and largest share
#   half    interactive clients alone, and beside steady bulk that fills half of the wire: added p95
#   flood   bulk clients alone, and with one more that sends twice what the wire carries: what the others
#           lose, and how long a ping takes beside it
#   idle    N circuits without traffic: the guard's memory
# half and flood: interleaved pairs, the median of their differences.
set -u
. "$(dirname "$0")/../netns/lab.sh"
. "$(dirname "$0")/../netns/mesh.sh"

clients=1000
idle=10000
seconds=10
pairs=3
mbit=50
only=build,fair,half,flood,idle
json=
while [ $# -gt 0 ]; do
    case $1 in
    --json) json=1 ;;
    --clients) clients=${2:?} && shift ;;
    --idle) idle=${2:?} && shift ;;
    --seconds) seconds=${2:?} && shift ;;
    --pairs) pairs=${2:?} && shift ;;
    --mbit) mbit=${2:?} && shift ;;
    --only) only=${2:?} && shift ;;
    *) lab_die "usage: load.sh [--json] [--clients N] [--idle N] [--seconds N] [--pairs N] [--mbit N] [--only PART,...]" ;;
    esac
    shift
done

# shellcheck disable=SC2034 # read by lab.sh
LAB_RELAYS="alder birch cedar maple oak"
# shellcheck disable=SC2034
LAB_EXITS="birch cedar maple oak"
# shellcheck disable=SC2034
LAB_ENTRIES=""
# shellcheck disable=SC2034
LAB_LINK_alder="ab.rate=${mbit}mbit ab.queue=$((mbit * 25 / 4))kb"
LOAD=$LAB_BUILD/bench/load/meshvpn-load
# The guard paces what it sends a little below the wire: the queue is its own then.
limit=$((mbit * 95 / 100))
# Circuits begun per second; the exits take 200 of a relay each.
RATE=100

wants() {
    case ",$only," in *",$1,"*) return 0 ;; esac
    return 1
}

# pin PID CORES: of all its threads
pin() {
    taskset -a -p -c "$2" "$1" >/dev/null || lab_say "note: cannot pin to core $2"
}

guard_core=0
other_cores=1-$(($(nproc) - 1))
[ "$(nproc)" -gt 1 ] || other_cores=0

guard_start() {
    mesh_relays_start alder
    pin "${MESH_PIDS[alder]}" "$guard_core"
}

# Memory is measured in a fresh process, and no part inherits another's circuits.
guard_restart() {
    mesh_node_stop alder
    guard_start
}

# A relay keeps only a quarter of its links for one /24: the clients come from eight.
binds=
for block in 1 2 3 4 5 6 7 8; do
    binds="$binds --bind 11.233.$block.77:0"
done

# Until the exits have let go of the last run's sessions, which keeps them from all else (2 walks through
# the kernel's tracking table each).
settle() {
    local node tries
    for node in birch cedar maple oak; do
        tries=60
        until [ "$(mesh_node_get "$node" sessions 2>/dev/null)" = 0 ] || [ "$tries" = 0 ]; do
            tries=$((tries - 1))
            sleep 0.5
        done
    done
}

# load NAME PID-NODE OPTION...: one run of the generator, its report in $LAB_DIR/NAME.json
load() {
    local name=$1 node=$2
    shift 2
    settle
    lab_say "$name: $*"
    # shellcheck disable=SC2086 # options are words
    lab_in client taskset -c "$other_cores" "$LOAD" --network "$LAB_DIR/net/network.conf" \
        --server "$(lab_addr4 web):4001" $binds --relay-pid "${MESH_PIDS[$node]}" --json "$@" \
        >"$LAB_DIR/$name.json" 2>>"$LAB_DIR/log/load.log" || mesh_fail "meshvpn-load failed ($name)" load alder
}

# Through the guard to each of the exits in turn.
paths="--path alder,birch --path alder,cedar --path alder,maple --path alder,oak"

# value NAME EXPRESSION: of the report `r`
value() {
    "$LAB_PYTHON" -c 'import json, sys
r = json.load(open(sys.argv[1]))
print(eval(sys.argv[2]))' "$LAB_DIR/$1.json" "$2"
}

lab_begin
[ -x "$LOAD" ] || lab_die "meshvpn-load is not built in $LAB_BUILD; run ./run build"
lab_internet
for block in 1 2 3 4 5 6 7 8; do
    lab_in client ip addr add "11.233.$block.77/32" dev eth0 || lab_die "cannot add an address"
done
mesh_create listed
mesh_set "$(mesh_conf alder)" relay_limit "$limit"
lab_spawn web echo "$LOAD" --echo "$(lab_addr4 web):4001"
pin "$LAB_PID" "$other_cores"
lab_wait_port web udp 4001 || lab_die "the echo server does not start"
guard_start
mesh_relays_start birch cedar maple oak
for node in birch cedar maple oak; do
    pin "${MESH_PIDS[$node]}" "$other_cores"
done

if wants build; then
    # The node itself is asked: through a guard there are two relays to pay for each circuit.
    pin "${MESH_PIDS[oak]}" "$guard_core"
    load build oak --path oak --mode idle --clients 1000 --rate 1000 --build-seconds 30 --seconds 0
    pin "${MESH_PIDS[oak]}" "$other_cores"
fi
# shellcheck disable=SC2086 # paths are options
if wants fair; then
    load fair_up alder $paths --mode bulk --clients "$clients" --rate "$RATE" --seconds "$seconds" --direction up
    load fair_down alder $paths --mode bulk --clients "$clients" --rate "$RATE" --seconds "$seconds" --direction down
fi
# shellcheck disable=SC2086
if wants half; then
    # 1,200 bytes are 1,466 on the wire.
    each=$((limit * 1000 * 1200 / 1466 / 2 / 100))
    for pair in $(seq "$pairs"); do
        load "half_alone.$pair" alder $paths --mode interactive=50 --rate "$RATE" --seconds "$seconds"
        load "half_beside.$pair" alder $paths --mode bulk=100,interactive=50 --kbit "$each" --rate "$RATE" \
            --seconds "$seconds" --direction down
    done
fi
# shellcheck disable=SC2086
if wants flood; then
    for pair in $(seq "$pairs"); do
        load "flood_without.$pair" alder $paths --mode bulk=20,interactive=5 --rate "$RATE" --seconds "$seconds"
        load "flood_with.$pair" alder $paths --mode bulk=20,interactive=5,flood=1 --flood-kbit $((mbit * 2000)) \
            --rate "$RATE" --seconds "$seconds"
    done
fi
# shellcheck disable=SC2086
if wants idle; then
    guard_restart
    load idle alder $paths --mode idle --clients "$idle" --rate "$RATE" --seconds 1
fi

"$LAB_PYTHON" - "$LAB_DIR" "$pairs" "${json:-0}" "$mbit" <<'PY'
import json, os, statistics, sys
folder, pairs, as_json = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "1"

def report(name):
    path = f"{folder}/{name}.json"
    return json.load(open(path)) if os.path.exists(path) else None

def over_pairs(first, second, of):
    rows = [(report(f"{first}.{i}"), report(f"{second}.{i}")) for i in range(1, pairs + 1)]
    return round(statistics.median(of(a, b) for a, b in rows), 4)

out = {"soak": "load", "pairs": pairs, "wire_mbit_s": int(sys.argv[4])}
if r := report("build"):
    c = r["circuits"]
    out["build"] = {"wanted": r["clients"], "built": c["built"], "per_s": c["per_s"], "p95_ms": c["p95_ms"],
                    "per_cpu_s": r["relay"]["circuits_per_cpu_s"], "failures": c["failures"]}
for way in "up", "down":
    if r := report(f"fair_{way}"):
        b = r["bulk"]
        out[f"fair_{way}"] = {
            "clients": r["clients"], "built": r["circuits"]["built"], "progressed": r["progressed"], "jain": b["jain"],
            "mbit_s": b["mbit_s"], "mbit_s_min": b["mbit_s_min"], "mbit_s_max": b["mbit_s_max"], "loss": b["loss"],
            "p95_ms": b["p95_ms"], "guard_busy": r["relay"]["busy"], "failures": r["circuits"]["failures"], "own_drops": r["own_drops"]}
if r := report("half_alone.1"):
    out["half"] = {
        "beside_mbit_s": report("half_beside.1")["bulk"]["mbit_s"],
        "guard_busy": report("half_beside.1")["relay"]["busy"],
        "alone_p95_ms": over_pairs("half_alone", "half_beside", lambda a, b: a["interactive"]["p95_ms"]),
        "added_p95_ms": over_pairs("half_alone", "half_beside", lambda a, b: b["interactive"]["p95_ms"] - a["interactive"]["p95_ms"])}
if r := report("flood_without.1"):
    out["flood"] = {
        "without_mbit_s": r["bulk"]["mbit_s"],
        "share_lost": over_pairs("flood_without", "flood_with", lambda a, b: 1 - b["bulk"]["mbit_s"] / a["bulk"]["mbit_s"]),
        "guard_busy": report("flood_with.1")["relay"]["busy"],
        "flood_packets": over_pairs("flood_without", "flood_with", lambda a, b: b["flood"]["sent"]),
        "jain_of_others": over_pairs("flood_without", "flood_with", lambda a, b: b["bulk"]["jain"]),
        "ping_p95_ms": over_pairs("flood_without", "flood_with", lambda a, b: b["interactive"]["p95_ms"]),
        "ping_loss": over_pairs("flood_without", "flood_with", lambda a, b: b["interactive"]["loss"])}
if r := report("idle"):
    c = r["circuits"]
    out["idle"] = {"wanted": r["clients"], "built": c["built"], "bytes_per_circuit": r["relay"]["rss_per_circuit"],
                   "rss_before": r["relay"]["rss_before"], "rss_built": r["relay"]["rss_built"], "failures": c["failures"],
                   "own_bytes_per_client": r["own_bytes_per_client"]}
if as_json:
    print(json.dumps(out))
else:
    for part, figures in out.items():
        print(part, figures if not isinstance(figures, dict) else "")
        for name, value in figures.items() if isinstance(figures, dict) else ():
            print(f"  {name:22} {value}")
PY
