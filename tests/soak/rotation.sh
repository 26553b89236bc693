#!/bin/bash
# What rotation costs: a long download through three hops by one TCP connection, while the circuit is replaced every
# 64 MB, beside the same without: pairs that take turns in their order.
#
#     rotation.sh [--json] [--pairs N] [--mb N] [--every MB]      (9 pairs of 2000 MB)
#
#     client -> guard -> middle -> exit -> web      each one of alder birch cedar elm, maple oak
#
# Holds if each download is whole and was one connection, the circuit was replaced as often as it should be (a
# quarter of the interval is drawn at random), and the median of the ratios of throughput, with to without, is 0.95.
# cpu_ratio: the same of the CPU time of all programs, which a busy machine disturbs less.
set -u
. "$(dirname "$0")/../netns/lab.sh"
. "$(dirname "$0")/../netns/mesh.sh"
. "$(dirname "$0")/../netns/outage.sh"

pairs=9
mb=2000
every=64
json=
while [ $# -gt 0 ]; do
    case $1 in
    --json) json=1 ;;
    --pairs) pairs=${2:?} && shift ;;
    --mb) mb=${2:?} && shift ;;
    --every) every=${2:?} && shift ;;
    *) lab_die "usage: rotation.sh [--json] [--pairs N] [--mb N] [--every MB]" ;;
    esac
    shift
done
case $pairs$mb$every in *[!0-9]*) lab_die "not a number: $pairs $mb $every" ;; esac

# shellcheck disable=SC2034 # read by lab.sh
LAB_RELAYS="alder birch cedar elm maple oak"
# shellcheck disable=SC2034
LAB_ENTRIES=""
NEVER=1000000

# download PAIR with|without: a line of JSON
download() {
    local every_mb=$NEVER since rotations got size cpu
    [ "$2" = without ] || every_mb=$every
    outage_client "rotate_mb = $every_mb"
    outage_settle 30 || lab_say "note: no spare circuit after 30 s"
    rotations=$(outage_rotations)
    cpu=$(mesh_cpu_s)
    outage_now
    since=$OUTAGE_NOW
    got=$(mesh_curl --max-time 1800 -w '%{stderr}%{size_download} %{num_connects}\n' "http://$(lab_addr4 web)/file/$mb" \
        2>"$LAB_DIR/curl" | sha256sum | cut -d' ' -f1)
    outage_now
    cpu=$(mesh_cpu_s | awk -v before="$cpu" '{ print $1 - before }')
    size=$(tail -n 1 "$LAB_DIR/curl")
    [ "$size" = "$((mb * 1000000)) 1" ] || lab_say "curl: $(cat "$LAB_DIR/curl")"
    rotations=$(($(outage_rotations) - rotations))
    mesh_status >"$LAB_DIR/status.json"
    mesh_client_stop
    echo "{\"pair\": $1, \"what\": \"$2\", \"mbit_s\": $((mb * 8000000 / (OUTAGE_NOW - since))), \"cpu_s\": $cpu, \
\"whole\": $([ "$got $size" = "$whole $((mb * 1000000)) 1" ] && echo true || echo false), \"rotations\": $rotations}" |
        tee -a "$LAB_DIR/downloads" >&2
}

outage_begin "$mb"
whole=$(lab_sha256 "$mb")
load_before=$(cut -d' ' -f1 /proc/loadavg)
for pair in $(seq "$pairs"); do
    if [ $((pair % 2)) = 1 ]; then
        download "$pair" with
        download "$pair" without
    else
        download "$pair" without
        download "$pair" with
    fi
done
"$LAB_PYTHON" - "$LAB_DIR/downloads" "$mb" "$every" "${json:-0}" "$load_before" "$(cut -d' ' -f1 /proc/loadavg)" "$(nproc)" <<'PY'
import json, statistics, sys
path, mb, every, as_json, load_before, load_after, cores = sys.argv[1:]
rows = [json.loads(line) for line in open(path, encoding="ascii")]
of = {what: {r["pair"]: r for r in rows if r["what"] == what} for what in ("with", "without")}
ratios = sorted(of["with"][p]["mbit_s"] / of["without"][p]["mbit_s"] for p in of["with"])
# One is drawn up to a quarter late, and the last interval is cut short.
expected = int(int(mb) / (int(every) * 1.25)) - 1
out = {"soak": "rotation", "pairs": len(ratios), "mb": int(mb), "every_mb": int(every), "load_before": float(load_before),
       "load_after": float(load_after), "cores": int(cores),
       "mbit_s_with": statistics.median(r["mbit_s"] for r in of["with"].values()),
       "mbit_s_without": statistics.median(r["mbit_s"] for r in of["without"].values()),
       "ratio_median": round(statistics.median(ratios), 4), "ratio_min": round(ratios[0], 4), "ratio_max": round(ratios[-1], 4),
       "cpu_ratio_median": round(statistics.median(of["with"][p]["cpu_s"] / of["without"][p]["cpu_s"] for p in of["with"]), 4),
       "rotations_expected": expected, "rotations_min": min(r["rotations"] for r in of["with"].values()),
       "rotations_max": max(r["rotations"] for r in of["with"].values()),
       "rotations_without": max(r["rotations"] for r in of["without"].values()),
       "not_whole": sum(not r["whole"] for r in rows)}
out["ok"] = (out["not_whole"] == 0 and out["rotations_min"] >= expected and out["ratio_median"] >= 0.95)
print(json.dumps(out) if as_json == "1" else "\n".join(f"{k:20} {v}" for k, v in out.items()))
sys.exit(0 if out["ok"] else 1)
PY
