#!/bin/bash
# End-to-end speed of the real programs in namespaces: medians of several runs, each with a fresh
# circuit. Topology: lab.sh.
#
#     bench.sh [--json] [--runs N] [--hops N]
#
# CPU seconds per GB count user and system time of all meshvpn programs and of both iperf3 ends.
# UDP packets/s: the highest rate of 1200-byte packets with less than 1 % lost (found by doubling,
# then halving the gap four times). "plain" is the same lab without MeshVPN: only ratios within one
# machine and minute mean anything.
set -u
. "$(dirname "$0")/lab.sh"
. "$(dirname "$0")/mesh.sh"

runs=3
hops=3
json=
while [ $# -gt 0 ]; do
    case $1 in
    --json) json=1 ;;
    --runs) runs=${2:?} && shift ;;
    --hops) hops=${2:?} && shift ;;
    *) lab_die "usage: bench.sh [--json] [--runs N] [--hops N]" ;;
    esac
    shift
done

value() {
    echo "$2" >>"$LAB_DIR/bench.$1"
}

# tcp NAME OPTION...: Mbit/s and CPU seconds per GB of one run
tcp() {
    local name=$1 before
    shift
    before=$(mesh_cpu_s)
    mesh_iperf "$LAB_DIR/tcp.json" -t 4 "$@" || return 1
    "$LAB_PYTHON" -c '
import json, sys
end = json.load(open(sys.argv[1]))["end"]
received, load = end["sum_received"], end["cpu_utilization_percent"]
iperf = (load["host_total"] + load["remote_total"]) / 100 * received["seconds"]
print(received["bits_per_second"] / 1e6, (float(sys.argv[3]) - float(sys.argv[2]) + iperf) / (received["bytes"] / 1e9))
' "$LAB_DIR/tcp.json" "$before" "$(mesh_cpu_s)" >"$LAB_DIR/tcp.out" || return 1
    value "$name" "$(cut -d' ' -f1 "$LAB_DIR/tcp.out")"
    value "${name}_cpu" "$(cut -d' ' -f2 "$LAB_DIR/tcp.out")"
}

# udp_holds PACKETS_PER_SECOND: less than 1 % lost, and that many really sent
udp_holds() {
    mesh_iperf "$LAB_DIR/udp.json" -u -l 1200 -b $(($1 * 1200 * 8)) -t 1 2>/dev/null || return 1
    "$LAB_PYTHON" -c '
import json, sys
end = json.load(open(sys.argv[1]))["end"]["sum"]
sys.exit(end["lost_packets"] > 0.01 * end["packets"] or end["packets"] < 0.95 * end["seconds"] * float(sys.argv[2]))
' "$LAB_DIR/udp.json" "$1"
}

udp_highest() {
    local good=0 bad=4000 step
    while [ "$bad" -le 1000000 ] && udp_holds "$bad"; do
        good=$bad
        bad=$((bad * 2))
    done
    for step in 1 2 3 4; do
        : "$step"
        if udp_holds $(((good + bad) / 2)); then
            good=$(((good + bad) / 2))
        else
            bad=$(((good + bad) / 2))
        fi
    done
    echo "$good"
}

# rtt_loaded: while a TCP transfer fills the circuit
rtt_loaded() {
    local load
    mesh_iperf "$LAB_DIR/load.json" -t 4 &
    load=$!
    sleep 1
    mesh_ping_ms "$(lab_addr4 web)" 40
    wait "$load"
}

one_run() {
    mesh_client_start "$hops"
    mesh_client_wait
    value build_ms "$(mesh_get circuit_build_ms build_ms circuit.build_ms <"$LAB_DIR/status.json")"
    value rtt_idle_ms "$(mesh_ping_ms "$(lab_addr4 web)" 40)"
    tcp up && tcp down -R || lab_die "a TCP run failed"
    value rtt_loaded_ms "$(rtt_loaded)"
    value udp_pps "$(udp_highest)"
    mesh_client_stop
}

median() {
    "$LAB_PYTHON" "$LAB_TOOL" median <"$LAB_DIR/bench.$1" 2>/dev/null || echo null
}

lab_begin
lab_internet
lab_services
mesh_create listed
value plain_rtt_ms "$(mesh_ping_ms "$(lab_addr4 web)" 40)"
tcp plain || lab_die "plain TCP failed"
mesh_relays_start
run=1
while [ "$run" -le "$runs" ]; do
    lab_say "end to end, $hops hops: run $run of $runs"
    one_run
    run=$((run + 1))
done

if [ -n "$json" ]; then
    "$LAB_PYTHON" -c '
import json, sys
names = sys.argv[1::2]
print(json.dumps({"bench": "end_to_end"} | {n: json.loads(v) for n, v in zip(names, sys.argv[2::2])}))' \
        hops "$hops" runs "$runs" tcp_up_mbit_s "$(median up)" tcp_up_cpu_s_per_gb "$(median up_cpu)" \
        tcp_down_mbit_s "$(median down)" tcp_down_cpu_s_per_gb "$(median down_cpu)" \
        udp_packets_per_s "$(median udp_pps)" rtt_idle_ms "$(median rtt_idle_ms)" \
        rtt_loaded_ms "$(median rtt_loaded_ms)" circuit_build_ms "$(median build_ms)" \
        plain_tcp_mbit_s "$(median plain)" plain_rtt_ms "$(median plain_rtt_ms)"
else
    cat <<TABLE
end to end, $hops hops, medians of $runs runs
  TCP client -> server      $(median up) Mbit/s, $(median up_cpu) CPU s/GB
  TCP server -> client      $(median down) Mbit/s, $(median down_cpu) CPU s/GB
  UDP, 1200 bytes           $(median udp_pps) packets/s at < 1 % loss
  RTT idle / loaded         $(median rtt_idle_ms) / $(median rtt_loaded_ms) ms   (plain: $(median plain_rtt_ms))
  circuit build             $(median build_ms) ms
  plain forwarding          $(median plain) Mbit/s, $(median plain_cpu) CPU s/GB of iperf3
TABLE
fi
