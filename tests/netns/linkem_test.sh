#!/bin/bash
# Does the link emulator do what its settings say? Two ends, one linkem:
#
#     client eth0 ==linkem== inet (router) --veth-- web
#
# Prints "ok NAME" or "FAIL NAME" for ./run test.
set -u
. "$(dirname "$0")/lab.sh"

LAB_RELAYS=

# probe COUNT SIZE PER_SECOND -> JSON of what arrived at the web node
probe() {
    local json=$LAB_DIR/probe.json seconds
    seconds=$(awk "BEGIN { print $1 / $3 + 1.2 }")
    lab_in web "$LAB_PYTHON" "$LAB_TOOL" udp-recv 9000 "$seconds" >"$json" 2>/dev/null &
    local receiver=$!
    lab_wait_port web udp 9000
    lab_in client "$LAB_PYTHON" "$LAB_TOOL" udp-send "${PROBE_TO:-$(lab_addr4 web)}" 9000 "$1" "$2" "$3"
    wait "$receiver"
    cat "$json"
}

# between KEY LOW HIGH: of the last probe
between() {
    local value
    value=$("$LAB_PYTHON" "$LAB_TOOL" get "$1" <"$LAB_DIR/probe.json")
    cat "$LAB_DIR/probe.json"
    awk "BEGIN { exit !($value >= $2 && $value <= $3) }"
}

# rtt LOW HIGH: average of pings, ms
rtt() {
    local out
    out=$(lab_in client ping -n -q -i 0.02 -c 40 "$(lab_addr4 web)") || return 1
    echo "$out"
    echo "$out" | awk -F/ -v low="$1" -v high="$2" '/^rtt/ { ok = $5 >= low && $5 <= high } END { exit !ok }'
}

# iperf_mbit LOW HIGH [OPTION...]
iperf_mbit() {
    local low=$1 high=$2
    shift 2
    lab_in client timeout 20 iperf3 -c "$(lab_addr4 web)" -t 3 -O 1 -J "$@" >"$LAB_DIR/iperf.json" || return 1
    "$LAB_PYTHON" "$LAB_TOOL" get end.sum_received.bits_per_second <"$LAB_DIR/iperf.json" |
        awk -v low="$low" -v high="$high" '{ print $1 / 1e6 " Mbit/s"; exit !($1 / 1e6 >= low && $1 / 1e6 <= high) }'
}

lab_begin
LAB_LINK_client="clear" lab_internet
lab_services

lab_check linkem_plain_rtt rtt 0 10
probe 2000 500 4000 >/dev/null
lab_check linkem_plain_passes_all between distinct 2000 2000
lab_check linkem_plain_keeps_order between late 0 0
lab_check linkem_plain_tcp iperf_mbit 50 100000

lab_link_set client clear delay=15ms
lab_check linkem_delay rtt 30 45
lab_link_set client clear ab.delay=15ms
lab_check linkem_delay_one_way rtt 15 25

lab_link_set client clear delay=10ms jitter=4ms
probe 2000 500 2000 >/dev/null
lab_check linkem_jitter_low between delay_ms_min 5.9 9
# The largest of 2000 is the machine's worst moment too: only that jitter adds is sure.
lab_check linkem_jitter_high between delay_ms_max 12 100
lab_check linkem_jitter_keeps_order between late 0 0

lab_link_set client clear loss=10%
probe 6000 200 6000 >/dev/null
lab_check linkem_loss_10 between distinct 5250 5550
lab_link_set client clear ba.loss=100%
probe 500 200 2000 >/dev/null
lab_check linkem_loss_other_direction between distinct 500 500

lab_link_set client clear reorder=5% reorder-delay=5ms
probe 6000 200 3000 >/dev/null
lab_check linkem_reorder_5 between late 210 400
lab_check linkem_reorder_loses_nothing between distinct 6000 6000

lab_link_set client clear duplicate=20%
probe 3000 200 3000 >/dev/null
lab_check linkem_duplicate_20 between duplicates 500 700

lab_link_set client clear corrupt=10%
probe 3000 400 3000 >/dev/null
lab_check linkem_corrupt_10_reaches_program between corrupt 230 370
PROBE_TO=$(lab_addr6 web)
probe 3000 400 3000 >/dev/null
PROBE_TO=
lab_check linkem_corrupt_10_ipv6 between corrupt 230 370

lab_link_set client clear mtu=1300
probe 200 1272 2000 >/dev/null
lab_check linkem_mtu_fits between distinct 200 200
probe 200 1273 2000 >/dev/null
lab_check linkem_mtu_black_hole between received 0 0

lab_link_set client clear rate=20mbit queue=64kb
lab_check linkem_rate_tcp iperf_mbit 16 20.5
lab_check linkem_rate_tcp_back iperf_mbit 16 20.5 -R
# Twice the rate for a second: half of it and the queue's 64 KB arrive, none later than the queue is deep.
probe 4000 1172 4167 >/dev/null
lab_check linkem_rate_drops between distinct 1900 2250
lab_check linkem_queue_is_bounded between delay_ms_max 20 45

exit $((LAB_FAILED > 0))
