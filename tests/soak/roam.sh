#!/bin/bash
# What the user notices when the client's own network changes, goes away, or the computer sleeps, under traffic.
#
#     roam.sh [--json] [--runs N] [--sleep SECONDS]      (10 runs, 600 s: about half an hour)
#
#     roam         out of one network, into another: addresses and routes change; N times, to and fro
#     offline-30   no network for 30 s, then the same one; N / 3 times
#     offline-60   for 60 s; N / 3 times
#     sleep        the program is stopped (SIGSTOP) for SECONDS, once
#
#     client | away -> guard -> middle -> exit -> web      each one of alder birch cedar elm, maple oak
#
# Holds if each time a numbered packet that set out after the network was there (the program ran again) came within
# 2 s, in both directions, and, but for sleep, no TCP connection was lost and the transfers are whole. (These may go
# on late: both ends' own resends come seldom after a minute.)
set -u
. "$(dirname "$0")/../netns/lab.sh"
. "$(dirname "$0")/../netns/mesh.sh"
. "$(dirname "$0")/../netns/outage.sh"

runs=10
nap=600
format=--text
while [ $# -gt 0 ]; do
    case $1 in
    --json) format= ;;
    --runs) runs=${2:?} && shift ;;
    --sleep) nap=${2:?} && shift ;;
    *) lab_die "usage: roam.sh [--json] [--runs N] [--sleep SECONDS]" ;;
    esac
    shift
done
case $runs in '' | 0 | *[!0-9]*) lab_die "not a number of runs: $runs" ;; esac
case $nap in '' | *[!0-9]*) lab_die "not a number of seconds: $nap" ;; esac

# shellcheck disable=SC2034 # read by lab.sh
LAB_RELAYS="alder birch cedar elm maple oak"
# shellcheck disable=SC2034
LAB_ENTRIES=""

# wander NAME KIND SECONDS LIMIT
wander() {
    outage_settle 30 || lab_say "note: no spare circuit after 30 s"
    outage_opens 10 hold && outage_opens 10 idle || lab_say "note: no TCP connection comes about"
    outage_wander "$2" "$3" "$4"
    OUTAGE_JSON=${OUTAGE_JSON/\"kind\": \"$2\"/\"kind\": \"$1\"}
    echo "$OUTAGE_JSON" >>"$LAB_DIR/events"
    lab_say "$OUTAGE_JSON"
}

outage_begin
outage_client
outage_hold
load_before=$(cut -d' ' -f1 /proc/loadavg)
: >"$LAB_DIR/events"
for _ in $(seq "$runs"); do
    wander roam roam 0 60
done
for _ in $(seq $(((runs + 2) / 3))); do
    wander offline-30 offline 30 120
    wander offline-60 offline 60 200
done
[ "$nap" = 0 ] || wander sleep sleep "$nap" $((nap + 300))
"$LAB_PYTHON" "$OUTAGE_TOOL" summary roam "$LAB_DIR/events" load_before="$load_before" \
    load_after="$(cut -d' ' -f1 /proc/loadavg)" cores="$(nproc)" sleep_s="$nap" $format
