#!/bin/bash
# What the user notices when a node of the circuit dies under traffic: each event many times, in turns.
#
#     failover.sh [--json] [--runs N] [--only KIND,...] [--delay MS]      (50 runs of each: about an hour)
#
#     guard-kill, middle-kill       kill -9; started again 5 s later, as systemd would
#     guard-silent, middle-silent   all its packets are dropped for 5 s
#     exit-kill                     kill -9 of the exit
#     exit-silent                   (only if named)
#
#     client -> guard -> middle -> exit -> web      each one of alder birch cedar elm hazel pine, maple oak rowan
#
# Before each event the client has its spare circuit again (settle_ms says how long that took). Holds if, of guard
# and middle, no TCP connection is lost, both directions of each transfer are whole, and the longest pause of the
# numbered flow is 1 s in the median and 3 s in 95 % (tcp_gap_ms: of the transfer, with TCP's own resends). Of the
# exit: the flow and new connections go through another one within 3 s in 95 %, and each open connection, silent or not,
# is reset within 3 s. calm_ms: the longest pause in the second before, which is the machine's.
# --delay: so many milliseconds on the client's wire, each way.
set -u
. "$(dirname "$0")/../netns/lab.sh"
. "$(dirname "$0")/../netns/mesh.sh"
. "$(dirname "$0")/../netns/outage.sh"

runs=50
only=guard-kill,guard-silent,middle-kill,middle-silent,exit-kill
format=--text
while [ $# -gt 0 ]; do
    case $1 in
    --json) format= ;;
    --runs) runs=${2:?} && shift ;;
    --only) only=${2:?} && shift ;;
    # shellcheck disable=SC2034 # read by lab_internet
    --delay) LAB_LINK_client="delay=${2:?}ms" && shift ;;
    *) lab_die "usage: failover.sh [--json] [--runs N] [--only KIND,...] [--delay MS]" ;;
    esac
    shift
done
case $runs in '' | 0 | *[!0-9]*) lab_die "not a number of runs: $runs" ;; esac
for kind in ${only//,/ }; do
    case $kind in
    guard-kill | guard-silent | middle-kill | middle-silent | exit-kill | exit-silent) ;;
    *) lab_die "no such event: $kind" ;;
    esac
done

# shellcheck disable=SC2034 # read by lab.sh
LAB_RELAYS="alder birch cedar elm hazel pine maple oak rowan"
# shellcheck disable=SC2034
LAB_EXITS="maple oak rowan"
# shellcheck disable=SC2034
LAB_ENTRIES=""
SETTLE_S=90

outage_begin
outage_client
outage_hold
load_before=$(cut -d' ' -f1 /proc/loadavg)
: >"$LAB_DIR/events"
for run in $(seq "$runs"); do
    for kind in ${only//,/ }; do
        outage_settle "$SETTLE_S" || lab_say "note: no spare circuit after $SETTLE_S s: $(cat "$LAB_DIR/status.json")"
        outage_opens 10 hold && outage_opens 10 idle || lab_say "note: no TCP connection comes about"
        outage_event "$kind"
        echo "$OUTAGE_JSON" >>"$LAB_DIR/events"
        lab_say "$run: $OUTAGE_JSON"
    done
done
"$LAB_PYTHON" "$OUTAGE_TOOL" summary failover "$LAB_DIR/events" load_before="$load_before" \
    load_after="$(cut -d' ' -f1 /proc/loadavg)" cores="$(nproc)" $format
