#!/bin/bash
# Fifty clients in one process (meshvpn-load) through three real relays, for a few seconds: all get a
# circuit, all get on, none is lost. Then a guard with a
# limit, and one that floods: the others keep their shares. Exact figures: sim_load, ./run soak load.
#
#     client (50 engines) -> alder -> birch -> oak (exit) -> web (meshvpn-load --echo)
set -u
# shellcheck disable=SC2034 # read by lab.sh
. "$(dirname "$0")/lab.sh"
. "$(dirname "$0")/mesh.sh"

LAB_RELAYS="alder birch oak"
LAB_EXITS="oak"
LAB_ENTRIES=""
LOAD=$LAB_BUILD/bench/load/meshvpn-load

# what EXPRESSION: of the report `r`
what() {
    cat "$LAB_DIR/load.json"
    "$LAB_PYTHON" -c 'import json, sys
r = json.load(open(sys.argv[1]))
sys.exit(not eval(sys.argv[2]))' "$LAB_DIR/load.json" "$1"
}

lab_begin
[ -x "$LOAD" ] || lab_die "meshvpn-load is not built in $LAB_BUILD; run ./run build"
lab_internet
mesh_create listed
lab_spawn web echo "$LOAD" --echo "$(lab_addr4 web):4001"
lab_wait_port web udp 4001 || lab_die "the echo server does not start"
mesh_relays_start
# Steady bulk: what the machine can do at best is no matter of this test.
lab_in client "$LOAD" --network "$LAB_DIR/net/network.conf" --server "$(lab_addr4 web):4001" \
    --path alder,birch,oak --mode bulk=20,interactive=20,idle=9,flood=1 --rate 50 --build-seconds 20 \
    --seconds 3 --kbit 200 --flood-kbit 200 --direction both --relay-pid "${MESH_PIDS[alder]}" --json \
    >"$LAB_DIR/load.json" 2>"$LAB_DIR/log/load.log" || mesh_fail "meshvpn-load failed" load alder birch oak

lab_check "load_every_client_has_a_circuit" what 'r["circuits"]["built"] == r["clients"] == 50'
lab_check "load_no_circuit_fails" what 'r["circuits"]["failures"] == {} and r["circuits"]["lost_later"] == 0'
lab_check "load_all_get_on" what 'r["progressed"] == r["expected_to_progress"] == 40'
lab_check "load_little_is_lost_and_nothing_changed" what 'all(
    r[k]["loss"] < 0.02 and r[k]["corrupt"] == 0 and r[k]["received"] > 500 for k in ("bulk", "interactive"))'
lab_check "load_equal_demands_have_equal_shares" what 'r["bulk"]["jain"] > 0.98'

# The guard's limit is what is short; one circuit sends twice as much, and nothing slows it down.
mesh_node_stop alder
mesh_set "$(mesh_conf alder)" relay_limit 10
mesh_relays_start alder
lab_in client "$LOAD" --network "$LAB_DIR/net/network.conf" --server "$(lab_addr4 web):4001" \
    --path alder,birch,oak --mode bulk=10,interactive=5,flood=1 --rate 50 --build-seconds 20 \
    --seconds 4 --flood-kbit 20000 --relay-pid "${MESH_PIDS[alder]}" --json \
    >"$LAB_DIR/load.json" 2>>"$LAB_DIR/log/load.log" || mesh_fail "meshvpn-load failed" load alder birch oak

# Ten of eleven shares, of what 1,452 + 297 bytes on the wire carry in 1,200; less for pings and a busy machine.
lab_check "load_a_flood_does_not_take_the_shares_of_others" what 'r["bulk"]["mbit_s"] > 10 * 10 / 11 * 0.5'
lab_check "load_shares_beside_a_flood_are_equal" what 'r["bulk"]["jain"] > 0.9 and r["progressed"] == 15'
lab_check "load_light_circuits_lose_nothing_beside_a_flood" what 'r["interactive"]["loss"] < 0.01'
lab_check "load_the_limit_holds" what '10 * 1e6 / 8 > r["bulk"]["mbit_s"] * 1e6 / 8 * 1452 / 1200'
lab_check "load_the_flood_is_dropped_at_the_guard" test "$(mesh_node_get alder counters.cells_dropped_queue)" -gt 1000
lab_check "load_the_relays_live" mesh_alive
[ "$LAB_FAILED" = 0 ]
